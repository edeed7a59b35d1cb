/* http_reply.c - replies, each with the headers that all have (http.h). */
#include "appliance/http_internal.h"

#include "appliance/command.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CSP_NOTHING "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; sandbox"

/* Code and type of the error object, where the caller has no code of its own. */
static const struct {
    unsigned status;
    const char *code, *type;
} kinds[] = {
    {400, "bad_request", "invalid_request_error"},
    {401, "unauthorized", "authentication_error"},
    {403, "forbidden", "permission_error"},
    {404, "not_found", "not_found_error"},
    {405, "method_not_allowed", "invalid_request_error"},
    {409, "conflict", "invalid_request_error"},
    {411, "length_required", "invalid_request_error"},
    {413, "too_large", "invalid_request_error"},
    {414, "too_large", "invalid_request_error"},
    {415, "unsupported_media_type", "invalid_request_error"},
    {429, "too_many_requests", "rate_limit_error"},
    {431, "too_large", "invalid_request_error"},
    {500, "failed", "server_error"},
    {503, "busy", "server_error"},
    {505, "unsupported_version", "invalid_request_error"},
    {507, "disk_full", "server_error"},
};

json_t *http_error_json(unsigned status, const char *code, const char *message) {
    const char *type = "server_error";
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (kinds[i].status != status) continue;
        type = kinds[i].type;
        if (!code) code = kinds[i].code;
    }
    return json_pack("{s:{s:s, s:o, s:s, s:n}}", "error", "code", code ? code : "failed", "message",
                     json_text(message), "type", type, "param");
}

unsigned http_status_of(int code) {
    switch (code) {
    case PH_USAGE:
        return 400;
    case PH_NOT_FOUND:
        return 404;
    case PH_TOO_LARGE:
        return 413;
    case PH_UNSUPPORTED:
        return 415;
    case PH_MODEL:
    case PH_BUSY:
    case PH_MEMORY:
    case PH_INTERRUPTED:
        return 503;
    default:
        return 500;
    }
}

static const char *code_name(int code) {
    switch (code) {
    case PH_MODEL:
        return "model";
    case PH_CORRUPT:
        return "corrupt";
    case PH_MEMORY:
        return "memory";
    case PH_UNSUPPORTED:
        return "unsupported";
    case PH_INTERRUPTED:
        return "interrupted";
    default:
        return NULL;
    }
}

void http_common_headers(struct MHD_Response *m, const char *csp) {
    static const char *const headers[][2] = {
        {"X-Content-Type-Options", "nosniff"},
        {"Referrer-Policy", "no-referrer"},
        {"X-Frame-Options", "DENY"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
        {"Cross-Origin-Opener-Policy", "same-origin"},
    };
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++)
        MHD_add_response_header(m, headers[i][0], headers[i][1]);
    MHD_add_response_header(m, "Content-Security-Policy", csp ? csp : CSP_NOTHING);
    if (!MHD_get_response_header(m, "Cache-Control")) MHD_add_response_header(m, "Cache-Control", "no-store");
}

bool http_has_common_headers(struct MHD_Response *m) {
    return MHD_get_response_header(m, "X-Content-Type-Options") != NULL;
}

void http_reply_response(http_request *r, unsigned status, struct MHD_Response *m, const char *csp) {
    if (r->response) MHD_destroy_response(r->response);
    r->response = m;
    r->status = status;
    r->refused = true;
    if (!m) return;
    http_common_headers(m, csp);
    if (status == 429 || status == 503) MHD_add_response_header(m, "Retry-After", status == 429 ? "2" : "5");
    if (status == 401) MHD_add_response_header(m, "WWW-Authenticate", "Bearer");
}

static void reply_owned(http_request *r, unsigned status, const char *type, char *bytes, size_t n) {
    struct MHD_Response *m = MHD_create_response_from_buffer(n, bytes, MHD_RESPMEM_MUST_FREE);
    if (!m) free(bytes);
    if (m) MHD_add_response_header(m, "Content-Type", type);
    http_reply_response(r, status, m, NULL);
}

void http_reply_text(http_request *r, unsigned status, const char *type, const char *text) {
    char *copy = strdup(text);
    if (copy) reply_owned(r, status, type, copy, strlen(copy));
}

void http_reply_json(http_request *r, unsigned status, json_t *value) {
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(value);
    if (text) {
        reply_owned(r, status, "application/json", text, strlen(text));
        return;
    }
    http_reply_text(r, 503, "application/json",
                    "{\"error\":{\"code\":\"memory\",\"message\":\"no memory for the reply\","
                    "\"type\":\"server_error\",\"param\":null}}");
}

void http_reply_error(http_request *r, unsigned status, const char *code, const char *format, ...) {
    char text[600];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    http_reply_json(r, status, http_error_json(status, code, text));
}

