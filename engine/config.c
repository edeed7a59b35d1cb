#include "engine/config.h"
#include "engine/read_file.h"

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Limits: far above any model that exists, and low enough that an int holds every width that is a product of
 * two (checked in check_products) and an int64 every element count. */
enum {
    MAX_FILE = 16 << 20,
    MAX_DIM = 1 << 20,
    MAX_VOCAB = 1 << 24,
    MAX_HEADS = 1 << 16,
    MAX_EXPERTS = 4096,
    MAX_WIDTH = 1 << 24,
    MAX_POSITIONS = 1 << 30,
};

/* A reader remembers the first mistake, so that a field is one line below and not five. */
typedef struct reader {
    const json_t *object;
    ph_error *err;
    int code;
} reader;

static int refuse(reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int refuse(reader *r, const char *format, ...) {
    if (r->code) return r->code;
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return r->code = ph_fail(r->err, PH_MODEL, "%s", text);
}

/* Absent and null are the same: transformers writes null for "not set". */
static const json_t *field(const reader *r, const char *key) {
    const json_t *v = json_object_get(r->object, key);
    return json_is_null(v) ? NULL : v;
}

static bool as_integer(const json_t *v, long long *out) {
    if (json_is_integer(v)) {
        *out = json_integer_value(v);
        return true;
    }
    /* Some writers put 4096.0 for 4096. */
    double d = json_is_real(v) ? json_real_value(v) : 0.5;
    if (d != floor(d) || fabs(d) > 1e15) return false;
    *out = (long long)d;
    return true;
}

enum { REQUIRED = INT_MIN };

static int number(reader *r, const char *key, int min, int max, int fallback) {
    const json_t *v = field(r, key);
    long long n;
    if (!v) {
        if (fallback == REQUIRED) refuse(r, "%s is missing", key);
        return fallback == REQUIRED ? min : fallback;
    }
    if (!as_integer(v, &n)) {
        refuse(r, "%s is not a whole number", key);
        return min;
    }
    if (n < min || n > max) {
        refuse(r, "%s is %lld, which is not between %d and %d", key, n, min, max);
        return min;
    }
    return (int)n;
}

/* fallback NAN: required. */
static double real(reader *r, const char *key, double min, double max, double fallback) {
    const json_t *v = field(r, key);
    if (!v) {
        if (isnan(fallback)) refuse(r, "%s is missing", key);
        return isnan(fallback) ? min : fallback;
    }
    if (!json_is_number(v)) {
        refuse(r, "%s is not a number", key);
        return min;
    }
    double d = json_number_value(v);
    if (!(d >= min && d <= max)) {
        refuse(r, "%s is %g, which is not between %g and %g", key, d, min, max);
        return min;
    }
    return d;
}

static bool boolean(reader *r, const char *key, bool fallback) {
    const json_t *v = field(r, key);
    if (!v) return fallback;
    if (!json_is_boolean(v)) refuse(r, "%s is neither true nor false", key);
    return json_is_true(v);
}

static const char *string(reader *r, const char *key) {
    const json_t *v = field(r, key);
    if (v && !json_is_string(v)) refuse(r, "%s is not a string", key);
    return json_string_value(v);
}

/* Fields that switch on arithmetic the engine does not have: a model that needs it must not load. */
static void only(reader *r, const char *key, const char *supported) {
    const char *s = string(r, key);
    if (s && strcmp(s, supported))
        refuse(r, "%s \"%.60s\" is not supported (only \"%s\")", key, s, supported);
}

static reader inside(reader *r, const char *key) {
    const json_t *v = field(r, key);
    if (v && !json_is_object(v)) refuse(r, "%s is not an object", key);
    return (reader){.object = v, .err = r->err, .code = r->code};
}

static void read_eos(model_config *c, reader *r, const json_t *v) {
    size_t n = json_is_array(v) ? json_array_size(v) : v ? 1 : 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_is_array(v) ? json_array_get(v, i) : v;
        long long id;
        if (!as_integer(item, &id) || id < 0 || id >= c->vocab) {
            refuse(r, "eos_token_id is not a token id below vocab_size %d", c->vocab);
            return;
        }
        bool known = false;
        for (int k = 0; k < c->n_eos; k++) known |= c->eos[k] == id;
        if (known) continue;
        if (c->n_eos == (int)(sizeof c->eos / sizeof *c->eos)) {
            refuse(r, "eos_token_id names more than %zu tokens", sizeof c->eos / sizeof *c->eos);
            return;
        }
        c->eos[c->n_eos++] = (int)id;
    }
}

