/* group.h - several backends of one process that compute one model together: what they tell each other.
 *
 * Each rank (one backend, one thread that calls it) holds its end of the group. An exchange is asked for by
 * every rank, in the same order and with the same sizes, and is ordered with the backend's operations: it
 * begins when those asked for before are done and is done before those asked for after. Two fillings: threads
 * over host memory, for CPU backends, and NCCL, for GPUs (kernels/cuda/group.cu).
 *
 * Like operations, exchanges cannot fail by contract; a device's failure is kept and told by `status`.
 */
#ifndef PHAROS_GROUP_H
#define PHAROS_GROUP_H

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { KERN_MAX_RANKS = 16 };

typedef struct kern_group kern_group;

struct kern_group {
    const char *name; /* "threads" or "NCCL" */
    int rank, size;
    bool recordable; /* exchanges may be part of a step that a backend keeps (kern.step_begin) */
    void *state;
    /* all[r * bytes ...] = rank r's `mine`, on every rank; `mine` may be its own place in `all`. */
    void (*all_gather)(kern_group *g, const void *mine, void *all, size_t bytes);
    /* in[r * bytes ...] = what rank r has at out[rank * bytes ...]. */
    void (*exchange)(kern_group *g, const void *out, void *in, size_t bytes);
    /* p[bytes] = rank 0's. */
    void (*broadcast)(kern_group *g, void *p, size_t bytes);
    /* kern_group_sum, with m of 0 and n a multiple of 4 where there are many numbers, and
     * kern_group_sum_also, at once; part and y begin on 16 bytes. NULL where they are made of gathers,
     * exchanges and sums. */
    void (*sum)(kern_group *g, const float *part, float *y, int64_t n, float *also, int64_t m);
    int (*status)(kern_group *g, ph_error *err);
    void (*close)(kern_group *g);
};

/* out[n] filled, out[r] for the thread that calls k[r]; 1 < n <= KERN_MAX_RANKS, backends of one kind.
 * PH_UNSUPPORTED with the reason where GPUs have nothing to talk through. */
int kern_group_open(kern_group **out, kern *const *k, int n, ph_error *err);
/* All n at once, after the last exchange; before the backends are closed. */
void kern_group_close(kern_group **g, int n);

/* y[n] += the ranks' parts, added as kern_sum does, the same bits on every rank. The order is the same
 * whatever n is, so that an element does not depend on its company (NCCL's own sum would: its order depends
 * on the place in the array). `part` has room for kern_group_room(g->size, n) numbers and is given up, `work`
 * for kern_group_work(...). */
void kern_group_sum(kern_group *g, kern *k, float *part, float *y, int64_t n, float *work);
/* The same of few numbers, and also[m] = the sum of what stands behind them, part[n .. n + m - 1]: one
 * exchange for both. n + m is at most KERN_GROUP_SMALL, and part + n begins on 16 bytes. */
void kern_group_sum_also(kern_group *g, kern *k, const float *part, float *y, int64_t n, float *also,
                         int64_t m, float *work);
int64_t kern_group_room(int size, int64_t n);
int64_t kern_group_work(int size, int64_t most); /* for sums of up to `most` numbers */

/* One sum sends each number twice (a rank sums a slice of it, then gives the result to all), or, up to this
 * size, to everyone at once: for few numbers it is the number of exchanges that counts. */
enum { KERN_GROUP_SMALL = 65536 };

/* Backends for one model, at least one: out[*n] filled, of KERN_MAX_RANKS. "cuda:0,1" are the GPUs of these
 * numbers, "cuda" with `ranks` above 1 the first so many, a CPU backend with `ranks` so many of them that
 * share the threads. `ranks` 0 = as the name says. PH_USAGE where the two disagree; otherwise as kern_open.
 */
int kern_open_ranks(kern **out, int *n, const char *name, int ranks, int n_thread, ph_error *err);

/* What a machine has for GPUs to talk through: *version as 10000 * major + 100 * minor + patch.
 * PH_UNSUPPORTED says why there is nothing. */
int kern_nccl_find(int *version, ph_error *err);

/* NCCL's filling; kern_group_open calls it. */
int kern_group_open_cuda(kern_group **out, kern *const *k, int n, ph_error *err);

#ifdef __cplusplus
}
#endif

#endif
