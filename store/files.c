/* files.c - originals and snapshots on disk.
 *
 *     DIR/files/ab/abcd...      an original, named by its hash; complete from the moment it has this name
 *     DIR/files/incoming-XXXXXX an unfinished copy, locked by the process that writes it
 *     DIR/snapshots/pack-12.*   of pack 12
 *
 * A row is committed after its file is in place, and a file goes after its row is gone; so a crash can leave
 * a file without a row, never a row without its file. Such files are removed here, under the writer lock,
 * because only then no other process can be about to commit a row for them. */
#include "store/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail(ph_error *err, const char *path) {
    int code = errno == ENOMEM ? PH_MEMORY : errno == ENOENT ? PH_NOT_FOUND : PH_FAIL;
    if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
        return ph_fail(err, PH_FAIL, "disk full while writing %s (%s)", path, strerror(errno));
    return ph_fail(err, code, "%s: %s", path, strerror(errno));
}

/* A new name is on disk only after its folder is. */
static int sync_folder(const char *path, ph_error *err) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return fail(err, path);
    int rc = fsync(fd) && errno != EINVAL ? fail(err, path) : PH_OK;
    close(fd);
    return rc;
}

int files_make_folder(const char *path, ph_error *err) {
    char *copy = strdup(path);
    if (!copy) return ph_no_memory(err, strlen(path) + 1);
    int rc = PH_OK;
    for (char *p = copy + 1; rc == PH_OK; p++) {
        if (*p != '/' && *p) continue;
        char was = *p;
        *p = 0;
        struct stat st;
        if (mkdir(copy, 0700) == 0) {
            char *slash = strrchr(copy, '/');
            if (slash && slash != copy) {
                *slash = 0;
                rc = sync_folder(copy, err);
                *slash = '/';
            }
        } else if (errno != EEXIST || stat(copy, &st)) {
            rc = fail(err, copy);
        } else if (!S_ISDIR(st.st_mode)) {
            rc = ph_fail(err, PH_FAIL, "%s: is not a folder", copy);
        }
        *p = was;
        if (!was) break;
    }
    free(copy);
    return rc;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *at) {
    remove(path);
    return 0;
}

void files_remove_folder(const char *path) {
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

int files_original_path(store *s, char **path, const uint8_t hash[STORE_HASH_BYTES], ph_error *err) {
    char hex[2 * STORE_HASH_BYTES + 1];
    sodium_bin2hex(hex, sizeof hex, hash, STORE_HASH_BYTES);
    if (asprintf(path, "%s/files/%.2s/%s", s->dir, hex, hex) >= 0) return PH_OK;
    *path = NULL;
    return ph_no_memory(err, strlen(s->dir) + sizeof hex + 16);
}

int files_snapshot_path(store *s, char **path, int64_t pack, ph_error *err) {
    if (asprintf(path, "%s/snapshots/pack-%lld.snapshot", s->dir, (long long)pack) >= 0) return PH_OK;
    *path = NULL;
    return ph_no_memory(err, strlen(s->dir) + 64);
}

int files_hash(uint8_t hash[STORE_HASH_BYTES], int fd, const char *path, ph_error *err) {
    enum { PIECE = 1 << 18 };
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, STORE_HASH_BYTES);
    uint8_t *piece = malloc(PIECE);
    if (!piece) return ph_no_memory(err, PIECE);
    int rc = PH_OK;
    for (off_t at = 0;;) {
        ssize_t got = pread(fd, piece, PIECE, at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) rc = fail(err, path);
        if (got <= 0) break;
        crypto_generichash_update(&state, piece, (size_t)got);
        at += got;
    }
    free(piece);
    crypto_generichash_final(&state, hash, STORE_HASH_BYTES);
    return rc;
}

/* In the kernel where it can (it shares the blocks on file systems that know how), else piece by piece. */
static int copy_bytes(int to, const char *to_path, int from, const char *from_path, ph_error *err) {
    enum { PIECE = 1 << 18 };
    for (;;) {
        ssize_t n = copy_file_range(from, NULL, to, NULL, 1 << 30, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)) return fail(err, to_path);
        if (n <= 0) break; /* not supported here, or at the end: the loop below sees which */
    }
    uint8_t *piece = malloc(PIECE);
    if (!piece) return ph_no_memory(err, PIECE);
    int rc = PH_OK;
    while (rc == PH_OK) {
        ssize_t got = read(from, piece, PIECE);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) rc = fail(err, from_path);
        if (got <= 0) break;
        for (ssize_t done = 0; rc == PH_OK && done < got;) {
            ssize_t n = write(to, piece + done, (size_t)(got - done));
            if (n < 0 && errno != EINTR) rc = fail(err, to_path);
            if (n > 0) done += n;
        }
    }
    free(piece);
    return rc;
}

