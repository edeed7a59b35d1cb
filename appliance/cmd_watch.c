/* cmd_watch.c - `pharos watch`: keeps the library equal to folders until it is stopped. */
#include "appliance/command.h"
#include "appliance/library.h"
#include "appliance/ocr_options.h"
#include "appliance/progress.h"
#include "appliance/watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct watch_command {
    common_options common;
    ocr_options ocr;
    char **folders;
    int n_folders, every;
    bool once, no_read;
    progress line;
    int failed;
    engine *engine;
} watch_command;

enum { OPTION_EVERY = 5000, OPTION_ONCE };

static const struct argp_option options[] = {
    {"every", OPTION_EVERY, "SECONDS", 0, "Look again after so long (5)", 0},
    {"once", OPTION_ONCE, NULL, 0, "Look once and end", 0},
    {"no-read", 'n', NULL, 0, "Store and pack only; the first question reads", 0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    watch_command *o = state->input;
    char *end;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->common;
        state->child_inputs[1] = &o->ocr;
        break;
    case OPTION_EVERY:
        errno = 0;
        long v = strtol(arg, &end, 10);
        if (errno || *end || end == arg || v < 1 || v > 86400)
            argp_error(state, "%s is no number of seconds", arg);
        o->every = (int)v;
        break;
    case OPTION_ONCE:
        o->once = true;
        break;
    case 'n':
        o->no_read = true;
        break;
    case ARGP_KEY_ARGS:
        o->folders = state->argv + state->next;
        o->n_folders = state->argc - state->next;
        break;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "name a folder");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_child children[] = {{&common_argp, 0, NULL, 0}, {&ocr_argp, 0, NULL, 0}, {0}};

static const struct argp watch_argp = {options,
                                       parse,
                                       "FOLDER...",
                                       "Keeps the library equal to folders, below them too: files that are "
                                       "new or have changed are read, documents "
                                       "whose file is gone are erased everywhere. A folder that is missing "
                                       "or empty is waited for, and nothing of it "
                                       "is erased.",
                                       children,
                                       NULL,
                                       NULL};

/* One line of text, or one JSON value a line: it does not end by itself. */
static void tell(watch_command *o, FILE *f, const char *state, const char *name, const char *detail,
                 int64_t id) {
    progress_end(&o->line);
    if (o->common.json) {
        json_t *row = json_pack("{s:s, s:o, s:o, s:I}", "state", state, "name", json_text(name), "detail",
                                json_text(detail), "id", (json_int_t)id);
        char *text = row ? json_dumps(row, JSON_COMPACT) : NULL;
        if (text) puts(text);
        fflush(stdout);
        free(text);
        json_decref(row);
        return;
    }
    if (o->common.quiet && f == stdout) return;
    char *a = printable(name, strlen(name)), *b = printable(detail, strlen(detail));
    fprintf(f, "%-8s %s%s%s\n", state, a ? a : "?", detail[0] ? ": " : "", b ? b : "");
    fflush(f);
    free(a);
    free(b);
}

static void taken(void *user, const intake_result *r) {
    watch_command *o = user;
    o->failed += r->state == INTAKE_FAILED;
    tell(o, r->state == INTAKE_FAILED ? stderr : stdout, intake_state_name(r->state), r->name, r->detail,
         r->document);
}

static void removed(void *user, int64_t document, const char *name) {
    tell(user, stdout, "removed", name, "its file is gone", document);
}

static void missing(void *user, const char *folder) {
    tell(user, stderr, "missing", folder, "not there, or empty: nothing of it is removed", 0);
}

static int taking(void *user, const char *name, uint64_t done, uint64_t total, const char *unit) {
    watch_command *o = user;
    if (total) progress_show(&o->line, name, (int64_t)done, (int64_t)total, unit);
    return interrupted;
}

static int packing(void *user, const char *document, size_t done, size_t total) {
    watch_command *o = user;
    char what[600];
    snprintf(what, sizeof what, "packing %.500s", document);
    progress_show(&o->line, what, (int64_t)done, (int64_t)total, "B");
    return interrupted;
}

static int reading(void *user, size_t number, size_t packs, int64_t done, int64_t total) {
    watch_command *o = user;
    char what[64];
    snprintf(what, sizeof what, "reading pack %zu of %zu", number + 1, packs);
    progress_show(&o->line, what, done, total, "tok");
    return interrupted;
}

static void was_read(void *user, int64_t pack, int64_t tokens, int64_t cached) {
    char name[40], detail[80];
    snprintf(name, sizeof name, "pack %lld", (long long)pack);
    snprintf(detail, sizeof detail, "%lld tokens, %lld of them read before", (long long)tokens,
             (long long)cached);
    tell(user, stdout, "read", name, detail, 0);
}

static int erase(void *user, store *s, int64_t document, ph_error *err) {
    return library_erase(s, ((watch_command *)user)->engine, document, NULL, err);
}

/* In pieces, so that a signal ends it at once. */
static void wait_for(int seconds) {
    for (int i = 0; i < seconds * 10 && !interrupted; i++)
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
}

static int keep_equal(watch_command *o, store *s, engine *e, watch *w, ph_error *err) {
    watch_options look = {.intake = {.event = taken, .progress = taking, .erase = erase, .user = o},
                          .removed = removed,
                          .missing = missing,
                          .settled = o->once};
    ocr_options_apply(&look.intake.limits, &o->ocr);
    library_reading read = {reading, was_read, o};
    int code = PH_OK;
    for (bool first = true; !interrupted; first = false) {
        bool changed = false;
        code = watch_look(w, s, &look, &changed, err);
        if (!code && (changed || first)) code = library_pack(s, e, &(library_packing){packing, o}, NULL, err);
        if (!code && (changed || first) && !o->no_read) code = library_read(s, e, &read, err);
        progress_end(&o->line);
        /* Another process has the store or a pack for a while: the next look tries again. */
        if (code == PH_BUSY && !o->once) code = PH_OK;
        if (code || o->once) break;
        wait_for(o->every);
    }
    /* To be stopped is how a watch ends. */
    return code == PH_INTERRUPTED && !o->once ? PH_OK : code;
}

int cmd_watch(int argc, char **argv) {
    watch_command o = {.every = 5};
    parse_options(&watch_argp, argc, argv, &o);
    ph_error err = {0};
    store *s = NULL;
    engine *e = NULL;
    watch *w = NULL;
    progress_start(&o.line, o.common.quiet || o.common.json);
    int code = ocr_options_check(&o.ocr, &err);
    if (!code) code = watch_open(&w, o.folders, (size_t)o.n_folders, &err);
    if (!code) code = open_store(&s, &o.common, &err);
    if (!code) code = open_engine(&e, &o.common, &err);
    o.engine = e;
    if (!code) code = keep_equal(&o, s, e, w, &err);
    progress_end(&o.line);
    engine_close(e);
    store_close(s);
    watch_close(w);
    if (code) return command_failed("watch", &o.common, &err);
    return o.once && o.failed ? PH_FAIL : PH_OK;
}
