/* cmd_ask.c - `pharos ask`: a question on the command line. The work is in answer.c. */
#include "appliance/answer.h"
#include "appliance/command.h"
#include "appliance/progress.h"
#include "appliance/show.h"

#include <stdlib.h>
#include <string.h>

typedef struct ask_options {
    common_options common;
    answer_options answer;
    const char **documents; /* as named by --document */
    size_t n_documents;
    char *question;
    bool follow; /* with answer.follows 0: the latest answer */
} ask_options;

enum {
    OPTION_PACKS = 2000,
    OPTION_TEMPERATURE,
    OPTION_TOP_P,
    OPTION_SEED,
    OPTION_FULL,
    OPTION_WHOLE,
    OPTION_THINK,
    OPTION_NO_THINK
};

static const struct argp_option options[] = {
    {"document", 'D', "DOC", 0, "Answer from this document only (number or name); may be given again", 0},
    {"pack", 'p', "N", 0, "Answer from this pack only", 0},
    {"follow", 'f', "N", OPTION_ARG_OPTIONAL,
     "Ask on: the question follows answer N (the last one), which is sent along with what it followed", 0},
    {"packs", OPTION_PACKS, "N", 0, "Ask at most N packs where there are several (3)", 0},
    {"whole", OPTION_WHOLE, NULL, 0, "Look at the whole pack at once, not at promising passages first", 0},
    {"think", OPTION_THINK, NULL, 0,
     "Let the model write the sentence that answers first, and the answer from it (as the model has it)", 0},
    {"no-think", OPTION_NO_THINK, NULL, 0, "Let it answer at once", 0},
    {"max-tokens", 't', "N", 0, "Longest answer, in tokens (256)", 0},
    {"temperature", OPTION_TEMPERATURE, "T", 0, "0 is greedy and repeatable (0)", 0},
    {"top-p", OPTION_TOP_P, "P", 0, "Sample from the likeliest tokens that make up P (1)", 0},
    {"seed", OPTION_SEED, "N", 0, "Seed of the sampling (0)", 0},
    {"full-trace", OPTION_FULL, NULL, 0, "Keep every selected position in the trace", 0},
    {"discard", 'x', NULL, 0, "Do not keep question and answer", 0},
    {0},
};

static double number(const char *arg, double low, double high, const char *what, struct argp_state *state) {
    char *end;
    double v = strtod(arg, &end);
    if (*end || end == arg || !(v >= low) || v > high) argp_error(state, "%s is no %s", arg, what);
    return v;
}

static void add_document(ask_options *o, const char *name, struct argp_state *state) {
    const char **more = realloc(o->documents, (o->n_documents + 1) * sizeof *more);
    if (!more) argp_failure(state, PH_MEMORY, 0, "out of memory");
    o->documents = more;
    o->documents[o->n_documents++] = name;
}

/* The words of the question, with or without shell quotes around them; - reads it from standard input. */
static char *join(int n, char **words) {
    size_t len = 1;
    for (int i = 0; i < n; i++) len += strlen(words[i]) + 1;
    if (n == 1 && !strcmp(words[0], "-")) len = 1 << 16;
    char *out = malloc(len);
    if (!out) return NULL;
    out[0] = 0;
    if (n == 1 && !strcmp(words[0], "-")) {
        size_t got = fread(out, 1, len - 1, stdin);
        while (got && strchr("\r\n", out[got - 1])) got--;
        out[got] = 0;
        return out;
    }
    for (int i = 0; i < n; i++) {
        if (i) strcat(out, " ");
        strcat(out, words[i]);
    }
    return out;
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    ask_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->common;
        break;
    case 'D':
        add_document(o, arg, state);
        break;
    case 'p':
        o->answer.pack = (int64_t)number(arg, 1, 1e15, "pack", state);
        break;
    case 'f':
        o->follow = true;
        o->answer.follows =
            arg ? (int64_t)number(arg, 1, 1e15, "answer; `pharos trace --list` has their numbers", state) : 0;
        break;
    case OPTION_PACKS:
        o->answer.max_packs = (int)number(arg, 1, 1e6, "number of packs", state);
        break;
    case 't':
        o->answer.max_tokens = (int)number(arg, 1, 1e6, "number of tokens", state);
        break;
    case OPTION_TEMPERATURE:
        o->answer.temperature = (float)number(arg, 0, 100, "temperature", state);
        break;
    case OPTION_TOP_P:
        o->answer.top_p = (float)number(arg, 1e-6, 1, "top-p", state);
        break;
    case OPTION_SEED:
        o->answer.seed = (uint64_t)number(arg, 0, 9e15, "seed", state);
        break;
    case OPTION_WHOLE:
        o->answer.whole = true;
        break;
    case OPTION_THINK:
        o->answer.thinking = THINK_FIRST;
        break;
    case OPTION_NO_THINK:
        o->answer.thinking = THINK_NOT;
        break;
    case OPTION_FULL:
        o->answer.full_trace = true;
        break;
    case 'x':
        o->answer.discard = true;
        break;
    case ARGP_KEY_ARGS:
        o->question = join(state->argc - state->next, state->argv + state->next);
        if (!o->question) argp_failure(state, PH_MEMORY, 0, "out of memory");
        if (!o->question[strspn(o->question, " \t\r\n")]) argp_error(state, "the question is empty");
        break;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "ask a question");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp ask_argp = {
    options,      parse, "QUESTION...", "Answers from the documents, with citations and what was read.",
    common_child, NULL,  NULL};