static double yarn_magnitude(double factor, double m) {
    return factor > 1 ? 0.1 * m * log(factor) + 1 : 1;
}

static void read_yarn(model_config *c, reader *p) {
    c->yarn = true;
    c->yarn_factor = real(p, "factor", 1, 1e6, NAN);
    c->yarn_original = number(p, "original_max_position_embeddings", 1, MAX_POSITIONS, REQUIRED);
    c->yarn_beta_fast = real(p, "beta_fast", 1e-3, 1e6, 32);
    c->yarn_beta_slow = real(p, "beta_slow", 1e-3, 1e6, 1);
    c->yarn_mscale = real(p, "mscale", 0, 100, 0);
    c->yarn_mscale_all_dim = real(p, "mscale_all_dim", 0, 100, 0);
    if (p->code) return;
    if (c->yarn_beta_fast < c->yarn_beta_slow) refuse(p, "beta_fast is below beta_slow");
    if (!boolean(p, "truncate", true)) refuse(p, "truncate false is not supported in rope_parameters");

    /* Magnitude on cos and sin. Both known models have the two mscales equal, hence 1, and the engine does
     * not multiply by it: a file that asks for anything else would give wrong answers, not slow ones. */
    double magnitude = c->yarn_mscale != 0 && c->yarn_mscale_all_dim != 0
                           ? yarn_magnitude(c->yarn_factor, c->yarn_mscale) /
                                 yarn_magnitude(c->yarn_factor, c->yarn_mscale_all_dim)
                           : yarn_magnitude(c->yarn_factor, 1);
    magnitude = real(p, "attention_factor", 0, 1e6, magnitude);
    if (fabs(magnitude - 1) > 1e-9)
        refuse(p,
               "YaRN with a magnitude of %g on cos and sin is not supported: mscale and mscale_all_dim must "
               "be equal",
               magnitude);
}

/* rope_parameters (transformers 5) or rope_scaling (the release); rope_theta stands in either or at the top.
 */
static void read_rope(model_config *c, reader *r) {
    reader p = inside(r, "rope_parameters");
    if (!p.object) p = inside(r, "rope_scaling");
    const char *type = NULL;
    if (p.object) {
        type = string(&p, "rope_type");
        if (!type) type = string(&p, "type");
        if (real(&p, "partial_rotary_factor", 0, 1, 1) != 1)
            refuse(&p, "partial_rotary_factor other than 1 is not supported");
    }
    c->rope_theta = p.object && field(&p, "rope_theta") ? real(&p, "rope_theta", 1.0001, 1e12, NAN)
                                                        : real(r, "rope_theta", 1.0001, 1e12, NAN);
    c->yarn_factor = 1;
    if (!type && p.object && json_object_size(p.object) && field(&p, "factor"))
        refuse(&p, "rope_scaling has a factor and no rope_type");
    if (type && !strcmp(type, "yarn"))
        read_yarn(c, &p);
    else if (type && strcmp(type, "default"))
        refuse(&p, "rope_type \"%.60s\" is not supported (only \"default\" and \"yarn\")", type);
    if (!r->code) r->code = p.code;
    if (!boolean(r, "rope_interleave", true)) refuse(r, "rope_interleave false is not supported");
}

/* Which layers compute a selection of their own. transformers 5 lists them; GLM-5.2 also has a period and an
 * offset (full where max(i - offset + 1, 0) is a multiple of the period) or a string of F and S. */
static void read_index_sharing(model_config *c, reader *r) {
    const json_t *types = field(r, "indexer_types");
    const json_t *pattern = field(r, "index_topk_pattern");
    int freq = number(r, "index_topk_freq", 1, CONFIG_MAX_LAYERS, 1);
    int offset = number(r, "index_skip_topk_offset", 0, CONFIG_MAX_LAYERS, 2);
    if (types && (!json_is_array(types) || json_array_size(types) < (size_t)c->layers)) {
        refuse(r, "indexer_types does not list all %d layers", c->layers);
        return;
    }
    if (pattern && (!json_is_string(pattern) || json_string_length(pattern) < (size_t)c->layers)) {
        refuse(r, "index_topk_pattern does not cover all %d layers", c->layers);
        return;
    }
    for (int i = 0; i < c->layers; i++) {
        if (types) {
            const char *s = json_string_value(json_array_get(types, (size_t)i));
            c->index_full[i] = s && !strcmp(s, "full");
            if (!s || (strcmp(s, "full") && strcmp(s, "shared")))
                refuse(r, "indexer_types[%d] is neither \"full\" nor \"shared\"", i);
        } else if (pattern) {
            char s = json_string_value(pattern)[i];
            c->index_full[i] = s == 'F';
            if (s != 'F' && s != 'S')
                refuse(r, "index_topk_pattern has something else than F and S at layer %d", i);
        } else {
            int step = i - offset + 1;
            c->index_full[i] = (step > 0 ? step : 0) % freq == 0;
        }
    }
    if (!c->index_full[0]) refuse(r, "layer 0 shares the selection of a layer below it, and there is none");
}

