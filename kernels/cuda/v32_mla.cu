/* v32_mla.cu - sparse latent attention at V3.2's dimensions with warpgroup products.
 *
 * A block of 384 threads walks work items: 64 heads of a token over its list of keys, 64 keys at a time, in two tiles of
 * 64 x 576. Two warpgroups make scores and probabilities of every other tile, each of its own slot, and sum 256 of the
 * 512 values each, of all tiles: what a warpgroup has of probabilities it multiplies from its registers, and leaves in
 * shared memory for the other. So one's softmax stands beside the other's products. A third warpgroup gathers keys (and
 * converts FP8 to fp16). A tile is read with rows along the sum for scores and across it for values, so keys are never
 * transposed. Items follow each other without a pause: the next item's first keys come while the last values of this
 * one are summed and written.
 */
#include "kernels/cuda/v32_mla.cuh"
#include "kernels/cuda/v32_wgmma.cuh"

enum {
    THREADS = 384,
    MORE_REGISTERS = 208,           /* for sums: 128, 32 scores, 16 of probabilities */
    FEWER_REGISTERS = 88,           /* codes to convert take 32 of the others' */
    Q_AT = 0,
    K_AT = V32_TILE,
    P_AT = 3 * V32_TILE,            /* probabilities of slot 0; slot 1's are where its rotated parts were */
    TOLD_AT = P_AT + V32_CHUNK,     /* [2][64] float4: factor for sums so far, base of powers, total of the warpgroup */
    ROWS_AT = TOLD_AT + 2048,       /* [3][64] rows of the cache, for FP8 */
    BARRIER_AT = ROWS_AT + 768,     /* eighteen */
    SHARED_BYTES = BARRIER_AT + 144,
};

#ifdef V32_HOPPER

/* The barriers. full: keys of a slot, in three parts (chunks 0 and 1; 2 and 3 and the rotated part; the rest); empty: a
 * quarter of a slot's values summed, two chunks, with the second all else that is read of the slot but the other half's
 * values; told: a slot's probabilities and what goes with them are there; q_full, q_empty: the query is there, the item's
 * last scores made. */
struct mla_barriers {
    uint32_t at;
    __device__ uint32_t full(int slot, int part) const { return at + (uint32_t)(slot * 3 + part) * 8; }
    __device__ uint32_t empty(int slot, int quarter) const { return at + 48 + (uint32_t)(slot * 4 + quarter) * 8; }
    __device__ uint32_t told(int slot) const { return at + 112 + (uint32_t)slot * 8; }
    __device__ uint32_t q_full() const { return at + 128; }
    __device__ uint32_t q_empty() const { return at + 136; }
};

/* ---- loading ---- */

/* The query of an item, when the last scores of the one before are made; 128 threads. */
static __device__ __forceinline__ void ask_query(const v32_mla &a, const v32_item &item, uint32_t shared, mla_barriers bar,
                                                 int seen) {
    int part = threadIdx.x & 7, row = threadIdx.x >> 3 & 15;
    const char *from =
        reinterpret_cast<const char *>(a.q + ((int64_t)item.token * a.n_head + item.head + row) * V32_KEY) + part * 16;
    uint32_t to = shared + Q_AT + (uint32_t)(row * 128 + ((part ^ (row & 7)) << 4));
    barrier_wait(bar.q_empty(), (seen & 1) ^ 1);
    for (int p = 0; p < 4; p++)
#pragma unroll
        for (int c = 0; c < 9; c++)
            copy_async16_to(to + c * V32_CHUNK + p * 16 * 128, from + p * 16 * (V32_KEY * 2) + c * 128, true);
    copy_commit();
}

/* Where the cache's row for key `i` of block `block` is listed; where there is no key, the item's last, whose probability
 * will be 0 there: to look whether there is one, and take zeros if not, would cost more than a row too many. */
static __device__ __forceinline__ const int32_t *row_address(const v32_mla &a, const v32_item &item, int block, int i) {
    int at = (item.first + block) * V32_BLOCK + i, end = (item.first + item.n_block) * V32_BLOCK;
    end = (end < item.n_key ? end : item.n_key) - 1;
    return a.position + item.token * a.position_stride + (at < end ? at : end);
}

