/* api_documents.c - documents: list, text, segments, original, erasing. */
#include "appliance/api.h"

#include "appliance/command.h"
#include "appliance/serve_erase.h"
#include "ingest/ingest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TEXT_BYTES = 1 << 20, SEGMENTS = 5000, MOST_SEGMENTS = 100000 };

/* ---- one document as JSON, with how far it is ---- */

typedef struct shelf {
    store_pack *packs;
    size_t n;
    int64_t now, now_done; /* the pack that is being read, and how far */
} shelf;

/* Packs belong to an engine; before it is loaded no document is in one. */
static int load_shelf(api_call *c, shelf *x, store *s, ph_error *err) {
    engine *e = jobs_engine_borrow(c->serve->jobs);
    *x = (shelf){0};
    if (!e) return PH_OK;
    reading_now *r = &c->serve->reading;
    pthread_mutex_lock(&r->lock);
    x->now = r->pack;
    x->now_done = r->done;
    pthread_mutex_unlock(&r->lock);
    return store_pack_list(s, engine_key(e), &x->packs, &x->n, err);
}

static json_t *document_json(const store_document *d, const shelf *x) {
    char hash[65];
    for (int i = 0; i < 32; i++) sprintf(hash + 2 * i, "%02x", d->hash[i]);
    int64_t held = 0, read = 0;
    bool packed = false, now = false;
    json_t *packs = json_array();
    for (size_t i = 0; i < x->n; i++) {
        const store_pack *p = &x->packs[i];
        for (size_t j = 0; j < p->n_items; j++) {
            const store_pack_item *item = &p->items[j];
            if (item->document != d->id) continue;
            int64_t so_far = p->id == x->now && x->now_done > p->read ? x->now_done : p->read;
            packed = true;
            held += item->token_end - item->token_start;
            if (so_far >= item->token_end)
                read += item->token_end - item->token_start;
            else {
                if (so_far > item->token_start) read += so_far - item->token_start;
                now |= p->id == x->now && so_far > item->token_start;
            }
            json_array_append_new(packs, json_integer(p->id));
        }
    }
    const char *state = !packed ? "packing" : read >= held ? "ready" : now ? "prefilling" : "waiting";
    return json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:i, s:I, s:s, s:s, s:I, s:I, s:o}", "id",
                     (json_int_t)d->id, "name", json_text(d->name), "source", json_text(d->source),
                     "media_type", json_text(d->media_type), "title", json_text(d->title), "warning",
                     json_text(d->warning), "picture_pages", json_text(d->picture_pages), "ocr", json_text(d->ocr), "bytes",
                     (json_int_t)d->bytes, "text_bytes", (json_int_t)d->text_bytes, "pages", (int)d->pages,
                     "added_at", (json_int_t)d->added_at, "hash", hash, "state", state, "tokens",
                     (json_int_t)held, "tokens_read", (json_int_t)read, "packs", packs);
}

static int list(api_call *c, store *s, ph_error *err) {
    shelf x;
    store_document *rows = NULL;
    size_t n = 0;
    json_t *out = json_array();
    int code = load_shelf(c, &x, s, err);
    if (!code) code = store_document_list(s, &rows, &n, err);
    for (size_t i = 0; i < n; i++) json_array_append_new(out, document_json(&rows[i], &x));
    store_documents_free(rows, n);
    store_packs_free(x.packs, x.n);
    if (!code)
        http_reply_json(c->http, 200, json_pack("{s:o}", "documents", out));
    else
        json_decref(out);
    return code;
}

void api_documents_list(api_call *c) {
    api_with_store(c, list);
}

static int get(api_call *c, store *s, ph_error *err) {
    shelf x = {0};
    store_document d = {0};
    int code = store_document_get(s, c->id, &d, err);
    if (!code) code = load_shelf(c, &x, s, err);
    if (!code) http_reply_json(c->http, 200, document_json(&d, &x));
    store_packs_free(x.packs, x.n);
    store_document_free(&d);
    return code;
}

void api_documents_get(api_call *c) {
    api_with_store(c, get);
}

/* ---- text and segments ---- */

static int64_t boundary(const char *text, int64_t at) {
    while (at > 0 && ((unsigned char)text[at] & 0xC0) == 0x80) at--;
    return at;
}

