/* serve_internal.h - the server's parts, for serve.c and the handlers in api_*.c. */
#ifndef PHAROS_SERVE_INTERNAL_H
#define PHAROS_SERVE_INTERNAL_H

#include "appliance/http.h"
#include "appliance/jobs.h"
#include "appliance/serve.h"
#include "appliance/serve_read.h"
#include "appliance/serve_run.h"
#include "appliance/serve_stores.h"
#include "appliance/serve_tokens.h"
#include "appliance/serve_uploads.h"
#include "appliance/serve_watch.h"

enum {
    MAX_JSON_BYTES = 1 << 20,
    MAX_QUESTION_BYTES = 64 << 10,
    MAX_ANSWER_TOKENS = 4096,
    MAX_ASKED_DOCUMENTS = 10000
};

typedef struct figures {
    pthread_mutex_t lock;
    uint64_t answers, not_found, prompt_tokens, cached_tokens, completion_tokens;
    double answer_seconds;
} figures;

struct serve {
    serve_options options;
    http_server *http;
    jobs *jobs;
    uploads *uploads;
    watching *watching; /* NULL: no folder */
    stores *stores;
    tokens *tokens;
    context *plain; /* what the worker has read for questions without documents; its own until jobs_stop */
    reading_now reading;
    run_now run;
    figures figures;
    int64_t started_at; /* Unix seconds */
};

#endif
