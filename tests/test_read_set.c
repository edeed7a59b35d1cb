/* test_read_set.c - traces: collected, stored and read back, and mapped onto sentences and words. */
#include "appliance/read_set.h"
#include "appliance/trace_json.h"
#include "tests/hand_pack.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MUST(call)                                                                                           \
    do {                                                                                                     \
        ph_error err = {0};                                                                                  \
        if ((call) != PH_OK) fail_msg("%s: %s", #call, err.text);                                            \
    } while (0)

enum { LAYERS = 2, MOST = 8 };

/* One step's attention: `n` positions with their masses, the same in both layers; the second layer has no
 * scores. */
typedef struct step {
    const char *piece;
    int n;
    int32_t position[MOST];
    float mass[MOST];
} step;

static void add_step(answer_trace *t, const step *s, int keep) {
    float score[MOST];
    for (int i = 0; i < s->n; i++) score[i] = (float)i;
    trace_layer layers[LAYERS] = {
        {.layer = 0, .count = s->n, .position = s->position, .score = score, .mass = s->mass},
        {.layer = 1, .count = s->n, .position = s->position, .score = NULL, .mass = s->mass},
    };
    generate_step g = {.token = 7,
                       .logprob = -0.5f,
                       .piece = s->piece,
                       .piece_len = strlen(s->piece),
                       .layers = layers,
                       .n_layers = LAYERS};
    MUST(answer_trace_add(t, &g, keep, &err));
}

/* ---- collecting ---- */

static void the_heaviest_positions_are_kept(void **state) {
    (void)state;
    answer_trace t = {0};
    add_step(&t, &(step){"a", 6, {3, 5, 8, 9, 11, 20}, {.1f, .3f, .1f, .3f, .15f, .05f}}, 4);
    add_step(&t, &(step){"b", 2, {3, 5}, {.4f, .6f}}, 4);
    assert_int_equal(t.layers, LAYERS);
    assert_int_equal(t.keep, 4);
    assert_int_equal(t.n_tokens, 2);
    const trace_entry *e = t.entries;
    static const int32_t want[] = {5, 9, 11, 3}; /* among equals the earlier position */
    for (int i = 0; i < 4; i++) assert_int_equal(e[i].position, want[i]);
    assert_true(e[0].score == 1 && e[2].score == 4);
    assert_int_equal(t.selected[0], 6);
    e += 4; /* layer 1 */
    for (int i = 0; i < 4; i++) assert_true(e[i].position == want[i] && isnan(e[i].score));
    e += 4; /* the second token has two positions only */
    assert_int_equal(e[0].position, 5);
    assert_int_equal(e[1].position, 3);
    assert_int_equal(e[2].position, -1);
    assert_int_equal(e[3].position, -1);
    assert_string_equal(t.text, "ab");
    answer_trace_free(&t);
}

static void a_trace_without_layers_is_one_too(void **state) {
    (void)state;
    answer_trace t = {0}, back;
    void *blob;
    size_t len;
    for (int i = 0; i < 100; i++) {
        generate_step g = {.token = i, .logprob = -1, .piece = "xy", .piece_len = 2};
        MUST(answer_trace_add(&t, &g, TRACE_KEEP, &err));
    }
    MUST(answer_trace_pack(&t, &blob, &len, &err));
    MUST(answer_trace_unpack(&back, blob, len, &err));
    assert_int_equal(back.n_tokens, 100);
    assert_int_equal(back.layers, 0);
    assert_int_equal(back.text_len, 200);
    free(blob);
    answer_trace_free(&t);
    answer_trace_free(&back);
}

/* ---- as a blob ---- */

static answer_trace some_trace(void) {
    answer_trace t = {0};
    add_step(&t, &(step){" first", 4, {2, 5, 8, 9}, {.1f, .2f, .3f, .4f}}, 3);
    add_step(&t, &(step){"", 1, {0}, {1}}, 3);
    add_step(&t, &(step){" w\xC3\xB6rd", 3, {5, 6, 7}, {.5f, .25f, .25f}}, 3);
    return t;
}

static void a_blob_comes_back_as_it_was(void **state) {
    (void)state;
    answer_trace t = some_trace(), back;
    void *blob, *again;
    size_t len, len_again;
    MUST(answer_trace_pack(&t, &blob, &len, &err));
    MUST(answer_trace_unpack(&back, blob, len, &err));
    MUST(answer_trace_pack(&back, &again, &len_again, &err));
    assert_int_equal(len, len_again);
    assert_memory_equal(blob, again, len);
    assert_string_equal(back.text, t.text);
    free(blob);
    free(again);
    answer_trace_free(&t);
    answer_trace_free(&back);
}

static void a_thought_is_kept_beside_its_answer(void **state) {
    (void)state;
    answer_trace t = some_trace(), thought = {0}, none = {0}, back, back_thought;
    void *blob, *again, *alone;
    size_t len, len_again, len_alone;
    add_step(&thought, &(step){"The quote.", 2, {4, 8}, {.75f, .25f}}, 3);
    MUST(answer_traces_pack(&t, &thought, &blob, &len, &err));
    MUST(answer_traces_unpack(&back, &back_thought, blob, len, &err));
    assert_string_equal(back.text, t.text);
    assert_string_equal(back_thought.text, "The quote.");
    assert_int_equal(back_thought.n_tokens, 1);
    assert_int_equal(back_thought.entries[0].position, 4);
    MUST(answer_traces_pack(&back, &back_thought, &again, &len_again, &err));
    assert_int_equal(len, len_again);
    assert_memory_equal(blob, again, len);
    free(again);
    answer_trace_free(&back);
    answer_trace_free(&back_thought);

    /* Without a thought it is what it has always been, and what there was is read. */
    MUST(answer_traces_pack(&t, &none, &again, &len_again, &err));
    MUST(answer_trace_pack(&t, &alone, &len_alone, &err));
    assert_int_equal(len_again, len_alone);
    assert_memory_equal(again, alone, len_alone);
    MUST(answer_traces_unpack(&back, &back_thought, alone, len_alone, &err));
    assert_int_equal(back_thought.n_tokens, 0);
    assert_string_equal(back.text, t.text);
    answer_trace_free(&back);

    uint8_t *bytes = blob;
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *part = malloc(cut ? cut : 1);
        memcpy(part, bytes, cut);
        assert_int_equal(answer_traces_unpack(&back, &back_thought, part, cut, NULL), PH_CORRUPT);
        free(part);
    }
    for (size_t at = 0; at < 16; at++) {
        bytes[at] ^= 0x81;
        assert_int_equal(answer_traces_unpack(&back, &back_thought, blob, len, NULL), PH_CORRUPT);
        bytes[at] ^= 0x81;
    }
    free(blob);
    free(again);
    free(alone);
    answer_trace_free(&t);
    answer_trace_free(&thought);
}

