/* eval_words.h - word lists of the RULER tasks: adjective-noun keys, and the words that are counted.
 *
 * Our own: a hundred adjectives and nouns, and any number of made-up words. The published generator takes its
 * from a package of English words; a file with the same words, one to a line after its kind ("adjective
 * gentle", "noun harbor", "verb climb"), gives its keys (every adjective with every noun) and its list. */
#ifndef PHAROS_EVAL_WORDS_H
#define PHAROS_EVAL_WORDS_H

#include "appliance/eval.h"

#include <stdio.h>

enum { EVAL_WORD = 48 };

/* The words of a file. Owned; free with eval_lexicon_free. */
typedef struct eval_lexicon {
    char *text;
    const char **adjectives, **nouns,
        **words; /* into text; words = all three kinds, each word once, sorted */
    size_t n_adjectives, n_nouns, n_words;
} eval_lexicon;
int eval_lexicon_load(eval_lexicon **out, const char *path, ph_error *err);
void eval_lexicon_free(eval_lexicon *l); /* NULL is fine */

/* "gentle-harbor"; l NULL = our own words. */
void eval_word_pair(char out[EVAL_WORD], const eval_lexicon *l, eval_random *r);
void eval_word_number(char out[EVAL_WORD], eval_random *r); /* 7 digits */
void eval_word_uuid(char out[EVAL_WORD], eval_random *r);   /* version 4 */
void eval_word_made(char out[EVAL_WORD],
                    uint64_t number); /* a pronounceable word of its own for each number */
void eval_word_letters(char out[EVAL_WORD], int n, char first,
                       eval_random *r); /* n letters from 26 at `first` */

#endif
