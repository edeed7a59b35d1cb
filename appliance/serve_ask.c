/* serve_ask.c - see serve_ask.h. */
#include "appliance/serve_ask.h"

#include "appliance/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <utf8proc.h>

static const double TELL_SECONDS = 0.1; /* between two events of progress */

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

question *question_new(void) {
    question *q = calloc(1, sizeof *q);
    if (q && !outbox_open(&q->out)) {
        free(q);
        return NULL;
    }
    return q;
}

void question_free(void *user) {
    question *q = user;
    if (!q) return;
    outbox_free(&q->out);
    json_decref(q->result);
    free((int64_t *)q->options.documents);
    for (size_t i = 0; i < q->options.n_turns; i++) {
        free((char *)q->options.turns[i].question);
        free((char *)q->options.turns[i].answer);
    }
    free((answer_turn *)q->options.turns);
    stop_texts_free(&q->options.stops);
    chat_messages_free(q->messages, q->n_messages);
    free(q->form_data);
    free(q->text);
    free(q);
}

void question_event(question *q, const char *name, json_t *value, bool optional) {
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL, *event = NULL;
    int n = !text  ? -1
            : name ? asprintf(&event, "event: %s\ndata: %s\n\n", name, text)
                   : asprintf(&event, "data: %s\n\n", text);
    if (n >= 0) outbox_put(&q->out, event, (size_t)n, optional);
    if (n >= 0) free(event);
    free(text);
    json_decref(value);
}

/* ---- what the worker tells ---- */

static int tell_progress(void *user, answer_phase phase, int64_t done, int64_t total, int64_t cached) {
    question *q = user;
    double now = seconds_now();
    bool new_phase = q->phase != (int)phase + 1;
    if (new_phase) {
        q->phase = (int)phase + 1;
        q->phase_started = now;
        q->phase_first = done;
    }
    if (phase == PHASE_READING) {
        if (new_phase) reading_begin(q->now, q->options.pack ? q->options.pack : -1);
        reading_at(q->now, done, total, cached);
    } else
        reading_end(q->now);
    if (phase == PHASE_WRITING) q->wrote = true;
    if (new_phase || now - q->told >= TELL_SECONDS || (total && done == total)) {
        double seconds = now - q->phase_started;
        q->told = now;
        q->form->progress(q, phase, done, total,
                          phase == PHASE_READING && cached == 0 ? q->phase_first : cached,
                          seconds > 0.02 ? (double)(done - q->phase_first) / seconds : 0);
    }
    return job_stops(q->job, !q->wrote);
}

/* Bytes of the whole characters at the start of s[n]; bad bytes count as whole, and become U+FFFD later. */
static size_t whole(const char *s, size_t n) {
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        unsigned char c = (unsigned char)s[n - back];
        if ((c & 0xC0) == 0x80) continue;
        size_t wants = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : c >= 0xC0 ? 2 : 1;
        return wants > back ? n - back : n;
    }
    return n;
}

static void tell_piece(void *user, const char *piece, size_t len) {
    question *q = user;
    char *text = malloc(len + sizeof q->tail + 1);
    if (!text) return; /* the whole answer comes with the last event */
    size_t n = (size_t)q->n_tail + len;
    memcpy(text, q->tail, (size_t)q->n_tail);
    memcpy(text + q->n_tail, piece, len);
    size_t ready = whole(text, n);
    if (n - ready > sizeof q->tail) ready = n;
    q->n_tail = (int)(n - ready);
    memcpy(q->tail, text + ready, n - ready);
    text[ready] = 0;
    q->wrote = true;
    if (ready) q->form->piece(q, text);
    free(text);
}

static void tell_thought(void *user, const char *text, size_t len) {
    question *q = user;
    (void)len; /* it ends in a 0 */
    q->wrote = true;
    q->form->thought(q, text);
}

/* ---- the job ---- */

static int run(job *j, void *user, store *s, engine *e, ph_error *err) {
    question *q = user;
    answer a = {0};
    q->job = j;
    q->wrote = false;
    q->n_tail = q->phase = 0;
    q->options.progress = tell_progress;
    q->options.piece = tell_piece;
    q->options.thought = tell_thought;
    q->options.user = q;
    if (job_stops(j, true)) return ph_fail(err, PH_INTERRUPTED, "stopped before it began");
    int code = q->messages ? chat_answer(&a, q->plain, e, q->messages, q->n_messages, &q->options, err)
                           : answer_question(&a, s, e, q->text, &q->options, err);
    reading_end(q->now);
    if (code == PH_INTERRUPTED) {
        if (!q->wrote) q->form->restart(q);
        return code;
    }
    if (code) return code;
    if (q->n_tail) q->form->piece(q, "\xEF\xBF\xBD");
    if (q->answered) q->answered(q->answered_user, &a);
    q->form->done(q, &a);
    answer_free(&a);
    return PH_OK;
}

static void finished(job *j, void *user, const ph_error *err) {
    question *q = user;
    (void)j;
    if (err->code) q->form->failed(q, err);
    outbox_close(&q->out);
}

static void placed(job *j, void *user, int place) {
    question *q = user;
    (void)j;
    q->form->placed(q, place);
}

const job_class question_class = {.kind = JOB_ASK,
                                  .needs_engine = true,
                                  .run = run,
                                  .finished = finished,
                                  .placed = placed,
                                  .destroy = question_free};
