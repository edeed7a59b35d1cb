/* test_store_crash.c - kill -9, two processes, a full disk, no memory: what was acknowledged is there and
 * whole. */
#include "tests/test_store.h"

#include <errno.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

static void text_of(char text[4096], int writer, int i) {
    size_t at = (size_t)sprintf(text, "Writer %d document %d. ", writer, i);
    for (int k = 0; k < i % 60; k++) at += (size_t)sprintf(text + at, "Its word%d is here. ", k * i);
}

static void pause_us(int us) {
    nanosleep(&(struct timespec){us / 1000000, us % 1000000 * 1000L}, NULL);
}

/* In a child, without cmocka: adds documents from..to, and tells each acknowledged number through the pipe.
 */
static _Noreturn void write_documents(const char *dir, int writer, int from, int to, int acknowledge) {
    store *s = NULL;
    ph_error err;
    char path[4200], text[4096], name[64];
    snprintf(path, sizeof path, "%s-original-%d", dir, writer);
    if (store_open(&s, dir, &err)) {
        fprintf(stderr, "writer %d: %s\n", writer, err.text);
        _exit(2);
    }
    for (int i = from; i < to; i++) {
        text_of(text, writer, i);
        snprintf(name, sizeof name, "w%d/%d.txt", writer, i);
        FILE *f = fopen(path, "wb");
        if (!f || fputs(text, f) < 0 || fclose(f)) _exit(3);
        int64_t id;
        int rc = try_add(s, name, text, path, &id, &err);
        if (rc == PH_BUSY) {
            i--;
            continue;
        }
        if (rc || (id && write(acknowledge, &i, sizeof i) != sizeof i)) {
            fprintf(stderr, "writer %d, document %d: %d %s\n", writer, i, rc, err.text);
            _exit(4);
        }
        if (i % 7 == 6) { /* deletes are interrupted as well; every seventh stays away */
            if ((rc = store_document_delete(s, id, NULL, &err)) && rc != PH_BUSY && rc != PH_NOT_FOUND) {
                fprintf(stderr, "writer %d, deleting %d: %d %s\n", writer, i, rc, err.text);
                _exit(5);
            }
        }
    }
    store_close(s);
    _exit(0);
}

static pid_t start_writer(const char *dir, int writer, int from, int to, int *told) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(ends[0]);
        write_documents(dir, writer, from, to, ends[1]);
    }
    close(ends[1]);
    *told = ends[0];
    return child;
}

/* Every acknowledged document, but the deleted ones, is found by its words and is what was written. */
static int check_written(store *s, int writer, int told, int last) {
    int i;
    while (read(told, &i, sizeof i) == sizeof i) {
        char text[4096], name[64], *got;
        size_t n;
        store_document d;
        last = i;
        if (i % 7 == 6) continue;
        text_of(text, writer, i);
        snprintf(name, sizeof name, "w%d/%d.txt", writer, i);
        ok(store_document_find(s, name, &d, err));
        ok(store_document_text(s, d.id, &got, &n, err));
        assert_string_equal(got, text);
        free(got);
        ok(store_document_file(s, d.id, &got, err));
        char *original = read_whole(got, &n);
        assert_non_null(original);
        assert_string_equal(original, text);
        free(original);
        free(got);
        store_document_free(&d);
    }
    close(told);
    return last;
}

static void killed_at_any_moment(void **state) {
    char *dir = strdup(below(state, "store"));
    unsigned seed = (unsigned)getpid();
    int next = 0, kills = 0;
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        int told, status;
        pid_t child = start_writer(dir, 0, next, next + 100000, &told);
        seed = seed * 1103515245 + 12345;
        pause_us((int)(seed >> 8) % 120000);
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        store *s;
        ok(store_open(&s, dir, err));
        next = check_written(s, 0, told, next - 1) + 1;
        /* What was being added when it died is there or not; its number is not used again. */
        next++;
        assert_whole(s);
        store_close(s);
        kills++;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec - begin.tv_sec < 6);
    print_message("%d kills, %d documents\n", kills, next);
    free(dir);
}

