/* model.c - binds tensor names to weights, checks every shape, splits kv_b into its absorbed halves, and takes one
 * rank's share of what is dealt out. */
#include "engine/model.h"

#include "kernels/convert.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct loader {
    model *m;
    kern *k;
    kern_type keep;
    ph_error *err;
    bool uncounted; /* matrices that a decoding step does not read */
    bool
        failed; /* after a failure the rest of a layer's calls do nothing, so that they can stand in a list */
} loader;

static bool deals(int n, int ranks, const char *what, ph_error *err) {
    if (n % ranks == 0) return true;
    ph_fail(err, PH_UNSUPPORTED, "%d %s cannot be dealt out evenly to %d ranks", n, what, ranks);
    return false;
}

/* Which kinds of layers there are. */
static void find_kinds(const model_config *c, bool *moe, bool *dense) {
    *moe = *dense = false;
    for (int i = 0; i < c->layers; i++) *(c->moe_layer[i] ? moe : dense) = true;
}

/* Most ranks whose sums are branches of one tree. */
enum { TREE_RANKS = 8 };

/* The columns that a product over `width` columns, which are dealt out to ranks, sums at a time (kern_matrix_source), so that
 * every rank has whole branches of the tree; 0 where the format does not allow it: it is for FP8 codes, and for fp32.
 * Up to 2,048 columns are not cut for it: a single GPU would pay for several. */
static int64_t segment_of(int64_t width, kern_type keep, bool codes) {
    int64_t part = width / TREE_RANKS;
    if (width % TREE_RANKS) return 0;
    if (keep == KERN_F32) return part;
    if (!codes || width <= 2048 || part % 128) return 0;
    while (part > 1024 && part % 256 == 0) part /= 2;
    return part;
}

/* The rank's bits in reverse, where there are 2, 4 or 8 of them: sums over ranks add neighbours first, and those are to have
 * experts whose numbers differ by half of 8, then by a quarter (kern_experts). */
static int turned(int rank, int ranks) {
    int first = 0;
    if (TREE_RANKS % ranks) return rank;
    for (int bit = 1; bit < ranks; bit *= 2) first = 2 * first + (rank / bit & 1);
    return first;
}

int model_share_make(model_share *out, const model_config *c, int rank, int ranks, bool alike, ph_error *err) {
    bool moe, dense;
    find_kinds(c, &moe, &dense);
    int experts = moe ? c->experts : 0, width = dense ? c->dense_width : 0,
        shared = moe && !alike ? c->expert_width * c->shared_experts : 0;
    if (!deals(c->heads, ranks, "attention heads", err) || !deals(experts, ranks, "experts", err) ||
        !deals(width, ranks, "columns of an MLP", err) || !deals(shared, ranks, "columns of the shared experts", err))
        return PH_UNSUPPORTED;
    int slice = (c->vocab + ranks - 1) / ranks, rest = c->vocab - rank * slice;
    if (c->vocab - (ranks - 1) * slice < 1)
        return ph_fail(err, PH_UNSUPPORTED, "a vocabulary of %d cannot be dealt out to %d ranks", c->vocab, ranks);
    *out = (model_share){.rank = rank,
                         .ranks = ranks,
                         .heads = c->heads / ranks,
                         .first_head = rank * (c->heads / ranks),
                         .experts = experts / ranks,
                         .first_expert = alike ? turned(rank, ranks) : rank,
                         .dense_width = width / ranks,
                         .shared_width = shared / ranks,
                         .shared = moe && alike ? c->shared_experts : 0,
                         .vocab = rest < slice ? rest : slice,
                         .first_vocab = rank * slice,
                         .vocab_slice = slice};
    return PH_OK;
}

