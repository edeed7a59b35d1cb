#include "tests/tiny_model.h"

#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HIDDEN = 64,
    HEADS = 4,
    Q_LORA = 48,
    KV_LORA = 32,
    NOPE = 32,
    ROPE = 16,
    V_DIM = 24,
    INDEX_HEADS = 4,
    INDEX_DIM = 32,
    INDEX_TOPK = 16,
    MLP = 160,
    MAX_TENSORS = 64,
};

/* ---- config.json and tokenizer.json ---- */

static int write_json(const char *dir, const char *name, json_t *value) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int failed = value ? json_dump_file(value, path, JSON_INDENT(1)) : -1;
    json_decref(value);
    return failed;
}

static int write_config(const char *dir, const tiny_options *o) {
    return write_json(
        dir, "config.json",
        json_pack(
            "{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:i, s:f, s:b, s:i, s:i, "
            "s:i, s:i}",
            "model_type", "deepseek_v32", "vocab_size", TINY_VOCAB, "hidden_size", HIDDEN,
            "num_hidden_layers", TINY_LAYERS, "num_attention_heads", HEADS, "q_lora_rank", Q_LORA,
            "kv_lora_rank", KV_LORA, "qk_nope_head_dim", NOPE, "qk_rope_head_dim", ROPE, "v_head_dim", V_DIM,
            "index_n_heads", INDEX_HEADS, "index_head_dim", INDEX_DIM, "index_topk", INDEX_TOPK,
            "rms_norm_eps", 1e-6, "max_position_embeddings", o->max_positions ? o->max_positions : 4096,
            "rope_theta", 10000.0, "tie_word_embeddings", 0, "intermediate_size", MLP,
            "first_k_dense_replace", TINY_LAYERS, "bos_token_id", TINY_BOS, "eos_token_id", TINY_EOS));
}

/* The character that spells a byte in a byte-level vocabulary, as UTF-8. */
static void spell(int byte, char out[4]) {
    int c = byte;
    bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
    if (!printable) {
        c = 256;
        for (int b = 0; b < byte; b++) c += !((b >= 33 && b <= 126) || (b >= 161 && b != 173));
    }
    int n = 0;
    if (c < 128)
        out[n++] = (char)c;
    else {
        out[n++] = (char)(0xC0 | c >> 6);
        out[n++] = (char)(0x80 | (c & 63));
    }
    out[n] = 0;
}

int tiny_tokenizer_write(const char *dir) {
    static const char *const special[] = {"<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>",
                                          "<｜Assistant｜>", "</think>", "<think>"};
    json_t *vocab = json_object(), *added = json_array();
    for (int b = 0; b < 256; b++) {
        char name[4];
        spell(b, name);
        json_object_set_new(vocab, name, json_integer(b));
    }
    for (size_t i = 0; i < sizeof special / sizeof *special; i++)
        json_array_append_new(added, json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", TINY_BOS + (int)i,
                                               "content", special[i], "single_word", 0, "lstrip", 0, "rstrip",
                                               0, "normalized", 0, "special", 1));
    json_t *byte_level = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                                   "trim_offsets", 1, "use_regex", 0);
    return write_json(
        dir, "tokenizer.json",
        json_pack("{s:s, s:n, s:n, s:o, s:n, s:O, s:o, s:n, s:{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:o, "
                  "s:[]}}",
                  "version", "1.0", "truncation", "padding", "added_tokens", added, "normalizer",
                  "pre_tokenizer", byte_level, "decoder", byte_level, "post_processor", "model", "type",
                  "BPE", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                  "fuse_unk", 0, "byte_fallback", 0, "vocab", vocab, "merges"));
}

/* ---- model.safetensors ---- */

typedef struct weights {
    uint64_t random;
    float *data;
    size_t n, capacity;
    json_t *header;
    int any_byte;
} weights;

