/* eval_summary.c - every figure of a run, from its cells; each with the number of samples and Wilson's
 * interval.
 *
 * A summary is a list of tables:
 *   {"title", "note", "rows": "length", "columns": "depth", "row_names": [..], "column_names": [..],
 *    "unit": "%" or "", "values": [[{"mean", "n", "low", "high"} or null]]}
 * and the verdicts: [{"verdict", "cells"}]. Renderers know tables, and nothing of tasks.
 */
#include "appliance/eval.h"
#include "appliance/eval_score.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading cells ---- */

static double real(const json_t *cell, const char *key) {
    return json_number_value(json_object_get(cell, key));
}
static bool truth(const json_t *cell, const char *key) {
    return json_is_true(json_object_get(cell, key));
}
static const char *string(const json_t *cell, const char *key) {
    const char *s = json_string_value(json_object_get(cell, key));
    return s ? s : "";
}

/* What a table takes from a cell: false where the cell has no such figure. */
typedef bool (*figure)(const json_t *cell, double *value, int number);

static bool score(const json_t *c, double *v, int number) {
    (void)number;
    *v = real(c, "score");
    return true;
}
static bool exact(const json_t *c, double *v, int number) {
    (void)number;
    *v = real(c, "exact");
    return true;
}
static bool answerable(const json_t *c) {
    return json_array_size(json_object_get(c, "expected")) > 0;
}
/* The figures of a qa run, in the order of qa_columns. */
static const char *const qa_columns[] = {"token F1",
                                         "exact match",
                                         "substring",
                                         "answer kept",
                                         "absence told",
                                         "read set: source first",
                                         "BM25: source first",
                                         "span in first token's trace",
                                         "span in thought's first",
                                         "source cited"};
enum {
    QA_F1,
    QA_EXACT,
    QA_SUBSTRING,
    QA_KEPT,
    QA_ABSENT,
    QA_READ,
    QA_BM25,
    QA_HELD,
    QA_COLUMNS,              /* so many are shown of every run */
    QA_THOUGHT = QA_COLUMNS, /* runs with a thought before the answer */
    QA_CITED                 /* questions asked through answer.h */
};
static bool qa_figure(const json_t *c, double *v, int number) {
    bool answer = answerable(c);
    const json_t *rank;
    switch (number) {
    case QA_F1:
        *v = real(c, "f1");
        return answer;
    case QA_EXACT:
        *v = real(c, "exact");
        return answer;
    case QA_SUBSTRING:
        *v = real(c, "contains");
        return answer;
    case QA_KEPT:
        *v = !truth(c, "said_absent");
        return answer;
    case QA_ABSENT:
        *v = truth(c, "said_absent");
        return !answer;
    case QA_READ:
    case QA_BM25:
        rank = json_object_get(c, number == QA_READ ? "read_rank" : "bm25_rank");
        *v = json_integer_value(rank) == 1;
        return answer && rank;
    case QA_HELD:
        *v = truth(json_object_get(c, "trace"), "held");
        return answer && json_object_get(c, "trace");
    case QA_THOUGHT:
        rank = json_object_get(json_object_get(c, "thought"), "trace");
        *v = truth(rank, "held");
        return answer && json_is_object(rank);
    case QA_CITED:
        *v = truth(c, "cited");
        return answer && json_object_get(c, "cited");
    default:
        return false;
    }
}
/* [rank, share, mass] of the answer's first token in one layer; layer -1 = the best of all. */
static bool first_token(const json_t *c, int layer, double *rank, double *share, double *mass) {
    const json_t *layers = json_object_get(json_object_get(c, "trace"), "first");
    size_t n = json_array_size(layers);
    if (!n || layer >= (int)n) return false;
    *rank = INFINITY;
    *share = *mass = 0;
    for (size_t l = layer < 0 ? 0 : (size_t)layer; l < (layer < 0 ? n : (size_t)layer + 1); l++) {
        const json_t *a = json_array_get(layers, l);
        double r = json_number_value(json_array_get(a, 0));
        if (r > 0) *rank = fmin(*rank, r);
        *share = fmax(*share, json_number_value(json_array_get(a, 1)));
        *mass = fmax(*mass, json_number_value(json_array_get(a, 2)));
    }
    return true;
}

/* ---- tables ---- */

typedef struct sums {
    double sum;
    size_t n;
} sums;

