/* time_sums.c - what a sum over GPUs takes: of one row as writing a token has it, within a step that is kept,
 * and of a prefill step's rows.
 *
 *     time_sums BACKEND HIDDEN ROWS...       for instance: time_sums cuda:0,1 7168 1 8 512 4096
 */
#include "kernels/group.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { CHAIN = 100, BEST_OF = 7 };

typedef struct job {
    kern *k[KERN_MAX_RANKS];
    kern_group *g[KERN_MAX_RANKS];
    pthread_barrier_t all;
    int ranks, hidden, n_rows, *rows, failed;
} job;

typedef struct seat {
    job *j;
    int rank;
} seat;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Seconds of `times` sums one after the other; few rows as a step that is kept. */
static double run(job *j, int rank, int rows, int times, bool direct, float *part, float *y, float *work) {
    kern *k = j->k[rank];
    kern_group *g = j->g[rank], gathers = *g;
    int64_t n = (int64_t)rows * j->hidden;
    int key[] = {rows, direct};
    if (!direct) gathers.sum = NULL;
    pthread_barrier_wait(&j->all);
    double start = now();
    bool kept = n <= KERN_GROUP_SMALL && g->recordable && k->step_begin;
    if (!kept || k->step_begin(k, key, sizeof key, 0)) {
        for (int i = 0; i < times; i++) kern_group_sum(direct ? g : &gathers, k, part, y, n, work);
        if (kept && !k->step_end(k)) j->failed = 1;
    }
    k->wait(k);
    return now() - start;
}

static void *measure(void *arg) {
    job *j = ((seat *)arg)->j;
    int rank = ((seat *)arg)->rank;
    kern *k = j->k[rank];
    float *part = NULL, *y = NULL, *work = NULL;
    int64_t most = 0;
    for (int i = 0; i < j->n_rows; i++) most = j->rows[i] > most ? j->rows[i] : most;
    most *= j->hidden;
    if (k->alloc(k, (void **)&part, (size_t)kern_group_room(j->ranks, most) * 4, NULL) ||
        k->alloc(k, (void **)&work, (size_t)kern_group_work(j->ranks, most) * 4, NULL) ||
        k->alloc(k, (void **)&y, (size_t)most * 4, NULL))
        j->failed = 1;
    pthread_barrier_wait(&j->all);
    for (int i = 0; i < j->n_rows && !j->failed; i++) {
        bool few = (int64_t)j->rows[i] * j->hidden <= KERN_GROUP_SMALL;
        for (int direct = j->g[rank]->sum ? 1 : 0; direct >= 0; direct--) {
            int times = few ? CHAIN : 10;
            double best = 1e9;
            for (int n = 0; n < BEST_OF; n++) {
                double t = run(j, rank, j->rows[i], times, direct, part, y, work);
                if (t < best) best = t;
            }
            if (rank == 0)
                printf("%5d rows of %d, %-28s %8.1f us each\n", j->rows[i], j->hidden,
                       direct ? "through each other's memory:" : "by NCCL's gathers:", best / times * 1e6);
            fflush(stdout);
        }
    }
    pthread_barrier_wait(&j->all);
    if (k->step_forget) k->step_forget(k);
    k->free(k, part), k->free(k, y), k->free(k, work);
    return NULL;
}

int main(int argc, char **argv) {
    static job j;
    ph_error err = {0};
    if (argc < 4 || argc > 20 || atoi(argv[2]) < 1) {
        fprintf(stderr, "usage: time_sums BACKEND HIDDEN ROWS...\n");
        return PH_USAGE;
    }
    int rows[20], code = kern_open_ranks(j.k, &j.ranks, argv[1], 0, 0, &err);
    j.hidden = atoi(argv[2]), j.rows = rows, j.n_rows = argc - 3;
    for (int i = 0; i < j.n_rows; i++) rows[i] = atoi(argv[3 + i]) > 0 ? atoi(argv[3 + i]) : 1;
    if (!code) code = kern_group_open(j.g, j.k, j.ranks, &err);
    if (code) {
        fprintf(stderr, "time_sums: %s\n", err.text);
        return code;
    }
    pthread_t thread[KERN_MAX_RANKS];
    seat seats[KERN_MAX_RANKS];
    pthread_barrier_init(&j.all, NULL, (unsigned)j.ranks);
    for (int r = 0; r < j.ranks; r++) {
        seats[r] = (seat){&j, r};
        if (pthread_create(&thread[r], NULL, measure, &seats[r])) return PH_MEMORY;
    }
    for (int r = 0; r < j.ranks; r++) pthread_join(thread[r], NULL);
    for (int r = 0; r < j.ranks && !code; r++) code = j.g[r]->status(j.g[r], &err);
    for (int r = 0; r < j.ranks && !code; r++) code = j.k[r]->status(j.k[r], &err);
    kern_group_close(j.g, j.ranks);
    for (int r = 0; r < j.ranks; r++) j.k[r]->close(j.k[r]);
    if (code || j.failed)
        fprintf(stderr, "time_sums: %s\n", code ? err.text : "no memory, or a step could not be kept");
    return code ? code : j.failed;
}
