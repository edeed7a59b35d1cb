/* test_cuda_mla.c - sparse and dense latent attention and the latent cache on the GPU against the CPU, and row by row to
 * the bit. */
#include "tests/test_cuda.h"

typedef struct fixture {
    kern_latents g, c;
    float *q_latent, *q_pe, *dq_latent, *dq_pe;
    int64_t n_key, tok_stride, head_stride;
    int n_tok, n_head;
} fixture;

/* FP8 rows say what the coded latents are, and bf16. */
static void check_fp8_rows(const fixture *f, const float *latent, const float *pe) {
    size_t bytes = (size_t)f->n_key * kern_latent_bytes(&f->g);
    uint8_t *rows = test_bytes(bytes);
    gpu->copy_out(gpu, rows, f->g.rows, bytes);
    for (int64_t s = 0; s < f->n_key; s++) {
        const uint8_t *row = rows + (size_t)s * kern_latent_bytes(&f->g);
        for (int d = 0; d < 512; d++) {
            float factor;
            memcpy(&factor, row + 512 + d / 128 * 4, 4);
            if (ph_fp8_to_f32(row[d]) * factor != latent[s * 512 + d])
                fail_msg("latent %lld, element %d: %g, want %g", (long long)s, d, (double)(ph_fp8_to_f32(row[d]) * factor),
                         (double)latent[s * 512 + d]);
        }
        for (int d = 0; d < 64; d++) {
            uint16_t got, want = ph_f32_to_bf16(pe[s * 66 + d]);
            memcpy(&got, row + 528 + d * 2, 2);
            assert_int_equal(got, want);
        }
    }
    free(rows);
}

/* With FP8 the CPU has what the codes say, in bf16, which holds it exactly. */
static fixture make_fixture(kern_type type, int64_t n_key, int n_tok, int n_head, int kv_lora, int rope) {
    fixture f = {.n_key = n_key, .n_tok = n_tok, .n_head = n_head, .head_stride = rope + 3};
    f.tok_stride = f.head_stride * n_head + 1;
    f.g = f.c = (kern_latents){.type = type, .kv_lora = kv_lora, .rope = rope};
    if (type == KERN_FP8) f.c.type = KERN_BF16;
    size_t bytes = (size_t)n_key * kern_latent_bytes(&f.c);
    f.g.rows = poison_gpu((size_t)n_key * kern_latent_bytes(&f.g));
    f.c.rows = test_bytes(bytes);
    float *latent = test_values(n_key * kv_lora), *pe = test_values(n_key * (rope + 2));
    float *dl = floats_to_gpu(latent, n_key * kv_lora), *dp = floats_to_gpu(pe, n_key * (rope + 2));
    for (int64_t i = 0; type == KERN_FP8 && i < n_key * kv_lora; i += 128) {
        float codes[128], factor = coded(latent + i, codes, 128);
        for (int d = 0; d < 128; d++) latent[i + d] = codes[d] * factor;
    }
    for (int64_t pos = 0; pos < n_key;) {
        int n = test_between(1, 900);
        if (n > n_key - pos) n = (int)(n_key - pos);
        kern_latent_append a = {f.g, dl + pos * kv_lora, dp + pos * (rope + 2), kv_lora, rope + 2, pos, n};
        gpu->latent_append(gpu, &a);
        a.cache = f.c, a.latent = latent + pos * kv_lora, a.k_pe = pe + pos * (rope + 2);
        cpu->latent_append(cpu, &a);
        pos += n;
    }
    gpu->free(gpu, dl);
    gpu->free(gpu, dp);
    if (type == KERN_FP8) {
        check_fp8_rows(&f, latent, pe);
    } else {
        void *rows = test_bytes(bytes);
        gpu->copy_out(gpu, rows, f.g.rows, bytes);
        assert_same_bytes(rows, f.c.rows, bytes);
        free(rows);
    }
    free(latent), free(pe);
    int64_t pe_size = n_tok * f.tok_stride;
    f.q_latent = test_values((int64_t)n_tok * n_head * kv_lora);
    f.q_pe = test_values(pe_size);
    f.dq_latent = floats_to_gpu(f.q_latent, (int64_t)n_tok * n_head * kv_lora);
    f.dq_pe = floats_to_gpu(f.q_pe, pe_size);
    return f;
}

static void drop(fixture *f) {
    gpu->free(gpu, f->g.rows);
    gpu->free(gpu, f->dq_latent);
    gpu->free(gpu, f->dq_pe);
    free(f->c.rows), free(f->q_latent), free(f->q_pe);
}

/* Probabilities are rounded to bf16 before they meet a bf16 cache's values: 2^-9 of the sum. */
static double tolerance_of(kern_type type) {
    return type == KERN_F32 ? 3e-5 : 5e-3;
}

