/* serve.h - the server: HTTP in front, one worker with the engine, one thread that reads files.
 *
 *     http.c       connections -> api.c: the route table -> api_*.c: handlers
 *     jobs.c       the queue before the engine            serve_ask.c: a question as a job
 *     serve_uploads*.c  files on their way into the store  serve_read.c: packs, read when nobody asks
 *     serve_watch.c  folders that the library is kept equal to
 */
#ifndef PHAROS_SERVE_H
#define PHAROS_SERVE_H

#include "engine/engine.h"
#include "kernels/error.h"

#include <stdbool.h>

typedef struct serve serve;

typedef struct serve_options {
    const char *data_dir;
    const char *listen;       /* NULL = 127.0.0.1; anything but loopback needs token_file */
    uint16_t port;            /* 0 = any */
    const char *const *names; /* further names that Host may say; NULL-terminated; may be NULL */
    const char *token_file;   /* NULL = no tokens; see serve_tokens.h */
    int (*open_engine)(void *user, engine **out, ph_error *err); /* on the worker's thread */
    void *user;
    const char *ocr; /* languages in which the pictures of what comes in are read, unless a request says otherwise; NULL or
                        "" = they are not; borrowed while the server runs */
    bool dense; /* how open_engine opens it: an evaluation run switches, and switches back */
    /* 0 = as in the brackets */
    uint64_t upload_bytes; /* (2 GiB) */
    int queue, per_client; /* questions waiting (64), of one client (16) */
    int uploads;           /* files waiting (10000) */
    char *const *watch; /* folders that the library is kept equal to (serve_watch.h); borrowed for serve_start */
    size_t n_watch;
    unsigned watch_ms; /* between two looks (5000) */
    unsigned idle_seconds, header_seconds, heartbeat_ms, connections, connections_per_address;
} serve_options;

int serve_start(serve **out, const serve_options *o, ph_error *err);
uint16_t serve_port(const serve *s);
/* Refuses what comes, ends what runs at its next step (what was read is kept), answers who waits, then frees
 * all. NULL is fine. */
void serve_stop(serve *s);

#endif
