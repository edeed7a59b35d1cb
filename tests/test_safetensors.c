/* test_safetensors.c - weights on disk: what is read, and lies that must be refused. */
#include "tests/engine_files.h"

#include "engine/safetensors.h"

static int read_bytes(const char *s, size_t len, ph_error *err) {
    tensor_files *f;
    int code = tensors_open_memory(&f, s, len, err);
    if (code && f) return PH_FAIL;
    tensors_close(f);
    return code;
}

static void corpus(void **state) {
    (void)state;
    static const expected_reason reasons[] = {
        {"short", "3 bytes are too few"},
        {"length-huge", "the header claims 9223372036854775808 bytes"},
        {"length-past-end", "the header claims 10000 bytes"},
        {"length-zero", "the header claims 0 bytes"},
        {"length-limit", "the header claims 100000001 bytes"},
        {"json", "the header is malformed"},
        {"array", "not a JSON object"},
        {"duplicate", "duplicate"},
        {"past-end", "tensor x ends at byte 32 of 24"},
        {"backwards", "not an ascending pair"},
        {"negative", "not an ascending pair"},
        {"negative-shape", "not a whole number"},
        {"overlap", "tensor y overlaps"},
        {"same-place", "overlaps"},
        {"size", "needs 96 bits and it has 8 bytes"},
        {"product", "overflows"},
        {"product-wraps-to-size", "overflows"},
        {"type", "unknown type F128"},
        {"no-shape", "missing or malformed"},
        {"offsets-three", "missing or malformed"},
        {"real-shape", "not a whole number"},
        {"nine-dimensions", "9 dimensions"},
        {"entry-number", "missing or malformed"},
        {"half-byte", "needs 12 bits"},
        {"offset-overflow", "malformed"},
    };
    check_corpus("safetensors", read_bytes, reasons, sizeof reasons / sizeof *reasons);
}

static char *corpus_file(const char *name, size_t *len) {
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/corpus/safetensors/%s.safetensors", SOURCE_DIR, name);
    char *s = slurp(path, len);
    assert_non_null(s);
    return s;
}

static void content(void **state) {
    (void)state;
    size_t len;
    tensor_files *f;
    ph_error err = {0};
    char *s = corpus_file("valid-two", &len);
    assert_int_equal(tensors_open_memory(&f, s, len, &err), 0);
    assert_int_equal(tensors_count(f), 2);
    const tensor *b = tensors_find(f, "b"), *a = tensors_find(f, "a");
    assert_non_null(b);
    assert_non_null(a);
    assert_null(tensors_find(f, "c"));
    assert_null(tensors_find(f, ""));
    assert_null(tensors_find(f, "__metadata__"));
    assert_ptr_equal(tensors_at(f, 0), a); /* by name */
    assert_null(tensors_at(f, 2));
    assert_int_equal(b->type, TENSOR_F32);
    assert_int_equal(b->n_dim, 2);
    assert_int_equal(b->shape[1], 2);
    assert_int_equal(b->bytes, 16);
    float expected[] = {1, 2, 3, 4};
    assert_memory_equal(b->data, expected, 16);
    assert_int_equal(a->type, TENSOR_BF16);
    tensors_close(f);
    free(s);
}

/* Whatever the address of the bytes, the data is aligned and the same. */
static void alignment(void **state) {
    (void)state;
    size_t len;
    char *s = corpus_file("valid-misaligned", &len);
    char *room = malloc(len + 16);
    assert_non_null(room);
    for (int shift = 0; shift < 8; shift++) {
        tensor_files *f;
        memcpy(room + shift, s, len);
        assert_int_equal(tensors_open_memory(&f, room + shift, len, NULL), 0);
        const tensor *x = tensors_find(f, "x");
        float expected[] = {1, 2, 3, 4, 5, 6};
        assert_int_equal((uintptr_t)x->data % 4, 0);
        assert_memory_equal(x->data, expected, sizeof expected);
        tensors_close(f);
    }
    free(room);
    free(s);
}

