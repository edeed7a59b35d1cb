/* eval_run.c - runs a plan: each haystack read once, its questions asked one after another from where it
 * ends, every cell stored as it is done. Read eval_run() last; it is the loop.
 */
#include "appliance/eval_ask.h"
#include "appliance/eval_bm25.h"
#include "appliance/eval_haystack.h"
#include "appliance/eval_verdict.h"
#include "appliance/read_set.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { KL_POSITIONS = 8, PASSAGE_BYTES = 1200, BM25_LIMIT = 20 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

typedef struct running {
    store *store;
    engine *engine;
    const eval_plan *plan;
    const eval_options *options;
    int64_t run;
    uint8_t *done; /* [plan->cells] */
    size_t n_done;
    context *context;
    ph_error *err;

    /* the haystack at hand */
    size_t group;
    eval_haystack haystack;
    eval_bm25 *bm25;
    float *dense; /* compare: [questions, KL_POSITIONS, vocab] logits of the dense pass */
    int variant;
    double prefill_s;
    int64_t read_tokens;
    bool prefill_told;
} running;

/* Resident memory of the process; 0 where the system does not tell. */
static int64_t resident_bytes(void) {
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f) return 0;
    if (fscanf(f, "%*s %ld", &pages) != 1) pages = 0;
    fclose(f);
    return (int64_t)pages * sysconf(_SC_PAGESIZE);
}

/* ---- one answer ---- */

typedef struct answering {
    running *run;
    session *session;
    const eval_question *question;
    char *text;
    size_t len, capacity;
    uint32_t *ends;
    int n_tokens, capacity_tokens, failed;
    double log_probability, first_token;
    eval_sights sights, thought_sights;
    answer_trace trace;   /* of all tokens */
    answer_trace thought; /* its text is what counts here */
} answering;

static void answering_free(answering *a) {
    free(a->text);
    free(a->ends);
    eval_sights_free(&a->sights);
    eval_sights_free(&a->thought_sights);
    answer_trace_free(&a->trace);
    answer_trace_free(&a->thought);
}

static int keep_piece(answering *a, const generate_step *step, ph_error *err) {
    if (a->len + step->piece_len + 1 > a->capacity) {
        size_t n = (a->len + step->piece_len + 1) * 2;
        char *more = realloc(a->text, n);
        if (!more) return ph_fail(err, PH_MEMORY, "no memory for an answer");
        a->text = more;
        a->capacity = n;
    }
    if (a->n_tokens == a->capacity_tokens) {
        int n = a->capacity_tokens * 2 + 32;
        uint32_t *more = realloc(a->ends, (size_t)n * sizeof *more);
        if (!more) return ph_fail(err, PH_MEMORY, "no memory for an answer");
        a->ends = more;
        a->capacity_tokens = n;
    }
    if (step->piece_len) memcpy(a->text + a->len, step->piece, step->piece_len);
    a->len += step->piece_len;
    a->text[a->len] = 0;
    a->ends[a->n_tokens++] = (uint32_t)a->len;
    return PH_OK;
}

/* The thought may read the place for the answer: its steps count for the read set, and are told apart. */
static int thought(answering *a, const generate_step *step, ph_error *err) {
    int code = answer_trace_add(&a->thought, step, 1, err);
    if (!code && step->layers) code = answer_trace_add(&a->trace, step, TRACE_KEEP, err);
    return code ? code
                : eval_sights_add(&a->thought_sights, a->session, step, a->question->spans,
                                  a->question->n_spans, err);
}

