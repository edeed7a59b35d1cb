#include "tests/program.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- folders and files ---- */

char *make_folder(void) {
    const char *base = getenv("TMPDIR");
    char path[4096];
    snprintf(path, sizeof path, "%s/pharos-test-XXXXXX", base && base[0] ? base : "/tmp");
    if (!mkdtemp(path)) fail_msg("cannot make a folder: %s", strerror(errno));
    return strdup(path);
}

static int erase(const char *path, const struct stat *st, int kind, struct FTW *at) {
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

void remove_folder(char *path) {
    if (path) nftw(path, erase, 16, FTW_DEPTH | FTW_PHYS);
    free(path);
}

const char *in_folder(const char *dir, const char *name) {
    static char paths[8][4096];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

void write_file(const char *path, const void *bytes, size_t n) {
    FILE *f = fopen(path, "wb");
    if (!f) fail_msg("cannot write %s: %s", path, strerror(errno));
    if (fwrite(bytes, 1, n, f) != n || fclose(f)) fail_msg("cannot write %s: %s", path, strerror(errno));
}

void write_text(const char *path, const char *text) {
    write_file(path, text, strlen(text));
}

static char *read_all(int fd, size_t *n) {
    char *out = malloc(1);
    size_t at = 0, capacity = 1;
    for (;;) {
        if (at + 1 >= capacity) out = realloc(out, capacity = capacity * 2 + 4096);
        ssize_t got = read(fd, out + at, capacity - at - 1);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        at += (size_t)got;
    }
    out[at] = 0;
    *n = at;
    return out;
}

char *read_whole(const char *path, size_t *n) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return NULL;
    char *out = read_all(fd, n);
    close(fd);
    return out;
}

static int walk(const char *dir, const void *bytes, size_t n) {
    DIR *d = opendir(dir);
    int found = 0;
    if (!d) return 0;
    for (struct dirent *e; (e = readdir(d));) {
        char path[4096];
        struct stat st;
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (lstat(path, &st)) continue;
        if (S_ISDIR(st.st_mode)) found += walk(path, bytes, n);
        if (!S_ISREG(st.st_mode)) continue;
        size_t len = 0;
        char *all = n ? read_whole(path, &len) : NULL;
        found += n == 0 || (all && memmem(all, len, bytes, n));
        free(all);
    }
    closedir(d);
    return found;
}

int files_holding(const char *dir, const void *bytes, size_t n) {
    return walk(dir, bytes, n);
}
int files_below(const char *dir) {
    return walk(dir, NULL, 0);
}

/* ---- programs ---- */

void result_free(result *r) {
    free(r->out);
    free(r->err);
    memset(r, 0, sizeof *r);
}

/* The tester's own settings must not decide what a test sees; sanitizers keep theirs. */
static void set_environment(const char *const *env) {
    static const char *const kept[] = {"ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "TMPDIR"};
    char *values[4];
    for (int i = 0; i < 4; i++) {
        const char *v = getenv(kept[i]);
        values[i] = v ? strdup(v) : NULL;
    }
    clearenv();
    for (int i = 0; i < 4; i++)
        if (values[i]) setenv(kept[i], values[i], 1);
    setenv("PATH", "/usr/bin:/bin", 1);
    setenv("LC_ALL", "C.UTF-8", 1);
    setenv("TERM", "xterm", 1);
    setenv("TZ", "UTC", 1);
    for (int i = 0; env && env[i]; i++) putenv((char *)env[i]);
}

static _Noreturn void become(const char *const *argv, const char *const *env) {
    set_environment(env);
    signal(SIGPIPE, SIG_DFL);
    execv(argv[0], (char *const *)argv);
    fprintf(stderr, "cannot run %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

int wait_program(pid_t pid) {
    int status = 0;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return -1;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* An unlinked file with the text in it, at its start. */
static int input_file(const run_options *o) {
    if (!o || !o->input) return open("/dev/null", O_RDONLY | O_CLOEXEC);
    int fd = memfd_create("input", MFD_CLOEXEC);
    size_t n = o->input_len ? o->input_len : strlen(o->input);
    if (fd < 0 || write(fd, o->input, n) != (ssize_t)n || lseek(fd, 0, SEEK_SET))
        fail_msg("no room for an input");
    return fd;
}

result run_program(const char *const *argv, const run_options *options) {
    result r = {0};
    int in = input_file(options), out = memfd_create("out", MFD_CLOEXEC),
        err = memfd_create("err", MFD_CLOEXEC);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(in, 0);
        dup2(out, 1);
        dup2(err, 2);
        become(argv, options ? options->env : NULL);
    }
    r.status = wait_program(pid);
    lseek(out, 0, SEEK_SET);
    lseek(err, 0, SEEK_SET);
    r.out = read_all(out, &r.out_len);
    r.err = read_all(err, &r.err_len);
    close(in);
    close(out);
    close(err);
    if (r.status == 127) fail_msg("%s", r.err);
    return r;
}

pid_t start_program(const char *const *argv) {
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0);
        dup2(null, 1);
        dup2(null, 2);
        become(argv, NULL);
    }
    return pid;
}

result run_on_terminal(const char *const *argv, const run_options *options) {
    result r = {0};
    int terminal, in = input_file(options);
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    pid_t pid = forkpty(&terminal, NULL, NULL, &size);
    if (pid == 0) {
        dup2(in, 0);
        become(argv, options ? options->env : NULL);
    }
    if (pid < 0) { /* a container without devpts */
        fprintf(stderr, "SKIPPED: no pseudo-terminal: %s\n", strerror(errno));
        close(in);
        skip();
    }
    r.out = read_all(terminal, &r.out_len); /* ends with EIO when the program has gone */
    r.err = strdup("");
    r.status = wait_program(pid);
    close(terminal);
    close(in);
    return r;
}

json_t *parse_json(const char *text) {
    json_error_t at;
    json_t *value = json_loads(text, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &at);
    if (!value) fail_msg("no JSON (line %d: %s): %.300s", at.line, at.text, text);
    return value;
}
