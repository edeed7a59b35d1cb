/* test_cuda_index.c - the indexer's keys, scores and exact selection on the GPU. With int8 keys every backend gives the
 * same bits, so the CPU's selection is the yardstick; with fp32 keys, the GPU's own scores sorted. */
#include "tests/test_cuda.h"

typedef struct fixture {
    int64_t n_key;
    int n_tok, n_head, dim;
    float *k, *q, *w;
    kern_index_keys g, c;
    float *dq, *dw;
} fixture;

enum kind { RANDOM, MANY_TIES, ALL_EQUAL, RISING, FALLING, SPECIAL, KINDS };

static kern_index_keys make_cache(kern *k, kern_type type, const fixture *f) {
    kern_index_keys c = {.type = type, .dim = f->dim};
    assert_int_equal(k->alloc(k, &c.keys, k->index_key_bytes(type, f->dim, f->n_key), NULL), PH_OK);
    /* Whole 16 bytes, as the engine's blocks are: a copy of 16 bytes of which the last are not taken is a read of all 16
     * for a memory checker. */
    if (type != KERN_F32) assert_int_equal(k->alloc(k, (void **)&c.scale, (size_t)(f->n_key + 3) / 4 * 16, NULL), PH_OK);
    return c;
}

static fixture make_fixture(enum kind kind, kern_type type, int64_t n_key, int n_tok, int n_head, int dim) {
    fixture f = {.n_key = n_key, .n_tok = n_tok, .n_head = n_head, .dim = dim};
    f.k = test_values(n_key * dim);
    f.q = test_values((int64_t)n_tok * n_head * dim);
    f.w = test_values((int64_t)n_tok * n_head);
    for (int64_t s = 0; s < n_key; s++)
        for (int d = 0; d < dim; d++) {
            float *v = &f.k[s * dim + d];
            if (kind == MANY_TIES) *v = (float)test_between(-1, 1);
            if (kind == ALL_EQUAL) *v = 1.0f;
            if (kind == RISING) *v = d ? 0.0f : (float)(s + 1);
            if (kind == FALLING) *v = d ? 0.0f : (float)(n_key - s);
        }
    if (kind == MANY_TIES)
        for (int64_t i = 0; i < (int64_t)n_tok * n_head * dim; i++) f.q[i] = (float)test_between(-1, 1);
    if (kind == RISING || kind == FALLING)
        for (int64_t i = 0; i < (int64_t)n_tok * n_head * dim; i++) f.q[i] = fabsf(f.q[i]) + 0.1f;
    if (kind == SPECIAL) {
        f.k[0] = NAN;
        f.k[(n_key / 2) * dim] = INFINITY;
        f.w[0] = -INFINITY;
        f.w[(int64_t)(n_tok - 1) * n_head] = NAN;
    }
    f.g = make_cache(gpu, type, &f);
    f.c = make_cache(cpu, type == KERN_FP8 ? KERN_F32 : type, &f); /* FP8 is the GPU's alone */
    float *dk = floats_to_gpu(f.k, n_key * dim);
    for (int64_t pos = 0; pos < n_key;) { /* in uneven calls */
        int n = test_between(1, 900);
        if (n > n_key - pos) n = (int)(n_key - pos);
        gpu->index_append(gpu, &(kern_index_append){f.g, dk + pos * dim, pos, n});
        cpu->index_append(cpu, &(kern_index_append){f.c, f.k + pos * dim, pos, n});
        pos += n;
    }
    gpu->free(gpu, dk);
    f.dq = floats_to_gpu(f.q, (int64_t)n_tok * n_head * dim);
    f.dw = floats_to_gpu(f.w, (int64_t)n_tok * n_head);
    return f;
}

static void drop(fixture *f) {
    gpu->free(gpu, f->g.keys);
    gpu->free(gpu, f->g.scale);
    cpu->free(cpu, f->c.keys);
    cpu->free(cpu, f->c.scale);
    gpu->free(gpu, f->dq);
    gpu->free(gpu, f->dw);
    free(f->k), free(f->q), free(f->w);
}

