/* eval_ask.h - a run's passages as a library that is asked through answer.h. */
#ifndef PHAROS_EVAL_ASK_H
#define PHAROS_EVAL_ASK_H

#include "appliance/answer.h"
#include "appliance/eval.h"

/* The passages as documents of a store of its own, below $TMPDIR (or /var/tmp) until it is closed. */
typedef struct eval_library eval_library;
int eval_library_open(eval_library **out, const eval_plan *plan, ph_error *err);
void eval_library_close(eval_library *l);
/* Asks question `number` of the plan as `variant`; the cell's members are the caller's. */
int eval_library_ask(eval_library *l, size_t number, int variant, answer_progress progress, void *user,
                     json_t **result, json_t **timing, ph_error *err);

#endif
