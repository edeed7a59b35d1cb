/* v32_mla.cu - sparse latent attention at V3.2's dimensions with warpgroup products.
 *
 * A block of 512 threads walks work items: 64 heads of a token over its list of keys, 64 keys at a time. Four
 * warpgroups: one gathers keys into two tiles of 64 x 576 (and converts FP8 to fp16), one makes scores and
 * probabilities, two sum a half of the 512 values each, so that the scores of a block are made while the values of the
 * one before are summed. A tile is read twice, with rows along the sum for scores and across it for values, so keys
 * are never transposed. Items follow each other without a pause: the next item's first keys come while the last values
 * of this one are summed and written.
 *
 * In pairs (v32_mla.pair) the two items of a token go to the two blocks of a cluster: each gathers (and converts) half of
 * the keys and copies them into the other's tile, so that a key leaves the L2 once for 128 heads.
 */
#include "kernels/cuda/v32_mla.cuh"
#include "kernels/cuda/v32_wgmma.cuh"

enum {
    THREADS = 512,
    Q_AT = 0,
    K_AT = V32_TILE,
    P_AT = 3 * V32_TILE,
    FACTOR_AT = P_AT + V32_CHUNK,  /* [64] for sums so far */
    INVERSE_AT = FACTOR_AT + 256,  /* [64] 1 / total of the item */
    BARRIER_AT = INVERSE_AT + 256, /* nine */
    SHARED_BYTES = BARRIER_AT + 72,
};

#ifdef V32_HOPPER

/* The barriers. full: keys of a slot, in two parts (chunks 0-3; the rest and the query); empty: values summed, in both
 * blocks of a pair; p_full: probabilities there; p_empty: they have been taken; q_empty: the item's last scores made. */
struct mla_barriers {
    uint32_t at;
    __device__ uint32_t full(int slot, int part) const { return at + (uint32_t)(slot * 2 + part) * 8; }
    __device__ uint32_t empty(int slot) const { return at + 32 + (uint32_t)slot * 8; }
    __device__ uint32_t p_full() const { return at + 48; }
    __device__ uint32_t p_empty() const { return at + 56; }
    __device__ uint32_t q_empty() const { return at + 64; }
};

/* ---- loading ---- */

/* Chunks [FROM, TO) of some rows, one 16-byte part of each chunk by this thread. */
template <int FROM, int TO, int ROWS>
static __device__ __forceinline__ void copy_rows(const uint32_t (&to)[ROWS], const char *const (&from)[ROWS],
                                                 const bool (&valid)[ROWS]) {
#pragma unroll
    for (int c = FROM; c < TO; c++)
#pragma unroll
        for (int p = 0; p < ROWS; p++) copy_async16_to(to[p] + c * V32_CHUNK, from[p] + c * 128, valid[p]);
}

/* The warp's part of chunks [FROM, TO) of a slot is written: tells the barrier, and in a pair copies the warp's eight
 * rows to the other block and waits for as much from there. */
template <int FROM, int TO, bool PAIR>
static __device__ __forceinline__ void hand_over(uint32_t shared, mla_barriers bar, int slot) {
    uint32_t full = bar.full(slot, FROM > 0);
    fence_async_proxy();
    if (!PAIR) {
        barrier_arrive_warp(full);
        return;
    }
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5 & 3, rank = blockIdx.x & 1;
    __syncwarp();
    if (lane < TO - FROM) {
        uint32_t rows = shared + K_AT + slot * V32_TILE + (FROM + lane) * V32_CHUNK + (rank * 32 + warp * 8) * 128;
        copy_bulk(cluster_address(rows, rank ^ 1), rows, 8 * 128, cluster_address(full, rank ^ 1));
    }
    if (lane == 0) barrier_arrive_expect(full, (TO - FROM) * 8 * 128);
    else if (lane_arrives()) barrier_arrive(full);
}

/* bf16: eight lanes have a row's 128 bytes of a chunk, a thread four rows; in a pair two, of the block's half of the
 * keys. */
