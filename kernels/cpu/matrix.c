/* matrix.c - making weight matrices: any source format into panels of 16 rows (cpu.h). */
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
    *w = (kern_matrix){source->rows, source->cols, keep, units, panels};
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
    free(w);
}
