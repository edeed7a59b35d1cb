/* extract_odf.c - OpenDocument text, spreadsheet and presentation. */
#include "ingest/extract_zip.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_REPEAT 64 /* equal cells in a row: beyond, they are filling */
#define MAX_LISTS 32

typedef struct odf {
    zip_parts *z;
    flow f;
    int depth, skip_depth;
    int paragraphs;
    int cells;
    bool row_has_cell;
    bool in_citation;
    char citation[32];
    size_t n_citation;
    bool spreadsheet;
    int lists;
    bool item;
    uint32_t slides;
    char *notes; /* footnotes of the paragraph being read, one a line; owned */
    size_t n_notes, notes_capacity;
    int note_depth;
} odf;

static void say(odf *o, const char *text, size_t n, bool words) {
    if (o->note_depth) { /* a note's text waits for the end of its paragraph */
        if (o->n_notes + n > o->notes_capacity) {
            size_t want = (o->n_notes + n) * 2 + 256;
            char *grown = realloc(o->notes, want);
            if (!grown) {
                sink_fail(o->z->s, PH_MEMORY, "out of memory: %zu bytes of notes", want);
                return;
            }
            o->notes = grown;
            o->notes_capacity = want;
        }
        memcpy(o->notes + o->n_notes, text, n);
        o->n_notes += n;
        return;
    }
    if (o->cells) {
        words = true;
    } else if (o->item && !o->f.open) {
        o->f.prefix = "- ";
        o->item = false;
    }
    if (words)
        flow_words(&o->f, text, n);
    else
        flow_raw(&o->f, text, n);
}

static void say_notes(odf *o) {
    for (size_t at = 0; at < o->n_notes;) {
        const char *end = memchr(o->notes + at, '\n', o->n_notes - at);
        size_t n = end ? (size_t)(end - o->notes) - at : o->n_notes - at;
        flow_break(&o->f, "\n\n");
        flow_words(&o->f, o->notes + at, n);
        at += n + 1;
    }
    o->n_notes = 0;
}

static int repeat_of(const char **attributes) {
    const char *v = xml_attribute(attributes, "number-columns-repeated");
    long n = v ? strtol(v, NULL, 10) : 1;
    return n < 1 ? 1 : n > MAX_REPEAT ? MAX_REPEAT : (int)n;
}

static void odf_start(void *user, const char *name, const char **attributes) {
    odf *o = user;
    o->depth++;
    if (o->skip_depth) return;
    static const char *const skipped[] = {
        "tracked-changes", "annotation", "sequence-decls", "automatic-styles", "font-face-decls",
        "scripts",         "forms",      "binary-data",    "settings"};
    for (size_t i = 0; i < sizeof skipped / sizeof *skipped; i++)
        if (!strcmp(name, skipped[i])) {
            o->skip_depth = o->depth;
            return;
        }
    if (!strcmp(name, "p") || !strcmp(name, "h")) {
        if (o->note_depth) return;
        if (o->cells)
            o->f.space = o->f.open;
        else
            flow_break(&o->f, o->lists ? "\n" : "\n\n");
        o->paragraphs++;
    } else if (!strcmp(name, "s")) {
        const char *c = xml_attribute(attributes, "c");
        long n = c ? strtol(c, NULL, 10) : 1;
        for (long i = 0; i < n && i < 100; i++) say(o, " ", 1, false);
    } else if (!strcmp(name, "tab")) {
        say(o, "\t", 1, false);
    } else if (!strcmp(name, "line-break")) {
        if (o->cells || o->note_depth)
            say(o, " ", 1, true);
        else
            flow_line(&o->f);
    } else if (!strcmp(name, "note-body")) {
        char mark[48];
        int n = snprintf(mark, sizeof mark, "[^%.*s]", (int)o->n_citation, o->citation);
        say(o, mark, (size_t)n, false);
        o->note_depth = o->depth;
        say(o, mark, (size_t)n, false);
        say(o, ": ", 2, false);
    } else if (!strcmp(name, "note-citation")) {
        o->in_citation = true;
        o->n_citation = 0;
    } else if (!strcmp(name, "list")) {
        if (!o->lists && !o->cells) flow_break(&o->f, "\n\n");
        o->lists++;
    } else if (!strcmp(name, "list-item")) {
        o->item = true;
    } else if (!strcmp(name, "table")) {
        flow_break(&o->f, "\n\n");
        const char *sheet = xml_attribute(attributes, "name");
        if (o->spreadsheet && sheet && !o->cells) {
            o->f.page++;
            flow_words(&o->f, sheet, strlen(sheet));
            flow_break(&o->f, "\n");
        }
    } else if (!strcmp(name, "table-row")) {
        if (!o->cells) {
            flow_break(&o->f, "\n");
            o->row_has_cell = false;
        }
    } else if (!strcmp(name, "table-cell") || !strcmp(name, "covered-table-cell")) {
        if (o->cells == 0) {
            for (int i = o->row_has_cell ? 0 : 1; i < repeat_of(attributes); i++) flow_cell(&o->f);
            o->row_has_cell = true;
        }
        o->cells++;
    } else if (!strcmp(name, "page")) {
        flow_break(&o->f, "\n\n");
        if (o->slides < SINK_MAX_PAGES) o->slides++;
        o->f.page = o->slides;
    }
}

