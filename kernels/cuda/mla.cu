/* mla.cu - latent attention over a bf16 cache with tensor cores: the plain path for sm_80 and later, any shape.
 *
 * A row is one (token, head). Keys come in blocks of 128, gathered (sparse) or in order (dense), into shared memory;
 * warps share the keys of a block for the scores and the elements of the latent for the values. Within a segment of
 * blocks the softmax runs on as usual; segments, each started anew, are then merged in ascending order:
 *
 *     m' = max(M, m);  O = O e^(M - m') + o e^(m - m');  L = L e^(M - m') + l e^(m - m');  M = m'
 *
 * Either one block merges the segments as it goes (many rows), or each segment has a block of its own and a second
 * kernel merges (few rows). Both take the same steps for a row, so that its bits do not depend on its company.
 * Segments: one block (sparse), 16 blocks from position 0 on (dense).
 */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/mla.cuh"

#include <cmath>

enum { WARPS = 8, BLOCK = MLA_BLOCK, SCORE_STRIDE = BLOCK + 4, P_STRIDE = BLOCK + 8 };

/* ---- one block of keys ---- */

static __host__ __device__ __forceinline__ int row_elements(int width) {
    return (width + 15) / 16 * 16 + 8; /* 16 bytes more: ldmatrix meets every bank once */
}

/* MT: tiles of 16 rows; DT: tiles of 8 latent elements that a warp has. */
template <int MT, int DT> static size_t shared_bytes(int width) {
    size_t rows = 16 * MT, e = (size_t)row_elements(width);
    return (rows * e + BLOCK * e) * 2 + rows * SCORE_STRIDE * 4 + rows * P_STRIDE * 2 + rows * 5 * 4 + BLOCK * 4;
}

