/* serve_erase.c - see serve_erase.h. */
#include "appliance/serve_erase.h"

#include "appliance/library.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

erasure *erasure_new(int64_t document) {
    erasure *x = calloc(1, sizeof *x);
    if (!x) return NULL;
    x->document = document;
    x->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (x->wake >= 0) return x;
    free(x);
    return NULL;
}

void erasure_free(void *user) {
    erasure *x = user;
    if (!x) return;
    close(x->wake);
    free(x);
}

bool erasure_done(void *user) {
    return ((erasure *)user)->done;
}

static int run(job *j, void *user, store *s, engine *e, ph_error *err) {
    erasure *x = user;
    (void)j;
    return library_erase(s, e, x->document, &x->receipt, err);
}

static void finished(job *j, void *user, const ph_error *err) {
    erasure *x = user;
    uint64_t one = 1;
    (void)j;
    x->err = *err;
    x->done = true;
    ssize_t n = write(x->wake, &one, sizeof one);
    (void)n;
}

const job_class erasure_class = {
    .kind = JOB_ERASE, .run = run, .finished = finished, .destroy = erasure_free};

int erase_document(jobs *q, int64_t document, const char *client, ph_error *err) {
    erasure *x = erasure_new(document);
    job *j = NULL;
    if (!x) return ph_fail(err, PH_MEMORY, "no memory to erase a document");
    jobs_answer a = jobs_submit(q, &erasure_class, x, client, &j);
    int code = PH_OK;
    if (a != JOBS_TAKEN)
        code = ph_fail(err, a == JOBS_NO_MEMORY ? PH_MEMORY : PH_BUSY, "the server is stopping");
    else {
        struct pollfd wait = {.fd = x->wake, .events = POLLIN};
        while (!erasure_done(x)) poll(&wait, 1, 1000);
        if (x->err.code && x->receipt.documents != 1) code = ph_fail(err, x->err.code, "%s", x->err.text);
    }
    if (j)
        job_drop(j);
    else
        erasure_free(x);
    return code;
}
