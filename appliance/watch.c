/* watch.c - see watch.h. */
#include "appliance/watch.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <xxhash.h>

typedef struct folder {
    char *path; /* absolute */
    bool missing;
} folder;

struct watch {
    folder *folders;
    size_t n;
    /* Files that were looked at, as hashes of path, time and size; open addressing, 0 = free. A file that
     * failed is among them, so that it is tried again only when it changes. */
    uint64_t *seen;
    size_t n_seen, capacity;
};

int watch_open(watch **out, char *const *folders, size_t n, ph_error *err) {
    *out = NULL;
    watch *w = calloc(1, sizeof *w);
    if (w) w->folders = calloc(n ? n : 1, sizeof *w->folders);
    if (!w || !w->folders) {
        free(w);
        return ph_fail(err, PH_MEMORY, "no memory for %zu folders", n);
    }
    for (size_t i = 0; i < n; i++) {
        struct stat st;
        char *path = realpath(folders[i], NULL);
        if (path) w->folders[w->n++].path = path;
        int code = !path                  ? ph_fail(err, PH_NOT_FOUND, "%s: %s", folders[i], strerror(errno))
                   : stat(path, &st)      ? ph_fail(err, PH_NOT_FOUND, "%s: %s", path, strerror(errno))
                   : !S_ISDIR(st.st_mode) ? ph_fail(err, PH_USAGE, "%s is no folder", path)
                   : path[0] == '/' && path[1] == 0
                       ? ph_fail(err, PH_USAGE, "the whole machine is no folder to watch")
                       : PH_OK;
        if (code) {
            watch_close(w);
            return code;
        }
    }
    *out = w;
    return PH_OK;
}

void watch_close(watch *w) {
    if (!w) return;
    for (size_t i = 0; i < w->n; i++) free(w->folders[i].path);
    free(w->folders);
    free(w->seen);
    free(w);
}

const char *watch_folder(const watch *w, size_t i) {
    return w->folders[i].path;
}

bool watch_is_missing(const watch *w, size_t i) {
    return w->folders[i].missing;
}

/* ---- what was looked at ---- */

static uint64_t fingerprint(const char *path, int64_t mtime_ns, int64_t bytes) {
    uint64_t h = XXH3_64bits_withSeed(path, strlen(path), (uint64_t)mtime_ns ^ (uint64_t)bytes << 40);
    return h ? h : 1;
}

static uint64_t *place(uint64_t *table, size_t capacity, uint64_t h) {
    size_t i = (size_t)h & (capacity - 1);
    while (table[i] && table[i] != h) i = (i + 1) & (capacity - 1);
    return &table[i];
}

static bool was_seen(const watch *w, uint64_t h) {
    return w->capacity && *place(w->seen, w->capacity, h) == h;
}

static int see(watch *w, uint64_t h, ph_error *err) {
    if (2 * (w->n_seen + 1) > w->capacity) {
        size_t capacity = w->capacity ? 2 * w->capacity : 1024;
        uint64_t *more = calloc(capacity, sizeof *more);
        if (!more) return ph_fail(err, PH_MEMORY, "no memory to remember %zu files", w->n_seen);
        for (size_t i = 0; i < w->capacity; i++)
            if (w->seen[i]) *place(more, capacity, w->seen[i]) = w->seen[i];
        free(w->seen);
        w->seen = more;
        w->capacity = capacity;
    }
    uint64_t *at = place(w->seen, w->capacity, h);
    w->n_seen += *at == 0;
    *at = h;
    return PH_OK;
}

static void forget(watch *w) {
    if (w->capacity) memset(w->seen, 0, w->capacity * sizeof *w->seen);
    w->n_seen = 0;
}

/* ---- a look ---- */

typedef struct look {
    watch *w;
    store *s;
    const watch_options *options;
    intake_options intake; /* the caller's, with our event before theirs */
    bool changed;
    size_t files; /* of the folder being walked */
    int code;
    ph_error *err;
} look;

static void taken(void *user, const intake_result *r) {
    look *l = user;
    l->changed |= r->state == INTAKE_ADDED || r->state == INTAKE_UPDATED;
    /* That the same content is there under its own name is no news. */
    if (r->state == INTAKE_KNOWN && !r->detail[0]) return;
    if (l->options->intake.event) l->options->intake.event(l->options->intake.user, r);
}

