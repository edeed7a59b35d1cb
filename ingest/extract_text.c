/* extract_text.c - plain text, data and source code: said as it is, cut into segments at blank lines. */
#include "ingest/extract.h"

#include "ingest/utf8.h"

#include <string.h>

#define SOFT_BYTES ((size_t)2000)  /* a segment ends at the first line end beyond */
#define HARD_BYTES ((size_t)16384) /* a line longer than this is cut */
#define PROGRESS_BYTES ((size_t)4 << 20)

static bool is_space(uint8_t c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The offset after the line that starts at `at`; its line end is \n, \r\n, \r or \f. */
static size_t line_after(const uint8_t *b, size_t at, size_t end) {
    for (; at < end; at++) {
        if (b[at] == '\n' || b[at] == '\f') return at + 1;
        if (b[at] == '\r') return at + 1 < end && b[at + 1] == '\n' ? at + 2 : at + 1;
    }
    return end;
}

static bool blank(const uint8_t *b, size_t start, size_t end) {
    for (size_t i = start; i < end; i++)
        if (!is_space(b[i])) return false;
    return true;
}

/* A place to cut a long line: after the last space of the last kilobyte, otherwise between two characters. */
static size_t cut_line(const uint8_t *b, size_t start, size_t end) {
    size_t at = start + HARD_BYTES;
    if (at >= end) return end;
    for (size_t i = at; i > at - 1024; i--)
        if (is_space(b[i - 1])) return i;
    for (int k = 0; k < 3 && (b[at] & 0xC0) == 0x80; k++) at--;
    return at;
}

static int say(text_sink *s, const decoded_text *d, size_t start, size_t end) {
    size_t last = end;
    while (last > start && is_space(d->bytes[last - 1])) last--;
    sink_begin(s, 0, d->same ? start : 0);
    sink_text(s, (const char *)d->bytes + start, last - start);
    sink_end(s, d->same ? last : 0);
    return sink_text(s, (const char *)d->bytes + last, end - last);
}

int extract_block(text_sink *s, const decoded_text *d, size_t start, size_t end, bool paragraphs) {
    const uint8_t *b = d->bytes;
    if (start == 0 && end >= 3 && !memcmp(b, "\xEF\xBB\xBF", 3)) start = 3; /* the mark is no text */
    size_t from = start; /* of the segment being gathered */
    bool inside = false; /* it holds a line that is not blank */
    size_t reported = start;
    for (size_t at = start; at < end && !s->error.code;) {
        size_t limit = at + HARD_BYTES + 2 < end ? at + HARD_BYTES + 2 : end;
        size_t next = line_after(b, at, limit);
        bool whole = next < limit || limit == end;
        if (!whole) next = cut_line(b, at, end);
        if (blank(b, at, next)) {
            if (inside && paragraphs) {
                say(s, d, from, at);
                from = at;
                inside = false;
            }
            if (!inside) { /* separators between segments */
                sink_text(s, (const char *)b + from, next - from);
                from = next;
            }
        } else {
            if (inside && next - from > HARD_BYTES) {
                say(s, d, from, at);
                from = at;
            }
            inside = true;
            if (next - from >= SOFT_BYTES || !whole) {
                say(s, d, from, next);
                from = next;
                inside = false;
            }
        }
        at = next;
        if (at - reported >= PROGRESS_BYTES) {
            sink_progress(s, at, d->n);
            reported = at;
        }
    }
    if (from < end && inside) return say(s, d, from, end);
    return sink_text(s, (const char *)b + from, end - from);
}

int extract_text(const uint8_t *bytes, size_t n, text_sink *s) {
    decoded_text d;
    ph_error err = {0};
    int rc = charset_decode(&d, bytes, n, NULL, s->max_text, &err);
    if (rc) return sink_fail(s, rc, "%s", err.text);
    sink_charset(s, d.charset);
    s->replaced += d.replaced;
    extract_block(s, &d, 0, d.n, true);
    decoded_text_free(&d);
    return s->error.code;
}
