/* cuda_v32_check.cu - the V3.2 kernels against plain loops in double on fresh random inputs, at small and odd sizes.
 *
 *   cuda_v32_check mla-bf16|mla-fp8|index|topk wgmma|sync [seed]
 *
 * Prints a line for each case; ends with 0 if all agree, 1 if not, 77 where there is no GPU for it. Outputs are
 * poisoned first, and what must not be read or written is poisoned too.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <algorithm>
#include <vector>

#include "kernels/cuda/v32.h"
#include "tests/cuda_check.h"

static float normal() {
    return (float)(sqrt(-2.0 * log(1.0 - uniform())) * cos(6.283185307179586 * uniform()));
}

static float e4m3_table[256];
static void make_e4m3_table() {
    for (int c = 0; c < 256; c++) e4m3_table[c] = float_of_e4m3((uint8_t)c);
}
static float value_of(uint8_t c) {
    return e4m3_table[c];
}
/* Four sums, so that they need not wait for each other. */
static double dot_of(const float *a, const float *b, int n) {
    double s[4] = {};
    for (int i = 0; i < n; i += 4)
        for (int j = 0; j < 4; j++) s[j] += (double)a[i + j] * (double)b[i + j];
    return s[0] + s[1] + s[2] + s[3];
}
/* Device memory with these elements. */
template <class T> static T *to_gpu(const std::vector<T> &v) {
    T *p;
    must(cudaMalloc(reinterpret_cast<void **>(&p), v.size() * sizeof(T) + 16), "cudaMalloc");
    must(cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice), "copy in");
    return p;
}
template <class T> static void from_gpu(std::vector<T> &v, const T *p) {
    must(cudaMemcpy(v.data(), p, v.size() * sizeof(T), cudaMemcpyDeviceToHost), "copy out");
}
static void finish(cudaError_t launched, const char *name) {
    must(launched, name);
    must(cudaDeviceSynchronize(), name);
}

static void report(const char *name, const char *size, double error, double limit, int wrong) {
    bool bad = !(error <= limit) || wrong > 0;
    printf("%-9s %-44s error %.2e (limit %.0e) wrong %d %s\n", name, size, error, limit, wrong, bad ? "FAILED" : "ok");
    n_failed += bad;
}

struct mla_case {
    int n_tok, n_head, n_row, n_select, n_split;
    bool f32;
    std::vector<int> count;
    float sharp = 1.0f; /* scores' factor: where it is great, the greatest score moves far from block to block */
};

