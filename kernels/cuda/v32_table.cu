/* v32_table.cu - the kernels for V3.2's dimensions (v32.h) behind the table's operations: what they need is put beside
 * what the table gives (queries in bf16, FP8 codes), and a traced row's mass is computed here.
 *
 * Attention has two forms, chosen by what a row is for and never by how many there are (kern_sparse_mla.session): one
 * part for each list where a context is read, several in a session, so that a single token has work for a third
 * of the processors. Rows of one form have the same bits in any company, and so have heads: a rank's few are put beside
 * empty ones into the kernel's 64.
 */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/product.cuh"
#include "kernels/cuda/v32.h"

#include <cuda_fp8.h>

#include <cmath>

enum { SESSION_PARTS = 16, MOST_TOKENS = 2048 /* at once */, SHORT_ROW = 16384 /* scores */ };
static const float LOG2_E = 1.44269504088896341f;

static unsigned char *take(unsigned char **at, size_t bytes) {
    unsigned char *p = *at;
    *at += (bytes + 255) / 256 * 256;
    return p;
}

/* ---- rounding ---- */

enum { GROUP = 128 };

/* A warp's row of 128 values to e4m3 with a power of two as factor, as the release does it: s = 2^ceil(log2(
 * max(amax, 1e-4) / 448)). Returns s. */
static __device__ float quantise_e4m3(const float *x, uint8_t *codes) {
    int lane = threadIdx.x & 31;
    float v[4], amax = 1e-4f;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        v[i] = x[lane + i * 32];
        amax = fabsf(v[i]) > amax ? fabsf(v[i]) : amax; /* a NaN is passed over */
    }
    uint32_t bits = __float_as_uint(__fdiv_rn(warp_max(amax), 448.0f));
    uint32_t exponent = (bits >> 23) + ((bits & 0x7fffffu) != 0);
    if (exponent > 253) exponent = 253;
    float inverse = __uint_as_float((254u - exponent) << 23);
#pragma unroll
    for (int i = 0; i < 4; i++)
        codes[lane + i * 32] = __nv_cvt_float_to_fp8(v[i] * inverse, __NV_SATFINITE, __NV_E4M3);
    return __uint_as_float(exponent << 23);
}

/* ---- attention ---- */

/* A warp has a group of a token's latent, and one more its rotated part. */
static __global__ void __launch_bounds__(160) append_fp8_rows(kern_latent_append a, const int64_t *moved) {
    int64_t t = blockIdx.x;
    uint8_t *row = static_cast<uint8_t *>(a.cache.rows) + (a.pos0 + moved_by(moved) + t) * V32_FP8_ROW;
    int group = threadIdx.x >> 5, lane = threadIdx.x & 31;
    if (group < V32_LATENT / GROUP) {
        float scale = quantise_e4m3(a.latent + t * a.latent_stride + group * GROUP, row + group * GROUP);
        if (lane == 0) reinterpret_cast<float *>(row + V32_LATENT)[group] = scale;
        return;
    }
    const float *pe = a.k_pe + t * a.k_pe_stride + lane * 2;
    reinterpret_cast<uint32_t *>(row + V32_LATENT + 16)[lane] = pack_bf16(pe[0], pe[1]);
}

void cuda_v32_latent_append(kern *k, const kern_latent_append *a) {
    append_fp8_rows<<<a->n_tok, 160, 0, cuda_stream(k)>>>(*a, cuda_moved(k));
    cuda_launched(k, "latent append");
}

enum { QUERY_THREADS = V32_KEY / 4 };

/* A block has a (token, head): latent part and rotated part side by side, in bf16. Of `held` heads those that are not there
 * are zeros. */
static __global__ void __launch_bounds__(QUERY_THREADS) pack_queries(kern_sparse_mla a, int held, __nv_bfloat16 *q) {
    int64_t row = blockIdx.x, t = row / held, h = row % held;
    int d = threadIdx.x * 4;
    const float *from = d < V32_LATENT ? a.q_latent + (t * a.n_head + h) * V32_LATENT + d
                                       : a.q_pe + t * a.q_pe_tok_stride + h * a.q_pe_head_stride + d - V32_LATENT;
    *reinterpret_cast<uint2 *>(q + row * V32_KEY + d) =
        h < a.n_head ? make_uint2(pack_bf16(from[0], from[1]), pack_bf16(from[2], from[3])) : make_uint2(0, 0);
}