int files_copy_in(store *s, incoming_file *in, const char *from, const uint8_t hash[STORE_HASH_BYTES],
                  ph_error *err) {
    *in = (incoming_file){NULL, -1};
    int source = open(from, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); /* a pipe must not hang us */
    if (source < 0) return fail(err, from);
    struct stat st;
    int rc = PH_OK;
    if (fstat(source, &st))
        rc = fail(err, from);
    else if (!S_ISREG(st.st_mode))
        rc = ph_fail(err, PH_UNSUPPORTED, "%s: not a regular file", from);
    if (rc == PH_OK && asprintf(&in->path, "%s/files/incoming-XXXXXX", s->dir) < 0) {
        in->path = NULL;
        rc = ph_no_memory(err, strlen(s->dir) + 32);
    }
    if (rc == PH_OK && (in->fd = mkostemp(in->path, O_CLOEXEC)) < 0) {
        rc = fail(err, in->path);
        free(in->path);
        in->path = NULL;
    }
    if (rc == PH_OK && flock(in->fd, LOCK_EX | LOCK_NB)) rc = fail(err, in->path);
    if (rc == PH_OK) rc = copy_bytes(in->fd, in->path, source, from, err);
    close(source);
    /* What was copied is hashed, not what was read: it is what will be kept. */
    uint8_t found[STORE_HASH_BYTES];
    if (rc == PH_OK) rc = files_hash(found, in->fd, in->path, err);
    if (rc == PH_OK && memcmp(found, hash, STORE_HASH_BYTES))
        rc = ph_fail(err, PH_FAIL, "%s changed while it was read; add it again", from);
    if (rc == PH_OK && fsync(in->fd)) rc = fail(err, in->path);
    if (rc) files_discard(in);
    return rc;
}

int files_accept(store *s, incoming_file *in, const uint8_t hash[STORE_HASH_BYTES], ph_error *err) {
    char *path, *slash;
    struct stat st;
    int rc = files_original_path(s, &path, hash, err);
    if (rc) return rc;
    slash = strrchr(path, '/');
    *slash = 0;
    rc = files_make_folder(path, err);
    *slash = '/';
    loose_file file = {.created = true};
    memcpy(file.hash, hash, STORE_HASH_BYTES);
    if (rc == PH_OK) rc = files_remember(s, file, err);
    /* A sweep may have taken the copy for an orphan in the moment between its creation and its lock. */
    if (rc == PH_OK && (fstat(in->fd, &st) || st.st_nlink == 0))
        rc = ph_fail(err, PH_BUSY, "another process cleaned up %s; add the document again", in->path);
    if (rc == PH_OK && rename(in->path, path)) rc = fail(err, path);
    *slash = 0;
    if (rc == PH_OK) {
        free(in->path);
        in->path = NULL;
        rc = sync_folder(path, err);
    }
    free(path);
    return rc;
}

void files_discard(incoming_file *in) {
    if (in->path) unlink(in->path);
    free(in->path);
    if (in->fd >= 0) close(in->fd);
    *in = (incoming_file){NULL, -1};
}

int files_remember(store *s, loose_file file, ph_error *err) {
    int rc = db_grow((void **)&s->loose, s->n_loose, sizeof *s->loose, err);
    if (rc == PH_OK) s->loose[s->n_loose++] = file;
    return rc;
}

static int remove_file(const char *path, ph_error *err) {
    if (unlink(path) == 0 || errno == ENOENT) return PH_OK;
    return ph_fail(err, PH_FAIL, "%s is deleted from the store but its file cannot be removed: %s", path,
                   strerror(errno));
}

/* ---- the files as they are ---- */

static bool is_hash(const char *name, uint8_t hash[STORE_HASH_BYTES]) {
    size_t n;
    return strlen(name) == 2 * STORE_HASH_BYTES && strspn(name, "0123456789abcdef") == 2 * STORE_HASH_BYTES &&
           sodium_hex2bin(hash, STORE_HASH_BYTES, name, 2 * STORE_HASH_BYTES, NULL, &n, NULL) == 0 &&
           n == STORE_HASH_BYTES;
}

/* "pack-12.anything" -> 12, else 0. */
static int64_t pack_of(const char *name) {
    if (strncmp(name, "pack-", 5) || name[5] < '1' || name[5] > '9') return 0;
    char *end;
    errno = 0;
    long long id = strtoll(name + 5, &end, 10);
    return errno || *end != '.' ? 0 : id;
}

typedef struct walk {
    files_each each;
    void *user;
    bool snapshots;
    int depth;
} walk;

static int walk_folder(const char *folder, walk w, ph_error *err) {
    DIR *dir = opendir(folder);
    if (!dir) return errno == ENOENT ? PH_OK : fail(err, folder);
    int rc = PH_OK;
    for (struct dirent *e; rc == PH_OK && (e = readdir(dir));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        char *path;
        struct stat st;
        uint8_t hash[STORE_HASH_BYTES];
        if (asprintf(&path, "%s/%s", folder, e->d_name) < 0) {
            rc = ph_no_memory(err, strlen(folder) + 256);
            break;
        }
        bool known = lstat(path, &st) == 0, regular = known && S_ISREG(st.st_mode);
        if (!known) { /* gone in the meantime */
        } else if (!w.snapshots && w.depth == 0 && S_ISDIR(st.st_mode) && strlen(e->d_name) == 2) {
            walk below = w;
            below.depth = 1;
            rc = walk_folder(path, below, err);
        } else if (!w.snapshots && w.depth == 0 && regular && !strncmp(e->d_name, "incoming-", 9)) {
            rc = w.each(w.user, 't', path, NULL, 0, err);
        } else if (!w.snapshots && w.depth == 1 && regular && is_hash(e->d_name, hash)) {
            rc = w.each(w.user, 'o', path, hash, 0, err);
        } else if (w.snapshots && regular && pack_of(e->d_name)) {
            rc = w.each(w.user, 's', path, NULL, pack_of(e->d_name), err);
        } else {
            rc = w.each(w.user, '?', path, NULL, 0, err);
        }
        free(path);
    }
    closedir(dir);
    return rc;
}

