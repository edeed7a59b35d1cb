/* product.cuh - what the kernels of matrix products share: which rows meet which matrix, and FP8 weights as
 * numbers.
 *
 * FP8 matrices. A weight is a code times the factor of its block of 128 x 128. Codes are multiplied as fp16,
 * which holds them exactly, and a block's factor is applied to the sum, so no weight is rounded:
 *
 *   y[r, n] = tree over segments s of  unit[r, s] * total[r, n, s]
 *   total   = over the blocks b of 128 columns of s, ascending, from 0:  total = fma(factor[n, b], T[r, n,
 * b], total) T       = over the columns of b:  code[n, c] * f16(x[r, c] / unit[r, s])
 *
 * unit is the power of two that puts the greatest |x| of the segment into [2^14, 2^15], so that of x only
 * what is below 2^-28 of that greatest loses bits of fp16's eleven. A segment is the matrix's `segment`
 * columns, 1,024 unless it says otherwise; the tree adds neighbours, again and again, and one left over goes
 * on as it is. T is eight steps of the tensor core's m16n8k16, ascending, from 0: of 64 columns the lanes q =
 * 0 ... 3 have 16 q ... 16 q + 15, and step j of four takes 16 q + 4 j and the next as 2 q, 2 q + 1, the two
 * after them as 2 q + 8, 2 q + 9. Where the blocks of factors do not begin where those of columns do (col0,
 * ranks of odd widths), the columns of b that are in the one block come first, then those in the other: a T
 * and an fma each, with zeros for x in the other's columns.
 */
#ifndef PHAROS_PRODUCT_CUH
#define PHAROS_PRODUCT_CUH

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device.cuh"

#include <cuda_fp16.h>

#include <cstring>

/* An element's sum is one for each SEGMENT of the columns, added in ascending order: the same in every
 * kernel. */
enum {
    HEAD_POINTERS = 128,
    SMALL_ROWS = 16,
    TILE = 128,
    TILE_K = 32,
    STAGES = 3,
    SEGMENT = 2048,
    SEGMENT_STEPS = SEGMENT / TILE_K,
    FP8_SEGMENT = 1024
};

struct head_pointers {
    matrix_ref w[HEAD_POINTERS];
};

/* Which rows, which matrix: block z of a "same shape, next slice" call, or a tile of rows of one expert. */
struct product {
    const float *x;
    float *y;
    int64_t x_stride, y_stride, x_step, y_step; /* steps: from one z to the next */
    int64_t w_stride;
    int n_tok, rows, cols;
    int segment;  /* columns that are summed by themselves, FP8 matrices */
    bool shifted; /* some matrix has col0 > 0 */
    bool listed;  /* experts only: the list of tiles is older than what the kernel before writes */
    bool accumulate;
    bool vector;         /* every row of x begins at a multiple of 16 bytes and has a multiple of 4 columns */
    const int32_t *list; /* experts only: row of x for each row of the product */
    const int32_t *tile_expert, *tile_first, *start;
};

struct piece {
    const float *x;
    float *y;
    matrix_ref w;
    int row0, end; /* rows of the product: [row0, end) */
};

template <class pointers, bool EXPERTS>
static __device__ __forceinline__ bool find_piece(const product &p, const pointers &w, int tile_rows,
                                                  piece *out) {
    if (EXPERTS) {
        int e = p.tile_expert[blockIdx.y];
        if (e < 0) return false;
        *out = {p.x, p.y, w.w[e], p.tile_first[blockIdx.y], p.start[e + 1]};
        return true;
    }
    *out = {p.x + blockIdx.z * p.x_step, p.y + blockIdx.z * p.y_step, w.w[blockIdx.z],
            (int)blockIdx.y * tile_rows, p.n_tok};
    return true;
}

/* Eight FP8 codes times their block's factor as bf16: what a BF16 matrix from the same source holds. */
static __device__ __forceinline__ float code_value(uint32_t code) {
    float v =
        __uint_as_float((code & 0x80u) << 24 | (code & 0x7fu) << 20) * 0x1p120f; /* subnormal codes too */
    return (code & 0x7fu) == 0x7fu ? __int_as_float(0x7fc00000) : v;
}
static __device__ __forceinline__ uint32_t two_codes(uint32_t codes, float factor) {
#if __CUDA_ARCH__ >= 890 /* the same numbers: fp16 holds every code exactly */
    uint32_t both;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(both) : "h"((uint16_t)codes));
    float2 v = __half22float2(*reinterpret_cast<__half2 *>(&both));
    return pack_bf16(__fmul_rn(v.x, factor), __fmul_rn(v.y, factor));
