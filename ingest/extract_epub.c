/* extract_epub.c - EPUB: the chapters in the order of the spine, each through the HTML reader. */
#include "ingest/extract.h"
#include "ingest/extract_zip.h"

#include <stdlib.h>
#include <string.h>

#define MAX_ITEMS 65536

typedef struct item {
    char *id, *href; /* owned */
    bool readable;   /* HTML, by its media type */
} item;

typedef struct package {
    zip_parts *z;
    char root[512]; /* the OPF file */
    item *items;
    size_t n_items, capacity;
    char **spine; /* ids, owned */
    size_t n_spine, spine_capacity;
    bool in_title, has_title;
    char title[512];
    size_t n_title;
} package;

static void container_start(void *user, const char *name, const char **attributes) {
    package *p = user;
    const char *path = xml_attribute(attributes, "full-path");
    if (!strcmp(name, "rootfile") && path && !p->root[0])
        zip_parts_resolve(p->root, sizeof p->root, "", path);
}

static void ignore_end(void *user, const char *name) {}

/* Room for one more element; sticks PH_MEMORY. */
static bool grow(package *p, void **list, size_t n, size_t *capacity, size_t size) {
    if (n < *capacity) return true;
    size_t want = *capacity ? *capacity * 2 : 64;
    void *grown = realloc(*list, want * size);
    if (!grown || n >= MAX_ITEMS) {
        if (grown) *list = grown;
        sink_fail(p->z->s, grown ? PH_TOO_LARGE : PH_MEMORY, "too many chapters (%zu)", n);
        return false;
    }
    *list = grown;
    *capacity = want;
    return true;
}

static char *copy(package *p, const char *text) {
    char *s = strdup(text);
    if (!s) sink_fail(p->z->s, PH_MEMORY, "out of memory: %zu bytes of a name", strlen(text));
    return s;
}

static void package_start(void *user, const char *name, const char **attributes) {
    package *p = user;
    if (!strcmp(name, "item")) {
        const char *id = xml_attribute(attributes, "id"), *href = xml_attribute(attributes, "href"),
                   *type = xml_attribute(attributes, "media-type");
        if (!id || !href || !grow(p, (void **)&p->items, p->n_items, &p->capacity, sizeof *p->items)) return;
        item one = {copy(p, id), copy(p, href), !type || strstr(type, "html") != NULL};
        if (one.id && one.href) {
            p->items[p->n_items++] = one;
        } else {
            free(one.id);
            free(one.href);
        }
    } else if (!strcmp(name, "itemref")) {
        const char *id = xml_attribute(attributes, "idref");
        if (!id || !grow(p, (void **)&p->spine, p->n_spine, &p->spine_capacity, sizeof *p->spine)) return;
        char *mine = copy(p, id);
        if (mine) p->spine[p->n_spine++] = mine;
    } else if (!strcmp(name, "title")) {
        p->in_title = !p->has_title;
    }
}

static void package_end(void *user, const char *name) {
    package *p = user;
    if (p->in_title) p->has_title = true;
    p->in_title = false;
}

static void package_text(void *user, const char *text, int n) {
    package *p = user;
    size_t k = (size_t)n;
    if (!p->in_title) return;
    if (k > sizeof p->title - p->n_title) k = sizeof p->title - p->n_title;
    memcpy(p->title + p->n_title, text, k);
    p->n_title += k;
}

static int by_id(const void *a, const void *b) {
    return strcmp(((const item *)a)->id, ((const item *)b)->id);
}

/* What encryption.xml says of a part; fonts are often scrambled, chapters only under DRM. */
static bool is_sealed(const char *encryption, const char *path) {
    return encryption && strstr(encryption, path) != NULL;
}

static void read_chapters(package *p, const char *encryption) {
    text_sink *s = p->z->s;
    flow f = {.s = s};
    if (p->n_items) qsort(p->items, p->n_items, sizeof *p->items, by_id);
    uint32_t missing = 0;
    for (size_t i = 0; i < p->n_spine && !s->error.code; i++) {
        item key = {.id = p->spine[i]};
        const item *found = p->n_items ? bsearch(&key, p->items, p->n_items, sizeof *p->items, by_id) : NULL;
        char path[1024];
        if (!found || !found->readable) continue;
        if (!zip_parts_resolve(path, sizeof path, p->root, found->href) || !zip_parts_has(p->z, path)) {
            missing++;
            continue;
        }
        if (is_sealed(encryption, path)) {
            sink_fail(s, PH_UNSUPPORTED, "encrypted EPUB (DRM): its chapters cannot be read");
            break;
        }
        size_t n;
        uint8_t *bytes = zip_parts_read(p->z, path, &n);
        if (!bytes) break;
        extract_html_into(bytes, n, &f, false);
        free(bytes);
        sink_progress(s, i + 1, p->n_spine);
    }
    if (missing) sink_warn(s, "%u chapters are missing in the file", missing);
}

int extract_epub(zip_parts *z) {
    package p = {.z = z};
    sink_media_type(z->s, "application/epub+zip");
    const xml_events container = {container_start, ignore_end, NULL};
    const xml_events contents = {package_start, package_end, package_text};
    char *encryption = NULL;
    size_t n;
    int rc = zip_parts_xml(z, "META-INF/container.xml", &container, &p);
    if (!rc && !p.root[0]) rc = sink_fail(z->s, PH_CORRUPT, "an EPUB that names no package");
    if (!rc) rc = zip_parts_xml(z, p.root, &contents, &p);
    if (!rc && zip_parts_has(z, "META-INF/encryption.xml"))
        encryption = (char *)zip_parts_read(z, "META-INF/encryption.xml", &n);
    if (!z->s->error.code) {
        sink_title(z->s, p.title, p.n_title);
        read_chapters(&p, encryption);
    }
    free(encryption);
    for (size_t i = 0; i < p.n_items; i++) {
        free(p.items[i].id);
        free(p.items[i].href);
    }
    for (size_t i = 0; i < p.n_spine; i++) free(p.spine[i]);
    free(p.items);
    free(p.spine);
    return z->s->error.code;
}
