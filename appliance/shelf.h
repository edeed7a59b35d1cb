/* shelf.h - the packs of a model, every document, and how the two meet: what `pack ls` and the API list. */
#ifndef PHAROS_SHELF_H
#define PHAROS_SHELF_H

#include "appliance/library.h"

#include <jansson.h>

/* Free with shelf_free. */
typedef struct shelf {
    store_pack *packs;
    store_document *documents;
    size_t n_packs, n_documents;
    int64_t capacity, reserve; /* tokens of a context, and of these what stays free for question and answer */
} shelf;

int shelf_load(shelf *x, store *s, engine *e, ph_error *err);
void shelf_free(shelf *x);

/* NULL: none of that number. */
const store_document *shelf_document(const shelf *x, int64_t id);
bool shelf_in_a_pack(const shelf *x, int64_t document);
/* Which part of its document an item is, in the order of the text, from 1; *parts = how many there are. */
int shelf_part(const shelf *x, const store_pack_item *item, int *parts);
/* Bytes of the disk that a pack's snapshot takes (the file is sparse); 0 when there is none. */
int64_t shelf_snapshot_bytes(store *s, const store_pack *p);
/* All of it. A pack's snapshot is named where `with_names`. */
json_t *shelf_json(const shelf *x, store *s, bool with_names);

#endif
