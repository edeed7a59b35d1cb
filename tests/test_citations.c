/* test_citations.c - where an answer stands in the documents: the words are there or they are not, the place
 * that was read wins over one that merely has the words, and both verdicts are told apart. */
#include "appliance/citations.h"
#include "tests/hand_pack.h"
#include "tests/program.h"

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

static const char TOWER[] = "The tower stood on an island. It was finished in 247 BC, under Ptolemy II.\n"
                            "Its keeper was called Zenodotus of  Ephesus. The tower was 100 metres tall.\n"
                            "In 1303 an earthquake damaged it; in 1323 another one did.\n";
static const char LIBRARY[] =
    "The library stood near the tower. Callimachus wrote its catalogue.\n"
    "It traded salt, pepper and olive oil with Nubia. Zenodotus of Ephesus was its first head.\n"
    "A caf\xC3\xA9 stood beside it. Now and then a scholar said no to the king.\n";

typedef struct world {
    char *dir;
    store *store;
    loaded_pack pack;
    int64_t tower, library;
    double *mass;
    store_citation *cited;
    size_t n;
} world;

/* Three pages of a text: cut at its line ends. */
static int64_t add(store *s, const char *name, const char *text, bool pages) {
    store_segment segments[8] = {0};
    size_t n = 0, start = 0;
    for (size_t i = 0; text[i]; i++) {
        if (text[i] != '\n') continue;
        segments[n].start = start;
        segments[n].end = i;
        segments[n].page = pages ? (uint32_t)n + 1 : 0;
        start = i + 1;
        n++;
    }
    store_document d = {.name = (char *)name,
                        .source = (char *)"",
                        .media_type = (char *)"text/plain",
                        .title = (char *)"",
                        .warning = (char *)"",
                        .picture_pages = (char *)"",
                        .bytes = (int64_t)strlen(text),
                        .text_bytes = (int64_t)strlen(text),
                        .added_at = 1,
                        .pages = pages ? 3 : 0};
    d.hash[0] = (uint8_t)name[0];
    int64_t existing;
    MUST(store_document_add(s, &d, text, segments, n, NULL, &existing, &err));
    if (d.name != name) free(d.name);
    return d.id;
}

static int set_up(void **state) {
    world *w = calloc(1, sizeof *w);
    w->dir = make_folder();
    MUST(store_open(&w->store, w->dir, &err));
    w->tower = add(w->store, "tower.pdf", TOWER, true);
    w->library = add(w->store, "library.txt", LIBRARY, false);
    hand_pack_make(
        &w->pack,
        (hand_text[]){{w->tower, "tower.pdf", TOWER, 0, 0}, {w->library, "library.txt", LIBRARY, 0, 0}}, 2);
    w->mass = calloc(w->pack.prompt.tokens.n + 1, sizeof *w->mass);
    *state = w;
    return 0;
}

static int tear_down(void **state) {
    world *w = *state;
    citations_free(w->cited, w->n);
    pack_unload(&w->pack);
    store_close(w->store);
    remove_folder(w->dir);
    free(w->mass);
    free(w);
    return 0;
}

static void read_word(world *w, size_t text, const char *word, int nth, double mass) {
    w->mass[hand_token(&w->pack, text, word, nth)] += mass;
}

static void cite_after(world *w, const char *thought, const char *answer) {
    read_sentence *read = NULL;
    size_t n_read = 0;
    citations_free(w->cited, w->n);
    MUST(read_set_make(&read, &n_read, &w->pack, w->mass, 12, &err));
    MUST(citations_make(&w->cited, &w->n, &w->pack, w->store, answer, thought, w->mass, read, n_read, &err));
    free(read);
}

static void cite(world *w, const char *answer) {
    cite_after(w, NULL, answer);
}

