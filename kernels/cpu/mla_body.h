/* mla_body.h - multi-head latent attention in the absorbed form: all heads share one key, the latent row,
 * whose first kv_lora elements are the value as well. Sparse over selected positions, dense over all.
 *
 * Both are matrix products over blocks of 64 keys: scores = q x keys with a key in each lane, then
 * out = p x values with an element of the value in each lane. Probabilities stay fp32.
 */
#ifndef PHAROS_MLA_BODY_H
#define PHAROS_MLA_BODY_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/pack_body.h"
#include "kernels/cpu/product_body.h"

#include <math.h>

enum {
    BLOCK_KEYS = 64,
    DENSE_ROWS = 128 /* (token, head) pairs that share a packed block of keys */
};

/* What both forms know about the cache and their scratch memory. */
typedef struct mla_shape {
    kern_type type;
    int kv_lora, width; /* width = kv_lora + rope */
    size_t row_bytes;
    int64_t n;           /* steps of the score product: pairs (BF16) or elements (F32) */
    int64_t value_width; /* kv_lora rounded up to 16 */
} mla_shape;

static mla_shape mla_shape_of(const kern_latents *c) {
    mla_shape m = {.type = c->type, .kv_lora = c->kv_lora, .width = c->kv_lora + c->rope};
    m.row_bytes = (size_t)m.width * kern_type_bytes(c->type);
    m.n = c->type == KERN_F32 ? m.width : (m.width + 1) / 2;
    m.value_width = (c->kv_lora + 15) / 16 * 16;
    return m;
}

/* Buffers for `rows` (token, head) pairs. */
typedef struct mla_buffers {
    unsigned char *q; /* [rows, n] in the form of the product's x */
    float *one_q;     /* [width] */
    uint32_t *keys;   /* [BLOCK_KEYS / 16][n][16] */
    float *values;    /* [value_width / 16][BLOCK_KEYS][16] */
    float *sum;       /* [rows, value_width] */
} mla_buffers;

static unsigned char *take(unsigned char **memory, size_t bytes) {
    unsigned char *p = *memory;
    *memory += (bytes + 63) / 64 * 64;
    return p;
}

static mla_buffers mla_buffers_in(unsigned char **memory, const mla_shape *m, int64_t rows) {
    mla_buffers b;
    b.q = take(memory, (size_t)(rows * m->n) * sizeof(x_pair));
    b.one_q = (float *)take(memory, (size_t)m->width * 4);
    b.keys = (uint32_t *)take(memory, (size_t)m->n * BLOCK_KEYS * 4);
    b.values = (float *)take(memory, (size_t)m->value_width * BLOCK_KEYS * 4);
    b.sum = (float *)take(memory, (size_t)(rows * m->value_width) * 4);
    return b;
}

/* Row `row` of the buffers' q: the latent and rotated parts of one query head, side by side like a cache row.
 */
static void put_query(const mla_shape *m, mla_buffers *b, int64_t row, const float *latent, const float *pe) {
    float *q = m->type == KERN_F32 ? (float *)b->q + row * m->n : b->one_q;
    memcpy(q, latent, (size_t)m->kv_lora * sizeof *q);
    memcpy(q + m->kv_lora, pe, (size_t)(m->width - m->kv_lora) * sizeof *q);
    if (m->type != KERN_F32) pairs_of(q, m->width, (x_pair *)b->q + row * m->n);
}

/* scores[n_row, stride] = q x keys for n_key rows of the cache. */
static void block_scores(const mla_shape *m, mla_buffers *b, const void *const *row, int n_key, int64_t n_row,
                         float *scores, int64_t stride) {
    int n_panel = (n_key + 15) / 16;
    for (int p = 0; p < n_panel; p++)
        pack_panel(row + p * 16, n_key - p * 16 < 16 ? n_key - p * 16 : 16, m->row_bytes,
                   b->keys + (size_t)p * m->n * 16);
    panel_product product = {.type = m->type,
                             .w = b->keys,
                             .panel = (size_t)m->n * 16,
                             .x = b->q,
                             .x_stride = m->n,
                             .n = m->n,
                             .n_row = n_row,
                             .out = {.c = scores, .stride = stride, .n_col = (int64_t)n_panel * 16}};
    panel_product_run(&product, n_panel);
}

