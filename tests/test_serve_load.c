/* test_serve_load.c - many at once, some of them rude: clients that leave, do not read, or come all together;
 * erasing and stopping in the midst of reading. A pack of 60,000 tokens takes the tiny model seconds to read:
 * long enough to interrupt. */
#include "tests/test_serve.h"

#include <pthread.h>
#include <stdatomic.h>

#ifdef __SANITIZE_ADDRESS__
enum { LONG_TEXT = 16000 }; /* takes as long there */
#else
enum { LONG_TEXT = 60000 };
#endif

static world *long_world(const serve_options *with) {
    world *w = world_new(with, 65536);
    wait_ready(w);
    return w;
}

static int64_t add_long(world *w, const char *name) {
    char *text = long_text(LONG_TEXT);
    int64_t id = add_document(w, name, text);
    free(text);
    return id;
}

/* A call on a thread of its own. */
typedef struct async {
    pthread_t thread;
    call call;
    reply reply;
    int port;
    double ended;
    atomic_bool over;
} async;

static void *run_async(void *user) {
    async *a = user;
    a->reply = send_call(a->port, &a->call);
    a->ended = seconds_now();
    a->over = true;
    return NULL;
}

static void start_async(async *a, const world *w) {
    a->port = w->port;
    assert_int_equal(pthread_create(&a->thread, NULL, run_async, a), 0);
}

static void join_async(async *a) {
    pthread_join(a->thread, NULL);
}

/* What the engine is busy with: "ask", "read", "erase" or "". */
static void busy_with(world *w, char out[16]) {
    json_t *s = GET_JSON(w, "/api/v1/status");
    const char *busy = json_string_value(json_object_get(json_object_get(s, "queue"), "busy"));
    snprintf(out, 16, "%s", busy ? busy : "");
    json_decref(s);
}

static double wait_until_not(world *w, const char *what) {
    double began = seconds_now();
    char now[16];
    do {
        busy_with(w, now);
        if (strcmp(now, what)) return seconds_now() - began;
        usleep(5000);
    } while (seconds_now() - began < 30);
    fail_msg("the engine stays busy with %s", what);
    return 0;
}

static void wait_until(world *w, const char *what) {
    char now[16] = "?";
    for (double until = seconds_now() + 30; seconds_now() < until; usleep(5000)) {
        busy_with(w, now);
        if (!strcmp(now, what)) return;
    }
    fail_msg("the engine is not busy with %s, but with %s", what, now);
}

static int64_t tokens_read(world *w) {
    json_t *p = GET_JSON(w, "/api/v1/packs"), *pack;
    size_t i;
    int64_t sum = 0;
    json_array_foreach(json_object_get(p, "packs"), i, pack) sum += integer_of(pack, "read");
    json_decref(p);
    return sum;
}

#define ASK "{\"question\":\"How many?\",\"max_tokens\":8,\"discard\":true}"
#define ASK_STREAM "{\"question\":\"How many?\",\"max_tokens\":8,\"discard\":true,\"stream\":true}"

/* ---- clients that leave ---- */

/* Ends the connection once reading has begun. */
static int leave_while_reading(void *user, const reply *so_far) {
    (void)user;
    return so_far->body && strstr(so_far->body, "\"phase\":\"reading\"") != NULL;
}

static void leaving_stops_the_computation(void **state) {
    (void)state;
    world *w = long_world(NULL);
    add_long(w, "ships.txt");
    reply r =
        SEND(w, .method = "POST", .path = "/api/v1/ask", .json = ASK_STREAM, .watch = leave_while_reading);
    assert_int_equal(r.code, CURLE_ABORTED_BY_CALLBACK);
    reply_free(&r);
    assert_true(wait_until_not(w, "ask") < 1.0);
    /* The same without a stream: there is nothing to write to, and it is noticed all the same. */
    r = SEND(w, .method = "POST", .path = "/api/v1/ask", .json = ASK, .timeout_ms = 300);
    assert_int_equal(r.code, CURLE_OPERATION_TIMEDOUT);
    reply_free(&r);
    assert_true(wait_until_not(w, "ask") < 1.0);
    r = SEND(w, .method = "GET", .path = "/metrics");
    assert_non_null(strstr(r.body, "\npharos_jobs_cancelled_total 2\n"));
    reply_free(&r);
    world_free(w);
}

/* ---- how much is computed for nobody ---- */

