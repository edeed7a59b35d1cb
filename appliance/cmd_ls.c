/* cmd_ls.c - `pharos ls` and `pharos rm`: what is there, and erasing it. */
#include "appliance/command.h"
#include "appliance/library.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct ls_options {
    common_options common;
    char **keys;
    int n_keys;
} ls_options;

static error_t parse_ls(int key, char *arg, struct argp_state *state) {
    ls_options *o = state->input;
    (void)arg;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->common;
        return 0;
    case ARGP_KEY_ARG:
        return ARGP_ERR_UNKNOWN;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp ls_argp = {
    NULL, parse_ls, "", "Lists documents: number, size of the text, pages, name.", common_child, NULL, NULL};

static json_t *document_json(const store_document *d) {
    char hash[65];
    for (int i = 0; i < 32; i++) sprintf(hash + 2 * i, "%02x", d->hash[i]);
    return json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:i, s:I, s:s}", "id", (json_int_t)d->id,
                     "name", json_text(d->name), "source", json_text(d->source), "media_type",
                     json_text(d->media_type), "title", json_text(d->title), "warning", json_text(d->warning),
                     "picture_pages", json_text(d->picture_pages), "ocr", json_text(d->ocr), "bytes", (json_int_t)d->bytes,
                     "text_bytes", (json_int_t)d->text_bytes, "pages", (int)d->pages, "added_at",
                     (json_int_t)d->added_at, "hash", hash);
}

static void print_document(const store_document *d) {
    char when[32] = "", pages[16] = "";
    time_t t = (time_t)d->added_at;
    struct tm tm;
    if (localtime_r(&t, &tm)) strftime(when, sizeof when, "%Y-%m-%d %H:%M", &tm);
    if (d->pages) snprintf(pages, sizeof pages, "%u p", d->pages);
    char *name = printable(d->name, strlen(d->name));
    printf("%5lld  %10lld B  %7s  %s  %s\n", (long long)d->id, (long long)d->text_bytes, pages, when,
           name ? name : "?");
    free(name);
}

int cmd_ls(int argc, char **argv) {
    ls_options o = {0};
    parse_options(&ls_argp, argc, argv, &o);
    ph_error err = {0};
    store *s = NULL;
    store_document *list = NULL;
    size_t n = 0;
    int code = open_store(&s, &o.common, &err);
    if (!code) code = store_document_list(s, &list, &n, &err);
    store_close(s);
    if (code) return command_failed("ls", &o.common, &err);
    if (o.common.json) {
        json_t *rows = json_array();
        for (size_t i = 0; i < n; i++) json_array_append_new(rows, document_json(&list[i]));
        code = print_json(rows);
    } else {
        for (size_t i = 0; i < n; i++) print_document(&list[i]);
        if (n == 0 && !o.common.quiet)
            fprintf(stderr, "There are no documents yet: add some with `pharos add`.\n");
    }
    store_documents_free(list, n);
    return code;
}

/* ---- rm ---- */

static error_t parse_rm(int key, char *arg, struct argp_state *state) {
    ls_options *o = state->input;
    (void)arg;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->common;
        return 0;
    case ARGP_KEY_ARGS:
        o->keys = state->argv + state->next;
        o->n_keys = state->argc - state->next;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "name a document, by number or name");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp rm_argp = {
    NULL,
    parse_rm,
    "DOCUMENT...",
    "Erases documents everywhere: file, text, index, packs with their snapshots, and "
    "the answers that were read from them. Says what was erased.",
    common_child,
    NULL,
    NULL};

static void add_receipt(store_receipt *sum, const store_receipt *r) {
    sum->documents += r->documents;
    sum->files += r->files;
    sum->file_bytes += r->file_bytes;
    sum->text_bytes += r->text_bytes;
    sum->segments += r->segments;
    sum->packs += r->packs;
    sum->snapshots += r->snapshots;
    sum->snapshot_bytes += r->snapshot_bytes;
    sum->questions += r->questions;
    sum->answers += r->answers;
    sum->citations += r->citations;
    sum->traces += r->traces;
}

static int print_receipt(const common_options *o, const store_receipt *r) {
    if (o->json)
        return print_json(json_pack(
            "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "documents",
            (json_int_t)r->documents, "files", (json_int_t)r->files, "file_bytes", (json_int_t)r->file_bytes,
            "text_bytes", (json_int_t)r->text_bytes, "segments", (json_int_t)r->segments, "packs",
            (json_int_t)r->packs, "snapshots", (json_int_t)r->snapshots, "snapshot_bytes",
            (json_int_t)r->snapshot_bytes, "questions", (json_int_t)r->questions, "answers",
            (json_int_t)r->answers, "citations", (json_int_t)r->citations, "traces", (json_int_t)r->traces));
    if (!o->quiet)
        printf("erased %lld documents (%lld B of text, %lld files), %lld packs with %lld snapshots (%lld B), "
               "%lld answers with %lld citations and %lld traces\n",
               (long long)r->documents, (long long)r->text_bytes, (long long)r->files, (long long)r->packs,
               (long long)r->snapshots, (long long)r->snapshot_bytes, (long long)r->answers,
               (long long)r->citations, (long long)r->traces);
    return PH_OK;
}

int cmd_rm(int argc, char **argv) {
    ls_options o = {0};
    parse_options(&rm_argp, argc, argv, &o);
    ph_error err = {0};
    store *s = NULL;
    store_receipt sum = {0};
    engine *e = NULL;
    int code = open_store(&s, &o.common, &err), missing = 0;
    /* It keeps what can stay of a pack. Where there is no model, packs go whole. */
    if (!code && !o.common.remote) open_engine(&e, &o.common, NULL);
    for (int i = 0; i < o.n_keys && !code; i++) {
        store_document d = {0};
        store_receipt r = {0};
        code = store_document_find(s, o.keys[i], &d, &err);
        if (code == PH_NOT_FOUND) {
            fprintf(stderr, "pharos rm: %s\n", err.text);
            missing++;
            code = PH_OK;
            continue;
        }
        if (!code) code = library_erase(s, e, d.id, &r, &err);
        if (!code) add_receipt(&sum, &r);
        store_document_free(&d);
    }
    engine_close(e);
    store_close(s);
    if (code) return command_failed("rm", &o.common, &err);
    code = print_receipt(&o.common, &sum);
    return code ? code : missing ? PH_NOT_FOUND : PH_OK;
}
