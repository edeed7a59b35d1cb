/* cuda_v32_bench.cu - times of the V3.2 kernels at V3.2's dimensions and 128K positions, on random data.
 *
 *   cuda_v32_bench prefill|decode|index|topk|ratios [out.jsonl]
 *
 * Prints a line for each measurement and appends it as JSON to the file. A time is the median of launches between
 * events, after warming up; data is several times the L2, which is overwritten before a launch where it is not.
 * FLOPs are counted as FlashMLA does: 2 * heads * keys * (576 + 512) a token; index scores 2 * 64 * 128 a pair.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <vector>

#include "kernels/cuda/v32.h"

static const int64_t LENGTH = 131072;
enum { SELECT = 2048 };
static FILE *json;

static void must(cudaError_t error, const char *what) {
    if (error == cudaSuccess) return;
    printf("%s: %s\n", what, cudaGetErrorString(error));
    exit(1);
}
template <class T> static T *make(int64_t n) {
    void *p;
    must(cudaMalloc(&p, (size_t)n * sizeof(T)), "cudaMalloc");
    return static_cast<T *>(p);
}

/* ---- data, made on the device ---- */

static __device__ uint32_t mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return (uint32_t)(x >> 31);
}
/* Roughly normal, variance 1. */
static __device__ float noise(uint64_t i) {
    uint32_t a = mix(i * 2 + 1), b = mix(i * 2 + 0x9e3779b97f4a7c15ull);
    return ((float)(a & 0xffff) + (float)(a >> 16) + (float)(b & 0xffff) + (float)(b >> 16) - 131070.0f) / 37837.0f;
}
static __global__ void fill_bf16(__nv_bfloat16 *p, int64_t n, float scale) {
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n; i += (int64_t)gridDim.x * blockDim.x)
        p[i] = __float2bfloat16(noise((uint64_t)i) * scale);
}
static __global__ void fill_f32(float *p, int64_t n, float scale, float base) {
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n; i += (int64_t)gridDim.x * blockDim.x)
        p[i] = noise((uint64_t)i) * scale + base;
}
/* Codes of moderate size: exponents 4 to 11. */
static __device__ uint8_t code_of(uint64_t i) {
    uint32_t r = mix(i + 77);
    return (uint8_t)((r & 0x87) | ((4 + (r >> 8 & 7)) << 3));
}
static __global__ void fill_codes(uint8_t *p, int64_t n) {
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n; i += (int64_t)gridDim.x * blockDim.x)
        p[i] = code_of((uint64_t)i);
}
static __global__ void fill_fp8_rows(uint8_t *p, int64_t n_row) {
    for (int64_t i = blockIdx.x; i < n_row; i += gridDim.x) {
        uint8_t *row = p + i * V32_FP8_ROW;
        for (int d = threadIdx.x; d < V32_LATENT; d += blockDim.x) row[d] = code_of((uint64_t)(i * V32_LATENT + d));
        if (threadIdx.x < 4) reinterpret_cast<float *>(row + V32_LATENT)[threadIdx.x] = 0.25f;
        for (int d = threadIdx.x; d < V32_ROPE; d += blockDim.x)
            reinterpret_cast<__nv_bfloat16 *>(row + V32_LATENT + 16)[d] =
                __float2bfloat16(noise((uint64_t)(i * 64 + d)));
    }
}
/* Ascending and distinct: one of each `sees / n` rows, from base + token * own. */
static __global__ void fill_positions(int32_t *p, int32_t *count, int n_tok, int64_t n, int64_t sees, int64_t own) {
    int t = blockIdx.x;
    if (threadIdx.x == 0) count[t] = (int32_t)n;
    int64_t each = sees / n;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
        p[t * n + i] = (int32_t)(t * own + i * each + (each > 1 ? mix((uint64_t)(t * n + i)) % each : 0));
}
static const int WIDE = 132 * 8;

/* ---- timing ---- */

static char *flush_memory;
static const size_t FLUSH_BYTES = (size_t)256 << 20;

