/* kernel_times.h - how long each kind of kernel ran and how much it did, while a backend's table is wrapped.
 * For `bench`. */
#ifndef PHAROS_KERNEL_TIMES_H
#define PHAROS_KERNEL_TIMES_H

#include "kernels/group.h"

typedef enum kernel_stage {
    STAGE_MATMUL,
    STAGE_INDEX,
    STAGE_SPARSE,
    STAGE_DENSE,
    STAGE_APPEND,
    STAGE_NORM,
    STAGE_ROTATE,
    STAGE_SWIGLU,
    STAGE_EXCHANGE, /* between ranks, rank 0's waiting for the others included */
    STAGE_OTHER,
    STAGE_COUNT
} kernel_stage;

typedef struct stage_time {
    double seconds;
    double
        operations; /* multiplications and additions; 0 for matmul, whose matrices do not tell their shape */
    double bytes;   /* of caches, each row read once a call; of activations read and written */
    long calls;
} stage_time;

const char *stage_name(kernel_stage s);

/* Wraps k's table, and its end of a group (NULL = there is none); one table at a time. Stop before closing k. */
void kernel_times_start(kern *k, kern_group *g);
void kernel_times_stop(kern *k, kern_group *g);

/* While paused the operations run and do not count. */
void kernel_times_pause(bool paused);
/* Since the start or the last reset. */
void kernel_times_reset(void);
void kernel_times_get(stage_time out[STAGE_COUNT]);

#endif
