/* test_cuda.c - memory, products, rows, routing and experts on the GPU against the CPU. */
#include "tests/test_cuda.h"

static void memory_goes_there_and_back(void **state) {
    (void)state;
    const size_t sizes[] = {0, 1, 3, 4096, 100003, (16u << 20) + 5, (40u << 20) + 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = sizes[i];
        if (test_too_big((double)n * 4)) continue;
        unsigned char *in = test_bytes(n);
        for (size_t j = 0; j < n; j++) in[j] = (unsigned char)test_random();
        void *a = to_gpu(in, n), *b = poison_gpu(n);
        gpu->copy(gpu, b, a, n);
        unsigned char *out = from_gpu(b, n);
        if (n) assert_same_bytes(out, in, n);
        free(out);
        gpu->zero(gpu, a, n);
        out = from_gpu(a, n);
        for (size_t j = 0; j < n; j++) assert_int_equal(out[j], 0);
        free(out), free(in);
    }
    gpu->free(gpu, NULL);
}

static void too_much_memory_is_told(void **state) {
    (void)state;
    void *p = NULL;
    ph_error err = {0};
    assert_int_equal(gpu->alloc(gpu, &p, (size_t)1 << 50, &err), PH_MEMORY);
    assert_null(p);
    assert_non_null(strstr(err.text, "needs"));
    assert_non_null(strstr(err.text, "free"));
    assert_went_well(); /* and the device goes on */
    float one = 1;
    void *after = to_gpu(&one, 4);
    gpu->free(gpu, after);
}

static kern_matrix *make(kern *k, const float *w, int64_t rows, int64_t cols, kern_type keep) {
    kern_matrix *m = NULL;
    kern_matrix_source s = {.rows = rows, .cols = cols, .data = w, .stride = cols, .type = KERN_F32};
    assert_int_equal(k->matrix_make(k, &m, &s, keep, NULL), PH_OK);
    return m;
}

static void products_are_right(void **state) {
    (void)state;
    const int sizes[][3] = {{1, 1, 1},        {16, 16, 7},     {17, 3, 2},     {63, 129, 7},
                            {129, 63, 63},    {24, 128, 129},  {200, 33, 513}, {64, 96, 5},
                            {1408, 512, 300}, {300, 1408, 48}, {160, 512, 49}, {4, 512, 70},
                            {515, 1030, 17},  {128, 32, 1000}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes * 4; i++) {
        int64_t rows = sizes[i / 4][0], cols = sizes[i / 4][1], n = sizes[i / 4][2];
        int64_t xs = i % 3 ? cols + 3 : (cols + 3) / 4 * 4, ys = rows + 5;
        kern_type keep = i % 2 ? KERN_BF16 : KERN_F32;
        bool accumulate = i / 2 % 2;
        if (test_too_big((double)(rows * cols * n))) continue;
        float *w = test_values(rows * cols), *x = test_values(n * xs), *y = test_array(n * ys);
        if (accumulate)
            for (int64_t j = 0; j < n * ys; j++) y[j] = test_uniform();
        kern_matrix *m = make(gpu, w, rows, cols, keep);
        float *dx = floats_to_gpu(x, n * xs), *dy = floats_to_gpu(y, n * ys);
        gpu->matmul(gpu, &(kern_matmul){m, dx, dy, xs, ys, (int)n, accumulate});
        float *got = from_gpu(dy, (size_t)(n * ys) * 4);
        for (int64_t t = 0; t < n; t++) {
            for (int64_t r = 0; r < rows; r++) {
                double want = accumulate ? (double)y[t * ys + r] : 0, size = 1;
                for (int64_t c = 0; c < cols; c++) {
                    float wv = w[r * cols + c], xv = x[t * xs + c];
                    if (keep == KERN_BF16) wv = test_bf16(wv), xv = test_bf16(xv);
                    want += (double)wv * xv;
                    size += fabs((double)wv * xv);
                }
                assert_close(got[t * ys + r], want, 2e-6 * size);
            }
            assert_same_bytes(got + t * ys + rows, y + t * ys + rows,
                              5 * 4); /* nothing written beyond a row */
        }
        gpu->matrix_free(gpu, m);
        gpu->free(gpu, dx);
        free(w), free(x), free(y), free(got);
    }
}

/* Alone, among few, among many, accumulated or not: the same bits, whichever kernel it was. */
static void a_row_does_not_depend_on_its_company(void **state) {
    (void)state;
    enum { N = 300 };
    const int counts[] = {1, 2, 3, 15, 16, 17, 48, 49, 100, 128, 129, 300};
    for (int type = 0; type < 3; type++) { /* fp32, bf16, bf16 with several segments of columns */
        int rows = type < 2 ? 150 : 30, cols = type < 2 ? 1412 : 4500;
        float *w = test_values(rows * cols), *x = test_values(N * cols);
        kern_matrix *m = make(gpu, w, rows, cols, type ? KERN_BF16 : KERN_F32);
        float *dx = floats_to_gpu(x, N * cols), *dy = poison_gpu((size_t)(N * rows) * 4);
        gpu->matmul(gpu, &(kern_matmul){m, dx, dy, cols, rows, N, false});
        float *all = from_gpu(dy, (size_t)(N * rows) * 4);
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            int n = counts[i], from = test_between(0, N - n);
            if (test_small() && i % 4 != 1) continue; /* 2, 17, 128 rows */
            dy = poison_gpu((size_t)(n * rows) * 4);
            gpu->matmul(gpu, &(kern_matmul){m, dx + (int64_t)from * cols, dy, cols, rows, n, false});
            float *got = from_gpu(dy, (size_t)(n * rows) * 4);
            assert_same_bytes(got, all + (int64_t)from * rows, (size_t)(n * rows) * 4);
            free(got);
        }
        gpu->free(gpu, dx);
        gpu->matrix_free(gpu, m);
        free(w), free(x), free(all);
    }
}

