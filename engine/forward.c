/* forward.c - DeepSeek-V3.2's forward pass, read from top to bottom.
 *
 * For each layer:   x += attention(norm(x));   x += mlp(norm(x))
 * Attention writes the new tokens' latents and index keys into the cache, lets the lightning indexer select
 * positions, and attends to those latents only, in the absorbed form. Formulas: the V3.2 paper and the
 * release's reference inference.
 *
 * Several ranks (PARALLEL.md) run this side by side, each with its heads, experts and columns. The residual stream, the
 * latents and the selections are the same on all of them, to the bit: each branch's output is summed over the ranks
 * in a fixed order before it is added. In steps of many rows each rank does attention for its rows with all heads instead,
 * where both ways give the same bits: nothing is summed then, and latents, index keys and x are gathered.
 */
#include "engine/forward.h"

#include "engine/fault.h"

#include <xxhash.h>

/* The release norms q_a and kv_a with 1e-6 whatever rms_norm_eps says; the index key's LayerNorm too. */
static const float LORA_NORM_EPS = 1e-6f;

/* ---- ranks ---- */

static bool leads(const forward_engine *f) {
    return !f->group || f->group->rank == 0;
}

/* This rank's own. */
static const cache *cache_of(const forward_engine *f, const forward_step *step) {
    return step->cache + f->model->share.rank;
}

/* x += what the ranks have in `branch`. */
static void add_branches(const forward_engine *f, int n_tok) {
    scratch *s = f->scratch;
    kern_group_sum(f->group, f->kern, s->branch, s->x, (int64_t)n_tok * f->model->config.hidden, s->sum_work);
}

/* Whether a traced row's mass is summed along with what attention adds to x, behind it in `branch`: few rows' exchanges
 * take the time of an exchange and not of its numbers. */
static bool mass_goes_along(const forward_engine *f, const forward_step *step) {
    int64_t n = (int64_t)step->n_tok * f->model->config.hidden;
    return f->group && step->trace && n % 4 == 0 && n + f->topk <= KERN_GROUP_SMALL;
}

/* A stretch of a step's rows. */
typedef struct row_range {
    int first, n;
} row_range;

/* Every rank has all index keys, so that a rank can select for any row: many rows are dealt out and the selections
 * gathered. One row, or one that somebody looks at, is selected for by everybody. */
static bool deals_rows(const forward_engine *f, const forward_step *step) {
    return f->group && !step->trace && !step->probe && step->n_tok >= f->group->size;
}

static int rows_each(const forward_engine *f, const forward_step *step) {
    return (step->n_tok + f->group->size - 1) / f->group->size;
}

/* The rows that this rank selects for; the last ranks may have none. */
static row_range selecting_rows(const forward_engine *f, const forward_step *step) {
    if (!deals_rows(f, step)) return (row_range){0, step->n_tok};
    int each = rows_each(f, step), first = f->group->rank * each, rest = step->n_tok - first;
    return (row_range){first, rest < 0 ? 0 : rest < each ? rest : each};
}

/* So many rows on each rank, and attention goes by rows: a rank reads the weights of all heads for them. */
enum { ROWS_PAY = 64 };

static bool by_rows(const forward_engine *f, const forward_step *step) {
    return deals_rows(f, step) && f->model->by_rows && f->model->alike && step->n_tok >= ROWS_PAY * f->group->size;
}

/* A rank's part of attention: its heads of all rows, or all heads of its rows, which then stand first in q, q_latent,
 * attended and value, and in their places elsewhere. */
typedef struct attention_part {
    row_range rows;
    int heads;
    const kern_matrix *q_b, *o;
    kern_matrix *const *k_up, *const *v_up;
} attention_part;

static attention_part attention_part_of(const forward_engine *f, const layer_weights *w, const forward_step *step) {
    if (by_rows(f, step))
        return (attention_part){selecting_rows(f, step), f->model->config.heads, w->q_b_all, w->o_all, w->k_up_all, w->v_up_all};
    return (attention_part){{0, step->n_tok}, f->model->share.heads, w->q_b, w->o, w->k_up, w->v_up};
}

