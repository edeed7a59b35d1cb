/* check.c - `pharos model check`: forced and free runs against expected.safetensors (check.h). */
#include "engine/check.h"

#include "engine/engine_internal.h"
#include "engine/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int CHUNKS[CHECK_WAYS] = {0, 1, 7, 64};

/* The reference, and the state of one run against it. */
typedef struct checker {
    engine *engine;
    int tokens, vocab, hidden, layers, greedy_n;
    const int32_t *input, *greedy;
    const float *logits;
    const float *state[CONFIG_MAX_LAYERS + 1];
    const int32_t *topk[CONFIG_MAX_LAYERS]; /* NULL: the reference has none for this layer */
    int k[CONFIG_MAX_LAYERS];
    float *scores;      /* [tokens] */
    uint8_t *mark;      /* [tokens] bit 0: reference selected, bit 1: we did */
    float *step_logits; /* [chunk, vocab] of one chunk */
    float *rows;        /* [chunk, hidden] */
    int32_t *position;  /* [chunk, topk] */
    int32_t *count;     /* [chunk] */
    float *device_scores, *device_logits; /* in the backend's memory */
    check_way *way;
} checker;

static const tensor *expect(const tensor_files *f, const char *name, tensor_type type, int dims,
                            ph_error *err) {
    const tensor *t = tensors_find(f, name);
    if (!t) {
        ph_fail(err, PH_MODEL, "expected.safetensors has no %s", name);
        return NULL;
    }
    if (t->type != type || t->n_dim != dims) {
        ph_fail(err, PH_MODEL, "%s in expected.safetensors has another type or shape than the layout says",
                name);
        return NULL;
    }
    return t;
}

static int bad_shape(const char *name, ph_error *err) {
    return ph_fail(err, PH_MODEL, "%s in expected.safetensors does not fit the model or the input", name);
}

static int load_reference(checker *c, const tensor_files *f, ph_error *err) {
    const model_config *m = engine_config(c->engine);
    const tensor *ids = expect(f, "input_ids", TENSOR_I32, 1, err);
    if (!ids) return PH_MODEL;
    if (ids->shape[0] < 1 || ids->shape[0] > m->max_positions || ids->shape[0] > 1 << 20)
        return bad_shape("input_ids", err);
    c->tokens = (int)ids->shape[0];
    c->input = ids->data;
    c->vocab = m->vocab;
    c->hidden = m->hidden;
    c->layers = m->layers;
    int code = check_tokens(c->engine, c->input, c->tokens, err);
    if (code) return code;
    const tensor *logits = expect(f, "logits", TENSOR_F32, 2, err);
    if (!logits) return PH_MODEL;
    if (logits->shape[0] != c->tokens || logits->shape[1] != c->vocab) return bad_shape("logits", err);
    c->logits = logits->data;
    char name[64];
    for (int i = 0; i <= c->layers; i++) {
        snprintf(name, sizeof name, "hidden.%d", i);
        const tensor *t = expect(f, name, TENSOR_F32, 2, err);
        if (!t) return PH_MODEL;
        if (t->shape[0] != c->tokens || t->shape[1] != c->hidden) return bad_shape(name, err);
        c->state[i] = t->data;
    }
    for (int i = 0; i < c->layers; i++) {
        snprintf(name, sizeof name, "topk.%d", i);
        if (!tensors_find(f, name) && !m->index_full[i])
            continue; /* a layer that reuses the selection below it */
        const tensor *t = expect(f, name, TENSOR_I32, 2, err);
        if (!t) return PH_MODEL;
        if (t->shape[0] != c->tokens || t->shape[1] < 1 || t->shape[1] > m->index_topk)
            return bad_shape(name, err);
        c->topk[i] = t->data;
        c->k[i] = (int)t->shape[1];
    }
    const tensor *greedy = expect(f, "greedy", TENSOR_I32, 1, err);
    if (!greedy) return PH_MODEL;
    if (greedy->shape[0] < 1 || greedy->shape[0] > 4096) return bad_shape("greedy", err);
    c->greedy = greedy->data;
    c->greedy_n = (int)greedy->shape[0];
    if ((int64_t)c->tokens + c->greedy_n > m->max_positions) return bad_shape("greedy", err);
    return PH_OK;
}

/* ---- the forced run ---- */

static double worst(double so_far, const float *got, const float *want, size_t n) {
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - want[i]);
        if (!(d <= so_far)) so_far = isnan(d) ? INFINITY : d;
    }
    return so_far;
}

static void see_hidden(void *user, int i, const float *rows, int n_tok, int64_t pos0) {
    checker *c = user;
    kern *k = c->engine->kern;
    k->copy_out(k, c->rows, rows, (size_t)n_tok * c->hidden * sizeof *rows);
    c->way->hidden_error[i] = worst(c->way->hidden_error[i], c->rows, c->state[i] + (size_t)pos0 * c->hidden,
                                    (size_t)n_tok * c->hidden);
}

