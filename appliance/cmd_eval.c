/* cmd_eval.c - `pharos eval`: runs that show whether the model reads what is far away, and their reports. The
 * work is in eval.h's files. */
#include "appliance/command.h"
#include "appliance/eval.h"
#include "appliance/progress.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct eval_command {
    common_options common;
    eval_params params;
    const char *what; /* needle, ..., ls */
    bool single, lengths_given, depths_given;
    const char *needle, *question, *answer, *needles_file;
    const char *csv, *html;
    int64_t runs[2], cell;
    int n_runs;
    progress line;
} eval_command;

enum {
    OPTION_LENGTHS = 3000,
    OPTION_DEPTHS,
    OPTION_SAMPLES,
    OPTION_SEED,
    OPTION_TOGETHER,
    OPTION_REWORDED,
    OPTION_NEEDLE,
    OPTION_QUESTION,
    OPTION_ANSWER,
    OPTION_NEEDLES,
    OPTION_HAYSTACK,
    OPTION_DOCUMENTS,
    OPTION_GENERATED,
    OPTION_TASKS,
    OPTION_PREFIX,
    OPTION_PLAIN,
    OPTION_FAULT,
    OPTION_PUBLISHED,
    OPTION_WORDS,
    OPTION_QA,
    OPTION_DATA,
    OPTION_SOURCE,
    OPTION_LIMIT,
    OPTION_PER_HAYSTACK,
    OPTION_KS,
    OPTION_MAX_TOKENS,
    OPTION_THINK,
    OPTION_NO_THINK,
    OPTION_AS,
    OPTION_OVER,
    OPTION_CSV,
    OPTION_HTML,
    OPTION_CELL,
};

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "Runs (needle, ruler, qa, recall, compare):", 1},
    {"lengths", OPTION_LENGTHS, "LIST", 0, "Tokens of the prompts: 4K,32K,131072", 1},
    {"samples", OPTION_SAMPLES, "N", 0,
     "Haystacks of each length, or prompts of each RULER task (1; ruler 5)", 1},
    {"seed", OPTION_SEED, "N", 0, "The same seed gives the same run (42)", 1},
    {"max-tokens", OPTION_MAX_TOKENS, "N", 0, "Longest answer (needle and qa 64, RULER's own)", 1},
    {"think", OPTION_THINK, NULL, 0,
     "The sentence that answers is written first, and the answer from it (as the model has it)", 1},
    {"no-think", OPTION_NO_THINK, NULL, 0, "The answer is written at once", 1},
    {"haystack", OPTION_HAYSTACK, "PATH", 0, "Plain text files or a folder; may be given again", 1},
    {"documents", OPTION_DOCUMENTS, NULL, 0, "The stored documents are the haystack", 1},
    {"generated", OPTION_GENERATED, NULL, 0, "Generated sentences are the haystack", 1},
    {"over", OPTION_OVER, "KIND", 0,
     "Prompts of recall and compare: needle, ruler or qa (qa with --qa, else needle)", 1},
    {"fault", OPTION_FAULT, "FAULT", 0,
     "Plant one, to see the verdicts name it: shuffled-scores (of the indexer) or zeroed-attention", 1},
    {NULL, 0, NULL, 0, "Needles:", 2},
    {"depths", OPTION_DEPTHS, "N|LIST", 0, "So many even depths from 0 to 100% (15), or these: 0,50,100 or 90%", 2},
    {"together", OPTION_TOGETHER, NULL, 0,
     "All depths of a length in one haystack, each needle with its own key: one reading a row; ruler: the "
     "tasks over essays",
     2},
    {"reworded", OPTION_REWORDED, NULL, 0, "Ask for needles with their own keys in other words than theirs",
     2},
    {"needle", OPTION_NEEDLE, "TEXT", 0, "Sentence to hide, with --question and --answer", 2},
    {"question", OPTION_QUESTION, "TEXT", 0, "What is asked", 2},
    {"answer", OPTION_ANSWER, "TEXT", 0, "What is right", 2},
    {"needles", OPTION_NEEDLES, "FILE", 0, "JSON lines {needle, question, answer}", 2},
    {NULL, 0, NULL, 0, "RULER:", 3},
    {"tasks", OPTION_TASKS, "LIST", 0, "Names or parts of them: niah_single,vt (all; qa only with --qa)", 3},
    {"answer-prefix", OPTION_PREFIX, NULL, 0, "Begin the answer for the model, as published", 3},
    {"plain", OPTION_PLAIN, NULL, 0, "No file template around the text", 3},
    {"published", OPTION_PUBLISHED, NULL, 0,
     "Prompts as the published generator makes them: plain, with the answer's beginning, the example before "
     "vt and cwe, and haystacks in its steps",
     3},
    {"words", OPTION_WORDS, "FILE", 0, "Words of keys and lists, a line each: \"adjective W\", noun, verb",
     3},
    {NULL, 0, NULL, 0, "Questions:", 4},
    {"qa", OPTION_QA, "FILE", 0,
     "Passages with questions: SQuAD JSON or JSON lines {name, text, qas}; --data FILE too", 4},
    {"data", OPTION_DATA, "FILE", OPTION_HIDDEN, NULL, 4},
    {"as", OPTION_AS, "ask", 0,
     "qa: the passages are documents; each question is asked as `pharos ask` does, and once of the whole pack",
     4},
    {"source", OPTION_SOURCE, "NAME", 0, "Only passages whose \"source\" is NAME", 4},
    {"limit", OPTION_LIMIT, "N", 0, "At most N questions of each length", 4},
    {"per-haystack", OPTION_PER_HAYSTACK, "N", 0, "At most N questions of one haystack (compare 16)", 4},
    {"ks", OPTION_KS, "LIST", 0,
     "compare: numbers of selected positions (the model's, and a quarter and four times it)", 4},
    {NULL, 0, NULL, 0, "Reports:", 5},
    {"csv", OPTION_CSV, "FILE", 0, "Write every cell as CSV (- is standard output)", 5},
    {"html", OPTION_HTML, "FILE", 0, "Write one self-contained page (- is standard output)", 5},
    {"cell", OPTION_CELL, "N", 0, "show: this cell alone", 5},
    {0},
};

