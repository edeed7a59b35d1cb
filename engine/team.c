/* team.c - threads that wait for jobs (team.h). */
#include "engine/team.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef struct member {
    team *team;
    pthread_t thread;
    int rank;
} member;

struct team {
    pthread_mutex_t lock;
    pthread_cond_t begin, done;
    void (*job)(void *arg, int rank);
    void *arg;
    unsigned round; /* counts jobs */
    int busy, n;    /* members at work; threads that were started */
    bool stop;
    member *members; /* ranks 1 .. n */
};

static void *serve(void *arg) {
    member *m = arg;
    team *t = m->team;
    unsigned seen = 0;
    pthread_mutex_lock(&t->lock);
    for (;;) {
        while (t->round == seen && !t->stop) pthread_cond_wait(&t->begin, &t->lock);
        if (t->stop) break;
        seen = t->round;
        pthread_mutex_unlock(&t->lock);
        t->job(t->arg, m->rank);
        pthread_mutex_lock(&t->lock);
        if (--t->busy == 0) pthread_cond_signal(&t->done);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

void team_run(team *t, void (*job)(void *arg, int rank), void *arg) {
    pthread_mutex_lock(&t->lock);
    t->job = job;
    t->arg = arg;
    t->busy = t->n;
    t->round++;
    pthread_cond_broadcast(&t->begin);
    pthread_mutex_unlock(&t->lock);
    job(arg, 0);
    pthread_mutex_lock(&t->lock);
    while (t->busy) pthread_cond_wait(&t->done, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

int team_open(team **out, int n, ph_error *err) {
    *out = NULL;
    team *t = calloc(1, sizeof *t);
    member *members = calloc((size_t)n, sizeof *members);
    if (!t || !members) {
        free(t);
        free(members);
        return ph_fail(err, PH_MEMORY, "no memory for a team of %d threads", n);
    }
    t->members = members;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->begin, NULL);
    pthread_cond_init(&t->done, NULL);
    sigset_t all, before; /* signals belong to the caller's threads */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = 0;
    for (int i = 1; i < n && !failed; i++) {
        member *m = &members[i - 1];
        *m = (member){.team = t, .rank = i};
        failed = pthread_create(&m->thread, NULL, serve, m);
        if (!failed) t->n++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        team_close(t);
        return ph_fail(err, PH_FAIL, "a thread of %d could not be started: %s", n, strerror(failed));
    }
    *out = t;
    return PH_OK;
}

void team_close(team *t) {
    if (!t) return;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_broadcast(&t->begin);
    pthread_mutex_unlock(&t->lock);
    for (int i = 0; i < t->n; i++) pthread_join(t->members[i].thread, NULL);
    pthread_cond_destroy(&t->done);
    pthread_cond_destroy(&t->begin);
    pthread_mutex_destroy(&t->lock);
    free(t->members);
    free(t);
}
