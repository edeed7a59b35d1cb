/* interpreter.h - a GPU's block of threads on the processor: enough to run the V3.2 kernels' own source, slowly, where
 * there is no GPU. It shows faults of logic: wrong places, missing waits, threads that wait for each other for ever, reads
 * of what was never written. It shows nothing of speed, and takes the instructions' meaning from the manual: that a
 * device agrees is for a device to say.
 *
 * Included before every file of that build. Threads are contexts that take turns; one runs until it has to wait. Blocks
 * run one after the other, those of a cluster together. Copies without waiting are done only when they are waited for. Shared memory begins as NaN.
 * The kernels' headers of single instructions are replaced by those of the same name below this directory.
 */
#ifndef PHAROS_INTERPRETER_H
#define PHAROS_INTERPRETER_H

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

struct cpu_copy {
    uint32_t to;
    const void *from;
    int bytes; /* of `size`; zeros behind them */
    int size = 16;
};
struct cpu_thread {
    int number; /* in the cluster */
    uint3 index, block;
    bool done;
    long cluster_passed; /* the cluster's barrier when this thread arrived */
    std::vector<cpu_copy> open;                 /* copies asked for since the last commit */
    std::vector<std::vector<cpu_copy>> groups;  /* and before it */
    uint64_t shown[8];                          /* to the other lanes */
    std::vector<std::function<void()>> products; /* asked for since the last commit */
    std::vector<std::vector<std::function<void()>>> product_groups; /* and before it */
};
extern cpu_thread *cpu_current;
extern dim3 cpu_grid, cpu_block_dim;
extern unsigned char memory[]; /* the kernels' name for dynamic shared memory: of a cluster's first block */
enum { CPU_SHARED_STEP = 1 << 18, CPU_CLUSTER_MOST = 8 };
static inline void cpu_copy_now(const cpu_copy &c) {
    memset(memory + c.to, 0, (size_t)c.size);
    memcpy(memory + c.to, c.from, (size_t)c.bytes);
}

/* The thread's lane number and those of its warp. */
int cpu_lane();
cpu_thread *cpu_lane_of(int lane);
/* Another thread's turn. */
void cpu_yield();
/* Something happened that others may have waited for. */
void cpu_progress();
void cpu_warp_barrier();
void cpu_block_barrier();
void cpu_named_barrier(int number, int n);
void cpu_named_arrive(int number, int n);
/* Does it some time soon, whoever's turn it is then. */
void cpu_later(std::function<void()> what);
/* Products without waiting: made when they are committed or only when they are waited for, as it falls. */
void cpu_product(std::function<void()> what);
void cpu_products_commit();
void cpu_products_wait(size_t open);
void cpu_cluster_arrive();
void cpu_cluster_wait();
/* The thread's block's shared memory, or that of block `rank` of its cluster. */
unsigned char *cpu_shared();
unsigned char *cpu_shared_of(int rank);
/* Runs a grid, the blocks of a cluster at the same time; ends the program with a line where threads wait for each other
 * for ever. */
void cpu_run(dim3 grid, int threads, size_t shared, const std::function<void()> &kernel, int cluster = 1);
void cpu_fault(const char *what);

/* ---- the language ---- */

#define threadIdx (cpu_current->index)
#define blockIdx (cpu_current->block)
#define gridDim cpu_grid
#define blockDim cpu_block_dim
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __trap
#define __trap() cpu_fault("trap")
using std::isfinite;
using std::isnan;

template <class T> static inline T __ldg(const T *p) {
    if (reinterpret_cast<uintptr_t>(p) % sizeof(T)) cpu_fault("a load is not aligned");
    return *p;
}
static inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline int __popc(uint32_t x) { return __builtin_popcount(x); }
static inline int __ffs(uint32_t x) { return __builtin_ffs((int)x); }
static inline int __clz(uint32_t x) { return x ? __builtin_clz(x) : 32; }
static inline uint32_t __float_as_uint(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}
static inline float __uint_as_float(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}
static inline float __int_as_float(int32_t i) { return __uint_as_float((uint32_t)i); }
static inline int atomicAdd(int *p, int v) {
    int old = *p;
    *p += v;
    return old;
}
static inline uint32_t atomicMax(uint32_t *p, uint32_t v) {
    uint32_t old = *p;
    if (v > old) *p = v;
    return old;
}
static inline uint32_t atomicOr(uint32_t *p, uint32_t v) {
    uint32_t old = *p;
    *p |= v;
    return old;
}

/* What lane `from` gives; all lanes call it. */
template <class T> static inline T cpu_exchange(T v, int from) {
    memcpy(cpu_current->shown, &v, sizeof v);
    cpu_warp_barrier();
    memcpy(&v, cpu_lane_of(from & 31)->shown, sizeof v);
    cpu_warp_barrier();
    return v;
}
template <class T> static inline T __shfl_sync(uint32_t, T v, int from) { return cpu_exchange(v, from); }
template <class T> static inline T __shfl_xor_sync(uint32_t, T v, int mask) { return cpu_exchange(v, cpu_lane() ^ mask); }
template <class T> static inline T __shfl_up_sync(uint32_t, T v, int by) {
    return cpu_exchange(v, cpu_lane() >= by ? cpu_lane() - by : cpu_lane());
}
static inline uint32_t __ballot_sync(uint32_t, bool vote) {
    uint32_t all = 0;
    cpu_current->shown[0] = vote;
    cpu_warp_barrier();
    for (int i = 0; i < 32; i++) all |= (uint32_t)cpu_lane_of(i)->shown[0] << i;
    cpu_warp_barrier();
    return all;
}
static inline bool __any_sync(uint32_t lanes, bool vote) { return __ballot_sync(lanes, vote) != 0; }
static inline void __syncwarp() { cpu_warp_barrier(); }
static inline void __syncthreads() { cpu_block_barrier(); }

/* ---- the runtime: a device of three multiprocessors, so that blocks walk several items ---- */

static inline cudaError_t cpu_attribute(int *value, cudaDeviceAttr what) {
    *value = what == cudaDevAttrMultiProcessorCount ? 3 : what == cudaDevAttrComputeCapabilityMajor ? 9 : 0;
    return cudaSuccess;
}
static inline cudaError_t cpu_allocate(void **p, size_t bytes) {
    *p = aligned_alloc(256, (bytes + 255) / 256 * 256);
    return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}
#define cudaGetDevice(p) (*(p) = 0, cudaSuccess)
#define cudaGetDeviceCount(p) (*(p) = 1, cudaSuccess)
#define cudaDeviceGetAttribute(value, what, device) cpu_attribute(value, what)
#define cudaFuncSetAttribute(...) cudaSuccess
#define cudaGetLastError() cudaSuccess
#define cudaDeviceSynchronize() cudaSuccess
#define cudaGetErrorString(error) ((error) == cudaErrorNotSupported ? "not supported" : "error")
#define cudaMalloc(p, bytes) cpu_allocate(p, bytes)
#define cudaMemcpy(to, from, bytes, kind) (memcpy(to, from, bytes), cudaSuccess)
#define cudaFree(p) free(p)

#endif