/* Where attention goes by rows: everybody gets the others' rows of `width` numbers of 4 bytes. */
static void gather_rows(const forward_engine *f, const forward_step *step, void *rows, int64_t width) {
    if (!by_rows(f, step)) return;
    size_t each = (size_t)(rows_each(f, step) * width) * 4;
    f->group->all_gather(f->group, (char *)rows + (size_t)f->group->rank * each, rows, each);
}

/* ---- lanes: what does not need each other (kernels.h) ---- */

static void lane(const forward_engine *f, int n) {
    if (f->kern->lane) f->kern->lane(f->kern, n);
}
static void join_lanes(const forward_engine *f) {
    if (f->kern->join) f->kern->join(f->kern);
}

/* ---- the pass ---- */

static void embed(const forward_engine *f, const forward_step *step) {
    f->kern->embed(f->kern, &(kern_embed){.table = f->model->embedding_table,
                                          .tokens = step->tokens,
                                          .x = f->scratch->x,
                                          .n_tok = step->n_tok});
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

/* What both kinds of queries are made from: norm(q_a x). */
static void low_rank_queries(const forward_engine *f, const layer_weights *w, row_range rows) {
    const model_config *c = &f->model->config;
    float *q_a = f->scratch->q_a + (int64_t)rows.first * c->q_lora;
    multiply(f, w->q_a, f->scratch->norm + (int64_t)rows.first * c->hidden, c->hidden, q_a, c->q_lora, rows.n);
    f->kern->rmsnorm(f->kern, &(kern_rmsnorm){.x = q_a,
                                              .weight = w->q_a_norm,
                                              .y = q_a,
                                              .x_stride = c->q_lora,
                                              .y_stride = c->q_lora,
                                              .n_tok = rows.n,
                                              .dim = c->q_lora,
                                              .eps = LORA_NORM_EPS});
}

/* Queries: q = q_b of those, rotated; the part without position goes into latent space, head by head. */
static void attention_queries(const forward_engine *f, const attention_part *part, const forward_step *step) {
    const model_config *c = &f->model->config;
    scratch *s = f->scratch;
    kern *k = f->kern;
    int n = part->rows.n, heads = part->heads, head = c->nope + c->rope;
    int64_t row = (int64_t)heads * head, latent_row = (int64_t)heads * c->kv_lora;

    multiply(f, part->q_b, s->q_a + (int64_t)part->rows.first * c->q_lora, c->q_lora, s->q, row, n);
    k->rope(k, &(kern_rope){.x = s->q + c->nope,
                            .tok_stride = row,
                            .head_stride = head,
                            .freq = s->freq,
                            .n_tok = n,
                            .n_head = heads,
                            .n_rot = c->rope,
                            .pos0 = step->pos0 + part->rows.first,
                            .layout = KERN_ROPE_INTERLEAVED});
    k->matmul_each(k, &(kern_matmul_each){.w = (const kern_matrix *const *)part->k_up,
                                          .n = heads,
                                          .x = s->q,
                                          .y = s->q_latent,
                                          .x_step = head,
                                          .y_step = c->kv_lora,
                                          .x_stride = row,
                                          .y_stride = latent_row,
                                          .n_tok = n});
}

/* The new tokens' latents: norm on the latent only, rotation on the shared key part. */
static void append_latents(const forward_engine *f, const layer_weights *w, const forward_step *step, row_range rows,
                           int layer) {
    const model_config *c = &f->model->config;
    scratch *s = f->scratch;
    kern *k = f->kern;
    int n = step->n_tok, row = c->kv_lora + c->rope;
    float *kv = s->kv + (int64_t)rows.first * row;

    multiply(f, w->kv_a, s->norm + (int64_t)rows.first * c->hidden, c->hidden, kv, row, rows.n);
    k->rmsnorm(k, &(kern_rmsnorm){.x = kv,
                                  .weight = w->kv_a_norm,
                                  .y = kv,
                                  .x_stride = row,
                                  .y_stride = row,
                                  .n_tok = rows.n,
                                  .dim = c->kv_lora,
                                  .eps = LORA_NORM_EPS});
    k->rope(k, &(kern_rope){.x = kv + c->kv_lora,
                            .tok_stride = row,
                            .head_stride = row,
                            .freq = s->freq,
                            .n_tok = rows.n,
                            .n_head = 1,
                            .n_rot = c->rope,
                            .pos0 = step->pos0 + rows.first,
                            .layout = KERN_ROPE_INTERLEAVED});
    gather_rows(f, step, s->kv, row);
    k->latent_append(k, &(kern_latent_append){.cache = cache_of(f, step)->latents[layer],
                                              .latent = s->kv,
                                              .k_pe = s->kv + c->kv_lora,
                                              .latent_stride = row,
                                              .k_pe_stride = row,
                                              .pos0 = step->pos0,
                                              .n_tok = n});
}

/* Where a layer's selection goes: into working memory, or, when one row is traced, straight into the trace. */
typedef struct selection {
    int32_t *position, *count;
    float *score, *mass, *index_q, *index_w;
} selection;

/* The layer whose selection this one uses: itself, or the last one below that has an indexer. */
static int selecting_layer(const model_config *c, int layer) {
    while (layer > 0 && !c->index_full[layer]) layer--;
    return layer;
}

static selection selection_of(const forward_engine *f, const forward_step *step, int layer) {
    const model_config *c = &f->model->config;
    const scratch *s = f->scratch;
    if (!step->trace || step->n_tok > 1 || !leads(f))
        return (selection){s->position, s->count, s->score, s->mass, s->index_q, s->index_w};
    const trace_arrays *t = &step->trace->device;
    size_t from = (size_t)selecting_layer(c, layer), heads = (size_t)c->index_heads, topk = (size_t)step->trace->topk;
    return (selection){t->position + from * topk,
                       t->count + from,
                       t->score + from * topk,
                       t->mass + (size_t)layer * topk,
                       t->index_q + from * heads * (size_t)c->index_dim,
                       t->index_w + from * heads};
}

/* The lightning indexer's rotation; then, where the cache rounds, the transform that spreads a row's outliers. */
static void index_turn(const forward_engine *f, const forward_step *step, float *x, row_range rows, int heads) {
    const model_config *c = &f->model->config;
    kern *k = f->kern;
    int dim = c->index_dim;
    k->rope(k, &(kern_rope){.x = x,
                            .tok_stride = (int64_t)heads * dim,
                            .head_stride = dim,
                            .freq = f->scratch->freq,
                            .n_tok = rows.n,
                            .n_head = heads,
                            .n_rot = c->rope,
                            .pos0 = step->pos0 + rows.first,
                            .layout = c->index_rope});
    if (f->hadamard) k->hadamard(k, &(kern_hadamard){.x = x, .n_row = (int64_t)rows.n * heads, .dim = dim});
}

/* The indexer's new keys. */
static void append_index_keys(const forward_engine *f, const layer_weights *w, const forward_step *step, row_range rows,
                              int layer) {
    const model_config *c = &f->model->config;
    scratch *s = f->scratch;
    kern *k = f->kern;
    int n = step->n_tok, dim = c->index_dim;
    float *keys = s->index_k + (int64_t)rows.first * dim;
    multiply(f, w->index_k, s->norm + (int64_t)rows.first * c->hidden, c->hidden, keys, dim, rows.n);
    k->layernorm(k, &(kern_layernorm){.x = keys,
                                      .weight = w->index_k_norm,
                                      .bias = w->index_k_bias,
                                      .y = keys,
                                      .n_tok = rows.n,
                                      .dim = dim,
                                      .eps = LORA_NORM_EPS});
    index_turn(f, step, keys, rows, 1);
    gather_rows(f, step, s->index_k, dim);
    k->index_append(k,
                    &(kern_index_append){
                        .cache = cache_of(f, step)->keys[layer], .k = s->index_k, .pos0 = step->pos0, .n_tok = n});
}

/* Index queries of the rows that are selected for here. */
static void index_queries(const forward_engine *f, const layer_weights *w, const forward_step *step, int layer) {
    const model_config *c = &f->model->config;
    row_range own = selecting_rows(f, step);
    int64_t row = (int64_t)c->index_heads * c->index_dim;
    float *queries = selection_of(f, step, layer).index_q + own.first * row;
    if (!own.n) return;
    multiply(f, w->index_q, f->scratch->q_a + (int64_t)own.first * c->q_lora, c->q_lora, queries, row, own.n);
    index_turn(f, step, queries, own, c->index_heads);
}

/* And how much each of their heads counts. */
static void index_weights(const forward_engine *f, const layer_weights *w, const forward_step *step, int layer) {
    const model_config *c = &f->model->config;
    row_range own = selecting_rows(f, step);
    float *weights = selection_of(f, step, layer).index_w + (int64_t)own.first * c->index_heads;
    if (own.n)
        multiply(f, w->index_w, f->scratch->norm + (int64_t)own.first * c->hidden, c->hidden, weights, c->index_heads,
                 own.n);
}

/* Every rank gets the rows that the others selected for. */
static void gather_selections(const forward_engine *f, const forward_step *step, const selection *to) {
    kern_group *g = f->group;
    size_t each = (size_t)rows_each(f, step), first = (size_t)g->rank * each, topk = (size_t)f->topk;
    g->all_gather(g, to->position + first * topk, to->position, each * topk * sizeof *to->position);
    g->all_gather(g, to->count + first, to->count, each * sizeof *to->count);
}

/* Rank 0 shows its selection, which may come back as another: the others take it over. */
static void probe_selection(const forward_engine *f, const forward_step *step, int layer, kern_index_select *select) {
    if (leads(f)) step->probe->selected(step->probe->user, layer, select);
    if (!f->group) return;
    size_t rows = (size_t)select->n_tok;
    f->group->broadcast(f->group, select->position, rows * (size_t)select->n_select * sizeof *select->position);
    f->group->broadcast(f->group, select->count, rows * sizeof *select->count);
}

/* Leaves each row's positions where selection_of says. A layer without an indexer finds those of the last full layer
 * there. */
static void select_positions(const forward_engine *f, const layer_weights *w, const forward_step *step,
                             int layer) {
    const model_config *c = &f->model->config;
    selection to = selection_of(f, step, layer);
    row_range own = selecting_rows(f, step);
    int64_t first = own.first;
    kern_index_select select = {.pos0 = step->pos0 + first,
                                .n_tok = own.n,
                                .n_head = c->index_heads,
                                .n_select = f->topk,
                                .position = to.position + first * f->topk,
                                .count = to.count + first};
    if (w->index_q) {
        select.cache = cache_of(f, step)->keys[layer];
        select.q = to.index_q + first * c->index_heads * c->index_dim;
        select.w = to.index_w + first * c->index_heads;
        select.allow = step->allow;
        select.n_allow = step->n_allow;
        select.score = step->trace || step->probe ? to.score : NULL;
        if (own.n) f->kern->index_select(f->kern, &select);
        if (f->fault == ENGINE_FAULT_SHUFFLED_SCORES) fault_shuffle(layer, &select);
        if (deals_rows(f, step) && !by_rows(f, step)) gather_selections(f, step, &to);
    }
    if (step->probe && step->probe->selected) probe_selection(f, step, layer, &select);
}

/* The last of several rows, into the trace's part of the backend's memory: nothing waits before the pass ends. (One row
 * was written there in the first place.) */
static void keep_trace(const forward_engine *f, const forward_step *step, int layer) {
    const model_config *c = &f->model->config;
    scratch *s = f->scratch;
    kern *k = f->kern;
    const trace_arrays *to = &step->trace->device;
    size_t row = (size_t)step->n_tok - 1, n = (size_t)f->topk, at = row * n;
    size_t here = (size_t)layer * (size_t)step->trace->topk;
    k->copy(k, to->mass + here, s->mass, n * sizeof *to->mass);
    if (selecting_layer(c, layer) != layer) return;
    size_t heads = (size_t)c->index_heads, queries = heads * (size_t)c->index_dim;
    k->copy(k, to->count + layer, s->count + row, sizeof *to->count);
    k->copy(k, to->position + here, s->position + at, n * sizeof *to->position);
    k->copy(k, to->score + here, s->score + at, n * sizeof *to->score);
    k->copy(k, to->index_q + (size_t)layer * queries, s->index_q + row * queries, queries * sizeof *to->index_q);
    k->copy(k, to->index_w + (size_t)layer * heads, s->index_w + row * heads, heads * sizeof *to->index_w);
}

/* All layers' selections, to the host. */
static void finish_trace(const forward_engine *f, trace_buffer *t) {
    const model_config *c = &f->model->config;
    f->kern->copy_out(f->kern, t->host.memory, t->device.memory, t->bytes);
    /* The sum of the ranks' means over their heads, so far. */
    for (size_t i = 0; f->group && i < (size_t)t->n_layers * (size_t)t->topk; i++)
        t->host.mass[i] *= 1.0f / (float)f->group->size;
    for (int i = 0; i < t->n_layers; i++) {
        int from = selecting_layer(c, i);
        size_t there = (size_t)from * (size_t)t->topk;
        t->layers[i] = (trace_layer){.layer = i,
                                     .count = t->host.count[from],
                                     .position = t->host.position + there,
                                     .score = c->index_full[i] ? t->host.score + there : NULL,
                                     .mass = t->host.mass + (size_t)i * (size_t)t->topk};
    }
}

/* mass[topk] = the ranks' sum of what each has in `branch`. */
static void sum_mass(const forward_engine *f, float *mass) {
    scratch *s = f->scratch;
    f->kern->zero(f->kern, mass, (size_t)f->topk * sizeof *mass);
    kern_group_sum(f->group, f->kern, s->branch, mass, f->topk, s->sum_work);
}

static void attend(const forward_engine *f, const forward_step *step, const attention_part *part, int layer) {
    const model_config *c = &f->model->config;
    scratch *s = f->scratch;
    int heads = part->heads, head = c->nope + c->rope, n = part->rows.n;
    int64_t row = (int64_t)heads * head, first = part->rows.first;
    if (f->dense) {
        f->kern->dense_mla(f->kern, &(kern_dense_mla){.cache = cache_of(f, step)->latents[layer],
                                                      .q_latent = s->q_latent,
                                                      .q_pe = s->q + c->nope,
                                                      .q_pe_tok_stride = row,
                                                      .q_pe_head_stride = head,
                                                      .pos0 = step->pos0 + first,
                                                      .n_tok = n,
                                                      .n_head = heads,
                                                      .allow = step->allow,
                                                      .n_allow = step->n_allow,
                                                      .scale = c->softmax_scale,
                                                      .out = s->attended});
        return;
    }
    selection to = selection_of(f, step, layer);
    kern_sparse_mla rows = {.cache = cache_of(f, step)->latents[layer],
                            .q_latent = s->q_latent,
                            .q_pe = s->q + c->nope,
                            .q_pe_tok_stride = row,
                            .q_pe_head_stride = head,
                            .position = to.position + first * f->topk,
                            .count = to.count + first,
                            .n_tok = step->trace ? n - 1 : n,
                            .n_head = heads,
                            .n_select = f->topk,
                            .scale = c->softmax_scale,
                            .out = s->attended,
                            .session = step->session};
    if (rows.n_tok > 0) f->kern->sparse_mla(f->kern, &rows);
    if (!step->trace) return;
    /* The traced row by itself: what it attends to is worth counting, the others' is not. */
    kern_sparse_mla last = rows;
    last.q_latent += (int64_t)rows.n_tok * heads * c->kv_lora;
    last.q_pe += rows.n_tok * row;
    last.position += (int64_t)rows.n_tok * f->topk;
    last.count += rows.n_tok;
    last.n_tok = 1;
    last.out += (int64_t)rows.n_tok * heads * c->kv_lora;
    last.mass = !f->group ? to.mass : mass_goes_along(f, step) ? s->branch + (int64_t)step->n_tok * c->hidden : s->branch;
    f->kern->sparse_mla(f->kern, &last);
    if (mass_goes_along(f, step)) return;
    if (f->group) sum_mass(f, to.mass);
    if (step->n_tok > 1 && leads(f)) keep_trace(f, step, layer);
}

/* x += attention's branches, and the traced row's mass with them. */
static void add_branches_and_mass(const forward_engine *f, const forward_step *step, int layer) {
    scratch *s = f->scratch;
    kern_group_sum_also(f->group, f->kern, s->branch, s->x, (int64_t)step->n_tok * f->model->config.hidden,
                        selection_of(f, step, layer).mass, f->topk, s->sum_work);
    if (step->n_tok > 1 && leads(f)) keep_trace(f, step, layer);
}

static void attention(const forward_engine *f, const layer_weights *w, const forward_step *step, int layer) {
    const model_config *c = &f->model->config;
    scratch *s = f->scratch;
    attention_part part = attention_part_of(f, w, step);
    bool alone = !f->group || by_rows(f, step); /* nothing to be summed */
    int n = part.rows.n, heads = part.heads;
    int64_t latent_row = (int64_t)heads * c->kv_lora, value_row = (int64_t)heads * c->v_dim;
    float *x = s->x + (int64_t)part.rows.first * c->hidden;

    norm_rows(f, x, w->attn_norm, s->norm + (int64_t)part.rows.first * c->hidden, n);
    lane(f, 1);
    append_latents(f, w, step, part.rows, layer);
    if (w->index_q) {
        lane(f, 2);
        append_index_keys(f, w, step, part.rows, layer);
        lane(f, 3);
        index_weights(f, w, step, layer);
    }
    lane(f, 0);
    low_rank_queries(f, w, part.rows);
    lane(f, 3);
    attention_queries(f, &part, step);
    lane(f, 0);
    if (w->index_q) index_queries(f, w, step, layer);
    join_lanes(f);
    if (!f->dense) select_positions(f, w, step, layer);
    if (n) attend(f, step, &part, layer);
    if (f->no_attention) return;
    f->kern->matmul_each(f->kern, &(kern_matmul_each){.w = (const kern_matrix *const *)part.v_up,
                                                      .n = heads,
                                                      .x = s->attended,
                                                      .y = s->value,
                                                      .x_step = c->kv_lora,
                                                      .y_step = c->v_dim,
                                                      .x_stride = latent_row,
                                                      .y_stride = value_row,
                                                      .n_tok = n});
    f->kern->matmul(f->kern, &(kern_matmul){.w = part.o,
                                            .x = s->value,
                                            .y = alone ? x : s->branch,
                                            .x_stride = value_row,
                                            .y_stride = c->hidden,
                                            .n_tok = n,
                                            .accumulate = alone});
    gather_rows(f, step, s->x, c->hidden);
    if (alone) return;
    if (mass_goes_along(f, step))
        add_branches_and_mass(f, step, layer);
    else
        add_branches(f, n);
}

/* y (+)= down(silu(gate x) * up x) */
static void mlp_into(const forward_engine *f, const mlp_weights *w, int64_t width, const float *x, float *y,
                     int n_tok, bool accumulate) {
    scratch *s = f->scratch;
    int hidden = f->model->config.hidden;
    lane(f, 1);
    multiply(f, w->up, x, hidden, s->up, width, n_tok);
    lane(f, 0);
    multiply(f, w->gate, x, hidden, s->gate, width, n_tok);
    join_lanes(f);
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

/* Routed and shared experts, into `branch`; or into x where that is all that is to be added. */
static void experts_into(const forward_engine *f, const layer_weights *w, const forward_step *step) {
    const model_config *c = &f->model->config;
    const model_share *mine = &f->model->share;
    scratch *s = f->scratch;
    kern *k = f->kern;
    int n_tok = step->n_tok;
    bool at_once = k->ranks_alike && !f->group;

    row_range rows = by_rows(f, step) ? selecting_rows(f, step) : (row_range){0, n_tok};
    int64_t first = rows.first, picks = first * c->experts_per_token;
    float *logits = s->route_logits + first * c->experts;
    multiply(f, w->router, s->norm + first * c->hidden, c->hidden, logits, c->experts, rows.n);
    k->route(k, &(kern_route){.logits = logits,
                              .bias = w->route_bias,
                              .expert = s->route_expert + picks,
                              .weight = s->route_weight + picks,
                              .n_tok = rows.n,
                              .n_expert = c->experts,
                              .n_pick = c->experts_per_token,
                              .n_group = c->groups,
                              .n_group_pick = c->groups_per_token,
                              .normalise = c->route_normalise,
                              .scale = c->route_scale});
    gather_rows(f, step, s->route_expert, c->experts_per_token);
    gather_rows(f, step, s->route_weight, c->experts_per_token);
    if (w->mlp.gate)
        mlp_into(f, &w->mlp, mine->shared_width, s->norm, s->branch, n_tok, false);
    else if (!at_once)
        k->zero(k, s->branch, (size_t)n_tok * c->hidden * sizeof *s->branch);
    k->experts(k, &(kern_experts){.gate = (const kern_matrix *const *)w->expert_gate,
                                  .up = (const kern_matrix *const *)w->expert_up,
                                  .down = (const kern_matrix *const *)w->expert_down,
                                  .n_expert = mine->experts,
                                  .first = mine->first_expert,
                                  .step = mine->ranks,
                                  .n_routed = c->experts,
                                  .n_shared = mine->shared,
                                  .pos0 = step->pos0,
                                  .n_pick = c->experts_per_token,
                                  .expert = s->route_expert,
                                  .weight = s->route_weight,
                                  .x = s->norm,
                                  .y = at_once ? s->x : s->branch,
                                  .n_tok = n_tok,
                                  .hidden = c->hidden,
                                  .width = c->expert_width,
                                  .rows_in = s->expert_in,
                                  .rows_out = s->expert_out,
                                  .rows_scale = s->expert_scale,
                                  .rows_gate = s->gate,
                                  .rows_up = s->up});
}

static void feed_forward(const forward_engine *f, const layer_weights *w, const forward_step *step) {
    const model_config *c = &f->model->config;
    scratch *s = f->scratch;
    int n_tok = step->n_tok;
    norm_rows(f, s->x, w->mlp_norm, s->norm, n_tok);
    if (!w->router) {
        mlp_into(f, &w->mlp, f->model->share.dense_width, s->norm, f->group ? s->branch : s->x, n_tok, !f->group);
    } else
        experts_into(f, w, step);
    if (f->group)
        add_branches(f, n_tok);
    else if (w->router && !f->kern->ranks_alike)
        f->kern->add(f->kern, &(kern_add){.x = s->branch, .y = s->x, .n_tok = n_tok, .dim = c->hidden});
}

/* Logits of a normed row into s->logits: each rank has a slice of the vocabulary, and every one gets all. */
static void head_logits(const forward_engine *f, const float *row) {
    const model_config *c = &f->model->config;
    const model_share *mine = &f->model->share;
    float *own = f->scratch->logits + mine->first_vocab;
    multiply(f, f->model->head, row, c->hidden, own, mine->vocab, 1);
    if (f->group)
        f->group->all_gather(f->group, own, f->scratch->logits, (size_t)mine->vocab_slice * sizeof *own);
}

/* The same of every row, for a check. */
static void probe_logits(const forward_engine *f, const forward_step *step) {
    const model_config *c = &f->model->config;
    const scratch *s = f->scratch;
    float *all = step->probe->all_logits;
    if (!f->group) {
        multiply(f, f->model->head, s->norm, c->hidden, all, c->vocab, step->n_tok);
        return;
    }
    for (int64_t t = 0; t < step->n_tok; t++) {
        head_logits(f, s->norm + t * c->hidden);
        if (leads(f)) f->kern->copy(f->kern, all + t * c->vocab, s->logits, (size_t)c->vocab * sizeof *all);
    }
}

static void show_hidden(const forward_engine *f, const forward_step *step, int i, const float *rows) {
    if (step->probe && step->probe->hidden && leads(f))
        step->probe->hidden(step->probe->user, i, rows, step->n_tok, step->pos0);
}

/* From the embeddings to the logits, all in the backend's memory. */
static void run_layers(const forward_engine *f, const forward_step *step) {
    const model_config *c = &f->model->config;
    scratch *s = f->scratch;
    int n = step->n_tok;

    show_hidden(f, step, 0, s->x);
    for (int i = 0; i < c->layers; i++) {
        const layer_weights *w = &f->model->layers[i];
        attention(f, w, step, i);
        feed_forward(f, w, step);
        if (i + 1 < c->layers) show_hidden(f, step, i + 1, s->x);
    }
    if (step->probe) {
        norm_rows(f, s->x, f->model->final_norm, s->norm, n);
        show_hidden(f, step, c->layers, s->norm);
        if (step->probe->all_logits) probe_logits(f, step);
    }
    if (step->logits) {
        norm_rows(f, s->x + (size_t)(n - 1) * c->hidden, f->model->final_norm, s->norm, 1);
        head_logits(f, s->norm);
    }
}

/* Everything but the position that run_layers' operations depend on (kernels.h, step_begin). */
typedef struct step_key {
    const void *latents; /* names the caches */
    const void *trace;   /* the memory that selections go into, or NULL */
    int64_t topk, dense, session, logits, plain;
    uint64_t allow; /* a checksum of what may be selected */
} step_key;

/* A step that is likely to come again with another token: a backend may have a short way for it. Exchanges between
 * ranks have to be such that a backend can keep them. */
static bool may_come_again(const forward_engine *f, const forward_step *step) {
    return f->kern->step_begin && step->n_tok == 1 && !step->probe && !f->fault && (!f->group || f->group->recordable);
}

void forward(const forward_engine *f, const forward_step *step) {
    kern *k = f->kern;
    embed(f, step);
    if (!may_come_again(f, step)) {
        run_layers(f, step);
    } else {
        step_key key = {.latents = cache_of(f, step)->latents[0].rows,
                        .trace = step->trace ? step->trace->device.memory : NULL,
                        .topk = f->topk,
                        .dense = f->dense,
                        .session = step->session,
                        .plain = k->plain,
                        .allow = step->allow ? XXH3_64bits(step->allow, (size_t)step->n_allow * sizeof *step->allow) | 1 : 0,
                        .logits = step->logits != NULL};
        if (k->step_begin(k, &key, sizeof key, step->pos0)) {
            run_layers(f, step);
            if (!k->step_end(k)) run_layers(f, step);
        }
    }
    if (!leads(f)) return;
    if (step->logits)
        k->copy_out(k, step->logits, f->scratch->logits, (size_t)f->model->config.vocab * sizeof(float));
    if (step->trace) finish_trace(f, step->trace);
}