/* The heads that are there, from among `held`. */
static __global__ void __launch_bounds__(V32_LATENT / 4) take_heads(kern_sparse_mla a, int held, const float *out) {
    int64_t row = blockIdx.x, from = row / a.n_head * held + row % a.n_head;
    reinterpret_cast<float4 *>(a.out + row * V32_LATENT)[threadIdx.x] =
        reinterpret_cast<const float4 *>(out + from * V32_LATENT)[threadIdx.x];
}

/* mass[t, i] = mean_h exp(scale q[h].key[i] - lse[h]). A block has MASS_KEYS keys of a token's list, a warp 16 heads
 * at a time; sums over heads are a tree, of which a rank with 16, 32 or 64 of 128 has a branch. */
enum { MASS_KEYS = 16, MASS_WARPS = 8, MASS_HEADS = 16, MASS_STRIDE = V32_KEY + 8 };

/* Element c .. c + 7 of a cached row in bf16; of an FP8 row exactly, its factors being powers of two. */
template <bool FP8> static __device__ __forceinline__ uint4 cached8(const void *cache, int64_t row, int c) {
    const uint8_t *from = static_cast<const uint8_t *>(cache) + row * (FP8 ? V32_FP8_ROW : V32_KEY * 2);
    if (!FP8 || c >= V32_LATENT)
        return *reinterpret_cast<const uint4 *>(FP8 ? from + V32_LATENT + 16 + (c - V32_LATENT) * 2 : from + c * 2);
    uint2 codes = *reinterpret_cast<const uint2 *>(from + c);
    return eight_codes(codes, *reinterpret_cast<const float *>(from + V32_LATENT + (c >> 7) * 4));
}

template <bool FP8>
static __global__ void __launch_bounds__(MASS_WARPS * 32)
    mass_of_rows(kern_sparse_mla a, int held, const __nv_bfloat16 *q, const float *lse, float scale_log2) {
    __shared__ __align__(16) __nv_bfloat16 keys[MASS_KEYS * MASS_STRIDE];
    __shared__ float sums[MASS_WARPS][MASS_KEYS];
    int64_t t = blockIdx.y;
    int first = blockIdx.x * MASS_KEYS, n_key = a.count[t], lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    int g = lane >> 2, part = lane & 3;
    for (int i = warp; i < MASS_KEYS; i += MASS_WARPS) {
        bool in = first + i < n_key;
        int64_t row = in ? a.position[t * a.n_select + first + i] : 0;
        for (int c = lane * 8; c < V32_KEY; c += 256)
            *reinterpret_cast<uint4 *>(keys + i * MASS_STRIDE + c) =
                in ? cached8<FP8>(a.cache.rows, row, c) : make_uint4(0, 0, 0, 0);
    }
    __syncthreads();
    float sum[4] = {}; /* of keys part * 2, part * 2 + 1, and eight further */
    for (int head = warp * MASS_HEADS; head < a.n_head; head += MASS_WARPS * MASS_HEADS) {
        const __nv_bfloat16 *low = q + (t * held + head + g) * V32_KEY + part * 2, *high = low + 8 * V32_KEY;
        float c[2][4] = {};
#pragma unroll 6
        for (int k = 0; k < V32_KEY / 16; k++) {
            uint32_t a0 = *reinterpret_cast<const uint32_t *>(low + k * 16),
                     a1 = *reinterpret_cast<const uint32_t *>(high + k * 16),
                     a2 = *reinterpret_cast<const uint32_t *>(low + k * 16 + 8),
                     a3 = *reinterpret_cast<const uint32_t *>(high + k * 16 + 8);
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const __nv_bfloat16 *b = keys + (j * 8 + g) * MASS_STRIDE + k * 16 + part * 2;
                mma_bf16(c[j], a0, a1, a2, a3, *reinterpret_cast<const uint32_t *>(b),
                         *reinterpret_cast<const uint32_t *>(b + 8));
            }
        }
        float base_low = lse[t * held + head + g] * LOG2_E, base_high = lse[t * held + head + g + 8] * LOG2_E;
#pragma unroll
        for (int j = 0; j < 2; j++)
#pragma unroll
            for (int e = 0; e < 2; e++)
                sum[j * 2 + e] += exp2f(c[j][e] * scale_log2 - base_low) + exp2f(c[j][2 + e] * scale_log2 - base_high);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        for (int d = 4; d < 32; d <<= 1) sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], d);
        if (g == 0) sums[warp][(i >> 1) * 8 + part * 2 + (i & 1)] = sum[i];
    }
    __syncthreads();
    int i = threadIdx.x;
    if (i >= MASS_KEYS || first + i >= a.n_select) return;
    float all = ((sums[0][i] + sums[1][i]) + (sums[2][i] + sums[3][i])) +
                ((sums[4][i] + sums[5][i]) + (sums[6][i] + sums[7][i]));
    a.mass[t * a.n_select + first + i] = first + i < n_key ? all / (float)a.n_head : 0.0f;
}

