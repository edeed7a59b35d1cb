/* v32_time.cuh - what the timings of the V3.2 kernels share: memory that is freed together, random data, a clock. */
#ifndef PHAROS_V32_TIME_CUH
#define PHAROS_V32_TIME_CUH

#include <algorithm>
#include <cstdio>
#include <vector>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/v32.h"
#include "kernels/kernel_bench.h"

enum { V32_SELECT = 2048 };
static const int64_t V32_LENGTH = 131072;

/* ---- random data, made on the device ---- */

static __device__ uint32_t mix_bits(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return (uint32_t)(x >> 31);
}
/* Roughly normal, variance 1. */
static __device__ float noise_of(uint64_t i) {
    uint32_t a = mix_bits(i * 2 + 1), b = mix_bits(i * 2 + 0x9e3779b97f4a7c15ull);
    return ((float)(a & 0xffff) + (float)(a >> 16) + (float)(b & 0xffff) + (float)(b >> 16) - 131070.0f) / 37837.0f;
}
/* e4m3 of moderate size: exponents 4 to 11. */
static __device__ uint8_t code_of(uint64_t i) {
    uint32_t r = mix_bits(i + 77);
    return (uint8_t)((r & 0x87) | ((4 + (r >> 8 & 7)) << 3));
}
static __device__ void put_noise(float *p, int64_t i, float scale, float base) {
    p[i] = noise_of((uint64_t)i) * scale + base;
}
static __device__ void put_noise(__nv_bfloat16 *p, int64_t i, float scale, float base) {
    p[i] = __float2bfloat16(noise_of((uint64_t)i) * scale + base);
}
static __device__ void put_noise(uint8_t *p, int64_t i, float, float) {
    p[i] = code_of((uint64_t)i);
}
template <class T> static __global__ void fill_noise(T *p, int64_t n, float scale, float base) {
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n; i += (int64_t)gridDim.x * blockDim.x)
        put_noise(p, i, scale, base);
}

/* Reads n times 16 bytes. */
static __global__ void read_all(const uint4 *p, int64_t n, uint32_t *never) {
    uint32_t sum = 0;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n; i += (int64_t)gridDim.x * blockDim.x) {
        uint4 v = p[i];
        sum ^= v.x ^ v.y ^ v.z ^ v.w;
    }
    if (sum == 0x12345678u) *never = sum;
}

/* ---- a run: allocations of one part, the first error, the clock ---- */

class v32_run {
public:
    v32_run(kern *kernels, void (*tell)(void *, const kern_timing *), void *tell_user, ph_error *error)
        : k(kernels), told(tell), user(tell_user), err(error) {
        cudaEventCreate(&start), cudaEventCreate(&stop);
    }
    ~v32_run() {
        drop();
        cudaEventDestroy(start), cudaEventDestroy(stop);
        cudaFree(flush_memory);
    }
    v32_run(const v32_run &) = delete;
    v32_run &operator=(const v32_run &) = delete;

    kern *k;
    int code = PH_OK;    /* after a failure nothing more is launched, and times are 0 */
    const char *part = "";
    double fp8_peak = 0.0;
    kern_peaks peaks = {};

    cudaStream_t stream() const { return cuda_stream(k); }
    ph_error *error() const { return err; }

    /* Uninitialised, until drop. */
    template <class T> T *make(int64_t n) {
        void *p = nullptr;
        if (!code) code = cuda_allocate(k, &p, (size_t)n * sizeof(T), "random data to time kernels on", err);
        if (p) memory.push_back(p);
        return static_cast<T *>(p);
    }
    /* noise * scale + base; codes as they are. */
    template <class T> T *random(int64_t n, float scale = 1.0f, float base = 0.0f) {
        T *p = make<T>(n);
        if (!code) fill_noise<<<132 * 8, 256, 0, stream()>>>(p, n, scale, base);
        return p;
    }
    void drop() {
        cudaStreamSynchronize(stream());
        for (void *p : memory) cudaFree(p);
        memory.clear();
    }
    void must(cudaError_t e, const char *what) {
        if (e != cudaSuccess && !code)
            code = ph_fail(err, PH_FAIL, "timing %s: the GPU says: %s", what, cudaGetErrorString(e));
    }

    /* Seconds of run() -> cudaError_t; `flush`: the L2 is overwritten before each, and read over, so that there is nothing
     * in it that would have to be written back meanwhile. */
    template <class call> double median(const char *what, int repeat, bool flush, call run) {
        if (!flush_memory && !code)
            code = cuda_allocate(k, &flush_memory, FLUSH_BYTES, "memory that empties the L2", err);
        std::vector<float> times;
        for (int i = -2; i < repeat && !code; i++) {
            if (flush) {
                cudaMemsetAsync(flush_memory, i & 255, FLUSH_BYTES, stream());
                read_all<<<132 * 4, 512, 0, stream()>>>(static_cast<const uint4 *>(flush_memory), FLUSH_BYTES / 16,
                                                        static_cast<uint32_t *>(flush_memory));
            }
            cudaEventRecord(start, stream());
            must(run(), what);
            cudaEventRecord(stop, stream());
            must(cudaEventSynchronize(stop), what);
            float ms = 0.0f;
            cudaEventElapsedTime(&ms, start, stop);
            if (i >= 0) times.push_back(ms);
        }
        if (code) return 0.0;
        std::sort(times.begin(), times.end());
        return (double)times[times.size() / 2] / 1e3;
    }
    void tell(const char *what, double seconds, double work, bool bytes, double peak, double ratio = 0.0) const {
        if (code) return;
        kern_timing t = {};
        t.part = part;
        snprintf(t.what, sizeof t.what, "%s", what);
        t.seconds = seconds, t.work = work, t.bytes = bytes, t.peak = peak, t.ratio = ratio;
        told(user, &t);
    }

private:
    static constexpr size_t FLUSH_BYTES = (size_t)256 << 20;
    void (*told)(void *, const kern_timing *);
    void *user;
    ph_error *err;
    std::vector<void *> memory;
    void *flush_memory = nullptr;
    cudaEvent_t start, stop;
};

/* v32_time_layer.cu */
void v32_time_layer(v32_run &r);
/* v32_time_products.cu */
void v32_time_products(v32_run &r);

#endif
