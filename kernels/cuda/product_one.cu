/* product_one.cu - one row of x with FP8 matrices: a token by itself, the way decoding spends its time.
 *
 * A warp has one segment of the columns and sixteen of W's rows at a time (product.cuh); the warps of a block
 * have the segments of the same rows, so that the tree of their sums is made in shared memory, and go from
 * one sixteen rows to the next. Codes come through a ring in the warp's part of shared memory, pieces of 256 or
 * 512 bytes of a row, so that a small matrix is under way as a whole before anything waits; out of it four lanes
 * read a row's 64 columns as the fragments of four steps. x is made fp16 once, and all eight columns of the
 * instruction are that row.
 *
 * Weights do not depend on the kernel before, which writes x: the ring is filled before that one has ended
 * (launch_early).
 */
#include "kernels/cuda/product.cuh"

#include <type_traits>

enum {
    OWN_ROWS = 16,
    STAGE_COLS = 512, /* most of a row that a stage has */
    STAGE_PAD = 64,   /* bytes after each row: what eight lanes read at once lies in different banks */
    RING = 2,         /* stages */
    LEAST_WARPS = 4,  /* of a block */
    MOST_WARPS = 16,
    MOST_BLOCKS = 16, /* of 128 columns, in a segment */
    SIDE_BY_SIDE = 2, /* of them */
};

/* How a block is made: `slots` warps have the segments, `groups` times, and go on by `step` times sixteen
 * rows. */
struct one_shape {
    int segment, n_segment, slots, groups, step, turns;
    int stage, lanes; /* columns of a stage; lanes that bring a row of it (a power of two) */
};
struct no_pointers {};
static __device__ __forceinline__ matrix_ref second_of(const no_pointers &, int) {
    return {};
}
static __device__ __forceinline__ matrix_ref second_of(const expert_pointers &w, int i) {
    return w.w[i];
}

