/* index_body.h - the lightning indexer: scores of 64 keys at a time, straight into the choice of the k best.
 *
 * Keys are streamed once for a tile of queries, so no score matrix exists. With int8 keys the dot products
 * are integers and the rest is done in one fixed order with the same roundings by every instruction set, so
 * that a selection does not depend on the processor.
 */
#ifndef PHAROS_INDEX_BODY_H
#define PHAROS_INDEX_BODY_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/pack_body.h"
#include "kernels/cpu/product_body.h"
#include "kernels/cpu/topk_body.h"
#include "kernels/convert.h"

#include <math.h>

enum { QUERY_TILE = 16 };

/* The queries of a tile, in the form that scoring wants. */
typedef struct queries {
    const kern_index_keys *cache;
    int n_head;
    int64_t units;       /* I8: 4-byte units in a key */
    const float *q;      /* F32: [n_tok, n_head, dim], borrowed */
    const float *w;      /* [n_tok, n_head]; I8: times the query's scale */
    const int32_t *q8;   /* I8: [n_tok, n_head, units] four int8 each */
    const int32_t *zero; /* I8: [n_tok, n_head] -128 * sum of q8: what the keys' offset of 128 adds */
    float *panels;       /* F32: the group's keys, [4][dim][16] */
    float *dots;         /* F32: [n_head, 64] */
} queries;

static size_t queries_bytes(const kern_index_keys *cache, int n_tok, int n_head) {
    size_t heads = (size_t)n_tok * (size_t)n_head;
    return heads * ((size_t)cpu_key_bytes(cache->dim) + 8) + (size_t)cache->dim * GROUP_KEYS * 4 +
           (size_t)n_head * GROUP_KEYS * 4 + 256;
}

static void queries_init(queries *s, const kern_index_keys *cache, const float *q, const float *w, int n_tok,
                         int n_head, unsigned char *memory) {
    *s = (queries){.cache = cache, .n_head = n_head, .q = q, .w = w, .units = cpu_key_bytes(cache->dim) / 4};
    s->panels = (float *)memory;
    memory += (size_t)cache->dim * GROUP_KEYS * 4;
    s->dots = (float *)memory;
    memory += (size_t)n_head * GROUP_KEYS * 4;
    if (cache->type != KERN_I8) return;
    int64_t heads = (int64_t)n_tok * n_head, bytes = s->units * 4;
    int8_t *q8 = (int8_t *)memory;
    float *scaled = (float *)(memory + heads * bytes);
    int32_t *zero = (int32_t *)(scaled + heads);
    for (int64_t h = 0; h < heads; h++) {
        int8_t *out = q8 + h * bytes;
        float scale = ph_quantise_i8(q + h * cache->dim, out, (size_t)cache->dim);
        for (int64_t d = cache->dim; d < bytes; d++) out[d] = 0;
        int32_t sum = 0;
        for (int d = 0; d < cache->dim; d++) sum += out[d];
        scaled[h] = w[h] * scale;
        zero[h] = -128 * sum;
    }
    s->q8 = (const int32_t *)q8;
    s->w = scaled;
    s->zero = zero;
}

/* sum += w * relu(dot): the same roundings everywhere. */
INLINE vf weigh(vf dot, float w, vf sum) {
    return vf_fma_exact(vf_set(w), vf_max((vf){0}, dot), sum);
}

/* What a sum becomes: NaN counts as the least score, and there is one zero. */
INLINE vf settle(vf score) {
    return vf_max(score, vf_set(-INFINITY)) + 0.0f;
}

#if defined(ISA_AVX512)
/* acc += four products of unsigned key bytes and signed query bytes in each lane. Written as an instruction
 * because gcc 12 copies the accumulator around its own intrinsic, which costs a third of the speed. */
INLINE __m512i dot_bytes(__m512i acc, __m512i key, __m512i q) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(key), "v"(q));
    return acc;
}

