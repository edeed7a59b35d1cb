/* remote_session.c - a conversation with a served model (remote.h): what was fed is sent, what comes back is
 * taken apart into steps. Read remote_session_generate() last; it is the path in order.
 *
 * Two requests are known: /v1/chat/completions with messages, and SGLang's /generate with tokens, which alone
 * can bring a selection.
 */
#include "engine/remote_internal.h"
#include "engine/remote_selection.h"
#include "engine/remote_stream.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { EVENT_BYTES = 4 << 20, ANSWER_BYTES = 16 << 20, STREAM_BYTES = 256 << 20, REASON = 480 };

struct remote_session {
    engine *engine;
    context *context;
    token_list tail;
    kern_range *allow; /* of the context; NULL = all */
    int n_allow;
    generate_usage usage;
    bool answered;
    char untraced[REASON]; /* why there is no trace; "" = there is one */
};

int remote_session_open(remote_session **out, context *c, ph_error *err) {
    remote_session *s = *out = calloc(1, sizeof *s);
    if (!s) return ph_fail(err, PH_MEMORY, "no memory for a session");
    s->engine = c->engine;
    s->context = c;
    return PH_OK;
}

void remote_session_close(remote_session *s) {
    if (!s) return;
    token_list_free(&s->tail);
    free(s->allow);
    free(s);
}

int64_t remote_session_length(const remote_session *s) {
    return context_length(s->context) + (int64_t)s->tail.n;
}

int remote_session_restrict(remote_session *s, const kern_range *ranges, int n, ph_error *err) {
    kern_range *copy = NULL;
    if (ranges) {
        copy = malloc((size_t)(n + 1) * sizeof *copy);
        if (!copy) return ph_fail(err, PH_MEMORY, "no memory for %d ranges", n);
        if (n) memcpy(copy, ranges, (size_t)n * sizeof *copy);
    }
    free(s->allow);
    s->allow = copy;
    s->n_allow = copy ? n : 0;
    return PH_OK;
}

int remote_session_feed(remote_session *s, const int32_t *tokens, int64_t n, ph_error *err) {
    int code = PH_OK;
    for (int64_t i = 0; i < n && !code; i++) code = token_list_push(&s->tail, tokens[i], 0, false, err);
    return code;
}

int remote_session_rewind(remote_session *s, int64_t length, ph_error *err) {
    (void)err;
    s->tail.n = (size_t)(length - context_length(s->context));
    return PH_OK;
}

bool remote_session_usage(const remote_session *s, generate_usage *out) {
    if (s->answered) *out = s->usage;
    return s->answered;
}

const char *remote_session_untraced(const remote_session *s) {
    return s->untraced[0] ? s->untraced : NULL;
}

/* ---- what is sent ---- */

/* The tokens that the server is to read, and where each stands among ours (-1: it is none of ours). */
typedef struct prompt {
    token_list tokens;
    int32_t *ours; /* [tokens.n] */
    size_t capacity;
} prompt;

static void prompt_free(prompt *p) {
    token_list_free(&p->tokens);
    free(p->ours);
}

static int add_token(prompt *p, int32_t token, int64_t ours, ph_error *err) {
    if (p->tokens.n == p->capacity) {
        size_t n = p->capacity * 2 + 1024;
        int32_t *more = realloc(p->ours, n * sizeof *more);
        if (!more) return ph_fail(err, PH_MEMORY, "no memory for a prompt of %zu tokens", n);
        p->ours = more;
        p->capacity = n;
    }
    p->ours[p->tokens.n] = (int32_t)ours;
    return token_list_push(&p->tokens, token, 0, false, err);
}

static int add_range(prompt *p, const int32_t *tokens, int64_t start, int64_t end, ph_error *err) {
    int code = PH_OK;
    for (int64_t i = start; i < end && !code; i++) code = add_token(p, tokens[i], i, err);
    return code;
}

/* The context as far as it is allowed, then the tail. */
static int make_prompt(prompt *p, const remote_session *s, ph_error *err) {
    const int32_t *read = context_tokens(s->context);
    int64_t n = context_length(s->context);
    int code = s->allow ? PH_OK : add_range(p, read, 0, n, err);
    for (int i = 0; i < s->n_allow && !code; i++)
        code = add_range(p, read, s->allow[i].start, s->allow[i].end, err);
    for (size_t i = 0; i < s->tail.n && !code; i++) code = add_token(p, s->tail.ids[i], n + (int64_t)i, err);
    return code;
}

