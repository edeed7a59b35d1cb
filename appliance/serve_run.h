/* serve_run.h - an evaluation run as a job: it stands back for everything else, and goes on where it was. */
#ifndef PHAROS_SERVE_RUN_H
#define PHAROS_SERVE_RUN_H

#include "appliance/eval.h"
#include "appliance/jobs.h"

#include <pthread.h>

/* How far the run is, for others to look at; one for each server. */
typedef struct run_now {
    pthread_mutex_t lock;
    job *job;    /* held while it is queued or runs; NULL = none */
    int64_t run; /* 0 = it has no number yet; stays when it has ended */
    size_t cells, all;
    int64_t tokens, all_tokens; /* of the haystack at hand */
    char what[96];              /* which one */
    double started;             /* when its first cell of this turn was begun; seconds, monotonic */
    size_t first;               /* cells done by then */
    char failed[480];           /* why the last one ended, or "" */
} run_now;

typedef struct evaluation {
    eval_params params; /* owned */
    int64_t resume;     /* the run to go on with; 0 = a new one */
    bool dense;         /* what the engine is to be switched back to */
    char command[200];  /* for the record */
    run_now *now;
} evaluation;

void evaluation_free(void *x);
extern const job_class evaluation_class; /* user is an evaluation */

json_t *run_now_json(run_now *r); /* null when there was none yet */
/* Stops the run `id`, 0 = whichever it is, queued or running; false: it is not under way. */
bool run_now_stop(run_now *r, int64_t id);

#endif
