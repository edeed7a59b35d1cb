/* Scores of answers against cases worked out by hand or with SQuAD's own script; intervals; verdicts on
 * made-up sights; random streams. */
#include "appliance/eval_score.h"
#include "appliance/eval_verdict.h"
#include "appliance/eval_words.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void near(double got, double wanted) {
    if (fabs(got - wanted) > 1e-4) fail_msg("%.6f is not %.6f", got, wanted);
}

static void normalises(const char *text, const char *wanted) {
    char *got = score_normalise(text);
    assert_string_equal(got, wanted);
    free(got);
}

static void normalisation(void **state) {
    (void)state;
    normalises("The  Quick, brown\tfox!", "quick brown fox");
    normalises("a an the", "");
    normalises("", "");
    normalises("theatre at an Inn", "theatre at inn");
    normalises("U.S.A.", "usa");
    normalises("well-known", "wellknown"); /* as SQuAD does: punctuation goes, no space comes */
    normalises("caf\xC3\xA9", "caf\xC3\xA9");
}

static void f1(void **state) {
    (void)state;
    near(score_f1("the cat sat", "cat"), 2.0 * 1 / 3); /* precision 1/2, recall 1 */
    near(score_f1("Norman invaders", "the Normans"), 0);
    near(score_f1("in the 10th and 11th centuries", "10th and 11th centuries"), 8.0 / 9);
    near(score_f1("b b b", "b"), 0.5); /* multisets: one of three counts */
    near(score_f1("", ""), 1);
    near(score_f1("the", "an"), 1);
    near(score_f1("x", ""), 0);
    assert_true(score_exact("The Normans.", "normans"));
    assert_false(score_exact("Normans", "Norman"));
}

static void contains(void **state) {
    (void)state;
    assert_true(score_contains("it is 1234567, I think", "1234567"));
    assert_true(score_contains("Eat A Sandwich", "a sandwich"));
    assert_false(score_contains("123456", "1234567"));
    assert_true(score_contains("", ""));
    near(score_similarity("kitten", "sitting"), 1 - 3.0 / 7);
    near(score_similarity("", ""), 1);
    near(score_similarity("abc", ""), 0);
}

static void wilson(void **state) {
    (void)state;
    /* Worked examples: 0 of 10, 10 of 10, 7 of 10, 50 of 100. */
    interval i = score_wilson(0, 10);
    near(i.low, 0);
    near(i.high, 0.277533);
    i = score_wilson(1, 10);
    near(i.low, 0.722467);
    near(i.high, 1);
    i = score_wilson(0.7, 10);
    near(i.low, 0.396776);
    near(i.high, 0.892209);
    i = score_wilson(0.5, 100);
    near(i.low, 0.403832);
    near(i.high, 0.596168);
    i = score_wilson(0, 0);
    near(i.high - i.low, 1);
}

/* ---- verdicts ---- */

typedef struct sight {
    float share, mass;
    int64_t rank;
} sight;

static eval_verdict judge(const char *reference, const char *got, stop_reason stop, sight s, char *detail) {
    char *answers[] = {(char *)(uintptr_t)reference};
    eval_question q = {.answers = answers, .n_answers = reference ? 1 : 0, .all = true, .n_spans = 1};
    q.spans[0] = (eval_span){100, 110};
    eval_sight at = {s.share, s.mass, s.rank};
    eval_sights sights = {.at = &at, .n_steps = 1, .layers = 1, .n_spans = 1};
    uint32_t ends[64];
    int n = 0;
    for (size_t i = 0; i < strlen(got) && n < 64; i++) ends[n++] = (uint32_t)i + 1;
    eval_score score;
    assert_int_equal(eval_score_answer(&score, EVAL_NEEDLE, &q, got, NULL), 0);
    eval_answer a = {got, stop, ends, n};
    return eval_judge(&q, &a, &score, &sights, &(eval_sights){0}, 512, detail);
}