static void check_mla(bool fp8, v32_variant variant, const mla_case &c) {
    std::vector<uint8_t> cache;
    std::vector<float> keys((size_t)c.n_row * V32_KEY);
    std::vector<__nv_bfloat16> q((size_t)c.n_tok * c.n_head * V32_KEY);
    for (auto &x : q) x = __float2bfloat16(normal());
    cache.resize((size_t)c.n_row * (fp8 ? (size_t)V32_FP8_ROW : V32_KEY * 2));
    for (int s = 0; s < c.n_row; s++) {
        if (fp8) {
            uint8_t *row = &cache[(size_t)s * V32_FP8_ROW];
            for (int g = 0; g < 4; g++) {
                float factor = (float)(uniform() * 0.01 + 0.002);
                if (s & 1) factor = ldexpf(1.0f, -8 + g);
                memcpy(row + V32_LATENT + g * 4, &factor, 4);
                for (int i = 0; i < 128; i++) {
                    row[g * 128 + i] = random_code();
                    keys[(size_t)s * V32_KEY + g * 128 + i] = value_of(row[g * 128 + i]) * factor;
                }
            }
            for (int i = 0; i < V32_ROPE; i++) {
                __nv_bfloat16 x = __float2bfloat16(normal());
                memcpy(row + V32_LATENT + 16 + i * 2, &x, 2);
                keys[(size_t)s * V32_KEY + V32_LATENT + i] = __bfloat162float(x);
            }
        } else {
            for (int i = 0; i < V32_KEY; i++) {
                __nv_bfloat16 x = __float2bfloat16(normal());
                memcpy(&cache[((size_t)s * V32_KEY + i) * 2], &x, 2);
                keys[(size_t)s * V32_KEY + i] = __bfloat162float(x);
            }
        }
    }
    std::vector<int32_t> position((size_t)c.n_tok * c.n_select, 0x7fffffff), count(c.n_tok);
    for (int t = 0; t < c.n_tok; t++) {
        count[t] = c.count[t % c.count.size()];
        for (int i = 0; i < count[t]; i++)
            position[(size_t)t * c.n_select + i] = (int32_t)(random_bits() % (uint64_t)c.n_row);
    }
    size_t n_out = (size_t)c.n_tok * c.n_head * V32_LATENT;
    std::vector<float> out(n_out, POISON), lse((size_t)c.n_tok * c.n_head, POISON);
    std::vector<float> parts(c.n_split > 1 ? n_out * c.n_split : 1, NAN), part_lse(lse.size() * c.n_split, NAN);
    std::vector<__nv_bfloat16> half(n_out, __float2bfloat16(POISON));
    v32_mla a = {};
    a.fp8 = fp8;
    a.cache = to_gpu(cache);
    a.q = to_gpu(q);
    a.position = to_gpu(position);
    a.count = to_gpu(count);
    a.position_stride = c.n_select;
    a.n_tok = c.n_tok, a.n_head = c.n_head, a.n_split = c.n_split;
    a.scale = 0.1352337789f * 0.5f * c.sharp;
    if (c.f32) a.out_f32 = to_gpu(out);
    else a.out = to_gpu(half);
    a.lse = to_gpu(lse);
    a.part_out = to_gpu(parts);
    a.part_lse = to_gpu(part_lse);
    finish(v32_mla_launch(&a, variant, 0), "mla");
    from_gpu(lse, a.lse);
    if (c.f32) from_gpu(out, a.out_f32);
    else {
        from_gpu(half, a.out);
        for (size_t i = 0; i < n_out; i++) out[i] = __bfloat162float(half[i]);
    }

    /* the last token by itself has the bits that it has in company */
    size_t own = (size_t)c.n_head * V32_LATENT, before = n_out - own;
    std::vector<float> alone(own, POISON), alone_lse(c.n_head, POISON);
    std::vector<__nv_bfloat16> alone_half(own, __float2bfloat16(POISON));
    v32_mla one = a;
    one.q += (size_t)(c.n_tok - 1) * c.n_head * V32_KEY;
    one.position += (size_t)(c.n_tok - 1) * c.n_select;
    one.count += c.n_tok - 1;
    one.n_tok = 1;
    if (c.f32) one.out_f32 = to_gpu(alone);
    else one.out = to_gpu(alone_half);
    one.lse = to_gpu(alone_lse);
    finish(v32_mla_launch(&one, variant, 0), "mla of one token");
    from_gpu(alone_lse, one.lse);
    if (c.f32) from_gpu(alone, one.out_f32);
    else {
        from_gpu(alone_half, one.out);
        for (size_t i = 0; i < own; i++) alone[i] = __bfloat162float(alone_half[i]);
    }
    int wrong = memcmp(alone.data(), out.data() + before, own * 4) != 0 ||
                memcmp(alone_lse.data(), lse.data() + (size_t)(c.n_tok - 1) * c.n_head, (size_t)c.n_head * 4) != 0;
    if (c.f32) cudaFree(one.out_f32);
    else cudaFree(one.out);
    cudaFree(one.lse);

    double off = 0.0, all = 0.0, worst_lse = 0.0;
    std::vector<double> p(c.n_select), sum(V32_LATENT);
    std::vector<float> query(V32_KEY);
    for (int t = 0; t < c.n_tok; t++)
        for (int h = 0; h < c.n_head; h++) {
            size_t row = (size_t)t * c.n_head + h;
            if (c.n_tok * c.n_head > 2000 || c.n_select > 4000) { /* some of many; the others must at least be there */
                bool there = true;
                for (int d = 0; d < V32_LATENT; d++)
                    there = there && isfinite(out[row * V32_LATENT + d]) && out[row * V32_LATENT + d] != POISON;
                wrong += !there;
                if (random_bits() % 13) continue;
            }
            for (int d = 0; d < V32_KEY; d++) query[d] = __bfloat162float(q[row * V32_KEY + d]);
            double greatest = -INFINITY, total = 0.0;
            for (int i = 0; i < count[t]; i++) {
                const float *key = &keys[(size_t)position[(size_t)t * c.n_select + i] * V32_KEY];
                p[i] = dot_of(query.data(), key, V32_KEY) * (double)a.scale;
                greatest = fmax(greatest, p[i]);
            }
            std::fill(sum.begin(), sum.end(), 0.0);
            for (int i = 0; i < count[t]; i++) {
                double x = exp(p[i] - greatest);
                const float *key = &keys[(size_t)position[(size_t)t * c.n_select + i] * V32_KEY];
                total += x;
                for (int d = 0; d < V32_LATENT; d++) sum[d] += x * (double)key[d];
            }
            for (int d = 0; d < V32_LATENT; d++) {
                double want = count[t] ? sum[d] / total : 0.0, got = (double)out[row * V32_LATENT + d];
                off += (got - want) * (got - want);
                all += want * want;
                wrong += !(fabs(got - want) < 0.1 * (1.0 + fabs(want)));
            }
            if (count[t]) {
                double x = fabs((double)lse[row] - (greatest + log(total)));
                if (!(x <= worst_lse)) worst_lse = x;
            } else wrong += lse[row] != -INFINITY;
        }
    char size[128];
    snprintf(size, sizeof size, "%d tok %d heads %d rows split %d %s lse %.0e", c.n_tok, c.n_head, c.n_row, c.n_split,
             c.f32 ? "f32" : "bf16", worst_lse);
    wrong += !(worst_lse < 5e-3 * (double)c.sharp);
    report(fp8 ? "mla-fp8" : "mla-bf16", size, all > 0.0 ? sqrt(off / all) : sqrt(off), 5e-3, wrong);
    cudaFree(const_cast<void *>(a.cache));
    cudaFree(const_cast<__nv_bfloat16 *>(a.q));
    cudaFree(const_cast<int32_t *>(a.position));
    cudaFree(const_cast<int32_t *>(a.count));
    cudaFree(a.out), cudaFree(a.out_f32), cudaFree(a.lse), cudaFree(a.part_out), cudaFree(a.part_lse);
}

