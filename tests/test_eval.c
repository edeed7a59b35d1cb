/* test_eval.c - evaluation runs on a tiny random model: a run is a function of its seed, a killed one goes on
 * where it was, planted faults are named, reports hold together. */
#include "tests/test_eval.h"

#include "appliance/eval_verdict.h"

#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- runs ---- */

static int64_t run(const bench *b, const char *folder, engine_options o, eval_params *p) {
    engine *e = open_tiny(b, o);
    store *s = open_runs(b, folder);
    int64_t id = 0;
    eval_options options = {.command = "test", .run = &id};
    p->text_hash[0] = 0;
    OK(eval_run(s, e, p, 0, &options, &error));
    store_close(s);
    engine_close(e);
    return id;
}

/* All results of a run, one after another. Owned. */
static char *results(const bench *b, const char *folder, int64_t id) {
    store *s = open_runs(b, folder);
    store_cell *cells;
    size_t n, len = 1;
    OK(store_cell_list(s, id, &cells, &n, &error));
    for (size_t i = 0; i < n; i++) len += strlen(cells[i].result) + 1;
    char *out = malloc(len), *p = out;
    *p = 0;
    for (size_t i = 0; i < n; i++) p = stpcpy(stpcpy(p, cells[i].result), "\n");
    store_cells_free(cells, n);
    store_close(s);
    return out;
}

static char *written(int (*write)(const eval_report *, FILE *, ph_error *), const eval_report *r) {
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    OK(write(r, f, &error));
    fclose(f);
    return text;
}

static void same_seed_same_run(void **state) {
    const bench *b = *state;
    eval_params p = needles(4096, 5, true);
    int64_t one = run(b, "threads", (engine_options){.threads = 1}, &p);
    int64_t three = run(b, "threads", (engine_options){.threads = 3, .chunk = 96}, &p);
    p.seed = 43;
    int64_t other = run(b, "threads", (engine_options){.threads = 1}, &p);
    char *x = results(b, "threads", one), *y = results(b, "threads", three),
         *z = results(b, "threads", other);
    assert_true(strlen(x) > 500);
    assert_string_equal(x, y);
    assert_string_not_equal(x, z);
    free(x);
    free(y);
    free(z);
    /* What leaves the program too: the table byte for byte, the rest by its digest. */
    store *s = open_runs(b, "threads");
    eval_report a, c, d;
    OK(eval_report_load(&a, s, one, &error));
    OK(eval_report_load(&c, s, three, &error));
    OK(eval_report_load(&d, s, other, &error));
    char *csv = written(eval_report_csv, &a), *same = written(eval_report_csv, &c), digest[65], equal[65], not[65];
    assert_string_equal(csv, same);
    assert_true(eval_report_digest(&a, digest) && eval_report_digest(&c, equal) && eval_report_digest(&d, not));
    assert_string_equal(digest, equal);
    assert_string_not_equal(digest, not);
    free(csv);
    free(same);
    eval_report_free(&a);
    eval_report_free(&c);
    eval_report_free(&d);
    store_close(s);
    eval_params_free(&p);
}

static int die_at_three(void *user, const char *what, size_t cells, size_t all, int64_t tokens,
                        int64_t all_tokens) {
    (void)user, (void)what, (void)all;
    /* In the midst of reading the fourth prompt. */
    if (cells == 3 && all_tokens && tokens < all_tokens) raise(SIGKILL);
    return 0;
}

static int stop_at_two(void *user, const char *what, size_t cells, size_t all, int64_t tokens,
                       int64_t all_tokens) {
    (void)user, (void)what, (void)all, (void)tokens, (void)all_tokens;
    return cells == 2;
}