bool cuda_v32_attention(const kern *k, const kern_latents *cache, int n_head) {
    if (cache->type == KERN_FP8) return true; /* there is no other way */
    return !k->plain && cuda_state_of(k)->major == 9 && cache->type == KERN_BF16 && cache->kv_lora == V32_LATENT &&
           cache->rope == V32_ROPE && n_head % MASS_HEADS == 0 && n_head > 0;
}

bool cuda_fp8_latents(const kern *k, int n_head, int kv_lora, int rope) {
    return cuda_state_of(k)->major == 9 && kv_lora == V32_LATENT && rope == V32_ROPE && n_head % MASS_HEADS == 0 &&
           n_head > 0;
}

void cuda_v32_sparse_mla(kern *k, const kern_sparse_mla *a) {
    const cuda_state *s = cuda_state_of(k);
    int parts = a->session ? SESSION_PARTS : 1, held = (a->n_head + 63) / 64 * 64;
    bool room = held != a->n_head; /* for the output of all of them */
    size_t token = (size_t)held * (V32_KEY * 2 + 4 + (parts > 1 ? (size_t)parts * (V32_LATENT + 1) * 4 : 0) +
                                   (room ? V32_LATENT * 4 : 0));
    int most = (int)((CUDA_WORK_BYTES - 4096) / token);
    if (most > MOST_TOKENS) most = MOST_TOKENS;
    for (int first = 0; first < a->n_tok; first += most) {
        kern_sparse_mla part = *a;
        part.n_tok = a->n_tok - first < most ? a->n_tok - first : most;
        part.q_latent += (int64_t)first * a->n_head * V32_LATENT;
        part.q_pe += first * a->q_pe_tok_stride;
        part.position += (int64_t)first * a->n_select;
        part.count += first;
        part.out += (int64_t)first * a->n_head * V32_LATENT;
        if (a->mass) part.mass += (int64_t)first * a->n_select;
        size_t rows = (size_t)part.n_tok * (size_t)held;
        unsigned char *at = s->work;
        __nv_bfloat16 *q = reinterpret_cast<__nv_bfloat16 *>(take(&at, rows * V32_KEY * 2));
        v32_mla m = {};
        m.fp8 = a->cache.type == KERN_FP8;
        m.cache = a->cache.rows;
        m.q = q;
        m.position = part.position;
        m.count = part.count;
        m.position_stride = a->n_select;
        m.n_tok = part.n_tok;
        m.n_head = held;
        m.scale = a->scale;
        m.out_f32 = room ? reinterpret_cast<float *>(take(&at, rows * V32_LATENT * 4)) : part.out;
        m.lse = reinterpret_cast<float *>(take(&at, rows * 4));
        m.n_split = parts;
        if (parts > 1) {
            m.part_out = reinterpret_cast<float *>(take(&at, rows * (size_t)parts * V32_LATENT * 4));
            m.part_lse = reinterpret_cast<float *>(take(&at, rows * (size_t)parts * 4));
        }
        cudaStream_t stream = cuda_stream(k);
        pack_queries<<<(unsigned)rows, QUERY_THREADS, 0, stream>>>(part, held, q);
        cuda_launched(k, "packing queries");
        cuda_noted(k, v32_mla_launch(&m, V32_WGMMA, stream), "attention");
        if (room) take_heads<<<(unsigned)(part.n_tok * a->n_head), V32_LATENT / 4, 0, stream>>>(part, held, m.out_f32);
        cuda_launched(k, "attention");
        if (!a->mass) continue;
        dim3 grid(cuda_blocks(a->n_select, MASS_KEYS), part.n_tok);
        if (m.fp8) mass_of_rows<true><<<grid, MASS_WARPS * 32, 0, stream>>>(part, held, q, m.lse, a->scale * LOG2_E);
        else mass_of_rows<false><<<grid, MASS_WARPS * 32, 0, stream>>>(part, held, q, m.lse, a->scale * LOG2_E);
        cuda_launched(k, "mass");
    }
}

