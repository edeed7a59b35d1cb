/* engine.h - tokens in, tokens and traces out. Knows nothing of documents.
 *
 * An `engine` is an opened model: weights, tokenizer, backend. A `context` is what has been read: per layer
 * the latent cache and the indexer's keys of n tokens, in memory or in a snapshot file. A `session` is one
 * conversation's private tail on top of a context, copied on write: any number may stand on one context.
 *
 *     engine_open -> context_open(path) -> context_read(tokens)      prefill, appended to the snapshot
 *                    session_open(context) -> session_feed(question) -> session_generate(...)
 *
 * Threads: one call at a time for an engine (its backend's threads do the work).
 */
#ifndef PHAROS_ENGINE_H
#define PHAROS_ENGINE_H

#include "engine/config.h"
#include "engine/prompt.h"
#include "engine/tokenizer.h"
#include "kernels/group.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Part of a snapshot's key: raise it whenever the numbers that a forward pass writes into a cache change. */
#define ENGINE_NUMERICS_VERSION 1

typedef struct engine engine;
typedef struct context context;
typedef struct session session;

typedef enum engine_precision {
    ENGINE_FAST,  /* bf16 matrices and latents, int8 index keys */
    ENGINE_EXACT, /* fp32 throughout: what `pharos model check` holds against a reference */
} engine_precision;

/* FOR TESTS ONLY: a fault planted into the forward pass, to show that a diagnosis names it. Set by a test's own code
 * and by `pharos eval --fault`, which has the verdicts checked; nothing else reaches it, and the engine's key says that
 * it is there. */
typedef enum engine_fault {
    ENGINE_FAULT_NONE,
    ENGINE_FAULT_SHUFFLED_SCORES, /* every index score is replaced by noise: what is selected is arbitrary */
    ENGINE_FAULT_ZERO_ATTENTION,  /* what predicts a token gets nothing from attention; its selection and mass
                                     are those of the sound pass */
} engine_fault;

/* A model's files in memory, borrowed for the engine's life. nano.h has the ones linked into the program. */
typedef struct engine_files {
    const char *name;                         /* for people */
    const void *config, *tokenizer, *weights; /* config.json, tokenizer.json, model.safetensors */
    size_t config_len, tokenizer_len, weights_len;
    const void *generation; /* generation_config.json; NULL = none */
    size_t generation_len;
} engine_files;

typedef struct engine_options {
    const char *model_dir; /* NULL = `files` */
    const engine_files *files;
    const char *backend; /* NULL = the best of the processor's; "cuda:0,1" = one model on two GPUs; see kern_open_ranks */
    int ranks;           /* backends that share the model: 0 = as `backend` says */
    int threads;         /* of all ranks together; 0 = all */
    engine_precision precision;
    int topk;   /* 0 = the model's index_topk */
    int chunk;  /* tokens per prefill step; 0 = what suits the backend */
    bool fp8_latents; /* hold latents in 656 bytes each (kernels.h): V3.2's dimensions on a GPU that can */
    bool hold_codes; /* hold FP8 matrices in 8 bits on a GPU even where the model is small, as a large one's are: for tests */
    bool dense; /* attend to everything (same weights): for comparison */
    engine_fault fault; /* tests only */
} engine_options;

int engine_open(engine **out, const engine_options *options, ph_error *err);
void engine_close(engine *e);
const model_config *engine_config(const engine *e);
const tokenizer *engine_tokenizer(const engine *e);
const prompt_tokens *engine_prompt(const engine *e);
/* Whether the model's folder asks for thinking mode (config.h): the default, which a question may overrule. */
bool engine_thinks(const engine *e);
kern *engine_kernels(engine *e); /* rank 0's */
int engine_ranks(const engine *e);
kern_group *engine_group(engine *e); /* rank 0's end; NULL with one rank */
/* 32 bytes that identify model, tokenizer, template, numeric format, top-k mode and engine version together.
 */
const uint8_t *engine_key(const engine *e);
bool engine_is_remote(const engine *e); /* its model is served elsewhere (remote.h): no selection can be forced */
const char *engine_model_name(const engine *e);              /* for people: folder name or "pharos-nano" */
size_t engine_context_bytes(const engine *e, int64_t n_tok); /* cache bytes of n tokens */
size_t engine_latent_bytes(const engine *e, int64_t n_tok);  /* of them, latents: the rest are the indexer's keys */
double engine_weight_bytes(const engine *e);                 /* bytes that a weight is held in, on average */
/* Switches between sparse and dense attention for the calls that follow, to compare them on one context. The
 * key stays: what a context reads under the other mode must not be kept. */
void engine_set_dense(engine *e, bool dense);
/* Whether it can attend to everything: not over latents in FP8. */
bool engine_has_dense(const engine *e);
/* Selects k positions from now on; at most the top-k that the engine was opened with, and no session may be
 * open. The same warning as above. */
int engine_set_topk(engine *e, int k, ph_error *err);
int engine_topk(const engine *e);

/* Called between steps. Return non-zero to stop: the call then returns PH_INTERRUPTED and keeps what is done.
 */
typedef int (*engine_progress)(void *user, int64_t done, int64_t total);

/* ---- contexts ---- */

