/* v32_time_layer.cu - one layer of V3.2 writing one token at 128K, with FP8 weights: every product, norm and rotation of
 * the layer by the table's operations, its selection and attention by the V3.2 kernels, as one CUDA graph. Left out: the
 * rounding of the index query and the appending of the new row, for which there is no FP8 kernel yet.
 *
 * Dimensions: the released config.json. The expert numbers are given, so that eight experts' weights are enough.
 */
#include "kernels/cuda/v32_time.cuh"

enum { HIDDEN = 7168, Q_LORA = 1536, N_HEAD = 128, NOPE = 128, INDEX_HEADS = 64, INDEX_DIM = 128, EXPERT = 2048,
       N_EXPERT = 256, N_PICK = 8 };

namespace {
class layer {
public:
    explicit layer(v32_run &run) : r(run), k(run.k), held(run.k->holds_fp8) {
        k->holds_fp8 = true;
        uint64_t state = 88172645463325252ull;
        codes.resize((size_t)HIDDEN * N_HEAD * 128);
        for (size_t i = 0; i < codes.size(); i++) {
            state ^= state << 13, state ^= state >> 7, state ^= state << 17;
            codes[i] = (uint8_t)((state & 0x87) | ((4 + (state >> 8 & 7)) << 3));
        }
        factors.assign((size_t)(HIDDEN / 128) * N_HEAD, 0.002f);
    }
    ~layer() {
        k->wait(k);
        for (kern_matrix *w : matrices) k->matrix_free(k, w);
        k->holds_fp8 = held;
    }
    double bytes = 0.0; /* of the weights */

    kern_matrix *matrix(int64_t rows, int64_t cols) {
        kern_matrix_source s = {};
        s.rows = rows, s.cols = cols, s.data = codes.data(), s.stride = cols, s.type = KERN_FP8;
        s.scale = factors.data(), s.scale_stride = (cols + 127) / 128;
        kern_matrix *w = nullptr;
        if (!r.code) r.code = k->matrix_make(k, &w, &s, KERN_BF16, r.error());
        if (w) matrices.push_back(w);
        bytes += (double)rows * (double)cols;
        return w;
    }
    void product(const kern_matrix *w, const float *x, float *y, int64_t x_stride, int64_t y_stride,
                 bool accumulate = false) const {
        kern_matmul a = {w, x, y, x_stride, y_stride, 1, accumulate};
        k->matmul(k, &a);
    }
    void norm(const float *x, const float *weight, float *y, int dim) const {
        kern_rmsnorm a = {x, weight, y, dim, dim, 1, dim, 1e-6f};
        k->rmsnorm(k, &a);
    }
    void rotate(float *x, int n_head, int64_t stride, const float *freq) const {
        kern_rope a = {x, n_head * stride, stride, freq, 1, n_head, V32_ROPE, V32_LENGTH - 1, KERN_ROPE_INTERLEAVED};
        k->rope(k, &a);
    }

private:
    v32_run &r;
    kern *k;
    bool held;
    std::vector<uint8_t> codes;
    std::vector<float> factors;
    std::vector<kern_matrix *> matrices;
};
} // namespace

