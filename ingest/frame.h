/* frame.h - the stream that an extracting child writes and the parent reads.
 *
 * 8 bytes "PHINGST1", then frames: type u8, length u32, payload; all integers little-endian. The reader
 * trusts nothing: every length, count, order, index and byte of text is checked, against the limits and
 * against each other, before it is used, and memory grows only with bytes that did arrive.
 */
#ifndef PHAROS_INGEST_FRAME_H
#define PHAROS_INGEST_FRAME_H

#include "ingest/ingest.h"

#define FRAME_MAGIC "PHINGST1"
#define FRAME_MAGIC_BYTES 8
#define FRAME_HEADER_BYTES 5
#define FRAME_MAX_PAYLOAD (1u << 20)
#define FRAME_SEGMENT_BYTES 44
#define FRAME_RECT_BYTES 16
#define FRAME_MAX_SEGMENTS (1u << 22)

enum {
    FRAME_TEXT = 'T', /* whole characters */
    FRAME_SEGMENTS =
        'S', /* start u64, end u64, page u32, src_start u64, src_end u64, first_rect u32, n_rects u32 */
    FRAME_RECTS = 'R',    /* 4 x float */
    FRAME_PICTURES = 'P', /* u32 each */
    FRAME_PAGES = 'N',    /* u32 */
    FRAME_STRING = 'I',   /* 'm'edia type, 't'itle, 'c'harset, 'o'cr or 'w'arning, then the string */
    FRAME_PROGRESS = 'G', /* done u64, total u64 */
    FRAME_ERROR = 'E',    /* code u32, then the sentence; nothing follows */
    FRAME_END = 'Z',      /* text bytes u64, segments u64, rects u64; nothing follows */
};

typedef struct frame_reader {
    document_text *out; /* borrowed; filled */
    uint64_t max_text;
    uint64_t file_bytes; /* src offsets stay within */
    size_t text_capacity, segment_capacity, rect_capacity, picture_capacity;
    uint64_t done, total; /* the last progress */
    bool magic, ended;
    uint8_t *waiting; /* a frame that has not arrived whole */
    size_t n_waiting, waiting_capacity;
    ph_error failure; /* what the child said went wrong; code 0 = nothing */
} frame_reader;

void frame_reader_init(frame_reader *r, document_text *out, uint64_t max_text, uint64_t file_bytes);
void frame_reader_free(frame_reader *r); /* not the document */

/* Takes the next bytes of the stream. PH_CORRUPT: the stream is not what a child writes. */
int frame_feed(frame_reader *r, const uint8_t *bytes, size_t n, ph_error *err);
/* After the last byte: the child's own error, PH_CORRUPT when the stream stops early, 0 when out is whole. */
int frame_finish(frame_reader *r, ph_error *err);

#endif
