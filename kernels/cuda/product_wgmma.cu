/* product_wgmma.cu - products of many rows with FP8 matrices by Hopper's warpgroup instructions (product_many.cuh).
 *
 * A block walks tiles of 128 of W's rows with 128 of x's. Four warps load stages of 64 columns, codes piece by piece, x by bulk
 * copies of what many_prepare left; two warpgroups of 64 of W's rows each make codes fp16 in registers and multiply. What a
 * warpgroup does between its products (adding a block's sums, a segment's end, writing a tile) is hidden behind the other's
 * products, as far as the stages that wait reach. Blocks go in pairs with neighbouring rows of W: each loads half of x's
 * tile for both, because otherwise the L2 has to give 48 bytes a cycle to every multiprocessor.
 */
#include "kernels/cuda/product_many.cuh"
#include "kernels/cuda/product_wgmma.cuh"

#include <type_traits>

enum {
    STAGES_MANY = 6,
    STAGE_COLS = 64, /* half of a block */
    X_STAGE = MANY_CHUNK,
    W_STAGE = MANY_ROWS * STAGE_COLS,
    UNIT_STAGE = MANY_ROWS * 4, /* x's units, in a segment's last stage */
    W_AT = STAGES_MANY * X_STAGE,
    UNITS_AT = W_AT + STAGES_MANY * W_STAGE,
    /* of a warpgroup: sums of a segment that wait for the next one's; a tile on its way out, rows of x, 64 of W's and 4 to spread
     * the banks */
    NEAR_AT = UNITS_AT + STAGES_MANY * UNIT_STAGE,
    OUT_STRIDE = MANY_ROWS / 2 + 4,
    OUT_GROUP = MANY_ROWS * OUT_STRIDE * 4, /* bytes of a warpgroup */
    BARRIERS_AT = NEAR_AT + 2 * OUT_GROUP,
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
/* Where a role is in the ring of stages. */
struct many_ring {
    int stage, turn;
    __device__ __forceinline__ void next() {
        if (++stage == STAGES_MANY) stage = 0, turn ^= 1;
    }
};

/* Stages of this block's tiles: codes and units piece by piece by 128 threads, x by bulk copies that one of them asks for. */
template <class pointers, bool EXPERTS, int PAIR>
static __device__ __forceinline__ void load_tiles(const product &p, const pointers &w, const many_rows &x,
                                                  const many_order &order, uint32_t shared, many_barriers bar) {
    constexpr int ROWS = W_STAGE / 16 / LOAD_THREADS; /* of a thread, 32 apart */
    int thread = threadIdx.x - MANY_THREADS, rank = PAIR > 1 ? (int)(blockIdx.x & 1) : 0, part = thread & 3, r0 = thread >> 2;
    int n_block = p.cols / MANY_BLOCK, of_segment = p.segment / MANY_BLOCK;
    uint32_t to = shared + W_AT + (uint32_t)(r0 * STAGE_COLS + part * 16);
    many_ring at = {0, 1};
    for (int number = blockIdx.x / PAIR; number < order.n_w * order.n_x; number += gridDim.x / PAIR) {
        many_place place = place_of(order, number);
        many_tile tile;
        if (!many_tile_of<pointers, EXPERTS>(p, w, place.x, &tile)) continue;
        int row = (place.w * PAIR + rank) * MANY_ROWS + r0; /* what is beyond the last is not stored */
        const unsigned char *from[ROWS];
#pragma unroll
        for (int i = 0; i < ROWS; i++)
            from[i] = static_cast<const unsigned char *>(tile.w.data) + part * 16 +
                      (int64_t)(row + i * 32 < p.rows ? row + i * 32 : p.rows - 1) * p.w_stride;
        const unsigned char *x_from = x.x + (tile.x_row + (PAIR > 1 ? rank * (MANY_ROWS / 2) : 0)) * 128;
        const float *unit = x.unit + tile.x_row + (thread < tile.n_row ? thread : 0);
        int left = of_segment;
        for (int b = 0; b < n_block; b++) {
            left--;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                uint32_t full = bar.full(at.stage);
                barrier_wait(bar.empty(at.stage), at.turn);
                if (thread == 0) {
                    barrier_arrive_expect(full, X_STAGE);
                    if (PAIR > 1)
                        copy_bulk_both(shared + at.stage * X_STAGE + rank * (X_STAGE / 2), x_from, X_STAGE / 2, full);
                    else
                        copy_bulk_in(shared + at.stage * X_STAGE, x_from, X_STAGE, full);
                }
                x_from += x.rows * 128;
#pragma unroll
                for (int i = 0; i < ROWS; i++)
                    copy_async16_to(to + at.stage * W_STAGE + i * 32 * STAGE_COLS, from[i] + half * STAGE_COLS, true);
                if (half == 1 && (left == 0 || b + 1 == n_block)) {
                    copy_async4_to(shared + UNITS_AT + at.stage * UNIT_STAGE + thread * 4, unit);
                    unit += x.rows, left = of_segment;
                }
                barrier_arrive_copied(full);
                at.next();
            }
#pragma unroll
            for (int i = 0; i < ROWS; i++) from[i] += MANY_BLOCK;
        }
    }
}

