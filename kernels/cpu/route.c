/* route.c - choice of experts. A few hundred numbers a token: scalar code, threads over the tokens. */
#include "kernels/cpu/cpu.h"

#include <math.h>

typedef struct route_job {
    const kern_route *a;
    const cpu_state *s;
} route_job;

/* Whether x comes before y in a choice: the greater, and a NaN last. */
static bool better(float x, float y) {
    return x > y || (isnan(y) && !isnan(x));
}

/* Sum of the two greatest of the n values (of what is there where n is 1). */
static float two_best(const float *v, int n) {
    float first = v[0];
    if (n == 1) return first;
    float second = v[1];
    if (better(second, first)) {
        float t = first;
        first = second;
        second = t;
    }
    for (int i = 2; i < n; i++) {
        if (better(v[i], first)) {
            second = first;
            first = v[i];
        } else if (better(v[i], second)) {
            second = v[i];
        }
    }
    return first + second;
}

/* The best of the n values not yet taken; the first of equals. */
static int best_free(const float *v, const unsigned char *taken, int n) {
    int best = -1;
    for (int i = 0; i < n; i++)
        if (!taken[i] && (best < 0 || better(v[i], v[best]))) best = i;
    return best;
}

static void route_token(void *arg, int64_t t, int thread) {
    route_job *job = (route_job *)arg;
    const kern_route *a = job->a;
    int n = a->n_expert, n_group = a->n_group > 0 ? a->n_group : 1, per_group = n / n_group;
    float *sigmoid = (float *)cpu_scratch(job->s, thread), *choice = sigmoid + n, *group = choice + n;
    unsigned char *taken = (unsigned char *)(group + n_group), *group_taken = taken + n;

    for (int e = 0; e < n; e++) {
        sigmoid[e] = 1.0f / (1.0f + expf(-a->logits[t * n + e]));
        choice[e] = a->bias ? sigmoid[e] + a->bias[e] : sigmoid[e];
        taken[e] = 0;
    }
    if (n_group > 1 && a->n_group_pick < n_group) {
        for (int g = 0; g < n_group; g++) {
            group[g] = two_best(choice + g * per_group, per_group);
            group_taken[g] = 0;
        }
        for (int i = 0; i < a->n_group_pick; i++) group_taken[best_free(group, group_taken, n_group)] = 1;
        for (int e = 0; e < n; e++) taken[e] = !group_taken[e / per_group];
    }
    float sum = 0.0f;
    for (int i = 0; i < a->n_pick; i++) {
        int e = best_free(choice, taken, n);
        taken[e] = 1;
        a->expert[t * a->n_pick + i] = e;
        a->weight[t * a->n_pick + i] = sigmoid[e];
        sum += sigmoid[e];
    }
    for (int i = 0; i < a->n_pick; i++) {
        float *w = &a->weight[t * a->n_pick + i];
        if (a->normalise) *w /= sum;
        *w *= a->scale;
    }
}

void cpu_route(kern *k, const kern_route *a) {
    route_job job = {a, cpu_state_of(k)};
    cpu_run(job.s, route_token, &job, a->n_tok, (int64_t)a->n_tok * a->n_expert > 4096);
}
