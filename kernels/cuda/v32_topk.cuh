/* v32_topk.cuh - what the top-k kernels share: scores as integers, the rank-th greatest of many, what the blocks of a
 * cluster tell each other. All functions are for all threads of a block. */
#ifndef PHAROS_V32_TOPK_CUH
#define PHAROS_V32_TOPK_CUH

#include "kernels/cuda/v32.h"
#include "kernels/cuda/v32_device.cuh"

enum {
    SAMPLE = 8192,  /* scores, in runs of RUN; kept where orders and places will be */
    RUN = 8,
    BINS = 2048,
    SPAN = 4,       /* loads of 16 bytes that a thread has under way */
    MOST_KEYS = 262144,
    STATE_BYTES = 512,
    LAST_FEW = 32,    /* among so many the wanted rank is found at once */
    GROUP = 4,        /* loads of a thread whose greatest score counts for the bound */
    PIECES_MOST = 16, /* loads of a thread that holds its part of a row, ... */
    MOST_IN_REGISTERS = 8, /* ... and what of them is not in shared memory */
    OWN_MOST = 4096,  /* that pass the bound, of a block */
    LIST_MOST = 8192, /* of a row */
};

/* So many blocks to a row, a cluster, that all rows' find room at once on 132 multiprocessors, which lie in groups of
 * about sixteen. */
static inline int parts_for(int n_row) {
    return n_row <= 15 ? 8 : n_row <= 30 ? 4 : n_row <= 36 ? 3 : n_row <= 66 ? 2 : 1;
}

/* Of a warp. */
static __device__ __forceinline__ uint32_t warp_most(uint32_t v) {
#if __CUDA_ARCH__ >= 800
    return __reduce_max_sync(0xffffffffu, v);
#else
    for (int d = 16; d; d >>= 1) {
        uint32_t other = __shfl_xor_sync(0xffffffffu, v, d);
        v = other > v ? other : v;
    }
    return v;
#endif
}
static __device__ __forceinline__ int warp_total(int v) {
#if __CUDA_ARCH__ >= 800
    return __reduce_add_sync(0xffffffffu, v);
#else
    for (int d = 16; d; d >>= 1) v += __shfl_xor_sync(0xffffffffu, v, d);
    return v;
#endif
}

/* Greater scores are greater numbers; the two zeros are one; NaN is 0. */
static __device__ __forceinline__ uint32_t order_of(float x) {
    if (isnan(x)) return 0;
    uint32_t u = __float_as_uint(__fadd_rn(x, 0.0f));
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}
/* The same of what is no NaN. */
static __device__ __forceinline__ uint32_t order_of_number(float x) {
    uint32_t u = __float_as_uint(__fadd_rn(x, 0.0f));
    return u ^ ((uint32_t)((int32_t)u >> 31) | 0x80000000u);
}
/* The score of an order above 0. */
static __device__ __forceinline__ float score_of(uint32_t order) {
    return __uint_as_float(order & 0x80000000u ? order & 0x7fffffffu : ~order);
}

/* The barrier of a cluster where what is handed over stands in shared memory, or has been read there: a barrier of the
 * block, after which it is there for whoever asks, and an arrival without the fence for all of memory (a thousand cycles). */
static __device__ __forceinline__ void arrive_after_block() {
    __syncthreads();
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
#else
    cluster_arrive();
#endif
}

/* 1 or 0, as a number: the compiler keeps no predicate of it for later, which costs more than comparing again. */
static __device__ __forceinline__ float one_if_not_below(float x, float least) {
    float one = x >= least ? 1.0f : 0.0f;
#if __CUDA_ARCH__
    asm("set.ge.f32.f32 %0, %1, %2;" : "=f"(one) : "f"(x), "f"(least));
#endif
    return one;
}

struct row_state {
    int warp_sum[32];
    int bin, above, in, n, n_few, earlier, same;
    uint32_t bound, most;         /* this block's; */
    uint32_t all_bound, all_most; /* of all blocks of a cluster: the least, the greatest */
    int sizes[8];                 /* s.n of each */
    uint32_t found;
    uint32_t few[LAST_FEW];
};

/* Sum of `mine` over the threads before this one; *all = over all. All threads call it. */
static __device__ int block_scan(int mine, row_state &s, int *all) {
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5, sum = mine;
#pragma unroll
    for (int d = 1; d < 32; d <<= 1) {
        int v = __shfl_up_sync(0xffffffffu, sum, d);
        if (lane >= d) sum += v;
    }
    __syncthreads(); /* warp_sum may still be read */
    if (lane == 31) s.warp_sum[warp] = sum;
    __syncthreads();
    int part = lane < warps ? s.warp_sum[lane] : 0;
    *all = warp_total(part);
    return warp_total(lane < warp ? part : 0) + sum - mine;
}

