/* v32_index.cu - index scores over FP8 keys: score[t, s] = k_scale[s] sum_h w[t, h] relu(q[t, h] . k[s]).
 *
 * A block keeps 384 keys in registers and reads the queries of its tokens past them, so that a key is loaded once for
 * many tokens and the sum over the heads stays within four lanes. Of two operations a (pair, head) - the greater of
 * the dot product and 0, and its weighted sum - none can be saved; a warpgroup has two times 64 keys, and weighs the
 * products of the one while those of the other are made. That a weight is read from shared memory once for both matters:
 * shared memory also feeds the products, and has hardly time for more.
 *
 * With few tokens, or keys of their own for each, the time is that of reading keys: a block keeps a token's queries and
 * every warp streams sixteen keys at a time through a ring of its own in shared memory, waiting for no other warp.
 */
#include "kernels/cuda/v32.h"
#include "kernels/cuda/v32_device.cuh"
#include "kernels/cuda/v32_wgmma.cuh"

enum {
    HEADS = V32_INDEX_HEADS,
    DIM = V32_INDEX_DIM,
    SETS = 2,                                /* of 64 keys, of a warpgroup */
    KEYS = 3 * SETS * 64,                    /* of a block */
    PAIR = 2,                                /* tokens in a stage */
    QUERY_BYTES = PAIR * HEADS * DIM,
    STAGE_BYTES = QUERY_BYTES + 1024,        /* and weights */
    STAGES = 4,
    LAG = 2,                                 /* stages under way */
    MATH_WARPS = KEYS / SETS / 16,
    LOAD_WARPS = 4,
    HOPPER_THREADS = (MATH_WARPS + LOAD_WARPS) * 32,
    HOPPER_SHARED = STAGES * STAGE_BYTES + STAGES * 16,
    FEW = 4,                                 /* tokens that share keys */
    FEW_WARPS = 16,
    FEW_STAGES = 5,
    FEW_BYTES = 16 * DIM + 64,               /* of a stage: sixteen keys and their factors */
    FEW_SHARED = STAGE_BYTES + FEW_WARPS * FEW_STAGES * FEW_BYTES,
    SYNC_KEYS = 256,
    SYNC_THREADS = 256,
    SYNC_SHARED = 2 * (HEADS * DIM + 1024),
};

/* The block's tokens: from the first that sees its keys. */
static __device__ __forceinline__ int first_token(const v32_index &a, int64_t key, int from) {
    int64_t first = key - a.pos0;
    return first > from ? (first < a.n_tok ? (int)first : a.n_tok) : from;
}

/* The four sums of a lane's two tokens and two keys, over the four lanes that share them. Lane q & 3 gets token q >> 1
 * and key q & 1. */
static __device__ __forceinline__ float sum_quad(const float (&v)[2][2], int q) {
    float x[2];
#pragma unroll
    for (int t = 0; t < 2; t++) {
        float send = q & 1 ? v[t][0] : v[t][1], keep = q & 1 ? v[t][1] : v[t][0];
        x[t] = keep + __shfl_xor_sync(0xffffffffu, send, 1);
    }
    float send = q & 2 ? x[0] : x[1], keep = q & 2 ? x[1] : x[0];
    return keep + __shfl_xor_sync(0xffffffffu, send, 2);
}

/* A key's 4 bytes at `at` of the 128; 0 beyond the last. */
static __device__ __forceinline__ uint32_t key_word(const v32_index &a, int64_t key, int at) {
    return key < a.n_key ? __ldg(reinterpret_cast<const uint32_t *>(a.k + key * DIM + at)) : 0;
}

#ifdef V32_HOPPER
/* Where a stage has four weights of a token, those of heads qq * 16 + j * 4 on: what the four lanes of a row read at once
 * stands side by side. */
static __device__ __forceinline__ uint32_t weights_at(uint32_t stage, int token, int qq, int j) {
    return stage + QUERY_BYTES + (uint32_t)(token * 256 + (j * 4 + qq) * 16);
}

