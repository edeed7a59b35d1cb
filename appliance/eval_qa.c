/* eval_qa.c - questions about passages, each asked among the other passages of its file. For each length the
 * passages are shuffled and dealt into haystacks; a haystack that its passages do not fill takes others
 * without their questions, then the plan's texts. */
#include "appliance/eval_haystack.h"

#include <stdlib.h>
#include <string.h>

enum { QUESTION_ROOM = 96 };

typedef struct asked {
    size_t row, qa;
} asked;

typedef struct deal {
    size_t *rows; /* own ones first */
    size_t n_own, n;
    asked *asked;
    size_t n_asked;
} deal;

typedef struct deals {
    int64_t *tokens; /* of each row with header and footer */
    deal *list;
    size_t n;
} deals;

void eval_qa_plan_free(eval_plan *plan) {
    deals *d = plan->maker;
    if (!d) return;
    for (size_t i = 0; i < d->n; i++) {
        free(d->list[i].rows);
        free(d->list[i].asked);
    }
    free(d->list);
    free(d->tokens);
    free(d);
    plan->maker = NULL;
}

static void shuffle(size_t *list, size_t n, eval_random *r) {
    for (size_t i = n; i > 1; i--) {
        size_t j = eval_below(r, i), swap = list[i - 1];
        list[i - 1] = list[j];
        list[j] = swap;
    }
}

/* Which questions of the haystack's own passages are asked: all, or `most` drawn ones. */
static int choose_questions(const eval_plan *plan, deal *d, size_t most, eval_random *r, ph_error *err) {
    size_t all = 0;
    for (size_t i = 0; i < d->n_own; i++) all += plan->rows.list[d->rows[i]].n_qas;
    d->asked = calloc(all + 1, sizeof *d->asked);
    if (!d->asked) return ph_fail(err, PH_MEMORY, "no memory for a plan");
    for (size_t i = 0; i < d->n_own; i++)
        for (size_t k = 0; k < plan->rows.list[d->rows[i]].n_qas; k++)
            d->asked[d->n_asked++] = (asked){d->rows[i], k};
    for (size_t i = d->n_asked; i > 1; i--) {
        size_t j = eval_below(r, i);
        asked swap = d->asked[i - 1];
        d->asked[i - 1] = d->asked[j];
        d->asked[j] = swap;
    }
    if (d->n_asked > most) d->n_asked = most;
    return PH_OK;
}

static int deal_length(eval_plan *plan, deals *all, int64_t length, size_t *order, ph_error *err) {
    const eval_params *p = plan->params;
    size_t n = plan->rows.n, next = 0, left = p->limit > 0 ? (size_t)p->limit : SIZE_MAX;
    size_t each = p->per_haystack > 0 ? (size_t)p->per_haystack : SIZE_MAX;
    eval_random r = eval_stream(p->seed, "passages", length, 0);
    for (size_t i = 0; i < n; i++) order[i] = i;
    shuffle(order, n, &r);
    int64_t room = length - EVAL_BUFFER - QUESTION_ROOM - 2;
    for (int number = 0; next < n && left > 0; number++) {
        deal *more = realloc(all->list, (all->n + 1) * sizeof *more);
        eval_group *groups = realloc(plan->groups, (plan->n_groups + 1) * sizeof *groups);
        if (more) all->list = more;
        if (groups) plan->groups = groups;
        if (!more || !groups) return ph_fail(err, PH_MEMORY, "no memory for a plan");
        deal *d = &all->list[all->n++];
        *d = (deal){.rows = malloc(n * sizeof *d->rows)};
        if (!d->rows) return ph_fail(err, PH_MEMORY, "no memory for a plan");
        int64_t used = 0;
        /* Passages that no haystack of this length can hold are left out; the report counts what was asked.
         */
        while (next < n && all->tokens[order[next]] > room) next++;
        size_t first = next;
        for (; next < n && used + all->tokens[order[next]] <= room; next++) {
            if (all->tokens[order[next]] > room) continue;
            d->rows[d->n++] = order[next];
            used += all->tokens[order[next]];
        }
        d->n_own = d->n;
        /* The last haystack of a length is filled with passages of the first ones. */
        for (size_t i = 0; i < first && next == n; i++) {
            if (used + all->tokens[order[i]] > room) continue;
            d->rows[d->n++] = order[i];
            used += all->tokens[order[i]];
        }
        int code = choose_questions(plan, d, each < left ? each : left, &r, err);
        if (code) return code;
        left -= d->n_asked;
        if (d->n_asked == 0) continue; /* its memory goes with the list */
        plan->groups[plan->n_groups++] = (eval_group){
            .length = length, .sample = number, .number = (int)(all->n - 1), .questions = d->n_asked};
    }
    return PH_OK;
}

