/* serve_uploads_read.c - the thread that reads one file after the other into the store. */
#include "appliance/serve_uploads_internal.h"

#include "appliance/intake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BUSY_TRIES = 60 };

typedef struct reading {
    uploads *u;
    item *i;
} reading;

/* Sentences about a file name it as it lies here; people know it by its own name. */
static void tell_detail(const uploads *u, item *i, const char *text) {
    char *path = upload_path(u, i->id, i->name), *at = path ? strstr(text, path) : NULL;
    const char *base = path ? strrchr(path, '/') + 1 : NULL;
    size_t n = at ? strlen(path) : base ? strlen(base) : 0;
    if (!at && base) at = strstr(text, base);
    if (at && !i->url)
        snprintf(i->detail, sizeof i->detail, "%.*s%.300s%s", (int)(at - text), text, i->name, at + n);
    else
        snprintf(i->detail, sizeof i->detail, "%s", text);
    free(path);
}

static void take_event(void *user, const intake_result *x) {
    reading *r = user;
    pthread_mutex_lock(&r->u->lock);
    item *i = r->i;
    item_state state = x->state == INTAKE_FAILED || x->state == INTAKE_SKIPPED ? FAILED
                       : x->state == INTAKE_KNOWN                              ? KNOWN
                                                                               : DONE;
    tell_detail(r->u, i, x->detail);
    i->document = x->document;
    upload_finish(r->u, i, state);
    pthread_mutex_unlock(&r->u->lock);
}

static int take_progress(void *user, const char *name, uint64_t done, uint64_t total, const char *unit) {
    reading *r = user;
    (void)name;
    pthread_mutex_lock(&r->u->lock);
    item *i = r->i;
    if (!upload_ended(i)) i->state = !strcmp(unit, "B") ? FETCHING : READING;
    i->done = done;
    i->total = total;
    /* Formats without pages count the bytes of the file. */
    snprintf(i->unit, sizeof i->unit, "%s", total == i->bytes && total ? "B" : unit);
    pthread_mutex_unlock(&r->u->lock);
    return r->u->stopping || i->cancelled;
}

static int take_erase(void *user, store *s, int64_t document, ph_error *err) {
    reading *r = user;
    const uploads_options *o = &r->u->options;
    return o->erase ? o->erase(o->user, document, err) : store_document_delete(s, document, NULL, err);
}

static int read_item(uploads *u, item *i, ph_error *err) {
    reading r = {u, i};
    intake_options o = {.event = take_event, .progress = take_progress, .erase = take_erase, .user = &r};
    upload_limits(u, i->ocr, &o.limits);
    char *path = upload_path(u, i->id, i->name);
    if (!path) return ph_fail(err, PH_MEMORY, "no memory for an upload");
    int code =
        i->url ? intake_path(u->store, i->name, &o, err) : intake_file(u->store, path, i->name, "", &o, err);
    free(path);
    return code;
}

/* Another process, or a delete of ours, holds the store now and then. */
static int read_patiently(uploads *u, item *i, ph_error *err) {
    for (int tries = 0;; tries++) {
        int code = read_item(u, i, err);
        if (code != PH_BUSY || tries == BUSY_TRIES || u->stopping || i->cancelled) return code;
        usleep(200000);
    }
}

static void process(uploads *u, item *i) {
    ph_error err = {0};
    int code = read_patiently(u, i, &err);
    bool keep = u->stopping && (code == PH_INTERRUPTED || code == PH_BUSY) && !i->cancelled;
    pthread_mutex_lock(&u->lock);
    if (keep)
        i->state = QUEUED;
    else if (code) {
        tell_detail(u, i, i->cancelled ? "" : err.text);
        upload_finish(u, i, i->cancelled ? STOPPED : FAILED);
    } else if (!upload_ended(i)) {
        snprintf(i->detail, sizeof i->detail, "nothing was read");
        upload_finish(u, i, FAILED);
    }
    bool stored = i->state == DONE, failed = i->state == FAILED && !i->dismissed;
    pthread_mutex_unlock(&u->lock);
    /* Why a file could not be read is told by the next server too; where that cannot be written down, it
     * tries again. */
    if (failed && !upload_write_note(u, i, NULL))
        upload_remove_data(u, i->id, i->name);
    else if (!keep)
        upload_remove(u, i->id, i->name);
    pthread_mutex_lock(&u->lock);
    u->running = NULL;
    if (i->dismissed) upload_forget(u, i);
    pthread_mutex_unlock(&u->lock);
    if (stored && u->options.stored) u->options.stored(u->options.user);
}

void *uploads_read(void *user) {
    uploads *u = user;
    pthread_mutex_lock(&u->lock);
    while (!u->stopping) {
        item *i = u->items;
        while (i && i->state != QUEUED) i = i->next;
        if (!i) {
            pthread_cond_wait(&u->work, &u->lock);
            continue;
        }
        i->state = i->url ? FETCHING : READING;
        u->running = i;
        pthread_mutex_unlock(&u->lock);
        process(u, i);
        pthread_mutex_lock(&u->lock);
    }
    pthread_mutex_unlock(&u->lock);
    return NULL;
}
