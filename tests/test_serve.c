/* test_serve.c - the API from end to end on a tiny model: a file goes in, is read, is asked about, and is
 * erased with everything that was made of it. */
#include "tests/test_serve.h"

/* ---- documents ---- */

static void a_file_goes_in(void **state) {
    world *w = *state;
    json_t *received = upload_bytes(w, "notes/light house.txt", LIGHTHOUSE, sizeof LIGHTHOUSE - 1, 202);
    assert_string_equal(text_of(received, "state"), "queued");
    assert_int_equal(integer_of(received, "bytes"), sizeof LIGHTHOUSE - 1);
    char ended[16], path[128];
    int64_t id = job_ended(w, integer_of(received, "id"), ended);
    assert_string_equal(ended, "done");
    json_decref(received);
    document_becomes(w, id, "ready");

    snprintf(path, sizeof path, "/api/v1/documents/%lld", (long long)id);
    json_t *d = GET_JSON(w, path);
    assert_string_equal(text_of(d, "name"), "notes/light house.txt");
    assert_string_equal(text_of(d, "media_type"), "text/plain");
    assert_int_equal(integer_of(d, "text_bytes"), sizeof LIGHTHOUSE - 1);
    assert_int_equal(integer_of(d, "tokens"), integer_of(d, "tokens_read"));
    assert_true(integer_of(d, "tokens") > (int64_t)sizeof LIGHTHOUSE);
    json_decref(d);

    /* Ranges are bytes; a border inside a character steps back. */
    int cafe = (int)(strstr(LIGHTHOUSE, "Caf") - LIGHTHOUSE);
    snprintf(path, sizeof path, "/api/v1/documents/%lld/text?start=%d&end=%d", (long long)id, cafe, cafe + 4);
    json_t *t = GET_JSON(w, path);
    assert_string_equal(text_of(t, "text"), "Caf");
    assert_int_equal(integer_of(t, "end"), cafe + 3);
    assert_int_equal(integer_of(t, "total"), sizeof LIGHTHOUSE - 1);
    json_decref(t);
    snprintf(path, sizeof path, "/api/v1/documents/%lld/text", (long long)id);
    t = GET_JSON(w, path);
    assert_string_equal(text_of(t, "text"), LIGHTHOUSE);
    json_decref(t);

    snprintf(path, sizeof path, "/api/v1/documents/%lld/segments", (long long)id);
    json_t *g = GET_JSON(w, path);
    assert_int_equal(json_array_size(json_object_get(g, "segments")), 2);
    assert_true(json_is_false(json_object_get(g, "more")));
    json_decref(g);
    snprintf(path, sizeof path, "/api/v1/documents/%lld/segments?limit=1", (long long)id);
    g = GET_JSON(w, path);
    assert_int_equal(json_array_size(json_object_get(g, "segments")), 1);
    assert_true(json_is_true(json_object_get(g, "more")));
    json_decref(g);

    /* The document is ready with its last token; the pack's row says so a moment later. */
    json_t *packs = GET_JSON(w, "/api/v1/packs"), *pack = json_array_get(json_object_get(packs, "packs"), 0);
    for (int i = 0; i < 200 && integer_of(pack, "tokens") != integer_of(pack, "read"); i++) {
        json_decref(packs);
        usleep(20000);
        packs = GET_JSON(w, "/api/v1/packs");
        pack = json_array_get(json_object_get(packs, "packs"), 0);
    }
    assert_int_equal(integer_of(pack, "tokens"), integer_of(pack, "read"));
    assert_int_equal(integer_of(json_array_get(json_object_get(pack, "documents"), 0), "document_id"), id);
    json_decref(packs);
}

static void known_content_is_noticed(void **state) {
    world *w = *state;
    int64_t id = add_document(w, "a.txt", LIGHTHOUSE);
    json_t *again = upload_bytes(w, "b.txt", LIGHTHOUSE, sizeof LIGHTHOUSE - 1, 200);
    assert_string_equal(text_of(again, "state"), "known");
    assert_non_null(strstr(text_of(again, "detail"), "a.txt"));
    assert_int_equal(integer_of(again, "document"), id);
    json_decref(again);
    /* Another text under the same name is another document. */
    int64_t other = add_document(w, "a.txt", "Something else.");
    char path[64];
    snprintf(path, sizeof path, "/api/v1/documents/%lld", (long long)other);
    json_t *d = GET_JSON(w, path);
    assert_string_equal(text_of(d, "name"), "a (2).txt");
    json_decref(d);
}