/* sum[rows from first] (+)= p x the first n_key values in the buffers. */
static void block_values(const mla_shape *m, mla_buffers *b, int64_t first, int64_t n_row, const float *p,
                         int64_t stride, int n_key, bool go_on) {
    panel_product product = {.type = KERN_F32,
                             .w = (const uint32_t *)b->values,
                             .panel = BLOCK_KEYS * 16,
                             .x = p,
                             .x_stride = stride,
                             .n = n_key,
                             .n_row = n_row,
                             .out = {.c = b->sum + first * m->value_width,
                                     .stride = m->value_width,
                                     .n_col = m->value_width,
                                     .load = go_on}};
    panel_product_run(&product, m->value_width / 16);
}

/* out[kv_lora] = sum * factor */
static void put_result(const mla_shape *m, const float *sum, float factor, float *out) {
    int d = 0;
    for (; d + VL <= m->kv_lora; d += VL) vf_store(out + d, vf_load(sum + d) * factor);
    for (; d < m->kv_lora; d++) out[d] = sum[d] * factor;
}

/* ---- sparse ---- */

typedef struct sparse_job {
    const kern_sparse_mla *a;
    const cpu_state *s;
    mla_shape m;
    int64_t stride; /* n_select rounded up to BLOCK_KEYS */
    int group;      /* heads at a time */
    int n_group;
    bool split;     /* an item is one group of heads of a token; scores and factors are in shared memory */
    float *scores;  /* split: [n_tok, n_head, stride] */
    float *factors; /* split: [n_tok, n_head] */
} sparse_job;

/* e^(x - max) in place over n scores scaled by `scale`, n rounded up to 16 with zeros. Returns 1 / sum. */
static float softmax_row(float *x, int64_t n, float scale) {
    int64_t padded = (n + 15) / 16 * 16;
    for (int64_t i = n; i < padded; i++) x[i] = -INFINITY;
    vf most = vf_set(-INFINITY), sum = {0};
    for (int64_t i = 0; i < padded; i += VL) {
        vf v = vf_load(x + i) * scale;
        vf_store(x + i, v);
        most = vf_max(v, most);
    }
    for (int64_t i = n; i < padded; i++) x[i] = -INFINITY; /* whatever the sign of scale */
    float greatest = vf_greatest(most);
    for (int64_t i = 0; i < padded; i += VL) {
        vf e = vf_exp(vf_load(x + i) - greatest);
        vf_store(x + i, e);
        sum += e;
    }
    return 1.0f / vf_sum(sum);
}

/* Heads [h0, h0 + n_head) of token t: out, and unnormalised probabilities in scores with 1 / sum in factor.
 */