/* Adds `heads` heads' share of the scores of 16 * blocks keys. */
INLINE void heads_i8(int heads, int blocks, const uint8_t *keys, int64_t units, const int32_t *q,
                     const int32_t *zero, const float *w, vf *sum) {
    __m512i acc[4][4];
    UNROLL for (int h = 0; h < heads; h++) {
        UNROLL for (int b = 0; b < blocks; b++) acc[h][b] = _mm512_set1_epi32(zero[h]);
    }
    for (int64_t u = 0; u < units; u++) {
        __m512i key[4];
        UNROLL for (int b = 0; b < blocks; b++) key[b] = _mm512_loadu_si512(keys + (b * units + u) * 64);
        UNROLL for (int h = 0; h < heads; h++) {
            __m512i qv = _mm512_set1_epi32(q[h * units + u]);
            UNROLL for (int b = 0; b < blocks; b++) acc[h][b] = dot_bytes(acc[h][b], key[b], qv);
        }
    }
    UNROLL for (int h = 0; h < heads; h++) {
        UNROLL for (int b = 0; b < blocks; b++) sum[b] =
            weigh((vf)_mm512_cvtepi32_ps(acc[h][b]), w[h], sum[b]);
    }
}

/* units: s->units, as a constant where it is a usual one. */
INLINE void blocks_i8(int blocks, int64_t units, const queries *s, int t, const uint8_t *keys,
                      const float *scale, float *out) {
    vf sum[4] = {{0}, {0}, {0}, {0}};
    const int32_t *q = s->q8 + (int64_t)t * s->n_head * units, *zero = s->zero + (int64_t)t * s->n_head;
    const float *w = s->w + (int64_t)t * s->n_head;
    int h = 0;
    for (; h + 4 <= s->n_head; h += 4) heads_i8(4, blocks, keys, units, q + h * units, zero + h, w + h, sum);
    for (; h < s->n_head; h++) heads_i8(1, blocks, keys, units, q + h * units, zero + h, w + h, sum);
    UNROLL for (int b = 0; b < blocks; b++) vf_store(out + 16 * b, settle(sum[b] * vf_load(scale + 16 * b)));
}

static void score_i8(const queries *s, int t, const uint8_t *keys, int n_block, const float *scale,
                     float *out) {
    if (n_block == 4) {
        switch (s->units) {
        case 16:
            blocks_i8(4, 16, s, t, keys, scale, out);
            return;
        case 32:
            blocks_i8(4, 32, s, t, keys, scale, out);
            return;
        default:
            blocks_i8(4, s->units, s, t, keys, scale, out);
            return;
        }
    }
    for (int b = 0; b < n_block; b++)
        blocks_i8(1, s->units, s, t, keys + b * s->units * 64, scale + 16 * b, out + 16 * b);
}
#else
/* Integer dot products of 16 keys with one query head. */
INLINE void dots_i8(const uint8_t *block, int64_t units, const int32_t *q, int32_t zero, int32_t dot[16]) {
#if defined(ISA_AVX2)
    /* the product of an unsigned and a signed byte wants |q| * (sign of q * key): both within 127, so that
     * the sum of two products fits 16 bits */
    __m256i low = _mm256_setzero_si256(), high = low, ones = _mm256_set1_epi16(1),
            flip = _mm256_set1_epi8(-128);
    for (int64_t u = 0; u < units; u++) {
        __m256i qv = _mm256_set1_epi32(q[u]), magnitude = _mm256_abs_epi8(qv);
        __m256i k0 = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(block + u * 64)), flip);
        __m256i k1 = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(block + u * 64 + 32)), flip);
        low = _mm256_add_epi32(
            low, _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(k0, qv)), ones));
        high = _mm256_add_epi32(
            high, _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(k1, qv)), ones));
    }
    _mm256_storeu_si256((__m256i *)dot, low);
    _mm256_storeu_si256((__m256i *)(dot + 8), high);
#else
    for (int i = 0; i < 16; i++) dot[i] = zero;
    for (int64_t u = 0; u < units; u++) {
        int8_t v[4];
        memcpy(v, q + u, 4);
        const uint8_t *k = block + u * 64;
        for (int i = 0; i < 16; i++)
            dot[i] += k[4 * i] * v[0] + k[4 * i + 1] * v[1] + k[4 * i + 2] * v[2] + k[4 * i + 3] * v[3];
    }
#endif
}

static void score_i8(const queries *s, int t, const uint8_t *keys, int n_block, const float *scale,
                     float *out) {
    const int32_t *q = s->q8 + (int64_t)t * s->n_head * s->units, *zero = s->zero + (int64_t)t * s->n_head;
    const float *w = s->w + (int64_t)t * s->n_head;
    for (int b = 0; b < n_block; b++) {
        vf sum[16 / VL] = {{0}};
        for (int h = 0; h < s->n_head; h++) {
            int32_t dot[16];
            dots_i8(keys + b * s->units * 64, s->units, q + h * s->units, zero[h], dot);
            for (int v = 0; v < 16 / VL; v++)
                sum[v] = weigh(__builtin_convertvector((vi)vu_load((const uint32_t *)dot + v * VL), vf), w[h],
                               sum[v]);
        }
        for (int v = 0; v < 16 / VL; v++)
            vf_store(out + 16 * b + v * VL, settle(sum[v] * vf_load(scale + 16 * b + v * VL)));
    }
}
#endif

