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

void cuda_route(kern *k, const kern_route *a) {
    if (a->n_tok < 1) return;
    int n_group = a->n_group > 0 ? a->n_group : 1;
    size_t shared = (size_t)(2 * a->n_expert + n_group) * sizeof(float) + (size_t)(a->n_expert + n_group);
    cuda_allow_shared(k, reinterpret_cast<const void *>(&route_tokens), shared);
    route_tokens<<<a->n_tok, 32, shared, cuda_stream(k)>>>(*a);
    cuda_launched(k, "route");
}
