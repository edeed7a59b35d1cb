/* test_eval_prompts.c - what an evaluation asks, on a tiny random model: parameters, what prompts look like
 * and how long they are, where the answer stands in them, RULER's as published, files of questions. */
#include "tests/test_eval.h"

#include "appliance/eval_published.h"
#include "appliance/eval_words.h"

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
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
