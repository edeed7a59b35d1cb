/* test_cli_eval.c - `pharos eval` as a user drives it, on the tiny random model: streams, formats, exit
 * codes, a run that is stopped and goes on. */
#include "tests/pharos_cli.h"

#include "kernels/error.h"
#include "tests/tiny_model.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct place {
    char *folder, *model, *data, *questions;
} place;

static char *below(const char *folder, const char *name) {
    return strdup(in_folder(folder, name));
}

static int set_up(void **state) {
    place *p = calloc(1, sizeof *p);
    p->folder = make_folder();
    p->model = make_folder();
    p->data = below(p->folder, "data");
    p->questions = below(p->folder, "questions.jsonl");
    tiny_options o = {.seed = 5, .max_positions = 16384};
    assert_int_equal(tiny_model_write(p->model, &o), 0);
    write_text(p->questions,
               "{\"name\":\"A\",\"text\":\"The gate is painted green.\",\"qas\":[{\"question\":\"What colour "
               "is the gate?\",\"answer\":\"green\"},{\"question\":\"Who painted it?\",\"answer\":null}]}\n");
    *state = p;
    return 0;
}

static int tear_down(void **state) {
    place *p = *state;
    remove_folder(p->folder);
    remove_folder(p->model);
    free(p->data);
    free(p->questions);
    free(p);
    return 0;
}

enum { MOST = 24 };

static void arguments(const place *p, const char *const *words, const char *argv[MOST]) {
    int n = 0;
    argv[n++] = PROGRAM;
    argv[n++] = "eval";
    while (*words && n < MOST - 6) argv[n++] = *words++;
    argv[n++] = "-d";
    argv[n++] = p->data;
    argv[n++] = "-m";
    argv[n++] = p->model;
    argv[n++] = "-q";
    argv[n] = NULL;
}

static result eval(const place *p, const char *const *words) {
    const char *argv[MOST];
    arguments(p, words, argv);
    return run_program(argv, NULL);
}
#define EVAL(p, ...) eval(p, (const char *const[]){__VA_ARGS__, NULL})

static void succeeds(result *r) {
    if (r->status) fail_msg("exit code %d: %s", r->status, r->err);
}

static void runs_are_kept_and_shown(void **state) {
    const place *p = *state;
    result r = EVAL(p, "needle", "--lengths", "1K,2K", "--depths", "3", "--generated", "--max-tokens", "4",
                    "--json");
    succeeds(&r);
    json_t *j = parse_json(r.out);
    assert_int_equal(json_array_size(json_object_get(j, "results")), 6);
    assert_string_equal(json_string_value(json_object_get(j, "state")), "done");
    json_decref(j);
    result_free(&r);

    r = EVAL(p, "needle", "--lengths", "1K", "--depths", "90%,10", "--generated", "--max-tokens", "4", "--csv", "-",
             "-q");
    succeeds(&r);
    assert_non_null(strstr(r.out, ",10,"));
    assert_non_null(strstr(r.out, ",90,"));
    result_free(&r);
    r = EVAL(p, "needle", "--depths", "10,101");
    assert_int_equal(r.status, PH_USAGE);
    result_free(&r);

    r = EVAL(p, "qa", "--qa", p->questions, "--lengths", "1K", "--max-tokens", "4");
    succeeds(&r);
    assert_non_null(strstr(r.out, "balanced accuracy"));
    assert_non_null(strstr(r.out, "n=1"));
    result_free(&r);

    r = EVAL(p, "ls", "--json");
    succeeds(&r);
    j = parse_json(r.out);
    assert_int_equal(json_array_size(j), 3);
    json_decref(j);
    result_free(&r);

    r = EVAL(p, "show", "1", "--csv", "-");
    succeeds(&r);
    assert_int_equal(strncmp(r.out, "cell,length,", 12), 0);
    result_free(&r);
    r = EVAL(p, "show", "1", "--html", "-");
    succeeds(&r);
    assert_int_equal(strncmp(r.out, "<!doctype html>", 15), 0);
    assert_non_null(strstr(r.out, "</html>\n"));
    result_free(&r);
    r = EVAL(p, "show", "1", "--cell", "2", "--json");
    succeeds(&r);
    j = parse_json(r.out);
    assert_int_equal(json_integer_value(json_object_get(j, "cell")), 2);
    json_decref(j);
    result_free(&r);
    r = EVAL(p, "diff", "1", "2", "--json");
    succeeds(&r);
    json_decref(parse_json(r.out));
    result_free(&r);
    r = EVAL(p, "rm", "1");
    succeeds(&r);
    result_free(&r);
    r = EVAL(p, "show", "1");
    assert_int_equal(r.status, PH_NOT_FOUND);
    result_free(&r);
}

