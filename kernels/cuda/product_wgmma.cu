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

#include <type_traits>

enum {
    STAGES_MANY = 3,
    X_STAGE = 2 * MANY_CHUNK,
    W_STAGE = MANY_ROWS * MANY_BLOCK,
    UNIT_STAGE = MANY_ROWS * 4, /* x's units, in a segment's last stage */
    W_AT = STAGES_MANY * X_STAGE,
    UNITS_AT = W_AT + STAGES_MANY * W_STAGE,
    NEAR_AT = UNITS_AT + STAGES_MANY * UNIT_STAGE,
    BARRIERS_AT = NEAR_AT + MANY_TILE_BYTES,
    SHARED_MANY = BARRIERS_AT + STAGES_MANY * 16,
    LOAD_THREADS = 128,
    ALL_THREADS = MANY_THREADS + LOAD_THREADS,
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

/* Stages of this block's tiles: codes and units piece by piece by 128 threads, x by bulk copies that one of them asks for. */
template <class pointers, bool EXPERTS, int PAIR>
static __device__ __forceinline__ void load_tiles(const product &p, const pointers &w, const many_rows &x,
                                                  const many_order &order, uint32_t shared, many_barriers bar) {
    int thread = threadIdx.x - MANY_THREADS, rank = PAIR > 1 ? (int)(blockIdx.x & 1) : 0, part = thread & 7, r0 = thread >> 3;
    int n_stage = p.cols / MANY_BLOCK, of_segment = p.segment / MANY_BLOCK, n = 0;
    uint32_t to = shared + W_AT + (uint32_t)many_code_place(r0, part); /* sixteen rows on: the same place in the banks */
    for (int number = blockIdx.x / PAIR; number < order.n_w * order.n_x; number += gridDim.x / PAIR) {
        many_place place = place_of(order, number);
        many_tile at;
        if (!many_tile_of<pointers, EXPERTS>(p, w, place.x, &at)) continue;
        int row = (place.w * PAIR + rank) * MANY_ROWS + r0; /* and each sixteenth after it; what is beyond is not stored */
        const unsigned char *codes = static_cast<const unsigned char *>(at.w.data) + part * 16;
        const unsigned char *from[MANY_ROWS / 16];
#pragma unroll
        for (int i = 0; i < MANY_ROWS / 16; i++)
            from[i] = codes + (int64_t)(row + i * 16 < p.rows ? row + i * 16 : p.rows - 1) * p.w_stride;
        const unsigned char *x_from = x.x + at.x_row * 128;
        const float *unit = x.unit + at.x_row + (thread < at.n_row ? thread : 0);
        int left = of_segment;
        for (int s = 0; s < n_stage; s++, n++) {
            int stage = n % STAGES_MANY;
            barrier_wait(bar.empty(stage), (n / STAGES_MANY & 1) ^ 1);
            if (thread == 0) {
                barrier_arrive_expect(bar.full(stage), X_STAGE);
                uint32_t x_to = shared + stage * X_STAGE;
                if (PAIR > 1)
                    copy_bulk_both(x_to + rank * MANY_CHUNK, x_from + (s * 2 + rank) * x.rows * 128, MANY_CHUNK,
                                   bar.full(stage));
                else
#pragma unroll
                    for (int c = 0; c < 2; c++)
                        copy_bulk_in(x_to + c * MANY_CHUNK, x_from + (s * 2 + c) * x.rows * 128, MANY_CHUNK, bar.full(stage));
            }
#pragma unroll
            for (int i = 0; i < MANY_ROWS / 16; i++)
                copy_async16_to(to + stage * W_STAGE + i * 16 * 128, from[i] + s * MANY_BLOCK, true);
            if (--left == 0 || s + 1 == n_stage) {
                copy_async4_to(shared + UNITS_AT + stage * UNIT_STAGE + thread * 4, unit);
                unit += x.rows, left = of_segment;
            }
            barrier_arrive_copied(bar.full(stage));
        }
    }
}

/* A thread's codes of a stage, of two of W's rows, as the instruction's left operand: eight steps of 16 columns. */
static __device__ __forceinline__ void codes_to_f16(const uint4 (&codes)[2][2], uint32_t (&a)[8][4]) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const uint4 &low = codes[half][0], &high = codes[half][1];
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

/* T of 64 of x's rows: asked for, not waited for. */
static __device__ __forceinline__ void multiply(float (&sum)[MANY_SUMS / 2], const uint32_t (&a)[8][4], uint64_t tile) {
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < 8; i++)
        wgmma_f16_n64(sum, a[i], tile + (uint64_t)(((i >> 2) * MANY_CHUNK + (i & 3) * 32) >> 4), i > 0);
    wgmma_commit();
}
template <int HALF>
static __device__ __forceinline__ void add_block(float (&total)[MANY_SUMS], const float (&sum)[MANY_SUMS / 2], float low,
                                                 float high) {
#pragma unroll
    for (int i = 0; i < MANY_SUMS / 2; i++)
        total[HALF * (MANY_SUMS / 2) + i] = __fmaf_rn(i & 2 ? high : low, sum[i], total[HALF * (MANY_SUMS / 2) + i]);
}

