/* segments_codec.c - a document's segments as one blob, because a million rows of a table would cost a
 * hundred bytes each and a long PDF has that many.
 *
 *     byte 1                        the format's number
 *     varint n                      segments
 *     n times:
 *         varint start - end of the one before        (they ascend and do not overlap)
 *         varint end - start
 *         varint zigzag(page - page before)
 *         varint zigzag(src_start - src_end before)   (modulo 2^64)
 *         varint src_end - src_start
 *         varint n_rects, then n_rects * 4 floats, little-endian
 *
 * Varints are LEB128, at most 10 bytes. The decoder trusts nothing: it is a fuzz target. */
#include "store/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FORMAT = 1, MAX_VARINT = 10, MIN_SEGMENT = 6, RECT_BYTES = 16 };

static uint8_t *put(uint8_t *p, uint64_t v) {
    for (; v >= 0x80; v >>= 7) *p++ = (uint8_t)(v | 0x80);
    *p++ = (uint8_t)v;
    return p;
}

static uint64_t zigzag(uint64_t difference) {
    return difference << 1 ^ (difference >> 63 ? UINT64_MAX : 0);
}
static uint64_t unzigzag(uint64_t v) {
    return v >> 1 ^ (v & 1 ? UINT64_MAX : 0);
}

int segments_encode(uint8_t **out, size_t *size, const store_segment *segments, size_t n, uint64_t text_bytes,
                    ph_error *err) {
    *out = NULL;
    uint64_t room = 1 + MAX_VARINT, end = 0;
    for (size_t i = 0; i < n; i++) {
        const store_segment *g = &segments[i];
        if (g->start < end || g->end < g->start || g->end > text_bytes || g->src_end < g->src_start)
            return ph_fail(err, PH_USAGE, "segment %zu (bytes %llu to %llu of %llu) is out of order or range",
                           i, (unsigned long long)g->start, (unsigned long long)g->end,
                           (unsigned long long)text_bytes);
        for (size_t k = 0; k < (size_t)g->n_rects * 4; k++)
            if (!isfinite(g->rects[k]))
                return ph_fail(err, PH_USAGE, "segment %zu has a rectangle of no size", i);
        end = g->end;
        room += 6 * MAX_VARINT + (uint64_t)g->n_rects * RECT_BYTES;
    }
    if (room > 2 * STORE_MAX_BLOB)
        return ph_fail(err, PH_TOO_LARGE, "%zu segments take %llu bytes; at most %llu can be kept", n,
                       (unsigned long long)room, (unsigned long long)(2 * STORE_MAX_BLOB));
    uint8_t *blob = malloc(room), *p = blob;
    if (!blob) return ph_no_memory(err, room);
    uint64_t page = 0, src_end = 0;
    end = 0;
    *p++ = FORMAT;
    p = put(p, n);
    for (size_t i = 0; i < n; i++) {
        const store_segment *g = &segments[i];
        p = put(p, g->start - end);
        p = put(p, g->end - g->start);
        p = put(p, zigzag(g->page - page));
        p = put(p, zigzag(g->src_start - src_end));
        p = put(p, g->src_end - g->src_start);
        p = put(p, g->n_rects);
        if (g->n_rects)
            memcpy(p, g->rects, (size_t)g->n_rects * RECT_BYTES); /* our machines are little-endian */
        p += (size_t)g->n_rects * RECT_BYTES;
        end = g->end, page = g->page, src_end = g->src_end;
    }
    if ((uint64_t)(p - blob) > STORE_MAX_BLOB) {
        free(blob);
        return ph_fail(err, PH_TOO_LARGE, "%zu segments take more than %llu bytes", n,
                       (unsigned long long)STORE_MAX_BLOB);
    }
    *out = blob;
    *size = (size_t)(p - blob);
    return PH_OK;
}

typedef struct reader {
    const uint8_t *p, *end;
    bool bad;
} reader;

static uint64_t take(reader *r) {
    uint64_t v = 0;
    for (int i = 0; i < MAX_VARINT && r->p < r->end; i++) {
        uint8_t byte = *r->p++;
        if (i == MAX_VARINT - 1 && byte > 1) break; /* beyond 64 bits */
        v |= (uint64_t)(byte & 0x7F) << (7 * i);
        if (byte < 0x80) return v;
    }
    r->bad = true;
    return 0;
}

int segments_decode(store_segment **out, size_t *n, const uint8_t *data, size_t size, uint64_t text_bytes,
                    ph_error *err) {
    *out = NULL;
    *n = 0;
    reader r = {data, data + size, size == 0 || data[0] != FORMAT};
    if (!r.bad) r.p++;
    uint64_t count = r.bad ? 0 : take(&r);
    size_t left = (size_t)(r.end - r.p);
    if (r.bad || count > left / MIN_SEGMENT)
        return ph_fail(err, PH_CORRUPT, "the stored segments have a bad header");

    /* What is left bounds the floats, so that one allocation holds everything and the input's size bounds it.
     */
    size_t bytes = count * sizeof(store_segment) + left / RECT_BYTES * RECT_BYTES;
    store_segment *list = malloc(bytes ? bytes : 1);
    if (!list) return ph_no_memory(err, bytes);
    float *rects = (float *)(list + count);
    uint64_t end = 0, page = 0, src_end = 0;
    for (size_t i = 0; i < count; i++) {
        store_segment *g = &list[i];
        uint64_t gap = take(&r), length = take(&r);
        uint64_t at_page = page + unzigzag(take(&r));
        uint64_t src_start = src_end + unzigzag(take(&r)), src_length = take(&r);
        uint64_t n_rects = take(&r);
        bool fits = !r.bad && gap <= text_bytes - end && length <= text_bytes - end - gap &&
                    at_page <= UINT32_MAX && src_length <= UINT64_MAX - src_start &&
                    n_rects <= (size_t)(r.end - r.p) / RECT_BYTES;
        if (fits) {
            *g = (store_segment){.start = end + gap,
                                 .end = end + gap + length,
                                 .page = (uint32_t)at_page,
                                 .src_start = src_start,
                                 .src_end = src_start + src_length,
                                 .rects = n_rects ? rects : NULL,
                                 .n_rects = (uint32_t)n_rects};
            if (n_rects) memcpy(rects, r.p, n_rects * RECT_BYTES);
            for (size_t k = 0; k < n_rects * 4; k++) fits = fits && isfinite(rects[k]);
            r.p += n_rects * RECT_BYTES;
            rects += n_rects * 4;
            end = g->end, page = at_page, src_end = g->src_end;
        }
        if (!fits) {
            free(list);
            return ph_fail(err, PH_CORRUPT, "stored segment %zu is out of range", i);
        }
    }
    if (r.p != r.end) {
        free(list);
        return ph_fail(err, PH_CORRUPT, "the stored segments are followed by something else");
    }
    *out = list;
    *n = count;
    return PH_OK;
}

void store_segments_free(store_segment *list, size_t n) {
    free(list);
}
