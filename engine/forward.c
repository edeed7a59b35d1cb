/* forward.c - DeepSeek-V3.2's forward pass, read from top to bottom.
 *
 * For each layer:   x += attention(norm(x));   x += mlp(norm(x))
 * Attention writes the new tokens' latents and index keys into the cache, lets the lightning indexer select
 * positions, and attends to those latents only, in the absorbed form. Formulas: the V3.2 paper and the
 * release's reference inference.
 */
#include "engine/forward.h"

#include "engine/fault.h"
#include "kernels/convert.h"

#include <stdlib.h>
#include <string.h>

/* The release norms q_a and kv_a with 1e-6 whatever rms_norm_eps says; the index key's LayerNorm too. */
static const float LORA_NORM_EPS = 1e-6f;

static void embed(const forward_engine *f, const forward_step *step) {
    int hidden = f->model->config.hidden;
    float *rows = f->scratch->host_rows;
    for (int t = 0; t < step->n_tok; t++)
        kern_source_row(&f->model->embedding, step->tokens[t], rows + (size_t)t * hidden);
    f->kern->copy_in(f->kern, f->scratch->x, rows, (size_t)step->n_tok * hidden * sizeof *rows);
}

static void norm_rows(const forward_engine *f, const float *x, const float *weight, float *y, int n_tok) {
    int hidden = f->model->config.hidden;
    f->kern->rmsnorm(f->kern, &(kern_rmsnorm){.x = x,
                                              .weight = weight,
                                              .y = y,
                                              .x_stride = hidden,
                                              .y_stride = hidden,
                                              .n_tok = n_tok,
                                              .dim = hidden,
                                              .eps = f->model->config.rms_eps});
}

static void multiply(const forward_engine *f, const kern_matrix *w, const float *x, int64_t x_stride,
                     float *y, int64_t y_stride, int n_tok) {
    f->kern->matmul(
        f->kern,
        &(kern_matmul){.w = w, .x = x, .y = y, .x_stride = x_stride, .y_stride = y_stride, .n_tok = n_tok});
}

/* Queries: q = q_b norm(q_a x), rotated; the part without position goes into latent space, head by head. */
static void attention_queries(const forward_engine *f, const layer_weights *w, const forward_step *step) {
    const model_config *c = &f->model->config;
    scratch *s = f->scratch;
    kern *k = f->kern;
    int n = step->n_tok, head = c->nope + c->rope;
    int64_t row = (int64_t)c->heads * head, latent_row = (int64_t)c->heads * c->kv_lora;

    multiply(f, w->q_a, s->norm, c->hidden, s->q_a, c->q_lora, n);
    k->rmsnorm(k, &(kern_rmsnorm){.x = s->q_a,
                                  .weight = w->q_a_norm,
                                  .y = s->q_a,
                                  .x_stride = c->q_lora,
                                  .y_stride = c->q_lora,
                                  .n_tok = n,
                                  .dim = c->q_lora,
                                  .eps = LORA_NORM_EPS});
    multiply(f, w->q_b, s->q_a, c->q_lora, s->q, row, n);
    k->rope(k, &(kern_rope){.x = s->q + c->nope,
                            .tok_stride = row,
                            .head_stride = head,
                            .freq = s->freq,
                            .n_tok = n,
                            .n_head = c->heads,
                            .n_rot = c->rope,
                            .pos0 = step->pos0,
                            .layout = KERN_ROPE_INTERLEAVED});
    for (int h = 0; h < c->heads; h++)
        multiply(f, w->k_up[h], s->q + (int64_t)h * head, row, s->q_latent + (int64_t)h * c->kv_lora,
                 latent_row, n);
}

