/* fault.h - faults planted for tests (engine.h: engine_fault). Private to engine/. */
#ifndef PHAROS_FAULT_H
#define PHAROS_FAULT_H

#include "kernels/kernels.h"

/* Noise in place of the index scores of the query at `position`: the same for a selection and for a
 * diagnosis. */
void fault_scores(int layer, int64_t position, int64_t n, float *score);

/* Replaces each row's selection by the best of those scores. Host memory only; ignores `allow`. */
void fault_shuffle(int layer, kern_index_select *a);

#endif
