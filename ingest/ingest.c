/* ingest.c - the parent's side of an extraction: starts the child, reads its frames, ends it in every case.
 */
#include "ingest/ingest.h"

#include "ingest/child.h"
#include "ingest/extract.h"
#include "ingest/frame.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GIB ((uint64_t)1 << 30)
#define PIPE_BYTES ((size_t)1 << 16)
#define OCR_PAGES 10000
#define OCR_PAGE_SECONDS 60
#define OCR_SECONDS (4 * 3600)
#define TICK_MS 100 /* how often progress is reported and a stop noticed */

typedef struct job {
    const char *path;
    const char *name; /* its last part */
    ingest_limits limits;
    uint64_t file_bytes;
    int file, result; /* the child's descriptors 0 and 1, both >= 3 here */
    int from_child;
    pid_t child;
    ingest_progress progress;
    void *user;
    ocr_settings ocr;
    char page[48]; /* ":PAGE:PIXELS" in the place of the extension; "" = the text is wanted */
} job;

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* "2.0 GiB", for sentences. */
static const char *size_text(char out[32], uint64_t bytes) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double v = (double)bytes;
    int u = 0;
    while (v >= 1024 && u < 6) v /= 1024, u++;
    snprintf(out, 32, u ? "%.1f %s" : "%.0f %s", v, units[u]);
    return out;
}

/* Lower case, letters and digits only: it travels as an argument that others on the machine can see. */
static void find_extension(char out[17], const char *name) {
    const char *dot = strrchr(name, '.');
    size_t n = 0;
    if (dot && dot != name) {
        for (const char *p = dot + 1; *p; p++) {
            if (n == 16 || !isalnum((unsigned char)*p)) {
                n = 0;
                break;
            }
            out[n++] = (char)tolower((unsigned char)*p);
        }
    }
    out[n] = 0;
}

