/* serve_erase.h - erasing a document as a job: by the worker, so that nothing is being read from what goes.
 */
#ifndef PHAROS_SERVE_ERASE_H
#define PHAROS_SERVE_ERASE_H

#include "appliance/jobs.h"

typedef struct erasure {
    int64_t document;
    store_receipt receipt;
    ph_error err;
    atomic_bool done;
    int wake; /* readable when it is done */
} erasure;

erasure *erasure_new(int64_t document); /* NULL: no memory, or no descriptor */
void erasure_free(void *x);
bool erasure_done(void *x);
extern const job_class erasure_class; /* user is an erasure */

/* Submits one and waits for its end. PH_BUSY where the server is stopping. */
int erase_document(jobs *q, int64_t document, const char *client, ph_error *err);

#endif
