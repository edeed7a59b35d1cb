/* rows_body.h - operations on rows of activations: norms, Hadamard, SwiGLU, additions, cache appends. */
#ifndef PHAROS_ROWS_BODY_H
#define PHAROS_ROWS_BODY_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/isa.h"
#include "kernels/convert.h"

#include <math.h>

enum { SMALL_OPERATION = 32768 }; /* elements below which waking threads costs more than it saves */

typedef struct row_job {
    const void *a;
    const cpu_state *s;
    int64_t n_row, block; /* rows in all, in one item */
} row_job;

/* Runs task over n_row rows of `width` elements, in items of a few thousand elements. */
static void run_rows(kern *k, cpu_task task, const void *a, int64_t n_row, int64_t width) {
    row_job job = {a, cpu_state_of(k), n_row, 1 + 8192 / (width > 0 ? width : 1)};
    cpu_run(cpu_state_of(k), task, &job, (n_row + job.block - 1) / job.block,
            n_row * width > SMALL_OPERATION);
}

#define FOR_ITEM_ROWS(row, job, item)                                                                        \
    for (int64_t row = (item) * (job)->block, end_ = min_i64(row + (job)->block, (job)->n_row); row < end_;  \
         row++)

static void rmsnorm_rows(void *arg, int64_t item, int thread) {
    const row_job *job = (const row_job *)arg;
    const kern_rmsnorm *a = (const kern_rmsnorm *)job->a;
    FOR_ITEM_ROWS(t, job, item) {
        const float *x = a->x + t * a->x_stride;
        float *y = a->y + t * a->y_stride;
        vf sum = {0};
        int i = 0;
        for (; i + VL <= a->dim; i += VL) sum = vf_fma(vf_load(x + i), vf_load(x + i), sum);
        if (i < a->dim) {
            vf v = vf_load_part(x + i, a->dim - i, 0.0f);
            sum = vf_fma(v, v, sum);
        }
        float factor = 1.0f / sqrtf(vf_sum(sum) / (float)a->dim + a->eps);
        for (i = 0; i + VL <= a->dim; i += VL)
            vf_store(y + i, vf_load(x + i) * factor * vf_load(a->weight + i));
        for (; i < a->dim; i++) y[i] = x[i] * factor * a->weight[i];
    }
}

static void op_rmsnorm(kern *k, const kern_rmsnorm *a) {
    run_rows(k, rmsnorm_rows, a, a->n_tok, a->dim);
}

static void layernorm_rows(void *arg, int64_t item, int thread) {
    const row_job *job = (const row_job *)arg;
    const kern_layernorm *a = (const kern_layernorm *)job->a;
    FOR_ITEM_ROWS(t, job, item) {
        const float *x = a->x + t * a->dim;
        float *y = a->y + t * a->dim;
        vf sum = {0}, square = {0};
        int i = 0;
        for (; i + VL <= a->dim; i += VL) sum += vf_load(x + i);
        if (i < a->dim) sum += vf_load_part(x + i, a->dim - i, 0.0f);
        float mean = vf_sum(sum) / (float)a->dim;
        for (i = 0; i + VL <= a->dim; i += VL) {
            vf d = vf_load(x + i) - mean;
            square = vf_fma(d, d, square);
        }
        if (i < a->dim) {
            vf d = vf_load_part(x + i, a->dim - i, mean) - mean;
            square = vf_fma(d, d, square);
        }
        float factor = 1.0f / sqrtf(vf_sum(square) / (float)a->dim + a->eps);
        for (i = 0; i + VL <= a->dim; i += VL)
            vf_store(y + i, (vf_load(x + i) - mean) * factor * vf_load(a->weight + i) + vf_load(a->bias + i));
        for (; i < a->dim; i++) y[i] = (x[i] - mean) * factor * a->weight[i] + a->bias[i];
    }
}

static void op_layernorm(kern *k, const kern_layernorm *a) {
    run_rows(k, layernorm_rows, a, a->n_tok, a->dim);
}

static void hadamard_rows(void *arg, int64_t item, int thread) {
    const row_job *job = (const row_job *)arg;
    const kern_hadamard *a = (const kern_hadamard *)job->a;
    float factor = 1.0f / sqrtf((float)a->dim);
    FOR_ITEM_ROWS(r, job, item) {
        float *x = a->x + r * a->dim;
        for (int half = 1; half < a->dim; half *= 2)
            for (int i = 0; i < a->dim; i += 2 * half)
                for (int j = i; j < i + half; j++) {
                    float low = x[j], high = x[j + half];
                    x[j] = low + high;
                    x[j + half] = low - high;
                }
        for (int i = 0; i < a->dim; i++) x[i] *= factor;
    }
}

static void op_hadamard(kern *k, const kern_hadamard *a) {
    run_rows(k, hadamard_rows, a, a->n_row, a->dim);
}

INLINE vf swiglu_of(vf gate, vf up) {
    return gate / (1.0f + vf_exp(-gate)) * up;
}

enum { SWIGLU_ROW = 4096 };