static int open_file(job *j, ph_error *err) {
    /* O_NONBLOCK: opening a FIFO must not wait for a writer. */
    int fd = open(j->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return ph_fail(err, errno == ENOENT || errno == ENOTDIR ? PH_NOT_FOUND : PH_FAIL,
                       "cannot open %s: %s", j->path, strerror(errno));
    struct stat st;
    char a[32], b[32];
    int rc = 0;
    if (fstat(fd, &st) != 0)
        rc = ph_fail(err, PH_FAIL, "cannot look at %s: %s", j->path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        rc = ph_fail(err, PH_UNSUPPORTED, "%s is %s, not a file", j->path,
                     S_ISDIR(st.st_mode) ? "a folder" : "a device, socket or pipe");
    else if ((uint64_t)st.st_size > j->limits.file_bytes)
        rc = ph_fail(err, PH_TOO_LARGE, "%s has %s, and the limit is %s", j->path,
                     size_text(a, (uint64_t)st.st_size), size_text(b, j->limits.file_bytes));
    if (rc) {
        close(fd);
        return rc;
    }
    j->file_bytes = (uint64_t)st.st_size;
    j->file = fd;
    return 0;
}

/* The child between fork and exec, where only system calls are safe: this process may have threads. */
static void become_child(const job *j, char *const *argv, char *const *environment, pid_t parent) {
    setsid(); /* a session and process group of its own: one kill ends it with its helpers */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(CHILD_NO_PIPE);
    int null = open("/dev/null", O_WRONLY);
    if (null < 0) _exit(CHILD_NO_EXEC);
    /* Each of the three is at 3 or above (the caller saw to it; null by being opened after them). */
    if (dup2(j->file, 0) < 0 || dup2(j->result, 1) < 0) _exit(CHILD_NO_EXEC);
    /* A sanitizer's report is all that tells why its process ended. */
    if (!SANDBOX_SANITIZED && dup2(null, 2) < 0) _exit(CHILD_NO_EXEC);
    if (syscall(SYS_close_range, 3u, ~0u, 0u) != 0)
        for (int fd = 3; fd < 65536; fd++) close(fd);
    struct sigaction normal = {.sa_handler = SIG_DFL};
    for (int i = 1; i < NSIG; i++) sigaction(i, &normal, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve("/proc/self/exe", argv, environment);
    _exit(CHILD_NO_EXEC);
}

/* Moves a descriptor to 3 or above, so that dup2 onto 0 to 2 cannot overwrite another one's source. */
static int lift(int fd) {
    if (fd >= 3) return fd;
    int higher = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    int failed = errno;
    close(fd);
    errno = failed;
    return higher;
}

static int start_child(job *j, ph_error *err) {
    if (getenv(CHILD_MARK))
        return ph_fail(err, PH_FAIL, "a reader was started by a reader: main() must call ingest_child_main");
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return ph_fail(err, PH_FAIL, "no pipe to a reader: %s", strerror(errno));
    j->from_child = lift(ends[0]);
    j->result = lift(ends[1]);
    j->file = lift(j->file);
    if (j->from_child < 0 || j->result < 0 || j->file < 0)
        return ph_fail(err, PH_FAIL, "no descriptors for a reader: %s", strerror(errno));

    char memory[24], seconds[24], text[24], extension[48];
    snprintf(memory, sizeof memory, "%llu", (unsigned long long)j->limits.memory_bytes);
    snprintf(seconds, sizeof seconds, "%u", j->limits.seconds);
    snprintf(text, sizeof text, "%llu", (unsigned long long)j->limits.text_bytes);
    if (j->page[0])
        memcpy(extension, j->page, sizeof extension);
    else
        find_extension(extension, j->name);
    char name[] = "pharos-reader", argument[] = INGEST_CHILD_ARGUMENT, version[] = CHILD_VERSION;
    char ocr[128];
    ocr_settings_write(ocr, &j->ocr);
    char *argv[CHILD_ARGC + 1] = {name, argument, version, memory, seconds, text, ocr, extension, NULL};
    char mark[] = CHILD_MARK "=1", path[] = "PATH=/usr/bin:/bin", locale[] = "LC_ALL=C.UTF-8";
    char sanitizer[] = "ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1";
    char *environment[] = {mark, path, locale, SANDBOX_SANITIZED ? sanitizer : NULL, NULL};

    pid_t parent = getpid();
    j->child = fork();
    if (j->child < 0) return ph_fail(err, PH_FAIL, "cannot start a reader: %s", strerror(errno));
    if (j->child == 0) become_child(j, argv, environment, parent);
    close(j->result);
    j->result = -1;
    return 0;
}

/* Reads frames until the pipe ends, time is up, or someone says stop. */
static int read_frames(job *j, frame_reader *reader, ph_error *err) {
    uint8_t *bytes = malloc(PIPE_BYTES);
    if (!bytes) return ph_fail(err, PH_MEMORY, "out of memory: %zu bytes to read from a reader", PIPE_BYTES);
    /* Processor time is the child's limit; the clock on the wall stops one that waits, with room for a busy
     * machine. */
    double start = seconds_now(), limit = 2.0 * j->limits.seconds + 10, told = start;
    /* Pages that are pictures have a time of their own, which the child keeps; the last one may just have begun. */
    if (j->limits.ocr) limit += j->ocr.seconds + 2 * (2.0 * j->ocr.page_seconds + 10);
    int rc = 0;
    while (!rc) {
        struct pollfd p = {.fd = j->from_child, .events = POLLIN};
        int ready = poll(&p, 1, TICK_MS);
        if (ready < 0 && errno != EINTR)
            rc = ph_fail(err, PH_FAIL, "cannot wait for a reader: %s", strerror(errno));
        if (ready > 0) {
            ssize_t n = read(j->from_child, bytes, PIPE_BYTES);
            if (n == 0) break;
            if (n < 0 && errno != EINTR)
                rc = ph_fail(err, PH_FAIL, "cannot read from a reader: %s", strerror(errno));
            if (n > 0) rc = frame_feed(reader, bytes, (size_t)n, err);
        }
        double now = seconds_now();
        if (!rc && now - start > limit)
            rc = ph_fail(err, PH_TOO_LARGE, "%s: reading it took more than %.0f s", j->name, limit);
        if (!rc && j->progress && now - told >= TICK_MS / 1000.0) {
            told = now;
            if (j->progress(j->user, reader->done, reader->total))
                rc = ph_fail(err, PH_INTERRUPTED, "stopped while reading %s", j->name);
        }
    }
    free(bytes);
    return rc;
}

/* Why a child that did not finish ended. */
static int explain(const job *j, int status, ph_error *err) {
    char size[32];
    if (WIFSIGNALED(status)) {
        switch (WTERMSIG(status)) {
        case SIGXCPU:
            return ph_fail(err, PH_TOO_LARGE, "%s: reading it took more than %u s", j->name,
                           j->limits.seconds);
        case SIGBUS:
            return ph_fail(err, PH_CORRUPT, "%s became shorter while it was read", j->name);
        case SIGKILL:
            return ph_fail(err, PH_FAIL, "%s: its reader was killed (is the machine out of memory?)",
                           j->name);
        default:
            return ph_fail(err, PH_CORRUPT, "%s: its reader crashed (%s); the file is damaged or hostile",
                           j->name, strsignal(WTERMSIG(status)));
        }
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_NO_EXEC)
        return ph_fail(err, PH_FAIL, "%s: cannot start a reader from /proc/self/exe", j->name);
    if (WIFEXITED(status) && WEXITSTATUS(status) == PH_MEMORY)
        return ph_fail(err, PH_TOO_LARGE, "%s: reading it needed more than %s of memory", j->name,
                       size_text(size, j->limits.memory_bytes));
    return ph_fail(err, PH_CORRUPT, "%s: its reader stopped early (status %d)", j->name,
                   WIFEXITED(status) ? WEXITSTATUS(status) : status);
}

/* Ends the child with all of its group; its status, and whether it had ended by itself. `wait` gives it a
 * moment: a child that is done sits in _exit, so that its status is its own. It is looked at without being
 * reaped, so that its number cannot be another's by then. */
static bool end_child(const job *j, bool wait, int *status) {
    siginfo_t ended = {0};
    for (int i = 0; wait && i < 500 && ended.si_pid == 0; i++) {
        if (waitid(P_PID, (id_t)j->child, &ended, WEXITED | WNOHANG | WNOWAIT) != 0) break;
        if (ended.si_pid == 0) nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    /* Whatever happened, nothing of its group survives: the pipe's end does not prove that a helper is gone.
     */
    kill(-j->child, SIGKILL);
    kill(j->child, SIGKILL);
    pid_t reaped;
    while ((reaped = waitpid(j->child, status, 0)) < 0 && errno == EINTR) {
    }
    return reaped == j->child && ended.si_pid != 0;
}

static int supervise(job *j, document_text *out, ph_error *err) {
    frame_reader reader;
    frame_reader_init(&reader, out, j->limits.text_bytes, j->file_bytes);
    int rc = read_frames(j, &reader, err), status = 0;
    bool known = end_child(j, !rc, &status);
    if (!rc) {
        if (!reader.ended && known && (WIFSIGNALED(status) || WEXITSTATUS(status) != 0))
            rc = explain(j, status, err);
        else if ((rc = frame_finish(&reader, err)) != 0) {
            if (rc == PH_MEMORY) {
                char size[32];
                rc = ph_fail(err, PH_TOO_LARGE, "reading it needed more than %s of memory",
                             size_text(size, j->limits.memory_bytes));
            }
            ph_context(err, "%s", j->name);
        }
    }
    frame_reader_free(&reader);
    if (!rc && j->progress)
        j->progress(j->user, reader.total ? reader.total : j->file_bytes,
                    reader.total ? reader.total : j->file_bytes);
    return rc;
}

static int fill_in(job *j, const ingest_limits *limits, ph_error *err) {
    if (limits) j->limits = *limits;
    if (!j->limits.file_bytes) j->limits.file_bytes = 2 * GIB;
    if (!j->limits.text_bytes) j->limits.text_bytes = GIB;
    if (!j->limits.memory_bytes) j->limits.memory_bytes = 2 * GIB;
    if (!j->limits.seconds) j->limits.seconds = 300;
    if (!j->limits.ocr) return 0;
    const char *languages = j->limits.ocr_language ? j->limits.ocr_language : INGEST_OCR_LANGUAGE;
    if (!ingest_ocr_language_is_valid(languages)) return ingest_ocr_check(languages, err);
    snprintf(j->ocr.languages, sizeof j->ocr.languages, "%s", languages);
    j->ocr.pages = j->limits.ocr_pages ? j->limits.ocr_pages : OCR_PAGES;
    j->ocr.page_seconds = j->limits.ocr_page_seconds ? j->limits.ocr_page_seconds : OCR_PAGE_SECONDS;
    j->ocr.seconds = j->limits.ocr_seconds ? j->limits.ocr_seconds : OCR_SECONDS;
    return 0;
}

static void close_all(const job *j) {
    if (j->file >= 0) close(j->file);
    if (j->result >= 0) close(j->result);
    if (j->from_child >= 0) close(j->from_child);
}

int ingest_extract(document_text *out, const char *path, const ingest_limits *limits,
                   ingest_progress progress, void *user, ph_error *err) {
    const char *base = strrchr(path, '/');
    job j = {.path = path, .name = base ? base + 1 : path, .file = -1, .result = -1, .from_child = -1};
    j.progress = progress;
    j.user = user;
    memset(out, 0, sizeof *out);
    int rc = fill_in(&j, limits, err);
    if (!rc) rc = open_file(&j, err);
    if (!rc) rc = start_child(&j, err);
    if (!rc) rc = supervise(&j, out, err);
    close_all(&j);
    if (rc) document_text_free(out);
    return rc;
}

/* ---- a page's image ---- */

enum { PNG_BYTES = 32 << 20, PNG_SECONDS = 30, MOST_PIXELS = 4096, LEAST_PIXELS = 16, MOST_PAGES = 1 << 24 };

/* Everything that the child writes, up to the limit and the time. */
static int read_image(job *j, uint8_t **out, size_t *len, ph_error *err) {
    size_t n = 0, capacity = PIPE_BYTES;
    uint8_t *bytes = malloc(capacity);
    double until = seconds_now() + 2.0 * j->limits.seconds;
    int rc = bytes ? 0 : ph_fail(err, PH_MEMORY, "no memory for a page");
    while (!rc) {
        struct pollfd p = {.fd = j->from_child, .events = POLLIN};
        if (poll(&p, 1, TICK_MS) > 0) {
            ssize_t k = read(j->from_child, bytes + n, capacity - n);
            if (k == 0) break;
            if (k > 0) n += (size_t)k;
            if (k < 0 && errno != EINTR)
                rc = ph_fail(err, PH_FAIL, "cannot read from a reader: %s", strerror(errno));
        }
        if (!rc && seconds_now() > until)
            rc = ph_fail(err, PH_TOO_LARGE, "%s: rendering it took too long", j->name);
        if (rc || n < capacity) continue;
        uint8_t *more = capacity < PNG_BYTES ? realloc(bytes, capacity *= 2) : NULL;
        if (!more)
            rc = ph_fail(err, PH_TOO_LARGE, "%s: the image of the page has more than %d MiB", j->name,
                         PNG_BYTES >> 20);
        else
            bytes = more;
    }
    *out = bytes;
    *len = n;
    return rc;
}

static uint32_t big_endian(const uint8_t *b) {
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

/* A whole PNG of at most that many pixels a side: a browser is going to be told that it is one. */
static bool is_png(const uint8_t *b, size_t n, uint32_t pixels) {
    static const uint8_t begin[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n',
                                    0,    0,   0,   13,  'I',  'H',  'D',  'R'};
    static const uint8_t end[] = {0, 0, 0, 0, 'I', 'E', 'N', 'D', 0xAE, 0x42, 0x60, 0x82};
    if (n < 57 || memcmp(b, begin, sizeof begin) || memcmp(b + n - sizeof end, end, sizeof end)) return false;
    uint32_t width = big_endian(b + 16), height = big_endian(b + 20);
    return width >= 1 && height >= 1 && width <= pixels + 1 && height <= pixels + 1;
}

static int judge_image(const job *j, uint8_t *bytes, size_t n, uint32_t pixels, ph_error *err) {
    if (n >= 2 && bytes[0] == 'E') {
        int code = bytes[1];
        bool ours = code == PH_UNSUPPORTED || code == PH_NOT_FOUND || code == PH_CORRUPT || code == PH_FAIL;
        return ph_fail(err, ours ? code : PH_FAIL, "%s: %.*s", j->name, (int)(n - 2 < 300 ? n - 2 : 300),
                       (const char *)bytes + 2);
    }
    if (n < 1 || bytes[0] != 'P' || !is_png(bytes + 1, n - 1, pixels))
        return ph_fail(err, PH_CORRUPT, "%s: the page could not be rendered", j->name);
    return 0;
}

int ingest_page_png(uint8_t **png, size_t *len, const char *path, uint32_t page, uint32_t pixels,
                    const ingest_limits *limits, ph_error *err) {
    const char *base = strrchr(path, '/');
    job j = {.path = path, .name = base ? base + 1 : path, .file = -1, .result = -1, .from_child = -1};
    *png = NULL;
    *len = 0;
    if (page < 1 || pixels < LEAST_PIXELS || pixels > MOST_PIXELS)
        return ph_fail(err, PH_USAGE, "a page is counted from 1, and its image has %d to %d pixels a side",
                       LEAST_PIXELS, MOST_PIXELS);
    if (page > MOST_PAGES) return ph_fail(err, PH_NOT_FOUND, "no document has a page %u", page);
    int rc = fill_in(&j, limits, err);
    if (!limits || !limits->seconds) j.limits.seconds = PNG_SECONDS;
    snprintf(j.page, sizeof j.page, ":%u:%u", page, pixels);
    if (!rc) rc = open_file(&j, err);
    uint8_t head[1024];
    ssize_t n = rc ? 0 : pread(j.file, head, sizeof head, 0);
    if (!rc && (n <= 0 || !sniff_is_pdf(head, (size_t)n)))
        rc = ph_fail(err, PH_UNSUPPORTED, "%s is no PDF: only those have pages to show", j.name);
    if (!rc) rc = start_child(&j, err);
    if (!rc) {
        uint8_t *bytes = NULL;
        size_t got = 0;
        int status = 0;
        rc = read_image(&j, &bytes, &got, err);
        end_child(&j, !rc, &status);
        if (!rc) rc = judge_image(&j, bytes, got, pixels, err);
        if (!rc) {
            memmove(bytes, bytes + 1, --got);
            *png = bytes;
            *len = got;
        } else
            free(bytes);
    }
    close_all(&j);
    return rc;
}
