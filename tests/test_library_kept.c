/* test_library_kept.c - what is kept of reading packs: nothing is read twice, and an answer from a restored pack
 * is bit for bit that of a fresh one, whatever happened to the snapshot in between. */
#include "tests/test_library.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void a_restored_answer_is_the_fresh_one(void **state) {
    world *w = *state;
    add_text(w->store, "one", 1500, 1);
    add_text(w->store, "two", 900, 2);
    answer fresh = ask(w, &SHORT);
    assert_int_equal(fresh.row.cached_tokens, 0);
    assert_true(fresh.trace.n_tokens == 24 && fresh.trace.keep >= 16);
    answer again = ask(w, &SHORT);
    assert_int_equal(again.row.cached_tokens, fresh.pack.prompt.tokens.n);
    same_answer(&fresh, &again);
    answer_free(&again);
    reopen(w);
    again = ask(w, &SHORT);
    assert_int_equal(again.row.cached_tokens, fresh.pack.prompt.tokens.n);
    assert_null(again.note);
    same_answer(&fresh, &again);
    answer_free(&again);

    /* Read in two goes with a restart between, with other threads: the same. */
    world other = {.dir = make_folder()};
    other.store = open_at(other.dir);
    other.engine = open_model(0, &(engine_options){.threads = 1});
    add_text(other.store, "one", 1500, 1);
    pack_all(&other);
    shelf x = packs_of(&other);
    int64_t cached;
    read_pack(&other, x.packs[0].id, &cached);
    shelf_free(&x);
    add_text(other.store, "two", 900, 2);
    reopen(&other);
    again = ask(&other, &SHORT);
    assert_true(again.row.cached_tokens > 0 && again.row.cached_tokens < (int64_t)again.pack.prompt.tokens.n);
    same_answer(&fresh, &again);
    answer_free(&again);
    store_close(other.store);
    engine_close(other.engine);
    remove_folder(other.dir);
    answer_free(&fresh);
}

static void a_damaged_snapshot_is_never_believed(void **state) {
    world *w = *state;
    char path[4096];
    add_text(w->store, "one", 1500, 1);
    answer fresh = ask(w, &SHORT);
    snapshot_path(w, path);
    size_t n;
    char *bytes = read_whole(path, &n);
    assert_non_null(bytes);
    int believed = 0, missed = 0;
    for (size_t at = 5; at < n; at += 1 + n / 150) {
        bytes[at] ^= 0x40;
        write_file(path, bytes, n);
        bytes[at] ^= 0x40;
        answer a = ask(w, &SHORT);
        /* A byte of the room that is not in use yet changes nothing; any other one is noticed. */
        if (a.note)
            missed++;
        else {
            assert_int_equal(a.row.cached_tokens, fresh.pack.prompt.tokens.n);
            believed++;
        }
        same_answer(&fresh, &a);
        answer_free(&a);
    }
    assert_true(missed > 0 && believed > 0);
    for (size_t cut = 0; cut < n; cut += 1 + n / 10) {
        write_file(path, bytes, cut);
        answer a = ask(w, &SHORT);
        assert_int_equal(a.row.cached_tokens, 0);
        same_answer(&fresh, &a);
        answer_free(&a);
    }
    free(bytes);
    answer_free(&fresh);
}

static void another_models_snapshot_is_a_miss(void **state) {
    world *w = *state;
    char path[4096];
    add_text(w->store, "one", 1500, 1);
    answer fresh = ask(w, &SHORT);
    snapshot_path(w, path);
    world other = {.dir = make_folder()};
    other.store = open_at(other.dir);
    other.engine = open_model(1, NULL);
    add_text(other.store, "one", 1500, 1);
    answer a = ask(&other, &SHORT);
    assert_string_not_equal(a.row.answer, fresh.row.answer);
    assert_memory_not_equal(a.row.key, fresh.row.key, sizeof a.row.key);
    answer_free(&a);
    char foreign[4096];
    snapshot_path(&other, foreign);
    size_t n;
    char *bytes = read_whole(foreign, &n);
    write_file(path, bytes, n);
    free(bytes);
    a = ask(w, &SHORT);
    assert_int_equal(a.row.cached_tokens, 0);
    assert_non_null(a.note);
    same_answer(&fresh, &a);
    answer_free(&a);
    answer_free(&fresh);
    store_close(other.store);
    engine_close(other.engine);
    remove_folder(other.dir);
}

