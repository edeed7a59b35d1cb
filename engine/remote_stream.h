/* remote_stream.h - a stream of server-sent events taken apart as it comes, with one very large member lifted
 * out on the way.
 *
 * SGLang's last event may carry its indexer's selection as one JSON string of hundreds of megabytes
 * (meta_info.indexer_topk). It never becomes part of an event here: its characters go to a function of their
 * own, and the event says "" in its place, so that events stay small and bounded.
 */
#ifndef PHAROS_REMOTE_STREAM_H
#define PHAROS_REMOTE_STREAM_H

#include "kernels/error.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct event_stream {
    /* An event's data (NUL-terminated, borrowed; may hold NULs). Non-zero ends the stream with that code. */
    int (*event)(void *user, const char *data, size_t len, ph_error *err);
    /* Characters of the string value of a member named `lifted`. May be NULL: nothing is lifted. */
    void (*lift)(void *user, const char *bytes, size_t n);
    const char *lifted;
    void *user;
    size_t most; /* bytes of one event */

    char *data; /* from here on the parser's */
    size_t len, capacity;
    bool has_data, after_return;
    int field;     /* characters of "data:" that the line has begun with; -1 = another field */
    bool at_value; /* the colon was the last character: one space after it is no data */
    bool in_string, escaped, lifting, colon;
    char name[32]; /* of the last string, if it is that short */
    size_t name_len;
} event_stream;

void event_stream_free(event_stream *s);
/* Takes the next bytes. PH_TOO_LARGE when an event is over `most`. */
int event_stream_put(event_stream *s, const char *bytes, size_t n, ph_error *err);

#endif
