/* serve_uploads.h - files on their way in: spooled, queued, read by one thread, and what became of each.
 *
 * A file that the server has acknowledged survives a crash: its bytes and its name lie in DIR/uploads until
 * it is in the store (or is known not to be readable), and the next server goes on from there. One server at
 * a time for a folder.
 */
#ifndef PHAROS_SERVE_UPLOADS_H
#define PHAROS_SERVE_UPLOADS_H

#include "ingest/ingest.h"
#include "store/store.h"

#include <jansson.h>
#include <stdbool.h>

typedef struct uploads uploads;
typedef struct upload upload; /* one file that is being received */

typedef struct uploads_options {
    const char *data_dir;
    uint64_t file_bytes;        /* the largest file */
    int capacity;               /* files that wait */
    void (*stored)(void *user); /* a document has come; any thread */
    /* The older reading of a document whose file has come again; the thread that reads */
    int (*erase)(void *user, int64_t document, ph_error *err);
    void *user;
} uploads_options;

int uploads_start(uploads **out, const uploads_options *o, ph_error *err);
/* What is being read stops, and starts anew with the next server. */
void uploads_stop(uploads *u);
void uploads_free(uploads *u); /* NULL is fine */

/* ---- receiving ---- */

/* PH_BUSY when too many wait or come in at once. ocr: languages in which its pictures are to be read, valid; "" = they
 * are not. */
int upload_begin(upload **out, uploads *u, const char *name, uint64_t size, const char *ocr, ph_error *err);
/* A failure is kept and told by upload_end. */
void upload_write(upload *up, const void *bytes, size_t n);
/* On disk for good; `s` tells whether the content is there already. *row = the job, as JSON; *known. */
int upload_end(upload *up, store *s, json_t **row, bool *known, ph_error *err);
/* Instead of upload_end: what came, as a whole, with a NUL behind it; owned. It leaves nothing on disk. */
int upload_whole(upload *up, char **bytes, size_t *n, ph_error *err);
void upload_abandon(upload *up); /* after upload_end too: frees it */

int uploads_fetch(uploads *u, const char *url, const char *ocr, json_t **row, ph_error *err);

/* ---- files of watched folders: told of in the same list (serve_watch.h) ---- */

typedef enum watched_state {
    WATCHED_READING,
    WATCHED_ADDED,
    WATCHED_KNOWN,
    WATCHED_FAILED,
    WATCHED_REMOVED
} watched_state;

typedef struct watched_file {
    const char *name, *detail, *unit;
    watched_state state;
    uint64_t done, total;
    int64_t document; /* 0 = none */
} watched_file;

/* What became of it; replaces what was told of the same name before. */
void uploads_tell(uploads *u, const watched_file *f);
void uploads_untell(uploads *u, const char *name); /* takes it off the list */

/* ---- looking ---- */

json_t *uploads_list(uploads *u);               /* array of jobs, oldest first */
json_t *uploads_get(uploads *u, int64_t id);    /* NULL: there is none */
json_t *uploads_cancel(uploads *u, int64_t id); /* stops or dismisses; as it was; NULL: there is none */
int uploads_waiting(uploads *u);                /* files queued or being read */

#endif
