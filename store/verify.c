/* verify.c - how much there is, and whether all of it is whole. */
#include "store/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- totals ---- */

static int add_size(void *user, char kind, const char *path, const uint8_t *hash, int64_t pack,
                    ph_error *err) {
    store_totals *t = user;
    struct stat st;
    if (stat(path, &st)) return PH_OK;
    if (kind == 's') t->snapshot_bytes += (int64_t)st.st_blocks * 512; /* they are sparse */
    if (kind == 'o') t->file_bytes += st.st_size;
    return PH_OK;
}

int store_count(store *s, store_totals *out, ph_error *err) {
    *out = (store_totals){0};
    struct {
        int64_t *to;
        const char *sql;
    } const counts[] = {
        {&out->documents, "SELECT count(*) FROM documents"},
        {&out->text_bytes, "SELECT sum(text_bytes) FROM documents"},
        {&out->packs, "SELECT count(*) FROM packs"},
        {&out->tokens, "SELECT sum(tokens) FROM packs"},
        {&out->answers, "SELECT count(*) FROM answers"},
    };
    int rc = PH_OK;
    for (size_t i = 0; rc == PH_OK && i < sizeof counts / sizeof *counts; i++)
        rc = db_int(s, counts[i].to, err, counts[i].sql, "");
    static const char *const parts[] = {"", "-wal", "-shm"};
    for (int i = 0; rc == PH_OK && i < 3; i++) {
        char *path;
        struct stat st;
        if (asprintf(&path, "%s/pharos.db%s", s->dir, parts[i]) < 0)
            return ph_no_memory(err, strlen(s->dir) + 16);
        if (stat(path, &st) == 0) out->database_bytes += st.st_size;
        free(path);
    }
    return rc ? rc : files_walk(s, add_size, out, err);
}

/* ---- what is wrong ---- */

typedef struct check {
    store *s;
    FILE *report;
} check;

/* Damage is a finding, not a failure to look. */
static int finding(check *c, int rc, const ph_error *why) {
    if (rc != PH_CORRUPT) return rc;
    fprintf(c->report, "%s\n", why->text);
    return PH_OK;
}

static int check_database(check *c, ph_error *err) {
    sqlite3_stmt *statement;
    bool row;
    int rc = db_prepare(c->s, &statement, err, "PRAGMA integrity_check", "");
    while (rc == PH_OK && (rc = db_step(c->s, statement, &row, err)) == PH_OK && row) {
        const char *line = (const char *)sqlite3_column_text(statement, 0);
        if (line && strcmp(line, "ok")) fprintf(c->report, "database: %s\n", line);
    }
    sqlite3_finalize(statement);
    if ((rc = finding(c, rc, err))) return rc;
    rc = db_prepare(c->s, &statement, err, "PRAGMA foreign_key_check", "");
    while (rc == PH_OK && (rc = db_step(c->s, statement, &row, err)) == PH_OK && row)
        fprintf(c->report, "database: a row of %s names a row of %s that is not there\n",
                (const char *)sqlite3_column_text(statement, 0),
                (const char *)sqlite3_column_text(statement, 2));
    sqlite3_finalize(statement);
    return finding(c, rc, err);
}

static int check_index(check *c, ph_error *err) {
    int64_t passages, rows;
    int rc = db_run(c->s, err, "INSERT INTO passages_fts (passages_fts) VALUES ('integrity-check')", "");
    if (rc == PH_CORRUPT) fprintf(c->report, "the full-text index is damaged\n");
    if (rc) return rc == PH_CORRUPT ? PH_OK : rc;
    /* One statement, so that both numbers are of the same moment. */
    rc = db_int(c->s, &passages, err, "SELECT count(*) FROM passages", "");
    if (rc == PH_OK) rc = db_int(c->s, &rows, err, "SELECT count(*) FROM passages_fts_docsize", "");
    if (rc == PH_OK && passages != rows)
        fprintf(c->report, "the full-text index has %lld rows for %lld passages\n", (long long)rows,
                (long long)passages);
    return finding(c, rc, err);
}

static int check_original(check *c, const store_document *d, ph_error *err) {
    char *path;
    uint8_t hash[STORE_HASH_BYTES];
    int64_t kept;
    int rc = db_int(c->s, &kept, err, "SELECT has_file FROM documents WHERE id = ?", "i", d->id);
    if (rc || !kept) return rc;
    if ((rc = files_original_path(c->s, &path, d->hash, err))) return rc;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        fprintf(c->report, "document %lld (%s): its original cannot be opened: %s: %s\n", (long long)d->id,
                d->name, path, strerror(errno));
    } else if ((rc = files_hash(hash, fd, path, err))) {
        fprintf(c->report, "document %lld (%s): its original cannot be read: %s\n", (long long)d->id, d->name,
                err->text);
        rc = PH_OK;
    } else if (memcmp(hash, d->hash, STORE_HASH_BYTES)) {
        fprintf(c->report, "document %lld (%s): its original has changed: %s\n", (long long)d->id, d->name,
                path);
    }
    if (fd >= 0) close(fd);
    free(path);
    return rc;
}

