/* group_check.cpp - kernels/cuda/group.cu without a GPU, on top of fake_nccl.c: the library is found, exchanges put
 * everything where group.h says, sums have their order, and a rank's failure ends the others' waiting.
 *
 *     group_check sound | fails | missing
 */
#include "kernels/cuda/group.cu"

#include <thread>
#include <vector>

/* What group.cu needs of the backend. */
cudaStream_t cuda_stream(const kern *k) {
    return nullptr;
}
/* There is no such way here. */
cuda_direct *cuda_direct_open(kern *const *k, int n) {
    return nullptr;
}
void cuda_direct_close(cuda_direct *d) {
}
void cuda_direct_sum(cuda_direct *d, int rank, const float *part, float *y, int64_t n, float *also, int64_t m) {
}
bool cuda_direct_failed(const cuda_direct *d) {
    return false;
}
extern "C" cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    return cudaSuccess;
}

enum { N = 4 };

static void sum(kern *k, const kern_sum *a) {
    for (int64_t i = 0; i < a->n; i++) {
        const float *p = a->parts + i;
        float s = a->n_part == N ? (p[0] + p[a->stride]) + (p[2 * a->stride] + p[3 * a->stride]) : p[0];
        a->y[i] = a->accumulate ? a->y[i] + s : s;
    }
}

static kern backends[N];
static cuda_state states[N];
static kern *k[N];
static kern_group *g[N];
static int wrong[N];

static void everywhere(void (*job)(int rank)) {
    std::vector<std::thread> threads;
    for (int r = 0; r < N; r++) threads.emplace_back(job, r);
    for (std::thread &t : threads) t.join();
}

static float number(int rank, int64_t i) {
    return (float)((i * 2654435761u + (uint64_t)rank * 40503u) % 1000003) / 997.0f - 500.0f;
}

static void exchanges(int rank) {
    for (int round = 1; round < 200; round++) {
        size_t n = (size_t)round % 7 + 1;
        std::vector<int> out(n * N), in(n * N), all(n * N);
        for (size_t i = 0; i < n; i++) all[(size_t)rank * n + i] = rank * 1000 + round + (int)i;
        g[rank]->all_gather(g[rank], &all[(size_t)rank * n], all.data(), n * 4);
        for (size_t i = 0; i < n * N; i++) wrong[rank] += all[i] != (int)(i / n) * 1000 + round + (int)(i % n);
        for (size_t i = 0; i < n * N; i++) out[i] = rank * 100000 + (int)i * 100 + round % 100;
        g[rank]->exchange(g[rank], out.data(), in.data(), n * 4);
        for (size_t i = 0; i < n * N; i++)
            wrong[rank] += in[i] != (int)(i / n) * 100000 + (int)((size_t)rank * n + i % n) * 100 + round % 100;
        for (size_t i = 0; i < n; i++) out[i] = rank ? -1 : round;
        g[rank]->broadcast(g[rank], out.data(), n * 4);
        for (size_t i = 0; i < n; i++) wrong[rank] += out[i] != round;
    }
    for (int64_t n : {(int64_t)3, (int64_t)KERN_GROUP_SMALL, (int64_t)KERN_GROUP_SMALL + 1, (int64_t)200001}) {
        std::vector<float> part((size_t)kern_group_room(N, n)), work((size_t)kern_group_work(N, n)), y((size_t)n, 0.25f);
        for (int64_t i = 0; i < n; i++) part[(size_t)i] = number(rank, i);
        kern_group_sum(g[rank], k[rank], part.data(), y.data(), n, work.data());
        for (int64_t i = 0; i < n; i++) {
            float want = (number(0, i) + number(1, i)) + (number(2, i) + number(3, i));
            wrong[rank] += y[(size_t)i] != 0.25f + want;
        }
    }
    wrong[rank] += g[rank]->status(g[rank], nullptr) != PH_OK;
}

static int fail(const char *what) {
    printf("%s\n", what);
    return 1;
}

int main(int argc, char **argv) {
    const char *way = argc > 1 ? argv[1] : "";
    int version = 0;
    ph_error err = {};
    for (int r = 0; r < N; r++) {
        states[r].device = r;
        backends[r].state = &states[r];
        backends[r].name = "cuda";
        backends[r].cache_layout = "none";
        backends[r].on_device = true;
        backends[r].sum = sum;
        k[r] = &backends[r];
    }
    if (!strcmp(way, "missing")) {
        if (!kern_nccl_find(&version, &err) || !err.text[0]) return fail("a library that is not there was found");
        if (kern_group_open(g, k, N, &err) != PH_UNSUPPORTED || !strstr(err.text, "needs NCCL")) return fail(err.text);
        return 0;
    }
    bool sound = !strcmp(way, "sound");
    if (!sound) setenv("FAKE_NCCL_FAILS", "25", 1);
    if (kern_nccl_find(&version, &err) || version != 22105) return fail(err.text);
    if (kern_group_open(g, k, N, &err)) return fail(err.text);
    everywhere(exchanges);
    int code = 0;
    for (int r = 0; r < N; r++) {
        if (sound && wrong[r]) code = fail("something did not arrive where it should");
        if (sound) continue;
        err = ph_error{};
        if (g[r]->status(g[r], &err) != PH_FAIL || !strstr(err.text, "unhandled system error"))
            code = fail("a failure was not told on every rank");
    }
    kern_group_close(g, N);
    return code;
}
