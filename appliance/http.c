/* http.c - connections, and the way of a request through them (http.h). Replies are in http_reply.c. */
#include "appliance/http.h"

#include "appliance/http_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    HEAD_BYTES = 32 << 10, /* of a request's head, in all */
    DRAINED_BYTES =
        1 << 20, /* a refused body up to here is read, so that the reply is not lost with a reset */
    STACK_BYTES = 1 << 20,
    BACKLOG = 128,
    MAX_HEADERS = 100
};

double http_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- connections and their deadlines ---- */

static void connection_event(void *user, struct MHD_Connection *c, void **context,
                             enum MHD_ConnectionNotificationCode what) {
    http_server *s = user;
    pthread_mutex_lock(&s->lock);
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        http_connection *place = calloc(1, sizeof *place);
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
        if (place && info) {
            place->fd = info->connect_fd;
            place->deadline = http_now() + s->header_seconds;
            place->next = s->connections;
            if (place->next) place->next->before = &place->next;
            place->before = &s->connections;
            s->connections = place;
        } else {
            free(place);
            place = NULL;
        }
        *context = place;
    } else if (*context) {
        http_connection *place = *context;
        *place->before = place->next;
        if (place->next) place->next->before = place->before;
        free(place);
        *context = NULL;
    }
    pthread_mutex_unlock(&s->lock);
}

/* 0 = none. */
static void set_deadline(http_server *s, http_connection *place, double seconds) {
    if (!place) return;
    pthread_mutex_lock(&s->lock);
    place->deadline = seconds > 0 ? http_now() + seconds : 0;
    pthread_mutex_unlock(&s->lock);
}

/* libmicrohttpd's timeout starts anew with each byte; a head that comes byte by byte would hold its thread
 * for days. */
static void *watch(void *user) {
    http_server *s = user;
    pthread_mutex_lock(&s->lock);
    while (!s->stopping) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 250000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
        pthread_cond_timedwait(&s->stop, &s->lock, &until);
        double now = http_now();
        for (http_connection *c = s->connections; c; c = c->next) {
            if (!c->deadline || c->deadline > now) continue;
            shutdown(c->fd, SHUT_RDWR);
            c->deadline = 0;
        }
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- a request's head ---- */

typedef struct head {
    http_request *request;
    int n, hosts, origins, lengths;
    bool malformed, chunked;
    const char *host, *origin, *site, *length;
    size_t host_len, origin_len;
} head;

static bool is_header(const char *key, size_t n, const char *name) {
    return strlen(name) == n && !strncasecmp(key, name, n);
}

static enum MHD_Result see_header(void *user, enum MHD_ValueKind kind, const char *key, size_t key_len,
                                  const char *value, size_t value_len) {
    head *h = user;
    (void)kind;
    h->n++;
    if (!value) value = "";
    if (!guard_field_name(key, key_len) || !guard_field_value(value, value_len)) h->malformed = true;
    if (is_header(key, key_len, "Host")) {
        h->hosts++;
        h->host = value;
        h->host_len = value_len;
    } else if (is_header(key, key_len, "Origin")) {
        h->origins++;
        h->origin = value;
        h->origin_len = value_len;
    } else if (is_header(key, key_len, "Content-Length")) {
        h->lengths++;
        h->length = value;
    } else if (is_header(key, key_len, "Transfer-Encoding"))
        h->chunked = true;
    else if (is_header(key, key_len, "Sec-Fetch-Site"))
        h->site = value;
    return MHD_YES;
}

/* A page elsewhere may link to ours; nothing else of it may reach us. */
static bool foreign_site(const head *h, const http_request *r) {
    if (!h->site || !strcmp(h->site, "same-origin") || !strcmp(h->site, "none")) return false;
    return strcmp(r->path, "/") != 0 || strcmp(r->method, "GET") != 0;
}

static void check_head(http_request *r) {
    head h = {.request = r};
    MHD_get_connection_values_n(r->connection, MHD_HEADER_KIND, see_header, &h);
    bool body = !strcmp(r->method, "PUT") || !strcmp(r->method, "POST") || !strcmp(r->method, "PATCH");
    int64_t length = 0;
    if (h.hosts != 1)
        http_reply_error(r, 403, NULL, h.hosts ? "more than one Host" : "there is no Host");
    else if (!guard_host(&r->server->guard, h.host, h.host_len))
        http_reply_error(r, 403, NULL,
                         "this server does not answer to that Host; `pharos serve --host NAME` adds one");
    else if (h.origins > 1 || (h.origins && !guard_origin(h.origin, h.origin_len, h.host, h.host_len)))
        http_reply_error(r, 403, NULL, "requests of pages from elsewhere are refused");
    else if (foreign_site(&h, r))
        http_reply_error(r, 403, NULL, "requests across sites are refused");
    else if (h.malformed || h.n > MAX_HEADERS)
        http_reply_error(r, 400, NULL, "a header is malformed, or there are more than %d", MAX_HEADERS);
    else if (h.lengths > 1)
        http_reply_error(r, 400, NULL, "more than one Content-Length");
    else if (h.lengths && h.chunked)
        http_reply_error(r, 400, NULL, "both Content-Length and Transfer-Encoding");
    else if (h.lengths && !http_parse_number(h.length, 0, INT64_MAX, &length))
        http_reply_error(r, 400, NULL, "Content-Length is no number");
    else if (h.chunked || (body && !h.lengths))
        http_reply_error(r, 411, NULL, "say the body's size with Content-Length");
    else if (!body && length)
        http_reply_error(r, 400, NULL, "a %.10s request has no body", r->method);
    else if (!guard_path(r->path))
        http_reply_error(r, 400, NULL,
                         "no path here has escapes, empty parts, dots as parts or control characters");
    r->length = (uint64_t)length;
    if (h.chunked || h.lengths > 1 || h.malformed) r->over = true; /* where it ends is not to be believed */
}

static void find_client(http_request *r) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    socklen_t n = info && info->client_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                                   : sizeof(struct sockaddr_in);
    if (!info || getnameinfo(info->client_addr, n, r->client, sizeof r->client, NULL, 0, NI_NUMERICHOST))
        strcpy(r->client, "?");
}