template <bool PREFETCH, bool PAIR>
static __device__ __forceinline__ void load_bf16(const v32_mla &a, uint32_t shared, mla_barriers bar, int n_item) {
    constexpr int ROWS = PAIR ? 2 : 4;
    int thread = threadIdx.x & 127, part = thread & 7, row[ROWS];
    uint32_t place[ROWS];
#pragma unroll
    for (int p = 0; p < ROWS; p++) {
        row[p] = PAIR ? (int)(blockIdx.x & 1) * 32 + (thread >> 5) * 8 + p * 4 + (thread >> 3 & 3) : p * 16 + (thread >> 3);
        place[p] = shared + K_AT + (uint32_t)(row[p] * 128 + ((part ^ (row[p] & 7)) << 4));
    }
    const char *cache = static_cast<const char *>(a.cache) + part * 16;
    int n = 0, seen = 0; /* blocks and items so far */
    for (int number = blockIdx.x; number < n_item; number += gridDim.x) {
        v32_item item = v32_item_of(a, number);
        if (item.n_block == 0) continue;
        int32_t now[ROWS], next[ROWS], later[ROWS]; /* rows of this block and of the two after it: asked for long before use */
#pragma unroll
        for (int p = 0; p < ROWS; p++) {
            now[p] = v32_place(a, item, 0, row[p]);
            next[p] = v32_place(a, item, 1, row[p]);
        }
        barrier_wait(bar.q_empty(), (seen & 1) ^ 1);
        seen++;
        {
            int q_row = thread >> 3;
            const char *q = reinterpret_cast<const char *>(
                                a.q + ((int64_t)item.token * a.n_head + item.head + q_row) * V32_KEY) + part * 16;
            uint32_t to = shared + Q_AT + (uint32_t)(q_row * 128 + ((part ^ (q_row & 7)) << 4));
            for (int p = 0; p < 4; p++)
#pragma unroll
                for (int c = 0; c < 9; c++)
                    copy_async16_to(to + c * V32_CHUNK + p * 16 * 128, q + p * 16 * (V32_KEY * 2) + c * 128, true);
        }
        for (int b = 0; b < item.n_block; b++, n++) {
            int slot = n & 1;
            uint32_t to[ROWS];
            const char *from[ROWS];
            bool valid[ROWS];
#pragma unroll
            for (int p = 0; p < ROWS; p++) {
                to[p] = place[p] + slot * V32_TILE;
                valid[p] = now[p] >= 0;
                from[p] = cache + (int64_t)(valid[p] ? now[p] : 0) * (V32_KEY * 2);
                later[p] = v32_place(a, item, b + 2, row[p]);
            }
            barrier_wait(bar.empty(slot), (n >> 1 & 1) ^ 1);
            copy_rows<0, 4, ROWS>(to, from, valid);
            copy_commit();
            copy_rows<4, 9, ROWS>(to, from, valid);
            copy_commit();
            copy_wait<1>();
            hand_over<0, 4, PAIR>(shared, bar, slot);
            if (PREFETCH) {
#pragma unroll
                for (int p = 0; p < ROWS; p++) {
                    if (next[p] < 0) continue;
                    const char *line = static_cast<const char *>(a.cache) + (int64_t)next[p] * (V32_KEY * 2);
                    prefetch_l2(line + part * 128);
                    if (part == 0) prefetch_l2(line + 8 * 128);
                }
            }
            copy_wait<0>();
            hand_over<4, 9, PAIR>(shared, bar, slot);
#pragma unroll
            for (int p = 0; p < ROWS; p++) {
                now[p] = next[p];
                next[p] = later[p];
            }
        }
    }
}

static __device__ __forceinline__ uint4 load16(const uint8_t *from, bool valid) {
    return valid ? __ldg(reinterpret_cast<const uint4 *>(from)) : make_uint4(0, 0, 0, 0);
}

/* The query of an item: latent part to fp16, rotated part as it is. */
static __device__ __forceinline__ void load_query_f16(const v32_mla &a, const v32_item &item, uint32_t shared) {
    int thread = threadIdx.x & 127, q_part = thread & 7, q_row = thread >> 3;
    uint32_t place = shared + Q_AT + (uint32_t)(q_row * 128 + ((q_part ^ (q_row & 7)) << 4));
    const __nv_bfloat16 *q = a.q + ((int64_t)item.token * a.n_head + item.head + q_row) * V32_KEY + q_part * 8;
    for (int p = 0; p < 4; p++) {
        const uint4 *at = reinterpret_cast<const uint4 *>(q + p * 16 * V32_KEY);
        copy_async16_to(place + V32_VALUE_CHUNKS * V32_CHUNK + p * 16 * 128, at + V32_VALUE_CHUNKS * 8, true);
#pragma unroll
        for (int c = 0; c < V32_VALUE_CHUNKS; c += 4) {
            uint4 v[4];
#pragma unroll
            for (int i = 0; i < 4; i++) v[i] = __ldg(at + (c + i) * 8);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                v[i].x = f16_of_bf16(v[i].x);
                v[i].y = f16_of_bf16(v[i].y);
                v[i].z = f16_of_bf16(v[i].z);
                v[i].w = f16_of_bf16(v[i].w);
                store_shared16(place + (c + i) * V32_CHUNK + p * 16 * 128, v[i]);
            }
        }
    }
}

