/* rope.c - rotary embedding from tables of cos and sin.
 *
 * The angle is the fp32 product position * frequency, as the reference computes it: near position 131071 its
 * rounding shows, and a better angle would be a different model. Its cos and sin are then correctly rounded.
 */
#include "kernels/cpu/cpu.h"

#include <math.h>
#include <string.h>

typedef struct angle_job {
    cpu_angles *angles;
} angle_job;

enum { ANGLE_TOKENS = 16 }; /* tokens in one item */

static void fill_angles(void *arg, int64_t item, int thread) {
    cpu_angles *a = ((angle_job *)arg)->angles;
    int end = (int)(item + 1) * ANGLE_TOKENS;
    for (int t = (int)item * ANGLE_TOKENS; t < end && t < a->n_tok; t++)
        for (int i = 0; i < a->n_pair; i++) {
            float angle = (float)(a->pos0 + t) * a->freq[i];
            a->cosine[(int64_t)t * a->n_pair + i] = (float)cos((double)angle);
            a->sine[(int64_t)t * a->n_pair + i] = (float)sin((double)angle);
        }
}

const cpu_angles *cpu_angles_for(cpu_state *s, const float *freq, int n_pair, int64_t pos0, int n_tok) {
    for (int i = 0; i < 2; i++) {
        const cpu_angles *a = &s->angles[i];
        if (a->n_tok == n_tok && a->pos0 == pos0 && a->n_pair == n_pair &&
            memcmp(a->freq, freq, (size_t)n_pair * sizeof *freq) == 0)
            return a;
    }
    cpu_angles *a = &s->angles[s->next_angles];
    s->next_angles ^= 1;
    memcpy(a->freq, freq, (size_t)n_pair * sizeof *freq);
    a->n_pair = n_pair;
    a->pos0 = pos0;
    a->n_tok = n_tok;
    angle_job job = {a};
    cpu_run(s, fill_angles, &job, (n_tok + ANGLE_TOKENS - 1) / ANGLE_TOKENS, true);
    return a;
}

typedef struct rope_job {
    const kern_rope *a;
    const cpu_angles *angles;
    int first; /* token that angles begins with */
} rope_job;

static void rotate_token(void *arg, int64_t item, int thread) {
    const rope_job *job = (const rope_job *)arg;
    const kern_rope *a = job->a;
    int n = a->n_rot / 2;
    const float *c = job->angles->cosine + item * n, *s = job->angles->sine + item * n;
    for (int h = 0; h < a->n_head; h++) {
        float *x = a->x + (job->first + item) * a->tok_stride + h * a->head_stride;
        if (a->layout == KERN_ROPE_INTERLEAVED) {
            for (int i = 0; i < n; i++) {
                float even = x[2 * i], odd = x[2 * i + 1];
                x[2 * i] = even * c[i] - odd * s[i];
                x[2 * i + 1] = even * s[i] + odd * c[i];
            }
        } else {
            for (int i = 0; i < n; i++) {
                float low = x[i], high = x[i + n];
                x[i] = low * c[i] - high * s[i];
                x[i + n] = low * s[i] + high * c[i];
            }
        }
    }
}

void cpu_rope(kern *k, const kern_rope *a) {
    cpu_state *s = cpu_state_of(k);
    int n_pair = a->n_rot / 2;
    if (n_pair < 1) return;
    int step = (int)(CPU_ANGLES_MAX / n_pair);
    for (int first = 0; first < a->n_tok; first += step) {
        int n = a->n_tok - first < step ? a->n_tok - first : step;
        rope_job job = {a, cpu_angles_for(s, a->freq, n_pair, a->pos0 + first, n), first};
        cpu_run(s, rotate_token, &job, n, (int64_t)n * a->n_head * a->n_rot > 16384);
    }
}
