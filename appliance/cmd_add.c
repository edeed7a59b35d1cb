/* cmd_add.c - `pharos add`: files, folders, URLs and standard input into the store, then into packs, then
 * read. */
#include "appliance/command.h"
#include "appliance/intake.h"
#include "appliance/library.h"
#include "appliance/ocr_options.h"
#include "appliance/progress.h"
#include "ingest/ingest.h"

#include <stdlib.h>
#include <string.h>

typedef struct add_options {
    common_options common;
    ocr_options ocr;
    bool no_read;
    const char *name;
    char **paths;
    int n_paths;
} add_options;

static const struct argp_option options[] = {
    {"no-read", 'n', NULL, 0, "Store and pack only; the first question reads", 0},
    {"name", 'N', "NAME", 0, "Name of the document from standard input (-)", 0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    add_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->common;
        state->child_inputs[1] = &o->ocr;
        break;
    case 'n':
        o->no_read = true;
        break;
    case 'N':
        o->name = arg;
        break;
    case ARGP_KEY_ARGS:
        o->paths = state->argv + state->next;
        o->n_paths = state->argc - state->next;
        break;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "name a file, a folder, a URL, or - for standard input");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_child children[] = {{&common_argp, 0, NULL, 0}, {&ocr_argp, 0, NULL, 0}, {0}};

static const struct argp add_argp = {
    options,
    parse,
    "PATH...",
    "Reads documents into the library. What is there already is noticed; a file that "
    "changed since it was added replaces its old text.",
    children,
    NULL,
    NULL};

/* ---- one line, or one JSON row, a file ---- */

typedef struct report {
    const add_options *options;
    progress line;
    json_t *rows, *read;
    int added, known, updated, failed, skipped;
    engine *engine; /* NULL until it is needed */
} report;

static void say(report *r, const char *text) {
    progress_end(&r->line);
    if (r->options->common.json || r->options->common.quiet) return;
    puts(text);
    fflush(stdout);
}

static void intake_event(void *user, const intake_result *x) {
    report *r = user;
    char text[1400], *name = printable(x->name, strlen(x->name)),
                     *detail = printable(x->detail, strlen(x->detail));
    const char *state = intake_state_name(x->state);
    switch (x->state) {
    case INTAKE_ADDED:
        r->added++;
        break;
    case INTAKE_UPDATED:
        r->updated++;
        break;
    case INTAKE_KNOWN:
        r->known++;
        break;
    case INTAKE_SKIPPED:
        r->skipped++;
        break;
    case INTAKE_FAILED:
        r->failed++;
        break;
    }
    snprintf(text, sizeof text, "%-8s %.500s%s%.800s", state, name ? name : "?", x->detail[0] ? ": " : "",
             detail ? detail : "");
    if (x->state == INTAKE_FAILED) {
        progress_end(&r->line);
        fprintf(stderr, "%s\n", text);
    } else
        say(r, text);
    json_array_append_new(r->rows, json_pack("{s:s, s:o, s:o, s:I, s:I, s:i}", "state", state, "name",
                                             json_text(x->name), "detail", json_text(x->detail), "id",
                                             (json_int_t)x->document, "text_bytes", (json_int_t)x->text_bytes,
                                             "pages", (int)x->pages));
    free(name);
    free(detail);
}

static int intake_progress(void *user, const char *name, uint64_t done, uint64_t total, const char *unit) {
    report *r = user;
    progress_show(&r->line, name, (int64_t)done, (int64_t)total, unit);
    return interrupted;
}

/* ---- reading what was added ---- */

static int show_packing(void *user, const char *document, size_t done, size_t total) {
    report *r = user;
    char what[600];
    snprintf(what, sizeof what, "packing %.500s", document);
    progress_show(&r->line, what, (int64_t)done, (int64_t)total, "B");
    return interrupted;
}

static int show_reading(void *user, size_t number, size_t packs, int64_t done, int64_t total) {
    report *r = user;
    char what[64];
    snprintf(what, sizeof what, "reading pack %zu of %zu", number + 1, packs);
    progress_show(&r->line, what, done, total, "tok");
    return interrupted;
}

static void pack_was_read(void *user, int64_t pack, int64_t tokens, int64_t cached) {
    report *r = user;
    char text[200];
    snprintf(text, sizeof text, "read     pack %lld: %lld tokens, %lld of them read before", (long long)pack,
             (long long)tokens, (long long)cached);
    say(r, text);
    json_array_append_new(r->read, json_pack("{s:I, s:I, s:I}", "pack", (json_int_t)pack, "tokens",
                                             (json_int_t)tokens, "cached_tokens", (json_int_t)cached));
}

static int pack_and_read(store *s, report *r, ph_error *err) {
    int code = r->engine ? PH_OK : open_engine(&r->engine, &r->options->common, err);
    if (!code) code = library_pack(s, r->engine, &(library_packing){show_packing, r}, NULL, err);
    if (!code && !r->options->no_read)
        code = library_read(s, r->engine, &(library_reading){show_reading, pack_was_read, r}, err);
    return code;
}

/* The older version of a file that was changed. The model is opened for the first of them. */
static int erase(void *user, store *s, int64_t document, ph_error *err) {
    report *r = user;
    int code = r->engine ? PH_OK : open_engine(&r->engine, &r->options->common, err);
    return code ? code : library_erase(s, r->engine, document, NULL, err);
}

int cmd_add(int argc, char **argv) {
    add_options o = {0};
    parse_options(&add_argp, argc, argv, &o);
    ph_error err = {0};
    store *s = NULL;
    report r = {.options = &o, .rows = json_array(), .read = json_array()};
    progress_start(&r.line, o.common.quiet || o.common.json);
    int code = ocr_options_check(&o.ocr, &err);
    if (!code) code = open_store(&s, &o.common, &err);
    intake_options intake = {
        .stdin_name = o.name, .event = intake_event, .progress = intake_progress, .erase = erase, .user = &r};
    ocr_options_apply(&intake.limits, &o.ocr);
    for (int i = 0; i < o.n_paths && !code; i++) code = intake_path(s, o.paths[i], &intake, &err);
    progress_end(&r.line);
    if (!code) code = pack_and_read(s, &r, &err);
    engine_close(r.engine);
    store_close(s);
    progress_end(&r.line);
    if (code) {
        json_decref(r.rows);
        json_decref(r.read);
        return command_failed("add", &o.common, &err);
    }
    char summary[200];
    snprintf(summary, sizeof summary, "%d added, %d updated, %d there already, %d skipped, %d failed",
             r.added, r.updated, r.known, r.skipped, r.failed);
    if (o.common.json)
        code = print_json(json_pack("{s:o, s:o}", "documents", r.rows, "read", r.read));
    else {
        say(&r, summary);
        json_decref(r.rows);
        json_decref(r.read);
    }
    return code ? code : r.failed ? PH_FAIL : PH_OK;
}
