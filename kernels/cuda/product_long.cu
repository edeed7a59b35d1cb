/* product_long.cu - few rows of x with FP8 matrices, as decoding meets them.
 *
 * A warp has sixteen of W's rows and one segment of the columns (product.cuh). Codes come through a ring in the warp's part
 * of shared memory, RING stages of 128 columns ahead of their use, become numbers in registers and meet x, which the
 * warp has put beside the ring, as it has the factors. Segments of the same rows belong to warps of one block, which
 * adds their sums in ascending order at the end.
 *
 * W is the left operand of the tensor core's product here and x the right one; in the other kernels it is the other way
 * round. An element's sum is over the same products in the same places, so its bits are the same (tests/test_cuda.c).
 */
#include "kernels/cuda/product.cuh"

enum {
    OWN_ROWS = 16,                            /* of W, that a warp has */
    STAGE_COLS = 128,
    STAGE_STEPS = STAGE_COLS / TILE_K,
    SEGMENT_STAGES = SEGMENT / STAGE_COLS,
    RING = 4,                                 /* stages */
    STAGE_CODES = OWN_ROWS * STAGE_COLS / 16, /* uint4 of a stage */
    BLOCKS = SEGMENT / 128 + 1,               /* of factors that a segment lies in */
    FACTOR_ROOM = OWN_ROWS * BLOCKS / 4,      /* uint4 */
    ZERO_ROOM = STAGE_STEPS * 4,              /* uint4 of zeros for the lanes that have no row of x */
    MANY_STAGES = 4,                          /* that x is kept for where it has several rows; one: a segment */
    MOST_WARPS = 8,                           /* of a block */
    LEAST_WARPS = 4,
};

/* How a block is made: `slots` warps share the segments of sixteen rows, `groups` times. x_steps: of x that are kept. */
struct long_shape {
    int n_segment, slots, groups, most_rows, x_steps;
};

/* uint4 of a warp: codes, factors, zeros, and x [steps][most_rows][4], 8 bf16 each. */
static __host__ __device__ __forceinline__ int warp_room(const long_shape &s) {
    return RING * STAGE_CODES + FACTOR_ROOM + ZERO_ROOM + s.x_steps * s.most_rows * 4;
}

/* What a lane has of W for one step: columns q * 8 .. + 7 of the step's 32, in rows g and g + 8. */
static __device__ __forceinline__ uint2 codes_at(const unsigned char *stage, int i, int g, int q) {
    return *reinterpret_cast<const uint2 *>(stage + ((i * 2 + (q >> 1) + 2 * g) & 7) * 16 + (q & 1) * 8);
}

