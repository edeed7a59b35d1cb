/* test_config.c - config.json in its forms, and what must be refused. */
#include "tests/engine_files.h"

#include "engine/config.h"

#include <math.h>

static int parse(const char *s, size_t len, ph_error *err) {
    model_config c;
    return config_parse(&c, s, len, err);
}

static void load_corpus(model_config *c, const char *name) {
    char path[1024];
    size_t len;
    ph_error err = {0};
    snprintf(path, sizeof path, "%s/tests/corpus/config/%s", SOURCE_DIR, name);
    char *s = slurp(path, &len);
    assert_non_null(s);
    int code = config_parse(c, s, len, &err);
    free(s);
    assert_string_equal(err.text, "");
    assert_int_equal(code, 0);
}

static void corpus(void **state) {
    (void)state;
    static const expected_reason reasons[] = {
        {"model-type", "\"llama\" is not supported"},
        {"no-model-type", "model_type is missing"},
        {"no-hidden", "hidden_size is missing"},
        {"negative-hidden", "hidden_size is -64"},
        {"huge-hidden", "hidden_size is 1099511627776"},
        {"text-hidden", "hidden_size is not a whole number"},
        {"half-hidden", "hidden_size is not a whole number"},
        {"layers-zero", "num_hidden_layers is 0"},
        {"layers-many", "num_hidden_layers is 513"},
        {"vocab-huge", "vocab_size is 33554432"},
        {"wide-product", "heads times query width"},
        {"rope-odd", "qk_rope_head_dim 15 is odd"},
        {"rope-wider-than-index", "wider than index_head_dim"},
        {"no-q-lora", "q_lora_rank is missing"},
        {"no-theta", "rope_theta is missing"},
        {"rope-type", "rope_type \"llama3\""},
        {"yarn-no-factor", "factor is missing"},
        {"yarn-mscale", "magnitude"},
        {"yarn-no-mscale", "magnitude"},
        {"yarn-betas", "beta_fast is below beta_slow"},
        {"rope-not-object", "rope_parameters is not an object"},
        {"rope-factor-no-type", "no rope_type"},
        {"indexer-types-short", "indexer_types does not list"},
        {"indexer-types-word", "indexer_types[5]"},
        {"indexer-first-shared", "layer 0 shares"},
        {"pattern-letter", "index_topk_pattern"},
        {"mlp-types-short", "mlp_layer_types does not list"},
        {"mlp-types-word", "mlp_layer_types[1]"},
        {"moe-layer-freq", "moe_layer_freq"},
        {"groups-uneven", "not a multiple of n_group 3"},
        {"groups-single", "fewer than two experts"},
        {"groups-chosen", "topk_group 5"},
        {"experts-chosen", "num_experts_per_tok 5 is more than the 4"},
        {"scoring", "scoring_func \"softmax\""},
        {"topk-method", "topk_method \"greedy\""},
        {"attention-bias", "attention_bias"},
        {"activation", "hidden_act \"gelu\""},
        {"rope-layout", "rope_interleave"},
        {"quant-method", "\"awq\" is not supported"},
        {"quant-block", "weight_block_size"},
        {"quant-no-block", "weight_block_size"},
        {"eos-outside", "eos_token_id"},
        {"eos-many", "more than 8"},
        {"bos-outside", "bos_token_id is 99999"},
        {"empty", "config.json: line"},
        {"array", "not a JSON object"},
        {"cut", "line"},
        {"duplicate", "duplicate"},
        {"deep", "depth"},
        {"utf8", "unable to decode byte 0xff"},
        {"nan", "line 1"},
        {"real-overflow", "overflow"},
    };
    check_corpus("config", parse, reasons, sizeof reasons / sizeof *reasons);
}

