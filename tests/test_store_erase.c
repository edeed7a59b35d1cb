/* test_store_erase.c - after a delete nothing is left, and the receipt tells the truth. */
#include "tests/test_store.h"

#include <sqlite3.h>

#define MARKER "zqmarkerqz"

/* So much text that the words and the blob fill many pages, and segments of the index get merged. */
static char *long_text(const char *marker, int seed, size_t size) {
    char *text = malloc(size + 256);
    size_t at = 0;
    for (int i = 0; at < size; i++)
        at += (size_t)sprintf(text + at, "Line %d of %s %s%dx%d says word%d. ", i, marker, marker, seed, i,
                              (i * 7919 + seed * 31) % 5003);
    return text;
}

static void write_snapshot(store *s, int64_t pack, const char *text) {
    store_pack p = {.id = pack};
    char *path;
    ok(store_pack_snapshot_path(s, &p, &path, err));
    write_file(path, text, strlen(text));
    free(path);
}

static void nothing_is_left(void **state, size_t size) {
    const char *dir = strdup(below(state, "store"));
    store *s = open_store(state);
    int64_t others[4];
    for (int i = 0; i < 4; i++) {
        char *text = long_text("other", i, 30000);
        others[i] = add_with_file(state, s, "other", text);
        free(text);
    }
    char *text = long_text(MARKER, 0, size);
    int64_t id = add_with_file(state, s, MARKER ".txt", text);
    size_t text_bytes = strlen(text);
    free(text);
    for (int i = 4; i < 6; i++) {
        char *more = long_text("other", i, 30000);
        add(s, "other", more);
        free(more);
    }
    int64_t mixed[] = {others[0], id};
    int64_t with = pack_of(s, mixed, 2), without = pack_of(s, others, 4), talk = 0;
    write_snapshot(s, with, "latents of " MARKER);
    write_snapshot(s, without, "latents");
    ask(s, with, &talk, "It says " MARKER " many times.", id);
    ask(s, without, &talk, "As I said: " MARKER, 0); /* the conversation has read it */
    int64_t stays = ask(s, without, NULL, "Something else.", others[0]);
    assert_true(occurrences(dir, MARKER) > 0);

    store_receipt r;
    ok(store_document_delete(s, id, &r, err));
    assert_int_equal(r.documents, 1);
    assert_int_equal(r.files, 1);
    assert_int_equal(r.file_bytes, text_bytes);
    assert_int_equal(r.text_bytes, text_bytes);
    assert_int_equal(r.segments, 1);
    assert_int_equal(r.packs, 1);
    assert_int_equal(r.snapshots, 1);
    assert_true(r.snapshot_bytes > 0);
    assert_int_equal(r.questions, 2);
    assert_int_equal(r.answers, 2);
    assert_int_equal(r.citations, 1);
    assert_int_equal(r.traces, 2);

    /* While the store is open (the log is a file then), and after it was closed. */
    assert_int_equal(occurrences(dir, MARKER), 0);
    assert_int_equal(occurrences(dir, "zqmarker"), 0);
    store_hit *hits;
    size_t n;
    ok(store_search(s, MARKER " " MARKER "0x17", 5, &hits, &n, err));
    assert_int_equal(n, 0);
    ok(store_search(s, "other2x17", 5, &hits, &n, err)); /* the others are still found */
    assert_int_equal(n, 1);
    assert_int_equal(hits[0].document, others[2]);
    free(hits);
    store_answer a;
    ok(store_answer_get(s, 0, &a, err));
    assert_int_equal(a.id, stays);
    store_answer_free(&a);
    assert_whole(s);
    store_close(s);

    /* FTS5 keeps words with their common beginning cut off, so the vocabulary is asked as well. */
    sqlite3 *db;
    sqlite3_stmt *words;
    assert_int_equal(sqlite3_open(below(state, "store/pharos.db"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "CREATE VIRTUAL TABLE temp.v USING fts5vocab(main, passages_fts, row)",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_prepare_v2(db, "SELECT count(*), sum(term LIKE 'zqm%') FROM v", -1, &words, NULL);
    assert_int_equal(sqlite3_step(words), SQLITE_ROW);
    assert_true(sqlite3_column_int(words, 0) > 1000);
    assert_int_equal(sqlite3_column_int(words, 1), 0);
    sqlite3_finalize(words);
    sqlite3_close(db);
    assert_int_equal(occurrences(dir, "zqmarker"), 0);
    free((char *)dir);
}

/* The most of the index: it is made again from the others. */
static void nothing_is_left_of_a_large_document(void **state) {
    nothing_is_left(state, 400000);
}

/* A part of the index: its words are taken out one by one. */
static void nothing_is_left_of_a_document(void **state) {
    nothing_is_left(state, 60000);
}

/* The pack was given other documents since, but its snapshot and its answers may still know the first one. */
static void what_a_pack_once_held_counts(void **state) {
    store *s = open_store(state);
    int64_t ids[] = {add(s, "a", "text a " MARKER), add(s, "b", "text b")}, pack = pack_of(s, ids, 1);
    ask(s, pack, NULL, MARKER, 0);
    store_pack_item item = {.document = ids[1], .text_end = 6};
    store_pack p = {.id = pack, .key = {7}, .items = &item, .n_items = 1};
    ok(store_pack_put(s, &p, err));
    ask(s, pack, NULL, "later", 0);
    store_receipt r;
    ok(store_document_delete(s, ids[0], &r, err));
    assert_int_equal(r.packs, 1);
    assert_int_equal(r.answers, 2);
    assert_int_equal(r.snapshots, 0);
    assert_int_equal(occurrences(below(state, "store"), MARKER), 0);
    /* And nothing of an answer that was being written meanwhile. */
    store_answer a = {.pack = pack, .question = lit("q"), .answer = lit(MARKER)};
    fails(PH_NOT_FOUND, store_answer_add(s, &a, NULL, 0, err));
    assert_whole(s);
    store_close(s);
}

static int64_t follow(store *s, int64_t answer, const char *says) {
    store_answer a = {.question = lit("and?"), .answer = (char *)says, .follows = answer, .turns = 1};
    ok(store_answer_add(s, &a, "trace", 5, err));
    return a.id;
}

/* What was answered with an exchange before the model's eyes goes with it, whoever erases it and how. */
static void what_follows_goes_along(void **state) {
    store *s = open_store(state);
    const char *dir = strdup(below(state, "store"));
    int64_t first = ask(s, 0, NULL, "first", 0), second = follow(s, first, MARKER " second"),
            third = follow(s, second, "as said, " MARKER), other = follow(s, first, "the other way");
    store_receipt r;
    store_answer a;
    ok(store_answer_delete(s, second, &r, err));
    assert_true(r.answers == 2 && r.questions == 2 && r.traces == 2);
    fails(PH_NOT_FOUND, store_answer_get(s, third, &a, err));
    assert_int_equal(occurrences(dir, MARKER), 0);
    ok(store_answer_get(s, other, &a, err));
    assert_int_equal(a.follows, first);
    store_answer_free(&a);
    assert_whole(s);
    /* An answer that was being written while what it follows was erased is not kept. */
    a = (store_answer){.question = lit("q"), .answer = lit(MARKER), .follows = second};
    fails(PH_NOT_FOUND, store_answer_add(s, &a, NULL, 0, err));

    /* By the document that the first was answered from; a conversation beside it stays. */
    int64_t ids[] = {add(s, "a", "text a")}, pack = pack_of(s, ids, 1);
    int64_t from = ask(s, pack, NULL, "from the document", 0);
    follow(s, follow(s, from, "on"), "and on");
    ok(store_document_delete(s, ids[0], &r, err));
    assert_true(r.answers == 3 && r.questions == 3 && r.traces == 3);
    store_answer *list;
    size_t n;
    ok(store_answer_list(s, 10, &list, &n, err));
    assert_int_equal(n, 2);
    assert_int_equal(list[0].id, other);
    store_answers_free(list, n);
    assert_whole(s);

    /* A thousand in a row. */
    int64_t last = first;
    for (int i = 0; i < 1000; i++) last = follow(s, last, "on");
    ok(store_answer_delete(s, first, &r, err));
    assert_int_equal(r.answers, 1002);
    assert_whole(s);
    store_close(s);
    free((char *)dir);
}

static void answers_before_the_document_stay_without_trace(void **state) {
    store *s = open_store(state);
    int64_t ids[] = {add(s, "a", "text a"), add(s, "b", "text b")}, pack = pack_of(s, ids, 1);
    int64_t before = ask(s, pack, NULL, "before", ids[0]);
    store_pack_item items[] = {{.document = ids[0], .text_end = 6}, {.document = ids[1], .text_end = 6}};
    store_pack p = {.id = pack, .key = {7}, .items = items, .n_items = 2};
    ok(store_pack_put(s, &p, err));
    ask(s, pack, NULL, "after", 0);
    store_receipt r;
    ok(store_document_delete(s, ids[1], &r, err));
    assert_int_equal(r.answers, 1);
    assert_int_equal(r.traces, 2);
    store_answer a;
    ok(store_answer_get(s, 0, &a, err));
    assert_int_equal(a.id, before);
    assert_int_equal(a.pack, 0);
    assert_int_equal(a.n_citations, 1);
    store_answer_free(&a);
    void *trace;
    size_t n;
    fails(PH_NOT_FOUND, store_answer_trace(s, before, &trace, &n, err));
    assert_whole(s);
    store_close(s);
}

static void packs_go_with_their_files(void **state) {
    store *s = open_store(state);
    int64_t id = add(s, "a", "text a"), pack = pack_of(s, &id, 1), other = pack_of(s, &id, 1);
    int64_t answer = ask(s, pack, NULL, "x", id);
    char *path;
    store_pack p = {.id = pack};
    ok(store_pack_snapshot_path(s, &p, &path, err));
    int fd = open(path, O_CREAT | O_RDWR, 0600);
    assert_int_equal(ftruncate(fd, 1 << 30), 0); /* sparse: what it takes is counted, not what it seems */
    assert_int_equal(pwrite(fd, "x", 1, 1 << 29), 1);
    close(fd);
    free(path);
    write_snapshot(s, other, "other");
    store_receipt r;
    ok(store_pack_delete(s, pack, &r, err));
    assert_true(r.packs == 1 && r.snapshots == 1 && r.traces == 1 && r.answers == 0 && r.documents == 0);
    assert_true(r.snapshot_bytes > 0 && r.snapshot_bytes < 1 << 20);
    assert_int_not_equal(access(below(state, "store/snapshots/pack-1.snapshot"), F_OK), 0);
    assert_int_equal(access(below(state, "store/snapshots/pack-2.snapshot"), F_OK), 0);
    store_answer a;
    ok(store_answer_get(s, answer, &a, err));
    assert_int_equal(a.pack, 0);
    store_answer_free(&a);
    assert_int_equal(pack_of(s, &id, 1), 3); /* a number does not come back */
    assert_whole(s);
    store_close(s);
}

static void a_damaged_document_can_be_deleted(void **state) {
    store *s = open_store(state);
    add(s, "a", "the first document");
    int64_t id = add(s, "b", "the second " MARKER);
    add(s, "c", "the third lighthouse");
    store_close(s);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(below(state, "store/pharos.db"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "UPDATE texts SET text = x'0102' WHERE document = 2", NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);
    s = open_store(state);
    char *text, *report;
    size_t n;
    fails(PH_CORRUPT, store_document_text(s, id, &text, &n, err));
    ok(store_verify(s, &report, err));
    assert_non_null(strstr(report, "document 2"));
    free(report);
    store_hit *hits;
    ok(store_search(s, MARKER, 5, &hits, &n, err));
    assert_int_equal(n, 1);
    free(hits);
    store_receipt r;
    ok(store_document_delete(s, id, &r, err));
    assert_int_equal(r.documents, 1);
    assert_int_equal(occurrences(below(state, "store"), MARKER), 0);
    ok(store_search(s, "lighthouse", 5, &hits, &n, err));
    assert_int_equal(n, 1);
    assert_int_equal(hits[0].document, 3);
    free(hits);
    assert_whole(s);
    store_close(s);
}

/* A reader in the middle of a query keeps the log: the caller is told, and the next delete finishes it. */
static void an_open_reader_is_told_about(void **state) {
    store *s = open_store(state);
    int64_t a = add(s, "a", "text " MARKER), b = add(s, "b", "text b");
    sqlite3 *reader;
    sqlite3_stmt *rows;
    assert_int_equal(sqlite3_open(below(state, "store/pharos.db"), &reader), SQLITE_OK);
    sqlite3_prepare_v2(reader, "SELECT id FROM documents", -1, &rows, NULL);
    assert_int_equal(sqlite3_step(rows), SQLITE_ROW);
    store_receipt r;
    ph_error why = {0};
    assert_int_equal(store_document_delete(s, a, &r, &why), PH_BUSY);
    assert_int_equal(r.documents, 1);
    assert_non_null(strstr(why.text, "it is deleted, but"));
    store_document d;
    assert_int_equal(store_document_get(s, a, &d, &why), PH_NOT_FOUND);
    sqlite3_finalize(rows);
    sqlite3_close(reader);
    assert_true(occurrences(below(state, "store"), MARKER) > 0);
    ok(store_document_delete(s, b, &r, err));
    assert_int_equal(occurrences(below(state, "store"), MARKER), 0);
    store_close(s);
}

static void evaluation_runs_go_too(void **state) {
    store *s = open_store(state);
    int64_t a = add(s, "a", "text a"), b = add(s, "b", "text b");
    for (int i = 0; i < 2; i++) {
        store_run run = {.kind = lit("recall"),
                         .command = lit("c"),
                         .parameters = lit("{}"),
                         .model = lit("m"),
                         .cells = 1,
                         .note = lit("")};
        ok(store_run_add(s, &run, i ? &b : &a, 1, err));
        store_cell cell = {.number = 0, .result = lit(i ? "b" : MARKER), .timing = lit("{}")};
        ok(store_cell_put(s, run.id, &cell, err));
    }
    store_receipt r;
    ok(store_document_delete(s, a, &r, err));
    assert_int_equal(r.runs, 1);
    assert_int_equal(occurrences(below(state, "store"), MARKER), 0);
    store_run *runs;
    size_t n;
    ok(store_run_list(s, 10, &runs, &n, err));
    assert_int_equal(n, 1);
    store_runs_free(runs, n);
    assert_whole(s);
    store_close(s);
}

/* A file of questions belongs to one run and goes with it; one that no run took is forgotten in time. */
static void questions_go_with_their_run(void **state) {
    store *s = open_store(state);
    int64_t file, other, of_run;
    char *name, *bytes;
    size_t n;
    ph_error why;
    ok(store_questions_add(s, "mine.jsonl", MARKER, strlen(MARKER), &file, err));
    store_run run = {.kind = lit("qa"),
                     .command = lit("c"),
                     .parameters = lit("{}"),
                     .model = lit("m"),
                     .cells = 1,
                     .note = lit(""),
                     .questions = file};
    ok(store_run_add(s, &run, NULL, 0, err));
    ok(store_questions_get(s, file, &name, &bytes, &n, &of_run, err));
    assert_string_equal(name, "mine.jsonl");
    assert_string_equal(bytes, MARKER);
    assert_int_equal(n, strlen(MARKER));
    assert_int_equal(of_run, run.id);
    free(name);
    free(bytes);
    /* It is nobody else's. */
    store_run second = run;
    assert_int_equal(store_run_add(s, &second, NULL, 0, &why), PH_NOT_FOUND);
    assert_true(occurrences(below(state, "store"), MARKER) > 0);
    ok(store_questions_forget(s, INT64_MAX, err));
    assert_true(occurrences(below(state, "store"), MARKER) > 0);
    ok(store_run_delete(s, run.id, err));
    assert_int_equal(occurrences(below(state, "store"), MARKER), 0);
    assert_int_equal(store_questions_get(s, file, &name, &bytes, &n, &of_run, &why), PH_NOT_FOUND);
    ok(store_questions_add(s, "b", MARKER, strlen(MARKER), &other, err));
    ok(store_questions_forget(s, 0, err));
    assert_true(occurrences(below(state, "store"), MARKER) > 0);
    ok(store_questions_forget(s, INT64_MAX, err));
    assert_int_equal(occurrences(below(state, "store"), MARKER), 0);
    assert_whole(s);
    store_close(s);
}

/* Deletes among adds, many times: pages are reused, the index is merged again and again. */
static void deleting_over_and_over(void **state) {
    store *s = open_store(state);
    int64_t ids[12] = {0};
    char names[12][24];
    unsigned seed = 1;
    for (int round = 0; round < 120; round++) {
        int k = (int)((seed = seed * 1103515245 + 12345) >> 16) % 12;
        if (ids[k]) {
            ok(store_document_delete(s, ids[k], NULL, err));
            assert_int_equal(occurrences(below(state, "store"), names[k]), 0);
            ids[k] = 0;
        } else {
            snprintf(names[k], sizeof names[k], "qq%dmark%dqq", k, round);
            char *text = long_text(names[k], round, 100 + (seed >> 8) % 20000);
            ids[k] = k % 2 ? add(s, names[k], text) : add_with_file(state, s, names[k], text);
            free(text);
        }
    }
    assert_whole(s);
    store_close(s);
}

int main(void) {
    if (sodium_init() < 0) return 1;
#define t(test) cmocka_unit_test_setup_teardown(test, make_folder, drop_folder)
    const struct CMUnitTest tests[] = {
        t(nothing_is_left_of_a_document),
        t(nothing_is_left_of_a_large_document),
        t(what_follows_goes_along),
        t(what_a_pack_once_held_counts),
        t(answers_before_the_document_stay_without_trace),
        t(packs_go_with_their_files),
        t(a_damaged_document_can_be_deleted),
        t(an_open_reader_is_told_about),
        t(evaluation_runs_go_too),
        t(questions_go_with_their_run),
        t(deleting_over_and_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
