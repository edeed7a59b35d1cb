/* mla_run.cu - sparse and dense latent attention: choice of the form, cutting into pieces that working memory has room
 * for, merging of segments, mass; and the plain form for fp32 caches and for shapes beyond the others. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/mla.cuh"

#include <cmath>

enum { PLAIN_THREADS = MLA_BLOCK, DENSE_SEGMENT_BLOCKS = 16 };

/* ---- any shape and type: a block has one row, a thread one key of a block of keys, then elements of the latent ---- */

static __device__ __forceinline__ float cache_value(const mla_job &a, int64_t i) {
    return a.type == KERN_F32 ? static_cast<const float *>(a.cache)[i]
                              : __bfloat162float(static_cast<const __nv_bfloat16 *>(a.cache)[i]);
}

template <bool SPARSE> static __global__ void __launch_bounds__(PLAIN_THREADS) attend_plain(mla_job a) {
    extern __shared__ float shared[];
    __shared__ float reduced[PLAIN_THREADS / 32];
    __shared__ int32_t place[MLA_BLOCK];
    __shared__ float p[MLA_BLOCK];
    int width = a.kv_lora + a.rope, tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    float *q = shared, *sum = q + width, *merged = sum + a.kv_lora;
    if (!SPARSE) a.pos0 += moved_by(a.moved);
    mla_rows rows;
    int64_t row = blockIdx.x;
    rows.first = row;
    rows.n = 1;
    rows.token = (int)(row / a.n_head);
    rows.n_key = SPARSE ? a.count[rows.token] : a.pos0 + rows.token + 1;
    if (rows.n_key < 0) rows.n_key = 0;
    mla_query query = mla_query_of(a, row);
    for (int d = tid; d < width; d += PLAIN_THREADS) {
        float v = query.at(d);
        q[d] = a.type == KERN_F32 ? v : __bfloat162float(__float2bfloat16_rn(v));
    }
    for (int d = tid; d < a.kv_lora; d += PLAIN_THREADS) merged[d] = 0.0f;
    float merged_greatest = -INFINITY, merged_total = 0.0f;
    int64_t segment_keys = (int64_t)a.segment_blocks * MLA_BLOCK;
    for (int64_t start = 0; start < rows.n_key; start += segment_keys) {
        for (int d = tid; d < a.kv_lora; d += PLAIN_THREADS) sum[d] = 0.0f;
        float greatest = -INFINITY, total = 0.0f;
        int64_t end = start + segment_keys < rows.n_key ? start + segment_keys : rows.n_key;
        for (int64_t first = start; first < end; first += MLA_BLOCK) {
            __syncthreads();
            int32_t at = mla_place<SPARSE>(a, rows, first + tid);
            place[tid] = at;
            float score = -INFINITY;
            if (at >= 0) {
                float dot = 0.0f;
                for (int d = 0; d < width; d++) dot = __fmaf_rn(q[d], cache_value(a, (int64_t)at * width + d), dot);
                score = dot * a.scale_log2;
            }
            if (a.scores && first + tid < a.n_select) a.scores[row * a.n_select + first + tid] = score;
            float most = warp_max(score);
            if (lane == 0) reduced[warp] = most;
            __syncthreads();
            float now = greatest;
            for (int w = 0; w < PLAIN_THREADS / 32; w++) now = fmaxf(now, reduced[w]);
            float base = now == -INFINITY ? 0.0f : now, factor = exp2f(greatest - base), e = exp2f(score - base);
            p[tid] = e;
            float add = warp_sum(e);
            __syncthreads();
            if (lane == 0) reduced[warp] = add;
            __syncthreads();
            add = 0.0f;
            for (int w = 0; w < PLAIN_THREADS / 32; w++) add += reduced[w];
            total = __fmaf_rn(total, factor, add);
            greatest = now;
            int n = (int)(end - first < MLA_BLOCK ? end - first : MLA_BLOCK);
            for (int d = tid; d < a.kv_lora; d += PLAIN_THREADS) {
                float v = sum[d] * factor;
                for (int i = 0; i < n; i++)
                    if (place[i] >= 0) v = __fmaf_rn(p[i], cache_value(a, (int64_t)place[i] * width + d), v);
                sum[d] = v;
            }
        }
        mla_merge f = mla_merge_of(merged_greatest, greatest);
        for (int d = tid; d < a.kv_lora; d += PLAIN_THREADS)
            merged[d] = __fmaf_rn(sum[d], f.here, __fmul_rn(merged[d], f.before));
        merged_total = __fmaf_rn(total, f.here, __fmul_rn(merged_total, f.before));
        merged_greatest = f.greatest;
    }
    float factor = merged_total > 0.0f || isnan(merged_total) ? 1.0f / merged_total : 0.0f;
    for (int d = tid; d < a.kv_lora; d += PLAIN_THREADS) a.out[row * a.kv_lora + d] = __fmul_rn(merged[d], factor);
    if (tid == 0 && a.row_greatest) {
        a.row_greatest[row] = merged_greatest;
        a.row_total[row] = merged_total;
    }
}

