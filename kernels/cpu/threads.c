/* threads.c - the worker threads of the CPU backend.
 *
 * A decode step is some 150 operations of a few microseconds each, so a worker that has run out of work spins
 * for a moment before it sleeps, and the caller never waits for a worker that has not yet woken: items are
 * handed out one by one, and only workers that are inside the job are waited for.
 */
#include "kernels/cpu/cpu.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { SPIN_ROUNDS = 6000 }; /* some 100 to 200 microseconds */

struct cpu_pool {
    /* The job. Written by the caller while `open` is 0 and `inside` is 0. */
    cpu_task task;
    void *arg;
    int64_t n_item;
    _Alignas(64) _Atomic int64_t next;   /* next item to hand out */
    _Alignas(64) _Atomic int open;       /* a job may be entered */
    _Alignas(64) _Atomic int inside;     /* workers between entering and leaving */
    _Alignas(64) _Atomic unsigned round; /* counts jobs; workers watch it */
    _Atomic int sleeping;
    _Atomic int stop;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    int n_worker;
    struct worker {
        cpu_pool *pool;
        pthread_t id;
        int number; /* 1 .. n_worker; the caller is 0 */
    } * worker;
};

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void take_items(cpu_pool *p, int thread) {
    for (;;) {
        int64_t i = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
        if (i >= p->n_item) return;
        p->task(p->arg, i, thread);
    }
}

/* Waits until the round differs from `seen` or the pool stops. */
static void await_round(cpu_pool *p, unsigned seen) {
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        if (atomic_load(&p->round) != seen || atomic_load(&p->stop)) return;
        relax();
    }
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->sleeping, 1);
    while (atomic_load(&p->round) == seen && !atomic_load(&p->stop)) pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->sleeping, 1);
    pthread_mutex_unlock(&p->lock);
}

static void *work(void *arg) {
    struct worker *self = (struct worker *)arg;
    cpu_pool *p = self->pool;
    unsigned seen = 0;
    for (;;) {
        await_round(p, seen);
        if (atomic_load(&p->stop)) return NULL;
        seen = atomic_load(&p->round);
        /* Enter first, look second: the caller closes first and counts second, so one of the two sees the
         * other. */
        atomic_fetch_add(&p->inside, 1);
        if (atomic_load(&p->open)) take_items(p, self->number);
        atomic_fetch_sub(&p->inside, 1);
    }
}

void cpu_run(const cpu_state *s, cpu_task task, void *arg, int64_t n_item, bool parallel) {
    cpu_pool *p = s->pool;
    if (!parallel || p->n_worker == 0 || n_item < 2) {
        for (int64_t i = 0; i < n_item; i++) task(arg, i, 0);
        return;
    }
    p->task = task;
    p->arg = arg;
    p->n_item = n_item;
    atomic_store(&p->next, 0);
    atomic_store(&p->open, 1);
    atomic_fetch_add(&p->round, 1);
    if (atomic_load(&p->sleeping)) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->lock);
    }
    take_items(p, 0);
    atomic_store(&p->open, 0);
    for (int i = 0; atomic_load(&p->inside); i++) {
        if (i < SPIN_ROUNDS)
            relax();
        else
            sched_yield(); /* a worker has lost its processor in the middle of an item */
    }
}

int cpu_pool_open(cpu_pool **out, int n_thread, ph_error *err) {
    *out = NULL;
    cpu_pool *p = aligned_alloc(64, (sizeof *p + 63) / 64 * 64);
    struct worker *workers = calloc((size_t)n_thread, sizeof *workers);
    if (!p || !workers) {
        free(p);
        free(workers);
        return ph_fail(err, PH_MEMORY, "No memory for a pool of %d threads.", n_thread);
    }
    memset(p, 0, sizeof *p);
    p->worker = workers;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);

    /* Signals belong to the caller's threads: a worker that took one would delay an operation. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = 0;
    for (int i = 1; i < n_thread && !rc; i++) {
        struct worker *w = &workers[i - 1];
        w->pool = p;
        w->number = i;
        rc = pthread_create(&w->id, NULL, work, w);
        if (!rc) p->n_worker++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc) {
        int failed = p->n_worker + 1;
        cpu_pool_close(p);
        return ph_fail(err, PH_FAIL, "Thread %d of %d could not be started: %s.", failed, n_thread,
                       strerror(rc));
    }
    *out = p;
    return PH_OK;
}

void cpu_pool_close(cpu_pool *p) {
    if (!p) return;
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->stop, 1);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->n_worker; i++) pthread_join(p->worker[i].id, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p->worker);
    free(p);
}
