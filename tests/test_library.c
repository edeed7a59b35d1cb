/* test_library.c - packs: every document stands whole and in order in the fewest contexts, stays where it is, and leaves
 * nothing when it is erased; what the model reads is every byte. */
#include "tests/test_library.h"

#include <sys/stat.h>
#include <unistd.h>

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
    };
    return cmocka_run_group_tests(tests, make_models, remove_models);
}
