/* docx_numbering.h - the numbers that Word shows in front of paragraphs and the file holds only as rules:
 * without them nobody can ask for clause 4.2. */
#ifndef PHAROS_INGEST_DOCX_NUMBERING_H
#define PHAROS_INGEST_DOCX_NUMBERING_H

#include "ingest/zip_parts.h"

#define DOCX_LEVELS 9
#define DOCX_LABEL_BYTES 96

typedef struct docx_level {
    long start;
    char format[24]; /* "decimal", "lowerLetter", "bullet", ... */
    char text[32];   /* "%1.%2." */
    char style[48];  /* of the paragraphs that it numbers, where it names one */
} docx_level;

typedef struct docx_list {
    long id;
    docx_level levels[DOCX_LEVELS];
    long counters[DOCX_LEVELS]; /* -1 = not begun since a higher level moved on */
} docx_list;

typedef struct docx_number {
    long id;
    long list;                 /* id of a docx_list */
    long restart[DOCX_LEVELS]; /* -1 = none */
    bool used;
} docx_number;

typedef struct docx_style {
    char id[48], parent[48];
    long number, level; /* -1 = says nothing */
} docx_style;

typedef struct docx_numbering {
    docx_list *lists;
    docx_number *numbers;
    docx_style *styles;
    size_t n_lists, n_numbers, n_styles, lists_capacity, numbers_capacity, styles_capacity;
} docx_numbering;

/* Reads the parts that `main`'s relations name; those that are missing are empty. Returns the sink's code. */
int docx_numbering_load(docx_numbering *n, zip_parts *z, const relations *r);
void docx_numbering_free(docx_numbering *n);

/* The label of the next paragraph with this style ("" = none) and these numbers (-1 = not said), which
 * counts; an empty label when it has none. */
void docx_numbering_next(docx_numbering *n, const char *style, long number, long level,
                         char label[DOCX_LABEL_BYTES]);

#endif
