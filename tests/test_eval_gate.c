/* The regression gate of the embedded model: a small seeded set of runs, held against
 * tests/data/eval/gate.json. Its thresholds are the lower ends of Wilson's intervals of a measured run, so
 * that only a drop beyond chance fails. And planted faults in a model that reads: the verdicts must name
 * them. */
#include "appliance/eval.h"
#include "engine/nano.h"
#include "tests/program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static ph_error error;
#define OK(call)                                                                                             \
    do {                                                                                                     \
        if (call) fail_msg("%s: %s", #call, error.text);                                                     \
    } while (0)

static void need_model(void) {
    if (nano_files()) return;
    print_message("this build carries no model: nothing to hold against the gate\n");
    skip();
}

/* A run in a folder of its own; its report. */
static eval_report run(const char *folder, engine_options o, eval_params *p) {
    store *s = NULL;
    engine *e = NULL;
    eval_report r;
    o.files = nano_files();
    OK(store_open(&s, in_folder(folder, "store"), &error));
    OK(engine_open(&e, &o, &error));
    eval_options options = {.command = "gate"};
    p->text_hash[0] = 0;
    OK(eval_run(s, e, p, 0, &options, &error));
    OK(eval_report_load(&r, s, 0, &error));
    engine_close(e);
    store_close(s);
    return r;
}

static eval_params needles(int64_t length, int samples) {
    return (eval_params){.kind = EVAL_NEEDLE,
                         .over = EVAL_NEEDLE,
                         .lengths = {length},
                         .n_lengths = 1,
                         .seed = 42,
                         .samples = samples,
                         .depths = 11,
                         .together = true,
                         .generated = true,
                         .max_tokens = 32};
}

/* The mean of a figure over the cells that have an answer (or have none). */
static double mean(const eval_report *r, const char *key, bool answerable, int *n) {
    double sum = 0;
    *n = 0;
    for (size_t i = 0; i < json_array_size(r->cells); i++) {
        const json_t *c = json_array_get(r->cells, i), *v = json_object_get(c, key);
        if ((json_array_size(json_object_get(c, "expected")) > 0) != answerable) continue;
        sum += json_is_boolean(v) ? json_is_true(v) : json_number_value(v);
        ++*n;
    }
    return *n ? sum / *n : 0;
}

static double held(const eval_report *r, int *n) {
    int seen = 0;
    *n = 0;
    for (size_t i = 0; i < json_array_size(r->cells); i++) {
        const json_t *trace = json_object_get(json_array_get(r->cells, i), "trace");
        if (!trace) continue;
        seen += json_is_true(json_object_get(trace, "held"));
        ++*n;
    }
    return *n ? (double)seen / *n : 0;
}

static bool failed;

/* Against "name": {"least": 0.71, ...}; without an entry the figure is told only. */
static void hold(const json_t *gate, const char *name, double got, int n) {
    const json_t *least = json_object_get(json_object_get(gate, name), "least");
    double wanted = json_number_value(least);
    bool low = least && got < wanted;
    print_message("  %-28s %.3f of %d%s", name, got, n, least ? "" : " (no threshold)\n");
    if (least) print_message(", at least %.3f%s\n", wanted, low ? ": too low" : "");
    failed |= low;
}

static void the_gate(void **state) {
    (void)state;
    need_model();
    json_error_t e;
    json_t *gate = json_load_file(SOURCE_DIR "/tests/data/eval/gate.json", 0, &e);
    if (!gate) {
        print_message("tests/data/eval/gate.json: %s: figures are told, not held\n", e.text);
        gate = json_object();
    }
    char *folder = make_folder();
    int n;
    eval_params four = needles(4096, 3), far = needles(32768, 1);
    eval_report a = run(folder, (engine_options){0}, &four), b = run(folder, (engine_options){0}, &far);
    double got = mean(&a, "contains", true, &n);
    hold(gate, "needle 4K", got, n);
    got = held(&a, &n);
    hold(gate, "needle 4K, span held", got, n);
    got = mean(&b, "contains", true, &n);
    hold(gate, "needle 32K", got, n);
    eval_params qa = {.kind = EVAL_QA,
                      .over = EVAL_QA,
                      .lengths = {4096},
                      .n_lengths = 1,
                      .seed = 42,
                      .generated = true,
                      .max_tokens = 32,
                      .data = strdup(SOURCE_DIR "/tests/data/eval/gate.jsonl")};
    eval_report c = run(folder, (engine_options){0}, &qa);
    got = mean(&c, "f1", true, &n);
    hold(gate, "questions 4K, F1", got, n);
    got = held(&c, &n);
    hold(gate, "questions 4K, span held", got, n);
    eval_report_free(&a);
    eval_report_free(&b);
    eval_report_free(&c);
    eval_params_free(&qa);
    json_decref(gate);
    remove_folder(folder);
    assert_false(failed);
}

/* Failed cells that say `verdict`, and all failed ones. */
static int saying(const eval_report *r, const char *verdict, int *all) {
    int n = 0;
    *all = 0;
    for (size_t i = 0; i < json_array_size(r->cells); i++) {
        const json_t *c = json_array_get(r->cells, i);
        const char *v = json_string_value(json_object_get(c, "verdict"));
        if (!strcmp(v, "right")) continue;
        ++*all;
        n += !strcmp(v, verdict);
        if (strcmp(v, verdict))
            print_message("  %s (%s): %s\n", v, json_string_value(json_object_get(c, "detail")),
                          json_string_value(json_object_get(c, "answer")));
    }
    return n;
}

static void planted_faults(void **state) {
    (void)state;
    need_model();
    char *folder = make_folder();
    eval_params p = needles(4096, 1);
    p.max_tokens = 12;
    int all, n;
    /* Few positions, so that chance alone does not select a span. */
    eval_report r = run(folder, (engine_options){.topk = 16, .fault = ENGINE_FAULT_SHUFFLED_SCORES}, &p);
    n = saying(&r, "not selected", &all);
    print_message("scores shuffled: %d of %d failed cells say so\n", n, all);
    assert_true(all >= 10);
    assert_true(n >= all - 1);
    eval_report_free(&r);
    r = run(folder, (engine_options){.fault = ENGINE_FAULT_ZERO_ATTENTION}, &p);
    n = saying(&r, "selected, not used", &all);
    print_message("attention zeroed: %d of %d failed cells say so\n", n, all);
    assert_true(all >= 10);
    assert_true(n >= all - 1);
    eval_report_free(&r);
    remove_folder(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_gate), cmocka_unit_test(planted_faults)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