/* The system text stands behind the first token, as the release's encoding has it. */
static int put_system(prompt *p, const remote_session *s, ph_error *err) {
    const char *text = s->engine->remote->system;
    if (!text || p->tokens.n == 0) return PH_OK;
    prompt with = {0};
    token_list system = {0};
    int code = tokenizer_encode(s->engine->tokenizer, text, strlen(text), 0, 0, &system, err);
    if (!code) code = add_token(&with, p->tokens.ids[0], p->ours[0], err);
    for (size_t i = 0; i < system.n && !code; i++) code = add_token(&with, system.ids[i], -1, err);
    for (size_t i = 1; i < p->tokens.n && !code; i++)
        code = add_token(&with, p->tokens.ids[i], p->ours[i], err);
    token_list_free(&system);
    prompt_free(code ? &with : p);
    if (!code) *p = with;
    return code;
}

static char *dump(json_t *body, ph_error *err) {
    char *text = body ? json_dumps(body, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(body);
    if (!text) ph_fail(err, PH_MEMORY, "no memory for a request");
    return text;
}

/* The prompt ends in <think>. */
static bool asks_to_think(const remote_session *s) {
    int32_t think = s->engine->prompt.think_begin;
    return think >= 0 && s->tail.n && s->tail.ids[s->tail.n - 1] == think;
}

/* Tokens that the server may write: of the answer, and of a thought before it. */
static int most_tokens(const remote_session *s, const generate_options *o) {
    return o->max_tokens + (asks_to_think(s) && o->max_thinking > 0 ? o->max_thinking : 0);
}

static char *chat_body(const remote_session *s, const prompt *p, const generate_options *o, ph_error *err) {
    const remote *r = s->engine->remote;
    json_t *messages = remote_messages(s->engine, p->tokens.ids, p->tokens.n, r->system, err);
    if (!messages) return NULL;
    json_t *body = json_pack("{s:s, s:o, s:b, s:{s:b}, s:i, s:f}", "model", r->model, "messages", messages,
                             "stream", 1, "stream_options", "include_usage", 1, "max_tokens",
                             most_tokens(s, o), "temperature", (double)o->temperature);
    if (body && o->top_p > 0 && o->top_p < 1) json_object_set_new(body, "top_p", json_real((double)o->top_p));
    /* How the release's chat template is told, by vLLM and SGLang alike. */
    if (body && asks_to_think(s))
        json_object_set_new(body, "chat_template_kwargs", json_pack("{s:b}", "thinking", 1));
    if (body && o->temperature > 0)
        json_object_set_new(body, "seed", json_integer((json_int_t)(o->seed & INT32_MAX)));
    return dump(body, err);
}

static char *generate_body(const remote_session *s, const prompt *p, const generate_options *o,
                           ph_error *err) {
    json_t *ids = json_array();
    for (size_t i = 0; i < p->tokens.n; i++) json_array_append_new(ids, json_integer(p->tokens.ids[i]));
    json_t *body =
        json_pack("{s:o, s:b, s:b, s:{s:i, s:f, s:f}}", "input_ids", ids, "stream", 1, "return_indexer_topk",
                  1, "sampling_params", "max_new_tokens", most_tokens(s, o), "temperature",
                  (double)o->temperature, "top_p", o->top_p > 0 ? (double)o->top_p : 1.0);
    return dump(body, err);
}

/* ---- what comes back ---- */

typedef struct receiving {
    remote_session *session;
    const generate_options *options;
    const prompt *prompt;
    event_stream stream;
    selection selection;
    bool native;        /* /generate */
    token_list written; /* native: the answer's tokens */
    char *text;         /* chat: the answer */
    size_t len, capacity;
    bool stopped; /* the caller said so */
    bool done;    /* the server said that this is all */
    stop_reason reason;
    int step;      /* of the answer; a thought's are not counted */
    bool thinking; /* what comes is not the answer yet */
    size_t answer; /* native: number of the answer's first token among those written */
} receiving;

static int give_step(receiving *x, int32_t token, const char *piece, size_t n) {
    generate_step step = {
        .token = token, .logprob = NAN, .piece = piece, .piece_len = n, .thinking = x->thinking};
    if (!x->thinking) step.index = x->step++;
    x->stopped = x->options->step && x->options->step(x->options->user, &step);
    return x->stopped ? PH_INTERRUPTED : PH_OK;
}

static int odd(ph_error *err, const char *what) {
    return ph_fail(err, PH_FAIL, "the server's answer is not to be understood: %s", what);
}

static int64_t count_of(const json_t *in, const char *name) {
    const json_t *v = json_object_get(in, name);
    return json_is_integer(v) && json_integer_value(v) >= 0 ? json_integer_value(v) : 0;
}

static int take_reason(receiving *x, const char *type, ph_error *err) {
    if (!type) return PH_OK;
    x->done = true;
    x->reason = !strcmp(type, "length") ? STOP_LENGTH : STOP_EOS;
    if (!strcmp(type, "abort") || !strcmp(type, "error") || !strcmp(type, "content_filter"))
        return ph_fail(err, PH_FAIL, "the server gave the answer up (%.60s)", type);
    return PH_OK;
}

/* An error in the midst of a stream. */
static int take_error(const json_t *root, ph_error *err) {
    const json_t *e = json_object_get(root, "error");
    const char *text = json_string_value(json_object_get(e, "message"));
    if (!e || json_is_null(e)) return PH_OK;
    if (!text) text = json_string_value(e);
    return ph_fail(err, PH_FAIL, "the server stopped in the middle: %.300s",
                   text ? text : "it does not say why");
}

/* ---- chat ---- */

static int keep_text(receiving *x, const char *s, size_t n, ph_error *err) {
    if (n > ANSWER_BYTES - x->len)
        return ph_fail(err, PH_TOO_LARGE, "the answer is over %d bytes", ANSWER_BYTES);
    if (x->len + n + 1 > x->capacity) {
        size_t capacity = (x->len + n + 1) * 2;
        char *more = realloc(x->text, capacity);
        if (!more) return ph_fail(err, PH_MEMORY, "no memory for an answer of %zu bytes", capacity);
        x->text = more;
        x->capacity = capacity;
    }
    memcpy(x->text + x->len, s, n);
    x->len += n;
    return PH_OK;
}

static int take_chunk(receiving *x, const json_t *root, ph_error *err) {
    const json_t *choice = json_array_get(json_object_get(root, "choices"), 0);
    const json_t *content = json_object_get(json_object_get(choice, "delta"), "content");
    const json_t *usage = json_object_get(root, "usage");
    if (json_is_object(usage))
        x->session->usage = (generate_usage){
            .prompt_tokens = count_of(usage, "prompt_tokens"),
            .cached_tokens = count_of(json_object_get(usage, "prompt_tokens_details"), "cached_tokens"),
            .completion_tokens = count_of(usage, "completion_tokens")};
    if (choice && !json_is_object(choice)) return odd(err, "a choice is no object");
    /* vLLM and SGLang tell a thought apart where they were started with a reasoning parser. */
    const json_t *thought = json_object_get(json_object_get(choice, "delta"), "reasoning_content");
    x->thinking = json_string_length(thought) > 0;
    if (x->thinking) {
        int code = give_step(x, -1, json_string_value(thought), json_string_length(thought));
        x->thinking = false;
        if (code) return code;
    }
    size_t n = json_string_length(content);
    if (n) {
        int code = keep_text(x, json_string_value(content), n, err);
        if (!code) code = give_step(x, -1, json_string_value(content), n);
        if (code) return code;
    }
    return take_reason(x, json_string_value(json_object_get(choice, "finish_reason")), err);
}

/* ---- /generate ---- */

static bool ends_answer(const engine *e, int32_t token) {
    return token == e->prompt.eos;
}

/* The tokens of an event: all so far, or those that are new, as the server was started. */
static int take_tokens(receiving *x, const json_t *ids, int64_t all, ph_error *err) {
    const engine *e = x->session->engine;
    size_t n = json_array_size(ids), seen = x->written.n;
    if (!json_is_array(ids) || ((int64_t)n != all && (int64_t)(seen + n) != all))
        return odd(err, "its tokens do not add up");
    size_t first = (int64_t)n == all ? seen : 0;
    if ((int64_t)n == all && n < seen) return odd(err, "it takes tokens back");
    if (all > most_tokens(x->session, x->options) + 1)
        return odd(err, "it wrote more tokens than it was allowed to");
    for (size_t i = first; i < n; i++) {
        const json_t *v = json_array_get(ids, i);
        json_int_t id = json_integer_value(v);
        if (!json_is_integer(v) || id < 0 || id > INT32_MAX) return odd(err, "a token is no number");
        int code = token_list_push(&x->written, (int32_t)id, 0, false, err);
        if (code) return code;
        if (ends_answer(e, (int32_t)id)) continue;
        if (x->thinking && id == e->prompt.think_end) {
            x->thinking = false;
            x->answer = x->written.n;
            continue;
        }
        size_t len = 0;
        const char *piece = tokenizer_piece(e->tokenizer, (int32_t)id, &len);
        if (len == 0) return odd(err, "it wrote a token that the tokenizer given does not have");
        if ((code = give_step(x, (int32_t)id, piece, len))) return code;
    }
    return PH_OK;
}

static int take_native(receiving *x, const json_t *root, ph_error *err) {
    const json_t *meta = json_object_get(root, "meta_info");
    if (!json_is_object(meta)) return odd(err, "an event has no meta_info");
    int64_t all = count_of(meta, "completion_tokens");
    x->session->usage = (generate_usage){.prompt_tokens = count_of(meta, "prompt_tokens"),
                                         .cached_tokens = count_of(meta, "cached_tokens"),
                                         .completion_tokens = all};
    int code = take_tokens(x, json_object_get(root, "output_ids"), all, err);
    const json_t *reason = json_object_get(meta, "finish_reason");
    if (!code && json_is_object(reason))
        code = take_reason(x, json_string_value(json_object_get(reason, "type")), err);
    return code;
}

/* ---- the stream ---- */

static int take_event(void *user, const char *data, size_t len, ph_error *err) {
    receiving *x = user;
    if (!strcmp(data, "[DONE]")) {
        x->done = true;
        return PH_OK;
    }
    if (len == 0) return PH_OK;
    json_t *root = json_loadb(data, len, 0, NULL);
    int code = json_is_object(root) ? take_error(root, err) : odd(err, "an event is no JSON");
    if (!code) code = x->native ? take_native(x, root, err) : take_chunk(x, root, err);
    json_decref(root);
    return code;
}

static int take_bytes(void *user, const char *bytes, size_t n, ph_error *err) {
    receiving *x = user;
    return event_stream_put(&x->stream, bytes, n, err);
}

static void take_selection(void *user, const char *bytes, size_t n) {
    receiving *x = user;
    selection_put(&x->selection, bytes, n);
}

static int waiting(void *user) {
    receiving *x = user;
    if (x->options->waiting && x->options->waiting(x->options->user)) x->stopped = true;
    return x->stopped;
}

static int receive(receiving *x, const char *path, const char *body, size_t most, long *status,
                   ph_error *err) {
    remote_session *s = x->session;
    remote_call call = {.path = path,
                        .body = body,
                        .type = "text/event-stream",
                        .most = most,
                        .bytes = take_bytes,
                        .waiting = waiting,
                        .user = x};
    x->stream = (event_stream){.event = take_event,
                               .lift = x->native ? take_selection : NULL,
                               .lifted = "indexer_topk",
                               .user = x,
                               .most = EVENT_BYTES};
    s->answered = false;
    s->usage = (generate_usage){0};
    int code = remote_http_run(s->engine->remote->http, &call, err);
    event_stream_free(&x->stream);
    *status = call.status;
    if (x->stopped) {
        x->reason = STOP_CALLBACK;
        return PH_OK;
    }
    if (!code && !x->done)
        code = ph_fail(err, PH_FAIL, "the server's answer ended in the middle, after %d pieces", x->step);
    s->answered = code == PH_OK;
    return code;
}

/* ---- the trace ---- */

/* One row of the server's positions, as ours. */
static int map_row(const receiving *x, const int32_t *from, int n, int32_t *to) {
    int64_t sent = (int64_t)x->prompt->tokens.n, length = remote_session_length(x->session);
    int kept = 0;
    for (int i = 0; i < n; i++) {
        int64_t at = from[i] < sent ? x->prompt->ours[from[i]] : length + from[i] - sent;
        if (at >= 0) to[kept++] = (int32_t)at;
    }
    return kept;
}

/* Working memory of a trace. */
typedef struct tracing {
    trace_layer *layers;
    int32_t *row, *position; /* [k], [layers, k] */
    float *mass;             /* [layers, k] */
    int n_layers, k;
} tracing;

static void tracing_free(tracing *t) {
    free(t->layers);
    free(t->row);
    free(t->position);
    free(t->mass);
}

static int trace_step(receiving *x, tracing *t, int index, int number, ph_error *err) {
    int64_t row = (int64_t)x->prompt->tokens.n - 1 + index;
    for (int l = 0; l < t->n_layers; l++) {
        int32_t *to = t->position + (size_t)l * (size_t)t->k;
        float *mass = t->mass + (size_t)l * (size_t)t->k;
        int n = 0;
        int code = selection_row(&x->selection, row, l, t->n_layers, t->k, t->row, &n, err);
        if (code) return code;
        int kept = map_row(x, t->row, n, to);
        for (int i = 0; i < kept; i++) mass[i] = 1.0f / (float)n;
        t->layers[l] = (trace_layer){.layer = l, .count = kept, .position = to, .mass = mass};
    }
    generate_step step = {.token = x->written.ids[index],
                          .logprob = NAN,
                          .layers = t->layers,
                          .n_layers = t->n_layers,
                          .index = number,
                          .late = true,
                          .selection_only = true};
    x->stopped = x->options->step && x->options->step(x->options->user, &step);
    return PH_OK;
}

/* Every row that will be shown is checked before the first one is handed out: half a trace is none. */
static int check_rows(const receiving *x, tracing *t, ph_error *err) {
    int code = PH_OK, n = 0;
    for (size_t i = 0; i < x->written.n && !code; i++)
        for (int l = 0; l < t->n_layers && !code; l++)
            code = selection_row(&x->selection, (int64_t)(x->prompt->tokens.n - 1 + i), l, t->n_layers, t->k,
                                 t->row, &n, err);
    return code;
}

static int hand_trace_out(receiving *x, ph_error *err) {
    const remote *r = x->session->engine->remote;
    int64_t rows = (int64_t)x->prompt->tokens.n + (int64_t)x->written.n - 1;
    tracing t = {.k = r->topk};
    if (x->selection.total == 0 && !x->selection.bad)
        return ph_fail(err, PH_UNSUPPORTED,
                       "the server sent no selection (is it an SGLang with --enable-return-indexer-topk?)");
    int code = selection_check(&x->selection, rows, t.k, r->layers, &t.n_layers, err);
    if (code) return code;
    size_t values = (size_t)t.n_layers * (size_t)t.k;
    t.layers = calloc((size_t)t.n_layers, sizeof *t.layers);
    t.row = malloc((size_t)t.k * sizeof *t.row);
    t.position = malloc(values * sizeof *t.position);
    t.mass = malloc(values * sizeof *t.mass);
    if (!t.layers || !t.row || !t.position || !t.mass)
        code = ph_fail(err, PH_MEMORY, "no memory for a trace of %d layers", t.n_layers);
    if (!code) code = check_rows(x, &t, err);
    for (size_t i = x->answer, number = 0; i < x->written.n && !code && !x->stopped; i++)
        if (!ends_answer(x->session->engine, x->written.ids[i]))
            code = trace_step(x, &t, (int)i, (int)number++, err);
    tracing_free(&t);
    return code;
}

/* Bytes of the base64 that the server would send: it sends a row for every token, of the prompt too. */
static double selection_bytes(const remote *r, int64_t sent, int answer) {
    return ((double)sent + answer) * r->layers * r->topk * 4.0 * 4.0 / 3.0;
}

static int64_t allowed_length(const remote_session *s) {
    if (!s->allow) return remote_session_length(s);
    int64_t n = (int64_t)s->tail.n;
    for (int i = 0; i < s->n_allow; i++) n += s->allow[i].end - s->allow[i].start;
    return n;
}

static void say_untraced(remote_session *s, const ph_error *why) {
    memcpy(s->untraced, why->text, sizeof s->untraced);
}

/* Whether tokens may be sent and a selection asked for; why not, else. */
static bool may_trace(remote_session *s, const generate_options *o) {
    const remote *r = s->engine->remote;
    int64_t n = allowed_length(s);
    double bytes = selection_bytes(r, n, most_tokens(s, o));
    ph_error why = {0};
    if (!o->trace)
        ph_fail(&why, PH_UNSUPPORTED, "no trace was asked for");
    else if (!r->own_tokenizer)
        ph_fail(&why, PH_UNSUPPORTED,
                "where the server's tokens stand is known only with --tokenizer, the served model's own");
    else if (!r->topk)
        ph_fail(&why, PH_UNSUPPORTED,
                "beside the tokenizer there is no config.json with index_topk and num_hidden_layers");
    else if (r->no_generate)
        ph_fail(&why, PH_UNSUPPORTED, "the server has no /generate: it is no SGLang");
    else if (bytes > (double)r->trace_bytes)
        ph_fail(&why, PH_TOO_LARGE,
                "the selection of %lld tokens would take %.2f GiB on the way, and the limit is %.2f GiB "
                "(--trace-limit)",
                (long long)n, bytes / (1 << 30), (double)r->trace_bytes / (1 << 30));
    say_untraced(s, &why);
    return !why.code;
}

static void receiving_free(receiving *x) {
    selection_free(&x->selection);
    token_list_free(&x->written);
    free(x->text);
}

/* The answer becomes part of the tail, for what is asked next. */
static int keep_answer(receiving *x, ph_error *err) {
    remote_session *s = x->session;
    token_list written = {0};
    int code = PH_OK;
    if (!x->native && x->len)
        code = tokenizer_encode(s->engine->tokenizer, x->text, x->len, 0, 0, &written, err);
    for (size_t i = x->answer; i < x->written.n && !code; i++)
        if (!ends_answer(s->engine, x->written.ids[i]))
            code = token_list_push(&written, x->written.ids[i], 0, false, err);
    if (!code) code = remote_session_feed(s, written.ids, (int64_t)written.n, err);
    token_list_free(&written);
    return code;
}

/* Tokens to /generate. *other: this server cannot, and nothing came yet: ask in the other way. */
static int generate_native(receiving *x, const prompt *p, bool *other, ph_error *err) {
    remote_session *s = x->session;
    remote *r = s->engine->remote;
    const generate_options *o = x->options;
    size_t keep = ((size_t)most_tokens(s, o) + 2) * (size_t)r->layers * (size_t)r->topk;
    long status = 0;
    x->native = true;
    x->thinking = asks_to_think(s);
    x->prompt = p;
    char *body = generate_body(s, p, o, err);
    int code = body ? selection_open(&x->selection, keep, err) : PH_MEMORY;
    if (!code) code = receive(x, "/generate", body, (size_t)r->trace_bytes + STREAM_BYTES, &status, err);
    free(body);
    *other = code && (status == 404 || status == 405 || status == 400 || status == 422);
    ph_error why = {0};
    if (*other) {
        r->no_generate = status == 404 || status == 405;
        ph_fail(&why, PH_UNSUPPORTED, "the server gives no selection (status %ld at /generate)", status);
    } else if (!code && !x->stopped) {
        int traced = hand_trace_out(x, &why);
        if (traced == PH_MEMORY) code = ph_fail(err, PH_MEMORY, "%s", why.text);
        if (x->stopped) x->reason = STOP_CALLBACK;
    }
    say_untraced(s, &why);
    return code;
}

static int generate_chat(receiving *x, const prompt *p, ph_error *err) {
    long status = 0;
    x->prompt = p;
    char *body = chat_body(x->session, p, x->options, err);
    if (!body) return err->code ? err->code : PH_MEMORY;
    int code = receive(x, "/v1/chat/completions", body, STREAM_BYTES, &status, err);
    free(body);
    return code;
}

static int ask(remote_session *s, const generate_options *o, bool native, bool *other, stop_reason *why,
               ph_error *err) {
    prompt p = {0};
    receiving x = {.session = s, .options = o, .reason = STOP_EOS};
    int code = make_prompt(&p, s, err);
    if (!code && native) code = put_system(&p, s, err);
    if (!code) code = native ? generate_native(&x, &p, other, err) : generate_chat(&x, &p, err);
    if (!code) code = keep_answer(&x, err);
    if (!code && why) *why = x.reason;
    receiving_free(&x);
    prompt_free(&p);
    return code;
}

int remote_session_generate(remote_session *s, const generate_options *o, stop_reason *why, ph_error *err) {
    if (s->tail.n == 0) return ph_fail(err, PH_USAGE, "nothing was fed: there is nothing to continue");
    ph_error said = {0};
    bool other = false;
    int code = PH_OK;
    if (may_trace(s, o)) {
        code = ask(s, o, true, &other, why, &said);
        if (!other) goto done;
        said = (ph_error){0};
    }
    code = ask(s, o, false, &other, why, &said);
done:
    if (code && err) *err = said;
    return code;
}
