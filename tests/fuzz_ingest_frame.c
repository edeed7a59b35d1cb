/* Fuzz target: the parent's reader on whatever a taken-over child may write. What it accepts must be sound.
 */
#include "ingest/frame.h"
#include "ingest/utf8.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const document_text *d) {
    if (strlen(d->text) != d->len) abort();
    for (size_t i = 0; i < d->len;) {
        size_t n = utf8_sequence((const uint8_t *)d->text + i, d->len - i);
        if (!n) abort();
        i += n;
    }
    uint64_t at = 0;
    for (size_t i = 0; i < d->n_segments; i++) {
        const segment *s = &d->segments[i];
        if (s->start < at || s->start >= s->end || s->end > d->len || s->page > d->pages) abort();
        if ((uint64_t)s->first_rect + s->n_rects > d->n_rects || s->src_start > s->src_end) abort();
        at = s->end;
    }
    for (size_t i = 0; i < d->n_picture_pages; i++)
        if (d->picture_pages[i] > d->pages) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    document_text d = {0};
    frame_reader r;
    frame_reader_init(&r, &d, 1 << 20, 1 << 20);
    int rc = 0;
    for (size_t at = 0, piece = 1; at < size && !rc; piece = piece * 5 % 257 + 1) {
        size_t k = size - at < piece ? size - at : piece;
        rc = frame_feed(&r, data + at, k, NULL);
        at += k;
    }
    if (!rc && frame_finish(&r, NULL) == 0) check(&d);
    frame_reader_free(&r);
    document_text_free(&d);
    return 0;
}