template <int MT, int DT, bool SPARSE>
static __global__ void __launch_bounds__(WARPS * 32) attend_bf16(mla_job a) {
    extern __shared__ __align__(128) unsigned char memory[];
    constexpr int ROWS = 16 * MT;
    if (!SPARSE) a.pos0 += moved_by(a.moved);
    int width = a.kv_lora + a.rope, e = row_elements(width), steps = (width + 15) / 16;
    __nv_bfloat16 *q = reinterpret_cast<__nv_bfloat16 *>(memory); /* [ROWS][e] */
    __nv_bfloat16 *keys = q + ROWS * e;                           /* [BLOCK][e] */
    float *score = reinterpret_cast<float *>(keys + BLOCK * e);   /* [ROWS][SCORE_STRIDE] */
    __nv_bfloat16 *p = reinterpret_cast<__nv_bfloat16 *>(score + ROWS * SCORE_STRIDE); /* [ROWS][P_STRIDE] */
    float *greatest = reinterpret_cast<float *>(p + ROWS * P_STRIDE); /* [ROWS] of the segment, and so on */
    float *total = greatest + ROWS, *change = total + ROWS, *merged_greatest = change + ROWS,
          *merged_total = merged_greatest + ROWS;
    int32_t *place = reinterpret_cast<int32_t *>(merged_total + ROWS); /* [BLOCK] position, -1 = none */

    int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5, g = lane >> 2, part = lane & 3;
    mla_rows rows = mla_rows_of<SPARSE>(a, ROWS);
    /* One warp, one row, here and below: no division for each element. */
    for (int r = warp; r < ROWS; r += WARPS) {
        mla_query query = mla_query_of(a, rows.first + (r < rows.n ? r : 0));
        for (int d = lane; d < e; d += 32)
            q[r * e + d] = __float2bfloat16_rn(r < rows.n && d < width ? query.at(d) : 0.0f);
    }
    for (int i = tid; i < BLOCK * (e - width); i += WARPS * 32) /* what pads a key stays 0 */
        keys[i / (e - width) * e + width + i % (e - width)] = __float2bfloat16_rn(0.0f);
    if (tid < ROWS) merged_greatest[tid] = -INFINITY, merged_total[tid] = 0.0f;

    float sum[MT][DT][4], merged[MT][DT][4];
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int d = 0; d < DT; d++)
#pragma unroll
            for (int i = 0; i < 4; i++) merged[m][d][i] = 0.0f;

    int64_t n_key = rows.n_key, segment_keys = (int64_t)a.segment_blocks * BLOCK;
    int n_segment = (int)((n_key + segment_keys - 1) / segment_keys);
    int segment = a.split ? (int)blockIdx.y : 0, last = a.split ? segment + 1 : n_segment;
    if (segment >= n_segment && a.split) return; /* nothing there: the merge does not look */
    bool chunks = width % 8 == 0;
    for (; segment < last; segment++) {
        __syncthreads();
        if (tid < ROWS) greatest[tid] = -INFINITY, total[tid] = 0.0f;
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
            for (int d = 0; d < DT; d++)
#pragma unroll
                for (int i = 0; i < 4; i++) sum[m][d][i] = 0.0f;
        int64_t end = (segment + 1) * segment_keys < n_key ? (segment + 1) * segment_keys : n_key;
        for (int64_t first = segment * segment_keys; first < end; first += BLOCK) {
            /* keys */
            if (tid < BLOCK) place[tid] = mla_place<SPARSE>(a, rows, first + tid);
            __syncthreads();
            if (chunks) {
                for (int r = warp; r < BLOCK; r += WARPS) {
                    int at = place[r];
                    const __nv_bfloat16 *from =
                        static_cast<const __nv_bfloat16 *>(a.cache) + (int64_t)(at < 0 ? 0 : at) * width;
                    for (int c = lane * 8; c < width; c += 256) copy_async16(keys + r * e + c, from + c, at >= 0);
                }
                copy_commit();
                copy_wait<0>();
            } else
                for (int i = tid; i < BLOCK * width; i += WARPS * 32) {
                    int r = i / width, c = i % width;
                    int at = place[r];
                    keys[r * e + c] = at < 0 ? __float2bfloat16_rn(0.0f)
                                             : static_cast<const __nv_bfloat16 *>(a.cache)[(int64_t)at * width + c];
                }
            __syncthreads();
            /* scores: a warp has 16 keys */
            float s[MT][2][4] = {};
            for (int k = 0; k < steps; k++) {
                uint32_t b[4];
                load_matrix4(b, keys + (warp * 16 + (lane & 7) + (lane >> 4) * 8) * e + k * 16 + (lane >> 3 & 1) * 8);
#pragma unroll
                for (int m = 0; m < MT; m++) {
                    uint32_t x[4];
                    load_matrix4(x, q + (m * 16 + (lane & 15)) * e + k * 16 + (lane >> 4) * 8);
                    mma_bf16(s[m][0], x[0], x[1], x[2], x[3], b[0], b[1]);
                    mma_bf16(s[m][1], x[0], x[1], x[2], x[3], b[2], b[3]);
                }
            }
#pragma unroll
            for (int m = 0; m < MT; m++)
#pragma unroll
                for (int j = 0; j < 2; j++)
#pragma unroll
                    for (int i = 0; i < 4; i++)
                        score[(m * 16 + (i >> 1) * 8 + g) * SCORE_STRIDE + warp * 16 + j * 8 + part * 2 + (i & 1)] =
                            s[m][j][i] * a.scale_log2;
            __syncthreads();
            /* softmax: a warp has 2 * MT rows, a lane 4 keys */
            for (int r = warp * 2 * MT; r < (warp + 1) * 2 * MT; r++) {
                float v[4], most = -INFINITY;
                int64_t sees = r < rows.n ? mla_sees<SPARSE>(a, rows, r) : 0;
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    int at = lane + i * 32;
                    bool in = place[at] >= 0 && first + at < sees;
                    v[i] = in ? score[r * SCORE_STRIDE + at] : -INFINITY;
                    if (a.scores && r < rows.n && first + at < a.n_select)
                        a.scores[(rows.first + r) * a.n_select + first + at] = v[i];
                    most = fmaxf(most, v[i]);
                }
                most = warp_max(most);
                float before = greatest[r], now = fmaxf(before, most), base = now == -INFINITY ? 0.0f : now, add = 0.0f;
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    v[i] = exp2f(v[i] - base);
                    add += v[i];
                    p[r * P_STRIDE + lane + i * 32] = __float2bfloat16_rn(v[i]);
                }
                add = warp_sum(add);
                __syncwarp();
                if (lane == 0) {
                    float factor = exp2f(before - base);
                    change[r] = factor;
                    total[r] = __fmaf_rn(total[r], factor, add);
                    greatest[r] = now;
                }
            }
            __syncthreads();
            /* values: a warp has DT tiles of the latent */
#pragma unroll
            for (int m = 0; m < MT; m++) {
                float low = change[m * 16 + g], high = change[m * 16 + 8 + g];
#pragma unroll
                for (int d = 0; d < DT; d++) {
                    sum[m][d][0] *= low;
                    sum[m][d][1] *= low;
                    sum[m][d][2] *= high;
                    sum[m][d][3] *= high;
                }
            }
            for (int k = 0; k < BLOCK / 16; k++) {
                uint32_t x[MT][4];
#pragma unroll
                for (int m = 0; m < MT; m++)
                    load_matrix4(x[m], p + (m * 16 + (lane & 15)) * P_STRIDE + k * 16 + (lane >> 4) * 8);
                if constexpr (DT == 1) {
                    int column = warp * 8;
                    if (column < a.kv_lora) {
                        uint32_t b[2];
                        load_matrix2_transposed(b, keys + (k * 16 + (lane & 15)) * e + column);
#pragma unroll
                        for (int m = 0; m < MT; m++) mma_bf16(sum[m][0], x[m][0], x[m][1], x[m][2], x[m][3], b[0], b[1]);
                    }
                } else {
#pragma unroll
                    for (int d = 0; d < DT; d += 2) {
                        int column = (warp * DT + d) * 8;
                        if (column >= a.kv_lora) continue;
                        uint32_t b[4];
                        load_matrix4_transposed(b, keys + (k * 16 + (lane & 15)) * e + column + (lane >> 4) * 8);
#pragma unroll
                        for (int m = 0; m < MT; m++) {
                            mma_bf16(sum[m][d], x[m][0], x[m][1], x[m][2], x[m][3], b[0], b[1]);
                            mma_bf16(sum[m][d + 1], x[m][0], x[m][1], x[m][2], x[m][3], b[2], b[3]);
                        }
                    }
                }
            }
            __syncthreads();
        }
        /* the segment is done */
        if (a.split) break;
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int r = m * 16 + half * 8 + g;
                mla_merge f = mla_merge_of(merged_greatest[r], greatest[r]);
