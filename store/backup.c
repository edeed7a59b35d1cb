/* backup.c - the whole store as one file, and back.
 *
 *     backup.json   {"format": 1, "schema": N, "documents": N, "answers": N, "made_at": Unix seconds}
 *     pharos.db     a consistent copy of the database (VACUUM INTO)
 *     files/HASH    each original
 *
 * A plain zip (64-bit sizes), so that its originals can be had without Pharos. Snapshots stay out: they are
 * large, belong to one model and engine, and are made again by reading. Nothing is trusted on the way back:
 * names are the three above, originals must have their hash, and the database goes through store_open and
 * store_verify before the folder gets its name. */
#include "store/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>
#include <zip.h>

enum { FORMAT = 1, PIECE = 1 << 18, MAX_NOTE = 4096, HEX = 2 * STORE_HASH_BYTES };

static int zip_fail(zip_t *z, const char *path, ph_error *err) {
    return ph_fail(err, PH_FAIL, "%s: %s", path, zip_strerror(z));
}

/* ---- out ---- */

typedef struct writer {
    store *s;
    zip_t *zip;
    const char *path; /* of the file being made */
    store_progress progress;
    void *user;
    bool stopped;
} writer;

/* Takes over `source`. */
static int put(writer *w, const char *name, zip_source_t *source, ph_error *err) {
    if (!source) return zip_fail(w->zip, w->path, err);
    if (zip_file_add(w->zip, name, source, ZIP_FL_ENC_UTF_8) >= 0) return PH_OK;
    zip_source_free(source);
    return zip_fail(w->zip, w->path, err);
}

static void show(zip_t *z, double share, void *user) {
    writer *w = user;
    if (w->progress && w->progress(w->user, (int64_t)(share * 1000), 1000)) w->stopped = true;
}

static int stops(zip_t *z, void *user) {
    return ((writer *)user)->stopped;
}

