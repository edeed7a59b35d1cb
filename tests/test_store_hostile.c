/* test_store_hostile.c - databases that lie: every function may refuse, none may crash or hand out a range
 * beyond its text. Run under AddressSanitizer it says more. */
#include "tests/test_store.h"

#include <sqlite3.h>

static void fill(void **state, store *s) {
    int64_t ids[3];
    for (int i = 0; i < 3; i++) {
        char text[4000];
        size_t at = 0;
        for (int k = 0; k < 40; k++)
            at += (size_t)sprintf(text + at, "Document %d says word%d and more. ", i, k * i);
        ids[i] = i ? add(s, "d", text) : add_with_file(state, s, "d", text);
    }
    ask(s, pack_of(s, ids, 3), NULL, "an answer", ids[1]);
}

/* Everything that reads, and then everything that deletes. */
static void use(store *s) {
    ph_error err;
    store_document *documents;
    store_pack *packs;
    store_answer *answers;
    store_hit *hits;
    store_segment *segments;
    store_totals totals;
    size_t n, len, count;
    char *text;
    void *trace;
    if (store_search(s, "document says word3 word4", 50, &hits, &n, &err) == PH_OK) {
        for (size_t i = 0; i < n; i++) {
            store_document d;
            if (store_document_get(s, hits[i].document, &d, &err)) continue;
            assert_true(hits[i].start <= hits[i].end && hits[i].end <= (uint64_t)d.text_bytes);
            store_document_free(&d);
        }
        free(hits);
    }
    if (store_pack_list(s, NULL, &packs, &n, &err) == PH_OK) {
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < packs[i].n_items; k++)
                assert_true(packs[i].items[k].token_start >= 0 &&
                            packs[i].items[k].token_end <= packs[i].tokens);
        store_packs_free(packs, n);
    }
    if (store_answer_list(s, 10, &answers, &n, &err) == PH_OK) {
        for (size_t i = 0; i < n; i++)
            if (store_answer_trace(s, answers[i].id, &trace, &len, &err) == PH_OK) free(trace);
        store_answers_free(answers, n);
    }
    store_count(s, &totals, &err);
    if (store_verify(s, &text, &err) == PH_OK) free(text);
    if (store_document_list(s, &documents, &n, &err) == PH_OK) {
        for (size_t i = 0; i < n; i++) {
            if (store_document_text(s, documents[i].id, &text, &len, &err) == PH_OK) {
                assert_int_equal(len, documents[i].text_bytes);
                assert_int_equal(strlen(text), len);
                free(text);
            }
            if (store_document_segments(s, documents[i].id, &segments, &count, &err) == PH_OK) {
                for (size_t k = 0; k < count; k++)
                    assert_true(segments[k].end <= (uint64_t)documents[i].text_bytes);
                store_segments_free(segments, count);
            }
            if (i) store_document_delete(s, documents[i].id, NULL, &err);
        }
        store_documents_free(documents, n);
    }
    try_add(s, "more", "more text", NULL, NULL, &err);
}