static int wrote(void *user, const generate_step *step) {
    answering *a = user;
    running *r = a->run;
    if (step->thinking) {
        a->failed = thought(a, step, r->err);
        return a->failed != PH_OK;
    }
    if (step->late) { /* a served model: what it selected comes after the answer */
        a->failed = answer_trace_late(&a->trace, step, TRACE_KEEP, r->err);
        if (!a->failed)
            a->failed = eval_sights_add(&a->sights, a->session, step, a->question->spans,
                                        a->question->n_spans, r->err);
        return a->failed != PH_OK;
    }
    if (!a->n_tokens) a->first_token = now();
    a->log_probability += step->logprob;
    a->failed = keep_piece(a, step, r->err);
    bool traced = step->layers || engine_is_remote(r->engine);
    if (!a->failed && traced) a->failed = answer_trace_add(&a->trace, step, TRACE_KEEP, r->err);
    if (!a->failed)
        a->failed =
            eval_sights_add(&a->sights, a->session, step, a->question->spans, a->question->n_spans, r->err);
    return a->failed != PH_OK;
}

/* An answer that ended before it began: what the model saw when it ended it. */
static int add_unwritten(answering *a, ph_error *err) {
    generate_step step = {0};
    step.layers = session_trace(a->session, &step.n_layers);
    return step.layers ? eval_sights_add(&a->sights, a->session, &step, a->question->spans, a->question->n_spans, err)
                       : PH_OK;
}

static int feed_question(running *r, session *s, const eval_question *q, ph_error *err) {
    token_list tokens = {0};
    const tokenizer *t = engine_tokenizer(r->engine);
    int code = prompt_question(engine_prompt(r->engine), t, q->question, strlen(q->question),
                               r->plan->params->thinking == THINK_FIRST ? PROMPT_THINKING : 0, &tokens, err);
    if (!code && q->prefix) code = tokenizer_encode(t, q->prefix, strlen(q->prefix), 0, 0, &tokens, err);
    if (!code) code = session_feed(s, tokens.ids, (int64_t)tokens.n, NULL, NULL, err);
    token_list_free(&tokens);
    return code;
}

/* ---- sparse against dense ---- */

/* KL(p || q) of two rows of logits, and whether their best tokens agree. */
static double divergence(const float *p, const float *q, int n, bool *agree) {
    double most_p = -INFINITY, most_q = -INFINITY, sum_p = 0, sum_q = 0, kl = 0;
    int best_p = 0, best_q = 0;
    for (int i = 0; i < n; i++) {
        if (p[i] > most_p) most_p = p[best_p = i];
        if (q[i] > most_q) most_q = q[best_q = i];
    }
    for (int i = 0; i < n; i++) {
        sum_p += exp(p[i] - most_p);
        sum_q += exp(q[i] - most_q);
    }
    double log_p = most_p + log(sum_p), log_q = most_q + log(sum_q);
    for (int i = 0; i < n; i++) kl += exp(p[i] - log_p) * ((p[i] - log_p) - (q[i] - log_q));
    *agree = best_p == best_q;
    return kl > 0 ? kl : 0;
}

/* Feeds the reference answer token by token and keeps (dense) or compares the logits before each. */
static int compare_logits(running *r, session *s, size_t question, json_t *result, ph_error *err) {
    const eval_question *q = &r->haystack.questions[question];
    const char *reference = q->n_answers ? q->answers[0] : "Not found in the documents.";
    int vocab = engine_config(r->engine)->vocab, agreed = 0;
    float *dense = r->dense + question * KL_POSITIONS * (size_t)vocab;
    token_list tokens = {0};
    double sum = 0;
    int code =
        tokenizer_encode(engine_tokenizer(r->engine), reference, strlen(reference), 0, 0, &tokens, err);
    int n = tokens.n < KL_POSITIONS ? (int)tokens.n : KL_POSITIONS;
    for (int i = 0; i < n && !code; i++) {
        const float *logits = session_logits(s);
        bool agree = true;
        if (r->variant == 0)
            memcpy(dense + (size_t)i * (size_t)vocab, logits, (size_t)vocab * sizeof *dense);
        else
            sum += divergence(dense + (size_t)i * (size_t)vocab, logits, vocab, &agree);
        agreed += agree;
        if (i + 1 < n) code = session_feed(s, &tokens.ids[i], 1, NULL, NULL, err);
    }
    token_list_free(&tokens);
    if (!code && n)
        json_object_set_new(
            result, "kl",
            json_pack("{s:f, s:f, s:i}", "mean", sum / n, "agree", (double)agreed / n, "positions", n));
    return code;
}