/* Seconds: the median of `repeat` runs. */
template <class call> static double median_of(int repeat, bool flush, call run) {
    cudaEvent_t start, stop;
    cudaEventCreate(&start), cudaEventCreate(&stop);
    std::vector<float> times;
    for (int i = -2; i < repeat; i++) {
        if (flush) cudaMemsetAsync(flush_memory, i, FLUSH_BYTES, 0);
        cudaEventRecord(start, 0);
        must(run(), "launch");
        cudaEventRecord(stop, 0);
        must(cudaEventSynchronize(stop), "run");
        float ms = 0.0f;
        cudaEventElapsedTime(&ms, start, stop);
        if (i >= 0) times.push_back(ms);
    }
    cudaEventDestroy(start), cudaEventDestroy(stop);
    std::sort(times.begin(), times.end());
    return (double)times[times.size() / 2] / 1e3;
}
static void tell(const char *what, double seconds, double amount, const char *unit) {
    double rate = amount / seconds / 1e12;
    if (amount > 0.0) printf("%-58s %10.1f us %8.2f %s\n", what, seconds * 1e6, rate, unit);
    else printf("%-58s %10.1f us\n", what, seconds * 1e6);
    fflush(stdout);
    if (!json) return;
    fprintf(json, "{\"what\": \"%s\", \"us\": %.2f, \"rate\": %.3f, \"unit\": \"%s\"}\n", what, seconds * 1e6, rate,
            amount > 0.0 ? unit : "");
    fflush(json);
}

/* ---- what is measured ---- */

struct attention {
    v32_mla a;
    int32_t *position, *count;
};
/* Tokens over lists of n of `sees` rows; the cache has `own` rows for each token, or is one of `sees` rows (own 0). */
static attention make_attention(bool fp8, void *cache, int n_tok, int64_t n, int64_t sees, int64_t own, int n_split) {
    attention m = {};
    m.position = make<int32_t>(n_tok * n);
    m.count = make<int32_t>(n_tok);
    fill_positions<<<n_tok, 256>>>(m.position, m.count, n_tok, n, sees, own);
    __nv_bfloat16 *q = make<__nv_bfloat16>((int64_t)n_tok * 128 * V32_KEY);
    fill_bf16<<<WIDE, 256>>>(q, (int64_t)n_tok * 128 * V32_KEY, 0.5f);
    m.a.fp8 = fp8, m.a.cache = cache, m.a.q = q, m.a.position = m.position, m.a.count = m.count;
    m.a.position_stride = n, m.a.n_tok = n_tok, m.a.n_head = 128, m.a.scale = 0.1352337789f;
    m.a.out = make<__nv_bfloat16>((int64_t)n_tok * 128 * V32_LATENT);
    m.a.n_split = n_split;
    if (n_split > 1) {
        m.a.part_out = make<float>((int64_t)n_split * n_tok * 128 * V32_LATENT);
        m.a.part_lse = make<float>((int64_t)n_split * n_tok * 128);
    }
    must(cudaDeviceSynchronize(), "making data");
    return m;
}
static void drop(attention &m) {
    cudaFree(m.position), cudaFree(m.count), cudaFree(const_cast<__nv_bfloat16 *>(m.a.q)), cudaFree(m.a.out);
    cudaFree(m.a.part_out), cudaFree(m.a.part_lse);
}
static double flops(const v32_mla &a, int64_t n) {
    return 2.0 * (double)a.n_tok * a.n_head * (double)n * (V32_KEY + V32_LATENT);
}
static double time_attention(const char *name, const attention &m, int64_t n, v32_variant variant) {
    char what[128];
    double t = median_of(7, m.a.n_tok < 128, [&] { return v32_mla_launch(&m.a, variant, 0); });
    snprintf(what, sizeof what, "%s, %d tok, split %d, %s", name, m.a.n_tok, m.a.n_split,
             variant == V32_WGMMA ? "wgmma" : "mma.sync");
    tell(what, t, flops(m.a, n), "TFLOP/s");
    return t;
}
static __nv_bfloat16 *make_bf16_cache() {
    __nv_bfloat16 *cache = make<__nv_bfloat16>(LENGTH * V32_KEY);
    fill_bf16<<<WIDE, 256>>>(cache, LENGTH * V32_KEY, 1.0f);
    return cache;
}
static uint8_t *make_fp8_cache(int64_t n_row) {
    uint8_t *cache = make<uint8_t>(n_row * V32_FP8_ROW);
    fill_fp8_rows<<<WIDE, 128>>>(cache, n_row);
    return cache;
}