static float *scores_of(kern *k, const fixture *f, int t) {
    float *out = test_array(f->n_key);
    kern_index_scores a = {k == gpu ? f->g : f->c, f->q + (int64_t)t * f->n_head * f->dim, f->w + (int64_t)t * f->n_head,
                           f->n_head, f->n_key, out};
    if (k == cpu) {
        cpu->index_scores(cpu, &a);
        return out;
    }
    a.q = f->dq + (int64_t)t * f->n_head * f->dim;
    a.w = f->dw + (int64_t)t * f->n_head;
    a.score = poison_gpu((size_t)f->n_key * 4);
    gpu->index_scores(gpu, &a);
    free(out);
    return from_gpu(a.score, (size_t)f->n_key * 4);
}

typedef struct selection {
    int32_t *position, *count;
    float *score;
} selection;

static selection select_on(kern *k, const fixture *f, int t0, int n, int n_select, const kern_range *allow, int n_allow,
                           bool scores) {
    size_t cells = (size_t)n * (size_t)n_select * 4;
    bool on_gpu = k == gpu;
    selection s = {on_gpu ? poison_gpu(cells) : test_bytes(cells), on_gpu ? poison_gpu((size_t)n * 4) : test_bytes((size_t)n * 4),
                   NULL};
    if (scores) s.score = on_gpu ? poison_gpu(cells) : test_bytes(cells);
    int64_t q = (int64_t)t0 * f->n_head * f->dim, w = (int64_t)t0 * f->n_head;
    k->index_select(k, &(kern_index_select){.cache = on_gpu ? f->g : f->c,
                                            .q = (on_gpu ? f->dq : f->q) + q,
                                            .w = (on_gpu ? f->dw : f->w) + w,
                                            .pos0 = f->n_key - f->n_tok + t0,
                                            .n_tok = n,
                                            .n_head = f->n_head,
                                            .n_select = n_select,
                                            .allow = allow,
                                            .n_allow = n_allow,
                                            .position = s.position,
                                            .count = s.count,
                                            .score = s.score});
    if (!on_gpu) return s;
    s.position = from_gpu(s.position, cells);
    s.count = from_gpu(s.count, (size_t)n * 4);
    if (scores) s.score = from_gpu(s.score, cells);
    return s;
}

static void forget(selection *s) {
    free(s->position), free(s->count), free(s->score);
}

static void assert_same_selection(const selection *got, const selection *want, int n, int n_select) {
    for (int t = 0; t < n; t++) {
        if (got->count[t] != want->count[t])
            fail_msg("row %d: %d positions, want %d", t, got->count[t], want->count[t]);
        for (int i = 0; i < want->count[t]; i++) {
            int64_t at = (int64_t)t * n_select + i;
            if (got->position[at] != want->position[at])
                fail_msg("row %d, number %d of %d: position %d, want %d", t, i, want->count[t], got->position[at],
                         want->position[at]);
            if (want->score && memcmp(&got->score[at], &want->score[at], 4))
                fail_msg("row %d, position %d: score %.9g, want %.9g", t, got->position[at], (double)got->score[at],
                         (double)want->score[at]);
        }
    }
}

/* keys, tokens, heads, width, selected */
static const int SHAPES[][5] = {{1, 1, 1, 1, 1},          {40, 7, 3, 20, 16},     {300, 300, 4, 64, 24},
                                {1000, 33, 4, 64, 512},   {3000, 17, 64, 128, 64}, {5000, 100, 16, 128, 2048},
                                {20000, 5, 4, 64, 512},   {9000, 2, 5, 130, 100}, {140000, 3, 4, 64, 512},
                                {40000, 40, 8, 32, 300},  {60000, 1, 64, 128, 2048}, {30000, 2, 4, 64, 20000},
                                {300000, 1, 2, 64, 700}};

