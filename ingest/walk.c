/* walk.c - every regular file below a folder, in an order that does not depend on the file system. */
#include "ingest/ingest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_DEPTH 128 /* folders within folders */

typedef struct identity {
    dev_t dev;
    ino_t ino;
    bool used;
} identity;

typedef struct walker {
    walk_file file;
    walk_skipped skipped;
    void *user;
    identity *met; /* open addressing, a power of two of places */
    size_t n_met, places;
    ph_error *err;
} walker;

static size_t place_of(const walker *w, dev_t dev, ino_t ino) {
    uint64_t h = ((uint64_t)ino ^ (uint64_t)dev << 32) * 0x9E3779B97F4A7C15u;
    size_t i = (size_t)(h >> 20) & (w->places - 1);
    while (w->met[i].used && (w->met[i].dev != dev || w->met[i].ino != ino)) i = (i + 1) & (w->places - 1);
    return i;
}

/* 1: new, 0: met before, -1: out of memory. */
static int meet(walker *w, const struct stat *st) {
    if (w->n_met * 2 >= w->places) {
        size_t old_places = w->places;
        identity *old = w->met;
        w->places = old_places ? old_places * 2 : 1024;
        w->met = calloc(w->places, sizeof *w->met);
        if (!w->met) {
            w->met = old;
            w->places = old_places;
            return -1;
        }
        for (size_t i = 0; i < old_places; i++)
            if (old[i].used) w->met[place_of(w, old[i].dev, old[i].ino)] = old[i];
        free(old);
    }
    size_t i = place_of(w, st->st_dev, st->st_ino);
    if (w->met[i].used) return 0;
    w->met[i] = (identity){st->st_dev, st->st_ino, true};
    w->n_met++;
    return 1;
}

static int skip(walker *w, const char *path, const char *reason) {
    return w->skipped && w->skipped(w->user, path, reason)
               ? ph_fail(w->err, PH_INTERRUPTED, "stopped while listing files")
               : 0;
}

static int no_memory(walker *w) {
    return ph_fail(w->err, PH_MEMORY, "out of memory while listing files");
}

static char *join(const char *folder, const char *name) {
    size_t a = strlen(folder), b = strlen(name);
    bool slash = a > 0 && folder[a - 1] != '/';
    char *path = malloc(a + slash + b + 1);
    if (!path) return NULL;
    memcpy(path, folder, a);
    if (slash) path[a] = '/';
    memcpy(path + a + slash, name, b + 1);
    return path;
}

static int by_bytes(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names in a folder, sorted; the caller frees all. -1 with errno when it cannot be read. */
static int list(const char *path, char ***names, size_t *count) {
    *names = NULL;
    *count = 0;
    DIR *dir = opendir(path);
    if (!dir) return -1;
    size_t capacity = 0;
    int failed = 0;
    for (;;) {
        errno = 0;
        struct dirent *e = readdir(dir);
        if (!e) {
            failed = errno;
            break;
        }
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        if (*count == capacity) {
            capacity = capacity ? capacity * 2 : 64;
            char **grown = realloc(*names, capacity * sizeof *grown);
            if (!grown) {
                failed = ENOMEM;
                break;
            }
            *names = grown;
        }
        (*names)[*count] = strdup(e->d_name);
        if (!(*names)[*count]) {
            failed = ENOMEM;
            break;
        }
        ++*count;
    }
    closedir(dir);
    if (failed) {
        for (size_t i = 0; i < *count; i++) free((*names)[i]);
        free(*names);
        *names = NULL;
        *count = 0;
        errno = failed;
        return -1;
    }
    if (*count) qsort(*names, *count, sizeof **names, by_bytes);
    return 0;
}

static int walk_folder(walker *w, const char *path, const char *name, int depth);

static int walk_entry(walker *w, const char *path, const char *name, int depth) {
    struct stat st;
    if (stat(path, &st) != 0) {
        if (errno == ENOENT) return skip(w, path, "a link that leads nowhere");
        if (errno == ELOOP) return skip(w, path, "a link that leads to itself");
        return skip(w, path, strerror(errno));
    }
    if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode)) return skip(w, path, "not a regular file");
    int is_new = meet(w, &st);
    if (is_new < 0) return no_memory(w);
    if (!is_new) return skip(w, path, S_ISDIR(st.st_mode) ? "a folder met before" : "a file met before");
    if (S_ISDIR(st.st_mode)) return walk_folder(w, path, name, depth + 1);
    if (access(path, R_OK) != 0) return skip(w, path, strerror(errno));
    return w->file(w->user, path, name) ? ph_fail(w->err, PH_INTERRUPTED, "stopped while listing files") : 0;
}

static bool is_link(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
}

static int walk_folder(walker *w, const char *path, const char *name, int depth) {
    if (depth > MAX_DEPTH) return skip(w, path, "more than 128 folders deep");
    char **names;
    size_t count;
    if (list(path, &names, &count) != 0)
        return errno == ENOMEM ? no_memory(w) : skip(w, path, strerror(errno));
    int rc = 0;
    /* Links come last: a file that is also reached by a link keeps its own name. */
    for (size_t k = 0; k < 2 * count && !rc; k++) {
        const char *entry = names[k % count];
        char *below = join(path, entry);
        char *relative = name[0] ? join(name, entry) : strdup(entry);
        if (!below || !relative)
            rc = no_memory(w);
        else if (is_link(below) == (k >= count))
            rc = entry[0] == '.' ? skip(w, below, "hidden") : walk_entry(w, below, relative, depth);
        free(below);
        free(relative);
    }
    for (size_t i = 0; i < count; i++) free(names[i]);
    free(names);
    return rc;
}

int ingest_walk(const char *path, walk_file file, walk_skipped skipped, void *user, ph_error *err) {
    struct stat st;
    if (stat(path, &st) != 0)
        return ph_fail(err, errno == ENOENT || errno == ENOTDIR ? PH_NOT_FOUND : PH_FAIL,
                       "cannot open %s: %s", path, strerror(errno));
    walker w = {.file = file, .skipped = skipped, .user = user, .err = err};
    int rc;
    if (S_ISDIR(st.st_mode)) {
        rc = meet(&w, &st) < 0 ? no_memory(&w) : walk_folder(&w, path, "", 0);
    } else {
        const char *base = strrchr(path, '/');
        rc = walk_entry(&w, path, base ? base + 1 : path, 0);
    }
    free(w.met);
    return rc;
}
