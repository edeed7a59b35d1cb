/* test_cuda_ranks.c - what several GPUs compute is what one computes. First the operations that are dealt
 * out, all parts on one GPU: products by columns, experts, attention by heads, put together by the sum over
 * ranks, to the bit. Then, where there are two GPUs that talk through NCCL, what test_ranks.c says of the
 * processor. */
#include "kernels/group.h"
#include "tests/test_cuda.h"

#include <pthread.h>

/* ---- a part's numbers, and the sum over parts ---- */

/* y[n] = the sum of the parts' n numbers each. */
static float *summed(float *parts, int n_part, int64_t n) {
    float *y = poison_gpu((size_t)n * 4);
    gpu->sum(gpu, &(kern_sum){.parts = parts, .y = y, .stride = n, .n = n, .n_part = n_part});
    gpu->free(gpu, parts);
    return from_gpu(y, (size_t)n * 4);
}

typedef struct fp8_numbers {
    uint8_t *codes;
    float *scale;
} fp8_numbers;

static fp8_numbers make_codes(int64_t rows, int64_t cols) {
    int64_t blocks = (rows + 127) / 128 * ((cols + 127) / 128);
    fp8_numbers w = {test_bytes((size_t)(rows * cols)), test_array(blocks)};
    for (int64_t i = 0; i < rows * cols; i++)
        w.codes[i] = ph_f32_to_fp8(test_uniform() * (i % 7 ? 1.0f : 0.01f));
    for (int64_t i = 0; i < blocks; i++) w.scale[i] = test_uniform() + 1.5f;
    return w;
}

/* Columns [first, first + n) of [rows, cols]. */
static kern_matrix *part_of(const fp8_numbers *w, int64_t rows, int64_t cols, int64_t first, int64_t n,
                            int64_t segment, kern_type keep) {
    kern_matrix *m = NULL;
    kern_matrix_source s = {.rows = rows,
                            .cols = n,
                            .data = w->codes + first,
                            .stride = cols,
                            .type = KERN_FP8,
                            .scale = w->scale,
                            .scale_stride = (cols + 127) / 128,
                            .scale_col0 = first,
                            .segment = segment};
    assert_int_equal(gpu->matrix_make(gpu, &m, &s, keep, NULL), PH_OK);
    return m;
}

/* A matrix cut along its columns: what 2, 4 and 8 parts give together is what the whole one gives. */
static void columns_in_parts(void **state) {
    (void)state;
    /* columns, columns of a segment, FP8 codes or else fp32 numbers */
    const int shapes[][3] = {{200, 25, 0},    {1024, 128, 0},  {4096, 512, 1},
                             {9216, 1152, 1}, {8192, 1024, 1}, {16384, 1024, 1}};
    const int counts[] = {1, 3, 16, 17, 60, 130};
    bool before = gpu->holds_fp8;
    gpu->holds_fp8 = true;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int rows = test_between(1, 90), cols = shapes[i][0], segment = shapes[i][1];
        kern_type keep = shapes[i][2] ? KERN_BF16 : KERN_F32;
        if (test_too_big((double)rows * cols * 20)) continue;
        fp8_numbers w = make_codes(rows, cols);
        float *x = test_values(130 * cols), *dx = floats_to_gpu(x, 130 * cols);
        kern_matrix *whole = part_of(&w, rows, cols, 0, cols, segment, keep);
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            int n = counts[c];
            if (test_small() && c % 3 != i % 3) continue;
            float *dy = poison_gpu((size_t)(n * rows) * 4);
            gpu->matmul(gpu, &(kern_matmul){whole, dx, dy, cols, rows, n, false});
            float *want = from_gpu(dy, (size_t)(n * rows) * 4);
            for (int parts = 2; parts <= 8; parts *= 2) {
                int64_t each = cols / parts, size = (int64_t)n * rows;
                float *all = poison_gpu((size_t)(parts * size) * 4);
                for (int p = 0; p < parts; p++) {
                    kern_matrix *m = part_of(&w, rows, cols, p * each, each, segment, keep);
                    gpu->matmul(gpu, &(kern_matmul){m, dx + p * each, all + p * size, cols, rows, n, false});
                    gpu->wait(gpu);
                    gpu->matrix_free(gpu, m);
                }
                float *got = summed(all, parts, size);
                assert_same_bytes(got, want, (size_t)size * 4);
                free(got);
            }
            free(want);
        }
        gpu->matrix_free(gpu, whole);
        gpu->free(gpu, dx);
        free(w.codes), free(w.scale), free(x);
    }
    gpu->holds_fp8 = before;
}

