/* documents.c - documents, their text and their segments. */
#include "store/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void store_document_free(store_document *d) {
    free(d->name);
    free(d->source);
    free(d->media_type);
    free(d->title);
    free(d->warning);
    free(d->picture_pages);
    free(d->ocr);
    *d = (store_document){0};
}

void store_documents_free(store_document *list, size_t n) {
    for (size_t i = 0; i < n; i++) store_document_free(&list[i]);
    free(list);
}

/* ---- reading ---- */

#define COLUMNS                                                                                              \
    "id, hash, name, source, media_type, title, warning, picture_pages, bytes, text_bytes, added_at,"        \
    " source_mtime_ns, pages, ocr"

static int read_row(store *s, store_document *d, sqlite3_stmt *row, ph_error *err) {
    *d = (store_document){.id = sqlite3_column_int64(row, 0),
                          .bytes = sqlite3_column_int64(row, 8),
                          .text_bytes = sqlite3_column_int64(row, 9),
                          .added_at = sqlite3_column_int64(row, 10),
                          .source_mtime_ns = sqlite3_column_int64(row, 11),
                          .pages = (uint32_t)sqlite3_column_int64(row, 12)};
    int64_t pages = sqlite3_column_int64(row, 12);
    char **const texts[] = {&d->name, &d->source, &d->media_type, &d->title, &d->warning, &d->picture_pages};
    int rc = db_hash(s, d->hash, row, 1, err);
    for (int i = 0; rc == PH_OK && i < 6; i++) rc = db_text(s, texts[i], row, 2 + i, err);
    if (rc == PH_OK) rc = db_text(s, &d->ocr, row, 13, err);
    if (rc == PH_OK && (d->bytes < 0 || d->text_bytes < 0 || (uint64_t)d->text_bytes > STORE_MAX_BLOB ||
                        pages < 0 || pages > UINT32_MAX))
        rc = db_corrupt(s, err, "a document has an impossible size");
    if (rc) store_document_free(d);
    return rc;
}

/* All rows of a SELECT of COLUMNS; finalizes it. */
static int read_rows(store *s, sqlite3_stmt *statement, store_document **out, size_t *n, ph_error *err) {
    store_document *list = NULL;
    size_t count = 0;
    bool row;
    int rc;
    while ((rc = db_step(s, statement, &row, err)) == PH_OK && row) {
        if ((rc = db_grow((void **)&list, count, sizeof *list, err))) break;
        if ((rc = read_row(s, &list[count], statement, err))) break;
        count++;
    }
    sqlite3_finalize(statement);
    if (rc) {
        store_documents_free(list, count);
        list = NULL;
        count = 0;
    }
    *out = list;
    *n = count;
    return rc;
}

/* The one row of a SELECT of COLUMNS; finalizes it. *found = false where there is none. */
static int read_one(store *s, sqlite3_stmt *statement, store_document *out, bool *found, ph_error *err) {
    int rc = db_step(s, statement, found, err);
    if (rc == PH_OK && *found) rc = read_row(s, out, statement, err);
    sqlite3_finalize(statement);
    return rc;
}

static int not_found(int64_t id, ph_error *err) {
    return ph_fail(err, PH_NOT_FOUND, "there is no document %lld", (long long)id);
}

int store_document_get(store *s, int64_t id, store_document *out, ph_error *err) {
    sqlite3_stmt *statement;
    bool found = false;
    *out = (store_document){0};
    int rc = db_prepare(s, &statement, err, "SELECT " COLUMNS " FROM documents WHERE id = ?", "i", id);
    if (rc == PH_OK) rc = read_one(s, statement, out, &found, err);
    return rc || found ? rc : not_found(id, err);
}

int store_document_by_hash(store *s, const uint8_t hash[32], store_document *out, ph_error *err) {
    sqlite3_stmt *statement;
    bool found = false;
    *out = (store_document){0};
    int rc = db_prepare(s, &statement, err, "SELECT " COLUMNS " FROM documents WHERE hash = ?", "h", hash);
    if (rc == PH_OK) rc = read_one(s, statement, out, &found, err);
    return rc || found ? rc : ph_fail(err, PH_NOT_FOUND, "there is no document with this content");
}

int store_document_list(store *s, store_document **out, size_t *n, ph_error *err) {
    sqlite3_stmt *statement;
    *out = NULL;
    *n = 0;
    int rc = db_prepare(s, &statement, err, "SELECT " COLUMNS " FROM documents ORDER BY id", "");
    return rc ? rc : read_rows(s, statement, out, n, err);
}