static void attend(const sparse_job *job, int64_t t, int h0, int n_head, float *scores, float *factor,
                   unsigned char *memory) {
    const kern_sparse_mla *a = job->a;
    const mla_shape *m = &job->m;
    mla_buffers b = mla_buffers_in(&memory, m, n_head);
    for (int h = 0; h < n_head; h++)
        put_query(m, &b, h, a->q_latent + (t * a->n_head + h0 + h) * m->kv_lora,
                  a->q_pe + t * a->q_pe_tok_stride + (h0 + h) * a->q_pe_head_stride);
    const int32_t *position = a->position + t * a->n_select;
    const unsigned char *cache = (const unsigned char *)a->cache.rows;
    int count = a->count[t];
    const void *row[BLOCK_KEYS];
    for (int first = 0; first < count; first += BLOCK_KEYS) {
        int n = count - first < BLOCK_KEYS ? count - first : BLOCK_KEYS;
        for (int i = 0; i < n; i++) row[i] = cache + (size_t)position[first + i] * m->row_bytes;
        /* The next block's rows: no pattern that the processor could foresee. */
        for (int i = first + n; i < count && i < first + n + BLOCK_KEYS; i++)
            for (size_t at = 0; at < m->row_bytes; at += 64)
                __builtin_prefetch(cache + (size_t)position[i] * m->row_bytes + at);
        block_scores(m, &b, row, n, n_head, scores + first, job->stride);
    }
    for (int h = 0; h < n_head; h++) factor[h] = softmax_row(scores + h * job->stride, count, a->scale);
    for (int first = 0; first < count; first += BLOCK_KEYS) {
        int n = count - first < BLOCK_KEYS ? count - first : BLOCK_KEYS;
        for (int i = 0; i < n; i++) row[i] = cache + (size_t)position[first + i] * m->row_bytes;
        spread_rows(m->type, row, n, m->kv_lora, BLOCK_KEYS, b.values);
        block_values(m, &b, 0, n_head, scores + first, job->stride, n, first > 0);
    }
    for (int h = 0; h < n_head; h++)
        put_result(m, b.sum + h * m->value_width, factor[h], a->out + (t * a->n_head + h0 + h) * m->kv_lora);
}

/* mass += p, one head after the other: the order of the sum is that of the heads, however they were grouped.
 */
static void add_mass(const sparse_job *job, int64_t t, const float *scores, const float *factor, int n_head) {
    float *mass = job->a->mass + t * job->a->n_select;
    int count = job->a->count[t];
    for (int h = 0; h < n_head; h++)
        for (int i = 0; i < count; i++) mass[i] += scores[h * job->stride + i] * factor[h];
}

static void finish_mass(const sparse_job *job, int64_t t) {
    float *mass = job->a->mass + t * job->a->n_select;
    for (int i = 0; i < job->a->count[t]; i++) mass[i] /= (float)job->a->n_head;
}

static void sparse_item(void *arg, int64_t item, int thread) {
    const sparse_job *job = (const sparse_job *)arg;
    const kern_sparse_mla *a = job->a;
    unsigned char *memory = cpu_scratch(job->s, thread);
    int64_t t = job->split ? item / job->n_group : item;
    if (a->count[t] <= 0) {
        memset(a->out + t * a->n_head * job->m.kv_lora, 0,
               (size_t)(a->n_head * job->m.kv_lora) * sizeof *a->out);
        if (a->mass) memset(a->mass + t * a->n_select, 0, (size_t)a->n_select * sizeof *a->mass);
        return;
    }
    if (job->split) {
        int h = (int)(item % job->n_group) * job->group, n = (int)min_i64(job->group, a->n_head - h);
        int64_t at = t * a->n_head + h;
        attend(job, t, h, n, job->scores + at * job->stride, job->factors + at, memory);
        return;
    }
    float *scores = (float *)take(&memory, (size_t)(job->group * job->stride) * 4);
    float *factor = (float *)take(&memory, (size_t)job->group * 4);
    if (a->mass) memset(a->mass + t * a->n_select, 0, (size_t)a->n_select * sizeof *a->mass);
    for (int h = 0; h < a->n_head; h += job->group) {
        int n = (int)min_i64(job->group, a->n_head - h);
        attend(job, t, h, n, scores, factor, memory);
        if (a->mass) add_mass(job, t, scores, factor, n);
    }
    if (a->mass) finish_mass(job, t);
}

