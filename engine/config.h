/* config.h - the shape of a model: config.json of `deepseek_v32` and `glm_moe_dsa`.
 *
 * Reads both the released form (rope_theta, rope_scaling) and the form of transformers 5 (rope_parameters).
 * Every number is checked before it is used in a product: a config that loads cannot overflow a size.
 */
#ifndef PHAROS_CONFIG_H
#define PHAROS_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

enum { CONFIG_MAX_LAYERS = 512 };

typedef enum config_family { FAMILY_DEEPSEEK_V32, FAMILY_GLM_MOE_DSA } config_family;

typedef struct model_config {
    config_family family;
    int vocab, hidden, layers, heads;
    int q_lora, kv_lora, nope, rope, v_dim;      /* per head: nope, rope, v_dim */
    int index_heads, index_dim, index_topk;
    kern_rope_layout index_rope;                 /* half-split for V3.2, interleaved for GLM (or as the file says) */
    bool index_full[CONFIG_MAX_LAYERS];          /* false: the layer reuses the selection of the last full one below */
    int dense_width, dense_layers;               /* layers below dense_layers have a dense MLP */
    bool moe_layer[CONFIG_MAX_LAYERS];           /* mlp_layer_types, or first_k_dense_replace */
    int expert_width, experts, shared_experts, experts_per_token, groups, groups_per_token; /* 0 without MoE layers */
    float route_scale;
    bool route_normalise;
    float rms_eps;                               /* block norms; the q_a and kv_a norms use 1e-6 always */
    double rope_theta;
    bool yarn;
    double yarn_factor, yarn_beta_fast, yarn_beta_slow, yarn_mscale, yarn_mscale_all_dim;
    int yarn_original;
    int max_positions;
    bool tied_embeddings;
    int bos, eos[8], n_eos;                      /* -1 / 0 where the file has none */
    int fp8_block;                               /* quantization_config.weight_block_size (128), 0 = not FP8 */
    float softmax_scale;                         /* (nope + rope)^-0.5, times the YaRN factor squared */
} model_config;

/* Parses config.json's text (borrowed, len bytes). */
int config_parse(model_config *out, const char *json, size_t len, ph_error *err);

/* Reads DIR/config.json and, where it is there, eos ids of DIR/generation_config.json. */
int config_load(model_config *out, const char *dir, ph_error *err);

/* Whether generation_config.json asks for the release's thinking mode: "thinking_mode": "thinking", where "chat"
 * and nothing do not. The name and both words are those of the release's prompt encoding. */
int config_parse_thinking(bool *out, const char *json, size_t len, ph_error *err);
/* The same of DIR/generation_config.json, where it is there. */
int config_load_thinking(bool *out, const char *dir, ph_error *err);

/* Rotation speed of each pair: freq[rope / 2] filled, in radians per position, YaRN applied.
 * Source: YaRN (arXiv 2309.00071), as in the V3.2 release's precompute_freqs_cis. */
void config_rope_freq(const model_config *c, float *freq);

#endif
