/* product_long.cu - few rows of x with FP8 matrices, as decoding meets them.
 *
 * A warp has eight of W's rows and one segment of the columns (product.cuh). Codes come through a ring in the warp's part of
 * shared memory, RING stages of 128 columns ahead of their use, become numbers in registers and meet x, which the warp
 * has put beside the ring, as it has the factors. Segments of the same rows belong to warps of one block, which adds
 * their sums in ascending order at the end. The loop is short on purpose: a product of few rows is over before a long
 * one has been fetched.
 */
#include "kernels/cuda/product.cuh"

enum {
    STAGE_COLS = 128,
    STAGE_STEPS = STAGE_COLS / TILE_K,
    RING = 6,                                 /* stages of a warp: 8 rows of 128 codes each */
    STAGE_CODES = 8 * STAGE_COLS / 16,        /* uint4 of a stage */
    BLOCKS = SEGMENT / 128 + 1,               /* of factors that a segment lies in */
    FACTOR_ROOM = (8 * BLOCKS + 3) / 4,       /* uint4 */
    FEW_ROWS = 2,                             /* up to so many rows of x are kept for a whole segment, of more: */
    MANY_STAGES = 4,
    MOST_WARPS = 8,                           /* of a block */
    LEAST_WARPS = 4,
};

/* How a block is made: `slots` warps share the segments of eight rows, `groups` times. x_steps: of x that are kept. */
struct long_shape {
    int n_segment, slots, groups, most_rows, x_steps;
};

/* uint4 of a warp: codes, factors, and x [steps][most_rows][4], 8 bf16 each. */
static __host__ __device__ __forceinline__ int warp_room(const long_shape &s) {
    return RING * STAGE_CODES + FACTOR_ROOM + s.x_steps * s.most_rows * 4;
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
    uint4 *ring = reinterpret_cast<uint4 *>(memory) + warp * warp_room(s);
    float *factors = reinterpret_cast<float *>(ring + RING * STAGE_CODES); /* [BLOCKS][8 rows] */
    uint4 *xs = ring + RING * STAGE_CODES + FACTOR_ROOM;
    float4 *parts = reinterpret_cast<float4 *>(reinterpret_cast<uint4 *>(memory) + s.slots * s.groups * warp_room(s));
    int n_step = (p.cols + TILE_K - 1) / TILE_K, n_stage = (n_step + STAGE_STEPS - 1) / STAGE_STEPS;
    enum { SEGMENT_STAGES = SEGMENT / STAGE_COLS };

    /* A stage's pieces of 16 codes: lane l brings row l / 8 and that + 4, piece l % 8. What a quarter of the lanes reads
     * at once then lies in different banks: pieces of a row are turned by twice its number. */
    const unsigned char *codes = static_cast<const unsigned char *>(at.w.data);
    const unsigned char *from[2];
    int to[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int r = i * 4 + (lane >> 3), row = col0 + r < p.rows ? col0 + r : p.rows - 1; /* beyond: computed, not stored */
        from[i] = codes + (int64_t)row * p.w_stride + (lane & 7) * 16;
        to[i] = r * 8 + (((lane & 7) + 2 * r) & 7);
    }
    auto ask = [&](int stage, int place) { /* stage: of the whole matrix */
#pragma unroll
        for (int i = 0; i < 2; i++) {
            bool valid = stage < n_stage && stage * STAGE_COLS + (lane & 7) * 16 < p.w_stride;
            copy_async16(ring + place * STAGE_CODES + to[i], valid ? from[i] + (int64_t)stage * STAGE_COLS : codes, valid);
        }
    };
    /* Columns of x from step `step` on, as bf16, into this warp's room. */
    auto keep_x = [&](int step, int steps) {
#pragma unroll 1
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
    };
    /* Block b of row r's factors of a segment: the one around the segment's column 128 b - w.col0, or its edge. */
    auto keep_factors = [&](int first) {
#pragma unroll 2
        for (int i = lane; i < 8 * BLOCKS; i += 32) {
            int row = col0 + (i & 7) < p.rows ? col0 + (i & 7) : p.rows - 1, c = first * TILE_K + (i >> 3) * 128 - at.w.col0;
            if (c < first * TILE_K) c = first * TILE_K;
            factors[i] = c < p.cols ? factor_at(at.w, row, c) : 0.0f;
        }
    };

    /* the stages of this warp's segments, one after the other; `coming` is the one that is asked for next */
    int coming = slot * SEGMENT_STAGES, asked = 0, place = 0;
    auto ask_next = [&] {
        ask(coming, asked);
        copy_commit();
        asked = asked + 1 < RING ? asked + 1 : 0;
        coming += (coming + 1) % SEGMENT_STAGES ? 1 : 1 + (s.slots - 1) * SEGMENT_STAGES;
    };
#pragma unroll 1
    for (int i = 0; i < RING - 1; i++) ask_next();
#pragma unroll 1
    for (int segment = slot; segment < s.n_segment; segment += s.slots) {
        int first = segment * SEGMENT_STEPS, end = first + SEGMENT_STEPS < n_step ? first + SEGMENT_STEPS : n_step;
        float sum[4] = {};
        __syncwarp(); /* all have read what the segment before left */
        keep_factors(first);
        if (FEW) keep_x(first, end - first);
#pragma unroll 1
        for (int step = first; step < end; step += STAGE_STEPS) {
            int kept = FEW ? step - first : (step - first) % (MANY_STAGES * STAGE_STEPS);
            copy_wait<RING - 2>();
            __syncwarp(); /* this stage, factors and x are there for all lanes; the stage before has been read */
            if (!FEW && kept == 0) {
                keep_x(step, MANY_STAGES * STAGE_STEPS);
                __syncwarp();
            }
            ask_next();
            const unsigned char *stage = reinterpret_cast<const unsigned char *>(ring + place * STAGE_CODES) + g * STAGE_COLS;
            const uint4 *x_at = xs + (kept * s.most_rows + g) * 4 + q;
            int block = (step - first) / STAGE_STEPS;
            float low_factor = factors[block * 8 + g], high_factor = factors[block * 8 + 8 + g];
            place = place + 1 < RING ? place + 1 : 0;
#pragma unroll
            for (int i = 0; i < STAGE_STEPS; i++) {
                if (step + i >= end) break;
                uint4 low = make_uint4(0, 0, 0, 0), high = low;
                if (g < n_row) low = x_at[i * s.most_rows * 4];
                if (!FEW && g + 8 < n_row) high = x_at[i * s.most_rows * 4 + 32];
                uint2 c = *reinterpret_cast<const uint2 *>(stage + ((i * 2 + (q >> 1) + 2 * g) & 7) * 16 + (q & 1) * 8);
                uint4 v = eight_codes(c, i * TILE_K + q * 8 + at.w.col0 < 128 ? low_factor : high_factor);
                mma_bf16(sum, low.x, high.x, low.y, high.y, v.x, v.y);
                mma_bf16(sum, low.z, high.z, low.w, high.w, v.z, v.w);
            }
        }
        parts[(group * s.n_segment + segment) * 32 + lane] = make_float4(sum[0], sum[1], sum[2], sum[3]);
    }
    copy_wait<0>();
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
    size_t shared = (size_t)warps * warp_room(s) * sizeof(uint4) + (size_t)s.groups * s.n_segment * 32 * sizeof(float4);
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
    s.x_steps = most_rows > FEW_ROWS ? MANY_STAGES * STAGE_STEPS : s.n_segment > 1 ? SEGMENT_STEPS : cuda_blocks(p.cols, TILE_K);
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