static void check_all_mla(bool fp8, v32_variant variant, bool small) {
    std::vector<mla_case> cases = {
        {1, 64, 1, 64, 1, true, {1}},
        {3, 64, 100, 200, 1, true, {0, 65, 130}},
        {2, 128, 300, 300, 1, false, {100, 193}},
        {3, 128, 100, 200, 1, true, {0, 65, 130}},
        {2, 128, 50, 320, 3, true, {300, 1}},
        {2, 64, 50, 320, 3, true, {300, 1}},
        {5, 64, 80, 130, 2, false, {128, 0, 64, 63, 129}},
        {2, 64, 300, 300, 1, true, {257, 300}, 12.0f},
    };
    if (!small) {
        cases.push_back({40, 128, 5000, 2048, 1, true, {2048, 2047, 1, 0, 700, 1985}});
        cases.push_back({300, 128, 3000, 200, 1, true, {0, 0, 64, 128, 192, 200, 5, 0, 130}});
        cases.push_back({1, 128, 40000, 40000, 1, true, {39999}});
        cases.push_back({3, 128, 9000, 9000, 17, true, {9000, 64, 0}});
        cases.push_back({70, 256, 3000, 2048, 1, false, {2048, 1000}});
        cases.push_back({40, 128, 5000, 2048, 1, false, {2048, 2047, 1, 0, 700, 1985}});
    }
    for (const auto &c : cases) check_mla(fp8, variant, c);
}

