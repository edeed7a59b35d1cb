/* product_wgmma.cuh - Hopper's own instructions that products of many rows use beside those of v32_wgmma.cuh. */
#ifndef PHAROS_PRODUCT_WGMMA_CUH
#define PHAROS_PRODUCT_WGMMA_CUH

#include "kernels/cuda/v32_device.cuh"
#include "kernels/cuda/v32_wgmma.cuh"

/* Bulk copies and other blocks of the cluster see barriers that were made before. */
static __device__ __forceinline__ void barriers_made() {
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}
/* Memory to shared memory, without waiting; `barrier` hears of the bytes. All multiples of 16. */
static __device__ __forceinline__ void copy_bulk_in(uint32_t to, const void *from, uint32_t bytes, uint32_t barrier) {
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
                 "l"(from), "r"(bytes), "r"(barrier)
                 : "memory");
#endif
}
/* The same to both blocks of a cluster, at the same place of each, with the barrier there. */
static __device__ __forceinline__ void copy_bulk_both(uint32_t to, const void *from, uint32_t bytes, uint32_t barrier) {
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], "
                 "%4;" ::"r"(to),
                 "l"(from), "r"(bytes), "r"(barrier), "h"((uint16_t)3)
                 : "memory");
#endif
}

/* Four bytes to shared memory, without waiting. */
static __device__ __forceinline__ void copy_async4_to(uint32_t to, const void *from) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
}
/* Arrives at the barrier when all that this thread has asked for so far without waiting is there. racecheck does not know that
 * order: for it (V32_LANES=32) the thread waits. */
static __device__ __forceinline__ void barrier_arrive_copied(uint32_t barrier) {
#if V32_LANES > 1
    copy_commit();
    copy_wait<0>();
    barrier_arrive(barrier);
#else
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
#endif
}

/* A barrier of one of a block's groups of 128 threads, 0 to 7. */
static __device__ __forceinline__ void group_barrier(int group) {
    asm volatile("bar.sync %0, 128;" ::"r"(group + 1) : "memory");
}

#ifdef V32_HOPPER
/* d[64, 128] (+)= a b^T in fp16, a in registers, b K-major */
static __device__ __forceinline__ void wgmma_f16_n128(float (&d)[64], const uint32_t (&a)[4], uint64_t b, int accumulate) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 "
                 WGMMA_NAMES_64 ", "
                 "{%64, %65, %66, %67}, %68, p, 1, 1, 0;\n}\n"
                 : WGMMA_SUMS_64(d)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));
}
/* The same for 64 columns of the result: the first half of d. */
static __device__ __forceinline__ void wgmma_f16_n64(float (&d)[64], const uint32_t (&a)[4], uint64_t b, int accumulate) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 "
                 WGMMA_NAMES_32 ", "
                 "{%32, %33, %34, %35}, %36, p, 1, 1, 0;\n}\n"
                 : WGMMA_SUMS_32(d)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));
}
#endif

#endif