typedef struct asking {
    progress line;
    bool stream; /* print the answer as it is written */
    bool wrote;
} asking;

static int show_progress(void *user, answer_phase phase, int64_t done, int64_t total, int64_t cached) {
    asking *a = user;
    (void)cached;
    if (phase == PHASE_READING)
        progress_show(&a->line, "reading the documents", done, total, "tok");
    else if (phase == PHASE_ASKING)
        progress_show(&a->line, "reading the question", done, total, "tok");
    else
        progress_end(&a->line);
    return interrupted;
}

static void show_piece(void *user, const char *piece, size_t len) {
    asking *a = user;
    if (!a->stream) return;
    progress_end(&a->line);
    /* Bytes that would drive a terminal are not an answer's to send. */
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)piece[i];
        putchar((c < 32 && c != '\n' && c != '\t') || c == 127 ? '?' : c);
    }
    fflush(stdout);
    a->wrote = true;
}

static int find_documents(ask_options *o, store *s, int64_t **ids, ph_error *err) {
    *ids = NULL;
    if (!o->n_documents) return PH_OK;
    *ids = malloc(o->n_documents * sizeof **ids);
    if (!*ids) return ph_fail(err, PH_MEMORY, "out of memory");
    for (size_t i = 0; i < o->n_documents; i++) {
        store_document d = {0};
        int code = store_document_find(s, o->documents[i], &d, err);
        if (code) return code;
        (*ids)[i] = d.id;
        store_document_free(&d);
    }
    o->answer.documents = *ids;
    o->answer.n_documents = o->n_documents;
    return PH_OK;
}

/* The last question of this machine's; those of a server's users are theirs. */
static int find_followed(ask_options *o, store *s, ph_error *err) {
    static const uint8_t nobody[32];
    store_answer *list = NULL;
    size_t n = 0;
    if (!o->follow || o->answer.follows) return PH_OK;
    int code = store_answer_list_of(s, nobody, 1, &list, &n, err);
    if (!code && n == 0)
        code = ph_fail(err, PH_NOT_FOUND, "no question has been asked yet that this one could follow");
    if (!code) o->answer.follows = list[0].id;
    store_answers_free(list, n);
    return code;
}

static const char *plural(int64_t n) {
    return n == 1 ? "" : "s";
}

/* Whether all that was said before was sent along. */
static void note_follows(const store_answer *r) {
    if (!r->follows) return;
    fprintf(stderr, "\nFollows answer %lld: %lld earlier question%s sent along with %s answer%s",
            (long long)r->follows, (long long)r->turns, plural(r->turns), r->turns == 1 ? "its" : "their",
            plural(r->turns));
    if (r->turns_left_out)
        fprintf(stderr, "; %lld still earlier one%s left out, for want of room", (long long)r->turns_left_out,
                r->turns_left_out == 1 ? " was" : "s were");
    fputs(".\n", stderr);
}

static int show(const ask_options *o, const answer *a, const asking *state) {
    if (o->common.json) return print_json(answer_json(a));
    if (!state->wrote) fputs(a->row.answer, stdout);
    fputs("\n\n", stdout);
    show_sources(a, stdout);
    fflush(stdout); /* the notes on stderr come after it, wherever both go */
    if (!o->common.quiet) {
        note_follows(&a->row);
        if (a->passages)
            fprintf(
                stderr,
                "\nFrom a look at the %d passages that full text ranks first; --whole looks at everything.\n",
                a->passages);
        else if (!o->answer.whole && !o->common.remote)
            fprintf(
                stderr,
                "\nFrom a look at the whole pack: the passages that full text ranks first say nothing.\n");
        if (a->cut_off)
            fprintf(stderr, "The answer was cut off at its longest length; --max-tokens allows more.\n");
        if (a->note) fprintf(stderr, "\nNote: %s.\n", a->note);
        if (a->packs_asked < a->packs_all)
            fprintf(stderr, "\nNote: %d of %d packs were asked; --packs asks more.\n", a->packs_asked,
                    a->packs_all);
        fprintf(stderr,
                "\n%lld tokens, %lld of them read before; first word after %.1f s, done after %.1f s.\n",
                (long long)a->row.prompt_tokens, (long long)a->row.cached_tokens, a->row.first_token_ms / 1e3,
                a->row.total_ms / 1e3);
    }
    return PH_OK;
}

int cmd_ask(int argc, char **argv) {
    ask_options o = {0};
    parse_options(&ask_argp, argc, argv, &o);
    ph_error err = {0};
    store *s = NULL;
    engine *e = NULL;
    int64_t *ids = NULL;
    answer a = {0};
    asking state = {.stream = !o.common.json};
    progress_start(&state.line, o.common.quiet || o.common.json);
    o.answer.progress = show_progress;
    o.answer.piece = show_piece;
    o.answer.user = &state;
    int code = open_store(&s, &o.common, &err);
    if (!code) code = find_documents(&o, s, &ids, &err);
    if (!code) code = find_followed(&o, s, &err);
    if (!code) code = open_engine(&e, &o.common, &err);
    if (!code) code = answer_question(&a, s, e, o.question, &o.answer, &err);
    progress_end(&state.line);
    if (code) {
        if (state.wrote) fputc('\n', stdout);
        code = command_failed("ask", &o.common, &err);
    } else
        code = show(&o, &a, &state);
    answer_free(&a);
    engine_close(e);
    store_close(s);
    free(ids);
    free(o.documents);
    free(o.question);
    return code;
}