static void heads_are_products_of_their_own(void **state) {
    (void)state;
    const int shapes[][4] = {
        {3, 16, 24, 5}, {8, 128, 64, 70}, {8, 64, 128, 1}, {130, 8, 12, 3}, {1, 1, 1, 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes * 2; i++) {
        int heads = shapes[i / 2][0], rows = shapes[i / 2][1], cols = shapes[i / 2][2], n = shapes[i / 2][3];
        kern_type keep = i % 2 ? KERN_BF16 : KERN_F32;
        int64_t x_step = cols + 2, y_step = rows, xs = x_step * heads + 2, ys = y_step * heads;
        float *w = test_values((int64_t)heads * rows * cols), *x = test_values(n * xs);
        const kern_matrix **g = calloc((size_t)heads, sizeof *g), **c = calloc((size_t)heads, sizeof *c);
        for (int h = 0; h < heads; h++) {
            g[h] = make(gpu, w + (int64_t)h * rows * cols, rows, cols, keep);
            c[h] = make(cpu, w + (int64_t)h * rows * cols, rows, cols, keep);
        }
        float *dx = floats_to_gpu(x, n * xs), *dy = poison_gpu((size_t)(n * ys) * 4),
              *want = test_array(n * ys);
        kern_matmul_each a = {g, heads, dx, dy, x_step, y_step, xs, ys, n};
        gpu->matmul_each(gpu, &a);
        a.w = c, a.x = x, a.y = want;
        cpu->matmul_each(cpu, &a);
        float *got = from_gpu(dy, (size_t)(n * ys) * 4);
        assert_near(got, want, n * ys, 2e-4, "heads");
        for (int h = 0; h < heads; h++) {
            gpu->matrix_free(gpu, (kern_matrix *)g[h]);
            cpu->matrix_free(cpu, (kern_matrix *)c[h]);
        }
        gpu->free(gpu, dx);
        free(g), free(c), free(w), free(x), free(want), free(got);
    }
}

static void matrices_from_every_format(void **state) {
    (void)state;
    enum { ROWS = 135, COLS = 260 };
    for (int type = KERN_F32; type <= KERN_FP8; type++)
        for (int transposed = 0; transposed < 2; transposed++) {
            size_t bytes = kern_type_bytes((kern_type)type);
            int64_t stride = (transposed ? ROWS : COLS) + (type == KERN_BF16 ? 3 : 0);
            int64_t n = stride * (transposed ? COLS : ROWS);
            uint8_t *data = test_bytes((size_t)n * bytes);
            for (int64_t i = 0; i < n; i++) {
                float v = test_uniform();
                uint16_t half = type == KERN_BF16 ? ph_f32_to_bf16(v) : ph_f32_to_f16(v);
                if (type == KERN_F32)
                    memcpy(data + i * 4, &v, 4);
                else if (type == KERN_FP8)
                    data[i] = ph_f32_to_fp8(v);
                else
                    memcpy(data + i * 2, &half, 2);
            }
            float *scale = test_values(16);
            kern_matrix_source s = {.rows = ROWS,
                                    .cols = COLS,
                                    .data = data,
                                    .stride = stride,
                                    .type = (kern_type)type,
                                    .transposed = transposed,
                                    .scale = scale,
                                    .scale_stride = 4,
                                    .scale_row0 = 70,
                                    .scale_col0 = 100};
            kern_matrix *m = NULL;
            assert_int_equal(gpu->matrix_make(gpu, &m, &s, KERN_F32, NULL), PH_OK);
            float x[COLS] = {0};
            int c = test_between(0, COLS - 1);
            x[c] = 1.0f;
            float *dx = floats_to_gpu(x, COLS), *dy = poison_gpu(ROWS * 4);
            gpu->matmul(gpu, &(kern_matmul){m, dx, dy, COLS, ROWS, 1, false});
            float *y = from_gpu(dy, ROWS * 4);
            for (int r = 0; r < ROWS; r++) assert_true(y[r] == kern_source_at(&s, r, c));
            gpu->matrix_free(gpu, m);
            gpu->free(gpu, dx);
            free(y);

            if (!transposed) {
                kern_embedding *e = NULL;
                int32_t tokens[100];
                assert_int_equal(gpu->embedding_make(gpu, &e, &s, NULL), PH_OK);
                for (int round = 0; round < 2; round++) { /* few tokens, and many */
                    int count = round ? 100 : 5;
                    for (int t = 0; t < count; t++) tokens[t] = test_between(0, ROWS - 1);
                    float *rows = poison_gpu((size_t)count * COLS * 4);
                    gpu->embed(gpu, &(kern_embed){e, tokens, rows, count});
                    float *got = from_gpu(rows, (size_t)count * COLS * 4);
                    for (int t = 0; t < count; t++)
                        for (int i = 0; i < COLS; i++)
                            assert_true(got[t * COLS + i] == kern_source_at(&s, tokens[t], i));
                    free(got);
                }
                gpu->embedding_free(gpu, e);
            }
            free(data), free(scale);
        }
    kern_matrix *m = (kern_matrix *)gpu;
    kern_matrix_source bad = {.rows = 1, .cols = 1, .data = "abcd", .stride = 1, .type = KERN_F32};
    assert_int_equal(gpu->matrix_make(gpu, &m, &bad, KERN_I8, NULL), PH_UNSUPPORTED);
    assert_null(m);
    bad.rows = 0;
    assert_int_equal(gpu->matrix_make(gpu, &m, &bad, KERN_F32, NULL), PH_USAGE);
    gpu->matrix_free(gpu, NULL);
}

enum { SCALES = 3200 }; /* factors of a source: 18,440 transposed columns, 20 a row of them */
static kern_matrix_source fp8_source(uint8_t *codes, float *scale, int rows, int cols, bool transposed) {
    for (int i = 0; i < rows * cols; i++) codes[i] = ph_f32_to_fp8(test_uniform() * (i % 7 ? 1.0f : 0.01f));
    for (int i = 0; i < SCALES; i++) scale[i] = test_uniform() + 1.5f;
    return (kern_matrix_source){.rows = rows,
                                .cols = cols,
                                .data = codes,
                                .stride = transposed ? rows : cols,
                                .type = KERN_FP8,
                                .transposed = transposed,
                                .scale = scale,
                                .scale_stride = 20,
                                .scale_row0 = transposed ? 8 * test_between(0, 30) : test_between(0, 255),
                                .scale_col0 = transposed ? test_between(0, 255) : 8 * test_between(0, 30)};
}

/* What a product with codes has of a row of x: fp16 numbers times a power of two for each segment of columns
 * (kernels/cuda/product.cuh). */
static void x_as_multiplied(const float *x, int cols, int segment, double *out) {
    for (int first = 0; first < cols; first += segment) {
        int end = first + segment < cols ? first + segment : cols, exponent = 0;
        float most = 0;
        for (int c = first; c < end; c++) most = fmaxf(most, fabsf(x[c]));
        frexpf(most, &exponent); /* most = [0.5, 1) 2^exponent */
        for (int c = first; c < end; c++)
            out[c] = ldexp(ph_f16_to_f32(ph_f32_to_f16(ldexpf(x[c], 15 - exponent))), exponent - 15);
    }
}

/* y, [rows], is the product of the source's numbers, unrounded, with x. */
static void assert_is_product(const float *y, const kern_matrix_source *s, const float *x, int segment) {
    double *as = calloc((size_t)s->cols, sizeof *as);
    x_as_multiplied(x, (int)s->cols, segment, as);
    for (int r = 0; r < s->rows; r++) {
        double want = 0, exact = 0, size = 1e-40;
        for (int c = 0; c < s->cols; c++) {
            double w = kern_source_at(s, r, c);
            want += w * as[c];
            exact += w * (double)x[c];
            size += fabs(w * as[c]);
        }
        assert_close(y[r], want, 2e-6 * size);
        assert_close(y[r], exact, (0x1p-11 + 2e-6) * size); /* no rounding but that of x */
    }
    free(as);
}

/* Matrices held as codes: right, and the same bits for few rows and many, with factors from anywhere. */
static void products_of_codes_are_right(void **state) {
    (void)state;
    const int shapes[][3] = {
        {1, 1, 0},     {64, 128, 0},    {150, 1036, 0}, {515, 129, 128},  {40, 520, 256},
        {21, 3333, 0}, {20, 2048, 512}, {9, 8200, 0},   {5, 18432, 1152}, {7, 18440, 1024},
        {33, 7168, 0}, {17, 1536, 0}}; /* up to nineteen segments of columns */
    const int counts[] = {1, 2, 7, 9, 16, 17, 48, 49, 130};
    bool before = gpu->holds_fp8;
    gpu->holds_fp8 = true;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes * 3; i++) {
        int rows = shapes[i / 3][0], cols = shapes[i / 3][1];
        if (test_small() && i % 3 != i / 3 % 3) continue;
        uint8_t *codes = test_bytes((size_t)(rows * cols));
        float *scale = test_array(SCALES), *x = test_values(130 * cols);
        kern_matrix_source s = fp8_source(codes, scale, rows, cols, i % 3 == 1);
        if (i % 3 == 2) s.scale_col0 = s.scale_row0 = 0; /* as released */
        if (i % 6 == 3) s.scale = NULL;
        s.segment = shapes[i / 3][2];
        for (int c = 0; c < cols; c++) { /* rows of all sizes, one of zeros, one with a few great numbers */
            x[cols * 3 + c] *= 1e-15f;
            x[cols * 4 + c] = 0;
            x[cols * 5 + c] *= c % 97 ? 1.0f : 3e4f;
            x[cols * 6 + c] *= 1e15f;
        }
        kern_matrix *m;
        assert_int_equal(gpu->matrix_make(gpu, &m, &s, KERN_BF16, NULL), PH_OK);
        float *dx = floats_to_gpu(x, 130 * cols), *all = NULL;
        for (int c = (int)(sizeof counts / sizeof *counts) - 1; c >= 0; c--) {
            int n = counts[c], from = c % 2 ? 3 : 0;
            if (test_small() && c % 4 != 0) continue; /* 1, 16, 130 rows */
            if (from + n > 130) from = 0;
            float *dy = poison_gpu((size_t)(n * rows) * 4);
            gpu->matmul(gpu, &(kern_matmul){m, dx + from * cols, dy, cols, rows, n, false});
            float *got = from_gpu(dy, (size_t)(n * rows) * 4);
            if (all) assert_same_bytes(got, all + from * rows, (size_t)(n * rows) * 4);
            for (int t = 0; t < (all ? 1 : 9); t++)
                assert_is_product(got + t * rows, &s, x + (from + t) * cols,
                                  s.segment ? (int)s.segment : 1024);
            if (all)
                free(got);
            else
                all = got;
        }
        gpu->free(gpu, dx);
        gpu->matrix_free(gpu, m);
        free(codes), free(scale), free(x), free(all);
    }
    /* neighbouring slices of one tensor, as heads have them; of one transposed slice the factors begin
     * elsewhere, of one they are such that it is held as bf16 */
    enum { HEADS = 5, ROWS = 24, COLS = 40, N = 60 };
    uint8_t *codes = test_bytes(HEADS * ROWS * COLS);
    float *scale = test_array(SCALES), *x = test_values(N * HEADS * COLS),
          *dx = floats_to_gpu(x, N * HEADS * COLS), *got[2];
    kern_matrix_source whole = fp8_source(codes, scale, HEADS * ROWS, COLS, false), part[HEADS];
    const kern_matrix *w[HEADS];
    for (int h = 0; h < HEADS; h++) {
        part[h] = whole;
        part[h].rows = ROWS;
        part[h].data = codes + h * ROWS * COLS;
        part[h].scale_row0 = whole.scale_row0 + h * ROWS;
        if (h == 1) part[h].scale_col0 = 96; /* they end in the middle */
        if (h == 2) part[h].scale_col0 += 3;
        kern_matrix *m = NULL;
        assert_int_equal(gpu->matrix_make(gpu, &m, &part[h], KERN_BF16, NULL), PH_OK);
        w[h] = m;
    }
    for (int j = 0; j < 2; j++) {
        int n = j ? N : 3;
        float *dy = poison_gpu((size_t)(n * HEADS * ROWS) * 4);
        gpu->matmul_each(gpu,
                         &(kern_matmul_each){w, HEADS, dx, dy, COLS, ROWS, HEADS * COLS, HEADS * ROWS, n});
        got[j] = from_gpu(dy, (size_t)(n * HEADS * ROWS) * 4);
    }
    for (int h = 0; h < HEADS; h++) {
        for (int t = 0; t < 3 && h != 2; t++)
            assert_is_product(got[1] + t * HEADS * ROWS + h * ROWS, &part[h], x + t * HEADS * COLS + h * COLS,
                              1024);
        gpu->matrix_free(gpu, (kern_matrix *)w[h]);
    }
    assert_same_bytes(got[1], got[0], 3 * HEADS * ROWS * 4);
    gpu->holds_fp8 = before;
    gpu->free(gpu, dx);
    free(codes), free(scale), free(x), free(got[0]), free(got[1]);
}

