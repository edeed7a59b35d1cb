/* direct.cu - sums of few numbers over the GPUs of one process, in one kernel: each GPU writes its part into the others'
 * memory and says so, waits until it has been told by all, and adds. NCCL's gather and a sum behind it are two kernels and
 * a protocol made for many bytes; a decoding step has two such sums a layer.
 *
 * The sum is kern_sum's tree. A part is written into one of two places by turns: a rank is told of the sum after next only
 * when its own kernel for the next one has begun, and that is after it has read this one's.
 */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/direct.h"

#include "kernels/group.h"

#include <cstdlib>

enum { BLOCKS = 16, THREADS = 256 };
/* Then another rank is taken for lost; and when to look whether that has happened elsewhere. */
static const unsigned long long WAIT_NS = 20000000000ull, LOOK_NS = 1000000ull;

struct direct_place {
    float *part[2];  /* [ranks][KERN_GROUP_SMALL] each: what rank r has written */
    uint32_t *told;  /* [ranks][BLOCKS]: the turn of which rank r has written its part */
    uint32_t *turn;  /* [BLOCKS] so far; this rank's own */
};

struct direct_view {
    direct_place of[KERN_MAX_RANKS];
    uint32_t *failed;
    int rank, size;
};

struct cuda_direct {
    int n;
    kern *k[KERN_MAX_RANKS];
    direct_view view;  /* but for `rank` */
    uint32_t *failed;  /* host memory that every GPU writes */
};

static __device__ __forceinline__ void tell(uint32_t *p, uint32_t v) {
    asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
static __device__ __forceinline__ uint32_t hear(const uint32_t *p) {
    uint32_t v;
    asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}
static __device__ __forceinline__ unsigned long long now() {
    unsigned long long t;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
    return t;
}

/* Four numbers of a part, or what there is of them. */
static __device__ __forceinline__ float4 four(const float *p, int64_t left) {
    if (left >= 4) return __ldcg(reinterpret_cast<const float4 *>(p));
    return make_float4(__ldcg(p), left > 1 ? __ldcg(p + 1) : 0.0f, left > 2 ? __ldcg(p + 2) : 0.0f, 0.0f);
}

/* Every block has a slice of the numbers, and tells and waits for it by itself. */
template <int MOST>
static __global__ void __launch_bounds__(THREADS) sum_parts(direct_view v, const float *part, float *y, int64_t n, float *also,
                                                            int64_t m) {
    const direct_place &own = v.of[v.rank];
    int64_t total = n + m, each = ((total + BLOCKS - 1) / BLOCKS + 3) / 4 * 4;
    int64_t from = blockIdx.x * each, end = from + each < total ? from + each : total;
    uint32_t turn = own.turn[blockIdx.x] + 1;
    int half = turn & 1;
    for (int64_t i = from + threadIdx.x * 4; i < end; i += THREADS * 4) {
        float4 x = four(part + i, end - i);
        for (int r = 0; r < v.size; r++)
            if (r != v.rank) /* there is room for whole fours */
                *reinterpret_cast<float4 *>(v.of[r].part[half] + (int64_t)v.rank * KERN_GROUP_SMALL + i) = x;
    }
    __threadfence_system();
    __syncthreads();
    if (threadIdx.x < v.size && threadIdx.x != v.rank) {
        tell(v.of[threadIdx.x].told + v.rank * BLOCKS + blockIdx.x, turn);
        const uint32_t *told = own.told + threadIdx.x * BLOCKS + blockIdx.x;
        unsigned long long since = now();
        while ((int32_t)(hear(told) - turn) < 0) {
            unsigned long long waited = now() - since;
            if (waited < LOOK_NS || (waited < WAIT_NS && !hear(v.failed))) continue;
            tell(v.failed, 1);
            break;
        }
    }
    __syncthreads();
    for (int64_t i = from + threadIdx.x * 4; i < end; i += THREADS * 4) {
        float4 x[MOST];
#pragma unroll
        for (int r = 0; r < MOST; r++)
            if (r < v.size)
                x[r] = four(r == v.rank ? part + i : own.part[half] + (int64_t)r * KERN_GROUP_SMALL + i, end - i);
#pragma unroll
        for (int apart = 1; apart < MOST; apart *= 2)
#pragma unroll
            for (int r = 0; r + apart < MOST; r += 2 * apart)
                if (r + apart < v.size) {
                    x[r].x = __fadd_rn(x[r].x, x[r + apart].x), x[r].y = __fadd_rn(x[r].y, x[r + apart].y);
                    x[r].z = __fadd_rn(x[r].z, x[r + apart].z), x[r].w = __fadd_rn(x[r].w, x[r + apart].w);
                }
        const float sum[4] = {x[0].x, x[0].y, x[0].z, x[0].w};
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (i + j < n) y[i + j] = __fadd_rn(y[i + j], sum[j]);
            else if (i + j < end) also[i + j - n] = sum[j];
        }
    }
    if (threadIdx.x == 0) own.turn[blockIdx.x] = turn; /* all threads have read it */
}

