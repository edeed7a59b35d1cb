/* zip_parts.c - see zip_parts.h. */
#include "ingest/zip_parts.h"

#include <expat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES 16384
#define MAX_RELATIONS 65536

int zip_parts_open(zip_parts *z, const uint8_t *bytes, size_t n, text_sink *s) {
    memset(z, 0, sizeof *z);
    z->s = s;
    z->size = n;
    /* Office files shrink to a tenth, seldom to a hundredth; a bomb to a thousandth. */
    z->budget = ((uint64_t)64 << 20) + 200 * (uint64_t)n;
    zip_error_t e;
    zip_error_init(&e);
    zip_source_t *source = zip_source_buffer_create(bytes, n, 0, &e);
    if (!source) return sink_fail(s, PH_MEMORY, "out of memory: %zu bytes of a zip file", n);
    z->zip = zip_open_from_source(source, ZIP_RDONLY, &e);
    if (!z->zip) {
        sink_fail(s, zip_error_code_zip(&e) == ZIP_ER_MEMORY ? PH_MEMORY : PH_CORRUPT,
                  "a damaged zip file (%s)", zip_error_strerror(&e));
        zip_source_free(source);
        zip_error_fini(&e);
        return s->error.code;
    }
    zip_error_fini(&e);
    zip_int64_t parts = zip_get_num_entries(z->zip, 0);
    if (parts > ZIP_MAX_PARTS)
        return sink_fail(s, PH_TOO_LARGE, "it has %lld parts, and the limit is %d", (long long)parts,
                         ZIP_MAX_PARTS);
    return 0;
}

void zip_parts_close(zip_parts *z) {
    if (z->zip) zip_discard(z->zip);
    z->zip = NULL;
}

bool zip_parts_has(zip_parts *z, const char *name) {
    return zip_name_locate(z->zip, name, 0) >= 0;
}

static zip_file_t *open_part(zip_parts *z, const char *name) {
    if (z->s->error.code) return NULL;
    zip_stat_t st;
    zip_int64_t i = zip_name_locate(z->zip, name, 0);
    if (i < 0 || zip_stat_index(z->zip, (zip_uint64_t)i, 0, &st) != 0) {
        sink_fail(z->s, PH_CORRUPT, "its part %s is missing", name);
        return NULL;
    }
    if ((st.valid & ZIP_STAT_ENCRYPTION_METHOD) && st.encryption_method != ZIP_EM_NONE) {
        sink_fail(z->s, PH_UNSUPPORTED, "encrypted: its part %s opens only with a password", name);
        return NULL;
    }
    zip_file_t *f = zip_fopen_index(z->zip, (zip_uint64_t)i, 0);
    if (!f) sink_fail(z->s, PH_CORRUPT, "its part %s cannot be read (%s)", name, zip_strerror(z->zip));
    return f;
}

/* Returns the bytes read, 0 at the end or when something failed. */
static size_t read_part(zip_parts *z, zip_file_t *f, const char *name, void *to, size_t n) {
    if (z->s->error.code) return 0;
    zip_int64_t k = zip_fread(f, to, n);
    if (k < 0) {
        sink_fail(z->s, PH_CORRUPT, "its part %s is damaged (%s)", name, zip_file_strerror(f));
        return 0;
    }
    if ((uint64_t)k > z->budget) {
        sink_fail(z->s, PH_TOO_LARGE, "it unpacks to more than 200 times its %llu bytes (a zip bomb?)",
                  (unsigned long long)z->size);
        return 0;
    }
    z->budget -= (uint64_t)k;
    return (size_t)k;
}

uint8_t *zip_parts_read(zip_parts *z, const char *name, size_t *n) {
    *n = 0;
    zip_file_t *f = open_part(z, name);
    if (!f) return NULL;
    uint8_t *bytes = NULL;
    size_t capacity = 0;
    for (;;) {
        if (capacity - *n < PIECE_BYTES + 1) {
            size_t want = capacity ? capacity * 2 : 4 * PIECE_BYTES;
            uint8_t *grown = realloc(bytes, want);
            if (!grown) {
                sink_fail(z->s, PH_MEMORY, "out of memory: %zu bytes of its part %s", want, name);
                break;
            }
            bytes = grown;
            capacity = want;
        }
        size_t k = read_part(z, f, name, bytes + *n, PIECE_BYTES);
        if (!k) break;
        *n += k;
    }
    zip_fclose(f);
    if (z->s->error.code) {
        free(bytes);
        return NULL;
    }
    bytes[*n] = 0;
    return bytes;
}

