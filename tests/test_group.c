/* test_group.c - what ranks tell each other: gathers, exchanges, sums in a fixed order, opening several
 * backends. */
#include "kernels/group.h"
#include "tests/test_kernels.h"

#include <pthread.h>

typedef struct shared {
    kern *k[KERN_MAX_RANKS];
    kern_group *g[KERN_MAX_RANKS];
    int n;
    int64_t count;
    void (*job)(struct shared *s, int rank);
    float *part[KERN_MAX_RANKS], *y[KERN_MAX_RANKS]; /* [count] each */
    int failed[KERN_MAX_RANKS];
} shared;

typedef struct seat {
    shared *s;
    int rank;
} seat;

static void *sit(void *arg) {
    seat *t = arg;
    t->s->job(t->s, t->rank);
    return NULL;
}

static void run(shared *s, void (*job)(shared *s, int rank)) {
    pthread_t thread[KERN_MAX_RANKS];
    seat seats[KERN_MAX_RANKS];
    s->job = job;
    for (int r = 0; r < s->n; r++) {
        seats[r] = (seat){s, r};
        assert_int_equal(pthread_create(&thread[r], NULL, sit, &seats[r]), 0);
    }
    for (int r = 0; r < s->n; r++) pthread_join(thread[r], NULL);
    for (int r = 0; r < s->n; r++) assert_int_equal(s->failed[r], 0);
}

static void open_group(shared *s, int n) {
    ph_error err = {0};
    *s = (shared){.n = n};
    for (int r = 0; r < n; r++) s->k[r] = test_open("portable", 1);
    if (kern_group_open(s->g, s->k, n, &err)) fail_msg("%s", err.text);
    for (int r = 0; r < n; r++) assert_true(s->g[r]->rank == r && s->g[r]->size == n);
}

static void close_group(shared *s) {
    kern_group_close(s->g, s->n);
    for (int r = 0; r < s->n; r++) s->k[r]->close(s->k[r]);
}

/* Many rounds, so that a rank that runs ahead would overwrite what another still reads. */
static void tell_each_other(shared *s, int rank) {
    enum { ROUNDS = 300, MOST = 64 };
    kern_group *g = s->g[rank];
    uint32_t all[KERN_MAX_RANKS * MOST], out[KERN_MAX_RANKS * MOST], in[KERN_MAX_RANKS * MOST];
    for (uint32_t i = 0; i < ROUNDS; i++) {
        size_t n = 1 + i % MOST;
        bool in_place = i % 2;
        uint32_t *mine = in_place ? all + (size_t)rank * n : out;
        for (size_t j = 0; j < n; j++) mine[j] = (uint32_t)rank << 24 | i << 8 | (uint32_t)j;
        g->all_gather(g, mine, all, n * 4);
        for (size_t r = 0; r < (size_t)s->n; r++)
            for (size_t j = 0; j < n; j++)
                s->failed[rank] += all[r * n + j] != ((uint32_t)r << 24 | i << 8 | (uint32_t)j);
        for (size_t r = 0; r < (size_t)s->n; r++)
            for (size_t j = 0; j < n; j++)
                out[r * n + j] = (uint32_t)rank << 24 | (uint32_t)r << 16 | (i + (uint32_t)j) % 256;
        g->exchange(g, out, in, n * 4);
        for (size_t r = 0; r < (size_t)s->n; r++)
            for (size_t j = 0; j < n; j++)
                s->failed[rank] +=
                    in[r * n + j] != ((uint32_t)r << 24 | (uint32_t)rank << 16 | (i + (uint32_t)j) % 256);
        for (size_t j = 0; j < n; j++) out[j] = rank ? ~0u : i + (uint32_t)j;
        g->broadcast(g, out, n * 4);
        for (size_t j = 0; j < n; j++) s->failed[rank] += out[j] != i + (uint32_t)j;
    }
    s->failed[rank] += g->status(g, NULL) != PH_OK;
}

static void ranks_hear_each_other(void **state) {
    for (int n = 2; n <= KERN_MAX_RANKS; n += n < 5 ? 1 : 11) {
        shared s;
        open_group(&s, n);
        run(&s, tell_each_other);
        close_group(&s);
    }
}

static void sum_up(shared *s, int rank) {
    int64_t n = s->count;
    float *part = test_array(kern_group_room(s->n, n)), *work = test_array(kern_group_work(s->n, n));
    memcpy(part, s->part[rank], (size_t)n * sizeof *part);
    kern_group_sum(s->g[rank], s->k[rank], part, s->y[rank], n, work);
    free(part), free(work);
}

