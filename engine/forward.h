/* forward.h - one forward pass for prefill and decode. Private to engine/. */
#ifndef PHAROS_FORWARD_H
#define PHAROS_FORWARD_H

#include "engine/engine.h"
#include "engine/model.h"
#include "kernels/group.h"

/* What has been read: per layer the latents and the indexer's keys. A view; the memory belongs to a snapshot. Every rank
 * has a whole one. */
typedef struct cache {
    kern_latents *latents; /* [layers] */
    kern_index_keys *keys; /* [layers]; keys NULL in a layer without an indexer */
} cache;

/* One step's last row in every layer, one block of memory. */
typedef struct trace_arrays {
    void *memory;
    int32_t *count;      /* [layers] */
    int32_t *position;   /* [layers, topk] */
    float *score, *mass; /* [layers, topk] */
    float *index_w;      /* [layers, index_heads] the row's head weights and ... */
    float *index_q;      /* [layers, index_heads * index_dim] ... index queries; unset in a layer without an indexer */
} trace_arrays;

/* The selections of one step's last row, copied out of the working memory. */
typedef struct trace_buffer {
    trace_layer *layers; /* [n_layers], pointing into host */
    int n_layers, topk;
    size_t bytes;
    trace_arrays device; /* in the backend's memory, where the pass leaves them */
    trace_arrays host;
} trace_buffer;

/* Lets a check look into a pass and replace its selections. Any member may be NULL. All arrays are in the backend's
 * memory. */
typedef struct forward_probe {
    void *user;
    /* Hidden state i (0 = embeddings, layers = after the final norm) of the step's rows: [n_tok, hidden]. */
    void (*hidden)(void *user, int i, const float *rows, int n_tok, int64_t pos0);
    /* After a layer has selected (or taken over) positions; may overwrite args->position and args->count.
     * args->q is NULL in a layer that reuses a selection. */
    void (*selected)(void *user, int layer, kern_index_select *args);
    float *all_logits; /* [n_tok, vocab] filled */
} forward_probe;

/* The same for all ranks. What it asks for (logits, trace, probe) is for rank 0 to write; the others only look whether
 * it is asked for. */
typedef struct forward_step {
    const cache *cache;    /* [ranks] */
    const int32_t *tokens; /* [n_tok], each below vocab; n_tok at most the working memory's chunk */
    int n_tok;
    int64_t pos0;            /* tokens before these are in the cache already */
    bool session;            /* of a session, not into a context (kern_sparse_mla) */
    const kern_range *allow; /* NULL = every position may be selected */
    int n_allow;
    float *logits;       /* [vocab] of the last row, filled, or NULL */
    trace_buffer *trace; /* of the last row, filled, or NULL */
    const forward_probe *probe;
} forward_step;

/* Working memory of a pass over at most `chunk` tokens, in the backend's memory. */
typedef struct scratch {
    int chunk;
    float *x, *norm, *branch;   /* [chunk, hidden] residual stream, normed, a branch's output: with several ranks, what
                                   this one adds to a sum, and room for kern_group_sum. x, q, kv, q_latent, attended, value,
                                   index_k, route_weight and route_expert have ranks - 1 rows more, for stretches of one
                                   length */
    float *sum_work;            /* for kern_group_sum; NULL with one rank */
    float *q_a;                 /* [chunk, q_lora] */
    float *q;                   /* [chunk, heads, nope + rope]; heads are this rank's share everywhere here */
    float *kv;                  /* [chunk, kv_lora + rope] */
    float *q_latent, *attended; /* [chunk, heads, kv_lora] */
    float *value;               /* [chunk, heads, v_dim] */
    float *index_q, *index_k,
        *index_w;              /* [chunk, index_heads, index_dim], [chunk, index_dim], [chunk, index_heads] */
    int32_t *position, *count; /* [chunk + ranks - 1, topk], [chunk + ranks - 1] */
    float *score, *mass;       /* [chunk, topk], [topk] of a traced row */
    float *gate, *up;          /* [chunk, this rank's widest MLP] */
    float *route_logits, *route_weight;           /* [chunk, experts], [chunk, experts_per_token] */
    int32_t *route_expert;                        /* [chunk, experts_per_token] */
    float *expert_in, *expert_out, *expert_scale; /* [chunk, hidden] twice, [chunk] */
    float *logits;                                /* [ranks, share.vocab_slice] */
    float *freq;                                  /* [rope / 2] */
} scratch;

int scratch_make(scratch *s, const model_config *c, const model_share *share, int topk, int chunk, kern *k,
                 ph_error *err);
void scratch_free(scratch *s, kern *k);

/* Everything a pass needs; borrowed. */
typedef struct forward_engine {
    const model *model;
    kern *kern;
    scratch *scratch;
    kern_group *group; /* this rank's end; NULL: there is one rank */
    int topk;
    bool dense;
    bool hadamard; /* rotate index queries and keys before they are rounded */
    engine_fault fault; /* tests only */
    bool no_attention;  /* part of the fault: leave attention out of the residual stream in this pass */
} forward_engine;

/* One rank's part of a step; with several, all of them are to be called at the same time. */
void forward(const forward_engine *f, const forward_step *step);

int trace_buffer_make(trace_buffer *t, const model_config *c, int topk, kern *k, ph_error *err);
void trace_buffer_free(trace_buffer *t, kern *k);

#endif
