/* api_runs.c - evaluation runs looked at: the list, one with its figures, its report as a file, two side by
 * side. api_runs_start.c starts them. */
#include "appliance/api.h"

#include "appliance/command.h"
#include "appliance/eval_published.h"

#include <stdlib.h>
#include <string.h>

enum { LISTED = 1000, MOST_CELLS = 5000 };

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

/* Scores of others that a run stands beside, and how they were measured. */
static json_t *published_json(const json_t *params) {
    const char *name = json_string_value(json_object_get(params, "over"));
    int over = name ? eval_kind_find(name) : -1;
    json_t *out = json_array();
    const eval_published *p;
    for (int i = 0; over >= 0 && (p = eval_published_at((eval_kind)over, i)) != NULL; i++) {
        json_t *columns = json_array(), *rows = json_array();
        int n = 0;
        while (n < 8 && p->columns[n]) json_array_append_new(columns, json_string(p->columns[n++]));
        for (int k = 0; k < p->n_rows; k++) {
            json_t *values = json_array();
            for (int v = 0; v < n; v++)
                json_array_append_new(values, json_string(p->rows[k].values[v] ? p->rows[k].values[v] : ""));
            json_array_append_new(rows, json_pack("{s:s, s:o}", "name", p->rows[k].name, "values", values));
        }
        json_array_append_new(out, json_pack("{s:s, s:s, s:o, s:o}", "title", p->title, "source", p->source,
                                             "columns", columns, "rows", rows));
    }
    return out;
}

static json_t *protocol_json(const json_t *params) {
    json_t *out = json_array();
    const char *note;
    for (int i = 0; (note = eval_protocol_note(params, i)) != NULL; i++)
        json_array_append_new(out, json_string(note));
    return out;
}

static int get(api_call *c, store *s, ph_error *err) {
    eval_report r;
    int code = eval_report_load(&r, s, c->id, err);
    if (code) return code;
    json_t *out = run_json(&r.run), *rows = json_array();
    size_t n = json_array_size(r.cells);
    for (size_t i = 0; i < n && i < MOST_CELLS; i++) {
        json_t *cell = json_array_get(r.cells, i);
        json_t *timing = json_incref(json_object_get(cell, "timing")),
               *number = json_incref(json_object_get(cell, "cell"));
        json_object_del(cell, "timing");
        json_object_del(cell, "cell");
        json_array_append_new(rows, json_pack("{s:o, s:O, s:o}", "number", number, "result", cell, "timing",
                                              timing ? timing : json_null()));
    }
    json_object_set_new(out, "results", rows);
    json_object_set_new(out, "more", json_boolean(n > MOST_CELLS));
    json_object_set(out, "summary", r.summary);
    json_object_set_new(out, "published", published_json(r.params));
    json_object_set_new(out, "protocol", protocol_json(r.params));
    http_reply_json(c->http, 200, out);
    eval_report_free(&r);
    return PH_OK;
}

void api_runs_get(api_call *c) {
    api_with_store(c, get);
}

/* ---- as a file ---- */

typedef struct report_format {
    const char *name, *type, *csp;
} report_format;

/* The page is made to be kept and opened from a disk; shown from here it may not do more than be looked at.
 */
static const report_format formats[] = {
    {"html", "text/html; charset=utf-8",
     "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'"},
    {"csv", "text/csv; charset=utf-8", NULL},
    {"json", "application/json", NULL}};

static int write_report(const eval_report *r, const char *format, FILE *f, ph_error *err) {
    if (!strcmp(format, "csv")) return eval_report_csv(r, f, err);
    if (!strcmp(format, "html")) return eval_report_html(r, f, err);
    json_t *j = eval_report_json(r);
    int failed = !j || json_dumpf(j, f, JSON_INDENT(2));
    json_decref(j);
    return failed ? ph_fail(err, PH_MEMORY, "no memory for a report") : PH_OK;
}

static int report(api_call *c, store *s, ph_error *err) {
    char name[8], file[96];
    size_t len = 0, n = 0;
    int got = http_parameter(c->http, "format", name, sizeof name, &len);
    const report_format *format = NULL;
    if (got < 0) return PH_OK;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (got && !strcmp(formats[i].name, name)) format = &formats[i];
    if (!format) {
        http_reply_error(c->http, 400, NULL, "?format=... is html, csv or json");
        return PH_OK;
    }
    eval_report r;
    int code = eval_report_load(&r, s, c->id, err);
    if (code) return code;
    char *text = NULL;
    FILE *f = open_memstream(&text, &n);
    code = f ? write_report(&r, format->name, f, err) : ph_fail(err, PH_MEMORY, "no memory for a report");
    if (f) fclose(f);
    eval_report_free(&r);
    struct MHD_Response *m = code ? NULL : MHD_create_response_from_buffer(n, text, MHD_RESPMEM_MUST_FREE);
    if (!m) {
        free(text);
        return code ? code : ph_fail(err, PH_MEMORY, "no memory for a report");
    }
    snprintf(file, sizeof file, "attachment; filename=\"pharos-run-%lld.%s\"", (long long)c->id,
             format->name);
    MHD_add_response_header(m, "Content-Type", format->type);
    MHD_add_response_header(m, "Content-Disposition", file);
    http_reply_response(c->http, 200, m, format->csp);
    return PH_OK;
}

void api_runs_report(api_call *c) {
    api_with_store(c, report);
}

static int diff(api_call *c, store *s, ph_error *err) {
    eval_report a = {0}, b = {0};
    int code = eval_report_load(&a, s, c->id, err);
    if (!code) code = eval_report_load(&b, s, c->other, err);
    if (!code) http_reply_json(c->http, 200, eval_diff(&a, &b));
    eval_report_free(&a);
    eval_report_free(&b);
    return code;
}

void api_runs_diff(api_call *c) {
    api_with_store(c, diff);
}

static int erase(api_call *c, store *s, ph_error *err) {
    int code = store_run_delete(s, c->id, err);
    if (!code) http_reply_json(c->http, 200, json_pack("{s:i}", "runs", 1));
    return code;
}

void api_runs_delete(api_call *c) {
    api_with_store(c, erase);
}