/* ---- FP8 index keys ---- */

kern_type cuda_index_type(const kern *k, int n_head, int dim) {
    return cuda_state_of(k)->major == 9 && n_head == V32_INDEX_HEADS && dim == V32_INDEX_DIM ? KERN_FP8 : KERN_I8;
}

static __global__ void append_codes(kern_index_append a, const int64_t *moved) {
    int row = blockIdx.x * 4 + (threadIdx.x >> 5);
    if (row >= a.n_tok) return;
    int64_t pos = a.pos0 + moved_by(moved) + row;
    float scale = quantise_e4m3(a.k + (int64_t)row * V32_INDEX_DIM,
                                static_cast<uint8_t *>(a.cache.keys) + pos * V32_INDEX_DIM);
    if ((threadIdx.x & 31) == 0) a.cache.scale[pos] = scale;
}

void cuda_v32_index_append(kern *k, const kern_index_append *a) {
    append_codes<<<cuda_blocks(a->n_tok, 4), 128, 0, cuda_stream(k)>>>(*a, cuda_moved(k));
    cuda_launched(k, "index append");
}

/* Codes of the queries, and the head weights times their factors. */
static __global__ void code_queries(const float *q, const float *w, int64_t n_row, uint8_t *codes, float *scaled) {
    int64_t row = (int64_t)blockIdx.x * 4 + (threadIdx.x >> 5);
    if (row >= n_row) return;
    float scale = quantise_e4m3(q + row * V32_INDEX_DIM, codes + row * V32_INDEX_DIM);
    if ((threadIdx.x & 31) == 0) scaled[row] = __fmul_rn(w[row], scale);
}

/* Puts a NaN where a position may not be selected, and the least number where a score is none. */
static __global__ void mask_scores(float *score, int64_t stride, int64_t pos0, const int64_t *moved,
                                   const uint32_t *allow) {
    int64_t key = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (key > pos0 + moved_by(moved) + blockIdx.y) return;
    float *at = score + blockIdx.y * stride + key;
    if (!(allow[key >> 5] >> (key & 31) & 1)) *at = __int_as_float(0x7fc00000);
    else if (isnan(*at)) *at = -INFINITY;
}

static __global__ void gather_scores(const float *score, int64_t stride, const int32_t *position, const int32_t *count,
                                     int n_select, float *best) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int64_t row = blockIdx.y;
    if (i >= count[row] || i >= n_select) return;
    float v = score[row * stride + position[row * n_select + i]];
    best[row * n_select + i] = isnan(v) ? -INFINITY : v;
}

bool cuda_v32_topk_rows(const kern *k, const float *score, int64_t stride, int64_t pos0, int n_row, int n_select,
                        int32_t *position, int32_t *count, float *best) {
    /* A cluster for a short row takes longer than the other kernel's block: 6 us of a layer at 1K, the other way round 5
     * us at 32K and 23 us at 128K (one H200). */
    if (k->plain || cuda_state_of(k)->major != 9 || (n_row <= 8 && cuda_reach(k, pos0 + n_row) <= SHORT_ROW)) return false;
    v32_topk t = {};
    t.score = score;
    t.score_stride = stride;
    t.pos0 = pos0;
    t.n_key = pos0 + n_row;
    t.row_step = 1;
    t.n_row = n_row;
    t.n_select = n_select;
    t.position = position;
    t.count = count;
    t.moved = cuda_moved(k);
    t.reach = cuda_reach(k, t.n_key);
    cudaStream_t stream = cuda_stream(k);
    cudaError_t chosen = v32_topk_launch(&t, stream);
    if (chosen == cudaErrorNotSupported) return false;
    cuda_noted(k, chosen, "top-k");
    if (!best) return true;
    gather_scores<<<dim3(cuda_blocks(n_select, 256), n_row), 256, 0, stream>>>(score, stride, position, count, n_select,
                                                                              best);
    cuda_launched(k, "scores of the best");
    return true;
}

