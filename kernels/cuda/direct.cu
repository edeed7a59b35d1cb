/* direct.cu - sums over the GPUs of one process, in one kernel each.
 *
 * Few numbers: each GPU writes its part into the others' memory, every number with the turn's number beside
 * it, which 8 bytes hold, so that who waits for the one has the other: no flag behind the data, no order to
 * wait for. Then it adds. A decoding step has two such sums a layer. Many numbers: each GPU says where its
 * arrays are, reads a slice of the others' parts, adds it to its own y's slice, and writes that into
 * everybody's y, which are all the same; then they tell each other that they have done so.
 *
 * The sum is kern_sum's tree. What is told is written into one of two places by turns: a rank is told of the
 * sum after next only when its own kernel for the next one has begun, and that is after it has read this
 * one's. A block tells and waits for the same block of the others by itself; blocks begin in order, so that
 * the first one that waits is waited for.
 */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/direct.cuh"
#include "kernels/cuda/direct.h"

#include "kernels/group.h"

#include <cstdlib>

enum { BLOCKS = 32, MANY_BLOCKS = 264, THREADS = 256, AT_ONCE = 4 /* fours that a thread has under way */ };
/* Then another rank is taken for lost; and when to look whether that has happened elsewhere. */
static const unsigned long long WAIT_NS = 20000000000ull, LOOK_NS = 1000000ull;

struct direct_place {
    uint4 *part[2]; /* [ranks][KERN_GROUP_SMALL / 2] each: what rank r has written, (number, turn) twice */
    uint32_t *turn; /* [BLOCKS] so far; this rank's own */
    /* of many numbers */
    uint32_t *ready, *done; /* [ranks][MANY_BLOCKS]: the turn of which rank r's part may be read; of which it
                               has written y */
    uint32_t *many_turn;    /* [MANY_BLOCKS] */
    uint64_t *where;        /* [2][ranks][MANY_BLOCKS][2]: rank r's part and y, by turns */
};

struct direct_view {
    direct_place of[KERN_MAX_RANKS];
    uint32_t *failed;
    int rank, size;
};

struct cuda_direct {
    int n;
    kern *k[KERN_MAX_RANKS];
    direct_view view; /* but for `rank` */
    uint32_t *failed; /* host memory that every GPU writes */
};

/* Until *told has come to this turn; false after so long that it never will. */
static __device__ __forceinline__ bool wait_for(const uint32_t *told, uint32_t turn, uint32_t *failed) {
    unsigned long long since = now();
    while ((int32_t)(hear(told) - turn) < 0) {
        unsigned long long waited = now() - since;
        if (waited < LOOK_NS || (waited < WAIT_NS && !hear(failed))) continue;
        tell(failed, 1);
        return false;
    }
    return true;
}

/* x[0] = the tree over `size` parts. */
template <int MOST> static __device__ __forceinline__ void add_up(float4 (&x)[MOST], int size) {
#pragma unroll
    for (int apart = 1; apart < MOST; apart *= 2)
#pragma unroll
        for (int r = 0; r + apart < MOST; r += 2 * apart)
            if (r + apart < size) {
                x[r].x = __fadd_rn(x[r].x, x[r + apart].x), x[r].y = __fadd_rn(x[r].y, x[r + apart].y);
                x[r].z = __fadd_rn(x[r].z, x[r + apart].z), x[r].w = __fadd_rn(x[r].w, x[r + apart].w);
            }
}

/* False after so long that they will never come. */
static __device__ __forceinline__ bool take_two(const uint4 *from, uint32_t turn, float2 *out,
                                                uint32_t *failed) {
    unsigned long long since = 0;
    for (;;) {
        uint2 low = look(reinterpret_cast<const uint2 *>(from)),
              high = look(reinterpret_cast<const uint2 *>(from) + 1);
        *out = make_float2(__uint_as_float(low.x), __uint_as_float(high.x));
        if (low.y == turn && high.y == turn) return true;
        unsigned long long t = now();
        if (!since) since = t;
        if (t - since < LOOK_NS || (t - since < WAIT_NS && !hear(failed))) continue;
        tell(failed, 1);
        return false;
    }
}

