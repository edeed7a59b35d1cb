/* test_kernels.c - products, norms, RoPE, Hadamard, SwiGLU, routing and the table itself, each backend
 * against double precision, and row by row to the bit. */
#include "kernels/cpu/cpu.h"
#include "tests/test_kernels.h"

static kern_matrix *make(kern *k, const float *w, int64_t rows, int64_t cols, kern_type keep) {
    kern_matrix *m = NULL;
    kern_matrix_source s = {.rows = rows, .cols = cols, .data = w, .stride = cols, .type = KERN_F32};
    assert_int_equal(k->matrix_make(k, &m, &s, keep, NULL), PH_OK);
    return m;
}

static void products_are_right(void **state) {
    const int sizes[][3] = {{1, 1, 1},     {16, 16, 7},    {17, 3, 2},    {63, 129, 7},
                            {129, 63, 63}, {24, 128, 129}, {200, 33, 13}, {64, 96, 5}};
    FOR_BACKENDS(name) {
        kern *k = test_open(name, 2);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes * 4; i++) {
            int64_t rows = sizes[i / 4][0], cols = sizes[i / 4][1], n = sizes[i / 4][2], xs = cols + 3,
                    ys = rows + 5;
            kern_type keep = i % 2 ? KERN_BF16 : KERN_F32;
            bool accumulate = i / 2 % 2;
            float *w = test_values(rows * cols), *x = test_values(n * xs - 3), *y = test_array(n * ys - 5);
            kern_matrix *m = make(k, w, rows, cols, keep);
            float *before = test_array(n * ys - 5);
            if (accumulate)
                for (int64_t j = 0; j < n * ys - 5; j++) y[j] = test_uniform();
            memcpy(before, y, (size_t)(n * ys - 5) * 4);
            kern_matmul a = {m, x, y, xs, ys, (int)n, accumulate};
            k->matmul(k, &a);
            for (int64_t t = 0; t < n; t++) {
                for (int64_t r = 0; r < rows; r++) {
                    double want = accumulate ? before[t * ys + r] : 0, size = 1;
                    for (int64_t c = 0; c < cols; c++) {
                        float wv = w[r * cols + c], xv = x[t * xs + c];
                        if (keep == KERN_BF16) wv = test_bf16(wv), xv = test_bf16(xv);
                        want += (double)wv * xv;
                        size += fabs((double)wv * xv);
                    }
                    assert_close(y[t * ys + r], want, 2e-6 * size);
                }
                if (t + 1 < n) assert_same_bytes(y + t * ys + rows, before + t * ys + rows, 5 * 4);
            }
            k->matrix_free(k, m);
            free(w), free(x), free(y), free(before);
        }
        k->close(k);
    }
}

static void a_row_does_not_depend_on_its_company(void **state) {
    enum { ROWS = 150, COLS = 515, N = 64 };
    const int counts[] = {1, 2, 3, 4, 5, 7, 13, 64};
    FOR_BACKENDS(name) {
        float *w = test_values(ROWS * COLS), *x = test_values(N * COLS), *all = test_array(N * ROWS),
              *y = test_array(N * ROWS);
        for (int type = 0; type < 2; type++) {
            for (int threads = 1; threads <= 3; threads++) {
                kern *k = test_open(name, threads);
                kern_matrix *m = make(k, w, ROWS, COLS, type ? KERN_BF16 : KERN_F32);
                if (threads == 1) {
                    kern_matmul a = {m, x, all, COLS, ROWS, N, false};
                    k->matmul(k, &a);
                }
                for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
                    int from = (int)(test_random() % (unsigned)(N - counts[i] + 1));
                    memset(y, 0xff, N * ROWS * 4);
                    kern_matmul a = {m, x + from * COLS, y, COLS, ROWS, counts[i], false};
                    k->matmul(k, &a);
                    assert_same_bytes(y, all + from * ROWS, (size_t)counts[i] * ROWS * 4);
                }
                k->matrix_free(k, m);
                k->close(k);
            }
        }
        free(w), free(x), free(all), free(y);
    }
}