static void check_index(v32_variant variant, int n_tok, int64_t n_key, int64_t pos0, int each, int64_t key_step = 0) {
    int64_t n_row = n_key + key_step * (n_tok - 1);
    std::vector<uint8_t> q((size_t)n_tok * V32_INDEX_HEADS * V32_INDEX_DIM), k((size_t)n_row * V32_INDEX_DIM);
    std::vector<float> w((size_t)n_tok * V32_INDEX_HEADS), scale(n_row);
    for (auto &x : q) x = random_code();
    for (auto &x : k) x = random_code();
    for (auto &x : w) x = normal() * 0.01f;
    for (auto &x : scale) x = (float)(uniform() * 0.01 + 0.001);
    int64_t stride = (n_key + 4) / 4 * 4;
    std::vector<float> score((size_t)n_tok * stride, POISON);
    v32_index a = {to_gpu(q), to_gpu(w), to_gpu(k), to_gpu(scale), n_key, pos0, n_tok, to_gpu(score), stride, each,
                   key_step};
    finish(v32_index_launch(&a, variant, 0), "index");
    from_gpu(score, a.score);
    double off = 0.0, all = 0.0;
    int wrong = 0;
    std::vector<float> qf(q.size()), kf(k.size());
    for (size_t i = 0; i < q.size(); i++) qf[i] = value_of(q[i]);
    for (size_t i = 0; i < k.size(); i++) kf[i] = value_of(k[i]);
    for (int t = 0; t < n_tok; t++)
        for (int64_t s = 0; s < stride; s++) {
            double got = (double)score[(size_t)t * stride + s], want = 0.0;
            if (s >= n_key || s > pos0 + (key_step ? 0 : t)) {
                wrong += got != (double)POISON;
                continue;
            }
            if (n_tok * n_key > 1000000 && random_bits() % 61) {
                wrong += !isfinite(got) || got == (double)POISON;
                continue; /* some of many */
            }
            for (int h = 0; h < V32_INDEX_HEADS; h++) {
                double dot = dot_of(&qf[((size_t)t * V32_INDEX_HEADS + h) * V32_INDEX_DIM], &kf[(size_t)(t * key_step + s) * V32_INDEX_DIM],
                                    V32_INDEX_DIM);
                if (dot > 0.0) want += dot * (double)w[(size_t)t * V32_INDEX_HEADS + h];
            }
            want *= (double)scale[t * key_step + s];
            off += (got - want) * (got - want);
            all += want * want;
        }
    char size[96];
    snprintf(size, sizeof size, "%d tok %lld keys from %lld, %d each, step %lld", n_tok, (long long)n_key,
             (long long)pos0, each, (long long)key_step);
    report("index", size, all > 0.0 ? sqrt(off / all) : sqrt(off), 2e-3, wrong);
    cudaFree(const_cast<uint8_t *>(a.q)), cudaFree(const_cast<uint8_t *>(a.k));
    cudaFree(const_cast<float *>(a.w)), cudaFree(const_cast<float *>(a.k_scale)), cudaFree(a.score);
}

/* kind: 0 normal, 1 few values, 2 all equal, 3 with NaN, infinities and both zeros, 4 falling, 5 mostly NaN, 6 a
 * cluster, 7 all negative. */
static float random_score(int kind, int64_t s, int64_t n) {
    switch (kind) {
    case 1: return (float)(int)(normal() * 3.0f);
    case 2: return 0.25f;
    case 3: {
        int r = (int)(random_bits() % 20);
        return r == 0 ? NAN : r == 1 ? INFINITY : r == 2 ? -INFINITY : r == 3 ? -0.0f : r < 6 ? 0.0f : normal();
    }
    case 4: return (float)(n - s);
    case 5: return random_bits() % 50 ? NAN : normal();
    case 6: return s >= n / 3 && s < n / 3 + 3000 ? 5.0f + normal() : normal();
    case 7: return -fabsf(normal()) - 1.0f;
    default: return normal();
    }
}
static void check_topk(int kind, int n_row, int64_t n_key, int64_t pos0, int row_step, int n_select, int threads,
                       int parts) {
    int64_t stride = (n_key + 7) / 4 * 4;
    std::vector<float> score((size_t)n_row * stride);
    for (int r = 0; r < n_row; r++)
        for (int64_t s = 0; s < stride; s++)
            score[(size_t)r * stride + s] =
                s < n_key && s <= pos0 + r * row_step ? random_score(kind, s, n_key) : INFINITY;
    std::vector<int32_t> position((size_t)n_row * n_select, -7), count(n_row, -7);
    v32_topk a = {to_gpu(score), stride, pos0, n_key, row_step, n_row, n_select, to_gpu(position), to_gpu(count),
                  threads, parts};
    finish(v32_topk_launch(&a, 0), "topk");
    from_gpu(position, a.position);
    from_gpu(count, a.count);
    int wrong = 0;
    for (int r = 0; r < n_row; r++) {
        int n = (int)std::min(n_key, pos0 + (int64_t)r * row_step + 1), k = std::min(n, n_select);
        const float *row = &score[(size_t)r * stride];
        std::vector<int32_t> order(n);
        for (int i = 0; i < n; i++) order[i] = i;
        std::stable_sort(order.begin(), order.end(), [&](int32_t x, int32_t y) {
            if (isnan(row[x]) || isnan(row[y])) return !isnan(row[x]) && isnan(row[y]);
            return row[x] > row[y];
        });
        std::sort(order.begin(), order.begin() + k);
        bool same = count[r] == k;
        for (int i = 0; i < n_select; i++) same = same && position[(size_t)r * n_select + i] == (i < k ? order[i] : -7);
        wrong += !same;
    }
    char size[96];
    snprintf(size, sizeof size, "kind %d, %d rows of %lld from %lld, %d best, %d x %d", kind, n_row, (long long)n_key,
             (long long)pos0, n_select, parts, threads);
    report("topk", size, 0.0, 0.0, wrong);
    cudaFree(const_cast<float *>(a.score)), cudaFree(a.position), cudaFree(a.count);
}

