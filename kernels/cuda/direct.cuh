/* direct.cuh - what direct.cu does with memory that other GPUs write meanwhile. Where there is no GPU the
 * tests have a file of this name (tests/cuda_on_cpu). */
#ifndef PHAROS_DIRECT_CUH
#define PHAROS_DIRECT_CUH

#include <cuda_runtime.h>
#include <stdint.h>

#define DIRECT_LAUNCH(kernel, grid, threads, stream, ...) kernel<<<grid, threads, 0, stream>>>(__VA_ARGS__)

static __device__ __forceinline__ void tell(uint32_t *p, uint32_t v) {
    asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
static __device__ __forceinline__ uint32_t hear(const uint32_t *p) {
    uint32_t v;
    asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}
static __device__ __forceinline__ unsigned long long now() {
    unsigned long long t;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
    return t;
}

/* Two numbers with their turn; 8 bytes arrive together, so that a number is there when its turn is. */
static __device__ __forceinline__ void send_two(uint4 *to, float low, float high, uint32_t turn) {
    asm volatile("st.relaxed.sys.global.v2.u32 [%0], {%1, %2};" ::"l"(to), "r"(__float_as_uint(low)),
                 "r"(turn)
                 : "memory");
    asm volatile("st.relaxed.sys.global.v2.u32 [%0], {%1, %2};" ::"l"(reinterpret_cast<uint2 *>(to) + 1),
                 "r"(__float_as_uint(high)), "r"(turn)
                 : "memory");
}
static __device__ __forceinline__ uint2 look(const uint2 *at) {
    uint2 v;
    asm volatile("ld.relaxed.sys.global.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(at) : "memory");
    return v;
}

#endif