static void killed_and_resumed(void **state) {
    const bench *b = *state;
    eval_params p = needles(4096, 6, false);
    int64_t whole = run(b, "whole", (engine_options){.threads = 1}, &p);
    pid_t child = fork();
    if (child == 0) {
        engine *e = open_tiny(b, (engine_options){.threads = 1, .chunk = 128});
        store *s = open_runs(b, "killed");
        eval_options options = {.command = "test", .progress = die_at_three};
        eval_run(s, e, &p, 0, &options, &error);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

    store *s = open_runs(b, "killed");
    store_run row;
    OK(store_run_get(s, 0, &row, &error));
    assert_int_equal(row.done, 3);
    assert_int_equal(row.cells, 6);
    assert_int_equal(row.state, RUN_UNFINISHED);
    eval_params again;
    OK(eval_params_parse(&again, row.parameters, &error));
    engine *e = open_tiny(b, (engine_options){.threads = 1});
    eval_options options = {.command = "test"};
    OK(eval_run(s, e, &again, row.id, &options, &error));
    int64_t id = row.id;
    store_run_free(&row);
    OK(store_run_get(s, id, &row, &error));
    assert_int_equal(row.done, 6);
    assert_int_equal(row.state, RUN_DONE);
    store_run_free(&row);
    store_close(s);
    char *x = results(b, "whole", whole), *y = results(b, "killed", id);
    assert_string_equal(x, y);
    free(x);
    free(y);
    eval_params_free(&again);
    engine_close(e);
    eval_params_free(&p);
}

static void stopped_and_refused(void **state) {
    const bench *b = *state;
    eval_params p = needles(2048, 3, false), again;
    p.generated = false;
    p.files = calloc(1, sizeof *p.files);
    p.files[p.n_files++] = strdup(in_folder(b->folder, "hay.txt"));
    char *text = eval_generate_text(1, 20000, &error);
    write_text(in_folder(b->folder, "hay.txt"), text);
    engine *e = open_tiny(b, (engine_options){.threads = 1});
    store *s = open_runs(b, "stopped");
    eval_options options = {.command = "test", .progress = stop_at_two};
    assert_int_equal(eval_run(s, e, &p, 0, &options, &error), PH_INTERRUPTED);
    store_run row;
    OK(store_run_get(s, 0, &row, &error));
    assert_int_equal(row.done, 2);
    assert_int_equal(row.state, RUN_UNFINISHED);
    options.progress = NULL;
    /* Another model, and other texts, are not gone on with. */
    engine *other = open_tiny(b, (engine_options){.threads = 1, .topk = 32});
    OK(eval_params_parse(&again, row.parameters, &error));
    assert_int_equal(eval_run(s, other, &again, row.id, &options, &error), PH_USAGE);
    engine_close(other);
    text[0] = 'X';
    write_text(in_folder(b->folder, "hay.txt"), text);
    assert_int_equal(eval_run(s, e, &again, row.id, &options, &error), PH_USAGE);
    assert_non_null(strstr(error.text, "changed"));
    eval_params_free(&again);
    free(text);
    store_run_free(&row);
    store_close(s);
    engine_close(e);
    eval_params_free(&p);
}

/* ---- index scores and faults ---- */

typedef struct looking {
    session *session;
    int64_t n;
    int steps;
    bool exact; /* scores equal the trace's to the last bit */
} looking;

static int look(void *user, const generate_step *step) {
    looking *k = user;
    int layers;
    assert_ptr_equal(session_trace(k->session, &layers), step->layers); /* what an empty answer is explained by */
    assert_int_equal(layers, step->n_layers);
    float *score = malloc((size_t)session_length(k->session) * sizeof *score);
    int64_t n = session_length(k->session);
    for (int l = 0; l < step->n_layers; l++) {
        const trace_layer *t = &step->layers[l];
        OK(session_index_scores(k->session, l, score, &error));
        float least = INFINITY;
        for (int i = 0; i < t->count; i++) {
            if (t->score[i] != score[t->position[i]])
                fail_msg("layer %d: another score at %d", l, t->position[i]);
            least = fminf(least, t->score[i]);
        }
        /* What was not selected is not better. */
        int64_t better = 0;
        for (int64_t i = 0; i < n; i++) better += score[i] > least;
        assert_true(better < t->count);
    }
    free(score);
    k->steps++;
    return 0;
}

static void index_scores(void **state) {
    for (int fault = 0; fault < 2; fault++) {
        engine *e = open_tiny(
            *state, (engine_options){.threads = 1,
                                     .fault = fault ? ENGINE_FAULT_SHUFFLED_SCORES : ENGINE_FAULT_NONE});
        context *c = NULL;
        session *s = NULL;
        int32_t tokens[600];
        for (int i = 0; i < 600; i++) tokens[i] = 32 + i * 7 % 90;
        OK(context_open(&c, e, NULL, 1024, NULL, &error));
        OK(context_read(c, tokens, 500, NULL, NULL, NULL, &error));
        OK(session_open(&s, c, &error));
        float none;
        assert_int_equal(session_index_scores(s, 0, &none, &error), PH_USAGE);
        OK(session_feed(s, tokens + 500, 100, NULL, NULL, &error));
        looking k = {.session = s};
        generate_options o = {.max_tokens = 5, .trace = true, .ignore_eos = true, .step = look, .user = &k};
        OK(session_generate(s, &o, NULL, &error));
        assert_int_equal(k.steps, 5);
        session_close(s);
        context_close(c);
        engine_close(e);
    }
}

static void all_say(const bench *b, const char *folder, engine_options o, const char *wanted) {
    eval_params p = needles(4096, 5, true);
    int64_t id = run(b, folder, o, &p);
    store *s = open_runs(b, folder);
    eval_report r;
    OK(eval_report_load(&r, s, id, &error));
    assert_int_equal(json_array_size(r.cells), 5);
    for (size_t i = 0; i < 5; i++) {
        const json_t *c = json_array_get(r.cells, i);
        const char *verdict = json_string_value(json_object_get(c, "verdict"));
        if (strcmp(verdict, wanted))
            fail_msg("cell %zu says %s (%s), not %s", i, verdict,
                     json_string_value(json_object_get(c, "detail")), wanted);
    }
    eval_report_free(&r);
    store_close(s);
    eval_params_free(&p);
}

/* A random model answers nothing rightly: what it says of why depends on what it could see. */
static void planted_faults(void **state) {
    const bench *b = *state;
    all_say(b, "shuffled", (engine_options){.threads = 1, .fault = ENGINE_FAULT_SHUFFLED_SCORES},
            "not selected");
    all_say(b, "zeroed", (engine_options){.threads = 1, .topk = 8192, .fault = ENGINE_FAULT_ZERO_ATTENTION},
            "selected, not used");
    engine *a = open_tiny(b, (engine_options){.threads = 1}),
           *f = open_tiny(b, (engine_options){.threads = 1, .fault = ENGINE_FAULT_ZERO_ATTENTION});
    assert_memory_not_equal(engine_key(a), engine_key(f), 32);
    engine_close(a);
    engine_close(f);
}

/* ---- reports ---- */

static void reports(void **state) {
    const bench *b = *state;
    eval_params p = {.kind = EVAL_QA,
                     .over = EVAL_QA,
                     .lengths = {2048, 4096},
                     .n_lengths = 2,
                     .seed = 3,
                     .generated = true,
                     .max_tokens = 4,
                     .data = strdup(in_folder(b->folder, "rows.jsonl"))};
    int64_t id = run(b, "reports", (engine_options){.threads = 1}, &p);
    p.seed = 4;
    int64_t second = run(b, "reports", (engine_options){.threads = 1}, &p);
    store *s = open_runs(b, "reports");
    eval_report r, q;
    OK(eval_report_load(&r, s, id, &error));
    OK(eval_report_load(&q, s, second, &error));
    assert_int_equal(json_array_size(r.cells), 8);
    /* Three of four questions have an answer, at each of two lengths. */
    const json_t *table = json_array_get(json_object_get(r.summary, "tables"), 0);
    const json_t *f1 = json_array_get(json_array_get(json_object_get(table, "values"), 0), 0);
    assert_int_equal(json_integer_value(json_object_get(f1, "n")), 3);
    assert_true(json_number_value(json_object_get(f1, "high")) >
                json_number_value(json_object_get(f1, "low")));

    char *html = written(eval_report_html, &r), *csv = written(eval_report_csv, &r);
    assert_null(strstr(html, "http:"));
    assert_null(strstr(html, "https:"));
    assert_null(strstr(html, "src="));
    assert_null(strstr(html, "<script"));
    assert_non_null(strstr(html, "&lt;script&gt;")); /* from a question */
    assert_non_null(strstr(html, "n=3"));
    assert_non_null(strstr(html, "Lost in the middle"));
    assert_non_null(strstr(html, "<svg"));
    assert_int_equal(count(csv, "\r\n"), 9);
    free(html);
    free(csv);
    json_t *d = eval_diff(&r, &q);
    assert_true(json_array_size(json_object_get(d, "figures")) > 0);
    json_decref(d);
    json_t *all = eval_report_json(&r);
    assert_non_null(all);
    json_decref(all);
    eval_report_free(&r);
    eval_report_free(&q);
    store_close(s);
    eval_params_free(&p);
}

static void comparison(void **state) {
    const bench *b = *state;
    eval_params p = needles(2048, 3, true);
    p.kind = EVAL_COMPARE;
    p.ks[0] = 16;
    p.ks[1] = 4096; /* everything: as good as dense */
    p.n_ks = 2;
    int64_t id = run(b, "compare", (engine_options){.threads = 1, .topk = 4096}, &p);
    store *s = open_runs(b, "compare");
    eval_report r;
    OK(eval_report_load(&r, s, id, &error));
    assert_int_equal(json_array_size(r.cells), 9);
    for (size_t i = 0; i < 9; i++) {
        const json_t *c = json_array_get(r.cells, i);
        const char *variant = json_string_value(json_object_get(c, "variant"));
        double kl = json_number_value(json_object_get(json_object_get(c, "kl"), "mean"));
        if (!strcmp(variant, "dense")) assert_true(kl == 0);
        if (!strcmp(variant, "k=16")) assert_true(kl > 0.01);
        if (!strcmp(variant, "k=4096")) assert_true(kl < 1e-3);
    }
    eval_report_free(&r);
    store_close(s);
    eval_params_free(&p);
}

/* ---- stored documents ---- */

static void deleted_with_its_document(void **state) {
    const bench *b = *state;
    store *s = open_runs(b, "documents");
    char *text = eval_generate_text(9, 30000, &error);
    char kind[] = "text/plain", name[] = "secret.txt", none[] = "";
    store_document d = {.name = name,
                        .source = none,
                        .media_type = kind,
                        .title = none,
                        .warning = none,
                        .picture_pages = none};
    memset(d.hash, 1, sizeof d.hash);
    OK(store_document_add(s, &d, text, NULL, 0, NULL, NULL, &error));
    free(text);
    free(d.name);
    eval_params p = needles(2048, 3, true);
    p.generated = false;
    p.documents = true;
    engine *e = open_tiny(b, (engine_options){.threads = 1});
    int64_t id = 0;
    eval_options options = {.command = "test", .run = &id};
    OK(eval_run(s, e, &p, 0, &options, &error));
    store_run row;
    OK(store_run_get(s, id, &row, &error));
    store_run_free(&row);
    OK(store_document_delete(s, d.id, NULL, &error));
    assert_int_equal(store_run_get(s, id, &row, &error), PH_NOT_FOUND);
    char *report = NULL;
    OK(store_verify(s, &report, &error));
    assert_string_equal(report, "");
    free(report);
    store_close(s);
    engine_close(e);
    eval_params_free(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_seed_same_run),
        cmocka_unit_test(killed_and_resumed),
        cmocka_unit_test(stopped_and_refused),
        cmocka_unit_test(index_scores),
        cmocka_unit_test(planted_faults),
        cmocka_unit_test(reports),
        cmocka_unit_test(comparison),
        cmocka_unit_test(deleted_with_its_document),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