static json_t *value_json(sums s, bool share) {
    if (!s.n) return json_null();
    double mean = s.sum / (double)s.n;
    if (!share) return json_pack("{s:f, s:I}", "mean", mean, "n", (json_int_t)s.n);
    interval i = score_wilson(mean, s.n);
    return json_pack("{s:f, s:I, s:f, s:f}", "mean", mean, "n", (json_int_t)s.n, "low", i.low, "high",
                     i.high);
}

static json_t *table_json(const char *title, const char *note, const char *rows, const char *columns,
                          bool share, json_t *row_names, json_t *column_names, const sums *at, size_t n_rows,
                          size_t n_columns) {
    json_t *values = json_array();
    for (size_t i = 0; i < n_rows; i++) {
        json_t *row = json_array();
        for (size_t k = 0; k < n_columns; k++)
            json_array_append_new(row, value_json(at[i * n_columns + k], share));
        json_array_append_new(values, row);
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o}", "title", title, "note", note, "rows", rows,
                     "columns", columns, "unit", share ? "%" : "", "row_names", row_names, "column_names",
                     column_names, "values", values);
}

/* Different values of a key, ascending. */
typedef struct distinct {
    double at[1024];
    size_t n;
} distinct;

static size_t find(const distinct *d, double v) {
    size_t i = 0;
    while (i < d->n && d->at[i] != v) i++;
    return i;
}

static void collect(distinct *d, const json_t *cells, const char *key) {
    d->n = 0;
    for (size_t i = 0; i < json_array_size(cells); i++) {
        double v = real(json_array_get(cells, i), key);
        if (find(d, v) < d->n || d->n == sizeof d->at / sizeof *d->at) continue;
        size_t at = d->n++;
        for (; at > 0 && d->at[at - 1] > v; at--) d->at[at] = d->at[at - 1];
        d->at[at] = v;
    }
}

static void length_name(char out[24], double length) {
    int64_t n = (int64_t)length;
    if (n % 1024 == 0)
        snprintf(out, 24, "%lldK", (long long)(n / 1024));
    else
        snprintf(out, 24, "%lld", (long long)n);
}

static json_t *length_names(const distinct *d) {
    json_t *out = json_array();
    for (size_t i = 0; i < d->n; i++) {
        char name[24];
        length_name(name, d->at[i]);
        json_array_append_new(out, json_string(name));
    }
    return out;
}

static json_t *depth_names(const distinct *d) {
    json_t *out = json_array();
    for (size_t i = 0; i < d->n; i++) {
        char name[24];
        snprintf(name, sizeof name, "%.0f%%", d->at[i]);
        json_array_append_new(out, json_string(name));
    }
    return out;
}

static bool of_variant(const json_t *cell, const char *variant) {
    return !variant || !strcmp(string(cell, "variant"), variant);
}

/* Length by depth. */
static void grid(json_t *tables, const json_t *cells, const char *title, const char *note, figure f) {
    distinct lengths, depths;
    collect(&lengths, cells, "length");
    collect(&depths, cells, "depth");
    sums *at = calloc(lengths.n * depths.n + 1, sizeof *at);
    for (size_t i = 0; at && i < json_array_size(cells); i++) {
        const json_t *c = json_array_get(cells, i);
        double v;
        if (!f(c, &v, 0)) continue;
        sums *s = &at[find(&lengths, real(c, "length")) * depths.n + find(&depths, real(c, "depth"))];
        s->sum += v;
        s->n++;
    }
    if (at)
        json_array_append_new(tables, table_json(title, note, "length", "depth", true, length_names(&lengths),
                                                 depth_names(&depths), at, lengths.n, depths.n));
    free(at);
}

/* Length by several figures of all cells (of a variant). */
static void by_length(json_t *tables, const json_t *cells, const char *variant, const char *title,
                      const char *note, const char *const *names, int n, figure f, bool share) {
    distinct lengths;
    collect(&lengths, cells, "length");
    json_t *columns = json_array();
    for (int k = 0; k < n; k++) json_array_append_new(columns, json_string(names[k]));
    sums *at = calloc(lengths.n * (size_t)n + 1, sizeof *at);
    for (size_t i = 0; at && i < json_array_size(cells); i++) {
        const json_t *c = json_array_get(cells, i);
        if (!of_variant(c, variant)) continue;
        for (int k = 0; k < n; k++) {
            double v;
            if (!f(c, &v, k)) continue;
            sums *s = &at[find(&lengths, real(c, "length")) * (size_t)n + (size_t)k];
            s->sum += v;
            s->n++;
        }
    }
    if (at)
        json_array_append_new(tables, table_json(title, note, "length", "figure", share,
                                                 length_names(&lengths), columns, at, lengths.n, (size_t)n));
    else
        json_decref(columns);
    free(at);
}

