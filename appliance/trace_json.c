/* trace_json.c - writes a trace out (trace_json.h). */
#include "appliance/trace_json.h"

#include "appliance/show.h"
#include "ingest/sentences.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A sentence that some kept position stands in. */
typedef struct place {
    const pack_text *text; /* NULL: the position is none of a text's */
    size_t start, end;
} place;

typedef struct writer {
    const answer_trace *trace;
    const loaded_pack *pack; /* NULL = gone */
    const trace_selection *what;
    place *sentences; /* ascending, each once */
    size_t n_sentences;
} writer;

static int by_place(const void *a, const void *b) {
    const place *x = a, *y = b;
    if (x->text != y->text) return x->text < y->text ? -1 : 1;
    return (x->start > y->start) - (x->start < y->start);
}

static place place_of(const loaded_pack *p, int32_t position, size_t *byte) {
    place none = {0};
    const pack_text *t = position < (int64_t)p->prompt.tokens.n ? pack_text_at(p, position, byte) : NULL;
    if (!t) return none;
    text_span s = sentence_at(t->text, t->len, *byte);
    return (place){t, s.start, s.end};
}

static const trace_entry *entries_of(const answer_trace *t, size_t token, int layer) {
    return t->entries + (token * (size_t)t->layers + (size_t)layer) * (size_t)t->keep;
}

static bool wanted(const writer *w, int layer) {
    return w->what->layer < 0 || w->what->layer == layer;
}

/* First pass: every sentence that is going to be named, so that each is written once. */
static int collect(writer *w, size_t from, size_t to, ph_error *err) {
    const answer_trace *t = w->trace;
    size_t rows = (to - from) * (size_t)t->layers, n = 0;
    w->sentences = malloc((rows * (size_t)t->keep + 1) * sizeof *w->sentences);
    if (!w->sentences) return ph_fail(err, PH_MEMORY, "no memory for the sentences of a trace");
    for (size_t i = from; i < to; i++) {
        for (int l = 0; l < t->layers; l++) {
            const trace_entry *e = entries_of(t, i, l);
            for (int j = 0; wanted(w, l) && j < t->keep && e[j].position >= 0; j++) {
                size_t byte;
                place here = place_of(w->pack, e[j].position, &byte);
                if (here.text) w->sentences[n++] = here;
            }
        }
    }
    qsort(w->sentences, n, sizeof *w->sentences, by_place);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || by_place(&w->sentences[i], &w->sentences[i - 1]))
            w->sentences[w->n_sentences++] = w->sentences[i];
    return PH_OK;
}

static json_t *sentence_json(const place *s) {
    char *text = strndup(s->text->text + s->start, s->end - s->start);
    json_t *row = json_pack("{s:o, s:I, s:I, s:I, s:o}", "document", json_text(s->text->name), "document_id",
                            (json_int_t)s->text->document, "start", (json_int_t)s->start, "end",
                            (json_int_t)s->end, "text", json_text(text));
    free(text);
    return row;
}

static json_t *entry_json(const writer *w, const trace_entry *e) {
    json_t *row =
        json_pack("{s:i, s:o, s:f}", "position", (int)e->position, "score",
                  isfinite(e->score) ? json_real((double)e->score) : json_null(), "mass", (double)e->mass);
    size_t byte;
    place here = w->pack ? place_of(w->pack, e->position, &byte) : (place){0};
    if (!here.text) return row;
    const place *known = bsearch(&here, w->sentences, w->n_sentences, sizeof *w->sentences, by_place);
    json_object_set_new(row, "document_id", json_integer(here.text->document));
    json_object_set_new(row, "byte", json_integer((json_int_t)byte));
    if (known) json_object_set_new(row, "sentence", json_integer(known - w->sentences));
    return row;
}

