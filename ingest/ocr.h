/* ocr.h - pages that are pictures, read by tesseract inside the child's sandbox.
 *
 * A page of a PDF is drawn in grey by pdftoppm, whose output tesseract reads through a pipe: this process
 * never looks at a picture. Each page has programs of its own, with their own memory and time, so that one
 * that is too slow or crashes them is named and the others stay. What is found goes into the document in its
 * place, with a rectangle a word. */
#ifndef PHAROS_INGEST_OCR_H
#define PHAROS_INGEST_OCR_H

#include "ingest/page_text.h"
#include "ingest/sandbox.h"

#define OCR_DPI 300 /* what tesseract's models were made for; larger sheets are drawn with fewer */

typedef struct ocr_settings {
    char languages[INGEST_OCR_LANGUAGE_BYTES]; /* "eng+deu"; empty = no OCR */
    uint32_t pages, page_seconds, seconds;     /* as in ingest_limits, never 0 */
} ocr_settings;

/* As one argument of the child's, and back; false: it is none. */
void ocr_settings_write(char out[128], const ocr_settings *o);
bool ocr_settings_read(ocr_settings *o, const char *text);

typedef struct page_list {
    char text[80]; /* "3,7-9 and 12 more" */
    uint32_t n, first, last, unnamed;
} page_list;

typedef struct ocr_reader {
    const ocr_settings *settings; /* borrowed */
    int file;                     /* the PDF or picture */
    sandbox_limits limits;        /* a page's */
    text_sink *s;
    double started;                 /* seconds of a steady clock */
    char broken[200];               /* why no page can be read; empty = nothing is wrong */
    uint32_t tried, read;           /* pages */
    double confidence;              /* sum over pages that were read */
    page_list unsure, failed, left; /* of low confidence; not read; not tried */
    char why[160];                  /* the first of `failed` was not read */
    char *tsv;                      /* of one page */
    size_t n_tsv, tsv_capacity;
} ocr_reader;

/* Looks whether the programs and languages are there. */
void ocr_open(ocr_reader *r, const ocr_settings *settings, int file, const sandbox_limits *limits,
              text_sink *s);
/* Reads to->page of the PDF, `width` by `height` points. Fewer than `least` words are not said. */
void ocr_pdf_page(ocr_reader *r, page_text *to, float width, float height, uint32_t least);
/* Reads a picture file, or its page to->page of `pages`. A pixel is a point. */
void ocr_picture(ocr_reader *r, page_text *to, uint32_t pages);
/* Says in the document's warning what was read how, and frees. */
void ocr_close(ocr_reader *r);

#endif
