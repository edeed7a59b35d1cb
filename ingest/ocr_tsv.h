/* ocr_tsv.h - reads what tesseract writes with tessedit_create_tsv: a row for each page, block, paragraph,
 * line and word, in reading order, with boxes in pixels and a confidence for each word. */
#ifndef PHAROS_INGEST_OCR_TSV_H
#define PHAROS_INGEST_OCR_TSV_H

#include "ingest/page_text.h"

typedef struct ocr_tsv_sum {
    uint32_t words;
    double confidence; /* mean of the words' confidences, each weighted with its length: 0 to 100; 0 = no
                          words */
} ocr_tsv_sum;

/* Says the first page of tsv[0..n) as the current page of `to`: tesseract's paragraphs are its blocks (but
 * where one would begin in the midst of running lines), each word has its rectangle, of `points` points a
 * pixel. to: NULL = only the sum is wanted. Rows that are none are passed over: the program has read a
 * foreign picture, and nothing that it writes is trusted. */
void ocr_tsv_say(page_text *to, const char *tsv, size_t n, double points, ocr_tsv_sum *sum);

#endif
