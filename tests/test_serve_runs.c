/* test_serve_runs.c - evaluation runs over HTTP: every kind started, stopped, gone on with, reported,
 * compared, and erased with the questions that came for it; and that none of the server's work connects to
 * anybody else. */
#include "tests/test_serve.h"

#include <stdatomic.h>
#include <sys/syscall.h>

static const char TEXT[] =
    "The lighthouse of Alexandria stood on the island of Pharos. It was about 100 metres high.";

/* Waits until no run is under way; whether one had a number. */
static int64_t run_ended(world *w, bool stop_it) {
    int64_t id = 0;
    for (double until = seconds_now() + 120; seconds_now() < until; usleep(10000)) {
        json_t *s = GET_JSON(w, "/api/v1/status"), *run = json_object_get(s, "run");
        bool active = json_is_true(json_object_get(run, "active"));
        int64_t cells = json_integer_value(json_object_get(run, "cells"));
        if (json_integer_value(json_object_get(run, "id")))
            id = json_integer_value(json_object_get(run, "id"));
        json_decref(s);
        if (!active) return id;
        if (stop_it && id && cells) {
            char path[64];
            snprintf(path, sizeof path, "/api/v1/runs/%lld/stop", (long long)id);
            json_decref(POST_JSON(w, path, "{}", 202));
            stop_it = false;
        }
    }
    fail_msg("the run does not end");
    return 0;
}

