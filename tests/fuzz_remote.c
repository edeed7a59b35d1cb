/* fuzz_remote.c - any bytes as a model server's stream: the first byte says how it is cut into pieces; what is
 * lifted out goes to the decoder of selections. The pieces must not change what comes of it, nothing may be read
 * or written beside its place, and a row that is handed out must keep to its promises. */
#include "engine/remote_selection.h"
#include "engine/remote_stream.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct outcome {
    uint64_t events, hash, lifted;
    selection selection;
} outcome;

static void mix(outcome *o, const char *bytes, size_t n) {
    for (size_t i = 0; i < n; i++) o->hash = (o->hash ^ (uint8_t)bytes[i]) * UINT64_C(1099511628211);
}

static int hear(void *user, const char *data, size_t len, ph_error *err) {
    outcome *o = user;
    (void)err;
    if (data[len]) abort();
    o->events++;
    mix(o, data, len);
    return 0;
}

static void lift(void *user, const char *bytes, size_t n) {
    outcome *o = user;
    o->lifted += n;
    selection_put(&o->selection, bytes, n);
}

static int run(outcome *o, const uint8_t *data, size_t size, size_t piece) {
    event_stream s = {.event = hear, .lift = lift, .lifted = "indexer_topk", .user = o, .most = 1 << 16};
    *o = (outcome){0};
    if (selection_open(&o->selection, 64, NULL)) abort();
    int code = 0;
    for (size_t at = 0; at < size && !code; at += piece)
        code = event_stream_put(&s, (const char *)data + at, piece < size - at ? piece : size - at, NULL);
    if (s.len > s.most) abort();
    event_stream_free(&s);
    return code;
}

static void look(const selection *s, int64_t rows, int k) {
    int layers, count;
    int32_t position[16];
    if (selection_check(s, rows, k, 8, &layers, NULL)) return;
    if ((uint64_t)rows * (uint64_t)layers * (uint64_t)k != s->total) abort();
    for (int64_t r = 0; r < rows && r < 64; r++)
        for (int l = 0; l < layers; l++) {
            if (selection_row(s, r, l, layers, k, position, &count, NULL)) continue;
            if (count < 0 || count > k) abort();
            for (int i = 0; i < count; i++)
                if (position[i] < 0 || position[i] > r || (i && position[i] <= position[i - 1])) abort();
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    outcome whole, cut;
    size_t piece = data[0] % 17 + 1;
    int k = data[1] % 4 + 1;
    int a = run(&whole, data + 2, size - 2, size), b = run(&cut, data + 2, size - 2, piece);
    if (a != b || whole.events != cut.events || whole.hash != cut.hash || whole.lifted != cut.lifted ||
        whole.selection.total != cut.selection.total || whole.selection.bad != cut.selection.bad)
        abort();
    for (int64_t rows = 0; rows < 6; rows++) look(&cut.selection, rows, k);
    selection_free(&whole.selection);
    selection_free(&cut.selection);
    return 0;
}
