/* test_cli.c - the program as a user drives it: exit codes, what goes to which stream, JSON that parses, odd
 * names, broken files, stopping and going on. Uses a tiny random model: its answers are noise, and everything
 * about them is testable all the same. test_cli_answers.c and test_cli_manual.c have the rest. */
#include "tests/pharos_cli.h"

#include "kernels/error.h"
#include "tests/tiny_model.h"

#include <ctype.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- usage ---- */

static void usage_is_told_apart(void **state) {
    world *w = *state;
    const char *bare[] = {PROGRAM, NULL};
    result r = run_program(bare, NULL);
    expect_status(&r, PH_USAGE);
    expect_silent("pharos", r.out);
    assert_non_null(strstr(r.err, "Usage:"));
    result_free(&r);

    const char *help[] = {PROGRAM, "--help", NULL};
    r = run_program(help, NULL);
    expect_status(&r, PH_OK);
    expect_silent("--help", r.err);
    assert_non_null(strstr(r.out, "doctor"));
    result_free(&r);

    const char *version[] = {PROGRAM, "--version", NULL};
    r = run_program(version, NULL);
    expect_status(&r, PH_OK);
    assert_int_equal(strncmp(r.out, "pharos ", 7), 0);
    result_free(&r);

    const char *const wrong[][4] = {
        {"frobnicate"},
        {"add"},
        {"rm"},
        {"ask"},
        {"ask", ""},
        {"ask", "  "},
        {"ask", "x", "--max-tokens=0"},
        {"ask", "x", "--temperature=warm"},
        {"ask", "x", "--pack=0"},
        {"ls", "too-much"},
        {"trace", "one"},
        {"trace", "0"},
        {"trace", "1", "2"},
        {"trace", "--layer=-1"},
        {"trace", "--word=0"},
        {"pack", "shake"},
        {"pack", "ls", "1"},
        {"pack", "read", "x"},
        {"model", "check"},
        {"model", "shake"},
        {"model", "show", "x"},
        {"doctor", "x"},
        {"ls", "--threads=0"},
        {"ls", "--topk=many"},
        {"ls", "--latents=int4"},
        {"ls", "--latents=fp8", "--remote=http://127.0.0.1:1"},
        {"model", "check", "--latents=fp8", "x"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        r = pharos(w, wrong[i][0], wrong[i][1], wrong[i][2], wrong[i][3], NULL);
        if (r.status != PH_USAGE) fail_msg("pharos %s %s: exit code %d", wrong[i][0], wrong[i][1], r.status);
        expect_silent(wrong[i][0], r.out);
        assert_true(r.err_len > 0);
        result_free(&r);
    }
    assert_int_equal(files_below(w->data),
                     0); /* nothing was made for a command that could not be understood */
}

static void unknown_options_are_usage_errors(void **state) {
    world *w = *state;
    char names[MAX_COMMANDS][32];
    list_commands(names);
    for (int i = 0; names[i][0]; i++) {
        result r = pharos(w, names[i], "--no-such-option", NULL);
        if (r.status != PH_USAGE) fail_msg("pharos %s: exit code %d", names[i], r.status);
        expect_silent(names[i], r.out);
        assert_non_null(strstr(r.err, names[i]));
        result_free(&r);
    }
}

/* ---- an empty library ---- */

static void an_empty_library_says_so(void **state) {
    world *w = *state;
    result r = pharos(w, "ls", NULL);
    expect_status(&r, PH_OK);
    expect_silent("ls", r.out);
    assert_non_null(strstr(r.err, "pharos add"));
    result_free(&r);
    r = pharos(w, "ls", "--quiet", NULL);
    expect_status(&r, PH_OK);
    expect_silent("ls --quiet", r.err);
    result_free(&r);

    json_t *v = PHAROS_JSON(w, PH_OK, "ls");
    assert_int_equal(json_array_size(v), 0);
    json_decref(v);
    v = PHAROS_JSON(w, PH_OK, "trace", "--list");
    assert_int_equal(json_array_size(v), 0);
    json_decref(v);
    v = PHAROS_JSON(w, PH_OK, "pack", "ls");
    assert_int_equal(json_array_size(array(v, "packs")), 0);
    json_decref(v);
    v = PHAROS_JSON(w, PH_OK, "pack", "read");
    assert_int_equal(json_array_size(v), 0);
    json_decref(v);

    const char *const missing[][3] = {{"ask", "anything?"},  {"trace"},
                                      {"trace", "7"},        {"rm", "nothing.txt"},
                                      {"pack", "read", "7"}, {"add", "/no/such/file"}};
    for (size_t i = 0; i < sizeof missing / sizeof *missing; i++) {
        r = pharos(w, missing[i][0], missing[i][1], missing[i][2], NULL);
        if (r.status != PH_NOT_FOUND) fail_msg("pharos %s: exit code %d: %s", missing[i][0], r.status, r.err);
        assert_true(r.err_len > 0);
        result_free(&r);
    }
    v = PHAROS_JSON(w, PH_NOT_FOUND, "ask", "anything?");
    assert_int_equal(integer(json_object_get(v, "error"), "code"), PH_NOT_FOUND);
    assert_true(strlen(string(json_object_get(v, "error"), "message")) > 0);
    json_decref(v);
}

/* ---- adding ---- */

static void adding_twice_is_noticed(void **state) {
    world *w = *state;
    add_document(w, "a.txt", LIGHTHOUSE);
    add_document(w, "b.txt", LIBRARY);
    result r = pharos(w, "add", w->documents, NULL);
    expect_status(&r, PH_OK);
    expect_silent("add", r.err); /* no progress where there is no terminal */
    assert_non_null(strstr(r.out, "2 added"));
    result_free(&r);

    json_t *v = PHAROS_JSON(w, PH_OK, "add", w->documents);
    assert_int_equal(json_array_size(array(v, "documents")), 2);
    for (size_t i = 0; i < 2; i++)
        assert_string_equal(string(json_array_get(array(v, "documents"), i), "state"), "known");
    assert_int_equal(json_array_size(array(v, "read")), 0); /* nothing new to read */
    json_decref(v);

    add_document(w, "copy.txt", LIGHTHOUSE);
    v = PHAROS_JSON(w, PH_OK, "add", in_folder(w->documents, "copy.txt"));
    const json_t *row = json_array_get(array(v, "documents"), 0);
    assert_string_equal(string(row, "state"), "known");
    assert_non_null(strstr(string(row, "detail"), "a.txt"));
    json_decref(v);

    add_document(w, "a.txt", "An entirely different text.\n");
    v = PHAROS_JSON(w, PH_OK, "add", w->documents);
    bool updated = false;
    for (size_t i = 0; i < json_array_size(array(v, "documents")); i++)
        updated |= !strcmp(string(json_array_get(array(v, "documents"), i), "state"), "updated");
    assert_true(updated);
    json_decref(v);
}

static void a_broken_file_does_not_stop_the_others(void **state) {
    world *w = *state;
    add_document(w, "a.txt", LIGHTHOUSE);
    add_document(w, "broken.pdf", "%PDF-1.7 and nothing that a PDF has\n");
    add_document(w, "empty.txt", "");
    add_document(w, "z.txt", LIBRARY);
    result r = pharos(w, "add", w->documents, NULL);
    expect_status(&r, PH_FAIL);
    assert_non_null(strstr(r.err, "broken.pdf"));
    assert_null(strstr(strstr(r.err, "broken.pdf") + 1, "broken.pdf")); /* named once */
    assert_null(strstr(r.out, "broken.pdf"));
    assert_non_null(strstr(r.out, "2 added"));
    result_free(&r);
    json_t *v = PHAROS_JSON(w, PH_OK, "ls");
    assert_int_equal(json_array_size(v), 2);
    json_decref(v);
}

/* A scheme has no case: this is an address, and one that is not fetched, but no name of a file. */
static void an_address_is_one_in_any_case(void **state) {
    world *w = *state;
    result r = pharos(w, "add", "--no-read", "HTTP://127.0.0.1:1/", NULL);
    expect_status(&r, PH_FAIL);
    assert_non_null(strstr(r.err, "not a public address"));
    result_free(&r);
}

static void odd_names_are_kept_and_made_visible(void **state) {
    world *w = *state;
    static const char *const names[] = {"two\nlines.txt",     "tab\tand \"quotes\" 'both'.txt",
                                        "esc\033[31mred.txt", "-rf.txt",
                                        "sp ace.txt",         "\xC3\xBCml\xC3\xA4ut \xE6\x96\x87.txt",
                                        "bad\xFFutf8.txt",    "$(reboot);`x`%s%n.txt",
                                        "c1\xC2\x9Bm.txt"};
    int n = sizeof names / sizeof *names;
    for (int i = 0; i < n; i++) {
        char text[80];
        snprintf(text, sizeof text, "Document number %d says something of its own.\n", i);
        add_document(w, names[i], text);
    }
    result r = pharos(w, "add", w->documents, NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
    static const char *const commands[][2] = {{"ls"}, {"pack"}, {"ask", "who says what?"}, {"trace"}};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        r = pharos(w, commands[i][0], commands[i][1], NULL);
        expect_status(&r, PH_OK);
        assert_null(strchr(r.out, '\033')); /* neither a name nor a text drives a terminal */
        assert_null(strstr(r.out, "\xC2\x9B"));
        assert_null(strchr(r.out, '\t'));
        result_free(&r);
    }
    json_t *v = PHAROS_JSON(w, PH_OK, "ls");
    assert_int_equal(json_array_size(v), n);
    bool found = false;
    for (size_t i = 0; i < json_array_size(v); i++)
        found |= strstr(string(json_array_get(v, i), "name"), "\xE6\x96\x87") != NULL;
    assert_true(found);
    json_decref(v);
    const char *argv[] = {PROGRAM, "rm", "--data", w->data, "--", "-rf.txt", NULL};
    r = run_program(argv, NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
}

static void standard_input_is_a_document(void **state) {
    world *w = *state;
    result r = pharos_fed(w, &(run_options){.input = LIGHTHOUSE}, "add", "-", "--name", "from a pipe.txt",
                          "--json", NULL);
    expect_status(&r, PH_OK);
    json_t *v = parse_json(r.out);
    assert_string_equal(string(json_array_get(array(v, "documents"), 0), "name"), "from a pipe.txt");
    json_decref(v);
    result_free(&r);
    r = pharos_fed(w, &(run_options){.input = "What stood on Pharos?\n"}, "ask", "-", "--json", "-t", "4",
                   NULL);
    expect_status(&r, PH_OK);
    v = parse_json(r.out);
    assert_string_equal(string(v, "question"), "What stood on Pharos?");
    json_decref(v);
    result_free(&r);
    assert_int_equal(files_holding(w->data, "incoming", 8), 0);
    json_t *list = PHAROS_JSON(w, PH_OK, "ls");
    assert_int_equal(json_array_size(list), 1);
    json_decref(list);
}

/* ---- stopping ---- */

static json_int_t tokens_read(const world *w, json_int_t *all) {
    json_t *v = PHAROS_JSON(w, PH_OK, "pack");
    json_int_t read = 0;
    *all = 0;
    for (size_t i = 0; i < json_array_size(array(v, "packs")); i++) {
        read += integer(json_array_get(array(v, "packs"), i), "read");
        *all += integer(json_array_get(array(v, "packs"), i), "tokens");
    }
    json_decref(v);
    return read;
}

static void a_stopped_reading_goes_on_where_it_was(void **state) {
    world *w = *state;
    char *text = long_text(250000);
    add_document(w, "large.txt", text);
    free(text);
    result r = pharos(w, "add", "--no-read", w->documents, NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
    json_int_t before = 0, all = 0;
    static const int signals[] = {SIGINT, SIGTERM, SIGKILL};
    for (int i = 0; i < 3; i++) {
        const char *argv[] = {PROGRAM, "pack", "read", "--data", w->data, "--model", cli_model, NULL};
        int there = files_below(in_folder(w->data, "snapshots"));
        pid_t pid = start_program(argv);
        for (int wait = 0; wait < 6000 && files_below(in_folder(w->data, "snapshots")) < there + 3; wait++)
            usleep(5000);
        kill(pid, signals[i]);
        int status = wait_program(pid);
        if (status != (signals[i] == SIGKILL ? 128 + SIGKILL : PH_INTERRUPTED))
            fail_msg("exit code %d after signal %d", status, signals[i]);
        json_int_t read = tokens_read(w, &all);
        assert_true(read > before && read < all);
        before = read;
    }
    json_t *v = PHAROS_JSON(w, PH_OK, "pack", "read");
    json_int_t cached = 0;
    for (size_t i = 0; i < json_array_size(v); i++) cached += integer(json_array_get(v, i), "cached_tokens");
    assert_true(cached >= before); /* what the store shows is never more than what is there */
    json_decref(v);
    assert_int_equal(tokens_read(w, &all), all);
    r = pharos(w, "doctor", NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
}

/* ---- model and doctor ---- */

static void the_model_is_described(void **state) {
    world *w = *state;
    json_t *v = PHAROS_JSON(w, PH_OK, "model");
    assert_int_equal(integer(v, "layers"), TINY_LAYERS);
    assert_int_equal(integer(v, "vocabulary"), TINY_VOCAB);
    assert_int_equal(integer(v, "context"), 4096);
    assert_int_equal(strlen(string(v, "key")), 64);
    assert_true(integer(v, "parameters") > 100000);
    json_t *other = PHAROS_JSON(w, PH_OK, "model", "show", "--topk", "8");
    assert_string_not_equal(string(v, "key"), string(other, "key"));
    json_decref(other);
    other = PHAROS_JSON(w, PH_OK, "model", "show", "--latents", "bf16"); /* what it is anyway */
    assert_string_equal(string(v, "key"), string(other, "key"));
    json_decref(other);
    json_decref(v);
    other = PHAROS_JSON(w, PH_UNSUPPORTED, "model", "show", "--latents", "fp8"); /* on a processor */
    assert_non_null(strstr(string(json_object_get(other, "error"), "message"), "DeepSeek-V3.2's dimensions"));
    json_decref(other);
    const char *nowhere[] = {PROGRAM, "model", "--model", w->documents, NULL};
    result r = run_program(nowhere, NULL);
    expect_status(&r, PH_MODEL);
    result_free(&r);
    assert_int_equal(files_below(w->data), 0);
}

static void a_check_tells_pass_fail_and_unreadable_apart(void **state) {
    world *w = *state;
    result r = pharos(w, "model", "check", cli_model, NULL); /* no expected.safetensors */
    expect_status(&r, PH_MODEL);
    result_free(&r);
    if (access(GOLDEN_DIR "/v32-plain-16h/expected.safetensors", R_OK)) return;
    r = pharos(w, "model", "check", GOLDEN_DIR "/v32-plain-16h", NULL);
    expect_status(&r, PH_OK);
    assert_non_null(strstr(r.out, "PASSED"));
    assert_non_null(strstr(r.out, "hidden.4"));
    result_free(&r);
    json_t *v = PHAROS_JSON(w, PH_MODEL, "model", "check", GOLDEN_DIR "/v32-plain-16h", cli_model);
    assert_int_equal(json_array_size(v), 2);
    const json_t *first = json_array_get(v, 0);
    assert_true(json_is_true(json_object_get(first, "passed")));
    assert_int_equal(json_array_size(array(first, "ways")), 4);
    assert_true(json_is_false(json_object_get(json_array_get(v, 1), "passed")));
    json_decref(v);
    char dir[4096];
    snprintf(dir, sizeof dir, "%s", in_folder(w->dir, "wrong"));
    mkdir(dir, 0700);
    static const char *const files[] = {"config.json", "model.safetensors", "expected.safetensors"};
    for (int i = 0; i < 3; i++) {
        size_t n;
        char *bytes = read_whole(in_folder(GOLDEN_DIR "/v32-plain-16h", files[i]), &n);
        assert_non_null(bytes);
        /* A weight becomes another one: exponent and sign of an fp32 number in the middle. */
        if (i == 1) bytes[n / 2 / 4 * 4 + 3] ^= 0x81;
        write_file(in_folder(dir, files[i]), bytes, n);
        free(bytes);
    }
    r = pharos(w, "model", "check", dir, NULL);
    expect_status(&r, PH_FAIL);
    assert_non_null(strstr(r.out, "FAILED"));
    result_free(&r);
}

static void the_doctor_finds_what_is_broken(void **state) {
    world *w = *state;
    json_t *v = PHAROS_JSON(w, PH_OK, "doctor");
    assert_true(json_is_true(json_object_get(v, "ok")));
    assert_true(json_array_size(array(v, "checks")) > 8);
    json_decref(v);
    assert_int_equal(files_below(w->data), 0); /* looking changes nothing */
    add_document(w, "a.txt", LIGHTHOUSE);
    result r = pharos(w, "add", w->documents, NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
    r = pharos(w, "doctor", NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
    write_text(in_folder(w->data, "files/stray"), "what is this?");
    v = PHAROS_JSON(w, PH_FAIL, "doctor");
    assert_true(json_is_false(json_object_get(v, "ok")));
    json_decref(v);
    unlink(in_folder(w->data, "files/stray"));
    write_text(in_folder(w->data, "pharos.db"), "no database at all, but a text of some length that is none");
    unlink(in_folder(w->data, "pharos.db-wal"));
    r = pharos(w, "doctor", NULL);
    expect_status(&r, PH_FAIL);
    assert_non_null(strstr(r.out, "problem"));
    result_free(&r);
    r = pharos(w, "ls", NULL);
    assert_true(r.status != PH_OK && r.err_len > 0);
    result_free(&r);
}

/* ---- terminals ---- */

static void progress_and_colour_are_for_terminals(void **state) {
    world *w = *state;
    char *text = long_text(30000);
    add_document(w, "large.txt", text);
    free(text);
    const char *add[] = {PROGRAM, "add", w->documents, "--data", w->data, "--model", cli_model, NULL};
    result r = run_on_terminal(add, NULL);
    expect_status(&r, PH_OK);
    assert_non_null(strstr(r.out, "reading pack"));
    assert_non_null(strstr(r.out, "%"));
    result_free(&r);
    const char *ask[] = {PROGRAM, "ask", "x", "-t", "4", "--data", w->data, "--model", cli_model, NULL};
    r = run_on_terminal(ask, NULL);
    expect_status(&r, PH_OK);
    assert_non_null(strstr(r.out, "\033[1m"));
    result_free(&r);
    const char *const plain[] = {"NO_COLOR=1", NULL};
    r = run_on_terminal(ask, &(run_options){.env = plain});
    expect_status(&r, PH_OK);
    assert_null(strstr(r.out, "\033[1m"));
    result_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_A_WORLD(usage_is_told_apart),
        IN_A_WORLD(unknown_options_are_usage_errors),
        IN_A_WORLD(an_empty_library_says_so),
        IN_A_WORLD(adding_twice_is_noticed),
        IN_A_WORLD(a_broken_file_does_not_stop_the_others),
        IN_A_WORLD(an_address_is_one_in_any_case),
        IN_A_WORLD(odd_names_are_kept_and_made_visible),
        IN_A_WORLD(standard_input_is_a_document),
        IN_A_WORLD(a_stopped_reading_goes_on_where_it_was),
        IN_A_WORLD(the_model_is_described),
        IN_A_WORLD(a_check_tells_pass_fail_and_unreadable_apart),
        IN_A_WORLD(the_doctor_finds_what_is_broken),
        IN_A_WORLD(progress_and_colour_are_for_terminals),
    };
    return cmocka_run_group_tests(tests, cli_make_model, cli_remove_model);
}
