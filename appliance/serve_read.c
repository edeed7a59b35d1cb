/* serve_read.c - see serve_read.h. */
#include "appliance/serve_read.h"

#include "appliance/command.h"
#include "appliance/library.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void reading_begin(reading_now *r, int64_t pack) {
    pthread_mutex_lock(&r->lock);
    r->pack = pack;
    r->done = r->total = r->cached = 0;
    r->first = -1;
    r->started = seconds_now();
    pthread_mutex_unlock(&r->lock);
}

void reading_at(reading_now *r, int64_t done, int64_t total, int64_t cached) {
    pthread_mutex_lock(&r->lock);
    if (r->first < 0) {
        r->first = done;
        r->done = done;
        r->started = seconds_now();
    }
    if (done > r->done) r->tokens_read += (uint64_t)(done - r->done);
    r->done = done;
    r->total = total;
    r->cached = cached > r->first ? cached : r->first;
    pthread_mutex_unlock(&r->lock);
}

void reading_end(reading_now *r) {
    pthread_mutex_lock(&r->lock);
    if (r->pack && r->first >= 0 && r->done > r->first) r->seconds += seconds_now() - r->started;
    r->pack = 0;
    pthread_mutex_unlock(&r->lock);
}

double reading_rate(reading_now *r) {
    pthread_mutex_lock(&r->lock);
    double rate = r->seconds > 0 ? (double)r->tokens_read / r->seconds : 0;
    pthread_mutex_unlock(&r->lock);
    return rate;
}

json_t *reading_json(reading_now *r) {
    pthread_mutex_lock(&r->lock);
    double seconds = seconds_now() - r->started;
    double rate = r->first >= 0 && seconds > 0.05 ? (double)(r->done - r->first) / seconds : 0;
    json_t *out = json_null();
    if (r->pack) /* a question does not say which pack it reads */
        out = json_pack("{s:o, s:I, s:I, s:I, s:f}", "pack",
                        r->pack > 0 ? json_integer((json_int_t)r->pack) : json_null(), "done",
                        (json_int_t)r->done, "total", (json_int_t)r->total, "cached", (json_int_t)r->cached,
                        "rate", rate);
    pthread_mutex_unlock(&r->lock);
    return out;
}

static void set_failed(reading_now *r, const char *why) {
    pthread_mutex_lock(&r->lock);
    snprintf(r->failed, sizeof r->failed, "%s", why);
    pthread_mutex_unlock(&r->lock);
}

json_t *reading_failed_json(reading_now *r) {
    pthread_mutex_lock(&r->lock);
    json_t *out = r->failed[0] ? json_text(r->failed) : json_null();
    pthread_mutex_unlock(&r->lock);
    return out;
}

typedef struct reader {
    reading_now *now;
    job *job;
} reader;

static int read_step(void *user, int64_t done, int64_t total) {
    reader *r = user;
    reading_at(r->now, done, total, 0);
    return job_stops(r->job, true);
}

static int read_pack(reader *r, store *s, engine *e, int64_t id, ph_error *err) {
    loaded_pack p;
    context *c = NULL;
    int code = pack_load(&p, s, e, id, err);
    if (code) return code;
    reading_begin(r->now, id);
    code = pack_read(&c, &p, s, e, read_step, r, NULL, NULL, err);
    reading_end(r->now);
    context_close(c);
    pack_unload(&p);
    return code;
}

int serve_read(void *user, job *j, store *s, engine *e, ph_error *err) {
    reader r = {user, j};
    store_pack *packs = NULL;
    size_t n = 0;
    char failed[sizeof r.now->failed] = "";
    int code = library_pack(s, e, NULL, NULL, err);
    if (!code) code = store_pack_list(s, engine_key(e), &packs, &n, err);
    for (size_t i = 0; i < n && !code; i++) {
        if (job_stops(j, true)) {
            code = ph_fail(err, PH_INTERRUPTED, "reading waits");
            break;
        }
        if (packs[i].read >= packs[i].tokens) continue;
        code = read_pack(&r, s, e, packs[i].id, err);
        if (!code || code == PH_INTERRUPTED || code == PH_NOT_FOUND) {
            if (code == PH_NOT_FOUND) code = PH_OK; /* it was erased meanwhile */
            continue;
        }
        /* One pack that cannot be read does not keep the others from it. */
        memcpy(failed, err->text, sizeof failed);
        set_failed(r.now, failed);
        code = PH_OK;
    }
    store_packs_free(packs, n);
    /* Stopped for a question, it has not tried all: what was said before still holds. */
    if (code && code != PH_INTERRUPTED) memcpy(failed, err->text, sizeof failed);
    if (code != PH_INTERRUPTED) set_failed(r.now, failed);
    return code;
}
