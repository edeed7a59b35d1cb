/* library_erase.c - erasing a document without reading again what stands before it (library.h).
 *
 * A token's latents depend on what comes before it only, so the front of a pack stays true. Order, so that a process
 * killed at any moment leaves a library that is right and at worst reads something again: the snapshot is shortened
 * in place; then, in one transaction, the front becomes a pack and the document goes with the old one; the file
 * takes the new pack's name before the commit. */
#include "appliance/library.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int64_t disk_bytes(const char *path) {
    struct stat st;
    return stat(path, &st) ? 0 : (int64_t)st.st_blocks * 512;
}

/* Tokens that are left of the snapshot, 0 where it cannot be kept: then it goes whole. */
static int64_t shorten(engine *e, const char *path, int64_t length) {
    context *c = NULL;
    struct stat st;
    int64_t left = 0;
    if (stat(path, &st) || context_open(&c, e, path, 0, NULL, NULL)) return 0;
    if (!context_shorten(c, length, NULL)) left = context_length(c);
    context_close(c);
    return left;
}

/* Inside the transaction. */
static int keep_front(store *s, const store_pack *old, size_t n_items, const char *from, int64_t left, ph_error *err) {
    store_pack front = {.tokens = old->items[n_items - 1].token_end, .items = old->items, .n_items = n_items};
    char *to = NULL;
    memcpy(front.key, old->key, sizeof front.key);
    int code = store_pack_put(s, &front, err);
    if (!code) code = store_pack_set_read(s, front.id, left, err);
    if (!code) code = store_pack_snapshot_path(s, &front, &to, err);
    if (!code) rename(from, to); /* where it fails, the pack is read again */
    free(to);
    free(front.snapshot);
    return code;
}

/* What of one pack can stay. */
typedef struct front {
    size_t n_items;
    int64_t left, freed; /* tokens, bytes of the disk */
    char *path;
} front;

static int front_of(front *f, store *s, engine *e, const store_pack *p, int64_t document, ph_error *err) {
    size_t i = 0;
    while (i < p->n_items && p->items[i].document != document) i++;
    if (i == 0 || i == p->n_items) return PH_OK;
    int code = store_pack_snapshot_path(s, p, &f->path, err);
    if (code) return code;
    int64_t before = disk_bytes(f->path);
    f->left = shorten(e, f->path, p->items[i].token_start);
    f->freed = before - disk_bytes(f->path);
    if (f->left) f->n_items = i;
    return PH_OK;
}

int library_erase(store *s, engine *e, int64_t document, store_receipt *receipt, ph_error *err) {
    store_pack *packs = NULL;
    front *fronts = NULL;
    store_receipt r = {0};
    size_t n = 0;
    int64_t freed = 0, kept = 0;
    int code = e ? store_pack_list(s, engine_key(e), &packs, &n, err) : PH_OK;
    if (!code && n && !(fronts = calloc(n, sizeof *fronts)))
        code = ph_fail(err, PH_MEMORY, "no memory to erase from %zu packs", n);
    for (size_t i = 0; i < n && !code; i++) code = front_of(&fronts[i], s, e, &packs[i], document, err);
    bool begun = !code && !(code = store_begin(s, err));
    for (size_t i = 0; i < n && !code; i++) {
        if (!fronts[i].n_items) continue;
        code = keep_front(s, &packs[i], fronts[i].n_items, fronts[i].path, fronts[i].left, err);
        kept++;
        freed += fronts[i].freed;
    }
    if (!code) code = store_document_delete(s, document, &r, err);
    if (begun && !code)
        code = store_commit(s, err);
    else if (begun)
        store_rollback(s);
    if (r.documents) {
        r.snapshots += kept;
        r.snapshot_bytes += freed;
    }
    if (receipt) *receipt = r;
    for (size_t i = 0; i < n && fronts; i++) free(fronts[i].path);
    free(fronts);
    store_packs_free(packs, n);
    return code;
}