static void run_plain(const kern *k, const mla_job &a) {
    size_t shared = (size_t)(a.kv_lora + a.rope + 2 * a.kv_lora) * sizeof(float);
    unsigned rows = (unsigned)(a.n_tok * a.n_head);
    cudaStream_t stream = cuda_stream(k);
    if (a.position) {
        cuda_allow_shared(k, reinterpret_cast<const void *>(&attend_plain<true>), shared);
        attend_plain<true><<<rows, PLAIN_THREADS, shared, stream>>>(a);
    } else {
        cuda_allow_shared(k, reinterpret_cast<const void *>(&attend_plain<false>), shared);
        attend_plain<false><<<rows, PLAIN_THREADS, shared, stream>>>(a);
    }
    cuda_launched(k, "attention");
}

/* ---- segments that had blocks of their own ---- */

static __global__ void merge_segments(mla_job a) {
    a.pos0 += moved_by(a.moved);
    int64_t row = blockIdx.x;
    int token = (int)(row / a.n_head);
    int64_t n_key = a.position ? a.count[token] : a.pos0 + token + 1, each = (int64_t)a.segment_blocks * MLA_BLOCK;
    int n = n_key > 0 ? (int)((n_key + each - 1) / each) : 0;
    const float *greatest = a.part_greatest + row * a.most_segments, *total = a.part_total + row * a.most_segments;
    const float *sum = a.part_sum + row * a.most_segments * a.kv_lora;
    for (int d = threadIdx.x; d < a.kv_lora; d += blockDim.x) {
        float merged = 0.0f, merged_greatest = -INFINITY, merged_total = 0.0f;
        for (int i = 0; i < n; i++) {
            mla_merge f = mla_merge_of(merged_greatest, greatest[i]);
            merged = __fmaf_rn(sum[(int64_t)i * a.kv_lora + d], f.here, __fmul_rn(merged, f.before));
            merged_total = __fmaf_rn(total[i], f.here, __fmul_rn(merged_total, f.before));
            merged_greatest = f.greatest;
        }
        float factor = merged_total > 0.0f || isnan(merged_total) ? 1.0f / merged_total : 0.0f;
        a.out[row * a.kv_lora + d] = __fmul_rn(merged, factor);
        if (d == 0 && a.row_greatest) {
            a.row_greatest[row] = merged_greatest;
            a.row_total[row] = merged_total;
        }
    }
}

/* ---- mass: the mean over the heads of the probabilities ---- */

