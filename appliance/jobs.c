/* jobs.c - the worker and its queue (jobs.h). */
#include "appliance/jobs.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CLIENTS = 256, CLIENT_BYTES = 80 };

/* When a client was served last, for taking turns. */
typedef struct turn {
    char client[CLIENT_BYTES];
    uint64_t served;
} turn;

struct job {
    const job_class *class; /* NULL: the reading of packs */
    void *user;
    jobs *queue;
    job *next;
    char client[CLIENT_BYTES];
    atomic_int holders;
    atomic_bool cancelled;
    bool yielded, counted;
    int place; /* jobs before it as it was last told; -1 = never */
};

struct jobs {
    jobs_options options;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* of everything below */
    pthread_cond_t work;
    engine *engine;
    jobs_state state;
    char why[480];
    atomic_bool stopping;
    job *waiting, **last; /* in order of arrival */
    job *running;
    bool reading;
    atomic_bool read_wanted;
    atomic_int before; /* erasing jobs that wait: read between steps without the lock */
    atomic_int asking;
    turn turns[CLIENTS];
    uint64_t now; /* counts turns */
    jobs_figures figures;
};

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- turns ---- */

static turn *turn_of(turn *turns, const char *client) {
    turn *oldest = turns;
    for (int i = 0; i < CLIENTS; i++) {
        if (!strcmp(turns[i].client, client)) return &turns[i];
        if (turns[i].served < oldest->served) oldest = &turns[i];
    }
    *oldest = (turn){0};
    strcpy(oldest->client, client);
    return oldest;
}

/* Erasing first; then of each client its oldest question, the client that was served longest ago first; then
 * a run. Those counted already are passed over. */
static job *next_of(job *list, turn *turns) {
    job *best = NULL, *run = NULL;
    uint64_t best_served = 0;
    for (job *j = list; j; j = j->next) {
        if (j->counted) continue;
        if (j->class->kind == JOB_ERASE) return j;
        if (j->class->kind == JOB_RUN) {
            if (!run) run = j;
            continue;
        }
        uint64_t served = turn_of(turns, j->client)->served;
        if (!best || served < best_served) {
            best = j;
            best_served = served;
        }
    }
    return best ? best : run;
}

/* Plays the queue through and tells each job how many go before it. Locked. */
static void tell_places(jobs *q) {
    turn *turns = malloc(sizeof q->turns);
    if (!turns) return; /* places are for display */
    memcpy(turns, q->turns, sizeof q->turns);
    uint64_t now = q->now;
    for (job *j = q->waiting; j; j = j->next) j->counted = false;
    /* One that waits has at least the one before it in the engine, or is taken within the moment. */
    int place = 1;
    for (job *j; (j = next_of(q->waiting, turns)); place++) {
        turn_of(turns, j->client)->served = ++now;
        j->counted = true;
        if (j->place != place && j->class->placed) j->class->placed(j, j->user, place);
        j->place = place;
    }
    free(turns);
}

/* ---- the list ---- */

static void append(jobs *q, job *j) {
    j->next = NULL;
    *q->last = j;
    q->last = &j->next;
}

static void prepend(jobs *q, job *j) {
    j->next = q->waiting;
    if (!q->waiting) q->last = &j->next;
    q->waiting = j;
}

static bool unlink_job(jobs *q, job *j) {
    for (job **at = &q->waiting; *at; at = &(*at)->next) {
        if (*at != j) continue;
        *at = j->next;
        if (q->last == &j->next) q->last = at;
        j->next = NULL;
        return true;
    }
    return false;
}

static void count(jobs *q) {
    int asks = 0, erases = 0;
    for (job *j = q->waiting; j; j = j->next) {
        asks += j->class->kind == JOB_ASK;
        erases += j->class->kind == JOB_ERASE;
    }
    q->before = erases;
    q->asking = asks;
}

void job_hold(job *j) {
    atomic_fetch_add(&j->holders, 1);
}

void job_drop(job *j) {
    if (!j || atomic_fetch_sub(&j->holders, 1) != 1) return;
    if (j->class->destroy) j->class->destroy(j->user);
    free(j);
}

static void finish(job *j, const ph_error *err) {
    if (j->class->finished) j->class->finished(j, j->user, err);
    job_drop(j);
}

/* ---- the worker ---- */

