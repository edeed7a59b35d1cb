/* cuda.h - what the files of the CUDA backend share; nobody else includes it.
 *
 * Everything runs in one stream. Operations cannot fail by the table's contract, so a launch that does is kept in
 * `failed` and told by the table's `status`.
 */
#ifndef PHAROS_CUDA_H
#define PHAROS_CUDA_H

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "kernels/kernels.h"

/* Working memory of the operations, reserved when the device is opened: each cuts its work into pieces that fit. */
#define CUDA_WORK_BYTES ((size_t)768 << 20)
#define CUDA_WORK_MOST ((size_t)2304 << 20)
#define CUDA_MANY_BYTES ((size_t)64 << 20) /* the last of all working memory, for sums of products of many rows */
#define CUDA_STRIP_BYTES ((size_t)512 << 20) /* of them for index scores, from the beginning on */

/* Part of the cache layout's name, and so of a snapshot's key: raise it whenever the numbers that this backend's kernels
 * write into a cache change. 2: sums over more than 2,048 columns in segments, V3.2's kernels behind the table. 3: FP8
 * products by the formula of product.cuh. */
enum { CUDA_NUMERICS = 3 };

/* Lanes of a step that is recorded; and how far positions may go on before a recording is made anew. */
enum { CUDA_LANES = 4, CUDA_STRETCH = 8192 };

struct cuda_state {
    int device;
    int n_sm, major; /* multiprocessors, compute capability */
    char layout[32]; /* the table's cache_layout */
    size_t block_shared; /* bytes of shared memory that a block can ask for */
    cudaStream_t stream;
    cudaStream_t copies; /* for copy_out_marked */
    cudaEvent_t mark;
    struct cuda_steps *steps; /* step.cu */
    struct cuda_pages *pages; /* pages.cu; NULL = the driver has none */
    bool recording;           /* what is asked for is kept and done later */
    bool record_failed;
    int lane;                 /* that operations go into while recording */
    cudaStream_t lanes[CUDA_LANES]; /* [0] is `stream` */
    int64_t *moved;           /* in the device's memory: how far a recorded step's positions are from the recording's */
    unsigned char *work; /* [work_bytes] */
    size_t work_bytes;   /* CUDA_WORK_BYTES, and more on a device with much memory: for experts of many tokens */
    unsigned char *pinned; /* host memory that the device reads and writes at full speed */
    size_t pinned_bytes;
    cudaError_t failed;
    const char *failed_in;
};

/* A weight matrix: rows of `stride` elements, what is beyond cols is 0. FP8: codes, with a factor for each 128 x 128
 * block of them; element (0, 0) stands at (row0, col0) of its block. Products multiply
 * codes and apply factors to sums (product.cuh): nothing of the weights is rounded. */
struct kern_matrix {
    int64_t rows, cols, stride;
    kern_type type; /* F32, BF16 or FP8 */
    void *data;
    float *scale; /* FP8: [row blocks, scale_stride], or NULL = 1 */
    int scale_stride;
    int row0, col0; /* below 128; col0 a multiple of 8 */
    int segment;    /* columns of which a product has one sum; those are added as a balanced tree. 0: the kernels' choice */
};

/* A matrix as a kernel gets it. */
struct matrix_ref {
    const void *data;
    const float *scale;
    int32_t scale_stride;
    int16_t row0, col0;
};
static inline matrix_ref cuda_ref(const kern_matrix *w) {
    return {w->data, w->scale, w->scale_stride, (int16_t)w->row0, (int16_t)w->col0};
}

/* An embedding table, rows of `cols` elements as exact as its source. */
struct kern_embedding {
    int64_t rows, cols;
    kern_type type; /* F32 or BF16 */
    void *data;
};

static inline cuda_state *cuda_state_of(const kern *k) {
    return static_cast<cuda_state *>(k->state);
}

/* Whether a kernel can begin before the one before it has ended (launch_early). */
static inline bool cuda_early(const kern *k) {
    return cuda_state_of(k)->major >= 9;
}
/* The stream (of the lane, while recording), on whichever host thread this is. */
cudaStream_t cuda_stream(const kern *k);
/* What kernels add to a position: NULL (nothing), or while recording where the number will be when the step is done. */
static inline const int64_t *cuda_moved(const kern *k) {
    return cuda_state_of(k)->recording ? cuda_state_of(k)->moved : nullptr;
}
/* n_key, or while recording the most keys that there will be when the step is done: for grids and strides. */
static inline int64_t cuda_reach(const kern *k, int64_t n_key) {
    return cuda_state_of(k)->recording ? (n_key + CUDA_STRETCH - 1) / CUDA_STRETCH * CUDA_STRETCH : n_key;
}
/* Keeps an error for `status`. `what`: static. */
void cuda_noted(const kern *k, cudaError_t e, const char *what);
/* Notes the error of the launch just made, if there was one. `what`: static. */
void cuda_launched(const kern *k, const char *what);
/* cudaMalloc with a message that names both sizes. Not zeroed. */
int cuda_allocate(const kern *k, void **out, size_t bytes, const char *what, ph_error *err);
/* Lets a kernel use `bytes` of dynamic shared memory. */
void cuda_allow_shared(const kern *k, const void *kernel, size_t bytes);

static inline int cuda_blocks(int64_t n, int64_t each) {
    return (int)((n + each - 1) / each);
}

int cuda_matrix_make(kern *k, kern_matrix **out, const kern_matrix_source *source, kern_type keep, ph_error *err);
void cuda_matrix_free(kern *k, kern_matrix *w);
int cuda_embedding_make(kern *k, kern_embedding **out, const kern_matrix_source *source, ph_error *err);
void cuda_embedding_free(kern *k, kern_embedding *e);