static void read_mlp_layers(model_config *c, reader *r) {
    const json_t *types = field(r, "mlp_layer_types");
    if (types && (!json_is_array(types) || json_array_size(types) < (size_t)c->layers)) {
        refuse(r, "mlp_layer_types does not list all %d layers", c->layers);
        return;
    }
    if (!types) {
        if (number(r, "moe_layer_freq", 1, CONFIG_MAX_LAYERS, 1) != 1)
            refuse(r, "moe_layer_freq other than 1 is not supported");
        c->dense_layers = number(r, "first_k_dense_replace", 0, MAX_DIM, REQUIRED);
        for (int i = 0; i < c->layers; i++) c->moe_layer[i] = i >= c->dense_layers;
        if (c->dense_layers > c->layers) c->dense_layers = c->layers;
        return;
    }
    for (int i = 0; i < c->layers; i++) {
        const char *s = json_string_value(json_array_get(types, (size_t)i));
        c->moe_layer[i] = s && !strcmp(s, "sparse");
        if (!s || (strcmp(s, "sparse") && strcmp(s, "dense")))
            refuse(r, "mlp_layer_types[%d] is neither \"dense\" nor \"sparse\"", i);
    }
    while (c->dense_layers < c->layers && !c->moe_layer[c->dense_layers]) c->dense_layers++;
}

static void read_experts(model_config *c, reader *r) {
    bool any = false, dense = false;
    for (int i = 0; i < c->layers; i++) {
        any |= c->moe_layer[i];
        dense |= !c->moe_layer[i];
    }
    c->dense_width = number(r, "intermediate_size", 1, MAX_DIM, dense ? REQUIRED : 0);
    c->route_scale = 1;
    if (!any) return;
    c->expert_width = number(r, "moe_intermediate_size", 1, MAX_DIM, REQUIRED);
    c->experts = number(r, "n_routed_experts", 1, MAX_EXPERTS, REQUIRED);
    c->shared_experts = number(r, "n_shared_experts", 0, MAX_EXPERTS, 0);
    c->experts_per_token = number(r, "num_experts_per_tok", 1, MAX_EXPERTS, REQUIRED);
    c->groups = number(r, "n_group", 1, MAX_EXPERTS, 1);
    c->groups_per_token = number(r, "topk_group", 1, MAX_EXPERTS, 1);
    c->route_scale = (float)real(r, "routed_scaling_factor", 1e-6, 1e6, NAN);
    c->route_normalise = boolean(r, "norm_topk_prob", true);
    only(r, "scoring_func", "sigmoid");
    only(r, "topk_method", "noaux_tc");
    if (r->code) return;
    if (c->experts % c->groups)
        refuse(r, "n_routed_experts %d is not a multiple of n_group %d", c->experts, c->groups);
    else if (c->groups > 1 && c->experts / c->groups < 2)
        refuse(r, "n_group %d leaves fewer than two experts in a group", c->groups);
    else if (c->groups_per_token > c->groups)
        refuse(r, "topk_group %d is more than n_group %d", c->groups_per_token, c->groups);
    else if (c->experts_per_token > c->experts / c->groups * c->groups_per_token)
        refuse(r, "num_experts_per_tok %d is more than the %d experts that can be chosen",
               c->experts_per_token, c->experts / c->groups * c->groups_per_token);
}

static void read_quantisation(model_config *c, reader *r) {
    reader q = inside(r, "quantization_config");
    if (q.object && !q.code) {
        const char *method = string(&q, "quant_method");
        if (!method || strcmp(method, "fp8"))
            refuse(&q, "quantisation method \"%.60s\" is not supported (only \"fp8\")", method ? method : "");
        only(&q, "fmt", "e4m3");
        const json_t *block = field(&q, "weight_block_size");
        long long rows = 0, columns = 0;
        if (!json_is_array(block) || json_array_size(block) != 2 ||
            !as_integer(json_array_get(block, 0), &rows) || !as_integer(json_array_get(block, 1), &columns) ||
            rows != columns || rows < 8 || rows > 4096)
            refuse(&q, "weight_block_size is not two equal sizes between 8 and 4096");
        c->fp8_block = (int)rows;
    }
    if (!r->code) r->code = q.code;
}

