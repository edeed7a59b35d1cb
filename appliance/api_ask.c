/* api_ask.c - a question: as JSON, or as a stream of events. */
#include "appliance/api.h"

#include "appliance/command.h"
#include "appliance/serve_ask.h"
#include "appliance/show.h"

#include <stdlib.h>
#include <string.h>

/* ---- events ---- */

static void placed(question *q, int place) {
    if (q->stream && place > 0) question_event(q, "queue", json_pack("{s:i}", "place", place), true);
}

static void progressed(question *q, answer_phase phase, int64_t done, int64_t total, int64_t cached,
                       double rate) {
    static const char *const names[] = {"reading", "asking", "writing"};
    if (!q->stream) return;
    json_t *left = rate > 0 && total > done ? json_real((double)(total - done) / rate) : json_null();
    question_event(q, "progress",
                   json_pack("{s:s, s:I, s:I, s:I, s:f, s:o}", "phase", names[phase], "done",
                             (json_int_t)done, "total", (json_int_t)total, "cached", (json_int_t)cached,
                             "rate", rate, "seconds_left", left),
                   true);
}

static void wrote(question *q, const char *text) {
    if (q->stream) question_event(q, "token", json_pack("{s:o}", "text", json_text(text)), false);
}

static void thought(question *q, const char *text) {
    if (q->stream) question_event(q, "thought", json_pack("{s:o}", "text", json_text(text)), false);
}

static void restarted(question *q) {
    if (q->stream)
        question_event(q, "restart", json_pack("{s:s}", "reason", "the documents have changed"), false);
}

static void done(question *q, const answer *a) {
    json_t *value = answer_json(a);
    if (value) json_object_set_new(value, "note", json_text(a->note));
    if (q->stream)
        question_event(q, "done", value, false);
    else {
        q->status = 200;
        q->result = value;
    }
}

static const char *code_of(const ph_error *err) {
    return err->code == PH_MODEL         ? "model"
           : err->code == PH_INTERRUPTED ? "interrupted"
           : err->code == PH_CORRUPT     ? "corrupt"
           : err->code == PH_MEMORY      ? "memory"
                                         : NULL;
}

static void failed(question *q, const ph_error *err) {
    unsigned status = http_status_of(err->code);
    json_t *value = http_error_json(status, code_of(err), err->text);
    if (q->stream)
        question_event(q, "error", value, false);
    else {
        q->status = status;
        q->result = value;
    }
}

static const question_form events = {placed, progressed, wrote, restarted, done, failed, thought};

/* ---- the reply ---- */

static void remember(void *user, const answer *a) {
    figures *f = user;
    pthread_mutex_lock(&f->lock);
    f->answers++;
    f->not_found += !a->row.found;
    f->prompt_tokens += (uint64_t)a->row.prompt_tokens;
    f->cached_tokens += (uint64_t)a->row.cached_tokens;
    f->completion_tokens += (uint64_t)a->row.completion_tokens;
    f->answer_seconds += a->row.total_ms / 1e3;
    pthread_mutex_unlock(&f->lock);
}

typedef struct waiting {
    question *question;
    job *job;
    bool ended;
} waiting;

static ssize_t stream_read(void *user, char *out, size_t n) {
    waiting *w = user;
    ssize_t got = outbox_take(&w->question->out, out, n);
    w->ended |= got < 0;
    return got;
}

static void stream_end(void *user) {
    waiting *w = user;
    if (!w->ended) job_cancel(w->job); /* nobody will read the rest */
    job_drop(w->job);
    free(w);
}

static bool answered(void *user) {
    return outbox_closed(&((question *)user)->out);
}

static void reply_refusal(api_call *c, jobs_answer a) {
    if (a == JOBS_CLIENT_FULL)
        http_reply_error(c->http, 429, NULL, "%d questions of yours wait already",
                         c->serve->options.per_client);
    else if (a == JOBS_FULL)
        http_reply_error(c->http, 503, NULL, "the queue is full");
    else if (a == JOBS_STOPPING)
        http_reply_error(c->http, 503, NULL, "the server is stopping");
    else
        http_reply_error(c->http, 503, "memory", "no memory for a question");
}

