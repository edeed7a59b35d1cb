/* test_cuda_ranks.c - what test_ranks.c says of the processor, of two GPUs or more that talk through NCCL. */
#define TEST_ON_GPUS
#include "tests/test_ranks.c"
