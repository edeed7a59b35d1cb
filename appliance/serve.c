/* serve.c - puts the server together, and takes it apart in an order in which nothing acknowledged is lost
 * and everyone who waits gets a reply (serve.h). */
#include "appliance/serve.h"

#include "appliance/api.h"
#include "appliance/serve_erase.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DRAIN_MS = 2000 }; /* for replies that are on their way when the server stops */

static bool is_loopback(const char *address) {
    struct in_addr four;
    struct in6_addr six;
    if (inet_pton(AF_INET, address, &four) == 1) return ntohl(four.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, address, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}

static void fill_in(serve_options *o) {
    if (!o->listen) o->listen = "127.0.0.1";
    if (!o->upload_bytes) o->upload_bytes = (uint64_t)2 << 30;
    if (!o->queue) o->queue = 64;
    if (!o->per_client) o->per_client = 16;
    if (!o->uploads) o->uploads = 10000;
    if (!o->watch_ms) o->watch_ms = 5000;
    if (!o->ocr) o->ocr = "";
}

static void document_stored(void *user) {
    serve *s = user;
    jobs_want_read(s->jobs);
}

static int erase_before(void *user, int64_t document, ph_error *err) {
    return erase_document(((serve *)user)->jobs, document, "files on their way in", err);
}

static int start_parts(serve *s, ph_error *err) {
    const serve_options *o = &s->options;
    jobs_options j = {.data_dir = o->data_dir,
                      .open_engine = o->open_engine,
                      .open_user = o->user,
                      .read = serve_read,
                      .read_user = &s->reading,
                      .capacity = o->queue,
                      .per_client = o->per_client};
    uploads_options u = {.data_dir = o->data_dir,
                         .file_bytes = o->upload_bytes,
                         .capacity = o->uploads,
                         .stored = document_stored,
                         .erase = erase_before,
                         .user = s};
    http_options h = {.listen = o->listen,
                      .port = o->port,
                      .names = o->names,
                      .connections = o->connections,
                      .connections_per_address = o->connections_per_address,
                      .idle_seconds = o->idle_seconds,
                      .header_seconds = o->header_seconds,
                      .heartbeat_ms = o->heartbeat_ms};
    http_application app = {.user = s, .begin = api_begin, .run = api_run};
    int code = jobs_start(&s->jobs, &j, err);
    if (!code) code = uploads_start(&s->uploads, &u, err);
    watching_options w = {.data_dir = o->data_dir,
                          .folders = o->watch,
                          .n = o->n_watch,
                          .every_ms = o->watch_ms,
                          .file_bytes = o->upload_bytes,
                          .ocr = o->ocr,
                          .uploads = s->uploads,
                          .jobs = s->jobs,
                          .changed = document_stored,
                          .user = s};
    if (!code && o->n_watch) code = watching_start(&s->watching, &w, err);
    /* Last: from here on requests come. */
    if (!code) code = http_start(&s->http, &h, &app, err);
    if (!code) jobs_want_read(s->jobs); /* what an earlier server did not come to */
    return code;
}

/* The store, and who may come in. */
static int open_door(serve *s, ph_error *err) {
    const serve_options *o = &s->options;
    store *lent = NULL;
    bool needed = false;
    int code = stores_open(&s->stores, o->data_dir, err);
    if (!code) code = stores_lend(s->stores, &lent, err);
    if (!code) code = tokens_open(&s->tokens, o->token_file, lent, err);
    if (!code) code = tokens_needed(s->tokens, lent, &needed, err);
    stores_back(s->stores, lent);
    if (!code && !needed && !is_loopback(o->listen))
        code = ph_fail(
            err, PH_USAGE,
            "%s can be reached from elsewhere: that needs a token (`pharos token add`) or --token-file",
            o->listen);
    return code;
}

int serve_start(serve **out, const serve_options *o, ph_error *err) {
    *out = NULL;
    serve *s = calloc(1, sizeof *s);
    if (!s) return ph_fail(err, PH_MEMORY, "no memory for a server");
    s->options = *o;
    fill_in(&s->options);
    s->started_at = (int64_t)time(NULL);
    pthread_mutex_init(&s->reading.lock, NULL);
    pthread_mutex_init(&s->run.lock, NULL);
    pthread_mutex_init(&s->figures.lock, NULL);
    int code = open_door(s, err);
    if (!code) code = start_parts(s, err);
    if (code)
        serve_stop(s);
    else
        *out = s;
    return code;
}

uint16_t serve_port(const serve *s) {
    return http_port(s->http);
}

void serve_stop(serve *s) {
    if (!s) return;
    if (s->http) http_close_door(s->http);
    if (s->jobs) jobs_stop(s->jobs); /* who waits is told */
    watching_stop(s->watching); /* its erasing is a job, and ends with them */
    s->watching = NULL;
    if (s->uploads) uploads_stop(s->uploads);
    http_stop(s->http, DRAIN_MS);
    uploads_free(s->uploads);
    context_close(s->plain);
    jobs_free(s->jobs);
    stores_close(s->stores);
    tokens_free(s->tokens);
    pthread_mutex_destroy(&s->figures.lock);
    pthread_mutex_destroy(&s->run.lock);
    pthread_mutex_destroy(&s->reading.lock);
    free(s);
}