static void norms_are_right(void **state) {
    (void)state;
    const int dims[] = {1, 3, 16, 24, 63, 64, 129, 512, 1030, 7168};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        int dim = dims[i], n = i == 7 ? 1290 : 3;
        int64_t xs = dim + 2, size = (int64_t)n * dim;
        float *x = test_values((int64_t)n * xs), *w = test_values(dim), *b = test_values(dim),
              *want = test_array(size);
        float *dx = floats_to_gpu(x, (int64_t)n * xs), *dw = floats_to_gpu(w, dim),
              *db = floats_to_gpu(b, dim);
        float *dy = poison_gpu((size_t)size * 4);
        gpu->rmsnorm(gpu, &(kern_rmsnorm){dx, dw, dy, xs, dim, n, dim, 1e-6f});
        cpu->rmsnorm(cpu, &(kern_rmsnorm){x, w, want, xs, dim, n, dim, 1e-6f});
        float *got = from_gpu(dy, (size_t)size * 4);
        assert_near(got, want, size, 2e-5, "rmsnorm");
        free(got);
        dy = poison_gpu((size_t)size * 4);
        gpu->layernorm(gpu, &(kern_layernorm){dx, dw, db, dy, n, dim, 1e-6f});
        cpu->layernorm(cpu, &(kern_layernorm){x, w, b, want, n, dim, 1e-6f});
        got = from_gpu(dy, (size_t)size * 4);
        assert_near(got, want, size, dim == 1 ? 1e-3 : 1e-4, "layernorm");
        free(got);
        /* in place, one row alone */
        gpu->rmsnorm(gpu, &(kern_rmsnorm){dx + xs, dw, dx + xs, xs, xs, 1, dim, 1e-6f});
        cpu->rmsnorm(cpu, &(kern_rmsnorm){x + xs, w, x + xs, xs, xs, 1, dim, 1e-6f});
        got = from_gpu(dx, (size_t)n * (size_t)xs * 4);
        assert_near(got, x, (int64_t)n * xs, 2e-5, "rmsnorm in place");
        free(got);
        gpu->free(gpu, dw);
        gpu->free(gpu, db);
        free(x), free(w), free(b), free(want);
    }
}

