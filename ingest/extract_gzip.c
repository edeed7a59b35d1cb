/* extract_gzip.c - a compressed text, as Debian ships its documents: unpacked in memory, then read as what it
 * is. */
#include "ingest/extract.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define PIECE_BYTES ((size_t)1 << 18)

/* One gzip member after another into a growing buffer. */
static uint8_t *unpack(const uint8_t *bytes, size_t n, size_t *out_n, text_sink *s) {
    uint8_t *out = NULL;
    size_t capacity = 0, length = 0, at = 0;
    z_stream z = {0};
    if (inflateInit2(&z, 15 + 16) != Z_OK) {
        sink_fail(s, PH_MEMORY, "out of memory: a gzip reader");
        return NULL;
    }
    int rc = Z_OK;
    /* Text in another charset may shrink when decoded, so that the bytes may be a few times the text. */
    uint64_t max = s->max_text < UINT64_MAX / 4 ? s->max_text * 4 : UINT64_MAX;
    while (!s->error.code) {
        if (capacity - length < PIECE_BYTES) {
            size_t want = capacity ? capacity * 2 : 4 * PIECE_BYTES;
            uint8_t *grown = realloc(out, want);
            if (!grown) {
                sink_fail(s, PH_MEMORY, "out of memory: %zu bytes unpacked from gzip", want);
                break;
            }
            out = grown;
            capacity = want;
        }
        size_t feed = n - at < PIECE_BYTES ? n - at : PIECE_BYTES;
        z.next_in = (Bytef *)(uintptr_t)(bytes + at);
        z.avail_in = (uInt)feed;
        z.next_out = out + length;
        z.avail_out = (uInt)PIECE_BYTES;
        rc = inflate(&z, Z_NO_FLUSH);
        at += feed - z.avail_in;
        length += PIECE_BYTES - z.avail_out;
        if (length > max) {
            sink_fail(s, PH_TOO_LARGE, "it unpacks to more than %llu bytes (%zu of them from %zu)",
                      (unsigned long long)max, length, at);
        } else if (rc == Z_STREAM_END) {
            if (n - at < 2 || bytes[at] != 0x1F || bytes[at + 1] != 0x8B)
                break; /* trailing zeros are common */
            inflateReset2(&z, 15 + 16);
        } else if (rc != Z_OK && rc != Z_BUF_ERROR) {
            sink_fail(s, rc == Z_MEM_ERROR ? PH_MEMORY : PH_CORRUPT, "damaged gzip data (%s)",
                      z.msg ? z.msg : "cut");
        } else if (at == n && z.avail_out) {
            sink_fail(s, PH_CORRUPT, "gzip data that ends early");
        }
    }
    inflateEnd(&z);
    if (s->error.code) {
        free(out);
        return NULL;
    }
    *out_n = length;
    return out;
}

int extract_gzip(const uint8_t *bytes, size_t n, const char *extension, text_sink *s) {
    size_t length = 0;
    uint8_t *inner = unpack(bytes, n, &length, s);
    if (!inner) return s->error.code;
    sniffed what;
    sniff(&what, inner, length, "");
    if (what.kind == KIND_TEXT || what.kind == KIND_MARKDOWN || what.kind == KIND_HTML) {
        /* Offsets into what was unpacked are none of the file's. */
        s->no_source = true;
        extract_any(inner, length, "", s);
    } else if (length == 0) {
        sink_fail(s, PH_UNSUPPORTED, "it is empty");
    } else {
        sink_fail(s, PH_UNSUPPORTED, "%s inside gzip is not read", what.media_type);
    }
    free(inner);
    return s->error.code;
}
