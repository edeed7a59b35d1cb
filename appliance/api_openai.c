/* api_openai.c - the two endpoints that tools of others speak (openapi.json says what is refused). */
#include "appliance/api.h"

#include "appliance/command.h"
#include "appliance/serve_ask.h"
#include "appliance/show.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Behind the engine's name: the model without documents. */
static const char PLAIN[] = "-plain";

typedef struct chat {
    char id[48];
    char model[200]; /* as it was asked for */
    bool plain;
    int64_t created;
    bool include_usage, began;
    int ignored;
} chat;

static json_t *model_json(const api_call *c, const engine *e, const char *suffix) {
    char name[200];
    snprintf(name, sizeof name, "%.180s%s", engine_model_name(e), suffix);
    return json_pack("{s:o, s:s, s:I, s:s, s:i}", "id", json_text(name), "object", "model", "created",
                     (json_int_t)c->serve->started_at, "owned_by", "pharos", "context_length",
                     engine_config(e)->max_positions);
}

void api_openai_models(api_call *c) {
    engine *e = api_engine(c);
    if (!e) return;
    http_reply_json(c->http, 200,
                    json_pack("{s:s, s:[o, o]}", "object", "list", "data", model_json(c, e, ""),
                              model_json(c, e, PLAIN)));
}

void api_openai_model(api_call *c) {
    engine *e = api_engine(c);
    if (!e) return;
    const char *name = c->http->path + strlen("/v1/models/");
    size_t n = strlen(engine_model_name(e));
    bool ours = !strncmp(name, engine_model_name(e), n) && (!name[n] || !strcmp(name + n, PLAIN));
    if (ours)
        http_reply_json(c->http, 200, model_json(c, e, name + n));
    else
        http_reply_error(c->http, 404, "model_not_found",
                         "there is no model %.100s here; /v1/models lists them", name);
}

/* ---- what comes out ---- */

static json_t *usage_json(const answer *a) {
    const store_answer *r = &a->row;
    json_t *out = json_pack("{s:I, s:I, s:I, s:{s:I}}", "prompt_tokens", (json_int_t)r->prompt_tokens,
                            "completion_tokens", (json_int_t)r->completion_tokens, "total_tokens",
                            (json_int_t)(r->prompt_tokens + r->completion_tokens), "prompt_tokens_details",
                            "cached_tokens", (json_int_t)r->cached_tokens);
    if (out && a->thought.n_tokens)
        json_object_set_new(out, "completion_tokens_details",
                            json_pack("{s:I}", "reasoning_tokens", (json_int_t)a->thought.n_tokens));
    return out;
}

static json_t *citations_json(const answer *a) {
    json_t *rows = json_array();
    for (size_t i = 0; i < a->row.n_citations; i++)
        json_array_append_new(rows, citation_json(&a->row.citations[i]));
    return rows;
}

static json_t *extra_json(const chat *x, const answer *a) {
    return json_pack("{s:I, s:b, s:I, s:i, s:o}", "answer_id", (json_int_t)a->row.id, "found",
                     (int)a->row.found, "pack", (json_int_t)a->row.pack, "ignored_messages", x->ignored,
                     "note", json_text(a->note));
}

static const char *finish_reason(const answer *a) {
    return a->cut_off ? "length" : "stop";
}

static json_t *chunk_json(const chat *x, json_t *choices) {
    json_t *out =
        json_pack("{s:s, s:s, s:I, s:o, s:o}", "id", x->id, "object", "chat.completion.chunk", "created",
                  (json_int_t)x->created, "model", json_text(x->model), "choices", choices);
    if (out && x->include_usage) json_object_set_new(out, "usage", json_null());
    return out;
}

static void begin(question *q, chat *x) {
    if (x->began) return;
    x->began = true;
    question_event(q, NULL,
                   chunk_json(x, json_pack("[{s:i, s:{s:s, s:s}, s:n}]", "index", 0, "delta", "role",
                                           "assistant", "content", "", "finish_reason")),
                   false);
}

static void placed(question *q, int place) {
    (void)q;
    (void)place;
}

/* Their clients skip comments; a person with curl sees how far it is. */
static void progressed(question *q, answer_phase phase, int64_t done, int64_t total, int64_t cached,
                       double rate) {
    char line[160];
    if (!q->stream || phase == PHASE_WRITING) return;
    int n = snprintf(line, sizeof line, ": %s %lld of %lld, %lld cached, %.0f a second\n\n",
                     phase == PHASE_READING ? "reading" : "asking", (long long)done, (long long)total,
                     (long long)cached, rate);
    outbox_put(&q->out, line, (size_t)n, true);
}

