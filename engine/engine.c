/* engine.c - opens a model: backend, weights, tokenizer, and the key that snapshots are made under. */
#include "engine/engine_internal.h"

#include "engine/ranks.h"
#include "engine/read_file.h"
#include "engine/remote_internal.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CHUNK = 8192 };
/* A GPU holds an FP8 file of this size or more as codes, a smaller one in BF16. Not what fits the device: the two have other
 * roundings, and what is computed is not to depend on the device's memory or on how many there are. */
static const size_t HOLD_CODES = (size_t)1 << 30;
/* Hashing every byte of a model tells two models apart for certain; beyond this size it would cost minutes,
 * and the start, middle and end of every tensor are hashed instead. */
static const size_t HASH_WHOLE = (size_t)256 << 20, HASH_PIECE = 64 << 10;

static void hash_tensors(crypto_generichash_state *h, const tensor_files *files) {
    size_t total = 0;
    for (size_t i = 0; i < tensors_count(files); i++) total += tensors_at(files, i)->bytes;
    for (size_t i = 0; i < tensors_count(files); i++) {
        const tensor *t = tensors_at(files, i);
        const uint8_t *bytes = t->data;
        crypto_generichash_update(h, (const uint8_t *)t->name, strlen(t->name) + 1);
        crypto_generichash_update(h, (const uint8_t *)t->shape, sizeof t->shape);
        if (total <= HASH_WHOLE || t->bytes <= 3 * HASH_PIECE) {
            crypto_generichash_update(h, bytes, t->bytes);
            continue;
        }
        crypto_generichash_update(h, bytes, HASH_PIECE);
        crypto_generichash_update(h, bytes + t->bytes / 2, HASH_PIECE);
        crypto_generichash_update(h, bytes + t->bytes - HASH_PIECE, HASH_PIECE);
    }
}

static void make_key(engine *e) {
    crypto_generichash_state h;
    crypto_generichash_init(&h, NULL, 0, sizeof e->key);
    /* The parsed config, not its text: two spellings of one shape read alike. It was zeroed before parsing,
     * so that its padding is too. */
    crypto_generichash_update(&h, (const uint8_t *)&e->model.config, sizeof e->model.config);
    hash_tensors(&h, e->files);
    if (e->tokenizer) crypto_generichash_update(&h, tokenizer_hash(e->tokenizer), 32);
    int32_t numbers[] = {PROMPT_TEMPLATE_VERSION, ENGINE_NUMERICS_VERSION, (int32_t)e->precision,
                         e->forward.topk, e->forward.dense};
    crypto_generichash_update(&h, (const uint8_t *)numbers, sizeof numbers);
    if (e->keys.type == KERN_FP8 || e->latents.type == KERN_FP8) { /* int8 keys take the same room */
        int32_t types[] = {e->keys.type, e->latents.type};
        crypto_generichash_update(&h, (const uint8_t *)types, sizeof types);
    }
    if (e->forward.fault) {
        int32_t fault = e->forward.fault; /* what it reads must never be taken for sound */
        crypto_generichash_update(&h, (const uint8_t *)&fault, sizeof fault);
    }
    if (e->kern->on_device && e->kern->holds_fp8) crypto_generichash_update(&h, (const uint8_t *)"codes", 5);
    /* Sums over more ranks have another order, unless they were made for it; 2: as a tree. */
    if (!e->model.alike) {
        int32_t order[] = {e->n_ranks, 2};
        crypto_generichash_update(&h, (const uint8_t *)order, sizeof order);
    }
    /* Backends differ in the last bits, and a restored answer is to equal a fresh one. */
    crypto_generichash_update(&h, (const uint8_t *)e->kern->name, strlen(e->kern->name) + 1);
    crypto_generichash_update(&h, (const uint8_t *)e->kern->cache_layout, strlen(e->kern->cache_layout) + 1);
    crypto_generichash_final(&h, e->key, sizeof e->key);
}

static int load_config(model_config *c, const engine_options *o, ph_error *err) {
    if (o->model_dir) return config_load(c, o->model_dir, err);
    return config_parse(c, o->files->config, o->files->config_len, err);
}

static int load_thinking(bool *thinks, const engine_options *o, ph_error *err) {
    *thinks = false;
    if (o->model_dir) return config_load_thinking(thinks, o->model_dir, err);
    if (!o->files->generation) return PH_OK;
    return config_parse_thinking(thinks, o->files->generation, o->files->generation_len, err);
}

static int open_tensors(tensor_files **out, const engine_options *o, ph_error *err) {
    if (o->model_dir) return tensors_open_dir(out, o->model_dir, err);
    return tensors_open_memory(out, o->files->weights, o->files->weights_len, err);
}

static size_t file_bytes(const tensor_files *files) {
    size_t n = 0;
    for (size_t i = 0; i < tensors_count(files); i++) n += tensors_at(files, i)->bytes;
    return n;
}

