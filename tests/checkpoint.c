/* checkpoint.c - writes random checkpoints (checkpoint.h). */
#include "tests/checkpoint.h"

#include "kernels/convert.h"
#include "tests/tiny_model.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

checkpoint_shape checkpoint_v32(void) {
    return (checkpoint_shape){.vocab = 129280,
                              .hidden = 7168,
                              .layers = 2,
                              .dense_layers = 1,
                              .heads = 128,
                              .q_lora = 1536,
                              .kv_lora = 512,
                              .nope = 128,
                              .rope = 64,
                              .v_dim = 128,
                              .index_heads = 64,
                              .index_dim = 128,
                              .index_topk = 2048,
                              .dense_width = 18432,
                              .expert_width = 2048,
                              .experts = 256,
                              .shared_experts = 1,
                              .experts_per_token = 8,
                              .groups = 8,
                              .groups_per_token = 4};
}

/* Heads and MLP columns of a rank begin inside of blocks; the last blocks are not full. */
checkpoint_shape checkpoint_small(void) {
    return (checkpoint_shape){.vocab = 510,
                              .hidden = 200,
                              .layers = 3,
                              .dense_layers = 1,
                              .heads = 8,
                              .q_lora = 152,
                              .kv_lora = 72,
                              .nope = 24,
                              .rope = 16,
                              .v_dim = 40,
                              .index_heads = 16,
                              .index_dim = 32,
                              .index_topk = 16,
                              .dense_width = 288,
                              .expert_width = 96,
                              .experts = 16,
                              .shared_experts = 1,
                              .experts_per_token = 4,
                              .groups = 4,
                              .groups_per_token = 2};
}

/* ---- what is in it ---- */

enum kind { F8, BF16, F32 };

typedef struct item {
    char name[192];
    enum kind kind;
    int64_t rows, cols; /* cols 0: a vector */
    float mean, deviation;
    int shard;
} item;

typedef struct plan {
    item *items;
    size_t n, room;
    bool failed;
} plan;

static void add(plan *p, enum kind kind, int64_t rows, int64_t cols, float mean, float deviation,
                const char *prefix, const char *name) {
    if (p->n == p->room) {
        p->room = p->room ? 2 * p->room : 256;
        item *more = realloc(p->items, p->room * sizeof *more);
        if (!more) {
            p->failed = true;
            p->room = p->n;
            return;
        }
        p->items = more;
    }
    item *t = &p->items[p->n++];
    *t = (item){.kind = kind, .rows = rows, .cols = cols, .mean = mean, .deviation = deviation};
    snprintf(t->name, sizeof t->name, "%s%s", prefix, name);
}

/* Products with a normed vector have about the size 1. */
static void matrix(plan *p, enum kind kind, int64_t rows, int64_t cols, const char *prefix,
                   const char *name) {
    char scale[64];
    add(p, kind, rows, cols, 0, 1 / sqrtf((float)cols), prefix, name);
    snprintf(scale, sizeof scale, "%s_scale_inv", name);
    if (kind == F8) add(p, F32, (rows + 127) / 128, (cols + 127) / 128, 0, 0, prefix, scale);
}

static void norm(plan *p, int64_t n, const char *prefix, const char *name) {
    add(p, BF16, n, 0, 1, 0.1f, prefix, name);
}

static void mlp(plan *p, const checkpoint_shape *s, int64_t width, const char *prefix) {
    matrix(p, F8, width, s->hidden, prefix, "gate_proj.weight");
    matrix(p, F8, width, s->hidden, prefix, "up_proj.weight");
    matrix(p, F8, s->hidden, width, prefix, "down_proj.weight");
}

