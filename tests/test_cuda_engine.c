/* test_cuda_engine.c - the engine on a GPU: reference vectors, snapshots, sessions beside each other, chunks of any
 * size, a device without room. */
#include "engine/check.h"
#include "engine/engine.h"
#include "kernels/paging.h"
#include "tests/program.h"
#include "tests/test_cuda.h"
#include "tests/tiny_model.h"

#include <dirent.h>
#include <unistd.h>

#define MUST(call)                                                                                           \
    do {                                                                                                     \
        ph_error err = {0};                                                                                  \
        if ((call) != PH_OK) fail_msg("%s: %s", #call, err.text);                                            \
    } while (0)

enum { N = 1500 };
static char *model_dir, *dir;
static int32_t tokens[N];

/* Folders in $PHAROS_GOLDEN, or beside the checkout. */
static void every_reference(void **state) {
    (void)state;
    if (test_small()) skip(); /* whole prompts */
    const char *folder = getenv("PHAROS_GOLDEN") ? getenv("PHAROS_GOLDEN") : GOLDEN_DIR;
    DIR *d = opendir(folder);
    if (!d) {
        print_message("no reference vectors at %s: skipped\n", folder);
        skip();
    }
    int folders = 0, passed = 0;
    for (struct dirent *e; (e = readdir(d));) {
        char path[4096], expected[4200];
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        snprintf(expected, sizeof expected, "%s/expected.safetensors", path);
        if (e->d_name[0] == '.' || access(expected, R_OK)) continue;
        check_result *r = calloc(1, sizeof *r);
        ph_error err = {0};
        int code = model_check(r, path, "cuda", 0, 0, &err);
        if (code || !r->passed) print_error("%s: %s\n", e->d_name, code ? err.text : r->verdict);
        passed += !code && r->passed;
        folders++;
        free(r);
    }
    closedir(d);
    assert_true(folders > 0);
    assert_int_equal(passed, folders);
}

static engine *open_engine(const char *backend, int chunk, engine_precision precision) {
    engine *e = NULL;
    MUST(engine_open(&e, &(engine_options){.model_dir = model_dir, .backend = backend, .chunk = chunk, .precision = precision},
                     &err));
    return e;
}

static context *read_context(engine *e, const char *path, int64_t n, int64_t *cached) {
    context *c = NULL;
    MUST(context_open(&c, e, path, 0, NULL, &err));
    MUST(context_read(c, tokens, n, NULL, NULL, cached, &err));
    return c;
}

static const int32_t QUESTION[] = {'w', 'h', 'y', '?', TINY_ASSISTANT};

static void ask(session *s, float logits[TINY_VOCAB]) {
    MUST(session_feed(s, QUESTION, 5, NULL, NULL, &err));
    memcpy(logits, session_logits(s), TINY_VOCAB * sizeof *logits);
}

static void ask_context(context *c, float logits[TINY_VOCAB]) {
    session *s = NULL;
    MUST(session_open(&s, c, &err));
    ask(s, logits);
    session_close(s);
}

/* Read in chunks of any size, written, restored, read on: the same bits. */
static void restored_is_fresh(void **state) {
    (void)state;
    static const int chunks[] = {1024, 512, 37, 1};
    static const int64_t lengths[] = {1, 255, 256, 257, 700, 1029};
    char path[4096];
    snprintf(path, sizeof path, "%s/snapshot", dir);
    for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
        float want[TINY_VOCAB] = {0};
        if (test_small() && lengths[l] != 257) continue;
        for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
            if (test_small() && chunks[i] != 1024 && chunks[i] != 37) continue;
            engine *e = open_engine("cuda", chunks[i], ENGINE_FAST);
            float got[TINY_VOCAB];
            unlink(path);
            context *c = read_context(e, path, lengths[l], NULL);
            ask_context(c, i ? got : want);
            if (i) assert_same_bytes(got, want, sizeof want);
            context_close(c);
            int64_t cached = -1;
            c = read_context(e, path, lengths[l], &cached);
            assert_int_equal(cached, lengths[l]);
            ask_context(c, got);
            assert_same_bytes(got, want, sizeof want);
            context_close(c);
            /* shorter, then longer again */
            c = read_context(e, path, lengths[l] / 2, &cached);
            assert_int_equal(cached, lengths[l] / 2);
            MUST(context_read(c, tokens, lengths[l], NULL, NULL, NULL, &err));
            ask_context(c, got);
            assert_same_bytes(got, want, sizeof want);
            context_close(c);
            engine_close(e);
        }
    }
    unlink(path);
}

