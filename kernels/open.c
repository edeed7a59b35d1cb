/* open.c - a backend by its name. */
#include "kernels/kernels.h"

#include <stdlib.h>
#include <string.h>

int kern_open(kern **out, const char *name, int n_thread, ph_error *err) {
    *out = NULL;
    if (!name || strncmp(name, "cuda", 4) != 0) return kern_open_cpu(out, name, n_thread, err);
    if (!name[4]) return kern_open_cuda(out, 0, err);
    char *end = NULL;
    long device = name[4] == ':' && name[5] ? strtol(name + 5, &end, 10) : -1;
    if (device < 0 || device > 1023 || *end)
        return ph_fail(err, PH_USAGE, "\"%.40s\" is no device: cuda, or cuda:N", name);
    return kern_open_cuda(out, (int)device, err);
}
