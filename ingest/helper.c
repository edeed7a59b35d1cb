/* helper.c - fork, confine, exec, and their pipes read at once. */
#include "ingest/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOT_THERE 127

/* Its own process, between fork and exec. This program has one thread, so the whole C library works. */
static void become_helper(const char *const *argv, int input, int out, int errors,
                          const sandbox_limits *limits) {
    if (dup2(input, 0) < 0 || dup2(out, 1) < 0 || dup2(errors, 2) < 0) _exit(NOT_THERE);
    for (int fd = 3; fd < 64; fd++) close(fd); /* RLIMIT_NOFILE is 64 */
    if (sandbox_enter_helper(limits) != 0) _exit(NOT_THERE - 1);
    char path[] = "PATH=/usr/bin:/bin", locale[] = "LC_ALL=C.UTF-8", home[] = "HOME=/nonexistent";
    char threads[] = "OMP_THREAD_LIMIT=1"; /* tesseract's threads cost more than they bring */
    char *environment[] = {path, locale, home, threads, NULL};
    execve(argv[0], (char *const *)(uintptr_t)argv, environment);
    _exit(NOT_THERE);
}

/* Keeps the first line or two of what it says on standard error. */
static void keep_said(helper_end *end, const char *bytes, size_t n) {
    size_t have = strlen(end->said), room = sizeof end->said - 1 - have;
    if (n > room) n = room;
    for (size_t i = 0; i < n; i++) {
        char c = bytes[i];
        end->said[have + i] = c == '\n' || c == '\r' || c == 0 ? ' ' : c;
    }
    end->said[have + n] = 0;
}

/* One of the programs. Its ends of the pipes are closed here once it has them. */
typedef struct process {
    pid_t pid; /* 0 = not started */
    int out;   /* its standard output; -1 = another process reads it */
    int errors;
    helper_end *end;
} process;

static void close_pipe(int ends[2]) {
    if (ends[0] >= 0) close(ends[0]);
    if (ends[1] >= 0) close(ends[1]);
    ends[0] = ends[1] = -1;
}

/* to: where its standard output goes; -1 = a new pipe, p->out. */
static int start(process *p, const char *const *argv, int input, int to, const sandbox_limits *limits,
                 ph_error *err) {
    int out[2] = {-1, -1}, errors[2];
    p->out = p->errors = -1;
    memset(p->end, 0, sizeof *p->end);
    if (to < 0 && pipe2(out, O_CLOEXEC) != 0)
        return ph_fail(err, PH_FAIL, "no pipe to %s: %s", argv[0], strerror(errno));
    if (pipe2(errors, O_CLOEXEC) != 0) {
        int failed = errno;
        close_pipe(out);
        return ph_fail(err, PH_FAIL, "no pipe to %s: %s", argv[0], strerror(failed));
    }
    p->pid = fork();
    if (p->pid == 0) become_helper(argv, input, to < 0 ? out[1] : to, errors[1], limits);
    int failed = errno;
    if (p->pid < 0) {
        p->pid = 0;
        close_pipe(out);
        close_pipe(errors);
        return ph_fail(err, PH_FAIL, "cannot start %s: %s", argv[0], strerror(failed));
    }
    if (to < 0) close(out[1]);
    close(errors[1]);
    p->out = out[0];
    p->errors = errors[0];
    return 0;
}

static void finish(process *p, bool ended) {
    if (p->out >= 0) close(p->out);
    if (p->errors >= 0) close(p->errors);
    if (!p->pid) return;
    if (!ended) kill(p->pid, SIGKILL);
    while (waitpid(p->pid, &p->end->status, 0) < 0 && errno == EINTR) {
    }
    p->end->missing = WIFEXITED(p->end->status) && WEXITSTATUS(p->end->status) == NOT_THERE;
}

static int64_t milliseconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Until every pipe has ended; false: they are to be killed. until: by the clock, 0 = whenever. */
static bool read_all(process *p, size_t n, int64_t until, helper_output output, void *user) {
    enum { MOST = 2 };
    struct pollfd fds[2 * MOST];
    char bytes[1 << 14];
    size_t open = 0;
    for (size_t i = 0; i < n; i++) {
        fds[2 * i] = (struct pollfd){.fd = p[i].out, .events = POLLIN};
        fds[2 * i + 1] = (struct pollfd){.fd = p[i].errors, .events = POLLIN};
        open += (p[i].out >= 0) + (p[i].errors >= 0);
    }
    while (open) {
        int64_t left = until ? until - milliseconds_now() : 0;
        if (until && left <= 0) {
            for (size_t i = 0; i < n; i++) p[i].end->late = true;
            return false;
        }
        if (poll(fds, 2 * n, until ? (int)left : -1) < 0 && errno != EINTR) return false;
        for (size_t i = 0; i < 2 * n; i++) {
            process *of = &p[i / 2];
            if (fds[i].fd < 0 || !fds[i].revents) continue;
            fds[i].revents = 0;
            ssize_t k = read(fds[i].fd, bytes, sizeof bytes);
            if (k < 0 && errno == EINTR) continue;
            if (k <= 0) {
                fds[i].fd = -1;
                open--;
            } else if (i % 2) {
                keep_said(of->end, bytes, (size_t)k);
            } else if (output(user, bytes, (size_t)k)) {
                of->end->stopped = true;
                return false;
            }
        }
    }
    return true;
}

int helper_run(helper_end *end, const char *const *argv, int input, const sandbox_limits *limits,
               helper_output output, void *user, ph_error *err) {
    process p = {.end = end};
    lseek(input, 0, SEEK_SET); /* the offset is shared with the program that read it before */
    int code = start(&p, argv, input, -1, limits, err);
    finish(&p, code == 0 && read_all(&p, 1, 0, output, user));
    return code;
}

int helper_pipe(helper_end *first_end, helper_end *end, const char *const *first, const char *const *argv,
                int input, uint32_t seconds, const sandbox_limits *limits, helper_output output, void *user,
                ph_error *err) {
    process p[2] = {{.end = end, .out = -1, .errors = -1}, {.end = first_end, .out = -1, .errors = -1}};
    int between[2] = {-1, -1}, code = 0;
    memset(end, 0, sizeof *end);
    memset(first_end, 0, sizeof *first_end);
    lseek(input, 0, SEEK_SET);
    if (first && pipe2(between, O_CLOEXEC) != 0)
        code = ph_fail(err, PH_FAIL, "no pipe to %s: %s", argv[0], strerror(errno));
    if (!code && first) code = start(&p[1], first, input, between[1], limits, err);
    if (!code) code = start(&p[0], argv, first ? between[0] : input, -1, limits, err);
    close_pipe(between); /* the two have it: when one ends, the other sees it */
    bool ended =
        !code && read_all(p, first ? 2 : 1, milliseconds_now() + (int64_t)seconds * 1000, output, user);
    for (int i = 0; i < 2; i++) finish(&p[i], ended);
    return code;
}