static void op_sparse_mla(kern *k, const kern_sparse_mla *a) {
    const cpu_state *s = cpu_state_of(k);
    sparse_job job = {.a = a, .s = s, .m = mla_shape_of(&a->cache)};
    job.stride = ((int64_t)a->n_select + BLOCK_KEYS - 1) / BLOCK_KEYS * BLOCK_KEYS;
    int64_t fit = (int64_t)(CPU_THREAD_BYTES / 8) / (job.stride * 4);
    job.group = (int)min_i64(a->n_head, fit < 1 ? 1 : min_i64(fit, 128));
    /* One token of a large model: its heads are shared out. */
    size_t shared = (size_t)a->n_tok * (size_t)a->n_head * (size_t)(job.stride + 1) * 4;
    if (a->n_tok < s->n_thread && a->n_head >= 16 && shared <= CPU_SHARED_BYTES) {
        int64_t each = (a->n_head + s->n_thread - 1) / s->n_thread;
        job.group = (int)min_i64(job.group, each < 8 ? 8 : each);
        job.split = true;
        job.scores = (float *)s->shared;
        job.factors = job.scores + (int64_t)a->n_tok * a->n_head * job.stride;
    }
    job.n_group = (a->n_head + job.group - 1) / job.group;
    bool parallel = (int64_t)a->n_tok * a->n_head * a->n_select * job.m.width > 131072;
    cpu_run(s, sparse_item, &job, (int64_t)a->n_tok * (job.split ? job.n_group : 1), parallel);
    if (!job.split || !a->mass) return;
    for (int64_t t = 0; t < a->n_tok; t++) {
        if (a->count[t] <= 0) continue;
        memset(a->mass + t * a->n_select, 0, (size_t)a->n_select * sizeof *a->mass);
        int64_t at = t * a->n_head;
        add_mass(&job, t, job.scores + at * job.stride, job.factors + at, a->n_head);
        finish_mass(&job, t);
    }
}

/* ---- dense ---- */

typedef struct dense_job {
    const kern_dense_mla *a;
    const cpu_state *s;
    mla_shape m;
    int tile;  /* tokens in an item */
    int group; /* heads in an item */
    int n_group;
} dense_job;

/* The running softmax of one (token, head). */
typedef struct running {
    float greatest, sum;
} running;

/* Takes a block's scores into the running softmax of one row: x becomes probabilities against the new
 * greatest, `values` (the row's sum so far) is brought to it. Scores that do not count are -infinity. */
static void dense_row(running *r, float *x, int n, float scale, float *values, int64_t value_width) {
    vf most = vf_set(-INFINITY), sum = {0};
    int padded = (n + 15) / 16 * 16;
    for (int i = 0; i < padded; i += VL) most = vf_max(vf_load(x + i), most);
    float greatest = vf_greatest(most);
    if (greatest == -INFINITY) {
        memset(x, 0, (size_t)padded * sizeof *x);
        return;
    }
    if (greatest > r->greatest) {
        float factor = r->greatest == -INFINITY ? 0.0f : expf(r->greatest - greatest);
        r->sum *= factor;
        for (int64_t d = 0; d < value_width; d += VL) vf_store(values + d, vf_load(values + d) * factor);
        r->greatest = greatest;
    }
    for (int i = 0; i < padded; i += VL) {
        vf e = vf_exp(vf_load(x + i) - r->greatest);
        vf_store(x + i, e);
        sum += e;
    }
    r->sum += vf_sum(sum);
}

