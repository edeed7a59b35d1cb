/* test_serve.h - for the tests of the server: one started in this process on a port of its own, a client on
 * libcurl, and raw sockets for what no client would send. */
#ifndef PHAROS_TEST_SERVE_H
#define PHAROS_TEST_SERVE_H

#include "appliance/serve.h"
#include "ingest/ingest.h"
#include "tests/program.h"
#include "tests/tiny_model.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <jansson.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct world {
    char *dir, *model;
    serve *server;
    int port;
    serve_options options;
} world;

static inline double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline int open_tiny(void *user, engine **out, ph_error *err) {
    engine_options o = {.model_dir = user, .threads = 1};
    return engine_open(out, &o, err);
}

static inline void world_start(world *w) {
    ph_error err = {0};
    w->options.data_dir = w->dir;
    w->options.open_engine = open_tiny;
    w->options.user = w->model;
    if (serve_start(&w->server, &w->options, &err)) fail_msg("the server does not start: %s", err.text);
    w->port = serve_port(w->server);
}

/* max_positions 0 = 4096 */
static inline world *world_new(const serve_options *with, int max_positions) {
    world *w = calloc(1, sizeof *w);
    w->dir = make_folder();
    w->model = make_folder();
    assert_int_equal(tiny_model_write(w->model, &(tiny_options){.seed = 1, .max_positions = max_positions}),
                     0);
    if (with) w->options = *with;
    world_start(w);
    return w;
}

static inline void world_free(world *w) {
    serve_stop(w->server);
    remove_folder(w->dir);
    remove_folder(w->model);
    free(w);
}

/* ---- a client ---- */

typedef struct reply {
    long status; /* 0 = no reply at all */
    char *head, *body;
    size_t head_len, body_len;
    CURLcode code;
    double seconds;
} reply;

static inline void reply_free(reply *r) {
    free(r->head);
    free(r->body);
    *r = (reply){0};
}

static inline size_t append_to(char **at, size_t *len, const char *bytes, size_t n) {
    char *more = realloc(*at, *len + n + 1);
    if (!more) return 0;
    memcpy(more + *len, bytes, n);
    *len += n;
    more[*len] = 0;
    *at = more;
    return n;
}
static inline size_t take_head(char *bytes, size_t size, size_t n, void *user) {
    reply *r = user;
    return append_to(&r->head, &r->head_len, bytes, size * n);
}
static inline size_t take_body(char *bytes, size_t size, size_t n, void *user) {
    reply *r = user;
    return append_to(&r->body, &r->body_len, bytes, size * n);
}

typedef struct call {
    const char *method, *path;
    const char *headers[6];
    const char *json; /* body, with its Content-Type */
    const void *bytes;
    size_t n;                                      /* body as it is, of a PUT */
    const char *from;                              /* address of this end */
    long timeout_ms;                               /* 0 = 200 s */
    int (*watch)(void *user, const reply *so_far); /* non-zero ends the connection */
    void *user;
} call;

typedef struct watching {
    const call *call;
    const reply *reply;
} watching;

static inline int watch_transfer(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    watching *w = user;
    (void)a, (void)b, (void)c, (void)d;
    return w->call->watch ? w->call->watch(w->call->user, w->reply) : 0;
}

static inline reply send_call(int port, const call *c) {
    reply r = {0};
    char url[4096];
    struct curl_slist *headers = NULL;
    watching w = {c, &r};
    CURL *h = curl_easy_init();
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", port, c->path);
    curl_easy_setopt(h, CURLOPT_URL, url);
    curl_easy_setopt(h, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h, CURLOPT_PROXY, "");
    curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, c->timeout_ms ? c->timeout_ms : 200000L);
    curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, take_head);
    curl_easy_setopt(h, CURLOPT_HEADERDATA, &r);
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, &r);
    curl_easy_setopt(h, CURLOPT_XFERINFOFUNCTION, watch_transfer);
    curl_easy_setopt(h, CURLOPT_XFERINFODATA, &w);
    curl_easy_setopt(h, CURLOPT_NOPROGRESS, 0L);
    if (c->from) curl_easy_setopt(h, CURLOPT_INTERFACE, c->from);
    if (c->json) headers = curl_slist_append(headers, "Content-Type: application/json");
    if (c->json || c->bytes) {
        curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(c->json ? strlen(c->json) : c->n));
        curl_easy_setopt(h, CURLOPT_POSTFIELDS, c->json ? c->json : c->bytes);
    }
    curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, c->method);
    for (size_t i = 0; i < 6 && c->headers[i]; i++) headers = curl_slist_append(headers, c->headers[i]);
    if (headers) curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers);
    double began = seconds_now();
    r.code = curl_easy_perform(h);
    r.seconds = seconds_now() - began;
    curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &r.status);
    curl_slist_free_all(headers);
    curl_easy_cleanup(h);
    if (!r.body) append_to(&r.body, &r.body_len, "", 0);
    if (!r.head) append_to(&r.head, &r.head_len, "", 0);
    return r;
}