/* ONE: no tile has more than one row of x. */
template <class pointers, bool EXPERTS, bool ONE>
static __global__ void __launch_bounds__(MOST_WARPS * 32, 2) product_long(product p, const pointers w, long_shape s) {
    extern __shared__ __align__(128) unsigned char memory[];
    piece at;
    if (!find_piece<pointers, EXPERTS>(p, w, SMALL_ROWS, &at)) return;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, q = lane & 3;
    int group = warp / s.slots, slot = warp - group * s.slots;
    int col0 = (blockIdx.x * s.groups + group) * OWN_ROWS;
    int n_row = at.end - at.row0 < SMALL_ROWS ? at.end - at.row0 : SMALL_ROWS;
    if (n_row > s.most_rows) __trap();
    uint4 *ring = reinterpret_cast<uint4 *>(memory) + warp * warp_room(s);
    float *factors = reinterpret_cast<float *>(ring + RING * STAGE_CODES); /* [BLOCKS][OWN_ROWS] */
    uint4 *zeros = ring + RING * STAGE_CODES + FACTOR_ROOM, *xs = zeros + ZERO_ROOM;
    float4 *parts = reinterpret_cast<float4 *>(reinterpret_cast<uint4 *>(memory) + s.slots * s.groups * warp_room(s));
    int n_step = (p.cols + TILE_K - 1) / TILE_K, n_stage = (n_step + STAGE_STEPS - 1) / STAGE_STEPS;
    const int x_stride = ONE ? 4 : s.most_rows * 4; /* from one step to the next */
    constexpr int SETS = ONE ? 1 : 2; /* of eight rows of x */

    /* A stage's pieces of 16 codes: lane l brings rows l / 8, + 4, + 8, + 12, piece l % 8. What a quarter of the lanes
     * reads at once then lies in different banks: pieces of a row are turned by twice its number. */
    const unsigned char *codes = static_cast<const unsigned char *>(at.w.data);
    int base = col0 < p.rows ? col0 : p.rows - 1; /* rows beyond the last are computed from it and not stored */
    codes += base * p.w_stride + (lane & 7) * 16;
    uint32_t from[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int row = col0 + i * 4 + (lane >> 3);
        from[i] = (uint32_t)((row < p.rows ? row : p.rows - 1) - base) * (uint32_t)p.w_stride;
    }
    uint4 *to = ring + (lane >> 3) * 8 + (((lane & 7) + 2 * (lane >> 3)) & 7); /* 4 rows on: the same turn */
    auto ask = [&](int stage, int place) { /* stage: of the whole matrix */
        bool valid = stage < n_stage && stage * STAGE_COLS + (lane & 7) * 16 < p.w_stride;
        const unsigned char *begin = valid ? codes + stage * STAGE_COLS : static_cast<const unsigned char *>(at.w.data);
#pragma unroll
        for (int i = 0; i < 4; i++) copy_async16(to + place * STAGE_CODES + i * 32, begin + (valid ? from[i] : 0u), valid);
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
                xs[(i >> 2) * x_stride + r * 4 + (i & 3)] =
                    make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7]));
            }
        }
    };
    /* Block b of row r's factors of a segment: the one around the segment's column 128 b - w.col0, or its edge. */
    auto keep_factors = [&](int first) {
#pragma unroll 3
        for (int i = lane; i < OWN_ROWS * BLOCKS; i += 32) {
            int r = i & (OWN_ROWS - 1), row = col0 + r < p.rows ? col0 + r : p.rows - 1;
            int c = first * TILE_K + (i >> 4) * 128 - at.w.col0;
            if (c < first * TILE_K) c = first * TILE_K;
            factors[i] = c < p.cols ? factor_at(at.w, row, c) : 0.0f;
        }
    };

    /* the stages of this warp's segments, one after the other; `coming` is the one that is asked for next */
    int coming = slot * SEGMENT_STAGES, asked = 0, place = 0;
    auto ask_next = [&] {
        ask(coming, asked);
        copy_commit();
        asked = (asked + 1) & (RING - 1);
        coming += (coming + 1) % SEGMENT_STAGES ? 1 : 1 + (s.slots - 1) * SEGMENT_STAGES;
    };
#pragma unroll 1
    for (int i = 0; i < RING - 1; i++) ask_next();
    if (lane < ZERO_ROOM) zeros[lane] = make_uint4(0, 0, 0, 0);
