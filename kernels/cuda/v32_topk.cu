/* v32_topk.cu - the few thousand best of rows of some hundred thousand scores, exactly.
 *
 * Many rows: a block has a row and reads it once: a sample gives a bound a little below the wanted rank, one pass
 * collects what is not below it, and the exact cut is found among those, in shared memory. Where the bound misses (too
 * few or too many pass), counting passes over the row find the cut: slower, the same result. What is selected becomes a
 * bitmap, from which positions are written in order; equals at the cut are taken from the front.
 *
 * Fewer rows than multiprocessors: two to eight blocks, a cluster, share a row. Each collects from its stretch, reads the
 * lists of the others from their shared memory and finds the cut by itself.
 *
 * Where a cluster has room for the whole row, in registers and shared memory, it is read without a sample: of each block's
 * greatest of every sixteen scores the (wanted / blocks)th greatest is a bound that at least `wanted` scores pass.
 */
#include "kernels/cuda/v32_topk.cuh"

static __device__ __forceinline__ int scores_of_row(const v32_topk &a, int row) {
    int64_t moved = moved_by(a.moved), sees = a.pos0 + (int64_t)row * a.row_step + 1;
    return (int)(moved + (sees < a.n_key ? sees : a.n_key));
}
/* Everything, where no more than wanted is there. */
static __device__ __forceinline__ void select_all(const v32_topk &a, int row, int n) {
    for (int i = threadIdx.x; i < n; i += blockDim.x) a.position[(int64_t)row * a.n_select + i] = i;
    if (threadIdx.x == 0) a.count[row] = n;
}

/* What a block of a cluster has collected of its stretch, `have` orders with their places: the cut of all blocks' lists,
 * then the selected of the stretch in order. False, for all of a cluster, where the lists are of no use: too many, or not
 * enough. Shared memory as its callers have it; the maps are 0, and a barrier of the cluster has passed since the lists are
 * there. */
struct stretch {
    int part, n_part, begin, map_words;
    const uint32_t *orders, *places;
    uint32_t *list, *map, *equal;
    int *bins;
};
template <bool RAW> /* what is collected is scores as they are, none a NaN */
static __device__ bool select_of_cluster(const v32_topk &a, int row, const stretch &c, int own_most, uint32_t bound,
                                         uint32_t most, row_state &s) {
    int wanted = a.n_select, above, all;
    cluster_lists l = sizes_of(s, c.n_part, own_most);
    bool use = l.fits && l.total >= wanted;
    if (use) read_lists<RAW>(l, c.orders, c.list, c.n_part);
    arrive_after_block(); /* the others' lists have been read; nobody leaves before all of them are */
    if (!use) {
        cluster_wait();
        return false;
    }
    uint32_t cut = kth_of_list(c.list, l.total, wanted, bound, most, c.bins, s, &above);
    int own = __shfl_sync(0xffffffffu, l.have, c.part), first = before_part(l, c.part);
    count_sides(c.list, first, own, cut, s);
#pragma unroll 1
    for (int i = threadIdx.x; i < own; i += blockDim.x) {
        uint32_t v = RAW ? order_of_number(__uint_as_float(c.orders[i])) : c.orders[i], p = c.places[i];
        if (v >= cut) atomicOr((v == cut ? c.equal : c.map) + (p >> 5), 1u << (p & 31));
    }
    __syncthreads();
    int sames = s.earlier >> 16, quota = wanted - above; /* of equals, of the whole row */
    int to = (s.earlier & 0xffff) + (sames < quota ? sames : quota);
    quota = sames < quota ? quota - sames : 0;
    int each = (c.map_words + (int)blockDim.x - 1) / (int)blockDim.x, word = (int)threadIdx.x * each;
    int end = word + each < c.map_words ? word + each : c.map_words, mine = 0;
    if (s.same > quota) { /* the first of them */
#pragma unroll 1
        for (int i = word; i < end; i++) mine += __popc(c.equal[i]);
        int take = quota - block_scan(mine, s, &all);
#pragma unroll 1
        for (int i = word; i < end && take > 0; i++) {
            uint32_t bits = c.equal[i];
            while (__popc(bits) > take) bits &= ~(0x80000000u >> __clz(bits));
            take -= __popc(bits);
            c.map[i] |= bits;
        }
    } else
#pragma unroll 1
        for (int i = word; i < end; i++) c.map[i] |= c.equal[i];
    mine = 0;
#pragma unroll 1
    for (int i = word; i < end; i++) mine += __popc(c.map[i]);
    to += block_scan(mine, s, &all);
    int32_t *position = a.position + (int64_t)row * wanted;
#pragma unroll 1
    for (int i = word; i < end; i++) {
        uint32_t bits = c.map[i];
#pragma unroll 1
        for (; bits; bits &= bits - 1) position[to++] = c.begin + i * 32 + __ffs(bits) - 1;
    }
    if (c.part == 0 && threadIdx.x == 0) a.count[row] = wanted;
    cluster_wait();
    return true;
}