static const tensor *want(loader *l, const char *name, int64_t rows, int64_t cols) {
    if (l->failed) return NULL;
    const tensor *t = tensors_find(l->m->files, name);
    if (!t) {
        ph_fail(l->err, PH_MODEL, "the model has no tensor %s", name);
        l->failed = true;
        return NULL;
    }
    bool fits = cols ? t->n_dim == 2 && t->shape[0] == rows && t->shape[1] == cols
                     : t->n_dim == 1 && t->shape[0] == rows;
    if (!fits) {
        ph_fail(l->err, PH_MODEL, "tensor %s has the wrong shape (wanted %lld x %lld)", name, (long long)rows,
                (long long)(cols ? cols : 1));
        l->failed = true;
        return NULL;
    }
    return t;
}

/* Where a tensor's numbers are and how to read them: type, and for FP8 its block scales. */
static kern_matrix_source source_of(loader *l, const tensor *t) {
    kern_matrix_source s = {0};
    if (!t) return s;
    s.rows = t->shape[0];
    s.cols = t->n_dim > 1 ? t->shape[1] : 1;
    s.data = t->data;
    s.stride = s.cols;
    switch (t->type) {
    case TENSOR_F32:
        s.type = KERN_F32;
        break;
    case TENSOR_BF16:
        s.type = KERN_BF16;
        break;
    case TENSOR_F16:
        s.type = KERN_F16;
        break;
    case TENSOR_FP8_E4M3:
        s.type = KERN_FP8;
        break;
    default:
        ph_fail(l->err, PH_MODEL, "tensor %s has a number format that weights cannot have", t->name);
        l->failed = true;
        return s;
    }
    if (s.type != KERN_FP8) return s;
    char name[512];
    snprintf(name, sizeof name, "%s_scale_inv", t->name);
    const tensor *scale = want(l, name, (s.rows + 127) / 128, (s.cols + 127) / 128);
    if (scale && scale->type != TENSOR_F32) {
        ph_fail(l->err, PH_MODEL, "tensor %s is not fp32", name);
        l->failed = true;
    }
    if (l->failed) return s;
    s.scale = scale->data;
    s.scale_stride = scale->shape[1];
    return s;
}

/* Rows [row, row + rows) and columns [col, col + cols) of a whole tensor. */
static kern_matrix_source part_of(const kern_matrix_source *whole, int64_t row, int64_t rows, int64_t col, int64_t cols) {
    kern_matrix_source s = *whole;
    s.rows = rows;
    s.cols = cols;
    s.data = (const char *)whole->data + (size_t)(row * whole->stride + col) * kern_type_bytes(whole->type);
    s.scale_row0 = row;
    s.scale_col0 = col;
    return s;
}

static kern_matrix *make(loader *l, const kern_matrix_source *s, kern_type keep) {
    kern_matrix *w = NULL;
    if (!l->failed && l->k->matrix_make(l->k, &w, s, keep, l->err)) l->failed = true;
    if (l->failed) return w;
    if (l->uncounted) return w;
    double n = (double)s->rows * (double)s->cols;
    bool fp8 = s->type == KERN_FP8 && keep == KERN_BF16 && l->k->holds_fp8;
    l->m->weights += n;
    l->m->weight_bytes += n * (double)kern_type_bytes(fp8 ? KERN_FP8 : keep);
    return w;
}

__attribute__((format(printf, 5, 6))) static kern_matrix *matrix(loader *l, kern_type keep, int64_t rows,
                                                                 int64_t cols, const char *format, ...) {
    char name[256];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    kern_matrix_source s = source_of(l, want(l, name, rows, cols));
    return make(l, &s, keep);
}

/* This rank's rows, or columns, of a tensor [rows, cols]: share of them from `first` on. DEAL_COLS: the ranks have all of
 * them together, and what they compute with them is summed. */
