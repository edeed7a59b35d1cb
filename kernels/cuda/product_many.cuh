/* product_many.cuh - many rows of x with FP8 matrices: what the kernels for it share.
 *
 * The formula is product.cuh's: fp16 products of 128 columns at a time, their fp32 sum times the block's factor added to
 * the segment's, segments times x's factor added as a balanced tree. x is made ready once for all tiles (product_x16.cu);
 * codes of W become fp16 in registers, W as the instruction's left operand.
 */
#ifndef PHAROS_PRODUCT_MANY_CUH
#define PHAROS_PRODUCT_MANY_CUH

#include "kernels/cuda/product.cuh"

enum {
    MANY_ROWS = 128,                    /* of x in a tile; as many of W */
    MANY_THREADS = 256,                 /* that have sums: a warp has 16 of W's rows with all of x's */
    MANY_SUMS = 64,                     /* of a thread: W's rows g and g + 8, x's rows 8 j + 2 q and + 1 */
    MANY_BLOCK = 128,                   /* columns of a sum of the tensor cores */
    MANY_CHUNK = MANY_ROWS * 128,       /* bytes of 64 columns of x's tile */
    MANY_TILE_BYTES = MANY_ROWS * MANY_ROWS * 4,
};

/* x over its units (product.cuh) as fp16. Row r of chunk c (64 columns) is the 128 bytes at (c * rows + r) * 128: 16 columns for each lane
 * q as product.cuh deals them, 16-byte parts exchanged by part ^ (row within the tile & 7). Room for a tile's rows more at the
 * end: the last tile may read what belongs to no row. */
struct many_rows {
    unsigned char *x;
    float *unit; /* [n_segment][rows] */
    int64_t rows;        /* of all tiles */
};

/* Bytes of working memory for `rows` rows of x: fp16 and units; and the places of both. */
static inline size_t many_rows_bytes(int64_t rows, int cols, int segment) {
    size_t chunks = (size_t)cuda_blocks(cols, MANY_BLOCK) * 2;
    return (chunks * (size_t)rows + MANY_ROWS) * 128 + (size_t)cuda_blocks(cols, segment) * (size_t)rows * 4;
}
static inline many_rows many_rows_in(unsigned char *room, int64_t rows, int cols) {
    size_t units = ((size_t)cuda_blocks(cols, MANY_BLOCK) * 2 * (size_t)rows + MANY_ROWS) * 128;
    return {room, reinterpret_cast<float *>(room + units), rows};
}
/* Levels of the tree over segments where sums may wait; bytes for them in `blocks` blocks. */
static inline int many_levels(int cols, int segment) {
    int n = 0;
    for (int last = cuda_blocks(cols, segment) - 1; last > 0; last >>= 1) n++;
    return n;
}
static inline size_t many_partial_bytes(int blocks, int cols, int segment) {
    return (size_t)blocks * (size_t)many_levels(cols, segment) * MANY_TILE_BYTES;
}

/* Tile `number` of x's rows: its W, its rows among the prepared ones and where their results go. */
struct many_tile {
    matrix_ref w;
    int64_t x_row;
    float *y;
    int n_row;
};
template <class pointers, bool EXPERTS>
static __device__ __forceinline__ bool many_tile_of(const product &p, const pointers &w, int number, many_tile *out) {
    if (EXPERTS) {
        int e = p.tile_expert[number];
        if (e < 0) return false;
        int first = p.tile_first[number], rest = p.start[e + 1] - first;
        *out = {w.w[e], first, p.y + (int64_t)first * p.y_stride, rest < MANY_ROWS ? rest : MANY_ROWS};
        return true;
    }
    int tiles = (p.n_tok + MANY_ROWS - 1) / MANY_ROWS, z = number / tiles, first = (number - z * tiles) * MANY_ROWS;
    int rest = p.n_tok - first;
    *out = {w.w[z], (int64_t)z * p.n_tok + first, p.y + z * p.y_step + (int64_t)first * p.y_stride,
            rest < MANY_ROWS ? rest : MANY_ROWS};
    return true;
}