static const char *base_name(const char *path) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    const char *p = path + n;
    while (p > path && p[-1] != '/') p--;
    return p;
}

/* One rank has all of the model. */
static int load_alone(engine *e, const model_config *c, kern_type keep, int topk, int chunk, ph_error *err) {
    model_share all;
    int code = model_share_make(&all, c, 0, 1, e->kern->ranks_alike, err);
    if (!code) code = model_load(&e->model, c, &all, e->files, e->kern, keep, err);
    if (!code) code = scratch_make(&e->scratch, c, &all, topk, chunk, e->kern, err);
    return code;
}

int engine_open_bare(engine **out, const engine_options *o, ph_error *err) {
    *out = NULL;
    if (!o->model_dir && !o->files)
        return ph_fail(err, PH_MODEL, "this build carries no model; name one with --model DIR");
    if (sodium_init() < 0) return ph_fail(err, PH_FAIL, "libsodium cannot start");
    if (o->chunk < 0 || o->chunk > MAX_CHUNK)
        return ph_fail(err, PH_USAGE, "a prefill step of %d tokens is not within 1 and %d", o->chunk, MAX_CHUNK);
    engine *e = calloc(1, sizeof *e);
    if (!e) return ph_fail(err, PH_MEMORY, "no memory for an engine");
    e->precision = o->precision;
    e->prompt = (prompt_tokens){-1, -1, -1, -1, -1, -1}; /* until a tokenizer says otherwise */

    model_config c;
    memset(&c, 0, sizeof c);
    kern_type keep = o->precision == ENGINE_EXACT ? KERN_F32 : KERN_BF16;
    int code = load_config(&c, o, err);
    if (!code) code = kern_open_ranks(e->kerns, &e->n_ranks, o->backend, o->ranks, o->threads, err);
    e->kern = e->kerns[0];
    if (!code && o->fault && (e->kern->on_device || e->n_ranks > 1))
        code = ph_fail(err, PH_UNSUPPORTED, "a planted fault works on the processor and one rank only");
    if (!code) code = open_tensors(&e->files, o, err);
    for (int r = 0; !code && e->kern->on_device && r < e->n_ranks; r++)
        e->kerns[r]->holds_fp8 = o->hold_codes || file_bytes(e->files) >= HOLD_CODES;
    if (!code && e->n_ranks > 1) code = ranks_open(e, err);
    if (!code) {
        const char *name = o->model_dir ? base_name(o->model_dir) : o->files->name;
        e->name = strdup(name);
        if (!e->name) code = ph_fail(err, PH_MEMORY, "no memory for an engine");
    }
    if (!code && o->fp8_latents &&
        (keep == KERN_F32 || o->dense || !e->kern->fp8_latents ||
         !e->kern->fp8_latents(e->kern, c.heads / e->n_ranks, c.kv_lora, c.rope)))
        code = ph_fail(err, PH_UNSUPPORTED,
                       "latents in FP8 need DeepSeek-V3.2's dimensions, sparse attention and a GPU of compute capability 9.0");
    if (!code && (o->topk < 0 || o->topk > c.max_positions))
        code = ph_fail(err, PH_USAGE, "top-k %d is not within 1 and %d", o->topk, c.max_positions);
    int topk = o->topk ? o->topk : c.index_topk;
    int chunk = o->chunk || code ? o->chunk : e->kern->chunk;
    if (!code) code = e->ranks ? ranks_load(e, &c, keep, topk, chunk, err) : load_alone(e, &c, keep, topk, chunk, err);
    if (code) {
        engine_close(e);
        return code;
    }
    e->most_topk = topk;
    e->latents = (kern_latents){.type = o->fp8_latents ? KERN_FP8 : keep, .kv_lora = c.kv_lora, .rope = c.rope};
    kern_type eight = e->kern->index_type ? e->kern->index_type(e->kern, c.index_heads, c.index_dim) : KERN_I8;
    e->keys = (kern_index_keys){.type = o->precision == ENGINE_EXACT ? KERN_F32 : eight, .dim = c.index_dim};
    bool power_of_two = (c.index_dim & (c.index_dim - 1)) == 0;
    e->forward = (forward_engine){.model = &e->model,
                                  .kern = e->kern,
                                  .scratch = &e->scratch,
                                  .group = e->forward.group,
                                  .topk = topk,
                                  .dense = o->dense,
                                  .fault = o->fault,
                                  .hadamard = e->keys.type != KERN_F32 && power_of_two};
    make_key(e);
    *out = e;
    return PH_OK;
}

