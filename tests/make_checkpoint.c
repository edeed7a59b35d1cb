/* make_checkpoint.c - a random checkpoint at DeepSeek-V3.2's width on the spot, for checks on several GPUs
 * (checkpoint.h):
 *
 *     make_checkpoint DIR [--small] [--layers N] [--dense N] [--heads N] [--dense-width N] [--experts N] [--picks N]
 *                     [--shared N] [--vocab N] [--topk N] [--expect TOKENS] [--seed N]
 *     pharos model check --device cuda:0,1 DIR
 *
 * --heads 16 --dense-width 2304 --picks 3 --shared 0 is what one of eight ranks has of V3.2, to time.
 */
#include "tests/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int usage(void) {
    fprintf(
        stderr,
        "usage: make_checkpoint DIR [--small] [--layers N] [--dense N] [--heads N] [--dense-width N] [--experts N] "
        "[--picks N] [--shared N] [--vocab N] [--topk N] [--expect TOKENS] [--seed N]\n");
    return PH_USAGE;
}

int main(int argc, char **argv) {
    enum { GREEDY = 8, SHARD_BYTES = 1 << 30 };
    checkpoint_shape s = checkpoint_v32();
    const char *dir = argc > 1 ? argv[1] : NULL;
    int expect = 0, seed = 1;
    if (!dir || dir[0] == '-') return usage();
    if (argc > 2 && !strcmp(argv[2], "--small")) s = checkpoint_small();
    const struct {
        const char *name;
        int *to;
    } options[] = {{"--layers", &s.layers}, {"--dense", &s.dense_layers}, {"--experts", &s.experts},
                   {"--vocab", &s.vocab},   {"--topk", &s.index_topk},    {"--expect", &expect},
                   {"--seed", &seed},       {"--heads", &s.heads},        {"--dense-width", &s.dense_width},
                   {"--picks", &s.experts_per_token}, {"--shared", &s.shared_experts}};
    for (int i = 2; i < argc; i++) {
        if (!strcmp(argv[i], "--small") && i == 2) continue;
        size_t o = 0;
        while (o < sizeof options / sizeof *options && strcmp(argv[i], options[o].name)) o++;
        if (o == sizeof options / sizeof *options || ++i == argc) return usage();
        char *end = NULL;
        long v = strtol(argv[i], &end, 10);
        if (*end || end == argv[i] || v < 0 || v > 1 << 20) return usage();
        *options[o].to = (int)v;
    }
    ph_error err = {0};
    mkdir(dir, 0700);
    int code = checkpoint_write(dir, &s, (uint64_t)seed, SHARD_BYTES, &err);
    if (!code && expect) code = checkpoint_expect(dir, expect, GREEDY, (uint64_t)seed + 1, &err);
    if (code) fprintf(stderr, "make_checkpoint: %s\n", err.text);
    return code;
}
