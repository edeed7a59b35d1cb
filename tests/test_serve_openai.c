/* test_serve_openai.c - the endpoints that tools of others speak, from end to end on a tiny model: what is
 * understood, what is streamed, and what is refused instead of ignored. */
#include "tests/test_serve.h"

#include <ctype.h>

static void openai_models(void **state) {
    world *w = *state;
    json_t *v = GET_JSON(w, "/v1/models"), *m = json_array_get(json_object_get(v, "data"), 0);
    assert_string_equal(text_of(v, "object"), "list");
    assert_string_equal(text_of(m, "object"), "model");
    assert_int_equal(integer_of(m, "context_length"), 4096);
    assert_int_equal(json_array_size(json_object_get(v, "data")), 2);
    assert_non_null(strstr(text_of(json_array_get(json_object_get(v, "data"), 1), "id"), "-plain"));
    json_decref(v);
}

/* A request's JSON with this server's model; good until the next. */
static const char *chat(world *w, const char *rest) {
    static char body[8192];
    json_t *v = GET_JSON(w, "/v1/models");
    snprintf(body, sizeof body, "{\"model\":\"%s\",%s}",
             text_of(json_array_get(json_object_get(v, "data"), 0), "id"), rest);
    json_decref(v);
    return body;
}

#define USER "\"messages\":[{\"role\":\"user\",\"content\":\"How high?\"}]"

static void openai_chat(void **state) {
    world *w = *state;
    document_becomes(w, add_document(w, "light.txt", LIGHTHOUSE), "ready");
    json_t *v = POST_JSON(
        w, "/v1/chat/completions",
        chat(w,
             "\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\"},{\"role\":\"user\",\"content\":"
             "\"Hello\"},{\"role\":\"assistant\",\"content\":\"Hello.\"},{\"role\":\"user\",\"content\":[{"
             "\"type\":\"text\",\"text\":\"How high?\"}]}],\"max_tokens\":6,\"user\":\"x\""),
        200);
    assert_string_equal(text_of(v, "object"), "chat.completion");
    json_t *choice = json_array_get(json_object_get(v, "choices"), 0),
           *message = json_object_get(choice, "message");
    assert_string_equal(text_of(message, "role"), "assistant");
    assert_true(json_is_string(json_object_get(message, "content")));
    assert_true(json_is_array(json_object_get(message, "citations")));
    const char *finish = text_of(choice, "finish_reason");
    assert_true(!strcmp(finish, "length") || !strcmp(finish, "stop"));
    json_t *usage = json_object_get(v, "usage");
    assert_int_equal(integer_of(usage, "total_tokens"),
                     integer_of(usage, "prompt_tokens") + integer_of(usage, "completion_tokens"));
    assert_true(integer_of(json_object_get(usage, "prompt_tokens_details"), "cached_tokens") > 0);
    assert_int_equal(integer_of(json_object_get(v, "pharos"), "ignored_messages"), 1); /* the system's */
    int64_t id = integer_of(json_object_get(v, "pharos"), "answer_id");
    json_decref(v);
    char path[64];
    snprintf(path, sizeof path, "/api/v1/answers/%lld", (long long)id);
    v = GET_JSON(w, path);
    assert_string_equal(text_of(v, "question"), "How high?");
    json_decref(v);
}

/* How many tokens a text takes by this world's model. */
static int64_t tokens_of(world *w, const char *text) {
    tokenizer *t = NULL;
    token_list l = {0};
    assert_int_equal(tokenizer_load(&t, w->model, NULL), 0);
    assert_int_equal(tokenizer_encode(t, text, strlen(text), 0, 0, &l, NULL), 0);
    int64_t n = (int64_t)l.n;
    token_list_free(&l);
    tokenizer_close(t);
    return n;
}

static int64_t prompt_of(world *w, const char *messages, int *ignored) {
    char rest[2048];
    snprintf(rest, sizeof rest, "\"messages\":[%s],\"max_tokens\":6", messages);
    json_t *v = POST_JSON(w, "/v1/chat/completions", chat(w, rest), 200);
    int64_t n = integer_of(json_object_get(v, "usage"), "prompt_tokens");
    *ignored = (int)integer_of(json_object_get(v, "pharos"), "ignored_messages");
    json_decref(v);
    return n;
}