typedef struct xml_walk {
    XML_Parser parser;
    text_sink *s;
    const char *part;
    const xml_events *events;
    void *user;
    int depth;
} xml_walk;

static const char *local(const char *name) {
    const char *colon = strrchr(name, ':');
    return colon ? colon + 1 : name;
}

static void XMLCALL on_start(void *user, const XML_Char *name, const XML_Char **attributes) {
    xml_walk *w = user;
    if (w->s->error.code) return;
    if (++w->depth > XML_MAX_DEPTH) {
        sink_fail(w->s, PH_CORRUPT, "its part %s nests elements more than %d deep", w->part, XML_MAX_DEPTH);
        XML_StopParser(w->parser, XML_FALSE);
        return;
    }
    w->events->start(w->user, local(name), attributes);
    if (w->s->error.code) XML_StopParser(w->parser, XML_FALSE);
}

static void XMLCALL on_end(void *user, const XML_Char *name) {
    xml_walk *w = user;
    w->depth--;
    if (!w->s->error.code) w->events->end(w->user, local(name));
}

static void XMLCALL on_text(void *user, const XML_Char *text, int n) {
    xml_walk *w = user;
    if (w->events->text && !w->s->error.code) w->events->text(w->user, text, n);
}

static void refuse(xml_walk *w) {
    sink_fail(w->s, PH_CORRUPT, "its part %s declares entities, which no such document needs", w->part);
    XML_StopParser(w->parser, XML_FALSE);
}

static void XMLCALL on_doctype(void *user, const XML_Char *name, const XML_Char *system,
                               const XML_Char *public_id, int has_internal_subset) {
    if (has_internal_subset) refuse(user);
}

static void XMLCALL on_entity(void *user, const XML_Char *name, int is_parameter, const XML_Char *value,
                              int n, const XML_Char *base, const XML_Char *system, const XML_Char *public_id,
                              const XML_Char *notation) {
    refuse(user);
}

int zip_parts_xml(zip_parts *z, const char *name, const xml_events *events, void *user) {
    zip_file_t *f = open_part(z, name);
    if (!f) return z->s->error.code;
    xml_walk w = {.s = z->s, .part = name, .events = events, .user = user};
    w.parser = XML_ParserCreate(NULL);
    if (!w.parser) {
        zip_fclose(f);
        return sink_fail(z->s, PH_MEMORY, "out of memory: an XML parser");
    }
    XML_SetUserData(w.parser, &w);
    XML_SetElementHandler(w.parser, on_start, on_end);
    XML_SetCharacterDataHandler(w.parser, on_text);
    XML_SetStartDoctypeDeclHandler(w.parser, on_doctype);
    XML_SetEntityDeclHandler(w.parser, on_entity);
    for (;;) {
        void *buffer = XML_GetBuffer(w.parser, PIECE_BYTES);
        if (!buffer) {
            sink_fail(z->s, PH_MEMORY, "out of memory while parsing its part %s", name);
            break;
        }
        size_t k = read_part(z, f, name, buffer, PIECE_BYTES);
        if (z->s->error.code) break;
        if (XML_ParseBuffer(w.parser, (int)k, k == 0) != XML_STATUS_OK && !z->s->error.code) {
            enum XML_Error e = XML_GetErrorCode(w.parser);
            sink_fail(z->s, e == XML_ERROR_NO_MEMORY ? PH_MEMORY : PH_CORRUPT,
                      "its part %s is no valid XML (%s in line %lu)", name, XML_ErrorString(e),
                      (unsigned long)XML_GetCurrentLineNumber(w.parser));
        }
        if (k == 0 || z->s->error.code) break;
    }
    XML_ParserFree(w.parser);
    zip_fclose(f);
    return z->s->error.code;
}

