/* sandbox.c - rlimits, identity, landlock and seccomp, in that order. */
#include "ingest/sandbox.h"

#include "ingest/ingest.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* Landlock's interface, declared here so that the program built on an old kernel's headers uses what a new
 * kernel offers. */
#ifndef __NR_landlock_create_ruleset
#define __NR_landlock_create_ruleset 444
#define __NR_landlock_add_rule 445
#define __NR_landlock_restrict_self 446
#endif
#define LL_VERSION_FLAG 1u
#define LL_RULE_PATH_BENEATH 1
#define LL_EXECUTE (1ULL << 0)
#define LL_READ_FILE (1ULL << 2)
#define LL_READ_DIR (1ULL << 3)

typedef struct ll_ruleset {
    uint64_t fs, net, scoped;
} ll_ruleset;

typedef struct __attribute__((packed)) ll_path {
    uint64_t allowed;
    int32_t parent;
} ll_path;

#define NOBODY 65534

int sandbox_landlock_version(void) {
    long v = syscall(__NR_landlock_create_ruleset, NULL, 0, LL_VERSION_FLAG);
    return v > 0 ? (int)v : 0;
}

static void allow_path(int ruleset, const char *path, uint64_t allowed) {
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0) return; /* what is not there needs no right */
    struct stat st;
    if (fstat(fd, &st) == 0) {
        if (!S_ISDIR(st.st_mode)) allowed &= ~LL_READ_DIR;
        ll_path rule = {.allowed = allowed, .parent = fd};
        syscall(__NR_landlock_add_rule, ruleset, LL_RULE_PATH_BENEATH, &rule, 0);
    }
    close(fd);
}

static int enter_landlock(const sandbox_limits *limits, ph_error *err) {
    int version = sandbox_landlock_version();
    if (version == 0) return 0;
    /* Every right that this version knows is taken away; version 1 knows 13, then REFER, TRUNCATE, (TCP),
     * IOCTL. */
    static const int rights[] = {0, 13, 14, 15, 15, 16};
    int known = version >= 5 ? rights[5] : rights[version];
    ll_ruleset set = {.fs = (1ULL << known) - 1, .net = version >= 4 ? 3 : 0, .scoped = version >= 6 ? 3 : 0};
    size_t size = version >= 6 ? 24 : version >= 4 ? 16 : 8;
    int ruleset = (int)syscall(__NR_landlock_create_ruleset, &set, size, 0);
    if (ruleset < 0) return ph_fail(err, PH_FAIL, "landlock refuses its own rules: %s", strerror(errno));
    /* Libraries: the C library loads charset converters when they are asked for. */
    uint64_t library = LL_READ_FILE | LL_READ_DIR | (limits->spawn ? LL_EXECUTE : 0);
    static const char *const libraries[] = {"/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64"};
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++)
        allow_path(ruleset, libraries[i], library);
    allow_path(ruleset, "/etc/ld.so.cache", LL_READ_FILE);
    if (limits->spawn) {
        static const char *const programs[] = {"/usr/bin/pdftotext", "/usr/bin/pdfinfo", "/usr/bin/pdfimages",
                                               "/usr/bin/pdftoppm", "/usr/bin/tesseract"};
        for (size_t i = 0; i < sizeof programs / sizeof *programs - (limits->ocr ? 0 : 2); i++)
            allow_path(ruleset, programs[i], LL_READ_FILE | LL_EXECUTE);
        static const char *const data[] = {"/usr/share/poppler", "/etc/localtime", "/usr/share/zoneinfo"};
        for (size_t i = 0; i < sizeof data / sizeof *data; i++)
            allow_path(ruleset, data[i], LL_READ_FILE | LL_READ_DIR);
        if (limits->ocr) {
            static const char *const ocr[] = {"/usr/share/tesseract-ocr", "/usr/share/tessdata", "/usr/share/fonts", "/etc/fonts",
                                              "/usr/share/fontconfig", "/dev/null"};
            for (size_t i = 0; i < sizeof ocr / sizeof *ocr; i++)
                allow_path(ruleset, ocr[i], LL_READ_FILE | LL_READ_DIR);
        }
    }
    long rc = syscall(__NR_landlock_restrict_self, ruleset, 0);
    int failed = errno;
    close(ruleset);
    return rc ? ph_fail(err, PH_FAIL, "landlock cannot be entered: %s", strerror(failed)) : 0;
}

