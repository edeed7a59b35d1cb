/* sink.c - normalises what extractors say and encodes it as frames. */
#include "ingest/sink.h"

#include "ingest/frame.h"
#include "ingest/utf8.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SINK_TEXT_BUFFER ((size_t)1 << 16)
#define SINK_SEGMENT_BUFFER ((size_t)1024)
#define SINK_RECT_BUFFER ((size_t)1024)

static void put_u32(uint8_t *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (8 * i));
}

static void put_u64(uint8_t *p, uint64_t v) {
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)(v >> (8 * i));
}

int sink_fail(text_sink *s, int code, const char *format, ...) {
    if (s->error.code) return s->error.code;
    char sentence[sizeof s->error.text];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    return ph_fail(&s->error, code, "%s", sentence);
}

static int put_frame(text_sink *s, int type, const void *payload, size_t n) {
    if (s->error.code) return s->error.code;
    uint8_t header[FRAME_HEADER_BYTES] = {(uint8_t)type};
    put_u32(header + 1, (uint32_t)n);
    ph_error err = {0};
    int rc = s->write(s->user, header, sizeof header, &err);
    if (!rc && n) rc = s->write(s->user, payload, n, &err);
    return rc ? sink_fail(s, rc, "%s", err.text) : 0;
}

static int flush_text(text_sink *s) {
    if (!s->n_text) return s->error.code;
    int rc = put_frame(s, FRAME_TEXT, s->text, s->n_text);
    s->n_text = 0;
    return rc;
}

static int flush_rects(text_sink *s) {
    uint8_t bytes[64 * FRAME_RECT_BYTES];
    for (size_t i = 0; i < s->n_rects;) {
        size_t n = 0;
        for (; i < s->n_rects && n + FRAME_RECT_BYTES <= sizeof bytes; i++) {
            const float v[4] = {s->rects[i].x0, s->rects[i].y0, s->rects[i].x1, s->rects[i].y1};
            for (int k = 0; k < 4; k++, n += 4) {
                uint32_t bits;
                memcpy(&bits, &v[k], 4);
                put_u32(bytes + n, bits);
            }
        }
        if (put_frame(s, FRAME_RECTS, bytes, n)) break;
    }
    s->n_rects = 0;
    return s->error.code;
}

/* The reader checks a segment against text and rectangles that it has, so those go first. */
static int flush_segments(text_sink *s) {
    if (!s->n_segments) return s->error.code;
    flush_text(s);
    flush_rects(s);
    uint8_t bytes[64 * FRAME_SEGMENT_BYTES];
    for (size_t i = 0; i < s->n_segments;) {
        size_t n = 0;
        for (; i < s->n_segments && n + FRAME_SEGMENT_BYTES <= sizeof bytes; i++, n += FRAME_SEGMENT_BYTES) {
            const segment *g = &s->segments[i];
            put_u64(bytes + n, g->start);
            put_u64(bytes + n + 8, g->end);
            put_u32(bytes + n + 16, g->page);
            put_u64(bytes + n + 20, g->src_start);
            put_u64(bytes + n + 28, g->src_end);
            put_u32(bytes + n + 36, g->first_rect);
            put_u32(bytes + n + 40, g->n_rects);
        }
        if (put_frame(s, FRAME_SEGMENTS, bytes, n)) break;
    }
    s->n_segments = 0;
    return s->error.code;
}

int sink_open(text_sink *s, sink_write write, void *user, uint64_t max_text, ph_error *err) {
    memset(s, 0, sizeof *s);
    s->write = write;
    s->user = user;
    s->max_text = max_text;
    s->at_start = true;
    s->text = malloc(SINK_TEXT_BUFFER);
    s->segments = calloc(SINK_SEGMENT_BUFFER, sizeof *s->segments);
    s->rects = calloc(SINK_RECT_BUFFER, sizeof *s->rects);
    if (!s->text || !s->segments || !s->rects) {
        sink_close(s);
        return ph_fail(err, PH_MEMORY, "out of memory: %zu bytes for the buffers of a reader",
                       SINK_TEXT_BUFFER);
    }
    ph_error mine = {0};
    int rc = write(user, FRAME_MAGIC, FRAME_MAGIC_BYTES, &mine);
    if (rc) {
        sink_close(s);
        return ph_fail(err, rc, "%s", mine.text);
    }
    return 0;
}

void sink_close(text_sink *s) {
    free(s->text);
    free(s->segments);
    free(s->rects);
    s->text = NULL;
    s->segments = NULL;
    s->rects = NULL;
}

/* One valid character other than a control character, or \n or \t. */
static inline void put_character(text_sink *s, const char *bytes, size_t n, bool space) {
    if (s->n_text + n > SINK_TEXT_BUFFER && flush_text(s)) return;
    if (s->text_total + n > s->max_text) {
        sink_fail(s, PH_TOO_LARGE, "more than the limit of %llu bytes of text (at least %llu)",
                  (unsigned long long)s->max_text, (unsigned long long)(s->text_total + n));
        return;
    }
    if (s->open && !s->line_started && bytes[0] != '\n') {
        s->segment_now.start = s->text_total;
        s->line_started = true;
    }
    memcpy(s->text + s->n_text, bytes, n);
    s->n_text += n;
    s->text_total += n;
    if (!s->open) return;
    if (bytes[0] == '\n' && !s->seen) s->line_started = false;
    if (!space) {
        s->seen = true;
        s->segment_now.end = s->text_total;
    }
}