#endif
    return pack_bf16(__fmul_rn(code_value(codes & 0xffu), factor),
                     __fmul_rn(code_value(codes >> 8 & 0xffu), factor));
}
static __device__ __forceinline__ uint4 eight_codes(uint2 codes, float factor) {
    return make_uint4(two_codes(codes.x, factor), two_codes(codes.x >> 16, factor),
                      two_codes(codes.y, factor), two_codes(codes.y >> 16, factor));
}
/* Two codes, the lower 16 bits, as fp16, exactly. */
static __device__ __forceinline__ uint32_t codes_f16(uint32_t codes) {
    uint32_t both;
#if __CUDA_ARCH__ >= 890
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(both) : "h"((uint16_t)codes));
#else
    __half2 v = __floats2half2_rn(code_value(codes & 0xffu), code_value(codes >> 8 & 0xffu));
    memcpy(&both, &v, sizeof both);
#endif
    return both;
}
/* Four codes, the lower two in *low. One instruction for two: halves of a register are no instruction of their own. */
static __device__ __forceinline__ void codes_f16(uint32_t codes, uint32_t *low, uint32_t *high) {
#if __CUDA_ARCH__ >= 890
    asm("{\n.reg .b16 a, b;\nmov.b32 {a, b}, %2;\ncvt.rn.f16x2.e4m3x2 %0, a;\ncvt.rn.f16x2.e4m3x2 %1, b;\n}"
        : "=r"(*low), "=r"(*high)
        : "r"(codes));
#else
    *low = codes_f16(codes), *high = codes_f16(codes >> 16);
#endif
}
static __device__ __forceinline__ uint32_t pack_f16(float low, float high) {
    __half2 v = __floats2half2_rn(low, high);
    uint32_t both;
    memcpy(&both, &v, sizeof both);
    return both;
}
/* The unit of a row's segment and its inverse, from the bits of the greatest |x|. */
static __device__ __forceinline__ uint32_t most_bits(const float4 &v, uint32_t most) {
    uint32_t a = __float_as_uint(v.x) & 0x7fffffffu, b = __float_as_uint(v.y) & 0x7fffffffu;
    uint32_t c = __float_as_uint(v.z) & 0x7fffffffu, d = __float_as_uint(v.w) & 0x7fffffffu;
    a = a > b ? a : b, c = c > d ? c : d, a = a > c ? a : c;
    return a > most ? a : most;
}
static __device__ __forceinline__ uint32_t unit_exponent(uint32_t most) { /* both are normal numbers */
    return most >> 23 > 15 ? most >> 23 : 15;
}
static __device__ __forceinline__ float x_unit(uint32_t most) {
    return __uint_as_float((unit_exponent(most) - 14) << 23);
}
static __device__ __forceinline__ float x_inverse(uint32_t most) {
    return __uint_as_float((268 - unit_exponent(most)) << 23);
}
/* The factor of the codes around (row, col). */
static __device__ __forceinline__ float factor_at(const matrix_ref &w, int row, int col) {
    return w.scale ? __ldg(w.scale + (int64_t)((row + w.row0) >> 7) * w.scale_stride + ((col + w.col0) >> 7))
                   : 1.0f;
}

/* product_one.cu: the same where no tile has more than one row; false, and nothing done, where it is not for that. */
bool cuda_product_one(const kern *k, const product &p, const head_pointers &w, int n_tile, int most_rows, int n_z);
bool cuda_product_one(const kern *k, const product &p, const expert_pointers &w, int n_tile, int most_rows);
bool cuda_product_one_gated(const kern *k, const product &p, const expert_pointers &gate, const expert_pointers &up,
                            int n_tile, int most_rows);
/* product_long.cu: the few-row products of FP8 matrices; tiles of at most most_rows rows, which is at most
 * SMALL_ROWS. */
void cuda_product_long(const kern *k, const product &p, const head_pointers &w, int n_tile, int most_rows,
                       int n_z);
void cuda_product_long(const kern *k, const product &p, const expert_pointers &w, int n_tile, int most_rows,
                       int n_z);
/* y = silu(gate x) * (up x). */
void cuda_product_gated(const kern *k, const product &p, const expert_pointers &gate,
                        const expert_pointers &up, int n_tile, int most_rows);

#endif