static void rope_is_right(void **state) {
    (void)state;
    const int shapes[][3] = {{1, 1, 2}, {5, 3, 16}, {70, 8, 32}, {2, 130, 64}, {300, 1, 32}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes * 2; i++) {
        int n = shapes[i / 2][0], heads = shapes[i / 2][1], rot = shapes[i / 2][2];
        int64_t head = rot + 5, tok = head * heads + 3;
        float *x = test_values(n * tok), *freq = test_array(rot / 2);
        for (int j = 0; j < rot / 2; j++) freq[j] = powf(1e6f, -2.0f * (float)j / (float)rot);
        float *dx = floats_to_gpu(x, n * tok), *df = floats_to_gpu(freq, rot / 2);
        kern_rope a = {dx, tok, head, df, n, heads, rot, test_between(0, 131071 - n), KERN_ROPE_INTERLEAVED};
        if (i % 2) a.layout = KERN_ROPE_HALF_SPLIT;
        gpu->rope(gpu, &a);
        a.x = x, a.freq = freq;
        cpu->rope(cpu, &a);
        float *got = from_gpu(dx, (size_t)(n * tok) * 4);
        assert_near(got, x, n * tok, 1e-6, "rope");
        gpu->free(gpu, df);
        free(x), free(freq), free(got);
    }
}

