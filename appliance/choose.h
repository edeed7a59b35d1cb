/* choose.h - before a question is asked: which packs to ask, and which positions of a pack may be selected.
 */
#ifndef PHAROS_CHOOSE_H
#define PHAROS_CHOOSE_H

#include "appliance/answer.h"

typedef struct pack_rank {
    int64_t pack;
    double score; /* of the pack's best passage in full text; higher is better */
} pack_rank;

/* Zero-initialise; free with choice_free. */
typedef struct choice {
    pack_rank *packs; /* [n] to ask, most promising first */
    int n, all;       /* all: how many could be asked */
    store_hit *hits;  /* [n_hits] passages that full text finds, best first */
    size_t n_hits;
} choice;

/* PH_NOT_FOUND when there is nothing to ask. */
int choice_make(choice *out, store *s, engine *e, const char *question, const answer_options *o,
                ph_error *err);
void choice_free(choice *c);

/* What the indexer may select from, as ranges of the pack's tokens (owned by the caller). Both hold the
 * prompt's first two tokens, which attention rests on. everything: the wanted documents; *ranges NULL = no
 * restriction. passages:   the headers and passages of the best hits in this pack; *passages = how many (0 =
 * none). */
int choose_everything(kern_range **ranges, int *n, const loaded_pack *p, const answer_options *o,
                      ph_error *err);
int choose_passages(kern_range **ranges, int *n, int *passages, const loaded_pack *p, const choice *c,
                    const answer_options *o, ph_error *err);

#endif
