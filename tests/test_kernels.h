/* test_kernels.h - what the kernel tests share: backends, seeded numbers, exactly sized arrays. */
#ifndef PHAROS_TEST_KERNELS_H
#define PHAROS_TEST_KERNELS_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "kernels/convert.h"
#include "kernels/kernels.h"

static uint64_t test_seed;

/* A fresh seed each run, printed so that a failure can be repeated: PHAROS_TEST_SEED=... */
static inline void test_seed_begin(void) {
    const char *given = getenv("PHAROS_TEST_SEED");
    test_seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL) * 2654435761u + 1;
    if (!test_seed) test_seed = 1;
    printf("PHAROS_TEST_SEED=%llu\n", (unsigned long long)test_seed);
}

static inline uint32_t test_random(void) {
    test_seed ^= test_seed << 13;
    test_seed ^= test_seed >> 7;
    test_seed ^= test_seed << 17;
    return (uint32_t)(test_seed >> 32);
}

static inline float test_uniform(void) {
    return (float)(int32_t)test_random() / 2147483648.0f;
}

/* An exactly sized array, so that the sanitizer sees a read beyond it. */
static inline void *test_bytes(size_t n) {
    void *p = malloc(n ? n : 1);
    assert_non_null(p);
    memset(p, 0xff, n); /* as floats: NaN */
    return p;
}

static inline float *test_array(int64_t n) {
    return (float *)test_bytes((size_t)n * sizeof(float));
}

static inline float *test_values(int64_t n) {
    float *p = test_array(n);
    for (int64_t i = 0; i < n; i++) p[i] = test_uniform() + test_uniform();
    return p;
}

static inline kern *test_open(const char *name, int n_thread) {
    kern *k = NULL;
    ph_error err;
    assert_int_equal(kern_open_cpu(&k, name, n_thread, &err), PH_OK);
    assert_string_equal(k->name, name);
    assert_int_equal(k->n_thread, n_thread);
    return k;
}

/* Runs the body once for each backend of this machine, as `name`. */
#define FOR_BACKENDS(name)                                                                                   \
    for (const char *const *names_ = kern_cpu_names(), *name = *names_; name; name = *++names_)

#define assert_same_bytes(a, b, n) assert_memory_equal(a, b, n)

static inline void assert_close(float got, double want, double tolerance) {
    if (!(fabs((double)got - want) <= tolerance))
        fail_msg("got %.9g, want %.9g within %g", (double)got, want, tolerance);
}

static inline float test_bf16(float x) {
    return ph_bf16_to_f32(ph_f32_to_bf16(x));
}

#endif