static void a_damaged_blob_is_refused(void **state) {
    (void)state;
    answer_trace t = some_trace(), back;
    uint8_t *blob;
    void *made;
    size_t len;
    MUST(answer_trace_pack(&t, &made, &len, &err));
    blob = made;
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *part = malloc(cut ? cut : 1); /* of the exact size, for AddressSanitizer to watch */
        memcpy(part, blob, cut);
        assert_int_equal(answer_trace_unpack(&back, part, cut, NULL), PH_CORRUPT);
        free(part);
    }
    for (size_t at = 0; at < 24; at++) { /* the header: every byte of it decides something */
        blob[at] ^= 0x81;
        assert_int_equal(answer_trace_unpack(&back, blob, len, NULL), PH_CORRUPT);
        blob[at] ^= 0x81;
    }
    /* A piece that starts elsewhere, or is longer than the answer, or leaves a gap. */
    size_t first = 24, second = 24 + sizeof(trace_token);
    static const uint32_t starts[] = {1, 5, 7, UINT32_MAX};
    for (int i = 0; i < 4; i++) {
        trace_token saved, k;
        memcpy(&saved, blob + second, sizeof saved);
        k = saved;
        k.piece_start = starts[i];
        memcpy(blob + second, &k, sizeof k);
        assert_int_equal(answer_trace_unpack(&back, blob, len, NULL), PH_CORRUPT);
        memcpy(blob + second, &saved, sizeof saved);
        memcpy(&saved, blob + first, sizeof saved);
        k = saved;
        k.piece_len = starts[i];
        memcpy(blob + first, &k, sizeof k);
        assert_int_equal(answer_trace_unpack(&back, blob, len, NULL), PH_CORRUPT);
        memcpy(blob + first, &saved, sizeof saved);
    }
    static const trace_entry wrong[] = {
        {-2, 0, 0.5f}, {3, 0, -0.5f}, {3, 0, 2}, {3, 0, NAN}, {3, 0, INFINITY}};
    size_t entry = 24 + t.n_tokens * sizeof(trace_token) + t.n_tokens * LAYERS * sizeof(int32_t);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        trace_entry saved;
        memcpy(&saved, blob + entry, sizeof saved);
        memcpy(blob + entry, &wrong[i], sizeof saved);
        assert_int_equal(answer_trace_unpack(&back, blob, len, NULL), PH_CORRUPT);
        memcpy(blob + entry, &saved, sizeof saved);
    }
    MUST(answer_trace_unpack(&back, blob, len, &err)); /* everything was put back */
    answer_trace_free(&back);
    answer_trace_free(&t);
    free(blob);
}

