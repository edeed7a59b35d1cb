/* answer.c - the one path everything else serves:
 *
 *     question -> what was said before it, where it follows another
 *              -> which packs -> open the pack's snapshot (its documents are already read)
 *              -> feed the question's tokens -> generate, collecting the selected positions
 *              -> positions -> document, page, sentence -> answer + citations -> store
 *
 * A pack is looked at twice at most: first the indexer may select among the few passages that full text finds
 * (and nothing is read again for that: it is the same snapshot); where the model finds no answer there, among
 * everything. The embedded model is right more often so (the README has the figure), and the answer says
 * which look it is from.
 *
 * Read answer_question() first; it is the path in order.
 */
#include "appliance/answer.h"

#include "appliance/choose.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { READ_SET_SIZE = 12, DEFAULT_TOKENS = 256 };

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* ---- asking one pack ---- */

typedef struct asking {
    const answer_options *options;
    const choice *choice;
    answer *answer;
    ph_error *err;
    int failed;
    int64_t cached;
    double started, first_token;
    double log_probability;
    size_t shown;   /* bytes of the answer that were handed out */
    size_t written; /* tokens of the answer, with those of a text that ended it */
    bool stopped;   /* by such a text */
    bool quiet;     /* several packs are asked: pieces of an answer that may lose are not shown */
} asking;

static int tell(asking *a, answer_phase phase, int64_t done, int64_t total) {
    return a->options->progress ? a->options->progress(a->options->user, phase, done, total, a->cached) : 0;
}

static int reading(void *user, int64_t done, int64_t total) {
    return tell(user, PHASE_READING, done, total);
}
static int feeding(void *user, int64_t done, int64_t total) {
    return tell(user, PHASE_ASKING, done, total);
}

/* The thought is told once, before the answer. */
static void hand_out(asking *a, const char *text, size_t len) {
    const answer_options *o = a->options;
    const answer_trace *thought = &a->answer->thought;
    if (a->shown == 0 && thought->text_len && o->thought)
        o->thought(o->user, thought->text, thought->text_len);
    o->piece(o->user, text, len);
}

/* Hands the answer out as it grows, but not while it may still turn out to be "not found": then another look
 * may follow. */
static void show(asking *a) {
    const answer_trace *t = &a->answer->trace;
    if (!a->options->piece || a->quiet || strncmp(ANSWER_NOT_FOUND, t->text, t->text_len) == 0) return;
    size_t ready = a->stopped ? t->text_len : stop_text_safe(&a->options->stops, t->text, t->text_len);
    if (ready <= a->shown) return;
    hand_out(a, t->text + a->shown, ready - a->shown);
    a->shown = ready;
}

/* A text that was named as an end has been written: it is no part of the answer. */
static void stop_at_text(asking *a, size_t before) {
    answer_trace *t = &a->answer->trace;
    size_t end = stop_text_find(&a->options->stops, t->text, t->text_len, before);
    if (end == SIZE_MAX) return;
    answer_trace_cut(t, end);
    a->stopped = true;
}

/* While a server keeps silent. */
static int waiting(void *user) {
    return tell(user, PHASE_ASKING, 1, 1);
}

static int wrote(void *user, const generate_step *step) {
    asking *a = user;
    answer_trace *t = step->thinking ? &a->answer->thought : &a->answer->trace;
    if (step->late) {
        int most = step->layers[0].count;
        a->failed = answer_trace_late(
            t, step, a->options->full_trace && most > TRACE_KEEP ? most : TRACE_KEEP, a->err);
        return a->failed;
    }
    if (!step->thinking) {
        if (!a->first_token) a->first_token = now_ms();
        a->log_probability += step->logprob;
    }
    int keep = TRACE_KEEP;
    if (a->options->full_trace && step->n_layers)
        for (int i = 0; i < step->n_layers; i++)
            keep = step->layers[i].count > keep ? step->layers[i].count : keep;
    size_t before = t->text_len;
    a->failed = answer_trace_add(t, step, t->n_tokens ? t->keep : keep, a->err);
    if (a->failed) return 1;
    if (!step->thinking) {
        a->written++;
        stop_at_text(a, before);
        show(a);
        if (a->stopped) return 1;
    }
    return tell(a, PHASE_WRITING, (int64_t)(a->answer->thought.n_tokens + a->answer->trace.n_tokens), 0);
}

static bool thinks(const engine *e, const answer_options *o) {
    return o->thinking == THINK_FIRST || (o->thinking == THINK_AS_MODEL && engine_thinks(e));
}

static int feed_question(session *s, engine *e, const char *question, asking *a, ph_error *err) {
    token_list tokens = {0};
    int code = turns_encode(&tokens, e, a->options->turns, a->options->n_turns, err);
    if (!code)
        code = prompt_question(engine_prompt(e), engine_tokenizer(e), question, strlen(question),
                               (a->options->n_turns > 0 ? PROMPT_FOLLOW_UP : 0) |
                                   (thinks(e, a->options) ? PROMPT_THINKING : 0),
                               &tokens, err);
    int64_t room = engine_config(e)->max_positions - session_length(s);
    if (!code && (int64_t)tokens.n >= room)
        code = ph_fail(err, PH_TOO_LARGE, "the question takes %zu tokens; this pack leaves room for %lld",
                       tokens.n, (long long)room);
    a->answer->row.prompt_tokens = session_length(s) + (int64_t)tokens.n;
    if (!code) code = session_feed(s, tokens.ids, (int64_t)tokens.n, feeding, a, err);
    token_list_free(&tokens);
    return code;
}

