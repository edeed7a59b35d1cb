/* eval.h - evaluation runs: does the model read what is far away, and where a miss comes from.
 *
 *   parameters -> plan: haystacks, each with its questions (eval_needle.c, eval_ruler.c, eval_qa.c)
 *              -> for each haystack: read once; for each question: feed, generate, look where attention went,
 *                 score, verdict, rewind (eval_run.c)
 *              -> every cell into the store as it is done (store/runs.c)
 *              -> summary (eval_summary.c) -> terminal, CSV, HTML (eval_report.c, eval_html.c)
 *
 * A run is a function of its parameters, the model and the texts: the same ones give the same cells, byte for
 * byte, on one machine, for any number of threads. Timings are kept apart from results.
 */
#ifndef PHAROS_EVAL_H
#define PHAROS_EVAL_H

#include "appliance/library.h"
#include "appliance/thinking.h"
#include "engine/engine.h"
#include "store/store.h"

#include <jansson.h>

typedef enum eval_kind { EVAL_NEEDLE, EVAL_RULER, EVAL_QA, EVAL_RECALL, EVAL_COMPARE, EVAL_KINDS } eval_kind;
const char *eval_kind_name(eval_kind k);
int eval_kind_find(const char *name); /* -1 = none */

enum {
    EVAL_BUFFER = 200, /* tokens of every length that stay free for the answer */
    EVAL_MAX_LENGTHS = 64,
    EVAL_MAX_DEPTHS = 101, /* that are named one by one */
    EVAL_MAX_KS = 16,
    EVAL_MAX_SPANS = 8,
    EVAL_RULER_TASKS = 13,
};

typedef struct eval_needle {
    char *needle, *question, *answer;
} eval_needle;

/* What a run is made of. Strings owned; free with eval_params_free. As JSON in the store: a run resumes from
 * it. */
typedef struct eval_params {
    eval_kind kind;
    eval_kind over; /* the prompts: NEEDLE, RULER or QA; equals kind but for RECALL and COMPARE */
    int64_t lengths[EVAL_MAX_LENGTHS];
    int n_lengths;
    uint64_t seed;
    int samples;    /* haystacks of each length (needle), prompts of each task and length (ruler) */
    int max_tokens; /* of an answer; 0 = the kind's */
    answer_thinking thinking; /* never THINK_AS_MODEL once the run has begun */

    /* haystacks: `files` (paths), else stored documents, else generated text, else /usr/share/common-licenses
     */
    char **files;
    size_t n_files;
    bool documents, generated;

    int depths;    /* needle: how many, even ones from 0 to 100% */
    uint8_t depth[EVAL_MAX_DEPTHS]; /* the same one by one, ascending percents: then `depths` counts them */
    bool named_depths;
    bool together; /* one needle with its own key for each depth, all in one haystack */
    bool reworded; /* the drawn needles are asked for in other words than their own */
    eval_needle *needles;
    size_t n_needles;

    uint32_t tasks;     /* ruler: bit i = task i of eval_ruler_name */
    bool answer_prefix; /* ruler: start the answer as published */
    bool plain;         /* ruler: without the file template around the text */
    bool published;     /* ruler: the example before vt and cwe, and haystacks in the generator's steps */
    char *words;        /* ruler: path of a word list (eval_words.h); NULL = our own words */

    char *data;        /* qa, and ruler's qa tasks: path */
    int64_t questions; /* the same from the store (store_questions_get); 0 = none */
    char *source;     /* qa: passages of this source only; NULL = all */
    int limit;        /* questions of each length; 0 = all */
    int per_haystack; /* questions of one haystack; 0 = all */
    bool as_ask;      /* qa: the passages are documents, and each question is asked as `pharos ask` does */

    int ks[EVAL_MAX_KS]; /* compare: sparse with these many positions; 0 = the model's own */
    int n_ks;
    int topk; /* 0 = the model's */
    bool dense;
    engine_fault fault; /* planted, so that the verdicts can be checked; eval_fault_find */
    char text_hash[65]; /* of every text that the run is made of, filled at its start */
} eval_params;

/* "shuffled-scores" or "zeroed-attention"; ENGINE_FAULT_NONE where it is neither. */
engine_fault eval_fault_find(const char *name);

