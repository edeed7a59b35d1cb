/* Sentences: where they end in prose, lists, code, scripts without spaces, and text without any end. */
#include "ingest/sentences.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

/* The sentences of text, one by one, are those in `want`; sentence_at agrees for every byte of each. */
static void expect(const char *text, const char *const *want, size_t n) {
    size_t len = strlen(text), at = 0;
    for (size_t i = 0; i < n; i++) {
        text_span s = sentence_next(text, len, at);
        char got[2048];
        snprintf(got, sizeof got, "%.*s", (int)(s.end - s.start), text + s.start);
        assert_string_equal(got, want[i]);
        for (size_t k = s.start; k < s.end; k++) {
            text_span same = sentence_at(text, len, k);
            assert_int_equal(same.start, s.start);
            assert_int_equal(same.end, s.end);
        }
        at = s.end;
    }
    text_span end = sentence_next(text, len, at);
    assert_int_equal(end.start, len);
    assert_int_equal(end.end, len);
}
#define EXPECT(text, ...)                                                                                    \
    do {                                                                                                     \
        const char *const want[] = {__VA_ARGS__};                                                            \
        expect(text, want, sizeof want / sizeof *want);                                                      \
    } while (0)

static void prose(void **state) {
    EXPECT("The light is on. The door is open! Is anyone there? Nobody answers.", "The light is on.",
           "The door is open!", "Is anyone there?", "Nobody answers.");
    EXPECT("He said \"Stop.\" Then he left. (Nobody knew why.) It rained.", "He said \"Stop.\"",
           "Then he left.", "(Nobody knew why.)", "It rained.");
    EXPECT("\u201CCome in,\u201D she said. \u201CSit down.\u201D They sat.", "\u201CCome in,\u201D she said.",
           "\u201CSit down.\u201D", "They sat.");
    EXPECT("\"Really?\" she said. Yes.", "\"Really?\" she said.", "Yes.");
    EXPECT("Wait... what happened? Well\u2026 Nothing.", "Wait... what happened?", "Well\u2026", "Nothing.");
    EXPECT("What?! No!!! Yes.", "What?!", "No!!!", "Yes.");
}

static void abbreviations(void **state) {
    EXPECT("Dr. Smith met Mr. Jones, e.g. on Monday. They spoke.", "Dr. Smith met Mr. Jones, e.g. on Monday.",
           "They spoke.");
    EXPECT("GNU GPL v. 3 was published. See No. 7, p. 12 and Fig. 3 there. No. It was not.",
           "GNU GPL v. 3 was published.", "See No. 7, p. 12 and Fig. 3 there.", "No.", "It was not.");
    EXPECT("J. R. R. Tolkien wrote it. D. E. Knuth did not.", "J. R. R. Tolkien wrote it.",
           "D. E. Knuth did not.");
    EXPECT("It costs 1.5 million, i.e. 3.25 each. Version 2.0 follows.",
           "It costs 1.5 million, i.e. 3.25 each.", "Version 2.0 follows.");
    EXPECT("Free Software Foundation, Inc. <https://fsf.org/> is at www.example.org. Write there.",
           "Free Software Foundation, Inc. <https://fsf.org/> is at www.example.org.", "Write there.");
    EXPECT("It grew in the U.S. and elsewhere etc. and so on. Fine.",
           "It grew in the U.S. and elsewhere etc. and so on.", "Fine.");
}

static void structure(void **state) {
    EXPECT("A title\n\nA paragraph that\nwraps over lines. More.\n\n\n- one item\n- two items\n  which "
           "wrap\n3. third\n",
           "A title", "A paragraph that\nwraps over lines.", "More.", "- one item",
           "- two items\n  which wrap", "3. third");
    EXPECT("# Heading\nText below it\n## Next\nmore", "# Heading", "Text below it", "## Next", "more");
    EXPECT("one\r\n\r\ntwo\r\nlines", "one", "two\r\nlines");
    EXPECT("(a) first clause;\n(b) second clause.\n  4.1 third", "(a) first clause;", "(b) second clause.",
           "4.1 third");
    EXPECT("int main(void) {\n    return a.b + 1.0;\n}\n\nvoid g(void);\n",
           "int main(void) {\n    return a.b + 1.0;\n}", "void g(void);");
    EXPECT("It happened in\n1984. It was cold.", "It happened in\n1984.", "It was cold.");
}

