/* trace_json.h - a whole trace as JSON, for `pharos trace --json` and for whoever draws it. */
#ifndef PHAROS_TRACE_JSON_H
#define PHAROS_TRACE_JSON_H

#include "appliance/trace_words.h"

#include <jansson.h>

/* What of a trace to write out. */
typedef struct trace_selection {
    int layer; /* -1 = all */
    size_t first_word, end_word;
} trace_selection;

/* Puts "words", "tokens" and "sentences" into `out`: each kept position with score, mass, and where it stands
 * (document, byte, and the sentence's number in "sentences"). Without a pack (NULL) positions stand alone. */
int trace_json_add(json_t *out, const answer_trace *t, const trace_word *words, const loaded_pack *p,
                   const trace_selection *what, ph_error *err);

#endif
