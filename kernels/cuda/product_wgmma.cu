/* product_wgmma.cu - products of many rows with FP8 matrices by Hopper's warpgroup instructions (product_many.cuh).
 *
 * A block walks tiles of 128 of W's rows with 128 of x's. One warp loads stages of 128 columns, x by bulk copies of what
 * many_prepare left, W row by row; two warpgroups of 64 of W's rows each make codes fp16 in registers and multiply. While
 * the tensor cores work for the one the other adds its sums of the last 128 columns to the segment's. Blocks go in pairs with
 * neighbouring rows of W: each loads half of x's tile for both, because otherwise the L2 has to give 48 bytes a cycle to
 * every multiprocessor.
 */
#include "kernels/cuda/product_many.cuh"
#include "kernels/cuda/product_wgmma.cuh"

enum {
    STAGES_MANY = 3,
    X_STAGE = 2 * MANY_CHUNK,
    /* W's odd rows begin 64 bytes further in the banks than even ones: the eight lanes that load at once meet all of them */
    ODD_ROWS = MANY_ROWS / 2 * 128 + 64,
    W_STAGE = MANY_ROWS * 128 + 128,
    W_AT = STAGES_MANY * X_STAGE,
    NEAR_AT = W_AT + STAGES_MANY * W_STAGE,
    BARRIERS_AT = NEAR_AT + MANY_TILE_BYTES,
    SHARED_MANY = BARRIERS_AT + STAGES_MANY * 16,
    LOAD_WARP = MANY_THREADS / 32,
    ALL_THREADS = MANY_THREADS + 128, /* the loading warp's group: registers are given to groups of four warps */
};

/* How tiles follow each other: `width` of W's tiles (of a pair, where blocks go in pairs) for each of x's before the next, so
 * that what is loaded at one time is little. */
struct many_order {
    int n_w, n_x, width;
};
struct many_place {
    int w, x;
};
#ifdef V32_HOPPER

static __device__ __forceinline__ many_place place_of(const many_order &o, int number) {
    int of_group = o.width * o.n_x, group = number / of_group, rest = number - group * of_group;
    int width = o.n_w - group * o.width < o.width ? o.n_w - group * o.width : o.width, x = rest / width;
    return {group * o.width + rest - x * width, x};
}

struct many_barriers {
    uint32_t at;
    __device__ uint32_t full(int stage) const { return at + (uint32_t)stage * 16; }
    __device__ uint32_t empty(int stage) const { return at + (uint32_t)stage * 16 + 8; }
};

template <class pointers, bool EXPERTS, int PAIR>
static __device__ __forceinline__ void load_tiles(const product &p, const pointers &w, const many_rows &x,
                                                  const many_order &order, uint32_t shared, many_barriers bar) {
    int lane = threadIdx.x & 31, rank = PAIR > 1 ? (int)(blockIdx.x & 1) : 0, n_stage = p.cols / MANY_BLOCK, n = 0;
    for (int number = blockIdx.x / PAIR; number < order.n_w * order.n_x; number += gridDim.x / PAIR) {
        many_place place = place_of(order, number);
        many_tile at;
        if (!many_tile_of<pointers, EXPERTS>(p, w, place.x, &at)) continue;
        const unsigned char *codes[MANY_ROWS / 32];
        uint32_t to[MANY_ROWS / 32];
#pragma unroll
        for (int i = 0; i < MANY_ROWS / 32; i++) {
            int r = i * 32 + lane, row = (place.w * PAIR + rank) * MANY_ROWS + r;
            codes[i] = static_cast<const unsigned char *>(at.w.data) + (int64_t)(row < p.rows ? row : p.rows - 1) * p.w_stride;
            to[i] = shared + W_AT + (uint32_t)((r & 1) * ODD_ROWS + (r >> 1) * 128);
        }
        const unsigned char *from = x.x + at.x_row * 128;
        for (int s = 0; s < n_stage; s++, n++) {
            int stage = n % STAGES_MANY;
            barrier_wait(bar.empty(stage), (n / STAGES_MANY & 1) ^ 1);
            if (lane == 0) {
                barrier_arrive_expect(bar.full(stage), X_STAGE + MANY_ROWS * MANY_BLOCK);
                uint32_t x_to = shared + stage * X_STAGE;
                if (PAIR > 1)
                    copy_bulk_both(x_to + rank * MANY_CHUNK, from + (s * 2 + rank) * x.rows * 128, MANY_CHUNK,
                                   bar.full(stage));
                else
#pragma unroll
                    for (int c = 0; c < 2; c++)
                        copy_bulk_in(x_to + c * MANY_CHUNK, from + (s * 2 + c) * x.rows * 128, MANY_CHUNK, bar.full(stage));
            }
            __syncwarp(); /* the barrier expects the bytes before they come */
#pragma unroll
            for (int i = 0; i < MANY_ROWS / 32; i++)
                copy_bulk_in(to[i] + stage * W_STAGE, codes[i] + s * MANY_BLOCK, MANY_BLOCK, bar.full(stage));
        }
    }
}

