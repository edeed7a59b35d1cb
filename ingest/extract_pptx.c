/* extract_pptx.c - PowerPoint: slides as pages, paragraphs, tables as rows, then the speaker's notes. */
#include "ingest/extract_zip.h"

#include <stdlib.h>
#include <string.h>

typedef struct pptx {
    zip_parts *z;
    flow f;
    relations slides;
    char (*order)[64]; /* ids of the slides, owned */
    size_t n_order, capacity;
    bool in_text, notes, field;
    bool skip_shape; /* a notes page repeats the slide's number and picture */
    int cells;
    bool row_has_cell;
} pptx;

static void order_start(void *user, const char *name, const char **attributes) {
    pptx *p = user;
    if (strcmp(name, "sldId") || p->n_order >= SINK_MAX_PAGES) return;
    const char *id = NULL;
    for (const char **a = attributes; a && a[0]; a += 2) {
        size_t n = strlen(a[0]);
        if (n > 3 && !strcmp(a[0] + n - 3, ":id")) id = a[1];
    }
    if (!id || strlen(id) >= 64) return;
    if (p->n_order == p->capacity) {
        size_t want = p->capacity ? p->capacity * 2 : 64;
        void *grown = realloc(p->order, want * sizeof *p->order);
        if (!grown) {
            sink_fail(p->z->s, PH_MEMORY, "out of memory: %zu slides", want);
            return;
        }
        p->order = grown;
        p->capacity = want;
    }
    memcpy(p->order[p->n_order++], id, strlen(id) + 1);
}

static void ignore_end(void *user, const char *name) {}

static void slide_start(void *user, const char *name, const char **attributes) {
    pptx *p = user;
    if (!strcmp(name, "sp")) {
        p->skip_shape = false;
    } else if (!strcmp(name, "ph") && p->notes) {
        const char *type = xml_attribute(attributes, "type");
        p->skip_shape = !type || strcmp(type, "body");
    } else if (!strcmp(name, "p")) {
        if (p->cells)
            p->f.space = p->f.open;
        else
            flow_break(&p->f, "\n");
    } else if (!strcmp(name, "t")) {
        p->in_text = !p->skip_shape;
    } else if (!strcmp(name, "br")) {
        if (p->cells)
            p->f.space = p->f.open;
        else
            flow_line(&p->f);
    } else if (!strcmp(name, "tr")) {
        flow_break(&p->f, "\n");
        p->row_has_cell = false;
    } else if (!strcmp(name, "tc")) {
        p->cells++;
        if (p->row_has_cell) flow_cell(&p->f);
        p->row_has_cell = true;
    }
}

static void slide_end(void *user, const char *name) {
    pptx *p = user;
    if (!strcmp(name, "t")) {
        p->in_text = false;
    } else if (!strcmp(name, "p")) {
        if (p->cells)
            p->f.space = p->f.open;
        else
            flow_break(&p->f, "\n");
    } else if (!strcmp(name, "tc")) {
        if (p->cells) p->cells--;
    } else if (!strcmp(name, "tr")) {
        flow_break(&p->f, "\n");
    } else if (!strcmp(name, "sp") || !strcmp(name, "tbl")) {
        flow_break(&p->f, "\n\n");
        p->skip_shape = false;
    }
}

static void slide_text(void *user, const char *text, int n) {
    pptx *p = user;
    if (!p->in_text) return;
    if (p->cells)
        flow_words(&p->f, text, (size_t)n);
    else
        flow_raw(&p->f, text, (size_t)n);
}

static void read_slide(pptx *p, const char *part, bool notes) {
    const xml_events events = {slide_start, slide_end, slide_text};
    p->notes = notes;
    p->in_text = p->skip_shape = p->row_has_cell = false;
    p->cells = 0;
    flow_break(&p->f, "\n\n");
    if (notes) p->f.prefix = "Notes: ";
    zip_parts_xml(p->z, part, &events, p);
    p->f.prefix = NULL;
    flow_break(&p->f, "\n\n");
}

static void read_slides(pptx *p) {
    for (size_t i = 0; i < p->n_order && !p->z->s->error.code; i++) {
        const relation *slide = relations_by_id(&p->slides, p->order[i]);
        if (!slide || !zip_parts_has(p->z, slide->target)) continue;
        p->f.page = (uint32_t)i + 1;
        read_slide(p, slide->target, false);
        relations r;
        if (zip_parts_relations(p->z, slide->target, &r) == 0) {
            const relation *notes = relations_by_type(&r, "notesSlide");
            if (notes && zip_parts_has(p->z, notes->target)) read_slide(p, notes->target, true);
        }
        free(r.list);
        sink_progress(p->z->s, i + 1, p->n_order);
    }
}

int extract_pptx(zip_parts *z, const char *main) {
    pptx p = {.z = z, .f = {.s = z->s}};
    sink_media_type(z->s, "application/vnd.openxmlformats-officedocument.presentationml.presentation");
    extract_core_title(z, "docProps/core.xml");
    const xml_events order = {order_start, ignore_end, NULL};
    if (zip_parts_relations(z, main, &p.slides) == 0 && zip_parts_xml(z, main, &order, &p) == 0) {
        read_slides(&p);
        sink_pages(z->s, (uint32_t)p.n_order);
    }
    free(p.slides.list);
    free(p.order);
    return z->s->error.code;
}
