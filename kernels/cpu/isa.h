/* isa.h - the vector operations that the *_body.h files are written in, for one instruction set.
 *
 * A file that includes it defines one of ISA_AVX512, ISA_AVX2, ISA_PORTABLE first. Vectors are the compiler's
 * own (vector_size), so that + - * / and comparisons need no names. VL is the number of lanes; panels, key
 * blocks and the like are 16 wide whatever VL is, so memory looks the same to every instruction set.
 */
#ifndef PHAROS_ISA_H
#define PHAROS_ISA_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(ISA_AVX512)
#define VL 16
#define TILE_ROWS 6   /* the largest register tile of the matrix product: rows of x ... */
#define TILE_PANELS 4 /* ... by panels of 16: 24 accumulators, 4 weights, 1 broadcast of 32 registers */
#define CODE_ROWS 18 /* up to so many rows of x, each tile looks FP8 codes up in registers */
#elif defined(ISA_AVX2)
#define VL 8
#define TILE_ROWS 3
#define TILE_PANELS 2 /* 12 accumulators of 16 registers */
#define CODE_ROWS 3
#else
#define VL 4
#define TILE_ROWS 3
#define TILE_PANELS 1
#endif

#define INLINE static inline __attribute__((always_inline))

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));
typedef uint32_t vu __attribute__((vector_size(VL * 4)));
typedef float vf_any __attribute__((vector_size(VL * 4), aligned(4), may_alias)); /* at any address */
typedef uint32_t vu_any __attribute__((vector_size(VL * 4), aligned(4), may_alias));
typedef uint16_t vh __attribute__((vector_size(VL * 2)));
typedef uint16_t vh_any __attribute__((vector_size(VL * 2), aligned(2), may_alias));

INLINE vf vf_load(const float *p) {
    return *(const vf_any *)p;
}
INLINE void vf_store(float *p, vf v) {
    *(vf_any *)p = v;
}
INLINE vu vu_load(const uint32_t *p) {
    return *(const vu_any *)p;
}
INLINE void vu_store(uint32_t *p, vu v) {
    *(vu_any *)p = v;
}
INLINE vf vf_set(float x) {
    return x - (vf){0};
}
INLINE vu vu_set(uint32_t x) {
    return x - (vu){0};
}

/* The first n (1 .. VL) lanes, the others `fill`. */
INLINE vf vf_load_part(const float *p, int64_t n, float fill) {
    float lanes[VL];
    for (int i = 0; i < VL; i++) lanes[i] = fill;
    memcpy(lanes, p, (size_t)n * sizeof *p);
    return vf_load(lanes);
}

INLINE void vf_store_part(float *p, vf v, int64_t n) {
    float lanes[VL];
    vf_store(lanes, v);
    memcpy(p, lanes, (size_t)n * sizeof *p);
}

/* a * b + c: fused where the instruction set has it. */
INLINE vf vf_fma(vf a, vf b, vf c) {
#if defined(ISA_AVX512)
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(ISA_AVX2)
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

/* a * b + c with one rounding everywhere: for what must agree between instruction sets. */
INLINE vf vf_fma_exact(vf a, vf b, vf c) {
#if defined(ISA_PORTABLE)
    vf out;
    for (int i = 0; i < VL; i++) out[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return out;
#else
    return vf_fma(a, b, c);
#endif
}

/* The greater; b where either is NaN. */
INLINE vf vf_max(vf a, vf b) {
#if defined(ISA_AVX512)
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(ISA_AVX2)
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    vi greater = a > b;
    return (vf)(((vi)a & greater) | ((vi)b & ~greater));
#endif
}

/* a where `choose` is all ones, b where it is 0. */
INLINE vf vf_select(vi choose, vf a, vf b) {
    return (vf)(((vi)a & choose) | ((vi)b & ~choose));
}

/* Lanes added in one fixed order. */
INLINE float vf_sum(vf v) {
    float lane[VL];
    vf_store(lane, v);
    for (int half = VL / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) lane[i] += lane[i + half];
    return lane[0];
}

INLINE float vf_greatest(vf v) {
    float lane[VL];
    vf_store(lane, v);
    for (int half = VL / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) lane[i] = lane[i] > lane[i + half] ? lane[i] : lane[i + half];
    return lane[0];
}

/* e^x to about 1.5 units in the last place; 0 below -87.3 (also for -infinity), infinity above 88.7, NaN
 * stays. The polynomial is that of Cephes' expf. */
INLINE vf vf_exp(vf x) {
    const vf low = vf_set(-87.33654f), high = vf_set(88.73f);
    vi under = x<low, over = x> high;
    vf clamped = vf_select(under, low, vf_select(over, high, x));
    const vf magic = vf_set(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    vf n = vf_fma(clamped, vf_set(1.44269504088896341f), magic);
    vi exponent = (vi)n - (vi)magic;
    n = n - magic;
    vf r = vf_fma(n, vf_set(-0.693359375f), clamped);
    r = vf_fma(n, vf_set(2.12194440e-4f), r);
    vf p = vf_set(1.9875691500e-4f);
    p = vf_fma(p, r, vf_set(1.3981999507e-3f));
    p = vf_fma(p, r, vf_set(8.3334519073e-3f));
    p = vf_fma(p, r, vf_set(4.1665795894e-2f));
    p = vf_fma(p, r, vf_set(1.6666665459e-1f));
    p = vf_fma(p, r, vf_set(5.0000001201e-1f));
    p = vf_fma(p * r, r, r) + vf_set(1.0f);
    /* 2^exponent in two factors, as 2^128 and 2^-127 are no normal numbers */
    vi half = exponent >> 1;
    vf result = p * (vf)((half + 127) << 23) * (vf)((exponent - half + 127) << 23);
    return vf_select(under, vf_set(0.0f), result);
}

/* Rounds to bf16, to nearest even; the 16 bits stand in the low half of each lane. The same as
 * ph_f32_to_bf16. */
INLINE vu vu_bf16_of(vf v) {
    vu u = (vu)v;
    vu nan = (vu)((vi)(u & 0x7fffffffu) > (vi)vu_set(0x7f800000u));
    vu rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    return (rounded & ~nan) | (((u >> 16) | 0x40u) & nan);
}

/* VL bf16 values at p as fp32. */
INLINE vf vf_from_bf16(const uint16_t *p) {
    vu wide = __builtin_convertvector(*(const vh_any *)p, vu);
    return (vf)(wide << 16);
}

/* Stores the low 16 bits of each lane. */
INLINE void vu_store_half(uint16_t *p, vu v) {
    *(vh_any *)p = __builtin_convertvector(v, vh);
}

INLINE int64_t min_i64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

#endif
