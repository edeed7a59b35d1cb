/* test_serve_follow.c - questions that follow others, over HTTP: what is sent along, what is read again
 * (nothing), whose they are, and that what follows goes with what is erased. */
#include "tests/test_serve.h"

static json_t *follow(world *w, const char *question, int64_t answer, long status) {
    json_t *body =
        json_pack("{s:s, s:I, s:i}", "question", question, "follows", (json_int_t)answer, "max_tokens", 4);
    char *text = json_dumps(body, 0);
    json_t *v = POST_JSON(w, "/api/v1/ask", text, status);
    free(text);
    json_decref(body);
    return v;
}

static json_t *ask_first(world *w, const char *question) {
    char body[2048];
    snprintf(body, sizeof body, "{\"question\":\"%s\",\"max_tokens\":4}", question);
    return POST_JSON(w, "/api/v1/ask", body, 200);
}

static int64_t usage_of(const json_t *answer, const char *what) {
    return integer_of(json_object_get(answer, "usage"), what);
}

static int64_t tokens_in_pack(world *w) {
    json_t *v = GET_JSON(w, "/api/v1/packs");
    int64_t n = integer_of(json_array_get(json_object_get(v, "packs"), 0), "tokens");
    json_decref(v);
    return n;
}

static json_t *stored(world *w, int64_t id) {
    char path[64];
    snprintf(path, sizeof path, "/api/v1/answers/%lld", (long long)id);
    return GET_JSON(w, path);
}

/* A byte is a token of the tiny model: each earlier exchange takes its texts, <|Assistant|>, </think> and
 * EOS, and the next question <|User|>. */
static void what_was_said_before_is_sent_along(void **state) {
    world *w = *state;
    document_becomes(w, add_document(w, "light.txt", LIGHTHOUSE), "ready");
    int64_t pack = tokens_in_pack(w);
    json_t *alone = ask_first(w, "And when?"), *first = ask_first(w, "Who built it?");
    assert_true(json_is_null(json_object_get(first, "follows")));
    assert_int_equal(integer_of(first, "turns"), 0);
    json_t *second = follow(w, "And when?", integer_of(first, "id"), 200);
    assert_int_equal(integer_of(second, "follows"), integer_of(first, "id"));
    assert_int_equal(integer_of(second, "turns"), 1);
    assert_int_equal(integer_of(second, "turns_left_out"), 0);
    int64_t exchange = (int64_t)strlen("Who built it?") + usage_of(first, "completion_tokens") + 4;
    assert_int_equal(usage_of(second, "prompt_tokens"), usage_of(alone, "prompt_tokens") + exchange);
    json_t *third = follow(w, "And why?", integer_of(second, "id"), 200);
    assert_int_equal(integer_of(third, "turns"), 2);
    /* Nothing of the documents is read again. */
    assert_int_equal(usage_of(first, "cached_tokens"), pack);
    assert_int_equal(usage_of(second, "cached_tokens"), pack);
    assert_int_equal(usage_of(third, "cached_tokens"), pack);
    /* It is kept, of one conversation. */
    json_t *a = stored(w, integer_of(first, "id")), *b = stored(w, integer_of(third, "id")),
           *c = stored(w, integer_of(alone, "id"));
    assert_int_equal(integer_of(b, "follows"), integer_of(second, "id"));
    assert_int_equal(integer_of(b, "turns"), 2);
    assert_int_equal(integer_of(a, "conversation"), integer_of(b, "conversation"));
    assert_true(integer_of(a, "conversation") != integer_of(c, "conversation"));
    assert_true(json_is_null(json_object_get(a, "follows")));
    json_t *all[] = {a, b, c, alone, first, second, third};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) json_decref(all[i]);
}

/* The tiny model's contexts leave 512 tokens for question and answer: 256 of them for what was said before.
 */
static void what_does_not_fit_is_told(void **state) {
    world *w = *state;
    document_becomes(w, add_document(w, "light.txt", LIGHTHOUSE), "ready");
    char question[401];
    memset(question, 'q', sizeof question);
    question[100] = 0;
    json_t *v = ask_first(w, question);
    int64_t id = integer_of(v, "id"), want[] = {1, 2, 2, 2}, left[] = {0, 0, 1, 2};
    json_decref(v);
    for (int i = 0; i < 4; i++) {
        v = follow(w, question, id, 200);
        assert_int_equal(integer_of(v, "turns"), want[i]);
        assert_int_equal(integer_of(v, "turns_left_out"), left[i]);
        id = integer_of(v, "id");
        json_decref(v);
    }
    v = stored(w, id);
    assert_int_equal(integer_of(v, "turns_left_out"), 2);
    json_decref(v);
    /* The one that is followed is never left out: then the question would be another. Both sizes are said. */
    question[100] = 'q';
    question[400] = 0;
    v = ask_first(w, question);
    id = integer_of(v, "id");
    json_decref(v);
    v = follow(w, "And?", id, 413);
    const char *why = text_of(json_object_get(v, "error"), "message");
    if (!strstr(why, "407") || !strstr(why, "256")) fail_msg("not both sizes: %s", why);
    json_decref(v);
}

