/* test_store_backup.c - a backup holds everything and comes back the same; what is no whole backup leaves
 * nothing. */
#include "tests/test_store.h"

#include <glob.h>
#include <zip.h>

/* Files of the test's own folder whose name has this in it. */
static size_t named(void **state, const char *part) {
    glob_t g;
    char pattern[4200];
    snprintf(pattern, sizeof pattern, "%s/*%s*", below(state, ""), part);
    size_t n = glob(pattern, 0, NULL, &g) ? 0 : g.gl_pathc;
    globfree(&g);
    return n;
}

static int64_t fill(void **state, store *s) {
    int64_t talk = 0, a = add_with_file(state, s, "a.txt", "The harbour opens at six."),
            b = add(s, "b.txt", "The library closes at nine.");
    int64_t both[] = {a, b};
    int64_t pack = pack_of(s, both, 2);
    ok(store_pack_set_read(s, pack, 4, err));
    int64_t first = ask(s, pack, &talk, "At six.", a);
    store_answer on = {
        .pack = pack, .question = lit("And at nine?"), .answer = lit("No."), .follows = first, .turns = 1};
    ok(store_answer_add(s, &on, NULL, 0, err));
    return a;
}

static void comes_back(void **state) {
    store *s = open_store(state);
    int64_t a = fill(state, s);
    char *file = strdup(below(state, "all.zip")), *dir = strdup(below(state, "again/deep"));
    ok(store_backup(s, file, NULL, NULL, err));
    struct stat st;
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    fails(PH_USAGE, store_backup(s, file, NULL, NULL, err)); /* never over another one */
    assert_int_equal(named(state, "all.zip"), 1);
    /* The store goes on; what comes later is not in the backup. */
    add(s, "later.txt", "Later.");
    store_answer was, is;
    ok(store_answer_get(s, 0, &was, err));

    ok(store_restore(file, dir, NULL, NULL, err));
    fails(PH_USAGE, store_restore(file, dir, NULL, NULL, err));
    store *t;
    ok(store_open(&t, dir, err));
    char *report, *path, *text;
    size_t n;
    ok(store_verify(t, &report, err));
    assert_string_equal(report, "");
    free(report);
    store_totals totals;
    ok(store_count(t, &totals, err));
    assert_int_equal(totals.documents, 2);
    assert_int_equal(totals.answers, 2);
    ok(store_document_text(t, a, &text, &n, err));
    assert_string_equal(text, "The harbour opens at six.");
    free(text);
    ok(store_document_file(t, a, &path, err));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    free(path);
    ok(store_answer_get(t, 0, &is, err));
    assert_string_equal(is.answer, was.answer);
    assert_int_equal(is.n_citations, was.n_citations);
    assert_true(is.follows && is.follows == was.follows && is.turns == 1);
    assert_int_equal(is.conversation, was.conversation);
    store_answer_free(&is);
    store_answer_free(&was);
    /* Snapshots are not in it: nothing counts as read. */
    store_pack *packs;
    ok(store_pack_list(t, NULL, &packs, &n, err));
    assert_int_equal(n, 1);
    assert_int_equal(packs[0].read, 0);
    assert_true(packs[0].tokens > 0);
    store_packs_free(packs, n);
    store_hit *hits;
    ok(store_search(t, "harbour", 5, &hits, &n, err));
    assert_int_equal(n, 1);
    free(hits);
    store_close(t);
    store_close(s);
    free(file);
    free(dir);
}

static int stop_now(void *user, int64_t done, int64_t total) {
    return 1;
}

static void stopped(void **state) {
    store *s = open_store(state);
    fill(state, s);
    char *file = strdup(below(state, "x.zip"));
    fails(PH_INTERRUPTED, store_backup(s, file, stop_now, NULL, err));
    assert_int_equal(access(file, F_OK), -1);
    ok(store_backup(s, file, NULL, NULL, err));
    fails(PH_INTERRUPTED, store_restore(file, below(state, "y"), stop_now, NULL, err));
    assert_int_equal(access(below(state, "y"), F_OK), -1);
    store_close(s);
    free(file);
}

