/* paging.h - memory that grows where it stands, for caches: addresses for all that there may ever be are reserved at once,
 * and memory comes behind a beginning of them, page by page, as it is needed. Kernels see one array; what has been
 * recorded with its address stays valid while it grows. Several such arrays can have the same pages at their beginning.
 *
 * A backend that has none of it leaves kern.paging NULL; `alloc` of everything at once is used there.
 */
#ifndef PHAROS_PAGING_H
#define PHAROS_PAGING_H

#include "kernels/kernels.h"

typedef struct kern_paging {
    size_t page; /* bytes */

    /* Addresses for `bytes`; nothing is behind them yet, and nothing may touch them. Given back with kern.free. An array
     * of less than a page is there at once and whole: what follows does for it what it says, without pages. */
    int (*reserve)(kern *k, void **out, size_t bytes, ph_error *err);
    /* Makes sure that the first bytes[i] of each reserved array at[i] are there; what is new is zero. Of all or of none:
     * PH_MEMORY names what is missing and what is free, and everything is as it was. */
    int (*extend)(kern *k, void *const *at, const size_t *bytes, int n, ph_error *err);
    /* Gives arrays to[i], reserved with the size of from[i] and still without memory, the first bytes[i] of these. The
     * first fixed[i] of them will not be written as long as one of both is there: whole pages of them are shared, the
     * rest is copied. All or none, as above. */
    int (*share)(kern *k, void *const *to, void *const *from, const size_t *fixed, const size_t *bytes, int n,
                 ph_error *err);
    /* Gives up pages beyond the first bytes[i] of each. Waits until the device has done what it was asked for. */
    void (*shrink)(kern *k, void *const *at, const size_t *bytes, int n);
    /* Bytes of pages that arrays have, those that several share counted once. */
    size_t (*held)(const kern *k);
} kern_paging;

#endif