/* ---- needle ---- */

static const char *const all_columns[] = {"all depths", "exact match", "span in first token's trace",
                                          "read set: source first", "BM25: source first"};
static bool all_depths(const json_t *c, double *v, int number) {
    if (number == 0) return score(c, v, 0);
    if (number == 1) return exact(c, v, 0);
    return qa_figure(c, v, number == 2 ? QA_HELD : number == 3 ? QA_READ : QA_BM25);
}

static void needle(json_t *tables, const json_t *cells, const json_t *params) {
    grid(tables, cells, "Needle found",
         truth(params, "together") && truth(params, "reworded")
             ? "substring match; one needle with its own key for each depth, all in one haystack, asked for "
               "in other words"
         : truth(params, "together")
             ? "substring match; one needle with its own key for each depth, all in one haystack"
             : "substring match; one needle a prompt",
         score);
    by_length(tables, cells, NULL, "By length", "", all_columns, 5, all_depths, true);
}

/* ---- ruler ---- */

static void ruler(json_t *tables, const json_t *cells) {
    distinct lengths;
    collect(&lengths, cells, "length");
    sums at[(EVAL_RULER_TASKS + 1) * 64] = {0};
    if (lengths.n > 64) return;
    bool seen[EVAL_RULER_TASKS + 1] = {0};
    for (size_t i = 0; i < json_array_size(cells); i++) {
        const json_t *c = json_array_get(cells, i);
        int k = 0;
        while (k < EVAL_RULER_TASKS && strcmp(eval_ruler_name(k), string(c, "task"))) k++;
        if (k == EVAL_RULER_TASKS) continue;
        sums *s = &at[(size_t)k * lengths.n + find(&lengths, real(c, "length"))];
        s->sum += real(c, "score");
        s->n++;
        seen[k] = true;
    }
    json_t *names = json_array();
    sums shown[(EVAL_RULER_TASKS + 1) * 64] = {0};
    size_t n = 0;
    for (int k = 0; k < EVAL_RULER_TASKS; k++) {
        if (!seen[k]) continue;
        json_array_append_new(names, json_string(eval_ruler_name(k)));
        memcpy(&shown[n++ * lengths.n], &at[(size_t)k * lengths.n], lengths.n * sizeof *at);
    }
    /* The mean of the tasks, as published; its n is all samples. */
    for (size_t l = 0; l < lengths.n && n > 1; l++) {
        double sum = 0;
        size_t tasks = 0, samples = 0;
        for (size_t k = 0; k < n; k++) {
            sums s = shown[k * lengths.n + l];
            if (!s.n) continue;
            sum += s.sum / (double)s.n;
            tasks++;
            samples += s.n;
        }
        if (tasks) shown[n * lengths.n + l] = (sums){sum / (double)tasks * (double)samples, samples};
    }
    if (n > 1) {
        json_array_append_new(names, json_string("mean"));
        n++;
    }
    json_array_append_new(tables,
                          table_json("RULER", "recall: mean share of references found (qa: any one)", "task",
                                     "length", true, names, length_names(&lengths), shown, n, lengths.n));
}

/* ---- qa ---- */

static bool by_fifth(const json_t *c, double *v, int number) {
    double depth = real(c, "depth");
    int fifth = depth < 0 ? 0 : depth >= 100 ? 4 : (int)(depth / 20);
    return fifth == number && qa_figure(c, v, QA_F1);
}

