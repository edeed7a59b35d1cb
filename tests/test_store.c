/* test_store.c - the store's functions, one after another; see test_store_erase.c, _crash.c and _hostile.c.
 */
#include "store/internal.h"
#include "tests/test_store.h"

#include <math.h>
#include <sqlite3.h>

static void opens_and_opens_again(void **state) {
    struct stat st;
    store *s;
    ok(store_open(&s, below(state, "a/b/store"), err));
    assert_true(store_dir(s)[0] == '/');
    assert_int_equal(stat(below(state, "a"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(stat(below(state, "a/b/store/pharos.db"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(below(state, "a/b/store/pharos.db-wal"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    store_close(s);
    assert_int_not_equal(stat(below(state, "a/b/store/pharos.db-wal"), &st), 0);
    ok(store_open(&s, below(state, "a/b/store"), err));
    assert_whole(s);
    store_close(s);
    store_close(NULL);
    fails(PH_USAGE, store_open(&s, "", err));
    assert_null(s);
    write_file(below(state, "plain"), "x", 1);
    fails(PH_FAIL, store_open(&s, below(state, "plain"), err));
}

static void documents_come_back(void **state) {
    store *s = open_store(state);
    const char *text = "First line.\nSecond line \xC3\xA9.\n";
    char *original = strdup(below(state, "report.pdf"));
    write_file(original, "original bytes", 14);
    float rects[8] = {1, 2, 3, 4.5f, 5, 6, 7, 8};
    store_segment segments[] = {
        {.start = 0, .end = 11, .page = 1, .rects = rects, .n_rects = 2},
        {.start = 12, .end = 27, .page = 3, .src_start = 5, .src_end = UINT64_MAX},
        {.start = 27, .end = 27, .page = 2},
    };
    store_document d = {.name = lit("a/report.pdf"),
                        .source = original,
                        .media_type = lit("application/pdf"),
                        .title = lit("T\"';--"),
                        .warning = lit("w"),
                        .picture_pages = lit("3,7-9"),
                        .ocr = lit("eng+deu"),
                        .bytes = 14,
                        .added_at = 5,
                        .source_mtime_ns = 77,
                        .pages = 3};
    crypto_generichash(d.hash, 32, (const uint8_t *)"original bytes", 14, NULL, 0);
    int64_t existing = 9;
    ok(store_document_add(s, &d, text, segments, 3, original, &existing, err));
    assert_int_equal(existing, 0);
    assert_int_equal(d.text_bytes, (int64_t)strlen(text));
    assert_string_equal(d.name, "a/report.pdf");
    free(d.name);
    int64_t id = d.id;

    store_document got;
    ok(store_document_get(s, id, &got, err));
    assert_string_equal(got.name, "a/report.pdf");
    assert_string_equal(got.source, original);
    assert_string_equal(got.title, "T\"';--");
    assert_string_equal(got.picture_pages, "3,7-9");
    assert_string_equal(got.ocr, "eng+deu");
    store_document noted;
    ok(store_document_set_ocr(s, d.id, "fra", err));
    ok(store_document_get(s, d.id, &noted, err));
    assert_string_equal(noted.ocr, "fra");
    store_document_free(&noted);
    fails(PH_NOT_FOUND, store_document_set_ocr(s, 4711, "fra", err));
    assert_int_equal(got.pages, 3);
    assert_int_equal(got.source_mtime_ns, 77);
    assert_memory_equal(got.hash, d.hash, 32);
    store_document_free(&got);
    ok(store_document_by_hash(s, d.hash, &got, err));
    assert_int_equal(got.id, id);
    store_document_free(&got);

    char *back, *path;
    size_t n;
    ok(store_document_text(s, id, &back, &n, err));
    assert_int_equal(n, strlen(text));
    assert_string_equal(back, text);
    free(back);
    store_segment *list;
    ok(store_document_segments(s, id, &list, &n, err));
    assert_int_equal(n, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_true(list[i].start == segments[i].start && list[i].end == segments[i].end);
        assert_true(list[i].page == segments[i].page && list[i].src_end == segments[i].src_end);
        assert_int_equal(list[i].n_rects, segments[i].n_rects);
    }
    assert_memory_equal(list[0].rects, rects, sizeof rects);
    store_segments_free(list, n);
    ok(store_document_file(s, id, &path, err));
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    back = read_whole(path, &n);
    assert_string_equal(back, "original bytes");
    free(back);
    free(path);

    /* The same content again, under another name. */
    d.name = lit("other.pdf");
    ok(store_document_add(s, &d, text, segments, 3, original, &existing, err));
    assert_int_equal(existing, id);
    assert_int_equal(d.id, 0);
    assert_string_equal(d.name, "other.pdf");

    fails(PH_NOT_FOUND, store_document_get(s, 99, &got, err));
    fails(PH_NOT_FOUND, store_document_text(s, 99, &back, &n, err));
    fails(PH_NOT_FOUND, store_document_segments(s, 99, &list, &n, err));
    fails(PH_NOT_FOUND, store_document_file(s, 99, &path, err));
    int64_t bare = add(s, "bare", "no original");
    fails(PH_NOT_FOUND, store_document_file(s, bare, &path, err));
    int64_t empty = add(s, "empty", "");
    ok(store_document_text(s, empty, &back, &n, err));
    assert_int_equal(n, 0);
    free(back);
    assert_whole(s);
    store_close(s);
    free(original);
}

static void originals_must_be_what_was_read(void **state) {
    store *s = open_store(state);
    store_document d = {.name = lit("x"), .hash = {1, 2, 3}};
    char *path = strdup(below(state, "file"));
    write_file(path, "now", 3);
    fails(PH_FAIL, store_document_add(s, &d, "then", NULL, 0, path, NULL, err));
    fails(PH_NOT_FOUND, store_document_add(s, &d, "then", NULL, 0, "/nonexistent/file", NULL, err));
    fails(PH_UNSUPPORTED, store_document_add(s, &d, "then", NULL, 0, "/dev/null", NULL, err));
    store_segment bad[] = {{.start = 3, .end = 2}, {.start = 0, .end = 5}, {.start = 1, .end = 2}};
    fails(PH_USAGE, store_document_add(s, &d, "then", bad, 1, NULL, NULL, err));
    fails(PH_USAGE, store_document_add(s, &d, "then", bad + 1, 1, NULL, NULL, err));
    store_segment crossing[] = {{.start = 0, .end = 3}, {.start = 2, .end = 4}};
    fails(PH_USAGE, store_document_add(s, &d, "then", crossing, 2, NULL, NULL, err));
    float nowhere[4] = {NAN, 0, 0, 0};
    store_segment odd = {.start = 0, .end = 1, .rects = nowhere, .n_rects = 1};
    fails(PH_USAGE, store_document_add(s, &d, "then", &odd, 1, NULL, NULL, err));
    store_document *list;
    size_t n;
    ok(store_document_list(s, &list, &n, err));
    assert_int_equal(n, 0);
    assert_null(list);
    assert_int_equal(occurrences(below(state, "store/files"), "now"), 0);
    assert_whole(s);
    store_close(s);
    free(path);
}

static void assert_found(store *s, const char *key, int64_t id) {
    store_document d;
    ok(store_document_find(s, key, &d, err));
    assert_int_equal(d.id, id);
    store_document_free(&d);
}

static void names_are_unique_and_found(void **state) {
    store *s = open_store(state);
    static const char *const wanted[] = {"a/report.pdf",
                                         "a/report.pdf",
                                         "a/report.pdf",
                                         "b.x/noext",
                                         "b.x/noext",
                                         ".profile",
                                         ".profile",
                                         "",
                                         "",
                                         "x'; DROP TABLE documents;--%\n\"",
                                         "bad\xFF\xC3utf",
                                         "a/report (2).pdf",
                                         "2024"};
    static const char *const given[] = {"a/report.pdf",
                                        "a/report (2).pdf",
                                        "a/report (3).pdf",
                                        "b.x/noext",
                                        "b.x/noext (2)",
                                        ".profile",
                                        ".profile (2)",
                                        "untitled",
                                        "untitled (2)",
                                        "x'; DROP TABLE documents;--%\n\"",
                                        "bad\xEF\xBF\xBD\xEF\xBF\xBDutf",
                                        "a/report (2) (2).pdf",
                                        "2024"};
    size_t n = sizeof wanted / sizeof *wanted;
    for (size_t i = 0; i < n; i++) {
        char text[16];
        snprintf(text, sizeof text, "text %zu", i);
        int64_t id = add(s, wanted[i], text);
        store_document d;
        ok(store_document_get(s, id, &d, err));
        assert_string_equal(d.name, given[i]);
        store_document_free(&d);
        assert_found(s, given[i], id);
    }
    store_document d;
    assert_found(s, "3", 3);
    assert_found(s, "2024", 13); /* no such id: then it is a name */
    assert_found(s, "report (3).pdf", 3);
    assert_found(s, "bad\xFF\xC3utf", 11);
    assert_found(s, "noext", 4);
    add(s, "z/report (3).pdf", "another");
    fails(PH_USAGE, store_document_find(s, "report (3).pdf", &d, err));
    fails(PH_NOT_FOUND, store_document_find(s, "port.pdf", &d, err));
    fails(PH_NOT_FOUND, store_document_find(s, "%", &d, err));
    fails(PH_NOT_FOUND, store_document_find(s, "99999999999999999999999999", &d, err));
    fails(PH_USAGE, store_document_find(s, "", &d, err));
    int64_t by_source = 0;
    char *path = strdup(below(state, "somewhere.txt"));
    write_file(path, "from a path", 11);
    ok(try_add(s, "n", "from a path", path, &by_source, err));
    assert_found(s, path, by_source);
    free(path);
    assert_whole(s);
    store_close(s);
}

static size_t documents_in(store *s) {
    store_totals t;
    ok(store_count(s, &t, err));
    return (size_t)t.documents;
}

static void transactions_nest(void **state) {
    store *s = open_store(state);
    ok(store_begin(s, err));
    add_with_file(state, s, "one", "text of one");
    ok(store_begin(s, err));
    add(s, "two", "text of two");
    ok(store_commit(s, err));
    store_document d;
    fails(PH_NOT_FOUND, store_document_delete(s, 77, NULL, err)); /* refuses; undoes nothing */
    fails(PH_NOT_FOUND, store_document_get(s, 77, &d, err));
    ok(store_commit(s, err));
    assert_int_equal(documents_in(s), 2);

    /* Rolled back: the rows, and the original that was already in its place. */
    ok(store_begin(s, err));
    int64_t id = add_with_file(state, s, "three", "text of three");
    char *path;
    ok(store_document_file(s, id, &path, err));
    assert_int_equal(access(path, F_OK), 0);
    store_rollback(s);
    assert_int_not_equal(access(path, F_OK), 0);
    free(path);
    assert_int_equal(documents_in(s), 2);

    /* An inner rollback undoes the whole; the outer ends cannot succeed. */
    ok(store_begin(s, err));
    add(s, "four", "text of four");
    ok(store_begin(s, err));
    store_rollback(s);
    fails(PH_FAIL, store_begin(s, err));
    fails(PH_FAIL, store_commit(s, err));
    assert_int_equal(documents_in(s), 2);

    /* A delete whose transaction is rolled back keeps the file. */
    ok(store_document_file(s, 1, &path, err));
    ok(store_begin(s, err));
    ok(store_document_delete(s, 1, NULL, err));
    assert_int_equal(access(path, F_OK), 0);
    store_rollback(s);
    assert_int_equal(access(path, F_OK), 0);
    free(path);
    assert_int_equal(documents_in(s), 2);
    fails(PH_USAGE, store_commit(s, err));
    store_rollback(s);
    ok(store_begin(s, err));
    add(s, "five", "text of five");
    store_close(s); /* rolls back */
    s = open_store(state);
    assert_int_equal(documents_in(s), 2);
    assert_whole(s);
    store_close(s);
}

static int64_t best(store *s, const char *question) {
    store_hit *hits;
    size_t n;
    ok(store_search(s, question, 5, &hits, &n, err));
    assert_true(n <= 5);
    int64_t id = n ? hits[0].document : 0;
    for (size_t i = 1; i < n; i++) assert_true(hits[i - 1].score >= hits[i].score);
    free(hits);
    return id;
}

static void searches(void **state) {
    store *s = open_store(state);
    int64_t gpl = add(s, "gpl", "The General Public License, version 3, was published on 29 June 2007.");
    int64_t cafe = add(s, "cafe", "Le caf\xC3\xA9 est ferm\xC3\xA9. It is.");
    int64_t sea = add(s, "sea", "The lighthouse keeper\xE2\x80\x99s daughter kept watch; the what is that.");
    int64_t russian = add(
        s, "ru",
        "\xD0\x9C\xD0\xB0\xD1\x8F\xD0\xBA \xD0\xBD\xD0\xB0 \xD0\xB1\xD0\xB5\xD1\x80\xD0\xB5\xD0\xB3\xD1\x83");
    assert_int_equal(best(s, "When was the GPL's version published?"), gpl);
    assert_int_equal(best(s, "publishing licenses"), gpl); /* stems */
    assert_int_equal(best(s, "CAFE"), cafe);
    assert_int_equal(best(s, "\xE2\x80\x9Clighthouse\xE2\x80\x9D\xE2\x80\x94tower"), sea);
    assert_int_equal(best(s, "\xD0\xBC\xD0\xB0\xD1\x8F\xD0\xBA"), russian);
    assert_int_equal(best(s, "what is that"), sea); /* only common words: then they count */
    assert_int_equal(best(s, ""), 0);
    assert_int_equal(best(s, "?!.,"), 0);
    assert_int_equal(best(s, "nowherewordatall"), 0);
    static const char *const syntax[] = {"\"",         "\"\"\"",   "text:",        "a* b*", "NEAR(a b)",
                                         "NOT AND OR", "(((",      "{x}:^y",       "-x +y", "\xFF\xFE",
                                         "\xC2",       "\xE2\x80", "a\"b\" OR \"c"};
    for (size_t i = 0; i < sizeof syntax / sizeof *syntax; i++) best(s, syntax[i]);
    char *many = malloc(1000 * 1000 + 1), *end = many;
    for (int i = 0; i < 100 * 1000; i++) end += sprintf(end, "word%05d ", i);
    best(s, many);
    memset(many, 'x', 1000 * 1000);
    best(s, many);
    free(many);
    store_hit *hits;
    size_t n;
    ok(store_search(s, "license", 0, &hits, &n, err));
    assert_int_equal(n, 0);
    store_close(s);
}

/* Every word of a long text is found at its place, whatever the text's lines look like. */
static void passages_cover_the_text(void **state) {
    store *s = open_store(state);
    static const char *const between[] = {" ", "\n", ". ", "\n\n", "  \t", ""};
    for (size_t k = 0; k < sizeof between / sizeof *between; k++) {
        size_t size = 200000, at = 0;
        char *text = malloc(size + 64);
        for (int i = 0; at < size; i++)
            at += (size_t)sprintf(text + at, "%sk%zuw%d%s", *between[k] ? "" : "\xC3\xA9", k, i, between[k]);
        int64_t id = add(s, "long", text);
        if (*between[k]) {
            for (int i = 0; i < 15000; i += 997) {
                char word[32];
                store_hit *hits;
                size_t n;
                snprintf(word, sizeof word, "k%zuw%d", k, i);
                ok(store_search(s, word, 3, &hits, &n, err));
                assert_int_equal(n, 1);
                assert_int_equal(hits[0].document, id);
                assert_true(hits[0].end - hits[0].start <= 750);
                assert_non_null(
                    memmem(text + hits[0].start, hits[0].end - hits[0].start, word, strlen(word)));
                free(hits);
            }
        }
        free(text);
    }
    /* One word of eight million bytes, and bytes that are no text: linear, and no passage without end. */
    char *word = malloc((8 << 20) + 1);
    memset(word, 'x', 8 << 20);
    word[8 << 20] = 0;
    add(s, "word", word);
    memset(word, 0xBF, 8 << 20);
    add(s, "bytes", word);
    free(word);
    assert_whole(s);
    store_close(s);
}

static void packs_come_back(void **state) {
    store *s = open_store(state);
    int64_t ids[] = {add(s, "a", "text a"), add(s, "b", "text b"), add(s, "c", "text c")};
    int64_t first = pack_of(s, ids, 2);
    store_pack other = {.key = {9}, .tokens = 5};
    ok(store_pack_put(s, &other, err));
    assert_string_equal(other.snapshot, "pack-2.snapshot");
    store_pack *list;
    size_t n;
    uint8_t key[32] = {7};
    ok(store_pack_list(s, key, &list, &n, err));
    assert_int_equal(n, 1);
    assert_int_equal(list[0].id, first);
    assert_int_equal(list[0].n_items, 2);
    assert_int_equal(list[0].items[1].document, ids[1]);
    assert_int_equal(list[0].items[1].text_token_start, 11);
    assert_int_equal(list[0].items[1].text_end, 6);

    /* It grows. */
    store_pack_item items[3] = {
        list[0].items[0],
        list[0].items[1],
        {.document = ids[2], .token_start = 20, .token_end = 30, .text_start = 2, .text_end = 6}};
    store_pack grown = {.id = first, .key = {7}, .tokens = 30, .read = 20, .items = items, .n_items = 3};
    ok(store_pack_put(s, &grown, err));
    ok(store_pack_set_read(s, first, 30, err));
    store_packs_free(list, n);
    ok(store_pack_list(s, NULL, &list, &n, err));
    assert_int_equal(n, 2);
    assert_int_equal(list[0].n_items, 3);
    assert_int_equal(list[0].read, 30);
    assert_int_equal(list[0].tokens, 30);
    char *path;
    ok(store_pack_snapshot_path(s, &list[0], &path, err));
    assert_string_equal(path, below(state, "store/snapshots/pack-1.snapshot"));
    free(path);
    store_packs_free(list, n);

    grown.items[2].text_end = 7;
    fails(PH_USAGE, store_pack_put(s, &grown, err));
    grown.items[2].text_end = 6;
    grown.items[2].token_end = 31;
    fails(PH_USAGE, store_pack_put(s, &grown, err));
    grown.items[2].token_end = 30;
    grown.items[2].document = 99;
    fails(PH_NOT_FOUND, store_pack_put(s, &grown, err));
    grown.n_items = 0;
    grown.id = 99;
    fails(PH_NOT_FOUND, store_pack_put(s, &grown, err));
    fails(PH_NOT_FOUND, store_pack_set_read(s, 99, 1, err));
    fails(PH_NOT_FOUND, store_pack_delete(s, 99, NULL, err));
    store_pack_free(&other);
    assert_whole(s);
    store_close(s);
}

static void answers_come_back(void **state) {
    store *s = open_store(state);
    int64_t document = add(s, "a", "text a"), pack = pack_of(s, &document, 1), talk = 0;
    store_answer a;
    fails(PH_NOT_FOUND, store_answer_get(s, 0, &a, err));
    int64_t first = ask(s, pack, &talk, "answer one \xFF", document),
            second = ask(s, pack, &talk, "answer two", 0);
    store_citation cites[3] = {{.document = document,
                                .document_name = lit("a"),
                                .start = 0,
                                .end = 4,
                                .quote = lit("text"),
                                .in_text = true,
                                .in_read_set = true,
                                .mass = NAN,
                                .lift = INFINITY},
                               {.quote = lit("stands nowhere")},
                               {.document = document, .page = UINT32_MAX, .end = 5}};
    store_answer in = {
        .question = lit("q"), .answer = lit("a"), .citations = cites, .n_citations = 3, .prefill_ms = 1.5};
    ok(store_answer_add(s, &in, NULL, 0, err));
    assert_true(in.conversation != talk);
    ok(store_answer_get(s, 0, &a, err));
    assert_int_equal(a.id, in.id);
    assert_int_equal(a.pack, 0);
    assert_int_equal(a.n_citations, 3);
    assert_true(a.citations[0].mass == 0 && a.citations[0].lift == 0 && a.prefill_ms == 1.5);
    assert_int_equal(a.citations[1].document, 0);
    assert_string_equal(a.citations[1].quote, "stands nowhere");
    assert_int_equal(a.citations[2].page, UINT32_MAX);
    store_answer_free(&a);
    ok(store_answer_get(s, first, &a, err));
    assert_string_equal(a.answer, "answer one \xEF\xBF\xBD");
    assert_string_equal(a.question, "why?");
    assert_int_equal(a.pack, pack);
    assert_int_equal(a.conversation, talk);
    assert_true(a.citations[0].in_text && !a.citations[0].in_read_set && a.citations[0].lift == 2);
    store_answer_free(&a);

    store_answer *list;
    size_t n;
    ok(store_answer_list(s, 2, &list, &n, err));
    assert_int_equal(n, 2);
    assert_int_equal(list[0].id, in.id);
    assert_int_equal(list[1].id, second);
    store_answers_free(list, n);
    ok(store_answer_list(s, SIZE_MAX, &list, &n, err));
    assert_int_equal(n, 3);
    store_answers_free(list, n);

    void *blob;
    ok(store_answer_trace(s, first, &blob, &n, err));
    assert_int_equal(n, 5);
    assert_memory_equal(blob, "trace", 5);
    free(blob);
    fails(PH_NOT_FOUND, store_answer_trace(s, in.id, &blob, &n, err));

    in.pack = 99;
    fails(PH_NOT_FOUND, store_answer_add(s, &in, NULL, 0, err));
    in.pack = 0;
    in.conversation = 99;
    fails(PH_NOT_FOUND, store_answer_add(s, &in, NULL, 0, err));
    in.conversation = 0;
    cites[1].document = 99;
    fails(PH_NOT_FOUND, store_answer_add(s, &in, NULL, 0, err));
    assert_int_equal(in.conversation, 0);

    store_receipt r;
    ok(store_answer_delete(s, first, &r, err));
    assert_true(r.answers == 1 && r.questions == 1 && r.citations == 1 && r.traces == 1 && r.documents == 0);
    fails(PH_NOT_FOUND, store_answer_delete(s, first, &r, err));
    ask(s, pack, &talk, "the conversation goes on", 0);
    store_totals t;
    ok(store_count(s, &t, err));
    assert_true(t.documents == 1 && t.text_bytes == 6 && t.packs == 1 && t.tokens == 10 && t.answers == 3);
    assert_true(t.database_bytes > 4096);
    assert_whole(s);
    store_close(s);
}

/* ---- databases that are not ours to write to ---- */

static void refuses_and_leaves(void **state, int code, const char *word) {
    size_t before, after;
    char *was = read_whole(below(state, "store/pharos.db"), &before);
    store *s;
    ph_error err = {0};
    assert_int_equal(store_open(&s, below(state, "store"), &err), code);
    assert_null(s);
    if (!strstr(err.text, word)) fail_msg("\"%s\" is not in: %s", word, err.text);
    char *is = read_whole(below(state, "store/pharos.db"), &after);
    assert_int_equal(before, after);
    assert_memory_equal(was, is, before);
    free(was);
    free(is);
}

static void sql(void **state, const char *statement) {
    sqlite3 *db;
    char *said = NULL;
    assert_int_equal(sqlite3_open(below(state, "store/pharos.db"), &db), SQLITE_OK);
    if (sqlite3_exec(db, statement, NULL, NULL, &said)) fail_msg("%s", said);
    sqlite3_close(db);
}

static void foreign_databases_are_refused(void **state) {
    assert_int_equal(mkdir(below(state, "store"), 0700), 0);
    char junk[8192];
    memset(junk, 'j', sizeof junk);
    write_file(below(state, "store/pharos.db"), junk, sizeof junk);
    refuses_and_leaves(state, PH_CORRUPT, "is not a Pharos database");
    write_file(below(state, "store/pharos.db"), "short", 5);
    refuses_and_leaves(state, PH_CORRUPT, "is not a Pharos database");
    unlink(below(state, "store/pharos.db"));
    sql(state, "CREATE TABLE somebody_elses (x); INSERT INTO somebody_elses VALUES ('precious')");
    refuses_and_leaves(state, PH_CORRUPT, "another program");
    unlink(below(state, "store/pharos.db"));
    sql(state, "PRAGMA application_id = 42");
    refuses_and_leaves(state, PH_CORRUPT, "another program");
    unlink(below(state, "store/pharos.db"));

    store *s = open_store(state);
    add_with_file(state, s, "kept", "kept text");
    store_close(s);
    sql(state, "PRAGMA user_version = 4711");
    refuses_and_leaves(state, PH_UNSUPPORTED, "4711");
    sql(state, "PRAGMA user_version = -1");
    refuses_and_leaves(state, PH_UNSUPPORTED, "-1");
    char back[64];
    snprintf(back, sizeof back, "PRAGMA user_version = %d", migrations_latest());
    sql(state, back);
    s = open_store(state);
    assert_whole(s);
    store_close(s);

    /* The database is lost: the originals must not be swept away as files that no row names. */
    char *away = strdup(below(state, "away.db"));
    assert_int_equal(rename(below(state, "store/pharos.db"), away), 0);
    fails(PH_CORRUPT, store_open(&s, below(state, "store"), err));
    fails(PH_CORRUPT, store_open(&s, below(state, "store"), err));
    assert_int_equal(rename(away, below(state, "store/pharos.db")), 0);
    free(away);
    s = open_store(state);
    assert_whole(s);
    store_close(s);
}

static void the_sqlite3_program_agrees(void **state) {
    if (system("command -v sqlite3 >/dev/null 2>&1")) {
        print_message("no sqlite3 program here\n");
        skip();
    }
    store *s = open_store(state);
    for (int i = 0; i < 20; i++) {
        char text[64];
        snprintf(text, sizeof text, "text number %d of the lot", i);
        add(s, "n", text);
    }
    ok(store_document_delete(s, 7, NULL, err));
    store_close(s);
    char command[4200];
    snprintf(command, sizeof command,
             "test \"$(sqlite3 '%s' 'PRAGMA integrity_check; PRAGMA foreign_key_check')\" = ok",
             below(state, "store/pharos.db"));
    assert_int_equal(system(command), 0);
}

static const char BEFORE_FOLLOW_UPS[] =
    "DROP INDEX answers_follows; ALTER TABLE answers DROP COLUMN follows;"
    " ALTER TABLE answers DROP COLUMN turns; ALTER TABLE answers DROP COLUMN turns_left_out;"
    " ALTER TABLE documents DROP COLUMN ocr;";

/* A library made before answers were told with their thought, their look and whether they were cut off. */
static void schema_before_thoughts(void **state) {
    store *s = open_store(state);
    char what[] = "What?", kept[] = "kept", model[] = "m", thought[] = "\xE2\x80\x9EIt is kept.\xE2\x80\x9C";
    store_answer a = {.question = what, .answer = kept, .model = model, .found = true, .asked_at = 1}, back;
    assert_int_equal(store_answer_add(s, &a, NULL, 0, NULL), 0);
    store_close(s);
    sql(state, BEFORE_FOLLOW_UPS);
    sql(state, "ALTER TABLE answers DROP COLUMN thought; ALTER TABLE answers DROP COLUMN cut_off;"
               " ALTER TABLE answers DROP COLUMN passages; PRAGMA user_version = 4");
    s = open_store(state);
    assert_whole(s);
    assert_int_equal(store_answer_get(s, a.id, &back, NULL), 0);
    assert_null(back.thought);
    assert_false(back.cut_off);
    assert_int_equal(back.passages, -1);
    store_answer_free(&back);
    a = (store_answer){.question = what,
                       .answer = kept,
                       .model = model,
                       .found = true,
                       .asked_at = 2,
                       .thought = thought,
                       .cut_off = true,
                       .passages = 3};
    assert_int_equal(store_answer_add(s, &a, NULL, 0, NULL), 0);
    assert_int_equal(store_answer_get(s, a.id, &back, NULL), 0);
    assert_string_equal(back.thought, thought);
    assert_true(back.cut_off);
    assert_int_equal(back.passages, 3);
    store_answer_free(&back);
    store_close(s);
}

/* A library made before questions could follow others: each stands alone, and can be followed from now on. */
static void schema_before_follow_ups(void **state) {
    store *s = open_store(state);
    int64_t old = ask(s, 0, NULL, "old", 0);
    store_close(s);
    sql(state, BEFORE_FOLLOW_UPS);
    sql(state, "PRAGMA user_version = 5");
    s = open_store(state);
    assert_whole(s);
    store_answer back, a = {.question = lit("And then?"), .answer = lit("new"), .follows = old, .turns = 1};
    ok(store_answer_get(s, old, &back, err));
    assert_true(back.follows == 0 && back.turns == 0 && back.turns_left_out == 0);
    store_answer_free(&back);
    ok(store_answer_add(s, &a, NULL, 0, err));
    ok(store_answer_get(s, a.id, &back, err));
    assert_int_equal(back.follows, old);
    store_answer_free(&back);
    assert_whole(s);
    store_close(s);
}

/* One question after another in a conversation, and two that go on from the same answer. */
static void follow_ups_come_back(void **state) {
    store *s = open_store(state);
    int64_t first = ask(s, 0, NULL, "first", 0), alone = ask(s, 0, NULL, "alone", 0);
    store_answer a = {.question = lit("and?"), .answer = lit("second"), .follows = first, .turns = 1}, back;
    ok(store_answer_add(s, &a, NULL, 0, err));
    int64_t second = a.id, talk = a.conversation;
    a = (store_answer){
        .question = lit("then?"), .answer = lit("third"), .follows = second, .turns = 1, .turns_left_out = 1};
    ok(store_answer_add(s, &a, NULL, 0, err));
    assert_int_equal(a.conversation, talk);
    ok(store_answer_get(s, a.id, &back, err));
    assert_true(back.follows == second && back.turns == 1 && back.turns_left_out == 1);
    assert_int_equal(back.conversation, talk);
    store_answer_free(&back);
    ok(store_answer_get(s, first, &back, err));
    assert_true(back.follows == 0 && back.conversation == talk);
    store_answer_free(&back);

    /* What is not there, what is of another conversation, what is somebody else's. */
    a = (store_answer){.question = lit("q"), .answer = lit("a"), .follows = 99};
    fails(PH_NOT_FOUND, store_answer_add(s, &a, NULL, 0, err));
    assert_int_equal(a.conversation, 0);
    a.follows = alone;
    a.conversation = talk;
    fails(PH_USAGE, store_answer_add(s, &a, NULL, 0, err));
    a.conversation = 0;
    memset(a.owner, 7, sizeof a.owner);
    fails(PH_USAGE, store_answer_add(s, &a, NULL, 0, err));
    a.follows = 0;
    ok(store_answer_add(s, &a, NULL, 0, err));
    a.follows = a.id;
    ok(store_answer_add(s, &a, NULL, 0, err));

    /* Those of who asked without a token are a list as well. */
    static const uint8_t nobody[32];
    store_answer *list;
    size_t n;
    ok(store_answer_list_of(s, nobody, 10, &list, &n, err));
    assert_int_equal(n, 4);
    store_answers_free(list, n);
    ok(store_answer_list_of(s, a.owner, 10, &list, &n, err));
    assert_int_equal(n, 2);
    store_answers_free(list, n);
    assert_whole(s);
    store_close(s);

    /* Damage that no answer can have come to by itself is found. */
    char damage[128];
    snprintf(damage, sizeof damage, "UPDATE answers SET follows = %lld WHERE id = %lld", (long long)second,
             (long long)first);
    sql(state, damage);
    s = open_store(state);
    char *report;
    ok(store_verify(s, &report, err));
    assert_non_null(strstr(report, "cannot follow"));
    free(report);
    /* And goes all the same. */
    store_receipt r;
    ok(store_answer_delete(s, second, &r, err));
    assert_int_equal(r.answers, 3);
    assert_whole(s);
    store_close(s);
}

/* A library made before there were users: what was asked is nobody's, and tokens can be made. */
static void schema_before_users(void **state) {
    store *s = open_store(state);
    add_with_file(state, s, "kept", "kept text");
    char what[] = "What?", kept[] = "kept", model[] = "m", mine[] = "Mine?";
    store_answer a = {.question = what, .answer = kept, .model = model, .found = true, .asked_at = 1};
    assert_int_equal(store_answer_add(s, &a, NULL, 0, NULL), 0);
    store_close(s);
    sql(state, BEFORE_FOLLOW_UPS);
    sql(state,
        "DROP INDEX conversations_owner; ALTER TABLE conversations DROP COLUMN owner; DROP TABLE tokens;"
        " ALTER TABLE answers DROP COLUMN thought; ALTER TABLE answers DROP COLUMN cut_off;"
        " ALTER TABLE answers DROP COLUMN passages;"
        " DROP TABLE secrets; PRAGMA user_version = 3");
    s = open_store(state);
    assert_whole(s);
    store_answer back;
    static const uint8_t nobody[32];
    assert_int_equal(store_answer_get(s, a.id, &back, NULL), 0);
    assert_memory_equal(back.owner, nobody, 32);
    store_answer_free(&back);
    char token[STORE_TOKEN_CHARACTERS + 1], again[STORE_TOKEN_CHARACTERS + 1];
    uint8_t hash[32], other[32];
    store_token found;
    int64_t id = 0;
    assert_int_equal(store_token_add(s, "me", STORE_MANAGE, token, &id, NULL), 0);
    assert_int_equal(store_token_add(s, "me", STORE_MANAGE, again, NULL, NULL), PH_USAGE);
    assert_int_equal(store_token_add(s, "12", STORE_ASK, again, NULL, NULL), PH_USAGE);
    assert_int_equal(store_token_add(s, "", STORE_ASK, again, NULL, NULL), PH_USAGE);
    assert_int_equal(again[0], 0); /* nothing is handed out that does not work */
    assert_int_equal(store_token_hash(s, token, strlen(token), hash, NULL), 0);
    assert_int_equal(store_token_find(s, hash, &found, NULL), 0);
    assert_int_equal(found.id, id);
    assert_int_equal(found.role, STORE_MANAGE);
    free(found.name);
    hash[0] ^= 1;
    assert_int_equal(store_token_find(s, hash, &found, NULL), PH_NOT_FOUND);
    hash[0] ^= 1;
    /* The owner's list, and nobody else's. */
    a = (store_answer){.question = mine, .answer = kept, .model = model, .found = true, .asked_at = 2};
    memcpy(a.owner, hash, 32);
    assert_int_equal(store_answer_add(s, &a, NULL, 0, NULL), 0);
    store_answer *list;
    size_t n;
    assert_int_equal(store_answer_list_of(s, hash, 10, &list, &n, NULL), 0);
    assert_int_equal(n, 1);
    assert_string_equal(list[0].question, "Mine?");
    store_answers_free(list, n);
    assert_int_equal(store_answer_list(s, 10, &list, &n, NULL), 0);
    assert_int_equal(n, 2);
    store_answers_free(list, n);
    store_close(s);
    /* Another store hashes the same token to something else. */
    sql(state, "UPDATE secrets SET value = zeroblob(32)");
    s = open_store(state);
    assert_int_equal(store_token_hash(s, token, strlen(token), other, NULL), 0);
    assert_memory_not_equal(hash, other, 32);
    store_close(s);
    sql(state, "DELETE FROM secrets");
    s = open_store(state);
    assert_int_equal(store_token_hash(s, token, strlen(token), other, NULL), PH_CORRUPT);
    store_close(s);
}

int main(void) {
    if (sodium_init() < 0) return 1;
#define t(test) cmocka_unit_test_setup_teardown(test, make_folder, drop_folder)
    const struct CMUnitTest tests[] = {
        t(opens_and_opens_again),         t(documents_come_back),  t(originals_must_be_what_was_read),
        t(names_are_unique_and_found),    t(transactions_nest),    t(searches),
        t(passages_cover_the_text),       t(packs_come_back),      t(answers_come_back),
        t(foreign_databases_are_refused), t(schema_before_users),  t(schema_before_thoughts),
        t(schema_before_follow_ups),      t(follow_ups_come_back), t(the_sqlite3_program_agrees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
