/* route.cu - choice of experts: a warp has a token. The rules, those for ties and NaNs too, are cpu/route.c's. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device.cuh"

#include <cmath>

static __device__ __forceinline__ bool better(float x, float y) {
    return x > y || (isnan(y) && !isnan(x));
}

/* The best of n values not yet taken, the first of equals, for the whole warp. -1 where all are taken. */
static __device__ int best_free(const float *v, const unsigned char *taken, int n) {
    int lane = threadIdx.x, best = -1;
    float value = 0.0f;
    for (int i = lane; i < n; i += 32)
        if (!taken[i] && (best < 0 || better(v[i], value))) best = i, value = v[i];
    for (int d = 16; d; d >>= 1) {
        int other = __shfl_xor_sync(0xffffffffu, best, d);
        float other_value = __shfl_xor_sync(0xffffffffu, value, d);
        if (other < 0) continue;
        bool equal = !better(other_value, value) && !better(value, other_value);
        if (best < 0 || better(other_value, value) || (equal && other < best)) best = other, value = other_value;
    }
    return best;
}

static __device__ float two_best(const float *v, int n) {
    float first = v[0];
    if (n == 1) return first;
    float second = v[1];
    if (better(second, first)) {
        float t = first;
        first = second;
        second = t;
    }
    for (int i = 2; i < n; i++) {
        if (better(v[i], first)) {
            second = first;
            first = v[i];
        } else if (better(v[i], second))
            second = v[i];
    }
    return first + second;
}

static __global__ void route_tokens(kern_route a) {
    launch_next();
    wait_before();
    extern __shared__ float memory[];
    int n = a.n_expert, n_group = a.n_group > 0 ? a.n_group : 1, per_group = n / n_group, lane = threadIdx.x;
    int64_t t = blockIdx.x;
    float *sigmoid = memory, *choice = sigmoid + n, *group = choice + n;
    unsigned char *taken = reinterpret_cast<unsigned char *>(group + n_group), *group_taken = taken + n;
    for (int e = lane; e < n; e += 32) {
        sigmoid[e] = 1.0f / (1.0f + expf(-a.logits[t * n + e]));
        choice[e] = a.bias ? sigmoid[e] + a.bias[e] : sigmoid[e];
        taken[e] = 0;
    }
    __syncwarp();
    if (n_group > 1 && a.n_group_pick < n_group) {
        for (int g = lane; g < n_group; g += 32) {
            group[g] = two_best(choice + g * per_group, per_group);
            group_taken[g] = 0;
        }
        __syncwarp();
        for (int i = 0; i < a.n_group_pick; i++) {
            int g = best_free(group, group_taken, n_group);
            if (lane == 0) group_taken[g] = 1;
            __syncwarp();
        }
        for (int e = lane; e < n; e += 32) taken[e] = !group_taken[e / per_group];
        __syncwarp();
    }
    float sum = 0.0f;
    for (int i = 0; i < a.n_pick; i++) {
        int e = best_free(choice, taken, n);
        if (lane == 0) {
            taken[e] = 1;
            a.expert[t * a.n_pick + i] = e;
            a.weight[t * a.n_pick + i] = sigmoid[e];
        }
        sum += sigmoid[e];
        __syncwarp();
    }
    for (int i = lane; i < a.n_pick; i += 32) {
        float w = a.weight[t * a.n_pick + i];
        if (a.normalise) w /= sum;
        a.weight[t * a.n_pick + i] = w * a.scale;
    }
}

/* Greater choice scores are greater numbers, the two zeros are one, NaN is 0: `better` as a comparison of integers, so
 * that the best of a warp is one instruction. */
static __device__ __forceinline__ uint32_t order_of(float x) {
    uint32_t u = __float_as_uint(__fadd_rn(x, 0.0f));
    return isnan(x) ? 0u : u & 0x80000000u ? ~u : u | 0x80000000u;
}
static __device__ __forceinline__ float value_of(uint32_t order) {
    return __uint_as_float(!order ? 0x7fc00000u : order & 0x80000000u ? order & 0x7fffffffu : ~order);
}