static void load(jobs *q, store **s) {
    ph_error err = {0};
    engine *e = NULL;
    int code = store_open(s, q->options.data_dir, &err);
    if (!code) code = q->options.open_engine(q->options.open_user, &e, &err);
    pthread_mutex_lock(&q->lock);
    q->engine = e;
    q->state = code ? JOBS_FAILED : JOBS_READY;
    if (code) memcpy(q->why, err.text, sizeof q->why);
    pthread_mutex_unlock(&q->lock);
}

/* What an engine that did not load leaves possible: erasing, where the store opened. */
static int run_job(jobs *q, job *j, store *s, ph_error *err) {
    if (!s || (j->class->needs_engine && !q->engine))
        return ph_fail(err, PH_MODEL, "%s", q->why[0] ? q->why : "the model could not be loaded");
    return j->class->run(j, j->user, s, q->engine, err);
}

static void work_on(jobs *q, job *j, store *s) {
    ph_error err = {0};
    int code = run_job(q, j, s, &err);
    pthread_mutex_lock(&q->lock);
    q->running = NULL;
    /* Stopped for another: its turn comes again, as the first of its client. */
    bool again = code == PH_INTERRUPTED && j->yielded && !j->cancelled && !q->stopping;
    j->yielded = false;
    if (again) {
        prepend(q, j);
        count(q);
    } else if (code == PH_INTERRUPTED && j->cancelled)
        q->figures.cancelled++;
    else if (code)
        q->figures.failed++;
    tell_places(q);
    pthread_mutex_unlock(&q->lock);
    if (!again) finish(j, &err);
}

static void read_on(jobs *q, store *s) {
    job reading = {.queue = q};
    ph_error err = {0};
    int code = PH_OK;
    pthread_mutex_lock(&q->lock);
    q->running = &reading;
    q->reading = true;
    q->read_wanted = false;
    pthread_mutex_unlock(&q->lock);
    if (s && q->engine && q->options.read)
        code = q->options.read(q->options.read_user, &reading, s, q->engine, &err);
    pthread_mutex_lock(&q->lock);
    q->running = NULL;
    q->reading = false;
    if (code == PH_INTERRUPTED && reading.yielded) q->read_wanted = true;
    pthread_mutex_unlock(&q->lock);
}

static void *work(void *user) {
    jobs *q = user;
    store *s = NULL;
    load(q, &s);
    pthread_mutex_lock(&q->lock);
    while (!q->stopping) {
        job *j = NULL;
        for (job *k = q->waiting; k; k = k->next) k->counted = false;
        j = next_of(q->waiting, q->turns);
        if (j && j->class->kind == JOB_RUN && q->read_wanted) j = NULL; /* reading goes before it */
        double began = seconds_now();
        if (j) {
            unlink_job(q, j);
            count(q);
            turn_of(q->turns, j->client)->served = ++q->now;
            q->running = j;
            tell_places(q);
            j->place = 0;
            if (j->class->placed) j->class->placed(j, j->user, 0);
            pthread_mutex_unlock(&q->lock);
            work_on(q, j, s);
            pthread_mutex_lock(&q->lock);
        } else if (q->read_wanted) {
            pthread_mutex_unlock(&q->lock);
            read_on(q, s);
            pthread_mutex_lock(&q->lock);
        } else {
            pthread_cond_wait(&q->work, &q->lock);
            continue;
        }
        q->figures.busy_seconds += seconds_now() - began;
    }
    pthread_mutex_unlock(&q->lock);
    store_close(s);
    return NULL;
}

int jobs_start(jobs **out, const jobs_options *o, ph_error *err) {
    *out = NULL;
    jobs *q = calloc(1, sizeof *q);
    if (!q) return ph_fail(err, PH_MEMORY, "no memory for a queue");
    q->options = *o;
    q->last = &q->waiting;
    q->figures.capacity = o->capacity;
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->work, NULL);
    /* The forward pass has its own threads; this one needs a usual stack. */
    if (pthread_create(&q->thread, NULL, work, q)) {
        jobs_free(q);
        return ph_fail(err, PH_FAIL, "cannot start a thread");
    }
    q->started = true;
    *out = q;
    return PH_OK;
}