/* Calls that reading needs, and the C library, and a sanitizer's runtime. Everything else answers EPERM. */
static const int plain_calls[] = {
    SCMP_SYS(read),
    SCMP_SYS(pread64),
    SCMP_SYS(readv),
    SCMP_SYS(preadv),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    SCMP_SYS(close),
    SCMP_SYS(fstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(stat),
    SCMP_SYS(lstat),
    SCMP_SYS(statx),
    SCMP_SYS(lseek),
    SCMP_SYS(mmap),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(mprotect),
    SCMP_SYS(brk),
    SCMP_SYS(madvise),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(futex),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(set_tid_address),
    SCMP_SYS(rseq),
    SCMP_SYS(arch_prctl),
    SCMP_SYS(getrandom),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(getppid),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(uname),
    SCMP_SYS(sysinfo),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sched_yield),
    SCMP_SYS(getrlimit),
    SCMP_SYS(getrusage),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(access),
    SCMP_SYS(faccessat),
    SCMP_SYS(faccessat2),
    SCMP_SYS(readlink),
    SCMP_SYS(readlinkat),
    SCMP_SYS(getdents64),
    SCMP_SYS(getcwd),
    SCMP_SYS(dup),
    SCMP_SYS(fadvise64),
    SCMP_SYS(getpgrp),
};

/* What starting and ending a helper needs besides. */
static const int spawn_calls[] = {
    SCMP_SYS(execve),    SCMP_SYS(clone),       SCMP_SYS(fork),  SCMP_SYS(vfork), SCMP_SYS(wait4),
    SCMP_SYS(waitid),    SCMP_SYS(pipe),        SCMP_SYS(pipe2), SCMP_SYS(dup2),  SCMP_SYS(dup3),
    SCMP_SYS(kill),      SCMP_SYS(seccomp),     SCMP_SYS(prctl), SCMP_SYS(fcntl), SCMP_SYS(prlimit64),
    SCMP_SYS(setrlimit), SCMP_SYS(close_range),
};

typedef enum filter_kind {
    FILTER_STRICT, /* reads what is open */
    FILTER_SPAWN,  /* may start helpers */
    FILTER_HELPER, /* may exec once more (that is how it starts) and never fork */
} filter_kind;

/* Calls that this machine's architecture does not have are left out without a word. */
static int allow_all(scmp_filter_ctx ctx, const int *calls, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (calls[i] < 0) continue;
        int rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i], 0);
        if (rc && rc != -EEXIST && rc != -EDOM && rc != -EINVAL) return rc;
    }
    return 0;
}

static int add_rules(scmp_filter_ctx ctx, filter_kind kind) {
    int rc = allow_all(ctx, plain_calls, sizeof plain_calls / sizeof *plain_calls);
    if (!rc && kind == FILTER_SPAWN)
        rc = allow_all(ctx, spawn_calls, sizeof spawn_calls / sizeof *spawn_calls);
    if (!rc && kind == FILTER_HELPER) rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(execve), 0);
    /* Opening for reading only. */
    const unsigned writing = O_ACCMODE | O_CREAT | O_TRUNC;
    if (!rc)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
                              SCMP_A2(SCMP_CMP_MASKED_EQ, writing, 0));
    if (!rc && SCMP_SYS(open) >= 0)
        rc =
            seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(open), 1, SCMP_A1(SCMP_CMP_MASKED_EQ, writing, 0));
    /* abort() signals the process itself and nothing but this. */
    if (!rc)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, SCMP_A2(SCMP_CMP_EQ, SIGABRT, 0));
    if (kind != FILTER_SPAWN) { /* its own limits, which it can only lower */
        if (!rc)
            rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1, SCMP_A0(SCMP_CMP_EQ, 0, 0));
        static const int reads[] = {F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC};
        for (size_t i = 0; !rc && i < sizeof reads / sizeof *reads; i++)
            rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
                                  SCMP_A1(SCMP_CMP_EQ, (scmp_datum_t)reads[i], 0));
    }
    /* New calls that the C library tries first and does without when the kernel has none. */
    if (!rc) rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    if (!rc) rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(openat2), 0);
    if (!rc) rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOTTY), SCMP_SYS(ioctl), 0);
    return rc;
}