/* A thread's codes of a stage, of W's rows g and g + 8, as the instruction's left operand: four steps of 16 columns. */
static __device__ __forceinline__ void codes_to_f16(const uint4 &low, const uint4 &high, uint32_t (&a)[4][4]) {
    const uint32_t l[4] = {low.x, low.y, low.z, low.w}, h[4] = {high.x, high.y, high.z, high.w};
#pragma unroll
    for (int s = 0; s < 4; s++) {
        codes_f16(l[s], &a[s][0], &a[s][2]);
        codes_f16(h[s], &a[s][1], &a[s][3]);
    }
}
/* Half a block's products with all of the tile's rows of x or the first 64: asked for, not waited for. */
template <bool ALL>
static __device__ __forceinline__ void multiply(float (&sum)[MANY_SUMS], const uint32_t (&a)[4][4], uint64_t x_tile, int second) {
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (ALL) wgmma_f16_n128(sum, a[i], x_tile + (uint64_t)(i * 32 >> 4), i > 0 || second);
        else wgmma_f16_n64(sum, a[i], x_tile + (uint64_t)(i * 32 >> 4), i > 0 || second);
    }
    wgmma_commit();
}

/* A warpgroup's rows of a finished tile: through shared memory, so that what is written is whole. out: its part. */
static __device__ __forceinline__ void write_tile(const product &p, const many_tile &tile, int w_row, float *out,
                                                  const float (&total)[MANY_SUMS]) {
    int thread = threadIdx.x & 127, lane = thread & 31, q = lane & 3, mine = (thread >> 5) * 16 + (lane >> 2);
    group_barrier((int)threadIdx.x >> 7); /* what waited there has been read */
#pragma unroll
    for (int i = 0; i < MANY_SUMS; i++)
        out[((i >> 2) * 8 + q * 2 + (i & 1)) * OUT_STRIDE + mine + (i & 2) * 4] = total[i];
    group_barrier((int)threadIdx.x >> 7);
    int part = (thread & 15) * 4, n = w_row + part, rest = p.rows - n;
    bool whole = rest >= 4 && p.y_stride % 4 == 0 && reinterpret_cast<uintptr_t>(tile.y) % 16 == 0;
#pragma unroll 4
    for (int r = thread >> 4; r < tile.n_row; r += 8) {
        float4 v = *reinterpret_cast<const float4 *>(out + r * OUT_STRIDE + part);
        float *y = tile.y + (int64_t)r * p.y_stride + n;
        if (whole) {
            float4 *to = reinterpret_cast<float4 *>(y);
            if (p.accumulate) {
                float4 before = *to;
                v.x = before.x + v.x, v.y = before.y + v.y, v.z = before.z + v.z, v.w = before.w + v.w;
            }
            *to = v;
        } else {
            const float each[4] = {v.x, v.y, v.z, v.w};
            for (int i = 0; i < 4 && i < rest; i++) y[i] = p.accumulate ? y[i] + each[i] : each[i];
        }
    }
    group_barrier((int)threadIdx.x >> 7); /* `out` has been read */
}

