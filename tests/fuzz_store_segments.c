/* fuzz_store_segments.c - the packed segments of a document, as a hostile database may hold them. What is
 * accepted must lie within the text, and must say the same after it was packed again. */
#include "store/internal.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define require(condition)                                                                                   \
    do {                                                                                                     \
        if (!(condition)) abort();                                                                           \
    } while (0)

/* The first two bytes are the length of the text, the rest is the blob. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    uint64_t text_bytes = data[0] | (uint64_t)data[1] << 8, end = 0;
    store_segment *list, *again;
    size_t n, n_again, packed_size;
    uint8_t *packed;
    ph_error err;
    if (segments_decode(&list, &n, data + 2, size - 2, text_bytes, &err)) {
        require(err.code == PH_CORRUPT && !list && n == 0);
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        require(list[i].start >= end && list[i].end >= list[i].start && list[i].end <= text_bytes);
        require(list[i].src_end >= list[i].src_start);
        end = list[i].end;
    }
    require(segments_encode(&packed, &packed_size, list, n, text_bytes, &err) == PH_OK);
    require(segments_decode(&again, &n_again, packed, packed_size, text_bytes, &err) == PH_OK);
    require(n_again == n);
    for (size_t i = 0; i < n; i++) {
        const store_segment *a = &list[i], *b = &again[i];
        require(a->start == b->start && a->end == b->end && a->page == b->page &&
                a->src_start == b->src_start && a->src_end == b->src_end && a->n_rects == b->n_rects);
        require(a->n_rects == 0 || memcmp(a->rects, b->rects, a->n_rects * 4 * sizeof(float)) == 0);
    }
    free(packed);
    store_segments_free(list, n);
    store_segments_free(again, n_again);
    return 0;
}