enum cut { CUT_ROWS, CUT_COLS, DEAL_COLS };
__attribute__((format(printf, 7, 8))) static kern_matrix *share_matrix(loader *l, enum cut cut, int64_t rows, int64_t cols,
                                                                       int64_t first, int64_t share,
                                                                       const char *format, ...) {
    char name[256];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    kern_matrix_source whole = source_of(l, want(l, name, rows, cols));
    if (l->failed) return NULL;
    kern_matrix_source s =
        cut == CUT_ROWS ? part_of(&whole, first, share, 0, cols) : part_of(&whole, 0, rows, first, share);
    if (cut == DEAL_COLS && l->k->ranks_alike)
        s.segment = segment_of(cols, l->keep, whole.type == KERN_FP8 && l->k->holds_fp8);
    if (cut == DEAL_COLS && !s.segment) l->m->alike = l->m->share.ranks == 1;
    return make(l, &s, l->keep);
}

/* A vector in the backend's memory, as fp32. */
__attribute__((format(printf, 3, 4))) static float *vector(loader *l, int64_t n, const char *format, ...) {
    char name[256];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    kern_matrix_source s = source_of(l, want(l, name, n, 0));
    if (l->failed) return NULL;
    float *host = malloc((size_t)n * sizeof *host);
    void *out = NULL;
    if (!host || l->k->alloc(l->k, &out, (size_t)n * sizeof *host, l->err)) {
        if (!host) ph_fail(l->err, PH_MEMORY, "no memory for tensor %s", name);
        l->failed = true;
        free(host);
        return NULL;
    }
    for (int64_t i = 0; i < n; i++) kern_source_row(&s, i, &host[i]);
    l->k->copy_in(l->k, out, host, (size_t)n * sizeof *host);
    free(host);
    return out;
}

/* kv_b is [heads * (nope + v), kv_lora]. Absorbed attention needs, for each head, K's part transposed (a
 * query goes into latent space) and V's part as it stands. */
static void load_kv_b(loader *l, layer_weights *w, int layer) {
    const model_config *c = &l->m->config;
    const model_share *mine = &l->m->share;
    char name[256];
    snprintf(name, sizeof name, "model.layers.%d.self_attn.kv_b_proj.weight", layer);
    int64_t head_rows = c->nope + c->v_dim;
    kern_matrix_source whole = source_of(l, want(l, name, c->heads * head_rows, c->kv_lora));
    bool all = l->m->by_rows;
    int heads = all ? c->heads : mine->heads;
    kern_matrix **k_up = calloc((size_t)heads, sizeof *k_up), **v_up = calloc((size_t)heads, sizeof *v_up);
    w->k_up = k_up && all ? k_up + mine->first_head : k_up;
    w->v_up = v_up && all ? v_up + mine->first_head : v_up;
    w->k_up_all = all ? k_up : NULL;
    w->v_up_all = all ? v_up : NULL;
    if (!l->failed && (!k_up || !v_up)) {
        ph_fail(l->err, PH_MEMORY, "no memory for %d heads", heads);
        l->failed = true;
    }
    for (int h = 0; h < heads && !l->failed; h++) {
        int number = all ? h : mine->first_head + h;
        l->uncounted = number < mine->first_head || number >= mine->first_head + mine->heads;
        kern_matrix_source part = part_of(&whole, number * head_rows, c->kv_lora, 0, c->nope);
        part.transposed = true;
        k_up[h] = make(l, &part, l->keep);
        part = part_of(&whole, number * head_rows + c->nope, c->v_dim, 0, c->kv_lora);
        v_up[h] = make(l, &part, l->keep);
    }
    l->uncounted = false;
}

/* The matrices that are dealt out by heads, of all heads. */
static void load_all_heads(loader *l, layer_weights *w, int i) {
    const model_config *c = &l->m->config;
    int64_t head = c->nope + c->rope, values = (int64_t)c->heads * c->v_dim;
    l->uncounted = true;
    w->q_b_all = share_matrix(l, CUT_ROWS, c->heads * head, c->q_lora, 0, c->heads * head,
                              "model.layers.%d.self_attn.q_b_proj.weight", i);
    w->o_all = share_matrix(l, DEAL_COLS, c->hidden, values, 0, values, "model.layers.%d.self_attn.o_proj.weight", i);
    l->uncounted = false;
}

