/* device.cuh - the instructions of kernels/cuda/device.cuh, interpreted. */
#ifndef PHAROS_DEVICE_CUH
#define PHAROS_DEVICE_CUH

#include "tests/cuda_on_cpu/interpreter.h"

static inline uint32_t pack_bf16(float low, float high) {
    __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
    uint32_t r;
    memcpy(&r, &v, sizeof r);
    return r;
}
static inline uint32_t shared_address(const void *p) {
    return (uint32_t)(static_cast<const unsigned char *>(p) - memory);
}

static inline void copy_async16_to(uint32_t to, const void *from, bool valid) {
    if (to % 16 || reinterpret_cast<uintptr_t>(from) % 16) cpu_fault("a copy is not aligned");
    cpu_current->open.push_back({to, from, valid ? 16 : 0});
}
static inline void copy_async_part(uint32_t to, const void *from, int bytes) {
    copy_async16_to(to, from, true);
    cpu_current->open.back().bytes = bytes;
}
static inline void copy_async16(void *to, const void *from, bool valid) {
    copy_async16_to(shared_address(to), from, valid);
}
static inline void copy_commit() {
    cpu_current->groups.push_back(std::move(cpu_current->open));
    cpu_current->open.clear();
}
template <int N> static inline void copy_wait() {
    auto &groups = cpu_current->groups;
    for (; groups.size() > (size_t)N; groups.erase(groups.begin()))
        for (const cpu_copy &c : groups[0]) cpu_copy_now(c);
}

/* Lanes 8 i ... 8 i + 7 give the rows of matrix i. */
static inline void load_matrix4(uint32_t r[4], const void *p) {
    cpu_current->shown[0] = reinterpret_cast<uint64_t>(p);
    cpu_warp_barrier();
    int g = cpu_lane() >> 2, q = cpu_lane() & 3;
    for (int i = 0; i < 4; i++)
        memcpy(&r[i], reinterpret_cast<const char *>(cpu_lane_of(i * 8 + g)->shown[0]) + q * 4, 4);
    cpu_warp_barrier();
}
static inline void load_matrix4_transposed(uint32_t r[4], const void *p) {
    cpu_current->shown[0] = reinterpret_cast<uint64_t>(p);
    cpu_warp_barrier();
    int g = cpu_lane() >> 2, q = cpu_lane() & 3;
    for (int i = 0; i < 4; i++) {
        uint16_t v[2];
        for (int e = 0; e < 2; e++)
            memcpy(&v[e], reinterpret_cast<const char *>(cpu_lane_of(i * 8 + q * 2 + e)->shown[0]) + g * 2, 2);
        r[i] = v[0] | (uint32_t)v[1] << 16;
    }
    cpu_warp_barrier();
}

/* ---- products ---- */

enum cpu_number { CPU_BF16, CPU_F16, CPU_E4M3 };

static inline float cpu_value(cpu_number kind, const void *p) {
    if (kind == CPU_E4M3) {
        uint8_t c;
        memcpy(&c, p, 1);
        int e = c >> 3 & 15, m = c & 7;
        float v = (c & 0x7f) == 0x7f ? NAN : e ? ldexpf(1.0f + (float)m / 8.0f, e - 7) : ldexpf((float)m / 8.0f, -6);
        return c & 0x80 ? -v : v;
    }
    if (kind == CPU_BF16) {
        __nv_bfloat16 v;
        memcpy(static_cast<void *>(&v), p, 2);
        return __bfloat162float(v);
    }
    __half v;
    memcpy(static_cast<void *>(&v), p, 2);
    return __half2float(v);
}
static inline int cpu_depth(cpu_number kind) {
    return kind == CPU_E4M3 ? 32 : 16;
}
/* Element (row, k) of a fragment of which every lane shows registers from shown[first]: eight rows to a register, the
 * lower half of k before the upper. */
static inline float cpu_fragment(cpu_number kind, int first, int rows, int row, int k) {
    int each = kind == CPU_E4M3 ? 4 : 2, half = each * 4;
    uint32_t word = (uint32_t)cpu_lane_of((row & 7) * 4 + k % half / each)->shown[first + k / half * (rows / 8) + row / 8];
    return cpu_value(kind, reinterpret_cast<const char *>(&word) + k % each * (4 / each));
}
static inline void cpu_mma(cpu_number kind, float *c, const uint32_t *a, uint32_t b0, uint32_t b1) {
    for (int i = 0; i < 4; i++) cpu_current->shown[i] = a[i];
    cpu_current->shown[4] = b0;
    cpu_current->shown[5] = b1;
    cpu_warp_barrier();
    int g = cpu_lane() >> 2, q = cpu_lane() & 3;
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < cpu_depth(kind); k++)
            c[i] += cpu_fragment(kind, 0, 16, g + (i >> 1) * 8, k) * cpu_fragment(kind, 4, 8, q * 2 + (i & 1), k);
    cpu_warp_barrier();
}
static inline void mma_bf16(float c[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
    const uint32_t a[4] = {a0, a1, a2, a3};
    cpu_mma(CPU_BF16, c, a, b0, b1);
}
static inline void mma_f16(float c[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
    const uint32_t a[4] = {a0, a1, a2, a3};
    cpu_mma(CPU_F16, c, a, b0, b1);
}

static inline int64_t moved_by(const int64_t *moved) { return moved ? *moved : 0; }

#endif