/* A warpgroup's part of this block's tiles. x's rows are two halves with sums of their own: while the tensor cores work for one
 * half, the other's are added to the segment's, so that they never wait for that. */
template <class pointers, bool EXPERTS, int PAIR>
static __device__ __forceinline__ void multiply_tiles(const product &p, const pointers &w, const many_rows &x,
                                                      const many_order &order, unsigned char *of_block, many_barriers bar,
                                                      float4 *far) {
    int lane = threadIdx.x & 31, q = lane & 3, rank = PAIR > 1 ? (int)(blockIdx.x & 1) : 0;
    int n_stage = p.cols / MANY_BLOCK, of_segment = p.segment / MANY_BLOCK, n = 0;
    int mine = (int)(threadIdx.x >> 5) * 16 + (lane >> 2); /* of the tile's rows of W; and the eighth after it */
    const unsigned char *low_half = of_block + W_AT + many_code_place(mine, q);
    const unsigned char *high_half = of_block + W_AT + many_code_place(mine, q + 4);
    const float *units = reinterpret_cast<const float *>(of_block + UNITS_AT);
    float4 *near = reinterpret_cast<float4 *>(of_block + NEAR_AT) + threadIdx.x;
    far += threadIdx.x;
    uint64_t tile = tile_descriptor(shared_address(of_block), 16, 1024);
    const uint64_t other_half = (MANY_ROWS / 2 * 128) >> 4;
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
        float total[MANY_SUMS] = {}, even[MANY_SUMS / 2], odd[MANY_SUMS / 2], low = 0.0f, high = 0.0f;
        int segment = 0, left = of_segment; /* stages of it whose sums are not all added */
        /* stage s is all added, and may go */
        auto finish = [&](int s) {
            int stage = (n + s) % STAGES_MANY;
            if (--left == 0 || s + 1 == n_stage) {
                const float *unit = units + stage * (UNIT_STAGE / 4);
                auto unit_of = [&](int r) { return *reinterpret_cast<const float2 *>(unit + r); };
                many_end_segment(total, segment, s + 1 == n_stage, unit_of, near, far);
                segment++, left = of_segment;
            }
            if (PAIR > 1) { /* both blocks wrote here */
                __syncwarp();
                if (lane < 2) barrier_arrive_cluster(cluster_address(bar.empty(stage), lane));
            } else
                barrier_arrive_warp(bar.empty(stage));
        };
        /* codes of stage s as fp16, once it is there; `wait`: for what still reads the fragments */
        auto take = [&](int s, uint32_t (&a)[8][4], auto wait) {
            int stage = (n + s) % STAGES_MANY;
            barrier_wait(bar.full(stage), (n + s) / STAGES_MANY & 1);
            uint4 codes[2][2]; /* columns' half, W's rows g and g + 8 */
#pragma unroll
            for (int i = 0; i < 2; i++) {
                codes[0][i] = *reinterpret_cast<const uint4 *>(low_half + stage * W_STAGE + i * 8 * 128);
                codes[1][i] = *reinterpret_cast<const uint4 *>(high_half + stage * W_STAGE + i * 8 * 128);
            }
            if (decltype(wait)::value) wgmma_wait<0>();
            codes_to_f16(codes, a);
            return tile + (uint64_t)(stage * (X_STAGE >> 4));
        };
        auto factor_of = [&](const float *factor, int s) { return factor ? __ldg(factor + s) : 1.0f; };
        /* Stage s but for the sums of its second half; `more`: those of the stage before still have to be added. */
        auto stage_sums = [&](int s, auto more) {
            float next_low = factor_of(low_factor, s), next_high = factor_of(high_factor, s);
            uint32_t a[8][4];
            uint64_t x_tile = take(s, a, more);
            multiply(even, a, x_tile);
            if (decltype(more)::value) {
                add_block<1>(total, odd, low, high);
                finish(s - 1);
            }
            low = next_low, high = next_high;
            multiply(odd, a, x_tile + other_half);
            wgmma_wait<1>();
            add_block<0>(total, even, low, high);
        };
        if (at.n_row > MANY_ROWS / 2) {
            stage_sums(0, std::false_type());
            for (int s = 1; s < n_stage; s++) stage_sums(s, std::true_type());
            wgmma_wait<0>();
            add_block<1>(total, odd, low, high);
            finish(n_stage - 1);
        } else {
            for (int s = 0; s < n_stage; s++) {
                low = factor_of(low_factor, s), high = factor_of(high_factor, s);
                uint32_t a[8][4];
                multiply(even, a, take(s, a, std::false_type()));
                wgmma_wait<0>();
                add_block<0>(total, even, low, high);
                finish(s);
            }
        }
        many_store(p, at, row, total);
        n += n_stage;
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
            barrier_init(bar.full(i), LOAD_THREADS + 1);
            barrier_init(bar.empty(i), MANY_THREADS / 32 * PAIR);
        }
        barriers_made();
    }
    __syncthreads();
    if (PAIR > 1) cluster_arrive(), cluster_wait();
    if (threadIdx.x >= MANY_THREADS) {
        registers_fewer<40>();
        load_tiles<pointers, EXPERTS, PAIR>(p, w, x, order, shared, bar);
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
