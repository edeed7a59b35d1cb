/* product_long.cu - few rows of x with FP8 matrices, as decoding meets them.
 *
 * A warp has sixteen of W's rows and one segment of the columns (product.cuh). Codes go from memory straight
 * into registers, AHEAD blocks of 128 columns before their use: sixteen of them to a load, where they are the
 * fragments of four steps. What a block of threads has is the segments of sixteen rows, a warp each, so that
 * the tree of their sums is made in shared memory.
 *
 * One row of x: each warp makes its segment fp16 in shared memory, and all eight columns of the instruction
 * are that row. Several: each lane makes the numbers of the row whose fragments it has, when it needs them.
 *
 * Weights do not depend on the kernel before, which writes x: the first of them are asked for before it has
 * ended (launch_early).
 */
#include "kernels/cuda/product.cuh"

enum {
    OWN_ROWS = 16, /* of W, that a warp has */
    AHEAD = 2,
    MOST_WARPS = 16, /* of a block */
    LEAST_WARPS = 4,
};

/* How a block is made: `slots` warps share the segments of sixteen rows, `groups` times. */
struct long_shape {
    int segment, n_segment, slots, groups;
};
struct no_pointers {};
static __device__ __forceinline__ matrix_ref second_of(const no_pointers &, int) {
    return {};
}
template <class pointers> static __device__ __forceinline__ matrix_ref second_of(const pointers &w, int i) {
    return w.w[i];
}

/* Floats of a block's sums, for each of its rows of W and each of `wide` rows of x. */
static __host__ __device__ __forceinline__ int parts_of(const long_shape &s, int matrices, int wide) {
    return matrices * s.groups * s.n_segment * OWN_ROWS * wide;
}

/* Columns c .. c + 3 of a row of x that ends at `end`. */
static __device__ __forceinline__ float4 four_of(const float *x, int c, int end, bool vector) {
    float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (vector) {
        if (c < end) v = *reinterpret_cast<const float4 *>(x + c);
        return v;
    }
    if (c < end) v.x = x[c];
    if (c + 1 < end) v.y = x[c + 1];
    if (c + 2 < end) v.z = x[c + 2];
    if (c + 3 < end) v.w = x[c + 3];
    return v;
}

/* SETS: of eight rows of x, as many as any tile has; ONE: no tile has more than one. SHIFTED: some matrix's
 * blocks of factors do not begin where its blocks of columns do. `more`: a second matrix with the same rows
 * of x, then what is stored is silu(first) * second. */