static void small_operations_are_right(void **state) {
    (void)state;
    for (int dim = 2; dim <= 1024; dim *= 2) {
        int64_t n = (int64_t)dim * 37;
        float *x = test_values(n), *dx = floats_to_gpu(x, n);
        gpu->hadamard(gpu, &(kern_hadamard){dx, 37, dim});
        cpu->hadamard(cpu, &(kern_hadamard){x, 37, dim});
        float *got = from_gpu(dx, (size_t)n * 4);
        assert_same_bytes(got, x, (size_t)n * 4);
        free(x), free(got);
    }
    const int sizes[] = {1, 31, 257, 100003};
    for (int i = 0; i < 4; i++) {
        int n = sizes[i];
        float *gate = test_values(n), *up = test_values(n), *want = test_array(n);
        for (int j = 0; j < n; j++) gate[j] *= 20;
        float *dg = floats_to_gpu(gate, n), *du = floats_to_gpu(up, n);
        gpu->swiglu(gpu, &(kern_swiglu){dg, du, dg, n});
        cpu->swiglu(cpu, &(kern_swiglu){gate, up, want, n});
        float *got = from_gpu(dg, (size_t)n * 4);
        assert_near(got, want, n, 1e-5, "swiglu");
        gpu->free(gpu, du);
        free(gate), free(up), free(want), free(got);
    }
    for (int scaled = 0; scaled < 2; scaled++) {
        enum { N = 77, DIM = 131 };
        float *x = test_values(N * DIM), *y = test_values(N * DIM), *s = test_values(N);
        float *dx = floats_to_gpu(x, N * DIM), *dy = floats_to_gpu(y, N * DIM), *ds = floats_to_gpu(s, N);
        gpu->add(gpu, &(kern_add){dx, scaled ? ds : NULL, dy, N, DIM});
        cpu->add(cpu, &(kern_add){x, scaled ? s : NULL, y, N, DIM});
        float *got = from_gpu(dy, N * DIM * 4);
        assert_same_bytes(got, y, N * DIM * 4);
        gpu->free(gpu, dx);
        gpu->free(gpu, ds);
        free(x), free(y), free(s), free(got);
    }
}

/* tokens, experts, picks, groups, groups picked */
static const int ROUTES[][5] = {{1, 1, 1, 1, 1},   {33, 8, 3, 4, 2},   {70, 256, 8, 8, 4},
                                {5, 160, 6, 1, 1}, {40, 64, 64, 1, 1}, {9, 30, 4, 3, 3}};

static void routing_is_the_same(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof ROUTES / sizeof *ROUTES * 2; i++) {
        const int *r = ROUTES[i / 2];
        int n = r[0], experts = r[1], picks = r[2];
        bool ties = i % 2;
        float *logits = test_values((int64_t)n * experts), *bias = test_values(experts);
        if (ties)
            for (int j = 0; j < n * experts; j++) logits[j] = (float)test_between(-1, 1);
        for (int j = 0; j < experts; j++) bias[j] = ties ? 0 : bias[j] / 8;
        float *dl = floats_to_gpu(logits, (int64_t)n * experts), *db = floats_to_gpu(bias, experts);
        int32_t *de = poison_gpu((size_t)n * (size_t)picks * 4),
                *we = test_bytes((size_t)n * (size_t)picks * 4);
        float *dw = poison_gpu((size_t)n * (size_t)picks * 4), *ww = test_array(n * picks);
        kern_route a = {dl, ties ? NULL : db, de, dw, n, experts, picks, r[3], r[4], i % 3 == 0, 2.5f};
        gpu->route(gpu, &a);
        a.logits = logits, a.bias = ties ? NULL : bias, a.expert = we, a.weight = ww;
        cpu->route(cpu, &a);
        int32_t *ge = from_gpu(de, (size_t)n * (size_t)picks * 4);
        float *gw = from_gpu(dw, (size_t)n * (size_t)picks * 4);
        assert_same_bytes(ge, we, (size_t)n * (size_t)picks * 4);
        assert_near(gw, ww, n * picks, 1e-5, "weights");
        gpu->free(gpu, dl);
        gpu->free(gpu, db);
        free(logits), free(bias), free(ge), free(we), free(gw), free(ww);
    }
}

