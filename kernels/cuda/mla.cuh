/* mla.cuh - what the forms of latent attention share: the job, its rows, and how segments are merged. */
#ifndef PHAROS_MLA_CUH
#define PHAROS_MLA_CUH

#include "kernels/cuda/cuda.h"

enum { MLA_BLOCK = 128 }; /* keys */

/* A sparse call has position and count; a dense one has pos0 and may have allow. */
struct mla_job {
    const void *cache; /* rows of kv_lora + rope */
    kern_type type;
    int kv_lora, rope;
    const float *q_latent, *q_pe;
    int64_t q_pe_tok_stride, q_pe_head_stride;
    const int32_t *position, *count;
    int64_t pos0;
    const int64_t *moved; /* added to pos0 (cuda_moved) */
    const uint32_t *allow; /* bits, or NULL */
    int n_tok, n_head, n_select;
    float scale_log2; /* times log2(e): probabilities are powers of 2 */
    float *out;
    /* Few rows: every segment by itself, into part_*[row, most_segments] (and kv_lora). */
    bool split;
    int segment_blocks, most_segments;
    float *part_sum, *part_greatest, *part_total;
    float *row_greatest, *row_total; /* [row], or NULL */
    float *scores;                   /* [row, n_select] times log2(e), -infinity where there is none; or NULL */
};

/* The rows of a block: (token, head) pairs in order of token, then head. */
struct mla_rows {
    int64_t first;
    int n;
    int64_t n_key; /* sparse: of the token's list; dense: that the last row sees */
    int token;     /* sparse */
};

template <bool SPARSE> static __device__ __forceinline__ mla_rows mla_rows_of(const mla_job &a, int most) {
    mla_rows r;
    if (SPARSE) {
        int tiles = (a.n_head + most - 1) / most;
        r.token = (int)(blockIdx.x / tiles);
        int head = (int)(blockIdx.x % tiles) * most;
        r.first = (int64_t)r.token * a.n_head + head;
        r.n = a.n_head - head < most ? a.n_head - head : most;
        int n = a.count[r.token];
        r.n_key = n > 0 ? n : 0;
    } else {
        int64_t all = (int64_t)a.n_tok * a.n_head;
        r.first = (int64_t)blockIdx.x * most;
        r.n = all - r.first < most ? (int)(all - r.first) : most;
        r.token = 0;
        r.n_key = a.pos0 + (r.first + r.n - 1) / a.n_head + 1;
    }
    return r;
}

/* A row's query: latent part, then rotated part. */
struct mla_query {
    const float *latent, *pe;
    int kv_lora;
    __device__ __forceinline__ float at(int d) const {
        return d < kv_lora ? latent[d] : pe[d - kv_lora];
    }
};
static __device__ __forceinline__ mla_query mla_query_of(const mla_job &a, int64_t row) {
    return {a.q_latent + row * a.kv_lora,
            a.q_pe + row / a.n_head * a.q_pe_tok_stride + row % a.n_head * a.q_pe_head_stride, a.kv_lora};
}

/* The position of key number i of the rows' list; -1 where there is none. */
template <bool SPARSE> static __device__ __forceinline__ int32_t mla_place(const mla_job &a, const mla_rows &r, int64_t i) {
    if (i >= r.n_key) return -1;
    if (SPARSE) return a.position[(int64_t)r.token * a.n_select + i];
    return a.allow && !(a.allow[i >> 5] >> (i & 31) & 1) ? -1 : (int32_t)i;
}

/* Row number i of the block sees the keys of its list up to this one. */
template <bool SPARSE>
static __device__ __forceinline__ int64_t mla_sees(const mla_job &a, const mla_rows &r, int i) {
    return SPARSE ? r.n_key : a.pos0 + (r.first + i) / a.n_head + 1;
}

/* A segment with the greatest score `here` after others whose is `before`: both sums' factors. */
struct mla_merge {
    float greatest, before, here;
};
static __device__ __forceinline__ mla_merge mla_merge_of(float before, float here) {
    float greatest = fmaxf(before, here), base = greatest == -INFINITY ? 0.0f : greatest;
    return {greatest, exp2f(before - base), exp2f(here - base)};
}

/* bf16 caches with tensor cores; false where the shape is beyond it. */
bool mla_bf16(const kern *k, const mla_job &a);

#endif