/* Neighbours in pairs, again and again, one that is left over as it is: of part[0], part[stride], ... */
static float tree_sum(const float *part, int64_t stride, int n) {
    float level[KERN_MAX_RANKS];
    for (int i = 0; i < n; i++) level[i] = part[i * stride];
    for (; n > 1; n = (n + 1) / 2)
        for (int i = 0; i < n; i += 2) {
            volatile float sum = level[i];
            if (i + 1 < n) sum = sum + level[i + 1];
            level[i / 2] = sum;
        }
    return level[0];
}

/* As a tree, to the bit, whichever way the numbers take. */
static void sums_have_one_order(void **state) {
    const int64_t counts[] = {
        1, 63, 1000, KERN_GROUP_SMALL - 1, KERN_GROUP_SMALL, KERN_GROUP_SMALL + 1, 3 * KERN_GROUP_SMALL + 17};
    for (int n = 2; n <= 8; n += n < 4 ? 1 : 4)
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            shared s;
            open_group(&s, n);
            s.count = counts[i];
            float *before = test_values(s.count);
            for (int r = 0; r < n; r++) {
                s.part[r] = test_values(s.count);
                s.y[r] = test_array(s.count);
                memcpy(s.y[r], before, (size_t)s.count * 4);
            }
            run(&s, sum_up);
            for (int64_t j = 0; j < s.count; j++) {
                float part[KERN_MAX_RANKS];
                for (int r = 0; r < n; r++) part[r] = s.part[r][j];
                before[j] += tree_sum(part, 1, n);
            }
            for (int r = 0; r < n; r++) {
                assert_same_bytes(s.y[r], before, (size_t)s.count * 4);
                free(s.part[r]), free(s.y[r]);
            }
            free(before);
            close_group(&s);
        }
}

static void sums_of_every_backend(void **state) {
    const int64_t counts[] = {1, 15, 4096, 40001};
    FOR_BACKENDS(name) {
        kern *k = test_open(name, 3);
        for (size_t i = 0; i < 2 * sizeof counts / sizeof *counts; i++) {
            int64_t n = counts[i / 2], stride = n + 3;
            int parts = 1 + (int)(test_random() % KERN_MAX_RANKS);
            float *x = test_values(parts * stride), *y = test_values(n), *want = test_array(n);
            for (int64_t j = 0; j < n; j++) {
                float sum = tree_sum(x + j, stride, parts);
                want[j] = i % 2 ? y[j] + sum : sum;
            }
            k->sum(k,
                   &(kern_sum){
                       .parts = x, .y = y, .stride = stride, .n = n, .n_part = parts, .accumulate = i % 2});
            assert_same_bytes(y, want, (size_t)n * 4);
            free(x), free(y), free(want);
        }
        k->close(k);
    }
}

