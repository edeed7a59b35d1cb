/* context.c - what has been read: opens a snapshot, reads tokens into it, commits after every chunk. */
#include "engine/engine_internal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A power cut loses at most this much reading; a killed process loses the chunk in flight only. */
enum { SYNC_SECONDS = 10 };

int context_open(context **out, engine *e, const char *path, int64_t capacity, const char **reason,
                 ph_error *err) {
    *out = NULL;
    int64_t most = e->model.config.max_positions;
    if (capacity < 0 || capacity > most)
        return ph_fail(err, PH_TOO_LARGE, "a context of %lld tokens is more than the model's %lld",
                       (long long)capacity, (long long)most);
    context *c = calloc(1, sizeof *c);
    if (!c) return ph_fail(err, PH_MEMORY, "no memory for a context");
    c->engine = e;
    c->capacity = capacity ? capacity : most;
    if (reason) *reason = NULL;
    if (e->remote) {
        *out = c;
        return PH_OK;
    }
    int code = snapshot_open(&c->snapshot, path, e->key, c->capacity, &e->model.config, e->latents, e->keys,
                             e->kerns, e->n_ranks, err);
    if (code) {
        free(c);
        return code;
    }
    if (reason) *reason = c->snapshot.reason;
    *out = c;
    return PH_OK;
}

void context_close(context *c) {
    if (!c) return;
    if (!c->engine->remote) snapshot_close(&c->snapshot);
    token_list_free(&c->sent);
    free(c);
}

int64_t context_length(const context *c) {
    return c->engine->remote ? (int64_t)c->sent.n : c->snapshot.length;
}
int64_t context_capacity(const context *c) {
    return c->capacity;
}
const int32_t *context_tokens(const context *c) {
    return c->engine->remote ? c->sent.ids : snapshot_tokens((snapshot *)&c->snapshot);
}

typedef struct reading {
    context *c;
    int64_t total;
    time_t synced;
    engine_progress progress;
    void *user;
} reading;

static int commit_chunk(void *user, int64_t position, ph_error *err) {
    reading *r = user;
    snapshot *s = &r->c->snapshot;
    time_t now = time(NULL);
    bool sync = position == r->total || now - r->synced >= SYNC_SECONDS;
    int code = snapshot_commit(s, position, sync, err);
    if (code) return code;
    if (sync) r->synced = now;
    if (r->progress && r->progress(r->user, position, r->total))
        return ph_fail(err, PH_INTERRUPTED, "stopped after reading %lld of %lld tokens", (long long)position,
                       (long long)r->total);
    /* The next chunk writes into the map. */
    int64_t next = position + r->c->engine->scratch.chunk;
    return position == r->total ? PH_OK
                                : snapshot_reserve(s, position, next < r->total ? next : r->total, err);
}

static int64_t common_prefix(const int32_t *a, int64_t na, const int32_t *b, int64_t nb) {
    int64_t n = 0;
    while (n < na && n < nb && a[n] == b[n]) n++;
    return n;
}

static int read_locked(context *c, const int32_t *tokens, int64_t n, int64_t keep, engine_progress progress,
                       void *user, ph_error *err) {
    snapshot *s = &c->snapshot;
    int code = snapshot_extend(s, n, err); /* of all of it, before any of it is read */
    if (!code) code = snapshot_reserve(
        s, keep, keep + c->engine->scratch.chunk < n ? keep + c->engine->scratch.chunk : n, err);
    /* What follows the common prefix is given up before it is written over. */
    if (!code && keep < s->length) code = snapshot_commit(s, keep, true, err);
    if (code || keep == n) return code;
    memcpy(snapshot_tokens(s) + keep, tokens + keep, (size_t)(n - keep) * sizeof *tokens);
    reading r = {.c = c, .total = n, .synced = time(NULL), .progress = progress, .user = user};
    forward_step step = {.cache = s->cache, .pos0 = keep};
    return run_chunks(c->engine, step, tokens + keep, n - keep, commit_chunk, &r, err);
}

/* A server reads with each question; here the tokens are only remembered. */
static int read_remote(context *c, const int32_t *tokens, int64_t n, engine_progress progress, void *user,
                       ph_error *err) {
    if (c->sessions) return ph_fail(err, PH_BUSY, "a conversation stands on this context");
    int code = PH_OK;
    c->sent.n = 0;
    for (int64_t i = 0; i < n && !code; i++) code = token_list_push(&c->sent, tokens[i], 0, false, err);
    if (!code && n && progress && progress(user, n, n)) code = ph_fail(err, PH_INTERRUPTED, "stopped before asking");
    return code;
}

int context_read(context *c, const int32_t *tokens, int64_t n, engine_progress progress, void *user,
                 int64_t *cached, ph_error *err) {
    snapshot *s = &c->snapshot;
    if (n < 0 || n > c->capacity)
        return ph_fail(err, PH_TOO_LARGE, "%lld tokens do not fit into a context of %lld", (long long)n,
                       (long long)c->capacity);
    int code = check_tokens(c->engine, tokens, n, err);
    if (code) return code;
    if (c->engine->remote) {
        if (cached) *cached = 0;
        return read_remote(c, tokens, n, progress, user, err);
    }
    int64_t keep = common_prefix(snapshot_tokens(s), s->length, tokens, n);
    if (cached) *cached = keep;
    if (keep == n && s->length == n) return PH_OK;
    if (c->sessions) return ph_fail(err, PH_BUSY, "a conversation stands on this context");
    code = snapshot_lock(s, err);
    if (code) return code;
    keep = common_prefix(snapshot_tokens(s), s->length, tokens, n);
    if (cached) *cached = keep;
    code = read_locked(c, tokens, n, keep, progress, user, err);
    snapshot_unlock(s);
    return code;
}

int context_shorten(context *c, int64_t length, ph_error *err) {
    if (length < 0) return ph_fail(err, PH_USAGE, "a context cannot be shortened to %lld tokens", (long long)length);
    if (c->sessions) return ph_fail(err, PH_BUSY, "a conversation stands on this context");
    if (c->engine->remote) {
        if ((size_t)length < c->sent.n) c->sent.n = (size_t)length;
        return PH_OK;
    }
    int code = snapshot_lock(&c->snapshot, err);
    if (code) return code;
    code = snapshot_shorten(&c->snapshot, length, err);
    snapshot_unlock(&c->snapshot);
    return code;
}