/* A stage's queries: row `nn * 8 + 2 * qq + e` of a token's 64 holds head qq * 16 + nn * 2 + e, so that the columns of
 * lane qq are sixteen heads in a row and their weights four 16-byte loads. Warp `warp` of four has heads 16 * warp on. */
static __device__ __forceinline__ void load_stage(const v32_index &a, uint32_t to, int token, int end, int warp) {
    int lane = threadIdx.x & 31, part = lane & 7, sub = lane >> 3;
    const uint8_t *from = a.q + ((int64_t)token * HEADS + warp * 16 + sub) * DIM + part * 16;
    uint32_t row0 = to + (uint32_t)(((sub >> 1) * 8 + (sub & 1) + 2 * warp) * 128);
    uint32_t part0 = (uint32_t)(part ^ (sub & 1) ^ (2 * warp)) << 4;
    bool valid[PAIR] = {token < end, token + 1 < end};
#pragma unroll
    for (int t = 0; t < PAIR; t++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            copy_async16_to(row0 + part0 + (t * HEADS + i * 16) * 128,
                            valid[t] ? from + (t * HEADS + i * 4) * DIM : a.q, valid[t]);
    if (warp) return;
    bool have = valid[lane >> 4];
    copy_async16_to(weights_at(to, lane >> 4, lane >> 2 & 3, lane & 3),
                    have ? a.w + (int64_t)token * HEADS + lane * 4 : a.w, have);
}
#endif

static __global__ void __launch_bounds__(HOPPER_THREADS, 1) index_wgmma(const v32_index a) {
#ifdef V32_HOPPER
    extern __shared__ __align__(1024) unsigned char memory[];
    uint32_t shared = shared_address(memory), full = shared + STAGES * STAGE_BYTES, empty = full + STAGES * 8;
    int64_t block_key = (int64_t)blockIdx.x * KEYS;
    int chunk = blockIdx.y * a.tokens_each, end = chunk + a.tokens_each < a.n_tok ? chunk + a.tokens_each : a.n_tok;
    int start = first_token(a, block_key, chunk);
    if (start >= end) return;
    if (threadIdx.x == 0) {
        if (shared & 1023) __trap();
        for (int i = 0; i < STAGES; i++) {
            barrier_init_warps(full + i * 8, LOAD_WARPS);
            barrier_init_warps(empty + i * 8, MATH_WARPS);
        }
        fence_async_proxy();
    }
    __syncthreads();
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, n = (end - start + PAIR - 1) / PAIR;
    if (warp >= MATH_WARPS) {
        registers_fewer<56>();
        for (int i = 0; i < n + LAG; i++) {
            if (i < n) {
                barrier_wait(empty + i % STAGES * 8, (i / STAGES & 1) ^ 1);
                load_stage(a, shared + i % STAGES * STAGE_BYTES, start + i * PAIR, end, warp - MATH_WARPS);
            }
            copy_commit(); /* an empty group at the end keeps the count */
            if (i < LAG) continue;
            copy_wait<LAG>();
            fence_async_proxy();
            barrier_arrive_warp(full + (i - LAG) % STAGES * 8);
        }
    } else {
        registers_more<152>();
        int g = lane >> 2, q = lane & 3;
        /* and key + 8; the second set's are 64 on */
        int64_t key = block_key + (warp >> 2) * (SETS * 64) + (warp & 3) * 16 + g;
        uint32_t k[SETS][4][4];
        float scale[SETS];
        int sees[SETS], token = start + (q >> 1); /* the first token that sees a key, the lane's token of a stage */
        int64_t own = key + (q & 1) * 8;          /* that this lane writes */
#pragma unroll
        for (int m = 0; m < SETS; m++) {
#pragma unroll
            for (int s = 0; s < 4; s++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    k[m][s][i] = key_word(a, key + m * 64 + (i & 1) * 8, s * 32 + (i >> 1) * 16 + q * 4);
            int64_t at = own + m * 64;
            scale[m] = at < a.n_key ? __ldg(a.k_scale + at) : 0.0f;
            sees[m] = at >= a.n_key ? 0x7fffffff : at > a.pos0 ? (int)(at - a.pos0) : 0;
        }
        float *to = a.score + token * a.score_stride + own;
        uint64_t queries = tile_descriptor(shared, 16, 1024);
        /* While one set's products are weighed, the other's are made. */
        float d[SETS][32], v[SETS][PAIR][2], w[16];
        auto ask = [&](int i, int t, float (&sums)[32], const uint32_t (&keys)[4][4]) {
            uint64_t tile = queries + (uint64_t)(i % STAGES * (STAGE_BYTES >> 4) + t * (HEADS * DIM >> 4));
            wgmma_fence();
#pragma unroll
            for (int s = 0; s < 4; s++) wgmma_fp8_n64(sums, keys[s], tile + (uint64_t)(s * 2), s > 0);
            wgmma_commit();
        };
        auto load_weights = [&](int i, int t) {
            const unsigned char *at = memory + i % STAGES * STAGE_BYTES + weights_at(0, t, q, 0);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                float4 w4 = *reinterpret_cast<const float4 *>(at + j * 64);
                w[j * 4] = w4.x, w[j * 4 + 1] = w4.y, w[j * 4 + 2] = w4.z, w[j * 4 + 3] = w4.w;
            }
        };
        auto weigh = [&](const float (&of)[32], float (&sums)[2]) {
#pragma unroll
            for (int r = 0; r < 2; r++) {
                float sum[2] = {};
#pragma unroll
                for (int i = 0; i < 16; i++)
                    sum[i & 1] = __fmaf_rn(w[i], fmaxf(of[(i >> 1) * 4 + r * 2 + (i & 1)], 0.0f), sum[i & 1]);
                sums[r] = sum[0] + sum[1];
            }
        };
        auto finish = [&](int i) {
            barrier_arrive_warp(empty + i % STAGES * 8);
#pragma unroll
            for (int m = 0; m < SETS; m++) {
                float x = sum_quad(v[m], q) * scale[m];
                if (token >= sees[m] && token < end) to[m * 64] = x;
            }
            token += PAIR;
            to += PAIR * a.score_stride;
        };
        barrier_wait(full, 0);
        ask(0, 0, d[0], k[0]);
        /* The last turn asks for a product of what stands there: a choice would stop the overlap. */
        for (int i = 0; i < n; i++) {
            ask(i, 0, d[1], k[1]);
            load_weights(i, 0);
            wgmma_wait<1>();
            weigh(d[0], v[0][0]);
            ask(i, 1, d[0], k[0]);
            wgmma_wait<1>();
            weigh(d[1], v[1][0]);
            ask(i, 1, d[1], k[1]);
            load_weights(i, 1);
            wgmma_wait<1>();
            weigh(d[0], v[0][1]);
            int next = i + 1 < n ? i + 1 : i;
            barrier_wait(full + next % STAGES * 8, next / STAGES & 1);
            ask(next, 0, d[0], k[0]);
            wgmma_wait<1>();
            weigh(d[1], v[1][1]);
            finish(i);
        }
        wgmma_wait<0>();
    }
#else
    __trap();
#endif
}

/* A block has one token and tiles [first, first + each) of 64 keys; a warp's sixteen of every fourth tile. */
static __global__ void __launch_bounds__(FEW_WARPS * 32, 1) index_few(v32_index a, int each) {
#ifdef V32_HOPPER
    int64_t moved = moved_by(a.moved);
    a.pos0 += moved;
    a.n_key += moved;
    extern __shared__ __align__(1024) unsigned char memory[];
    uint32_t shared = shared_address(memory);
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, q = lane & 3, token = blockIdx.y;
    int64_t sees = (a.key_step ? a.pos0 : a.pos0 + token) + 1;
    if (sees > a.n_key) sees = a.n_key;
    int first = blockIdx.x * each, tiles = (int)((sees + 63) / 64);
    int end = first + each < tiles ? first + each : tiles;
    if (first >= end) return;
    const uint8_t *keys = a.k + token * a.key_step * DIM;
    const float *factors = a.k_scale + token * a.key_step;
    if (threadIdx.x == 0 && (shared & 1023)) __trap();

    uint32_t ring = STAGE_BYTES + (uint32_t)(warp * FEW_STAGES * FEW_BYTES);
    int tile = first + (warp >> 2), part = lane & 7, sub = lane >> 3;
    const int step = FEW_WARPS / 4;
    /* The next tile to load: where its keys are, how many are left from there on, where in the ring it goes. */
    int asked = tile, stage = 0;
    int64_t from = (int64_t)tile * 64 + (warp & 3) * 16;
    const uint8_t *key_at = keys + (from + sub) * DIM + part * 16;
    const uint32_t place[2] = {(uint32_t)(sub * DIM + ((part ^ sub) << 4)),
                               (uint32_t)(sub * DIM + ((part ^ sub ^ 4) << 4))}; /* of even and odd groups of four keys */
    auto load = [&] {
        if (asked < end) {
            uint32_t to = shared + ring + (uint32_t)(stage * FEW_BYTES), factor_to = to + 16 * DIM + lane * 16;
            int64_t left = a.n_key - from;
            if (left >= 16) {
#pragma unroll
                for (int i = 0; i < 4; i++) copy_async16_to(to + place[i & 1] + i * 4 * DIM, key_at + i * 4 * DIM, true);
                if (lane < 4) copy_async16_to(factor_to, factors + from + lane * 4, true);
            } else {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    bool valid = i * 4 + sub < left;
                    copy_async16_to(to + place[i & 1] + i * 4 * DIM, valid ? key_at + i * 4 * DIM : a.k, valid);
                }
                if (lane < 4) { /* the last four may reach beyond n_key */
                    int have = (int)left - lane * 4;
                    copy_async_part(factor_to, factors + (have > 0 ? from + lane * 4 : 0),
                                    have > 3 ? 16 : have > 0 ? have * 4 : 0);
                }
            }
        }
        copy_commit();
        asked += step;
        from += step * 64;
        key_at += step * 64 * DIM;
        stage = stage + 1 < FEW_STAGES ? stage + 1 : 0;
    };
    if (warp < LOAD_WARPS) load_stage(a, shared, token, token + 1, warp);
    copy_commit();
#pragma unroll
    for (int i = 0; i < FEW_STAGES - 1; i++) load();
    copy_wait<FEW_STAGES - 1>(); /* the queries */
    fence_async_proxy();
    __syncthreads();
    float w[16];
#pragma unroll
    for (int j = 0; j < 4; j++) {
        float4 w4 = *reinterpret_cast<const float4 *>(memory + weights_at(0, 0, q, j));
        w[j * 4] = w4.x, w[j * 4 + 1] = w4.y, w[j * 4 + 2] = w4.z, w[j * 4 + 3] = w4.w;
    }
    uint64_t queries = tile_descriptor(shared, 16, 1024);
    int row = (lane & 7) + (lane >> 3 & 1) * 8; /* whose address this lane gives */
    float *score = a.score + token * a.score_stride;
    for (int now = 0; tile < end; tile += step, now = now + 1 < FEW_STAGES ? now + 1 : 0) {
        __syncwarp(); /* all have read what is overwritten now */
        load();
        copy_wait<FEW_STAGES - 1>();
        __syncwarp();
        const unsigned char *at = memory + ring + now * FEW_BYTES;
        uint32_t k[4][4];
#pragma unroll
        for (int s = 0; s < 4; s++) load_matrix4(k[s], at + row * DIM + (((s * 2 + (lane >> 4)) ^ (row & 7)) << 4));
        float scale = reinterpret_cast<const float *>(at + 16 * DIM)[g + (q & 1) * 8];
        float d[32];
        wgmma_fence();
#pragma unroll
        for (int s = 0; s < 4; s++) wgmma_fp8_n64(d, k[s], queries + (uint64_t)(s * 2), s > 0);
        wgmma_commit();
        wgmma_wait<0>();
        float v[2];
#pragma unroll
        for (int r = 0; r < 2; r++) { /* the order of index_wgmma */
            float sum[2] = {};
#pragma unroll
            for (int i = 0; i < 16; i++)
                sum[i & 1] = __fmaf_rn(w[i], fmaxf(d[(i >> 1) * 4 + r * 2 + (i & 1)], 0.0f), sum[i & 1]);
            v[r] = sum[0] + sum[1];
        }
        float send = q & 1 ? v[0] : v[1], keep = q & 1 ? v[1] : v[0];
        float x = keep + __shfl_xor_sync(0xffffffffu, send, 1);
        x = (x + __shfl_xor_sync(0xffffffffu, x, 2)) * scale;
        int64_t own = (int64_t)tile * 64 + (warp & 3) * 16 + g + (q & 1) * 8;
        if (q < 2 && own < sees) score[own] = x;
    }
#else
    __trap();
#endif
}

