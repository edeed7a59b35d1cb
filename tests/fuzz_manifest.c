/* fuzz_manifest.c - a lying manifest: rows of pack_items that no program of ours wrote are refused, or within
 * range.
 *
 * The input is written into the database behind the store's back; whatever the store then hands out must be
 * safe to index a prompt and a text with.
 */
#include "store/store.h"

#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NUMBERS = 8 }; /* of a row: document, six bounds, and the pack's token count */

static store *s;
static sqlite3 *behind;
static const char TEXT[] = "One sentence. Another sentence.";

static void stop(const char *what) {
    fprintf(stderr, "fuzz_manifest: %s\n", what);
    abort();
}

static void run(const char *sql) {
    if (sqlite3_exec(behind, sql, NULL, NULL, NULL) != SQLITE_OK) stop(sqlite3_errmsg(behind));
}

static char dir[] = "/tmp/pharos-manifest-XXXXXX";

static void clean(void) {
    char command[64];
    store_close(s);
    sqlite3_close(behind);
    snprintf(command, sizeof command, "rm -r %s", dir);
    if (system(command)) fprintf(stderr, "fuzz_manifest: %s is left\n", dir);
}

static void make(void) {
    ph_error err = {0};
    char path[64], name[] = "a", empty[] = "";
    if (!mkdtemp(dir) || store_open(&s, dir, &err)) stop(err.text);
    store_document d = {.name = name,
                        .source = empty,
                        .media_type = empty,
                        .title = empty,
                        .warning = empty,
                        .picture_pages = empty,
                        .bytes = sizeof TEXT - 1,
                        .text_bytes = sizeof TEXT - 1};
    store_pack p = {.tokens = 10};
    int64_t existing;
    if (store_document_add(s, &d, TEXT, NULL, 0, NULL, &existing, &err) || store_pack_put(s, &p, &err))
        stop(err.text);
    store_pack_free(&p);
    if (d.name != name) free(d.name); /* the name finally given is ours */
    snprintf(path, sizeof path, "%s/pharos.db", dir);
    if (sqlite3_open(path, &behind) != SQLITE_OK) stop("cannot open the database a second time");
    run("PRAGMA foreign_keys = OFF; PRAGMA synchronous = OFF");
    atexit(clean);
}

/* Small numbers mostly, so that rows are sometimes right; now and then the extremes. */
static int64_t number(uint8_t b) {
    static const int64_t odd[] = {INT64_MIN, INT64_MAX, -1, (int64_t)1 << 32, ((int64_t)1 << 32) - 1,
                                  1 << 20};
    return b < 250 ? b % 40 : odd[b - 250];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!s) make();
    char sql[512];
    run("BEGIN; DELETE FROM pack_items");
    for (size_t i = 0; i + NUMBERS <= size && i < 8 * NUMBERS; i += NUMBERS) {
        int64_t v[NUMBERS];
        for (int j = 0; j < NUMBERS; j++) v[j] = number(data[i + j]);
        snprintf(sql, sizeof sql,
                 "INSERT INTO pack_items VALUES (1, %zu, %lld, %lld, %lld, %lld, %lld, %lld, %lld); "
                 "UPDATE packs SET tokens = %lld",
                 i, (long long)(v[0] % 3), (long long)v[1], (long long)v[2], (long long)v[3], (long long)v[4],
                 (long long)v[5], (long long)v[6], (long long)v[7]);
        run(sql);
    }
    run("COMMIT");
    store_pack *packs = NULL;
    size_t n = 0;
    ph_error err = {0};
    int code = store_pack_list(s, NULL, &packs, &n, &err);
    if (code && code != PH_CORRUPT) stop(err.text);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < packs[i].n_items; j++) {
            const store_pack_item *t = &packs[i].items[j];
            if (t->document != 1 || t->text_start > t->text_end || t->text_end >= sizeof TEXT)
                stop("text out of range");
            if (t->token_start < 0 || t->token_start > t->token_end || t->token_end > packs[i].tokens)
                stop("tokens out of range");
            if (t->text_token_start < 0 || t->text_token_start > t->text_token_end ||
                t->text_token_end > packs[i].tokens)
                stop("text tokens out of range");
        }
    store_packs_free(packs, n);
    return 0;
}
