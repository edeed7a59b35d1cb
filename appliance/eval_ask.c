/* eval_ask.c - questions asked as a person asks them: the passages become documents of a library of their
 * own, packed and read as any, and each question goes through answer.h, once with a first look at the
 * passages that full text ranks first and once at the whole pack. */
#include "appliance/eval_ask.h"

#include "appliance/eval_haystack.h"
#include "appliance/eval_verdict.h"

#include <errno.h>
#include <ftw.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DEFAULT_TOKENS = 64, SEARCH_HITS = 64 };

/* ---- which questions ---- */

typedef struct asked {
    size_t row, qa;
} asked;

int eval_ask_plan(eval_plan *plan, ph_error *err) {
    const eval_params *p = plan->params;
    size_t all = 0, n = 0;
    if (plan->rows.n == 0) return ph_fail(err, PH_USAGE, "questions come from a file: give one with --qa");
    for (size_t i = 0; i < plan->rows.n; i++) all += plan->rows.list[i].n_qas;
    asked *list = plan->maker = calloc(all + 1, sizeof *list);
    plan->groups = calloc(1, sizeof *plan->groups);
    if (!list || !plan->groups) return ph_fail(err, PH_MEMORY, "no memory for a plan");
    for (size_t i = 0; i < plan->rows.n; i++)
        for (size_t k = 0; k < plan->rows.list[i].n_qas; k++) list[n++] = (asked){i, k};
    eval_random r = eval_stream(p->seed, "asked", 0, 0);
    for (size_t i = n; i > 1; i--) {
        size_t j = eval_below(&r, i);
        asked swap = list[i - 1];
        list[i - 1] = list[j];
        list[j] = swap;
    }
    if (p->limit > 0 && n > (size_t)p->limit) n = (size_t)p->limit;
    plan->groups[0] = (eval_group){.length = engine_config(plan->engine)->max_positions, .questions = n};
    plan->n_groups = n > 0;
    int code = PH_OK;
    for (size_t i = 0; i < plan->rows.n && !code; i++) {
        const eval_row *row = &plan->rows.list[i];
        int64_t tokens = 0;
        code = pack_measure(engine_tokenizer(plan->engine), row->name, row->text, strlen(row->text), &tokens,
                            err);
        plan->groups[0].tokens += tokens;
    }
    return code;
}

void eval_ask_plan_free(eval_plan *plan) {
    free(plan->maker);
    plan->maker = NULL;
}

/* ---- the library ---- */

