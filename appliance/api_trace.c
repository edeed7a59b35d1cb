/* api_trace.c - what was read for each word of an answer, over the map of its pack. */
#include "appliance/api.h"

#include "appliance/command.h"
#include "appliance/show.h"
#include "appliance/trace_json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BINS = 512, SENTENCES = 8, MOST_SENTENCES = 100 };

typedef struct view {
    store_answer row;
    answer_trace trace;
    loaded_pack pack;
    bool has_trace, has_pack;
    trace_word *words;
    size_t n_words;
    char missing[600];
    int layer, word; /* -1 = all; 0 = all */
    size_t sentences;
    int64_t capacity, bin; /* tokens of a context, of a bin */
    double *mass;
} view;

static void view_free(view *v) {
    store_answer_free(&v->row);
    answer_trace_free(&v->trace);
    if (v->has_pack) pack_unload(&v->pack);
    free(v->words);
    free(v->mass);
}

static int load_trace(view *v, store *s, ph_error *err) {
    void *blob = NULL;
    size_t len = 0;
    int code = store_answer_trace(s, v->row.id, &blob, &len, err);
    if (code == PH_NOT_FOUND) {
        snprintf(v->missing, sizeof v->missing, "%s",
                 v->row.pack ? "the model was served elsewhere, and the server did not tell what it read"
                             : "its trace was erased together with the pack that it was read from");
        *err = (ph_error){0};
        return PH_OK;
    }
    if (!code) code = answer_trace_unpack(&v->trace, blob, len, err);
    free(blob);
    v->has_trace = !code;
    return code ? code : trace_words_make(&v->words, &v->n_words, &v->trace, err);
}

/* Positions mean something only in the pack that was read, under the model that read it. */
static int load_pack(view *v, store *s, engine *e, ph_error *err) {
    if (!v->row.pack)
        snprintf(v->missing, sizeof v->missing, "the pack that it was read from is gone");
    else if (memcmp(engine_key(e), v->row.key, sizeof v->row.key))
        snprintf(v->missing, sizeof v->missing,
                 "it was answered by another model or with other options (by %.200s; now %.200s)",
                 v->row.model, engine_model_name(e));
    if (v->missing[0]) return PH_OK;
    int code = pack_load(&v->pack, s, e, v->row.pack, err);
    v->has_pack = !code;
    if (code != PH_NOT_FOUND) return code;
    snprintf(v->missing, sizeof v->missing, "the pack that it was read from is gone");
    *err = (ph_error){0};
    return PH_OK;
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
    int64_t n = (int64_t)v->pack.prompt.tokens.n;
    for (int64_t bin = 0; bin * v->bin < n; bin++) {
        double sum = 0;
        int64_t end = (bin + 1) * v->bin < n ? (bin + 1) * v->bin : n;
        for (int64_t i = bin * v->bin; i < end; i++) sum += v->mass[i];
        if (sum > 0) json_array_append_new(rows, json_pack("[I, f]", (json_int_t)bin, sum));
    }
    return rows;
}

/* Strip and heaviest sentences of tokens [from, to), into `out`. */
static int add_read(view *v, json_t *out, size_t from, size_t to, ph_error *err) {
    read_sentence *list = NULL;
    size_t n = 0;
    answer_trace_mass(&v->trace, &v->pack, from, to, v->layer, v->mass);
    int code = read_set_make(&list, &n, &v->pack, v->mass, v->sentences, err);
    if (code) return code;
    json_object_set_new(out, "strip", strip_json(v));
    json_object_set_new(out, "read_set", read_set_json(list, n));
    free(list);
    return PH_OK;
}

