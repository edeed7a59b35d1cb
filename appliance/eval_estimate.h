/* eval_estimate.h - how long a run will take, before it is started. */
#ifndef PHAROS_EVAL_ESTIMATE_H
#define PHAROS_EVAL_ESTIMATE_H

#include "appliance/eval.h"

typedef struct eval_estimate {
    size_t cells, haystacks;
    int64_t tokens; /* to be read */
    double rate;    /* tokens a second that they will be read with; 0 = nothing has been measured */
    double seconds; /* 0 = unknown */
} eval_estimate;

/* From the plan and from what earlier runs of the same model took; where there are none, from `rate`, the
 * tokens a second that documents were read with (0 = none were). Fills p->text_hash. */
int eval_estimate_make(eval_estimate *out, eval_params *p, store *s, engine *e, double rate, ph_error *err);

#endif