static int progress(void *user, const char *name, uint64_t done, uint64_t total, const char *unit) {
    look *l = user;
    const intake_options *o = &l->options->intake;
    return o->progress ? o->progress(o->user, name, done, total, unit) : 0;
}

static int erase(void *user, store *s, int64_t document, ph_error *err) {
    return intake_erase(s, document, &((look *)user)->options->intake, err);
}

static int visit(void *user, const char *path, const char *name) {
    look *l = user;
    char absolute[PATH_MAX];
    struct stat st;
    l->files++;
    if (progress(l, name, 0, 0, "")) {
        l->code = ph_fail(l->err, PH_INTERRUPTED, "stopped before %s", name);
        return 1;
    }
    if (!realpath(path, absolute) || stat(absolute, &st)) return 0; /* gone in the meantime */
    int64_t mtime = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    uint64_t h = fingerprint(absolute, mtime, st.st_size);
    if (was_seen(l->w, h)) return 0;
    if (!l->options->settled && time(NULL) - st.st_mtim.tv_sec < 2) return 0;
    l->code = intake_file(l->s, path, name, absolute, &l->intake, l->err);
    if (!l->code) l->code = see(l->w, h, l->err);
    return l->code != PH_OK;
}

static int pass(void *user, const char *path, const char *reason) {
    return 0;
}

static int count_file(void *user, const char *path, const char *name) {
    ((look *)user)->files++;
    return 1; /* one is enough */
}

static const folder *folder_of(const watch *w, const char *source) {
    for (size_t i = 0; i < w->n; i++) {
        size_t n = strlen(w->folders[i].path);
        if (!strncmp(source, w->folders[i].path, n) && source[n] == '/') return &w->folders[i];
    }
    return NULL;
}

/* Whether each folder is there with anything in it; only then can a file of it be said to be gone. */
static void look_for_folders(look *l) {
    for (size_t i = 0; i < l->w->n; i++) {
        folder *f = &l->w->folders[i];
        bool was = f->missing;
        ph_error ignored;
        l->files = 0;
        ingest_walk(f->path, count_file, pass, l, &ignored); /* which is stopped by the first file */
        f->missing = l->files == 0;
        if (f->missing && !was && l->options->missing) l->options->missing(l->options->intake.user, f->path);
    }
}

/* Documents whose file is gone; documents that are as they were are remembered without hashing their file. */
static int compare(look *l) {
    store_document *list = NULL;
    size_t n = 0;
    bool gone = false;
    int code = store_document_list(l->s, &list, &n, l->err);
    for (size_t i = 0; i < n && !code; i++) {
        const store_document *d = &list[i];
        const folder *f = folder_of(l->w, d->source);
        struct stat st;
        if (!f || f->missing) continue;
        if (stat(d->source, &st) == 0) {
            int64_t mtime = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
            bool as_it_was = mtime == d->source_mtime_ns && st.st_size == d->bytes;
            if (as_it_was && !intake_reads_more(d, &l->options->intake.limits))
                code = see(l->w, fingerprint(d->source, mtime, st.st_size), l->err);
            continue;
        }
        if (errno != ENOENT && errno != ENOTDIR) continue; /* not readable is not gone */
        code = intake_erase(l->s, d->id, &l->options->intake, l->err);
        if (code == PH_NOT_FOUND) code = PH_OK; /* somebody else was faster */
        if (!code && l->options->removed) l->options->removed(l->options->intake.user, d->id, d->name);
        gone |= !code;
    }
    store_documents_free(list, n);
    /* A second file with the same content, passed over until now, may take its place. */
    if (gone) forget(l->w);
    l->changed |= gone;
    return code;
}

int watch_look(watch *w, store *s, const watch_options *o, bool *changed, ph_error *err) {
    look l = {.w = w, .s = s, .options = o, .intake = o->intake, .err = err};
    l.intake.event = taken;
    l.intake.progress = progress;
    l.intake.erase = erase;
    l.intake.user = &l;
    look_for_folders(&l);
    int code = compare(&l);
    for (size_t i = 0; i < w->n && !code; i++) {
        ph_error why;
        if (w->folders[i].missing) continue;
        ingest_walk(w->folders[i].path, visit, pass, &l,
                    &why); /* a folder that goes meanwhile is for the next look */
        code = l.code;
    }
    *changed = l.changed;
    return code;
}
