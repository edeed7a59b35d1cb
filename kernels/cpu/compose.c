/* compose.c - operations made of others of the table: embeddings, products head by head, experts. */
#include "kernels/cpu/cpu.h"

#include "kernels/convert.h"

#include <stdlib.h>
#include <string.h>

struct kern_embedding {
    kern_matrix_source source;
};

int cpu_embedding_make(kern *k, kern_embedding **out, const kern_matrix_source *source, ph_error *err) {
    *out = malloc(sizeof **out);
    if (!*out) return ph_fail(err, PH_MEMORY, "No memory for an embedding table.");
    (*out)->source = *source;
    return PH_OK;
}

void cpu_embedding_free(kern *k, kern_embedding *e) {
    free(e);
}

void cpu_embed(kern *k, const kern_embed *a) {
    const kern_matrix_source *s = &a->table->source;
    for (int t = 0; t < a->n_tok; t++) kern_source_row(s, a->tokens[t], a->x + (int64_t)t * s->cols);
}

void cpu_matmul_each(kern *k, const kern_matmul_each *a) {
    for (int i = 0; i < a->n; i++)
        k->matmul(k, &(kern_matmul){.w = a->w[i],
                                    .x = a->x + i * a->x_step,
                                    .y = a->y + i * a->y_step,
                                    .x_stride = a->x_stride,
                                    .y_stride = a->y_stride,
                                    .n_tok = a->n_tok});
}

static void multiply(kern *k, const kern_matrix *w, const float *x, int64_t cols, float *y, int64_t rows, int n) {
    k->matmul(k, &(kern_matmul){.w = w, .x = x, .y = y, .x_stride = cols, .y_stride = rows, .n_tok = n});
}

/* Each expert runs over the rows that chose it. */
void cpu_experts(kern *k, const kern_experts *a) {
    for (int e = 0; e < a->n_expert; e++) {
        int rows = 0, number = a->first + e * (a->step ? a->step : 1);
        for (int64_t pick = 0; pick < (int64_t)a->n_tok * a->n_pick; pick++) {
            if (a->expert[pick] != number) continue;
            memcpy(a->rows_in + (int64_t)rows * a->hidden, a->x + pick / a->n_pick * a->hidden,
                   (size_t)a->hidden * sizeof *a->x);
            a->rows_scale[rows++] = a->weight[pick];
        }
        if (rows == 0) continue;
        multiply(k, a->gate[e], a->rows_in, a->hidden, a->rows_gate, a->width, rows);
        multiply(k, a->up[e], a->rows_in, a->hidden, a->rows_up, a->width, rows);
        k->swiglu(k, &(kern_swiglu){.gate = a->rows_gate,
                                    .up = a->rows_up,
                                    .y = a->rows_gate,
                                    .n = (int64_t)rows * a->width});
        multiply(k, a->down[e], a->rows_gate, a->width, a->rows_out, a->hidden, rows);
        rows = 0;
        for (int64_t pick = 0; pick < (int64_t)a->n_tok * a->n_pick; pick++) {
            if (a->expert[pick] != number) continue;
            k->add(k, &(kern_add){.x = a->rows_out + (int64_t)rows * a->hidden,
                                  .scale = a->rows_scale + rows,
                                  .y = a->y + pick / a->n_pick * a->hidden,
                                  .n_tok = 1,
                                  .dim = a->hidden});
            rows++;
        }
    }
}
