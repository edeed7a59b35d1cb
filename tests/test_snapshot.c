/* test_snapshot.c - snapshot files and the contexts that live in them: every length, shrinking and growing,
 * damage at every place, several openers, a full disk. The yardstick is always the same: the logits of a
 * question on a context that was read afresh in memory, bit for bit. */
#include "engine/engine_internal.h"
#include "tests/paged_memory.h"
#include "tests/program.h"
#include "tests/tiny_model.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { MOST = 2048 }; /* the model's context */

static char *model_dir, *dir;
static engine *e;
static int32_t tokens[MOST + 1], others[MOST + 1]; /* two texts without a common beginning */

#define MUST(call)                                                                                           \
    do {                                                                                                     \
        ph_error err = {0};                                                                                  \
        if ((call) != PH_OK) fail_msg("%s: %s", #call, err.text);                                            \
    } while (0)

static const char *file(void) {
    return in_folder(dir, "snapshot");
}

static context *open_context(const char *path, const char **reason) {
    context *c = NULL;
    MUST(context_open(&c, e, path, 0, reason, &err));
    return c;
}

static int64_t read_tokens(context *c, const int32_t *t, int64_t n) {
    int64_t cached = -1;
    MUST(context_read(c, t, n, NULL, NULL, &cached, &err));
    assert_int_equal(context_length(c), n);
    assert_memory_equal(context_tokens(c), t, (size_t)n * sizeof *t);
    return cached;
}

/* What the context answers to a fixed question. */
static void ask(context *c, float logits[TINY_VOCAB]) {
    static const int32_t question[] = {'w', 'h', 'y', '?', TINY_ASSISTANT};
    session *s = NULL;
    MUST(session_open(&s, c, &err));
    MUST(session_feed(s, question, 5, NULL, NULL, &err));
    memcpy(logits, session_logits(s), TINY_VOCAB * sizeof *logits);
    session_close(s);
}

/* The same of tokens t[n] read afresh. */
static void expect_as_fresh(context *c, const int32_t *t, int64_t n) {
    float got[TINY_VOCAB], want[TINY_VOCAB];
    context *fresh = open_context(NULL, NULL);
    read_tokens(fresh, t, n);
    ask(fresh, want);
    context_close(fresh);
    ask(c, got);
    assert_memory_equal(got, want, sizeof got);
}

static int no_file(void **state) {
    (void)state;
    unlink(file());
    return 0;
}

/* ---- lengths ---- */

static void every_length_comes_back(void **state) {
    (void)state;
    static const int64_t lengths[] = {0,   1,   2,   255, 256,  257,  511,  512,
                                      513, 767, 768, 769, 1023, 1024, 1025, 2043};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        int64_t n = lengths[i];
        unlink(file());
        const char *reason = "none";
        context *c = open_context(file(), &reason);
        assert_null(reason);
        assert_int_equal(read_tokens(c, tokens, n), 0);
        context_close(c);
        c = open_context(file(), &reason);
        assert_null(reason);
        assert_int_equal(context_length(c), n);
        assert_int_equal(read_tokens(c, tokens, n), n);
        if (n) expect_as_fresh(c, tokens, n);
        context_close(c);
    }
}

/* However the reading was divided, with whatever steps: the same file says the same. */
static void growing_step_by_step_is_reading_at_once(void **state) {
    (void)state;
    static const int64_t steps[] = {1, 100, 255, 256, 300, 512, 513, 1000, 1500};
    int64_t had = 0;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        context *c = open_context(file(), NULL);
        assert_int_equal(read_tokens(c, tokens, steps[i]), had);
        had = steps[i];
        if (i % 3 == 2) expect_as_fresh(c, tokens, had);
        context_close(c);
    }
    engine *small_steps = NULL;
    MUST(engine_open(&small_steps, &(engine_options){.model_dir = model_dir, .chunk = 37, .threads = 1},
                     &err));
    assert_memory_equal(engine_key(small_steps), engine_key(e), 32); /* the step is no part of what is kept */
    context *c = NULL;
    MUST(context_open(&c, small_steps, file(), 0, NULL, &err));
    assert_int_equal(context_length(c), 1500);
    assert_int_equal(read_tokens(c, tokens, 1700), 1500);
    context_close(c);
    engine_close(small_steps);
    c = open_context(file(), NULL);
    expect_as_fresh(c, tokens, 1700);
    context_close(c);
}

