/* http_static.h - the files linked into the program: openapi.json, and what serve_embed.cmake found in
 * webui/dist. */
#ifndef PHAROS_HTTP_STATIC_H
#define PHAROS_HTTP_STATIC_H

#include <stdbool.h>

typedef struct static_file {
    const char *path, *type; /* of the URL; the page itself is "/" */
    const char *etag;        /* quoted, of the content */
    bool text;               /* UTF-8, which its type does not say */
    bool immutable;          /* its name changes with its content */
    const char *bytes, *end;
} static_file;

extern const static_file static_files[]; /* ends with a NULL path */

#endif
