/* bytes.c - what goes into a column and what comes out of it: zstd blobs and clean UTF-8. */
#include "store/internal.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

/* Length of the character at p (n bytes are left), or 0 where there is none. */
static size_t character(const unsigned char *p, size_t n) {
    if (p[0] < 0x80) return 1;
    size_t len = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
    if (p[0] < 0xC2 || p[0] > 0xF4 || n < len) return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xC0) != 0x80) return 0;
    /* Overlong forms, surrogates, and beyond U+10FFFF. */
    if ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F) || (p[0] == 0xF0 && p[1] < 0x90) ||
        (p[0] == 0xF4 && p[1] > 0x8F))
        return 0;
    return len;
}

int clean_utf8(char **out, const char *text, size_t limit, const char *what, ph_error *err) {
    *out = NULL;
    if (!text) text = "";
    size_t n = strlen(text), bad = 0;
    if (n > limit)
        return ph_fail(err, PH_TOO_LARGE, "%s has %zu bytes; at most %zu can be kept", what, n, limit);
    const unsigned char *p = (const unsigned char *)text;
    for (size_t i = 0, len; i < n; i += len ? len : 1) bad += (len = character(p + i, n - i)) == 0;
    char *clean = malloc(n + 2 * bad + 1), *to = clean;
    if (!clean) return ph_no_memory(err, n + 2 * bad + 1);
    for (size_t i = 0; i < n;) {
        size_t len = character(p + i, n - i);
        memcpy(to, len ? text + i : "\xEF\xBF\xBD", len ? len : 3);
        to += len ? len : 3;
        i += len ? len : 1;
    }
    *to = 0;
    *out = clean;
    return PH_OK;
}

int blob_pack(void **out, size_t *packed, const void *data, size_t n, ph_error *err) {
    *out = NULL;
    size_t room = ZSTD_compressBound(n);
    ZSTD_CCtx *context = ZSTD_createCCtx();
    void *blob = malloc(room);
    if (!context || !blob) {
        ZSTD_freeCCtx(context);
        free(blob);
        return ph_no_memory(err, room);
    }
    ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, 3);
    ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag,
                           1); /* a flipped bit on disk is seen, not answered from */
    size_t size = ZSTD_compress2(context, blob, room, data, n);
    ZSTD_freeCCtx(context);
    if (ZSTD_isError(size)) {
        free(blob);
        return ph_fail(err, PH_FAIL, "compression failed: %s", ZSTD_getErrorName(size));
    }
    *out = blob;
    *packed = size;
    return PH_OK;
}

int blob_unpack(void **out, uint64_t expect, const void *data, size_t n, ph_error *err) {
    *out = NULL;
    if (expect > STORE_MAX_BLOB)
        return ph_fail(err, PH_CORRUPT, "a stored blob claims %llu bytes", (unsigned long long)expect);
    if (!data || ZSTD_getFrameContentSize(data, n) != expect)
        return ph_fail(err, PH_CORRUPT, "a stored blob does not hold the %llu bytes that it should",
                       (unsigned long long)expect);
    char *bytes = malloc(expect + 1);
    if (!bytes) return ph_no_memory(err, expect + 1);
    size_t got = ZSTD_decompress(bytes, expect, data, n);
    if (ZSTD_isError(got) || got != expect) {
        free(bytes);
        return ph_fail(err, PH_CORRUPT, "a stored blob cannot be decompressed: %s",
                       ZSTD_isError(got) ? ZSTD_getErrorName(got) : "too short");
    }
    bytes[expect] = 0;
    *out = bytes;
    return PH_OK;
}
