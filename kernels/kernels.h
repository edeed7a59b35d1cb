/* kernels.h - arithmetic on arrays, behind one table of functions.
 *
 * A backend (`kern`) is a table plus its state: worker threads on the CPU, a device and a stream on a GPU.
 * The engine's forward pass calls the table and nothing else, so that it is written once.
 *
 * Promises that every backend keeps:
 *  - A row's result does not depend on how many rows are in the call, nor on the number of threads: chunked
 *    prefill, one-token decode and a restored snapshot give identical bits. (On a GPU too: cuda/NOTES.md says how.)
 *    One operation has two forms, on one kind of GPU and for V3.2's dimensions: kern_sparse_mla.session. There what
 *    is read into a context has the same bits in whatever chunks it is read, and what a session is fed and writes has
 *    too; the same token read by the one and by the other may differ in the last bits.
 *  - Activations are fp32. Matrices and caches have the format they were made with.
 *  - Equal index scores are ordered by position: the earlier one wins.
 *  - Arrays are row-major; a shape comment [a, b] means a rows of b contiguous elements.
 *  - Pointers in the operation structs are borrowed for the call, point into memory from `alloc` (on the CPU any
 *    memory will do) and do not overlap unless the comment says "in place". Sizes are trusted here: the engine
 *    has checked them.
 *  - Operations cannot fail; what can (making, allocating) returns a code (error.h).
 */
#ifndef PHAROS_KERNELS_H
#define PHAROS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kern_type {
    KERN_F32,
    KERN_BF16,
    KERN_F16,
    KERN_FP8, /* e4m3fn: 1 sign, 4 exponent (bias 7), 3 mantissa bits; no infinities; max 448 */
    KERN_I8,  /* caches only: symmetric int8 with one fp32 scale a row */
} kern_type;

typedef enum kern_rope_layout {
    KERN_ROPE_INTERLEAVED, /* pairs (2i, 2i+1) */
    KERN_ROPE_HALF_SPLIT,  /* pairs (i, i + n/2) */
} kern_rope_layout;

typedef struct kern kern;
typedef struct kern_matrix kern_matrix; /* a weight matrix in the backend's own layout; owned by its maker */
typedef struct kern_embedding kern_embedding; /* an embedding table; owned by its maker */

/* What a matrix is made from. All borrowed until matrix_make returns. */
typedef struct kern_matrix_source {
    int64_t rows, cols;    /* of the matrix as used: y[rows] = W[rows, cols] x[cols] */
    const void *data;      /* W, or its transpose [cols, rows] where `transposed` */
    int64_t stride;        /* elements from one stored row to the next */
    kern_type type;        /* F32, BF16, F16 or FP8 */
    bool transposed;
    const float *scale;    /* FP8 only: one factor for each 128 x 128 block of the STORED array, W = fp8 * factor;
                              NULL = 1 */
    int64_t scale_stride;  /* elements between rows of `scale` */
    int64_t scale_row0, scale_col0; /* where data[0] stands inside the block grid, in elements (slices of a tensor) */
    int64_t segment; /* a product's sum is one for each so many columns, and of those a balanced tree: where ranks_alike says
                        so, and it is a multiple of 128 of FP8 codes, or any of F32 numbers. 0 = the backend's choice */
} kern_matrix_source;

/* y[t, :] = W x[t, :], or y += where `accumulate`. */
typedef struct kern_matmul {
    const kern_matrix *w; /* [rows, cols] */
    const float *x;       /* [n_tok, cols], rows x_stride apart */
    float *y;             /* [n_tok, rows], rows y_stride apart */
    int64_t x_stride, y_stride;
    int n_tok;
    bool accumulate;
} kern_matmul;

/* x[t, :] = row tokens[t] of the table, as exact as its source. */
typedef struct kern_embed {
    const kern_embedding *table;
    const int32_t *tokens; /* [n_tok], in HOST memory; each below the table's rows */
    float *x;              /* filled [n_tok, cols] */
    int n_tok;
} kern_embed;

/* n matrices of one shape over neighbouring slices of each row (the heads of an attention):
 * y[t, i * y_step ...] = w[i] x[t, i * x_step ...] for each i < n. */
typedef struct kern_matmul_each {
    const kern_matrix *const *w; /* [n], the array in host memory */
    int n;
    const float *x;
    float *y;
    int64_t x_step, y_step;     /* elements from one matrix's slice to the next one's */
    int64_t x_stride, y_stride; /* elements from one row to the next */
    int n_tok;
} kern_matmul_each;