void v32_time_layer(v32_run &r) {
    if (r.code) return;
    r.part = "one layer writing one token at 128K, FP8 weights, one conversation";
    kern *k = r.k;
    layer l(r);
    const kern_matrix *q_a = l.matrix(Q_LORA, HIDDEN), *q_b = l.matrix(N_HEAD * (NOPE + V32_ROPE), Q_LORA);
    const kern_matrix *kv_a = l.matrix(V32_KEY, HIDDEN), *o = l.matrix(HIDDEN, N_HEAD * NOPE);
    const kern_matrix *index_q = l.matrix(INDEX_HEADS * INDEX_DIM, Q_LORA), *index_k = l.matrix(INDEX_DIM, HIDDEN);
    const kern_matrix *index_w = l.matrix(INDEX_HEADS, HIDDEN), *router = l.matrix(N_EXPERT, HIDDEN);
    const kern_matrix *to_latent[N_HEAD], *of_latent[N_HEAD], *gate[N_PICK + 1], *up[N_PICK + 1], *down[N_PICK + 1];
    for (int h = 0; h < N_HEAD; h++) to_latent[h] = l.matrix(V32_LATENT, NOPE), of_latent[h] = l.matrix(NOPE, V32_LATENT);
    for (int e = 0; e <= N_PICK; e++)
        gate[e] = l.matrix(EXPERT, HIDDEN), up[e] = l.matrix(EXPERT, HIDDEN), down[e] = l.matrix(HIDDEN, EXPERT);

    float *x = r.random<float>(HIDDEN), *h = r.make<float>(HIDDEN), *weight = r.random<float>(HIDDEN, 0.0f, 1.0f);
    float *q_low = r.make<float>(Q_LORA), *q = r.make<float>(N_HEAD * (NOPE + V32_ROPE)), *kv = r.make<float>(V32_KEY);
    float *q_latent = r.make<float>(N_HEAD * V32_LATENT), *attended = r.make<float>(N_HEAD * V32_LATENT);
    float *values = r.make<float>(N_HEAD * NOPE), *iq = r.make<float>(INDEX_HEADS * INDEX_DIM);
    float *ik = r.make<float>(INDEX_DIM), *iw = r.make<float>(INDEX_HEADS), *freq = r.random<float>(V32_ROPE / 2, 0.1f);
    float *logits = r.make<float>(N_EXPERT), *picked_weight = r.make<float>(N_PICK), *y = r.make<float>(HIDDEN);
    int32_t *picked = r.make<int32_t>(N_PICK), *given = r.make<int32_t>(N_PICK);
    float *given_weight = r.random<float>(N_PICK, 0.01f, 0.125f);
    const int32_t first_eight[N_PICK] = {0, 1, 2, 3, 4, 5, 6, 7};
    if (!r.code) k->copy_in(k, given, first_eight, sizeof first_eight);

    v32_index index = {};
    index.q = r.random<uint8_t>(INDEX_HEADS * INDEX_DIM), index.w = r.random<float>(INDEX_HEADS, 0.01f);
    index.k = r.random<uint8_t>(V32_LENGTH * INDEX_DIM), index.k_scale = r.random<float>(V32_LENGTH, 0.001f, 0.01f);
    index.n_key = V32_LENGTH, index.pos0 = V32_LENGTH - 1, index.n_tok = 1;
    index.score = r.make<float>(V32_LENGTH), index.score_stride = V32_LENGTH;
    v32_topk topk = {index.score, V32_LENGTH, V32_LENGTH - 1, V32_LENGTH, 0, 1, V32_SELECT, r.make<int32_t>(V32_SELECT),
                     r.make<int32_t>(1), 0, 0, nullptr, 0};
    v32_mla mla = {};
    mla.fp8 = true, mla.cache = r.random<uint8_t>(V32_LENGTH * V32_FP8_ROW);
    mla.q = r.random<__nv_bfloat16>(N_HEAD * V32_KEY, 0.5f), mla.position = topk.position, mla.count = topk.count;
    mla.position_stride = V32_SELECT, mla.n_tok = 1, mla.n_head = N_HEAD, mla.scale = 0.1352337789f;
    mla.out_f32 = attended, mla.n_split = 16;
    mla.part_out = r.make<float>((int64_t)mla.n_split * N_HEAD * V32_LATENT);
    mla.part_lse = r.make<float>((int64_t)mla.n_split * N_HEAD);
    if (r.code) return;

    /* in lanes as the engine has them (engine/forward.c) */
    auto before = [&] {
        l.norm(x, weight, h, HIDDEN);
        k->lane(k, 1);
        l.product(kv_a, h, kv, HIDDEN, V32_KEY);
        l.norm(kv, weight, kv, V32_LATENT);
        l.rotate(kv + V32_LATENT, 1, V32_ROPE, freq);
        k->lane(k, 2);
        l.product(index_k, h, ik, HIDDEN, INDEX_DIM);
        kern_layernorm layernorm = {ik, weight, weight, ik, 1, INDEX_DIM, 1e-6f};
        k->layernorm(k, &layernorm);
        l.rotate(ik, 1, INDEX_DIM, freq);
        k->lane(k, 3);
        l.product(index_w, h, iw, HIDDEN, INDEX_HEADS);
        k->lane(k, 0);
        l.product(q_a, h, q_low, HIDDEN, Q_LORA);
        l.norm(q_low, weight, q_low, Q_LORA);
        k->lane(k, 3);
        l.product(q_b, q_low, q, Q_LORA, N_HEAD * (NOPE + V32_ROPE));
        l.rotate(q + NOPE, N_HEAD, NOPE + V32_ROPE, freq);
        kern_matmul_each each = {to_latent, N_HEAD, q, q_latent, NOPE + V32_ROPE, V32_LATENT, 0, 0, 1};
        k->matmul_each(k, &each);
        k->lane(k, 0);
        l.product(index_q, q_low, iq, Q_LORA, INDEX_HEADS * INDEX_DIM);
        l.rotate(iq, INDEX_HEADS, INDEX_DIM, freq);
        kern_hadamard hadamard = {iq, INDEX_HEADS, INDEX_DIM};
        k->hadamard(k, &hadamard);
        k->join(k);
    };
    auto attend = [&] {
        cudaError_t e = v32_index_launch(&index, V32_WGMMA, r.stream());
        if (e == cudaSuccess) e = v32_topk_launch(&topk, r.stream());
        if (e == cudaSuccess) e = v32_mla_launch(&mla, V32_WGMMA, r.stream());
        return e;
    };
    auto after = [&] {
        kern_matmul_each each = {of_latent, N_HEAD, attended, values, V32_LATENT, NOPE, 0, 0, 1};
        k->matmul_each(k, &each);
        l.product(o, values, y, N_HEAD * NOPE, HIDDEN);
        kern_add add = {y, nullptr, h, 1, HIDDEN};
        k->add(k, &add);
        l.norm(h, weight, h, HIDDEN);
    };
    auto feed = [&] {
        l.product(router, h, logits, HIDDEN, N_EXPERT);
        kern_route route = {logits, nullptr, picked, picked_weight, 1, N_EXPERT, N_PICK, 8, 4, true, 2.5f};
        k->route(k, &route);
        kern_experts experts = {};
        experts.gate = gate, experts.up = up, experts.down = down, experts.n_expert = N_PICK, experts.n_pick = N_PICK;
        experts.expert = given, experts.weight = given_weight, experts.x = h, experts.y = y, experts.n_shared = 1;
        experts.n_tok = 1, experts.hidden = HIDDEN, experts.width = EXPERT, experts.pos0 = V32_LENGTH - 1;
        k->experts(k, &experts);
    };
    /* each part as a graph, then all of them as one, in one chain and as the engine does a step */
    auto graph_of = [&](const char *what, auto body) {
        cudaGraph_t graph = nullptr;
        cudaGraphExec_t ready = nullptr;
        r.must(cudaStreamBeginCapture(r.stream(), cudaStreamCaptureModeRelaxed), what);
        cudaError_t e = body();
        r.must(cudaStreamEndCapture(r.stream(), &graph), what);
        r.must(e, what);
        if (!r.code) r.must(cudaGraphInstantiate(&ready, graph, 0), what);
        double t = r.median(what, 9, true, [&] { return cudaGraphLaunch(ready, r.stream()); });
        if (ready) cudaGraphExecDestroy(ready);
        if (graph) cudaGraphDestroy(graph);
        return t;
    };
    const double cache_bytes = (double)V32_LENGTH * 132 + (double)V32_SELECT * V32_FP8_ROW;
    const double expert_bytes = 3.0 * (N_PICK + 1) * EXPERT * HIDDEN + (double)N_EXPERT * HIDDEN;
    double peak = r.peaks.bytes_per_s, t;
    t = graph_of("selection and attention", [&] { return attend(); });
    r.tell("selection and attention", t, cache_bytes, true, peak);
    t = graph_of("its products, norms, rotations", [&] { return before(), after(), cudaSuccess; });
    r.tell("its products, norms, rotations", t, l.bytes - expert_bytes, true, peak);
    t = graph_of("eight experts and the shared one", [&] { return feed(), cudaSuccess; });
    r.tell("eight experts and the shared one", t, expert_bytes, true, peak);
    auto whole = [&] {
        before();
        cudaError_t e = attend();
        after(), feed();
        return e;
    };
    t = r.median("the layer", 9, true, whole);
    r.tell("the layer, kernel by kernel", t, l.bytes + cache_bytes, true, peak);
    t = graph_of("the layer", whole);
    r.tell("the layer, in one chain, as one CUDA graph", t, l.bytes + cache_bytes, true, peak);
    t = r.median("the layer as a step", 9, true, [&] {
        const char key[] = "layer";
        cudaError_t e = cudaSuccess;
        if (k->step_begin(k, key, sizeof key, V32_LENGTH - 1)) {
            e = whole();
            if (!k->step_end(k)) e = whole();
        }
        return e;
    });
    cuda_steps_forget(k); /* what is freed now was part of it */
    r.tell("the layer, as one CUDA graph", t, l.bytes + cache_bytes, true, peak);
    if (t > 0 && peak > 0)
        r.tell("time of the layer over its bytes at the bandwidth", 0, 0, false, 0, t * peak / (l.bytes + cache_bytes));
    r.drop();
}
