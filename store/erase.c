/* erase.c - deleting, and the counting of what was deleted.
 *
 * Rows go in one transaction; files go after it has committed (files.c), then the write-ahead log is emptied
 * (store.c). secure_delete overwrites what the rows leave in the database's pages. */
#include "store/internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int count(store *s, int64_t *into, ph_error *err, const char *sql, int64_t id) {
    int64_t n;
    int rc = db_int(s, &n, err, sql, "i", id);
    *into += n;
    return rc;
}

/* Calls `erase` for each id that the statement gives for `of`. */
static int erase_each(store *s, const char *sql, int64_t of,
                      int (*erase)(store *, int64_t, store_receipt *, ph_error *), store_receipt *r,
                      ph_error *err) {
    sqlite3_stmt *statement;
    int64_t *ids = NULL;
    size_t n = 0;
    bool row;
    /* All of them first: the rows that the statement walks over are about to be deleted. */
    int rc = db_prepare(s, &statement, err, sql, "i", of);
    while (rc == PH_OK && (rc = db_step(s, statement, &row, err)) == PH_OK && row)
        if ((rc = db_grow((void **)&ids, n, sizeof *ids, err)) == PH_OK)
            ids[n++] = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    for (size_t i = 0; rc == PH_OK && i < n; i++) rc = erase(s, ids[i], r, err);
    free(ids);
    return rc;
}

static int erase_one_answer(store *s, int64_t id, store_receipt *r, ph_error *err) {
    int64_t question, conversation = 0;
    int rc = db_int(s, &question, err, "SELECT question FROM answers WHERE id = ?", "i", id);
    if (rc == PH_OK)
        rc = db_int(s, &conversation, err, "SELECT conversation FROM questions WHERE id = ?", "i", question);
    if (rc == PH_OK) rc = count(s, &r->citations, err, "SELECT count(*) FROM citations WHERE answer = ?", id);
    if (rc == PH_OK) rc = count(s, &r->traces, err, "SELECT count(*) FROM traces WHERE answer = ?", id);
    /* The question takes its answer along, and that its citations and trace. */
    if (rc == PH_OK) rc = db_run(s, err, "DELETE FROM questions WHERE id = ?", "i", question);
    if (rc == PH_OK)
        rc = db_run(s, err,
                    "DELETE FROM conversations WHERE id = ?1"
                    " AND NOT EXISTS (SELECT 1 FROM questions WHERE conversation = ?1)",
                    "i", conversation);
    r->answers++;
    r->questions++;
    return rc;
}

/* What follows it goes first, the newest before what it follows; UNION, because in a damaged database they
 * may go round. One that went along with another is not there any more. */
int erase_answer(store *s, int64_t id, store_receipt *r, ph_error *err) {
    s->scrub = true;
    return erase_each(s,
                      "WITH RECURSIVE gone (id) AS (SELECT id FROM answers WHERE id = ?1 UNION"
                      " SELECT a.id FROM answers a JOIN gone ON a.follows = gone.id)"
                      " SELECT id FROM gone ORDER BY id DESC",
                      id, erase_one_answer, r, err);
}

int erase_pack(store *s, int64_t id, store_receipt *r, ph_error *err) {
    int64_t files, bytes;
    s->scrub = true;
    /* A trace names token positions of the pack: without it they mean nothing, and they came from its text.
     */
    int rc = count(s, &r->traces, err,
                   "SELECT count(*) FROM traces WHERE answer IN (SELECT id FROM answers WHERE pack = ?)", id);
    if (rc == PH_OK)
        rc = db_run(s, err, "DELETE FROM traces WHERE answer IN (SELECT id FROM answers WHERE pack = ?)", "i",
                    id);
    if (rc == PH_OK) rc = db_run(s, err, "DELETE FROM packs WHERE id = ?", "i", id);
    if (rc == PH_OK) rc = files_snapshot_usage(s, id, &files, &bytes, err);
    if (rc == PH_OK) {
        r->packs++;
        r->snapshots += files;
        r->snapshot_bytes += bytes;
        rc = files_remember(s, (loose_file){.pack = id}, err);
    }
    return rc;
}

