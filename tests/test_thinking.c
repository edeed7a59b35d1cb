/* test_thinking.c - a thought before an answer: bounded, ended by the model or for it, and no more than
 * tokens that were read. */
#include "engine/engine.h"
#include "tests/program.h"
#include "tests/tiny_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 4096 };

#define MUST(call)                                                                                           \
    do {                                                                                                     \
        ph_error err = {0};                                                                                  \
        if ((call) != PH_OK) fail_msg("%s: %s", #call, err.text);                                            \
    } while (0)

static char *model;

typedef struct written {
    int32_t thought[MOST], answer[MOST];
    int n_thought, n_answer, stop_at;
} written;

static int wrote(void *user, const generate_step *step) {
    written *w = user;
    assert_non_null(step->layers);
    assert_int_equal(step->index, step->thinking ? w->n_thought : w->n_answer);
    if (step->thinking) {
        assert_int_equal(w->n_answer, 0);
        w->thought[w->n_thought++] = step->token;
    } else
        w->answer[w->n_answer++] = step->token;
    return w->stop_at && w->n_thought + w->n_answer == w->stop_at;
}

typedef struct world {
    engine *engine;
    context *context;
} world;

static world open_world(int64_t capacity) {
    world w = {0};
    engine_options options = {.model_dir = model};
    int32_t read[300];
    for (int i = 0; i < 300; i++) read[i] = 32 + (i * 37 + i / 7) % 90;
    MUST(engine_open(&w.engine, &options, &err));
    MUST(context_open(&w.context, w.engine, NULL, capacity, NULL, &err));
    MUST(context_read(w.context, read, 300, NULL, NULL, NULL, &err));
    return w;
}

static void close_world(world *w) {
    context_close(w->context);
    engine_close(w->engine);
}

/* A session that was asked, and perhaps told what the model "thought" already. */
static session *ask(world *w, unsigned flags, const int32_t *more, int64_t n) {
    session *s = NULL;
    token_list l = {0};
    MUST(session_open(&s, w->context, &err));
    MUST(prompt_question(engine_prompt(w->engine), engine_tokenizer(w->engine), "Who?", 4, flags, &l, &err));
    MUST(session_feed(s, l.ids, (int64_t)l.n, NULL, NULL, &err));
    if (n) MUST(session_feed(s, more, n, NULL, NULL, &err));
    token_list_free(&l);
    return s;
}

static void an_endless_thought_is_ended(void **state) {
    (void)state;
    enum { THOUGHT = 9, ANSWER = 12 };
    world w = open_world(0);
    written *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b);
    stop_reason why;
    session *s = ask(&w, PROMPT_THINKING, NULL, 0);
    int64_t start = session_length(s);
    generate_options o = {
        .max_tokens = ANSWER, .max_thinking = THOUGHT, .trace = true, .step = wrote, .user = a};
    MUST(session_generate(s, &o, &why, &err));
    assert_int_equal(why, STOP_LENGTH);
    assert_int_equal(a->n_thought, THOUGHT);
    assert_int_equal(a->n_answer, ANSWER);
    assert_int_equal(session_length(s), start + THOUGHT + 1 + ANSWER); /* </think> was read too */
    session_close(s);

    /* The same answer as after the same tokens by hand. */
    a->thought[THOUGHT] = engine_prompt(w.engine)->think_end;
    s = ask(&w, PROMPT_THINKING, a->thought, THOUGHT + 1);
    o.max_thinking = 0;
    o.user = b;
    MUST(session_generate(s, &o, &why, &err));
    assert_int_equal(b->n_thought, 0);
    assert_int_equal(b->n_answer, ANSWER);
    assert_memory_equal(b->answer, a->answer, ANSWER * sizeof *a->answer);
    session_close(s);
    close_world(&w);
    free(a);
    free(b);
}

/* At this temperature every token is about as likely: one of the two that end a thought comes soon. */
static void the_model_ends_its_thought(void **state) {
    (void)state;
    world w = open_world(0);
    written *a = calloc(1, sizeof *a);
    stop_reason why;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        session *s = ask(&w, PROMPT_THINKING, NULL, 0);
        *a = (written){0};
        generate_options o = {.max_tokens = 3,
                              .max_thinking = 3000,
                              .temperature = 100,
                              .seed = seed,
                              .ignore_eos = true,
                              .trace = true,
                              .step = wrote,
                              .user = a};
        MUST(session_generate(s, &o, &why, &err));
        assert_true(a->n_thought < 3000);
        for (int i = 0; i < a->n_thought; i++)
            assert_true(a->thought[i] != TINY_THINK_END && a->thought[i] != TINY_EOS);
        assert_int_equal(a->n_answer, 3);
        assert_int_equal(why, STOP_LENGTH);
        session_close(s);
    }
    close_world(&w);
    free(a);
}

static void a_thought_can_be_stopped(void **state) {
    (void)state;
    world w = open_world(0);
    written *a = calloc(1, sizeof *a);
    stop_reason why;
    session *s = ask(&w, PROMPT_THINKING, NULL, 0);
    a->stop_at = 4;
    generate_options o = {.max_tokens = 8, .max_thinking = 8, .trace = true, .step = wrote, .user = a};
    MUST(session_generate(s, &o, &why, &err));
    assert_int_equal(why, STOP_CALLBACK);
    assert_int_equal(a->n_thought, 4);
    assert_int_equal(a->n_answer, 0);
    session_close(s);
    close_world(&w);

    w = open_world(308); /* 6 tokens of the question, 2 of the thought */
    *a = (written){0};
    s = ask(&w, PROMPT_THINKING, NULL, 0);
    MUST(session_generate(s, &o, &why, &err));
    assert_int_equal(why, STOP_CONTEXT);
    assert_int_equal(a->n_answer, 0);
    session_close(s);
    close_world(&w);
    free(a);
}

static int set_up(void **state) {
    (void)state;
    model = make_folder();
    return tiny_model_write(model, &(tiny_options){.seed = 11, .max_positions = MOST});
}

static int tear_down(void **state) {
    (void)state;
    remove_folder(model);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_endless_thought_is_ended),
        cmocka_unit_test(the_model_ends_its_thought),
        cmocka_unit_test(a_thought_can_be_stopped),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
