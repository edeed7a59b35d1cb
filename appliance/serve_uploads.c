/* serve_uploads.c - the list of files on their way in, and the start and end of what works on it
 * (serve_uploads.h). serve_uploads_receive.c takes bytes, serve_uploads_disk.c keeps them,
 * serve_uploads_read.c reads them into the store. */
#include "appliance/serve_uploads_internal.h"

#include "appliance/command.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KEPT_SECONDS = 600, KEPT_ENDED = 1000 };

static const char *const state_names[] = {"queued", "fetching", "reading", "done",
                                          "known",  "failed",   "stopped", "removed"};

/* ---- the list ---- */

json_t *upload_item_json(const item *i) {
    return json_pack(
        "{s:I, s:s, s:o, s:s, s:I, s:I, s:s, s:I, s:o, s:o, s:s, s:I}", "id", (json_int_t)i->id, "kind",
        i->watched ? "watched"
        : i->url   ? "url"
                   : "file",
        "name", json_text(i->name), "state", state_names[i->state], "done", (json_int_t)i->done, "total",
        (json_int_t)i->total, "unit", i->unit, "bytes", (json_int_t)i->bytes, "detail", json_text(i->detail),
        "document", i->document ? json_integer(i->document) : json_null(), "ocr", i->ocr, "added_at", (json_int_t)i->added);
}

bool upload_ended(const item *i) {
    return i->state >= DONE;
}

static void item_free(item *i) {
    free(i->name);
    free(i);
}

/* Takes it out of the list; locked. */
void upload_forget(uploads *u, item *i) {
    item **at = &u->items;
    while (*at != i) at = &(*at)->next;
    *at = i->next;
    if (u->last == &i->next) u->last = at;
    if (i->state == FAILED) upload_remove(u, i->id, i->name);
    item_free(i);
}

static item *find(uploads *u, int64_t id) {
    for (item *i = u->items; i; i = i->next)
        if (i->id == id && !i->dismissed) return i;
    return NULL;
}

/* What ended long ago, and more than anyone looks at; locked. */
static void prune(uploads *u) {
    int kept = 0;
    time_t now = time(NULL);
    for (item *i = u->items; i; i = i->next) kept += upload_ended(i);
    for (item *i = u->items, *next; i; i = next) {
        next = i->next;
        if (!upload_ended(i) || i == u->running) continue;
        if (kept > KEPT_ENDED || (i->state != FAILED && now - i->ended > KEPT_SECONDS)) {
            upload_forget(u, i);
            kept--;
        }
    }
}

/* A new one at the end; NULL: no memory. Locked. */
item *upload_add(uploads *u, int64_t id, const char *name, bool url, const char *ocr) {
    prune(u); /* nobody may ever look at the list */
    item *i = calloc(1, sizeof *i);
    if (i) i->name = strdup(name);
    if (!i || !i->name) {
        free(i);
        return NULL;
    }
    i->id = id;
    i->url = url;
    snprintf(i->ocr, sizeof i->ocr, "%s", ocr ? ocr : "");
    i->added = time(NULL);
    *u->last = i;
    u->last = &i->next;
    if (id >= u->next_id) u->next_id = id + 1;
    return i;
}

void upload_limits(const uploads *u, const char *ocr, ingest_limits *limits) {
    *limits = (ingest_limits){.file_bytes = u->options.file_bytes, .ocr = ocr[0] != 0, .ocr_language = ocr};
}

void upload_finish(uploads *u, item *i, item_state state) {
    if (!upload_ended(i)) u->waiting--;
    i->state = state;
    i->ended = time(NULL);
}

/* ---- start and stop ---- */

int uploads_start(uploads **out, const uploads_options *o, ph_error *err) {
    *out = NULL;
    uploads *u = calloc(1, sizeof *u);
    if (!u) return ph_fail(err, PH_MEMORY, "no memory for uploads");
    u->options = *o;
    u->last = &u->items;
    u->next_id = 1;
    u->lock_file = -1;
    pthread_mutex_init(&u->lock, NULL);
    pthread_cond_init(&u->work, NULL);
    int code = sodium_init() < 0 ? ph_fail(err, PH_FAIL, "libsodium does not start") : PH_OK;
    if (!code) code = store_open(&u->store, o->data_dir, err);
    if (!code) code = uploads_open_folder(u, err);
    if (!code && pthread_create(&u->thread, NULL, uploads_read, u))
        code = ph_fail(err, PH_FAIL, "cannot start a thread");
    u->started = !code;
    if (code)
        uploads_free(u);
    else
        *out = u;
    return code;
}

