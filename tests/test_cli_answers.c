/* test_cli_answers.c - ask, trace, pack and rm on the command line: the shape of what they say, what is read
 * again and what is not, and that what was erased is gone. */
#include "tests/pharos_cli.h"

#include "kernels/error.h"
#include "tests/tiny_model.h"

#include <ctype.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- asking ---- */

static void an_answer_has_the_promised_shape(void **state) {
    world *w = *state;
    add_document(w, "a.txt", LIGHTHOUSE);
    result r = pharos(w, "add", w->documents, NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
    json_t *v = PHAROS_JSON(w, PH_OK, "ask", "How tall", "was it?", "--max-tokens", "12");
    assert_string_equal(string(v, "question"), "How tall was it?");
    assert_true(json_is_boolean(json_object_get(v, "found")));
    assert_int_equal(strlen(string(v, "answer")), 12); /* a byte a token, and none of them ends it */
    const json_t *usage = json_object_get(v, "usage"), *timing = json_object_get(v, "timing");
    assert_int_equal(integer(usage, "completion_tokens"), 12);
    assert_true(integer(usage, "prompt_tokens") > integer(usage, "cached_tokens"));
    static const char *const times[] = {"prefill_ms", "first_token_ms", "total_ms"};
    double before = 0;
    for (int i = 0; i < 3; i++) {
        double ms = json_number_value(json_object_get(timing, times[i]));
        assert_true(json_is_number(json_object_get(timing, times[i])) && ms >= before);
        before = ms;
    }
    assert_int_equal(integer(v, "pack"), 1);
    const json_t *citations = array(v, "citations");
    assert_true(json_array_size(citations) >= 1);
    for (size_t i = 0; i < json_array_size(citations); i++) {
        const json_t *c = json_array_get(citations, i);
        assert_string_equal(string(c, "document"), "a.txt");
        assert_true(json_is_null(json_object_get(c, "page")));
        assert_true(integer(c, "start") < integer(c, "end"));
        assert_true(integer(c, "end") <= (json_int_t)strlen(LIGHTHOUSE));
        assert_true(strlen(string(c, "quote")) > 0);
        assert_true(json_is_boolean(json_object_get(c, "in_text")));
        assert_true(json_is_boolean(json_object_get(c, "in_read_set")));
        assert_true(json_is_number(json_object_get(c, "mass")));
    }
    json_decref(v);

    r = pharos(w, "ask", "How tall was it?", "-t", "12", "--quiet", NULL);
    expect_status(&r, PH_OK);
    expect_silent("ask --quiet", r.err);
    assert_non_null(strstr(r.out, "a.txt"));
    result_free(&r);
    r = pharos(w, "ask", "x", "--document", "none.txt", NULL);
    expect_status(&r, PH_NOT_FOUND);
    result_free(&r);
    r = pharos(w, "ask", "x", "--pack", "99", NULL);
    expect_status(&r, PH_NOT_FOUND);
    result_free(&r);
    char *question = malloc(3000);
    memset(question, 'q', 2999);
    question[2999] = 0;
    r = pharos(w, "ask", question, NULL); /* fits: the pack is nearly empty */
    expect_status(&r, PH_OK);
    result_free(&r);
    free(question);
}

static void what_was_read_is_not_read_again(void **state) {
    world *w = *state;
    add_document(w, "a.txt", LIGHTHOUSE);
    result r = pharos(w, "add", w->documents, NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
    json_t *packs = PHAROS_JSON(w, PH_OK, "pack");
    json_int_t tokens = integer(json_array_get(array(packs, "packs"), 0), "tokens");
    assert_int_equal(integer(json_array_get(array(packs, "packs"), 0), "read"), tokens);
    json_decref(packs);
    json_t *one = PHAROS_JSON(w, PH_OK, "ask", "How tall?"), *two = PHAROS_JSON(w, PH_OK, "ask", "How tall?");
    assert_int_equal(integer(json_object_get(one, "usage"), "cached_tokens"), tokens);
    assert_int_equal(integer(json_object_get(two, "usage"), "cached_tokens"), tokens);
    assert_string_equal(string(one, "answer"), string(two, "answer"));
    json_decref(one);
    json_decref(two);

    /* Another document reads its own tokens only. */
    add_document(w, "b.txt", LIBRARY);
    json_t *v = PHAROS_JSON(w, PH_OK, "add", w->documents);
    const json_t *read = json_array_get(array(v, "read"), 0);
    assert_int_equal(integer(read, "cached_tokens"), tokens);
    assert_true(integer(read, "tokens") > tokens);
    json_decref(v);
}

static void a_discarded_answer_is_not_kept(void **state) {
    world *w = *state;
    add_document(w, "a.txt", LIGHTHOUSE);
    result r = pharos(w, "add", w->documents, NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
    r = pharos(w, "ask", "--discard", "How tall?", NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
    json_t *v = PHAROS_JSON(w, PH_OK, "trace", "--list");
    assert_int_equal(json_array_size(v), 0);
    json_decref(v);
}

/* ---- asking on ---- */

static void a_question_follows_another(void **state) {
    world *w = *state;
    add_document(w, "a.txt", LIGHTHOUSE);
    result r = pharos(w, "add", w->documents, NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
    r = pharos(w, "ask", "--follow", "And when?", NULL);
    expect_status(&r, PH_NOT_FOUND);
    result_free(&r);
    json_t *one = PHAROS_JSON(w, PH_OK, "ask", "Who built it?", "-t", "8"),
           *two = PHAROS_JSON(w, PH_OK, "ask", "--follow", "And when?", "-t", "8"),
           *three = PHAROS_JSON(w, PH_OK, "ask", "-f", "And why?", "-t", "8");
    assert_true(json_is_null(json_object_get(one, "follows")));
    assert_int_equal(integer(two, "follows"), integer(one, "id"));
    assert_int_equal(integer(two, "turns"), 1);
    assert_int_equal(integer(three, "follows"), integer(two, "id"));
    assert_int_equal(integer(three, "turns"), 2);
    assert_int_equal(integer(three, "turns_left_out"), 0);
    /* What was said before is sent; nothing of the documents is read again. */
    const json_t *before = json_object_get(one, "usage"), *after = json_object_get(two, "usage");
    assert_int_equal(integer(after, "cached_tokens"), integer(before, "cached_tokens"));
    assert_true(integer(after, "prompt_tokens") > integer(before, "prompt_tokens") + 8);

    /* By number, from an earlier one; said on the terminal. */
    char number[48];
    snprintf(number, sizeof number, "--follow=%lld", (long long)integer(one, "id"));
    r = pharos(w, "ask", number, "Where?", "-t", "8", NULL);
    expect_status(&r, PH_OK);
    assert_non_null(strstr(r.err, "1 earlier question sent along with its answer."));
    result_free(&r);
    r = pharos(w, "trace", NULL);
    expect_status(&r, PH_OK);
    char want[64];
    snprintf(want, sizeof want, "follows answer %lld (1 earlier question sent along)",
             (long long)integer(one, "id"));
    assert_non_null(strstr(r.out, want));
    result_free(&r);
    json_t *v = PHAROS_JSON(w, PH_OK, "trace"), *list = PHAROS_JSON(w, PH_OK, "trace", "--list");
    assert_int_equal(integer(v, "follows"), integer(one, "id"));
    assert_int_equal(integer(v, "turns"), 1);
    assert_int_equal(json_array_size(list), 4);
    assert_int_equal(integer(json_array_get(list, 1), "turns"), 2);
    static const char *const wrong[] = {"--follow=0", "--follow=x", "--follow=-1"};
    for (size_t i = 0; i < 3; i++) {
        r = pharos(w, "ask", wrong[i], "Where?", NULL);
        expect_status(&r, PH_USAGE);
        result_free(&r);
    }
    r = pharos(w, "ask", "--follow=77", "Where?", NULL);
    expect_status(&r, PH_NOT_FOUND);
    result_free(&r);
    json_t *all[] = {one, two, three, v, list};
    for (size_t i = 0; i < 5; i++) json_decref(all[i]);
}

/* ---- tracing ---- */

static double check_layer(const json_t *layer) {
    double sum = 0, before = 2;
    const json_t *kept = array(layer, "kept");
    assert_int_equal(integer(layer, "selected"), 16); /* the model's top-k: the prompt is longer */
    assert_int_equal(json_array_size(kept), 16);
    for (size_t i = 0; i < json_array_size(kept); i++) {
        const json_t *e = json_array_get(kept, i);
        double mass = json_number_value(json_object_get(e, "mass"));
        assert_true(mass >= 0 && mass <= before);
        before = mass;
        sum += mass;
        assert_true(integer(e, "position") >= 0);
        if (json_object_get(e, "document_id"))
            assert_true(integer(e, "byte") < (json_int_t)strlen(LIGHTHOUSE) && integer(e, "sentence") >= 0);
    }
    return sum;
}

static void a_trace_accounts_for_every_token(void **state) {
    world *w = *state;
    add_document(w, "a.txt", LIGHTHOUSE);
    result r = pharos(w, "add", w->documents, NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
    json_t *answer = PHAROS_JSON(w, PH_OK, "ask", "How tall?", "-t", "10");
    json_t *v = PHAROS_JSON(w, PH_OK, "trace");
    assert_string_equal(string(v, "answer"), string(answer, "answer"));
    assert_int_equal(integer(v, "layers"), TINY_LAYERS);
    assert_int_equal(json_array_size(array(v, "citations")), json_array_size(array(answer, "citations")));
    const json_t *tokens = array(v, "tokens"), *words = array(v, "words"), *sentences = array(v, "sentences");
    assert_int_equal(json_array_size(tokens), 10);
    json_int_t end = 0;
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        const json_t *t = json_array_get(tokens, i);
        assert_int_equal(integer(t, "start"), end);
        end = integer(t, "end");
        assert_true(json_real_value(json_object_get(t, "logprob")) <= 0);
        assert_int_equal(json_array_size(array(t, "layers")), TINY_LAYERS);
        for (size_t l = 0; l < TINY_LAYERS; l++) {
            double sum = check_layer(json_array_get(array(t, "layers"), l));
            assert_true(sum > 0.99 && sum < 1.01);
        }
    }
    assert_int_equal(end, (json_int_t)strlen(string(v, "answer")));
    json_int_t next = 0;
    for (size_t i = 0; i < json_array_size(words); i++) {
        const json_t *word = json_array_get(words, i);
        assert_int_equal(integer(word, "first_token"), next);
        next = integer(word, "end_token");
        double on = json_number_value(json_object_get(word, "on_documents")), sum = 0;
        assert_true(on >= 0 && on <= 1.01);
        for (size_t k = 0; k < json_array_size(array(word, "read_set")); k++)
            sum += json_number_value(json_object_get(json_array_get(array(word, "read_set"), k), "mass"));
        assert_true(on == 0 || (sum > 0.5 && sum < 1.01)); /* white space between sentences belongs to none */
    }
    assert_int_equal(next, 10);
    for (size_t i = 0; i < json_array_size(sentences); i++) {
        const json_t *s = json_array_get(sentences, i);
        json_int_t start = integer(s, "start"), length = integer(s, "end") - start;
        assert_int_equal(strncmp(string(s, "text"), LIGHTHOUSE + start, (size_t)length), 0);
    }
    json_decref(v);

    v = PHAROS_JSON(w, PH_OK, "trace", "1", "--layer", "1", "--word", "1");
    assert_int_equal(json_array_size(array(v, "words")), 1);
    const json_t *layers = array(json_array_get(array(v, "tokens"), 0), "layers");
    assert_int_equal(json_array_size(layers), 1);
    assert_int_equal(integer(json_array_get(layers, 0), "layer"), 1);
    json_decref(v);
    json_decref(answer);
}

static void a_thought_has_a_trace_of_its_own(void **state) {
    world *w = *state;
    add_document(w, "a.txt", LIGHTHOUSE);
    result r = pharos(w, "add", w->documents, NULL);
    result_free(&r);
    json_t *answer = PHAROS_JSON(w, PH_OK, "ask", "How tall?", "-t", "10", "--think");
    assert_true(strlen(string(answer, "thought")) > 0);
    assert_int_equal(integer(json_object_get(answer, "usage"), "completion_tokens"), 96 + 10);
    json_t *v = PHAROS_JSON(w, PH_OK, "trace");
    const json_t *thought = json_object_get(v, "thought");
    assert_string_equal(string(thought, "text"), string(answer, "thought"));
    assert_int_equal(json_array_size(array(thought, "tokens")), 96);
    assert_int_equal(json_array_size(array(v, "tokens")), 10);
    assert_string_equal(string(v, "answer"), string(answer, "answer"));
    json_decref(v);
    r = pharos(w, "trace", NULL);
    expect_status(&r, PH_OK);
    assert_non_null(strstr(r.out, "thought   "));
    assert_non_null(strstr(r.out, "written after that thought"));
    result_free(&r);
    json_decref(answer);

    answer = PHAROS_JSON(w, PH_OK, "ask", "How tall?", "-t", "10", "--no-think");
    assert_true(json_is_null(json_object_get(answer, "thought")));
    json_decref(answer);
    v = PHAROS_JSON(w, PH_OK, "trace");
    assert_true(json_is_null(json_object_get(v, "thought")));
    json_decref(v);
}

static void a_trace_can_be_looked_at(void **state) {
    world *w = *state;
    add_document(w, "a.txt", LIGHTHOUSE);
    result r = pharos(w, "add", w->documents, NULL);
    result_free(&r);
    r = pharos(w, "ask", "How tall?", "-t", "10", NULL);
    result_free(&r);
    r = pharos(w, "trace", NULL);
    expect_status(&r, PH_OK);
    expect_silent("trace", r.err);
    assert_non_null(strstr(r.out, "How tall?"));
    assert_non_null(strstr(r.out, "a.txt: "));
    assert_non_null(strstr(r.out, "%  x")); /* a figure stands beside every bar */
    result_free(&r);
    r = pharos(w, "trace", "1", "--word=1", "--layer=0", NULL);
    expect_status(&r, PH_OK);
    assert_non_null(strstr(r.out, "layer 0"));
    assert_null(strstr(r.out, "layer 1"));
    result_free(&r);
    static const char *const beyond[] = {"--layer=2", "--word=11", "2"};
    for (int i = 0; i < 3; i++) {
        r = pharos(w, "trace", beyond[i], NULL);
        expect_status(&r, PH_NOT_FOUND);
        result_free(&r);
    }
    r = pharos(w, "trace", "--list", NULL);
    expect_status(&r, PH_OK);
    assert_non_null(strstr(r.out, "How tall?"));
    result_free(&r);
}

static void a_trace_without_its_pack_says_so(void **state) {
    world *w = *state;
    add_document(w, "a.txt", LIGHTHOUSE);
    result r = pharos(w, "add", w->documents, NULL);
    result_free(&r);
    r = pharos(w, "ask", "How tall?", "-t", "10", NULL);
    result_free(&r);
    /* Other options are another key: the positions mean nothing there. */
    r = pharos(w, "trace", "--topk", "8", NULL);
    expect_status(&r, PH_OK);
    assert_non_null(strstr(r.err, "cannot be shown"));
    assert_non_null(strstr(r.out, "How tall?"));
    result_free(&r);
    json_t *v = PHAROS_JSON(w, PH_OK, "trace", "--topk", "8");
    assert_true(json_is_string(json_object_get(v, "missing")));
    assert_int_equal(json_array_size(array(v, "tokens")), 10);
    json_decref(v);
    r = pharos(w, "pack", "prune", "--topk", "8", NULL); /* as if this had become the way to ask */
    expect_status(&r, PH_OK);
    assert_non_null(strstr(r.out, "erased 1 pack"));
    result_free(&r);
    v = PHAROS_JSON(w, PH_OK, "trace");
    assert_true(json_is_string(json_object_get(v, "missing")));
    assert_string_equal(string(v, "question"), "How tall?");
    json_decref(v);
    /* Nothing is lost but time: the next question reads again. */
    v = PHAROS_JSON(w, PH_OK, "ask", "How tall?", "-t", "10");
    assert_int_equal(integer(json_object_get(v, "usage"), "cached_tokens"), 0);
    json_decref(v);
}

/* ---- packs ---- */

static void a_document_larger_than_a_context_is_all_there(void **state) {
    world *w = *state;
    char *text = long_text(11000);
    add_document(w, "large.txt", text);
    add_document(w, "small.txt", LIGHTHOUSE);
    result r = pharos(w, "add", "--no-read", w->documents, NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
    json_t *v = PHAROS_JSON(w, PH_OK, "pack", "ls");
    json_int_t covered = 0;
    int parts = 0, said = 0;
    for (size_t i = 0; i < json_array_size(array(v, "packs")); i++) {
        const json_t *pack = json_array_get(array(v, "packs"), i);
        assert_int_equal(integer(pack, "read"), 0);
        assert_true(integer(pack, "tokens") + integer(v, "reserved") <= integer(v, "capacity"));
        for (size_t k = 0; k < json_array_size(array(pack, "documents")); k++) {
            const json_t *d = json_array_get(array(pack, "documents"), k);
            if (strcmp(string(d, "document"), "large.txt")) continue;
            assert_int_equal(integer(d, "start"), covered);
            covered = integer(d, "end");
            assert_int_equal(integer(d, "part"), ++parts);
            said = (int)integer(d, "parts");
        }
    }
    assert_int_equal(covered, (json_int_t)strlen(text));
    assert_true(parts >= 3);
    assert_int_equal(said, parts);
    json_decref(v);
    r = pharos(w, "pack", "ls", NULL);
    expect_status(&r, PH_OK);
    assert_non_null(strstr(r.out, "part 2 of"));
    result_free(&r);
    v = PHAROS_JSON(w, PH_OK, "pack", "read", "2");
    assert_int_equal(json_array_size(v), 1);
    assert_int_equal(integer(json_array_get(v, 0), "pack"), 2);
    json_decref(v);
    free(text);
}

static void a_deleted_document_is_gone_everywhere(void **state) {
    world *w = *state;
    static const char marker[] = "Xylophonequartz";
    char text[600];
    snprintf(text, sizeof text, "%s %s was the secret name of the keeper. Nobody else knew %s.\n", LIGHTHOUSE,
             marker, marker);
    add_document(w, "secret.txt", text);
    add_document(w, "other.txt", LIBRARY);
    result r = pharos(w, "add", w->documents, NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
    r = pharos(w, "ask", "What was the secret name?", NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
    assert_true(files_holding(w->data, marker, strlen(marker)) > 0); /* the search can find it */
    json_t *v = PHAROS_JSON(w, PH_OK, "rm", "secret.txt");
    assert_int_equal(integer(v, "documents"), 1);
    assert_int_equal(integer(v, "packs"), 1);
    assert_int_equal(integer(v, "snapshots"), 1);
    assert_int_equal(integer(v, "answers"), 1);
    json_decref(v);
    assert_int_equal(files_holding(w->data, marker, strlen(marker)), 0);
    assert_int_equal(files_below(in_folder(w->data, "snapshots")), 0);
    v = PHAROS_JSON(w, PH_OK, "ls");
    assert_int_equal(json_array_size(v), 1);
    json_decref(v);
    /* The one that shared its pack waits for the next question, which packs it again. */
    v = PHAROS_JSON(w, PH_OK, "pack");
    assert_int_equal(json_array_size(array(v, "waiting")), 1);
    json_decref(v);
    r = pharos(w, "ask", "Who wrote the catalogue?", NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
    r = pharos(w, "rm", "secret.txt", "other.txt", NULL); /* one is there: it goes, and the other is told */
    expect_status(&r, PH_NOT_FOUND);
    assert_non_null(strstr(r.err, "secret.txt"));
    result_free(&r);
    v = PHAROS_JSON(w, PH_OK, "ls");
    assert_int_equal(json_array_size(v), 0);
    json_decref(v);
    r = pharos(w, "doctor", NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_A_WORLD(an_answer_has_the_promised_shape),
        IN_A_WORLD(what_was_read_is_not_read_again),
        IN_A_WORLD(a_question_follows_another),
        IN_A_WORLD(a_discarded_answer_is_not_kept),
        IN_A_WORLD(a_trace_accounts_for_every_token),
        IN_A_WORLD(a_trace_can_be_looked_at),
        IN_A_WORLD(a_thought_has_a_trace_of_its_own),
        IN_A_WORLD(a_trace_without_its_pack_says_so),
        IN_A_WORLD(a_document_larger_than_a_context_is_all_there),
        IN_A_WORLD(a_deleted_document_is_gone_everywhere),
    };
    return cmocka_run_group_tests(tests, cli_make_model, cli_remove_model);
}
