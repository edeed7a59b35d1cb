/* index.cu - the lightning indexer: keys into the cache, scores of all keys, and the strips that the choice of the
 * best is fed with.
 *
 * With int8 keys the dot products are exact integers, and the rest (conversion, ReLU, weight, sum over the heads in
 * ascending order, the key's factor) is done in the same order with the same roundings as on the processor: the same
 * queries and keys select the same positions on every backend.
 *
 * Scores of a strip of rows are in working memory for as long as the strip lasts: bounded, whatever the context.
 */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device.cuh"

enum { SCORE_KEYS = 64 /* of a warp */, SCORE_WARPS = 8, RANGES_BY_VALUE = 128 };

/* Bytes of a key in the int8 cache. */
static __host__ __device__ __forceinline__ int64_t key_stride(int dim) {
    return ((int64_t)dim + 31) / 32 * 32;
}

size_t cuda_index_key_bytes(kern_type type, int dim, int64_t capacity) {
    size_t bytes = type == KERN_I8    ? (size_t)capacity * (size_t)key_stride(dim)
                   : type == KERN_FP8 ? (size_t)capacity * (size_t)dim
                                      : (size_t)capacity * (size_t)dim * sizeof(float);
    return (bytes + 63) / 64 * 64;
}

/* ---- quantising, to the bit as in kernels/convert.c ---- */

/* A warp's row of dim values to int8 in out[stride], zeros behind. Returns the factor. */
static __device__ float quantise_row(const float *x, int8_t *out, int dim, int stride) {
    int lane = threadIdx.x & 31;
    float amax = 0.0f;
    for (int i = lane; i < dim; i += 32) {
        float magnitude = fabsf(x[i]);
        amax = magnitude > amax ? magnitude : amax; /* a NaN is passed over */
    }
    amax = warp_max(amax);
    float scale = __fdiv_rn(amax, 127.0f);
    if (!(scale > 0.0f)) scale = 1.0f;
    for (int i = lane; i < stride; i += 32) {
        int8_t code = 0;
        if (i < dim) {
            float v = __fdiv_rn(x[i], scale);
            v = v < 127.0f ? v : 127.0f;
            v = v > -127.0f ? v : -127.0f;
            code = (int8_t)__float2int_rn(v);
        }
        out[i] = code;
    }
    return scale;
}

static __global__ void append_keys(kern_index_append a, const int64_t *moved) {
    int row = blockIdx.x * 4 + (threadIdx.x >> 5);
    if (row >= a.n_tok) return;
    const float *x = a.k + (int64_t)row * a.cache.dim;
    int64_t pos = a.pos0 + moved_by(moved) + row;
    if (a.cache.type == KERN_F32) {
        float *out = static_cast<float *>(a.cache.keys) + pos * a.cache.dim;
        for (int i = threadIdx.x & 31; i < a.cache.dim; i += 32) out[i] = x[i];
        return;
    }
    int64_t stride = key_stride(a.cache.dim);
    float scale = quantise_row(x, static_cast<int8_t *>(a.cache.keys) + pos * stride, a.cache.dim, (int)stride);
    if ((threadIdx.x & 31) == 0) a.cache.scale[pos] = scale;
}

void cuda_index_append(kern *k, const kern_index_append *a) {
    if (a->n_tok < 1) return;
    if (a->cache.type == KERN_FP8) {
        cuda_v32_index_append(k, a);
        return;
    }
    append_keys<<<cuda_blocks(a->n_tok, 4), 128, 0, cuda_stream(k)>>>(*a, cuda_moved(k));
    cuda_launched(k, "index append");
}

/* q8[n_row, stride] and the head weights times the query's factor. */
static __global__ void quantise_queries(const float *q, const float *w, int64_t n_row, int dim, int stride, int8_t *q8,
                                        float *scaled) {
    int64_t row = (int64_t)blockIdx.x * 4 + (threadIdx.x >> 5);
    if (row >= n_row) return;
    float scale = quantise_row(q + row * dim, q8 + row * stride, dim, stride);
    if ((threadIdx.x & 31) == 0) scaled[row] = __fmul_rn(w[row], scale);
}

/* ---- scores ---- */

struct scoring {
    kern_index_keys cache;
    const int8_t *q8;     /* I8: [n_tok, n_head, stride] */
    const float *q;       /* F32: [n_tok, n_head, dim] */
    const float *w;       /* [n_tok, n_head]; I8: times the query's factor */
    const uint32_t *allow; /* bits, or NULL */
    float *score;         /* [n_tok, score_stride] */
    int64_t score_stride, n_key, pos0; /* token t sees keys up to pos0 + t; pos0 < 0: all of them */
    const int64_t *moved;              /* added to both (cuda_moved); few tokens only */
    int n_tok, n_head;
};

