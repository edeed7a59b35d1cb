/* v32_mla_sync.cu - sparse latent attention at V3.2's dimensions with products of single warps (mma.sync), for devices
 * from sm_89 on and as the yardstick of v32_mla.cu.
 *
 * A block of eight warps has 64 heads of a token and walks its list, 64 keys at a time, in two buffers. For scores a
 * warp has 16 heads and 32 keys; for values 16 heads and 256 of the 512.
 */
#include "kernels/cuda/v32_mla.cuh"

enum {
    THREADS = 256,
    Q_AT = 0,
    K_AT = V32_TILE,
    P_AT = 3 * V32_TILE,
    GREATEST_AT = P_AT + V32_CHUNK, /* [2][64] of each half of the keys; at the end totals */
    SHARED_BYTES = GREATEST_AT + 512,
};

template <bool F16>
static __device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    if (F16) mma_f16(c, a, b0, b1);
    else mma_bf16(c, a[0], a[1], a[2], a[3], b0, b1);
}

/* Byte of a tile's (row, 16-byte part of 128). */
static __device__ __forceinline__ int place_of(int row, int part) {
    return row * 128 + ((part ^ (row & 7)) << 4);
}

/* bf16: 64 rows of 1152 bytes; eight lanes have 128 bytes of a row. */
static __device__ __forceinline__ void load_bf16(const v32_mla &a, const v32_item &item, int block, unsigned char *to) {
    int part = threadIdx.x & 7;
#pragma unroll
    for (int p = 0; p < 2; p++) {
        int row = p * 32 + (threadIdx.x >> 3);
        int32_t place = v32_place(a, item, block, row);
        const char *rows = static_cast<const char *>(a.cache);
        const char *from = rows + (int64_t)(place < 0 ? 0 : place) * (V32_KEY * 2) + part * 16;
#pragma unroll
        for (int c = 0; c < 9; c++) copy_async16(to + c * V32_CHUNK + place_of(row, part), from + c * 128, place >= 0);
    }
}

/* FP8: four lanes have 64 codes of a row; a thread has a row's eight times 16 codes. */
struct fp8_row {
    uint4 codes[8];
    float4 factor;
};
static __device__ __forceinline__ void load_fp8(const v32_mla &a, const v32_item &item, int block, unsigned char *to,
                                                fp8_row &r) {
    int quarter = threadIdx.x & 3, row = threadIdx.x >> 2;
    int32_t place = v32_place(a, item, block, row);
    bool valid = place >= 0;
    const uint8_t *from = static_cast<const uint8_t *>(a.cache) + (int64_t)(valid ? place : 0) * V32_FP8_ROW;
#pragma unroll
    for (int c = 0; c < 8; c++)
        r.codes[c] = valid ? __ldg(reinterpret_cast<const uint4 *>(from + c * 64 + quarter * 16))
                           : make_uint4(0, 0, 0, 0);
    r.factor = valid ? __ldg(reinterpret_cast<const float4 *>(from + V32_LATENT)) : make_float4(0, 0, 0, 0);
#pragma unroll
    for (int e = 0; e < 2; e++)
        copy_async16(to + 8 * V32_CHUNK + place_of(row, quarter * 2 + e),
                     from + V32_LATENT + 16 + (quarter * 2 + e) * 16, valid);
}
static __device__ __forceinline__ void store_fp8(const fp8_row &r, unsigned char *to) {
    int quarter = threadIdx.x & 3, row = threadIdx.x >> 2;
    const float factor[4] = {r.factor.x, r.factor.y, r.factor.z, r.factor.w};
#pragma unroll
    for (int c = 0; c < 8; c++) {
        uint4 low, high;
        f16_of_row(r.codes[c], __float2half2_rn(factor[c >> 1]), low, high);
        *reinterpret_cast<uint4 *>(to + c * V32_CHUNK + place_of(row, quarter * 2)) = low;
        *reinterpret_cast<uint4 *>(to + c * V32_CHUNK + place_of(row, quarter * 2 + 1)) = high;
    }
}

