/* http_guard.c - see http_guard.h. */
#include "appliance/http_guard.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <utf8proc.h>

enum { NAME_BYTES = 1000 };

void guard_start(guard *g, const char *listen, uint16_t port) {
    *g = (guard){.names = {"localhost", "127.0.0.1", "[::1]"}, .n_names = 3, .port = port};
    /* Nobody names the wildcard addresses. */
    if (listen && strcmp(listen, "0.0.0.0") && strcmp(listen, "[::]")) g->names[g->n_names++] = listen;
    g->n_own = g->n_names;
}

bool guard_add(guard *g, const char *name) {
    if (g->n_names == GUARD_NAMES) return false;
    g->names[g->n_names++] = name;
    return true;
}

static bool read_port(const char *s, size_t n, uint16_t *port) {
    unsigned v = 0;
    if (n == 0 || n > 5) return false;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9') return false;
        v = v * 10 + (unsigned)(s[i] - '0');
    }
    *port = (uint16_t)v;
    return v > 0 && v <= 65535;
}

bool guard_host(const guard *g, const char *host, size_t len) {
    for (int i = 0; i < g->n_names; i++) {
        size_t n = strlen(g->names[i]);
        if (len < n || strncasecmp(host, g->names[i], n) != 0) continue;
        if (len == n) return true;
        uint16_t port = 0;
        if (host[n] == ':' && read_port(host + n + 1, len - n - 1, &port) &&
            (port == g->port || i >= g->n_own))
            return true;
    }
    return false;
}

bool guard_origin(const char *origin, size_t len, const char *host, size_t host_len) {
    size_t skip = len > 7 && !strncasecmp(origin, "http://", 7)    ? 7
                  : len > 8 && !strncasecmp(origin, "https://", 8) ? 8
                                                                   : 0;
    return skip && len - skip == host_len && !strncasecmp(origin + skip, host, host_len);
}

bool guard_field_name(const char *name, size_t len) {
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && !(c && strchr("!#$%&'*+-.^_`|~", c))) return false;
    }
    return len > 0;
}

bool guard_field_value(const char *value, size_t len) {
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)value[i];
        if ((c < 32 && c != '\t') || c == 127) return false;
    }
    return true;
}

/* One part of a path, between slashes. */
static bool dotted(const char *part, size_t n) {
    return n == 0 || (n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.');
}

bool guard_path(const char *path) {
    if (path[0] != '/') return false;
    for (const char *p = path; *p; p++)
        if (*p == '%' || *p == '\\' || (unsigned char)*p <= 32 || (unsigned char)*p >= 127) return false;
    for (const char *part = path + 1; *part;) {
        size_t n = strcspn(part, "/");
        if (dotted(part, n)) return false;
        part += n;
        if (*part == '/' && part[1] == 0) return false; /* a slash at the end names nothing of ours */
        if (*part == '/') part++;
    }
    return true;
}

bool guard_document_name(const char *name, size_t len, const char **why) {
    *why = NULL;
    if (len == 0)
        *why = "the name is empty";
    else if (len > NAME_BYTES)
        *why = "the name is longer than 1000 bytes";
    else if (memchr(name, 0, len))
        *why = "the name has a NUL byte in it";
    else if (memchr(name, '\\', len))
        *why = "the name has a backslash in it";
    for (size_t i = 0; i < len && !*why;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t n =
            utf8proc_iterate((const utf8proc_uint8_t *)name + i, (utf8proc_ssize_t)(len - i), &c);
        if (n <= 0)
            *why = "the name is not valid UTF-8";
        else if (c < 32 || (c >= 127 && c < 160))
            *why = "the name has a control character in it";
        else
            i += (size_t)n;
    }
    for (size_t i = 0; i <= len && !*why;) {
        const char *slash = memchr(name + i, '/', len - i);
        size_t n = slash ? (size_t)(slash - name) - i : len - i;
        if (dotted(name + i, n)) *why = "the name is a path that is absolute, or has an empty, . or .. part";
        i += n + 1;
    }
    return !*why;
}