/* ---- onto sentences ---- */

static const char ONE[] =
    "The tower stood on an island. It was tall. Ships saw it from afar!\nNobody knows who built it.";
static const char TWO[] = "A library stood near. Yes. It held scrolls.";
static const hand_text TEXTS[] = {{11, "one", ONE, 0, 0}, {22, "two", TWO, 0, 0}};

static double sum_of(const double *mass, const loaded_pack *p) {
    double sum = 0;
    for (size_t i = 0; i < p->prompt.tokens.n; i++) sum += mass[i];
    return sum;
}

static void masses_are_shares_of_the_documents(void **state) {
    (void)state;
    loaded_pack p;
    hand_pack_make(&p, TEXTS, 2);
    int32_t tall = (int32_t)hand_token(&p, 0, "tall", 0), held = (int32_t)hand_token(&p, 1, "held", 0);
    int32_t end = (int32_t)p.prompt.tokens.n;
    double *mass = malloc((p.prompt.tokens.n + 1) * sizeof *mass);
    answer_trace t = {0};
    /* Half of it on the frame, the question and beyond: that is no document. */
    add_step(&t, &(step){" a", 5, {0, 3, tall, held, end + 2}, {.2f, .2f, .3f, .2f, .1f}}, 8);
    add_step(&t, &(step){" b", 2, {0, end}, {.5f, .5f}}, 8);
    add_step(&t, &(step){" c", 1, {held}, {1}}, 8);
    answer_trace_mass(&t, &p, 0, 1, -1, mass);
    assert_true(fabs(mass[tall] - 0.6) < 1e-6 && fabs(mass[held] - 0.4) < 1e-6);
    assert_true(fabs(sum_of(mass, &p) - 1) < 1e-6);
    answer_trace_mass(&t, &p, 1, 2, -1, mass);
    assert_true(sum_of(mass, &p) == 0); /* nothing fell on a document */
    answer_trace_mass(&t, &p, 0, 3, 1, mass);
    assert_true(fabs(mass[tall] - 0.3 / 1.5) < 1e-6 && fabs(mass[held] - 1.2 / 1.5) < 1e-6);
    answer_trace_mass(&t, &p, 2, 99, 0, mass);
    assert_true(fabs(mass[held] - 1) < 1e-6);
    assert_true(fabs(trace_on_documents(&t, &p, 0, 1, -1) - 0.5) < 1e-6);
    assert_true(fabs(trace_on_documents(&t, &p, 0, 3, 0) - 0.5) < 1e-6);
    assert_true(trace_on_documents(&t, &p, 1, 2, -1) == 0);
    answer_trace_free(&t);
    free(mass);
    pack_unload(&p);
}

static bool is_sentence(const read_sentence *r, const char *text) {
    size_t n = r->end - r->start;
    return n == strlen(text) && !memcmp(r->text->text + r->start, text, n);
}

static void sentences_are_ranked_by_mass(void **state) {
    (void)state;
    loaded_pack p;
    read_sentence *list = NULL;
    size_t n = 0;
    hand_pack_make(&p, TEXTS, 2);
    double *mass = calloc(p.prompt.tokens.n + 1, sizeof *mass);
    mass[hand_token(&p, 0, "tall", 0)] = 0.25;
    mass[hand_token(&p, 0, "It", 0)] = 0.25; /* the space before it belongs to no sentence, the word does */
    mass[hand_token(&p, 1, "Yes", 0)] = 0.3;
    mass[hand_token(&p, 0, "Nobody", 0)] = 0.1;
    mass[hand_token(&p, 1, "scrolls", 0)] = 0.1;
    MUST(read_set_make(&list, &n, &p, mass, 10, &err));
    assert_int_equal(n, 4);
    assert_true(is_sentence(&list[0], "It was tall."));
    assert_true(fabs(list[0].mass - 0.5) < 1e-9);
    assert_true(is_sentence(&list[1], "Yes."));
    assert_true(is_sentence(&list[2], "Nobody knows who built it."));
    assert_int_equal(list[2].text->document, 11);
    assert_true(is_sentence(&list[3], "It held scrolls.")); /* equal masses: in the order of the pack */
    free(list);
    MUST(read_set_make(&list, &n, &p, mass, 2, &err));
    assert_int_equal(n, 2);
    free(list);
    memset(mass, 0, p.prompt.tokens.n * sizeof *mass);
    MUST(read_set_make(&list, &n, &p, mass, 10, &err));
    assert_int_equal(n, 0);
    free(list);
    free(mass);
    pack_unload(&p);
}

