/* progress.c - draws the line of progress.h. */
#include "appliance/progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void progress_start(progress *p, bool quiet) {
    memset(p, 0, sizeof *p);
    p->on = !quiet && isatty(STDERR_FILENO);
    p->first = -1;
}

static int width(void) {
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : 80;
}

void progress_show(progress *p, const char *what, int64_t done, int64_t total, const char *unit) {
    if (!p->on) return;
    double t = now();
    if (p->first < 0) {
        p->first = done;
        p->started = t;
    }
    if (p->drawn && t - p->shown < 0.1 && done != total) return;
    p->shown = t;
    p->drawn = true;
    double rate = t > p->started ? (double)(done - p->first) / (t - p->started) : 0;
    char tail[96];
    if (total <= 0)
        snprintf(tail, sizeof tail, "  %lld %s", (long long)done, unit);
    else if (rate > 0 && done < total)
        snprintf(tail, sizeof tail, "  %3d%%  %.0f %s/s  %.0f s left", (int)(100 * done / total), rate, unit,
                 (double)(total - done) / rate);
    else
        snprintf(tail, sizeof tail, "  %3d%%", (int)(100 * done / total));
    int room = width() - 1 - (int)strlen(tail), name = (int)strlen(what);
    if (room < 0) room = 0;
    if (name > room) {
        name = room;
        while (name > 0 && ((unsigned char)what[name] & 0xC0) == 0x80) name--;
    }
    fprintf(stderr, "\r%.*s%.*s\033[K", name, what, width() - 1, tail);
    fflush(stderr);
}

void progress_end(progress *p) {
    if (p->drawn) fprintf(stderr, "\r\033[K");
    p->drawn = false;
    p->first = -1;
}
