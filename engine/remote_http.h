/* remote_http.h - one request to a model server, by libcurl: bounded, cancellable, tried again where nothing
 * has come yet. Private to engine/remote*.c.
 *
 * Certificates are checked, redirects refused, proxies and .netrc not looked at: the request goes to the URL
 * it was told and nowhere else.
 */
#ifndef PHAROS_REMOTE_HTTP_H
#define PHAROS_REMOTE_HTTP_H

#include "kernels/error.h"

#include <stddef.h>

typedef struct remote_http remote_http;

typedef struct remote_limits {
    const char *key;     /* sent as a bearer token; NULL = none; borrowed for the life of the remote_http */
    const char *ca_file; /* NULL = the system's; borrowed likewise */
    int connect_ms, idle_ms, total_ms; /* idle: nothing comes or goes */
    int retries;                       /* of a connection refused, 429, 502 and 503 */
    int backoff_ms; /* before the first retry; doubled with each, unless the server says Retry-After */
} remote_limits;

/* PH_USAGE when the URL is none of ours: not http or https, with a user, a query or a fragment, or plain http
 * to another machine while there is a key. The base has neither a slash nor /v1 at its end. */
int remote_http_open(remote_http **out, const char *url, const remote_limits *limits, ph_error *err);
void remote_http_close(remote_http *h); /* NULL is fine */

typedef struct remote_call {
    const char *path; /* below the base: "/v1/models" */
    const char *body; /* JSON; NULL = GET */
    const char *type; /* the reply's media type must be this */
    size_t most;      /* bytes of the reply */
    /* Bytes of a reply with status 200; non-zero ends the request with that code. */
    int (*bytes)(void *user, const char *bytes, size_t n, ph_error *err);
    int (*waiting)(void *user); /* called ten times a second; non-zero stops: PH_INTERRUPTED. May be NULL */
    void *user;
    long status; /* filled: of the last reply, 0 = there was none */
} remote_call;

/* PH_BUSY: refused, 429, 502, 503 to the end. PH_TOO_LARGE: the server says that the context is exceeded, or
 * its reply is over `most`. PH_USAGE: 401 or 403. PH_NOT_FOUND: 404. Else PH_FAIL. The sentence has status
 * and the server's own message. */
int remote_http_run(remote_http *h, remote_call *call, ph_error *err);

#endif
