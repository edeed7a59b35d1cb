/* checkpoint_reference.c - a plain forward pass in double over a checkpoint of checkpoint.h (see there), for
 * expected.safetensors. Formulas: the V3.2 release's reference inference, without its rounding of
 * activations. */
#include "tests/checkpoint.h"

#include "engine/config.h"
#include "engine/safetensors.h"
#include "kernels/convert.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_TOKENS = 512 };

typedef struct reference {
    model_config c;
    tensor_files *files;
    int capacity;          /* tokens */
    double *keys, *values; /* [layers, capacity, heads, nope + rope], [layers, capacity, heads, v_dim] */
    double *index_keys;    /* [layers, capacity, index_dim] */
    int32_t *topk;         /* [layers, capacity, index_topk] selected, then positions beyond the row */
    double *hidden;        /* [layers + 1, capacity, hidden] */
    double *logits;        /* [capacity, vocab] */
    char missing[256];     /* the first tensor that is not as it should be */
} reference;

/* Memory that the process gives back at its end: this is a tool of the tests. */
static double *doubles(int64_t n) {
    double *p = calloc((size_t)n, sizeof *p);
    if (!p) {
        fprintf(stderr, "no memory for %lld numbers\n", (long long)n);
        exit(PH_MEMORY);
    }
    return p;
}

/* ---- weights ---- */

static const tensor *find(reference *r, int64_t rows, int64_t cols, const char *name) {
    const tensor *t = tensors_find(r->files, name);
    if (t && t->shape[0] == rows && (cols ? t->n_dim == 2 && t->shape[1] == cols : t->n_dim == 1)) return t;
    if (!r->missing[0]) snprintf(r->missing, sizeof r->missing, "%s", name);
    return NULL;
}

static const tensor *layer_tensor(reference *r, int layer, int64_t rows, int64_t cols, const char *name) {
    char full[256];
    snprintf(full, sizeof full, "model.layers.%d.%s", layer, name);
    return find(r, rows, cols, full);
}

static void row_of(reference *r, const tensor *t, int64_t row, float *out) {
    int64_t cols = t->n_dim > 1 ? t->shape[1] : 1;
    const tensor *scale = NULL;
    char name[256];
    snprintf(name, sizeof name, "%s_scale_inv", t->name);
    if (t->type == TENSOR_FP8_E4M3) scale = find(r, (t->shape[0] + 127) / 128, (cols + 127) / 128, name);
    for (int64_t i = 0, at = row * cols; i < cols; i++, at++) {
        if (t->type == TENSOR_BF16)
            out[i] = ph_bf16_to_f32(((const uint16_t *)t->data)[at]);
        else if (t->type == TENSOR_F32)
            out[i] = ((const float *)t->data)[at];
        else
            out[i] = scale ? ph_fp8_to_f32(((const uint8_t *)t->data)[at]) *
                                 ((const float *)scale->data)[row / 128 * scale->shape[1] + i / 128]
                           : NAN;
    }
}

typedef double lanes __attribute__((vector_size(64)));
typedef float half_lanes __attribute__((vector_size(32)));

#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__) /* whose start comes after the choice of a clone */
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
static double dot(const float *w,
                                                                               const double *x, int64_t n) {
    lanes sum[2] = {{0}, {0}};
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 2; j++) {
            half_lanes a;
            lanes b;
            memcpy(&a, w + i + 8 * j, sizeof a);
            memcpy(&b, x + i + 8 * j, sizeof b);
            sum[j] += __builtin_convertvector(a, lanes) * b;
        }
    double total = 0;
    for (int j = 0; j < 8; j++) total += sum[0][j] + sum[1][j];
    for (; i < n; i++) total += (double)w[i] * x[i];
    return total;
}

/* y[n, rows] (+)= weight * x[n, cols] W^T */
static void product(reference *r, const tensor *t, const double *x, double *y, int n) {
    if (!t) return;
    int64_t rows = t->shape[0], cols = t->shape[1];
    float *w = malloc((size_t)cols * sizeof *w);
    if (!w) exit(PH_MEMORY);
    for (int64_t i = 0; i < rows; i++) {
        row_of(r, t, i, w);
        for (int t0 = 0; t0 < n; t0++) y[t0 * rows + i] = dot(w, x + t0 * cols, cols);
    }
    free(w);
}