/* Counts the positions that one side has and the other has not; looks their scores up to tell near-ties
 * apart. */
static void compare_row(checker *c, int layer, const kern_index_select *a, int row) {
    int64_t t = a->pos0 + row;
    const int32_t *want = c->topk[layer] + (size_t)t * c->k[layer];
    const int32_t *got = c->position + (size_t)row * a->n_select;
    int n_got = c->count[row];
    memset(c->mark, 0, (size_t)t + 1);
    for (int i = 0; i < c->k[layer]; i++)
        if (want[i] >= 0 && want[i] <= t) c->mark[want[i]] |= 1;
    for (int i = 0; i < n_got; i++) c->mark[got[i]] |= 2;
    c->way->rows++;
    long differ = 0;
    for (int64_t s = 0; s <= t; s++) differ += c->mark[s] == 1 || c->mark[s] == 2;
    if (differ == 0) return;
    c->way->differ += differ;
    kern *k = c->engine->kern;
    k->index_scores(k, &(kern_index_scores){.cache = a->cache,
                                            .q = a->q + (size_t)row * a->n_head * a->cache.dim,
                                            .w = a->w + (size_t)row * a->n_head,
                                            .n_head = a->n_head,
                                            .n_key = t + 1,
                                            .score = c->device_scores});
    k->copy_out(k, c->scores, c->device_scores, (size_t)(t + 1) * sizeof *c->scores);
    float cut = INFINITY;
    for (int i = 0; i < n_got; i++) cut = fminf(cut, c->scores[got[i]]);
    for (int64_t s = 0; s <= t; s++) {
        if (c->mark[s] != 1 && c->mark[s] != 2) continue;
        if (fabsf(c->scores[s] - cut) <= (float)CHECK_NEAR_TIE)
            c->way->near_ties++;
        else
            c->way->real++;
    }
}