static void bench_prefill() {
    __nv_bfloat16 *cache = make_bf16_cache();
    attention m = make_attention(false, cache, 4096, SELECT, LENGTH, 0, 1);
    time_attention("sparse prefill bf16, 2048 of 128K", m, SELECT, V32_WGMMA);
    time_attention("sparse prefill bf16, 2048 of 128K", m, SELECT, V32_MMA_SYNC);
    drop(m);
    m = make_attention(false, cache, 4096, SELECT, 8192, 0, 1);
    time_attention("sparse prefill bf16, 2048 of 8K", m, SELECT, V32_WGMMA);
    drop(m);
}

static void bench_decode() {
    uint8_t *cache = make_fp8_cache(LENGTH * 128);
    for (int n_tok : {128, 64, 32, 8, 1}) {
        int split = 132 / (n_tok * 2);
        split = split < 1 ? 1 : split > 32 ? 32 : split;
        attention m = make_attention(true, cache, n_tok, SELECT, LENGTH, LENGTH, split);
        time_attention("sparse decode FP8, 2048 of 128K", m, SELECT, V32_WGMMA);
        if (n_tok == 128 || n_tok == 1) time_attention("sparse decode FP8, 2048 of 128K", m, SELECT, V32_MMA_SYNC);
        drop(m);
    }
}

static v32_index make_index(int n_tok, int64_t n_key, float *score) {
    uint8_t *q = make<uint8_t>((int64_t)n_tok * 64 * 128), *k = make<uint8_t>(n_key * 128);
    float *w = make<float>((int64_t)n_tok * 64), *scale = make<float>(n_key);
    fill_codes<<<WIDE, 256>>>(q, (int64_t)n_tok * 64 * 128);
    fill_codes<<<WIDE, 256>>>(k, n_key * 128);
    fill_f32<<<WIDE, 256>>>(w, (int64_t)n_tok * 64, 0.01f, 0.0f);
    fill_f32<<<WIDE, 256>>>(scale, n_key, 0.001f, 0.01f);
    must(cudaDeviceSynchronize(), "making data");
    return {q, w, k, scale, n_key, n_key - n_tok, n_tok, score, n_key, 0};
}
static void drop(v32_index &a) {
    cudaFree(const_cast<uint8_t *>(a.q)), cudaFree(const_cast<uint8_t *>(a.k));
    cudaFree(const_cast<float *>(a.w)), cudaFree(const_cast<float *>(a.k_scale));
}
static double index_flops(const v32_index &a) {
    double pairs = (double)a.n_tok * (double)a.pos0 + (double)a.n_tok * (a.n_tok + 1) / 2.0;
    return pairs * 2.0 * 64 * 128;
}
static void bench_index() {
    float *score = make<float>(2048 * LENGTH);
    char what[128];
    v32_index a = make_index(2048, LENGTH, score);
    for (int each : {0, 128, 256, 512, 1024}) {
        a.tokens_each = each;
        double t = median_of(5, false, [&] { return v32_index_launch(&a, V32_WGMMA, 0); });
        snprintf(what, sizeof what, "index scores, 2048 tok at 128K, %d each, wgmma", each);
        tell(what, t, index_flops(a), "TFLOP/s");
    }
    a.tokens_each = 0;
    double t = median_of(3, false, [&] { return v32_index_launch(&a, V32_MMA_SYNC, 0); });
    tell("index scores, 2048 tok at 128K, mma.sync", t, index_flops(a), "TFLOP/s");
    drop(a);
    for (int n_tok : {1, 2}) {
        a = make_index(n_tok, LENGTH, score);
        for (v32_variant variant : {V32_WGMMA, V32_MMA_SYNC}) {
            t = median_of(9, true, [&] { return v32_index_launch(&a, variant, 0); });
            snprintf(what, sizeof what, "index scores, %d tok at 128K, %s", n_tok, variant ? "mma.sync" : "wgmma");
            tell(what, t, (double)LENGTH * 132.0, "TB/s");
        }
        drop(a);
    }
}

static void bench_topk() {
    float *score = make<float>(512 * LENGTH);
    int32_t *position = make<int32_t>(512 * SELECT), *count = make<int32_t>(512);
    fill_f32<<<WIDE, 256>>>(score, 512 * LENGTH, 1.0f, 0.0f);
    char what[128];
    for (int rows : {1, 16, 64, 128, 512})
        for (int threads : {512, 1024}) {
            v32_topk a = {score, LENGTH, LENGTH - 1, LENGTH, 0, rows, SELECT, position, count, threads};
            double t = median_of(9, rows < 512, [&] { return v32_topk_launch(&a, 0); });
            snprintf(what, sizeof what, "top 2048 of 128K, %d rows, %d threads", rows, threads);
            tell(what, t, (double)rows * LENGTH * 4.0, "TB/s");
        }
}

