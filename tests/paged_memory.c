/* paged_memory.c - pages are pieces of one file in memory, mapped wherever they are wanted (paged_memory.h).
 */
#include "tests/paged_memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGES = 1 << 16 };

typedef struct array {
    char *at;
    size_t room, n; /* pages that there are addresses for, and that are there */
    int *page;      /* [room]; NULL: smaller than a page */
    struct array *next;
} array;

static int memory = -1, users[PAGES];
static size_t limit, held;
static array *first;
static void (*free_plain)(kern *k, void *p);

static array *find(const void *p) {
    array *a = first;
    while (a && a->at != p) a = a->next;
    return a;
}

static size_t pages_for(size_t bytes) {
    return (bytes + PAGED_PAGE - 1) / PAGED_PAGE;
}

static void map(array *a, int page, int how) {
    void *at = mmap(a->at + a->n * PAGED_PAGE, PAGED_PAGE, how, MAP_SHARED | MAP_FIXED, memory,
                    (off_t)page * PAGED_PAGE);
    if (at == MAP_FAILED) abort();
    held += users[page]++ == 0;
    a->page[a->n++] = page;
}

static void map_new(array *a, size_t upto) {
    for (int page = 0; a->n < upto; page++) {
        while (users[page]) page++;
        map(a, page, PROT_READ | PROT_WRITE);
        memset(a->at + (a->n - 1) * PAGED_PAGE, 0, PAGED_PAGE);
    }
}

static void drop(array *a, size_t keep) {
    while (a->page && a->n > keep) {
        if (mmap(a->at + --a->n * PAGED_PAGE, PAGED_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                 -1, 0) == MAP_FAILED)
            abort();
        held -= --users[a->page[a->n]] == 0;
    }
}

static int room_for(size_t pages, ph_error *err) {
    if (held + pages <= limit) return PH_OK;
    return ph_fail(err, PH_MEMORY, "no room: %zu pages are needed, and %zu of %zu are free", pages,
                   limit - held, limit);
}

static int reserve(kern *k, void **out, size_t bytes, ph_error *err) {
    array *a = calloc(1, sizeof *a);
    *out = NULL;
    if (!a) return ph_fail(err, PH_MEMORY, "no memory");
    if (bytes < PAGED_PAGE) {
        int code = k->alloc(k, out, bytes, err);
        a->at = *out;
        a->next = first;
        first = a;
        return code;
    }
    a->room = pages_for(bytes);
    a->page = calloc(a->room, sizeof *a->page);
    a->at = mmap(NULL, a->room * PAGED_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!a->page || a->at == MAP_FAILED) abort();
    a->next = first;
    first = a;
    *out = a->at;
    return PH_OK;
}

static int extend(kern *k, void *const *at, const size_t *bytes, int n, ph_error *err) {
    size_t more = 0;
    for (int i = 0; i < n; i++) {
        const array *a = find(at[i]);
        if (!a || (a->page && pages_for(bytes[i]) > a->room)) abort();
        if (a->page && pages_for(bytes[i]) > a->n) more += pages_for(bytes[i]) - a->n;
    }
    int code = room_for(more, err);
    for (int i = 0; i < n && !code; i++)
        if (find(at[i])->page) map_new(find(at[i]), pages_for(bytes[i]));
    return code;
}

static int share(kern *k, void *const *to, void *const *from, const size_t *fixed, const size_t *bytes, int n,
                 ph_error *err) {
    size_t more = 0;
    for (int i = 0; i < n; i++) {
        const array *a = find(to[i]), *b = find(from[i]);
        if (!a || !b || a->n || a->room != b->room || fixed[i] > bytes[i] ||
            (b->page && pages_for(bytes[i]) > b->n))
            abort();
        if (a->page) more += pages_for(bytes[i]) - fixed[i] / PAGED_PAGE;
    }
    int code = room_for(more, err);
    for (int i = 0; i < n && !code; i++) {
        array *a = find(to[i]);
        const array *b = find(from[i]);
        size_t whole = a->page ? fixed[i] / PAGED_PAGE : 0;
        for (size_t p = 0; p < whole; p++) map(a, b->page[p], PROT_READ);
        if (a->page) map_new(a, pages_for(bytes[i]));
        memcpy(a->at + whole * PAGED_PAGE, b->at + whole * PAGED_PAGE, bytes[i] - whole * PAGED_PAGE);
    }
    return code;
}

static void shrink(kern *k, void *const *at, const size_t *bytes, int n) {
    for (int i = 0; i < n; i++) drop(find(at[i]), pages_for(bytes[i]));
}

static size_t held_bytes(const kern *k) {
    return held * PAGED_PAGE;
}

static void free_any(kern *k, void *p) {
    array *a = p ? find(p) : NULL;
    if (!a || !a->page) free_plain(k, p);
    if (!a) return;
    drop(a, 0);
    if (a->page) munmap(a->at, a->room * PAGED_PAGE);
    array **link = &first;
    while (*link != a) link = &(*link)->next;
    *link = a->next;
    free(a->page);
    free(a);
}

static const kern_paging paging = {PAGED_PAGE, reserve, extend, share, shrink, held_bytes};

int paged_begin(kern *k, size_t most) {
    memory = memfd_create("pages", MFD_CLOEXEC);
    if (memory < 0 || ftruncate(memory, (off_t)PAGES * PAGED_PAGE)) return -1;
    limit = most < PAGES ? most : PAGES - 1;
    free_plain = k->free;
    k->free = free_any;
    k->paging = &paging;
    return 0;
}

void paged_end(kern *k) {
    k->free = free_plain;
    k->paging = NULL;
    close(memory);
    memory = -1;
}

void paged_limit(size_t most) {
    limit = most;
}