static int find_by(store *s, const char *sql, const char *key, store_document *out, bool *found,
                   ph_error *err) {
    sqlite3_stmt *statement;
    store_document *list;
    size_t n;
    int rc = db_prepare(s, &statement, err, sql, "t", key);
    if (rc == PH_OK) rc = read_rows(s, statement, &list, &n, err);
    if (rc) return rc;
    if (n > 1)
        rc = ph_fail(err, PH_USAGE, "\"%s\" could be document %lld (%s) or %lld (%s)%s: use the number", key,
                     (long long)list[0].id, list[0].name, (long long)list[1].id, list[1].name,
                     n > 2 ? " or more" : "");
    *found = n == 1;
    if (n == 1) {
        *out = list[0];
        n = 0; /* its strings are the caller's now */
    }
    store_documents_free(list, n);
    return rc;
}

int store_document_find(store *s, const char *key, store_document *out, ph_error *err) {
    static const char *const ways[] = {
        "SELECT " COLUMNS " FROM documents WHERE name = ?1",
        "SELECT " COLUMNS " FROM documents WHERE source = ?1 ORDER BY id LIMIT 3",
        "SELECT " COLUMNS
        " FROM documents WHERE substr(name, -length(?1) - 1) = '/' || ?1 ORDER BY id LIMIT 3",
    };
    *out = (store_document){0};
    if (!key || !*key) return ph_fail(err, PH_USAGE, "no document was named");
    if (strspn(key, "0123456789") == strlen(key)) {
        errno = 0;
        long long id = strtoll(key, NULL, 10);
        int rc = errno ? PH_NOT_FOUND : store_document_get(s, id, out, err);
        if (rc != PH_NOT_FOUND) return rc;
    }
    /* Names are kept as clean UTF-8, so the key must be made so too before it is compared. */
    char *clean;
    bool found = false;
    int rc = clean_utf8(&clean, key, STORE_MAX_STRING, "the name", err);
    for (int i = 0; rc == PH_OK && !found && i < 3; i++) rc = find_by(s, ways[i], clean, out, &found, err);
    if (rc == PH_OK && !found) rc = ph_fail(err, PH_NOT_FOUND, "there is no document \"%.200s\"", clean);
    free(clean);
    return rc;
}

int documents_read_text(store *s, int64_t id, char **text, size_t *len, ph_error *err) {
    sqlite3_stmt *statement;
    bool row = false;
    *text = NULL;
    *len = 0;
    int rc = db_prepare(s, &statement, err,
                        "SELECT t.text, d.text_bytes FROM documents d LEFT JOIN texts t ON t.document = d.id"
                        " WHERE d.id = ?",
                        "i", id);
    if (rc == PH_OK) rc = db_step(s, statement, &row, err);
    if (rc == PH_OK && !row) rc = not_found(id, err);
    if (rc == PH_OK) {
        uint64_t expect = (uint64_t)sqlite3_column_int64(statement, 1);
        const void *blob = sqlite3_column_blob(statement, 0);
        rc = blob_unpack((void **)text, expect, blob, (size_t)sqlite3_column_bytes(statement, 0), err);
        if (rc) ph_context(err, "the text of document %lld", (long long)id);
        /* Everything that reads it takes it for a C string too. */
        else if (memchr(*text, 0, expect)) {
            free(*text);
            *text = NULL;
            rc = db_corrupt(s, err, "a text has a NUL inside");
        } else {
            *len = expect;
        }
    }
    sqlite3_finalize(statement);
    return rc;
}

int store_document_text(store *s, int64_t id, char **text, size_t *len, ph_error *err) {
    return documents_read_text(s, id, text, len, err);
}

int store_document_segments(store *s, int64_t id, store_segment **out, size_t *n, ph_error *err) {
    sqlite3_stmt *statement;
    bool row = false;
    void *bytes = NULL;
    *out = NULL;
    *n = 0;
    int rc = db_prepare(s, &statement, err,
                        "SELECT t.segments, t.segments_bytes, d.text_bytes, d.segments FROM documents d"
                        " LEFT JOIN texts t ON t.document = d.id WHERE d.id = ?",
                        "i", id);
    if (rc == PH_OK) rc = db_step(s, statement, &row, err);
    if (rc == PH_OK && !row) rc = not_found(id, err);
    if (rc == PH_OK) {
        uint64_t expect = (uint64_t)sqlite3_column_int64(statement, 1);
        const void *blob = sqlite3_column_blob(statement, 0);
        rc = blob_unpack(&bytes, expect, blob, (size_t)sqlite3_column_bytes(statement, 0), err);
        if (rc == PH_OK)
            rc = segments_decode(out, n, bytes, expect, (uint64_t)sqlite3_column_int64(statement, 2), err);
        if (rc == PH_OK && (int64_t)*n != sqlite3_column_int64(statement, 3)) {
            store_segments_free(*out, *n);
            *out = NULL;
            *n = 0;
            rc = ph_fail(err, PH_CORRUPT, "their number is wrong");
        }
        if (rc) ph_context(err, "the segments of document %lld", (long long)id);
    }
    free(bytes);
    sqlite3_finalize(statement);
    return rc;
}

