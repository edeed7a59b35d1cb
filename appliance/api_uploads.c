/* api_uploads.c - files and URLs coming in, and the jobs that read them. */
#include "appliance/api.h"

#include <string.h>

static void receive(http_request *r, const void *bytes, size_t n) {
    api_call *c = r->user;
    upload_write(c->body, bytes, n);
}

static void abandon(void *up) {
    upload_abandon(up);
}

/* Disk full has a status of its own: what a person does about it is another thing. */
static void reply_failure(api_call *c, const ph_error *err) {
    if (strstr(err->text, "disk is full"))
        http_reply_error(c->http, 507, NULL, "%s", err->text);
    else
        http_reply_failure(c->http, err);
}

/* In which languages pictures are to be read: as asked, else as the server usually does. False: the reply is made. */
static bool find_ocr(api_call *c, const char *asked, const char **languages) {
    ph_error err = {0};
    *languages = asked ? asked : c->serve->options.ocr;
    if (!asked || !asked[0] || !ingest_ocr_check(asked, &err)) return true;
    http_reply_failure(c->http, &err);
    return false;
}

void api_upload_begin(api_call *c) {
    char name[1100], ocr[2 * INGEST_OCR_LANGUAGE_BYTES];
    size_t len = 0, n_ocr = 0;
    const char *languages = NULL;
    const char *why = NULL;
    ph_error err = {0};
    upload *up = NULL;
    uint64_t most = c->serve->options.upload_bytes;
    int got = http_parameter(c->http, "name", name, sizeof name, &len);
    if (got < 0) return;
    int got_ocr = http_parameter(c->http, "ocr", ocr, sizeof ocr, &n_ocr);
    if (got_ocr < 0 || !find_ocr(c, got_ocr ? ocr : NULL, &languages)) return;
    if (got == 0)
        http_reply_error(c->http, 400, NULL, "?name=... says what the file is called");
    else if (!guard_document_name(name, len, &why))
        http_reply_error(c->http, 400, NULL, "%s", why);
    else if (c->http->length > most)
        http_reply_error(c->http, 413, NULL, "%s has %llu bytes, and the limit is %llu", name,
                         (unsigned long long)c->http->length, (unsigned long long)most);
    else if (c->http->length == 0)
        http_reply_error(c->http, 400, NULL, "%s is empty", name);
    else if (upload_begin(&up, c->serve->uploads, name, c->http->length, languages, &err))
        reply_failure(c, &err);
    else {
        c->body = up;
        c->free_body = abandon;
        c->http->sink = receive;
    }
}

static int end(api_call *c, store *s, ph_error *err) {
    json_t *row = NULL;
    bool known = false;
    int code = upload_end(c->body, s, &row, &known, err);
    if (!code) http_reply_json(c->http, known ? 200 : 202, row);
    return code;
}

void api_upload(api_call *c) {
    ph_error err = {0};
    store *s = NULL;
    int code = stores_lend(c->serve->stores, &s, &err);
    if (!code) code = end(c, s, &err);
    stores_back(c->serve->stores, s);
    if (code) reply_failure(c, &err);
}

void api_upload_url(api_call *c) {
    static const char *const members[] = {"url", "ocr", NULL};
    json_t *body = http_json_body(c->http, false), *row = NULL;
    ph_error err = {0};
    if (!body) return;
    const char *url = json_string_value(json_object_get(body, "url")), *languages = NULL;
    const json_t *ocr = json_object_get(body, "ocr");
    bool web = url && (!strncasecmp(url, "http://", 7) || !strncasecmp(url, "https://", 8)) && strlen(url) <= 4096 &&
               guard_field_value(url, strlen(url));
    if (!api_members(c, body, members)) {
    } else if (!web)
        http_reply_error(c->http, 400, NULL, "url is an http or https URL of at most 4096 bytes");
    else if (ocr && !json_is_string(ocr))
        http_reply_error(c->http, 400, NULL, "ocr is a string of languages such as eng+deu, or empty");
    else if (!find_ocr(c, json_string_value(ocr), &languages)) {
    } else if (uploads_fetch(c->serve->uploads, url, languages, &row, &err))
        reply_failure(c, &err);
    else
        http_reply_json(c->http, 202, row);
    json_decref(body);
}

void api_jobs_list(api_call *c) {
    http_reply_json(c->http, 200,
                    json_pack("{s:o, s:o}", "jobs", uploads_list(c->serve->uploads), "reading",
                              reading_json(&c->serve->reading)));
}

static void reply_job(api_call *c, json_t *row) {
    if (row)
        http_reply_json(c->http, 200, row);
    else
        http_reply_error(c->http, 404, NULL, "there is no job %lld", (long long)c->id);
}

void api_jobs_get(api_call *c) {
    reply_job(c, uploads_get(c->serve->uploads, c->id));
}

void api_jobs_delete(api_call *c) {
    reply_job(c, uploads_cancel(c->serve->uploads, c->id));
}