static void dense_item(void *arg, int64_t item, int thread) {
    const dense_job *job = (const dense_job *)arg;
    const kern_dense_mla *a = job->a;
    const mla_shape *m = &job->m;
    int64_t t0 = item / job->n_group * job->tile;
    int h0 = (int)(item % job->n_group) * job->group;
    int n_tok = (int)min_i64(job->tile, a->n_tok - t0), n_head = (int)min_i64(job->group, a->n_head - h0);
    int64_t n_row = (int64_t)n_tok * n_head; /* row = token * n_head + head */

    unsigned char *memory = cpu_scratch(job->s, thread);
    mla_buffers b = mla_buffers_in(&memory, m, n_row);
    float *scores = (float *)take(&memory, (size_t)n_row * BLOCK_KEYS * 4);
    running *state = (running *)take(&memory, (size_t)n_row * sizeof *state);
    for (int64_t r = 0; r < n_row; r++) {
        int64_t t = t0 + r / n_head, h = h0 + r % n_head;
        put_query(m, &b, r, a->q_latent + (t * a->n_head + h) * m->kv_lora,
                  a->q_pe + t * a->q_pe_tok_stride + h * a->q_pe_head_stride);
        state[r] = (running){-INFINITY, 0.0f};
    }
    memset(b.sum, 0, (size_t)(n_row * m->value_width) * sizeof *b.sum);

    int64_t visible = a->pos0 + t0 + n_tok;
    const unsigned char *cache = (const unsigned char *)a->cache.rows;
    const void *row[BLOCK_KEYS];
    int cursor = 0;
    for (int64_t first = 0; first < visible; first += BLOCK_KEYS) {
        uint64_t allowed = allowed_mask(a->allow, a->n_allow, &cursor, first, visible);
        if (!allowed) continue;
        int n = (int)min_i64(BLOCK_KEYS, visible - first);
        for (int i = 0; i < n; i++) row[i] = cache + (size_t)(first + i) * m->row_bytes;
        block_scores(m, &b, row, n, n_row, scores, BLOCK_KEYS);
        spread_rows(m->type, row, n, m->kv_lora, BLOCK_KEYS, b.values);
        bool all_see_all = first + BLOCK_KEYS <= a->pos0 + t0 + 1 && allowed == ~(uint64_t)0;
        for (int t = 0; t < n_tok; t++) {
            int64_t sees = a->pos0 + t0 + t + 1 - first;
            int n_seen = (int)(sees < 0 ? 0 : min_i64(sees, BLOCK_KEYS));
            for (int h = 0; h < n_head && n_seen; h++) {
                float *x = scores + ((int64_t)t * n_head + h) * BLOCK_KEYS;
                int padded = (n_seen + 15) / 16 * 16;
                for (int i = 0; i < padded; i += VL) vf_store(x + i, vf_load(x + i) * a->scale);
                if (!all_see_all)
                    for (int i = 0; i < padded; i++)
                        if (i >= n_seen || !(allowed >> i & 1)) x[i] = -INFINITY;
                int64_t r = (int64_t)t * n_head + h;
                dense_row(&state[r], x, n_seen, 1.0f, b.sum + r * m->value_width, m->value_width);
            }
            /* A token's sum must not touch values it cannot see, not even times 0. */
            if (!all_see_all && n_seen)
                block_values(m, &b, (int64_t)t * n_head, n_head, scores + (int64_t)t * n_head * BLOCK_KEYS,
                             BLOCK_KEYS, n_seen, true);
        }
        if (all_see_all) block_values(m, &b, 0, n_row, scores, BLOCK_KEYS, BLOCK_KEYS, true);
    }
    for (int64_t r = 0; r < n_row; r++) {
        float factor = state[r].sum > 0.0f || isnan(state[r].sum) ? 1.0f / state[r].sum : 0.0f;
        put_result(m, b.sum + r * m->value_width, factor,
                   a->out + ((t0 + r / n_head) * a->n_head + h0 + r % n_head) * m->kv_lora);
    }
}

static void op_dense_mla(kern *k, const kern_dense_mla *a) {
    const cpu_state *s = cpu_state_of(k);
    dense_job job = {
        .a = a, .s = s, .m = mla_shape_of(&a->cache), .group = (int)min_i64(a->n_head, DENSE_ROWS)};
    job.tile = DENSE_ROWS / job.group;
    if (job.tile > a->n_tok) job.tile = a->n_tok;
    /* Too few tokens for the threads: smaller tiles, then fewer heads. */
    while (job.tile > 1 && (a->n_tok + job.tile - 1) / job.tile < s->n_thread) job.tile = (job.tile + 1) / 2;
    if (a->n_tok < s->n_thread)
        job.group = (int)min_i64(job.group, (a->n_head * a->n_tok + s->n_thread - 1) / s->n_thread);
    job.n_group = (a->n_head + job.group - 1) / job.group;
    int64_t n_tile = (a->n_tok + job.tile - 1) / job.tile;
    cpu_run(s, dense_item, &job, n_tile * job.n_group, true);
}

#endif
