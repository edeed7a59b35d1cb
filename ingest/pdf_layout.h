/* pdf_layout.h - reads what `pdftotext -bbox-layout` prints: pages, blocks, lines, words with rectangles. */
#ifndef PHAROS_INGEST_PDF_LAYOUT_H
#define PHAROS_INGEST_PDF_LAYOUT_H

#include "ingest/page_text.h"

typedef struct pdf_layout {
    text_sink *s;
    uint32_t total;      /* pages to come, for progress; 0 = unknown */
    uint32_t page;       /* the current or last one, from 1 */
    float width, height; /* of the current page, in points */
    bool in_page;
    page_text text;
    uint64_t before; /* bytes of text said before this page */
    /* Called at the end of a page that said so many bytes; it may say more of it. May be NULL. */
    void (*page_end)(void *user, page_text *to, uint64_t said, float width, float height);
    void *user;
    char *input; /* the end of the output so far, less than a line */
    size_t n_input, input_capacity;
    uint8_t *empty; /* a bit for each page without text */
} pdf_layout;

int pdf_layout_open(pdf_layout *p, text_sink *s, uint32_t total);
/* Returns the sink's code. */
int pdf_layout_feed(pdf_layout *p, const char *bytes, size_t n);
int pdf_layout_finish(pdf_layout *p);
void pdf_layout_free(pdf_layout *p);
bool pdf_layout_is_empty(const pdf_layout *p, uint32_t page);

#endif