static void wrote(question *q, const char *text) {
    chat *x = q->form_data;
    if (!q->stream) return;
    begin(q, x);
    question_event(q, NULL,
                   chunk_json(x, json_pack("[{s:i, s:{s:o}, s:n}]", "index", 0, "delta", "content",
                                           json_text(text), "finish_reason")),
                   false);
}

/* As DeepSeek's own servers name it. */
static void thought(question *q, const char *text) {
    chat *x = q->form_data;
    if (!q->stream) return;
    begin(q, x);
    question_event(q, NULL,
                   chunk_json(x, json_pack("[{s:i, s:{s:o}, s:n}]", "index", 0, "delta", "reasoning_content",
                                           json_text(text), "finish_reason")),
                   false);
}

static void restarted(question *q) {
    (void)q; /* nothing was written */
}

static void done(question *q, const answer *a) {
    chat *x = q->form_data;
    const char *finish = finish_reason(a);
    if (!q->stream) {
        q->status = 200;
        q->result = json_pack("{s:s, s:s, s:I, s:o, s:[{s:i, s:{s:s, s:o, s:o}, s:s}], s:o, s:o}", "id",
                              x->id, "object", "chat.completion", "created", (json_int_t)x->created, "model",
                              json_text(x->model), "choices", "index", 0, "message", "role", "assistant",
                              "content", json_text(a->row.answer), "citations", citations_json(a),
                              "finish_reason", finish, "usage", usage_json(a), "pharos", extra_json(x, a));
        if (q->result && a->thought.text_len)
            json_object_set_new(
                json_object_get(json_array_get(json_object_get(q->result, "choices"), 0), "message"),
                "reasoning_content", json_text(a->thought.text));
        return;
    }
    begin(q, x);
    json_t *last = chunk_json(x, json_pack("[{s:i, s:{s:o}, s:s}]", "index", 0, "delta", "citations",
                                           citations_json(a), "finish_reason", finish));
    if (last) json_object_set_new(last, "pharos", extra_json(x, a));
    question_event(q, NULL, last, false);
    if (x->include_usage) {
        json_t *usage = chunk_json(x, json_array());
        if (usage) json_object_set_new(usage, "usage", usage_json(a));
        question_event(q, NULL, usage, false);
    }
    outbox_put(&q->out, "data: [DONE]\n\n", 14, false);
}

static void failed(question *q, const ph_error *err) {
    bool large = err->code == PH_TOO_LARGE;
    unsigned status = large ? 400 : http_status_of(err->code);
    json_t *value = http_error_json(status, large ? "context_length_exceeded" : NULL, err->text);
    if (q->stream)
        question_event(q, NULL, value, false);
    else {
        q->status = status;
        q->result = value;
    }
}

static const question_form openai_form = {placed, progressed, wrote, restarted, done, failed, thought};

/* ---- what comes in ---- */

static bool refuse(api_call *c, const char *what) {
    http_reply_error(c->http, 400, "unsupported_parameter", "%s", what);
    return false;
}

static bool present(const json_t *body, const char *name) {
    const json_t *v = json_object_get(body, name);
    return v && !json_is_null(v) && !json_is_false(v) && !(json_is_array(v) && json_array_size(v) == 0);
}

/* What would be ignored silently, and matters, is refused. */
static bool check_unsupported(api_call *c, const json_t *body) {
    const json_t *n = json_object_get(body, "n"), *format = json_object_get(body, "response_format");
    const char *type = json_string_value(json_object_get(format, "type"));
    if (json_is_integer(n) && json_integer_value(n) != 1) return refuse(c, "n other than 1 is not supported");
    if (present(body, "tools") || present(body, "functions")) return refuse(c, "tools are not supported");
    if (present(body, "logprobs"))
        return refuse(c, "logprobs are not supported; the answer's trace has them");
    if (type && strcmp(type, "text")) return refuse(c, "response formats other than text are not supported");
    return true;
}