static void int8_is_the_cpus_to_the_bit(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++)
        for (int kind = 0; kind < KINDS; kind++) {
            const int *s = SHAPES[i];
            if (test_too_big((double)s[0] * s[1] * s[2] * s[3])) continue;
            if (test_small() && kind != MANY_TIES && kind != (int)i % KINDS) continue;
            fixture f = make_fixture((enum kind)kind, KERN_I8, s[0], s[1], s[2], s[3]);
            float *got = scores_of(gpu, &f, f.n_tok - 1), *want = scores_of(cpu, &f, f.n_tok - 1);
            assert_same_bytes(got, want, (size_t)f.n_key * 4);
            free(got), free(want);
            kern_range allow[3] = {{s[0] / 9, s[0] / 3}, {s[0] / 2, s[0] / 2 + 1}, {s[0] - s[0] / 4, INT64_MAX}};
            for (int limit = 0; limit < 3; limit++) {
                const kern_range *ranges = limit ? allow : NULL;
                int n_range = limit == 2 ? 0 : limit ? 3 : 0; /* 2: nothing allowed at all */
                bool scores = (i + (size_t)limit + (size_t)kind) % 2;
                selection a = select_on(gpu, &f, 0, f.n_tok, s[4], ranges, n_range, scores);
                selection b = select_on(cpu, &f, 0, f.n_tok, s[4], ranges, n_range, scores);
                assert_same_selection(&a, &b, f.n_tok, s[4]);
                forget(&a), forget(&b);
            }
            drop(&f);
        }
}

/* One token, some, all: the same positions. */
static void a_row_does_not_depend_on_its_company(void **state) {
    (void)state;
    fixture f = make_fixture(RANDOM, KERN_I8, test_small() ? 3000 : 30000, 70, 4, 64);
    selection all = select_on(gpu, &f, 0, f.n_tok, 512, NULL, 0, true);
    for (int t = 0; t < f.n_tok;) {
        int n = test_between(1, 30);
        if (n > f.n_tok - t) n = f.n_tok - t;
        selection part = select_on(gpu, &f, t, n, 512, NULL, 0, true);
        selection want = {all.position + (int64_t)t * 512, all.count + t, all.score + (int64_t)t * 512};
        assert_same_selection(&part, &want, n, 512);
        forget(&part);
        t += n;
    }
    forget(&all);
    drop(&f);
}

typedef struct ranked {
    float score;
    int32_t position;
} ranked;

static int by_rank(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    return (x->position > y->position) - (x->position < y->position);
}

static void fp32_is_near_and_sorted(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++) {
        const int *s = SHAPES[i];
        if (s[0] > 50000 || test_too_big((double)s[0] * s[1] * s[2] * s[3])) continue;
        fixture f = make_fixture(i % 2 ? MANY_TIES : RANDOM, KERN_F32, s[0], s[1], s[2], s[3]);
        selection a = select_on(gpu, &f, 0, f.n_tok, s[4], NULL, 0, true);
        for (int t = 0; t < f.n_tok; t += 1 + f.n_tok / 3) {
            float *got = scores_of(gpu, &f, t), *want = scores_of(cpu, &f, t);
            assert_near(got, want, f.n_key, 1e-4 * s[2], "scores");
            int visible = (int)(f.n_key - f.n_tok + t + 1), k = visible < s[4] ? visible : s[4];
            assert_int_equal(a.count[t], k);
            ranked *r = test_bytes((size_t)visible * sizeof *r);
            for (int p = 0; p < visible; p++) r[p] = (ranked){got[p], p};
            qsort(r, (size_t)visible, sizeof *r, by_rank);
            char *in = calloc((size_t)visible, 1);
            for (int j = 0; j < k; j++) in[r[j].position] = 1;
            int at = 0;
            for (int p = 0; p < visible; p++) {
                if (!in[p]) continue;
                assert_int_equal(a.position[(int64_t)t * s[4] + at], p);
                assert_true(a.score[(int64_t)t * s[4] + at] == got[p]);
                at++;
            }
            free(got), free(want), free(r), free(in);
        }
        forget(&a);
        drop(&f);
    }
}