static void shrinking_and_growing_again(void **state) {
    (void)state;
    context *c = open_context(file(), NULL);
    read_tokens(c, tokens, 1000);
    assert_int_equal(read_tokens(c, tokens, 600), 600);
    context_close(c);
    c = open_context(file(), NULL);
    assert_int_equal(context_length(c), 600);
    expect_as_fresh(c, tokens, 600);
    /* Another text from token 300 on. */
    int32_t mixed[MOST];
    memcpy(mixed, tokens, sizeof mixed);
    memcpy(mixed + 300, others, 900 * sizeof *mixed);
    assert_int_equal(read_tokens(c, mixed, 1200), 300);
    expect_as_fresh(c, mixed, 1200);
    context_close(c);
    const char *reason;
    c = open_context(file(), &reason);
    assert_null(reason);
    assert_int_equal(context_length(c), 1200);
    expect_as_fresh(c, mixed, 1200);
    assert_int_equal(read_tokens(c, others, 200), 0);
    expect_as_fresh(c, others, 200);
    assert_int_equal(read_tokens(c, others, 0), 0);
    assert_int_equal(context_length(c), 0);
    context_close(c);
    c = open_context(file(), NULL);
    assert_int_equal(context_length(c), 0);
    assert_int_equal(read_tokens(c, tokens, 700), 0);
    expect_as_fresh(c, tokens, 700);
    context_close(c);
}

static void limits_are_told(void **state) {
    (void)state;
    context *c = NULL;
    ph_error why = {0};
    assert_int_equal(context_open(&c, e, NULL, MOST + 1, NULL, &why), PH_TOO_LARGE);
    assert_null(c);
    MUST(context_open(&c, e, file(), 300, NULL, &err));
    assert_int_equal(context_capacity(c), 300);
    assert_int_equal(context_read(c, tokens, 301, NULL, NULL, NULL, &why), PH_TOO_LARGE);
    assert_true(strstr(why.text, "301") && strstr(why.text, "300"));
    read_tokens(c, tokens, 300);
    int32_t bad[] = {1, TINY_VOCAB, 2}, negative[] = {-1};
    assert_int_equal(context_read(c, bad, 3, NULL, NULL, NULL, &why), PH_USAGE);
    assert_int_equal(context_read(c, negative, 1, NULL, NULL, NULL, &why), PH_USAGE);
    assert_int_equal(context_length(c), 300); /* refused before anything was given up */
    session *s = NULL;
    MUST(session_open(&s, c, &err));
    assert_int_equal(session_feed(s, tokens, 1, NULL, NULL, &why), PH_TOO_LARGE);
    assert_int_equal(context_read(c, others, 10, NULL, NULL, NULL, &why), PH_BUSY);
    session_close(s);
    context_close(c);
    assert_int_equal(context_open(&c, e, "/no/such/folder/file", 0, NULL, &why), PH_FAIL);
    assert_int_equal(context_open(&c, e, dir, 0, NULL, &why), PH_FAIL); /* a folder */
}

/* ---- stopping ---- */

typedef struct watch {
    int64_t before, stop_at, total;
} watch;

static int watch_progress(void *user, int64_t done, int64_t total) {
    watch *w = user;
    assert_true(done > w->before && done <= total);
    w->before = done;
    w->total = total;
    return done >= w->stop_at;
}

static void a_stopped_reading_stands_at_a_chunk(void **state) {
    (void)state;
    context *c = open_context(file(), NULL);
    watch w = {.stop_at = 600};
    int64_t cached = -1;
    assert_int_equal(context_read(c, tokens, 1500, watch_progress, &w, &cached, NULL), PH_INTERRUPTED);
    assert_int_equal(cached, 0);
    assert_int_equal(context_length(c), 1024);
    assert_int_equal(w.total, 1500);
    expect_as_fresh(c, tokens, 1024);
    context_close(c);
    c = open_context(file(), NULL);
    w = (watch){.stop_at = INT64_MAX};
    MUST(context_read(c, tokens, 1500, watch_progress, &w, &cached, &err));
    assert_int_equal(cached, 1024);
    assert_int_equal(w.before, 1500);
    expect_as_fresh(c, tokens, 1500);
    context_close(c);
}