static void a_bad_file_says_why(void **state) {
    world *w = *state;
    static const char broken[] = "PK\x03\x04 and then nothing that a zip file has";
    json_t *received = upload_bytes(w, "broken.docx", broken, sizeof broken - 1, 202);
    int64_t id = integer_of(received, "id");
    char ended[16], path[64];
    job_ended(w, id, ended);
    assert_string_equal(ended, "failed");
    json_decref(received);
    snprintf(path, sizeof path, "/api/v1/jobs/%lld", (long long)id);
    json_t *row = GET_JSON(w, path);
    assert_non_null(strstr(text_of(row, "detail"), "broken.docx"));
    assert_null(strstr(text_of(row, "detail"), "uploads"));
    json_decref(row);
    /* It is dismissed, and a good one beside it is not held up. */
    json_decref(json_reply(SEND(w, .method = "DELETE", .path = path), 200, path));
    expect_refused(SEND(w, .method = "GET", .path = path), 404, path);
    add_document(w, "good.txt", "Good.");
}

static size_t jobs_of(world *w, const char *state_text, char detail[700], int64_t *id) {
    json_t *v = GET_JSON(w, "/api/v1/jobs"), *row;
    size_t i, n = 0;
    json_array_foreach(json_object_get(v, "jobs"), i, row) {
        if (strcmp(text_of(row, "state"), state_text)) continue;
        snprintf(detail, 700, "%s: %s", text_of(row, "name"), text_of(row, "detail"));
        *id = integer_of(row, "id");
        n++;
    }
    json_decref(v);
    return n;
}

/* Why a file could not be read is told after a restart too, until somebody has taken note of it. */
static void failures_survive_a_restart(void **state) {
    world *w = *state;
    static const char broken[] = "PK\x03\x04 and then nothing that a zip file has";
    char ended[16], before[700], after[700], path[64];
    int64_t first = 0, again = 0;
    json_t *received = upload_bytes(w, "papers/broken.docx", broken, sizeof broken - 1, 202);
    job_ended(w, integer_of(received, "id"), ended);
    assert_string_equal(ended, "failed");
    json_decref(received);
    add_document(w, "good.txt", "Good.");
    assert_int_equal(jobs_of(w, "failed", before, &first), 1);
    for (int i = 0; i < 2; i++) {
        serve_stop(w->server);
        world_start(w);
        assert_int_equal(jobs_of(w, "failed", after, &again), 1);
        assert_string_equal(after, before);
        assert_int_equal(again, first);
        assert_int_equal(files_holding(w->dir, "nothing that a zip file has", 27),
                         0); /* the file itself is gone */
    }
    /* A new file gets a number of its own, and the dismissed one does not come back. */
    received = upload_bytes(w, "late.txt", "Late.", 5, 202);
    assert_true(integer_of(received, "id") > first);
    job_ended(w, integer_of(received, "id"), ended);
    json_decref(received);
    snprintf(path, sizeof path, "/api/v1/jobs/%lld", (long long)first);
    json_decref(json_reply(SEND(w, .method = "DELETE", .path = path), 200, path));
    serve_stop(w->server);
    world_start(w);
    assert_int_equal(jobs_of(w, "failed", after, &again), 0);
}

/* One page with a black square. */
static const char SQUARE[] =
    "%PDF-1.4\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n"
    "2 0 obj\n<< /Type /Pages /Kids [3 0 R] /Count 1 /MediaBox [0 0 200 400] >>\nendobj\n"
    "3 0 obj\n<< /Type /Page /Parent 2 0 R /Resources << /Font << /F 5 0 R >> >> /Contents 4 0 R >>\nendobj\n"
    "4 0 obj\n<< /Length 62 >>\nstream\nBT /F 12 Tf 20 300 Td (The square is black.) Tj ET 50 50 90 90 re "
    "f\nendstream\n"
    "endobj\n5 0 obj\n<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>\nendobj\n"
    "trailer\n<< /Size 6 /Root 1 0 R >>\n%%EOF\n";