/* Routed experts: y[t] += sum_p weight[t, p] * down[e](silu(gate[e] x[t]) * up[e] x[t]), e = expert[t, p], the sum
 * in a fixed order, so that a row does not depend on which others are in the call. Where the experts are spread
 * over several backends the arrays hold every step-th from `first` on; what is picked of the others is left out.
 *
 * The order is ascending by e, or where ranks_alike a tree: c[i] = the sum, from 0 and ascending by e, of the picks with
 * e % 8 == i; y += ((c[0] + c[4]) + (c[2] + c[6])) + ((c[1] + c[5]) + (c[3] + c[7])). With a step of 2, 4 or 8 a backend
 * has whole branches of it. There shared experts, which every token has with weight 1, stand behind the routed ones in
 * the arrays, on all backends, and are dealt out by position: number j of the token at position p belongs to the backend
 * with first == (p + j) % step, counts as e % 8 == (p + j) % 8, and comes after the routed ones. */
typedef struct kern_experts {
    const kern_matrix *const *gate, *const *up, *const *down; /* [n_expert] each, the arrays in host memory */
    int n_expert, n_pick;
    int first, step; /* entry i of the arrays is expert first + i * step; step 0 = 1 */
    int n_routed;    /* all experts that a token picks from; 0 = n_expert */
    int n_shared;    /* entries behind the n_expert; 0 unless ranks_alike */
    int64_t pos0;    /* position of token 0, where there are shared ones */
    const int32_t *expert; /* [n_tok, n_pick] */
    const float *weight;   /* [n_tok, n_pick] */
    const float *x;        /* [n_tok, hidden] */
    float *y;              /* [n_tok, hidden] */
    int n_tok, hidden, width;
    /* Working memory, unless ranks_alike: [n_tok, hidden] twice, [n_tok], [n_tok, width] twice. */
    float *rows_in, *rows_out, *rows_scale, *rows_gate, *rows_up;
} kern_experts;

/* RMSNorm: y = x * rsqrt(mean(x^2) + eps) * weight. In place allowed. */
typedef struct kern_rmsnorm {
    const float *x;      /* [n_tok, dim], rows x_stride apart */
    const float *weight; /* [dim] */
    float *y;            /* [n_tok, dim], rows y_stride apart */
    int64_t x_stride, y_stride;
    int n_tok, dim;
    float eps;
} kern_rmsnorm;

/* LayerNorm: y = (x - mean) * rsqrt(var + eps) * weight + bias, biased variance. In place allowed. */
typedef struct kern_layernorm {
    const float *x;             /* [n_tok, dim], contiguous */
    const float *weight, *bias; /* [dim] */
    float *y;                   /* [n_tok, dim] */
    int n_tok, dim;
    float eps;
} kern_layernorm;

/* Rotary position embedding, in place, on the n_rot elements at x of every (token, head). */
typedef struct kern_rope {
    float *x;           /* first rotated element of token 0, head 0 */
    int64_t tok_stride; /* elements between tokens */
    int64_t head_stride;
    const float *freq;  /* [n_rot / 2] radians per position (YaRN already applied) */
    int n_tok, n_head, n_rot;
    int64_t pos0;       /* position of token 0; token t stands at pos0 + t */
    kern_rope_layout layout;
} kern_rope;

/* Orthogonal Hadamard transform (scale dim^-0.5), in place, on rows of dim elements, dim a power of two. */
typedef struct kern_hadamard {
    float *x; /* [n_row, dim] */
    int64_t n_row;
    int dim;
} kern_hadamard;

/* y = silu(gate) * up. y may be gate. */
typedef struct kern_swiglu {
    const float *gate, *up; /* [n] */
    float *y;
    int64_t n;
} kern_swiglu;

/* y += x * (scale ? scale[t] : 1), row by row. */
typedef struct kern_add {
    const float *x; /* [n_tok, dim] */
    const float *scale; /* [n_tok] or NULL */
    float *y;       /* [n_tok, dim] */
    int n_tok, dim;
} kern_add;

/* What several backends computed: y = parts[0] + parts[1] + ..., or y += that sum. The sum is a balanced tree: neighbours
 * are added in pairs, again and again; one left over goes on as it is. */
typedef struct kern_sum {
    const float *parts; /* [n_part, n], parts `stride` elements apart */
    float *y;           /* [n] */
    int64_t stride, n;
    int n_part;     /* at most 16 */
    bool accumulate;
} kern_sum;

/* Expert routing of DeepSeek-V3 (noaux_tc): sigmoid, choice by score + bias within the best groups, weights
 * from the unbiased sigmoid. Source: the V3 technical report, section 2.1.2, and the release's Gate.
 * Equal choice scores: the lower expert number wins. */
