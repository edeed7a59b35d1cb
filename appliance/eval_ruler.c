/* eval_ruler.c - the 13 tasks of RULER (NVIDIA): needles in noise, essays or other needles; variable
 * tracking; most frequent words; question answering among distractors.
 *
 * Templates, numbers of needles, limits, depths (40 steps) and the length accounting (the prompt and the
 * generated tokens together are at most the length; one size of haystack for a task and length, made smaller
 * for a sample that does not fit) are the published generator's. What differs, and the report says so: words
 * are ours unless a list is given, the essays are the run's haystack, the text stands in the file template
 * unless `plain`, and the answer is not begun for the model unless `answer_prefix`. With `published` the
 * example stands before vt and cwe, and haystacks grow in the generator's steps until the prompt, its
 * references and the tokens to generate no longer fit; fwe alone keeps room for its answer, where the
 * generator lets it run past the length.
 *
 * With `together` the tasks over essays share one haystack of each sample, which is then read once for all of
 * them.
 */
#include "appliance/eval_ruler.h"

#include <stdlib.h>
#include <string.h>

static const ruler_task tasks[EVAL_RULER_TASKS] = {
    {"niah_single_1", NIAH, 128, NOISE, false, false, 1, 1, 1},
    {"niah_single_2", NIAH, 128, ESSAY, false, false, 1, 1, 1},
    {"niah_single_3", NIAH, 128, ESSAY, false, true, 1, 1, 1},
    {"niah_multikey_1", NIAH, 128, ESSAY, false, false, 4, 1, 1},
    {"niah_multikey_2", NIAH, 128, NEEDLES, false, false, 1, 1, 1},
    {"niah_multikey_3", NIAH, 128, NEEDLES, true, true, 1, 1, 1},
    {"niah_multivalue", NIAH, 128, ESSAY, false, false, 1, 4, 1},
    {"niah_multiquery", NIAH, 128, ESSAY, false, false, 4, 1, 4},
    {"vt", VT, 30, NOISE, false, false, 0, 0, 0},
    {"cwe", CWE, 120, NOISE, false, false, 0, 0, 0},
    {"fwe", FWE, 50, NOISE, false, false, 0, 0, 0},
    {"qa_1", QA, 32, NOISE, false, false, 0, 0, 0},
    {"qa_2", QA, 32, NOISE, false, false, 0, 0, 0},
};
static const char FILE_NAME[] = "text.txt";

const char *eval_ruler_name(int task) {
    return task >= 0 && task < EVAL_RULER_TASKS ? tasks[task].name : NULL;
}

/* ---- texts and chance ---- */

void ruler_put(text *t, const char *s, size_t n) {
    if (t->failed) return;
    if (t->n + n + 1 > t->capacity) {
        size_t capacity = (t->n + n + 1) * 2;
        char *more = realloc(t->s, capacity);
        if (!more) {
            t->failed = true;
            return;
        }
        t->s = more;
        t->capacity = capacity;
    }
    memcpy(t->s + t->n, s, n);
    t->n += n;
    t->s[t->n] = 0;
}

void ruler_say(text *t, const char *s) {
    ruler_put(t, s, strlen(s));
}

/* k of n numbers without repetition, ascending. */
void ruler_choose(size_t *out, size_t k, size_t n, eval_random *r) {
    for (size_t i = 0; i < k; i++) {
        size_t x;
        bool seen;
        do {
            x = eval_below(r, n);
            seen = false;
            for (size_t j = 0; j < i; j++) seen |= out[j] == x;
        } while (seen);
        out[i] = x;
    }
    for (size_t i = 1; i < k; i++)
        for (size_t j = i; j > 0 && out[j] < out[j - 1]; j--) {
            size_t swap = out[j];
            out[j] = out[j - 1];
            out[j - 1] = swap;
        }
}

bool ruler_shuffled(size_t **out, size_t n, eval_random *r) {
    size_t *list = malloc((n ? n : 1) * sizeof *list);
    *out = list;
    if (!list) return false;
    for (size_t i = 0; i < n; i++) list[i] = i;
    for (size_t i = n; i > 1; i--) {
        size_t j = eval_below(r, i), swap = list[i - 1];
        list[i - 1] = list[j];
        list[j] = swap;
    }
    return true;
}