/* The new tokens' latents: norm on the latent only, rotation on the shared key part. */
static void append_latents(const forward_engine *f, const layer_weights *w, const forward_step *step,
                           int layer) {
    const model_config *c = &f->model->config;
    scratch *s = f->scratch;
    kern *k = f->kern;
    int n = step->n_tok, row = c->kv_lora + c->rope;

    multiply(f, w->kv_a, s->norm, c->hidden, s->kv, row, n);
    k->rmsnorm(k, &(kern_rmsnorm){.x = s->kv,
                                  .weight = w->kv_a_norm,
                                  .y = s->kv,
                                  .x_stride = row,
                                  .y_stride = row,
                                  .n_tok = n,
                                  .dim = c->kv_lora,
                                  .eps = LORA_NORM_EPS});
    k->rope(k, &(kern_rope){.x = s->kv + c->kv_lora,
                            .tok_stride = row,
                            .head_stride = row,
                            .freq = s->freq,
                            .n_tok = n,
                            .n_head = 1,
                            .n_rot = c->rope,
                            .pos0 = step->pos0,
                            .layout = KERN_ROPE_INTERLEAVED});
    k->latent_append(k, &(kern_latent_append){.cache = step->cache->latents[layer],
                                              .latent = s->kv,
                                              .k_pe = s->kv + c->kv_lora,
                                              .latent_stride = row,
                                              .k_pe_stride = row,
                                              .pos0 = step->pos0,
                                              .n_tok = n});
}

/* The lightning indexer's queries, weights and new keys. */
static void index_project(const forward_engine *f, const layer_weights *w, const forward_step *step,
                          int layer) {
    const model_config *c = &f->model->config;
    scratch *s = f->scratch;
    kern *k = f->kern;
    int n = step->n_tok, dim = c->index_dim;
    int64_t row = (int64_t)c->index_heads * dim;

    multiply(f, w->index_q, s->q_a, c->q_lora, s->index_q, row, n);
    multiply(f, w->index_k, s->norm, c->hidden, s->index_k, dim, n);
    k->layernorm(k, &(kern_layernorm){.x = s->index_k,
                                      .weight = w->index_k_norm,
                                      .bias = w->index_k_bias,
                                      .y = s->index_k,
                                      .n_tok = n,
                                      .dim = dim,
                                      .eps = LORA_NORM_EPS});
    kern_rope rope = {.x = s->index_q,
                      .tok_stride = row,
                      .head_stride = dim,
                      .freq = s->freq,
                      .n_tok = n,
                      .n_head = c->index_heads,
                      .n_rot = c->rope,
                      .pos0 = step->pos0,
                      .layout = c->index_rope};
    k->rope(k, &rope);
    rope.x = s->index_k;
    rope.tok_stride = rope.head_stride = dim;
    rope.n_head = 1;
    k->rope(k, &rope);
    if (f->hadamard) {
        k->hadamard(k, &(kern_hadamard){.x = s->index_q, .n_row = (int64_t)n * c->index_heads, .dim = dim});
        k->hadamard(k, &(kern_hadamard){.x = s->index_k, .n_row = n, .dim = dim});
    }
    multiply(f, w->index_w, s->norm, c->hidden, s->index_w, c->index_heads, n);
    k->index_append(k,
                    &(kern_index_append){
                        .cache = step->cache->keys[layer], .k = s->index_k, .pos0 = step->pos0, .n_tok = n});
}

/* Leaves each row's positions in scratch. A layer without an indexer finds those of the last full layer
 * there. */
static void select_positions(const forward_engine *f, const layer_weights *w, const forward_step *step,
                             int layer) {
    const model_config *c = &f->model->config;
    scratch *s = f->scratch;
    kern_index_select select = {.pos0 = step->pos0,
                                .n_tok = step->n_tok,
                                .n_head = c->index_heads,
                                .n_select = f->topk,
                                .position = s->position,
                                .count = s->count};
    if (w->index_q) {
        select.cache = step->cache->keys[layer];
        select.q = s->index_q;
        select.w = s->index_w;
        select.allow = step->allow;
        select.n_allow = step->n_allow;
        select.score = step->trace || step->probe ? s->score : NULL;
        f->kern->index_select(f->kern, &select);
        if (f->fault == ENGINE_FAULT_SHUFFLED_SCORES) fault_shuffle(layer, &select);
    }
    if (step->probe && step->probe->selected) step->probe->selected(step->probe->user, layer, &select);
}