/* NaN counts as the least score, and there is one zero; what may not be selected is a NaN. */
static __device__ __forceinline__ float settle(const scoring &a, float score, int64_t key, int64_t sees) {
    if (key >= sees || (a.allow && !(a.allow[key >> 5] >> (key & 31) & 1))) return __int_as_float(0x7fc00000);
    return isnan(score) ? __int_as_float(0xff800000) : __fadd_rn(score, 0.0f);
}

/* sum += w * relu(dot) */
static __device__ __forceinline__ float weigh(float dot, float w, float sum) {
    return __fmaf_rn(w, fmaxf(0.0f, dot), sum);
}

/* A block has 16 * ROWS tokens and SCORE_WARPS * 64 keys, a warp 64 of the keys; the keys' fragments stay in registers
 * for all heads. STEPS: 32-byte pieces of a key, even. A lane's 16 bytes of each 64 are dealt to two products: which
 * lane has which element is free as long as both sides agree, integer sums being exact. */
template <int STEPS, int ROWS>
static __global__ void __launch_bounds__(SCORE_WARPS * 32) score_i8(scoring a) {
    extern __shared__ __align__(16) unsigned char memory[];
    if (ROWS == 1 && a.moved) a.n_key += *a.moved, a.pos0 += *a.moved;
    constexpr int TOKENS = 16 * ROWS, BYTES = STEPS * 32, PARTS = STEPS * 2; /* 16-byte parts of a key */
    int stride = (int)key_stride(a.cache.dim);
    uint4 *q8 = reinterpret_cast<uint4 *>(memory); /* [head][TOKENS][PARTS] */
    float *w = reinterpret_cast<float *>(memory + (size_t)a.n_head * TOKENS * BYTES); /* [head][TOKENS] */
    int t0 = blockIdx.y * TOKENS, lane = threadIdx.x & 31, g = lane >> 2, part = lane & 3;
    int64_t last_seen = a.pos0 < 0 ? a.n_key : a.pos0 + t0 + TOKENS;
    int64_t block_key = (int64_t)blockIdx.x * SCORE_WARPS * SCORE_KEYS;
    if (block_key >= last_seen) return;
    for (int i = threadIdx.x; i < a.n_head * TOKENS * PARTS; i += blockDim.x) {
        int p = i % PARTS, t = i / PARTS % TOKENS, h = i / PARTS / TOKENS;
        bool in = t0 + t < a.n_tok && p * 16 < stride;
        const int8_t *from = a.q8 + ((int64_t)(t0 + t) * a.n_head + h) * stride + p * 16;
        q8[i] = in ? *reinterpret_cast<const uint4 *>(from) : make_uint4(0, 0, 0, 0);
    }
    for (int i = threadIdx.x; i < a.n_head * TOKENS; i += blockDim.x) {
        int t = i % TOKENS, h = i / TOKENS;
        w[i] = t0 + t < a.n_tok ? a.w[(int64_t)(t0 + t) * a.n_head + h] : 0.0f;
    }
    __syncthreads();
    int64_t key0 = block_key + (threadIdx.x >> 5) * SCORE_KEYS;
    if (key0 >= last_seen || key0 >= a.n_key) return;

    uint4 b[8][STEPS / 2];
#pragma unroll
    for (int j = 0; j < 8; j++) {
        int64_t key = key0 + j * 8 + g;
#pragma unroll
        for (int s = 0; s < STEPS / 2; s++) {
            bool in = key < a.n_key && s * 64 + part * 16 < stride;
            const int8_t *from = static_cast<const int8_t *>(a.cache.keys) + key * stride + s * 64 + part * 16;
            b[j][s] = in ? __ldg(reinterpret_cast<const uint4 *>(from)) : make_uint4(0, 0, 0, 0);
        }
    }
    float sum[ROWS][8][4] = {};
    for (int h = 0; h < a.n_head; h++) {
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const uint4 *row = q8 + ((size_t)h * TOKENS + r * 16 + g) * PARTS + part;
            uint4 low[STEPS / 2], high[STEPS / 2];
#pragma unroll
            for (int s = 0; s < STEPS / 2; s++) low[s] = row[s * 4], high[s] = row[8 * PARTS + s * 4];
            float w_low = w[h * TOKENS + r * 16 + g], w_high = w[h * TOKENS + r * 16 + 8 + g];
#pragma unroll
            for (int j = 0; j < 8; j++) {
                /* Starting from the bits of 1.5 * 2^23, the sum's bits are that number plus the dot product. */
                int32_t c[4] = {0x4b400000, 0x4b400000, 0x4b400000, 0x4b400000};
#pragma unroll
                for (int s = 0; s < STEPS / 2; s++) {
                    mma_i8(c, low[s].x, high[s].x, low[s].y, high[s].y, b[j][s].x, b[j][s].y);
                    mma_i8(c, low[s].z, high[s].z, low[s].w, high[s].w, b[j][s].z, b[j][s].w);
                }
#pragma unroll
                for (int e = 0; e < 4; e++)
                    sum[r][j][e] = weigh(__int_as_float(c[e]) - 12582912.0f, e < 2 ? w_low : w_high, sum[r][j][e]);
            }
        }
    }