/* ---- samples ---- */

static void samples_free(sample *list, int n) {
    for (int i = 0; i < n; i++) {
        free(list[i].body.s);
        free(list[i].question.s);
        free(list[i].prefix.s);
        list[i] = (sample){0};
    }
}

static bool shares(const eval_params *p, int task) {
    return p->together && tasks[task].shape == NIAH && tasks[task].haystack == ESSAY;
}

/* The tasks of a group: its own, or all chosen ones that share a haystack. */
static int tasks_of(const eval_params *p, const eval_group *g, const ruler_task **out) {
    int n = 0;
    if (!shares(p, g->task)) {
        out[n++] = &tasks[g->task];
        return n;
    }
    for (int k = 0; k < EVAL_RULER_TASKS && n < RULER_TOGETHER; k++)
        if (p->tasks >> k & 1 && shares(p, k)) out[n++] = &tasks[k];
    return n;
}

/* list[RULER_TOGETHER]; *n filled, also on failure. */
static int make_samples(sample *list, int *n, const eval_plan *plan, const eval_group *g, size_t amount,
                        ph_error *err) {
    const ruler_task *of[RULER_TOGETHER];
    *n = tasks_of(plan->params, g, of);
    const char *name = shares(plan->params, g->task) ? "needles together" : of[0]->name;
    eval_random r = eval_stream(plan->params->seed, name, g->length, g->sample);
    for (int i = 0; i < *n; i++) {
        list[i] = (sample){.task = of[i], .all = true, .depth = -1};
        if (plan->params->published) ruler_say(&list[i].prefix, " "); /* as all of the generator's begin */
    }
    switch (of[0]->shape) {
    case NIAH:
        ruler_needles(list, *n, plan, amount, &r);
        break;
    case VT:
        ruler_variables(list, plan, amount, &r);
        break;
    case CWE:
        ruler_common_words(list, plan, amount, g->length, &r);
        break;
    case FWE:
        ruler_frequent_words(list, amount, g->length, &r);
        break;
    case QA:
        ruler_question(list, plan, amount, g->sample, &r);
        break;
    }
    for (int i = 0; i < *n; i++)
        if (list->body.failed || list[i].question.failed || list[i].prefix.failed)
            return ph_fail(err, PH_MEMORY, "no memory for a prompt of %zu bytes", list->body.n);
    return PH_OK;
}

/* ---- length ---- */

static int answer_tokens(const eval_plan *plan, const ruler_task *k) {
    return plan->params->max_tokens ? plan->params->max_tokens : k->tokens;
}

/* Tokens of the prompt and of the answer, with the longest of several questions; `references` are counted
 * besides where asked for. */
static int measure(int64_t *tokens, const sample *list, int n, const eval_plan *plan, bool references,
                   ph_error *err) {
    const tokenizer *t = engine_tokenizer(plan->engine);
    int64_t body = 0, most = 0;
    int code =
        plan->params->plain ? PH_OK : pack_measure(t, FILE_NAME, list->body.s, list->body.n, &body, err);
    if (plan->params->plain && (body = eval_count_tokens(plan, list->body.s, err)) < 0) code = PH_MEMORY;
    for (int i = 0; i < n && !code; i++) {
        const sample *s = &list[i];
        token_list question = {0};
        code =
            prompt_question(engine_prompt(plan->engine), t, s->question.s, s->question.n, 0, &question, err);
        if (!code && plan->params->answer_prefix)
            code = tokenizer_encode(t, s->prefix.s, s->prefix.n, 0, 0, &question, err);
        for (int a = 0; a < s->n && references && !code; a++) {
            const char *answer = s->long_answers ? s->long_answers[a] : s->answers[a];
            code = tokenizer_encode(t, answer, strlen(answer), 0, 0, &question, err);
        }
        int64_t all = (int64_t)question.n + answer_tokens(plan, s->task);
        most = all > most ? all : most;
        token_list_free(&question);
    }
    *tokens = 2 + body + most;
    return code;
}

