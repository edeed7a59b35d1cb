/* v32_topk.cu - the few thousand best of rows of some hundred thousand scores, exactly.
 *
 * Many rows: a block has a row and reads it once: a sample gives a bound a little below the wanted rank, one pass
 * collects what is not below it, and the exact cut is found among those, in shared memory. Where the bound misses (too
 * few or too many pass), counting passes over the row find the cut: slower, the same result. What is selected becomes a
 * bitmap, from which positions are written in order; equals at the cut are taken from the front.
 *
 * Fewer rows than multiprocessors: two blocks or four, a cluster, share a row. Each collects from its stretch, reads the
 * lists of the others from their shared memory and finds the cut by itself.
 *
 * A few rows: a cluster of eight holds a row in registers, so that it is read once and without a sample. Of each block's
 * thread maxima the (wanted / blocks)th greatest is a bound that at least `wanted` scores pass.
 */
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
    HELD = 16,        /* scores that a thread of a cluster holds */
    OWN_MOST = 4096,  /* that pass the bound, of a block */
    LIST_MOST = 8192, /* of a row */
    HELD_ROWS = 8,    /* so many rows at most have clusters of eight, ... */
    FOURS_ROWS = 24,  /* ... of four ... */
    TWOS_ROWS = 64,   /* ... and of two: with more they wait for each other */
};

/* Greater scores are greater numbers; the two zeros are one; NaN is 0. */
static __device__ __forceinline__ uint32_t order_of(float x) {
    if (isnan(x)) return 0;
    uint32_t u = __float_as_uint(__fadd_rn(x, 0.0f));
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}
/* The score of an order above 0. */
static __device__ __forceinline__ float score_of(uint32_t order) {
    return __uint_as_float(order & 0x80000000u ? order & 0x7fffffffu : ~order);
}

struct row_state {
    int warp_sum[32];
    int bin, above, in, n, n_few, earlier;
    uint32_t bound, most;
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
    int part = lane < warps ? s.warp_sum[lane] : 0, total = part;
#pragma unroll
    for (int d = 1; d < 32; d <<= 1) {
        int v = __shfl_up_sync(0xffffffffu, part, d);
        if (lane >= d) part += v;
    }
    *all = __shfl_sync(0xffffffffu, part, 31);
    int before = __shfl_sync(0xffffffffu, part - total, warp);
    return before + sum - mine;
}