#define SAID(who, text) "{\"role\":\"" who "\",\"content\":\"" text "\"}"

/* Earlier turns stand in the prompt as the release encodes them: each with its text and the four tokens
 * around. */
static void openai_turns(void **state) {
    world *w = *state;
    document_becomes(w, add_document(w, "light.txt", LIGHTHOUSE), "ready");
    int ignored = -1;
    int64_t alone = prompt_of(w, SAID("user", "And when?"), &ignored);
    assert_int_equal(ignored, 0);
    static const char one[] = SAID("user", "Who built it?") "," SAID("assistant", "Sostratus."),
                      two[] = SAID("user", "Where?") "," SAID("assistant", "On an island.");
    int64_t first = tokens_of(w, "Who built it?") + tokens_of(w, "Sostratus.") + 4;
    int64_t second = tokens_of(w, "Where?") + tokens_of(w, "On an island.") + 4;
    char messages[1024];
    snprintf(messages, sizeof messages, "%s,%s", one, SAID("user", "And when?"));
    assert_int_equal(prompt_of(w, messages, &ignored), alone + first);
    assert_int_equal(ignored, 0);
    snprintf(messages, sizeof messages, "%s,%s,%s,%s", SAID("system", "Be brief."), one, two,
             SAID("user", "And when?"));
    assert_int_equal(prompt_of(w, messages, &ignored), alone + first + second);
    assert_int_equal(ignored, 1);
    /* A question that nobody answered is no turn. */
    snprintf(messages, sizeof messages, "%s,%s", SAID("user", "Hm?"), SAID("user", "And when?"));
    assert_int_equal(prompt_of(w, messages, &ignored), alone);
    assert_int_equal(ignored, 1);
    /* The model's own word last: nothing is asked. */
    json_t *v = POST_JSON(w, "/v1/chat/completions",
                          chat(w, "\"messages\":[" SAID("user", "x") "," SAID("assistant", "y") "]"), 400);
    json_decref(v);
}

typedef struct written {
    char text[512];
} written;

static int hear_step(void *user, const generate_step *step) {
    written *x = user;
    strncat(x->text, step->piece, step->piece_len);
    return 0;
}

/* The model itself writes the same to the same tokens; and what was read before is not read again. */
static void openai_plain(void **state) {
    world *w = *state;
    engine *e = NULL;
    context *c = NULL;
    session *s = NULL;
    written want = {""};
    ph_error err = {0};
    if (open_tiny(w->model, &e, &err)) fail_msg("%s", err.text);
    token_list l = {0};
    const prompt_tokens *p = engine_prompt(e);
    assert_int_equal(prompt_begin(p, &l, &err), 0);
    assert_int_equal(prompt_question(p, engine_tokenizer(e), LIGHTHOUSE, strlen(LIGHTHOUSE), 0, &l, &err), 0);
    assert_int_equal(context_open(&c, e, NULL, 0, NULL, &err), 0);
    assert_int_equal(session_open(&s, c, &err), 0);
    assert_int_equal(session_feed(s, l.ids, (int64_t)l.n, NULL, NULL, &err), 0);
    generate_options o = {.max_tokens = 8, .step = hear_step, .user = &want};
    assert_int_equal(session_generate(s, &o, NULL, &err), 0);
    session_close(s);
    context_close(c);
    for (int again = 0; again < 2; again++) {
        json_t *body =
            json_pack("{s:o, s:[{s:s, s:s}], s:i}", "model", json_sprintf("%s-plain", engine_model_name(e)),
                      "messages", "role", "user", "content", LIGHTHOUSE, "max_tokens", 8);
        char *text = json_dumps(body, 0);
        json_t *v = POST_JSON(w, "/v1/chat/completions", text, 200);
        json_t *message = json_object_get(json_array_get(json_object_get(v, "choices"), 0), "message");
        assert_string_equal(text_of(message, "content"), want.text);
        assert_int_equal(json_array_size(json_object_get(message, "citations")), 0);
        json_t *usage = json_object_get(v, "usage");
        assert_int_equal(integer_of(usage, "prompt_tokens"), l.n);
        assert_int_equal(integer_of(json_object_get(usage, "prompt_tokens_details"), "cached_tokens"),
                         again ? l.n - 2 : 0);
        json_decref(v);
        json_decref(body);
        free(text);
    }
    /* It has no documents, and says so where one is named; what does not fit is refused with both sizes. */
    char *long_one = long_text(40000), *body = NULL;
    json_t *v = json_pack("{s:o, s:[{s:s, s:s}]}", "model", json_sprintf("%s-plain", engine_model_name(e)),
                          "messages", "role", "user", "content", long_one);
    body = json_dumps(v, 0);
    json_decref(v);
    v = POST_JSON(w, "/v1/chat/completions", body, 400);
    assert_string_equal(text_of(json_object_get(v, "error"), "code"), "context_length_exceeded");
    assert_non_null(strstr(text_of(json_object_get(v, "error"), "message"), "4096"));
    json_decref(v);
    free(body);
    free(long_one);
    token_list_free(&l);
    engine_close(e);
}