/* weights_proj with the scores' constant factor index_heads^-0.5 * index_dim^-0.5 folded in. */
static kern_matrix *index_weights(loader *l, int layer) {
    const model_config *c = &l->m->config;
    char name[256];
    snprintf(name, sizeof name, "model.layers.%d.self_attn.indexer.weights_proj.weight", layer);
    kern_matrix_source s = source_of(l, want(l, name, c->index_heads, c->hidden));
    if (l->failed) return NULL;
    float *rows = malloc((size_t)c->index_heads * c->hidden * sizeof *rows);
    if (!rows) {
        ph_fail(l->err, PH_MEMORY, "no memory for tensor %s", name);
        l->failed = true;
        return NULL;
    }
    float factor = (float)(1 / sqrt((double)c->index_heads * c->index_dim));
    for (int h = 0; h < c->index_heads; h++) {
        float *row = rows + (size_t)h * c->hidden;
        kern_source_row(&s, h, row);
        for (int i = 0; i < c->hidden; i++) row[i] *= factor;
    }
    kern_matrix_source scaled = {
        .rows = s.rows, .cols = s.cols, .data = rows, .stride = s.cols, .type = KERN_F32};
    kern_matrix *w = make(l, &scaled, KERN_F32);
    free(rows);
    return w;
}

/* Columns [first, first + share) of an MLP's `width`: rows of gate and up, columns of down. */
static void load_mlp(loader *l, mlp_weights *w, enum cut down, int64_t width, int64_t first, int64_t share,
                     const char *prefix) {
    int64_t hidden = l->m->config.hidden;
    w->gate = share_matrix(l, CUT_ROWS, width, hidden, first, share, "%s.gate_proj.weight", prefix);
    w->up = share_matrix(l, CUT_ROWS, width, hidden, first, share, "%s.up_proj.weight", prefix);
    w->down = share_matrix(l, down, hidden, width, first, share, "%s.down_proj.weight", prefix);
}

/* Shared experts that stand beside the routed ones have to be held as those are. */
static void check_shared(loader *l, int layer) {
    const model_config *c = &l->m->config;
    static const char *const parts[] = {"gate", "up", "down"};
    for (size_t p = 0; p < sizeof parts / sizeof *parts && !l->failed && l->k->holds_fp8; p++) {
        char routed[128], shared[128];
        snprintf(routed, sizeof routed, "model.layers.%d.mlp.experts.0.%s_proj.weight", layer, parts[p]);
        snprintf(shared, sizeof shared, "model.layers.%d.mlp.shared_experts.%s_proj.weight", layer, parts[p]);
        const tensor *a = tensors_find(l->m->files, routed), *b = tensors_find(l->m->files, shared);
        if (!a || !b || (a->type == b->type && (c->shared_experts == 1 || c->expert_width % 8 == 0))) continue;
        ph_fail(l->err, PH_UNSUPPORTED, "on a GPU %s has to have the number format of %s, and a width that is a multiple of 8",
                shared, routed);
        l->failed = true;
    }
}

static void load_moe(loader *l, layer_weights *w, int i) {
    const model_config *c = &l->m->config;
    const model_share *mine = &l->m->share;
    char prefix[128];
    w->router = matrix(l, KERN_F32, c->experts, c->hidden, "model.layers.%d.mlp.gate.weight", i);
    w->route_bias = vector(l, c->experts, "model.layers.%d.mlp.gate.e_score_correction_bias", i);
    char shared[128];
    int64_t shared_width = (int64_t)c->expert_width * c->shared_experts;
    snprintf(shared, sizeof shared, "model.layers.%d.mlp.shared_experts", i);
    if (mine->shared_width > 0)
        load_mlp(l, &w->mlp, DEAL_COLS, shared_width, (int64_t)mine->rank * mine->shared_width, mine->shared_width, shared);
    else if (mine->shared > 0)
        check_shared(l, i);
    int n = mine->experts + mine->shared;
    kern_matrix ***all[] = {&w->expert_gate, &w->expert_up, &w->expert_down};
    for (int j = 0; j < 3; j++) {
        *all[j] = calloc((size_t)n, sizeof **all[j]);
        if (*all[j] || l->failed) continue;
        ph_fail(l->err, PH_MEMORY, "no memory for %d experts", n);
        l->failed = true;
    }
    for (int e = 0; e < n && !l->failed; e++) {
        mlp_weights expert = {0};
        snprintf(prefix, sizeof prefix, "model.layers.%d.mlp.experts.%d", i, mine->first_expert + e * mine->ranks);
        if (e < mine->experts)
            load_mlp(l, &expert, CUT_COLS, c->expert_width, 0, c->expert_width, prefix);
        else
            load_mlp(l, &expert, CUT_COLS, shared_width, (int64_t)(e - mine->experts) * c->expert_width, c->expert_width,
                     shared);
        w->expert_gate[e] = expert.gate;
        w->expert_up[e] = expert.up;
        w->expert_down[e] = expert.down;
    }
}

