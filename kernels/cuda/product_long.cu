/* product_long.cu - few rows of x with FP8 matrices of many columns, as decoding meets them at V3.2's width.
 *
 * The order of an output element's sum is the other kernels' (product.cu): one chain of products along the columns, so what
 * a warp can do alone takes 448 steps for 7168 columns, each waiting for codes to become numbers. Here a warp makes the
 * chain for eight of W's rows from shared memory, and four make the numbers of the piece after it, so that the chain is all
 * that takes time; and blocks have eight rows only, so that many multiprocessors have some.
 */
#include "kernels/cuda/product.cuh"

enum {
    CONVERTERS = 4,                     /* warps */
    LONG_THREADS = (CONVERTERS + 1) * 32,
    LONG_PIECE = 1024,                  /* columns */
    LONG_STEPS = LONG_PIECE / TILE_K,
    OWN_STEPS = LONG_STEPS / CONVERTERS,
    OWN_COLS = OWN_STEPS * TILE_K,
    OWN_FACTORS = OWN_COLS / 128 + 1,   /* blocks of factors that a converter's columns of a piece lie in */
    AHEAD_ROWS = 2,                     /* rows of x that are asked for a piece ahead */
    AHEAD = LONG_PIECE / 4 / (CONVERTERS * 32), /* fours of columns of a row that a thread has */
};

/* Two buffers of W's numbers [LONG_STEPS][32 lanes] and of x [LONG_STEPS][most_rows][4], 8 bf16 each. */
static size_t long_shared(int most_rows) {
    return (size_t)2 * LONG_STEPS * (32 + (size_t)most_rows * 4) * sizeof(uint4);
}

