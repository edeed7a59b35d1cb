/* serve_outbox.h - bytes on their way from the worker to one client: the worker never waits for a slow
 * reader. */
#ifndef PHAROS_SERVE_OUTBOX_H
#define PHAROS_SERVE_OUTBOX_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

typedef struct outbox {
    pthread_mutex_t lock;
    char *bytes;
    size_t start, end, capacity;
    bool closed, lost; /* lost: there was no memory; the reader is told by an end without a last event */
    int wake;          /* readable when there is something, or the end */
} outbox;

bool outbox_open(outbox *b); /* false: no descriptor */
void outbox_free(outbox *b);

/* Adds n bytes. With `optional` only while little is waiting: progress that nobody reads is worth nothing. */
void outbox_put(outbox *b, const char *bytes, size_t n, bool optional);
void outbox_close(outbox *b);

/* Up to n bytes; 0 = none yet, -1 = closed and empty. */
ssize_t outbox_take(outbox *b, char *out, size_t n);
bool outbox_closed(outbox *b);

#endif