static void pages_can_be_seen(void **state) {
    world *w = *state;
    if (access("/usr/bin/pdftoppm", X_OK)) skip();
    int64_t pdf = add_document(w, "square.pdf", SQUARE), text = add_document(w, "light.txt", LIGHTHOUSE);
    char path[80];
    snprintf(path, sizeof path, "/api/v1/documents/%lld/pages/1.png?pixels=100", (long long)pdf);
    reply r = SEND(w, .method = "GET", .path = path);
    if (r.status != 200) fail_msg("%ld: %s", r.status, r.body);
    assert_string_equal(header_of(&r, "Content-Type"), "image/png");
    assert_string_equal(header_of(&r, "X-Content-Type-Options"), "nosniff");
    assert_string_equal(header_of(&r, "Cache-Control"), "no-store"); /* deleted means deleted */
    assert_non_null(strstr(header_of(&r, "Content-Security-Policy"), "default-src 'none'"));
    assert_memory_equal(r.body, "\x89PNG", 4);
    assert_int_equal((uint8_t)r.body[19], 50);
    assert_int_equal((uint8_t)r.body[23], 100);
    reply_free(&r);
    const struct {
        int64_t id;
        const char *rest;
        long status;
    } wrong[] = {{pdf, "pages/2.png", 404},
                 {pdf, "pages/0.png", 404},
                 {pdf, "pages/x.png", 404},
                 {pdf, "pages/1.png?pixels=0", 400},
                 {pdf, "pages/1", 404},
                 {pdf, "pages/1.png.png", 404},
                 {text, "pages/1.png", 415},
                 {99, "pages/1.png", 404},
                 {pdf, "pages/1.png?pixels=99999", 400}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snprintf(path, sizeof path, "/api/v1/documents/%lld/%s", (long long)wrong[i].id, wrong[i].rest);
        expect_refused(SEND(w, .method = "GET", .path = path), wrong[i].status, path);
    }
}

static void urls_stay_outside(void **state) {
    world *w = *state;
    char body[200], ended[16];
    snprintf(body, sizeof body, "{\"url\":\"http://127.0.0.1:%d/openapi.json\"}", w->port);
    json_t *received = POST_JSON(w, "/api/v1/documents/url", body, 202);
    job_ended(w, integer_of(received, "id"), ended);
    assert_string_equal(ended, "failed");
    json_decref(received);
    static const char *const bad[] = {
        "{\"url\":\"file:///etc/passwd\"}", "{\"url\":\"ftp://x/y\"}",  "{\"url\":7}", "{}",
        "{\"url\":\"http://a\\r\\nb\"}",    "{\"url\":\"/etc/passwd\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect_refused(SEND(w, .method = "POST", .path = "/api/v1/documents/url", .json = bad[i]), 400,
                       bad[i]);
}

/* ---- asking ---- */