static void every_type(void **state) {
    (void)state;
    static const struct {
        const char *name;
        tensor_type type;
        int64_t n;
    } expected[] = {
        {"F64", TENSOR_F64, 1},       {"I64", TENSOR_I64, 1},
        {"U64", TENSOR_OTHER, 1},     {"F32", TENSOR_F32, 2},
        {"I32", TENSOR_I32, 2},       {"U32", TENSOR_OTHER, 2},
        {"BF16", TENSOR_BF16, 4},     {"F16", TENSOR_F16, 4},
        {"I16", TENSOR_OTHER, 4},     {"U16", TENSOR_OTHER, 4},
        {"I8", TENSOR_I8, 8},         {"U8", TENSOR_U8, 8},
        {"BOOL", TENSOR_OTHER, 8},    {"F8_E4M3", TENSOR_FP8_E4M3, 8},
        {"F8_E5M2", TENSOR_OTHER, 8}, {"F8_E8M0", TENSOR_OTHER, 8},
    };
    size_t len;
    tensor_files *f;
    char *s = corpus_file("valid-types", &len);
    assert_int_equal(tensors_open_memory(&f, s, len, NULL), 0);
    assert_int_equal(tensors_count(f), sizeof expected / sizeof *expected);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        const tensor *t = tensors_find(f, expected[i].name);
        assert_non_null(t);
        assert_int_equal(t->type, expected[i].type);
        assert_int_equal(t->shape[0], expected[i].n);
        assert_int_equal(t->bytes, 8);
    }
    tensors_close(f);
    free(s);
}

/* A file from scratch: `json` padded to 8, then n bytes of data counting up. */
static void write_file(const char *dir, const char *name, const char *json, size_t n) {
    char path[600];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    size_t header = (strlen(json) + 7) / 8 * 8;
    char *s = malloc(8 + header + n);
    assert_non_null(s);
    memset(s, ' ', 8 + header);
    for (int i = 0; i < 8; i++) s[i] = (char)((uint64_t)header >> (8 * i));
    memcpy(s + 8, json, strlen(json));
    for (size_t i = 0; i < n; i++) s[8 + header + i] = (char)i;
    spill(path, s, 8 + header + n);
    free(s);
}

static void write_index(const char *dir, const char *json) {
    char path[600];
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
    spill(path, json, strlen(json));
}

static void expect(const char *dir, int code, const char *reason) {
    tensor_files *f;
    ph_error err = {0};
    int got = tensors_open_dir(&f, dir, &err);
    if (got != code || (reason && !strstr(err.text, reason))) print_error("%d %s\n", got, err.text);
    assert_int_equal(got, code);
    if (reason) assert_non_null(strstr(err.text, reason));
    tensors_close(f);
}

static void folders(void **state) {
    (void)state;
    char dir[512], path[600];
    temporary_dir(dir, sizeof dir);
    expect(dir, PH_MODEL, "neither model.safetensors nor");
    write_file(dir, "model-1.safetensors", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
               4);
    write_file(dir, "model-2.safetensors", "{\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
               4);
    write_index(
        dir,
        "{\"metadata\":{},\"weight_map\":{\"a\":\"model-1.safetensors\",\"b\":\"model-2.safetensors\"}}");
    tensor_files *f;
    assert_int_equal(tensors_open_dir(&f, dir, NULL), 0);
    assert_int_equal(tensors_count(f), 2);
    assert_int_equal(((const uint8_t *)tensors_find(f, "b")->data)[0], 2);
    tensors_close(f);

    write_index(dir, "{\"weight_map\":{\"a\":\"model-1.safetensors\",\"c\":\"model-1.safetensors\"}}");
    expect(dir, PH_MODEL, "tensor c is not in the shard");
    write_index(dir, "{\"weight_map\":{\"a\":\"model-3.safetensors\"}}");
    expect(dir, PH_MODEL, "shard model-3.safetensors is missing");
    static const char *const names[] = {
        "../model-1.safetensors", "/etc/passwd", "..", "", "a\\\\b", ".hidden"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char json[200];
        snprintf(json, sizeof json, "{\"weight_map\":{\"a\":\"%s\"}}", names[i]);
        write_index(dir, json);
        expect(dir, PH_MODEL, "no plain file name");
    }
    write_index(dir, "{\"weight_map\":{\"a\":3}}");
    expect(dir, PH_MODEL, "no plain file name");
    write_index(dir, "{\"weight_map\":{}}");
    expect(dir, PH_MODEL, "no weight_map");
    write_index(dir, "[]");
    expect(dir, PH_MODEL, "not a JSON object");
    write_index(dir, "{");
    expect(dir, PH_MODEL, "line 1");

    write_file(dir, "model-2.safetensors", "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
               4);
    write_index(dir, "{\"weight_map\":{\"a\":\"model-1.safetensors\",\"b\":\"model-2.safetensors\"}}");
    expect(dir, PH_MODEL, "tensor a stands in two shards");

    /* One file wins over an index, and a broken one is not passed over for it. */
    write_file(dir, "model.safetensors", "{\"z\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
               4);
    assert_int_equal(tensors_open_dir(&f, dir, NULL), 0);
    assert_non_null(tensors_find(f, "z"));
    tensors_close(f);
    write_file(dir, "model.safetensors", "{\"z\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
               3);
    expect(dir, PH_MODEL, "ends at byte 4 of 3");
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    spill(path, "", 0);
    expect(dir, PH_MODEL, "too few");
    assert_int_equal(tensors_open_file(&f, "/nonexistent/model.safetensors", NULL), PH_NOT_FOUND);
    assert_null(f);

    static const char *const made[] = {"model.safetensors", "model-1.safetensors", "model-2.safetensors",
                                       "model.safetensors.index.json"};
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, made[i]);
        unlink(path);
    }
    rmdir(dir);
}