/* Any number of sessions on one context, fed in turns, do not see each other's tails. */
static void sessions_stand_beside_each_other(void **state) {
    (void)state;
    engine *e = open_engine("cuda", 0, ENGINE_FAST);
    context *c = read_context(e, NULL, 700, NULL);
    float want[TINY_VOCAB], got[TINY_VOCAB];
    ask_context(c, want);
    session *a = NULL, *b = NULL;
    MUST(session_open(&a, c, &err));
    MUST(session_open(&b, c, &err));
    MUST(session_feed(b, tokens + 900, 300, NULL, NULL, &err));
    ask(a, got);
    assert_same_bytes(got, want, sizeof want);
    MUST(session_rewind(b, 700, &err));
    ask(b, got);
    assert_same_bytes(got, want, sizeof want);
    session_close(a);
    MUST(session_open(&a, c, &err)); /* the context's own memory again */
    MUST(session_feed(b, tokens, 100, NULL, NULL, &err));
    ask(a, got);
    assert_same_bytes(got, want, sizeof want);
    session_close(a);
    session_close(b);
    /* and the context reads on as if nobody had been there */
    MUST(context_read(c, tokens, 900, NULL, NULL, NULL, &err));
    ask_context(c, got);
    context *fresh = read_context(e, NULL, 900, NULL);
    ask_context(fresh, want);
    assert_same_bytes(got, want, sizeof want);
    context_close(fresh);
    context_close(c);
    engine_close(e);
}

typedef struct writing {
    int32_t token[40];
    int n, layers;
    double mass;
} writing;

static int wrote(void *user, const generate_step *step) {
    writing *w = user;
    w->token[w->n++] = step->token;
    w->layers = step->n_layers;
    for (int l = 0; l < step->n_layers; l++) {
        double sum = 0;
        for (int i = 0; i < step->layers[l].count; i++) {
            sum += (double)step->layers[l].mass[i];
            if (i) assert_true(step->layers[l].position[i] > step->layers[l].position[i - 1]);
        }
        w->mass = sum;
        assert_close((float)sum, 1, 1e-3);
    }
    return 0;
}

static void two_runs_write_the_same(void **state) {
    (void)state;
    writing w[3] = {0};
    for (int i = 0; i < 3; i++) { /* the third on the CPU, in fp32 throughout: near-ties apart the same text */
        engine *e = open_engine(i < 2 ? "cuda" : NULL, 0, ENGINE_EXACT);
        context *c = read_context(e, NULL, 600, NULL);
        session *s = NULL;
        MUST(session_open(&s, c, &err));
        MUST(session_feed(s, QUESTION, 5, NULL, NULL, &err));
        MUST(session_generate(s, &(generate_options){.max_tokens = 40, .trace = true, .ignore_eos = true, .step = wrote, .user = &w[i]},
                              NULL, &err));
        float score[1024];
        MUST(session_index_scores(s, 1, score, &err));
        for (int64_t p = 0; p < session_length(s); p++) assert_false(isnan(score[p]));
        session_close(s);
        context_close(c);
        engine_close(e);
    }
    assert_int_equal(w[0].n, 40);
    assert_int_equal(w[0].layers, TINY_LAYERS);
    assert_same_bytes(w[0].token, w[1].token, sizeof w[0].token);
    int same = 0;
    while (same < 40 && w[0].token[same] == w[2].token[same]) same++;
    print_message("the CPU writes the same for %d of 40 tokens\n", same);
    assert_true(same > 0);
}

