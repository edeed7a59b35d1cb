/* serve_uploads.c - see serve_uploads.h. What lies on disk for a file:
 *
 *     DIR/uploads/lock          held by the server
 *     DIR/uploads/part-XXXXXX   being received; removed at the next start
 *     DIR/uploads/N.EXTENSION   received: a number of ours, and of its name what helps to tell text formats
 * apart DIR/uploads/N.note        its name; written first, so that one without it is a crash's leftover
 */
#include "appliance/serve_uploads.h"

#include "appliance/command.h"
#include "appliance/intake.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { AT_ONCE = 32, KEPT_SECONDS = 600, KEPT_ENDED = 1000, BUSY_TRIES = 60 };

typedef enum item_state { QUEUED, FETCHING, READING, DONE, KNOWN, FAILED, STOPPED } item_state;
static const char *const state_names[] = {"queued", "fetching", "reading", "done",
                                          "known",  "failed",   "stopped"};

typedef struct item {
    struct item *next;
    int64_t id;
    bool url;
    char *name; /* or the URL */
    item_state state;
    uint64_t done, total, bytes;
    char unit[8], detail[700];
    int64_t document;
    time_t added, ended;
    atomic_bool cancelled;
    bool dismissed; /* while the thread still has it: gone for everybody else */
} item;

struct uploads {
    uploads_options options;
    char *dir; /* DIR/uploads */
    int lock_file;
    store *store; /* the thread's */
    pthread_t thread;
    bool started;
    atomic_bool stopping;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t work;
    item *items, **last;
    int64_t next_id;
    int receiving, waiting;
    item *running;
};

struct upload {
    uploads *owner;
    char *name, *part;
    int fd;
    uint64_t size, got;
    crypto_generichash_state hash;
    ph_error failed;
};

/* ---- the list ---- */

static json_t *item_json(const item *i) {
    return json_pack("{s:I, s:s, s:o, s:s, s:I, s:I, s:s, s:I, s:o, s:o, s:I}", "id", (json_int_t)i->id,
                     "kind", i->url ? "url" : "file", "name", json_text(i->name), "state",
                     state_names[i->state], "done", (json_int_t)i->done, "total", (json_int_t)i->total,
                     "unit", i->unit, "bytes", (json_int_t)i->bytes, "detail", json_text(i->detail),
                     "document", i->document ? json_integer(i->document) : json_null(), "added_at",
                     (json_int_t)i->added);
}

static bool ended(const item *i) {
    return i->state >= DONE;
}

static void item_free(item *i) {
    free(i->name);
    free(i);
}

/* Takes it out of the list; locked. */
static void forget(uploads *u, item *i) {
    item **at = &u->items;
    while (*at != i) at = &(*at)->next;
    *at = i->next;
    if (u->last == &i->next) u->last = at;
    item_free(i);
}

/* What ended long ago, and more than anyone looks at; locked. */
static void prune(uploads *u) {
    int kept = 0;
    time_t now = time(NULL);
    for (item *i = u->items; i; i = i->next) kept += ended(i);
    for (item *i = u->items, *next; i; i = next) {
        next = i->next;
        if (!ended(i) || i == u->running) continue;
        if (kept > KEPT_ENDED || (i->state != FAILED && now - i->ended > KEPT_SECONDS)) {
            forget(u, i);
            kept--;
        }
    }
}

static item *find(uploads *u, int64_t id) {
    for (item *i = u->items; i; i = i->next)
        if (i->id == id && !i->dismissed) return i;
    return NULL;
}

/* A new one at the end; NULL: no memory. Locked. */
static item *add_item(uploads *u, int64_t id, const char *name, bool url) {
    item *i = calloc(1, sizeof *i);
    if (i) i->name = strdup(name);
    if (!i || !i->name) {
        free(i);
        return NULL;
    }
    i->id = id;
    i->url = url;
    i->added = time(NULL);
    *u->last = i;
    u->last = &i->next;
    if (id >= u->next_id) u->next_id = id + 1;
    return i;
}

static void end_item(uploads *u, item *i, item_state state) {
    if (!ended(i)) u->waiting--;
    i->state = state;
    i->ended = time(NULL);
}

/* ---- on disk ---- */

/* ".note", or the extension of the file's name: letters and digits only. */
static char *path_of(const uploads *u, int64_t id, const char *suffix) {
    char *path = NULL;
    return asprintf(&path, "%s/%lld%s", u->dir, (long long)id, suffix) < 0 ? NULL : path;
}

#define NOTE ".note"