/* A copy that nobody writes to: mode 0600, next to the backup, without what names snapshots as read. */
static int copy_database(writer *w, const char *copy, sqlite3 **out, ph_error *err) {
    int fd = open(copy, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return ph_fail(err, PH_FAIL, "%s: %s", copy, strerror(errno));
    close(fd);
    int rc = db_run(w->s, err, "VACUUM INTO ?", "t", copy);
    if (rc) return rc;
    if (sqlite3_open_v2(copy, out, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) ||
        sqlite3_exec(*out, "PRAGMA journal_mode = OFF; UPDATE packs SET read = 0", NULL, NULL, NULL))
        return ph_fail(err, PH_FAIL, "%s: %s", copy, *out ? sqlite3_errmsg(*out) : "no memory");
    return PH_OK;
}

static int64_t count(sqlite3 *db, const char *sql) {
    sqlite3_stmt *q;
    int64_t n = -1;
    if (sqlite3_prepare_v2(db, sql, -1, &q, NULL) == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW)
        n = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return n;
}

static int put_originals(writer *w, sqlite3 *db, ph_error *err) {
    sqlite3_stmt *q;
    int rc = PH_OK, step = SQLITE_DONE;
    if (sqlite3_prepare_v2(db, "SELECT hash, name FROM documents WHERE has_file ORDER BY id", -1, &q, NULL))
        rc = ph_fail(err, PH_FAIL, "the copied database: %s", sqlite3_errmsg(db));
    while (rc == PH_OK && (step = sqlite3_step(q)) == SQLITE_ROW) {
        char *path = NULL, name[16 + HEX] = "files/";
        if (sqlite3_column_bytes(q, 0) != STORE_HASH_BYTES) {
            rc = ph_fail(err, PH_CORRUPT, "a document has no hash");
            break;
        }
        sodium_bin2hex(name + 6, HEX + 1, sqlite3_column_blob(q, 0), STORE_HASH_BYTES);
        rc = files_original_path(w->s, &path, sqlite3_column_blob(q, 0), err);
        if (rc == PH_OK && access(path, R_OK))
            rc = ph_fail(err, errno == ENOENT ? PH_BUSY : PH_FAIL,
                         "%s: the original cannot be read (%s); if it was deleted just now, try again",
                         (const char *)sqlite3_column_text(q, 1), strerror(errno));
        if (rc == PH_OK) rc = put(w, name, zip_source_file(w->zip, path, 0, -1), err);
        free(path);
    }
    if (rc == PH_OK && step != SQLITE_DONE)
        rc = ph_fail(err, PH_FAIL, "the copied database: %s", sqlite3_errmsg(db));
    sqlite3_finalize(q);
    return rc;
}

static int fill(writer *w, const char *copy, char note[MAX_NOTE], ph_error *err) {
    sqlite3 *db = NULL;
    int rc = copy_database(w, copy, &db, err);
    if (rc == PH_OK) {
        snprintf(note, MAX_NOTE,
                 "{\"format\": %d, \"schema\": %" PRId64 ", \"documents\": %" PRId64 ", \"answers\": %" PRId64
                 ", \"made_at\": %lld}\n",
                 FORMAT, count(db, "PRAGMA user_version"), count(db, "SELECT count(*) FROM documents"),
                 count(db, "SELECT count(*) FROM answers"), (long long)time(NULL));
        rc = put(w, "backup.json", zip_source_buffer(w->zip, note, strlen(note), 0), err);
    }
    if (rc == PH_OK) rc = put(w, "pharos.db", zip_source_file(w->zip, copy, 0, -1), err);
    if (rc == PH_OK) rc = put_originals(w, db, err);
    sqlite3_close(db);
    return rc;
}

/* On disk before it gets its name; the name only where there is none. */
static int publish(const char *from, const char *to, ph_error *err) {
    int fd = open(from, O_RDONLY | O_CLOEXEC);
    bool bad = fd < 0 || fsync(fd) || link(from, to);
    int code =
        bad ? ph_fail(err, errno == EEXIST ? PH_USAGE : PH_FAIL, "%s: %s", to, strerror(errno)) : PH_OK;
    if (fd >= 0) close(fd);
    return code;
}

int store_backup(store *s, const char *path, store_progress progress, void *user, ph_error *err) {
    struct stat st;
    if (lstat(path, &st) == 0) return ph_fail(err, PH_USAGE, "%s is there already", path);
    char *part = NULL, *copy = NULL, *note = malloc(MAX_NOTE);
    writer w = {.s = s, .progress = progress, .user = user};
    int number = 0, rc = PH_OK;
    if (asprintf(&part, "%s.part-%d", path, (int)getpid()) < 0) part = NULL;
    if (asprintf(&copy, "%s.database-%d", path, (int)getpid()) < 0) copy = NULL;
    if (!part || !copy || !note) rc = ph_no_memory(err, strlen(path));
    w.path = part;
    if (!rc && !(w.zip = zip_open(part, ZIP_CREATE | ZIP_EXCL, &number))) {
        zip_error_t e;
        zip_error_init_with_code(&e, number);
        rc = ph_fail(err, PH_FAIL, "%s: %s", part, zip_error_strerror(&e));
        zip_error_fini(&e);
    }
    if (!rc) rc = fill(&w, copy, note, err);
    if (!rc) {
        zip_register_progress_callback_with_state(w.zip, 0.001, show, NULL, &w);
        zip_register_cancel_callback_with_state(w.zip, stops, NULL, &w);
        if (zip_close(w.zip))
            rc = w.stopped ? ph_fail(err, PH_INTERRUPTED, "stopped; no backup was made")
                           : zip_fail(w.zip, path, err);
        else
            w.zip = NULL;
        if (!rc && chmod(part, 0600)) rc = ph_fail(err, PH_FAIL, "%s: %s", part, strerror(errno));
    }
    if (w.zip) zip_discard(w.zip);
    if (!rc) rc = publish(part, path, err);
    if (part) unlink(part);
    if (copy) unlink(copy);
    free(part);
    free(copy);
    free(note);
    return rc;
}

/* ---- back ---- */

/* One entry into the file at `path`, which is made; its bytes are counted against what the archive says. */
static int extract(zip_t *z, zip_uint64_t index, const zip_stat_t *st, const char *path, ph_error *err) {
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return ph_fail(err, PH_FAIL, "%s: %s", path, strerror(errno));
    zip_file_t *in = zip_fopen_index(z, index, 0);
    uint8_t *piece = malloc(PIECE);
    uint64_t total = 0;
    zip_int64_t n = 0;
    int rc = in && piece ? PH_OK : ph_fail(err, PH_CORRUPT, "%s: %s", st->name, zip_strerror(z));
    while (!rc && (n = zip_fread(in, piece, PIECE)) > 0) {
        total += (uint64_t)n;
        for (zip_int64_t done = 0; !rc && done < n;) {
            ssize_t put_now = write(fd, piece + done, (size_t)(n - done));
            if (put_now < 0 && errno != EINTR) rc = ph_fail(err, PH_FAIL, "%s: %s", path, strerror(errno));
            if (put_now > 0) done += put_now;
        }
        if (total > st->size) break;
    }
    if (!rc && (n < 0 || total != st->size))
        rc = ph_fail(err, PH_CORRUPT, "the backup is damaged: %s is not as long as it says", st->name);
    /* The archive's own checksum was looked at by the last read; the hash is what the database knows. */
    if (!rc && !strncmp(st->name, "files/", 6)) {
        uint8_t hash[STORE_HASH_BYTES];
        char hex[HEX + 1];
        rc = files_hash(hash, fd, path, err);
        sodium_bin2hex(hex, sizeof hex, hash, sizeof hash);
        if (!rc && strcmp(hex, st->name + 6))
            rc = ph_fail(err, PH_CORRUPT, "the backup is damaged: %s has another content", st->name);
    }
    if (!rc && fsync(fd)) rc = ph_fail(err, PH_FAIL, "%s: %s", path, strerror(errno));
    if (in) zip_fclose(in);
    free(piece);
    close(fd);
    return rc;
}

static bool is_original(const char *name) {
    return !strncmp(name, "files/", 6) && strlen(name) == 6 + HEX &&
           strspn(name + 6, "0123456789abcdef") == HEX;
}

static int check_note(zip_t *z, ph_error *err) {
    char note[MAX_NOTE + 1];
    zip_file_t *in = zip_fopen(z, "backup.json", 0);
    zip_int64_t n = in ? zip_fread(in, note, MAX_NOTE) : -1;
    if (in) zip_fclose(in);
    if (n <= 0) return ph_fail(err, PH_UNSUPPORTED, "this is no backup of Pharos: backup.json is missing");
    note[n] = 0;
    /* Written by us in one form; the database's own schema number is checked when it is opened. */
    int format = 0;
    if (sscanf(note, " { \"format\" : %d", &format) != 1)
        return ph_fail(err, PH_CORRUPT, "backup.json names no format");
    if (format != FORMAT)
        return ph_fail(err, PH_UNSUPPORTED, "this backup has format %d; this program knows %d", format,
                       FORMAT);
    return PH_OK;
}

/* Names, sizes against the free space, before a byte is written. */
static int check_entries(zip_t *z, const char *dir, uint64_t *bytes, ph_error *err) {
    bool database = false;
    struct statvfs disk;
    *bytes = 0;
    for (zip_int64_t i = 0; i < zip_get_num_entries(z, 0); i++) {
        zip_stat_t st;
        const zip_uint64_t wanted = ZIP_STAT_NAME | ZIP_STAT_SIZE;
        if (zip_stat_index(z, (zip_uint64_t)i, 0, &st) || (st.valid & wanted) != wanted)
            return ph_fail(err, PH_CORRUPT, "the backup is damaged: %s", zip_strerror(z));
        database |= !strcmp(st.name, "pharos.db");
        if (strcmp(st.name, "pharos.db") && strcmp(st.name, "backup.json") && !is_original(st.name))
            return ph_fail(err, PH_CORRUPT, "the backup holds a file that is none of ours: %.100s", st.name);
        if (__builtin_add_overflow(*bytes, st.size, bytes))
            return ph_fail(err, PH_CORRUPT, "the backup is damaged: its sizes overflow");
    }
    if (!database) return ph_fail(err, PH_CORRUPT, "the backup holds no database");
    if (statvfs(dir, &disk) == 0 && *bytes / disk.f_frsize >= disk.f_bavail)
        return ph_fail(err, PH_FAIL,
                       "the backup needs %" PRIu64 " MB, the disk of %s has %" PRIu64 " MB free",
                       *bytes >> 20, dir, (uint64_t)disk.f_bavail * disk.f_frsize >> 20);
    return PH_OK;
}

static int extract_all(zip_t *z, const char *dir, uint64_t bytes, store_progress progress, void *user,
                       ph_error *err) {
    uint64_t done = 0;
    int rc = PH_OK;
    for (zip_int64_t i = 0; !rc && i < zip_get_num_entries(z, 0); i++) {
        zip_stat_t st;
        char *path = NULL;
        if (progress && progress(user, (int64_t)done, (int64_t)bytes))
            return ph_fail(err, PH_INTERRUPTED, "stopped; nothing was restored");
        if (zip_stat_index(z, (zip_uint64_t)i, 0, &st))
            return ph_fail(err, PH_CORRUPT, "the backup is damaged: %s", zip_strerror(z));
        if (!strcmp(st.name, "backup.json")) continue;
        bool original = is_original(st.name);
        int n = original ? asprintf(&path, "%s/files/%.2s/%s", dir, st.name + 6, st.name + 6)
                         : asprintf(&path, "%s/pharos.db", dir);
        if (n < 0) return ph_no_memory(err, strlen(dir) + 128);
        if (original) {
            char *slash = strrchr(path, '/');
            *slash = 0;
            rc = files_make_folder(path, err);
            *slash = '/';
        }
        if (!rc) rc = extract(z, (zip_uint64_t)i, &st, path, err);
        free(path);
        done += st.size;
    }
    return rc;
}

/* The folder as a store: schema, integrity, every original there. */
static int check_store(const char *dir, ph_error *err) {
    store *s = NULL;
    char *report = NULL;
    int rc = store_open(&s, dir, err);
    if (!rc) rc = store_verify(s, &report, err);
    if (!rc && report[0])
        rc = ph_fail(err, PH_CORRUPT, "the backup is damaged: %.*s", (int)strcspn(report, "\n"), report);
    free(report);
    store_close(s);
    return rc;
}

int store_restore(const char *path, const char *dir, store_progress progress, void *user, ph_error *err) {
    int number = 0, rc = PH_OK;
    if (sodium_init() < 0) return ph_fail(err, PH_FAIL, "libsodium cannot be initialised");
    /* An empty folder may be there; rmdir refuses any other. */
    if (rmdir(dir) && errno != ENOENT)
        return ph_fail(err, PH_USAGE, "%s is not empty (%s): name a new folder with --data, or move it away",
                       dir, strerror(errno));
    zip_t *z = zip_open(path, ZIP_RDONLY | ZIP_CHECKCONS, &number);
    if (!z) {
        zip_error_t e;
        zip_error_init_with_code(&e, number);
        rc = ph_fail(err, number == ZIP_ER_NOENT ? PH_NOT_FOUND : PH_CORRUPT, "%s: %s", path,
                     zip_error_strerror(&e));
        zip_error_fini(&e);
        return rc;
    }
    char *part = NULL;
    uint64_t bytes = 0;
    if (asprintf(&part, "%s.restoring-XXXXXX", dir) < 0) part = NULL;
    if (!part) rc = ph_no_memory(err, strlen(dir) + 32);
    if (!rc) rc = check_note(z, err);
    if (!rc) {
        /* The folder that will hold it may be missing as well. */
        char *slash = strrchr(part, '/');
        if (slash && slash != part) {
            *slash = 0;
            rc = files_make_folder(part, err);
            *slash = '/';
        }
    }
    bool made = !rc && mkdtemp(part);
    if (!rc && !made) rc = ph_fail(err, PH_FAIL, "%s: %s", part, strerror(errno));
    if (!rc) rc = check_entries(z, part, &bytes, err);
    if (!rc) rc = extract_all(z, part, bytes, progress, user, err);
    zip_discard(z);
    if (!rc) rc = check_store(part, err);
    if (!rc && rename(part, dir)) rc = ph_fail(err, PH_FAIL, "%s: %s", dir, strerror(errno));
    if (rc && made) files_remove_folder(part);
    free(part);
    return rc;
}
