/* test_kernels_mla.c - sparse and dense latent attention against double precision, and row by row to the bit.
 */
#include "tests/test_kernels.h"

typedef struct fixture {
    kern_latents cache;
    float *latent, *pe; /* [n_key, kv_lora], [n_key, rope] */
    float *q_latent, *q_pe;
    int64_t n_key, tok_stride, head_stride;
    int n_tok, n_head;
} fixture;

static fixture inputs(int64_t n_key, int n_tok, int n_head, int kv_lora, int rope) {
    fixture f = {.n_key = n_key, .n_tok = n_tok, .n_head = n_head, .head_stride = rope + 3};
    f.tok_stride = f.head_stride * n_head + 1;
    f.cache.kv_lora = kv_lora;
    f.cache.rope = rope;
    f.latent = test_values(n_key * kv_lora);
    f.pe = test_values(n_key * (rope + 2));
    f.q_latent = test_values((int64_t)n_tok * n_head * kv_lora);
    f.q_pe = test_values((n_tok - 1) * f.tok_stride + (n_head - 1) * f.head_stride + rope);
    return f;
}

static void fill_cache(kern *k, fixture *f, kern_type type) {
    f->cache.type = type;
    f->cache.rows =
        test_bytes((size_t)f->n_key * (size_t)(f->cache.kv_lora + f->cache.rope) * kern_type_bytes(type));
    for (int64_t pos = 0; pos < f->n_key;) {
        int64_t n = 1 + test_random() % 90;
        if (n > f->n_key - pos) n = f->n_key - pos;
        kern_latent_append a = {f->cache,
                                f->latent + pos * f->cache.kv_lora,
                                f->pe + pos * (f->cache.rope + 2),
                                f->cache.kv_lora,
                                f->cache.rope + 2,
                                pos,
                                (int)n};
        k->latent_append(k, &a);
        pos += n;
    }
}

static void drop(fixture *f) {
    free(f->latent), free(f->pe), free(f->q_latent), free(f->q_pe);
}

/* As the arithmetic sees a value: rounded to bf16 where the cache is bf16. */
static double seen(const fixture *f, float x) {
    return f->cache.type == KERN_BF16 ? (double)test_bf16(x) : (double)x;
}

/* One token and head over the given positions, in double precision; p[n], out[kv_lora]. */
static void reference(const fixture *f, int t, int h, const int32_t *position, int n, double scale, double *p,
                      double *out) {
    const kern_latents *c = &f->cache;
    double most = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++) {
        double dot = 0;
        for (int d = 0; d < c->kv_lora; d++)
            dot += seen(f, f->q_latent[((int64_t)t * f->n_head + h) * c->kv_lora + d]) *
                   seen(f, f->latent[(int64_t)position[i] * c->kv_lora + d]);
        for (int d = 0; d < c->rope; d++)
            dot += seen(f, f->q_pe[t * f->tok_stride + h * f->head_stride + d]) *
                   seen(f, f->pe[(int64_t)position[i] * (c->rope + 2) + d]);
        p[i] = dot * scale;
        if (p[i] > most) most = p[i];
    }
    for (int i = 0; i < n; i++) sum += p[i] = exp(p[i] - most);
    memset(out, 0, (size_t)c->kv_lora * sizeof *out);
    for (int i = 0; i < n; i++) {
        p[i] /= sum;
        for (int d = 0; d < c->kv_lora; d++)
            out[d] += p[i] * seen(f, f->latent[(int64_t)position[i] * c->kv_lora + d]);
    }
}

/* Poisoned outputs of exact size for a call over tokens [t0, t0 + n). */
static kern_sparse_mla sparse_call(const fixture *f, int t0, int n, const int32_t *position,
                                   const int32_t *count, int n_select) {
    int64_t row = (int64_t)f->n_head * f->cache.kv_lora;
    return (kern_sparse_mla){.cache = f->cache,
                             .q_latent = f->q_latent + t0 * row,
                             .q_pe = f->q_pe + t0 * f->tok_stride,
                             .q_pe_tok_stride = f->tok_stride,
                             .q_pe_head_stride = f->head_stride,
                             .position = position + (int64_t)t0 * n_select,
                             .count = count + t0,
                             .n_tok = n,
                             .n_head = f->n_head,
                             .n_select = n_select,
                             .scale = 0.11f,
                             .out = test_array(n * row),
                             .mass = test_array((int64_t)n * n_select)};
}