static int fits(bool *out, const eval_plan *plan, const eval_group *g, size_t amount, ph_error *err) {
    sample list[RULER_TOGETHER];
    int n;
    int64_t tokens = 0;
    int code = make_samples(list, &n, plan, g, amount, err);
    if (!code) code = measure(&tokens, list, n, plan, plan->params->published, err);
    *out = tokens <= g->length;
    samples_free(list, n);
    return code;
}

/* What a haystack grows and shrinks by: the generator's steps, and finer ones for short essays. */
static size_t step_of(const ruler_task *k, int64_t length, bool published) {
    if (published && k->shape == NIAH && k->haystack == ESSAY) return 500;
    if (published && k->shape == FWE) return length >= 32 ? (size_t)length / 32 : 1;
    if (published && (k->shape == VT || k->shape == QA)) return 10;
    if (k->shape == NIAH && k->haystack == ESSAY) return length < 4096 ? 50 : 500;
    if (k->shape == CWE || k->shape == FWE) return 10;
    if (k->shape == VT || k->shape == QA) return 5;
    return length < 4096 ? 5 : 25;
}

/* The most that a haystack of this task and length can hold, by the first sample: in single words, lines or
 * documents, or `published` in whole steps. */
static int find_amount(size_t *out, const eval_plan *plan, const eval_group *g, ph_error *err) {
    const ruler_task *k = &tasks[g->task];
    size_t unit = plan->params->published ? step_of(k, g->length, true) : 1,
           low = k->shape == CWE ? (10 + unit) / unit : 1, high = 64,
           most = (k->shape == QA ? plan->rows.n : (size_t)g->length * 4) / unit;
    if (k->shape == CWE && plan->lexicon) most = plan->lexicon->n_words / unit;
    eval_group first = *g;
    first.sample = 0;
    bool yes = true;
    int code = fits(&yes, plan, &first, low * unit, err);
    if (!code && !yes)
        return ph_fail(err, PH_TOO_LARGE, "%s does not fit into %lld tokens", k->name, (long long)g->length);
    while (!code && yes && high < most) {
        code = fits(&yes, plan, &first, high * unit, err);
        if (yes) {
            low = high;
            high *= 2;
        }
    }
    if (high >= most) high = most + 1;
    while (!code && low + 1 < high) {
        size_t mid = (low + high) / 2;
        code = fits(&yes, plan, &first, mid * unit, err);
        if (yes)
            low = mid;
        else
            high = mid;
    }
    *out = low * unit;
    return code;
}

/* How many samples a task is planned for: those that share a haystack are planned with the first of them. */
static size_t questions_of(const eval_params *p, int task) {
    if (!(p->tasks >> task & 1)) return 0;
    if (!shares(p, task)) return 1;
    size_t n = 0;
    for (int k = 0; k < EVAL_RULER_TASKS; k++) {
        if (!(p->tasks >> k & 1) || !shares(p, k)) continue;
        if (k < task) return 0;
        n++;
    }
    return n;
}

int eval_ruler_plan(eval_plan *plan, ph_error *err) {
    const eval_params *p = plan->params;
    bool qa = p->tasks >> 11 & 3;
    if (qa && plan->rows.n == 0)
        return ph_fail(err, PH_USAGE, "qa_1 and qa_2 need questions: give a file with --qa");
    size_t n = (size_t)p->n_lengths * EVAL_RULER_TASKS * (size_t)p->samples;
    plan->groups = calloc(n + 1, sizeof *plan->groups);
    plan->maker = calloc((size_t)p->n_lengths * EVAL_RULER_TASKS, sizeof(size_t));
    if (!plan->groups || !plan->maker) return ph_fail(err, PH_MEMORY, "no memory for a plan");
    for (int l = 0; l < p->n_lengths; l++)
        for (int k = 0; k < EVAL_RULER_TASKS; k++)
            for (int i = 0; i < p->samples && questions_of(p, k); i++)
                plan->groups[plan->n_groups++] = (eval_group){.task = k,
                                                              .length = p->lengths[l],
                                                              .sample = i,
                                                              .number = l,
                                                              .questions = questions_of(p, k)};
    return PH_OK;
}

