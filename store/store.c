/* store.c - opening, closing and transactions. */
#include "store/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

const char *store_dir(const store *s) {
    return s->dir;
}

static int join(char **out, const char *dir, const char *name, ph_error *err) {
    if (asprintf(out, "%s/%s", dir, name) >= 0) return PH_OK;
    *out = NULL;
    return ph_no_memory(err, strlen(dir) + strlen(name) + 2);
}

static int make_folders(store *s, const char *dir, ph_error *err) {
    int rc = files_make_folder(dir, err);
    if (rc) return rc;
    s->dir = realpath(dir, NULL);
    if (!s->dir) return ph_fail(err, PH_FAIL, "%s: %s", dir, strerror(errno));
    static const char *const below[] = {"files", "snapshots"};
    for (size_t i = 0; rc == PH_OK && i < sizeof below / sizeof *below; i++) {
        char *path;
        if ((rc = join(&path, s->dir, below[i], err)) == PH_OK) rc = files_make_folder(path, err);
        free(path);
    }
    return rc;
}

/* Everything that this connection wants to be so; the database's content is not trusted to run anything. */
static int configure(store *s, ph_error *err) {
    sqlite3_extended_result_codes(s->db, 1);
    sqlite3_busy_timeout(s->db, STORE_BUSY_MS);
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
    static const char settings[] =
        "PRAGMA foreign_keys = ON;"
        "PRAGMA secure_delete = ON;"  /* zeroes what is freed */
        "PRAGMA synchronous = FULL;"  /* in WAL: what was committed survives a power cut */
        "PRAGMA temp_store = MEMORY;" /* no text in files of /tmp */
        "PRAGMA cell_size_check = ON;";
    return sqlite3_exec(s->db, settings, NULL, NULL, NULL) ? db_fail(s, err) : PH_OK;
}

/* SQLite does not call its busy handler for this change, so two processes that make the same store would
 * clash. */
static int use_wal(store *s, ph_error *err) {
    for (int waited = 0;; waited += 20) {
        sqlite3_stmt *statement;
        bool row = false;
        int rc = db_prepare(s, &statement, err, "PRAGMA journal_mode = WAL", "");
        if (rc == PH_OK) rc = db_step(s, statement, &row, err);
        const char *mode = row ? (const char *)sqlite3_column_text(statement, 0) : NULL;
        bool wal = mode && !strcmp(mode, "wal");
        sqlite3_finalize(statement);
        if (rc == PH_OK && wal) return PH_OK;
        if (rc == PH_OK)
            return ph_fail(err, PH_FAIL, "%s: this file system cannot hold a database with a write-ahead log",
                           s->dir);
        if (rc != PH_BUSY || waited >= STORE_BUSY_MS) return rc;
        nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
    }
}

/* The log that a crash left may hold what was deleted just before: empty it, unless somebody is using it. */
static void empty_old_log(store *s) {
    sqlite3_busy_timeout(s->db, 0);
    sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    sqlite3_busy_timeout(s->db, STORE_BUSY_MS);
}

static int stop_at_ours(void *user, char kind, const char *path, const uint8_t *hash, int64_t pack,
                        ph_error *err) {
    store *s = user;
    if (kind != 'o' && kind != 's') return PH_OK;
    return ph_fail(
        err, PH_CORRUPT,
        "%s/pharos.db is missing or empty, but %s is there: bring the database back, or move the folder away",
        s->dir, path);
}

/* In an empty database no row names a file: the sweep would take the originals of a lost one for orphans. */
static int refuse_lost_database(store *s, ph_error *err) {
    int64_t version;
    int rc = db_int(s, &version, err, "PRAGMA user_version", "");
    if (rc || version) return rc;
    rc = files_walk(s, stop_at_ours, s, err);
    if (rc == PH_CORRUPT) {
        /* Unless another process has made the database and added a document in this very moment. */
        int again = db_int(s, &version, NULL, "PRAGMA user_version", "");
        if (again == PH_OK && version) return PH_OK;
    }
    return rc;
}

