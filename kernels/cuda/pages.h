/* pages.h - the CUDA backend's paging (kernels/paging.h). */
#ifndef PHAROS_CUDA_PAGES_H
#define PHAROS_CUDA_PAGES_H

#include "kernels/paging.h"

/* Sets k->paging where the driver has what it takes; that it has not is no error. */
int cuda_pages_open(kern *k, ph_error *err);
void cuda_pages_close(kern *k);
/* Whether p was a reserved array, which is gone then. */
bool cuda_pages_free(kern *k, void *p);
/* Gives pages that nobody has back to the driver. Whether there were any. */
bool cuda_pages_drain(kern *k);
/* Whether a device's driver has what it takes, without opening it. */
bool cuda_pages_known(int device);

#endif
