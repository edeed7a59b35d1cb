/* eval_ruler.h - what the files of the RULER tasks share: eval_ruler.c (plan, length, prompts),
 * eval_ruler_needles.c (niah), eval_ruler_words.c (vt, cwe, fwe, qa). */
#ifndef PHAROS_EVAL_RULER_H
#define PHAROS_EVAL_RULER_H

#include "appliance/eval_haystack.h"
#include "appliance/eval_words.h"

typedef enum ruler_haystack { NOISE, ESSAY, NEEDLES } ruler_haystack;
typedef enum ruler_shape { NIAH, VT, CWE, FWE, QA } ruler_shape;

typedef struct ruler_task {
    const char *name;
    ruler_shape shape;
    int tokens; /* of the answer */
    ruler_haystack haystack;
    bool uuid_keys, uuid_values;
    int keys, values, queries;
} ruler_task;

static const char RULER_NOISE[] =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

/* A growing text. `failed`: out of memory. */
typedef struct text {
    char *s;
    size_t n, capacity;
    bool failed;
} text;
void ruler_put(text *t, const char *s, size_t n);
void ruler_say(text *t, const char *s);

enum { RULER_ANSWERS = 10, RULER_TOGETHER = 5 };

/* A question and, in the first of several that share a haystack, the text it is asked of. */
typedef struct sample {
    const ruler_task *task;
    text body, question, prefix;
    char answers[RULER_ANSWERS][2 * EVAL_WORD];
    char **long_answers;                             /* qa: borrowed from the row */
    size_t start[RULER_ANSWERS], end[RULER_ANSWERS]; /* bytes of the body; 0, 0 = nowhere */
    int n;
    bool all;
    double depth;
} sample;

/* k of n numbers without repetition, ascending. */
void ruler_choose(size_t *out, size_t k, size_t n, eval_random *r);
/* 0 .. n - 1 in any order; owned. */
bool ruler_shuffled(size_t **out, size_t n, eval_random *r);

/* The needles of list[n] in one haystack of `amount` words or lines; list[i].task is set. */
void ruler_needles(sample *list, int n, const eval_plan *plan, size_t amount, eval_random *r);
void ruler_variables(sample *s, const eval_plan *plan, size_t lines, eval_random *r);
void ruler_common_words(sample *s, const eval_plan *plan, size_t words, int64_t length, eval_random *r);
void ruler_frequent_words(sample *s, size_t words, int64_t length, eval_random *r);
void ruler_question(sample *s, const eval_plan *plan, size_t documents, int number, eval_random *r);

#endif