static __global__ void mean_mass(mla_job a, float *mass) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int64_t t = blockIdx.y;
    if (i >= a.n_select) return;
    float sum = 0.0f;
    for (int h = 0; h < a.n_head && i < a.count[t]; h++) {
        int64_t row = t * a.n_head + h;
        sum += exp2f(a.scores[row * a.n_select + i] - a.row_greatest[row]) / a.row_total[row];
    }
    mass[t * a.n_select + i] = sum / (float)a.n_head;
}

/* ---- a call, piece by piece ---- */

static unsigned char *take(unsigned char **at, size_t bytes) {
    unsigned char *p = *at;
    *at += (bytes + 255) / 256 * 256;
    return p;
}

static void run(kern *k, mla_job a, float *mass, unsigned char *at) {
    const cuda_state *s = cuda_state_of(k);
    a.segment_blocks = a.position ? 1 : DENSE_SEGMENT_BLOCKS;
    int64_t each = (int64_t)a.segment_blocks * MLA_BLOCK, n_key = a.position ? a.n_select : cuda_reach(k, a.pos0 + a.n_tok);
    a.most_segments = (int)((n_key + each - 1) / each);
    size_t room = (size_t)(s->work + CUDA_WORK_BYTES - at) - 4096;
    size_t row_mass = mass ? (size_t)(a.n_select + 2) * 4 : 0;
    size_t row_parts = (size_t)a.most_segments * (size_t)(a.kv_lora + 2) * 4;
    /* Too few rows for the processors of the chip, and segments to share out. */
    int64_t row_tiles = (int64_t)a.n_tok * ((a.n_head + 15) / 16);
    bool tensor = a.type == KERN_BF16;
    a.split = tensor && a.most_segments > 1 && row_tiles < 2 * s->n_sm && a.most_segments <= 65535 &&
              (row_mass + row_parts) * (size_t)a.n_head <= room;
    size_t token_bytes = (size_t)a.n_head * (row_mass + (a.split ? row_parts : 0));
    int most = token_bytes ? (int)(room / token_bytes < 65535 ? room / token_bytes : 65535) : 65535;
    if (most < 1) most = 1; /* no model is so wide: 128 heads x 163840 positions fit */
    for (int first = 0; first < a.n_tok; first += most) {
        mla_job part = a;
        unsigned char *p = at;
        part.n_tok = a.n_tok - first < most ? a.n_tok - first : most;
        part.q_latent += (int64_t)first * a.n_head * a.kv_lora;
        part.q_pe += first * a.q_pe_tok_stride;
        part.out += (int64_t)first * a.n_head * a.kv_lora;
        part.pos0 += first;
        if (a.position) {
            part.position += (int64_t)first * a.n_select;
            part.count += first;
        }
        size_t rows = (size_t)part.n_tok * (size_t)a.n_head;
        if (mass) {
            part.scores = reinterpret_cast<float *>(take(&p, rows * (size_t)a.n_select * 4));
            part.row_greatest = reinterpret_cast<float *>(take(&p, rows * 4));
            part.row_total = reinterpret_cast<float *>(take(&p, rows * 4));
        }
        if (part.split) {
            part.part_sum = reinterpret_cast<float *>(take(&p, rows * (size_t)(a.most_segments * a.kv_lora) * 4));
            part.part_greatest = reinterpret_cast<float *>(take(&p, rows * (size_t)a.most_segments * 4));
            part.part_total = reinterpret_cast<float *>(take(&p, rows * (size_t)a.most_segments * 4));
        }
        if (!tensor || !mla_bf16(k, part)) {
            part.split = false;
            run_plain(k, part);
        }
        if (part.split) {
            int threads = a.kv_lora < 256 ? (a.kv_lora + 31) / 32 * 32 : 256;
            merge_segments<<<(unsigned)rows, threads, 0, cuda_stream(k)>>>(part);
            cuda_launched(k, "merging segments");
        }
        if (mass) {
            mean_mass<<<dim3(cuda_blocks(a.n_select, 128), part.n_tok), 128, 0, cuda_stream(k)>>>(
                part, mass + (int64_t)first * a.n_select);
            cuda_launched(k, "mass");
        }
    }
}

