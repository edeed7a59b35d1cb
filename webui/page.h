/* page.h - the files of the page, as they stand in the program. Made by embed.cmake out of webui/dist. */
#ifndef PHAROS_PAGE_H
#define PHAROS_PAGE_H

#include <stdbool.h>
#include <stddef.h>

typedef struct page_file {
    const char *path; /* of the URL: "/", "/favicon.svg", "/assets/index-1a2b3c.js" */
    const char *type; /* Content-Type */
    const char *etag; /* quoted */
    bool immutable;   /* its name changes with its content: may be kept for good */
    const void *bytes;
    size_t len;
} page_file;

/* Ends with a NULL path; nothing before it when the page is not in this build. */
extern const page_file page_files[];

#endif