#define SEND(w, ...) send_call((w)->port, &(call){__VA_ARGS__})

/* The value of a header of the reply, in one of a few buffers; NULL: it is not there. */
static inline const char *header_of(const reply *r, const char *name) {
    static char buffers[4][1024];
    static int next;
    size_t n = strlen(name);
    for (char *line = r->head; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        if (strncasecmp(line, name, n) || line[n] != ':') continue;
        char *out = buffers[next++ % 4];
        line += n + 1 + strspn(line + n + 1, " ");
        snprintf(out, sizeof buffers[0], "%.*s", (int)strcspn(line, "\r\n"), line);
        return out;
    }
    return NULL;
}

/* The reply as JSON, owned; it must have the status. Frees the reply. */
static inline json_t *json_reply(reply r, long status, const char *what) {
    if (r.status != status) fail_msg("%s: status %ld, not %ld: %.600s", what, r.status, status, r.body);
    json_t *v = parse_json(r.body);
    reply_free(&r);
    return v;
}
#define GET_JSON(w, p) json_reply(SEND(w, .method = "GET", .path = (p)), 200, p)
#define POST_JSON(w, p, body, status)                                                                        \
    json_reply(SEND(w, .method = "POST", .path = (p), .json = (body)), status, p)

static inline void expect_refused(reply r, long status, const char *what) {
    if (r.status != status) fail_msg("%s: status %ld, not %ld: %.300s", what, r.status, status, r.body);
    json_t *v = parse_json(r.body), *e = json_object_get(v, "error");
    assert_true(json_is_string(json_object_get(e, "code")));
    assert_true(json_string_length(json_object_get(e, "message")) > 0);
    assert_true(json_is_string(json_object_get(e, "type")));
    json_decref(v);
    reply_free(&r);
}

static inline int64_t integer_of(const json_t *v, const char *name) {
    const json_t *x = json_object_get(v, name);
    if (!json_is_integer(x)) fail_msg("there is no whole number %s", name);
    return json_integer_value(x);
}
static inline const char *text_of(const json_t *v, const char *name) {
    const json_t *x = json_object_get(v, name);
    if (!json_is_string(x)) fail_msg("there is no text %s", name);
    return json_string_value(x);
}

/* ---- documents ---- */

/* The job. */
static inline json_t *upload_bytes(world *w, const char *name, const void *bytes, size_t n, long status) {
    char path[2048], *escaped = curl_easy_escape(NULL, name, 0);
    snprintf(path, sizeof path, "/api/v1/documents?name=%s", escaped);
    curl_free(escaped);
    return json_reply(SEND(w, .method = "PUT", .path = path, .bytes = bytes, .n = n), status, path);
}

/* Waits until a job has ended; its state in `state`. The document's id, or 0. */
static inline int64_t job_ended(world *w, int64_t id, char state[16]) {
    char path[64];
    snprintf(path, sizeof path, "/api/v1/jobs/%lld", (long long)id);
    for (double until = seconds_now() + 60; seconds_now() < until; usleep(20000)) {
        json_t *v = GET_JSON(w, path);
        snprintf(state, 16, "%s", text_of(v, "state"));
        int64_t document = json_integer_value(json_object_get(v, "document"));
        json_decref(v);
        if (strcmp(state, "queued") && strcmp(state, "reading") && strcmp(state, "fetching")) return document;
    }
    fail_msg("a job does not end");
    return 0;
}

static inline int64_t add_document(world *w, const char *name, const char *text) {
    json_t *received = upload_bytes(w, name, text, strlen(text), 202);
    char state[16];
    int64_t id = job_ended(w, integer_of(received, "id"), state);
    assert_string_equal(state, "done");
    json_decref(received);
    return id;
}