/* keys, tokens, heads, kv_lora, rope, n_select */
static const int SPARSE[][6] = {{1, 1, 1, 16, 2, 3},          {40, 7, 3, 24, 16, 63},      {300, 5, 8, 128, 32, 129},
                                {300, 3, 16, 32, 16, 64},     {200, 1, 40, 64, 64, 130},   {90, 2, 4, 30, 10, 7},
                                {3000, 400, 8, 128, 32, 512}, {64, 1, 17, 160, 32, 16},    {130, 2, 128, 48, 16, 100},
                                {5000, 3, 128, 512, 64, 2048}, {2000, 9, 20, 256, 64, 700}, {700, 5, 6, 520, 24, 300},
                                {300, 6, 64, 512, 64, 130},  {300, 6, 64, 512, 64, 130}, {2100, 40, 128, 512, 64, 2048}};

static kern_sparse_mla sparse_call(const fixture *f, int t0, int n, const int32_t *position, const int32_t *count,
                                   int n_select, bool session, bool on_gpu) {
    int64_t row = (int64_t)f->n_head * f->g.kv_lora;
    size_t out = (size_t)(n * row) * 4, mass = (size_t)n * (size_t)n_select * 4;
    return (kern_sparse_mla){.cache = on_gpu ? f->g : f->c,
                             .q_latent = (on_gpu ? f->dq_latent : f->q_latent) + t0 * row,
                             .q_pe = (on_gpu ? f->dq_pe : f->q_pe) + t0 * f->tok_stride,
                             .q_pe_tok_stride = f->tok_stride,
                             .q_pe_head_stride = f->head_stride,
                             .position = position + (int64_t)t0 * n_select,
                             .count = count + t0,
                             .n_tok = n,
                             .n_head = f->n_head,
                             .n_select = n_select,
                             .scale = 0.11f,
                             .session = session,
                             .out = on_gpu ? poison_gpu(out) : test_bytes(out),
                             .mass = on_gpu ? poison_gpu(mass) : test_bytes(mass)};
}

static void sparse_is_right(void **state) {
    (void)state;
    static const kern_type types[] = {KERN_F32, KERN_BF16, KERN_FP8};
    for (size_t i = 0; i < sizeof SPARSE / sizeof *SPARSE * 3; i++) {
        const int *s = SPARSE[i / 3];
        kern_type type = types[i % 3];
        if (type == KERN_FP8 && !(gpu->fp8_latents && gpu->fp8_latents(gpu, s[2], s[3], s[4]))) continue;
        bool session = i / 3 % 2; /* V3.2's shape has a form for each */
        int n_select = s[5];
        if (test_too_big((double)s[1] * s[2] * (s[3] + s[4]) * n_select)) continue;
        fixture f = make_fixture(type, s[0], s[1], s[2], s[3], s[4]);
        size_t cells = (size_t)f.n_tok * (size_t)n_select;
        int32_t *position = test_bytes(cells * 4), *count = test_bytes((size_t)f.n_tok * 4);
        for (int t = 0; t < f.n_tok; t++) { /* ascending; beyond count: poison */
            int want = n_select < s[0] ? n_select : s[0];
            if (t % 3 == 1) want /= 2;
            count[t] = 0;
            for (int p = 0; p < s[0] && count[t] < want; p++)
                if (s[0] - p <= want - count[t] || test_random() % 2) position[(int64_t)t * n_select + count[t]++] = p;
            if (t == 4) count[t] = 0;
        }
        int32_t *dp = to_gpu(position, cells * 4), *dc = to_gpu(count, (size_t)f.n_tok * 4);
        kern_sparse_mla g = sparse_call(&f, 0, f.n_tok, dp, dc, n_select, session, true),
                        c = sparse_call(&f, 0, f.n_tok, position, count, n_select, session, false);
        gpu->sparse_mla(gpu, &g);
        cpu->sparse_mla(cpu, &c);
        int64_t row = (int64_t)f.n_head * f.g.kv_lora;
        float *out = from_gpu(g.out, (size_t)(f.n_tok * row) * 4), *mass = from_gpu(g.mass, cells * 4);
        assert_near(out, c.out, f.n_tok * row, tolerance_of(type), "out");
        for (int t = 0; t < f.n_tok; t++) {
            double sum = 0;
            for (int j = 0; j < count[t]; j++) sum += (double)mass[(int64_t)t * n_select + j];
            assert_near(mass + (int64_t)t * n_select, c.mass + (int64_t)t * n_select, count[t], 1e-5, "mass");
            if (count[t]) assert_close((float)sum, 1, 1e-3);
        }
        /* each token alone, and among some, with and without mass: the same bits */
        for (int t = 0; t < f.n_tok;) {
            int n = t % 2 ? 1 : test_between(1, 40);
            if (n > f.n_tok - t) n = f.n_tok - t;
            kern_sparse_mla part = sparse_call(&f, t, n, dp, dc, n_select, session, true);
            float *given = part.mass;
            if (t % 3 == 0) part.mass = NULL;
            gpu->sparse_mla(gpu, &part);
            float *again = from_gpu(part.out, (size_t)(n * row) * 4);
            float *again_mass = from_gpu(given, (size_t)n * (size_t)n_select * 4);
            assert_same_bytes(again, out + t * row, (size_t)(n * row) * 4);
            for (int r = 0; part.mass && r < n; r++)
                assert_same_bytes(again_mass + (int64_t)r * n_select, mass + (int64_t)(t + r) * n_select,
                                  (size_t)count[t + r] * 4);
            free(again), free(again_mass);
            t += n;
        }
        gpu->free(gpu, dp);
        gpu->free(gpu, dc);
        free(position), free(count), free(out), free(mass), free(c.out), free(c.mass);
        drop(&f);
    }
}

