/* matrix.c - making weight matrices: any source format into panels of 16 rows (cpu.h). An FP8 source for
 * which BF16 numbers are wanted stays in its 8 bits where they give exactly those numbers: half the bytes to
 * read. */
#include "kernels/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/convert.h"

typedef struct fill_job {
    kern_matrix *w;
    const kern_matrix_source *source;
    float *rows; /* [n_thread, 16, cols] */
} fill_job;

static void fill_panel(void *arg, int64_t panel, int thread) {
    fill_job *job = (fill_job *)arg;
    kern_matrix *w = job->w;
    float *rows = job->rows + (int64_t)thread * 16 * w->cols;
    int n = (int)(w->rows - panel * 16 < 16 ? w->rows - panel * 16 : 16);
    if (job->source->transposed) { /* 16 neighbours of one stored row at a time, for the cache's sake */
        for (int64_t col = 0; col < w->cols; col++)
            for (int r = 0; r < n; r++)
                rows[r * w->cols + col] = kern_source_at(job->source, panel * 16 + r, col);
    } else {
        for (int r = 0; r < n; r++) kern_source_row(job->source, panel * 16 + r, rows + r * w->cols);
    }
    uint32_t *out = w->panels + (size_t)panel * w->panel_units;
    for (int r = 0; r < n; r++) {
        const float *x = rows + r * w->cols;
        if (w->type == KERN_F32) {
            for (int64_t col = 0; col < w->cols; col++) memcpy(out + col * 16 + r, x + col, sizeof *x);
        } else {
            uint16_t *half = (uint16_t *)out;
            for (int64_t col = 0; col < w->cols; col++)
                half[(col / 2 * 16 + r) * 2 + col % 2] = ph_f32_to_bf16(x[col]);
        }
    }
}

/* ---- FP8 ---- */

/* A source's row 0 and column 0 inside the grid of blocks, as the matrix is used. */
static int64_t grid_row(const kern_matrix_source *s) {
    return s->scale ? (s->transposed ? s->scale_col0 : s->scale_row0) : 0;
}
static int64_t grid_col(const kern_matrix_source *s) {
    return s->scale ? (s->transposed ? s->scale_row0 : s->scale_col0) : 0;
}

/* Fills the table of a block. False where 16 magnitudes and an exponent do not give all of them (a factor
 * that is 0, not finite, or so small or large that bf16 numbers lose bits). */
static bool fill_table(float scale, uint8_t *table) {
    uint16_t magnitude[128];
    for (int i = 0; i < 128; i++) {
        magnitude[i] = ph_f32_to_bf16(ph_fp8_to_f32((uint8_t)i) * scale);
        table[i] = (uint8_t)magnitude[i];
        table[128 + i] = (uint8_t)(magnitude[i] >> 8);
    }
    for (int i = 0; i < 0x7f; i++) {
        int entry = i < 8 ? i : 8 + i % 8;
        if ((magnitude[i] & 0x7fff) >= 0x7f80 || magnitude[i] != magnitude[entry] + ((i - entry) << 4))
            return false;
    }
    return true;
}

static bool fill_tables(kern_matrix *w, const kern_matrix_source *s) {
    int64_t row = grid_row(s) / 128, col = grid_col(s) / 128, n_row = (w->first_row + w->rows + 127) / 128;
    for (int64_t i = 0; i < n_row; i++) {
        for (int64_t j = 0; j < w->n_segment; j++) {
            float scale = 1;
            if (s->scale)
                scale = s->transposed ? s->scale[(col + j) * s->scale_stride + row + i]
                                      : s->scale[(row + i) * s->scale_stride + col + j];
            if (!fill_table(scale, w->tables + (i * w->n_segment + j) * CPU_CODE_TABLE)) return false;
        }
    }
    return true;
}

/* False where a code is NaN, which the tables of 16 cannot say. */
static bool fill_codes(kern_matrix *w, const kern_matrix_source *s) {
    const uint8_t *data = s->data;
    uint8_t *panels = (uint8_t *)w->panels;
    int64_t col_stride = s->transposed ? s->stride : 1, row_stride = s->transposed ? 1 : s->stride;
    memset(panels, 0, (size_t)((w->rows + CPU_CODE_ROWS - 1) / CPU_CODE_ROWS) * w->panel_units * 4);
    for (int64_t row = 0; row < w->rows; row++) {
        uint8_t *out = panels + (size_t)(row / CPU_CODE_ROWS) * w->panel_units * 4 +
                       row % CPU_CODE_ROWS / 16 * 64 + row % 16 / 4 * 16 + row % 4 * 2;
        const uint8_t *in = data + row * row_stride;
        for (int64_t col = 0; col < w->cols; col++) {
            uint8_t code = in[col * col_stride];
            if ((code & 0x7f) == 0x7f) return false;
            out[col / 4 * 64 * CPU_CODE_PANELS + col % 4 / 2 * 8 + col % 2] = code;
        }
    }
    return true;
}