void cuda_embed(kern *k, const kern_embed *a);
void cuda_matmul(kern *k, const kern_matmul *a);
void cuda_matmul_each(kern *k, const kern_matmul_each *a);
void cuda_experts(kern *k, const kern_experts *a);
void cuda_rmsnorm(kern *k, const kern_rmsnorm *a);
void cuda_layernorm(kern *k, const kern_layernorm *a);
void cuda_rope(kern *k, const kern_rope *a);
void cuda_hadamard(kern *k, const kern_hadamard *a);
void cuda_swiglu(kern *k, const kern_swiglu *a);
void cuda_add(kern *k, const kern_add *a);
void cuda_sum(kern *k, const kern_sum *a);
void cuda_route(kern *k, const kern_route *a);
void cuda_latent_append(kern *k, const kern_latent_append *a);
void cuda_index_append(kern *k, const kern_index_append *a);
void cuda_index_select(kern *k, const kern_index_select *a);
void cuda_index_scores(kern *k, const kern_index_scores *a);
void cuda_sparse_mla(kern *k, const kern_sparse_mla *a);
void cuda_dense_mla(kern *k, const kern_dense_mla *a);
/* step.cu */
int cuda_steps_open(kern *k, ph_error *err);
void cuda_steps_close(kern *k);
void cuda_steps_forget(kern *k); /* memory that recorded steps may name is about to go */
bool cuda_step_begin(kern *k, const void *key, size_t key_bytes, int64_t pos0);
bool cuda_step_end(kern *k);
void cuda_lane(kern *k, int lane);
void cuda_join(kern *k);

size_t cuda_index_key_bytes(kern_type type, int dim, int64_t capacity);
void cuda_measure_peaks(kern *k, kern_peaks *out);

/* Products of rows that are listed by expert (matrix.cu, experts.cu). Tile i covers rows [first[i], first[i] + n) of
 * the list, all of one expert. */
struct expert_tiles {
    const int32_t *expert; /* [n_tile], -1 = none */
    const int32_t *first;  /* [n_tile] */
    const int32_t *start;  /* [n_expert + 1] where each expert's rows begin in the list */
    int n_tile;
    int most_rows; /* that a tile has: a token picks an expert once */
    int n_expert;
    int64_t n_row; /* that the list has at most */
    bool listed;   /* the three arrays are older than what the launch before writes */
};
enum { EXPERT_POINTERS = 384 };
struct expert_pointers {
    matrix_ref w[EXPERT_POINTERS];
};
/* For FP8 matrices with tiles of 128 rows: where x is made ready, cuda_grouped_room bytes; whether it holds this x already, from
 * the call before; up, NULL or rows like those of x (and no list): silu(x) * up takes x's place. */
struct expert_x {
    unsigned char *room;
    bool ready;
    const float *up;
};
size_t cuda_grouped_room(const kern_matrix *shape, int64_t n_row);
/* y[row] = W[expert of row] x[list ? list[row] : row]; tiles of `tile_rows` rows, which is 16 or 128. */
void cuda_grouped_product(const kern *k, const expert_pointers *w, const kern_matrix *shape, const float *x,
                          int64_t x_stride, const int32_t *list, float *y, int64_t y_stride,
                          const expert_tiles *tiles, int tile_rows, const expert_x &made);
/* y[row] = silu(Gate x) * (Up x) in one go, the bits of product by product; false, and nothing done, where no kernel does
 * that. */
bool cuda_grouped_gated(const kern *k, const expert_pointers *gate, const expert_pointers *up, const kern_matrix *shape,
                        const kern_matrix *up_shape, const float *x, int64_t x_stride, const int32_t *list, float *y,
                        int64_t y_stride, const expert_tiles *tiles, int tile_rows);

/* The positions that may be selected as bits, [n_key / 32 rounded up], in working memory at `at`; NULL where all
 * are allowed (index.cu). */
uint32_t *cuda_allow_bits(const kern *k, const kern_range *allow, int n_allow, int64_t n_key, unsigned char *at);

/* V3.2's kernels (v32_table.cu). attention: whether this shape is theirs. */
bool cuda_v32_attention(const kern *k, const kern_latents *cache, int n_head);
void cuda_v32_sparse_mla(kern *k, const kern_sparse_mla *a);
/* The same as cuda_topk_rows where no score is a NaN; false, and nothing done, beyond what it holds. */
bool cuda_v32_topk_rows(const kern *k, const float *score, int64_t stride, int64_t pos0, int n_row, int n_select,
                        int32_t *position, int32_t *count, float *best);
bool cuda_fp8_latents(const kern *k, int n_head, int kv_lora, int rope);
void cuda_v32_latent_append(kern *k, const kern_latent_append *a); /* FP8 rows */
kern_type cuda_index_type(const kern *k, int n_head, int dim);
void cuda_v32_index_append(kern *k, const kern_index_append *a); /* these three: FP8 keys */
void cuda_v32_index_select(kern *k, const kern_index_select *a);
void cuda_v32_index_scores(kern *k, const kern_index_scores *a);

/* The n_select best of each row of scores (topk.cu): score[row, stride], of which the first pos0 + 1 + row count; a
 * NaN is no candidate. Fills position, count and best (may be NULL) like kern_index_select. */
void cuda_topk_rows(const kern *k, const float *score, int64_t stride, int64_t pos0, int n_row, int n_select,
                    int32_t *position, int32_t *count, float *best);

#endif