static int enter_seccomp(filter_kind kind) {
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!ctx) return -ENOMEM;
    /* A foreign architecture's calls (32-bit ones on x86-64) kill: libseccomp's default. */
    int rc = add_rules(ctx, kind);
    if (!rc) rc = seccomp_load(ctx);
    seccomp_release(ctx);
    return rc;
}

static void limit(int what, rlim_t value) {
    struct rlimit now;
    if (getrlimit(what, &now) != 0) return;
    if (now.rlim_max != RLIM_INFINITY && value > now.rlim_max) value = now.rlim_max;
    now.rlim_cur = now.rlim_max = value;
    setrlimit(what, &now);
}

/* Bytes of address space in use: a program with large mapped files must not be over its limit at once. */
static uint64_t mapped_now(void) {
    unsigned long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f) return (uint64_t)1 << 30;
    if (fscanf(f, "%llu", &pages) != 1) pages = 1 << 18;
    fclose(f);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void limit_processor(uint32_t seconds) {
    /* The soft limit's SIGXCPU tells the parent why; the hard one is for a process that ignores it. */
    struct rlimit r = {.rlim_cur = seconds ? seconds : 1, .rlim_max = (rlim_t)seconds + 5};
    setrlimit(RLIMIT_CPU, &r);
}

/* Root without need is the largest right of all. Where the numbers mean nothing (a user namespace) the
 * capabilities go at least, through no_new_privs and the empty bounding set. */
static void drop_root(void) {
    if (geteuid() != 0 && getuid() != 0) return;
    for (int cap = 0; cap < 64; cap++) prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    if (setgroups(0, NULL) != 0 && errno != EPERM) return;
    if (setresgid(NOBODY, NOBODY, NOBODY) != 0 || setresuid(NOBODY, NOBODY, NOBODY) != 0) {
        struct {
            uint32_t version;
            int pid;
        } header = {0x20080522, 0};
        uint32_t none[6] = {0};
        syscall(SYS_capset, &header, none);
    }
}

int sandbox_enter(const sandbox_limits *limits, ph_error *err) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return ph_fail(err, PH_FAIL, "this kernel cannot confine a reader (no_new_privs): %s",
                       strerror(errno));
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_FSIZE, 0);
    limit(RLIMIT_NOFILE, 64);
    limit(RLIMIT_MSGQUEUE, 0);
    limit(RLIMIT_MEMLOCK, 0);
    limit_processor(limits->seconds);
    if (!SANDBOX_SANITIZED) limit(RLIMIT_AS, mapped_now() + limits->memory_bytes);
    drop_root();
    /* Both are undone by the change of identity, so they come after it. */
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    int rc = enter_landlock(limits, err);
    if (rc) return rc;
    rc = enter_seccomp(limits->spawn ? FILTER_SPAWN : FILTER_STRICT);
    if (rc) return ph_fail(err, PH_FAIL, "this kernel cannot confine a reader (seccomp): %s", strerror(-rc));
    return 0;
}

int sandbox_enter_helper(const sandbox_limits *limits) {
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    limit_processor(limits->seconds);
    if (enter_seccomp(FILTER_HELPER) != 0) return -1;
    /* Last: this copy of the program may already map more than the helper may. */
    limit(RLIMIT_AS, limits->memory_bytes);
    return 0;
}

static char status[160];

static void find_status(void) {
    int version = sandbox_landlock_version();
    int failed = errno;
    char landlock[64];
    if (version)
        snprintf(landlock, sizeof landlock, "landlock %d", version);
    else
        snprintf(landlock, sizeof landlock, "no landlock (%s)",
                 failed == ENOSYS ? "not in this kernel" : strerror(failed));
    bool seccomp = prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0;
    snprintf(status, sizeof status, "%s, %s, rlimits%s%s", seccomp ? "seccomp" : "no seccomp", landlock,
             geteuid() == 0 ? ", user nobody" : "",
             SANDBOX_SANITIZED ? " (no memory limit: sanitizer build)" : "");
}

const char *ingest_sandbox_status(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_status);
    return status;
}
