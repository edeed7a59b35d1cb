/* experts.cu - routed and shared experts as products grouped by expert. The (token, pick) pairs are listed by expert on
 * the device, so that the host never waits; a token's sum is then the tree of kern_experts. A shared expert is one more
 * pick of every token, so that it needs no launches of its own. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device.cuh"

enum { MOST_EXPERTS = EXPERT_POINTERS, MOST_PICKS = 64, BRANCHES = 8, PICKS_AT_ONCE = 10, MANY_PAIRS = 1024 };

/* Which experts are here: first + i * step, for i < n, then the shared ones; and what tokens pick. */
struct experts_here {
    int first, step, n, n_shared;
    const int32_t *expert; /* [n_tok, n_pick] */
    int n_pick, n_routed;
    int64_t pos0;          /* of token 0, but for `moved` */
    const int64_t *moved;
};

/* A token's pick number p: the routed ones, then the shared ones. */
struct pick {
    int number; /* of the expert; shared ones follow the routed ones */
    int branch; /* of the sum */
    int entry;  /* -1: not here */
};
static __device__ __forceinline__ pick pick_of(const experts_here &h, int64_t t, int p) {
    if (p >= h.n_pick) {
        int j = p - h.n_pick;
        int64_t turn = h.pos0 + moved_by(h.moved) + t + j;
        return {h.n_routed + j, (int)(turn % BRANCHES), turn % h.step == h.first ? h.n + j : -1};
    }
    int number = h.expert[t * h.n_pick + p], i = (number - h.first) / h.step;
    bool here = number >= h.first && i < h.n && h.first + i * h.step == number;
    return {number, number % BRANCHES, here ? i : -1};
}

/* Sum of `mine` over the threads of a block of 1024 before this one. All threads call it. */
static __device__ int sum_before(int mine, int *warp_sum) {
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, sum = mine;
    for (int d = 1; d < 32; d <<= 1) {
        int v = __shfl_up_sync(0xffffffffu, sum, d);
        if (lane >= d) sum += v;
    }
    __syncthreads(); /* warp_sum may still be read */
    if (lane == 31) warp_sum[warp] = sum;
    __syncthreads();
    int part = warp_sum[lane], total = part;
    for (int d = 1; d < 32; d <<= 1) {
        int v = __shfl_up_sync(0xffffffffu, part, d);
        if (lane >= d) part += v;
    }
    return __shfl_sync(0xffffffffu, part - total, warp) + sum - mine;
}

/* The list: pairs of entry e stand at start[e] .. start[e + 1], of few tokens in ascending order of the token, of many in any
 * order (a row's bits do not depend on its place); those of an expert that is not here have no place. Then which expert and
 * which rows each tile has; the tiles that are left over have none. One block of 1024; a thread has an expert, then a warp an
 * expert at a time, or a thread a pair. */
static __global__ void __launch_bounds__(1024) list_pairs(experts_here here, int n_pair, int32_t *entry, int32_t *start,
                                                          int32_t *list, int32_t *place, int tile_rows,
                                                          int32_t *tile_expert, int32_t *tile_first, int n_tile) {
    launch_next();
    wait_before();
    __shared__ int count[MOST_EXPERTS], first[MOST_EXPERTS + 1], warp_sum[32];
    int mine = threadIdx.x, lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    int n_expert = here.n + here.n_shared, n_pick = here.n_pick + here.n_shared;
    if (mine < n_expert) count[mine] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < n_pair; i += blockDim.x) {
        int e = entry[i] = pick_of(here, i / n_pick, i % n_pick).entry;
        if (e >= 0) atomicAdd(&count[e], 1);
    }
    __syncthreads();
    int rows = mine < n_expert ? count[mine] : 0, at = sum_before(rows, warp_sum);
    if (mine <= n_expert) start[mine] = first[mine] = at;
    int tiles = (rows + tile_rows - 1) / tile_rows, tile = sum_before(tiles, warp_sum);
    for (int i = 0; i < tiles; i++) {
        tile_expert[tile + i] = mine;
        tile_first[tile + i] = at + i * tile_rows;
    }
    if (mine == n_expert) count[0] = tile; /* all tiles; the counts are no longer needed ... */
    __syncthreads();                       /* ... and the firsts are there */
    for (int i = count[0] + (int)threadIdx.x; i < n_tile; i += blockDim.x) tile_expert[i] = -1;
    if (n_pair > MANY_PAIRS) { /* a warp an expert would read all of them for each */
        for (int i = threadIdx.x; i < n_pair; i += blockDim.x) {
            int e = entry[i];
            if (e < 0) continue;
            int place_of = atomicAdd(&first[e], 1);
            list[place_of] = i / n_pick;
            place[i] = place_of;
        }
        return;
    }
    for (int e = warp; e < n_expert; e += warps) {
        int to = first[e];
        if (first[e + 1] == to) continue;
        for (int from = 0; from < n_pair; from += 32) {
            int i = from + lane;
            bool its = i < n_pair && entry[i] == e;
            unsigned mask = __ballot_sync(0xffffffffu, its);
            if (its) {
                int place_of = to + __popc(mask & ((1u << lane) - 1u));
                list[place_of] = i / n_pick;
                place[i] = place_of;
            }
            to += __popc(mask);
        }
    }
}