static long long whole(const char *arg, long long low, long long high, const char *what,
                       struct argp_state *state) {
    char *end;
    errno = 0;
    long long v = strtoll(arg, &end, 10);
    if (errno || *end || end == arg || v < low || v > high) argp_error(state, "%s is no %s", arg, what);
    return v;
}

/* "4K,32K,131072" */
static int number_list(const char *arg, int64_t *out, int most, const char *what, struct argp_state *state) {
    int n = 0;
    for (const char *p = arg; *p;) {
        char *end;
        errno = 0;
        long long v = strtoll(p, &end, 10);
        if (*end == 'K' || *end == 'k') {
            v *= 1024;
            end++;
        }
        if (end == p || errno || v < 1 || v > 1 << 24 || (*end && *end != ',') || n == most)
            argp_error(state, "%s is no list of %s", arg, what);
        out[n++] = v;
        p = *end ? end + 1 : end;
    }
    if (!n) argp_error(state, "the list of %s is empty", what);
    return n;
}

/* A number of even depths ("11"), or the depths themselves ("0,50,100", "90%"). */
static void take_depths(eval_params *p, const char *arg, struct argp_state *state) {
    int64_t percent[EVAL_MAX_DEPTHS];
    int n = 0;
    if (!strpbrk(arg, ",%")) {
        p->depths = (int)whole(arg, 1, 1000, "number of depths", state);
        p->named_depths = false;
        return;
    }
    for (const char *at = arg; *at;) {
        char *end;
        errno = 0;
        long v = strtol(at, &end, 10);
        bool number = end > at && !errno && v >= 0 && v <= 100 && n < EVAL_MAX_DEPTHS;
        if (*end == '%') end++;
        if (!number || (*end && *end != ',')) argp_error(state, "%s is no list of depths", arg);
        percent[n++] = v;
        at = *end ? end + 1 : end;
    }
    ph_error err = {0};
    if (eval_params_depths(p, percent, n, &err)) argp_error(state, "%s: %s", arg, err.text);
}