static double *vector(reference *r, const tensor *t) {
    if (!t) return NULL;
    double *out = doubles(t->shape[0]);
    for (int64_t i = 0; i < t->shape[0]; i++) {
        float v;
        row_of(r, t, i, &v);
        out[i] = (double)v;
    }
    return out;
}

/* ---- pieces ---- */

static void rms(reference *r, const tensor *weight, double *x, int64_t stride, int n, double eps) {
    double *w = vector(r, weight);
    int64_t dim = weight ? weight->shape[0] : 0;
    for (int t = 0; t < n; t++) {
        double sum = 0, *row = x + t * stride;
        for (int64_t i = 0; i < dim; i++) sum += row[i] * row[i];
        double factor = 1 / sqrt(sum / (double)dim + eps);
        for (int64_t i = 0; i < dim; i++) row[i] *= factor * w[i];
    }
    free(w);
}

/* Frequencies as dsa.md's formula has them: a ramp between the pairs that turn beta_fast and beta_slow times.
 */
static double frequency(const model_config *c, int pair) {
    double f = pow(c->rope_theta, -2.0 * pair / c->rope);
    if (!c->yarn) return f;
    double turns[2] = {c->yarn_beta_fast, c->yarn_beta_slow}, at[2];
    for (int i = 0; i < 2; i++)
        at[i] = c->rope * log(c->yarn_original / (turns[i] * 2 * M_PI)) / (2 * log(c->rope_theta));
    double low = fmax(floor(at[0]), 0), high = fmin(ceil(at[1]), c->rope - 1);
    double ramp = fmin(fmax((pair - low) / (low == high ? 0.001 : high - low), 0), 1);
    return f / c->yarn_factor * ramp + f * (1 - ramp);
}

static void rotate(const model_config *c, double *x, int position, bool interleaved) {
    int half = c->rope / 2;
    for (int i = 0; i < half; i++) {
        /* The angle is an fp32 product in every implementation. */
        double angle = (double)((float)position * (float)frequency(c, i));
        double *a = x + (interleaved ? 2 * i : i), *b = interleaved ? a + 1 : a + half, low = *a, high = *b;
        *a = low * cos(angle) - high * sin(angle);
        *b = low * sin(angle) + high * cos(angle);
    }
}

typedef struct scored {
    double score;
    int position;
} scored;

/* The better score first, the earlier position first of equals. */
static int by_score(const void *a, const void *b) {
    const scored *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    return (x->position > y->position) - (x->position < y->position);
}

/* ---- a layer ---- */

static void index_rows(reference *r, int layer, const double *x, const double *q_a, int pos0, int n) {
    const model_config *c = &r->c;
    int heads = c->index_heads, dim = c->index_dim;
    double *q = doubles((int64_t)n * heads * dim), *w = doubles((int64_t)n * heads),
           *keys = r->index_keys + (int64_t)layer * r->capacity * dim;
    product(r, layer_tensor(r, layer, (int64_t)heads * dim, c->q_lora, "self_attn.indexer.wq_b.weight"), q_a,
            q, n);
    product(r, layer_tensor(r, layer, dim, c->hidden, "self_attn.indexer.wk.weight"), x,
            keys + (int64_t)pos0 * dim, n);
    product(r, layer_tensor(r, layer, heads, c->hidden, "self_attn.indexer.weights_proj.weight"), x, w, n);
    double *weight = vector(r, layer_tensor(r, layer, dim, 0, "self_attn.indexer.k_norm.weight")),
           *bias = vector(r, layer_tensor(r, layer, dim, 0, "self_attn.indexer.k_norm.bias"));
    for (int t = 0; t < n && weight && bias; t++) {
        double *k = keys + (int64_t)(pos0 + t) * dim, mean = 0, var = 0;
        for (int i = 0; i < dim; i++) mean += k[i] / dim;
        for (int i = 0; i < dim; i++) var += (k[i] - mean) * (k[i] - mean) / dim;
        for (int i = 0; i < dim; i++) k[i] = (k[i] - mean) / sqrt(var + 1e-6) * weight[i] + bias[i];
        rotate(c, k, pos0 + t, c->index_rope == KERN_ROPE_INTERLEAVED);
        for (int h = 0; h < heads; h++)
            rotate(c, q + ((int64_t)t * heads + h) * dim, pos0 + t, c->index_rope == KERN_ROPE_INTERLEAVED);
    }
    scored *s = malloc(MOST_TOKENS * sizeof *s);
    if (!s) exit(PH_MEMORY);
    for (int t = 0; t < n; t++) {
        int seen = pos0 + t + 1;
        for (int p = 0; p < seen; p++) {
            s[p] = (scored){0, p};
            for (int h = 0; h < heads; h++) {
                double sum = 0;
                for (int i = 0; i < dim; i++)
                    sum += q[((int64_t)t * heads + h) * dim + i] * keys[(int64_t)p * dim + i];
                if (sum > 0) s[p].score += sum * w[(int64_t)t * heads + h] / sqrt((double)heads * dim);
            }
        }
        qsort(s, (size_t)seen, sizeof *s, by_score);
        int32_t *out = r->topk + ((int64_t)layer * r->capacity + pos0 + t) * c->index_topk;
        for (int i = 0; i < c->index_topk; i++) out[i] = i < seen ? s[i].position : i;
    }
    free(s), free(q), free(w), free(weight), free(bias);
}

