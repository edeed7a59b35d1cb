/* remote_internal.h - what engine.c, context.c and session.c hand over to remote*.c. Private to engine/. */
#ifndef PHAROS_REMOTE_INTERNAL_H
#define PHAROS_REMOTE_INTERNAL_H

#include "engine/engine_internal.h"
#include "engine/remote_http.h"

#include <jansson.h>

typedef struct remote {
    remote_http *http;
    char *key, *ca_file, *system, *model;
    bool own_tokenizer; /* the served model's: positions can be told */
    int topk, layers;   /* of its config.json; 0 = unknown */
    uint64_t trace_bytes;
    bool no_generate; /* the server has no /generate */
} remote;

typedef struct remote_session remote_session;

void remote_free(remote *r); /* NULL is fine */

/* ---- a session's tail (session.c calls these; the context is c) ---- */

int remote_session_open(remote_session **out, context *c, ph_error *err);
void remote_session_close(remote_session *s); /* NULL is fine */
int64_t remote_session_length(const remote_session *s);
int remote_session_restrict(remote_session *s, const kern_range *ranges, int n, ph_error *err);
int remote_session_feed(remote_session *s, const int32_t *tokens, int64_t n, ph_error *err);
int remote_session_rewind(remote_session *s, int64_t length, ph_error *err);
int remote_session_generate(remote_session *s, const generate_options *o, stop_reason *why, ph_error *err);
bool remote_session_usage(const remote_session *s, generate_usage *out);
const char *remote_session_untraced(const remote_session *s);

/* ---- tokens as messages (remote_messages.c) ---- */

/* [{role, content}] of a prompt in the release's encoding (prompt.h): special tokens are where messages begin
 * and end, the rest is text. system (may be NULL) goes first. NULL with err: out of memory, or the prompt
 * ends within an answer, which a server cannot be made to go on with. */
json_t *remote_messages(const engine *e, const int32_t *tokens, size_t n, const char *system, ph_error *err);

#endif