template <bool FP8> static __global__ void __launch_bounds__(THREADS, 1) mla_sync(const v32_mla a) {
    extern __shared__ __align__(1024) unsigned char memory[];
    float *greatest_of = reinterpret_cast<float *>(memory + GREATEST_AT);
    v32_item item = v32_item_of(a, (int)blockIdx.x);
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, q = lane & 3, half = warp >> 2;
    int row0 = (warp & 3) * 16, row = row0 + g; /* and row + 8 */
    int64_t out_row = (int64_t)item.token * a.n_head + item.head + row;
    int64_t part_rows = (int64_t)item.split * a.n_tok * a.n_head;
    float o[32][4];
#pragma unroll
    for (int j = 0; j < 32; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) o[j][i] = 0.0f;
    v32_row_sum sums[2] = {{-INFINITY, 0.0f}, {-INFINITY, 0.0f}};
    fp8_row codes;

    if (item.n_block > 0) {
        if (FP8) {
            load_fp8(a, item, 0, memory + K_AT, codes);
            store_fp8(codes, memory + K_AT);
        } else load_bf16(a, item, 0, memory + K_AT);
        int part = threadIdx.x & 7;
        for (int p = 0; p < 2; p++) {
            int r = p * 32 + (threadIdx.x >> 3);
            const __nv_bfloat16 *from = a.q + ((int64_t)item.token * a.n_head + item.head + r) * V32_KEY + part * 8;
            for (int c = 0; c < 9; c++) {
                unsigned char *to = memory + Q_AT + c * V32_CHUNK + place_of(r, part);
                if (FP8 && c < V32_VALUE_CHUNKS) {
                    uint4 v = __ldg(reinterpret_cast<const uint4 *>(from + c * 64));
                    *reinterpret_cast<uint4 *>(to) =
                        make_uint4(f16_of_bf16(v.x), f16_of_bf16(v.y), f16_of_bf16(v.z), f16_of_bf16(v.w));
                } else copy_async16(to, from + c * 64, true);
            }
        }
        copy_commit();
    }
    float scale = a.scale * 1.4426950408889634f;
    for (int b = 0; b < item.n_block; b++) {
        const unsigned char *keys = memory + K_AT + (b & 1) * V32_TILE;
        copy_wait<0>();
        __syncthreads();
        bool more = b + 1 < item.n_block;
        unsigned char *other = memory + K_AT + (b + 1 & 1) * V32_TILE;
        if (more) {
            if (FP8) load_fp8(a, item, b + 1, other, codes);
            else load_bf16(a, item, b + 1, other);
        }
        copy_commit();

        float s[4][4] = {};
        int a_row = row0 + (lane & 15), b_row = half * 32 + (lane >> 4) * 8 + (lane & 7);
#pragma unroll
        for (int c = 0; c < 9; c++)
#pragma unroll
            for (int k = 0; k < 4; k++) {
                uint32_t x[4], y[4];
                load_matrix4(x, memory + Q_AT + c * V32_CHUNK + place_of(a_row, k * 2 + (lane >> 4)));
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    load_matrix4(y, keys + c * V32_CHUNK + place_of(b_row + j * 16, k * 2 + (lane >> 3 & 1)));
                    if (FP8 && c < V32_VALUE_CHUNKS) {
                        mma<true>(s[j * 2], x, y[0], y[1]);
                        mma<true>(s[j * 2 + 1], x, y[2], y[3]);
                    } else {
                        mma<false>(s[j * 2], x, y[0], y[1]);
                        mma<false>(s[j * 2 + 1], x, y[2], y[3]);
                    }
                }
            }
        int left = item.n_key - (item.first + b) * V32_BLOCK - half * 32;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float greatest = -INFINITY;
#pragma unroll
            for (int j = 0; j < 4; j++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float &x = s[j][r * 2 + e];
                    if (j * 8 + q * 2 + e >= left) x = -INFINITY;
                    greatest = fmaxf(greatest, x);
                }
            greatest = fmaxf(greatest, __shfl_xor_sync(0xffffffffu, greatest, 1));
            greatest = fmaxf(greatest, __shfl_xor_sync(0xffffffffu, greatest, 2));
            if (q == 0) greatest_of[half * 64 + row + r * 8] = greatest;
        }
        __syncthreads();
        float factor[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float greatest = fmaxf(greatest_of[row + r * 8], greatest_of[64 + row + r * 8]);
            factor[r] = v32_move_base(sums[r], greatest * scale);
            float p[4][2];
#pragma unroll
            for (int j = 0; j < 4; j++) {
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    p[j][e] = exp2_fast(__fmaf_rn(s[j][r * 2 + e], scale, -sums[r].base));
                    sums[r].total += p[j][e];
                }
                *reinterpret_cast<uint32_t *>(memory + P_AT + place_of(row + r * 8, half * 4 + j) + q * 4) =
                    FP8 ? pack_f16(p[j][0], p[j][1]) : pack_bf16(p[j][0], p[j][1]);
            }
        }
        __syncthreads();
        if (__any_sync(0xffffffffu, factor[0] != 1.0f || factor[1] != 1.0f)) {
#pragma unroll
            for (int j = 0; j < 32; j++)
#pragma unroll
                for (int i = 0; i < 4; i++) o[j][i] *= factor[i >> 1];
        }