/* The same where each lane can hold its experts' choice scores, lane + 32 j, and a group is one j of all lanes, or there
 * are no groups: V3.2's 256 experts in 8 groups. */
enum { HELD = 8 };

static __global__ void route_held(kern_route a) {
    launch_next();
    wait_before();
    __shared__ float sigmoid[32 * HELD];
    int n = a.n_expert, n_held = n / 32, lane = threadIdx.x;
    int64_t t = blockIdx.x;
    uint32_t choice[HELD], open = 0; /* bit j: this lane's may still be picked */
#pragma unroll
    for (int j = 0; j < HELD; j++) {
        choice[j] = 0;
        if (j >= n_held) continue;
        int e = lane + 32 * j;
        float v = 1.0f / (1.0f + expf(-a.logits[t * n + e]));
        sigmoid[e] = v;
        choice[j] = order_of(a.bias ? v + a.bias[e] : v);
        open |= 1u << j;
    }
    __syncwarp();
    if (a.n_group > 1 && a.n_group_pick < a.n_group) {
        uint32_t mine = 0; /* lane g: group g's two best */
#pragma unroll
        for (int j = 0; j < HELD; j++) {
            uint32_t first = __reduce_max_sync(0xffffffffu, choice[j]);
            int at = __ffs(__ballot_sync(0xffffffffu, choice[j] == first)) - 1;
            uint32_t second = __reduce_max_sync(0xffffffffu, lane == at ? 0 : choice[j]);
            if (lane == j) mine = order_of(value_of(first) + value_of(second));
        }
        int rank = 0; /* of equals the first */
#pragma unroll
        for (int g = 0; g < HELD; g++) {
            uint32_t other = __shfl_sync(0xffffffffu, mine, g);
            rank += g < a.n_group && (other > mine || (other == mine && g < lane));
        }
        open &= __ballot_sync(0xffffffffu, lane < a.n_group && rank < a.n_group_pick);
    }
    float sum = 0.0f, weight = 0.0f;
    int expert = 0;
#pragma unroll 1
    for (int i = 0; i < a.n_pick; i++) {
        uint32_t most = 0;
        int own = -1; /* the first of this lane's best; what is closed is no candidate, a NaN is the last */
#pragma unroll
        for (int j = 0; j < HELD; j++) {
            bool take = (open >> j & 1u) && (own < 0 || choice[j] > most);
            most = take ? choice[j] : most;
            own = take ? j : own;
        }
        uint32_t best = __reduce_max_sync(0xffffffffu, own < 0 ? 0 : most);
        uint32_t number = own >= 0 && most == best ? (uint32_t)(lane + 32 * own) : 0xffffffffu;
        number = __reduce_min_sync(0xffffffffu, number);
        if ((number & 31u) == (uint32_t)lane) open &= ~(1u << (number >> 5));
        float s = sigmoid[number];
        sum += s;
        if (lane == i) expert = (int)number, weight = s;
    }
    if (lane >= a.n_pick) return;
    a.expert[t * a.n_pick + lane] = expert;
    a.weight[t * a.n_pick + lane] = (a.normalise ? weight / sum : weight) * a.scale;
}

void cuda_route(kern *k, const kern_route *a) {
    if (a->n_tok < 1) return;
    int n_group = a->n_group > 0 ? a->n_group : 1;
    bool fits = a->n_expert % 32 == 0 && a->n_expert <= 32 * HELD && a->n_pick <= 32;
    if (fits && (n_group == 1 || a->n_expert == 32 * n_group)) {
        launch_early(cuda_early(k), route_held, a->n_tok, 32, 0, cuda_stream(k), *a);
        cuda_launched(k, "route");
        return;
    }
    size_t shared = (size_t)(2 * a->n_expert + n_group) * sizeof(float) + (size_t)(a->n_expert + n_group);
    cuda_allow_shared(k, reinterpret_cast<const void *>(&route_tokens), shared);
    launch_early(cuda_early(k), route_tokens, a->n_tok, 32, shared, cuda_stream(k), *a);
    cuda_launched(k, "route");
}