static void check_product(reader *r, int a, int b, const char *what) {
    if ((int64_t)a * b > MAX_WIDTH) refuse(r, "%s is %lld, more than %d", what, (long long)a * b, MAX_WIDTH);
}

static void check_products(const model_config *c, reader *r) {
    check_product(r, c->heads, c->nope + c->rope, "heads times query width");
    check_product(r, c->heads, c->nope + c->v_dim, "heads times key and value width");
    check_product(r, c->heads, c->kv_lora + c->rope, "heads times latent width");
    check_product(r, c->index_heads, c->index_dim, "index_n_heads times index_head_dim");
    check_product(r, c->shared_experts, c->expert_width, "the width of the shared experts");
    check_product(r, c->experts_per_token, c->expert_width, "the width of a token's experts");
    if (c->rope % 2) refuse(r, "qk_rope_head_dim %d is odd", c->rope);
    if (c->index_dim % 2) refuse(r, "index_head_dim %d is odd", c->index_dim);
    if (c->rope > c->index_dim)
        refuse(r, "qk_rope_head_dim %d is wider than index_head_dim %d", c->rope, c->index_dim);
}

static void read_config(model_config *c, reader *r) {
    const char *type = string(r, "model_type");
    if (r->code) return;
    if (!type) {
        refuse(r, "model_type is missing");
        return;
    }
    if (!strcmp(type, "deepseek_v32")) {
        c->family = FAMILY_DEEPSEEK_V32;
    } else if (!strcmp(type, "glm_moe_dsa")) {
        c->family = FAMILY_GLM_MOE_DSA;
    } else {
        refuse(r, "model_type \"%.60s\" is not supported (only \"deepseek_v32\" and \"glm_moe_dsa\")", type);
        return;
    }
    bool glm = c->family == FAMILY_GLM_MOE_DSA;
    c->vocab = number(r, "vocab_size", 1, MAX_VOCAB, REQUIRED);
    c->hidden = number(r, "hidden_size", 1, MAX_DIM, REQUIRED);
    c->layers = number(r, "num_hidden_layers", 1, CONFIG_MAX_LAYERS, REQUIRED);
    c->heads = number(r, "num_attention_heads", 1, MAX_HEADS, REQUIRED);
    c->q_lora = number(r, "q_lora_rank", 1, MAX_DIM, REQUIRED);
    c->kv_lora = number(r, "kv_lora_rank", 1, MAX_DIM, REQUIRED);
    c->nope = number(r, "qk_nope_head_dim", 1, MAX_DIM, REQUIRED);
    c->rope = number(r, "qk_rope_head_dim", 2, MAX_DIM, REQUIRED);
    c->v_dim = number(r, "v_head_dim", 1, MAX_DIM, REQUIRED);
    c->index_heads = number(r, "index_n_heads", 1, MAX_HEADS, REQUIRED);
    c->index_dim = number(r, "index_head_dim", 2, MAX_DIM, REQUIRED);
    c->index_topk = number(r, "index_topk", 1, MAX_DIM, REQUIRED);
    c->rms_eps = (float)real(r, "rms_norm_eps", 1e-12, 1, NAN);
    c->max_positions = number(r, "max_position_embeddings", 1, MAX_POSITIONS, REQUIRED);
    c->tied_embeddings = boolean(r, "tie_word_embeddings", false);
    /* The layout is no part of the released files: V3.2 splits in halves, GLM interleaves. */
    c->index_rope = boolean(r, "indexer_rope_interleave", glm) ? KERN_ROPE_INTERLEAVED : KERN_ROPE_HALF_SPLIT;
    only(r, "hidden_act", "silu");
    if (boolean(r, "attention_bias", false)) refuse(r, "attention_bias true is not supported");
    if (boolean(r, "mlp_bias", false)) refuse(r, "mlp_bias true is not supported");
    if (r->code) return; /* what follows uses layers and vocab */

    read_rope(c, r);
    read_index_sharing(c, r);
    read_mlp_layers(c, r);
    read_experts(c, r);
    read_quantisation(c, r);
    const json_t *bos = field(r, "bos_token_id");
    c->bos = bos ? number(r, "bos_token_id", 0, c->vocab - 1, REQUIRED) : -1;
    read_eos(c, r, field(r, "eos_token_id"));
    if (r->code) return;
    check_products(c, r);

    double scale = 1 / sqrt((double)(c->nope + c->rope));
    if (c->yarn && c->yarn_mscale_all_dim != 0) {
        double m = yarn_magnitude(c->yarn_factor, c->yarn_mscale_all_dim);
        scale *= m * m;
    }
    c->softmax_scale = (float)scale;
}