static void an_answer_and_its_trace(void **state) {
    world *w = *state;
    int64_t id = add_document(w, "light.txt", LIGHTHOUSE);
    document_becomes(w, id, "ready");
    json_t *a = POST_JSON(w, "/api/v1/ask", "{\"question\":\"How high was it?\",\"max_tokens\":12}", 200);
    assert_string_equal(text_of(a, "question"), "How high was it?");
    assert_true(json_is_array(json_object_get(a, "citations")));
    json_t *usage = json_object_get(a, "usage");
    assert_true(integer_of(usage, "cached_tokens") > 0); /* read when it was added, not again */
    assert_true(integer_of(usage, "completion_tokens") <= 12);
    char path[128];
    int64_t answer_id = integer_of(a, "id");
    snprintf(path, sizeof path, "/api/v1/answers/%lld", (long long)answer_id);
    json_t *stored = GET_JSON(w, path);
    assert_string_equal(text_of(stored, "answer"), text_of(a, "answer"));
    json_decref(stored);

    snprintf(path, sizeof path, "/api/v1/answers/%lld/trace", (long long)answer_id);
    json_t *t = GET_JSON(w, path), *word;
    size_t i, n = 0;
    assert_true(json_is_null(json_object_get(t, "missing")));
    assert_int_equal(integer_of(t, "layers"), TINY_LAYERS);
    json_t *map = json_array_get(json_object_get(t, "map"), 0);
    assert_int_equal(integer_of(map, "document_id"), id);
    assert_int_equal(integer_of(t, "bins") * integer_of(t, "bin_tokens") >= integer_of(t, "capacity"), 1);
    double sum = 0;
    json_t *bin;
    json_array_foreach(json_object_get(t, "strip"), i, bin) {
        assert_in_range(json_integer_value(json_array_get(bin, 0)), 0, integer_of(t, "bins") - 1);
        sum += json_real_value(json_array_get(bin, 1));
    }
    assert_true(sum > 0.99 && sum < 1.01);
    json_array_foreach(json_object_get(t, "words"), i, word) {
        assert_true(json_is_array(json_object_get(word, "strip")));
        assert_true(json_is_array(json_object_get(word, "read_set")));
        n++;
    }
    assert_true(n > 0);
    assert_null(json_object_get(t, "tokens"));
    json_decref(t);

    snprintf(path, sizeof path, "/api/v1/answers/%lld/trace?word=1&layer=1&sentences=2",
             (long long)answer_id);
    t = GET_JSON(w, path);
    assert_int_equal(json_array_size(json_object_get(t, "words")), 1);
    json_t *token = json_array_get(json_object_get(t, "tokens"), 0);
    json_t *layers = json_object_get(token, "layers");
    assert_int_equal(json_array_size(layers), 1);
    assert_int_equal(integer_of(json_array_get(layers, 0), "layer"), 1);
    assert_true(json_array_size(json_object_get(json_array_get(layers, 0), "kept")) > 0);
    json_decref(t);
    snprintf(path, sizeof path, "/api/v1/answers/%lld/trace?layer=7", (long long)answer_id);
    expect_refused(SEND(w, .method = "GET", .path = path), 404, "a layer that is not there");
    snprintf(path, sizeof path, "/api/v1/answers/%lld/trace?word=4000", (long long)answer_id);
    expect_refused(SEND(w, .method = "GET", .path = path), 404, "a word that is not there");
    json_decref(a);

    a = POST_JSON(w, "/api/v1/ask", "{\"question\":\"x\",\"max_tokens\":4,\"discard\":true}", 200);
    assert_int_equal(integer_of(a, "id"), 0);
    json_decref(a);
    json_t *list = GET_JSON(w, "/api/v1/answers?limit=10");
    assert_int_equal(json_array_size(json_object_get(list, "answers")), 1);
    json_decref(list);
    snprintf(path, sizeof path, "/api/v1/answers/%lld", (long long)answer_id);
    json_t *receipt = json_reply(SEND(w, .method = "DELETE", .path = path), 200, path);
    assert_int_equal(integer_of(receipt, "answers"), 1);
    json_decref(receipt);
    expect_refused(SEND(w, .method = "GET", .path = path), 404, path);
}

typedef struct heard {
    int queue, reading, asking, writing, tokens, done, errors, after_done, steps;
    int64_t last, cached;
    char text[4096], answer[4096];
} heard;

static void hear(const char *name, const json_t *data, void *user) {
    heard *h = user;
    h->after_done += h->done;
    if (!strcmp(name, "queue")) {
        assert_int_equal(h->tokens + h->reading, 0);
        h->queue++;
    } else if (!strcmp(name, "progress")) {
        const char *phase = text_of(data, "phase");
        if (!strcmp(phase, "reading")) {
            assert_int_equal(h->tokens + h->asking, 0);
            assert_true(integer_of(data, "done") >= h->last);
            assert_true(integer_of(data, "done") <= integer_of(data, "total"));
            h->last = integer_of(data, "done");
            h->cached = integer_of(data, "cached");
            h->reading++;
        } else if (!strcmp(phase, "asking")) {
            assert_int_equal(h->tokens, 0);
            h->asking++;
        } else
            h->writing++;
        assert_true(json_is_number(json_object_get(data, "rate")));
    } else if (!strcmp(name, "token")) {
        strncat(h->text, text_of(data, "text"), sizeof h->text - strlen(h->text) - 1);
        h->tokens++;
    } else if (!strcmp(name, "done")) {
        strncat(h->answer, text_of(data, "answer"), sizeof h->answer - 1);
        h->done++;
    } else if (!strcmp(name, "error"))
        h->errors++;
    else
        fail_msg("an event %s", name);
}

/* ---- a thought before the answer ---- */

typedef struct thought_heard {
    int thoughts, tokens, done;
    char thought[4096], text[4096];
} thought_heard;

static void hear_thought(const char *name, const json_t *data, void *user) {
    thought_heard *h = user;
    if (!strcmp(name, "thought")) {
        assert_int_equal(h->tokens + h->done, 0);
        snprintf(h->thought, sizeof h->thought, "%s", text_of(data, "text"));
        h->thoughts++;
    } else if (!strcmp(name, "token")) {
        strncat(h->text, text_of(data, "text"), sizeof h->text - strlen(h->text) - 1);
        h->tokens++;
    } else if (!strcmp(name, "done")) {
        assert_string_equal(text_of(data, "answer"), h->text);
        assert_string_equal(text_of(data, "thought"), h->thought);
        h->done++;
    }
}

