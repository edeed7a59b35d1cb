/* show.h - answers, citations and read sets on a terminal and as JSON. Shared by `ask` and `trace`. */
#ifndef PHAROS_SHOW_H
#define PHAROS_SHOW_H

#include "appliance/answer.h"
#include "appliance/command.h"

/* Citations with the quote in its sentence, its place and both verdicts; then the read set. */
void show_sources(const answer *a, FILE *out);
void show_read_set(const read_sentence *list, size_t n, FILE *out);

/* {answer, found, citations, usage, timing, pack, ...}; NULL when out of memory. */
json_t *answer_json(const answer *a);
json_t *read_set_json(const read_sentence *list, size_t n);
json_t *citation_json(const store_citation *c);
/* What the masses of a trace are shares of: "attention", "selection" (a served model tells no more), or null. */
json_t *evidence_json(bool traced, const answer_trace *t);

#endif