void eval_ruler_plan_free(eval_plan *plan) {
    free(plan->maker);
    plan->maker = NULL;
}

/* ---- the haystack ---- */

static int build(eval_haystack *h, const eval_plan *plan, const sample *s, ph_error *err) {
    eval_pieces pieces = {0};
    int code = eval_pieces_add(&pieces, FILE_NAME, s->body.s, s->body.n, err);
    if (!code && !plan->params->plain) code = eval_haystack_build(h, plan, &pieces, err);
    if (!code && plan->params->plain) {
        h->pack.texts = calloc(1, sizeof *h->pack.texts);
        if (!h->pack.texts) code = ph_fail(err, PH_MEMORY, "no memory for a haystack");
        if (!code) code = pack_prompt_begin(&h->pack.prompt, engine_prompt(plan->engine), err);
        if (!code) {
            pack_text *t = &h->pack.texts[h->pack.n_texts++];
            *t = (pack_text){
                .name = pieces.list[0].name, .text = pieces.list[0].text, .len = pieces.list[0].len};
            pieces.list[0] = (eval_piece){0};
            int64_t at = (int64_t)h->pack.prompt.tokens.n;
            code = tokenizer_encode(engine_tokenizer(plan->engine), t->text, t->len, TOKENIZE_OFFSETS, 0,
                                    &h->pack.prompt.tokens, err);
            int64_t end = (int64_t)h->pack.prompt.tokens.n;
            t->span = (pack_span){at, end, at, end, 0, t->len};
            for (size_t k = 0; k < t->len; k++) h->characters += ((unsigned char)t->text[k] & 0xC0) != 0x80;
        }
    }
    eval_pieces_free(&pieces);
    return code;
}

static int add_question(eval_haystack *h, const eval_plan *plan, const sample *s, ph_error *err) {
    eval_question *q = eval_haystack_ask(h, s->task->name, s->question.s, err);
    if (!q) return PH_MEMORY;
    q->all = s->all;
    q->depth = s->depth;
    q->max_tokens = answer_tokens(plan, s->task);
    bool placed = true;
    for (int i = 0; i < s->n; i++) {
        int code = eval_question_answer(q, s->long_answers ? s->long_answers[i] : s->answers[i], err);
        if (code) return code;
        placed &= s->end[i] > s->start[i];
    }
    for (int i = 0; i < s->n && (placed || !s->all) && q->n_spans < EVAL_MAX_SPANS; i++)
        if (s->end[i] > s->start[i]) q->spans[q->n_spans++] = eval_token_span(&h->pack, 0, s->start[i], s->end[i]);
    /* The source of a single needle, for the read set; of several there is none. */
    if (s->n == 1 && placed) {
        q->text = 0;
        q->start = s->start[0];
        q->end = s->end[0];
    }
    if (plan->params->answer_prefix && !(q->prefix = strdup(s->prefix.s)))
        return ph_fail(err, PH_MEMORY, "no memory for a question");
    return PH_OK;
}

int eval_ruler_make(eval_haystack *h, const eval_plan *plan, const eval_group *g, ph_error *err) {
    size_t *amount = (size_t *)plan->maker + g->number * EVAL_RULER_TASKS + g->task;
    int code = *amount ? PH_OK : find_amount(amount, plan, g, err), n = 0;
    size_t step = step_of(&tasks[g->task], g->length, plan->params->published), used = *amount;
    sample list[RULER_TOGETHER];
    for (bool ok = false; !code && !ok;) {
        int64_t tokens = 0;
        samples_free(list, n);
        code = make_samples(list, &n, plan, g, used, err);
        if (!code) code = measure(&tokens, list, n, plan, false, err);
        ok = tokens <= g->length || used <= 1;
        if (!ok) used = used > step ? used - step : 1;
    }
    if (!code) code = build(h, plan, list, err);
    for (int i = 0; i < n && !code; i++) code = add_question(h, plan, &list[i], err);
    samples_free(list, n);
    return code;
}
