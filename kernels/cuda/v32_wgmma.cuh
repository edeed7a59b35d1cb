/* v32_wgmma.cuh - Hopper's own instructions as the V3.2 kernels use them: warpgroup matrix products from shared memory,
 * shared-memory barriers, registers moved between warpgroups. For code compiled for sm_90a.
 *
 * Tiles are rows of 128 bytes, 8 of them an atom of 1024 bytes (aligned so), the 16-byte parts of row r exchanged by
 * part ^ (r & 7): the "128-byte swizzle". Sources: the PTX manual, "Asynchronous warpgroup level matrix instructions"
 * and "Matrix descriptor format".
 */
#ifndef PHAROS_V32_WGMMA_CUH
#define PHAROS_V32_WGMMA_CUH

#include <stdint.h>

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define V32_HOPPER 1
#endif

/* ---- barriers in shared memory ---- */

static __device__ __forceinline__ void barrier_init(uint32_t barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
static __device__ __forceinline__ void barrier_arrive(uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
static __device__ __forceinline__ bool barrier_passed(uint32_t barrier, int parity) {
    uint32_t done;
    asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}\n"
                 : "=r"(done)
                 : "r"(barrier), "r"(parity)
                 : "memory");
    return done != 0;
}
/* Waits for the phase of this parity to be over. A wait of seconds is a fault in the kernel: it ends in an error
 * instead of a device that never answers. */
static __device__ __forceinline__ void barrier_wait(uint32_t barrier, int parity) {
    if (barrier_passed(barrier, parity)) return;
    long long start = clock64();
    while (!barrier_passed(barrier, parity))
        if (clock64() - start > 4000000000LL) __trap();
}
/* ---- the same between the two blocks of a cluster ---- */

/* The address that `address` of this block's shared memory has in block `rank` of the cluster. */
static __device__ __forceinline__ uint32_t cluster_address(uint32_t address, int rank) {
    uint32_t there = 0;
#if __CUDA_ARCH__ >= 900
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
#endif
    return there;
}
/* Tells a barrier of another block that this one has read what it was told of. No ordinary write is handed over, so the
 * scope of the release is left as it is: with .cluster the compiler puts a full memory barrier before it. */
static __device__ __forceinline__ void barrier_arrive_cluster(uint32_t there) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(there) : "memory");
#endif
}
/* Arrives, and lets the phase wait for so many bytes of bulk copies too. */
static __device__ __forceinline__ void barrier_arrive_expect(uint32_t barrier, uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
#endif
}

/* Lanes that arrive for a warp: one, after __syncwarp has ordered the others' writes. compute-sanitizer's racecheck knows
 * a barrier's order for the arriving thread alone and reports the others; built with V32_LANES=32 all arrive. */
#ifndef V32_LANES
#define V32_LANES 1
#endif
static __device__ __forceinline__ void barrier_init_warps(uint32_t barrier, int warps) {
    barrier_init(barrier, warps * V32_LANES);
}
static __device__ __forceinline__ bool lane_arrives() {
    return (int)(threadIdx.x & 31) < V32_LANES;
}
static __device__ __forceinline__ void barrier_arrive_warp(uint32_t barrier) {
    __syncwarp();
    if (lane_arrives()) barrier_arrive(barrier);
}
/* Ordinary writes to shared memory before this are seen by matrix instructions after the next barrier. */
static __device__ __forceinline__ void fence_async_proxy() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* N of the block's threads, whole warps of them. NUMBER: 1 to 15. */
template <int NUMBER, int N> static __device__ __forceinline__ void named_barrier() {
    asm volatile("bar.sync %0, %1;" ::"n"(NUMBER), "n"(N) : "memory");
}
/* The same, not before `made` is there. */
template <int NUMBER, int N> static __device__ __forceinline__ void named_barrier(uint32_t &made) {
    asm volatile("bar.sync %1, %2;" : "+r"(made) : "n"(NUMBER), "n"(N) : "memory");
}

#ifdef V32_HOPPER

template <int N> static __device__ __forceinline__ void registers_more() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N> static __device__ __forceinline__ void registers_fewer() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

/* ---- matrix products ---- */