static void swiglu_rows(void *arg, int64_t item, int thread) {
    const row_job *job = (const row_job *)arg;
    const kern_swiglu *a = (const kern_swiglu *)job->a;
    FOR_ITEM_ROWS(r, job, item) {
        int64_t i = r * SWIGLU_ROW, end = min_i64(i + SWIGLU_ROW, a->n);
        for (; i + VL <= end; i += VL)
            vf_store(a->y + i, swiglu_of(vf_load(a->gate + i), vf_load(a->up + i)));
        if (i < end)
            vf_store_part(
                a->y + i,
                swiglu_of(vf_load_part(a->gate + i, end - i, 0.0f), vf_load_part(a->up + i, end - i, 0.0f)),
                end - i);
    }
}

static void op_swiglu(kern *k, const kern_swiglu *a) {
    run_rows(k, swiglu_rows, a, (a->n + SWIGLU_ROW - 1) / SWIGLU_ROW, SWIGLU_ROW);
}

static void add_rows(void *arg, int64_t item, int thread) {
    const row_job *job = (const row_job *)arg;
    const kern_add *a = (const kern_add *)job->a;
    FOR_ITEM_ROWS(t, job, item) {
        const float *x = a->x + t * a->dim;
        float *y = a->y + t * a->dim, scale = a->scale ? a->scale[t] : 1.0f;
        for (int i = 0; i < a->dim; i++) y[i] += x[i] * scale;
    }
}

static void op_add(kern *k, const kern_add *a) {
    run_rows(k, add_rows, a, a->n_tok, a->dim);
}

enum { SUM_ROW = 4096 };

static void sum_rows(void *arg, int64_t item, int thread) {
    const row_job *job = (const row_job *)arg;
    const kern_sum *a = (const kern_sum *)job->a;
    FOR_ITEM_ROWS(r, job, item) {
        int64_t end = min_i64((r + 1) * SUM_ROW, a->n);
        for (int64_t i = r * SUM_ROW; i < end; i++) {
            float part[16];
            for (int p = 0; p < a->n_part; p++) part[p] = a->parts[p * a->stride + i];
            for (int apart = 1; apart < a->n_part; apart *= 2)
                for (int p = 0; p + apart < a->n_part; p += 2 * apart) part[p] += part[p + apart];
            a->y[i] = a->accumulate ? a->y[i] + part[0] : part[0];
        }
    }
}

static void op_sum(kern *k, const kern_sum *a) {
    run_rows(k, sum_rows, a, (a->n + SUM_ROW - 1) / SUM_ROW, SUM_ROW);
}

/* n fp32 values to a cache row's type. */
static void store_as(kern_type type, void *row, int64_t at, const float *x, int64_t n) {
    if (type == KERN_F32) {
        memcpy((float *)row + at, x, (size_t)n * sizeof *x);
        return;
    }
    uint16_t *out = (uint16_t *)row + at;
    int64_t i = 0;
    for (; i + VL <= n; i += VL) vu_store_half(out + i, vu_bf16_of(vf_load(x + i)));
    for (; i < n; i++) out[i] = ph_f32_to_bf16(x[i]);
}

static void latent_rows(void *arg, int64_t item, int thread) {
    const row_job *job = (const row_job *)arg;
    const kern_latent_append *a = (const kern_latent_append *)job->a;
    const kern_latents *c = &a->cache;
    size_t row_bytes = (size_t)(c->kv_lora + c->rope) * kern_type_bytes(c->type);
    FOR_ITEM_ROWS(t, job, item) {
        unsigned char *row = (unsigned char *)c->rows + (size_t)(a->pos0 + t) * row_bytes;
        store_as(c->type, row, 0, a->latent + t * a->latent_stride, c->kv_lora);
        store_as(c->type, row, c->kv_lora, a->k_pe + t * a->k_pe_stride, c->rope);
    }
}

static void op_latent_append(kern *k, const kern_latent_append *a) {
    run_rows(k, latent_rows, a, a->n_tok, a->cache.kv_lora + a->cache.rope);
}

/* The int8 layout "i8x16": blocks of 16 keys, [dim/4][16 keys][4], each byte the key's value + 128. */
static void index_rows(void *arg, int64_t item, int thread) {
    const row_job *job = (const row_job *)arg;
    const kern_index_append *a = (const kern_index_append *)job->a;
    int dim = a->cache.dim;
    int64_t key_bytes = cpu_key_bytes(dim);
    FOR_ITEM_ROWS(t, job, item) {
        int64_t pos = a->pos0 + t;
        const float *x = a->k + t * dim;
        if (a->cache.type == KERN_F32) {
            memcpy((float *)a->cache.keys + pos * dim, x, (size_t)dim * sizeof *x);
            continue;
        }
        uint8_t *out = (uint8_t *)a->cache.keys + pos / 16 * 16 * key_bytes + pos % 16 * 4;
        int8_t *part = (int8_t *)cpu_scratch(job->s, thread);
        a->cache.scale[pos] = ph_quantise_i8(x, part, (size_t)dim);
        for (int64_t d = 0; d < key_bytes; d++)
            out[d / 4 * 64 + d % 4] = (uint8_t)((d < dim ? part[d] : 0) ^ 0x80);
    }
}

static void op_index_append(kern *k, const kern_index_append *a) {
    run_rows(k, index_rows, a, a->n_tok, a->cache.dim);
}

#endif