static void two_processes_at_once(void **state) {
    enum { WRITERS = 3, EACH = 40 };
    char *dir = strdup(below(state, "store"));
    pid_t children[WRITERS];
    int told[WRITERS], last[WRITERS];
    for (int w = 0; w < WRITERS; w++)
        children[w] = start_writer(dir, w, 0, EACH, &told[w]); /* they also make it */
    for (int w = 0; w < WRITERS; w++) {
        int status;
        assert_int_equal(waitpid(children[w], &status, 0), children[w]);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
    store *s;
    ok(store_open(&s, dir, err));
    for (int w = 0; w < WRITERS; w++) {
        last[w] = check_written(s, w, told[w], -1);
        assert_int_equal(last[w], EACH - 1);
    }
    assert_whole(s);
    store_close(s);
    free(dir);
}

/* A second process is told, after five seconds, and nothing is half done. */
static void a_held_lock_is_busy(void **state) {
    store *one = open_store(state), *two = open_store(state);
    ok(store_begin(one, err));
    add(one, "one", "text one");
    fails(PH_BUSY, try_add(two, "two", "text two", NULL, NULL, err));
    store_document d;
    fails(PH_NOT_FOUND, store_document_find(two, "one", &d, err)); /* reading goes on meanwhile */
    store *three = open_store(state); /* so does opening: the sweep is left to a later one */
    store_close(three);
    ok(store_commit(one, err));
    add(two, "two", "text two");
    store_close(one);
    assert_whole(two);
    store_close(two);
}

/* The same content deleted by one and added by another: the original must not go with the row that went. */
static void delete_and_add_the_same(void **state) {
    store *one = open_store(state), *two = open_store(state);
    for (int round = 0; round < 20; round++) {
        int64_t id = add_with_file(state, one, "same", "the same text");
        ok(store_document_delete(one, id, NULL, err));
        id = add_with_file(state, two, "same", "the same text");
        char *path;
        ok(store_document_file(one, id, &path, err));
        assert_int_equal(access(path, F_OK), 0);
        free(path);
        ok(store_document_delete(two, id, NULL, err));
    }
    assert_whole(one);
    store_close(one);
    store_close(two);
}

/* An unfinished copy goes at the next open when its writer is dead, and stays while it lives (it holds a
 * lock). */
static void unfinished_copies_are_swept(void **state) {
    store_close(open_store(state));
    write_file(below(state, "store/files/incoming-dead00"), "half a file", 11);
    store_close(open_store(state));
    assert_int_not_equal(access(below(state, "store/files/incoming-dead00"), F_OK), 0);
}

/* Adds until it fails; then all that was acknowledged is whole, and after room was made it goes on. */
static int fill_up(store *s, const char *original, int *added) {
    for (*added = 0; *added < 2000; ++*added) {
        char text[40000];
        size_t at = (size_t)sprintf(text, "Document %d. ", *added);
        for (unsigned x = (unsigned)*added; at < sizeof text - 32;)
            at += (size_t)sprintf(text + at, "%08x ", x = x * 1664525 + 1013904223);
        write_file(original, text, at);
        ph_error err = {0};
        int rc = try_add(s, "d", text, original, NULL, &err);
        if (rc == PH_OK) continue;
        if (!strstr(err.text, "disk full")) fail_msg("%d %s", rc, err.text);
        return rc;
    }
    return PH_OK;
}

/* A test that fails leaves its small disk mounted: it goes with the folder. */
static int drop_disk(void **state) {
    umount2(below(state, "disk"), MNT_DETACH);
    return drop_folder(state);
}

static void full_disk(void **state) {
    char *disk = strdup(below(state, "disk")), *original = strdup(below(state, "original")), *dir;
    assert_int_equal(mkdir(disk, 0700), 0);
    if (geteuid() || mount("none", disk, "tmpfs", 0, "size=4m")) {
        print_message("no small disk can be mounted here: %s\n", geteuid() ? "not root" : strerror(errno));
        free(disk);
        free(original);
        skip();
    }
    assert_true(asprintf(&dir, "%s/store", disk) > 0);
    store *s;
    int added;
    ok(store_open(&s, dir, err));
    assert_int_equal(fill_up(s, original, &added), PH_FAIL);
    assert_true(added > 5);
    store_totals t;
    ok(store_count(s, &t, err));
    assert_int_equal(t.documents, added);
    assert_whole(s);
    store_close(s);
    assert_int_equal(mount("none", disk, "tmpfs", MS_REMOUNT, "size=16m"), 0);
    ok(store_open(&s, dir, err));
    assert_whole(s);
    add(s, "more", "there is room again");
    ok(store_document_delete(s, 1, NULL, err));
    assert_whole(s);
    store_close(s);
    umount(disk);
    print_message("%d documents before the disk was full\n", added);
    free(disk);
    free(original);
    free(dir);
}

/* The same through a limit on file sizes, which needs no rights. In a child: the limit is the process's. */
static void files_that_may_not_grow(void **state) {
    char *dir = strdup(below(state, "store")), *original = strdup(below(state, "original"));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){600 * 1000, RLIM_INFINITY});
        store *s;
        ph_error err = {0};
        int rc = store_open(&s, dir, &err);
        int added = 0;
        for (; rc == PH_OK && added < 500; added++) {
            char text[4096 * 4];
            size_t at = 0;
            for (unsigned x = (unsigned)added; at < sizeof text - 32;)
                at += (size_t)sprintf(text + at, "%08x ", x = x * 1664525 + 1013904223);
            rc = try_add(s, "d", text, NULL, NULL, &err);
        }
        /* SQLite does not always tell why it could not write; only a full disk it names. */
        if (rc != PH_FAIL || (!strstr(err.text, "disk full") && !strstr(err.text, "disk I/O error"))) {
            fprintf(stderr, "after %d: %d %s\n", added, rc, err.text);
            _exit(1);
        }
        store_close(s);
        _exit(added > 3 ? 0 : 2);
    }
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    store *s;
    ok(store_open(&s, dir, err));
    assert_whole(s);
    add(s, "more", "it goes on");
    store_close(s);
    free(dir);
    free(original);
}

