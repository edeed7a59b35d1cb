/* session.c - one conversation's private tail on a context: feed, rewind, generate. */
#include "engine/engine_internal.h"
#include "engine/fault.h"
#include "engine/remote_internal.h"
#include "engine/sample.h"

#include <stdlib.h>
#include <string.h>

struct session {
    context *context;
    engine *engine;
    remote_session *remote; /* the model is served elsewhere, and what follows is not there; NULL = local */
    snapshot_view view;
    int64_t length;
    kern_range *allow; /* [n_allow + 1]: the last one is the tail and ends where the step ends */
    int n_allow;
    float *logits; /* [vocab] after the last fed token */
    bool has_logits;
    trace_buffer trace; /* of the step that made `logits` */
};

int session_open(session **out, context *c, ph_error *err) {
    *out = NULL;
    engine *e = c->engine;
    session *s = calloc(1, sizeof *s);
    if (!s) return ph_fail(err, PH_MEMORY, "no memory for a session");
    s->context = c;
    s->engine = e;
    if (e->remote) {
        int failed = remote_session_open(&s->remote, c, err);
        c->sessions++;
        if (failed)
            session_close(s);
        else
            *out = s;
        return failed;
    }
    s->length = c->snapshot.length;
    s->logits = malloc((size_t)e->model.config.vocab * sizeof *s->logits);
    int code = s->logits ? PH_OK : ph_fail(err, PH_MEMORY, "no memory for a session");
    if (!code) code = snapshot_view_open(&s->view, &c->snapshot, err);
    if (!code) code = trace_buffer_make(&s->trace, &e->model.config, e->forward.topk, e->kern, err);
    c->sessions++;
    if (code) {
        session_close(s);
        return code;
    }
    *out = s;
    return PH_OK;
}

void session_close(session *s) {
    if (!s) return;
    s->context->sessions--;
    remote_session_close(s->remote);
    if (!s->engine->remote) {
        snapshot_view_close(&s->view);
        trace_buffer_free(&s->trace, s->engine->kern);
    }
    free(s->allow);
    free(s->logits);
    free(s);
}

int64_t session_length(const session *s) {
    return s->remote ? remote_session_length(s->remote) : s->length;
}
bool session_usage(const session *s, generate_usage *out) {
    return s->remote && remote_session_usage(s->remote, out);
}
const char *session_untraced(const session *s) {
    return s->remote ? remote_session_untraced(s->remote) : NULL;
}
const float *session_logits(session *s) {
    return s->has_logits ? s->logits : NULL;
}

int session_restrict(session *s, const kern_range *ranges, int n, ph_error *err) {
    kern_range *copy = NULL;
    if (ranges) {
        int64_t end = 0, most = context_length(s->context);
        for (int i = 0; i < n; i++) {
            if (ranges[i].start < end || ranges[i].end < ranges[i].start || ranges[i].end > most)
                return ph_fail(err, PH_USAGE,
                               "range %d of a restriction is out of order or outside the context", i);
            end = ranges[i].end;
        }
        if (s->remote) return remote_session_restrict(s->remote, ranges, n, err);
        copy = malloc((size_t)(n + 1) * sizeof *copy);
        if (!copy) return ph_fail(err, PH_MEMORY, "no memory for %d ranges", n);
        if (n) memcpy(copy, ranges, (size_t)n * sizeof *copy);
        copy[n] = (kern_range){most, INT64_MAX};
    }
    if (s->remote) return remote_session_restrict(s->remote, NULL, 0, err);
    free(s->allow);
    s->allow = copy;
    s->n_allow = copy ? n + 1 : 0;
    return PH_OK;
}

typedef struct feeding {
    int64_t start, total;
    engine_progress progress;
    void *user;
    session *s;
} feeding;

static int fed_chunk(void *user, int64_t position, ph_error *err) {
    feeding *f = user;
    f->s->length = position;
    if (!f->progress || !f->progress(f->user, position - f->start, f->total)) return PH_OK;
    return ph_fail(err, PH_INTERRUPTED, "stopped after %lld of %lld tokens", (long long)(position - f->start),
                   (long long)f->total);
}

