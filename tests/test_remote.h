/* test_remote.h - for the tests of a model that is served elsewhere: an engine on top of a server that keeps
 * to a script. The model's tokens are bytes (tiny_model.h), so that every position can be told by hand. */
#ifndef PHAROS_TEST_REMOTE_H
#define PHAROS_TEST_REMOTE_H

#include "appliance/read_set.h"
#include "engine/remote.h"
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

#include <cmocka.h>

#define MODELS                                                                                               \
    "{\"object\":\"list\",\"data\":[{\"id\":\"deepseek\",\"object\":\"model\",\"max_model_len\":1000}]}"

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

static inline int set_up(void **state) {
    world *w = *state = calloc(1, sizeof *w);
    w->dir = make_folder();
    return tiny_model_write(w->dir, &(tiny_options){.seed = 1});
}

/* Everything but the folder is as at the beginning. */
static inline void begin_again(world *w) {
    session_close(w->session);
    context_close(w->context);
    engine_close(w->engine);
    if (w->server) script_stop(w->server);
    answer_trace_free(&w->trace);
    *w = (world){.dir = w->dir};
}

static inline int tear_down(void **state) {
    world *w = *state;
    begin_again(w);
    remove_folder(w->dir);
    free(w);
    return 0;
}

static inline int open_with(world *w, remote_options o) {
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1/", script_port(w->server));
    if (!o.url) o.url = url;
    if (!o.tokenizer && !o.files) o.tokenizer = w->dir;
    if (!o.backoff_ms) o.backoff_ms = 20;
    return remote_open(&w->engine, &o, &w->err);
}

static inline int heard_step(void *user, const generate_step *step) {
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

static inline int heard_silence(void *user) {
    world *w = user;
    return ++w->waits == w->stop_waiting_after;
}

/* The documents, and a question on top. */
static inline void stand(world *w, const char *documents) {
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

static inline void feed(world *w, const char *question, int follow_up) {
    token_list l = {0};
    assert_int_equal(prompt_question(engine_prompt(w->engine), engine_tokenizer(w->engine), question,
                                     strlen(question), follow_up, &l, NULL),
                     0);
    assert_int_equal(session_feed(w->session, l.ids, (int64_t)l.n, NULL, NULL, NULL), 0);
    token_list_free(&l);
}

static inline int generate(world *w, bool trace) {
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

static inline json_t *sent(const world *w, int number) {
    return parse_json(script_body(w->server, number));
}

#endif
