/* api_trace.c - what was read for each word of an answer, over the map of its pack. */
#include "appliance/api.h"

#include "appliance/command.h"
#include "appliance/show.h"
#include "appliance/trace_json.h"
#include "appliance/trace_view.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BINS = 512, SENTENCES = 8, MOST_SENTENCES = 100 };

typedef struct view {
    trace_view shown;
    int layer, word; /* -1 = all; 0 = all */
    size_t sentences;
    int64_t capacity, bin; /* tokens of a context, of a bin */
    double *mass;
} view;

static void view_free(view *v) {
    trace_view_free(&v->shown);
    free(v->mass);
}

/* ---- the map ---- */

static json_t *map_json(const loaded_pack *p) {
    json_t *rows = json_array();
    for (size_t i = 0; i < p->n_texts; i++) {
        const pack_text *t = &p->texts[i];
        json_array_append_new(
            rows, json_pack("{s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:I}", "document_id",
                            (json_int_t)t->document, "document", json_text(t->name), "token_start",
                            (json_int_t)t->span.token_start, "token_end", (json_int_t)t->span.token_end,
                            "text_token_start", (json_int_t)t->span.text_token_start, "text_token_end",
                            (json_int_t)t->span.text_token_end, "start", (json_int_t)t->span.text_start,
                            "end", (json_int_t)t->span.text_end));
    }
    return rows;
}

static json_t *strip_json(const view *v) {
    json_t *rows = json_array();
    int64_t n = (int64_t)v->shown.pack.prompt.tokens.n;
    for (int64_t bin = 0; bin * v->bin < n; bin++) {
        double sum = 0;
        int64_t end = (bin + 1) * v->bin < n ? (bin + 1) * v->bin : n;
        for (int64_t i = bin * v->bin; i < end; i++) sum += v->mass[i];
        if (sum > 0) json_array_append_new(rows, json_pack("[I, f]", (json_int_t)bin, sum));
    }
    return rows;
}

/* Strip and heaviest sentences of the masses in v->mass, into `out`. */
static int add_read(view *v, json_t *out, ph_error *err) {
    read_sentence *list = NULL;
    size_t n = 0;
    int code = read_set_make(&list, &n, &v->shown.pack, v->mass, v->sentences, err);
    if (code) return code;
    json_object_set_new(out, "strip", strip_json(v));
    json_object_set_new(out, "read_set", read_set_json(list, n));
    free(list);
    return PH_OK;
}

static int word_json(view *v, const traced_text *t, size_t number, json_t *rows, ph_error *err) {
    const trace_word *w = &t->words[number];
    char *text = strndup(t->trace.text + w->start, w->end - w->start);
    double sum = 0;
    for (size_t i = w->token_start; i < w->token_end; i++) sum += (double)t->trace.tokens[i].logprob;
    json_t *row =
        json_pack("{s:o, s:I, s:I, s:I, s:I, s:f}", "word", json_text(text), "start", (json_int_t)w->start,
                  "end", (json_int_t)w->end, "first_token", (json_int_t)w->token_start, "end_token",
                  (json_int_t)w->token_end, "probability", isfinite(sum) ? exp(sum) : 0.0);
    free(text);
    if (!row) return ph_fail(err, PH_MEMORY, "no memory for a trace");
    json_array_append_new(rows, row);
    if (!v->shown.has_pack) return PH_OK;
    json_object_set_new(
        row, "on_documents",
        json_real(trace_on_documents(&t->trace, &v->shown.pack, w->token_start, w->token_end, v->layer)));
    answer_trace_mass(&t->trace, &v->shown.pack, w->token_start, w->token_end, v->layer, v->mass);
    return add_read(v, row, err);
}

/* The thought by words, where no single word of the answer is asked for. */
static int add_thought(view *v, json_t *out, ph_error *err) {
    const traced_text *t = &v->shown.thought;
    json_t *words = json_array();
    int code = PH_OK;
    for (size_t i = 0; i < t->n_words && !v->word && !code; i++) code = word_json(v, t, i, words, err);
    json_object_set_new(out, "thought",
                        t->trace.n_tokens
                            ? json_pack("{s:o, s:O}", "text", json_text(t->trace.text), "words", words)
                            : json_null());
    json_decref(words);
    return code;
}

