/* product_x16.cu - x made ready for products of many rows with FP8 matrices (product_many.cuh): fp16 over a power of two for
 * each row and segment, in the order and with the exchanges that the tensor cores' tiles have. */
#include "kernels/cuda/product_many.cuh"
#include "kernels/cuda/v32_device.cuh"

enum { PREPARE_WARPS = 8 };

static __device__ __forceinline__ float4 four_at(const product &p, const float *x, int c) {
    float4 v = make_float4(0, 0, 0, 0);
    if (p.vector) {
        if (c < p.cols) v = *reinterpret_cast<const float4 *>(x + c);
        return v;
    }
    if (c < p.cols) v.x = x[c];
    if (c + 1 < p.cols) v.y = x[c + 1];
    if (c + 2 < p.cols) v.z = x[c + 2];
    if (c + 3 < p.cols) v.w = x[c + 3];
    return v;
}
/* A block a row, a warp a segment. */
static __global__ void __launch_bounds__(PREPARE_WARPS * 32) prepare_rows(product p, int n_expert, many_rows out) {
    int64_t row = blockIdx.x;
    int lane = threadIdx.x & 31, in_tile;
    const float *x;
    if (n_expert) {
        if (row >= p.start[n_expert]) return;
        int low = 0, high = n_expert; /* start[low] <= row < start[high] */
        while (high - low > 1) {
            int middle = (low + high) / 2;
            if (p.start[middle] <= row) low = middle;
            else high = middle;
        }
        in_tile = (int)(row - p.start[low]);
        x = p.x + (p.list ? p.list[row] : row) * p.x_stride;
    } else {
        int64_t z = row / p.n_tok;
        in_tile = (int)(row - z * p.n_tok);
        x = p.x + z * p.x_step + in_tile * p.x_stride;
    }
    uint32_t turn = (uint32_t)(in_tile & 7) << 4;
    int padded = (p.cols + MANY_BLOCK - 1) / MANY_BLOCK * MANY_BLOCK;
    int n_segment = (p.cols + p.segment - 1) / p.segment;
    for (int segment = threadIdx.x >> 5; segment < n_segment; segment += PREPARE_WARPS) {
        int first = segment * p.segment, end = first + p.segment < padded ? first + p.segment : padded;
        uint32_t most = 0;
#pragma unroll 8
        for (int c = first + lane * 4; c < end; c += 128) most = most_bits(four_at(p, x, c), most);
        for (int d = 16; d; d >>= 1) {
            uint32_t other = __shfl_xor_sync(0xffffffffu, most, d);
            if (other > most) most = other;
        }
        float over = x_inverse(most);
        if (lane == 0) out.unit[segment * out.rows + row] = x_unit(most);
#pragma unroll 8
        for (int c = first + lane * 4; c < end; c += 128) {
            float4 v = four_at(p, x, c);
            int q = c >> 4 & 3, step = c >> 2 & 3;
            unsigned char *to = out.x + ((c >> 6) * out.rows + row) * 128 + q * 4;
            *reinterpret_cast<uint32_t *>(to + ((uint32_t)step * 32 ^ turn)) = pack_f16(v.x * over, v.y * over);
            *reinterpret_cast<uint32_t *>(to + (((uint32_t)step * 32 + 16) ^ turn)) = pack_f16(v.z * over, v.w * over);
        }
    }
}

cudaError_t many_prepare(const product &p, int n_expert, const many_rows &out, cudaStream_t stream) {
    V32_LAUNCH(prepare_rows, dim3((unsigned)out.rows), PREPARE_WARPS * 32, 0, stream, p, n_expert, out);
    return cudaGetLastError();
}