/* FP8: four lanes have 64 codes of a row, a thread two rows. Eight loads are always under way; a row's lines are asked
 * into the L2 two blocks ahead. The converted 32 bytes of a lane are two parts of a tile's row, which neighbouring rows
 * exchange differently, so that stores meet no bank twice. */
static __device__ __forceinline__ void load_fp8(const v32_mla &a, uint32_t shared, mla_barriers bar, int n_item) {
    int thread = threadIdx.x & 127, quarter = thread & 3, low_row = (thread & 31) >> 2;
    int row = (thread >> 5) * 16 + low_row; /* and row + 8 */
    uint32_t part[2];
#pragma unroll
    for (int e = 0; e < 2; e++) part[e] = (uint32_t)(row * 128 + (((quarter * 2 + e) ^ low_row) << 4));
    const uint8_t *cache = static_cast<const uint8_t *>(a.cache);
    int n = 0, seen = 0;
    for (int number = blockIdx.x; number < n_item; number += gridDim.x) {
        v32_item item = v32_item_of(a, number);
        if (item.n_block == 0) continue;
        const uint8_t *from[2];
        bool valid[2];
        int32_t next[2], later[2];
        uint4 codes[8];
        float2 factor[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            int32_t place = v32_place(a, item, 0, row + r * 8);
            valid[r] = place >= 0;
            from[r] = cache + (int64_t)(valid[r] ? place : 0) * V32_FP8_ROW;
            next[r] = v32_place(a, item, 1, row + r * 8);
            later[r] = v32_place(a, item, 2, row + r * 8);
#pragma unroll
            for (int c = 0; c < 4; c++) codes[r * 4 + c] = load16(from[r] + c * 64 + quarter * 16, valid[r]);
            factor[r] = valid[r] ? __ldg(reinterpret_cast<const float2 *>(from[r] + V32_LATENT)) : make_float2(0, 0);
        }

        barrier_wait(bar.q_empty(), (seen & 1) ^ 1);
        seen++;
        load_query_f16(a, item, shared);

        for (int b = 0; b < item.n_block; b++, n++) {
            int slot = n & 1;
            uint32_t to = shared + K_AT + slot * V32_TILE;
#pragma unroll
            for (int r = 0; r < 2; r++) {
                if (later[r] < 0) continue;
                const uint8_t *line = cache + (int64_t)later[r] * V32_FP8_ROW + quarter * 128;
                prefetch_l2(line);
                if (quarter < 2) prefetch_l2(quarter ? line + V32_FP8_ROW - 1 - 128 : line + 512);
            }
            int32_t last[2];
#pragma unroll
            for (int r = 0; r < 2; r++) last[r] = v32_place(a, item, b + 3, row + r * 8);
            barrier_wait(bar.empty(slot), (n >> 1 & 1) ^ 1);
#pragma unroll
            for (int r = 0; r < 2; r++)
#pragma unroll
                for (int e = 0; e < 2; e++)
                    copy_async16_to(to + V32_VALUE_CHUNKS * V32_CHUNK + r * 8 * 128 + part[e],
                                    from[r] + V32_LATENT + 16 + (quarter * 2 + e) * 16, valid[r]);
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float2 factor_next[2];
                if (half) {
#pragma unroll
                    for (int r = 0; r < 2; r++) {
                        valid[r] = next[r] >= 0;
                        from[r] = cache + (int64_t)(valid[r] ? next[r] : 0) * V32_FP8_ROW;
                    }
                }
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    factor_next[r] = make_float2(0, 0);
                    if (valid[r])
                        factor_next[r] =
                            __ldg(reinterpret_cast<const float2 *>(from[r] + V32_LATENT + (half ? 0 : 8)));
                }
#pragma unroll
                for (int r = 0; r < 2; r++)
#pragma unroll
                    for (int c = 0; c < 4; c++) {
                        uint4 low, high;
                        f16_of_row(codes[r * 4 + c], __float2half2_rn(c < 2 ? factor[r].x : factor[r].y), low, high);
                        uint32_t at = to + (half * 4 + c) * V32_CHUNK + r * 8 * 128;
                        store_shared16(at + part[0], low);
                        store_shared16(at + part[1], high);
                        codes[r * 4 + c] = load16(from[r] + ((half ? 0 : 4) + c) * 64 + quarter * 16, valid[r]);
                    }
#pragma unroll
                for (int r = 0; r < 2; r++) factor[r] = factor_next[r];
                if (half || b == 0) { /* the rotated parts; with the first block also the query's */
                    copy_commit();
                    copy_wait<0>();
                }
                fence_async_proxy();
                barrier_arrive_warp(bar.full(slot, half));
            }
#pragma unroll
            for (int r = 0; r < 2; r++) {
                next[r] = later[r];
                later[r] = last[r];
            }
        }
    }
}