typedef struct expert_set {
    const kern_matrix **w[3];
    int n;
} expert_set;

static expert_set make_experts(kern *k, float *const *w, int n, int hidden, int width, kern_type keep) {
    expert_set s = {.n = n};
    for (int j = 0; j < 3; j++) {
        s.w[j] = calloc((size_t)n, sizeof *s.w[j]);
        int64_t rows = j < 2 ? width : hidden, cols = j < 2 ? hidden : width;
        for (int e = 0; e < n; e++) s.w[j][e] = make(k, w[j] + e * rows * cols, rows, cols, keep);
    }
    return s;
}

static void free_experts(kern *k, expert_set *s) {
    for (int j = 0; j < 3; j++) {
        for (int e = 0; e < s->n; e++) k->matrix_free(k, (kern_matrix *)s->w[j][e]);
        free(s->w[j]);
    }
}

static void experts_are_right(void **state) {
    (void)state;
    /* tokens, experts, picks, hidden, width: few rows an expert, many, all on one */
    const int shapes[][5] = {{1, 8, 3, 64, 48},    {160, 8, 3, 64, 48}, {700, 8, 2, 96, 40},
                             {33, 64, 6, 128, 33}, {5, 1, 1, 16, 16},   {300, 1, 1, 64, 64},
                             {2, 256, 8, 64, 32}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes * 2; i++) {
        const int *s = shapes[i / 2];
        int n = s[0], experts = s[1], picks = s[2], hidden = s[3], width = s[4];
        kern_type keep = i % 2 ? KERN_BF16 : KERN_F32;
        float *w[3];
        for (int j = 0; j < 3; j++) w[j] = test_values((int64_t)experts * hidden * width);
        expert_set g = make_experts(gpu, w, experts, hidden, width, keep),
                   c = make_experts(cpu, w, experts, hidden, width, keep);
        float *x = test_values((int64_t)n * hidden), *y = test_values((int64_t)n * hidden),
              *weight = test_values(n * picks);
        int32_t *expert = test_bytes((size_t)(n * picks) * 4);
        for (int j = 0; j < n * hidden; j++) x[j] /= 8;
        for (int t = 0; t < n; t++)
            for (int p = 0; p < picks; p++) { /* different ones, in any order; the last are often left out */
                bool again = true;
                while (again) {
                    expert[t * picks + p] = test_between(0, experts - 1);
                    again = false;
                    for (int o = 0; o < p; o++) again |= expert[t * picks + o] == expert[t * picks + p];
                }
            }
        float *dx = floats_to_gpu(x, (int64_t)n * hidden), *dy = floats_to_gpu(y, (int64_t)n * hidden),
              *dw = floats_to_gpu(weight, n * picks);
        int32_t *de = to_gpu(expert, (size_t)(n * picks) * 4);
        float *in = test_array((int64_t)n * hidden), *out = test_array((int64_t)n * hidden),
              *scale = test_array(n), *gate = test_array((int64_t)n * width),
              *up = test_array((int64_t)n * width);
        kern_experts a = {.gate = g.w[0],
                          .up = g.w[1],
                          .down = g.w[2],
                          .n_expert = experts,
                          .n_pick = picks,
                          .expert = de,
                          .weight = dw,
                          .x = dx,
                          .y = dy,
                          .n_tok = n,
                          .hidden = hidden,
                          .width = width};
        gpu->experts(gpu, &a);
        float *one = floats_to_gpu(y, (int64_t)n * hidden); /* the last token by itself: the same bits */
        kern_experts last = a;
        last.expert += (n - 1) * picks, last.weight += (n - 1) * picks, last.x += (int64_t)(n - 1) * hidden;
        last.y = one + (int64_t)(n - 1) * hidden, last.n_tok = 1;
        gpu->experts(gpu, &last);
        a.gate = c.w[0], a.up = c.w[1], a.down = c.w[2], a.expert = expert, a.weight = weight, a.x = x,
        a.y = y;
        a.rows_in = in, a.rows_out = out, a.rows_scale = scale, a.rows_gate = gate, a.rows_up = up;
        cpu->experts(cpu, &a);
        float *got = from_gpu(dy, (size_t)n * (size_t)hidden * 4),
              *alone = from_gpu(one, (size_t)n * (size_t)hidden * 4);
        /* bf16 rounds what silu gives: the last bit of the CPU's exponential moves it now and then */
        assert_near(got, y, (int64_t)n * hidden, keep == KERN_BF16 ? 2e-2 : 2e-4, "experts");
        assert_same_bytes(alone + (int64_t)(n - 1) * hidden, got + (int64_t)(n - 1) * hidden,
                          (size_t)hidden * 4);
        free_experts(gpu, &g);
        free_experts(cpu, &c);
        gpu->free(gpu, dx);
        gpu->free(gpu, dw);
        gpu->free(gpu, de);
        free(x), free(y), free(weight), free(expert), free(in), free(out), free(scale), free(gate), free(up);
        free(got), free(alone);
        for (int j = 0; j < 3; j++) free(w[j]);
    }
}