/* The word's tokens with every kept position. Its "words" are ours already. */
static int add_tokens(view *v, json_t *out, ph_error *err) {
    trace_selection what = {
        .layer = v->layer, .first_word = (size_t)v->word - 1, .end_word = (size_t)v->word};
    json_t *more = json_object();
    int code = trace_json_add(more, &v->shown.answer.trace, v->shown.answer.words,
                              v->shown.has_pack ? &v->shown.pack : NULL, &what, err);
    json_object_set(out, "tokens", json_object_get(more, "tokens"));
    json_object_set(out, "sentences", json_object_get(more, "sentences"));
    json_decref(more);
    return code;
}

static int fill(view *v, json_t *out, ph_error *err) {
    json_t *words = json_array();
    json_object_set_new(out, "words", words);
    if (!v->shown.has_trace) return PH_OK;
    int code = PH_OK;
    if (v->shown.has_pack) {
        size_t n = v->shown.pack.prompt.tokens.n;
        if (!(v->mass = malloc((n + 1) * sizeof *v->mass)))
            return ph_fail(err, PH_MEMORY, "no memory for a trace over %zu tokens", n);
        json_object_set_new(out, "pack", json_integer(v->shown.row.pack));
        json_object_set_new(out, "tokens_in_pack", json_integer((json_int_t)n));
        json_object_set_new(out, "capacity", json_integer(v->capacity));
        json_object_set_new(out, "bin_tokens", json_integer(v->bin));
        json_object_set_new(out, "bins", json_integer((v->capacity + v->bin - 1) / v->bin));
        json_object_set_new(out, "map", map_json(&v->shown.pack));
        answer_traces_mass(&v->shown.answer.trace, &v->shown.thought.trace, &v->shown.pack, v->layer,
                           v->mass);
        code = add_read(v, out, err);
    }
    for (size_t i = 0; i < v->shown.answer.n_words && !code; i++)
        if (!v->word || (size_t)v->word == i + 1) code = word_json(v, &v->shown.answer, i, words, err);
    if (!code) code = add_thought(v, out, err);
    return !code && v->word ? add_tokens(v, out, err) : code;
}

static json_t *head_json(const view *v) {
    json_t *citations = json_array();
    for (size_t i = 0; i < v->shown.row.n_citations; i++)
        json_array_append_new(citations, citation_json(&v->shown.row.citations[i]));
    return json_pack("{s:I, s:o, s:o, s:i, s:o, s:i, s:o}", "answer", (json_int_t)v->shown.row.id, "missing",
                     v->shown.missing[0] ? json_text(v->shown.missing) : json_null(), "evidence",
                     evidence_json(v->shown.has_trace, &v->shown.answer.trace), "layers",
                     v->shown.answer.trace.layers, "layer",
                     v->layer >= 0 ? json_integer(v->layer) : json_null(), "kept_per_layer",
                     v->shown.answer.trace.keep, "citations", citations);
}

static int load(view *v, api_call *c, store *s, engine *e, ph_error *err) {
    store_answer row = {0};
    int code = api_own_answer(c, s, &row, err);
    store_answer_free(&row);
    if (!code) code = trace_view_load(&v->shown, s, c->id, err);
    if (!code && v->shown.has_trace) code = trace_view_pack(&v->shown, s, e, err);
    return code ? code : trace_view_check(&v->shown, v->layer, (size_t)v->word, err);
}

static int trace(api_call *c, store *s, ph_error *err) {
    int64_t layer = -1, word = 0, sentences = SENTENCES;
    engine *e = api_engine(c);
    if (!e || http_number(c->http, "layer", 0, CONFIG_MAX_LAYERS - 1, &layer) < 0 ||
        http_number(c->http, "word", 1, 1 << 24, &word) < 0 ||
        http_number(c->http, "sentences", 0, MOST_SENTENCES, &sentences) < 0)
        return PH_OK;
    view v = {.layer = (int)layer, .word = (int)word, .sentences = (size_t)sentences};
    v.capacity = engine_config(e)->max_positions;
    v.bin = (v.capacity + BINS - 1) / BINS;
    int code = load(&v, c, s, e, err);
    json_t *out = code ? NULL : head_json(&v);
    if (!code) code = fill(&v, out, err);
    if (!code)
        http_reply_json(c->http, 200, out);
    else
        json_decref(out);
    view_free(&v);
    return code;
}

void api_answers_trace(api_call *c) {
    api_with_store(c, trace);
}
