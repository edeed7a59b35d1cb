/* test_cuda_v32.c - the engine with attention and indexer of V3.2's dimensions, which a GPU of compute capability 9.0 has
 * kernels of its own for: near the exact pass, the same bits however a text is read, and steps as graphs. */
#include "engine/engine_internal.h"
#include "tests/checkpoint.h"
#include "tests/program.h"
#include "tests/test_cuda.h"
#include "tests/tiny_model.h"

#define MUST(call)                                                                                           \
    do {                                                                                                     \
        ph_error err = {0};                                                                                  \
        if ((call) != PH_OK) fail_msg("%s: %s", #call, err.text);                                            \
    } while (0)

enum { MOST = 400, ROOM = 512 };
static checkpoint_shape shape;
static char *model_dir;
static int32_t tokens[MOST];
static int length = 300; /* of the context */
static bool fp8;         /* latents */

static engine *open_engine(int chunk, engine_precision precision) {
    engine *e = NULL;
    MUST(engine_open_bare(
        &e, &(engine_options){.model_dir = model_dir, .backend = "cuda", .chunk = chunk, .precision = precision, .fp8_latents = fp8 && precision == ENGINE_FAST},
        &err));
    return e;
}

/* Logits after `length` tokens read and `fed` more, in calls of `each`. */
static float *logits_of(engine *e, int fed, int each) {
    context *c = NULL;
    session *s = NULL;
    MUST(context_open(&c, e, NULL, ROOM, NULL, &err));
    MUST(context_read(c, tokens, length, NULL, NULL, NULL, &err));
    MUST(session_open(&s, c, &err));
    for (int at = 0; at < fed; at += each)
        MUST(session_feed(s, tokens + length + at, each < fed - at ? each : fed - at, NULL, NULL, &err));
    int n_layers = 0;
    const trace_layer *trace = session_trace(s, &n_layers);
    for (int l = 0; l < n_layers; l++) {
        double sum = 0;
        for (int i = 0; i < trace[l].count; i++) sum += (double)trace[l].mass[i];
        assert_close((float)sum, 1, 1e-3);
    }
    assert_int_equal(n_layers, shape.layers);
    float *out = test_array(shape.vocab);
    memcpy(out, session_logits(s), (size_t)shape.vocab * sizeof *out);
    session_close(s);
    context_close(c);
    return out;
}

enum { NEAR_TOKENS = 12 };

/* Logits after each of NEAR_TOKENS tokens fed one by one. */
static float *logits_each(engine *e) {
    context *c = NULL;
    session *s = NULL;
    float *out = test_array(NEAR_TOKENS * shape.vocab);
    MUST(context_open(&c, e, NULL, ROOM, NULL, &err));
    MUST(context_read(c, tokens, length, NULL, NULL, NULL, &err));
    MUST(session_open(&s, c, &err));
    for (int t = 0; t < NEAR_TOKENS; t++) {
        MUST(session_feed(s, tokens + length + t, 1, NULL, NULL, &err));
        memcpy(out + t * shape.vocab, session_logits(s), (size_t)shape.vocab * sizeof *out);
    }
    session_close(s);
    context_close(c);
    return out;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Everything selected: rounding is all that differs. It may choose other experts for a token that stands between two (one of
 * five, on the processor too), so a third of the tokens have to be near. */
static void near_the_exact_pass(void **state) {
    (void)state;
    int all = length;
    length = shape.index_topk - NEAR_TOKENS - 2;
    engine *exact = open_engine(0, ENGINE_EXACT), *fast = open_engine(0, ENGINE_FAST);
    if (exact->kern->index_type(exact->kern, 64, 128) == KERN_FP8) {
        assert_int_equal(fast->keys.type, KERN_FP8);
        assert_memory_not_equal(exact->key, fast->key, sizeof exact->key);
    }
    if (fp8) assert_int_equal(fast->latents.type, KERN_FP8);
    assert_int_equal(engine_has_dense(fast), !fp8);
    float *want = logits_each(exact), *got = logits_each(fast);
    double apart[NEAR_TOKENS];
    for (int t = 0; t < NEAR_TOKENS; t++) {
        double error = 0, size = 0;
        for (int i = t * shape.vocab; i < (t + 1) * shape.vocab; i++) {
            error += pow((double)got[i] - (double)want[i], 2);
            size += pow((double)want[i], 2);
        }
        apart[t] = sqrt(error / size);
    }
    qsort(apart, NEAR_TOKENS, sizeof *apart, ascending);
    print_message("relative errors %.2g to %.2g, a third within %.2g\n", apart[0], apart[NEAR_TOKENS - 1],
                  apart[NEAR_TOKENS / 3 - 1]);
    assert_true(apart[NEAR_TOKENS / 3 - 1] < (fp8 ? 0.1 : 0.03));
    free(want), free(got);
    engine_close(exact);
    engine_close(fast);
    length = all;
}

/* Chunks of any size, questions in pieces of any size, steps kept or not: the same bits. */
static void the_same_bits_in_any_company(void **state) {
    (void)state;
    static const int chunks[] = {0, 37, 64}, each[] = {12, 1, 5};
    const int fed = test_small() ? 5 : 12; /* a kept step: seen, recorded, done again */
    float *want = NULL;
    for (size_t i = 0; i < (test_small() ? 2 : sizeof chunks / sizeof *chunks); i++)
        for (int kept = 0; kept < 2; kept++) {
            engine *e = open_engine(chunks[i], ENGINE_FAST);
            if (!kept) e->kern->step_begin = NULL;
            float *got = logits_of(e, fed, each[i]);
            if (want) {
                assert_same_bytes(got, want, (size_t)shape.vocab * 4);
                free(got);
            } else
                want = got;
            engine_close(e);
        }
    free(want);
}

/* What a file holds is what was read. */
static void restored_is_fresh(void **state) {
    (void)state;
    char path[4096];
    snprintf(path, sizeof path, "%s/snapshot", model_dir);
    float *logits[2];
    for (int i = 0; i < 2; i++) {
        engine *e = open_engine(0, ENGINE_FAST);
        context *c = NULL;
        session *s = NULL;
        int64_t cached = 0;
        MUST(context_open(&c, e, path, ROOM, NULL, &err));
        MUST(context_read(c, tokens, length, NULL, NULL, &cached, &err));
        assert_int_equal(cached, i ? length : 0);
        MUST(session_open(&s, c, &err));
        MUST(session_feed(s, tokens + length, 3, NULL, NULL, &err));
        logits[i] = test_array(shape.vocab);
        memcpy(logits[i], session_logits(s), (size_t)shape.vocab * 4);
        session_close(s);
        context_close(c);
        engine_close(e);
    }
    assert_same_bytes(logits[0], logits[1], (size_t)shape.vocab * 4);
    free(logits[0]), free(logits[1]);
}

int main(void) {
    int code = test_cuda_begin();
    if (code) return code;
    shape = checkpoint_small();
    shape.hidden = 256;
    shape.heads = 64;
    shape.kv_lora = 512;
    shape.rope = 64;
    shape.index_heads = 64;
    shape.index_dim = 128;
    shape.index_topk = 96;
    if (test_small()) {
        shape.layers = 2;
        shape.index_topk = 24;
        length = 40;
    }
    ph_error err = {0};
    model_dir = make_folder();
    if (!model_dir || checkpoint_write(model_dir, &shape, 5, 1 << 22, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    for (int i = 0; i < MOST; i++) tokens[i] = test_between(0, shape.vocab - 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(near_the_exact_pass),
        cmocka_unit_test(the_same_bits_in_any_company),
        cmocka_unit_test(restored_is_fresh),
    };
    code = cmocka_run_group_tests_name("bf16 latents", tests, NULL, NULL);
    fp8 = gpu->fp8_latents(gpu, shape.heads, shape.kv_lora, shape.rope);
    if (fp8) code += cmocka_run_group_tests_name("FP8 latents", tests, NULL, NULL);
    remove_folder(model_dir);
    test_cuda_end();
    return code;
}
