/* v32_time.cu - times of the V3.2 kernels at V3.2's dimensions and 128K positions (kernel_bench.h). */
#include "kernels/cuda/v32_device.cuh"
#include "kernels/cuda/v32_time.cuh"
#include "kernels/cuda/v32_wgmma.cuh"

#include <cstring>

/* ---- the FP8 rate of the tensor cores; the others' are peaks.cu's ---- */

enum { PEAK_REPEAT = 2048 };
static __global__ void __launch_bounds__(256, 1) fp8_loop(float *out) {
#ifdef V32_HOPPER
    extern __shared__ __align__(1024) unsigned char memory[];
    for (int i = threadIdx.x; i < 128 * 128; i += blockDim.x) memory[i] = code_of((uint64_t)i);
    uint32_t a[4][4];
    for (int s = 0; s < 4; s++)
        for (int i = 0; i < 4; i++) {
            a[s][i] = 0;
            for (int b = 0; b < 4; b++)
                a[s][i] |= (uint32_t)code_of((uint64_t)threadIdx.x * 64 + s * 16 + i * 4 + b) << (b * 8);
        }
    fence_async_proxy();
    __syncthreads();
    uint64_t tile = tile_descriptor(shared_address(memory), 16, 1024);
    float d[64] = {};
    wgmma_fence();
    for (int r = 0; r < PEAK_REPEAT; r++) {
#pragma unroll
        for (int s = 0; s < 4; s++) wgmma_fp8_n128(d, a[s], tile + (uint64_t)(s * 2), 1);
        wgmma_commit();
    }
    wgmma_wait<0>();
    float sum = 0.0f;
    for (int i = 0; i < 64; i++) sum += d[i];
    if (sum == 1.2345f) *out = sum;
#else
    __trap();
#endif
}

static void time_peaks(v32_run &r) {
    r.part = "peaks, measured in this run";
    r.k->measure_peaks(r.k, &r.peaks);
    cudaStream_t stream = r.stream();
    int n_sm = cuda_state_of(r.k)->n_sm;
    float *out = r.make<float>(1);
    double t = r.median("the FP8 peak", 5, false, [&] {
        fp8_loop<<<n_sm, 256, 128 * 128, stream>>>(out);
        return cudaGetLastError();
    });
    double work = (double)n_sm * 2 * PEAK_REPEAT * 4 * (2.0 * 64 * 128 * 32);
    r.fp8_peak = t > 0 ? work / t : 0;
    r.tell("FP8 products, from registers and shared memory", t, work, false, 0);
    r.tell("bf16 products, from shared memory", 1, r.peaks.bf16_flops, false, 0);
    r.tell("reading memory", 1, r.peaks.bytes_per_s, true, 0);
    r.drop();
}

/* ---- attention ---- */

