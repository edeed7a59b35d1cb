/* tokenizer.h - text to token ids and back: byte-level BPE as tokenizer.json describes it.
 *
 * Supported: normalisers (none, Sequence, NFC/NFD/NFKC/NFKD, Lowercase, Replace, Prepend, StripAccents, Strip);
 * pre-tokenizers Sequence, Split (Isolated, Removed, MergedWithPrevious, MergedWithNext, Contiguous; invert), Digits,
 * ByteLevel; model BPE (ignore_merges, byte-level); decoders ByteLevel, Sequence, Fuse, Replace (of a String, before
 * ByteLevel); added tokens.
 * Anything else in the file is refused by name, and so are the parts of its patterns' dialect (Oniguruma) that PCRE2
 * cannot follow. Encoding follows the Hugging Face tokenizers library id for id.
 *
 * Encoding is linear in the text. Two limits see to it, both of 64 KiB (TOKENIZER_MAX_RUN): a longer run of whitespace
 * is split as if the text ended every 64 KiB, and a longer word is merged in parts of 64 KiB. Text without such runs
 * is not affected; with them, ids can differ from the library's at the cuts, and no byte is lost. A pattern that
 * backtracks too long for one match is cut off in the same way.
 *
 * A byte that is no UTF-8 is a piece of its own, encoded as that byte, and decodes to itself; a byte that no UTF-8
 * text has (C0, C1, F5-FF) and that the vocabulary lacks becomes U+FFFD. A vocabulary without one of the other bytes
 * is refused, since text would be lost. Where a normaliser changes the text, starts are those of the characters a
 * token came from, as near as the change lets them be told.
 * A tokenizer is immutable after opening: any number of threads may use one.
 */
#ifndef PHAROS_TOKENIZER_H
#define PHAROS_TOKENIZER_H

#include "kernels/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct tokenizer tokenizer;

/* Growing arrays: `ids` and, where asked for, the byte in the input at which each token starts. Zero-initialise;
 * free with token_list_free. */
typedef struct token_list {
    int32_t *ids;
    uint64_t *start; /* NULL unless TOKENIZE_OFFSETS; in bytes of the input of this call (plus offset_base) */
    size_t n, capacity;
} token_list;

void token_list_free(token_list *l);

enum {
    TOKENIZE_SPECIAL = 1, /* added tokens in the text are recognised; without it they are plain text, always */
    TOKENIZE_OFFSETS = 2,
};

int tokenizer_open(tokenizer **out, const char *json, size_t len, ph_error *err); /* text borrowed for the call */
int tokenizer_load(tokenizer **out, const char *dir, ph_error *err);              /* DIR/tokenizer.json */
void tokenizer_close(tokenizer *t);

/* Appends the tokens of text[len] to l. offset_base is added to each start. */
int tokenizer_encode(const tokenizer *t, const char *text, size_t len, int flags, uint64_t offset_base, token_list *l,
                     ph_error *err);

/* Appends one id to l (for special tokens). */
int token_list_push(token_list *l, int32_t id, uint64_t start, bool offsets, ph_error *err);

int tokenizer_vocab(const tokenizer *t);                              /* number of ids: highest id + 1 */
int32_t tokenizer_id(const tokenizer *t, const char *token);          /* as the file spells it; -1 = none */
bool tokenizer_is_special(const tokenizer *t, int32_t id);

/* The bytes of one token as text: borrowed, not NUL-terminated, *len filled. A token may end inside a UTF-8
 * sequence. Unknown id: *len = 0. */
const char *tokenizer_piece(const tokenizer *t, int32_t id, size_t *len);

/* 32 bytes (BLAKE2b-256) that identify the tokenizer.json it was opened from. */
const uint8_t *tokenizer_hash(const tokenizer *t);

#endif