static int64_t tokens_read_so_far(world *w) {
    reply r = SEND(w, .method = "GET", .path = "/metrics");
    const char *at = strstr(r.body, "\npharos_read_tokens_total ");
    assert_non_null(at);
    int64_t n = atoll(at + strlen("\npharos_read_tokens_total "));
    reply_free(&r);
    return n;
}

/* Leaves a second or so into the prefill, and remembers how far it was. */
typedef struct leaving {
    double began;
    int64_t done, all;
} leaving;

static int leave_in_prefill(void *user, const reply *so_far) {
    leaving *l = user;
    const char *last = NULL;
    for (const char *at = so_far->body; at && (at = strstr(at, ": reading ")); at++) last = at;
    if (!last) return 0;
    if (!l->began) l->began = seconds_now();
    long long done = 0, all = 0;
    if (sscanf(last, ": reading %lld of %lld", &done, &all) != 2) return 0;
    l->done = done;
    l->all = all;
    return done > 0 && seconds_now() - l->began > 0.5;
}

/* Nothing but the question reads here (the bare model has no documents), so that every token read after its
 * client has left is one too many: at most what is read in a second, and the step that was under way. */
static void leaving_stops_the_prefill(void **state) {
    (void)state;
    enum { STEP = 512 };
    world *w = long_world(NULL);
    char *text = long_text(LONG_TEXT);
    json_t *models = GET_JSON(w, "/v1/models");
    json_t *body = json_pack("{s:s, s:[{s:s, s:s}], s:b}", "model",
                             text_of(json_array_get(json_object_get(models, "data"), 1), "id"), "messages",
                             "role", "user", "content", text, "stream", 1);
    char *request = json_dumps(body, 0);
    leaving l = {0};
    double began = seconds_now();
    reply r = SEND(w, .method = "POST", .path = "/v1/chat/completions", .json = request,
                   .watch = leave_in_prefill, .user = &l);
    double left = seconds_now();
    assert_int_equal(r.code, CURLE_ABORTED_BY_CALLBACK);
    reply_free(&r);
    int64_t at_leaving = tokens_read_so_far(w);
    double stopped = wait_until_not(w, "ask");
    usleep(300000); /* were it to go on, it would show */
    int64_t at_end = tokens_read_so_far(w);
    double rate = (double)l.done / (left - began);
    print_message(
        "left after %lld of %lld tokens (%.0f a second); %lld more were read, it stopped after %.3f s\n",
        (long long)l.done, (long long)l.all, rate, (long long)(at_end - l.done), stopped);
    assert_true(l.done < l.all * 9 / 10);
    assert_true(at_end < l.all);
    /* The counter leaves out the first step: what of it was in the cache is not told. */
    assert_true(at_end >= at_leaving && at_end + STEP >= l.done);
    assert_true((double)(at_end - l.done) <= rate * 1.0 + 2 * STEP);
    assert_true(stopped < 1.0);
    json_decref(models);
    json_decref(body);
    free(request);
    free(text);
    world_free(w);
}

/* One that waits in the queue and leaves frees its place. */
static void leaving_the_queue_frees_a_place(void **state) {
    (void)state;
    world *w = long_world(&(serve_options){.queue = 1});
    add_long(w, "ships.txt");
    async first = {.call = {.method = "POST", .path = "/api/v1/ask", .json = ASK_STREAM}};
    start_async(&first, w);
    wait_until(w, "ask");
    reply r = SEND(w, .method = "POST", .path = "/api/v1/ask", .json = ASK, .timeout_ms = 200);
    assert_int_equal(r.code, CURLE_OPERATION_TIMEDOUT);
    reply_free(&r);
    double began = seconds_now();
    int64_t waiting = 1;
    while (waiting && seconds_now() - began < 5) {
        json_t *s = GET_JSON(w, "/api/v1/status");
        waiting = integer_of(json_object_get(s, "queue"), "waiting");
        json_decref(s);
    }
    assert_int_equal(waiting, 0);
    assert_true(seconds_now() - began < 1);
    join_async(&first);
    assert_int_equal(first.reply.status, 200);
    assert_non_null(strstr(first.reply.body, "event: done\n"));
    reply_free(&first.reply);
    world_free(w);
}

