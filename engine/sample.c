/* sample.c - greedy, temperature and top-p. */
#include "engine/sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int sampler_make(sampler *s, int vocab, float temperature, float top_p, uint64_t seed, ph_error *err) {
    memset(s, 0, sizeof *s);
    if (!(temperature >= 0) || temperature > 100)
        return ph_fail(err, PH_USAGE, "a temperature of %g is not within 0 and 100", (double)temperature);
    if (!(top_p > 0) || top_p > 1)
        return ph_fail(err, PH_USAGE, "a top-p of %g is not above 0 and at most 1", (double)top_p);
    s->temperature = temperature;
    s->top_p = top_p;
    s->state = seed;
    s->n = vocab;
    if (temperature == 0) return PH_OK;
    s->order = malloc((size_t)vocab * sizeof *s->order);
    s->p = malloc((size_t)vocab * sizeof *s->p);
    if (s->order && s->p) return PH_OK;
    sampler_free(s);
    return ph_fail(err, PH_MEMORY, "no memory for a sampler over %d tokens", vocab);
}

void sampler_free(sampler *s) {
    free(s->order);
    free(s->p);
    memset(s, 0, sizeof *s);
}

/* Steele, Lea, Flood: Fast splittable pseudorandom number generators (2014). */
static double uniform(sampler *s) {
    uint64_t z = s->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

static int32_t largest(const float *logits, int n) {
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

static float log_probability(const float *logits, int n, int32_t of, float max) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += exp((double)logits[i] - max);
    return (float)((double)logits[of] - max - log(sum));
}

static int by_probability(const void *a, const void *b, void *p) {
    float pa = ((const float *)p)[*(const int32_t *)a], pb = ((const float *)p)[*(const int32_t *)b];
    if (pa != pb) return pa < pb ? 1 : -1;
    return *(const int32_t *)a < *(const int32_t *)b ? -1 : 1;
}

int32_t sampler_pick(sampler *s, const float *logits, float *logprob) {
    int32_t best = largest(logits, s->n), pick = best;
    if (s->temperature > 0) {
        double total = 0;
        for (int32_t i = 0; i < s->n; i++) {
            s->order[i] = i;
            s->p[i] = expf((logits[i] - logits[best]) / s->temperature);
            total += s->p[i];
        }
        if (s->top_p < 1) qsort_r(s->order, (size_t)s->n, sizeof *s->order, by_probability, s->p);
        double kept = 0;
        int n = 0;
        while (n < s->n && kept < total * s->top_p) kept += s->p[s->order[n++]];
        double at = uniform(s) * kept;
        for (int i = 0; i < n; i++) {
            pick = s->order[i];
            at -= s->p[pick];
            if (at < 0) break;
        }
    }
    if (logprob) *logprob = log_probability(logits, s->n, pick, logits[best]);
    return pick;
}
