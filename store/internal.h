/* internal.h - what the files of store/ share. Nothing outside the folder includes it, except its tests.
 *
 *     store.c           open, close, transactions
 *     migrations.c      the schema, as numbered steps
 *     database.c        statements: bind, step, columns; SQLite's errors as ours
 *     files.c           originals and snapshots on disk
 *     bytes.c           zstd blobs, clean UTF-8
 *     segments_codec.c  a document's segments as one blob
 *     documents.c, search.c, packs.c, answers.c   the rows
 *     tokens.c          who may come in, and whose a question is
 *     erase.c           deleting, and the counting of what was deleted
 *     verify.c          totals and self-check
 *     backup.c          the whole as one file, and back
 */
#ifndef PHAROS_STORE_INTERNAL_H
#define PHAROS_STORE_INTERNAL_H

#include "store/store.h"

#include <sqlite3.h>

enum {
    STORE_APPLICATION_ID =
        0x50686172, /* "Phar", in the database's header: `file` and a foreign program can tell */
    STORE_HASH_BYTES = 32,
    STORE_BUSY_MS = 5000,
};
#define STORE_MAX_BLOB ((uint64_t)1 << 30)   /* of a text, segments or a trace, uncompressed */
#define STORE_MAX_STRING ((size_t)1 << 20)   /* of a name, a title, a question; refused above */
#define STORE_MAX_ANSWER ((size_t)256 << 20) /* of an answer or a quote */

/* A file that may have to go once the transaction has ended; see files.c. */
typedef struct loose_file {
    uint8_t hash[STORE_HASH_BYTES]; /* an original, where pack == 0 */
    int64_t pack;                   /* else the snapshot of this pack */
    bool created;                   /* true: goes on rollback; false: goes on commit */
} loose_file;

struct store {
    sqlite3 *db;
    sqlite3_stmt *rollback;
    char *dir;   /* absolute */
    int depth;   /* of store_begin */
    bool failed; /* an inner call rolled the whole back; the outer ones cannot commit any more */
    bool scrub;  /* something was deleted: empty the write-ahead log after the commit */
    loose_file *loose;
    size_t n_loose;
};

/* ---- database.c ---- */

/* err from what SQLite said last. */
int db_fail(store *s, ph_error *err);
/* Prepares sql and binds by `kinds`, one letter a parameter: i int64_t, d double (not finite = 0), t const
 * char * (NULL = ""), h hash (32 bytes), b blob (const void *, size_t), I int64_t with 0 as NULL. Blobs and
 * text are borrowed until the statement is finalized. */
int db_prepare(store *s, sqlite3_stmt **out, ph_error *err, const char *sql, const char *kinds, ...);
/* *row = whether there is one. On failure the statement is still the caller's to finalize. */
int db_step(store *s, sqlite3_stmt *statement, bool *row, ph_error *err);
/* Prepare, step to the end, finalize. */
int db_run(store *s, ph_error *err, const char *sql, const char *kinds, ...);
/* The first column of the first row; *value = 0 where there is no row. */
int db_int(store *s, int64_t *value, ph_error *err, const char *sql, const char *kinds, ...);
/* Owned copy of a text column, "" for NULL. A NUL inside (hostile database) ends it; bad UTF-8 is replaced.
 */
int db_text(store *s, char **out, sqlite3_stmt *statement, int column, ph_error *err);
int db_hash(store *s, uint8_t hash[STORE_HASH_BYTES], sqlite3_stmt *statement, int column, ph_error *err);
double db_real(sqlite3_stmt *statement, int column); /* 0 where it is not finite */
int db_corrupt(store *s, ph_error *err, const char *what);
int ph_no_memory(ph_error *err, uint64_t bytes);
/* Makes room for one more in *list of *n; capacities are the powers of two. */
int db_grow(void **list, size_t n, size_t item, ph_error *err);

/* ---- store.c ---- */

