/* api_runs.c - evaluation runs, as the command line made them. */
#include "appliance/api.h"

#include "appliance/command.h"

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