/* Scores of n_tok tokens from pos0 on, stride apart. Queries are put into working memory at `at`. */
static void score_codes(kern *k, const kern_index_keys *cache, const float *q, const float *w, int n_tok, int64_t pos0,
                        float *score, int64_t stride, unsigned char *at) {
    int64_t rows = (int64_t)n_tok * V32_INDEX_HEADS;
    uint8_t *codes = take(&at, (size_t)rows * V32_INDEX_DIM);
    float *scaled = reinterpret_cast<float *>(take(&at, (size_t)rows * 4));
    cudaStream_t stream = cuda_stream(k);
    code_queries<<<cuda_blocks(rows, 4), 128, 0, stream>>>(q, w, rows, codes, scaled);
    cuda_launched(k, "quantising queries");
    v32_index i = {};
    i.q = codes;
    i.w = scaled;
    i.k = static_cast<const uint8_t *>(cache->keys);
    i.k_scale = cache->scale;
    i.n_key = pos0 + n_tok;
    i.pos0 = pos0;
    i.n_tok = n_tok;
    i.score = score;
    i.score_stride = stride;
    i.moved = cuda_moved(k);
    i.reach = cuda_reach(k, i.n_key);
    cuda_noted(k, v32_index_launch(&i, V32_WGMMA, stream), "index scores");
}

void cuda_v32_index_select(kern *k, const kern_index_select *a) {
    int64_t n_key = a->pos0 + a->n_tok, stride = (cuda_reach(k, n_key) + 31) / 32 * 32;
    unsigned char *work = cuda_state_of(k)->work, *rest = work + CUDA_STRIP_BYTES;
    uint32_t *allow = cuda_allow_bits(k, a->allow, a->n_allow, cuda_reach(k, n_key), rest);
    rest += ((size_t)cuda_reach(k, n_key) / 8 + 511) / 256 * 256;
    int64_t room = (int64_t)(work + CUDA_WORK_BYTES - rest - 1024) / (V32_INDEX_HEADS * (V32_INDEX_DIM + 4));
    int64_t strip = (int64_t)(CUDA_STRIP_BYTES / sizeof(float)) / stride;
    strip = strip < room ? strip : room;
    strip = strip > 32 ? strip / 32 * 32 : strip < 1 ? 1 : strip;
    cudaStream_t stream = cuda_stream(k);
    float *score = reinterpret_cast<float *>(work);
    for (int64_t first = 0; first < a->n_tok; first += strip) {
        int n = (int)(a->n_tok - first < strip ? a->n_tok - first : strip);
        int64_t pos0 = a->pos0 + first;
        int32_t *position = a->position + first * a->n_select, *count = a->count + first;
        float *best = a->score ? a->score + first * a->n_select : nullptr;
        score_codes(k, &a->cache, a->q + first * V32_INDEX_HEADS * V32_INDEX_DIM, a->w + first * V32_INDEX_HEADS, n,
                    pos0, score, stride, rest);
        if (!allow && cuda_v32_topk_rows(k, score, stride, pos0, n, a->n_select, position, count, best)) continue;
        if (allow) {
            mask_scores<<<dim3(cuda_blocks(cuda_reach(k, pos0 + n), 256), n), 256, 0, stream>>>(score, stride, pos0,
                                                                                               cuda_moved(k), allow);
            cuda_launched(k, "allowed positions");
        }
        cuda_topk_rows(k, score, stride, pos0, n, a->n_select, position, count, best);
    }
}

void cuda_v32_index_scores(kern *k, const kern_index_scores *a) {
    score_codes(k, &a->cache, a->q, a->w, 1, a->n_key - 1, a->score, (a->n_key + 3) / 4 * 4, cuda_state_of(k)->work);
}
