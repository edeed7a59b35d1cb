/* sink.h - where every extractor writes: normalises text, keeps the book of segments, and emits the frames of
 * frame.h as it goes, so that a child never holds more than a few buffers of what it has said.
 *
 * The first failure sticks: later calls do nothing and return its code, so that an extractor that works
 * through a library's callbacks may check once at the end.
 */
#ifndef PHAROS_INGEST_SINK_H
#define PHAROS_INGEST_SINK_H

#include "ingest/ingest.h"

/* Takes encoded frames; returns 0, or a code with err filled. */
typedef int (*sink_write)(void *user, const void *bytes, size_t n, ph_error *err);

#define SINK_SEGMENTS_FREE                                                                                   \
    (1u << 20) /* beyond so many, segments shorter than SINK_SEGMENT_MERGE are joined */
#define SINK_SEGMENT_MERGE 1024
#define SINK_MAX_RECTS (1u << 23) /* lines beyond these have no rectangle */
#define SINK_MAX_PAGES 100000u

typedef struct text_sink {
    sink_write write;
    void *user;
    uint64_t max_text;
    ph_error error; /* sticky; code 0 = fine */

    char *text; /* [SINK_TEXT_BUFFER] not yet written */
    size_t n_text;
    segment *segments; /* [SINK_SEGMENT_BUFFER] not yet written */
    size_t n_segments;
    page_rect *rects; /* [SINK_RECT_BUFFER] not yet written */
    size_t n_rects;

    uint64_t text_total;    /* bytes of text said so far */
    uint64_t segment_total; /* written or waiting */
    uint64_t rect_total;
    uint64_t replaced; /* bytes that were no valid UTF-8 */
    uint64_t dropped;  /* control characters left out */
    bool no_source;    /* what is read is not the file itself: source ranges become 0 */
    bool was_cr;       /* the last byte written was \r */
    bool at_start;     /* nothing was written yet: a byte order mark is dropped */

    bool open, pending; /* a segment is being written; a finished one may still be extended */
    bool seen;          /* the open segment holds a character that is not white space */
    bool line_started;  /* the open segment's start stands on the current line */
    segment segment_now;

    uint32_t pages;
    uint32_t last_picture;
    char media_type[128], title[256], charset[64], ocr[INGEST_OCR_LANGUAGE_BYTES], warning[512];
} text_sink;

int sink_open(text_sink *s, sink_write write, void *user, uint64_t max_text, ph_error *err);
/* Writes what waits, the metadata and the end mark. A document without a visible character is PH_UNSUPPORTED.
 */
int sink_finish(text_sink *s, ph_error *err);
void sink_close(text_sink *s);

/* Text from the extractor: line ends become \n, invalid UTF-8 U+FFFD, other control characters are left out.
 * Characters must not be split between calls. */
int sink_text(text_sink *s, const char *text, size_t n);
int sink_string(text_sink *s, const char *text);

/* A segment is the text between begin and end less white space around it (its first line keeps its indent).
 * One without visible text is dropped. Text outside segments is separator. */
int sink_begin(text_sink *s, uint32_t page, uint64_t src_start);
int sink_rect(text_sink *s, page_rect r);
int sink_end(text_sink *s, uint64_t src_end);

void sink_media_type(text_sink *s, const char *media_type);
void sink_title(text_sink *s, const char *title, size_t n);
void sink_charset(text_sink *s, const char *charset);
void sink_ocr(text_sink *s, const char *languages);
/* Warnings are joined with "; " as far as they fit. */
void sink_warn(text_sink *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sink_pages(text_sink *s, uint32_t pages);
int sink_picture_page(text_sink *s, uint32_t page); /* ascending */
int sink_progress(text_sink *s, uint64_t done, uint64_t total);

/* Sticks the failure and returns its code. */
int sink_fail(text_sink *s, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
