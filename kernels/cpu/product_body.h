/* product_body.h - the matrix product: weights in panels of 16 rows (cpu.h) times rows of x.
 *
 * Not OpenBLAS: its results for a row depend on how many rows are in the call, which would make a chunked
 * prefill, a decode step and a restored snapshot disagree. Here an output element is one chain of fused
 * multiply-adds over the columns in ascending order, from 0, whichever tile computes it: lanes are rows of W,
 * so nothing is ever added across lanes. A chain may rest in memory between two stretches of columns; that
 * rounds nothing.
 */
#ifndef PHAROS_PRODUCT_BODY_H
#define PHAROS_PRODUCT_BODY_H

#include "kernels/cpu/codes_body.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/isa.h"

/* One element of x for the bf16 product. With the dot-product instruction: a pair of bf16 values in 32 bits.
 * Otherwise: two values that were rounded to bf16, as fp32. */
#if defined(ISA_AVX512)
typedef uint32_t x_pair;
#else
typedef struct x_pair {
    float first, second;
} x_pair;
#endif

#define TILE_VECTORS (TILE_PANELS * 16 / VL)

/* Where a tile's results go. `load`: the chain goes on from what stands there. */
typedef struct tile_out {
    float *c; /* [rows, stride] */
    int64_t stride;
    int64_t n_col;  /* columns that exist: the last panel may be partly beyond */
    bool load, add; /* add: c += result (the chain itself begins at 0) */
} tile_out;

INLINE void tile_begin(vf acc[TILE_ROWS][TILE_VECTORS], int rows, int vectors, const tile_out *o) {
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < vectors; v++) {
            acc[r][v] = (vf){0};
            if (o->load) acc[r][v] = vf_load(o->c + r * o->stride + v * VL);
        }
    }
}

INLINE void tile_end(vf acc[TILE_ROWS][TILE_VECTORS], int rows, int vectors, const tile_out *o) {
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < vectors; v++) {
            float *c = o->c + r * o->stride + v * VL;
            int64_t left = o->n_col - v * VL;
            vf result = acc[r][v];
            if (left >= VL) {
                if (o->add) result += vf_load(c);
                vf_store(c, result);
            } else if (left > 0) {
                if (o->add) result += vf_load_part(c, left, 0.0f);
                vf_store_part(c, result, left);
            }
        }
    }
}

INLINE void tile_f32(int rows, int panels, const float *w, size_t panel, const float *x, int64_t x_stride,
                     int64_t n, const tile_out *o) {
    const int vectors = panels * 16 / VL, in_panel = 16 / VL;
    vf acc[TILE_ROWS][TILE_VECTORS];
    tile_begin(acc, rows, vectors, o);
    for (int64_t i = 0; i < n; i++) {
        vf wv[TILE_VECTORS];
        UNROLL for (int v = 0; v < vectors; v++) wv[v] =
            vf_load(w + (size_t)(v / in_panel) * panel + i * 16 + v % in_panel * VL);
        UNROLL for (int r = 0; r < rows; r++) {
            vf xv = vf_set(x[r * x_stride + i]);
            UNROLL for (int v = 0; v < vectors; v++) acc[r][v] = vf_fma(xv, wv[v], acc[r][v]);
        }
    }
    tile_end(acc, rows, vectors, o);
}

INLINE void tile_bf16(int rows, int panels, const uint32_t *w, size_t panel, const x_pair *x,
                      int64_t x_stride, int64_t n, const tile_out *o) {
    const int vectors = panels * 16 / VL, in_panel = 16 / VL;
    vf acc[TILE_ROWS][TILE_VECTORS];
    tile_begin(acc, rows, vectors, o);
    for (int64_t i = 0; i < n; i++) {
        vu wv[TILE_VECTORS];
        UNROLL for (int v = 0; v < vectors; v++) wv[v] =
            vu_load(w + (size_t)(v / in_panel) * panel + i * 16 + v % in_panel * VL);
#if defined(ISA_AVX512)
        UNROLL for (int r = 0; r < rows; r++) {
            __m512bh xv = (__m512bh)_mm512_set1_epi32((int)x[r * x_stride + i]);
            UNROLL for (int v = 0; v < vectors; v++) acc[r][v] =
                (vf)_mm512_dpbf16_ps((__m512)acc[r][v], xv, (__m512bh)wv[v]);
        }
#else
        UNROLL for (int half = 0; half < 2; half++) {
            vf wf[TILE_VECTORS];
            UNROLL for (int v = 0; v < vectors; v++) {
                wf[v] = (vf)(wv[v] << 16);
                if (half) wf[v] = (vf)(wv[v] & 0xffff0000u);
            }
            UNROLL for (int r = 0; r < rows; r++) {
                vf xv = vf_set(half ? x[r * x_stride + i].second : x[r * x_stride + i].first);
                UNROLL for (int v = 0; v < vectors; v++) acc[r][v] = vf_fma(xv, wf[v], acc[r][v]);
            }
        }
#endif
    }
    tile_end(acc, rows, vectors, o);
}

