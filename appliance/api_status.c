/* api_status.c - how the server is: for people, for load balancers, for Prometheus. */
#include "appliance/api.h"

#include "appliance/command.h"
#include "appliance/library.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *const state_names[] = {"loading", "ready", "failed"};

/* Tokens of all packs, and what still fits into the last. */
static int context_json(json_t **out, engine *e, store *s, ph_error *err) {
    store_pack *packs = NULL;
    size_t n = 0;
    *out = json_null();
    if (!e) return PH_OK;
    int code = store_pack_list(s, engine_key(e), &packs, &n, err);
    if (code) return code;
    int64_t capacity = engine_config(e)->max_positions, reserve = library_reserve(e), held = 0, read = 0;
    int64_t room = capacity - reserve;
    for (size_t i = 0; i < n; i++) {
        held += packs[i].tokens;
        read += packs[i].read < packs[i].tokens ? packs[i].read : packs[i].tokens;
    }
    int64_t free_tokens = n ? room - packs[n - 1].tokens : room;
    *out = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:i}", "capacity", (json_int_t)capacity, "reserved",
                     (json_int_t)reserve, "packs", (json_int_t)n, "tokens", (json_int_t)held, "read",
                     (json_int_t)read, "free", (json_int_t)(free_tokens > 0 ? free_tokens : 0), "selected",
                     engine_topk(e));
    store_packs_free(packs, n);
    return PH_OK;
}

/* What OCR there is: the languages that are installed (none: tesseract is not), and those that are usual here. */
static json_t *ocr_json(const serve *v) {
    char list[INGEST_OCR_LIST_BYTES], *at = list;
    bool installed = ingest_ocr_languages(list);
    json_t *languages = json_array();
    for (char *name; (name = strsep(&at, " "));)
        if (name[0]) json_array_append_new(languages, json_text(name));
    return json_pack("{s:b, s:o, s:s}", "installed", installed, "languages", languages, "usual", v->options.ocr);
}

static int status(api_call *c, store *s, ph_error *err) {
    char why[480];
    jobs_figures f;
    store_totals t = {0};
    json_t *room = NULL;
    serve *v = c->serve;
    jobs_state state = jobs_engine(v->jobs, why, sizeof why);
    engine *e = jobs_engine_borrow(v->jobs);
    jobs_look(v->jobs, &f);
    int code = store_count(s, &t, err);
    if (!code) code = context_json(&room, e, s, err);
    if (code) return code;
    json_t *totals = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "documents", (json_int_t)t.documents, "text_bytes",
        (json_int_t)t.text_bytes, "packs", (json_int_t)t.packs, "tokens", (json_int_t)t.tokens, "answers",
        (json_int_t)t.answers, "database_bytes", (json_int_t)t.database_bytes, "file_bytes",
        (json_int_t)t.file_bytes, "snapshot_bytes", (json_int_t)t.snapshot_bytes);
    json_t *queue = json_pack("{s:i, s:i, s:s?, s:i}", "waiting", f.waiting, "capacity", f.capacity, "busy",
                              f.busy, "jobs", uploads_waiting(v->uploads));
    json_t *thinking =
        e ? json_pack("{s:b, s:b}", "able", engine_prompt(e)->think_begin >= 0, "usual", engine_thinks(e))
          : json_null();
    json_t *limits = json_pack("{s:I, s:i, s:i}", "upload_bytes", (json_int_t)v->options.upload_bytes,
                               "question_bytes", MAX_QUESTION_BYTES, "max_tokens", MAX_ANSWER_TOKENS);
    http_reply_json(
        c->http, 200,
        json_pack("{s:s, s:s, s:o, s:o, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:s}",
                  "version", PHAROS_VERSION, "state", state_names[state], "message", json_text(why), "model",
                  e ? json_text(engine_model_name(e)) : json_null(), "remote", e && engine_is_remote(e),
                  "ocr", ocr_json(v), "context", room, "totals", totals, "queue", queue, "reading", reading_json(&v->reading),
                  "reading_failed", reading_failed_json(&v->reading), "run", run_now_json(&v->run), "watch",
                  c->role == ROLE_MANAGE ? watching_json(v->watching) : json_null(), "limits", limits,
                  "thinking", thinking, "token_required", c->known, "role",
                  c->role == ROLE_MANAGE ? "manage" : "ask"));
    return PH_OK;
}