/* splitmix64, then twelve uniforms: near enough to a normal distribution. */
static float normal(weights *w) {
    double sum = -6;
    for (int i = 0; i < 12; i++) {
        uint64_t z = w->random += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        sum += (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
    }
    return (float)sum;
}

/* rows x cols of mean and deviation; cols 0 = a vector. Returns the first number, NULL when out of memory. */
static float *add(weights *w, const char *name, int rows, int cols, float mean, float deviation) {
    size_t n = (size_t)rows * (size_t)(cols ? cols : 1);
    if (w->n + n > w->capacity) {
        w->capacity = (w->n + n) * 2;
        float *more = realloc(w->data, w->capacity * sizeof *more);
        if (!more) abort();
        w->data = more;
    }
    json_t *shape = cols ? json_pack("[i, i]", rows, cols) : json_pack("[i]", rows);
    json_object_set_new(w->header, name,
                        json_pack("{s:s, s:o, s:[I, I]}", "dtype", "F32", "shape", shape, "data_offsets",
                                  (json_int_t)(w->n * 4), (json_int_t)((w->n + n) * 4)));
    float *out = w->data + w->n;
    for (size_t i = 0; i < n; i++) out[i] = mean + deviation * normal(w);
    w->n += n;
    return out;
}

/* Rows of `in` numbers whose product with a normed vector has about the size 1. */
static void matrix(weights *w, const char *name, int rows, int in) {
    add(w, name, rows, in, 0, 1 / sqrtf((float)in));
}

static void add_layer(weights *w, int i) {
    char name[128];
    const struct {
        const char *name;
        int rows, cols; /* cols 0: a norm */
    } parts[] = {
        {"input_layernorm.weight", HIDDEN, 0},
        {"post_attention_layernorm.weight", HIDDEN, 0},
        {"self_attn.q_a_proj.weight", Q_LORA, HIDDEN},
        {"self_attn.q_a_layernorm.weight", Q_LORA, 0},
        {"self_attn.q_b_proj.weight", HEADS * (NOPE + ROPE), Q_LORA},
        {"self_attn.kv_a_proj_with_mqa.weight", KV_LORA + ROPE, HIDDEN},
        {"self_attn.kv_a_layernorm.weight", KV_LORA, 0},
        {"self_attn.kv_b_proj.weight", HEADS * (NOPE + V_DIM), KV_LORA},
        {"self_attn.o_proj.weight", HIDDEN, HEADS * V_DIM},
        {"self_attn.indexer.wq_b.weight", INDEX_HEADS * INDEX_DIM, Q_LORA},
        {"self_attn.indexer.wk.weight", INDEX_DIM, HIDDEN},
        {"self_attn.indexer.weights_proj.weight", INDEX_HEADS, HIDDEN},
        {"self_attn.indexer.k_norm.weight", INDEX_DIM, 0},
        {"mlp.gate_proj.weight", MLP, HIDDEN},
        {"mlp.up_proj.weight", MLP, HIDDEN},
        {"mlp.down_proj.weight", HIDDEN, MLP},
    };
    for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
        snprintf(name, sizeof name, "model.layers.%d.%s", i, parts[p].name);
        if (parts[p].cols)
            matrix(w, name, parts[p].rows, parts[p].cols);
        else
            add(w, name, parts[p].rows, 0, 1, 0.1f);
    }
    snprintf(name, sizeof name, "model.layers.%d.self_attn.indexer.k_norm.bias", i);
    add(w, name, INDEX_DIM, 0, 0, 0.1f);
}

/* A token whose row is 0 has the logit 0, and the largest of a hundred random ones is well above it: what
 * must not be written is never the greedy choice. */
static void add_head(weights *w) {
    float *rows = add(w, "lm_head.weight", TINY_VOCAB, HIDDEN, 0, 0.5f);
    for (int id = 0; id < TINY_VOCAB; id++) {
        bool printable = id >= 32 && id < 127;
        if (!printable && !(w->any_byte && id < 256))
            memset(rows + (size_t)id * HIDDEN, 0, HIDDEN * sizeof *rows);
    }
}

static int write_weights(const char *dir, const tiny_options *o) {
    weights w = {.random = o->seed, .header = json_object(), .any_byte = o->any_byte};
    add(&w, "model.embed_tokens.weight", TINY_VOCAB, HIDDEN, 0, 1);
    for (int i = 0; i < TINY_LAYERS; i++) add_layer(&w, i);
    add(&w, "model.norm.weight", HIDDEN, 0, 1, 0.1f);
    add_head(&w);
    char path[4096], *text = json_dumps(w.header, JSON_COMPACT);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    FILE *f = text ? fopen(path, "wb") : NULL;
    int failed = !f;
    if (f) {
        /* The header is padded with spaces, so that the numbers behind it are aligned. */
        uint64_t len = (strlen(text) + 7) / 8 * 8;
        fwrite(&len, sizeof len, 1, f);
        fprintf(f, "%-*s", (int)len, text);
        fwrite(w.data, sizeof *w.data, w.n, f);
        failed = fclose(f) != 0;
    }
    free(text);
    free(w.data);
    json_decref(w.header);
    return failed ? -1 : 0;
}

int tiny_model_write(const char *dir, const tiny_options *options) {
    if (write_config(dir, options) || tiny_tokenizer_write(dir)) return -1;
    return write_weights(dir, options);
}
