/* group.cu - ranks on several GPUs of one host: NCCL, loaded when it is asked for (kernels/group.h).
 *
 * Nothing of NCCL is needed to build: the few declarations below are its stable binary interface (nccl.h of 2.7 and
 * later). Exchanges go into the stream of the rank's backend, so that they are ordered with its operations. NCCL only
 * carries numbers: the sums are kern_group_sum's, whose order does not depend on an array's length. Sums go
 * without it where the GPUs reach each other's memory (direct.cu).
 */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/direct.h"

#include "kernels/group.h"

#include <dlfcn.h>
#include <pthread.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

typedef void *nccl_comm;
enum { NCCL_SUCCESS = 0, NCCL_IN_PROGRESS = 7, NCCL_INT8 = 0 };
enum { NCCL_RECORDABLE = 21300 }; /* the first that lets one communicator be used in CUDA graphs and beside them */
enum { NCCL_NEW_NUMBERS = 10000 }; /* versions below it are 1000 * major + 100 * minor + patch, before 2.9 */

typedef struct nccl_library {
    void *handle;
    int version; /* 10000 * major + 100 * minor + patch */
    int (*get_version)(int *version);
    int (*comm_init_all)(nccl_comm *comm, int n, const int *device);
    int (*comm_destroy)(nccl_comm comm);
    int (*comm_abort)(nccl_comm comm);
    int (*async_error)(nccl_comm comm, int *error);
    int (*all_gather)(const void *mine, void *all, size_t count, int type, nccl_comm comm, cudaStream_t stream);
    int (*broadcast)(const void *from, void *to, size_t count, int type, int root, nccl_comm comm, cudaStream_t stream);
    int (*send)(const void *p, size_t count, int type, int peer, nccl_comm comm, cudaStream_t stream);
    int (*receive)(void *p, size_t count, int type, int peer, nccl_comm comm, cudaStream_t stream);
    int (*group_start)(void);
    int (*group_end)(void);
    const char *(*error_text)(int error);
} nccl_library;

/* Loaded once and kept: unloading a library with threads of its own is asking for trouble. */
static nccl_library library;
static char load_error[256];
static pthread_once_t load_once = PTHREAD_ONCE_INIT;

static void load(void) {
    void *handle = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        const char *why = dlerror();
        snprintf(load_error, sizeof load_error, "%s", why ? why : "libnccl.so.2 cannot be loaded");
        return;
    }
    nccl_library l = {};
    l.handle = handle;
    const struct {
        const char *name;
        void **to;
    } functions[] = {
        {"ncclGetVersion", reinterpret_cast<void **>(&l.get_version)},
        {"ncclCommInitAll", reinterpret_cast<void **>(&l.comm_init_all)},
        {"ncclCommDestroy", reinterpret_cast<void **>(&l.comm_destroy)},
        {"ncclCommAbort", reinterpret_cast<void **>(&l.comm_abort)},
        {"ncclCommGetAsyncError", reinterpret_cast<void **>(&l.async_error)},
        {"ncclAllGather", reinterpret_cast<void **>(&l.all_gather)},
        {"ncclBroadcast", reinterpret_cast<void **>(&l.broadcast)},
        {"ncclSend", reinterpret_cast<void **>(&l.send)},
        {"ncclRecv", reinterpret_cast<void **>(&l.receive)},
        {"ncclGroupStart", reinterpret_cast<void **>(&l.group_start)},
        {"ncclGroupEnd", reinterpret_cast<void **>(&l.group_end)},
        {"ncclGetErrorString", reinterpret_cast<void **>(&l.error_text)},
    };
    for (const auto &f : functions) {
        *f.to = dlsym(handle, f.name);
        if (*f.to) continue;
        snprintf(load_error, sizeof load_error, "libnccl.so.2 has no %s: 2.7 is the least", f.name);
        return;
    }
    int version = 0;
    if (l.get_version(&version) != NCCL_SUCCESS) version = 0;
    if (version && version < NCCL_NEW_NUMBERS)
        version = version / 1000 * 10000 + version % 1000;
    l.version = version;
    library = l;
}

int kern_nccl_find(int *version, ph_error *err) {
    pthread_once(&load_once, load);
    *version = library.version;
    return library.handle ? PH_OK : ph_fail(err, PH_UNSUPPORTED, "%s", load_error);
}

/* What the ranks share: after a failure all communicators are given up, because the others would wait for ever. */
typedef struct nccl_team {
    pthread_mutex_t lock;
    nccl_comm comm[KERN_MAX_RANKS];
    int n, open, failed;
    const char *failed_in;
    cuda_direct *direct; /* NULL: there is no such way */
} nccl_team;

typedef struct nccl_end {
    nccl_team *team;
    kern *k;
    int rank;
} nccl_end;

static void note(nccl_end *e, int result, const char *what) {
    if (result == NCCL_SUCCESS || result == NCCL_IN_PROGRESS) return;
    nccl_team *t = e->team;
    pthread_mutex_lock(&t->lock);
    if (!t->failed) {
        t->failed = result;
        t->failed_in = what;
        for (int r = 0; r < t->n; r++) {
            library.comm_abort(t->comm[r]);
            t->comm[r] = nullptr;
        }
    }
    pthread_mutex_unlock(&t->lock);
}

/* The rank's communicator; NULL after a failure. */
static nccl_comm comm_of(nccl_end *e) {
    pthread_mutex_lock(&e->team->lock);
    nccl_comm comm = e->team->comm[e->rank];
    pthread_mutex_unlock(&e->team->lock);
    return comm;
}

