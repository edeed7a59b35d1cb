/* fuzz_safetensors.c - any bytes as a safetensors file: refused, or every tensor lies where it says. */
#include "engine/safetensors.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    tensor_files *f;
    ph_error err;
    if (tensors_open_memory(&f, data, size, &err)) return 0;
    uint8_t sum = 0;
    for (size_t i = 0; i < tensors_count(f); i++) {
        const tensor *t = tensors_at(f, i);
        if (tensors_find(f, t->name) != t) abort();
        if (t->type == TENSOR_F32 && t->bytes && (uintptr_t)t->data % 4) abort();
        for (size_t k = 0; k < t->bytes; k++) sum ^= ((const uint8_t *)t->data)[k];
    }
    static volatile uint8_t sink; /* the reads are the test */
    sink = sum;
    (void)sink;
    tensors_close(f);
    return 0;
}
