/* time_steps.c - a GPU's decoding steps, asked for one by one, as graphs, and as graphs whose chains run side by side: the
 * same tokens, and how many a second. And a context read into memory and into a file, and all of it with the kernels for
 * any shape (kern.plain), which may write something else at V3.2's dimensions.
 *
 *     time_steps DIR BACKEND WRITTEN LENGTH...       for instance: time_steps engine/nano cuda:0 200 1024 32768 130000
 *
 * Ends with PH_FAIL where tokens or logits differ.
 */
#include "engine/engine_internal.h"
#include "tests/checkpoint.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum way { ONE_BY_ONE, CHAIN, LANES, PLAIN, WAYS };
static const char *const NAMES[WAYS] = {"one by one", "graph, one chain", "graph with lanes", "plain kernels"};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

typedef struct written {
    int32_t *token;
    int n;
    double since; /* the 20th token: recordings are over */
} written;

static int keep(void *user, const generate_step *step) {
    written *w = user;
    w->token[w->n++] = step->token;
    if (w->n == 20) w->since = now();
    return 0;
}

/* Every rank's backend that way. */
static void set_way(engine *e, enum way way, bool (*begin)(kern *, const void *, size_t, int64_t),
                    void (*lane)(kern *, int)) {
    for (int r = 0; r < e->n_ranks; r++) {
        e->kerns[r]->step_begin = way == ONE_BY_ONE ? NULL : begin;
        e->kerns[r]->lane = way >= LANES ? lane : NULL;
        e->kerns[r]->plain = way == PLAIN;
    }
}

static int time_length(engine *e, int64_t length, int n_write, ph_error *err) {
    kern *k = e->kern;
    const model_config *c = engine_config(e);
    bool (*begin)(kern *, const void *, size_t, int64_t) = k->step_begin;
    void (*lane)(kern *, int) = k->lane;
    int32_t *ids = malloc((size_t)length * sizeof *ids), *first = NULL;
    float *logits = malloc((size_t)c->vocab * sizeof *logits);
    uint64_t random = 7;
    char path[] = "/tmp/time_steps.XXXXXX";
    int fd = mkstemp(path), code = PH_OK;
    if (!ids || !logits || fd < 0) code = ph_fail(err, PH_MEMORY, "no memory, or no room in /tmp");
    if (fd >= 0) close(fd);
    for (int64_t i = 0; !code && i < length; i++) ids[i] = (int32_t)(checkpoint_random(&random) % (uint64_t)c->vocab);
    context *x = NULL;
    for (int file = 2; file >= 0 && !code; file--) { /* the plain one comes first and finds an empty file */
        context_close(x);
        x = NULL;
        set_way(e, file == 2 ? PLAIN : LANES, begin, lane);
        code = context_open(&x, e, file == 1 ? path : NULL, length + n_write + 64, NULL, err);
        double start = now();
        if (!code) code = context_read(x, ids, length - 1, NULL, NULL, NULL, err);
        if (!code) printf("%8lld tokens read into %-6s %8.3f s\n", (long long)length, file == 1 ? "a file" : file ? "memory, plain kernels:" : "memory", now() - start);
    }
    for (int way = 0; way < WAYS && !code; way++) {
        session *s = NULL;
        written w = {.token = calloc((size_t)n_write, sizeof *w.token)};
        set_way(e, (enum way)way, begin, lane);
        code = w.token ? session_open(&s, x, err) : ph_fail(err, PH_MEMORY, "no memory");
        if (!code) code = session_feed(s, ids + length - 1, 1, NULL, NULL, err);
        if (!code)
            code = session_generate(s, &(generate_options){.max_tokens = n_write, .trace = true, .ignore_eos = true, .step = keep, .user = &w},
                                    NULL, err);
        if (!code) {
            printf("%8lld %-18s %8.1f tokens a second\n", (long long)length, NAMES[way], (w.n - 20) / (now() - w.since));
            if (!first) {
                memcpy(logits, session_logits(s), (size_t)c->vocab * sizeof *logits);
                first = w.token;
                w.token = NULL;
            } else if (way == PLAIN) {
                int same = 0;
                double worst = 0;
                while (same < n_write && first[same] == w.token[same]) same++;
                for (int i = 0; i < c->vocab; i++)
                    worst = fmax(worst, fabs((double)logits[i] - (double)session_logits(s)[i]));
                printf("%8lld %-18s %d of %d tokens the same, logits then up to %.3g apart\n", (long long)length,
                       NAMES[way], same, n_write, worst);
            } else if (memcmp(first, w.token, (size_t)n_write * sizeof *first) ||
                       memcmp(logits, session_logits(s), (size_t)c->vocab * sizeof *logits))
                code = ph_fail(err, PH_FAIL, "%s: other tokens or logits than %s", NAMES[way], NAMES[0]);
        }
        if (s) session_close(s);
        free(w.token);
        fflush(stdout);
    }
    set_way(e, LANES, begin, lane);
    context_close(x);
    unlink(path);
    free(ids), free(logits), free(first);
    return code;
}

int main(int argc, char **argv) {
    if (argc < 5 || atoi(argv[3]) < 40) {
        fprintf(stderr, "usage: time_steps DIR BACKEND WRITTEN LENGTH...\n");
        return PH_USAGE;
    }
    ph_error err = {0};
    engine *e = NULL;
    int code = engine_open(&e, &(engine_options){.model_dir = argv[1], .backend = argv[2]}, &err);
    if (!code && !e->kern->step_begin) code = ph_fail(&err, PH_UNSUPPORTED, "this backend keeps no steps");
    for (int i = 4; i < argc && !code; i++) code = time_length(e, atoll(argv[i]), atoi(argv[3]), &err);
    engine_close(e);
    if (code) fprintf(stderr, "time_steps: %s\n", err.text);
    return code;
}