/* *out NULL: the source's codes cannot be used, make a BF16 matrix. */
static int make_fp8(kern_matrix **out, const kern_matrix_source *s, ph_error *err) {
    *out = NULL;
    int64_t first_row = grid_row(s) % 128, first_col = grid_col(s) % 128, steps = (s->cols + 3) / 4;
    if (first_row % CPU_CODE_ROWS || first_col % 4) return PH_OK;
    if ((size_t)steps * 128 * CPU_CODE_PANELS > CPU_THREAD_BYTES) return PH_OK; /* to be looked up there */
    kern_matrix *w = calloc(1, sizeof *w);
    if (!w) return ph_fail(err, PH_MEMORY, "No memory for a matrix.");
    *w = (kern_matrix){.rows = s->rows,
                       .cols = s->cols,
                       .type = KERN_FP8,
                       .panel_units = (size_t)steps * 16 * CPU_CODE_PANELS,
                       .n_segment = (first_col + s->cols + 127) / 128,
                       .first_steps = (128 - first_col) / 4,
                       .first_row = first_row};
    size_t bytes = (size_t)((s->rows + CPU_CODE_ROWS - 1) / CPU_CODE_ROWS) * w->panel_units * 4,
           table_bytes = (size_t)((first_row + s->rows + 127) / 128 * w->n_segment) * CPU_CODE_TABLE;
    w->panels = aligned_alloc(64, bytes);
    w->tables = aligned_alloc(64, table_bytes);
    if (!w->panels || !w->tables) {
        cpu_matrix_free(NULL, w);
        return ph_fail(err, PH_MEMORY, "No memory for a matrix of %lld x %lld (%zu bytes).",
                       (long long)s->rows, (long long)s->cols, bytes + table_bytes);
    }
    if (fill_tables(w, s) && fill_codes(w, s))
        *out = w;
    else
        cpu_matrix_free(NULL, w);
    return PH_OK;
}

int cpu_matrix_make(kern *k, kern_matrix **out, const kern_matrix_source *source, kern_type keep,
                    ph_error *err) {
    *out = NULL;
    if (keep != KERN_F32 && keep != KERN_BF16)
        return ph_fail(err, PH_UNSUPPORTED, "A matrix can be held in F32 or BF16 only, not in type %d.",
                       (int)keep);
    if (source->type == KERN_I8 || kern_type_bytes(source->type) == 0)
        return ph_fail(err, PH_UNSUPPORTED, "A matrix cannot be made from type %d.", (int)source->type);
    if (source->rows < 1 || source->cols < 1)
        return ph_fail(err, PH_USAGE, "A matrix of %lld x %lld elements cannot be made.",
                       (long long)source->rows, (long long)source->cols);

    const cpu_state *s = cpu_state_of(k);
    if (source->type == KERN_FP8 && keep == KERN_BF16 && k->holds_fp8) {
        int code = make_fp8(out, source, err);
        if (code || *out) return code;
    }

    int64_t n_panel = (source->rows + 15) / 16;
    size_t units = (size_t)(keep == KERN_F32 ? source->cols : (source->cols + 1) / 2) * 16;
    size_t bytes = (size_t)n_panel * units * 4;
    kern_matrix *w = calloc(1, sizeof *w);
    float *rows = malloc((size_t)s->n_thread * 16 * (size_t)source->cols * sizeof *rows);
    uint32_t *panels = aligned_alloc(64, bytes);
    if (!w || !rows || !panels) {
        free(w);
        free(rows);
        free(panels);
        return ph_fail(err, PH_MEMORY, "No memory for a matrix of %lld x %lld (%zu bytes).",
                       (long long)source->rows, (long long)source->cols, bytes);
    }
    *w = (kern_matrix){
        .rows = source->rows, .cols = source->cols, .type = keep, .panel_units = units, .panels = panels};
    /* Rows and a column that only fill up a panel are 0. */
    memset(panels + (size_t)(n_panel - 1) * units, 0, units * 4);
    if (keep == KERN_BF16 && source->cols % 2)
        for (int64_t p = 0; p < n_panel; p++) memset(panels + (size_t)(p + 1) * units - 16, 0, 64);
    fill_job job = {w, source, rows};
    cpu_run(s, fill_panel, &job, n_panel, true);
    free(rows);
    *out = w;
    return PH_OK;
}

void cpu_matrix_free(kern *k, kern_matrix *w) {
    if (!w) return;
    free(w->panels);
    free(w->tables);
    free(w);
}