const char *xml_attribute(const char **attributes, const char *name) {
    for (; attributes && attributes[0]; attributes += 2) {
        if (!strcmp(attributes[0], name)) return attributes[1];
        if (!strchr(name, ':') && !strcmp(local(attributes[0]), name)) return attributes[1];
    }
    return NULL;
}

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool zip_parts_resolve(char *out, size_t capacity, const char *from, const char *target) {
    char joined[1024];
    size_t n = 0;
    if (target[0] == '/') {
        target++;
    } else {
        const char *slash = strrchr(from, '/');
        n = slash ? (size_t)(slash - from) + 1 : 0;
        if (n >= sizeof joined) return false;
        memcpy(joined, from, n);
    }
    for (const char *p = target; *p && *p != '#' && *p != '?'; p++) {
        if (n + 1 >= sizeof joined) return false;
        int a, b;
        if (*p == '%' && (a = hex(p[1])) >= 0 && (b = hex(p[2])) >= 0 && (a || b)) {
            joined[n++] = (char)(a * 16 + b);
            p += 2;
        } else {
            joined[n++] = *p;
        }
    }
    joined[n] = 0;
    size_t k = 0;
    for (char *p = joined; *p;) {
        size_t part = strcspn(p, "/");
        if (part == 2 && !memcmp(p, "..", 2)) {
            if (k == 0) return false;
            for (k--; k > 0 && out[k - 1] != '/'; k--) {
            }
        } else if (!(part == 0 || (part == 1 && *p == '.'))) {
            if (k + part + 2 > capacity) return false;
            memcpy(out + k, p, part);
            k += part;
            if (p[part]) out[k++] = '/';
        }
        p += part + (p[part] == '/');
    }
    out[k] = 0;
    return k > 0;
}

typedef struct relation_reader {
    zip_parts *z;
    relations *out;
    const char *from;
} relation_reader;

static void relation_start(void *user, const char *name, const char **attributes) {
    relation_reader *r = user;
    if (strcmp(name, "Relationship")) return;
    const char *id = xml_attribute(attributes, "Id"), *type = xml_attribute(attributes, "Type"),
               *target = xml_attribute(attributes, "Target"), *mode = xml_attribute(attributes, "TargetMode");
    if (!id || !type || !target || (mode && !strcmp(mode, "External")) || r->out->n >= MAX_RELATIONS) return;
    if (r->out->n == r->out->capacity) {
        size_t want = r->out->capacity ? r->out->capacity * 2 : 32;
        relation *grown = realloc(r->out->list, want * sizeof *grown);
        if (!grown) {
            sink_fail(r->z->s, PH_MEMORY, "out of memory: %zu relations", want);
            return;
        }
        r->out->list = grown;
        r->out->capacity = want;
    }
    relation *one = &r->out->list[r->out->n];
    const char *last = strrchr(type, '/');
    snprintf(one->id, sizeof one->id, "%s", id);
    snprintf(one->type, sizeof one->type, "%s", last ? last + 1 : type);
    if (zip_parts_resolve(one->target, sizeof one->target, r->from, target)) r->out->n++;
}

static void ignore_end(void *user, const char *name) {}

int zip_parts_relations(zip_parts *z, const char *part, relations *out) {
    memset(out, 0, sizeof *out);
    const char *slash = strrchr(part, '/');
    int folder = slash ? (int)(slash - part) + 1 : 0;
    char name[512];
    snprintf(name, sizeof name, "%.*s_rels/%s.rels", folder, part, part + folder);
    if (!zip_parts_has(z, name)) return 0;
    relation_reader r = {z, out, part};
    const xml_events events = {relation_start, ignore_end, NULL};
    return zip_parts_xml(z, name, &events, &r);
}

const relation *relations_by_id(const relations *r, const char *id) {
    for (size_t i = 0; i < r->n; i++)
        if (!strcmp(r->list[i].id, id)) return &r->list[i];
    return NULL;
}

const relation *relations_by_type(const relations *r, const char *type) {
    for (size_t i = 0; i < r->n; i++)
        if (!strcmp(r->list[i].type, type)) return &r->list[i];
    return NULL;
}