/* Who waits for an answer longer than a connection may idle is not sent away. */
static void waiting_is_not_idling(void **state) {
    (void)state;
    world *w = long_world(&(serve_options){.idle_seconds = 1, .header_seconds = 1, .heartbeat_ms = 200});
    add_long(w, "ships.txt");
    async a[2] = {{.call = {.method = "POST", .path = "/api/v1/ask", .json = ASK}},
                  {.call = {.method = "POST", .path = "/api/v1/ask", .json = ASK_STREAM}}};
    start_async(&a[0], w);
    wait_until(w, "ask"); /* so that it is the second one that waits */
    start_async(&a[1], w);
    for (int i = 0; i < 2; i++) {
        join_async(&a[i]);
        assert_int_equal(a[i].reply.code, CURLE_OK);
        assert_int_equal(a[i].reply.status, 200);
    }
    print_message("waited %.1f s\n", a[0].reply.seconds);
    assert_non_null(strstr(a[1].reply.body, "event: done\n"));
    assert_non_null(strstr(a[1].reply.body, ":\n\n")); /* a heartbeat while it waited for its turn */
    for (int i = 0; i < 2; i++) reply_free(&a[i].reply);
    world_free(w);
}

/* ---- the queue ---- */

static void a_full_queue_says_when_to_come_back(void **state) {
    (void)state;
    world *w = long_world(&(serve_options){.queue = 3, .per_client = 2});
    add_long(w, "ships.txt");
    async a[4] = {
        {.call = {.method = "POST", .path = "/api/v1/ask", .json = ASK_STREAM}},
        {.call = {.method = "POST", .path = "/api/v1/ask", .json = ASK_STREAM, .from = "127.0.0.2"}},
        {.call = {.method = "POST", .path = "/api/v1/ask", .json = ASK_STREAM, .from = "127.0.0.2"}},
        {.call = {.method = "POST", .path = "/api/v1/ask", .json = ASK_STREAM, .from = "127.0.0.3"}}};
    start_async(&a[0], w);
    wait_until(w, "ask");
    for (int i = 1; i < 4; i++) {
        start_async(&a[i], w);
        for (int64_t waiting = 0; waiting < i; usleep(2000)) {
            json_t *s = GET_JSON(w, "/api/v1/status");
            waiting = integer_of(json_object_get(s, "queue"), "waiting");
            json_decref(s);
            if (a[i].over) fail_msg("the engine is too fast for this test, or refused: %s", a[i].reply.body);
        }
    }
    reply r = SEND(w, .method = "POST", .path = "/api/v1/ask", .json = ASK, .from = "127.0.0.2");
    assert_int_equal(r.status, 429);
    assert_non_null(header_of(&r, "Retry-After"));
    reply_free(&r);
    r = SEND(w, .method = "POST", .path = "/api/v1/ask", .json = ASK, .from = "127.0.0.4");
    assert_int_equal(r.status, 503);
    assert_true(atoi(header_of(&r, "Retry-After")) > 0);
    reply_free(&r);
    for (int i = 0; i < 4; i++) {
        join_async(&a[i]);
        assert_int_equal(a[i].reply.status, 200);
        assert_non_null(strstr(a[i].reply.body, "event: done\n"));
    }
    /* The second client's one question goes before the first one's second. */
    assert_true(a[1].ended <= a[3].ended);
    assert_true(a[3].ended <= a[2].ended);
    assert_non_null(strstr(a[2].reply.body, "{\"place\":2}"));
    assert_non_null(strstr(a[2].reply.body, "{\"place\":3}")); /* the other one came, and goes first */
    for (int i = 0; i < 4; i++) reply_free(&a[i].reply);
    world_free(w);
}

/* ---- slow readers ---- */