/* A backup with one entry replaced, added or left out. */
static void tamper(const char *from, const char *to, const char *name, const char *content) {
    char command[2000];
    snprintf(command, sizeof command, "cp %s %s", from, to);
    assert_int_equal(system(command), 0);
    int code;
    zip_t *z = zip_open(to, 0, &code);
    assert_non_null(z);
    zip_int64_t at = zip_name_locate(z, name, 0);
    if (content) {
        zip_source_t *source = zip_source_buffer(z, content, strlen(content), 0);
        assert_true(zip_file_add(z, name, source, ZIP_FL_OVERWRITE) >= 0);
    } else {
        assert_true(at >= 0);
        assert_int_equal(zip_delete(z, (zip_uint64_t)at), 0);
    }
    assert_int_equal(zip_close(z), 0);
}

static void damaged(void **state) {
    store *s = open_store(state);
    int64_t a = fill(state, s);
    char *file = strdup(below(state, "good.zip")), *bad = strdup(below(state, "bad.zip")),
         *dir = strdup(below(state, "out")), *original, entry[80];
    ok(store_backup(s, file, NULL, NULL, err));
    ok(store_document_file(s, a, &original, err));
    snprintf(entry, sizeof entry, "files/%s", strrchr(original, '/') + 1);
    store_close(s);
    const struct {
        const char *name, *content;
        int code;
    } cases[] = {
        {"backup.json", NULL, PH_UNSUPPORTED},
        {"backup.json", "{}", PH_CORRUPT},
        {"backup.json", "{\"format\": 2}", PH_UNSUPPORTED},
        {"pharos.db", NULL, PH_CORRUPT},
        {"pharos.db", "no database at all, just words", PH_CORRUPT},
        {"../out.txt", "outside", PH_CORRUPT},
        {"/etc/x", "outside", PH_CORRUPT},
        {"files/zz", "no hash", PH_CORRUPT},
        {"files/../../x", "outside", PH_CORRUPT},
        {entry, "another content", PH_CORRUPT},
        {entry, NULL, PH_CORRUPT}, /* the database names it */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tamper(file, bad, cases[i].name, cases[i].content);
        fails(cases[i].code, store_restore(bad, dir, NULL, NULL, err));
        assert_int_equal(access(dir, F_OK), -1);
    }
    /* Cut short at every length of its end, and bytes turned over. */
    FILE *f = fopen(file, "rb");
    static char bytes[1 << 20];
    size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    assert_true(n > 1000 && n < sizeof bytes);
    for (size_t cut = 1; cut < n; cut += n / 17) {
        write_file(bad, bytes, n - cut);
        ph_error e;
        assert_int_not_equal(store_restore(bad, dir, NULL, NULL, &e), PH_OK);
        assert_int_equal(access(dir, F_OK), -1);
    }
    for (size_t at = 0; at < n; at += n / 29) {
        bytes[at] ^= 0x55;
        write_file(bad, bytes, n);
        ph_error e;
        if (store_restore(bad, dir, NULL, NULL, &e) == PH_OK) {
            /* A byte of a date or the like: the content is whole all the same. */
            store *t;
            char *report;
            ok(store_open(&t, dir, err));
            ok(store_verify(t, &report, err));
            assert_string_equal(report, "");
            free(report);
            store_close(t);
            remove_tree(dir);
        }
        bytes[at] ^= 0x55;
    }
    /* Nothing half-made stays beside it. */
    assert_int_equal(named(state, "restoring"), 0);
    fails(PH_NOT_FOUND, store_restore(below(state, "none.zip"), dir, NULL, NULL, err));
    free(original);
    free(file);
    free(bad);
    free(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(comes_back, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(stopped, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(damaged, make_folder, drop_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