/* The same for a pair: the block's 32 of the keys, a thread one row, so that all of a row's codes are held. */
static __device__ __forceinline__ void load_fp8_pair(const v32_mla &a, uint32_t shared, mla_barriers bar, int n_item) {
    int thread = threadIdx.x & 127, quarter = thread & 3, low_row = (thread & 31) >> 2;
    int row = (int)(blockIdx.x & 1) * 32 + (thread >> 5) * 8 + low_row;
    uint32_t part[2];
#pragma unroll
    for (int e = 0; e < 2; e++) part[e] = (uint32_t)(row * 128 + (((quarter * 2 + e) ^ low_row) << 4));
    const uint8_t *cache = static_cast<const uint8_t *>(a.cache);
    int n = 0, seen = 0;
    for (int number = blockIdx.x; number < n_item; number += gridDim.x) {
        v32_item item = v32_item_of(a, number);
        if (item.n_block == 0) continue;
        int32_t now = v32_place(a, item, 0, row), next = v32_place(a, item, 1, row), later = v32_place(a, item, 2, row);
        bool valid = now >= 0;
        const uint8_t *from = cache + (int64_t)(valid ? now : 0) * V32_FP8_ROW;
        uint4 codes[8];
#pragma unroll
        for (int c = 0; c < 8; c++) codes[c] = load16(from + c * 64 + quarter * 16, valid);
        uint4 factors = load16(from + V32_LATENT, valid);
        barrier_wait(bar.q_empty(), (seen & 1) ^ 1);
        seen++;
        load_query_f16(a, item, shared);
        for (int b = 0; b < item.n_block; b++, n++) {
            int slot = n & 1;
            uint32_t to = shared + K_AT + slot * V32_TILE;
            if (later >= 0) {
                const uint8_t *line = cache + (int64_t)later * V32_FP8_ROW + quarter * 128;
                prefetch_l2(line);
                if (quarter < 2) prefetch_l2(quarter ? line + V32_FP8_ROW - 1 - 128 : line + 512);
            }
            int32_t last = v32_place(a, item, b + 3, row);
            const uint8_t *rotated = from + V32_LATENT + 16;
            bool have = valid;
            valid = next >= 0;
            from = cache + (int64_t)(valid ? next : 0) * V32_FP8_ROW;
            const uint32_t bits[4] = {factors.x, factors.y, factors.z, factors.w};
            __half2 factor[4];
#pragma unroll
            for (int i = 0; i < 4; i++) factor[i] = __float2half2_rn(__uint_as_float(bits[i]));
            factors = load16(from + V32_LATENT, valid);
            barrier_wait(bar.empty(slot), (n >> 1 & 1) ^ 1);
#pragma unroll
            for (int e = 0; e < 2; e++)
                copy_async16_to(to + V32_VALUE_CHUNKS * V32_CHUNK + part[e], rotated + (quarter * 2 + e) * 16, have);
            copy_commit();
#pragma unroll
            for (int half = 0; half < 2; half++) {
#pragma unroll
                for (int c = half * 4; c < half * 4 + 4; c++) {
                    uint4 low, high;
                    f16_of_row(codes[c], factor[c >> 1], low, high);
                    store_shared16(to + c * V32_CHUNK + part[0], low);
                    store_shared16(to + c * V32_CHUNK + part[1], high);
                    codes[c] = load16(from + c * 64 + quarter * 16, valid);
                }
                if (half == 0) {
                    if (b == 0) copy_wait<0>(); /* the query's rotated part */
                    hand_over<0, 4, true>(shared, bar, slot);
                } else {
                    copy_wait<0>();
                    hand_over<4, 9, true>(shared, bar, slot);
                }
            }
            next = later;
            later = last;
        }
    }
}

