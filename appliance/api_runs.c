/* api_runs.c - evaluation runs: needles and comparisons can be started here, the other kinds need files and
 * belong to the command line. */
#include "appliance/api.h"

#include "appliance/command.h"

#include <stdlib.h>
#include <string.h>

enum { LISTED = 1000 };

/* What the store keeps as JSON text; null where it is none. */
static json_t *parsed(const char *text) {
    json_t *v = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
    return v ? v : json_null();
}

static json_t *run_json(const store_run *r) {
    static const char *const states[] = {"unfinished", "done", "failed"};
    return json_pack("{s:I, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:s, s:o}", "id", (json_int_t)r->id,
                     "kind", json_text(r->kind), "command", json_text(r->command), "parameters",
                     parsed(r->parameters), "model", json_text(r->model), "seed", (json_int_t)r->seed,
                     "started_at", (json_int_t)r->started_at, "updated_at", (json_int_t)r->updated_at,
                     "cells", (json_int_t)r->cells, "done", (json_int_t)r->done, "state", states[r->state],
                     "note", json_text(r->note));
}

static int list(api_call *c, store *s, ph_error *err) {
    store_run *rows = NULL;
    size_t n = 0;
    int code = store_run_list(s, LISTED, &rows, &n, err);
    if (code) return code;
    json_t *out = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(out, run_json(&rows[i]));
    store_runs_free(rows, n);
    http_reply_json(c->http, 200, json_pack("{s:o}", "runs", out));
    return PH_OK;
}

void api_runs_list(api_call *c) {
    api_with_store(c, list);
}

static int get(api_call *c, store *s, ph_error *err) {
    store_run r = {0};
    store_cell *cells = NULL;
    size_t n = 0;
    int code = store_run_get(s, c->id, &r, err);
    if (!code) code = store_cell_list(s, c->id, &cells, &n, err);
    if (!code) {
        json_t *out = run_json(&r), *rows = json_array();
        for (size_t i = 0; i < n; i++)
            json_array_append_new(rows, json_pack("{s:I, s:o, s:o}", "number", (json_int_t)cells[i].number,
                                                  "result", parsed(cells[i].result), "timing",
                                                  parsed(cells[i].timing)));
        json_object_set_new(out, "results", rows);
        http_reply_json(c->http, 200, out);
    }
    store_cells_free(cells, n);
    store_run_free(&r);
    return code;
}

void api_runs_get(api_call *c) {
    api_with_store(c, get);
}

static int erase(api_call *c, store *s, ph_error *err) {
    int code = store_run_delete(s, c->id, err);
    if (!code) http_reply_json(c->http, 200, json_pack("{s:i}", "runs", 1));
    return code;
}

void api_runs_delete(api_call *c) {
    api_with_store(c, erase);
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

static bool take_lengths(api_call *c, eval_params *p, const json_t *body, int64_t most) {
    const json_t *list = json_object_get(body, "lengths");
    size_t n = json_array_size(list);
    bool good = n >= 1 && n <= EVAL_MAX_LENGTHS;
    for (size_t i = 0; good && i < n; i++) {
        p->lengths[i] = json_integer_value(json_array_get(list, i));
        good = p->lengths[i] >= 512 && p->lengths[i] <= most;
    }
    p->n_lengths = (int)n;
    if (!good)
        http_reply_error(c->http, 400, NULL,
                         "lengths is a list of 1 to %d numbers of tokens from 512 to %lld", EVAL_MAX_LENGTHS,
                         (long long)most);
    return good;
}

static bool take_ks(api_call *c, eval_params *p, const json_t *body, int most) {
    const json_t *list = json_object_get(body, "ks");
    size_t n = json_array_size(list);
    bool good = n <= EVAL_MAX_KS;
    for (size_t i = 0; good && i < n; i++) {
        json_int_t k = json_integer_value(json_array_get(list, i));
        good = k >= 1 && k <= most;
        p->ks[i] = (int)k;
    }
    p->n_ks = (int)n;
    if (!good)
        http_reply_error(c->http, 400, NULL, "ks is a list of at most %d numbers from 1 to %d", EVAL_MAX_KS,
                         most);
    return good;
}

/* Paths are not taken from here: a run reads stored documents, or text that it makes. */
static bool take_params(api_call *c, evaluation *x, const json_t *body, engine *e) {
    static const char *const members[] = {"kind", "lengths", "depths", "samples", "max_tokens",
                                          "seed", "ks",      "text",   NULL};
    const char *kind = json_string_value(json_object_get(body, "kind"));
    const char *text = json_string_value(json_object_get(body, "text"));
    eval_params *p = &x->params;
    int64_t depths = 11, samples = 1, max_tokens = 0, seed = 0;
    bool compare = kind && !strcmp(kind, "compare"), documents = text && !strcmp(text, "documents");
    if (!api_members(c, body, members)) return false;
    if (!compare && !(kind && !strcmp(kind, "needle"))) {
        http_reply_error(c->http, 400, NULL, "kind is needle or compare; the command line has the others");
        return false;
    }
    if (!documents && !(text && !strcmp(text, "generated"))) {
        http_reply_error(c->http, 400, NULL, "text is documents or generated");
        return false;
    }
    p->kind = compare ? EVAL_COMPARE : EVAL_NEEDLE;
    p->over = EVAL_NEEDLE;
    p->together = compare; /* one reading a row */
    p->documents = documents;
    p->generated = !documents;
    p->dense = c->serve->options.dense && !compare;
    bool good = take_lengths(c, p, body, engine_config(e)->max_positions) &&
                take_ks(c, p, body, engine_topk(e)) && api_integer(c, body, "depths", 1, 100, &depths) &&
                api_integer(c, body, "samples", 1, 100, &samples) &&
                api_integer(c, body, "max_tokens", 1, 1024, &max_tokens) &&
                api_integer(c, body, "seed", 0, INT64_MAX, &seed);
    p->depths = (int)depths;
    p->samples = (int)samples;
    p->max_tokens = (int)max_tokens;
    p->seed = (uint64_t)seed;
    return good;
}

void api_runs_start(api_call *c) {
    json_t *body = http_json_body(c->http, false);
    engine *e = body ? api_engine(c) : NULL;
    evaluation *x = e ? calloc(1, sizeof *x) : NULL;
    if (e && !x) http_reply_error(c->http, 503, "memory", "no memory for a run");
    bool good = x && take_params(c, x, body, e);
    json_decref(body);
    if (x) snprintf(x->command, sizeof x->command, "POST /api/v1/runs");
    if (good)
        submit(c, x);
    else
        evaluation_free(x);
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
        http_reply_error(c->http, 404, NULL, "run %lld is not under way", (long long)c->id);
}
