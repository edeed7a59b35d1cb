/* cmd_pack.c - `pharos pack`: what stands where in which pack, reading what is not read yet, and clearing out
 * what other models left. */
#include "appliance/command.h"
#include "appliance/progress.h"
#include "appliance/shelf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef enum pack_verb { VERB_LS, VERB_READ, VERB_PRUNE } pack_verb;

typedef struct pack_options {
    common_options common;
    pack_verb verb;
    int64_t pack; /* 0 = all */
} pack_options;

static error_t parse(int key, char *arg, struct argp_state *state) {
    pack_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->common;
        return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num == 0) {
            if (!strcmp(arg, "ls"))
                o->verb = VERB_LS;
            else if (!strcmp(arg, "read"))
                o->verb = VERB_READ;
            else if (!strcmp(arg, "prune"))
                o->verb = VERB_PRUNE;
            else
                argp_error(state, "%s is none of ls, read and prune", arg);
            return 0;
        }
        if (state->arg_num > 1 || o->verb != VERB_READ) argp_error(state, "%s is one word too many", arg);
        char *end;
        errno = 0;
        o->pack = strtoll(arg, &end, 10);
        if (errno || *end || end == arg || o->pack < 1) argp_error(state, "%s is no number of a pack", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp pack_argp = {NULL,
                                      parse,
                                      "[ls]\nread [PACK]\nprune",
                                      "Packs are the documents as the model reads them, one context each.\v"
                                      "ls     what stands where: each pack's size, how much of it has been "
                                      "read, and of each document the bytes that "
                                      "stand there; a document larger than a context spans several packs\n"
                                      "read   read what has not been read yet, of one pack or of all\n"
                                      "prune  erase the packs and snapshots that other models or other "
                                      "options left, with the traces of their answers",
                                      common_child,
                                      NULL,
                                      NULL};

/* ---- ls ---- */

static void print_name(const char *name) {
    char *text = printable(name, strlen(name));
    fputs(text ? text : "?", stdout);
    free(text);
}

static void print_item(const shelf *x, const store_pack_item *item) {
    const store_document *d = shelf_document(x, item->document);
    int parts, part = shelf_part(x, item, &parts);
    char tokens[64], bytes[96];
    snprintf(tokens, sizeof tokens, "%lld-%lld", (long long)item->token_start, (long long)item->token_end);
    snprintf(bytes, sizeof bytes, "%llu-%llu", (unsigned long long)item->text_start,
             (unsigned long long)item->text_end);
    printf("  tokens %-17s bytes %-21s document %lld, ", tokens, bytes, (long long)item->document);
    print_name(d ? d->name : "?");
    if (parts > 1)
        printf(" (part %d of %d; %lld bytes in all)", part, parts, d ? (long long)d->text_bytes : 0);
    putchar('\n');
}

static void print_pack(const shelf *x, store *s, const store_pack *p) {
    printf("pack %lld: %lld of %lld tokens (%.1f%%), ", (long long)p->id, (long long)p->tokens,
           (long long)x->capacity, 100.0 * (double)p->tokens / (double)x->capacity);
    if (p->read >= p->tokens)
        fputs("all of them read", stdout);
    else
        printf("%lld of them read", (long long)p->read);
    printf(", snapshot %.1f MB\n", (double)shelf_snapshot_bytes(s, p) / 1e6);
    for (size_t i = 0; i < p->n_items; i++) print_item(x, &p->items[i]);
}

static int list_packs(store *s, engine *e, const pack_options *o, ph_error *err) {
    shelf x;
    int code = shelf_load(&x, s, e, err);
    if (!code && o->common.json)
        code = print_json(shelf_json(&x, s, true));
    else if (!code) {
        for (size_t i = 0; i < x.n_packs; i++) print_pack(&x, s, &x.packs[i]);
        for (size_t i = 0; i < x.n_documents; i++) {
            if (shelf_in_a_pack(&x, x.documents[i].id)) continue;
            printf("in no pack yet: document %lld, ", (long long)x.documents[i].id);
            print_name(x.documents[i].name);
            putchar('\n');
        }
        if (!o->common.quiet && x.n_documents == 0)
            fputs("There are no documents yet: add some with `pharos add`.\n", stderr);
        else if (!o->common.quiet && x.n_packs)
            fprintf(stderr, "%lld tokens of each pack stay free for question and answer.\n",
                    (long long)x.reserve);
    }
    shelf_free(&x);
    return code;
}

/* ---- read ---- */

typedef struct reading {
    progress line;
    char what[64];
} reading;

static int show_reading(void *user, int64_t done, int64_t total) {
    reading *r = user;
    progress_show(&r->line, r->what, done, total, "tok");
    return interrupted;
}

/* Opens the pack whatever the store says of it: that number is for display, the snapshot is what counts. */
static int read_pack(store *s, engine *e, int64_t id, reading *r, const pack_options *o, json_t *rows,
                     ph_error *err) {
    loaded_pack p;
    context *c = NULL;
    int64_t cached = 0;
    const char *why = NULL;
    int code = pack_load(&p, s, e, id, err);
    if (code) return code;
    code = pack_read(&c, &p, s, e, show_reading, r, &cached, &why, err);
    progress_end(&r->line);
    int64_t tokens = (int64_t)p.prompt.tokens.n;
    if (!code && o->common.json)
        json_array_append_new(rows, json_pack("{s:I, s:I, s:I, s:s?}", "pack", (json_int_t)id, "tokens",
                                              (json_int_t)tokens, "cached_tokens", (json_int_t)cached, "note",
                                              why));
    else if (!code) {
        if (!o->common.quiet)
            printf("pack %lld: %lld tokens, %lld of them read before\n", (long long)id, (long long)tokens,
                   (long long)cached);
        if (why && !o->common.quiet) fprintf(stderr, "Note: %s.\n", why);
    }
    context_close(c);
    pack_unload(&p);
    return code;
}

static int packing(void *user, const char *document, size_t done, size_t total) {
    reading *r = user;
    char what[600];
    snprintf(what, sizeof what, "packing %.500s", document);
    progress_show(&r->line, what, (int64_t)done, (int64_t)total, "B");
    return interrupted;
}

static int read_packs(store *s, engine *e, const pack_options *o, ph_error *err) {
    store_pack *packs = NULL;
    size_t n = 0, done = 0;
    reading r;
    progress_start(&r.line, o->common.quiet || o->common.json);
    json_t *rows = json_array();
    int code = library_pack(s, e, &(library_packing){packing, &r}, NULL, err);
    if (!code) code = store_pack_list(s, engine_key(e), &packs, &n, err);
    for (size_t i = 0; i < n && !code; i++) {
        if (o->pack && packs[i].id != o->pack) continue;
        snprintf(r.what, sizeof r.what, "reading pack %zu of %zu", i + 1, n);
        code = read_pack(s, e, packs[i].id, &r, o, rows, err);
        done++;
    }
    store_packs_free(packs, n);
    if (!code && !done && o->pack)
        code = ph_fail(err, PH_NOT_FOUND, "there is no pack %lld for this model", (long long)o->pack);
    if (!code && o->common.json) return print_json(rows);
    json_decref(rows);
    if (!code && !done && !o->common.quiet)
        fputs("There is nothing to read: add documents with `pharos add`.\n", stderr);
    return code;
}

/* ---- prune ---- */

static int prune_packs(store *s, engine *e, const pack_options *o, ph_error *err) {
    store_pack *packs = NULL;
    size_t n = 0;
    store_receipt sum = {0};
    int code = store_pack_list(s, NULL, &packs, &n, err);
    for (size_t i = 0; i < n && !code; i++) {
        if (!memcmp(packs[i].key, engine_key(e), sizeof packs[i].key)) continue;
        store_receipt r = {0};
        code = store_pack_delete(s, packs[i].id, &r, err);
        sum.packs += r.packs;
        sum.snapshots += r.snapshots;
        sum.snapshot_bytes += r.snapshot_bytes;
        sum.traces += r.traces;
    }
    store_packs_free(packs, n);
    if (code) return code;
    if (o->common.json)
        return print_json(json_pack("{s:I, s:I, s:I, s:I}", "packs", (json_int_t)sum.packs, "snapshots",
                                    (json_int_t)sum.snapshots, "snapshot_bytes",
                                    (json_int_t)sum.snapshot_bytes, "traces", (json_int_t)sum.traces));
    if (!o->common.quiet)
        printf(
            "erased %lld packs of other models or options, with %lld snapshots (%.1f MB) and %lld traces\n",
            (long long)sum.packs, (long long)sum.snapshots, (double)sum.snapshot_bytes / 1e6,
            (long long)sum.traces);
    return PH_OK;
}

int cmd_pack(int argc, char **argv) {
    pack_options o = {0};
    parse_options(&pack_argp, argc, argv, &o);
    ph_error err = {0};
    store *s = NULL;
    engine *e = NULL;
    int code = open_store(&s, &o.common, &err);
    if (!code) code = open_engine(&e, &o.common, &err);
    if (!code) {
        switch (o.verb) {
        case VERB_LS:
            code = list_packs(s, e, &o, &err);
            break;
        case VERB_READ:
            code = read_packs(s, e, &o, &err);
            break;
        case VERB_PRUNE:
            code = prune_packs(s, e, &o, &err);
            break;
        }
    }
    engine_close(e);
    store_close(s);
    return err.code ? command_failed("pack", &o.common, &err) : code;
}