/* ---- scores and probabilities ---- */

template <bool FP8>
static __device__ __forceinline__ void make_scores(const v32_mla &a, uint32_t shared, unsigned char *memory,
                                                   mla_barriers bar, int n_item) {
    int lane = threadIdx.x & 31, g = lane >> 2, q = lane & 3;
    int row = (threadIdx.x >> 5 & 3) * 16 + g; /* and row + 8 */
    float *factor_of = reinterpret_cast<float *>(memory + FACTOR_AT);
    float *inverse_of = reinterpret_cast<float *>(memory + INVERSE_AT);
    uint64_t query = tile_descriptor(shared + Q_AT, 16, 1024), keys = tile_descriptor(shared + K_AT, 16, 1024);
    float scale = a.scale * 1.4426950408889634f;
    int n = 0;
    for (int number = blockIdx.x; number < n_item; number += gridDim.x) {
        v32_item item = v32_item_of(a, number);
        v32_row_sum sums[2] = {{-INFINITY, 0.0f}, {-INFINITY, 0.0f}};
        for (int b = 0; b < item.n_block; b++, n++) {
            int slot = n & 1;
            uint64_t slot_keys = keys + (uint64_t)(slot * (V32_TILE >> 4));
            float s[32];
            barrier_wait(bar.full(slot, 0), n >> 1 & 1);
            wgmma_fence();
#pragma unroll
            for (int c = 0; c < 4; c++)
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    uint64_t at = (uint64_t)(c * (V32_CHUNK >> 4) + k * 2);
                    if (FP8) wgmma_f16_n64(s, query + at, slot_keys + at, c + k > 0);
                    else wgmma_bf16_n64(s, query + at, slot_keys + at, c + k > 0);
                }
            barrier_wait(bar.full(slot, 1), n >> 1 & 1);
#pragma unroll
            for (int c = 4; c < 9; c++)
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    uint64_t at = (uint64_t)(c * (V32_CHUNK >> 4) + k * 2);
                    if (FP8 && c < V32_VALUE_CHUNKS) wgmma_f16_n64(s, query + at, slot_keys + at, 1);
                    else wgmma_bf16_n64(s, query + at, slot_keys + at, 1);
                }
            wgmma_commit();
            wgmma_wait<0>();
            bool last = b + 1 == item.n_block;
            if (last) barrier_arrive_warp(bar.q_empty());

            int left = item.n_key - (item.first + b) * V32_BLOCK;
            if (left < V32_BLOCK) {
#pragma unroll
                for (int i = 0; i < 32; i++)
                    if ((i >> 2) * 8 + q * 2 + (i & 1) >= left) s[i] = -INFINITY;
            }
            /* two rows at a time, sums in four parts: each step alone is shorter than the wait for its result */
            float factor[2], greatest[2], total[2][4] = {};
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
            for (int r = 0; r < 2; r++) factor[r] = v32_move_base(sums[r], greatest[r] * scale);
#pragma unroll
            for (int j = 0; j < 8; j++)
#pragma unroll
                for (int r = 0; r < 2; r++)
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        float &x = s[j * 4 + r * 2 + e];
                        x = exp2_fast(__fmaf_rn(x, scale, -sums[r].base));
                        total[r][(j & 1) * 2 + e] += x;
                    }
#pragma unroll
            for (int r = 0; r < 2; r++) sums[r].total += (total[r][0] + total[r][1]) + (total[r][2] + total[r][3]);
            float inverse[2];
            if (last) {
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    float total = sums[r].total;
                    total += __shfl_xor_sync(0xffffffffu, total, 1);
                    total += __shfl_xor_sync(0xffffffffu, total, 2);
                    inverse[r] = 1.0f / total;
                    if (q == 0 && (a.lse || a.n_split > 1)) {
                        int64_t at = (int64_t)item.token * a.n_head + item.head + row + r * 8;
                        float lse = (sums[r].base + log2f(total)) * 0.6931471805599453f;
                        if (a.n_split > 1) a.part_lse[(int64_t)item.split * a.n_tok * a.n_head + at] = lse;
                        else a.lse[at] = lse;
                    }
                }
            }
            barrier_wait(bar.p_empty(), (n & 1) ^ 1);
            uint32_t to = shared + P_AT + (uint32_t)(row * 128 + q * 4);
