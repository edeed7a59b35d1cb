/* test_cuda_bench.c - the timings behind `pharos bench --kernels`: refused where there is no Hopper GPU, and on one every
 * figure is there and makes sense. The figures themselves are for people. */
#include "kernels/kernel_bench.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static int n_told, n_ratio;

static void told(void *user, const kern_timing *t) {
    assert_ptr_equal(user, &n_told);
    n_told++;
    assert_true(t->part && *t->part);
    assert_true(*t->what != 0);
    assert_true(isfinite(t->seconds) && isfinite(t->work) && isfinite(t->ratio));
    if (t->ratio != 0) {
        n_ratio++;
        assert_true(t->ratio > 0.05 && t->ratio < 1000);
        return;
    }
    assert_true(t->seconds > 0 && t->work > 0);
    /* reading from the L2 may beat the memory, nothing beats the products' peak */
    if (t->peak > 0) assert_true(t->work / t->seconds < t->peak * (t->bytes ? 4 : 1.05));
}

static void a_processor_is_refused(void **state) {
    (void)state;
    kern *k = NULL;
    ph_error err = {0};
    assert_int_equal(kern_open_cpu(&k, NULL, 1, &err), PH_OK);
    assert_int_equal(kern_cuda_time_v32(k, told, &n_told, &err), PH_UNSUPPORTED);
    assert_non_null(strstr(err.text, "CUDA"));
    assert_int_equal(n_told, 0);
    k->close(k);
}

static void every_figure_is_told(void **state) {
    (void)state;
    kern *k = NULL;
    ph_error err = {0};
    if (kern_open_cuda(&k, 0, &err)) {
        print_message("skipped: %s\n", err.text);
        skip();
    }
    int code = kern_cuda_time_v32(k, told, &n_told, &err);
    if (code == PH_UNSUPPORTED || code == PH_MEMORY) {
        print_message("skipped: %s\n", err.text);
        k->close(k);
        skip();
    }
    assert_int_equal(code, PH_OK);
    assert_true(n_told > 30);
    assert_int_equal(n_ratio, 4);
    k->close(k);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_processor_is_refused),
        cmocka_unit_test(every_figure_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