/* The bits of `rank` in reverse: the first of the experts that a rank has (engine/model.c). */
static int turned(int rank, int ranks) {
    int first = 0;
    for (int bit = 1; bit < ranks; bit *= 2) first = 2 * first + (rank / bit & 1);
    return first;
}

enum { EXPERTS = 16, PICKS = 4, MOST_SHARED = 2, HIDDEN = 136, WIDTH = 72, MOST = EXPERTS + MOST_SHARED };

typedef struct expert_set {
    fp8_numbers w[3][MOST];
    kern_matrix *g[3][MOST], *c[3][MOST]; /* the GPU's, the processor's */
} expert_set;

static expert_set make_experts(kern_type keep) {
    expert_set s;
    for (int j = 0; j < 3; j++)
        for (int e = 0; e < MOST; e++) {
            int rows = j < 2 ? WIDTH : HIDDEN, cols = j < 2 ? HIDDEN : WIDTH;
            s.w[j][e] = make_codes(rows, cols);
            for (int i = 0; i < 4; i++) s.w[j][e].scale[i % 2] /= 8;
            s.g[j][e] = part_of(&s.w[j][e], rows, cols, 0, cols, 0, keep);
            kern_matrix_source source = {.rows = rows,
                                         .cols = cols,
                                         .data = s.w[j][e].codes,
                                         .stride = cols,
                                         .type = KERN_FP8,
                                         .scale = s.w[j][e].scale,
                                         .scale_stride = (cols + 127) / 128};
            assert_int_equal(cpu->matrix_make(cpu, &s.c[j][e], &source, KERN_F32, NULL), PH_OK);
        }
    return s;
}

static void free_experts(expert_set *s) {
    for (int j = 0; j < 3; j++)
        for (int e = 0; e < MOST; e++) {
            gpu->matrix_free(gpu, s->g[j][e]);
            cpu->matrix_free(cpu, s->c[j][e]);
            free(s->w[j][e].codes), free(s->w[j][e].scale);
        }
}

/* y[N, HIDDEN] += what the experts of rank `rank` of `ranks` give; dy is in the GPU's memory. */
static void run_experts(const expert_set *s, int rank, int ranks, int n_shared, int64_t pos0,
                        const int32_t *expert, const float *weight, const float *x, float *dy, int n) {
    const kern_matrix *own[3][MOST];
    int here = EXPERTS / ranks, first = turned(rank, ranks);
    for (int j = 0; j < 3; j++) {
        for (int i = 0; i < here; i++) own[j][i] = s->g[j][first + i * ranks];
        for (int i = 0; i < n_shared; i++) own[j][here + i] = s->g[j][EXPERTS + i];
    }
    gpu->experts(gpu, &(kern_experts){.gate = own[0],
                                      .up = own[1],
                                      .down = own[2],
                                      .n_expert = here,
                                      .n_pick = PICKS,
                                      .first = first,
                                      .step = ranks,
                                      .n_routed = EXPERTS,
                                      .n_shared = n_shared,
                                      .pos0 = pos0,
                                      .expert = expert,
                                      .weight = weight,
                                      .x = x,
                                      .y = dy,
                                      .n_tok = n,
                                      .hidden = HIDDEN,
                                      .width = WIDTH});
}

