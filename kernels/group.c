/* group.c - sums over ranks, and the filling for threads over host memory (group.h). */
#include "kernels/group.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Slices begin on whole cache lines. */
enum { SLICE_UNIT = 64 };

static int64_t slice_of(int size, int64_t n) {
    int64_t each = (n + size - 1) / size;
    return (each + SLICE_UNIT - 1) / SLICE_UNIT * SLICE_UNIT;
}

int64_t kern_group_room(int size, int64_t n) {
    return n <= KERN_GROUP_SMALL ? n : size * slice_of(size, n);
}

int64_t kern_group_work(int size, int64_t most) {
    int64_t small = size * (most < KERN_GROUP_SMALL ? most : KERN_GROUP_SMALL),
            large = kern_group_room(size, most);
    return small > large ? small : large;
}

void kern_group_sum_also(kern_group *g, kern *k, const float *part, float *y, int64_t n, float *also,
                         int64_t m, float *work) {
    int64_t all = n + m;
    if (g->sum) {
        g->sum(g, part, y, n, also, m);
        return;
    }
    g->all_gather(g, part, work, (size_t)all * sizeof *part);
    k->sum(k,
           &(kern_sum){.parts = work, .y = y, .stride = all, .n = n, .n_part = g->size, .accumulate = true});
    if (m) k->sum(k, &(kern_sum){.parts = work + n, .y = also, .stride = all, .n = m, .n_part = g->size});
}

void kern_group_sum(kern_group *g, kern *k, float *part, float *y, int64_t n, float *work) {
    if (n <= KERN_GROUP_SMALL) {
        kern_group_sum_also(g, k, part, y, n, NULL, 0, work);
        return;
    }
    if (g->sum && n % 4 == 0) {
        g->sum(g, part, y, n, NULL, 0);
        return;
    }
    int64_t slice = slice_of(g->size, n);
    size_t bytes = (size_t)slice * sizeof *part;
    float *mine = part + g->rank * slice;
    g->exchange(g, part, work, bytes);
    k->sum(k, &(kern_sum){.parts = work, .y = mine, .stride = slice, .n = slice, .n_part = g->size});
    g->all_gather(g, mine, part, bytes);
    k->sum(k, &(kern_sum){.parts = part, .y = y, .stride = n, .n = n, .n_part = 1, .accumulate = true});
}

/* ---- threads over host memory ---- */

typedef struct meeting {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int size, here; /* ranks in all; that have come to the present meeting */
    int open;       /* ends that are not closed */
    unsigned round;
    const void *told[KERN_MAX_RANKS]; /* what each rank shows the others */
} meeting;

/* Until every rank is here. */
static void meet(meeting *m) {
    pthread_mutex_lock(&m->lock);
    unsigned round = m->round;
    if (++m->here == m->size) {
        m->here = 0;
        m->round++;
        pthread_cond_broadcast(&m->changed);
    }
    while (m->round == round) pthread_cond_wait(&m->changed, &m->lock);
    pthread_mutex_unlock(&m->lock);
}

/* Between tell() and leave() every rank's `told` may be read. */
static meeting *tell(kern_group *g, const void *p) {
    meeting *m = g->state;
    m->told[g->rank] = p;
    meet(m);
    return m;
}

static void leave(meeting *m) {
    meet(m);
}

static void host_all_gather(kern_group *g, const void *mine, void *all, size_t bytes) {
    meeting *m = tell(g, mine);
    for (int r = 0; r < g->size; r++) {
        char *to = (char *)all + (size_t)r * bytes;
        if (bytes && to != m->told[r]) memcpy(to, m->told[r], bytes);
    }
    leave(m);
}

static void host_exchange(kern_group *g, const void *out, void *in, size_t bytes) {
    meeting *m = tell(g, out);
    for (int r = 0; r < g->size && bytes; r++)
        memcpy((char *)in + (size_t)r * bytes, (const char *)m->told[r] + (size_t)g->rank * bytes, bytes);
    leave(m);
}

static void host_broadcast(kern_group *g, void *p, size_t bytes) {
    meeting *m = tell(g, p);
    if (g->rank > 0 && bytes) memcpy(p, m->told[0], bytes);
    leave(m);
}

static int host_status(kern_group *g, ph_error *err) {
    return PH_OK;
}

/* The last rank takes the meeting with it. */
static void host_close(kern_group *g) {
    meeting *m = g->state;
    if (--m->open == 0) {
        pthread_cond_destroy(&m->changed);
        pthread_mutex_destroy(&m->lock);
        free(m);
    }
    free(g);
}

static int open_host(kern_group **out, int n, ph_error *err) {
    meeting *m = calloc(1, sizeof *m);
    bool made = m != NULL;
    for (int r = 0; r < n; r++) {
        out[r] = calloc(1, sizeof **out);
        made &= out[r] != NULL;
    }
    if (!made) {
        for (int r = 0; r < n; r++) free(out[r]);
        memset(out, 0, (size_t)n * sizeof *out);
        free(m);
        return ph_fail(err, PH_MEMORY, "No memory for a group of %d ranks.", n);
    }
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->changed, NULL);
    m->size = m->open = n;
    for (int r = 0; r < n; r++)
        *out[r] = (kern_group){.name = "threads",
                               .rank = r,
                               .size = n,
                               .state = m,
                               .all_gather = host_all_gather,
                               .exchange = host_exchange,
                               .broadcast = host_broadcast,
                               .status = host_status,
                               .close = host_close};
    return PH_OK;
}

/* ---- */

int kern_group_open(kern_group **out, kern *const *k, int n, ph_error *err) {
    memset(out, 0, (size_t)n * sizeof *out);
    if (n < 2 || n > KERN_MAX_RANKS)
        return ph_fail(err, PH_USAGE, "%d ranks are not within 2 and %d", n, KERN_MAX_RANKS);
    for (int r = 1; r < n; r++)
        if (strcmp(k[r]->name, k[0]->name) || strcmp(k[r]->cache_layout, k[0]->cache_layout))
            return ph_fail(err, PH_UNSUPPORTED,
                           "ranks 0 and %d are of different kinds (%s %s, %s %s): their results would differ",
                           r, k[0]->name, k[0]->cache_layout, k[r]->name, k[r]->cache_layout);
    return k[0]->on_device ? kern_group_open_cuda(out, k, n, err) : open_host(out, n, err);
}

void kern_group_close(kern_group **g, int n) {
    for (int r = 0; r < n; r++)
        if (g[r]) g[r]->close(g[r]);
    memset(g, 0, (size_t)n * sizeof *g);
}