int files_walk(store *s, files_each each, void *user, ph_error *err) {
    static const char *const folders[] = {"files", "snapshots"};
    int rc = PH_OK;
    for (int i = 0; rc == PH_OK && i < 2; i++) {
        char *path;
        if (asprintf(&path, "%s/%s", s->dir, folders[i]) < 0) return ph_no_memory(err, strlen(s->dir) + 16);
        rc = walk_folder(path, (walk){.each = each, .user = user, .snapshots = i == 1}, err);
        free(path);
    }
    return rc;
}

struct usage {
    int64_t pack, files, bytes;
    bool remove;
};

static int count_snapshot(void *user, char kind, const char *path, const uint8_t *hash, int64_t pack,
                          ph_error *err) {
    struct usage *u = user;
    struct stat st;
    if (kind != 's' || pack != u->pack) return PH_OK;
    if (u->remove) return remove_file(path, err);
    if (stat(path, &st)) return PH_OK;
    u->files++;
    u->bytes += (int64_t)st.st_blocks * 512;
    return PH_OK;
}

static int snapshots_of(store *s, struct usage *u, ph_error *err) {
    char *path;
    if (asprintf(&path, "%s/snapshots", s->dir) < 0) return ph_no_memory(err, strlen(s->dir) + 16);
    int rc = walk_folder(path, (walk){.each = count_snapshot, .user = u, .snapshots = true}, err);
    free(path);
    return rc;
}

int files_snapshot_usage(store *s, int64_t pack, int64_t *files, int64_t *bytes, ph_error *err) {
    struct usage u = {.pack = pack};
    int rc = snapshots_of(s, &u, err);
    *files = u.files;
    *bytes = u.bytes;
    return rc;
}

/* ---- removing what no row names; the caller holds the writer lock ---- */

static int remove_original(store *s, const uint8_t hash[STORE_HASH_BYTES], ph_error *err) {
    int64_t rows;
    char *path;
    int rc = db_int(s, &rows, err, "SELECT count(*) FROM documents WHERE hash = ? AND has_file", "h", hash);
    if (rc || rows) return rc;
    if ((rc = files_original_path(s, &path, hash, err))) return rc;
    rc = remove_file(path, err);
    *strrchr(path, '/') = 0;
    rmdir(path); /* where it was the last one */
    free(path);
    return rc;
}

static int remove_snapshot(store *s, int64_t pack, ph_error *err) {
    int64_t rows;
    int rc = db_int(s, &rows, err, "SELECT count(*) FROM packs WHERE id = ?", "i", pack);
    if (rc || rows) return rc;
    return snapshots_of(s, &(struct usage){.pack = pack, .remove = true}, err);
}

int files_settle(store *s, bool committed, ph_error *err) {
    loose_file *list = s->loose;
    size_t n = s->n_loose, due = 0;
    s->loose = NULL; /* the transaction below starts with none of its own */
    s->n_loose = 0;
    for (size_t i = 0; i < n; i++)
        if (list[i].created != committed) list[due++] = list[i];
    int rc = PH_OK;
    if (due && (rc = store_begin(s, err)) == PH_OK) {
        for (size_t i = 0; i < due; i++) {
            int one = list[i].pack ? remove_snapshot(s, list[i].pack, rc ? NULL : err)
                                   : remove_original(s, list[i].hash, rc ? NULL : err);
            if (rc == PH_OK) rc = one; /* the first is told, the others are tried all the same */
        }
        store_rollback(s); /* nothing was written */
    }
    free(list);
    return rc;
}

static int sweep_one(void *user, char kind, const char *path, const uint8_t *hash, int64_t pack,
                     ph_error *err) {
    store *s = user;
    if (kind == 'o') return remove_original(s, hash, err);
    if (kind == 's') return remove_snapshot(s, pack, err);
    if (kind == 't') {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) unlink(path); /* else its writer is alive */
        if (fd >= 0) close(fd);
    }
    return PH_OK;
}

int files_sweep(store *s, ph_error *err) {
    sqlite3_busy_timeout(s->db, 0);
    int rc = store_begin(s, err);
    sqlite3_busy_timeout(s->db, STORE_BUSY_MS);
    if (rc == PH_BUSY) return PH_OK; /* a later open does it */
    if (rc) return rc;
    /* A file that cannot be removed does not keep anybody from working; store_verify names it. */
    ph_error ignored;
    files_walk(s, sweep_one, s, &ignored);
    store_rollback(s);
    return PH_OK;
}