static char *data_path(const uploads *u, int64_t id, const char *name) {
    char suffix[20] = ".file";
    const char *dot = strrchr(name, '.');
    size_t n = dot ? strlen(dot + 1) : 0;
    bool plain = n > 0 && n <= 16;
    for (size_t i = 0; i < n && plain; i++) plain = isalnum((unsigned char)dot[1 + i]);
    if (plain && strcasecmp(dot, NOTE) != 0) strcpy(suffix, dot);
    return path_of(u, id, suffix);
}

static void remove_files(const uploads *u, int64_t id, const char *name) {
    char *data = name ? data_path(u, id, name) : NULL, *note = path_of(u, id, NOTE);
    if (data) unlink(data);
    if (note) unlink(note);
    free(data);
    free(note);
}

static int sync_folder(const char *dir) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int failed = fd < 0 || fsync(fd);
    if (fd >= 0) close(fd);
    return failed;
}

static int disk_error(const char *what, ph_error *err) {
    if (errno == ENOSPC || errno == EDQUOT) return ph_fail(err, PH_FAIL, "the disk is full");
    return ph_fail(err, PH_FAIL, "cannot %s: %s", what, strerror(errno));
}

/* The name beside the data: {"name": ..., "url": bool}. */
static int write_note(const uploads *u, const item *i, ph_error *err) {
    char *path = path_of(u, i->id, NOTE);
    json_t *note = json_pack("{s:o, s:b}", "name", json_text(i->name), "url", i->url);
    char *text = note ? json_dumps(note, JSON_COMPACT) : NULL;
    int fd = path && text ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    int code = path && text ? PH_OK : ph_fail(err, PH_MEMORY, "no memory for an upload");
    if (!code && (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || fsync(fd)))
        code = disk_error("write what a file is called", err);
    if (fd >= 0) close(fd);
    json_decref(note);
    free(text);
    free(path);
    return code;
}

/* ---- receiving ---- */

int upload_begin(upload **out, uploads *u, const char *name, uint64_t size, ph_error *err) {
    *out = NULL;
    pthread_mutex_lock(&u->lock);
    bool full = u->stopping || u->receiving >= AT_ONCE || u->waiting + u->receiving >= u->options.capacity;
    if (!full) u->receiving++;
    pthread_mutex_unlock(&u->lock);
    if (full) return ph_fail(err, PH_BUSY, "too many files are being received or wait to be read");
    upload *up = calloc(1, sizeof *up);
    if (up) {
        up->owner = u;
        up->fd = -1;
        up->size = size;
        up->name = strdup(name);
        if (asprintf(&up->part, "%s/part-XXXXXX", u->dir) < 0) up->part = NULL;
    }
    int code = up && up->name && up->part ? PH_OK : ph_fail(err, PH_MEMORY, "no memory for an upload");
    if (!code && (up->fd = mkostemp(up->part, O_CLOEXEC)) < 0) code = disk_error("make a file", err);
    if (code) {
        if (up) {
            if (up->fd < 0 && up->part) up->part[0] = 0;
            upload_abandon(up);
        } else {
            pthread_mutex_lock(&u->lock);
            u->receiving--;
            pthread_mutex_unlock(&u->lock);
        }
        return code;
    }
    crypto_generichash_init(&up->hash, NULL, 0, 32);
    *out = up;
    return PH_OK;
}

void upload_write(upload *up, const void *bytes, size_t n) {
    const char *at = bytes;
    crypto_generichash_update(&up->hash, bytes, n);
    up->got += n;
    while (n && !up->failed.code) {
        ssize_t wrote = write(up->fd, at, n);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) {
            disk_error("keep the file", &up->failed);
            return;
        }
        at += wrote;
        n -= (size_t)wrote;
    }
}

/* Queues what has been received, under a number of its own. */
static int accept_part(upload *up, json_t **row, ph_error *err) {
    uploads *u = up->owner;
    pthread_mutex_lock(&u->lock);
    int64_t id = u->next_id++;
    pthread_mutex_unlock(&u->lock);
    char *data = data_path(u, id, up->name);
    item stub = {.id = id, .name = up->name};
    int code = data ? PH_OK : ph_fail(err, PH_MEMORY, "no memory for an upload");
    if (!code && fsync(up->fd)) code = disk_error("keep the file", err);
    if (!code) code = write_note(u, &stub, err);
    if (!code && (rename(up->part, data) || sync_folder(u->dir))) code = disk_error("keep the file", err);
    free(data);
    if (code) {
        remove_files(u, id, up->name);
        return code;
    }
    up->part[0] = 0;
    pthread_mutex_lock(&u->lock);
    item *i = add_item(u, id, up->name, false);
    if (i) {
        i->bytes = up->got;
        u->waiting++;
        *row = item_json(i); /* now: the thread may end it, and a list may forget it, at any time */
        pthread_cond_signal(&u->work);
    }
    pthread_mutex_unlock(&u->lock);
    return i ? PH_OK : ph_fail(err, PH_MEMORY, "no memory for an upload");
}

