/* serve_read.h - packing what has come and reading what has not been read, when nobody asks. */
#ifndef PHAROS_SERVE_READ_H
#define PHAROS_SERVE_READ_H

#include "appliance/jobs.h"

#include <jansson.h>
#include <pthread.h>

/* How far reading is, for others to look at. */
typedef struct reading_now {
    pthread_mutex_t lock;
    int64_t pack; /* 0 = nothing is being read */
    int64_t done, total, cached;
    double started; /* seconds, monotonic */
    int64_t first;
    uint64_t tokens_read; /* since the start of the server */
    double seconds;       /* that they took, where it was told */
    char failed[480];     /* why a pack could not be read when it was last tried, or "" */
} reading_now;

void reading_begin(reading_now *r, int64_t pack);
void reading_at(reading_now *r, int64_t done, int64_t total, int64_t cached);
void reading_end(reading_now *r);
double reading_rate(reading_now *r); /* tokens a second since the start; 0 = nothing was read */
json_t *reading_json(reading_now *r); /* null when nothing is being read */
json_t *reading_failed_json(reading_now *r); /* null where nothing failed */

/* jobs_options.read; user is a reading_now. */
int serve_read(void *user, job *j, store *s, engine *e, ph_error *err);

#endif