static void layer(plan *p, const checkpoint_shape *s, int i) {
    char at[64], prefix[96];
    snprintf(at, sizeof at, "model.layers.%d.", i);
    norm(p, s->hidden, at, "input_layernorm.weight");
    norm(p, s->hidden, at, "post_attention_layernorm.weight");
    snprintf(prefix, sizeof prefix, "%sself_attn.", at);
    matrix(p, F8, s->q_lora, s->hidden, prefix, "q_a_proj.weight");
    norm(p, s->q_lora, prefix, "q_a_layernorm.weight");
    matrix(p, F8, (int64_t)s->heads * (s->nope + s->rope), s->q_lora, prefix, "q_b_proj.weight");
    matrix(p, F8, s->kv_lora + s->rope, s->hidden, prefix, "kv_a_proj_with_mqa.weight");
    norm(p, s->kv_lora, prefix, "kv_a_layernorm.weight");
    matrix(p, F8, (int64_t)s->heads * (s->nope + s->v_dim), s->kv_lora, prefix, "kv_b_proj.weight");
    matrix(p, F8, s->hidden, (int64_t)s->heads * s->v_dim, prefix, "o_proj.weight");
    snprintf(prefix, sizeof prefix, "%sself_attn.indexer.", at);
    matrix(p, F8, (int64_t)s->index_heads * s->index_dim, s->q_lora, prefix, "wq_b.weight");
    matrix(p, F8, s->index_dim, s->hidden, prefix, "wk.weight");
    add(p, F32, s->index_dim, 0, 1, 0.1f, prefix, "k_norm.weight");
    add(p, F32, s->index_dim, 0, 0, 0.1f, prefix, "k_norm.bias");
    matrix(p, BF16, s->index_heads, s->hidden, prefix, "weights_proj.weight");
    snprintf(prefix, sizeof prefix, "%smlp.", at);
    if (i < s->dense_layers) {
        mlp(p, s, s->dense_width, prefix);
        return;
    }
    matrix(p, BF16, s->experts, s->hidden, prefix, "gate.weight");
    add(p, F32, s->experts, 0, 0, 0.05f, prefix, "gate.e_score_correction_bias");
    if (s->shared_experts) {
        snprintf(prefix, sizeof prefix, "%smlp.shared_experts.", at);
        mlp(p, s, (int64_t)s->expert_width * s->shared_experts, prefix);
    }
    for (int e = 0; e < s->experts; e++) {
        snprintf(prefix, sizeof prefix, "%smlp.experts.%d.", at, e);
        mlp(p, s, s->expert_width, prefix);
    }
}

static void everything(plan *p, const checkpoint_shape *s) {
    add(p, BF16, s->vocab, s->hidden, 0, 1, "", "model.embed_tokens.weight");
    for (int i = 0; i < s->layers; i++) layer(p, s, i);
    norm(p, s->hidden, "", "model.norm.weight");
    matrix(p, BF16, s->vocab, s->hidden, "", "lm_head.weight");
}

static size_t numbers_of(const item *t) {
    return (size_t)t->rows * (size_t)(t->cols ? t->cols : 1);
}
static size_t bytes_of(const item *t) {
    static const size_t bytes[] = {1, 2, 4};
    return numbers_of(t) * bytes[t->kind];
}

/* ---- numbers ---- */

enum { TABLE = 1 << 14 };
/* Normally distributed, drawn from with 16 bits of a random word each. */
typedef struct tables {
    float normal[TABLE];
    uint8_t code[TABLE]; /* the same times 64 */
} tables;

static void fill_tables(tables *t, uint64_t seed) {
    for (int i = 0; i < TABLE; i++) {
        double sum = -6;
        for (int j = 0; j < 12; j++) sum += (double)(checkpoint_random(&seed) >> 11) * 0x1p-53;
        t->normal[i] = (float)sum;
        t->code[i] = ph_f32_to_fp8((float)sum * 64);
    }
}

/* A block's factor: a power of two, of about the size that gives FP8 codes of deviation 64 the wanted one;
 * neighbours differ. */
static float factor(float deviation, uint64_t *random) {
    return exp2f(roundf(log2f(deviation / 64)) + (float)(checkpoint_random(random) % 3) - 1);
}

