/* serve_run.c - see serve_run.h. */
#include "appliance/serve_run.h"

#include "appliance/command.h"

#include <stdlib.h>
#include <string.h>

void evaluation_free(void *user) {
    evaluation *x = user;
    if (!x) return;
    eval_params_free(&x->params);
    free(x);
}

typedef struct running {
    evaluation *evaluation;
    job *job;
    int64_t run;
} running;

static int progressed(void *user, const char *what, size_t cells, size_t all, int64_t tokens,
                      int64_t all_tokens) {
    running *r = user;
    run_now *now = r->evaluation->now;
    (void)what;
    pthread_mutex_lock(&now->lock);
    if (r->run) now->run = r->run;
    now->cells = cells;
    now->all = all;
    now->tokens = tokens;
    now->all_tokens = all_tokens;
    pthread_mutex_unlock(&now->lock);
    return job_stops(r->job, true);
}

static int run(job *j, void *user, store *s, engine *e, ph_error *err) {
    evaluation *x = user;
    running r = {.evaluation = x, .job = j, .run = x->resume};
    eval_options o = {.command = x->command, .progress = progressed, .user = &r, .run = &r.run};
    int topk = engine_topk(e);
    int code = eval_run(s, e, &x->params, x->resume, &o, err);
    /* A comparison switches the engine; who asks next gets it as it was. */
    engine_set_dense(e, x->dense);
    if (engine_topk(e) != topk) {
        int back = engine_set_topk(e, topk, code ? NULL : err);
        if (!code) code = back;
    }
    if (r.run) x->resume = r.run; /* stopped for another, it goes on with the cells that are missing */
    return code;
}

static void finished(job *j, void *user, const ph_error *err) {
    evaluation *x = user;
    run_now *now = x->now;
    pthread_mutex_lock(&now->lock);
    memcpy(now->failed, err->text, sizeof now->failed);
    bool held = now->job == j;
    if (held) now->job = NULL;
    pthread_mutex_unlock(&now->lock);
    if (held) job_drop(j);
}

const job_class evaluation_class = {
    .kind = JOB_RUN, .needs_engine = true, .run = run, .finished = finished, .destroy = evaluation_free};

json_t *run_now_json(run_now *r) {
    pthread_mutex_lock(&r->lock);
    json_t *out = json_null();
    if (r->job || r->failed[0])
        out = json_pack("{s:b, s:o, s:I, s:I, s:I, s:I, s:o}", "active", r->job != NULL, "id",
                        r->run ? json_integer((json_int_t)r->run) : json_null(), "cells",
                        (json_int_t)r->cells, "all", (json_int_t)r->all, "tokens", (json_int_t)r->tokens,
                        "all_tokens", (json_int_t)r->all_tokens, "message", json_text(r->failed));
    pthread_mutex_unlock(&r->lock);
    return out;
}

bool run_now_stop(run_now *r, int64_t id) {
    pthread_mutex_lock(&r->lock);
    job *j = r->job && r->run == id ? r->job : NULL;
    if (j) job_hold(j);
    pthread_mutex_unlock(&r->lock);
    if (!j) return false;
    job_cancel(j);
    job_drop(j);
    return true;
}