static void a_thought_is_no_token(void **state) {
    world *w = *state;
    char *text = long_text(3000), path[200];
    add_document(w, "ships.txt", text);
    free(text);
    thought_heard h = {0};
    reply r =
        SEND(w, .method = "POST", .path = "/api/v1/ask",
             .json = "{\"question\":\"How many?\",\"max_tokens\":20,\"stream\":true,\"thinking\":true}");
    assert_int_equal(r.status, 200);
    each_event(r.body, hear_thought, &h);
    assert_true(h.thoughts == 1 && h.tokens > 0 && h.done == 1);
    reply_free(&r);

    r = SEND(w, .method = "POST", .path = "/api/v1/ask",
             .json = "{\"question\":\"How many?\",\"max_tokens\":20,\"thinking\":true}");
    assert_int_equal(r.status, 200);
    json_t *answer = json_loads(r.body, 0, NULL);
    assert_string_equal(text_of(answer, "thought"), h.thought);
    assert_string_equal(text_of(answer, "answer"), h.text);
    reply_free(&r);
    snprintf(path, sizeof path, "/api/v1/answers/%lld/trace", (long long)integer_of(answer, "id"));
    json_t *trace = GET_JSON(w, path);
    const json_t *thought = json_object_get(trace, "thought");
    assert_string_equal(text_of(thought, "text"), h.thought);
    assert_true(json_array_size(json_object_get(thought, "words")) > 0);
    assert_true(json_array_size(json_object_get(trace, "words")) > 0);
    json_decref(trace);
    /* History has it too, with what else was said of the answer. */
    snprintf(path, sizeof path, "/api/v1/answers/%lld", (long long)integer_of(answer, "id"));
    json_t *kept = GET_JSON(w, path);
    assert_string_equal(text_of(kept, "thought"), h.thought);
    assert_true(json_is_boolean(json_object_get(kept, "cut_off")) &&
                json_equal(json_object_get(kept, "cut_off"), json_object_get(answer, "cut_off")));
    assert_int_equal(integer_of(kept, "passages"), integer_of(answer, "passages"));
    json_decref(kept);
    json_decref(answer);
    kept = GET_JSON(w, "/api/v1/status");
    const json_t *thinking = json_object_get(kept, "thinking");
    assert_true(json_is_true(json_object_get(thinking, "able")));
    assert_true(json_is_false(json_object_get(thinking, "usual")));
    assert_true(json_is_false(json_object_get(kept, "remote")));
    json_decref(kept);

    /* As OpenAI's clients ask servers of DeepSeek's models for it. */
    json_t *models = GET_JSON(w, "/v1/models");
    char body[400];
    snprintf(
        body, sizeof body,
        "{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":\"How many?\"}],\"max_tokens\":20,"
        "\"chat_template_kwargs\":{\"thinking\":true}}",
        text_of(json_array_get(json_object_get(models, "data"), 0), "id"));
    answer = POST_JSON(w, "/v1/chat/completions", body, 200);
    assert_string_equal(
        text_of(json_object_get(json_array_get(json_object_get(answer, "choices"), 0), "message"),
                "reasoning_content"),
        h.thought);
    assert_true(integer_of(json_object_get(json_object_get(answer, "usage"), "completion_tokens_details"),
                           "reasoning_tokens") > 0);
    json_decref(answer);
    /* One model, as their clients look it up before they ask. */
    for (size_t i = 0; i < 2; i++) {
        const json_t *model = json_array_get(json_object_get(models, "data"), i);
        snprintf(path, sizeof path, "/v1/models/%s", text_of(model, "id"));
        json_t *one = GET_JSON(w, path);
        assert_true(json_equal(one, model));
        json_decref(one);
    }
    expect_refused(SEND(w, .method = "GET", .path = "/v1/models/gpt-4o"), 404, "another model");
    expect_refused(SEND(w, .method = "GET", .path = "/v1/models/"), 400, "no model");
    expect_refused(SEND(w, .method = "DELETE", .path = path), 405, path);
    json_decref(models);

    r = SEND(w, .method = "POST", .path = "/api/v1/ask",
             .json = "{\"question\":\"How many?\",\"thinking\":1}");
    assert_int_equal(r.status, 400);
    reply_free(&r);
}

