/* zip_parts.h - the parts of a zip file, and XML in them, without trusting either.
 *
 * Nothing is ever written to disk and names are only compared, so a part called ../../x is a part that nobody
 * asks for. What is unpacked is counted while it is read, whatever the directory claims.
 */
#ifndef PHAROS_INGEST_ZIP_PARTS_H
#define PHAROS_INGEST_ZIP_PARTS_H

#include "ingest/sink.h"

#include <zip.h>

#define ZIP_MAX_PARTS 65536
#define XML_MAX_DEPTH 512

typedef struct zip_parts {
    text_sink *s;
    zip_t *zip;
    uint64_t budget; /* bytes that may still be unpacked */
    uint64_t size;   /* of the file */
} zip_parts;

/* Element and attribute names come without their namespace prefix ("w:p" is "p"), but attributes keep it
 * ("r:id"). Text may come in pieces. */
typedef struct xml_events {
    void (*start)(void *user, const char *name, const char **attributes);
    void (*end)(void *user, const char *name);
    void (*text)(void *user, const char *text, int n);
} xml_events;

int zip_parts_open(zip_parts *z, const uint8_t *bytes, size_t n, text_sink *s);
void zip_parts_close(zip_parts *z);
bool zip_parts_has(zip_parts *z, const char *name);

/* The whole of a part (owned; NUL-terminated behind n). A part that is missing sticks PH_CORRUPT. */
uint8_t *zip_parts_read(zip_parts *z, const char *name, size_t *n);

/* Streams a part through expat. Document type declarations with content of their own, entities and deep
 * nesting are refused. Returns the sink's code. */
int zip_parts_xml(zip_parts *z, const char *name, const xml_events *events, void *user);

/* attributes of an element: the value of `name` (with or without prefix), or NULL. */
const char *xml_attribute(const char **attributes, const char *name);

/* "a/b/c.xml" and "../d.xml" give "a/d.xml"; an absolute target stands for itself; %41 is decoded; a fragment
 * is cut off. False when it does not fit or leaves the file. */
bool zip_parts_resolve(char *out, size_t capacity, const char *from, const char *target);

/* One relationship of an OPC package (Office). */
typedef struct relation {
    char id[64];
    char type[64]; /* the last part of the type's address: "officeDocument" */
    char target[256];
} relation;

typedef struct relations {
    relation *list; /* owned */
    size_t n, capacity;
} relations;

/* The relations of a part ("" = of the package). A part without any has none. */
int zip_parts_relations(zip_parts *z, const char *part, relations *out);
const relation *relations_by_id(const relations *r, const char *id);
const relation *relations_by_type(const relations *r, const char *type);

#endif