static int text(api_call *c, store *s, ph_error *err) {
    char *bytes = NULL;
    size_t len = 0;
    int64_t start = 0, end = INT64_MAX;
    if (http_number(c->http, "start", 0, INT64_MAX, &start) < 0) return PH_OK;
    if (http_number(c->http, "end", 0, INT64_MAX, &end) < 0) return PH_OK;
    int code = store_document_text(s, c->id, &bytes, &len, err);
    if (code) return code;
    if (start > (int64_t)len || end < start) {
        http_reply_error(c->http, 400, NULL, "bytes %lld to %lld are no part of a text of %zu",
                         (long long)start, (long long)end, len);
    } else {
        if (end > (int64_t)len) end = (int64_t)len;
        if (end - start > TEXT_BYTES) end = start + TEXT_BYTES;
        start = boundary(bytes, start);
        end = boundary(bytes, end);
        char *part = strndup(bytes + start, (size_t)(end - start));
        http_reply_json(c->http, 200,
                        json_pack("{s:I, s:I, s:I, s:I, s:o}", "document", (json_int_t)c->id, "start",
                                  (json_int_t)start, "end", (json_int_t)end, "total", (json_int_t)len, "text",
                                  json_text(part)));
        free(part);
    }
    free(bytes);
    return PH_OK;
}

void api_documents_text(api_call *c) {
    api_with_store(c, text);
}

static json_t *segment_json(const store_segment *g) {
    json_t *rects = json_array();
    for (uint32_t i = 0; i < g->n_rects; i++) {
        const float *r = g->rects + 4 * i;
        json_array_append_new(
            rects, json_pack("[f, f, f, f]", (double)r[0], (double)r[1], (double)r[2], (double)r[3]));
    }
    return json_pack("{s:I, s:I, s:o, s:I, s:I, s:o}", "start", (json_int_t)g->start, "end",
                     (json_int_t)g->end, "page", g->page ? json_integer(g->page) : json_null(),
                     "source_start", (json_int_t)g->src_start, "source_end", (json_int_t)g->src_end, "rects",
                     rects);
}

static int segments(api_call *c, store *s, ph_error *err) {
    int64_t start = 0, end = INT64_MAX, page = 0, limit = SEGMENTS;
    if (http_number(c->http, "start", 0, INT64_MAX, &start) < 0) return PH_OK;
    if (http_number(c->http, "end", 0, INT64_MAX, &end) < 0) return PH_OK;
    if (http_number(c->http, "page", 1, UINT32_MAX, &page) < 0) return PH_OK;
    if (http_number(c->http, "limit", 1, MOST_SEGMENTS, &limit) < 0) return PH_OK;
    store_segment *all = NULL;
    store_document d = {0};
    size_t n = 0;
    int code = store_document_get(s, c->id, &d, err);
    if (!code) code = store_document_segments(s, c->id, &all, &n, err);
    if (code) {
        store_document_free(&d);
        return code;
    }
    json_t *rows = json_array();
    bool more = false;
    for (size_t i = 0; i < n && !more; i++) {
        const store_segment *g = &all[i];
        if ((int64_t)g->end <= start || (int64_t)g->start >= end || (page && g->page != page)) continue;
        if ((int64_t)json_array_size(rows) == limit)
            more = true;
        else
            json_array_append_new(rows, segment_json(g));
    }
    http_reply_json(c->http, 200,
                    json_pack("{s:I, s:i, s:o, s:b}", "document", (json_int_t)c->id, "pages", (int)d.pages,
                              "segments", rows, "more", more));
    store_segments_free(all, n);
    store_document_free(&d);
    return PH_OK;
}

void api_documents_segments(api_call *c) {
    api_with_store(c, segments);
}

/* ---- the original ---- */