int engine_open(engine **out, const engine_options *o, ph_error *err) {
    int code = engine_open_bare(out, o, err);
    if (code) return code;
    engine *e = *out;
    if (o->model_dir)
        code = tokenizer_load(&e->tokenizer, o->model_dir, err);
    else
        code = tokenizer_open(&e->tokenizer, o->files->tokenizer, o->files->tokenizer_len, err);
    if (!code) code = prompt_tokens_find(&e->prompt, e->tokenizer, err);
    if (!code) code = load_thinking(&e->thinks, o, err);
    if (!code && e->thinks && e->prompt.think_begin < 0)
        code = ph_fail(err, PH_MODEL, "generation_config.json asks for thinking mode, and the tokenizer has no <think>");
    if (!code && tokenizer_vocab(e->tokenizer) > e->model.config.vocab)
        code = ph_fail(err, PH_MODEL, "the tokenizer has %d tokens, the model %d",
                       tokenizer_vocab(e->tokenizer), e->model.config.vocab);
    if (code) {
        engine_close(e);
        *out = NULL;
        return code;
    }
    make_key(e);
    return PH_OK;
}

void engine_close(engine *e) {
    if (!e) return;
    if (e->kern) {
        scratch_free(&e->scratch, e->kern);
        model_free(&e->model, e->kern);
        ranks_close(e);
        for (int r = 0; r < e->n_ranks; r++) e->kerns[r]->close(e->kerns[r]);
    }
    if (e->files) tensors_close(e->files);
    remote_free(e->remote);
    tokenizer_close(e->tokenizer);
    free(e->name);
    free(e);
}

const model_config *engine_config(const engine *e) {
    return &e->model.config;
}
const tokenizer *engine_tokenizer(const engine *e) {
    return e->tokenizer;
}
const prompt_tokens *engine_prompt(const engine *e) {
    return &e->prompt;
}
bool engine_thinks(const engine *e) {
    return e->thinks;
}
kern *engine_kernels(engine *e) {
    return e->kern;
}
int engine_ranks(const engine *e) {
    return e->remote ? 1 : e->n_ranks;
}
kern_group *engine_group(engine *e) {
    return e->forward.group;
}
bool engine_is_remote(const engine *e) {
    return e->remote != NULL;
}
const uint8_t *engine_key(const engine *e) {
    return e->key;
}
const char *engine_model_name(const engine *e) {
    return e->name;
}

double engine_weight_bytes(const engine *e) {
    return e->model.weight_bytes / e->model.weights;
}

void engine_set_dense(engine *e, bool dense) {
    e->forward.dense = dense;
}

bool engine_has_dense(const engine *e) {
    return e->latents.type != KERN_FP8;
}

int engine_topk(const engine *e) {
    return e->forward.topk;
}

int engine_set_topk(engine *e, int k, ph_error *err) {
    if (k < 1 || k > e->most_topk)
        return ph_fail(err, PH_USAGE, "top-k %d is not within 1 and the %d this engine was opened with", k,
                       e->most_topk);
    e->forward.topk = k;
    return PH_OK;
}

size_t engine_context_bytes(const engine *e, int64_t n_tok) {
    const model_config *c = &e->model.config;
    if (e->remote) return 0;
    size_t latent = kern_latent_bytes(&e->latents), bytes = 0;
    for (int i = 0; i < c->layers; i++) {
        bytes += (size_t)n_tok * latent;
        if (!c->index_full[i]) continue;
        bytes += e->kern->index_key_bytes(e->keys.type, c->index_dim, n_tok);
        if (e->keys.type != KERN_F32) bytes += (size_t)n_tok * sizeof(float);
    }
    return bytes;
}

size_t engine_latent_bytes(const engine *e, int64_t n_tok) {
    return e->remote ? 0 : (size_t)n_tok * (size_t)e->model.config.layers * kern_latent_bytes(&e->latents);
}

int check_tokens(const engine *e, const int32_t *tokens, int64_t n, ph_error *err) {
    for (int64_t i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= e->model.config.vocab)
            return ph_fail(err, PH_USAGE, "token %d at position %lld is outside the vocabulary of %d",
                           tokens[i], (long long)i, e->model.config.vocab);
    return PH_OK;
}

int run_chunks(engine *e, forward_step step, const int32_t *tokens, int64_t n, chunk_done done, void *user,
               ph_error *err) {
    int64_t chunk = e->scratch.chunk, start = step.pos0;
    float *logits = step.logits;
    trace_buffer *trace = step.trace;
    kern *k = e->kern;
    int64_t behind = -1; /* a device gets its next step before the last one is taken from it */
    for (int64_t at = 0; at < n;) {
        step.pos0 = start + at;
        int64_t take = chunk - step.pos0 % chunk;
        if (take > n - at) take = n - at;
        step.tokens = tokens + at;
        step.n_tok = (int)take;
        bool last = at + take == n;
        step.logits = last ? logits : NULL;
        step.trace = last ? trace : NULL;
        engine_forward(e, &step);
        at += take;
        int code = engine_status(e, err);
        if (!code && done && behind >= 0) code = done(user, behind, err);
        k->mark(k);
        behind = -1;
        if (!code && done && k->on_device && !last)
            behind = start + at;
        else if (!code && done)
            code = done(user, start + at, err);
        if (code) return code;
    }
    return PH_OK;
}
