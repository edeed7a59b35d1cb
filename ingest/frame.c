/* frame.c - reads the stream of frame.h into a document_text, checking everything. */
#include "ingest/frame.h"

#include "ingest/sink.h"
#include "ingest/utf8.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint32_t get_u32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t get_u64(const uint8_t *p) {
    return (uint64_t)get_u32(p) | (uint64_t)get_u32(p + 4) << 32;
}

void document_text_free(document_text *d) {
    if (!d) return;
    free(d->text);
    free(d->segments);
    free(d->rects);
    free(d->picture_pages);
    memset(d, 0, sizeof *d);
}

void frame_reader_init(frame_reader *r, document_text *out, uint64_t max_text, uint64_t file_bytes) {
    memset(r, 0, sizeof *r);
    r->out = out;
    r->max_text = max_text;
    r->file_bytes = file_bytes;
}

void frame_reader_free(frame_reader *r) {
    free(r->waiting);
    r->waiting = NULL;
}

static int bad(ph_error *err, const char *what) {
    return ph_fail(err, PH_CORRUPT, "the reader of this file answered nonsense (%s)", what);
}

/* Makes room for `more` elements of `size` bytes after the n there are; doubles, so that growth is linear. */
static int reserve(void **array, size_t *capacity, size_t n, size_t more, size_t size, ph_error *err) {
    if (more <= *capacity - n) return 0;
    size_t want = *capacity ? *capacity : 64;
    while (want < n + more) {
        if (want > SIZE_MAX / 2 / size)
            return ph_fail(err, PH_MEMORY, "out of memory: %zu elements", n + more);
        want *= 2;
    }
    void *grown = realloc(*array, want * size);
    if (!grown) return ph_fail(err, PH_MEMORY, "out of memory: %zu bytes for extracted text", want * size);
    *array = grown;
    *capacity = want;
    return 0;
}

/* Valid UTF-8 without control characters other than \n and \t (no \n either in a line). */
static bool clean(const uint8_t *s, size_t n, bool line) {
    for (size_t i = 0; i < n;) {
        if (s[i] < 0x20 && (line || (s[i] != '\n' && s[i] != '\t'))) return false;
        if (s[i] == 0x7F) return false;
        size_t length = utf8_sequence(s + i, n - i);
        if (!length || (length == 2 && s[i] == 0xC2 && s[i + 1] < 0xA0)) return false;
        i += length;
    }
    return true;
}

static int read_text(frame_reader *r, const uint8_t *p, size_t n, ph_error *err) {
    document_text *d = r->out;
    if (d->len + n > r->max_text)
        return ph_fail(err, PH_TOO_LARGE, "more than the limit of %llu bytes of text (at least %llu)",
                       (unsigned long long)r->max_text, (unsigned long long)(d->len + n));
    if (!clean(p, n, false)) return bad(err, "text that is no UTF-8");
    int rc = reserve((void **)&d->text, &r->text_capacity, d->len, n + 1, 1, err);
    if (rc) return rc;
    memcpy(d->text + d->len, p, n);
    d->len += n;
    d->text[d->len] = 0;
    return 0;
}

/* Both ends of a segment stand between characters. */
static bool boundary(const document_text *d, uint64_t at) {
    return at == d->len || ((uint8_t)d->text[at] & 0xC0) != 0x80;
}