/* Routed and shared experts, dealt out to 1, 2, 4 and 8: the bits of one, which is near the processor. */
static void experts_in_parts(void **state) {
    (void)state;
    enum { N = 230 };
    const int counts[] = {1, 5, 40, N};
    bool before = gpu->holds_fp8;
    for (int way = 0; way < 3; way++) { /* fp32, bf16, codes */
        gpu->holds_fp8 = way == 2;
        expert_set s = make_experts(way ? KERN_BF16 : KERN_F32);
        for (size_t c = 0; c < sizeof counts / sizeof *counts * 3; c++) {
            int n = counts[c / 3], n_shared = (int)(c % 3), picks = PICKS + n_shared;
            int64_t pos0 = test_between(0, 100000), size = (int64_t)n * HIDDEN;
            if (test_too_big((double)n * picks * HIDDEN * WIDTH * 12)) continue;
            float *x = test_values(size), *y = test_values(size), *weight = test_values(n * PICKS);
            float *all_weight = test_array(n * picks), *want = test_array(size);
            int32_t *expert = test_bytes((size_t)(n * PICKS) * 4),
                    *all_expert = test_bytes((size_t)(n * picks) * 4);
            for (int t = 0; t < n; t++)
                for (int p = 0; p < picks; p++) {
                    if (p < PICKS) { /* different ones, in no order */
                        expert[t * PICKS + p] = (test_between(0, 3) * 4 + p * 5 + t * 7) % EXPERTS;
                        for (int i = 0; i < p; i++)
                            if (expert[t * PICKS + i] == expert[t * PICKS + p]) {
                                expert[t * PICKS + p] = (expert[t * PICKS + p] + 1) % EXPERTS;
                                i = -1;
                            }
                    }
                    all_expert[t * picks + p] = p < PICKS ? expert[t * PICKS + p] : EXPERTS + p - PICKS;
                    all_weight[t * picks + p] = p < PICKS ? weight[t * PICKS + p] : 1.0f;
                }
            float *dx = floats_to_gpu(x, size), *dw = floats_to_gpu(weight, n * PICKS),
                  *dy = floats_to_gpu(y, size);
            int32_t *de = to_gpu(expert, (size_t)(n * PICKS) * 4);
            run_experts(&s, 0, 1, n_shared, pos0, de, dw, dx, dy, n);
            float *got = from_gpu(dy, (size_t)size * 4);
            memcpy(want, y, (size_t)size * 4);
            float *in = test_array(size), *out = test_array(size), *scale = test_array(n),
                  *gate = test_array(n * WIDTH), *up = test_array(n * WIDTH);
            cpu->experts(cpu, &(kern_experts){.gate = (const kern_matrix *const *)s.c[0],
                                              .up = (const kern_matrix *const *)s.c[1],
                                              .down = (const kern_matrix *const *)s.c[2],
                                              .n_expert = EXPERTS + n_shared,
                                              .n_pick = picks,
                                              .expert = all_expert,
                                              .weight = all_weight,
                                              .x = x,
                                              .y = want,
                                              .n_tok = n,
                                              .hidden = HIDDEN,
                                              .width = WIDTH,
                                              .rows_in = in,
                                              .rows_out = out,
                                              .rows_scale = scale,
                                              .rows_gate = gate,
                                              .rows_up = up});
            assert_near(got, want, size, way ? 5e-2 : 2e-4, "experts");
            dy = poison_gpu((size_t)size * 4);
            gpu->zero(gpu, dy, (size_t)size * 4);
            run_experts(&s, 0, 1, n_shared, pos0, de, dw, dx, dy, n);
            float *whole = from_gpu(dy, (size_t)size * 4);
            for (int ranks = 2; ranks <= 8; ranks *= 2) {
                float *parts = poison_gpu((size_t)(ranks * size) * 4);
                gpu->zero(gpu, parts, (size_t)(ranks * size) * 4);
                for (int r = 0; r < ranks; r++)
                    run_experts(&s, r, ranks, n_shared, pos0, de, dw, dx, parts + r * size, n);
                float *together = summed(parts, ranks, size);
                assert_same_bytes(together, whole, (size_t)size * 4);
                free(together);
            }
            /* the last row by itself, where it stands */
            dy = floats_to_gpu(y + size - HIDDEN, HIDDEN);
            run_experts(&s, 0, 1, n_shared, pos0 + n - 1, de + (n - 1) * PICKS, dw + (n - 1) * PICKS,
                        dx + size - HIDDEN, dy, 1);
            float *last = from_gpu(dy, HIDDEN * 4);
            assert_same_bytes(last, got + size - HIDDEN, HIDDEN * 4);
            gpu->free(gpu, dx), gpu->free(gpu, dw), gpu->free(gpu, de);
            free(x), free(y), free(weight), free(all_weight), free(want), free(expert), free(all_expert),
                free(got);
            free(in), free(out), free(scale), free(gate), free(up), free(whole), free(last);
        }
        free_experts(&s);
    }
    gpu->holds_fp8 = before;
}