/* x[n, hidden] normed in, out += attention. */
static void attention(reference *r, int layer, const double *x, double *out, int pos0, int n) {
    const model_config *c = &r->c;
    int heads = c->heads, head = c->nope + c->rope, both = c->nope + c->v_dim, latent = c->kv_lora + c->rope;
    double *q_a = doubles((int64_t)n * c->q_lora), *q = doubles((int64_t)n * heads * head),
           *kv = doubles((int64_t)n * latent), *lat = doubles((int64_t)n * c->kv_lora),
           *expanded = doubles((int64_t)n * heads * both), *value = doubles((int64_t)n * heads * c->v_dim),
           *y = doubles((int64_t)n * c->hidden);
    product(r, layer_tensor(r, layer, c->q_lora, c->hidden, "self_attn.q_a_proj.weight"), x, q_a, n);
    rms(r, layer_tensor(r, layer, c->q_lora, 0, "self_attn.q_a_layernorm.weight"), q_a, c->q_lora, n, 1e-6);
    product(r, layer_tensor(r, layer, (int64_t)heads * head, c->q_lora, "self_attn.q_b_proj.weight"), q_a, q,
            n);
    product(r, layer_tensor(r, layer, latent, c->hidden, "self_attn.kv_a_proj_with_mqa.weight"), x, kv, n);
    rms(r, layer_tensor(r, layer, c->kv_lora, 0, "self_attn.kv_a_layernorm.weight"), kv, latent, n, 1e-6);
    for (int t = 0; t < n; t++)
        memcpy(lat + (int64_t)t * c->kv_lora, kv + (int64_t)t * latent, (size_t)c->kv_lora * sizeof *lat);
    product(r, layer_tensor(r, layer, (int64_t)heads * both, c->kv_lora, "self_attn.kv_b_proj.weight"), lat,
            expanded, n);
    index_rows(r, layer, x, q_a, pos0, n);
    double *keys = r->keys + (int64_t)layer * r->capacity * heads * head,
           *values = r->values + (int64_t)layer * r->capacity * heads * c->v_dim;
    for (int t = 0; t < n; t++) {
        rotate(c, kv + (int64_t)t * latent + c->kv_lora, pos0 + t, true);
        for (int h = 0; h < heads; h++) {
            int64_t at = (int64_t)(pos0 + t) * heads + h, from = (int64_t)t * heads + h;
            rotate(c, q + from * head + c->nope, pos0 + t, true);
            memcpy(keys + at * head, expanded + from * both, (size_t)c->nope * sizeof *keys);
            memcpy(keys + at * head + c->nope, kv + (int64_t)t * latent + c->kv_lora,
                   (size_t)c->rope * sizeof *keys);
            memcpy(values + at * c->v_dim, expanded + from * both + c->nope,
                   (size_t)c->v_dim * sizeof *values);
        }
    }
    for (int t = 0; t < n; t++) {
        int seen = pos0 + t + 1, chosen = seen < c->index_topk ? seen : c->index_topk;
        const int32_t *position = r->topk + ((int64_t)layer * r->capacity + pos0 + t) * c->index_topk;
        for (int h = 0; h < heads; h++) {
            double p[MOST_TOKENS], most = -INFINITY, sum = 0,
                                   *v = value + ((int64_t)t * heads + h) * c->v_dim;
            for (int i = 0; i < chosen; i++) {
                const double *k = keys + ((int64_t)position[i] * heads + h) * head,
                             *query = q + ((int64_t)t * heads + h) * head;
                p[i] = 0;
                for (int d = 0; d < head; d++) p[i] += query[d] * k[d];
                p[i] *= (double)c->softmax_scale;
                most = fmax(most, p[i]);
            }
            for (int i = 0; i < chosen; i++) sum += p[i] = exp(p[i] - most);
            for (int i = 0; i < chosen; i++)
                for (int d = 0; d < c->v_dim; d++)
                    v[d] += p[i] / sum * values[((int64_t)position[i] * heads + h) * c->v_dim + d];
        }
    }
    product(r, layer_tensor(r, layer, c->hidden, (int64_t)heads * c->v_dim, "self_attn.o_proj.weight"), value,
            y, n);
    for (int64_t i = 0; i < (int64_t)n * c->hidden; i++) out[i] += y[i];
    free(q_a), free(q), free(kv), free(lat), free(expanded), free(value), free(y);
}

