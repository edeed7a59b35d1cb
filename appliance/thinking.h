/* thinking.h - whether a model writes the sentence that answers first, as a thought: one that was taught to
 * quotes the text, and answers from the quote. */
#ifndef PHAROS_THINKING_H
#define PHAROS_THINKING_H

typedef enum answer_thinking { THINK_AS_MODEL, THINK_NOT, THINK_FIRST } answer_thinking;

enum { THOUGHT_TOKENS = 96 }; /* a sentence of a document; a longer one is cut there, and the answer begins */

#endif
