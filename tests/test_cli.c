/* test_cli.c - the program as a user drives it: exit codes, what goes to which stream, JSON that parses, odd
 * names, broken files, stopping and going on. Uses a tiny random model: its answers are noise, and everything
 * about them is testable all the same. */
#include "kernels/error.h"
#include "tests/program.h"
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

#define PROGRAM BUILD_DIR "/pharos"

static char *model; /* the tiny model's folder, for all tests */

/* A test's own world: documents and a data folder. */
typedef struct world {
    char *dir, *data, *documents;
} world;

static int set_up(void **state) {
    world *w = calloc(1, sizeof *w);
    w->dir = make_folder();
    w->data = strdup(in_folder(w->dir, "data"));
    w->documents = strdup(in_folder(w->dir, "documents"));
    mkdir(w->documents, 0700);
    *state = w;
    return 0;
}

static int tear_down(void **state) {
    world *w = *state;
    remove_folder(w->dir);
    free(w->data);
    free(w->documents);
    free(w);
    return 0;
}

enum { MAX_ARGUMENTS = 32 };

/* argv of `pharos WORDS... --data DATA --model MODEL`; the words end with NULL. */
static void arguments(const char *argv[MAX_ARGUMENTS], const world *w, const char *first, va_list rest) {
    int n = 0;
    argv[n++] = PROGRAM;
    for (const char *word = first; word; word = va_arg(rest, const char *)) {
        assert_true(n < MAX_ARGUMENTS - 5);
        argv[n++] = word;
    }
    argv[n++] = "--data";
    argv[n++] = w->data;
    argv[n++] = "--model";
    argv[n++] = model;
    argv[n] = NULL;
}

static result pharos(const world *w, const char *first, ...) {
    const char *argv[MAX_ARGUMENTS];
    va_list rest;
    va_start(rest, first);
    arguments(argv, w, first, rest);
    va_end(rest);
    return run_program(argv, NULL);
}

static result pharos_fed(const world *w, const run_options *options, const char *first, ...) {
    const char *argv[MAX_ARGUMENTS];
    va_list rest;
    va_start(rest, first);
    arguments(argv, w, first, rest);
    va_end(rest);
    return run_program(argv, options);
}

/* Fails with what the program said. */
static void expect_status(const result *r, int status) {
    if (r->status != status) fail_msg("exit code %d, not %d: %s%s", r->status, status, r->out, r->err);
}

static void expect_silent(const char *what, const char *text) {
    if (text[0]) fail_msg("%s: something was written to the wrong stream: %s", what, text);
}

/* Runs with --json, expects `status` and a JSON value on stdout. */
#define PHAROS_JSON(w, want, ...)                                                                            \
    ({                                                                                                       \
        result r_ = pharos(w, __VA_ARGS__, "--json", NULL);                                                  \
        expect_status(&r_, want);                                                                            \
        json_t *v_ = parse_json(r_.out);                                                                     \
        result_free(&r_);                                                                                    \
        v_;                                                                                                  \
    })

static json_int_t integer(const json_t *object, const char *key) {
    const json_t *v = json_object_get(object, key);
    if (!json_is_integer(v)) fail_msg("no whole number \"%s\"", key);
    return json_integer_value(v);
}

static const char *string(const json_t *object, const char *key) {
    const json_t *v = json_object_get(object, key);
    if (!json_is_string(v)) fail_msg("no string \"%s\"", key);
    return json_string_value(v);
}

static const json_t *array(const json_t *object, const char *key) {
    const json_t *v = json_object_get(object, key);
    if (!json_is_array(v)) fail_msg("no array \"%s\"", key);
    return v;
}

static void add_document(const world *w, const char *name, const char *text) {
    write_text(in_folder(w->documents, name), text);
}

static const char LIGHTHOUSE[] =
    "The lighthouse of Alexandria stood on the island of Pharos. It was 100 metres tall.\n"
    "Ships saw it from afar. Its keeper was called Zenodotus.\n";
static const char LIBRARY[] =
    "The library held many scrolls. Callimachus wrote its catalogue, the Pinakes.\n";

