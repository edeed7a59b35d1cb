/* compare_reference.c - a checkpoint as it is used (FP8 codes, bf16, index keys in 8 bits) against what a
 * reference in full precision makes of it (tests/torch_reference.py, make_checkpoint --expect):
 *
 *     compare_reference DIR BACKEND...                  for instance: compare_reference DIR cuda:0 cuda:0,1
 *
 * `pharos model check` holds fp32 to the reference; this says how far rounding leads away from it: the share
 * of selected positions that are the reference's in the rows that see more than are selected, layer by layer,
 * and the logits. Nothing is forced, so that a layer selects from what the one before it made. No verdict:
 * rounding has no right size.
 */
#include "engine/engine_internal.h"
#include "engine/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 2048 };

typedef struct comparison {
    engine *engine;
    int tokens, vocab, layers;
    const int32_t *topk[CONFIG_MAX_LAYERS]; /* [tokens, k]; NULL: the reference has none */
    int k[CONFIG_MAX_LAYERS];
    const float *logits;
    const int32_t *input;
    uint8_t *chosen; /* [tokens] */
    int32_t *position, *count;
    float *rows; /* [CHUNK, vocab] */
    long same[CONFIG_MAX_LAYERS], all[CONFIG_MAX_LAYERS];
    double most, sum, square;
    long tops;
} comparison;

static void see_selection(void *user, int layer, kern_index_select *a) {
    comparison *c = user;
    kern *k = c->engine->kern;
    if (!c->topk[layer]) return;
    k->copy_out(k, c->position, a->position, (size_t)a->n_tok * (size_t)a->n_select * sizeof *c->position);
    k->copy_out(k, c->count, a->count, (size_t)a->n_tok * sizeof *c->count);
    for (int row = 0; row < a->n_tok; row++) {
        int64_t t = a->pos0 + row;
        if (t < c->k[layer]) continue; /* everything is selected */
        const int32_t *want = c->topk[layer] + t * c->k[layer],
                      *got = c->position + (int64_t)row * a->n_select;
        memset(c->chosen, 0, (size_t)c->tokens);
        for (int i = 0; i < c->k[layer]; i++)
            if (want[i] >= 0 && want[i] < c->tokens) c->chosen[want[i]] = 1;
        for (int i = 0; i < c->count[row]; i++)
            c->same[layer] += got[i] >= 0 && got[i] <= t && c->chosen[got[i]];
        c->all[layer] += c->k[layer];
    }
}

static void see_logits(comparison *c, int at, int n) {
    for (int t = 0; t < n; t++) {
        const float *got = c->rows + (size_t)t * (size_t)c->vocab,
                    *want = c->logits + (size_t)(at + t) * (size_t)c->vocab;
        int best[2] = {0, 0};
        for (int i = 0; i < c->vocab; i++) {
            double d = fabs((double)got[i] - want[i]);
            if (!(d <= c->most)) c->most = d;
            c->sum += d * d;
            c->square += (double)want[i] * want[i];
            if (got[i] > got[best[0]]) best[0] = i;
            if (want[i] > want[best[1]]) best[1] = i;
        }
        c->tops += best[0] == best[1];
    }
}

static const tensor *find(const tensor_files *f, const char *name, tensor_type type, int64_t rows) {
    const tensor *t = tensors_find(f, name);
    return t && t->type == type && t->shape[0] == rows ? t : NULL;
}