typedef struct chunks {
    int n, roles, finishes, usages, dones, citations;
    char text[2048];
} chunks;

static void hear_chunk(const char *name, const json_t *v, void *user) {
    chunks *c = user;
    assert_int_equal(c->dones, 0); /* nothing after it */
    if (!v) {
        assert_string_equal(name, "[DONE]");
        c->dones++;
        return;
    }
    c->n++;
    assert_string_equal(text_of(v, "object"), "chat.completion.chunk");
    json_t *choice = json_array_get(json_object_get(v, "choices"), 0),
           *delta = json_object_get(choice, "delta");
    if (json_object_get(delta, "role")) {
        assert_int_equal(c->n, 1);
        c->roles++;
    }
    if (json_object_get(delta, "content")) strncat(c->text, text_of(delta, "content"), 1000);
    c->citations += json_is_array(json_object_get(delta, "citations"));
    c->finishes += json_is_string(json_object_get(choice, "finish_reason"));
    if (json_is_object(json_object_get(v, "usage"))) {
        assert_int_equal(json_array_size(json_object_get(v, "choices")), 0);
        assert_int_equal(c->finishes, 1);
        c->usages++;
    }
}

static void openai_stream(void **state) {
    world *w = *state;
    document_becomes(w, add_document(w, "light.txt", LIGHTHOUSE), "ready");
    for (int usage = 0; usage < 2; usage++) {
        chunks c = {0};
        reply r =
            SEND(w, .method = "POST", .path = "/v1/chat/completions",
                 .json = chat(
                     w, usage ? USER
                            ",\"stream\":true,\"max_tokens\":6,\"stream_options\":{\"include_usage\":true}"
                              : USER ",\"stream\":true,\"max_tokens\":6"));
        assert_int_equal(r.status, 200);
        each_event(r.body, hear_chunk, &c);
        assert_int_equal(c.roles, 1);
        assert_int_equal(c.finishes, 1);
        assert_int_equal(c.citations, 1);
        assert_int_equal(c.dones, 1);
        assert_int_equal(c.usages, usage);
        reply_free(&r);
    }
}

/* The text of the first choice, said at once. Owned; *finish is good until the next call. */
static char *said(world *w, const char *request, char finish[16]) {
    json_t *v = POST_JSON(w, "/v1/chat/completions", request, 200);
    json_t *choice = json_array_get(json_object_get(v, "choices"), 0);
    char *text = strdup(text_of(json_object_get(choice, "message"), "content"));
    snprintf(finish, 16, "%s", text_of(choice, "finish_reason"));
    json_decref(v);
    return text;
}

