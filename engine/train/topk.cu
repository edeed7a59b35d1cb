// Exact top-k of score rows by radix selection: one block a row, one or two reads of the row.
//
// Row r of a chunk sees n = first + r + 1 keys. Fewer than k of them: all are taken.
// Otherwise the k largest scores; the order of the output is unspecified, and among
// exactly equal scores at the cut the choice is arbitrary. Unused slots hold -1.
// Keys are mapped to unsigned integers that sort as the floats do; a histogram of
// their top 11 bits finds the bin of the cut, whose members are then refined in
// shared memory (or by further reads when they do not fit).
#include <cuda_runtime.h>
#include <stdint.h>

#define THREADS 512
#define BINS 2048
#define CAP 4096

__device__ __forceinline__ uint32_t sortable(float f) {
    uint32_t u = __float_as_uint(f);
    return u ^ ((u >> 31) ? 0xffffffffu : 0x80000000u);
}

// The bin that holds the need-th largest, and how many lie in larger bins. Ends in a barrier.
__device__ void find_bin(const int *hist, int need, int *warp_sum, int *bin, int *above) {
    int t = threadIdx.x, lane = t & 31, warp = t >> 5;
    int c[4], sum = 0;
    for (int j = 0; j < 4; j++) { c[j] = hist[BINS - 1 - (4 * t + j)]; sum += c[j]; }
    int scan = sum;
    for (int d = 1; d < 32; d <<= 1) {
        int v = __shfl_up_sync(0xffffffffu, scan, d);
        if (lane >= d) scan += v;
    }
    if (lane == 31) warp_sum[warp] = scan;
    __syncthreads();
    int before = scan - sum;
    for (int w = 0; w < warp; w++) before += warp_sum[w];
    if (before < need && need <= before + sum) {
        int a = before;
        for (int j = 0; j < 4; j++) {
            if (a + c[j] >= need) { *bin = BINS - 1 - (4 * t + j); *above = a; break; }
            a += c[j];
        }
    }
    __syncthreads();
}

__global__ void topk_rows(const float *scores, long long ld, int first, int k, int base, int *out) {
    __shared__ int hist[BINS];
    __shared__ uint32_t cand_key[CAP];
    __shared__ int cand_pos[CAP];
    __shared__ int warp_sum[THREADS / 32], bin, above, n_out, n_cand;
    const float *row = scores + (long long)blockIdx.x * ld;
    int *dst = out + (long long)blockIdx.x * k;
    int n = first + blockIdx.x + 1, t = threadIdx.x;
    if (n <= k) {
        for (int i = t; i < k; i += THREADS) dst[i] = i < n ? base + i : -1;
        return;
    }
    const int shift[3] = {21, 10, 0}, mask[3] = {2047, 2047, 1023};
    uint32_t prefix = 0;
    int need = k, level = 0;
    for (;; level++) {  // narrow until the bin of the cut fits in shared memory
        for (int i = t; i < BINS; i += THREADS) hist[i] = 0;
        if (t == 0) { n_out = 0; n_cand = 0; }
        __syncthreads();
        for (int i = t; i < n; i += THREADS) {
            uint32_t u = sortable(row[i]);
            if (level == 0 || (u >> shift[level - 1]) == prefix) atomicAdd(&hist[(u >> shift[level]) & mask[level]], 1);
        }
        __syncthreads();
        find_bin(hist, need, warp_sum, &bin, &above);
        need -= above;
        prefix = level == 0 ? bin : ((prefix << (level == 2 ? 10 : 11)) | bin);
        int in_bin = hist[bin];
        __syncthreads();
        if (in_bin <= CAP || level == 2) break;
    }
    for (int i = t; i < n; i += THREADS) {
        uint32_t u = sortable(row[i]), p = u >> shift[level];
        if (p > prefix) {
            dst[atomicAdd(&n_out, 1)] = base + i;
        } else if (p == prefix) {
            int c = atomicAdd(&n_cand, 1);
            if (c < CAP) { cand_key[c] = u; cand_pos[c] = i; }
        }
    }
    __syncthreads();
    int m = n_cand < CAP ? n_cand : CAP;
    for (level++; level < 3; level++) {
        for (int i = t; i < BINS; i += THREADS) hist[i] = 0;
        __syncthreads();
        for (int i = t; i < m; i += THREADS)
            if ((cand_key[i] >> shift[level - 1]) == prefix) atomicAdd(&hist[(cand_key[i] >> shift[level]) & mask[level]], 1);
        __syncthreads();
        find_bin(hist, need, warp_sum, &bin, &above);
        uint32_t next = (prefix << (level == 2 ? 10 : 11)) | bin;
        for (int i = t; i < m; i += THREADS)
            if ((cand_key[i] >> shift[level - 1]) == prefix && (cand_key[i] >> shift[level]) > next)
                dst[atomicAdd(&n_out, 1)] = base + cand_pos[i];
        need -= above;
        prefix = next;
        __syncthreads();
    }
    for (int i = t; i < m; i += THREADS)
        if (cand_key[i] == prefix) {
            int o = atomicAdd(&n_out, 1);
            if (o < k) dst[o] = base + cand_pos[i];
        }
}

extern "C" int pharos_topk(const float *scores, long long ld, int rows, int first, int k, int base, int *out, void *stream) {
    topk_rows<<<rows, THREADS, 0, (cudaStream_t)stream>>>(scores, ld, first, k, base, out);
    return (int)cudaGetLastError();
}