/* Every third expert from 0, 1 and 2 on: together what one backend with all of them gives, and each part what
 * the CPU has. */
static void experts_in_parts(void **state) {
    (void)state;
    enum { EXPERTS = 8, PICKS = 3, HIDDEN = 96, WIDTH = 40, STEP = 3 };
    for (int n = 1; n <= 400; n += 399) {
        float *w[3];
        for (int j = 0; j < 3; j++) w[j] = test_values(EXPERTS * HIDDEN * WIDTH);
        expert_set g = make_experts(gpu, w, EXPERTS, HIDDEN, WIDTH, KERN_F32),
                   c = make_experts(cpu, w, EXPERTS, HIDDEN, WIDTH, KERN_F32);
        float *x = test_values((int64_t)n * HIDDEN), *y = test_values((int64_t)n * HIDDEN),
              *weight = test_values(n * PICKS);
        int32_t *expert = test_bytes((size_t)(n * PICKS) * 4);
        for (int j = 0; j < n * HIDDEN; j++) x[j] /= 8;
        for (int t = 0; t < n; t++)
            for (int p = 0; p < PICKS; p++)
                expert[t * PICKS + p] = (t + 2 * p + (test_random() & 1)) % EXPERTS;
        float *dx = floats_to_gpu(x, (int64_t)n * HIDDEN), *dw = floats_to_gpu(weight, n * PICKS);
        int32_t *de = to_gpu(expert, (size_t)(n * PICKS) * 4);
        float *in = test_array((int64_t)n * HIDDEN), *out = test_array((int64_t)n * HIDDEN),
              *scale = test_array(n), *gate = test_array((int64_t)n * WIDTH),
              *up = test_array((int64_t)n * WIDTH);
        for (int first = 0; first < STEP; first++) {
            const kern_matrix *own[2][3][EXPERTS];
            int here = 0;
            for (int e = first; e < EXPERTS; e += STEP, here++)
                for (int j = 0; j < 3; j++) own[0][j][here] = g.w[j][e], own[1][j][here] = c.w[j][e];
            float *dy = floats_to_gpu(y, (int64_t)n * HIDDEN), *want = test_array((int64_t)n * HIDDEN);
            memcpy(want, y, (size_t)n * HIDDEN * 4);
            kern_experts a = {.gate = own[0][0],
                              .up = own[0][1],
                              .down = own[0][2],
                              .n_expert = here,
                              .n_pick = PICKS,
                              .first = first,
                              .step = STEP,
                              .n_routed = EXPERTS,
                              .expert = de,
                              .weight = dw,
                              .x = dx,
                              .y = dy,
                              .n_tok = n,
                              .hidden = HIDDEN,
                              .width = WIDTH};
            gpu->experts(gpu, &a);
            a.gate = own[1][0], a.up = own[1][1], a.down = own[1][2], a.expert = expert, a.weight = weight,
            a.x = x, a.y = want;
            a.rows_in = in, a.rows_out = out, a.rows_scale = scale, a.rows_gate = gate, a.rows_up = up;
            cpu->experts(cpu, &a);
            float *got = from_gpu(dy, (size_t)n * HIDDEN * 4);
            assert_near(got, want, (int64_t)n * HIDDEN, 2e-4, "a part of the experts");
            free(got), free(want);
        }
        free_experts(gpu, &g);
        free_experts(cpu, &c);
        gpu->free(gpu, dx);
        gpu->free(gpu, dw);
        gpu->free(gpu, de);
        free(x), free(y), free(weight), free(expert), free(in), free(out), free(scale), free(gate), free(up);
        for (int j = 0; j < 3; j++) free(w[j]);
    }
    assert_went_well();
}

/* The CPU's bits. */
static void sums_have_one_order(void **state) {
    (void)state;
    const int64_t counts[] = {1, 255, 40001};
    for (int i = 0; i < 6; i++) {
        int64_t n = counts[i / 2], stride = n + 5;
        int parts = test_between(1, 9);
        float *x = test_values(parts * stride), *y = test_values(n);
        float *dx = floats_to_gpu(x, parts * stride), *dy = floats_to_gpu(y, n);
        kern_sum a = {.parts = dx, .y = dy, .stride = stride, .n = n, .n_part = parts, .accumulate = i % 2};
        gpu->sum(gpu, &a);
        a.parts = x, a.y = y;
        cpu->sum(cpu, &a);
        float *got = from_gpu(dy, (size_t)n * 4);
        assert_same_bytes(got, y, (size_t)n * 4);
        gpu->free(gpu, dx);
        free(x), free(y), free(got);
    }
    assert_went_well();
}

/* Experts whose matrices are held as codes: near a sum in double, the same bits for few tokens and
 * many, and however the codes' blocks of factors lie. */
