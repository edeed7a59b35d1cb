/* v32_time_products.cu - products of a prefill step at V3.2's dimensions with FP8 weights: single matrices, and the experts
 * of one of eight GPUs.
 */
#include "kernels/cuda/v32_time.cuh"

enum { STEP = 4096, HIDDEN = 7168, EXPERT = 2048, N_EXPERT = 256, N_PICK = 8, GPUS = 8 };

namespace {
/* Matrices of random codes, freed together. */
class weights {
public:
    explicit weights(v32_run &run) : r(run), k(run.k), held(run.k->holds_fp8) {
        k->holds_fp8 = true;
        uint64_t state = 88172645463325252ull;
        codes.resize((size_t)MOST);
        for (uint8_t &c : codes) {
            state ^= state << 13, state ^= state >> 7, state ^= state << 17;
            c = (uint8_t)((state & 0x87) | ((4 + (state >> 8 & 7)) << 3));
        }
        factors.assign((size_t)MOST / (128 * 128), 0.002f);
    }
    ~weights() {
        k->wait(k);
        for (kern_matrix *w : matrices) k->matrix_free(k, w);
        k->holds_fp8 = held;
    }
    const kern_matrix *make(int64_t rows, int64_t cols) {
        kern_matrix_source s = {};
        s.rows = rows, s.cols = cols, s.data = codes.data(), s.stride = cols, s.type = KERN_FP8;
        s.scale = factors.data(), s.scale_stride = (cols + 127) / 128;
        kern_matrix *w = nullptr;
        if (!r.code) r.code = k->matrix_make(k, &w, &s, KERN_BF16, r.error());
        if (w) matrices.push_back(w);
        return w;
    }

private:
    static constexpr int64_t MOST = (int64_t)HIDDEN * 18432;
    v32_run &r;
    kern *k;
    bool held;
    std::vector<uint8_t> codes;
    std::vector<float> factors;
    std::vector<kern_matrix *> matrices;
};
} // namespace

static void time_matrix(v32_run &r, const char *what, int rows, int cols, int n_tok) {
    if (r.code) return;
    weights all(r);
    const kern_matrix *w = all.make(rows, cols);
    float *x = r.random<float>((int64_t)n_tok * cols), *y = r.make<float>((int64_t)n_tok * rows);
    double t = r.median(what, 7, false, [&] {
        kern_matmul a = {w, x, y, cols, rows, n_tok, false};
        r.k->matmul(r.k, &a);
        return cudaSuccess;
    });
    r.tell(what, t, 2.0 * n_tok * rows * cols, false, r.peaks.bf16_flops);
    r.drop();
}

static void time_experts(v32_run &r) {
    if (r.code) return;
    const int here = N_EXPERT / GPUS;
    weights all(r);
    const kern_matrix *gate[here], *up[here], *down[here];
    for (int e = 0; e < here; e++)
        gate[e] = all.make(EXPERT, HIDDEN), up[e] = all.make(EXPERT, HIDDEN), down[e] = all.make(HIDDEN, EXPERT);
    std::vector<int32_t> picks((size_t)STEP * N_PICK);
    uint64_t state = 1, pairs = 0;
    for (size_t i = 0; i < picks.size(); i++) /* distinct within a token */
        for (bool again = true; again;) {
            state = state * 6364136223846793005ull + 1442695040888963407ull;
            picks[i] = (int32_t)(state >> 40) % N_EXPERT;
            again = false;
            for (size_t j = i / N_PICK * N_PICK; j < i; j++) again = again || picks[j] == picks[i];
        }
    for (int32_t e : picks) pairs += e % GPUS == 0;
    int32_t *picked = r.make<int32_t>(STEP * N_PICK);
    float *weight = r.random<float>(STEP * N_PICK, 0.01f, 0.125f);
    float *x = r.random<float>((int64_t)STEP * HIDDEN), *y = r.random<float>((int64_t)STEP * HIDDEN);
    if (!r.code) r.k->copy_in(r.k, picked, picks.data(), picks.size() * sizeof picks[0]);
    double t = r.median("experts of many rows", 5, false, [&] {
        kern_experts a = {};
        a.gate = gate, a.up = up, a.down = down, a.n_expert = here, a.n_pick = N_PICK, a.expert = picked;
        a.first = 0, a.step = GPUS, a.n_routed = N_EXPERT;
        a.weight = weight, a.x = x, a.y = y, a.n_tok = STEP, a.hidden = HIDDEN, a.width = EXPERT;
        r.k->experts(r.k, &a);
        return cudaSuccess;
    });
    r.tell("32 of 256 experts, 8 to a token", t, 6.0 * (double)pairs * HIDDEN * EXPERT, false, r.peaks.bf16_flops);
    r.drop();
}

void v32_time_products(v32_run &r) {
    r.part = "products of a prefill step of 4,096 tokens, FP8 weights";
    time_matrix(r, "7,168 x 16,384 (output of attention)", HIDDEN, 16384, STEP);
    time_matrix(r, "24,576 x 1,536 (queries)", 24576, 1536, STEP);
    time_matrix(r, "18,432 x 7,168 (gate of a dense layer)", 18432, HIDDEN, STEP);
    time_matrix(r, "576 x 7,168 (latents)", 576, HIDDEN, STEP);
    time_matrix(r, "7,168 x 16,384, 512 tokens", HIDDEN, 16384, 512);
    time_experts(r);
}
