/* pack_body.h - turning rows of a cache into panels: 16 rows side by side, as the matrix product wants its
 * "weights". A query against 16 keys is then a product like any other, with a key in each lane. */
#ifndef PHAROS_PACK_BODY_H
#define PHAROS_PACK_BODY_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/isa.h"

#if defined(ISA_AVX512)
/* Transposes 16 vectors of 16 lanes: out[lane][i] = v[i][lane]. */
INLINE void transpose_16(__m512i v[16], uint32_t *out) {
    __m512i a[16], b[16];
    UNROLL for (int i = 0; i < 16; i += 2) { /* pairs of rows */
        a[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
    UNROLL for (int i = 0; i < 16;
                i += 4) { /* fours: b[i + c] has column 4q + c of rows i .. i + 3 in quarter q */
        b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    UNROLL for (int c = 0; c < 4; c++) {
        __m512i low0 = _mm512_shuffle_i32x4(b[c], b[c + 4], 0x88),
                low1 = _mm512_shuffle_i32x4(b[c + 8], b[c + 12], 0x88);
        __m512i high0 = _mm512_shuffle_i32x4(b[c], b[c + 4], 0xdd),
                high1 = _mm512_shuffle_i32x4(b[c + 8], b[c + 12], 0xdd);
        _mm512_storeu_si512(out + (c + 0) * 16, _mm512_shuffle_i32x4(low0, low1, 0x88));
        _mm512_storeu_si512(out + (c + 8) * 16, _mm512_shuffle_i32x4(low0, low1, 0xdd));
        _mm512_storeu_si512(out + (c + 4) * 16, _mm512_shuffle_i32x4(high0, high1, 0x88));
        _mm512_storeu_si512(out + (c + 12) * 16, _mm512_shuffle_i32x4(high0, high1, 0xdd));
    }
}
#endif

/* Transposes n (up to 16) rows of n_byte bytes into one panel of 4-byte units [ceil(n_byte / 4)][16]. Rows
 * beyond n, and what fills up the last unit, become 0. */
static void pack_panel(const void *const *row, int n, size_t n_byte, uint32_t *out) {
    size_t n_unit = n_byte / 4, rest = n_byte % 4, u0 = 0;
#if defined(ISA_AVX512)
    if (n == 16) {
        for (; u0 + 16 <= n_unit; u0 += 16) {
            __m512i v[16];
            UNROLL for (int r = 0; r < 16; r++) v[r] =
                _mm512_loadu_si512((const unsigned char *)row[r] + u0 * 4);
            transpose_16(v, out + u0 * 16);
        }
    }
#endif
    for (int r = 0; r < 16; r++) {
        if (r >= n) {
            for (size_t u = u0; u < n_unit + (rest > 0); u++) out[u * 16 + (size_t)r] = 0;
            continue;
        }
        const unsigned char *p = (const unsigned char *)row[r];
        for (size_t u = u0; u < n_unit; u++) memcpy(out + u * 16 + r, p + u * 4, 4);
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