/* Sum of `mine` over the lanes up to this one. */
static __device__ __forceinline__ int warp_scan(int mine) {
#pragma unroll
    for (int d = 1; d < 32; d <<= 1) {
        int v = __shfl_up_sync(0xffffffffu, mine, d);
        if ((int)(threadIdx.x & 31) >= d) mine += v;
    }
    return mine;
}

/* Of n_bin counts the bin, from the greatest on, in which the rank-th is: s.bin, how many are above it and in it. A warp adds
 * up its part of the bins; the one in whose part it is looks for it. A barrier has passed since the counts are there. */
static __device__ void find_bin(const int *bins, int n_bin, int rank, row_state &s) {
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    int each = ((n_bin + warps - 1) / warps + 31) / 32 * 32, first = warp * each, sum = 0;
    const int *last = bins + n_bin - 1; /* the greatest bins first */
#pragma unroll 2
    for (int i = first + lane; i < first + each; i += 32)
        if (i < n_bin) sum += last[-i];
    sum = warp_total(sum);
    if (lane == 0) s.warp_sum[warp] = sum;
    __syncthreads();
    int before = warp_total(lane < warp ? s.warp_sum[lane] : 0);
    if (before < rank && before + sum >= rank) {
#pragma unroll 1
        for (int i = first + lane;; i += 32) {
            int in = i < n_bin ? last[-i] : 0, up_to = before + warp_scan(in);
            uint32_t reached = __ballot_sync(0xffffffffu, up_to >= rank);
            if (reached) {
                if (lane == __ffs(reached) - 1) s.bin = n_bin - 1 - i, s.above = up_to - in, s.in = in;
                break;
            }
            before = __shfl_sync(0xffffffffu, up_to, 31);
        }
    }
    __syncthreads();
}

/* The value of the rank-th greatest (from 1) of n orders that `value` reads, and how many are above it; in steps of
 * 11, 11 and 10 bits, of which the last `skip` are left out (the value is then a lower bound). */
template <class reader>
static __device__ uint32_t kth_greatest(reader value, int n, int rank, int skip, int *bins, row_state &s, int *above) {
    uint32_t prefix = 0;
    *above = 0;
#pragma unroll 1
    for (int pass = 0; pass < 3 - skip; pass++) {
        int shift = pass == 0 ? 21 : pass == 1 ? 10 : 0, high = pass == 0 ? 32 : pass == 1 ? 21 : 10;
        int n_bin = pass == 2 ? 1024 : 2048;
#pragma unroll 1
        for (int i = threadIdx.x; i < n_bin; i += blockDim.x) bins[i] = 0;
        __syncthreads();
#pragma unroll 4
        for (int i = threadIdx.x; i < n; i += blockDim.x) {
            uint32_t v = value(i);
            if (pass == 0 || v >> high == prefix >> high) atomicAdd(&bins[v >> shift & (n_bin - 1)], 1);
        }
        __syncthreads();
        find_bin(bins, n_bin, rank, s);
        prefix |= (uint32_t)s.bin << shift;
        *above += s.above;
        rank -= s.above;
        __syncthreads();
    }
    return prefix;
}

/* The same of a list in shared memory whose orders are known to lie in [low, high], which the bins divide evenly: scores
 * beyond a bound lie close together, and one pass leaves a few in the bin that matters. */
static __device__ uint32_t kth_of_list(const uint32_t *list, int n, int rank, uint32_t low, uint32_t high, int *bins,
                                       row_state &s, int *above) {
    *above = 0;
#pragma unroll 1
    for (;;) {
        uint32_t range = high - low;
        int shift = range < BINS ? 0 : 21 - __clz(range); /* 2^11 bins */
#pragma unroll 1
        for (int i = threadIdx.x; i < BINS; i += blockDim.x) bins[i] = 0;
        if (threadIdx.x == 0) s.n_few = 0;
        __syncthreads();
#pragma unroll 4
        for (int i = threadIdx.x; i < n; i += blockDim.x) {
            uint32_t v = list[i];
            if (v >= low && v <= high) atomicAdd(&bins[(v - low) >> shift], 1);
        }
        __syncthreads();
        find_bin(bins, BINS, rank, s);
        int in = s.in;
        *above += s.above;
        rank -= s.above;
        low += (uint32_t)s.bin << shift;
        if (shift == 0) {
            __syncthreads(); /* the state may be written again */
            return low;
        }
        uint32_t last = low + ((1u << shift) - 1u);
        high = last < high ? last : high;
        __syncthreads();
        if (in > LAST_FEW) continue;
#pragma unroll 4
        for (int i = threadIdx.x; i < n; i += blockDim.x) {
            uint32_t v = list[i];
            if (v >= low && v <= high) s.few[atomicAdd(&s.n_few, 1)] = v;
        }
        __syncthreads();
        /* a warp has one of them at a time */
        int lane = threadIdx.x & 31, warps = (int)blockDim.x >> 5;
        uint32_t theirs = lane < in ? s.few[lane] : 0;
        for (int i = threadIdx.x >> 5; i < in; i += warps) {
            uint32_t v = s.few[i];
            int greater = __popc(__ballot_sync(0xffffffffu, lane < in && theirs > v));
            int equal = __popc(__ballot_sync(0xffffffffu, lane < in && theirs == v));
            if (lane == 0 && greater < rank && greater + equal >= rank) s.found = v, s.above = greater; /* equals say the same */
        }
        __syncthreads();
        *above += s.above;
        return s.found;
    }
}