/* Citation i is the nth occurrence of `words` in a text. */
static void expect_place(const world *w, size_t i, int64_t document, const char *text, const char *words,
                         int nth) {
    assert_true(i < w->n);
    const store_citation *c = &w->cited[i];
    const char *at = text - 1;
    for (int k = 0; k <= nth; k++) at = strstr(at + 1, words);
    assert_non_null(at);
    if (c->document != document || c->start != (uint64_t)(at - text) || c->end != c->start + strlen(words))
        fail_msg("cited %s, bytes %llu-%llu (\"%s\"), not \"%s\" at %td", c->document_name,
                 (unsigned long long)c->start, (unsigned long long)c->end, c->quote, words, at - text);
    assert_string_equal(c->quote, words); /* the document's own words, not the answer's */
    assert_true(c->in_text);
}

static void the_words_stand_there(void **state) {
    world *w = *state;
    read_word(w, 0, "247", 0, 1);
    cite(w, "247 BC");
    assert_int_equal(w->n, 1);
    expect_place(w, 0, w->tower, TOWER, "247 BC", 0);
    assert_string_equal(w->cited[0].document_name, "tower.pdf");
    assert_int_equal(w->cited[0].page, 1);
    assert_true(w->cited[0].in_read_set);
    assert_true(w->cited[0].mass > 0.99 && w->cited[0].lift > 1);
    cite(w, "  247 BC.  "); /* a final full stop and white space are no matter */
    assert_int_equal(w->n, 1);
    expect_place(w, 0, w->tower, TOWER, "247 BC", 0);
}

static void case_and_white_space_may_differ(void **state) {
    world *w = *state;
    cite(w, "zenodotus OF ephesus. the tower");
    assert_int_equal(w->n, 1);
    expect_place(w, 0, w->tower, TOWER, "Zenodotus of  Ephesus. The tower", 0);
    cite(w, "metres tall. In 1303");
    expect_place(w, 0, w->tower, TOWER, "metres tall.\nIn 1303", 0);
    assert_int_equal(w->cited[0].page, 2);
    cite(w, "caf\xC3\xA9");
    expect_place(w, 0, w->library, LIBRARY, "caf\xC3\xA9", 0);
    assert_int_equal(w->cited[0].page, 0); /* no pages in this format */
    cite(w, "Zenodotusof Ephesus");        /* white space may differ, but not be missing */
    assert_int_equal(w->n, 0);
}

/* The answer stands in two places, and the attention on the other is heavier: the quoted sentence decides. */
static void a_quoted_sentence_is_where_an_answer_is_from(void **state) {
    world *w = *state;
    read_word(w, 0, "Zenodotus", 0, 0.6);
    read_word(w, 1, "first", 0, 0.4);
    cite(w, "Zenodotus of Ephesus");
    expect_place(w, 0, w->tower, TOWER, "Zenodotus of  Ephesus", 0);
    cite_after(w, "zenodotus of Ephesus was its first head.", "Zenodotus of Ephesus");
    assert_int_equal(w->n, 1);
    expect_place(w, 0, w->library, LIBRARY, "Zenodotus of Ephesus", 0);
    /* Words that it does not have: the sentence itself is what there is to show. */
    cite_after(w, "Zenodotus of Ephesus was its first head.", "Callimachus");
    assert_int_equal(w->n, 1);
    expect_place(w, 0, w->library, LIBRARY, "Zenodotus of Ephesus was its first head.", 0);
    /* Unless they stand at another place that was read: the thought may be the rest of a sentence. */
    cite_after(w, "was its first head.", "Zenodotus of Ephesus");
    assert_int_equal(w->n, 1);
    expect_place(w, 0, w->tower, TOWER, "Zenodotus of  Ephesus", 0);
    /* A list's members that it has. */
    cite_after(w, "Zenodotus of Ephesus was its first head.", "Ephesus, head and Nubia");
    assert_int_equal(w->n, 2);
    expect_place(w, 0, w->library, LIBRARY, "Ephesus", 0);
    expect_place(w, 1, w->library, LIBRARY, "head", 0);
    /* What stands nowhere, or where nothing was read, or is hardly a word, decides nothing. */
    static const char *const idle[] = {"Zenodotus of Ephesus was its last head.",
                                       "Callimachus wrote its catalogue.", "its", "", " \n"};
    for (size_t i = 0; i < sizeof idle / sizeof *idle; i++) {
        cite_after(w, idle[i], "Zenodotus of Ephesus");
        assert_int_equal(w->n, 1);
        expect_place(w, 0, w->tower, TOWER, "Zenodotus of  Ephesus", 0);
    }
}