static void released_form(void **state) {
    (void)state;
    model_config c;
    load_corpus(&c, "valid-v32-release.json");
    assert_int_equal(c.family, FAMILY_DEEPSEEK_V32);
    assert_int_equal(c.vocab, 129280);
    assert_int_equal(c.hidden, 7168);
    assert_int_equal(c.layers, 61);
    assert_int_equal(c.heads, 128);
    assert_int_equal(c.q_lora, 1536);
    assert_int_equal(c.kv_lora, 512);
    assert_int_equal(c.nope, 128);
    assert_int_equal(c.rope, 64);
    assert_int_equal(c.v_dim, 128);
    assert_int_equal(c.index_heads, 64);
    assert_int_equal(c.index_dim, 128);
    assert_int_equal(c.index_topk, 2048);
    assert_int_equal(c.index_rope, KERN_ROPE_HALF_SPLIT);
    assert_int_equal(c.dense_width, 18432);
    assert_int_equal(c.dense_layers, 3);
    assert_false(c.moe_layer[2]);
    assert_true(c.moe_layer[3] && c.moe_layer[60]);
    assert_int_equal(c.expert_width, 2048);
    assert_int_equal(c.experts, 256);
    assert_int_equal(c.shared_experts, 1);
    assert_int_equal(c.experts_per_token, 8);
    assert_int_equal(c.groups, 8);
    assert_int_equal(c.groups_per_token, 4);
    assert_true(c.route_scale == 2.5f && c.route_normalise);
    assert_true(c.rms_eps == 1e-6f);
    assert_true(c.yarn && c.yarn_factor == 40 && c.yarn_original == 4096 && c.rope_theta == 1e4);
    assert_int_equal(c.max_positions, 163840);
    assert_false(c.tied_embeddings);
    assert_int_equal(c.bos, 0);
    assert_int_equal(c.n_eos, 1);
    assert_int_equal(c.eos[0], 1);
    assert_int_equal(c.fp8_block, 128);
    assert_true(fabs(c.softmax_scale - 0.1352337789) < 1e-8);
    for (int i = 0; i < c.layers; i++) assert_true(c.index_full[i]);

    /* Pairs below 10 keep their speed, pairs from 23 on turn 40 times slower, a ramp between. */
    float f[32];
    config_rope_freq(&c, f);
    for (int i = 0; i < 32; i++) {
        double plain = pow(1e4, -i / 32.0), keep = i <= 10 ? 1 : i >= 23 ? 0 : 1 - (i - 10) / 13.0;
        double expected = plain / 40 * (1 - keep) + plain * keep;
        assert_true(fabs(f[i] - expected) <= 1e-6 * expected);
    }
}

static void both_forms_agree(void **state) {
    (void)state;
    model_config a, b;
    load_corpus(&a, "valid-v32-transformers5.json");
    load_corpus(&b, "valid-whole-reals.json");
    assert_memory_equal(&a, &b, sizeof a);
    assert_true(a.yarn && a.yarn_mscale_all_dim == 1);
    assert_int_equal(a.fp8_block, 0);
    assert_true(fabs(a.softmax_scale - pow(48, -0.5) * pow(0.1 * log(40) + 1, 2)) < 1e-7);
    assert_int_equal(a.dense_layers, 1);
    assert_true(!a.moe_layer[0] && a.moe_layer[1] && a.moe_layer[3]);
}

static void glm(void **state) {
    (void)state;
    model_config c;
    float f[8];
    load_corpus(&c, "valid-glm.json");
    assert_int_equal(c.family, FAMILY_GLM_MOE_DSA);
    assert_int_equal(c.index_rope, KERN_ROPE_INTERLEAVED);
    assert_false(c.yarn);
    assert_true(c.rms_eps == 1e-5f);
    assert_true(fabs(c.softmax_scale - 1 / sqrt(48)) < 1e-7);
    config_rope_freq(&c, f);
    for (int i = 0; i < 8; i++) assert_true(fabs(f[i] - pow(1e6, -i / 8.0)) <= 1e-6 * f[i]);

    load_corpus(&c, "valid-glm-period.json"); /* 5.2: 0 1 2, then every fourth */
    for (int i = 0; i < 10; i++) assert_int_equal(c.index_full[i], i <= 2 || i == 6);
    assert_int_equal(c.groups, 1);
    assert_int_equal(c.groups_per_token, 1);
    assert_int_equal(c.n_eos, 3);
    assert_int_equal(c.eos[2], 3);
    assert_true(!c.moe_layer[0] && c.moe_layer[1]);

    load_corpus(&c, "valid-glm-pattern.json");
    for (int i = 0; i < 10; i++) assert_int_equal(c.index_full[i], i % 3 == 0);

    load_corpus(&c, "valid-glm-shared-types.json");
    for (int i = 0; i < 6; i++) assert_int_equal(c.index_full[i], i % 2 == 0);
    assert_int_equal(c.index_rope, KERN_ROPE_HALF_SPLIT);
}

static void dense_only(void **state) {
    (void)state;
    model_config c;
    load_corpus(&c, "valid-dense-only.json");
    assert_int_equal(c.experts, 0);
    assert_int_equal(c.shared_experts, 0);
    assert_int_equal(c.dense_layers, 4);
    assert_int_equal(c.bos, -1);
    assert_int_equal(c.n_eos, 0);
}

static void reference_folders(void **state) {
    (void)state;
    static const char *const names[] = {"v32-yarn",     "v32-plain",     "glm-dsa",
                                        "v32-yarn-16h", "v32-plain-16h", "glm-dsa-16h"};
    if (access(GOLDEN_DIR, R_OK)) skip();
    for (size_t i = 0; i < 6; i++) {
        char dir[1024];
        model_config c;
        ph_error err = {0};
        snprintf(dir, sizeof dir, "%s/%s", GOLDEN_DIR, names[i]);
        assert_int_equal(config_load(&c, dir, &err), 0);
        assert_string_equal(err.text, "");
        assert_int_equal(c.family, i % 3 == 2 ? FAMILY_GLM_MOE_DSA : FAMILY_DEEPSEEK_V32);
        assert_int_equal(c.yarn, i % 3 == 0);
        assert_int_equal(c.tied_embeddings, i % 3 == 1);
        assert_int_equal(c.index_heads, i < 3 ? 4 : 16);
        assert_int_equal(c.n_eos, 1);
    }
}

