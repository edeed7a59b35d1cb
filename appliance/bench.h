/* bench.h - measures a model on this machine: prefill by position, sparse beside dense, a restored question,
 * decode; each figure with its floor (operations over the measured peak, bytes over the measured bandwidth).
 */
#ifndef PHAROS_BENCH_H
#define PHAROS_BENCH_H

#include "appliance/kernel_times.h"
#include "engine/engine.h"

enum { BENCH_MARKS = 16 };

typedef struct bench_options {
    int64_t length;     /* tokens; 0 = the model's maximum less what question and answer need */
    int decode_tokens;  /* 0 = 64 */
    bool whole_dense;   /* run the whole prefill dense too; otherwise it is integrated over chunks measured at
                           the   marks (attention's cost is linear in the position) */
    const char *folder; /* for the snapshot file; it is removed afterwards */
    engine_progress progress; /* may be NULL */
    void *user;
} bench_options;

/* Prefill around one position. Times in seconds for one token. */
typedef struct bench_mark {
    int64_t position;
    double sparse, dense; /* of a chunk that ends (dense, and both on a device: starts) here */
    double sparse_decode, dense_decode; /* of a token written here */
} bench_mark;

typedef struct bench_result {
    kern_peaks peaks;
    int64_t length;
    int64_t characters; /* of the text that was read */
    double sparse_s;    /* whole prefill */
    double sparse_8k_s; /* of it, the first 8192 tokens */
    double dense_s; /* 0, as all that is dense here: there is none over latents in FP8 */
    bool dense_whole; /* measured whole, not integrated */
    double memory_s;    /* whole prefill without a file behind it; 0 = not measured */
    bench_mark marks[BENCH_MARKS];
    int n_marks;
    stage_time stages[STAGE_COUNT];    /* of the sparse prefill */
    double floors[STAGE_COUNT];        /* seconds */
    double restore_ms, first_token_ms; /* open a snapshot; open it and answer the first token of a question */
    int question_tokens;
    double decode_tok_s, decode_floor_tok_s, dense_decode_tok_s;
    double anonymous_bytes; /* memory of the process beyond mapped files, at its highest */
} bench_result;

/* The cost curve: dollars per million tokens read and written at each mark, for a machine of so many dollars an hour. */
double bench_dollars(double seconds_a_token, double dollars_an_hour);
/* Written as a CSV table, or as a picture; PH_FAIL with the file's name when it cannot be. */
int bench_write_csv(const bench_result *r, double dollars_an_hour, const char *path, ph_error *err);
int bench_write_svg(const bench_result *r, double dollars_an_hour, const char *model, const char *machine,
                    const char *path, ph_error *err);

int bench_run(bench_result *out, engine *e, const bench_options *o, ph_error *err);

#endif