/* more: a second matrix for the same x; then what is stored is silu(first) * second. */
template <class pointers, class more, bool EXPERTS>
static __global__ void __launch_bounds__(MOST_WARPS * 32)
    product_one(product p, const pointers w, const more w2, one_shape s) {
    extern __shared__ __align__(128) unsigned char memory[];
    constexpr int MATRICES = sizeof(more) > sizeof(no_pointers) ? 2 : 1;
    if (EXPERTS && !p.listed) wait_before(); /* the list of them is of the kernel before */
    launch_next();
    piece at;
    if (!find_piece<pointers, EXPERTS>(p, w, 1, &at)) return;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, q = lane & 3;
    int group = warp / s.slots, segment = warp - group * s.slots;
    int first = segment * s.segment, cols = p.cols - first < s.segment ? p.cols - first : s.segment;
    int n_stage = (cols + s.stage - 1) / s.stage, row_bytes = s.stage + STAGE_PAD,
        stage_bytes = OWN_ROWS * row_bytes;
    int warps = s.slots * s.groups, part_room = MATRICES * s.groups * s.n_segment * OWN_ROWS;
    unsigned char *ring = memory + warp * RING * stage_bytes, *behind = memory + warps * RING * stage_bytes;
    uint4 *xs = reinterpret_cast<uint4 *>(behind + segment * s.segment * 2); /* fp16 */
    float *parts = reinterpret_cast<float *>(behind + s.n_segment * s.segment *
                                                          2); /* [2][MATRICES][groups][n_segment][16] */
    const float *x_row = at.x + (int64_t)(EXPERTS && p.list ? p.list[at.row0] : at.row0) * p.x_stride;
    const matrix_ref second = second_of(w2, EXPERTS ? p.tile_expert[blockIdx.y] : 0);
    int own = (int)blockIdx.x * s.groups + group,
        last = (p.rows + OWN_ROWS - 1) / OWN_ROWS; /* sixteens of rows */

    /* What comes next into the ring: of a sixteen of rows, of a matrix, a stage. A lane brings 16 bytes of
     * every (32 / s.lanes)th row; what stands between cols and w_stride is 0. */
    int coming = own, matrix = 0, stage = 0, brings = lane / s.lanes, rows_at_once = 32 / s.lanes;
    int column = (lane & (s.lanes - 1)) * 16;
    auto ask = [&](int place) {
        if (coming < last) {
            const unsigned char *data = static_cast<const unsigned char *>(MATRICES == 2 && matrix ? second.data : at.w.data);
            int c = first + stage * s.stage + column, row = coming * OWN_ROWS;
            unsigned char *to = ring + place * stage_bytes + column + brings * row_bytes;
            bool valid = c < first + cols;
            if (!valid) c = 0;
            if (row + OWN_ROWS <= p.rows) {
                const unsigned char *from = data + (int64_t)(row + brings) * p.w_stride + c;
                int64_t next_row = rows_at_once * p.w_stride;
                int next_place = rows_at_once * row_bytes;
#pragma unroll 1
                for (int r = 0; r < OWN_ROWS; r += rows_at_once * 4) /* there are four at least */
#pragma unroll
                    for (int i = 0; i < 4; i++, from += next_row, to += next_place) copy_async16(to, from, valid);
            } else
#pragma unroll 1
                for (int r = brings; r < OWN_ROWS; r += rows_at_once, to += rows_at_once * row_bytes)
                    copy_async16(to, data + (int64_t)(row + r < p.rows ? row + r : p.rows - 1) * p.w_stride + c, valid);
            if (++stage == n_stage) {
                stage = 0;
                if (MATRICES == 1 || ++matrix == MATRICES) matrix = 0, coming += s.step;
            }
        }
        copy_commit();
    };
#pragma unroll 1
    for (int i = 0; i < RING; i++) ask(i);
    /* Lane b of the lower half has the factor of block b for the first rows of a sixteen, of the upper half
     * for the last. */
    auto factor_of = [&](const matrix_ref &m, int sixteen) {
        int c = (lane & (MOST_BLOCKS - 1)) * 128,
            row = sixteen * OWN_ROWS + (lane >= MOST_BLOCKS ? OWN_ROWS - 1 : 0);
        return sixteen < last && c < cols ? factor_at(m, row < p.rows ? row : p.rows - 1, first + c) : 0.0f;
    };
    float factors = factor_of(at.w, own), factors_second = MATRICES == 2 ? factor_of(second, own) : 0.0f;
    if (!EXPERTS || p.listed) wait_before();

    /* the first 1,024 columns stay in registers between the two looks at them */
    auto four_at = [&](int c) {
        return c < cols ? *reinterpret_cast<const float4 *>(x_row + first + c) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    };
    auto put = [&](int c, const float4 &v, float inverse) {
        if (c < s.segment)
            reinterpret_cast<uint2 *>(xs)[c >> 2] = make_uint2(pack_f16(v.x * inverse, v.y * inverse),
                                                               pack_f16(v.z * inverse, v.w * inverse));
    };
    float4 held[8];
    uint32_t most = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) held[i] = four_at(i * 128 + lane * 4);
#pragma unroll
    for (int i = 0; i < 8; i++) most = most_bits(held[i], most);
#pragma unroll 1
    for (int c = 1024 + lane * 4; c < cols; c += 128) most = most_bits(four_at(c), most);
    most = __reduce_max_sync(0xffffffffu, most);
    float unit = x_unit(most), inverse = x_inverse(most);
    if (group == 0) {
#pragma unroll
        for (int i = 0; i < 8; i++) put(i * 128 + lane * 4, held[i], inverse);
#pragma unroll 1
        for (int c = 1024 + lane * 4; c < s.segment; c += 128) put(c, four_at(c), inverse);
    }
    __syncthreads();

    int place = 0, turn = 0;