#pragma unroll
    for (int j = 0; j < 8; j++) {
        int64_t key = key0 + j * 8 + part * 2;
        float scale0 = key < a.n_key ? a.cache.scale[key] : 0.0f, scale1 = key + 1 < a.n_key ? a.cache.scale[key + 1] : 0.0f;
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int t = t0 + r * 16 + half * 8 + g;
                if (t >= a.n_tok) continue;
                int64_t sees = a.pos0 < 0 ? a.n_key : a.pos0 + t + 1;
                float *out = a.score + (int64_t)t * a.score_stride + key;
                if (key < a.n_key) out[0] = settle(a, __fmul_rn(sum[r][j][half * 2], scale0), key, sees);
                if (key + 1 < a.n_key) out[1] = settle(a, __fmul_rn(sum[r][j][half * 2 + 1], scale1), key + 1, sees);
            }
    }
}

/* Any width and any number of heads, without tensor cores: a thread has a key, a block one token. */
static __global__ void score_any(scoring a) {
    if (a.moved) a.n_key += *a.moved, a.pos0 += *a.moved;
    int64_t key = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    int t = blockIdx.y;
    int64_t sees = a.pos0 < 0 ? a.n_key : a.pos0 + t + 1;
    if (key >= a.n_key) return;
    float sum = 0.0f;
    int dim = a.cache.dim;
    for (int h = 0; h < a.n_head && key < sees; h++) {
        float dot = 0.0f;
        int64_t row = (int64_t)t * a.n_head + h;
        if (a.cache.type == KERN_I8) {
            int stride = (int)key_stride(dim), total = 0;
            const int32_t *q = reinterpret_cast<const int32_t *>(a.q8 + row * stride);
            const int32_t *s = reinterpret_cast<const int32_t *>(static_cast<const int8_t *>(a.cache.keys) + key * stride);
            for (int i = 0; i < stride / 4; i++) total = __dp4a(q[i], s[i], total);
            dot = (float)total;
        } else {
            const float *q = a.q + row * dim, *s = static_cast<const float *>(a.cache.keys) + key * dim;
            for (int i = 0; i < dim; i++) dot = __fmaf_rn(q[i], s[i], dot);
        }
        sum = weigh(dot, a.w[row], sum);
    }
    if (a.cache.type == KERN_I8) sum = __fmul_rn(sum, a.cache.scale[key]);
    a.score[(int64_t)t * a.score_stride + key] = settle(a, sum, key, sees);
}

template <int STEPS, int ROWS> static bool try_score_i8(const kern *k, const scoring &a) {
    size_t shared = (size_t)a.n_head * 16 * ROWS * (STEPS * 32 + 4);
    if (shared > cuda_state_of(k)->block_shared) return false;
    cuda_allow_shared(k, reinterpret_cast<const void *>(&score_i8<STEPS, ROWS>), shared);
    dim3 grid(cuda_blocks(cuda_reach(k, a.n_key), SCORE_WARPS * SCORE_KEYS), cuda_blocks(a.n_tok, 16 * ROWS));
    score_i8<STEPS, ROWS><<<grid, SCORE_WARPS * 32, shared, cuda_stream(k)>>>(a);
    cuda_launched(k, "index scores");
    return true;
}

static void run_scores(const kern *k, const scoring &a) {
    if (a.cache.type == KERN_I8 && a.cache.dim <= 64) {
        if (a.n_tok > 16 && try_score_i8<2, 2>(k, a)) return;
        if (try_score_i8<2, 1>(k, a)) return;
    } else if (a.cache.type == KERN_I8 && a.cache.dim <= 128) {
        if (try_score_i8<4, 1>(k, a)) return;
    }
    score_any<<<dim3(cuda_blocks(cuda_reach(k, a.n_key), 128), a.n_tok), 128, 0, cuda_stream(k)>>>(a);
    cuda_launched(k, "index scores");
}

/* ---- which positions are allowed ---- */

struct range_values {
    kern_range range[RANGES_BY_VALUE];
};

static __global__ void mark_allowed(range_values values, int n, int64_t n_key, uint32_t *bits) {
    int64_t word = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (word * 32 >= n_key) return;
    uint32_t mask = 0;
    for (int i = 0; i < n; i++) {
        int64_t from = values.range[i].start - word * 32, to = values.range[i].end - word * 32;
        from = from < 0 ? 0 : from;
        to = to > 32 ? 32 : to;
        if (from >= to) continue;
        uint32_t upto = to == 32 ? 0xffffffffu : (1u << to) - 1u;
        mask |= upto & ~((1u << from) - 1u);
    }
    bits[word] |= mask;
}

