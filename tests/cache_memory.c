/* cache_memory.c - what caches take of a GPU's memory: a context of the model's whole capacity as it is read, and many
 * conversations on it, each with the same question, who have to write the same.
 *
 *     cache_memory DIR BACKEND SESSIONS LENGTH... [--latents fp8]
 *     for instance: cache_memory engine/nano cuda:0 32 1024 32768 130000
 */
#include "engine/engine.h"
#include "kernels/paging.h"
#include "tests/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FED = 20, WRITTEN = 30 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double megabytes(engine *e) {
    kern *k = engine_kernels(e);
    return k->paging ? (double)k->paging->held(k) / 1e6 : 0;
}

static int keep(void *user, const generate_step *step) {
    int32_t **at = user;
    *(*at)++ = step->token;
    return 0;
}

static int converse(engine *e, context *c, const int32_t *ids, int n_session, ph_error *err) {
    session **s = calloc((size_t)n_session, sizeof *s);
    int32_t first[WRITTEN], here[WRITTEN];
    int code = s ? PH_OK : ph_fail(err, PH_MEMORY, "no memory");
    double start = now();
    for (int i = 0; i < n_session && !code; i++) code = session_open(&s[i], c, err);
    double opened = now() - start;
    start = now();
    for (int i = 0; i < n_session && !code; i++) {
        int32_t *at = i ? here : first;
        code = session_feed(s[i], ids, FED, NULL, NULL, err);
        if (!code)
            code = session_generate(
                s[i], &(generate_options){.max_tokens = WRITTEN, .ignore_eos = true, .step = keep, .user = &at}, NULL, err);
        if (!code && i && memcmp(first, here, sizeof first))
            code = ph_fail(err, PH_FAIL, "conversation %d writes something else than the first", i);
    }
    if (!code)
        printf("          %d conversations on it    %10.1f MB   opened in %.1f ms, %d tokens fed and %d written in %.2f s\n",
               n_session, megabytes(e), opened * 1e3, n_session * FED, n_session * WRITTEN, now() - start);
    for (int i = 0; i < n_session && s; i++) session_close(s[i]);
    free(s);
    return code;
}

int main(int argc, char **argv) {
    bool fp8 = argc > 6 && !strcmp(argv[argc - 2], "--latents") && !strcmp(argv[argc - 1], "fp8");
    if (fp8) argc -= 2;
    int n_session = argc > 4 ? atoi(argv[3]) : 0;
    if (n_session < 1) {
        fprintf(stderr, "usage: cache_memory DIR BACKEND SESSIONS LENGTH... [--latents fp8]\n");
        return PH_USAGE;
    }
    ph_error err = {0};
    engine *e = NULL;
    context *c = NULL;
    int code = engine_open(&e, &(engine_options){.model_dir = argv[1], .backend = argv[2], .fp8_latents = fp8}, &err);
    if (!code && !engine_kernels(e)->paging) code = ph_fail(&err, PH_UNSUPPORTED, "this backend's caches have no pages");
    if (!code) code = context_open(&c, e, NULL, 0, NULL, &err);
    if (!code)
        printf("capacity %lld tokens: %.1f MB if it were there at once; reserved now %.1f MB, in pages of %.1f MB\n",
               (long long)context_capacity(c), (double)engine_context_bytes(e, context_capacity(c)) / 1e6, megabytes(e),
               (double)engine_kernels(e)->paging->page / 1e6);
    for (int i = 4; i < argc && !code; i++) {
        int64_t n = strtoll(argv[i], NULL, 10);
        int32_t *ids = malloc((size_t)(n + FED) * sizeof *ids);
        uint64_t random = 7;
        for (int64_t t = 0; ids && t < n + FED; t++)
            ids[t] = (int32_t)(checkpoint_random(&random) % (uint64_t)engine_config(e)->vocab);
        double start = now();
        code = ids ? context_read(c, ids, n, NULL, NULL, NULL, &err) : ph_fail(&err, PH_MEMORY, "no memory");
        if (!code)
            printf("%8lld tokens read in %.3f s        %10.1f MB   %.1f MB of it filled\n", (long long)n, now() - start,
                   megabytes(e), (double)engine_context_bytes(e, n) / 1e6);
        if (!code) code = converse(e, c, ids + n, 1, &err);
        if (!code) code = converse(e, c, ids + n, n_session, &err);
        free(ids);
        fflush(stdout);
    }
    context_close(c);
    if (!code) printf("closed                               %10.1f MB\n", megabytes(e));
    engine_close(e);
    if (code) fprintf(stderr, "cache_memory: %s\n", err.text);
    return code;
}