static uint32_t task_list(const char *arg, struct argp_state *state) {
    uint32_t all = 0;
    char list[512];
    if (strlen(arg) >= sizeof list) argp_error(state, "the list of tasks is too long");
    strcpy(list, arg);
    char *rest = NULL;
    for (char *name = strtok_r(list, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
        uint32_t found = 0;
        for (int k = 0; eval_ruler_name(k); k++)
            if (!strncmp(eval_ruler_name(k), name, strlen(name))) found |= 1u << k;
        if (!found) argp_error(state, "there is no RULER task %s", name);
        all |= found;
    }
    return all;
}

/* Absolute, so that a run can be gone on with from anywhere; as it is where nothing is there. Owned. */
static char *absolute(const char *path, struct argp_state *state) {
    char *out = realpath(path, NULL);
    if (!out) out = strdup(path);
    if (!out) argp_failure(state, PH_MEMORY, 0, "out of memory");
    return out;
}

static void add_file(eval_params *p, const char *path, struct argp_state *state) {
    char **more = realloc(p->files, (p->n_files + 1) * sizeof *more);
    if (more) p->files = more;
    if (!more) argp_failure(state, PH_MEMORY, 0, "out of memory");
    p->files[p->n_files++] = absolute(path, state);
}

/* --data is the folder of every command; an evaluation's questions are a file. */
static bool is_questions(const char *path) {
    struct stat st;
    if (stat(path, &st) == 0) return S_ISREG(st.st_mode);
    const char *dot = strrchr(path, '.');
    return dot && !strncmp(dot, ".json", 5);
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    eval_command *o = state->input;
    eval_params *p = &o->params;
    int64_t ks[EVAL_MAX_KS];
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->common;
        break;
    case OPTION_LENGTHS:
        p->n_lengths = number_list(arg, p->lengths, EVAL_MAX_LENGTHS, "lengths", state);
        o->lengths_given = true;
        break;
    case OPTION_DEPTHS:
        take_depths(p, arg, state);
        o->depths_given = true;
        break;
    case OPTION_SAMPLES:
        p->samples = (int)whole(arg, 1, 100000, "number of samples", state);
        break;
    case OPTION_SEED:
        p->seed = (uint64_t)whole(arg, 0, INT64_MAX, "seed", state);
        break;
    case OPTION_MAX_TOKENS:
        p->max_tokens = (int)whole(arg, 1, 100000, "number of tokens", state);
        break;
    case OPTION_THINK:
        p->thinking = THINK_FIRST;
        break;
    case OPTION_NO_THINK:
        p->thinking = THINK_NOT;
        break;
    case OPTION_AS:
        if (strcmp(arg, "ask")) argp_error(state, "questions can be asked as ask, not as %s", arg);
        p->as_ask = true;
        break;
    case OPTION_TOGETHER:
        p->together = true;
        break;
    case OPTION_REWORDED:
        p->reworded = true;
        break;
    case OPTION_NEEDLE:
        o->needle = arg;
        break;
    case OPTION_QUESTION:
        o->question = arg;
        break;
    case OPTION_ANSWER:
        o->answer = arg;
        break;
    case OPTION_NEEDLES:
        o->needles_file = arg;
        break;
    case OPTION_HAYSTACK:
        add_file(p, arg, state);
        break;
    case OPTION_DOCUMENTS:
        p->documents = true;
        break;
    case OPTION_GENERATED:
        p->generated = true;
        break;
    case OPTION_TASKS:
        p->tasks = task_list(arg, state);
        break;
    case OPTION_PREFIX:
        p->answer_prefix = true;
        break;
    case OPTION_FAULT:
        p->fault = eval_fault_find(arg);
        if (!p->fault) argp_error(state, "%s is no fault: shuffled-scores or zeroed-attention", arg);
        break;
    case OPTION_PLAIN:
        p->plain = true;
        break;
    case OPTION_PUBLISHED:
        p->published = p->plain = p->answer_prefix = true;
        break;
    case OPTION_WORDS:
        free(p->words);
        p->words = absolute(arg, state);
        break;
    case OPTION_DATA:
        if (!is_questions(arg)) {
            o->common.data_dir = arg;
            break;
        }
        /* fall through */
    case OPTION_QA:
        free(p->data);
        p->data = absolute(arg, state);
        break;
    case OPTION_SOURCE:
        free(p->source);
        if (!(p->source = strdup(arg))) argp_failure(state, PH_MEMORY, 0, "out of memory");
        break;
    case OPTION_LIMIT:
        p->limit = (int)whole(arg, 1, 1 << 24, "number of questions", state);
        break;
    case OPTION_PER_HAYSTACK:
        p->per_haystack = (int)whole(arg, 1, 1 << 24, "number of questions", state);
        break;
    case OPTION_KS:
        p->n_ks = number_list(arg, ks, EVAL_MAX_KS, "numbers of positions", state);
        for (int i = 0; i < p->n_ks; i++) p->ks[i] = (int)ks[i];
        break;
    case OPTION_OVER: {
        int over = eval_kind_find(arg);
        if (over < 0 || over > EVAL_QA) argp_error(state, "%s is none of needle, ruler and qa", arg);
        p->over = (eval_kind)over;
        o->single = true;
        break;
    }
    case OPTION_CSV:
        o->csv = arg;
        break;
    case OPTION_HTML:
        o->html = arg;
        break;
    case OPTION_CELL:
        o->cell = whole(arg, 0, INT64_MAX, "cell", state);
        break;
    case ARGP_KEY_ARG:
        if (o->n_runs == 2 || eval_kind_find(o->what) >= 0)
            argp_error(state, "%s is one argument too many", arg);
        o->runs[o->n_runs++] = whole(arg, 1, INT64_MAX, "run", state);
        break;
    case ARGP_KEY_END:
        if (!strcmp(o->what, "diff") && o->n_runs != 2) argp_error(state, "name two runs: diff A B");
        if (!strcmp(o->what, "rm") && !o->n_runs) argp_error(state, "name a run");
        if ((o->needle || o->question || o->answer) && !(o->needle && o->question && o->answer))
            argp_error(state, "--needle, --question and --answer belong together");
        if (p->as_ask && strcmp(o->what, "qa")) argp_error(state, "--as belongs to qa");
        if (p->as_ask && (o->lengths_given || p->n_files || p->documents || p->generated || p->per_haystack))
            argp_error(
                state,
                "with --as ask the passages are the documents, and packs are as long as the model goes");
        if ((p->n_files > 0) + p->documents + p->generated > 1)
            argp_error(state, "the haystack is one of --haystack, --documents and --generated");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp eval_argp = {
    options,
    parse,
    "[RUN...]",
    "Shows whether the model reads what is far away, and why where it does not.\v"
    "eval needle|ruler|qa|recall|compare [OPTION...]  starts a run; Ctrl-C stops it at the next step\n"
    "eval resume [RUN]     goes on with a stopped or killed run (the latest)\n"
    "eval ls               lists the runs\n"
    "eval show [RUN]       shows one again; --cell N one cell, --csv, --html, --json\n"
    "eval diff A B         what changed between two runs\n"
    "eval rm RUN           forgets one",
    common_child,
    NULL,
    NULL};

/* ---- parameters ---- */

static int add_needle(eval_params *p, const char *needle, const char *question, const char *answer,
                      ph_error *err) {
    eval_needle *more = realloc(p->needles, (p->n_needles + 1) * sizeof *more);
    if (!more) return ph_fail(err, PH_MEMORY, "out of memory");
    p->needles = more;
    eval_needle *n = &more[p->n_needles++];
    *n = (eval_needle){strdup(needle), strdup(question), strdup(answer)};
    return n->needle && n->question && n->answer ? PH_OK : ph_fail(err, PH_MEMORY, "out of memory");
}

static int load_needles(eval_params *p, const char *path, ph_error *err) {
    FILE *f = fopen(path, "r");
    if (!f) return ph_fail(err, PH_NOT_FOUND, "%s cannot be opened: %s", path, strerror(errno));
    char *line = NULL;
    size_t capacity = 0;
    int code = PH_OK;
    for (int number = 1; !code && getline(&line, &capacity, f) > 0; number++) {
        if (!line[strspn(line, " \t\r\n")]) continue;
        json_error_t e;
        json_t *j = json_loads(line, 0, &e);
        const char *needle = json_string_value(json_object_get(j, "needle")),
                   *question = json_string_value(json_object_get(j, "question")),
                   *answer = json_string_value(json_object_get(j, "answer"));
        if (needle && question && answer)
            code = add_needle(p, needle, question, answer, err);
        else
            code = ph_fail(err, PH_USAGE, "%s, line %d: %s", path, number,
                           j ? "needle, question and answer are wanted" : e.text);
        json_decref(j);
    }
    free(line);
    fclose(f);
    if (!code && !p->n_needles) code = ph_fail(err, PH_USAGE, "%s has no needles", path);
    return code;
}

/* 15 even lengths from 1K to 128K, or as far as the model goes. */
static void default_lengths(eval_params *p, int64_t most) {
    static const int64_t few[] = {4096, 8192};
    if (p->kind == EVAL_NEEDLE) {
        int64_t last = most < 131072 ? most : 131072;
        for (int i = 0; i < 15; i++) {
            int64_t n = last < 15360 ? 1024 + (last - 1024) * i / 14
                                     : (1024 + (last - 1024) * i / 14 + 512) / 1024 * 1024;
            if (n < 512 || (p->n_lengths && n == p->lengths[p->n_lengths - 1])) continue;
            p->lengths[p->n_lengths++] = n;
        }
        return;
    }
    for (int i = 0; i < 2; i++)
        if (few[i] <= most || i == 0) p->lengths[p->n_lengths++] = few[i] < most ? few[i] : most;
}

static int complete(eval_command *o, int64_t most_positions, int topk, int most_topk, ph_error *err) {
    eval_params *p = &o->params;
    if (p->as_ask) p->lengths[p->n_lengths++] = most_positions;
    if (!p->n_lengths) default_lengths(p, most_positions);
    if (!p->depths) p->depths = p->kind == EVAL_NEEDLE ? 15 : 11;
    if (!p->samples) p->samples = p->over == EVAL_RULER ? 5 : 1;
    if (!p->tasks) p->tasks = p->data ? (1u << EVAL_RULER_TASKS) - 1 : (1u << 11) - 1;
    if (p->kind != p->over && p->over == EVAL_NEEDLE && !p->n_needles) p->together = true;
    if (p->kind != EVAL_COMPARE) return PH_OK;
    if (!p->per_haystack) p->per_haystack = 16;
    if (!p->n_ks) {
        int ks[] = {topk / 4, topk, topk * 4};
        for (int i = 0; i < 3; i++)
            if (ks[i] >= 1 && ks[i] <= most_topk) p->ks[p->n_ks++] = ks[i];
    }
    for (int i = 0; i < p->n_ks; i++)
        if (p->ks[i] > most_topk)
            return ph_fail(err, PH_USAGE, "%d positions are more than the model's %d", p->ks[i], most_topk);
    return PH_OK;
}

/* ---- running ---- */

static int show_progress(void *user, const char *what, size_t cells, size_t all, int64_t tokens,
                         int64_t all_tokens) {
    eval_command *o = user;
    char text[160];
    if (all_tokens)
        snprintf(text, sizeof text, "%s  cell %zu of %zu, reading %lld of %lld tokens", what, cells + 1, all,
                 (long long)tokens, (long long)all_tokens);
    else
        snprintf(text, sizeof text, "%s  cell %zu of %zu", what, cells + 1, all);
    progress_show(&o->line, text, (int64_t)cells, (int64_t)all, "cells");
    return interrupted;
}

static FILE *open_output(const char *path, ph_error *err, int *code) {
    FILE *f = strcmp(path, "-") ? fopen(path, "w") : stdout;
    if (!f) *code = ph_fail(err, PH_FAIL, "%s cannot be written: %s", path, strerror(errno));
    return f;
}

static int close_output(FILE *f, const char *path, int code, ph_error *err) {
    if (f && f != stdout && fclose(f) && !code)
        code = ph_fail(err, PH_FAIL, "%s cannot be written: %s", path, strerror(errno));
    return code;
}

static int show_cell(const eval_command *o, const eval_report *r, ph_error *err) {
    for (size_t i = 0; i < json_array_size(r->cells); i++) {
        json_t *c = json_array_get(r->cells, i);
        if (json_integer_value(json_object_get(c, "cell")) != o->cell) continue;
        if (o->common.json) return print_json(json_incref(c));
        eval_cell_print(c, stdout);
        return PH_OK;
    }
    return ph_fail(err, PH_NOT_FOUND, "run %lld has no cell %lld (yet)", (long long)r->run.id,
                   (long long)o->cell);
}

static int show(const eval_command *o, store *s, int64_t run, ph_error *err) {
    eval_report r;
    int code = eval_report_load(&r, s, run, err);
    if (code) return code;
    FILE *csv = NULL, *html = NULL;
    if (o->csv && (csv = open_output(o->csv, err, &code))) code = eval_report_csv(&r, csv, err);
    code = close_output(csv, o->csv, code, err);
    if (!code && o->html && (html = open_output(o->html, err, &code))) code = eval_report_html(&r, html, err);
    code = close_output(html, o->html, code, err);
    bool taken = csv == stdout || html == stdout;
    if (!code && o->cell >= 0)
        code = show_cell(o, &r, err);
    else if (!code && o->common.json && !taken)
        code = print_json(eval_report_json(&r));
    else if (!code && !taken)
        eval_report_print(&r, stdout);
    eval_report_free(&r);
    return code;
}

static char *command_line(int argc, char **argv) {
    size_t n = 16;
    for (int i = 0; i < argc; i++) n += strlen(argv[i]) * 2 + 4;
    char *out = malloc(n), *p = out;
    if (!out) return NULL;
    p = stpcpy(p, "pharos eval");
    for (int i = 1; i < argc; i++) {
        bool quote = !*argv[i] || strpbrk(argv[i], " \t\n\"'\\$&|;<>()*?");
        *p++ = ' ';
        if (quote) *p++ = '\'';
        for (const char *c = argv[i]; *c; c++) {
            if (*c == '\'') p = stpcpy(p, "'\\'");
            *p++ = *c;
        }
        if (quote) *p++ = '\'';
    }
    *p = 0;
    return out;
}

static int start(eval_command *o, store *s, const char *line, ph_error *err) {
    engine *e = NULL;
    eval_params *p = &o->params;
    int64_t run = 0;
    int code = PH_OK;
    p->topk = o->common.topk;
    p->dense = o->common.dense;
    if (o->needles_file) code = load_needles(p, o->needles_file, err);
    if (!code && o->needle) code = add_needle(p, o->needle, o->question, o->answer, err);
    common_options c = o->common;
    c.no_system = true;
    c.fault = p->fault;
    if (p->n_ks) eval_engine_options(p, &c.topk, &c.dense);
    if (!code) code = open_engine(&e, &c, err);
    if (!code)
        code = complete(o, engine_config(e)->max_positions, engine_topk(e), engine_config(e)->max_positions,
                        err);
    int topk;
    bool dense;
    eval_engine_options(p, &topk, &dense);
    if (!code && p->kind == EVAL_COMPARE && topk != engine_topk(e)) {
        engine_close(e);
        e = NULL;
        c.topk = topk;
        c.dense = false;
        code = open_engine(&e, &c, err);
    }
    eval_options run_options = {.command = line, .progress = show_progress, .user = o, .run = &run};
    if (!code) code = eval_run(s, e, p, 0, &run_options, err);
    engine_close(e);
    progress_end(&o->line);
    if (!code) return show(o, s, run, err);
    if (run && !o->common.quiet)
        fprintf(stderr, "Run %lld is kept: `pharos eval resume %lld` goes on with it.\n", (long long)run,
                (long long)run);
    return code;
}

static int resume(eval_command *o, store *s, ph_error *err) {
    store_run row = {0};
    engine *e = NULL;
    eval_params p = {0};
    common_options c = o->common;
    c.no_system = true;
    int code = store_run_get(s, o->n_runs ? o->runs[0] : 0, &row, err);
    if (!code) code = eval_params_parse(&p, row.parameters, err);
    if (!code) eval_engine_options(&p, &c.topk, &c.dense);
    c.fault = p.fault;
    if (!code) code = open_engine(&e, &c, err);
    eval_options run_options = {.command = row.command, .progress = show_progress, .user = o};
    if (!code) code = eval_run(s, e, &p, row.id, &run_options, err);
    engine_close(e);
    progress_end(&o->line);
    if (!code) code = show(o, s, row.id, err);
    eval_params_free(&p);
    store_run_free(&row);
    return code;
}

/* ---- lists ---- */

static const char *state_name(const store_run *r) {
    return r->state == RUN_DONE ? "done" : r->state == RUN_FAILED ? "failed" : "unfinished";
}

static int list(const eval_command *o, store *s, ph_error *err) {
    store_run *runs = NULL;
    size_t n = 0;
    int code = store_run_list(s, 1000, &runs, &n, err);
    if (code) return code;
    json_t *rows = o->common.json ? json_array() : NULL;
    if (!rows && n)
        printf("%5s  %-8s %-10s %15s  %-16s %s\n", "run", "kind", "state", "cells", "model", "command");
    for (size_t i = 0; i < n; i++) {
        const store_run *r = &runs[i];
        if (rows) {
            json_array_append_new(rows, json_pack("{s:I, s:s, s:s, s:I, s:I, s:s, s:s, s:I}", "run",
                                                  (json_int_t)r->id, "kind", r->kind, "state", state_name(r),
                                                  "cells", (json_int_t)r->cells, "done", (json_int_t)r->done,
                                                  "model", r->model, "command", r->command, "started_at",
                                                  (json_int_t)r->started_at));
            continue;
        }
        char *clean = printable(r->command, strlen(r->command));
        printf("%5lld  %-8s %-10s %7lld/%-7lld  %-16s %s\n", (long long)r->id, r->kind, state_name(r),
               (long long)r->done, (long long)r->cells, r->model, clean ? clean : "");
        free(clean);
    }
    store_runs_free(runs, n);
    return rows ? print_json(rows) : PH_OK;
}

static double mean_of(const json_t *figure, const char *side) {
    return json_number_value(json_object_get(json_object_get(figure, side), "mean"));
}

static int diff(const eval_command *o, store *s, ph_error *err) {
    eval_report a = {0}, b = {0};
    int code = eval_report_load(&a, s, o->runs[0], err);
    if (!code) code = eval_report_load(&b, s, o->runs[1], err);
    json_t *d = code ? NULL : eval_diff(&a, &b);
    if (!code && !d) code = ph_fail(err, PH_MEMORY, "out of memory");
    if (!code && o->common.json)
        code = print_json(json_incref(d));
    else if (!code) {
        const json_t *figures = json_object_get(d, "figures"), *cells = json_object_get(d, "cells");
        printf("%-44s %-14s %-14s %9s %9s %9s\n", "table", "row", "column", "a", "b", "change");
        for (size_t i = 0; i < json_array_size(figures); i++) {
            const json_t *f = json_array_get(figures, i);
            printf("%-44.44s %-14.14s %-14.14s %9.4f %9.4f %+9.4f%s\n",
                   json_string_value(json_object_get(f, "table")),
                   json_string_value(json_object_get(f, "row")),
                   json_string_value(json_object_get(f, "column")), mean_of(f, "a"), mean_of(f, "b"),
                   json_number_value(json_object_get(f, "change")),
                   json_is_true(json_object_get(f, "apart")) ? "  intervals apart" : "");
        }
        printf("\n%zu cells with another score\n", json_array_size(cells));
        for (size_t i = 0; i < json_array_size(cells); i++) {
            const json_t *c = json_array_get(cells, i);
            printf("  %lld: %.3f (%s) -> %.3f (%s)\n",
                   (long long)json_integer_value(json_object_get(c, "cell")),
                   json_number_value(json_object_get(c, "score_a")),
                   json_string_value(json_object_get(c, "verdict_a")),
                   json_number_value(json_object_get(c, "score_b")),
                   json_string_value(json_object_get(c, "verdict_b")));
        }
    }
    json_decref(d);
    eval_report_free(&a);
    eval_report_free(&b);
    return code;
}

int cmd_eval(int argc, char **argv) {
    static const char *const words[] = {"resume", "ls", "show", "diff", "rm"};
    eval_command o = {.cell = -1};
    ph_error err = {0};
    store *s = NULL;
    char name[64] = "eval";
    o.params.seed = 42;
    if (argc > 1 && argv[1][0] != '-') o.what = argv[1];
    int kind = o.what ? eval_kind_find(o.what) : -1;
    bool known = kind >= 0;
    for (size_t i = 0; i < sizeof words / sizeof *words && o.what; i++) known |= !strcmp(o.what, words[i]);
    if (o.what && !known) {
        fprintf(stderr,
                "pharos eval: there is no %.40s; needle, ruler, qa, recall, compare, resume, ls, show, diff, "
                "rm\n",
                o.what);
        return PH_USAGE;
    }
    if (!o.what) o.what = "ls";
    char *line = command_line(argc, argv);
    if (argc > 1 && argv[1][0] != '-') {
        snprintf(name, sizeof name, "eval %.40s", o.what);
        argv++;
        argc--;
    }
    argv[0] = name;
    o.params.kind = kind >= 0 ? (eval_kind)kind : EVAL_NEEDLE;
    parse_options(&eval_argp, argc, argv, &o);
    if (kind >= 0 && kind <= EVAL_QA)
        o.params.over = (eval_kind)kind;
    else if (!o.single)
        o.params.over = o.params.data ? EVAL_QA : EVAL_NEEDLE;
    progress_start(&o.line, o.common.quiet || o.common.json);
    int code = line ? open_store(&s, &o.common, &err) : ph_fail(&err, PH_MEMORY, "out of memory");
    if (!code && kind >= 0)
        code = start(&o, s, line, &err);
    else if (!code && !strcmp(o.what, "resume"))
        code = resume(&o, s, &err);
    else if (!code && !strcmp(o.what, "ls"))
        code = list(&o, s, &err);
    else if (!code && !strcmp(o.what, "show"))
        code = show(&o, s, o.n_runs ? o.runs[0] : 0, &err);
    else if (!code && !strcmp(o.what, "diff"))
        code = diff(&o, s, &err);
    else if (!code && !strcmp(o.what, "rm"))
        code = store_run_delete(s, o.runs[0], &err);
    progress_end(&o.line);
    if (code) code = command_failed("eval", &o.common, &err);
    store_close(s);
    eval_params_free(&o.params);
    free(line);
    return code;
}
