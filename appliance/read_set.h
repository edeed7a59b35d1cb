/* read_set.h - the trace of an answer: what its words' attention selected, mapped onto sentences.
 *
 * A trace proves which cache slots a step could read directly. Later slots already mix earlier text, so what
 * is shown is called a read set: sentences ranked by attention mass, with the lift over a random stretch of
 * the same length.
 */
#ifndef PHAROS_READ_SET_H
#define PHAROS_READ_SET_H

#include "appliance/library.h"

enum { TRACE_KEEP = 64 }; /* positions kept for each token and layer: the ones with the most mass */

typedef struct trace_entry {
    int32_t position;
    float score, mass; /* score NAN where the layer reused a selection */
} trace_entry;

typedef struct trace_token {
    int32_t id;
    float logprob;
    uint32_t piece_start, piece_len; /* bytes of answer_trace.text */
} trace_token;

/* Zero-initialise; free with answer_trace_free. */
typedef struct answer_trace {
    int layers, keep;     /* keep: entries a token and layer; TRACE_KEEP, or top-k for a full trace */
    trace_token *tokens;  /* [n_tokens] */
    int32_t *selected;    /* [n_tokens, layers] how many positions were selected */
    trace_entry *entries; /* [n_tokens, layers, keep] by falling mass; position -1 where there are fewer */
    size_t n_tokens, capacity;
    bool selection_only; /* a mass is an equal share of what was selected: a served model does not tell
                            attention */
    char *text;          /* the pieces one after another: the answer's bytes */
    size_t text_len, text_capacity;
} answer_trace;

/* Adds a generated token (engine.h). layers must not change. */
int answer_trace_add(answer_trace *t, const generate_step *step, int keep, ph_error *err);
/* What was selected for token step->index, told late: the tokens were added without layers. Of equal shares
 * those positions are kept that most layers selected. PH_CORRUPT where there is no such token. */
int answer_trace_late(answer_trace *t, const generate_step *step, int keep, ph_error *err);
/* Takes back what was written from byte `len` of the text on; a word that begins before it is shortened. */
void answer_trace_cut(answer_trace *t, size_t len);
void answer_trace_free(answer_trace *t);

/* As one blob for the store, and back (checked: the blob is not trusted). *blob owned by the caller. */
int answer_trace_pack(const answer_trace *t, void **blob, size_t *len, ph_error *err);
int answer_trace_unpack(answer_trace *t, const void *blob, size_t len, ph_error *err);

/* The traces of an answer and of the thought before it, which may be empty: then the blob is the answer's. */
int answer_traces_pack(const answer_trace *answer, const answer_trace *thought, void **blob, size_t *len,
                       ph_error *err);
int answer_traces_unpack(answer_trace *answer, answer_trace *thought, const void *blob, size_t len,
                         ph_error *err);

/* Attention mass of prompt positions, summed over tokens [from, to) and one layer (-1 = all), as shares of
 * what fell on the documents' text: the sum over text positions is 1 (or 0 when nothing did). mass[n_prompt]
 * filled. */
void answer_trace_mass(const answer_trace *t, const loaded_pack *p, size_t from, size_t to, int layer,
                       double *mass);
/* The same over all tokens of an answer and of the thought before it. */
void answer_traces_mass(const answer_trace *answer, const answer_trace *thought, const loaded_pack *p,
                        int layer, double *mass);

typedef struct read_sentence {
    const pack_text *text; /* borrowed from the pack */
    size_t start, end;     /* bytes of its text */
    double mass, lift;
} read_sentence;

/* Sentences by falling mass, at most `limit`. *out owned by the caller. mass as answer_trace_mass filled it.
 */
int read_set_make(read_sentence **out, size_t *n, const loaded_pack *p, const double *mass, size_t limit,
                  ph_error *err);

/* Mass of a stretch of text, and its lift: mass over the share of all text tokens that the stretch has. */
double read_set_span(const loaded_pack *p, const pack_text *t, size_t start, size_t end, const double *mass,
                     double *lift);

#endif