static void odf_end(void *user, const char *name) {
    odf *o = user;
    int was = o->depth--;
    if (o->skip_depth) {
        if (o->depth < o->skip_depth) o->skip_depth = 0;
        return;
    }
    if (!strcmp(name, "note-citation")) {
        o->in_citation = false;
    } else if (!strcmp(name, "note-body") && o->note_depth == was) {
        say(o, "\n", 1, false);
        o->note_depth = 0;
    } else if (!strcmp(name, "p") || !strcmp(name, "h")) {
        if (o->note_depth) {
            say(o, " ", 1, false);
            return;
        }
        if (o->paragraphs) o->paragraphs--;
        if (o->cells) {
            o->f.space = o->f.open;
        } else {
            flow_break(&o->f, o->lists ? "\n" : "\n\n");
            say_notes(o);
        }
    } else if (!strcmp(name, "list")) {
        if (o->lists) o->lists--;
        if (!o->cells) flow_break(&o->f, o->lists ? "\n" : "\n\n");
        o->item = false;
    } else if (!strcmp(name, "table-cell") || !strcmp(name, "covered-table-cell")) {
        if (o->cells) o->cells--;
    } else if (!strcmp(name, "table-row")) {
        if (!o->cells) {
            flow_break(&o->f, "\n");
            say_notes(o);
        }
    } else if (!strcmp(name, "table") || !strcmp(name, "page")) {
        flow_break(&o->f, "\n\n");
    }
}

static void odf_text(void *user, const char *text, int n) {
    odf *o = user;
    if (o->in_citation) { /* the note's number, said when its text is known to follow */
        size_t k = (size_t)n;
        if (k > sizeof o->citation - o->n_citation) k = sizeof o->citation - o->n_citation;
        memcpy(o->citation + o->n_citation, text, k);
        o->n_citation += k;
        return;
    }
    if (o->skip_depth || (!o->paragraphs && !o->note_depth)) return;
    say(o, text, (size_t)n, true);
}

int extract_odf(zip_parts *z) {
    odf o = {.z = z, .f = {.s = z->s}};
    char type[128] = "application/vnd.oasis.opendocument.text";
    if (zip_parts_has(z, "mimetype")) {
        size_t n;
        uint8_t *mime = zip_parts_read(z, "mimetype", &n);
        if (!mime) return z->s->error.code;
        if (n && n < sizeof type && !strncmp((char *)mime, "application/", 12))
            snprintf(type, sizeof type, "%s", mime);
        free(mime);
    }
    sink_media_type(z->s, type);
    if (zip_parts_has(z, "META-INF/manifest.xml")) {
        size_t n;
        uint8_t *manifest = zip_parts_read(z, "META-INF/manifest.xml", &n);
        if (!manifest) return z->s->error.code;
        bool sealed = memmem(manifest, n, "encryption-data", 15) != NULL;
        free(manifest);
        if (sealed)
            return sink_fail(z->s, PH_UNSUPPORTED,
                             "encrypted OpenDocument file: it opens only with a password");
    }
    extract_core_title(z, "meta.xml");
    o.spreadsheet = strstr(type, "spreadsheet") != NULL;
    const xml_events events = {odf_start, odf_end, odf_text};
    zip_parts_xml(z, "content.xml", &events, &o);
    flow_break(&o.f, "\n\n");
    sink_pages(z->s, o.f.page);
    free(o.notes);
    return z->s->error.code;
}