/* gate = silu(gate) * up, of the rows that are there: start[n_expert] of them. */
static __global__ void swiglu_rows(float *gate, const float *up, int width, const int32_t *start, int n_expert) {
    launch_next();
    wait_before();
    int64_t n = (int64_t)start[n_expert] * width;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (int64_t)gridDim.x * blockDim.x) {
        float g = gate[i];
        gate[i] = g / (1.0f + expf(-g)) * up[i];
    }
}

/* y[t] += the tree over the picks' rows: within a branch the lower number first; what is not here is left out. */
static __global__ void gather_sum(experts_here here, const float *weight, const int32_t *place, const float *rows, float *y,
                                  int hidden) {
    launch_next();
    wait_before();
    __shared__ int branch[MOST_PICKS], row[MOST_PICKS]; /* by number; a row of -1 is not here */
    __shared__ float factor[MOST_PICKS];
    int64_t t = blockIdx.x;
    int n_pick = here.n_pick + here.n_shared, p = threadIdx.x;
    if (p < n_pick) {
        pick mine = pick_of(here, t, p);
        int before = 0;
        for (int i = 0; i < here.n_pick; i++) before += here.expert[t * here.n_pick + i] < mine.number;
        if (p > here.n_pick) before += p - here.n_pick;
        branch[before] = mine.branch;
        row[before] = mine.entry < 0 ? -1 : place[t * n_pick + p];
        factor[before] = p < here.n_pick ? weight[t * here.n_pick + p] : 1.0f;
    }
    __syncthreads();
    int d = blockIdx.y * blockDim.x + threadIdx.x;
    if (d >= hidden) return;
    float c[BRANCHES] = {}, before = y[t * hidden + d];
    for (int first = 0; first < n_pick; first += PICKS_AT_ONCE) {
        float v[PICKS_AT_ONCE];
#pragma unroll
        for (int i = 0; i < PICKS_AT_ONCE; i++) {
            bool in = first + i < n_pick && row[first + i] >= 0;
            v[i] = in ? rows[(int64_t)row[first + i] * hidden + d] : 0.0f;
        }
#pragma unroll
        for (int i = 0; i < PICKS_AT_ONCE; i++) {
            if (first + i >= n_pick || row[first + i] < 0) continue;
            float add = __fmul_rn(v[i], factor[first + i]);
#pragma unroll
            for (int b = 0; b < BRANCHES; b++) /* 0 changes nothing: no branch is ever -0 */
                c[b] = __fadd_rn(c[b], branch[first + i] == b ? add : 0.0f);
        }
    }
    float even = __fadd_rn(__fadd_rn(c[0], c[4]), __fadd_rn(c[2], c[6]));
    float odd = __fadd_rn(__fadd_rn(c[1], c[5]), __fadd_rn(c[3], c[7]));
    y[t * hidden + d] = __fadd_rn(before, __fadd_rn(even, odd));
}

static expert_pointers pointers_of(const kern_matrix *const *w, int n) {
    expert_pointers p;
    for (int e = 0; e < n; e++) p.w[e] = cuda_ref(w[e]);
    return p;
}

static unsigned char *take(unsigned char **at, size_t bytes) {
    unsigned char *p = *at;
    *at += (bytes + 255) / 256 * 256;
    return p;
}