/* ---- a cell ---- */

static json_t *sight_json(const eval_sight *s) {
    return json_pack("[I, f, f]", (json_int_t)s->rank, (double)s->share, (double)s->mass);
}

/* [rank, share of the span's tokens selected, mass]: of the first token and of all, layer by layer; of every
 * token. */
static json_t *trace_json(const eval_sights *s) {
    json_t *first = json_array(), *layers = json_array(), *steps = json_array();
    for (int l = 0; l < s->layers && s->n_steps; l++) {
        eval_sight a = eval_sights_best(s, 0, 1, l, l + 1, 0, s->n_spans),
                   b = eval_sights_best(s, 0, s->n_steps, l, l + 1, 0, s->n_spans);
        json_array_append_new(first, sight_json(&a));
        json_array_append_new(layers, sight_json(&b));
    }
    for (int t = 0; t < s->n_steps; t++) {
        eval_sight a = eval_sights_best(s, t, t + 1, 0, s->layers, 0, s->n_spans);
        json_array_append_new(steps, sight_json(&a));
    }
    eval_sight any = eval_sights_best(s, 0, 1, 0, s->layers, 0, s->n_spans);
    return json_pack("{s:b, s:o, s:o, s:o}", "held", any.share > 0, "first", first, "layers", layers, "steps",
                     steps);
}

/* Does the heaviest sentence of what was read stand in the source? Beside it, the source's rank by BM25. */
static int add_sources(running *r, const answering *a, json_t *result, ph_error *err) {
    const eval_question *q = a->question;
    const loaded_pack *p = &r->haystack.pack;
    if (q->text < 0) return PH_OK;
    if (a->trace.layers) {
        double *mass = calloc(p->prompt.tokens.n + 1, sizeof *mass);
        read_sentence *read = NULL;
        size_t n = 0;
        if (!mass) return ph_fail(err, PH_MEMORY, "no memory for a trace");
        answer_trace_mass(&a->trace, p, 0, a->trace.n_tokens, -1, mass);
        int code = read_set_make(&read, &n, p, mass, 8, err);
        free(mass);
        if (code) return code;
        int rank = 0;
        for (size_t i = 0; i < n && !rank; i++)
            if (read[i].text == &p->texts[q->text] && read[i].start < q->end && read[i].end > q->start)
                rank = (int)i + 1;
        free(read);
        json_object_set_new(result, "read_rank", json_integer(rank));
    }
    int rank = 0;
    if (!r->bm25) {
        int code = eval_bm25_make(&r->bm25, p, PASSAGE_BYTES, err);
        if (code) return code;
    }
    int code = eval_bm25_rank(r->bm25, q->question, q->text, q->start, q->end, BM25_LIMIT, &rank, err);
    if (!code) json_object_set_new(result, "bm25_rank", json_integer(rank));
    return code;
}

static json_t *strings_json(char *const *list, size_t n) {
    json_t *out = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(out, json_string(list[i]));
    return out;
}

static const char *stop_name(stop_reason s) {
    static const char *const stops[] = {"end", "length", "callback", "context"};
    return stops[s];
}