int main(int argc, char **argv) {
    int n_device = 0;
    if (cudaGetDeviceCount(&n_device) != cudaSuccess || n_device < 1) {
        printf("skipped: no GPU\n");
        return SKIPPED;
    }
    if (argc < 3) {
        printf("usage: %s mla-bf16|mla-fp8|index|topk wgmma|sync [seed]\n", argv[0]);
        return 2;
    }
    make_e4m3_table();
    random_state = argc > 3 ? strtoull(argv[3], NULL, 10) : (uint64_t)time(NULL);
    bool small = getenv("PHAROS_TEST_SMALL") != NULL;
    printf("seed %llu\n", (unsigned long long)random_state);
    v32_variant variant = strcmp(argv[2], "sync") ? V32_WGMMA : V32_MMA_SYNC;
    if (!strcmp(argv[1], "index")) {
        check_index(variant, 1, 1, 0, 0);
        check_index(variant, 3, 70, 67, 0);
        check_index(variant, 5, 300, 250, 2);
        check_index(variant, 33, 40, 0, 0);
        if (variant == V32_WGMMA) {
            check_index(variant, 1, 1027, 1025, 0);
            check_index(variant, 2, 700, 500, 0, 704);
            check_index(variant, 5, 70, 69, 0, 72);
        }
        if (!small) {
            check_index(variant, 129, 1000, 871, 64);
            check_index(variant, 700, 20000, 19300, 0);
            check_index(variant, 600, 600, 0, 0);
            if (variant == V32_WGMMA) {
                check_index(variant, 1, 131072, 131071, 0);
                check_index(variant, 150, 5000, 4999, 0, 5000);
            }
        }
    } else if (!strcmp(argv[1], "topk")) {
        for (int threads = 512; threads <= 1024; threads *= 2) {
            check_topk(0, 3, 100, 40, 1, 64, threads, 1);
            check_topk(1, 2, 5000, 4999, 0, 64, threads, 1);
            check_topk(3, 2, 4500, 4490, 1, 100, threads, 1);
            check_topk(2, 1, 4400, 4399, 0, 33, threads, 1);
        }
        for (int kind = 0; kind < 8; kind++) { /* clusters: a number of scores that is none of 4, and the fallback */
            check_topk(kind, 2, 5003, 5001, 1, 100, 128, kind % 2 ? 2 : 4);
            if (!small || kind % 3 == 0) check_topk(kind, 1, 8000, 7999, 0, 300, 128, 8);
        }
        for (int kind = 0; kind < 8; kind += small ? 3 : 1) { /* parts that registers do not hold, and that nothing holds */
            check_topk(kind, 1, 12003, 12001, 0, 300, 128, 2);
            check_topk(kind, 1, 17009, 17007, 0, 300, 128, 2);
        }
        check_topk(0, 3, 100, 40, 1, 64, 128, 8);
        check_topk(0, 1, 2000, 1999, 0, 200, 128, 3);
        for (int kind = 0; kind < 8 && !small; kind++) {
            for (int parts = 0; parts <= 8; parts += 2) check_topk(kind, 3, 131072 - parts * 3, 131069, 1, 2048, 0, parts);
            check_topk(kind, 3, 131072, 131069, 1, 2048, kind & 1 ? 512 : 0, 1);
            check_topk(kind, 3, 2050, 2047, 1, 2048, 0, 0);
            check_topk(kind, 2, 6146, 6144, 1, 2048, 0, 1);
            check_topk(kind, 2, 6146, 6144, 1, 2048, 0, 8);
            check_topk(kind, 9, 4000, 3980, 1, 2048, 0, 0); /* fewer than a block collects, and its last part empty */
            for (int rows : {14, 20, 30, 50}) check_topk(kind, rows, 131072, 131050, 1, 2048, 0, 0);
            check_topk(kind, 20, 9001, 8900, 1, 2048, 0, 0);
            check_topk(kind, 40, 66000, 65900, 1, 2048, 0, 0);
            check_topk(kind, 200, 20000, 19000, 1, 2048, 0, 0);
        }
    } else check_all_mla(!strcmp(argv[1], "mla-fp8"), variant, small);
    printf("%s\n", n_failed ? "FAILED" : "all agree");
    return n_failed > 0;
}