/* Chunks [FROM, TO) of every eighth row, one 16-byte part of each chunk by this thread. */
template <int FROM, int TO, int ROWS>
static __device__ __forceinline__ void copy_rows(uint32_t to, const char *const (&from)[ROWS]) {
#pragma unroll
    for (int p = 0; p < ROWS; p++)
#pragma unroll
        for (int c = FROM; c < TO; c++) copy_async16_to(to + c * V32_CHUNK + p * 8 * 128, from[p] + c * 128, true);
}

/* bf16: two warps have a slot. Eight lanes have a row's 128 bytes of a chunk, a thread eight rows. */
static __device__ __forceinline__ void load_bf16(const v32_mla &a, uint32_t shared, mla_barriers bar, int n_item) {
    constexpr int ROWS = 8;
    int slot = threadIdx.x >> 6 & 1, part = threadIdx.x & 7, row = threadIdx.x >> 3 & 7; /* and every eighth from it */
    uint32_t to = shared + K_AT + slot * V32_TILE + (uint32_t)(row * 128 + ((part ^ row) << 4));
    const char *cache = static_cast<const char *>(a.cache) + part * 16;
    int n = 0, seen = 0; /* blocks of this slot and items so far */
    for (int number = blockIdx.x; number < n_item; number += gridDim.x) {
        v32_item item = v32_item_of(a, number);
        if (item.n_block == 0) continue;
        int32_t next[ROWS]; /* rows of the slot's next block: asked for long before use */
#pragma unroll
        for (int p = 0; p < ROWS; p++) next[p] = __ldg(row_address(a, item, slot, p * 8 + row));
        ask_query(a, item, shared, bar, seen++);
        if (slot >= item.n_block) {
            copy_wait<0>();
            fence_async_proxy();
            barrier_arrive_warp(bar.q_full());
        }
        for (int b = slot; b < item.n_block; b += 2, n++) {
            const char *from[ROWS];
#pragma unroll
            for (int p = 0; p < ROWS; p++) from[p] = made_here(cache + (int64_t)next[p] * (V32_KEY * 2));
#pragma unroll
            for (int p = 0; p < ROWS; p++) next[p] = __ldg(row_address(a, item, b + 2, p * 8 + row));
            barrier_wait(bar.empty(slot, 0), (n & 1) ^ 1);
            copy_rows<0, 2, ROWS>(to, from);
            copy_commit();
            barrier_wait(bar.empty(slot, 1), (n & 1) ^ 1);
            copy_rows<2, 4, ROWS>(to, from);
            copy_rows<8, 9, ROWS>(to, from);
            copy_commit();
            barrier_wait(bar.empty(slot, 2), (n & 1) ^ 1);
            copy_rows<4, 6, ROWS>(to, from);
            barrier_wait(bar.empty(slot, 3), (n & 1) ^ 1);
            copy_rows<6, 8, ROWS>(to, from);
            copy_commit();
            if (b == slot) {
                copy_wait<3>();
                fence_async_proxy();
                barrier_arrive_warp(bar.q_full());
            }
            copy_wait<2>();
            fence_async_proxy();
            barrier_arrive_warp(bar.full(slot, 0));
            copy_wait<1>();
            fence_async_proxy();
            barrier_arrive_warp(bar.full(slot, 1));
            copy_wait<0>();
            fence_async_proxy();
            barrier_arrive_warp(bar.full(slot, 2));
        }
    }
}

static __device__ __forceinline__ uint4 load16(const uint8_t *from) {
    return __ldg(reinterpret_cast<const uint4 *>(from));
}

/* FP8: a warp has sixteen rows, four lanes 64 codes of a row, a thread two rows, of which it holds all codes a block
 * ahead; a row's lines are asked into the L2 before that. The converted 32 bytes of a lane are two parts of a tile's row,
 * which neighbouring rows exchange differently, so that stores meet no bank twice. Which rows they are comes through
 * shared memory, three blocks ahead: what a load brings into a register is waited for together with loads asked for long
 * after it. */