static void a_slow_reader_blocks_nobody(void **state) {
    (void)state;
    enum { SLOW = 12, LARGE = 8 << 20 };
    world *w = world_new(&(serve_options){.idle_seconds = 3}, 0);
    wait_ready(w);
    int64_t small = add_document(w, "small.txt", "The lamp burns oil.");
    char *bytes = malloc(LARGE), path[300];
    for (size_t i = 0; i < LARGE; i++) bytes[i] = i % 64 ? 'a' + (char)(i % 23) : '\n';
    json_t *received = upload_bytes(w, "large.txt", bytes, LARGE, 202);
    char ended[16];
    int64_t id = job_ended(w, integer_of(received, "id"), ended);
    json_decref(received);
    free(bytes);
    assert_int_not_equal(id, 0);
    int fds[SLOW];
    for (int i = 0; i < SLOW; i++) {
        fds[i] = raw_open(w->port);
        int n = i % 2
                    ? snprintf(path, sizeof path,
                               "GET /api/v1/documents/%lld/file HTTP/1.1\r\nHost: localhost\r\n\r\n",
                               (long long)id)
                    : snprintf(
                          path, sizeof path,
                          "POST /api/v1/ask HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                          "Content-Length: %zu\r\n\r\n%s",
                          strlen(ASK_STREAM), ASK_STREAM);
        raw_write(fds[i], path, (size_t)n);
    }
    usleep(100000);
    double began = seconds_now();
    json_decref(GET_JSON(w, "/api/v1/documents"));
    assert_true(seconds_now() - began < 2);
    /* The engine writes for those who do not read, and comes to those who do. */
    snprintf(path, sizeof path, "{\"question\":\"What burns?\",\"max_tokens\":4,\"documents\":[%lld]}",
             (long long)small);
    json_decref(POST_JSON(w, "/api/v1/ask", path, 200));
    reply r;
    /* What does not move is ended. */
    sleep(5);
    r = SEND(w, .method = "GET", .path = "/metrics");
    const char *active = strstr(r.body, "\npharos_requests_active ");
    assert_non_null(active);
    int still = atoi(active + 24);
    reply_free(&r);
    assert_true(still <= 1 + SLOW / 2); /* this one, and questions that are still being worked on */
    for (int i = 0; i < SLOW; i++) close(fds[i]);
    world_free(w);
}

/* ---- erasing in the midst ---- */

static void erasing_does_not_wait_for_reading(void **state) {
    (void)state;
    world *w = long_world(NULL);
    int64_t id = add_long(w, "ships.txt");
    wait_until(w, "read");
    char path[64];
    snprintf(path, sizeof path, "/api/v1/documents/%lld", (long long)id);
    reply r = SEND(w, .method = "DELETE", .path = path);
    assert_true(r.seconds < 3);
    json_decref(json_reply(r, 200, path));
    assert_int_equal(files_holding(w->dir, "barrels", 7), 0);
    world_free(w);
}

static int saw_reading(void *user, const reply *so_far) {
    if (so_far->body && strstr(so_far->body, "\"phase\":\"reading\"")) *(atomic_bool *)user = true;
    return 0;
}

static void a_question_starts_again_without_what_was_erased(void **state) {
    (void)state;
    world *w = long_world(NULL);
    int64_t other = add_document(w, "other.txt", "MARKERONYX is written here only.");
    add_long(w, "ships.txt");
    atomic_bool reading = false;
    async a = {.call = {.method = "POST",
                        .path = "/api/v1/ask",
                        .json = ASK_STREAM,
                        .watch = saw_reading,
                        .user = &reading}};
    start_async(&a, w);
    while (!reading && !a.over) usleep(2000);
    assert_false(a.over);
    char path[64];
    snprintf(path, sizeof path, "/api/v1/documents/%lld", (long long)other);
    json_decref(json_reply(SEND(w, .method = "DELETE", .path = path), 200, path));
    assert_false(a.over);
    join_async(&a);
    assert_int_equal(a.reply.status, 200);
    assert_non_null(strstr(a.reply.body, "event: restart\n"));
    assert_non_null(strstr(a.reply.body, "event: done\n"));
    assert_int_equal(files_holding(w->dir, "MARKERONYX", 10), 0);
    reply_free(&a.reply);
    world_free(w);
}

/* ---- stopping ---- */

static void stopping_keeps_what_was_read(void **state) {
    (void)state;
    world *w = long_world(NULL);
    int64_t id = add_long(w, "ships.txt");
    /* Read some of it, with a question that waits for more. */
    atomic_bool reading = false;
    async a = {.call = {.method = "POST",
                        .path = "/api/v1/ask",
                        .json = ASK_STREAM,
                        .watch = saw_reading,
                        .user = &reading}},
          b = {.call = {.method = "POST", .path = "/api/v1/ask", .json = ASK}};
    start_async(&a, w);
    while (!reading && !a.over) usleep(2000);
    start_async(&b, w);
    usleep(300000);
    assert_false(a.over);
    double began = seconds_now();
    serve_stop(w->server);
    w->server = NULL;
    assert_true(seconds_now() - began < 4);
    join_async(&a);
    join_async(&b);
    assert_non_null(strstr(a.reply.body, "event: error\n")); /* told, not cut off */
    assert_non_null(strstr(a.reply.body, "interrupted"));
    assert_int_equal(b.reply.status, 503);
    reply_free(&a.reply);
    reply_free(&b.reply);

    world_start(w);
    wait_ready(w);
    assert_true(tokens_read(w) > 0);  /* not from the beginning */
    document_becomes(w, id, "ready"); /* goes on by itself */
    json_t *answered = POST_JSON(w, "/api/v1/ask", ASK, 200);
    assert_true(integer_of(json_object_get(answered, "usage"), "cached_tokens") > LONG_TEXT);
    json_decref(answered);
    world_free(w);
}

