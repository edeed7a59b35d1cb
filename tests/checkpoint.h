/* checkpoint.h - random checkpoints in the released form (FP8 with 128 x 128 factors, shards with an index),
 * and what a plain forward pass in double makes of them.
 *
 * Full width and few layers is what several GPUs are checked with; small ones are made by the tests. The pass
 * shares nothing with the engine but the reader of the files: keys and values are expanded head by head,
 * every score is computed, selections are sorted.
 */
#ifndef PHAROS_TEST_CHECKPOINT_H
#define PHAROS_TEST_CHECKPOINT_H

#include "kernels/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct checkpoint_shape {
    int vocab, hidden, layers, dense_layers, heads;
    int q_lora, kv_lora, nope, rope, v_dim;
    int index_heads, index_dim, index_topk;
    int dense_width, expert_width, experts, shared_experts, experts_per_token, groups, groups_per_token;
} checkpoint_shape;

/* DeepSeek-V3.2's dimensions, with one dense layer and one of experts; and small ones, uneven on purpose. */
checkpoint_shape checkpoint_v32(void);
checkpoint_shape checkpoint_small(void);

/* Writes config.json, tokenizer.json (bytes) and the shards, each of about `shard_bytes` at most, into dir.
 */
int checkpoint_write(const char *dir, const checkpoint_shape *s, uint64_t seed, size_t shard_bytes,
                     ph_error *err);

/* Writes dir/expected.safetensors (engine/check.h) for `tokens` random tokens and `greedy` more. */
int checkpoint_expect(const char *dir, int tokens, int greedy, uint64_t seed, ph_error *err);

/* splitmix64. */
static inline uint64_t checkpoint_random(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

#endif