/* An evaluation run that read the document, with its cells. */
static int erase_run(store *s, int64_t id, store_receipt *r, ph_error *err) {
    r->runs++;
    return db_run(s, err, "DELETE FROM runs WHERE id = ?", "i", id);
}

static int erase_document(store *s, const store_document *d, store_receipt *r, ph_error *err) {
    s->scrub = true;
    int rc =
        erase_each(s, "SELECT answer FROM answer_documents WHERE document = ?", d->id, erase_answer, r, err);
    if (rc == PH_OK)
        rc = erase_each(s, "SELECT pack FROM pack_documents WHERE document = ?", d->id, erase_pack, r, err);
    if (rc == PH_OK)
        rc = erase_each(s, "SELECT run FROM run_documents WHERE document = ?", d->id, erase_run, r, err);
    char *text = NULL;
    size_t len;
    if (rc == PH_OK) {
        rc = documents_read_text(s, d->id, &text, &len, err);
        if (rc == PH_CORRUPT) rc = PH_OK; /* damaged or not, it goes */
    }
    if (rc == PH_OK) rc = search_remove(s, d->id, text, err);
    free(text);
    if (rc == PH_OK) rc = count(s, &r->segments, err, "SELECT segments FROM documents WHERE id = ?", d->id);
    int64_t has_file = 0;
    if (rc == PH_OK)
        rc = db_int(s, &has_file, err, "SELECT has_file FROM documents WHERE id = ?", "i", d->id);
    if (rc == PH_OK && has_file) {
        loose_file file = {0};
        struct stat st;
        char *path;
        memcpy(file.hash, d->hash, STORE_HASH_BYTES);
        rc = files_original_path(s, &path, d->hash, err);
        if (rc == PH_OK && stat(path, &st) == 0) {
            r->files++;
            r->file_bytes += st.st_size;
        }
        free(path);
        if (rc == PH_OK) rc = files_remember(s, file, err);
    }
    if (rc == PH_OK) rc = db_run(s, err, "DELETE FROM texts WHERE document = ?", "i", d->id);
    if (rc == PH_OK) rc = db_run(s, err, "DELETE FROM documents WHERE id = ?", "i", d->id);
    r->documents++;
    r->text_bytes += d->text_bytes;
    return rc;
}

int store_document_delete(store *s, int64_t id, store_receipt *receipt, ph_error *err) {
    store_receipt r = {0};
    store_document d;
    if (receipt) *receipt = r;
    int rc = store_begin(s, err);
    if (rc) return rc;
    if ((rc = store_document_get(s, id, &d, err))) {
        store_leave(s);
        return rc;
    }
    rc = erase_document(s, &d, &r, err);
    store_document_free(&d);
    if (rc) {
        store_rollback(s);
        return rc;
    }
    /* From here on it is gone, even where a file or the log could not be cleaned and the caller is told so.
     */
    if (receipt) *receipt = r;
    return store_commit(s, err);
}

/* The two that are named by id alone. */
static int delete_one(store *s, int64_t id, const char *exists, const char *what,
                      int (*erase)(store *, int64_t, store_receipt *, ph_error *), store_receipt *receipt,
                      ph_error *err) {
    store_receipt r = {0};
    int64_t there;
    if (receipt) *receipt = r;
    int rc = store_begin(s, err);
    if (rc) return rc;
    rc = db_int(s, &there, err, exists, "i", id);
    if (rc == PH_OK && !there) rc = ph_fail(err, PH_NOT_FOUND, "there is no %s %lld", what, (long long)id);
    if (rc) {
        store_leave(s);
        return rc;
    }
    if ((rc = erase(s, id, &r, err))) {
        store_rollback(s);
        return rc;
    }
    if (receipt) *receipt = r;
    return store_commit(s, err);
}

int store_pack_delete(store *s, int64_t id, store_receipt *receipt, ph_error *err) {
    return delete_one(s, id, "SELECT count(*) FROM packs WHERE id = ?", "pack", erase_pack, receipt, err);
}

int store_answer_delete(store *s, int64_t id, store_receipt *receipt, ph_error *err) {
    return delete_one(s, id, "SELECT count(*) FROM answers WHERE id = ?", "answer", erase_answer, receipt,
                      err);
}