int store_document_file(store *s, int64_t id, char **path, ph_error *err) {
    sqlite3_stmt *statement;
    bool row = false;
    uint8_t hash[STORE_HASH_BYTES];
    *path = NULL;
    int rc = db_prepare(s, &statement, err, "SELECT hash, has_file FROM documents WHERE id = ?", "i", id);
    if (rc == PH_OK) rc = db_step(s, statement, &row, err);
    if (rc == PH_OK && !row)
        rc = not_found(id, err);
    else if (rc == PH_OK && !sqlite3_column_int64(statement, 1))
        rc = ph_fail(err, PH_NOT_FOUND, "no original was kept of document %lld", (long long)id);
    if (rc == PH_OK) rc = db_hash(s, hash, statement, 0, err);
    if (rc == PH_OK) rc = files_original_path(s, path, hash, err);
    sqlite3_finalize(statement);
    return rc;
}

/* ---- adding ---- */

/* "a/report.pdf" -> "a/report (2).pdf" where the name is taken; `wanted` is clean. */
static int unique_name(store *s, char **out, const char *wanted, ph_error *err) {
    const char *base = strrchr(wanted, '/');
    base = base ? base + 1 : wanted;
    const char *dot = strrchr(base, '.');
    if (!dot || dot == base) dot = base + strlen(base); /* ".profile" has no extension */
    sqlite3_stmt *taken = NULL;
    char *name = NULL;
    bool row = true;
    int rc = db_prepare(s, &taken, err, "SELECT 1 FROM documents WHERE name = ?", "");
    for (int64_t n = 1; rc == PH_OK && row; n++) {
        free(name);
        int made = n == 1 ? asprintf(&name, "%s", wanted)
                          : asprintf(&name, "%.*s (%lld)%s", (int)(dot - wanted), wanted, (long long)n, dot);
        if (made < 0) {
            name = NULL;
            rc = ph_no_memory(err, strlen(wanted) + 32);
            break;
        }
        if (sqlite3_bind_text(taken, 1, name, -1, SQLITE_STATIC))
            rc = db_fail(s, err);
        else
            rc = db_step(s, taken, &row, err);
        sqlite3_reset(taken);
    }
    sqlite3_finalize(taken);
    if (rc) {
        free(name);
        name = NULL;
    }
    *out = name;
    return rc;
}

/* What goes into the rows, made before the writer lock is taken: others wait for inserts only. */
typedef struct prepared {
    char *name, *source, *media_type, *title, *warning, *picture_pages, *ocr; /* clean */
    void *text, *segments;                                              /* zstd */
    size_t text_packed, segments_packed, text_bytes, segments_bytes, n_segments;
    incoming_file file;
} prepared;

static void prepared_free(prepared *p) {
    free(p->name);
    free(p->source);
    free(p->media_type);
    free(p->title);
    free(p->warning);
    free(p->picture_pages);
    free(p->ocr);
    free(p->text);
    free(p->segments);
    files_discard(&p->file);
}

static int prepare_document(store *s, prepared *p, const store_document *d, const char *text,
                            const store_segment *segments, size_t n_segments, const char *file_path,
                            ph_error *err) {
    struct {
        char **to;
        const char *from, *what;
    } const strings[] = {
        {&p->name, d->name && *d->name ? d->name : "untitled", "the name"},
        {&p->source, d->source, "the source"},
        {&p->media_type, d->media_type, "the media type"},
        {&p->title, d->title, "the title"},
        {&p->warning, d->warning, "the warning"},
        {&p->picture_pages, d->picture_pages, "the list of picture pages"},
        {&p->ocr, d->ocr, "the languages of OCR"},
    };
    int rc = PH_OK;
    for (size_t i = 0; rc == PH_OK && i < sizeof strings / sizeof *strings; i++)
        rc = clean_utf8(strings[i].to, strings[i].from, STORE_MAX_STRING, strings[i].what, err);
    p->text_bytes = strlen(text);
    p->n_segments = n_segments;
    if (rc == PH_OK && p->text_bytes > STORE_MAX_BLOB)
        rc = ph_fail(err, PH_TOO_LARGE, "the text has %zu bytes; at most %llu can be kept", p->text_bytes,
                     (unsigned long long)STORE_MAX_BLOB);
    if (rc == PH_OK && (d->bytes < 0))
        rc = ph_fail(err, PH_USAGE, "a document of %lld bytes", (long long)d->bytes);
    uint8_t *encoded = NULL;
    if (rc == PH_OK)
        rc = segments_encode(&encoded, &p->segments_bytes, segments, n_segments, p->text_bytes, err);
    if (rc == PH_OK) rc = blob_pack(&p->segments, &p->segments_packed, encoded, p->segments_bytes, err);
    free(encoded);
    if (rc == PH_OK) rc = blob_pack(&p->text, &p->text_packed, text, p->text_bytes, err);
    if (rc == PH_OK && file_path) rc = files_copy_in(s, &p->file, file_path, d->hash, err);
    return rc;
}

