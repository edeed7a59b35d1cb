/* cuda_product_check.cu - products of many rows with FP8 matrices, by Hopper's instructions and by those of every GPU:
 * the same bits, and near a sum in double; rows of several matrices, lists of experts, odd numbers of rows and columns.
 *
 *   cuda_product_check wgmma|sync [seed]
 *
 * Prints a line for each case; ends with 0 if all agree, 1 if not, 77 where there is no GPU for it. Results are poisoned
 * first, and so are the matrices' neighbours and what is between rows.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <algorithm>
#include <vector>

#include "kernels/cuda/product_many.cuh"
#include "tests/cuda_check.h"

static int below(int n) {
    return (int)(random_bits() % (uint64_t)n);
}
static std::vector<void *> memory_of_case;
template <class T> static T *on_gpu(const T *from, size_t n) {
    void *p = nullptr;
    must(cudaMalloc(&p, n * sizeof(T) + 16), "cudaMalloc");
    if (from) must(cudaMemcpy(p, from, n * sizeof(T), cudaMemcpyHostToDevice), "copy in");
    memory_of_case.push_back(p);
    return static_cast<T *>(p);
}
template <class T> static T *on_gpu(const std::vector<T> &v) {
    return on_gpu(v.data(), v.size());
}

struct shape {
    int rows, cols, segment;
    int n_matrix, n_tok;  /* heads: n_tok rows of each; experts: of each an odd number up to it */
    bool experts, listed; /* listed: rows are taken from a list */
    int row0, col0;
    bool factors, accumulate;
};