static void rows_that_lie(void **state) {
    /* The first ones are put right when they are read; the others are for verify to find. */
    enum { HARMLESS = 3 };
    static const char *const lies[] = {
        "UPDATE documents SET name = CAST(x'610062ff' AS TEXT) WHERE id = 1",
        "UPDATE citations SET mass = 9e999, lift = -9e999",
        "CREATE TRIGGER t AFTER DELETE ON documents BEGIN INSERT INTO passages (document, start, end) VALUES "
        "(1, 0, 1); "
        "END",
        "UPDATE documents SET text_bytes = text_bytes + 1",
        "UPDATE documents SET text_bytes = 1 << 40",
        "UPDATE documents SET text_bytes = -1",
        "UPDATE documents SET pages = -1, bytes = -5",
        "UPDATE documents SET segments = 1000000000",
        "UPDATE texts SET segments_bytes = 1 << 62",
        "UPDATE texts SET segments = text, segments_bytes = 10",
        "UPDATE texts SET text = x''",
        "DELETE FROM texts",
        "UPDATE passages SET start = -1",
        "UPDATE passages SET end = 1 << 40",
        "UPDATE passages SET document = 77",
        "DELETE FROM passages",
        "UPDATE pack_items SET token_start = -1",
        "UPDATE pack_items SET token_end = 1 << 60",
        "UPDATE pack_items SET text_end = -1",
        "UPDATE pack_items SET document = 77",
        "UPDATE packs SET tokens = -1",
        "UPDATE packs SET read = -1, id = -4",
        "UPDATE citations SET page = -1",
        "UPDATE citations SET start = -1",
        "UPDATE traces SET bytes = 1 << 50",
        "UPDATE traces SET trace = x'28b52ffd'",
        "UPDATE answers SET question = 99",
        "UPDATE answers SET pack = 99",
        "DELETE FROM questions",
        "DROP TABLE traces",
        "DROP TABLE passages_fts",
        "DROP TABLE passages",
        "DROP TABLE documents; CREATE VIEW documents AS SELECT 1 AS id, load_extension('x') AS name",
        "DROP TABLE packs; CREATE TABLE packs (id, key, tokens, read); INSERT INTO packs VALUES ('x', 5, "
        "'y', x'00')",
    };
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        store *s = open_store(state);
        fill(state, s);
        store_close(s);
        sqlite3 *db;
        char *said = NULL;
        assert_int_equal(sqlite3_open(below(state, "store/pharos.db"), &db), SQLITE_OK);
        if (sqlite3_exec(db, lies[i], NULL, NULL, &said)) fail_msg("%s: %s", lies[i], said);
        sqlite3_close(db);
        ph_error err;
        if (store_open(&s, below(state, "store"), &err) == PH_OK) {
            char *report = NULL;
            if (store_verify(s, &report, &err) == PH_OK && !*report && i >= HARMLESS)
                fail_msg("verify did not see: %s", lies[i]);
            free(report);
            use(s);
            store_close(s);
        }
        remove_tree(below(state, "store"));
    }
}

static void bytes_that_flip(void **state) {
    store *s = open_store(state);
    fill(state, s);
    store_close(s);
    size_t n = 0;
    char *good = read_whole(below(state, "store/pharos.db"), &n), *bad = malloc(n);
    assert_true(good && bad && n > 0);
    unsigned seed = 7;
    for (int round = 0; round < 150; round++) {
        memcpy(bad, good, n);
        size_t size = n;
        for (int k = 0; k < 1 + round % 20; k++) {
            seed = seed * 1664525 + 1013904223;
            size_t at = (seed >> 3) % n;
            seed = seed * 1664525 + 1013904223;
            bad[at] = (char)(seed >> 24);
        }
        if (round % 10 == 9) size = (seed >> 4) % n; /* cut */
        write_file(below(state, "store/pharos.db"), bad, size);
        unlink(below(state, "store/pharos.db-wal"));
        unlink(below(state, "store/pharos.db-shm"));
        ph_error err;
        if (store_open(&s, below(state, "store"), &err) == PH_OK) {
            use(s);
            store_close(s);
        }
    }
    free(good);
    free(bad);
}

static void originals_that_change_are_reported(void **state) {
    store *s = open_store(state);
    int64_t id = add_with_file(state, s, "a", "the original");
    char *path, *report;
    ok(store_document_file(s, id, &path, err));
    write_file(path, "something else", 14);
    ok(store_verify(s, &report, err));
    assert_non_null(strstr(report, "has changed"));
    free(report);
    unlink(path);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    ok(store_verify(s, &report, err));
    assert_non_null(strstr(report, "cannot be opened"));
    free(report);
    unlink(path);
    ok(store_verify(s, &report, err));
    assert_non_null(strstr(report, "cannot be opened"));
    free(report);
    write_file(below(state, "store/snapshots/pack-9.snapshot"), "x", 1);
    write_file(below(state, "store/files/letter.txt"), "x", 1);
    ok(store_verify(s, &report, err));
    assert_non_null(strstr(report, "pack-9.snapshot"));
    assert_non_null(strstr(report, "letter.txt"));
    free(report);
    store_close(s);
    /* What follows the store's own naming is swept at the next open, the rest is a person's and stays. */
    s = open_store(state);
    assert_int_not_equal(access(below(state, "store/snapshots/pack-9.snapshot"), F_OK), 0);
    assert_int_equal(access(below(state, "store/files/letter.txt"), F_OK), 0);
    store_close(s);
    free(path);
}

int main(void) {
    if (sodium_init() < 0) return 1;
#define t(test) cmocka_unit_test_setup_teardown(test, make_folder, drop_folder)
    const struct CMUnitTest tests[] = {
        t(rows_that_lie),
        t(bytes_that_flip),
        t(originals_that_change_are_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