static int load(comparison *c, const tensor_files *f, ph_error *err) {
    const model_config *m = engine_config(c->engine);
    const tensor *ids = tensors_find(f, "input_ids");
    if (!ids || ids->type != TENSOR_I32 || ids->n_dim != 1 || ids->shape[0] < 1 || ids->shape[0] > 1 << 20)
        return ph_fail(err, PH_MODEL, "expected.safetensors has no input_ids");
    c->tokens = (int)ids->shape[0], c->input = ids->data, c->vocab = m->vocab, c->layers = m->layers;
    const tensor *logits = find(f, "logits", TENSOR_F32, c->tokens);
    if (!logits || logits->n_dim != 2 || logits->shape[1] != c->vocab)
        return ph_fail(err, PH_MODEL, "expected.safetensors has no logits of this model");
    c->logits = logits->data;
    for (int i = 0; i < c->layers; i++) {
        char name[32];
        snprintf(name, sizeof name, "topk.%d", i);
        const tensor *t = find(f, name, TENSOR_I32, c->tokens);
        if (!t || t->n_dim != 2 || t->shape[1] < 1 || t->shape[1] > m->index_topk) continue;
        c->topk[i] = t->data, c->k[i] = (int)t->shape[1];
    }
    return check_tokens(c->engine, c->input, c->tokens, err);
}

static int pass(comparison *c, ph_error *err) {
    kern *k = c->engine->kern;
    const model_config *m = engine_config(c->engine);
    size_t row = (size_t)c->vocab * sizeof(float);
    context *x = NULL;
    float *device_logits = NULL;
    c->chosen = malloc((size_t)c->tokens);
    c->position = malloc((size_t)CHUNK * (size_t)m->index_topk * sizeof *c->position);
    c->count = malloc(CHUNK * sizeof *c->count);
    c->rows = malloc(CHUNK * row);
    int code = c->chosen && c->position && c->count && c->rows
                   ? PH_OK
                   : ph_fail(err, PH_MEMORY, "no memory for a comparison");
    if (!code) code = k->alloc(k, (void **)&device_logits, CHUNK * row, err);
    if (!code) code = context_open(&x, c->engine, NULL, c->tokens, NULL, err);
    if (!code) code = snapshot_reserve(&x->snapshot, 0, c->tokens, err);
    forward_probe probe = {.user = c, .selected = see_selection, .all_logits = device_logits};
    for (int at = 0; !code && at < c->tokens; at += CHUNK) {
        int n = c->tokens - at < CHUNK ? c->tokens - at : CHUNK;
        engine_forward(c->engine, &(forward_step){.cache = x->snapshot.cache,
                                                  .tokens = c->input + at,
                                                  .n_tok = n,
                                                  .pos0 = at,
                                                  .probe = &probe});
        k->copy_out(k, c->rows, device_logits, (size_t)n * row);
        see_logits(c, at, n);
        code = engine_status(c->engine, err);
    }
    context_close(x);
    k->free(k, device_logits);
    free(c->chosen), free(c->position), free(c->count), free(c->rows);
    return code;
}

int main(int argc, char **argv) {
    int code = PH_OK;
    if (argc < 3) {
        fprintf(stderr, "usage: compare_reference DIR BACKEND...\n");
        return PH_USAGE;
    }
    for (int i = 2; i < argc && !code; i++) {
        comparison c = {0};
        tensor_files *files = NULL;
        char path[4096];
        ph_error err = {0};
        snprintf(path, sizeof path, "%s/expected.safetensors", argv[1]);
        code = tensors_open_file(&files, path, &err);
        engine_options options = {.model_dir = argv[1], .backend = argv[i], .chunk = CHUNK};
        if (!code) code = engine_open_bare(&c.engine, &options, &err);
        if (!code) code = load(&c, files, &err);
        if (!code) code = pass(&c, &err);
        if (code)
            fprintf(stderr, "compare_reference: %s: %s\n", argv[i], err.text);
        else {
            printf("%s: %d tokens; selected as the reference does:", argv[i], c.tokens);
            for (int l = 0; l < c.layers; l++)
                if (c.all[l]) printf(" %.4f", (double)c.same[l] / (double)c.all[l]);
            printf("; logits off by %.2e at most, %.2e of their size on average; the best token is the same "
                   "%ld times\n",
                   c.most, sqrt(c.sum / c.square), c.tops);
        }
        engine_close(c.engine);
        if (files) tensors_close(files);
    }
    return code;
}
