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
