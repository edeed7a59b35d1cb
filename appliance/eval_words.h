/* eval_words.h - word lists of the RULER tasks: adjective-noun keys, and any number of made-up words. */
#ifndef PHAROS_EVAL_WORDS_H
#define PHAROS_EVAL_WORDS_H

#include "appliance/eval.h"

#include <stdio.h>

enum { EVAL_WORD = 48 };
void eval_word_pair(char out[EVAL_WORD], eval_random *r);   /* "gentle-harbor" */
void eval_word_number(char out[EVAL_WORD], eval_random *r); /* 7 digits */
void eval_word_uuid(char out[EVAL_WORD], eval_random *r);   /* version 4 */
void eval_word_made(char out[EVAL_WORD],
                    uint64_t number); /* a pronounceable word of its own for each number */
void eval_word_letters(char out[EVAL_WORD], int n, char first,
                       eval_random *r); /* n letters from 26 at `first` */

#endif