/* What a session writes, with all that a trace says of it. */
typedef struct written {
    int n;
    int32_t token[96];
    uint64_t trace[96]; /* checksums of counts, positions, scores and masses */
    float logits[TINY_VOCAB];
} written;

static uint64_t add_bytes(uint64_t sum, const void *p, size_t n) {
    for (size_t i = 0; i < n; i++) sum = (sum ^ ((const uint8_t *)p)[i]) * 0x100000001b3u;
    return sum;
}

static int keep_written(void *user, const generate_step *step) {
    written *w = user;
    uint64_t sum = 0xcbf29ce484222325u;
    for (int l = 0; l < step->n_layers; l++) {
        const trace_layer *t = &step->layers[l];
        size_t n = (size_t)t->count;
        sum = add_bytes(sum, &t->count, sizeof t->count);
        sum = add_bytes(sum, t->position, n * sizeof *t->position);
        sum = add_bytes(sum, t->mass, n * sizeof *t->mass);
        if (t->score) sum = add_bytes(sum, t->score, n * sizeof *t->score);
    }
    w->trace[w->n] = sum;
    w->token[w->n++] = step->token;
    return 0;
}

enum steps { ONE_BY_ONE, AS_GRAPHS, AS_CHAINS };

/* Two sessions in turns on one context, so that kept steps take turns too; one rewinds. Without the table's entries
 * everything is asked for one by one. */
static void write_two(enum steps how, int64_t length, bool dense, engine_precision precision, written out[2]) {
    engine *e = open_engine("cuda", 0, precision);
    kern *k = engine_kernels(e);
    if (how == ONE_BY_ONE) k->step_begin = NULL;
    if (how == AS_CHAINS) k->lane = NULL;
    engine_set_dense(e, dense);
    context *c = read_context(e, NULL, length, NULL);
    session *s[2] = {NULL, NULL};
    memset(out, 0, 2 * sizeof *out);
    for (int i = 0; i < 2; i++) {
        MUST(session_open(&s[i], c, &err));
        MUST(session_feed(s[i], tokens + 20 * i, 5 + i, NULL, NULL, &err));
    }
    for (int turn = 0; turn < (test_small() ? 1 : 4); turn++)
        for (int i = 0; i < 2; i++) {
            /* the second is restricted, every second turn to other places */
            kern_range half = {turn % 2 ? 0 : length / 2, turn % 2 ? length / 2 : length};
            if (i && turn) MUST(session_restrict(s[i], &half, 1, &err));
            MUST(session_generate(s[i],
                                  &(generate_options){.max_tokens = (test_small() ? 4 : 10) + turn,
                                                      .trace = true,
                                                      .ignore_eos = true,
                                                      .temperature = 0.7,
                                                      .seed = (uint64_t)(turn + 1),
                                                      .step = keep_written,
                                                      .user = &out[i]},
                                  NULL, &err));
        }
    MUST(session_rewind(s[0], length + 7, &err));
    for (int i = 0; i < (test_small() ? 1 : 2); i++) MUST(session_feed(s[0], tokens + i, 1, NULL, NULL, &err)); /* by itself */
    for (int i = 0; i < 2; i++) {
        memcpy(out[i].logits, session_logits(s[i]), sizeof out[i].logits);
        session_close(s[i]);
    }
    context_close(c);
    engine_close(e);
}

static void steps_that_are_kept_are_steps(void **state) {
    (void)state;
    static const int64_t lengths[] = {3, 700};
    for (int i = 0; i < 6; i++) {
        bool dense = i >= 4;
        engine_precision precision = i % 4 >= 2 ? ENGINE_EXACT : ENGINE_FAST;
        written want[2], got[2];
        if (test_small() && i != 0) continue;
        write_two(ONE_BY_ONE, lengths[i % 2], dense, precision, want);
        int n = test_small() ? 4 : 46; /* a step is seen, recorded, done again twice */
        assert_true(want[0].n == n && want[1].n == n);
        for (enum steps how = AS_GRAPHS; how <= AS_CHAINS; how++) {
            write_two(how, lengths[i % 2], dense, precision, got);
            assert_same_bytes(got, want, sizeof want);
        }
    }
}