/* The text of a message: a string, or the text parts of a list. Owned; NULL: it has another form. */
static char *message_text(const json_t *message) {
    const json_t *content = json_object_get(message, "content");
    if (json_is_string(content))
        return strlen(json_string_value(content)) == json_string_length(content)
                   ? strdup(json_string_value(content))
                   : NULL;
    if (!json_is_array(content)) return NULL;
    size_t n = 1, i;
    json_t *part;
    json_array_foreach((json_t *)content, i, part) n += json_string_length(json_object_get(part, "text")) + 1;
    char *out = calloc(1, n);
    json_array_foreach((json_t *)content, i, part) {
        const json_t *text = json_object_get(part, "text");
        const char *type = json_string_value(json_object_get(part, "type"));
        bool plain = type && !strcmp(type, "text") && json_is_string(text) &&
                     strlen(json_string_value(text)) == json_string_length(text);
        if (!plain || !out) {
            free(out);
            return NULL;
        }
        if (out[0]) strcat(out, "\n");
        strcat(out, json_string_value(text));
    }
    return out;
}

/* What the user and the model said, in order; others' messages are counted in *ignored, the system's too
 * unless `system`. false: the reply is made. The list is the question's. */
static bool read_messages(api_call *c, question *q, const json_t *body, bool system, int *ignored) {
    static const char *const names[] = {"system", "user", "assistant"};
    const json_t *messages = json_object_get(body, "messages");
    size_t n = json_array_size(messages);
    q->messages = calloc(n + 1, sizeof *q->messages);
    if (!q->messages) {
        http_reply_error(c->http, 503, "memory", "no memory for messages");
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *m = json_array_get(messages, i);
        const char *who = json_string_value(json_object_get(m, "role"));
        int speaker = CHAT_ASSISTANT;
        while (speaker >= 0 && !(who && !strcmp(who, names[speaker]))) speaker--;
        if (speaker < 0 || (speaker == CHAT_SYSTEM && !system)) {
            ++*ignored;
            continue;
        }
        chat_message *to = &q->messages[q->n_messages];
        *to = (chat_message){(chat_role)speaker, message_text(m)};
        if (to->text) {
            q->n_messages++;
            continue;
        }
        http_reply_error(c->http, 400, NULL, "message %zu is not text", i + 1);
        return false;
    }
    const chat_message *last = q->n_messages ? &q->messages[q->n_messages - 1] : NULL;
    if (last && last->role == CHAT_USER && last->text[strspn(last->text, " \t\r\n")]) return true;
    http_reply_error(c->http, 400, NULL, "the last message is not the user's, or it is empty");
    return false;
}

/* Earlier turns of the conversation: a question of the user's and the answer that follows it. The strings
 * change hands; a question without an answer, or an answer without a question, is counted as ignored. */
static bool take_turns(api_call *c, question *q, chat *x) {
    answer_turn *turns = calloc(q->n_messages + 1, sizeof *turns);
    if (!turns) {
        http_reply_error(c->http, 503, "memory", "no memory for messages");
        return false;
    }
    q->options.turns = turns;
    size_t last = q->n_messages - 1, bytes = 0;
    for (size_t i = 0; i < last; i++) {
        chat_message *m = q->messages + i;
        if (m[0].role == CHAT_USER && i + 1 < last && m[1].role == CHAT_ASSISTANT) {
            bytes += strlen(m[0].text) + strlen(m[1].text);
            turns[q->options.n_turns++] = (answer_turn){m[0].text, m[1].text};
            m[0].text = m[1].text = NULL;
            i++;
        } else
            x->ignored++;
    }
    q->text = q->messages[last].text;
    q->messages[last].text = NULL;
    bytes += strlen(q->text);
    chat_messages_free(q->messages, q->n_messages);
    q->messages = NULL;
    q->n_messages = 0;
    if (bytes <= MAX_QUESTION_BYTES) return true;
    http_reply_error(c->http, 400, "context_length_exceeded",
                     "the messages have %zu bytes, and the limit beside the documents is %d", bytes,
                     MAX_QUESTION_BYTES);
    return false;
}

static bool take_messages(api_call *c, question *q, chat *x, const json_t *body) {
    if (!read_messages(c, q, body, x->plain, &x->ignored)) return false;
    if (!x->plain) return take_turns(c, q, x);
    q->plain = &c->serve->plain;
    if (!present(body, "documents") && !present(body, "pack")) return true;
    http_reply_error(c->http, 400, NULL, "%s has no documents; %.100s does", x->model,
                     engine_model_name(api_engine(c)));
    return false;
}