static __device__ __forceinline__ void load_fp8(const v32_mla &a, uint32_t shared, unsigned char *memory,
                                                mla_barriers bar, int n_item) {
    constexpr int ROWS = 2;
    int thread = threadIdx.x & 127, lane = thread & 31, quarter = thread & 3, low_row = lane >> 2, warp = thread >> 5;
    int row = warp * 16 + low_row; /* and row + 8 */
    uint32_t part[2];
#pragma unroll
    for (int e = 0; e < 2; e++) part[e] = (uint32_t)(row * 128 + (((quarter * 2 + e) ^ low_row) << 4));
    const uint8_t *cache = static_cast<const uint8_t *>(a.cache);
    const int32_t *rows = reinterpret_cast<const int32_t *>(memory + ROWS_AT) + warp * 16; /* the warp's, of three blocks */
    int seen = 0, used = 0; /* items so far; a bit for each slot, whether it had an odd number of blocks */
    for (int number = blockIdx.x; number < n_item; number += gridDim.x) {
        v32_item item = v32_item_of(a, number);
        if (item.n_block == 0) continue;
        auto ask_rows = [&](int block) { /* to be waited for with the copies that follow */
            if (lane < 16)
                copy_async_word(shared + ROWS_AT + (uint32_t)(block % 3 * 256 + (warp * 16 + lane) * 4),
                                row_address(a, item, block, warp * 16 + lane));
        };
        __syncwarp(); /* all have read those of the item before */
        for (int b = 0; b < 3; b++) ask_rows(b);
        copy_commit();
        copy_wait<0>();
        __syncwarp();
        uint4 codes[ROWS][8], factors[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const uint8_t *from = cache + (int64_t)rows[low_row + r * 8] * V32_FP8_ROW;
            factors[r] = load16(from + V32_LATENT);
#pragma unroll
            for (int c = 0; c < 8; c++) codes[r][c] = load16(from + c * 64 + quarter * 16);
        }
        ask_query(a, item, shared, bar, seen++);
        for (int b = 0; b < item.n_block; b++) {
            int slot = b & 1, parity = (used >> slot & 1) ^ 1;
            int now = b % 3 * 64, next = (b + 1) % 3 * 64, later = (b + 2) % 3 * 64; /* whose rows stand where */
            used ^= 1 << slot;
            uint32_t to = shared + K_AT + slot * V32_TILE;
            __half2 factor[ROWS][4];
            const uint8_t *from[ROWS];
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                const uint8_t *line = cache + (int64_t)rows[later + low_row + r * 8] * V32_FP8_ROW + quarter * 128;
                prefetch_l2(line);
                if (quarter < 2) prefetch_l2(quarter ? line + V32_FP8_ROW - 1 - 128 : line + 512);
                from[r] = cache + (int64_t)rows[next + low_row + r * 8] * V32_FP8_ROW;
                const uint32_t bits[4] = {factors[r].x, factors[r].y, factors[r].z, factors[r].w};
#pragma unroll
                for (int i = 0; i < 4; i++) factor[r][i] = __float2half2_rn(__uint_as_float(bits[i]));
                factors[r] = load16(from[r] + V32_LATENT);
            }
            auto convert = [&](int c) {
#pragma unroll
                for (int r = 0; r < ROWS; r++) {
                    uint4 low, high;
                    f16_of_row(codes[r][c], factor[r][c >> 1], low, high);
                    store_shared16(to + c * V32_CHUNK + r * 8 * 128 + part[0], low);
                    store_shared16(to + c * V32_CHUNK + r * 8 * 128 + part[1], high);
                    codes[r][c] = load16(from[r] + c * 64 + quarter * 16);
                }
            };
            auto hand_over = [&](int full) {
                fence_async_proxy();
                barrier_arrive_warp(bar.full(slot, full));
            };
            barrier_wait(bar.empty(slot, 0), parity);
            convert(0);
            convert(1);
            if (b == 0) copy_wait<0>(); /* the query */
            hand_over(0);
            if (b == 0) barrier_arrive_warp(bar.q_full());
            barrier_wait(bar.empty(slot, 1), parity);
#pragma unroll
            for (int i = 0; i < 4; i++) { /* the rotated parts: eight lanes a row */
                int own = i * 4 + (lane >> 3), at = warp * 16 + own, p = lane & 7;
                const uint8_t *rotated = cache + (int64_t)rows[now + own] * V32_FP8_ROW + V32_LATENT + 16;
                copy_async16_to(to + V32_VALUE_CHUNKS * V32_CHUNK + (uint32_t)(at * 128 + ((p ^ (at & 7)) << 4)),
                                rotated + p * 16, true);
            }
            __syncwarp();
            ask_rows(b + 3); /* where this block's were */
            copy_commit();
            convert(2);
            convert(3);
            hand_over(1);
            barrier_wait(bar.empty(slot, 2), parity);
            convert(4);
            convert(5);
            barrier_wait(bar.empty(slot, 3), parity);
            convert(6);
            convert(7);
            copy_wait<0>();
            hand_over(2);
        }
    }
}

