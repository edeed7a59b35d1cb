/* scripted_server.c - see scripted_server.h. One thread, one connection after another. */
#include "tests/scripted_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

struct scripted_server {
    const script_reply *replies;
    size_t n;
    const char *models;
    int listener, port, stop[2];
    pthread_t thread;
    atomic_int served;
    atomic_bool left, other_path;
    char *requests[SCRIPT_REQUESTS];
};

/* Head and body; NULL: the client went away. Owned. */
static char *read_request(int fd) {
    size_t len = 0, capacity = 1 << 16, want = SIZE_MAX;
    char *text = malloc(capacity + 1);
    while (text && len < want) {
        if (len == capacity && !(text = realloc(text, (capacity *= 2) + 1))) break;
        ssize_t n = read(fd, text + len, capacity - len);
        if (n <= 0) {
            free(text);
            return NULL;
        }
        text[len += (size_t)n] = 0;
        const char *end = strstr(text, "\r\n\r\n"), *length = strcasestr(text, "\r\nContent-Length:");
        if (end && want == SIZE_MAX)
            want = (size_t)(end + 4 - text) + (length && length < end ? strtoul(length + 17, NULL, 10) : 0);
    }
    return text;
}

static bool send_all(int fd, const char *bytes, size_t n) {
    while (n) {
        ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
        if (sent <= 0) return false;
        bytes += sent;
        n -= (size_t)sent;
    }
    return true;
}

/* Until the client goes or the test ends. */
static void hold(scripted_server *s, int fd) {
    struct pollfd p[2] = {{.fd = fd, .events = POLLRDHUP}, {.fd = s->stop[0], .events = POLLIN}};
    poll(p, 2, 60000);
    s->left = (p[0].revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

static void send_reply(scripted_server *s, int fd, const script_reply *r) {
    char head[1024], line[32];
    size_t len = r->body ? (r->body_len ? r->body_len : strlen(r->body)) : 0;
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 %d X\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n%s\r\n", r->status,
                     r->type ? r->type : "text/event-stream", r->headers ? r->headers : "");
    bool ok = !r->status || send_all(fd, head, (size_t)n);
    for (size_t at = 0; r->status && at < len && ok;) {
        size_t take = r->piece && r->piece < len - at ? r->piece : len - at;
        n = snprintf(line, sizeof line, "%zx\r\n", take);
        ok = send_all(fd, line, (size_t)n) && send_all(fd, r->body + at, take) && send_all(fd, "\r\n", 2);
        at += take;
    }
    if (r->end == END_WELL && ok && r->status) send_all(fd, "0\r\n\r\n", 5);
    if (r->end == END_NEVER) hold(s, fd);
    if (r->end == END_RESET)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
}

static void serve_one(scripted_server *s, int fd) {
    char *request = read_request(fd);
    if (!request) return;
    if (s->models && !strncmp(request, "GET /v1/models ", 15)) {
        send_reply(s, fd, &(script_reply){.status = 200, .type = "application/json", .body = s->models});
        free(request);
        return;
    }
    int number = s->served;
    const char *path = strchr(request, ' ');
    if ((size_t)number >= s->n || number >= SCRIPT_REQUESTS) {
        s->other_path = true;
        free(request);
        return;
    }
    const script_reply *r = &s->replies[number];
    if (r->path && (!path || strncmp(path + 1, r->path, strlen(r->path)) || path[1 + strlen(r->path)] != ' '))
        s->other_path = true;
    s->requests[number] = request;
    s->served = number + 1;
    send_reply(s, fd, r);
}

static void *serve(void *user) {
    scripted_server *s = user;
    for (;;) {
        struct pollfd p[2] = {{.fd = s->listener, .events = POLLIN}, {.fd = s->stop[0], .events = POLLIN}};
        if (poll(p, 2, -1) < 0 || p[1].revents) return NULL;
        int fd = accept(s->listener, NULL, NULL);
        if (fd < 0) continue;
        serve_one(s, fd);
        close(fd);
    }
}

scripted_server *script_start(const script_reply *replies, size_t n, const char *models) {
    scripted_server *s = calloc(1, sizeof *s);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    assert_non_null(s);
    s->replies = replies;
    s->n = n;
    s->models = models;
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(s->listener, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(s->listener, 16), 0);
    assert_int_equal(getsockname(s->listener, (struct sockaddr *)&a, &len), 0);
    s->port = ntohs(a.sin_port);
    assert_int_equal(pipe(s->stop), 0);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
    return s;
}

void script_stop(scripted_server *s) {
    assert_int_equal(write(s->stop[1], "x", 1), 1);
    pthread_join(s->thread, NULL);
    close(s->listener);
    close(s->stop[0]);
    close(s->stop[1]);
    bool other = s->other_path;
    for (int i = 0; i < SCRIPT_REQUESTS; i++) free(s->requests[i]);
    free(s);
    if (other) fail_msg("a request came that the script does not have");
}

int script_port(const scripted_server *s) {
    return s->port;
}
int script_served(const scripted_server *s) {
    return s->served;
}

const char *script_request(const scripted_server *s, int number) {
    return number < s->served && s->requests[number] ? s->requests[number] : "";
}

const char *script_body(const scripted_server *s, int number) {
    const char *end = strstr(script_request(s, number), "\r\n\r\n");
    return end ? end + 4 : "";
}

bool script_left(scripted_server *s, double seconds) {
    for (int i = 0; i < seconds * 200 && !s->left; i++)
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    return s->left;
}