typedef struct kern_route {
    const float *logits; /* [n_tok, n_expert] */
    const float *bias;   /* [n_expert] e_score_correction_bias, or NULL */
    int32_t *expert;     /* filled [n_tok, n_pick] */
    float *weight;       /* filled [n_tok, n_pick] */
    int n_tok, n_expert, n_pick, n_group, n_group_pick;
    bool normalise;      /* weights sum to 1 before the scale */
    float scale;
} kern_route;

/* Rows of the latent cache hold [latent (kv_lora) | rotated k_pe (rope)] in `type` (F32 or BF16). FP8, where a backend's
 * fp8_latents says so (kv_lora 512, rope 64): 656 bytes as FlashMLA has them, 512 e4m3 | 4 fp32 factors, one for each
 * 128 and a power of two as in the release | 64 bf16. */
typedef struct kern_latents {
    void *rows;    /* [capacity, kv_lora + rope] */
    kern_type type;
    int kv_lora, rope;
} kern_latents;

static inline size_t kern_latent_bytes(const kern_latents *l) { /* of a row */
    size_t n = (size_t)l->kv_lora, r = (size_t)l->rope;
    return l->type == KERN_FP8 ? n + n / 128 * sizeof(float) + r * 2 : (n + r) * (l->type == KERN_BF16 ? 2 : 4);
}

/* The index key cache. F32: rows [capacity, dim]. I8: `keys` is a backend-defined blocked layout of
 * kern->index_key_bytes() and `scale` one factor a key; a block only partly filled is valid. FP8, where index_type says
 * so: rows [capacity, dim] of e4m3 with a factor each, a power of two as in the release. */
typedef struct kern_index_keys {
    void *keys;
    float *scale; /* [capacity], I8 and FP8 */
    kern_type type;
    int dim;
} kern_index_keys;

/* Writes rows pos0 .. pos0 + n_tok - 1. */
typedef struct kern_latent_append {
    kern_latents cache;
    const float *latent; /* [n_tok, kv_lora], rows latent_stride apart, normed */
    const float *k_pe;   /* [n_tok, rope], rows k_pe_stride apart, rotated */
    int64_t latent_stride, k_pe_stride;
    int64_t pos0;
    int n_tok;
} kern_latent_append;

typedef struct kern_index_append {
    kern_index_keys cache;
    const float *k; /* [n_tok, dim] after norm, RoPE (and Hadamard, where the format rounds) */
    int64_t pos0;
    int n_tok;
} kern_index_append;

/* A half-open range of positions. */
typedef struct kern_range {
    int64_t start, end;
} kern_range;

/* Lightning indexer and exact top-k in one pass, never an n_tok x n_key matrix:
 *   I[t, s] = sum_h w[t, h] * relu(q[t, h] . k[s]),  s <= pos0 + t
 * and the n_select best positions of each row, in ascending order of position. A row that sees no more than
 * n_select positions gets all of them. With I8 keys, q is rounded to int8 per (token, head) as well. */
typedef struct kern_index_select {
    kern_index_keys cache;
    const float *q;          /* [n_tok, n_head, dim] */
    const float *w;          /* [n_tok, n_head], every factor included; may be negative */
    int64_t pos0;            /* position of token 0; keys up to pos0 + n_tok - 1 are in the cache */
    int n_tok, n_head, n_select;
    const kern_range *allow; /* [n_allow] ascending, disjoint: only these positions may be selected;
                                NULL = all. */
    int n_allow;
    int32_t *position;       /* filled [n_tok, n_select] */
    int32_t *count;          /* filled [n_tok]: how many of each row are valid (0 where none is allowed) */
    float *score;            /* filled [n_tok, n_select], or NULL */
} kern_index_select;

/* All index scores of one query, for diagnosis: score[s] for s < n_key. Same arithmetic as index_select. */
typedef struct kern_index_scores {
    kern_index_keys cache;
    const float *q; /* [n_head, dim] */
    const float *w; /* [n_head] */
    int n_head;
    int64_t n_key;
    float *score;   /* filled [n_key] */
} kern_index_scores;

/* Multi-head latent attention in the absorbed (MQA) form over the selected latents:
 *   p[h, s] = softmax_s(scale * (q_latent[h] . latent[s] + q_pe[h] . k_pe[s]));  out[h] = sum_s p[h, s] latent[s]
 * A row with count 0 gives zeros. */
