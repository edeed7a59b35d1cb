/* fetch_name.c - what a fetched document is called: by the server, by its URL, by its host. */
#include "ingest/fetch_internal.h"

#include "ingest/utf8.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_NAME ((size_t)150)

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes %41 where `percent`, and keeps the last part of a path, without what has no place in a file name.
 */
static size_t clean(char out[MAX_NAME + 1], const char *from, size_t n, bool percent) {
    char raw[1024];
    size_t k = 0;
    for (size_t i = 0; i < n && k < sizeof raw; i++) {
        int a, b;
        if (percent && from[i] == '%' && i + 2 < n && (a = hex(from[i + 1])) >= 0 &&
            (b = hex(from[i + 2])) >= 0) {
            raw[k++] = (char)(a * 16 + b);
            i += 2;
        } else {
            raw[k++] = from[i];
        }
    }
    size_t start = 0;
    for (size_t i = 0; i < k; i++)
        if (raw[i] == '/' || raw[i] == '\\') start = i + 1;
    size_t m = 0;
    for (size_t i = start; i < k;) {
        size_t length = utf8_sequence((const uint8_t *)raw + i, k - i);
        uint32_t c = length ? utf8_code_point((const uint8_t *)raw + i, length) : 0;
        if (m + length > MAX_NAME) break;
        bool leading = m == 0 && (c == '.' || c == ' ');
        if (!leading && c >= 0x20 && c != 0x7F && !(c >= 0x80 && c < 0xA0) && c != 0xFEFF &&
            !(c >= 0x202A && c <= 0x202E)) {
            memcpy(out + m, raw + i, length);
            m += length;
        }
        i += length ? length : 1;
    }
    while (m && out[m - 1] == ' ') m--;
    out[m] = 0;
    return m;
}

/* The value of filename= or filename*=; the latter wins. */
static size_t from_disposition(char out[MAX_NAME + 1], const char *header) {
    const char *star = strcasestr(header, "filename*=");
    if (star) {
        star += 10;
        const char *tick = strstr(star, "''");
        if (tick && !strncasecmp(star, "utf-8", 5)) {
            tick += 2;
            size_t n = clean(out, tick, strcspn(tick, ";\r\n "), true);
            if (n) return n;
        }
    }
    const char *plain = strcasestr(header, "filename=");
    if (!plain) return 0;
    plain += 9;
    if (*plain == '"') return clean(out, plain + 1, strcspn(plain + 1, "\"\r\n"), false);
    return clean(out, plain, strcspn(plain, ";\r\n "), false);
}

static size_t from_url(char out[MAX_NAME + 1], const char *url) {
    const char *host = strstr(url, "://");
    host = host ? host + 3 : url;
    size_t authority = strcspn(host, "/?#");
    const char *path = host + authority;
    size_t n = strcspn(path, "?#");
    while (n && path[n - 1] == '/') n--;
    n = clean(out, path, n, true);
    return n ? n : clean(out, host, authority, false);
}

static bool has_extension(const char *name) {
    const char *dot = strrchr(name, '.');
    if (!dot || dot == name || strlen(dot) > 6) return false;
    for (const char *p = dot + 1; *p; p++)
        if (!isalnum((unsigned char)*p)) return false;
    return dot[1] != 0;
}

char *fetch_name(const char *disposition, const char *url, const char *content_type) {
    static const struct {
        const char *type, *extension;
    } types[] = {{"text/html", ".html"},   {"application/xhtml", ".html"}, {"application/pdf", ".pdf"},
                 {"text/markdown", ".md"}, {"text/plain", ".txt"},         {"application/json", ".json"},
                 {"text/csv", ".csv"},     {"application/epub", ".epub"},  {"text/xml", ".xml"}};
    char name[MAX_NAME + 8];
    size_t n = disposition ? from_disposition(name, disposition) : 0;
    bool given = n > 0;
    if (!n) n = from_url(name, url);
    if (!n) {
        memcpy(name, "document", 9);
        n = 8;
    }
    const char *slash = strstr(url, "://");
    bool host_only = !given && slash && !slash[3 + strcspn(slash + 3, "/?#")];
    for (size_t i = 0; content_type && i < sizeof types / sizeof *types; i++)
        if (!strncasecmp(content_type, types[i].type, strlen(types[i].type))) {
            bool root = slash && strcspn(slash + 3, "/?#") + 1 >= strlen(slash + 3);
            if (!has_extension(name) || (!given && (host_only || root))) {
                memcpy(name + n, types[i].extension, strlen(types[i].extension) + 1);
            }
            break;
        }
    return strdup(name);
}