/* keys, tokens, heads, kv_lora, rope, n_select */
static const int SPARSE[][6] = {
    {1, 1, 1, 16, 2, 3},        {40, 7, 3, 24, 16, 63},    {300, 5, 8, 128, 32, 129},
    {300, 3, 16, 32, 16, 64},   {200, 1, 40, 64, 64, 130}, {90, 2, 4, 30, 10, 7},
    {3000, 4, 8, 128, 32, 512}, {64, 1, 17, 160, 32, 16},  {130, 2, 128, 48, 16, 100}};

static void sparse_is_right(void **state) {
    FOR_BACKENDS(name) {
        for (size_t i = 0; i < sizeof SPARSE / sizeof *SPARSE * 2; i++) {
            const int *s = SPARSE[i / 2];
            int n_select = s[5];
            fixture f = inputs(s[0], s[1], s[2], s[3], s[4]);
            kern *k = test_open(name, 2);
            fill_cache(k, &f, i % 2 ? KERN_BF16 : KERN_F32);
            int32_t *position = (int32_t *)test_bytes((size_t)f.n_tok * (size_t)n_select * 4),
                    *count = (int32_t *)test_bytes((size_t)f.n_tok * 4);
            for (int t = 0; t < f.n_tok; t++) { /* ascending; beyond count: poison */
                int want = n_select < s[0] ? n_select : s[0];
                if (t % 3 == 1) want /= 2;
                count[t] = 0;
                for (int p = 0; p < s[0] && count[t] < want; p++)
                    if (s[0] - p <= want - count[t] || test_random() % 2)
                        position[t * n_select + count[t]++] = p;
                if (t == 4) count[t] = 0;
            }
            kern_sparse_mla a = sparse_call(&f, 0, f.n_tok, position, count, n_select);
            k->sparse_mla(k, &a);
            double *p = (double *)test_bytes((size_t)n_select * 8),
                   *mass = (double *)test_bytes((size_t)n_select * 8), out[160];
            for (int t = 0; t < f.n_tok; t++) {
                memset(mass, 0, (size_t)n_select * 8);
                for (int h = 0; h < f.n_head; h++) {
                    reference(&f, t, h, position + t * n_select, count[t], (double)0.11f, p, out);
                    for (int d = 0; d < f.cache.kv_lora; d++)
                        assert_close(a.out[((int64_t)t * f.n_head + h) * f.cache.kv_lora + d],
                                     count[t] ? out[d] : 0, 2e-5);
                    for (int j = 0; j < count[t]; j++) mass[j] += p[j] / f.n_head;
                }
                for (int j = 0; j < count[t]; j++) assert_close(a.mass[t * n_select + j], mass[j], 2e-6);
            }
            /* each token alone, with other thread counts, without mass: the same bits */
            for (int threads = 1; threads <= 3; threads++) {
                kern *other = test_open(name, threads);
                for (int t = 0; t < f.n_tok; t++) {
                    kern_sparse_mla one = sparse_call(&f, t, 1, position, count, n_select);
                    float *given = one.mass;
                    if (threads == 2) one.mass = NULL;
                    other->sparse_mla(other, &one);
                    size_t row = (size_t)f.n_head * (size_t)f.cache.kv_lora;
                    assert_same_bytes(one.out, a.out + t * row, row * 4);
                    if (one.mass) assert_same_bytes(one.mass, a.mass + t * n_select, (size_t)count[t] * 4);
                    free(one.out), free(given);
                }
                other->close(other);
            }
            free(position), free(count), free(p), free(mass), free(a.out), free(a.mass), free(f.cache.rows);
            drop(&f);
            k->close(k);
        }
    }
}

