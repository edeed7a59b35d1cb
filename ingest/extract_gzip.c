/* extract_gzip.c - a compressed document, as Debian ships them: unpacked in memory, then read as what it is.
 * A PDF is none of its cases: child.c knows of it before. */
#include "ingest/extract.h"
#include "ingest/unpack.h"

#include <stdlib.h>
#include <string.h>

typedef struct growing {
    uint8_t *bytes;
    size_t n, capacity;
    uint64_t most, packed;
    bool bomb; /* what `most` stands for: too many times the packed bytes, or too many */
    text_sink *sink;
} growing;

static int grow(void *user, const void *bytes, size_t n) {
    growing *g = user;
    if (g->n + n > g->most && g->bomb)
        return sink_fail(g->sink, PH_TOO_LARGE, "it unpacks to more than 200 times its %llu bytes (a gzip bomb?)",
                         (unsigned long long)g->packed);
    if (g->n + n > g->most)
        return sink_fail(g->sink, PH_TOO_LARGE, "it unpacks to more than %llu bytes",
                         (unsigned long long)g->most);
    if (g->n + n > g->capacity) {
        size_t want = (g->n + n) * 2;
        uint8_t *grown = realloc(g->bytes, want);
        if (!grown) return sink_fail(g->sink, PH_MEMORY, "out of memory: %zu bytes unpacked from gzip", want);
        g->bytes = grown;
        g->capacity = want;
    }
    memcpy(g->bytes + g->n, bytes, n);
    g->n += n;
    return PH_OK;
}

static void read_inner(const growing *g, text_sink *s) {
    sniffed what;
    sniff(&what, g->bytes, g->n, "");
    /* One layer: a bomb of many would be small at each. */
    if (what.kind == KIND_GZIP || what.kind == KIND_BINARY || what.kind == KIND_PDF) {
        sink_fail(s, PH_UNSUPPORTED, "%s inside gzip is not read", what.media_type);
        return;
    }
    /* Offsets into what was unpacked are none of the file's. */
    s->no_source = true;
    extract_any(g->bytes, g->n, "", s);
}

int extract_gzip(const uint8_t *bytes, size_t n, const char *extension, text_sink *s) {
    /* Text in another charset may shrink when decoded, so that the bytes may be a few times the text. */
    growing g = {.most = s->max_text < UINT64_MAX / 4 ? s->max_text * 4 : UINT64_MAX, .packed = n, .sink = s};
    /* As for office files (zip_parts.c): text shrinks to a tenth, a bomb to a thousandth. */
    uint64_t honest = ((uint64_t)64 << 20) + 200 * (uint64_t)n;
    if (honest < g.most) {
        g.most = honest;
        g.bomb = true;
    }
    ph_error err = {0};
    (void)extension;
    int code = unpack_gzip(bytes, n, grow, &g, &err);
    if (code && !s->error.code)
        sink_fail(s, code, "%s", err.text);
    else if (!code && g.n == 0)
        sink_fail(s, PH_UNSUPPORTED, "it is empty");
    else if (!code)
        read_inner(&g, s);
    free(g.bytes);
    return s->error.code;
}