/* It is there already: a row for the list, and nothing on disk. */
static int note_known(upload *up, const store_document *d, json_t **row, ph_error *err) {
    uploads *u = up->owner;
    pthread_mutex_lock(&u->lock);
    item *i = add_item(u, u->next_id, up->name, false);
    if (i) {
        i->bytes = up->got;
        i->document = d->id;
        i->state = KNOWN;
        i->ended = i->added;
        if (strcmp(d->name, up->name))
            snprintf(i->detail, sizeof i->detail, "the same content is there as %.600s", d->name);
        *row = item_json(i);
    }
    pthread_mutex_unlock(&u->lock);
    return i ? PH_OK : ph_fail(err, PH_MEMORY, "no memory for an upload");
}

int upload_end(upload *up, store *s, json_t **row, bool *known, ph_error *err) {
    uint8_t hash[32];
    store_document d = {0};
    *known = false;
    *row = NULL;
    if (up->failed.code) return ph_fail(err, up->failed.code, "%s", up->failed.text);
    if (up->got != up->size)
        return ph_fail(err, PH_USAGE, "%llu bytes came of %llu", (unsigned long long)up->got,
                       (unsigned long long)up->size);
    crypto_generichash_final(&up->hash, hash, sizeof hash);
    int code = store_document_by_hash(s, hash, &d, err);
    if (code == PH_OK) {
        *known = true;
        code = note_known(up, &d, row, err);
        store_document_free(&d);
        return code;
    }
    if (code != PH_NOT_FOUND) return code;
    return accept_part(up, row, err);
}

void upload_abandon(upload *up) {
    if (!up) return;
    if (up->fd >= 0) close(up->fd);
    if (up->part && up->part[0]) unlink(up->part);
    pthread_mutex_lock(&up->owner->lock);
    up->owner->receiving--;
    pthread_mutex_unlock(&up->owner->lock);
    free(up->part);
    free(up->name);
    free(up);
}

int uploads_fetch(uploads *u, const char *url, json_t **row, ph_error *err) {
    *row = NULL;
    pthread_mutex_lock(&u->lock);
    bool full = u->stopping || u->waiting >= u->options.capacity;
    item *i = full ? NULL : add_item(u, u->next_id, url, true);
    int code = full ? ph_fail(err, PH_BUSY, "too many files wait to be read")
               : i  ? write_note(u, i, err)
                    : ph_fail(err, PH_MEMORY, "no memory for an upload");
    if (i && code)
        forget(u, i);
    else if (i) {
        u->waiting++;
        *row = item_json(i);
        pthread_cond_signal(&u->work);
    }
    pthread_mutex_unlock(&u->lock);
    return code;
}

/* ---- reading ---- */

typedef struct reading {
    uploads *u;
    item *i;
} reading;

/* Sentences about a file name it as it lies here; people know it by its own name. */
static void tell_detail(const uploads *u, item *i, const char *text) {
    char *path = data_path(u, i->id, i->name), *at = path ? strstr(text, path) : NULL;
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
    end_item(r->u, i, state);
    pthread_mutex_unlock(&r->u->lock);
}

static int take_progress(void *user, const char *name, uint64_t done, uint64_t total, const char *unit) {
    reading *r = user;
    (void)name;
    pthread_mutex_lock(&r->u->lock);
    item *i = r->i;
    if (!ended(i)) i->state = !strcmp(unit, "B") ? FETCHING : READING;
    i->done = done;
    i->total = total;
    /* Formats without pages count the bytes of the file. */
    snprintf(i->unit, sizeof i->unit, "%s", total == i->bytes && total ? "B" : unit);
    pthread_mutex_unlock(&r->u->lock);
    return r->u->stopping || i->cancelled;
}

static int read_item(uploads *u, item *i, ph_error *err) {
    reading r = {u, i};
    intake_options o = {.limits = {.file_bytes = u->options.file_bytes},
                        .event = take_event,
                        .progress = take_progress,
                        .user = &r};
    char *path = data_path(u, i->id, i->name);
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
    if (!keep) remove_files(u, i->id, i->name);
    pthread_mutex_lock(&u->lock);
    u->running = NULL;
    if (keep)
        i->state = QUEUED;
    else if (code) {
        tell_detail(u, i, i->cancelled ? "" : err.text);
        end_item(u, i, i->cancelled ? STOPPED : FAILED);
    } else if (!ended(i)) {
        snprintf(i->detail, sizeof i->detail, "nothing was read");
        end_item(u, i, FAILED);
    }
    bool stored = i->state == DONE;
    if (i->dismissed) forget(u, i);
    pthread_mutex_unlock(&u->lock);
    if (stored && u->options.stored) u->options.stored(u->options.user);
}