static void keep_trace(const forward_engine *f, const forward_step *step, bool scored, int layer) {
    scratch *s = f->scratch;
    trace_buffer *t = step->trace;
    size_t at = (size_t)(step->n_tok - 1) * f->topk, to = (size_t)layer * f->topk;
    int32_t count;
    f->kern->copy_out(f->kern, &count, s->count + step->n_tok - 1, sizeof count);
    f->kern->copy_out(f->kern, t->position + to, s->position + at, (size_t)count * sizeof *t->position);
    f->kern->copy_out(f->kern, t->mass + to, s->mass + at, (size_t)count * sizeof *t->mass);
    if (scored) {
        const model_config *c = &f->model->config;
        size_t heads = (size_t)c->index_heads, queries = heads * (size_t)c->index_dim,
               row = (size_t)step->n_tok - 1;
        f->kern->copy_out(f->kern, t->score + to, s->score + at, (size_t)count * sizeof *t->score);
        f->kern->copy_out(f->kern, t->index_q + (size_t)layer * queries, s->index_q + row * queries,
                          queries * sizeof *t->index_q);
        f->kern->copy_out(f->kern, t->index_w + (size_t)layer * heads, s->index_w + row * heads,
                          heads * sizeof *t->index_w);
    }
    t->layers[layer] = (trace_layer){.layer = layer,
                                     .count = count,
                                     .position = t->position + to,
                                     .score = scored ? t->score + to : NULL,
                                     .mass = t->mass + to};
}

static void attend(const forward_engine *f, const forward_step *step, bool scored, int layer) {
    const model_config *c = &f->model->config;
    scratch *s = f->scratch;
    int head = c->nope + c->rope;
    int64_t row = (int64_t)c->heads * head;
    if (f->dense) {
        f->kern->dense_mla(f->kern, &(kern_dense_mla){.cache = step->cache->latents[layer],
                                                      .q_latent = s->q_latent,
                                                      .q_pe = s->q + c->nope,
                                                      .q_pe_tok_stride = row,
                                                      .q_pe_head_stride = head,
                                                      .pos0 = step->pos0,
                                                      .n_tok = step->n_tok,
                                                      .n_head = c->heads,
                                                      .allow = step->allow,
                                                      .n_allow = step->n_allow,
                                                      .scale = c->softmax_scale,
                                                      .out = s->attended});
        return;
    }
    f->kern->sparse_mla(f->kern, &(kern_sparse_mla){.cache = step->cache->latents[layer],
                                                    .q_latent = s->q_latent,
                                                    .q_pe = s->q + c->nope,
                                                    .q_pe_tok_stride = row,
                                                    .q_pe_head_stride = head,
                                                    .position = s->position,
                                                    .count = s->count,
                                                    .n_tok = step->n_tok,
                                                    .n_head = c->heads,
                                                    .n_select = f->topk,
                                                    .scale = c->softmax_scale,
                                                    .out = s->attended,
                                                    .mass = step->trace ? s->mass : NULL});
    if (step->trace) keep_trace(f, step, scored, layer);
}

static void attention(const forward_engine *f, const layer_weights *w, const forward_step *step, int layer) {
    const model_config *c = &f->model->config;
    scratch *s = f->scratch;
    int n = step->n_tok;
    int64_t latent_row = (int64_t)c->heads * c->kv_lora, value_row = (int64_t)c->heads * c->v_dim;

    norm_rows(f, s->x, w->attn_norm, s->norm, n);
    attention_queries(f, w, step);
    append_latents(f, w, step, layer);
    if (w->index_q) index_project(f, w, step, layer);
    if (!f->dense) select_positions(f, w, step, layer);
    attend(f, step, w->index_q != NULL, layer);
    if (f->no_attention) return;
    for (int h = 0; h < c->heads; h++)
        multiply(f, w->v_up[h], s->attended + (int64_t)h * c->kv_lora, latent_row,
                 s->value + (int64_t)h * c->v_dim, value_row, n);
    f->kern->matmul(f->kern, &(kern_matmul){.w = w->o,
                                            .x = s->value,
                                            .y = s->x,
                                            .x_stride = value_row,
                                            .y_stride = c->hidden,
                                            .n_tok = n,
                                            .accumulate = true});
}

/* y (+)= down(silu(gate x) * up x) */
static void mlp_into(const forward_engine *f, const mlp_weights *w, int64_t width, const float *x, float *y,
                     int n_tok, bool accumulate) {
    scratch *s = f->scratch;
    int hidden = f->model->config.hidden;
    multiply(f, w->gate, x, hidden, s->gate, width, n_tok);
    multiply(f, w->up, x, hidden, s->up, width, n_tok);
    f->kern->swiglu(f->kern,
                    &(kern_swiglu){.gate = s->gate, .up = s->up, .y = s->gate, .n = (int64_t)n_tok * width});
    f->kern->matmul(f->kern, &(kern_matmul){.w = w->down,
                                            .x = s->gate,
                                            .y = y,
                                            .x_stride = width,
                                            .y_stride = hidden,
                                            .n_tok = n_tok,
                                            .accumulate = accumulate});
}