/* Every block has a slice of the numbers; a thread has two at a time. */
template <int MOST>
static __global__ void __launch_bounds__(THREADS)
    sum_parts(direct_view v, const float *part, float *y, int64_t n, float *also, int64_t m) {
    const direct_place &own = v.of[v.rank];
    int64_t total = n + m, each = ((total + BLOCKS - 1) / BLOCKS + 1) / 2 * 2;
    int64_t from = blockIdx.x * each, end = from + each < total ? from + each : total;
    uint32_t turn = own.turn[blockIdx.x] + 1;
    int half = turn & 1;
    bool well = true;
    for (int64_t i = from + threadIdx.x * 2; i < end; i += THREADS * 2) {
        float low = __ldcg(part + i), high = i + 1 < end ? __ldcg(part + i + 1) : 0.0f;
#pragma unroll
        for (int r = 0; r < MOST; r++)
            if (r < v.size && r != v.rank)
                send_two(v.of[r].part[half] + (v.rank * (int64_t)KERN_GROUP_SMALL + i) / 2, low, high, turn);
    }
    for (int64_t i = from + threadIdx.x * 2; i < end && well; i += THREADS * 2) {
        float2 x[MOST];
#pragma unroll
        for (int r = 0; r < MOST; r++) {
            if (r >= v.size) continue;
            if (r == v.rank)
                x[r] = make_float2(__ldcg(part + i), i + 1 < end ? __ldcg(part + i + 1) : 0.0f);
            else
                well = take_two(own.part[half] + (r * (int64_t)KERN_GROUP_SMALL + i) / 2, turn, &x[r],
                                v.failed) &&
                       well;
        }
#pragma unroll
        for (int apart = 1; apart < MOST; apart *= 2)
#pragma unroll
            for (int r = 0; r + apart < MOST; r += 2 * apart)
                if (r + apart < v.size)
                    x[r] = make_float2(__fadd_rn(x[r].x, x[r + apart].x), __fadd_rn(x[r].y, x[r + apart].y));
        const float sum[2] = {x[0].x, x[0].y};
#pragma unroll
        for (int j = 0; j < 2; j++) {
            if (i + j < n)
                y[i + j] = __fadd_rn(y[i + j], sum[j]);
            else if (i + j < end)
                also[i + j - n] = sum[j];
        }
    }
    __syncthreads(); /* all threads have read the turn */
    if (threadIdx.x == 0) own.turn[blockIdx.x] = turn;
}

/* Every block has a slice of the rank's slice; n is a multiple of 4. */
template <int MOST>
static __global__ void __launch_bounds__(THREADS)
    sum_many_parts(direct_view v, const float *part, float *y, int64_t n) {
    constexpr int FOURS = MOST > 2 ? 1 : AT_ONCE;
    __shared__ uint64_t where[MOST][2];
    __shared__ bool lost; /* then who knows what is where */
    const direct_place &own = v.of[v.rank];
    uint32_t turn = own.many_turn[blockIdx.x] + 1;
    int half = turn & 1, other = threadIdx.x;
    if (threadIdx.x == 0) lost = false;
    __syncthreads();
    if (other == v.rank) {
        where[other][0] = reinterpret_cast<uint64_t>(part);
        where[other][1] = reinterpret_cast<uint64_t>(y);
    } else if (other < v.size) {
        uint64_t *there =
            v.of[other].where + ((int64_t)(half * v.size + v.rank) * MANY_BLOCKS + blockIdx.x) * 2;
        there[0] = reinterpret_cast<uint64_t>(part);
        there[1] = reinterpret_cast<uint64_t>(y);
        tell(v.of[other].ready + v.rank * MANY_BLOCKS + blockIdx.x, turn);
        if (!wait_for(own.ready + other * MANY_BLOCKS + blockIdx.x, turn, v.failed)) lost = true;
        const uint64_t *here = own.where + ((int64_t)(half * v.size + other) * MANY_BLOCKS + blockIdx.x) * 2;
        where[other][0] = __ldcg(here);
        where[other][1] = __ldcg(here + 1);
    }
    __syncthreads();
    int64_t slice = ((n / 4 + v.size - 1) / v.size) * 4, first = v.rank * slice,
            last = first + slice < n ? first + slice : n;
    int64_t each = ((last - first) / 4 + MANY_BLOCKS - 1) / MANY_BLOCKS * 4, from = first + blockIdx.x * each;
    int64_t end = from + each < last ? from + each : last;
    for (int64_t at = from; at < end && !lost; at += THREADS * 4 * FOURS) {
        float4 x[FOURS][MOST], before[FOURS];
#pragma unroll
        for (int j = 0; j < FOURS; j++) {
            int64_t i = at + (j * THREADS + (int64_t)threadIdx.x) * 4;
            if (i >= end) continue;
            before[j] = *reinterpret_cast<const float4 *>(y + i);
#pragma unroll
            for (int r = 0; r < MOST; r++)
                if (r < v.size)
                    x[j][r] = __ldcg(
                        reinterpret_cast<const float4 *>(reinterpret_cast<const float *>(where[r][0]) + i));
        }
#pragma unroll
        for (int j = 0; j < FOURS; j++) {
            int64_t i = at + (j * THREADS + (int64_t)threadIdx.x) * 4;
            if (i >= end) continue;
            add_up<MOST>(x[j], v.size);
            float4 sum = make_float4(__fadd_rn(before[j].x, x[j][0].x), __fadd_rn(before[j].y, x[j][0].y),
                                     __fadd_rn(before[j].z, x[j][0].z), __fadd_rn(before[j].w, x[j][0].w));
#pragma unroll
            for (int r = 0; r < MOST; r++)
                if (r < v.size) *reinterpret_cast<float4 *>(reinterpret_cast<float *>(where[r][1]) + i) = sum;
        }
    }
    __threadfence_system();
    __syncthreads();
    if (other < v.size && other != v.rank) {
        tell(v.of[other].done + v.rank * MANY_BLOCKS + blockIdx.x, turn);
        wait_for(own.done + other * MANY_BLOCKS + blockIdx.x, turn, v.failed);
    }
    if (threadIdx.x == 0) own.many_turn[blockIdx.x] = turn;
}