int sink_text(text_sink *s, const char *text, size_t n) {
    const uint8_t *p = (const uint8_t *)text;
    for (size_t i = 0; i < n && !s->error.code;) {
        uint8_t c = p[i];
        if (c >= 0x20 && c < 0x7F) {
            s->was_cr = s->at_start = false;
            put_character(s, text + i, 1, c == ' ');
            i++;
            continue;
        }
        bool was_cr = s->was_cr;
        s->was_cr = false;
        if (c < 0x20 || c == 0x7F) {
            s->at_start = false;
            if (c == '\t') {
                put_character(s, "\t", 1, true);
            } else if (c == '\r') {
                put_character(s, "\n", 1, true);
                s->was_cr = true;
            } else if (c == '\n') {
                if (!was_cr) put_character(s, "\n", 1, true);
            } else if (c == '\f' || c == '\v') {
                put_character(s, "\n", 1, true);
            } else {
                s->dropped++;
            }
            i++;
            continue;
        }
        size_t length = utf8_sequence(p + i, n - i);
        if (!length) {
            s->at_start = false;
            s->replaced++;
            put_character(s, "\xEF\xBF\xBD", 3, false);
            i++;
            continue;
        }
        bool start = s->at_start;
        s->at_start = false;
        if (c == 0xC2 && p[i + 1] < 0xA0) { /* C1: NEL is a line end, the others are nothing one can read */
            if (p[i + 1] == 0x85)
                put_character(s, "\n", 1, true);
            else
                s->dropped++;
        } else if (start && c == 0xEF && p[i + 1] == 0xBB && p[i + 2] == 0xBF) {
            /* the byte order mark is no text */
        } else {
            bool space = c == 0xC2 && p[i + 1] == 0xA0;
            put_character(s, text + i, length, space);
        }
        i += length;
    }
    return s->error.code;
}

int sink_string(text_sink *s, const char *text) {
    return sink_text(s, text, strlen(text));
}

/* Moves the finished segment into the buffer. */
static int settle(text_sink *s) {
    if (!s->pending) return s->error.code;
    s->pending = false;
    if (s->n_segments == SINK_SEGMENT_BUFFER && flush_segments(s)) return s->error.code;
    s->segments[s->n_segments++] = s->segment_now;
    s->segment_total++;
    return s->error.code;
}

int sink_begin(text_sink *s, uint32_t page, uint64_t src_start) {
    if (s->error.code) return s->error.code;
    if (s->no_source) src_start = 0;
    if (s->open) return sink_fail(s, PH_FAIL, "a reader began a segment inside another");
    bool extend = s->pending && s->segment_total >= SINK_SEGMENTS_FREE && s->segment_now.page == page &&
                  s->segment_now.end - s->segment_now.start < SINK_SEGMENT_MERGE;
    if (!extend) {
        if (settle(s)) return s->error.code;
        memset(&s->segment_now, 0, sizeof s->segment_now);
        s->segment_now.page = page;
        s->segment_now.src_start = s->segment_now.src_end = src_start;
        s->segment_now.start = s->segment_now.end = s->text_total;
        s->segment_now.first_rect = (uint32_t)s->rect_total;
        s->seen = s->line_started = false;
    }
    s->pending = false;
    s->open = true;
    return 0;
}

int sink_rect(text_sink *s, page_rect r) {
    if (s->error.code) return s->error.code;
    if (!s->open || s->rect_total >= SINK_MAX_RECTS) return 0;
    if (s->n_rects == SINK_RECT_BUFFER) {
        flush_text(s);
        if (flush_rects(s)) return s->error.code;
    }
    const float v[4] = {r.x0, r.y0, r.x1, r.y1};
    for (int k = 0; k < 4; k++)
        if (!isfinite(v[k]) || fabsf(v[k]) > 1e6f) return 0; /* a page larger than a house: no rectangle */
    if (r.x0 > r.x1 || r.y0 > r.y1) return 0;
    s->rects[s->n_rects++] = r;
    s->rect_total++;
    s->segment_now.n_rects++;
    return 0;
}

int sink_end(text_sink *s, uint64_t src_end) {
    if (s->error.code) return s->error.code;
    if (!s->open) return sink_fail(s, PH_FAIL, "a reader ended a segment that it had not begun");
    s->open = false;
    s->segment_now.src_end = s->no_source ? 0 : src_end;
    if (!s->seen) return 0; /* its rectangles, if any, belong to nothing and stay unreferenced */
    s->pending = true;
    return 0;
}