static nccl_end *end_of(kern_group *g) {
    return static_cast<nccl_end *>(g->state);
}

static void nccl_all_gather(kern_group *g, const void *mine, void *all, size_t bytes) {
    nccl_end *e = end_of(g);
    nccl_comm comm = comm_of(e);
    cudaStream_t stream = cuda_stream(e->k);
    if (comm && bytes) note(e, library.all_gather(mine, all, bytes, NCCL_INT8, comm, stream), "gathering");
}

static void nccl_exchange(kern_group *g, const void *out, void *in, size_t bytes) {
    nccl_end *e = end_of(g);
    nccl_comm comm = comm_of(e);
    cudaStream_t stream = cuda_stream(e->k);
    if (!comm || !bytes) return;
    int result = library.group_start();
    for (int r = 0; r < g->size && result == NCCL_SUCCESS; r++) {
        result = library.send(static_cast<const char *>(out) + (size_t)r * bytes, bytes, NCCL_INT8, r, comm, stream);
        if (result == NCCL_SUCCESS)
            result = library.receive(static_cast<char *>(in) + (size_t)r * bytes, bytes, NCCL_INT8, r, comm, stream);
    }
    int ended = library.group_end();
    note(e, result == NCCL_SUCCESS ? ended : result, "exchanging");
}

static void nccl_broadcast(kern_group *g, void *p, size_t bytes) {
    nccl_end *e = end_of(g);
    nccl_comm comm = comm_of(e);
    cudaStream_t stream = cuda_stream(e->k);
    if (comm && bytes) note(e, library.broadcast(p, p, bytes, NCCL_INT8, 0, comm, stream), "broadcasting");
}

static void direct_sum(kern_group *g, const float *part, float *y, int64_t n, float *also, int64_t m) {
    nccl_end *e = end_of(g);
    if (n + m > 0) cuda_direct_sum(e->team->direct, e->rank, part, y, n, also, m);
}

static int nccl_failed(ph_error *err, int result, const char *what) {
    return ph_fail(err, PH_FAIL, "NCCL failed in %s: %s", what, library.error_text(result));
}

static int nccl_status(kern_group *g, ph_error *err) {
    nccl_end *e = end_of(g);
    nccl_comm comm = comm_of(e);
    int error = NCCL_SUCCESS;
    if (comm) {
        int asked = library.async_error(comm, &error);
        note(e, asked == NCCL_SUCCESS ? error : asked, "the background");
    }
    pthread_mutex_lock(&e->team->lock);
    int failed = e->team->failed;
    const char *what = e->team->failed_in;
    pthread_mutex_unlock(&e->team->lock);
    if (failed) g->recordable = false; /* what was kept knows communicators that are gone */
    if (!failed && e->team->direct && cuda_direct_failed(e->team->direct))
        return ph_fail(err, PH_FAIL, "a GPU has waited in vain for what another one was to send");
    return failed ? nccl_failed(err, failed, what) : PH_OK;
}

static void nccl_close(kern_group *g) {
    nccl_end *e = end_of(g);
    nccl_team *t = e->team;
    if (t->comm[e->rank]) {
        cudaStreamSynchronize(cuda_stream(e->k));
        library.comm_destroy(t->comm[e->rank]);
    }
    if (--t->open == 0) {
        cuda_direct_close(t->direct);
        pthread_mutex_destroy(&t->lock);
        free(t);
    }
    free(e);
    free(g);
}

int kern_group_open_cuda(kern_group **out, kern *const *k, int n, ph_error *err) {
    int version = 0, device[KERN_MAX_RANKS];
    int code = kern_nccl_find(&version, err);
    if (code) return ph_context(err, "one model on several GPUs needs NCCL");
    nccl_team *t = static_cast<nccl_team *>(calloc(1, sizeof *t));
    bool made = t != nullptr;
    for (int r = 0; r < n; r++) {
        out[r] = static_cast<kern_group *>(calloc(1, sizeof **out));
        nccl_end *e = static_cast<nccl_end *>(calloc(1, sizeof *e));
        made &= out[r] && e;
        if (out[r]) out[r]->state = e;
        else free(e);
        device[r] = cuda_state_of(k[r])->device;
    }
    int result = made ? library.comm_init_all(t->comm, n, device) : NCCL_SUCCESS;
    if (!made || result != NCCL_SUCCESS) {
        for (int r = 0; r < n; r++) {
            if (out[r]) free(out[r]->state);
            free(out[r]);
            out[r] = nullptr;
        }
        free(t);
        return made ? nccl_failed(err, result, "joining the GPUs") : ph_fail(err, PH_MEMORY, "No memory for a group of %d ranks.", n);
    }
    pthread_mutex_init(&t->lock, nullptr);
    t->n = t->open = n;
    t->direct = cuda_direct_open(k, n);
    for (int r = 0; r < n; r++) {
        nccl_end *e = end_of(out[r]);
        e->team = t;
        e->k = k[r];
        e->rank = r;
        out[r]->name = "NCCL";
        out[r]->rank = r;
        out[r]->size = n;
        out[r]->recordable = version >= NCCL_RECORDABLE;
        out[r]->all_gather = nccl_all_gather;
        out[r]->exchange = nccl_exchange;
        out[r]->broadcast = nccl_broadcast;
        out[r]->sum = t->direct ? direct_sum : nullptr;
        out[r]->status = nccl_status;
        out[r]->close = nccl_close;
    }
    return PH_OK;
}