/* Lift 1 is what a stretch of that many tokens gets when everything is read alike. */
static void even_attention_lifts_nothing(void **state) {
    (void)state;
    loaded_pack p;
    read_sentence *list = NULL;
    size_t n = 0;
    hand_pack_make(&p, TEXTS, 2);
    double *mass = calloc(p.prompt.tokens.n + 1, sizeof *mass);
    double all = 0;
    for (size_t k = 0; k < 2; k++)
        all += (double)(p.texts[k].span.text_token_end - p.texts[k].span.text_token_start);
    for (size_t k = 0; k < 2; k++)
        for (int64_t i = p.texts[k].span.text_token_start; i < p.texts[k].span.text_token_end; i++)
            mass[i] = 1 / all;
    MUST(read_set_make(&list, &n, &p, mass, 100, &err));
    assert_int_equal(n, 7);
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double lift = 0;
        double span = read_set_span(&p, list[i].text, list[i].start, list[i].end, mass, &lift);
        sum += list[i].mass;
        if (fabs(list[i].lift - 1) > 0.01 || fabs(lift - 1) > 0.01 || fabs(span - list[i].mass) > 1e-9)
            fail_msg("%.*s: lift %g, as a span %g; mass %g and %g", (int)(list[i].end - list[i].start),
                     list[i].text->text + list[i].start, list[i].lift, lift, list[i].mass, span);
    }
    assert_true(sum > 0.95 && sum < 1.0001); /* the line end between two sentences belongs to none */
    free(list);
    free(mass);
    pack_unload(&p);
}

static void a_part_counts_its_own_tokens_only(void **state) {
    (void)state;
    /* Cut in the middle of "Ships saw it from afar!". */
    size_t cut = (size_t)(strstr(ONE, " from afar") - ONE);
    hand_text parts[] = {
        {11, "one", ONE, 0, cut}, {22, "two", TWO, 0, 0}, {11, "one", ONE, cut, strlen(ONE)}};
    loaded_pack p;
    read_sentence *list = NULL;
    size_t n = 0;
    hand_pack_make(&p, parts, 3);
    double *mass = calloc(p.prompt.tokens.n + 1, sizeof *mass);
    mass[hand_token(&p, 2, "afar", 0)] = 0.75;
    mass[hand_token(&p, 0, "saw", 0)] = 0.25;
    MUST(read_set_make(&list, &n, &p, mass, 10, &err));
    assert_int_equal(n, 2); /* the halves of a sentence stand in two places of the prompt */
    for (size_t i = 0; i < 2; i++) {
        assert_true(is_sentence(&list[i], "Ships saw it from afar!"));
        assert_true(list[i].lift > 1 && isfinite(list[i].lift));
    }
    assert_ptr_equal(list[0].text, &p.texts[2]);
    assert_true(list[0].mass == 0.75 && list[1].mass == 0.25);
    free(list);
    free(mass);
    pack_unload(&p);
}

/* ---- words ---- */

static void expect_words(const char *const *pieces, size_t n_pieces, const char *const *want, size_t n_want) {
    answer_trace t = {0};
    for (size_t i = 0; i < n_pieces; i++) add_step(&t, &(step){pieces[i], 1, {0}, {1}}, 1);
    trace_word *words;
    size_t n, next = 0;
    MUST(trace_words_make(&words, &n, &t, &err));
    for (size_t i = 0; i < n; i++) {
        size_t len = words[i].end - words[i].start;
        if (i >= n_want || len != strlen(want[i]) || memcmp(t.text + words[i].start, want[i], len))
            fail_msg("word %zu of \"%s\" is \"%.*s\"", i, t.text, (int)len, t.text + words[i].start);
        assert_int_equal(words[i].token_start, next);
        next = words[i].token_end;
        assert_true(next > words[i].token_start);
    }
    assert_int_equal(n, n_want);
    assert_int_equal(next, n_pieces); /* every token belongs to a word */
    free(words);
    answer_trace_free(&t);
}

#define COUNT(a) (sizeof(a) / sizeof *(a))
#define EXPECT_WORDS(pieces, want) expect_words(pieces, COUNT(pieces), want, COUNT(want))