#if defined(CODE_ROWS)
/* For each row r of x: acc[r * TILE_VECTORS] += the pair of columns in w times x. */
INLINE void add_pair(vf *acc, int rows, vu w, const x_pair *x, int64_t x_stride) {
#if defined(ISA_AVX512)
    UNROLL for (int r = 0; r < rows; r++) acc[r * TILE_VECTORS] = (vf)_mm512_dpbf16_ps(
        (__m512)acc[r * TILE_VECTORS], (__m512bh)_mm512_set1_epi32((int)x[r * x_stride]), (__m512bh)w);
#else
    vf first = (vf)(w << 16), second = (vf)(w & 0xffff0000u);
    UNROLL for (int r = 0; r < rows; r++) {
        vf sum = vf_fma(vf_set(x[r * x_stride].first), first, acc[r * TILE_VECTORS]);
        acc[r * TILE_VECTORS] = vf_fma(vf_set(x[r * x_stride].second), second, sum);
    }
#endif
}

/* Four columns at a time, one table for each stretch of columns in a block. */
INLINE void tile_fp8(int rows, int panels, const uint8_t *w, const code_blocks *blocks, const x_pair *x,
                     int64_t x_stride, int64_t n, const tile_out *o) {
    const int in_panel = 16 / VL;
    vf acc[TILE_ROWS][TILE_VECTORS];
    tile_begin(acc, rows, panels * in_panel, o);
    int64_t steps = (n + 1) / 2, step = 0, end = blocks->first_steps;
    for (const uint8_t *bytes = blocks->tables; step < steps; bytes += CPU_CODE_TABLE, end += 32) {
        code_table table = code_table_load(bytes);
        for (; step < min_i64(end, steps); step++) {
            UNROLL for (int p = 0; p < panels; p++) {
                vu pair[2][16 / VL];
                codes_decode(w + (step * CPU_CODE_PANELS + p) * 64, &table, pair);
                UNROLL for (int v = 0; v < in_panel; v++)
                    add_pair(&acc[0][p * in_panel + v], rows, pair[0][v], x + step * 2, x_stride);
                if (step * 2 + 1 == n) continue; /* an odd number of pairs */
                UNROLL for (int v = 0; v < in_panel; v++)
                    add_pair(&acc[0][p * in_panel + v], rows, pair[1][v], x + step * 2 + 1, x_stride);
            }
        }
    }
    tile_end(acc, rows, panels * in_panel, o);
}

#endif

/* A panel product: c[rows, 16 * panels] (+)= x[rows, n] times the panels. w: first panel; panel: 4-byte units
 * from one to the next; n: columns (F32) or pairs of columns (BF16, FP8); x_stride in elements of x. FP8: all
 * panels in one group of CPU_CODE_PANELS. */
typedef struct panel_product {
    kern_type type;
    const uint32_t *w;
    size_t panel;
    const void *x; /* float or x_pair */
    int64_t x_stride, n, n_row;
    tile_out out;
#if defined(CODE_ROWS)
    const uint8_t *codes; /* FP8: instead of w and panel */
    code_blocks blocks;
#endif
} panel_product;

