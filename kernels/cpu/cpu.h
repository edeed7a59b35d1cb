/* cpu.h - what the files of the CPU backend share; nobody else includes it.
 *
 * The vector code is written once, in the *_body.h files, against the few operations of isa.h, and compiled
 * three times: avx512.c, avx2.c and portable.c each include all bodies and fill the table. What needs no
 * vectors (routing, the thread pool, memory, making matrices) is compiled once.
 */
#ifndef PHAROS_CPU_H
#define PHAROS_CPU_H

#include "kernels/kernels.h"

/* Scratch memory is reserved (not touched) when the backend is opened, because operations cannot fail: each
 * operation cuts its work into pieces that fit. */
#define CPU_THREAD_BYTES ((size_t)64 << 20)
#define CPU_SHARED_BYTES ((size_t)128 << 20)

typedef struct cpu_pool cpu_pool;

/* cos and sin of every (token, pair) of the last calls of rope: a chunk asks for the same angles in every
 * layer, for queries and keys. */
typedef struct cpu_angles {
    float *freq;   /* [n_pair] owned by the arena */
    float *cosine; /* [n_tok, n_pair] */
    float *sine;
    int64_t pos0;
    int n_tok, n_pair;
} cpu_angles;

typedef struct cpu_state {
    cpu_pool *pool;
    int n_thread;
    unsigned char *arena; /* [n_thread * CPU_THREAD_BYTES + CPU_SHARED_BYTES + angles] */
    size_t arena_bytes;
    unsigned char *shared; /* CPU_SHARED_BYTES, for what all threads of one operation read */
    cpu_angles angles[2];
    int next_angles;
} cpu_state;

static inline cpu_state *cpu_state_of(const kern *k) {
    return (cpu_state *)k->state;
}

static inline unsigned char *cpu_scratch(const cpu_state *s, int thread) {
    return s->arena + (size_t)thread * CPU_THREAD_BYTES;
}

/* A weight matrix in panels of 16 rows. F32: [rows/16][cols][16] float. BF16: [rows/16][cols/2][16][2], the
 * pair of columns side by side as the dot-product instructions want it; an odd last column is followed by 0.
 *
 * FP8: [rows/64][cols/4][4][64] codes: 4 columns of a panel side by side with those of the next 3 panels, one
 * stream from memory for a tile's weights. The 64 are [4][2][4][2]: four rows' first pairs of columns, then
 * their second pairs, so that interleaving low and high bytes of 16 codes gives the bf16 pairs of BF16's
 * layout, whatever the vector's width. What a code stands for is looked up in the table of its 128 x 128
 * block: the low, then the high bytes of 128 bf16 magnitudes, rounded as a BF16 matrix made from the same
 * source has them. */
struct kern_matrix {
    int64_t rows, cols;
    kern_type type;
    size_t panel_units; /* 4-byte units in a panel; FP8: in CPU_CODE_ROWS rows */
    uint32_t *panels;   /* 64-byte aligned */

    /* FP8 only */
    uint8_t *tables;     /* [rows of blocks][n_segment][CPU_CODE_TABLE], 64-byte aligned */
    int64_t n_segment;   /* stretches of columns that lie in one block */
    int64_t first_steps; /* 4-column steps in the first of them; all others but the last have 32 */
    int64_t first_row;   /* where row 0 stands in its block; a multiple of CPU_CODE_ROWS */
};

enum {
    CPU_CODE_TABLE = 256,
    CPU_CODE_ROWS = 64, /* so many rows, counted from row 0, lie in one row of blocks */
    CPU_CODE_PANELS = CPU_CODE_ROWS / 16,
};

/* pool */
typedef void (*cpu_task)(void *arg, int64_t item, int thread);
int cpu_pool_open(cpu_pool **out, int n_thread, ph_error *err);
void cpu_pool_close(cpu_pool *pool);
/* Calls task(arg, i, thread) for each i < n_item and returns when all are done. Which thread takes which item
 * is left to chance, so an item's result may not depend on it. `parallel` false: all on the calling thread.
 */
void cpu_run(const cpu_state *s, cpu_task task, void *arg, int64_t n_item, bool parallel);

/* matrices (matrix.c) */
int cpu_matrix_make(kern *k, kern_matrix **out, const kern_matrix_source *source, kern_type keep,
                    ph_error *err);
void cpu_matrix_free(kern *k, kern_matrix *w);

/* cos and sin tables for the angles (float)position * freq. Valid until the next call but one. */
const cpu_angles *cpu_angles_for(cpu_state *s, const float *freq, int n_pair, int64_t pos0, int n_tok);
#define CPU_ANGLES_MAX ((int64_t)1 << 21) /* entries in one table; rope splits its tokens to stay below */

/* the operations that need no vectors */
int cpu_embedding_make(kern *k, kern_embedding **out, const kern_matrix_source *source, ph_error *err);
void cpu_embedding_free(kern *k, kern_embedding *e);
void cpu_embed(kern *k, const kern_embed *a);
void cpu_matmul_each(kern *k, const kern_matmul_each *a);
void cpu_experts(kern *k, const kern_experts *a);
void cpu_route(kern *k, const kern_route *a);
void cpu_rope(kern *k, const kern_rope *a);

/* One for each instruction set: fills the operations of the table that vectors serve. */
void cpu_fill_portable(kern *k);
#if defined(__x86_64__)
void cpu_fill_avx2(kern *k);
void cpu_fill_avx512(kern *k);
#endif

/* Bytes of one key in the blocked int8 layout: dim rounded up to 4. */
static inline int64_t cpu_key_bytes(int dim) {
    return ((int64_t)dim + 3) / 4 * 4;
}

#endif
