/* product_long.cu - few rows of x with FP8 matrices, as decoding meets them.
 *
 * A warp has eight of W's rows and one segment of the columns (product.cuh): codes come straight from memory, RING steps ahead
 * of their use, become numbers in registers and meet x, which the warp has put into its own part of shared memory.
 * Segments of the same rows belong to warps of one block, which adds their sums in ascending order at the end.
 */
#include "kernels/cuda/product.cuh"

enum {
    RING = 16,                     /* steps whose codes a lane has asked for */
    RING_FACTORS = RING * TILE_K / 128 + 1, /* blocks of factors that a lane's columns of RING steps lie in */
    FEW_ROWS = 2,                  /* up to so many rows of x are kept for a whole segment, of more RING steps */
    MOST_WARPS = 8,                /* of a block */
    LEAST_WARPS = 4,
};

/* How a block is made: `slots` warps share the segments of eight rows, `groups` times. x_steps: of the longest segment. */
struct long_shape {
    int n_segment, slots, groups, most_rows, x_steps;
};

/* uint4 of x that a warp keeps: [steps][most_rows][4], 8 bf16 each. */
static __host__ __device__ __forceinline__ int x_room(const long_shape &s) {
    return (s.most_rows <= FEW_ROWS ? s.x_steps : RING) * s.most_rows * 4;
}

template <class pointers, bool EXPERTS, bool FEW>
static __global__ void __launch_bounds__(MOST_WARPS * 32, 2) product_long(product p, const pointers w, long_shape s) {
    extern __shared__ __align__(128) unsigned char memory[];
    piece at;
    if (!find_piece<pointers, EXPERTS>(p, w, SMALL_ROWS, &at)) return;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, q = lane & 3;
    int group = warp / s.slots, slot = warp - group * s.slots;
    int col0 = (blockIdx.x * s.groups + group) * 8;
    int n_row = at.end - at.row0 < SMALL_ROWS ? at.end - at.row0 : SMALL_ROWS;
    if (n_row > s.most_rows) __trap();
    uint4 *xs = reinterpret_cast<uint4 *>(memory) + warp * x_room(s);
    float4 *parts = reinterpret_cast<float4 *>(reinterpret_cast<uint4 *>(memory) + s.slots * s.groups * x_room(s));
    int w_row = col0 + g < p.rows ? col0 + g : p.rows - 1; /* what lies beyond is computed and not stored */
    const unsigned char *from = static_cast<const unsigned char *>(at.w.data) + (int64_t)w_row * p.w_stride + q * 8;
    int n_step = (p.cols + TILE_K - 1) / TILE_K;

    uint2 ring[RING];
    float factor[RING_FACTORS];
    auto ask = [&](int step) {
        return step < n_step ? __ldg(reinterpret_cast<const uint2 *>(from + (int64_t)step * TILE_K)) : make_uint2(0, 0);
    };
    auto ask_factors = [&](int step, float *to) {
#pragma unroll
        for (int i = 0; i < RING_FACTORS; i++) {
            int c = step * TILE_K + i * 128 - at.w.col0; /* a column of block number i, or its edge */
            if (c < step * TILE_K) c = step * TILE_K;
            to[i] = c < p.cols ? factor_at(at.w, w_row, c) : 0.0f;
        }
    };
    /* Columns of x from step `step` on, as bf16, into this warp's room. */
    auto keep_x = [&](int step, int steps) {
        __syncwarp();
        for (int r = 0; r < n_row; r++) {
            int row = at.row0 + r;
            const float *x = at.x + (int64_t)(EXPERTS && p.list ? p.list[row] : row) * p.x_stride;
#pragma unroll 4
            for (int i = lane; i < steps * 4; i += 32) {
                int c = step * TILE_K + i * 8;
                float v[8];
                if (p.vector) {
                    float4 low = make_float4(0, 0, 0, 0), high = low;
                    if (c < p.cols) low = *reinterpret_cast<const float4 *>(x + c);
                    if (c + 4 < p.cols) high = *reinterpret_cast<const float4 *>(x + c + 4);
                    v[0] = low.x, v[1] = low.y, v[2] = low.z, v[3] = low.w;
                    v[4] = high.x, v[5] = high.y, v[6] = high.z, v[7] = high.w;
                } else
#pragma unroll
                    for (int j = 0; j < 8; j++) v[j] = c + j < p.cols ? x[c + j] : 0.0f;
                xs[((i >> 2) * s.most_rows + r) * 4 + (i & 3)] =
                    make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7]));
            }
        }
        __syncwarp();
    };

    int first = slot * SEGMENT_STEPS;