/* Experts dealt out to several ranks add up to what one has; what is picked of others is left out. */
static void experts_in_parts(void **state) {
    enum { EXPERTS = 8, PICKS = 3, HIDDEN = 20, WIDTH = 24, N = 37 };
    FOR_BACKENDS(name) {
        kern *k = test_open(name, 2);
        kern_matrix *w[3][EXPERTS];
        float *numbers[3];
        for (int j = 0; j < 3; j++) {
            numbers[j] = test_values(EXPERTS * HIDDEN * WIDTH);
            for (int e = 0; e < EXPERTS; e++) {
                int64_t rows = j < 2 ? WIDTH : HIDDEN, cols = j < 2 ? HIDDEN : WIDTH;
                kern_matrix_source s = {.rows = rows,
                                        .cols = cols,
                                        .data = numbers[j] + e * HIDDEN * WIDTH,
                                        .stride = cols,
                                        .type = KERN_F32};
                assert_int_equal(k->matrix_make(k, &w[j][e], &s, KERN_F32, NULL), PH_OK);
            }
        }
        float *x = test_values(N * HIDDEN), *weight = test_values(N * PICKS), *whole = test_array(N * HIDDEN),
              *part = test_array(N * HIDDEN), *sum = test_array(N * HIDDEN), *in = test_array(N * HIDDEN),
              *out = test_array(N * HIDDEN), *scale = test_array(N), *gate = test_array(N * WIDTH),
              *up = test_array(N * WIDTH);
        int32_t expert[N * PICKS];
        for (int t = 0; t < N; t++)
            for (int p = 0; p < PICKS; p++)
                expert[t * PICKS + p] =
                    (int32_t)((test_random() % 2 + (unsigned)p * 2 + (unsigned)t) % EXPERTS);
        kern_experts a = {.gate = (const kern_matrix *const *)w[0],
                          .up = (const kern_matrix *const *)w[1],
                          .down = (const kern_matrix *const *)w[2],
                          .n_expert = EXPERTS,
                          .n_pick = PICKS,
                          .expert = expert,
                          .weight = weight,
                          .x = x,
                          .y = whole,
                          .n_tok = N,
                          .hidden = HIDDEN,
                          .width = WIDTH,
                          .rows_in = in,
                          .rows_out = out,
                          .rows_scale = scale,
                          .rows_gate = gate,
                          .rows_up = up};
        memset(whole, 0, N * HIDDEN * 4);
        memset(sum, 0, N * HIDDEN * 4);
        k->experts(k, &a);
        a.y = part;
        a.n_routed = EXPERTS;
        const kern_matrix *own[3][EXPERTS];
        a.gate = own[0];
        a.up = own[1];
        a.down = own[2];
        /* Every third from 0, 1 and 2 on. */
        for (a.first = 0, a.step = 3; a.first < a.step; a.first++) {
            a.n_expert = 0;
            for (int e = a.first; e < EXPERTS; e += a.step, a.n_expert++)
                for (int j = 0; j < 3; j++) own[j][a.n_expert] = w[j][e];
            memset(part, 0, N * HIDDEN * 4);
            k->experts(k, &a);
            for (int i = 0; i < N * HIDDEN; i++) sum[i] += part[i];
        }
        for (int i = 0; i < N * HIDDEN; i++) assert_close(sum[i], whole[i], 1e-4);
        for (int j = 0; j < 3; j++) {
            for (int e = 0; e < EXPERTS; e++) k->matrix_free(k, w[j][e]);
            free(numbers[j]);
        }
        free(x), free(weight), free(whole), free(part), free(sum), free(in), free(out), free(scale),
            free(gate), free(up);
        k->close(k);
    }
}

static void backends_are_opened_together(void **state) {
    kern *k[KERN_MAX_RANKS];
    kern_group *g[KERN_MAX_RANKS];
    int n = 0;
    ph_error err = {0};
    assert_int_equal(kern_open_ranks(k, &n, NULL, 0, 3, &err), PH_OK);
    assert_true(n == 1 && k[0]->n_thread == 3);
    assert_int_equal(kern_group_open(g, k, 1, &err), PH_USAGE);
    k[0]->close(k[0]);
    assert_int_equal(kern_open_ranks(k, &n, "portable", 3, 7, &err), PH_OK);
    assert_int_equal(n, 3);
    for (int i = 0; i < n; i++) {
        assert_string_equal(k[i]->name, "portable");
        assert_int_equal(k[i]->n_thread, 2);
        k[i]->close(k[i]);
    }
    assert_int_equal(kern_open_ranks(k, &n, NULL, KERN_MAX_RANKS + 1, 0, &err), PH_USAGE);
    assert_int_equal(kern_open_ranks(k, &n, NULL, -1, 0, &err), PH_USAGE);
    assert_int_equal(kern_open_ranks(k, &n, "cuda:0,0", 0, 0, &err), PH_USAGE);
    assert_non_null(strstr(err.text, "twice"));
    assert_int_equal(kern_open_ranks(k, &n, "cuda:0,1", 3, 0, &err), PH_USAGE);
    const char *const wrong[] = {"cuda:", "cuda:0,", "cuda:,1", "cuda:0,1x", "cudas", "cuda:-1", "cuda:0;1"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(kern_open_ranks(k, &n, wrong[i], 0, 0, &err), PH_USAGE);
    assert_int_equal(kern_open(&k[0], "cuda:0,1", 0, &err), PH_USAGE);
    assert_int_equal(n, 0);
    if (kern_cpu_names()[1]) { /* results of different kinds would differ */
        k[0] = test_open(kern_cpu_names()[0], 1);
        k[1] = test_open(kern_cpu_names()[1], 1);
        assert_int_equal(kern_group_open(g, k, 2, &err), PH_UNSUPPORTED);
        k[0]->close(k[0]);
        k[1]->close(k[1]);
    }
}

int main(void) {
    test_seed_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_hear_each_other),        cmocka_unit_test(sums_have_one_order),
        cmocka_unit_test(sums_of_every_backend),        cmocka_unit_test(experts_in_parts),
        cmocka_unit_test(backends_are_opened_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
