/* choose.c - ranks packs by full text, and turns documents and passages into token ranges (choose.h). */
#include "appliance/choose.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* PASSAGES: with 120 written passages and 524 questions, 3 gave the embedded model its best token F1 (1 to 64
 * tried). */
enum { DEFAULT_PACKS = 3, SEARCH_HITS = 64, PASSAGES = 3 };

static bool wanted(const answer_options *o, int64_t document) {
    if (!o->documents) return true;
    for (size_t i = 0; i < o->n_documents; i++)
        if (o->documents[i] == document) return true;
    return false;
}

static int best_first(const void *a, const void *b) {
    const pack_rank *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    return (x->pack > y->pack) - (x->pack < y->pack);
}

static bool span_holds(const store_pack_item *item, const store_hit *hit) {
    return item->document == hit->document && hit->start < item->text_end && hit->end > item->text_start;
}

/* Whether a pack holds a wanted document, and its best passage's score: many weak hits are mere size. */
static bool rank(const store_pack *p, const choice *c, const answer_options *o, double *score) {
    bool use = false;
    *score = 0;
    for (size_t j = 0; j < p->n_items; j++) {
        use |= wanted(o, p->items[j].document);
        for (size_t h = 0; h < c->n_hits; h++)
            if (span_holds(&p->items[j], &c->hits[h]) && wanted(o, c->hits[h].document))
                *score = fmax(*score, c->hits[h].score);
    }
    return use && (!o->pack || p->id == o->pack);
}

int choice_make(choice *out, store *s, engine *e, const char *question, const answer_options *o,
                ph_error *err) {
    memset(out, 0, sizeof *out);
    store_pack *packs = NULL;
    size_t n_packs = 0;
    int code = store_pack_list(s, engine_key(e), &packs, &n_packs, err);
    if (!code) code = store_search(s, question, SEARCH_HITS, &out->hits, &out->n_hits, err);
    if (!code && !(out->packs = calloc(n_packs + 1, sizeof *out->packs)))
        code = ph_fail(err, PH_MEMORY, "no memory for %zu packs", n_packs);
    for (size_t i = 0; i < n_packs && !code; i++) {
        double score;
        if (rank(&packs[i], out, o, &score)) out->packs[out->n++] = (pack_rank){packs[i].id, score};
    }
    store_packs_free(packs, n_packs);
    if (!code && out->n == 0 && o->pack)
        code = ph_fail(err, PH_NOT_FOUND, "there is no pack %lld for this model", (long long)o->pack);
    if (!code && out->n == 0)
        code = ph_fail(err, PH_NOT_FOUND, "there are no documents yet: add some with `pharos add`");
    if (code) {
        choice_free(out);
        return code;
    }
    out->all = out->n;
    qsort(out->packs, (size_t)out->n, sizeof *out->packs, best_first);
    int most = o->max_packs > 0 ? o->max_packs : DEFAULT_PACKS;
    if (out->n > most) out->n = most;
    return PH_OK;
}

void choice_free(choice *c) {
    free(c->packs);
    free(c->hits);
    memset(c, 0, sizeof *c);
}

/* ---- what may be selected ---- */

static int no_memory(size_t n, ph_error *err) {
    return ph_fail(err, PH_MEMORY, "no memory for %zu ranges of a pack", n);
}

int choose_everything(kern_range **ranges, int *n, const loaded_pack *p, const answer_options *o,
                      ph_error *err) {
    *ranges = NULL;
    *n = 0;
    if (!o->documents) return PH_OK;
    kern_range *r = malloc((p->n_texts + 1) * sizeof *r);
    if (!r) return no_memory(p->n_texts, err);
    r[(*n)++] = (kern_range){0, 2};
    for (size_t i = 0; i < p->n_texts; i++)
        if (wanted(o, p->texts[i].document))
            r[(*n)++] = (kern_range){p->texts[i].span.token_start, p->texts[i].span.token_end};
    *ranges = r;
    return PH_OK;
}

static int by_start(const void *a, const void *b) {
    const kern_range *x = a, *y = b;
    return (x->start > y->start) - (x->start < y->start);
}

/* Ranges that touch or overlap become one: the engine wants them disjoint. */
static int merge(kern_range *r, int n) {
    qsort(r, (size_t)n, sizeof *r, by_start);
    int kept = 0;
    for (int i = 1; i < n; i++) {
        if (r[i].start > r[kept].end)
            r[++kept] = r[i];
        else if (r[i].end > r[kept].end)
            r[kept].end = r[i].end;
    }
    return n ? kept + 1 : 0;
}

int choose_passages(kern_range **ranges, int *n, int *passages, const loaded_pack *p, const choice *c,
                    const answer_options *o, ph_error *err) {
    *ranges = NULL;
    *n = *passages = 0;
    /* A hit lies in one text, or across the border of two parts of a document. */
    size_t most = 1 + 2 * PASSAGES * (p->n_texts + 1);
    kern_range *r = malloc(most * sizeof *r);
    if (!r) return no_memory(most, err);
    r[(*n)++] = (kern_range){0, 2};
    for (size_t h = 0; h < c->n_hits && *passages < PASSAGES; h++) {
        const store_hit *hit = &c->hits[h];
        bool here = false;
        for (size_t i = 0; i < p->n_texts; i++) {
            const pack_text *t = &p->texts[i];
            if (t->document != hit->document || !wanted(o, t->document)) continue;
            if (hit->start >= t->span.text_end || hit->end <= t->span.text_start) continue;
            r[(*n)++] =
                (kern_range){t->span.token_start, t->span.text_token_start}; /* it says whose text this is */
            r[(*n)++] = (kern_range){pack_token_at(p, t, hit->start), pack_token_at(p, t, hit->end)};
            here = true;
        }
        *passages += here;
    }
    *n = merge(r, *n);
    *ranges = r;
    return PH_OK;
}