/* A row by one block, or by the n_part of a cluster, each a stretch. False, for all of a cluster, where the bound
 * missed. */
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
    if (threadIdx.x == 0) s.n = 0, s.most = 0, s.earlier = 0, s.same = 0;
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
    keep_most(most, &s.most);
    for (int i = threadIdx.x; i < map_words * 2; i += blockDim.x) map[i] = 0; /* equal too */
    __syncthreads();
    if (CLUSTER) {
        arrive_after_block();
        cluster_wait();
        bounds_of(s, n_part); /* the bound is the same in all of them */
        most = s.all_most;
        return select_of_cluster<false>(a, row, {part, n_part, begin, map_words, orders, places, list, map, equal, bins}, capacity,
                                 bound, most, s);
    }
    int have = s.n, n_equal = 0;
    uint32_t cut;
    bool collected = have >= wanted && have <= capacity;
    if (collected) cut = kth_of_list(orders, have, wanted, bound, s.most, bins, s, &above);
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
    int all, quota = wanted - above; /* of equals */
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
            places[to++] = (uint32_t)(i * 32 + __ffs(bits) - 1);
            bits &= bits - 1;
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < all; i += blockDim.x) position[i] = (int32_t)places[i];
    if (threadIdx.x == 0) a.count[row] = wanted;
    return true;
}

/* A row by one block of a cluster whose lists were of no use. Rare: code of its own, not in the others' way. */
static __device__ __attribute__((noinline)) void select_alone(const v32_topk &a, int row, unsigned char *memory, int capacity,
                                                             int map_words) {
    select_stretch<false>(a, row, 0, 1, memory, capacity, map_words);
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
        select_alone(a, row, memory, capacity, whole_words);
}

/* A row by a cluster of n_part blocks that hold it, each a stretch: n_piece loads of 16 bytes a thread, IN_REGISTERS of
 * them there and the rest in shared memory. */