/* Where an answer ends that was told a text of its own to end at: before it, streamed or not. */
static void openai_stop(void **state) {
    world *w = *state;
    document_becomes(w, add_document(w, "light.txt", LIGHTHOUSE), "ready");
    json_t *models = GET_JSON(w, "/v1/models");
    for (size_t which = 0; which < 2; which++) {
        const char *model = text_of(json_array_get(json_object_get(models, "data"), which), "id");
        char body[1024], finish[16], end[3] = "";
        snprintf(body, sizeof body, "{\"model\":\"%s\"," USER ",\"max_tokens\":40}", model);
        char *whole = said(w, body, finish);
        assert_string_equal(finish, "length");
        for (const char *at = whole + 1; at[0] && at[1] && !end[0]; at++)
            if (isalnum((unsigned char)at[0]) && isalnum((unsigned char)at[1])) snprintf(end, 3, "%s", at);
        assert_int_equal(strlen(end), 2);
        size_t n = (size_t)(strstr(whole, end) - whole);
        snprintf(body, sizeof body,
                 "{\"model\":\"%s\"," USER ",\"max_tokens\":40,\"stop\":[\"nowhere in it\",\"%s\"]}", model, end);
        char *cut = said(w, body, finish);
        assert_string_equal(finish, "stop");
        assert_int_equal(strlen(cut), n);
        assert_memory_equal(cut, whole, n);
        snprintf(body, sizeof body,
                 "{\"model\":\"%s\"," USER ",\"max_tokens\":40,\"stop\":\"%s\",\"stream\":true}", model, end);
        chunks c = {0};
        reply r = SEND(w, .method = "POST", .path = "/v1/chat/completions", .json = body);
        assert_int_equal(r.status, 200);
        each_event(r.body, hear_chunk, &c);
        assert_string_equal(c.text, cut);
        reply_free(&r);
        free(whole);
        free(cut);
    }
    json_decref(models);
}

static void openai_errors(void **state) {
    world *w = *state;
    static const struct {
        const char *rest, *code;
    } cases[] = {{"\"messages\":[]", "bad_request"},
                 {"\"messages\":[{\"role\":\"system\",\"content\":\"x\"}]", "bad_request"},
                 {"\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]", "bad_request"},
                 {USER ",\"n\":2", "unsupported_parameter"},
                 {USER ",\"tools\":[{}]", "unsupported_parameter"},
                 {USER ",\"stop\":\"\"", "bad_request"},
                 {USER ",\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\"]", "bad_request"},
                 {USER ",\"stop\":[1]", "bad_request"},
                 {USER ",\"logprobs\":true", "unsupported_parameter"},
                 {USER ",\"response_format\":{\"type\":\"json_object\"}", "unsupported_parameter"},
                 {USER ",\"max_tokens\":-1", "bad_request"},
                 {USER ",\"temperature\":\"hot\"", "bad_request"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *v = POST_JSON(w, "/v1/chat/completions", chat(w, cases[i].rest), 400);
        json_t *e = json_object_get(v, "error");
        assert_string_equal(text_of(e, "code"), cases[i].code);
        assert_string_equal(text_of(e, "type"), "invalid_request_error");
        assert_true(json_is_null(json_object_get(e, "param")));
        json_decref(v);
    }
    json_t *v = POST_JSON(w, "/v1/chat/completions", "{\"model\":\"gpt-4\"," USER "}", 404);
    assert_string_equal(text_of(json_object_get(v, "error"), "code"), "model_not_found");
    json_decref(v);
    expect_refused(SEND(w, .method = "GET", .path = "/v1/completions"), 404, "not ours");

    /* A question that does not fit: both sizes, nothing cut. */
    add_document(w, "light.txt", LIGHTHOUSE);
    char *body = malloc(9000);
    strcpy(body, USER);
    strcpy(strstr(body, "How high?"), "");
    size_t at = strlen(body);
    memset(body + at, 'q', 5000);
    strcpy(body + at + 5000, "\"}]");
    v = POST_JSON(w, "/v1/chat/completions", chat(w, body), 400);
    json_t *e = json_object_get(v, "error");
    assert_string_equal(text_of(e, "code"), "context_length_exceeded");
    assert_non_null(strpbrk(text_of(e, "message"), "0123456789"));
    json_decref(v);
    free(body);
}
int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        IN_A_WORLD(openai_models), IN_A_WORLD(openai_chat),   IN_A_WORLD(openai_turns),
        IN_A_WORLD(openai_plain),  IN_A_WORLD(openai_stream), IN_A_WORLD(openai_errors),
        IN_A_WORLD(openai_stop),
    };
    if (argc > 1 && !strcmp(argv[1], INGEST_CHILD_ARGUMENT)) return ingest_child_main(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
