/* test_pages.c - caches whose memory grows and is shared, page by page (kernels/paging.h): what they take,
 * that tails stay apart, what happens without room. The bits are those of caches that are there at once. */
#include "engine/engine_internal.h"
#include "tests/paged_memory.h"
#include "tests/program.h"
#include "tests/tiny_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 16384, PAGES = 4000 };

static char *model_dir;
static engine *paged, *plain;
static int32_t tokens[MOST];

#define MUST(call)                                                                                           \
    do {                                                                                                     \
        ph_error err = {0};                                                                                  \
        if ((call) != PH_OK) fail_msg("%s: %s", #call, err.text);                                            \
    } while (0)

static size_t held(void) {
    return paged->kern->paging->held(paged->kern);
}

static context *read_on(engine *e, int64_t n) {
    context *c = NULL;
    MUST(context_open(&c, e, NULL, 0, NULL, &err));
    MUST(context_read(c, tokens, n, NULL, NULL, NULL, &err));
    return c;
}

/* Logits after n more tokens from `from` on, in pieces. */
static void feed(session *s, int from, int n, int each, float logits[TINY_VOCAB]) {
    for (int at = 0; at < n; at += each)
        MUST(session_feed(s, tokens + from + at, each < n - at ? each : n - at, NULL, NULL, &err));
    memcpy(logits, session_logits(s), TINY_VOCAB * sizeof *logits);
}

static void feed_plain(int64_t length, int from, int n, float logits[TINY_VOCAB]) {
    context *c = read_on(plain, length);
    session *s = NULL;
    MUST(session_open(&s, c, &err));
    feed(s, from, n, n, logits);
    session_close(s);
    context_close(c);
}

static void a_cache_takes_what_is_in_it(void **state) {
    (void)state;
    size_t all = engine_context_bytes(paged, MOST);
    context *c = NULL;
    MUST(context_open(&c, paged, NULL, 0, NULL, &err));
    assert_int_equal(held(), 0);
    for (int64_t n = 1; n <= MOST; n *= 4) {
        MUST(context_read(c, tokens, n, NULL, NULL, NULL, &err));
        size_t least = engine_context_bytes(paged, n), regions = TINY_LAYERS * 3;
        assert_true(held() + regions * PAGED_PAGE >= least); /* small ones have no pages */
        assert_true(held() <= engine_context_bytes(paged, n + SNAPSHOT_BLOCK) + regions * PAGED_PAGE);
    }
    assert_true(held() <= all + all / 100);
    /* what is given up is free again */
    MUST(context_read(c, tokens, 300, NULL, NULL, NULL, &err));
    assert_true(held() < all / 8);
    context_close(c);
    assert_int_equal(held(), 0);
}

static void sessions_share_what_was_read(void **state) {
    (void)state;
    enum { LENGTH = 9000, SESSIONS = 12 };
    float want[TINY_VOCAB], got[TINY_VOCAB];
    context *c = read_on(paged, LENGTH);
    size_t before = held();
    session *s[SESSIONS];
    for (int i = 0; i < SESSIONS; i++) {
        MUST(session_open(&s[i], c, &err));
        feed(s[i], 11 * i, 40 + i, i % 3 ? 7 : 1, got);
        feed_plain(LENGTH, 11 * i, 40 + i, want);
        assert_memory_equal(got, want, sizeof want);
    }
    /* Twelve tails, and the context once. */
    assert_true(held() < before + (size_t)SESSIONS * TINY_LAYERS * 3 * 3 * PAGED_PAGE);
    assert_true(held() < before * 2);
    /* Each goes on from its own tail, beyond pages and blocks; the first has the context's own memory. */
    for (int i = 0; i < SESSIONS; i += 3) {
        feed(s[i], 5000 + i, 700, 100, got);
        context *fresh = read_on(plain, LENGTH);
        session *alone = NULL;
        MUST(session_open(&alone, fresh, &err));
        feed(alone, 11 * i, 40 + i, 40 + i, want);
        feed(alone, 5000 + i, 700, 700, want);
        assert_memory_equal(got, want, sizeof want);
        session_close(alone);
        context_close(fresh);
    }
    for (int i = 0; i < SESSIONS; i++) session_close(s[i]);
    assert_int_equal(held(), before); /* tails are gone, the context is as it was */
    context_close(c);
    assert_int_equal(held(), 0);
}

/* The one who asks for more than there is fails and says so; the others live, and there is room again when
 * some is given back. */
static void without_room_the_one_who_asks_fails(void **state) {
    (void)state;
    float want[TINY_VOCAB], got[TINY_VOCAB];
    context *c = read_on(paged, 3000), *other = NULL;
    session *a = NULL, *b = NULL;
    MUST(session_open(&a, c, &err));
    MUST(session_open(&b, c, &err));
    feed(a, 100, 30, 30, got);
    paged_limit(held() / PAGED_PAGE + 3);
    size_t before = held();
    ph_error told = {0};
    assert_int_equal(session_feed(b, tokens, 3000, NULL, NULL, &told), PH_MEMORY);
    assert_non_null(strstr(told.text, "needed"));
    assert_int_equal(session_length(b), 3000);
    MUST(context_open(&other, paged, NULL, 0, NULL, &err));
    assert_int_equal(context_read(other, tokens, 8000, NULL, NULL, NULL, &told), PH_MEMORY);
    assert_int_equal(context_length(other), 0);
    assert_int_equal(held(), before);
    /* Without room for a tail's first pages a session does not open. */
    paged_limit(before / PAGED_PAGE);
    session *none = NULL;
    assert_int_equal(session_open(&none, c, &told), PH_MEMORY);
    assert_null(none);
    assert_int_equal(held(), before);
    feed(a, 200, 20, 20, got);
    paged_limit(PAGES);
    feed(b, 0, 700, 700, got);
    feed_plain(3000, 0, 700, want);
    assert_memory_equal(got, want, sizeof want);
    MUST(context_read(other, tokens, 8000, NULL, NULL, NULL, &err));
    session_close(a);
    session_close(b);
    context_close(other);
    context_close(c);
    assert_int_equal(held(), 0);
}

static int open_all(void **state) {
    (void)state;
    model_dir = make_folder();
    if (tiny_model_write(model_dir, &(tiny_options){.seed = 7, .max_positions = MOST})) return -1;
    engine_options o = {.model_dir = model_dir, .threads = 2};
    MUST(engine_open(&paged, &o, &err));
    MUST(engine_open(&plain, &o, &err));
    paged->kern->on_device = true;
    for (int i = 0; i < MOST; i++) tokens[i] = (int32_t)((unsigned)i * 2654435761u >> 24);
    return paged_begin(paged->kern, PAGES);
}

static int close_all(void **state) {
    (void)state;
    engine_close(paged);
    engine_close(plain);
    remove_folder(model_dir);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cache_takes_what_is_in_it),
        cmocka_unit_test(sessions_share_what_was_read),
        cmocka_unit_test(without_room_the_one_who_asks_fails),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