/* The keys of a group, once for all queries of a tile. n: how many of the 64 exist. */
typedef struct key_group {
    const uint8_t *keys;
    int n_block;
    float scale[GROUP_KEYS];
} key_group;

static void group_load(const queries *s, int64_t first, int n, key_group *g) {
    const kern_index_keys *c = s->cache;
    g->n_block = (n + 15) / 16;
    if (c->type == KERN_I8) {
        g->keys = (const uint8_t *)c->keys + first * s->units * 4;
        memcpy(g->scale, c->scale + first, (size_t)n * sizeof *g->scale);
        for (int i = n; i < GROUP_KEYS; i++) g->scale[i] = 0.0f;
        return;
    }
    for (int b = 0; b < g->n_block; b++) {
        const void *row[16];
        int rows = n - b * 16 < 16 ? n - b * 16 : 16;
        for (int r = 0; r < rows; r++) row[r] = (const float *)c->keys + (first + b * 16 + r) * c->dim;
        pack_panel(row, rows, (size_t)c->dim * 4, (uint32_t *)s->panels + (size_t)b * 16 * (size_t)c->dim);
    }
}

/* out: 64 scores; those of blocks that do not exist are left alone. */
static void group_score(const queries *s, int t, const key_group *g, float *out) {
    if (s->cache->type == KERN_I8) {
        score_i8(s, t, g->keys, g->n_block, g->scale, out);
        return;
    }
    int64_t dim = s->cache->dim;
    panel_product p = {.type = KERN_F32,
                       .w = (const uint32_t *)s->panels,
                       .panel = (size_t)dim * 16,
                       .x = s->q + (int64_t)t * s->n_head * dim,
                       .x_stride = dim,
                       .n = dim,
                       .n_row = s->n_head,
                       .out = {.c = s->dots, .stride = GROUP_KEYS, .n_col = GROUP_KEYS}};
    panel_product_run(&p, g->n_block);
    for (int i = 0; i < g->n_block * 16; i += VL) {
        vf sum = {0};
        for (int h = 0; h < s->n_head; h++)
            sum = weigh(vf_load(s->dots + h * GROUP_KEYS + i), s->w[(int64_t)t * s->n_head + h], sum);
        vf_store(out + i, settle(sum));
    }
}

/* Bits of the 64 positions from `first` on that lie in [first, end) and in an allowed range. *cursor: the
 * first range that may still matter; it only moves on. */
static uint64_t allowed_mask(const kern_range *allow, int n_allow, int *cursor, int64_t first, int64_t end) {
    uint64_t below_end = end - first >= GROUP_KEYS ? ~(uint64_t)0 : ((uint64_t)1 << (end - first)) - 1;
    if (!allow) return below_end;
    uint64_t mask = 0;
    while (*cursor < n_allow && allow[*cursor].end <= first) ++*cursor;
    for (int i = *cursor; i < n_allow && allow[i].start < first + GROUP_KEYS; i++) {
        int64_t from = allow[i].start > first ? allow[i].start - first : 0;
        int64_t to = min_i64(allow[i].end - first, GROUP_KEYS);
        if (from >= to) continue;
        uint64_t upto = to == GROUP_KEYS ? ~(uint64_t)0 : ((uint64_t)1 << to) - 1;
        mask |= upto & ~(((uint64_t)1 << from) - 1);
    }
    return mask & below_end;
}

typedef struct select_job {
    const kern_index_select *a;
    const cpu_state *s;
    int tile; /* queries in a tile */
    int64_t n_tile, n_part, part_keys;
    int64_t capacity;     /* of a candidate buffer */
    unsigned char *parts; /* n_part > 1: [n_tok, n_part] buffers in shared memory */
    candidates *part;     /* n_part > 1: [n_tok, n_part] */
} select_job;

/* The positions below `visible` that are allowed, in order: written where they are at most `room`. Returns
 * how many. */
