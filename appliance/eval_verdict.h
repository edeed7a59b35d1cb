/* eval_verdict.h - what a step saw of the place where the answer stands, and why an answer is wrong. */
#ifndef PHAROS_EVAL_VERDICT_H
#define PHAROS_EVAL_VERDICT_H

#include "appliance/eval.h"
#include "appliance/read_set.h"

enum { EVAL_STEPS = 48 }; /* answer tokens that are looked at */

/* One span, seen from one layer of one step. */
typedef struct eval_sight {
    float share;  /* of the span's tokens that were selected */
    float mass;   /* attention on them */
    int64_t rank; /* of the span's best token among all positions' index scores, from 1; 0 = unknown (a served
                     model tells what it selects, not how it ranks) */
} eval_sight;

/* [n_steps, layers, n_spans]. Zero-initialise; free with eval_sights_free. */
typedef struct eval_sights {
    eval_sight *at;
    int n_steps, layers, n_spans;
    double chance;     /* share of all positions that the first step could select; 0 = unknown */
    int64_t positions; /* of the prompt and the answer so far, at the first step */
    float *score;      /* working memory: index scores of one layer */
    int64_t n_score;
} eval_sights;
void eval_sights_free(eval_sights *s);
/* Adds the step that predicted a token; to be called while `conversation` stands there. */
int eval_sights_add(eval_sights *s, session *conversation, const generate_step *step, const eval_span *spans,
                    int n_spans, ph_error *err);
/* The same of a whole answer from its trace, which must have all that was selected
 * (answer_options.full_trace). Index scores stand there for what was selected alone, so that ranks are
 * unknown. positions: of the prompt. */
int eval_sights_of_trace(eval_sights *s, const answer_trace *t, int64_t positions, const eval_span *spans,
                         int n_spans, ph_error *err);
/* The best of layers [from_layer, to_layer), steps [from, to) and spans [first, last): each member's own
 * best. */
eval_sight eval_sights_best(const eval_sights *s, int from, int to, int from_layer, int to_layer, int first,
                            int last);

typedef enum eval_verdict {
    VERDICT_RIGHT,
    VERDICT_NOT_SELECTED, /* the indexer missed the place: no more of it was selected than chance selects */
    VERDICT_NOT_USED,     /* it was selected, and the answer does not have it: its mass */
    VERDICT_CUT_OFF,      /* the answer was still being given when it had to end */
    VERDICT_WRONG_COPY,   /* the right place, copied wrongly */
    VERDICT_INVENTED,     /* an answer where there is none */
    VERDICT_UNKNOWN,      /* no place is known */
    VERDICT_NO_TRACE,     /* dense, or a served model that does not tell what it selects */
    VERDICTS
} eval_verdict;
const char *eval_verdict_name(eval_verdict v);

typedef struct eval_answer {
    const char *got;
    stop_reason stop;
    const uint32_t *ends; /* [n_tokens] length of `got` after each token */
    int n_tokens;
} eval_answer;

typedef struct eval_score {
    double score;               /* what the benchmark counts: 0..1 */
    double contains, exact, f1; /* of the references; `contains`: share found (all) or any */
    bool said_absent, right;
    int missing; /* number of the first reference that is not there; -1 = none */
} eval_score;

/* kind: how `score` is made (needle, ruler: contains; qa: F1). < PH_OK never; PH_MEMORY. */
int eval_score_answer(eval_score *out, eval_kind kind, const eval_question *q, const char *got,
                      ph_error *err);
/* Bytes that are no UTF-8 as ?: an answer may end inside a character. */
json_t *eval_answer_string(const char *s);
/* detail[400]: ranks, masses, strings. k: positions that could be selected. */
/* thought: what the tokens of a thought before the answer saw, where there was one; it may have read the
 * place for the answer. */
eval_verdict eval_judge(const eval_question *q, const eval_answer *a, const eval_score *score,
                        const eval_sights *s, const eval_sights *thought, int k, char *detail);

#endif
