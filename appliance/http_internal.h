/* http_internal.h - what http.c, http_reply.c and nobody else share. */
#ifndef PHAROS_HTTP_INTERNAL_H
#define PHAROS_HTTP_INTERNAL_H

#include "appliance/http.h"

#include <pthread.h>
#include <stdatomic.h>

/* A connection that is open. */
typedef struct http_connection {
    int fd;
    double deadline; /* when it is ended; 0 = never */
    struct http_connection *next, **before;
} http_connection;

struct http_server {
    http_application app;
    guard guard;
    char listen[64];
    struct MHD_Daemon *daemon;
    int socket;
    uint16_t port;
    unsigned idle_seconds, header_seconds;
    int heartbeat_ms;
    pthread_t watcher;
    bool watching;
    atomic_bool closing, stopping;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t stop;
    http_connection *connections;
    unsigned active;
    uint64_t replies[6];
};

double http_now(void); /* seconds, monotonic */

/* The headers that every reply has; csp NULL = nothing may be loaded. */
void http_common_headers(struct MHD_Response *m, const char *csp);
bool http_has_common_headers(struct MHD_Response *m);

#endif
