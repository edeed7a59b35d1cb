/* serve_run.c - see serve_run.h. */
#include "appliance/serve_run.h"

#include "appliance/command.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

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
    pthread_mutex_lock(&now->lock);
    if (r->run) now->run = r->run;
    if (!now->started) {
        now->started = seconds_now();
        now->first = cells;
    }
    snprintf(now->what, sizeof now->what, "%s", what);
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
    pthread_mutex_lock(&x->now->lock);
    x->now->started = 0;
    pthread_mutex_unlock(&x->now->lock);
    int code = PH_OK;
    if (x->params.kind != EVAL_COMPARE && x->params.dense && !engine_has_dense(e))
        code = ph_fail(err, PH_UNSUPPORTED, "there is no dense attention over latents in FP8");
    if (!code && x->params.kind != EVAL_COMPARE) engine_set_dense(e, x->params.dense);
    if (!code) code = eval_run(s, e, &x->params, x->resume, &o, err);
    /* Who asks next gets the engine as it was. */
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

/* From what the cells of this turn took, which come from the shortest length to the longest: too little. */
static json_t *seconds_left(const run_now *r) {
    if (!r->job || !r->started || r->cells <= r->first || r->all <= r->cells) return json_null();
    double each = (seconds_now() - r->started) / (double)(r->cells - r->first);
    return json_real(each * (double)(r->all - r->cells));
}

json_t *run_now_json(run_now *r) {
    pthread_mutex_lock(&r->lock);
    json_t *out = json_null();
    if (r->job || r->run || r->failed[0])
        out = json_pack("{s:b, s:o, s:I, s:I, s:I, s:I, s:o, s:o, s:o}", "active", r->job != NULL, "id",
                        r->run ? json_integer((json_int_t)r->run) : json_null(), "cells",
                        (json_int_t)r->cells, "all", (json_int_t)r->all, "tokens", (json_int_t)r->tokens,
                        "all_tokens", (json_int_t)r->all_tokens, "message", json_text(r->failed), "what",
                        json_text(r->what), "seconds_left", seconds_left(r));
    pthread_mutex_unlock(&r->lock);
    return out;
}

bool run_now_stop(run_now *r, int64_t id) {
    pthread_mutex_lock(&r->lock);
    job *j = r->job && (!id || r->run == id) ? r->job : NULL;
    if (j) job_hold(j);
    pthread_mutex_unlock(&r->lock);
    if (!j) return false;
    job_cancel(j);
    job_drop(j);
    return true;
}
