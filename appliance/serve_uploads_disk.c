/* serve_uploads_disk.c - what lies on disk for a file on its way in:
 *
 *     DIR/uploads/lock          held by the server
 *     DIR/uploads/part-XXXXXX   being received; removed at the next start
 *     DIR/uploads/N.EXTENSION   received: a number of ours, and the ending of its name
 *     DIR/uploads/N.note        its name; written first, so that one without it is a crash's leftover
 */
#include "appliance/serve_uploads_internal.h"

#include "appliance/command.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* ".note", or the extension of the file's name: letters and digits only. */
static char *path_of(const uploads *u, int64_t id, const char *suffix) {
    char *path = NULL;
    return asprintf(&path, "%s/%lld%s", u->dir, (long long)id, suffix) < 0 ? NULL : path;
}

#define NOTE ".note"

char *upload_path(const uploads *u, int64_t id, const char *name) {
    char suffix[20] = ".file";
    const char *dot = strrchr(name, '.');
    size_t n = dot ? strlen(dot + 1) : 0;
    bool plain = n > 0 && n <= 16;
    for (size_t i = 0; i < n && plain; i++) plain = isalnum((unsigned char)dot[1 + i]);
    if (plain && strcasecmp(dot, NOTE) != 0) strcpy(suffix, dot);
    return path_of(u, id, suffix);
}

void upload_remove(const uploads *u, int64_t id, const char *name) {
    char *data = name ? upload_path(u, id, name) : NULL, *note = path_of(u, id, NOTE);
    if (data) unlink(data);
    if (note) unlink(note);
    free(data);
    free(note);
}

void upload_remove_data(const uploads *u, int64_t id, const char *name) {
    char *data = upload_path(u, id, name);
    if (data) unlink(data);
    free(data);
}

int upload_sync(const char *dir) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int failed = fd < 0 || fsync(fd);
    if (fd >= 0) close(fd);
    return failed;
}

int upload_disk_error(const char *what, ph_error *err) {
    if (errno == ENOSPC || errno == EDQUOT) return ph_fail(err, PH_FAIL, "the disk is full");
    return ph_fail(err, PH_FAIL, "cannot %s: %s", what, strerror(errno));
}

/* The name beside the data: {"name": ..., "url": bool, "ocr": languages}; with "failed", "bytes" and "ended" where there is no
 * data any more, because it could not be read. */
int upload_write_note(const uploads *u, const item *i, ph_error *err) {
    char *path = path_of(u, i->id, NOTE);
    json_t *note = json_pack("{s:o, s:b, s:s}", "name", json_text(i->name), "url", i->url, "ocr", i->ocr);
    if (note && i->state == FAILED) {
        json_object_set_new(note, "failed", json_text(i->detail));
        json_object_set_new(note, "bytes", json_integer((json_int_t)i->bytes));
        json_object_set_new(note, "ended", json_integer((json_int_t)i->ended));
    }
    char *text = note ? json_dumps(note, JSON_COMPACT) : NULL;
    int fd = path && text ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    int code = path && text ? PH_OK : ph_fail(err, PH_MEMORY, "no memory for an upload");
    if (!code && (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || fsync(fd)))
        code = upload_disk_error("write what a file is called", err);
    if (fd >= 0) close(fd);
    json_decref(note);
    free(text);
    free(path);
    return code;
}

/* ---- what an earlier server left ---- */

/* One that an earlier server could not read. */
static bool resume_failed(uploads *u, int64_t id, const char *name, bool url, const char *ocr, const json_t *note) {
    const char *why = json_string_value(json_object_get(note, "failed"));
    item *i = name && why ? upload_add(u, id, name, url, ocr) : NULL;
    if (!i) return false;
    i->state = FAILED;
    snprintf(i->detail, sizeof i->detail, "%s", why);
    i->bytes = (uint64_t)json_integer_value(json_object_get(note, "bytes"));
    i->added = i->ended = (time_t)json_integer_value(json_object_get(note, "ended"));
    upload_remove_data(u, id, name);
    return true;
}

/* A file that an earlier server acknowledged. */
static void resume(uploads *u, int64_t id) {
    char *note_path = path_of(u, id, NOTE);
    json_t *note = note_path ? json_load_file(note_path, 0, NULL) : NULL;
    const char *name = json_string_value(json_object_get(note, "name"));
    bool url = json_is_true(json_object_get(note, "url"));
    const char *ocr = json_string_value(json_object_get(note, "ocr"));
    if (ocr && !ingest_ocr_language_is_valid(ocr)) ocr = NULL;
    char *data = name ? upload_path(u, id, name) : NULL;
    struct stat st = {0};
    bool there = data && !lstat(data, &st) && S_ISREG(st.st_mode);
    if (resume_failed(u, id, name, url, ocr, note)) {
        json_decref(note);
        free(note_path);
        free(data);
        return;
    }
    item *i = name && (there || url) ? upload_add(u, id, name, url, ocr) : NULL;
    if (i) {
        i->bytes = (uint64_t)st.st_size;
        u->waiting++;
    } else
        upload_remove(u, id, name);
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

int uploads_open_folder(uploads *u, ph_error *err) {
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