static int64_t list_allowed(const kern_index_select *a, int64_t visible, int64_t room, int32_t *out) {
    kern_range all = {0, visible};
    const kern_range *range = a->allow ? a->allow : &all;
    int n_range = a->allow ? a->n_allow : 1;
    for (int pass = 0;; pass++) {
        int64_t n = 0;
        for (int i = 0; i < n_range; i++)
            for (int64_t p = range[i].start > 0 ? range[i].start : 0, end = min_i64(range[i].end, visible);
                 p < end; p++) {
                if (!pass) {
                    n += end - p;
                    break;
                }
                out[n++] = (int32_t)p;
            }
        if (pass || n > room) return n;
    }
}

static void emit(const kern_index_select *a, int64_t t, candidates *c, int32_t *order) {
    candidates_cut(c, a->n_select, true, order);
    a->count[t] = c->n;
    memcpy(a->position + t * a->n_select, c->position, (size_t)c->n * sizeof *c->position);
    if (a->score) memcpy(a->score + t * a->n_select, c->score, (size_t)c->n * sizeof *c->score);
}

static void select_item(void *arg, int64_t item, int thread) {
    select_job *job = (select_job *)arg;
    const kern_index_select *a = job->a;
    int64_t t0 = item % job->n_tile * job->tile, part = item / job->n_tile;
    int n_tok = (int)min_i64(job->tile, a->n_tok - t0);
    unsigned char *memory = cpu_scratch(job->s, thread);
    int32_t *order = (int32_t *)memory;
    memory += candidate_bytes(job->capacity);

    candidates found[QUERY_TILE];
    bool active[QUERY_TILE];
    int n_active = 0;
    for (int t = 0; t < n_tok; t++) {
        unsigned char *buffer = job->n_part > 1 ? job->parts + (size_t)((t0 + t) * job->n_part + part) *
                                                                   candidate_bytes(job->capacity)
                                                : memory + (size_t)t * candidate_bytes(job->capacity);
        candidates_init(&found[t], buffer, job->capacity);
        active[t] = true;
        if (!a->score) { /* where everything is selected, scores are not needed */
            int64_t n =
                list_allowed(a, a->pos0 + t0 + t + 1, a->n_select, a->position + (t0 + t) * a->n_select);
            if (n <= a->n_select) {
                a->count[t0 + t] = (int32_t)n;
                active[t] = false;
            }
        }
        n_active += active[t];
    }
    if (!job->part) memory += (size_t)job->tile * candidate_bytes(job->capacity);
    if (n_active) {
        queries s;
        queries_init(&s, &a->cache, a->q + t0 * a->n_head * a->cache.dim, a->w + t0 * a->n_head, n_tok,
                     a->n_head, memory);
        int64_t visible = a->pos0 + t0 + n_tok; /* of the last token */
        int64_t end = min_i64(visible, (part + 1) * job->part_keys);
        int cursor = 0;
        for (int64_t first = part * job->part_keys; first < end; first += GROUP_KEYS) {
            uint64_t allowed = allowed_mask(a->allow, a->n_allow, &cursor, first, visible);
            if (!allowed) continue;
            key_group g;
            group_load(&s, first, (int)min_i64(GROUP_KEYS, visible - first), &g);
            /* First all scores, then all offers: a mispredicted offer would throw away the next query's
             * products. */
            float score[QUERY_TILE][GROUP_KEYS];
            uint64_t mask[QUERY_TILE];
            for (int t = 0; t < n_tok; t++) {
                int64_t sees = a->pos0 + t0 + t + 1 - first; /* positions of this group that t sees */
                mask[t] = active[t] && sees > 0 ? allowed : 0;
                if (sees > 0 && sees < GROUP_KEYS) mask[t] &= ((uint64_t)1 << sees) - 1;
                if (mask[t]) group_score(&s, t, &g, score[t]);
            }
            for (int t = 0; t < n_tok; t++)
                if (mask[t])
                    candidates_offer(&found[t], score[t], mask[t], (int32_t)first, a->n_select, order);
        }
    }
    for (int t = 0; t < n_tok; t++) {
        if (job->part) {
            if (active[t])
                candidates_cut(&found[t], a->n_select, true, order);
            else
                found[t].capacity = 0; /* done already */
            job->part[(t0 + t) * job->n_part + part] = found[t];
        } else if (active[t]) {
            emit(a, t0 + t, &found[t], order);
        }
    }
}