static void experts_of_codes_are_right(void **state) {
    (void)state;
    enum { EXPERTS = 3, PICKS = 2, HIDDEN = 1096, WIDTH = 72, N = 200, SIZE = HIDDEN * WIDTH };
    const int counts[] = {1, 7, 10, N};
    uint8_t *codes = test_bytes(3 * EXPERTS * SIZE);
    float *scale = test_array(SCALES), *x = test_values(N * HIDDEN), *y = test_values(N * HIDDEN),
          *w = test_values(N * PICKS);
    int32_t expert[N * PICKS];
    for (int t = 0; t < N; t++) {
        expert[2 * t] = test_between(0, 2);
        expert[2 * t + 1] = (expert[2 * t] + test_between(1, 2)) % 3;
    }
    for (int i = 0; i < N * HIDDEN; i++) x[i] /= 16;
    for (int i = 0; i < N * PICKS; i++) w[i] = fabsf(w[i]);
    float *dx = floats_to_gpu(x, N * HIDDEN), *dw = floats_to_gpu(w, N * PICKS);
    int32_t *de = to_gpu(expert, sizeof expert);
    bool before = gpu->holds_fp8;
    gpu->holds_fp8 = true;
    for (int shifted = 0; shifted < 2; shifted++) {
        const kern_matrix *m[3][EXPERTS];
        float *number[3][EXPERTS];
        for (int j = 0; j < 3; j++)
            for (int e = 0; e < EXPERTS; e++) {
                int rows = j < 2 ? WIDTH : HIDDEN, cols = j < 2 ? HIDDEN : WIDTH;
                kern_matrix_source s = fp8_source(codes + (j * EXPERTS + e) * SIZE, scale, rows, cols, false);
                if (!shifted) s.scale_row0 = s.scale_col0 = 0;
                kern_matrix *made = NULL;
                assert_int_equal(gpu->matrix_make(gpu, &made, &s, KERN_BF16, NULL), PH_OK);
                m[j][e] = made;
                number[j][e] = test_array(SIZE);
                for (int i = 0; i < SIZE; i++) number[j][e][i] = kern_source_at(&s, i / cols, i % cols);
            }
        float *all = NULL;
        for (int c = (int)(sizeof counts / sizeof *counts) - 1; c >= 0; c--) {
            int n = counts[c];
            float *dy = floats_to_gpu(y, N * HIDDEN);
            gpu->experts(gpu, &(kern_experts){.gate = m[0],
                                              .up = m[1],
                                              .down = m[2],
                                              .n_expert = EXPERTS,
                                              .n_pick = PICKS,
                                              .expert = de,
                                              .weight = dw,
                                              .x = dx,
                                              .y = dy,
                                              .n_tok = n,
                                              .hidden = HIDDEN,
                                              .width = WIDTH});
            float *got = from_gpu(dy, N * HIDDEN * 4);
            if (all) assert_same_bytes(got, all, (size_t)(n * HIDDEN) * 4);
            assert_same_bytes(got + n * HIDDEN, y + n * HIDDEN, (size_t)((N - n) * HIDDEN) * 4);
            if (all)
                free(got);
            else
                all = got;
        }
        for (int t = 0; t < 5; t++) {
            double want[HIDDEN], size[HIDDEN];
            for (int i = 0; i < HIDDEN; i++) want[i] = (double)y[t * HIDDEN + i], size[i] = fabs(want[i]);
            for (int pick = 0; pick < PICKS; pick++) {
                int e = expert[t * PICKS + pick];
                double middle[WIDTH], factor = (double)w[t * PICKS + pick];
                for (int r = 0; r < WIDTH; r++) {
                    double g = 0, u = 0;
                    for (int i = 0; i < HIDDEN; i++) {
                        g += (double)number[0][e][r * HIDDEN + i] * (double)x[t * HIDDEN + i];
                        u += (double)number[1][e][r * HIDDEN + i] * (double)x[t * HIDDEN + i];
                    }
                    middle[r] = g / (1 + exp(-g)) * u;
                }
                for (int i = 0; i < HIDDEN; i++)
                    for (int r = 0; r < WIDTH; r++) {
                        want[i] += factor * middle[r] * (double)number[2][e][i * WIDTH + r];
                        size[i] += fabs(factor * middle[r] * (double)number[2][e][i * WIDTH + r]);
                    }
            }
            for (int i = 0; i < HIDDEN; i++) assert_close(all[t * HIDDEN + i], want[i], 3e-3 * size[i]);
        }
        free(all);
        for (int j = 0; j < 3; j++)
            for (int e = 0; e < EXPERTS; e++) {
                gpu->matrix_free(gpu, (kern_matrix *)m[j][e]);
                free(number[j][e]);
            }
    }
    gpu->holds_fp8 = before;
    gpu->free(gpu, dx);
    gpu->free(gpu, dw);
    gpu->free(gpu, de);
    free(codes), free(scale), free(x), free(y), free(w);
}

int main(void) {
    int code = test_cuda_begin();
    if (code) return code;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_goes_there_and_back),
        cmocka_unit_test(too_much_memory_is_told),
        cmocka_unit_test(products_are_right),
        cmocka_unit_test(a_row_does_not_depend_on_its_company),
        cmocka_unit_test(heads_are_products_of_their_own),
        cmocka_unit_test(matrices_from_every_format),
        cmocka_unit_test(products_of_codes_are_right),
        cmocka_unit_test(norms_are_right),
        cmocka_unit_test(rope_is_right),
        cmocka_unit_test(small_operations_are_right),
        cmocka_unit_test(routing_is_the_same),
        cmocka_unit_test(experts_in_parts),
        cmocka_unit_test(sums_have_one_order),
        cmocka_unit_test(experts_are_right),
        cmocka_unit_test(experts_of_codes_are_right),
    };
    code = cmocka_run_group_tests(tests, NULL, NULL);
    test_cuda_end();
    return code;
}
