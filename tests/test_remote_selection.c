/* test_remote_selection.c - what an SGLang tells of its selection becomes a trace, or is refused. */
#include "tests/test_remote.h"

#include "engine/remote_selection.h"

/* ---- base64 of a selection ---- */

static char *base64_of(const int32_t *values, size_t n) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *in = (const uint8_t *)values;
    size_t bytes = n * 4, at = 0;
    char *out = malloc(bytes * 2 + 8);
    for (size_t i = 0; i < bytes; i += 3) {
        uint32_t v = (uint32_t)in[i] << 16 | (i + 1 < bytes ? (uint32_t)in[i + 1] << 8 : 0) |
                     (i + 2 < bytes ? in[i + 2] : 0);
        out[at++] = digits[v >> 18];
        out[at++] = digits[v >> 12 & 63];
        out[at++] = i + 1 < bytes ? digits[v >> 6 & 63] : '=';
        out[at++] = i + 2 < bytes ? digits[v & 63] : '=';
    }
    out[at] = 0;
    return out;
}

static void selection_decodes(void **state) {
    (void)state;
    enum { ROWS = 5, LAYERS = 2, K = 3 };
    int32_t values[ROWS * LAYERS * K];
    for (int r = 0; r < ROWS; r++)
        for (int l = 0; l < LAYERS; l++)
            for (int i = 0; i < K; i++) values[(r * LAYERS + l) * K + i] = i <= r ? (r - i) : -1;
    for (size_t keep = K; keep <= ROWS * LAYERS * K + 1; keep++) {
        for (size_t piece = 1; piece < 20; piece += 3) {
            selection s;
            char *text = base64_of(values, ROWS * LAYERS * K);
            int layers = 0, count;
            int32_t position[K];
            assert_int_equal(selection_open(&s, keep, NULL), 0);
            for (size_t at = 0, n = strlen(text); at < n; at += piece)
                selection_put(&s, text + at, piece < n - at ? piece : n - at);
            assert_int_equal(selection_check(&s, ROWS, K, 8, &layers, NULL), 0);
            assert_int_equal(layers, LAYERS);
            for (int r = 0; r < ROWS; r++)
                for (int l = 0; l < LAYERS; l++) {
                    size_t behind = (size_t)((ROWS - r) * LAYERS - l) * K;
                    int code = selection_row(&s, r, l, layers, K, position, &count, NULL);
                    assert_int_equal(code, behind > keep ? PH_NOT_FOUND : PH_OK);
                    if (code) continue;
                    assert_int_equal(count, r + 1 < K ? r + 1 : K);
                    for (int i = 0; i < count; i++) assert_int_equal(position[i], r - count + 1 + i);
                }
            assert_int_equal(selection_row(&s, ROWS, 0, layers, K, position, &count, NULL), PH_NOT_FOUND);
            selection_free(&s);
            free(text);
        }
    }
}

