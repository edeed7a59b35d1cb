/* avx2.c - the vector operations with AVX2 and FMA. Compiled with those flags: nothing here may run before
 * open.c has looked at the processor. */
#if defined(__x86_64__)
#define ISA_AVX2
#define FILL cpu_fill_avx2
#include "kernels/cpu/table_body.h"
#else
typedef int no_such_instructions_here; /* a file must hold something */
#endif