#pragma unroll
    for (int i = 0; i < RING; i++) ring[i] = ask(first + i);
    ask_factors(first, factor);
    for (int segment = slot; segment < s.n_segment; segment += s.slots) {
        first = segment * SEGMENT_STEPS;
        int end = first + SEGMENT_STEPS < n_step ? first + SEGMENT_STEPS : n_step;
        float sum[4] = {};
        if (FEW) keep_x(first, end - first);
        for (int step = first; step < end; step += RING) {
            if (!FEW) keep_x(step, RING);
            int following = step + RING < end ? step + RING : (segment + s.slots) * SEGMENT_STEPS;
            const uint4 *x_at = xs + (FEW ? step - first : 0) * s.most_rows * 4 + g * 4 + q;
            float next_factor[RING_FACTORS];
            ask_factors(following, next_factor);
            auto one = [&](int i) {
                uint4 low = make_uint4(0, 0, 0, 0), high = low;
                if (g < n_row) low = x_at[i * s.most_rows * 4];
                if (!FEW && g + 8 < n_row) high = x_at[i * s.most_rows * 4 + 32];
                int block = i * TILE_K / 128; /* of the step's first column: this one or the next, both known now */
                uint4 v = eight_codes(ring[i], i * TILE_K % 128 + q * 8 + at.w.col0 < 128 ? factor[block] : factor[block + 1]);
                mma_bf16(sum, low.x, high.x, low.y, high.y, v.x, v.y);
                mma_bf16(sum, low.z, high.z, low.w, high.w, v.z, v.w);
                ring[i] = ask(following + i);
            };
            if (step + RING <= end) {
#pragma unroll
                for (int i = 0; i < RING; i++) one(i);
            } else {
#pragma unroll
                for (int i = 0; i < RING; i++) {
                    if (step + i >= end) break;
                    one(i);
                }
#pragma unroll
                for (int i = 0; i < RING; i++) ring[i] = ask(following + i); /* also of the steps left out */
            }
#pragma unroll
            for (int i = 0; i < RING_FACTORS; i++) factor[i] = next_factor[i];
        }
        parts[(group * s.n_segment + segment) * 32 + lane] = make_float4(sum[0], sum[1], sum[2], sum[3]);
    }
    __syncthreads();
    if (warp >= s.groups) return;
    col0 = (blockIdx.x * s.groups + warp) * 8;
    float4 total = parts[warp * s.n_segment * 32 + lane];
    for (int i = 1; i < s.n_segment; i++) {
        float4 v = parts[(warp * s.n_segment + i) * 32 + lane];
        total.x += v.x, total.y += v.y, total.z += v.z, total.w += v.w;
    }
    float sum[4] = {total.x, total.y, total.z, total.w};
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int r = at.row0 + half * 8 + g;
        if (r >= at.end || half * 8 + g >= n_row) continue;
        float *y = at.y + (int64_t)r * p.y_stride;
#pragma unroll
        for (int e = 0; e < 2; e++) {
            int c = col0 + q * 2 + e;
            if (c >= p.rows) continue;
            float v = sum[half * 2 + e];
            y[c] = p.accumulate ? y[c] + v : v;
        }
    }
}

template <class pointers, bool EXPERTS, bool FEW>
static void start(const kern *k, const product &p, const pointers &w, const long_shape &s, int n_tile, int n_z) {
    int warps = s.slots * s.groups;
    size_t shared = (size_t)warps * x_room(s) * sizeof(uint4) + (size_t)s.groups * s.n_segment * 32 * sizeof(float4);
    cuda_allow_shared(k, reinterpret_cast<const void *>(&product_long<pointers, EXPERTS, FEW>), shared);
    product_long<pointers, EXPERTS, FEW>
        <<<dim3(cuda_blocks(p.rows, 8 * s.groups), n_tile, n_z), warps * 32, shared, cuda_stream(k)>>>(p, w, s);
    cuda_launched(k, "a matrix product");
}

template <class pointers, bool EXPERTS>
static void launch_long(const kern *k, const product &p, const pointers &w, int n_tile, int most_rows, int n_z) {
    long_shape s = {};
    s.most_rows = most_rows;
    s.n_segment = cuda_blocks(p.cols, SEGMENT);
    s.x_steps = s.n_segment > 1 ? SEGMENT_STEPS : cuda_blocks(p.cols, TILE_K);
    int rounds = cuda_blocks(s.n_segment, MOST_WARPS);
    s.slots = cuda_blocks(s.n_segment, rounds);
    s.groups = s.slots >= LEAST_WARPS ? 1 : LEAST_WARPS / s.slots;
    if (most_rows <= FEW_ROWS)
        start<pointers, EXPERTS, true>(k, p, w, s, n_tile, n_z);
    else
        start<pointers, EXPERTS, false>(k, p, w, s, n_tile, n_z);
}

void cuda_product_long(const kern *k, const product &p, const head_pointers &w, int n_tile, int most_rows, int n_z) {
    launch_long<head_pointers, false>(k, p, w, n_tile, most_rows, n_z);
}
void cuda_product_long(const kern *k, const product &p, const expert_pointers &w, int n_tile, int most_rows, int n_z) {
    launch_long<expert_pointers, true>(k, p, w, n_tile, most_rows, n_z);
}