static void models_and_options_have_packs_of_their_own(void **state) {
    world *w = *state;
    add_text(w->store, "one", 500, 1);
    pack_all(w);
    const engine_options variants[] = {{.topk = 8}, {.dense = true}, {0}};
    for (int i = 0; i < 3; i++) {
        world other = {.dir = w->dir, .store = w->store, .engine = open_model(i == 2, &variants[i])};
        assert_memory_not_equal(engine_key(w->engine), engine_key(other.engine), 32);
        shelf x = packs_of(&other);
        assert_int_equal(x.n, 0);
        shelf_free(&x);
        answer a = ask(&other, &SHORT);
        assert_int_equal(a.row.cached_tokens, 0);
        assert_int_equal(a.packs_all, 1);
        if (variants[i].dense) assert_int_equal(a.trace.layers, 0);
        answer_free(&a);
        engine_close(other.engine);
    }
    shelf x = packs_of(w);
    assert_int_equal(x.n, 1);
    shelf_free(&x);
    store_pack *all;
    size_t n;
    MUST(store_pack_list(w->store, NULL, &all, &n, &err));
    assert_int_equal(n, 4);
    store_packs_free(all, n);
}

/* ---- stopping and being killed ---- */

typedef struct stopping {
    int64_t at;
    int64_t seen;
    bool kill;
} stopping;

static int stop_at(void *user, int64_t done, int64_t total) {
    stopping *s = user;
    (void)total;
    s->seen = done;
    if (done < s->at) return 0;
    if (s->kill) raise(SIGKILL);
    return 1;
}

static void a_stopped_reading_keeps_what_it_read(void **state) {
    world *w = *state;
    add_text(w->store, "one", 3000, 1);
    pack_all(w);
    shelf x = packs_of(w);
    loaded_pack p;
    context *c = NULL;
    int64_t cached = -1;
    ph_error why = {0};
    MUST(pack_load(&p, w->store, w->engine, x.packs[0].id, &err));
    stopping s = {.at = 1000};
    assert_int_equal(pack_read(&c, &p, w->store, w->engine, stop_at, &s, &cached, NULL, &why),
                     PH_INTERRUPTED);
    assert_null(c);
    assert_int_equal(cached, 0);
    assert_int_equal(s.seen, 1024); /* a chunk of 512 ends there */
    read_pack(w, x.packs[0].id, &cached);
    assert_int_equal(cached, 1024);
    pack_unload(&p);
    shelf_free(&x);
}

/* A child reads, and kills itself without warning once `at` tokens are done. */
static void killed_reader(const char *dir, int64_t pack, int64_t at) {
    world w = {.store = open_at(dir), .engine = open_model(0, &(engine_options){.threads = 1})};
    loaded_pack p;
    context *c;
    stopping s = {.at = at, .kill = true};
    if (pack_load(&p, w.store, w.engine, pack, NULL)) _exit(1);
    pack_read(&c, &p, w.store, w.engine, stop_at, &s, NULL, NULL, NULL);
    _exit(2); /* not reached */
}

static void kill_loses_the_chunk_in_flight_at_most(void **state) {
    world *w = *state;
    add_text(w->store, "one", 3000, 1);
    answer fresh = ask(w, &SHORT);
    char path[4096];
    snapshot_path(w, path);
    int64_t pack = fresh.row.pack, cached = -1;
    for (int64_t at = 512; at < 3000; at += 512) {
        unlink(path);
        pid_t pid = fork();
        if (pid == 0) killed_reader(w->dir, pack, at);
        assert_int_equal(wait_program(pid), 128 + SIGKILL);
        shelf x = packs_of(w); /* what is shown of it: never more than is there, and not much less */
        assert_true(x.packs[0].read <= at && x.packs[0].read > at - 2048);
        shelf_free(&x);
        read_pack(w, pack, &cached);
        assert_int_equal(cached, at);
        answer a = ask(w, &SHORT);
        same_answer(&fresh, &a);
        answer_free(&a);
    }
    /* And at a moment of no one's choosing. */
    for (int i = 0; i < 12; i++) {
        unlink(path);
        pid_t pid = fork();
        if (pid == 0) killed_reader(w->dir, pack, INT64_MAX);
        usleep((useconds_t)(2000 + 3000 * i));
        kill(pid, SIGKILL);
        wait_program(pid);
        read_pack(w, pack, &cached);
        assert_true(cached % 512 == 0 || cached == (int64_t)fresh.pack.prompt.tokens.n);
        answer a = ask(w, &SHORT);
        same_answer(&fresh, &a);
        answer_free(&a);
    }
    answer_free(&fresh);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_A_WORLD(a_restored_answer_is_the_fresh_one),
        IN_A_WORLD(a_damaged_snapshot_is_never_believed),
        IN_A_WORLD(another_models_snapshot_is_a_miss),
        IN_A_WORLD(models_and_options_have_packs_of_their_own),
        IN_A_WORLD(a_stopped_reading_keeps_what_it_read),
        IN_A_WORLD(kill_loses_the_chunk_in_flight_at_most),
    };
    return cmocka_run_group_tests(tests, make_models, remove_models);
}
