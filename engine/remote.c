/* remote.c - opens an engine whose model is served elsewhere: what the server has, and what its tokens are
 * (remote.h). Its sessions are in remote_session.c. */
#include "engine/remote.h"

#include "engine/read_file.h"
#include "engine/remote_internal.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    CONNECT_MS = 10000,
    IDLE_MS = 300000,
    TOTAL_MS = 3600000,
    RETRIES = 5,
    BACKOFF_MS = 500,
    LIST_BYTES = 4 << 20,
    CONFIG_BYTES = 4 << 20,
    MOST_CONTEXT = 1 << 24,
    MOST_LAYERS = 4096
};
static const uint64_t TRACE_BYTES = (uint64_t)1 << 30;

void remote_free(remote *r) {
    if (!r) return;
    remote_http_close(r->http);
    if (r->key) sodium_memzero(r->key, strlen(r->key));
    free(r->key);
    free(r->ca_file);
    free(r->system);
    free(r->model);
    free(r);
}

/* ---- the served model's tokenizer ---- */

/* index_topk and num_hidden_layers; absent or odd ones stay 0, and then no trace is asked for. */
static void read_shape(remote *r, const char *dir) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s/config.json", dir) >= (int)sizeof path) return;
    struct stat st;
    if (stat(path, &st) || !S_ISREG(st.st_mode) || st.st_size > CONFIG_BYTES) return;
    json_t *root = json_load_file(path, 0, NULL);
    json_int_t k = json_integer_value(json_object_get(root, "index_topk")),
               layers = json_integer_value(json_object_get(root, "num_hidden_layers"));
    if (k >= 1 && k <= MOST_CONTEXT && layers >= 1 && layers <= MOST_LAYERS) {
        r->topk = (int)k;
        r->layers = (int)layers;
    }
    json_decref(root);
}

static int open_tokenizer(engine *e, const remote_options *o, ph_error *err) {
    remote *r = e->remote;
    int code;
    if (o->tokenizer) {
        struct stat st;
        char dir[4096];
        if (stat(o->tokenizer, &st)) return ph_fail(err, PH_NOT_FOUND, "there is no %s", o->tokenizer);
        const char *slash = strrchr(o->tokenizer, '/');
        int n = S_ISDIR(st.st_mode) ? snprintf(dir, sizeof dir, "%s", o->tokenizer)
                : slash ? snprintf(dir, sizeof dir, "%.*s", (int)(slash - o->tokenizer) + 1, o->tokenizer)
                        : snprintf(dir, sizeof dir, ".");
        if (n < 0 || n >= (int)sizeof dir)
            return ph_fail(err, PH_USAGE, "the path of the tokenizer is too long");
        code = tokenizer_load(&e->tokenizer, dir, err);
        r->own_tokenizer = true;
        read_shape(r, dir);
    } else if (o->files)
        code = tokenizer_open(&e->tokenizer, o->files->tokenizer, o->files->tokenizer_len, err);
    else
        code = ph_fail(err, PH_MODEL,
                       "this build carries no tokenizer; name the served model's with --tokenizer");
    return code ? code : prompt_tokens_find(&e->prompt, e->tokenizer, err);
}

/* ---- what the server has ---- */

typedef struct listing {
    const remote_options *options;
    char *text;
    size_t len;
} listing;

static int list_bytes(void *user, const char *bytes, size_t n, ph_error *err) {
    listing *l = user;
    char *more = realloc(l->text, l->len + n + 1);
    if (!more) return ph_fail(err, PH_MEMORY, "no memory for a list of models");
    memcpy(more + l->len, bytes, n);
    l->text = more;
    l->len += n;
    more[l->len] = 0;
    return PH_OK;
}

static int list_waiting(void *user) {
    const listing *l = user;
    return l->options->waiting ? l->options->waiting(l->options->user) : 0;
}

/* The names for a sentence. */
static void names_of(const json_t *list, char *out, size_t room) {
    size_t at = 0;
    out[0] = 0;
    for (size_t i = 0; i < json_array_size(list) && at + 4 < room; i++) {
        const char *id = json_string_value(json_object_get(json_array_get(list, i), "id"));
        int n = id ? snprintf(out + at, room - at, "%s%.80s", at ? ", " : "", id) : 0;
        if (n > 0) at += (size_t)n;
    }
}