/* RFC 8187: what is not a letter or digit is escaped, so that a name cannot leave the header. */
static char *disposition(const char *name) {
    static const char *const start = "attachment; filename*=UTF-8''";
    const char *base = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;
    char *out = malloc(strlen(start) + 3 * strlen(base) + 1), *at = out;
    if (!out) return NULL;
    at += sprintf(at, "%s", start);
    for (const unsigned char *p = (const unsigned char *)base; *p; p++) {
        bool plain = (*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                     *p == '.' || *p == '-' || *p == '_';
        at += sprintf(at, plain ? "%c" : "%%%02X", *p);
    }
    return out;
}

static int file(api_call *c, store *s, ph_error *err) {
    store_document d = {0};
    char *path = NULL, *name = NULL;
    struct stat st;
    int fd = -1, code = store_document_get(s, c->id, &d, err);
    if (!code) code = store_document_file(s, c->id, &path, err);
    if (!code && ((fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)) < 0 || fstat(fd, &st)))
        code = ph_fail(err, PH_FAIL, "cannot open the original: %s", strerror(errno));
    if (!code && !(name = disposition(d.name))) code = ph_fail(err, PH_MEMORY, "no memory for a name");
    struct MHD_Response *m = code ? NULL : MHD_create_response_from_fd64((uint64_t)st.st_size, fd);
    if (m) {
        /* Whatever it says of itself, a browser is to show nothing but PDF, and that in a sandbox. */
        bool pdf = d.media_type && !strcmp(d.media_type, "application/pdf");
        MHD_add_response_header(m, "Content-Type", pdf ? "application/pdf" : "application/octet-stream");
        MHD_add_response_header(m, "Content-Disposition", name);
        http_reply_response(c->http, 200, m, "default-src 'none'; sandbox; frame-ancestors 'none'");
    } else if (fd >= 0)
        close(fd);
    if (!m && !code) code = ph_fail(err, PH_MEMORY, "no memory for a reply");
    free(name);
    free(path);
    store_document_free(&d);
    return code;
}

/* ---- a page as it looks ---- */

enum { PIXELS = 1400, MOST_PIXELS = 4096, LEAST_PIXELS = 16, RENDERERS = 2 };

static int image(api_call *c, store *s, ph_error *err) {
    static atomic_int rendering; /* each is a process of its own that may take a second */
    int64_t pixels = PIXELS;
    uint8_t *png = NULL;
    size_t n = 0;
    char *path = NULL;
    if (http_number(c->http, "pixels", LEAST_PIXELS, MOST_PIXELS, &pixels) < 0) return PH_OK;
    if (c->other > UINT32_MAX) return ph_fail(err, PH_NOT_FOUND, "there is no such page");
    int code = store_document_file(s, c->id, &path, err);
    if (!code && atomic_fetch_add(&rendering, 1) >= RENDERERS) {
        code = ph_fail(err, PH_BUSY, "other pages are being drawn");
    } else if (!code)
        code = ingest_page_png(&png, &n, path, (uint32_t)c->other, (uint32_t)pixels, NULL, err);
    if (path) atomic_fetch_sub(&rendering, 1);
    struct MHD_Response *m = code ? NULL : MHD_create_response_from_buffer(n, png, MHD_RESPMEM_MUST_FREE);
    if (m) {
        MHD_add_response_header(m, "Content-Type", "image/png");
        http_reply_response(c->http, 200, m, NULL);
    } else if (!code) {
        free(png);
        code = ph_fail(err, PH_MEMORY, "no memory for a reply");
    }
    free(path);
    return code;
}

void api_documents_image(api_call *c) {
    api_with_store(c, image);
}

void api_documents_file(api_call *c) {
    api_with_store(c, file);
}

/* ---- erasing: by the worker, so that nothing is being read from what goes ---- */

void api_documents_delete(api_call *c) {
    erasure *x = erasure_new(c->id);
    job *j = NULL;
    char client[80];
    api_client(c, client);
    jobs_answer a = x ? jobs_submit(c->serve->jobs, &erasure_class, x, client, &j) : JOBS_NO_MEMORY;
    if (a != JOBS_TAKEN) {
        http_reply_error(c->http, 503, "busy", "the server is stopping, or out of memory");
        if (j)
            job_drop(j);
        else
            erasure_free(x);
        return;
    }
    /* Who leaves now has asked for it nevertheless. */
    if (!http_wait(c->http, x->wake, erasure_done, x))
        http_reply_error(c->http, 503, "busy", "the document is being erased");
    else if (x->err.code && x->receipt.documents != 1)
        http_reply_failure(c->http, &x->err);
    else {
        json_t *receipt = api_receipt_json(&x->receipt);
        /* It is gone; what is left to do is said. */
        if (x->err.code) json_object_set_new(receipt, "note", json_text(x->err.text));
        http_reply_json(c->http, 200, receipt);
    }
    job_drop(j);
}
