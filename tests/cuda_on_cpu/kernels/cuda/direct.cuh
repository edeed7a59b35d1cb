/* direct.cuh - the instructions of kernels/cuda/direct.cuh on the processor: every "GPU" is a thread of the machine, which
 * takes the threads of a block by turns and the blocks one after the other (direct_check.cpp). */
#ifndef PHAROS_DIRECT_CUH
#define PHAROS_DIRECT_CUH

#include <sched.h>
#include <time.h>

#define DIRECT_LAUNCH(kernel, grid, threads, stream, ...)                                                                \
    run_grid(grid, threads, [&] { kernel(__VA_ARGS__); })

static inline void tell(uint32_t *p, uint32_t v) {
    __atomic_store_n(p, v, __ATOMIC_RELEASE);
}
static inline uint32_t hear(const uint32_t *p) {
    sched_yield();
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
static inline unsigned long long now() {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (unsigned long long)t.tv_sec * 1000000000ull + (unsigned long long)t.tv_nsec;
}
static inline void send_one(uint64_t *to, float v, uint32_t turn) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    __atomic_store_n(to, bits | (uint64_t)turn << 32, __ATOMIC_RELAXED);
}
static inline void send_two(uint4 *to, float low, float high, uint32_t turn) {
    send_one(reinterpret_cast<uint64_t *>(to), low, turn);
    send_one(reinterpret_cast<uint64_t *>(to) + 1, high, turn);
}
static inline uint2 look(const uint2 *at) {
    static thread_local unsigned looks; /* there may be more ranks than processors */
    if (++looks % 64 == 0) sched_yield();
    uint64_t v = __atomic_load_n(reinterpret_cast<const uint64_t *>(at), __ATOMIC_RELAXED);
    return make_uint2((uint32_t)v, (uint32_t)(v >> 32));
}

#endif
