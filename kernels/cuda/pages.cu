/* pages.cu - arrays that grow in place, by the device's own virtual memory: addresses reserved at once, physical pages
 * mapped behind them, pages in several places at once for arrays that begin alike. What kernels see are addresses that do
 * not change, so that a key costs no look into a table and recorded steps stay valid.
 *
 * The driver's functions are asked for by name through the runtime, so that nothing links the driver's library and an old
 * one is no error. Pages that nobody has any more are kept for the next array, up to SPARE_BYTES.
 */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/pages.h"

#include <cuda.h>

#include <cstdlib>
#include <cstring>

static const size_t SPARE_BYTES = (size_t)256 << 20;

struct driver_calls {
    CUresult (*DeviceGetAttribute)(int *, CUdevice_attribute, CUdevice);
    CUresult (*MemGetAllocationGranularity)(size_t *, const CUmemAllocationProp *, CUmemAllocationGranularity_flags);
    CUresult (*MemAddressReserve)(CUdeviceptr *, size_t, size_t, CUdeviceptr, unsigned long long);
    CUresult (*MemAddressFree)(CUdeviceptr, size_t);
    CUresult (*MemCreate)(CUmemGenericAllocationHandle *, size_t, const CUmemAllocationProp *, unsigned long long);
    CUresult (*MemRelease)(CUmemGenericAllocationHandle);
    CUresult (*MemMap)(CUdeviceptr, size_t, size_t, CUmemGenericAllocationHandle, unsigned long long);
    CUresult (*MemUnmap)(CUdeviceptr, size_t);
    CUresult (*MemSetAccess)(CUdeviceptr, size_t, const CUmemAccessDesc *, size_t);
};

struct cuda_page {
    CUmemGenericAllocationHandle memory;
    int users; /* arrays that have it */
    cuda_page *next; /* spare ones */
};

struct paged_array {
    CUdeviceptr at;
    size_t room;    /* bytes of addresses, whole pages */
    size_t n;       /* pages that are mapped */
    cuda_page **page; /* [room / page bytes]; NULL: an array without pages, all of it there */
    paged_array *next;
};

struct cuda_pages {
    kern_paging paging;
    driver_calls call;
    CUmemAllocationProp what;
    cuda_page *spare;
    size_t n_spare, n_held;
    paged_array *first;
};

static cuda_pages *pages_of(const kern *k) {
    return cuda_state_of(k)->pages;
}

/* ---- the driver ---- */

static bool find_call(const char *name, void **out) {
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
    cudaError_t e = cudaGetDriverEntryPointByVersion(name, out, 10020, cudaEnableDefault, &found);
#else
    cudaError_t e = cudaGetDriverEntryPoint(name, out, cudaEnableDefault, &found);
#endif
    if (e != cudaSuccess) cudaGetLastError();
    return e == cudaSuccess && found == cudaDriverEntryPointSuccess && *out;
}

/* The calls, or false where the driver or the device has not all of it. */
static bool find_driver(driver_calls *c, int device) {
    const struct {
        const char *name;
        void *to;
    } wanted[] = {{"cuDeviceGetAttribute", &c->DeviceGetAttribute},
                  {"cuMemGetAllocationGranularity", &c->MemGetAllocationGranularity},
                  {"cuMemAddressReserve", &c->MemAddressReserve},
                  {"cuMemAddressFree", &c->MemAddressFree},
                  {"cuMemCreate", &c->MemCreate},
                  {"cuMemRelease", &c->MemRelease},
                  {"cuMemMap", &c->MemMap},
                  {"cuMemUnmap", &c->MemUnmap},
                  {"cuMemSetAccess", &c->MemSetAccess}};
    for (const auto &w : wanted) {
        void *found = nullptr;
        if (!find_call(w.name, &found)) return false;
        memcpy(w.to, &found, sizeof found);
    }
    int can = 0;
    return c->DeviceGetAttribute(&can, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, device) == CUDA_SUCCESS && can;
}

bool cuda_pages_known(int device) {
    driver_calls c;
    return find_driver(&c, device);
}

static int refused(ph_error *err, CUresult e, const char *what) {
    return ph_fail(err, PH_FAIL, "the GPU's driver failed in %s: error %d", what, (int)e);
}