/* Waits until the document has that state. */
static inline void document_becomes(world *w, int64_t id, const char *want) {
    char path[64], state[24] = "";
    snprintf(path, sizeof path, "/api/v1/documents/%lld", (long long)id);
    for (double until = seconds_now() + 120; seconds_now() < until; usleep(20000)) {
        json_t *v = GET_JSON(w, path);
        snprintf(state, sizeof state, "%s", text_of(v, "state"));
        json_decref(v);
        if (!strcmp(state, want)) return;
    }
    fail_msg("document %lld stays %s and does not become %s", (long long)id, state, want);
}

/* About n bytes of sentences, each another one. Owned. */
static inline char *long_text(size_t n) {
    char *text = malloc(n + 200);
    size_t at = 0;
    for (int i = 1; at < n; i++)
        at += (size_t)sprintf(text + at, "Ship %d brought %d barrels to harbour %d.\n", i, i * 7919 % 1009,
                              i * 7);
    return text;
}

static inline void wait_ready(world *w) {
    for (double until = seconds_now() + 60; seconds_now() < until; usleep(10000)) {
        reply r = SEND(w, .method = "GET", .path = "/health");
        long status = r.status;
        reply_free(&r);
        if (status == 200) return;
    }
    fail_msg("the server does not become ready");
}

/* ---- raw sockets ---- */

static inline int raw_open(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&a, sizeof a)) fail_msg("cannot connect: %s", strerror(errno));
    return fd;
}

/* What comes until the other end closes or `seconds` have gone. Owned. */
static inline char *raw_read(int fd, double seconds, bool *closed) {
    char *out = NULL, piece[4096];
    size_t len = 0;
    append_to(&out, &len, "", 0);
    if (closed) *closed = false;
    for (double until = seconds_now() + seconds; seconds_now() < until;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 50) <= 0) continue;
        ssize_t n = read(fd, piece, sizeof piece);
        if (n <= 0) {
            if (closed) *closed = true;
            break;
        }
        append_to(&out, &len, piece, (size_t)n);
    }
    return out;
}

static inline void raw_write(int fd, const char *bytes, size_t n) {
    while (n) {
        ssize_t wrote = send(fd, bytes, n, MSG_NOSIGNAL);
        if (wrote <= 0) return; /* it has closed: what it said is read afterwards */
        bytes += wrote;
        n -= (size_t)wrote;
    }
}

/* The status of the reply to these bytes; 0: the connection was closed without one; -1: nothing came. */
static inline int raw_status(int port, const char *bytes, size_t n) {
    int fd = raw_open(port), status = -1;
    bool closed = false;
    raw_write(fd, bytes, n);
    char *text = raw_read(fd, 0.4, &closed);
    for (int i = 0; i < 12 && !text[0] && !closed; i++) {
        free(text);
        text = raw_read(fd, 0.4, &closed);
    }
    if (!strncmp(text, "HTTP/1.1 ", 9))
        status = atoi(text + 9);
    else if (closed)
        status = 0;
    free(text);
    close(fd);
    return status;
}

/* ---- a world that has started, with one document to put into it ---- */

static inline int set_up_world(void **state) {
    *state = world_new(NULL, 0);
    wait_ready(*state);
    return 0;
}

static inline int tear_down_world(void **state) {
    world_free(*state);
    return 0;
}

#define IN_A_WORLD(f) cmocka_unit_test_setup_teardown(f, set_up_world, tear_down_world)

#define LIGHTHOUSE                                                                                           \
    "The lighthouse of Alexandria stood on the island of Pharos. It was about 100 metres high. "             \
    "MARKERQUARTZ is a word that stands nowhere else.\n\nCaf\xC3\xA9 owners sold fish."

/* The events of a stream, one after another: calls `see` with each name and data. */
static inline void each_event(const char *body,
                              void (*see)(const char *name, const json_t *data, void *user), void *user) {
    const char *at = body;
    for (const char *end; (end = strstr(at, "\n\n")); at = end + 2) {
        char name[32] = "";
        const char *data = strstr(at, "data: ");
        if (!strncmp(at, "event: ", 7))
            snprintf(name, sizeof name, "%.*s", (int)strcspn(at + 7, "\n"), at + 7);
        if (!data || data > end) continue; /* a comment */
        char *text = strndup(data + 6, (size_t)(end - data - 6));
        json_t *v = json_loads(text, JSON_DECODE_ANY, NULL);
        see(v ? name : text, v, user);
        json_decref(v);
        free(text);
    }
    assert_string_equal(at, ""); /* nothing half */
}

#endif
