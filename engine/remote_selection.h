/* remote_selection.h - what SGLang says its indexer selected, decoded and checked.
 *
 * Form (`--enable-return-indexer-topk`, `return_indexer_topk` of a request to /generate, in the reply
 * meta_info.indexer_topk): base64 of little-endian int32 [rows, layers, k]. There is a row for every token of
 * prompt and answer but the last: row r is the selection of the token at position r, by which the token at r
 * + 1 was predicted. A value is a position in the sequence, or -1 where fewer than k were selected.
 *
 * Nothing of this is believed: the size must be that of the rows, a position must lie before or at its row,
 * and none may come twice. (SGLang has recorded slots of its cache instead of positions before:
 * sglang#26684.)
 */
#ifndef PHAROS_REMOTE_SELECTION_H
#define PHAROS_REMOTE_SELECTION_H

#include "kernels/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The last `capacity` values of a selection. Zero-initialise; free with selection_free. */
typedef struct selection {
    int32_t *value; /* a ring */
    size_t capacity;
    uint64_t total; /* values that came */
    uint32_t bits;  /* of characters that are no whole bytes yet, 6 each */
    int n_bits, n_characters, n_padding;
    uint8_t bytes[4];
    int n_bytes;
    bool bad;
} selection;

int selection_open(selection *s, size_t capacity, ph_error *err);
void selection_free(selection *s);
/* Takes the next characters of the base64; what is wrong with it is told by selection_check. */
void selection_put(selection *s, const char *base64, size_t n);

/* After the last character: whether it is a selection of `rows` rows of k, and of how many layers (at most
 * most_layers). PH_CORRUPT says what is wrong. */
int selection_check(const selection *s, int64_t rows, int k, int most_layers, int *layers, ph_error *err);
/* position[k] filled with what row and layer selected, ascending; *count of them. PH_CORRUPT where a position
 * is impossible, PH_NOT_FOUND where the row came too early to have been kept. */
int selection_row(const selection *s, int64_t row, int layer, int layers, int k, int32_t *position,
                  int *count, ph_error *err);

#endif
