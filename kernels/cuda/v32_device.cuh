/* v32_device.cuh - single instructions that the V3.2 kernels share beside those of device.cuh. */
#ifndef PHAROS_V32_DEVICE_CUH
#define PHAROS_V32_DEVICE_CUH

#include <cuda_fp16.h>

#include "kernels/cuda/device.cuh"

/* A macro, so that tests can run the same source without a device. */
#define V32_LAUNCH(kernel, grid, threads, shared, stream, ...) \
    kernel<<<grid, threads, shared, stream>>>(__VA_ARGS__)
#define V32_LAUNCH_CLUSTER(kernel, grid, cluster, threads, shared, stream, ...) \
    launch_clusters(kernel, grid, cluster, threads, shared, stream, __VA_ARGS__)
#define V32_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]

/* `grid` blocks, each `cluster` in a row of them on neighbouring multiprocessors. */
template <class... of>
static cudaError_t launch_clusters(void (*kernel)(of...), int grid, int cluster, int threads, size_t shared,
                                   cudaStream_t stream, of... values) {
    cudaLaunchAttribute shape = {};
    shape.id = cudaLaunchAttributeClusterDimension;
    shape.val.clusterDim.x = (unsigned)cluster;
    shape.val.clusterDim.y = shape.val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned)grid);
    config.blockDim = dim3((unsigned)threads);
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    config.attrs = &shape;
    config.numAttrs = 1;
    return cudaLaunchKernelEx(&config, kernel, values...);
}
/* The cluster's barrier in two halves: what was written before an arrival is seen after the wait. */
static __device__ __forceinline__ void cluster_arrive() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}
static __device__ __forceinline__ void cluster_wait() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
    __trap();
#endif
}
/* What block `rank` of the cluster has where `p` is in this block's shared memory. */
static __device__ __forceinline__ uint32_t cluster_load(const uint32_t *p, int rank) {
    uint32_t v = 0;
#if __CUDA_ARCH__ >= 900
    asm volatile("{\n.reg .u32 there;\nmapa.shared::cluster.u32 there, %1, %2;\n"
                 "ld.shared::cluster.u32 %0, [there];\n}\n"
                 : "=r"(v)
                 : "r"(shared_address(p)), "r"(rank)
                 : "memory");
#endif
    return v;
}

static __device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
/* Two e4m3 numbers as fp16, exactly. */
static __device__ __forceinline__ uint32_t f16_of_codes(uint16_t two) {
    uint32_t r = 0;
#if __CUDA_ARCH__ >= 890
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(r) : "h"(two));
#else
    __trap();
#endif
    return r;
}

/* Shared memory by address. */
static __device__ __forceinline__ void store_shared16(uint32_t address, const uint4 &v) {
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
                 : "memory");
}
static __device__ __forceinline__ void store_shared4(uint32_t address, uint32_t v) {
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(v) : "memory");
}
/* 16 bytes without waiting; zeros where not `valid`. */
static __device__ __forceinline__ void copy_async16_to(uint32_t to, const void *from, bool valid) {
    int n = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(n) : "memory");
}
/* The first `bytes` of 16, and zeros behind them; nothing is read beyond. */
static __device__ __forceinline__ void copy_async_part(uint32_t to, const void *from, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
/* 4 bytes without waiting. */
static __device__ __forceinline__ void copy_async_word(uint32_t to, const void *from) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
}
static __device__ __forceinline__ void prefetch_l2(const void *p) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
}

/* c += a b for a 16x16 by 16x8 tile of fp16, fp32 sums. */
static __device__ __forceinline__ void mma_f16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
/* The same for 16x32 by 32x8 of e4m3. */
static __device__ __forceinline__ void mma_fp8(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 890
    asm volatile("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    __trap();
#endif
}

#endif
