/* trace_view.h - a stored answer with what is left to show it by: its traces by words, and the pack that was
 * read. */
#ifndef PHAROS_TRACE_VIEW_H
#define PHAROS_TRACE_VIEW_H

#include "appliance/trace_words.h"

/* A trace and its words. */
typedef struct traced_text {
    answer_trace trace;
    trace_word *words;
    size_t n_words;
} traced_text;

/* Zero-initialise; free with trace_view_free. */
typedef struct trace_view {
    store_answer row;
    traced_text answer, thought; /* the thought may be empty */
    bool has_trace, has_pack;
    loaded_pack pack;
    char missing[600]; /* why there is no trace or no pack; "" */
} trace_view;

/* An answer (0 = the latest) and its traces. Where the trace is gone, `missing` says why. */
int trace_view_load(trace_view *v, store *s, int64_t answer, ph_error *err);
/* PH_NOT_FOUND where a layer (-1 = all) or a word of the answer (from 1; 0 = all) is asked for that there is
 * not. */
int trace_view_check(const trace_view *v, int layer, size_t word, ph_error *err);
/* The pack that was read. Positions mean something only there, under the model that read it: where that
 * cannot be had again, `missing` says why. */
int trace_view_pack(trace_view *v, store *s, engine *e, ph_error *err);
void trace_view_free(trace_view *v);

#endif
