/* api_answers.c - questions and answers so far. */
#include "appliance/api.h"

#include "appliance/command.h"
#include "appliance/show.h"

enum { LISTED = 100, MOST_LISTED = 1000 };

static json_t *row_json(const store_answer *r) {
    json_t *citations = json_array();
    for (size_t i = 0; i < r->n_citations; i++)
        json_array_append_new(citations, citation_json(&r->citations[i]));
    return json_pack("{s:I, s:I, s:I, s:o, s:o, s:b, s:o, s:{s:I, s:I, s:I}, s:{s:f, s:f, s:f}, s:o, s:o, "
                     "s:o, s:b, s:o, s:o, s:I, s:I}",
                     "id", (json_int_t)r->id, "conversation", (json_int_t)r->conversation, "asked_at",
                     (json_int_t)r->asked_at, "question", json_text(r->question), "answer",
                     json_text(r->answer), "found", (int)r->found, "citations", citations, "usage",
                     "prompt_tokens", (json_int_t)r->prompt_tokens, "cached_tokens",
                     (json_int_t)r->cached_tokens, "completion_tokens", (json_int_t)r->completion_tokens,
                     "timing", "prefill_ms", r->prefill_ms, "first_token_ms", r->first_token_ms, "total_ms",
                     r->total_ms, "pack", r->pack ? json_integer(r->pack) : json_null(), "model",
                     json_text(r->model), "thought", json_text(r->thought), "cut_off", (int)r->cut_off,
                     "passages", r->passages < 0 ? json_null() : json_integer(r->passages), "follows",
                     r->follows ? json_integer(r->follows) : json_null(), "turns", (json_int_t)r->turns,
                     "turns_left_out", (json_int_t)r->turns_left_out);
}

static int list(api_call *c, store *s, ph_error *err) {
    store_answer *rows = NULL;
    size_t n = 0;
    int64_t limit = LISTED;
    if (http_number(c->http, "limit", 1, MOST_LISTED, &limit) < 0) return PH_OK;
    int code = c->known ? store_answer_list_of(s, c->owner, (size_t)limit, &rows, &n, err)
                        : store_answer_list(s, (size_t)limit, &rows, &n, err);
    if (code) return code;
    json_t *out = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(out, row_json(&rows[i]));
    store_answers_free(rows, n);
    http_reply_json(c->http, 200, json_pack("{s:o}", "answers", out));
    return PH_OK;
}

void api_answers_list(api_call *c) {
    api_with_store(c, list);
}

static int get(api_call *c, store *s, ph_error *err) {
    store_answer row = {0};
    int code = api_own_answer(c, s, &row, err);
    if (!code) http_reply_json(c->http, 200, row_json(&row));
    store_answer_free(&row);
    return code;
}

void api_answers_get(api_call *c) {
    api_with_store(c, get);
}

static int erase(api_call *c, store *s, ph_error *err) {
    store_receipt r = {0};
    store_answer row = {0};
    int code = api_own_answer(c, s, &row, err);
    store_answer_free(&row);
    if (!code) code = store_answer_delete(s, c->id, &r, err);
    if (!code) http_reply_json(c->http, 200, api_receipt_json(&r));
    return code;
}

void api_answers_delete(api_call *c) {
    api_with_store(c, erase);
}