static void sessions_leave_the_file_alone(void **state) {
    (void)state;
    context *c = open_context(file(), NULL);
    read_tokens(c, tokens, 900);
    context_close(c);
    size_t n, m;
    char *before = read_whole(file(), &n);
    c = open_context(file(), NULL);
    session *one = NULL, *two = NULL;
    MUST(session_open(&one, c, &err));
    MUST(session_open(&two, c, &err));
    MUST(session_feed(one, others, 300, NULL, NULL, &err));
    MUST(session_feed(two, tokens, 200, NULL, NULL, &err));
    MUST(session_rewind(two, 900, &err));
    MUST(session_feed(two, others, 300, NULL, NULL, &err));
    assert_memory_equal(session_logits(one), session_logits(two), TINY_VOCAB * sizeof(float));
    session_close(one);
    session_close(two);
    context_close(c);
    char *after = read_whole(file(), &m);
    assert_int_equal(n, m);
    assert_memory_equal(before, after, n);
    free(before);
    free(after);
}

/* ---- damage ---- */

static void flip(const char *path, size_t at) {
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, (long)at, SEEK_SET);
    int c = fgetc(f);
    fseek(f, (long)at, SEEK_SET);
    fputc(c ^ 0x10, f);
    fclose(f);
}

/* Opens the damaged file, expects `length` tokens of it to be believed and a reason, and reads the rest
 * again. */
static void expect_damage(int64_t length, int64_t all) {
    const char *reason = NULL;
    context *c = open_context(file(), &reason);
    assert_int_equal(context_length(c), length);
    if (!reason)
        fail_msg("%lld of %lld tokens believed, and nobody said why", (long long)length, (long long)all);
    assert_int_equal(read_tokens(c, tokens, all), length);
    expect_as_fresh(c, tokens, all);
    context_close(c);
}

static void make_file(int64_t n) {
    unlink(file());
    context *c = open_context(file(), NULL);
    read_tokens(c, tokens, n);
    context_close(c);
}

static void a_damaged_header_is_a_miss(void **state) {
    (void)state;
    for (size_t at = 0; at < 88; at += 5) { /* every field of it */
        make_file(700);
        flip(file(), at);
        expect_damage(0, 700);
    }
    make_file(700);
    struct stat st;
    assert_int_equal(stat(file(), &st), 0);
    static const int change[] = {-1, 1, -4096, 4096};
    for (int i = 0; i < 4; i++) {
        make_file(700);
        assert_int_equal(truncate(file(), st.st_size + change[i]), 0);
        expect_damage(0, 700);
    }
    write_text(file(), "something else entirely");
    expect_damage(0, 700);
}

static void a_damaged_block_ends_what_is_believed(void **state) {
    (void)state;
    make_file(1100); /* four blocks and a tail */
    context *c = open_context(file(), NULL);
    snapshot_layout l = c->snapshot.layout;
    int regions = l.n_region;
    size_t at[16], bytes[16];
    assert_true(regions <= 16);
    memcpy(at, l.region_at, (size_t)regions * sizeof *at);
    memcpy(bytes, l.block_bytes, (size_t)regions * sizeof *bytes);
    size_t sums = l.sums_at;
    context_close(c);
    for (int r = 0; r < regions; r++) {
        if (!bytes[r]) continue;
        for (int block = 0; block < 4; block++) {
            make_file(1100);
            flip(file(), at[r] + bytes[r] * (size_t)block + bytes[r] / 3);
            expect_damage(256 * block, 1100);
        }
    }
    for (int block = 0; block < 4; block++) {
        make_file(1100);
        flip(file(), sums + 8 * (size_t)block + 3);
        expect_damage(256 * block, 1100);
    }
    /* The last block is not full: its copy counts, and what stands in its place is put right from that. */
    make_file(1100);
    flip(file(), at[1] + bytes[1] * 4 + 5);
    const char *reason;
    c = open_context(file(), &reason);
    assert_int_equal(context_length(c), 1100);
    expect_as_fresh(c, tokens, 1100);
    context_close(c);
}