#pragma unroll 1
    for (int sixteen = own, all = (int)blockIdx.x * s.groups; all < last;
         sixteen += s.step, all += s.step, turn ^= 1) {
        float *to = parts + turn * part_room + (group * s.n_segment + segment) * OWN_ROWS;
#pragma unroll 1
        for (int m = 0; m < MATRICES && sixteen < last; m++) {
            const matrix_ref &of = MATRICES == 2 && m ? second : at.w;
            float f = m ? factors_second : factors;
            /* whose rows' factors this lane uses: rows g and g + 8 */
            int border = 128 - ((sixteen * OWN_ROWS + of.row0) & 127);
            int low_from = g >= border ? MOST_BLOCKS : 0, high_from = g + 8 >= border ? MOST_BLOCKS : 0;
            float low = 0.0f, high = 0.0f;
            /* N blocks side by side, because a block is a chain of eight steps; then into the sum one after
             * the other */
            auto add_blocks = [&](auto many, const unsigned char *codes, const uint4 *x, int block) {
                constexpr int N = decltype(many)::value;
                float sum[N][4] = {};
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    uint4 a[N], b[N], u[N], v[N];
#pragma unroll
                    for (int n = 0; n < N; n++) {
                        a[n] = *reinterpret_cast<const uint4 *>(codes + n * 128 + half * 64);
                        b[n] = *reinterpret_cast<const uint4 *>(codes + 8 * row_bytes + n * 128 + half * 64);
                        u[n] = x[n * 16 + half * 8], v[n] = x[n * 16 + half * 8 + 1];
                    }
#pragma unroll
                    for (int j = 0; j < 4; j++)
#pragma unroll
                        for (int n = 0; n < N; n++) {
                            uint32_t of_low = j == 0 ? a[n].x : j == 1 ? a[n].y : j == 2 ? a[n].z : a[n].w;
                            uint32_t of_high = j == 0 ? b[n].x : j == 1 ? b[n].y : j == 2 ? b[n].z : b[n].w, w[4];
                            codes_f16(of_low, &w[0], &w[2]);
                            codes_f16(of_high, &w[1], &w[3]);
                            mma_f16(sum[n], w[0], w[1], w[2], w[3],
                                    j == 0   ? u[n].x
                                    : j == 1 ? u[n].z
                                    : j == 2 ? v[n].x
                                             : v[n].z,
                                    j == 0   ? u[n].y
                                    : j == 1 ? u[n].w
                                    : j == 2 ? v[n].y
                                             : v[n].w);
                        }
                }
#pragma unroll
                for (int n = 0; n < N; n++) {
                    low = __fmaf_rn(__shfl_sync(0xffffffffu, f, low_from + block + n), sum[n][0], low);
                    high = __fmaf_rn(__shfl_sync(0xffffffffu, f, high_from + block + n), sum[n][2], high);
                }
            };
#pragma unroll 1
            for (int i = 0; i < n_stage; i++) {
                copy_wait<RING - 1>();
                __syncwarp();
                const unsigned char *codes = ring + place * stage_bytes + g * row_bytes + q * 16;
                const uint4 *x = xs + (i * s.stage + q * 16) / 8;
                int left = (cols - i * s.stage + 127) >> 7, block = i * (s.stage >> 7);
                if (left > s.stage >> 7) left = s.stage >> 7;
                if (left == SIDE_BY_SIDE * 2) { /* a long stage: alone on its scheduler, a warp waits for every step */
                    add_blocks(std::integral_constant<int, SIDE_BY_SIDE * 2>(), codes, x, block);
                    left = 0;
                }
#pragma unroll 1
                for (; left >= SIDE_BY_SIDE; left -= SIDE_BY_SIDE, block += SIDE_BY_SIDE) {
                    add_blocks(std::integral_constant<int, SIDE_BY_SIDE>(), codes, x, block);
                    codes += SIDE_BY_SIDE * 128, x += SIDE_BY_SIDE * 16;
                }
#pragma unroll 1
                for (; left > 0; left--, block++, codes += 128, x += 16)
                    add_blocks(std::integral_constant<int, 1>(), codes, x, block);
                __syncwarp();
                ask(place);
                place = place + 1 == RING ? 0 : place + 1;
            }
            if (q == 0) to[g] = unit * low, to[g + 8] = unit * high;
            to += s.groups * s.n_segment * OWN_ROWS;
        }
        factors = factor_of(at.w, sixteen + s.step);
        if (MATRICES == 2) factors_second = factor_of(second, sixteen + s.step);
        __syncthreads(); /* the sums are there; those of the turn before have been read */
        if ((int)threadIdx.x >= s.groups * OWN_ROWS) continue;
        auto tree = [&](const float *v) { /* of the segments, 16 floats apart */
                                          float t[MOST_WARPS];
#pragma unroll
                                          for (int i = 0; i < MOST_WARPS; i++)
                                              t[i] = i < s.n_segment ? v[i * OWN_ROWS] : 0.0f;
#pragma unroll
                                          for (int d = 1; d < MOST_WARPS; d *= 2)
#pragma unroll
                                              for (int i = 0; i + d < MOST_WARPS; i += 2 * d)
                                                  t[i] =
                                                      i + d < s.n_segment ? __fadd_rn(t[i], t[i + d]) : t[i];
                                          return t[0];
        };
        const float *from =
            parts + turn * part_room + (threadIdx.x >> 4) * s.n_segment * OWN_ROWS + (threadIdx.x & 15);
        float v = tree(from);
        if (MATRICES == 2) v = v / (1.0f + expf(-v)) * tree(from + s.groups * s.n_segment * OWN_ROWS);
        int c = all * OWN_ROWS + (int)threadIdx.x;
        if (c >= p.rows) continue;
        float *y = at.y + (int64_t)at.row0 * p.y_stride + c;
        *y = p.accumulate ? *y + v : v;
    }
}