/* Heads by themselves, whatever their number: V3.2's dimensions with both kinds of latents, and others. */
static void heads_in_parts(void **state) {
    (void)state;
    /* heads, latent, rotated, keys, selected, rows, FP8 latents, in a session */
    const int shapes[][8] = {{128, 512, 64, 700, 333, 1, 0, 1},   {128, 512, 64, 700, 333, 3, 0, 0},
                             {128, 512, 64, 3000, 2048, 1, 1, 1}, {128, 512, 64, 700, 200, 5, 1, 0},
                             {8, 72, 16, 300, 90, 4, 0, 1},       {8, 64, 16, 300, 90, 70, 0, 0}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int *s = shapes[i];
        int heads = s[0], latent = s[1], rope = s[2], n_key = s[3], topk = s[4], n = s[5],
            row = latent + rope;
        if (test_too_big((double)heads * row * topk * n * 4)) continue;
        if (s[6] && !(gpu->fp8_latents && gpu->fp8_latents(gpu, heads, latent, rope))) continue;
        bool near_mass = latent != 512 || rope != 64;
        kern_latents cache = {.type = s[6] ? KERN_FP8 : KERN_BF16, .kv_lora = latent, .rope = rope};
        cache.rows = poison_gpu((size_t)n_key * kern_latent_bytes(&cache));
        float *keys = test_values((int64_t)n_key * row), *dk = floats_to_gpu(keys, (int64_t)n_key * row);
        gpu->latent_append(gpu, &(kern_latent_append){cache, dk, dk + latent, row, row, 0, n_key});
        int32_t *position = test_bytes((size_t)(n * topk) * 4), *count = test_bytes((size_t)n * 4);
        for (int t = 0; t < n; t++) {
            count[t] = t ? test_between(0, topk) : topk;
            for (int p = 0; p < topk; p++) position[t * topk + p] = (int32_t)((int64_t)p * n_key / topk);
        }
        float *q = test_values((int64_t)n * heads * latent), *pe = test_values((int64_t)n * heads * rope);
        int32_t *dp = to_gpu(position, (size_t)(n * topk) * 4), *dc = to_gpu(count, (size_t)n * 4);
        float *dpe = floats_to_gpu(pe, (int64_t)n * heads * rope), *whole = NULL, *mass = NULL;
        for (int parts = 1; parts <= 8; parts *= 2) {
            int each = heads / parts;
            float *all_mass = poison_gpu((size_t)(parts * n * topk) * 4);
            for (int part = 0; part < parts; part++) {
                int64_t size = (int64_t)n * each * latent;
                float *own = test_array(size);
                for (int t = 0; t < n; t++)
                    memcpy(own + (int64_t)t * each * latent, q + ((int64_t)t * heads + part * each) * latent,
                           (size_t)(each * latent) * 4);
                float *dq = floats_to_gpu(own, size), *out = poison_gpu((size_t)size * 4);
                gpu->sparse_mla(gpu, &(kern_sparse_mla){.cache = cache,
                                                        .q_latent = dq,
                                                        .q_pe = dpe + part * each * rope,
                                                        .q_pe_tok_stride = heads * rope,
                                                        .q_pe_head_stride = rope,
                                                        .position = dp,
                                                        .count = dc,
                                                        .n_tok = n,
                                                        .n_head = each,
                                                        .n_select = topk,
                                                        .scale = 0.1f,
                                                        .out = out,
                                                        .mass = all_mass + (int64_t)part * n * topk,
                                                        .session = s[7] != 0});
                float *got = from_gpu(out, (size_t)size * 4);
                if (parts == 1) {
                    whole = got;
                } else {
                    for (int t = 0; t < n; t++)
                        assert_same_bytes(got + (int64_t)t * each * latent,
                                          whole + ((int64_t)t * heads + part * each) * latent,
                                          (size_t)(each * latent) * 4);
                    free(got);
                }
                gpu->free(gpu, dq);
                free(own);
            }
            float *together = summed(all_mass, parts, (int64_t)n * topk);
            for (int j = 0; j < n * topk; j++) together[j] *= 1.0f / (float)parts;
            if (parts == 1) {
                mass = together;
                for (int t = 0; t < n; t++) {
                    double sum = 0;
                    for (int p = 0; p < count[t]; p++) sum += (double)mass[t * topk + p];
                    assert_close((float)sum, count[t] > 0, 1e-3);
                }
                continue;
            }
            if (near_mass)
                assert_near(together, mass, (int64_t)n * topk, 1e-6, "mass");
            else
                assert_same_bytes(together, mass, (size_t)(n * topk) * 4);
            free(together);
        }
        gpu->free(gpu, cache.rows), gpu->free(gpu, dk), gpu->free(gpu, dp), gpu->free(gpu, dc),
            gpu->free(gpu, dpe);
        free(keys), free(position), free(count), free(q), free(pe), free(whole), free(mass);
    }
}

