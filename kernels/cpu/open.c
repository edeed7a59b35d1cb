/* open.c - the choice of a CPU backend, its state and its memory. */
#include "kernels/cpu/cpu.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

typedef struct backend {
    const char *name;
    bool (*runs_here)(void);
    void (*fill)(kern *k);
} backend;

static bool always(void) {
    return true;
}

#if defined(__x86_64__)
static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void) {
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512vbmi") || !__builtin_cpu_supports("avx512vnni") ||
        !__builtin_cpu_supports("fma"))
        return false;
    /* avx512_bf16, which not every compiler's cpu_supports knows. All processors that have it have vbmi too,
     * but for one (Cooper Lake), which gets avx2. */
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 5));
}
#endif

/* Best first. */
static const backend BACKENDS[] = {
#if defined(__x86_64__)
    {"avx512", has_avx512, cpu_fill_avx512},
    {"avx2", has_avx2, cpu_fill_avx2},
#endif
    {"portable", always, cpu_fill_portable},
};
enum { N_BACKEND = sizeof BACKENDS / sizeof *BACKENDS };

const char *const *kern_cpu_names(void) {
    static const char *names[N_BACKEND + 1];
    int n = 0;
    for (int i = 0; i < N_BACKEND; i++)
        if (BACKENDS[i].runs_here()) names[n++] = BACKENDS[i].name; /* the same values by whichever thread */
    return names;
}

static void backend_close(kern *k) {
    if (!k) return;
    cpu_state *s = cpu_state_of(k);
    if (s) {
        cpu_pool_close(s->pool);
        if (s->arena) munmap(s->arena, s->arena_bytes);
    }
    free(s);
    free(k);
}

static int backend_alloc(kern *k, void **out, size_t bytes, ph_error *err) {
    size_t rounded = (bytes + 63) / 64 * 64;
    *out = rounded >= bytes ? aligned_alloc(64, rounded ? rounded : 64) : NULL;
    if (!*out) return ph_fail(err, PH_MEMORY, "No memory for an array of %zu bytes.", bytes);
    memset(*out, 0, rounded);
    return PH_OK;
}

static void backend_free(kern *k, void *p) {
    free(p);
}

static void backend_copy(kern *k, void *to, const void *from, size_t bytes) {
    if (bytes) memcpy(to, from, bytes);
}

static void backend_zero(kern *k, void *p, size_t bytes) {
    if (bytes) memset(p, 0, bytes);
}

static void backend_wait(kern *k) {
}

static int backend_status(kern *k, ph_error *err) {
    return PH_OK;
}

static size_t index_key_bytes(kern_type type, int dim, int64_t capacity) {
    size_t bytes = type == KERN_I8 ? (size_t)((capacity + 15) / 16 * 16) * (size_t)cpu_key_bytes(dim)
                                   : (size_t)capacity * (size_t)dim * sizeof(float);
    return (bytes + 63) / 64 * 64;
}

int kern_cpu_count(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}

static int open_backend(kern **out, const backend *b, int n_thread, ph_error *err) {
    enum { MAX_PAIR = 65536 };
    kern *k = calloc(1, sizeof *k);
    cpu_state *s = calloc(1, sizeof *s);
    if (!k || !s) {
        free(k);
        free(s);
        return ph_fail(err, PH_MEMORY, "No memory for the %s backend.", b->name);
    }
    k->name = b->name;
    k->n_thread = s->n_thread = n_thread;
    k->state = s;
    size_t angles = (size_t)CPU_ANGLES_MAX * sizeof(float), freq = MAX_PAIR * sizeof(float);
    s->arena_bytes = (size_t)n_thread * CPU_THREAD_BYTES + CPU_SHARED_BYTES + 2 * (2 * angles + freq);
    void *arena = mmap(NULL, s->arena_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena == MAP_FAILED) {
        size_t bytes = s->arena_bytes;
        backend_close(k);
        return ph_fail(err, PH_MEMORY, "No address space for %zu bytes of scratch memory.", bytes);
    }
    s->arena = (unsigned char *)arena;
    s->shared = s->arena + (size_t)n_thread * CPU_THREAD_BYTES;
    unsigned char *p = s->shared + CPU_SHARED_BYTES;
    for (int i = 0; i < 2; i++) {
        s->angles[i].cosine = (float *)p;
        s->angles[i].sine = (float *)(p + angles);
        s->angles[i].freq = (float *)(p + 2 * angles);
        p += 2 * angles + freq;
    }
    int rc = cpu_pool_open(&s->pool, n_thread, err);
    if (rc) {
        backend_close(k);
        return rc;
    }
    k->close = backend_close;
    k->alloc = backend_alloc;
    k->free = backend_free;
    k->copy_in = backend_copy;
    k->copy_out = backend_copy;
    k->copy = backend_copy;
    k->zero = backend_zero;
    k->mark = backend_wait;
    k->copy_out_marked = backend_copy;
    k->wait = backend_wait;
    k->status = backend_status;
    k->embedding_make = cpu_embedding_make;
    k->embedding_free = cpu_embedding_free;
    k->embed = cpu_embed;
    k->matmul_each = cpu_matmul_each;
    k->experts = cpu_experts;
    k->chunk = 512;
    k->matrix_make = cpu_matrix_make;
    k->matrix_free = cpu_matrix_free;
    k->route = cpu_route;
    k->rope = cpu_rope;
    k->index_key_bytes = index_key_bytes;
    k->cache_layout = "i8x16";
    b->fill(k);
    *out = k;
    return PH_OK;
}

int kern_open_cpu(kern **out, const char *name, int n_thread, ph_error *err) {
    *out = NULL;
    if (n_thread < 0) return ph_fail(err, PH_USAGE, "A backend cannot have %d threads.", n_thread);
    if (n_thread == 0) n_thread = kern_cpu_count();
    for (int i = 0; i < N_BACKEND; i++) {
        if (name && strcmp(name, BACKENDS[i].name) != 0) continue;
        if (BACKENDS[i].runs_here()) return open_backend(out, &BACKENDS[i], n_thread, err);
        if (name)
            return ph_fail(err, PH_UNSUPPORTED, "This processor lacks the instructions of \"%s\".", name);
    }
    return ph_fail(err, PH_USAGE, "There is no CPU backend called \"%s\".", name);
}