template <int STEP>
static __device__ __forceinline__ void add_waiting(float (&total)[MANY_SUMS], const float4 *from) {
#pragma unroll
    for (int j = 0; j < MANY_SUMS / 4; j++) {
        float4 v = from[j * STEP];
        total[j * 4] = v.x + total[j * 4], total[j * 4 + 1] = v.y + total[j * 4 + 1];
        total[j * 4 + 2] = v.z + total[j * 4 + 2], total[j * 4 + 3] = v.w + total[j * 4 + 3];
    }
}
template <int STEP> static __device__ __forceinline__ void let_wait(float (&total)[MANY_SUMS], float4 *to) {
#pragma unroll
    for (int j = 0; j < MANY_SUMS / 4; j++) {
        to[j * STEP] = make_float4(total[j * 4], total[j * 4 + 1], total[j * 4 + 2], total[j * 4 + 3]);
        total[j * 4] = total[j * 4 + 1] = total[j * 4 + 2] = total[j * 4 + 3] = 0.0f;
    }
}
/* A segment's sums times x's units, added to what waits for it: sums of 1, 2, 4 ... segments wait like the digits of a
 * binary counter, the first of them (NEAR) in `near`, [16][128] of four for each warpgroup, the others in `far`,
 * [levels][16][256] of four. Before the last segment `total` is then zero, after it the element. unit_of(r): float2, of the
 * tile's rows r and r + 1; units_read() follows. */
template <bool NEAR, class units, class then>
static __device__ __forceinline__ void many_end_segment(float (&total)[MANY_SUMS], int segment, bool last, units unit_of,
                                                        then units_read, float4 *near, float4 *far) {
#pragma unroll
    for (int j = 0; j < MANY_SUMS / 4; j++) {
        float2 unit = unit_of(j * 8 + (int)(threadIdx.x & 3) * 2);
        total[j * 4] *= unit.x, total[j * 4 + 1] *= unit.y, total[j * 4 + 2] *= unit.x, total[j * 4 + 3] *= unit.y;
    }
    units_read();
    if (NEAR) {
        if (segment & 1) add_waiting<MANY_THREADS / 2>(total, near);
        else if (!last) {
            let_wait<MANY_THREADS / 2>(total, near);
            return;
        }
        segment >>= 1, far += MANY_TILE_BYTES / 16;
    }
#pragma unroll 1
    for (; last ? segment != 0 : segment & 1; segment >>= 1, far += MANY_TILE_BYTES / 16)
        if (segment & 1) add_waiting<MANY_THREADS>(total, far);
    if (!last) let_wait<MANY_THREADS>(total, far);
}

/* product_x16.cu: makes x ready. up: NULL, or for experts rows like p.x: silu(x) * up takes x's place. out.rows: n_z * p.n_tok;
 * for experts (n_expert above 0) as many as the list may have. */
cudaError_t many_prepare(const product &p, const float *up, int n_expert, const many_rows &out, cudaStream_t stream);
/* product_many.cu, product_wgmma.cu: the product, by at most n_block blocks, an even number that there is many_partial_bytes in
 * `partial` for. The latter for compute capability 9.0 and matrices of whole blocks of columns with no offset among their
 * factors; results are the same to the bit. */
cudaError_t many_launch(const product &p, const head_pointers &w, const many_rows &x, int n_tile, int n_block, float *partial,
                        cudaStream_t stream);
cudaError_t many_launch(const product &p, const expert_pointers &w, const many_rows &x, int n_tile, int n_block,
                        float *partial, cudaStream_t stream);
cudaError_t many_wgmma_launch(const product &p, const head_pointers &w, const many_rows &x, int n_tile, int n_block,
                              float *partial, cudaStream_t stream);
cudaError_t many_wgmma_launch(const product &p, const expert_pointers &w, const many_rows &x, int n_tile, int n_block,
                              float *partial, cudaStream_t stream);

#endif
