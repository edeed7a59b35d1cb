/* safetensors.h - weights on disk: one model.safetensors, or shards named by model.safetensors.index.json.
 *
 * Files are mapped read-only and never copied. Every offset, shape and size in a header is checked against the
 * file before a tensor is handed out: overlapping, overflowing or misaligned claims are errors.
 */
#ifndef PHAROS_SAFETENSORS_H
#define PHAROS_SAFETENSORS_H

#include "kernels/error.h"

#include <stddef.h>
#include <stdint.h>

typedef enum tensor_type {
    TENSOR_F32, TENSOR_BF16, TENSOR_F16, TENSOR_FP8_E4M3, TENSOR_F64, TENSOR_I8, TENSOR_U8, TENSOR_I32, TENSOR_I64,
    TENSOR_OTHER, /* a type the format knows and we do not use; its size is still checked */
} tensor_type;

typedef struct tensor {
    const char *name; /* borrowed from the file set */
    tensor_type type;
    int n_dim;        /* at most 8 */
    int64_t shape[8];
    const void *data; /* borrowed: the mapping; aligned to its element size, or copied so that it is */
    size_t bytes;
} tensor;

typedef struct tensor_files tensor_files;

/* Opens DIR's model.safetensors or sharded set. PH_MODEL with the reason otherwise. */
int tensors_open_dir(tensor_files **out, const char *dir, ph_error *err);
/* One file by path. */
int tensors_open_file(tensor_files **out, const char *path, ph_error *err);
/* The same from memory (borrowed until close): for the model linked into the program, and for fuzzing. */
int tensors_open_memory(tensor_files **out, const void *bytes, size_t len, ph_error *err);
void tensors_close(tensor_files *f);

size_t tensors_count(const tensor_files *f);
const tensor *tensors_at(const tensor_files *f, size_t i);
/* NULL when there is none. */
const tensor *tensors_find(const tensor_files *f, const char *name);

#endif
