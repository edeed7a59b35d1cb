/* product_wgmma.cuh - the instructions of kernels/cuda/product_wgmma.cuh, interpreted. */
#ifndef PHAROS_PRODUCT_WGMMA_CUH
#define PHAROS_PRODUCT_WGMMA_CUH

#include "kernels/cuda/v32_device.cuh"
#include "kernels/cuda/v32_wgmma.cuh"

static inline void barriers_made() {}
static inline bool barrier_passed(uint32_t barrier, int parity) {
    return (cpu_mbarrier_at(barrier)->phase & 1) != parity;
}
static inline void copy_bulk_in(uint32_t to, const void *from, uint32_t bytes, uint32_t barrier) {
    if (to % 16 || reinterpret_cast<uintptr_t>(from) % 16 || bytes % 16 || to / CPU_SHARED_STEP != barrier / CPU_SHARED_STEP)
        cpu_fault("a bulk copy is not aligned, or its barrier is elsewhere");
    cpu_later([=] {
        memcpy(memory + to, from, bytes);
        cpu_mbarrier *b = cpu_mbarrier_at(barrier);
        b->bytes -= (int32_t)bytes;
        cpu_mbarrier_look(b);
    });
}
static inline void copy_bulk_both(uint32_t to, const void *from, uint32_t bytes, uint32_t barrier) {
    for (int rank = 0; rank < 2; rank++)
        copy_bulk_in(cluster_address(to, rank), from, bytes, cluster_address(barrier, rank));
}
static inline void copy_async4_to(uint32_t to, const void *from) {
    if (to % 4 || reinterpret_cast<uintptr_t>(from) % 4) cpu_fault("a copy is not aligned");
    cpu_current->open.push_back({to, from, 4, 4});
}
static inline void barrier_arrive_copied(uint32_t barrier) {
    std::vector<cpu_copy> open;
    open.swap(cpu_current->open);
    cpu_later([=] {
        for (const cpu_copy &c : open) cpu_copy_now(c);
        barrier_arrive(barrier);
    });
}
static inline void group_barrier(int group) {
    cpu_named_barrier(group + 1, 128);
}
static inline void wgmma_f16_n128(float (&d)[64], const uint32_t (&a)[4], uint64_t b, int accumulate) {
    cpu_wgmma_registers(CPU_F16, d, a, b, false, accumulate);
}
static inline void wgmma_f16_n64(float (&d)[64], const uint32_t (&a)[4], uint64_t b, int accumulate) {
    cpu_wgmma_registers(CPU_F16, reinterpret_cast<float(&)[32]>(d), a, b, false, accumulate);
}

#endif