static void *read_files(void *user) {
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

/* ---- start and stop ---- */

/* A file that an earlier server acknowledged. */
static void resume(uploads *u, int64_t id) {
    char *note_path = path_of(u, id, NOTE);
    json_t *note = note_path ? json_load_file(note_path, 0, NULL) : NULL;
    const char *name = json_string_value(json_object_get(note, "name"));
    bool url = json_is_true(json_object_get(note, "url"));
    char *data = name ? data_path(u, id, name) : NULL;
    struct stat st = {0};
    bool there = data && !lstat(data, &st) && S_ISREG(st.st_mode);
    item *i = name && (there || url) ? add_item(u, id, name, url) : NULL;
    if (i) {
        i->bytes = (uint64_t)st.st_size;
        u->waiting++;
    } else
        remove_files(u, id, name);
    json_decref(note);
    free(note_path);
    free(data);
}

static int by_number(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int look_for_old(uploads *u, ph_error *err) {
    DIR *d = opendir(u->dir);
    if (!d) return ph_fail(err, PH_FAIL, "cannot read %s: %s", u->dir, strerror(errno));
    int64_t *ids = NULL;
    size_t n = 0;
    for (struct dirent *e; (e = readdir(d));) {
        char *end, note[64];
        long long id = strtoll(e->d_name, &end, 10);
        if (!strncmp(e->d_name, "part-", 5)) unlinkat(dirfd(d), e->d_name, 0);
        if (end == e->d_name || id < 1) continue;
        snprintf(note, sizeof note, "%lld" NOTE, id);
        if (faccessat(dirfd(d), note, F_OK, 0)) unlinkat(dirfd(d), e->d_name, 0);
        int64_t *more = strcmp(e->d_name, note) ? NULL : realloc(ids, (n + 1) * sizeof *ids);
        if (!more) continue;
        ids = more;
        ids[n++] = id;
    }
    closedir(d);
    if (n) qsort(ids, n, sizeof *ids, by_number);
    for (size_t i = 0; i < n; i++) resume(u, ids[i]);
    free(ids);
    return PH_OK;
}

static int open_folder(uploads *u, ph_error *err) {
    char lock[PATH_MAX];
    if (asprintf(&u->dir, "%s/uploads", store_dir(u->store)) < 0) {
        u->dir = NULL;
        return ph_fail(err, PH_MEMORY, "no memory for uploads");
    }
    if (mkdir(u->dir, 0700) && errno != EEXIST)
        return ph_fail(err, PH_FAIL, "cannot make %s: %s", u->dir, strerror(errno));
    if (snprintf(lock, sizeof lock, "%s/lock", u->dir) >= (int)sizeof lock)
        return ph_fail(err, PH_USAGE, "the path of the data folder is too long");
    u->lock_file = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (u->lock_file < 0) return ph_fail(err, PH_FAIL, "cannot open %s: %s", lock, strerror(errno));
    if (flock(u->lock_file, LOCK_EX | LOCK_NB))
        return ph_fail(err, PH_BUSY, "another `pharos serve` uses %s", store_dir(u->store));
    return look_for_old(u, err);
}

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
    if (!code) code = open_folder(u, err);
    if (!code && pthread_create(&u->thread, NULL, read_files, u))
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

/* ---- looking ---- */

json_t *uploads_list(uploads *u) {
    json_t *rows = json_array();
    pthread_mutex_lock(&u->lock);
    prune(u);
    for (item *i = u->items; i; i = i->next)
        if (!i->dismissed) json_array_append_new(rows, item_json(i));
    pthread_mutex_unlock(&u->lock);
    return rows;
}

json_t *uploads_get(uploads *u, int64_t id) {
    pthread_mutex_lock(&u->lock);
    item *i = find(u, id);
    json_t *row = i ? item_json(i) : NULL;
    pthread_mutex_unlock(&u->lock);
    return row;
}

json_t *uploads_cancel(uploads *u, int64_t id) {
    pthread_mutex_lock(&u->lock);
    item *i = find(u, id);
    json_t *row = i ? item_json(i) : NULL;
    if (i && i->state == QUEUED && u->running != i) {
        remove_files(u, id, i->name);
        end_item(u, i, STOPPED);
    } else if (i && u->running == i && !ended(i))
        i->cancelled = true; /* it ends at its next step */
    else if (i && u->running == i)
        i->dismissed = true;
    else if (i)
        forget(u, i);
    pthread_mutex_unlock(&u->lock);
    return row;
}

int uploads_waiting(uploads *u) {
    pthread_mutex_lock(&u->lock);
    int n = u->waiting;
    pthread_mutex_unlock(&u->lock);
    return n;
}
