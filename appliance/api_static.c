/* api_static.c - the page's files and openapi.json, compressed once. */
#include "appliance/api.h"

#include "appliance/http_static.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* Nothing from elsewhere, nothing inline, nothing evaluated: a script in a document's name or text stays
 * text. Rectangles are placed through the style object, which needs no exception; pictures of pages are
 * blobs. */
#define PAGE_CSP                                                                                             \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; font-src 'self'; "       \
    "connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "      \
    "frame-ancestors 'none'"

enum { WORTH_COMPRESSING = 1024, MOST_FILES = 512 };

/* By number in static_files; NULL = sent as it is. */
static struct {
    unsigned char *bytes;
    size_t len;
} small[MOST_FILES];
static pthread_once_t prepared = PTHREAD_ONCE_INIT;

static bool worth_it(const static_file *f) {
    return f->end - f->bytes > WORTH_COMPRESSING &&
           (f->text || strstr(f->type, "json") || strstr(f->type, "svg"));
}

static void compress_file(size_t i) {
    const static_file *f = &static_files[i];
    size_t room = (size_t)(f->end - f->bytes);
    z_stream z = {0};
    unsigned char *out = malloc(room);
    if (!out || deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY) != Z_OK) {
        free(out);
        return;
    }
    z.next_in = (Bytef *)f->bytes;
    z.avail_in = (uInt)room;
    z.next_out = out;
    z.avail_out = (uInt)room;
    if (deflate(&z, Z_FINISH) == Z_STREAM_END) {
        small[i].bytes = out;
        small[i].len = z.total_out;
        out = NULL;
    }
    deflateEnd(&z);
    free(out);
}

static void prepare(void) {
    for (size_t i = 0; static_files[i].path && i < MOST_FILES; i++)
        if (worth_it(&static_files[i])) compress_file(i);
}

static bool takes_gzip(http_request *r) {
    const char *accept = http_header(r, "Accept-Encoding", NULL);
    return accept && strstr(accept, "gzip") && !strstr(accept, "gzip;q=0");
}

static void send_file(http_request *r, size_t i) {
    const static_file *f = &static_files[i];
    const char *have = http_header(r, "If-None-Match", NULL);
    char type[80];
    bool same = have && strstr(have, f->etag), gzip = i < MOST_FILES && small[i].bytes && takes_gzip(r);
    size_t n = same ? 0 : gzip ? small[i].len : (size_t)(f->end - f->bytes);
    const void *bytes = gzip ? (const void *)small[i].bytes : f->bytes;
    struct MHD_Response *m = MHD_create_response_from_buffer(n, (void *)bytes, MHD_RESPMEM_PERSISTENT);
    if (!m) return;
    snprintf(type, sizeof type, "%s%s", f->type, f->text ? "; charset=utf-8" : "");
    MHD_add_response_header(m, "Content-Type", type);
    MHD_add_response_header(m, "ETag", f->etag);
    MHD_add_response_header(m, "Vary", "Accept-Encoding");
    MHD_add_response_header(m, "Cache-Control",
                            f->immutable ? "public, max-age=31536000, immutable" : "no-cache");
    if (gzip && !same) MHD_add_response_header(m, "Content-Encoding", "gzip");
    http_reply_response(r, same ? 304 : 200, m, PAGE_CSP);
}

/* For a build that could not make the page. */
static void send_plain_page(http_request *r) {
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f) return;
    fputs("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Pharos</title>"
          "<meta name=\"viewport\" content=\"width=device-width\"></head><body><h1>Pharos</h1>"
          "<p>The server runs. The page is not in this build: it needs npm when it is made.</p>"
          "<p>The API is, and <a href=\"/openapi.json\">openapi.json</a> describes it:</p><ul>",
          f);
    for (const api_route *route = api_routes; route->method; route++)
        fprintf(f, "<li><code>%s %s</code></li>", route->method, route->path);
    fputs("</ul></body></html>\n", f);
    fclose(f);
    struct MHD_Response *m = text ? MHD_create_response_from_buffer(n, text, MHD_RESPMEM_MUST_FREE) : NULL;
    if (!m) {
        free(text);
        return;
    }
    MHD_add_response_header(m, "Content-Type", "text/html; charset=utf-8");
    http_reply_response(r, 200, m, PAGE_CSP);
}

void api_static(api_call *c) {
    pthread_once(&prepared, prepare);
    for (size_t i = 0; static_files[i].path; i++) {
        if (strcmp(static_files[i].path, c->http->path) != 0) continue;
        send_file(c->http, i);
        return;
    }
    if (!strcmp(c->http->path, "/"))
        send_plain_page(c->http);
    else
        http_reply_error(c->http, 404, NULL, "there is no %.200s", c->http->path);
}

void api_openapi(api_call *c) {
    api_static(c);
}