/* Others are product_long's. */
static bool suits(const product &p, int most_rows) {
    int segment = p.segment ? p.segment : FP8_SEGMENT;
    return most_rows == 1 && !p.shifted && p.vector && p.cols <= segment * MOST_WARPS &&
           segment <= MOST_BLOCKS * 128;
}

template <class pointers, class more, bool EXPERTS>
static void launch_one(const kern *k, const product &p, const pointers &w, const more &w2, int n_tile,
                       int n_z) {
    one_shape s = {};
    s.segment = p.segment ? p.segment : FP8_SEGMENT;
    s.n_segment = cuda_blocks(p.cols, s.segment);
    if (s.n_segment == 1) s.segment = cuda_blocks(p.cols, 128) * 128; /* no more room than it needs */
    s.slots = s.n_segment;
    s.groups = s.slots >= LEAST_WARPS ? 1 : LEAST_WARPS / s.slots;
    int matrices = sizeof(more) > sizeof(no_pointers) ? 2 : 1, warps = s.slots * s.groups;
    /* long stages bring all of a small matrix at once; with short ones more blocks find room */
    int sixteens = cuda_blocks(p.rows, OWN_ROWS), n_sm = cuda_state_of(k)->n_sm;
    bool small = (int64_t)cuda_blocks(sixteens, s.groups) * n_tile * n_z <= n_sm;
    for (s.stage = 128; s.stage < (small ? STAGE_COLS : STAGE_COLS / 2) && s.stage < s.segment; s.stage *= 2)
        continue;
    size_t shared, rest = (size_t)s.n_segment * s.segment * 2 +
                          (size_t)2 * matrices * s.groups * s.n_segment * OWN_ROWS * sizeof(float);
    for (;; s.stage /= 2) {
        shared = (size_t)warps * RING * OWN_ROWS * (s.stage + STAGE_PAD) + rest;
        if (shared <= cuda_state_of(k)->block_shared || s.stage == 128) break;
    }
    s.lanes = s.stage / 16;
    /* one matrix: as many blocks as find room at once, which go on until all rows are done */
    int grid = cuda_blocks(sixteens, s.groups),
        room = (int)(cuda_state_of(k)->block_shared / (shared + 1024));
    if (room < 1) room = 1;
    if (room * warps > MOST_WARPS) room = MOST_WARPS / warps; /* their registers */
    if (n_tile * n_z == 1 && grid > n_sm * room) grid = n_sm * room;
    s.step = grid * s.groups;
    auto kernel = product_one<pointers, more, EXPERTS>;
    cuda_allow_shared(k, reinterpret_cast<const void *>(kernel), shared);
    launch_early(cuda_early(k), kernel, dim3(grid, n_tile, n_z), warps * 32, shared,
                 cuda_stream(k), p, w, w2, s);
    cuda_launched(k, "a matrix product");
}

bool cuda_product_one(const kern *k, const product &p, const head_pointers &w, int n_tile, int most_rows,
                      int n_z) {
    if (!suits(p, most_rows)) return false;
    launch_one<head_pointers, no_pointers, false>(k, p, w, {}, n_tile, n_z);
    return true;
}
bool cuda_product_one(const kern *k, const product &p, const expert_pointers &w, int n_tile, int most_rows) {
    if (!suits(p, most_rows)) return false;
    launch_one<expert_pointers, no_pointers, true>(k, p, w, {}, n_tile, 1);
    return true;
}
bool cuda_product_one_gated(const kern *k, const product &p, const expert_pointers &gate,
                            const expert_pointers &up, int n_tile, int most_rows) {
    if (!suits(p, most_rows)) return false;
    launch_one<expert_pointers, expert_pointers, true>(k, p, gate, up, n_tile, 1);
    return true;
}