/* A text of about n bytes whose every line is another one. */
static char *long_text(size_t n) {
    char *text = malloc(n + 128);
    size_t at = 0;
    for (int line = 1; at < n; line++)
        at += (size_t)sprintf(text + at, "Line %d of a long document says that ship number %d passed.%s",
                              line, line * 7919 % 10007, line % 5 ? "\n" : "\n\n");
    return text;
}

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

enum { MAX_COMMANDS = 32 };

/* The commands that `pharos --help` names; ends with an empty name. */
static void list_commands(char names[MAX_COMMANDS][32]) {
    const char *argv[] = {PROGRAM, "--help", NULL};
    result r = run_program(argv, NULL);
    int n = 0;
    expect_status(&r, PH_OK);
    for (char *line = strtok(r.out, "\n"); line; line = strtok(NULL, "\n")) {
        if (strncmp(line, "  ", 2) || !islower((unsigned char)line[2])) continue;
        assert_true(n < MAX_COMMANDS - 1);
        snprintf(names[n++], sizeof names[0], "%.*s", (int)strcspn(line + 2, " "), line + 2);
    }
    names[n][0] = 0;
    assert_true(n >= 9);
    result_free(&r);
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

/* ---- asking ---- */

static void an_answer_has_the_promised_shape(void **state) {
    world *w = *state;
    add_document(w, "a.txt", LIGHTHOUSE);
    result r = pharos(w, "add", w->documents, NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
    json_t *v = PHAROS_JSON(w, PH_OK, "ask", "How tall", "was it?", "--max-tokens", "12");
    assert_string_equal(string(v, "question"), "How tall was it?");
    assert_true(json_is_boolean(json_object_get(v, "found")));
    assert_int_equal(strlen(string(v, "answer")), 12); /* a byte a token, and none of them ends it */
    const json_t *usage = json_object_get(v, "usage"), *timing = json_object_get(v, "timing");
    assert_int_equal(integer(usage, "completion_tokens"), 12);
    assert_true(integer(usage, "prompt_tokens") > integer(usage, "cached_tokens"));
    static const char *const times[] = {"prefill_ms", "first_token_ms", "total_ms"};
    double before = 0;
    for (int i = 0; i < 3; i++) {
        double ms = json_number_value(json_object_get(timing, times[i]));
        assert_true(json_is_number(json_object_get(timing, times[i])) && ms >= before);
        before = ms;
    }
    assert_int_equal(integer(v, "pack"), 1);
    const json_t *citations = array(v, "citations");
    assert_true(json_array_size(citations) >= 1);
    for (size_t i = 0; i < json_array_size(citations); i++) {
        const json_t *c = json_array_get(citations, i);
        assert_string_equal(string(c, "document"), "a.txt");
        assert_true(json_is_null(json_object_get(c, "page")));
        assert_true(integer(c, "start") < integer(c, "end"));
        assert_true(integer(c, "end") <= (json_int_t)strlen(LIGHTHOUSE));
        assert_true(strlen(string(c, "quote")) > 0);
        assert_true(json_is_boolean(json_object_get(c, "in_text")));
        assert_true(json_is_boolean(json_object_get(c, "in_read_set")));
        assert_true(json_is_number(json_object_get(c, "mass")));
    }
    json_decref(v);

    r = pharos(w, "ask", "How tall was it?", "-t", "12", "--quiet", NULL);
    expect_status(&r, PH_OK);
    expect_silent("ask --quiet", r.err);
    assert_non_null(strstr(r.out, "a.txt"));
    result_free(&r);
    r = pharos(w, "ask", "x", "--document", "none.txt", NULL);
    expect_status(&r, PH_NOT_FOUND);
    result_free(&r);
    r = pharos(w, "ask", "x", "--pack", "99", NULL);
    expect_status(&r, PH_NOT_FOUND);
    result_free(&r);
    char *question = malloc(3000);
    memset(question, 'q', 2999);
    question[2999] = 0;
    r = pharos(w, "ask", question, NULL); /* fits: the pack is nearly empty */
    expect_status(&r, PH_OK);
    result_free(&r);
    free(question);
}

static void what_was_read_is_not_read_again(void **state) {
    world *w = *state;
    add_document(w, "a.txt", LIGHTHOUSE);
    result r = pharos(w, "add", w->documents, NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
    json_t *packs = PHAROS_JSON(w, PH_OK, "pack");
    json_int_t tokens = integer(json_array_get(array(packs, "packs"), 0), "tokens");
    assert_int_equal(integer(json_array_get(array(packs, "packs"), 0), "read"), tokens);
    json_decref(packs);
    json_t *one = PHAROS_JSON(w, PH_OK, "ask", "How tall?"), *two = PHAROS_JSON(w, PH_OK, "ask", "How tall?");
    assert_int_equal(integer(json_object_get(one, "usage"), "cached_tokens"), tokens);
    assert_int_equal(integer(json_object_get(two, "usage"), "cached_tokens"), tokens);
    assert_string_equal(string(one, "answer"), string(two, "answer"));
    json_decref(one);
    json_decref(two);

    /* Another document reads its own tokens only. */
    add_document(w, "b.txt", LIBRARY);
    json_t *v = PHAROS_JSON(w, PH_OK, "add", w->documents);
    const json_t *read = json_array_get(array(v, "read"), 0);
    assert_int_equal(integer(read, "cached_tokens"), tokens);
    assert_true(integer(read, "tokens") > tokens);
    json_decref(v);
}

static void a_discarded_answer_is_not_kept(void **state) {
    world *w = *state;
    add_document(w, "a.txt", LIGHTHOUSE);
    result r = pharos(w, "add", w->documents, NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
    r = pharos(w, "ask", "--discard", "How tall?", NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
    json_t *v = PHAROS_JSON(w, PH_OK, "trace", "--list");
    assert_int_equal(json_array_size(v), 0);
    json_decref(v);
}

/* ---- tracing ---- */

static double check_layer(const json_t *layer) {
    double sum = 0, before = 2;
    const json_t *kept = array(layer, "kept");
    assert_int_equal(integer(layer, "selected"), 16); /* the model's top-k: the prompt is longer */
    assert_int_equal(json_array_size(kept), 16);
    for (size_t i = 0; i < json_array_size(kept); i++) {
        const json_t *e = json_array_get(kept, i);
        double mass = json_number_value(json_object_get(e, "mass"));
        assert_true(mass >= 0 && mass <= before);
        before = mass;
        sum += mass;
        assert_true(integer(e, "position") >= 0);
        if (json_object_get(e, "document_id"))
            assert_true(integer(e, "byte") < (json_int_t)strlen(LIGHTHOUSE) && integer(e, "sentence") >= 0);
    }
    return sum;
}

static void a_trace_accounts_for_every_token(void **state) {
    world *w = *state;
    add_document(w, "a.txt", LIGHTHOUSE);
    result r = pharos(w, "add", w->documents, NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
    json_t *answer = PHAROS_JSON(w, PH_OK, "ask", "How tall?", "-t", "10");
    json_t *v = PHAROS_JSON(w, PH_OK, "trace");
    assert_string_equal(string(v, "answer"), string(answer, "answer"));
    assert_int_equal(integer(v, "layers"), TINY_LAYERS);
    assert_int_equal(json_array_size(array(v, "citations")), json_array_size(array(answer, "citations")));
    const json_t *tokens = array(v, "tokens"), *words = array(v, "words"), *sentences = array(v, "sentences");
    assert_int_equal(json_array_size(tokens), 10);
    json_int_t end = 0;
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        const json_t *t = json_array_get(tokens, i);
        assert_int_equal(integer(t, "start"), end);
        end = integer(t, "end");
        assert_true(json_real_value(json_object_get(t, "logprob")) <= 0);
        assert_int_equal(json_array_size(array(t, "layers")), TINY_LAYERS);
        for (size_t l = 0; l < TINY_LAYERS; l++) {
            double sum = check_layer(json_array_get(array(t, "layers"), l));
            assert_true(sum > 0.99 && sum < 1.01);
        }
    }
    assert_int_equal(end, (json_int_t)strlen(string(v, "answer")));
    json_int_t next = 0;
    for (size_t i = 0; i < json_array_size(words); i++) {
        const json_t *word = json_array_get(words, i);
        assert_int_equal(integer(word, "first_token"), next);
        next = integer(word, "end_token");
        double on = json_number_value(json_object_get(word, "on_documents")), sum = 0;
        assert_true(on >= 0 && on <= 1.01);
        for (size_t k = 0; k < json_array_size(array(word, "read_set")); k++)
            sum += json_number_value(json_object_get(json_array_get(array(word, "read_set"), k), "mass"));
        assert_true(on == 0 || (sum > 0.5 && sum < 1.01)); /* white space between sentences belongs to none */
    }
    assert_int_equal(next, 10);
    for (size_t i = 0; i < json_array_size(sentences); i++) {
        const json_t *s = json_array_get(sentences, i);
        json_int_t start = integer(s, "start"), length = integer(s, "end") - start;
        assert_int_equal(strncmp(string(s, "text"), LIGHTHOUSE + start, (size_t)length), 0);
    }
    json_decref(v);

    v = PHAROS_JSON(w, PH_OK, "trace", "1", "--layer", "1", "--word", "1");
    assert_int_equal(json_array_size(array(v, "words")), 1);
    const json_t *layers = array(json_array_get(array(v, "tokens"), 0), "layers");
    assert_int_equal(json_array_size(layers), 1);
    assert_int_equal(integer(json_array_get(layers, 0), "layer"), 1);
    json_decref(v);
    json_decref(answer);
}

static void a_trace_can_be_looked_at(void **state) {
    world *w = *state;
    add_document(w, "a.txt", LIGHTHOUSE);
    result r = pharos(w, "add", w->documents, NULL);
    result_free(&r);
    r = pharos(w, "ask", "How tall?", "-t", "10", NULL);
    result_free(&r);
    r = pharos(w, "trace", NULL);
    expect_status(&r, PH_OK);
    expect_silent("trace", r.err);
    assert_non_null(strstr(r.out, "How tall?"));
    assert_non_null(strstr(r.out, "a.txt: "));
    assert_non_null(strstr(r.out, "%  x")); /* a figure stands beside every bar */
    result_free(&r);
    r = pharos(w, "trace", "1", "--word=1", "--layer=0", NULL);
    expect_status(&r, PH_OK);
    assert_non_null(strstr(r.out, "layer 0"));
    assert_null(strstr(r.out, "layer 1"));
    result_free(&r);
    static const char *const beyond[] = {"--layer=2", "--word=11", "2"};
    for (int i = 0; i < 3; i++) {
        r = pharos(w, "trace", beyond[i], NULL);
        expect_status(&r, PH_NOT_FOUND);
        result_free(&r);
    }
    r = pharos(w, "trace", "--list", NULL);
    expect_status(&r, PH_OK);
    assert_non_null(strstr(r.out, "How tall?"));
    result_free(&r);
}

static void a_trace_without_its_pack_says_so(void **state) {
    world *w = *state;
    add_document(w, "a.txt", LIGHTHOUSE);
    result r = pharos(w, "add", w->documents, NULL);
    result_free(&r);
    r = pharos(w, "ask", "How tall?", "-t", "10", NULL);
    result_free(&r);
    /* Other options are another key: the positions mean nothing there. */
    r = pharos(w, "trace", "--topk", "8", NULL);
    expect_status(&r, PH_OK);
    assert_non_null(strstr(r.err, "cannot be shown"));
    assert_non_null(strstr(r.out, "How tall?"));
    result_free(&r);
    json_t *v = PHAROS_JSON(w, PH_OK, "trace", "--topk", "8");
    assert_true(json_is_string(json_object_get(v, "missing")));
    assert_int_equal(json_array_size(array(v, "tokens")), 10);
    json_decref(v);
    r = pharos(w, "pack", "prune", "--topk", "8", NULL); /* as if this had become the way to ask */
    expect_status(&r, PH_OK);
    assert_non_null(strstr(r.out, "erased 1 pack"));
    result_free(&r);
    v = PHAROS_JSON(w, PH_OK, "trace");
    assert_true(json_is_string(json_object_get(v, "missing")));
    assert_string_equal(string(v, "question"), "How tall?");
    json_decref(v);
    /* Nothing is lost but time: the next question reads again. */
    v = PHAROS_JSON(w, PH_OK, "ask", "How tall?", "-t", "10");
    assert_int_equal(integer(json_object_get(v, "usage"), "cached_tokens"), 0);
    json_decref(v);
}

/* ---- packs ---- */

static void a_document_larger_than_a_context_is_all_there(void **state) {
    world *w = *state;
    char *text = long_text(11000);
    add_document(w, "large.txt", text);
    add_document(w, "small.txt", LIGHTHOUSE);
    result r = pharos(w, "add", "--no-read", w->documents, NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
    json_t *v = PHAROS_JSON(w, PH_OK, "pack", "ls");
    json_int_t covered = 0;
    int parts = 0, said = 0;
    for (size_t i = 0; i < json_array_size(array(v, "packs")); i++) {
        const json_t *pack = json_array_get(array(v, "packs"), i);
        assert_int_equal(integer(pack, "read"), 0);
        assert_true(integer(pack, "tokens") + integer(v, "reserved") <= integer(v, "capacity"));
        for (size_t k = 0; k < json_array_size(array(pack, "documents")); k++) {
            const json_t *d = json_array_get(array(pack, "documents"), k);
            if (strcmp(string(d, "document"), "large.txt")) continue;
            assert_int_equal(integer(d, "start"), covered);
            covered = integer(d, "end");
            assert_int_equal(integer(d, "part"), ++parts);
            said = (int)integer(d, "parts");
        }
    }
    assert_int_equal(covered, (json_int_t)strlen(text));
    assert_true(parts >= 3);
    assert_int_equal(said, parts);
    json_decref(v);
    r = pharos(w, "pack", "ls", NULL);
    expect_status(&r, PH_OK);
    assert_non_null(strstr(r.out, "part 2 of"));
    result_free(&r);
    v = PHAROS_JSON(w, PH_OK, "pack", "read", "2");
    assert_int_equal(json_array_size(v), 1);
    assert_int_equal(integer(json_array_get(v, 0), "pack"), 2);
    json_decref(v);
    free(text);
}

static void a_deleted_document_is_gone_everywhere(void **state) {
    world *w = *state;
    static const char marker[] = "Xylophonequartz";
    char text[600];
    snprintf(text, sizeof text, "%s %s was the secret name of the keeper. Nobody else knew %s.\n", LIGHTHOUSE,
             marker, marker);
    add_document(w, "secret.txt", text);
    add_document(w, "other.txt", LIBRARY);
    result r = pharos(w, "add", w->documents, NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
    r = pharos(w, "ask", "What was the secret name?", NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
    assert_true(files_holding(w->data, marker, strlen(marker)) > 0); /* the search can find it */
    json_t *v = PHAROS_JSON(w, PH_OK, "rm", "secret.txt");
    assert_int_equal(integer(v, "documents"), 1);
    assert_int_equal(integer(v, "packs"), 1);
    assert_int_equal(integer(v, "snapshots"), 1);
    assert_int_equal(integer(v, "answers"), 1);
    json_decref(v);
    assert_int_equal(files_holding(w->data, marker, strlen(marker)), 0);
    assert_int_equal(files_below(in_folder(w->data, "snapshots")), 0);
    v = PHAROS_JSON(w, PH_OK, "ls");
    assert_int_equal(json_array_size(v), 1);
    json_decref(v);
    /* The one that shared its pack waits for the next question, which packs it again. */
    v = PHAROS_JSON(w, PH_OK, "pack");
    assert_int_equal(json_array_size(array(v, "waiting")), 1);
    json_decref(v);
    r = pharos(w, "ask", "Who wrote the catalogue?", NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
    r = pharos(w, "rm", "secret.txt", "other.txt", NULL); /* one is there: it goes, and the other is told */
    expect_status(&r, PH_NOT_FOUND);
    assert_non_null(strstr(r.err, "secret.txt"));
    result_free(&r);
    v = PHAROS_JSON(w, PH_OK, "ls");
    assert_int_equal(json_array_size(v), 0);
    json_decref(v);
    r = pharos(w, "doctor", NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
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
        const char *argv[] = {PROGRAM, "pack", "read", "--data", w->data, "--model", model, NULL};
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
    json_decref(v);
    const char *nowhere[] = {PROGRAM, "model", "--model", w->documents, NULL};
    result r = run_program(nowhere, NULL);
    expect_status(&r, PH_MODEL);
    result_free(&r);
    assert_int_equal(files_below(w->data), 0);
}

static void a_check_tells_pass_fail_and_unreadable_apart(void **state) {
    world *w = *state;
    result r = pharos(w, "model", "check", model, NULL); /* no expected.safetensors */
    expect_status(&r, PH_MODEL);
    result_free(&r);
    if (access(GOLDEN_DIR "/v32-plain-16h/expected.safetensors", R_OK)) return;
    r = pharos(w, "model", "check", GOLDEN_DIR "/v32-plain-16h", "--verbose", NULL);
    expect_status(&r, PH_OK);
    assert_non_null(strstr(r.out, "PASSED"));
    assert_non_null(strstr(r.out, "hidden.4"));
    result_free(&r);
    json_t *v = PHAROS_JSON(w, PH_MODEL, "model", "check", GOLDEN_DIR "/v32-plain-16h", model);
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
    const char *add[] = {PROGRAM, "add", w->documents, "--data", w->data, "--model", model, NULL};
    result r = run_on_terminal(add, NULL);
    expect_status(&r, PH_OK);
    assert_non_null(strstr(r.out, "reading pack"));
    assert_non_null(strstr(r.out, "%"));
    result_free(&r);
    const char *ask[] = {PROGRAM, "ask", "x", "-t", "4", "--data", w->data, "--model", model, NULL};
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

/* ---- help, man page, completion ---- */

/* Calls `see` with every long option that `pharos NAME --help` names. */
static void each_option(const char *name, void (*see)(const char *command, const char *option, void *user),
                        void *user) {
    const char *argv[] = {PROGRAM, name, "--help", NULL};
    result r = run_program(argv, NULL);
    expect_status(&r, PH_OK);
    expect_silent("--help", r.err);
    for (char *line = r.out; line; line = strchr(line, '\n')) {
        line += strspn(line, "\n");
        /* "  -d, --data=DIR    what it does", "      --dense    ...", "      --one=X, --other=X  ..." */
        char *at = line + strspn(line, " ");
        if (at[0] == '-' && at[1] != '-' && at[2] == ',') at += 4;
        while (at > line && !strncmp(at, "--", 2)) {
            char option[64];
            size_t n = strspn(at + 2, "abcdefghijklmnopqrstuvwxyz-");
            snprintf(option, sizeof option, "--%.*s", (int)n, at + 2);
            see(name, option, user);
            char *next = strstr(at, ", --"), *end = strchr(at, ' ');
            at = next && next + 1 == end ? next + 2 : line;
        }
    }
    result_free(&r);
}

typedef struct papers {
    char *man, *completion;
    int seen;
} papers;

static bool is_word(char c) {
    return isalnum((unsigned char)c) || c == '-';
}

static bool mentions(const char *text, const char *option) {
    for (const char *at = text; (at = strstr(at, option)); at++)
        if (!is_word(at[strlen(option)])) return true;
    return false;
}

/* The part of the man page about a command: from its heading to the next one. */
static char *section(const char *man, const char *command) {
    char heading[64];
    snprintf(heading, sizeof heading, ".SS %.40s\n", command);
    const char *start = strstr(man, heading);
    if (!start) {
        fail_msg("the man page says nothing of %s", command);
        return NULL;
    }
    const char *end = strstr(start + strlen(heading) - 1, "\n.S");
    return strndup(start, end ? (size_t)(end - start) : strlen(start));
}

static void see_option(const char *command, const char *option, void *user) {
    papers *p = user;
    char escaped[128], *at = escaped;
    for (const char *c = option; *c; c++) { /* a dash is written \- in a man page */
        if (*c == '-') *at++ = '\\';
        *at++ = *c;
    }
    *at = 0;
    char *own = section(p->man, command), *common = section(p->man, "Every command");
    if (!mentions(own, escaped) && !mentions(common, escaped))
        fail_msg("the man page does not have %s of %s", option, command);
    if (!mentions(p->completion, option)) fail_msg("the completion does not have %s of %s", option, command);
    free(own);
    free(common);
    p->seen++;
}

static void help_man_page_and_completion_agree(void **state) {
    (void)state;
    size_t n;
    papers p = {.man = read_whole(SOURCE_DIR "/appliance/pharos.1", &n),
                .completion = read_whole(SOURCE_DIR "/appliance/completions/pharos", &n)};
    assert_non_null(p.man);
    assert_non_null(p.completion);
    char names[MAX_COMMANDS][32];
    list_commands(names);
    for (int i = 0; names[i][0]; i++) {
        int before = p.seen;
        each_option(names[i], see_option, &p);
        assert_true(p.seen >= before + 8); /* the common ones at least: the parser of this test works */
        if (!mentions(p.completion, names[i])) fail_msg("the completion has no %s", names[i]);
    }
    free(p.man);
    free(p.completion);
}

static void completion_completes(void **state) {
    (void)state;
    static const struct {
        const char *words, *want;
    } cases[] = {
        {"pharos tra", "trace"},       {"pharos ask --max", "--max-tokens"}, {"pharos pack re", "read"},
        {"pharos model che", "check"}, {"pharos add --no-r", "--no-read"},   {"pharos doctor --js", "--json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char script[4096];
        snprintf(script, sizeof script,
                 ". %s; COMP_WORDS=(%s); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _pharos; printf '%%s\\n' "
                 "\"${COMPREPLY[@]}\"",
                 SOURCE_DIR "/appliance/completions/pharos", cases[i].words);
        const char *argv[] = {"/bin/bash", "-c", script, NULL};
        result r = run_program(argv, NULL);
        expect_status(&r, PH_OK);
        expect_silent("completion", r.err);
        if (!strstr(r.out, cases[i].want)) fail_msg("%s: completed to: %s", cases[i].words, r.out);
        result_free(&r);
    }
}

static int make_model(void **state) {
    (void)state;
    if (access(PROGRAM, X_OK)) {
        print_error("the program is not built: %s\n", PROGRAM);
        return -1;
    }
    model = make_folder();
    return tiny_model_write(model, &(tiny_options){.seed = 1});
}

static int remove_model(void **state) {
    (void)state;
    remove_folder(model);
    return 0;
}

#define IN_A_WORLD(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_A_WORLD(usage_is_told_apart),
        IN_A_WORLD(unknown_options_are_usage_errors),
        IN_A_WORLD(an_empty_library_says_so),
        IN_A_WORLD(adding_twice_is_noticed),
        IN_A_WORLD(a_broken_file_does_not_stop_the_others),
        IN_A_WORLD(odd_names_are_kept_and_made_visible),
        IN_A_WORLD(standard_input_is_a_document),
        IN_A_WORLD(an_answer_has_the_promised_shape),
        IN_A_WORLD(what_was_read_is_not_read_again),
        IN_A_WORLD(a_discarded_answer_is_not_kept),
        IN_A_WORLD(a_trace_accounts_for_every_token),
        IN_A_WORLD(a_trace_can_be_looked_at),
        IN_A_WORLD(a_trace_without_its_pack_says_so),
        IN_A_WORLD(a_document_larger_than_a_context_is_all_there),
        IN_A_WORLD(a_deleted_document_is_gone_everywhere),
        IN_A_WORLD(a_stopped_reading_goes_on_where_it_was),
        IN_A_WORLD(the_model_is_described),
        IN_A_WORLD(a_check_tells_pass_fail_and_unreadable_apart),
        IN_A_WORLD(the_doctor_finds_what_is_broken),
        IN_A_WORLD(progress_and_colour_are_for_terminals),
        IN_A_WORLD(help_man_page_and_completion_agree),
        IN_A_WORLD(completion_completes),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