static int insert_document(store *s, prepared *p, const store_document *d, const char *text, char **name,
                           int64_t *id, ph_error *err) {
    int rc = unique_name(s, name, p->name, err);
    bool has_file = p->file.path != NULL;
    if (rc == PH_OK && has_file) rc = files_accept(s, &p->file, d->hash, err);
    if (rc == PH_OK)
        rc = db_run(
            s, err,
            "INSERT INTO documents (hash, name, source, media_type, title, warning, picture_pages, bytes,"
            " text_bytes, added_at, source_mtime_ns, pages, segments, has_file, ocr)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            "htttttt"
            "iiiiiii"
            "t",
            d->hash, *name, p->source, p->media_type, p->title, p->warning, p->picture_pages, d->bytes,
            (int64_t)p->text_bytes, d->added_at, d->source_mtime_ns, (int64_t)d->pages,
            (int64_t)p->n_segments, (int64_t)has_file, p->ocr);
    *id = sqlite3_last_insert_rowid(s->db);
    if (rc == PH_OK)
        rc =
            db_run(s, err, "INSERT INTO texts (document, text, segments, segments_bytes) VALUES (?, ?, ?, ?)",
                   "ibbi", *id, p->text, p->text_packed, p->segments, p->segments_packed,
                   (int64_t)p->segments_bytes);
    if (rc == PH_OK) rc = search_add(s, *id, text, p->text_bytes, err);
    return rc;
}

static int id_of_hash(store *s, int64_t *id, const uint8_t hash[32], ph_error *err) {
    return db_int(s, id, err, "SELECT id FROM documents WHERE hash = ?", "h", hash);
}

int store_document_add(store *s, store_document *d, const char *text, const store_segment *segments,
                       size_t n_segments, const char *file_path, int64_t *existing, ph_error *err) {
    int64_t same = 0, id = 0;
    char *name = NULL;
    prepared p = {.file = {NULL, -1}};
    d->id = 0;
    if (existing) *existing = 0;
    int rc = id_of_hash(s, &same, d->hash, err);
    if (rc == PH_OK && !same) {
        rc = prepare_document(s, &p, d, text ? text : "", segments, n_segments, file_path, err);
        if (rc == PH_OK) rc = store_begin(s, err);
        if (rc == PH_OK) {
            rc = id_of_hash(s, &same, d->hash, err); /* again: another process may have been faster */
            if (rc == PH_OK && same) {
                store_leave(s);
            } else {
                if (rc == PH_OK) rc = insert_document(s, &p, d, text ? text : "", &name, &id, err);
                if (rc == PH_OK)
                    rc = store_commit(s, err);
                else
                    store_rollback(s);
            }
        }
    }
    if (rc == PH_OK && same) {
        if (existing) *existing = same;
    } else if (rc == PH_OK) {
        d->id = id;
        d->text_bytes = (int64_t)p.text_bytes;
        d->name = name;
        name = NULL;
    }
    free(name);
    prepared_free(&p);
    return rc;
}

int store_document_set_ocr(store *s, int64_t id, const char *languages, ph_error *err) {
    char *clean = NULL;
    int rc = clean_utf8(&clean, languages, STORE_MAX_STRING, "the languages of OCR", err);
    if (rc == PH_OK && (rc = store_begin(s, err)) == PH_OK) {
        rc = db_run(s, err, "UPDATE documents SET ocr = ? WHERE id = ?", "ti", clean, id);
        if (rc == PH_OK && sqlite3_changes(s->db) == 0) rc = not_found(id, err);
        if (rc == PH_OK)
            rc = store_commit(s, err);
        else
            store_rollback(s);
    }
    free(clean);
    return rc;
}