static __global__ void fill_fp8_rows(uint8_t *p, int64_t n_row) {
    for (int64_t i = blockIdx.x; i < n_row; i += gridDim.x) {
        uint8_t *row = p + i * V32_FP8_ROW;
        for (int d = threadIdx.x; d < V32_LATENT; d += blockDim.x) row[d] = code_of((uint64_t)(i * V32_LATENT + d));
        if (threadIdx.x < 4) reinterpret_cast<float *>(row + V32_LATENT)[threadIdx.x] = 0.25f;
        for (int d = threadIdx.x; d < V32_ROPE; d += blockDim.x)
            reinterpret_cast<__nv_bfloat16 *>(row + V32_LATENT + 16)[d] =
                __float2bfloat16(noise_of((uint64_t)(i * 64 + d)));
    }
}
/* Ascending and distinct: one of each `sees / n` rows, from token * own. */
static __global__ void fill_positions(int32_t *p, int32_t *count, int64_t n, int64_t sees, int64_t own) {
    int t = blockIdx.x;
    if (threadIdx.x == 0) count[t] = (int32_t)n;
    int64_t each = sees / n;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
        p[t * n + i] = (int32_t)(t * own + i * each + (each > 1 ? mix_bits((uint64_t)(t * n + i)) % each : 0));
}
static uint8_t *fp8_cache(v32_run &r, int64_t n_row) {
    uint8_t *cache = r.make<uint8_t>(n_row * V32_FP8_ROW);
    if (!r.code) fill_fp8_rows<<<132 * 8, 128, 0, r.stream()>>>(cache, n_row);
    return cache;
}
/* n_tok tokens over lists of n of `sees` rows; the cache has `own` rows for each token, or is one of `sees` (own 0). */
static double time_attention(v32_run &r, const char *name, bool fp8, const void *cache, int n_tok, int64_t n,
                             int64_t sees, int64_t own, int n_split) {
    v32_mla a = {};
    int32_t *position = r.make<int32_t>(n_tok * n), *count = r.make<int32_t>(n_tok);
    if (!r.code) fill_positions<<<n_tok, 256, 0, r.stream()>>>(position, count, n, sees, own);
    a.fp8 = fp8, a.cache = cache, a.position = position, a.count = count;
    a.q = r.random<__nv_bfloat16>((int64_t)n_tok * 128 * V32_KEY, 0.5f);
    a.position_stride = n, a.n_tok = n_tok, a.n_head = 128, a.scale = 0.1352337789f;
    a.out = r.make<__nv_bfloat16>((int64_t)n_tok * 128 * V32_LATENT);
    a.n_split = n_split;
    if (n_split > 1) {
        a.part_out = r.make<float>((int64_t)n_split * n_tok * 128 * V32_LATENT);
        a.part_lse = r.make<float>((int64_t)n_split * n_tok * 128);
    }
    double t = r.median(name, 7, n_tok < 128, [&] { return v32_mla_launch(&a, V32_WGMMA, r.stream()); });
    char what[80];
    snprintf(what, sizeof what, "%s, %d tokens", name, n_tok);
    r.tell(what, t, 2.0 * n_tok * 128.0 * (double)n * (V32_KEY + V32_LATENT), false, r.peaks.bf16_flops);
    return t;
}
/* So many parts of a list that all multiprocessors have work. */
static int split_of(const v32_run &r, int n_tok) {
    int split = cuda_state_of(r.k)->n_sm / (n_tok * 2);
    return split < 1 ? 1 : split > 16 ? 16 : split;
}

/* ---- index scores, top-k ---- */

static double time_index(v32_run &r, const char *name, int n_tok, int64_t n_key, int64_t key_step, float *score) {
    int64_t rows = n_key + key_step * (n_tok - 1);
    v32_index a = {};
    a.q = r.random<uint8_t>((int64_t)n_tok * 64 * 128);
    a.w = r.random<float>((int64_t)n_tok * 64, 0.01f);
    a.k = r.random<uint8_t>(rows * 128);
    a.k_scale = r.random<float>(rows, 0.001f, 0.01f);
    a.n_key = n_key, a.pos0 = key_step ? n_key - 1 : n_key - n_tok, a.n_tok = n_tok, a.score = score;
    a.score_stride = n_key, a.key_step = key_step;
    bool few = n_tok <= 4 || key_step;
    double t = r.median(name, 7, few, [&] { return v32_index_launch(&a, V32_WGMMA, r.stream()); });
    double pairs = key_step ? (double)n_tok * (double)n_key
                            : (double)n_tok * (double)a.pos0 + (double)n_tok * (n_tok + 1) / 2.0;
    char what[80];
    snprintf(what, sizeof what, "%s, %d tokens", name, n_tok);
    if (few) r.tell(what, t, (double)n_key * (key_step ? n_tok : 1) * 132.0, true, r.peaks.bytes_per_s);
    else r.tell(what, t, pairs * 2.0 * 64 * 128, false, r.fp8_peak);
    return t;
}
static double time_topk(v32_run &r, const char *name, int rows, int64_t length, int64_t pos0, int row_step,
                        const float *score, int parts) {
    v32_topk a = {score, length, pos0, length, row_step, rows, V32_SELECT, r.make<int32_t>((int64_t)rows * V32_SELECT),
                  r.make<int32_t>(rows), 0, parts, nullptr, 0};
    double t = r.median(name, 9, rows < 512, [&] { return v32_topk_launch(&a, r.stream()); });
    char what[80];
    snprintf(what, sizeof what, "%s, %d rows%s", name, rows, parts == 1 ? ", a block each" : "");
    r.tell(what, t, (double)rows * (double)length * 4.0, true, r.peaks.bytes_per_s);
    return t;
}

/* ---- the parts ---- */

