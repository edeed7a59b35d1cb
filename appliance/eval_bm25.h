/* eval_bm25.h - plain retrieval beside the model's: BM25 over the texts of a haystack (SQLite FTS5, in
 * memory). */
#ifndef PHAROS_EVAL_BM25_H
#define PHAROS_EVAL_BM25_H

#include "appliance/eval.h"

typedef struct eval_bm25 eval_bm25;
/* Passages: each whole text up to `bytes`, longer ones in pieces cut at sentence ends. */
int eval_bm25_make(eval_bm25 **out, const loaded_pack *p, size_t bytes, ph_error *err);
void eval_bm25_free(eval_bm25 *b);
/* *rank of the first passage that overlaps [start, end) of `text`, from 1; 0 = not among the first `limit`.
 */
int eval_bm25_rank(eval_bm25 *b, const char *question, int text, size_t start, size_t end, int limit,
                   int *rank, ph_error *err);

#endif
