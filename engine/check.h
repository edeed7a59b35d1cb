/* check.h - holds the engine against a reference: a checkpoint folder with expected.safetensors.
 *
 * Layout of expected.safetensors: input_ids [T] i32; logits [T, vocab]; hidden.i [T, hidden] (hidden.0 =
 * embeddings, the last one after the final norm); topk.i [T, k] selected positions of layer i, unordered,
 * rows with fewer than k visible padded with positions > t; greedy [n] the next tokens by argmax.
 */
#ifndef PHAROS_CHECK_H
#define PHAROS_CHECK_H

#include "engine/config.h"

#include <stdbool.h>

enum { CHECK_WAYS = 4 }; /* one prefill, then chunks of 1, 7 and 64 */

typedef struct check_way {
    int chunk;           /* 0 = all at once */
    double logits_error; /* largest absolute difference, selection forced to the reference's */
    double hidden_error[CONFIG_MAX_LAYERS + 1];
    /* Own selection, on the inputs that the forced run gives each layer (so that one near-tie does not make
     * every later layer differ): rows compared, positions that either side has alone. */
    long rows, differ;
    long near_ties, real;      /* of those: within CHECK_NEAR_TIE of the cut's score, and the rest */
    int greedy_same, greedy_n; /* leading greedy tokens that agree in a free run, and how many there are */
} check_way;

#define CHECK_TOLERANCE 1e-3 /* of logits and hidden states */
#define CHECK_NEAR_TIE 1e-5

typedef struct check_result {
    int layers, tokens;
    check_way way[CHECK_WAYS];
    bool passed;
    char verdict[256]; /* why, in one sentence */
} check_result;

/* backend, ranks, threads: as in engine_options. PH_OK when the check ran (look at passed); an error when it could not. */
int model_check(check_result *out, const char *dir, const char *backend, int ranks, int threads, ph_error *err);

#endif