static void folder(void **state) {
    (void)state;
    char dir[512], path[600];
    model_config c;
    ph_error err = {0};
    size_t len;
    temporary_dir(dir, sizeof dir);
    assert_int_equal(config_load(&c, dir, &err), PH_MODEL);
    assert_non_null(strstr(err.text, "no config.json"));

    snprintf(path, sizeof path, "%s/tests/corpus/config/valid-glm-period.json", SOURCE_DIR);
    char *s = slurp(path, &len);
    assert_non_null(s);
    snprintf(path, sizeof path, "%s/config.json", dir);
    spill(path, s, len);
    free(s);
    char generation[600];
    snprintf(generation, sizeof generation, "%s/generation_config.json", dir);
    static const char more[] = "{\"eos_token_id\": [2, 7], \"temperature\": 1.0}";
    spill(generation, more, sizeof more - 1);
    assert_int_equal(config_load(&c, dir, &err), 0);
    assert_int_equal(c.n_eos, 4); /* 1 2 3 of the one, 7 of the other */
    assert_int_equal(c.eos[3], 7);
    static const char outside[] = "{\"eos_token_id\": 512}";
    spill(generation, outside, sizeof outside - 1);
    assert_int_equal(config_load(&c, dir, &err), PH_MODEL);
    assert_non_null(strstr(err.text, "generation_config.json"));
    unlink(generation);
    unlink(path);

    assert_int_equal(mkdir(path, 0700), 0); /* a folder in the place of the file */
    assert_int_equal(config_load(&c, dir, &err), PH_MODEL);
    rmdir(path);
    assert_int_equal(mkfifo(path, 0600), 0); /* must not hang */
    assert_int_equal(config_load(&c, dir, &err), PH_MODEL);
    unlink(path);
    rmdir(dir);
    assert_int_equal(config_load(&c, dir, NULL), PH_MODEL);
}

static void thinking_mode(void **state) {
    (void)state;
    static const struct {
        const char *json;
        int code;
        bool thinks;
    } cases[] = {
        {"{\"do_sample\": false}", 0, false},
        {"{\"thinking_mode\": null}", 0, false},
        {"{\"thinking_mode\": \"chat\"}", 0, false},
        {"{\"thinking_mode\": \"thinking\"}", 0, true},
        {"{\"thinking_mode\": \"Thinking\"}", PH_MODEL, false},
        {"{\"thinking_mode\": true}", PH_MODEL, false},
        {"[]", PH_MODEL, false},
    };
    ph_error err = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool thinks = true;
        assert_int_equal(config_parse_thinking(&thinks, cases[i].json, strlen(cases[i].json), &err), cases[i].code);
        assert_int_equal(thinks, cases[i].thinks);
        if (cases[i].code) assert_non_null(strstr(err.text, "generation_config.json"));
    }
    char dir[] = "/tmp/pharos-config-XXXXXX", path[600];
    bool thinks = true;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(config_load_thinking(&thinks, dir, &err), 0); /* no file, no wish */
    assert_false(thinks);
    snprintf(path, sizeof path, "%s/generation_config.json", dir);
    spill(path, cases[3].json, strlen(cases[3].json));
    assert_int_equal(config_load_thinking(&thinks, dir, &err), 0);
    assert_true(thinks);
    spill(path, cases[4].json, strlen(cases[4].json));
    assert_int_equal(config_load_thinking(&thinks, dir, &err), PH_MODEL);
    assert_non_null(strstr(err.text, path));
    unlink(path);
    rmdir(dir);
}

#if FAILING_ALLOCATOR
static int parse_release(ph_error *err) {
    static char *s;
    static size_t len;
    if (!s) s = slurp(SOURCE_DIR "/tests/corpus/config/valid-v32-release.json", &len);
    return parse(s, len, err);
}

static void out_of_memory(void **state) {
    (void)state;
    check_every_allocation(parse_release);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(corpus),
        cmocka_unit_test(released_form),
        cmocka_unit_test(both_forms_agree),
        cmocka_unit_test(glm),
        cmocka_unit_test(dense_only),
        cmocka_unit_test(reference_folders),
        cmocka_unit_test(folder),
        cmocka_unit_test(thinking_mode),
#if FAILING_ALLOCATOR
        cmocka_unit_test(out_of_memory),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
