/* avx512.c - the vector operations with AVX-512 (F, BW, VL, DQ, VBMI, VNNI, BF16). Compiled with those flags:
 * nothing here may run before open.c has looked at the processor. */
#if defined(__x86_64__)
#define ISA_AVX512
#define FILL cpu_fill_avx512
#include "kernels/cpu/table_body.h"
#else
typedef int no_such_instructions_here; /* a file must hold something */
#endif