static json_t *cell_json(running *r, const answering *a, const eval_score *score, stop_reason stop) {
    const eval_group *g = &r->plan->groups[r->group];
    const eval_question *q = a->question;
    char detail[400];
    eval_answer given = {a->text ? a->text : "", stop, a->ends, a->n_tokens};
    double sure = a->n_tokens ? exp(a->log_probability / a->n_tokens) : 0;
    eval_verdict v =
        eval_judge(q, &given, score, &a->sights, &a->thought_sights, engine_topk(r->engine), detail);
    json_t *result = json_pack(
        "{s:s, s:I, s:i, s:f, s:s, s:I, s:I, s:s, s:o, s:o, s:s, s:i, s:f, s:f, s:f, s:f, s:b, s:b, s:s, "
        "s:o, s:f}",
        "task", q->task, "length", (json_int_t)g->length, "sample", g->sample, "depth", q->depth, "variant",
        r->plan->variants[r->variant].name, "prompt_tokens", (json_int_t)r->haystack.pack.prompt.tokens.n,
        "characters", (json_int_t)r->haystack.characters, "question", q->question, "expected",
        strings_json(q->answers, q->n_answers), "answer", eval_answer_string(given.got), "stop",
        stop_name(stop), "tokens", a->n_tokens, "score", score->score, "contains", score->contains, "exact",
        score->exact, "f1", score->f1, "said_absent", score->said_absent, "right", score->right, "verdict",
        eval_verdict_name(v), "detail", eval_answer_string(detail), "confidence",
        isfinite(sure) ? sure : 0.0);
    if (result && q->n_spans)
        json_object_set_new(result, "span",
                            json_pack("[I, I]", (json_int_t)q->spans[0].start, (json_int_t)q->spans[0].end));
    if (result && a->sights.n_steps) json_object_set_new(result, "trace", trace_json(&a->sights));
    if (result && r->plan->params->thinking == THINK_FIRST)
        json_object_set_new(
            result, "thought",
            json_pack("{s:o, s:i, s:o}", "text", eval_answer_string(a->thought.text ? a->thought.text : ""),
                      "tokens", (int)a->thought.n_tokens, "trace",
                      a->thought_sights.n_steps ? trace_json(&a->thought_sights) : json_null()));
    return result;
}

static int store_result(running *r, size_t cell, json_t *result, json_t *timing, ph_error *err) {
    enum { FORMAT = JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(9) };
    char *a = json_dumps(result, FORMAT), *b = json_dumps(timing, FORMAT);
    store_cell c = {.number = (int64_t)cell, .result = a, .timing = b};
    int code =
        a && b ? store_cell_put(r->store, r->run, &c, err) : ph_fail(err, PH_MEMORY, "no memory for a cell");
    free(a);
    free(b);
    if (!code && !r->done[cell]) {
        r->done[cell] = 1;
        r->n_done++;
    }
    return code;
}

static int tell(running *r, int64_t tokens, int64_t all);

/* While a server keeps silent. */
static int waiting(void *user) {
    const answering *a = user;
    return tell(a->run, 0, 0);
}

/* A server's own counts are never the same: its cache has more each time. */
static void add_usage(json_t *timing, const session *s) {
    generate_usage u;
    if (!timing || !session_usage(s, &u)) return;
    json_object_set_new(timing, "server_prompt_tokens", json_integer(u.prompt_tokens));
    json_object_set_new(timing, "server_cached_tokens", json_integer(u.cached_tokens));
    json_object_set_new(timing, "server_completion_tokens", json_integer(u.completion_tokens));
}