static void balanced(json_t *tables, const json_t *cells) {
    distinct lengths;
    collect(&lengths, cells, "length");
    json_t *values = json_array();
    bool any = false;
    for (size_t l = 0; l < lengths.n; l++) {
        sums kept = {0}, told = {0};
        for (size_t i = 0; i < json_array_size(cells); i++) {
            const json_t *c = json_array_get(cells, i);
            double v;
            if (real(c, "length") != lengths.at[l]) continue;
            if (qa_figure(c, &v, QA_KEPT)) kept = (sums){kept.sum + v, kept.n + 1};
            if (qa_figure(c, &v, QA_ABSENT)) told = (sums){told.sum + v, told.n + 1};
        }
        json_t *row = json_array();
        if (kept.n && told.n) {
            /* The mean of two shares: its interval from the two standard errors. */
            interval a = score_wilson(kept.sum / (double)kept.n, kept.n),
                     b = score_wilson(told.sum / (double)told.n, told.n);
            double mean = (kept.sum / (double)kept.n + told.sum / (double)told.n) / 2;
            double half = hypot(a.high - a.low, b.high - b.low) / 4;
            json_array_append_new(row, json_pack("{s:f, s:I, s:f, s:f}", "mean", mean, "n",
                                                 (json_int_t)(kept.n + told.n), "low", fmax(mean - half, 0),
                                                 "high", fmin(mean + half, 1)));
            any = true;
        } else
            json_array_append_new(row, json_null());
        json_array_append_new(values, row);
    }
    if (!any) {
        json_decref(values);
        return;
    }
    json_array_append_new(
        tables,
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o}", "title", "Questions without an answer", "note",
                  "balanced accuracy of \"not found\": the mean of `answer kept` and `absence told`", "rows",
                  "length", "columns", "figure", "unit", "%", "row_names", length_names(&lengths),
                  "column_names", json_pack("[s]", "balanced accuracy"), "values", values));
}

/* Through answer.h, once with a first look at promising passages and once without. */
static const char *const asked_columns[] = {"token F1",
                                            "exact match",
                                            "substring",
                                            "answer kept",
                                            "absence told",
                                            "source cited",
                                            "read set: source first",
                                            "BM25: source first"};
static bool asked_figure(const json_t *c, double *v, int number) {
    static const int figures[] = {QA_F1,     QA_EXACT, QA_SUBSTRING, QA_KEPT,
                                  QA_ABSENT, QA_CITED, QA_READ,      QA_BM25};
    return qa_figure(c, v, figures[number]);
}

static void asked(json_t *tables, const json_t *cells) {
    enum { ASKED = sizeof asked_columns / sizeof *asked_columns };
    by_length(tables, cells, "first look", "Asked, first look",
              "as `pharos ask`: the passages that full text ranks first, then the whole pack where they say "
              "nothing",
              asked_columns, ASKED, asked_figure, true);
    by_length(tables, cells, "whole", "Asked, whole", "as `pharos ask --whole`: the whole pack at once",
              asked_columns, ASKED, asked_figure, true);
}

static void qa(json_t *tables, const json_t *cells) {
    const json_t *one = json_array_get(cells, 0);
    if (json_object_get(one, "look")) {
        asked(tables, cells);
        return;
    }
    static const char *const fifths[] = {"0-20%", "20-40%", "40-60%", "60-80%", "80-100%"};
    by_length(tables, cells, NULL, "Questions", "F1, exact and substring of questions with an answer",
              qa_columns, json_is_object(json_object_get(one, "thought")) ? QA_THOUGHT + 1 : QA_COLUMNS,
              qa_figure, true);
    balanced(tables, cells);
    by_length(tables, cells, NULL, "Token F1 by position of the source", "fifths of the haystack", fifths, 5,
              by_fifth, true);
}

/* ---- recall ---- */

static const double ks[] = {16, 32, 64, 128, 256, 512, 1024, 2048, 4096};
enum { KS = sizeof ks / sizeof *ks };

