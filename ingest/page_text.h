/* page_text.h - lines and words with their places, of a page that is laid out, into paragraphs of a sink.
 *
 * One segment a line. Lines of one block are joined by a space when the next line's first word would not have
 * fitted behind them (the writer's line was full), otherwise by \n: that keeps lists, addresses and code
 * apart without knowing what they are. Blocks are a blank line apart. Failures stick to the sink. */
#ifndef PHAROS_INGEST_PAGE_TEXT_H
#define PHAROS_INGEST_PAGE_TEXT_H

#include "ingest/sink.h"

#define PAGE_LINE_WORDS 2048 /* words of a line beyond these have no rectangle of their own */

typedef struct text_line {
    char *text; /* words with one space between */
    size_t n, capacity;
    page_rect box;
    float first_word; /* its width */
    page_rect *
        words; /* one each, where words have rectangles of their own; else n_words is 0 and the box is said */
    size_t n_words, words_capacity;
    bool any;
} text_line;

typedef struct page_text {
    text_sink *s; /* borrowed */
    uint32_t page;
    bool page_has_text; /* since page_text_page */
    bool said;          /* some text was said */
    page_rect block;
    bool block_said;      /* a line of this block was said */
    text_line line, last; /* the one being read, and the one before in the same block, not said yet */
} page_text;

void page_text_open(page_text *p, text_sink *s);
void page_text_close(page_text *p); /* frees; says nothing */

void page_text_page(page_text *p, uint32_t page); /* ascending, from 1 */
void page_text_block(page_text *p, page_rect box);
void page_text_line(page_text *p, page_rect box);
/* A word begins; its text follows in any number of pieces. own: the segment gets this rectangle instead of
 * the line's, which goes for all of a line's words or for none. */
void page_text_word(page_text *p, page_rect box, bool own);
void page_text_put(page_text *p, const char *text, size_t n);
void page_text_end_line(page_text *p);
void page_text_end_block(page_text *p);

#endif
