/* product.cu - products of activations with weight matrices.
 *
 * A row's bits may not depend on how many rows are in the call. So every bf16 kernel takes the same steps for an output
 * element: m16n8k16 tensor core products over the columns in ascending order, an fp32 sum for each SEGMENT of them, the
 * columns of each 32 dealt to the instruction's lanes in the same way, then the segments' sums in ascending order. What
 * differs is only how many elements a block has, and which warps.
 * fp32 matrices: lane l of a warp sums columns l, l + 32, ..., then a fixed tree; one kernel for any number of rows.
 */
#include "kernels/cuda/product_many.cuh"

/* ---- many rows: 128 x 128 tiles, 8 warps of 64 x 32 ---- */

/* LONG: more than one segment. Their totals have no room in registers. */
template <class pointers, bool EXPERTS, bool LONG>
static __global__ void __launch_bounds__(256, 2) product_tile(product p, const pointers w) {
    extern __shared__ __align__(128) unsigned char memory[];
    uint4 *xs = reinterpret_cast<uint4 *>(memory);                  /* [STAGES][TILE][4] of 8 bf16 */
    uint4 *ws = xs + STAGES * TILE * 4;
    float4 *totals = reinterpret_cast<float4 *>(ws + STAGES * TILE * 4) + threadIdx.x; /* [16][256], this thread's */
    piece at;
    if (!find_piece<pointers, EXPERTS>(p, w, TILE, &at)) return;
    const __nv_bfloat16 *weights = static_cast<const __nv_bfloat16 *>(at.w.data);
    int row0 = at.row0, col0 = blockIdx.x * TILE;
    int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    int warp_row = (warp & 1) * 64, warp_col = (warp >> 1) * 32;
    int g = lane >> 2, q = lane & 3;
    int n_step = (p.cols + TILE_K - 1) / TILE_K;

    /* This thread's part of loading: 2 pieces of 8 columns of x and of w. */
    int load_row[2], load_part[2];
    const float *x_row[2];
    for (int i = 0; i < 2; i++) {
        int n = tid + i * 256;
        load_row[i] = n >> 2;
        load_part[i] = n & 3;
        int r = row0 + load_row[i];
        x_row[i] = r < at.end ? at.x + (int64_t)(EXPERTS && p.list ? p.list[r] : r) * p.x_stride : nullptr;
    }
    float4 held[4];
    auto load_x = [&](int step) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int c = step * TILE_K + load_part[i] * 8;
            if (p.vector) {
                bool in0 = x_row[i] && c < p.cols, in1 = x_row[i] && c + 4 < p.cols;
                held[2 * i] = in0 ? *reinterpret_cast<const float4 *>(x_row[i] + c) : make_float4(0, 0, 0, 0);
                held[2 * i + 1] = in1 ? *reinterpret_cast<const float4 *>(x_row[i] + c + 4) : make_float4(0, 0, 0, 0);
            } else {
                float v[8];
#pragma unroll
                for (int j = 0; j < 8; j++) v[j] = x_row[i] && c + j < p.cols ? x_row[i][c + j] : 0.0f;
                held[2 * i] = make_float4(v[0], v[1], v[2], v[3]);
                held[2 * i + 1] = make_float4(v[4], v[5], v[6], v[7]);
            }
        }
    };
    auto store_x = [&](int stage) {
#pragma unroll
        for (int i = 0; i < 2; i++)
            xs[(stage * TILE + load_row[i]) * 4 + load_part[i]] =
                make_uint4(pack_bf16(held[2 * i].x, held[2 * i].y), pack_bf16(held[2 * i].z, held[2 * i].w),
                           pack_bf16(held[2 * i + 1].x, held[2 * i + 1].y),
                           pack_bf16(held[2 * i + 1].z, held[2 * i + 1].w));
    };
    auto load_w = [&](int step, int stage) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int r = col0 + load_row[i];
            copy_async16(&ws[(stage * TILE + load_row[i]) * 4 + load_part[i]],
                         weights + (int64_t)(r < p.rows ? r : 0) * p.w_stride + step * TILE_K + load_part[i] * 8,
                         r < p.rows);
        }
    };

    float sum[4][4][4] = {};
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < n_step) {
            load_w(s, s);
            load_x(s);
            store_x(s);
        }
        copy_commit();
    }
    for (int step = 0; step < n_step; step++) {
        copy_wait<STAGES - 2>();
        __syncthreads();
        int next = step + STAGES - 1, stage = step % STAGES;
        if (next < n_step) {
            load_w(next, next % STAGES);
            load_x(next);
        }
        copy_commit();
        uint4 b[4];
#pragma unroll
        for (int j = 0; j < 4; j++) b[j] = ws[(stage * TILE + warp_col + j * 8 + g) * 4 + q];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint4 low = xs[(stage * TILE + warp_row + i * 16 + g) * 4 + q];
            uint4 high = xs[(stage * TILE + warp_row + i * 16 + 8 + g) * 4 + q];
#pragma unroll
            for (int j = 0; j < 4; j++) mma_bf16(sum[i][j], low.x, high.x, low.y, high.y, b[j].x, b[j].y);
#pragma unroll
            for (int j = 0; j < 4; j++) mma_bf16(sum[i][j], low.z, high.z, low.w, high.w, b[j].z, b[j].w);
        }
        if (next < n_step) store_x(next % STAGES);
        if (LONG && (step + 1) % SEGMENT_STEPS == 0 && step + 1 < n_step)
