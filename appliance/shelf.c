/* shelf.c - loads and writes out what shelf.h promises. */
#include "appliance/shelf.h"

#include "appliance/command.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int shelf_load(shelf *x, store *s, engine *e, ph_error *err) {
    memset(x, 0, sizeof *x);
    x->capacity = engine_config(e)->max_positions;
    x->reserve = library_reserve(e);
    int code = store_pack_list(s, engine_key(e), &x->packs, &x->n_packs, err);
    return code ? code : store_document_list(s, &x->documents, &x->n_documents, err);
}

void shelf_free(shelf *x) {
    store_packs_free(x->packs, x->n_packs);
    store_documents_free(x->documents, x->n_documents);
}

const store_document *shelf_document(const shelf *x, int64_t id) {
    for (size_t i = 0; i < x->n_documents; i++)
        if (x->documents[i].id == id) return &x->documents[i];
    return NULL;
}

int shelf_part(const shelf *x, const store_pack_item *item, int *parts) {
    int part = 1;
    *parts = 0;
    for (size_t i = 0; i < x->n_packs; i++) {
        for (size_t j = 0; j < x->packs[i].n_items; j++) {
            if (x->packs[i].items[j].document != item->document) continue;
            ++*parts;
            part += x->packs[i].items[j].text_start < item->text_start;
        }
    }
    return part;
}

int64_t shelf_snapshot_bytes(store *s, const store_pack *p) {
    char *path = NULL;
    struct stat st;
    int64_t bytes = 0;
    if (store_pack_snapshot_path(s, p, &path, NULL) == PH_OK && !stat(path, &st))
        bytes = (int64_t)st.st_blocks * 512;
    free(path);
    return bytes;
}

bool shelf_in_a_pack(const shelf *x, int64_t document) {
    for (size_t i = 0; i < x->n_packs; i++)
        for (size_t j = 0; j < x->packs[i].n_items; j++)
            if (x->packs[i].items[j].document == document) return true;
    return false;
}

static json_t *item_json(const shelf *x, const store_pack_item *item) {
    const store_document *d = shelf_document(x, item->document);
    int parts, part = shelf_part(x, item, &parts);
    return json_pack("{s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:i, s:i}", "document_id",
                     (json_int_t)item->document, "document", json_text(d ? d->name : NULL), "token_start",
                     (json_int_t)item->token_start, "token_end", (json_int_t)item->token_end, "start",
                     (json_int_t)item->text_start, "end", (json_int_t)item->text_end, "text_bytes",
                     d ? (json_int_t)d->text_bytes : 0, "part", part, "parts", parts);
}

json_t *shelf_json(const shelf *x, store *s, bool with_names) {
    json_t *packs = json_array(), *waiting = json_array();
    for (size_t i = 0; i < x->n_packs; i++) {
        const store_pack *p = &x->packs[i];
        json_t *items = json_array();
        for (size_t j = 0; j < p->n_items; j++) json_array_append_new(items, item_json(x, &p->items[j]));
        json_t *row = json_pack("{s:I, s:I, s:I, s:I, s:o}", "id", (json_int_t)p->id, "tokens",
                                (json_int_t)p->tokens, "read", (json_int_t)p->read, "snapshot_bytes",
                                (json_int_t)shelf_snapshot_bytes(s, p), "documents", items);
        if (with_names) json_object_set_new(row, "snapshot", json_text(p->snapshot));
        json_array_append_new(packs, row);
    }
    for (size_t i = 0; i < x->n_documents; i++)
        if (!shelf_in_a_pack(x, x->documents[i].id))
            json_array_append_new(waiting,
                                  json_pack("{s:I, s:o}", "document_id", (json_int_t)x->documents[i].id,
                                            "document", json_text(x->documents[i].name)));
    return json_pack("{s:I, s:I, s:o, s:o}", "capacity", (json_int_t)x->capacity, "reserved",
                     (json_int_t)x->reserve, "packs", packs, "waiting", waiting);
}
