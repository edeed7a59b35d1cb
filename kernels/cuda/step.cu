/* step.cu - decoding steps as CUDA graphs.
 *
 * A token's step is hundreds of launches of a few microseconds each; what they say is the same for every token but the
 * position. So a step that comes for the second time is recorded (stream capture) and from then on launched as one
 * graph. Kernels add a number in the device's memory (`moved`) to their positions; grids and strides are those of the
 * end of a stretch of CUDA_STRETCH positions, beyond which the step is recorded anew. What a kernel computes does not
 * depend on how many blocks find nothing to do, so that bits are those of the launches.
 *
 * Lanes are branches of the graph: a step's operations form chains that need each other only at a few points.
 */
#include "kernels/cuda/cuda.h"

#include <cstdlib>
#include <cstring>

enum { STEPS = 8, KEY_BYTES = 64 };

struct cuda_step {
    unsigned char key[KEY_BYTES];
    size_t key_bytes;
    int64_t pos0;          /* of the recording */
    int64_t end;           /* positions before it can be done with it */
    cudaGraphExec_t graph; /* NULL: the step was seen once */
    unsigned long used;    /* the greater, the later */
};

struct cuda_steps {
    cuda_step step[STEPS];
    cuda_step *open; /* that is recorded now */
    unsigned long turn;
    bool refused; /* the driver does not record */
    bool forked[CUDA_LANES]; /* the lane is part of the recording and not joined */
    cudaEvent_t event;
};

static __global__ void set_moved(int64_t *moved, int64_t by) {
    *moved = by;
}

int cuda_steps_open(kern *k, ph_error *err) {
    cuda_state *s = cuda_state_of(k);
    s->steps = static_cast<cuda_steps *>(calloc(1, sizeof *s->steps));
    if (!s->steps) return ph_fail(err, PH_MEMORY, "No memory for the cuda backend.");
    s->lanes[0] = s->stream;
    cudaError_t e = cudaEventCreateWithFlags(&s->steps->event, cudaEventDisableTiming);
    for (int i = 1; i < CUDA_LANES && e == cudaSuccess; i++)
        e = cudaStreamCreateWithFlags(&s->lanes[i], cudaStreamNonBlocking);
    if (e != cudaSuccess) {
        cudaGetLastError();
        return ph_fail(err, PH_FAIL, "the GPU failed in making streams: %s", cudaGetErrorString(e));
    }
    return cuda_allocate(k, reinterpret_cast<void **>(&s->moved), 256, "a position", err);
}

void cuda_steps_forget(kern *k) {
    cuda_steps *all = cuda_state_of(k)->steps;
    if (!all) return;
    for (cuda_step &step : all->step) {
        if (step.graph) {
            cudaStreamSynchronize(cuda_stream(k));
            cudaGraphExecDestroy(step.graph);
        }
        step = {};
    }
}

void cuda_steps_close(kern *k) {
    cuda_state *s = cuda_state_of(k);
    if (!s->steps) return;
    cuda_steps_forget(k);
    for (int i = 1; i < CUDA_LANES; i++)
        if (s->lanes[i]) cudaStreamDestroy(s->lanes[i]);
    if (s->steps->event) cudaEventDestroy(s->steps->event);
    cudaFree(s->moved);
    free(s->steps);
    s->steps = nullptr;
}

/* ---- lanes ---- */

/* What `from` was asked for so far comes before what `to` is asked for from now on. */
static void follow(cuda_state *s, int from, int to) {
    if (cudaEventRecord(s->steps->event, s->lanes[from]) != cudaSuccess ||
        cudaStreamWaitEvent(s->lanes[to], s->steps->event, 0) != cudaSuccess)
        s->record_failed = true;
}

void cuda_lane(kern *k, int lane) {
    cuda_state *s = cuda_state_of(k);
    if (!s->recording || lane < 0 || lane >= CUDA_LANES || lane == s->lane) return;
    if (lane) {
        follow(s, 0, lane);
        s->steps->forked[lane] = true;
    }
    s->lane = lane;
}

void cuda_join(kern *k) {
    cuda_state *s = cuda_state_of(k);
    if (!s->recording) return;
    for (int i = 1; i < CUDA_LANES; i++) {
        if (s->steps->forked[i]) follow(s, i, 0);
        s->steps->forked[i] = false;
    }
    s->lane = 0;
}

/* ---- steps ---- */

/* The step with this key, or the place of the one that was not used for the longest time, emptied. */
static cuda_step *find(kern *k, const void *key, size_t key_bytes) {
    cuda_steps *all = cuda_state_of(k)->steps;
    cuda_step *oldest = &all->step[0];
    for (cuda_step &step : all->step) {
        if (step.used && step.key_bytes == key_bytes && !memcmp(step.key, key, key_bytes)) return &step;
        if (step.used < oldest->used) oldest = &step;
    }
    if (oldest->graph) {
        cudaStreamSynchronize(cuda_stream(k)); /* it may still be running */
        cudaGraphExecDestroy(oldest->graph);
    }
    *oldest = {};
    return oldest;
}

static void run(kern *k, const cuda_step *step, int64_t pos0) {
    cudaStream_t stream = cuda_stream(k);
    set_moved<<<1, 1, 0, stream>>>(cuda_state_of(k)->moved, pos0 - step->pos0);
    cuda_launched(k, "a step's position");
    cuda_noted(k, cudaGraphLaunch(step->graph, stream), "a step");
}

bool cuda_step_begin(kern *k, const void *key, size_t key_bytes, int64_t pos0) {
    cuda_state *s = cuda_state_of(k);
    cuda_steps *all = s->steps;
    all->open = nullptr;
    if (all->refused || key_bytes > KEY_BYTES) return true;
    cuda_step *step = find(k, key, key_bytes);
    bool seen = step->used != 0;
    step->used = ++all->turn;
    if (step->graph && pos0 < step->end) {
        run(k, step, pos0);
        return false;
    }
    if (!seen) { /* once is no reason: a recording takes longer than the step */
        memcpy(step->key, key, key_bytes);
        step->key_bytes = key_bytes;
        return true;
    }
    if (step->graph) {
        cudaStreamSynchronize(cuda_stream(k));
        cudaGraphExecDestroy(step->graph);
        step->graph = nullptr;
    }
    cudaStream_t stream = cuda_stream(k);
    if (cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) != cudaSuccess) {
        cudaGetLastError();
        all->refused = true;
        return true;
    }
    step->pos0 = pos0;
    step->end = (pos0 + CUDA_STRETCH) / CUDA_STRETCH * CUDA_STRETCH;
    all->open = step;
    s->lane = 0;
    s->record_failed = false;
    s->recording = true;
    return true;
}

bool cuda_step_end(kern *k) {
    cuda_state *s = cuda_state_of(k);
    cuda_steps *all = s->steps;
    cuda_step *step = all->open;
    if (!step) return true;
    cuda_join(k);
    s->recording = false;
    all->open = nullptr;
    cudaGraph_t graph = nullptr;
    cudaError_t e = cudaStreamEndCapture(s->stream, &graph);
    if (e == cudaSuccess && s->record_failed) e = cudaErrorStreamCaptureInvalidated;
    if (e == cudaSuccess) e = cudaGraphInstantiate(&step->graph, graph, 0);
    if (graph) cudaGraphDestroy(graph);
    if (e != cudaSuccess) { /* the step is done without; so are all that follow */
        cudaGetLastError();
        step->graph = nullptr;
        all->refused = true;
        return false;
    }
    run(k, step, step->pos0);
    return true;
}
