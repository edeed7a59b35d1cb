/* http_guard.h - which requests may come in at all: the names this server answers to, and where a page that
 * asks may come from. Pure functions of strings; http.c calls them with what the client sent.
 *
 * A server on loopback is reachable by every page that a browser opens. Host keeps out a foreign name that
 * was made to resolve here (DNS rebinding), Origin and Sec-Fetch-Site keep out foreign pages.
 */
#ifndef PHAROS_HTTP_GUARD_H
#define PHAROS_HTTP_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GUARD_NAMES = 16 };

typedef struct guard {
    const char *names[GUARD_NAMES]; /* without port; IPv6 in brackets; borrowed */
    int n_names, n_own;             /* the first n_own are our addresses; the others were added by hand */
    uint16_t port;
} guard;

/* The names of loopback, and `listen` (an address; NULL = none besides). */
void guard_start(guard *g, const char *listen, uint16_t port);
bool guard_add(guard *g, const char *name); /* false: too many */

/* "name" or "name:port" is one of ours. A name without a port is the default port's, 80: accepted, because a
 * reader in front (ssh, a proxy) may show another port than ours; the port, where it is given, must be ours
 * too, or any when the name was added by hand. */
bool guard_host(const guard *g, const char *host, size_t len);

/* The origin is http(s)://HOST with the very Host of the request. "null" never is. */
bool guard_origin(const char *origin, size_t len, const char *host, size_t host_len);

/* A field name of letters, digits and the few signs that RFC 9110 allows: anything else (a space before the
 * colon, a control character) is how requests are smuggled. */
bool guard_field_name(const char *name, size_t len);
/* No control characters but tab. */
bool guard_field_value(const char *value, size_t len);

/* A path without escapes, empty or dotted parts, backslashes or control characters: no route has any. */
bool guard_path(const char *path);

/* A document's name from outside: valid UTF-8, relative, no part "." or "..", no control characters. *why is
 * a sentence when it is none. */
bool guard_document_name(const char *name, size_t len, const char **why);

#endif