static http_request *request_new(http_server *s, struct MHD_Connection *c, const char *url,
                                 const char *method) {
    http_request *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    r->server = s;
    r->connection = c;
    r->path = url;
    r->method = method;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    r->place = info ? info->socket_context : NULL;
    find_client(r);
    pthread_mutex_lock(&s->lock);
    s->active++;
    pthread_mutex_unlock(&s->lock);
    return r;
}

/* The library takes a NUL in the request line for the end of what stands before it, so that a name would be
 * cut silently. Path and version lie in one buffer, one space apart: here the length is noted (odd, so that
 * it is told from a request), and access_request() looks whether the version stands where it must. */
static void *note_length(void *user, const char *uri, struct MHD_Connection *c) {
    (void)user;
    (void)c;
    return (void *)((uintptr_t)strlen(uri) << 1 | 1);
}

static bool is_note(const void *context) {
    return (uintptr_t)context & 1;
}

static void request_ended(void *user, struct MHD_Connection *c, void **context,
                          enum MHD_RequestTerminationCode why) {
    http_server *s = user;
    http_request *r = *context;
    (void)c;
    (void)why;
    if (!r || is_note(r)) return;
    if (r->free_user) r->free_user(r->user);
    if (r->response) MHD_destroy_response(r->response);
    free(r->body);
    set_deadline(s, r->place, s->idle_seconds + s->header_seconds);
    pthread_mutex_lock(&s->lock);
    s->active--;
    if (r->queued && r->status / 100 < 6) s->replies[r->status / 100]++;
    pthread_cond_broadcast(&s->stop);
    pthread_mutex_unlock(&s->lock);
    free(r);
    *context = NULL;
}

/* ---- the way through ---- */

static enum MHD_Result send_reply(http_request *r) {
    if (!r->response) return MHD_NO;
    if (r->over) MHD_add_response_header(r->response, "Connection", "close");
    enum MHD_Result ok = MHD_queue_response(r->connection, r->status, r->response);
    r->queued = ok == MHD_YES;
    return ok;
}

static void take_body(http_request *r, const char *bytes, size_t n) {
    if (r->refused) return;
    if (r->sink)
        r->sink(r, bytes, n);
    else if (r->keep_body && n <= r->length - r->body_len) {
        if (!r->body) r->body = malloc(r->length + 1);
        if (!r->body) {
            http_reply_error(r, 503, "memory", "no memory for a body of %llu bytes",
                             (unsigned long long)r->length);
            return;
        }
        memcpy(r->body + r->body_len, bytes, n);
        r->body_len += n;
        r->body[r->body_len] = 0;
    }
}

