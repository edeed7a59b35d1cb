/* test_answer.c - questions: restrictions hold, several packs are asked and counted, what does not fit is refused,
 * everything can be stopped, thoughts are no answers. */
#include "tests/test_library.h"

static void a_restricted_question_selects_nothing_else(void **state) {
    world *w = *state;
    add_text(w->store, "one", 900, 1);
    int64_t two = add_text(w->store, "two", 900, 2);
    add_text(w->store, "three", 900, 3);
    answer_options o = SHORT;
    o.documents = &two;
    o.n_documents = 1;
    answer a = ask(w, &o);
    const pack_text *t = &a.pack.texts[1];
    assert_int_equal(t->document, two);
    int64_t read = (int64_t)a.pack.prompt.tokens.n;
    size_t n = a.trace.n_tokens * (size_t)a.trace.layers * (size_t)a.trace.keep, inside = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t at = a.trace.entries[i].position;
        if (at < 0) continue;
        bool frame = at < 2, own = at >= t->span.token_start && at < t->span.token_end, tail = at >= read;
        assert_true(frame || own || tail);
        inside += own;
    }
    assert_true(inside > 0);
    for (size_t i = 0; i < a.row.n_citations; i++) assert_int_equal(a.row.citations[i].document, two);
    answer_free(&a);
    answer b = ask(w, &SHORT); /* and nothing was read again for it */
    assert_int_equal(b.row.cached_tokens, read);
    answer_free(&b);
}

static void several_packs_are_asked_and_counted(void **state) {
    world *w = *state;
    add_text(w->store, "large", 16000, 1);
    answer_options o = SHORT;
    answer a = ask(w, &o);
    assert_int_equal(a.packs_asked, 3);
    assert_int_equal(a.packs_all, 5);
    assert_true(a.confidence > 0 && a.confidence <= 1);
    int64_t chosen = a.row.pack;
    answer_free(&a);
    o.pack = chosen;
    a = ask(w, &o);
    assert_int_equal(a.packs_asked, 1);
    assert_int_equal(a.row.pack, chosen);
    answer_free(&a);
    o.pack = 999;
    assert_int_equal(answer_question(&a, w->store, w->engine, "x", &o, NULL), PH_NOT_FOUND);
}

static void a_question_that_does_not_fit_is_refused_with_both_sizes(void **state) {
    world *w = *state;
    add_text(w->store, "one", 3000, 1);
    char *question = malloc(2001);
    memset(question, 'q', 2000);
    question[2000] = 0;
    answer a;
    ph_error err = {0};
    assert_int_equal(answer_question(&a, w->store, w->engine, question, &SHORT, &err), PH_TOO_LARGE);
    assert_non_null(strstr(err.text, "2002")); /* with <|Assistant|> and </think> */
    assert_non_null(strstr(err.text, "room"));
    free(question);
}

static int stop_in_phase(void *user, answer_phase phase, int64_t done, int64_t total, int64_t cached) {
    (void)done;
    (void)total;
    (void)cached;
    return phase == *(answer_phase *)user;
}

static void a_question_can_be_stopped_in_every_phase(void **state) {
    world *w = *state;
    add_text(w->store, "one", 1000, 1);
    static const answer_phase phases[] = {PHASE_READING, PHASE_ASKING, PHASE_WRITING};
    for (int i = 0; i < 3; i++) {
        answer_phase phase = phases[i];
        answer_options o = {.max_tokens = 8, .progress = stop_in_phase, .user = &phase};
        answer a;
        ph_error err = {0};
        assert_int_equal(answer_question(&a, w->store, w->engine, "x", &o, &err), PH_INTERRUPTED);
        assert_true(err.text[0]);
    }
    store_answer *list;
    size_t n;
    MUST(store_answer_list(w->store, 10, &list, &n, &err));
    assert_int_equal(n, 0);
    store_answers_free(list, n);
    answer a = ask(w, &SHORT); /* what was read while stopping counts */
    assert_true(a.row.cached_tokens > 0);
    answer_free(&a);
}

/* A byte 0 among the bytes that a model writes must not swallow what comes after it. */
static void every_written_byte_is_in_the_answer(void **state) {
    world *w = *state;
    add_text(w->store, "one", 400, 1);
    for (uint64_t seed = 0, met = 0; !met; seed++) {
        answer_options o = {.max_tokens = 100, .temperature = 50, .top_p = 1, .seed = seed};
        answer a;
        assert_true(seed < 100);
        MUST(answer_question(&a, w->store, w->engine, "Which ship?", &o, &err));
        met = memchr(a.trace.text, 0, a.trace.text_len) != NULL;
        assert_int_equal(strlen(a.row.answer), a.trace.text_len);
        answer_free(&a);
    }
}

