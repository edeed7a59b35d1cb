/* engine_internal.h - what engine.c, context.c, session.c and check.c share. Private to engine/. */
#ifndef PHAROS_ENGINE_INTERNAL_H
#define PHAROS_ENGINE_INTERNAL_H

#include "engine/engine.h"
#include "engine/forward.h"
#include "engine/snapshot.h"

struct engine {
    struct remote *remote; /* the model is served elsewhere, and of what follows only tokenizer, prompt, name, key,
                              model.config's vocab and max_positions and forward.topk are there; NULL = local */
    engine_precision precision;
    kern *kern; /* rank 0's: kerns[0] */
    kern *kerns[KERN_MAX_RANKS];
    int n_ranks;
    struct ranks *ranks; /* what the ranks above 0 have (ranks.h); NULL = there is one */
    tensor_files *files;
    model model;
    tokenizer *tokenizer;
    prompt_tokens prompt;
    bool thinks;
    scratch scratch;
    forward_engine forward;
    int most_topk; /* what the working memory has room for */
    char *name;
    uint8_t key[32];
    kern_latents latents; /* shape of the caches */
    kern_index_keys keys;
};

struct context {
    engine *engine;
    snapshot snapshot;
    int64_t capacity; /* what was asked for; the snapshot's is rounded up to whole blocks */
    int sessions;     /* standing on it */
    token_list sent;  /* remote: what has been "read"; the snapshot is not there */
};

/* Opens everything but tokenizer and prompt, which a bare checkpoint may lack (tests, model check). */
int engine_open_bare(engine **out, const engine_options *options, ph_error *err);

/* Runs tokens[n] at pos0.. in chunks whose ends fall on multiples of the chunk size. `done` (may be NULL) is
 * called after each chunk with the position reached, and may stop the run with a code of its own. */
typedef int (*chunk_done)(void *user, int64_t position, ph_error *err);
int run_chunks(engine *e, forward_step step, const int32_t *tokens, int64_t n, chunk_done done, void *user,
               ph_error *err);

/* One step, on every rank. */
void engine_forward(engine *e, const forward_step *step);
/* Whether everything so far went well, on every rank. */
int engine_status(engine *e, ph_error *err);

/* PH_USAGE when a token is not below the vocabulary. */
int check_tokens(const engine *e, const int32_t *tokens, int64_t n, ph_error *err);

#endif