#pragma unroll
            for (int j = 0; j < 8; j++)
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    float low = s[j * 4 + r * 2], high = s[j * 4 + r * 2 + 1];
                    store_shared4(to + r * 8 * 128 + ((j ^ g) << 4), FP8 ? pack_f16(low, high) : pack_bf16(low, high));
                }
            if (q == 0) {
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    factor_of[row + r * 8] = factor[r];
                    if (last) inverse_of[row + r * 8] = inverse[r];
                }
            }
            barrier_arrive_warp(bar.p_full());
        }
        if (item.n_block == 0 && q == 0 && (a.lse || a.n_split > 1)) {
#pragma unroll
            for (int r = 0; r < 2; r++) {
                int64_t at = (int64_t)item.token * a.n_head + item.head + row + r * 8;
                if (a.n_split > 1) a.part_lse[(int64_t)item.split * a.n_tok * a.n_head + at] = -INFINITY;
                else a.lse[at] = -INFINITY;
            }
        }
    }
}

/* ---- values ---- */

/* The warpgroup's 256 of the 512 values: columns from half * 256. */
template <bool FP8, bool PAIR>
static __device__ __forceinline__ void sum_values(const v32_mla &a, uint32_t shared, const unsigned char *memory,
                                                  mla_barriers bar, int n_item, int half) {
    int lane = threadIdx.x & 31, g = lane >> 2, q = lane & 3;
    int row = (threadIdx.x >> 5 & 3) * 16 + g;
    const float *factor_of = reinterpret_cast<const float *>(memory + FACTOR_AT);
    const float *inverse_of = reinterpret_cast<const float *>(memory + INVERSE_AT);
    uint64_t values = tile_descriptor(shared + K_AT + half * 4 * V32_CHUNK, V32_CHUNK, 1024);
    /* what this lane reads of the warp's 16 rows of probabilities: row lane % 16, of 16 columns the lower or upper 8 */
    int p_row = (threadIdx.x >> 5 & 3) * 16 + (lane & 15);
    const unsigned char *p_at = memory + P_AT + p_row * 128;
    int n = 0;
    for (int number = blockIdx.x; number < n_item; number += gridDim.x) {
        v32_item item = v32_item_of(a, number);
        float o[2][64], inverse[2] = {0.0f, 0.0f};
        if (item.n_block == 0) {
#pragma unroll
            for (int i = 0; i < 128; i++) o[i >> 6][i & 63] = 0.0f;
        }
        for (int b = 0; b < item.n_block; b++, n++) {
            int slot = n & 1;
            barrier_wait(bar.full(slot, 0), n >> 1 & 1);
            barrier_wait(bar.full(slot, 1), n >> 1 & 1);
            barrier_wait(bar.p_full(), n & 1);
            uint32_t p[4][4];
#pragma unroll
            for (int k = 0; k < 4; k++) load_matrix4(p[k], p_at + (((k * 2 + (lane >> 4)) ^ (p_row & 7)) << 4));
            float factor[2] = {factor_of[row], factor_of[row + 8]};
            if (b + 1 == item.n_block) {
                inverse[0] = inverse_of[row];
                inverse[1] = inverse_of[row + 8];
            }
            barrier_arrive_warp(bar.p_empty());
            if (b > 0 && __any_sync(0xffffffffu, factor[0] != 1.0f || factor[1] != 1.0f)) {
#pragma unroll
                for (int i = 0; i < 128; i++) o[i >> 6][i & 63] *= factor[i >> 1 & 1];
            }
            wgmma_fence();
#pragma unroll
            for (int k = 0; k < 4; k++)
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    int of = slot * V32_TILE + i * 2 * V32_CHUNK + k * 2048;
                    uint64_t at = values + (uint64_t)(of >> 4);
                    if (FP8) wgmma_f16_n128_t(o[i], p[k], at, b + k > 0);
                    else wgmma_bf16_n128_t(o[i], p[k], at, b + k > 0);
                }
            wgmma_commit();
            wgmma_wait<0>();
            barrier_arrive_warp(bar.empty(slot));
            if (PAIR && lane_arrives()) barrier_arrive_cluster(cluster_address(bar.empty(slot), (int)(blockIdx.x & 1) ^ 1));
        }
        int64_t at = ((int64_t)item.token * a.n_head + item.head + row) * V32_LATENT + half * 256 + q * 2;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            int64_t to = at + r * 8 * V32_LATENT;
            if (a.n_split > 1 || !a.out) {
                float *out = a.n_split > 1 ? a.part_out + (int64_t)item.split * a.n_tok * a.n_head * V32_LATENT
                                           : a.out_f32;
#pragma unroll
                for (int j = 0; j < 32; j++)
                    *reinterpret_cast<float2 *>(out + to + j * 8) =
                        make_float2(o[j >> 4][(j & 15) * 4 + r * 2] * inverse[r],
                                    o[j >> 4][(j & 15) * 4 + r * 2 + 1] * inverse[r]);
            } else {
#pragma unroll
                for (int j = 0; j < 32; j++)
                    *reinterpret_cast<uint32_t *>(a.out + to + j * 8) =
                        pack_bf16(o[j >> 4][(j & 15) * 4 + r * 2] * inverse[r],
                                    o[j >> 4][(j & 15) * 4 + r * 2 + 1] * inverse[r]);
            }
        }
    }
}

