/* extract_docx.c - Word: paragraphs, tables as rows, notes, headers and footers. What is deleted under
 * revision, hidden, or a fallback for old programs is not said. */
#include "ingest/docx_numbering.h"
#include "ingest/extract_zip.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ONCE 64 /* headers and footers remembered, so that each text is said once */

typedef struct docx {
    zip_parts *z;
    flow f;
    int depth;
    int skip_depth; /* of the element whose content is not said; 0 = none */
    int paragraphs; /* open ones: a text box is a paragraph within one */
    int cells, tables;
    bool row_has_cell;
    bool in_text; /* inside <w:t> */
    bool hidden;  /* the run is */
    docx_numbering numbering;
    char style[48];     /* of the paragraph */
    long number, level; /* its own numPr; -1 = none */
    bool labelled;      /* its label was counted */
    char label[DOCX_LABEL_BYTES + 2];
    const char *note; /* "^" for footnotes, "^e" for endnotes, while their part is read */
    char mark[40];
    uint64_t once[MAX_ONCE];
    size_t n_once;
} docx;

static bool off(const char **attributes) {
    const char *v = xml_attribute(attributes, "val");
    return v && (!strcmp(v, "0") || !strcmp(v, "false") || !strcmp(v, "off") || !strcmp(v, "none"));
}

static long number_value(const char **attributes) {
    const char *v = xml_attribute(attributes, "val");
    long x = v ? strtol(v, NULL, 10) : -1;
    return x >= 0 && x < 1000000 ? x : -1;
}

static bool is(const char *name, const char *const *list) {
    for (; *list; list++)
        if (!strcmp(name, *list)) return true;
    return false;
}

/* Counts the paragraph; its label, if any, is said before its first words. */
static void count_paragraph(docx *d, bool say_it) {
    if (d->labelled) return;
    d->labelled = true;
    docx_numbering_next(&d->numbering, d->style, d->number, d->level, d->label);
    if (!d->label[0] || !say_it || d->f.prefix) return;
    if (d->cells) {
        flow_words(&d->f, d->label, strlen(d->label));
        d->f.space = true;
    } else if (!d->f.open) {
        size_t n = strlen(d->label);
        memcpy(d->label + n, " ", 2);
        d->f.prefix = d->label;
    }
}

static void say(docx *d, const char *text, size_t n) {
    if (d->hidden) return;
    count_paragraph(d, true);
    if (d->cells)
        flow_words(&d->f, text, n);
    else
        flow_raw(&d->f, text, n);
}

static void reference(docx *d, const char **attributes, const char *kind) {
    const char *id = xml_attribute(attributes, "id");
    char text[48];
    if (!id || strlen(id) > 12) return;
    snprintf(text, sizeof text, "[%s%s]", kind, id);
    say(d, text, strlen(text));
}

static void start_paragraph(docx *d) {
    if (d->cells)
        d->f.space = d->f.open;
    else
        flow_break(&d->f, "\n\n");
    d->paragraphs++;
    d->style[0] = 0;
    d->number = d->level = -1;
    d->labelled = false;
}

static void docx_start(void *user, const char *name, const char **attributes) {
    docx *d = user;
    d->depth++;
    if (d->skip_depth) return;
    /* delText and instrText are no <t>; moveFrom holds the old place of what moveTo says again. */
    static const char *const skipped[] = {"del",       "moveFrom",      "Fallback", "pPrChange",
                                          "rPrChange", "sectPr",        "tblPr",    "tabs",
                                          "object",    "annotationRef", NULL};
    if (is(name, skipped)) {
        d->skip_depth = d->depth;
    } else if (!strcmp(name, "p")) {
        start_paragraph(d);
    } else if (!strcmp(name, "r")) {
        d->hidden = false;
    } else if (!strcmp(name, "vanish") || !strcmp(name, "webHidden")) {
        d->hidden = !off(attributes);
    } else if (!strcmp(name, "t")) {
        d->in_text = true;
    } else if (!strcmp(name, "tab") || !strcmp(name, "ptab")) {
        say(d, "\t", 1);
    } else if (!strcmp(name, "br") || !strcmp(name, "cr")) {
        if (d->cells)
            d->f.space = d->f.open;
        else
            flow_line(&d->f);
    } else if (!strcmp(name, "noBreakHyphen")) {
        say(d, "-", 1);
    } else if (!strcmp(name, "numId")) {
        d->number = number_value(attributes);
    } else if (!strcmp(name, "ilvl")) {
        d->level = number_value(attributes);
    } else if (!strcmp(name, "pStyle")) {
        const char *v = xml_attribute(attributes, "val");
        snprintf(d->style, sizeof d->style, "%s", v ? v : "");
    } else if (!strcmp(name, "footnoteReference")) {
        reference(d, attributes, "^");
    } else if (!strcmp(name, "endnoteReference")) {
        reference(d, attributes, "^e");
    } else if (!strcmp(name, "tbl")) {
        flow_break(&d->f, "\n\n");
        d->tables++;
        d->row_has_cell = false;
    } else if (!strcmp(name, "tr")) {
        flow_break(&d->f, "\n");
        d->row_has_cell = false;
    } else if (!strcmp(name, "tc")) {
        d->cells++;
        if (d->row_has_cell) flow_cell(&d->f);
        d->row_has_cell = true;
    } else if (d->note && (!strcmp(name, "footnote") || !strcmp(name, "endnote"))) {
        const char *type = xml_attribute(attributes, "type"), *id = xml_attribute(attributes, "id");
        if (type && strcmp(type, "normal")) { /* the line above the notes */
            d->skip_depth = d->depth;
            return;
        }
        flow_break(&d->f, "\n\n");
        snprintf(d->mark, sizeof d->mark, "[%s%.12s]: ", d->note, id ? id : "?");
        d->f.prefix = d->mark;
    }
}

