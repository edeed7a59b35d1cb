/* test_remote_stream.c - server-sent events taken apart, however they are cut; what is too long is an error. */
#include "engine/remote_stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct heard {
    char events[1024], lifted[256];
    int n;
} heard;

static int hear(void *user, const char *data, size_t len, ph_error *err) {
    heard *h = user;
    (void)err;
    assert_int_equal(strlen(data), len);
    strcat(strcat(h->events, data), "|");
    h->n++;
    return PH_OK;
}
static void lift(void *user, const char *bytes, size_t n) {
    heard *h = user;
    strncat(h->lifted, bytes, n);
}

static void stream_takes_events_apart(void **state) {
    (void)state;
    static const struct {
        const char *in, *events, *lifted;
    } cases[] = {
        {"data: a\n\ndata:b\r\n\r\ndata:  c\r\rdata: d\n", "a|b| c|", ""},
        {"event: x\nid: 1\ndata: one\ndata: two\n\n: comment\n\ndatas: no\n\ndata\n\n", "one\ntwo|", ""},
        {"data:\n\n", "|", ""},
        {"data: {\"indexer_topk\":\"QUJD\",\"x\":1}\n\n", "{\"indexer_topk\":\"\",\"x\":1}|", "QUJD"},
        {"data: {\"m\": {\"indexer_topk\" : \"a\\/b\" }}\n\n", "{\"m\": {\"indexer_topk\" : \"\" }}|", "a/b"},
        /* A text that speaks of it, another member, a value of another kind. */
        {"data: {\"text\":\"\\\"indexer_topk\\\":\\\"no\\\"\",\"indexer_topk\":null}\n\n",
         "{\"text\":\"\\\"indexer_topk\\\":\\\"no\\\"\",\"indexer_topk\":null}|", ""},
        {"data: {\"indexer_topk2\":\"no\",\"a\":\"indexer_topk\",\"b\":\"no\"}\n\n",
         "{\"indexer_topk2\":\"no\",\"a\":\"indexer_topk\",\"b\":\"no\"}|", ""},
        /* Cut off within the value: what follows is an event of its own again. */
        {"data: {\"indexer_topk\":\"QU\n\ndata: next\n\n", "{\"indexer_topk\":|next|", "QU"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t piece = 1; piece <= strlen(cases[i].in); piece++) {
            heard h = {0};
            event_stream s = {.event = hear, .lift = lift, .lifted = "indexer_topk", .user = &h, .most = 200};
            for (size_t at = 0, n = strlen(cases[i].in); at < n; at += piece)
                assert_int_equal(
                    event_stream_put(&s, cases[i].in + at, piece < n - at ? piece : n - at, NULL), 0);
            assert_string_equal(h.events, cases[i].events);
            assert_string_equal(h.lifted, cases[i].lifted);
            event_stream_free(&s);
        }
}

static void stream_is_bounded(void **state) {
    (void)state;
    heard h = {0};
    event_stream s = {.event = hear, .lift = NULL, .lifted = "x", .user = &h, .most = 100};
    ph_error err = {0};
    int code = event_stream_put(&s, "data: ", 6, &err);
    for (int i = 0; i < 101 && !code; i++) code = event_stream_put(&s, "a", 1, &err);
    assert_int_equal(code, PH_TOO_LARGE);
    event_stream_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stream_takes_events_apart),
        cmocka_unit_test(stream_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
