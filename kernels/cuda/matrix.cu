/* matrix.cu - making weight matrices and embedding tables: any source format is converted on the device, with the
 * same roundings as kernels/convert.c. */
#include "kernels/cuda/cuda.h"

#include "kernels/convert.h"

#include <cstdlib>
#include <cstring>

static __device__ float fp8_value(uint8_t v) {
    uint32_t sign = (uint32_t)(v & 0x80u) << 24, exponent = (v >> 3) & 0xfu, mantissa = v & 7u;
    if ((v & 0x7fu) == 0x7fu) return __uint_as_float(sign | 0x7fc00000u);
    if (exponent == 0) return __uint_as_float(sign | __float_as_uint((float)mantissa * 0x1p-9f));
    return __uint_as_float(sign | ((exponent + 120u) << 23) | (mantissa << 20));
}

static __device__ float half_value(uint16_t v) {
    uint32_t sign = (uint32_t)(v & 0x8000u) << 16, exponent = (v >> 10) & 0x1fu, mantissa = v & 0x3ffu;
    if (exponent == 0x1f) return __uint_as_float(sign | 0x7f800000u | (mantissa << 13));
    if (exponent == 0) return __uint_as_float(sign | __float_as_uint((float)mantissa * 0x1p-24f));
    return __uint_as_float(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

static __device__ float stored_value(const void *data, kern_type type, int64_t i) {
    switch (type) {
    case KERN_F32:
        return static_cast<const float *>(data)[i];
    case KERN_BF16:
        return __uint_as_float((uint32_t)static_cast<const uint16_t *>(data)[i] << 16);
    case KERN_F16:
        return half_value(static_cast<const uint16_t *>(data)[i]);
    default:
        return fp8_value(static_cast<const uint8_t *>(data)[i]);
    }
}

/* A strip of stored rows as it came from the host, and where it belongs. */
struct strip {
    const void *data;   /* [n_row, n_col] packed */
    kern_type type;
    int64_t row0, n_row, n_col;
    const float *scale; /* of the whole source; NULL = 1 */
    int64_t scale_stride, scale_row0, scale_col0;
    bool transposed;
};

static __global__ void convert_strip(strip s, void *out, kern_type keep, int64_t stride) {
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= s.n_row * s.n_col) return;
    int64_t row = i / s.n_col, col = i % s.n_col;
    float v = stored_value(s.data, s.type, i);
    if (s.type == KERN_FP8 && s.scale)
        v = __fmul_rn(v, s.scale[(s.row0 + row + s.scale_row0) / 128 * s.scale_stride + (col + s.scale_col0) / 128]);
    int64_t to = s.transposed ? col * stride + s.row0 + row : (s.row0 + row) * stride + col;
    if (keep == KERN_F32)
        static_cast<float *>(out)[to] = v;
    else if (keep == KERN_FP8)
        static_cast<uint8_t *>(out)[to] = static_cast<const uint8_t *>(s.data)[i];
    else
        static_cast<__nv_bfloat16 *>(out)[to] = __float2bfloat16_rn(v);
}

/* Rows of a slice of columns, packed: put side by side on the host first, because every copy has its own wait. */
static void copy_rows_in(kern *k, unsigned char *to, const char *from, int64_t n_row, size_t row_bytes, size_t from_stride) {
    enum { PACK_BYTES = 8 << 20 };
    int64_t at_once = PACK_BYTES / (int64_t)row_bytes;
    if (at_once > n_row) at_once = n_row;
    char *pack = at_once > 1 ? static_cast<char *>(malloc((size_t)at_once * row_bytes)) : nullptr;
    if (!pack) at_once = 1;
    for (int64_t row = 0; row < n_row; row += at_once) {
        int64_t n = n_row - row < at_once ? n_row - row : at_once;
        const char *first = from + (size_t)row * from_stride;
        for (int64_t r = 0; pack && r < n; r++) memcpy(pack + (size_t)r * row_bytes, first + (size_t)r * from_stride, row_bytes);
        k->copy_in(k, to + (size_t)row * row_bytes, pack ? pack : first, (size_t)n * row_bytes);
    }
    free(pack);
}

/* Fills out[used rows, stride] of type keep. */
static int fill(kern *k, void *out, kern_type keep, int64_t stride, const kern_matrix_source *source, ph_error *err) {
    cuda_state *state = cuda_state_of(k);
    cudaStream_t stream = cuda_stream(k);
    int64_t stored_rows = source->transposed ? source->cols : source->rows;
    int64_t stored_cols = source->transposed ? source->rows : source->cols;
    size_t element = kern_type_bytes(source->type), row_bytes = (size_t)stored_cols * element;
    size_t scale_rows = (size_t)((source->scale_row0 + stored_rows + 127) / 128);
    size_t scale_bytes = source->type == KERN_FP8 && source->scale
                             ? ((scale_rows - 1) * (size_t)source->scale_stride +
                                (size_t)((source->scale_col0 + stored_cols + 127) / 128)) * sizeof(float)
                             : 0;
    size_t scale_room = (scale_bytes + 255) / 256 * 256;
    if (scale_room + row_bytes > CUDA_WORK_BYTES)
        return ph_fail(err, PH_TOO_LARGE, "a matrix row of %zu bytes is more than the GPU's working memory of %zu",
                       row_bytes, CUDA_WORK_BYTES);
    strip s = {};
    s.type = source->type;
    s.n_col = stored_cols;
    s.transposed = source->transposed;
    if (scale_bytes) {
        k->copy_in(k, state->work, source->scale, scale_bytes);
        s.scale = reinterpret_cast<const float *>(state->work);
        s.scale_stride = source->scale_stride;
        s.scale_row0 = source->scale_row0;
        s.scale_col0 = source->scale_col0;
    }
    unsigned char *stage = state->work + scale_room;
    s.data = stage;
    int64_t fit = (int64_t)((CUDA_WORK_BYTES - scale_room) / row_bytes);
    for (s.row0 = 0; s.row0 < stored_rows; s.row0 += fit) {
        s.n_row = stored_rows - s.row0 < fit ? stored_rows - s.row0 : fit;
        const char *from = static_cast<const char *>(source->data) + (size_t)(s.row0 * source->stride) * element;
        if (source->stride == stored_cols)
            k->copy_in(k, stage, from, (size_t)s.n_row * row_bytes);
        else
            copy_rows_in(k, stage, from, s.n_row, row_bytes, (size_t)source->stride * element);
        convert_strip<<<cuda_blocks(s.n_row * s.n_col, 256), 256, 0, stream>>>(s, out, keep, stride);
        cuda_launched(k, "converting a matrix");
    }
    return k->status(k, err);
}

static int check_source(const kern_matrix_source *source, ph_error *err) {
    if (source->type == KERN_I8 || kern_type_bytes(source->type) == 0)
        return ph_fail(err, PH_UNSUPPORTED, "A matrix cannot be made from type %d.", (int)source->type);
    if (source->rows < 1 || source->cols < 1)
        return ph_fail(err, PH_USAGE, "A matrix of %lld x %lld elements cannot be made.", (long long)source->rows,
                       (long long)source->cols);
    return PH_OK;
}

/* The factors in the orientation that the matrix is used in. */
static int make_scales(kern *k, kern_matrix *w, const kern_matrix_source *source, ph_error *err) {
    int64_t row0 = source->transposed ? source->scale_col0 : source->scale_row0;
    int64_t col0 = source->transposed ? source->scale_row0 : source->scale_col0;
    w->row0 = (int)(row0 % 128);
    w->col0 = (int)(col0 % 128);
    if (!source->scale) return PH_OK;
    int64_t n_row = (w->row0 + w->rows + 127) / 128, n_col = (w->col0 + w->cols + 127) / 128;
    w->scale_stride = (int)n_col;
    size_t bytes = (size_t)(n_row * n_col) * sizeof(float);
    float *host = static_cast<float *>(malloc(bytes));
    if (!host) return ph_fail(err, PH_MEMORY, "No memory for a matrix's scales.");
    for (int64_t r = 0; r < n_row; r++)
        for (int64_t c = 0; c < n_col; c++) {
            int64_t i = row0 / 128 + r, j = col0 / 128 + c;
            host[r * n_col + c] = source->transposed ? source->scale[j * source->scale_stride + i]
                                                     : source->scale[i * source->scale_stride + j];
        }
    int code = cuda_allocate(k, reinterpret_cast<void **>(&w->scale), bytes, "a matrix's scales", err);
    if (!code) k->copy_in(k, w->scale, host, bytes);
    free(host);
    return code;
}

int cuda_matrix_make(kern *k, kern_matrix **out, const kern_matrix_source *source, kern_type keep, ph_error *err) {
    *out = nullptr;
    if (keep != KERN_F32 && keep != KERN_BF16)
        return ph_fail(err, PH_UNSUPPORTED, "A matrix can be held in F32 or BF16 only, not in type %d.", (int)keep);
    /* Eight neighbouring columns must lie in one block of factors; otherwise the same values take twice the room. */
    if (keep == KERN_BF16 && source->type == KERN_FP8 && k->holds_fp8 &&
        (source->transposed ? source->scale_row0 : source->scale_col0) % 8 == 0)
        keep = KERN_FP8;
    int code = check_source(source, err);
    if (code) return code;
    kern_matrix *w = static_cast<kern_matrix *>(calloc(1, sizeof *w));
    if (!w) return ph_fail(err, PH_MEMORY, "No memory for a matrix.");
    w->rows = source->rows;
    w->cols = source->cols;
    w->type = keep;
    w->stride = (source->cols + 31) / 32 * 32;
    w->segment = keep == KERN_F32 || source->segment % 128 == 0 ? (int)source->segment : 0;
    size_t bytes = (size_t)(w->rows * w->stride) * kern_type_bytes(keep);
    code = cuda_allocate(k, &w->data, bytes, "a matrix", err);
    if (!code) k->zero(k, w->data, bytes);
    if (!code) code = fill(k, w->data, keep, w->stride, source, err);
    if (!code && keep == KERN_FP8) code = make_scales(k, w, source, err);
    if (code) {
        cuda_matrix_free(k, w);
        return code;
    }
    *out = w;
    return PH_OK;
}

void cuda_matrix_free(kern *k, kern_matrix *w) {
    if (!w) return;
    k->free(k, w->data);
    k->free(k, w->scale);
    free(w);
}

/* ---- embeddings ---- */

int cuda_embedding_make(kern *k, kern_embedding **out, const kern_matrix_source *source, ph_error *err) {
    *out = nullptr;
    int code = check_source(source, err);
    if (code) return code;
    kern_embedding *e = static_cast<kern_embedding *>(calloc(1, sizeof *e));
    if (!e) return ph_fail(err, PH_MEMORY, "No memory for an embedding table.");
    e->rows = source->rows;
    e->cols = source->cols;
    e->type = source->type == KERN_BF16 ? KERN_BF16 : KERN_F32;
    code = cuda_allocate(k, &e->data, (size_t)(e->rows * e->cols) * kern_type_bytes(e->type), "the embeddings", err);
    if (!code) code = fill(k, e->data, e->type, e->cols, source, err);
    if (code) {
        cuda_embedding_free(k, e);
        return code;
    }
    *out = e;
    return PH_OK;
}

void cuda_embedding_free(kern *k, kern_embedding *e) {
    if (!e) return;
    k->free(k, e->data);
    free(e);
}

/* So few tokens travel with the launch; more are copied. */
enum { TOKENS_BY_VALUE = 64 };
struct token_values {
    int32_t id[TOKENS_BY_VALUE];
};

static __global__ void embed_rows(token_values values, const int32_t *tokens, const void *table, kern_type type,
                                  int64_t cols, float *x) {
    int64_t token = tokens ? tokens[blockIdx.x] : values.id[blockIdx.x];
    for (int64_t i = threadIdx.x; i < cols; i += blockDim.x)
        x[(int64_t)blockIdx.x * cols + i] = stored_value(table, type, token * cols + i);
}

void cuda_embed(kern *k, const kern_embed *a) {
    if (a->n_tok < 1) return;
    token_values values = {};
    int32_t *tokens = nullptr;
    if (a->n_tok <= TOKENS_BY_VALUE) {
        for (int t = 0; t < a->n_tok; t++) values.id[t] = a->tokens[t];
    } else {
        tokens = reinterpret_cast<int32_t *>(cuda_state_of(k)->work);
        k->copy_in(k, tokens, a->tokens, (size_t)a->n_tok * sizeof *tokens);
    }
    embed_rows<<<a->n_tok, 256, 0, cuda_stream(k)>>>(values, tokens, a->table->data, a->table->type, a->table->cols,
                                                    a->x);
    cuda_launched(k, "embed");
}
