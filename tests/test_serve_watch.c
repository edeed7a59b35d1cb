/* test_serve_watch.c - folders that a server keeps its library equal to. */
#include "tests/test_serve.h"

#include <fcntl.h>

static json_t *find_named(json_t *list, const char *key, const char *name) {
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(list, key), i,
                       row) if (!strcmp(text_of(row, "name"), name)) return row;
    return NULL;
}

/* Waits until a document of this name is there (and has this text), or is not. */
static void expect_document(world *w, const char *name, const char *text, bool there) {
    for (double until = seconds_now() + 30; seconds_now() < until; usleep(20000)) {
        json_t *all = GET_JSON(w, "/api/v1/documents"), *d = find_named(all, "documents", name);
        bool good = !d != there;
        if (d && there && text) {
            char path[80];
            snprintf(path, sizeof path, "/api/v1/documents/%lld/text", (long long)integer_of(d, "id"));
            reply r = SEND(w, .method = "GET", .path = path);
            good = r.status == 200 && strstr(r.body, text); /* or it was replaced in between */
            reply_free(&r);
        }
        json_decref(all);
        if (good) return;
    }
    fail_msg("%s is %s", name, there ? "not there" : "still there");
}

static void expect_job(world *w, const char *name, const char *state) {
    char is[24] = "not there";
    for (double until = seconds_now() + 30; seconds_now() < until; usleep(20000)) {
        json_t *all = GET_JSON(w, "/api/v1/jobs"), *j = find_named(all, "jobs", name);
        if (j) snprintf(is, sizeof is, "%s", text_of(j, "state"));
        bool good = !strcmp(is, state) && !strcmp(text_of(j, "kind"), "watched");
        json_decref(all);
        if (good) return;
    }
    fail_msg("%s is %s, not %s", name, is, state);
}

/* Old enough to be taken at once. */
static void put_file(const char *folder, const char *name, const char *text, int age) {
    char *path = NULL;
    assert_true(asprintf(&path, "%s/%s", folder, name) > 0);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    struct timespec when[2] = {{.tv_sec = time(NULL) - age}, {.tv_sec = time(NULL) - age}};
    assert_int_equal(utimensat(AT_FDCWD, path, when, 0), 0);
    free(path);
}

static void a_folder_is_watched(void **state) {
    (void)state;
    char *folder = make_folder(), *below = NULL, *path = NULL;
    assert_true(asprintf(&below, "%s/below", folder) > 0);
    assert_int_equal(mkdir(below, 0700), 0);
    put_file(folder, "one.txt", "The first ship came on Monday.", 60);
    put_file(below, "two.txt", "The second ship came on Tuesday.", 60);
    put_file(folder, "broken.pdf", "%PDF-1.4 no document", 60);
    serve_options o = {.watch = &folder, .n_watch = 1, .watch_ms = 100};
    world *w = world_new(&o, 0);
    json_t *s = GET_JSON(w, "/api/v1/status");
    json_t *folders = json_object_get(json_object_get(s, "watch"), "folders");
    assert_int_equal(json_array_size(folders), 1);
    json_decref(s);
    expect_document(w, "one.txt", "Monday", true);
    expect_document(w, "below/two.txt", "Tuesday", true);
    expect_job(w, "broken.pdf", "failed");
    /* the model reads them without being asked to */
    for (double until = seconds_now() + 30;; usleep(20000)) {
        json_t *all = GET_JSON(w, "/api/v1/documents"), *d = find_named(all, "documents", "one.txt");
        bool ready = d && !strcmp(text_of(d, "state"), "ready");
        json_decref(all);
        if (ready) break;
        assert_true(seconds_now() < until);
    }
    /* an edit, a repair, a deletion */
    put_file(folder, "one.txt", "The first ship came on Friday.", 30);
    expect_document(w, "one.txt", "Friday", true);
    put_file(folder, "broken.pdf", "now it is plain words", 30);
    expect_document(w, "broken.pdf", "plain words", true);
    expect_job(w, "broken.pdf", "done");
    assert_true(asprintf(&path, "%s/two.txt", below) > 0);
    assert_int_equal(unlink(path), 0);
    free(path);
    expect_document(w, "below/two.txt", NULL, false);
    expect_job(w, "below/two.txt", "removed");
    /* a folder that is gone takes nothing with it, and is gone on with when it is back */
    char *aside = NULL;
    assert_true(asprintf(&aside, "%s.aside", folder) > 0);
    assert_int_equal(rename(folder, aside), 0);
    expect_job(w, folder, "failed");
    expect_document(w, "one.txt", "Friday", true);
    assert_int_equal(rename(aside, folder), 0);
    for (double until = seconds_now() + 30;; usleep(20000)) {
        json_t *all = GET_JSON(w, "/api/v1/jobs");
        bool told = find_named(all, "jobs", folder) != NULL;
        json_decref(all);
        if (!told) break;
        assert_true(seconds_now() < until);
    }
    double before = seconds_now();
    world_free(w);
    assert_true(seconds_now() - before < 10);
    free(aside);
    free(below);
    remove_folder(folder);
}

static void a_folder_to_watch_must_be_there(void **state) {
    (void)state;
    ph_error err = {0};
    serve *second = NULL;
    char *missing = NULL, *folder = make_folder();
    assert_true(asprintf(&missing, "%s/not-there", folder) > 0);
    serve_options o = {.data_dir = folder, .open_engine = open_tiny, .watch = &missing, .n_watch = 1};
    assert_int_equal(serve_start(&second, &o, &err), PH_NOT_FOUND);
    assert_non_null(strstr(err.text, "not-there"));
    free(missing);
    remove_folder(folder);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_is_watched),
        cmocka_unit_test(a_folder_to_watch_must_be_there),
    };
    if (argc > 1 && !strcmp(argv[1], INGEST_CHILD_ARGUMENT)) return ingest_child_main(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
