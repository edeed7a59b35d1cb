/* v32_wgmma.cuh - the instructions of kernels/cuda/v32_wgmma.cuh, interpreted. Products read shared memory and change their
 * sums when they are committed or when they are waited for, by chance: what is changed too early, or read, is found. */
#ifndef PHAROS_V32_WGMMA_CUH
#define PHAROS_V32_WGMMA_CUH

#include "kernels/cuda/v32_device.cuh"

#define V32_HOPPER 1

struct cpu_mbarrier { /* in the 8 bytes of the real one */
    int16_t arrivals, left;
    uint32_t phase : 4;
    int32_t bytes : 28; /* that copies still have to bring */
};
static inline cpu_mbarrier *cpu_mbarrier_at(uint32_t barrier) {
    if (barrier % 8) cpu_fault("a barrier is not aligned");
    return reinterpret_cast<cpu_mbarrier *>(memory + barrier);
}
static inline void barrier_init(uint32_t barrier, int arrivals) {
    *cpu_mbarrier_at(barrier) = {(int16_t)arrivals, (int16_t)arrivals, 0, 0};
}
static inline void cpu_mbarrier_look(cpu_mbarrier *b) {
    if (b->left == 0 && b->bytes == 0) {
        b->left = b->arrivals;
        b->phase++;
    }
    cpu_progress();
}
static inline void barrier_arrive(uint32_t barrier) {
    cpu_mbarrier *b = cpu_mbarrier_at(barrier);
    if (b->left < 1) cpu_fault("arrives at what is no barrier");
    b->left--;
    cpu_mbarrier_look(b);
}
static inline void barrier_arrive_expect(uint32_t barrier, uint32_t bytes) {
    cpu_mbarrier_at(barrier)->bytes += (int32_t)bytes;
    barrier_arrive(barrier);
}
static inline uint32_t cluster_address(uint32_t address, int rank) {
    return address % CPU_SHARED_STEP + (uint32_t)(cpu_shared_of(rank) - memory);
}
static inline void barrier_arrive_cluster(uint32_t there) {
    barrier_arrive(there);
}
static inline void barrier_wait(uint32_t barrier, int parity) {
    while ((cpu_mbarrier_at(barrier)->phase & 1) == parity) cpu_yield();
}
static inline void barrier_init_warps(uint32_t barrier, int warps) {
    barrier_init(barrier, warps);
}
static inline bool lane_arrives() {
    return cpu_lane() == 0;
}
static inline void barrier_arrive_warp(uint32_t barrier) {
    cpu_warp_barrier();
    if (cpu_lane() == 0) barrier_arrive(barrier);
}
static inline void fence_async_proxy() {}
template <int NUMBER, int N> static inline void named_barrier() {
    cpu_named_barrier(NUMBER, N);
}
template <int NUMBER, int N> static inline void named_barrier(uint32_t &) {
    cpu_named_barrier(NUMBER, N);
}
template <int N> static inline void registers_more() {}
template <int N> static inline void registers_fewer() {}
static inline void wgmma_fence() {}
static inline void wgmma_commit() {
    cpu_products_commit();
}
template <int N> static inline void wgmma_wait() {
    cpu_products_wait(N);
}

