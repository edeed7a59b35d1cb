/* The child's sandbox: what a hostile reader tries is refused, and its end, whatever it is, harms nobody.
 *
 * The tests put a probe in the place of the extractor. It runs in the closed sandbox and says what it could
 * do. */
#include "ingest/child.h"
#include "ingest/sandbox.h"
#include "tests/test_ingest.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

/* --- in the child --- */

static void tell(text_sink *s, const char *what, bool could) {
    char line[128];
    snprintf(line, sizeof line, "%s: %s\n", what, could ? "COULD" : "refused");
    sink_string(s, line);
}

static void try_everything(text_sink *s, bool landlock) {
    sink_begin(s, 0, 0);
    if (landlock) {
        tell(s, "open /etc/passwd", open("/etc/passwd", O_RDONLY) >= 0);
        tell(s, "list /tmp", open("/tmp", O_RDONLY | O_DIRECTORY) >= 0);
        tell(s, "open itself", open("/proc/self/exe", O_RDONLY) >= 0);
        tell(s, "open the file again", open("/proc/self/fd/0", O_RDONLY) >= 0);
    }
    tell(s, "create a file", open("/tmp/pharos-probe", O_WRONLY | O_CREAT, 0600) >= 0);
    tell(s, "write a file", open("/etc/hostname", O_WRONLY) >= 0);
    tell(s, "reopen the file for writing", open("/proc/self/fd/0", O_RDWR) >= 0);
    tell(s, "TCP socket", socket(AF_INET, SOCK_STREAM, 0) >= 0);
    tell(s, "Unix socket", socket(AF_UNIX, SOCK_STREAM, 0) >= 0);
    tell(s, "netlink socket", socket(AF_NETLINK, SOCK_RAW, 0) >= 0);
    pid_t child = fork();
    if (child == 0) _exit(0);
    tell(s, "fork", child > 0);
    char *argv[] = {(char[]){"/bin/true"}, NULL};
    execve("/bin/true", argv, argv + 1);
    tell(s, "exec", false); /* had it worked, nothing would be said */
    tell(s, "ptrace", ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
    tell(s, "signal the parent", kill(getppid(), 0) == 0);
    tell(s, "unlink", unlink("/tmp/pharos-probe-victim") == 0);
    tell(s, "mkdir", mkdir("/tmp/pharos-probe-folder", 0700) == 0);
    tell(s, "become root", setuid(0) == 0);
    tell(s, "raise limits", setrlimit(RLIMIT_CPU, &(struct rlimit){9999, 9999}) == 0);
    tell(s, "memfd", syscall(SYS_memfd_create, "x", 0) >= 0);
    tell(s, "io_uring", syscall(425, 1, NULL) >= 0 || errno == EFAULT);
    tell(s, "bpf", syscall(SYS_bpf, 0, NULL, 0) >= 0 || errno == EFAULT || errno == EINVAL);
    tell(s, "userfaultfd", syscall(SYS_userfaultfd, 0) >= 0);
    tell(s, "keyctl", syscall(SYS_keyctl, 0, 0, 0, 0, 0) >= 0);
    tell(s, "unshare", syscall(SYS_unshare, 0x10000000) == 0);
    tell(s, "be root", geteuid() == 0 && getuid() == 0 && access("/root", R_OK) == 0);
    sink_end(s, 0);
}

static int probe(const uint8_t *bytes, size_t n, text_sink *s) {
    char what[64];
    snprintf(what, sizeof what, "%.*s", (int)n, (const char *)bytes);
    if (!strcmp(what, "everything")) {
        try_everything(s, true);
    } else if (!strcmp(what, "everything but landlock")) {
        try_everything(s, false);
    } else if (!strcmp(what, "spin")) {
        for (volatile unsigned long i = 0;; i++) {
        }
    } else if (!strcmp(what, "sleep")) {
        for (;;) nanosleep(&(struct timespec){1000, 0}, NULL);
    } else if (!strcmp(what, "memory")) {
        void *p = mmap(NULL, (size_t)10 << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        sink_begin(s, 0, 0);
        tell(s, "allocate 10 GiB", p != MAP_FAILED);
        sink_end(s, 0);
    } else if (!strcmp(what, "malloc")) {
        for (size_t i = 0; i < 10240; i++) {
            void *p = malloc((size_t)1 << 20);
            if (!p) return sink_fail(s, PH_MEMORY, "out of memory: 1048576 bytes");
            memset(p, 1, (size_t)1 << 20);
        }
    } else if (!strcmp(what, "crash")) {
        signal(SIGSEGV, SIG_DFL);
        raise(SIGABRT);
        abort();
    } else if (!strcmp(what, "leave")) {
        _exit(3);
    } else if (!strcmp(what, "nothing")) {
        _exit(0);
    } else if (!strcmp(what, "garbage")) {
        for (int i = 0; i < 1000; i++)
            if (write(1, "garbage garbage garbage garbage!", 32) < 0) break;
        _exit(0);
    } else if (!strcmp(what, "endless")) {
        sink_begin(s, 0, 0);
        while (!s->error.code) sink_string(s, "text without end ");
    }
    return s->error.code;
}

/* --- in the parent --- */

/* The child cannot ask any more which landlock there is. */
static void write_everything(void) {
    write_text("probe", sandbox_landlock_version() ? "everything" : "everything but landlock");
}

static void refused_rights(void **state) {
    print_message("sandbox: %s\n", ingest_sandbox_status());
    if (!sandbox_landlock_version()) print_message("no landlock here: reading other files was not tested\n");
    write_everything();
    document_text d = read_document("probe");
    if (strstr(d.text, "COULD")) print_error("%s", d.text);
    assert_null(strstr(d.text, "COULD"));
    assert_non_null(strstr(d.text, "be root: refused"));
    document_text_free(&d);
}

static int extract_with(const char *what, ingest_limits limits, ph_error *err) {
    document_text d = {0};
    write_text("probe", what);
    int rc = ingest_extract(&d, path_of("probe"), &limits, NULL, NULL, err);
    document_text_free(&d);
    return rc;
}

static void processor_time(void **state) {
    ph_error err = {0};
    assert_int_equal(extract_with("spin", (ingest_limits){.seconds = 1}, &err), PH_TOO_LARGE);
    assert_string_equal(err.text, "probe: reading it took more than 1 s");
}

static void wall_clock(void **state) {
    ph_error err = {0};
    time_t start = time(NULL);
    assert_int_equal(extract_with("sleep", (ingest_limits){.seconds = 1}, &err), PH_TOO_LARGE);
    assert_non_null(strstr(err.text, "took more than 12 s"));
    assert_true(time(NULL) - start < 30);
}

static void memory(void **state) {
    if (SANDBOX_SANITIZED) {
        print_message("a sanitizer's own address space leaves no room for this limit: not tested\n");
        return;
    }
    ph_error err = {0};
    write_text("probe", "memory");
    document_text d = read_document("probe");
    assert_string_equal(d.text, "allocate 10 GiB: refused\n");
    document_text_free(&d);
    assert_int_equal(extract_with("malloc", (ingest_limits){.memory_bytes = 256 << 20}, &err), PH_TOO_LARGE);
    assert_string_equal(err.text, "probe: reading it needed more than 256.0 MiB of memory");
}

static void bad_ends(void **state) {
    ph_error err = {0};
    assert_int_equal(extract_with("crash", (ingest_limits){0}, &err), PH_CORRUPT);
    assert_non_null(strstr(err.text, "crashed"));
    assert_int_equal(extract_with("leave", (ingest_limits){0}, &err), PH_CORRUPT);
    assert_int_equal(extract_with("nothing", (ingest_limits){0}, &err), PH_CORRUPT);
    assert_non_null(strstr(err.text, "stopped early"));
    assert_int_equal(extract_with("garbage", (ingest_limits){0}, &err), PH_CORRUPT);
    assert_int_equal(extract_with("endless", (ingest_limits){.text_bytes = 1000000}, &err), PH_TOO_LARGE);
    assert_non_null(strstr(err.text, "limit of 1000000 bytes"));
}

static int stop(void *user, uint64_t done, uint64_t total) {
    return 1;
}

static void stopping(void **state) {
    document_text d = {0};
    ph_error err = {0};
    write_text("probe", "sleep");
    time_t start = time(NULL);
    assert_int_equal(ingest_extract(&d, path_of("probe"), NULL, stop, NULL, &err), PH_INTERRUPTED);
    assert_true(time(NULL) - start < 5);
}

/* After all of this no process of ours is left, not even as a zombie, and no descriptor. */
static void nothing_left(void **state) {
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    int next = open("/dev/null", O_RDONLY);
    close(next);
    for (int i = 0; i < 20; i++) {
        ph_error err = {0};
        extract_with(i % 2 ? "nothing" : "garbage", (ingest_limits){0}, &err);
    }
    int again = open("/dev/null", O_RDONLY);
    close(again);
    assert_int_equal(next, again);
    assert_int_equal(access("/tmp/pharos-probe", F_OK), -1);
}

/* The standard descriptors may be closed in a daemon: the pipe then gets one of their numbers. */
static void closed_descriptors(void **state) {
    write_everything();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(0);
        close(1);
        close(2);
        document_text d = {0};
        int rc = ingest_extract(&d, path_of("probe"), NULL, NULL, NULL, NULL);
        _exit(rc == 0 && strstr(d.text, "fork: refused") ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* A program that forgets to call ingest_child_main does not start itself for ever. */
static void no_recursion(void **state) {
    ph_error err = {0};
    document_text d = {0};
    write_text("probe", "everything");
    assert_int_equal(setenv(CHILD_MARK, "1", 1), 0);
    assert_int_equal(ingest_extract(&d, path_of("probe"), NULL, NULL, NULL, &err), PH_FAIL);
    unsetenv(CHILD_MARK);
    assert_non_null(strstr(err.text, "ingest_child_main"));
}

/* As another user than root, everything holds as well. */
static void as_nobody(void **state) {
    if (geteuid() != 0) {
        print_message("not root: this whole test ran as a plain user\n");
        return;
    }
    write_everything();
    chmod(folder, 0755);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (setgid(65534) || setuid(65534)) _exit(2);
        document_text d = {0};
        ph_error err = {0};
        int rc = ingest_extract(&d, path_of("probe"), NULL, NULL, NULL, &err);
        if (rc) fprintf(stderr, "%s\n", err.text);
        _exit(rc == 0 && strstr(d.text, "fork: refused") && !strstr(d.text, "COULD") ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    /* the build folder may be out of reach for another user */
    if (WIFEXITED(status) && WEXITSTATUS(status) == 1 && access("/proc/self/exe", X_OK) != 0) return;
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(int argc, char **argv) {
    ingest_child_probe = probe;
    if (argc > 1 && !strcmp(argv[1], INGEST_CHILD_ARGUMENT)) return ingest_child_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused_rights), cmocka_unit_test(processor_time),
        cmocka_unit_test(wall_clock),     cmocka_unit_test(memory),
        cmocka_unit_test(bad_ends),       cmocka_unit_test(stopping),
        cmocka_unit_test(nothing_left),   cmocka_unit_test(closed_descriptors),
        cmocka_unit_test(no_recursion),   cmocka_unit_test(as_nobody),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
