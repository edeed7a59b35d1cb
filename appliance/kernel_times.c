/* kernel_times.c - puts a clock and a count around every operation of a kernel table (kernel_times.h). */
#include "appliance/kernel_times.h"

#include <string.h>
#include <time.h>

static kern original, *wrapped;
static kern_group original_group;
static stage_time times[STAGE_COUNT];
static bool paused;
static bool on_device;

const char *stage_name(kernel_stage s) {
    static const char *const names[] = {"matmul", "index + top-k", "sparse MLA", "dense MLA", "append",
                                        "norms",  "rotations",     "SwiGLU",     "exchange",  "other"};
    return names[s];
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A device goes on by itself: each operation is waited for before and after. */
static double begin(kern *k) {
    if (on_device) original.wait(k);
    return now();
}

static void add(kern *k, kernel_stage stage, double started, double operations, double bytes) {
    if (on_device) original.wait(k);
    if (paused) return;
    stage_time *t = &times[stage];
    t->seconds += now() - started;
    t->operations += operations;
    t->bytes += bytes;
    t->calls++;
}

/* (query, key) pairs of a causal step. */
static double pairs(int64_t pos0, int n_tok) {
    return (double)n_tok * ((double)pos0 + (n_tok + 1) / 2.0);
}

static double latent_bytes(const kern_latents *c) {
    return (double)(c->kv_lora + c->rope) * (c->type == KERN_BF16 ? 2 : 4);
}

static void timed_index_select(kern *k, const kern_index_select *a) {
    double t = begin(k), n_key = (double)(a->pos0 + a->n_tok);
    original.index_select(k, a);
    double key = a->cache.type == KERN_I8 ? a->cache.dim + 4.0 : a->cache.dim * 4.0;
    add(k, STAGE_INDEX, t, 2.0 * pairs(a->pos0, a->n_tok) * a->n_head * a->cache.dim, n_key * key);
}

static void timed_sparse_mla(kern *k, const kern_sparse_mla *a) {
    double t = begin(k), rows = 0;
    original.sparse_mla(k, a);
    /* A device's counts are out of reach: nearly all rows are full there. */
    for (int i = 0; i < a->n_tok; i++) rows += on_device ? a->n_select : a->count[i];
    add(k, STAGE_SPARSE, t, 2.0 * rows * a->n_head * (2.0 * a->cache.kv_lora + a->cache.rope),
        rows * latent_bytes(&a->cache));
}

static void timed_dense_mla(kern *k, const kern_dense_mla *a) {
    double t = begin(k);
    original.dense_mla(k, a);
    add(k, STAGE_DENSE, t, 2.0 * pairs(a->pos0, a->n_tok) * a->n_head * (2.0 * a->cache.kv_lora + a->cache.rope),
        (double)(a->pos0 + a->n_tok) * latent_bytes(&a->cache));
}

/* bytes: what a call reads and writes, of its argument `a`. */
#define TIMED(stage, name, bytes)                                                                            \
    static void timed_##name(kern *k, const kern_##name *a) {                                                \
        double t = begin(k);                                                                                 \
        original.name(k, a);                                                                                 \
        add(k, stage, t, 0, (double)(bytes));                                                                \
    }
TIMED(STAGE_MATMUL, matmul, 0) /* whose matrices do not tell their shape */
TIMED(STAGE_MATMUL, matmul_each, 0)
TIMED(STAGE_MATMUL, experts, 0)
TIMED(STAGE_APPEND, latent_append, a->n_tok * (4.0 * (a->cache.kv_lora + a->cache.rope) + latent_bytes(&a->cache)))
TIMED(STAGE_APPEND, index_append, a->n_tok * a->cache.dim * (a->cache.type == KERN_I8 ? 5.0 : 8.0))
TIMED(STAGE_NORM, rmsnorm, 8.0 * a->n_tok * a->dim)
TIMED(STAGE_NORM, layernorm, 8.0 * a->n_tok * a->dim)
TIMED(STAGE_ROTATE, rope, 8.0 * a->n_tok * a->n_head * a->n_rot)
TIMED(STAGE_ROTATE, hadamard, 8.0 * (double)a->n_row * a->dim)
TIMED(STAGE_SWIGLU, swiglu, 12.0 * (double)a->n)
TIMED(STAGE_OTHER, add, 12.0 * a->n_tok * a->dim)
TIMED(STAGE_OTHER, sum, 4.0 * (double)a->n * (a->n_part + 1 + a->accumulate))
TIMED(STAGE_OTHER, embed, 0)
TIMED(STAGE_OTHER, route, 0)

/* bytes: what this rank receives. */
static void timed_all_gather(kern_group *g, const void *mine, void *all, size_t bytes) {
    double t = begin(wrapped);
    original_group.all_gather(g, mine, all, bytes);
    add(wrapped, STAGE_EXCHANGE, t, 0, (double)bytes * (g->size - 1));
}

static void timed_exchange(kern_group *g, const void *out, void *in, size_t bytes) {
    double t = begin(wrapped);
    original_group.exchange(g, out, in, bytes);
    add(wrapped, STAGE_EXCHANGE, t, 0, (double)bytes * (g->size - 1));
}

void kernel_times_start(kern *k, kern_group *g) {
    original = *k;
    wrapped = k;
    if (g) {
        original_group = *g;
        g->all_gather = timed_all_gather;
        g->exchange = timed_exchange;
    }
    paused = false;
    on_device = k->on_device;
    kernel_times_reset();
    k->index_select = timed_index_select;
    k->sparse_mla = timed_sparse_mla;
    k->dense_mla = timed_dense_mla;
    k->matmul = timed_matmul;
    if (on_device) { /* elsewhere they call others of the table, which have clocks */
        k->matmul_each = timed_matmul_each;
        k->experts = timed_experts;
    }
    k->embed = timed_embed;
    k->latent_append = timed_latent_append;
    k->index_append = timed_index_append;
    k->rmsnorm = timed_rmsnorm;
    k->layernorm = timed_layernorm;
    k->rope = timed_rope;
    k->hadamard = timed_hadamard;
    k->swiglu = timed_swiglu;
    k->add = timed_add;
    k->sum = timed_sum;
    k->route = timed_route;
}

void kernel_times_stop(kern *k, kern_group *g) {
    *k = original;
    if (g) *g = original_group;
}
void kernel_times_pause(bool pause) {
    paused = pause;
}
void kernel_times_reset(void) {
    memset(times, 0, sizeof times);
}
void kernel_times_get(stage_time out[STAGE_COUNT]) {
    memcpy(out, times, sizeof times);
}