static void number(const item *t, float wanted, const tables *drawn, unsigned draw, uint8_t *out) {
    float v = t->mean + wanted * drawn->normal[draw];
    uint16_t half = ph_f32_to_bf16(v);
    if (t->kind == F8)
        *out = drawn->code[draw];
    else if (t->kind == BF16)
        memcpy(out, &half, sizeof half);
    else
        memcpy(out, &v, sizeof v);
}

static bool write_item(FILE *f, const item *t, const item *of, const tables *drawn, uint64_t seed) {
    enum { PIECE = 1 << 16 };
    static const size_t bytes[] = {1, 2, 4};
    uint8_t buffer[PIECE * 4];
    uint64_t random = seed, word = 0;
    size_t n = numbers_of(t), each = bytes[t->kind];
    for (const char *c = t->name; *c; c++) random = (random ^ (uint8_t)*c) * 0x100000001b3u;
    bool scales = t->kind == F32 && t->deviation == 0; /* the factors of the matrix before */
    for (size_t at = 0; at < n;) {
        size_t take = n - at < PIECE ? n - at : PIECE;
        for (size_t i = 0; i < take; i++, at++) {
            if (scales) {
                float v = factor(of->deviation, &random);
                memcpy(buffer + i * 4, &v, sizeof v);
                continue;
            }
            if (at % 4 == 0) word = checkpoint_random(&random);
            number(t, t->deviation, drawn, (unsigned)(word >> (at % 4 * 16)) % TABLE, buffer + i * each);
        }
        if (fwrite(buffer, each, take, f) != take) return false;
    }
    return true;
}

/* ---- files ---- */

static int fail_write(const char *path, ph_error *err) {
    return ph_fail(err, PH_FAIL, "cannot write %s", path);
}

static int write_json(const char *dir, const char *name, json_t *value, ph_error *err) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int failed = value ? json_dump_file(value, path, JSON_INDENT(1)) : -1;
    json_decref(value);
    return failed ? fail_write(path, err) : PH_OK;
}

static int write_config(const char *dir, const checkpoint_shape *s, ph_error *err) {
    json_t *c = json_pack(
        "{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, "
        "s:i}",
        "model_type", "deepseek_v32", "vocab_size", s->vocab, "hidden_size", s->hidden, "num_hidden_layers",
        s->layers, "num_attention_heads", s->heads, "q_lora_rank", s->q_lora, "kv_lora_rank", s->kv_lora,
        "qk_nope_head_dim", s->nope, "qk_rope_head_dim", s->rope, "v_head_dim", s->v_dim, "index_n_heads",
        s->index_heads, "index_head_dim", s->index_dim, "index_topk", s->index_topk,
        "max_position_embeddings", 163840, "first_k_dense_replace", s->dense_layers, "intermediate_size",
        s->dense_width, "moe_intermediate_size", s->expert_width, "n_routed_experts", s->experts,
        "n_shared_experts", s->shared_experts, "num_experts_per_tok", s->experts_per_token);
    json_t *more = json_pack(
        "{s:i, s:i, s:f, s:b, s:s, s:s, s:s, s:f, s:i, s:i, s:f, s:{s:s, s:i, s:i, s:i, s:i, s:f, s:f}, "
        "s:{s:s, s:s, s:s, "
        "s:[i, i]}}",
        "n_group", s->groups, "topk_group", s->groups_per_token, "routed_scaling_factor", 2.5,
        "norm_topk_prob", 1, "scoring_func", "sigmoid", "topk_method", "noaux_tc", "hidden_act", "silu",
        "rms_norm_eps", 1e-6, "bos_token_id", TINY_BOS, "eos_token_id", TINY_EOS, "rope_theta", 10000.0,
        "rope_scaling", "type", "yarn", "factor", 40, "original_max_position_embeddings", 4096, "beta_fast",
        32, "beta_slow", 1, "mscale", 1.0, "mscale_all_dim", 1.0, "quantization_config", "quant_method",
        "fp8", "fmt", "e4m3", "scale_fmt", "ue8m0", "weight_block_size", 128, 128);
    if (!c || !more || json_object_update(c, more)) {
        json_decref(c);
        c = NULL;
    }
    json_decref(more);
    return write_json(dir, "config.json", c, err);
}

