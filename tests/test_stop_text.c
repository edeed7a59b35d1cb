/* test_stop_text.c - where an answer ends, and what of it can be shown before that is known. */
#include "appliance/stop_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const stop_texts ENDS = {{(char *)"\n\n", (char *)"END", (char *)"aab"}, 3};

static size_t found(const char *text, size_t from) {
    return stop_text_find(&ENDS, text, strlen(text), from);
}

static void the_first_of_them_counts(void **state) {
    (void)state;
    assert_int_equal(found("nothing EN", 0), SIZE_MAX);
    assert_int_equal(found("", 0), SIZE_MAX);
    assert_int_equal(found("END", 0), 0);
    assert_int_equal(found("x\n\nEND", 0), 1);
    assert_int_equal(found("xEND\n\n", 0), 1);
    assert_int_equal(found("aaab", 0), 1);
    /* One that ended before was looked at then; one that was under way is found. */
    assert_int_equal(found("END and", 3), SIZE_MAX);
    assert_int_equal(found("an END", 5), 3);
    assert_int_equal(found("an END", 6), SIZE_MAX);
    assert_int_equal(stop_text_find(&(stop_texts){.n = 0}, "END", 3, 0), SIZE_MAX);
}

/* Bytes one by one and in lumps: what was shown is always the beginning of what stays. */
static void what_is_shown_stays(void **state) {
    (void)state;
    static const char *const texts[] = {"one\ntwo\n\nthree", "aaaab", "EEND", "EN", "a\n", "xyz"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        for (size_t lump = 1; lump < 6; lump++) {
            size_t len = strlen(texts[i]), shown = 0, before = 0, end = SIZE_MAX;
            for (size_t n = lump; end == SIZE_MAX && before < len; n += lump) {
                size_t now = n < len ? n : len;
                end = stop_text_find(&ENDS, texts[i], now, before);
                size_t safe = end == SIZE_MAX ? stop_text_safe(&ENDS, texts[i], now) : end;
                assert_true(safe >= shown && safe <= now);
                shown = safe;
                before = now;
            }
            assert_int_equal(end, found(texts[i], 0));
            assert_true(shown <= (end == SIZE_MAX ? len : end));
        }
    assert_int_equal(stop_text_safe(&ENDS, "abc E", 5), 4);
    assert_int_equal(stop_text_safe(&ENDS, "abc EN", 6), 4);
    assert_int_equal(stop_text_safe(&ENDS, "aaa", 3), 1);
    assert_int_equal(stop_text_safe(&ENDS, "abc", 3), 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_first_of_them_counts),
                                       cmocka_unit_test(what_is_shown_stays)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