typedef struct kern_sparse_mla {
    kern_latents cache;
    const float *q_latent;   /* [n_tok, n_head, kv_lora] */
    const float *q_pe;       /* [n_tok, n_head, rope], heads q_pe_head_stride apart, tokens q_pe_tok_stride */
    int64_t q_pe_tok_stride, q_pe_head_stride;
    const int32_t *position; /* [n_tok, n_select] ascending */
    const int32_t *count;    /* [n_tok] */
    int n_tok, n_head, n_select;
    float scale;
    float *out;              /* filled [n_tok, n_head, kv_lora] */
    float *mass;             /* filled [n_tok, n_select]: mean over heads of p, or NULL */
    bool session;            /* the rows are a session's, not a context's: a backend may cut their lists differently */
} kern_sparse_mla;

/* The same over every position up to pos0 + t (or the allowed ones): for comparison, and for dense models. */
typedef struct kern_dense_mla {
    kern_latents cache;
    const float *q_latent, *q_pe; /* as above */
    int64_t q_pe_tok_stride, q_pe_head_stride;
    int64_t pos0;
    int n_tok, n_head;
    const kern_range *allow;
    int n_allow;
    float scale;
    float *out;                   /* filled [n_tok, n_head, kv_lora] */
} kern_dense_mla;

/* What the backend and its machine can do, measured for `bench` (floors) and told by `doctor`. */
typedef struct kern_peaks {
    double f32_flops, bf16_flops, i8_ops; /* per second, all threads; 0 = no such unit */
    double bytes_per_s;                   /* reading memory well beyond the last-level cache */
} kern_peaks;

struct kern {
    const char *name; /* "avx512", "avx2", "portable", "cuda" */
    int n_thread;
    bool holds_fp8; /* a matrix of BF16 numbers made from an FP8 source stays in 8 bits */
    int chunk;      /* tokens that a prefill step should have when nobody says otherwise */
    /* Sums that are dealt out to ranks are trees that have a rank's part as a branch: 2, 4 or 8 ranks give the bits of one.
     * (kern_matrix_source.segment, kern_experts.) */
    bool ranks_alike;
    bool plain;     /* operations take the way for any shape even where there is one for particular dimensions: to compare */
    bool on_device; /* memory from `alloc` is not the host's: only copies and operations reach it */
    size_t memory;  /* bytes of a device; 0 = the host's */
    const struct kern_paging *paging; /* memory that grows in place (paging.h); NULL = the backend has none */
    void *state;

    void (*close)(kern *k); /* frees k and everything but matrices and arrays, which must be gone before */

    /* Memory that the backend's operations can reach; zeroed. free(NULL) is allowed. */
    int (*alloc)(kern *k, void **out, size_t bytes, ph_error *err);
    void (*free)(kern *k, void *p);
    void (*copy_in)(kern *k, void *to, const void *from_host, size_t bytes);
    void (*copy_out)(kern *k, void *to_host, const void *from, size_t bytes);
    void (*copy)(kern *k, void *to, const void *from, size_t bytes); /* within the backend's memory */
    void (*zero)(kern *k, void *p, size_t bytes);
    /* A device works behind the caller's back. `mark` remembers this moment; copy_out_marked gets what the memory holds
     * then, without waiting for what was asked for since, which must not write there. */
    void (*mark)(kern *k);
    void (*copy_out_marked)(kern *k, void *to_host, const void *from, size_t bytes);
    /* Steps that come again, as a decoding step does for each token. Between step_begin and step_end only operations,
     * zero and copy are asked for, and nothing that they say depends on anything but `key` and pos0, the position of
     * the step's one token, which their own positions move along with. step_begin false: the step is done, from what was
     * kept of an earlier one with the same key, and nothing is to be asked for. step_end false: nothing is done yet, and
     * everything is to be asked for once more, outside. Results are those of asking one by one, to the bit. Before
     * memory is freed that a step may name, step_forget gives up what is kept (on all ranks alike: a step with exchanges
     * is to be kept by all or by none). NULL where a backend has no such thing. */
    bool (*step_begin)(kern *k, const void *key, size_t key_bytes, int64_t pos0);
    bool (*step_end)(kern *k);
    void (*step_forget)(kern *k);
    /* Within such a step: what follows goes into lane 0, 1, 2 or 3. A lane's work is done in order, begins after what lane
     * 0 had been asked for when the lane was chosen, and may run beside that of the others until `join`, after which
     * all goes on in lane 0. Only rope, norms, hadamard, swiglu, matmul, matmul_each and appends go beside
     * lane 0. Elsewhere this says nothing. NULL like the above. */
    void (*lane)(kern *k, int lane);
    void (*join)(kern *k);
    void (*wait)(kern *k); /* until everything asked for so far is done; for clocks */
    /* Whether everything so far went well: a device can be lost. After a failure results are worthless. */
    int (*status)(kern *k, ph_error *err);