static void tokens_make_words(void **state) {
    (void)state;
    static const char *const pieces[] = {"29",    " June", " ",    "2007", ",", " Al",
                                         "exand", "ria",   "\n\n", "It",   "."};
    static const char *const words[] = {"29", "June", "2007,", "Alexandria", "It."};
    EXPECT_WORDS(pieces, words);
    static const char *const bytes[] = {"a", " ", "b", "c", " ", " ", "d"};
    static const char *const from_bytes[] = {"a", "bc", "d"};
    EXPECT_WORDS(bytes, from_bytes);
    static const char *const cjk[] = {"\xE7\x81\xAF\xE5\xA1\x94", "\xE5\xBE\x88", "\xE9", "\xAB\x98"};
    static const char *const characters[] = {"\xE7\x81\xAF\xE5\xA1\x94", "\xE5\xBE\x88", "\xE9\xAB\x98"};
    EXPECT_WORDS(cjk, characters);
    static const char *const blank[] = {" ", "\n"};
    static const char *const nothing[] = {""};
    EXPECT_WORDS(blank, nothing);
    static const char *const tail[] = {"x", " ", ""};
    static const char *const tail_words[] = {"x", ""};
    EXPECT_WORDS(tail, tail_words);
    expect_words(NULL, 0, NULL, 0);
}

static void a_trace_is_written_out_whole(void **state) {
    (void)state;
    loaded_pack p;
    hand_pack_make(&p, TEXTS, 2);
    int32_t tall = (int32_t)hand_token(&p, 0, "tall", 0), held = (int32_t)hand_token(&p, 1, "held", 0);
    answer_trace t = {0};
    add_step(&t, &(step){" tall", 3, {0, tall, held}, {.2f, .5f, .3f}}, 4);
    add_step(&t, &(step){" tower", 2, {tall, (int32_t)p.prompt.tokens.n + 5}, {.5f, .5f}}, 4);
    trace_word *words;
    size_t n;
    MUST(trace_words_make(&words, &n, &t, &err));
    trace_selection what = {.layer = -1, .end_word = n};
    json_t *out = json_object();
    MUST(trace_json_add(out, &t, words, &p, &what, &err));
    const json_t *sentences = json_object_get(out, "sentences");
    assert_int_equal(json_array_size(sentences), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(sentences, 0), "text")),
                        "It was tall.");
    const json_t *token = json_array_get(json_object_get(out, "tokens"), 0);
    const json_t *layer = json_array_get(json_object_get(token, "layers"), 0);
    const json_t *heaviest = json_array_get(json_object_get(layer, "kept"), 0);
    assert_int_equal(json_integer_value(json_object_get(heaviest, "position")), tall);
    assert_int_equal(json_integer_value(json_object_get(heaviest, "document_id")), 11);
    assert_int_equal(json_integer_value(json_object_get(heaviest, "byte")), strstr(ONE, " tall") - ONE);
    assert_int_equal(json_integer_value(json_object_get(heaviest, "sentence")), 0);
    const json_t *frame = json_array_get(json_object_get(layer, "kept"), 2);
    assert_int_equal(json_integer_value(json_object_get(frame, "position")), 0);
    assert_null(json_object_get(frame, "document_id"));
    const json_t *second = json_array_get(json_object_get(token, "layers"), 1);
    assert_true(json_is_null(json_object_get(json_array_get(json_object_get(second, "kept"), 0), "score")));
    json_decref(out);

    out = json_object(); /* without the pack positions stand alone, and nothing is made up */
    MUST(trace_json_add(out, &t, words, NULL, &what, &err));
    assert_int_equal(json_array_size(json_object_get(out, "sentences")), 0);
    assert_int_equal(json_array_size(json_object_get(out, "tokens")), 2);
    json_decref(out);
    free(words);
    answer_trace_free(&t);
    pack_unload(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_heaviest_positions_are_kept),
        cmocka_unit_test(a_trace_without_layers_is_one_too),
        cmocka_unit_test(a_blob_comes_back_as_it_was),
        cmocka_unit_test(a_thought_is_kept_beside_its_answer),
        cmocka_unit_test(a_damaged_blob_is_refused),
        cmocka_unit_test(masses_are_shares_of_the_documents),
        cmocka_unit_test(sentences_are_ranked_by_mass),
        cmocka_unit_test(even_attention_lifts_nothing),
        cmocka_unit_test(a_part_counts_its_own_tokens_only),
        cmocka_unit_test(tokens_make_words),
        cmocka_unit_test(a_trace_is_written_out_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