/* out[n, hidden] += weight[t] * MLP(x[t]), of the rows whose weight is not 0. */
static void mlp(reference *r, int layer, const char *prefix, int64_t width, const double *x,
                const double *weight, double *out, int n) {
    int64_t hidden = r->c.hidden;
    char name[3][160];
    int rows = 0, row[MOST_TOKENS];
    for (int t = 0; t < n; t++)
        if (weight[t] != 0) row[rows++] = t;
    if (!rows) return;
    const char *const parts[] = {"gate", "up", "down"};
    for (int i = 0; i < 3; i++) snprintf(name[i], sizeof name[i], "%s.%s_proj.weight", prefix, parts[i]);
    double *in = doubles(rows * hidden), *gate = doubles(rows * width), *up = doubles(rows * width),
           *y = doubles(rows * hidden);
    for (int i = 0; i < rows; i++) memcpy(in + i * hidden, x + row[i] * hidden, (size_t)hidden * sizeof *in);
    product(r, layer_tensor(r, layer, width, hidden, name[0]), in, gate, rows);
    product(r, layer_tensor(r, layer, width, hidden, name[1]), in, up, rows);
    for (int64_t i = 0; i < rows * width; i++) gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
    product(r, layer_tensor(r, layer, hidden, width, name[2]), gate, y, rows);
    for (int i = 0; i < rows; i++)
        for (int64_t d = 0; d < hidden; d++) out[row[i] * hidden + d] += weight[row[i]] * y[i * hidden + d];
    free(in), free(gate), free(up), free(y);
}

/* Each token's weight of each expert: [n, experts]. Groups are judged by their two best. */
static double *route(reference *r, int layer, const double *x, int n) {
    const model_config *c = &r->c;
    int experts = c->experts, groups = c->groups, per = experts / groups;
    double *score = doubles((int64_t)n * experts), *weight = doubles((int64_t)n * experts);
    product(r, layer_tensor(r, layer, experts, c->hidden, "mlp.gate.weight"), x, score, n);
    double *bias = vector(r, layer_tensor(r, layer, experts, 0, "mlp.gate.e_score_correction_bias"));
    scored *group = malloc((size_t)groups * sizeof *group),
           *choice = malloc((size_t)experts * sizeof *choice);
    if (!group || !choice) exit(PH_MEMORY);
    for (int t = 0; t < n && bias; t++) {
        double *s = score + (int64_t)t * experts, sum = 0;
        for (int e = 0; e < experts; e++) s[e] = 1 / (1 + exp(-s[e]));
        for (int g = 0; g < groups; g++) {
            for (int e = 0; e < per; e++) choice[e] = (scored){s[g * per + e] + bias[g * per + e], e};
            qsort(choice, (size_t)per, sizeof *choice, by_score);
            group[g] = (scored){choice[0].score + choice[1].score, g};
        }
        qsort(group, (size_t)groups, sizeof *group, by_score);
        int n_choice = 0;
        for (int g = 0; g < c->groups_per_token; g++)
            for (int e = group[g].position * per; e < (group[g].position + 1) * per; e++)
                choice[n_choice++] = (scored){s[e] + bias[e], e};
        qsort(choice, (size_t)n_choice, sizeof *choice, by_score);
        for (int i = 0; i < c->experts_per_token; i++) sum += s[choice[i].position];
        for (int i = 0; i < c->experts_per_token; i++)
            weight[(int64_t)t * experts + choice[i].position] =
                s[choice[i].position] / sum * (double)c->route_scale;
    }
    free(score), free(bias), free(group), free(choice);
    return weight;
}