static void matrices_from_every_format(void **state) {
    enum { ROWS = 35, COLS = 130 };
    FOR_BACKENDS(name) {
        kern *k = test_open(name, 2);
        for (int type = KERN_F32; type <= KERN_FP8; type++) {
            for (int transposed = 0; transposed < 2; transposed++) {
                size_t bytes = kern_type_bytes((kern_type)type);
                uint8_t *data = (uint8_t *)test_bytes(ROWS * COLS * bytes);
                for (int i = 0; i < ROWS * COLS; i++) {
                    float v = test_uniform();
                    uint16_t half = type == KERN_BF16 ? ph_f32_to_bf16(v) : ph_f32_to_f16(v);
                    if (type == KERN_F32)
                        memcpy(data + i * 4, &v, 4);
                    else if (type == KERN_FP8)
                        data[i] = ph_f32_to_fp8(v);
                    else
                        memcpy(data + i * 2, &half, 2);
                }
                float *scale = test_values(4);
                kern_matrix_source s = {.rows = ROWS,
                                        .cols = COLS,
                                        .data = data,
                                        .stride = transposed ? ROWS : COLS,
                                        .type = (kern_type)type,
                                        .transposed = transposed,
                                        .scale = scale,
                                        .scale_stride = transposed ? 1 : 2};
                kern_matrix *m = NULL;
                assert_int_equal(k->matrix_make(k, &m, &s, KERN_F32, NULL), PH_OK);
                float x[COLS] = {0}, y[ROWS];
                int c = (int)(test_random() % COLS);
                x[c] = 1.0f;
                kern_matmul a = {m, x, y, COLS, ROWS, 1, false};
                k->matmul(k, &a);
                for (int r = 0; r < ROWS; r++) assert_true(y[r] == kern_source_at(&s, r, c));
                k->matrix_free(k, m);
                free(data), free(scale);
            }
        }
        kern_matrix *m = (kern_matrix *)k;
        kern_matrix_source bad = {.rows = 1, .cols = 1, .data = "abcd", .stride = 1, .type = KERN_F32};
        ph_error err;
        assert_int_equal(k->matrix_make(k, &m, &bad, KERN_I8, &err), PH_UNSUPPORTED);
        assert_null(m);
        bad.rows = 0;
        assert_int_equal(k->matrix_make(k, &m, &bad, KERN_F32, &err), PH_USAGE);
        k->matrix_free(k, NULL);
        k->close(k);
    }
}

/* An FP8 source of random codes (never NaN) and factors, cut out of a tensor at (row0, col0). */
typedef struct codes {
    kern_matrix_source source;
    uint8_t *data;
    float *scale;
} codes;

static codes random_codes(int64_t rows, int64_t cols, int64_t row0, int64_t col0, bool transposed) {
    codes c;
    int64_t stored_rows = transposed ? cols : rows, stored_cols = transposed ? rows : cols;
    int64_t blocks = (col0 + stored_cols + 127) / 128, n = stored_rows * stored_cols,
            n_scale = (row0 + stored_rows + 127) / 128 * blocks;
    c.data = (uint8_t *)test_bytes((size_t)n);
    for (int64_t i = 0; i < n; i++) do
            c.data[i] = (uint8_t)test_random();
        while ((c.data[i] & 0x7f) == 0x7f);
    c.scale = test_array(n_scale);
    for (int64_t i = 0; i < n_scale; i++) {
        c.scale[i] = ldexpf(1 + fabsf(test_uniform()), (int)(test_random() % 24) - 18);
        if (test_random() % 8 == 0) c.scale[i] = -c.scale[i];
    }
    c.source = (kern_matrix_source){.rows = rows,
                                    .cols = cols,
                                    .data = c.data,
                                    .stride = stored_cols,
                                    .type = KERN_FP8,
                                    .transposed = transposed,
                                    .scale = c.scale,
                                    .scale_stride = blocks,
                                    .scale_row0 = row0,
                                    .scale_col0 = col0};
    return c;
}