/* ---- pages ---- */

static void give_back(cuda_pages *s, cuda_page *p) {
    if (--p->users > 0) return;
    s->n_held--;
    if ((s->n_spare + 1) * s->paging.page > SPARE_BYTES) {
        s->call.MemRelease(p->memory);
        free(p);
        return;
    }
    p->next = s->spare;
    s->spare = p;
    s->n_spare++;
}

static cuda_page *take_spare(cuda_pages *s) {
    cuda_page *p = s->spare;
    s->spare = p->next;
    s->n_spare--;
    s->n_held++;
    p->users = 1;
    return p;
}

bool cuda_pages_drain(kern *k) {
    cuda_pages *s = pages_of(k);
    if (!s || !s->spare) return false;
    while (s->spare) {
        cuda_page *p = s->spare;
        s->spare = p->next;
        s->call.MemRelease(p->memory);
        free(p);
    }
    s->n_spare = 0;
    return true;
}

/* Makes so many pages spare ones, or none more than there were. */
static int make_spare(kern *k, size_t n, ph_error *err) {
    cuda_pages *s = pages_of(k);
    size_t had = s->n_spare, rest = 0, all = 0;
    if (n <= had) return PH_OK;
    cudaMemGetInfo(&rest, &all);
    CUresult e = CUDA_SUCCESS;
    while (s->n_spare < n && e == CUDA_SUCCESS) {
        cuda_page *p = static_cast<cuda_page *>(calloc(1, sizeof *p));
        e = p ? s->call.MemCreate(&p->memory, s->paging.page, &s->what, 0) : CUDA_ERROR_UNKNOWN;
        if (e != CUDA_SUCCESS) {
            free(p);
            break;
        }
        p->next = s->spare;
        s->spare = p;
        s->n_spare++;
    }
    if (e == CUDA_SUCCESS) return PH_OK;
    while (s->n_spare > had) {
        cuda_page *p = s->spare;
        s->spare = p->next;
        s->n_spare--;
        s->call.MemRelease(p->memory);
        free(p);
    }
    if (e != CUDA_ERROR_OUT_OF_MEMORY) return refused(err, e, "making pages for a cache");
    return ph_fail(err, PH_MEMORY,
                   "the GPU has no room for a cache that grows: it needs %.1f MB more, and %.1f MB of its %.1f MB are free; "
                   "free some, or use --device cpu",
                   (double)n * (double)s->paging.page / 1e6, ((double)rest + (double)had * (double)s->paging.page) / 1e6,
                   (double)all / 1e6);
}

/* ---- arrays ---- */

static paged_array *find_array(const kern *k, const void *p) {
    paged_array *a = pages_of(k) ? pages_of(k)->first : nullptr;
    while (a && a->at != reinterpret_cast<CUdeviceptr>(p)) a = a->next;
    return a;
}

/* What was asked for may name the pages that are to go. */
static void settle(kern *k) {
    cuda_noted(k, cudaStreamSynchronize(cuda_stream(k)), "waiting");
    cuda_noted(k, cudaStreamSynchronize(cuda_state_of(k)->copies), "waiting");
}

static void drop_pages(kern *k, paged_array *a, size_t keep) {
    cuda_pages *s = pages_of(k);
    if (!a->page || a->n <= keep) return;
    s->call.MemUnmap(a->at + keep * s->paging.page, (a->n - keep) * s->paging.page);
    while (a->n > keep) {
        give_back(s, a->page[--a->n]);
        a->page[a->n] = nullptr;
    }
}

static int set_access(const cuda_pages *s, const paged_array *a, size_t first, size_t n, CUmemAccess_flags how, ph_error *err) {
    if (n == 0) return PH_OK;
    CUmemAccessDesc d = {};
    d.location = s->what.location;
    d.flags = how;
    CUresult e = s->call.MemSetAccess(a->at + first * s->paging.page, n * s->paging.page, &d, 1);
    /* Readers' pages being read-only is a net under the promise that nobody writes there; not every driver has it. */
    if (e != CUDA_SUCCESS && how == CU_MEM_ACCESS_FLAGS_PROT_READ)
        return set_access(s, a, first, n, CU_MEM_ACCESS_FLAGS_PROT_READWRITE, err);
    return e == CUDA_SUCCESS ? PH_OK : refused(err, e, "giving access to a cache's pages");
}