int store_open(store **out, const char *dir, ph_error *err) {
    *out = NULL;
    if (!dir || !*dir) return ph_fail(err, PH_USAGE, "no folder was given for the store");
    if (sodium_init() < 0) return ph_fail(err, PH_FAIL, "libsodium cannot be initialised");
    store *s = calloc(1, sizeof *s);
    if (!s) return ph_no_memory(err, sizeof *s);
    char *path = NULL;
    int rc = make_folders(s, dir, err);
    if (rc == PH_OK) rc = join(&path, s->dir, "pharos.db", err);
    if (rc == PH_OK) {
        /* Made here first, because SQLite would give it the umask's mode; the log takes over its mode. */
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
        if (fd < 0)
            rc = ph_fail(err, PH_FAIL, "%s: %s", path, strerror(errno));
        else
            close(fd);
    }
    if (rc == PH_OK && sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL))
        rc = s->db ? db_fail(s, err) : ph_no_memory(err, 0);
    free(path);
    if (rc == PH_OK) rc = configure(s, err);
    if (rc == PH_OK) rc = db_prepare(s, &s->rollback, err, "ROLLBACK", "");
    if (rc == PH_OK) rc = migrations_check(s, err);
    if (rc == PH_OK) rc = refuse_lost_database(s, err);
    if (rc == PH_OK) rc = use_wal(s, err);
    if (rc == PH_OK) rc = migrations_run(s, err);
    if (rc == PH_OK) rc = files_sweep(s, err);
    if (rc) {
        store_close(s);
        return rc;
    }
    empty_old_log(s);
    *out = s;
    return PH_OK;
}

void store_close(store *s) {
    if (!s) return;
    if (s->depth) {
        s->depth = 1;
        store_rollback(s);
    }
    sqlite3_finalize(s->rollback);
    sqlite3_close(s->db); /* the last one out empties and removes the log */
    free(s->loose);
    free(s->dir);
    free(s);
}

/* Prepared at open: when memory has run out, there may be none to prepare it. Fails where SQLite has already
 * rolled back by itself (disk full): then it is done. */
static void roll_back(store *s) {
    sqlite3_step(s->rollback);
    sqlite3_reset(s->rollback);
}

int store_begin(store *s, ph_error *err) {
    if (s->failed) return ph_fail(err, PH_FAIL, "the transaction was undone by an earlier error");
    if (s->depth == 0) {
        if (!sqlite3_get_autocommit(s->db)) roll_back(s); /* what could not be, for want of memory */
        if (sqlite3_exec(s->db, "BEGIN IMMEDIATE", NULL, NULL, NULL)) return db_fail(s, err);
    }
    s->depth++;
    return PH_OK;
}

/* After the outermost end: files that follow the rows, and the log that may hold what was deleted. */
static int settle(store *s, bool committed, ph_error *err) {
    bool scrub = committed && s->scrub;
    s->scrub = false;
    int rc = files_settle(s, committed, err);
    if (!scrub) return rc;
    ph_error why;
    if (sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL) == SQLITE_OK)
        return rc;
    int log = db_fail(s, &why);
    if (rc) return rc;
    return ph_fail(
        err, log,
        "it is deleted, but its bytes are still in the write-ahead log, which could not be emptied (%s); "
        "they go when the last process closes the store, or with the next delete",
        why.text);
}

int store_commit(store *s, ph_error *err) {
    if (s->depth == 0) return ph_fail(err, PH_USAGE, "commit without begin");
    if (s->depth > 1) {
        s->depth--;
        return s->failed ? ph_fail(err, PH_FAIL, "the transaction was undone by an earlier error") : PH_OK;
    }
    if (s->failed) {
        s->depth = 0;
        s->failed = false;
        return ph_fail(err, PH_FAIL, "the transaction was undone by an earlier error");
    }
    if (sqlite3_exec(s->db, "COMMIT", NULL, NULL, NULL)) {
        int rc = db_fail(s, err);
        store_rollback(s);
        return rc;
    }
    s->depth = 0;
    return settle(s, true, err);
}

void store_rollback(store *s) {
    if (s->depth == 0) return;
    if (!s->failed) {
        roll_back(s);
        int outer = s->depth - 1;
        s->depth = 0;
        settle(s, false, NULL);
        s->depth = outer;
        s->failed = outer > 0;
    } else if (--s->depth == 0) {
        s->failed = false;
    }
}

void store_leave(store *s) {
    if (s->depth > 1)
        s->depth--;
    else
        store_rollback(s);
}

int store_read_begin(store *s, bool *began, ph_error *err) {
    *began = false;
    if (!sqlite3_get_autocommit(s->db)) return PH_OK;
    if (sqlite3_exec(s->db, "BEGIN", NULL, NULL, NULL)) return db_fail(s, err);
    *began = true;
    return PH_OK;
}

void store_read_end(store *s, bool began) {
    if (began) roll_back(s); /* nothing was written */
}