static void feed_forward(reference *r, int layer, const double *x, double *out, int n) {
    const model_config *c = &r->c;
    double one[MOST_TOKENS], own[MOST_TOKENS];
    for (int t = 0; t < n; t++) one[t] = 1;
    if (!c->moe_layer[layer]) {
        mlp(r, layer, "mlp", c->dense_width, x, one, out, n);
        return;
    }
    if (c->shared_experts)
        mlp(r, layer, "mlp.shared_experts", (int64_t)c->expert_width * c->shared_experts, x, one, out, n);
    double *weight = route(r, layer, x, n);
    for (int e = 0; e < c->experts; e++) {
        char prefix[64];
        snprintf(prefix, sizeof prefix, "mlp.experts.%d", e);
        for (int t = 0; t < n; t++) own[t] = weight[(int64_t)t * c->experts + e];
        mlp(r, layer, prefix, c->expert_width, x, own, out, n);
    }
    free(weight);
}

/* Tokens [pos0, pos0 + n). */
static void forward(reference *r, const int32_t *tokens, int pos0, int n) {
    const model_config *c = &r->c;
    int64_t hidden = c->hidden, bytes = n * hidden * (int64_t)sizeof(double);
    double *x = doubles(n * hidden), *normed = doubles(n * hidden);
    float *row = malloc((size_t)hidden * sizeof *row);
    const tensor *embedding = find(r, c->vocab, hidden, "model.embed_tokens.weight");
    if (!row) exit(PH_MEMORY);
    for (int t = 0; t < n && embedding; t++) {
        row_of(r, embedding, tokens[t], row);
        for (int64_t i = 0; i < hidden; i++) x[t * hidden + i] = (double)row[i];
    }
    free(row);
    for (int layer = 0; layer < c->layers; layer++) {
        memcpy(r->hidden + ((int64_t)layer * r->capacity + pos0) * hidden, x, (size_t)bytes);
        memcpy(normed, x, (size_t)bytes);
        rms(r, layer_tensor(r, layer, hidden, 0, "input_layernorm.weight"), normed, hidden, n,
            (double)c->rms_eps);
        attention(r, layer, normed, x, pos0, n);
        memcpy(normed, x, (size_t)bytes);
        rms(r, layer_tensor(r, layer, hidden, 0, "post_attention_layernorm.weight"), normed, hidden, n,
            (double)c->rms_eps);
        feed_forward(r, layer, normed, x, n);
    }
    rms(r, find(r, hidden, 0, "model.norm.weight"), x, hidden, n, (double)c->rms_eps);
    memcpy(r->hidden + ((int64_t)c->layers * r->capacity + pos0) * hidden, x, (size_t)bytes);
    product(r, find(r, c->vocab, hidden, "lm_head.weight"), x, r->logits + (int64_t)pos0 * c->vocab, n);
    free(x), free(normed);
}

/* ---- expected.safetensors ---- */

typedef struct part {
    char name[32];
    const double *numbers; /* or ... */
    const int32_t *whole;
    int rows, cols; /* cols 0: a vector */
} part;

