/* helper.c - fork, confine, exec, and two pipes read at once. */
#include "ingest/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
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

static void read_both(helper_end *end, int out, int errors, helper_output output, void *user) {
    struct pollfd p[2] = {{.fd = out, .events = POLLIN}, {.fd = errors, .events = POLLIN}};
    char bytes[1 << 14];
    while (p[0].fd >= 0 || p[1].fd >= 0) {
        if (poll(p, 2, -1) < 0 && errno != EINTR) break;
        for (int i = 0; i < 2; i++) {
            if (p[i].fd < 0 || !p[i].revents) continue;
            ssize_t n = read(p[i].fd, bytes, sizeof bytes);
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) {
                p[i].fd = -1;
            } else if (i == 1) {
                keep_said(end, bytes, (size_t)n);
            } else if (output(user, bytes, (size_t)n)) {
                end->stopped = true;
                return;
            }
        }
    }
}

int helper_run(helper_end *end, const char *const *argv, int input, const sandbox_limits *limits,
               helper_output output, void *user, ph_error *err) {
    memset(end, 0, sizeof *end);
    int out[2], errors[2];
    if (pipe2(out, O_CLOEXEC) != 0)
        return ph_fail(err, PH_FAIL, "no pipe to %s: %s", argv[0], strerror(errno));
    if (pipe2(errors, O_CLOEXEC) != 0) {
        close(out[0]);
        close(out[1]);
        return ph_fail(err, PH_FAIL, "no pipe to %s: %s", argv[0], strerror(errno));
    }
    lseek(input, 0, SEEK_SET); /* the offset is shared with the program that read it before */
    pid_t pid = fork();
    if (pid == 0) become_helper(argv, input, out[1], errors[1], limits);
    int failed = errno;
    close(out[1]);
    close(errors[1]);
    if (pid > 0) read_both(end, out[0], errors[0], output, user);
    close(out[0]);
    close(errors[0]);
    if (pid < 0) return ph_fail(err, PH_FAIL, "cannot start %s: %s", argv[0], strerror(failed));
    if (end->stopped) kill(pid, SIGKILL);
    while (waitpid(pid, &end->status, 0) < 0 && errno == EINTR) {
    }
    end->missing = WIFEXITED(end->status) && WEXITSTATUS(end->status) == NOT_THERE;
    return 0;
}
