/* http.h - HTTP on one port: requests in, replies out, streams that notice when their reader leaves.
 *
 * libmicrohttpd with one thread for each connection, so that a handler may block. What is malformed, foreign
 * or too large is refused here; what a path means is the application's business (api.h). Every reply carries
 * the headers that keep a browser from running or framing what it is sent.
 */
#ifndef PHAROS_HTTP_H
#define PHAROS_HTTP_H

#include "appliance/http_guard.h"
#include "kernels/error.h"

#include <jansson.h>
#include <microhttpd.h>
#include <stdbool.h>
#include <sys/types.h>

typedef struct http_server http_server;
typedef struct http_request http_request;

struct http_request {
    const char *method, *path; /* the path is checked: guard_path */
    char client[64];           /* the peer's address */
    uint64_t length;           /* of the body, as declared */
    char *body;                /* NUL-terminated, once it is complete; unless a sink takes it */
    size_t body_len;
    bool keep_body; /* begin() sets it, or the sink, or the body is dropped */
    void (*sink)(http_request *r, const void *bytes, size_t n);
    void *user; /* begin()'s; freed by free_user when the request has ended */
    void (*free_user)(void *user);

    struct MHD_Connection *connection; /* from here on http.c's */
    struct MHD_Response *response;
    unsigned status;
    http_server *server;
    struct http_connection *place;
    bool queued, refused, over;
};

typedef struct http_application {
    void *user;
    /* The headers are there, Host and Origin are ours. May reply (then the rest does not happen) or say where
     * the body goes. */
    void (*begin)(void *user, http_request *r);
    /* The body is there. Must reply. */
    void (*run)(void *user, http_request *r);
} http_application;

typedef struct http_options {
    const char *listen;       /* an IPv4 or IPv6 address */
    uint16_t port;            /* 0 = any */
    const char *const *names; /* further names to answer to; NULL-terminated; may be NULL */
    unsigned connections, connections_per_address; /* 0 = 512, 256 */
    unsigned idle_seconds;                         /* nothing moves; 0 = 30 */
    unsigned header_seconds; /* for the whole of a request's head, and of a short body; 0 = 30 */
    unsigned heartbeat_ms;   /* of streams; 0 = 5000 */
} http_options;

int http_start(http_server **out, const http_options *o, const http_application *app, ph_error *err);
uint16_t http_port(const http_server *s);
/* Takes no new connections any more; what is under way goes on. */
void http_close_door(http_server *s);
/* Waits up to `ms` for requests under way, then ends every connection. NULL is fine. */
void http_stop(http_server *s, int ms);
unsigned http_active(const http_server *s);                  /* requests under way */
uint64_t http_count(const http_server *s, int status_class); /* replies so far: 2 = 2xx, ... */

/* ---- what came in ---- */

/* A header, borrowed, or NULL. Two of one name: NULL and *twice (may be NULL). */
const char *http_header(http_request *r, const char *name, bool *twice);

/* A parameter of the query, decoded into `out` (NUL-terminated; *len filled). 1 there, 0 not, -1 malformed:
 * bad escapes, NUL, twice, or longer than n; then a 400 is the reply. */
int http_parameter(http_request *r, const char *name, char *out, size_t n, size_t *len);
/* The same for a whole number in [low, high]. */
int http_number(http_request *r, const char *name, int64_t low, int64_t high, int64_t *out);
/* Digits only, no sign, in [low, high]. */
bool http_parse_number(const char *s, int64_t low, int64_t high, int64_t *out);

/* The body as a JSON object: depth and size bounded, no member twice, valid UTF-8. NULL: the reply is made.
 * An absent body is {} where `optional`. */
json_t *http_json_body(http_request *r, bool optional);

/* ---- what goes out: one reply for each request ---- */

void http_reply_json(http_request *r, unsigned status, json_t *value); /* steals; NULL = out of memory */
void http_reply_text(http_request *r, unsigned status, const char *type, const char *text);
/* {error: {code, message, type, param}}; code NULL = the status's own. 429 and 503 get Retry-After. */
void http_reply_error(http_request *r, unsigned status, const char *code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The status that a ph_error's code stands for. */
unsigned http_status_of(int code);
void http_reply_failure(http_request *r, const ph_error *err);
json_t *http_error_json(unsigned status, const char *code, const char *message);

/* A response of the caller's (stolen) with the headers of all replies. csp NULL = nothing may be loaded. */
void http_reply_response(http_request *r, unsigned status, struct MHD_Response *response, const char *csp);

/* ---- replies that take their time ---- */

typedef struct http_stream {
    /* Up to n bytes into out; 0 = none yet, -1 = no more will come. */
    ssize_t (*read)(void *user, char *out, size_t n);
    int wake; /* a descriptor that is readable when read() may have something */
    /* The last call: the reply is complete, or the client has left. */
    void (*end)(void *user);
    void *user;
} http_stream;

/* Streams events (text/event-stream); a comment line goes out where nothing else does. */
void http_reply_stream(http_request *r, const http_stream *s);

/* Waits until `done` says so. false: the client has left, or the server stops. */
bool http_wait(http_request *r, int wake, bool (*done)(void *user), void *user);

#endif
