/* serve_ask.h - a question as a job: what the worker writes becomes events for one client. */
#ifndef PHAROS_SERVE_ASK_H
#define PHAROS_SERVE_ASK_H

#include "appliance/answer.h"
#include "appliance/chat.h"
#include "appliance/jobs.h"
#include "appliance/serve_outbox.h"
#include "appliance/serve_read.h"

#include <jansson.h>

typedef struct question question;

/* How what happens is told. Each writes into the outbox, or leaves it. */
typedef struct question_form {
    void (*placed)(question *q, int place);
    void (*progress)(question *q, answer_phase phase, int64_t done, int64_t total, int64_t cached,
                     double rate);
    void (*piece)(question *q, const char *text); /* whole characters */
    void (*restart)(question *q);
    void (*done)(question *q, const answer *a); /* on the worker's thread */
    void (*failed)(question *q, const ph_error *err);
    void (*thought)(question *q, const char *text); /* what was written before the answer, at once */
} question_form;

struct question {
    answer_options options; /* documents, turns and their strings, and stops are owned */
    char *text;
    chat_message *messages; /* [n_messages] owned: the bare model answers these; else NULL */
    size_t n_messages;
    context *
        *plain; /* with messages: where what was read for such questions is kept, on the worker's thread */
    const question_form *form;
    void *form_data; /* freed with free() */
    reading_now *now;
    void (*answered)(void *user, const answer *a); /* for counting; may be NULL */
    void *answered_user;
    bool stream;
    outbox out;
    json_t *result; /* the reply, where nothing is streamed; owned */
    unsigned status;

    job *job; /* from here on the worker's: */
    bool wrote;
    char tail[4]; /* a character that is not whole yet */
    int n_tail;
    double phase_started, told;
    int64_t phase_first;
    int phase;
};

question *question_new(void); /* NULL: no memory */
void question_free(void *q);
extern const job_class question_class; /* user is a question; destroy frees it */

/* Puts "event: NAME\ndata: JSON\n\n" into the outbox; steals value. */
void question_event(question *q, const char *name, json_t *value, bool optional);

#endif
