/* product_many.cu - products of many rows with FP8 matrices by the instructions that every GPU has (product_many.cuh): for
 * GPUs other than Hopper's, and for matrices whose blocks of factors or widths product_wgmma.cu does not take.
 *
 * A block walks tiles of 128 of W's rows with 128 of x's; eight warps of 16 of W's rows, stages of 128 columns, the next one
 * on its way while one is multiplied.
 */
#include "kernels/cuda/product_many.cuh"
#include "kernels/cuda/v32_device.cuh"

enum { X_STAGE = 2 * MANY_CHUNK, W_STAGE = MANY_ROWS * MANY_BLOCK, STAGE = X_STAGE + W_STAGE, SHARED_MANY = 2 * STAGE };

/* Where the 16-byte part `part` of row r of W's stage of 128 columns stands in shared memory: of rows 2 k and 2 k + 1, which eight
 * lanes load at once, in different banks. */
static __device__ __forceinline__ int code_place(int r, int part) {
    return r * 128 + ((part ^ (r & 1) * 4) << 4);
}

/* w_row: the thread's first row of W; its second is 8 on. */
static __device__ __forceinline__ void store_tile(const product &p, const many_tile &at, int w_row,
                                                  const float (&total)[MANY_SUMS]) {
#pragma unroll
    for (int i = 0; i < MANY_SUMS; i++) {
        int r = (i >> 2) * 8 + (int)(threadIdx.x & 3) * 2 + (i & 1), n = w_row + (i & 2) * 4;
        if (r >= at.n_row || n >= p.rows) continue;
        float *y = at.y + (int64_t)r * p.y_stride + n;
        *y = p.accumulate ? *y + total[i] : total[i];
    }
}

