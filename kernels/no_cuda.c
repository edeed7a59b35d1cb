/* no_cuda.c - stands in for cuda/ in a build without a CUDA compiler. */
#include "kernels/group.h"
#include "kernels/kernel_bench.h"

static const char WHY[] = "this build of Pharos has no CUDA: it was built where there was no CUDA compiler";

int kern_open_cuda(kern **out, int device, ph_error *err) {
    *out = NULL;
    return ph_fail(err, PH_UNSUPPORTED, "%s", WHY);
}

int kern_cuda_devices(kern_cuda_device *out, int most, int *n, int versions[2], ph_error *err) {
    *n = 0;
    if (versions) versions[0] = versions[1] = 0;
    return ph_fail(err, PH_UNSUPPORTED, "%s", WHY);
}

int kern_nccl_find(int *version, ph_error *err) {
    *version = 0;
    return ph_fail(err, PH_UNSUPPORTED, "%s", WHY);
}

int kern_group_open_cuda(kern_group **out, kern *const *k, int n, ph_error *err) {
    return ph_fail(err, PH_UNSUPPORTED, "%s", WHY);
}

int kern_cuda_time_v32(kern *k, void (*told)(void *user, const kern_timing *t), void *user, ph_error *err) {
    return ph_fail(err, PH_UNSUPPORTED, "%s", WHY);
}