/* A pack that cannot be kept on disk: who looks is told why its documents wait, and reading goes on when that
 * is put right. */
static void what_cannot_be_read_says_why(void **state) {
    (void)state;
    world *w = world_new(NULL, 0);
    char *there, why[480] = "";
    assert_true(asprintf(&there, "%s/snapshots/pack-1.snapshot", w->dir) > 0);
    wait_ready(w);
    json_t *s = GET_JSON(w, "/api/v1/status");
    assert_true(json_is_null(json_object_get(s, "reading_failed")));
    json_decref(s);
    assert_int_equal(mkdir(there, 0700), 0); /* no file can be there */
    int64_t id = add_document(w, "light.txt", "The lighthouse stood on the island of Pharos.");
    for (double until = seconds_now() + 60; !why[0] && seconds_now() < until; usleep(20000)) {
        s = GET_JSON(w, "/api/v1/status");
        if (json_is_string(json_object_get(s, "reading_failed")))
            snprintf(why, sizeof why, "%s", text_of(s, "reading_failed"));
        json_decref(s);
    }
    assert_true(why[0] != 0);
    print_message("%s\n", why);
    document_becomes(w, id, "waiting");
    assert_int_equal(rmdir(there), 0);
    json_decref(POST_JSON(w, "/api/v1/packs/read", "{}", 202));
    document_becomes(w, id, "ready");
    bool told = true;
    for (double until = seconds_now() + 60; told && seconds_now() < until; usleep(20000)) {
        s = GET_JSON(w, "/api/v1/status");
        told = !json_is_null(json_object_get(s, "reading_failed"));
        json_decref(s);
    }
    assert_false(told);
    free(there);
    world_free(w);
}

/* What was acknowledged is there after a stop, read or not. */
static void uploads_survive_a_stop(void **state) {
    (void)state;
    enum { FILES = 12 };
    world *w = world_new(NULL, 0);
    for (int i = 0; i < FILES; i++) {
        char name[32], text[64];
        snprintf(name, sizeof name, "file %d.md", i);
        int n = snprintf(text, sizeof text, "# Number %d\n\nIs here.\n", i);
        json_decref(upload_bytes(w, name, text, (size_t)n, 202));
    }
    serve_stop(w->server);
    world_start(w);
    size_t n = 0;
    for (double until = seconds_now() + 60; n < FILES && seconds_now() < until; usleep(20000)) {
        json_t *v = GET_JSON(w, "/api/v1/documents"), *d;
        size_t i;
        n = json_array_size(json_object_get(v, "documents"));
        json_array_foreach(json_object_get(v, "documents"), i, d)
            assert_string_equal(text_of(d, "media_type"), "text/markdown");
        json_decref(v);
    }
    assert_int_equal(n, FILES);
    world_free(w);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leaving_stops_the_computation),
        cmocka_unit_test(leaving_stops_the_prefill),
        cmocka_unit_test(leaving_the_queue_frees_a_place),
        cmocka_unit_test(waiting_is_not_idling),
        cmocka_unit_test(a_full_queue_says_when_to_come_back),
        cmocka_unit_test(a_slow_reader_blocks_nobody),
        cmocka_unit_test(erasing_does_not_wait_for_reading),
        cmocka_unit_test(a_question_starts_again_without_what_was_erased),
        cmocka_unit_test(stopping_keeps_what_was_read),
        cmocka_unit_test(uploads_survive_a_stop),
        cmocka_unit_test(what_cannot_be_read_says_why),
    };
    if (argc > 1 && !strcmp(argv[1], INGEST_CHILD_ARGUMENT)) return ingest_child_main(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
