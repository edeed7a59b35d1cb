/* eval_haystack.h - building a haystack: texts into a prompt of a given length, spans of bytes into spans of
 * tokens. Shared by the makers (eval_needle.c, eval_ruler.c, eval_qa.c). */
#ifndef PHAROS_EVAL_HAYSTACK_H
#define PHAROS_EVAL_HAYSTACK_H

#include "appliance/eval.h"

/* Texts that are not in the prompt yet. */
typedef struct eval_piece {
    char *name, *text; /* owned */
    size_t len;
} eval_piece;
typedef struct eval_pieces {
    eval_piece *list;
    size_t n;
} eval_pieces;
void eval_pieces_free(eval_pieces *p);
int eval_pieces_add(eval_pieces *p, const char *name, const char *text, size_t len, ph_error *err);
void eval_pieces_shuffle(eval_pieces *p, eval_random *r);

/* Adds the plan's texts, in an order of their own for each `sample` (0: as they are), again and again, until
 * `tokens` are used with headers and footers; the last one is cut to fit. */
int eval_pieces_fill(eval_pieces *p, const eval_plan *plan, int64_t tokens, int sample, ph_error *err);

/* Where `depth` percent of all bytes lie before, moved back to the previous sentence's end. */
void eval_pieces_depth(const eval_pieces *p, double depth, size_t *piece, size_t *byte);
/* Inserts a sentence there; *at = where its first byte now is. */
int eval_pieces_insert(eval_pieces *p, size_t piece, size_t byte, const char *sentence, size_t *at,
                       ph_error *err);

/* The pieces as documents of h's prompt (taken over). */
int eval_haystack_build(eval_haystack *h, const eval_plan *plan, eval_pieces *p, ph_error *err);
/* The tokens that bytes [start, end) of a text became. */
eval_span eval_token_span(const loaded_pack *p, int text, size_t start, size_t end);
/* Adds to q->spans where the first of each of qa's answers stands in a text of p; what stands nowhere, or in
 * another pack, has no place. */
void eval_question_places(eval_question *q, const loaded_pack *p, int text, const eval_qa *qa);
/* Tokens of a text by itself; < 0 when out of memory. */
int64_t eval_count_tokens(const eval_plan *plan, const char *text, ph_error *err);
/* Adds a question (strings copied); NULL when out of memory. */
eval_question *eval_haystack_ask(eval_haystack *h, const char *task, const char *question, ph_error *err);
int eval_question_answer(eval_question *q, const char *answer, ph_error *err);
/* ASCII case-insensitive strstr. */
const char *eval_find(const char *text, const char *what);

#endif