/* ---- scores and probabilities ---- */

/* A warpgroup's thread has rows `row` and `row` + 8 of the 64 heads: element r of pairs here. */
struct mla_rows {
    float base[2], total[2]; /* total: of the tiles of this warpgroup, over the base */
};

template <bool FP8> static __device__ __forceinline__ void ask_scores(float (&s)[32], uint64_t query, uint64_t keys,
                                                                      mla_barriers bar, int slot, int parity) {
#pragma unroll
    for (int c = 0; c < 9; c++) {
        if (c < 6 && c % 2 == 0) {
            barrier_wait(bar.full(slot, c / 2), parity);
            wgmma_fence();
        }
#pragma unroll
        for (int k = 0; k < 4; k++) {
            uint64_t at = (uint64_t)(c * (V32_CHUNK >> 4) + k * 2);
            if (FP8 && c < V32_VALUE_CHUNKS) wgmma_f16_n64(s, query + at, keys + at, c + k > 0);
            else wgmma_bf16_n64(s, query + at, keys + at, c + k > 0);
        }
    }
    wgmma_commit();
}

/* Scores to probabilities, two rows at a time and sums in four parts: each step alone is shorter than the wait for its
 * result. The base moves only when a score is above it by more than V32_SLACK (v32_move_base, without a branch). */
static __device__ __forceinline__ void make_probabilities(float (&s)[32], int left, float scale, mla_rows &rows,
                                                          float (&factor)[2]) {
    int q = threadIdx.x & 3;
    if (left < V32_BLOCK) {
#pragma unroll
        for (int i = 0; i < 32; i++)
            if ((i >> 2) * 8 + q * 2 + (i & 1) >= left) s[i] = -INFINITY;
    }
    float greatest[2], total[2][4] = {};
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float m[4];
#pragma unroll
        for (int j = 0; j < 4; j++) m[j] = fmaxf(s[j * 4 + r * 2], s[j * 4 + r * 2 + 1]);
#pragma unroll
        for (int j = 4; j < 8; j++) m[j - 4] = fmaxf(m[j - 4], fmaxf(s[j * 4 + r * 2], s[j * 4 + r * 2 + 1]));
        greatest[r] = fmaxf(fmaxf(m[0], m[1]), fmaxf(m[2], m[3]));
    }
#pragma unroll
    for (int d = 1; d < 4; d <<= 1) {
        float other[2];
#pragma unroll
        for (int r = 0; r < 2; r++) other[r] = __shfl_xor_sync(0xffffffffu, greatest[r], d);
#pragma unroll
        for (int r = 0; r < 2; r++) greatest[r] = fmaxf(greatest[r], other[r]);
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float g = greatest[r] * scale;
        bool move = g > rows.base[r] + V32_SLACK;
        factor[r] = move ? exp2_fast(rows.base[r] - g) : 1.0f;
        rows.base[r] = move ? g : rows.base[r];
    }
#pragma unroll
    for (int j = 0; j < 8; j++)
#pragma unroll
        for (int r = 0; r < 2; r++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                float &x = s[j * 4 + r * 2 + e];
                x = exp2_fast(__fmaf_rn(x, scale, -rows.base[r]));
                total[r][(j & 1) * 2 + e] += x;
            }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float sum = (total[r][0] + total[r][1]) + (total[r][2] + total[r][3]);
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        rows.total[r] = __fmaf_rn(rows.total[r], factor[r], sum);
    }
}

/* In the form of a product's left operand: four steps of 16 keys. */
template <bool FP8> static __device__ __forceinline__ void pack_probabilities(uint32_t (&p)[4][4], const float (&s)[32]) {
#pragma unroll
    for (int j = 0; j < 8; j++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float low = s[j * 4 + r * 2], high = s[j * 4 + r * 2 + 1];
            p[j >> 1][(j & 1) * 2 + r] = FP8 ? pack_f16(low, high) : pack_bf16(low, high);
        }
}

