/* table_body.h - all bodies for one instruction set, and the table filled with them. FILL is the name of the
 * function to define. */
#ifndef PHAROS_TABLE_BODY_H
#define PHAROS_TABLE_BODY_H

#include "kernels/cpu/isa.h"
#include "kernels/cpu/product_body.h"
#include "kernels/cpu/rows_body.h"
#include "kernels/cpu/index_body.h"
#include "kernels/cpu/mla_body.h"
#include "kernels/cpu/peaks_body.h"

void FILL(kern *k) {
    k->matmul = op_matmul;
#if defined(CODE_ROWS)
    k->holds_fp8 = true;
#endif
    k->rmsnorm = op_rmsnorm;
    k->layernorm = op_layernorm;
    k->hadamard = op_hadamard;
    k->swiglu = op_swiglu;
    k->add = op_add;
    k->sum = op_sum;
    k->latent_append = op_latent_append;
    k->index_append = op_index_append;
    k->index_select = op_index_select;
    k->index_scores = op_index_scores;
    k->sparse_mla = op_sparse_mla;
    k->dense_mla = op_dense_mla;
    k->measure_peaks = op_measure_peaks;
}

#endif