/* A snapshot of the one is not taken for the other's: it says why, and is read again. */
static void other_backends_snapshots_are_refused(void **state) {
    (void)state;
    char path[4096];
    snprintf(path, sizeof path, "%s/other", dir);
    for (int way = 0; way < 2; way++) {
        engine *first = open_engine(way ? "cuda" : NULL, 0, ENGINE_FAST),
               *second = open_engine(way ? NULL : "cuda", 0, ENGINE_FAST);
        context_close(read_context(first, path, 300, NULL));
        const char *reason = NULL;
        context *c = NULL;
        MUST(context_open(&c, second, path, 0, &reason, &err));
        assert_non_null(reason);
        assert_int_equal(context_length(c), 0);
        context_close(c);
        engine_close(first);
        engine_close(second);
        unlink(path);
    }
}

static void no_room_is_told_and_the_processor_works(void **state) {
    (void)state;
    engine *e = open_engine("cuda", 0, ENGINE_FAST);
    /* all but a little of the device's memory is taken */
    void *held[64];
    int n = 0;
    for (size_t piece = (size_t)64 << 30; piece >= (size_t)1 << 20; piece /= 2)
        while (n < 64 && gpu->alloc(gpu, &held[n], piece, NULL) == PH_OK) n++;
    context *c = NULL;
    ph_error err = {0};
    int code = PH_OK;
    context *opened[64];
    int n_opened = 0;
    while (n_opened < 64 && !(code = context_open(&c, e, NULL, 0, NULL, &err))) opened[n_opened++] = c;
    if (n_opened < 64) {
        assert_int_equal(code, PH_MEMORY);
        assert_non_null(strstr(err.text, "MB"));
    }
    for (int i = 0; i < n_opened; i++) context_close(opened[i]);
    for (int i = 0; i < n; i++) gpu->free(gpu, held[i]);
    assert_int_equal(n_opened < 64, 1);
    float got[TINY_VOCAB];
    c = read_context(e, NULL, 100, NULL); /* the device goes on */
    ask_context(c, got);
    context_close(c);
    engine_close(e);
    e = open_engine(NULL, 0, ENGINE_FAST);
    c = read_context(e, NULL, 100, NULL);
    ask_context(c, got);
    context_close(c);
    engine_close(e);
}

/* ---- pages ---- */

static void expect_bytes(const void *device, size_t n, int value) {
    unsigned char *host = test_bytes(n);
    gpu->copy_out(gpu, host, device, n);
    for (size_t i = 0; i < n; i++)
        if (host[i] != (unsigned char)value) fail_msg("byte %zu of %zu is %d, want %d", i, n, host[i], value);
    free(host);
}

static void fill(void *device, size_t n, int value) {
    unsigned char *host = test_bytes(n);
    memset(host, value, n);
    gpu->copy_in(gpu, device, host, n);
    free(host);
}

