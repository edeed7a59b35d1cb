/* paged_memory.h - kernels/paging.h on the processor, with pages of 4096 bytes and the system's own tables: what nothing
 * is behind cannot be read, and pages that several arrays share cannot be written by those that came later. A test whose
 * engine does either dies there. */
#ifndef PHAROS_TEST_PAGED_MEMORY_H
#define PHAROS_TEST_PAGED_MEMORY_H

#include "kernels/paging.h"

enum { PAGED_PAGE = 4096 };

/* Gives the backend pages, at most `most` at a time. One backend at a time; until paged_end. */
int paged_begin(kern *k, size_t most);
void paged_end(kern *k);
/* Changes how many there may be. */
void paged_limit(size_t most);

#endif