int config_parse(model_config *out, const char *json, size_t len, ph_error *err) {
    memset(out, 0, sizeof *out);
    if (len > MAX_FILE)
        return ph_fail(err, PH_MODEL, "config.json has %zu bytes, more than %d", len, MAX_FILE);
    json_t *root;
    int code = read_file_json(&root, json, len, err);
    if (!code) {
        reader r = {.object = root, .err = err};
        read_config(out, &r);
        code = r.code;
        json_decref(root);
    }
    if (code) ph_context(err, "config.json");
    return code;
}

/* ---- generation_config.json: a convenience of its writers, most of which does not concern the engine ---- */

typedef int (*generation_reader)(void *out, const char *json, size_t len, ph_error *err);

/* A folder without the file is as good as one with an empty file. */
static int load_generation(generation_reader read, void *out, const char *dir, ph_error *err) {
    char path[4096];
    char *text;
    size_t len;
    int code = read_file_path(path, sizeof path, dir, "generation_config.json", err);
    if (code) return code;
    code = read_file_text(&text, &len, path, MAX_FILE, err);
    if (code == PH_NOT_FOUND) {
        if (err) *err = (ph_error){0}; /* no mistake, so no sentence either */
        return 0;
    }
    if (code) return code;
    code = read(out, text, len, err);
    free(text);
    if (code) ph_context(err, "%s", path);
    return code;
}

static int generation_eos(void *out, const char *json, size_t len, ph_error *err) {
    json_t *root;
    int code = read_file_json(&root, json, len, err);
    if (code) return code;
    reader r = {.object = root, .err = err};
    read_eos(out, &r, field(&r, "eos_token_id"));
    json_decref(root);
    return r.code;
}

static int generation_thinking(void *out, const char *json, size_t len, ph_error *err) {
    json_t *root;
    int code = read_file_json(&root, json, len, err);
    if (code) return code;
    reader r = {.object = root, .err = err};
    const char *mode = string(&r, "thinking_mode");
    if (mode && strcmp(mode, "thinking") && strcmp(mode, "chat"))
        refuse(&r, "thinking_mode \"%.60s\" is neither \"thinking\" nor \"chat\"", mode);
    *(bool *)out = mode && !strcmp(mode, "thinking");
    json_decref(root);
    return r.code;
}

int config_parse_thinking(bool *out, const char *json, size_t len, ph_error *err) {
    *out = false;
    int code = generation_thinking(out, json, len, err);
    if (code) ph_context(err, "generation_config.json");
    return code;
}

int config_load_thinking(bool *out, const char *dir, ph_error *err) {
    *out = false;
    return load_generation(generation_thinking, out, dir, err);
}

int config_load(model_config *out, const char *dir, ph_error *err) {
    char path[4096];
    char *text;
    size_t len;
    memset(out, 0, sizeof *out);
    int code = read_file_path(path, sizeof path, dir, "config.json", err);
    if (code) return code;
    code = read_file_text(&text, &len, path, MAX_FILE, err);
    if (code == PH_NOT_FOUND)
        return ph_fail(err, PH_MODEL, "%s is no model folder: it has no config.json", dir);
    if (code) return code;
    code = config_parse(out, text, len, err);
    free(text);
    if (code) {
        ph_context(err, "%s", dir);
        return code;
    }
    return load_generation(generation_eos, out, dir, err);
}

/* The pair at which `rotations` full turns fit into the original context. */
static double yarn_pair(const model_config *c, double rotations) {
    return c->rope * log(c->yarn_original / (rotations * 2 * M_PI)) / (2 * log(c->rope_theta));
}

void config_rope_freq(const model_config *c, float *freq) {
    double low = 0, high = 0;
    if (c->yarn) {
        low = fmax(floor(yarn_pair(c, c->yarn_beta_fast)), 0);
        high = fmin(ceil(yarn_pair(c, c->yarn_beta_slow)), c->rope - 1);
        if (low == high) high += 0.001; /* as the release does: a step, not a division by zero */
    }
    for (int i = 0; i < c->rope / 2; i++) {
        double f = pow(c->rope_theta, -2.0 * i / c->rope);
        if (c->yarn) {
            double ramp = (i - low) / (high - low);
            double keep = 1 - (ramp < 0 ? 0 : ramp > 1 ? 1 : ramp);
            f = f / c->yarn_factor * (1 - keep) + f * keep;
        }
        freq[i] = (float)f;
    }
}
