/* team.h - one thread for each rank. Private to engine/.
 *
 * The caller is rank 0; the others sleep until there is a job. Threads are needed because an exchange between ranks
 * returns only when all of them have come to it (on a GPU: because a launch takes a processor's time).
 */
#ifndef PHAROS_TEAM_H
#define PHAROS_TEAM_H

#include "kernels/error.h"

typedef struct team team;

int team_open(team **out, int n, ph_error *err);
/* Calls job(arg, rank) for every rank at the same time, and returns when all are done. */
void team_run(team *t, void (*job)(void *arg, int rank), void *arg);
void team_close(team *t); /* NULL is allowed */

#endif
