/* cmd_model.c - `pharos model`: what model this is, and `pharos model check`: a checkpoint against its
 * reference. */
#include "appliance/command.h"
#include "engine/check.h"
#include "engine/nano.h"
#include "engine/safetensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct model_options {
    common_options common;
    bool check;
    char **folders;
    int n_folders;
} model_options;

static error_t parse(int key, char *arg, struct argp_state *state) {
    model_options *o = state->input;
    (void)arg;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->common;
        return 0;
    case ARGP_KEY_ARGS: {
        char **words = state->argv + state->next;
        int n = state->argc - state->next;
        if (!strcmp(words[0], "check")) {
            o->check = true;
            o->folders = words + 1;
            o->n_folders = n - 1;
            if (n < 2) argp_error(state, "name a checkpoint folder that holds expected.safetensors");
        } else if (strcmp(words[0], "show"))
            argp_error(state, "%s is neither show nor check", words[0]);
        else if (n > 1)
            argp_error(state, "%s is one word too many", words[1]);
        return 0;
    }
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp model_argp = {
    NULL,
    parse,
    "[show]\ncheck DIR...",
    "Shows the model in use, or holds checkpoint folders against their references.\v"
    "check runs each folder that holds expected.safetensors: one prefill, and again in chunks of 1, 7 and 64 "
    "tokens. "
    "With the selection forced to the reference's, logits and hidden states must agree within 1e-3; the "
    "engine's own "
    "selection may differ in near-ties only (within 1e-5 of the cut's score); where nothing differs, the "
    "greedy tokens "
    "must agree. The exit code is 0 only if every folder passes.",
    common_child,
    NULL,
    NULL};

/* ---- show ---- */

/* Numbers in the weights; FP8 scales are no parameters. */
static int count_parameters(const common_options *o, int64_t *out, ph_error *err) {
    tensor_files *files = NULL;
    const engine_files *nano = nano_files();
    *out = 0;
    int code = PH_OK;
    if (o->model_dir)
        code = tensors_open_dir(&files, o->model_dir, err);
    else if (nano)
        code = tensors_open_memory(&files, nano->weights, nano->weights_len, err);
    if (code || !files) return code;
    for (size_t i = 0; i < tensors_count(files); i++) {
        const tensor *t = tensors_at(files, i);
        size_t n = strlen(t->name);
        if (n > 10 && !strcmp(t->name + n - 10, "_scale_inv")) continue;
        int64_t numbers = 1;
        for (int d = 0; d < t->n_dim; d++) numbers *= t->shape[d];
        *out += numbers;
    }
    tensors_close(files);
    return PH_OK;
}

/* The count of layers that `which` says yes to. */
static int layers_with(const bool *which, int n) {
    int count = 0;
    for (int i = 0; i < n; i++) count += which[i];
    return count;
}

static int show_model(engine *e, const common_options *o, int64_t parameters) {
    const model_config *c = engine_config(e);
    const char *family = c->family == FAMILY_GLM_MOE_DSA ? "glm_moe_dsa" : "deepseek_v32";
    const char *source = o->model_dir ? o->model_dir : "linked into the program";
    int64_t most = c->max_positions;
    double token_bytes = (double)engine_context_bytes(e, most) / (double)most;
    int moe = layers_with(c->moe_layer, c->layers), indexers = layers_with(c->index_full, c->layers);
    int topk = o->topk ? o->topk : c->index_topk;
    const kern *k = engine_kernels(e);
    char key[65];
    for (int i = 0; i < 32; i++) sprintf(key + 2 * i, "%02x", engine_key(e)[i]);
    if (o->json)
        return print_json(json_pack(
            "{s:o, s:o, s:s, s:I, s:i, s:i, s:i, s:i, s:i, s:i, s:{s:i, s:i, s:i, s:i, s:i}, s:{s:i, s:i, "
            "s:i, s:b, "
            "s:i}, s:{s:i, s:i, s:i, s:i}, s:I, s:s, s:i, s:s, s:f, s:s}",
            "name", json_text(engine_model_name(e)), "source", json_text(source), "family", family,
            "parameters", (json_int_t)parameters, "vocabulary", c->vocab, "tokens",
            tokenizer_vocab(engine_tokenizer(e)), "hidden", c->hidden, "layers", c->layers, "heads", c->heads,
            "mlp_width", c->dense_width, "attention", "q_lora", c->q_lora, "kv_lora", c->kv_lora, "nope",
            c->nope, "rope", c->rope, "value", c->v_dim, "indexer", "heads", c->index_heads, "width",
            c->index_dim, "topk", topk, "dense", o->dense, "layers", indexers, "experts", "layers", moe,
            "routed", c->experts, "per_token", c->experts_per_token, "shared", c->shared_experts, "context",
            (json_int_t)most, "backend", k->name, "threads", k->n_thread, "cache_layout", k->cache_layout,
            "bytes_per_token", token_bytes, "key", key));
    char *name = printable(engine_model_name(e), strlen(engine_model_name(e)));
    char *from = printable(source, strlen(source));
    printf("name             %s (%s)\n", name ? name : "?", from ? from : "?");
    free(name);
    free(from);
    printf("family           %s\n", family);
    printf("parameters       %.1f million\n", (double)parameters / 1e6);
    printf("vocabulary       %d (the tokenizer has %d)\n", c->vocab, tokenizer_vocab(engine_tokenizer(e)));
    printf("shape            %d layers, %d wide, %d heads\n", c->layers, c->hidden, c->heads);
    printf("attention        latent %d + rope %d; query %d; a head's key %d + %d, value %d\n", c->kv_lora,
           c->rope, c->q_lora, c->nope, c->rope, c->v_dim);
    printf("indexer          %d heads of %d in %d of %d layers\n", c->index_heads, c->index_dim, indexers,
           c->layers);
    if (moe)
        printf("experts          %d of %d a token, %d shared, in %d of %d layers\n", c->experts_per_token,
               c->experts, c->shared_experts, moe, c->layers);
    if (moe < c->layers)
        printf("MLP              %d wide in %d of %d layers\n", c->dense_width, c->layers - moe, c->layers);
    printf("context          %lld tokens\n", (long long)most);
    if (o->dense)
        puts("top-k            off: everything is attended to (--dense)");
    else
        printf("top-k            %d positions%s\n", topk,
               topk == c->index_topk ? "" : " (the model's own is another)");
    printf("cache            %.0f bytes a token (%s), %.1f MB for a full context\n", token_bytes,
           k->cache_layout, token_bytes * (double)most / 1e6);
    printf("backend          %s, %d threads\n", k->name, k->n_thread);
    printf("key              %s\n", key);
    return PH_OK;
}

static int run_show(const model_options *o, ph_error *err) {
    engine *e = NULL;
    int64_t parameters = 0;
    int code = need_local(&o->common, "a look at its weights", err);
    if (!code) code = open_engine(&e, &o->common, err);
    if (!code) code = count_parameters(&o->common, &parameters, err);
    if (!code) code = show_model(e, &o->common, parameters);
    engine_close(e);
    return code;
}

/* ---- check ---- */

static double worst_hidden(const check_result *r, const check_way *w) {
    double worst = 0;
    for (int i = 0; i <= r->layers; i++) worst = fmax(worst, w->hidden_error[i]);
    return worst;
}

static void print_check(const check_result *r) {
    printf("  %-12s %10s %10s %8s %8s %10s %6s %8s\n", "prompt fed", "logits", "hidden", "rows", "differ",
           "near-ties", "real", "greedy");
    for (int i = 0; i < CHECK_WAYS; i++) {
        const check_way *w = &r->way[i];
        char way[32], greedy[32];
        if (w->chunk)
            snprintf(way, sizeof way, "%d at a time", w->chunk);
        else
            snprintf(way, sizeof way, "at once");
        snprintf(greedy, sizeof greedy, "%d/%d", w->greedy_same, w->greedy_n);
        printf("  %-12s %10.2e %10.2e %8ld %8ld %10ld %6ld %8s\n", way, w->logits_error, worst_hidden(r, w),
               w->rows, w->differ, w->near_ties, w->real, greedy);
    }
    printf("  %-12s %10s %10s %10s %10s\n", "hidden state", "at once", "1", "7", "64");
    for (int h = 0; h <= r->layers; h++) {
        printf("  hidden.%-5d", h);
        for (int i = 0; i < CHECK_WAYS; i++) printf(" %10.2e", r->way[i].hidden_error[h]);
        putchar('\n');
    }
    printf("  %s: %s\n", r->passed ? "PASSED" : "FAILED", r->verdict);
}

/* JSON has no infinity: an error that is one (or no number) is null. */
static json_t *error_json(double v) {
    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *check_json(const char *dir, const check_result *r) {
    json_t *ways = json_array();
    for (int i = 0; i < CHECK_WAYS; i++) {
        const check_way *w = &r->way[i];
        json_t *hidden = json_array();
        for (int h = 0; h <= r->layers; h++) json_array_append_new(hidden, error_json(w->hidden_error[h]));
        json_array_append_new(ways,
                              json_pack("{s:i, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:i, s:i}", "chunk",
                                        w->chunk, "logits_error", error_json(w->logits_error),
                                        "worst_hidden_error", error_json(worst_hidden(r, w)), "hidden_errors",
                                        hidden, "rows", (json_int_t)w->rows, "differ", (json_int_t)w->differ,
                                        "near_ties", (json_int_t)w->near_ties, "real", (json_int_t)w->real,
                                        "greedy_same", w->greedy_same, "greedy", w->greedy_n));
    }
    return json_pack("{s:o, s:b, s:s, s:i, s:i, s:o}", "folder", json_text(dir), "passed", r->passed,
                     "verdict", r->verdict, "layers", r->layers, "tokens", r->tokens, "ways", ways);
}

static json_t *unreadable_json(const char *dir, const ph_error *err) {
    return json_pack("{s:o, s:b, s:{s:i, s:o}}", "folder", json_text(dir), "passed", 0, "error", "code",
                     err->code, "message", json_text(err->text));
}

static int run_check(const model_options *o) {
    json_t *rows = json_array();
    int failed = 0, unreadable = 0;
    for (int i = 0; i < o->n_folders && !interrupted; i++) {
        const char *dir = o->folders[i];
        check_result r;
        ph_error err = {0};
        int code = model_check(&r, dir, o->common.backend, o->common.ranks, o->common.threads, &err);
        if (o->common.json)
            json_array_append_new(rows, code ? unreadable_json(dir, &err) : check_json(dir, &r));
        if (code) {
            common_options plain = {0}; /* the JSON is one value, printed at the end */
            unreadable++;
            if (strncmp(err.text, dir, strlen(dir))) ph_context(&err, "%s", dir); /* not said twice */
            command_failed("model", &plain, &err);
            continue;
        }
        failed += !r.passed;
        if (o->common.json) continue;
        char *name = printable(dir, strlen(dir));
        printf("%s: %d layers, %d tokens\n", name ? name : "?", r.layers, r.tokens);
        free(name);
        print_check(&r);
        fflush(stdout);
    }
    if (o->common.json) {
        if (print_json(rows)) return PH_FAIL;
    } else
        json_decref(rows);
    return interrupted ? PH_INTERRUPTED : unreadable ? PH_MODEL : failed ? PH_FAIL : PH_OK;
}

int cmd_model(int argc, char **argv) {
    model_options o = {0};
    parse_options(&model_argp, argc, argv, &o);
    ph_error err = {0};
    if (o.check && o.common.fp8_latents) {
        ph_fail(&err, PH_USAGE, "a check holds the fp32 pass to its reference: no --latents=fp8");
        return command_failed("model", &o.common, &err);
    }
    if (o.check) return run_check(&o);
    int code = run_show(&o, &err);
    return err.code ? command_failed("model", &o.common, &err) : code;
}