void cuda_direct_sum(cuda_direct *d, int rank, const float *part, float *y, int64_t n, float *also,
                     int64_t m) {
    direct_view v = d->view;
    v.rank = rank;
    cudaStream_t stream = cuda_stream(d->k[rank]);
    if (n + m > KERN_GROUP_SMALL) {
        if (v.size <= 2)
            DIRECT_LAUNCH(sum_many_parts<2>, MANY_BLOCKS, THREADS, stream, v, part, y, n);
        else if (v.size <= 8)
            DIRECT_LAUNCH(sum_many_parts<8>, MANY_BLOCKS, THREADS, stream, v, part, y, n);
        else
            DIRECT_LAUNCH(sum_many_parts<16>, MANY_BLOCKS, THREADS, stream, v, part, y, n);
    } else if (v.size <= 2)
        DIRECT_LAUNCH(sum_parts<2>, BLOCKS, THREADS, stream, v, part, y, n, also, m);
    else if (v.size <= 8)
        DIRECT_LAUNCH(sum_parts<8>, BLOCKS, THREADS, stream, v, part, y, n, also, m);
    else
        DIRECT_LAUNCH(sum_parts<16>, BLOCKS, THREADS, stream, v, part, y, n, also, m);
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
            if (cudaDeviceCanAccessPeer(&can, cuda_state_of(k[r])->device, device) != cudaSuccess || !can)
                return false;
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
    const size_t parts = (size_t)n * KERN_GROUP_SMALL / 2, where = (size_t)2 * n * MANY_BLOCKS * 2,
                 many = (size_t)n * MANY_BLOCKS;
    const size_t words = BLOCKS + 2 * many + MANY_BLOCKS,
                 bytes = 2 * parts * sizeof(uint4) + where * 8 + words * 4;
    for (int r = 0; r < n && made; r++) {
        void *p = nullptr;
        made = k[r]->alloc(k[r], &p, bytes, nullptr) == PH_OK; /* zeros */
        if (!made) break;
        direct_place *at = &d->view.of[r];
        at->part[0] = static_cast<uint4 *>(p);
        at->part[1] = at->part[0] + parts;
        at->where = reinterpret_cast<uint64_t *>(at->part[1] + parts);
        at->turn = reinterpret_cast<uint32_t *>(at->where + where);
        at->ready = at->turn + BLOCKS;
        at->done = at->ready + many;
        at->many_turn = at->done + many;
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