static void shard_name(char out[64], int shard, int n) {
    snprintf(out, 64, "model-%05d-of-%05d.safetensors", shard + 1, n);
}

static int write_shard(const char *dir, const plan *p, int shard, int n_shard, const tables *drawn,
                       uint64_t seed, ph_error *err) {
    static const char *const types[] = {"F8_E4M3", "BF16", "F32"};
    char path[4096], name[64];
    shard_name(name, shard, n_shard);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    json_t *header = json_object();
    size_t at = 0;
    for (size_t i = 0; i < p->n; i++) {
        const item *t = &p->items[i];
        if (t->shard != shard) continue;
        size_t end = at + bytes_of(t);
        json_t *shape = t->cols ? json_pack("[I, I]", (json_int_t)t->rows, (json_int_t)t->cols)
                                : json_pack("[I]", (json_int_t)t->rows);
        json_object_set_new(header, t->name,
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype", types[t->kind], "shape", shape,
                                      "data_offsets", (json_int_t)at, (json_int_t)end));
        at = end;
    }
    char *text = json_dumps(header, JSON_COMPACT);
    json_decref(header);
    FILE *f = text ? fopen(path, "wb") : NULL;
    bool good = f != NULL;
    if (f) {
        uint64_t len = (strlen(text) + 7) / 8 * 8;
        good = fwrite(&len, sizeof len, 1, f) == 1 && fprintf(f, "%-*s", (int)len, text) == (int)len;
        for (size_t i = 0; i < p->n && good; i++)
            if (p->items[i].shard == shard)
                good = write_item(f, &p->items[i], &p->items[i ? i - 1 : 0], drawn, seed);
        good &= fclose(f) == 0;
    }
    free(text);
    return good ? PH_OK : fail_write(path, err);
}

static int write_index(const char *dir, const plan *p, int n_shard, ph_error *err) {
    json_t *map = json_object();
    size_t total = 0;
    for (size_t i = 0; i < p->n; i++) {
        char name[64];
        shard_name(name, p->items[i].shard, n_shard);
        json_object_set_new(map, p->items[i].name, json_string(name));
        total += bytes_of(&p->items[i]);
    }
    return write_json(
        dir, "model.safetensors.index.json",
        json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)total, "weight_map", map), err);
}

int checkpoint_write(const char *dir, const checkpoint_shape *s, uint64_t seed, size_t shard_bytes,
                     ph_error *err) {
    plan p = {0};
    tables *t = malloc(sizeof *t);
    everything(&p, s);
    if (!t || p.failed) {
        free(p.items);
        free(t);
        return ph_fail(err, PH_MEMORY, "no memory for a checkpoint");
    }
    fill_tables(t, seed);
    size_t filled = 0;
    int shard = 0;
    for (size_t i = 0; i < p.n; i++) {
        size_t bytes = bytes_of(&p.items[i]);
        if (filled && filled + bytes > shard_bytes) {
            shard++;
            filled = 0;
        }
        p.items[i].shard = shard;
        filled += bytes;
    }
    int code = write_config(dir, s, err);
    if (!code && tiny_tokenizer_write(dir))
        code = ph_fail(err, PH_FAIL, "cannot write a tokenizer into %s", dir);
    for (int i = 0; i <= shard && !code; i++) code = write_shard(dir, &p, i, shard + 1, t, seed, err);
    if (!code) code = write_index(dir, &p, shard + 1, err);
    free(p.items);
    free(t);
    return code;
}