static int ask(running *r, session *s, size_t question, size_t cell, ph_error *err) {
    answering a = {.run = r, .session = s, .question = &r->haystack.questions[question]};
    generate_options o = {.max_tokens = a.question->max_tokens,
                          .max_thinking = r->plan->params->thinking == THINK_FIRST ? THOUGHT_TOKENS : 0,
                          .trace = true,
                          .step = wrote,
                          .waiting = waiting,
                          .user = &a};
    stop_reason stop = STOP_EOS;
    eval_score score;
    double started = now();
    int code = session_rewind(s, context_length(r->context), err);
    if (!code) code = feed_question(r, s, a.question, err);
    double fed = now();
    /* A question that finds no room behind a full haystack is a cell without an answer, not the end of a run.
     */
    bool no_room = code == PH_TOO_LARGE;
    if (no_room) {
        code = PH_OK;
        stop = STOP_CONTEXT;
    } else if (!code)
        code = session_generate(s, &o, &stop, err);
    if (!code && a.failed) code = a.failed;
    if (!code && !no_room && !a.n_tokens) code = add_unwritten(&a, err);
    if (!code && stop == STOP_CALLBACK)
        code = ph_fail(err, PH_INTERRUPTED, "stopped in the midst of an answer");
    double finished = now();
    if (!code) code = eval_score_answer(&score, r->plan->params->over, a.question, a.text ? a.text : "", err);
    json_t *result = code ? NULL : cell_json(r, &a, &score, stop);
    if (!code && !result) code = ph_fail(err, PH_MEMORY, "no memory for a cell");
    if (!code) code = add_sources(r, &a, result, err);
    if (!code && no_room) json_object_set_new(result, "detail", json_string("the question finds no room"));
    if (!code && !no_room && r->plan->params->kind == EVAL_COMPARE) {
        code = session_rewind(s, context_length(r->context), err);
        if (!code) code = feed_question(r, s, a.question, err);
        if (!code) code = compare_logits(r, s, question, result, err);
    }
    if (!code) {
        json_t *timing = json_pack(
            "{s:f, s:I, s:f, s:f, s:f, s:I}", "prefill_s", r->prefill_told ? 0.0 : r->prefill_s,
            "read_tokens", (json_int_t)(r->prefill_told ? 0 : r->read_tokens), "question_s", fed - started,
            "first_token_s", a.n_tokens ? a.first_token - started : 0.0, "answer_s", finished - fed,
            "context_bytes", (json_int_t)engine_context_bytes(r->engine, context_length(r->context)),
            "resident_bytes", (json_int_t)resident_bytes());
        add_usage(timing, s);
        code = store_result(r, cell, result, timing, err);
        json_decref(timing);
        r->prefill_told = true;
    }
    json_decref(result);
    answering_free(&a);
    return code;
}

/* ---- a haystack ---- */

static int tell(running *r, int64_t tokens, int64_t all) {
    const eval_options *o = r->options;
    if (!o->progress) return 0;
    const eval_group *g = &r->plan->groups[r->group];
    char what[96];
    const char *task = r->plan->params->over == EVAL_RULER ? eval_ruler_name(g->task)
                                                           : eval_kind_name(r->plan->params->kind);
    snprintf(what, sizeof what, "%s %lldK%s%s", task, (long long)((g->length + 512) / 1024),
             r->plan->n_variants > 1 ? " " : "",
             r->plan->n_variants > 1 ? r->plan->variants[r->variant].name : "");
    return o->progress(o->user, what, r->n_done, r->plan->cells, tokens, all);
}

static int reading(void *user, int64_t done, int64_t total) {
    return tell(user, done, total);
}

static int set_variant(running *r, int variant, ph_error *err) {
    const eval_variant *v = &r->plan->variants[variant];
    r->variant = variant;
    if (r->plan->n_variants == 1) return PH_OK;
    if (v->dense && !engine_has_dense(r->engine))
        return ph_fail(err, PH_UNSUPPORTED, "there is no dense attention over latents in FP8 to compare with");
    engine_set_dense(r->engine, v->dense);
    int code = v->topk ? engine_set_topk(r->engine, v->topk, err) : PH_OK;
    /* What another mode has read is of no use. */
    return code ? code : context_read(r->context, NULL, 0, NULL, NULL, NULL, err);
}

static int run_variant(running *r, int variant, ph_error *err) {
    const eval_plan *plan = r->plan;
    const eval_group *g = &plan->groups[r->group];
    size_t first = g->cell + (size_t)variant * g->questions;
    const token_list *prompt = &r->haystack.pack.prompt.tokens;
    int64_t cached = 0;
    session *s = NULL;
    int code = set_variant(r, variant, err);
    double started = now();
    if (!code) code = context_read(r->context, prompt->ids, (int64_t)prompt->n, reading, r, &cached, err);
    r->prefill_s = now() - started;
    r->read_tokens = (int64_t)prompt->n - cached;
    r->prefill_told = false;
    if (!code) code = session_open(&s, r->context, err);
    for (size_t q = 0; q < g->questions && !code; q++) {
        /* The dense pass is asked again where its logits are what a missing cell is compared with. */
        if (r->done[first + q] && !(plan->n_variants > 1 && variant == 0)) continue;
        if (tell(r, 0, 0))
            code = ph_fail(err, PH_INTERRUPTED, "stopped after %zu of %zu cells", r->n_done, plan->cells);
        else
            code = ask(r, s, q, first + q, err);
    }
    session_close(s);
    return code;
}

