/* test_cli_ocr.c - `pharos add --ocr` and `pharos watch --ocr` as a person uses them. Skipped where tesseract
 * is not installed. */
#include "ingest/ingest.h"
#include "kernels/error.h"
#include "tests/pharos_cli.h"
#include "tests/scan.h"

#define SHOWN "The lighthouse keeper is called Marta Lindqvist."

static void put_scan(const world *w, const char *name, const char *says, const char *shows) {
    size_t n;
    char *bytes = scan_pdf(says, shows, 1, &n);
    write_file(in_folder(w->documents, name), bytes, n);
    free(bytes);
}

/* The state and detail of the one document that `add` tells of. */
static void add(const world *w, int status, const char *name, const char *option, const char *state,
                const char *words) {
    char path[512];
    snprintf(path, sizeof path, "%s", in_folder(w->documents, name));
    json_t *v = option ? PHAROS_JSON(w, status, "add", "--no-read", option, path)
                       : PHAROS_JSON(w, status, "add", "--no-read", path);
    const json_t *row = json_array_get(array(v, "documents"), 0);
    if (strcmp(string(row, "state"), state) || !strstr(string(row, "detail"), words))
        fail_msg("%s: %s", string(row, "state"), string(row, "detail"));
    json_decref(v);
}

static void adding(void **state) {
    const world *w = *state;
    put_scan(w, "scan.pdf", NULL, SHOWN);
    put_scan(w, "mixed.pdf", "A page that says this itself.", SHOWN);
    add(w, PH_FAIL, "scan.pdf", NULL, "failed", "without OCR (--ocr)");
    add(w, PH_OK, "scan.pdf", "--ocr", "added", "1 page read by OCR (eng)");
    add(w, PH_OK, "mixed.pdf", NULL, "added", "page 2 holds pictures only and was not read");
    add(w, PH_OK, "mixed.pdf", NULL, "known", "");
    add(w, PH_OK, "mixed.pdf", "--ocr", "updated", "read again with OCR; 1 page read by OCR (eng)");
    add(w, PH_OK, "mixed.pdf", "--ocr", "known", "");
    add(w, PH_OK, "mixed.pdf", NULL, "known", "");
    json_t *v = PHAROS_JSON(w, PH_OK, "ls");
    assert_int_equal(json_array_size(v), 2);
    for (size_t i = 0; i < 2; i++) assert_string_equal(string(json_array_get(v, i), "ocr"), "eng");
    json_decref(v);

    /* What cannot be had is said before anything is looked at. */
    result r = pharos(w, "add", "--ocr", "--ocr-language", "eng+xx_yy", w->documents, NULL);
    expect_status(&r, PH_UNSUPPORTED);
    assert_non_null(strstr(r.err, "tesseract-ocr-xx-yy"));
    result_free(&r);
    r = pharos(w, "add", "--ocr", "--ocr-language", "../eng", w->documents, NULL);
    expect_status(&r, PH_USAGE);
    result_free(&r);
    r = pharos(w, "add", "--ocr-language", "eng", w->documents, NULL);
    expect_status(&r, PH_USAGE);
    result_free(&r);
}

/* A page in which OCR finds nothing is noted, and not looked at each time. */
static void nothing_to_find(void **state) {
    const world *w = *state;
    put_scan(w, "blank.pdf", "A page that says this itself.", "");
    add(w, PH_OK, "blank.pdf", NULL, "added", "was not read");
    add(w, PH_OK, "blank.pdf", "--ocr", "known", "OCR (eng) finds no more text in it");
    json_t *v = PHAROS_JSON(w, PH_OK, "ls");
    assert_int_equal(json_array_size(v), 1);
    assert_string_equal(string(json_array_get(v, 0), "ocr"), "eng");
    assert_int_equal(integer(json_array_get(v, 0), "id"), 1);
    json_decref(v);
    add(w, PH_OK, "blank.pdf", "--ocr", "known", "");
}

static void watching(void **state) {
    const world *w = *state;
    put_scan(w, "mixed.pdf", "A page that says this itself.", SHOWN);
    static const struct {
        const char *option, *events;
    } looks[] = {{NULL, "\"added\""}, {"--ocr", "\"updated\""}, {"--ocr", ""}, {NULL, ""}};
    for (size_t i = 0; i < sizeof looks / sizeof *looks; i++) {
        const char *option = looks[i].option;
        result r = option ? pharos(w, "watch", "--once", "--no-read", "--json", option, w->documents, NULL)
                          : pharos(w, "watch", "--once", "--no-read", "--json", w->documents, NULL);
        expect_status(&r, PH_OK);
        if (looks[i].events[0] ? !strstr(r.out, looks[i].events) : r.out[0])
            fail_msg("look %zu: %s", i, r.out);
        result_free(&r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {IN_A_WORLD(adding), IN_A_WORLD(nothing_to_find), IN_A_WORLD(watching)};
    ph_error err = {0};
    if (ingest_ocr_check(NULL, &err)) {
        printf("skipped: %s\n", err.text);
        return 77;
    }
    return cmocka_run_group_tests(tests, cli_make_model, cli_remove_model);
}
