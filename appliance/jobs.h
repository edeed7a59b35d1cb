/* jobs.h - one thread that has the engine, and the queue before it.
 *
 * Erasing comes first, then questions in turn among clients, then reading what has not been read, then an
 * evaluation run. A running job is told to stop through job_stops(), which it calls between steps: because
 * its client has left, because the server ends, or because something that goes first is waiting (then it is
 * run again later; what it has read is kept by the snapshot).
 */
#ifndef PHAROS_JOBS_H
#define PHAROS_JOBS_H

#include "engine/engine.h"
#include "store/store.h"

#include <stdatomic.h>
#include <stdbool.h>

typedef struct jobs jobs;
typedef struct job job;

typedef enum job_kind {
    JOB_ERASE,
    JOB_ASK,
    JOB_RUN
} job_kind; /* JOB_RUN: one at a time, when nothing else is to do */
typedef enum jobs_state { JOBS_LOADING, JOBS_READY, JOBS_FAILED } jobs_state;

typedef struct job_class {
    job_kind kind;
    bool needs_engine;
    /* On the worker's thread. PH_INTERRUPTED after job_stops() was true. */
    int (*run)(job *j, void *user, store *s, engine *e, ph_error *err);
    /* It will never run again: done (PH_OK), failed, or was never started. Called once, on any thread. */
    void (*finished)(job *j, void *user, const ph_error *err);
    void (*placed)(job *j, void *user,
                   int place);   /* jobs before it; 0 = it runs. May be NULL; must not block */
    void (*destroy)(void *user); /* nobody has the job any more */
} job_class;

typedef struct jobs_options {
    const char *data_dir;
    int (*open_engine)(void *user, engine **out, ph_error *err);
    void *open_user;
    /* Reads packs while job_stops(j) is false. PH_OK = nothing is left to read. */
    int (*read)(void *user, job *j, store *s, engine *e, ph_error *err);
    void *read_user;
    int capacity, per_client; /* questions waiting: in all, of one client */
} jobs_options;

int jobs_start(jobs **out, const jobs_options *o, ph_error *err);
/* Ends what runs at its next step and what waits at once; joins the thread. */
void jobs_stop(jobs *q);
void jobs_free(jobs *q); /* after jobs_stop, when nobody holds a job of it; NULL is fine */

jobs_state jobs_engine(jobs *q, char *why, size_t n); /* why: filled when it has failed */
/* The engine, for what may be called from any thread (its configuration, key and tokenizer); NULL while it
 * loads. Good until jobs_stop. */
engine *jobs_engine_borrow(jobs *q);

typedef enum jobs_answer {
    JOBS_TAKEN,
    JOBS_FULL,
    JOBS_CLIENT_FULL,
    JOBS_STOPPING,
    JOBS_NO_MEMORY
} jobs_answer;

/* The caller holds the job (job_drop) whatever the answer; NULL only with JOBS_NO_MEMORY, and then `user` is
 * the caller's still. */
jobs_answer jobs_submit(jobs *q, const job_class *class, void *user, const char *client, job **out);
void job_hold(job *j); /* once more */
void job_drop(job *j);
/* Its client has left: it ends at its next step, or at once when it has not begun. */
void job_cancel(job *j);

/* For a running job, between steps. `may_wait`: it can be run again later without harm, so it stops for
 * whatever goes first. */
bool job_stops(job *j, bool may_wait);

/* Documents have come or gone: read when there is time. */
void jobs_want_read(jobs *q);

typedef struct jobs_figures {
    int waiting, capacity;
    const char *busy; /* "ask", "read", "erase", "run", or NULL */
    uint64_t asked, refused, cancelled, failed;
    double busy_seconds;
} jobs_figures;
void jobs_look(jobs *q, jobs_figures *out);

#endif
