/* model.h - a model's weights, ready for the backend. Private to engine/. */
#ifndef PHAROS_MODEL_H
#define PHAROS_MODEL_H

#include "engine/config.h"
#include "engine/engine.h"
#include "engine/safetensors.h"
#include "kernels/kernels.h"

/* The part of a model that one rank has: heads, experts, columns of the MLPs and rows of the head are dealt out evenly,
 * the rest is everyone's. One rank alone has all of it. */
typedef struct model_share {
    int rank, ranks;
    int heads, first_head;
    int experts, first_expert;     /* routed ones: the first, first + ranks, ...; 0 without MoE layers */
    int dense_width, shared_width; /* columns of a dense MLP; of the shared experts together */
    int shared;                    /* shared experts that are dealt out by position (kern_experts): the width is 0 then */
    int vocab, first_vocab;        /* rows of the head: `vocab_slice` of them but for the last rank, which may have fewer */
    int vocab_slice;
} model_share;

/* alike: the backend's ranks_alike. PH_UNSUPPORTED with the numbers where something cannot be dealt out evenly. */
int model_share_make(model_share *out, const model_config *c, int rank, int ranks, bool alike, ph_error *err);

typedef struct mlp_weights {
    kern_matrix *gate, *up; /* [share of width, hidden] */
    kern_matrix *down;      /* [hidden, share of width] */
} mlp_weights;

typedef struct layer_weights {
    float *attn_norm, *mlp_norm; /* [hidden] */
    float *q_a_norm;             /* [q_lora] */
    float *kv_a_norm;            /* [kv_lora] */
    kern_matrix *q_a;            /* [q_lora, hidden] */
    kern_matrix *q_b;            /* [share.heads * (nope + rope), q_lora] */
    kern_matrix *kv_a;           /* [kv_lora + rope, hidden] */
    kern_matrix **k_up;          /* [share.heads] of [kv_lora, nope]: a head's query into latent space */
    kern_matrix **v_up;          /* [share.heads] of [v_dim, kv_lora]: attended latent to a head's value */
    kern_matrix *o;              /* [hidden, share.heads * v_dim] */
    kern_matrix *q_b_all, *o_all, **k_up_all, **v_up_all; /* the same of all heads; NULL unless model.by_rows */

    /* The indexer; all NULL in a layer that reuses a selection. */
    kern_matrix *index_q; /* [index_heads * index_dim, q_lora] */
    kern_matrix *index_k; /* [index_dim, hidden] */
    kern_matrix
        *index_w; /* [index_heads, hidden], fp32 always as in the release; the score factor is in it */
    float *index_k_norm, *index_k_bias; /* [index_dim] */

    mlp_weights mlp;      /* the dense MLP, or the shared expert (gate NULL = none) */
    kern_matrix *router;  /* [experts, hidden] fp32; NULL in a dense layer */
    float *route_bias;    /* [experts] or NULL */
    kern_matrix **expert_gate, **expert_up, **expert_down; /* [share.experts + share.shared] each, routed ones first */
} layer_weights;

typedef struct model {
    model_config config;
    model_share share;
    const tensor_files *files; /* borrowed */
    kern_matrix_source embedding; /* [vocab, hidden] */
    kern_embedding *embedding_table;
    kern_matrix *head;            /* [share.vocab, hidden] */
    float *final_norm;            /* [hidden] */
    layer_weights *layers;        /* [config.layers] */
    bool alike;                   /* so many ranks compute what one does, to the bit */
    bool by_rows;                 /* each rank has attention's weights whole as well, for steps of many rows */
    double weights, weight_bytes; /* in all matrices of this rank, without those: numbers, and the bytes they are held in */
} model;

/* Loads one rank's share, and reads no more of the files than that. They are borrowed until model_free. m is zeroed first.
 * keep = format of the matrices. */
int model_load(model *m, const model_config *config, const model_share *share, const tensor_files *files, kern *k,
               kern_type keep, ph_error *err);
void model_free(model *m, kern *k);

#endif
