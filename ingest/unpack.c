/* unpack.c - see unpack.h. */
#include "ingest/unpack.h"

#include "ingest/extract.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

enum { PIECE = 1 << 16, HEAD = 1024 };

bool unpack_is_gzip(const uint8_t *bytes, size_t n) {
    return n >= 3 && bytes[0] == 0x1F && bytes[1] == 0x8B && bytes[2] == 8;
}

static int inflate_all(z_stream *z, const uint8_t *bytes, size_t n, unpack_output output, void *user,
                       ph_error *err) {
    uint8_t out[PIECE];
    for (size_t at = 0;;) {
        size_t feed = n - at < PIECE ? n - at : PIECE;
        z->next_in = (Bytef *)(uintptr_t)(bytes + at);
        z->avail_in = (uInt)feed;
        z->next_out = out;
        z->avail_out = PIECE;
        int rc = inflate(z, Z_NO_FLUSH);
        at += feed - z->avail_in;
        size_t made = PIECE - z->avail_out;
        int code = made ? output(user, out, made) : 0;
        if (code) return code;
        if (rc == Z_STREAM_END) {
            if (n - at < 2 || bytes[at] != 0x1F || bytes[at + 1] != 0x8B) return PH_OK;
            inflateReset2(z, 15 + 16);
        } else if (rc != Z_OK && rc != Z_BUF_ERROR)
            return ph_fail(err, rc == Z_MEM_ERROR ? PH_MEMORY : PH_CORRUPT, "damaged gzip data (%s)",
                           z->msg ? z->msg : "cut");
        else if (at == n && z->avail_out)
            return ph_fail(err, PH_CORRUPT, "gzip data that ends early");
    }
}

int unpack_gzip(const uint8_t *bytes, size_t n, unpack_output output, void *user, ph_error *err) {
    z_stream z = {0};
    if (inflateInit2(&z, 15 + 16) != Z_OK) return ph_fail(err, PH_MEMORY, "out of memory: a gzip reader");
    int code = inflate_all(&z, bytes, n, output, user, err);
    inflateEnd(&z);
    return code;
}

/* ---- apart ---- */

static int write_all(int fd, const void *bytes, size_t n) {
    const char *p = bytes;
    while (n) {
        ssize_t k = write(fd, p, n);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return -1;
        p += k;
        n -= (size_t)k;
    }
    return 0;
}

static int to_standard_output(void *user, const void *bytes, size_t n) {
    (void)user;
    return write_all(STDOUT_FILENO, bytes, n) ? PH_INTERRUPTED : PH_OK;
}

/* The child's whole life. */
static void unpack_and_exit(int file, uint64_t packed, int out, const sandbox_limits *limits) {
    sandbox_limits own = *limits;
    ph_error err;
    own.spawn = own.ocr = false;
    if (dup2(file, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 || sandbox_enter(&own, &err)) _exit(1);
    void *bytes = mmap(NULL, (size_t)packed, PROT_READ, MAP_PRIVATE, STDIN_FILENO, 0);
    if (bytes == MAP_FAILED) _exit(1);
    _exit(unpack_gzip(bytes, (size_t)packed, to_standard_output, NULL, &err) ? 1 : 0);
}

/* Copies to `to` while it can still be a PDF of at most `most` bytes. */
static bool copy_pdf(int from, int to, uint64_t most, uint64_t *size) {
    uint8_t bytes[PIECE];
    size_t head = 0; /* of the file, in bytes[] until it is known */
    bool known = false;
    *size = 0;
    for (;;) {
        ssize_t n = read(from, bytes + head, sizeof bytes - head);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return false;
        head += (size_t)n;
        if (!known && (head >= HEAD || n == 0)) {
            known = true;
            if (!sniff_is_pdf(bytes, head)) return false;
        }
        if (!known) continue;
        *size += head;
        if (*size > most || write_all(to, bytes, head)) return false;
        head = 0;
        if (n == 0) return true;
    }
}

int unpack_pdf_apart(int file, uint64_t packed, uint64_t most, const sandbox_limits *limits, uint64_t *size) {
    int ends[2];
    if (packed == 0 || packed > SIZE_MAX || pipe2(ends, O_CLOEXEC)) return -1;
    int copy = memfd_create("unpacked", MFD_CLOEXEC);
    pid_t pid = copy < 0 ? -1 : fork();
    if (pid == 0) unpack_and_exit(file, packed, ends[1], limits);
    close(ends[1]);
    bool pdf = pid > 0 && copy_pdf(ends[0], copy, most, size);
    close(ends[0]);
    int status = 0;
    if (pid > 0 && !pdf) kill(pid, SIGKILL);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (pdf && WIFEXITED(status) && WEXITSTATUS(status) == 0) return copy;
    if (copy >= 0) close(copy);
    return -1;
}