static bool all_done(const running *r, const eval_group *g, int from_variant, int to_variant) {
    for (size_t i = (size_t)from_variant * g->questions; i < (size_t)to_variant * g->questions; i++)
        if (!r->done[g->cell + i]) return false;
    return true;
}

static int asking(void *user, answer_phase phase, int64_t done, int64_t total, int64_t cached) {
    (void)cached;
    bool reading = phase == PHASE_READING;
    return tell(user, reading ? done : 0, reading ? total : 0);
}

/* Questions as a person asks them. */
static int run_asks(running *r, const eval_group *g, ph_error *err) {
    eval_library *l = NULL;
    int code = eval_library_open(&l, r->plan, err);
    for (r->variant = 0; r->variant < r->plan->n_variants && !code; r->variant++) {
        size_t first = g->cell + (size_t)r->variant * g->questions;
        for (size_t q = 0; q < g->questions && !code; q++) {
            if (r->done[first + q]) continue;
            json_t *result = NULL, *timing = NULL;
            code = eval_library_ask(l, q, r->variant, asking, r, &result, &timing, err);
            if (!code) code = store_result(r, first + q, result, timing, err);
            json_decref(result);
            json_decref(timing);
        }
    }
    eval_library_close(l);
    return code;
}

static int run_group(running *r, size_t group, ph_error *err) {
    const eval_plan *plan = r->plan;
    const eval_group *g = &plan->groups[group];
    if (all_done(r, g, 0, plan->n_variants)) return PH_OK;
    r->group = group;
    if (plan->params->as_ask) return run_asks(r, g, err);
    int code = eval_group_make(&r->haystack, plan, group, err);
    if (!code && plan->n_variants > 1) {
        size_t vocab = (size_t)engine_config(r->engine)->vocab;
        r->dense = calloc(g->questions * KL_POSITIONS, vocab * sizeof *r->dense);
        if (!r->dense)
            code = ph_fail(err, PH_MEMORY, "no memory for the logits of %zu questions", g->questions);
    }
    for (int v = 0; v < plan->n_variants && !code; v++) {
        if (v && all_done(r, g, v, v + 1)) continue;
        code = run_variant(r, v, err);
    }
    free(r->dense);
    r->dense = NULL;
    eval_bm25_free(r->bm25);
    r->bm25 = NULL;
    eval_haystack_free(&r->haystack);
    return code;
}

/* ---- the run ---- */

static int add_run(running *r, eval_params *p, ph_error *err) {
    json_t *params = eval_params_json(p);
    char *text = params ? json_dumps(params, JSON_COMPACT) : NULL;
    json_decref(params);
    int64_t *documents = calloc(r->plan->texts.n + 1, sizeof *documents);
    size_t n = 0;
    char kind[16];
    snprintf(kind, sizeof kind, "%s", eval_kind_name(p->kind));
    char *command = strdup(r->options->command ? r->options->command : ""),
         *model = strdup(engine_model_name(r->engine));
    store_run row = {.kind = kind,
                     .command = command,
                     .parameters = text,
                     .model = model,
                     .seed = (int64_t)p->seed,
                     .questions = p->questions,
                     .cells = (int64_t)r->plan->cells};
    memcpy(row.key, engine_key(r->engine), sizeof row.key);
    for (size_t i = 0; documents && i < r->plan->texts.n; i++)
        if (r->plan->texts.list[i].document) documents[n++] = r->plan->texts.list[i].document;
    int code = text && documents && command && model ? store_run_add(r->store, &row, documents, n, err)
                                                     : ph_fail(err, PH_MEMORY, "no memory for a run");
    r->run = row.id;
    free(text);
    free(documents);
    free(command);
    free(model);
    return code;
}