#endif

template <bool FP8, bool PREFETCH, bool PAIR>
static __global__ void __launch_bounds__(THREADS, 1) mla_wgmma(const v32_mla a) {
#ifdef V32_HOPPER
    V32_SHARED(memory);
    uint32_t shared = shared_address(memory);
    mla_barriers bar = {shared + BARRIER_AT};
    if (threadIdx.x == 0) {
        if (shared & 1023) __trap();
        for (int i = 0; i < 4; i++) barrier_init_warps(bar.at + i * 8, 4); /* the loading warps */
        barrier_init_warps(bar.empty(0), PAIR ? 16 : 8);
        barrier_init_warps(bar.empty(1), PAIR ? 16 : 8);
        barrier_init_warps(bar.p_full(), 4);
        barrier_init_warps(bar.p_empty(), 8);
        barrier_init_warps(bar.q_empty(), 4);
        fence_async_proxy();
    }
    if (PAIR) {
        cluster_arrive();
        cluster_wait();
    } else __syncthreads();
    int n_item = v32_items(a), group = threadIdx.x >> 7;
    if (group == 3) {
        registers_fewer<80>();
        if (!FP8) load_bf16<PREFETCH, PAIR>(a, shared, bar, n_item);
        else if (PAIR) load_fp8_pair(a, shared, bar, n_item);
        else load_fp8(a, shared, bar, n_item);
    } else if (group == 2) {
        registers_fewer<80>();
        make_scores<FP8>(a, shared, memory, bar, n_item);
    } else {
        registers_more<176>();
        sum_values<FP8, PAIR>(a, shared, memory, bar, n_item, group);
    }
    if (PAIR) { /* the other block still tells this one's barriers */
        cluster_arrive();
        cluster_wait();
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
static cudaError_t launch_wgmma(kernel *run, const v32_mla *a, int n_sm, bool pair, cudaStream_t stream) {
    cudaError_t error = cudaFuncSetAttribute(run, cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED_BYTES);
    if (error != cudaSuccess) return error;
    int items = v32_items(*a);
    if (pair) {
        n_sm &= ~1;
        return V32_LAUNCH_CLUSTER(run, items < n_sm ? items : n_sm, 2, THREADS, SHARED_BYTES, stream, *a);
    }
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
        if (a->pair && a->n_head % (2 * V32_HEADS)) return cudaErrorNotSupported;
        if (a->pair)
            error = a->fp8 ? launch_wgmma(mla_wgmma<true, false, true>, a, n_sm, true, stream)
                           : launch_wgmma(mla_wgmma<false, true, true>, a, n_sm, true, stream);
        else
            error = a->fp8 ? launch_wgmma(mla_wgmma<true, false, false>, a, n_sm, false, stream)
                           : launch_wgmma(mla_wgmma<false, true, false>, a, n_sm, false, stream);
    } else error = v32_mla_launch_sync(a, stream);
    if (error != cudaSuccess || a->n_split == 1) return error;
    V32_LAUNCH(merge_parts, (unsigned)((int64_t)a->n_tok * a->n_head), 128, 0, stream, *a);
    return cudaGetLastError();
}