/* This thread's codes of a stage as the instruction's left operand, eight steps of 16 columns. */
static __device__ __forceinline__ void codes_to_f16(const unsigned char *at, uint32_t (&a)[8][4]) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        uint4 low = *reinterpret_cast<const uint4 *>(at + half * 64);          /* W's row g */
        uint4 high = *reinterpret_cast<const uint4 *>(at + half * 64 + 4 * 128); /* and g + 8 */
        const uint32_t l[4] = {low.x, low.y, low.z, low.w}, h[4] = {high.x, high.y, high.z, high.w};
#pragma unroll
        for (int s = 0; s < 4; s++) {
            a[half * 4 + s][0] = codes_f16(l[s]);
            a[half * 4 + s][1] = codes_f16(h[s]);
            a[half * 4 + s][2] = codes_f16(l[s] >> 16);
            a[half * 4 + s][3] = codes_f16(h[s] >> 16);
        }
    }
}

template <class pointers, bool EXPERTS, int PAIR>
static __device__ __forceinline__ void multiply_tiles(const product &p, const pointers &w, const many_rows &x,
                                                      const many_order &order, unsigned char *memory_of_block,
                                                      many_barriers bar, float4 *far) {
    int lane = threadIdx.x & 31, g = lane >> 2, q = lane & 3, rank = PAIR > 1 ? (int)(blockIdx.x & 1) : 0;
    int n_stage = p.cols / MANY_BLOCK, of_segment = p.segment / MANY_BLOCK, n = 0;
    int mine = (int)(threadIdx.x >> 5) * 16 + g; /* of the tile's rows of W; and the eighth after it */
    const unsigned char *codes = memory_of_block + W_AT + (mine & 1) * ODD_ROWS + (mine >> 1) * 128 + q * 16;
    float4 *near = reinterpret_cast<float4 *>(memory_of_block + NEAR_AT) + threadIdx.x;
    far += threadIdx.x;
    uint64_t tile = tile_descriptor(shared_address(memory_of_block), 16, 1024);
    for (int number = blockIdx.x / PAIR; number < order.n_w * order.n_x; number += gridDim.x / PAIR) {
        many_place place = place_of(order, number);
        many_tile at;
        if (!many_tile_of<pointers, EXPERTS>(p, w, place.x, &at)) continue;
        int row = (place.w * PAIR + rank) * MANY_ROWS + mine;
        int low_row = row < p.rows ? row : p.rows - 1, high_row = row + 8 < p.rows ? row + 8 : p.rows - 1;
        const float *low_factor = at.w.scale, *high_factor = at.w.scale;
        if (low_factor) {
            low_factor += (int64_t)((low_row + at.w.row0) >> 7) * at.w.scale_stride;
            high_factor += (int64_t)((high_row + at.w.row0) >> 7) * at.w.scale_stride;
        }
        const float *x_units = x.unit + at.x_row + q * 2;
        float total[MANY_SUMS] = {};
        int segment = 0, left = of_segment; /* stages of it */
        for (int s = 0; s < n_stage; s++, n++) {
            int stage = n % STAGES_MANY;
            float low = low_factor ? __ldg(low_factor + s) : 1.0f, high = low_factor ? __ldg(high_factor + s) : 1.0f;
            float sum[MANY_SUMS];
            uint32_t a[8][4];
            barrier_wait(bar.full(stage), n / STAGES_MANY & 1);
            codes_to_f16(codes + stage * W_STAGE, a);
            wgmma_fence();
#pragma unroll
            for (int i = 0; i < 8; i++)
                wgmma_f16_n128(sum, a[i], tile + (uint64_t)((stage * X_STAGE + (i >> 2) * MANY_CHUNK + (i & 3) * 32) >> 4), i > 0);
            wgmma_commit();
            wgmma_wait<0>();
            if (PAIR > 1) { /* both blocks wrote here */
                __syncwarp();
                if (lane < 2) barrier_arrive_cluster(cluster_address(bar.empty(stage), lane));
            } else
                barrier_arrive_warp(bar.empty(stage));
#pragma unroll
            for (int i = 0; i < MANY_SUMS; i++) total[i] = __fmaf_rn(i & 2 ? high : low, sum[i], total[i]);
            if (--left == 0 || s + 1 == n_stage) {
                many_end_segment(total, segment, s + 1 == n_stage, at.n_row, x_units + segment * x.rows, near, far);
                segment++, left = of_segment;
            }
        }
        many_store(p, at, row, total);
    }
}
#endif

