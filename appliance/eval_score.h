/* eval_score.h - scores of answers, as the benchmarks define them, and the intervals of shares. */
#ifndef PHAROS_EVAL_SCORE_H
#define PHAROS_EVAL_SCORE_H

#include "kernels/error.h"

#include <stdbool.h>
#include <stddef.h>

/* SQuAD's normalisation: lower case (ASCII), ASCII punctuation dropped, the words a, an and the dropped,
 * white space single. Owned; NULL when out of memory. */
char *score_normalise(const char *text);

/* Token F1 of SQuAD: words of the normalised strings as multisets; 1 where both are empty. < 0: out of
 * memory. */
double score_f1(const char *got, const char *expected);

/* Equal after normalisation. */
bool score_exact(const char *got, const char *expected);

/* RULER's and the needle's: `expected` stands in `got` as it is but for ASCII case. */
bool score_contains(const char *got, const char *expected);

/* 0..1: one minus the edit distance over the longer length (normalised, first 400 bytes). */
double score_similarity(const char *got, const char *expected);

typedef struct interval {
    double low, high;
} interval;

/* Wilson's 95% interval of a share of `n` samples (mean in 0..1; for means of scores between, an
 * approximation that is too wide rather than too narrow). n = 0: 0..1. */
interval score_wilson(double mean, size_t n);

#endif