static void a_damaged_commit_falls_back_to_the_one_before(void **state) {
    (void)state;
    for (int slot = 0; slot < 2; slot++) {
        make_file(1100); /* commits at 512, 1024, 1100 */
        context *c = open_context(file(), NULL);
        int64_t newest = (int64_t)(c->snapshot.sequence % 2);
        size_t tail = c->snapshot.layout.tail_at[newest];
        context_close(c);
        flip(file(), 4096 * (size_t)(1 + slot) + 9);
        const char *reason;
        c = open_context(file(), &reason);
        assert_int_equal(context_length(c), slot == newest ? 1024 : 1100);
        if (slot == newest) assert_non_null(reason);
        read_tokens(c, tokens, 1100);
        expect_as_fresh(c, tokens, 1100);
        context_close(c);
        if (slot == newest) continue;
        make_file(1100);
        flip(file(), tail + 100);
        expect_damage(1024, 1100);
    }
    make_file(1100);
    flip(file(), 4096 + 9);
    flip(file(), 8192 + 9);
    expect_damage(0, 1100);
}

/* Whole blocks stay; of the rest no byte is left anywhere in the file. */
static void what_is_cut_off_is_erased_from_the_file(void **state) {
    (void)state;
    static const int64_t cuts[] = {1000, 768, 100, 0};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        int64_t kept = cuts[i] / 256 * 256;
        make_file(1500);
        context *c = open_context(file(), NULL), *other = open_context(file(), NULL);
        assert_int_equal(context_shorten(c, cuts[i], NULL), PH_BUSY);
        context_close(other);
        MUST(context_shorten(c, cuts[i], &err));
        assert_int_equal(context_length(c), kept);
        const snapshot *s = &c->snapshot;
        const snapshot_layout *l = &s->layout;
        size_t blocks = (size_t)(kept / SNAPSHOT_BLOCK);
        for (size_t at = l->sums_at + blocks * 8; at < l->region_at[0]; at++) assert_int_equal(s->map[at], 0);
        for (int r = 0; r < l->n_region; r++)
            for (size_t at = l->region_at[r] + blocks * l->block_bytes[r];
                 at < (r + 1 < l->n_region ? l->region_at[r + 1] : l->total); at++)
                assert_int_equal(s->map[at], 0);
        context_close(c);
        const char *reason = NULL;
        c = open_context(file(), &reason);
        assert_null(reason);
        assert_int_equal(read_tokens(c, tokens, 1300), kept);
        expect_as_fresh(c, tokens, 1300);
        session *conversation = NULL;
        MUST(session_open(&conversation, c, &err));
        assert_int_equal(context_shorten(c, 256, NULL), PH_BUSY);
        session_close(conversation);
        assert_int_equal(context_shorten(c, -1, NULL), PH_USAGE);
        MUST(context_shorten(c, 5000, &err)); /* no more than there is */
        assert_int_equal(context_length(c), 1280);
        context_close(c);
        /* With either commit gone the other one says the same. */
        flip(file(), 4096 * (1 + i % 2) + 9);
        c = open_context(file(), NULL);
        assert_int_equal(context_length(c), 1280);
        context_close(c);
    }
}

static void a_foreign_key_is_a_miss(void **state) {
    (void)state;
    make_file(700);
    engine *foreign = NULL;
    MUST(engine_open(&foreign, &(engine_options){.model_dir = model_dir, .topk = 8}, &err));
    context *c = NULL;
    const char *reason = NULL;
    MUST(context_open(&c, foreign, file(), 0, &reason, &err));
    assert_int_equal(context_length(c), 0);
    assert_non_null(strstr(reason, "another"));
    read_tokens(c, tokens, 300);
    context_close(c);
    engine_close(foreign);
    expect_damage(0, 700);
}

/* ---- several openers ---- */

static int open_elsewhere(void *user, int64_t done, int64_t total) {
    context *c = NULL;
    ph_error err = {0};
    (void)done;
    (void)total;
    *(int *)user = context_open(&c, e, file(), 0, NULL, &err);
    context_close(c);
    return 0;
}

