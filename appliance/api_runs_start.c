/* api_runs_start.c - starting evaluation runs: a file of questions in, how long it will take, start, go on,
 * stop. */
#include "appliance/api.h"

#include "appliance/eval_estimate.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { UNUSED_HOURS = 24, MOST_PLANNED = 100000 };

/* ---- a file of questions ---- */

static void receive(http_request *r, const void *bytes, size_t n) {
    api_call *c = r->user;
    upload_write(c->body, bytes, n);
}

static void abandon(void *up) {
    upload_abandon(up);
}

void api_runs_questions_begin(api_call *c) {
    char name[1100];
    size_t len = 0;
    const char *why = NULL;
    ph_error err = {0};
    upload *up = NULL;
    int got = http_parameter(c->http, "name", name, sizeof name, &len);
    if (got < 0) return;
    if (got == 0)
        http_reply_error(c->http, 400, NULL, "?name=... says what the file is called");
    else if (!guard_document_name(name, len, &why))
        http_reply_error(c->http, 400, NULL, "%s", why);
    else if (c->http->length > STORE_MAX_QUESTIONS)
        http_reply_error(c->http, 413, NULL, "%s has %llu bytes, and the limit for questions is %d", name,
                         (unsigned long long)c->http->length, STORE_MAX_QUESTIONS);
    else if (c->http->length == 0)
        http_reply_error(c->http, 400, NULL, "%s is empty", name);
    else if (upload_begin(&up, c->serve->uploads, name, c->http->length, "", &err))
        http_reply_failure(c->http, &err);
    else {
        c->body = up;
        c->free_body = abandon;
        c->http->sink = receive;
    }
}

/* How many questions, and the sources that passages name, to choose one. */
static json_t *questions_json(int64_t id, const char *name, const eval_rows *rows) {
    enum { MOST_SOURCES = 50 };
    size_t questions = 0;
    json_t *seen = json_object(), *sources = json_array();
    for (size_t i = 0; i < rows->n; i++) {
        const char *source = rows->list[i].source;
        questions += rows->list[i].n_qas;
        if (!*source || json_object_size(seen) >= MOST_SOURCES || json_object_get(seen, source)) continue;
        json_object_set_new(seen, source, json_true());
        json_array_append_new(sources, json_string(source));
    }
    json_decref(seen);
    return json_pack("{s:I, s:s, s:I, s:I, s:o}", "id", (json_int_t)id, "name", name, "passages",
                     (json_int_t)rows->n, "questions", (json_int_t)questions, "sources", sources);
}

static int keep_questions(api_call *c, store *s, ph_error *err) {
    char name[1100], *bytes = NULL;
    size_t n = 0, len = 0;
    int64_t id = 0, now = (int64_t)time(NULL) * 1000;
    eval_rows rows = {0};
    json_t *out = NULL;
    if (http_parameter(c->http, "name", name, sizeof name, &len) < 0) return PH_OK;
    int code = upload_whole(c->body, &bytes, &n, err);
    if (!code) code = eval_rows_parse(&rows, name, bytes, n, NULL, err);
    if (code == PH_CORRUPT || code == PH_NOT_FOUND || code == PH_UNSUPPORTED) {
        http_reply_error(c->http, 400, NULL, "%s", err->text);
        code = PH_OK;
    } else if (!code) {
        ph_error ignored;
        store_questions_forget(s, now - (int64_t)UNUSED_HOURS * 3600 * 1000, &ignored);
        code = store_questions_add(s, name, bytes, n, &id, err);
        if (!code) out = questions_json(id, name, &rows);
        if (!code) http_reply_json(c->http, 201, out);
    }
    eval_rows_free(&rows);
    free(bytes);
    return code;
}

void api_runs_questions(api_call *c) {
    api_with_store(c, keep_questions);
}

/* ---- starting ---- */

/* Steals x. */
static void submit(api_call *c, evaluation *x) {
    serve *v = c->serve;
    job *j = NULL;
    char client[80];
    int64_t id = x->resume;
    api_client(c, client);
    x->now = &v->run;
    x->dense = v->options.dense;
    pthread_mutex_lock(&v->run.lock); /* it may end before this thread comes to hold it */
    jobs_answer a = v->run.job ? JOBS_CLIENT_FULL : jobs_submit(v->jobs, &evaluation_class, x, client, &j);
    if (a == JOBS_TAKEN) {
        v->run.job = j;
        v->run.run = id;
        v->run.cells = v->run.all = 0;
        v->run.tokens = v->run.all_tokens = 0;
        v->run.what[0] = 0;
        v->run.started = 0;
        v->run.failed[0] = 0;
        j = NULL;
    }
    pthread_mutex_unlock(&v->run.lock);
    if (a == JOBS_TAKEN)
        http_reply_json(c->http, 202, json_pack("{s:b}", "queued", 1));
    else if (a == JOBS_CLIENT_FULL)
        http_reply_error(c->http, 409, NULL, "a run is under way: stop it first");
    else
        http_reply_error(c->http, 503, NULL, "the server is stopping, or out of memory");
    if (a == JOBS_TAKEN) return;
    if (j)
        job_drop(j);
    else
        evaluation_free(x);
}