/* Maps a page behind those that the array has; it is the array's then. */
static int map_page(cuda_pages *s, paged_array *a, cuda_page *p, ph_error *err) {
    CUresult e = s->call.MemMap(a->at + a->n * s->paging.page, s->paging.page, 0, p->memory, 0);
    a->page[a->n++] = p;
    if (e == CUDA_SUCCESS) return PH_OK;
    a->page[--a->n] = nullptr;
    give_back(s, p);
    return refused(err, e, "mapping a cache's pages");
}

/* Behind what it has, up to `upto` pages, which are spare ones now. */
static int map_spare(kern *k, paged_array *a, size_t upto, ph_error *err) {
    cuda_pages *s = pages_of(k);
    size_t had = a->n, bytes = s->paging.page;
    int code = PH_OK;
    while (a->n < upto && !code) code = map_page(s, a, take_spare(s), err);
    if (!code) code = set_access(s, a, had, a->n - had, CU_MEM_ACCESS_FLAGS_PROT_READWRITE, err);
    if (code)
        drop_pages(k, a, had); /* nothing knows them yet */
    else if (upto > had)
        cuda_noted(k, cudaMemsetAsync(reinterpret_cast<void *>(a->at + had * bytes), 0, (upto - had) * bytes, cuda_stream(k)),
                   "zeroing a cache");
    return code;
}

static int pages_reserve(kern *k, void **out, size_t bytes, ph_error *err) {
    cuda_pages *s = pages_of(k);
    size_t each = s->paging.page;
    *out = nullptr;
    paged_array *a = static_cast<paged_array *>(calloc(1, sizeof *a));
    if (!a) return ph_fail(err, PH_MEMORY, "no memory for a cache");
    a->room = (bytes + each - 1) / each * each;
    int code = PH_OK;
    if (bytes < each) {
        a->room = bytes;
        void *all = nullptr;
        code = k->alloc(k, &all, bytes, err);
        a->at = reinterpret_cast<CUdeviceptr>(all);
    } else {
        cuda_stream(k);
        a->page = static_cast<cuda_page **>(calloc(a->room / each, sizeof *a->page));
        CUresult e = a->page ? s->call.MemAddressReserve(&a->at, a->room, each, 0, 0) : CUDA_ERROR_UNKNOWN;
        if (e != CUDA_SUCCESS) code = refused(err, e, "reserving addresses for a cache");
    }
    if (code) {
        free(a->page);
        free(a);
        return code;
    }
    a->next = s->first;
    s->first = a;
    *out = reinterpret_cast<void *>(a->at);
    return PH_OK;
}

bool cuda_pages_free(kern *k, void *p) {
    paged_array *a = find_array(k, p);
    if (!a) return false;
    cuda_pages *s = pages_of(k);
    if (a->n) settle(k);
    drop_pages(k, a, 0);
    if (a->page)
        s->call.MemAddressFree(a->at, a->room);
    else
        cuda_noted(k, cudaFree(p), "freeing a cache");
    paged_array **link = &s->first;
    while (*link != a) link = &(*link)->next;
    *link = a->next;
    free(a->page);
    free(a);
    return true;
}

/* Pages for the first `bytes` of an array. */
static size_t pages_for(const cuda_pages *s, size_t bytes) {
    return (bytes + s->paging.page - 1) / s->paging.page;
}

static int pages_extend(kern *k, void *const *at, const size_t *bytes, int n, ph_error *err) {
    cuda_pages *s = pages_of(k);
    size_t more = 0;
    for (int i = 0; i < n; i++) {
        const paged_array *a = find_array(k, at[i]);
        if (!a || bytes[i] > a->room) return ph_fail(err, PH_FAIL, "a cache grows beyond its reserved size");
        if (a->page && pages_for(s, bytes[i]) > a->n) more += pages_for(s, bytes[i]) - a->n;
    }
    if (more == 0) return PH_OK;
    int code = make_spare(k, more, err);
    for (int i = 0; i < n && !code; i++) {
        paged_array *a = find_array(k, at[i]);
        if (a->page) code = map_spare(k, a, pages_for(s, bytes[i]), err);
    }
    return code; /* after a refusal other than for room some arrays may have grown, which harms nobody */
}

