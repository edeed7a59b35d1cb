/* pdf_layout.h - reads what `pdftotext -bbox-layout` prints: pages, blocks, lines, words with rectangles. */
#ifndef PHAROS_INGEST_PDF_LAYOUT_H
#define PHAROS_INGEST_PDF_LAYOUT_H

#include "ingest/flow.h"

typedef struct pdf_line {
    char *text; /* words with one space between */
    size_t n, capacity;
    page_rect box;
    float first_word; /* its width */
    bool any;
} pdf_line;

typedef struct pdf_layout {
    text_sink *s;
    uint32_t total; /* pages to come, for progress; 0 = unknown */
    uint32_t page;  /* the current or last one, from 1 */
    bool in_page, page_has_text;
    bool said; /* some text was said */
    page_rect block;
    bool block_said;     /* a line of this block was said */
    pdf_line line, last; /* the one being read, and the one before in the same block, not said yet */
    char *input;         /* the end of the output so far, less than a line */
    size_t n_input, input_capacity;
    uint8_t *empty; /* a bit for each page without text */
    bool failed;
} pdf_layout;

int pdf_layout_open(pdf_layout *p, text_sink *s, uint32_t total);
/* Returns the sink's code. */
int pdf_layout_feed(pdf_layout *p, const char *bytes, size_t n);
int pdf_layout_finish(pdf_layout *p);
void pdf_layout_free(pdf_layout *p);
bool pdf_layout_is_empty(const pdf_layout *p, uint32_t page);

#endif
