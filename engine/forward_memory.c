/* forward_memory.c - what a forward pass works in: the activations of a step of `chunk` rows, and the arrays that a
 * trace's selections come back through. All of it is the backend's memory, asked for once and given back together.
 */
#include "engine/forward.h"

#include <stdlib.h>
#include <string.h>

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

int scratch_make(scratch *s, const model_config *c, const model_share *share, int topk, int chunk, kern *k,
                 ph_error *err) {
    memset(s, 0, sizeof *s);
    s->chunk = chunk;
    size_t n = (size_t)chunk, heads = (size_t)share->heads, rows = n + (size_t)share->ranks - 1;
    bool moe = share->experts > 0, several = share->ranks > 1, apart = moe && !k->ranks_alike; /* kern_experts */
    size_t widest = larger((size_t)share->dense_width, (size_t)share->shared_width);
    if (apart) widest = larger(widest, (size_t)c->expert_width);
    /* What is summed over the ranks: a branch of every row, and a row's mass. */
    int64_t most = (int64_t)(n * (size_t)c->hidden + (size_t)topk);
    size_t branch = several ? (size_t)kern_group_room(share->ranks, most) : apart ? n * (size_t)c->hidden : 0;
    struct {
        void **to;
        size_t elements; /* all are 4 bytes wide */
    } arrays[] = {
        {(void **)&s->x, rows * c->hidden},
        {(void **)&s->norm, n * c->hidden},
        {(void **)&s->branch, branch},
        {(void **)&s->sum_work, several ? (size_t)kern_group_work(share->ranks, most) : 0},
        {(void **)&s->q_a, n * c->q_lora},
        {(void **)&s->q, rows * heads * (size_t)(c->nope + c->rope)},
        {(void **)&s->kv, rows * (size_t)(c->kv_lora + c->rope)},
        {(void **)&s->q_latent, rows * heads * (size_t)c->kv_lora},
        {(void **)&s->attended, rows * heads * (size_t)c->kv_lora},
        {(void **)&s->value, rows * heads * (size_t)c->v_dim},
        {(void **)&s->index_q, n * c->index_heads * (size_t)c->index_dim},
        {(void **)&s->index_k, rows * c->index_dim},
        {(void **)&s->index_w, n * c->index_heads},
        {(void **)&s->position, rows * topk},
        {(void **)&s->count, rows},
        {(void **)&s->score, n * topk},
        {(void **)&s->mass, topk},
        {(void **)&s->gate, n * widest},
        {(void **)&s->up, n * widest},
        {(void **)&s->route_logits, moe ? n * c->experts : 0},
        {(void **)&s->route_weight, moe ? rows * c->experts_per_token : 0},
        {(void **)&s->route_expert, moe ? rows * c->experts_per_token : 0},
        {(void **)&s->expert_in, apart ? n * c->hidden : 0},
        {(void **)&s->expert_out, apart ? n * c->hidden : 0},
        {(void **)&s->expert_scale, apart ? n : 0},
        {(void **)&s->logits, (size_t)share->ranks * (size_t)share->vocab_slice},
        {(void **)&s->freq, c->rope / 2},
    };
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        if (arrays[i].elements == 0) continue;
        int code = k->alloc(k, arrays[i].to, arrays[i].elements * 4, err);
        if (code) {
            scratch_free(s, k);
            return code;
        }
    }
    float *freq = malloc((size_t)(c->rope / 2 + 1) * sizeof *freq);
    if (!freq) {
        scratch_free(s, k);
        return ph_fail(err, PH_MEMORY, "no memory for a chunk of %d tokens", chunk);
    }
    config_rope_freq(c, freq);
    k->copy_in(k, s->freq, freq, (size_t)(c->rope / 2) * sizeof *freq);
    free(freq);
    return PH_OK;
}

void scratch_free(scratch *s, kern *k) {
    void *arrays[] = {s->x,
                      s->norm,
                      s->branch,
                      s->sum_work,
                      s->q_a,
                      s->q,
                      s->kv,
                      s->q_latent,
                      s->attended,
                      s->value,
                      s->index_q,
                      s->index_k,
                      s->index_w,
                      s->position,
                      s->count,
                      s->score,
                      s->mass,
                      s->gate,
                      s->up,
                      s->route_logits,
                      s->route_weight,
                      s->route_expert,
                      s->expert_in,
                      s->expert_out,
                      s->expert_scale,
                      s->logits,
                      s->freq};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) k->free(k, arrays[i]);
    memset(s, 0, sizeof *s);
}

static size_t arrays_bytes(const model_config *c, int topk) {
    size_t heads = (size_t)c->index_heads;
    return (size_t)c->layers * (1 + 3 * (size_t)topk + heads + heads * (size_t)c->index_dim) * sizeof(float);
}

/* Where the arrays stand in one block of memory. */
static void place_arrays(trace_arrays *a, void *memory, const model_config *c, int topk) {
    size_t layers = (size_t)c->layers, n = layers * (size_t)topk, heads = layers * (size_t)c->index_heads;
    float *p = memory; /* every element has 4 bytes */
    a->memory = memory;
    a->count = (int32_t *)p;
    a->position = (int32_t *)(p += layers);
    a->score = p += n;
    a->mass = p += n;
    a->index_w = p += n;
    a->index_q = p + heads;
}

int trace_buffer_make(trace_buffer *t, const model_config *c, int topk, kern *k, ph_error *err) {
    memset(t, 0, sizeof *t);
    t->n_layers = c->layers;
    t->topk = topk;
    t->bytes = arrays_bytes(c, topk);
    t->layers = calloc((size_t)c->layers, sizeof *t->layers);
    void *host = calloc(1, t->bytes), *device = NULL;
    int code = t->layers && host ? PH_OK
                                 : ph_fail(err, PH_MEMORY, "no memory for a trace of %d layers x %d positions",
                                           c->layers, topk);
    if (!code) code = k->alloc(k, &device, t->bytes, err);
    t->host.memory = host;
    if (code) {
        trace_buffer_free(t, k);
        return code;
    }
    place_arrays(&t->host, host, c, topk);
    place_arrays(&t->device, device, c, topk);
    return PH_OK;
}

void trace_buffer_free(trace_buffer *t, kern *k) {
    free(t->layers);
    free(t->host.memory);
    k->free(k, t->device.memory);
    memset(t, 0, sizeof *t);
}