static void verdicts(void **state) {
    (void)state;
    char d[400];
    sight missed = {0, 0, 9000}, seen = {1, 0.4f, 3};
    assert_int_equal(judge("1234567", "It is 1234567.", STOP_EOS, missed, d), VERDICT_RIGHT);
    assert_int_equal(judge("1234567", "I do not know", STOP_EOS, missed, d), VERDICT_NOT_SELECTED);
    assert_non_null(strstr(d, "9000"));
    assert_non_null(strstr(d, "512"));
    assert_int_equal(judge("1234567", "I do not know", STOP_EOS, seen, d), VERDICT_NOT_USED);
    assert_non_null(strstr(d, "0.4"));
    assert_int_equal(judge("1234567", "1234568", STOP_EOS, seen, d), VERDICT_WRONG_COPY);
    assert_non_null(strstr(d, "\"1234568\" for \"1234567\""));
    assert_int_equal(judge("a long answer of words", "Well: a long ans", STOP_LENGTH, seen, d),
                     VERDICT_CUT_OFF);
    assert_int_equal(judge("eat a sandwich and sit in the park on a sunny day", "Eat a sandwich.", STOP_EOS, seen, d),
                     VERDICT_WRONG_COPY);
    assert_int_equal(judge("eat a sandwich and sit in the park on a sunny day", "a", STOP_EOS, seen, d),
                     VERDICT_NOT_USED);
    assert_int_equal(judge("eat a sandwich and sit in the park on a sunny day", "", STOP_EOS, seen, d),
                     VERDICT_NOT_USED);
    /* Out of room, and nothing of the answer is there: that is not why. */
    assert_int_equal(judge("1234567", "blah blah blah", STOP_LENGTH, missed, d), VERDICT_NOT_SELECTED);
    assert_int_equal(judge(NULL, "Paris", STOP_EOS, seen, d), VERDICT_INVENTED);
    assert_int_equal(judge(NULL, "Not found in the documents.", STOP_EOS, seen, d), VERDICT_RIGHT);
    /* One token of ten, as chance would have it, is not a selection. */
    assert_int_equal(judge("1234567", "no", STOP_EOS, (sight){0.1f, 0, 400}, d), VERDICT_NOT_SELECTED);
}

/* Of 2,048 positions 512 are selected: a place of eight tokens has two of them by chance, in some layer of some step
 * four or five. */
static void what_chance_selects_is_not_selected(void **state) {
    (void)state;
    enum { STEPS = 4, LAYERS = 8, TOKENS = 8 };
    char *answers[] = {(char *)(uintptr_t) "1234567"}, d[400];
    eval_question q = {.answers = answers, .n_answers = 1, .all = true, .n_spans = 1};
    q.spans[0] = (eval_span){100, 100 + TOKENS};
    eval_score score;
    assert_int_equal(eval_score_answer(&score, EVAL_NEEDLE, &q, "no", NULL), 0);
    uint32_t ends[] = {1, 2};
    eval_answer a = {"no", STOP_EOS, ends, 2};
    eval_sight at[STEPS * LAYERS];
    eval_sights sights = {.at = at, .n_steps = STEPS, .layers = LAYERS, .n_spans = 1, .chance = 0.25};
    eval_random r = eval_stream(1, "selections", 0, 0);
    int missed = 0;
    for (int run = 0; run < 200; run++) {
        for (int i = 0; i < STEPS * LAYERS; i++) {
            int n = 0;
            for (int k = 0; k < TOKENS; k++) n += eval_below(&r, 4) == 0;
            at[i] = (eval_sight){(float)n / TOKENS, 0.01f, 7};
        }
        missed += eval_judge(&q, &a, &score, &sights, &(eval_sights){0}, 512, d) == VERDICT_NOT_SELECTED;
    }
    assert_true(missed >= 190); /* and not all: chance selects much once in a while */
    /* One layer that has it all, in the step that counts. */
    for (int i = 0; i < STEPS * LAYERS; i++) at[i] = (eval_sight){i % LAYERS == 6 ? 1 : 0.25f, 0.4f, 1};
    assert_int_equal(eval_judge(&q, &a, &score, &sights, &(eval_sights){0}, 512, d), VERDICT_NOT_USED);
    /* In one step a layer or two that have it all may be chance, but not that it is first in three of them. */
    for (int i = 0; i < LAYERS; i++) at[i] = (eval_sight){i > 4 ? 0.5f : 0.25f, 0.4f, i > 4 ? 1 : 700};
    sights.n_steps = 1;
    sights.positions = 2048;
    assert_int_equal(eval_judge(&q, &a, &score, &sights, &(eval_sights){0}, 512, d), VERDICT_NOT_USED);
    for (int i = 0; i < LAYERS; i++) at[i].rank = 60;
    assert_int_equal(eval_judge(&q, &a, &score, &sights, &(eval_sights){0}, 512, d), VERDICT_NOT_SELECTED);
    /* Where all positions are selected there is nothing to miss. */
    sights.chance = 1;
    assert_int_equal(eval_judge(&q, &a, &score, &sights, &(eval_sights){0}, 512, d), VERDICT_NOT_USED);
}