static int word_json(view *v, size_t number, json_t *rows, ph_error *err) {
    const trace_word *w = &v->words[number];
    char *text = strndup(v->trace.text + w->start, w->end - w->start);
    double sum = 0;
    for (size_t i = w->token_start; i < w->token_end; i++) sum += (double)v->trace.tokens[i].logprob;
    json_t *row =
        json_pack("{s:o, s:I, s:I, s:I, s:I, s:f}", "word", json_text(text), "start", (json_int_t)w->start,
                  "end", (json_int_t)w->end, "first_token", (json_int_t)w->token_start, "end_token",
                  (json_int_t)w->token_end, "probability", isfinite(sum) ? exp(sum) : 0.0);
    free(text);
    if (!row) return ph_fail(err, PH_MEMORY, "no memory for a trace");
    json_array_append_new(rows, row);
    if (!v->has_pack) return PH_OK;
    json_object_set_new(
        row, "on_documents",
        json_real(trace_on_documents(&v->trace, &v->pack, w->token_start, w->token_end, v->layer)));
    return add_read(v, row, w->token_start, w->token_end, err);
}

/* The word's tokens with every kept position. Its "words" are ours already. */
static int add_tokens(view *v, json_t *out, ph_error *err) {
    trace_selection what = {
        .layer = v->layer, .first_word = (size_t)v->word - 1, .end_word = (size_t)v->word};
    json_t *more = json_object();
    int code = trace_json_add(more, &v->trace, v->words, v->has_pack ? &v->pack : NULL, &what, err);
    json_object_set(out, "tokens", json_object_get(more, "tokens"));
    json_object_set(out, "sentences", json_object_get(more, "sentences"));
    json_decref(more);
    return code;
}

static int fill(view *v, json_t *out, ph_error *err) {
    json_t *words = json_array();
    json_object_set_new(out, "words", words);
    if (!v->has_trace) return PH_OK;
    int code = PH_OK;
    if (v->has_pack) {
        size_t n = v->pack.prompt.tokens.n;
        if (!(v->mass = malloc((n + 1) * sizeof *v->mass)))
            return ph_fail(err, PH_MEMORY, "no memory for a trace over %zu tokens", n);
        json_object_set_new(out, "pack", json_integer(v->row.pack));
        json_object_set_new(out, "tokens_in_pack", json_integer((json_int_t)n));
        json_object_set_new(out, "capacity", json_integer(v->capacity));
        json_object_set_new(out, "bin_tokens", json_integer(v->bin));
        json_object_set_new(out, "bins", json_integer((v->capacity + v->bin - 1) / v->bin));
        json_object_set_new(out, "map", map_json(&v->pack));
        code = add_read(v, out, 0, v->trace.n_tokens, err);
    }
    for (size_t i = 0; i < v->n_words && !code; i++)
        if (!v->word || (size_t)v->word == i + 1) code = word_json(v, i, words, err);
    return !code && v->word ? add_tokens(v, out, err) : code;
}

static json_t *head_json(const view *v) {
    json_t *citations = json_array();
    for (size_t i = 0; i < v->row.n_citations; i++)
        json_array_append_new(citations, citation_json(&v->row.citations[i]));
    return json_pack("{s:I, s:o, s:o, s:i, s:o, s:i, s:o}", "answer", (json_int_t)v->row.id, "missing",
                     v->missing[0] ? json_text(v->missing) : json_null(), "evidence",
                     evidence_json(v->has_trace, &v->trace), "layers", v->trace.layers, "layer",
                     v->layer >= 0 ? json_integer(v->layer) : json_null(), "kept_per_layer", v->trace.keep,
                     "citations", citations);
}

static int load(view *v, api_call *c, store *s, engine *e, ph_error *err) {
    int code = store_answer_get(s, c->id, &v->row, err);
    if (!code) code = load_trace(v, s, err);
    if (!code && v->has_trace) code = load_pack(v, s, e, err);
    if (!code && v->has_trace && v->trace.layers && v->layer >= v->trace.layers)
        code = ph_fail(err, PH_NOT_FOUND, "there is no layer %d: the model has layers 0 to %d", v->layer,
                       v->trace.layers - 1);
    if (!code && v->word && (size_t)v->word > v->n_words)
        code = ph_fail(err, PH_NOT_FOUND, "there is no word %d: the answer has %zu", v->word, v->n_words);
    return code;
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
    if (api_may_see(c, c->id))
        api_with_store(c, trace);
    else
        http_reply_error(c->http, 404, NULL, "there is no answer %lld", (long long)c->id);
}
