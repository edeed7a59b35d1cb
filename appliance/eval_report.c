/* eval_report.c - a run with its cells out of the store; as text, JSON and CSV; two runs side by side. */
#include "appliance/command.h"
#include "appliance/eval.h"

#include <errno.h>
#include <math.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

void eval_report_free(eval_report *r) {
    store_run_free(&r->run);
    json_decref(r->params);
    json_decref(r->cells);
    json_decref(r->summary);
    memset(r, 0, sizeof *r);
}

int eval_report_load(eval_report *r, store *s, int64_t run, ph_error *err) {
    memset(r, 0, sizeof *r);
    store_cell *cells = NULL;
    size_t n = 0;
    int code = store_run_get(s, run, &r->run, err);
    if (!code) code = store_cell_list(s, r->run.id, &cells, &n, err);
    if (!code) {
        r->params = json_loads(r->run.parameters, 0, NULL);
        r->cells = json_array();
        if (!r->params || !r->cells)
            code = ph_fail(err, PH_CORRUPT, "run %lld has no parameters", (long long)run);
    }
    for (size_t i = 0; i < n && !code; i++) {
        json_t *c = json_loads(cells[i].result, 0, NULL);
        if (!json_is_object(c)) {
            json_decref(c);
            code = ph_fail(err, PH_CORRUPT, "cell %lld of run %lld cannot be read",
                           (long long)cells[i].number, (long long)r->run.id);
            break;
        }
        json_object_set_new(c, "cell", json_integer(cells[i].number));
        json_object_set_new(c, "timing", json_loads(cells[i].timing, 0, NULL));
        json_array_append_new(r->cells, c);
    }
    store_cells_free(cells, n);
    if (!code && !(r->summary = eval_summarise(r->params, r->cells)))
        code = ph_fail(err, PH_MEMORY, "no memory for a report");
    if (code) eval_report_free(r);
    return code;
}

static const char *string(const json_t *j, const char *key) {
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "";
}

static const char *state_name(const store_run *r) {
    return r->state == RUN_DONE ? "done" : r->state == RUN_FAILED ? "failed" : "unfinished";
}

