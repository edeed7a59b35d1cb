/* v32_device.cuh - the instructions of kernels/cuda/v32_device.cuh, interpreted. */
#ifndef PHAROS_V32_DEVICE_CUH
#define PHAROS_V32_DEVICE_CUH

#include "kernels/cuda/device.cuh"

#define V32_LAUNCH(kernel, grid, threads, shared, stream, ...) \
    cpu_run(grid, threads, shared, [&] { kernel(__VA_ARGS__); })
#define V32_LAUNCH_CLUSTER(kernel, grid, cluster, threads, shared, stream, ...) \
    (cpu_run(dim3((unsigned)(grid)), threads, shared, [&] { kernel(__VA_ARGS__); }, cluster), cudaSuccess)
#define V32_SHARED(name) unsigned char *name = cpu_shared()

static inline void cluster_arrive() {
    cpu_cluster_arrive();
}
static inline void cluster_wait() {
    cpu_cluster_wait();
}
static inline uint32_t cluster_load(const uint32_t *p, int rank) {
    uint32_t v;
    memcpy(&v, cpu_shared_of(rank) + (reinterpret_cast<const unsigned char *>(p) - cpu_shared()), sizeof v);
    return v;
}

static inline float exp2_fast(float x) {
    return exp2f(x);
}
static inline uint32_t f16_of_codes(uint16_t two) {
    const uint8_t codes[2] = {(uint8_t)two, (uint8_t)(two >> 8)};
    __half2 v = __floats2half2_rn(cpu_value(CPU_E4M3, &codes[0]), cpu_value(CPU_E4M3, &codes[1]));
    uint32_t r;
    memcpy(&r, &v, sizeof r);
    return r;
}
static inline void store_shared16(uint32_t address, const uint4 &v) {
    if (address % 16) cpu_fault("a store is not aligned");
    memcpy(memory + address, &v, 16);
}
static inline void store_shared4(uint32_t address, uint32_t v) {
    if (address % 4) cpu_fault("a store is not aligned");
    memcpy(memory + address, &v, 4);
}
static inline void copy_async_word(uint32_t to, const void *from) {
    if (to % 4 || reinterpret_cast<uintptr_t>(from) % 4) cpu_fault("a copy is not aligned");
    cpu_current->open.push_back({to, from, 4, 4});
}
static inline void prefetch_l2(const void *p) {
    (void)*static_cast<const volatile char *>(p);
}
static inline void mma_f16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    cpu_mma(CPU_F16, c, a, b0, b1);
}
static inline void mma_fp8(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    cpu_mma(CPU_E4M3, c, a, b0, b1);
}

#endif