static void the_place_that_was_read_wins(void **state) {
    world *w = *state;
    read_word(w, 1, "first", 0, 0.6);
    read_word(w, 1, "Zenodotus", 0, 0.3);
    read_word(w, 0, "Zenodotus", 0, 0.1);
    cite(w, "Zenodotus of Ephesus");
    expect_place(w, 0, w->library, LIBRARY, "Zenodotus of Ephesus", 0);
    assert_true(w->cited[0].in_read_set);
    memset(w->mass, 0, w->pack.prompt.tokens.n * sizeof *w->mass);
    read_word(w, 0, "keeper", 0, 1); /* the words alike unread: the sentence around them decides */
    cite(w, "Zenodotus of Ephesus");
    expect_place(w, 0, w->tower, TOWER, "Zenodotus of  Ephesus", 0);
    assert_false(w->cited[0].in_read_set); /* but the quote itself was not read, and that is said */
    assert_true(w->cited[0].mass == 0);
    memset(w->mass, 0, w->pack.prompt.tokens.n * sizeof *w->mass);
    read_word(w, 0, "tower", 1, 1);
    cite(w, "tower");
    expect_place(w, 0, w->tower, TOWER, "tower", 1);
}

static void a_word_is_not_looked_for_inside_others(void **state) {
    world *w = *state;
    read_word(w, 0, "another", 0, 1);
    read_word(w, 1, "Now", 0, 1);
    cite(w, "no"); /* not in "another", "Now", however much was read of them */
    assert_int_equal(w->cited[0].start, strstr(LIBRARY, " no to") + 1 - LIBRARY);
    cite(w, "103");
    assert_int_equal(w->n, 1);
    assert_false(w->cited[0].in_text);
    cite(w, "earth"); /* nowhere on its own: inside a word is better than nowhere */
    assert_int_equal(w->n, 1);
    assert_true(w->cited[0].in_text);
    assert_int_equal(w->cited[0].start, strstr(TOWER, "earth") - TOWER);
}

static void a_list_is_cited_member_by_member(void **state) {
    world *w = *state;
    cite(w, "salt, pepper and olive oil"); /* stands there as a whole */
    assert_int_equal(w->n, 1);
    expect_place(w, 0, w->library, LIBRARY, "salt, pepper and olive oil", 0);
    cite(w, "olive oil, salt and pepper");
    assert_int_equal(w->n, 3);
    expect_place(w, 0, w->library, LIBRARY, "olive oil", 0);
    expect_place(w, 1, w->library, LIBRARY, "salt", 0);
    expect_place(w, 2, w->library, LIBRARY, "pepper", 0);
    cite(w, "1303 and 1323");
    assert_int_equal(w->n, 2);
    expect_place(w, 0, w->tower, TOWER, "1303", 0);
    expect_place(w, 1, w->tower, TOWER, "1323", 0);
    assert_int_equal(w->cited[1].page, 3);
    cite(w, "Callimachus; Ptolemy II, and the moon."); /* what stands nowhere has no place of its own */
    assert_int_equal(w->n, 2);
    expect_place(w, 0, w->library, LIBRARY, "Callimachus", 0);
    expect_place(w, 1, w->tower, TOWER, "Ptolemy II", 0);
    cite(w, "1303 and 1323.");
    assert_int_equal(w->n, 2);
    expect_place(w, 1, w->tower, TOWER, "1323", 0);
    char many[2000] = "";
    for (int i = 0; i < 200; i++) strcat(many, "1303, ");
    cite(w, many);
    assert_true(w->n >= 1 && w->n <= 16);
}