/* Everything from the trace: whole-answer masses, the read set, the citations. */
static int find_sources(answer *a, store *s, ph_error *err) {
    double *mass = calloc(a->pack.prompt.tokens.n + 1, sizeof *mass);
    if (!mass)
        return ph_fail(err, PH_MEMORY, "no memory for a trace over %zu tokens", a->pack.prompt.tokens.n);
    if (!a->untraced[0]) answer_traces_mass(&a->trace, &a->thought, &a->pack, -1, mass);
    int code = read_set_make(&a->read, &a->n_read, &a->pack, mass, READ_SET_SIZE, err);
    if (!code && a->row.found)
        code = citations_make(&a->row.citations, &a->row.n_citations, &a->pack, s, a->row.answer,
                              a->row.thought, mass, a->read, a->n_read, err);
    for (size_t i = 0; i < a->row.n_citations; i++) a->row.citations[i].untraced = a->untraced[0] != 0;
    free(mass);
    return code;
}

static bool is_not_found(const answer_trace *t) {
    return t->n_tokens == 0 || strcmp(t->text, ANSWER_NOT_FOUND) == 0;
}

/* One look: the question on top of the pack, with the indexer held to the given ranges (NULL = none). */
static int look(session *s, engine *e, const char *question, const kern_range *ranges, int n, asking *a,
                ph_error *err) {
    const answer_options *o = a->options;
    generate_options generate = {.max_tokens = o->max_tokens > 0 ? o->max_tokens : DEFAULT_TOKENS,
                                 .max_thinking = thinks(e, o) ? THOUGHT_TOKENS : 0,
                                 .temperature = o->temperature,
                                 .top_p = o->top_p,
                                 .seed = o->seed,
                                 .trace = true,
                                 .step = wrote,
                                 .waiting = waiting,
                                 .user = a};
    stop_reason why = STOP_EOS;
    answer_trace_free(&a->answer->trace);
    answer_trace_free(&a->answer->thought);
    a->log_probability = 0;
    a->first_token = 0;
    a->written = 0;
    a->stopped = false;
    int code = session_restrict(s, ranges, n, err);
    if (!code) code = feed_question(s, e, question, a, err);
    if (!code) code = session_generate(s, &generate, &why, err);
    if (!code && a->failed) code = a->failed;
    if (!code && why == STOP_CALLBACK && !a->stopped)
        code = ph_fail(err, PH_INTERRUPTED, "stopped while answering");
    a->answer->cut_off = why == STOP_LENGTH || why == STOP_CONTEXT;
    return code;
}

/* First among the passages that full text finds, then, where nothing answers there, among everything. */
static int look_twice(session *s, engine *e, const char *question, asking *a, ph_error *err) {
    const loaded_pack *p = &a->answer->pack;
    kern_range *ranges = NULL;
    int64_t start = session_length(s);
    int n = 0, passages = 0, code = PH_OK;
    if (!a->options->whole && !engine_is_remote(e)) { /* a server reads all that it is sent */
        code = choose_passages(&ranges, &n, &passages, p, a->choice, a->options, err);
        if (!code && passages) code = look(s, e, question, ranges, n, a, err);
        free(ranges);
        ranges = NULL;
        if (code) return code;
        a->answer->passages = passages;
        if (passages && !is_not_found(&a->answer->trace)) return PH_OK;
    }
    a->answer->passages = 0;
    code = session_rewind(s, start, err);
    if (!code) code = choose_everything(&ranges, &n, p, a->options, err);
    if (!code) code = look(s, e, question, ranges, n, a, err);
    free(ranges);
    return code;
}

/* The written bytes as a string of the same length: a byte 0 would end the answer for everybody who reads it.
 */
static char *answer_text(const answer_trace *t) {
    char *out = calloc(t->text_len + 1, 1);
    for (size_t i = 0; out && i < t->text_len; i++) out[i] = t->text[i] ? t->text[i] : '?';
    return out;
}

/* What only the session knows: a server's own counts, and why there may be no trace. */
static void note_session(answer *out, const session *s, generate_usage *usage, bool *counted) {
    const char *why = s ? session_untraced(s) : NULL;
    *counted = s && session_usage(s, usage);
    if (why) snprintf(out->untraced, sizeof out->untraced, "%s", why);
}

