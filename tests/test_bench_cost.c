/* test_bench_cost.c - the cost curve: what a token costs, and the table and picture made of it. */
#include "appliance/bench.h"
#include "tests/program.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static bench_result measured(void) {
    bench_result r = {.n_marks = 3};
    r.marks[0] = (bench_mark){1024, 1e-5, 2e-5, 1e-3, 1.5e-3};
    r.marks[1] = (bench_mark){32768, 2e-5, 3e-4, 1.1e-3, 4e-3};
    r.marks[2] = (bench_mark){130816, 3e-5, 0, 1.2e-3, 1e-2}; /* no room for a dense step at the end */
    return r;
}

static void a_token_has_a_price(void **state) {
    (void)state;
    /* 1 ms a token is 1000 s a million, at 3.60 an hour a dollar */
    assert_true(fabs(bench_dollars(1e-3, 3.6) - 1) < 1e-12);
    assert_true(fabs(bench_dollars(1e-3, 7.2) - 2) < 1e-12);
}

static void the_table_has_every_mark(void **state) {
    (void)state;
    char *dir = make_folder();
    const char *path = in_folder(dir, "cost.csv");
    bench_result r = measured();
    ph_error err;
    size_t size;
    assert_int_equal(bench_write_csv(&r, 3.6, path, &err), PH_OK);
    char *text = read_whole(path, &size);
    assert_string_equal(text, "position,prefill_sparse,prefill_dense,decode_sparse,decode_dense\n"
                              "1024,0.01,0.02,1,1.5\n"
                              "32768,0.02,0.3,1.1,4\n"
                              "130816,0.03,,1.2,10\n");
    free(text);
    assert_int_equal(bench_write_csv(&r, 3.6, in_folder(dir, "none/cost.csv"), &err), PH_FAIL);
    assert_non_null(strstr(err.text, "none/cost.csv"));
    remove_folder(dir);
}

/* Number of points in the n-th line of the picture. */
static int points_of(const char *svg, int n) {
    const char *p = svg;
    for (int i = 0; i <= n; i++) {
        p = strstr(p, "<polyline");
        assert_non_null(p);
        p = strstr(p, "points=\"");
        assert_non_null(p);
        p += 8;
    }
    int points = 0;
    for (; *p != '"'; p++) points += *p == ',';
    return points;
}

/* Where the n-th line's name stands, from above. */
static double name_at(const char *svg, const char *name) {
    const char *end = strstr(svg, name), *y = NULL;
    assert_non_null(end);
    for (const char *p = svg; (p = strstr(p, " y=\"")) && p < end; p++) y = p + 4;
    assert_non_null(y);
    return strtod(y, NULL);
}

static void the_picture_has_every_line(void **state) {
    (void)state;
    char *dir = make_folder();
    const char *path = in_folder(dir, "cost.svg");
    bench_result r = measured();
    ph_error err;
    size_t size;
    assert_int_equal(bench_write_svg(&r, 2, "a<b&c", "cuda", path, &err), PH_OK);
    char *text = read_whole(path, &size);
    assert_null(strstr(text, "nan"));
    assert_null(strstr(text, "inf"));
    assert_int_equal(points_of(text, 0), 3);
    assert_int_equal(points_of(text, 1), 2);
    assert_int_equal(points_of(text, 2), 3);
    assert_int_equal(points_of(text, 3), 3);
    assert_non_null(strstr(text, "a&#60;b&#38;c, cuda"));
    free(text);
    /* Lines that end together: their names do not. */
    for (int i = 0; i < r.n_marks; i++) r.marks[i].dense_decode = r.marks[i].sparse_decode = r.marks[i].dense = r.marks[i].sparse;
    assert_int_equal(bench_write_svg(&r, 2, "m", "cuda", path, &err), PH_OK);
    text = read_whole(path, &size);
    static const char *const names[] = {"prefill, sparse", "prefill, dense", "decode, sparse", "decode, dense"};
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < i; j++) {
            double apart = name_at(text, names[i]) - name_at(text, names[j]);
            assert_true(apart > 12 || apart < -12);
        }
    free(text);
    r.n_marks = 1; /* a line of one point is still a picture */
    assert_int_equal(bench_write_svg(&r, 2, "a<b&c", "cuda", path, &err), PH_OK);
    text = read_whole(path, &size);
    assert_null(strstr(text, "nan"));
    free(text);
    r.n_marks = 0;
    assert_int_equal(bench_write_svg(&r, 2, "a<b&c", "cuda", path, &err), PH_USAGE);
    remove_folder(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_has_a_price),
        cmocka_unit_test(the_table_has_every_mark),
        cmocka_unit_test(the_picture_has_every_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