/* The scores that FP8 queries and keys give, in double. */
static void coded_scores(const fixture *f, int t, double *score, double *size) {
    float *q = test_array((int64_t)f->n_head * f->dim), *k = test_array(f->dim), *w = test_array(f->n_head);
    for (int h = 0; h < f->n_head; h++) {
        int64_t row = (int64_t)t * f->n_head + h;
        w[h] = coded(f->q + row * f->dim, q + h * f->dim, f->dim) * f->w[row];
    }
    *size = 0;
    for (int64_t s = 0; s < f->n_key; s++) {
        double factor = (double)coded(f->k + s * f->dim, k, f->dim), sum = 0, all = 0;
        for (int h = 0; h < f->n_head; h++) {
            double dot = 0;
            for (int d = 0; d < f->dim; d++) dot += (double)q[h * f->dim + d] * (double)k[d];
            sum += (double)w[h] * fmax(dot, 0);
            all += fabs((double)w[h] * dot);
        }
        score[s] = sum * factor;
        *size = fmax(*size, all * factor);
    }
    free(q), free(k), free(w);
}

/* Where a GPU holds V3.2's index keys in FP8: scores near those in double, the best of the GPU's own scores exactly,
 * and the same for a row alone and among others. */
static void fp8_is_near_and_sorted(void **state) {
    (void)state;
    static const int shapes[][3] = {{3, 3, 2}, {70, 4, 16}, {700, 40, 64}, {5000, 3, 2048}, {20000, 70, 2048}};
    if (!gpu->index_type || gpu->index_type(gpu, 64, 128) != KERN_FP8) {
        print_message("this device has int8 index keys only: skipped\n");
        skip();
    }
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int *s = shapes[i], n_select = s[2];
        if (test_too_big((double)s[0] * s[1] * 64 * 128)) continue;
        fixture f = make_fixture(i % 2 ? MANY_TIES : RANDOM, KERN_FP8, s[0], s[1], 64, 128);
        kern_range allow[2] = {{s[0] / 9, s[0] / 3}, {s[0] / 2, INT64_MAX}};
        for (int limit = 0; limit < 2; limit++) {
            selection a = select_on(gpu, &f, 0, f.n_tok, n_select, limit ? allow : NULL, limit ? 2 : 0, true);
            for (int t = 0; t < f.n_tok; t += 1 + f.n_tok / 3) {
                float *got = scores_of(gpu, &f, t);
                double *want = test_bytes((size_t)f.n_key * sizeof *want), size;
                coded_scores(&f, t, want, &size);
                for (int64_t p = 0; p < f.n_key; p++)
                    if (!(fabs((double)got[p] - want[p]) <= 1e-4 * size))
                        fail_msg("token %d, key %lld: %g, want %g", t, (long long)p, (double)got[p], want[p]);
                int visible = (int)(f.n_key - f.n_tok + t + 1), n = 0;
                ranked *r = test_bytes((size_t)visible * sizeof *r);
                for (int p = 0; p < visible; p++)
                    if (!limit || (p >= allow[0].start && p < allow[0].end) || p >= allow[1].start)
                        r[n++] = (ranked){got[p], p};
                qsort(r, (size_t)n, sizeof *r, by_rank);
                if (n > n_select) n = n_select;
                assert_int_equal(a.count[t], n);
                char *in = calloc((size_t)visible, 1);
                for (int j = 0; j < n; j++) in[r[j].position] = 1;
                for (int j = 0; j < n; j++) {
                    int64_t at = (int64_t)t * n_select + j;
                    assert_true(in[a.position[at]] && (!j || a.position[at] > a.position[at - 1]));
                    assert_true(a.score[at] == got[a.position[at]]);
                }
                selection alone = select_on(gpu, &f, t, 1, n_select, limit ? allow : NULL, limit ? 2 : 0, true);
                selection part = {a.position + (int64_t)t * n_select, a.count + t, a.score + (int64_t)t * n_select};
                assert_same_selection(&alone, &part, 1, n_select);
                forget(&alone);
                free(got), free(want), free(r), free(in);
            }
            forget(&a);
        }
        drop(&f);
    }
}

int main(void) {
    int code = test_cuda_begin();
    if (code) return code;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(int8_is_the_cpus_to_the_bit),
        cmocka_unit_test(a_row_does_not_depend_on_its_company),
        cmocka_unit_test(fp32_is_near_and_sorted),
        cmocka_unit_test(fp8_is_near_and_sorted),
    };
    code = cmocka_run_group_tests(tests, NULL, NULL);
    test_cuda_end();
    return code;
}
