/* topk.cu - the k best of rows of scores, exactly; of equals the earlier position; in ascending order of position.
 *
 * A block has a row. Scores are compared as unsigned integers in the order of the floats; 0 stands for what is no
 * candidate. The fast way: a sample of the row gives a bound that is nearly always a little below the k-th best;
 * one pass collects what is at least the bound; the exact cut is found among those. When the bound was too high or
 * let too many through, the slow way finds the cut by three counting passes over the row. Either way the result is
 * written from a bitmap in order of position, so both give the same.
 */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device.cuh"

enum { THREADS = 512, SAMPLE = 2048, ROUNDS = 4, BINS = 2048, MAP_WORDS = 4096 /* positions of one stretch of the map / 32 */ };

/* Greater floats are greater; never 0 but for NaN. */
static __device__ __forceinline__ uint32_t order_of(float x) {
    if (isnan(x)) return 0;
    uint32_t u = __float_as_uint(x);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

struct topk {
    const float *score;
    int64_t stride, pos0;
    const int64_t *moved; /* added to pos0 (cuda_moved) */
    int n_select, capacity; /* of the candidate buffer */
    int32_t *position, *count;
    float *best;
};

/* Shared by the block. */
struct topk_state {
    int n_candidate;
    int bin, above; /* of a count: the bin that the wanted rank falls into, and how many are above it */
    int n_valid;
    int partial[THREADS / 32];
};

/* Finds, for counts over BINS bins, the bin that holds the `rank`-th greatest (from 1). All threads call it. */
static __device__ void find_bin(const int *bins, int n_bin, int rank, topk_state *s) {
    /* Each thread sums a stretch; greater bins first. */
    __shared__ int sums[THREADS];
    int each = (n_bin + THREADS - 1) / THREADS, sum = 0;
    int high = n_bin - 1 - (int)threadIdx.x * each;
    for (int i = 0; i < each && high - i >= 0; i++) sum += bins[high - i];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, inclusive = sum;
    for (int d = 1; d < 32; d <<= 1) {
        int v = __shfl_up_sync(0xffffffffu, inclusive, d);
        if (lane >= d) inclusive += v;
    }
    if (lane == 31) sums[warp] = inclusive;
    __syncthreads();
    int before = inclusive - sum;
    for (int i = 0; i < warp; i++) before += sums[i];
    if (before < rank && before + sum >= rank) {
        int at = before;
        for (int i = 0; i < each; i++) {
            int n = bins[high - i];
            if (at + n >= rank) {
                s->bin = high - i;
                s->above = at;
                break;
            }
            at += n;
        }
    }
    __syncthreads();
}

/* The value of the rank-th greatest of n values (an array that `value(i)` reads), and how many are above it.
 * At least `rank` of them must be there. */
template <class reader>
static __device__ uint32_t kth_greatest(reader value, int64_t n, int rank, int *bins, topk_state *s, int *above) {
    uint32_t prefix = 0;
    *above = 0;
    const int shifts[3] = {21, 10, 0}, widths[3] = {11, 11, 10};
    for (int pass = 0; pass < 3; pass++) {
        int n_bin = 1 << widths[pass];
        for (int i = threadIdx.x; i < n_bin; i += THREADS) bins[i] = 0;
        __syncthreads();
        int high = shifts[pass] + widths[pass];
        for (int64_t i = threadIdx.x; i < n; i += THREADS) {
            uint32_t v = value(i);
            if (high == 32 || v >> high == prefix >> high) atomicAdd(&bins[v >> shifts[pass] & (n_bin - 1)], 1);
        }
        __syncthreads();
        find_bin(bins, n_bin, rank, s);
        prefix |= (uint32_t)s->bin << shifts[pass];
        *above += s->above;
        rank -= s->above;
        __syncthreads();
    }
    return prefix;
}

/* Writes, in ascending order, the positions above the cut and the first `equal` at it, from bits. */
static __device__ void emit_map(const topk &a, const uint32_t *map_above, const uint32_t *map_equal, int words,
                                int64_t first, int *done, int *equal, int64_t row, topk_state *s) {
    __shared__ int totals[2][THREADS / 32];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    for (int base = 0; base < words; base += THREADS) {
        int word = base + threadIdx.x;
        uint32_t up = word < words ? map_above[word] : 0, at = word < words ? map_equal[word] : 0;
        int n_up = __popc(up), n_at = __popc(at), up_before = n_up, at_before = n_at;
        for (int d = 1; d < 32; d <<= 1) {
            int u = __shfl_up_sync(0xffffffffu, up_before, d), e = __shfl_up_sync(0xffffffffu, at_before, d);
            if (lane >= d) up_before += u, at_before += e;
        }
        if (lane == 31) totals[0][warp] = up_before, totals[1][warp] = at_before;
        __syncthreads();
        up_before -= n_up;
        at_before -= n_at;
        int all_up = 0, all_at = 0;
        for (int i = 0; i < THREADS / 32; i++) {
            if (i < warp) up_before += totals[0][i], at_before += totals[1][i];
            all_up += totals[0][i];
            all_at += totals[1][i];
        }
        int take = *equal - at_before; /* of this word's equals, the first so many */
        int to = *done + up_before + (at_before < *equal ? at_before : *equal);
        uint32_t both = up | at;
        while (both) {
            int bit = __ffs(both) - 1;
            both &= both - 1;
            if (!(up >> bit & 1)) {
                if (take <= 0) continue;
                take--;
            }
            int64_t p = first + (int64_t)word * 32 + bit;
            a.position[row * a.n_select + to] = (int32_t)p;
            if (a.best) a.best[row * a.n_select + to] = a.score[row * a.stride + p];
            to++;
        }
        int used = all_at < *equal ? all_at : *equal;
        *done += all_up + used;
        *equal -= used;
        __syncthreads();
    }
}

static __global__ void __launch_bounds__(THREADS) topk_rows(topk a) {
    extern __shared__ __align__(16) unsigned char memory[];
    __shared__ topk_state s;
    int *bins = reinterpret_cast<int *>(memory);                      /* [BINS] */
    uint32_t *map = reinterpret_cast<uint32_t *>(bins + BINS);        /* [2][MAP_WORDS] */
    uint32_t *values = map + 2 * MAP_WORDS;                           /* [capacity] */
    uint32_t *places = values + a.capacity;                           /* [capacity] */
    int64_t row = blockIdx.x, n = a.pos0 + moved_by(a.moved) + row + 1;
    const float *score = a.score + row * a.stride;
    int lane = threadIdx.x & 31;
    uint32_t bound = 1; /* of what is collected */
    bool usable = true;

    if (n > a.capacity) { /* which is at least SAMPLE */
        uint32_t *sample = values; /* free until candidates come */
        /* one from each of SAMPLE stretches, at a place in it that changes from one to the next */
        for (int i = threadIdx.x; i < SAMPLE; i += THREADS)
            sample[i] = order_of(
                score[__umulhi((uint32_t)i * (0x80000000u / (SAMPLE / 2)) | ((uint32_t)i * 2654435761u) >> 11, (uint32_t)n)]);
        __syncthreads();
        float expected = (float)a.n_select * (float)SAMPLE / (float)n;
        int rank = (int)(expected * 1.2f + 3.0f * sqrtf(expected) + 6.0f);
        if (rank > SAMPLE) rank = SAMPLE;
        int above;
        bound = kth_greatest([&](int64_t i) { return sample[i]; }, SAMPLE, rank, bins, &s, &above);
        if (bound == 0) bound = 1;
    }
    if (threadIdx.x == 0) s.n_candidate = 0;
    __syncthreads();
    /* One pass. A thread has 16 scores in flight at a time and asks for room once for what it takes of them. What lies
     * beyond n is no number. */
    float least = __uint_as_float(bound & 0x80000000u ? bound & 0x7fffffffu : ~bound);
    bool by_value = bound > 0x007fffffu; /* otherwise the bound is below every number */
    const float none = __int_as_float(0x7fc00000);
    for (int64_t base = 0; base < n; base += THREADS * 4 * ROUNDS) {
        float4 v[ROUNDS];
#pragma unroll
        for (int j = 0; j < ROUNDS; j++) {
            int64_t p = base + (j * THREADS + threadIdx.x) * 4;
            v[j] = p < n ? *reinterpret_cast<const float4 *>(score + p) : make_float4(none, none, none, none);
            if (p + 1 >= n) v[j].y = none;
            if (p + 2 >= n) v[j].z = none;
            if (p + 3 >= n) v[j].w = none;
        }
        uint32_t taken = 0;
#pragma unroll
        for (int j = 0; j < ROUNDS; j++) {
            const float x[4] = {v[j].x, v[j].y, v[j].z, v[j].w};
#pragma unroll
            for (int e = 0; e < 4; e++) taken |= (uint32_t)(by_value ? x[e] >= least : x[e] == x[e]) << (j * 4 + e);
        }
        if (!taken) continue;
        int to = atomicAdd(&s.n_candidate, __popc(taken));
#pragma unroll
        for (int j = 0; j < ROUNDS; j++) {
            const float x[4] = {v[j].x, v[j].y, v[j].z, v[j].w};
#pragma unroll
            for (int e = 0; e < 4; e++)
                if (taken >> (j * 4 + e) & 1) {
                    if (to < a.capacity) {
                        values[to] = order_of(x[e]);
                        places[to] = (uint32_t)(base + (j * THREADS + threadIdx.x) * 4 + e);
                    }
                    to++;
                }
        }
    }
    __syncthreads();
    int have = s.n_candidate;
    usable = have <= a.capacity && (have >= a.n_select || bound == 1);

    uint32_t cut = 1;
    int above = 0, wanted = a.n_select, equal;
    if (usable) {
        if (have > wanted) {
            cut = kth_greatest([&](int64_t i) { return values[i]; }, have, wanted, bins, &s, &above);
            equal = wanted - above;
        } else { /* all of them */
            cut = 0;
            equal = 0;
            wanted = have;
        }
    } else {
        /* Candidates there are in all: fewer than wanted, and every one is taken. */
        int mine = 0;
        for (int64_t i = threadIdx.x; i < n; i += THREADS) mine += order_of(score[i]) != 0;
        if (threadIdx.x == 0) s.n_valid = 0;
        __syncthreads();
        mine = __reduce_add_sync(0xffffffffu, mine);
        if (lane == 0) atomicAdd(&s.n_valid, mine);
        __syncthreads();
        if (s.n_valid > wanted) {
            cut = kth_greatest([&](int64_t i) { return order_of(score[i]); }, n, wanted, bins, &s, &above);
            equal = wanted - above;
        } else {
            cut = 0;
            equal = 0;
            wanted = s.n_valid;
        }
    }

    int done = 0;
    const int64_t stretch = (int64_t)MAP_WORDS * 32;
    for (int64_t first = 0; first < n && done < wanted; first += stretch) {
        int64_t in = n - first < stretch ? n - first : stretch;
        int words = (int)((in + 31) / 32);
        for (int i = threadIdx.x; i < words; i += THREADS) map[i] = map[MAP_WORDS + i] = 0;
        __syncthreads();
        if (usable) {
            for (int i = threadIdx.x; i < have; i += THREADS) {
                int64_t p = (int64_t)places[i] - first;
                if (p < 0 || p >= stretch || values[i] < cut) continue;
                atomicOr(&map[(values[i] == cut ? MAP_WORDS : 0) + (p >> 5)], 1u << (p & 31));
            }
        } else {
            for (int64_t base = 0; base < in; base += THREADS) {
                int64_t p = base + threadIdx.x;
                uint32_t v = p < in ? order_of(score[first + p]) : 0;
                unsigned up = __ballot_sync(0xffffffffu, v > cut), at = __ballot_sync(0xffffffffu, v && v == cut);
                if (lane == 0 && p < in) {
                    map[p >> 5] = up;
                    map[MAP_WORDS + (p >> 5)] = at;
                }
            }
        }
        __syncthreads();
        emit_map(a, map, map + MAP_WORDS, words, first, &done, &equal, row, &s);
    }
    if (threadIdx.x == 0) a.count[row] = wanted;
}

void cuda_topk_rows(const kern *k, const float *score, int64_t stride, int64_t pos0, int n_row, int n_select,
                    int32_t *position, int32_t *count, float *best) {
    topk a = {score, stride, pos0, cuda_moved(k), n_select, 0, position, count, best};
    /* Room for what a good bound lets through; more than this in a block is not worth having. */
    int capacity = 3 * n_select > 2560 ? 3 * n_select : 2560; /* at least SAMPLE */
    if (capacity > 12288) capacity = 12288;
    a.capacity = capacity / 32 * 32;
    size_t shared = BINS * sizeof(int) + 2 * MAP_WORDS * sizeof(uint32_t) + 2 * (size_t)a.capacity * sizeof(uint32_t);
    cuda_allow_shared(k, reinterpret_cast<const void *>(&topk_rows), shared);
    topk_rows<<<n_row, THREADS, shared, cuda_stream(k)>>>(a);
    cuda_launched(k, "top-k");
}
