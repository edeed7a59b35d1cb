/* test_library.c - packs and what is kept of reading them: nothing of a document is lost, nothing is read
 * twice, and an answer from a restored pack is bit for bit that of a fresh one, whatever happened to the
 * snapshot in between. */
#include "appliance/answer.h"
#include "tests/program.h"
#include "tests/tiny_model.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

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

static engine *open_model(int which, const engine_options *with) {
    engine *e = NULL;
    engine_options options = with ? *with : (engine_options){0};
    options.model_dir = models[which];
    MUST(engine_open(&e, &options, &err));
    return e;
}

static store *open_at(const char *dir) {
    store *s = NULL;
    MUST(store_open(&s, dir, &err));
    return s;
}

static int set_up(void **state) {
    world *w = calloc(1, sizeof *w);
    w->dir = make_folder();
    w->store = open_at(w->dir);
    w->engine = open_model(0, NULL);
    *state = w;
    return 0;
}

static int tear_down(void **state) {
    world *w = *state;
    store_close(w->store);
    engine_close(w->engine);
    remove_folder(w->dir);
    free(w);
    return 0;
}

/* As after the end of one process and the start of the next. */
static void reopen(world *w) {
    store_close(w->store);
    engine_close(w->engine);
    w->store = open_at(w->dir);
    w->engine = open_model(0, NULL);
}

/* ---- documents ---- */

