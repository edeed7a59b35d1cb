/* cmd_trace.c - `pharos trace`: what was read for each word of an answer, and the answers given so far. */
#include "appliance/command.h"
#include "appliance/show.h"
#include "appliance/trace_json.h"
#include "appliance/trace_view.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct trace_options {
    common_options common;
    int64_t answer; /* 0 = the latest */
    int layer;      /* -1 = all */
    int word;       /* 0 = all */
    bool list;
} trace_options;

static const struct argp_option options[] = {
    {"layer", 'l', "N", 0, "Attention of this layer only (counted from 0)", 0},
    {"word", 'w', "N", 0, "Every sentence that was read for this word (counted from 1)", 0},
    {"list", 'a', NULL, 0, "List the answers so far: number, when, question, answer", 0},
    {0},
};

static int64_t number(const char *arg, int64_t low, const char *what, struct argp_state *state) {
    char *end;
    errno = 0;
    long long v = strtoll(arg, &end, 10);
    if (errno || end == arg || *end || v < low || v > 1LL << 40) argp_error(state, "%s is no %s", arg, what);
    return v;
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    trace_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->common;
        break;
    case 'l':
        o->layer = (int)number(arg, 0, "layer", state);
        if (o->layer >= CONFIG_MAX_LAYERS) argp_error(state, "%s is no layer", arg);
        break;
    case 'w':
        o->word = (int)number(arg, 1, "word", state);
        break;
    case 'a':
        o->list = true;
        break;
    case ARGP_KEY_ARG:
        if (state->arg_num > 0) argp_error(state, "name one answer, by its number");
        o->answer = number(arg, 1, "answer; `pharos trace --list` has their numbers", state);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp trace_argp = {
    options,
    parse,
    "[ANSWER]",
    "Shows for each word of an answer (the latest) the sentences that its attention "
    "was on: share of the attention on the documents, and how many times a random "
    "stretch's share that is.",
    common_child,
    NULL,
    NULL};

/* The pack needs the model, which may not be there: then the answer is shown without. */
static int load_pack(trace_view *v, store *s, const common_options *o, ph_error *err) {
    engine *e = NULL;
    int code = v->row.pack ? open_engine(&e, o, err) : PH_OK;
    if (code == PH_MODEL || code == PH_NOT_FOUND) {
        snprintf(v->missing, sizeof v->missing, "its positions cannot be mapped without the model: %s",
                 err->text);
        *err = (ph_error){0};
        return PH_OK;
    }
    if (!code) code = trace_view_pack(v, s, e, err);
    engine_close(e);
    return code;
}

/* ---- text ---- */

static void print_clean(const char *s, size_t n) {
    char *text = printable(s, n);
    fputs(text ? text : "?", stdout);
    free(text);
}

/* Cut or padded to `width` characters; what was cut ends in three dots. */
static void print_column(const char *s, size_t n, int width) {
    char *text = printable(s, n);
    if (!text) return;
    int shown = 0, all = 0;
    for (const char *p = text; *p; p++) all += ((unsigned char)*p & 0xC0) != 0x80;
    int room = all > width ? width - 3 : width;
    const char *p = text;
    while (*p && shown < room) {
        do putchar(*p++);
        while (((unsigned char)*p & 0xC0) == 0x80);
        shown++;
    }
    if (all > width) shown += printf("...");
    printf("%*s", width - shown, "");
    free(text);
}

static void format_time(char *out, size_t n, int64_t milliseconds) {
    time_t t = (time_t)(milliseconds / 1000);
    struct tm tm;
    if (!localtime_r(&t, &tm) || !strftime(out, n, "%Y-%m-%d %H:%M", &tm)) snprintf(out, n, "?");
}

static void print_head(const trace_view *v) {
    const store_answer *r = &v->row;
    char when[32];
    format_time(when, sizeof when, r->asked_at);
    printf("answer %lld, %s, ", (long long)r->id, when);
    print_clean(r->model, strlen(r->model));
    if (r->pack) printf(", pack %lld", (long long)r->pack);
    if (r->follows) {
        printf(", follows answer %lld (%lld earlier question%s sent along", (long long)r->follows,
               (long long)r->turns, r->turns == 1 ? "" : "s");
        if (r->turns_left_out) printf(", %lld left out", (long long)r->turns_left_out);
        putchar(')');
    }
    fputs("\n\n  question  ", stdout);
    print_clean(r->question, strlen(r->question));
    fputs("\n  answer    ", stdout);
    print_clean(r->answer, strlen(r->answer));
    if (!r->found) fputs("  (nothing was found)", stdout);
    if (v->thought.trace.text_len) {
        fputs("\n  thought   ", stdout);
        print_clean(v->thought.trace.text, v->thought.trace.text_len);
    }
    fputs("\n\n", stdout);
}

/* Ten marks for a share: said in figures beside it, so that nothing hangs on seeing it. */
static void print_bar(double share) {
    int n = (int)lround(share * 10);
    for (int i = 0; i < 10; i++) putchar(i < n ? '#' : '.');
}

static double probability(const traced_text *t, const trace_word *w) {
    double sum = 0;
    for (size_t i = w->token_start; i < w->token_end; i++) sum += (double)t->trace.tokens[i].logprob;
    return exp(sum);
}

enum { WORD_COLUMN = 16, SENTENCE_COLUMN = 100 };

/* The byte of a sentence that the most attention was on. */
static size_t heaviest_byte(const loaded_pack *p, const read_sentence *r, const double *mass) {
    int64_t first = pack_token_at(p, r->text, r->start), last = pack_token_at(p, r->text, r->end),
            best = first;
    for (int64_t i = first; i < last; i++)
        if (mass[i] > mass[best]) best = i;
    return best < last ? (size_t)p->prompt.tokens.start[best] : r->start;
}

/* text[from, to) on one line: white space as single spaces. */
static void print_flat(const char *text, size_t from, size_t to) {
    while (from < to) {
        size_t n = 0;
        while (from + n < to && !strchr(" \t\n", text[from + n])) n++;
        print_clean(text + from, n);
        from += n;
        if (from < to) putchar(' ');
        while (from < to && strchr(" \t\n", text[from])) from++;
    }
}

/* A sentence, or where it is long the stretch of it around byte `at`, from a word to a word. */
static void print_around(const pack_text *t, size_t start, size_t end, size_t at) {
    size_t from = start, to = end;
    if (end - start > SENTENCE_COLUMN) {
        from = at > start + SENTENCE_COLUMN / 2 ? at - SENTENCE_COLUMN / 2 : start;
        if (from > end - SENTENCE_COLUMN) from = end - SENTENCE_COLUMN;
        to = from + SENTENCE_COLUMN;
        for (size_t i = from; from > start && i < at; i++) {
            if (t->text[i] != ' ') continue;
            from = i + 1;
            break;
        }
        for (size_t i = to; to < end && i > at; i--) {
            if (t->text[i] != ' ') continue;
            to = i;
            break;
        }
        while (from > start && ((unsigned char)t->text[from] & 0xC0) == 0x80) from--;
        while (to < end && ((unsigned char)t->text[to] & 0xC0) == 0x80) to++;
    }
    if (from > start) fputs("... ", stdout);
    print_flat(t->text, from, to);
    fputs(to < end ? " ...\n" : "\n", stdout);
}

static void print_sentence(const loaded_pack *p, const read_sentence *r, const double *mass) {
    print_bar(r->mass);
    printf(" %5.1f%%  x%-6.0f ", 100 * r->mass, r->lift);
    print_clean(r->text->name, strlen(r->text->name));
    fputs(": ", stdout);
    print_around(r->text, r->start, r->end, heaviest_byte(p, r, mass));
}

static void print_word(const traced_text *t, size_t i) {
    const trace_word *w = &t->words[i];
    printf("%4zu  ", i + 1);
    print_column(t->trace.text + w->start, w->end - w->start, WORD_COLUMN);
    fputs("  ", stdout);
}

/* The heaviest sentence of each word, and the second where it is not far behind. */
static int print_text(const trace_view *v, const traced_text *t, int layer, double *mass, ph_error *err) {
    for (size_t i = 0; i < t->n_words; i++) {
        read_sentence *list = NULL;
        size_t n = 0;
        const trace_word *w = &t->words[i];
        answer_trace_mass(&t->trace, &v->pack, w->token_start, w->token_end, layer, mass);
        int code = read_set_make(&list, &n, &v->pack, mass, 2, err);
        if (code) return code;
        print_word(t, i);
        if (n)
            print_sentence(&v->pack, &list[0], mass);
        else
            puts("nothing of the documents");
        if (n > 1 && list[1].mass >= list[0].mass / 2) {
            printf("%*s", 6 + WORD_COLUMN + 2, "");
            print_sentence(&v->pack, &list[1], mass);
        }
        free(list);
    }
    return PH_OK;
}

static int print_words(const trace_view *v, int layer, double *mass, ph_error *err) {
    puts("word by word: the sentences its attention was on, their share of the attention on the documents,\n"
         "and how many times a random stretch's share that is\n");
    int code = PH_OK;
    if (v->thought.n_words) {
        code = print_text(v, &v->thought, layer, mass, err);
        puts("\nthe answer, written after that thought\n");
    }
    return code ? code : print_text(v, &v->answer, layer, mass, err);
}

/* All that is known of one word: its tokens, its layers, every sentence. */
static int print_one_word(const trace_view *v, int word, int layer, double *mass, ph_error *err) {
    const trace_word *w = &v->answer.words[word - 1];
    const answer_trace *t = &v->answer.trace;
    printf("word %d: ", word);
    print_clean(t->text + w->start, w->end - w->start);
    size_t tokens = w->token_end - w->token_start;
    printf("  (%zu token%s, probability %.3g)\n\n", tokens, tokens == 1 ? "" : "s",
           probability(&v->answer, w));
    for (int l = 0; l < t->layers; l++) {
        if (layer >= 0 && l != layer) continue;
        int32_t selected = t->selected[(w->token_end - 1) * (size_t)t->layers + (size_t)l];
        double on = trace_on_documents(t, &v->pack, w->token_start, w->token_end, l);
        printf("  layer %-3d %6d positions selected  ", l, selected);
        print_bar(on);
        printf(" %5.1f%% of the attention on the documents\n", 100 * on);
    }
    putchar('\n');
    read_sentence *list = NULL;
    size_t n = 0;
    answer_trace_mass(t, &v->pack, w->token_start, w->token_end, layer, mass);
    int code = read_set_make(&list, &n, &v->pack, mass, SIZE_MAX, err);
    if (code) return code;
    if (n == 0) puts("  nothing of the documents");
    for (size_t i = 0; i < n; i++) {
        fputs("  ", stdout);
        print_sentence(&v->pack, &list[i], mass);
    }
    free(list);
    return PH_OK;
}

/* What the row alone can say. */
static void print_stored(const trace_view *v) {
    for (size_t i = 0; i < v->row.n_citations; i++) {
        const store_citation *c = &v->row.citations[i];
        printf("  [%zu] ", i + 1);
        print_clean(c->document_name, strlen(c->document_name));
        if (c->page) printf(", page %u", c->page);
        printf(", byte %llu: ", (unsigned long long)c->start);
        print_clean(c->quote, strlen(c->quote));
        printf("\n      %s; %s\n", c->in_text ? "the quote stood there" : "these words did not stand there",
               c->in_read_set ? "it was read" : "it was not in the read set");
    }
    if (!v->has_trace) return;
    putchar('\n');
    for (size_t i = 0; i < v->answer.n_words; i++) {
        print_word(&v->answer, i);
        printf("probability %.3g\n", probability(&v->answer, &v->answer.words[i]));
    }
}

static int print_view(const trace_view *v, const trace_options *o, ph_error *err) {
    print_head(v);
    if (v->missing[0]) fprintf(stderr, "What was read for each word cannot be shown: %s.\n", v->missing);
    if (!v->has_pack || !v->has_trace) {
        print_stored(v);
        return PH_OK;
    }
    double *mass = malloc((v->pack.prompt.tokens.n + 1) * sizeof *mass);
    if (!mass)
        return ph_fail(err, PH_MEMORY, "no memory for a trace over %zu tokens", v->pack.prompt.tokens.n);
    int code =
        o->word ? print_one_word(v, o->word, o->layer, mass, err) : print_words(v, o->layer, mass, err);
    free(mass);
    return code;
}

/* ---- JSON ---- */

static json_t *row_json(const store_answer *r) {
    json_t *citations = json_array();
    for (size_t i = 0; i < r->n_citations; i++)
        json_array_append_new(citations, citation_json(&r->citations[i]));
    return json_pack("{s:I, s:I, s:o, s:o, s:b, s:o, s:o, s:o, s:o, s:I, s:I}", "id", (json_int_t)r->id,
                     "asked_at", (json_int_t)r->asked_at, "question", json_text(r->question), "answer",
                     json_text(r->answer), "found", r->found, "model", json_text(r->model), "pack",
                     r->pack ? json_integer(r->pack) : json_null(), "citations", citations, "follows",
                     r->follows ? json_integer(r->follows) : json_null(), "turns", (json_int_t)r->turns,
                     "turns_left_out", (json_int_t)r->turns_left_out);
}

/* The thought with its own words, tokens and sentences, where no single word of the answer is asked for. */
static int json_thought(const trace_view *v, const trace_options *o, json_t *out, ph_error *err) {
    trace_selection what = {.layer = o->layer, .end_word = v->thought.n_words};
    bool there = v->thought.trace.n_tokens > 0;
    json_t *thought = there ? json_pack("{s:o}", "text", json_text(v->thought.trace.text)) : json_null();
    json_object_set_new(out, "thought", thought);
    if (!there || o->word) return PH_OK;
    return trace_json_add(thought, &v->thought.trace, v->thought.words, v->has_pack ? &v->pack : NULL, &what,
                          err);
}

static int json_view(const trace_view *v, const trace_options *o, ph_error *err) {
    json_t *out = row_json(&v->row);
    trace_selection what = {.layer = o->layer, .end_word = v->answer.n_words};
    if (o->word) {
        what.first_word = (size_t)o->word - 1;
        what.end_word = (size_t)o->word;
    }
    json_object_set_new(out, "missing", v->missing[0] ? json_text(v->missing) : json_null());
    json_object_set_new(out, "evidence", evidence_json(v->has_trace, &v->answer.trace));
    json_object_set_new(out, "layers", json_integer(v->answer.trace.layers));
    json_object_set_new(out, "kept_per_layer", json_integer(v->answer.trace.keep));
    const loaded_pack *pack = v->has_pack ? &v->pack : NULL;
    int code = trace_json_add(out, &v->answer.trace, v->answer.words, pack, &what, err);
    if (!code) code = json_thought(v, o, out, err);
    if (!code) return print_json(out);
    json_decref(out);
    return code;
}

/* ---- the list ---- */

static int list_answers(store *s, const common_options *o, ph_error *err) {
    store_answer *list = NULL;
    size_t n = 0;
    int code = store_answer_list(s, SIZE_MAX, &list, &n, err);
    if (code) return code;
    json_t *rows = json_array();
    bool narrow = isatty(STDOUT_FILENO);
    for (size_t i = 0; i < n; i++) {
        if (o->json) {
            json_array_append_new(rows, row_json(&list[i]));
            continue;
        }
        char when[32];
        format_time(when, sizeof when, list[i].asked_at);
        printf("%5lld  %s  ", (long long)list[i].id, when);
        if (narrow)
            print_column(list[i].question, strlen(list[i].question), 44);
        else
            print_clean(list[i].question, strlen(list[i].question));
        fputs(narrow ? "  " : "\t", stdout);
        print_clean(list[i].answer, strlen(list[i].answer));
        putchar('\n');
    }
    store_answers_free(list, n);
    if (o->json) return print_json(rows);
    json_decref(rows);
    if (n == 0 && !o->quiet) fputs("No question has been asked yet.\n", stderr);
    return PH_OK;
}

static int check_range(const trace_view *v, const trace_options *o, ph_error *err) {
    if (v->answer.trace.layers == 0)
        return ph_fail(err, PH_NOT_FOUND, "answer %lld has no trace: it attended to everything (--dense)",
                       (long long)v->row.id);
    return trace_view_check(v, o->layer, (size_t)o->word, err);
}

int cmd_trace(int argc, char **argv) {
    trace_options o = {.layer = -1};
    parse_options(&trace_argp, argc, argv, &o);
    ph_error err = {0};
    store *s = NULL;
    trace_view v = {0};
    int code = open_store(&s, &o.common, &err);
    if (!code && o.list)
        code = list_answers(s, &o.common, &err);
    else {
        if (!code) code = trace_view_load(&v, s, o.answer, &err);
        if (!code && v.has_trace) code = check_range(&v, &o, &err);
        if (!code && v.has_trace) code = load_pack(&v, s, &o.common, &err);
        if (!code) code = o.common.json ? json_view(&v, &o, &err) : print_view(&v, &o, &err);
    }
    store_close(s);
    trace_view_free(&v);
    return err.code ? command_failed("trace", &o.common, &err) : code;
}