static int ask_pack(answer *out, int64_t pack, const choice *c, store *s, engine *e, const char *question,
                    const answer_options *o, ph_error *err) {
    asking a = {.options = o, .choice = c, .answer = out, .err = err, .started = now_ms(), .quiet = c->n > 1};
    context *read = NULL;
    session *conversation = NULL;
    int code = pack_load(&out->pack, s, e, pack, err);
    if (!code) code = pack_read(&read, &out->pack, s, e, reading, &a, &a.cached, &out->note, err);
    double read_done = now_ms();
    if (!code) code = session_open(&conversation, read, err);
    if (!code) code = look_twice(conversation, e, question, &a, err);
    generate_usage usage = {0};
    bool counted = false;
    note_session(out, conversation, &usage, &counted);
    session_close(conversation);
    context_close(read);
    if (code) return code;

    store_answer *row = &out->row;
    row->pack = pack;
    row->question = strdup(question);
    row->answer = answer_text(&out->trace);
    row->model = strdup(engine_model_name(e));
    if (out->thought.text_len) row->thought = answer_text(&out->thought);
    row->cut_off = out->cut_off;
    row->passages = out->passages;
    row->follows = o->follows;
    row->turns = (int64_t)o->n_turns;
    if (!row->question || !row->answer || !row->model || (out->thought.text_len && !row->thought))
        return ph_fail(err, PH_MEMORY, "no memory for an answer");
    memcpy(row->key, engine_key(e), sizeof row->key);
    memcpy(row->owner, o->owner, sizeof row->owner);
    size_t n = out->trace.n_tokens;
    row->found = !is_not_found(&out->trace);
    row->asked_at = (int64_t)time(NULL) * 1000;
    row->cached_tokens = a.cached;
    row->completion_tokens = (int64_t)(a.written + out->thought.n_tokens);
    if (counted) {
        row->prompt_tokens = usage.prompt_tokens;
        row->cached_tokens = usage.cached_tokens;
        row->completion_tokens = usage.completion_tokens;
    }
    row->prefill_ms = read_done - a.started;
    row->first_token_ms = (a.first_token ? a.first_token : now_ms()) - a.started;
    row->total_ms = now_ms() - a.started;
    out->confidence = n && isfinite(a.log_probability) ? exp(a.log_probability / (double)a.written) : 0;
    if (o->piece && !a.quiet && a.shown < strlen(row->answer))
        hand_out(&a, row->answer + a.shown, strlen(row->answer) - a.shown);
    return find_sources(out, s, err);
}

/* A found answer beats none; among equals the model's own confidence decides. */
static bool better(const answer *a, const answer *b) {
    if (a->row.found != b->row.found) return a->row.found;
    return a->confidence > b->confidence;
}

static int keep(answer *a, store *s, ph_error *err) {
    void *blob = NULL;
    size_t len = 0;
    int code = a->untraced[0] ? PH_OK : answer_traces_pack(&a->trace, &a->thought, &blob, &len, err);
    if (!code) code = store_answer_add(s, &a->row, blob, len, err);
    free(blob);
    return code;
}

/* What full text is searched for: of a conversation the question before too, which a short one leans on.
 * Owned. */
static char *search_text(const char *question, const answer_options *o) {
    char *out = NULL;
    const char *before = o->n_turns ? o->turns[o->n_turns - 1].question : "";
    return asprintf(&out, "%s %s", question, before) < 0 ? NULL : out;
}

/* The best of what the packs answer. */
static int ask_packs(answer *out, store *s, engine *e, const char *question, const answer_options *o,
                     ph_error *err) {
    choice c = {0};
    char *search = search_text(question, o);
    int code =
        search ? library_pack(s, e, NULL, NULL, err) : ph_fail(err, PH_MEMORY, "no memory for a question");
    if (!code) code = choice_make(&c, s, e, search, o, err);
    free(search);
    for (int i = 0; i < c.n && !code; i++) {
        answer next = {0};
        code = ask_pack(&next, c.packs[i].pack, &c, s, e, question, o, err);
        if (!code && (i == 0 || better(&next, out))) {
            answer lost = *out;
            *out = next;
            next = lost;
        }
        answer_free(&next);
    }
    out->packs_asked = c.n;
    out->packs_all = c.all;
    if (!code && c.n > 1 && o->piece)
        hand_out(&(asking){.options = o, .answer = out}, out->row.answer, strlen(out->row.answer));
    choice_free(&c);
    return code;
}

int answer_question(answer *out, store *s, engine *e, const char *question, const answer_options *o,
                    ph_error *err) {
    memset(out, 0, sizeof *out);
    answer_options with = *o;
    turn_list before = {0};
    int code = o->follows ? turns_follow(&before, s, e, o->follows, o->owner, err) : PH_OK;
    if (o->follows) {
        with.turns = before.turns;
        with.n_turns = before.n;
    }
    if (!code) code = ask_packs(out, s, e, question, &with, err);
    out->row.turns_left_out = (int64_t)before.left_out;
    turn_list_free(&before);
    if (!code && !o->discard) code = keep(out, s, err);
    if (code) answer_free(out);
    return code;
}

void answer_free(answer *a) {
    store_answer_free(&a->row);
    answer_trace_free(&a->trace);
    answer_trace_free(&a->thought);
    pack_unload(&a->pack);
    free(a->read);
    memset(a, 0, sizeof *a);
}