INLINE void tile_any(int rows, int panels, const panel_product *p, int64_t row, int64_t first_panel) {
    tile_out o = p->out;
    o.c += row * o.stride + first_panel * 16;
    o.n_col -= first_panel * 16;
    const uint32_t *w = p->w + (size_t)first_panel * p->panel;
    if (p->type == KERN_F32)
        tile_f32(rows, panels, (const float *)w, p->panel, (const float *)p->x + row * p->x_stride,
                 p->x_stride, p->n, &o);
#if defined(CODE_ROWS)
    else if (p->type == KERN_FP8)
        tile_fp8(rows, panels, p->codes + first_panel * 64, &p->blocks,
                 (const x_pair *)p->x + row * p->x_stride, p->x_stride, p->n, &o);
#endif
    else
        tile_bf16(rows, panels, w, p->panel, (const x_pair *)p->x + row * p->x_stride, p->x_stride, p->n, &o);
}

/* The tile's shape must be known to the compiler, so that its accumulators live in registers. */
#define TILE_CASE(rows, panels)                                                                              \
    case (rows)*8 + (panels):                                                                                \
        tile_any(rows, panels, p, row, first_panel);                                                         \
        break;

static void tile_of(int rows, int panels, const panel_product *p, int64_t row, int64_t first_panel) {
    switch (rows * 8 + panels) {
        TILE_CASE(1, 1)
        TILE_CASE(2, 1)
        TILE_CASE(3, 1)
#if TILE_PANELS >= 2
        TILE_CASE(1, 2)
        TILE_CASE(2, 2)
        TILE_CASE(3, 2)
#endif
#if TILE_PANELS >= 4
        TILE_CASE(1, 3)
        TILE_CASE(2, 3)
        TILE_CASE(3, 3)
        TILE_CASE(1, 4)
        TILE_CASE(2, 4)
        TILE_CASE(3, 4)
#endif
#if TILE_ROWS >= 6
        TILE_CASE(4, 1)
        TILE_CASE(5, 1)
        TILE_CASE(6, 1)
        TILE_CASE(4, 2)
        TILE_CASE(5, 2)
        TILE_CASE(6, 2)
        TILE_CASE(4, 3)
        TILE_CASE(5, 3)
        TILE_CASE(6, 3)
        TILE_CASE(4, 4)
        TILE_CASE(5, 4)
        TILE_CASE(6, 4)
#endif
    }
}

static void panel_product_run(const panel_product *p, int64_t n_panel) {
    for (int64_t panel = 0; panel < n_panel; panel += TILE_PANELS) {
        int panels = (int)min_i64(TILE_PANELS, n_panel - panel);
        /* rows in tiles of nearly the same size: 8 rows go as 4 + 4, not as 6 + 2 */
        int64_t n_tile = (p->n_row + TILE_ROWS - 1) / TILE_ROWS, row = 0;
        for (int64_t tile = 0; tile < n_tile; tile++) {
            int rows = (int)((p->n_row - row + n_tile - tile - 1) / (n_tile - tile));
            tile_of(rows, panels, p, row, panel);
            row += rows;
        }
    }
}

/* n values of x as pairs for the bf16 product; an odd last one is followed by 0. */
static void pairs_of(const float *x, int64_t n, x_pair *out) {
    int64_t i = 0;
#if defined(ISA_AVX512)
    uint16_t *half = (uint16_t *)out;
    for (; i + VL <= n; i += VL) vu_store_half(half + i, vu_bf16_of(vf_load(x + i)));
    if (i < n) {
        uint16_t lanes[VL];
        vu_store_half(lanes, vu_bf16_of(vf_load_part(x + i, n - i, 0.0f)));
        memcpy(half + i, lanes, (size_t)(n - i) * sizeof *half);
    }
    if (n % 2) half[n] = 0;
#else
    float *wide = (float *)out;
    for (; i + VL <= n; i += VL) vf_store(wide + i, (vf)(vu_bf16_of(vf_load(x + i)) << 16));
    if (i < n) vf_store_part(wide + i, (vf)(vu_bf16_of(vf_load_part(x + i, n - i, 0.0f)) << 16), n - i);
    if (n % 2) wide[n] = 0.0f;
#endif
}

typedef struct matmul_job {
    const kern_matmul *a;
    const cpu_state *state;
    x_pair *pairs;          /* [tokens of this pass, (cols + 1) / 2], BF16 and FP8 only */
    int64_t first, n;       /* the tokens of this pass */
    int64_t n_group, group; /* groups of `group` panels */
    int64_t block;          /* tokens in one item */
} matmul_job;

