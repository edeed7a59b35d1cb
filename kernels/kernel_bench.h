/* kernel_bench.h - times of the CUDA kernels at DeepSeek-V3.2's dimensions, on random data, for `pharos bench --kernels`.
 *
 * No model is needed. A time is the median of launches between events, after two that do not count; where the data of a
 * launch would stay in the L2, it is overwritten before each. Operations of attention are counted as FlashMLA counts
 * them: 2 * heads * keys * (576 + 512) a token; of index scores 2 * 64 * 128 a (query, key) pair.
 */
#ifndef PHAROS_KERNEL_BENCH_H
#define PHAROS_KERNEL_BENCH_H

#include <stdbool.h>

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kern_timing {
    const char *part; /* what it belongs to, as a heading; static */
    char what[80];
    double seconds;   /* 0: a comparison only */
    double work;      /* of one call, in operations, or in bytes where `bytes` */
    bool bytes;
    double peak;      /* of the same, a second, measured in the same run; 0 = this is a peak itself */
    double ratio;     /* of a comparison, which `what` names; 0 = none */
} kern_timing;

/* Calls told(user, ...) for each figure as it is there. Takes some ten seconds and up to 13 GB of the device.
 * PH_UNSUPPORTED where `k` is no CUDA backend, or its device no Hopper one; PH_MEMORY with both sizes. */
int kern_cuda_time_v32(kern *k, void (*told)(void *user, const kern_timing *t), void *user, ph_error *err);

#ifdef __cplusplus
}
#endif

#endif