static int choose_model(engine *e, const remote_options *o, const json_t *root, ph_error *err) {
    const json_t *list = json_object_get(root, "data"), *found = NULL;
    char names[300];
    size_t n = json_array_size(list);
    for (size_t i = 0; i < n; i++) {
        const json_t *m = json_array_get(list, i);
        const char *id = json_string_value(json_object_get(m, "id"));
        if (id && (o->model ? !strcmp(id, o->model) : n == 1)) found = m;
    }
    names_of(list, names, sizeof names);
    if (!found && n == 0) return ph_fail(err, PH_MODEL, "the server names no model");
    if (!found && o->model)
        return ph_fail(err, PH_NOT_FOUND, "the server has no model %.100s; it has %s", o->model, names);
    if (!found)
        return ph_fail(err, PH_USAGE, "the server has several models, name one with --remote-model: %s",
                       names);
    e->remote->model = strdup(json_string_value(json_object_get(found, "id")));
    e->name = strdup(json_string_value(json_object_get(found, "id")));
    if (!e->remote->model || !e->name) return ph_fail(err, PH_MEMORY, "no memory for an engine");
    /* vLLM and SGLang say max_model_len, Pharos and some others context_length. */
    json_int_t length = json_integer_value(json_object_get(found, "max_model_len"));
    if (length < 1) length = json_integer_value(json_object_get(found, "context_length"));
    if (o->context) length = o->context;
    if (length < 1)
        return ph_fail(err, PH_USAGE,
                       "the server does not say how long the context of %.100s is: --remote-context does",
                       e->name);
    if (length < 64 || length > MOST_CONTEXT)
        return ph_fail(err, PH_MODEL, "a context of %lld tokens cannot be used", (long long)length);
    e->model.config.max_positions = (int)length;
    return PH_OK;
}

static int ask_models(engine *e, const remote_options *o, ph_error *err) {
    listing l = {.options = o};
    remote_call call = {.path = "/v1/models",
                        .type = "application/json",
                        .most = LIST_BYTES,
                        .bytes = list_bytes,
                        .waiting = list_waiting,
                        .user = &l};
    int code = remote_http_run(e->remote->http, &call, err);
    if (!code) {
        json_t *root = json_loadb(l.text ? l.text : "", l.len, JSON_REJECT_DUPLICATES, NULL);
        if (!json_is_array(json_object_get(root, "data")))
            code = ph_fail(err, PH_FAIL,
                           "/v1/models gives no list of models: this is no OpenAI-compatible server");
        else
            code = choose_model(e, o, root, err);
        json_decref(root);
    }
    free(l.text);
    return code;
}

/* What packs and answers are kept under: how documents were counted and cut, and whose answers they are. */
static void make_key(engine *e) {
    crypto_generichash_state h;
    int32_t numbers[] = {PROMPT_TEMPLATE_VERSION, e->model.config.max_positions};
    crypto_generichash_init(&h, NULL, 0, sizeof e->key);
    crypto_generichash_update(&h, (const uint8_t *)"remote", 7);
    crypto_generichash_update(&h, (const uint8_t *)e->name, strlen(e->name) + 1);
    crypto_generichash_update(&h, tokenizer_hash(e->tokenizer), 32);
    crypto_generichash_update(&h, (const uint8_t *)numbers, sizeof numbers);
    crypto_generichash_final(&h, e->key, sizeof e->key);
}

static int copy_string(char **out, const char *s, ph_error *err) {
    if (!s || !s[0]) return PH_OK;
    *out = strdup(s);
    return *out ? PH_OK : ph_fail(err, PH_MEMORY, "no memory for an engine");
}

int remote_open(engine **out, const remote_options *o, ph_error *err) {
    *out = NULL;
    if (sodium_init() < 0) return ph_fail(err, PH_FAIL, "libsodium cannot start");
    engine *e = calloc(1, sizeof *e);
    remote *r = calloc(1, sizeof *r);
    if (!e || !r) {
        free(e);
        free(r);
        return ph_fail(err, PH_MEMORY, "no memory for an engine");
    }
    e->remote = r;
    r->trace_bytes = o->trace_bytes ? o->trace_bytes : TRACE_BYTES;
    int code = copy_string(&r->key, o->key, err);
    if (!code) code = copy_string(&r->ca_file, o->ca_file, err);
    if (!code) code = copy_string(&r->system, o->system, err);
    remote_limits limits = {.key = r->key,
                            .ca_file = r->ca_file,
                            .connect_ms = o->connect_ms ? o->connect_ms : CONNECT_MS,
                            .idle_ms = o->idle_ms ? o->idle_ms : IDLE_MS,
                            .total_ms = o->total_ms ? o->total_ms : TOTAL_MS,
                            .retries = o->retries < 0 ? 0
                                       : o->retries   ? o->retries
                                                      : RETRIES,
                            .backoff_ms = o->backoff_ms ? o->backoff_ms : BACKOFF_MS};
    if (!code) code = open_tokenizer(e, o, err);
    if (!code) code = remote_http_open(&r->http, o->url, &limits, err);
    if (!code) code = ask_models(e, o, err);
    if (code) {
        engine_close(e);
        return code;
    }
    e->model.config.vocab = tokenizer_vocab(e->tokenizer);
    e->forward.topk = r->topk;
    make_key(e);
    *out = e;
    return PH_OK;
}
