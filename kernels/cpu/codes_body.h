/* codes_body.h - FP8 codes of a matrix (cpu.h) to the bf16 numbers that they stand for, looked up in
 * registers.
 *
 * A block's table holds the 128 magnitudes. AVX-512 looks all of them up. Where tables of 16 are what an
 * instruction can look up, the first 16 are enough: code 8 + m + 8 e is code 8 + m times 2^e, which adds e to
 * the exponent of the bf16 number (matrix.c makes no FP8 matrix where that would not be the rounded one).
 *
 * Portable C has no such instructions: element by element it takes ten times as long as reading bf16 numbers.
 */
#ifndef PHAROS_CODES_BODY_H
#define PHAROS_CODES_BODY_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/isa.h"

#if defined(CODE_ROWS)

/* The tables of the blocks that a row of blocks consists of, from left to right. */
typedef struct code_blocks {
    const uint8_t *tables;
    int64_t first_steps; /* steps of 4 columns that belong to the first */
} code_blocks;

#if defined(ISA_AVX512)
typedef struct code_table {
    __m512i low[2], high[2];
} code_table;

INLINE code_table code_table_load(const uint8_t *p) {
    return (code_table){{_mm512_loadu_si512(p), _mm512_loadu_si512(p + 64)},
                        {_mm512_loadu_si512(p + 128), _mm512_loadu_si512(p + 192)}};
}
#else
typedef struct code_table {
    __m256i low, high;
} code_table;

INLINE code_table code_table_load(const uint8_t *p) {
    return (code_table){_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p)),
                        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(p + 128)))};
}
#endif

/* 64 codes, 4 columns of 16 rows, into the vectors of their first and second pair of columns. */
INLINE void codes_decode(const uint8_t *codes, const code_table *t, vu pair[2][16 / VL]) {
#if defined(ISA_AVX512)
    __m512i code = _mm512_loadu_si512(codes);
    __m512i low = _mm512_permutex2var_epi8(t->low[0], code, t->low[1]);
    __m512i high = _mm512_permutex2var_epi8(t->high[0], code, t->high[1]);
    /* high ^ (code & 0x80): the sign */
    high = _mm512_ternarylogic_epi32(high, code, _mm512_set1_epi8((char)0x80), 0x78);
    pair[0][0] = (vu)_mm512_unpacklo_epi8(low, high);
    pair[1][0] = (vu)_mm512_unpackhi_epi8(low, high);
#else
    const __m256i zero = _mm256_setzero_si256();
    UNROLL for (int v = 0; v < 2; v++) {
        __m256i code = _mm256_loadu_si256((const __m256i *)(codes + v * 32));
        __m256i sign = _mm256_and_si256(code, _mm256_set1_epi8((char)0x80)),
                magnitude = _mm256_xor_si256(code, sign);
        __m256i entry = _mm256_min_epu8(
            magnitude, _mm256_or_si256(_mm256_and_si256(code, _mm256_set1_epi8(7)), _mm256_set1_epi8(8)));
        __m256i octaves = _mm256_sub_epi8(magnitude, entry); /* 8 e; bf16 has its exponent at bit 7 */
        __m256i low = _mm256_shuffle_epi8(t->low, entry),
                high = _mm256_xor_si256(_mm256_shuffle_epi8(t->high, entry), sign);
        pair[0][v] = (vu)_mm256_add_epi16(_mm256_unpacklo_epi8(low, high),
                                          _mm256_slli_epi16(_mm256_unpacklo_epi8(octaves, zero), 4));
        pair[1][v] = (vu)_mm256_add_epi16(_mm256_unpackhi_epi8(low, high),
                                          _mm256_slli_epi16(_mm256_unpackhi_epi8(octaves, zero), 4));
    }
#endif
}

/* One panel of n_pair pairs of columns into BF16's layout; room for an even number of pairs. */
static void codes_unpack(const uint8_t *codes, int64_t n_pair, const code_blocks *blocks, uint32_t *out) {
    int64_t steps = (n_pair + 1) / 2, step = 0, end = blocks->first_steps;
    for (const uint8_t *bytes = blocks->tables; step < steps; bytes += CPU_CODE_TABLE, end += 32) {
        code_table table = code_table_load(bytes);
        for (; step < min_i64(end, steps); step++) {
            vu pair[2][16 / VL];
            codes_decode(codes + step * CPU_CODE_PANELS * 64, &table, pair);
            UNROLL for (int p = 0; p < 2; p++) {
                UNROLL for (int v = 0; v < 16 / VL; v++)
                    vu_store(out + step * 32 + p * 16 + v * VL, pair[p][v]);
            }
        }
    }
}

#endif

#endif