#pragma unroll
        for (int k = 0; k < 4; k++) {
            uint32_t x[4], y[4];
            load_matrix4(x, memory + P_AT + place_of(a_row, k * 2 + (lane >> 4)));
#pragma unroll
            for (int j = 0; j < 16; j++) {
                load_matrix4_transposed(y, keys + (half * 4 + (j >> 2)) * V32_CHUNK +
                                               place_of(k * 16 + (lane & 15), (j & 3) * 2 + (lane >> 4)));
                mma<FP8>(o[j * 2], x, y[0], y[1]);
                mma<FP8>(o[j * 2 + 1], x, y[2], y[3]);
            }
        }
        if (FP8 && more) store_fp8(codes, other);
    }

    /* totals of both halves of the keys */
    __syncthreads();
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float total = sums[r].total;
        total += __shfl_xor_sync(0xffffffffu, total, 1);
        total += __shfl_xor_sync(0xffffffffu, total, 2);
        if (q == 0) greatest_of[half * 64 + row + r * 8] = total;
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float total = greatest_of[row + r * 8] + greatest_of[64 + row + r * 8];
        float inverse = total > 0.0f ? 1.0f / total : 0.0f;
        if (half == 0 && q == 0 && (a.lse || a.n_split > 1)) {
            float lse = total > 0.0f ? (sums[r].base + log2f(total)) * 0.6931471805599453f : -INFINITY;
            if (a.n_split > 1) a.part_lse[part_rows + out_row + r * 8] = lse;
            else a.lse[out_row + r * 8] = lse;
        }
        int64_t to = (out_row + r * 8) * V32_LATENT + half * 256 + q * 2;
#pragma unroll
        for (int j = 0; j < 32; j++) {
            float x = o[j][r * 2] * inverse, y = o[j][r * 2 + 1] * inverse;
            if (a.n_split > 1)
                *reinterpret_cast<float2 *>(a.part_out + part_rows * V32_LATENT + to + j * 8) = make_float2(x, y);
            else if (a.out) *reinterpret_cast<uint32_t *>(a.out + to + j * 8) = pack_bf16(x, y);
            else *reinterpret_cast<float2 *>(a.out_f32 + to + j * 8) = make_float2(x, y);
        }
    }
}

cudaError_t v32_mla_launch_sync(const v32_mla *a, cudaStream_t stream) {
    auto *run = a->fp8 ? mla_sync<true> : mla_sync<false>;
    cudaError_t error = cudaFuncSetAttribute(run, cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED_BYTES);
    if (error != cudaSuccess) return error;
    V32_LAUNCH(run, v32_items(*a), THREADS, SHARED_BYTES, stream, *a);
    return cudaGetLastError();
}