bool eval_report_digest(const eval_report *r, char hex[65]) {
    uint8_t hash[32];
    crypto_generichash_state state;
    bool whole = sodium_init() >= 0 && !crypto_generichash_init(&state, NULL, 0, sizeof hash);
    for (size_t i = 0; i < json_array_size(r->cells) && whole; i++) {
        json_t *c = json_copy(json_array_get(r->cells, i));
        if (c) json_object_del(c, "timing");
        char *text = c ? json_dumps(c, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
        whole = text && !crypto_generichash_update(&state, (const uint8_t *)text, strlen(text) + 1);
        free(text);
        json_decref(c);
    }
    if (whole) whole = !crypto_generichash_final(&state, hash, sizeof hash);
    if (whole) sodium_bin2hex(hex, 65, hash, sizeof hash);
    return whole;
}

json_t *eval_report_json(const eval_report *r) {
    char key[65], digest[65];
    if (!eval_report_digest(r, digest)) return NULL;
    sodium_bin2hex(key, sizeof key, r->run.key, sizeof r->run.key);
    return json_pack("{s:I, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:s, s:s, s:O, s:O, s:O}", "run",
                     (json_int_t)r->run.id, "kind", r->run.kind, "state", state_name(&r->run), "command",
                     r->run.command, "model", r->run.model, "key", key, "seed", (json_int_t)r->run.seed,
                     "cells", (json_int_t)r->run.cells, "done", (json_int_t)r->run.done, "started_at",
                     (json_int_t)r->run.started_at, "note", r->run.note, "digest", digest, "parameters",
                     r->params, "summary", r->summary, "results", r->cells);
}

/* ---- CSV ---- */

/* Quoted as RFC 4180 says; a formula's first character gets an apostrophe, for the program that opens the
 * file. */
static void csv_text(FILE *f, const char *s) {
    putc('"', f);
    if (strchr("=+-@", s[0]) && s[0]) putc('\'', f);
    for (; *s; s++) {
        if (*s == '"') putc('"', f);
        putc(*s, f);
    }
    putc('"', f);
}

int eval_report_csv(const eval_report *r, FILE *f, ph_error *err) {
    static const char *const texts[] = {"task", "variant", "question", "answer", "stop", "verdict", "detail"};
    static const char *const numbers[] = {
        "cell",  "length",   "sample", "depth", "prompt_tokens", "characters", "tokens",
        "score", "contains", "exact",  "f1",    "confidence",    "read_rank",  "bm25_rank"};
    enum { TEXTS = 7, NUMBERS = 14 };
    for (int i = 0; i < NUMBERS; i++) fprintf(f, "%s,", numbers[i]);
    for (int i = 0; i < TEXTS; i++) fprintf(f, "%s,", texts[i]);
    fputs("expected,first_rank,first_share,first_mass\r\n", f);
    for (size_t i = 0; i < json_array_size(r->cells); i++) {
        const json_t *c = json_array_get(r->cells, i), *expected = json_object_get(c, "expected");
        for (int k = 0; k < NUMBERS; k++) {
            const json_t *v = json_object_get(c, numbers[k]);
            if (json_is_number(v)) fprintf(f, "%.9g", json_number_value(v));
            putc(',', f);
        }
        for (int k = 0; k < TEXTS; k++) {
            csv_text(f, string(c, texts[k]));
            putc(',', f);
        }
        char *list = json_dumps(expected, JSON_COMPACT | JSON_ENCODE_ANY);
        csv_text(f, list ? list : "");
        free(list);
        const json_t *step = json_array_get(json_object_get(json_object_get(c, "trace"), "steps"), 0);
        for (int k = 0; k < 3; k++) {
            putc(',', f);
            if (step) fprintf(f, "%.9g", json_number_value(json_array_get(step, (size_t)k)));
        }
        fputs("\r\n", f);
    }
    return fflush(f) || ferror(f)
               ? ph_fail(err, PH_FAIL, "the CSV file cannot be written: %s", strerror(errno))
               : PH_OK;
}

/* ---- the terminal ---- */

static void print_clean(FILE *f, const char *s) {
    char *clean = printable(s, strlen(s));
    fputs(clean ? clean : "?", f);
    free(clean);
}

static void print_value(FILE *f, const json_t *v, bool share, bool wide) {
    if (!json_is_object(v)) {
        fprintf(f, wide ? " %22s" : " %6s", "-");
        return;
    }
    double mean = json_number_value(json_object_get(v, "mean"));
    char text[48];
    if (!share)
        snprintf(text, sizeof text, mean < 10 ? "%.4f" : "%.1f", mean);
    else if (wide)
        snprintf(text, sizeof text, "%.1f [%.1f-%.1f] n=%lld", 100 * mean,
                 100 * json_number_value(json_object_get(v, "low")),
                 100 * json_number_value(json_object_get(v, "high")),
                 (long long)json_integer_value(json_object_get(v, "n")));
    else
        snprintf(text, sizeof text, "%.0f", 100 * mean);
    fprintf(f, wide ? " %22s" : " %6s", text);
}

/* Wide values, figures down and rows across, unless there are too many of them. */
static void print_table(const json_t *t, FILE *f) {
    const json_t *rows = json_object_get(t, "row_names"), *columns = json_object_get(t, "column_names"),
                 *values = json_object_get(t, "values");
    bool share = !strcmp(string(t, "unit"), "%");
    size_t n_rows = json_array_size(rows), n_columns = json_array_size(columns);
    fprintf(f, "\n%s", string(t, "title"));
    if (*string(t, "note")) fprintf(f, " (%s)", string(t, "note"));
    if (share) fputs(", %", f);
    putc('\n', f);
    bool grid = n_columns > 8,
         turned = !grid && n_rows < n_columns + 1 && !strcmp(string(t, "columns"), "figure");
    const json_t *down = turned ? columns : rows, *across = turned ? rows : columns;
    fprintf(f, "  %-28s", "");
    for (size_t k = 0; k < json_array_size(across); k++)
        fprintf(f, grid ? " %6.6s" : " %22.22s", json_string_value(json_array_get(across, k)));
    putc('\n', f);
    for (size_t i = 0; i < json_array_size(down); i++) {
        fprintf(f, "  %-28.28s", json_string_value(json_array_get(down, i)));
        for (size_t k = 0; k < json_array_size(across); k++)
            print_value(f, json_array_get(json_array_get(values, turned ? k : i), turned ? i : k), share,
                        !grid);
        putc('\n', f);
    }
    if (!grid || !n_rows) return;
    long long least = INT64_MAX, most = 0;
    for (size_t i = 0; i < n_rows; i++)
        for (size_t k = 0; k < n_columns; k++) {
            const json_t *v = json_array_get(json_array_get(values, i), k);
            if (!json_is_object(v)) continue;
            long long n = json_integer_value(json_object_get(v, "n"));
            least = n < least ? n : least;
            most = n > most ? n : most;
        }
    if (most)
        fprintf(f, "  %lld to %lld samples a figure; intervals in --json, --csv and --html\n", least, most);
}

void eval_report_print(const eval_report *r, FILE *f) {
    char key[17];
    sodium_bin2hex(key, sizeof key, r->run.key, 8);
    fprintf(f, "Run %lld: %s, %s, %lld of %lld cells, model %s (%s), seed %lld\n", (long long)r->run.id,
            r->run.kind, state_name(&r->run), (long long)r->run.done, (long long)r->run.cells, r->run.model,
            key, (long long)r->run.seed);
    print_clean(f, r->run.command);
    putc('\n', f);
    char digest[65];
    if (eval_report_digest(r, digest)) fprintf(f, "Results %.16s (the same for the same seed)\n", digest);
    if (*r->run.note) fprintf(f, "%s\n", r->run.note);
    const json_t *tables = json_object_get(r->summary, "tables"),
                 *verdicts = json_object_get(r->summary, "verdicts");
    for (size_t i = 0; i < json_array_size(tables); i++) print_table(json_array_get(tables, i), f);
    if (json_array_size(verdicts)) fputs("\nVerdicts\n", f);
    for (size_t i = 0; i < json_array_size(verdicts); i++) {
        const json_t *v = json_array_get(verdicts, i);
        fprintf(f, "  %-20s %lld\n", string(v, "verdict"),
                (long long)json_integer_value(json_object_get(v, "cells")));
    }
    fprintf(f, "\nShares with Wilson's 95%% interval. The longest haystack has %.0f characters.\n",
            json_number_value(json_object_get(r->summary, "most_characters")));
}

void eval_cell_print(const json_t *c, FILE *f) {
    fprintf(f, "Cell %lld: %s, %lld tokens, depth %.0f%%, %s\n",
            (long long)json_integer_value(json_object_get(c, "cell")), string(c, "task"),
            (long long)json_integer_value(json_object_get(c, "length")),
            json_number_value(json_object_get(c, "depth")), string(c, "variant"));
    fputs("Question  ", f);
    print_clean(f, string(c, "question"));
    const json_t *expected = json_object_get(c, "expected");
    for (size_t i = 0; i < json_array_size(expected); i++) {
        fputs("\nExpected  ", f);
        print_clean(f, json_string_value(json_array_get(expected, i)));
    }
    fputs("\nAnswer    ", f);
    print_clean(f, string(c, "answer"));
    const json_t *thought = json_object_get(json_object_get(c, "thought"), "text");
    if (json_string_length(thought)) {
        fputs("\nThought   ", f);
        print_clean(f, json_string_value(thought));
    }
    fprintf(f, "\nVerdict   %s", string(c, "verdict"));
    if (*string(c, "detail")) {
        fputs(": ", f);
        print_clean(f, string(c, "detail"));
    }
    fprintf(f, "\nScore     %.3f (substring %.3f, exact %.0f, F1 %.3f)\n",
            json_number_value(json_object_get(c, "score")), json_number_value(json_object_get(c, "contains")),
            json_number_value(json_object_get(c, "exact")), json_number_value(json_object_get(c, "f1")));
    const json_t *first = json_object_get(json_object_get(c, "trace"), "first"),
                 *all = json_object_get(json_object_get(c, "trace"), "layers");
    if (json_array_size(first))
        fputs("\nSpan by layer     first token                 all tokens\n"
              "                  rank  selected   mass       rank  selected   mass\n",
              f);
    for (size_t l = 0; l < json_array_size(first); l++) {
        const json_t *a = json_array_get(first, l), *b = json_array_get(all, l);
        fprintf(f, "  layer %2zu    %10lld   %5.0f%%  %6.4f %10lld   %5.0f%%  %6.4f\n", l,
                (long long)json_integer_value(json_array_get(a, 0)),
                100 * json_number_value(json_array_get(a, 1)), json_number_value(json_array_get(a, 2)),
                (long long)json_integer_value(json_array_get(b, 0)),
                100 * json_number_value(json_array_get(b, 1)), json_number_value(json_array_get(b, 2)));
    }
}

/* ---- two runs ---- */

static const json_t *table_like(const eval_report *r, const char *title) {
    const json_t *tables = json_object_get(r->summary, "tables");
    for (size_t i = 0; i < json_array_size(tables); i++)
        if (!strcmp(string(json_array_get(tables, i), "title"), title)) return json_array_get(tables, i);
    return NULL;
}

static size_t index_of(const json_t *names, const json_t *name) {
    size_t i = 0;
    while (i < json_array_size(names) && !json_equal(json_array_get(names, i), name)) i++;
    return i;
}

/* Figures that both have: a, b, b - a, and whether the intervals part. */
static void diff_table(json_t *out, const json_t *a, const json_t *b) {
    const json_t *rows = json_object_get(a, "row_names"), *columns = json_object_get(a, "column_names");
    for (size_t i = 0; i < json_array_size(rows); i++)
        for (size_t k = 0; k < json_array_size(columns); k++) {
            const json_t *row = json_array_get(rows, i), *column = json_array_get(columns, k);
            const json_t *va = json_array_get(json_array_get(json_object_get(a, "values"), i), k);
            const json_t *vb = json_array_get(
                json_array_get(json_object_get(b, "values"), index_of(json_object_get(b, "row_names"), row)),
                index_of(json_object_get(b, "column_names"), column));
            if (!json_is_object(va) || !json_is_object(vb)) continue;
            double ma = json_number_value(json_object_get(va, "mean")),
                   mb = json_number_value(json_object_get(vb, "mean"));
            bool apart = json_object_get(va, "low") && json_object_get(vb, "low") &&
                         (json_number_value(json_object_get(va, "low")) >
                              json_number_value(json_object_get(vb, "high")) ||
                          json_number_value(json_object_get(vb, "low")) >
                              json_number_value(json_object_get(va, "high")));
            json_array_append_new(out, json_pack("{s:s, s:O, s:O, s:O, s:O, s:f, s:b}", "table",
                                                 string(a, "title"), "row", row, "column", column, "a", va,
                                                 "b", vb, "change", mb - ma, "apart", apart));
        }
}

json_t *eval_diff(const eval_report *a, const eval_report *b) {
    json_t *figures = json_array(), *cells = json_array();
    const json_t *tables = json_object_get(a->summary, "tables");
    for (size_t i = 0; i < json_array_size(tables); i++) {
        const json_t *t = json_array_get(tables, i), *other = table_like(b, string(t, "title"));
        if (other) diff_table(figures, t, other);
    }
    /* The same cell is one with the same number, question and length. */
    size_t k = 0;
    for (size_t i = 0; i < json_array_size(a->cells); i++) {
        const json_t *x = json_array_get(a->cells, i), *y = NULL;
        json_int_t number = json_integer_value(json_object_get(x, "cell"));
        while (k < json_array_size(b->cells) &&
               json_integer_value(json_object_get(json_array_get(b->cells, k), "cell")) < number)
            k++;
        y = json_array_get(b->cells, k);
        if (!y || json_integer_value(json_object_get(y, "cell")) != number ||
            !json_equal(json_object_get(x, "question"), json_object_get(y, "question")) ||
            !json_equal(json_object_get(x, "length"), json_object_get(y, "length")) ||
            json_equal(json_object_get(x, "score"), json_object_get(y, "score")))
            continue;
        json_array_append_new(
            cells, json_pack("{s:I, s:O, s:O, s:O, s:O, s:O, s:O, s:O}", "cell", number, "question",
                             json_object_get(x, "question"), "a", json_object_get(x, "answer"), "b",
                             json_object_get(y, "answer"), "score_a", json_object_get(x, "score"), "score_b",
                             json_object_get(y, "score"), "verdict_a", json_object_get(x, "verdict"),
                             "verdict_b", json_object_get(y, "verdict")));
    }
    return json_pack("{s:I, s:I, s:o, s:o}", "a", (json_int_t)a->run.id, "b", (json_int_t)b->run.id,
                     "figures", figures, "cells", cells);
}