template <class pointers, bool EXPERTS, int PAIR>
static __global__ void __launch_bounds__(ALL_THREADS, 1) many_wgmma(product p, const pointers w, many_rows x,
                                                                    many_order order, float4 *partial,
                                                                    int n_level) {
#ifdef V32_HOPPER
    V32_SHARED(of_block);
    uint32_t shared = shared_address(of_block);
    many_barriers bar = {shared + BARRIERS_AT};
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES_MANY; i++) {
            barrier_init(bar.full(i), 1);
            barrier_init(bar.empty(i), LOAD_WARP * PAIR);
        }
        barriers_made();
    }
    __syncthreads();
    if (PAIR > 1) cluster_arrive(), cluster_wait();
    if (threadIdx.x >= MANY_THREADS) {
        registers_fewer<40>();
        if (threadIdx.x >> 5 == LOAD_WARP) load_tiles<pointers, EXPERTS, PAIR>(p, w, x, order, shared, bar);
    } else {
        registers_more<232>();
        multiply_tiles<pointers, EXPERTS, PAIR>(p, w, x, order, of_block, bar,
                                                partial + (int64_t)blockIdx.x * n_level * (MANY_TILE_BYTES / 16));
    }
    if (PAIR > 1) cluster_arrive(), cluster_wait(); /* the other block may still write here, and tell this one */
#else
    __trap();
#endif
}

template <class pointers, bool EXPERTS, int PAIR>
static cudaError_t start(const product &p, const pointers &w, const many_rows &x, int n_tile, int n_block, float *partial,
                         cudaStream_t stream) {
    auto *kernel = &many_wgmma<pointers, EXPERTS, PAIR>;
    cudaError_t e = cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                         cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED_MANY);
    if (e != cudaSuccess) return e;
    many_order order = {cuda_blocks(p.rows, MANY_ROWS * PAIR), n_tile, 8};
    int64_t all = (int64_t)order.n_w * n_tile;
    int groups = (int)(all < n_block / PAIR ? all : n_block / PAIR);
    int n_level = many_levels(p.cols, p.segment);
    float4 *far = reinterpret_cast<float4 *>(partial);
    if (PAIR > 1)
        return V32_LAUNCH_CLUSTER(kernel, groups * PAIR, PAIR, ALL_THREADS, SHARED_MANY, stream, p, w, x, order, far, n_level);
    V32_LAUNCH(kernel, dim3((unsigned)groups), ALL_THREADS, SHARED_MANY, stream, p, w, x, order, far, n_level);
    return cudaGetLastError();
}
template <class pointers, bool EXPERTS>
static cudaError_t launch(const product &p, const pointers &w, const many_rows &x, int n_tile, int n_block, float *partial,
                          cudaStream_t stream) {
    return p.rows > MANY_ROWS ? start<pointers, EXPERTS, 2>(p, w, x, n_tile, n_block, partial, stream)
                              : start<pointers, EXPERTS, 1>(p, w, x, n_tile, n_block, partial, stream);
}
cudaError_t many_wgmma_launch(const product &p, const head_pointers &w, const many_rows &x, int n_tile, int n_block,
                              float *partial, cudaStream_t stream) {
    return launch<head_pointers, false>(p, w, x, n_tile, n_block, partial, stream);
}
cudaError_t many_wgmma_launch(const product &p, const expert_pointers &w, const many_rows &x, int n_tile, int n_block,
                              float *partial, cudaStream_t stream) {
    return launch<expert_pointers, true>(p, w, x, n_tile, n_block, partial, stream);
}