static enum MHD_Result access_request(void *user, struct MHD_Connection *c, const char *url,
                                      const char *method, const char *version, const char *upload,
                                      size_t *upload_len, void **context) {
    http_server *s = user;
    http_request *r = *context;
    if (!r || is_note(r)) {
        bool cut = r && version != url + ((uintptr_t)r >> 1) + 1;
        r = *context = request_new(s, c, url, method);
        if (!r) return MHD_NO;
        check_head(r);
        if (!r->refused && cut)
            http_reply_error(r, 400, NULL, "the request line is malformed, or has a NUL byte in it");
        if (!r->refused && s->closing) http_reply_error(r, 503, "busy", "the server is stopping");
        if (!r->refused) s->app.begin(s->app.user, r);
        set_deadline(s, r->place, r->length && !r->sink ? s->header_seconds : 0);
        if (!r->refused || (r->length && r->length <= DRAINED_BYTES && !r->over)) return MHD_YES;
        r->over |= r->length > 0;
        return send_reply(r);
    }
    if (*upload_len) {
        take_body(r, upload, *upload_len);
        *upload_len = 0;
        return MHD_YES;
    }
    set_deadline(s, r->place, 0);
    if (!r->refused) s->app.run(s->app.user, r);
    if (!r->response) http_reply_error(r, 500, NULL, "nothing was replied");
    return send_reply(r);
}

/* Escapes stay as they are: what decodes them decides what they may be. */
static size_t leave_escapes(void *user, struct MHD_Connection *c, char *s) {
    (void)user;
    (void)c;
    return strlen(s);
}

/* ---- start and stop ---- */

static int open_socket(http_server *s, const http_options *o, ph_error *err) {
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                             .ai_socktype = SOCK_STREAM},
                    *list = NULL;
    char port[8];
    snprintf(port, sizeof port, "%u", o->port);
    if (getaddrinfo(o->listen, port, &hints, &list) || !list)
        return ph_fail(err, PH_USAGE, "%s is no address to listen at", o->listen);
    int on = 1, code = PH_OK;
    s->socket = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->socket >= 0) setsockopt(s->socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (s->socket < 0 || bind(s->socket, list->ai_addr, list->ai_addrlen) || listen(s->socket, BACKLOG))
        code = ph_fail(err, errno == EADDRINUSE ? PH_BUSY : PH_FAIL, "cannot listen at %s port %u: %s",
                       o->listen, o->port, strerror(errno));
    freeaddrinfo(list);
    struct sockaddr_storage bound;
    socklen_t n = sizeof bound;
    if (!code && getsockname(s->socket, (struct sockaddr *)&bound, &n))
        code = ph_fail(err, PH_FAIL, "cannot tell the port: %s", strerror(errno));
    if (!code)
        s->port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                                    : ((struct sockaddr_in *)&bound)->sin_port);
    return code;
}

static int name_server(http_server *s, const http_options *o, ph_error *err) {
    snprintf(s->listen, sizeof s->listen, strchr(o->listen, ':') ? "[%s]" : "%s", o->listen);
    guard_start(&s->guard, s->listen, s->port);
    for (int i = 0; o->names && o->names[i]; i++)
        if (!guard_add(&s->guard, o->names[i])) return ph_fail(err, PH_USAGE, "too many names");
    return PH_OK;
}

static int start_daemon(http_server *s, const http_options *o, ph_error *err) {
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL;
    s->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, access_request, s, MHD_OPTION_LISTEN_SOCKET, s->socket,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEAD_BYTES, MHD_OPTION_CONNECTION_LIMIT,
        o->connections ? o->connections : 512u, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
        o->connections_per_address ? o->connections_per_address : 256u, MHD_OPTION_CONNECTION_TIMEOUT,
        s->idle_seconds, MHD_OPTION_THREAD_STACK_SIZE, (size_t)STACK_BYTES, MHD_OPTION_NOTIFY_COMPLETED,
        request_ended, s, MHD_OPTION_NOTIFY_CONNECTION, connection_event, s, MHD_OPTION_UNESCAPE_CALLBACK,
        leave_escapes, s, MHD_OPTION_URI_LOG_CALLBACK, note_length, s, MHD_OPTION_END);
    return s->daemon ? PH_OK : ph_fail(err, PH_FAIL, "cannot start the HTTP server: %s", strerror(errno));
}

int http_start(http_server **out, const http_options *o, const http_application *app, ph_error *err) {
    *out = NULL;
    http_server *s = calloc(1, sizeof *s);
    if (!s) return ph_fail(err, PH_MEMORY, "no memory for a server");
    s->socket = -1;
    s->app = *app;
    s->idle_seconds = o->idle_seconds ? o->idle_seconds : 30;
    s->header_seconds = o->header_seconds ? o->header_seconds : 30;
    s->heartbeat_ms = o->heartbeat_ms ? (int)o->heartbeat_ms : 5000;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->stop, NULL);
    int code = open_socket(s, o, err);
    if (!code) code = name_server(s, o, err);
    if (!code) code = start_daemon(s, o, err);
    if (!code && pthread_create(&s->watcher, NULL, watch, s))
        code = ph_fail(err, PH_FAIL, "cannot start a thread");
    s->watching = !code;
    if (code)
        http_stop(s, 0);
    else
        *out = s;
    return code;
}