static int share_one(kern *k, paged_array *to, paged_array *from, size_t fixed, size_t bytes, ph_error *err) {
    cuda_pages *s = pages_of(k);
    size_t whole = fixed / s->paging.page, at = whole * s->paging.page;
    int code = PH_OK;
    if (!to->page) at = 0;
    for (size_t i = 0; to->page && i < whole && !code; i++) {
        from->page[i]->users++;
        code = map_page(s, to, from->page[i], err);
    }
    if (to->page && !code) code = set_access(s, to, 0, whole, CU_MEM_ACCESS_FLAGS_PROT_READ, err);
    if (to->page && !code) code = map_spare(k, to, pages_for(s, bytes), err);
    if (!code && bytes > at)
        cuda_noted(k,
                   cudaMemcpyAsync(reinterpret_cast<void *>(to->at + at), reinterpret_cast<void *>(from->at + at), bytes - at,
                                   cudaMemcpyDeviceToDevice, cuda_stream(k)),
                   "copying a cache's end");
    return code;
}

static int pages_share(kern *k, void *const *to, void *const *from, const size_t *fixed, const size_t *bytes, int n,
                       ph_error *err) {
    cuda_pages *s = pages_of(k);
    size_t more = 0;
    for (int i = 0; i < n; i++) {
        const paged_array *a = find_array(k, to[i]), *b = find_array(k, from[i]);
        if (!a || !b || a->room != b->room || a->n || fixed[i] > bytes[i] || bytes[i] > b->room ||
            (b->page && pages_for(s, bytes[i]) > b->n))
            return ph_fail(err, PH_FAIL, "a cache cannot be shared: it is not there");
        if (a->page) more += pages_for(s, bytes[i]) - fixed[i] / s->paging.page;
    }
    int code = make_spare(k, more, err);
    for (int i = 0; i < n && !code; i++)
        code = share_one(k, find_array(k, to[i]), find_array(k, from[i]), fixed[i], bytes[i], err);
    if (!code) return PH_OK;
    settle(k);
    for (int i = 0; i < n; i++) drop_pages(k, find_array(k, to[i]), 0);
    return code;
}

static void pages_shrink(kern *k, void *const *at, const size_t *bytes, int n) {
    bool waited = false;
    for (int i = 0; i < n; i++) {
        paged_array *a = find_array(k, at[i]);
        if (!a || !a->page || pages_for(pages_of(k), bytes[i]) >= a->n) continue;
        if (!waited) settle(k);
        waited = true;
        drop_pages(k, a, pages_for(pages_of(k), bytes[i]));
    }
}

static size_t pages_held(const kern *k) {
    const cuda_pages *s = pages_of(k);
    return s->n_held * s->paging.page;
}

/* ---- opening ---- */

int cuda_pages_open(kern *k, ph_error *err) {
    cuda_state *state = cuda_state_of(k);
    driver_calls calls;
    if (!find_driver(&calls, state->device)) return PH_OK;
    cuda_pages *s = static_cast<cuda_pages *>(calloc(1, sizeof *s));
    if (!s) return ph_fail(err, PH_MEMORY, "No memory for the cuda backend.");
    s->call = calls;
    s->what.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    s->what.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    s->what.location.id = state->device;
    size_t each = 0;
    if (calls.MemGetAllocationGranularity(&each, &s->what, CU_MEM_ALLOC_GRANULARITY_MINIMUM) != CUDA_SUCCESS || each == 0) {
        free(s);
        return PH_OK;
    }
    s->paging = {each, pages_reserve, pages_extend, pages_share, pages_shrink, pages_held};
    state->pages = s;
    k->paging = &s->paging;
    return PH_OK;
}

void cuda_pages_close(kern *k) {
    cuda_pages *s = pages_of(k);
    if (!s) return;
    cuda_pages_drain(k);
    free(s);
    cuda_state_of(k)->pages = nullptr;
    k->paging = nullptr;
}