/* The greatest of all threads' numbers into *to, which is not above it. */
static __device__ __forceinline__ void keep_most(uint32_t mine, uint32_t *to) {
    mine = warp_most(mine);
    if ((threadIdx.x & 31) == 0) atomicMax(to, mine);
}

/* The least bound and the greatest `most` of a cluster's blocks, after a barrier of it. One warp asks: a number that all
 * warps of all blocks ask for comes to each in its turn, which was two thousand cycles. */
static __device__ void bounds_of(row_state &s, int n_part) {
    if (threadIdx.x < 32) {
        int lane = threadIdx.x;
        uint32_t bound = lane < n_part ? cluster_load(&s.bound, lane) : 0xffffffffu;
        uint32_t most = lane < n_part ? cluster_load(&s.most, lane) : 0;
        bound = ~warp_most(~bound), most = warp_most(most);
        if (lane == 0) s.all_bound = bound, s.all_most = most;
    }
    __syncthreads();
}

/* What the blocks of a cluster have collected. */
struct cluster_lists {
    int have, total; /* of this lane's block, of all */
    bool fits;
};
/* s.n numbers from `own` on, `most` at most, of each block. All threads call it; a barrier of the cluster before. */
static __device__ cluster_lists sizes_of(row_state &s, int n_part, int most) {
    int lane = threadIdx.x & 31;
    if ((int)threadIdx.x < n_part) s.sizes[lane] = (int)cluster_load(reinterpret_cast<const uint32_t *>(&s.n), lane);
    __syncthreads();
    cluster_lists l;
    l.have = lane < n_part ? s.sizes[lane] : 0;
    l.total = warp_total(l.have);
    l.fits = !__any_sync(0xffffffffu, l.have > most) && l.total <= LIST_MOST;
    return l;
}
/* How many the blocks before block `part` have. */
static __device__ __forceinline__ int before_part(const cluster_lists &l, int part) {
    return warp_total((int)(threadIdx.x & 31) < part ? l.have : 0);
}
/* All of them into `list`, in the blocks' order, as orders (RAW: they are scores); a warp has some 32 of each block's. */
template <bool RAW>
static __device__ void read_lists(const cluster_lists &l, const uint32_t *own, uint32_t *list, int n_part) {
    enum { AT_ONCE = 4 };
    int warps = (int)blockDim.x >> 5, warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
#pragma unroll 1
    for (int p = warp % n_part; p < n_part; p += warps) { /* once, unless there are fewer warps than blocks */
        int turns = warps > n_part ? (warps - p + n_part - 1) / n_part : 1, step = turns * 32;
        int have = __shfl_sync(0xffffffffu, l.have, p), before = before_part(l, p);
#pragma unroll 1
        for (int first = (warps > n_part ? warp / n_part * 32 : 0) + lane; first < have; first += step * AT_ONCE) {
            uint32_t v[AT_ONCE];
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++) v[i] = first + i * step < have ? cluster_load(own + first + i * step, p) : 0;
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++)
                if (first + i * step < have)
                    list[before + first + i * step] = RAW ? order_of_number(__uint_as_float(v[i])) : v[i];
        }
    }
}
/* Into s.earlier: how many of the first n entries are above the cut, and equal to it in the upper half of the number;
 * into s.same: how many of the `own` after them are equal to it. Both were 0; there after the next barrier. */
static __device__ void count_sides(const uint32_t *list, int n, int own, uint32_t cut, row_state &s) {
    int mine = 0, same = 0;
#pragma unroll 1
    for (int i = threadIdx.x; i < n + own; i += (int)blockDim.x) {
        uint32_t v = list[i];
        if (i < n) mine += (v > cut) + ((v == cut) << 16);
        else same += v == cut;
    }
    mine = warp_total(mine), same = warp_total(same);
    if ((threadIdx.x & 31) == 0 && mine) atomicAdd(&s.earlier, mine);
    if ((threadIdx.x & 31) == 0 && same) atomicAdd(&s.same, same);
}

#endif