/* Ends a transaction in which nothing was written: an outer one stays as it is. */
void store_leave(store *s);
/* A consistent view for several SELECTs in a row; a no-op inside a transaction. */
int store_read_begin(store *s, bool *began, ph_error *err);
void store_read_end(store *s, bool began);

/* ---- migrations.c ---- */
int migrations_check(store *s,
                     ph_error *err); /* before anything is written: is this file ours, and not newer? */
int migrations_run(store *s, ph_error *err);
int migrations_latest(void);

/* ---- bytes.c ---- */

/* Owned, valid UTF-8: each byte that is not part of a character becomes U+FFFD. PH_TOO_LARGE above `limit`.
 */
int clean_utf8(char **out, const char *text, size_t limit, const char *what, ph_error *err);
int blob_pack(void **out, size_t *packed, const void *data, size_t n, ph_error *err);
/* *out is NUL-terminated. PH_CORRUPT where the blob is not exactly `expect` bytes uncompressed. */
int blob_unpack(void **out, uint64_t expect, const void *data, size_t n, ph_error *err);

/* ---- segments_codec.c ---- */
int segments_encode(uint8_t **out, size_t *size, const store_segment *segments, size_t n, uint64_t text_bytes,
                    ph_error *err);
/* One allocation holds segments and rects. */
int segments_decode(store_segment **out, size_t *n, const uint8_t *data, size_t size, uint64_t text_bytes,
                    ph_error *err);

/* ---- files.c ---- */
typedef struct incoming_file { /* a copy of an original that is not in its place yet */
    char *path;                /* NULL = none */
    int fd;                    /* holds a lock, so that a sweep by another process leaves it alone */
} incoming_file;

int files_make_folder(const char *path, ph_error *err); /* with parents, 0700 */
void files_remove_folder(const char *path);             /* with all that is in it; follows no link */
int files_copy_in(store *s, incoming_file *in, const char *from, const uint8_t hash[STORE_HASH_BYTES],
                  ph_error *err);
int files_accept(store *s, incoming_file *in, const uint8_t hash[STORE_HASH_BYTES], ph_error *err);
void files_discard(incoming_file *in);
int files_original_path(store *s, char **path, const uint8_t hash[STORE_HASH_BYTES], ph_error *err);
int files_snapshot_path(store *s, char **path, int64_t pack, ph_error *err);
int files_remember(store *s, loose_file file, ph_error *err);
/* Removes the remembered files that no row names any more. Call outside a transaction: takes one. */
int files_settle(store *s, bool committed, ph_error *err);
/* Removes what crashes left behind. Does nothing while another process writes. */
int files_sweep(store *s, ph_error *err);
/* Bytes that a pack's snapshot files take on disk (they are sparse) and how many there are. */
int files_snapshot_usage(store *s, int64_t pack, int64_t *files, int64_t *bytes, ph_error *err);
int files_hash(uint8_t hash[STORE_HASH_BYTES], int fd, const char *path, ph_error *err);
/* Calls `each` for every file below files/ and snapshots/: `kind` 'o' original (hash set), 's' snapshot (pack
 * set), 't' unfinished copy, '?' anything else. Non-zero stops. */
typedef int (*files_each)(void *user, char kind, const char *path, const uint8_t *hash, int64_t pack,
                          ph_error *err);
int files_walk(store *s, files_each each, void *user, ph_error *err);

/* ---- search.c ---- */
int search_add(store *s, int64_t document, const char *text, size_t len, ph_error *err);
/* Takes the document's passages out of the index, and their words out of its pages. `text` NULL = unreadable.
 */
int search_remove(store *s, int64_t document, const char *text, ph_error *err);
/* Where the passage that starts at `at` ends; used by the tests too. */
size_t search_passage_end(const char *text, size_t len, size_t at);

/* ---- documents.c ---- */
int documents_read_text(store *s, int64_t id, char **text, size_t *len, ph_error *err);

/* ---- erase.c ---- */
int erase_answer(store *s, int64_t id, store_receipt *receipt, ph_error *err);
int erase_pack(store *s, int64_t id, store_receipt *receipt, ph_error *err);

#endif