/* What a person can put right is 400, whatever it would be elsewhere. */
static int as_request(int code, ph_error *err) {
    bool theirs =
        code == PH_TOO_LARGE || code == PH_UNSUPPORTED || code == PH_CORRUPT || code == PH_NOT_FOUND;
    if (theirs) err->code = PH_USAGE;
    return theirs ? PH_USAGE : code;
}

/* The parameters and what they come to. params is the caller's to free also on failure. */
static int plan(api_call *c, store *s, engine *e, const json_t *body, eval_params *p, eval_estimate *x,
                ph_error *err) {
    int code = eval_params_request(p, body, engine_config(e)->max_positions, engine_topk(e), err);
    if (code) return code;
    /* A server started dense, or on top of another model, stays what it is. */
    if (c->serve->options.dense && p->kind != EVAL_COMPARE) p->dense = true;
    if (!code) code = eval_estimate_make(x, p, s, e, reading_rate(&c->serve->reading), err);
    if (!code && x->cells > MOST_PLANNED)
        code = ph_fail(err, PH_USAGE,
                       "that makes %zu questions, and the most is %d: fewer lengths, depths or "
                       "samples",
                       x->cells, MOST_PLANNED);
    return as_request(code, err);
}

static int start(api_call *c, store *s, ph_error *err) {
    json_t *body = http_json_body(c->http, false);
    engine *e = body ? api_engine(c) : NULL;
    evaluation *x = e ? calloc(1, sizeof *x) : NULL;
    eval_estimate estimate;
    int code = PH_OK;
    if (e && !x) code = ph_fail(err, PH_MEMORY, "no memory for a run");
    if (x) code = plan(c, s, e, body, &x->params, &estimate, err);
    json_decref(body);
    if (x && !code) {
        snprintf(x->command, sizeof x->command, "POST /api/v1/runs");
        submit(c, x);
    } else
        evaluation_free(x);
    return code;
}

void api_runs_start(api_call *c) {
    api_with_store(c, start);
}

static int estimate(api_call *c, store *s, ph_error *err) {
    json_t *body = http_json_body(c->http, false);
    engine *e = body ? api_engine(c) : NULL;
    eval_params p = {0};
    eval_estimate x;
    int code = e ? plan(c, s, e, body, &p, &x, err) : PH_OK;
    if (e && !code)
        http_reply_json(c->http, 200,
                        json_pack("{s:I, s:I, s:I, s:o, s:o}", "cells", (json_int_t)x.cells, "haystacks",
                                  (json_int_t)x.haystacks, "tokens", (json_int_t)x.tokens, "rate",
                                  x.rate > 0 ? json_real(x.rate) : json_null(), "seconds",
                                  x.seconds > 0 ? json_real(x.seconds) : json_null()));
    json_decref(body);
    eval_params_free(&p);
    return code;
}

void api_runs_estimate(api_call *c) {
    api_with_store(c, estimate);
}

static int resume(api_call *c, store *s, ph_error *err) {
    store_run r = {0};
    evaluation *x = calloc(1, sizeof *x);
    int code = x ? store_run_get(s, c->id, &r, err) : ph_fail(err, PH_MEMORY, "no memory for a run");
    if (!code && r.done >= r.cells) code = ph_fail(err, PH_USAGE, "run %lld is complete", (long long)c->id);
    if (!code) code = eval_params_parse(&x->params, r.parameters, err);
    if (!code) {
        x->resume = c->id;
        snprintf(x->command, sizeof x->command, "%s", r.command);
        submit(c, x);
        x = NULL;
    }
    evaluation_free(x);
    store_run_free(&r);
    return code;
}

void api_runs_resume(api_call *c) {
    if (api_engine(c)) api_with_store(c, resume);
}

void api_runs_stop(api_call *c) {
    if (run_now_stop(&c->serve->run, c->id))
        http_reply_json(c->http, 202, json_pack("{s:b}", "stopping", 1));
    else
        http_reply_error(c->http, 404, NULL, "there is no such run under way");
}
