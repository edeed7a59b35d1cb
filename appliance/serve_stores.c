/* serve_stores.c - see serve_stores.h. */
#include "appliance/serve_stores.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { STORES = 8 };

struct stores {
    char *dir;
    pthread_mutex_t lock;
    pthread_cond_t back;
    store *idle[STORES];
    int n_idle, opened;
};

int stores_open(stores **out, const char *dir, ph_error *err) {
    stores *p = *out = calloc(1, sizeof *p);
    if (p) p->dir = strdup(dir);
    if (!p || !p->dir) {
        free(p);
        *out = NULL;
        return ph_fail(err, PH_MEMORY, "no memory for a store");
    }
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->back, NULL);
    store *first = NULL; /* what is wrong with the folder is said now, not by the first request */
    int code = stores_lend(p, &first, err);
    stores_back(p, first);
    if (code) {
        stores_close(p);
        *out = NULL;
    }
    return code;
}

void stores_close(stores *p) {
    if (!p) return;
    for (int i = 0; i < p->n_idle; i++) store_close(p->idle[i]);
    pthread_cond_destroy(&p->back);
    pthread_mutex_destroy(&p->lock);
    free(p->dir);
    free(p);
}

int stores_lend(stores *p, store **out, ph_error *err) {
    *out = NULL;
    pthread_mutex_lock(&p->lock);
    while (p->n_idle == 0 && p->opened == STORES) pthread_cond_wait(&p->back, &p->lock);
    if (p->n_idle)
        *out = p->idle[--p->n_idle];
    else
        p->opened++;
    pthread_mutex_unlock(&p->lock);
    if (*out) return PH_OK;
    int code = store_open(out, p->dir, err);
    if (!code) return PH_OK;
    pthread_mutex_lock(&p->lock);
    p->opened--;
    pthread_cond_signal(&p->back);
    pthread_mutex_unlock(&p->lock);
    return code;
}

void stores_back(stores *p, store *s) {
    if (!s) return;
    pthread_mutex_lock(&p->lock);
    p->idle[p->n_idle++] = s;
    pthread_cond_signal(&p->back);
    pthread_mutex_unlock(&p->lock);
}
