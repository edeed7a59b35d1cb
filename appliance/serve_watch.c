/* serve_watch.c - see serve_watch.h. */
#include "appliance/serve_watch.h"

#include "appliance/command.h"
#include "appliance/serve_erase.h"
#include "appliance/watch.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char MISSING[] = "not there, or empty; nothing of it is erased, and it is waited for";

struct watching {
    watching_options options;
    char **folders; /* as they were named; owned */
    bool *missing;  /* told of; the thread's */
    watch *watch;
    store *store; /* the thread's */
    pthread_t thread;
    bool started;
    atomic_bool stopping;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t wake;
    char failed[480]; /* why the last look came to nothing, or "" */
};

/* ---- what a look tells ---- */

static void taken(void *user, const intake_result *r) {
    watching *w = user;
    watched_state state = r->state == INTAKE_FAILED || r->state == INTAKE_SKIPPED ? WATCHED_FAILED
                          : r->state == INTAKE_KNOWN                              ? WATCHED_KNOWN
                                                                                  : WATCHED_ADDED;
    uploads_tell(
        w->options.uploads,
        &(watched_file){.name = r->name, .detail = r->detail, .state = state, .document = r->document});
}

/* Files that are passed over because they have not changed are asked about with no total. */
static int progress(void *user, const char *name, uint64_t done, uint64_t total, const char *unit) {
    watching *w = user;
    if (total)
        uploads_tell(w->options.uploads,
                     &(watched_file){
                         .name = name, .unit = unit, .state = WATCHED_READING, .done = done, .total = total});
    return w->stopping;
}

static void removed(void *user, int64_t document, const char *name) {
    watching *w = user;
    (void)document;
    uploads_tell(w->options.uploads, &(watched_file){.name = name,
                                                     .detail = "its file is gone from the watched folder",
                                                     .state = WATCHED_REMOVED});
}

static void missing(void *user, const char *folder) {
    watching *w = user;
    for (size_t i = 0; i < w->options.n; i++)
        if (!strcmp(w->folders[i], folder)) w->missing[i] = true;
    uploads_tell(w->options.uploads,
                 &(watched_file){.name = folder, .detail = MISSING, .state = WATCHED_FAILED});
}

static int erase(void *user, store *s, int64_t document, ph_error *err) {
    watching *w = user;
    (void)s;
    return erase_document(w->options.jobs, document, "watched folders", err);
}

/* ---- the thread ---- */

static void look(watching *w) {
    watch_options o = {.intake = {.limits = {.file_bytes = w->options.file_bytes,
                                             .ocr = w->options.ocr[0] != 0,
                                             .ocr_language = w->options.ocr},
                                  .event = taken,
                                  .progress = progress,
                                  .erase = erase,
                                  .user = w},
                       .removed = removed,
                       .missing = missing};
    bool changed = false;
    ph_error err = {0};
    int code = watch_look(w->watch, w->store, &o, &changed, &err);
    for (size_t i = 0; i < w->options.n; i++) {
        if (!w->missing[i] || watch_is_missing(w->watch, i)) continue;
        w->missing[i] = false;
        uploads_untell(w->options.uploads, w->folders[i]);
    }
    /* Another process has the store for a while, or the server stops: the next look tries again. */
    if (code == PH_BUSY || code == PH_INTERRUPTED) code = PH_OK;
    pthread_mutex_lock(&w->lock);
    snprintf(w->failed, sizeof w->failed, "%s", code ? err.text : "");
    pthread_mutex_unlock(&w->lock);
    if (changed && w->options.changed) w->options.changed(w->options.user);
}

static void *keep_equal(void *user) {
    watching *w = user;
    while (!w->stopping) {
        struct timespec until;
        look(w);
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += w->options.every_ms / 1000;
        until.tv_nsec += (long)(w->options.every_ms % 1000) * 1000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_nsec -= 1000000000;
            until.tv_sec++;
        }
        pthread_mutex_lock(&w->lock);
        while (!w->stopping && !pthread_cond_timedwait(&w->wake, &w->lock, &until)) {
        }
        pthread_mutex_unlock(&w->lock);
    }
    return NULL;
}

/* ---- start and stop ---- */

static int open_parts(watching *w, ph_error *err) {
    size_t n = w->options.n;
    pthread_condattr_t clock;
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&w->wake, &clock);
    pthread_condattr_destroy(&clock);
    w->folders = calloc(n, sizeof *w->folders);
    w->missing = calloc(n, sizeof *w->missing);
    if (!w->folders || !w->missing) return ph_fail(err, PH_MEMORY, "no memory for %zu folders", n);
    int code = watch_open(&w->watch, w->options.folders, n, err);
    for (size_t i = 0; i < n && !code; i++)
        if (!(w->folders[i] = strdup(watch_folder(w->watch, i))))
            code = ph_fail(err, PH_MEMORY, "no memory for %zu folders", n);
    if (!code) code = store_open(&w->store, w->options.data_dir, err);
    return code;
}

int watching_start(watching **out, const watching_options *o, ph_error *err) {
    *out = NULL;
    watching *w = calloc(1, sizeof *w);
    if (!w) return ph_fail(err, PH_MEMORY, "no memory to watch folders");
    w->options = *o;
    int code = open_parts(w, err);
    if (!code && pthread_create(&w->thread, NULL, keep_equal, w))
        code = ph_fail(err, PH_FAIL, "cannot start a thread");
    w->started = !code;
    if (code)
        watching_stop(w);
    else
        *out = w;
    return code;
}

void watching_stop(watching *w) {
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    if (w->started) pthread_join(w->thread, NULL);
    store_close(w->store);
    watch_close(w->watch);
    for (size_t i = 0; w->folders && i < w->options.n; i++) free(w->folders[i]);
    free(w->folders);
    free(w->missing);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

json_t *watching_json(watching *w) {
    if (!w) return json_null();
    json_t *folders = json_array();
    for (size_t i = 0; i < w->options.n; i++) json_array_append_new(folders, json_text(w->folders[i]));
    pthread_mutex_lock(&w->lock);
    json_t *out = json_pack("{s:o, s:o}", "folders", folders, "message", json_text(w->failed));
    pthread_mutex_unlock(&w->lock);
    return out;
}