/* Probabilities of slot G and what goes with them, for the other warpgroup. */
template <int G>
static __device__ __forceinline__ void tell(uint32_t shared, unsigned char *memory, mla_barriers bar,
                                            uint32_t (&p)[4][4], const mla_rows &rows, const float (&factor)[2]) {
    int lane = threadIdx.x & 31, g = lane >> 2, q = lane & 3, row = (threadIdx.x >> 5 & 3) * 16 + g;
    if (G) named_barrier<1, 128>(p[0][0]); /* other warps' scores may still read the rotated parts */
    uint32_t to = shared + (G ? K_AT + V32_TILE + 8 * V32_CHUNK : P_AT) + (uint32_t)(row * 128 + q * 4);
#pragma unroll
    for (int j = 0; j < 8; j++)
#pragma unroll
        for (int r = 0; r < 2; r++) store_shared4(to + r * 8 * 128 + ((j ^ g) << 4), p[j >> 1][(j & 1) * 2 + r]);
    float4 *told = reinterpret_cast<float4 *>(memory + TOLD_AT) + G * 64;
    if (q == 0) {
#pragma unroll
        for (int r = 0; r < 2; r++) told[row + r * 8] = make_float4(factor[r], rows.base[r], rows.total[r], 0.0f);
    }
    fence_async_proxy();
    barrier_arrive_warp(bar.told(G));
}

/* What the other warpgroup, whose slot is G, told: its total in `other`. Returns the factors. */
template <int G>
static __device__ __forceinline__ void hear(const unsigned char *memory, mla_rows &rows, float (&other)[2],
                                            float (&factor)[2]) {
    int row = (threadIdx.x >> 5 & 3) * 16 + (threadIdx.x >> 2 & 7);
    const float4 *told = reinterpret_cast<const float4 *>(memory + TOLD_AT) + G * 64;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float4 v = told[row + r * 8];
        factor[r] = v.x;
        rows.base[r] = v.y;
        rows.total[r] *= v.x;
        other[r] = v.z;
    }
}

/* ---- values ---- */

static __device__ __forceinline__ void correct(float (&o)[2][64], const float (&factor)[2]) {
    if (!__any_sync(0xffffffffu, factor[0] != 1.0f || factor[1] != 1.0f)) return;
#pragma unroll
    for (int i = 0; i < 128; i++) o[i >> 6][i & 63] *= factor[i >> 1 & 1];
}

static __device__ __forceinline__ const uint32_t (&step_of(const uint32_t (&p)[4][4], int k))[4] {
    return p[k];
}
static __device__ __forceinline__ uint64_t step_of(uint64_t p, int k) {
    return p + (uint64_t)(k * 2);
}
/* Probabilities from registers, or of a tile. Two groups of products, of 128 columns each. */
template <bool FP8, class left>
static __device__ __forceinline__ void ask_values(float (&o)[2][64], const left &p, uint64_t values) {
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < 2; i++) {
#pragma unroll
        for (int k = 0; k < 4; k++) {
            uint64_t at = values + (uint64_t)((i * 2 * V32_CHUNK + k * 2048) >> 4);
            if (FP8) wgmma_f16_n128_t(o[i], step_of(p, k), at, 1);
            else wgmma_bf16_n128_t(o[i], step_of(p, k), at, 1);
        }
        wgmma_commit();
    }
}

/* A step of giving words to the lane `by` further: of two, a lane whose bit is set keeps `odd`, the other `even`; it gets
 * the same from there. In order of the lanes. */
static __device__ __forceinline__ void trade(uint32_t even, uint32_t odd, int by, uint32_t &low, uint32_t &high) {
    bool set = threadIdx.x & by;
    uint32_t got = __shfl_xor_sync(0xffffffffu, set ? even : odd, by);
    low = set ? got : even;
    high = set ? odd : got;
}

/* Sums of the warpgroup's 256 values, divided, to where they belong. Four lanes have a row: they trade, so that each
 * writes 16 bytes at once. */
