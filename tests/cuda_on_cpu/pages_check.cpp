/* pages_check.cpp - kernels/cuda/pages.cu without a GPU: on top of a stand-in for the driver's calls, whose memory is one
 * file in memory and whose addresses are the system's. What is not mapped, or mapped without access, cannot be touched, and
 * pages for readers cannot be written. Growing, sharing and giving up in a random order, held against plain arrays; at the
 * end nothing may be left. Each call is refused once, too: nothing may be lost or left behind then.
 *
 *     pages_check [seed]
 */
#include "kernels/cuda/pages.cu"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <ctime>
#include <map>
#include <string>
#include <vector>

/* ---- the driver ---- */

enum { PAGE = 4096, MOST_PAGES = 256 };
static int file;
static size_t limit = MOST_PAGES;                                  /* pages that the device has */
static std::map<CUmemGenericAllocationHandle, int> handles;        /* and where they are mapped how many times */
static std::map<CUdeviceptr, size_t> ranges;                       /* of addresses */
static std::map<CUdeviceptr, CUmemGenericAllocationHandle> mapped; /* page by page */
static std::map<CUmemGenericAllocationHandle, bool> released;      /* but still mapped */
static long countdown = -1;                                        /* calls until one is refused */

static void wrong(const char *what) {
    printf("FAILED: %s\n", what);
    exit(1);
}
static bool refuse() {
    return countdown >= 0 && countdown-- == 0;
}
static void *memory_at(CUdeviceptr at) {
    return reinterpret_cast<void *>(at);
}

