/* charset.h - bytes in any charset to UTF-8. */
#ifndef PHAROS_INGEST_CHARSET_H
#define PHAROS_INGEST_CHARSET_H

#include "kernels/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct decoded_text {
    const uint8_t *bytes; /* UTF-8, possibly with invalid sequences (the sink replaces and counts them) */
    size_t n;
    uint8_t *owned;    /* what bytes points into, or NULL when it points into the input */
    bool same;         /* bytes are the input's own: offsets are source offsets */
    uint64_t replaced; /* input bytes that the charset does not define, already U+FFFD */
    char charset[64];
} decoded_text;

/* Decodes by byte order mark, strict UTF-8, the pattern of UTF-16 and UTF-32, `declared` (may be NULL: what
 * the document itself claims), mostly UTF-8, uchardet, and windows-1252 when nothing else is left. */
int charset_decode(decoded_text *out, const uint8_t *bytes, size_t n, const char *declared,
                   uint64_t max_bytes, ph_error *err);
/* Decodes as what is known from outside; windows-1252 when that is no charset. */
int charset_decode_as(decoded_text *out, const uint8_t *bytes, size_t n, const char *name, uint64_t max_bytes,
                      ph_error *err);
void decoded_text_free(decoded_text *d);

/* True when the bytes are no text in any charset: NUL bytes outside UTF-16 and UTF-32, or many control
 * characters. Looks at the first megabyte and, for NUL, at everything. */
bool charset_is_binary(const uint8_t *bytes, size_t n);

/* True when all of it is valid UTF-8. */
bool charset_is_utf8(const uint8_t *bytes, size_t n);

#endif