void eval_params_free(eval_params *p);
/* Takes n depths in percent, in any order, each once or more often; PH_USAGE where one is none. */
int eval_params_depths(eval_params *p, const int64_t *percent, int n, ph_error *err);
/* Depth i of `depths`, in percent. */
double eval_depth(const eval_params *p, int i);
/* From a request (the members of POST /api/v1/runs in openapi.json), complete with its defaults. Paths cannot
 * come in this way: a run that was asked for reads stored documents, text that it makes, the licences of the
 * machine, and questions that the store keeps. `most` positions of the model, topk its own. PH_USAGE with a
 * sentence; *p is then freed. */
int eval_params_request(eval_params *p, const json_t *body, int64_t most, int topk, ph_error *err);
json_t *eval_params_json(const eval_params *p); /* NULL: out of memory */
int eval_params_parse(eval_params *p, const char *json, ph_error *err);

/* ---- texts ---- */

typedef struct eval_text {
    char *name, *text;
    size_t len;
    int64_t document; /* 0 = not a stored one */
} eval_text;

typedef struct eval_texts {
    eval_text *list;
    size_t n;
} eval_texts;

void eval_texts_free(eval_texts *t);
/* A whole file and a NUL behind its len bytes; owned. */
int eval_read_file(const char *path, char **out, size_t *len, ph_error *err);
/* The haystack's texts as p names them; s is used for stored documents only. */
int eval_texts_load(eval_texts *t, const eval_params *p, store *s, ph_error *err);
/* Plain sentences about nothing, deterministic. Owned. */
char *eval_generate_text(uint64_t seed, size_t bytes, ph_error *err);

/* A passage with questions. */
typedef struct eval_qa {
    char *question;
    char **answers; /* none: the passage does not say */
    size_t n_answers;
} eval_qa;
typedef struct eval_row {
    char *source, *name, *text;
    eval_qa *qas;
    size_t n_qas;
} eval_row;
typedef struct eval_rows {
    eval_row *list;
    size_t n;
} eval_rows;
void eval_rows_free(eval_rows *r);
/* SQuAD JSON or our JSON lines; a compressed file is refused by name. */
/* source NULL = all. */
int eval_rows_load(eval_rows *r, const char *path, const char *source, ph_error *err);
/* The same from memory; text[len] is NUL; `name` is for messages. */
int eval_rows_parse(eval_rows *r, const char *name, const char *text, size_t len, const char *source, ph_error *err);

/* ---- haystacks and questions ---- */

typedef struct eval_span {
    int64_t start, end; /* tokens of the prompt */
} eval_span;

typedef struct eval_question {
    const char *task; /* static */
    char *question;
    char **answers; /* references; none = nothing in the haystack answers */
    size_t n_answers;
    bool all;     /* every reference is asked for; else any one */
    double depth; /* percent of the haystack before it; -1 = several or none */
    int max_tokens;
    char *prefix;                    /* starts the answer; NULL = none */
    eval_span spans[EVAL_MAX_SPANS]; /* where the references stand */
    int n_spans;
    int text;     /* the source's number in the haystack's texts; -1 = unknown */
    size_t start; /* of the source (needle, paragraph) in that text, bytes */
    size_t end;
} eval_question;

typedef struct eval_haystack {
    loaded_pack pack; /* texts and prompt */
    int64_t characters;
    eval_question *questions;
    size_t n;
} eval_haystack;
void eval_haystack_free(eval_haystack *h);

/* One haystack of a plan. */
typedef struct eval_group {
    int task; /* ruler's */
    int64_t length;
    int sample;
    int number;       /* the maker's own: which depth, which pack of rows */
    size_t questions; /* how many it will have */
    size_t cell;      /* number of its first cell */
    int64_t tokens;   /* read for it, where that is not its length for each variant; else 0 */
} eval_group;

typedef struct eval_variant {
    char name[24]; /* "sparse", "dense", "k=256" */
    int topk;      /* 0 = the model's */
    bool dense;
} eval_variant;

/* Everything that a run needs, made from its parameters before the first cell. */
typedef struct eval_plan {
    const eval_params *params;
    engine *engine;
    eval_texts texts;
    eval_rows rows;
    struct eval_lexicon *lexicon; /* ruler's words; NULL = our own */
    eval_group *groups;
    size_t n_groups;
    eval_variant variants[EVAL_MAX_KS + 1];
    int n_variants;
    size_t cells; /* over all groups and variants */
    void *maker;  /* the maker's own state */
} eval_plan;

