/* test_remote.c - the engine whose model is served elsewhere, against a server that keeps to a script: what
 * is sent, what is made of what comes, and what happens when it goes wrong. The model's tokens are bytes
 * (tiny_model.h), so that every position can be told by hand. */
#include "appliance/read_set.h"
#include "engine/remote.h"
#include "engine/remote_selection.h"
#include "engine/remote_stream.h"
#include "tests/program.h"
#include "tests/scripted_server.h"
#include "tests/tiny_model.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define MODELS                                                                                               \
    "{\"object\":\"list\",\"data\":[{\"id\":\"deepseek\",\"object\":\"model\",\"max_model_len\":1000}]}"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- base64 of a selection ---- */

static char *base64_of(const int32_t *values, size_t n) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *in = (const uint8_t *)values;
    size_t bytes = n * 4, at = 0;
    char *out = malloc(bytes * 2 + 8);
    for (size_t i = 0; i < bytes; i += 3) {
        uint32_t v = (uint32_t)in[i] << 16 | (i + 1 < bytes ? (uint32_t)in[i + 1] << 8 : 0) |
                     (i + 2 < bytes ? in[i + 2] : 0);
        out[at++] = digits[v >> 18];
        out[at++] = digits[v >> 12 & 63];
        out[at++] = i + 1 < bytes ? digits[v >> 6 & 63] : '=';
        out[at++] = i + 2 < bytes ? digits[v & 63] : '=';
    }
    out[at] = 0;
    return out;
}

static void selection_decodes(void **state) {
    (void)state;
    enum { ROWS = 5, LAYERS = 2, K = 3 };
    int32_t values[ROWS * LAYERS * K];
    for (int r = 0; r < ROWS; r++)
        for (int l = 0; l < LAYERS; l++)
            for (int i = 0; i < K; i++) values[(r * LAYERS + l) * K + i] = i <= r ? (r - i) : -1;
    for (size_t keep = K; keep <= ROWS * LAYERS * K + 1; keep++) {
        for (size_t piece = 1; piece < 20; piece += 3) {
            selection s;
            char *text = base64_of(values, ROWS * LAYERS * K);
            int layers = 0, count;
            int32_t position[K];
            assert_int_equal(selection_open(&s, keep, NULL), 0);
            for (size_t at = 0, n = strlen(text); at < n; at += piece)
                selection_put(&s, text + at, piece < n - at ? piece : n - at);
            assert_int_equal(selection_check(&s, ROWS, K, 8, &layers, NULL), 0);
            assert_int_equal(layers, LAYERS);
            for (int r = 0; r < ROWS; r++)
                for (int l = 0; l < LAYERS; l++) {
                    size_t behind = (size_t)((ROWS - r) * LAYERS - l) * K;
                    int code = selection_row(&s, r, l, layers, K, position, &count, NULL);
                    assert_int_equal(code, behind > keep ? PH_NOT_FOUND : PH_OK);
                    if (code) continue;
                    assert_int_equal(count, r + 1 < K ? r + 1 : K);
                    for (int i = 0; i < count; i++) assert_int_equal(position[i], r - count + 1 + i);
                }
            assert_int_equal(selection_row(&s, ROWS, 0, layers, K, position, &count, NULL), PH_NOT_FOUND);
            selection_free(&s);
            free(text);
        }
    }
}