/* Locks belong to an opening, not to a process, so that two contexts here are as two processes. */
static void one_writes_or_several_read(void **state) {
    (void)state;
    make_file(700);
    context *one = open_context(file(), NULL), *two = open_context(file(), NULL);
    assert_int_equal(read_tokens(one, tokens, 700), 700); /* nothing to write: no lock */
    assert_int_equal(read_tokens(two, tokens, 700), 700);
    ph_error why = {0};
    assert_int_equal(context_read(one, tokens, 800, NULL, NULL, NULL, &why), PH_BUSY);
    assert_true(why.text[0]);
    assert_int_equal(context_length(one), 700);
    expect_as_fresh(one, tokens, 700);
    context_close(two);
    assert_int_equal(read_tokens(one, tokens, 800), 700);
    two = open_context(file(), NULL); /* the writer has given its lock back */
    assert_int_equal(context_length(two), 800);
    context_close(two);
    int code = -1;
    MUST(context_read(one, tokens, 900, open_elsewhere, &code, NULL, &err));
    assert_int_equal(code, PH_BUSY); /* in the middle of writing */
    context_close(one);

    /* A damaged or foreign file that somebody is using is not emptied under their hands. */
    one = open_context(file(), NULL);
    engine *foreign = NULL;
    MUST(engine_open(&foreign, &(engine_options){.model_dir = model_dir, .topk = 8}, &err));
    assert_int_equal(context_open(&two, foreign, file(), 0, NULL, &why), PH_BUSY);
    engine_close(foreign);
    expect_as_fresh(one, tokens, 900);
    context_close(one);
}

static void another_process_is_told(void **state) {
    (void)state;
    make_file(700);
    context *c = open_context(file(), NULL);
    pid_t pid = fork();
    if (pid == 0) {
        engine *mine = NULL;
        context *other = NULL;
        ph_error err;
        if (engine_open(&mine, &(engine_options){.model_dir = model_dir, .threads = 1}, &err)) _exit(100);
        if (context_open(&other, mine, file(), 0, NULL, &err)) _exit(101);
        if (context_length(other) != 700) _exit(102);
        _exit(context_read(other, tokens, 800, NULL, NULL, NULL, &err));
    }
    assert_int_equal(wait_program(pid), PH_BUSY);
    context_close(c);
}

/* What a writer added while a reader had the file open is there when the reader wants to write. */
static void a_reader_sees_what_a_writer_left(void **state) {
    (void)state;
    make_file(300);
    context *reader = open_context(file(), NULL);
    context_close(reader);
    reader = open_context(file(), NULL);
    /* The writer can write only while nobody else has the file open, hence a copy of the lock's rules: open,
     * let the other go, write. */
    context *writer = open_context(file(), NULL);
    context_close(reader);
    read_tokens(writer, tokens, 900);
    reader = open_context(file(), NULL);
    context_close(writer);
    assert_int_equal(read_tokens(reader, tokens, 1000), 900);
    expect_as_fresh(reader, tokens, 1000);
    context_close(reader);
}

/* ---- a full disk ---- */

enum { NO_MOUNT = 77 };

/* In a process of its own, which may mount things that nobody else sees. Returns its exit code. */
static int on_a_tiny_disk(const char *mount_point) {
    if (unshare(CLONE_NEWNS) && unshare(CLONE_NEWUSER | CLONE_NEWNS)) return NO_MOUNT;
    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
    if (mount("tmpfs", mount_point, "tmpfs", 0, "size=400k")) return NO_MOUNT;
    engine *mine = NULL;
    context *c = NULL;
    ph_error err = {0};
    const char *path = in_folder(mount_point, "snapshot");
    if (engine_open(&mine, &(engine_options){.model_dir = model_dir, .threads = 1, .chunk = 128}, &err))
        return 1;
    if (context_open(&c, mine, path, 0, NULL, &err)) return 2;
    int code = context_read(c, tokens, 2000, NULL, NULL, NULL, &err);
    int64_t n = context_length(c);
    if (code != PH_FAIL || !strstr(err.text, "full")) return 3;
    if (n == 0 || n >= 2000 || n % 128) return 4;
    context_close(c);
    /* What was read before the disk was full is kept, and there is more room now. */
    if (context_open(&c, mine, path, 0, NULL, &err) || context_length(c) != n) return 5;
    if (mount("tmpfs", mount_point, "tmpfs", MS_REMOUNT, "size=8m")) return 6;
    if (context_read(c, tokens, 2000, NULL, NULL, NULL, &err) || context_length(c) != 2000) return 7;
    float got[TINY_VOCAB], want[TINY_VOCAB];
    ask(c, got);
    context *fresh = NULL;
    if (context_open(&fresh, mine, NULL, 0, NULL, &err)) return 8;
    if (context_read(fresh, tokens, 2000, NULL, NULL, NULL, &err)) return 9;
    ask(fresh, want);
    return memcmp(got, want, sizeof got) ? 10 : 0;
}