template <class pointers, bool EXPERTS, bool SHIFTED>
static __global__ void __launch_bounds__(MANY_THREADS, 1) many_sync(product p, const pointers w, many_rows x, int n_w,
                                                                    int n_tile, float4 *partial, int n_level) {
    extern __shared__ __align__(1024) unsigned char memory[];
    int tid = threadIdx.x, lane = tid & 31, g = lane >> 2, q = lane & 3, mine = (tid >> 5) * 16 + g;
    int n_stage = (p.cols + MANY_BLOCK - 1) / MANY_BLOCK, of_segment = p.segment / MANY_BLOCK;
    float4 *far = partial + (int64_t)blockIdx.x * n_level * (MANY_TILE_BYTES / 16) + tid;
    for (int number = blockIdx.x; number < n_w * n_tile; number += gridDim.x) {
        many_tile at;
        int w_row = number / n_tile * MANY_ROWS;
        if (!many_tile_of<pointers, EXPERTS>(p, w, number % n_tile, &at)) continue;
        const unsigned char *codes = static_cast<const unsigned char *>(at.w.data), *from = x.x + at.x_row * 128;
        auto ask = [&](int s) {
            unsigned char *to = memory + (s & 1) * STAGE;
#pragma unroll
            for (int i = 0; i < X_STAGE / 16 / MANY_THREADS; i++) {
                int piece = tid + i * MANY_THREADS; /* of 16 bytes; a chunk has 1,024 */
                copy_async16(to + piece * 16, from + (s * 2 + (piece >> 10)) * x.rows * 128 + (piece & 1023) * 16, true);
            }
#pragma unroll
            for (int i = 0; i < W_STAGE / 16 / MANY_THREADS; i++) {
                int piece = tid + i * MANY_THREADS, r = piece >> 3, part = piece & 7;
                int row = w_row + r < p.rows ? w_row + r : p.rows - 1, c = s * MANY_BLOCK + part * 16;
                bool there = c < p.w_stride;
                copy_async16(to + X_STAGE + code_place(r, part), codes + (there ? row * p.w_stride + c : 0), there);
            }
            copy_commit();
        };
        int low_row = w_row + mine < p.rows ? w_row + mine : p.rows - 1;
        int high_row = w_row + mine + 8 < p.rows ? w_row + mine + 8 : p.rows - 1;
        float total[MANY_SUMS] = {};
        int segment = 0, left = of_segment; /* stages of it */
        __syncthreads();                    /* the tile before has been read */
        ask(0);
        for (int s = 0; s < n_stage; s++) {
            if (s + 1 < n_stage) ask(s + 1);
            else copy_commit();
            copy_wait<1>();
            __syncthreads();
            const unsigned char *x_at = memory + (s & 1) * STAGE, *w_at = x_at + X_STAGE;
            uint4 own[2][2]; /* codes: columns' half, W's rows g and g + 8 */
#pragma unroll
            for (int half = 0; half < 2; half++)
#pragma unroll
                for (int i = 0; i < 2; i++)
                    own[half][i] = *reinterpret_cast<const uint4 *>(w_at + code_place(mine + i * 8, half * 4 + q));
            int first = s * MANY_BLOCK, edge = SHIFTED ? MANY_BLOCK - at.w.col0 : MANY_BLOCK;
            /* where the factors' blocks begin within this one of columns: what is before that, then the rest */
#pragma unroll 1
            for (int side = 0; side < (SHIFTED && edge < MANY_BLOCK && first + edge < p.cols ? 2 : 1); side++) {
                float sum[MANY_SUMS] = {};
#pragma unroll
                for (int i = 0; i < 8; i++) { /* steps of 16 columns */
                    const uint4 &l = own[i >> 2][0], &h = own[i >> 2][1];
                    uint32_t low = (i & 3) == 0 ? l.x : (i & 3) == 1 ? l.y : (i & 3) == 2 ? l.z : l.w;
                    uint32_t high = (i & 3) == 0 ? h.x : (i & 3) == 1 ? h.y : (i & 3) == 2 ? h.z : h.w;
                    bool keep = !SHIFTED || ((i >> 2) * 64 + q * 16 + (i & 3) * 4 < edge) == (side == 0);
                    uint32_t a[4] = {codes_f16(low), codes_f16(high), codes_f16(low >> 16), codes_f16(high >> 16)};
#pragma unroll
                    for (int j = 0; j < MANY_ROWS / 16; j++) { /* sixteen of x's rows */
                        int r = j * 16 + (lane >> 4) * 8 + (lane & 7), part = (i & 3) * 2 + (lane >> 3 & 1);
                        uint32_t b[4];
                        load_matrix4(b, x_at + (i >> 2) * MANY_CHUNK + r * 128 + ((part ^ (r & 7)) << 4));
                        if (!keep) b[0] = b[1] = b[2] = b[3] = 0;
                        mma_f16(sum + j * 8, a[0], a[1], a[2], a[3], b[0], b[1]);
                        mma_f16(sum + j * 8 + 4, a[0], a[1], a[2], a[3], b[2], b[3]);
                    }
                }
                int c = first + (side ? edge : 0);
                float low = factor_at(at.w, low_row, c), high = factor_at(at.w, high_row, c);
#pragma unroll
                for (int i = 0; i < MANY_SUMS; i++) total[i] = __fmaf_rn(i & 2 ? high : low, sum[i], total[i]);
            }
            if (--left == 0 || s + 1 == n_stage) {
                const float *unit = x.unit + segment * x.rows + at.x_row;
                auto unit_of = [&](int r) {
                    return make_float2(r < at.n_row ? __ldg(unit + r) : 0.0f, r + 1 < at.n_row ? __ldg(unit + r + 1) : 0.0f);
                };
                many_end_segment<false>(total, segment, s + 1 == n_stage, unit_of, [] {}, nullptr, far);
                segment++, left = of_segment;
            }
            __syncthreads(); /* this stage has been read */
        }
        store_tile(p, at, w_row + mine, total);
    }
}

template <class pointers, bool EXPERTS, bool SHIFTED>
static cudaError_t start(const product &p, const pointers &w, const many_rows &x, int n_tile, int n_block, float *partial,
                         cudaStream_t stream) {
    auto *kernel = &many_sync<pointers, EXPERTS, SHIFTED>;
    cudaError_t e = cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                         cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED_MANY);
    if (e != cudaSuccess) return e;
    int n_w = cuda_blocks(p.rows, MANY_ROWS);
    int64_t all = (int64_t)n_w * n_tile;
    V32_LAUNCH(kernel, dim3((unsigned)(all < n_block ? all : n_block)), MANY_THREADS, SHARED_MANY, stream, p, w, x, n_w, n_tile,
               reinterpret_cast<float4 *>(partial), many_levels(p.cols, p.segment));
    return cudaGetLastError();
}
cudaError_t many_launch(const product &p, const head_pointers &w, const many_rows &x, int n_tile, int n_block, float *partial,
                        cudaStream_t stream) {
    return p.shifted ? start<head_pointers, false, true>(p, w, x, n_tile, n_block, partial, stream)
                     : start<head_pointers, false, false>(p, w, x, n_tile, n_block, partial, stream);
}
cudaError_t many_launch(const product &p, const expert_pointers &w, const many_rows &x, int n_tile, int n_block,
                        float *partial, cudaStream_t stream) {
    return p.shifted ? start<expert_pointers, true, true>(p, w, x, n_tile, n_block, partial, stream)
                     : start<expert_pointers, true, false>(p, w, x, n_tile, n_block, partial, stream);
}
