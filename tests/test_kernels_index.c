/* test_kernels_index.c - the indexer: scores against double precision, the choice against a full sort of the
 * backend's own scores with the tie rule, and int8 selections equal to the bit on every backend. */
#include "tests/test_kernels.h"

typedef struct fixture {
    kern_index_keys cache;
    float *k, *q, *w; /* [n_key, dim], [n_tok, n_head, dim], [n_tok, n_head] */
    int64_t n_key;
    int n_tok, n_head, dim;
} fixture;

enum { RANDOM, EQUAL, RISING, FALLING, ZEROS, NAN_QUERY, NEGATIVE, N_KIND };

static fixture inputs(int kind, int64_t n_key, int n_tok, int n_head, int dim) {
    fixture f = {.n_key = n_key, .n_tok = n_tok, .n_head = n_head, .dim = dim};
    f.k = test_values(n_key * dim);
    f.q = test_values((int64_t)n_tok * n_head * dim);
    f.w = test_values((int64_t)n_tok * n_head);
    for (int64_t s = 0; s < n_key; s++)
        for (int d = 0; d < dim; d++) {
            float *v = &f.k[s * dim + d];
            if (kind == EQUAL) *v = (float)d;
            if (kind == RISING) *v = 1.0f + (float)s * 0.01f;
            if (kind == FALLING) *v = 1.0f + (float)(n_key - s) * 0.01f;
        }
    for (int64_t i = 0; i < (int64_t)n_tok * n_head * dim; i++) {
        if (kind == RISING || kind == FALLING) f.q[i] = 0.5f;
        if (kind == NAN_QUERY && i / dim % 3 == 0) f.q[i] = NAN;
    }
    for (int i = 0; i < n_tok * n_head; i++) {
        if (kind == RISING || kind == FALLING) f.w[i] = 0.5f;
        if (kind == ZEROS) f.w[i] = i % 2 ? 0.0f : -0.0f;
        if (kind == NEGATIVE) f.w[i] = -fabsf(f.w[i]);
    }
    return f;
}

static void fill_cache(kern *k, fixture *f, kern_type type) {
    f->cache = (kern_index_keys){.type = type, .dim = f->dim};
    size_t bytes = k->index_key_bytes(type, f->dim, f->n_key);
    f->cache.keys = test_bytes(bytes);
    f->cache.scale = type == KERN_I8 ? test_array(f->n_key) : NULL;
    for (int64_t pos = 0; pos < f->n_key;) { /* in uneven pieces */
        int64_t n = 1 + test_random() % 70;
        if (n > f->n_key - pos) n = f->n_key - pos;
        kern_index_append a = {f->cache, f->k + pos * f->dim, pos, (int)n};
        k->index_append(k, &a);
        pos += n;
    }
}

static void drop_cache(fixture *f) {
    free(f->cache.keys);
    free(f->cache.scale);
}

static void drop(fixture *f) {
    free(f->k), free(f->q), free(f->w);
}

static void scores_are_right(void **state) {
    const int shapes[][3] = {{1, 1, 16}, {63, 3, 24},  {129, 4, 64}, {200, 8, 128},
                             {7, 5, 32}, {65, 1, 160}, {33, 2, 30}};
    FOR_BACKENDS(name) {
        kern *k = test_open(name, 2);
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes * 2; i++) {
            fixture f = inputs(RANDOM, shapes[i / 2][0], 1, shapes[i / 2][1], shapes[i / 2][2]);
            kern_type type = i % 2 ? KERN_I8 : KERN_F32;
            fill_cache(k, &f, type);
            float *score = test_array(f.n_key);
            kern_index_scores a = {f.cache, f.q, f.w, f.n_head, f.n_key, score};
            k->index_scores(k, &a);
            int8_t q8[160], k8[160];
            for (int64_t s = 0; s < f.n_key; s++) {
                double want = 0, size = 1e-3;
                float ks = type == KERN_I8 ? ph_quantise_i8(f.k + s * f.dim, k8, (size_t)f.dim) : 1.0f;
                if (type == KERN_I8) assert_true(f.cache.scale[s] == ks);
                for (int h = 0; h < f.n_head; h++) {
                    double dot = 0, qs = 1;
                    if (type == KERN_I8) {
                        qs = ph_quantise_i8(f.q + h * f.dim, q8, (size_t)f.dim);
                        for (int d = 0; d < f.dim; d++) dot += q8[d] * k8[d];
                    } else {
                        for (int d = 0; d < f.dim; d++)
                            dot += (double)f.q[h * f.dim + d] * f.k[s * f.dim + d];
                    }
                    want += f.w[h] * qs * ks * (dot > 0 ? dot : 0);
                    size += fabs(f.w[h] * qs * ks * dot) + f.dim * 0.1;
                }
                assert_close(score[s], want, 1e-6 * size);
            }
            free(score);
            drop_cache(&f);
            drop(&f);
        }
        k->close(k);
    }
}

