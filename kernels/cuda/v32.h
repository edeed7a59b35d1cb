/* v32.h - kernels for the dimensions of DeepSeek-V3.2, for Hopper: latents of 512 + 64, values of 512, heads in
 * groups of 64; 64 index heads of 128; thousands of selected positions.
 *
 * Each launch function returns what the launch gave; cudaErrorNotSupported where the shape or the device is not the
 * kernel's. Arrays are row-major in device memory, borrowed until the stream has passed the launch, 16-byte aligned.
 */
#ifndef PHAROS_V32_H
#define PHAROS_V32_H

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stdint.h>

enum {
    V32_LATENT = 512,
    V32_ROPE = 64,
    V32_KEY = V32_LATENT + V32_ROPE,
    V32_FP8_ROW = 656, /* bytes: 512 e4m3 | 4 fp32 factors, one for each 128 | 64 bf16 */
    V32_INDEX_HEADS = 64,
    V32_INDEX_DIM = 128,
    V32_TOPK_MOST = 4096, /* positions that a row can select */
};

typedef enum v32_variant {
    V32_WGMMA,    /* sm_90a: warpgroup products fed by a loading warpgroup */
    V32_MMA_SYNC, /* sm_89 and later: products of single warps */
} v32_variant;

/* Attention over latents in the absorbed form, as kern_sparse_mla:
 *   p[h, s] = softmax_s(scale * q[h] . key[s]);  out[h] = sum_s p[h, s] latent[s]
 * Positions are rows of the cache; with all positions listed it is dense attention. count 0 gives zeros. */
typedef struct v32_mla {
    bool fp8;                /* the cache's rows: 656 bytes, or 576 bf16 */
    const void *cache;
    const __nv_bfloat16 *q;  /* [n_tok, n_head, 576] latent part, then rotated part. With fp8 the latent part must be
                                within fp16's range: it is multiplied as fp16, which holds e4m3 exactly */
    const int32_t *position; /* [n_tok, position_stride] */
    const int32_t *count;    /* [n_tok] how many of each row are valid */
    int64_t position_stride;
    int n_tok, n_head;       /* n_head a multiple of 64 */
    float scale;
    __nv_bfloat16 *out;      /* filled [n_tok, n_head, 512], or NULL */
    float *out_f32;          /* the same in fp32, or NULL: one of the two */
    float *lse;              /* filled [n_tok, n_head]: ln sum_s exp(scale q.key), -infinity for none; or NULL */
    /* Few tokens: each row's list cut into n_split parts of whole blocks of 64 keys, so that all multiprocessors have
     * work. 1 = no cut. */
    int n_split;
    float *part_out; /* working memory, n_split > 1: [n_split, n_tok, n_head, 512] */
    float *part_lse; /* [n_split, n_tok, n_head] */
} v32_mla;
cudaError_t v32_mla_launch(const v32_mla *a, v32_variant variant, cudaStream_t stream);

/* Index scores over FP8 keys, as kern_index_select's first half:
 *   score[t, s] = k_scale[s] * sum_h w[t, h] relu(q[t, h] . k[s]),  s <= pos0 + t and s < n_key
 * A pair's score has the same bits whatever else is in the call. Later places of a row are not written. */
typedef struct v32_index {
    const uint8_t *q;     /* [n_tok, 64, 128] e4m3 */
    const float *w;       /* [n_tok, 64], every factor included, the query's too */
    const uint8_t *k;     /* [n_key, 128] e4m3 */
    const float *k_scale; /* [n_key] */
    int64_t n_key, pos0;
    int n_tok;
    float *score;         /* filled [n_tok, score_stride] */
    int64_t score_stride;
    int tokens_each;      /* that a block reads its keys for; 0 = a good number */
    int64_t key_step;     /* 0: all tokens have the same keys. Else each has its own, key_step rows (and factors) after
                             those of the one before, and all see s <= pos0: decode of several conversations */
    const int64_t *moved; /* added to pos0 and n_key when the kernel runs; NULL = nothing */
    int64_t reach;        /* with it: the most keys that there may be then */
} v32_index;
cudaError_t v32_index_launch(const v32_index *a, v32_variant variant, cudaStream_t stream);

/* The n_select greatest of each row of scores, exactly; of equals the earlier position; in ascending order of
 * position. NaN counts as less than everything. Row r has min(pos0 + r * row_step + 1, n_key) scores. */
typedef struct v32_topk {
    const float *score; /* [n_row, score_stride]; score_stride a multiple of 4 */
    int64_t score_stride, pos0, n_key;
    int row_step;       /* 1: rows are consecutive tokens; 0: all rows see the same number */
    int n_row, n_select;
    int32_t *position;  /* filled [n_row, n_select] */
    int32_t *count;     /* filled [n_row] */
    int threads;        /* of a block: a multiple of 128 up to 1024; 0 = a good number */
    int parts;          /* 1: a block for each row; 2 to 8: a cluster of so many, which holds the row where it has room;
                           0 = a good number */
    const int64_t *moved; /* as in v32_index */
    int64_t reach;
} v32_topk;
cudaError_t v32_topk_launch(const v32_topk *a, cudaStream_t stream);

#endif