static void several_references(void **state) {
    (void)state;
    char *answers[] = {(char *)(uintptr_t) "11", (char *)(uintptr_t) "22", (char *)(uintptr_t) "33",
                       (char *)(uintptr_t) "44"};
    eval_question q = {.answers = answers, .n_answers = 4, .all = true};
    eval_score s;
    assert_int_equal(eval_score_answer(&s, EVAL_RULER, &q, "11, 33 and 44", NULL), 0);
    near(s.score, 0.75);
    assert_int_equal(s.missing, 1);
    assert_false(s.right);
    q.all = false; /* any one will do */
    assert_int_equal(eval_score_answer(&s, EVAL_RULER, &q, "perhaps 33", NULL), 0);
    near(s.score, 1);
    assert_true(s.right);
    assert_int_equal(eval_score_answer(&s, EVAL_QA, &q, "perhaps 33", NULL), 0);
    near(s.score, 2.0 / 3);
}

/* What an answer's trace tells of a place: the share of it that was selected, and the attention on it. */
static void a_trace_is_seen(void **state) {
    (void)state;
    enum { LAYERS = 2, KEEP = 3 };
    trace_token tokens[2] = {{0}};
    int32_t selected[2 * LAYERS] = {3, 2, 3, 0};
    trace_entry entries[2 * LAYERS * KEEP] = {{9, 0, 0.5f}, {4, 0, 0.2f}, {5, 0, 0.1f},  {4, 0, 0.3f}, {70, 0, 0.1f},
                                              {-1, 0, 0},   {5, 0, 0.6f}, {7, 0, 0.25f}, {4, 0, 0.1f}, {-1, 0, 0},
                                              {-1, 0, 0},   {-1, 0, 0}};
    answer_trace t = {.layers = LAYERS, .keep = KEEP, .tokens = tokens, .selected = selected, .entries = entries,
                      .n_tokens = 2};
    const eval_span spans[] = {{4, 8}, {70, 71}};
    eval_sights s = {0};
    ph_error err = {0};
    assert_int_equal(eval_sights_of_trace(&s, &t, 300, spans, 2, &err), PH_OK);
    assert_int_equal(s.n_steps, 2);
    assert_true(s.chance == 0.01);
    eval_sight first = eval_sights_best(&s, 0, 1, 0, 1, 0, 1), all = eval_sights_best(&s, 0, 2, 0, 2, 0, 1),
               other = eval_sights_best(&s, 0, 2, 0, 2, 1, 2);
    assert_true(first.share == 0.5f && first.mass == 0.2f + 0.1f && first.rank == 0);
    assert_true(all.share == 0.75f && fabsf(all.mass - 0.95f) < 1e-6f);
    assert_true(other.share == 1 && other.mass == 0.1f);
    eval_sights_free(&s);
    t.n_tokens = 0;
    assert_int_equal(eval_sights_of_trace(&s, &t, 300, spans, 2, &err), PH_OK);
    assert_int_equal(s.n_steps, 0);
}

/* ---- chance ---- */

static void streams(void **state) {
    (void)state;
    /* splitmix64 from state 0, as its author publishes it. */
    eval_random r = {0};
    assert_true(eval_next(&r) == 0xE220A8397B1DCDAFu);
    assert_true(eval_next(&r) == 0x6E789E6AA1B965F4u);
    eval_random a = eval_stream(1, "x", 2, 3), b = eval_stream(1, "x", 2, 3), c = eval_stream(1, "x", 3, 2);
    assert_true(eval_next(&a) == eval_next(&b));
    assert_true(eval_next(&a) != eval_next(&c));
    for (int i = 0; i < 1000; i++) assert_true(eval_below(&a, 7) < 7);
}

static void words(void **state) {
    (void)state;
    eval_random r = eval_stream(42, "words", 0, 0);
    char w[EVAL_WORD], other[EVAL_WORD];
    for (int i = 0; i < 1000; i++) {
        eval_word_number(w, &r);
        assert_int_equal(strlen(w), 7);
        assert_true(w[0] != '0');
        eval_word_uuid(w, &r);
        assert_int_equal(strlen(w), 36);
        assert_true(w[8] == '-' && w[13] == '-' && w[14] == '4' && w[18] == '-' && strchr("89ab", w[19]) &&
                    w[23] == '-');
        eval_word_pair(w, NULL, &r);
        assert_non_null(strchr(w, '-'));
    }
    for (uint64_t i = 0; i < 3000; i++) {
        eval_word_made(w, i);
        eval_word_made(other, i + 1);
        assert_string_not_equal(w, other);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(normalisation), cmocka_unit_test(f1),       cmocka_unit_test(contains),
        cmocka_unit_test(wilson),        cmocka_unit_test(verdicts), cmocka_unit_test(several_references),
        cmocka_unit_test(what_chance_selects_is_not_selected),
        cmocka_unit_test(a_trace_is_seen),
        cmocka_unit_test(streams),       cmocka_unit_test(words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