static __device__ __forceinline__ void write_values(const v32_mla &a, const v32_item &item, const float (&o)[2][64],
                                                    const float (&inverse)[2], int half) {
    int q = threadIdx.x & 3, row = (threadIdx.x >> 5 & 3) * 16 + (threadIdx.x >> 2 & 7);
    int64_t at = ((int64_t)item.token * a.n_head + item.head + row) * V32_LATENT + half * 256;
    auto value = [&](int j, int r, int e) { return o[j >> 4][(j & 15) * 4 + r * 2 + e] * inverse[r]; };
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int64_t to = at + r * 8 * V32_LATENT;
        if (a.n_split > 1 || !a.out) { /* two pieces of eight numbers: a lane has half of one */
            float *out = a.n_split > 1 ? a.part_out + (int64_t)item.split * a.n_tok * a.n_head * V32_LATENT : a.out_f32;
            out += to + (q & 1) * 8 + (q & 2) * 2;
#pragma unroll
            for (int j = 0; j < 32; j += 2) {
                uint32_t w[4];
#pragma unroll
                for (int e = 0; e < 2; e++)
                    trade(__float_as_uint(value(j, r, e)), __float_as_uint(value(j + 1, r, e)), 1, w[e], w[2 + e]);
                *reinterpret_cast<uint4 *>(out + j * 8) = make_uint4(w[0], w[1], w[2], w[3]);
            }
        } else { /* four pieces: a lane has one */
            __nv_bfloat16 *out = a.out + to + q * 8;
#pragma unroll
            for (int j = 0; j < 32; j += 4) {
                uint32_t v[4], pair[2][2], w[4];
#pragma unroll
                for (int i = 0; i < 4; i++) v[i] = pack_bf16(value(j + i, r, 0), value(j + i, r, 1));
                trade(v[0], v[1], 1, pair[0][0], pair[0][1]);
                trade(v[2], v[3], 1, pair[1][0], pair[1][1]);
                trade(pair[0][0], pair[1][0], 2, w[0], w[2]);
                trade(pair[0][1], pair[1][1], 2, w[1], w[3]);
                *reinterpret_cast<uint4 *>(out + j * 8) = make_uint4(w[0], w[1], w[2], w[3]);
            }
        }
    }
}

/* The latent part of the query to fp16, where it is; this warpgroup's half. Both wait for each other. */
template <int G> static __device__ __forceinline__ void query_to_f16(unsigned char *memory) {
    unsigned char *at = memory + Q_AT + G * 4 * V32_CHUNK + (threadIdx.x & 127) * 16;
#pragma unroll 8
    for (int i = 0; i < 4 * V32_CHUNK / 2048; i++) {
        uint4 *p = reinterpret_cast<uint4 *>(at + i * 2048), v = *p;
        v.x = f16_of_bf16(v.x);
        v.y = f16_of_bf16(v.y);
        v.z = f16_of_bf16(v.z);
        v.w = f16_of_bf16(v.w);
        *p = v;
    }
    fence_async_proxy();
    named_barrier<2, 256>();
}

