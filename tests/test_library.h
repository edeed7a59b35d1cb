/* test_library.h - for the tests of packs and of what is kept of reading them: two tiny models, a store with
 * documents, packs, answers compared to the bit. */
#ifndef PHAROS_TEST_LIBRARY_H
#define PHAROS_TEST_LIBRARY_H

#include "appliance/answer.h"
#include "tests/program.h"
#include "tests/tiny_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char *models[2]; /* folders of two different models */

typedef struct world {
    char *dir;
    store *store;
    engine *engine;
} world;

#define MUST(call)                                                                                           \
    do {                                                                                                     \
        ph_error err = {0};                                                                                  \
        if ((call) != PH_OK) fail_msg("%s: %s", #call, err.text);                                            \
    } while (0)

static inline engine *open_model(int which, const engine_options *with) {
    engine *e = NULL;
    engine_options options = with ? *with : (engine_options){0};
    options.model_dir = models[which];
    MUST(engine_open(&e, &options, &err));
    return e;
}

static inline store *open_at(const char *dir) {
    store *s = NULL;
    MUST(store_open(&s, dir, &err));
    return s;
}

static inline int set_up(void **state) {
    world *w = calloc(1, sizeof *w);
    w->dir = make_folder();
    w->store = open_at(w->dir);
    w->engine = open_model(0, NULL);
    *state = w;
    return 0;
}

static inline int tear_down(void **state) {
    world *w = *state;
    store_close(w->store);
    engine_close(w->engine);
    remove_folder(w->dir);
    free(w);
    return 0;
}

/* As after the end of one process and the start of the next. */
static inline void reopen(world *w) {
    store_close(w->store);
    engine_close(w->engine);
    w->store = open_at(w->dir);
    w->engine = open_model(0, NULL);
}

/* ---- documents ---- */

static inline int64_t add(store *s, const char *name, const char *text) {
    size_t n = strlen(text);
    store_document d = {.name = (char *)name,
                        .source = (char *)"",
                        .media_type = (char *)"text/plain",
                        .title = (char *)"",
                        .warning = (char *)"",
                        .picture_pages = (char *)"",
                        .bytes = (int64_t)n,
                        .text_bytes = (int64_t)n,
                        .added_at = 1};
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)text[i]) * 1099511628211u;
    memcpy(d.hash, &h, sizeof h);
    store_segment segment = {.end = n};
    int64_t existing = 0;
    MUST(store_document_add(s, &d, text, &segment, 1, NULL, &existing, &err));
    assert_int_not_equal(d.id, 0);
    if (d.name != name) free(d.name);
    return d.id;
}

/* About n bytes; every sentence is another one, and some characters take two or three bytes. */
static inline char *text_of(size_t n, int seed) {
    char *text = malloc(n + 200);
    size_t at = 0;
    for (int line = 1; at < n; line++)
        at += (size_t)sprintf(
            text + at, "Ship %d of fleet %d brought %d barrels of gar\xC3\xB3n \xE2\x80\x94 fish sauce.%s",
            line, seed, line * 7919 % 1009,
            line % 4   ? " "
            : line % 8 ? "\n"
                       : "\n\n");
    return text;
}

static inline int64_t add_text(store *s, const char *name, size_t n, int seed) {
    char *text = text_of(n, seed);
    int64_t id = add(s, name, text);
    free(text);
    return id;
}

typedef struct shelf {
    store_pack *packs;
    size_t n;
} shelf;

static inline shelf packs_of(const world *w) {
    shelf x;
    MUST(store_pack_list(w->store, engine_key(w->engine), &x.packs, &x.n, &err));
    return x;
}

static inline void shelf_free(shelf *x) {
    store_packs_free(x->packs, x->n);
}

static inline int pack_all(const world *w) {
    int placed = 0;
    MUST(library_pack(w->store, w->engine, NULL, &placed, &err));
    return placed;
}

/* Reads what is missing of a pack; how many tokens it has. *cached: how many were not read again. */
static inline int64_t read_pack(const world *w, int64_t id, int64_t *cached) {
    loaded_pack p;
    context *c = NULL;
    MUST(pack_load(&p, w->store, w->engine, id, &err));
    MUST(pack_read(&c, &p, w->store, w->engine, NULL, NULL, cached, NULL, &err));
    int64_t n = context_length(c);
    assert_int_equal(n, p.prompt.tokens.n);
    context_close(c);
    pack_unload(&p);
    return n;
}

static inline void snapshot_path(const world *w, char out[4096]) {
    shelf x = packs_of(w);
    char *path = NULL;
    MUST(store_pack_snapshot_path(w->store, &x.packs[0], &path, &err));
    snprintf(out, 4096, "%s", path);
    free(path);
    shelf_free(&x);
}

/* ---- answers, bit for bit ---- */

static const answer_options SHORT = {.max_tokens = 24, .full_trace = true, .discard = true};

static inline answer ask(const world *w, const answer_options *options) {
    answer a;
    MUST(answer_question(&a, w->store, w->engine, "Which ship brought the most barrels?", options, &err));
    return a;
}

/* NAN stands for "no score": compared as bits like everything else. */
static inline void same_answer(const answer *a, const answer *b) {
    assert_string_equal(a->row.answer, b->row.answer);
    assert_int_equal(a->trace.n_tokens, b->trace.n_tokens);
    assert_int_equal(a->trace.layers, b->trace.layers);
    assert_int_equal(a->trace.keep, b->trace.keep);
    size_t rows = a->trace.n_tokens * (size_t)a->trace.layers;
    assert_memory_equal(a->trace.tokens, b->trace.tokens, a->trace.n_tokens * sizeof *a->trace.tokens);
    assert_memory_equal(a->trace.selected, b->trace.selected, rows * sizeof *a->trace.selected);
    assert_memory_equal(a->trace.entries, b->trace.entries,
                        rows * (size_t)a->trace.keep * sizeof *a->trace.entries);
    assert_int_equal(a->n_read, b->n_read);
    for (size_t i = 0; i < a->n_read; i++) assert_true(a->read[i].mass == b->read[i].mass);
    assert_true(a->confidence == b->confidence);
}

/* ---- a test's beginning and end ---- */

static inline int make_models(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        models[i] = make_folder();
        if (tiny_model_write(models[i], &(tiny_options){.seed = (uint64_t)i + 1})) return -1;
    }
    return 0;
}

static inline int remove_models(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) remove_folder(models[i]);
    return 0;
}

#define IN_A_WORLD(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

#endif