void http_reply_failure(http_request *r, const ph_error *err) {
    http_reply_error(r, http_status_of(err->code), code_name(err->code), "%s", err->text);
}

/* ---- what came in ---- */

typedef struct search {
    const char *name, *value;
    size_t name_len, value_len;
    int n;
} search;

static enum MHD_Result match(void *user, enum MHD_ValueKind kind, const char *key, size_t key_len,
                             const char *value, size_t value_len) {
    search *s = user;
    if (key_len != s->name_len) return MHD_YES;
    bool same =
        kind == MHD_HEADER_KIND ? !strncasecmp(key, s->name, key_len) : !memcmp(key, s->name, key_len);
    if (!same) return MHD_YES;
    s->n++;
    s->value = value;
    s->value_len = value ? value_len : 0;
    return MHD_YES;
}

const char *http_header(http_request *r, const char *name, bool *twice) {
    search s = {.name = name, .name_len = strlen(name)};
    MHD_get_connection_values_n(r->connection, MHD_HEADER_KIND, match, &s);
    if (twice) *twice = s.n > 1;
    return s.n == 1 ? s.value : NULL;
}

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Bytes written without the NUL, or -1. */
static ssize_t decode(const char *in, size_t n, char *out, size_t room) {
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        int c = (unsigned char)in[i];
        if (c == '%') {
            int high = i + 2 < n ? hex(in[i + 1]) : -1, low = i + 2 < n ? hex(in[i + 2]) : -1;
            if (high < 0 || low < 0) return -1;
            c = high * 16 + low;
            i += 2;
        }
        if (c == 0 || at + 1 >= room) return -1;
        out[at++] = (char)c;
    }
    out[at] = 0;
    return (ssize_t)at;
}

int http_parameter(http_request *r, const char *name, char *out, size_t n, size_t *len) {
    search s = {.name = name, .name_len = strlen(name)};
    MHD_get_connection_values_n(r->connection, MHD_GET_ARGUMENT_KIND, match, &s);
    if (s.n == 0) return 0;
    ssize_t got = s.n == 1 ? decode(s.value ? s.value : "", s.value_len, out, n) : -1;
    if (got < 0) {
        http_reply_error(r, 400, NULL, "the parameter %s is malformed, too long, or there twice", name);
        return -1;
    }
    if (len) *len = (size_t)got;
    return 1;
}

bool http_parse_number(const char *s, int64_t low, int64_t high, int64_t *out) {
    int64_t v = 0;
    size_t n = strlen(s);
    if (n == 0 || n > 18) return false;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9') return false;
        v = v * 10 + (s[i] - '0');
    }
    if (v < low || v > high) return false;
    *out = v;
    return true;
}

int http_number(http_request *r, const char *name, int64_t low, int64_t high, int64_t *out) {
    char text[32];
    int got = http_parameter(r, name, text, sizeof text, NULL);
    if (got != 1) return got;
    if (http_parse_number(text, low, high, out)) return 1;
    http_reply_error(r, 400, NULL, "%s is a whole number from %lld to %lld", name, (long long)low,
                     (long long)high);
    return -1;
}

/* ---- JSON in ---- */

enum { JSON_DEPTH = 32 };

/* The parser is recursive; its own cap is 2048, which is much of a thread's stack. */
static bool too_deep(const char *s, size_t n) {
    int depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < n; i++) {
        if (quoted) {
            if (s[i] == '\\')
                i++;
            else if (s[i] == '"')
                quoted = false;
        } else if (s[i] == '"')
            quoted = true;
        else if (s[i] == '{' || s[i] == '[') {
            if (++depth > JSON_DEPTH) return true;
        } else if (s[i] == '}' || s[i] == ']')
            depth--;
    }
    return false;
}

json_t *http_json_body(http_request *r, bool optional) {
    if (r->body_len == 0 && optional) return json_object();
    if (r->body_len && too_deep(r->body, r->body_len)) {
        http_reply_error(r, 400, NULL, "the JSON is nested more than %d deep", JSON_DEPTH);
        return NULL;
    }
    json_error_t why = {0};
    json_t *value = r->body_len ? json_loadb(r->body, r->body_len, JSON_REJECT_DUPLICATES, &why) : NULL;
    if (json_is_object(value)) return value;
    if (value)
        http_reply_error(r, 400, NULL, "the body is JSON, and no object");
    else if (!r->body_len)
        http_reply_error(r, 400, NULL, "the body is empty: JSON belongs there");
    else {
        json_t *text = json_text(why.text); /* it may quote bytes of the body */
        http_reply_error(r, 400, NULL, "the body is no JSON: %.300s (byte %d)",
                         text ? json_string_value(text) : "?", why.position);
        json_decref(text);
    }
    json_decref(value);
    return NULL;
}
