/* trace_words.h - a trace by words: a person reads words, a model writes tokens. */
#ifndef PHAROS_TRACE_WORDS_H
#define PHAROS_TRACE_WORDS_H

#include "appliance/read_set.h"

typedef struct trace_word {
    size_t token_start, token_end; /* of the trace */
    size_t start, end;             /* bytes of the answer (answer_trace.text), without white space around */
} trace_word;

/* Groups tokens into words: a token that begins with white space begins a word, and so does a character of a
 * script that is written without spaces. Every token belongs to exactly one word. *out owned by the caller.
 */
int trace_words_make(trace_word **out, size_t *n, const answer_trace *t, ph_error *err);

/* Of all the attention of tokens [from, to) in one layer (-1 = all), the share that fell on kept positions of
 * the documents' text. The rest fell on the question, on the prompt's frame, or on positions that were not
 * kept. */
double trace_on_documents(const answer_trace *t, const loaded_pack *p, size_t from, size_t to, int layer);

#endif