/* The matrix as made from the source, and from the same numbers in fp32: the products' bits. */
static void same_products(kern *k, const kern_matrix_source *s, kern_type held) {
    enum { N = 14 };
    const int counts[] = {1, 2, 3, 4, 5, 6, 7, 14};
    float *w = test_array(s->rows * s->cols), *x = test_values(N * s->cols);
    for (int64_t r = 0; r < s->rows; r++) kern_source_row(s, r, w + r * s->cols);
    kern_matrix *wide = make(k, w, s->rows, s->cols, KERN_BF16), *m = NULL;
    assert_int_equal(k->matrix_make(k, &m, s, KERN_BF16, NULL), PH_OK);
    assert_int_equal(m->type, strcmp(k->name, "portable") == 0 ? KERN_BF16 : held);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        size_t n = (size_t)counts[i] * (size_t)s->rows;
        float *want = test_array((int64_t)n), *got = test_array((int64_t)n);
        for (size_t j = 0; j < n; j++) want[j] = got[j] = test_uniform();
        kern_matmul a = {wide, x, want, s->cols, s->rows, counts[i], i % 2};
        k->matmul(k, &a);
        a.w = m, a.y = got;
        k->matmul(k, &a);
        assert_same_bytes(got, want, n * sizeof *got);
        free(want), free(got);
    }
    k->matrix_free(k, m);
    k->matrix_free(k, wide);
    free(w), free(x);
}

static void codes_multiply_as_the_bf16_numbers_they_stand_for(void **state) {
    const int sizes[][2] = {{1, 1}, {16, 2}, {17, 3}, {64, 128}, {65, 131}, {130, 517}, {300, 62}};
    const int places[][3] = {{0, 0, KERN_FP8},   {64, 0, KERN_FP8},    {192, 64, KERN_FP8},
                             {0, 124, KERN_FP8}, {320, 132, KERN_FP8}, {16, 0, KERN_BF16},
                             {0, 2, KERN_BF16},  {100, 7, KERN_BF16}};
    FOR_BACKENDS(name) {
        kern *k = test_open(name, 2);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            for (size_t p = 0; p < sizeof places / sizeof *places * 2; p++) {
                const int *place = places[p / 2];
                bool transposed = p % 2;
                codes c =
                    random_codes(sizes[i][0], sizes[i][1], place[transposed], place[!transposed], transposed);
                same_products(k, &c.source, (kern_type)place[2]);
                if (p == 0) {
                    c.source.scale = NULL;
                    same_products(k, &c.source, KERN_FP8);
                }
                free(c.data), free(c.scale);
            }
        }
        k->close(k);
    }
}

/* What 16 magnitudes and an exponent cannot say is held as BF16 numbers, with the same products. */
static void odd_codes_are_held_as_bf16(void **state) {
    const float factors[] = {0.0f, 1e-38f, 3e38f, INFINITY};
    FOR_BACKENDS(name) {
        kern *k = test_open(name, 1);
        for (size_t i = 0; i <= sizeof factors / sizeof *factors; i++) {
            codes c = random_codes(70, 140, 0, 0, false);
            if (i < sizeof factors / sizeof *factors)
                c.scale[1] = factors[i];
            else
                c.data[5] = 0xff;
            kern_matrix *m = NULL;
            assert_int_equal(k->matrix_make(k, &m, &c.source, KERN_BF16, NULL), PH_OK);
            assert_int_equal(m->type, KERN_BF16);
            k->matrix_free(k, m);
            if (i < 2) same_products(k, &c.source, KERN_BF16);
            free(c.data), free(c.scale);
        }
        k->close(k);
    }
}

static void norms_are_right(void **state) {
    const int dims[] = {1, 3, 16, 24, 63, 64, 129, 512, 1030};
    FOR_BACKENDS(name) {
        kern *k = test_open(name, 2);
        for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
            int dim = dims[i], n = i == 7 ? 129 : 3, xs = dim + 2;
            float *x = test_values((int64_t)n * xs), *w = test_values(dim), *b = test_values(dim),
                  *y = test_array((int64_t)n * dim);
            kern_rmsnorm r = {x, w, y, xs, dim, n, dim, 1e-6f};
            k->rmsnorm(k, &r);
            for (int t = 0; t < n; t++) {
                double sum = 0;
                for (int d = 0; d < dim; d++) sum += (double)x[t * xs + d] * x[t * xs + d];
                for (int d = 0; d < dim; d++)
                    assert_close(y[t * dim + d], x[t * xs + d] / sqrt(sum / dim + 1e-6) * w[d], 1e-5);
            }
            float *packed = test_array((int64_t)n * dim), *again = test_array((int64_t)n * dim);
            for (int t = 0; t < n; t++) memcpy(packed + t * dim, x + t * xs, (size_t)dim * 4);
            kern_layernorm l = {packed, w, b, again, n, dim, 1e-6f};
            k->layernorm(k, &l);
            for (int t = 0; t < n; t++) {
                double mean = 0, var = 0;
                for (int d = 0; d < dim; d++) mean += packed[t * dim + d];
                mean /= dim;
                for (int d = 0; d < dim; d++)
                    var += (packed[t * dim + d] - mean) * (packed[t * dim + d] - mean);
                for (int d = 0; d < dim; d++)
                    assert_close(again[t * dim + d],
                                 (packed[t * dim + d] - mean) / sqrt(var / dim + 1e-6) * w[d] + b[d],
                                 dim == 1 ? 1e-3 : 3e-5);
            }
            /* in place, and one row alone */
            float *alone = test_array(dim);
            l.x = packed + (n - 1) * dim, l.y = alone, l.n_tok = 1;
            k->layernorm(k, &l);
            assert_same_bytes(alone, again + (n - 1) * dim, (size_t)dim * 4);
            l = (kern_layernorm){packed, w, b, packed, n, dim, 1e-6f};
            k->layernorm(k, &l);
            assert_same_bytes(packed, again, (size_t)n * dim * 4);
            r = (kern_rmsnorm){x + xs, w, x + xs, xs, xs, 1, dim, 1e-6f};
            if (n > 1) {
                k->rmsnorm(k, &r);
                assert_same_bytes(x + xs, y + dim, (size_t)dim * 4);
            }
            free(x), free(w), free(b), free(y), free(packed), free(again), free(alone);
        }
        k->close(k);
    }
}

