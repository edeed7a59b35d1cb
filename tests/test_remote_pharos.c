/* test_remote_pharos.c - the whole appliance on top of a served model: another Pharos with the embedded
 * model, asked for its bare model (NAME-plain), by the program as a user runs it and by a server in front of
 * it. */
#include "tests/test_serve.h"

#include "engine/nano.h"
#include "engine/remote.h"
#include "kernels/error.h"

#define PROGRAM BUILD_DIR "/pharos"
#define LIGHT                                                                                                \
    "The lighthouse of Pharos stood on an island near Alexandria.\nIts keeper in those years was called "    \
    "Demetrios.\nThe library of the city held four hundred thousand scrolls.\n"

/* The server with the model, and a folder of the client's. */
typedef struct pair {
    world *far;
    char *data, *documents, url[64];
} pair;

static int open_nano(void *user, engine **out, ph_error *err) {
    (void)user;
    engine_options o = {.files = nano_files(), .threads = 2, .chunk = 256};
    return engine_open(out, &o, err);
}

static int set_up(void **state) {
    pair *p = *state = calloc(1, sizeof *p);
    p->far = calloc(1, sizeof *p->far);
    p->far->dir = make_folder();
    p->far->model = make_folder();
    p->data = make_folder();
    p->documents = make_folder();
    p->far->options = (serve_options){.data_dir = p->far->dir, .open_engine = open_nano};
    ph_error err = {0};
    if (serve_start(&p->far->server, &p->far->options, &err)) fail_msg("%s", err.text);
    p->far->port = serve_port(p->far->server);
    snprintf(p->url, sizeof p->url, "http://127.0.0.1:%d/v1", p->far->port);
    wait_ready(p->far);
    return 0;
}

static int tear_down(void **state) {
    pair *p = *state;
    world_free(p->far);
    remove_folder(p->data);
    remove_folder(p->documents);
    free(p);
    return 0;
}

/* The program with these words before the common ones; the last word is NULL. */
static result run(pair *p, const char *const *words, const char *model) {
    const char *argv[40] = {PROGRAM};
    int n = 1;
    while (*words) argv[n++] = *words++;
    argv[n++] = "--data";
    argv[n++] = p->data;
    if (model) {
        argv[n++] = "--remote";
        argv[n++] = p->url;
        argv[n++] = "--remote-system";
        argv[n++] = "";
        if (model[0]) argv[n++] = "--remote-model";
        if (model[0]) argv[n++] = model;
    }
    return run_program(argv, NULL);
}
#define RUN(p, model, ...) run(p, (const char *const[]){__VA_ARGS__, NULL}, model)
#define PLAIN "pharos-nano-plain"

static json_t *run_json(result r, int status) {
    if (r.status != status) fail_msg("exit %d, not %d: %s %s", r.status, status, r.out, r.err);
    json_t *v = parse_json(r.out);
    result_free(&r);
    return v;
}

static void add(pair *p, const char *name, const char *text) {
    write_text(in_folder(p->documents, name), text);
    result r = RUN(p, NULL, "add", "--no-read", "--quiet", in_folder(p->documents, name));
    assert_int_equal(r.status, 0);
    result_free(&r);
}

/* The answer is the far model's; that nobody knows what it read is said, and its words are looked for. */
static void ask_on_top_of_another(void **state) {
    pair *p = *state;
    add(p, "light.txt", LIGHT);
    int64_t prompt = 0;
    for (int again = 0; again < 2; again++) {
        json_t *v = run_json(
            RUN(p, PLAIN, "ask", "--json",
                again ? "What was the keeper of the lighthouse called?" : "What was the keeper called?"),
            0);
        if (!strstr(text_of(v, "answer"), "Demetrios")) fail_msg("the answer is %s", text_of(v, "answer"));
        assert_string_equal(text_of(v, "model"), PLAIN);
        assert_true(json_is_null(json_object_get(v, "evidence")));
        assert_non_null(strstr(text_of(v, "untraced"), "--tokenizer"));
        assert_int_equal(json_array_size(json_object_get(v, "read_set")), 0);
        json_t *c = json_array_get(json_object_get(v, "citations"), 0);
        assert_string_equal(text_of(c, "quote"), "Demetrios");
        assert_true(json_is_true(json_object_get(c, "in_text")));
        assert_true(json_is_null(json_object_get(c, "in_read_set")));
        assert_int_equal(integer_of(c, "start"), strstr(LIGHT, "Demetrios") - LIGHT);
        /* The far server's own counts; the documents of the second question are in its cache. */
        json_t *usage = json_object_get(v, "usage");
        prompt = integer_of(usage, "prompt_tokens");
        assert_true(prompt > 40 && prompt < 200);
        int64_t cached = integer_of(usage, "cached_tokens");
        if (again ? cached < 40 : cached != 0) fail_msg("%lld tokens cached", (long long)cached);
        json_decref(v);
    }
    result r = RUN(p, PLAIN, "ask", "What was the keeper called?");
    assert_int_equal(r.status, 0);
    assert_non_null(strstr(r.out, "whether it was read is not known"));
    assert_non_null(strstr(r.out, "What was read while answering is not known"));
    result_free(&r);
    r = RUN(p, NULL, "trace");
    if (!strstr(r.out, "served elsewhere") && !strstr(r.err, "served elsewhere"))
        fail_msg("%s %s", r.out, r.err);
    result_free(&r);
}

