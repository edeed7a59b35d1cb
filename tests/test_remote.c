/* test_remote.c - the engine whose model is served elsewhere: what is sent, what is made of what comes, and what
 * happens when it goes wrong. */
#include "tests/test_remote.h"

#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- chat ---- */

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
        begin_again(w);
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
        begin_again(w);
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

int main(void) {
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