static void selection_refuses(void **state) {
    (void)state;
    static const struct {
        const char *base64;
        int64_t rows;
        int k;
    } cases[] = {{"AAAA", 1, 1},
                 {"AAAAAA=", 1, 1},
                 {"AAAAAA==AAAA", 1, 1},
                 {"AAAAA===", 1, 1},
                 {"AAAAAB==", 1, 1},
                 {"AAAA AA==", 1, 1},
                 {"AAAAAA==", 2, 1},
                 {"AAAAAA==", 1, 2},
                 {"AAAAAAAAAAA=", 1, 1},
                 {"", 1, 1},
                 {"AAAAAA-_", 1, 1},
                 {"AA==", 1, 1},
                 {"AAAAAA==", 0, 1},
                 {"AAAAAA==", 1, 0},
                 {"=", 1, 1},
                 {"AAAAAA==", -1, 1},
                 {"AAAAAA==", INT64_MAX, INT32_MAX}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        selection s;
        int layers;
        ph_error err = {0};
        assert_int_equal(selection_open(&s, 64, NULL), 0);
        selection_put(&s, cases[i].base64, strlen(cases[i].base64));
        if (selection_check(&s, cases[i].rows, cases[i].k, 1, &layers, &err) != PH_CORRUPT)
            fail_msg("case %zu is taken", i);
        assert_true(err.text[0]);
        selection_free(&s);
    }
    /* Positions beyond the row, below -1, and twice. */
    static const int32_t bad[][2] = {{3, 0}, {-2, 0}, {1, 1}, {INT32_MAX, 0}, {INT32_MIN, 1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int32_t values[] = {0, -1, 0, 1, bad[i][0], bad[i][1]}, position[2];
        char *text = base64_of(values, 6);
        selection s;
        int layers, count;
        assert_int_equal(selection_open(&s, 6, NULL), 0);
        selection_put(&s, text, strlen(text));
        assert_int_equal(selection_check(&s, 3, 2, 4, &layers, NULL), 0);
        assert_int_equal(selection_row(&s, 1, 0, 1, 2, position, &count, NULL), 0);
        assert_int_equal(selection_row(&s, 2, 0, 1, 2, position, &count, NULL), PH_CORRUPT);
        selection_free(&s);
        free(text);
    }
}

/* ---- SGLang's selection ---- */

enum { LAYERS = TINY_LAYERS };

/* An exchange in SGLang's form. The prompt of n tokens and the answer "hi" and EOS; a row for each but the
 * last; row r selects the k positions before it, with `odd` put into the row that predicts 'i'. */
typedef struct exchange {
    char *body;
    int k;
} exchange;

static int topk_of(const world *w) {
    size_t n;
    char path[512];
    snprintf(path, sizeof path, "%s/config.json", w->dir);
    char *text = read_whole(path, &n);
    json_t *c = parse_json(text);
    int k = (int)json_integer_value(json_object_get(c, "index_topk"));
    assert_int_equal(json_integer_value(json_object_get(c, "num_hidden_layers")), LAYERS);
    json_decref(c);
    free(text);
    return k;
}

typedef enum fault { SOUND, FUTURE, TWICE, SHORT_BY_A_ROW, BAD_BASE64, NONE_SENT, NOT_CLOSED } fault;

static char *exchange_of(const world *w, int n, bool cumulative, fault f) {
    int k = topk_of(w), rows = n + 2;
    size_t values = (size_t)rows * LAYERS * (size_t)k;
    int32_t *v = malloc(values * sizeof *v);
    for (int r = 0; r < rows; r++)
        for (int l = 0; l < LAYERS; l++)
            for (int i = 0; i < k; i++)
                v[((size_t)r * LAYERS + (size_t)l) * (size_t)k + (size_t)i] = r - i - l >= 0 ? r - i - l : -1;
    int32_t *one = v + ((size_t)n * LAYERS) * (size_t)k; /* row n, layer 0: predicts 'i' */
    if (f == FUTURE) one[0] = n + 1;
    if (f == TWICE) one[0] = one[1];
    if (f == SHORT_BY_A_ROW) values -= (size_t)LAYERS * (size_t)k;
    char *text = base64_of(v, values), *body = NULL;
    if (f == BAD_BASE64) text[5] = '*';
    int len = asprintf(&body,
                       "data: "
                       "{\"text\":\"h\",\"output_ids\":[%d],\"meta_info\":{\"id\":\"x\",\"finish_reason\":"
                       "null,\"prompt_tokens\":%d,"
                       "\"completion_tokens\":1,\"cached_tokens\":%d}}\n\n"
                       "data: "
                       "{\"text\":\"hi\",\"output_ids\":[%s%d,%d],\"meta_info\":{\"finish_reason\":{\"type\":"
                       "\"stop\",\"matched\":%d},"
                       "\"prompt_tokens\":%d,\"completion_tokens\":3,\"cached_tokens\":%d%s%s%s}}\n\n%s",
                       'h', n, n - 2, cumulative ? "104," : "", 'i', TINY_EOS, TINY_EOS, n, n - 2,
                       f == NONE_SENT ? "" : ",\"indexer_topk\":\"", f == NONE_SENT ? "" : text,
                       f == NONE_SENT ? "" : "\"", f == NOT_CLOSED ? "" : DONE);
    assert_true(len > 0);
    free(text);
    free(v);
    return body;
}

static const trace_entry *kept(const world *w, int token, int layer) {
    return w->trace.entries + ((size_t)token * LAYERS + (size_t)layer) * (size_t)w->trace.keep;
}

static bool keeps(const world *w, int token, int layer, int position) {
    for (int i = 0; i < w->trace.keep; i++)
        if (kept(w, token, layer)[i].position == position) return true;
    return false;
}

static void selection_becomes_a_trace(void **state) {
    world *w = *state;
    /* BOS USER "One. Two." + "?" ASSISTANT </think> = 14 tokens, and 3 of the system text behind BOS. */
    enum { OURS = 2 + 9 + 1 + 2, SYSTEM = 3 };
    for (int cumulative = 0; cumulative < 2; cumulative++) {
        char *body = exchange_of(w, OURS + SYSTEM, cumulative, cumulative ? NOT_CLOSED : SOUND);
        START(w, MODELS, {.path = "/generate", .status = 200, .body = body, .piece = cumulative ? 11 : 0});
        assert_int_equal(open_with(w, (remote_options){.system = "Sys"}), 0);
        stand(w, "One. Two.");
        feed(w, "?", 0);
        if (generate(w, true)) fail_msg("%s", w->err.text);
        if (session_untraced(w->session)) fail_msg("%s", session_untraced(w->session));
        assert_string_equal(w->text, "hi");
        assert_int_equal(w->steps, 2);
        assert_int_equal(w->late, 2);
        assert_true(w->trace.selection_only);
        assert_int_equal(w->trace.layers, LAYERS);
        /* What was sent: tokens, with the system text behind the first. */
        json_t *sent_body = sent(w, 0), *ids = json_object_get(sent_body, "input_ids");
        assert_int_equal(json_array_size(ids), OURS + SYSTEM);
        assert_int_equal(json_integer_value(json_array_get(ids, 0)), TINY_BOS);
        assert_int_equal(json_integer_value(json_array_get(ids, 1)), 'S');
        assert_int_equal(json_integer_value(json_array_get(ids, 4)), TINY_USER);
        assert_true(json_is_true(json_object_get(sent_body, "return_indexer_topk")));
        json_decref(sent_body);
        /* The first token was predicted by the last of the prompt, server position 16 = ours 13, and so on;
         * the system text's positions are nobody's, and the BOS is itself. */
        int k = topk_of(w);
        for (int token = 0; token < 2; token++)
            for (int l = 0; l < LAYERS; l++) {
                int row = OURS + SYSTEM - 1 + token, selected = 0;
                for (int i = 0; i < k; i++) {
                    int server = row - i - l;
                    if (server < 0) continue;
                    int ours = server == 0 ? 0 : server <= SYSTEM ? -1 : server - SYSTEM;
                    if (ours < 0) continue;
                    selected++;
                    if (!keeps(w, token, l, ours))
                        fail_msg("token %d layer %d does not keep %d", token, l, ours);
                }
                assert_int_equal(w->trace.selected[token * LAYERS + l], selected);
                assert_true(kept(w, token, l)[0].mass > 0 && isnan(kept(w, token, l)[0].score));
            }
        generate_usage u;
        assert_true(session_usage(w->session, &u));
        assert_int_equal(u.prompt_tokens, OURS + SYSTEM);
        assert_int_equal(u.cached_tokens, OURS + SYSTEM - 2);
        /* The answer's two tokens are in the tail now. */
        assert_int_equal(session_length(w->session), OURS + 2);
        /* As a blob it stays what it is. */
        void *blob;
        size_t len;
        answer_trace back;
        assert_int_equal(answer_trace_pack(&w->trace, &blob, &len, NULL), 0);
        assert_int_equal(answer_trace_unpack(&back, blob, len, NULL), 0);
        assert_true(back.selection_only);
        answer_trace_free(&back);
        free(blob);
        free(body);
        begin_again(w);
    }
}

/* A restriction moves positions too: what was not sent is not there. */
static void selection_of_a_part(void **state) {
    world *w = *state;
    enum { SENT = 2 + 5 + 1 + 2 }; /* BOS USER "Two. " "?" ASSISTANT </think> */
    char *body = exchange_of(w, SENT, false, SOUND);
    START(w, MODELS, {.path = "/generate", .status = 200, .body = body});
    stand(w, "One. Two. Three.");
    assert_int_equal(session_restrict(w->session, (kern_range[]){{0, 2}, {7, 12}}, 2, NULL), 0);
    feed(w, "?", 0);
    assert_int_equal(generate(w, true), 0);
    assert_null(session_untraced(w->session));
    for (int p = 2; p < 7; p++) assert_false(keeps(w, 0, 0, p));
    for (int p = 12; p < 18; p++) assert_false(keeps(w, 0, 0, p));
    for (int p = 7; p < 12; p++) assert_true(keeps(w, 0, 0, p)); /* k is 8 at least, and these are near */
    free(body);
}

/* Whatever is wrong with a selection, the answer stands; that there is no trace is said with the reason. */
static void bad_selections_are_no_traces(void **state) {
    world *w = *state;
    static const struct {
        fault fault;
        const char *says;
    } cases[] = {{FUTURE, "no position before"},
                 {TWICE, "twice"},
                 {SHORT_BY_A_ROW, "positions: not those"},
                 {BAD_BASE64, "base64"},
                 {NONE_SENT, "--enable-return-indexer-topk"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *body = exchange_of(w, 14, true, cases[i].fault);
        START(w, MODELS, {.path = "/generate", .status = 200, .body = body});
        stand(w, "One. Two.");
        feed(w, "?", 0);
        if (generate(w, true)) fail_msg("%s", w->err.text);
        assert_string_equal(w->text, "hi");
        assert_int_equal(w->late, 0);
        if (!session_untraced(w->session) || !strstr(session_untraced(w->session), cases[i].says))
            fail_msg("case %zu: %s", i,
                     session_untraced(w->session) ? session_untraced(w->session) : "(a trace)");
        free(body);
        begin_again(w);
    }
}

static void native_streams_are_checked(void **state) {
    world *w = *state;
    static const struct {
        const char *body, *says;
        script_end end;
    } cases[] = {
        {"data: {\"text\":\"h\",\"output_ids\":[104]}\n\n", "meta_info", END_WELL},
        {"data: {\"output_ids\":[104],\"meta_info\":{\"completion_tokens\":5}}\n\n", "add up", END_WELL},
        {"data: {\"output_ids\":[-4],\"meta_info\":{\"completion_tokens\":1}}\n\n", "no number", END_WELL},
        {"data: {\"output_ids\":[99999999],\"meta_info\":{\"completion_tokens\":1}}\n\n", "does not have",
         END_WELL},
        {"data: {\"output_ids\":[104],\"meta_info\":{\"completion_tokens\":1}}\n\n", "middle", END_SHORT},
        {"data: {\"output_ids\":[104],\"meta_info\":{\"completion_tokens\":1,\"indexer_topk\":\"AAAA",
         "middle", END_SHORT},
        {"data: {\"error\":{\"message\":\"aborted\"}}\n\n", "aborted", END_WELL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        START(w, MODELS, {.path = "/generate", .status = 200, .body = cases[i].body, .end = cases[i].end});
        stand(w, "One. Two.");
        feed(w, "?", 0);
        w->err = (ph_error){0};
        int code = generate(w, true);
        if (code != PH_FAIL || !strstr(w->err.text, cases[i].says))
            fail_msg("case %zu: %d, %s", i, code, w->err.text);
        begin_again(w);
    }
}

/* A server without /generate is asked as any other, and not tried twice. */
static void other_servers_give_no_trace(void **state) {
    world *w = *state;
    START(w, MODELS, {.path = "/generate", .status = 404, .body = "{\"detail\":\"Not Found\"}"},
          {CHAT, .body = GOOD}, {CHAT, .body = GOOD});
    stand(w, "One. Two.");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(session_rewind(w->session, context_length(w->context), NULL), 0);
        feed(w, "?", 0);
        w->steps = 0;
        answer_trace_free(&w->trace);
        assert_int_equal(generate(w, true), 0);
        assert_non_null(strstr(session_untraced(w->session), "/generate"));
    }
}

/* With the embedded model's tokenizer tokens are counted, and where the server's stand is not known. */
static void another_tokenizer_gives_no_trace(void **state) {
    world *w = *state;
    START(w, MODELS, {CHAT, .body = GOOD});
    size_t n;
    char path[512];
    snprintf(path, sizeof path, "%s/tokenizer.json", w->dir);
    char *text = read_whole(path, &n);
    engine_files files = {.tokenizer = text, .tokenizer_len = n};
    assert_int_equal(open_with(w, (remote_options){.files = &files}), 0);
    stand(w, "One. Two.");
    feed(w, "?", 0);
    assert_int_equal(generate(w, true), 0);
    assert_int_equal(w->late, 0);
    assert_non_null(strstr(session_untraced(w->session), "--tokenizer"));
    free(text);
}

/* A selection that would be too large is not asked for. */
static void large_selections_are_not_asked_for(void **state) {
    world *w = *state;
    START(w, MODELS, {CHAT, .body = GOOD});
    assert_int_equal(open_with(w, (remote_options){.trace_bytes = 100}), 0);
    stand(w, "One. Two.");
    feed(w, "?", 0);
    assert_int_equal(generate(w, true), 0);
    assert_non_null(strstr(session_untraced(w->session), "--trace-limit"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(selection_decodes),
        cmocka_unit_test(selection_refuses),
        WORLD(selection_becomes_a_trace),
        WORLD(selection_of_a_part),
        WORLD(bad_selections_are_no_traces),
        WORLD(native_streams_are_checked),
        WORLD(other_servers_give_no_trace),
        WORLD(another_tokenizer_gives_no_trace),
        WORLD(large_selections_are_not_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
