/* product.cuh - what the kernels of matrix products share: which rows meet which matrix, and FP8 weights as numbers. */
#ifndef PHAROS_PRODUCT_CUH
#define PHAROS_PRODUCT_CUH

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device.cuh"

#include <cuda_fp16.h>

/* An element's sum is one for each SEGMENT of the columns, added in ascending order: the same in every kernel. */
enum { HEAD_POINTERS = 128, SMALL_ROWS = 16, TILE = 128, TILE_K = 32, STAGES = 3, SEGMENT = 2048,
       SEGMENT_STEPS = SEGMENT / TILE_K };

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
    int segment; /* the matrix's */
    bool accumulate;
    bool vector; /* every row of x begins at a multiple of 16 bytes and has a multiple of 4 columns */
    const int32_t *list;  /* experts only: row of x for each row of the product */
    const int32_t *tile_expert, *tile_first, *start;
};

struct piece {
    const float *x;
    float *y;
    matrix_ref w;
    int row0, end; /* rows of the product: [row0, end) */
};

template <class pointers, bool EXPERTS>
static __device__ __forceinline__ bool find_piece(const product &p, const pointers &w, int tile_rows, piece *out) {
    if (EXPERTS) {
        int e = p.tile_expert[blockIdx.y];
        if (e < 0) return false;
        *out = {p.x, p.y, w.w[e], p.tile_first[blockIdx.y], p.start[e + 1]};
        return true;
    }
    *out = {p.x + blockIdx.z * p.x_step, p.y + blockIdx.z * p.y_step, w.w[blockIdx.z], (int)blockIdx.y * tile_rows,
            p.n_tok};
    return true;
}

/* Eight FP8 codes times their block's factor as bf16: what a BF16 matrix from the same source holds. */
static __device__ __forceinline__ float code_value(uint32_t code) {
    float v = __uint_as_float((code & 0x80u) << 24 | (code & 0x7fu) << 20) * 0x1p120f; /* subnormal codes too */
    return (code & 0x7fu) == 0x7fu ? __int_as_float(0x7fc00000) : v;
}
static __device__ __forceinline__ uint32_t two_codes(uint32_t codes, float factor) {
#if __CUDA_ARCH__ >= 890 /* the same numbers: fp16 holds every code exactly */
    uint32_t both;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(both) : "h"((uint16_t)codes));
    float2 v = __half22float2(*reinterpret_cast<__half2 *>(&both));
    return pack_bf16(__fmul_rn(v.x, factor), __fmul_rn(v.y, factor));
#endif
    return pack_bf16(__fmul_rn(code_value(codes & 0xffu), factor), __fmul_rn(code_value(codes >> 8 & 0xffu), factor));
}
static __device__ __forceinline__ uint4 eight_codes(uint2 codes, float factor) {
    return make_uint4(two_codes(codes.x, factor), two_codes(codes.x >> 16, factor), two_codes(codes.y, factor),
                      two_codes(codes.y >> 16, factor));
}
/* The factor of the codes around (row, col). */
static __device__ __forceinline__ float factor_at(const matrix_ref &w, int row, int col) {
    return w.scale ? __ldg(w.scale + (int64_t)((row + w.row0) >> 7) * w.scale_stride + ((col + w.col0) >> 7)) : 1.0f;
}

/* product_long.cu: the few-row products of FP8 matrices; tiles of at most most_rows rows, which is at most SMALL_ROWS. */
void cuda_product_long(const kern *k, const product &p, const head_pointers &w, int n_tile, int most_rows, int n_z);
void cuda_product_long(const kern *k, const product &p, const expert_pointers &w, int n_tile, int most_rows, int n_z);

#endif