/* ---- sums over GPUs ---- */

enum { ROUNDS = 400 };

typedef struct summing {
    kern *k[KERN_MAX_RANKS];
    kern_group *g[KERN_MAX_RANKS];
    int ranks;
    uint64_t seed;
    int wrong[KERN_MAX_RANKS]; /* numbers that are not the tree's */
} summing;

typedef struct summing_seat {
    summing *s;
    int rank;
} summing_seat;

static float number_of(uint64_t seed, int rank, int round, int64_t i) {
    uint64_t z = seed + (uint64_t)rank * 1000003 + (uint64_t)round * 7919 + (uint64_t)i * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    return (float)(int32_t)(z >> 32) * 0x1p-20f;
}

/* Sizes by turns, many rounds without a wait between, results looked at by turns too. */
static void *sum_in_rounds(void *arg) {
    summing *s = ((summing_seat *)arg)->s;
    int rank = ((summing_seat *)arg)->rank;
    kern *k = s->k[rank];
    const int64_t sizes[] = {1,
                             3,
                             7168,
                             255,
                             KERN_GROUP_SMALL,
                             4,
                             4099,
                             28672,
                             KERN_GROUP_SMALL + 1,
                             16,
                             300001,
                             2000004,
                             KERN_GROUP_SMALL + 4};
    const int64_t most = 2000004;
    float *part = NULL, *work = NULL, *y = NULL, *also = NULL, *host = test_array(most),
          *in = test_array(most);
    s->wrong[rank] = k->alloc(k, (void **)&part, (size_t)kern_group_room(s->ranks, most) * 4, NULL) ||
                     k->alloc(k, (void **)&work, (size_t)kern_group_work(s->ranks, most) * 4, NULL) ||
                     k->alloc(k, (void **)&y, (size_t)most * 4, NULL) ||
                     k->alloc(k, (void **)&also, 2048 * 4, NULL);
    for (int round = 0; round < ROUNDS && !s->wrong[rank]; round++) {
        int64_t n = sizes[(round * 7 + round / 13) % 13],
                m = n % 4 == 0 && n + 2048 <= KERN_GROUP_SMALL && round % 3 ? 2048 : 0;
        for (int64_t i = 0; i < n + m; i++) in[i] = number_of(s->seed, rank, round, i);
        k->copy_in(k, part, in, (size_t)(n + m) * 4);
        k->zero(k, y, (size_t)n * 4);
        if (m)
            kern_group_sum_also(s->g[rank], k, part, y, n, also, m, work);
        else
            kern_group_sum(s->g[rank], k, part, y, n, work);
        for (int again = 0; again < round % 5 && n <= KERN_GROUP_SMALL; again++) /* y += the same, at once */
            kern_group_sum(s->g[rank], k, part, y, n, work);
        if (round % 4 == 1) continue; /* the next is asked for while this one runs */
        k->copy_out(k, host, y, (size_t)n * 4);
        if (m) k->copy_out(k, host + n, also, (size_t)m * 4);
        for (int64_t i = 0; i < n + m; i++) {
            float x[KERN_MAX_RANKS];
            for (int r = 0; r < s->ranks; r++) x[r] = number_of(s->seed, r, round, i);
            for (int apart = 1; apart < s->ranks; apart *= 2)
                for (int r = 0; r + apart < s->ranks; r += 2 * apart) x[r] += x[r + apart];
            volatile float want = i < n ? 0.0f + x[0] : x[0];
            for (int again = 0; again < round % 5 && n <= KERN_GROUP_SMALL && i < n; again++)
                want = want + x[0];
            s->wrong[rank] += host[i] != want;
        }
    }
    ph_error err = {0};
    if (s->g[rank]->status(s->g[rank], &err)) s->wrong[rank]++;
    k->free(k, part), k->free(k, work), k->free(k, y), k->free(k, also);
    free(host), free(in);
    return NULL;
}

