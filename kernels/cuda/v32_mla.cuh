/* v32_mla.cuh - what both forms of V3.2's latent attention share: how work is cut, and conversions. */
#ifndef PHAROS_V32_MLA_CUH
#define PHAROS_V32_MLA_CUH

#include "kernels/cuda/v32.h"
#include "kernels/cuda/v32_device.cuh"

enum {
    V32_HEADS = 64,                             /* of a work item */
    V32_BLOCK = 64,                             /* keys */
    V32_CHUNK = V32_BLOCK * 128,                /* bytes: 64 rows of 64 numbers */
    V32_TILE = V32_KEY / 64 * V32_CHUNK,        /* bytes: 64 rows of 576 numbers, chunk after chunk */
    V32_VALUE_CHUNKS = V32_LATENT / 64,
};

/* 64 heads of a token over blocks [first, first + n_block) of its list. */
struct v32_item {
    int token, head, split, first, n_block;
    int n_key; /* of the token */
};
static __device__ __forceinline__ v32_item v32_item_of(const v32_mla &a, int number) {
    int groups = a.n_head / V32_HEADS, rest = number / groups;
    v32_item item;
    item.head = number % groups * V32_HEADS;
    item.split = rest % a.n_split;
    item.token = rest / a.n_split;
    item.n_key = a.count[item.token];
    if (item.n_key < 0) item.n_key = 0;
    int blocks = (item.n_key + V32_BLOCK - 1) / V32_BLOCK, each = (blocks + a.n_split - 1) / a.n_split;
    item.first = item.split * each;
    item.n_block = blocks - item.first < each ? blocks - item.first : each;
    if (item.n_block < 0) item.n_block = 0;
    return item;
}
static __host__ __device__ __forceinline__ int v32_items(const v32_mla &a) {
    return a.n_tok * (a.n_head / V32_HEADS) * a.n_split;
}

/* Row of the cache for key `i` of block `block`; -1 where there is none. */
static __device__ __forceinline__ int32_t v32_place(const v32_mla &a, const v32_item &item, int block, int i) {
    if (block >= item.n_block) return -1;
    int at = (item.first + block) * V32_BLOCK + i;
    return at < item.n_key ? __ldg(a.position + item.token * a.position_stride + at) : -1;
}

static __device__ __forceinline__ uint32_t pack_f16(float low, float high) {
    __half2 v = __floats2half2_rn(low, high);
    return *reinterpret_cast<uint32_t *>(&v);
}
static __device__ __forceinline__ uint32_t f16_of_bf16(uint32_t two) {
    return pack_f16(__uint_as_float(two << 16), __uint_as_float(two & 0xffff0000u));
}
/* Two e4m3 numbers times a factor, in fp16. */
static __device__ __forceinline__ uint32_t f16_of_e4m3(uint16_t two, __half2 factor) {
    uint32_t r = f16_of_codes(two);
    __half2 v = __hmul2(*reinterpret_cast<__half2 *>(&r), factor);
    return *reinterpret_cast<uint32_t *>(&v);
}
/* Sixteen of them: what two 16-byte stores take. */
static __device__ __forceinline__ void f16_of_row(const uint4 &codes, __half2 factor, uint4 &low, uint4 &high) {
    low.x = f16_of_e4m3((uint16_t)codes.x, factor);
    low.y = f16_of_e4m3((uint16_t)(codes.x >> 16), factor);
    low.z = f16_of_e4m3((uint16_t)codes.y, factor);
    low.w = f16_of_e4m3((uint16_t)(codes.y >> 16), factor);
    high.x = f16_of_e4m3((uint16_t)codes.z, factor);
    high.y = f16_of_e4m3((uint16_t)(codes.z >> 16), factor);
    high.z = f16_of_e4m3((uint16_t)codes.w, factor);
    high.w = f16_of_e4m3((uint16_t)(codes.w >> 16), factor);
}

/* Sums of one row over its blocks. The base of the powers moves only when a score is above it by more than V32_SLACK:
 * probabilities are then at most 2^V32_SLACK, and most blocks need no correction of what was summed before. */
static const float V32_SLACK = 8.0f;
struct v32_row_sum {
    float base, total;
};
/* The greatest score of the block is `greatest` (times log2 e); returns the factor for earlier sums. */
static __device__ __forceinline__ float v32_move_base(v32_row_sum &row, float greatest) {
    if (!(greatest > row.base + V32_SLACK)) return 1.0f;
    float factor = exp2_fast(row.base - greatest);
    row.base = greatest;
    row.total *= factor;
    return factor;
}

/* v32_mla_sync.cu */
cudaError_t v32_mla_launch_sync(const v32_mla *a, cudaStream_t stream);

#endif
