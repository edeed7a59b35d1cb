/* fuzz_tokenizer.c - any bytes as tokenizer.json, and any bytes as text for what opens.
 *
 * The part after the first 0 byte, if there is one, is the text. Without normalisers and with every piece
 * kept, the tokens must spell the text again. */
#include "engine/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool keeps_text(const tokenizer *t) {
    if (t->n_normalisers || t->shown_differs) return false;
    for (int i = 0; i < t->n_splitters; i++)
        if (t->splitters[i].kind == SPLITTER_PREFIX_SPACE || t->splitters[i].behaviour == SPLIT_REMOVED)
            return false;
    for (int i = 0xF5; i < 256; i++)
        if (t->byte_ids[i] < 0) return false; /* a byte that is no text becomes U+FFFD */
    return t->byte_ids[0xC0] >= 0 && t->byte_ids[0xC1] >= 0;
}

static void encode(const tokenizer *t, const char *text, size_t len, int flags) {
    token_list l = {0};
    ph_error err;
    if (tokenizer_encode(t, text, len, flags, 0, &l, &err)) abort();
    size_t at = 0;
    for (size_t i = 0; i < l.n; i++) {
        size_t n;
        const char *piece = tokenizer_piece(t, l.ids[i], &n);
        if (l.start[i] > len || (i && l.start[i] < l.start[i - 1] && !t->n_normalisers)) abort();
        if ((flags & TOKENIZE_SPECIAL) || !keeps_text(t)) continue;
        if (l.start[i] != at || n > len - at || memcmp(piece, text + at, n)) abort();
        at += n;
    }
    if (!(flags & TOKENIZE_SPECIAL) && keeps_text(t) && at != len) abort();
    token_list_free(&l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char usual[] =
        "hello  world\n\n 123,x--y <|end|>>[L] [R] \xC3\xA9 e\xCC\x81 \xE6\xBC\xA2\xFF\xC0 it's\t\r\n";
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    size_t json = end ? (size_t)(end - data) : size;
    tokenizer *t;
    ph_error err;
    if (tokenizer_open(&t, (const char *)data, json, &err)) return 0;
    const char *text = end ? (const char *)end + 1 : usual;
    size_t len = end ? size - json - 1 : sizeof usual - 1;
    if (len > 4096) len = 4096; /* a pattern of the fuzzer's may be slow, and time is no finding here */
    encode(t, text, len, TOKENIZE_OFFSETS);
    encode(t, text, len, TOKENIZE_OFFSETS | TOKENIZE_SPECIAL);
    tokenizer_close(t);
    return 0;
}