/* The last token twice: without attention for its logits, then soundly for cache and trace. */
static int feed_last_faulty(session *s, forward_step step, int32_t token, ph_error *err) {
    engine *e = s->engine;
    step.pos0 = s->length;
    step.trace = NULL;
    e->forward.no_attention = true;
    int code = run_chunks(e, step, &token, 1, NULL, NULL, err);
    e->forward.no_attention = false;
    step.logits = NULL;
    step.trace = e->forward.dense ? NULL : &s->trace;
    if (!code) code = run_chunks(e, step, &token, 1, NULL, NULL, err);
    if (!code) s->length++;
    return code;
}

int session_feed(session *s, const int32_t *tokens, int64_t n, engine_progress progress, void *user,
                 ph_error *err) {
    engine *e = s->engine;
    if (n <= 0) return PH_OK;
    if (n > s->context->capacity - session_length(s))
        return ph_fail(err, PH_TOO_LARGE,
                       "%lld more tokens do not fit: the context of %lld holds %lld already", (long long)n,
                       (long long)s->context->capacity, (long long)session_length(s));
    int code = check_tokens(e, tokens, n, err);
    if (code) return code;
    if (s->remote) return remote_session_feed(s->remote, tokens, n, err);
    code = snapshot_view_extend(&s->view, s->length + n, err);
    if (code) return code;
    s->has_logits = false;
    forward_step step = {.cache = s->view.cache,
                         .pos0 = s->length,
                         .session = true,
                         .allow = s->allow,
                         .n_allow = s->n_allow,
                         .logits = s->logits,
                         .trace = e->forward.dense ? NULL : &s->trace};
    feeding f = {.start = s->length, .total = n, .progress = progress, .user = user, .s = s};
    if (e->forward.fault == ENGINE_FAULT_ZERO_ATTENTION) {
        if (n > 1) code = run_chunks(e, step, tokens, n - 1, fed_chunk, &f, err);
        if (!code) code = feed_last_faulty(s, step, tokens[n - 1], err);
    } else
        code = run_chunks(e, step, tokens, n, fed_chunk, &f, err);
    s->has_logits = code == PH_OK;
    return code;
}

int session_rewind(session *s, int64_t length, ph_error *err) {
    if (length < context_length(s->context) || length > session_length(s))
        return ph_fail(err, PH_USAGE, "a session of %lld tokens cannot go back to %lld", (long long)session_length(s),
                       (long long)length);
    if (s->remote) return remote_session_rewind(s->remote, length, err);
    if (length != s->length) s->has_logits = false;
    s->length = length;
    return PH_OK;
}

static bool is_eos(const model_config *c, const prompt_tokens *p, int32_t token) {
    for (int i = 0; i < c->n_eos; i++)
        if (c->eos[i] == token) return true;
    return token == p->eos;
}

/* What the model would write next, as a step. */
static generate_step next_step(session *s, const generate_options *o, sampler *pick) {
    const engine *e = s->engine;
    generate_step step = {0};
    step.token = sampler_pick(pick, s->logits, &step.logprob);
    if (e->tokenizer) step.piece = tokenizer_piece(e->tokenizer, step.token, &step.piece_len);
    if (o->trace && !e->forward.dense) {
        step.layers = s->trace.layers;
        step.n_layers = s->trace.n_layers;
    }
    return step;
}

/* Hands a step out and reads its token. *why is set where that ends everything. */
static bool take_step(session *s, const generate_options *o, const generate_step *step, stop_reason *why,
                      int *code, ph_error *err) {
    if (o->step && o->step(o->user, step)) {
        *why = STOP_CALLBACK;
        return false;
    }
    if (s->length == s->context->capacity) {
        *why = STOP_CONTEXT;
        return false;
    }
    *code = session_feed(s, &step->token, 1, NULL, NULL, err);
    return *code == PH_OK;
}