template <class pointers, class more, bool EXPERTS, int SETS, bool ONE, bool SHIFTED>
static __global__ void __launch_bounds__(MOST_WARPS * 32)
    product_long(product p, const pointers w, const more w2, long_shape s) {
    extern __shared__ __align__(128) unsigned char memory[];
    constexpr int MATRICES = sizeof(more) > sizeof(no_pointers) ? 2 : 1, WIDE = ONE ? 1 : SETS * 8;
    if (EXPERTS) wait_before(); /* the list of them is of the kernel before */
    launch_next();
    piece at;
    if (!find_piece<pointers, EXPERTS>(p, w, SMALL_ROWS, &at)) return;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, q = lane & 3;
    int group = warp / s.slots, slot = warp - group * s.slots;
    int row0 = (blockIdx.x * s.groups + group) * OWN_ROWS;
    int n_row = at.end - at.row0 < WIDE ? at.end - at.row0 : WIDE;
    float *parts = reinterpret_cast<float *>(memory); /* [MATRICES][groups][n_segment][OWN_ROWS][WIDE] */
    uint4 *xs = reinterpret_cast<uint4 *>(parts + parts_of(s, MATRICES, WIDE)) +
                warp * (s.segment / 8); /* ONE: fp16 */
    const matrix_ref second = second_of(w2, EXPERTS ? p.tile_expert[blockIdx.y] : blockIdx.z);

    /* rows beyond the last are computed from it and not stored */
    int low = row0 + g < p.rows ? row0 + g : p.rows - 1,
        high = row0 + 8 + g < p.rows ? row0 + 8 + g : p.rows - 1;
    const float *x_of[SETS];
#pragma unroll
    for (int set = 0; set < SETS; set++) {
        int row = at.row0 + (ONE ? 0 : set * 8 + g < n_row ? set * 8 + g : n_row - 1);
        x_of[set] = at.x + (int64_t)(EXPERTS && p.list ? p.list[row] : row) * p.x_stride;
    }
    bool waited = EXPERTS;
#pragma unroll 1
    for (int segment = slot; segment < s.n_segment; segment += s.slots) {
        int first = segment * s.segment, end = first + s.segment < p.cols ? first + s.segment : p.cols;
        int n_block = (end - first + 127) >> 7;
        uint4 codes[AHEAD][4];
        float factor[AHEAD][2];
        const unsigned char *low_at,
            *high_at; /* of what is asked for next: blocks of the first matrix, then of the second */
        const float *low_factor, *high_factor;
        int coming = 0, left; /* left: bytes to the end of a row, in which what is beyond cols is 0 */
        auto go_to = [&](const matrix_ref &m) {
            const unsigned char *from = static_cast<const unsigned char *>(m.data) + first + q * 16;
            low_at = from + (int64_t)low * p.w_stride, high_at = from + (int64_t)high * p.w_stride;
            left = (int)p.w_stride - first - q * 16;
            low_factor = high_factor = nullptr;
            if (SHIFTED || !m.scale) return;
            low_factor = m.scale + (int64_t)((low + m.row0) >> 7) * m.scale_stride + (first >> 7);
            high_factor = m.scale + (int64_t)((high + m.row0) >> 7) * m.scale_stride + (first >> 7);
        };
        auto ask = [&](int to) {
            if (MATRICES == 2 && coming == n_block) go_to(second);
            bool valid = coming < n_block * MATRICES, here = valid && left > 0, there = valid && left > 64;
            const uint4 none = make_uint4(0, 0, 0, 0);
            codes[to][0] = here ? __ldg(reinterpret_cast<const uint4 *>(low_at)) : none;
            codes[to][1] = there ? __ldg(reinterpret_cast<const uint4 *>(low_at + 64)) : none;
            codes[to][2] = here ? __ldg(reinterpret_cast<const uint4 *>(high_at)) : none;
            codes[to][3] = there ? __ldg(reinterpret_cast<const uint4 *>(high_at + 64)) : none;
            factor[to][0] = factor[to][1] = 1.0f;
            if (!SHIFTED && low_factor && valid)
                factor[to][0] = __ldg(low_factor++), factor[to][1] = __ldg(high_factor++);
            low_at += 128, high_at += 128, left -= 128, coming++;
        };
        go_to(at.w);
#pragma unroll
        for (int i = 0; i < AHEAD; i++) ask(i);
        if (!waited) wait_before(), waited = true;

        float unit[SETS], inverse[SETS];
        if (ONE) {
            uint32_t most = 0;
#pragma unroll 8
            for (int c = first + lane * 4; c < end; c += 128)
                most = most_bits(four_of(x_of[0], c, end, p.vector), most);
            most = __reduce_max_sync(0xffffffffu, most);
            unit[0] = x_unit(most), inverse[0] = x_inverse(most);
            __syncwarp(); /* the segment before has been read */
#pragma unroll 4
            for (int c = lane * 4; c < n_block * 128; c += 128) {
                float4 v = four_of(x_of[0], first + c, end, p.vector);
                reinterpret_cast<uint2 *>(xs)[c >> 2] =
                    make_uint2(pack_f16(v.x * inverse[0], v.y * inverse[0]),
                               pack_f16(v.z * inverse[0], v.w * inverse[0]));
            }
            __syncwarp();
        } else
#pragma unroll
            for (int set = 0; set < SETS; set++) {
                uint32_t most = 0;
#pragma unroll 2
                for (int c = first + q * 16; c < end; c += 64)
#pragma unroll
                    for (int j = 0; j < 4; j++)
                        most = most_bits(four_of(x_of[set], c + j * 4, end, p.vector), most);
#pragma unroll
                for (int d = 1; d < 4; d <<= 1) {
                    uint32_t other = __shfl_xor_sync(0xffffffffu, most, d);
                    most = other > most ? other : most;
                }
                unit[set] = x_unit(most), inverse[set] = x_inverse(most);
            }

        float total[SETS][4] = {};
        int block = 0; /* of the present matrix */
        float *to = parts + ((int64_t)group * s.n_segment + segment) * OWN_ROWS * WIDE;
        /* columns [from, until) of the block, of which `until - from` is less than 128 only where blocks are
         * shifted */
        auto add_block = [&](const uint4(&v)[4], int from, int until, float low_factor, float high_factor) {
            float sum[SETS][4] = {};
#pragma unroll
            for (int half = 0; half < 2; half++) {
                uint32_t x[SETS][8];
#pragma unroll
                for (int set = 0; set < SETS; set++) {
                    int c = block * 128 + half * 64 + q * 16;
                    if (ONE) {
                        uint4 a = xs[c >> 3], b = xs[(c >> 3) + 1];
                        x[0][0] = a.x, x[0][1] = a.y, x[0][2] = a.z, x[0][3] = a.w;
                        x[0][4] = b.x, x[0][5] = b.y, x[0][6] = b.z, x[0][7] = b.w;
                    } else
#pragma unroll
                        for (int j = 0; j < 4; j++) {
                            float4 a = four_of(x_of[set], first + c + j * 4, end, p.vector);
                            x[set][j * 2] = pack_f16(a.x * inverse[set], a.y * inverse[set]);
                            x[set][j * 2 + 1] = pack_f16(a.z * inverse[set], a.w * inverse[set]);
                        }
                    if (SHIFTED)
#pragma unroll
                        for (int j = 0; j < 8; j++) { /* a limit is a multiple of 8 */
                            int at_col = half * 64 + q * 16 + j * 2;
                            if (at_col < from || at_col >= until) x[set][j] = 0;
                        }
                }
                const uint32_t a[4] = {v[half].x, v[half].y, v[half].z, v[half].w};
                const uint32_t b[4] = {v[half + 2].x, v[half + 2].y, v[half + 2].z, v[half + 2].w};
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    uint32_t a0, a1, a2, a3;
                    codes_f16(a[j], &a0, &a2);
                    codes_f16(b[j], &a1, &a3);
#pragma unroll
                    for (int set = 0; set < SETS; set++)
                        mma_f16(sum[set], a0, a1, a2, a3, x[set][j * 2], x[set][j * 2 + 1]);
                }
            }
#pragma unroll
            for (int set = 0; set < SETS; set++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    total[set][e] = __fmaf_rn(e < 2 ? low_factor : high_factor, sum[set][e], total[set][e]);
        };
#pragma unroll 1
        for (int i = 0; i < n_block * MATRICES; i += AHEAD) {
#pragma unroll
            for (int j = 0; j < AHEAD; j++) {
                if (i + j >= n_block * MATRICES) break;
                if (SHIFTED) {
                    auto add_shifted = [&](const matrix_ref &m) {
                        int c = first + block * 128, limit = 128 - m.col0;
                        add_block(codes[j], 0, limit, factor_at(m, low, c), factor_at(m, high, c));
                        if (m.col0 && c + limit < p.cols)
                            add_block(codes[j], limit, 128, factor_at(m, low, c + limit),
                                      factor_at(m, high, c + limit));
                    };
                    if (MATRICES == 2 && i + j >= n_block)
                        add_shifted(second);
                    else
                        add_shifted(at.w);
                } else
                    add_block(codes[j], 0, 128, factor[j][0], factor[j][1]);
                ask(j);
                if (++block < n_block) continue;
                /* the segment's sum: W's row g or g + 8, x's row 2 q or 2 q + 1 of a set */
                if (ONE) {
                    if (q == 0) to[g] = unit[0] * total[0][0], to[g + 8] = unit[0] * total[0][2];
                } else
#pragma unroll
                    for (int set = 0; set < SETS; set++) {
                        float u[2];
#pragma unroll
                        for (int e = 0; e < 2; e++)
                            u[e] = __shfl_sync(0xffffffffu, unit[set], (q * 2 + e) * 4);
#pragma unroll
                        for (int e = 0; e < 4; e++)
                            to[(g + (e >> 1) * 8) * WIDE + set * 8 + q * 2 + (e & 1)] =
                                u[e & 1] * total[set][e];
                    }
                block = 0;
                to += s.groups * s.n_segment * OWN_ROWS * WIDE;
#pragma unroll
                for (int set = 0; set < SETS; set++)
                    total[set][0] = total[set][1] = total[set][2] = total[set][3] = 0.0f;
            }
        }
    }
    if (!waited) wait_before();
    constexpr int EACH = OWN_ROWS * WIDE;
    for (int d = 1; d < s.n_segment; d *= 2) {
        __syncthreads();
        for (int i = threadIdx.x; i < parts_of(s, MATRICES, WIDE); i += blockDim.x) {
            int segment = i / EACH % s.n_segment;
            if (segment % (2 * d) == 0 && segment + d < s.n_segment)
                parts[i] = __fadd_rn(parts[i], parts[i + d * EACH]);
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < s.groups * EACH; i += blockDim.x) {
        int of = i / EACH, r = i % WIDE, c = blockIdx.x * s.groups * OWN_ROWS + i / WIDE;
        if (c >= p.rows || r >= n_row) continue;
        float v = parts[of * s.n_segment * EACH + i % EACH];
        if (MATRICES == 2) {
            float u = parts[(of + s.groups) * s.n_segment * EACH + i % EACH];
            v = v / (1.0f + expf(-v)) * u;
        }
        float *y = at.y + (int64_t)(at.row0 + r) * p.y_stride + c;
        *y = p.accumulate ? *y + v : v;
    }
}

template <class pointers, class more, bool EXPERTS, int SETS, bool ONE, bool SHIFTED>
static void start(const kern *k, const product &p, const pointers &w, const more &w2, const long_shape &s,
                  int n_tile, int n_z) {
    int warps = s.slots * s.groups;
    size_t shared =
        parts_of(s, sizeof(more) > sizeof(no_pointers) ? 2 : 1, ONE ? 1 : SETS * 8) * sizeof(float) +
        (ONE ? (size_t)warps * s.segment * 2 : 0);
    cuda_allow_shared(
        k, reinterpret_cast<const void *>(&product_long<pointers, more, EXPERTS, SETS, ONE, SHIFTED>),
        shared);
    launch_early(cuda_early(k), product_long<pointers, more, EXPERTS, SETS, ONE, SHIFTED>,
                 dim3(cuda_blocks(p.rows, OWN_ROWS * s.groups), n_tile, n_z), warps * 32, shared,
                 cuda_stream(k), p, w, w2, s);
    cuda_launched(k, "a matrix product");
}

template <class pointers, class more, bool EXPERTS, bool SHIFTED>
static void launch_long(const kern *k, const product &p, const pointers &w, const more &w2, int n_tile,
                        int most_rows, int n_z) {
    long_shape s = {};
    s.segment = p.segment ? p.segment : FP8_SEGMENT;
    s.n_segment = cuda_blocks(p.cols, s.segment);
    if (s.n_segment == 1) s.segment = cuda_blocks(p.cols, 128) * 128; /* no more room than it needs */
    int rounds = cuda_blocks(s.n_segment, MOST_WARPS);
    s.slots = cuda_blocks(s.n_segment, rounds);
    s.groups = s.slots >= LEAST_WARPS ? 1 : LEAST_WARPS / s.slots;
    if (most_rows == 1)
        start<pointers, more, EXPERTS, 1, true, SHIFTED>(k, p, w, w2, s, n_tile, n_z);
    else if (most_rows <= 8)
        start<pointers, more, EXPERTS, 1, false, SHIFTED>(k, p, w, w2, s, n_tile, n_z);
    else
        start<pointers, more, EXPERTS, 2, false, SHIFTED>(k, p, w, w2, s, n_tile, n_z);
}

template <class pointers, class more, bool EXPERTS>
static void launch_either(const kern *k, const product &p, const pointers &w, const more &w2, int n_tile,
                          int most_rows, int n_z) {
    if (p.shifted)
        launch_long<pointers, more, EXPERTS, true>(k, p, w, w2, n_tile, most_rows, n_z);
    else
        launch_long<pointers, more, EXPERTS, false>(k, p, w, w2, n_tile, most_rows, n_z);
}

void cuda_product_long(const kern *k, const product &of, const head_pointers &w, int n_tile, int most_rows,
                       int n_z) {
    product p = of;
    for (int z = 0; z < n_z; z++) p.shifted |= w.w[z].col0 > 0;
    if (cuda_product_one(k, p, w, n_tile, most_rows, n_z)) return;
    launch_either<head_pointers, no_pointers, false>(k, p, w, {}, n_tile, most_rows, n_z);
}
void cuda_product_long(const kern *k, const product &p, const expert_pointers &w, int n_tile, int most_rows,
                       int n_z) {
    if (cuda_product_one(k, p, w, n_tile, most_rows)) return;
    launch_either<expert_pointers, no_pointers, true>(k, p, w, {}, n_tile, most_rows, n_z);
}
void cuda_product_gated(const kern *k, const product &p, const expert_pointers &gate,
                        const expert_pointers &up, int n_tile, int most_rows) {
    if (cuda_product_one_gated(k, p, gate, up, n_tile, most_rows)) return;
    launch_either<expert_pointers, expert_pointers, true>(k, p, gate, up, n_tile, most_rows, 1);
}
