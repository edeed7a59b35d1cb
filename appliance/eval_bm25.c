/* eval_bm25.c - see eval_bm25.h. The same tokenizer as the store's index. */
#include "appliance/eval_bm25.h"

#include "ingest/sentences.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

struct eval_bm25 {
    sqlite3 *db;
    sqlite3_stmt *find;
};

static int failed(const eval_bm25 *b, ph_error *err) {
    return ph_fail(err, PH_FAIL, "full text in memory: %s", sqlite3_errmsg(b->db));
}

void eval_bm25_free(eval_bm25 *b) {
    if (!b) return;
    sqlite3_finalize(b->find);
    sqlite3_close(b->db);
    free(b);
}

static int insert(eval_bm25 *b, sqlite3_stmt *add, int text, const char *bytes, size_t start, size_t end,
                  ph_error *err) {
    sqlite3_reset(add);
    sqlite3_bind_text64(add, 1, bytes + start, end - start, SQLITE_STATIC, SQLITE_UTF8);
    sqlite3_bind_int(add, 2, text);
    sqlite3_bind_int64(add, 3, (sqlite3_int64)start);
    sqlite3_bind_int64(add, 4, (sqlite3_int64)end);
    return sqlite3_step(add) == SQLITE_DONE ? PH_OK : failed(b, err);
}

static int insert_text(eval_bm25 *b, sqlite3_stmt *add, int number, const pack_text *t, size_t bytes,
                       ph_error *err) {
    int code = PH_OK;
    for (size_t at = 0; at < t->len && !code;) {
        size_t end = t->len;
        if (t->len - at > bytes) {
            text_span s = sentence_at(t->text, t->len, at + bytes);
            end = s.start > at ? s.start : s.end > at ? s.end : at + bytes;
        }
        code = insert(b, add, number, t->text, at, end, err);
        at = end;
    }
    return code;
}

int eval_bm25_make(eval_bm25 **out, const loaded_pack *p, size_t bytes, ph_error *err) {
    *out = NULL;
    eval_bm25 *b = calloc(1, sizeof *b);
    if (!b) return ph_fail(err, PH_MEMORY, "no memory for full text");
    sqlite3_stmt *add = NULL;
    int code = sqlite3_open(":memory:", &b->db) == SQLITE_OK &&
                       sqlite3_exec(
                           b->db,
                           "CREATE VIRTUAL TABLE passages USING fts5 (body, text UNINDEXED, start UNINDEXED, "
                           "end UNINDEXED, tokenize = 'porter unicode61 remove_diacritics 2'); BEGIN",
                           NULL, NULL, NULL) == SQLITE_OK &&
                       sqlite3_prepare_v2(b->db, "INSERT INTO passages VALUES (?, ?, ?, ?)", -1, &add,
                                          NULL) == SQLITE_OK
                   ? PH_OK
                   : failed(b, err);
    for (size_t i = 0; i < p->n_texts && !code; i++)
        code = insert_text(b, add, (int)i, &p->texts[i], bytes, err);
    sqlite3_finalize(add);
    if (!code && (sqlite3_exec(b->db, "COMMIT", NULL, NULL, NULL) ||
                  sqlite3_prepare_v2(
                      b->db,
                      "SELECT text, start, end FROM passages WHERE passages MATCH ? ORDER BY rank, rowid "
                      "LIMIT ?",
                      -1, &b->find, NULL)))
        code = failed(b, err);
    if (code)
        eval_bm25_free(b);
    else
        *out = b;
    return code;
}

static bool is_word(unsigned char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80;
}

static bool is_common(const char *w, size_t n) {
    static const char list[] =
        " a an and are as at be by did do does for from had has have how in is it its of on or "
        "that the their this to was were what when where which who whom why will with ";
    char key[16];
    if (n > sizeof key - 3) return false;
    key[0] = ' ';
    for (size_t i = 0; i < n; i++) key[i + 1] = (char)(w[i] >= 'A' && w[i] <= 'Z' ? w[i] + 32 : w[i]);
    key[n + 1] = ' ';
    key[n + 2] = 0;
    return strstr(list, key) != NULL;
}

/* "word" OR "word" ...: quoted, so that no syntax of FTS5 gets in. */
static char *query_of(const char *question, bool with_common) {
    char *out = malloc(strlen(question) * 4 + 16);
    size_t n = 0;
    if (!out) return NULL;
    for (const char *p = question; *p;) {
        if (!is_word((unsigned char)*p)) {
            p++;
            continue;
        }
        size_t k = 0;
        while (is_word((unsigned char)p[k])) k++;
        if (with_common || !is_common(p, k)) {
            if (n) n = (size_t)(stpcpy(out + n, " OR ") - out);
            out[n++] = '"';
            memcpy(out + n, p, k);
            n += k;
            out[n++] = '"';
        }
        p += k;
    }
    out[n] = 0;
    return out;
}

int eval_bm25_rank(eval_bm25 *b, const char *question, int text, size_t start, size_t end, int limit,
                   int *rank, ph_error *err) {
    *rank = 0;
    char *query = query_of(question, false);
    if (query && !*query) {
        free(query);
        query = query_of(question, true);
    }
    if (!query) return ph_fail(err, PH_MEMORY, "no memory for a query");
    if (!*query) {
        free(query);
        return PH_OK;
    }
    sqlite3_reset(b->find);
    sqlite3_bind_text(b->find, 1, query, -1, SQLITE_STATIC);
    sqlite3_bind_int(b->find, 2, limit);
    int step, at = 0;
    while ((step = sqlite3_step(b->find)) == SQLITE_ROW) {
        at++;
        size_t from = (size_t)sqlite3_column_int64(b->find, 1), to = (size_t)sqlite3_column_int64(b->find, 2);
        if (sqlite3_column_int(b->find, 0) != text || from >= end || to <= start) continue;
        *rank = at;
        break;
    }
    int code = step == SQLITE_ROW || step == SQLITE_DONE ? PH_OK : failed(b, err);
    sqlite3_reset(b->find);
    free(query);
    return code;
}