static void pages_grow_and_are_shared(void **state) {
    (void)state;
    const kern_paging *p = gpu->paging;
    if (!p) {
        print_message("this driver has no virtual memory: caches are there at once: skipped\n");
        skip();
    }
    size_t page = p->page, before = p->held(gpu);
    void *a[2] = {NULL, NULL}, *b[2] = {NULL, NULL};
    MUST(p->reserve(gpu, &a[0], 10 * page - 100, &err));
    MUST(p->reserve(gpu, &a[1], 1000, &err)); /* smaller than a page */
    assert_int_equal(p->held(gpu), before);
    MUST(p->extend(gpu, a, (size_t[]){page + 1, 1000}, 2, &err));
    assert_int_equal(p->held(gpu), before + 2 * page);
    fill(a[0], page + 1, 3);
    fill(a[1], 1000, 4);
    MUST(p->extend(gpu, a, (size_t[]){5 * page, 1000}, 2, &err));
    MUST(p->extend(gpu, a, (size_t[]){10, 10}, 2, &err)); /* never less */
    expect_bytes(a[0], page + 1, 3);
    expect_bytes((char *)a[0] + page + 1, 4 * page - 1, 0);
    assert_int_equal(p->held(gpu), before + 5 * page);
    /* another begins alike: three pages are the same, half of the fourth is a copy */
    fill((char *)a[0] + page, 3 * page, 5);
    for (int i = 0; i < 2; i++) MUST(p->reserve(gpu, &b[i], i ? 1000 : 10 * page - 100, &err));
    MUST(p->share(gpu, b, a, (size_t[]){3 * page + 17, 900}, (size_t[]){3 * page + page / 2, 950}, 2, &err));
    assert_int_equal(p->held(gpu), before + 6 * page);
    expect_bytes(b[0], page, 3);
    expect_bytes((char *)b[0] + page, 2 * page + page / 2, 5);
    expect_bytes(b[1], 950, 4);
    fill((char *)b[0] + 3 * page + 17, page / 4, 6);
    expect_bytes((char *)a[0] + 3 * page, page, 5);
    MUST(p->extend(gpu, b, (size_t[]){9 * page, 1000}, 2, &err));
    expect_bytes((char *)b[0] + 4 * page, 5 * page, 0);
    expect_bytes((char *)b[0] + 3 * page + 17, page / 4, 6);
    p->shrink(gpu, b, (size_t[]){4 * page, 0}, 2);
    assert_int_equal(p->held(gpu), before + 6 * page);
    gpu->free(gpu, a[0]); /* what is shared stays */
    gpu->free(gpu, a[1]);
    assert_int_equal(p->held(gpu), before + 4 * page);
    expect_bytes((char *)b[0] + page, 2 * page, 5);
    /* More than there is: told, nothing changed, and the device goes on. */
    void *most = NULL;
    ph_error told = {0};
    MUST(p->reserve(gpu, &most, 2 * gpu->memory, &err));
    assert_int_equal(p->extend(gpu, &most, (size_t[]){2 * gpu->memory}, 1, &told), PH_MEMORY);
    assert_non_null(strstr(told.text, "needs"));
    assert_non_null(strstr(told.text, "free"));
    print_message("%s\n", told.text);
    assert_int_equal(p->held(gpu), before + 4 * page);
    MUST(p->extend(gpu, &most, (size_t[]){page}, 1, &err));
    expect_bytes(most, page, 0);
    gpu->free(gpu, most);
    gpu->free(gpu, b[0]);
    gpu->free(gpu, b[1]);
    assert_int_equal(p->held(gpu), before);
    assert_went_well();
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* What sessions on one context write at the end of a page, kept steps included: the bits of caches that are there at once,
 * and memory for tails only. */
static void paged_caches_write_the_same(void **state) {
    (void)state;
    if (!gpu->paging || test_small()) skip();
    enum { CAPACITY = 120000, SESSIONS = 3 };
    char *long_model = make_folder();
    assert_int_equal(tiny_model_write(long_model, &(tiny_options){.seed = 8, .max_positions = CAPACITY}), 0);
    int32_t *text = test_bytes(CAPACITY * sizeof *text);
    for (int i = 0; i < CAPACITY; i++) text[i] = test_between(0, 255);
    written *w = test_bytes(2 * SESSIONS * sizeof *w);
    memset(w, 0, 2 * SESSIONS * sizeof *w);
    for (int plain = 0; plain < 2; plain++) {
        engine *e = NULL;
        context *c = NULL;
        session *s[SESSIONS];
        MUST(engine_open(&e, &(engine_options){.model_dir = long_model, .backend = "cuda"}, &err));
        kern *k = engine_kernels(e);
        const kern_paging *p = k->paging;
        if (plain) k->paging = NULL;
        MUST(context_open(&c, e, NULL, 0, NULL, &err));
        int64_t row = (int64_t)engine_context_bytes(e, 1000000) / 1000000 / TINY_LAYERS;
        int64_t length = (int64_t)p->page / row * 2 - 30; /* near the end of a page of something */
        if (length > CAPACITY - 1000) length = CAPACITY - 1000;
        double start = seconds();
        MUST(context_read(c, text, length, NULL, NULL, NULL, &err));
        double read = seconds() - start;
        size_t held = p->held(k);
        for (int i = 0; i < SESSIONS; i++) {
            start = seconds();
            MUST(session_open(&s[i], c, &err));
            double opened = seconds() - start;
            MUST(session_feed(s[i], text + 100 * i, 10, NULL, NULL, &err));
            print_message("%s: %lld tokens in %.3f s, session %d in %.1f ms; %.1f MB in pages\n", plain ? "at once" : "pages",
                          (long long)length, read, i, opened * 1e3, (double)p->held(k) / 1e6);
        }
        if (!plain) assert_true(p->held(k) <= held + SESSIONS * TINY_LAYERS * 2 * p->page);
        for (int turn = 0; turn < 2; turn++)
            for (int i = 0; i < SESSIONS; i++)
                MUST(session_generate(s[i],
                                      &(generate_options){.max_tokens = 40,
                                                          .trace = true,
                                                          .ignore_eos = true,
                                                          .step = keep_written,
                                                          .user = &w[plain * SESSIONS + i]},
                                      NULL, &err));
        for (int i = 0; i < SESSIONS; i++) {
            memcpy(w[plain * SESSIONS + i].logits, session_logits(s[i]), sizeof w->logits);
            session_close(s[i]);
        }
        if (!plain) assert_int_equal(p->held(k), held);
        context_close(c);
        assert_int_equal(p->held(k), 0);
        k->paging = p;
        engine_close(e);
    }
    assert_int_equal(w[0].n, 80);
    assert_same_bytes(w, w + SESSIONS, SESSIONS * sizeof *w);
    free(w), free(text);
    remove_folder(long_model);
}

static void names_of_devices(void **state) {
    (void)state;
    kern *k = NULL;
    assert_int_equal(kern_open(&k, "cuda:0", 0, NULL), PH_OK);
    assert_string_equal(k->name, "cuda");
    k->close(k);
    assert_int_equal(kern_open(&k, "cuda:", 0, NULL), PH_USAGE);
    assert_int_equal(kern_open(&k, "cuda:1x", 0, NULL), PH_USAGE);
    assert_int_equal(kern_open(&k, "cudas", 0, NULL), PH_USAGE);
    assert_int_equal(kern_open(&k, "cuda:900", 0, NULL), PH_UNSUPPORTED);
    assert_null(k);
}

int main(void) {
    int code = test_cuda_begin();
    if (code) return code;
    model_dir = make_folder();
    dir = make_folder();
    if (!model_dir || !dir || tiny_model_write(model_dir, &(tiny_options){.seed = 7, .max_positions = 2048})) return 1;
    for (int i = 0; i < N; i++) tokens[i] = test_between(0, 255);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_reference),
        cmocka_unit_test(restored_is_fresh),
        cmocka_unit_test(sessions_stand_beside_each_other),
        cmocka_unit_test(two_runs_write_the_same),
        cmocka_unit_test(steps_that_are_kept_are_steps),
        cmocka_unit_test(other_backends_snapshots_are_refused),
        cmocka_unit_test(no_room_is_told_and_the_processor_works),
        cmocka_unit_test(pages_grow_and_are_shared),
        cmocka_unit_test(paged_caches_write_the_same),
        cmocka_unit_test(names_of_devices),
    };
    code = cmocka_run_group_tests(tests, NULL, NULL);
    remove_folder(model_dir);
    remove_folder(dir);
    test_cuda_end();
    return code;
}
