/* portable.c - the vector operations in plain C, for any processor. */
#define ISA_PORTABLE
#define FILL cpu_fill_portable
#include "kernels/cpu/table_body.h"
