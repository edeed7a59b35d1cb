/* fake_nccl.c - stands in for libnccl.so.2 where there is no GPU: the calls that kernels/cuda/group.cu makes, carried out at
 * once over host memory, streams ignored. Built as a library of that name, so that finding it is tested too.
 * $FAKE_NCCL_FAILS=N: the Nth call of rank 1 fails. Declarations are group.cu's, from NCCL's interface.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 16, SUCCESS = 0, SYSTEM_ERROR = 2 };

typedef struct meeting {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int size, here, aborted;
    unsigned round;
    const void *told[MOST];
    const void *sent[MOST][MOST]; /* [from][to] */
} meeting;

typedef struct comm {
    meeting *m;
    int rank, calls;
} comm;

int ncclGetVersion(int *version);
int ncclCommInitAll(comm **out, int n, const int *device);
int ncclCommDestroy(comm *c);
int ncclCommAbort(comm *c);
int ncclCommGetAsyncError(comm *c, int *error);
int ncclAllGather(const void *mine, void *all, size_t count, int type, comm *c, void *stream);
int ncclBroadcast(const void *from, void *to, size_t count, int type, int root, comm *c, void *stream);
int ncclSend(const void *p, size_t count, int type, int peer, comm *c, void *stream);
int ncclRecv(void *p, size_t count, int type, int peer, comm *c, void *stream);
int ncclGroupStart(void);
int ncclGroupEnd(void);
const char *ncclGetErrorString(int error);

int ncclGetVersion(int *version) {
    *version = 22105;
    return SUCCESS;
}

const char *ncclGetErrorString(int error) {
    return error == SYSTEM_ERROR ? "unhandled system error" : "no error";
}

int ncclCommInitAll(comm **out, int n, const int *device) {
    meeting *m = calloc(1, sizeof *m);
    if (!m || !device) return SYSTEM_ERROR;
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->changed, NULL);
    m->size = n;
    for (int r = 0; r < n; r++) {
        out[r] = calloc(1, sizeof **out);
        if (!out[r]) return SYSTEM_ERROR;
        *out[r] = (comm){m, r, 0};
    }
    return SUCCESS;
}

/* What the ranks share stays: an abort may come while others are in a call. A test's process is short. */
int ncclCommDestroy(comm *c) {
    free(c);
    return SUCCESS;
}

int ncclCommAbort(comm *c) {
    pthread_mutex_lock(&c->m->lock);
    c->m->aborted = 1;
    pthread_cond_broadcast(&c->m->changed);
    pthread_mutex_unlock(&c->m->lock);
    return SUCCESS;
}

int ncclCommGetAsyncError(comm *c, int *error) {
    *error = SUCCESS;
    return c ? SUCCESS : SYSTEM_ERROR;
}

static int meet(meeting *m) {
    pthread_mutex_lock(&m->lock);
    unsigned round = m->round;
    if (++m->here == m->size) {
        m->here = 0;
        m->round++;
        pthread_cond_broadcast(&m->changed);
    }
    while (m->round == round && !m->aborted) pthread_cond_wait(&m->changed, &m->lock);
    int aborted = m->aborted;
    pthread_mutex_unlock(&m->lock);
    return aborted ? SYSTEM_ERROR : SUCCESS;
}

static int fails(comm *c) {
    const char *at = getenv("FAKE_NCCL_FAILS");
    return at && c->rank == 1 && ++c->calls == atoi(at);
}

int ncclAllGather(const void *mine, void *all, size_t count, int type, comm *c, void *stream) {
    meeting *m = c->m;
    if (type || fails(c)) return SYSTEM_ERROR;
    m->told[c->rank] = mine;
    if (meet(m)) return SYSTEM_ERROR;
    for (int r = 0; r < m->size; r++)
        if ((char *)all + (size_t)r * count != m->told[r]) memcpy((char *)all + (size_t)r * count, m->told[r], count);
    return meet(m);
}

int ncclBroadcast(const void *from, void *to, size_t count, int type, int root, comm *c, void *stream) {
    meeting *m = c->m;
    if (type || fails(c)) return SYSTEM_ERROR;
    m->told[c->rank] = from;
    if (meet(m)) return SYSTEM_ERROR;
    if (to != m->told[root]) memcpy(to, m->told[root], count);
    return meet(m);
}

/* A group's calls are remembered and carried out at its end. */
static _Thread_local struct {
    bool open;
    comm *c;
    struct {
        void *to;
        size_t count;
    } wanted[MOST];
} group;

int ncclGroupStart(void) {
    memset(&group, 0, sizeof group);
    group.open = true;
    return SUCCESS;
}

int ncclSend(const void *p, size_t count, int type, int peer, comm *c, void *stream) {
    if (type || !group.open || fails(c)) return SYSTEM_ERROR;
    group.c = c;
    c->m->sent[c->rank][peer] = p;
    return SUCCESS;
}

int ncclRecv(void *p, size_t count, int type, int peer, comm *c, void *stream) {
    if (type || !group.open) return SYSTEM_ERROR;
    group.wanted[peer].to = p;
    group.wanted[peer].count = count;
    return SUCCESS;
}

int ncclGroupEnd(void) {
    if (!group.open || !group.c) return SYSTEM_ERROR;
    meeting *m = group.c->m;
    group.open = false;
    if (meet(m)) return SYSTEM_ERROR;
    for (int r = 0; r < m->size; r++)
        if (group.wanted[r].to) memcpy(group.wanted[r].to, m->sent[r][group.c->rank], group.wanted[r].count);
    return meet(m);
}