static int write_parts(const char *path, const part *parts, int n, ph_error *err) {
    json_t *header = json_object();
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        const part *p = &parts[i];
        size_t end = at + (size_t)p->rows * (size_t)(p->cols ? p->cols : 1) * 4;
        json_object_set_new(
            header, p->name,
            json_pack("{s:s, s:o, s:[I, I]}", "dtype", p->whole ? "I32" : "F32", "shape",
                      p->cols ? json_pack("[i, i]", p->rows, p->cols) : json_pack("[i]", p->rows),
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
        for (int i = 0; i < n && good; i++) {
            size_t count = (size_t)parts[i].rows * (size_t)(parts[i].cols ? parts[i].cols : 1);
            if (parts[i].whole) good = fwrite(parts[i].whole, 4, count, f) == count;
            for (size_t j = 0; !parts[i].whole && j < count && good; j++) {
                float v = (float)parts[i].numbers[j];
                good = fwrite(&v, 4, 1, f) == 1;
            }
        }
        good &= fclose(f) == 0;
    }
    free(text);
    return good ? PH_OK : ph_fail(err, PH_FAIL, "cannot write %s", path);
}

static int best(const double *logits, int n) {
    int at = 0;
    for (int i = 1; i < n; i++)
        if (logits[i] > logits[at]) at = i;
    return at;
}

static int write_expected(reference *r, const char *dir, const int32_t *input, int tokens,
                          const int32_t *written, int greedy, ph_error *err) {
    const model_config *c = &r->c;
    part *parts = calloc((size_t)(2 * c->layers) + 4, sizeof *parts);
    if (!parts) return ph_fail(err, PH_MEMORY, "no memory for a reference");
    int n = 0;
    parts[n++] = (part){.name = "input_ids", .whole = input, .rows = tokens};
    parts[n++] = (part){.name = "logits", .numbers = r->logits, .rows = tokens, .cols = c->vocab};
    for (int i = 0; i <= c->layers; i++) {
        parts[n] = (part){
            .numbers = r->hidden + (int64_t)i * r->capacity * c->hidden, .rows = tokens, .cols = c->hidden};
        snprintf(parts[n++].name, sizeof parts->name, "hidden.%d", i);
    }
    for (int i = 0; i < c->layers; i++) {
        parts[n] = (part){.whole = r->topk + (int64_t)i * r->capacity * c->index_topk,
                          .rows = tokens,
                          .cols = c->index_topk};
        snprintf(parts[n++].name, sizeof parts->name, "topk.%d", i);
    }
    parts[n++] = (part){.name = "greedy", .whole = written, .rows = greedy};
    char path[4096];
    snprintf(path, sizeof path, "%s/expected.safetensors", dir);
    int code = write_parts(path, parts, n, err);
    free(parts);
    return code;
}

int checkpoint_expect(const char *dir, int tokens, int greedy, uint64_t seed, ph_error *err) {
    reference r = {.capacity = tokens + greedy};
    if (tokens < 1 || greedy < 1 || r.capacity > MOST_TOKENS)
        return ph_fail(err, PH_TOO_LARGE, "%d tokens and %d more are not within 1 and %d", tokens, greedy,
                       MOST_TOKENS);
    int code = config_load(&r.c, dir, err);
    if (!code) code = tensors_open_dir(&r.files, dir, err);
    if (code) return code;
    const model_config *c = &r.c;
    int64_t slots = (int64_t)c->layers * r.capacity;
    int32_t input[MOST_TOKENS], written[MOST_TOKENS];
    r.keys = doubles(slots * c->heads * (c->nope + c->rope));
    r.values = doubles(slots * c->heads * c->v_dim);
    r.index_keys = doubles(slots * c->index_dim);
    r.topk = (int32_t *)doubles((slots * c->index_topk + 1) / 2);
    r.hidden = doubles((int64_t)(c->layers + 1) * r.capacity * c->hidden);
    r.logits = doubles((int64_t)r.capacity * c->vocab);
    for (int i = 0; i < tokens; i++) input[i] = (int32_t)(checkpoint_random(&seed) % (uint64_t)c->vocab);
    forward(&r, input, 0, tokens);
    for (int i = 0; i < greedy; i++) {
        written[i] = best(r.logits + (int64_t)(tokens + i - 1) * c->vocab, c->vocab);
        if (i + 1 < greedy) forward(&r, &written[i], tokens + i, 1);
    }
    code = r.missing[0] ? ph_fail(err, PH_MODEL, "%s is missing or has another shape", r.missing)
                        : write_expected(&r, dir, input, tokens, written, greedy, err);
    tensors_close(r.files);
    free(r.keys), free(r.values), free(r.index_keys), free(r.topk), free(r.hidden), free(r.logits);
    return code;
}