static void run_case(const shape &s, bool wgmma) {
    const int n_matrix = s.n_matrix, stride = (s.cols + 31) / 32 * 32, blocks = (s.cols + s.col0 + 127) / 128;
    /* matrices, their factors */
    std::vector<std::vector<uint8_t>> codes((size_t)n_matrix);
    std::vector<std::vector<float>> factors((size_t)n_matrix);
    std::vector<matrix_ref> refs;
    for (int m = 0; m < n_matrix; m++) {
        auto &c = codes[(size_t)m];
        c.assign((size_t)s.rows * (size_t)stride, 0);
        for (int r = 0; r < s.rows; r++)
            for (int i = 0; i < s.cols; i++) c[(size_t)r * (size_t)stride + (size_t)i] = random_code();
        factors[(size_t)m].resize((size_t)((s.rows + s.row0 + 127) / 128 * blocks));
        for (float &f : factors[(size_t)m]) f = 0.001f + 0.01f * (float)uniform();
        refs.push_back({on_gpu(c), s.factors ? on_gpu(factors[(size_t)m]) : nullptr, blocks, (int16_t)s.row0, (int16_t)s.col0});
    }
    /* which rows each has */
    std::vector<int32_t> start = {0}, tile_expert, tile_first, list;
    for (int m = 0; m < n_matrix; m++) {
        int n = s.experts ? (m == 1 ? 0 : 1 + below(s.n_tok)) : s.n_tok;
        start.push_back(start.back() + n);
        for (int i = 0; i < n; i += MANY_ROWS) tile_expert.push_back(m), tile_first.push_back(start[(size_t)m] + i);
    }
    tile_expert.push_back(-1), tile_first.push_back(0);
    const int n_row = start.back(), n_x = s.listed ? n_row / 2 + 1 : n_row;
    for (int i = 0; i < n_row; i++) list.push_back(s.listed ? below(n_x) : i);
    const int x_stride = s.cols + (s.cols % 4 ? 1 : 4), y_stride = s.rows + 3;
    std::vector<float> x((size_t)n_x * (size_t)x_stride, NAN), y((size_t)n_row * (size_t)y_stride, s.accumulate ? 1.5f : POISON);
    for (int i = 0; i < n_x; i++)
        for (int c = 0; c < s.cols; c++) {
            double v = (uniform() - 0.5) * (i % 5 == 1 ? 1e-6 : i % 5 == 2 ? 1e5 : 1.0);
            if (i % 7 == 3 && c % 50 == 0) v *= 3000.0; /* outliers */
            x[(size_t)i * (size_t)x_stride + (size_t)c] = i % 11 == 10 ? 0.0f : (float)v;
        }
    product p = {};
    p.x = on_gpu(x), p.y = on_gpu(y), p.x_stride = x_stride, p.y_stride = y_stride, p.w_stride = stride;
    p.x_step = (int64_t)s.n_tok * x_stride, p.y_step = (int64_t)s.n_tok * y_stride;
    p.n_tok = s.n_tok, p.rows = s.rows, p.cols = s.cols, p.segment = s.segment, p.shifted = s.col0 != 0;
    p.accumulate = s.accumulate, p.vector = s.cols % 4 == 0;
    int n_tile = n_matrix * cuda_blocks(s.n_tok, MANY_ROWS);
    if (s.experts) {
        p.list = s.listed ? on_gpu(list) : nullptr;
        p.start = on_gpu(start), p.tile_expert = on_gpu(tile_expert), p.tile_first = on_gpu(tile_first);
        n_tile = (int)tile_expert.size();
    }
    int device = 0, n_sm = 0;
    must(cudaGetDevice(&device), "a device");
    must(cudaDeviceGetAttribute(&n_sm, cudaDevAttrMultiProcessorCount, device), "its multiprocessors");
    int most_rows = n_row + (s.experts ? 5 : 0); /* more than there are */
    unsigned char *room = on_gpu(static_cast<unsigned char *>(nullptr), many_rows_bytes(most_rows, s.cols, s.segment));
    float *partial = on_gpu(static_cast<float *>(nullptr), many_partial_bytes(n_sm, s.cols, s.segment) / 4 + 1);
    many_rows ready = many_rows_in(room, most_rows, s.cols);
    must(many_prepare(p, nullptr, s.experts ? n_matrix : 0, ready, 0), "x");
    head_pointers heads = {};
    expert_pointers experts = {};
    for (int m = 0; m < n_matrix; m++) s.experts ? experts.w[m] = refs[(size_t)m] : heads.w[m] = refs[(size_t)m];
    auto launch = [&](bool hopper) {
        auto with = [&](const auto &w) {
            return hopper ? many_wgmma_launch(p, w, ready, n_tile, n_sm, partial, 0)
                          : many_launch(p, w, ready, n_tile, n_sm, partial, 0);
        };
        must(s.experts ? with(experts) : with(heads), "the launch");
        must(cudaDeviceSynchronize(), "the kernel");
    };
    std::vector<float> got(y.size()), other(y.size());
    launch(wgmma);
    must(cudaMemcpy(got.data(), p.y, got.size() * 4, cudaMemcpyDeviceToHost), "copy out");
    bool same = true;
    if (wgmma) {
        p.y = on_gpu(y);
        launch(false);
        must(cudaMemcpy(other.data(), p.y, other.size() * 4, cudaMemcpyDeviceToHost), "copy out");
        same = memcmp(got.data(), other.data(), got.size() * 4) == 0;
    }
    /* against double, every element; of large products some */
    double worst = 0.0;
    bool right = true;
    const int each = (int)((double)n_row * s.rows * s.cols / 5e7) + 1;
    for (int m = 0; m < n_matrix; m++)
        for (int r = start[(size_t)m]; r < start[(size_t)m + 1]; r++)
            for (int n = 0; n < y_stride; n++) {
                size_t i = (size_t)r * (size_t)y_stride + (size_t)n;
                if (n >= s.rows) {
                    if (memcmp(&got[i], &y[i], 4)) right = false;
                    continue;
                }
                if (each > 1 && below(each)) continue;
                double sum = 0.0, size = 1e-30;
                for (int c = 0; c < s.cols; c++) {
                    double f = s.factors ? factors[(size_t)m][(size_t)((n + s.row0) / 128 * blocks + (c + s.col0) / 128)] : 1.0;
                    double v = (double)x[(size_t)list[(size_t)r] * (size_t)x_stride + (size_t)c] * f *
                               float_of_e4m3(codes[(size_t)m][(size_t)n * (size_t)stride + (size_t)c]);
                    sum += v, size += fabs(v);
                }
                if (s.accumulate) sum += 1.5, size += 1.5;
                double error = fabs(got[i] - sum) / size;
                if (!(error < 5.2e-4)) right = false; /* fp16 of x: 2^-11 of each */
                worst = std::max(worst, error);
            }
    printf("%s%d x %d, segments of %d, %s %d x up to %d rows%s%s%s: %s, worst error %.1e of the sum of sizes%s\n",
           right && same ? "" : "WRONG: ", s.rows, s.cols, s.segment, s.experts ? "experts" : "matrices", n_matrix, s.n_tok,
           s.listed ? ", listed" : "", s.row0 || s.col0 ? ", offset factors" : "", s.accumulate ? ", added" : "",
           right ? "right" : "not right", worst, wgmma ? same ? ", the same bits by mma.sync" : ", other bits by mma.sync" : "");
    if (!right || !same) n_failed++;
    for (void *q : memory_of_case) cudaFree(q);
    memory_of_case.clear();
}

