/* api.h - the routes, and what their handlers share. openapi.json says what each takes and gives; a test
 * holds it against this table. */
#ifndef PHAROS_API_H
#define PHAROS_API_H

#include "appliance/serve_internal.h"

/* What a handler gets. */
typedef struct api_call {
    serve *serve;
    http_request *http;
    role role;
    bool known;        /* came with a token; without one, where none is needed, everything is seen */
    uint8_t owner[32]; /* the token's hash: whose questions are asked and seen; zeros without one */
    int64_t id, other; /* {id} and {other} of the path */
    const struct api_route *route;
    void *body; /* the route's own, from its begin; freed by free_body */
    void (*free_body)(void *body);
} api_call;

typedef enum api_body { BODY_NONE, BODY_JSON, BODY_OPTIONAL_JSON, BODY_FILE } api_body;

typedef struct api_route {
    const char *method, *path; /* "{id}" and "{other}" stand for numbers from 1, "{model}" for a name */
    role role;                 /* the least that may call it; ROLE_NONE = everybody */
    api_body body;
    void (*run)(api_call *c);
    void (*begin)(api_call *c); /* BODY_FILE: sets the sink, or replies; may be NULL */
} api_route;

extern const api_route api_routes[]; /* ends with a NULL method */

/* http_application's two, user is the serve. */
void api_begin(void *user, http_request *r);
void api_run(void *user, http_request *r);

/* ---- what handlers share ---- */

/* Lends a store, runs f, takes it back; an error becomes the reply. */
void api_with_store(api_call *c, int (*f)(api_call *c, store *s, ph_error *err));

/* The engine, or NULL with the reply made (503 while it loads). */
engine *api_engine(api_call *c);

/* Members of a request's JSON, checked: false = the reply is made. Absent ones leave *out. */
bool api_integer(api_call *c, const json_t *body, const char *name, int64_t low, int64_t high, int64_t *out);
bool api_real(api_call *c, const json_t *body, const char *name, double low, double high, double *out);
bool api_boolean(api_call *c, const json_t *body, const char *name, bool *out);
bool api_ids(api_call *c, const json_t *body, const char *name, int64_t **out, size_t *n); /* owned */
/* Members that are not in the list (NULL-terminated) are refused: a misspelt one would be ignored silently.
 */
bool api_members(api_call *c, const json_t *body, const char *const *names);

json_t *api_receipt_json(const store_receipt *r);

/* Whether this caller may see an answer: its own, or any where no token is needed. A foreign one is as if it
 * were not there. */
bool api_may_see(const api_call *c, const store_answer *row);
/* PH_NOT_FOUND for another's. *row is the caller's to free. */
int api_own_answer(api_call *c, store *s, store_answer *row, ph_error *err);

/* Submits the question (stolen) and replies: a stream, or JSON when it is done. */
struct question;
void api_ask_question(api_call *c, struct question *q);
/* The client a caller counts as, for taking turns. */
void api_client(const api_call *c, char out[80]);

/* ---- handlers, by file ---- */

void api_documents_list(api_call *c); /* api_documents.c */
void api_documents_get(api_call *c);
void api_documents_text(api_call *c);
void api_documents_segments(api_call *c);
void api_documents_file(api_call *c);
void api_documents_image(api_call *c);
void api_documents_delete(api_call *c);
void api_upload_begin(api_call *c); /* api_uploads.c */
void api_upload(api_call *c);
void api_upload_url(api_call *c);
void api_jobs_list(api_call *c);
void api_jobs_get(api_call *c);
void api_jobs_delete(api_call *c);
void api_packs_list(api_call *c); /* api_packs.c */
void api_packs_read(api_call *c);
void api_ask(api_call *c);          /* api_ask.c */
void api_answers_list(api_call *c); /* api_answers.c */
void api_answers_get(api_call *c);
void api_answers_delete(api_call *c);
void api_answers_trace(api_call *c); /* api_trace.c */
void api_runs_list(api_call *c);     /* api_runs.c */
void api_runs_get(api_call *c);
void api_runs_delete(api_call *c);
void api_runs_report(api_call *c);
void api_runs_diff(api_call *c);
void api_runs_start(api_call *c); /* api_runs_start.c */
void api_runs_estimate(api_call *c);
void api_runs_questions_begin(api_call *c);
void api_runs_questions(api_call *c);
void api_runs_resume(api_call *c);
void api_runs_stop(api_call *c);
void api_status(api_call *c); /* api_status.c */
void api_health(api_call *c);
void api_metrics(api_call *c);
void api_openapi(api_call *c); /* api_static.c */
void api_static(api_call *c);
void api_openai_models(api_call *c); /* api_openai.c */
void api_openai_model(api_call *c);
void api_openai_chat(api_call *c);

#endif
