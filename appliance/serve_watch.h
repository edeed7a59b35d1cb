/* serve_watch.h - a thread that keeps the library equal to folders while the server runs (watch.h). What it
 * does is told in the list of files on their way in. */
#ifndef PHAROS_SERVE_WATCH_H
#define PHAROS_SERVE_WATCH_H

#include "appliance/jobs.h"
#include "appliance/serve_uploads.h"

typedef struct watching watching;

typedef struct watching_options {
    const char *data_dir;
    char *const *folders; /* borrowed for the call */
    size_t n;
    unsigned every_ms; /* between two looks */
    uint64_t file_bytes;
    const char *ocr; /* languages in which pictures are read; "" = they are not. Borrowed while it runs */
    uploads *uploads; /* where it is told */
    jobs *jobs;       /* erase what is gone; stopped before the thread is */
    void (*changed)(void *user);
    void *user;
} watching_options;

/* PH_NOT_FOUND, PH_USAGE: a folder that is none. */
int watching_start(watching **out, const watching_options *o, ph_error *err);
/* The file that is being read stops, and is read anew by the next server. NULL is fine; after jobs_stop. */
void watching_stop(watching *w);
json_t *watching_json(watching *w); /* {folders, message}; null for NULL */

#endif
