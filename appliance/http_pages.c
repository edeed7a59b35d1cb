/* http_pages.c - libmicrohttpd's own error pages, made ours.
 *
 * What is too malformed to become a request is answered by the library with a page of HTML of its own,
 * without a media type and without the headers that all replies are to have (and, for a Content-Length that
 * is no number, with its head twice); it has no option for that. It queues the page through its public
 * MHD_queue_response, and a program's definition of a function goes before a library's: so the one below is
 * called, tells such a page by the headers that it lacks, sends an error in the form of all others in its
 * place, and ends the connection. tests/test_serve_http.c fails where this does not come about.
 */
#include "appliance/http_internal.h"

#include <dlfcn.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { DRAIN_MS = 200, DRAIN_BYTES = 1 << 20 };

typedef enum MHD_Result (*queue_function)(struct MHD_Connection *, unsigned, struct MHD_Response *);

static const char *reason(unsigned status) {
    switch (status) {
    case 413:
    case 414:
    case 431:
        return "the request's head is too large";
    case 505:
        return "this server speaks HTTP/1.1";
    default:
        return "the request is malformed";
    }
}

typedef struct page {
    char text[4096];
    size_t len;
} page;

static void say(page *p, const char *a, const char *b, const char *c) {
    int n = snprintf(p->text + p->len, sizeof p->text - p->len, "%s%s%s\r\n", a, b, c);
    if (n > 0 && (size_t)n < sizeof p->text - p->len) p->len += (size_t)n;
}

static enum MHD_Result say_header(void *user, enum MHD_ValueKind kind, const char *name, const char *value) {
    (void)kind;
    say(user, name, ": ", value);
    return MHD_YES;
}

/* The whole reply; false: no memory. */
static bool make_page(page *p, unsigned status) {
    json_t *value = http_error_json(status, NULL, reason(status));
    char *body = value ? json_dumps(value, JSON_COMPACT) : NULL, number[24];
    struct MHD_Response *m =
        MHD_create_response_from_buffer(0, (void *)(uintptr_t) "", MHD_RESPMEM_PERSISTENT);
    bool made = body && m;
    if (made) {
        http_common_headers(m, NULL);
        snprintf(number, sizeof number, "%u ", status);
        say(p, "HTTP/1.1 ", number, MHD_get_reason_phrase_for(status));
        say(p, "Content-Type: application/json", "", "");
        MHD_get_response_headers(m, say_header, p);
        say(p, "Connection: close", "", "");
        snprintf(number, sizeof number, "%zu", strlen(body));
        say(p, "Content-Length: ", number, "\r\n");
        say(p, body, "", "");
        p->len -= 2; /* the body has no line end */
    }
    if (m) MHD_destroy_response(m);
    free(body);
    json_decref(value);
    return made;
}

/* What the client still sends is read a while: closing before would reset the connection, and the reply be
 * lost. */
static void send_page(int fd, const page *p) {
    char sink[4096];
    if (send(fd, p->text, p->len, MSG_NOSIGNAL) != (ssize_t)p->len || shutdown(fd, SHUT_WR)) return;
    double until = http_now() + DRAIN_MS / 1000.0;
    size_t drained = 0;
    while (drained < DRAIN_BYTES && http_now() < until) {
        struct pollfd f = {.fd = fd, .events = POLLIN};
        if (poll(&f, 1, DRAIN_MS) <= 0) return;
        ssize_t n = recv(fd, sink, sizeof sink, MSG_DONTWAIT);
        if (n <= 0) return;
        drained += (size_t)n;
    }
}

enum MHD_Result MHD_queue_response(struct MHD_Connection *connection, unsigned int status,
                                   struct MHD_Response *response) {
    if (http_has_common_headers(response)) {
        queue_function queue = (queue_function)dlsym(RTLD_NEXT, "MHD_queue_response");
        return queue ? queue(connection, status, response) : MHD_NO;
    }
    page p = {.len = 0};
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (info && make_page(&p, status)) send_page(info->connect_fd, &p);
    return MHD_NO; /* the connection ends */
}
