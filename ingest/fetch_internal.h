/* fetch_internal.h - what the tests of fetching need and no caller may have. */
#ifndef PHAROS_INGEST_FETCH_INTERNAL_H
#define PHAROS_INGEST_FETCH_INTERNAL_H

#include "ingest/ingest.h"

#include <sys/socket.h>

typedef struct fetch_rules {
    bool allow_loopback; /* tests only: ingest_fetch never sets it */
    long connect_seconds;
    long stall_seconds; /* with less than a hundred bytes a second for so long, it gives up */
    long total_seconds;
} fetch_rules;

int fetch_url(const char *url, const char *path, char **name, const ingest_limits *limits,
              const fetch_rules *rules, ingest_progress progress, void *user, ph_error *err);

/* True when the address is of the public internet. */
bool fetch_address_is_public(const struct sockaddr *address);

/* A file name from a Content-Disposition header (may be NULL), the URL and the content type (may be NULL).
 * Owned; NULL when out of memory. Never empty, no slash, no leading dot, at most 150 bytes. */
char *fetch_name(const char *disposition, const char *url, const char *content_type);

#endif
