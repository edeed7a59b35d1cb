/* rows.cu - operations on rows of activations: norms, RoPE, Hadamard, SwiGLU, additions. One block or warp has a row,
 * so that a row's bits do not depend on its company. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device.cuh"

enum { NORM_THREADS = 128 };

/* The sum over a block of NORM_THREADS, for every thread; `shared` has room for 4 floats. */
static __device__ __forceinline__ float block_sum(float x, float *shared) {
    x = warp_sum(x);
    __syncthreads();
    if ((threadIdx.x & 31) == 0) shared[threadIdx.x >> 5] = x;
    __syncthreads();
    return (shared[0] + shared[1]) + (shared[2] + shared[3]);
}

/* A thread asks for all of its MOST elements and their weights at once: a row alone waits for memory twice. */
template <int MOST> static __global__ void __launch_bounds__(NORM_THREADS) rmsnorm_rows(kern_rmsnorm a) {
    __shared__ float shared[4];
    const float *x = a.x + blockIdx.x * a.x_stride;
    float *y = a.y + blockIdx.x * a.y_stride, sum = 0.0f, v[MOST], weight[MOST];
    launch_next();
#pragma unroll
    for (int j = 0; j < MOST; j++) {
        int i = j * NORM_THREADS + threadIdx.x;
        weight[j] = i < a.dim ? a.weight[i] : 0.0f;
    }
    wait_before();
#pragma unroll
    for (int j = 0; j < MOST; j++) {
        int i = j * NORM_THREADS + threadIdx.x;
        v[j] = i < a.dim ? x[i] : 0.0f;
    }
#pragma unroll
    for (int j = 0; j < MOST; j++) sum = __fmaf_rn(v[j], v[j], sum); /* zeros change nothing */
    float factor = 1.0f / sqrtf(block_sum(sum, shared) / (float)a.dim + a.eps);
#pragma unroll
    for (int j = 0; j < MOST; j++) {
        int i = j * NORM_THREADS + threadIdx.x;
        if (i < a.dim) y[i] = v[j] * factor * weight[j];
    }
}

/* Rows of any length: the same steps. */
static __global__ void __launch_bounds__(NORM_THREADS) rmsnorm_long_rows(kern_rmsnorm a) {
    launch_next();
    wait_before();
    __shared__ float shared[4];
    const float *x = a.x + blockIdx.x * a.x_stride;
    float *y = a.y + blockIdx.x * a.y_stride, sum = 0.0f;
    for (int i = threadIdx.x; i < a.dim; i += NORM_THREADS) sum = __fmaf_rn(x[i], x[i], sum);
    float factor = 1.0f / sqrtf(block_sum(sum, shared) / (float)a.dim + a.eps);
    for (int i = threadIdx.x; i < a.dim; i += NORM_THREADS) y[i] = x[i] * factor * a.weight[i];
}

void cuda_rmsnorm(kern *k, const kern_rmsnorm *a) {
    if (a->n_tok < 1) return;
    cudaStream_t stream = cuda_stream(k);
    if (a->dim <= 4 * NORM_THREADS)
        launch_early(cuda_early(k), rmsnorm_rows<4>, a->n_tok, NORM_THREADS, 0, stream, *a);
    else if (a->dim <= 16 * NORM_THREADS)
        launch_early(cuda_early(k), rmsnorm_rows<16>, a->n_tok, NORM_THREADS, 0, stream, *a);
    else if (a->dim <= 64 * NORM_THREADS)
        launch_early(cuda_early(k), rmsnorm_rows<64>, a->n_tok, NORM_THREADS, 0, stream, *a);
    else
        launch_early(cuda_early(k), rmsnorm_long_rows, a->n_tok, NORM_THREADS, 0, stream, *a);
    cuda_launched(k, "rmsnorm");
}

static __global__ void __launch_bounds__(NORM_THREADS) layernorm_rows(kern_layernorm a) {
    launch_next();
    wait_before();
    __shared__ float shared[4];
    const float *x = a.x + (int64_t)blockIdx.x * a.dim;
    float *y = a.y + (int64_t)blockIdx.x * a.dim, sum = 0.0f, square = 0.0f;
    for (int i = threadIdx.x; i < a.dim; i += NORM_THREADS) sum += x[i];
    float mean = block_sum(sum, shared) / (float)a.dim;
    for (int i = threadIdx.x; i < a.dim; i += NORM_THREADS) square = __fmaf_rn(x[i] - mean, x[i] - mean, square);
    float factor = 1.0f / sqrtf(block_sum(square, shared) / (float)a.dim + a.eps);
    for (int i = threadIdx.x; i < a.dim; i += NORM_THREADS)
        y[i] = (x[i] - mean) * factor * a.weight[i] + a.bias[i];
}

void cuda_layernorm(kern *k, const kern_layernorm *a) {
    if (a->n_tok < 1) return;
    launch_early(cuda_early(k), layernorm_rows, a->n_tok, NORM_THREADS, 0, cuda_stream(k), *a);
    cuda_launched(k, "layernorm");
}

/* A thread has one pair of up to ROPE_HEADS heads. The angle is the fp32 product, as in the reference; its sine and
 * cosine are taken in double precision and rounded, as in cpu/rope.c. */
enum { ROPE_HEADS = 8 };