template <int IN_REGISTERS>
static __global__ void __launch_bounds__(1024) topk_held(const v32_topk a, int n_part, int n_piece, int capacity,
                                                         int map_words, int whole_words) {
    V32_SHARED(memory);
    row_state &s = *reinterpret_cast<row_state *>(memory);
    int *bins = reinterpret_cast<int *>(memory + STATE_BYTES); /* [BINS] */
    uint32_t *orders = reinterpret_cast<uint32_t *>(bins + BINS), *places = orders + OWN_MOST, *list = places + OWN_MOST;
    uint32_t *map = list + LIST_MOST, *equal = map + map_words;
    float4 *rest = reinterpret_cast<float4 *>(equal + map_words) + threadIdx.x; /* [n_piece - IN_REGISTERS][threads] */
    int part = blockIdx.x % n_part, row = blockIdx.x / n_part, lane = threadIdx.x & 31, threads = (int)blockDim.x;
    int n = scores_of_row(a, row), wanted = a.n_select;
    if (n <= wanted) {
        if (part == 0) select_all(a, row, n);
        return;
    }
    int span = ((n + n_part - 1) / n_part + 127) / 128 * 128, begin = part * span;
    int len = n - begin < span ? (n > begin ? n - begin : 0) : span;
    const float *score = a.score + row * a.score_stride + begin;

    const float none = __uint_as_float(0x7fc00000u);
    float4 x[IN_REGISTERS];
    bool whole = len >= n_piece * threads * 4;
    auto ended = [&](float4 &v, int p) { /* what stands beyond the stretch is no score */
        if (whole) return;
        int left = len - p;
        if (left < 4) v.w = none;
        if (left < 3) v.z = none;
        if (left < 2) v.y = none;
        if (left < 1) v.x = none;
    };
#pragma unroll
    for (int i = 0; i < IN_REGISTERS; i++) {
        int p = (i * threads + (int)threadIdx.x) * 4;
        x[i] = p < len ? __ldg(reinterpret_cast<const float4 *>(score + p)) : make_float4(none, none, none, none);
    }
    constexpr bool REST = IN_REGISTERS == MOST_IN_REGISTERS;
#pragma unroll 1
    for (int i = IN_REGISTERS; REST && i < n_piece; i++) {
        int p = (i * threads + (int)threadIdx.x) * 4;
        copy_async16(rest + (i - IN_REGISTERS) * threads, score + (p < len ? p : 0), p < len);
    }
    copy_commit();
#pragma unroll 1
    for (int i = threadIdx.x; i < BINS; i += threads) bins[i] = 0;
#pragma unroll 1
    for (int i = threadIdx.x; i < map_words * 2; i += threads) map[i] = 0; /* equal too */
    if (threadIdx.x == 0) s.n = 0, s.most = 0, s.earlier = 0, s.same = 0;
    __syncthreads();

    /* the greatest of each group of loads: IN_REGISTERS is a multiple of GROUP, or all of them are there */
    auto most_of = [](const float4 &v) { return fmaxf(fmaxf(v.x, v.y), fmaxf(v.z, v.w)); };
    constexpr int HELD_GROUPS = (IN_REGISTERS + GROUP - 1) / GROUP, GROUPS = REST ? PIECES_MOST / GROUP : HELD_GROUPS;
    int n_group = (n_piece + GROUP - 1) / GROUP;
    float greatest[GROUPS];
#pragma unroll
    for (int j = 0; j < HELD_GROUPS; j++) {
        greatest[j] = none;
#pragma unroll
        for (int i = j * GROUP; i < (j + 1) * GROUP && i < IN_REGISTERS; i++) {
            ended(x[i], (i * threads + (int)threadIdx.x) * 4);
            greatest[j] = fmaxf(greatest[j], most_of(x[i]));
        }
    }
    auto there = [&](int i) {
        float4 v = rest[(i - IN_REGISTERS) * threads];
        ended(v, (i * threads + (int)threadIdx.x) * 4);
        return v;
    };
    copy_wait<0>(); /* this thread's own */
#pragma unroll
    for (int j = HELD_GROUPS; j < GROUPS; j++) {
        greatest[j] = none;
        if (j >= n_group) continue;
#pragma unroll 1
        for (int i = j * GROUP; i < (j + 1) * GROUP && i < n_piece; i++) greatest[j] = fmaxf(greatest[j], most_of(there(i)));
    }
    uint32_t most = 0, bound = 0;
#pragma unroll
    for (int j = 0; j < GROUPS; j++) {
        if (j >= n_group) continue;
        uint32_t order = order_of(greatest[j]);
        most = order > most ? order : most;
        atomicAdd(&bins[order >> 21], 1);
    }
    keep_most(most, &s.most);
    __syncthreads();
    int rank = (wanted + n_part - 1) / n_part;
    find_bin(bins, BINS, rank, s);
    bound = (uint32_t)s.bin << 21;
    if (s.above + s.in > rank + rank / 2 && bound) { /* their next eleven bits too */
        int left = rank - s.above;
        __syncthreads();
#pragma unroll 1
        for (int i = threadIdx.x; i < BINS; i += threads) bins[i] = 0;
        __syncthreads();
#pragma unroll
        for (int j = 0; j < GROUPS; j++) {
            uint32_t order = j < n_group ? order_of(greatest[j]) : 0;
            if (order >> 21 == bound >> 21) atomicAdd(&bins[order >> 10 & (BINS - 1)], 1);
        }
        __syncthreads();
        find_bin(bins, BINS, left, s);
        bound |= (uint32_t)s.bin << 10;
    }
    if (threadIdx.x == 0) s.bound = bound;
    arrive_after_block();
    cluster_wait();
    bounds_of(s, n_part);
    bound = s.all_bound, most = s.all_most;

    bool fits = bound > 0;
    if (bound < 0x00800000u) bound = 0x007fffffu; /* -infinity: below it is NaN alone */
    float least = score_of(bound);
    if (fits) {
        auto count = [&](const float4 &v) {
            return (one_if_not_below(v.x, least) + one_if_not_below(v.y, least)) +
                   (one_if_not_below(v.z, least) + one_if_not_below(v.w, least));
        };
        float counted = 0.0f;
#pragma unroll
        for (int i = 0; i < IN_REGISTERS; i++) counted += count(x[i]);
#pragma unroll 1
        for (int i = IN_REGISTERS; REST && i < n_piece; i++) counted += count(there(i));
        int mine = (int)counted;
        int sum = warp_scan(mine), to = 0;
        if (lane == 31 && sum > 0) to = atomicAdd(&s.n, sum);
        to = __shfl_sync(0xffffffffu, to, 31) + sum - mine;
        uint32_t *next = orders + to; /* its place OWN_MOST further on */
        auto keep = [&](const float4 &v, int i) {
            const float of[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
            for (int e = 0; e < 4; e++)
                if (of[e] >= least) {
                    next[0] = __float_as_uint(of[e]);
                    next[OWN_MOST] = (uint32_t)((i * threads + (int)threadIdx.x) * 4 + e);
                    next++;
                }
        };
        if (to + mine <= OWN_MOST) { /* otherwise s.n says so */
#pragma unroll
            for (int i = 0; i < IN_REGISTERS; i++) keep(x[i], i);
#pragma unroll 1
            for (int i = IN_REGISTERS; REST && i < n_piece; i++) keep(there(i), i);
        }
    } else if (threadIdx.x == 0)
        s.n = OWN_MOST + 1; /* equals without number, or NaN: the same for all of the cluster */
    arrive_after_block();
    cluster_wait();
    if (!select_of_cluster<true>(a, row, {part, n_part, begin, map_words, orders, places, list, map, equal, bins}, OWN_MOST, bound,
                           most, s) &&
        part == 0)
        select_alone(a, row, memory, capacity, whole_words);
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
    int parts = a->parts ? a->parts : parts_for(a->n_row);
    int threads = a->threads ? a->threads : a->n_row > n_sm || parts == 8 ? 512 : 1024;
    if (major < 9) parts = 1;
    int64_t stretch = parts == 1 ? sees : ((sees + parts - 1) / parts + 127) / 128 * 128;
    int n_piece = (int)((stretch + threads * 4 - 1) / (threads * 4)), n_group = (n_piece + GROUP - 1) / GROUP;
    bool held = parts > 1 && n_piece <= PIECES_MOST && (a->n_select + parts - 1) / parts <= threads * n_group;
    int map_words = (int)((stretch + 31) / 32 + 3) / 4 * 4, whole_words = (int)((sees + 31) / 32 + 3) / 4 * 4;
    size_t shared = STATE_BYTES + (size_t)BINS * 4 + (size_t)whole_words * 8 + (size_t)capacity * 8;
    if (parts == 1) {
        error = cudaFuncSetAttribute(topk_rows, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
        if (error != cudaSuccess) return error;
        V32_LAUNCH(topk_rows, a->n_row, threads, shared, stream, *a, capacity, map_words);
        return cudaGetLastError();
    }
    if (held) {
        bool four = n_piece <= 4, five = n_piece == 5;
        int in_registers = four ? 4 : five ? 5 : MOST_IN_REGISTERS, in_memory = n_piece > in_registers ? n_piece - in_registers : 0;
        size_t room = STATE_BYTES + (size_t)(BINS + 2 * OWN_MOST + LIST_MOST + 2 * map_words) * 4 +
                      (size_t)in_memory * threads * 16;
        if (shared < room) shared = room;
        auto kernel = four ? topk_held<4> : five ? topk_held<5> : topk_held<MOST_IN_REGISTERS>;
        error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
        if (error != cudaSuccess) return error;
        return V32_LAUNCH_CLUSTER(kernel, a->n_row * parts, parts, threads, shared, stream, *a, parts, n_piece, capacity,
                                  map_words, whole_words);
    }
    size_t room = STATE_BYTES + (size_t)(BINS + 2 * map_words + 2 * capacity + LIST_MOST) * 4;
    if (shared < room) shared = room;
    error = cudaFuncSetAttribute(topk_stretches, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    if (error != cudaSuccess) return error;
    return V32_LAUNCH_CLUSTER(topk_stretches, a->n_row * parts, parts, threads, shared, stream, *a, parts, capacity,
                              map_words, whole_words);
}