/* The cells that are there, after a check that this is the same model. */
static int take_up(running *r, int64_t run, ph_error *err) {
    store_run row = {0};
    store_cell *cells = NULL;
    size_t n = 0;
    int code = store_run_get(r->store, run, &row, err);
    if (!code && memcmp(row.key, engine_key(r->engine), sizeof row.key))
        code = ph_fail(err, PH_USAGE, "run %lld was made with another model, backend or top-k (%s)",
                       (long long)row.id, row.model);
    if (!code && row.cells != (int64_t)r->plan->cells)
        code = ph_fail(err, PH_USAGE, "run %lld has %lld cells, its parameters now make %zu",
                       (long long)row.id, (long long)row.cells, r->plan->cells);
    if (!code) code = store_cell_list(r->store, row.id, &cells, &n, err);
    for (size_t i = 0; i < n && !code; i++)
        if (cells[i].number >= 0 && cells[i].number < row.cells && !r->done[cells[i].number]++) r->n_done++;
    if (!code) r->run = row.id;
    store_cells_free(cells, n);
    store_run_free(&row);
    return code;
}

static int64_t longest(const eval_params *p) {
    int64_t most = 0;
    for (int i = 0; i < p->n_lengths; i++) most = p->lengths[i] > most ? p->lengths[i] : most;
    return most;
}

/* What no served model can be made to do. */
static int check_remote(const engine *e, const eval_params *p, ph_error *err) {
    if (!engine_is_remote(e)) return PH_OK;
    if (p->kind == EVAL_COMPARE || p->kind == EVAL_RECALL)
        return ph_fail(err, PH_UNSUPPORTED,
                       "%s needs the model's own index scores and a dense mode, which no server gives: run "
                       "needle, ruler "
                       "or qa there and here, and put them side by side with `eval diff`",
                       eval_kind_name(p->kind));
    if (p->answer_prefix)
        return ph_fail(err, PH_UNSUPPORTED,
                       "a served model cannot be made to go on with an answer that was begun for it");
    return PH_OK;
}

/* As the model has it, where it can be: a reference answer is compared and a begun answer goes on without a
 * thought. */
static int settle_thinking(const engine *e, eval_params *p, ph_error *err) {
    bool able = p->kind != EVAL_COMPARE && !p->answer_prefix;
    if (p->thinking == THINK_FIRST && !able)
        return ph_fail(err, PH_USAGE, "%s takes no thought before the answer",
                       p->kind == EVAL_COMPARE ? "compare" : "an answer that is begun for the model");
    if (p->thinking == THINK_AS_MODEL) p->thinking = able && engine_thinks(e) ? THINK_FIRST : THINK_NOT;
    return PH_OK;
}

int eval_run(store *s, engine *e, eval_params *p, int64_t resume, const eval_options *o, ph_error *err) {
    eval_plan plan;
    int unable = check_remote(e, p, err);
    if (!unable) unable = settle_thinking(e, p, err);
    if (unable) return unable;
    int code = eval_plan_make(&plan, p, s, e, err);
    if (code) return code;
    running r = {.store = s, .engine = e, .plan = &plan, .options = o, .err = err};
    r.done = calloc(plan.cells, 1);
    if (!r.done) code = ph_fail(err, PH_MEMORY, "no memory for %zu cells", plan.cells);
    if (!code) code = resume ? take_up(&r, resume, err) : add_run(&r, p, err);
    if (!code && o->run) *o->run = r.run;
    /* Answers may run a little past a length's end where the model has room. */
    int64_t most = engine_config(e)->max_positions,
            capacity = longest(p) + 512 < most ? longest(p) + 512 : most;
    if (!code) code = context_open(&r.context, e, NULL, capacity, NULL, err);
    for (size_t i = 0; i < plan.n_groups && !code; i++) code = run_group(&r, i, err);
    context_close(r.context);
    /* What stopped it is what the caller hears; that the note was kept is not as important. */
    if (r.run && code != PH_INTERRUPTED)
        store_run_set_state(s, r.run, code ? RUN_FAILED : RUN_DONE, code && err ? err->text : "", NULL);
    free(r.done);
    eval_plan_free(&plan);
    return code;
}
