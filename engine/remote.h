/* remote.h - an engine whose model runs elsewhere: an OpenAI-compatible server (vLLM, SGLang, or another
 * Pharos) that serves DeepSeek-V3.2 on a cluster.
 *
 * It is an `engine` like a local one: contexts and sessions are made, fed, restricted, rewound and asked in
 * the same way (engine.h), so that nothing above has two paths. What differs:
 *
 *   - a context only remembers its tokens: the server reads them, as text of messages, with each question.
 * The text of a pack comes first and is the same every time, so that the server's prefix cache has it.
 *   - a restriction takes the other tokens out of what is sent; nothing else could keep a server from them.
 *   - tokens are counted by the served model's own tokenizer where it is given, else by the one of the
 * embedded model, which needs more of them for the same text: what fits by its count fits. session_usage has
 * the server's own numbers.
 *   - there is a trace only where the server is an SGLang with --enable-return-indexer-topk and the tokenizer
 * is given: then tokens are sent instead of text (/generate), so that positions are known, and the selection
 * of every token comes after the last one. session_untraced says why there is none. Masses of such a trace
 * are not attention: each selected position has an equal share (generate_step.selection_only).
 *   - no logits, no index scores, no dense mode, no other top-k.
 */
#ifndef PHAROS_REMOTE_H
#define PHAROS_REMOTE_H

#include "engine/engine.h"

typedef struct remote_options {
    const char *url;     /* http://HOST:PORT or https://..., with or without /v1 */
    const char *model;   /* NULL = the only one there */
    const char *key;     /* NULL = none. Copied, and erased at the end */
    const char *ca_file; /* whom to trust; NULL = the system's */
    const char *system;  /* text before everything; NULL or "" = none */
    const char
        *tokenizer; /* the served model's tokenizer.json, or the folder with it and config.json; NULL */
    const engine_files *files;         /* whose tokenizer counts where there is no other */
    int64_t context;                   /* tokens; 0 = as /v1/models says */
    uint64_t trace_bytes;              /* the largest selection that is asked for; 0 = 1 GiB */
    int connect_ms, idle_ms, total_ms; /* 0 = 10 s, 5 min, 1 h */
    int retries, backoff_ms;           /* 0 = 5 tries more, half a second before the first; -1 = none */
    int (*waiting)(void *user);        /* while opening; non-zero stops. May be NULL */
    void *user;
} remote_options;

/* Asks /v1/models, so that what is wrong with the server is said at once. Everything is copied. */
int remote_open(engine **out, const remote_options *options, ph_error *err);

#endif
