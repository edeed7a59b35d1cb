/* answer.c - the one path everything else serves:
 *
 *     question -> which packs -> open the pack's snapshot (its documents are already read)
 *              -> feed the question's tokens -> generate, collecting the selected positions
 *              -> positions -> document, page, sentence -> answer + citations -> store
 *
 * Read answer_question() first; it is the path in order.
 */
#include "appliance/answer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { READ_SET_SIZE = 12, DEFAULT_PACKS = 3, DEFAULT_TOKENS = 256, SEARCH_HITS = 50 };

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* ---- which packs ---- */

typedef struct candidate {
    int64_t pack;
    double score;
} candidate;

static bool wanted(const answer_options *o, int64_t document) {
    if (!o->documents) return true;
    for (size_t i = 0; i < o->n_documents; i++)
        if (o->documents[i] == document) return true;
    return false;
}

static int best_first(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    return (x->pack > y->pack) - (x->pack < y->pack);
}

static bool span_holds(const store_pack_item *item, const store_hit *hit) {
    return item->document == hit->document && hit->start < item->text_end && hit->end > item->text_start;
}

/* The packs that may hold the answer, most promising first: with more than one, ranked by full text over
 * their passages. *out owned by the caller. */
static int choose_packs(candidate **out, int *n, int *all, store *s, engine *e, const char *question,
                        const answer_options *o, ph_error *err) {
    store_pack *packs = NULL;
    store_hit *hits = NULL;
    size_t n_packs = 0, n_hits = 0;
    *n = *all = 0;
    *out = NULL;
    int code = store_pack_list(s, engine_key(e), &packs, &n_packs, err);
    if (!code && n_packs > 1) code = store_search(s, question, SEARCH_HITS, &hits, &n_hits, err);
    if (!code && !(*out = calloc(n_packs + 1, sizeof **out)))
        code = ph_fail(err, PH_MEMORY, "no memory for packs");
    for (size_t i = 0; i < n_packs && !code; i++) {
        bool use = false;
        double score = 0;
        for (size_t j = 0; j < packs[i].n_items; j++) {
            use |= wanted(o, packs[i].items[j].document);
            /* A pack is as promising as its few best passages: many weak hits are mere size. */
            for (size_t h = 0; h < n_hits; h++)
                if (span_holds(&packs[i].items[j], &hits[h]) && wanted(o, hits[h].document))
                    score = fmax(score, hits[h].score);
        }
        if (!use || (o->pack && packs[i].id != o->pack)) continue;
        (*out)[(*n)++] = (candidate){packs[i].id, score};
    }
    store_packs_free(packs, n_packs);
    free(hits);
    if (code) return code;
    *all = *n;
    qsort(*out, (size_t)*n, sizeof **out, best_first);
    int most = o->max_packs > 0 ? o->max_packs : DEFAULT_PACKS;
    if (*n > most) *n = most;
    if (*n == 0 && o->pack)
        return ph_fail(err, PH_NOT_FOUND, "there is no pack %lld for this model", (long long)o->pack);
    if (*n == 0) return ph_fail(err, PH_NOT_FOUND, "there are no documents yet: add some with `pharos add`");
    return PH_OK;
}

/* ---- asking one pack ---- */

