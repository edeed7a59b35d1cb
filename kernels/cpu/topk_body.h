/* topk_body.h - the k best of a stream of scores that comes in ascending order of position.
 *
 * Candidates that beat a threshold are appended to a buffer; when it is full it is cut down and the threshold
 * rises. The cut counts, by bisection over the value, how many are at least so great: at most 32 vectorised
 * passes over the buffer whatever the scores are, so rising scores or many equal ones cost linear time too.
 *
 * What keeps it exact: once k candidates reach T, a later one that is not greater than T can never be chosen
 * (of equals the earlier wins). The buffer stays in order of position, and so does the result.
 */
#ifndef PHAROS_TOPK_BODY_H
#define PHAROS_TOPK_BODY_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/isa.h"

enum {
    GROUP_KEYS = 64,                 /* scores are offered 64 at a time */
    CANDIDATE_SLACK = 2 * GROUP_KEYS /* a vector may be stored beyond the last candidate */
};

typedef struct candidates {
    float *score;
    int32_t *position;
    int n, capacity; /* room is capacity + CANDIDATE_SLACK */
    float threshold;
    bool armed; /* threshold counts; before, everything is taken, -infinity included */
} candidates;

static int64_t candidate_capacity(int64_t k, int64_t n_key) {
    int64_t c = 4 * k > 1024 ? 4 * k : 1024;
    c = min_i64(c, n_key); /* never more candidates than keys */
    return (c + 15) / 16 * 16;
}

static size_t candidate_bytes(int64_t capacity) {
    return (size_t)(capacity + CANDIDATE_SLACK) * 8;
}

static void candidates_init(candidates *c, unsigned char *memory, int64_t capacity) {
    *c = (candidates){.score = (float *)memory,
                      .position = (int32_t *)(memory + (size_t)(capacity + CANDIDATE_SLACK) * 4),
                      .capacity = (int)capacity};
}

/* Integers in the order of the floats. Scores are never NaN or -0 here. */
static int32_t order_of(float x) {
    int32_t i;
    memcpy(&i, &x, sizeof i);
    return i ^ ((i >> 31) & 0x7fffffff);
}

static float float_of_order(int32_t i) {
    i ^= (i >> 31) & 0x7fffffff;
    float x;
    memcpy(&x, &i, sizeof x);
    return x;
}

/* How many of the n (a multiple of VL) are at least `least`. */
static int count_at_least(const int32_t *order, int n, int32_t least) {
    vi sum = {0}, bound = (vi)vu_set((uint32_t)least);
    for (int i = 0; i < n; i += VL) sum -= (vi)vu_load((const uint32_t *)order + i) >= bound;
    int total = 0;
    for (int i = 0; i < VL; i++) total += sum[i];
    return total;
}

/* Keeps the candidates above `cut`, and the first `equal` of those at it. */
static void keep_from(candidates *c, const int32_t *order, int32_t cut, int equal) {
    int kept = 0, i = 0;
#if defined(ISA_AVX512)
    if (equal >= c->n) { /* all of them */
        __m512i bound = _mm512_set1_epi32(cut);
        for (; i < c->n; i += 16) {
            __mmask16 in = c->n - i >= 16 ? 0xffff : (__mmask16)((1u << (c->n - i)) - 1u);
            __mmask16 m = _mm512_mask_cmpge_epi32_mask(in, _mm512_loadu_si512(order + i), bound);
            __m512 s = _mm512_maskz_compress_ps(m, _mm512_loadu_ps(c->score + i));
            __m512i p = _mm512_maskz_compress_epi32(m, _mm512_loadu_si512(c->position + i));
            _mm512_storeu_ps(c->score + kept, s); /* kept <= i: never over what is still to be read */
            _mm512_storeu_si512(c->position + kept, p);
            kept += __builtin_popcount(m);
        }
        c->n = kept;
        return;
    }
#endif
    for (; i < c->n; i++) {
        bool at_cut = order[i] == cut, keep = order[i] > cut || (at_cut && equal > 0);
        equal -= at_cut;
        c->score[kept] = c->score[i];
        c->position[kept] = c->position[i];
        kept += keep;
    }
    c->n = kept;
}

