/* run_files.c - files of questions: kept in the database, so that whatever erases a run erases its questions
 * too, and a backup has both. */
#include "store/internal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int store_questions_add(store *s, const char *name, const void *bytes, size_t n, int64_t *id, ph_error *err) {
    char *clean = NULL;
    if (n > STORE_MAX_QUESTIONS)
        return ph_fail(err, PH_TOO_LARGE, "%s has %zu bytes, and the limit for questions is %d", name, n,
                       STORE_MAX_QUESTIONS);
    int rc = clean_utf8(&clean, name, 4096, "a file's name", err);
    if (rc) return rc;
    rc = store_begin(s, err);
    if (rc == PH_OK) {
        rc = db_run(s, err, "INSERT INTO question_files (name, added_at, bytes) VALUES (?, ?, ?)", "tib",
                    clean, now_ms(), bytes, n);
        *id = rc ? 0 : sqlite3_last_insert_rowid(s->db);
        if (rc == PH_OK) rc = store_commit(s, err);
        if (rc) store_rollback(s);
    }
    free(clean);
    return rc;
}

int store_questions_get(store *s, int64_t id, char **name, char **bytes, size_t *n, int64_t *run,
                        ph_error *err) {
    sqlite3_stmt *statement;
    bool row = false;
    *name = *bytes = NULL;
    *n = 0;
    *run = 0;
    int rc =
        db_prepare(s, &statement, err, "SELECT name, bytes, run FROM question_files WHERE id = ?", "i", id);
    if (rc == PH_OK) rc = db_step(s, statement, &row, err);
    if (rc == PH_OK && !row)
        rc = ph_fail(err, PH_NOT_FOUND, "there is no file of questions %lld (any more)", (long long)id);
    if (rc == PH_OK) rc = db_text(s, name, statement, 0, err);
    if (rc == PH_OK) {
        const void *blob = sqlite3_column_blob(statement, 1);
        *n = (size_t)sqlite3_column_bytes(statement, 1);
        *run = sqlite3_column_int64(statement, 2);
        *bytes = malloc(*n + 1);
        if (!*bytes || (*n && !blob))
            rc = ph_no_memory(err, *n);
        else {
            if (*n) memcpy(*bytes, blob, *n);
            (*bytes)[*n] = 0;
        }
    }
    sqlite3_finalize(statement);
    if (rc) {
        free(*name);
        free(*bytes);
        *name = *bytes = NULL;
    }
    return rc;
}

int store_questions_forget(store *s, int64_t before, ph_error *err) {
    int64_t old;
    int rc = db_int(s, &old, err, "SELECT count(*) FROM question_files WHERE run IS NULL AND added_at < ?",
                    "i", before);
    if (rc || !old) return rc;
    rc = store_begin(s, err);
    if (rc) return rc;
    s->scrub = true;
    rc = db_run(s, err, "DELETE FROM question_files WHERE run IS NULL AND added_at < ?", "i", before);
    if (rc == PH_OK) return store_commit(s, err);
    store_rollback(s);
    return rc;
}