static int64_t add(store *s, const char *name, const char *text) {
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
static char *text_of(size_t n, int seed) {
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

static int64_t add_text(store *s, const char *name, size_t n, int seed) {
    char *text = text_of(n, seed);
    int64_t id = add(s, name, text);
    free(text);
    return id;
}

typedef struct shelf {
    store_pack *packs;
    size_t n;
} shelf;

static shelf packs_of(const world *w) {
    shelf x;
    MUST(store_pack_list(w->store, engine_key(w->engine), &x.packs, &x.n, &err));
    return x;
}

static void shelf_free(shelf *x) {
    store_packs_free(x->packs, x->n);
}

static int pack_all(const world *w) {
    int placed = 0;
    MUST(library_pack(w->store, w->engine, NULL, &placed, &err));
    return placed;
}

/* ---- packing ---- */

static void documents_stand_in_order_and_stay_there(void **state) {
    world *w = *state;
    int64_t first = add_text(w->store, "one", 900, 1), second = add_text(w->store, "two", 700, 2);
    assert_int_equal(pack_all(w), 2);
    shelf x = packs_of(w);
    assert_int_equal(x.n, 1);
    assert_int_equal(x.packs[0].n_items, 2);
    assert_int_equal(x.packs[0].items[0].document, first);
    assert_int_equal(x.packs[0].items[1].document, second);
    assert_int_equal(x.packs[0].items[0].token_end, x.packs[0].items[1].token_start);
    assert_int_equal(x.packs[0].items[1].token_end, x.packs[0].tokens);
    assert_int_equal(x.packs[0].read, 0);
    assert_int_equal(pack_all(w), 0);
    int64_t third = add_text(w->store, "three", 500, 3);
    assert_int_equal(pack_all(w), 1);
    shelf y = packs_of(w);
    assert_int_equal(y.n, 1);
    assert_int_equal(y.packs[0].id, x.packs[0].id);
    assert_memory_equal(y.packs[0].items, x.packs[0].items, 2 * sizeof *x.packs[0].items);
    assert_int_equal(y.packs[0].items[2].document, third);
    shelf_free(&x);
    shelf_free(&y);
}

static void the_last_pack_with_room_takes_a_document(void **state) {
    world *w = *state;
    add_text(w->store, "one", 3000, 1);
    int64_t two = add_text(w->store, "two", 2500, 2);
    pack_all(w);
    int64_t three = add_text(w->store, "three", 600, 3); /* into the second */
    pack_all(w);
    int64_t four = add_text(w->store, "four", 280, 4); /* the second is full now: into the first */
    pack_all(w);
    shelf x = packs_of(w);
    assert_int_equal(x.n, 2);
    assert_int_equal(x.packs[1].items[0].document, two);
    assert_int_equal(x.packs[1].items[1].document, three);
    assert_int_equal(x.packs[0].items[1].document, four);
    int64_t room = engine_config(w->engine)->max_positions - library_reserve(w->engine);
    for (size_t i = 0; i < x.n; i++) assert_true(x.packs[i].tokens <= room);
    shelf_free(&x);
}

/* What the model reads of a span, back as bytes. */
static char *bytes_read(const world *w, const loaded_pack *p, const pack_span *s, size_t *n) {
    char *out = malloc((size_t)(s->text_token_end - s->text_token_start) * 64 + 1);
    *n = 0;
    for (int64_t i = s->text_token_start; i < s->text_token_end; i++) {
        size_t len;
        const char *piece = tokenizer_piece(engine_tokenizer(w->engine), p->prompt.tokens.ids[i], &len);
        assert_int_equal(p->prompt.tokens.start[i], s->text_start + *n); /* a byte a token in this model */
        memcpy(out + *n, piece, len);
        *n += len;
    }
    return out;
}

static void the_model_reads_every_byte(void **state) {
    world *w = *state;
    static const size_t sizes[] = {1, 300, 20000, 3400, 3500, 3600, 40};
    enum { N = sizeof sizes / sizeof *sizes };
    char *texts[N];
    size_t covered[N] = {0};
    int64_t ids[N];
    for (int i = 0; i < N; i++) {
        char name[16];
        snprintf(name, sizeof name, "text %d", i);
        texts[i] = text_of(sizes[i], i);
        ids[i] = add(w->store, name, texts[i]);
    }
    assert_int_equal(pack_all(w), N);
    shelf x = packs_of(w);
    for (size_t k = 0; k < x.n; k++) {
        loaded_pack p;
        MUST(pack_load(&p, w->store, w->engine, x.packs[k].id, &err));
        assert_int_equal(p.prompt.tokens.n, x.packs[k].tokens);
        assert_int_equal(p.prompt.tokens.ids[0], TINY_BOS);
        assert_int_equal(p.prompt.tokens.ids[1], TINY_USER);
        for (size_t t = 0; t < p.n_texts; t++) {
            int which = 0;
            while (ids[which] != p.texts[t].document) which++;
            size_t n;
            char *bytes = bytes_read(w, &p, &p.texts[t].span, &n);
            assert_int_equal(p.texts[t].span.text_start, covered[which]); /* parts follow one another */
            assert_memory_equal(bytes, texts[which] + covered[which], n);
            covered[which] += n;
            free(bytes);
        }
        pack_unload(&p);
    }
    for (int i = 0; i < N; i++) {
        assert_int_equal(covered[i], strlen(texts[i]));
        free(texts[i]);
    }
    shelf_free(&x);
}

static void tokens_and_bytes_find_each_other(void **state) {
    world *w = *state;
    add_text(w->store, "one", 800, 1);
    add_text(w->store, "two", 600, 2);
    pack_all(w);
    shelf x = packs_of(w);
    loaded_pack p;
    MUST(pack_load(&p, w->store, w->engine, x.packs[0].id, &err));
    int64_t of_texts = 0;
    for (int64_t i = 0; i < (int64_t)p.prompt.tokens.n; i++) {
        size_t byte = SIZE_MAX;
        const pack_text *t = pack_text_at(&p, i, &byte);
        bool inside = false;
        for (size_t k = 0; k < p.n_texts; k++)
            inside |= i >= p.texts[k].span.text_token_start && i < p.texts[k].span.text_token_end;
        assert_int_equal(t != NULL, inside);
        if (!t) continue;
        of_texts++;
        assert_true(byte < t->len);
        assert_int_equal(pack_token_at(&p, t, byte), i);
    }
    assert_int_equal(of_texts, (int64_t)(p.texts[0].len + p.texts[1].len));
    assert_int_equal(pack_token_at(&p, &p.texts[0], p.texts[0].len), p.texts[0].span.text_token_end);
    assert_null(pack_text_at(&p, (int64_t)p.prompt.tokens.n, NULL));
    pack_unload(&p);
    assert_int_equal(pack_load(&p, w->store, w->engine, 12345, NULL), PH_NOT_FOUND);
    shelf_free(&x);
}

static int64_t read_pack(const world *w, int64_t id, int64_t *cached) {
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

static void a_removed_document_leaves_nothing_and_the_rest_is_packed_again(void **state) {
    world *w = *state;
    int64_t one = add_text(w->store, "one", 800, 1), two = add_text(w->store, "two", 600, 2), cached = -1;
    pack_all(w);
    shelf x = packs_of(w);
    read_pack(w, x.packs[0].id, &cached);
    assert_int_equal(cached, 0);
    char *path = NULL;
    MUST(store_pack_snapshot_path(w->store, &x.packs[0], &path, &err));
    assert_int_equal(access(path, F_OK), 0);
    MUST(store_document_delete(w->store, one, NULL, &err));
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(pack_all(w), 1);
    shelf y = packs_of(w);
    assert_int_equal(y.n, 1);
    assert_int_not_equal(y.packs[0].id, x.packs[0].id);
    assert_int_equal(y.packs[0].items[0].document, two);
    read_pack(w, y.packs[0].id, &cached);
    assert_int_equal(cached, 0);
    free(path);
    shelf_free(&x);
    shelf_free(&y);
}

static void what_was_read_before_a_removed_document_stays(void **state) {
    world *w = *state;
    int64_t id[3], cached = -1;
    for (int i = 0; i < 3; i++) id[i] = add_text(w->store, (const char *[]){"one", "two", "three"}[i], 700, i);
    pack_all(w);
    shelf x = packs_of(w);
    assert_int_equal(x.n, 1);
    read_pack(w, x.packs[0].id, &cached);
    int64_t front = x.packs[0].items[1].token_start / 256 * 256;
    assert_true(front > 0);
    store_receipt r;
    /* Somebody reads it: all of the pack goes, as without a model. */
    context *busy = NULL;
    char *path = NULL;
    MUST(store_pack_snapshot_path(w->store, &x.packs[0], &path, &err));
    for (int held = 1; held >= 0; held--) {
        if (held) MUST(context_open(&busy, w->engine, path, 0, NULL, &err));
        MUST(library_erase(w->store, w->engine, id[1], &r, &err));
        assert_int_equal(access(path, F_OK), -1);
        assert_int_equal(r.documents, 1);
        assert_int_equal(r.packs, 1);
        assert_int_equal(r.snapshots, 1);
        assert_true(r.snapshot_bytes > 0);
        assert_int_equal(library_erase(w->store, w->engine, id[1], &r, NULL), PH_NOT_FOUND);
        assert_int_equal(r.documents + r.packs + r.snapshots, 0);
        shelf y = packs_of(w);
        assert_int_equal(y.n, held ? 0 : 1);
        if (!held) {
            assert_int_equal(y.packs[0].n_items, 1);
            assert_int_equal(y.packs[0].items[0].document, id[0]);
            assert_int_equal(y.packs[0].read, front);
        }
        shelf_free(&y);
        assert_int_equal(pack_all(w), held ? 2 : 1);
        y = packs_of(w);
        assert_int_equal(y.n, 1);
        assert_int_equal(y.packs[0].items[1].document, id[2]);
        read_pack(w, y.packs[0].id, &cached);
        assert_int_equal(cached, held ? 0 : front);
        shelf_free(&y);
        if (!held) break;
        context_close(busy);
        id[1] = add_text(w->store, "two", 700, 1);
        pack_all(w);
        y = packs_of(w);
        read_pack(w, y.packs[0].id, &cached);
        /* The one in the middle now. */
        int64_t middle = id[2];
        id[2] = id[1];
        id[1] = middle;
        front = y.packs[0].items[1].token_start / 256 * 256;
        free(path);
        MUST(store_pack_snapshot_path(w->store, &y.packs[0], &path, &err));
        shelf_free(&y);
    }
    free(path);
    shelf_free(&x);
    /* The first one leaves nothing to keep. */
    MUST(library_erase(w->store, w->engine, id[0], &r, &err));
    x = packs_of(w);
    assert_int_equal(x.n, 0);
    shelf_free(&x);
}

static int stop_placing(void *user, const char *document, size_t done, size_t total) {
    size_t *after = user;
    assert_non_null(document);
    assert_true(done <= total);
    return done >= *after;
}

static void stopped_packing_places_nothing(void **state) {
    world *w = *state;
    add_text(w->store, "small", 200, 1);
    add_text(w->store, "large", 8000, 2);
    for (size_t after = 0; after <= 3000; after += 3000) {
        int placed = -1;
        assert_int_equal(
            library_pack(w->store, w->engine, &(library_packing){stop_placing, &after}, &placed, NULL), PH_INTERRUPTED);
        assert_int_equal(placed, -1);
        shelf x = packs_of(w);
        assert_int_equal(x.n, 0);
        shelf_free(&x);
    }
    assert_int_equal(pack_all(w), 2);
}

/* A small document stands behind the end of a large one. When it goes, so does their pack, and with it that
 * end. */
static void the_end_of_a_large_document_survives_its_neighbour(void **state) {
    world *w = *state;
    char *text = text_of(8000, 1);
    int64_t large = add(w->store, "large", text), small = add_text(w->store, "small", 300, 2), cached = 0;
    pack_all(w);
    shelf x = packs_of(w);
    assert_int_equal(x.n, 3);
    assert_int_equal(x.packs[2].n_items, 2);
    for (size_t i = 0; i < 3; i++) read_pack(w, x.packs[i].id, &cached);
    MUST(store_document_delete(w->store, small, NULL, &err));
    assert_int_equal(pack_all(w), 1);
    shelf y = packs_of(w);
    assert_int_equal(y.n, 3);
    size_t covered = 0;
    for (size_t i = 0; i < y.n; i++) {
        for (size_t j = 0; j < y.packs[i].n_items; j++) {
            assert_int_equal(y.packs[i].items[j].document, large);
            assert_int_equal(y.packs[i].items[j].text_start, covered);
            covered = y.packs[i].items[j].text_end;
        }
        int64_t n = read_pack(w, y.packs[i].id, &cached);
        assert_int_equal(cached, i < 2 ? n : 0); /* the others were not touched */
    }
    assert_int_equal(covered, strlen(text));
    assert_int_equal(pack_all(w), 0);
    /* Parts that were cut for another room are put right. */
    y.packs[1].items[0].text_end -= 100;
    MUST(store_pack_put(w->store, &y.packs[1], &err));
    assert_true(pack_all(w) > 0);
    shelf_free(&y);
    y = packs_of(w);
    covered = 0;
    for (size_t i = 0; i < y.n; i++) covered += y.packs[i].items[0].text_end - y.packs[i].items[0].text_start;
    assert_int_equal(covered, strlen(text));
    assert_int_equal(pack_all(w), 0);
    shelf_free(&x);
    shelf_free(&y);
    free(text);
}

static void an_added_document_reads_its_own_tokens_only(void **state) {
    world *w = *state;
    int64_t had = 0, cached = -1;
    for (int i = 0; i < 5; i++) {
        char name[16];
        snprintf(name, sizeof name, "text %d", i);
        add_text(w->store, name, (size_t)(150 + 190 * i), i);
        pack_all(w);
        shelf x = packs_of(w);
        assert_int_equal(x.n, 1);
        int64_t n = read_pack(w, x.packs[0].id, &cached);
        assert_int_equal(cached, had);
        assert_true(n > had);
        had = n;
        shelf_free(&x);
        x = packs_of(w);
        assert_int_equal(x.packs[0].read, had);
        shelf_free(&x);
        if (i == 2) reopen(w);
    }
    shelf x = packs_of(w);
    assert_int_equal(read_pack(w, x.packs[0].id, &cached), had);
    assert_int_equal(cached, had);
    shelf_free(&x);
}

/* ---- answers, bit for bit ---- */

static const answer_options SHORT = {.max_tokens = 24, .full_trace = true, .discard = true};

static answer ask(const world *w, const answer_options *options) {
    answer a;
    MUST(answer_question(&a, w->store, w->engine, "Which ship brought the most barrels?", options, &err));
    return a;
}

/* NAN stands for "no score": compared as bits like everything else. */
static void same_answer(const answer *a, const answer *b) {
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

static void a_restored_answer_is_the_fresh_one(void **state) {
    world *w = *state;
    add_text(w->store, "one", 1500, 1);
    add_text(w->store, "two", 900, 2);
    answer fresh = ask(w, &SHORT);
    assert_int_equal(fresh.row.cached_tokens, 0);
    assert_true(fresh.trace.n_tokens == 24 && fresh.trace.keep >= 16);
    answer again = ask(w, &SHORT);
    assert_int_equal(again.row.cached_tokens, fresh.pack.prompt.tokens.n);
    same_answer(&fresh, &again);
    answer_free(&again);
    reopen(w);
    again = ask(w, &SHORT);
    assert_int_equal(again.row.cached_tokens, fresh.pack.prompt.tokens.n);
    assert_null(again.note);
    same_answer(&fresh, &again);
    answer_free(&again);

    /* Read in two goes with a restart between, with other threads: the same. */
    world other = {.dir = make_folder()};
    other.store = open_at(other.dir);
    other.engine = open_model(0, &(engine_options){.threads = 1});
    add_text(other.store, "one", 1500, 1);
    pack_all(&other);
    shelf x = packs_of(&other);
    int64_t cached;
    read_pack(&other, x.packs[0].id, &cached);
    shelf_free(&x);
    add_text(other.store, "two", 900, 2);
    reopen(&other);
    again = ask(&other, &SHORT);
    assert_true(again.row.cached_tokens > 0 && again.row.cached_tokens < (int64_t)again.pack.prompt.tokens.n);
    same_answer(&fresh, &again);
    answer_free(&again);
    store_close(other.store);
    engine_close(other.engine);
    remove_folder(other.dir);
    answer_free(&fresh);
}

static void snapshot_path(const world *w, char out[4096]) {
    shelf x = packs_of(w);
    char *path = NULL;
    MUST(store_pack_snapshot_path(w->store, &x.packs[0], &path, &err));
    snprintf(out, 4096, "%s", path);
    free(path);
    shelf_free(&x);
}

static void a_damaged_snapshot_is_never_believed(void **state) {
    world *w = *state;
    char path[4096];
    add_text(w->store, "one", 1500, 1);
    answer fresh = ask(w, &SHORT);
    snapshot_path(w, path);
    size_t n;
    char *bytes = read_whole(path, &n);
    assert_non_null(bytes);
    int believed = 0, missed = 0;
    for (size_t at = 5; at < n; at += 1 + n / 150) {
        bytes[at] ^= 0x40;
        write_file(path, bytes, n);
        bytes[at] ^= 0x40;
        answer a = ask(w, &SHORT);
        /* A byte of the room that is not in use yet changes nothing; any other one is noticed. */
        if (a.note)
            missed++;
        else {
            assert_int_equal(a.row.cached_tokens, fresh.pack.prompt.tokens.n);
            believed++;
        }
        same_answer(&fresh, &a);
        answer_free(&a);
    }
    assert_true(missed > 0 && believed > 0);
    for (size_t cut = 0; cut < n; cut += 1 + n / 10) {
        write_file(path, bytes, cut);
        answer a = ask(w, &SHORT);
        assert_int_equal(a.row.cached_tokens, 0);
        same_answer(&fresh, &a);
        answer_free(&a);
    }
    free(bytes);
    answer_free(&fresh);
}

static void another_models_snapshot_is_a_miss(void **state) {
    world *w = *state;
    char path[4096];
    add_text(w->store, "one", 1500, 1);
    answer fresh = ask(w, &SHORT);
    snapshot_path(w, path);
    world other = {.dir = make_folder()};
    other.store = open_at(other.dir);
    other.engine = open_model(1, NULL);
    add_text(other.store, "one", 1500, 1);
    answer a = ask(&other, &SHORT);
    assert_string_not_equal(a.row.answer, fresh.row.answer);
    assert_memory_not_equal(a.row.key, fresh.row.key, sizeof a.row.key);
    answer_free(&a);
    char foreign[4096];
    snapshot_path(&other, foreign);
    size_t n;
    char *bytes = read_whole(foreign, &n);
    write_file(path, bytes, n);
    free(bytes);
    a = ask(w, &SHORT);
    assert_int_equal(a.row.cached_tokens, 0);
    assert_non_null(a.note);
    same_answer(&fresh, &a);
    answer_free(&a);
    answer_free(&fresh);
    store_close(other.store);
    engine_close(other.engine);
    remove_folder(other.dir);
}

static void models_and_options_have_packs_of_their_own(void **state) {
    world *w = *state;
    add_text(w->store, "one", 500, 1);
    pack_all(w);
    const engine_options variants[] = {{.topk = 8}, {.dense = true}, {0}};
    for (int i = 0; i < 3; i++) {
        world other = {.dir = w->dir, .store = w->store, .engine = open_model(i == 2, &variants[i])};
        assert_memory_not_equal(engine_key(w->engine), engine_key(other.engine), 32);
        shelf x = packs_of(&other);
        assert_int_equal(x.n, 0);
        shelf_free(&x);
        answer a = ask(&other, &SHORT);
        assert_int_equal(a.row.cached_tokens, 0);
        assert_int_equal(a.packs_all, 1);
        if (variants[i].dense) assert_int_equal(a.trace.layers, 0);
        answer_free(&a);
        engine_close(other.engine);
    }
    shelf x = packs_of(w);
    assert_int_equal(x.n, 1);
    shelf_free(&x);
    store_pack *all;
    size_t n;
    MUST(store_pack_list(w->store, NULL, &all, &n, &err));
    assert_int_equal(n, 4);
    store_packs_free(all, n);
}

/* ---- stopping and being killed ---- */

typedef struct stopping {
    int64_t at;
    int64_t seen;
    bool kill;
} stopping;

static int stop_at(void *user, int64_t done, int64_t total) {
    stopping *s = user;
    (void)total;
    s->seen = done;
    if (done < s->at) return 0;
    if (s->kill) raise(SIGKILL);
    return 1;
}

static void a_stopped_reading_keeps_what_it_read(void **state) {
    world *w = *state;
    add_text(w->store, "one", 3000, 1);
    pack_all(w);
    shelf x = packs_of(w);
    loaded_pack p;
    context *c = NULL;
    int64_t cached = -1;
    ph_error why = {0};
    MUST(pack_load(&p, w->store, w->engine, x.packs[0].id, &err));
    stopping s = {.at = 1000};
    assert_int_equal(pack_read(&c, &p, w->store, w->engine, stop_at, &s, &cached, NULL, &why),
                     PH_INTERRUPTED);
    assert_null(c);
    assert_int_equal(cached, 0);
    assert_int_equal(s.seen, 1024); /* a chunk of 512 ends there */
    read_pack(w, x.packs[0].id, &cached);
    assert_int_equal(cached, 1024);
    pack_unload(&p);
    shelf_free(&x);
}

/* A child reads, and kills itself without warning once `at` tokens are done. */
static void killed_reader(const char *dir, int64_t pack, int64_t at) {
    world w = {.store = open_at(dir), .engine = open_model(0, &(engine_options){.threads = 1})};
    loaded_pack p;
    context *c;
    stopping s = {.at = at, .kill = true};
    if (pack_load(&p, w.store, w.engine, pack, NULL)) _exit(1);
    pack_read(&c, &p, w.store, w.engine, stop_at, &s, NULL, NULL, NULL);
    _exit(2); /* not reached */
}

static void kill_loses_the_chunk_in_flight_at_most(void **state) {
    world *w = *state;
    add_text(w->store, "one", 3000, 1);
    answer fresh = ask(w, &SHORT);
    char path[4096];
    snapshot_path(w, path);
    int64_t pack = fresh.row.pack, cached = -1;
    for (int64_t at = 512; at < 3000; at += 512) {
        unlink(path);
        pid_t pid = fork();
        if (pid == 0) killed_reader(w->dir, pack, at);
        assert_int_equal(wait_program(pid), 128 + SIGKILL);
        shelf x = packs_of(w); /* what is shown of it: never more than is there, and not much less */
        assert_true(x.packs[0].read <= at && x.packs[0].read > at - 2048);
        shelf_free(&x);
        read_pack(w, pack, &cached);
        assert_int_equal(cached, at);
        answer a = ask(w, &SHORT);
        same_answer(&fresh, &a);
        answer_free(&a);
    }
    /* And at a moment of no one's choosing. */
    for (int i = 0; i < 12; i++) {
        unlink(path);
        pid_t pid = fork();
        if (pid == 0) killed_reader(w->dir, pack, INT64_MAX);
        usleep((useconds_t)(2000 + 3000 * i));
        kill(pid, SIGKILL);
        wait_program(pid);
        read_pack(w, pack, &cached);
        assert_true(cached % 512 == 0 || cached == (int64_t)fresh.pack.prompt.tokens.n);
        answer a = ask(w, &SHORT);
        same_answer(&fresh, &a);
        answer_free(&a);
    }
    answer_free(&fresh);
}

/* ---- asking ---- */

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

static int make_models(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        models[i] = make_folder();
        if (tiny_model_write(models[i], &(tiny_options){.seed = (uint64_t)i + 1})) return -1;
    }
    return 0;
}

static int remove_models(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) remove_folder(models[i]);
    return 0;
}

#define IN_A_WORLD(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_A_WORLD(documents_stand_in_order_and_stay_there),
        IN_A_WORLD(the_last_pack_with_room_takes_a_document),
        IN_A_WORLD(the_model_reads_every_byte),
        IN_A_WORLD(tokens_and_bytes_find_each_other),
        IN_A_WORLD(a_removed_document_leaves_nothing_and_the_rest_is_packed_again),
        IN_A_WORLD(what_was_read_before_a_removed_document_stays),
        IN_A_WORLD(stopped_packing_places_nothing),
        IN_A_WORLD(the_end_of_a_large_document_survives_its_neighbour),
        IN_A_WORLD(an_added_document_reads_its_own_tokens_only),
        IN_A_WORLD(a_restored_answer_is_the_fresh_one),
        IN_A_WORLD(a_damaged_snapshot_is_never_believed),
        IN_A_WORLD(another_models_snapshot_is_a_miss),
        IN_A_WORLD(models_and_options_have_packs_of_their_own),
        IN_A_WORLD(a_stopped_reading_keeps_what_it_read),
        IN_A_WORLD(kill_loses_the_chunk_in_flight_at_most),
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
