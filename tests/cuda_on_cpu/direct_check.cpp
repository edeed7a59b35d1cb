/* direct_check.cpp - kernels/cuda/direct.cu without a GPU: sums of all sizes by turns, each rank a thread that runs ahead as
 * far as it may, against the tree.
 *
 *     direct_check RANKS ROUNDS
 */
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stdint.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#undef __global__
#undef __device__
#undef __shared__
#undef __forceinline__
#undef __launch_bounds__
#define __global__
#define __device__
#define __shared__ static thread_local
#define __forceinline__ inline
#define __launch_bounds__(...)

/* A block's threads, each with a stack of its own; who waits for the block lets the others go on. */
enum { MOST_THREADS = 256, STACK = 32 << 10 };
static thread_local struct block_of_threads {
    ucontext_t caller, thread[MOST_THREADS];
    bool done[MOST_THREADS];
    std::vector<char> stacks;
    const std::function<void()> *body;
} at;
static thread_local uint3 threadIdx, blockIdx;

static void enter() {
    (*at.body)();
    at.done[threadIdx.x] = true;
}
static void __syncthreads() {
    unsigned me = threadIdx.x;
    swapcontext(&at.thread[me], &at.caller);
    threadIdx.x = me;
}
static void run_grid(int grid, int threads, const std::function<void()> &body) {
    at.stacks.resize((size_t)threads * STACK);
    at.body = &body;
    for (int b = 0; b < grid; b++) {
        blockIdx.x = (unsigned)b;
        for (int t = 0; t < threads; t++) {
            getcontext(&at.thread[t]);
            at.thread[t].uc_stack.ss_sp = &at.stacks[(size_t)t * STACK];
            at.thread[t].uc_stack.ss_size = STACK;
            at.thread[t].uc_link = &at.caller;
            at.done[t] = false;
            makecontext(&at.thread[t], enter, 0);
        }
        for (bool more = true; more;) {
            more = false;
            for (int t = 0; t < threads; t++) {
                if (at.done[t]) continue;
                threadIdx.x = (unsigned)t;
                swapcontext(&at.caller, &at.thread[t]);
                more |= !at.done[t];
            }
        }
    }
}

static void __threadfence_system() {
    __sync_synchronize();
}
static float __fadd_rn(float a, float b) {
    volatile float sum = a + b;
    return sum;
}
static float __uint_as_float(uint32_t bits) {
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}
template <class T> static T __ldcg(const T *p) {
    return *p;
}

#include "kernels/cuda/direct.cu"

/* What direct.cu needs of the backend and the device. */
cudaStream_t cuda_stream(const kern *k) {
    return nullptr;
}
void cuda_launched(const kern *k, const char *what) {
}
extern "C" {
cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer) {
    *can = device != peer;
    return cudaSuccess;
}
cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags) {
    return cudaErrorPeerAccessAlreadyEnabled;
}
cudaError_t cudaGetLastError() {
    return cudaSuccess;
}
cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags) {
    *p = calloc(1, bytes);
    return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFreeHost(void *p) {
    free(p);
    return cudaSuccess;
}
}
static int host_alloc(kern *k, void **out, size_t bytes, ph_error *err) {
    *out = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (*out) memset(*out, 0, bytes);
    return *out ? PH_OK : PH_MEMORY;
}
static void host_free(kern *k, void *p) {
    free(p);
}
static void host_wait(kern *k) {
}

static float number(int rank, int round, int64_t i) {
    uint64_t z = (uint64_t)rank * 1000003 + (uint64_t)round * 7919 + (uint64_t)i * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    return (float)(int32_t)(z >> 32) * 0x1p-20f;
}

static int sum_in_rounds(cuda_direct *d, int rank, int ranks, int rounds) {
    const int64_t sizes[] = {1, 3, 7168, 255, KERN_GROUP_SMALL, 4, KERN_GROUP_SMALL + 4, 28672, 100004, 16, 2048};
    std::vector<float> part(100004), y(100004), also(2045);
    int wrong = 0;
    for (int round = 0; round < rounds; round++) {
        int64_t n = sizes[(round * 7 + round / 11) % 11], m = n % 4 == 0 && n <= 28672 && round % 3 ? 2045 : 0;
        for (int64_t i = 0; i < n + m; i++) part[(size_t)i] = number(rank, round, i);
        for (int64_t i = 0; i < n; i++) y[(size_t)i] = number(99, round, i); /* the same on all ranks */
        cuda_direct_sum(d, rank, part.data(), y.data(), n, also.data(), m);
        for (int64_t i = 0; i < n + m; i++) {
            float x[KERN_MAX_RANKS];
            for (int r = 0; r < ranks; r++) x[r] = number(r, round, i);
            for (int apart = 1; apart < ranks; apart *= 2)
                for (int r = 0; r + apart < ranks; r += 2 * apart) x[r] = __fadd_rn(x[r], x[r + apart]);
            if (i < n) wrong += y[(size_t)i] != __fadd_rn(number(99, round, i), x[0]);
            else wrong += also[(size_t)(i - n)] != x[0];
        }
    }
    return wrong;
}

int main(int argc, char **argv) {
    int ranks = argc > 2 ? atoi(argv[1]) : 0, rounds = argc > 2 ? atoi(argv[2]) : 0;
    if (ranks < 2 || ranks > KERN_MAX_RANKS || rounds < 1) return 2;
    static kern backends[KERN_MAX_RANKS];
    static cuda_state states[KERN_MAX_RANKS];
    kern *k[KERN_MAX_RANKS];
    int wrong[KERN_MAX_RANKS] = {};
    for (int r = 0; r < ranks; r++) {
        states[r].device = r;
        backends[r].state = &states[r];
        backends[r].alloc = host_alloc;
        backends[r].free = host_free;
        backends[r].wait = host_wait;
        k[r] = &backends[r];
    }
    cuda_direct *d = cuda_direct_open(k, ranks);
    if (!d) return 1;
    std::vector<std::thread> threads;
    for (int r = 0; r < ranks; r++) threads.emplace_back([&, r] { wrong[r] = sum_in_rounds(d, r, ranks, rounds); });
    for (std::thread &t : threads) t.join();
    int all = cuda_direct_failed(d);
    for (int r = 0; r < ranks; r++) all += wrong[r];
    if (all) printf("%d numbers are not the tree's\n", all);
    cuda_direct_close(d);
    return all != 0;
}
