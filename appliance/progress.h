/* progress.h - one line on stderr that says how far a long step is: percent, rate, time left. Only on a
 * terminal. */
#ifndef PHAROS_PROGRESS_H
#define PHAROS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct progress {
    bool on;
    double started, shown;
    int64_t first; /* what was done when it started: cached tokens do not count for the rate */
    bool drawn;
} progress;

/* off where `quiet` or stderr is no terminal. */
void progress_start(progress *p, bool quiet);

/* "what   43%  3201 tok/s  12 s left", at most ten times a second. unit: "tok", "pages"; total 0 = unknown.
 */
void progress_show(progress *p, const char *what, int64_t done, int64_t total, const char *unit);

/* Clears the line. */
void progress_end(progress *p);

#endif