typedef struct scored {
    float score;
    int32_t position;
} scored;

static int by_score(const void *a, const void *b) {
    const scored *x = (const scored *)a, *y = (const scored *)b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->position < y->position ? -1 : 1;
}

static int by_position(const void *a, const void *b) {
    return ((const scored *)a)->position < ((const scored *)b)->position ? -1 : 1;
}

static bool is_allowed(const kern_range *allow, int n_allow, int64_t p) {
    if (!allow) return true;
    for (int i = 0; i < n_allow; i++)
        if (p >= allow[i].start && p < allow[i].end) return true;
    return false;
}

/* Checks every row of a selection against a full sort of the same backend's scores. */
static void check_selection(kern *k, fixture *f, const kern_index_select *a) {
    float *score = test_array(f->n_key);
    scored *list = (scored *)test_bytes((size_t)f->n_key * sizeof *list);
    for (int t = 0; t < a->n_tok; t++) {
        int64_t visible = a->pos0 + t + 1;
        kern_index_scores sc = {f->cache,
                                a->q + (int64_t)t * f->n_head * f->dim,
                                a->w + (int64_t)t * f->n_head,
                                f->n_head,
                                visible,
                                score};
        k->index_scores(k, &sc);
        int n = 0;
        for (int64_t p = 0; p < visible; p++)
            if (is_allowed(a->allow, a->n_allow, p))
                list[n++] = (scored){isnan(score[p]) ? -INFINITY : score[p], (int32_t)p};
        qsort(list, (size_t)n, sizeof *list, by_score);
        if (n > a->n_select) n = a->n_select;
        qsort(list, (size_t)n, sizeof *list, by_position);
        assert_int_equal(a->count[t], n);
        for (int i = 0; i < n; i++) {
            assert_int_equal(a->position[(int64_t)t * a->n_select + i], list[i].position);
            if (a->score) assert_true(a->score[(int64_t)t * a->n_select + i] == list[i].score);
        }
    }
    free(score), free(list);
}

/* One selection of the fixture's last n_tok tokens. Outputs are poisoned and exactly sized. */
static kern_index_select run(kern *k, fixture *f, int n_select, const kern_range *allow, int n_allow,
                             bool want_score) {
    kern_index_select a = {.cache = f->cache,
                           .q = f->q,
                           .w = f->w,
                           .pos0 = f->n_key - f->n_tok,
                           .n_tok = f->n_tok,
                           .n_head = f->n_head,
                           .n_select = n_select,
                           .allow = allow,
                           .n_allow = n_allow};
    a.position = (int32_t *)test_bytes((size_t)f->n_tok * (size_t)n_select * 4);
    a.count = (int32_t *)test_bytes((size_t)f->n_tok * 4);
    a.score = want_score ? test_array((int64_t)f->n_tok * n_select) : NULL;
    k->index_select(k, &a);
    return a;
}

static void forget(kern_index_select *a) {
    free(a->position), free(a->count), free(a->score);
}

static void selection_is_the_sorted_one(void **state) {
    const int shapes[][4] = {/* keys, tokens, heads, dim */
                             {1, 1, 1, 16},    {7, 7, 3, 24},     {63, 7, 4, 32},
                             {129, 63, 8, 64}, {700, 129, 4, 16}, {3000, 17, 4, 64},
                             {9000, 1, 4, 64}, {9001, 3, 1, 32},  {5000, 5, 3, 128}};
    FOR_BACKENDS(name) {
        kern *k = test_open(name, 2);
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            for (int kind = 0; kind < N_KIND; kind++) {
                fixture f = inputs(kind, shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3]);
                for (int type = 0; type < 2; type++) {
                    fill_cache(k, &f, type ? KERN_I8 : KERN_F32);
                    const int picks[] = {1, 5, 64, 512};
                    int n_select = picks[(kind + (int)i + type) % 4];
                    kern_index_select a = run(k, &f, n_select, NULL, 0, kind % 2);
                    check_selection(k, &f, &a);
                    forget(&a);
                    kern_range allow[3] = {{f.n_key / 7, f.n_key / 5},
                                           {f.n_key / 5 + 1, f.n_key / 2},
                                           {f.n_key - 1, f.n_key + 99}};
                    a = run(k, &f, n_select, allow, 3, kind % 2 == 0);
                    check_selection(k, &f, &a);
                    forget(&a);
                    drop_cache(&f);
                }
                drop(&f);
            }
        }
        k->close(k);
    }
}

