/* helper.h - runs poppler's programs and tesseract inside the child's sandbox. */
#ifndef PHAROS_INGEST_HELPER_H
#define PHAROS_INGEST_HELPER_H

#include "ingest/sandbox.h"

/* What a helper says on its standard output; non-zero ends it. */
typedef int (*helper_output)(void *user, const char *bytes, size_t n);

typedef struct helper_end {
    bool stopped;   /* by the output function */
    bool late;      /* ended because its time by the clock was over */
    bool missing;   /* the program is not installed */
    int status;     /* of waitpid */
    char said[256]; /* the beginning of its standard error */
} helper_end;

/* Starts argv[0] with `input` (from its beginning) as standard input and waits for its end. PH_FAIL when it
 * cannot be started at all. */
int helper_run(helper_end *end, const char *const *argv, int input, const sandbox_limits *limits,
               helper_output output, void *user, ph_error *err);

/* first[0] reads `input` and argv[0] reads what that writes; the output is the latter's. first == NULL:
 * argv[0] reads `input`. Both are ended after `seconds` by the clock. */
int helper_pipe(helper_end *first_end, helper_end *end, const char *const *first, const char *const *argv,
                int input, uint32_t seconds, const sandbox_limits *limits, helper_output output, void *user,
                ph_error *err);

#endif