static void dense_is_right(void **state) {
    (void)state;
    /* keys, tokens, heads, kv_lora, rope; the tokens are the last ones */
    const int shapes[][5] = {{1, 1, 1, 16, 2},     {64, 64, 3, 24, 16},   {129, 129, 8, 32, 16}, {300, 7, 8, 128, 32},
                             {200, 1, 4, 64, 32},  {130, 33, 16, 30, 10}, {100, 2, 130, 16, 8},  {9000, 3, 8, 128, 32},
                             {5000, 70, 8, 128, 32}, {4200, 2, 32, 512, 64}, {2500, 40, 20, 256, 64}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes * 4; i++) {
        const int *s = shapes[i / 4];
        kern_type type = i % 2 ? KERN_BF16 : KERN_F32;
        if (test_too_big((double)s[0] * s[1] * s[2] * (s[3] + s[4]))) continue;
        fixture f = make_fixture(type, s[0], s[1], s[2], s[3], s[4]);
        kern_range ranges[2] = {{s[0] / 9, s[0] / 3}, {s[0] / 2, s[0]}};
        bool limit = i / 2 % 2;
        int64_t row = (int64_t)f.n_head * f.g.kv_lora, size = f.n_tok * row;
        kern_dense_mla a = {.cache = f.g,
                            .q_latent = f.dq_latent,
                            .q_pe = f.dq_pe,
                            .q_pe_tok_stride = f.tok_stride,
                            .q_pe_head_stride = f.head_stride,
                            .pos0 = f.n_key - f.n_tok,
                            .n_tok = f.n_tok,
                            .n_head = f.n_head,
                            .allow = limit ? ranges : NULL,
                            .n_allow = limit ? 2 : 0,
                            .scale = 0.11f,
                            .out = poison_gpu((size_t)size * 4)};
        gpu->dense_mla(gpu, &a);
        float *out = from_gpu(a.out, (size_t)size * 4), *want = test_array(size);
        kern_dense_mla c = a;
        c.cache = f.c, c.q_latent = f.q_latent, c.q_pe = f.q_pe, c.out = want;
        cpu->dense_mla(cpu, &c);
        assert_near(out, want, size, tolerance_of(type), "out");
        for (int t = 0; t < f.n_tok;) {
            int n = t % 2 ? 1 : test_between(1, 40);
            if (n > f.n_tok - t) n = f.n_tok - t;
            kern_dense_mla part = a;
            part.q_latent += t * row, part.q_pe += t * f.tok_stride, part.pos0 += t, part.n_tok = n;
            part.out = poison_gpu((size_t)(n * row) * 4);
            gpu->dense_mla(gpu, &part);
            float *again = from_gpu(part.out, (size_t)(n * row) * 4);
            assert_same_bytes(again, out + t * row, (size_t)(n * row) * 4);
            free(again);
            t += n;
        }
        free(out), free(want);
        drop(&f);
    }
}

static void latent_rows_are_bf16_to_the_bit(void **state) {
    (void)state;
    const float odd[] = {NAN, INFINITY, -INFINITY, 3.4e38f, 1e-40f, -0.0f, 1.0f, 65504.0f};
    uint16_t want[8];
    for (int i = 0; i < 8; i++) want[i] = ph_f32_to_bf16(odd[i]);
    float *d = floats_to_gpu(odd, 8);
    kern_latents c = {.rows = poison_gpu(8 * 2), .type = KERN_BF16, .kv_lora = 6, .rope = 2};
    gpu->latent_append(gpu, &(kern_latent_append){c, d, d + 6, 6, 2, 0, 1});
    uint16_t *got = from_gpu(c.rows, 8 * 2);
    assert_same_bytes(got, want, sizeof want);
    gpu->free(gpu, d);
    free(got);
}

int main(void) {
    int code = test_cuda_begin();
    if (code) return code;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(latent_rows_are_bf16_to_the_bit),
        cmocka_unit_test(sparse_is_right),
        cmocka_unit_test(dense_is_right),
    };
    code = cmocka_run_group_tests(tests, NULL, NULL);
    test_cuda_end();
    return code;
}
