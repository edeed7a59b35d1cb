/* trace_view.c - loads what trace_view.h promises. */
#include "appliance/trace_view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int add_words(traced_text *t, ph_error *err) {
    return trace_words_make(&t->words, &t->n_words, &t->trace, err);
}

int trace_view_load(trace_view *v, store *s, int64_t answer, ph_error *err) {
    void *blob = NULL;
    size_t len = 0;
    int code = store_answer_get(s, answer, &v->row, err);
    if (code) return code;
    code = store_answer_trace(s, v->row.id, &blob, &len, err);
    if (code == PH_NOT_FOUND) {
        snprintf(v->missing, sizeof v->missing, "%s",
                 v->row.pack ? "the model was served elsewhere, and the server did not tell what it read"
                             : "its trace was erased together with the pack that it was read from");
        *err = (ph_error){0};
        return PH_OK;
    }
    if (!code) code = answer_traces_unpack(&v->answer.trace, &v->thought.trace, blob, len, err);
    free(blob);
    v->has_trace = !code;
    if (!code) code = add_words(&v->answer, err);
    return code ? code : add_words(&v->thought, err);
}

int trace_view_check(const trace_view *v, int layer, size_t word, ph_error *err) {
    int layers = v->answer.trace.layers;
    if (layers && layer >= layers)
        return ph_fail(err, PH_NOT_FOUND, "there is no layer %d: the model has layers 0 to %d", layer,
                       layers - 1);
    if (word > v->answer.n_words)
        return ph_fail(err, PH_NOT_FOUND, "there is no word %zu: the answer has %zu", word,
                       v->answer.n_words);
    return PH_OK;
}

static int gone(trace_view *v) {
    snprintf(v->missing, sizeof v->missing, "the pack that it was read from is gone");
    return PH_OK;
}

int trace_view_pack(trace_view *v, store *s, engine *e, ph_error *err) {
    if (!v->row.pack) return gone(v);
    if (memcmp(engine_key(e), v->row.key, sizeof v->row.key)) {
        bool same = !strcmp(v->row.model, engine_model_name(e));
        snprintf(v->missing, sizeof v->missing,
                 "it was answered by %s%.200s, or with another top-k, backend or --dense",
                 same ? "another version of " : "", v->row.model);
        return PH_OK;
    }
    int code = pack_load(&v->pack, s, e, v->row.pack, err);
    v->has_pack = !code;
    if (code != PH_NOT_FOUND) return code;
    *err = (ph_error){0};
    return gone(v);
}

static void text_free(traced_text *t) {
    answer_trace_free(&t->trace);
    free(t->words);
}

void trace_view_free(trace_view *v) {
    store_answer_free(&v->row);
    text_free(&v->answer);
    text_free(&v->thought);
    if (v->has_pack) pack_unload(&v->pack);
    memset(v, 0, sizeof *v);
}