    /* Makes a matrix of `keep` numbers (F32 or BF16, rounded). Where holds_fp8, a matrix of BF16 numbers holds
     * the codes of its FP8 source instead, and products use codes and factors as they are, without rounding them to
     * BF16: nearer to the source, and other bits. Owned by the caller until matrix_free. */
    int (*matrix_make)(kern *k, kern_matrix **out, const kern_matrix_source *source, kern_type keep, ph_error *err);
    void (*matrix_free)(kern *k, kern_matrix *w);

    /* The source is borrowed until embedding_free. */
    int (*embedding_make)(kern *k, kern_embedding **out, const kern_matrix_source *source, ph_error *err);
    void (*embedding_free)(kern *k, kern_embedding *e);

    void (*embed)(kern *k, const kern_embed *a);
    void (*matmul)(kern *k, const kern_matmul *a);
    void (*matmul_each)(kern *k, const kern_matmul_each *a);
    void (*experts)(kern *k, const kern_experts *a);
    void (*rmsnorm)(kern *k, const kern_rmsnorm *a);
    void (*layernorm)(kern *k, const kern_layernorm *a);
    void (*rope)(kern *k, const kern_rope *a);
    void (*hadamard)(kern *k, const kern_hadamard *a);
    void (*swiglu)(kern *k, const kern_swiglu *a);
    void (*add)(kern *k, const kern_add *a);
    void (*sum)(kern *k, const kern_sum *a);
    void (*route)(kern *k, const kern_route *a);
    void (*latent_append)(kern *k, const kern_latent_append *a);
    void (*index_append)(kern *k, const kern_index_append *a);
    void (*index_select)(kern *k, const kern_index_select *a);
    void (*index_scores)(kern *k, const kern_index_scores *a);
    void (*sparse_mla)(kern *k, const kern_sparse_mla *a);
    void (*dense_mla)(kern *k, const kern_dense_mla *a);

    /* Whether latents of this shape can be held in FP8, for this many heads; NULL = never. */
    bool (*fp8_latents)(const kern *k, int n_head, int kv_lora, int rope);
    /* The 8-bit type that index keys of this shape are best held in; NULL = I8 always. */
    kern_type (*index_type)(const kern *k, int n_head, int dim);
    /* Bytes of kern_index_keys.keys for `capacity` keys, without the scales. A multiple of 64. */
    size_t (*index_key_bytes)(kern_type type, int dim, int64_t capacity);
    /* A name for the byte layout of the caches ("i8x16", say), and what else tells apart what a backend writes into them:
     * part of a snapshot's key. */
    const char *cache_layout;

    void (*measure_peaks)(kern *k, kern_peaks *out); /* about a second */
};

/* Opens the best CPU backend for this machine, or the named one ("avx512", "avx2", "portable"; NULL = best).
 * n_thread 0 = all processors this process may run on. */
int kern_open_cpu(kern **out, const char *name, int n_thread, ph_error *err);

/* Processors that this process may run on. */
int kern_cpu_count(void);

/* Names of the backends that this machine can run, best first, NULL-terminated; static. */
const char *const *kern_cpu_names(void);

/* Opens device number `device` (as CUDA counts them). PH_UNSUPPORTED where the build has no CUDA, or the machine no
 * driver or no such device, PH_MEMORY (both sizes) where the device has no room. */
int kern_open_cuda(kern **out, int device, ph_error *err);

/* What the machine's GPUs are, without opening one. */
typedef struct kern_cuda_device {
    char name[256];
    int major, minor; /* compute capability; Pharos needs 8.0 */
    int n_sm;
    size_t memory; /* bytes */
    bool paged;    /* caches have pages as they grow (paging.h), and not all of their memory at once */
} kern_cuda_device;
/* Fills up to `most` devices; *n = how many there are. PH_UNSUPPORTED says why there is none: no CUDA in this build,
 * no driver, no device. versions (may be NULL): driver and runtime, as 1000 * major + 10 * minor. */
int kern_cuda_devices(kern_cuda_device *out, int most, int *n, int versions[2], ph_error *err);

/* By name: "cuda" or "cuda:N", or a CPU backend as in kern_open_cpu. */
int kern_open(kern **out, const char *name, int n_thread, ph_error *err);

#ifdef __cplusplus
}
#endif

#endif