/* The same by single warps: a warp has 32 keys, two buffers hold a token's queries each. */
static __global__ void __launch_bounds__(SYNC_THREADS) index_sync(const v32_index a) {
    extern __shared__ __align__(1024) unsigned char memory[];
    int64_t block_key = (int64_t)blockIdx.x * SYNC_KEYS;
    int chunk = blockIdx.y * a.tokens_each, end = chunk + a.tokens_each < a.n_tok ? chunk + a.tokens_each : a.n_tok;
    int start = first_token(a, block_key, chunk);
    if (start >= end) return;
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, q = lane & 3;
    auto load = [&](int token) {
        unsigned char *to = memory + (token - start & 1) * (HEADS * DIM + 1024);
        for (int i = threadIdx.x; i < HEADS * 8; i += SYNC_THREADS) {
            int row = i >> 3, part = i & 7;
            copy_async16(to + row * 128 + ((part ^ (row & 7)) << 4),
                         a.q + ((int64_t)token * HEADS + row) * DIM + part * 16, true);
        }
        if (threadIdx.x < HEADS / 4)
            copy_async16(to + HEADS * DIM + threadIdx.x * 16, a.w + (int64_t)token * HEADS + threadIdx.x * 4, true);
        copy_commit();
    };
    load(start);
    int64_t key = block_key + warp * 32 + g;
    uint32_t k[2][4][4];
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int s = 0; s < 4; s++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                k[m][s][i] = key_word(a, key + m * 16 + (i & 1) * 8, s * 32 + (i >> 1) * 16 + q * 4);
    int64_t own = key + (q >> 1) * 16 + (q & 1) * 8; /* that this lane writes */
    float scale = own < a.n_key ? __ldg(a.k_scale + own) : 0.0f;
    for (int token = start; token < end; token++) {
        if (token + 1 < end) {
            load(token + 1);
            copy_wait<1>();
        } else copy_wait<0>();
        __syncthreads();
        const unsigned char *at = memory + (token - start & 1) * (HEADS * DIM + 1024);
        const float *w = reinterpret_cast<const float *>(at + HEADS * DIM);
        float v[2][2] = {};
#pragma unroll
        for (int j = 0; j < HEADS / 8; j++) {
            uint32_t b[2][4];
#pragma unroll
            for (int s = 0; s < 2; s++)
                load_matrix4(b[s], at + (j * 8 + (lane & 7)) * 128 + (((s * 4 + (lane >> 3)) ^ (lane & 7)) << 4));
            float2 of = *reinterpret_cast<const float2 *>(w + j * 8 + q * 2);
#pragma unroll
            for (int m = 0; m < 2; m++) {
                float d[4] = {};
#pragma unroll
                for (int s = 0; s < 4; s++) mma_fp8(d, k[m][s], b[s >> 1][(s & 1) * 2], b[s >> 1][(s & 1) * 2 + 1]);
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    v[m][r] = __fmaf_rn(of.x, fmaxf(d[r * 2], 0.0f), v[m][r]);
                    v[m][r] = __fmaf_rn(of.y, fmaxf(d[r * 2 + 1], 0.0f), v[m][r]);
                }
            }
        }
        float x = sum_quad(v, q) * scale;
        if (own < a.n_key && own <= a.pos0 + token) a.score[token * a.score_stride + own] = x;
        __syncthreads();
    }
}