static void what_cannot_be_followed(void **state) {
    world *w = *state;
    document_becomes(w, add_document(w, "light.txt", LIGHTHOUSE), "ready");
    json_decref(follow(w, "And?", 77, 404));
    /* A stream as well: before its first event. */
    expect_refused(SEND(w, .method = "POST", .path = "/api/v1/ask", .headers = {"Accept: text/event-stream"},
                        .json = "{\"question\":\"And?\",\"follows\":77}"),
                   404, "a stream that follows nothing");
    static const char *const wrong[] = {"0", "-1", "1.5", "\"1\"", "[1]", "99999999999999999999"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char body[100];
        snprintf(body, sizeof body, "{\"question\":\"And?\",\"follows\":%s}", wrong[i]);
        expect_refused(SEND(w, .method = "POST", .path = "/api/v1/ask", .json = body), 400, wrong[i]);
    }
    /* null is as if it were not there; one that is not kept can be asked on and be followed by nothing. */
    json_t *v = POST_JSON(w, "/api/v1/ask", "{\"question\":\"x\",\"max_tokens\":4,\"follows\":null}", 200);
    char body[128];
    snprintf(body, sizeof body, "{\"question\":\"y\",\"max_tokens\":4,\"follows\":%lld,\"discard\":true}",
             (long long)integer_of(v, "id"));
    json_t *gone = POST_JSON(w, "/api/v1/ask", body, 200);
    assert_int_equal(integer_of(gone, "id"), 0);
    assert_int_equal(integer_of(gone, "turns"), 1);
    json_decref(gone);
    json_decref(v);
}

static void what_follows_goes_along(void **state) {
    world *w = *state;
    document_becomes(w, add_document(w, "light.txt", LIGHTHOUSE), "ready");
    json_t *first = ask_first(w, "FIRSTQUARTZ?");
    json_t *second = follow(w, "SECONDQUARTZ?", integer_of(first, "id"), 200);
    json_t *third = follow(w, "THIRDQUARTZ?", integer_of(second, "id"), 200);
    char path[64];
    snprintf(path, sizeof path, "/api/v1/answers/%lld", (long long)integer_of(second, "id"));
    json_t *receipt = json_reply(SEND(w, .method = "DELETE", .path = path), 200, path);
    assert_int_equal(integer_of(receipt, "answers"), 2);
    assert_int_equal(integer_of(receipt, "traces"), 2);
    json_decref(receipt);
    expect_refused(SEND(w, .method = "GET", .path = path), 404, path);
    snprintf(path, sizeof path, "/api/v1/answers/%lld", (long long)integer_of(third, "id"));
    expect_refused(SEND(w, .method = "GET", .path = path), 404, path);
    assert_int_equal(files_holding(w->dir, "SECONDQUARTZ", 12), 0);
    assert_int_equal(files_holding(w->dir, "THIRDQUARTZ", 11), 0);
    assert_true(files_holding(w->dir, "FIRSTQUARTZ", 11) > 0);
    json_decref(first);
    json_decref(second);
    json_decref(third);
}

static void only_ones_own(void **state) {
    (void)state;
    char *folder = make_folder(), file[4096], body[128];
    snprintf(file, sizeof file, "%s/tokens", folder);
    write_text(file, "manage reader-0123456789abcdef\nask another-0123456789abc\n");
    chmod(file, 0600);
    world *w = world_new(&(serve_options){.token_file = file}, 0);
    wait_ready(w);
    const char *mine = "Authorization: Bearer reader-0123456789abcdef",
               *other = "Authorization: Bearer another-0123456789abc";
    json_decref(json_reply(SEND(w, .method = "PUT", .path = "/api/v1/documents?name=a.txt",
                                .bytes = LIGHTHOUSE, .n = strlen(LIGHTHOUSE), .headers = {mine}),
                           202, "upload"));
    int64_t id = 0;
    for (double until = seconds_now() + 60; !id && seconds_now() < until; usleep(50000)) {
        reply r = SEND(w, .method = "POST", .path = "/api/v1/ask", .headers = {mine},
                       .json = "{\"question\":\"How high?\",\"max_tokens\":4}");
        json_t *v = parse_json(r.body);
        if (r.status == 200) id = integer_of(v, "id");
        json_decref(v);
        reply_free(&r);
    }
    assert_true(id > 0);
    snprintf(body, sizeof body, "{\"question\":\"And?\",\"max_tokens\":4,\"follows\":%lld}", (long long)id);
    expect_refused(SEND(w, .method = "POST", .path = "/api/v1/ask", .headers = {other}, .json = body), 404,
                   "another's answer");
    json_t *v = json_reply(SEND(w, .method = "POST", .path = "/api/v1/ask", .headers = {mine}, .json = body),
                           200, "one's own");
    assert_int_equal(integer_of(v, "turns"), 1);
    json_decref(v);
    world_free(w);
    remove_folder(folder);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        IN_A_WORLD(what_was_said_before_is_sent_along),
        IN_A_WORLD(what_does_not_fit_is_told),
        IN_A_WORLD(what_cannot_be_followed),
        IN_A_WORLD(what_follows_goes_along),
        cmocka_unit_test(only_ones_own),
    };
    if (argc > 1 && !strcmp(argv[1], INGEST_CHILD_ARGUMENT)) return ingest_child_main(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
