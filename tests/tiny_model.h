/* tiny_model.h - a small random model in the deepseek_v32 layout, for tests that need an engine and no sense:
 * two layers, 64 wide, 16 of all positions selected, a byte-level tokenizer of 256 bytes and the special
 * tokens. */
#ifndef PHAROS_TINY_MODEL_H
#define PHAROS_TINY_MODEL_H

#include <stdint.h>

/* Ids: a byte is its own id; then the special tokens. */
enum {
    TINY_BOS = 256,
    TINY_EOS,
    TINY_USER,
    TINY_ASSISTANT,
    TINY_THINK_END,
    TINY_THINK_BEGIN,
    TINY_VOCAB = 264,
    TINY_LAYERS = 2
};

typedef struct tiny_options {
    uint64_t seed;     /* another seed is another model */
    int max_positions; /* 0 = 4096 */
    int any_byte;      /* it may write every byte; otherwise printable ASCII only */
} tiny_options;

/* Writes config.json, tokenizer.json and model.safetensors into dir, which must be there. 0, or -1 with
 * errno. */
int tiny_model_write(const char *dir, const tiny_options *options);

/* tokenizer.json alone. */
int tiny_tokenizer_write(const char *dir);

#endif
