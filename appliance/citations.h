/* citations.h - where an answer stands in the documents, with two verdicts: does the quote stand there, and
 * was that place read while answering. */
#ifndef PHAROS_CITATIONS_H
#define PHAROS_CITATIONS_H

#include "appliance/read_set.h"

/* For each part of the answer (the whole, or the members of a list "a, b and c") the place in the pack's
 * documents that the answer's attention points at. White space and ASCII case may differ between answer and
 * text; a final full stop may be missing. Of a longer answer, the words that it puts between quotation marks.
 * Where no place has the words, one citation names the most-read sentence with in_text = false. mass:
 * whole-answer masses of answer_trace_mass. *out and its strings owned by the caller (store_citation).
 *
 * thought: what the model wrote before its answer, NULL or "" = nothing. Where that is a stretch of a
 * document that was read, the answer's words are looked for there first; where it does not have them, at
 * another place that was read (the thought may be the rest of a sentence); and where there is none either, the
 * thought's place is cited itself. */
int citations_make(store_citation **out, size_t *n, const loaded_pack *p, store *s, const char *answer,
                   const char *thought, const double *mass, const read_sentence *read, size_t n_read,
                   ph_error *err);

void citations_free(store_citation *list, size_t n);

/* The page of a byte of a document's text (0 = no pages). */
int citation_page(store *s, int64_t document, uint64_t byte, uint32_t *page, ph_error *err);

#endif
