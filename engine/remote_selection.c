/* remote_selection.c - see remote_selection.h. */
#include "engine/remote_selection.h"

#include <stdlib.h>
#include <string.h>

int selection_open(selection *s, size_t capacity, ph_error *err) {
    *s = (selection){.capacity = capacity};
    s->value =
        capacity && capacity <= SIZE_MAX / sizeof *s->value ? malloc(capacity * sizeof *s->value) : NULL;
    return s->value ? PH_OK : ph_fail(err, PH_MEMORY, "no memory for a selection of %zu positions", capacity);
}

void selection_free(selection *s) {
    free(s->value);
    *s = (selection){0};
}

/* ---- base64 ---- */

static int digit(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static void put_byte(selection *s, uint8_t byte) {
    s->bytes[s->n_bytes++] = byte;
    if (s->n_bytes < 4) return;
    uint32_t v = (uint32_t)s->bytes[0] | (uint32_t)s->bytes[1] << 8 | (uint32_t)s->bytes[2] << 16 |
                 (uint32_t)s->bytes[3] << 24;
    s->value[s->total++ % s->capacity] = (int32_t)v;
    s->n_bytes = 0;
}

void selection_put(selection *s, const char *base64, size_t n) {
    for (size_t i = 0; i < n && !s->bad; i++) {
        int d = digit(base64[i]);
        s->n_characters = (s->n_characters + 1) % 4;
        if (base64[i] == '=') {
            /* One or two, at the end of a group of four. */
            s->bad = ++s->n_padding > 2 || (s->n_characters != 0 && s->n_characters != 3);
            continue;
        }
        if (d < 0 || s->n_padding) {
            s->bad = true;
            break;
        }
        s->bits = s->bits << 6 | (uint32_t)d;
        s->n_bits += 6;
        if (s->n_bits < 8) continue;
        s->n_bits -= 8;
        put_byte(s, (uint8_t)(s->bits >> s->n_bits));
        s->bits &= (1u << s->n_bits) - 1;
    }
}

/* ---- what it says ---- */

int selection_check(const selection *s, int64_t rows, int k, int most_layers, int *layers, ph_error *err) {
    *layers = 0;
    if (s->bad || s->n_characters || s->n_bytes || s->bits)
        return ph_fail(err, PH_CORRUPT, "the server's selection is not the base64 of whole numbers");
    if (rows < 1 || k < 1)
        return ph_fail(err, PH_CORRUPT, "a selection of %lld rows of %d is none", (long long)rows, k);
    uint64_t row = s->total / (uint64_t)rows, n = row / (uint64_t)k;
    if (s->total % (uint64_t)rows || row % (uint64_t)k || n < 1 || n > (uint64_t)most_layers)
        return ph_fail(
            err, PH_CORRUPT,
            "the server's selection has %llu positions: not those of %lld tokens, %d in each of at most "
            "%d layers",
            (unsigned long long)s->total, (long long)rows, k, most_layers);
    *layers = (int)n;
    return PH_OK;
}

static int ascending(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

int selection_row(const selection *s, int64_t row, int layer, int layers, int k, int32_t *position,
                  int *count, ph_error *err) {
    uint64_t first = ((uint64_t)row * (uint64_t)layers + (uint64_t)layer) * (uint64_t)k;
    int n = 0;
    *count = 0;
    if (row < 0 || layer < 0 || layer >= layers || first + (uint64_t)k > s->total)
        return ph_fail(err, PH_NOT_FOUND, "the server's selection has no row %lld", (long long)row);
    if (s->total - first > s->capacity)
        return ph_fail(err, PH_NOT_FOUND, "row %lld of the server's selection was not kept", (long long)row);
    for (int i = 0; i < k; i++) {
        int32_t v = s->value[(first + (uint64_t)i) % s->capacity];
        if (v == -1) continue;
        if (v < 0 || v > row)
            return ph_fail(err, PH_CORRUPT,
                           "the server's selection names position %d in row %lld: no position before it", v,
                           (long long)row);
        position[n++] = v;
    }
    qsort(position, (size_t)n, sizeof *position, ascending);
    for (int i = 1; i < n; i++)
        if (position[i] == position[i - 1])
            return ph_fail(err, PH_CORRUPT, "the server's selection names position %d twice in row %lld",
                           position[i], (long long)row);
    *count = n;
    return PH_OK;
}