/* Up to </think>, which is written for a model that ends here or finds no end. */
static bool think(session *s, const generate_options *o, sampler *pick, stop_reason *why, int *code,
                  ph_error *err) {
    engine *e = s->engine;
    for (int i = 0; i < o->max_thinking; i++) {
        generate_step step = next_step(s, o, pick);
        if (step.token == e->prompt.think_end || is_eos(&e->model.config, &e->prompt, step.token)) break;
        step.thinking = true;
        step.index = i;
        if (!take_step(s, o, &step, why, code, err)) return false;
    }
    generate_step end = {.token = e->prompt.think_end};
    generate_options silent = {0};
    return take_step(s, &silent, &end, why, code, err);
}

int session_generate(session *s, const generate_options *o, stop_reason *why, ph_error *err) {
    engine *e = s->engine;
    const model_config *c = &e->model.config;
    if (s->remote) return remote_session_generate(s->remote, o, why, err);
    if (!s->has_logits) return ph_fail(err, PH_USAGE, "nothing was fed: there is nothing to continue");
    sampler pick;
    int code = sampler_make(&pick, c->vocab, o->temperature, o->top_p == 0 ? 1 : o->top_p, o->seed, err);
    if (code) return code;
    stop_reason reason = STOP_LENGTH;
    bool on = o->max_thinking == 0 || think(s, o, &pick, &reason, &code, err);
    for (int i = 0; i < o->max_tokens && on; i++) {
        generate_step step = next_step(s, o, &pick);
        step.index = i;
        if (!o->ignore_eos && is_eos(c, &e->prompt, step.token)) {
            reason = STOP_EOS;
            break;
        }
        on = take_step(s, o, &step, &reason, &code, err);
    }
    sampler_free(&pick);
    if (why) *why = reason;
    return code;
}

const trace_layer *session_trace(const session *s, int *n_layers) {
    bool traced = !s->remote && s->has_logits && !s->engine->forward.dense;
    *n_layers = traced ? s->trace.n_layers : 0;
    return traced ? s->trace.layers : NULL;
}

int session_index_scores(session *s, int layer, float *score, ph_error *err) {
    engine *e = s->engine;
    const model_config *c = &e->model.config;
    kern *k = e->kern;
    if (s->remote) return ph_fail(err, PH_UNSUPPORTED, "a served model does not tell index scores");
    if (!s->has_logits || e->forward.dense)
        return ph_fail(err, PH_USAGE, "there are no index scores: nothing was fed, or attention is dense");
    if (layer < 0 || layer >= c->layers)
        return ph_fail(err, PH_USAGE, "there is no layer %d in a model of %d", layer, c->layers);
    while (layer > 0 && !c->index_full[layer]) layer--;
    if (e->forward.fault == ENGINE_FAULT_SHUFFLED_SCORES) {
        fault_scores(layer, s->length - 1, s->length, score);
        return PH_OK;
    }
    size_t heads = (size_t)c->index_heads, queries = heads * (size_t)c->index_dim;
    float *all = NULL;
    int code = k->alloc(k, (void **)&all, (size_t)s->length * sizeof *all, err);
    if (code) return code;
    /* Between steps the working memory is free. */
    k->copy_in(k, e->scratch.index_q, s->trace.host.index_q + (size_t)layer * queries, queries * sizeof(float));
    k->copy_in(k, e->scratch.index_w, s->trace.host.index_w + (size_t)layer * heads, heads * sizeof(float));
    k->index_scores(k, &(kern_index_scores){.cache = s->view.cache[0].keys[layer],
                                            .q = e->scratch.index_q,
                                            .w = e->scratch.index_w,
                                            .n_head = c->index_heads,
                                            .n_key = s->length,
                                            .score = all});
    k->copy_out(k, score, all, (size_t)s->length * sizeof *all);
    k->free(k, all);
    return PH_OK;
}
