/* hand_pack.h - a loaded pack made by hand, for tests of what stands above the engine: its tokens are words
 * with the space before them, as a trained tokenizer would cut them, and no engine is needed. */
#ifndef PHAROS_HAND_PACK_H
#define PHAROS_HAND_PACK_H

#include "appliance/library.h"

/* A part of a document's text: all of it where end is 0. */
typedef struct hand_text {
    int64_t document;
    const char *name, *text;
    size_t start, end;
} hand_text;

enum { HAND_HEADER = 3, HAND_FOOTER = 2 }; /* tokens around each text; two more stand before all */

/* Free with pack_unload. */
void hand_pack_make(loaded_pack *out, const hand_text *texts, size_t n);

/* The token that the nth occurrence (from 0) of `word` in text t begins in. Aborts when there is none. */
int64_t hand_token(const loaded_pack *p, size_t t, const char *word, int nth);

#endif
