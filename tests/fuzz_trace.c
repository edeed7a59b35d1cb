/* fuzz_trace.c - any bytes as a stored trace: refused, or it says the same when stored again and can be
 * shown. */
#include "appliance/trace_json.h"
#include "tests/hand_pack.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void show(const answer_trace *t, const loaded_pack *p) {
    double *mass = malloc((p->prompt.tokens.n + 1) * sizeof *mass);
    read_sentence *list = NULL;
    size_t n = 0;
    if (!mass) abort();
    answer_trace_mass(t, p, 0, t->n_tokens, -1, mass);
    for (size_t i = 0; i < p->prompt.tokens.n; i++)
        if (!(mass[i] >= 0 && mass[i] <= 1.0001)) abort();
    if (read_set_make(&list, &n, p, mass, 5, NULL)) abort();
    for (size_t i = 0; i < n; i++)
        if (!isfinite(list[i].lift)) abort();
    free(list);
    free(mass);
}

static void write_out(const answer_trace *t, const loaded_pack *p) {
    trace_word *words = NULL;
    size_t n = 0;
    if (trace_words_make(&words, &n, t, NULL)) abort();
    for (size_t i = 0; i < n; i++)
        if (words[i].start > words[i].end || words[i].end > t->text_len) abort();
    json_t *out = json_object();
    trace_selection what = {.layer = -1, .end_word = n};
    if (trace_json_add(out, t, words, p, &what, NULL)) abort();
    if (json_array_size(json_object_get(out, "tokens")) != t->n_tokens) abort();
    json_decref(out);
    free(words);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    answer_trace t, thought;
    ph_error err;
    if (answer_traces_unpack(&t, &thought, data, size, &err)) return 0;
    void *again;
    size_t len;
    if (answer_traces_pack(&t, &thought, &again, &len, &err)) abort();
    if (len != size || memcmp(again, data, size)) abort();
    free(again);
    loaded_pack p;
    hand_pack_make(
        &p,
        (hand_text[]){{1, "one", "The tower stood on an island. It was tall.\nShips saw it.", 0, 0},
                      {2, "two", "A library stood near. It held scrolls.", 0, 20}},
        2);
    show(&t, &p);
    show(&thought, &p);
    /* JSON of a large trace is slow, and no different. */
    if (size < 1 << 16) {
        write_out(&t, &p);
        write_out(&thought, &p);
    }
    pack_unload(&p);
    answer_trace_free(&t);
    answer_trace_free(&thought);
    return 0;
}
