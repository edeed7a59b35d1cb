/* compare_ranks.c - one checkpoint as it is used (FP8 codes, bf16, index keys in 8 bits) on several choices
 * of devices: what each writes after the same random tokens, and how long it takes.
 *
 *     compare_ranks [--exact] DIR TOKENS WRITTEN BACKEND...     for instance: compare_ranks DIR 8192 64
 * cuda:0 cuda:0,1
 *
 * Says of every backend after the first how many of the written tokens are the first one's and how far the
 * logits after the last read token are off. Ends with PH_FAIL where tokens differ. 1, 2, 4 and 8 GPUs have the
 * same bits (engine/PARALLEL.md). Elsewhere ranks take sums in another order; in a random model, whose scores lie
 * close together, the roundings to 8 and 16 bits then go apart and tokens with them. --exact has fp32 throughout.
 */
#include "engine/engine_internal.h"
#include "tests/checkpoint.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_WRITTEN = 4096, MOST_BACKENDS = 8 };

typedef struct result {
    int32_t written[MOST_WRITTEN];
    int n_written;
    float *logits; /* [vocab] after the last read token */
    int vocab;
    double read_seconds, write_seconds;
} result;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int keep(void *user, const generate_step *step) {
    result *r = user;
    if (r->n_written < MOST_WRITTEN) r->written[r->n_written++] = step->token;
    return 0;
}

static int run(result *r, const char *dir, const char *backend, engine_precision precision, int tokens,
               int written, ph_error *err) {
    engine *e = NULL;
    context *c = NULL;
    session *s = NULL;
    double opening = now();
    int code =
        engine_open(&e, &(engine_options){.model_dir = dir, .backend = backend, .precision = precision}, err);
    if (code) return code;
    int32_t *ids = malloc((size_t)tokens * sizeof *ids);
    uint64_t random = 7;
    r->vocab = engine_config(e)->vocab;
    r->logits = malloc((size_t)r->vocab * sizeof *r->logits);
    if (!ids || !r->logits) code = ph_fail(err, PH_MEMORY, "no memory for %d tokens", tokens);
    for (int i = 0; !code && i < tokens; i++)
        ids[i] = (int32_t)(checkpoint_random(&random) % (uint64_t)r->vocab);
    opening = now() - opening;
    if (!code) code = context_open(&c, e, NULL, tokens + written + 64, NULL, err);
    double start = now();
    if (!code) code = context_read(c, ids, tokens - 1, NULL, NULL, NULL, err);
    r->read_seconds = now() - start;
    if (!code) code = session_open(&s, c, err);
    if (!code) code = session_feed(s, ids + tokens - 1, 1, NULL, NULL, err);
    if (!code) memcpy(r->logits, session_logits(s), (size_t)r->vocab * sizeof *r->logits);
    stop_reason why;
    generate_options options = {
        .max_tokens = written, .top_p = 1, .ignore_eos = true, .step = keep, .user = r};
    start = now();
    if (!code) code = session_generate(s, &options, &why, err);
    r->write_seconds = now() - start;
    if (!code)
        printf("%s: %d rank(s), opened in %.1f s; %d tokens read in %.3f s (%.0f tok/s), %d written in %.3f "
               "s (%.3f ms each)\n",
               backend, engine_ranks(e), opening, tokens, r->read_seconds, tokens / r->read_seconds,
               r->n_written, r->write_seconds, 1e3 * r->write_seconds / (r->n_written ? r->n_written : 1));
    session_close(s);
    context_close(c);
    free(ids);
    engine_close(e);
    return code;
}

static int most(const float *x, int n) {
    int best = 0;
    for (int i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* PH_OK where the written tokens are the same. */
static int compare(const result *a, const result *b, const char *what) {
    double worst = 0, largest = 0;
    int same = 0;
    if (a->vocab != b->vocab) return PH_FAIL;
    for (int i = 0; i < a->vocab; i++) {
        double d = fabs((double)a->logits[i] - b->logits[i]);
        if (!(d <= worst)) worst = d;
        largest = fmax(largest, fabs((double)a->logits[i]));
    }
    bool identical = !memcmp(a->logits, b->logits, (size_t)a->vocab * sizeof *a->logits);
    while (same < a->n_written && same < b->n_written && a->written[same] == b->written[same]) same++;
    printf("%s: %d of %d tokens are the first's; ", what, same, a->n_written);
    if (identical)
        printf("logits are identical\n");
    else
        printf("logits differ by %.2e at most, the largest is %.2f; the best are %d and %d\n", worst, largest,
               most(a->logits, a->vocab), most(b->logits, b->vocab));
    return same == a->n_written && same == b->n_written && isfinite(worst) ? PH_OK : PH_FAIL;
}

int main(int argc, char **argv) {
    engine_precision precision = ENGINE_FAST;
    if (argc > 1 && !strcmp(argv[1], "--exact")) precision = ENGINE_EXACT, argc--, argv++;
    int n = argc - 4, tokens = argc > 4 ? atoi(argv[2]) : 0, written = argc > 4 ? atoi(argv[3]) : 0,
        code = PH_OK;
    if (n < 1 || n > MOST_BACKENDS || tokens < 2 || written < 1 || written > MOST_WRITTEN) {
        fprintf(stderr, "usage: compare_ranks [--exact] DIR TOKENS WRITTEN BACKEND...\n");
        return PH_USAGE;
    }
    result *r = calloc((size_t)n, sizeof *r);
    if (!r) return PH_MEMORY;
    for (int i = 0; i < n && code != PH_MEMORY; i++) {
        ph_error err = {0};
        int failed = run(&r[i], argv[1], argv[4 + i], precision, tokens, written, &err);
        if (failed) fprintf(stderr, "compare_ranks: %s: %s\n", argv[4 + i], err.text);
        if (!failed && i && r[0].logits) failed = compare(&r[0], &r[i], argv[4 + i]);
        if (failed) code = failed;
        fflush(stdout);
    }
    for (int i = 0; i < n; i++) free(r[i].logits);
    free(r);
    return code;
}