#pragma unroll
                for (int d = 0; d < DT; d++)
#pragma unroll
                    for (int i = 0; i < 2; i++) {
                        float *to = &merged[m][d][half * 2 + i];
                        *to = __fmaf_rn(sum[m][d][half * 2 + i], f.here, __fmul_rn(*to, f.before));
                    }
            }
        __syncthreads();
        if (tid < ROWS) {
            mla_merge f = mla_merge_of(merged_greatest[tid], greatest[tid]);
            merged_total[tid] = __fmaf_rn(total[tid], f.here, __fmul_rn(merged_total[tid], f.before));
            merged_greatest[tid] = f.greatest;
        }
    }
    __syncthreads();
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int r = m * 16 + half * 8 + g;
            if (r >= rows.n) continue;
            int64_t row = rows.first + r;
            float factor = merged_total[r] > 0.0f || isnan(merged_total[r]) ? 1.0f / merged_total[r] : 0.0f;
            float *out = a.split ? a.part_sum + (row * a.most_segments + segment) * a.kv_lora : a.out + row * a.kv_lora;
#pragma unroll
            for (int d = 0; d < DT; d++)
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    int column = (warp * DT + d) * 8 + part * 2 + i;
                    if (column < a.kv_lora)
                        out[column] = a.split ? sum[m][d][half * 2 + i] : __fmul_rn(merged[m][d][half * 2 + i], factor);
                }
        }
    if (tid < rows.n) {
        int64_t row = rows.first + tid;
        if (a.split) {
            a.part_greatest[row * a.most_segments + segment] = greatest[tid];
            a.part_total[row * a.most_segments + segment] = total[tid];
        } else if (a.row_greatest) {
            a.row_greatest[row] = merged_greatest[tid];
            a.row_total[row] = merged_total[tid];
        }
    }
}

/* ---- launching ---- */

template <int MT, int DT> static void launch(const kern *k, const mla_job &a) {
    size_t shared = shared_bytes<MT, DT>(a.kv_lora + a.rope);
    cudaStream_t stream = cuda_stream(k);
    int64_t row_tiles = a.position ? (int64_t)a.n_tok * ((a.n_head + 16 * MT - 1) / (16 * MT))
                                   : ((int64_t)a.n_tok * a.n_head + 16 * MT - 1) / (16 * MT);
    dim3 grid((unsigned)row_tiles, a.split ? (unsigned)a.most_segments : 1);
    if (a.position) {
        cuda_allow_shared(k, reinterpret_cast<const void *>(&attend_bf16<MT, DT, true>), shared);
        attend_bf16<MT, DT, true><<<grid, WARPS * 32, shared, stream>>>(a);
    } else {
        cuda_allow_shared(k, reinterpret_cast<const void *>(&attend_bf16<MT, DT, false>), shared);
        attend_bf16<MT, DT, false><<<grid, WARPS * 32, shared, stream>>>(a);
    }
    cuda_launched(k, "attention");
}

template <int DT> static void launch_rows(const kern *k, const mla_job &a) {
    /* The dense form has rows of many tokens to share a block of keys, the sparse one the heads of one token. */
    int64_t rows = a.position ? a.n_head : (int64_t)a.n_tok * a.n_head;
    constexpr int MORE = DT <= 2 ? 4 : 2;
    bool fits = shared_bytes<MORE, DT>(a.kv_lora + a.rope) <= cuda_state_of(k)->block_shared;
    if (rows > 16 && fits && !a.split)
        launch<MORE, DT>(k, a);
    else
        launch<1, DT>(k, a);
}

bool mla_bf16(const kern *k, const mla_job &a) {
    if (a.kv_lora > 512 || shared_bytes<1, 8>(a.kv_lora + a.rope) > cuda_state_of(k)->block_shared) return false;
    if (a.kv_lora <= 64)
        launch_rows<1>(k, a);
    else if (a.kv_lora <= 128)
        launch_rows<2>(k, a);
    else if (a.kv_lora <= 256)
        launch_rows<4>(k, a);
    else
        launch_rows<8>(k, a);
    return true;
}
