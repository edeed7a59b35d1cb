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

/* The same where each lane can hold its experts' choice scores, lane + 32 j, and a group is one j of all lanes, or there
 * are no groups: V3.2's 256 experts in 8 groups. */
enum { HELD = 8 };

static __global__ void route_held(kern_route a) {
    __shared__ float sigmoid[32 * HELD];
    int n = a.n_expert, n_held = n / 32, lane = threadIdx.x;
    int64_t t = blockIdx.x;
    float choice[HELD];
    uint32_t taken = ~0u; /* bit j of this lane's */
#pragma unroll
    for (int j = 0; j < HELD; j++) {
        choice[j] = 0.0f;
        if (j >= n_held) continue;
        int e = lane + 32 * j;
        float v = 1.0f / (1.0f + expf(-a.logits[t * n + e]));
        sigmoid[e] = v;
        choice[j] = a.bias ? v + a.bias[e] : v;
        taken &= ~(1u << j);
    }
    __syncwarp();
    if (a.n_group > 1 && a.n_group_pick < a.n_group) {
        float mine = 0.0f; /* lane g: group g's two best */
#pragma unroll
        for (int j = 0; j < HELD; j++) {
            float first = choice[j], second = __int_as_float(0x7fc00000); /* less than everything */
#pragma unroll
            for (int d = 16; d; d >>= 1) {
                float other = __shfl_xor_sync(0xffffffffu, first, d), next = __shfl_xor_sync(0xffffffffu, second, d);
                if (better(other, first)) {
                    second = better(next, first) ? next : first;
                    first = other;
                } else if (better(other, second))
                    second = other;
            }
            if (lane == j) mine = first + second;
        }
        int rank = 0; /* of equals the first */
        for (int g = 0; g < a.n_group; g++) {
            float other = __shfl_sync(0xffffffffu, mine, g);
            rank += better(other, mine) || (g < lane && !better(mine, other));
        }
        taken |= ~__ballot_sync(0xffffffffu, lane < a.n_group && rank < a.n_group_pick);
    }
    float sum = 0.0f, weight = 0.0f;
    int expert = 0;
    for (int i = 0; i < a.n_pick; i++) {
        int best = -1;
        float value = 0.0f;
#pragma unroll
        for (int j = 0; j < HELD; j++)
            if (!(taken >> j & 1u) && (best < 0 || better(choice[j], value))) best = lane + 32 * j, value = choice[j];
#pragma unroll
        for (int d = 16; d; d >>= 1) {
            int other = __shfl_xor_sync(0xffffffffu, best, d);
            float other_value = __shfl_xor_sync(0xffffffffu, value, d);
            bool equal = !better(other_value, value) && !better(value, other_value);
            bool take = other >= 0 && (best < 0 || better(other_value, value) || (equal && other < best));
            if (take) best = other, value = other_value;
        }
        if ((best & 31) == lane) taken |= 1u << (best >> 5);
        sum += sigmoid[best];
        if (lane == i) expert = best, weight = sigmoid[best];
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
        route_held<<<a->n_tok, 32, 0, cuda_stream(k)>>>(*a);
        cuda_launched(k, "route");
        return;
    }
    size_t shared = (size_t)(2 * a->n_expert + n_group) * sizeof(float) + (size_t)(a->n_expert + n_group);
    cuda_allow_shared(k, reinterpret_cast<const void *>(&route_tokens), shared);
    route_tokens<<<a->n_tok, 32, shared, cuda_stream(k)>>>(*a);
    cuda_launched(k, "route");
}