static __global__ void rope_pairs(kern_rope a, int head_groups, const int64_t *moved) {
    launch_next();
    wait_before();
    int n = a.n_rot / 2;
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    int pair = (int)(i % n);
    i /= n;
    int h0 = (int)(i % head_groups) * ROPE_HEADS;
    int64_t t = i / head_groups;
    if (t >= a.n_tok) return;
    float angle = __fmul_rn((float)(a.pos0 + moved_by(moved) + t), a.freq[pair]);
    double sine, cosine;
    sincos((double)angle, &sine, &cosine);
    float s = (float)sine, c = (float)cosine;
    bool split = a.layout == KERN_ROPE_HALF_SPLIT;
    int first = split ? pair : 2 * pair, second = split ? pair + n : first + 1;
    for (int h = h0; h < h0 + ROPE_HEADS && h < a.n_head; h++) {
        float *x = a.x + t * a.tok_stride + h * a.head_stride;
        float low = x[first], high = x[second];
        x[first] = __fsub_rn(__fmul_rn(low, c), __fmul_rn(high, s));
        x[second] = __fadd_rn(__fmul_rn(low, s), __fmul_rn(high, c));
    }
}

void cuda_rope(kern *k, const kern_rope *a) {
    int n_pair = a->n_rot / 2;
    if (n_pair < 1 || a->n_tok < 1 || a->n_head < 1) return;
    int groups = (a->n_head + ROPE_HEADS - 1) / ROPE_HEADS;
    launch_early(cuda_early(k), rope_pairs, cuda_blocks((int64_t)a->n_tok * groups * n_pair, 128), 128, 0, cuda_stream(k), *a,
                 groups, cuda_moved(k));
    cuda_launched(k, "rope");
}

/* The butterflies in the order of cpu/rows_body.h, so that the sums are the same to the bit. */
static __global__ void hadamard_rows(kern_hadamard a) {
    launch_next();
    wait_before();
    extern __shared__ float row[];
    float *x = a.x + (int64_t)blockIdx.x * a.dim;
    for (int i = threadIdx.x; i < a.dim; i += blockDim.x) row[i] = x[i];
    __syncthreads();
    for (int half = 1; half < a.dim; half *= 2) {
        for (int i = threadIdx.x; i < a.dim / 2; i += blockDim.x) {
            int j = i / half * 2 * half + i % half;
            float low = row[j], high = row[j + half];
            row[j] = low + high;
            row[j + half] = low - high;
        }
        __syncthreads();
    }
    float factor = 1.0f / sqrtf((float)a.dim);
    for (int i = threadIdx.x; i < a.dim; i += blockDim.x) x[i] = row[i] * factor;
}

void cuda_hadamard(kern *k, const kern_hadamard *a) {
    if (a->n_row < 1) return;
    size_t shared = (size_t)a->dim * sizeof(float);
    int threads = a->dim / 2 < 32 ? 32 : a->dim / 2 > 512 ? 512 : a->dim / 2;
    cuda_allow_shared(k, reinterpret_cast<const void *>(&hadamard_rows), shared);
    launch_early(cuda_early(k), hadamard_rows, (unsigned)a->n_row, threads, shared, cuda_stream(k), *a);
    cuda_launched(k, "hadamard");
}

static __global__ void swiglu_elements(kern_swiglu a) {
    launch_next();
    wait_before();
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= a.n) return;
    float gate = a.gate[i];
    a.y[i] = gate / (1.0f + expf(-gate)) * a.up[i];
}

void cuda_swiglu(kern *k, const kern_swiglu *a) {
    if (a->n < 1) return;
    launch_early(cuda_early(k), swiglu_elements, cuda_blocks(a->n, 256), 256, 0, cuda_stream(k), *a);
    cuda_launched(k, "swiglu");
}

static __global__ void add_elements(kern_add a) {
    launch_next();
    wait_before();
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (int64_t)a.n_tok * a.dim) return;
    float scale = a.scale ? a.scale[i / a.dim] : 1.0f;
    a.y[i] = __fadd_rn(a.y[i], __fmul_rn(a.x[i], scale));
}

void cuda_add(kern *k, const kern_add *a) {
    int64_t n = (int64_t)a->n_tok * a->dim;
    if (n < 1) return;
    launch_early(cuda_early(k), add_elements, cuda_blocks(n, 256), 256, 0, cuda_stream(k), *a);
    cuda_launched(k, "add");
}

template <int MOST> static __global__ void sum_elements(kern_sum a) {
    launch_next();
    wait_before();
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= a.n) return;
    float part[MOST];
#pragma unroll
    for (int p = 0; p < MOST; p++) part[p] = p < a.n_part ? a.parts[p * a.stride + i] : 0.0f;
#pragma unroll
    for (int apart = 1; apart < MOST; apart *= 2)
#pragma unroll
        for (int p = 0; p + apart < MOST; p += 2 * apart)
            if (p + apart < a.n_part) part[p] = __fadd_rn(part[p], part[p + apart]);
    a.y[i] = a.accumulate ? __fadd_rn(a.y[i], part[0]) : part[0];
}

void cuda_sum(kern *k, const kern_sum *a) {
    if (a->n < 1) return;
    int blocks = cuda_blocks(a->n, 256);
    if (a->n_part <= 2) launch_early(cuda_early(k), sum_elements<2>, blocks, 256, 0, cuda_stream(k), *a);
    else launch_early(cuda_early(k), sum_elements<16>, blocks, 256, 0, cuda_stream(k), *a);
    cuda_launched(k, "sum");
}
