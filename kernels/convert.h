/* convert.h - number formats, exact to the bit: bf16, f16, FP8 e4m3fn, and block-scaled FP8.
 *
 * Everything here is portable C and serves as the reference for the vector code in cpu/ and for CUDA.
 */
#ifndef PHAROS_CONVERT_H
#define PHAROS_CONVERT_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

float ph_bf16_to_f32(uint16_t v);
uint16_t ph_f32_to_bf16(float v); /* round to nearest even; NaN stays NaN */
float ph_f16_to_f32(uint16_t v);
uint16_t ph_f32_to_f16(float v);
float ph_fp8_to_f32(uint8_t v);   /* e4m3fn: 0x7f and 0xff are NaN */
uint8_t ph_f32_to_fp8(float v);   /* round to nearest even, saturates at 448; NaN gives 0x7f */

/* Groups of n: amax clamped to >= 1e-4, scale = 2^ceil(log2(amax / 448)), out = fp8(x / scale). Returns the scale.
 * Source: act_quant of the V3.2 release with scale_fmt ue8m0. */
float ph_quantise_fp8_group(const float *x, uint8_t *out, size_t n);

/* Symmetric int8 of n values: scale = amax / 127 (1 where all are 0), round to nearest even. Returns the scale. */
float ph_quantise_i8(const float *x, int8_t *out, size_t n);

/* Bytes of one element; 0 for an unknown type. */
size_t kern_type_bytes(kern_type type);

/* Element (row, col) of a source as used (after transposition and scaling). Reference; slow. */
float kern_source_at(const kern_matrix_source *source, int64_t row, int64_t col);

/* The same for a whole used row: out[cols] filled. */
void kern_source_row(const kern_matrix_source *source, int64_t row, float *out);

#ifdef __cplusplus
}
#endif

#endif
