/* device_cache.c - caches in backends' memory: made, grown, shared (device_cache.h). */
#include "engine/device_cache.h"
#include "kernels/paging.h"

#include <stdlib.h>
#include <string.h>

int cache_arrays(cache *out, const snapshot_layout *l, ph_error *err) {
    out->latents = calloc((size_t)l->layers, sizeof *out->latents);
    out->keys = calloc((size_t)l->layers, sizeof *out->keys);
    if (!out->latents || !out->keys) {
        free(out->latents);
        free(out->keys);
        memset(out, 0, sizeof *out);
        return ph_fail(err, PH_MEMORY, "no memory for a cache of %d layers", l->layers);
    }
    for (int i = 0; i < l->layers; i++) {
        out->latents[i] = l->latents;
        out->keys[i] = l->keys;
    }
    return PH_OK;
}

void **cache_region(const cache *c, int layer, int which) {
    return which == 0   ? &c->latents[layer].rows
           : which == 1 ? &c->keys[layer].keys
                        : (void **)&c->keys[layer].scale;
}

/* Bytes of a block in a layer's region. */
static size_t block_bytes(const snapshot_layout *l, int layer, int which) {
    return l->block_bytes[1 + REGIONS_PER_LAYER * layer + which];
}

void device_cache_free(cache *c, const snapshot_layout *l, kern *k) {
    for (int i = 0; c->latents && c->keys && i < l->layers; i++)
        for (int j = 0; j < REGIONS_PER_LAYER; j++) k->free(k, *cache_region(c, i, j));
    free(c->latents);
    free(c->keys);
    memset(c, 0, sizeof *c);
}

int device_cache_make(cache *out, const snapshot_layout *l, kern *k, ph_error *err) {
    size_t blocks = (size_t)(l->capacity / SNAPSHOT_BLOCK);
    int code = cache_arrays(out, l, err);
    for (int i = 0; !code && i < l->layers; i++)
        for (int j = 0; !code && j < REGIONS_PER_LAYER; j++) {
            size_t bytes = blocks * block_bytes(l, i, j);
            void **region = cache_region(out, i, j);
            if (bytes)
                code =
                    k->paging ? k->paging->reserve(k, region, bytes, err) : k->alloc(k, region, bytes, err);
        }
    if (code) device_cache_free(out, l, k);
    return code;
}

/* The regions that are there, as paging.h wants them. One block of memory, freed with free. */
typedef struct region_list {
    int n;
    void **at, **from;
    size_t *fixed, *bytes; /* [n] of whole blocks below a length, and of those up to it */
} region_list;

static int list_regions(region_list *out, const cache *c, const cache *from, const snapshot_layout *l,
                        int64_t n_tok, ph_error *err) {
    size_t most = (size_t)l->layers * REGIONS_PER_LAYER;
    memset(out, 0, sizeof *out);
    out->at = malloc(most * (2 * sizeof *out->at + 2 * sizeof *out->bytes));
    if (!out->at) return ph_fail(err, PH_MEMORY, "no memory for a cache of %d layers", l->layers);
    out->from = out->at + most;
    out->fixed = (size_t *)(out->from + most);
    out->bytes = out->fixed + most;
    for (int i = 0; i < l->layers; i++)
        for (int j = 0; j < REGIONS_PER_LAYER; j++) {
            size_t block = block_bytes(l, i, j);
            if (!block) continue;
            out->at[out->n] = *cache_region(c, i, j);
            out->from[out->n] = from ? *cache_region(from, i, j) : NULL;
            out->fixed[out->n] = (size_t)(n_tok / SNAPSHOT_BLOCK) * block;
            out->bytes[out->n++] = (size_t)snapshot_blocks(n_tok) * block;
        }
    return PH_OK;
}

int device_cache_extend(const cache *c, const snapshot_layout *l, kern *k, int64_t n_tok, ph_error *err) {
    region_list r;
    if (!k->paging) return PH_OK;
    int code = list_regions(&r, c, NULL, l, n_tok, err);
    if (code) return code;
    code = k->paging->extend(k, r.at, r.bytes, r.n, err);
    free(r.at);
    return code;
}

int device_cache_share(const cache *to, const cache *from, const snapshot_layout *l, kern *k, int64_t n_tok,
                       ph_error *err) {
    region_list r;
    int code = list_regions(&r, to, from, l, n_tok, err);
    if (code) return code;
    if (k->paging)
        code = k->paging->share(k, r.at, r.from, r.fixed, r.bytes, r.n, err);
    else
        for (int i = 0; i < r.n; i++)
            if (r.bytes[i]) k->copy(k, r.at[i], r.from[i], r.bytes[i]);
    free(r.at);
    return code;
}

void device_cache_shrink(const cache *c, const snapshot_layout *l, kern *k, int64_t n_tok) {
    region_list r;
    if (!k->paging || list_regions(&r, c, NULL, l, n_tok, NULL))
        return; /* what is not given up now is when it closes */
    k->paging->shrink(k, r.at, r.bytes, r.n);
    free(r.at);
}