static void rope_turns_by_the_fp32_angle(void **state) {
    const int64_t positions[] = {0, 1, 4097, 131000};
    FOR_BACKENDS(name) {
        kern *k = test_open(name, 2);
        for (int c = 0; c < 16; c++) {
            int n_rot = c % 2 ? 32 : 6, n_head = 1 + c % 3, n_tok = c % 3 ? 1 + 40 * (c % 3) : 1;
            bool half_split = c / 2 % 2;
            int64_t hs = n_rot + 5, ts = n_head * hs + 2, pos0 = positions[c / 4];
            float freq[16];
            for (int i = 0; i < n_rot / 2; i++) freq[i] = powf(10000.0f, -2.0f * (float)i / (float)n_rot);
            float *x = test_values(n_tok * ts), *before = test_array(n_tok * ts);
            memcpy(before, x, (size_t)(n_tok * ts) * 4);
            kern_rope a = {x,     ts,    hs,
                           freq,  n_tok, n_head,
                           n_rot, pos0,  half_split ? KERN_ROPE_HALF_SPLIT : KERN_ROPE_INTERLEAVED};
            k->rope(k, &a);
            for (int t = 0; t < n_tok; t++)
                for (int h = 0; h < n_head; h++) {
                    const float *in = before + t * ts + h * hs, *out = x + t * ts + h * hs;
                    for (int i = 0; i < n_rot / 2; i++) {
                        float angle = (float)(pos0 + t) * freq[i];
                        int p = half_split ? i : 2 * i, q = half_split ? i + n_rot / 2 : 2 * i + 1;
                        assert_close(out[p], in[p] * cos((double)angle) - in[q] * sin((double)angle), 1e-6);
                        assert_close(out[q], in[p] * sin((double)angle) + in[q] * cos((double)angle), 1e-6);
                    }
                    assert_same_bytes(in + n_rot, out + n_rot, 5 * 4);
                }
            /* one token alone gives the same bits */
            float *alone = test_array(ts);
            memcpy(alone, before + (n_tok - 1) * ts, (size_t)ts * 4);
            a.x = alone, a.n_tok = 1, a.pos0 = pos0 + n_tok - 1;
            k->rope(k, &a);
            assert_same_bytes(alone, x + (n_tok - 1) * ts, (size_t)ts * 4);
            free(x), free(before), free(alone);
        }
        k->close(k);
    }
}

static void hadamard_is_orthogonal(void **state) {
    FOR_BACKENDS(name) {
        kern *k = test_open(name, 2);
        for (int dim = 1; dim <= 256; dim *= 2) {
            int64_t n = dim == 64 ? 600 : 5;
            float *x = test_values(n * dim), *before = test_array(n * dim);
            memcpy(before, x, (size_t)(n * dim) * 4);
            kern_hadamard a = {x, n, dim};
            k->hadamard(k, &a);
            for (int64_t r = 0; r < n; r += r < 5 ? 1 : 97)
                for (int i = 0; i < dim; i++) {
                    double want = 0;
                    for (int j = 0; j < dim; j++)
                        want +=
                            (__builtin_popcount((unsigned)(i & j)) % 2 ? -1.0 : 1.0) * before[r * dim + j];
                    assert_close(x[r * dim + i], want / sqrt(dim), 1e-5);
                }
            float *alone = test_array(dim);
            memcpy(alone, before + (n - 1) * dim, (size_t)dim * 4);
            kern_hadamard one = {alone, 1, dim};
            k->hadamard(k, &one);
            assert_same_bytes(alone, x + (n - 1) * dim, (size_t)dim * 4);
            free(x), free(before), free(alone);
        }
        k->close(k);
    }
}