/* ---- out of memory in the database, at each of its allocations in turn ---- */

static sqlite3_mem_methods real;
static long allocations_left = -1; /* -1 = no end */

static int refused(void) {
    if (allocations_left < 0) return 0;
    if (allocations_left == 0) return 1;
    allocations_left--;
    return 0;
}
static void *scarce_malloc(int n) {
    return refused() ? NULL : real.xMalloc(n);
}
static void *scarce_realloc(void *p, int n) {
    return refused() ? NULL : real.xRealloc(p, n);
}

static void out_of_memory_at_every_step(void **state) {
    store *s = open_store(state);
    int64_t kept = add(s, "kept", "The kept document says lighthouse.");
    int64_t pack = pack_of(s, &kept, 1);
    ask(s, pack, NULL, "kept answer", kept);
    long step = 0, failures = 0;
    for (bool done = false; !done; step += step < 200 ? 1 : 13) {
        ph_error why = {0};
        char text[64];
        int64_t id = 0;
        snprintf(text, sizeof text, "Document for step %ld says tower.", step);
        allocations_left = step;
        int rc = try_add(s, "n", text, NULL, &id, &why);
        if (rc == PH_OK) rc = store_document_delete(s, id, NULL, &why);
        done = rc == PH_OK && allocations_left > 0;
        allocations_left = -1;
        failures += rc != PH_OK;
        if (rc && rc != PH_MEMORY && rc != PH_FAIL) fail_msg("step %ld: %d %s", step, rc, why.text);
        if (step % 50 == 0) assert_whole(s);
        store_document d;
        ok(store_document_get(s, kept, &d, err));
        store_document_free(&d);
    }
    assert_true(failures > 50);
    print_message("%ld steps, %ld failures\n", step, failures);
    assert_whole(s);
    store_close(s);
}

int main(void) {
    if (sodium_init() < 0) return 1;
    sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real);
    sqlite3_mem_methods scarce = real;
    scarce.xMalloc = scarce_malloc;
    scarce.xRealloc = scarce_realloc;
    sqlite3_config(SQLITE_CONFIG_MALLOC, &scarce);
#define t(test) cmocka_unit_test_setup_teardown(test, make_folder, drop_folder)
    const struct CMUnitTest tests[] = {
        t(killed_at_any_moment),
        t(two_processes_at_once),
        t(a_held_lock_is_busy),
        t(delete_and_add_the_same),
        cmocka_unit_test_setup_teardown(full_disk, make_folder, drop_disk),
        t(files_that_may_not_grow),
        t(unfinished_copies_are_swept),
        t(out_of_memory_at_every_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