static void time_kernels(v32_run &r) {
    r.part = "sparse attention, 128 heads, 2048 of 128K";
    const void *cache = r.random<__nv_bfloat16>(V32_LENGTH * V32_KEY);
    time_attention(r, "prefill over bf16 latents", false, cache, 4096, V32_SELECT, V32_LENGTH, 0, 1);
    r.drop();
    cache = fp8_cache(r, V32_LENGTH * 128);
    for (int n_tok : {128, 64, 8, 1})
        time_attention(r, "decode over FP8 latents", true, cache, n_tok, V32_SELECT, V32_LENGTH, V32_LENGTH,
                       split_of(r, n_tok));
    r.drop();

    r.part = "index scores in FP8, 64 heads, 128K keys";
    float *score = r.make<float>(2048 * V32_LENGTH);
    time_index(r, "prefill", 2048, V32_LENGTH, 0, score);
    time_index(r, "decode", 1, V32_LENGTH, 0, score);
    time_index(r, "decode, keys of their own", 8, V32_LENGTH, V32_LENGTH, score);
    time_index(r, "decode, keys of their own", 64, V32_LENGTH, V32_LENGTH, score);
    r.drop();

    r.part = "exact top 2048 of 128K scores";
    score = r.random<float>(512 * V32_LENGTH);
    for (int rows : {1, 8, 16, 32, 64, 128, 512})
        time_topk(r, "top-k", rows, V32_LENGTH, V32_LENGTH - 1, 0, score, 0);
    time_topk(r, "top-k", 1, V32_LENGTH, V32_LENGTH - 1, 0, score, 1);
    r.drop();
}

/* A layer's choice and attention, sparse beside dense, by the same attention kernel. */
static void time_ratios(v32_run &r) {
    r.part = "dense beside sparse: decode at 128K, 8 conversations, FP8";
    const int n_tok = 8;
    const void *cache = fp8_cache(r, V32_LENGTH * n_tok);
    double dense = time_attention(r, "dense attention", true, cache, n_tok, V32_LENGTH, V32_LENGTH, V32_LENGTH, 8);
    double sparse = time_attention(r, "sparse attention", true, cache, n_tok, V32_SELECT, V32_LENGTH, V32_LENGTH, 8);
    float *score = r.make<float>(n_tok * V32_LENGTH);
    sparse += time_index(r, "index scores", n_tok, V32_LENGTH, V32_LENGTH, score);
    if (!r.code) fill_noise<<<132 * 8, 256, 0, r.stream()>>>(score, n_tok * V32_LENGTH, 1.0f, 0.0f);
    sparse += time_topk(r, "top-k", n_tok, V32_LENGTH, V32_LENGTH - 1, 0, score, 0);
    if (sparse > 0) r.tell("dense over sparse, decode at 128K", 0, 0, false, 0, dense / sparse);
    r.drop();

    for (int64_t length : {(int64_t)32768, V32_LENGTH}) { /* tokens in the middle of a prefill stand for all of them */
        const int many = 1024, few = 256;
        int64_t middle = length / 2;
        r.part = length == V32_LENGTH ? "dense beside sparse: prefill of 128K, tokens in the middle of it, bf16"
                                      : "dense beside sparse: prefill of 32K, tokens in the middle of it, bf16";
        cache = r.random<__nv_bfloat16>(middle * V32_KEY);
        dense = time_attention(r, "dense attention, absorbed form", false, cache, few, middle, middle, 0, 1) * many / few;
        sparse = time_attention(r, "sparse attention", false, cache, many, V32_SELECT, middle, 0, 1);
        score = r.random<float>(many * middle);
        sparse += time_index(r, "index scores", many, middle, 0, score);
        sparse += time_topk(r, "top-k", many, middle, middle - many, 1, score, 0);
        if (sparse > 0)
            r.tell(length == V32_LENGTH ? "dense over sparse, prefill of 128K" : "dense over sparse, prefill of 32K", 0, 0,
                   false, 0, dense / sparse);
        r.drop();
    }
}

int kern_cuda_time_v32(kern *k, void (*told)(void *user, const kern_timing *t), void *user, ph_error *err) {
    if (!k->on_device || strncmp(k->name, "cuda", 4) != 0)
        return ph_fail(err, PH_UNSUPPORTED, "The V3.2 kernels are CUDA kernels; the backend is %s.", k->name);
    int major = 0;
    cuda_stream(k);
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, cuda_state_of(k)->device);
    if (major != 9)
        return ph_fail(err, PH_UNSUPPORTED,
                       "The V3.2 kernels are for Hopper GPUs (capability 9.0); this one has capability %d.", major);
    v32_run r(k, told, user, err);
    time_peaks(r);
    time_kernels(r);
    time_ratios(r);
    v32_time_layer(r);
    v32_time_products(r);
    return r.code ? r.code : k->status(k, err);
}