#pragma unroll
            for (int i = 0; i < 16; i++) {
                float *v = sum[i >> 2][i & 3];
                float4 t = make_float4(v[0], v[1], v[2], v[3]);
                if (step >= SEGMENT_STEPS) {
                    float4 before = totals[i * 256];
                    t.x = before.x + t.x, t.y = before.y + t.y, t.z = before.z + t.z, t.w = before.w + t.w;
                }
                totals[i * 256] = t;
                v[0] = v[1] = v[2] = v[3] = 0.0f;
            }
    }
    if (LONG)
#pragma unroll
        for (int i = 0; i < 16; i++) {
            float *v = sum[i >> 2][i & 3];
            float4 before = totals[i * 256];
            v[0] = before.x + v[0], v[1] = before.y + v[1], v[2] = before.z + v[2], v[3] = before.w + v[3];
        }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int r = row0 + warp_row + i * 16 + half * 8 + g;
            if (r >= at.end) continue;
            float *y = at.y + (int64_t)r * p.y_stride;
#pragma unroll
            for (int j = 0; j < 4; j++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    int c = col0 + warp_col + j * 8 + q * 2 + e;
                    if (c >= p.rows) continue;
                    float v = sum[i][j][half * 2 + e];
                    y[c] = p.accumulate ? y[c] + v : v;
                }
        }
}

/* ---- few rows: a warp has 16 rows and 8 of W's. W goes from memory to registers, 512 columns ahead of their use; the
 * block's rows of x, as bf16, through shared memory, so that no product waits for a load of its own ---- */

enum { PIECE = 512, PIECE_STEPS = PIECE / TILE_K, PIECE_STRIDE = PIECE / 8 + 4 /* uint4; 4 more spread the banks */ };