template <class pointers, bool EXPERTS, int PAIR>
static __device__ __forceinline__ void multiply_tiles(const product &p, const pointers &w, const many_rows &x,
                                                      const many_order &order, unsigned char *of_block, many_barriers bar,
                                                      float4 *far) {
    int lane = threadIdx.x & 31, q = lane & 3, rank = PAIR > 1 ? (int)(blockIdx.x & 1) : 0, group = (int)threadIdx.x >> 7;
    int n_block = p.cols / MANY_BLOCK, of_segment = p.segment / MANY_BLOCK;
    int mine = (int)(threadIdx.x >> 5) * 16 + (lane >> 2); /* of the tile's rows of W; and the eighth after it */
    const unsigned char *codes = of_block + W_AT + mine * STAGE_COLS + q * 16;
    const float *units = reinterpret_cast<const float *>(of_block + UNITS_AT);
    float *out = reinterpret_cast<float *>(of_block + NEAR_AT + group * OUT_GROUP);
    float4 *near = reinterpret_cast<float4 *>(out) + (threadIdx.x & 127);
    far += threadIdx.x;
    uint64_t x_tiles = tile_descriptor(shared_address(of_block), 16, 1024);
    uint32_t empty = PAIR > 1 ? cluster_address(bar.empty(0), lane & 1) : bar.empty(0); /* both blocks write in both */
    many_ring at = {0, 0}, ahead = {0, 0}; /* products; codes */
    uint4 raw[2][2];                       /* of the next block: its halves, W's rows g and g + 8 */
    auto fetch = [&] {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            barrier_wait(bar.full(ahead.stage), ahead.turn);
            const unsigned char *from = codes + ahead.stage * W_STAGE;
            raw[half][0] = *reinterpret_cast<const uint4 *>(from);
            raw[half][1] = *reinterpret_cast<const uint4 *>(from + 8 * STAGE_COLS);
            ahead.next();
        }
    };
    auto x_tile = [&] { return x_tiles + (uint64_t)(at.stage * (X_STAGE >> 4)); };
    auto release = [&](int stage) {
        __syncwarp();
#if V32_LANES > 1 /* for racecheck (v32_wgmma.cuh) every lane, at both */
        barrier_arrive_cluster(cluster_address(bar.empty(stage), 0));
        if (PAIR > 1) barrier_arrive_cluster(cluster_address(bar.empty(stage), 1));
#else
        if (PAIR > 1) {
            if (lane < 2) barrier_arrive_cluster(empty + (uint32_t)stage * 16);
        } else if (lane == 0)
            barrier_arrive(empty + (uint32_t)stage * 16);
#endif
    };
    for (int number = blockIdx.x / PAIR; number < order.n_w * order.n_x; number += gridDim.x / PAIR) {
        many_place place = place_of(order, number);
        many_tile tile;
        if (!many_tile_of<pointers, EXPERTS>(p, w, place.x, &tile)) continue;
        int row = (place.w * PAIR + rank) * MANY_ROWS + mine;
        int low_row = row < p.rows ? row : p.rows - 1, high_row = row + 8 < p.rows ? row + 8 : p.rows - 1;
        const float *low_factor = tile.w.scale, *high_factor = tile.w.scale;
        if (low_factor) {
            low_factor += (int64_t)((low_row + tile.w.row0) >> 7) * tile.w.scale_stride;
            high_factor += (int64_t)((high_row + tile.w.row0) >> 7) * tile.w.scale_stride;
        }
        auto factor_of = [&](const float *factor, int b) { return factor ? __ldg(factor + b) : 1.0f; };
        float total[MANY_SUMS] = {}, sum[MANY_SUMS];
        int segment = 0, left = of_segment; /* blocks of it to come */
        float low = factor_of(low_factor, 0), high = factor_of(high_factor, 0);
        /* block b, whose codes are in `raw`; then `raw` has those of the block after it, unless this is the `last` */
        auto block_sums = [&](int b, auto all, auto last) {
            constexpr bool ALL = decltype(all)::value, LAST = decltype(last)::value;
            uint32_t a[2][4][4];
            float next_low = 1.0f, next_high = 1.0f;
            int stages[2];
#pragma unroll
            for (int half = 0; half < 2; half++) {
                codes_to_f16(raw[half][0], raw[half][1], a[half]);
                multiply<ALL>(sum, a[half], x_tile(), half);
                stages[half] = at.stage;
                at.next();
            }
            if (!LAST) {
                next_low = factor_of(low_factor, b + 1), next_high = factor_of(high_factor, b + 1);
                fetch();
            }
            wgmma_wait<1>();
            release(stages[0]);
            wgmma_wait<0>();
            bool ends = --left == 0 || LAST;
            if (!ends) release(stages[1]);
#pragma unroll
            for (int i = 0; i < (ALL ? MANY_SUMS : MANY_SUMS / 2); i++) total[i] = __fmaf_rn(i & 2 ? high : low, sum[i], total[i]);
            low = next_low, high = next_high;
            if (ends) {
                const float *unit = units + stages[1] * (UNIT_STAGE / 4);
                auto unit_of = [&](int r) { return *reinterpret_cast<const float2 *>(unit + r); };
                auto units_read = [&] { release(stages[1]); };
                many_end_segment<true>(total, segment, LAST, unit_of, units_read, near, far);
                segment++, left = of_segment;
            }
        };
        auto tile_sums = [&](auto all) {
            fetch();
            for (int b = 0; b + 1 < n_block; b++) block_sums(b, all, std::false_type());
            block_sums(n_block - 1, all, std::true_type());
        };
        if (tile.n_row > MANY_ROWS / 2) tile_sums(std::true_type());
        else tile_sums(std::false_type());
        write_tile(p, tile, row - mine + group * (MANY_ROWS / 2), out, total);
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
            barrier_init_warps(bar.empty(i), MANY_THREADS / 32 * PAIR);
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