static int read_segments(frame_reader *r, const uint8_t *p, size_t n, ph_error *err) {
    document_text *d = r->out;
    if (n % FRAME_SEGMENT_BYTES) return bad(err, "a cut segment");
    size_t count = n / FRAME_SEGMENT_BYTES;
    if (d->n_segments + count > FRAME_MAX_SEGMENTS) return bad(err, "too many segments");
    int rc =
        reserve((void **)&d->segments, &r->segment_capacity, d->n_segments, count, sizeof *d->segments, err);
    if (rc) return rc;
    for (size_t i = 0; i < count; i++, p += FRAME_SEGMENT_BYTES) {
        segment g = {.start = get_u64(p),
                     .end = get_u64(p + 8),
                     .page = get_u32(p + 16),
                     .src_start = get_u64(p + 20),
                     .src_end = get_u64(p + 28),
                     .first_rect = get_u32(p + 36),
                     .n_rects = get_u32(p + 40)};
        const segment *last = d->n_segments ? &d->segments[d->n_segments - 1] : NULL;
        if (g.start >= g.end || g.end > d->len || (last && g.start < last->end))
            return bad(err, "segment order");
        if (!boundary(d, g.start) || !boundary(d, g.end)) return bad(err, "a segment inside a character");
        if (g.page > SINK_MAX_PAGES || (last && g.page < last->page)) return bad(err, "page order");
        if (g.src_start > g.src_end || g.src_end > r->file_bytes) return bad(err, "source range");
        if (last && g.src_end && g.src_start < last->src_start) return bad(err, "source order");
        if ((uint64_t)g.first_rect + g.n_rects > d->n_rects) return bad(err, "rectangle range");
        if (last && g.first_rect < last->first_rect + last->n_rects) return bad(err, "rectangle order");
        d->segments[d->n_segments++] = g;
    }
    return 0;
}

static int read_rects(frame_reader *r, const uint8_t *p, size_t n, ph_error *err) {
    document_text *d = r->out;
    if (n % FRAME_RECT_BYTES) return bad(err, "a cut rectangle");
    size_t count = n / FRAME_RECT_BYTES;
    if (d->n_rects + count > SINK_MAX_RECTS) return bad(err, "too many rectangles");
    int rc = reserve((void **)&d->rects, &r->rect_capacity, d->n_rects, count, sizeof *d->rects, err);
    if (rc) return rc;
    for (size_t i = 0; i < count; i++, p += FRAME_RECT_BYTES) {
        float v[4];
        for (int k = 0; k < 4; k++) {
            uint32_t bits = get_u32(p + 4 * k);
            memcpy(&v[k], &bits, 4);
            if (!isfinite(v[k]) || fabsf(v[k]) > 1e6f) return bad(err, "rectangle");
        }
        if (v[0] > v[2] || v[1] > v[3]) return bad(err, "rectangle");
        d->rects[d->n_rects++] = (page_rect){v[0], v[1], v[2], v[3]};
    }
    return 0;
}

static int read_pictures(frame_reader *r, const uint8_t *p, size_t n, ph_error *err) {
    document_text *d = r->out;
    if (n % 4) return bad(err, "a cut page number");
    size_t count = n / 4;
    if (d->n_picture_pages + count > SINK_MAX_PAGES) return bad(err, "too many pages");
    int rc = reserve((void **)&d->picture_pages, &r->picture_capacity, d->n_picture_pages, count,
                     sizeof *d->picture_pages, err);
    if (rc) return rc;
    for (size_t i = 0; i < count; i++, p += 4) {
        uint32_t page = get_u32(p);
        uint32_t last = d->n_picture_pages ? d->picture_pages[d->n_picture_pages - 1] : 0;
        if (page <= last || page > SINK_MAX_PAGES) return bad(err, "page order");
        d->picture_pages[d->n_picture_pages++] = page;
    }
    return 0;
}

static int read_string(frame_reader *r, const uint8_t *p, size_t n, ph_error *err) {
    document_text *d = r->out;
    char *to = NULL;
    size_t capacity = 0;
    if (n < 1) return bad(err, "an empty string frame");
    switch (p[0]) {
    case 'm':
        to = d->media_type, capacity = sizeof d->media_type;
        break;
    case 't':
        to = d->title, capacity = sizeof d->title;
        break;
    case 'c':
        to = d->charset, capacity = sizeof d->charset;
        break;
    case 'o':
        to = d->ocr, capacity = sizeof d->ocr;
        break;
    case 'w':
        to = d->warning, capacity = sizeof d->warning;
        break;
    default:
        return bad(err, "an unknown string");
    }
    if (n - 1 >= capacity || !clean(p + 1, n - 1, true)) return bad(err, "a string");
    memcpy(to, p + 1, n - 1);
    to[n - 1] = 0;
    return 0;
}