static void gpus_add_up(void **state) {
    (void)state;
    summing s = {.seed = test_random()};
    int there = 0, version;
    ph_error err = {0};
    if (kern_cuda_devices(NULL, 0, &there, NULL, &err) || kern_nccl_find(&version, &err) || there < 2) skip();
    for (int ranks = 2; ranks <= there && ranks <= 8; ranks *= 2) {
        pthread_t thread[KERN_MAX_RANKS];
        summing_seat seats[KERN_MAX_RANKS];
        if (kern_open_ranks(s.k, &s.ranks, "cuda", ranks, 0, &err) ||
            kern_group_open(s.g, s.k, s.ranks, &err))
            fail_msg("%s", err.text);
        print_message("%d GPUs %s\n", ranks,
                      s.g[0]->sum ? "through each other's memory" : "by NCCL's gathers");
        for (int r = 0; r < ranks; r++) {
            seats[r] = (summing_seat){&s, r};
            assert_int_equal(pthread_create(&thread[r], NULL, sum_in_rounds, &seats[r]), 0);
        }
        for (int r = 0; r < ranks; r++) pthread_join(thread[r], NULL);
        for (int r = 0; r < ranks; r++) assert_int_equal(s.wrong[r], 0);
        kern_group_close(s.g, ranks);
        for (int r = 0; r < ranks; r++) s.k[r]->close(s.k[r]);
    }
}

/* Exit status: what one GPU says of parts. */
static int one_gpu(void) {
    int code = test_cuda_begin();
    if (code) return code;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_in_parts),
        cmocka_unit_test(experts_in_parts),
        cmocka_unit_test(heads_in_parts),
        cmocka_unit_test(gpus_add_up),
    };
    code = cmocka_run_group_tests(tests, NULL, NULL);
    test_cuda_end();
    return code;
}

#define TEST_ON_GPUS
#include "tests/test_ranks.c"