/* Cuts the buffer down to the k best, or to not many more where `exact` is false. order: scratch of
 * capacity + CANDIDATE_SLACK. */
static void candidates_cut(candidates *c, int k, bool exact, int32_t *order) {
    if (c->n <= k) return;
    int padded = (c->n + VL - 1) / VL * VL;
    int32_t least = INT32_MAX, greatest = INT32_MIN;
    for (int i = 0; i < c->n; i++) {
        order[i] = order_of(c->score[i]);
        least = order[i] < least ? order[i] : least;
        greatest = order[i] > greatest ? order[i] : greatest;
    }
    for (int i = c->n; i < padded; i++) order[i] = INT32_MIN; /* below every score */

    int64_t low = least, high = (int64_t)greatest + 1; /* count(low) >= k > count(high) */
    int at_low = c->n, at_high = 0, enough = exact ? k : k + (c->capacity - k) / 4;
    while (at_low > enough && low + 1 < high) {
        int64_t middle = low + (high - low) / 2;
        int count = count_at_least(order, padded, (int32_t)middle);
        if (count >= k) {
            low = middle;
            at_low = count;
        } else {
            high = middle;
            at_high = count;
        }
    }
    if (at_low <= enough)
        keep_from(c, order, (int32_t)low, INT32_MAX);
    else
        keep_from(c, order, (int32_t)low, k - at_high);
    c->threshold = float_of_order((int32_t)low);
    c->armed = true;
}

/* Offers the scores of GROUP_KEYS positions from `first` on; those whose bit in `mask` is 0 do not count. */
INLINE void candidates_offer(candidates *c, const float *score, uint64_t mask, int32_t first, int k,
                             int32_t *order) {
#if defined(ISA_AVX512)
    if (c->armed) {
        __m512 t = _mm512_set1_ps(c->threshold);
        uint64_t above = 0;
        UNROLL for (int i = 0; i < 4; i++) above |=
            (uint64_t)_mm512_cmp_ps_mask(_mm512_loadu_ps(score + 16 * i), t, _CMP_GT_OQ) << (16 * i);
        mask &= above;
    }
    if (!mask) return;
    if (c->n + GROUP_KEYS > c->capacity + CANDIDATE_SLACK / 2) candidates_cut(c, k, false, order);
    /* Without branches: which of the four vectors hold a candidate is as good as random. */
    __m512i p = _mm512_add_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                 _mm512_set1_epi32(first));
    float *to_score = c->score + c->n;
    int32_t *to_position = c->position + c->n;
    c->n += __builtin_popcountll(mask);
    UNROLL for (int i = 0; i < 4; i++) {
        __mmask16 m = (__mmask16)mask;
        _mm512_storeu_ps(to_score, _mm512_maskz_compress_ps(m, _mm512_loadu_ps(score + 16 * i)));
        _mm512_storeu_si512(to_position, _mm512_maskz_compress_epi32(m, p));
        int taken = __builtin_popcount(m);
        to_score += taken;
        to_position += taken;
        p = _mm512_add_epi32(p, _mm512_set1_epi32(16));
        mask >>= 16;
    }
#else
    if (c->armed) {
        vf t = vf_set(c->threshold);
        vi any = {0};
        for (int i = 0; i < GROUP_KEYS; i += VL) any |= vf_load(score + i) > t;
        int32_t some = 0;
        for (int i = 0; i < VL; i++) some |= any[i];
        if (!some) return;
    }
    if (c->n + GROUP_KEYS > c->capacity + CANDIDATE_SLACK / 2) candidates_cut(c, k, false, order);
    for (int i = 0; i < GROUP_KEYS; i++) {
        bool take = (mask >> i & 1) && (!c->armed || score[i] > c->threshold);
        c->score[c->n] = score[i];
        c->position[c->n] = first + i;
        c->n += take;
    }
#endif
}

#endif
