/* peaks_body.h - what the machine can do: loops that keep everything in registers, and a read of memory. */
#ifndef PHAROS_PEAKS_BODY_H
#define PHAROS_PEAKS_BODY_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/isa.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

enum { CHAINS = VL == 16 ? 24 : 12, PEAK_ROUNDS = 20000 };

/* The compiler may not see through a value that passes here. */
#define OPAQUE(v) __asm__ volatile("" : "+m"(v))

typedef struct peak_job {
    double until;
    _Atomic int64_t rounds; /* done by all threads, of PEAK_ROUNDS steps on each chain */
    const uint8_t *memory;
    size_t each; /* bytes for each thread */
    _Atomic uint32_t sink;
} peak_job;

/* Repeats `body` (one round) until the time is up, and counts. */
#define PEAK_TASK(name, prepare, body, finish)                                                               \
    static void name(void *arg, int64_t item, int thread) {                                                  \
        peak_job *job = (peak_job *)arg;                                                                     \
        prepare int64_t rounds = 0;                                                                          \
        do {                                                                                                 \
            body rounds++;                                                                                   \
        } while (seconds() < job->until);                                                                    \
        atomic_fetch_add(&job->rounds, rounds);                                                              \
        finish                                                                                               \
    }

PEAK_TASK(
    peak_f32, vf acc[CHAINS]; vf x = vf_set(0.5f); OPAQUE(x);
    UNROLL for (int c = 0; c < CHAINS; c++) acc[c] = vf_set((float)c);
    ,
    for (int i = 0; i < PEAK_ROUNDS;
         i++) { UNROLL for (int c = 0; c < CHAINS; c++) acc[c] = vf_fma(acc[c], x, x); },
    float sum = 0;
    UNROLL for (int c = 0; c < CHAINS; c++) sum += vf_sum(acc[c]);
    atomic_fetch_add(&job->sink, sum > 0 ? 1u : 0u);)

#if defined(ISA_AVX512)
PEAK_TASK(
    peak_bf16, __m512 acc[CHAINS]; __m512i x = _mm512_set1_epi32(0x3f003f00); OPAQUE(x);
    UNROLL for (int c = 0; c < CHAINS; c++) acc[c] = _mm512_set1_ps((float)c);
    ,
    for (int i = 0; i < PEAK_ROUNDS; i++) {
        UNROLL for (int c = 0; c < CHAINS; c++) acc[c] = _mm512_dpbf16_ps(acc[c], (__m512bh)x, (__m512bh)x);
    },
    float sum = 0;
    UNROLL for (int c = 0; c < CHAINS; c++) sum += vf_sum((vf)acc[c]);
    atomic_fetch_add(&job->sink, sum > 0 ? 1u : 0u);)

PEAK_TASK(
    peak_i8, __m512i acc[CHAINS]; __m512i x = _mm512_set1_epi32(0x01010101); OPAQUE(x);
    UNROLL for (int c = 0; c < CHAINS; c++) acc[c] = _mm512_set1_epi32(c);
    ,
    for (int i = 0; i < PEAK_ROUNDS;
         i++) { UNROLL for (int c = 0; c < CHAINS; c++) acc[c] = _mm512_dpbusd_epi32(acc[c], x, x); },
    uint32_t sum = 0;
    UNROLL for (int c = 0; c < CHAINS; c++) sum += (uint32_t)_mm512_reduce_add_epi32(acc[c]);
    atomic_fetch_add(&job->sink, sum);)
#elif defined(ISA_AVX2)
PEAK_TASK(
    peak_i8, __m256i acc[CHAINS]; __m256i x = _mm256_set1_epi32(0x01010101);
    __m256i ones = _mm256_set1_epi16(1); OPAQUE(x);
    UNROLL for (int c = 0; c < CHAINS; c++) acc[c] = _mm256_set1_epi32(c);
    ,
    for (int i = 0; i < PEAK_ROUNDS; i++) {
        UNROLL for (int c = 0; c < CHAINS; c++) acc[c] =
            _mm256_add_epi32(acc[c], _mm256_madd_epi16(_mm256_maddubs_epi16(x, acc[c]), ones));
    },
    uint32_t sum = 0;
    UNROLL for (int c = 0; c < CHAINS; c++) sum += (uint32_t)_mm256_extract_epi32(acc[c], 0);
    atomic_fetch_add(&job->sink, sum);)
#endif

PEAK_TASK(
    peak_read, const uint32_t *p = (const uint32_t *)(job->memory + (size_t)item * job->each); vu acc0 = {0};
    vu acc1 = {0}; vu acc2 = {0}; vu acc3 = {0};,
                                                for (size_t i = 0; i + 4 * VL <= job->each / 4; i += 4 * VL) {
                                                    acc0 ^= vu_load(p + i);
                                                    acc1 ^= vu_load(p + i + VL);
                                                    acc2 ^= vu_load(p + i + 2 * VL);
                                                    acc3 ^= vu_load(p + i + 3 * VL);
                                                },
                                                acc0 ^= acc1 ^ acc2 ^ acc3;
    uint32_t sum = 0; for (int i = 0; i < VL; i++) sum ^= acc0[i]; atomic_fetch_add(&job->sink, sum);)

/* Rounds per second of a task on all threads: the best of a few windows, because whatever else the machine does
 * takes from a window and never adds to one. */
static double rounds_per_second(const cpu_state *s, cpu_task task, peak_job *job) {
    enum { WINDOWS = 5 };
    double best = 0;
    for (int i = 0; i < WINDOWS; i++) {
        atomic_store(&job->rounds, 0);
        double start = seconds();
        job->until = start + 0.06;
        cpu_run(s, task, job, s->n_thread, true);
        double rate = (double)atomic_load(&job->rounds) / (seconds() - start);
        if (rate > best) best = rate;
    }
    return best;
}

static void op_measure_peaks(kern *k, kern_peaks *out) {
    const cpu_state *s = cpu_state_of(k);
    *out = (kern_peaks){0};
    peak_job job = {0};
    double steps = (double)CHAINS * PEAK_ROUNDS;
    out->f32_flops = rounds_per_second(s, peak_f32, &job) * steps * VL * 2;
#if defined(ISA_AVX512)
    out->bf16_flops = rounds_per_second(s, peak_bf16, &job) * steps * VL * 4;
    out->i8_ops = rounds_per_second(s, peak_i8, &job) * steps * VL * 8;
#elif defined(ISA_AVX2)
    out->i8_ops = rounds_per_second(s, peak_i8, &job) * steps * VL * 8;
#endif
    size_t bytes = (size_t)512 << 20;
    uint8_t *memory = malloc(bytes);
    if (!memory) return; /* then the bandwidth stays unknown */
    memset(memory, 1, bytes);
    job.memory = memory;
    job.each = bytes / (size_t)s->n_thread / 64 * 64;
    out->bytes_per_s = rounds_per_second(s, peak_read, &job) * (double)job.each;
    free(memory);
}

#endif