template <class pointers, bool EXPERTS>
static __global__ void __launch_bounds__(LONG_THREADS) product_long(product p, const pointers w, int most_rows) {
    extern __shared__ __align__(128) unsigned char memory[];
    uint4 *ws = reinterpret_cast<uint4 *>(memory), *xs = ws + 2 * LONG_STEPS * 32;
    piece at;
    if (!find_piece<pointers, EXPERTS>(p, w, SMALL_ROWS, &at)) return;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, q = lane & 3;
    int col0 = blockIdx.x * 8, n_row = at.end - at.row0 < SMALL_ROWS ? at.end - at.row0 : SMALL_ROWS;
    if (n_row > most_rows) __trap();
    int w_row = col0 + g < p.rows ? col0 + g : p.rows - 1; /* what lies beyond is computed and not stored */
    const unsigned char *from = static_cast<const unsigned char *>(at.w.data) + (int64_t)w_row * p.w_stride + q * 8;
    int n_step = (p.cols + TILE_K - 1) / TILE_K, n_piece = (n_step + LONG_STEPS - 1) / LONG_STEPS;

    /* ---- a converter's part of a piece ---- */
    uint2 codes[OWN_STEPS];
    float factor[OWN_FACTORS];
    float4 coming[AHEAD_ROWS][AHEAD];
    bool ahead = n_row <= AHEAD_ROWS && p.vector;
    auto x_row = [&](int r) {
        int row = at.row0 + r;
        return at.x + (int64_t)(EXPERTS && p.list ? p.list[row] : row) * p.x_stride;
    };
    auto ask = [&](int number) {
        int first = number * LONG_STEPS + warp * OWN_STEPS;
#pragma unroll
        for (int i = 0; i < OWN_STEPS; i++)
            codes[i] = first + i < n_step ? __ldg(reinterpret_cast<const uint2 *>(from + (int64_t)(first + i) * TILE_K))
                                          : make_uint2(0, 0);
#pragma unroll
        for (int i = 0; i < OWN_FACTORS; i++) {
            int c = first * TILE_K + i * 128 - at.w.col0; /* a column of block number i, or its edge */
            if (c < first * TILE_K) c = first * TILE_K;
            factor[i] = c < p.cols ? factor_at(at.w, w_row, c) : 0.0f;
        }
        if (!ahead) return;
#pragma unroll
        for (int r = 0; r < AHEAD_ROWS; r++)
#pragma unroll
            for (int i = 0; i < AHEAD; i++) {
                int c = number * LONG_PIECE + (i * CONVERTERS * 32 + threadIdx.x) * 4;
                coming[r][i] = r < n_row && c < p.cols ? *reinterpret_cast<const float4 *>(x_row(r) + c)
                                                       : make_float4(0, 0, 0, 0);
            }
    };
    auto keep_x = [&](int buffer, int r, int col, float4 v) { /* `col` in the piece */
        uint4 *to = xs + ((buffer * LONG_STEPS + col / TILE_K) * most_rows + r) * 4 + col % TILE_K / 8;
        reinterpret_cast<uint2 *>(to)[col % 8 / 4] = make_uint2(pack_bf16(v.x, v.y), pack_bf16(v.z, v.w));
    };
    auto convert = [&](int number) {
        int buffer = number & 1;
#pragma unroll
        for (int i = 0; i < OWN_STEPS; i++) {
            int before = i * TILE_K / 128; /* block of the step's first column, or the next: both known now */
            float f = i * TILE_K % 128 + q * 8 + at.w.col0 < 128 ? factor[before] : factor[before + 1];
            ws[(buffer * LONG_STEPS + warp * OWN_STEPS + i) * 32 + lane] = eight_codes(codes[i], f);
        }
#pragma unroll
        for (int r = 0; r < AHEAD_ROWS; r++)
#pragma unroll
            for (int i = 0; i < AHEAD; i++)
                if (ahead && r < n_row) keep_x(buffer, r, (i * CONVERTERS * 32 + threadIdx.x) * 4, coming[r][i]);
        for (int r = 0; r < n_row && !ahead; r++)
            for (int i = 0; i < AHEAD; i++) {
                int col = (i * CONVERTERS * 32 + threadIdx.x) * 4, c = number * LONG_PIECE + col;
                const float *x = x_row(r);
                float4 v = make_float4(0, 0, 0, 0);
                if (p.vector) {
                    if (c < p.cols) v = *reinterpret_cast<const float4 *>(x + c);
                } else {
                    if (c < p.cols) v.x = x[c];
                    if (c + 1 < p.cols) v.y = x[c + 1];
                    if (c + 2 < p.cols) v.z = x[c + 2];
                    if (c + 3 < p.cols) v.w = x[c + 3];
                }
                keep_x(buffer, r, col, v);
            }
    };

    float sum[4] = {};
    if (warp < CONVERTERS) {
        ask(0);
        convert(0);
        if (n_piece > 1) ask(1);
    }
    for (int number = 0; number < n_piece; number++) {
        __syncthreads(); /* this piece is there; the one before it is no longer read */
        if (warp < CONVERTERS) {
            if (number + 1 < n_piece) convert(number + 1);
            if (number + 2 < n_piece) ask(number + 2);
            continue;
        }
        const uint4 *w_at = ws + (number & 1) * LONG_STEPS * 32 + lane;
        const uint4 *x_at = xs + (number & 1) * LONG_STEPS * most_rows * 4 + g * 4 + q;
        int steps = n_step - number * LONG_STEPS < LONG_STEPS ? n_step - number * LONG_STEPS : LONG_STEPS;
#pragma unroll 8
        for (int i = 0; i < steps; i++) {
            uint4 low = make_uint4(0, 0, 0, 0), high = low, v = w_at[i * 32];
            if (g < n_row) low = x_at[i * most_rows * 4];
            if (g + 8 < n_row) high = x_at[i * most_rows * 4 + 32];
            mma_bf16(sum, low.x, high.x, low.y, high.y, v.x, v.y);
            mma_bf16(sum, low.z, high.z, low.w, high.w, v.z, v.w);
        }
    }
    if (warp < CONVERTERS) return;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int r = at.row0 + half * 8 + g;
        if (r >= at.end) continue;
        float *y = at.y + (int64_t)r * p.y_stride;
#pragma unroll
        for (int e = 0; e < 2; e++) {
            int c = col0 + q * 2 + e;
            if (c >= p.rows) continue;
            float v = sum[half * 2 + e];
            y[c] = p.accumulate ? y[c] + v : v;
        }
    }
}

template <class pointers, bool EXPERTS>
static void launch_long(const kern *k, const product &p, const pointers &w, int n_tile, int most_rows, int n_z) {
    size_t shared = long_shared(most_rows);
    cuda_allow_shared(k, reinterpret_cast<const void *>(&product_long<pointers, EXPERTS>), shared);
    product_long<pointers, EXPERTS><<<dim3(cuda_blocks(p.rows, 8), n_tile, n_z), LONG_THREADS, shared, cuda_stream(k)>>>(
        p, w, most_rows);
    cuda_launched(k, "a matrix product");
}

void cuda_product_long(const kern *k, const product &p, const head_pointers &w, int n_tile, int most_rows, int n_z) {
    launch_long<head_pointers, false>(k, p, w, n_tile, most_rows, n_z);
}
void cuda_product_long(const kern *k, const product &p, const expert_pointers &w, int n_tile, int most_rows, int n_z) {
    launch_long<expert_pointers, true>(k, p, w, n_tile, most_rows, n_z);
}