static void selection_refuses(void **state) {
    (void)state;
    static const struct {
        const char *base64;
        int64_t rows;
        int k;
    } cases[] = {{"AAAA", 1, 1},
                 {"AAAAAA=", 1, 1},
                 {"AAAAAA==AAAA", 1, 1},
                 {"AAAAA===", 1, 1},
                 {"AAAAAB==", 1, 1},
                 {"AAAA AA==", 1, 1},
                 {"AAAAAA==", 2, 1},
                 {"AAAAAA==", 1, 2},
                 {"AAAAAAAAAAA=", 1, 1},
                 {"", 1, 1},
                 {"AAAAAA-_", 1, 1},
                 {"AA==", 1, 1},
                 {"AAAAAA==", 0, 1},
                 {"AAAAAA==", 1, 0},
                 {"=", 1, 1},
                 {"AAAAAA==", -1, 1},
                 {"AAAAAA==", INT64_MAX, INT32_MAX}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        selection s;
        int layers;
        ph_error err = {0};
        assert_int_equal(selection_open(&s, 64, NULL), 0);
        selection_put(&s, cases[i].base64, strlen(cases[i].base64));
        if (selection_check(&s, cases[i].rows, cases[i].k, 1, &layers, &err) != PH_CORRUPT)
            fail_msg("case %zu is taken", i);
        assert_true(err.text[0]);
        selection_free(&s);
    }
    /* Positions beyond the row, below -1, and twice. */
    static const int32_t bad[][2] = {{3, 0}, {-2, 0}, {1, 1}, {INT32_MAX, 0}, {INT32_MIN, 1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int32_t values[] = {0, -1, 0, 1, bad[i][0], bad[i][1]}, position[2];
        char *text = base64_of(values, 6);
        selection s;
        int layers, count;
        assert_int_equal(selection_open(&s, 6, NULL), 0);
        selection_put(&s, text, strlen(text));
        assert_int_equal(selection_check(&s, 3, 2, 4, &layers, NULL), 0);
        assert_int_equal(selection_row(&s, 1, 0, 1, 2, position, &count, NULL), 0);
        assert_int_equal(selection_row(&s, 2, 0, 1, 2, position, &count, NULL), PH_CORRUPT);
        selection_free(&s);
        free(text);
    }
}

/* ---- the stream ---- */

typedef struct heard {
    char events[1024], lifted[256];
    int n;
} heard;

static int hear(void *user, const char *data, size_t len, ph_error *err) {
    heard *h = user;
    (void)err;
    assert_int_equal(strlen(data), len);
    strcat(strcat(h->events, data), "|");
    h->n++;
    return PH_OK;
}
static void lift(void *user, const char *bytes, size_t n) {
    heard *h = user;
    strncat(h->lifted, bytes, n);
}

static void stream_takes_events_apart(void **state) {
    (void)state;
    static const struct {
        const char *in, *events, *lifted;
    } cases[] = {
        {"data: a\n\ndata:b\r\n\r\ndata:  c\r\rdata: d\n", "a|b| c|", ""},
        {"event: x\nid: 1\ndata: one\ndata: two\n\n: comment\n\ndatas: no\n\ndata\n\n", "one\ntwo|", ""},
        {"data:\n\n", "|", ""},
        {"data: {\"indexer_topk\":\"QUJD\",\"x\":1}\n\n", "{\"indexer_topk\":\"\",\"x\":1}|", "QUJD"},
        {"data: {\"m\": {\"indexer_topk\" : \"a\\/b\" }}\n\n", "{\"m\": {\"indexer_topk\" : \"\" }}|", "a/b"},
        /* A text that speaks of it, another member, a value of another kind. */
        {"data: {\"text\":\"\\\"indexer_topk\\\":\\\"no\\\"\",\"indexer_topk\":null}\n\n",
         "{\"text\":\"\\\"indexer_topk\\\":\\\"no\\\"\",\"indexer_topk\":null}|", ""},
        {"data: {\"indexer_topk2\":\"no\",\"a\":\"indexer_topk\",\"b\":\"no\"}\n\n",
         "{\"indexer_topk2\":\"no\",\"a\":\"indexer_topk\",\"b\":\"no\"}|", ""},
        /* Cut off within the value: what follows is an event of its own again. */
        {"data: {\"indexer_topk\":\"QU\n\ndata: next\n\n", "{\"indexer_topk\":|next|", "QU"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t piece = 1; piece <= strlen(cases[i].in); piece++) {
            heard h = {0};
            event_stream s = {.event = hear, .lift = lift, .lifted = "indexer_topk", .user = &h, .most = 200};
            for (size_t at = 0, n = strlen(cases[i].in); at < n; at += piece)
                assert_int_equal(
                    event_stream_put(&s, cases[i].in + at, piece < n - at ? piece : n - at, NULL), 0);
            assert_string_equal(h.events, cases[i].events);
            assert_string_equal(h.lifted, cases[i].lifted);
            event_stream_free(&s);
        }
}

static void stream_is_bounded(void **state) {
    (void)state;
    heard h = {0};
    event_stream s = {.event = hear, .lift = NULL, .lifted = "x", .user = &h, .most = 100};
    ph_error err = {0};
    int code = event_stream_put(&s, "data: ", 6, &err);
    for (int i = 0; i < 101 && !code; i++) code = event_stream_put(&s, "a", 1, &err);
    assert_int_equal(code, PH_TOO_LARGE);
    event_stream_free(&s);
}

/* ---- a world ---- */

typedef struct world {
    char *dir; /* tokenizer.json and config.json of the served model */
    scripted_server *server;
    engine *engine;
    context *context;
    session *session;
    char text[4096], thought[256];
    answer_trace trace;
    int steps, late, stop_after, waits, stop_waiting_after;
    ph_error err;
    stop_reason why;
} world;

static int set_up(void **state) {
    world *w = *state = calloc(1, sizeof *w);
    w->dir = make_folder();
    return tiny_model_write(w->dir, &(tiny_options){.seed = 1});
}

static int tear_down(void **state) {
    world *w = *state;
    session_close(w->session);
    context_close(w->context);
    engine_close(w->engine);
    if (w->server) script_stop(w->server);
    answer_trace_free(&w->trace);
    remove_folder(w->dir);
    free(w);
    return 0;
}

static int open_with(world *w, remote_options o) {
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1/", script_port(w->server));
    if (!o.url) o.url = url;
    if (!o.tokenizer && !o.files) o.tokenizer = w->dir;
    if (!o.backoff_ms) o.backoff_ms = 20;
    return remote_open(&w->engine, &o, &w->err);
}

static int heard_step(void *user, const generate_step *step) {
    world *w = user;
    if (step->late) {
        w->late++;
        assert_true(step->selection_only);
        return answer_trace_late(&w->trace, step, 64, &w->err);
    }
    assert_true(isnan(step->logprob));
    if (step->thinking) {
        strncat(w->thought, step->piece, step->piece_len);
        return 0;
    }
    assert_null(step->layers);
    assert_int_equal(step->index, w->steps);
    strncat(w->text, step->piece, step->piece_len);
    assert_int_equal(answer_trace_add(&w->trace, step, 64, &w->err), 0);
    return ++w->steps == w->stop_after;
}

static int heard_silence(void *user) {
    world *w = user;
    return ++w->waits == w->stop_waiting_after;
}

/* The documents, and a question on top. */
static void stand(world *w, const char *documents) {
    token_list l = {0};
    if (!w->engine && open_with(w, (remote_options){0})) fail_msg("%s", w->err.text);
    assert_int_equal(prompt_begin(engine_prompt(w->engine), &l, NULL), 0);
    assert_int_equal(
        tokenizer_encode(engine_tokenizer(w->engine), documents, strlen(documents), 0, 0, &l, NULL), 0);
    assert_int_equal(context_open(&w->context, w->engine, NULL, 0, NULL, NULL), 0);
    assert_int_equal(context_read(w->context, l.ids, (int64_t)l.n, NULL, NULL, NULL, NULL), 0);
    assert_int_equal(context_length(w->context), l.n);
    token_list_free(&l);
    assert_int_equal(session_open(&w->session, w->context, NULL), 0);
}

static void feed(world *w, const char *question, int follow_up) {
    token_list l = {0};
    assert_int_equal(prompt_question(engine_prompt(w->engine), engine_tokenizer(w->engine), question,
                                     strlen(question), follow_up, &l, NULL),
                     0);
    assert_int_equal(session_feed(w->session, l.ids, (int64_t)l.n, NULL, NULL, NULL), 0);
    token_list_free(&l);
}

static int generate(world *w, bool trace) {
    generate_options o = {
        .max_tokens = 8, .trace = trace, .step = heard_step, .waiting = heard_silence, .user = w};
    return session_generate(w->session, &o, &w->why, &w->err);
}

#define WORLD(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define START(w, models, ...)                                                                                \
    const script_reply replies[] = {__VA_ARGS__};                                                            \
    (w)->server = script_start(replies, sizeof replies / sizeof *replies, models)

#define CHUNK(text)                                                                                          \
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" text "\"},\"finish_reason\":null}]}\n\n"
#define FINISH(why) "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"" why "\"}]}\n\n"
#define USAGE                                                                                                \
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":70,\"completion_tokens\":2,"                         \
    "\"prompt_tokens_details\":{\"cached_tokens\":64}}}\n\n"
#define DONE "data: [DONE]\n\n"
#define GOOD CHUNK("Tw") CHUNK("o \\u00e9.") FINISH("stop") USAGE DONE
#define AT_CHAT .path = "/v1/chat/completions"
#define CHAT AT_CHAT, .status = 200

/* ---- chat ---- */

static json_t *sent(const world *w, int number) {
    return parse_json(script_body(w->server, number));
}

static const char *message(const json_t *body, size_t i, const char *who) {
    const json_t *m = json_array_get(json_object_get(body, "messages"), i);
    assert_string_equal(json_string_value(json_object_get(m, "role")), who);
    return json_string_value(json_object_get(m, "content"));
}

static void chat_sends_messages_and_streams(void **state) {
    world *w = *state;
    for (size_t piece = 0; piece < 40; piece += 13) {
        START(w, MODELS, {CHAT, .body = GOOD, .piece = piece}, {CHAT, .body = GOOD});
        assert_int_equal(open_with(w, (remote_options){.system = "Be true.", .key = "secret-key"}), 0);
        assert_string_equal(engine_model_name(w->engine), "deepseek");
        assert_int_equal(engine_config(w->engine)->max_positions, 1000);
        assert_true(engine_is_remote(w->engine));
        stand(w, "One. Two.");
        feed(w, "How many?", 0);
        assert_int_equal(generate(w, false), 0);
        assert_string_equal(w->text, "Two \xC3\xA9.");
        assert_int_equal(w->why, STOP_EOS);
        assert_int_equal(w->steps, 2);
        generate_usage u;
        assert_true(session_usage(w->session, &u));
        assert_int_equal(u.prompt_tokens, 70);
        assert_int_equal(u.cached_tokens, 64);
        assert_int_equal(u.completion_tokens, 2);
        assert_non_null(
            session_untraced(w->session)); /* no config.json with index_topk? it has one: see below */
        json_t *body = sent(w, 0);
        assert_string_equal(json_string_value(json_object_get(body, "model")), "deepseek");
        assert_true(json_is_true(json_object_get(body, "stream")));
        assert_int_equal(json_integer_value(json_object_get(body, "max_tokens")), 8);
        assert_string_equal(message(body, 0, "system"), "Be true.");
        assert_string_equal(message(body, 1, "user"), "One. Two.How many?");
        assert_int_equal(json_array_size(json_object_get(body, "messages")), 2);
        json_decref(body);
        assert_non_null(strcasestr(script_request(w->server, 0), "\r\nAuthorization: Bearer secret-key\r\n"));
        /* What was answered is part of the conversation. */
        token_list eos = {0};
        assert_int_equal(token_list_push(&eos, engine_prompt(w->engine)->eos, 0, false, NULL), 0);
        assert_int_equal(session_feed(w->session, eos.ids, 1, NULL, NULL, NULL), 0);
        token_list_free(&eos);
        feed(w, "And then?", 1);
        w->text[0] = 0;
        w->steps = 0;
        answer_trace_free(&w->trace);
        assert_int_equal(generate(w, false), 0);
        body = sent(w, 1);
        assert_string_equal(message(body, 2, "assistant"), "Two \xC3\xA9.");
        assert_string_equal(message(body, 3, "user"), "And then?");
        json_decref(body);
        /* Back to the documents: the next question stands on them alone. */
        assert_int_equal(session_rewind(w->session, context_length(w->context), NULL), 0);
        assert_int_equal(session_length(w->session), context_length(w->context));
        session_close(w->session);
        context_close(w->context);
        engine_close(w->engine);
        script_stop(w->server);
        answer_trace_free(&w->trace);
        char *dir = w->dir;
        *w = (world){.dir = dir};
    }
}

/* Only the wanted documents are sent. */
static void restriction_sends_less(void **state) {
    world *w = *state;
    START(w, MODELS, {CHAT, .body = GOOD}, {CHAT, .body = GOOD});
    stand(w, "One. Two. Three.");
    assert_int_equal(session_restrict(w->session, (kern_range[]){{0, 2}, {7, 12}}, 2, NULL), 0);
    feed(w, "How many?", 0);
    assert_int_equal(generate(w, false), 0);
    json_t *body = sent(w, 0);
    assert_string_equal(message(body, 0, "user"), "Two. How many?");
    json_decref(body);
    assert_int_equal(session_restrict(w->session, (kern_range[]){{5, 2}}, 1, NULL), PH_USAGE);
    assert_int_equal(session_restrict(w->session, NULL, 0, NULL), 0);
    assert_int_equal(session_rewind(w->session, context_length(w->context), NULL), 0);
    feed(w, "How many?", 0);
    w->steps = 0;
    answer_trace_free(&w->trace);
    assert_int_equal(generate(w, false), 0);
    body = sent(w, 1);
    assert_string_equal(message(body, 0, "user"), "One. Two. Three.How many?");
    json_decref(body);
}

static void what_is_not_there_is_said(void **state) {
    world *w = *state;
    START(w, MODELS, {CHAT, .body = GOOD});
    stand(w, "x");
    feed(w, "y", 0);
    assert_int_equal(session_index_scores(w->session, 0, NULL, &w->err), PH_UNSUPPORTED);
    assert_null(session_logits(w->session));
    assert_int_equal(engine_context_bytes(w->engine, 1000), 0);
    /* An answer that was begun for it. */
    assert_int_equal(session_feed(w->session, (int32_t[]){'a'}, 1, NULL, NULL, NULL), 0);
    assert_int_equal(generate(w, false), PH_UNSUPPORTED);
    assert_int_equal(script_served(w->server), 0);
    int32_t many[1001] = {0};
    assert_int_equal(session_feed(w->session, many, 1001, NULL, NULL, &w->err), PH_TOO_LARGE);
    assert_non_null(strstr(w->err.text, "1000"));
}

/* ---- opening ---- */

static void opening_says_what_is_wrong(void **state) {
    world *w = *state;
    static const struct {
        const char *models;
        remote_options o;
        int code;
        const char *says;
    } cases[] = {
        {"{\"data\":[]}", {0}, PH_MODEL, "no model"},
        {"{}", {0}, PH_FAIL, "list of models"},
        {"[", {0}, PH_FAIL, "list of models"},
        {"{\"data\":[{\"id\":\"a\",\"max_model_len\":100},{\"id\":\"b\"}]}",
         {0},
         PH_USAGE,
         "--remote-model: a, b"},
        {"{\"data\":[{\"id\":\"a\"}]}", {0}, PH_USAGE, "--remote-context"},
        {"{\"data\":[{\"id\":\"a\"}]}", {.context = 3}, PH_MODEL, "3 tokens"},
        {"{\"data\":[{\"id\":\"a\",\"max_model_len\":99999999999}]}", {0}, PH_MODEL, "cannot be used"},
        {MODELS, {.model = "other"}, PH_NOT_FOUND, "it has deepseek"},
        {MODELS, {.url = "ftp://x/"}, PH_USAGE, "http"},
        {MODELS, {.url = "http://a:b@127.0.0.1:1/"}, PH_USAGE, "user"},
        {MODELS, {.url = "http://127.0.0.1:1/?x=1"}, PH_USAGE, "query"},
        {MODELS, {.url = "http://127.0.0.1:1/ x"}, PH_USAGE, "space"},
        {MODELS, {.url = "http://192.0.2.1/", .key = "k"}, PH_USAGE, "https"},
        {MODELS, {.url = "http://localhost.example/", .key = "k"}, PH_USAGE, "https"},
        {MODELS, {.key = "a\r\nX: y"}, PH_USAGE, "control"},
        {MODELS, {.tokenizer = "/nowhere/at/all"}, PH_NOT_FOUND, "/nowhere"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        w->server = script_start(NULL, 0, cases[i].models);
        w->err = (ph_error){0};
        int code = open_with(w, cases[i].o);
        if (code != cases[i].code || !strstr(w->err.text, cases[i].says))
            fail_msg("case %zu: code %d, %s", i, code, w->err.text);
        assert_null(w->engine);
        script_stop(w->server);
    }
    w->server = script_start(NULL, 0, "{\"data\":[{\"id\":\"a\",\"context_length\":300},{\"id\":\"b\"}]}");
    assert_int_equal(open_with(w, (remote_options){.model = "a"}), 0);
    assert_int_equal(engine_config(w->engine)->max_positions, 300);
}

/* Certificates: a server that speaks plain HTTP where TLS is wanted is an error, not a fallback. */
static void no_tls_is_an_error(void **state) {
    world *w = *state;
    w->server = script_start(NULL, 0, MODELS);
    char url[64];
    snprintf(url, sizeof url, "https://127.0.0.1:%d", script_port(w->server));
    assert_int_equal(open_with(w, (remote_options){.url = url, .key = "k"}), PH_FAIL);
    assert_non_null(strstr(w->err.text, "127.0.0.1"));
}

static void errors_of_the_list(void **state) {
    world *w = *state;
    static const struct {
        script_reply reply;
        int code;
        const char *says;
    } cases[] = {
        {{.status = 401, .type = "application/json", .body = "{\"error\":{\"message\":\"no such key\"}}"},
         PH_USAGE,
         "no such key"},
        {{.status = 404, .type = "text/html", .body = "<html>nothing"}, PH_NOT_FOUND, "404"},
        {{.status = 302, .headers = "Location: http://127.0.0.1:1/\r\n", .body = ""}, PH_FAIL, "redirects"},
        {{.status = 500, .type = "application/json", .body = "{\"detail\":\"broken\"}"}, PH_FAIL, "broken"},
        {{.status = 200, .type = "text/html", .body = "<html>hello"}, PH_FAIL, "no application/json"},
        {{.status = 200, .type = "application/json", .body = "{\"data\":", .end = END_SHORT},
         PH_FAIL,
         "middle"},
        {{.status = 200, .type = "application/json", .body = "{\"data\":", .end = END_RESET},
         PH_FAIL,
         "127.0.0.1"},
        {{.status = 0}, PH_FAIL, "without an answer"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        w->server = script_start(&cases[i].reply, 1, NULL);
        w->err = (ph_error){0};
        int code = open_with(w, (remote_options){0});
        if (code != cases[i].code || !strstr(w->err.text, cases[i].says))
            fail_msg("case %zu: code %d, %s", i, code, w->err.text);
        script_stop(w->server);
    }
    /* Five MiB of a list. */
    char *big = malloc(5 << 20);
    memset(big, ' ', 5 << 20);
    script_reply reply = {.status = 200, .type = "application/json", .body = big, .body_len = 5 << 20};
    w->server = script_start(&reply, 1, NULL);
    assert_int_equal(open_with(w, (remote_options){0}), PH_TOO_LARGE);
    script_stop(w->server);
    /* Nobody there: the port is free again. */
    w->server = script_start(NULL, 0, MODELS);
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d", script_port(w->server));
    script_stop(w->server);
    w->server = NULL;
    double began = now();
    remote_options o = {.url = url, .tokenizer = w->dir, .retries = 3, .backoff_ms = 30};
    assert_int_equal(remote_open(&w->engine, &o, &w->err), PH_BUSY);
    assert_true(now() - began >= 0.03 + 0.06 + 0.12 && now() - began < 3);
    free(big);
}

/* ---- trying again ---- */

static void busy_servers_are_asked_again(void **state) {
    world *w = *state;
    START(w, MODELS,
          {AT_CHAT, .status = 429, .headers = "Retry-After: 1\r\n", .type = "application/json", .body = "{}"},
          {AT_CHAT, .status = 503, .body = ""}, {AT_CHAT, .status = 502, .body = "bad gateway"},
          {CHAT, .body = GOOD});
    stand(w, "One.");
    feed(w, "?", 0);
    double began = now();
    assert_int_equal(generate(w, false), 0);
    assert_string_equal(w->text, "Two \xC3\xA9.");
    assert_int_equal(script_served(w->server), 4);
    assert_int_equal(w->err.code, 0); /* nothing is said of the tries before */
    assert_true(now() - began >= 1.0 && now() - began < 4);
}

static void what_began_is_not_asked_again(void **state) {
    world *w = *state;
    START(w, MODELS, {CHAT, .body = CHUNK("Tw"), .end = END_SHORT}, {CHAT, .body = GOOD});
    stand(w, "One.");
    feed(w, "?", 0);
    assert_int_equal(generate(w, false), PH_FAIL);
    assert_non_null(strstr(w->err.text, "middle"));
    assert_int_equal(script_served(w->server), 1);
}

static void it_gives_up(void **state) {
    world *w = *state;
    START(w, MODELS, {AT_CHAT, .status = 503, .body = "one"}, {AT_CHAT, .status = 503, .body = "two"},
          {AT_CHAT, .status = 503, .type = "application/json",
           .body = "{\"error\":{\"message\":\"still full\"}}"});
    assert_int_equal(open_with(w, (remote_options){.retries = 2}), 0);
    stand(w, "One.");
    feed(w, "?", 0);
    assert_int_equal(generate(w, false), PH_BUSY);
    assert_non_null(strstr(w->err.text, "still full"));
    assert_int_equal(script_served(w->server), 3);
}

/* ---- what goes wrong in the stream ---- */

static void bad_streams_are_errors(void **state) {
    world *w = *state;
    static const struct {
        script_reply reply;
        int code;
        const char *says;
    } cases[] = {
        {{CHAT, .body = CHUNK("Tw"), .end = END_RESET}, PH_FAIL, "127.0.0.1"},
        {{CHAT, .body = CHUNK("Tw")}, PH_FAIL, "ended in the middle"}, /* closed properly, and yet not done */
        {{CHAT, .body = ""}, PH_FAIL, "empty"},
        {{CHAT, .body = "data: {\"choices\":[\n\n" DONE}, PH_FAIL, "no JSON"},
        {{CHAT, .body = "data: [1]\n\n" DONE}, PH_FAIL, "no JSON"},
        {{CHAT, .body = "data: {\"choices\":[7]}\n\n" DONE}, PH_FAIL, "no object"},
        {{CHAT, .body = "\xff\xfe\x00 garbage \x01\x02", .body_len = 14}, PH_FAIL, "ended in the middle"},
        {{CHAT, .body = CHUNK("a") "data: {\"error\":{\"message\":\"out of memory\"}}\n\n"},
         PH_FAIL,
         "out of memory"},
        {{CHAT, .body = CHUNK("a") FINISH("abort")}, PH_FAIL, "abort"},
        {{CHAT, .type = "application/json", .body = "{\"choices\":[]}"}, PH_FAIL, "no text/event-stream"},
        {{AT_CHAT, .status = 400, .type = "application/json",
          .body = "{\"error\":{\"message\":\"This model's maximum context length is 100 tokens, you asked "
                  "for 200\"}}"},
         PH_TOO_LARGE,
         "100 tokens, you asked for 200"},
        {{AT_CHAT, .status = 400, .type = "application/json",
          .body = "{\"error\":{\"message\":\"5 and 4\",\"code\":\"context_length_exceeded\"}}"},
         PH_TOO_LARGE,
         "5 and 4"},
        {{AT_CHAT, .status = 413, .body = "too much"}, PH_TOO_LARGE, "413"},
        {{AT_CHAT, .status = 403, .body = "no"}, PH_USAGE, "no key"},
        {{AT_CHAT, .status = 307, .headers = "Location: /elsewhere\r\n", .body = ""}, PH_FAIL, "redirects"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        w->server = script_start(&cases[i].reply, 1, MODELS);
        stand(w, "One.");
        feed(w, "?", 0);
        w->err = (ph_error){0};
        int code = generate(w, false);
        if (code != cases[i].code || !strstr(w->err.text, cases[i].says))
            fail_msg("case %zu: code %d, %s", i, code, w->err.text);
        generate_usage u;
        assert_false(session_usage(w->session, &u));
        session_close(w->session);
        context_close(w->context);
        engine_close(w->engine);
        script_stop(w->server);
        answer_trace_free(&w->trace);
        char *dir = w->dir;
        *w = (world){.dir = dir};
    }
}

/* A thought that the server tells apart is no answer; the prompt that ends in <think> asks for one. */
static void thoughts_are_no_answers(void **state) {
    world *w = *state;
    START(
        w, MODELS,
        {CHAT, .body = "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"Let me see. \"}}]}\n\n" GOOD},
        {CHAT, .body = GOOD});
    stand(w, "One. Two.");
    feed(w, "How many?", 0);
    assert_int_equal(generate(w, false), 0);
    assert_string_equal(w->thought, "Let me see. ");
    assert_string_equal(w->text, "Two \xC3\xA9.");
    json_t *body = sent(w, 0);
    assert_null(json_object_get(body, "chat_template_kwargs"));
    json_decref(body);
    if (engine_prompt(w->engine)->think_begin < 0) return; /* this tokenizer has no thinking mode */
    assert_int_equal(session_rewind(w->session, context_length(w->context), NULL), 0);
    feed(w, "How many?", PROMPT_THINKING);
    w->steps = 0;
    answer_trace_free(&w->trace);
    generate_options o = {.max_tokens = 8, .max_thinking = 20, .step = heard_step, .user = w};
    assert_int_equal(session_generate(w->session, &o, &w->why, &w->err), 0);
    body = sent(w, 1);
    assert_true(json_is_true(json_object_get(json_object_get(body, "chat_template_kwargs"), "thinking")));
    assert_int_equal(json_integer_value(json_object_get(body, "max_tokens")), 28);
    assert_string_equal(message(body, 0, "user"), "One. Two.How many?");
    json_decref(body);
}

static void long_answers_end_as_cut_off(void **state) {
    world *w = *state;
    START(w, MODELS, {CHAT, .body = CHUNK("a") FINISH("length") DONE});
    stand(w, "One.");
    feed(w, "?", 0);
    assert_int_equal(generate(w, false), 0);
    assert_int_equal(w->why, STOP_LENGTH);
}

static void silence_ends(void **state) {
    world *w = *state;
    START(w, MODELS, {CHAT, .body = CHUNK("a"), .end = END_NEVER});
    assert_int_equal(open_with(w, (remote_options){.idle_ms = 300}), 0);
    stand(w, "One.");
    feed(w, "?", 0);
    double began = now();
    assert_int_equal(generate(w, false), PH_FAIL);
    assert_non_null(strstr(w->err.text, "silent"));
    assert_true(now() - began >= 0.3 && now() - began < 3);
    assert_true(script_left(w->server, 2));
}

/* Told to stop, the connection goes: a server that notices computes no further. */
static void stopping_stops_at_once(void **state) {
    world *w = *state;
    START(w, MODELS, {AT_CHAT, .status = 0, .end = END_NEVER});
    stand(w, "One.");
    feed(w, "?", 0);
    w->stop_waiting_after = 3;
    double began = now();
    assert_int_equal(generate(w, false), 0);
    assert_int_equal(w->why, STOP_CALLBACK);
    assert_true(now() - began < 1);
    assert_true(script_left(w->server, 1));
}

static void stopping_in_the_midst(void **state) {
    world *w = *state;
    START(w, MODELS, {CHAT, .body = CHUNK("a") CHUNK("b") CHUNK("c"), .end = END_NEVER});
    stand(w, "One.");
    feed(w, "?", 0);
    w->stop_after = 2;
    assert_int_equal(generate(w, false), 0);
    assert_int_equal(w->why, STOP_CALLBACK);
    assert_string_equal(w->text, "ab");
    assert_true(script_left(w->server, 1));
}

static void stopping_while_waiting_to_ask_again(void **state) {
    world *w = *state;
    START(w, MODELS, {AT_CHAT, .status = 503, .headers = "Retry-After: 50\r\n", .body = ""});
    stand(w, "One.");
    feed(w, "?", 0);
    w->stop_waiting_after = 4;
    double began = now();
    assert_int_equal(generate(w, false), 0);
    assert_int_equal(w->why, STOP_CALLBACK);
    assert_true(now() - began < 2);
}

/* ---- SGLang's selection ---- */

enum { LAYERS = TINY_LAYERS };

/* An exchange in SGLang's form. The prompt of n tokens and the answer "hi" and EOS; a row for each but the
 * last; row r selects the k positions before it, with `odd` put into the row that predicts 'i'. */
typedef struct exchange {
    char *body;
    int k;
} exchange;

static int topk_of(const world *w) {
    size_t n;
    char path[512];
    snprintf(path, sizeof path, "%s/config.json", w->dir);
    char *text = read_whole(path, &n);
    json_t *c = parse_json(text);
    int k = (int)json_integer_value(json_object_get(c, "index_topk"));
    assert_int_equal(json_integer_value(json_object_get(c, "num_hidden_layers")), LAYERS);
    json_decref(c);
    free(text);
    return k;
}

typedef enum fault { SOUND, FUTURE, TWICE, SHORT_BY_A_ROW, BAD_BASE64, NONE_SENT, NOT_CLOSED } fault;

static char *exchange_of(const world *w, int n, bool cumulative, fault f) {
    int k = topk_of(w), rows = n + 2;
    size_t values = (size_t)rows * LAYERS * (size_t)k;
    int32_t *v = malloc(values * sizeof *v);
    for (int r = 0; r < rows; r++)
        for (int l = 0; l < LAYERS; l++)
            for (int i = 0; i < k; i++)
                v[((size_t)r * LAYERS + (size_t)l) * (size_t)k + (size_t)i] = r - i - l >= 0 ? r - i - l : -1;
    int32_t *one = v + ((size_t)n * LAYERS) * (size_t)k; /* row n, layer 0: predicts 'i' */
    if (f == FUTURE) one[0] = n + 1;
    if (f == TWICE) one[0] = one[1];
    if (f == SHORT_BY_A_ROW) values -= (size_t)LAYERS * (size_t)k;
    char *text = base64_of(v, values), *body = NULL;
    if (f == BAD_BASE64) text[5] = '*';
    int len = asprintf(&body,
                       "data: "
                       "{\"text\":\"h\",\"output_ids\":[%d],\"meta_info\":{\"id\":\"x\",\"finish_reason\":"
                       "null,\"prompt_tokens\":%d,"
                       "\"completion_tokens\":1,\"cached_tokens\":%d}}\n\n"
                       "data: "
                       "{\"text\":\"hi\",\"output_ids\":[%s%d,%d],\"meta_info\":{\"finish_reason\":{\"type\":"
                       "\"stop\",\"matched\":%d},"
                       "\"prompt_tokens\":%d,\"completion_tokens\":3,\"cached_tokens\":%d%s%s%s}}\n\n%s",
                       'h', n, n - 2, cumulative ? "104," : "", 'i', TINY_EOS, TINY_EOS, n, n - 2,
                       f == NONE_SENT ? "" : ",\"indexer_topk\":\"", f == NONE_SENT ? "" : text,
                       f == NONE_SENT ? "" : "\"", f == NOT_CLOSED ? "" : DONE);
    assert_true(len > 0);
    free(text);
    free(v);
    return body;
}

static const trace_entry *kept(const world *w, int token, int layer) {
    return w->trace.entries + ((size_t)token * LAYERS + (size_t)layer) * (size_t)w->trace.keep;
}

static bool keeps(const world *w, int token, int layer, int position) {
    for (int i = 0; i < w->trace.keep; i++)
        if (kept(w, token, layer)[i].position == position) return true;
    return false;
}

static void selection_becomes_a_trace(void **state) {
    world *w = *state;
    /* BOS USER "One. Two." + "?" ASSISTANT </think> = 14 tokens, and 3 of the system text behind BOS. */
    enum { OURS = 2 + 9 + 1 + 2, SYSTEM = 3 };
    for (int cumulative = 0; cumulative < 2; cumulative++) {
        char *body = exchange_of(w, OURS + SYSTEM, cumulative, cumulative ? NOT_CLOSED : SOUND);
        START(w, MODELS, {.path = "/generate", .status = 200, .body = body, .piece = cumulative ? 11 : 0});
        assert_int_equal(open_with(w, (remote_options){.system = "Sys"}), 0);
        stand(w, "One. Two.");
        feed(w, "?", 0);
        if (generate(w, true)) fail_msg("%s", w->err.text);
        if (session_untraced(w->session)) fail_msg("%s", session_untraced(w->session));
        assert_string_equal(w->text, "hi");
        assert_int_equal(w->steps, 2);
        assert_int_equal(w->late, 2);
        assert_true(w->trace.selection_only);
        assert_int_equal(w->trace.layers, LAYERS);
        /* What was sent: tokens, with the system text behind the first. */
        json_t *sent_body = sent(w, 0), *ids = json_object_get(sent_body, "input_ids");
        assert_int_equal(json_array_size(ids), OURS + SYSTEM);
        assert_int_equal(json_integer_value(json_array_get(ids, 0)), TINY_BOS);
        assert_int_equal(json_integer_value(json_array_get(ids, 1)), 'S');
        assert_int_equal(json_integer_value(json_array_get(ids, 4)), TINY_USER);
        assert_true(json_is_true(json_object_get(sent_body, "return_indexer_topk")));
        json_decref(sent_body);
        /* The first token was predicted by the last of the prompt, server position 16 = ours 13, and so on;
         * the system text's positions are nobody's, and the BOS is itself. */
        int k = topk_of(w);
        for (int token = 0; token < 2; token++)
            for (int l = 0; l < LAYERS; l++) {
                int row = OURS + SYSTEM - 1 + token, selected = 0;
                for (int i = 0; i < k; i++) {
                    int server = row - i - l;
                    if (server < 0) continue;
                    int ours = server == 0 ? 0 : server <= SYSTEM ? -1 : server - SYSTEM;
                    if (ours < 0) continue;
                    selected++;
                    if (!keeps(w, token, l, ours))
                        fail_msg("token %d layer %d does not keep %d", token, l, ours);
                }
                assert_int_equal(w->trace.selected[token * LAYERS + l], selected);
                assert_true(kept(w, token, l)[0].mass > 0 && isnan(kept(w, token, l)[0].score));
            }
        generate_usage u;
        assert_true(session_usage(w->session, &u));
        assert_int_equal(u.prompt_tokens, OURS + SYSTEM);
        assert_int_equal(u.cached_tokens, OURS + SYSTEM - 2);
        /* The answer's two tokens are in the tail now. */
        assert_int_equal(session_length(w->session), OURS + 2);
        /* As a blob it stays what it is. */
        void *blob;
        size_t len;
        answer_trace back;
        assert_int_equal(answer_trace_pack(&w->trace, &blob, &len, NULL), 0);
        assert_int_equal(answer_trace_unpack(&back, blob, len, NULL), 0);
        assert_true(back.selection_only);
        answer_trace_free(&back);
        free(blob);
        session_close(w->session);
        context_close(w->context);
        engine_close(w->engine);
        script_stop(w->server);
        answer_trace_free(&w->trace);
        free(body);
        char *dir = w->dir;
        *w = (world){.dir = dir};
    }
}

/* A restriction moves positions too: what was not sent is not there. */
static void selection_of_a_part(void **state) {
    world *w = *state;
    enum { SENT = 2 + 5 + 1 + 2 }; /* BOS USER "Two. " "?" ASSISTANT </think> */
    char *body = exchange_of(w, SENT, false, SOUND);
    START(w, MODELS, {.path = "/generate", .status = 200, .body = body});
    stand(w, "One. Two. Three.");
    assert_int_equal(session_restrict(w->session, (kern_range[]){{0, 2}, {7, 12}}, 2, NULL), 0);
    feed(w, "?", 0);
    assert_int_equal(generate(w, true), 0);
    assert_null(session_untraced(w->session));
    for (int p = 2; p < 7; p++) assert_false(keeps(w, 0, 0, p));
    for (int p = 12; p < 18; p++) assert_false(keeps(w, 0, 0, p));
    for (int p = 7; p < 12; p++) assert_true(keeps(w, 0, 0, p)); /* k is 8 at least, and these are near */
    free(body);
}

/* Whatever is wrong with a selection, the answer stands; that there is no trace is said with the reason. */
static void bad_selections_are_no_traces(void **state) {
    world *w = *state;
    static const struct {
        fault fault;
        const char *says;
    } cases[] = {{FUTURE, "no position before"},
                 {TWICE, "twice"},
                 {SHORT_BY_A_ROW, "positions: not those"},
                 {BAD_BASE64, "base64"},
                 {NONE_SENT, "--enable-return-indexer-topk"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *body = exchange_of(w, 14, true, cases[i].fault);
        START(w, MODELS, {.path = "/generate", .status = 200, .body = body});
        stand(w, "One. Two.");
        feed(w, "?", 0);
        if (generate(w, true)) fail_msg("%s", w->err.text);
        assert_string_equal(w->text, "hi");
        assert_int_equal(w->late, 0);
        if (!session_untraced(w->session) || !strstr(session_untraced(w->session), cases[i].says))
            fail_msg("case %zu: %s", i,
                     session_untraced(w->session) ? session_untraced(w->session) : "(a trace)");
        session_close(w->session);
        context_close(w->context);
        engine_close(w->engine);
        script_stop(w->server);
        answer_trace_free(&w->trace);
        free(body);
        char *dir = w->dir;
        *w = (world){.dir = dir};
    }
}

static void native_streams_are_checked(void **state) {
    world *w = *state;
    static const struct {
        const char *body, *says;
        script_end end;
    } cases[] = {
        {"data: {\"text\":\"h\",\"output_ids\":[104]}\n\n", "meta_info", END_WELL},
        {"data: {\"output_ids\":[104],\"meta_info\":{\"completion_tokens\":5}}\n\n", "add up", END_WELL},
        {"data: {\"output_ids\":[-4],\"meta_info\":{\"completion_tokens\":1}}\n\n", "no number", END_WELL},
        {"data: {\"output_ids\":[99999999],\"meta_info\":{\"completion_tokens\":1}}\n\n", "does not have",
         END_WELL},
        {"data: {\"output_ids\":[104],\"meta_info\":{\"completion_tokens\":1}}\n\n", "middle", END_SHORT},
        {"data: {\"output_ids\":[104],\"meta_info\":{\"completion_tokens\":1,\"indexer_topk\":\"AAAA",
         "middle", END_SHORT},
        {"data: {\"error\":{\"message\":\"aborted\"}}\n\n", "aborted", END_WELL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        START(w, MODELS, {.path = "/generate", .status = 200, .body = cases[i].body, .end = cases[i].end});
        stand(w, "One. Two.");
        feed(w, "?", 0);
        w->err = (ph_error){0};
        int code = generate(w, true);
        if (code != PH_FAIL || !strstr(w->err.text, cases[i].says))
            fail_msg("case %zu: %d, %s", i, code, w->err.text);
        session_close(w->session);
        context_close(w->context);
        engine_close(w->engine);
        script_stop(w->server);
        answer_trace_free(&w->trace);
        char *dir = w->dir;
        *w = (world){.dir = dir};
    }
}

/* A server without /generate is asked as any other, and not tried twice. */
static void other_servers_give_no_trace(void **state) {
    world *w = *state;
    START(w, MODELS, {.path = "/generate", .status = 404, .body = "{\"detail\":\"Not Found\"}"},
          {CHAT, .body = GOOD}, {CHAT, .body = GOOD});
    stand(w, "One. Two.");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(session_rewind(w->session, context_length(w->context), NULL), 0);
        feed(w, "?", 0);
        w->steps = 0;
        answer_trace_free(&w->trace);
        assert_int_equal(generate(w, true), 0);
        assert_non_null(strstr(session_untraced(w->session), "/generate"));
    }
}

/* With the embedded model's tokenizer tokens are counted, and where the server's stand is not known. */
static void another_tokenizer_gives_no_trace(void **state) {
    world *w = *state;
    START(w, MODELS, {CHAT, .body = GOOD});
    size_t n;
    char path[512];
    snprintf(path, sizeof path, "%s/tokenizer.json", w->dir);
    char *text = read_whole(path, &n);
    engine_files files = {.tokenizer = text, .tokenizer_len = n};
    assert_int_equal(open_with(w, (remote_options){.files = &files}), 0);
    stand(w, "One. Two.");
    feed(w, "?", 0);
    assert_int_equal(generate(w, true), 0);
    assert_int_equal(w->late, 0);
    assert_non_null(strstr(session_untraced(w->session), "--tokenizer"));
    free(text);
}

/* A selection that would be too large is not asked for. */
static void large_selections_are_not_asked_for(void **state) {
    world *w = *state;
    START(w, MODELS, {CHAT, .body = GOOD});
    assert_int_equal(open_with(w, (remote_options){.trace_bytes = 100}), 0);
    stand(w, "One. Two.");
    feed(w, "?", 0);
    assert_int_equal(generate(w, true), 0);
    assert_non_null(strstr(session_untraced(w->session), "--trace-limit"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(selection_decodes),
        cmocka_unit_test(selection_refuses),
        cmocka_unit_test(stream_takes_events_apart),
        cmocka_unit_test(stream_is_bounded),
        WORLD(chat_sends_messages_and_streams),
        WORLD(restriction_sends_less),
        WORLD(what_is_not_there_is_said),
        WORLD(opening_says_what_is_wrong),
        WORLD(no_tls_is_an_error),
        WORLD(errors_of_the_list),
        WORLD(busy_servers_are_asked_again),
        WORLD(what_began_is_not_asked_again),
        WORLD(it_gives_up),
        WORLD(bad_streams_are_errors),
        WORLD(thoughts_are_no_answers),
        WORLD(long_answers_end_as_cut_off),
        WORLD(silence_ends),
        WORLD(stopping_stops_at_once),
        WORLD(stopping_in_the_midst),
        WORLD(stopping_while_waiting_to_ask_again),
        WORLD(selection_becomes_a_trace),
        WORLD(selection_of_a_part),
        WORLD(bad_selections_are_no_traces),
        WORLD(native_streams_are_checked),
        WORLD(other_servers_give_no_trace),
        WORLD(another_tokenizer_gives_no_trace),
        WORLD(large_selections_are_not_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