/* Each expert runs over the rows that chose it; a row's sum is in the order of the experts' numbers, so that
 * it does not depend on which other rows are in the chunk. */
static void experts_into(const forward_engine *f, const layer_weights *w, int n_tok) {
    const model_config *c = &f->model->config;
    scratch *s = f->scratch;
    kern *k = f->kern;
    size_t row_bytes = (size_t)c->hidden * sizeof(float);

    multiply(f, w->router, s->norm, c->hidden, s->route_logits, c->experts, n_tok);
    k->route(k, &(kern_route){.logits = s->route_logits,
                              .bias = w->route_bias,
                              .expert = s->route_expert,
                              .weight = s->route_weight,
                              .n_tok = n_tok,
                              .n_expert = c->experts,
                              .n_pick = c->experts_per_token,
                              .n_group = c->groups,
                              .n_group_pick = c->groups_per_token,
                              .normalise = c->route_normalise,
                              .scale = c->route_scale});
    if (w->mlp.gate)
        mlp_into(f, &w->mlp, (int64_t)c->expert_width * c->shared_experts, s->norm, s->branch, n_tok, false);
    else
        memset(s->branch, 0, (size_t)n_tok * row_bytes);

    for (int e = 0; e < c->experts; e++) {
        int rows = 0;
        for (int t = 0; t < n_tok; t++) {
            for (int p = 0; p < c->experts_per_token; p++) {
                size_t pick = (size_t)t * c->experts_per_token + p;
                if (s->route_expert[pick] != e) continue;
                memcpy(s->expert_in + (size_t)rows * c->hidden, s->norm + (size_t)t * c->hidden, row_bytes);
                s->expert_scale[rows++] = s->route_weight[pick];
            }
        }
        if (rows == 0) continue;
        mlp_into(f, &w->experts[e], c->expert_width, s->expert_in, s->expert_out, rows, false);
        rows = 0;
        for (int t = 0; t < n_tok; t++) {
            for (int p = 0; p < c->experts_per_token; p++) {
                if (s->route_expert[(size_t)t * c->experts_per_token + p] != e) continue;
                k->add(k, &(kern_add){.x = s->expert_out + (size_t)rows * c->hidden,
                                      .scale = s->expert_scale + rows,
                                      .y = s->branch + (size_t)t * c->hidden,
                                      .n_tok = 1,
                                      .dim = c->hidden});
                rows++;
            }
        }
    }
}

static void feed_forward(const forward_engine *f, const layer_weights *w, int n_tok) {
    const model_config *c = &f->model->config;
    scratch *s = f->scratch;
    norm_rows(f, s->x, w->mlp_norm, s->norm, n_tok);
    if (!w->router) {
        mlp_into(f, &w->mlp, c->dense_width, s->norm, s->x, n_tok, true);
        return;
    }
    experts_into(f, w, n_tok);
    f->kern->add(f->kern, &(kern_add){.x = s->branch, .y = s->x, .n_tok = n_tok, .dim = c->hidden});
}

static void show_hidden(const forward_step *step, int i, const float *rows) {
    if (step->probe && step->probe->hidden)
        step->probe->hidden(step->probe->user, i, rows, step->n_tok, step->pos0);
}

void forward(const forward_engine *f, const forward_step *step) {
    const model_config *c = &f->model->config;
    scratch *s = f->scratch;
    int n = step->n_tok;

    embed(f, step);
    show_hidden(step, 0, s->x);
    for (int i = 0; i < c->layers; i++) {
        const layer_weights *w = &f->model->layers[i];
        attention(f, w, step, i);
        feed_forward(f, w, n);
        if (i + 1 < c->layers) show_hidden(step, i + 1, s->x);
    }
    if (step->probe) {
        norm_rows(f, s->x, f->model->final_norm, s->norm, n);
        show_hidden(step, c->layers, s->norm);
        if (step->probe->all_logits)
            multiply(f, f->model->head, s->norm, c->hidden, step->probe->all_logits, c->vocab, n);
    }
    if (step->logits) {
        norm_rows(f, s->x + (size_t)(n - 1) * c->hidden, f->model->final_norm, s->norm, 1);
        multiply(f, f->model->head, s->norm, c->hidden, s->logits, c->vocab, 1);
        f->kern->copy_out(f->kern, step->logits, s->logits, (size_t)c->vocab * sizeof(float));
    }
}