static void load_layer(loader *l, layer_weights *w, int i) {
    const model_config *c = &l->m->config;
    const model_share *mine = &l->m->share;
    int64_t head = c->nope + c->rope;
    w->attn_norm = vector(l, c->hidden, "model.layers.%d.input_layernorm.weight", i);
    w->mlp_norm = vector(l, c->hidden, "model.layers.%d.post_attention_layernorm.weight", i);
    w->q_a = matrix(l, l->keep, c->q_lora, c->hidden, "model.layers.%d.self_attn.q_a_proj.weight", i);
    w->q_a_norm = vector(l, c->q_lora, "model.layers.%d.self_attn.q_a_layernorm.weight", i);
    w->q_b = share_matrix(l, CUT_ROWS, c->heads * head, c->q_lora, mine->first_head * head, mine->heads * head,
                          "model.layers.%d.self_attn.q_b_proj.weight", i);
    w->kv_a = matrix(l, l->keep, c->kv_lora + c->rope, c->hidden,
                     "model.layers.%d.self_attn.kv_a_proj_with_mqa.weight", i);
    w->kv_a_norm = vector(l, c->kv_lora, "model.layers.%d.self_attn.kv_a_layernorm.weight", i);
    load_kv_b(l, w, i);
    w->o = share_matrix(l, DEAL_COLS, c->hidden, (int64_t)c->heads * c->v_dim, (int64_t)mine->first_head * c->v_dim,
                        (int64_t)mine->heads * c->v_dim, "model.layers.%d.self_attn.o_proj.weight", i);
    if (l->m->by_rows) load_all_heads(l, w, i);
    if (c->index_full[i]) {
        w->index_q = matrix(l, l->keep, (int64_t)c->index_heads * c->index_dim, c->q_lora,
                            "model.layers.%d.self_attn.indexer.wq_b.weight", i);
        w->index_k =
            matrix(l, l->keep, c->index_dim, c->hidden, "model.layers.%d.self_attn.indexer.wk.weight", i);
        w->index_w = index_weights(l, i);
        w->index_k_norm = vector(l, c->index_dim, "model.layers.%d.self_attn.indexer.k_norm.weight", i);
        w->index_k_bias = vector(l, c->index_dim, "model.layers.%d.self_attn.indexer.k_norm.bias", i);
    }
    if (c->moe_layer[i]) {
        load_moe(l, w, i);
    } else {
        char prefix[128];
        snprintf(prefix, sizeof prefix, "model.layers.%d.mlp", i);
        load_mlp(l, &w->mlp, DEAL_COLS, c->dense_width, (int64_t)mine->rank * mine->dense_width, mine->dense_width, prefix);
    }
}

/* This rank's rows of the head, which may be the embedding table too. */
static kern_matrix *load_head(loader *l) {
    const model_config *c = &l->m->config;
    const model_share *mine = &l->m->share;
    if (!c->tied_embeddings)
        return share_matrix(l, CUT_ROWS, c->vocab, c->hidden, mine->first_vocab, mine->vocab, "lm_head.weight");
    if (l->failed) return NULL;
    kern_matrix_source s = part_of(&l->m->embedding, mine->first_vocab, mine->vocab, 0, c->hidden);
    return make(l, &s, l->keep);
}

