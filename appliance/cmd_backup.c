/* cmd_backup.c - `pharos backup` and `pharos restore`: the library as one file, and back. */
#include "appliance/command.h"
#include "appliance/progress.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

typedef struct backup_options {
    common_options common;
    const char *path;
    progress line;
    const char *what;
} backup_options;

static error_t parse(int key, char *arg, struct argp_state *state) {
    backup_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->common;
        break;
    case ARGP_KEY_ARG:
        if (o->path) argp_error(state, "one file only");
        o->path = arg;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp backup_argp = {
    NULL,
    parse,
    "[FILE]",
    "Writes documents, originals, packs, questions, answers, traces and runs into one new file (a zip; "
    "pharos-DATE.zip by default). What the model has read is left out: it is read again after a restore. A "
    "document that is removed later is still in its backups.",
    common_child,
    NULL,
    NULL};
static const struct argp restore_argp = {
    NULL,
    parse,
    "FILE",
    "Makes the data folder (absent or empty) from a backup; every document is checked before anything is "
    "kept.",
    common_child,
    NULL,
    NULL};

static int show(void *user, int64_t done, int64_t total) {
    backup_options *o = user;
    progress_show(&o->line, o->what, done, total, "");
    return interrupted;
}

static int finish(const backup_options *o, const char *name, int code, const char *verb, const char *path,
                  int64_t bytes, const ph_error *err) {
    if (code) return command_failed(name, &o->common, err);
    if (o->common.json)
        return print_json(json_pack("{s:o, s:I}", "path", json_text(path), "bytes", (json_int_t)bytes));
    if (!o->common.quiet) printf("%s %s, %.1f MB\n", verb, path, (double)bytes / 1e6);
    return PH_OK;
}

int cmd_backup(int argc, char **argv) {
    backup_options o = {.what = "writing the backup"};
    parse_options(&backup_argp, argc, argv, &o);
    ph_error err = {0};
    store *s = NULL;
    char name[64];
    struct stat st = {0};
    time_t now = time(NULL);
    struct tm day;
    strftime(name, sizeof name, "pharos-%Y-%m-%d.zip", localtime_r(&now, &day));
    if (!o.path) o.path = name;
    progress_start(&o.line, o.common.quiet || o.common.json);
    int code = open_store(&s, &o.common, &err);
    if (!code) code = store_backup(s, o.path, show, &o, &err);
    if (!code) (void)stat(o.path, &st);
    store_close(s);
    progress_end(&o.line);
    return finish(&o, "backup", code, "wrote", o.path, st.st_size, &err);
}

int cmd_restore(int argc, char **argv) {
    backup_options o = {.what = "restoring"};
    parse_options(&restore_argp, argc, argv, &o);
    ph_error err = {0};
    char dir[4096];
    store *s = NULL;
    store_totals totals = {0};
    if (!o.path) {
        ph_fail(&err, PH_USAGE, "name the backup");
        return command_failed("restore", &o.common, &err);
    }
    progress_start(&o.line, o.common.quiet || o.common.json);
    int code = data_folder(dir, sizeof dir, &o.common, &err);
    if (!code) code = store_restore(o.path, dir, show, &o, &err);
    if (!code) code = store_open(&s, dir, &err);
    if (!code) code = store_count(s, &totals, &err);
    store_close(s);
    progress_end(&o.line);
    if (!code && !o.common.json && !o.common.quiet)
        printf(
            "%lld documents, %lld answers; what the model had read is read again with the next question or "
            "`pharos add`\n",
            (long long)totals.documents, (long long)totals.answers);
    return finish(&o, "restore", code, "restored", dir, totals.database_bytes + totals.file_bytes, &err);
}
