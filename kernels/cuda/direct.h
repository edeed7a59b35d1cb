/* direct.h - sums over ranks through the GPUs' view of each other's memory (direct.cu); group.cu's alone. */
#ifndef PHAROS_CUDA_DIRECT_H
#define PHAROS_CUDA_DIRECT_H

#include "kernels/kernels.h"

typedef struct cuda_direct cuda_direct; /* of all ranks together */

/* For the backends k[n]. NULL, which is no error, where a GPU cannot reach another one's memory or has no
 * room. */
cuda_direct *cuda_direct_open(kern *const *k, int n);
/* After the last sum; the backends are still open. */
void cuda_direct_close(cuda_direct *d);

/* As kern_group.sum; rank's thread calls it. */
void cuda_direct_sum(cuda_direct *d, int rank, const float *part, float *y, int64_t n, float *also,
                     int64_t m);

/* Whether a rank has waited for another in vain. */
bool cuda_direct_failed(const cuda_direct *d);

#endif