static void a_run_starts_stops_and_goes_on(void **state) {
    world *w = *state;
    static const char *const bad[] = {
        "{}",
        "{\"kind\":\"qa\",\"lengths\":[512]}",
        "{\"kind\":\"qa\",\"lengths\":[512],\"questions\":77}",
        "{\"kind\":\"ruler\",\"lengths\":[1024],\"tasks\":[\"niah_single_1\",\"x\"]}",
        "{\"kind\":\"ruler\",\"lengths\":[1024],\"tasks\":[\"qa_1\"]}",
        "{\"kind\":\"needle\",\"lengths\":[512],\"over\":\"ruler\"}",
        "{\"kind\":\"needle\",\"lengths\":[512,512]}",
        "{\"kind\":\"needle\",\"lengths\":[1.5e3]}",
        "{\"kind\":\"needle\",\"lengths\":[512],\"depths\":1000000}",
        "{\"kind\":\"needle\",\"lengths\":[512],\"depths\":[]}",
        "{\"kind\":\"needle\",\"lengths\":[512],\"depths\":[50,101]}",
        "{\"kind\":\"needle\",\"lengths\":[512],\"samples\":-1}",
        "{\"kind\":\"needle\",\"lengths\":[512],\"dense\":1}",
        "{\"kind\":\"needle\",\"lengths\":[512],\"reworded\":true}",
        "{\"kind\":\"needle\",\"lengths\":[512],\"needles\":[{\"needle\":\"a\",\"question\":\"b\"}]}",
        "{\"kind\":\"needle\",\"lengths\":[512],\"needles\":[{\"needle\":\"a\nb\",\"question\":\"b\","
        "\"answer\":"
        "\"a\"}]}",
        "{\"kind\":\"compare\",\"lengths\":[512],\"dense\":true}",
        "{\"kind\":\"compare\",\"lengths\":[512],\"thinking\":true}",
        "{\"kind\":\"ruler\",\"lengths\":[1024],\"published\":true,\"thinking\":true}",
        "{\"kind\":\"needle\",\"lengths\":[512],\"thinking\":1}",
        "{\"kind\":\"needle\",\"as_ask\":true}",
        "{\"kind\":\"qa\",\"as_ask\":true}",
        "{\"kind\":\"qa\",\"as_ask\":true,\"questions\":1,\"lengths\":[512]}",
        "{\"kind\":\"needle\",\"text\":\"/etc/passwd\",\"lengths\":[512]}",
        "{\"kind\":\"needle\",\"text\":\"generated\",\"lengths\":[-1]}",
        "{\"kind\":\"needle\",\"text\":\"generated\",\"lengths\":[99999]}",
        "{\"kind\":\"needle\",\"text\":\"generated\",\"lengths\":[]}",
        "{\"kind\":\"needle\",\"text\":\"generated\",\"lengths\":[512],\"files\":[\"/etc/passwd\"]}",
        "{\"kind\":\"compare\",\"text\":\"generated\",\"lengths\":[512],\"ks\":[1000000]}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect_refused(SEND(w, .method = "POST", .path = "/api/v1/runs", .json = bad[i]), 400, bad[i]);
    json_decref(POST_JSON(
        w, "/api/v1/runs",
        "{\"kind\":\"needle\",\"text\":\"generated\",\"lengths\":[2048,3072],\"depths\":6,\"max_tokens\":8}",
        202));
    expect_refused(SEND(w, .method = "POST", .path = "/api/v1/runs",
                        .json = "{\"kind\":\"needle\",\"text\":\"generated\",\"lengths\":[2048]}"),
                   409, "a second run");
    int64_t id = run_ended(w, true);
    assert_int_not_equal(id, 0);
    char path[64];
    snprintf(path, sizeof path, "/api/v1/runs/%lld", (long long)id);
    json_t *run = GET_JSON(w, path);
    assert_string_equal(text_of(run, "kind"), "needle");
    assert_int_equal(integer_of(run, "cells"), 12);
    bool stopped = integer_of(run, "done") < 12;
    assert_int_equal(json_array_size(json_object_get(run, "results")), integer_of(run, "done"));
    json_decref(run);
    if (stopped) {
        snprintf(path, sizeof path, "/api/v1/runs/%lld/resume", (long long)id);
        json_decref(POST_JSON(w, path, "{}", 202));
        /* A question does not wait for it. */
        add_document(w, "light.txt", TEXT);
        json_decref(POST_JSON(w, "/api/v1/ask", "{\"question\":\"x\",\"max_tokens\":4}", 200));
        run_ended(w, false);
    }
    snprintf(path, sizeof path, "/api/v1/runs/%lld", (long long)id);
    run = GET_JSON(w, path);
    assert_int_equal(integer_of(run, "done"), 12);
    assert_string_equal(text_of(run, "state"), "done");
    json_decref(run);
    json_decref(json_reply(SEND(w, .method = "DELETE", .path = path), 200, path));
    expect_refused(SEND(w, .method = "GET", .path = path), 404, path);
    print_message("%s\n", stopped ? "stopped, and gone on with" : "it was too fast to be stopped");
}

/* Starts it, and waits for its end; its number. */
static int64_t run_whole(world *w, const char *body) {
    json_decref(POST_JSON(w, "/api/v1/runs", body, 202));
    int64_t id = run_ended(w, false);
    assert_int_not_equal(id, 0);
    json_t *s = GET_JSON(w, "/api/v1/status");
    const char *why = json_string_value(json_object_get(json_object_get(s, "run"), "message"));
    if (why && *why) fail_msg("%s: %s", body, why);
    json_decref(s);
    return id;
}

static const char QUESTIONS[] =
    "{\"name\":\"one\",\"source\":\"sea\",\"text\":\"The harbour was built in 1871. It has two piers.\","
    "\"qas\":[{\"question\":\"When was the harbour built?\",\"answers\":[\"1871\"]},"
    "{\"question\":\"Who paid for zzmarkzz?\",\"answers\":[]}]}\n"
    "{\"name\":\"two\",\"source\":\"land\",\"text\":\"The mill stands by the brook.\","
    "\"qas\":[{\"question\":\"Where does the mill stand?\",\"answers\":[\"by the brook\"]}]}\n";

static int64_t send_questions(world *w, const char *bytes, size_t n, long status) {
    reply r =
        SEND(w, .method = "PUT", .path = "/api/v1/runs/questions?name=mine.jsonl", .bytes = bytes, .n = n);
    json_t *v = json_reply(r, status, "questions");
    int64_t id = status == 201 ? integer_of(v, "id") : 0;
    if (status == 201) {
        assert_int_equal(integer_of(v, "passages"), 2);
        assert_int_equal(integer_of(v, "questions"), 3);
        assert_int_equal(json_array_size(json_object_get(v, "sources")), 2);
    }
    json_decref(v);
    return id;
}

/* Each kind, with what belongs to it; then what can be had of a run. */
static void every_kind_of_run(void **state) {
    world *w = *state;
    char body[600], path[96];
    static const char own[] =
        "{\"kind\":\"needle\",\"lengths\":[1024],\"depths\":2,\"max_tokens\":4,"
        "\"needles\":[{\"needle\":\"The cook is Ada.\",\"question\":\"Who is the cook?\","
        "\"answer\":\"Ada\"}]}";
    /* nothing was measured yet: tokens, but no time */
    json_t *e = POST_JSON(w, "/api/v1/runs/estimate", own, 200);
    assert_int_equal(integer_of(e, "cells"), 2);
    assert_true(integer_of(e, "tokens") >= 1024);
    assert_true(json_is_null(json_object_get(e, "seconds")));
    json_decref(e);
    json_t *none = GET_JSON(w, "/api/v1/runs");
    assert_int_equal(json_array_size(json_object_get(none, "runs")), 0); /* nothing was started */
    json_decref(none);
    int64_t first = run_whole(w, own);
    snprintf(path, sizeof path, "/api/v1/runs/%lld", (long long)first);
    json_t *run = GET_JSON(w, path);
    json_t *asked = json_object_get(json_array_get(json_object_get(run, "results"), 1), "result");
    assert_string_equal(text_of(asked, "question"), "Who is the cook?");
    assert_true(json_array_size(json_object_get(json_object_get(run, "summary"), "tables")) > 0);
    assert_true(json_array_size(json_object_get(run, "published")) > 0);
    assert_true(json_array_size(json_object_get(run, "protocol")) > 0);
    json_decref(run);
    e = POST_JSON(w, "/api/v1/runs/estimate", own, 200);
    assert_true(json_real_value(json_object_get(e, "seconds")) > 0);
    assert_true(json_real_value(json_object_get(e, "rate")) > 0);
    json_decref(e);

    /* questions: kept with the run, and asked of one source only */
    send_questions(w, "{\"name\":", 8, 400);
    send_questions(w, "\0\0", 2, 400);
    int64_t file = send_questions(w, QUESTIONS, sizeof QUESTIONS - 1, 201);
    snprintf(body, sizeof body, "{\"kind\":\"qa\",\"lengths\":[1024],\"questions\":%lld,\"max_tokens\":4}",
             (long long)file);
    int64_t qa = run_whole(w, body);
    expect_refused(
        SEND(w, .method = "POST", .path = "/api/v1/runs", .json = "{\"kind\":\"qa\",\"lengths\":[1024]}"),
        400, "no questions");

    /* as `pharos ask` asks: each question twice, once of the passages that full text finds, once of all; with
     * a thought; what it takes is the library read once */
    file = send_questions(w, QUESTIONS, sizeof QUESTIONS - 1, 201);
    snprintf(body, sizeof body,
             "{\"kind\":\"qa\",\"as_ask\":true,\"thinking\":true,\"questions\":%lld,\"max_tokens\":4}",
             (long long)file);
    e = POST_JSON(w, "/api/v1/runs/estimate", body, 200);
    assert_int_equal(integer_of(e, "cells"), 6);
    assert_in_range(integer_of(e, "tokens"), 50, 500);
    json_decref(e);
    int64_t as_ask = run_whole(w, body);
    snprintf(path, sizeof path, "/api/v1/runs/%lld", (long long)as_ask);
    run = GET_JSON(w, path);
    json_t *parameters = json_object_get(run, "parameters");
    assert_true(json_is_true(json_object_get(parameters, "as_ask")));
    assert_true(json_is_true(json_object_get(parameters, "thinking")));
    assert_int_equal(integer_of(run, "done"), 6);
    for (size_t i = 0; i < 6; i++) {
        asked = json_object_get(json_array_get(json_object_get(run, "results"), i), "result");
        assert_string_equal(text_of(asked, "variant"), i < 3 ? "first look" : "whole");
        assert_true(integer_of(json_object_get(asked, "thought"), "tokens") > 0);
    }
    json_decref(run);
    json_decref(json_reply(SEND(w, .method = "DELETE", .path = path), 200, path));
    file = send_questions(w, QUESTIONS, sizeof QUESTIONS - 1, 201);
    snprintf(
        body, sizeof body,
        "{\"kind\":\"recall\",\"lengths\":[1024],\"questions\":%lld,\"source\":\"land\",\"max_tokens\":4}",
        (long long)file);
    int64_t recall = run_whole(w, body);
    snprintf(path, sizeof path, "/api/v1/runs/%lld", (long long)recall);
    run = GET_JSON(w, path);
    assert_int_equal(integer_of(run, "cells"), 1);
    json_decref(run);
    run_whole(w, "{\"kind\":\"ruler\",\"lengths\":[1024],\"tasks\":[\"niah_single_1\"],\"samples\":1,\"max_"
                 "tokens\":4}");
    int64_t dense =
        run_whole(w, "{\"kind\":\"needle\",\"lengths\":[1024],\"depths\":2,\"max_tokens\":4,\"dense\":true,"
                     "\"needles\":[{\"needle\":\"The cook is Ada.\",\"question\":\"Who is the cook?\","
                     "\"answer\":\"Ada\"}]}");
    run_whole(w, "{\"kind\":\"compare\",\"lengths\":[1024],\"depths\":1,\"ks\":[8],\"max_tokens\":4}");

    /* reports and the difference */
    static const char *const formats[][2] = {
        {"html", "<!doctype html>"}, {"csv", "cell,length"}, {"json", "{"}};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "/api/v1/runs/%lld/report?format=%s", (long long)first, formats[i][0]);
        reply r = SEND(w, .method = "GET", .path = path);
        assert_int_equal(r.status, 200);
        assert_int_equal(strncmp(r.body, formats[i][1], strlen(formats[i][1])), 0);
        assert_non_null(strstr(header_of(&r, "Content-Disposition"), "attachment"));
        assert_non_null(strstr(header_of(&r, "Content-Security-Policy"), "default-src 'none'"));
        reply_free(&r);
    }
    snprintf(path, sizeof path, "/api/v1/runs/%lld/report?format=exe", (long long)first);
    expect_refused(SEND(w, .method = "GET", .path = path), 400, path);
    snprintf(path, sizeof path, "/api/v1/runs/%lld/diff/%lld", (long long)first, (long long)dense);
    json_t *d = GET_JSON(w, path);
    assert_int_equal(integer_of(d, "b"), dense);
    assert_true(json_array_size(json_object_get(d, "figures")) > 0);
    json_decref(d);
    snprintf(path, sizeof path, "/api/v1/runs/%lld/diff/x", (long long)first);
    expect_refused(SEND(w, .method = "GET", .path = path), 400, path);
    snprintf(path, sizeof path, "/api/v1/runs/%lld/diff/9999", (long long)first);
    expect_refused(SEND(w, .method = "GET", .path = path), 404, path);
    expect_refused(SEND(w, .method = "POST", .path = "/api/v1/runs/stop", .json = "{}"), 404, "nothing runs");

    /* the questions go with their runs */
    char *database = NULL;
    assert_true(asprintf(&database, "%s/pharos.db", w->dir) > 0);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "/api/v1/runs/%lld", (long long)(i ? recall : qa));
        json_decref(json_reply(SEND(w, .method = "DELETE", .path = path), 200, path));
    }
    FILE *f = fopen(database, "rb");
    assert_non_null(f);
    static char bytes[16 << 20];
    size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    assert_true(n > 0 && n < sizeof bytes);
    assert_null(memmem(bytes, n, "zzmarkzz", 8));
    free(database);
}

