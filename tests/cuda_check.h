/* cuda_check.h - what the checks of CUDA kernels by themselves (cuda_*_check.cu) share: random numbers from `random_state`,
 * e4m3 codes as the host reads them, and CUDA's errors, which end the program. */
#ifndef PHAROS_CUDA_CHECK_H
#define PHAROS_CUDA_CHECK_H

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

enum { SKIPPED = 77 };
static const float POISON = -12345.0f;
static int n_failed;

static uint64_t random_state;
static uint64_t random_bits() {
    random_state += 0x9e3779b97f4a7c15ull; /* splitmix64 */
    uint64_t z = random_state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}
static double uniform() {
    return (double)(random_bits() >> 11) / 9007199254740992.0;
}

static float float_of_e4m3(uint8_t c) {
    int e = c >> 3 & 15, m = c & 7;
    float v = e ? ldexpf(1.0f + (float)m / 8.0f, e - 7) : ldexpf((float)m / 8.0f, -6);
    return c & 0x80 ? -v : v;
}
/* Any code but NaN, small ones as often as large. */
static uint8_t random_code() {
    for (;;) {
        uint8_t c = (uint8_t)random_bits();
        if ((c & 0x7f) != 0x7f) return c;
    }
}

static void must(cudaError_t error, const char *what) {
    if (error == cudaSuccess) return;
    printf("%s: %s\n", what, cudaGetErrorString(error));
    exit(1);
}

#endif
