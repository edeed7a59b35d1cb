/* api_packs.c - what stands where in the contexts. */
#include "appliance/api.h"

#include "appliance/command.h"
#include "appliance/library.h"

#include <stdlib.h>
#include <sys/stat.h>

typedef struct shelf {
    store_pack *packs;
    store_document *documents;
    size_t n_packs, n_documents;
} shelf;

static const store_document *document_of(const shelf *x, int64_t id) {
    for (size_t i = 0; i < x->n_documents; i++)
        if (x->documents[i].id == id) return &x->documents[i];
    return NULL;
}

/* How many packs a document stands in, and which of them in the order of its text this one is. */
static int part_of(const shelf *x, const store_pack_item *item, int *parts) {
    int part = 1;
    *parts = 0;
    for (size_t i = 0; i < x->n_packs; i++)
        for (size_t j = 0; j < x->packs[i].n_items; j++) {
            if (x->packs[i].items[j].document != item->document) continue;
            ++*parts;
            part += x->packs[i].items[j].text_start < item->text_start;
        }
    return part;
}

static json_t *item_json(const shelf *x, const store_pack_item *item) {
    const store_document *d = document_of(x, item->document);
    int parts, part = part_of(x, item, &parts);
    return json_pack("{s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:i, s:i}", "document_id",
                     (json_int_t)item->document, "document", json_text(d ? d->name : ""), "token_start",
                     (json_int_t)item->token_start, "token_end", (json_int_t)item->token_end, "start",
                     (json_int_t)item->text_start, "end", (json_int_t)item->text_end, "text_bytes",
                     d ? (json_int_t)d->text_bytes : 0, "part", part, "parts", parts);
}

/* Bytes of the disk (the file is sparse). */
static int64_t snapshot_bytes(store *s, const store_pack *p) {
    char *path = NULL;
    struct stat st;
    int64_t bytes = 0;
    if (store_pack_snapshot_path(s, p, &path, NULL) == PH_OK && !stat(path, &st))
        bytes = (int64_t)st.st_blocks * 512;
    free(path);
    return bytes;
}

static bool in_a_pack(const shelf *x, int64_t document) {
    for (size_t i = 0; i < x->n_packs; i++)
        for (size_t j = 0; j < x->packs[i].n_items; j++)
            if (x->packs[i].items[j].document == document) return true;
    return false;
}

static json_t *shelf_json(const shelf *x, store *s, const engine *e) {
    json_t *packs = json_array(), *waiting = json_array();
    for (size_t i = 0; i < x->n_packs; i++) {
        const store_pack *p = &x->packs[i];
        json_t *items = json_array();
        for (size_t j = 0; j < p->n_items; j++) json_array_append_new(items, item_json(x, &p->items[j]));
        json_array_append_new(packs,
                              json_pack("{s:I, s:I, s:I, s:I, s:o}", "id", (json_int_t)p->id, "tokens",
                                        (json_int_t)p->tokens, "read", (json_int_t)p->read, "snapshot_bytes",
                                        (json_int_t)snapshot_bytes(s, p), "documents", items));
    }
    for (size_t i = 0; i < x->n_documents; i++)
        if (!in_a_pack(x, x->documents[i].id))
            json_array_append_new(waiting,
                                  json_pack("{s:I, s:o}", "document_id", (json_int_t)x->documents[i].id,
                                            "document", json_text(x->documents[i].name)));
    return json_pack("{s:I, s:I, s:o, s:o}", "capacity", (json_int_t)engine_config(e)->max_positions,
                     "reserved", (json_int_t)library_reserve(e), "packs", packs, "waiting", waiting);
}

static int list(api_call *c, store *s, ph_error *err) {
    engine *e = api_engine(c);
    shelf x = {0};
    if (!e) return PH_OK;
    int code = store_pack_list(s, engine_key(e), &x.packs, &x.n_packs, err);
    if (!code) code = store_document_list(s, &x.documents, &x.n_documents, err);
    if (!code) http_reply_json(c->http, 200, shelf_json(&x, s, e));
    store_packs_free(x.packs, x.n_packs);
    store_documents_free(x.documents, x.n_documents);
    return code;
}

void api_packs_list(api_call *c) {
    api_with_store(c, list);
}

void api_packs_read(api_call *c) {
    static const char *const none[] = {NULL};
    json_t *body = http_json_body(c->http, true);
    if (body && api_members(c, body, none)) {
        jobs_want_read(c->serve->jobs);
        http_reply_json(c->http, 202, json_pack("{s:b}", "queued", 1));
    }
    json_decref(body);
}