/* Of n_bin counts the bin, from the greatest on, in which the rank-th is: s.bin, how many are above it and in it. */
static __device__ void find_bin(const int *bins, int n_bin, int rank, row_state &s) {
    /* a thread has `each` neighbouring bins, the greatest bins first */
    int each = n_bin / (int)blockDim.x > 0 ? n_bin / (int)blockDim.x : 1;
    int first = n_bin - 1 - (int)threadIdx.x * each, sum = 0, all;
    for (int i = 0; i < each; i++)
        if (first - i >= 0) sum += bins[first - i];
    int before = block_scan(sum, s, &all);
    if (before < rank && before + sum >= rank) {
        for (int i = 0; i < each; i++) {
            int in = bins[first - i];
            if (before + in >= rank) {
                s.bin = first - i;
                s.above = before;
                s.in = in;
                break;
            }
            before += in;
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
        for (int i = threadIdx.x; i < n_bin; i += blockDim.x) bins[i] = 0;
        __syncthreads();
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
        for (int i = threadIdx.x; i < BINS; i += blockDim.x) bins[i] = 0;
        if (threadIdx.x == 0) s.n_few = 0;
        __syncthreads();
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
        for (int i = threadIdx.x; i < n; i += blockDim.x) {
            uint32_t v = list[i];
            if (v >= low && v <= high) s.few[atomicAdd(&s.n_few, 1)] = v;
        }
        __syncthreads();
        int lane = threadIdx.x & 31, greater = 0, equal = 0;
        uint32_t mine = lane < in ? s.few[lane] : 0;
        for (int i = 0; i < in; i++) {
            uint32_t v = s.few[i];
            greater += v > mine;
            equal += v == mine;
        }
        bool it = lane < in && greater < rank && greater + equal >= rank;
        int from = __ffs(__ballot_sync(0xffffffffu, it)) - 1;
        *above += __shfl_sync(0xffffffffu, greater, from);
        return __shfl_sync(0xffffffffu, mine, from);
    }
}

/* The greatest of all threads' numbers into *to, which is not above it. */
static __device__ __forceinline__ void keep_most(uint32_t mine, uint32_t *to) {
#pragma unroll
    for (int d = 16; d; d >>= 1) {
        uint32_t other = __shfl_xor_sync(0xffffffffu, mine, d);
        mine = other > mine ? other : mine;
    }
    if ((threadIdx.x & 31) == 0) atomicMax(to, mine);
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

static __device__ __forceinline__ int scores_of_row(const v32_topk &a, int row) {
    int64_t moved = moved_by(a.moved), sees = a.pos0 + (int64_t)row * a.row_step + 1;
    return (int)(moved + (sees < a.n_key ? sees : a.n_key));
}
/* Everything, where no more than wanted is there. */
static __device__ __forceinline__ void select_all(const v32_topk &a, int row, int n) {
    for (int i = threadIdx.x; i < n; i += blockDim.x) a.position[(int64_t)row * a.n_select + i] = i;
    if (threadIdx.x == 0) a.count[row] = n;
}

/* What the blocks of a cluster have collected. */
struct cluster_lists {
    int have, up_to, total; /* of this lane's block, with those before it, of all */
    bool fits;
};
/* s.n numbers from `own` on, `most` at most, of each block. All threads call it; a barrier of the cluster before. */
static __device__ cluster_lists sizes_of(row_state &s, int n_part, int most) {
    int lane = threadIdx.x & 31;
    cluster_lists l;
    l.have = lane < n_part ? (int)cluster_load(reinterpret_cast<const uint32_t *>(&s.n), lane) : 0;
    l.up_to = warp_scan(l.have);
    l.total = __shfl_sync(0xffffffffu, l.up_to, 31);
    l.fits = !__any_sync(0xffffffffu, l.have > most) && l.total <= LIST_MOST;
    return l;
}
/* All of them into `list`, in the blocks' order, and the greatest into s.most. */
static __device__ void read_lists(const cluster_lists &l, const uint32_t *own, uint32_t *list, row_state &s) {
    int until[8]; /* entries of the blocks up to each: a thread's loads from any block are under way at once */
    uint32_t most = 0;
#pragma unroll
    for (int p = 0; p < 8; p++) until[p] = __shfl_sync(0xffffffffu, l.up_to, p);
    for (int i = threadIdx.x; i < l.total; i += (int)blockDim.x) {
        int p = 0, before = 0;
#pragma unroll
        for (int j = 0; j < 7; j++)
            if (i >= until[j]) p = j + 1, before = until[j];
        list[i] = cluster_load(own + (i - before), p);
        most = list[i] > most ? list[i] : most;
    }
    keep_most(most, &s.most);
}
/* Into s.earlier, which is 0: how many of the first n entries are above the cut, and equal to it in the upper half of
 * the number. There after the next barrier. */
static __device__ void count_sides(const uint32_t *list, int n, uint32_t cut, row_state &s) {
    int mine = 0;
    for (int i = threadIdx.x; i < n; i += (int)blockDim.x) mine += (list[i] > cut) + ((list[i] == cut) << 16);
    mine = warp_scan(mine);
    if ((threadIdx.x & 31) == 31 && mine) atomicAdd(&s.earlier, mine);
}

/* A row by one block, or by the n_part of a cluster, each a stretch. False, for all of a cluster, where the bound missed. */
template <bool CLUSTER>
static __device__ bool select_stretch(const v32_topk &a, int row, int part, int n_part, unsigned char *memory, int capacity,
                                      int map_words) {
    row_state &s = *reinterpret_cast<row_state *>(memory);
    int *bins = reinterpret_cast<int *>(memory + STATE_BYTES);   /* [BINS] */
    uint32_t *map = reinterpret_cast<uint32_t *>(bins + BINS);   /* [map_words] selected, of the stretch */
    uint32_t *equal = map + map_words;                           /* [map_words] at the cut */
    uint32_t *orders = equal + map_words;                        /* [capacity] */
    uint32_t *places = orders + capacity;                        /* [capacity] in the stretch */
    uint32_t *list = places + capacity;                          /* CLUSTER: [LIST_MOST] */
    int lane = threadIdx.x & 31, n = scores_of_row(a, row), wanted = a.n_select;
    int span = CLUSTER ? ((n + n_part - 1) / n_part + 127) / 128 * 128 : n, begin = CLUSTER ? part * span : 0;
    int len = n - begin < span ? (n > begin ? n - begin : 0) : span;
    const float *whole = a.score + row * a.score_stride, *score = whole + begin;
    int32_t *position = a.position + (int64_t)row * a.n_select;

    uint32_t bound = 0; /* of what is collected; 0 = everything */
    int above;
    if (n > capacity) {
        const int runs = SAMPLE / RUN;
        uint32_t greatest = 0;
        if (threadIdx.x == 0) s.most = 0;
        for (int i = threadIdx.x; i < SAMPLE / 4; i += blockDim.x) {
            int from = (int)((int64_t)(i >> 1) * (n - RUN) / (runs - 1)) / 4 * 4 + (i & 1) * 4;
            float4 v = __ldg(reinterpret_cast<const float4 *>(whole + from));
            const float of[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
            for (int e = 0; e < 4; e++) {
                uint32_t order = order_of(of[e]);
                orders[i * 4 + e] = order;
                greatest = order > greatest ? order : greatest;
            }
        }
        float expected = (float)wanted * SAMPLE / (float)n;
        int rank = (int)(expected + 5.0f * sqrtf(expected) + 8.0f), threads = (int)blockDim.x;
        if (rank > SAMPLE) rank = SAMPLE;
        /* at least `rank` of the threads' greatest, and so of the sample, are not below this */
        uint32_t low = rank <= threads ? kth_greatest([&](int) { return greatest; }, threads, rank, 2, bins, s, &above) : 0;
        __syncthreads();
        keep_most(greatest, &s.most);
        __syncthreads();
        bound = kth_of_list(orders, SAMPLE, rank, low, s.most, bins, s, &above);
        __syncthreads(); /* all have read what is written next */
        if (bound < 0x00800000u) bound = 0x007fffffu; /* -infinity: below it is NaN alone */
    }
    if (threadIdx.x == 0) s.n = 0, s.most = 0, s.earlier = 0;
    __syncthreads();
    float least = bound ? score_of(bound) : 0.0f;
    uint32_t most = 0;
    int step = (int)blockDim.x * 4;
    float4 next[SPAN]; /* asked for before what is here is looked at */
    auto ask = [&](int base) {
#pragma unroll
        for (int i = 0; i < SPAN; i++) {
            int p = base + i * step + (int)threadIdx.x * 4;
            next[i] = p < len ? __ldg(reinterpret_cast<const float4 *>(score + p)) : make_float4(0, 0, 0, 0);
        }
    };
    ask(0);
    for (int base = 0; base < len; base += step * SPAN) {
        float4 v[SPAN];
#pragma unroll
        for (int i = 0; i < SPAN; i++) v[i] = next[i];
        ask(base + step * SPAN);
        uint32_t mask = 0;
#pragma unroll
        for (int i = 0; i < SPAN; i++) {
            int left = len - (base + i * step + (int)threadIdx.x * 4);
            uint32_t m = (bound == 0 || v[i].x >= least ? 1u : 0u) | (bound == 0 || v[i].y >= least ? 2u : 0u) |
                         (bound == 0 || v[i].z >= least ? 4u : 0u) | (bound == 0 || v[i].w >= least ? 8u : 0u);
            if (left < 4) m &= left > 0 ? (1u << left) - 1u : 0u;
            mask |= m << (i * 4);
        }
        int mine = __popc(mask), sum = mine;
        if (!__any_sync(0xffffffffu, mask != 0)) continue;
        sum = warp_scan(mine);
        int to = 0;
        if (lane == 31) to = atomicAdd(&s.n, sum);
        to = __shfl_sync(0xffffffffu, to, 31) + sum - mine;
#pragma unroll
        for (int i = 0; i < SPAN; i++) {
            const float x[4] = {v[i].x, v[i].y, v[i].z, v[i].w};
            if (!(mask >> (i * 4) & 15u)) continue;
#pragma unroll
            for (int e = 0; e < 4; e++) {
                if (!(mask >> (i * 4 + e) & 1u)) continue;
                uint32_t order = order_of(x[e]);
                most = order > most ? order : most;
                if (to < capacity) {
                    orders[to] = order;
                    places[to] = (uint32_t)(base + i * step + (int)threadIdx.x * 4 + e);
                }
                to++;
            }
        }
    }
    if (!CLUSTER) keep_most(most, &s.most);
    for (int i = threadIdx.x; i < map_words * 2; i += blockDim.x) map[i] = 0; /* equal too */
    __syncthreads();
    int have = s.n, n_equal = 0, overs = 0, sames = 0; /* above the cut and at it, before this stretch */
    uint32_t cut;
    bool collected = have >= wanted && have <= capacity;
    if (CLUSTER) {
        cluster_arrive();
        cluster_wait();
        cluster_lists l = sizes_of(s, n_part, capacity);
        collected = l.fits && l.total >= wanted;
        if (collected) read_lists(l, orders, list, s);
        cluster_arrive(); /* the others' lists have been read; nobody leaves before all of them are */
        __syncthreads();
        if (!collected) {
            cluster_wait();
            return false;
        }
        cut = kth_of_list(list, l.total, wanted, bound, s.most, bins, s, &above);
        count_sides(list, __shfl_sync(0xffffffffu, l.up_to - l.have, part), cut, s);
        __syncthreads();
        overs = s.earlier & 0xffff, sames = s.earlier >> 16;
    } else if (collected)
        cut = kth_of_list(orders, have, wanted, bound, s.most, bins, s, &above);
    if (collected) {
        for (int i = threadIdx.x; i < have; i += blockDim.x) {
            uint32_t v = orders[i], p = places[i];
            if (v < cut) continue;
            n_equal += v == cut;
            uint32_t *to = v == cut ? equal : map;
            atomicOr(to + (p >> 5), 1u << (p & 31));
        }
    } else { /* a row alone: nothing was before it */
        cut = kth_greatest([&](int i) { return order_of(score[i]); }, n, wanted, 0, bins, s, &above);
        for (int base = 0; base < n; base += blockDim.x) {
            int p = base + (int)threadIdx.x;
            uint32_t v = p < n ? order_of(score[p]) : 0;
            bool up = p < n && v > cut, same = p < n && v == cut;
            uint32_t ups = __ballot_sync(0xffffffffu, up), samely = __ballot_sync(0xffffffffu, same);
            if (lane == 0 && p < n) {
                map[p >> 5] = ups;
                equal[p >> 5] = samely;
                n_equal += __popc(samely);
            }
        }
    }
    int all, quota = wanted - above; /* of equals, of the whole row */
    overs += sames < quota ? sames : quota;
    quota = sames < quota ? quota - sames : 0;
    block_scan(n_equal, s, &all); /* also the barrier before the maps are read */
    int each = (map_words + (int)blockDim.x - 1) / (int)blockDim.x, first = (int)threadIdx.x * each;
    if (all <= quota) {
        for (int i = first; i < first + each && i < map_words; i++) map[i] |= equal[i];
    } else {
        int mine = 0, ignore;
        for (int i = first; i < first + each && i < map_words; i++) mine += __popc(equal[i]);
        int take = quota - block_scan(mine, s, &ignore);
        for (int i = first; i < first + each && i < map_words && take > 0; i++) {
            uint32_t bits = equal[i];
            while (__popc(bits) > take) bits &= ~(0x80000000u >> __clz(bits));
            take -= __popc(bits);
            map[i] |= bits;
        }
    }
    int mine = 0;
    for (int i = first; i < first + each && i < map_words; i++) mine += __popc(map[i]);
    int to = block_scan(mine, s, &all);
    for (int i = first; i < first + each && i < map_words; i++) {
        uint32_t bits = map[i];
        while (bits) {
            places[to++] = (uint32_t)(begin + i * 32 + __ffs(bits) - 1);
            bits &= bits - 1;
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < all; i += blockDim.x) position[overs + i] = (int32_t)places[i];
    if (part == 0 && threadIdx.x == 0) a.count[row] = wanted;
    if (CLUSTER) cluster_wait();
    return true;
}

static __global__ void __launch_bounds__(1024) topk_rows(const v32_topk a, int capacity, int map_words) {
    V32_SHARED(memory);
    int row = blockIdx.x, n = scores_of_row(a, row);
    if (n <= a.n_select) select_all(a, row, n);
    else select_stretch<false>(a, row, 0, 1, memory, capacity, map_words);
}

/* A row by a cluster of n_part blocks. */
static __global__ void __launch_bounds__(1024) topk_stretches(const v32_topk a, int n_part, int capacity, int map_words,
                                                                  int whole_words) {
    V32_SHARED(memory);
    int part = blockIdx.x % n_part, row = blockIdx.x / n_part, n = scores_of_row(a, row);
    if (n <= a.n_select) {
        if (part == 0) select_all(a, row, n);
        return;
    }
    if (!select_stretch<true>(a, row, part, n_part, memory, capacity, map_words) && part == 0)
        select_stretch<false>(a, row, 0, 1, memory, capacity, whole_words);
}

/* A row by a cluster of n_part blocks that hold it in registers, each a stretch of `span` positions. */
static __global__ void __launch_bounds__(1024) topk_held(const v32_topk a, int n_part, int capacity, int map_words) {
    V32_SHARED(memory);
    row_state &s = *reinterpret_cast<row_state *>(memory);
    int *bins = reinterpret_cast<int *>(memory + STATE_BYTES);
    uint32_t *own = reinterpret_cast<uint32_t *>(bins + BINS), *list = own + OWN_MOST;
    int part = blockIdx.x % n_part, row = blockIdx.x / n_part, lane = threadIdx.x & 31;
    int n = scores_of_row(a, row), wanted = a.n_select, above;
    if (n <= wanted) {
        if (part == 0) select_all(a, row, n);
        return;
    }
    int span = ((n + n_part - 1) / n_part + 127) / 128 * 128;
    int end = (part + 1) * span < n ? (part + 1) * span : n;
    const float *score = a.score + row * a.score_stride;

    /* a warp has 512 neighbouring positions, each load of a lane four */
    int at = part * span + (threadIdx.x >> 5) * (32 * HELD) + lane * 4;
    float4 x[HELD / 4];
#pragma unroll
    for (int i = 0; i < HELD / 4; i++) {
        int p = at + i * 128;
        x[i] = p < end ? __ldg(reinterpret_cast<const float4 *>(score + p)) : make_float4(0, 0, 0, 0);
    }
    uint32_t v[HELD], most = 0; /* 0: NaN or none */
#pragma unroll
    for (int i = 0; i < HELD / 4; i++) {
        const float of[4] = {x[i].x, x[i].y, x[i].z, x[i].w};
#pragma unroll
        for (int e = 0; e < 4; e++) {
            uint32_t order = at + i * 128 + e < end ? order_of(of[e]) : 0;
            v[i * 4 + e] = order;
            most = order > most ? order : most;
        }
    }
    int threads = (int)blockDim.x;
    uint32_t bound = kth_greatest([&](int) { return most; }, threads, (wanted + n_part - 1) / n_part, 2, bins, s, &above);
    if (threadIdx.x == 0) {
        s.bound = bound;
        s.n = 0, s.most = 0, s.earlier = 0;
    }
    cluster_arrive();
    cluster_wait();
    uint32_t theirs = cluster_load(&s.bound, lane < n_part ? lane : 0);
#pragma unroll
    for (int d = 16; d; d >>= 1) {
        uint32_t other = __shfl_xor_sync(0xffffffffu, theirs, d);
        theirs = other < theirs ? other : theirs;
    }
    bound = theirs;

    bool fits = bound > 0;
    if (fits) {
        int mine = 0;
#pragma unroll
        for (int i = 0; i < HELD; i++) mine += v[i] >= bound;
        int sum = warp_scan(mine), to = 0;
        if (lane == 31 && sum > 0) to = atomicAdd(&s.n, sum);
        to = __shfl_sync(0xffffffffu, to, 31) + sum - mine;
#pragma unroll
        for (int i = 0; i < HELD; i++) {
            bool passes = v[i] >= bound;
            if (passes && to < OWN_MOST) own[to] = v[i];
            to += passes;
        }
    }
    cluster_arrive();
    cluster_wait();
    cluster_lists l = sizes_of(s, n_part, OWN_MOST);
    if (!fits || !l.fits) { /* equals without number, or NaN: the same for all of the cluster */
        cluster_arrive();
        cluster_wait();
        if (part == 0) select_stretch<false>(a, row, 0, 1, memory, capacity, map_words);
        return;
    }
    read_lists(l, own, list, s);
    cluster_arrive(); /* the others' lists have been read; nobody leaves before all of them are */
    __syncthreads();
    uint32_t cut = kth_of_list(list, l.total, wanted, bound, s.most, bins, s, &above);

    /* above the cut in the lower half of a number, equal to it in the upper: before this block, then in it */
    int quota = wanted - above, ignore;
    count_sides(list, __shfl_sync(0xffffffffu, l.up_to - l.have, part), cut, s);
    int up[HELD / 4], mine = 0;
#pragma unroll
    for (int i = 0; i < HELD / 4; i++) {
        up[i] = 0;
#pragma unroll
        for (int e = 0; e < 4; e++) up[i] += (v[i * 4 + e] > cut) + ((v[i * 4 + e] == cut) << 16);
        mine += up[i];
    }
    int base = __shfl_sync(0xffffffffu, block_scan(mine, s, &ignore), 0) + s.earlier; /* there since the scan's barriers */
    int32_t *position = a.position + (int64_t)row * wanted;
#pragma unroll
    for (int i = 0; i < HELD / 4; i++) {
        int sum = warp_scan(up[i]), to = base + sum - up[i];
        base += __shfl_sync(0xffffffffu, sum, 31);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            bool over = v[i * 4 + e] > cut, same = v[i * 4 + e] == cut;
            int overs = to & 0xffff, sames = to >> 16;
            if (over || (same && sames < quota))
                position[overs + (sames < quota ? sames : quota)] = at + i * 128 + e;
            to += over + (same << 16);
        }
    }
    if (part == 0 && threadIdx.x == 0) a.count[row] = wanted;
    cluster_wait();
}

cudaError_t v32_topk_launch(const v32_topk *a, cudaStream_t stream) {
    if (a->n_row < 1) return cudaSuccess;
    if (a->n_select < 1 || a->n_select > V32_TOPK_MOST || a->score_stride % 4 || (a->moved ? a->reach : a->n_key) > MOST_KEYS ||
        a->threads < 0 || a->threads % 128 || a->threads > 1024 || a->parts < 0 || a->parts > 8)
        return cudaErrorNotSupported;
    int device, n_sm, major;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&n_sm, cudaDevAttrMultiProcessorCount, device);
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    if (error != cudaSuccess) return error;
    int capacity = 2 * a->n_select > SAMPLE / 2 ? 2 * a->n_select : SAMPLE / 2;
    int64_t sees = a->pos0 + (int64_t)(a->n_row - 1) * a->row_step + 1;
    if (sees > a->n_key) sees = a->n_key;
    if (a->moved) sees = a->reach;
    int parts = a->parts ? a->parts
                : a->n_row <= HELD_ROWS ? 8 : a->n_row <= FOURS_ROWS ? 4 : a->n_row <= TWOS_ROWS ? 2 : 1;
    int threads = a->threads ? a->threads : a->n_row > n_sm ? 512 : 1024;
    bool held = parts == 8 && a->n_select <= threads * parts && sees <= (int64_t)threads * HELD * parts;
    if (major < 9 || (parts == 8 && !held)) parts = 1;
    int64_t stretch = held || parts == 1 ? sees : (sees + parts - 1) / parts + 127; /* a held row may end with one block */
    int map_words = (int)((stretch + 31) / 32 + 3) / 4 * 4, whole_words = (int)((sees + 31) / 32 + 3) / 4 * 4;
    size_t shared = STATE_BYTES + (size_t)BINS * 4 + (size_t)whole_words * 8 + (size_t)capacity * 8;
    if (parts == 1) {
        error = cudaFuncSetAttribute(topk_rows, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
        if (error != cudaSuccess) return error;
        V32_LAUNCH(topk_rows, a->n_row, threads, shared, stream, *a, capacity, map_words);
        return cudaGetLastError();
    }
    size_t lists = held ? STATE_BYTES + (size_t)(BINS + OWN_MOST + LIST_MOST) * 4
                        : STATE_BYTES + (size_t)(BINS + 2 * map_words + 2 * capacity + LIST_MOST) * 4;
    if (shared < lists) shared = lists;
    if (held) {
        error = cudaFuncSetAttribute(topk_held, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
        if (error != cudaSuccess) return error;
        return V32_LAUNCH_CLUSTER(topk_held, a->n_row * parts, parts, threads, shared, stream, *a, parts, capacity, map_words);
    }
    error = cudaFuncSetAttribute(topk_stretches, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    if (error != cudaSuccess) return error;
    return V32_LAUNCH_CLUSTER(topk_stretches, a->n_row * parts, parts, threads, shared, stream, *a, parts, capacity,
                              map_words, whole_words);
}
