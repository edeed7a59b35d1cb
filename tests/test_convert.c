/* test_convert.c - the number formats, to the bit. */
#include "tests/test_kernels.h"

static uint32_t bits(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float from_bits(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* The value of a code by the format's definition; NaN for its NaN codes, infinity for its infinities. */
static double value_of(uint32_t code, int exponent_bits, int mantissa_bits, bool ieee) {
    int bias = (1 << (exponent_bits - 1)) - 1;
    int exponent = (int)(code >> mantissa_bits) & ((1 << exponent_bits) - 1);
    int mantissa = (int)code & ((1 << mantissa_bits) - 1);
    int top = (1 << exponent_bits) - 1;
    double sign = code >> (exponent_bits + mantissa_bits) & 1 ? -1.0 : 1.0;
    if (ieee && exponent == top) return mantissa ? (double)NAN : sign * (double)INFINITY;
    if (!ieee && exponent == top && mantissa == (1 << mantissa_bits) - 1) return (double)NAN;
    if (exponent == 0) return sign * ldexp(mantissa, 1 - bias - mantissa_bits);
    return sign * ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
}

static void check_value(float got, double want) {
    if (isnan(want)) {
        assert_true(isnan(got));
        return;
    }
    assert_true((double)got == want && signbit(got) == signbit((float)want));
}

static void every_code_has_its_value(void **state) {
    for (uint32_t c = 0; c < 65536; c++) {
        check_value(ph_bf16_to_f32((uint16_t)c), value_of(c, 8, 7, true));
        check_value(ph_f16_to_f32((uint16_t)c), value_of(c, 5, 10, true));
    }
    for (uint32_t c = 0; c < 256; c++) check_value(ph_fp8_to_f32((uint8_t)c), value_of(c, 4, 3, false));
    assert_true(ph_fp8_to_f32(0x7e) == 448.0f);
}

static void every_code_comes_back(void **state) {
    for (uint32_t c = 0; c < 65536; c++) {
        float b = ph_bf16_to_f32((uint16_t)c), h = ph_f16_to_f32((uint16_t)c);
        if (isnan(b))
            assert_true(isnan(ph_bf16_to_f32(ph_f32_to_bf16(b))));
        else
            assert_int_equal(ph_f32_to_bf16(b), c);
        if (isnan(h))
            assert_true(isnan(ph_f16_to_f32(ph_f32_to_f16(h))));
        else
            assert_int_equal(ph_f32_to_f16(h), c);
    }
    for (uint32_t c = 0; c < 256; c++)
        if ((c & 0x7f) != 0x7f) assert_int_equal(ph_f32_to_fp8(ph_fp8_to_f32((uint8_t)c)), c);
}

/* Between each pair of neighbours: halfway goes to the even code, next to halfway to the nearer one. */
static void halfway_goes_to_even(void **state) {
    for (uint32_t sign = 0; sign < 2; sign++) {
        for (uint32_t c = 0; c < 0x7f7f; c++) {
            uint32_t middle = sign << 31 | c << 16 | 0x8000u, base = sign << 15 | c;
            assert_int_equal(ph_f32_to_bf16(from_bits(middle)), base + (c & 1));
            assert_int_equal(ph_f32_to_bf16(from_bits(middle - 1)), base);
            assert_int_equal(ph_f32_to_bf16(from_bits(middle + 1)), base + 1);
        }
        for (uint32_t c = 0; c < 0x7bff; c++) {
            uint32_t base = sign << 15 | c;
            float middle = (float)((value_of(base, 5, 10, true) + value_of(base + 1, 5, 10, true)) / 2);
            assert_int_equal(ph_f32_to_f16(middle), base + (c & 1));
            assert_int_equal(ph_f32_to_f16(from_bits(bits(middle) - 1)), base);
            assert_int_equal(ph_f32_to_f16(from_bits(bits(middle) + 1)), base + 1);
        }
        for (uint32_t c = 0; c < 0x7e; c++) {
            uint32_t base = sign << 7 | c;
            float middle = (float)((value_of(base, 4, 3, false) + value_of(base + 1, 4, 3, false)) / 2);
            assert_int_equal(ph_f32_to_fp8(middle), base + (c & 1));
            assert_int_equal(ph_f32_to_fp8(from_bits(bits(middle) - 1)), base);
            assert_int_equal(ph_f32_to_fp8(from_bits(bits(middle) + 1)), base + 1);
        }
    }
}

static void ends_of_the_ranges(void **state) {
    assert_int_equal(ph_f32_to_bf16(from_bits(0x7f7fffff)), 0x7f80);
    assert_int_equal(ph_f32_to_bf16(INFINITY), 0x7f80);
    assert_true(isnan(ph_bf16_to_f32(ph_f32_to_bf16(from_bits(0x7f800001)))));
    assert_int_equal(ph_f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(ph_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(ph_f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(ph_f32_to_f16(from_bits(1)), 0);
    assert_true(isnan(ph_f16_to_f32(ph_f32_to_f16(NAN))));
    assert_int_equal(ph_f32_to_fp8(1e9f), 0x7e);
    assert_int_equal(ph_f32_to_fp8(-INFINITY), 0xfe);
    assert_int_equal(ph_f32_to_fp8(NAN), 0x7f);
    assert_int_equal(ph_f32_to_fp8(-NAN), 0x7f);
    assert_int_equal(ph_f32_to_fp8(-1e-30f), 0x80);
    assert_int_equal(ph_f32_to_fp8(from_bits(1)), 0);
}

static void fp8_groups_have_power_of_two_scales(void **state) {
    for (int round = 0; round < 200; round++) {
        float x[129];
        uint8_t out[129];
        size_t n = 1 + test_random() % 129;
        double amax = 1e-4;
        for (size_t i = 0; i < n; i++) {
            x[i] = ldexpf(test_uniform(), (int)(test_random() % 40) - 20);
            if (fabs((double)x[i]) > amax) amax = fabs((double)x[i]);
        }
        if (round == 0) x[0] = 448.0f * 4, amax = 448.0 * 4, n = 1; /* exactly a power of two */
        float scale = ph_quantise_fp8_group(x, out, n);
        assert_true((double)scale == exp2(ceil(log2((double)(float)((float)amax / 448.0f)))));
        for (size_t i = 0; i < n; i++) assert_int_equal(out[i], ph_f32_to_fp8(x[i] / scale));
    }
    float zero[3] = {0, -0.0f, 0};
    uint8_t out[3];
    assert_true(ph_quantise_fp8_group(zero, out, 3) == exp2f(-22)); /* 1e-4 / 448 rounded up */
    assert_int_equal(out[0], 0);
}

static void int8_is_symmetric_and_rounds_to_even(void **state) {
    float x[5] = {127.0f, -127.0f, 2.5f, 3.5f, -0.5f};
    int8_t out[5];
    assert_true(ph_quantise_i8(x, out, 5) == 1.0f);
    const int8_t want[5] = {127, -127, 2, 4, 0};
    assert_memory_equal(out, want, 5);
    float zero[4] = {0}, odd[4] = {NAN, INFINITY, -INFINITY, 1.0f}, tiny[2] = {1e-45f, 0};
    assert_true(ph_quantise_i8(zero, out, 4) == 1.0f);
    assert_int_equal(out[0], 0);
    ph_quantise_i8(odd, out, 4); /* must only be defined */
    assert_true(ph_quantise_i8(tiny, out, 2) == 1.0f);
    assert_int_equal(out[0], 0);
    for (int round = 0; round < 200; round++) {
        float v[64];
        int8_t q[64];
        for (int i = 0; i < 64; i++) v[i] = test_uniform() * 3;
        float scale = ph_quantise_i8(v, q, 64);
        for (int i = 0; i < 64; i++) assert_true(fabsf(v[i] - q[i] * scale) <= scale * 0.5001f);
    }
}

static void sources_transpose_and_scale(void **state) {
    enum { ROWS = 150, COLS = 260, STRIDE = 270 };
    uint8_t *data = (uint8_t *)test_bytes(ROWS * STRIDE);
    for (int i = 0; i < ROWS * STRIDE; i++) data[i] = (uint8_t)(test_random() % 0x7f);
    float *scale = test_values(3 * 4);
    /* a slice that begins at row 100, column 30 of the block grid */
    kern_matrix_source s = {.rows = ROWS,
                            .cols = COLS,
                            .data = data,
                            .stride = STRIDE,
                            .type = KERN_FP8,
                            .scale = scale,
                            .scale_stride = 4,
                            .scale_row0 = 100,
                            .scale_col0 = 30};
    kern_matrix_source t = s;
    t.rows = COLS;
    t.cols = ROWS;
    t.transposed = true;
    float row[COLS];
    for (int r = 0; r < ROWS; r += 7) {
        kern_source_row(&s, r, row);
        for (int c = 0; c < COLS; c++) {
            float want = ph_fp8_to_f32(data[r * STRIDE + c]) * scale[(r + 100) / 128 * 4 + (c + 30) / 128];
            assert_true(row[c] == want);
            assert_true(kern_source_at(&s, r, c) == want);
            assert_true(kern_source_at(&t, c, r) == want);
        }
    }
    s.scale = NULL;
    assert_true(kern_source_at(&s, 3, 5) == ph_fp8_to_f32(data[3 * STRIDE + 5]));
    assert_int_equal(kern_type_bytes(KERN_F32), 4);
    assert_int_equal(kern_type_bytes(KERN_BF16), 2);
    assert_int_equal(kern_type_bytes(KERN_FP8), 1);
    assert_int_equal(kern_type_bytes((kern_type)99), 0);
    free(data);
    free(scale);
}

int main(void) {
    test_seed_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_its_value),
        cmocka_unit_test(every_code_comes_back),
        cmocka_unit_test(halfway_goes_to_even),
        cmocka_unit_test(ends_of_the_ranges),
        cmocka_unit_test(fp8_groups_have_power_of_two_scales),
        cmocka_unit_test(int8_is_symmetric_and_rounds_to_even),
        cmocka_unit_test(sources_transpose_and_scale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