/* ---- working memory ---- */

int scratch_make(scratch *s, const model_config *c, int topk, int chunk, kern *k, ph_error *err) {
    memset(s, 0, sizeof *s);
    s->chunk = chunk;
    size_t n = (size_t)chunk;
    size_t widest = c->dense_width > 0 ? (size_t)c->dense_width : 0;
    size_t expert = (size_t)c->expert_width, shared = expert * (size_t)c->shared_experts;
    if (expert > widest) widest = expert;
    if (shared > widest) widest = shared;
    bool moe = c->experts > 0;
    struct {
        void **to;
        size_t elements; /* all are 4 bytes wide */
    } arrays[] = {
        {(void **)&s->x, n * c->hidden},
        {(void **)&s->norm, n * c->hidden},
        {(void **)&s->branch, moe ? n * c->hidden : 0},
        {(void **)&s->q_a, n * c->q_lora},
        {(void **)&s->q, n * c->heads * (size_t)(c->nope + c->rope)},
        {(void **)&s->kv, n * (size_t)(c->kv_lora + c->rope)},
        {(void **)&s->q_latent, n * c->heads * (size_t)c->kv_lora},
        {(void **)&s->attended, n * c->heads * (size_t)c->kv_lora},
        {(void **)&s->value, n * c->heads * (size_t)c->v_dim},
        {(void **)&s->index_q, n * c->index_heads * (size_t)c->index_dim},
        {(void **)&s->index_k, n * c->index_dim},
        {(void **)&s->index_w, n * c->index_heads},
        {(void **)&s->position, n * topk},
        {(void **)&s->count, n},
        {(void **)&s->score, n * topk},
        {(void **)&s->mass, n * topk},
        {(void **)&s->gate, n * widest},
        {(void **)&s->up, n * widest},
        {(void **)&s->route_logits, moe ? n * c->experts : 0},
        {(void **)&s->route_weight, moe ? n * c->experts_per_token : 0},
        {(void **)&s->route_expert, moe ? n * c->experts_per_token : 0},
        {(void **)&s->expert_in, moe ? n * c->hidden : 0},
        {(void **)&s->expert_out, moe ? n * c->hidden : 0},
        {(void **)&s->expert_scale, moe ? n : 0},
        {(void **)&s->logits, c->vocab},
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
    s->host_rows = malloc(n * c->hidden * sizeof *s->host_rows);
    if (!s->host_rows) {
        scratch_free(s, k);
        return ph_fail(err, PH_MEMORY, "no memory for a chunk of %d tokens", chunk);
    }
    /* host_rows holds at least rope / 2 elements: hidden is never smaller in a model that config.c accepts.
     */
    config_rope_freq(c, s->host_rows);
    k->copy_in(k, s->freq, s->host_rows, (size_t)(c->rope / 2) * sizeof(float));
    return PH_OK;
}

void scratch_free(scratch *s, kern *k) {
    void *arrays[] = {s->x,
                      s->norm,
                      s->branch,
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
    free(s->host_rows);
    memset(s, 0, sizeof *s);
}

int trace_buffer_make(trace_buffer *t, const model_config *c, int topk, ph_error *err) {
    memset(t, 0, sizeof *t);
    int layers = t->n_layers = c->layers;
    size_t n = (size_t)layers * topk, heads = (size_t)layers * c->index_heads;
    t->layers = calloc((size_t)layers, sizeof *t->layers);
    t->index_q = calloc(heads * (size_t)c->index_dim, sizeof *t->index_q);
    t->index_w = calloc(heads, sizeof *t->index_w);
    t->position = calloc(n, sizeof *t->position);
    t->score = calloc(n, sizeof *t->score);
    t->mass = calloc(n, sizeof *t->mass);
    if (t->layers && t->position && t->score && t->mass && t->index_q && t->index_w) return PH_OK;
    trace_buffer_free(t);
    return ph_fail(err, PH_MEMORY, "no memory for a trace of %d layers x %d positions", layers, topk);
}

void trace_buffer_free(trace_buffer *t) {
    free(t->layers);
    free(t->position);
    free(t->score);
    free(t->mass);
    free(t->index_q);
    free(t->index_w);
    memset(t, 0, sizeof *t);
}
