/* serve_uploads_internal.h - the list of files on their way in, for the files serve_uploads*.c. */
#ifndef PHAROS_SERVE_UPLOADS_INTERNAL_H
#define PHAROS_SERVE_UPLOADS_INTERNAL_H

#include "appliance/serve_uploads.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

typedef enum item_state { QUEUED, FETCHING, READING, DONE, KNOWN, FAILED, STOPPED, REMOVED } item_state;

typedef struct item {
    struct item *next;
    int64_t id;
    bool url;
    bool watched; /* lies in a watched folder: it is told of here, and read elsewhere */
    char *name; /* or the URL */
    char ocr[INGEST_OCR_LANGUAGE_BYTES]; /* languages in which pictures are read; "" = they are not */
    item_state state;
    uint64_t done, total, bytes;
    char unit[8], detail[700];
    int64_t document;
    time_t added, ended;
    atomic_bool cancelled;
    bool dismissed; /* while the thread still has it: gone for everybody else */
} item;

struct uploads {
    uploads_options options;
    char *dir; /* DIR/uploads */
    int lock_file;
    store *store; /* the thread's */
    pthread_t thread;
    bool started;
    atomic_bool stopping;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t work;
    item *items, **last;
    int64_t next_id;
    int receiving, waiting;
    item *running;
};

/* ---- the list (serve_uploads.c): callers hold the lock ---- */

json_t *upload_item_json(const item *i);
bool upload_ended(const item *i);
/* A new one at the end; NULL: no memory. ocr NULL = none. */
item *upload_add(uploads *u, int64_t id, const char *name, bool url, const char *ocr);
void upload_limits(const uploads *u, const char *ocr, ingest_limits *limits); /* ocr: borrowed by them */
void upload_finish(uploads *u, item *i, item_state state);
void upload_forget(uploads *u, item *i); /* takes it out and frees it, on disk too */

/* ---- on disk (serve_uploads_disk.c) ---- */

char *upload_path(const uploads *u, int64_t id, const char *name); /* of the data; owned, NULL: no memory */
void upload_remove(const uploads *u, int64_t id, const char *name);
void upload_remove_data(const uploads *u, int64_t id, const char *name); /* the note stays */
int upload_sync(const char *dir); /* non-zero: failed, errno says why */
int upload_disk_error(const char *what, ph_error *err);
/* What it is called; and of one that has failed, why: then it stays in the list of the servers to come. */
int upload_write_note(const uploads *u, const item *i, ph_error *err);
/* Makes DIR/uploads, locks it and queues what an earlier server acknowledged. */
int uploads_open_folder(uploads *u, ph_error *err);

/* The thread that reads (serve_uploads_read.c); user is the uploads. */
void *uploads_read(void *user);

#endif