/* Warpgroup G: scores of slot G, values from G * 256 on. In order of the tiles: its sums take slot 0's and slot 1's. */
template <bool FP8, int G>
static __device__ __forceinline__ void attend(const v32_mla &a, uint32_t shared, unsigned char *memory, mla_barriers bar,
                                              int n_item) {
    int q = threadIdx.x & 3, row = (threadIdx.x >> 5 & 3) * 16 + (threadIdx.x >> 2 & 7);
    uint64_t query = tile_descriptor(shared + Q_AT, 16, 1024);
    uint64_t keys = tile_descriptor(shared + K_AT + G * V32_TILE, 16, 1024);
    uint64_t values = tile_descriptor(shared + K_AT + G * 4 * V32_CHUNK, V32_CHUNK, 1024);
    uint64_t theirs = tile_descriptor(shared + (G ? P_AT : K_AT + V32_TILE + 8 * V32_CHUNK), 16, 1024);
    const uint64_t second = V32_TILE >> 4;
    float scale = a.scale * 1.4426950408889634f;
    int used[2] = {0, 0}, seen = 0; /* blocks of each slot and items so far */
    for (int number = blockIdx.x; number < n_item; number += gridDim.x) {
        v32_item item = v32_item_of(a, number);
        int end = item.n_key - item.first * V32_BLOCK; /* keys of the item */
        if (end > item.n_block * V32_BLOCK) end = item.n_block * V32_BLOCK;
        mla_rows rows = {{-INFINITY, -INFINITY}, {0.0f, 0.0f}};
        float o[2][64], other[2] = {0.0f, 0.0f};
#pragma unroll
        for (int i = 0; i < 128; i++) o[i >> 6][i & 63] = 0.0f;
        if (item.n_block > 0) {
            barrier_wait(bar.q_full(), seen++ & 1);
            if (FP8) query_to_f16<G>(memory);
            if (G == 1 && item.n_block == 1) barrier_arrive_warp(bar.q_empty());
        }
        for (int b = 0; b < item.n_block; b += 2) {
            bool alone = b + 1 == item.n_block; /* no block in slot 1 */
            float s[32], mine[2], heard[2];
            uint32_t p[4][4];
            if (G == 1 && alone) {
                barrier_wait(bar.told(0), used[0]++ & 1);
                hear<0>(memory, rows, other, heard);
                correct(o, heard);
                ask_values<FP8>(o, made_here(theirs), made_here(values));
                wgmma_wait<0>();
                barrier_arrive_warp(bar.empty(0, 2));
                barrier_arrive_warp(bar.empty(0, 3));
                break;
            }
            ask_scores<FP8>(s, made_here(query), made_here(keys), bar, G, used[G] & 1);
            wgmma_wait<0>();
            if (b + G + 2 >= item.n_block) barrier_arrive_warp(bar.q_empty());
            if (G == 0) {
                make_probabilities(s, end - b * V32_BLOCK, scale, rows, mine);
                pack_probabilities<FP8>(p, s);
                tell<0>(shared, memory, bar, p, rows, mine);
                correct(o, mine);
                ask_values<FP8>(o, p, made_here(values));
                wgmma_wait<1>();
                barrier_arrive_warp(bar.empty(0, 0));
                wgmma_wait<0>();
                barrier_arrive_warp(bar.empty(0, 1));
                used[0]++;
                if (alone) {
#pragma unroll
                    for (int r = 0; r < 2; r++) other[r] *= mine[r];
                    break;
                }
                barrier_wait(bar.told(1), used[1]++ & 1);
                hear<1>(memory, rows, other, heard);
                correct(o, heard);
                ask_values<FP8>(o, made_here(theirs), made_here(values) + second);
                wgmma_wait<1>();
                barrier_arrive_warp(bar.empty(1, 0));
                wgmma_wait<0>();
                barrier_arrive_warp(bar.empty(1, 1));
            } else {
                barrier_wait(bar.told(0), used[0]++ & 1);
                hear<0>(memory, rows, other, heard);
                correct(o, heard);
                ask_values<FP8>(o, made_here(theirs), made_here(values));
                make_probabilities(s, end - (b + 1) * V32_BLOCK, scale, rows, mine);
                pack_probabilities<FP8>(p, s);
                tell<1>(shared, memory, bar, p, rows, mine);
                wgmma_wait<1>();
                barrier_arrive_warp(bar.empty(0, 2));
                wgmma_wait<0>();
                barrier_arrive_warp(bar.empty(0, 3));
#pragma unroll
                for (int r = 0; r < 2; r++) other[r] *= mine[r];
                correct(o, mine);
                ask_values<FP8>(o, p, made_here(values) + second);
                wgmma_wait<1>();
                barrier_arrive_warp(bar.empty(1, 2));
                wgmma_wait<0>();
                barrier_arrive_warp(bar.empty(1, 3));
                used[1]++;
            }
        }
        float inverse[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float total = rows.total[r] + other[r];
            inverse[r] = total > 0.0f ? 1.0f / total : 0.0f;
            if (G == 0 && q == 0 && (a.lse || a.n_split > 1)) {
                int64_t at = (int64_t)item.token * a.n_head + item.head + row + r * 8;
                float lse = total > 0.0f ? (rows.base[r] + log2f(total)) * 0.6931471805599453f : -INFINITY;
                if (a.n_split > 1) a.part_lse[(int64_t)item.split * a.n_tok * a.n_head + at] = lse;
                else a.lse[at] = lse;
            }
        }
        write_values(a, item, o, inverse, G);
    }
}

#endif

