/* fuzz_extract.h - runs an extractor in process, through the real frames and their reader: whatever the
 * bytes, what it says must be a document that the parent accepts, and nothing may leak or overrun. */
#ifndef PHAROS_FUZZ_EXTRACT_H
#define PHAROS_FUZZ_EXTRACT_H

#include "ingest/extract.h"
#include "ingest/frame.h"

#include <stdio.h>
#include <stdlib.h>

#define FUZZ_TEXT_BYTES ((uint64_t)64 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline int fuzz_write(void *user, const void *bytes, size_t n, ph_error *err) {
    int rc = frame_feed(user, bytes, n, err);
    if (rc) {
        fprintf(stderr, "the reader refuses what the sink wrote: %s\n", err->text);
        abort();
    }
    return 0;
}

typedef int (*fuzz_extractor)(const uint8_t *bytes, size_t n, text_sink *s);

static inline void fuzz_extract(fuzz_extractor extract, const uint8_t *data, size_t size) {
    document_text d = {0};
    frame_reader reader;
    text_sink s;
    frame_reader_init(&reader, &d, FUZZ_TEXT_BYTES, size);
    if (sink_open(&s, fuzz_write, &reader, FUZZ_TEXT_BYTES, NULL) == 0) {
        extract(data, size, &s);
        int said = sink_finish(&s, NULL);
        int heard = frame_finish(&reader, NULL);
        if (said != heard) abort();
        sink_close(&s);
    }
    frame_reader_free(&reader);
    document_text_free(&d);
}

#endif
