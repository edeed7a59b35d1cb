/* test_serve_ocr.c - pictures of text that come in by HTTP and from watched folders: read as a request says,
 * else as the server was started; read again where they were not. Skipped where tesseract is not installed.
 */
#include "tests/scan.h"
#include "tests/test_serve.h"

#include <math.h>

#define SHOWN "The lighthouse keeper is called Marta Lindqvist."
#define SAID "A page that says this itself."

static json_t *put(world *w, const char *name, const char *more, const char *bytes, size_t n, long status) {
    char path[200];
    snprintf(path, sizeof path, "/api/v1/documents?name=%s%s", name, more);
    return json_reply(SEND(w, .method = "PUT", .path = path, .bytes = bytes, .n = n), status, path);
}

/* Uploads and waits; the job as it ended, owned. */
static json_t *put_and_wait(world *w, const char *name, const char *more, const char *bytes, size_t n) {
    json_t *job = put(w, name, more, bytes, n, 202);
    char state[16], path[64];
    snprintf(path, sizeof path, "/api/v1/jobs/%lld", (long long)integer_of(job, "id"));
    job_ended(w, integer_of(job, "id"), state);
    json_decref(job);
    return GET_JSON(w, path);
}

static json_t *document(world *w, int64_t id) {
    char path[64];
    snprintf(path, sizeof path, "/api/v1/documents/%lld", (long long)id);
    return GET_JSON(w, path);
}

/* The rectangles of a phrase that stands in the document, as a citation of it is marked. */
static void expect_marked(world *w, int64_t id, const char *phrase, uint32_t page) {
    char path[128];
    snprintf(path, sizeof path, "/api/v1/documents/%lld/text", (long long)id);
    json_t *t = GET_JSON(w, path);
    const char *text = text_of(t, "text"), *at = strstr(text, phrase);
    if (!at) fail_msg("no \"%s\" in \"%s\"", phrase, text);
    snprintf(path, sizeof path, "/api/v1/documents/%lld/segments?start=%d&end=%d", (long long)id,
             (int)(at - text), (int)(at - text + (int)strlen(phrase)));
    json_t *v = GET_JSON(w, path), *list = json_object_get(v, "segments"), *line = json_array_get(list, 0);
    assert_int_equal(json_array_size(list), 1);
    assert_int_equal(integer_of(line, "page"), page);
    json_t *rects = json_object_get(line, "rects");
    assert_int_equal(json_array_size(rects), 7); /* a word each */
    double before = 72;
    for (size_t i = 0; i < 7; i++) {
        const json_t *r = json_array_get(rects, i);
        double x0 = json_number_value(json_array_get(r, 0)), y0 = json_number_value(json_array_get(r, 1));
        double x1 = json_number_value(json_array_get(r, 2)), y1 = json_number_value(json_array_get(r, 3));
        if (x0 < before - 2 || x0 > before + 8 || x1 <= x0 || y0 < 78 || y1 > 98 || y1 <= y0)
            fail_msg("word %zu at %.1f,%.1f-%.1f,%.1f", i, x0, y0, x1, y1);
        before = x1;
    }
    assert_true(before > 340 && before < 400);
    json_decref(t);
    json_decref(v);
}

static void as_a_request_says(void **state) {
    world *w = *state;
    size_t n;
    char *scan = scan_pdf(NULL, SHOWN, 1, &n);
    json_t *status = GET_JSON(w, "/api/v1/status"), *ocr = json_object_get(status, "ocr");
    assert_true(json_is_true(json_object_get(ocr, "installed")));
    assert_true(json_array_size(json_object_get(ocr, "languages")) > 0);
    assert_string_equal(text_of(ocr, "usual"), "");
    json_decref(status);

    json_t *job = put_and_wait(w, "scan.pdf", "", scan, n);
    assert_string_equal(text_of(job, "state"), "failed");
    assert_string_equal(text_of(job, "ocr"), "");
    assert_non_null(strstr(text_of(job, "detail"), "without OCR"));
    json_decref(job);

    job = put_and_wait(w, "scan.pdf", "&ocr=eng", scan, n);
    assert_string_equal(text_of(job, "state"), "done");
    assert_string_equal(text_of(job, "ocr"), "eng");
    int64_t id = integer_of(job, "document");
    json_t *d = document(w, id);
    assert_string_equal(text_of(d, "ocr"), "eng");
    assert_string_equal(text_of(d, "picture_pages"), "");
    assert_non_null(strstr(text_of(d, "warning"), "read by OCR"));
    expect_marked(w, id, "Marta Lindqvist", 1);
    json_decref(job);
    json_decref(d);

    static const struct {
        const char *more;
        long status;
    } wrong[] = {
        {"&ocr=..%2Feng", 400}, {"&ocr=eng%20deu", 400}, {"&ocr=xx_yy", 415}, {"&ocr=eng&ocr=eng", 400}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char path[160];
        snprintf(path, sizeof path, "/api/v1/documents?name=x.pdf%s", wrong[i].more);
        expect_refused(SEND(w, .method = "PUT", .path = path, .bytes = scan, .n = n), wrong[i].status, path);
    }
    static const char *const bodies[] = {"{\"url\":\"http://example.org/x\",\"ocr\":5}",
                                         "{\"url\":\"http://example.org/x\",\"ocr\":\"../x\"}"};
    for (size_t i = 0; i < 2; i++)
        expect_refused(SEND(w, .method = "POST", .path = "/api/v1/documents/url", .json = bodies[i]), 400,
                       bodies[i]);
    free(scan);
}

