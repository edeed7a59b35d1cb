/* device_cache.h - a rank's caches in its backend's memory, which is not the snapshot's map. Private to
 * engine/.
 *
 * Where the backend has pages (kernels/paging.h) a cache has addresses for its whole capacity and memory for
 * what is in it; caches that begin alike, as those of conversations on one context do, have that beginning's
 * pages together. Elsewhere all of it is there at once, and others begin as copies.
 */
#ifndef PHAROS_DEVICE_CACHE_H
#define PHAROS_DEVICE_CACHE_H

#include "engine/snapshot.h"

enum { REGIONS_PER_LAYER = 3 };

/* Tokens in whole blocks. */
static inline int64_t snapshot_blocks(int64_t n_tok) {
    return (n_tok + SNAPSHOT_BLOCK - 1) / SNAPSHOT_BLOCK;
}

/* Arrays of a layout's shape, with nothing in them; freed with free. */
int cache_arrays(cache *out, const snapshot_layout *l, ph_error *err);
/* Where a layer's regions are in memory: what `which` of REGIONS_PER_LAYER points to. */
void **cache_region(const cache *c, int layer, int which);

int device_cache_make(cache *out, const snapshot_layout *l, kern *k, ph_error *err);
void device_cache_free(cache *c, const snapshot_layout *l, kern *k);
/* Makes sure that there is memory for the first n_tok tokens, in whole blocks. PH_MEMORY: nothing has
 * changed. */
int device_cache_extend(const cache *c, const snapshot_layout *l, kern *k, int64_t n_tok, ph_error *err);
/* Gives `to`, which has just been made, the first n_tok tokens of `from`, in whole blocks. Whole blocks below
 * n_tok must not be written while both are there. */
int device_cache_share(const cache *to, const cache *from, const snapshot_layout *l, kern *k, int64_t n_tok,
                       ph_error *err);
/* Gives up memory beyond the first n_tok tokens. */
void device_cache_shrink(const cache *c, const snapshot_layout *l, kern *k, int64_t n_tok);

#endif