void api_ask_question(api_call *c, question *q) {
    char client[80];
    job *j = NULL;
    waiting *w = calloc(1, sizeof *w);
    api_client(c, client);
    q->now = &c->serve->reading;
    q->answered = remember;
    q->answered_user = &c->serve->figures;
    memcpy(q->options.owner, c->owner, sizeof q->options.owner);
    jobs_answer a = w ? jobs_submit(c->serve->jobs, &question_class, q, client, &j) : JOBS_NO_MEMORY;
    if (a != JOBS_TAKEN) {
        free(w);
        reply_refusal(c, a);
        if (j)
            job_drop(j);
        else
            question_free(q);
        return;
    }
    if (q->stream) {
        *w = (waiting){.question = q, .job = j};
        http_stream stream = {.read = stream_read, .wake = q->out.wake, .end = stream_end, .user = w};
        http_reply_stream(c->http, &stream);
        return;
    }
    free(w);
    if (!http_wait(c->http, q->out.wake, answered, q)) {
        job_cancel(j);
        http_reply_error(c->http, 503, "interrupted", "the client has left");
    } else {
        http_reply_json(c->http, q->status, q->result);
        q->result = NULL;
    }
    job_drop(j);
}

/* ---- the request ---- */

static bool wants_stream(api_call *c) {
    const char *accept = http_header(c->http, "Accept", NULL);
    return accept && strstr(accept, "text/event-stream");
}

static bool take_text(api_call *c, question *q, const json_t *body) {
    const json_t *text = json_object_get(body, "question");
    const char *s = json_string_value(text);
    size_t n = json_string_length(text);
    if (!s || strlen(s) != n || !s[strspn(s, " \t\r\n")]) {
        http_reply_error(c->http, 400, NULL, "question is a text that is not empty");
        return false;
    }
    if (n > MAX_QUESTION_BYTES) {
        http_reply_error(c->http, 413, NULL, "the question has %zu bytes, and the limit is %d", n,
                         MAX_QUESTION_BYTES);
        return false;
    }
    q->text = strdup(s);
    if (!q->text) http_reply_error(c->http, 503, "memory", "no memory for a question");
    return q->text != NULL;
}

/* Absent: as the model has it. */
static bool take_thinking(api_call *c, const json_t *body, answer_thinking *out) {
    bool thinking = false;
    if (!api_boolean(c, body, "thinking", &thinking)) return false;
    if (json_is_boolean(json_object_get(body, "thinking"))) *out = thinking ? THINK_FIRST : THINK_NOT;
    return true;
}

static bool take_options(api_call *c, question *q, const json_t *body) {
    answer_options *o = &q->options;
    int64_t *ids = NULL, max_tokens = 0, packs = 0, seed = 0;
    double temperature = 0, top_p = 0;
    bool good = api_ids(c, body, "documents", &ids, &o->n_documents);
    o->documents = ids;
    good = good && api_integer(c, body, "pack", 1, INT64_MAX, &o->pack) &&
           api_integer(c, body, "follows", 1, INT64_MAX, &o->follows) &&
           api_integer(c, body, "packs", 1, 1000000, &packs) &&
           api_integer(c, body, "max_tokens", 1, MAX_ANSWER_TOKENS, &max_tokens) &&
           api_integer(c, body, "seed", 0, INT64_MAX, &seed) &&
           api_real(c, body, "temperature", 0, 2, &temperature) &&
           api_real(c, body, "top_p", 1e-6, 1, &top_p) &&
           api_boolean(c, body, "full_trace", &o->full_trace) &&
           api_boolean(c, body, "discard", &o->discard) && api_boolean(c, body, "whole", &o->whole) &&
           take_thinking(c, body, &o->thinking) && api_boolean(c, body, "stream", &q->stream);
    o->max_packs = (int)packs;
    o->max_tokens = (int)max_tokens;
    o->seed = (uint64_t)seed;
    o->temperature = (float)temperature;
    o->top_p = (float)top_p;
    return good;
}

/* Before the question waits in the queue, so that a stream too begins with 404. */
static bool check_follows(api_call *c, const question *q) {
    if (!q->options.follows) return true;
    ph_error err = {0};
    store *s = NULL;
    int code = stores_lend(c->serve->stores, &s, &err);
    if (!code) code = turns_check(s, q->options.follows, c->owner, &err);
    stores_back(c->serve->stores, s);
    if (code) http_reply_failure(c->http, &err);
    return !code;
}

void api_ask(api_call *c) {
    static const char *const members[] = {"question",   "follows", "documents",   "pack",   "packs",
                                          "max_tokens", "seed",    "temperature", "top_p",  "full_trace",
                                          "discard",    "whole",   "thinking",    "stream", NULL};
    json_t *body = http_json_body(c->http, false);
    if (!body) return;
    question *q = question_new();
    if (!q)
        http_reply_error(c->http, 503, "memory", "no memory for a question");
    else {
        q->form = &events;
        q->stream = wants_stream(c);
    }
    bool good = q && api_members(c, body, members) && take_text(c, q, body) && take_options(c, q, body) &&
                check_follows(c, q) && api_engine(c);
    json_decref(body);
    if (good)
        api_ask_question(c, q);
    else
        question_free(q);
}