static void a_full_disk_is_told_and_loses_nothing(void **state) {
    (void)state;
    char mount_point[4096];
    snprintf(mount_point, sizeof mount_point, "%s", in_folder(dir, "disk"));
    mkdir(mount_point, 0700);
    pid_t pid = fork();
    if (pid == 0) _exit(on_a_tiny_disk(mount_point));
    int status = wait_program(pid);
    rmdir(mount_point);
    if (status == NO_MOUNT) {
        print_message("a tiny file system cannot be mounted here: skipped\n");
        skip();
    }
    assert_int_equal(status, 0);
}

/* ---- all of it ---- */

static int open_all(void **state) {
    (void)state;
    model_dir = make_folder();
    dir = make_folder();
    if (tiny_model_write(model_dir, &(tiny_options){.seed = 7, .max_positions = MOST})) return -1;
    MUST(engine_open(&e, &(engine_options){.model_dir = model_dir}, &err));
    uint32_t x = 1;
    for (int i = 0; i <= MOST; i++) {
        x = x * 1664525u + 1013904223u;
        tokens[i] = (int32_t)(x >> 24);
        others[i] = i ? (int32_t)(x >> 16 & 255) : tokens[0] ^ 1;
    }
    return 0;
}

/* The processor says that its memory is not the host's, as a GPU does: caches live outside of the file, which is written
 * a step behind the reading. */
static int open_device(void **state) {
    int code = open_all(state);
    e->kern->on_device = true;
    return code;
}

/* And it has pages. */
static int open_paged(void **state) {
    int code = open_device(state);
    return code ? code : paged_begin(e->kern, 4096);
}

static int close_all(void **state) {
    (void)state;
    engine_close(e);
    remove_folder(dir);
    remove_folder(model_dir);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(every_length_comes_back, no_file),
        cmocka_unit_test_setup(growing_step_by_step_is_reading_at_once, no_file),
        cmocka_unit_test_setup(shrinking_and_growing_again, no_file),
        cmocka_unit_test_setup(limits_are_told, no_file),
        cmocka_unit_test_setup(a_stopped_reading_stands_at_a_chunk, no_file),
        cmocka_unit_test_setup(sessions_leave_the_file_alone, no_file),
        cmocka_unit_test_setup(a_damaged_header_is_a_miss, no_file),
        cmocka_unit_test_setup(a_damaged_block_ends_what_is_believed, no_file),
        cmocka_unit_test_setup(a_damaged_commit_falls_back_to_the_one_before, no_file),
        cmocka_unit_test_setup(what_is_cut_off_is_erased_from_the_file, no_file),
        cmocka_unit_test_setup(a_foreign_key_is_a_miss, no_file),
        cmocka_unit_test_setup(one_writes_or_several_read, no_file),
        cmocka_unit_test_setup(another_process_is_told, no_file),
        cmocka_unit_test_setup(a_reader_sees_what_a_writer_left, no_file),
        cmocka_unit_test_setup(a_full_disk_is_told_and_loses_nothing, no_file),
    };
    int failed = cmocka_run_group_tests_name("snapshots", tests, open_all, close_all);
    failed += cmocka_run_group_tests_name("snapshots of a device", tests, open_device, close_all);
    return failed + cmocka_run_group_tests_name("snapshots of a device with pages", tests, open_paged, close_all);
}
