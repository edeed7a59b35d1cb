/* cmd_bench_kernels.h - `pharos bench --kernels`. */
#ifndef PHAROS_CMD_BENCH_KERNELS_H
#define PHAROS_CMD_BENCH_KERNELS_H

#include "appliance/command.h"

/* Prints the times of the CUDA kernels at V3.2's dimensions on the GPU that --device names, or the first. Without a GPU
 * an error that says why (PH_UNSUPPORTED), and nothing is printed. */
int bench_kernels(const common_options *o, ph_error *err);

#endif