typedef struct asking {
    const answer_options *options;
    answer *answer;
    ph_error *err;
    int failed;
    int64_t cached;
    double started, first_token;
    double log_probability;
    bool quiet; /* several packs are asked: pieces of an answer that may lose are not shown */
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

static int wrote(void *user, const generate_step *step) {
    asking *a = user;
    if (!a->first_token) a->first_token = now_ms();
    a->log_probability += step->logprob;
    int keep = TRACE_KEEP;
    if (a->options->full_trace && step->n_layers)
        for (int i = 0; i < step->n_layers; i++)
            keep = step->layers[i].count > keep ? step->layers[i].count : keep;
    a->failed = answer_trace_add(&a->answer->trace, step,
                                 a->answer->trace.n_tokens ? a->answer->trace.keep : keep, a->err);
    if (a->failed) return 1;
    if (a->options->piece && !a->quiet) a->options->piece(a->options->user, step->piece, step->piece_len);
    return tell(a, PHASE_WRITING, (int64_t)a->answer->trace.n_tokens, 0);
}

/* Only the chosen documents may be selected, and the prompt's beginning, which attention rests on. */
static int restrict_session(session *s, const loaded_pack *p, const answer_options *o, ph_error *err) {
    if (!o->documents) return PH_OK;
    kern_range *ranges = malloc((p->n_texts + 1) * sizeof *ranges);
    if (!ranges) return ph_fail(err, PH_MEMORY, "no memory for %zu documents", p->n_texts);
    int n = 0;
    ranges[n++] = (kern_range){0, 2};
    for (size_t i = 0; i < p->n_texts; i++)
        if (wanted(o, p->texts[i].document))
            ranges[n++] = (kern_range){p->texts[i].span.token_start, p->texts[i].span.token_end};
    int code = session_restrict(s, ranges, n, err);
    free(ranges);
    return code;
}

static int feed_question(session *s, engine *e, const char *question, asking *a, ph_error *err) {
    token_list tokens = {0};
    int code =
        prompt_question(engine_prompt(e), engine_tokenizer(e), question, strlen(question), 0, &tokens, err);
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
    answer_trace_mass(&a->trace, &a->pack, 0, a->trace.n_tokens, -1, mass);
    int code = read_set_make(&a->read, &a->n_read, &a->pack, mass, READ_SET_SIZE, err);
    if (!code && a->row.found)
        code = citations_make(&a->row.citations, &a->row.n_citations, &a->pack, s, a->row.answer, mass,
                              a->read, a->n_read, err);
    free(mass);
    return code;
}

static int ask_pack(answer *out, int64_t pack, bool quiet, store *s, engine *e, const char *question,
                    const answer_options *o, ph_error *err) {
    asking a = {.options = o, .answer = out, .err = err, .started = now_ms(), .quiet = quiet};
    context *c = NULL;
    session *conversation = NULL;
    int code = pack_load(&out->pack, s, e, pack, err);
    if (!code) code = pack_read(&c, &out->pack, s, e, reading, &a, &a.cached, &out->note, err);
    double read_done = now_ms();
    if (!code) code = session_open(&conversation, c, err);
    if (!code) code = restrict_session(conversation, &out->pack, o, err);
    if (!code) code = feed_question(conversation, e, question, &a, err);
    generate_options generate = {.max_tokens = o->max_tokens > 0 ? o->max_tokens : DEFAULT_TOKENS,
                                 .temperature = o->temperature,
                                 .top_p = o->top_p,
                                 .seed = o->seed,
                                 .trace = true,
                                 .step = wrote,
                                 .user = &a};
    stop_reason why = STOP_EOS;
    if (!code) code = session_generate(conversation, &generate, &why, err);
    if (!code && a.failed) code = a.failed;
    if (!code && why == STOP_CALLBACK) code = ph_fail(err, PH_INTERRUPTED, "stopped while answering");
    session_close(conversation);
    context_close(c);
    if (code) return code;

    store_answer *row = &out->row;
    row->pack = pack;
    row->question = strdup(question);
    row->answer = strdup(out->trace.text ? out->trace.text : "");
    row->model = strdup(engine_model_name(e));
    if (!row->question || !row->answer || !row->model)
        return ph_fail(err, PH_MEMORY, "no memory for an answer");
    memcpy(row->key, engine_key(e), sizeof row->key);
    size_t n = out->trace.n_tokens;
    row->found = n > 0 && strcmp(row->answer, ANSWER_NOT_FOUND) != 0;
    row->asked_at = (int64_t)time(NULL) * 1000;
    row->cached_tokens = a.cached;
    row->completion_tokens = (int64_t)n;
    row->prefill_ms = read_done - a.started;
    row->first_token_ms = (a.first_token ? a.first_token : now_ms()) - a.started;
    row->total_ms = now_ms() - a.started;
    out->confidence = n ? exp(a.log_probability / (double)n) : 0;
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
    int code = answer_trace_pack(&a->trace, &blob, &len, err);
    if (!code) code = store_answer_add(s, &a->row, blob, len, err);
    free(blob);
    return code;
}

int answer_question(answer *out, store *s, engine *e, const char *question, const answer_options *o,
                    ph_error *err) {
    memset(out, 0, sizeof *out);
    candidate *packs = NULL;
    int n = 0, all = 0;
    int code = library_pack(s, e, NULL, err);
    if (!code) code = choose_packs(&packs, &n, &all, s, e, question, o, err);
    for (int i = 0; i < n && !code; i++) {
        answer next = {0};
        code = ask_pack(&next, packs[i].pack, n > 1, s, e, question, o, err);
        if (!code && (i == 0 || better(&next, out))) {
            answer lost = *out;
            *out = next;
            next = lost;
        }
        answer_free(&next);
    }
    free(packs);
    out->packs_asked = n;
    out->packs_all = all;
    if (!code && n > 1 && o->piece) o->piece(o->user, out->row.answer, strlen(out->row.answer));
    if (!code && !o->discard) code = keep(out, s, err);
    if (code) answer_free(out);
    return code;
}

void answer_free(answer *a) {
    store_answer_free(&a->row);
    answer_trace_free(&a->trace);
    pack_unload(&a->pack);
    free(a->read);
    memset(a, 0, sizeof *a);
}
