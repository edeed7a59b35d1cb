/* test_cuda.h - what the tests of the CUDA backend share: the device, or the line that says why there is none, and
 * arrays in its memory. The yardstick is the CPU backend on the same fresh random inputs. */
#ifndef PHAROS_TEST_CUDA_H
#define PHAROS_TEST_CUDA_H

#include "tests/test_kernels.h"

enum { TEST_SKIPPED = 77 }; /* what CTest takes for "skipped" */

static kern *gpu, *cpu;

/* Opens both; returns the exit status to end with, 0 to go on. $PHAROS_TEST_ONLY: the tests to run, with * and ?, so that a
 * checker that makes each of them slow can have them side by side. */
static inline int test_cuda_begin(void) {
    ph_error err = {0};
    test_seed_begin();
    if (getenv("PHAROS_TEST_ONLY")) cmocka_set_test_filter(getenv("PHAROS_TEST_ONLY"));
    if (kern_open_cuda(&gpu, 0, &err)) {
        printf("skipped: %s\n", err.text);
        return TEST_SKIPPED;
    }
    if (kern_open_cpu(&cpu, NULL, 0, &err)) {
        printf("%s\n", err.text);
        return 1;
    }
    return 0;
}

static inline void test_cuda_end(void) {
    gpu->close(gpu);
    cpu->close(cpu);
}

#define assert_went_well()                                                                                   \
    do {                                                                                                     \
        ph_error err_ = {0};                                                                                 \
        gpu->wait(gpu);                                                                                      \
        if (gpu->status(gpu, &err_)) fail_msg("%s", err_.text);                                              \
    } while (0)

/* Device memory with these bytes; freed by drop. */
static inline void *to_gpu(const void *host, size_t bytes) {
    void *p = NULL;
    assert_int_equal(gpu->alloc(gpu, &p, bytes, NULL), PH_OK);
    gpu->copy_in(gpu, p, host, bytes);
    return p;
}

static inline float *floats_to_gpu(const float *host, int64_t n) {
    return (float *)to_gpu(host, (size_t)n * sizeof *host);
}

/* Device memory full of NaNs. */
static inline void *poison_gpu(size_t bytes) {
    void *host = test_bytes(bytes), *p = to_gpu(host, bytes);
    free(host);
    return p;
}

/* What is there now, in host memory that the caller frees; the device memory is freed. */
static inline void *from_gpu(void *device, size_t bytes) {
    void *host = test_bytes(bytes);
    gpu->copy_out(gpu, host, device, bytes);
    gpu->free(gpu, device);
    assert_went_well();
    return host;
}

/* Whether every kernel is to run, but no more often than it takes. */
static inline bool test_small(void) {
    return getenv("PHAROS_TEST_SMALL") != NULL;
}

/* Whether a case is left out: $PHAROS_TEST_SMALL is the most multiplications, about, that one may have (under a memory
 * checker each takes 100 times as long). */
static inline bool test_too_big(double work) {
    const char *most = getenv("PHAROS_TEST_SMALL");
    return most && work > strtod(most, NULL);
}

static inline int test_between(int low, int high) {
    return low + (int)(test_random() % (unsigned)(high - low + 1));
}

/* e4m3 with a power of two for the row, as the release rounds index queries, keys and latents: codes' values into out, the
 * factor returned. */
static inline float coded(const float *x, float *out, int dim) {
    double amax = 1e-4;
    for (int i = 0; i < dim; i++) amax = fmax(amax, fabs((double)x[i]));
    double s = exp2(ceil(log2((double)((float)amax / 448.0f))));
    for (int i = 0; i < dim; i++) {
        double v = fabs((double)x[i]) / s, unit = v < 0x1p-6 ? 0x1p-9 : exp2(floor(log2(v)) - 3);
        out[i] = (float)copysign(fmin(nearbyint(v / unit) * unit, 448), (double)x[i]);
    }
    return (float)s;
}

/* |got - want| <= tolerance * (1 + |want|), NaN alike. */
static inline void assert_near(const float *got, const float *want, int64_t n, double tolerance, const char *what) {
    for (int64_t i = 0; i < n; i++) {
        if (isnan(got[i]) && isnan(want[i])) continue;
        if (!(fabs((double)got[i] - (double)want[i]) <= tolerance * (1 + fabs((double)want[i]))))
            fail_msg("%s[%lld]: got %.9g, want %.9g", what, (long long)i, (double)got[i], (double)want[i]);
    }
}

#endif
