/* chat.c - see chat.h. */
#include "appliance/chat.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DEFAULT_TOKENS = 256 };

void chat_messages_free(chat_message *list, size_t n) {
    for (size_t i = 0; i < n; i++) free(list[i].text);
    free(list);
}

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* BOS system <|User|> text <|Assistant|> </think> text EOS ... (prompt.h), up to the last user's text. */
static int encode(token_list *l, const engine *e, const chat_message *list, size_t n, ph_error *err) {
    const prompt_tokens *p = engine_prompt(e);
    int code = token_list_push(l, p->bos, 0, false, err);
    for (size_t i = 0; i < n && !code; i++) {
        const chat_message *m = &list[i];
        if (m->role == CHAT_USER) code = token_list_push(l, p->user, 0, false, err);
        if (m->role == CHAT_ASSISTANT) {
            code = token_list_push(l, p->assistant, 0, false, err);
            if (!code) code = token_list_push(l, p->think_end, 0, false, err);
        }
        if (!code) code = tokenizer_encode(engine_tokenizer(e), m->text, strlen(m->text), 0, 0, l, err);
        if (!code && m->role == CHAT_ASSISTANT) code = token_list_push(l, p->eos, 0, false, err);
    }
    return code;
}

typedef struct chatting {
    const answer_options *options;
    answer *answer;
    ph_error *err;
    int64_t cached;
    int failed;
    size_t shown, written; /* bytes handed out; tokens, with those of a text that ended the answer */
    bool stopped;          /* by such a text */
    double first_token;
} chatting;

static int tell(chatting *c, answer_phase phase, int64_t done, int64_t total) {
    return c->options->progress ? c->options->progress(c->options->user, phase, done, total, c->cached) : 0;
}

static int reading(void *user, int64_t done, int64_t total) {
    return tell(user, PHASE_READING, done, total);
}
static int waiting(void *user) {
    return tell(user, PHASE_ASKING, 1, 1);
}

/* The answer's bytes up to `end`, but for those that were handed out before. */
static void hand_out(chatting *c, size_t end) {
    if (c->options->piece && end > c->shown)
        c->options->piece(c->options->user, c->answer->trace.text + c->shown, end - c->shown);
    if (end > c->shown) c->shown = end;
}

static int wrote(void *user, const generate_step *step) {
    chatting *c = user;
    answer_trace *t = &c->answer->trace; /* for its text; nothing is traced */
    generate_step plain = *step;
    if (step->late) return 0;
    if (!c->first_token) c->first_token = now_ms();
    plain.layers = NULL;
    plain.n_layers = 0;
    size_t before = t->text_len;
    c->failed = answer_trace_add(t, &plain, 1, c->err);
    if (c->failed) return 1;
    c->written++;
    size_t end = stop_text_find(&c->options->stops, t->text, t->text_len, before);
    c->stopped = end != SIZE_MAX;
    if (c->stopped) answer_trace_cut(t, end);
    size_t ready = c->stopped ? t->text_len : stop_text_safe(&c->options->stops, t->text, t->text_len);
    hand_out(c, ready);
    if (c->stopped) return 1;
    return tell(c, PHASE_WRITING, (int64_t)t->n_tokens, 0);
}

static int generate(session *s, const engine *e, chatting *c, ph_error *err) {
    const answer_options *o = c->options;
    const int32_t turn[] = {engine_prompt(e)->assistant, engine_prompt(e)->think_end};
    generate_options g = {.max_tokens = o->max_tokens > 0 ? o->max_tokens : DEFAULT_TOKENS,
                          .temperature = o->temperature,
                          .top_p = o->top_p,
                          .seed = o->seed,
                          .step = wrote,
                          .waiting = waiting,
                          .user = c};
    stop_reason why = STOP_EOS;
    int code = session_feed(s, turn, 2, NULL, NULL, err);
    if (!code) code = session_generate(s, &g, &why, err);
    if (!code && c->failed) code = c->failed;
    if (!code && why == STOP_CALLBACK && !c->stopped)
        code = ph_fail(err, PH_INTERRUPTED, "stopped while answering");
    if (!code) hand_out(c, c->answer->trace.text_len);
    c->answer->cut_off = why == STOP_LENGTH || why == STOP_CONTEXT;
    return code;
}

static int read_messages(context **kept, engine *e, const token_list *l, chatting *c, ph_error *err) {
    int64_t most = engine_config(e)->max_positions, asked = (int64_t)l->n + 2;
    if (asked >= most)
        return ph_fail(err, PH_TOO_LARGE, "the messages take %lld tokens, and the context has %lld",
                       (long long)asked, (long long)most);
    int code = *kept ? PH_OK : context_open(kept, e, NULL, 0, NULL, err);
    return code ? code : context_read(*kept, l->ids, (int64_t)l->n, reading, c, &c->cached, err);
}

int chat_answer(answer *out, context **kept, engine *e, const chat_message *list, size_t n,
                const answer_options *o, ph_error *err) {
    memset(out, 0, sizeof *out);
    chatting c = {.options = o, .answer = out, .err = err};
    token_list tokens = {0};
    session *s = NULL;
    double started = now_ms();
    int code = encode(&tokens, e, list, n, err);
    if (!code) code = read_messages(kept, e, &tokens, &c, err);
    double read_done = now_ms();
    if (!code) code = session_open(&s, *kept, err);
    if (!code) code = generate(s, e, &c, err);
    generate_usage u = {(int64_t)tokens.n + 2, c.cached, (int64_t)c.written};
    if (s) session_usage(s, &u);
    session_close(s);
    token_list_free(&tokens);
    store_answer *row = &out->row;
    if (!code && (!(row->answer = strdup(out->trace.text ? out->trace.text : "")) ||
                  !(row->model = strdup(engine_model_name(e)))))
        code = ph_fail(err, PH_MEMORY, "no memory for an answer");
    if (code) {
        answer_free(out);
        return code;
    }
    row->found = true;
    row->asked_at = (int64_t)time(NULL) * 1000;
    row->prompt_tokens = u.prompt_tokens;
    row->cached_tokens = u.cached_tokens;
    row->completion_tokens = u.completion_tokens;
    row->prefill_ms = read_done - started;
    row->first_token_ms = (c.first_token ? c.first_token : now_ms()) - started;
    row->total_ms = now_ms() - started;
    return PH_OK;
}