/* ---- offline ---- */

static atomic_int connected_outside;

/* Stands before the C library's for everything in this process: the server, its libraries, this test's own
 * client. */
int connect(int fd, const struct sockaddr *to, socklen_t n);
int connect(int fd, const struct sockaddr *to, socklen_t n) {
    const struct sockaddr_in *four = (const struct sockaddr_in *)to;
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)to;
    if ((to->sa_family == AF_INET && ntohl(four->sin_addr.s_addr) >> 24 != 127) ||
        (to->sa_family == AF_INET6 && !IN6_IS_ADDR_LOOPBACK(&six->sin6_addr)))
        connected_outside++;
    return (int)syscall(SYS_connect, fd, to, n);
}

/* A document read, a question, a run: nothing of it wants anybody else. Name servers count too. */
static void not_one_connection_out(void **state) {
    world *w = *state;
    connected_outside = 0;
    int64_t id = add_document(w, "light.txt", TEXT);
    document_becomes(w, id, "ready");
    json_decref(POST_JSON(w, "/api/v1/ask", "{\"question\":\"x\",\"max_tokens\":4}", 200));
    run_whole(w, "{\"kind\":\"needle\",\"lengths\":[1024],\"depths\":[70],\"max_tokens\":4}");
    assert_int_equal(connected_outside, 0);
    /* and it would have been seen */
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in nowhere = {.sin_family = AF_INET, .sin_port = htons(9)};
    nowhere.sin_addr.s_addr = htonl(0xC0000201); /* 192.0.2.1, for documentation: nothing is sent to it */
    connect(fd, (struct sockaddr *)&nowhere, sizeof nowhere);
    close(fd);
    assert_int_equal(connected_outside, 1);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        IN_A_WORLD(a_run_starts_stops_and_goes_on),
        IN_A_WORLD(every_kind_of_run),
        IN_A_WORLD(not_one_connection_out),
    };
    if (argc > 1 && !strcmp(argv[1], INGEST_CHILD_ARGUMENT)) return ingest_child_main(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