static void matmul_convert(void *arg, int64_t item, int thread) {
    const matmul_job *job = (const matmul_job *)arg;
    const kern_matmul *a = job->a;
    int64_t n_pair = (a->w->cols + 1) / 2, end = min_i64((item + 1) * 16, job->n);
    for (int64_t t = item * 16; t < end; t++)
        pairs_of(a->x + (job->first + t) * a->x_stride, a->w->cols, job->pairs + t * n_pair);
}

#if defined(CODE_ROWS)
/* Has p read the codes of n_panel panels: each tile by itself, or looked up into memory once for many rows.
 */
static void use_codes(panel_product *p, const kern_matrix *w, int64_t first_panel, int64_t n_panel,
                      void *memory) {
    int64_t block_row = (w->first_row + first_panel * 16) / 128;
    p->codes = (const uint8_t *)(w->panels + (size_t)(first_panel / CPU_CODE_PANELS) * w->panel_units) +
               first_panel % CPU_CODE_PANELS * 64;
    p->blocks = (code_blocks){w->tables + block_row * w->n_segment * CPU_CODE_TABLE, w->first_steps};
    if (p->n_row <= CODE_ROWS) return;
    uint32_t *panels = memory;
    p->type = KERN_BF16;
    p->w = panels;
    p->panel = (size_t)(p->n + 1) / 2 * 32;
    for (int64_t i = 0; i < n_panel; i++)
        codes_unpack(p->codes + i * 64, p->n, &p->blocks, panels + (size_t)i * p->panel);
}
#endif

static void matmul_item(void *arg, int64_t item, int thread) {
    const matmul_job *job = (const matmul_job *)arg;
    const kern_matmul *a = job->a;
    const kern_matrix *w = a->w;
    int64_t group = item % job->n_group, t = item / job->n_group * job->block;
    int64_t first_panel = group * job->group,
            n_panel = min_i64(job->group, (w->rows + 15) / 16 - first_panel);
    bool f32 = w->type == KERN_F32;
    int64_t n_pair = (w->cols + 1) / 2;
    panel_product p = {.type = w->type,
                       .w = w->panels + (w->type == KERN_FP8 ? 0 : (size_t)first_panel * w->panel_units),
                       .panel = w->panel_units,
                       .x = f32 ? (const void *)(a->x + (job->first + t) * a->x_stride)
                                : (const void *)(job->pairs + t * n_pair),
                       .x_stride = f32 ? a->x_stride : n_pair,
                       .n = f32 ? w->cols : n_pair,
                       .n_row = min_i64(job->block, job->n - t),
                       .out = {.c = a->y + (job->first + t) * a->y_stride + first_panel * 16,
                               .stride = a->y_stride,
                               .n_col = w->rows - first_panel * 16,
                               .add = a->accumulate}};
#if defined(CODE_ROWS)
    if (w->type == KERN_FP8) use_codes(&p, w, first_panel, n_panel, cpu_scratch(job->state, thread));
#endif
    panel_product_run(&p, n_panel);
}

static void op_matmul(kern *k, const kern_matmul *a) {
    const cpu_state *s = cpu_state_of(k);
    const kern_matrix *w = a->w;
    int64_t n_panel = (w->rows + 15) / 16, n_pair = (w->cols + 1) / 2;
    bool parallel = w->rows * w->cols * a->n_tok > 65536;
    int64_t fit = w->type == KERN_F32 ? a->n_tok : (int64_t)(CPU_SHARED_BYTES / sizeof(x_pair)) / n_pair;
    for (int64_t first = 0; first < a->n_tok; first += fit) {
        matmul_job job = {.a = a,
                          .state = s,
                          .pairs = (x_pair *)s->shared,
                          .first = first,
                          .n = min_i64(fit, a->n_tok - first)};
        job.group = TILE_PANELS;
        job.n_group = (n_panel + job.group - 1) / job.group;
        job.block = 128;
        /* Codes are looked up once for each block: as many rows as the second-level cache holds beside them,
         * while there is work for all threads. */
        while (w->type == KERN_FP8 && job.block < 512 && job.block * n_pair <= 65536 &&
               job.n_group * job.n > job.block * 8 * s->n_thread)
            job.block *= 2;
        if (w->type != KERN_F32) cpu_run(s, matmul_convert, &job, (job.n + 15) / 16, parallel);
        cpu_run(s, matmul_item, &job, job.n_group * ((job.n + job.block - 1) / job.block), parallel);
    }
}

#endif