static void run_tokens(kern *k, const kern_experts *a) {
    cudaStream_t stream = cuda_stream(k);
    bool early = cuda_early(k);
    int n_pair = a->n_tok * (a->n_pick + a->n_shared), n_routed = a->n_routed ? a->n_routed : a->n_expert;
    int n_expert = a->n_expert + a->n_shared;
    experts_here here = {};
    here.first = a->first, here.step = a->step ? a->step : 1, here.n = a->n_expert, here.n_shared = a->n_shared;
    here.expert = a->expert, here.n_pick = a->n_pick, here.n_routed = n_routed;
    here.pos0 = a->pos0, here.moved = cuda_moved(k);
    /* Small tiles while an expert has few rows on average: most of a large one would be empty. */
    int tile_rows = a->gate[0]->type == KERN_F32 || a->n_tok * a->n_pick < 48 * n_routed ? 16 : 128;
    int n_tile = n_pair / tile_rows + (n_pair < n_expert ? n_pair : n_expert);
    unsigned char *at = cuda_state_of(k)->work;
    int32_t *start = reinterpret_cast<int32_t *>(take(&at, (size_t)(n_expert + 1) * 4));
    int32_t *entry = reinterpret_cast<int32_t *>(take(&at, (size_t)n_pair * 4));
    int32_t *list = reinterpret_cast<int32_t *>(take(&at, (size_t)n_pair * 4));
    int32_t *place = reinterpret_cast<int32_t *>(take(&at, (size_t)n_pair * 4));
    int32_t *tile_expert = reinterpret_cast<int32_t *>(take(&at, (size_t)n_tile * 4));
    int32_t *tile_first = reinterpret_cast<int32_t *>(take(&at, (size_t)n_tile * 4));
    float *gate = reinterpret_cast<float *>(take(&at, (size_t)n_pair * a->width * 4));
    float *up = reinterpret_cast<float *>(take(&at, (size_t)n_pair * a->width * 4));
    /* x of gate and up is made ready where the rows of down will be */
    size_t x_room = cuda_grouped_room(a->gate[0], n_pair), rows_room = (size_t)n_pair * a->hidden * 4;
    float *rows = reinterpret_cast<float *>(take(&at, rows_room > x_room ? rows_room : x_room));
    expert_x of_x = {reinterpret_cast<unsigned char *>(rows), false, nullptr};
    expert_x of_down = {take(&at, cuda_grouped_room(a->down[0], n_pair)), false, nullptr};
    launch_early(early, list_pairs, 1, 1024, 0, stream, here, n_pair, entry, start, list, place, tile_rows, tile_expert, tile_first, n_tile);
    expert_tiles tiles = {tile_expert, tile_first, start, n_tile, a->n_tok < tile_rows ? a->n_tok : tile_rows, n_expert,
                          n_pair, false};
    expert_pointers w = pointers_of(a->gate, n_expert);
    const expert_pointers w_up = pointers_of(a->up, n_expert);
    if (!cuda_grouped_gated(k, &w, &w_up, a->gate[0], a->up[0], a->x, a->hidden, list, gate, a->width, &tiles, tile_rows)) {
        cuda_grouped_product(k, &w, a->gate[0], a->x, a->hidden, list, gate, a->width, &tiles, tile_rows, of_x);
        of_x.ready = a->gate[0]->segment == a->up[0]->segment;
        cuda_grouped_product(k, &w_up, a->up[0], a->x, a->hidden, list, up, a->width, &tiles, tile_rows, of_x);
        if (a->down[0]->type == KERN_FP8 && tile_rows == 128) of_down.up = up;
        else
            launch_early(early, swiglu_rows, cuda_blocks((int64_t)n_pair * a->width / here.step + 1, 256), 256, 0, stream, gate,
                     up, a->width, start, n_expert);
    }
    tiles.listed = true;
    w = pointers_of(a->down, n_expert);
    cuda_grouped_product(k, &w, a->down[0], gate, a->width, nullptr, rows, a->hidden, &tiles, tile_rows, of_down);
    launch_early(early, gather_sum, dim3(a->n_tok, cuda_blocks(a->hidden, 256)), 256, 0, stream, here, a->weight, place, rows, a->y, a->hidden);
    cuda_launched(k, "experts");
}

void cuda_experts(kern *k, const kern_experts *a) {
    size_t each = (size_t)(a->n_pick + a->n_shared) * ((size_t)(2 * a->width + a->hidden) * 4 + (size_t)a->width * 2 + 2048);
    int most = (int)((cuda_state_of(k)->work_bytes - CUDA_MANY_BYTES - ((size_t)1 << 20)) / each);
    if (most > 16384) most = 16384;
    if (most < 1 || a->n_expert + a->n_shared > MOST_EXPERTS || a->n_pick + a->n_shared > MOST_PICKS) { /* told by status */
        cuda_state *s = cuda_state_of(k);
        s->failed = cudaErrorInvalidValue;
        s->failed_in = "experts: more of them than the GPU code has room for";
        return;
    }
    for (int first = 0; first < a->n_tok; first += most) {
        kern_experts part = *a;
        part.n_tok = a->n_tok - first < most ? a->n_tok - first : most;
        part.expert += (int64_t)first * a->n_pick;
        part.weight += (int64_t)first * a->n_pick;
        part.x += (int64_t)first * a->hidden;
        part.y += (int64_t)first * a->hidden;
        part.pos0 += first;
        run_tokens(k, &part);
    }
}