/* The tiny model writes a thought to its end, whatever it is asked. */
static void a_thought_comes_first_where_it_is_asked_for(void **state) {
    const place *p = *state;
    const char *const ways[] = {"--think", "--no-think", NULL};
    for (int i = 0; i < 3; i++) {
        result r =
            EVAL(p, "qa", "--qa", p->questions, "--lengths", "1K", "--max-tokens", "4", "--json", ways[i]);
        succeeds(&r);
        json_t *j = parse_json(r.out), *parameters = json_object_get(j, "parameters");
        assert_int_equal(json_is_true(json_object_get(parameters, "thinking")), i == 0);
        const json_t *cells = json_object_get(j, "results");
        assert_int_equal(json_array_size(cells), 2);
        for (size_t k = 0; k < 2; k++) {
            const json_t *c = json_array_get(cells, k), *thought = json_object_get(c, "thought");
            assert_int_equal(json_integer_value(json_object_get(c, "tokens")), 4);
            assert_int_equal(json_is_object(thought), i == 0);
            if (i) continue;
            assert_int_equal(json_integer_value(json_object_get(thought, "tokens")), 96);
            assert_true(json_string_length(json_object_get(thought, "text")) > 0);
            if (json_array_size(json_object_get(c, "expected")))
                assert_true(json_is_boolean(json_object_get(json_object_get(thought, "trace"), "held")));
        }
        json_decref(j);
        result_free(&r);
    }
    result r = EVAL(p, "compare", "--think", "--lengths", "1K", "--generated");
    assert_int_equal(r.status, PH_USAGE);
    result_free(&r);
    r = EVAL(p, "ruler", "--think", "--answer-prefix", "--lengths", "1K", "--tasks", "vt", "--generated");
    assert_int_equal(r.status, PH_USAGE);
    result_free(&r);
}

static void questions_are_asked_as_by_a_person(void **state) {
    const place *p = *state;
    result r = EVAL(p, "qa", "--as", "ask", "--qa", p->questions, "--max-tokens", "4", "--json");
    succeeds(&r);
    json_t *j = parse_json(r.out);
    const json_t *cells = json_object_get(j, "results");
    assert_int_equal(json_array_size(cells), 4); /* two questions, each two ways */
    for (size_t i = 0; i < 4; i++) {
        const json_t *c = json_array_get(cells, i);
        assert_string_equal(json_string_value(json_object_get(c, "variant")), i < 2 ? "first look" : "whole");
        /* The tiny model never says that nothing is found: its first look is its last. */
        assert_string_equal(json_string_value(json_object_get(c, "look")), i < 2 ? "passages" : "whole");
        assert_int_equal(json_integer_value(json_object_get(c, "bm25_rank")), 1);
        assert_int_equal(json_integer_value(json_object_get(c, "read_rank")), 1); /* there is one document */
        assert_int_equal(json_integer_value(json_object_get(c, "tokens")), 4);
        assert_int_equal(json_integer_value(json_object_get(c, "characters")), 26);
    }
    json_decref(j);
    result_free(&r);
    r = EVAL(p, "show");
    succeeds(&r);
    assert_non_null(strstr(r.out, "Asked, first look"));
    assert_non_null(strstr(r.out, "Asked, whole"));
    result_free(&r);
    r = EVAL(p, "qa", "--as", "ask", "--qa", p->questions, "--lengths", "1K");
    assert_int_equal(r.status, PH_USAGE);
    result_free(&r);
}

static void wrong_ones_are_refused(void **state) {
    const place *p = *state;
    const struct {
        const char *words[5];
        int status;
    } wrong[] = {
        {{"frobnicate"}, PH_USAGE},
        {{"needle", "--lengths", "many"}, PH_USAGE},
        {{"needle", "--lengths", "0"}, PH_USAGE},
        {{"needle", "--needle", "x"}, PH_USAGE},
        {{"needle", "--generated", "--documents"}, PH_USAGE},
        {{"needle", "12"}, PH_USAGE},
        {{"ruler", "--tasks", "nothing"}, PH_USAGE},
        {{"diff", "1"}, PH_USAGE},
        {{"qa", "--lengths", "1K"}, PH_USAGE},
        {{"qa", "--qa", "/nowhere.jsonl"}, PH_NOT_FOUND},
        {{"needle", "--lengths", "1M"}, PH_USAGE},
        {{"needle", "--lengths", "900K"}, PH_TOO_LARGE},
        {{"show", "4711"}, PH_NOT_FOUND},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        result r = eval(p, wrong[i].words);
        if (r.status != wrong[i].status)
            fail_msg("eval %s %s: %d, not %d: %s", wrong[i].words[0],
                     wrong[i].words[1] ? wrong[i].words[1] : "", r.status, wrong[i].status, r.err);
        assert_true(r.err_len > 0);
        result_free(&r);
    }
}

static void stopped_and_gone_on_with(void **state) {
    const place *p = *state;
    const char *const words[] = {"needle",      "--lengths",    "16K", "--depths", "40",
                                 "--generated", "--max-tokens", "4",   NULL};
    const char *argv[MOST];
    arguments(p, words, argv);
    pid_t pid = start_program(argv);
    /* Until the first cells are there. */
    long done = 0;
    for (int i = 0; i < 600 && done < 2; i++) {
        usleep(50000);
        result r = EVAL(p, "ls", "--json");
        succeeds(&r);
        json_t *j = parse_json(r.out), *first = json_array_get(j, 0);
        if (json_integer_value(json_object_get(first, "cells")) == 40)
            done = (long)json_integer_value(json_object_get(first, "done"));
        json_decref(j);
        result_free(&r);
    }
    assert_true(done >= 2);
    kill(pid, SIGINT);
    int status = wait_program(pid);
    assert_true(status == PH_INTERRUPTED || status == PH_OK); /* it may have been done by then */
    result r = EVAL(p, "resume", "--json");
    succeeds(&r);
    json_t *j = parse_json(r.out);
    assert_int_equal(json_integer_value(json_object_get(j, "done")), 40);
    json_decref(j);
    result_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(runs_are_kept_and_shown),
                                       cmocka_unit_test(a_thought_comes_first_where_it_is_asked_for),
                                       cmocka_unit_test(questions_are_asked_as_by_a_person),
                                       cmocka_unit_test(wrong_ones_are_refused),
                                       cmocka_unit_test(stopped_and_gone_on_with)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
