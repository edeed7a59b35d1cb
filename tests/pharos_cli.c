#include "tests/pharos_cli.h"

#include "kernels/error.h"
#include "tests/tiny_model.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

char *cli_model;

int cli_set_up(void **state) {
    world *w = calloc(1, sizeof *w);
    w->dir = make_folder();
    w->data = strdup(in_folder(w->dir, "data"));
    w->documents = strdup(in_folder(w->dir, "documents"));
    mkdir(w->documents, 0700);
    *state = w;
    return 0;
}

int cli_tear_down(void **state) {
    world *w = *state;
    remove_folder(w->dir);
    free(w->data);
    free(w->documents);
    free(w);
    return 0;
}

enum { MAX_ARGUMENTS = 32 };

/* argv of `pharos WORDS... --data DATA --cli_model MODEL`; the words end with NULL. */
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
    argv[n++] = cli_model;
    argv[n] = NULL;
}

result pharos(const world *w, const char *first, ...) {
    const char *argv[MAX_ARGUMENTS];
    va_list rest;
    va_start(rest, first);
    arguments(argv, w, first, rest);
    va_end(rest);
    return run_program(argv, NULL);
}

result pharos_fed(const world *w, const run_options *options, const char *first, ...) {
    const char *argv[MAX_ARGUMENTS];
    va_list rest;
    va_start(rest, first);
    arguments(argv, w, first, rest);
    va_end(rest);
    return run_program(argv, options);
}

/* Fails with what the program said. */
void expect_status(const result *r, int status) {
    if (r->status != status) fail_msg("exit code %d, not %d: %s%s", r->status, status, r->out, r->err);
}

void expect_silent(const char *what, const char *text) {
    if (text[0]) fail_msg("%s: something was written to the wrong stream: %s", what, text);
}

json_int_t integer(const json_t *object, const char *key) {
    const json_t *v = json_object_get(object, key);
    if (!json_is_integer(v)) fail_msg("no whole number \"%s\"", key);
    return json_integer_value(v);
}

const char *string(const json_t *object, const char *key) {
    const json_t *v = json_object_get(object, key);
    if (!json_is_string(v)) fail_msg("no string \"%s\"", key);
    return json_string_value(v);
}

const json_t *array(const json_t *object, const char *key) {
    const json_t *v = json_object_get(object, key);
    if (!json_is_array(v)) fail_msg("no array \"%s\"", key);
    return v;
}

void add_document(const world *w, const char *name, const char *text) {
    write_text(in_folder(w->documents, name), text);
}

const char LIGHTHOUSE[] =
    "The lighthouse of Alexandria stood on the island of Pharos. It was 100 metres tall.\n"
    "Ships saw it from afar. Its keeper was called Zenodotus.\n";
const char LIBRARY[] = "The library held many scrolls. Callimachus wrote its catalogue, the Pinakes.\n";

/* A text of about n bytes whose every line is another one. */
char *long_text(size_t n) {
    char *text = malloc(n + 128);
    size_t at = 0;
    for (int line = 1; at < n; line++)
        at += (size_t)sprintf(text + at, "Line %d of a long document says that ship number %d passed.%s",
                              line, line * 7919 % 10007, line % 5 ? "\n" : "\n\n");
    return text;
}

void list_commands(char names[MAX_COMMANDS][32]) {
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

int cli_make_model(void **state) {
    (void)state;
    if (access(PROGRAM, X_OK)) {
        print_error("the program is not built: %s\n", PROGRAM);
        return -1;
    }
    cli_model = make_folder();
    return tiny_model_write(cli_model, &(tiny_options){.seed = 1});
}

int cli_remove_model(void **state) {
    (void)state;
    remove_folder(cli_model);
    return 0;
}
