/* eval_plan.c - from parameters to the list of haystacks and cells (eval.h). */
#include "appliance/eval_haystack.h"
#include "appliance/eval_words.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void hash_text(crypto_generichash_state *h, const char *name, const char *text, size_t len) {
    crypto_generichash_update(h, (const uint8_t *)name, strlen(name) + 1);
    crypto_generichash_update(h, (const uint8_t *)text, len);
}

/* Names and bytes of every text and question: a run goes on only with the same ones. */
static int check_texts(eval_plan *plan, eval_params *p, ph_error *err) {
    crypto_generichash_state h;
    uint8_t hash[32];
    char hex[65];
    crypto_generichash_init(&h, NULL, 0, sizeof hash);
    for (size_t i = 0; i < plan->texts.n; i++)
        hash_text(&h, plan->texts.list[i].name, plan->texts.list[i].text, plan->texts.list[i].len);
    for (size_t i = 0; i < plan->rows.n; i++) {
        const eval_row *r = &plan->rows.list[i];
        hash_text(&h, r->name, r->text, strlen(r->text));
        for (size_t k = 0; k < r->n_qas; k++)
            hash_text(&h, "", r->qas[k].question, strlen(r->qas[k].question));
    }
    for (size_t i = 0; plan->lexicon && i < plan->lexicon->n_words; i++)
        hash_text(&h, "", plan->lexicon->words[i], strlen(plan->lexicon->words[i]));
    crypto_generichash_final(&h, hash, sizeof hash);
    sodium_bin2hex(hex, sizeof hex, hash, sizeof hash);
    if (p->text_hash[0] && strcmp(p->text_hash, hex))
        return ph_fail(err, PH_USAGE, "the texts of this run have changed since it began: start a new one");
    strcpy(p->text_hash, hex);
    return PH_OK;
}

static void add_variant(eval_plan *plan, const char *name, int topk, bool dense) {
    eval_variant *v = &plan->variants[plan->n_variants++];
    *v = (eval_variant){.topk = topk, .dense = dense};
    snprintf(v->name, sizeof v->name, "%s", name);
}

/* Dense comes first: what the others are held against. */
static void make_variants(eval_plan *plan) {
    const eval_params *p = plan->params;
    if (p->as_ask) {
        add_variant(plan, "first look", 0, p->dense);
        add_variant(plan, "whole", 0, p->dense);
        return;
    }
    if (p->kind != EVAL_COMPARE) {
        add_variant(plan, p->dense ? "dense" : "sparse", 0, p->dense);
        return;
    }
    add_variant(plan, "dense", 0, true);
    for (int i = 0; i < p->n_ks; i++) {
        char name[24];
        snprintf(name, sizeof name, "k=%d", p->ks[i]);
        add_variant(plan, name, p->ks[i], false);
    }
}

static int load_rows(eval_plan *plan, const eval_params *p, store *s, ph_error *err) {
    char *name, *text;
    size_t len;
    int64_t run;
    if (p->data) return eval_rows_load(&plan->rows, p->data, p->source, err);
    if (!p->questions) return PH_OK;
    int code = store_questions_get(s, p->questions, &name, &text, &len, &run, err);
    if (code) return code;
    code = eval_rows_parse(&plan->rows, name, text, len, p->source, err);
    free(name);
    free(text);
    return code;
}

static int check_lengths(const eval_params *p, const engine *e, ph_error *err) {
    int64_t most = engine_config(e)->max_positions;
    if (p->n_lengths == 0) return ph_fail(err, PH_USAGE, "there are no lengths to run");
    for (int i = 0; i < p->n_lengths; i++) {
        if (p->lengths[i] > most)
            return ph_fail(err, PH_TOO_LARGE, "a length of %lld tokens is more than the model's %lld",
                           (long long)p->lengths[i], (long long)most);
        if (p->lengths[i] < 512)
            return ph_fail(err, PH_USAGE,
                           "a length of %lld tokens leaves no room for a haystack (512 is the least)",
                           (long long)p->lengths[i]);
    }
    return PH_OK;
}

int eval_plan_make(eval_plan *plan, eval_params *p, store *s, engine *e, ph_error *err) {
    memset(plan, 0, sizeof *plan);
    plan->params = p;
    plan->engine = e;
    int code = check_lengths(p, e, err);
    if (!code) code = eval_texts_load(&plan->texts, p, s, err);
    if (!code) code = load_rows(plan, p, s, err);
    if (!code && p->words && p->over == EVAL_RULER) code = eval_lexicon_load(&plan->lexicon, p->words, err);
    if (!code) code = check_texts(plan, p, err);
    make_variants(plan);
    if (!code && p->over == EVAL_NEEDLE) code = eval_needle_plan(plan, err);
    if (!code && p->over == EVAL_RULER) code = eval_ruler_plan(plan, err);
    if (!code && p->over == EVAL_QA) code = p->as_ask ? eval_ask_plan(plan, err) : eval_qa_plan(plan, err);
    for (size_t i = 0; i < plan->n_groups && !code; i++) {
        plan->groups[i].cell = plan->cells;
        plan->cells += plan->groups[i].questions * (size_t)plan->n_variants;
    }
    if (!code && plan->cells == 0) code = ph_fail(err, PH_USAGE, "there is nothing to ask");
    if (code) eval_plan_free(plan);
    return code;
}

void eval_plan_tokens(const eval_plan *plan, int64_t *sparse, int64_t *dense) {
    const eval_params *p = plan->params;
    *sparse = *dense = 0;
    for (int v = 0; v < plan->n_variants; v++)
        for (size_t i = 0; i < plan->n_groups; i++) {
            const eval_group *g = &plan->groups[i];
            int64_t tokens = g->length;
            if (g->tokens) tokens = v == 0 ? g->tokens : 0; /* the variants ask of one library */
            /* The depths of a row come from the deepest up: what stands before a needle is there already. Between
             * variants nothing is. */
            if (p->over == EVAL_NEEDLE && !p->together && plan->n_variants == 1 && g->number < p->depths - 1)
                tokens -= (int64_t)((double)tokens * eval_depth(p, g->number) / 100);
            *(plan->variants[v].dense ? dense : sparse) += tokens;
        }
}

void eval_plan_free(eval_plan *plan) {
    if (plan->params && plan->params->over == EVAL_RULER) eval_ruler_plan_free(plan);
    if (plan->params && plan->params->as_ask)
        eval_ask_plan_free(plan);
    else if (plan->params && plan->params->over == EVAL_QA)
        eval_qa_plan_free(plan);
    free(plan->groups);
    eval_texts_free(&plan->texts);
    eval_rows_free(&plan->rows);
    eval_lexicon_free(plan->lexicon);
    memset(plan, 0, sizeof *plan);
}

int eval_group_make(eval_haystack *h, const eval_plan *plan, size_t group, ph_error *err) {
    memset(h, 0, sizeof *h);
    const eval_group *g = &plan->groups[group];
    int code = plan->params->over == EVAL_RULER ? eval_ruler_make(h, plan, g, err)
               : plan->params->over == EVAL_QA  ? eval_qa_make(h, plan, g, err)
                                                : eval_needle_make(h, plan, g, err);
    if (!code && h->n != g->questions)
        code = ph_fail(err, PH_FAIL, "haystack %zu has %zu questions where %zu were planned", group, h->n,
                       g->questions);
    if (code) eval_haystack_free(h);
    return code;
}
