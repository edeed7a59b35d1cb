/* database.c - SQLite statements in as few words as possible, and its errors in ours. */
#include "store/internal.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

int ph_no_memory(ph_error *err, uint64_t bytes) {
    return ph_fail(err, PH_MEMORY, "out of memory (%llu bytes)", (unsigned long long)bytes);
}

int db_corrupt(store *s, ph_error *err, const char *what) {
    return ph_fail(err, PH_CORRUPT, "the database %s/pharos.db is damaged: %s", s->dir, what);
}

int db_fail(store *s, ph_error *err) {
    int rc = sqlite3_errcode(s->db), sys = sqlite3_system_errno(s->db);
    const char *said = sqlite3_errmsg(s->db);
    switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return ph_fail(err, PH_BUSY, "another process is using the store %s (waited %d seconds)", s->dir,
                       STORE_BUSY_MS / 1000);
    case SQLITE_NOTADB:
        return ph_fail(err, PH_CORRUPT, "%s/pharos.db is not a Pharos database (%s); it was left as it is",
                       s->dir, said);
    case SQLITE_CORRUPT:
    case SQLITE_MISMATCH:
        return db_corrupt(s, err, said);
    case SQLITE_FULL:
        return ph_fail(err, PH_FAIL, "disk full while writing to %s", s->dir);
    case SQLITE_IOERR:
        if (sys == ENOSPC || sys == EDQUOT || sys == EFBIG)
            return ph_fail(err, PH_FAIL, "disk full while writing to %s (%s)", s->dir, strerror(sys));
        return ph_fail(err, PH_FAIL, "%s/pharos.db: %s%s%s", s->dir, said, sys ? ": " : "",
                       sys ? strerror(sys) : "");
    case SQLITE_NOMEM:
        return ph_fail(err, PH_MEMORY, "out of memory in the database");
    case SQLITE_TOOBIG:
        return ph_fail(err, PH_TOO_LARGE, "too large for the database: %s", said);
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return ph_fail(err, PH_FAIL, "%s/pharos.db cannot be written: %s", s->dir, said);
    case SQLITE_ERROR:
        /* The statements are ours and tested: one that does not fit means that the tables are not. */
        return db_corrupt(s, err, said);
    default:
        return ph_fail(err, PH_FAIL, "%s/pharos.db: %s", s->dir, said);
    }
}

static int bind_all(store *s, sqlite3_stmt *statement, const char *kinds, va_list args) {
    int rc = SQLITE_OK;
    for (int i = 1; *kinds && rc == SQLITE_OK; kinds++, i++) {
        switch (*kinds) {
        case 'i':
            rc = sqlite3_bind_int64(statement, i, va_arg(args, int64_t));
            break;
        case 'I': {
            int64_t v = va_arg(args, int64_t);
            rc = v ? sqlite3_bind_int64(statement, i, v) : sqlite3_bind_null(statement, i);
            break;
        }
        case 'd': {
            double v = va_arg(args, double);
            rc = sqlite3_bind_double(statement, i, isfinite(v) ? v : 0);
            break;
        }
        case 't': {
            const char *v = va_arg(args, const char *);
            rc = sqlite3_bind_text64(statement, i, v ? v : "", v ? strlen(v) : 0, SQLITE_STATIC, SQLITE_UTF8);
            break;
        }
        case 'h':
            rc = sqlite3_bind_blob(statement, i, va_arg(args, const uint8_t *), STORE_HASH_BYTES, NULL);
            break;
        case 'b': {
            const void *v = va_arg(args, const void *);
            size_t n = va_arg(args, size_t);
            rc = sqlite3_bind_blob64(statement, i, v ? v : "", n, SQLITE_STATIC);
            break;
        }
        default:
            return SQLITE_MISUSE;
        }
    }
    return rc;
}

static int prepare(store *s, sqlite3_stmt **out, ph_error *err, const char *sql, const char *kinds,
                   va_list args) {
    *out = NULL;
    if (sqlite3_prepare_v2(s->db, sql, -1, out, NULL) == SQLITE_OK &&
        bind_all(s, *out, kinds, args) == SQLITE_OK)
        return PH_OK;
    int rc = db_fail(s, err);
    sqlite3_finalize(*out);
    *out = NULL;
    return rc;
}

int db_prepare(store *s, sqlite3_stmt **out, ph_error *err, const char *sql, const char *kinds, ...) {
    va_list args;
    va_start(args, kinds);
    int rc = prepare(s, out, err, sql, kinds, args);
    va_end(args);
    return rc;
}

int db_step(store *s, sqlite3_stmt *statement, bool *row, ph_error *err) {
    int rc = sqlite3_step(statement);
    *row = rc == SQLITE_ROW;
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? PH_OK : db_fail(s, err);
}

int db_run(store *s, ph_error *err, const char *sql, const char *kinds, ...) {
    sqlite3_stmt *statement;
    va_list args;
    va_start(args, kinds);
    int rc = prepare(s, &statement, err, sql, kinds, args);
    va_end(args);
    for (bool row = true; rc == PH_OK && row;) rc = db_step(s, statement, &row, err);
    sqlite3_finalize(statement);
    return rc;
}

int db_int(store *s, int64_t *value, ph_error *err, const char *sql, const char *kinds, ...) {
    sqlite3_stmt *statement;
    va_list args;
    va_start(args, kinds);
    int rc = prepare(s, &statement, err, sql, kinds, args);
    va_end(args);
    bool row = false;
    *value = 0;
    if (rc == PH_OK) rc = db_step(s, statement, &row, err);
    if (rc == PH_OK && row) *value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return rc;
}

int db_text(store *s, char **out, sqlite3_stmt *statement, int column, ph_error *err) {
    const char *text = (const char *)sqlite3_column_text(statement, column);
    if (!text && sqlite3_column_type(statement, column) != SQLITE_NULL) return ph_no_memory(err, 0);
    return clean_utf8(out, text ? text : "", STORE_MAX_BLOB, "a text of the database", err);
}

int db_hash(store *s, uint8_t hash[STORE_HASH_BYTES], sqlite3_stmt *statement, int column, ph_error *err) {
    const void *blob = sqlite3_column_blob(statement, column);
    if (!blob || sqlite3_column_bytes(statement, column) != STORE_HASH_BYTES)
        return db_corrupt(s, err, "a hash has the wrong length");
    memcpy(hash, blob, STORE_HASH_BYTES);
    return PH_OK;
}

double db_real(sqlite3_stmt *statement, int column) {
    double v = sqlite3_column_double(statement, column);
    return isfinite(v) ? v : 0;
}

int db_grow(void **list, size_t n, size_t item, ph_error *err) {
    if (n & (n - 1)) return PH_OK; /* full only at powers of two (and at 0) */
    size_t capacity = n ? n * 2 : 1, bytes;
    if (__builtin_mul_overflow(capacity, item, &bytes)) return ph_no_memory(err, UINT64_MAX);
    void *more = realloc(*list, bytes);
    if (!more) return ph_no_memory(err, bytes);
    *list = more;
    return PH_OK;
}