void api_status(api_call *c) {
    api_with_store(c, status);
}

void api_health(api_call *c) {
    char why[480];
    jobs_state state = jobs_engine(c->serve->jobs, why, sizeof why);
    http_reply_json(c->http, state == JOBS_READY ? 200 : 503,
                    json_pack("{s:s, s:o}", "status", state == JOBS_READY ? "ok" : state_names[state],
                              "message", json_text(why)));
}

/* ---- metrics ---- */

static void metric(FILE *f, const char *name, const char *type, const char *help, double value) {
    fprintf(f, "# HELP pharos_%s %s\n# TYPE pharos_%s %s\npharos_%s %.17g\n", name, help, name, type, name,
            value);
}

static void reply_metrics(FILE *f, serve *v) {
    jobs_figures q;
    jobs_look(v->jobs, &q);
    figures *g = &v->figures;
    fprintf(f,
            "# HELP pharos_replies_total Replies by class of status.\n# TYPE pharos_replies_total counter\n");
    for (int i = 2; i <= 5; i++)
        fprintf(f, "pharos_replies_total{class=\"%dxx\"} %llu\n", i,
                (unsigned long long)http_count(v->http, i));
    metric(f, "ready", "gauge", "Whether the model is loaded.", jobs_engine(v->jobs, NULL, 0) == JOBS_READY);
    metric(f, "requests_active", "gauge", "Requests under way.", http_active(v->http));
    metric(f, "queue_waiting", "gauge", "Jobs that wait for the engine.", q.waiting);
    metric(f, "queue_capacity", "gauge", "Questions that may wait.", q.capacity);
    metric(f, "files_waiting", "gauge", "Files that wait to be read or are being read.",
           uploads_waiting(v->uploads));
    metric(f, "questions_total", "counter", "Questions taken.", (double)q.asked);
    metric(f, "questions_refused_total", "counter", "Questions refused because the queue was full.",
           (double)q.refused);
    metric(f, "jobs_cancelled_total", "counter", "Jobs ended because their client left.",
           (double)q.cancelled);
    metric(f, "jobs_failed_total", "counter", "Jobs that failed.", (double)q.failed);
    metric(f, "engine_busy_seconds_total", "counter", "Time that the engine has worked.", q.busy_seconds);
    pthread_mutex_lock(&g->lock);
    metric(f, "answers_total", "counter", "Answers given.", (double)g->answers);
    metric(f, "answers_not_found_total", "counter", "Answers that say the documents do not tell.",
           (double)g->not_found);
    metric(f, "prompt_tokens_total", "counter", "Tokens of prompts.", (double)g->prompt_tokens);
    metric(f, "cached_tokens_total", "counter", "Of these, not read again.", (double)g->cached_tokens);
    metric(f, "completion_tokens_total", "counter", "Tokens written.", (double)g->completion_tokens);
    metric(f, "answer_seconds_total", "counter", "Time spent on answers.", g->answer_seconds);
    pthread_mutex_unlock(&g->lock);
    pthread_mutex_lock(&v->reading.lock);
    metric(f, "read_tokens_total", "counter", "Tokens of documents read.", (double)v->reading.tokens_read);
    pthread_mutex_unlock(&v->reading.lock);
    metric(f, "start_time_seconds", "gauge", "When the server started.", (double)v->started_at);
}

void api_metrics(api_call *c) {
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (f) {
        reply_metrics(f, c->serve);
        fclose(f);
    }
    if (text) http_reply_text(c->http, 200, "text/plain; version=0.0.4; charset=utf-8", text);
    free(text);
}
