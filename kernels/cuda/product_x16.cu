/* product_x16.cu - x made ready for products of many rows with FP8 matrices (product_many.cuh): fp16 over a power of two for
 * each row and segment, in the order and with the exchanges that the tensor cores' tiles have.
 *
 * A lane makes whole pieces of 16 bytes: two columns of each of four groups of 16, as product.cuh deals 64 columns out.
 */
#include "kernels/cuda/product_many.cuh"
#include "kernels/cuda/v32_device.cuh"

enum { PREPARE_WARPS = 8, AT_ONCE = 256 /* columns of a warp */, HELD = 4 /* times so many stay in registers */,
       MOST_BLOCKS = 4096 };

/* Columns c and c + 1 of a row; GATED: silu(x) * up. */
template <bool GATED>
static __device__ __forceinline__ float2 two_at(const product &p, const float *x, const float *up, int c) {
    float2 v = make_float2(0, 0);
    if (p.vector) {
        if (c < p.cols) v = *reinterpret_cast<const float2 *>(x + c);
    } else {
        if (c < p.cols) v.x = x[c];
        if (c + 1 < p.cols) v.y = x[c + 1];
    }
    if (GATED) {
        if (c < p.cols) v.x = v.x / (1.0f + expf(-v.x)) * up[c];
        if (c + 1 < p.cols) v.y = v.y / (1.0f + expf(-v.y)) * up[c + 1];
    }
    return v;
}
/* The four pairs of a lane's piece of the 64 columns from c on. */
struct piece_of_x {
    float2 v[4];
};
template <bool GATED>
static __device__ __forceinline__ piece_of_x piece_at(const product &p, const float *x, const float *up, int c, int end) {
    piece_of_x piece = {};
    if (c < end)
#pragma unroll
        for (int q = 0; q < 4; q++) piece.v[q] = two_at<GATED>(p, x, up, c + q * 16 + (int)(threadIdx.x & 7) * 2);
    return piece;
}
static __device__ __forceinline__ uint32_t most_of(const piece_of_x &x, uint32_t most) {
    most = most_bits(make_float4(x.v[0].x, x.v[0].y, x.v[1].x, x.v[1].y), most);
    return most_bits(make_float4(x.v[2].x, x.v[2].y, x.v[3].x, x.v[3].y), most);
}

/* A warp a segment of a row at a time. */
template <bool GATED>
static __global__ void __launch_bounds__(PREPARE_WARPS * 32) prepare_rows(product p, const float *gate_up, int n_expert,
                                                                          many_rows out) {
    int lane = threadIdx.x & 31, n_segment = (p.cols + p.segment - 1) / p.segment;
    int padded = (p.cols + MANY_BLOCK - 1) / MANY_BLOCK * MANY_BLOCK;
    int64_t all = (n_expert ? p.start[n_expert] : out.rows) * n_segment;
    for (int64_t i = blockIdx.x * PREPARE_WARPS + (threadIdx.x >> 5); i < all; i += (int64_t)gridDim.x * PREPARE_WARPS) {
        int64_t row = i / n_segment;
        int segment = (int)(i - row * n_segment), in_tile;
        const float *x = p.x, *up = gate_up;
        if (n_expert) {
            int low = 0, high = n_expert; /* start[low] <= row < start[high] */
            while (high - low > 1) {
                int middle = (low + high) / 2;
                if (p.start[middle] <= row) low = middle;
                else high = middle;
            }
            in_tile = (int)(row - p.start[low]);
            int64_t from = (p.list ? p.list[row] : row) * p.x_stride;
            x += from;
            if (GATED) up += from;
        } else {
            int64_t z = row / p.n_tok;
            in_tile = (int)(row - z * p.n_tok);
            x += z * p.x_step + in_tile * p.x_stride;
        }
        int first = segment * p.segment, end = first + p.segment < padded ? first + p.segment : padded;
        first += (lane >> 3) * 64;
        piece_of_x held[HELD];
        uint32_t most = 0;
#pragma unroll
        for (int j = 0; j < HELD; j++) held[j] = piece_at<GATED>(p, x, up, first + j * AT_ONCE, end);
#pragma unroll
        for (int j = 0; j < HELD; j++) most = most_of(held[j], most);
        for (int c = first + HELD * AT_ONCE; c < end; c += AT_ONCE) most = most_of(piece_at<GATED>(p, x, up, c, end), most);
        for (int d = 16; d; d >>= 1) {
            uint32_t other = __shfl_xor_sync(0xffffffffu, most, d);
            if (other > most) most = other;
        }
        float over = x_inverse(most);
        if (lane == 0) out.unit[segment * out.rows + row] = x_unit(most);
        unsigned char *to = out.x + row * 128 + (((lane & 7) ^ (in_tile & 7)) << 4);
        auto put = [&](const piece_of_x &x, int c) {
            if (c >= end) return;
            *reinterpret_cast<uint4 *>(to + (c >> 6) * out.rows * 128) =
                make_uint4(pack_f16(x.v[0].x * over, x.v[0].y * over), pack_f16(x.v[1].x * over, x.v[1].y * over),
                           pack_f16(x.v[2].x * over, x.v[2].y * over), pack_f16(x.v[3].x * over, x.v[3].y * over));
        };
#pragma unroll
        for (int j = 0; j < HELD; j++) put(held[j], first + j * AT_ONCE);
        for (int c = first + HELD * AT_ONCE; c < end; c += AT_ONCE) put(piece_at<GATED>(p, x, up, c, end), c);
    }
}

cudaError_t many_prepare(const product &p, const float *up, int n_expert, const many_rows &out, cudaStream_t stream) {
    auto *kernel = up ? &prepare_rows<true> : &prepare_rows<false>;
    int64_t blocks = (out.rows * cuda_blocks(p.cols, p.segment) + PREPARE_WARPS - 1) / PREPARE_WARPS;
    if (blocks > MOST_BLOCKS) blocks = MOST_BLOCKS;
    V32_LAUNCH(kernel, dim3((unsigned)blocks), PREPARE_WARPS * 32, 0, stream, p, up, n_expert, out);
    return cudaGetLastError();
}