/* The sums of a product as the operands of its instruction: their names, and what they are. */
#define WGMMA_NAMES(list) "{" list "}"
#define WGMMA_LIST_32 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define WGMMA_NAMES_32 WGMMA_NAMES(WGMMA_LIST_32)
#define WGMMA_NAMES_64 \
    WGMMA_NAMES(WGMMA_LIST_32 ", " \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63")
#define WGMMA_SUMS_32(d) \
    "+f"((d)[0]), "+f"((d)[1]), "+f"((d)[2]), "+f"((d)[3]), \
    "+f"((d)[4]), "+f"((d)[5]), "+f"((d)[6]), "+f"((d)[7]), \
    "+f"((d)[8]), "+f"((d)[9]), "+f"((d)[10]), "+f"((d)[11]), \
    "+f"((d)[12]), "+f"((d)[13]), "+f"((d)[14]), "+f"((d)[15]), \
    "+f"((d)[16]), "+f"((d)[17]), "+f"((d)[18]), "+f"((d)[19]), \
    "+f"((d)[20]), "+f"((d)[21]), "+f"((d)[22]), "+f"((d)[23]), \
    "+f"((d)[24]), "+f"((d)[25]), "+f"((d)[26]), "+f"((d)[27]), \
    "+f"((d)[28]), "+f"((d)[29]), "+f"((d)[30]), "+f"((d)[31])
#define WGMMA_SUMS_64(d) \
    WGMMA_SUMS_32(d), \
    "+f"((d)[32]), "+f"((d)[33]), "+f"((d)[34]), "+f"((d)[35]), \
    "+f"((d)[36]), "+f"((d)[37]), "+f"((d)[38]), "+f"((d)[39]), \
    "+f"((d)[40]), "+f"((d)[41]), "+f"((d)[42]), "+f"((d)[43]), \
    "+f"((d)[44]), "+f"((d)[45]), "+f"((d)[46]), "+f"((d)[47]), \
    "+f"((d)[48]), "+f"((d)[49]), "+f"((d)[50]), "+f"((d)[51]), \
    "+f"((d)[52]), "+f"((d)[53]), "+f"((d)[54]), "+f"((d)[55]), \
    "+f"((d)[56]), "+f"((d)[57]), "+f"((d)[58]), "+f"((d)[59]), \
    "+f"((d)[60]), "+f"((d)[61]), "+f"((d)[62]), "+f"((d)[63])

/* Of a tile at a shared-memory address. Rows run along the sum (K-major): `stride` = bytes from 8 rows to the next 8.
 * Rows run along the result (MN-major): `stride` = bytes from 8 of the sum to the next 8, `lead` = from 64 columns of
 * the result to the next 64. */
static __device__ __forceinline__ uint64_t tile_descriptor(uint32_t address, uint32_t lead, uint32_t stride) {
    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)(lead >> 4) << 16 | (uint64_t)(stride >> 4) << 32 |
           (uint64_t)1 << 62;
}
/* A 64-bit value as something that is computed where this stands, neither before a loop (sums of descriptors and
 * constants, kept in registers for all of it, are what the compiler would spill for) nor after a wait that follows. */
template <class T> static __device__ __forceinline__ T made_here(T value) {
    asm volatile("" : "+l"(value));
    return value;
}
static __device__ __forceinline__ void wgmma_fence() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
static __device__ __forceinline__ void wgmma_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int N> static __device__ __forceinline__ void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

/* d[64, 64] (+)= a b^T, both K-major, sum over 16 */
static __device__ __forceinline__ void wgmma_bf16_n64(float (&d)[32], uint64_t a, uint64_t b, int accumulate) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
                 WGMMA_NAMES_32 ", "
                 "%32, %33, p, 1, 1, 0, 0;\n}\n"
                 : WGMMA_SUMS_32(d)
                 : "l"(a), "l"(b), "r"(accumulate));
}

/* the same in fp16 */
static __device__ __forceinline__ void wgmma_f16_n64(float (&d)[32], uint64_t a, uint64_t b, int accumulate) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 "
                 WGMMA_NAMES_32 ", "
                 "%32, %33, p, 1, 1, 0, 0;\n}\n"
                 : WGMMA_SUMS_32(d)
                 : "l"(a), "l"(b), "r"(accumulate));
}

/* d[64, 128] (+)= a b, a in registers, b MN-major: rows of b are those of the sum */
static __device__ __forceinline__ void wgmma_bf16_n128_t(float (&d)[64], const uint32_t (&a)[4], uint64_t b,
        int accumulate) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
                 WGMMA_NAMES_64 ", "
                 "{%64, %65, %66, %67}, %68, p, 1, 1, 1;\n}\n"
                 : WGMMA_SUMS_64(d)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));
}

/* the same in fp16 */
static __device__ __forceinline__ void wgmma_f16_n128_t(float (&d)[64], const uint32_t (&a)[4], uint64_t b,
        int accumulate) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 "
                 WGMMA_NAMES_64 ", "
                 "{%64, %65, %66, %67}, %68, p, 1, 1, 1;\n}\n"
                 : WGMMA_SUMS_64(d)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));
}

/* the same, a K-major in shared memory */
static __device__ __forceinline__ void wgmma_bf16_n128_t(float (&d)[64], uint64_t a, uint64_t b, int accumulate) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
                 WGMMA_NAMES_64 ", "
                 "%64, %65, p, 1, 1, 0, 1;\n}\n"
                 : WGMMA_SUMS_64(d)
                 : "l"(a), "l"(b), "r"(accumulate));
}
static __device__ __forceinline__ void wgmma_f16_n128_t(float (&d)[64], uint64_t a, uint64_t b, int accumulate) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 "
                 WGMMA_NAMES_64 ", "
                 "%64, %65, p, 1, 1, 0, 1;\n}\n"
                 : WGMMA_SUMS_64(d)
                 : "l"(a), "l"(b), "r"(accumulate));
}

/* d[64, 64] (+)= a b^T, a in registers, sum over 32, e4m3 */
static __device__ __forceinline__ void wgmma_fp8_n64(float (&d)[32], const uint32_t (&a)[4], uint64_t b,
        int accumulate) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k32.f32.e4m3.e4m3 "
                 WGMMA_NAMES_32 ", "
                 "{%32, %33, %34, %35}, %36, p, 1, 1;\n}\n"
                 : WGMMA_SUMS_32(d)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));
}

/* d[64, 128] (+)= a b^T, a in registers, sum over 32, e4m3 */
static __device__ __forceinline__ void wgmma_fp8_n128(float (&d)[64], const uint32_t (&a)[4], uint64_t b,
        int accumulate) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e4m3 "
                 WGMMA_NAMES_64 ", "
                 "{%64, %65, %66, %67}, %68, p, 1, 1;\n}\n"
                 : WGMMA_SUMS_64(d)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));
}

#endif
#endif