template <class pointers, bool EXPERTS>
static __global__ void __launch_bounds__(128) product_few(product p, const pointers w) {
    __shared__ uint4 xs[SMALL_ROWS * PIECE_STRIDE];
    piece at;
    if (!find_piece<pointers, EXPERTS>(p, w, SMALL_ROWS, &at)) return;
    int lane = threadIdx.x & 31, g = lane >> 2, q = lane & 3;
    int col0 = (blockIdx.x * 4 + (threadIdx.x >> 5)) * 8;
    int n_row = at.end - at.row0 < SMALL_ROWS ? at.end - at.row0 : SMALL_ROWS;
    int w_row = col0 + g < p.rows ? col0 + g : p.rows - 1; /* what lies beyond is computed and not stored */
    const __nv_bfloat16 *from = static_cast<const __nv_bfloat16 *>(at.w.data) + (int64_t)w_row * p.w_stride + q * 8;
    int n_step = (p.cols + TILE_K - 1) / TILE_K;
    auto load_w = [&](int first, uint4 b[PIECE_STEPS]) {
#pragma unroll
        for (int i = 0; i < PIECE_STEPS; i++)
            b[i] = first + i < n_step ? __ldg(reinterpret_cast<const uint4 *>(from + (int64_t)(first + i) * TILE_K))
                                      : make_uint4(0, 0, 0, 0);
    };
    float sum[4] = {}, total[4] = {};
    uint4 b[PIECE_STEPS], next[PIECE_STEPS];
    load_w(0, b);
    for (int first = 0; first < n_step; first += PIECE_STEPS) {
        for (int r = 0; r < n_row; r++) {
            int row = at.row0 + r, c = first * TILE_K + threadIdx.x * 4;
            const float *x = at.x + (int64_t)(EXPERTS && p.list ? p.list[row] : row) * p.x_stride;
            float4 v = make_float4(0, 0, 0, 0);
            if (p.vector) {
                if (c < p.cols) v = *reinterpret_cast<const float4 *>(x + c);
            } else {
                if (c < p.cols) v.x = x[c];
                if (c + 1 < p.cols) v.y = x[c + 1];
                if (c + 2 < p.cols) v.z = x[c + 2];
                if (c + 3 < p.cols) v.w = x[c + 3];
            }
            reinterpret_cast<uint2 *>(xs + r * PIECE_STRIDE)[threadIdx.x] =
                make_uint2(pack_bf16(v.x, v.y), pack_bf16(v.z, v.w));
        }
        __syncthreads();
        load_w(first + PIECE_STEPS, next);
#pragma unroll
        for (int i = 0; i < PIECE_STEPS; i++) {
            if (first + i >= n_step) break;
            uint4 low = make_uint4(0, 0, 0, 0), high = low;
            if (g < n_row) low = xs[g * PIECE_STRIDE + i * 4 + q];
            if (g + 8 < n_row) high = xs[(g + 8) * PIECE_STRIDE + i * 4 + q];
            uint4 v = b[i];
            mma_bf16(sum, low.x, high.x, low.y, high.y, v.x, v.y);
            mma_bf16(sum, low.z, high.z, low.w, high.w, v.z, v.w);
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < PIECE_STEPS; i++) b[i] = next[i];
        int done = first + PIECE_STEPS;
        if (done % SEGMENT_STEPS == 0 && done < n_step)
#pragma unroll
            for (int i = 0; i < 4; i++) total[i] = done > SEGMENT_STEPS ? total[i] + sum[i] : sum[i], sum[i] = 0.0f;
    }
    if (n_step > SEGMENT_STEPS)
#pragma unroll
        for (int i = 0; i < 4; i++) sum[i] = total[i] + sum[i];
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

/* ---- fp32: the router and the indexer's head weights; everything where the engine is asked to be exact ---- */

/* Columns of a segment unless the matrix says otherwise; segments that there may be, and levels of their tree. */
enum { F32_SEGMENT = 1024, MOST_SEGMENTS = 64, MOST_LEVELS = 6 };

/* One row or two: a block has four of W's rows, a warp the segments warp, warp + FEW_WARPS and so on, so that a row alone does
 * not wait for a whole row of W in one chain. The same sums as below. */
enum { FEW_WARPS = 8, FEW_ROWS = 2 };

template <class pointers, bool EXPERTS>
static __global__ void __launch_bounds__(FEW_WARPS * 32) product_f32_few(product p, const pointers w) {
    __shared__ float part[MOST_SEGMENTS][FEW_ROWS * 4];
    piece at;
    if (!find_piece<pointers, EXPERTS>(p, w, SMALL_ROWS, &at)) return;
    const float *weights = static_cast<const float *>(at.w.data);
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, col0 = blockIdx.x * 4;
    const float *x_row[FEW_ROWS], *w_row[4];
#pragma unroll
    for (int i = 0; i < FEW_ROWS; i++) {
        int r = at.row0 + i < at.end ? at.row0 + i : at.row0;
        x_row[i] = at.x + (int64_t)(EXPERTS && p.list ? p.list[r] : r) * p.x_stride;
    }
#pragma unroll
    for (int j = 0; j < 4; j++) w_row[j] = weights + (int64_t)(col0 + j < p.rows ? col0 + j : col0) * p.w_stride;
    int n_segment = (p.cols + p.segment - 1) / p.segment;
    for (int s = warp; s < n_segment; s += FEW_WARPS) {
        int end = (s + 1) * p.segment < p.cols ? (s + 1) * p.segment : p.cols;
        float sum[FEW_ROWS][4] = {};
#pragma unroll 8
        for (int c = s * p.segment + lane; c < end; c += 32) {
            float x[FEW_ROWS], v[4];
#pragma unroll
            for (int i = 0; i < FEW_ROWS; i++) x[i] = x_row[i][c];
#pragma unroll
            for (int j = 0; j < 4; j++) v[j] = w_row[j][c];
#pragma unroll
            for (int i = 0; i < FEW_ROWS; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) sum[i][j] = __fmaf_rn(x[i], v[j], sum[i][j]);
        }
#pragma unroll
        for (int i = 0; i < FEW_ROWS; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                float v = warp_sum(sum[i][j]);
                if (lane == i * 4 + j) part[s][i * 4 + j] = v;
            }
    }
    __syncthreads();
    int i = threadIdx.x >> 2, j = threadIdx.x & 3;
    if (i >= FEW_ROWS || at.row0 + i >= at.end || col0 + j >= p.rows) return;
    for (int n = n_segment; n > 1; n = (n + 1) / 2)
        for (int s = 0; s < n; s += 2)
            part[s / 2][threadIdx.x] =
                s + 1 < n ? __fadd_rn(part[s][threadIdx.x], part[s + 1][threadIdx.x]) : part[s][threadIdx.x];
    float *y = at.y + (int64_t)(at.row0 + i) * p.y_stride + col0 + j;
    *y = p.accumulate ? *y + part[0][threadIdx.x] : part[0][threadIdx.x];
}

/* Any number: a block has 16 rows and 16 of W's, a warp 8 and 8. A lane's 64 sums are added over the lanes in the pairs that
 * warp_sum has, but each lane goes on with half of them, so that it ends with two. */
enum { F32_TILE = 16, F32_WARP = 8, F32_SUMS = F32_WARP * F32_WARP };

/* Of N sums a lane keeps half and has its partner's share of them. */
template <int N, int FAR> static __device__ __forceinline__ void halve(float (&v)[N], float (&kept)[N / 2], int lane) {
    bool upper = lane & FAR;
#pragma unroll
    for (int i = 0; i < N / 2; i++) {
        float other = __shfl_xor_sync(0xffffffffu, upper ? v[i] : v[i + N / 2], FAR);
        kept[i] = __fadd_rn(upper ? v[i + N / 2] : v[i], other);
    }
}
static __device__ __forceinline__ float2 sums_over_lanes(float (&v)[F32_SUMS], int lane) {
    float a[F32_SUMS / 2], b[F32_SUMS / 4], c[F32_SUMS / 8], d[F32_SUMS / 16], e[F32_SUMS / 32];
    halve<F32_SUMS, 16>(v, a, lane);
    halve<F32_SUMS / 2, 8>(a, b, lane);
    halve<F32_SUMS / 4, 4>(b, c, lane);
    halve<F32_SUMS / 8, 2>(c, d, lane);
    halve<F32_SUMS / 16, 1>(d, e, lane);
    return make_float2(e[0], e[1]); /* elements 2 lane and 2 lane + 1 */
}

template <class pointers, bool EXPERTS>
static __global__ void __launch_bounds__(128) product_f32(product p, const pointers w) {
    piece at;
    if (!find_piece<pointers, EXPERTS>(p, w, SMALL_ROWS, &at)) return;
    const float *weights = static_cast<const float *>(at.w.data);
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    int col0 = blockIdx.x * F32_TILE + (warp >> 1) * F32_WARP, row0 = at.row0 + (warp & 1) * F32_WARP;
    if (row0 >= at.end || col0 >= p.rows) return;
    const float *x_row[F32_WARP], *w_row[F32_WARP];
#pragma unroll
    for (int i = 0; i < F32_WARP; i++) {
        int r = row0 + i < at.end ? row0 + i : row0;
        x_row[i] = at.x + (int64_t)(EXPERTS && p.list ? p.list[r] : r) * p.x_stride;
        w_row[i] = weights + (int64_t)(col0 + i < p.rows ? col0 + i : col0) * p.w_stride;
    }
    /* What waits at place l is the sum of 2^l segments. */
    float2 waiting[MOST_LEVELS], total = make_float2(0.0f, 0.0f);
    int n_segment = (p.cols + p.segment - 1) / p.segment;
    for (int s = 0; s < n_segment; s++) {
        int end = (s + 1) * p.segment < p.cols ? (s + 1) * p.segment : p.cols;
        float sum[F32_SUMS] = {};
        for (int c = s * p.segment + lane; c < end; c += 32) {
            float x[F32_WARP], v[F32_WARP];
#pragma unroll
            for (int i = 0; i < F32_WARP; i++) x[i] = x_row[i][c], v[i] = w_row[i][c];
#pragma unroll
            for (int i = 0; i < F32_WARP; i++)
#pragma unroll
                for (int j = 0; j < F32_WARP; j++) sum[i * F32_WARP + j] = __fmaf_rn(x[i], v[j], sum[i * F32_WARP + j]);
        }
        __syncwarp(); /* some lanes have had a column more */
        total = sums_over_lanes(sum, lane);
        bool last = s + 1 == n_segment, goes_on = true; /* the last one takes along all that waits */
#pragma unroll
        for (int l = 0; l < MOST_LEVELS; l++)
            if (s >> l & 1) {
                if (goes_on || last)
                    total = make_float2(__fadd_rn(waiting[l].x, total.x), __fadd_rn(waiting[l].y, total.y));
            } else {
                if (goes_on && !last) waiting[l] = total;
                goes_on = false;
            }
    }
    int r = row0 + (lane >> 2), n = col0 + (lane & 3) * 2;
    if (r >= at.end) return;
    float *y = at.y + (int64_t)r * p.y_stride + n;
    if (n < p.rows) y[0] = p.accumulate ? y[0] + total.x : total.x;
    if (n + 1 < p.rows) y[1] = p.accumulate ? y[1] + total.y : total.y;
}

/* ---- launching ---- */

static bool vectors_fit(const product &p) {
    return reinterpret_cast<uintptr_t>(p.x) % 16 == 0 && p.x_stride % 4 == 0 && p.x_step % 4 == 0 && p.cols % 4 == 0;
}

template <class pointers, bool EXPERTS, bool LONG>
static void launch_tile(const kern *k, const product &p, const pointers &w, int n_tile, int n_z) {
    size_t shared = 2 * STAGES * TILE * 4 * sizeof(uint4) + (LONG ? TILE * TILE * sizeof(float) : 0);
    cuda_allow_shared(k, reinterpret_cast<const void *>(&product_tile<pointers, EXPERTS, LONG>), shared);
    product_tile<pointers, EXPERTS, LONG>
        <<<dim3(cuda_blocks(p.rows, TILE), n_tile, n_z), 256, shared, cuda_stream(k)>>>(p, w);
    cuda_launched(k, "a matrix product");
}

/* most_rows: that any tile has. FP8: tiles of 16 rows. */
template <class pointers, bool EXPERTS>
static void launch(const kern *k, product p, const pointers &w, kern_type type, int n_tile, int tile_rows, int most_rows,
                   int n_z) {
    cudaStream_t stream = cuda_stream(k);
    p.vector = vectors_fit(p);
    if (type == KERN_FP8) {
        cuda_product_long(k, p, w, n_tile, most_rows, n_z);
    } else if (type == KERN_F32) {
        if (p.segment == 0) p.segment = F32_SEGMENT;
        if (cuda_blocks(p.cols, p.segment) > MOST_SEGMENTS - 1) p.segment = p.cols; /* no tree: nobody has such a matrix */
        if (most_rows <= FEW_ROWS && p.cols > p.segment)
            product_f32_few<pointers, EXPERTS>
                <<<dim3(cuda_blocks(p.rows, 4), n_tile, n_z), FEW_WARPS * 32, 0, stream>>>(p, w);
        else product_f32<pointers, EXPERTS><<<dim3(cuda_blocks(p.rows, F32_TILE), n_tile, n_z), 128, 0, stream>>>(p, w);
        cuda_launched(k, "a matrix product");
    } else if (tile_rows == SMALL_ROWS) {
        product_few<pointers, EXPERTS><<<dim3(cuda_blocks(p.rows, 32), n_tile, n_z), 128, 0, stream>>>(p, w);
        cuda_launched(k, "a matrix product");
    } else if (p.cols > SEGMENT) {
        launch_tile<pointers, EXPERTS, true>(k, p, w, n_tile, n_z);
    } else {
        launch_tile<pointers, EXPERTS, false>(k, p, w, n_tile, n_z);
    }
}

/* FP8, more than a few rows: x (or silu(x) * up) made ready in x.x (`ready`: it is there already), then all tiles. n_expert: 0 =
 * no experts. Sums of segments wait in the last CUDA_MANY_BYTES of the working memory. */
template <class pointers>
static void launch_many(const kern *k, product p, const pointers &w, const float *up, int n_expert, const many_rows &x,
                        int n_tile, bool ready) {
    const cuda_state *s = cuda_state_of(k);
    cudaStream_t stream = cuda_stream(k);
    p.vector = vectors_fit(p);
    if (p.segment == 0) p.segment = FP8_SEGMENT;
    size_t each = many_partial_bytes(1, p.cols, p.segment);
    int n_block = each * (size_t)s->n_sm <= CUDA_MANY_BYTES ? s->n_sm : (int)(CUDA_MANY_BYTES / each) & ~1;
    float *partial = reinterpret_cast<float *>(s->work + s->work_bytes - CUDA_MANY_BYTES);
    bool hopper = s->major == 9 && !k->plain && !p.shifted && p.cols % MANY_BLOCK == 0;
    cudaError_t e = ready ? cudaSuccess : many_prepare(p, up, n_expert, x, stream);
    if (e == cudaSuccess)
        e = hopper ? many_wgmma_launch(p, w, x, n_tile, n_block, partial, stream)
                   : many_launch(p, w, x, n_tile, n_block, partial, stream);
    cuda_noted(k, e, "a matrix product");
}

/* Few rows go 16 to a block, many 128; fp32 always 16. FP8: more than one block of 16 is many, since those read W once each. A
 * grid has at most 65535 blocks in y. */
static void launch_rows(const kern *k, product p, const head_pointers &w, kern_type type, int n_z) {
    const size_t room = cuda_state_of(k)->work_bytes - CUDA_MANY_BYTES; /* for x of FP8 products */
    if (type == KERN_FP8 && !p.segment) p.segment = FP8_SEGMENT;
    bool few = type == KERN_F32 || p.n_tok <= (type == KERN_FP8 ? SMALL_ROWS : 48);
    if (type == KERN_FP8 && many_rows_bytes((int64_t)n_z * TILE, p.cols, p.segment) > room) few = true;
    int tile = few ? SMALL_ROWS : TILE, most = 32768 * tile, all = p.n_tok;
    if (type == KERN_FP8 && !few)
        for (most = 32768; most > TILE && many_rows_bytes((int64_t)n_z * most, p.cols, p.segment) > room;) most /= 2;
    for (int first = 0; first < all; first += most) {
        product part = p;
        part.x += first * p.x_stride;
        part.y += first * p.y_stride;
        part.n_tok = all - first < most ? all - first : most;
        int n_tile = cuda_blocks(part.n_tok, tile);
        if (type == KERN_FP8 && !few)
            launch_many(k, part, w, nullptr, 0, many_rows_in(cuda_state_of(k)->work, (int64_t)n_z * part.n_tok, p.cols),
                        n_z * n_tile, false);
        else
            launch<head_pointers, false>(k, part, w, type, n_tile, tile, part.n_tok < tile ? part.n_tok : tile, n_z);
    }
}

void cuda_matmul(kern *k, const kern_matmul *a) {
    if (a->n_tok < 1) return;
    head_pointers w;
    w.w[0] = cuda_ref(a->w);
    product p = {};
    p.shifted = a->w->col0 != 0;
    p.x = a->x;
    p.y = a->y;
    p.x_stride = a->x_stride;
    p.y_stride = a->y_stride;
    p.w_stride = a->w->stride;
    p.n_tok = a->n_tok;
    p.rows = (int)a->w->rows;
    p.cols = (int)a->w->cols;
    p.segment = a->w->segment;
    p.accumulate = a->accumulate;
    launch_rows(k, p, w, a->w->type, 1);
}

void cuda_matmul_each(kern *k, const kern_matmul_each *a) {
    if (a->n_tok < 1) return;
    for (int first = 0, n; first < a->n; first += n) {
        /* as many as have one format: one slice of an FP8 matrix may stand where BF16 had to be taken */
        const kern_matrix *shape = a->w[first];
        head_pointers w;
        product p = {};
        for (n = 0; n < HEAD_POINTERS && first + n < a->n && a->w[first + n]->type == shape->type; n++) {
            w.w[n] = cuda_ref(a->w[first + n]);
            p.shifted = p.shifted || w.w[n].col0 != 0;
        }
        p.x = a->x + first * a->x_step;
        p.y = a->y + first * a->y_step;
        p.x_stride = a->x_stride;
        p.y_stride = a->y_stride;
        p.x_step = a->x_step;
        p.y_step = a->y_step;
        p.w_stride = shape->stride;
        p.n_tok = a->n_tok;
        p.rows = (int)shape->rows;
        p.cols = (int)shape->cols;
        p.segment = shape->segment;
        launch_rows(k, p, w, shape->type, n);
    }
}

static product grouped(const kern_matrix *shape, const float *x, int64_t x_stride, const int32_t *list, float *y,
                       int64_t y_stride, const expert_tiles *tiles) {
    product p = {};
    p.x = x;
    p.y = y;
    p.x_stride = x_stride;
    p.y_stride = y_stride;
    p.w_stride = shape->stride;
    p.rows = (int)shape->rows;
    p.cols = (int)shape->cols;
    p.segment = shape->segment;
    p.list = list;
    p.listed = tiles->listed;
    p.tile_expert = tiles->expert;
    p.tile_first = tiles->first;
    p.start = tiles->start;
    return p;
}

void cuda_grouped_product(const kern *k, const expert_pointers *w, const kern_matrix *shape, const float *x,
                          int64_t x_stride, const int32_t *list, float *y, int64_t y_stride,
                          const expert_tiles *tiles, int tile_rows, const expert_x &made) {
    product p = grouped(shape, x, x_stride, list, y, y_stride, tiles);
    for (int e = 0; e < tiles->n_expert; e++) p.shifted = p.shifted || w->w[e].col0 != 0;
    if (shape->type == KERN_FP8 && tile_rows > SMALL_ROWS)
        launch_many(k, p, *w, made.up, tiles->n_expert, many_rows_in(made.room, tiles->n_row, p.cols), tiles->n_tile,
                    made.ready);
    else
        launch<expert_pointers, true>(k, p, *w, shape->type, tiles->n_tile, tile_rows, tiles->most_rows, 1);
}

bool cuda_grouped_gated(const kern *k, const expert_pointers *gate, const expert_pointers *up, const kern_matrix *shape,
                        const kern_matrix *up_shape, const float *x, int64_t x_stride, const int32_t *list, float *y,
                        int64_t y_stride, const expert_tiles *tiles, int tile_rows) {
    if (shape->type != KERN_FP8 || up_shape->type != KERN_FP8 || tile_rows > SMALL_ROWS ||
        shape->segment != up_shape->segment)
        return false;
    product p = grouped(shape, x, x_stride, list, y, y_stride, tiles);
    p.vector = vectors_fit(p);
    for (int e = 0; e < tiles->n_expert; e++) p.shifted = p.shifted || gate->w[e].col0 != 0 || up->w[e].col0 != 0;
    cuda_product_gated(k, p, *gate, *up, tiles->n_tile, tiles->most_rows);
    return true;
}

size_t cuda_grouped_room(const kern_matrix *shape, int64_t n_row) {
    return many_rows_bytes(n_row, (int)shape->cols, shape->segment ? shape->segment : FP8_SEGMENT);
}