/* recall@k of the first answer token: is the span's best rank within k? Layers, then the best of all. */
static void recall(json_t *tables, const json_t *cells, const char *variant) {
    size_t layers = 0;
    for (size_t i = 0; i < json_array_size(cells); i++) {
        const json_t *c = json_array_get(cells, i);
        size_t n = json_array_size(json_object_get(json_object_get(c, "trace"), "first"));
        if (of_variant(c, variant) && n > layers) layers = n;
    }
    if (!layers) return;
    size_t rows = layers + 1;
    sums *at = calloc(rows * KS, sizeof *at), *seen = calloc(rows * 3, sizeof *seen);
    json_t *names = json_array(), *columns = json_array();
    for (size_t l = 0; l < rows; l++) {
        char name[40];
        snprintf(name, sizeof name, "layer %zu", l);
        json_array_append_new(names, json_string(l < layers ? name : "any layer"));
        for (size_t i = 0; at && seen && i < json_array_size(cells); i++) {
            const json_t *c = json_array_get(cells, i);
            double rank, share, mass;
            if (!of_variant(c, variant) || !first_token(c, l < layers ? (int)l : -1, &rank, &share, &mass))
                continue;
            sums *row = &at[l * KS], *saw = &seen[l * 3];
            for (int k = 0; k < KS; k++) row[k] = (sums){row[k].sum + (rank <= ks[k]), row[k].n + 1};
            saw[0] = (sums){saw[0].sum + (share > 0), saw[0].n + 1};
            saw[1] = (sums){saw[1].sum + share, saw[1].n + 1};
            saw[2] = (sums){saw[2].sum + mass, saw[2].n + 1};
        }
    }
    for (int k = 0; k < KS; k++) {
        char name[24];
        snprintf(name, sizeof name, "@%.0f", ks[k]);
        json_array_append_new(columns, json_string(name));
    }
    char title[96];
    if (at && seen) {
        snprintf(title, sizeof title, "Recall of the answer's span by its first token%s%.23s",
                 variant ? ", " : "", variant ? variant : "");
        json_array_append_new(
            tables, table_json(title, "share of answers whose span has a token among the k best index scores",
                               "layer", "k", true, json_incref(names), columns, at, rows, KS));
        snprintf(title, sizeof title, "What the first token read of the span%s%.23s", variant ? ", " : "",
                 variant ? variant : "");
        json_array_append_new(
            tables,
            table_json(title, "among the positions that were attended to", "layer", "measure", true, names,
                       json_pack("[s, s, s]", "any token", "share of tokens", "mass"), seen, rows, 3));
    }
    free(at);
    free(seen);
}

static bool bm25_at(const json_t *c, double *v, int number) {
    static const int at[] = {1, 3, 5, 10, 20};
    const json_t *rank = json_object_get(c, "bm25_rank");
    int64_t r = json_integer_value(rank);
    *v = r > 0 && r <= at[number];
    return rank && answerable(c);
}
static bool read_at(const json_t *c, double *v, int number) {
    static const int at[] = {1, 3, 5};
    const json_t *rank = json_object_get(c, "read_rank");
    int64_t r = json_integer_value(rank);
    *v = r > 0 && r <= at[number];
    return rank && answerable(c);
}

/* Every answer token: the best of all layers. */
static bool token_at(const json_t *c, double *v, int number) {
    const json_t *steps = json_object_get(json_object_get(c, "trace"), "steps");
    const json_t *s = json_array_get(steps, (size_t)number);
    *v = json_number_value(json_array_get(s, 1)) > 0;
    return s != NULL;
}

static void recall_run(json_t *tables, const json_t *cells) {
    static const char *const at[] = {"@1", "@3", "@5", "@10", "@20"};
    static const char *const tokens[] = {"token 1", "token 2", "token 3", "token 4",
                                         "token 5", "token 6", "token 7", "token 8"};
    recall(tables, cells, NULL);
    by_length(tables, cells, NULL, "Span selected, by answer token", "in any layer", tokens, 8, token_at,
              true);
    by_length(tables, cells, NULL, "Read set: source among the first sentences", "ranked by attention mass",
              at, 3, read_at, true);
    by_length(tables, cells, NULL, "BM25: source among the first passages", "SQLite FTS5 over the same texts",
              at, 5, bm25_at, true);
}

/* ---- compare ---- */

enum { COMPARE_FIGURES = 9 };
static const struct {
    const char *title, *note;
    bool share;
} compare_figures[COMPARE_FIGURES] = {
    {"Score", "same prompts, seeds and settings", true},
    {"Exact match", "", true},
    {"Best token agrees with dense", "over the reference answer's first tokens", true},
    {"KL from dense, nats", "mean over the reference answer's first tokens", false},
    {"Span selected by the first token", "any token of it, in any layer", true},
    {"Reading the haystack, seconds", "", false},
    {"An answer, seconds", "", false},
    {"Caches, MiB", "", false},
    {"Memory of the process, MiB", "resident after reading; working memory is made for the largest k", false},
};

