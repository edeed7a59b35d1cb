/* Evaluation runs on a tiny random model: what prompts look like and how long they are, that a run is a
 * function of its seed, that a killed one goes on where it was, that planted faults are named, that reports
 * hold together. */
#include "appliance/eval_haystack.h"
#include "appliance/eval_published.h"
#include "appliance/eval_verdict.h"
#include "appliance/eval_words.h"
#include "tests/program.h"
#include "tests/tiny_model.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

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

static int set_up(void **state) {
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

static int tear_down(void **state) {
    bench *b = *state;
    remove_folder(b->folder);
    free(b);
    return 0;
}

static engine *open_tiny(const bench *b, engine_options o) {
    engine *e = NULL;
    o.model_dir = b->folder;
    OK(engine_open(&e, &o, &error));
    return e;
}

static store *open_runs(const bench *b, const char *name) {
    store *s = NULL;
    OK(store_open(&s, in_folder(b->folder, name), &error));
    return s;
}

static eval_params needles(int64_t length, int depths, bool together) {
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

/* ---- parameters ---- */

static void depths_are_even_ones_or_named(void **state) {
    (void)state;
    eval_params p = needles(1024, 5, true);
    assert_int_equal((int)eval_depth(&p, 1), 25);
    assert_int_equal((int)eval_depth(&p, 4), 100);
    static const int64_t named[] = {90, 0, 33, 90}, wrong[] = {101}, below[] = {-1};
    OK(eval_params_depths(&p, named, 4, &error));
    assert_int_equal(p.depths, 3);
    for (int i = 0; i < 3; i++) assert_int_equal((int)eval_depth(&p, i), i == 0 ? 0 : i == 1 ? 33 : 90);
    /* A run resumes from its JSON. */
    json_t *j = eval_params_json(&p);
    char *text = json_dumps(j, 0);
    eval_params again;
    OK(eval_params_parse(&again, text, &error));
    assert_true(again.named_depths);
    assert_int_equal(again.depths, 3);
    assert_int_equal((int)eval_depth(&again, 1), 33);
    eval_params_free(&again);
    free(text);
    json_decref(j);
    assert_int_equal(eval_params_depths(&p, wrong, 1, &error), PH_USAGE);
    assert_int_equal(eval_params_depths(&p, below, 1, &error), PH_USAGE);
    assert_int_equal(eval_params_depths(&p, below, 0, &error), PH_USAGE);
}

/* ---- prompts ---- */

static int64_t question_tokens(engine *e, const char *question) {
    token_list l = {0};
    OK(prompt_question(engine_prompt(e), engine_tokenizer(e), question, strlen(question), 0, &l, &error));
    int64_t n = (int64_t)l.n;
    token_list_free(&l);
    return n;
}

/* What the span's tokens spell; the tiny model's tokens are bytes. */
static void span_says(const eval_haystack *h, eval_span span, const char *wanted) {
    char text[400];
    size_t n = 0;
    for (int64_t i = span.start; i < span.end && n + 1 < sizeof text; i++)
        text[n++] = (char)h->pack.prompt.tokens.ids[i];
    text[n] = 0;
    assert_string_equal(text, wanted);
}

static void needle_grid(void **state) {
    engine *e = open_tiny(*state, (engine_options){.threads = 1});
    for (int together = 0; together < 2; together++) {
        eval_params p = needles(4096, 5, together);
        eval_plan plan;
        OK(eval_plan_make(&plan, &p, NULL, e, &error));
        assert_int_equal(plan.cells, 5);
        assert_int_equal(plan.n_groups, together ? 1 : 5);
        double deepest = 101;
        for (size_t g = 0; g < plan.n_groups; g++) {
            eval_haystack h;
            OK(eval_group_make(&h, &plan, g, &error));
            const char *text = h.pack.texts[0].text;
            for (size_t i = 0; i < h.n; i++) {
                const eval_question *q = &h.questions[i];
                int64_t all = (int64_t)h.pack.prompt.tokens.n + question_tokens(e, q->question);
                /* The length less the buffer, but for the words that were cut. */
                if (all > 4096 - EVAL_BUFFER || all < 4096 - EVAL_BUFFER - (together ? 160 : 40))
                    fail_msg("a prompt of %lld tokens for 4096", (long long)all);
                span_says(&h, q->spans[0], q->answers[0]);
                assert_non_null(strstr(text + q->start, q->answers[0]));
                /* A needle stands between sentences. */
                if (q->start && q->depth < 100)
                    assert_true(text[q->start - 1] == ' ' && strchr(".!?\n", text[q->start - 2]));
                if (q->depth == 0) assert_int_equal(q->start, 0);
                if (q->depth == 100 && !together) assert_true(q->end + 1 >= h.pack.texts[0].len);
                for (size_t k = 0; k < i; k++) assert_string_not_equal(q->question, h.questions[k].question);
            }
            /* Deepest first: what stands before a needle was read for the one before. */
            if (!together) {
                assert_true(h.questions[0].depth < deepest);
                deepest = h.questions[0].depth;
                assert_string_equal(h.questions[0].question,
                                    "What is the best thing to do in San Francisco?");
            }
            assert_true(h.characters > 3000 && h.characters < 4096);
            eval_haystack_free(&h);
        }
        eval_plan_free(&plan);
        eval_params_free(&p);
    }
    engine_close(e);
}

static int count(const char *text, const char *what) {
    int n = 0;
    for (const char *p = text; (p = strstr(p, what)) != NULL; p += strlen(what)) n++;
    return n;
}

/* Words of the form "12. word". */
static int count_word(const char *text, const char *word) {
    char key[80];
    snprintf(key, sizeof key, ". %s ", word);
    int n = count(text, key);
    snprintf(key, sizeof key, ". %s\n", word);
    return n + count(text, key);
}

static void check_task(const char *task, const char *text, const eval_question *q) {
    static const char fact[] = "One of the special magic ";
    bool essays = !strcmp(task, "niah_single_2") || !strcmp(task, "niah_single_3");
    if (!strcmp(task, "niah_single_1") || essays) {
        assert_int_equal(count(text, fact), 1);
        assert_ptr_equal(strstr(text, "A special magic "), text);
        assert_ptr_equal(strstr(q->question, "What is the special magic "), q->question);
        assert_non_null(strstr(q->question, " mentioned in the provided text?"));
    }
    if (!strcmp(task, "niah_single_1"))
        assert_true(
            count(text, "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back "
                        "again.\n") > 30);
    if (!strcmp(task, "niah_single_3")) assert_int_equal(strlen(q->answers[0]), 36);
    if (!strcmp(task, "niah_multikey_1")) assert_int_equal(count(text, fact), 4);
    if (!strcmp(task, "niah_multikey_2") || !strcmp(task, "niah_multikey_3"))
        assert_true(count(text, fact) > 30);
    if (!strcmp(task, "niah_multivalue") || !strcmp(task, "niah_multiquery")) {
        assert_int_equal(q->n_answers, 4);
        assert_int_equal(count(text, fact), 4);
        assert_ptr_equal(strstr(text, "Some special magic numbers are hidden "), text);
        assert_ptr_equal(strstr(q->question, "What are all the special magic numbers for "), q->question);
    }
    if (!strcmp(task, "niah_multiquery")) assert_non_null(strstr(q->question, ", and "));
    if (!strcmp(task, "vt")) {
        assert_int_equal(q->n_answers, 5);
        assert_int_equal(count(text, "VAR "), 9);
    }
    if (!strcmp(task, "cwe")) {
        assert_int_equal(q->n_answers, 10);
        for (int i = 0; i < 10; i++) assert_int_equal(count_word(text, q->answers[i]), 30);
    }
    if (!strcmp(task, "fwe")) {
        assert_int_equal(q->n_answers, 3);
        int a = count(text, q->answers[0]), b = count(text, q->answers[1]), c = count(text, q->answers[2]);
        assert_true(a > b && b > c && c > 1);
    }
    if (strstr(task, "niah"))
        for (size_t i = 0; i < q->n_answers; i++) assert_int_equal(count(text, q->answers[i]), 1);
}

static void ruler_prompts(void **state) {
    const bench *b = *state;
    engine *e = open_tiny(b, (engine_options){.threads = 1});
    static const int limits[] = {128, 128, 128, 128, 128, 128, 128, 128, 30, 120, 50, 32, 32};
    for (int plain = 0; plain < 2; plain++) {
        eval_params p = {.kind = EVAL_RULER,
                         .over = EVAL_RULER,
                         .lengths = {TINY_POSITIONS},
                         .n_lengths = 1,
                         .seed = 42,
                         .samples = 2,
                         .tasks = (1u << EVAL_RULER_TASKS) - 1,
                         .plain = plain,
                         .answer_prefix = plain,
                         .generated = true,
                         .data = strdup(in_folder(b->folder, "rows.jsonl"))};
        eval_plan plan;
        OK(eval_plan_make(&plan, &p, NULL, e, &error));
        assert_int_equal(plan.cells, 26);
        for (size_t g = 0; g < plan.n_groups; g++) {
            int task = plan.groups[g].task;
            eval_haystack h;
            OK(eval_group_make(&h, &plan, g, &error));
            const eval_question *q = &h.questions[0];
            assert_int_equal(h.n, 1);
            assert_string_equal(q->task, eval_ruler_name(task));
            assert_int_equal(q->max_tokens, limits[task]);
            int64_t all = (int64_t)h.pack.prompt.tokens.n + question_tokens(e, q->question) + limits[task];
            all += q->prefix ? (int64_t)strlen(q->prefix) : 0;
            assert_true(plain == (q->prefix != NULL));
            assert_true(all <= TINY_POSITIONS);
            /* Three passages do not fill a length; the other tasks do, to one step of their haystack. */
            if (task < 11 && all < TINY_POSITIONS - 3500)
                fail_msg("%s has %lld tokens", q->task, (long long)all);
            for (int i = 0; i < q->n_spans && q->n_spans == (int)q->n_answers; i++)
                span_says(&h, q->spans[i], q->answers[i]);
            check_task(q->task, h.pack.texts[0].text, q);
            eval_haystack_free(&h);
        }
        eval_plan_free(&plan);
        eval_params_free(&p);
    }
    engine_close(e);
}

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

/* The prompts of the published generator: its templates from the first to the last character, its worked
 * examples, its steps, and the words of a list. */
static void ruler_as_published(void **state) {
    const bench *b = *state;
    char list[8192], expected[600];
    size_t at = 0;
    for (int i = 0; i < 60; i++)
        at += (size_t)snprintf(list + at, sizeof list - at,
                               "adjective adj%c%c\nnoun noun%c%c\nverb do%c%c\r\n\n", 'a' + i / 26,
                               'a' + i % 26, 'a' + i / 26, 'a' + i % 26, 'a' + i / 26, 'a' + i % 26);
    write_text(in_folder(b->folder, "words.txt"), list);
    engine *e = open_tiny(b, (engine_options){.threads = 1});
    eval_params p = {.kind = EVAL_RULER,
                     .over = EVAL_RULER,
                     .lengths = {TINY_POSITIONS},
                     .n_lengths = 1,
                     .seed = 42,
                     .samples = 1,
                     .tasks = (1u << EVAL_RULER_TASKS) - 1,
                     .plain = true,
                     .answer_prefix = true,
                     .published = true,
                     .generated = true,
                     .words = strdup(in_folder(b->folder, "words.txt")),
                     .data = strdup(in_folder(b->folder, "rows.jsonl"))};
    eval_plan plan;
    OK(eval_plan_make(&plan, &p, NULL, e, &error));
    for (size_t g = 0; g < plan.n_groups; g++) {
        eval_haystack h;
        OK(eval_group_make(&h, &plan, g, &error));
        const eval_question *q = &h.questions[0];
        const char *task = q->task, *text = h.pack.texts[0].text;
        if (strstr(task, "niah")) {
            const char *kind = strstr(task, "_3") ? "uuid" : "number", *key = strstr(q->question, " for ");
            bool many = strstr(task, "niah_multiv") || strstr(task, "niah_multiq");
            snprintf(expected, sizeof expected,
                     "%s special magic %s%s hidden within the following text. Make sure to memorize it. I "
                     "will quiz you about the %s%s afterwards.\n",
                     many ? "Some" : "A", kind, many ? "s are" : " is", kind, many ? "s" : "");
            assert_ptr_equal(strstr(text, expected), text);
            assert_true(ends_with(text, "\n") && !ends_with(text, "\n\n"));
            snprintf(expected, sizeof expected, " The special magic %s%s%s", kind, many ? "s" : "", key);
            expected[strlen(expected) - 1] = 0; /* the question mark */
            strcat(expected, many ? " are" : " is");
            assert_string_equal(q->prefix, expected);
            if (!strstr(task, "_3")) assert_ptr_equal(strstr(key, " for adj"), key);
        }
        /* Lines: the first, the needle and the last newline besides the noise. */
        if (!strcmp(task, "niah_single_1")) assert_int_equal(count(text, "The grass is green.") % 25, 0);
        if (!strcmp(task, "niah_multikey_2"))
            assert_int_equal((count(text, "One of the special magic ") - 1) % 25, 0);
        if (!strcmp(task, "vt")) {
            static const char start[] =
                "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n";
            assert_ptr_equal(strstr(text, start), text);
            const char *own = strstr(text + 1, start);
            assert_non_null(own);
            assert_null(strstr(own + 1, start));
            /* The example: names of three letters, solved; then its blank lines. */
            assert_memory_equal(own - 4, "\n\n\n\n", 4);
            assert_non_null(strstr(text, " variables are assgined the value "));
            assert_true(strstr(text, ", they are: ") < own);
            const char *noise = strstr(own, "The grass is green.");
            assert_int_equal(count(noise, "The grass is green.") % 10, 0);
            /* Lines are joined by a space behind their newline. */
            assert_true(count(own, "back again.\n ") >= count(own, "back again.\n") - 1);
            assert_true(ends_with(text, "\n"));
            assert_true(ends_with(q->prefix, ", they are:"));
            assert_ptr_equal(strstr(q->prefix, " Answer: "), q->prefix);
        }
        if (!strcmp(task, "cwe")) {
            assert_int_equal(count(text, "Below is a numbered list of words."), 2);
            assert_int_equal(
                count(text, "Answer: The top 10 words that appear most often in the list are:1. "), 1);
            const char *own = strstr(text + 1, "Below is a numbered list of words.");
            for (int i = 0; i < 10; i++) {
                assert_int_equal(count_word(own, q->answers[i]), 30);
                assert_true(!strncmp(q->answers[i], "adj", 3) || !strncmp(q->answers[i], "noun", 4) ||
                            !strncmp(q->answers[i], "do", 2));
            }
            /* Ten words 30 times, the others 3 times, words in tens; two sentences before the list. */
            assert_int_equal((count(own, ". ") - 2 - 300) % 30, 0);
        }
        if (!strncmp(task, "qa", 2)) {
            static const char frame[] = "Answer the question based on the given documents. Only give me the "
                                        "answer and do not output any other words.\n\n";
            assert_ptr_equal(strstr(text, frame), text);
            assert_ptr_equal(strstr(text, "The following are given documents.\n\nDocument 1:\n"),
                             text + strlen(frame));
        }
        eval_haystack_free(&h);
    }
    eval_plan_free(&plan);
    eval_params_free(&p);
    /* Lists that are none. */
    static const char *const bad[] = {"gentle\n", "adjective a b\n", "pronoun me\n", "noun x\nadjective y\n",
                                      ""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text(in_folder(b->folder, "words.txt"), bad[i]);
        eval_lexicon *l;
        assert_int_equal(eval_lexicon_load(&l, in_folder(b->folder, "words.txt"), &error), PH_USAGE);
        assert_null(l);
    }
    engine_close(e);
}

/* The tasks over essays from one haystack: every needle once, every question's references there. */
static void ruler_together(void **state) {
    const bench *b = *state;
    engine *e = open_tiny(b, (engine_options){.threads = 1});
    eval_params p = {.kind = EVAL_RULER,
                     .over = EVAL_RULER,
                     .lengths = {8192},
                     .n_lengths = 1,
                     .seed = 42,
                     .samples = 2,
                     .tasks = 0xFF,
                     .together = true,
                     .generated = true};
    eval_plan plan;
    OK(eval_plan_make(&plan, &p, NULL, e, &error));
    assert_int_equal(plan.cells, 16);
    assert_int_equal(plan.n_groups, 8); /* three tasks of their own, and the shared one, twice */
    for (size_t g = 0; g < plan.n_groups; g++) {
        eval_haystack h;
        OK(eval_group_make(&h, &plan, g, &error));
        const char *text = h.pack.texts[0].text;
        assert_true(h.pack.prompt.tokens.n < 8192 - 128 && h.pack.prompt.tokens.n > 4000);
        if (h.n == 5) assert_int_equal(count(text, "One of the special magic "), 14);
        for (size_t i = 0; i < h.n; i++)
            for (size_t k = 0; k < h.questions[i].n_answers; k++) {
                assert_int_equal(count(text, h.questions[i].answers[k]), 1);
                span_says(&h, h.questions[i].spans[k], h.questions[i].answers[k]);
            }
        eval_haystack_free(&h);
    }
    eval_plan_free(&plan);
    eval_params_free(&p);
    engine_close(e);
}

static void question_files(void **state) {
    const bench *b = *state;
    eval_rows lines, squad;
    OK(eval_rows_load(&lines, in_folder(b->folder, "rows.jsonl"), NULL, &error));
    OK(eval_rows_load(&squad, in_folder(b->folder, "squad.json"), NULL, &error));
    assert_int_equal(lines.n, 3);
    assert_int_equal(squad.n, 1);
    assert_string_equal(lines.list[0].text, squad.list[0].text);
    assert_int_equal(lines.list[0].n_qas, 2);
    assert_int_equal(squad.list[0].n_qas, 2);
    for (int i = 0; i < 2; i++) {
        assert_string_equal(lines.list[0].qas[i].question, squad.list[0].qas[i].question);
        assert_int_equal(lines.list[0].qas[i].n_answers, 1 - i);
        assert_int_equal(squad.list[0].qas[i].n_answers, 1 - i);
    }
    assert_int_equal(lines.list[1].qas[0].n_answers, 2);
    assert_string_equal(lines.list[2].qas[0].answers[0], "pears");
    eval_rows_free(&lines);
    eval_rows_free(&squad);
    OK(eval_rows_load(&lines, in_folder(b->folder, "rows.jsonl"), "s", &error));
    assert_int_equal(lines.n, 3);
    eval_rows_free(&lines);
    assert_int_equal(eval_rows_load(&lines, in_folder(b->folder, "rows.jsonl"), "t", &error), PH_NOT_FOUND);
    write_text(in_folder(b->folder, "bad.jsonl"), "{\"name\":\"x\",\n");
    assert_int_equal(eval_rows_load(&lines, in_folder(b->folder, "bad.jsonl"), NULL, &error), PH_CORRUPT);
    assert_non_null(strstr(error.text, "line 1"));
    assert_int_equal(eval_rows_load(&lines, in_folder(b->folder, "none"), NULL, &error), PH_NOT_FOUND);
}

static void questions_among_passages(void **state) {
    const bench *b = *state;
    engine *e = open_tiny(b, (engine_options){.threads = 1});
    eval_params p = {.kind = EVAL_QA,
                     .over = EVAL_QA,
                     .lengths = {4096},
                     .n_lengths = 1,
                     .seed = 3,
                     .generated = true,
                     .data = strdup(in_folder(b->folder, "rows.jsonl"))};
    eval_plan plan;
    OK(eval_plan_make(&plan, &p, NULL, e, &error));
    assert_int_equal(plan.cells, 4);
    eval_haystack h;
    OK(eval_group_make(&h, &plan, 0, &error));
    assert_true((int64_t)h.pack.prompt.tokens.n <= 4096 - EVAL_BUFFER && h.pack.prompt.tokens.n > 3200);
    for (size_t i = 0; i < h.n; i++) {
        const eval_question *q = &h.questions[i];
        assert_true(q->text >= 0 && (size_t)q->text < h.pack.n_texts);
        assert_int_equal(q->n_spans, (int)q->n_answers);
        for (int k = 0; k < q->n_spans; k++) span_says(&h, q->spans[k], q->answers[k]);
        assert_true(q->depth >= 0 && q->depth < 100);
    }
    eval_haystack_free(&h);
    eval_plan_free(&plan);
    eval_params_free(&p);
    engine_close(e);
}

static void parameters(void **state) {
    (void)state;
    eval_params p = needles(4096, 5, true), back;
    p.kind = EVAL_COMPARE;
    p.seed = (uint64_t)1 << 60;
    p.ks[p.n_ks++] = 128;
    p.data = strdup("a \"b\".json");
    strcpy(p.text_hash, "00ff");
    json_t *a = eval_params_json(&p);
    assert_non_null(a);
    char *text = json_dumps(a, 0);
    OK(eval_params_parse(&back, text, &error));
    json_t *again = eval_params_json(&back);
    assert_true(json_equal(a, again));
    json_decref(a);
    json_decref(again);
    free(text);
    eval_params_free(&p);
    eval_params_free(&back);
    assert_int_equal(eval_params_parse(&back, "{\"kind\":\"needle\"", &error), PH_CORRUPT);
    assert_int_equal(eval_params_parse(&back, "{\"kind\":\"x\",\"over\":\"needle\"}", &error), PH_CORRUPT);
}

/* ---- runs ---- */

static int64_t run(const bench *b, const char *folder, engine_options o, eval_params *p) {
    engine *e = open_tiny(b, o);
    store *s = open_runs(b, folder);
    int64_t id = 0;
    eval_options options = {.command = "test", .run = &id};
    p->text_hash[0] = 0;
    OK(eval_run(s, e, p, 0, &options, &error));
    store_close(s);
    engine_close(e);
    return id;
}

/* All results of a run, one after another. Owned. */
static char *results(const bench *b, const char *folder, int64_t id) {
    store *s = open_runs(b, folder);
    store_cell *cells;
    size_t n, len = 1;
    OK(store_cell_list(s, id, &cells, &n, &error));
    for (size_t i = 0; i < n; i++) len += strlen(cells[i].result) + 1;
    char *out = malloc(len), *p = out;
    *p = 0;
    for (size_t i = 0; i < n; i++) p = stpcpy(stpcpy(p, cells[i].result), "\n");
    store_cells_free(cells, n);
    store_close(s);
    return out;
}

static char *written(int (*write)(const eval_report *, FILE *, ph_error *), const eval_report *r) {
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    OK(write(r, f, &error));
    fclose(f);
    return text;
}

static void same_seed_same_run(void **state) {
    const bench *b = *state;
    eval_params p = needles(4096, 5, true);
    int64_t one = run(b, "threads", (engine_options){.threads = 1}, &p);
    int64_t three = run(b, "threads", (engine_options){.threads = 3, .chunk = 96}, &p);
    p.seed = 43;
    int64_t other = run(b, "threads", (engine_options){.threads = 1}, &p);
    char *x = results(b, "threads", one), *y = results(b, "threads", three),
         *z = results(b, "threads", other);
    assert_true(strlen(x) > 500);
    assert_string_equal(x, y);
    assert_string_not_equal(x, z);
    free(x);
    free(y);
    free(z);
    /* What leaves the program too: the table byte for byte, the rest by its digest. */
    store *s = open_runs(b, "threads");
    eval_report a, c, d;
    OK(eval_report_load(&a, s, one, &error));
    OK(eval_report_load(&c, s, three, &error));
    OK(eval_report_load(&d, s, other, &error));
    char *csv = written(eval_report_csv, &a), *same = written(eval_report_csv, &c), digest[65], equal[65], not[65];
    assert_string_equal(csv, same);
    assert_true(eval_report_digest(&a, digest) && eval_report_digest(&c, equal) && eval_report_digest(&d, not));
    assert_string_equal(digest, equal);
    assert_string_not_equal(digest, not);
    free(csv);
    free(same);
    eval_report_free(&a);
    eval_report_free(&c);
    eval_report_free(&d);
    store_close(s);
    eval_params_free(&p);
}

static int die_at_three(void *user, const char *what, size_t cells, size_t all, int64_t tokens,
                        int64_t all_tokens) {
    (void)user, (void)what, (void)all;
    /* In the midst of reading the fourth prompt. */
    if (cells == 3 && all_tokens && tokens < all_tokens) raise(SIGKILL);
    return 0;
}

static int stop_at_two(void *user, const char *what, size_t cells, size_t all, int64_t tokens,
                       int64_t all_tokens) {
    (void)user, (void)what, (void)all, (void)tokens, (void)all_tokens;
    return cells == 2;
}

static void killed_and_resumed(void **state) {
    const bench *b = *state;
    eval_params p = needles(4096, 6, false);
    int64_t whole = run(b, "whole", (engine_options){.threads = 1}, &p);
    pid_t child = fork();
    if (child == 0) {
        engine *e = open_tiny(b, (engine_options){.threads = 1, .chunk = 128});
        store *s = open_runs(b, "killed");
        eval_options options = {.command = "test", .progress = die_at_three};
        eval_run(s, e, &p, 0, &options, &error);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

    store *s = open_runs(b, "killed");
    store_run row;
    OK(store_run_get(s, 0, &row, &error));
    assert_int_equal(row.done, 3);
    assert_int_equal(row.cells, 6);
    assert_int_equal(row.state, RUN_UNFINISHED);
    eval_params again;
    OK(eval_params_parse(&again, row.parameters, &error));
    engine *e = open_tiny(b, (engine_options){.threads = 1});
    eval_options options = {.command = "test"};
    OK(eval_run(s, e, &again, row.id, &options, &error));
    int64_t id = row.id;
    store_run_free(&row);
    OK(store_run_get(s, id, &row, &error));
    assert_int_equal(row.done, 6);
    assert_int_equal(row.state, RUN_DONE);
    store_run_free(&row);
    store_close(s);
    char *x = results(b, "whole", whole), *y = results(b, "killed", id);
    assert_string_equal(x, y);
    free(x);
    free(y);
    eval_params_free(&again);
    engine_close(e);
    eval_params_free(&p);
}

static void stopped_and_refused(void **state) {
    const bench *b = *state;
    eval_params p = needles(2048, 3, false), again;
    p.generated = false;
    p.files = calloc(1, sizeof *p.files);
    p.files[p.n_files++] = strdup(in_folder(b->folder, "hay.txt"));
    char *text = eval_generate_text(1, 20000, &error);
    write_text(in_folder(b->folder, "hay.txt"), text);
    engine *e = open_tiny(b, (engine_options){.threads = 1});
    store *s = open_runs(b, "stopped");
    eval_options options = {.command = "test", .progress = stop_at_two};
    assert_int_equal(eval_run(s, e, &p, 0, &options, &error), PH_INTERRUPTED);
    store_run row;
    OK(store_run_get(s, 0, &row, &error));
    assert_int_equal(row.done, 2);
    assert_int_equal(row.state, RUN_UNFINISHED);
    options.progress = NULL;
    /* Another model, and other texts, are not gone on with. */
    engine *other = open_tiny(b, (engine_options){.threads = 1, .topk = 32});
    OK(eval_params_parse(&again, row.parameters, &error));
    assert_int_equal(eval_run(s, other, &again, row.id, &options, &error), PH_USAGE);
    engine_close(other);
    text[0] = 'X';
    write_text(in_folder(b->folder, "hay.txt"), text);
    assert_int_equal(eval_run(s, e, &again, row.id, &options, &error), PH_USAGE);
    assert_non_null(strstr(error.text, "changed"));
    eval_params_free(&again);
    free(text);
    store_run_free(&row);
    store_close(s);
    engine_close(e);
    eval_params_free(&p);
}

/* ---- index scores and faults ---- */

typedef struct looking {
    session *session;
    int64_t n;
    int steps;
    bool exact; /* scores equal the trace's to the last bit */
} looking;

static int look(void *user, const generate_step *step) {
    looking *k = user;
    int layers;
    assert_ptr_equal(session_trace(k->session, &layers), step->layers); /* what an empty answer is explained by */
    assert_int_equal(layers, step->n_layers);
    float *score = malloc((size_t)session_length(k->session) * sizeof *score);
    int64_t n = session_length(k->session);
    for (int l = 0; l < step->n_layers; l++) {
        const trace_layer *t = &step->layers[l];
        OK(session_index_scores(k->session, l, score, &error));
        float least = INFINITY;
        for (int i = 0; i < t->count; i++) {
            if (t->score[i] != score[t->position[i]])
                fail_msg("layer %d: another score at %d", l, t->position[i]);
            least = fminf(least, t->score[i]);
        }
        /* What was not selected is not better. */
        int64_t better = 0;
        for (int64_t i = 0; i < n; i++) better += score[i] > least;
        assert_true(better < t->count);
    }
    free(score);
    k->steps++;
    return 0;
}

static void index_scores(void **state) {
    for (int fault = 0; fault < 2; fault++) {
        engine *e = open_tiny(
            *state, (engine_options){.threads = 1,
                                     .fault = fault ? ENGINE_FAULT_SHUFFLED_SCORES : ENGINE_FAULT_NONE});
        context *c = NULL;
        session *s = NULL;
        int32_t tokens[600];
        for (int i = 0; i < 600; i++) tokens[i] = 32 + i * 7 % 90;
        OK(context_open(&c, e, NULL, 1024, NULL, &error));
        OK(context_read(c, tokens, 500, NULL, NULL, NULL, &error));
        OK(session_open(&s, c, &error));
        float none;
        assert_int_equal(session_index_scores(s, 0, &none, &error), PH_USAGE);
        OK(session_feed(s, tokens + 500, 100, NULL, NULL, &error));
        looking k = {.session = s};
        generate_options o = {.max_tokens = 5, .trace = true, .ignore_eos = true, .step = look, .user = &k};
        OK(session_generate(s, &o, NULL, &error));
        assert_int_equal(k.steps, 5);
        session_close(s);
        context_close(c);
        engine_close(e);
    }
}

static void all_say(const bench *b, const char *folder, engine_options o, const char *wanted) {
    eval_params p = needles(4096, 5, true);
    int64_t id = run(b, folder, o, &p);
    store *s = open_runs(b, folder);
    eval_report r;
    OK(eval_report_load(&r, s, id, &error));
    assert_int_equal(json_array_size(r.cells), 5);
    for (size_t i = 0; i < 5; i++) {
        const json_t *c = json_array_get(r.cells, i);
        const char *verdict = json_string_value(json_object_get(c, "verdict"));
        if (strcmp(verdict, wanted))
            fail_msg("cell %zu says %s (%s), not %s", i, verdict,
                     json_string_value(json_object_get(c, "detail")), wanted);
    }
    eval_report_free(&r);
    store_close(s);
    eval_params_free(&p);
}

/* A random model answers nothing rightly: what it says of why depends on what it could see. */
static void planted_faults(void **state) {
    const bench *b = *state;
    all_say(b, "shuffled", (engine_options){.threads = 1, .fault = ENGINE_FAULT_SHUFFLED_SCORES},
            "not selected");
    all_say(b, "zeroed", (engine_options){.threads = 1, .topk = 8192, .fault = ENGINE_FAULT_ZERO_ATTENTION},
            "selected, not used");
    engine *a = open_tiny(b, (engine_options){.threads = 1}),
           *f = open_tiny(b, (engine_options){.threads = 1, .fault = ENGINE_FAULT_ZERO_ATTENTION});
    assert_memory_not_equal(engine_key(a), engine_key(f), 32);
    engine_close(a);
    engine_close(f);
}

/* ---- reports ---- */

static void reports(void **state) {
    const bench *b = *state;
    eval_params p = {.kind = EVAL_QA,
                     .over = EVAL_QA,
                     .lengths = {2048, 4096},
                     .n_lengths = 2,
                     .seed = 3,
                     .generated = true,
                     .max_tokens = 4,
                     .data = strdup(in_folder(b->folder, "rows.jsonl"))};
    int64_t id = run(b, "reports", (engine_options){.threads = 1}, &p);
    p.seed = 4;
    int64_t second = run(b, "reports", (engine_options){.threads = 1}, &p);
    store *s = open_runs(b, "reports");
    eval_report r, q;
    OK(eval_report_load(&r, s, id, &error));
    OK(eval_report_load(&q, s, second, &error));
    assert_int_equal(json_array_size(r.cells), 8);
    /* Three of four questions have an answer, at each of two lengths. */
    const json_t *table = json_array_get(json_object_get(r.summary, "tables"), 0);
    const json_t *f1 = json_array_get(json_array_get(json_object_get(table, "values"), 0), 0);
    assert_int_equal(json_integer_value(json_object_get(f1, "n")), 3);
    assert_true(json_number_value(json_object_get(f1, "high")) >
                json_number_value(json_object_get(f1, "low")));

    char *html = written(eval_report_html, &r), *csv = written(eval_report_csv, &r);
    assert_null(strstr(html, "http:"));
    assert_null(strstr(html, "https:"));
    assert_null(strstr(html, "src="));
    assert_null(strstr(html, "<script"));
    assert_non_null(strstr(html, "&lt;script&gt;")); /* from a question */
    assert_non_null(strstr(html, "n=3"));
    assert_non_null(strstr(html, "Lost in the middle"));
    assert_non_null(strstr(html, "<svg"));
    assert_int_equal(count(csv, "\r\n"), 9);
    free(html);
    free(csv);
    json_t *d = eval_diff(&r, &q);
    assert_true(json_array_size(json_object_get(d, "figures")) > 0);
    json_decref(d);
    json_t *all = eval_report_json(&r);
    assert_non_null(all);
    json_decref(all);
    eval_report_free(&r);
    eval_report_free(&q);
    store_close(s);
    eval_params_free(&p);
}

static void comparison(void **state) {
    const bench *b = *state;
    eval_params p = needles(2048, 3, true);
    p.kind = EVAL_COMPARE;
    p.ks[0] = 16;
    p.ks[1] = 4096; /* everything: as good as dense */
    p.n_ks = 2;
    int64_t id = run(b, "compare", (engine_options){.threads = 1, .topk = 4096}, &p);
    store *s = open_runs(b, "compare");
    eval_report r;
    OK(eval_report_load(&r, s, id, &error));
    assert_int_equal(json_array_size(r.cells), 9);
    for (size_t i = 0; i < 9; i++) {
        const json_t *c = json_array_get(r.cells, i);
        const char *variant = json_string_value(json_object_get(c, "variant"));
        double kl = json_number_value(json_object_get(json_object_get(c, "kl"), "mean"));
        if (!strcmp(variant, "dense")) assert_true(kl == 0);
        if (!strcmp(variant, "k=16")) assert_true(kl > 0.01);
        if (!strcmp(variant, "k=4096")) assert_true(kl < 1e-3);
    }
    eval_report_free(&r);
    store_close(s);
    eval_params_free(&p);
}

/* ---- stored documents ---- */

static void deleted_with_its_document(void **state) {
    const bench *b = *state;
    store *s = open_runs(b, "documents");
    char *text = eval_generate_text(9, 30000, &error);
    char kind[] = "text/plain", name[] = "secret.txt", none[] = "";
    store_document d = {.name = name,
                        .source = none,
                        .media_type = kind,
                        .title = none,
                        .warning = none,
                        .picture_pages = none};
    memset(d.hash, 1, sizeof d.hash);
    OK(store_document_add(s, &d, text, NULL, 0, NULL, NULL, &error));
    free(text);
    free(d.name);
    eval_params p = needles(2048, 3, true);
    p.generated = false;
    p.documents = true;
    engine *e = open_tiny(b, (engine_options){.threads = 1});
    int64_t id = 0;
    eval_options options = {.command = "test", .run = &id};
    OK(eval_run(s, e, &p, 0, &options, &error));
    store_run row;
    OK(store_run_get(s, id, &row, &error));
    store_run_free(&row);
    OK(store_document_delete(s, d.id, NULL, &error));
    assert_int_equal(store_run_get(s, id, &row, &error), PH_NOT_FOUND);
    char *report = NULL;
    OK(store_verify(s, &report, &error));
    assert_string_equal(report, "");
    free(report);
    store_close(s);
    engine_close(e);
    eval_params_free(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(depths_are_even_ones_or_named),
        cmocka_unit_test(needle_grid),
        cmocka_unit_test(ruler_prompts),
        cmocka_unit_test(ruler_as_published),
        cmocka_unit_test(ruler_together),
        cmocka_unit_test(question_files),
        cmocka_unit_test(questions_among_passages),
        cmocka_unit_test(parameters),
        cmocka_unit_test(same_seed_same_run),
        cmocka_unit_test(killed_and_resumed),
        cmocka_unit_test(stopped_and_refused),
        cmocka_unit_test(index_scores),
        cmocka_unit_test(planted_faults),
        cmocka_unit_test(reports),
        cmocka_unit_test(comparison),
        cmocka_unit_test(deleted_with_its_document),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