static void a_kept_answer_comes_back_whole(void **state) {
    world *w = *state;
    add_text(w->store, "one", 1000, 1);
    answer_options o = {.max_tokens = 12};
    answer a = ask(w, &o);
    assert_int_not_equal(a.row.id, 0);
    store_answer row;
    void *blob;
    size_t len;
    answer_trace t;
    MUST(store_answer_get(w->store, 0, &row, &err));
    MUST(store_answer_trace(w->store, row.id, &blob, &len, &err));
    MUST(answer_trace_unpack(&t, blob, len, &err));
    assert_int_equal(row.id, a.row.id);
    assert_string_equal(row.answer, a.row.answer);
    assert_int_equal(row.n_citations, a.row.n_citations);
    assert_int_equal(row.cached_tokens, a.row.cached_tokens);
    assert_memory_equal(row.key, engine_key(w->engine), 32);
    assert_int_equal(t.n_tokens, a.trace.n_tokens);
    assert_memory_equal(t.tokens, a.trace.tokens, t.n_tokens * sizeof *t.tokens);
    assert_int_equal(t.text_len, a.trace.text_len);
    free(blob);
    answer_trace_free(&t);
    store_answer_free(&row);
    answer_free(&a);
}

static void keep_thought(void *user, const char *text, size_t len) {
    answer *told = user;
    assert_int_equal(told->trace.text_len, 0); /* before the first piece, once */
    assert_int_equal(told->thought.text_len, 0);
    told->thought.text = strndup(text, len);
    told->thought.text_len = len;
}

static void keep_piece(void *user, const char *piece, size_t len) {
    answer *told = user;
    told->trace.text = realloc(told->trace.text, told->trace.text_len + len + 1);
    memcpy(told->trace.text + told->trace.text_len, piece, len);
    told->trace.text_len += len;
    told->trace.text[told->trace.text_len] = 0;
}

/* The tiny model never ends its thought: 96 tokens, then the answer; both are kept, told apart, and the pack
 * as it was read serves both ways of asking. */
static void a_thought_comes_before_an_answer_and_is_none(void **state) {
    world *w = *state;
    enum { THOUGHT = 96, ANSWER = 12 };
    add_text(w->store, "one", 1000, 1);
    answer plain = ask(w, &(answer_options){.max_tokens = ANSWER});
    assert_int_equal(plain.thought.n_tokens, 0);
    answer told = {0};
    answer_options o = {.max_tokens = ANSWER,
                        .thinking = THINK_FIRST,
                        .piece = keep_piece,
                        .thought = keep_thought,
                        .user = &told};
    answer a = ask(w, &o);
    assert_int_equal(a.row.cached_tokens, plain.pack.prompt.tokens.n);
    assert_int_equal(a.thought.n_tokens, THOUGHT);
    assert_int_equal(a.trace.n_tokens, ANSWER);
    assert_int_equal(a.row.completion_tokens, THOUGHT + ANSWER);
    assert_int_equal(strlen(a.row.answer), a.trace.text_len);
    assert_string_equal(told.thought.text, a.thought.text);
    assert_string_equal(told.trace.text, a.row.answer);

    void *blob;
    size_t len;
    answer_trace t, thought;
    MUST(store_answer_trace(w->store, a.row.id, &blob, &len, &err));
    MUST(answer_traces_unpack(&t, &thought, blob, len, &err));
    assert_int_equal(t.n_tokens, ANSWER);
    assert_int_equal(thought.n_tokens, THOUGHT);
    assert_string_equal(thought.text, a.thought.text);
    free(blob);
    answer_trace_free(&t);
    answer_trace_free(&thought);

    o = (answer_options){.max_tokens = ANSWER, .thinking = THINK_NOT};
    answer again = ask(w, &o);
    assert_string_equal(again.row.answer, plain.row.answer);
    answer_free(&again);
    answer_free(&a);
    answer_free(&plain);
    free(told.thought.text);
    free(told.trace.text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_A_WORLD(a_restricted_question_selects_nothing_else),
        IN_A_WORLD(several_packs_are_asked_and_counted),
        IN_A_WORLD(a_question_that_does_not_fit_is_refused_with_both_sizes),
        IN_A_WORLD(a_question_can_be_stopped_in_every_phase),
        IN_A_WORLD(every_written_byte_is_in_the_answer),
        IN_A_WORLD(a_kept_answer_comes_back_whole),
        IN_A_WORLD(a_thought_comes_before_an_answer_and_is_none),
    };
    return cmocka_run_group_tests(tests, make_models, remove_models);
}