static bool compare_figure(const json_t *c, double *v, int number) {
    const json_t *kl = json_object_get(c, "kl"), *t = json_object_get(c, "timing");
    switch (number) {
    case 0:
        return score(c, v, 0);
    case 1:
        return exact(c, v, 0);
    case 2:
        *v = real(kl, "agree");
        return kl != NULL;
    case 3:
        *v = real(kl, "mean");
        return kl != NULL;
    case 4:
        *v = truth(json_object_get(c, "trace"), "held");
        return json_object_get(c, "trace") != NULL;
    case 5:
        *v = real(t, "prefill_s");
        return *v > 0;
    case 6:
        *v = real(t, "answer_s");
        return t != NULL;
    default:
        *v = real(t, number == 7 ? "context_bytes" : "resident_bytes") / 1048576;
        return *v > 0;
    }
}

/* Names in the order in which they come: dense, then by k. */
static int variants_of(char seen[EVAL_MAX_KS + 1][24], const json_t *cells) {
    int n = 0;
    for (size_t i = 0; i < json_array_size(cells); i++) {
        const char *v = string(json_array_get(cells, i), "variant");
        int k = 0;
        while (k < n && strcmp(seen[k], v)) k++;
        if (k == n && n <= EVAL_MAX_KS) snprintf(seen[n++], sizeof seen[0], "%s", v);
    }
    return n;
}

/* Length by variant, a table for each figure. */
static void compare(json_t *tables, const json_t *cells) {
    char seen[EVAL_MAX_KS + 1][24];
    int n = variants_of(seen, cells);
    distinct lengths;
    collect(&lengths, cells, "length");
    sums *at = calloc(lengths.n * (size_t)n + 1, sizeof *at);
    for (int f = 0; f < COMPARE_FIGURES && at; f++) {
        memset(at, 0, (lengths.n * (size_t)n + 1) * sizeof *at);
        for (size_t i = 0; i < json_array_size(cells); i++) {
            const json_t *c = json_array_get(cells, i);
            double v;
            int k = 0;
            while (k < n && !of_variant(c, seen[k])) k++;
            if (k == n || !compare_figure(c, &v, f)) continue;
            sums *s = &at[find(&lengths, real(c, "length")) * (size_t)n + (size_t)k];
            s->sum += v;
            s->n++;
        }
        json_t *columns = json_array();
        for (int k = 0; k < n; k++) json_array_append_new(columns, json_string(seen[k]));
        json_array_append_new(tables, table_json(compare_figures[f].title, compare_figures[f].note, "length",
                                                 "positions", compare_figures[f].share,
                                                 length_names(&lengths), columns, at, lengths.n, (size_t)n));
    }
    free(at);
    for (int k = 0; k < n; k++) recall(tables, cells, seen[k]);
}

/* ---- all ---- */

static json_t *verdicts(const json_t *cells) {
    json_t *count = json_object(), *out = json_array();
    for (size_t i = 0; i < json_array_size(cells); i++) {
        const char *v = string(json_array_get(cells, i), "verdict");
        json_object_set_new(count, v, json_integer(json_integer_value(json_object_get(count, v)) + 1));
    }
    const char *key;
    json_t *value;
    json_object_foreach(count, key, value) json_array_append_new(
        out, json_pack("{s:s, s:I}", "verdict", key, "cells", json_integer_value(value)));
    json_decref(count);
    return out;
}

json_t *eval_summarise(const json_t *params, const json_t *cells) {
    json_t *tables = json_array();
    const char *kind = string(params, "kind"), *over = string(params, "over");
    if (json_array_size(cells)) {
        if (!strcmp(kind, "needle")) needle(tables, cells, params);
        if (!strcmp(kind, "ruler")) ruler(tables, cells);
        if (!strcmp(kind, "qa")) qa(tables, cells);
        if (!strcmp(kind, "recall")) recall_run(tables, cells);
        if (!strcmp(kind, "compare")) compare(tables, cells);
        if (!strcmp(kind, "recall") && !strcmp(over, "qa")) qa(tables, cells);
        if (!strcmp(kind, "recall") && !strcmp(over, "needle")) needle(tables, cells, params);
    }
    double characters = 0;
    for (size_t i = 0; i < json_array_size(cells); i++)
        characters = fmax(characters, real(json_array_get(cells, i), "characters"));
    return json_pack("{s:o, s:o, s:f, s:I}", "tables", tables, "verdicts", verdicts(cells), "most_characters",
                     characters, "cells", (json_int_t)json_array_size(cells));
}