/* Opens (or makes) the snapshot at path; NULL = in memory only. `capacity` tokens, 0 = the model's maximum.
 * A file that is corrupt, foreign or stale is a miss: it is emptied and *reason (may be NULL; a static or
 * context-owned sentence, NULL when all was well) says why. PH_BUSY when another process writes it. */
int context_open(context **out, engine *e, const char *path, int64_t capacity, const char **reason,
                 ph_error *err);
void context_close(context *c);
int64_t context_length(const context *c);
int64_t context_capacity(const context *c);
const int32_t *context_tokens(const context *c); /* [context_length], borrowed until the next read */
/* Makes the context hold exactly tokens[n]: keeps the longest common prefix, drops the rest, reads what is
 * new and commits after every chunk. *cached (may be NULL) = tokens that were not read again. */
int context_read(context *c, const int32_t *tokens, int64_t n, engine_progress progress, void *user,
                 int64_t *cached, ph_error *err);

/* Keeps at most the first `length` tokens, in whole blocks of the snapshot, so a little less. What stood behind them
 * is erased from the file. PH_BUSY when a conversation stands on it or another process has it open. */
int context_shorten(context *c, int64_t length, ph_error *err);

/* ---- sessions ---- */

/* Where a step's attention went, for one generated token and one layer. */
typedef struct trace_layer {
    int layer;
    int count;
    const int32_t *position; /* [count] ascending */
    const float *score; /* [count] index score; NULL in a layer that reuses another's selection, or dense */
    const float *mass;  /* [count] mean over heads of the attention probability; sums to 1 */
} trace_layer;

typedef struct generate_step {
    int32_t token;
    bool thinking; /* a token of the thought, which is no answer */
    float logprob;     /* of this token under the model (temperature 1); NAN where a server does not say */
    const char *piece; /* its bytes, borrowed for the callback */
    size_t piece_len;
    const trace_layer *layers; /* [n_layers], of the step that PREDICTED this token; NULL without trace */
    int n_layers;
    int index; /* of the token in the answer, from 0. A server's piece may be several tokens: token is -1 then */
    /* A remote engine learns what was selected after the last token only: each step then comes a second time,
     * without a piece, to bring its layers. */
    bool late;
    bool selection_only; /* masses are equal shares of the selection: attention is not known */
} generate_step;

/* Return non-zero to stop. */
typedef int (*generate_callback)(void *user, const generate_step *step);

typedef struct generate_options {
    int max_tokens; /* of the answer */
    /* The fed tokens opened a thought (PROMPT_THINKING): it has at most so many tokens, then </think> is written
     * for the model. </think> is no step. 0: there is no thought. PH_UNSUPPORTED for a served model. */
    int max_thinking;
    float temperature; /* 0 = greedy */
    float top_p;       /* 1 = off */
    uint64_t seed;
    bool trace;
    bool ignore_eos;        /* benchmarks */
    generate_callback step; /* may be NULL */
    int (*waiting)(void *user); /* remote: ten times a second while nothing comes; non-zero stops. May be NULL */
    void *user;
} generate_options;

typedef enum stop_reason { STOP_EOS, STOP_LENGTH, STOP_CALLBACK, STOP_CONTEXT } stop_reason;

/* The context must outlive the session and must not be read into while sessions stand on it. */
int session_open(session **out, context *c, ph_error *err);
void session_close(session *s);
int64_t session_length(const session *s); /* context and tail */
/* Only these positions of the CONTEXT may be selected, and the tail always; NULL = all. Copied. */
int session_restrict(session *s, const kern_range *ranges, int n, ph_error *err);
/* Reads tokens into the tail. PH_TOO_LARGE (both sizes) when they do not fit. */
int session_feed(session *s, const int32_t *tokens, int64_t n, engine_progress progress, void *user,
                 ph_error *err);
/* Drops the tail back to `length` tokens (at least the context's): the way to ask many questions of one
 * context. */
int session_rewind(session *s, int64_t length, ph_error *err);
/* Needs at least one fed token. Appends what it generates to the tail, except a final EOS. */
int session_generate(session *s, const generate_options *options, stop_reason *why, ph_error *err);
/* What a server says that the last answer took; false: the engine is local, and nobody knows better than the
 * caller. */
typedef struct generate_usage {
    int64_t prompt_tokens, cached_tokens, completion_tokens;
} generate_usage;
bool session_usage(const session *s, generate_usage *out);
/* Why the last answer has no trace, for a person; NULL: it has one, or the engine is local. Borrowed. */
const char *session_untraced(const session *s);
/* Logits after the last fed token: [vocab], borrowed until the next call. NULL before any. */
const float *session_logits(session *s);
/* The trace of the last fed token, which an answer of no tokens hands to nobody: `layers` borrowed until the next call;
 * NULL before anything was fed, dense, or of a served model. */
const trace_layer *session_trace(const session *s, int *n_layers);
/* The indexer's scores of every position, as the last fed token's query in `layer` gave them: the rank of what
 * was not selected. A layer that reuses another's selection has that one's scores. score[session_length]
 * filled. PH_USAGE before anything was fed, or dense. */
int session_index_scores(session *s, int layer, float *score, ph_error *err);

#endif
