/* open.c - a backend by its name, or several for one model. */
#include "kernels/group.h"

#include <stdlib.h>
#include <string.h>

static int no_device(const char *name, ph_error *err) {
    return ph_fail(err, PH_USAGE,
                   "\"%.40s\" is no device: cuda, cuda:N, or cuda:N,N,... for one model on several", name);
}

/* "cuda", "cuda:2", "cuda:0,1": the numbers, into device[KERN_MAX_RANKS]. */
static int device_numbers(int *device, int *n, const char *name, ph_error *err) {
    *n = 1;
    device[0] = 0;
    if (!name[4]) return PH_OK;
    if (name[4] != ':') return no_device(name, err);
    const char *p = name + 5;
    for (*n = 0; *n < KERN_MAX_RANKS;) {
        char *end = NULL;
        long number = *p >= '0' && *p <= '9' ? strtol(p, &end, 10) : -1;
        if (number < 0 || number > 1023 || (*end && *end != ',')) return no_device(name, err);
        for (int i = 0; i < *n; i++)
            if (device[i] == number)
                return ph_fail(err, PH_USAGE, "\"%.40s\" names GPU %ld twice", name, number);
        device[(*n)++] = (int)number;
        if (!*end) return PH_OK;
        p = end + 1;
    }
    return ph_fail(err, PH_TOO_LARGE, "\"%.40s\" names more than %d GPUs", name, KERN_MAX_RANKS);
}

static bool is_cuda(const char *name) {
    return name && !strncmp(name, "cuda", 4);
}

int kern_open(kern **out, const char *name, int n_thread, ph_error *err) {
    *out = NULL;
    if (!is_cuda(name)) return kern_open_cpu(out, name, n_thread, err);
    int device[KERN_MAX_RANKS], n = 0, code = device_numbers(device, &n, name, err);
    if (!code && n > 1) code = no_device(name, err);
    return code ? code : kern_open_cuda(out, device[0], err);
}

int kern_open_ranks(kern **out, int *n, const char *name, int ranks, int n_thread, ph_error *err) {
    *n = 0;
    if (ranks < 0 || ranks > KERN_MAX_RANKS)
        return ph_fail(err, PH_USAGE, "%d ranks are not within 1 and %d", ranks, KERN_MAX_RANKS);
    int device[KERN_MAX_RANKS], named = 1, want = ranks ? ranks : 1, code = PH_OK;
    if (is_cuda(name)) {
        code = device_numbers(device, &named, name, err);
        if (code) return code;
        if (!name[4])
            for (int r = 0; r < want; r++) device[r] = r;
        else if (ranks && ranks != named)
            return ph_fail(err, PH_USAGE, "%d ranks do not fit the %d GPUs of \"%.40s\"", ranks, named, name);
        else
            want = named;
        /* A kernel that is loaded when first used waits for its device, which may be waiting for another
         * rank, whose launch waits for the driver. */
        if (want > 1) setenv("CUDA_MODULE_LOADING", "EAGER", 0);
    } else if (want > 1) {
        int all = n_thread ? n_thread : kern_cpu_count();
        n_thread = all > want ? all / want : 1;
    }
    for (; *n < want && !code; *n += !code)
        code = is_cuda(name) ? kern_open_cuda(&out[*n], device[*n], err)
                             : kern_open_cpu(&out[*n], name, n_thread, err);
    if (!code) return PH_OK;
    while (*n > 0) {
        --*n;
        out[*n]->close(out[*n]);
    }
    return code;
}