/* Copies at most capacity - 1 bytes of valid characters, white space runs as one space, none at either end.
 */
static void copy_line(char *to, size_t capacity, const char *from, size_t n) {
    size_t out = 0;
    bool space = false;
    for (size_t i = 0; i < n;) {
        size_t length = utf8_sequence((const uint8_t *)from + i, n - i);
        uint32_t c = length ? utf8_code_point((const uint8_t *)from + i, length) : 0xFFFD;
        if (c <= 0x20 || (c >= 0x7F && c <= 0xA0)) {
            space = out > 0;
        } else {
            char bytes[4];
            size_t k = utf8_encode(bytes, c);
            if (out + k + space >= capacity) break;
            if (space) to[out++] = ' ';
            memcpy(to + out, bytes, k);
            out += k;
            space = false;
        }
        i += length ? length : 1;
    }
    to[out] = 0;
}

void sink_media_type(text_sink *s, const char *media_type) {
    copy_line(s->media_type, sizeof s->media_type, media_type, strlen(media_type));
}

void sink_title(text_sink *s, const char *title, size_t n) {
    copy_line(s->title, sizeof s->title, title, n);
}

void sink_charset(text_sink *s, const char *charset) {
    copy_line(s->charset, sizeof s->charset, charset, strlen(charset));
}

void sink_ocr(text_sink *s, const char *languages) {
    copy_line(s->ocr, sizeof s->ocr, languages, strlen(languages));
}

void sink_warn(text_sink *s, const char *format, ...) {
    char one[sizeof s->warning];
    va_list args;
    va_start(args, format);
    vsnprintf(one, sizeof one, format, args);
    va_end(args);
    char all[2 * sizeof s->warning + 4];
    snprintf(all, sizeof all, "%s%s%s", s->warning, s->warning[0] ? "; " : "", one);
    copy_line(s->warning, sizeof s->warning, all, strlen(all));
}

void sink_pages(text_sink *s, uint32_t pages) {
    s->pages = pages;
}

int sink_picture_page(text_sink *s, uint32_t page) {
    if (s->error.code) return s->error.code;
    if (page <= s->last_picture) return sink_fail(s, PH_FAIL, "a reader named its pages out of order");
    s->last_picture = page;
    uint8_t bytes[4];
    put_u32(bytes, page);
    return put_frame(s, FRAME_PICTURES, bytes, sizeof bytes);
}

int sink_progress(text_sink *s, uint64_t done, uint64_t total) {
    uint8_t bytes[16];
    put_u64(bytes, done);
    put_u64(bytes + 8, total);
    return put_frame(s, FRAME_PROGRESS, bytes, sizeof bytes);
}

static int put_string(text_sink *s, char which, const char *text) {
    char bytes[1 + sizeof s->title + sizeof s->warning];
    size_t n = strlen(text);
    if (!n) return s->error.code;
    bytes[0] = which;
    memcpy(bytes + 1, text, n);
    return put_frame(s, FRAME_STRING, bytes, n + 1);
}

static int put_error(text_sink *s) {
    ph_error e = s->error;
    uint8_t bytes[4 + sizeof e.text];
    put_u32(bytes, (uint32_t)e.code);
    /* A cut sentence or a name from the file may hold broken characters; the reader accepts none. */
    char clean[sizeof e.text];
    copy_line(clean, sizeof clean, e.text, strlen(e.text));
    memcpy(bytes + 4, clean, strlen(clean));
    s->error.code = 0;
    put_frame(s, FRAME_ERROR, bytes, 4 + strlen(clean));
    s->error = e;
    return e.code;
}

int sink_finish(text_sink *s, ph_error *err) {
    if (s->open) sink_end(s, s->segment_now.src_end);
    settle(s);
    flush_segments(s);
    flush_text(s);
    flush_rects(s);
    if (!s->error.code && s->segment_total == 0) sink_fail(s, PH_UNSUPPORTED, "it holds no text");
    if (s->replaced)
        sink_warn(s, "%llu byte%s that are no valid text were replaced by U+FFFD",
                  (unsigned long long)s->replaced, s->replaced == 1 ? "" : "s");
    if (s->dropped)
        sink_warn(s, "%llu control character%s left out", (unsigned long long)s->dropped,
                  s->dropped == 1 ? " was" : "s were");
    if (!s->error.code) {
        put_string(s, 'm', s->media_type);
        put_string(s, 't', s->title);
        put_string(s, 'c', s->charset);
        put_string(s, 'o', s->ocr);
        put_string(s, 'w', s->warning);
        uint8_t bytes[24];
        put_u32(bytes, s->pages);
        if (s->pages) put_frame(s, FRAME_PAGES, bytes, 4);
        put_u64(bytes, s->text_total);
        put_u64(bytes + 8, s->segment_total);
        put_u64(bytes + 16, s->rect_total);
        put_frame(s, FRAME_END, bytes, 24);
    }
    if (s->error.code) {
        put_error(s);
        return ph_fail(err, s->error.code, "%s", s->error.text);
    }
    return 0;
}
