/* test_cli_first.c - what a stranger sees first: the question of appliance/run.sh, as it stands there, must have a true
 * answer with the right citation. The embedded model decides, so that a new one is held against it too. Two of the
 * licences are read, the one that says it and the one most like it; all of them would take a minute. */
#include "tests/program.h"

#include "engine/nano.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define LICENCES "/usr/share/common-licenses/"
#define PROGRAM BUILD_DIR "/pharos"

/* The question and the document of run.sh's `pharos ask`. */
static void shown_first(char question[200], char document[100]) {
    FILE *f = fopen(SOURCE_DIR "/appliance/run.sh", "r");
    assert_non_null(f);
    char line[400];
    question[0] = document[0] = 0;
    while (fgets(line, sizeof line, f)) {
        sscanf(line, "question='%199[^']'", question);
        sscanf(line, "build/pharos ask --document %99s", document);
    }
    fclose(f);
    assert_true(question[0] && document[0]);
}

static void the_first_answer_is_true(void **state) {
    (void)state;
    char question[200], document[100], *data = make_folder();
    if (!nano_files() || access(LICENCES "GPL-3", R_OK) || access(LICENCES "LGPL-3", R_OK)) {
        print_message("no model in this build, or no licences of Debian here\n");
        remove_folder(data);
        skip();
    }
    shown_first(question, document);
    const char *const add[] = {PROGRAM, "add", "-q", "-d", data, LICENCES "GPL-3", LICENCES "LGPL-3", NULL};
    const char *const ask[] = {PROGRAM, "ask", "--json", "-d", data, "--document", document, question, NULL};
    result r = run_program(add, NULL);
    if (r.status) fail_msg("exit code %d: %s", r.status, r.err);
    result_free(&r);
    r = run_program(ask, NULL);
    if (r.status) fail_msg("exit code %d: %s", r.status, r.err);
    json_t *v = parse_json(r.out);
    const json_t *c = json_array_get(json_object_get(v, "citations"), 0);
    const char *answer = json_string_value(json_object_get(v, "answer")),
               *from = json_string_value(json_object_get(c, "document"));
    if (!answer || !strstr(answer, "29 June 2007")) fail_msg("%s: \"%s\"", question, answer ? answer : "");
    assert_string_equal(from, "GPL-3");
    assert_true(json_is_true(json_object_get(c, "in_text")));
    assert_true(json_is_true(json_object_get(c, "in_read_set")));
    json_decref(v);
    result_free(&r);
    remove_folder(data);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_first_answer_is_true)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