template <bool FP8> static __global__ void __launch_bounds__(THREADS, 1) mla_wgmma(const v32_mla a) {
#ifdef V32_HOPPER
    V32_SHARED(memory);
    uint32_t shared = shared_address(memory);
    mla_barriers bar = {shared + BARRIER_AT};
    if (threadIdx.x == 0) {
        if (shared & 1023) __trap();
        for (int i = 0; i < 6; i++) barrier_init_warps(bar.at + i * 8, FP8 ? 4 : 2); /* the loading warps */
        for (int i = 6; i < 16; i++) barrier_init_warps(bar.at + i * 8, 4);
        barrier_init_warps(bar.q_full(), 4);
        barrier_init_warps(bar.q_empty(), 8);
        fence_async_proxy();
    }
    __syncthreads();
    int n_item = v32_items(a), group = __shfl_sync(0xffffffffu, (int)threadIdx.x >> 7, 0);
    if (group == 2) {
        registers_fewer<FP8 ? FEWER_REGISTERS + 32 : FEWER_REGISTERS>();
        if (FP8) load_fp8(a, shared, memory, bar, n_item);
        else load_bf16(a, shared, bar, n_item);
    } else {
        registers_more<FP8 ? MORE_REGISTERS - 16 : MORE_REGISTERS>();
        if (group == 0) attend<FP8, 0>(a, shared, memory, bar, n_item);
        else attend<FP8, 1>(a, shared, memory, bar, n_item);
    }
#else
    __trap();
#endif
}

/* Parts of a list merged in order: out = sum_i exp(lse_i - lse) out_i. A block has a (token, head). Parts of no keys
 * are zeros: no loads wait for a look at their weights. */
static __global__ void __launch_bounds__(128) merge_parts(const v32_mla a) {
    int64_t row = blockIdx.x, rows = (int64_t)a.n_tok * a.n_head;
    float greatest = -INFINITY;
#pragma unroll 8
    for (int i = 0; i < a.n_split; i++) greatest = fmaxf(greatest, a.part_lse[i * rows + row]);
    float4 sum = make_float4(0, 0, 0, 0);
    float total = 0.0f;
    if (greatest != -INFINITY) {
#pragma unroll 8
        for (int i = 0; i < a.n_split; i++) {
            float weight = expf(a.part_lse[i * rows + row] - greatest);
            float4 v = reinterpret_cast<const float4 *>(a.part_out + (i * rows + row) * V32_LATENT)[threadIdx.x];
            sum.x += weight * v.x;
            sum.y += weight * v.y;
            sum.z += weight * v.z;
            sum.w += weight * v.w;
            total += weight;
        }
    }
    float inverse = total > 0.0f ? 1.0f / total : 0.0f;
    sum.x *= inverse, sum.y *= inverse, sum.z *= inverse, sum.w *= inverse;
    int64_t at = row * V32_LATENT + threadIdx.x * 4;
    if (a.out)
        *reinterpret_cast<uint2 *>(a.out + at) = make_uint2(pack_bf16(sum.x, sum.y), pack_bf16(sum.z, sum.w));
    else *reinterpret_cast<float4 *>(a.out_f32 + at) = sum;
    if (a.lse && threadIdx.x == 0) a.lse[row] = total > 0.0f ? greatest + logf(total) : -INFINITY;
}

template <class kernel>
static cudaError_t launch_wgmma(kernel *run, const v32_mla *a, int n_sm, cudaStream_t stream) {
    cudaError_t error = cudaFuncSetAttribute(run, cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED_BYTES);
    if (error != cudaSuccess) return error;
    int items = v32_items(*a);
    V32_LAUNCH(run, items < n_sm ? items : n_sm, THREADS, SHARED_BYTES, stream, *a);
    return cudaGetLastError();
}

cudaError_t v32_mla_launch(const v32_mla *a, v32_variant variant, cudaStream_t stream) {
    if (a->n_tok < 1) return cudaSuccess;
    if (a->n_head < V32_HEADS || a->n_head % V32_HEADS || a->n_split < 1 || (!a->out == !a->out_f32))
        return cudaErrorNotSupported;
    int device, n_sm, major;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&n_sm, cudaDevAttrMultiProcessorCount, device);
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    if (error != cudaSuccess) return error;
    if (variant == V32_WGMMA) {
        if (major != 9) return cudaErrorNotSupported;
        error = a->fp8 ? launch_wgmma(mla_wgmma<true>, a, n_sm, stream) : launch_wgmma(mla_wgmma<false>, a, n_sm, stream);
    } else error = v32_mla_launch_sync(a, stream);
    if (error != cudaSuccess || a->n_split == 1) return error;
    V32_LAUNCH(merge_parts, (unsigned)((int64_t)a->n_tok * a->n_head), 128, 0, stream, *a);
    return cudaGetLastError();
}