struct eval_library {
    const eval_plan *plan;
    char *dir;
    store *store;
    int64_t *documents; /* [rows] */
};

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at) {
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

void eval_library_close(eval_library *l) {
    if (!l) return;
    store_close(l->store);
    if (l->dir) nftw(l->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(l->dir);
    free(l->documents);
    free(l);
}

static int make_folder(char **out, ph_error *err) {
    const char *below = getenv("TMPDIR");
    if (asprintf(out, "%s/pharos-eval-XXXXXX", below && *below ? below : "/var/tmp") < 0) *out = NULL;
    if (!*out) return ph_fail(err, PH_MEMORY, "no memory for a library");
    if (mkdtemp(*out)) return PH_OK;
    int code = ph_fail(err, PH_FAIL, "cannot make the folder %s: %s", *out, strerror(errno));
    free(*out);
    *out = NULL;
    return code;
}

/* A passage that stands in the file twice is one document. */
static int add_row(eval_library *l, size_t number, ph_error *err) {
    const eval_row *row = &l->plan->rows.list[number];
    char *name = row->name[0] ? row->name : (char *)"passage";
    store_document d = {.name = name,
                        .source = (char *)"",
                        .media_type = (char *)"text/plain",
                        .title = (char *)"",
                        .warning = (char *)"",
                        .picture_pages = (char *)"",
                        .bytes = (int64_t)strlen(row->text)};
    int64_t existing = 0;
    crypto_generichash(d.hash, sizeof d.hash, (const uint8_t *)row->text, strlen(row->text), NULL, 0);
    int code = store_document_add(l->store, &d, row->text, NULL, 0, NULL, &existing, err);
    l->documents[number] = existing ? existing : d.id;
    if (d.name != name) free(d.name);
    return code;
}

int eval_library_open(eval_library **out, const eval_plan *plan, ph_error *err) {
    eval_library *l = *out = calloc(1, sizeof *l);
    if (l) l->documents = calloc(plan->rows.n + 1, sizeof *l->documents);
    if (!l || !l->documents) return ph_fail(err, PH_MEMORY, "no memory for a library");
    l->plan = plan;
    int code = make_folder(&l->dir, err);
    if (!code) code = store_open(&l->store, l->dir, err);
    if (!code) code = store_begin(l->store, err);
    for (size_t i = 0; i < plan->rows.n && !code; i++) code = add_row(l, i, err);
    return code ? code : store_commit(l->store, err);
}

/* ---- asking ---- */

/* Rank of the first hit of full text in the document; 0 = none. */
static int search_rank(eval_library *l, const char *question, int64_t document, int *rank, ph_error *err) {
    store_hit *hits = NULL;
    size_t n = 0;
    *rank = 0;
    int code = store_search(l->store, question, SEARCH_HITS, &hits, &n, err);
    for (size_t i = 0; i < n && !*rank; i++)
        if (hits[i].document == document) *rank = (int)i + 1;
    free(hits);
    return code;
}

static int read_rank(const answer *a, int64_t document) {
    for (size_t i = 0; i < a->n_read; i++)
        if (a->read[i].text->document == document) return (int)i + 1;
    return 0;
}

static bool cited(const answer *a, int64_t document) {
    for (size_t i = 0; i < a->row.n_citations; i++)
        if (a->row.citations[i].document == document && a->row.citations[i].in_text) return true;
    return false;
}

static json_t *strings(char *const *list, size_t n) {
    json_t *out = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(out, json_string(list[i]));
    return out;
}

static int64_t pack_characters(const loaded_pack *p) {
    int64_t n = 0;
    for (size_t i = 0; i < p->n_texts; i++)
        for (size_t k = p->texts[i].span.text_start; k < p->texts[i].span.text_end; k++)
            n += ((unsigned char)p->texts[i].text[k] & 0xC0) != 0x80;
    return n;
}

/* Why the answer is wrong, from its trace: the place is where the passage says it, in the pack that was
 * answered from. */
static int judge(eval_verdict *out, eval_question *q, const answer *a, const eval_qa *qa, int64_t document,
                 const eval_score *score, int k, char *detail, ph_error *err) {
    eval_sights answered = {0}, thought = {0};
    int64_t positions = a->row.prompt_tokens;
    uint32_t *ends = calloc(a->trace.n_tokens + 1, sizeof *ends);
    eval_answer given = {.got = a->row.answer,
                         .stop = a->cut_off ? STOP_LENGTH : STOP_EOS,
                         .ends = ends,
                         .n_tokens = (int)a->trace.n_tokens};
    int code = ends ? PH_OK : ph_fail(err, PH_MEMORY, "no memory for a verdict");
    for (size_t i = 0; i < a->trace.n_tokens && !code; i++)
        ends[i] = a->trace.tokens[i].piece_start + a->trace.tokens[i].piece_len;
    for (size_t i = 0; i < a->pack.n_texts && q->n_spans == 0; i++)
        if (a->pack.texts[i].document == document) eval_question_places(q, &a->pack, (int)i, qa);
    if (!code) code = eval_sights_of_trace(&answered, &a->trace, positions, q->spans, q->n_spans, err);
    if (!code) code = eval_sights_of_trace(&thought, &a->thought, positions, q->spans, q->n_spans, err);
    if (!code) *out = eval_judge(q, &given, score, &answered, &thought, k, detail);
    eval_sights_free(&answered);
    eval_sights_free(&thought);
    free(ends);
    return code;
}

static json_t *cell(const eval_library *l, const answer *a, const eval_qa *qa, int64_t document, int variant,
                    int bm25, ph_error *err) {
    const eval_plan *plan = l->plan;
    eval_question q = {
        .task = "qa", .question = qa->question, .answers = qa->answers, .n_answers = qa->n_answers};
    eval_score score;
    char detail[400];
    const char *got = a->row.answer;
    if (eval_score_answer(&score, EVAL_QA, &q, got, err)) return NULL;
    eval_verdict v;
    if (judge(&v, &q, a, qa, document, &score, engine_topk(plan->engine), detail, err)) return NULL;
    json_t *out = json_pack(
        "{s:s, s:I, s:i, s:f, s:s, s:I, s:I, s:s, s:o, s:s, s:i, s:f, s:f, s:f, s:f, s:b, s:b, s:s, s:f, "
        "s:b, "
        "s:s, s:i, s:i, s:i, s:i, s:o, s:o}",
        "task", "qa", "length", (json_int_t)plan->groups[0].length, "sample", 0, "depth", -1.0, "variant",
        plan->variants[variant].name, "prompt_tokens", (json_int_t)a->row.prompt_tokens, "characters",
        (json_int_t)pack_characters(&a->pack), "question", qa->question, "expected",
        strings(qa->answers, qa->n_answers), "stop", a->cut_off ? "length" : "end", "tokens",
        (int)a->trace.n_tokens, "score", score.score, "contains", score.contains, "exact", score.exact, "f1",
        score.f1, "said_absent", score.said_absent, "right", score.right, "verdict", eval_verdict_name(v),
        "confidence", a->confidence, "cited", cited(a, document), "look", a->passages ? "passages" : "whole",
        "passages", a->passages, "packs_asked", a->packs_asked, "read_rank", read_rank(a, document),
        "bm25_rank", bm25, "answer", eval_answer_string(got), "detail", eval_answer_string(detail));
    if (!out) {
        ph_fail(err, PH_MEMORY, "no memory for a cell");
        return NULL;
    }
    if (plan->params->thinking == THINK_FIRST)
        json_object_set_new(out, "thought",
                            json_pack("{s:o, s:i, s:n}", "text",
                                      eval_answer_string(a->thought.text ? a->thought.text : ""), "tokens",
                                      (int)a->thought.n_tokens, "trace"));
    return out;
}

int eval_library_ask(eval_library *l, size_t number, int variant, answer_progress progress, void *user,
                     json_t **result, json_t **timing, ph_error *err) {
    const eval_params *p = l->plan->params;
    const asked *which = &((const asked *)l->plan->maker)[number];
    const eval_qa *qa = &l->plan->rows.list[which->row].qas[which->qa];
    int64_t document = l->documents[which->row];
    answer a = {0};
    int rank = 0;
    answer_options o = {.max_tokens = p->max_tokens ? p->max_tokens : DEFAULT_TOKENS,
                        .whole = variant == 1,
                        .thinking = p->thinking,
                        .discard = true,
                        .full_trace = true, /* a verdict asks what was selected, however little it weighs */
                        .progress = progress,
                        .user = user};
    int code = answer_question(&a, l->store, l->plan->engine, qa->question, &o, err);
    if (code) return code;
    code = search_rank(l, qa->question, document, &rank, err);
    *result = code ? NULL : cell(l, &a, qa, document, variant, rank, err);
    if (!code && !*result) code = PH_MEMORY;
    *timing = json_pack("{s:f, s:I, s:f, s:f, s:f, s:I, s:I}", "prefill_s", a.row.prefill_ms / 1e3,
                        "read_tokens", (json_int_t)(a.row.prompt_tokens - a.row.cached_tokens), "question_s",
                        0.0, "first_token_s", a.row.first_token_ms / 1e3, "answer_s", a.row.total_ms / 1e3,
                        "context_bytes", (json_int_t)0, "resident_bytes", (json_int_t)0);
    answer_free(&a);
    return code;
}