int eval_qa_plan(eval_plan *plan, ph_error *err) {
    const eval_params *p = plan->params;
    if (plan->rows.n == 0) return ph_fail(err, PH_USAGE, "questions come from a file: give one with --qa");
    deals *all = plan->maker = calloc(1, sizeof *all);
    size_t *order = malloc(plan->rows.n * sizeof *order);
    if (all) all->tokens = calloc(plan->rows.n, sizeof *all->tokens);
    int code = all && all->tokens && order ? PH_OK : ph_fail(err, PH_MEMORY, "no memory for a plan");
    for (size_t i = 0; i < plan->rows.n && !code; i++) {
        const eval_row *r = &plan->rows.list[i];
        code = pack_measure(engine_tokenizer(plan->engine), r->name, r->text, strlen(r->text),
                            &all->tokens[i], err);
    }
    for (int i = 0; i < p->n_lengths && !code; i++) code = deal_length(plan, all, p->lengths[i], order, err);
    free(order);
    return code;
}

/* What the texts fill where the passages do not. */
static int fill(eval_pieces *out, const eval_plan *plan, int64_t room, int sample, ph_error *err) {
    enum { WORTH_FILLING = 200 };
    return room < WORTH_FILLING ? PH_OK : eval_pieces_fill(out, plan, room, sample, err);
}

static int find_row(const eval_haystack *h, const eval_row *row) {
    for (size_t i = 0; i < h->pack.n_texts; i++)
        if (!strcmp(h->pack.texts[i].text, row->text) && !strcmp(h->pack.texts[i].name, row->name))
            return (int)i;
    return -1;
}

static int ask(eval_haystack *h, const eval_row *row, const eval_qa *qa, const eval_params *p,
               ph_error *err) {
    eval_question *q = eval_haystack_ask(h, "qa", qa->question, err);
    if (!q) return PH_MEMORY;
    q->max_tokens = p->max_tokens ? p->max_tokens : 64;
    q->text = find_row(h, row);
    if (q->text < 0) return ph_fail(err, PH_FAIL, "a passage is missing from its haystack");
    const pack_text *t = &h->pack.texts[q->text];
    q->end = t->len;
    q->depth = 100.0 * (double)t->span.token_start / (double)h->pack.prompt.tokens.n;
    for (size_t i = 0; i < qa->n_answers; i++) {
        int code = eval_question_answer(q, qa->answers[i], err);
        if (code) return code;
    }
    eval_question_places(q, &h->pack, q->text, qa);
    return PH_OK;
}

int eval_qa_make(eval_haystack *h, const eval_plan *plan, const eval_group *g, ph_error *err) {
    const deals *all = plan->maker;
    const deal *d = &all->list[g->number];
    eval_pieces pieces = {0};
    int64_t room = g->length - EVAL_BUFFER - QUESTION_ROOM - 2;
    int code = PH_OK;
    for (size_t i = 0; i < d->n && !code; i++) {
        const eval_row *r = &plan->rows.list[d->rows[i]];
        code = eval_pieces_add(&pieces, r->name, r->text, strlen(r->text), err);
        room -= all->tokens[d->rows[i]];
    }
    if (!code) code = fill(&pieces, plan, room, g->sample, err);
    eval_random r = eval_stream(plan->params->seed, "places", g->length, g->sample);
    eval_pieces_shuffle(&pieces, &r);
    if (!code) code = eval_haystack_build(h, plan, &pieces, err);
    for (size_t i = 0; i < d->n_asked && !code; i++) {
        const eval_row *row = &plan->rows.list[d->asked[i].row];
        code = ask(h, row, &row->qas[d->asked[i].qa], plan->params, err);
    }
    eval_pieces_free(&pieces);
    return code;
}