static void words_that_stand_nowhere_are_said_to(void **state) {
    world *w = *state;
    cite(w, "a hundred years");
    assert_int_equal(w->n, 0); /* nothing was read either */
    read_word(w, 1, "Callimachus", 0, 0.75);
    read_word(w, 0, "island", 0, 0.25);
    cite(w, "a hundred years");
    assert_int_equal(w->n, 1);
    assert_false(w->cited[0].in_text);
    assert_true(w->cited[0].in_read_set);
    assert_string_equal(w->cited[0].quote, "a hundred years");
    assert_int_equal(w->cited[0].document, w->library);
    assert_int_equal(w->cited[0].start,
                     strstr(LIBRARY, "Callimachus") - LIBRARY); /* the sentence read most */
    assert_int_equal(w->cited[0].end, strstr(LIBRARY, "catalogue.") + 10 - LIBRARY);
    assert_true(w->cited[0].mass > 0.74 && w->cited[0].mass < 0.76);
    static const char *const empty[] = {"", "   ", "\n"};
    for (int i = 0; i < 3; i++) {
        cite(w, empty[i]);
        assert_int_equal(w->n, 0);
    }
    static const char *const odd[] = {".",     "!",           ",",        " and ", ", ",
                                      "; ; ;", "and and and", "\xFF\xFE", "a",     "."};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) cite(w, odd[i]); /* no more than not to fall over */
}

static void a_quote_does_not_cross_what_is_not_here(void **state) {
    world *w = *state;
    size_t cut = (size_t)(strstr(TOWER, " under Ptolemy") - TOWER);
    loaded_pack part;
    hand_pack_make(&part, &(hand_text){w->tower, "tower.pdf", TOWER, 0, cut}, 1);
    double *mass = calloc(part.prompt.tokens.n + 1, sizeof *mass);
    store_citation *list = NULL;
    size_t n = 0;
    MUST(citations_make(&list, &n, &part, w->store, "247 BC, under Ptolemy II", NULL, mass, NULL, 0, &err));
    assert_int_equal(n, 1); /* the member that stands in this part */
    assert_string_equal(list[0].quote, "247 BC");
    citations_free(list, n);
    MUST(citations_make(&list, &n, &part, w->store, "Ptolemy II", NULL, mass, NULL, 0, &err));
    assert_int_equal(n, 0);
    citations_free(list, n);
    free(mass);
    pack_unload(&part);
}

static void a_common_word_costs_no_more_than_it_must(void **state) {
    world *w = *state;
    size_t n = 600000;
    char *text = malloc(n + 1);
    for (size_t i = 0; i < n; i++) text[i] = i % 3 == 2 ? ' ' : 'a';
    text[n] = 0;
    loaded_pack p;
    hand_pack_make(&p, &(hand_text){w->library, "library.txt", text, 0, 0}, 1);
    double *mass = calloc(p.prompt.tokens.n + 1, sizeof *mass);
    mass[hand_token(&p, 0, "aa", 100)] = 1;
    store_citation *list = NULL;
    size_t cited = 0;
    MUST(citations_make(&list, &cited, &p, w->store, "aa", NULL, mass, NULL, 0, &err));
    assert_int_equal(cited, 1);
    assert_int_equal(list[0].start, 300);
    citations_free(list, cited);
    free(mass);
    free(text);
    pack_unload(&p);
}

#define IN_A_WORLD(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_A_WORLD(the_words_stand_there),
        IN_A_WORLD(case_and_white_space_may_differ),
        IN_A_WORLD(a_quoted_sentence_is_where_an_answer_is_from),
        IN_A_WORLD(the_place_that_was_read_wins),
        IN_A_WORLD(a_word_is_not_looked_for_inside_others),
        IN_A_WORLD(a_list_is_cited_member_by_member),
        IN_A_WORLD(words_that_stand_nowhere_are_said_to),
        IN_A_WORLD(a_quote_does_not_cross_what_is_not_here),
        IN_A_WORLD(a_common_word_costs_no_more_than_it_must),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