static void other_scripts(void **state) {
    EXPECT("我喜欢书。你呢？好！「是。」他说", "我喜欢书。", "你呢？", "好！", "「是。」", "他说");
    EXPECT("Он пришёл. Она ушла.", "Он пришёл.", "Она ушла.");
    EXPECT("Das ist z.B. gut. Ärger gibt es nicht.", "Das ist z.B. gut.", "Ärger gibt es nicht.");
}

static void edges(void **state) {
    text_span s = sentence_next("", 0, 0);
    assert_int_equal(s.start, 0);
    assert_int_equal(s.end, 0);
    s = sentence_next(" \n\t ", 4, 0);
    assert_int_equal(s.start, 4);
    s = sentence_at("x", 1, 5);
    assert_int_equal(s.start, 1);
    EXPECT("no end at all", "no end at all");
    EXPECT(".", ".");
    /* `from` in the middle of a sentence finds the next one */
    s = sentence_next("One two. Three four.", 20, 2);
    assert_int_equal(s.start, 9);
}

/* Every byte belongs to the sentence that holds it, however long the text, and none is much over a kilobyte.
 */
static void check_partition(const char *text, size_t len) {
    size_t at = 0;
    while (at < len) {
        text_span s = sentence_at(text, len, at);
        assert_true(s.end - s.start <= 1300);
        if (strchr(" \n", text[at])) { /* stands in no span */
            at++;
            continue;
        }
        assert_true(s.start <= at && s.end - s.start <= 1300);
        text_span last = sentence_at(text, len, s.end - 1);
        assert_int_equal(last.start, s.start);
        assert_int_equal(last.end, s.end);
        at = s.end;
    }
}

static void long_runs(void **state) {
    size_t len = 20000;
    char *text = malloc(len);
    assert_non_null(text);
    for (size_t i = 0; i < len; i++) text[i] = i % 7 == 6 ? ' ' : 'w';
    check_partition(text, len);
    for (size_t i = 0; i < len; i++) text[i] = i % 90 == 89 ? '\n' : 'w';
    check_partition(text, len);
    for (size_t i = 0; i + 3 <= len; i += 3) memcpy(text + i, "\u4E2D", 3);
    check_partition(text, len / 3 * 3);
    unsigned seed = 7;
    size_t n = 0;
    while (n + 3 <= len) {
        static const char *const pieces[] = {"a", "B",  " ", ".", "\n",     "!",   "?",
                                             ")", "\"", "-", "1", "\u3002", "e.g", "#"};
        seed = seed * 1664525u + 1013904223u;
        const char *piece = pieces[(seed >> 16) % (sizeof pieces / sizeof *pieces)];
        memcpy(text + n, piece, strlen(piece));
        n += strlen(piece);
    }
    check_partition(text, n);
    /* A sentence over a multiple of the cut length stays whole. */
    memset(text, 'w', len);
    for (size_t i = 0; i + 2 < len; i += 150) memcpy(text + i, ". W", 3);
    text_span s = sentence_at(text, len, 1000);
    assert_int_equal(s.start, 902);
    assert_int_equal(s.end, 1051);
    free(text);
}

static void only_looks_locally(void **state) {
    size_t len = (size_t)100 << 20;
    char *text = malloc(len);
    assert_non_null(text);
    memset(text, 'a', len);
    clock_t start = clock();
    for (size_t i = 0; i < 2000; i++) {
        text_span s = sentence_at(text, len, i * 52000);
        assert_true(s.end > s.start && s.end - s.start <= 1300);
    }
    text_span s = sentence_next(text, len, 50000000);
    assert_true(s.start >= 50000000 && s.end - s.start <= 1300);
    assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 5);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prose),
        cmocka_unit_test(abbreviations),
        cmocka_unit_test(structure),
        cmocka_unit_test(other_scripts),
        cmocka_unit_test(edges),
        cmocka_unit_test(long_runs),
        cmocka_unit_test(only_looks_locally),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