/* Kernels for V3.2's dimensions are for whole groups of heads: a rank with fewer would take others. */
static bool same_attention(const kern *k, const model_config *c, const model_share *share) {
    return !k->fp8_latents ||
           k->fp8_latents(k, c->heads, c->kv_lora, c->rope) == k->fp8_latents(k, share->heads, c->kv_lora, c->rope);
}

int model_load(model *m, const model_config *config, const model_share *share, const tensor_files *files, kern *k,
               kern_type keep, ph_error *err) {
    memset(m, 0, sizeof *m);
    m->config = *config;
    m->share = *share;
    m->alike = share->ranks == 1 || (k->ranks_alike && TREE_RANKS % share->ranks == 0 && same_attention(k, config, share)); /* so far */
    m->files = files;
    loader l = {.m = m, .k = k, .keep = keep, .err = err};
    const model_config *c = &m->config;
    m->by_rows = share->ranks > 1 && m->alike;

    m->layers = calloc((size_t)c->layers, sizeof *m->layers);
    if (!m->layers) {
        ph_fail(err, PH_MEMORY, "no memory for %d layers", c->layers);
        l.failed = true;
    }
    m->embedding = source_of(&l, want(&l, "model.embed_tokens.weight", c->vocab, c->hidden));
    if (!l.failed && k->embedding_make(k, &m->embedding_table, &m->embedding, err)) l.failed = true;
    m->head = load_head(&l);
    m->final_norm = vector(&l, c->hidden, "model.norm.weight");
    for (int i = 0; i < c->layers && !l.failed; i++) load_layer(&l, &m->layers[i], i);
    if (!l.failed) return PH_OK;
    int code = err ? err->code : PH_MODEL;
    model_free(m, k);
    return code;
}

static void mlp_free(mlp_weights *w, kern *k) {
    k->matrix_free(k, w->gate);
    k->matrix_free(k, w->up);
    k->matrix_free(k, w->down);
}

void model_free(model *m, kern *k) {
    const model_config *c = &m->config;
    for (int i = 0; m->layers && i < c->layers; i++) {
        layer_weights *w = &m->layers[i];
        float *vectors[] = {w->attn_norm,  w->mlp_norm,     w->q_a_norm,    w->kv_a_norm,
                            w->route_bias, w->index_k_norm, w->index_k_bias};
        kern_matrix *matrices[] = {w->q_a,     w->q_b,     w->kv_a,   w->o,       w->index_q,
                                   w->index_k, w->index_w, w->router, w->q_b_all, w->o_all};
        for (size_t j = 0; j < sizeof vectors / sizeof *vectors; j++) k->free(k, vectors[j]);
        for (size_t j = 0; j < sizeof matrices / sizeof *matrices; j++) k->matrix_free(k, matrices[j]);
        kern_matrix **k_up = m->by_rows ? w->k_up_all : w->k_up, **v_up = m->by_rows ? w->v_up_all : w->v_up;
        for (int h = 0; h < (m->by_rows ? c->heads : m->share.heads); h++) {
            if (k_up) k->matrix_free(k, k_up[h]);
            if (v_up) k->matrix_free(k, v_up[h]);
        }
        free(k_up);
        free(v_up);
        mlp_free(&w->mlp, k);
        kern_matrix **experts[] = {w->expert_gate, w->expert_up, w->expert_down};
        for (size_t j = 0; j < sizeof experts / sizeof *experts; j++) {
            for (int e = 0; experts[j] && e < m->share.experts + m->share.shared; e++) k->matrix_free(k, experts[j][e]);
            free(experts[j]);
        }
    }
    free(m->layers);
    k->matrix_free(k, m->head);
    k->embedding_free(k, m->embedding_table);
    k->free(k, m->final_norm);
    memset(m, 0, sizeof *m);
}