void jobs_stop(jobs *q) {
    pthread_mutex_lock(&q->lock);
    q->stopping = true;
    job *list = q->waiting;
    q->waiting = NULL;
    q->last = &q->waiting;
    count(q);
    pthread_cond_broadcast(&q->work);
    pthread_mutex_unlock(&q->lock);
    ph_error err = {0};
    ph_fail(&err, PH_INTERRUPTED, "the server is stopping");
    for (job *j = list, *next; j; j = next) {
        next = j->next;
        finish(j, &err);
    }
    if (q->started) pthread_join(q->thread, NULL);
    q->started = false;
}

void jobs_free(jobs *q) {
    if (!q) return;
    engine_close(q->engine);
    pthread_cond_destroy(&q->work);
    pthread_mutex_destroy(&q->lock);
    free(q);
}

/* ---- what others call ---- */

jobs_state jobs_engine(jobs *q, char *why, size_t n) {
    pthread_mutex_lock(&q->lock);
    jobs_state state = q->state;
    if (why && n) {
        size_t len = strnlen(q->why, n - 1);
        memcpy(why, q->why, len);
        why[len] = 0;
    }
    pthread_mutex_unlock(&q->lock);
    return state;
}

engine *jobs_engine_borrow(jobs *q) {
    pthread_mutex_lock(&q->lock);
    engine *e = q->engine;
    pthread_mutex_unlock(&q->lock);
    return e;
}

static jobs_answer admit(jobs *q, const job *j) {
    if (q->stopping) return JOBS_STOPPING;
    if (j->class->kind == JOB_ERASE) return JOBS_TAKEN;
    if (j->class->kind == JOB_RUN) {
        bool there = q->running && q->running->class && q->running->class->kind == JOB_RUN;
        for (job *k = q->waiting; k; k = k->next) there |= k->class->kind == JOB_RUN;
        return there ? JOBS_CLIENT_FULL : JOBS_TAKEN;
    }
    int same = 0;
    for (job *k = q->waiting; k; k = k->next)
        same += k->class->kind == JOB_ASK && !strcmp(k->client, j->client);
    if (same >= q->options.per_client) return JOBS_CLIENT_FULL;
    return q->asking >= q->options.capacity ? JOBS_FULL : JOBS_TAKEN;
}

jobs_answer jobs_submit(jobs *q, const job_class *class, void *user, const char *client, job **out) {
    job *j = *out = calloc(1, sizeof *j);
    if (!j) return JOBS_NO_MEMORY;
    j->class = class;
    j->user = user;
    j->queue = q;
    j->holders = 1;
    j->place = -1;
    strncpy(j->client, client, sizeof j->client - 1);
    pthread_mutex_lock(&q->lock);
    jobs_answer answer = admit(q, j);
    if (answer == JOBS_TAKEN) {
        j->holders = 2;
        append(q, j);
        count(q);
        q->figures.asked += class->kind == JOB_ASK;
        tell_places(q);
        pthread_cond_signal(&q->work);
    } else
        q->figures.refused++;
    pthread_mutex_unlock(&q->lock);
    return answer;
}

void job_cancel(job *j) {
    jobs *q = j->queue;
    j->cancelled = true;
    pthread_mutex_lock(&q->lock);
    bool waited = unlink_job(q, j);
    if (waited) {
        count(q);
        q->figures.cancelled++;
        tell_places(q);
    }
    pthread_mutex_unlock(&q->lock);
    if (!waited) return;
    ph_error err = {0};
    ph_fail(&err, PH_INTERRUPTED, "stopped before it began");
    finish(j, &err);
}

bool job_stops(job *j, bool may_wait) {
    jobs *q = j->queue;
    if (j->cancelled || q->stopping) return true;
    bool last = !j->class || j->class->kind == JOB_RUN;
    if (may_wait && (q->before || (last && q->asking) || (j->class && last && q->read_wanted)))
        j->yielded = true;
    return j->yielded;
}

void jobs_want_read(jobs *q) {
    pthread_mutex_lock(&q->lock);
    q->read_wanted = true;
    pthread_cond_signal(&q->work);
    pthread_mutex_unlock(&q->lock);
}

void jobs_look(jobs *q, jobs_figures *out) {
    pthread_mutex_lock(&q->lock);
    *out = q->figures;
    out->waiting = q->asking + q->before;
    out->busy = !q->running                            ? NULL
                : q->reading                           ? "read"
                : q->running->class->kind == JOB_ERASE ? "erase"
                : q->running->class->kind == JOB_RUN   ? "run"
                                                       : "ask";
    pthread_mutex_unlock(&q->lock);
}
