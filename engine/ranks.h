/* ranks.h - one model on several backends of one process. Private to engine/.
 *
 * The engine's own backend, weights and working memory are rank 0's; those of the others are here, and a thread each.
 * PARALLEL.md says what is dealt out and what everybody has.
 */
#ifndef PHAROS_RANKS_H
#define PHAROS_RANKS_H

#include "engine/engine_internal.h"

/* Makes e->ranks for the backends e->kerns[e->n_ranks], at least 2. */
int ranks_open(engine *e, ph_error *err);
/* Every rank loads its share of e->files and makes its working memory, all at the same time. */
int ranks_load(engine *e, const model_config *c, kern_type keep, int topk, int chunk, ph_error *err);
/* Weights and working memory of the ranks above 0, then the group and the threads. NULL is allowed. */
void ranks_close(engine *e);

#endif
