/* test_store.h - what the tests of the store share: a folder of their own, documents out of a line of text.
 */
#ifndef PHAROS_TEST_STORE_H
#define PHAROS_TEST_STORE_H

#include "store/store.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The rows have char * for what they hand out; on the way in literals will do. */
#define lit(text) ((char *)(uintptr_t)(text))

#define ok(call)                                                                                             \
    do {                                                                                                     \
        ph_error err_ = {0};                                                                                 \
        ph_error *err = &err_;                                                                               \
        int rc_ = (call);                                                                                    \
        if (rc_) fail_msg("%s: %d %s", #call, rc_, err_.text);                                               \
    } while (0)

#define fails(code_, call)                                                                                   \
    do {                                                                                                     \
        ph_error err_ = {0};                                                                                 \
        ph_error *err = &err_;                                                                               \
        int rc_ = (call);                                                                                    \
        if (rc_ != (code_)) fail_msg("%s: %d (not %d) %s", #call, rc_, (code_), err_.text);                  \
        assert_int_equal(err_.code, rc_);                                                                    \
        assert_true(err_.text[0]);                                                                           \
    } while (0)

static inline int remove_one(const char *path, const struct stat *st, int flag, struct FTW *at) {
    return remove(path);
}

static inline void remove_tree(const char *path) {
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Setup and teardown of cmocka: *state = the path of a new folder. */
static inline int make_folder(void **state) {
    const char *base = getenv("TMPDIR");
    char *path;
    if (asprintf(&path, "%s/pharos-store-XXXXXX", base && *base ? base : "/tmp") < 0 || !mkdtemp(path))
        return 1;
    *state = path;
    return 0;
}

static inline int drop_folder(void **state) {
    remove_tree(*state);
    free(*state);
    return 0;
}

/* A path below the test's folder; one at a time. */
static inline const char *below(void **state, const char *name) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", (const char *)*state, name);
    return path;
}

static inline store *open_store(void **state) {
    store *s = NULL;
    ok(store_open(&s, below(state, "store"), err));
    return s;
}

static inline void write_file(const char *path, const void *bytes, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static inline char *read_whole(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    char *bytes = malloc(*n + 1);
    assert_int_equal(fread(bytes, 1, *n, f), *n);
    bytes[*n] = 0;
    fclose(f);
    return bytes;
}

/* Adds a document whose original is its text, with one segment; the code of store_document_add. */
static inline int try_add(store *s, const char *name, const char *text, const char *file, int64_t *id,
                          ph_error *err) {
    store_document d = {.name = (char *)name,
                        .source = (char *)(file ? file : ""),
                        .media_type = lit("text/plain"),
                        .title = lit(""),
                        .bytes = (int64_t)strlen(text),
                        .added_at = 1700000000};
    store_segment whole = {.start = 0, .end = strlen(text)};
    int64_t existing;
    crypto_generichash(d.hash, 32, (const uint8_t *)text, strlen(text), NULL, 0);
    int rc = store_document_add(s, &d, text, &whole, 1, file, &existing, err);
    if (id) *id = d.id;
    if (rc == PH_OK && d.id) free(d.name);
    return rc;
}

static inline int64_t add(store *s, const char *name, const char *text) {
    int64_t id = 0;
    ok(try_add(s, name, text, NULL, &id, err));
    assert_true(id > 0);
    return id;
}

static inline int64_t add_with_file(void **state, store *s, const char *name, const char *text) {
    char *path = strdup(below(state, "original"));
    int64_t id = 0;
    write_file(path, text, strlen(text));
    ok(try_add(s, name, text, path, &id, err));
    assert_true(id > 0);
    free(path);
    return id;
}

/* A pack of whole documents, ten tokens each. */
static inline int64_t pack_of(store *s, const int64_t *documents, size_t n) {
    store_pack_item items[16] = {0};
    store_pack p = {.tokens = (int64_t)n * 10, .items = items, .n_items = n, .key = {7}};
    for (size_t i = 0; i < n; i++) {
        store_document d;
        ok(store_document_get(s, documents[i], &d, err));
        items[i] = (store_pack_item){.document = documents[i],
                                     .token_start = (int64_t)i * 10,
                                     .token_end = (int64_t)i * 10 + 10,
                                     .text_end = (uint64_t)d.text_bytes,
                                     .text_token_start = (int64_t)i * 10 + 1,
                                     .text_token_end = (int64_t)i * 10 + 9};
        store_document_free(&d);
    }
    ok(store_pack_put(s, &p, err));
    free(p.snapshot);
    return p.id;
}

static inline int64_t ask(store *s, int64_t pack, int64_t *conversation, const char *answer, int64_t cited) {
    store_citation c = {.document = cited,
                        .document_name = lit("then.txt"),
                        .page = 3,
                        .start = 1,
                        .end = 4,
                        .quote = lit("abc"),
                        .in_text = true,
                        .mass = 0.5,
                        .lift = 2};
    store_answer a = {.conversation = conversation ? *conversation : 0,
                      .pack = pack,
                      .question = lit("why?"),
                      .answer = (char *)answer,
                      .thought = (char *)answer,
                      .found = true,
                      .asked_at = 123,
                      .prompt_tokens = 10,
                      .model = lit("m"),
                      .citations = &c,
                      .n_citations = cited ? 1 : 0};
    ok(store_answer_add(s, &a, "trace", 5, err));
    if (conversation) *conversation = a.conversation;
    return a.id;
}

static inline void assert_whole(store *s) {
    char *report = NULL;
    ok(store_verify(s, &report, err));
    assert_string_equal(report, "");
    free(report);
}

/* How often the bytes stand in any file at or below path. */
static inline size_t occurrences(const char *path, const char *marker);
static const char *sought;
static size_t found_count;
static inline int count_one(const char *path, const struct stat *st, int flag, struct FTW *at) {
    if (flag != FTW_F) return 0;
    size_t n, m = strlen(sought);
    char *bytes = read_whole(path, &n);
    for (char *p = bytes; p && (p = memmem(p, n - (size_t)(p - bytes), sought, m)); p += m) found_count++;
    free(bytes);
    return 0;
}
static inline size_t occurrences(const char *path, const char *marker) {
    sought = marker;
    found_count = 0;
    nftw(path, count_one, 16, FTW_PHYS);
    return found_count;
}

#endif