/* A layer's choice and attention, sparse and dense, with the same attention kernel. */
static void bench_ratios() {
    float *score = make<float>(1024 * LENGTH);
    int32_t *position = make<int32_t>(1024 * SELECT), *count = make<int32_t>(1024);
    uint8_t *fp8 = make_fp8_cache(LENGTH * 8);
    attention dense = make_attention(true, fp8, 8, LENGTH, LENGTH, LENGTH, 8);
    attention sparse = make_attention(true, fp8, 8, SELECT, LENGTH, LENGTH, 8);
    double t_dense = time_attention("decode at 128K, dense, FP8", dense, LENGTH, V32_WGMMA);
    double t_sparse = time_attention("decode at 128K, sparse attention, FP8", sparse, SELECT, V32_WGMMA);
    v32_index index = make_index(1, LENGTH, score);
    double t_index = 8.0 * median_of(9, true, [&] { return v32_index_launch(&index, V32_WGMMA, 0); });
    tell("decode at 128K, index scores, 8 times one", t_index, 8.0 * LENGTH * 132.0, "TB/s");
    v32_topk topk = {score, LENGTH, LENGTH - 1, LENGTH, 0, 8, SELECT, position, count, 0};
    fill_f32<<<WIDE, 256>>>(score, 8 * LENGTH, 1.0f, 0.0f);
    double t_topk = median_of(9, true, [&] { return v32_topk_launch(&topk, 0); });
    tell("decode at 128K, top 2048, 8 rows", t_topk, 8.0 * LENGTH * 4.0, "TB/s");
    printf("dense over sparse, decode at 128K: %.2f\n", t_dense / (t_sparse + t_index + t_topk));
    drop(dense), drop(sparse), drop(index);

    __nv_bfloat16 *bf16 = make_bf16_cache();
    for (int64_t length : {(int64_t)32768, LENGTH}) { /* tokens in the middle of a prefill stand for all of them */
        char what[128];
        int n_tok = 1024;
        int64_t middle = length / 2;
        dense = make_attention(false, bf16, 256, middle, middle, 0, 1);
        sparse = make_attention(false, bf16, n_tok, SELECT, middle, 0, 1);
        t_dense = time_attention("prefill, dense in the absorbed form", dense, middle, V32_WGMMA) * n_tok / 256.0;
        t_sparse = time_attention("prefill, sparse attention", sparse, SELECT, V32_WGMMA);
        index = make_index(n_tok, middle, score);
        t_index = median_of(5, false, [&] { return v32_index_launch(&index, V32_WGMMA, 0); });
        snprintf(what, sizeof what, "prefill, index scores of %d tok at %lld", n_tok, (long long)middle);
        tell(what, t_index, index_flops(index), "TFLOP/s");
        v32_topk rows = {score, middle, middle - n_tok, middle, 1, n_tok, SELECT, position, count, 0};
        t_topk = median_of(5, false, [&] { return v32_topk_launch(&rows, 0); });
        tell("prefill, top 2048 of these", t_topk, (double)n_tok * (double)middle * 4.0, "TB/s");
        printf("dense (absorbed) over sparse, prefill of %lld: %.2f\n", (long long)length,
               t_dense / (t_sparse + t_index + t_topk));
        drop(dense), drop(sparse), drop(index);
    }
}

int main(int argc, char **argv) {
    int n_device = 0;
    if (cudaGetDeviceCount(&n_device) != cudaSuccess || n_device < 1) {
        printf("no GPU\n");
        return 77;
    }
    if (argc > 2 && !(json = fopen(argv[2], "a"))) {
        perror(argv[2]);
        return 1;
    }
    flush_memory = make<char>((int64_t)FLUSH_BYTES);
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "prefill")) bench_prefill();
    else if (!strcmp(what, "decode")) bench_decode();
    else if (!strcmp(what, "index")) bench_index();
    else if (!strcmp(what, "topk")) bench_topk();
    else if (!strcmp(what, "ratios")) bench_ratios();
    else {
        printf("usage: %s prefill|decode|index|topk|ratios [out.jsonl]\n", argv[0]);
        return 2;
    }
    must(cudaDeviceSynchronize(), what);
    return json && fclose(json) ? 1 : 0;
}