static void many_tensors(void **state) {
    (void)state;
    enum { N = 90000 };
    char *json = malloc(N * 80 + 2), dir[512], path[600];
    assert_non_null(json);
    size_t at = 0;
    json[at++] = '{';
    for (int i = 0; i < N; i++)
        at +=
            (size_t)sprintf(json + at, "%s\"t%d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}",
                            i ? "," : "", i * 7919 % N, i, i + 1);
    strcpy(json + at, "}");
    temporary_dir(dir, sizeof dir);
    write_file(dir, "model.safetensors", json, N);
    free(json);
    tensor_files *f;
    assert_int_equal(tensors_open_dir(&f, dir, NULL), 0);
    assert_int_equal(tensors_count(f), N);
    for (int i = 0; i < N; i++) {
        char name[32];
        snprintf(name, sizeof name, "t%d", i * 7919 % N);
        const tensor *t = tensors_find(f, name);
        assert_non_null(t);
        if (*(const uint8_t *)t->data != (uint8_t)i) fail_msg("%s", name);
    }
    tensors_close(f);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    unlink(path);
    rmdir(dir);
}

static void reference_folder(void **state) {
    (void)state;
    if (access(GOLDEN_DIR, R_OK)) skip();
    tensor_files *f;
    assert_int_equal(tensors_open_file(&f, GOLDEN_DIR "/v32-yarn/expected.safetensors", NULL), 0);
    const tensor *ids = tensors_find(f, "input_ids");
    assert_non_null(ids);
    assert_int_equal(ids->type, TENSOR_I32);
    assert_int_equal(ids->shape[0], 160);
    tensors_close(f);
    assert_int_equal(tensors_open_dir(&f, GOLDEN_DIR "/glm-dsa", NULL), 0);
    const tensor *norm = tensors_find(f, "model.norm.weight");
    assert_non_null(norm);
    assert_int_equal(norm->bytes, 64 * 4);
    tensors_close(f);
}

#if FAILING_ALLOCATOR
static int read_two(ph_error *err) {
    static char *s;
    static size_t len;
    if (!s) {
        char *aligned = corpus_file("valid-misaligned", &len);
        s = malloc(len + 1); /* so that the data is copied */
        assert_non_null(s);
        memcpy(s + 1, aligned, len);
        free(aligned);
    }
    return read_bytes(s + 1, len, err);
}

static void out_of_memory(void **state) {
    (void)state;
    check_every_allocation(read_two);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(corpus),
        cmocka_unit_test(content),
        cmocka_unit_test(alignment),
        cmocka_unit_test(every_type),
        cmocka_unit_test(folders),
        cmocka_unit_test(many_tensors),
        cmocka_unit_test(reference_folder),
#if FAILING_ALLOCATOR
        cmocka_unit_test(out_of_memory),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