static void read_again(void **state) {
    world *w = *state;
    size_t n;
    char *mixed = scan_pdf(SAID, SHOWN, 1, &n);
    json_t *job = put_and_wait(w, "mixed.pdf", "", mixed, n);
    int64_t first = integer_of(job, "document");
    json_decref(job);
    json_t *d = document(w, first);
    assert_string_equal(text_of(d, "picture_pages"), "2");
    json_decref(d);
    json_decref(put(w, "mixed.pdf", "", mixed, n, 200)); /* known */
    document_becomes(w, first, "ready");

    job = put_and_wait(w, "mixed.pdf", "&ocr=eng", mixed, n);
    assert_string_equal(text_of(job, "state"), "done");
    assert_non_null(strstr(text_of(job, "detail"), "read again with OCR"));
    int64_t second = integer_of(job, "document");
    assert_true(second != first);
    json_decref(job);
    expect_marked(w, second, "Marta Lindqvist", 2);
    document_becomes(w, second, "ready");
    json_t *all = GET_JSON(w, "/api/v1/documents");
    assert_int_equal(json_array_size(json_object_get(all, "documents")), 1);
    json_decref(all);
    json_t *known = put(w, "mixed.pdf", "&ocr=eng", mixed, n, 200);
    assert_string_equal(text_of(known, "state"), "known");
    json_decref(known);
    json_decref(put(w, "mixed.pdf", "", mixed, n, 200)); /* nor is it read worse again */
    free(mixed);
}

static void as_the_server_was_started(void **state) {
    (void)state;
    char *folder = make_folder();
    size_t n;
    char *scan = scan_pdf(NULL, SHOWN, 1, &n);
    write_file(in_folder(folder, "watched.pdf"), scan, n);
    scan[n - 2] = ' '; /* another content: %%EOF has two signs and this */
    serve_options o = {.ocr = "eng", .watch = &folder, .n_watch = 1, .watch_ms = 200};
    world *w = world_new(&o, 0);
    json_t *off = put_and_wait(w, "off.pdf", "&ocr=", scan, n);
    assert_string_equal(text_of(off, "state"), "failed");
    json_decref(off);
    json_t *on = put_and_wait(w, "on.pdf", "", scan, n);
    assert_string_equal(text_of(on, "state"), "done");
    json_decref(on);
    bool there = false;
    for (double until = seconds_now() + 60; !there && seconds_now() < until; usleep(50000)) {
        json_t *all = GET_JSON(w, "/api/v1/documents"), *d;
        size_t i;
        json_array_foreach(json_object_get(all, "documents"), i, d) there |=
            !strcmp(text_of(d, "name"), "watched.pdf") && !strcmp(text_of(d, "ocr"), "eng");
        json_decref(all);
    }
    assert_true(there);
    world_free(w);
    free(scan);
    remove_folder(folder);
}

/* A server that is stopped while it reads leaves what was asked for to the next one. */
static void asked_for_survives_a_stop(void **state) {
    (void)state;
    size_t n;
    char *scan = scan_pdf(NULL, SHOWN, 12, &n);
    world *w = world_new(NULL, 0);
    json_t *job = put(w, "long.pdf", "&ocr=eng", scan, n, 202);
    int64_t id = integer_of(job, "id");
    json_decref(job);
    char path[64], ended[16];
    snprintf(path, sizeof path, "/api/v1/jobs/%lld", (long long)id);
    int64_t done = 0, total = 0;
    for (double until = seconds_now() + 30; done < 1 && seconds_now() < until; usleep(20000)) {
        json_t *v = GET_JSON(w, path);
        done = integer_of(v, "done");
        total = integer_of(v, "total");
        json_decref(v);
    }
    assert_int_equal(total, 12); /* page after page is told */
    assert_true(done >= 1 && done < 12);
    double began = seconds_now();
    serve_stop(w->server);
    assert_true(seconds_now() - began < 5);
    world_start(w);
    int64_t document_id = job_ended(w, id, ended);
    assert_string_equal(ended, "done");
    json_t *d = document(w, document_id);
    assert_string_equal(text_of(d, "ocr"), "eng");
    json_decref(d);
    world_free(w);
    free(scan);
}

static int set_up(void **state) {
    *state = world_new(NULL, 0);
    return 0;
}

static int tear_down(void **state) {
    world_free(*state);
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(as_a_request_says, set_up, tear_down),
        cmocka_unit_test_setup_teardown(read_again, set_up, tear_down),
        cmocka_unit_test(as_the_server_was_started),
        cmocka_unit_test(asked_for_survives_a_stop),
    };
    ph_error err = {0};
    if (argc > 1 && !strcmp(argv[1], INGEST_CHILD_ARGUMENT)) return ingest_child_main(argc, argv);
    if (ingest_ocr_check(NULL, &err)) {
        printf("skipped: %s\n", err.text);
        return 77;
    }
    signal(SIGPIPE, SIG_IGN);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
