/* pack_body.h - turning rows of a cache into panels: 16 rows side by side, as the matrix product wants its
 * "weights". A query against 16 keys is then a product like any other, with a key in each lane. */
#ifndef PHAROS_PACK_BODY_H
#define PHAROS_PACK_BODY_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/isa.h"

/* Transposes n (up to 16) rows of n_byte bytes into one panel of 4-byte units [ceil(n_byte / 4)][16]. Rows
 * beyond n, and what fills up the last unit, become 0. */
static void pack_panel(const void *const *row, int n, size_t n_byte, uint32_t *out) {
    size_t n_unit = n_byte / 4, rest = n_byte % 4;
    for (int r = 0; r < 16; r++) {
        if (r >= n) {
            for (size_t u = 0; u < n_unit + (rest > 0); u++) out[u * 16 + (size_t)r] = 0;
            continue;
        }
        const unsigned char *p = (const unsigned char *)row[r];
        for (size_t u = 0; u < n_unit; u++) memcpy(out + u * 16 + r, p + u * 4, 4);
        if (rest) {
            out[n_unit * 16 + (size_t)r] = 0;
            memcpy(out + n_unit * 16 + r, p + n_unit * 4, rest);
        }
    }
}

/* The first `width` values of n rows as fp32 panels over the width: out[width/16][room][16], row s at [.][s].
 */
static void spread_rows(kern_type type, const void *const *row, int n, int width, int room, float *out) {
    for (int s = 0; s < n; s++) {
        int d = 0;
        if (type == KERN_F32) {
            const float *x = (const float *)row[s];
            for (; d + VL <= width; d += VL)
                vf_store(out + ((size_t)(d / 16) * room + s) * 16 + d % 16, vf_load(x + d));
            for (; d < width; d++) out[((size_t)(d / 16) * room + s) * 16 + d % 16] = x[d];
        } else {
            const uint16_t *x = (const uint16_t *)row[s];
            for (; d + VL <= width; d += VL)
                vf_store(out + ((size_t)(d / 16) * room + s) * 16 + d % 16, vf_from_bf16(x + d));
            for (; d < width; d++) {
                uint32_t bits = (uint32_t)x[d] << 16;
                memcpy(out + ((size_t)(d / 16) * room + s) * 16 + d % 16, &bits, sizeof bits);
            }
        }
        for (; d % 16; d++) out[((size_t)(d / 16) * room + s) * 16 + d % 16] = 0.0f;
    }
}

#endif