void cuda_direct_sum(cuda_direct *d, int rank, const float *part, float *y, int64_t n, float *also, int64_t m) {
    direct_view v = d->view;
    v.rank = rank;
    cudaStream_t stream = cuda_stream(d->k[rank]);
    if (v.size <= 2) sum_parts<2><<<BLOCKS, THREADS, 0, stream>>>(v, part, y, n, also, m);
    else if (v.size <= 8) sum_parts<8><<<BLOCKS, THREADS, 0, stream>>>(v, part, y, n, also, m);
    else sum_parts<16><<<BLOCKS, THREADS, 0, stream>>>(v, part, y, n, also, m);
    cuda_launched(d->k[rank], "a sum over ranks");
}

bool cuda_direct_failed(const cuda_direct *d) {
    return *static_cast<volatile const uint32_t *>(d->failed) != 0;
}

/* Each GPU is let into the others' memory. */
static bool reach_each_other(kern *const *k, int n) {
    for (int r = 0; r < n; r++)
        for (int other = 0; other < n; other++) {
            int can = 0, device = cuda_state_of(k[other])->device;
            if (r == other) continue;
            cuda_stream(k[r]); /* makes the device the thread's */
            if (cudaDeviceCanAccessPeer(&can, cuda_state_of(k[r])->device, device) != cudaSuccess || !can) return false;
            cudaError_t e = cudaDeviceEnablePeerAccess(device, 0);
            cudaGetLastError();
            if (e != cudaSuccess && e != cudaErrorPeerAccessAlreadyEnabled) return false;
        }
    return true;
}

cuda_direct *cuda_direct_open(kern *const *k, int n) {
    if (!reach_each_other(k, n)) return nullptr;
    cuda_direct *d = static_cast<cuda_direct *>(calloc(1, sizeof *d));
    if (!d) return nullptr;
    d->n = n;
    bool made = cudaHostAlloc(reinterpret_cast<void **>(&d->failed), sizeof *d->failed,
                              cudaHostAllocPortable | cudaHostAllocMapped) == cudaSuccess;
    if (made) *d->failed = 0;
    d->view.failed = d->failed; /* one address space */
    d->view.size = n;
    for (int r = 0; r < n; r++) d->k[r] = k[r];
    const size_t parts = (size_t)n * KERN_GROUP_SMALL * sizeof(float), told = (size_t)n * BLOCKS * sizeof(uint32_t);
    for (int r = 0; r < n && made; r++) {
        void *p = nullptr;
        made = k[r]->alloc(k[r], &p, 2 * parts + told + BLOCKS * sizeof(uint32_t), nullptr) == PH_OK; /* zeros */
        if (!made) break;
        char *at = static_cast<char *>(p);
        d->view.of[r] = {{reinterpret_cast<float *>(at), reinterpret_cast<float *>(at + parts)},
                         reinterpret_cast<uint32_t *>(at + 2 * parts),
                         reinterpret_cast<uint32_t *>(at + 2 * parts + told)};
        k[r]->wait(k[r]);
    }
    cudaGetLastError();
    if (made) return d;
    cuda_direct_close(d);
    return nullptr;
}

void cuda_direct_close(cuda_direct *d) {
    if (!d) return;
    for (int r = 0; r < d->n; r++)
        if (d->k[r]) d->k[r]->wait(d->k[r]); /* of all, before any rank's memory goes */
    for (int r = 0; r < d->n; r++)
        if (d->k[r]) d->k[r]->free(d->k[r], d->view.of[r].part[0]);
    if (d->failed) cudaFreeHost(d->failed);
    free(d);
}
