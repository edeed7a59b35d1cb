/* model.h - a model's weights, ready for the backend. Private to engine/. */
#ifndef PHAROS_MODEL_H
#define PHAROS_MODEL_H

#include "engine/config.h"
#include "engine/engine.h"
#include "engine/safetensors.h"
#include "kernels/kernels.h"

typedef struct mlp_weights {
    kern_matrix *gate, *up; /* [width, hidden] */
    kern_matrix *down;      /* [hidden, width] */
} mlp_weights;

typedef struct layer_weights {
    float *attn_norm, *mlp_norm; /* [hidden] */
    float *q_a_norm;             /* [q_lora] */
    float *kv_a_norm;            /* [kv_lora] */
    kern_matrix *q_a;            /* [q_lora, hidden] */
    kern_matrix *q_b;            /* [heads * (nope + rope), q_lora] */
    kern_matrix *kv_a;           /* [kv_lora + rope, hidden] */
    kern_matrix **k_up;          /* [heads] of [kv_lora, nope]: a head's query into latent space */
    kern_matrix **v_up;          /* [heads] of [v_dim, kv_lora]: attended latent to a head's value */
    kern_matrix *o;              /* [hidden, heads * v_dim] */

    /* The indexer; all NULL in a layer that reuses a selection. */
    kern_matrix *index_q; /* [index_heads * index_dim, q_lora] */
    kern_matrix *index_k; /* [index_dim, hidden] */
    kern_matrix
        *index_w; /* [index_heads, hidden], fp32 always as in the release; the score factor is in it */
    float *index_k_norm, *index_k_bias; /* [index_dim] */

    mlp_weights mlp;      /* the dense MLP, or the shared expert (gate NULL = none) */
    kern_matrix *router;  /* [experts, hidden] fp32; NULL in a dense layer */
    float *route_bias;    /* [experts] or NULL */
    kern_matrix **expert_gate, **expert_up, **expert_down; /* [experts] each */
} layer_weights;

typedef struct model {
    model_config config;
    tensor_files *files;
    kern_matrix_source embedding; /* [vocab, hidden] */
    kern_embedding *embedding_table;
    kern_matrix *head;            /* [vocab, hidden] */
    float *final_norm;            /* [hidden] */
    layer_weights *layers;        /* [config.layers] */
    double weights, weight_bytes; /* in all matrices: numbers, and the bytes they are held in */
} model;

/* Takes ownership of files (also on failure). m is zeroed first. keep = format of the matrices. */
int model_load(model *m, const model_config *config, tensor_files *files, kern *k, kern_type keep,
               ph_error *err);
void model_free(model *m, kern *k);

#endif