static json_t *layer_json(const writer *w, size_t token, int layer) {
    const answer_trace *t = w->trace;
    const trace_entry *e = entries_of(t, token, layer);
    json_t *kept = json_array();
    for (int j = 0; j < t->keep && e[j].position >= 0; j++) json_array_append_new(kept, entry_json(w, &e[j]));
    return json_pack("{s:i, s:i, s:o}", "layer", layer, "selected",
                     (int)t->selected[token * (size_t)t->layers + (size_t)layer], "kept", kept);
}

static json_t *token_json(const writer *w, size_t token, size_t word) {
    const answer_trace *t = w->trace;
    const trace_token *k = &t->tokens[token];
    char *piece = strndup(t->text + k->piece_start, k->piece_len);
    json_t *layers = json_array();
    for (int l = 0; l < t->layers; l++)
        if (wanted(w, l)) json_array_append_new(layers, layer_json(w, token, l));
    json_t *row = json_pack(
        "{s:i, s:o, s:I, s:I, s:f, s:I, s:o}", "id", (int)k->id, "piece", json_text(piece), "start",
        (json_int_t)k->piece_start, "end", (json_int_t)k->piece_start + k->piece_len, "logprob",
        isfinite(k->logprob) ? (double)k->logprob : -1e30, "word", (json_int_t)word + 1, "layers", layers);
    free(piece);
    return row;
}

static int word_json(json_t **out, const writer *w, const trace_word *word, double *mass, ph_error *err) {
    char *text = strndup(w->trace->text + word->start, word->end - word->start);
    *out = json_pack("{s:o, s:I, s:I, s:I, s:I}", "word", json_text(text), "start", (json_int_t)word->start,
                     "end", (json_int_t)word->end, "first_token", (json_int_t)word->token_start, "end_token",
                     (json_int_t)word->token_end);
    free(text);
    if (!w->pack) return PH_OK;
    read_sentence *list = NULL;
    size_t n = 0;
    answer_trace_mass(w->trace, w->pack, word->token_start, word->token_end, w->what->layer, mass);
    int code = read_set_make(&list, &n, w->pack, mass, SIZE_MAX, err);
    if (code) return code;
    json_object_set_new(
        *out, "on_documents",
        json_real(trace_on_documents(w->trace, w->pack, word->token_start, word->token_end, w->what->layer)));
    json_object_set_new(*out, "read_set", read_set_json(list, n));
    free(list);
    return PH_OK;
}

int trace_json_add(json_t *out, const answer_trace *t, const trace_word *words, const loaded_pack *p,
                   const trace_selection *what, ph_error *err) {
    writer w = {.trace = t, .pack = p, .what = what};
    json_t *word_rows = json_array(), *token_rows = json_array(), *sentence_rows = json_array();
    bool any = what->end_word > what->first_word;
    size_t from = any ? words[what->first_word].token_start : 0;
    size_t to = any ? words[what->end_word - 1].token_end : 0;
    double *mass = p ? malloc((p->prompt.tokens.n + 1) * sizeof *mass) : NULL;
    int code = p && !mass
                   ? ph_fail(err, PH_MEMORY, "no memory for a trace over %zu tokens", p->prompt.tokens.n)
                   : PH_OK;
    if (!code && p) code = collect(&w, from, to, err);
    for (size_t i = what->first_word; i < what->end_word && !code; i++) {
        json_t *row = NULL;
        code = word_json(&row, &w, &words[i], mass, err);
        json_array_append_new(word_rows, row);
        for (size_t k = words[i].token_start; k < words[i].token_end && !code; k++)
            json_array_append_new(token_rows, token_json(&w, k, i));
    }
    for (size_t i = 0; i < w.n_sentences && !code; i++)
        json_array_append_new(sentence_rows, sentence_json(&w.sentences[i]));
    json_object_set_new(out, "words", word_rows);
    json_object_set_new(out, "tokens", token_rows);
    json_object_set_new(out, "sentences", sentence_rows);
    free(w.sentences);
    free(mass);
    return code;
}