void uploads_stop(uploads *u) {
    pthread_mutex_lock(&u->lock);
    u->stopping = true;
    pthread_cond_broadcast(&u->work);
    pthread_mutex_unlock(&u->lock);
    if (u->started) pthread_join(u->thread, NULL);
    u->started = false;
}

void uploads_free(uploads *u) {
    if (!u) return;
    if (u->started) uploads_stop(u);
    for (item *i = u->items, *next; i; i = next) {
        next = i->next;
        item_free(i);
    }
    store_close(u->store);
    if (u->lock_file >= 0) close(u->lock_file);
    pthread_cond_destroy(&u->work);
    pthread_mutex_destroy(&u->lock);
    free(u->dir);
    free(u);
}

/* ---- watched folders ---- */

static item *find_watched(uploads *u, const char *name) {
    for (item *i = u->items; i; i = i->next)
        if (i->watched && !strcmp(i->name, name)) return i;
    return NULL;
}

void uploads_tell(uploads *u, const watched_file *f) {
    static const item_state states[] = {READING, DONE, KNOWN, FAILED, REMOVED};
    pthread_mutex_lock(&u->lock);
    item *i = find_watched(u, f->name);
    bool fresh = !i;
    if (!i && (i = upload_add(u, u->next_id, f->name, false, NULL))) i->watched = true;
    if (i) {
        if (fresh || upload_ended(i)) u->waiting++; /* from here on it counts, until it is finished */
        i->state = READING;
        i->done = f->done;
        i->total = f->total;
        i->document = f->document;
        snprintf(i->unit, sizeof i->unit, "%s", f->unit ? f->unit : "");
        snprintf(i->detail, sizeof i->detail, "%s", f->detail ? f->detail : "");
        if (f->state != WATCHED_READING) upload_finish(u, i, states[f->state]);
        prune(u);
    }
    pthread_mutex_unlock(&u->lock);
}

void uploads_untell(uploads *u, const char *name) {
    pthread_mutex_lock(&u->lock);
    item *i = find_watched(u, name);
    if (i && !upload_ended(i)) u->waiting--;
    if (i) upload_forget(u, i);
    pthread_mutex_unlock(&u->lock);
}

/* ---- looking ---- */

json_t *uploads_list(uploads *u) {
    json_t *rows = json_array();
    pthread_mutex_lock(&u->lock);
    prune(u);
    for (item *i = u->items; i; i = i->next)
        if (!i->dismissed) json_array_append_new(rows, upload_item_json(i));
    pthread_mutex_unlock(&u->lock);
    return rows;
}

json_t *uploads_get(uploads *u, int64_t id) {
    pthread_mutex_lock(&u->lock);
    item *i = find(u, id);
    json_t *row = i ? upload_item_json(i) : NULL;
    pthread_mutex_unlock(&u->lock);
    return row;
}

json_t *uploads_cancel(uploads *u, int64_t id) {
    pthread_mutex_lock(&u->lock);
    item *i = find(u, id);
    json_t *row = i ? upload_item_json(i) : NULL;
    if (i && i->watched) {
        if (upload_ended(i)) upload_forget(u, i); /* else it is being read, and ends by itself */
    } else if (i && i->state == QUEUED && u->running != i) {
        upload_remove(u, id, i->name);
        upload_finish(u, i, STOPPED);
    } else if (i && u->running == i && !upload_ended(i))
        i->cancelled = true; /* it ends at its next step */
    else if (i && u->running == i)
        i->dismissed = true;
    else if (i)
        upload_forget(u, i);
    pthread_mutex_unlock(&u->lock);
    return row;
}

int uploads_waiting(uploads *u) {
    pthread_mutex_lock(&u->lock);
    int n = u->waiting;
    pthread_mutex_unlock(&u->lock);
    return n;
}
