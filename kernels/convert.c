/* convert.c - number formats, exact to the bit; the reference for all vector code. */
#include "kernels/convert.h"

#include <math.h>
#include <string.h>

static uint32_t bits_of(float v) {
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return u;
}

static float float_of(uint32_t u) {
    float v;
    memcpy(&v, &u, sizeof v);
    return v;
}

float ph_bf16_to_f32(uint16_t v) {
    return float_of((uint32_t)v << 16);
}

uint16_t ph_f32_to_bf16(float v) {
    uint32_t u = bits_of(v);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((u >> 16) | 0x40u); /* quiet: rounding must not turn a NaN into infinity */
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

float ph_f16_to_f32(uint16_t v) {
    uint32_t sign = (uint32_t)(v & 0x8000u) << 16;
    uint32_t exponent = (v >> 10) & 0x1fu, mantissa = v & 0x3ffu;
    if (exponent == 0x1f) return float_of(sign | 0x7f800000u | (mantissa << 13));
    if (exponent == 0) { /* zero or subnormal: mantissa * 2^-24, exact in fp32 */
        float magnitude = (float)mantissa * 0x1p-24f;
        return float_of(sign | bits_of(magnitude));
    }
    return float_of(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

/* The value bits (without sign) of |v| rounded to nearest even in a format of `man` mantissa bits whose
 * smallest normal exponent is min_exp. The carry out of the mantissa steps the exponent by itself. */
static uint32_t round_magnitude(uint32_t u, int man, int min_exp) {
    int exponent = (int)(u >> 23) - 127;
    uint32_t mantissa = u & 0x7fffffu;
    if (u < 0x00800000u)
        return 0; /* fp32 subnormals lie far below half of the smallest value of f16 and fp8 */
    int drop = 23 - man;
    uint32_t code = 0;
    if (exponent >= min_exp) {
        code = ((uint32_t)(exponent - min_exp + 1) << 23) | mantissa;
    } else {
        drop += min_exp - exponent;
        code = mantissa | 0x800000u;
        if (drop > 24) return 0; /* below half of the smallest subnormal */
    }
    uint32_t half = 1u << (drop - 1), rest = code & ((1u << drop) - 1u);
    code >>= drop;
    if (rest > half || (rest == half && (code & 1u))) code++;
    return code;
}

uint16_t ph_f32_to_f16(float v) {
    uint32_t u = bits_of(v), sign = (u >> 16) & 0x8000u;
    u &= 0x7fffffffu;
    if (u > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | ((u >> 13) & 0x3ffu));
    if (u >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* 65520 and above, infinity */
    return (uint16_t)(sign | round_magnitude(u, 10, -14));
}

float ph_fp8_to_f32(uint8_t v) {
    uint32_t sign = (uint32_t)(v & 0x80u) << 24;
    uint32_t exponent = (v >> 3) & 0xfu, mantissa = v & 7u;
    if ((v & 0x7fu) == 0x7fu) return float_of(sign | 0x7fc00000u);
    if (exponent == 0) return float_of(sign | bits_of((float)mantissa * 0x1p-9f));
    return float_of(sign | ((exponent + 120u) << 23) | (mantissa << 20));
}

uint8_t ph_f32_to_fp8(float v) {
    uint32_t u = bits_of(v), sign = (u >> 24) & 0x80u;
    u &= 0x7fffffffu;
    if (u > 0x7f800000u) return 0x7f;
    if (u >= 0x43e00000u) return (uint8_t)(sign | 0x7eu); /* 448 and above, infinity */
    return (uint8_t)(sign | round_magnitude(u, 3, -6));
}

float ph_quantise_fp8_group(const float *x, uint8_t *out, size_t n) {
    float amax = 1e-4f;
    for (size_t i = 0; i < n; i++) {
        float magnitude = fabsf(x[i]);
        if (magnitude > amax) amax = magnitude;
    }
    if (isinf(amax)) amax = 3.402823466e38f;
    /* ceil(log2(ratio)) from the bits: exact where logf would be off by one near powers of two */
    uint32_t u = bits_of(amax / 448.0f);
    int exponent = (int)(u >> 23) - 127 + ((u & 0x7fffffu) != 0);
    float scale = ldexpf(1.0f, exponent);
    for (size_t i = 0; i < n; i++) out[i] = ph_f32_to_fp8(x[i] / scale);
    return scale;
}

float ph_quantise_i8(const float *x, int8_t *out, size_t n) {
    float amax = 0.0f;
    for (size_t i = 0; i < n; i++) {
        float magnitude = fabsf(x[i]);
        amax = magnitude > amax ? magnitude : amax; /* a NaN is passed over */
    }
    float scale = amax / 127.0f;
    if (!(scale > 0.0f))
        scale = 1.0f; /* all zero, or so small that amax / 127 is 0: everything rounds to 0 */
    for (size_t i = 0; i < n; i++) {
        float v = x[i] / scale;
        v = v < 127.0f ? v : 127.0f;
        v = v > -127.0f ? v : -127.0f;
        /* adding and taking away 1.5 * 2^23 rounds to nearest even in the usual rounding mode, and vectorises
         */
        v = (v + 12582912.0f) - 12582912.0f;
        out[i] = (int8_t)(int)v;
    }
    return scale;
}

size_t kern_type_bytes(kern_type type) {
    switch (type) {
    case KERN_F32:
        return 4;
    case KERN_BF16:
    case KERN_F16:
        return 2;
    case KERN_FP8:
    case KERN_I8:
        return 1;
    }
    return 0;
}

/* The element stored at (row, col) of the source's array. */
static float stored_at(const kern_matrix_source *s, int64_t row, int64_t col) {
    int64_t i = row * s->stride + col;
    switch (s->type) {
    case KERN_F32:
        return ((const float *)s->data)[i];
    case KERN_BF16:
        return ph_bf16_to_f32(((const uint16_t *)s->data)[i]);
    case KERN_F16:
        return ph_f16_to_f32(((const uint16_t *)s->data)[i]);
    case KERN_FP8: {
        float v = ph_fp8_to_f32(((const uint8_t *)s->data)[i]);
        if (!s->scale) return v;
        return v * s->scale[(row + s->scale_row0) / 128 * s->scale_stride + (col + s->scale_col0) / 128];
    }
    case KERN_I8:
        break;
    }
    return 0.0f;
}

float kern_source_at(const kern_matrix_source *source, int64_t row, int64_t col) {
    return source->transposed ? stored_at(source, col, row) : stored_at(source, row, col);
}

void kern_source_row(const kern_matrix_source *source, int64_t row, float *out) {
    if (source->type == KERN_F32 && !source->transposed) {
        memcpy(out, (const float *)source->data + row * source->stride, (size_t)source->cols * sizeof *out);
        return;
    }
    for (int64_t col = 0; col < source->cols; col++) out[col] = kern_source_at(source, row, col);
}