uint32_t *cuda_allow_bits(const kern *k, const kern_range *allow, int n_allow, int64_t n_key, unsigned char *at) {
    if (!allow) return nullptr;
    uint32_t *bits = reinterpret_cast<uint32_t *>(at);
    int64_t words = (n_key + 31) / 32;
    cudaMemsetAsync(bits, 0, (size_t)words * 4, cuda_stream(k));
    for (int first = 0; first < n_allow; first += RANGES_BY_VALUE) {
        int n = n_allow - first < RANGES_BY_VALUE ? n_allow - first : RANGES_BY_VALUE;
        range_values values = {};
        for (int i = 0; i < n; i++) values.range[i] = allow[first + i];
        mark_allowed<<<cuda_blocks(words, 256), 256, 0, cuda_stream(k)>>>(values, n, n_key, bits);
        cuda_launched(k, "allowed positions");
    }
    return bits;
}

/* ---- the operations ---- */

/* Puts the queries of n_tok tokens into working memory in the form that scoring wants. Returns what follows them. */
static unsigned char *put_queries(const kern *k, scoring *a, const float *q, const float *w, unsigned char *at) {
    a->q = q;
    a->w = w;
    if (a->cache.type != KERN_I8) return at;
    int64_t rows = (int64_t)a->n_tok * a->n_head;
    int stride = (int)key_stride(a->cache.dim);
    int8_t *q8 = reinterpret_cast<int8_t *>(at);
    float *scaled = reinterpret_cast<float *>(at + (rows * stride + 255) / 256 * 256);
    quantise_queries<<<cuda_blocks(rows, 4), 128, 0, cuda_stream(k)>>>(q, w, rows, a->cache.dim, stride, q8, scaled);
    cuda_launched(k, "quantising queries");
    a->q8 = q8;
    a->w = scaled;
    return reinterpret_cast<unsigned char *>(scaled) + (rows * 4 + 255) / 256 * 256;
}

void cuda_index_select(kern *k, const kern_index_select *a) {
    if (a->n_tok < 1) return;
    if (a->cache.type == KERN_FP8) {
        cuda_v32_index_select(k, a);
        return;
    }
    int64_t n_key = a->pos0 + a->n_tok, stride = (cuda_reach(k, n_key) + 31) / 32 * 32;
    unsigned char *work = cuda_state_of(k)->work, *rest = work + CUDA_STRIP_BYTES;
    uint32_t *allow = cuda_allow_bits(k, a->allow, a->n_allow, cuda_reach(k, n_key), rest);
    rest += ((size_t)cuda_reach(k, n_key) / 8 + 511) / 256 * 256;
    int64_t query_bytes = a->n_head * (key_stride(a->cache.dim) + 4);
    int64_t room = (int64_t)(work + CUDA_WORK_BYTES - rest - 1024) / query_bytes;
    int64_t strip = (int64_t)(CUDA_STRIP_BYTES / sizeof(float)) / stride;
    strip = strip < room ? strip : room;
    strip = strip > 32 ? strip / 32 * 32 : strip < 1 ? 1 : strip;
    for (int64_t first = 0; first < a->n_tok; first += strip) {
        int n = (int)(a->n_tok - first < strip ? a->n_tok - first : strip);
        scoring s = {};
        s.cache = a->cache;
        s.allow = allow;
        s.score = reinterpret_cast<float *>(work);
        s.score_stride = stride;
        s.pos0 = a->pos0 + first;
        s.n_key = s.pos0 + n;
        s.n_tok = n;
        s.n_head = a->n_head;
        s.moved = cuda_moved(k);
        put_queries(k, &s, a->q + first * a->n_head * a->cache.dim, a->w + first * a->n_head, rest);
        run_scores(k, s);
        int32_t *position = a->position + first * a->n_select, *count = a->count + first;
        float *best = a->score ? a->score + first * a->n_select : nullptr;
        if (allow || !cuda_v32_topk_rows(k, s.score, stride, s.pos0, n, a->n_select, position, count, best))
            cuda_topk_rows(k, s.score, stride, s.pos0, n, a->n_select, position, count, best);
    }
}

void cuda_index_scores(kern *k, const kern_index_scores *a) {
    if (a->n_key < 1) return;
    if (a->cache.type == KERN_FP8) {
        cuda_v32_index_scores(k, a);
        return;
    }
    scoring s = {};
    s.cache = a->cache;
    s.score = a->score;
    s.score_stride = a->n_key;
    s.n_key = a->n_key;
    s.pos0 = -1;
    s.n_tok = 1;
    s.n_head = a->n_head;
    put_queries(k, &s, a->q, a->w, cuda_state_of(k)->work);
    run_scores(k, s);
}
