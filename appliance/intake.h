/* intake.h - files, folders, URLs and standard input into the store: hash, notice what is there, extract,
 * keep. */
#ifndef PHAROS_INTAKE_H
#define PHAROS_INTAKE_H

#include "ingest/ingest.h"
#include "store/store.h"

typedef enum intake_state {
    INTAKE_ADDED,
    INTAKE_UPDATED,
    INTAKE_KNOWN,
    INTAKE_SKIPPED,
    INTAKE_FAILED
} intake_state;
const char *intake_state_name(intake_state s); /* "added", ... */

/* What became of one file. Borrowed for the callback. */
typedef struct intake_result {
    intake_state state;
    const char *name;             /* the document's, or the file's where there is none */
    const char *detail;           /* why it failed or was skipped; a warning; "" */
    int64_t document, text_bytes; /* 0 where there is none */
    uint32_t pages;
} intake_result;

typedef struct intake_options {
    ingest_limits limits;
    const char *stdin_name; /* NULL = "standard input" */
    void (*event)(void *user, const intake_result *result);
    int (*progress)(void *user, const char *name, uint64_t done, uint64_t total,
                    const char *unit); /* non-zero stops */
    /* Erases the older version of a document; NULL = store_document_delete, with which packs go whole. */
    int (*erase)(void *user, store *s, int64_t document, ph_error *err);
    void *user;
} intake_options;

/* path: a file, a folder (recursively), an http(s) URL, or "-". A bad file is an event and does not end the
 * walk; errors are those that concern the whole: the store, interruption, a path that does not exist. */
int intake_path(store *s, const char *path, const intake_options *o, ph_error *err);

/* One file that has a name and a source of its own ("" = none): what came in by upload. */
int intake_file(store *s, const char *path, const char *name, const char *source, const intake_options *o,
                ph_error *err);

/* Whether reading a document's file again may say more of it: OCR is asked for, and has not looked at the PDF's or picture's
 * pages in these languages. It is done where the file comes again; what was read of it before is erased if the text is another. */
bool intake_reads_more(const store_document *d, const ingest_limits *limits);

/* By the options' erase. */
int intake_erase(store *s, int64_t document, const intake_options *o, ph_error *err);

#endif