#pragma unroll 1
    for (int segment = slot; segment < s.n_segment; segment += s.slots) {
        int first = segment * SEGMENT_STEPS, end = first + SEGMENT_STEPS < n_step ? first + SEGMENT_STEPS : n_step;
        float sum[SETS][4] = {};
        __syncwarp(); /* all have read what the segment before left */
        keep_factors(first);
        if (ONE) keep_x(first, end - first);
        int block = 0;
#pragma unroll 1
        for (int step = first; step < end; step += STAGE_STEPS, block++) {
            copy_wait<RING - 2>();
            __syncwarp(); /* this stage, factors and x are there for all lanes; the stage before has been read */
            if (!ONE && block % MANY_STAGES == 0) {
                keep_x(step, MANY_STAGES * STAGE_STEPS);
                __syncwarp();
            }
            ask_next();
            const unsigned char *low = reinterpret_cast<const unsigned char *>(ring + place * STAGE_CODES) + g * STAGE_COLS;
            const unsigned char *high = low + 8 * STAGE_COLS;
            const uint4 *x_at[SETS];
#pragma unroll
            for (int set = 0; set < SETS; set++)
                x_at[set] = set * 8 + g < n_row ? xs + (ONE ? block : block % MANY_STAGES) * STAGE_STEPS * x_stride +
                                                      (set * 8 + g) * 4 + q
                                                : zeros + q;
            int stride[SETS];
#pragma unroll
            for (int set = 0; set < SETS; set++) stride[set] = ONE || set * 8 + g < n_row ? x_stride : 4;
            const float *f = factors + block * OWN_ROWS + g;
            float factor[2][2] = {{f[0], f[8]}, {f[OWN_ROWS], f[OWN_ROWS + 8]}};
            place = (place + 1) & (RING - 1);
            auto one = [&](int i) {
                bool next = i * TILE_K + q * 8 + at.w.col0 >= 128;
                uint4 v = eight_codes(codes_at(low, i, g, q), next ? factor[1][0] : factor[0][0]);
                uint4 u = eight_codes(codes_at(high, i, g, q), next ? factor[1][1] : factor[0][1]);
#pragma unroll
                for (int set = 0; set < SETS; set++) {
                    uint4 x = x_at[set][i * stride[set]];
                    mma_bf16(sum[set], v.x, u.x, v.y, u.y, x.x, x.y);
                    mma_bf16(sum[set], v.z, u.z, v.w, u.w, x.z, x.w);
                }
            };
            if (step + STAGE_STEPS <= end) {
#pragma unroll
                for (int i = 0; i < STAGE_STEPS; i++) one(i);
            } else {
#pragma unroll 1
                for (int i = 0; step + i < end; i++) one(i);
            }
        }
#pragma unroll
        for (int set = 0; set < SETS; set++)
            parts[((group * s.n_segment + segment) * SETS + set) * 32 + lane] =
                make_float4(sum[set][0], sum[set][1], sum[set][2], sum[set][3]);
    }
    copy_wait<0>();
    __syncthreads();
    if (warp >= s.groups) return;
    col0 = (blockIdx.x * s.groups + warp) * OWN_ROWS;
#pragma unroll
    for (int set = 0; set < SETS; set++) {
        float4 total = parts[(warp * s.n_segment * SETS + set) * 32 + lane];
        for (int i = 1; i < s.n_segment; i++) {
            float4 v = parts[((warp * s.n_segment + i) * SETS + set) * 32 + lane];
            total.x += v.x, total.y += v.y, total.z += v.z, total.w += v.w;
        }
        float sum[4] = {total.x, total.y, total.z, total.w};
#pragma unroll
        for (int e = 0; e < 4; e++) { /* W's row g or g + 8, x's row 2 q or 2 q + 1 */
            int c = col0 + (e >> 1) * 8 + g, r = set * 8 + q * 2 + (e & 1);
            if (c >= p.rows || r >= n_row) continue;
            float *y = at.y + (int64_t)(at.row0 + r) * p.y_stride + c;
            *y = p.accumulate ? *y + sum[e] : sum[e];
        }
    }
}

template <class pointers, bool EXPERTS, bool ONE>
static void start(const kern *k, const product &p, const pointers &w, const long_shape &s, int n_tile, int n_z) {
    int warps = s.slots * s.groups;
    size_t shared = (size_t)warps * warp_room(s) * sizeof(uint4) +
                    (size_t)s.groups * s.n_segment * (ONE ? 1 : 2) * 32 * sizeof(float4);
    cuda_allow_shared(k, reinterpret_cast<const void *>(&product_long<pointers, EXPERTS, ONE>), shared);
    product_long<pointers, EXPERTS, ONE>
        <<<dim3(cuda_blocks(p.rows, OWN_ROWS * s.groups), n_tile, n_z), warps * 32, shared, cuda_stream(k)>>>(p, w, s);
    cuda_launched(k, "a matrix product");
}

template <class pointers, bool EXPERTS>
static void launch_long(const kern *k, const product &p, const pointers &w, int n_tile, int most_rows, int n_z) {
    long_shape s = {};
    s.most_rows = most_rows;
    s.n_segment = cuda_blocks(p.cols, SEGMENT);
    bool one = most_rows == 1;
    s.x_steps = !one ? MANY_STAGES * STAGE_STEPS : s.n_segment > 1 ? SEGMENT_STEPS : cuda_blocks(p.cols, TILE_K);
    int rounds = cuda_blocks(s.n_segment, MOST_WARPS);
    s.slots = cuda_blocks(s.n_segment, rounds);
    s.groups = s.slots >= LEAST_WARPS ? 1 : LEAST_WARPS / s.slots;
    if (one)
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
