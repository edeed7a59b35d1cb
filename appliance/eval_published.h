/* eval_published.h - the published scores that a run stands beside, and how its protocol differs from theirs.
 */
#ifndef PHAROS_EVAL_PUBLISHED_H
#define PHAROS_EVAL_PUBLISHED_H

#include "appliance/eval.h"

typedef struct eval_published_row {
    const char *name;
    const char *values[8];
} eval_published_row;

typedef struct eval_published {
    const char *title, *source;
    const char *columns[9]; /* NULL-terminated */
    const eval_published_row *rows;
    int n_rows;
} eval_published;

/* NULL past the last that belongs to prompts of this kind. */
const eval_published *eval_published_at(eval_kind over, int i);
/* Sentences, NULL past the last. Those that hold for a run of these parameters. */
const char *eval_protocol_note(const json_t *params, int i);

#endif
