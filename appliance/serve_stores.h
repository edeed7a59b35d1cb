/* serve_stores.h - opened stores, lent to one thread at a time: opening one for each request would sweep the
 * folder each time. */
#ifndef PHAROS_SERVE_STORES_H
#define PHAROS_SERVE_STORES_H

#include "store/store.h"

typedef struct stores stores;

int stores_open(stores **out, const char *dir, ph_error *err);
void stores_close(stores *p); /* everything lent is back; NULL is fine */

/* Waits while all are lent. */
int stores_lend(stores *p, store **out, ph_error *err);
void stores_back(stores *p, store *s); /* NULL is fine */

#endif