static void dense_is_right(void **state) {
    /* keys, tokens, heads, kv_lora, rope; the tokens are the last ones */
    const int shapes[][5] = {{1, 1, 1, 16, 2},     {64, 64, 3, 24, 16}, {129, 129, 8, 32, 16},
                             {300, 7, 8, 128, 32}, {200, 1, 4, 64, 32}, {130, 33, 16, 30, 10},
                             {100, 2, 130, 16, 8}};
    FOR_BACKENDS(name) {
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes * 4; i++) {
            const int *s = shapes[i / 4];
            fixture f = inputs(s[0], s[1], s[2], s[3], s[4]);
            kern *k = test_open(name, 2);
            fill_cache(k, &f, i % 2 ? KERN_BF16 : KERN_F32);
            kern_range ranges[2] = {{s[0] / 9, s[0] / 3}, {s[0] / 2, s[0]}};
            bool limit = i / 2 % 2;
            int64_t row = (int64_t)f.n_head * f.cache.kv_lora;
            kern_dense_mla a = {.cache = f.cache,
                                .q_latent = f.q_latent,
                                .q_pe = f.q_pe,
                                .q_pe_tok_stride = f.tok_stride,
                                .q_pe_head_stride = f.head_stride,
                                .pos0 = f.n_key - f.n_tok,
                                .n_tok = f.n_tok,
                                .n_head = f.n_head,
                                .allow = limit ? ranges : NULL,
                                .n_allow = limit ? 2 : 0,
                                .scale = 0.11f,
                                .out = test_array(f.n_tok * row)};
            k->dense_mla(k, &a);
            double p[300], out[160];
            int32_t position[300];
            for (int t = 0; t < f.n_tok; t++) {
                int n = 0;
                for (int q = 0; q <= a.pos0 + t; q++)
                    if (!limit || (q >= ranges[0].start && q < ranges[0].end) || q >= ranges[1].start)
                        position[n++] = q;
                for (int h = 0; h < f.n_head; h++) {
                    if (n)
                        reference(&f, t, h, position, n, (double)0.11f, p, out);
                    else
                        memset(out, 0, sizeof out);
                    for (int d = 0; d < f.cache.kv_lora; d++)
                        assert_close(a.out[t * row + h * f.cache.kv_lora + d], out[d], 2e-5);
                }
            }
            for (int threads = 1; threads <= 3; threads++) {
                kern *other = test_open(name, threads);
                for (int t = 0; t < f.n_tok;) {
                    int n = threads == 1 ? 1 : 1 + (int)(test_random() % 40);
                    if (n > f.n_tok - t) n = f.n_tok - t;
                    kern_dense_mla part = a;
                    part.q_latent += t * row, part.q_pe += t * f.tok_stride, part.pos0 += t, part.n_tok = n;
                    part.out = test_array(n * row);
                    other->dense_mla(other, &part);
                    assert_same_bytes(part.out, a.out + t * row, (size_t)(n * row) * 4);
                    free(part.out);
                    t += n;
                }
                other->close(other);
            }
            free(a.out), free(f.cache.rows);
            drop(&f);
            k->close(k);
        }
    }
}

static void latent_rows_are_bf16_to_the_bit(void **state) {
    FOR_BACKENDS(name) {
        kern *k = test_open(name, 1);
        fixture f = inputs(77, 1, 1, 37, 10);
        f.latent[5] = NAN, f.latent[6] = INFINITY, f.latent[7] = 3.4e38f, f.latent[8] = 1e-40f;
        fill_cache(k, &f, KERN_BF16);
        const uint16_t *rows = (const uint16_t *)f.cache.rows;
        for (int s = 0; s < 77; s++)
            for (int d = 0; d < 47; d++)
                assert_int_equal(rows[s * 47 + d],
                                 ph_f32_to_bf16(d < 37 ? f.latent[s * 37 + d] : f.pe[s * 12 + d - 37]));
        free(f.cache.rows);
        drop(&f);
        k->close(k);
    }
}

int main(void) {
    test_seed_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sparse_is_right),
        cmocka_unit_test(dense_is_right),
        cmocka_unit_test(latent_rows_are_bf16_to_the_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