static void a_stream_in_order(void **state) {
    world *w = *state;
    char *text = long_text(3000);
    add_document(w, "ships.txt", text);
    free(text);
    for (int pass = 0; pass < 2; pass++) {
        heard h = {0};
        const char *accept = pass ? "Accept: text/event-stream" : NULL;
        reply r = SEND(w, .method = "POST", .path = "/api/v1/ask", .headers = {accept},
                       .json = pass ? "{\"question\":\"How many?\",\"max_tokens\":20}"
                                    : "{\"question\":\"How many?\",\"max_tokens\":20,\"stream\":true}");
        assert_int_equal(r.status, 200);
        assert_non_null(strstr(header_of(&r, "Content-Type"), "text/event-stream"));
        each_event(r.body, hear, &h);
        assert_int_equal(h.done, 1);
        assert_int_equal(h.errors + h.after_done, 0);
        assert_true(h.tokens > 0 && h.asking > 0);
        assert_string_equal(h.text, h.answer);
        reply_free(&r);
    }
}

static void a_restriction_holds(void **state) {
    world *w = *state;
    int64_t a = add_document(w, "a.txt", "Alpha speaks of apples. All of them are red.");
    int64_t b = add_document(w, "b.txt", "Beta speaks of boats. None of them is red.");
    char body[128];
    snprintf(body, sizeof body, "{\"question\":\"What?\",\"max_tokens\":8,\"documents\":[%lld]}",
             (long long)b);
    json_t *answered = POST_JSON(w, "/api/v1/ask", body, 200), *sentence;
    size_t i;
    json_array_foreach(json_object_get(answered, "read_set"), i, sentence)
        assert_int_equal(integer_of(sentence, "document_id"), b);
    json_decref(answered);
    (void)a;
    json_t *refused = POST_JSON(w, "/api/v1/ask", "{\"question\":\"What?\",\"pack\":999}", 404);
    json_decref(refused);
}

/* ---- erasing ---- */

static void a_delete_means_everywhere(void **state) {
    world *w = *state;
    int64_t id = add_document(w, "secret.txt", LIGHTHOUSE);
    int64_t other = add_document(w, "other.txt", "Nothing of the kind.");
    document_becomes(w, id, "ready");
    json_t *a = POST_JSON(w, "/api/v1/ask", "{\"question\":\"What is MARKERQUARTZ?\",\"max_tokens\":4}", 200);
    json_decref(a);
    char path[64];
    snprintf(path, sizeof path, "/api/v1/documents/%lld", (long long)id);
    json_t *receipt = json_reply(SEND(w, .method = "DELETE", .path = path), 200, path);
    assert_int_equal(integer_of(receipt, "documents"), 1);
    assert_int_equal(integer_of(receipt, "files"), 1);
    assert_int_equal(integer_of(receipt, "packs"), 1);
    assert_int_equal(integer_of(receipt, "snapshots"), 1);
    assert_int_equal(integer_of(receipt, "answers"), 1);
    assert_int_equal(integer_of(receipt, "text_bytes"), sizeof LIGHTHOUSE - 1);
    json_decref(receipt);
    expect_refused(SEND(w, .method = "GET", .path = path), 404, path);
    expect_refused(SEND(w, .method = "DELETE", .path = path), 404, path);
    assert_int_equal(files_holding(w->dir, "MARKERQUARTZ", 12), 0);
    snprintf(path, sizeof path, "/api/v1/documents/%lld", (long long)other);
    json_decref(GET_JSON(w, path));
}

/* ---- the server itself ---- */