static inline uint64_t tile_descriptor(uint32_t address, uint32_t lead, uint32_t stride) {
    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)(lead >> 4) << 16 | (uint64_t)(stride >> 4) << 32 |
           (uint64_t)1 << 62;
}
template <class T> static inline T made_here(T value) {
    return value;
}
/* What a descriptor points at, `offset` bytes on, parts exchanged. */
static inline const void *cpu_tile(uint64_t tile, uint32_t offset) {
    uint32_t at = (uint32_t)((tile & 0x3fff) << 4) + offset;
    at ^= (at >> 7 & 7) << 4;
    if (at >= 232448) cpu_fault("a tile is beyond shared memory");
    return cpu_shared() + at;
}
static inline const void *cpu_along_sum(uint64_t tile, int row, int byte) {
    uint32_t stride = (uint32_t)(tile >> 32 & 0x3fff) << 4;
    return cpu_tile(tile, (uint32_t)(row / 8) * stride + (uint32_t)(row % 8 * 128 + byte));
}
static inline const void *cpu_across_sum(uint64_t tile, int column, int k) {
    uint32_t lead = (uint32_t)(tile >> 16 & 0x3fff) << 4, stride = (uint32_t)(tile >> 32 & 0x3fff) << 4;
    return cpu_tile(tile, (uint32_t)(column / 64) * lead + (uint32_t)(k / 8) * stride +
                              (uint32_t)(k % 8 * 128 + column % 64 * 2));
}
template <int D>
static inline void cpu_wgmma(cpu_number kind, float (&d)[D], const float (&a)[2][32], uint64_t b, bool across, int accumulate) {
    int q = cpu_lane() & 3;
    for (int i = 0; i < D; i++) {
        int column = i / 4 * 8 + q * 2 + (i & 1);
        float sum = accumulate ? d[i] : 0.0f;
        for (int k = 0; k < cpu_depth(kind); k++)
            sum += a[i >> 1 & 1][k] * cpu_value(kind, across ? cpu_across_sum(b, column, k)
                                                             : cpu_along_sum(b, column, k * (32 / cpu_depth(kind))));
        d[i] = sum;
    }
}
template <int D>
static inline void cpu_wgmma_shared(cpu_number kind, float (&d)[D], uint64_t a, uint64_t b, bool across, int accumulate) {
    float *sums = d;
    cpu_product([=] {
        float rows[2][32];
        int row = (cpu_current->number >> 5 & 3) * 16 + (cpu_lane() >> 2);
        for (int r = 0; r < 2; r++)
            for (int k = 0; k < 16; k++) rows[r][k] = cpu_value(kind, cpu_along_sum(a, row + r * 8, k * 2));
        cpu_wgmma(kind, *reinterpret_cast<float(*)[D]>(sums), rows, b, across, accumulate);
    });
}
template <int D>
static inline void cpu_wgmma_registers(cpu_number kind, float (&d)[D], const uint32_t (&a)[4], uint64_t b, bool across,
                                       int accumulate) {
    struct {
        float rows[2][32];
    } left;
    for (int i = 0; i < 4; i++) cpu_current->shown[i] = a[i];
    cpu_warp_barrier();
    for (int r = 0; r < 2; r++)
        for (int k = 0; k < cpu_depth(kind); k++) left.rows[r][k] = cpu_fragment(kind, 0, 16, (cpu_lane() >> 2) + r * 8, k);
    cpu_warp_barrier();
    float *sums = d;
    cpu_product([=] { cpu_wgmma(kind, *reinterpret_cast<float(*)[D]>(sums), left.rows, b, across, accumulate); });
}

static inline void wgmma_bf16_n64(float (&d)[32], uint64_t a, uint64_t b, int accumulate) {
    cpu_wgmma_shared(CPU_BF16, d, a, b, false, accumulate);
}
static inline void wgmma_f16_n64(float (&d)[32], uint64_t a, uint64_t b, int accumulate) {
    cpu_wgmma_shared(CPU_F16, d, a, b, false, accumulate);
}
static inline void wgmma_bf16_n128_t(float (&d)[64], const uint32_t (&a)[4], uint64_t b, int accumulate) {
    cpu_wgmma_registers(CPU_BF16, d, a, b, true, accumulate);
}
static inline void wgmma_f16_n128_t(float (&d)[64], const uint32_t (&a)[4], uint64_t b, int accumulate) {
    cpu_wgmma_registers(CPU_F16, d, a, b, true, accumulate);
}
static inline void wgmma_f16_n128_t(float (&d)[64], uint64_t a, uint64_t b, int accumulate) {
    cpu_wgmma_shared(CPU_F16, d, a, b, true, accumulate);
}
static inline void wgmma_bf16_n128_t(float (&d)[64], uint64_t a, uint64_t b, int accumulate) {
    cpu_wgmma_shared(CPU_BF16, d, a, b, true, accumulate);
}
static inline void wgmma_fp8_n64(float (&d)[32], const uint32_t (&a)[4], uint64_t b, int accumulate) {
    cpu_wgmma_registers(CPU_E4M3, d, a, b, false, accumulate);
}
static inline void wgmma_fp8_n128(float (&d)[64], const uint32_t (&a)[4], uint64_t b, int accumulate) {
    cpu_wgmma_registers(CPU_E4M3, d, a, b, false, accumulate);
}

#endif