static int read_error(frame_reader *r, const uint8_t *p, size_t n, ph_error *err) {
    if (n < 5 || n - 4 >= sizeof r->failure.text || !clean(p + 4, n - 4, true)) return bad(err, "an error");
    uint32_t code = get_u32(p);
    switch (code) {
    case PH_FAIL:
    case PH_TOO_LARGE:
    case PH_CORRUPT:
    case PH_MEMORY:
    case PH_UNSUPPORTED:
        break;
    default:
        return bad(err, "an error code");
    }
    ph_fail(&r->failure, (int)code, "%.*s", (int)(n - 4), (const char *)p + 4);
    r->ended = true;
    return 0;
}

static int read_end(frame_reader *r, const uint8_t *p, size_t n, ph_error *err) {
    document_text *d = r->out;
    if (n != 24 || get_u64(p) != d->len || get_u64(p + 8) != d->n_segments || get_u64(p + 16) != d->n_rects)
        return bad(err, "totals");
    if (!d->n_segments || !d->text) return bad(err, "no text");
    uint32_t last = d->segments[d->n_segments - 1].page;
    if (d->n_picture_pages && d->picture_pages[d->n_picture_pages - 1] > last)
        last = d->picture_pages[d->n_picture_pages - 1];
    if (last > d->pages) return bad(err, "a page beyond the last");
    r->ended = true;
    return 0;
}

static int read_frame(frame_reader *r, uint8_t type, const uint8_t *p, size_t n, ph_error *err) {
    switch (type) {
    case FRAME_TEXT:
        return read_text(r, p, n, err);
    case FRAME_SEGMENTS:
        return read_segments(r, p, n, err);
    case FRAME_RECTS:
        return read_rects(r, p, n, err);
    case FRAME_PICTURES:
        return read_pictures(r, p, n, err);
    case FRAME_PAGES:
        if (n != 4 || get_u32(p) > SINK_MAX_PAGES) return bad(err, "page count");
        r->out->pages = get_u32(p);
        return 0;
    case FRAME_STRING:
        return read_string(r, p, n, err);
    case FRAME_PROGRESS:
        if (n != 16) return bad(err, "progress");
        r->done = get_u64(p);
        r->total = get_u64(p + 8);
        return 0;
    case FRAME_ERROR:
        return read_error(r, p, n, err);
    case FRAME_END:
        return read_end(r, p, n, err);
    default:
        return bad(err, "an unknown frame");
    }
}

int frame_feed(frame_reader *r, const uint8_t *bytes, size_t n, ph_error *err) {
    if (n == 0) return 0;
    int rc = reserve((void **)&r->waiting, &r->waiting_capacity, r->n_waiting, n, 1, err);
    if (rc) return rc;
    memcpy(r->waiting + r->n_waiting, bytes, n);
    r->n_waiting += n;
    size_t at = 0;
    if (!r->magic) {
        if (r->n_waiting < FRAME_MAGIC_BYTES) return 0;
        if (memcmp(r->waiting, FRAME_MAGIC, FRAME_MAGIC_BYTES) != 0) return bad(err, "another version");
        r->magic = true;
        at = FRAME_MAGIC_BYTES;
    }
    while (r->n_waiting - at >= FRAME_HEADER_BYTES) {
        if (r->ended) return bad(err, "more after the end");
        uint32_t length = get_u32(r->waiting + at + 1);
        if (length > FRAME_MAX_PAYLOAD) return bad(err, "a frame too long");
        if (r->n_waiting - at - FRAME_HEADER_BYTES < length) break;
        rc = read_frame(r, r->waiting[at], r->waiting + at + FRAME_HEADER_BYTES, length, err);
        if (rc) return rc;
        at += FRAME_HEADER_BYTES + length;
    }
    memmove(r->waiting, r->waiting + at, r->n_waiting - at);
    r->n_waiting -= at;
    if (r->ended && r->n_waiting) return bad(err, "more after the end");
    return 0;
}

int frame_finish(frame_reader *r, ph_error *err) {
    if (r->ended && r->failure.code) return ph_fail(err, r->failure.code, "%s", r->failure.text);
    if (!r->ended) return bad(err, r->magic ? "it stopped early" : "nothing");
    return 0;
}
