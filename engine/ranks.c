/* ranks.c - loads, runs and closes the ranks of an engine (ranks.h). */
#include "engine/ranks.h"

#include "engine/team.h"

#include <stdlib.h>
#include <string.h>

/* What a rank above 0 has for itself. */
typedef struct member {
    model model;
    scratch scratch;
} member;

struct ranks {
    team *team;
    kern_group *group[KERN_MAX_RANKS];
    member member[KERN_MAX_RANKS]; /* [0] is not used */
};

int ranks_open(engine *e, ph_error *err) {
    struct ranks *r = e->ranks = calloc(1, sizeof *r);
    if (!r) return ph_fail(err, PH_MEMORY, "no memory for %d ranks", e->n_ranks);
    int code = kern_group_open(r->group, e->kerns, e->n_ranks, err);
    if (!code) code = team_open(&r->team, e->n_ranks, err);
    return code;
}

void ranks_close(engine *e) {
    struct ranks *r = e->ranks;
    if (!r) return;
    for (int i = 1; i < e->n_ranks; i++) {
        scratch_free(&r->member[i].scratch, e->kerns[i]);
        model_free(&r->member[i].model, e->kerns[i]);
    }
    kern_group_close(r->group, e->n_ranks);
    team_close(r->team);
    free(r);
    e->ranks = NULL;
}

typedef struct loading {
    engine *engine;
    const model_config *config;
    kern_type keep;
    int topk, chunk;
    ph_error err[KERN_MAX_RANKS];
    int code[KERN_MAX_RANKS];
} loading;

static void load_rank(void *arg, int rank) {
    loading *l = arg;
    engine *e = l->engine;
    member *other = &e->ranks->member[rank];
    model *m = rank ? &other->model : &e->model;
    scratch *s = rank ? &other->scratch : &e->scratch;
    kern *k = e->kerns[rank];
    ph_error *err = &l->err[rank];
    model_share share;
    int code = model_share_make(&share, l->config, rank, e->n_ranks, k->ranks_alike, err);
    if (!code) code = model_load(m, l->config, &share, e->files, k, l->keep, err);
    if (!code) code = scratch_make(s, l->config, &share, l->topk, l->chunk, k, err);
    l->code[rank] = code;
}

int ranks_load(engine *e, const model_config *c, kern_type keep, int topk, int chunk, ph_error *err) {
    loading l = {.engine = e, .config = c, .keep = keep, .topk = topk, .chunk = chunk};
    team_run(e->ranks->team, load_rank, &l);
    for (int i = 0; i < e->n_ranks; i++) {
        if (!l.code[i]) continue;
        if (err) *err = l.err[i];
        return l.code[i] == PH_UNSUPPORTED ? l.code[i] : ph_context(err, "rank %d", i);
    }
    e->forward.group = e->ranks->group[0];
    return PH_OK;
}

typedef struct running {
    engine *engine;
    const forward_step *step;
} running;

static void run_rank(void *arg, int rank) {
    const running *r = arg;
    engine *e = r->engine;
    forward_engine f = e->forward;
    if (rank) {
        f.model = &e->ranks->member[rank].model;
        f.scratch = &e->ranks->member[rank].scratch;
        f.kern = e->kerns[rank];
        f.group = e->ranks->group[rank];
    }
    forward(&f, r->step);
}

void engine_forward(engine *e, const forward_step *step) {
    if (e->ranks)
        team_run(e->ranks->team, run_rank, &(running){e, step});
    else
        forward(&e->forward, step);
}

int engine_status(engine *e, ph_error *err) {
    int code = e->kern->status(e->kern, err);
    for (int i = 0; e->ranks && i < e->n_ranks && !code; i++) {
        code = e->kerns[i]->status(e->kerns[i], err);
        if (!code) code = e->ranks->group[i]->status(e->ranks->group[i], err);
        if (code) ph_context(err, "rank %d", i);
    }
    return code;
}
