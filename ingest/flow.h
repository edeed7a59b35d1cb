/* flow.h - blocks of running text into a sink: a segment opens with its first character, separators stand
 * only between segments. What the readers of HTML and of the Office formats share. */
#ifndef PHAROS_INGEST_FLOW_H
#define PHAROS_INGEST_FLOW_H

#include "ingest/sink.h"

typedef struct flow {
    text_sink *s;
    uint32_t page;         /* of the segments to come */
    bool open;             /* a segment is open */
    bool said;             /* anything was said at all */
    bool space;            /* white space waits for the next word */
    unsigned cells;        /* cell borders that wait for the next word: those at a row's end are never said */
    const char *separator; /* before the next segment; NULL = "\n\n" */
    const char *prefix;    /* before the next segment's first word ("- "); or NULL. Borrowed until then */
} flow;

/* Ends the segment; `separator` stands before the next one (the longer of two wins). */
void flow_break(flow *f, const char *separator);
/* Opens a segment if none is. */
void flow_open(flow *f);
/* Words: white space of any length is one space, none at the ends of a segment. */
void flow_words(flow *f, const char *text, size_t n);
/* Text as it is; white space alone opens no segment. */
void flow_raw(flow *f, const char *text, size_t n);
/* The next text belongs to another cell of the same row. */
void flow_cell(flow *f);
/* A line end within a segment. */
void flow_line(flow *f);

#endif