static void swiglu_and_add(void **state) {
    const int sizes[] = {1, 7, 63, 129, 4096, 50000};
    FOR_BACKENDS(name) {
        kern *k = test_open(name, 3);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            int n = sizes[i];
            float *gate = test_values(n), *up = test_values(n), *y = test_array(n);
            for (int j = 0; j < n; j++) gate[j] *= j % 7 == 3 ? 60.0f : 3.0f;
            kern_swiglu a = {gate, up, y, n};
            k->swiglu(k, &a);
            for (int j = 0; j < n; j++) {
                double want = gate[j] / (1.0 + exp(-(double)gate[j])) * up[j];
                assert_close(y[j], want, 1e-6 * fabs(want) + 1e-30);
            }
            kern_swiglu one = {gate + n - 1, up + n - 1, gate + n - 1, 1};
            k->swiglu(k, &one);
            assert_same_bytes(gate + n - 1, y + n - 1, 4);

            int rows = n < 100 ? 1 : 50000 / n, dim = n;
            float *x = test_values((int64_t)rows * dim), *scale = test_values(rows),
                  *sum = test_values((int64_t)rows * dim);
            float *before = test_array((int64_t)rows * dim);
            memcpy(before, sum, (size_t)rows * dim * 4);
            kern_add d = {x, i % 2 ? scale : NULL, sum, rows, dim};
            k->add(k, &d);
            for (int j = 0; j < rows * dim; j++)
                assert_close(sum[j], before[j] + (double)x[j] * (d.scale ? scale[j / dim] : 1.0f), 1e-6);
            free(gate), free(up), free(y), free(x), free(scale), free(sum), free(before);
        }
        float gate[4] = {NAN, INFINITY, -200.0f, 0}, up[4] = {1, 1, 1, 1}, y[4];
        kern_swiglu odd = {gate, up, y, 4};
        k->swiglu(k, &odd);
        assert_true(isnan(y[0]) && isinf(y[1]) && y[2] == 0.0f && y[3] == 0.0f);
        k->close(k);
    }
}

/* By definition and sorting, in double precision over the same fp32 sigmoids' order. */
static void routing_follows_the_release(void **state) {
    const int shapes[][4] = {{8, 2, 1, 1},   {16, 4, 4, 2}, {256, 8, 8, 4}, {6, 6, 6, 6},
                             {12, 3, 12, 5}, {1, 1, 1, 1},  {8, 8, 4, 4}};
    FOR_BACKENDS(name) {
        kern *k = test_open(name, 2);
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes * 2; i++) {
            int n = shapes[i / 2][0], pick = shapes[i / 2][1], groups = shapes[i / 2][2],
                keep = shapes[i / 2][3], per = n / groups;
            int n_tok = i % 2 ? 1 : 33;
            float *logits = test_values((int64_t)n_tok * n), *bias = test_values(n),
                  *weight = test_array((int64_t)n_tok * pick);
            int32_t *expert = (int32_t *)test_bytes((size_t)n_tok * pick * 4);
            if (i % 4 == 3)
                for (int j = 0; j < n_tok * n; j++) logits[j] = 0.25f; /* all equal: order by number */
            kern_route a = {
                logits, i % 4 == 3 ? NULL : bias, expert, weight, n_tok, n, pick, groups, keep, i % 2 == 0,
                2.5f};
            k->route(k, &a);
            for (int t = 0; t < n_tok; t++) {
                double sig[256], choice[256], total = 0;
                bool out[256] = {false}, group_in[256] = {false};
                for (int e = 0; e < n; e++) {
                    sig[e] = 1.0f / (1.0f + expf(-logits[t * n + e]));
                    choice[e] = a.bias ? (float)sig[e] + bias[e] : (float)sig[e];
                }
                for (int g = 0; g < keep; g++) {
                    int best = -1;
                    float best_score = 0;
                    for (int j = 0; j < groups; j++) {
                        if (group_in[j]) continue;
                        float first = -INFINITY, second = -INFINITY;
                        for (int e = j * per; e < (j + 1) * per; e++) {
                            float c = (float)choice[e];
                            if (c > first)
                                second = first, first = c;
                            else if (c > second)
                                second = c;
                        }
                        float score = per == 1 ? first : first + second;
                        if (best < 0 || score > best_score) best = j, best_score = score;
                    }
                    group_in[best] = true;
                }
                for (int p = 0; p < pick; p++) {
                    int best = -1;
                    for (int e = 0; e < n; e++)
                        if (group_in[e / per] && !out[e] && (best < 0 || choice[e] > choice[best])) best = e;
                    out[best] = true;
                    assert_int_equal(expert[t * pick + p], best);
                    total += sig[best];
                }
                for (int p = 0; p < pick; p++)
                    assert_close(weight[t * pick + p],
                                 sig[expert[t * pick + p]] / (a.normalise ? total : 1) * 2.5, 1e-6);
            }
            free(logits), free(bias), free(weight), free(expert);
        }
        k->close(k);
    }
}