/* How many tokens a block reads its keys for: so many that the multiprocessors are done at about the same time. Blocks
 * come in rounds, of full ones and then of what is left over; to begin one takes as long as about ten tokens. */
static int tokens_for(int64_t tiles, int n_tok, int n_sm) {
    enum { BEGIN = 10, MOST = 512, STEP = 16 };
    int best = STEP;
    int64_t least = INT64_MAX;
    for (int each = STEP; each <= MOST; each += STEP) {
        int64_t full = tiles * (n_tok / each), rounds = (full + n_sm - 1) / n_sm, idle = rounds * n_sm - full;
        int64_t rest = n_tok % each, time = rounds * (each + BEGIN);
        if (rest > 0 && tiles > idle) time += (tiles - idle + n_sm - 1) / n_sm * (rest + BEGIN);
        if (time < least) {
            least = time;
            best = each;
        }
    }
    return best;
}

cudaError_t v32_index_launch(const v32_index *given, v32_variant variant, cudaStream_t stream) {
    v32_index a = *given;
    if (a.n_tok < 1 || a.n_key < 1) return cudaSuccess;
    int device, major, minor, n_sm;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&n_sm, cudaDevAttrMultiProcessorCount, device);
    if (error != cudaSuccess) return error;
    int64_t sees = a.pos0 + a.n_tok < a.n_key ? a.pos0 + a.n_tok : a.n_key;
    int64_t keys = variant == V32_WGMMA ? KEYS : SYNC_KEYS, tiles = (sees + keys - 1) / keys;
    if (a.tokens_each < 1) a.tokens_each = tokens_for(tiles, a.n_tok, n_sm);
    dim3 grid((unsigned)tiles, (unsigned)((a.n_tok + a.tokens_each - 1) / a.tokens_each));
    if (a.key_step < 0 || (a.key_step && variant != V32_WGMMA)) return cudaErrorNotSupported;
    if (variant == V32_WGMMA) {
        if (major != 9) return cudaErrorNotSupported;
        if (a.key_step % 4 == 0 && (a.key_step || a.n_tok <= FEW)) {
            sees = a.moved ? a.reach : a.key_step && a.pos0 + 1 < sees ? a.pos0 + 1 : sees;
            int all = (int)((sees + 63) / 64), blocks = n_sm / a.n_tok > 1 ? n_sm / a.n_tok : 1;
            int each = ((all + blocks - 1) / blocks + 3) / 4 * 4;
            error = cudaFuncSetAttribute(index_few, cudaFuncAttributeMaxDynamicSharedMemorySize, FEW_SHARED);
            if (error != cudaSuccess) return error;
            V32_LAUNCH(index_few, dim3((unsigned)((all + each - 1) / each), (unsigned)a.n_tok), FEW_WARPS * 32,
                       FEW_SHARED, stream, a, each);
            return cudaGetLastError();
        }
        if (a.key_step || a.moved) return cudaErrorNotSupported;
        error = cudaFuncSetAttribute(index_wgmma, cudaFuncAttributeMaxDynamicSharedMemorySize, HOPPER_SHARED);
        if (error != cudaSuccess) return error;
        V32_LAUNCH(index_wgmma, grid, HOPPER_THREADS, HOPPER_SHARED, stream, a);
    } else {
        if (major * 10 + minor < 89 || a.moved) return cudaErrorNotSupported;
        V32_LAUNCH(index_sync, grid, SYNC_THREADS, SYNC_SHARED, stream, a);
    }
    return cudaGetLastError();
}