static void docx_end(void *user, const char *name) {
    docx *d = user;
    d->depth--;
    if (d->skip_depth) {
        if (d->depth < d->skip_depth) d->skip_depth = 0;
        return;
    }
    if (!strcmp(name, "t")) {
        d->in_text = false;
    } else if (!strcmp(name, "p")) {
        if (d->paragraphs) d->paragraphs--;
        count_paragraph(d, false);
        if (d->cells)
            d->f.space = d->f.open;
        else
            flow_break(&d->f, "\n\n");
    } else if (!strcmp(name, "r")) {
        d->hidden = false;
    } else if (!strcmp(name, "tc")) {
        if (d->cells) d->cells--;
    } else if (!strcmp(name, "tr")) {
        flow_break(&d->f, "\n");
        d->row_has_cell = d->cells > 0;
    } else if (!strcmp(name, "tbl")) {
        if (d->tables) d->tables--;
        flow_break(&d->f, "\n\n");
    }
}

static void docx_text(void *user, const char *text, int n) {
    docx *d = user;
    if (d->in_text && !d->skip_depth) say(d, text, (size_t)n);
}

/* The words of a header or footer on one line. */
typedef struct one_line {
    char text[2048];
    size_t n;
    bool in_text;
} one_line;

static void line_start(void *user, const char *name, const char **attributes) {
    one_line *l = user;
    l->in_text = !strcmp(name, "t");
}

static void line_end(void *user, const char *name) {
    one_line *l = user;
    l->in_text = false;
    if ((!strcmp(name, "p") || !strcmp(name, "tab")) && l->n && l->n < sizeof l->text) l->text[l->n++] = ' ';
}

static void line_text(void *user, const char *text, int n) {
    one_line *l = user;
    if (!l->in_text || l->n + (size_t)n > sizeof l->text) return;
    memcpy(l->text + l->n, text, (size_t)n);
    l->n += (size_t)n;
}

static void say_once(docx *d, const char *part) {
    one_line l = {.n = 0};
    const xml_events events = {line_start, line_end, line_text};
    if (!zip_parts_has(d->z, part) || zip_parts_xml(d->z, part, &events, &l) != 0) return;
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < l.n; i++) hash = (hash ^ (uint8_t)l.text[i]) * 1099511628211u;
    for (size_t i = 0; i < d->n_once; i++)
        if (d->once[i] == hash) return;
    if (d->n_once < MAX_ONCE) d->once[d->n_once++] = hash;
    flow_break(&d->f, "\n\n");
    flow_words(&d->f, l.text, l.n);
    flow_break(&d->f, "\n\n");
}

static void say_all(docx *d, const relations *r, const char *type) {
    for (size_t i = 0; i < r->n; i++)
        if (!strcmp(r->list[i].type, type)) say_once(d, r->list[i].target);
}

static void say_part(docx *d, const char *part, const char *note) {
    const xml_events events = {docx_start, docx_end, docx_text};
    d->note = note;
    d->depth = d->skip_depth = d->paragraphs = d->cells = d->tables = 0;
    d->in_text = d->hidden = d->row_has_cell = false;
    d->labelled = true; /* no paragraph is open */
    zip_parts_xml(d->z, part, &events, d);
    flow_break(&d->f, "\n\n");
    d->f.prefix = NULL;
}

int extract_docx(zip_parts *z, const char *main) {
    docx d = {.z = z, .f = {.s = z->s}};
    sink_media_type(z->s, "application/vnd.openxmlformats-officedocument.wordprocessingml.document");
    extract_core_title(z, "docProps/core.xml");
    relations r;
    if (zip_parts_relations(z, main, &r) == 0 && docx_numbering_load(&d.numbering, z, &r) == 0) {
        say_all(&d, &r, "header");
        say_part(&d, main, NULL);
        const relation *notes = relations_by_type(&r, "footnotes");
        if (notes) say_part(&d, notes->target, "^");
        notes = relations_by_type(&r, "endnotes");
        if (notes) say_part(&d, notes->target, "^e");
        say_all(&d, &r, "footer");
    }
    docx_numbering_free(&d.numbering);
    free(r.list);
    return z->s->error.code;
}