/* params is borrowed and its text_hash filled (or, where it is set, compared: PH_USAGE when a text has
 * changed). */
int eval_plan_make(eval_plan *plan, eval_params *p, store *s, engine *e, ph_error *err);
void eval_plan_free(eval_plan *plan);
int eval_group_make(eval_haystack *h, const eval_plan *plan, size_t group, ph_error *err);

/* Tokens that a run of this plan reads, sparse and dense apart: haystacks that begin alike are read once. */
void eval_plan_tokens(const eval_plan *plan, int64_t *sparse, int64_t *dense);

/* The makers: fill plan->groups (without cell) and plan->maker; make one. */
int eval_needle_plan(eval_plan *plan, ph_error *err);
int eval_needle_make(eval_haystack *h, const eval_plan *plan, const eval_group *g, ph_error *err);
int eval_ruler_plan(eval_plan *plan, ph_error *err);
int eval_ruler_make(eval_haystack *h, const eval_plan *plan, const eval_group *g, ph_error *err);
const char *eval_ruler_name(int task); /* NULL past the last */
int eval_qa_plan(eval_plan *plan, ph_error *err);
int eval_qa_make(eval_haystack *h, const eval_plan *plan, const eval_group *g, ph_error *err);
void eval_ruler_plan_free(eval_plan *plan);
void eval_qa_plan_free(eval_plan *plan);

/* Questions asked through answer.h (as_ask): one group, and two variants: the first look at promising passages, and
 * the whole pack at once. */
int eval_ask_plan(eval_plan *plan, ph_error *err);
void eval_ask_plan_free(eval_plan *plan);

/* ---- running ---- */

/* Cells done of all, and of the haystack being read tokens done of all (0 of 0 between). Non-zero stops. */
typedef int (*eval_progress)(void *user, const char *what, size_t cells, size_t all, int64_t tokens,
                             int64_t all_tokens);

typedef struct eval_options {
    const char *command;    /* line, for the record */
    eval_progress progress; /* may be NULL */
    void *user;
    int64_t *run; /* filled as soon as the run has a number; may be NULL */
} eval_options;

/* A new run of p (resume == 0), or the missing cells of an old one (p is then the run's own). */
int eval_run(store *s, engine *e, eval_params *p, int64_t resume, const eval_options *o, ph_error *err);
/* The engine options that a run needs: top-k and dense. */
void eval_engine_options(const eval_params *p, int *topk, bool *dense);

/* ---- reports ---- */

/* A run with its cells, and every figure of it. Free with eval_report_free. */
typedef struct eval_report {
    store_run run;
    json_t *params;
    json_t *cells;   /* [{result..., "cell": n, "timing": {...}}] in the order of their numbers */
    json_t *summary; /* tables: see eval_summary.c */
} eval_report;

int eval_report_load(eval_report *r, store *s, int64_t run, ph_error *err); /* 0 = the latest */
void eval_report_free(eval_report *r);
json_t *eval_summarise(const json_t *params, const json_t *cells);
json_t *eval_report_json(const eval_report *r);
/* BLAKE2b-256 of all cells without their timings, as hexadecimal digits: the same for the same seed. false: out of
 * memory. */
bool eval_report_digest(const eval_report *r, char hex[65]);
/* Without timings, so that the same seed gives the same file; eval_report_json has them. */
int eval_report_csv(const eval_report *r, FILE *f, ph_error *err);
int eval_report_html(const eval_report *r, FILE *f, ph_error *err);
void eval_report_print(const eval_report *r, FILE *f);
void eval_cell_print(const json_t *cell, FILE *f);
/* What changed between two runs: the tables side by side and the cells whose score differs. */
json_t *eval_diff(const eval_report *a, const eval_report *b);

/* ---- random numbers ---- */

/* splitmix64: a run's only source of chance. */
typedef struct eval_random {
    uint64_t state;
} eval_random;
uint64_t eval_next(eval_random *r);
uint64_t eval_below(eval_random *r, uint64_t n); /* 0 .. n - 1; n > 0 */
/* A stream of its own for each use: a seed, a name and two numbers. */
eval_random eval_stream(uint64_t seed, const char *name, int64_t a, int64_t b);

#endif