static int ascending(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Compares what the engine chose with the reference, then puts the reference's choice in its place. */
static void force_selection(void *user, int layer, kern_index_select *a) {
    checker *c = user;
    kern *k = c->engine->kern;
    if (!c->topk[layer]) return;
    size_t bytes = (size_t)a->n_tok * a->n_select * sizeof *c->position;
    k->copy_out(k, c->position, a->position, bytes);
    k->copy_out(k, c->count, a->count, (size_t)a->n_tok * sizeof *c->count);
    for (int row = 0; row < a->n_tok; row++) {
        int64_t t = a->pos0 + row;
        if (a->q) compare_row(c, layer, a, row);
        const int32_t *want = c->topk[layer] + (size_t)t * c->k[layer];
        int32_t *out = c->position + (size_t)row * a->n_select;
        int n = 0;
        for (int i = 0; i < c->k[layer]; i++)
            if (want[i] >= 0 && want[i] <= t) out[n++] = want[i];
        qsort(out, (size_t)n, sizeof *out, ascending);
        c->count[row] = n;
    }
    k->copy_in(k, a->position, c->position, bytes);
    k->copy_in(k, a->count, c->count, (size_t)a->n_tok * sizeof *c->count);
}

static int forced_run(checker *c, int chunk, ph_error *err) {
    context *x = NULL;
    int64_t capacity = (int64_t)c->tokens + c->greedy_n;
    int code = context_open(&x, c->engine, NULL, capacity, NULL, err);
    if (!code) code = snapshot_reserve(&x->snapshot, 0, c->tokens, err);
    if (code) {
        context_close(x);
        return code;
    }
    forward_probe probe = {
        .user = c, .hidden = see_hidden, .selected = force_selection, .all_logits = c->device_logits};
    kern *k = c->engine->kern;
    for (int at = 0; at < c->tokens;) {
        int n = chunk < c->tokens - at ? chunk : c->tokens - at;
        forward_step step = {
            .cache = x->snapshot.cache, .tokens = c->input + at, .n_tok = n, .pos0 = at, .probe = &probe};
        engine_forward(c->engine, &step);
        k->copy_out(k, c->step_logits, c->device_logits, (size_t)n * c->vocab * sizeof *c->step_logits);
        c->way->logits_error = worst(c->way->logits_error, c->step_logits, c->logits + (size_t)at * c->vocab,
                                     (size_t)n * c->vocab);
        at += n;
    }
    context_close(x);
    return engine_status(c->engine, err);
}

/* ---- the free run ---- */

static int greedy_run(checker *c, int chunk, ph_error *err) {
    context *x = NULL;
    int64_t capacity = (int64_t)c->tokens + c->greedy_n;
    int code = context_open(&x, c->engine, NULL, capacity, NULL, err);
    if (!code) code = snapshot_reserve(&x->snapshot, 0, capacity, err);
    float *logits = c->step_logits;
    for (int at = 0; !code && at < c->tokens;) {
        int n = chunk < c->tokens - at ? chunk : c->tokens - at;
        forward_step step = {
            .cache = x->snapshot.cache, .tokens = c->input + at, .n_tok = n, .pos0 = at, .logits = logits};
        engine_forward(c->engine, &step);
        at += n;
    }
    c->way->greedy_n = c->greedy_n;
    for (int i = 0; !code && i < c->greedy_n; i++) {
        int32_t best = 0;
        for (int32_t v = 1; v < c->vocab; v++)
            if (logits[v] > logits[best]) best = v;
        if (best != c->greedy[i]) break;
        c->way->greedy_same++;
        forward_step step = {.cache = x->snapshot.cache,
                             .tokens = &best,
                             .n_tok = 1,
                             .pos0 = c->tokens + i,
                             .logits = logits};
        engine_forward(c->engine, &step);
    }
    context_close(x);
    if (!code) code = engine_status(c->engine, err);
    return code;
}

/* Arrays of one chunk of `most` tokens. */
static int make_arrays(checker *c, size_t most, ph_error *err) {
    const model_config *m = engine_config(c->engine);
    kern *k = c->engine->kern;
    c->scores = malloc((size_t)c->tokens * sizeof *c->scores);
    c->mark = malloc((size_t)c->tokens);
    c->step_logits = malloc(most * (size_t)c->vocab * sizeof *c->step_logits);
    c->rows = malloc(most * (size_t)c->hidden * sizeof *c->rows);
    c->position = malloc(most * (size_t)m->index_topk * sizeof *c->position);
    c->count = malloc(most * sizeof *c->count);
    if (!c->scores || !c->mark || !c->step_logits || !c->rows || !c->position || !c->count)
        return ph_fail(err, PH_MEMORY, "no memory for a check");
    int code = k->alloc(k, (void **)&c->device_scores, (size_t)c->tokens * sizeof *c->scores, err);
    if (!code) code = k->alloc(k, (void **)&c->device_logits, most * (size_t)c->vocab * sizeof *c->step_logits, err);
    return code;
}

static void free_arrays(checker *c) {
    free(c->scores);
    free(c->mark);
    free(c->step_logits);
    free(c->rows);
    free(c->position);
    free(c->count);
    if (!c->engine) return;
    c->engine->kern->free(c->engine->kern, c->device_scores);
    c->engine->kern->free(c->engine->kern, c->device_logits);
}

static void judge(check_result *r, const checker *c) {
    r->passed = true;
    snprintf(r->verdict, sizeof r->verdict, "agrees with the reference");
    for (int w = 0; w < CHECK_WAYS && r->passed; w++) {
        const check_way *way = &r->way[w];
        double worst_hidden = 0;
        for (int i = 0; i <= c->layers; i++) worst_hidden = fmax(worst_hidden, way->hidden_error[i]);
        r->passed = false;
        if (!(way->logits_error <= CHECK_TOLERANCE))
            snprintf(r->verdict, sizeof r->verdict, "logits are off by %.2e with the selection forced",
                     way->logits_error);
        else if (!(worst_hidden <= CHECK_TOLERANCE))
            snprintf(r->verdict, sizeof r->verdict, "a hidden state is off by %.2e with the selection forced",
                     worst_hidden);
        else if (way->real > 0)
            snprintf(r->verdict, sizeof r->verdict, "%ld selected positions differ and are no near-ties",
                     way->real);
        else if (way->differ == 0 && way->greedy_same < way->greedy_n)
            snprintf(r->verdict, sizeof r->verdict, "greedy token %d differs though every selection agrees",
                     way->greedy_same);
        else
            r->passed = true;
    }
}

int model_check(check_result *out, const char *dir, const char *backend, int ranks, int threads, ph_error *err) {
    memset(out, 0, sizeof *out);
    checker c = {0};
    tensor_files *files = NULL;
    char path[4096];
    if (snprintf(path, sizeof path, "%s/expected.safetensors", dir) >= (int)sizeof path)
        return ph_fail(err, PH_USAGE, "the path of the model folder is too long");
    int code = tensors_open_file(&files, path, err);
    /* One prefill of everything must fit into one step: the longest input decides the chunk. */
    engine_options options = {.model_dir = dir,
                              .backend = backend,
                              .ranks = ranks,
                              .threads = threads,
                              .precision = ENGINE_EXACT,
                              .chunk = 2048};
    if (!code) code = engine_open_bare(&c.engine, &options, err);
    if (!code) code = load_reference(&c, files, err);
    int most = c.tokens < options.chunk ? c.tokens : options.chunk;
    if (!code) code = make_arrays(&c, (size_t)most, err);
    out->layers = c.layers;
    out->tokens = c.tokens;
    for (int w = 0; w < CHECK_WAYS && !code; w++) {
        c.way = &out->way[w];
        c.way->chunk = CHUNKS[w];
        int chunk = CHUNKS[w] && CHUNKS[w] < most ? CHUNKS[w] : most;
        code = forced_run(&c, chunk, err);
        if (!code) code = greedy_run(&c, chunk, err);
    }
    if (!code) judge(out, &c);
    free_arrays(&c);
    engine_close(c.engine);
    if (files) tensors_close(files);
    return code;
}