static int check_document(check *c, const store_document *d, ph_error *err) {
    char *text = NULL;
    size_t len, n = 0;
    store_segment *segments = NULL;
    int rc = finding(c, store_document_text(c->s, d->id, &text, &len, err), err);
    free(text);
    if (rc == PH_OK) rc = finding(c, store_document_segments(c->s, d->id, &segments, &n, err), err);
    store_segments_free(segments, n);
    int64_t bad = 0;
    if (rc == PH_OK)
        rc = db_int(
            c->s, &bad, err,
            "SELECT count(*) FROM passages WHERE document = ?1 AND (start < 0 OR end < start OR end > ?2)",
            "ii", d->id, d->text_bytes);
    if (rc == PH_OK && bad)
        fprintf(c->report, "document %lld: a passage is out of range\n", (long long)d->id);
    if (rc == PH_OK) rc = check_original(c, d, err);
    return rc == PH_NOT_FOUND ? PH_OK : rc; /* deleted while we looked */
}

static int check_answers(check *c, ph_error *err) {
    sqlite3_stmt *ids;
    bool row;
    int rc = db_prepare(c->s, &ids, err, "SELECT id FROM answers", "");
    while (rc == PH_OK && (rc = db_step(c->s, ids, &row, err)) == PH_OK && row) {
        int64_t id = sqlite3_column_int64(ids, 0);
        store_answer answer = {0};
        void *trace = NULL;
        size_t n;
        rc = store_answer_get(c->s, id, &answer, err);
        if (rc == PH_NOT_FOUND) rc = ph_fail(err, PH_CORRUPT, "answer %lld has no question", (long long)id);
        rc = finding(c, rc, err);
        store_answer_free(&answer);
        if (rc == PH_OK) rc = store_answer_trace(c->s, id, &trace, &n, err);
        free(trace);
        rc = rc == PH_NOT_FOUND ? PH_OK : finding(c, rc, err); /* not every answer has one */
    }
    sqlite3_finalize(ids);
    return finding(c, rc, err);
}

static int check_follow_ups(check *c, ph_error *err) {
    sqlite3_stmt *ids;
    bool row;
    int rc = db_prepare(c->s, &ids, err,
                        "SELECT a.id, b.id FROM answers a JOIN answers b ON b.id = a.follows"
                        " JOIN questions p ON p.id = a.question JOIN questions q ON q.id = b.question"
                        " WHERE b.id >= a.id OR p.conversation <> q.conversation",
                        "");
    while (rc == PH_OK && (rc = db_step(c->s, ids, &row, err)) == PH_OK && row)
        fprintf(c->report, "answer %lld cannot follow answer %lld\n", (long long)sqlite3_column_int64(ids, 0),
                (long long)sqlite3_column_int64(ids, 1));
    sqlite3_finalize(ids);
    return finding(c, rc, err);
}

static int check_file(void *user, char kind, const char *path, const uint8_t *hash, int64_t pack,
                      ph_error *err) {
    check *c = user;
    int64_t rows = 1;
    int rc = PH_OK;
    if (kind == 'o')
        rc =
            db_int(c->s, &rows, err, "SELECT count(*) FROM documents WHERE hash = ? AND has_file", "h", hash);
    if (kind == 's') rc = db_int(c->s, &rows, err, "SELECT count(*) FROM packs WHERE id = ?", "i", pack);
    if (rc == PH_OK && rows == 0) fprintf(c->report, "no document or pack names %s\n", path);
    if (kind == '?') fprintf(c->report, "%s is not a file of the store\n", path);
    return rc;
}

static int check_all(check *c, ph_error *err) {
    store_document *documents = NULL;
    store_pack *packs = NULL;
    size_t n = 0, n_packs = 0;
    int rc = check_database(c, err);
    if (rc == PH_OK) rc = check_index(c, err);
    if (rc == PH_OK) rc = finding(c, store_document_list(c->s, &documents, &n, err), err);
    for (size_t i = 0; rc == PH_OK && i < n; i++) rc = check_document(c, &documents[i], err);
    store_documents_free(documents, n);
    if (rc == PH_OK) rc = finding(c, store_pack_list(c->s, NULL, &packs, &n_packs, err), err);
    store_packs_free(packs, n_packs);
    if (rc == PH_OK) rc = check_answers(c, err);
    if (rc == PH_OK) rc = check_follow_ups(c, err);
    /* Under the writer lock: otherwise a file whose row is about to be committed would look like a stray one.
     */
    if (rc == PH_OK && (rc = store_begin(c->s, err)) == PH_OK) {
        rc = finding(c, files_walk(c->s, check_file, c, err), err);
        store_leave(c->s);
    }
    return rc;
}

int store_verify(store *s, char **report, ph_error *err) {
    char *text = NULL;
    size_t size;
    ph_error own;
    if (!err) err = &own; /* findings are its sentences */
    *report = NULL;
    check c = {s, open_memstream(&text, &size)};
    if (!c.report) return ph_no_memory(err, 0);
    int rc = check_all(&c, err);
    if (fclose(c.report)) rc = ph_no_memory(err, size);
    if (rc) {
        free(text);
        return rc;
    }
    *report = text;
    return PH_OK;
}