static bool take_model(api_call *c, chat *x, const json_t *body) {
    engine *e = api_engine(c);
    const char *model = json_string_value(json_object_get(body, "model"));
    if (!e) return false;
    if (!model) {
        http_reply_error(c->http, 400, NULL, "model is missing");
        return false;
    }
    size_t n = strlen(engine_model_name(e));
    bool ours = !strncmp(model, engine_model_name(e), n) && (!model[n] || !strcmp(model + n, PLAIN));
    if (!ours || strlen(model) >= sizeof x->model) {
        http_reply_error(c->http, 404, "model_not_found",
                         "there is no model %.100s here; it is %.100s, or %.100s%s without the documents",
                         model, engine_model_name(e), engine_model_name(e), PLAIN);
        return false;
    }
    strcpy(x->model, model);
    x->plain = model[n] != 0;
    return true;
}

/* As servers of DeepSeek's models take it. Absent: as the model has it. */
static bool take_thinking(api_call *c, const json_t *body, answer_thinking *out) {
    const json_t *template = json_object_get(body, "chat_template_kwargs");
    bool thinking = false;
    if (!api_boolean(c, template, "thinking", &thinking)) return false;
    if (json_is_boolean(json_object_get(template, "thinking"))) *out = thinking ? THINK_FIRST : THINK_NOT;
    return true;
}

/* A text or a list of at most four at which the answer ends. */
static bool take_stops(api_call *c, const json_t *body, stop_texts *out) {
    const json_t *stop = json_object_get(body, "stop");
    bool one = json_is_string(stop);
    size_t n = one ? 1 : json_array_size(stop);
    bool good = n <= STOP_TEXTS && (one || !stop || json_is_null(stop) || json_is_array(stop));
    for (size_t i = 0; good && i < n; i++) {
        const json_t *v = one ? stop : json_array_get(stop, i);
        const char *text = json_string_value(v);
        size_t len = json_string_length(v);
        good = text && len && len <= STOP_TEXT_BYTES && strlen(text) == len;
        if (good && !(out->text[out->n] = strdup(text))) {
            http_reply_error(c->http, 503, "memory", "no memory for a question");
            return false;
        }
        out->n += good;
    }
    if (!good)
        http_reply_error(c->http, 400, NULL, "stop is a text of 1 to %d bytes, or a list of at most %d of them",
                         STOP_TEXT_BYTES, STOP_TEXTS);
    return good;
}

static bool take_options(api_call *c, question *q, chat *x, const json_t *body) {
    answer_options *o = &q->options;
    int64_t *ids = NULL, max_tokens = 0, seed = 0;
    double temperature = 0, top_p = 0;
    json_t *stream_options = json_object_get(body, "stream_options");
    bool good = api_ids(c, body, "documents", &ids, &o->n_documents);
    o->documents = ids;
    good = good && api_integer(c, body, "pack", 1, INT64_MAX, &o->pack) &&
           api_integer(c, body, "max_tokens", 1, INT32_MAX, &max_tokens) &&
           api_integer(c, body, "max_completion_tokens", 1, INT32_MAX, &max_tokens) &&
           api_integer(c, body, "seed", 0, INT64_MAX, &seed) &&
           api_real(c, body, "temperature", 0, 2, &temperature) && api_real(c, body, "top_p", 0, 1, &top_p) &&
           api_boolean(c, body, "stream", &q->stream) &&
           api_boolean(c, stream_options, "include_usage", &x->include_usage) &&
           take_thinking(c, body, &o->thinking) && take_stops(c, body, &o->stops);
    /* Tools ask for a thousand tokens and more as a matter of course; an answer from documents is short. */
    o->max_tokens = (int)(max_tokens > MAX_ANSWER_TOKENS ? MAX_ANSWER_TOKENS : max_tokens);
    o->seed = (uint64_t)seed;
    o->temperature = (float)temperature;
    o->top_p = (float)top_p;
    return good;
}

void api_openai_chat(api_call *c) {
    json_t *body = http_json_body(c->http, false);
    if (!body) return;
    question *q = question_new();
    chat *x = calloc(1, sizeof *x);
    if (!q || !x) {
        http_reply_error(c->http, 503, "memory", "no memory for a question");
        free(x);
        question_free(q);
        json_decref(body);
        return;
    }
    q->form = &openai_form;
    q->form_data = x;
    x->created = (int64_t)time(NULL);
    uint64_t number;
    randombytes_buf(&number, sizeof number);
    snprintf(x->id, sizeof x->id, "chatcmpl-%016llx", (unsigned long long)number);
    bool good = take_model(c, x, body) && check_unsupported(c, body) && take_messages(c, q, x, body) &&
                take_options(c, q, x, body);
    json_decref(body);
    if (good)
        api_ask_question(c, q);
    else
        question_free(q);
}
