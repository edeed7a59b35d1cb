/* sample.h - picks a token from logits. Private to engine/. */
#ifndef PHAROS_SAMPLE_H
#define PHAROS_SAMPLE_H

#include "kernels/error.h"

#include <stdint.h>

/* A small counter-based generator (splitmix64), so that a seed gives the same run everywhere. */
typedef struct sampler {
    float temperature, top_p;
    uint64_t state;
    int n;
    int32_t *order; /* [n] working memory */
    float *p;       /* [n] */
} sampler;

int sampler_make(sampler *s, int vocab, float temperature, float top_p, uint64_t seed, ph_error *err);
void sampler_free(sampler *s);

/* The picked token; temperature 0 picks the largest logit, the lower id among equals. *logprob (at
 * temperature 1) filled. */
int32_t sampler_pick(sampler *s, const float *logits, float *logprob);

#endif