void cuda_sparse_mla(kern *k, const kern_sparse_mla *a) {
    if (a->n_tok < 1) return;
    if (cuda_v32_attention(k, &a->cache, a->n_head)) {
        cuda_v32_sparse_mla(k, a);
        return;
    }
    mla_job j = {};
    j.cache = a->cache.rows;
    j.type = a->cache.type;
    j.kv_lora = a->cache.kv_lora;
    j.rope = a->cache.rope;
    j.q_latent = a->q_latent;
    j.q_pe = a->q_pe;
    j.q_pe_tok_stride = a->q_pe_tok_stride;
    j.q_pe_head_stride = a->q_pe_head_stride;
    j.position = a->position;
    j.count = a->count;
    j.n_tok = a->n_tok;
    j.n_head = a->n_head;
    j.n_select = a->n_select;
    j.scale_log2 = a->scale * 1.44269504088896341f;
    j.out = a->out;
    run(k, j, a->mass, cuda_state_of(k)->work);
}

void cuda_dense_mla(kern *k, const kern_dense_mla *a) {
    if (a->n_tok < 1) return;
    if (a->cache.type == KERN_FP8) { /* told by status */
        cuda_noted(k, cudaErrorNotSupported, "dense attention: there is none over FP8 latents");
        return;
    }
    int64_t n_key = cuda_reach(k, a->pos0 + a->n_tok);
    mla_job j = {};
    j.cache = a->cache.rows;
    j.type = a->cache.type;
    j.kv_lora = a->cache.kv_lora;
    j.rope = a->cache.rope;
    j.q_latent = a->q_latent;
    j.q_pe = a->q_pe;
    j.q_pe_tok_stride = a->q_pe_tok_stride;
    j.q_pe_head_stride = a->q_pe_head_stride;
    j.pos0 = a->pos0;
    j.n_tok = a->n_tok;
    j.n_head = a->n_head;
    j.moved = cuda_moved(k);
    j.scale_log2 = a->scale * 1.44269504088896341f;
    j.out = a->out;
    unsigned char *at = cuda_state_of(k)->work;
    j.allow = cuda_allow_bits(k, a->allow, a->n_allow, n_key, at);
    run(k, j, nullptr, at + ((size_t)n_key / 8 + 511) / 256 * 256);
}

/* ---- the cache ---- */

static __global__ void append_latents(kern_latent_append a, const int64_t *moved) {
    int width = a.cache.kv_lora + a.cache.rope;
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (int64_t)a.n_tok * width) return;
    int64_t t = i / width;
    int d = (int)(i % width);
    float v = d < a.cache.kv_lora ? a.latent[t * a.latent_stride + d] : a.k_pe[t * a.k_pe_stride + d - a.cache.kv_lora];
    int64_t to = (a.pos0 + moved_by(moved) + t) * width + d;
    if (a.cache.type == KERN_F32) {
        static_cast<float *>(a.cache.rows)[to] = v;
        return;
    }
    /* as ph_f32_to_bf16: a NaN stays itself, made quiet */
    uint32_t u = __float_as_uint(v);
    uint16_t half = (u & 0x7fffffffu) > 0x7f800000u ? (uint16_t)((u >> 16) | 0x40u)
                                                    : (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
    static_cast<uint16_t *>(a.cache.rows)[to] = half;
}

void cuda_latent_append(kern *k, const kern_latent_append *a) {
    int64_t n = (int64_t)a->n_tok * (a->cache.kv_lora + a->cache.rope);
    if (n < 1) return;
    if (a->cache.type == KERN_FP8) {
        cuda_v32_latent_append(k, a);
        return;
    }
    append_latents<<<cuda_blocks(n, 256), 256, 0, cuda_stream(k)>>>(*a, cuda_moved(k));
    cuda_launched(k, "latent append");
}
