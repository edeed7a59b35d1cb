/* test_eval.h - for the tests of evaluation: a folder with a tiny random model and files of questions. */
#ifndef PHAROS_TEST_EVAL_H
#define PHAROS_TEST_EVAL_H

#include "appliance/eval_haystack.h"
#include "tests/program.h"
#include "tests/tiny_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { TINY_POSITIONS = 16384 };

typedef struct bench {
    char *folder;
} bench;

static ph_error error;
#define OK(call)                                                                                             \
    do {                                                                                                     \
        if (call) fail_msg("%s: %s", #call, error.text);                                                     \
    } while (0)

static inline int set_up(void **state) {
    bench *b = calloc(1, sizeof *b);
    b->folder = make_folder();
    tiny_options o = {.seed = 7, .max_positions = TINY_POSITIONS};
    assert_int_equal(tiny_model_write(b->folder, &o), 0);
    write_text(
        in_folder(b->folder, "rows.jsonl"),
        "{\"source\":\"s\",\"name\":\"Alpha\",\"text\":\"The tower of Alpha is made of red brick and stands "
        "by the "
        "sea.\",\"qas\":[{\"question\":\"What is the tower made of?\",\"answer\":\"red brick\"},"
        "{\"question\":\"Who built the tower?\",\"answer\":null}]}\n"
        "\n"
        "{\"source\":\"s\",\"name\":\"Beta\",\"text\":\"Beta was founded in 1742 by two brothers from the "
        "north.\",\"qas\":[{\"question\":\"When was Beta <script> "
        "founded?\",\"answer\":\"1742\",\"answers\":[\"1742\","
        "\"in 1742\"]}]}\n"
        "{\"source\":\"s\",\"name\":\"Gamma\",\"text\":\"Gamma exports "
        "pears.\",\"qas\":[{\"question\":\"What does "
        "Gamma export?\",\"answers\":[{\"text\":\"pears\"}]}]}\n");
    write_text(in_folder(b->folder, "squad.json"),
               "{\"version\":\"v2.0\",\"data\":[{\"title\":\"Alpha\",\"paragraphs\":[{\"context\":\"The "
               "tower of Alpha is "
               "made of red brick and stands by the sea.\",\"qas\":[{\"question\":\"What is the tower made "
               "of?\",\"id\":\"1\","
               "\"answers\":[{\"text\":\"red "
               "brick\",\"answer_start\":30}],\"is_impossible\":false},{\"question\":\"Who built "
               "the tower?\",\"id\":\"2\",\"answers\":[],\"is_impossible\":true}]}]}]}");
    *state = b;
    return 0;
}

static inline int tear_down(void **state) {
    bench *b = *state;
    remove_folder(b->folder);
    free(b);
    return 0;
}

static inline engine *open_tiny(const bench *b, engine_options o) {
    engine *e = NULL;
    o.model_dir = b->folder;
    OK(engine_open(&e, &o, &error));
    return e;
}

static inline store *open_runs(const bench *b, const char *name) {
    store *s = NULL;
    OK(store_open(&s, in_folder(b->folder, name), &error));
    return s;
}

static inline eval_params needles(int64_t length, int depths, bool together) {
    return (eval_params){.kind = EVAL_NEEDLE,
                         .over = EVAL_NEEDLE,
                         .lengths = {length},
                         .n_lengths = 1,
                         .seed = 42,
                         .samples = 1,
                         .depths = depths,
                         .together = together,
                         .generated = true,
                         .max_tokens = 6};
}

/* How often `what` stands in the text. */
static inline int count(const char *text, const char *what) {
    int n = 0;
    for (const char *p = text; (p = strstr(p, what)) != NULL; p += strlen(what)) n++;
    return n;
}

/* Words of the form "12. word". */

#endif