uint16_t http_port(const http_server *s) {
    return s->port;
}

void http_close_door(http_server *s) {
    s->closing = true;
    int fd = s->daemon ? MHD_quiesce_daemon(s->daemon) : -1;
    if (fd >= 0) {
        close(fd);
        s->socket = -1;
    }
}

void http_stop(http_server *s, int ms) {
    if (!s) return;
    double until = http_now() + ms / 1000.0;
    while (http_now() < until && http_active(s)) usleep(10000);
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_cond_broadcast(&s->stop);
    pthread_mutex_unlock(&s->lock);
    if (s->daemon)
        MHD_stop_daemon(s->daemon); /* closes the socket it listens at */
    else if (s->socket >= 0)
        close(s->socket);
    if (s->watching) pthread_join(s->watcher, NULL);
    pthread_cond_destroy(&s->stop);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

unsigned http_active(const http_server *s) {
    pthread_mutex_t *lock = (pthread_mutex_t *)&s->lock;
    pthread_mutex_lock(lock);
    unsigned n = s->active;
    pthread_mutex_unlock(lock);
    return n;
}

uint64_t http_count(const http_server *s, int status_class) {
    pthread_mutex_t *lock = (pthread_mutex_t *)&s->lock;
    pthread_mutex_lock(lock);
    uint64_t n = s->replies[status_class];
    pthread_mutex_unlock(lock);
    return n;
}

/* ---- waiting with an eye on the client ---- */

/* 1 the wake descriptor is readable, 0 time is up, -1 the client has left. A client that has closed its half
 * is taken to have left: nobody stops sending and goes on waiting for an answer from a language model. */
static int wait_for(http_request *r, int wake, int ms) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct pollfd p[2] = {{.fd = info ? info->connect_fd : -1, .events = POLLRDHUP},
                          {.fd = wake, .events = POLLIN}};
    int n = poll(p, 2, ms);
    if (n > 0 && (p[0].revents & (POLLRDHUP | POLLHUP | POLLERR))) return -1;
    return n > 0 && p[1].revents ? 1 : 0;
}

/* While a handler waits, nothing moves on its connection; that is not the client's doing, and the timeout
 * must not count it. */
static void restart_timeout(http_request *r) {
    MHD_set_connection_option(r->connection, MHD_CONNECTION_OPTION_TIMEOUT, 0u);
    MHD_set_connection_option(r->connection, MHD_CONNECTION_OPTION_TIMEOUT, r->server->idle_seconds);
}

bool http_wait(http_request *r, int wake, bool (*done)(void *user), void *user) {
    while (!done(user)) {
        if (r->server->stopping || wait_for(r, wake, 1000) < 0) return false;
    }
    restart_timeout(r);
    return true;
}

typedef struct streaming {
    http_request *request;
    http_stream stream;
    double heartbeat;
} streaming;

static ssize_t stream_read(void *user, uint64_t position, char *out, size_t room) {
    streaming *x = user;
    (void)position;
    for (;;) {
        ssize_t n = x->stream.read(x->stream.user, out, room);
        restart_timeout(x->request);
        if (n > 0) {
            x->heartbeat = http_now() + x->request->server->heartbeat_ms / 1000.0;
            return n;
        }
        if (n < 0) return MHD_CONTENT_READER_END_OF_STREAM;
        int ms = (int)((x->heartbeat - http_now()) * 1000);
        if (ms <= 0 && room >= 4) {
            x->heartbeat = http_now() + x->request->server->heartbeat_ms / 1000.0;
            memcpy(out, ":\n\n", 3);
            return 3;
        }
        if (wait_for(x->request, x->stream.wake, ms > 0 ? ms : 1) < 0)
            return MHD_CONTENT_READER_END_WITH_ERROR;
    }
}

static void stream_end(void *user) {
    streaming *x = user;
    x->stream.end(x->stream.user);
    free(x);
}

void http_reply_stream(http_request *r, const http_stream *stream) {
    streaming *x = malloc(sizeof *x);
    struct MHD_Response *response =
        x ? MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 8 << 10, stream_read, x, stream_end) : NULL;
    if (!response) {
        free(x);
        stream->end(stream->user);
        http_reply_error(r, 503, "memory", "no memory for a reply");
        return;
    }
    *x = (streaming){
        .request = r, .stream = *stream, .heartbeat = http_now() + r->server->heartbeat_ms / 1000.0};
    MHD_add_response_header(response, "Content-Type", "text/event-stream; charset=utf-8");
    MHD_add_response_header(response, "X-Accel-Buffering", "no"); /* a proxy in front must not collect it */
    http_reply_response(r, 200, response, NULL);
}