/* The parts' best, in order of position, into one buffer; the best of those. */
static void merge_parts(void *arg, int64_t t, int thread) {
    select_job *job = (select_job *)arg;
    const candidates *part = job->part + t * job->n_part;
    if (part[0].capacity == 0) return;
    int64_t capacity = job->n_part * job->a->n_select;
    unsigned char *memory = cpu_scratch(job->s, thread);
    candidates all;
    candidates_init(&all, memory, capacity);
    for (int64_t i = 0; i < job->n_part; i++) {
        memcpy(all.score + all.n, part[i].score, (size_t)part[i].n * sizeof *all.score);
        memcpy(all.position + all.n, part[i].position, (size_t)part[i].n * sizeof *all.position);
        all.n += part[i].n;
    }
    emit(job->a, t, &all, (int32_t *)(memory + candidate_bytes(capacity)));
}

static void op_index_select(kern *k, const kern_index_select *a) {
    const cpu_state *s = cpu_state_of(k);
    int64_t n_key = a->pos0 + a->n_tok;
    select_job job = {
        .a = a, .s = s, .n_part = 1, .part_keys = (n_key + GROUP_KEYS - 1) / GROUP_KEYS * GROUP_KEYS};
    job.capacity = candidate_capacity(a->n_select, n_key);

    int64_t tile = a->n_tok / (4 * s->n_thread); /* some tiles for each thread, keys streamed rarely */
    tile = tile < 4 ? 4 : min_i64(tile, QUERY_TILE);
    size_t fixed = candidate_bytes(job.capacity);
    while (tile > 1 &&
           fixed + (size_t)tile * fixed + queries_bytes(&a->cache, (int)tile, a->n_head) > CPU_THREAD_BYTES)
        tile--;
    job.tile = (int)tile;
    job.n_tile = (a->n_tok + tile - 1) / tile;

    /* Few queries over many keys: the threads share the keys instead. Each part's best are exact, so that the
     * result is the same however the keys were divided. */
    if (job.n_tile < s->n_thread && n_key >= 4096) {
        int64_t n_part = min_i64((s->n_thread + job.n_tile - 1) / job.n_tile * 2, n_key / 2048);
        size_t each = candidate_bytes(job.capacity) + sizeof(candidates);
        n_part = min_i64(n_part, (int64_t)(CPU_SHARED_BYTES / each) / a->n_tok);
        n_part = min_i64(n_part, (int64_t)(CPU_THREAD_BYTES / 16) / (a->n_select + CANDIDATE_SLACK));
        if (n_part > 1) {
            job.part_keys = ((n_key + n_part - 1) / n_part + GROUP_KEYS - 1) / GROUP_KEYS * GROUP_KEYS;
            job.n_part = (n_key + job.part_keys - 1) / job.part_keys;
            job.part = (candidates *)s->shared;
            job.parts = s->shared + (size_t)(a->n_tok * n_part) * sizeof(candidates);
        }
    }
    bool parallel = n_key * a->n_tok * a->n_head * a->cache.dim > 65536;
    if (job.n_part == 1) job.part = NULL;
    cpu_run(s, select_item, &job, job.n_tile * job.n_part, parallel);
    if (job.part) cpu_run(s, merge_parts, &job, a->n_tok, a->n_tok > 1);
}

typedef struct scores_job {
    const kern_index_scores *a;
    const cpu_state *s;
    int64_t part_keys;
} scores_job;

static void scores_item(void *arg, int64_t item, int thread) {
    const scores_job *job = (const scores_job *)arg;
    const kern_index_scores *a = job->a;
    queries s;
    queries_init(&s, &a->cache, a->q, a->w, 1, a->n_head, cpu_scratch(job->s, thread));
    int64_t end = min_i64((item + 1) * job->part_keys, a->n_key);
    for (int64_t first = item * job->part_keys; first < end; first += GROUP_KEYS) {
        int n = (int)min_i64(GROUP_KEYS, end - first);
        key_group g;
        group_load(&s, first, n, &g);
        float score[GROUP_KEYS];
        group_score(&s, 0, &g, score);
        memcpy(a->score + first, score, (size_t)n * sizeof *score);
    }
}

static void op_index_scores(kern *k, const kern_index_scores *a) {
    scores_job job = {a, cpu_state_of(k), 8192};
    cpu_run(job.s, scores_item, &job, (a->n_key + job.part_keys - 1) / job.part_keys, true);
}

#endif