static CUresult get_attribute(int *value, CUdevice_attribute, CUdevice) {
    *value = 1;
    return CUDA_SUCCESS;
}
static CUresult granularity(size_t *out, const CUmemAllocationProp *, CUmemAllocationGranularity_flags) {
    *out = PAGE;
    return CUDA_SUCCESS;
}
static CUresult address_reserve(CUdeviceptr *out, size_t bytes, size_t, CUdeviceptr, unsigned long long) {
    if (bytes % PAGE || !bytes) wrong("a range of addresses is not whole pages");
    if (refuse()) return CUDA_ERROR_UNKNOWN;
    void *at = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *out = reinterpret_cast<CUdeviceptr>(at);
    ranges[*out] = bytes;
    return CUDA_SUCCESS;
}
static CUresult address_free(CUdeviceptr at, size_t bytes) {
    if (!ranges.count(at) || ranges[at] != bytes) wrong("addresses are given back that were not reserved so");
    for (CUdeviceptr p = at; p < at + bytes; p += PAGE)
        if (mapped.count(p)) wrong("addresses are given back with pages behind them");
    munmap(memory_at(at), bytes);
    ranges.erase(at);
    return CUDA_SUCCESS;
}
static CUresult create(CUmemGenericAllocationHandle *out, size_t bytes, const CUmemAllocationProp *what, unsigned long long) {
    if (bytes != PAGE || what->location.id != 3) wrong("a page of another size, or on another device");
    if (handles.size() >= limit) return CUDA_ERROR_OUT_OF_MEMORY;
    if (refuse()) return CUDA_ERROR_UNKNOWN;
    CUmemGenericAllocationHandle h = 1;
    while (handles.count(h)) h++;
    handles[h] = 0;
    *out = h;
    std::vector<unsigned char> poison(PAGE, 0xee);
    if (pwrite(file, poison.data(), PAGE, (off_t)h * PAGE) != PAGE) wrong("no memory");
    return CUDA_SUCCESS;
}
static CUresult release(CUmemGenericAllocationHandle h) {
    if (!handles.count(h) || released.count(h)) wrong("a page is released twice");
    if (handles[h]) wrong("a page is released while it is mapped"); /* the driver allows it; pages.cu has no reason to */
    handles.erase(h);
    return CUDA_SUCCESS;
}
static CUresult map_one(CUdeviceptr at, size_t bytes, size_t offset, CUmemGenericAllocationHandle h, unsigned long long) {
    if (bytes != PAGE || offset || at % PAGE || !handles.count(h)) wrong("a mapping of no page");
    if (mapped.count(at)) wrong("a page is mapped over another");
    bool inside = false;
    for (auto &r : ranges) inside |= at >= r.first && at + PAGE <= r.first + r.second;
    if (!inside) wrong("a page is mapped outside of all ranges");
    if (refuse()) return CUDA_ERROR_UNKNOWN;
    mapped[at] = h;
    handles[h]++;
    return CUDA_SUCCESS;
}
static CUresult unmap(CUdeviceptr at, size_t bytes) {
    for (CUdeviceptr p = at; p < at + bytes; p += PAGE) {
        if (!mapped.count(p)) wrong("nothing is mapped where something is to go");
        handles[mapped[p]]--;
        mapped.erase(p);
        mmap(memory_at(p), PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    }
    return CUDA_SUCCESS;
}
static CUresult set_page_access(CUdeviceptr at, size_t bytes, const CUmemAccessDesc *d, size_t n) {
    if (n != 1) wrong("access for other than one");
    if (refuse()) return CUDA_ERROR_UNKNOWN;
    int how = d->flags == CU_MEM_ACCESS_FLAGS_PROT_READ ? PROT_READ : PROT_READ | PROT_WRITE;
    for (CUdeviceptr p = at; p < at + bytes; p += PAGE) {
        if (!mapped.count(p)) wrong("access to what is not mapped");
        if (mmap(memory_at(p), PAGE, how, MAP_SHARED | MAP_FIXED, file, (off_t)mapped[p] * PAGE) == MAP_FAILED) wrong("mmap");
    }
    return CUDA_SUCCESS;
}

static bool old_driver;
extern "C" {
cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **out, unsigned, unsigned long long,
                                             enum cudaDriverEntryPointQueryResult *found) {
    const std::map<std::string, void *> calls = {{"cuDeviceGetAttribute", (void *)get_attribute},
                                                 {"cuMemGetAllocationGranularity", (void *)granularity},
                                                 {"cuMemAddressReserve", (void *)address_reserve},
                                                 {"cuMemAddressFree", (void *)address_free},
                                                 {"cuMemCreate", (void *)create},
                                                 {"cuMemRelease", (void *)release},
                                                 {"cuMemMap", (void *)map_one},
                                                 {"cuMemUnmap", (void *)unmap},
                                                 {"cuMemSetAccess", (void *)set_page_access}};
    bool have = calls.count(name) && !(old_driver && !strcmp(name, "cuMemMap"));
    *found = have ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
    *out = have ? calls.at(name) : nullptr;
    return cudaSuccess;
}
cudaError_t cudaGetDriverEntryPoint(const char *name, void **out, unsigned long long flags,
                                    enum cudaDriverEntryPointQueryResult *found) {
    return cudaGetDriverEntryPointByVersion(name, out, 0, flags, found);
}
cudaError_t cudaMemsetAsync(void *p, int value, size_t n, cudaStream_t) {
    memset(p, value, n);
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, enum cudaMemcpyKind, cudaStream_t) {
    memcpy(to, from, n);
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *rest, size_t *all) {
    *rest = (limit - handles.size()) * PAGE;
    *all = limit * PAGE;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGetLastError(void) { return cudaSuccess; }
cudaError_t cudaFree(void *p) {
    free(p);
    return cudaSuccess;
}
}

/* ---- what pages.cu needs of the backend ---- */

cudaStream_t cuda_stream(const kern *) { return nullptr; }
void cuda_noted(const kern *, cudaError_t, const char *) {}
extern "C" int ph_fail(ph_error *err, int code, const char *format, ...) {
    va_list list;
    va_start(list, format);
    if (err) vsnprintf(err->text, sizeof err->text, format, list);
    va_end(list);
    return code;
}
static int alloc(kern *, void **out, size_t bytes, ph_error *) {
    *out = calloc(1, bytes);
    return PH_OK;
}

/* ---- arrays that are held against plain ones ---- */

struct pair {
    char *at;
    size_t room, have, shared; /* bytes; what others may have too and is not written */
    std::vector<char> want;
};
static kern backend;
static cuda_state state;
static unsigned random_state;

static unsigned draw(unsigned n) {
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % n;
}

static void check(const pair &p) {
    if (memcmp(p.at, p.want.data(), p.have)) wrong("an array has other bytes than were put there");
}

/* One run; what is refused is asked for again once. Returns false where a call was refused. */
static bool run(int steps) {
    const kern_paging *paging = backend.paging;
    std::vector<pair> all;
    bool sound = true;
    auto ask = [&](auto what) {
        ph_error err = {};
        if (what(&err) == PH_OK) return true;
        sound = false;
        return what(&err) == PH_OK;
    };
    for (int i = 0; i < steps; i++) {
        unsigned which = all.empty() ? 0 : draw((unsigned)all.size());
        switch (draw(6)) {
        case 0: { /* a new one */
            pair p = {};
            p.room = draw(4) ? (size_t)draw(12 * PAGE) + 1 : (size_t)draw(PAGE - 1) + 1;
            if (!ask([&](ph_error *err) { return paging->reserve(&backend, (void **)&p.at, p.room, err); })) break;
            if (p.room < PAGE) p.have = p.room;
            p.want.assign(p.room, 0);
            all.push_back(p);
            break;
        }
        case 1:
        case 2: { /* one grows, and is written where it is its own */
            if (all.empty()) break;
            pair &p = all[which];
            size_t to = draw((unsigned)p.room) + 1;
            if (!ask([&](ph_error *err) { return paging->extend(&backend, (void *const *)&p.at, &to, 1, err); })) break;
            if (to > p.have) p.have = to;
            check(p);
            for (int n = 0; n < 40 && p.have > p.shared; n++) {
                size_t at = p.shared + draw((unsigned)(p.have - p.shared));
                p.at[at] = p.want[at] = (char)draw(256);
            }
            break;
        }
        case 3: { /* another begins like it */
            if (all.empty() || all[which].have == 0) break;
            pair p = {};
            pair &of = all[which];
            p.room = of.room;
            size_t bytes = draw((unsigned)of.have) + 1, fixed = draw((unsigned)bytes + 1);
            if (!ask([&](ph_error *err) { return paging->reserve(&backend, (void **)&p.at, p.room, err); })) break;
            if (!ask([&](ph_error *err) {
                    return paging->share(&backend, (void *const *)&p.at, (void *const *)&of.at, &fixed, &bytes, 1, err);
                })) {
                if (!cuda_pages_free(&backend, p.at)) wrong("an array is not known");
                break;
            }
            p.have = p.room < PAGE ? p.room : bytes;
            p.shared = fixed;
            if (fixed > of.shared) of.shared = fixed;
            p.want.assign(p.room, 0);
            memcpy(p.want.data(), of.want.data(), bytes);
            check(p);
            all.push_back(p);
            break;
        }
        case 4: { /* one gives up its end */
            if (all.empty() || all[which].room < PAGE || all[which].have == 0) break;
            pair &p = all[which];
            size_t to = draw((unsigned)p.have + 1);
            paging->shrink(&backend, (void *const *)&p.at, &to, 1);
            /* what is left of its last page is there still, and not zero when it grows again: forget it */
            if (to < p.have) {
                size_t end = (to + PAGE - 1) / PAGE * PAGE;
                if (end > p.have) end = p.have;
                p.have = end;
                for (size_t b = end; b < p.room; b++) p.want[b] = 0;
                if (p.shared > end) p.shared = end;
            }
            break;
        }
        default: /* one goes */
            if (all.empty()) break;
            check(all[which]);
            if (!cuda_pages_free(&backend, all[which].at)) wrong("an array is not known");
            all.erase(all.begin() + which);
        }
        size_t used = 0;
        for (auto &h : handles) used += h.second > 0;
        if (paging->held(&backend) != used * PAGE) wrong("other pages are counted than are mapped");
    }
    for (pair &p : all) {
        check(p);
        if (!cuda_pages_free(&backend, p.at)) wrong("an array is not known");
    }
    if (!mapped.empty() || !ranges.empty() || paging->held(&backend)) wrong("something is left");
    return sound;
}

int main(int argc, char **argv) {
    file = memfd_create("pages", 0);
    if (file < 0 || ftruncate(file, (off_t)(MOST_PAGES + 2) * PAGE)) wrong("no memory");
    unsigned seed = argc > 1 ? (unsigned)atol(argv[1]) : (unsigned)time(nullptr);
    printf("seed %u\n", seed);
    random_state = seed;
    backend.state = &state;
    backend.alloc = alloc;
    state.device = 3;
    ph_error err = {};
    old_driver = true; /* that is no error: there are no pages */
    if (cuda_pages_known(3) || cuda_pages_open(&backend, &err) || backend.paging) wrong("pages without a driver that has them");
    old_driver = false;
    if (!cuda_pages_known(3) || cuda_pages_open(&backend, &err) || !backend.paging) wrong("no pages");

    for (int i = 0; i < 20; i++)
        if (!run(300)) wrong("refused, and nobody refused");
    int refused = 0;
    for (int i = 0; i < 200; i++) { /* each call that can be, somewhere */
        countdown = (long)draw(60);
        refused += !run(60);
        countdown = -1;
    }
    if (refused < 20) wrong("hardly a call was refused");
    /* Full: both sizes, and nothing has changed. */
    void *at[2] = {nullptr, nullptr};
    cuda_pages_drain(&backend);
    limit = 10;
    for (void *&p : at)
        if (backend.paging->reserve(&backend, &p, 20 * PAGE, &err)) wrong("no addresses");
    const size_t first[2] = {4 * PAGE, 2 * PAGE}, more[2] = {8 * PAGE, 3 * PAGE};
    if (backend.paging->extend(&backend, at, first, 2, &err)) wrong("there is room");
    if (backend.paging->extend(&backend, at, more, 2, &err) != PH_MEMORY || !strstr(err.text, "needs 0.0 MB more") ||
        backend.paging->held(&backend) != 6 * PAGE || handles.size() != 6)
        wrong("more than there is");
    limit = 11;
    if (backend.paging->extend(&backend, at, more, 2, &err)) wrong("there is room now");
    for (void *p : at)
        if (!cuda_pages_free(&backend, p)) wrong("an array is not known");
    if (cuda_pages_free(&backend, at[0])) wrong("an array is known that is gone");
    if (handles.size() != 11) wrong("pages are not kept for the next array");
    cuda_pages_close(&backend);
    if (!handles.empty()) wrong("pages are left");
    printf("all agree; %d of 200 runs had a call refused\n", refused);
    return 0;
}