static void the_table_itself(void **state) {
    ph_error err;
    kern *k = (kern *)&err;
    assert_int_equal(kern_open_cpu(&k, "z80", 1, &err), PH_USAGE);
    assert_null(k);
    assert_int_equal(kern_open_cpu(&k, NULL, -1, NULL), PH_USAGE);
    assert_int_equal(kern_open_cpu(&k, NULL, 0, &err), PH_OK);
    assert_string_equal(k->name, kern_cpu_names()[0]);
    assert_true(k->n_thread >= 1);
    void *p = NULL;
    assert_int_equal(k->alloc(k, &p, 1000, &err), PH_OK);
    for (int i = 0; i < 1000; i++) assert_int_equal(((unsigned char *)p)[i], 0);
    char text[6] = "";
    k->copy_in(k, p, "hello", 6);
    k->copy_out(k, text, p, 6);
    assert_string_equal(text, "hello");
    k->free(k, p);
    k->free(k, NULL);
    assert_int_equal(k->alloc(k, &p, SIZE_MAX - 5, &err), PH_MEMORY);
    assert_int_equal(k->index_key_bytes(KERN_I8, 64, 17), 32 * 64);
    assert_int_equal(k->index_key_bytes(KERN_F32, 32, 3), 384);
    assert_int_equal(k->index_key_bytes(KERN_I8, 6, 1) % 64, 0);
    k->close(k);
    FOR_BACKENDS(name) {
        k = test_open(name, 2);
        assert_string_equal(k->cache_layout, "i8x16");
        kern_peaks peaks;
        k->measure_peaks(k, &peaks);
        assert_true(peaks.f32_flops > 1e8 && peaks.bytes_per_s > 1e7);
        k->close(k);
    }
}

/* Many small operations in a row, with pauses in which the workers fall asleep. */
static void threads_wake_and_sleep(void **state) {
    kern *k = test_open("portable", 5);
    float *x = test_values(40000), *y = test_array(40000);
    for (int round = 0; round < 300; round++) {
        memset(y, 0, 40000 * 4);
        kern_add a = {x, NULL, y, 400, 100};
        k->add(k, &a);
        assert_same_bytes(x, y, 40000 * 4);
        if (round % 50 == 0) nanosleep(&(struct timespec){.tv_nsec = 3000000}, NULL);
    }
    free(x), free(y);
    k->close(k);
}

int main(void) {
    test_seed_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_right),
        cmocka_unit_test(a_row_does_not_depend_on_its_company),
        cmocka_unit_test(matrices_from_every_format),
        cmocka_unit_test(codes_multiply_as_the_bf16_numbers_they_stand_for),
        cmocka_unit_test(odd_codes_are_held_as_bf16),
        cmocka_unit_test(norms_are_right),
        cmocka_unit_test(rope_turns_by_the_fp32_angle),
        cmocka_unit_test(hadamard_is_orthogonal),
        cmocka_unit_test(swiglu_and_add),
        cmocka_unit_test(routing_follows_the_release),
        cmocka_unit_test(the_table_itself),
        cmocka_unit_test(threads_wake_and_sleep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