static void nothing_allowed_selects_nothing(void **state) {
    FOR_BACKENDS(name) {
        kern *k = test_open(name, 2);
        fixture f = inputs(RANDOM, 300, 9, 4, 32);
        fill_cache(k, &f, KERN_I8);
        kern_range none = {400, 500};
        for (int i = 0; i < 4; i++) {
            kern_index_select a = run(k, &f, 8, &none, i / 2, i % 2);
            for (int t = 0; t < f.n_tok; t++) assert_int_equal(a.count[t], 0);
            forget(&a);
        }
        drop_cache(&f);
        drop(&f);
        k->close(k);
    }
}

/* Int8 selections and scores: the same bits for every backend, thread count and cut of the tokens into calls;
 * and the cache bytes are the same. */
static void int8_is_the_same_everywhere(void **state) {
    const int shapes[][5] = {{6000, 40, 4, 64, 512},
                             {9000, 2, 4, 64, 512},
                             {5000, 33, 3, 24, 100},
                             {4500, 1, 16, 128, 2048},
                             {500, 500, 1, 32, 64}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        fixture f = inputs(i == 1 ? RISING : RANDOM, shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3]);
        int n_select = shapes[i][4];
        kern_index_select first = {0};
        uint8_t *first_keys = NULL;
        size_t key_bytes = 0, rows = (size_t)f.n_tok * (size_t)n_select;
        FOR_BACKENDS(name) {
            for (int threads = 1; threads <= 3; threads++) {
                kern *k = test_open(name, threads);
                fill_cache(k, &f, KERN_I8);
                kern_index_select a = run(k, &f, n_select, NULL, 0, true);
                if (!first.position) {
                    first = a;
                    key_bytes = (size_t)(f.n_key / 16) * 16 * (size_t)f.dim; /* full blocks: all written */
                    first_keys = (uint8_t *)test_bytes(key_bytes);
                    memcpy(first_keys, f.cache.keys, key_bytes);
                } else {
                    assert_same_bytes(a.count, first.count, (size_t)f.n_tok * 4);
                    assert_same_bytes(a.position, first.position,
                                      rows * 4); /* all rows see more than n_select, or are poisoned alike */
                    assert_same_bytes(a.score, first.score, rows * 4);
                    assert_same_bytes(f.cache.keys, first_keys, key_bytes);
                    forget(&a);
                }
                /* the tokens one call at a time, in uneven calls */
                for (int t = 0; t < f.n_tok;) {
                    int n = threads == 1 ? 1 : 1 + (int)(test_random() % 20);
                    if (n > f.n_tok - t) n = f.n_tok - t;
                    kern_index_select part = {.cache = f.cache,
                                              .q = f.q + (int64_t)t * f.n_head * f.dim,
                                              .w = f.w + (int64_t)t * f.n_head,
                                              .pos0 = f.n_key - f.n_tok + t,
                                              .n_tok = n,
                                              .n_head = f.n_head,
                                              .n_select = n_select};
                    part.position = (int32_t *)test_bytes((size_t)n * (size_t)n_select * 4);
                    part.count = (int32_t *)test_bytes((size_t)n * 4);
                    k->index_select(k, &part);
                    assert_same_bytes(part.count, first.count + t, (size_t)n * 4);
                    for (int r = 0; r < n; r++)
                        assert_same_bytes(part.position + r * n_select, first.position + (t + r) * n_select,
                                          (size_t)part.count[r] * 4);
                    free(part.position), free(part.count);
                    t += n;
                }
                drop_cache(&f);
                k->close(k);
            }
        }
        forget(&first);
        free(first_keys);
        drop(&f);
    }
}

/* A key written again, in the middle of a full block. */
static void append_replaces(void **state) {
    FOR_BACKENDS(name) {
        kern *k = test_open(name, 1);
        fixture f = inputs(RANDOM, 50, 1, 2, 20);
        fill_cache(k, &f, KERN_I8);
        float *before = test_array(50), *after = test_array(50), *zero = test_values(20);
        memset(zero, 0, 20 * 4);
        kern_index_scores s = {f.cache, f.q, f.w, 2, 50, before};
        k->index_scores(k, &s);
        kern_index_append a = {f.cache, zero, 21, 1};
        k->index_append(k, &a);
        s.score = after;
        k->index_scores(k, &s);
        for (int i = 0; i < 50; i++) assert_true(after[i] == (i == 21 ? 0.0f : before[i]));
        free(before), free(after), free(zero);
        drop_cache(&f);
        drop(&f);
        k->close(k);
    }
}

int main(void) {
    test_seed_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_are_right),
        cmocka_unit_test(selection_is_the_sorted_one),
        cmocka_unit_test(nothing_allowed_selects_nothing),
        cmocka_unit_test(int8_is_the_same_everywhere),
        cmocka_unit_test(append_replaces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
