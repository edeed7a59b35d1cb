/* test_ranks.c - one model over several ranks of the processor: reference vectors, the same bits however it
 * is read, snapshots, sessions beside each other, traces, what cannot be dealt out. */
#include "engine/check.h"
#include "engine/engine_internal.h"
#include "tests/checkpoint.h"
#include "tests/program.h"
#include "tests/test_kernels.h"
#include "tests/tiny_model.h"

#include <dirent.h>
#include <unistd.h>

#ifdef TEST_ON_GPUS /* test_cuda_ranks.c */
static const char *const backend = "cuda";
#else
static const char *const backend = NULL;
#endif
static int most_ranks = 8;

#define MUST(call)                                                                                           \
    do {                                                                                                     \
        ph_error err = {0};                                                                                  \
        if ((call) != PH_OK) fail_msg("%s: %s", #call, err.text);                                            \
    } while (0)

enum { N = 1500, WRITTEN = 40 };
static char *model_dir, *dir;
static int32_t tokens[N];
static const int32_t QUESTION[] = {'w', 'h', 'y', '?', TINY_ASSISTANT};

static engine *open_ranks(int ranks, int chunk, engine_precision precision) {
    engine *e = NULL;
    MUST(engine_open(
        &e,
        &(engine_options){
            .model_dir = model_dir, .backend = backend, .ranks = ranks, .threads = ranks, .chunk = chunk, .precision = precision},
        &err));
    assert_int_equal(engine_ranks(e), ranks);
    return e;
}

static context *read_context(engine *e, const char *path, int64_t n, int64_t *cached) {
    context *c = NULL;
    MUST(context_open(&c, e, path, 0, NULL, &err));
    MUST(context_read(c, tokens, n, NULL, NULL, cached, &err));
    return c;
}

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

/* What the check says of 2 and 4 ranks; where there are no ties (16 index heads), the reference's own greedy
 * tokens too, which model_check insists on. */
static void every_reference(void **state) {
    const char *folder = getenv("PHAROS_GOLDEN") ? getenv("PHAROS_GOLDEN") : GOLDEN_DIR;
    DIR *d = opendir(folder);
    if (!d) {
        print_message("no reference vectors at %s: skipped\n", folder);
        skip();
    }
    int runs = 0, passed = 0;
    check_result *one = calloc(1, sizeof *one), *r = calloc(1, sizeof *r);
    assert_true(one && r);
    for (struct dirent *e; (e = readdir(d));) {
        char path[4096], expected[4200];
        ph_error err = {0};
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        snprintf(expected, sizeof expected, "%s/expected.safetensors", path);
        if (e->d_name[0] == '.' || access(expected, R_OK)) continue;
        if (model_check(one, path, backend, 1, 1, &err)) fail_msg("%s: %s", path, err.text);
        for (int ranks = 2; ranks <= 4 && ranks <= most_ranks; ranks += 2, runs++) {
            if (model_check(r, path, backend, ranks, ranks, &err)) fail_msg("%s: %s", path, err.text);
            if (!r->passed) print_error("%s on %d ranks: %s\n", e->d_name, ranks, r->verdict);
            bool same = r->passed;
            for (int w = 0; w < CHECK_WAYS; w++) same &= r->way[w].greedy_same == one->way[w].greedy_same;
            passed += same;
        }
    }
    closedir(d);
    free(one), free(r);
    assert_true(runs > 0);
    assert_int_equal(passed, runs);
}

/* A checkpoint in the released form (FP8, shards, grouped experts) against a plain pass in double: fp32
 * throughout, and the selections and greedy tokens are the reference's. Then as it is used, with FP8 codes:
 * ranks that begin inside of a block of 128 write what one rank does. */
static void released_form(void **state) {
    enum { TOKENS = 90, GREEDY = 8 };
    checkpoint_shape shape = checkpoint_small();
    ph_error wrong = {0};
    char *ck = make_folder();
    check_result *r = calloc(1, sizeof *r);
    assert_true(ck && r);
    if (checkpoint_write(ck, &shape, 3, 1 << 20, &wrong) || checkpoint_expect(ck, TOKENS, GREEDY, 4, &wrong))
        fail_msg("%s", wrong.text);
    assert_true(files_below(ck) > 4); /* more than one shard */
    for (int ranks = 1; ranks <= most_ranks; ranks *= 2) {
        if (model_check(r, ck, backend, ranks, ranks, &wrong)) fail_msg("%s", wrong.text);
        if (!r->passed) fail_msg("%d ranks: %s", ranks, r->verdict);
        assert_int_equal(r->way[0].greedy_same, GREEDY);
    }
    float *want = test_array(shape.vocab);
    for (int ranks = 1; ranks <= most_ranks; ranks *= 2) {
        engine *e = NULL;
        context *c = NULL;
        session *s = NULL;
        MUST(engine_open_bare(
            &e, &(engine_options){.model_dir = ck, .backend = backend, .ranks = ranks, .threads = ranks, .chunk = 48}, &err));
        MUST(context_open(&c, e, NULL, 1024, NULL, &err));
        MUST(context_read(c, tokens, 300, NULL, NULL, NULL, &err));
        MUST(session_open(&s, c, &err));
        MUST(session_feed(s, tokens + 300, 20, NULL, NULL, &err));
        const float *got = session_logits(s);
        if (ranks == 1) memcpy(want, got, (size_t)shape.vocab * 4);
        double error = 0, size = 0; /* selections from rounded keys may differ: near, not equal */
        for (int i = 0; i < shape.vocab; i++) {
            error += pow((double)got[i] - (double)want[i], 2);
            size += pow((double)want[i], 2);
        }
        if (!(error < 1e-3 * size)) fail_msg("%d ranks: %g of %g", ranks, error, size);
        session_close(s);
        context_close(c);
        engine_close(e);
    }
    assert_int_equal(model_check(r, ck, NULL, 16, 16, &wrong), PH_UNSUPPORTED);
    free(want), free(r);
    remove_folder(ck);
}

/* Read in steps of any size, written, restored, shortened and read on: the same bits. */
static void restored_is_fresh(void **state) {
    static const int chunks[] = {512, 37, 3, 1};
    static const int64_t lengths[] = {257, 330};
    char path[4096];
    snprintf(path, sizeof path, "%s/snapshot", dir);
    for (int ranks = 2; ranks <= 4 && ranks <= most_ranks; ranks += 2)
        for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
            float want[TINY_VOCAB] = {0}, got[TINY_VOCAB];
            for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
                engine *e = open_ranks(ranks, chunks[i], ENGINE_FAST);
                int64_t cached = -1;
                unlink(path);
                context *c = read_context(e, path, lengths[l], NULL);
                ask_context(c, i ? got : want);
                if (i) assert_same_bytes(got, want, sizeof want);
                context_close(c);
                c = read_context(e, path, lengths[l], &cached);
                assert_int_equal(cached, lengths[l]);
                ask_context(c, got);
                assert_same_bytes(got, want, sizeof want);
                context_close(c);
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

/* Sessions on one context do not see each other's tails, on any rank. */
static void sessions_stand_beside_each_other(void **state) {
    engine *e = open_ranks(2, 64, ENGINE_FAST);
    context *c = read_context(e, NULL, 300, NULL);
    float want[TINY_VOCAB], got[TINY_VOCAB];
    ask_context(c, want);
    session *a = NULL, *b = NULL;
    /* In turns, as if each were alone. */
    float alone[TINY_VOCAB];
    MUST(session_open(&a, c, &err));
    MUST(session_feed(a, tokens + 1000, 40, NULL, NULL, &err));
    ask(a, alone);
    session_close(a);
    MUST(session_open(&a, c, &err));
    MUST(session_open(&b, c, &err));
    MUST(session_feed(a, tokens + 1000, 40, NULL, NULL, &err));
    MUST(session_feed(b, tokens + 900, 150, NULL, NULL, &err));
    ask(a, got);
    assert_same_bytes(got, alone, sizeof alone);
    MUST(session_rewind(b, 300, &err));
    MUST(session_feed(b, tokens + 900, 150, NULL, NULL, &err));
    MUST(session_rewind(a, 300, &err));
    ask(a, got);
    assert_same_bytes(got, want, sizeof want);
    MUST(session_rewind(b, 300, &err));
    ask(b, got);
    assert_same_bytes(got, want, sizeof want);
    session_close(a);
    MUST(session_open(&a, c, &err));
    MUST(session_feed(b, tokens, 100, NULL, NULL, &err));
    ask(a, got);
    assert_same_bytes(got, want, sizeof want);
    session_close(a);
    session_close(b);
    MUST(context_read(c, tokens, 500, NULL, NULL, NULL, &err));
    ask_context(c, got);
    context *fresh = read_context(e, NULL, 500, NULL);
    ask_context(fresh, want);
    assert_same_bytes(got, want, sizeof want);
    context_close(fresh);
    context_close(c);
    engine_close(e);
}

typedef struct writing {
    int32_t token[WRITTEN];
    int n;
    int32_t position[WRITTEN][TINY_LAYERS][16];
    float mass[WRITTEN][TINY_LAYERS][16], score[WRITTEN][TINY_LAYERS][16];
} writing;

static int wrote(void *user, const generate_step *step) {
    writing *w = user;
    assert_int_equal(step->n_layers, TINY_LAYERS);
    for (int l = 0; l < TINY_LAYERS; l++) {
        const trace_layer *t = &step->layers[l];
        double sum = 0;
        assert_int_equal(t->count, 16);
        for (int i = 0; i < t->count; i++) sum += (double)t->mass[i];
        assert_close((float)sum, 1, 1e-5);
        memcpy(w->position[w->n][l], t->position, sizeof w->position[0][0]);
        memcpy(w->mass[w->n][l], t->mass, sizeof w->mass[0][0]);
        memcpy(w->score[w->n][l], t->score, sizeof w->score[0][0]);
    }
    w->token[w->n++] = step->token;
    return 0;
}

static void write_some(writing *w, int ranks, const kern_range *only) {
    engine *e = open_ranks(ranks, 64, ENGINE_EXACT);
    context *c = read_context(e, NULL, 600, NULL);
    session *s = NULL;
    *w = (writing){0};
    MUST(session_open(&s, c, &err));
    if (only) MUST(session_restrict(s, only, 1, &err));
    MUST(session_feed(s, tokens + 700, 130, NULL, NULL,
                      &err)); /* more than one step: the first deals its rows out */
    MUST(session_generate(
        s,
        &(generate_options){
            .max_tokens = WRITTEN, .trace = true, .ignore_eos = true, .step = wrote, .user = w},
        NULL, &err));
    float score[1024];
    MUST(session_index_scores(s, 1, score, &err));
    for (int64_t p = 0; p < session_length(s); p++) assert_false(isnan(score[p]));
    session_close(s);
    context_close(c);
    engine_close(e);
    assert_int_equal(w->n, WRITTEN);
}

/* The text, the selections and the masses that one rank has, within the rounding of sums (on GPUs to the bit, but for the
 * masses); and twice the same to the bit. */
static void ranks_write_the_same(void **state) {
    static writing one, some, again;
    const kern_range only = {100, 400};
    for (int restricted = 0; restricted < 2; restricted++) {
        write_some(&one, 1, restricted ? &only : NULL);
        for (int ranks = 2; ranks <= 4 && ranks <= most_ranks; ranks += 2) {
            write_some(&some, ranks, restricted ? &only : NULL);
            write_some(&again, ranks, restricted ? &only : NULL);
            assert_same_bytes(&some, &again, sizeof some);
            assert_same_bytes(some.token, one.token, sizeof one.token);
#ifdef TEST_ON_GPUS
            assert_same_bytes(some.position, one.position, sizeof one.position);
            assert_same_bytes(some.score, one.score, sizeof one.score);
#endif
            int differ = 0; /* a near-tie may fall the other way */
            for (int t = 0; t < WRITTEN; t++)
                for (int l = 0; l < TINY_LAYERS; l++) {
                    if (memcmp(some.position[t][l], one.position[t][l], sizeof one.position[t][l])) {
                        differ++;
                        continue;
                    }
                    for (int i = 0; i < 16; i++) {
                        assert_close(some.mass[t][l][i], (double)one.mass[t][l][i], 1e-4);
                        assert_close(some.score[t][l][i], (double)one.score[t][l][i], 1e-4);
                    }
                }
            assert_true(differ <= 2);
        }
    }
}

#ifdef TEST_ON_GPUS
static int greatest(const float *x, int n) {
    int best = 0;
    for (int i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

enum { ALIKE_READ = 600, ALIKE_FED = 20, ALIKE_WRITTEN = 24, ALIKE_VOCAB = 300 };

/* Reads, is asked, writes: the logits of every written token into all[ALIKE_WRITTEN][ALIKE_VOCAB]. */
static void read_and_write(const char *ck, const char *path, int ranks, engine_precision precision, int64_t want_cached, float *all) {
    engine *e = NULL;
    context *c = NULL;
    session *s = NULL;
    int64_t cached = -1;
    MUST(engine_open_bare(&e,
                          &(engine_options){.model_dir = ck,
                                            .backend = backend,
                                            .ranks = ranks,
                                            .threads = ranks,
                                            .chunk = ranks == 1 ? 90 : 600, /* enough to go by rows */
                                            .precision = precision,
                                            .hold_codes = true},
                          &err));
    const char *reason = NULL;
    MUST(context_open(&c, e, path, 0, &reason, &err));
    MUST(context_read(c, tokens, ALIKE_READ, NULL, NULL, &cached, &err));
    if (cached != want_cached) fail_msg("%d ranks: %d of %d were read before: %s", ranks, (int)cached, (int)want_cached, reason ? reason : "");
    MUST(session_open(&s, c, &err));
    MUST(session_feed(s, tokens + ALIKE_READ, ALIKE_FED, NULL, NULL, &err));
    for (int i = 0; i < ALIKE_WRITTEN; i++) {
        float *logits = all + (size_t)i * ALIKE_VOCAB;
        memcpy(logits, session_logits(s), ALIKE_VOCAB * sizeof *logits);
        int32_t next = greatest(logits, ALIKE_VOCAB);
        MUST(session_feed(s, &next, 1, NULL, NULL, &err));
    }
    session_close(s);
    context_close(c);
    engine_close(e);
}

/* 2, 4 and 8 GPUs have one GPU's bits: dense layers, experts, two shared ones, in fp32 and as FP8 codes; and open each
 * other's snapshots. */
static void ranks_are_alike(void **state) {
    const checkpoint_shape shape = {.vocab = ALIKE_VOCAB, .hidden = 128, .layers = 3, .dense_layers = 1, .heads = 32, .q_lora = 64,
                                    .kv_lora = 64, .nope = 16, .rope = 16, .v_dim = 128, .index_heads = 16, .index_dim = 32,
                                    .index_topk = 64, .dense_width = 4096, .expert_width = 64, .experts = 16, .shared_experts = 2,
                                    .experts_per_token = 4, .groups = 4, .groups_per_token = 2};
    const size_t size = (size_t)ALIKE_WRITTEN * ALIKE_VOCAB;
    ph_error wrong = {0};
    char *ck = make_folder(), path[4096];
    float *want = test_array((int64_t)size), *got = test_array((int64_t)size);
    if (checkpoint_write(ck, &shape, 5, 64 << 20, &wrong)) fail_msg("%s", wrong.text);
    snprintf(path, sizeof path, "%s/alike", dir);
    for (int way = 0; way < 2; way++) {
        engine_precision precision = way ? ENGINE_FAST : ENGINE_EXACT;
        unlink(path);
        for (int ranks = 1; ranks <= most_ranks && ranks <= 8; ranks *= 2) {
            read_and_write(ck, NULL, ranks, precision, 0, ranks == 1 ? want : got);
            if (ranks > 1) assert_same_bytes(got, want, size * sizeof *want);
            read_and_write(ck, path, ranks, precision, ranks > 1 ? ALIKE_READ : 0, got); /* the snapshot is one GPU's */
            assert_same_bytes(got, want, size * sizeof *want);
        }
    }
    unlink(path);
    remove_folder(ck);
    free(want), free(got);
}
#endif

/* Sums over more ranks have another order: what other ranks have read is read again, and it is said why. */
static void snapshots_of_other_ranks_are_refused(void **state) {
    char path[4096];
    snprintf(path, sizeof path, "%s/other", dir);
    for (int way = 0; way < 2; way++) {
        engine *first = open_ranks(way ? 2 : 1, 0, ENGINE_FAST),
               *second = open_ranks(way ? 1 : 2, 0, ENGINE_FAST);
        context_close(read_context(first, path, 300, NULL));
        const char *reason = NULL;
        context *c = NULL;
        MUST(context_open(&c, second, path, 0, &reason, &err));
        assert_non_null(reason);
        assert_non_null(strstr(reason, "number of ranks"));
        assert_int_equal(context_length(c), 0);
        context_close(c);
        engine_close(first);
        engine_close(second);
        unlink(path);
    }
}

/* A rank has its part of what is dealt out and no more. */
static void a_share_is_a_share(void **state) {
    if (most_ranks < 4) skip();
    engine *one = open_ranks(1, 0, ENGINE_FAST), *two = open_ranks(2, 0, ENGINE_FAST),
           *four = open_ranks(4, 0, ENGINE_FAST);
    double all = one->model.weights, half = two->model.weights, quarter = four->model.weights;
    assert_true(half < all && quarter < half);
    assert_true(all - half ==
                2 * (half - quarter)); /* what everybody has stays, the rest is halved each time */
    assert_int_equal(four->model.share.heads, 1);
    assert_int_equal(four->model.share.dense_width, 40);
    engine_close(one);
    engine_close(two);
    engine_close(four);
}

static void what_cannot_be_dealt_out_is_refused(void **state) {
    engine *e = NULL;
    ph_error err = {0};
    assert_int_equal(engine_open(&e, &(engine_options){.model_dir = model_dir, .backend = backend, .ranks = 3}, &err),
                     PH_UNSUPPORTED);
    if (most_ranks >= 3) /* otherwise there is no third GPU */
        assert_non_null(strstr(err.text, "4 attention heads cannot be dealt out evenly to 3 ranks"));
    assert_null(e);
    assert_int_equal(engine_open(&e, &(engine_options){.model_dir = model_dir, .backend = backend, .ranks = 17}, &err), PH_USAGE);
    assert_int_equal(
        engine_open(
            &e, &(engine_options){.model_dir = model_dir, .backend = backend, .ranks = 2, .fault = ENGINE_FAULT_ZERO_ATTENTION},
            &err),
        PH_UNSUPPORTED);
    model_config c = {.vocab = 10,
                      .layers = 2,
                      .heads = 8,
                      .dense_width = 12,
                      .expert_width = 6,
                      .experts = 6,
                      .shared_experts = 1};
    model_share s;
    c.moe_layer[1] = true;
    assert_int_equal(model_share_make(&s, &c, 1, 2, false, &err), PH_OK);
    assert_true(s.heads == 4 && s.first_head == 4 && s.experts == 3 && s.shared_width == 3);
    assert_int_equal(model_share_make(&s, &c, 0, 4, false, &err), PH_UNSUPPORTED);
    assert_non_null(strstr(err.text, "6 experts"));
    c.experts = 8;
    assert_int_equal(model_share_make(&s, &c, 0, 4, false, &err), PH_UNSUPPORTED);
    assert_non_null(strstr(err.text, "6 columns of the shared experts"));
    c.expert_width = 8;
    assert_int_equal(model_share_make(&s, &c, 3, 4, false, &err), PH_OK);
    assert_true(s.first_vocab == 9 && s.vocab == 1 &&
                s.vocab_slice == 3); /* the last one's slice is shorter */
    c.dense_width = 10;
    assert_int_equal(model_share_make(&s, &c, 0, 4, false, &err), PH_UNSUPPORTED);
    c.dense_width = 12;
    c.vocab = 3;
    assert_int_equal(model_share_make(&s, &c, 0, 4, false, &err), PH_UNSUPPORTED);
}

int main(void) {
#ifdef TEST_ON_GPUS
    kern_cuda_device found[1];
    int version, parts = one_gpu();
    ph_error err = {0};
    if (parts) return parts;
    if (kern_cuda_devices(found, 1, &most_ranks, NULL, &err) || kern_nccl_find(&version, &err) || most_ranks < 2) {
        printf("several GPUs are not tried: %s\n", err.text[0] ? err.text : "there is one only");
        return 0;
    }
#endif
    test_seed = 12345; /* the same text each time: a near-tie that falls the other way is no error, and would
                          be one here */
    model_dir = make_folder();
    dir = make_folder();
    if (!model_dir || !dir || tiny_model_write(model_dir, &(tiny_options){.seed = 7, .max_positions = 2048}))
        return 1;
    for (int i = 0; i < N; i++) tokens[i] = (int32_t)(test_random() % 256);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_reference),      cmocka_unit_test(released_form),
        cmocka_unit_test(restored_is_fresh),    cmocka_unit_test(sessions_stand_beside_each_other),
        cmocka_unit_test(ranks_write_the_same), cmocka_unit_test(snapshots_of_other_ranks_are_refused),
        cmocka_unit_test(a_share_is_a_share),   cmocka_unit_test(what_cannot_be_dealt_out_is_refused),
#ifdef TEST_ON_GPUS
        cmocka_unit_test(ranks_are_alike),
#endif
    };
    int code = cmocka_run_group_tests(tests, NULL, NULL);
    remove_folder(model_dir);
    remove_folder(dir);
    return code;
}