/* With the far model's own tokenizer the near one asks for a selection; a Pharos has none to give, and is
 * asked in the usual way. */
static void a_tokenizer_brings_the_same_answer(void **state) {
    pair *p = *state;
    add(p, "light.txt", LIGHT);
    json_t *v = run_json(RUN(p, PLAIN, "ask", "--json", "--tokenizer",
                             SOURCE_DIR "/engine/nano/tokenizer.json", "What was the keeper called?"),
                         0);
    assert_non_null(strstr(text_of(v, "answer"), "Demetrios"));
    assert_non_null(strstr(text_of(v, "untraced"), "/generate"));
    json_decref(v);
}

static void what_cannot_be_is_refused(void **state) {
    pair *p = *state;
    add(p, "light.txt", LIGHT);
    static const struct {
        const char *const words[8];
        const char *model;
        int status;
        const char *says;
    } cases[] = {
        {{"ask", "What?"}, "", PH_USAGE, "pharos-nano, pharos-nano-plain"},
        {{"ask", "What?"}, "no-such", PH_NOT_FOUND, "it has pharos-nano"},
        {{"eval", "compare", "--lengths", "1K", "--generated"}, PLAIN, PH_UNSUPPORTED, "eval diff"},
        {{"eval", "recall", "--lengths", "1K", "--generated"}, PLAIN, PH_UNSUPPORTED, "eval diff"},
        {{"bench"}, PLAIN, PH_UNSUPPORTED, "this machine"},
        {{"ask", "--dense", "What?"}, PLAIN, PH_USAGE, "--dense"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        result r = run(p, cases[i].words, cases[i].model);
        if (r.status != cases[i].status || !strstr(r.err, cases[i].says))
            fail_msg("case %zu: exit %d: %s", i, r.status, r.err);
        result_free(&r);
    }
}

/* Needles and questions, scored as ever; a miss has the verdict that nothing is known of it. */
static void evaluations_run_on_top_of_another(void **state) {
    pair *p = *state;
    json_t *v = run_json(RUN(p, PLAIN, "eval", "needle", "--lengths", "1K", "--depths", "4", "--together",
                             "--generated", "--json"),
                         0);
    json_t *cells = json_object_get(v, "results"), *c;
    size_t i;
    int right = 0;
    int64_t cached = 0;
    assert_int_equal(json_array_size(cells), 4);
    json_array_foreach(cells, i, c) {
        const char *verdict = text_of(c, "verdict");
        right += !strcmp(verdict, "right");
        if (strcmp(verdict, "right") && strcmp(verdict, "no trace") && strcmp(verdict, "cut off"))
            fail_msg("the verdict is %s", verdict);
        assert_null(json_object_get(c, "trace"));
        cached += integer_of(json_object_get(c, "timing"), "server_cached_tokens");
    }
    assert_true(right >= 2);    /* the embedded model finds most needles of 1K */
    assert_true(cached > 2000); /* one haystack, read once for four questions */
    json_decref(v);

    char path[512];
    snprintf(path, sizeof path, "%s", in_folder(p->documents, "qa.jsonl"));
    write_text(
        path,
        "{\"name\":\"light.txt\",\"text\":\"The keeper of the lighthouse was called Demetrios. He had two "
        "sons.\",\"qas\":[{\"question\":\"What was the keeper of the lighthouse called?\",\"answers\":["
        "\"Demetrios\"]},{\"question\":\"How many sons did he have?\",\"answers\":[\"two\"]}]}\n");
    v = run_json(RUN(p, PLAIN, "eval", "qa", "--qa", path, "--lengths", "1K", "--generated", "--json"), 0);
    cells = json_object_get(v, "results");
    assert_int_equal(json_array_size(cells), 2);
    double f1 = 0;
    json_array_foreach(cells, i, c) f1 += json_number_value(json_object_get(c, "f1"));
    assert_true(f1 >= 1);
    json_decref(v);
}

/* ---- a server in front of a server ---- */

static int open_far(void *user, engine **out, ph_error *err) {
    const pair *p = user;
    remote_options o = {.url = p->url, .model = PLAIN, .files = nano_files()};
    return remote_open(out, &o, err);
}

static int64_t metric(world *w, const char *name) {
    reply r = SEND(w, .method = "GET", .path = "/metrics");
    char line[80];
    snprintf(line, sizeof line, "\n%s ", name);
    const char *at = strstr(r.body, line);
    if (!at) fail_msg("there is no metric %s", name);
    int64_t v = atoll(at + strlen(line));
    reply_free(&r);
    return v;
}

/* Leaves once the far server computes. */
static int leave_when_busy(void *user, const reply *so_far) {
    (void)so_far;
    json_t *v = GET_JSON((world *)user, "/api/v1/status");
    const char *busy = json_string_value(json_object_get(json_object_get(v, "queue"), "busy"));
    bool asks = busy && !strcmp(busy, "ask");
    json_decref(v);
    return asks;
}

static void serve_on_top_of_another(void **state) {
    pair *p = *state;
    world *near = calloc(1, sizeof *near);
    near->dir = make_folder();
    near->model = make_folder();
    near->options = (serve_options){.data_dir = near->dir, .open_engine = open_far, .user = p};
    ph_error err = {0};
    if (serve_start(&near->server, &near->options, &err)) fail_msg("%s", err.text);
    near->port = serve_port(near->server);
    wait_ready(near);
    document_becomes(near, add_document(near, "light.txt", LIGHT), "ready");
    json_t *v = POST_JSON(near, "/api/v1/ask", "{\"question\":\"What was the keeper called?\"}", 200);
    assert_non_null(strstr(text_of(v, "answer"), "Demetrios"));
    assert_true(json_is_null(json_object_get(v, "evidence")));
    char path[64];
    snprintf(path, sizeof path, "/api/v1/answers/%lld", (long long)integer_of(v, "id"));
    json_decref(v);
    v = GET_JSON(near, path);
    json_t *c = json_array_get(json_object_get(v, "citations"), 0);
    assert_true(json_is_null(json_object_get(c, "in_read_set")));
    json_decref(v);
    strcat(path, "/trace");
    v = GET_JSON(near, path);
    assert_non_null(strstr(text_of(v, "missing"), "served elsewhere"));
    assert_true(json_is_null(json_object_get(v, "evidence")));
    json_decref(v);
    /* A client that leaves the near server stops the far one too. */
    char *text = long_text(200000);
    add_document(near, "ships.txt", text);
    free(text);
    int64_t before = metric(p->far, "pharos_jobs_cancelled_total");
    reply r = SEND(near, .method = "POST", .path = "/api/v1/ask", .watch = leave_when_busy, .user = p->far,
                   .json = "{\"question\":\"How many barrels did ship 77 bring?\",\"packs\":1}");
    assert_int_equal(r.code, CURLE_ABORTED_BY_CALLBACK);
    reply_free(&r);
    double until = seconds_now() + 60;
    while (metric(p->far, "pharos_jobs_cancelled_total") == before && seconds_now() < until) usleep(20000);
    assert_int_equal(metric(p->far, "pharos_jobs_cancelled_total"), before + 1);
    world_free(near);
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], INGEST_CHILD_ARGUMENT)) return ingest_child_main(argc, argv);
    if (!nano_files()) return 0; /* this build has no model */
    const struct CMUnitTest tests[] = {
        WITH_SERVER(ask_on_top_of_another),     WITH_SERVER(a_tokenizer_brings_the_same_answer),
        WITH_SERVER(what_cannot_be_is_refused), WITH_SERVER(evaluations_run_on_top_of_another),
        WITH_SERVER(serve_on_top_of_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