int main(int argc, char **argv) {
    bool wgmma = argc > 1 && strcmp(argv[1], "wgmma") == 0;
    if (argc < 2 || (!wgmma && strcmp(argv[1], "sync") != 0)) {
        fprintf(stderr, "usage: cuda_product_check wgmma|sync [seed]\n");
        return 2;
    }
    random_state = argc > 2 ? strtoull(argv[2], nullptr, 10) : (uint64_t)time(nullptr);
    int n_device = 0, device = 0, major = 0;
    if (cudaGetDeviceCount(&n_device) != cudaSuccess || n_device == 0) {
        printf("no GPU here\n");
        return SKIPPED;
    }
    must(cudaGetDevice(&device), "a device");
    must(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "its capability");
    if (wgmma && major != 9) {
        printf("not a Hopper GPU\n");
        return SKIPPED;
    }
    printf("seed %llu\n", (unsigned long long)random_state);
    bool small = getenv("PHAROS_TEST_SMALL") != nullptr;
    std::vector<shape> cases = {
        /* rows, cols, segment, matrices, n_tok, experts, listed, row0, col0, factors, accumulate */
        {100, 128, 1024, 1, 1, false, false, 0, 0, true, false},
        {130, 640, 128, 1, 70, false, false, 64, 0, true, false},
        {128, 256, 128, 2, 130, false, false, 0, 0, false, true},
        {300, 896, 128, 3, 90, true, true, 0, 0, true, false},
        {260, 768, 256, 1, 150, false, false, 0, 0, true, false},
    };
    if (!small) {
        cases.push_back({576, 7168, 1024, 1, 300, false, false, 0, 0, true, false});
        cases.push_back({1000, 16384, 1024, 1, 129, false, false, 0, 0, true, true});
        cases.push_back({520, 2304, 1152, 1, 511, false, false, 72, 0, true, false});
        cases.push_back({512, 128, 1024, 128, 77, false, false, 0, 0, true, false});
        cases.push_back({2048, 1024, 1024, 8, 500, true, true, 0, 0, true, false});
        cases.push_back({700, 2048, 1024, 8, 400, true, false, 0, 0, true, false});
        cases.push_back({24576, 1536, 1024, 1, 300, false, false, 0, 0, true, false});
    }
    if (!wgmma) {
        cases.push_back({70, 200, 128, 1, 40, false, false, 8, 24, true, false});
        cases.push_back({129, 403, 256, 2, 33, true, true, 120, 104, true, true});
        cases.push_back({40, 100, 1024, 1, 3, false, false, 0, 64, true, false});
    }
    for (const shape &s : cases) run_case(s, wgmma);
    if (n_failed) printf("%d cases failed\n", n_failed);
    return n_failed ? 1 : 0;
}