static void health_status_metrics(void **state) {
    world *w = *state;
    add_document(w, "light.txt", LIGHTHOUSE);
    json_t *a = POST_JSON(w, "/api/v1/ask", "{\"question\":\"x\",\"max_tokens\":4}", 200);
    json_decref(a);
    json_t *s = GET_JSON(w, "/api/v1/status");
    assert_string_equal(text_of(s, "state"), "ready");
    assert_int_equal(integer_of(json_object_get(s, "totals"), "documents"), 1);
    assert_int_equal(integer_of(json_object_get(s, "context"), "capacity"), 4096);
    assert_true(json_is_false(json_object_get(s, "token_required")));
    json_decref(s);
    reply r = SEND(w, .method = "GET", .path = "/metrics");
    assert_non_null(strstr(header_of(&r, "Content-Type"), "text/plain"));
    assert_non_null(strstr(r.body, "\npharos_answers_total 1\n"));
    assert_non_null(strstr(r.body, "\npharos_ready 1\n"));
    assert_non_null(strstr(r.body, "# TYPE pharos_queue_waiting gauge\n"));
    reply_free(&r);
    json_t *runs = GET_JSON(w, "/api/v1/runs");
    assert_int_equal(json_array_size(json_object_get(runs, "runs")), 0);
    json_decref(runs);
    expect_refused(SEND(w, .method = "GET", .path = "/api/v1/runs/1"), 404, "a run");
    expect_refused(SEND(w, .method = "POST", .path = "/api/v1/packs/read", .json = "{\"x\":1}"), 400,
                   "a member");
    json_decref(
        json_reply(SEND(w, .method = "POST", .path = "/api/v1/packs/read", .json = "{}"), 202, "read"));
}

/* An engine that takes its time, and one that cannot be had: the server is there nevertheless. */
static int open_slowly(void *user, engine **out, ph_error *err) {
    usleep(700000);
    return open_tiny(user, out, err);
}
static int open_never(void *user, engine **out, ph_error *err) {
    (void)user;
    (void)out;
    return ph_fail(err, PH_MODEL, "the model has no head");
}

static void loading_and_failing(void **state) {
    world *w = *state;
    serve_stop(w->server);
    ph_error err = {0};
    serve_options o = {.data_dir = w->dir, .open_engine = open_slowly, .user = w->model};
    assert_int_equal(serve_start(&w->server, &o, &err), PH_OK);
    w->port = serve_port(w->server);
    reply r = SEND(w, .method = "GET", .path = "/health");
    assert_int_equal(r.status, 503);
    assert_non_null(strstr(r.body, "loading"));
    assert_non_null(header_of(&r, "Retry-After"));
    reply_free(&r);
    r = SEND(w, .method = "POST", .path = "/api/v1/ask", .json = "{\"question\":\"x\"}");
    assert_int_equal(r.status, 503);
    assert_non_null(header_of(&r, "Retry-After"));
    reply_free(&r);
    json_decref(GET_JSON(w, "/api/v1/documents"));
    wait_ready(w);

    /* A second server on the same folder is refused. */
    serve *second = NULL;
    assert_int_equal(serve_start(&second, &o, &err), PH_BUSY);
    serve_stop(w->server);

    o.open_engine = open_never;
    assert_int_equal(serve_start(&w->server, &o, &err), PH_OK);
    w->port = serve_port(w->server);
    char state_text[16] = "";
    for (int i = 0; i < 100 && strcmp(state_text, "failed"); i++) {
        json_t *s = GET_JSON(w, "/api/v1/status");
        snprintf(state_text, sizeof state_text, "%s", text_of(s, "state"));
        json_decref(s);
        usleep(10000);
    }
    r = SEND(w, .method = "POST", .path = "/api/v1/ask", .json = "{\"question\":\"x\"}");
    assert_int_equal(r.status, 503);
    assert_non_null(strstr(r.body, "the model has no head"));
    reply_free(&r);
    /* Documents still come and go. */
    int64_t id = add_document(w, "a.txt", "Words.");
    char path[64];
    snprintf(path, sizeof path, "/api/v1/documents/%lld", (long long)id);
    json_decref(json_reply(SEND(w, .method = "DELETE", .path = path), 200, path));
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        IN_A_WORLD(a_file_goes_in),
        IN_A_WORLD(known_content_is_noticed),
        IN_A_WORLD(a_bad_file_says_why),
        IN_A_WORLD(failures_survive_a_restart),
        IN_A_WORLD(pages_can_be_seen),
        IN_A_WORLD(urls_stay_outside),
        IN_A_WORLD(an_answer_and_its_trace),
        IN_A_WORLD(a_stream_in_order),
        IN_A_WORLD(a_thought_is_no_token),
        IN_A_WORLD(a_restriction_holds),
        IN_A_WORLD(a_delete_means_everywhere),
        IN_A_WORLD(health_status_metrics),
        IN_A_WORLD(loading_and_failing),
    };
    if (argc > 1 && !strcmp(argv[1], INGEST_CHILD_ARGUMENT)) return ingest_child_main(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
