/* open.cu - finding devices, opening one, its memory and its errors. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/pages.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <pthread.h>
#include <signal.h>

enum { PINNED_BYTES = 16 << 20, PREFILL_CHUNK = 4096, COPY_PARTS = 4, COPY_LEAST = 2 << 20 };

cudaStream_t cuda_stream(const kern *k) {
    const cuda_state *s = cuda_state_of(k);
    cudaSetDevice(s->device); /* it is a host thread's property */
    return s->recording ? s->lanes[s->lane] : s->stream;
}

void cuda_noted(const kern *k, cudaError_t e, const char *what) {
    cuda_state *s = cuda_state_of(k);
    if (e == cudaSuccess || s->failed != cudaSuccess) return;
    if (s->recording) { /* nothing was done, and the step can still be done without */
        s->record_failed = true;
        return;
    }
    s->failed = e;
    s->failed_in = what;
}

void cuda_launched(const kern *k, const char *what) {
    cuda_noted(k, cudaGetLastError(), what);
}

static int failed(ph_error *err, cudaError_t e, const char *what) {
    return ph_fail(err, PH_FAIL, "the GPU failed in %s: %s", what, cudaGetErrorString(e));
}

int cuda_allocate(const kern *k, void **out, size_t bytes, const char *what, ph_error *err) {
    cuda_stream(k);
    *out = nullptr;
    cudaError_t e = cudaMalloc(out, bytes ? bytes : 1);
    if (e == cudaErrorMemoryAllocation && cuda_pages_drain(const_cast<kern *>(k))) {
        cudaGetLastError();
        e = cudaMalloc(out, bytes ? bytes : 1);
    }
    if (e == cudaSuccess) return PH_OK;
    cudaGetLastError();
    if (e != cudaErrorMemoryAllocation) return failed(err, e, what);
    size_t rest = 0, all = 0;
    cudaMemGetInfo(&rest, &all);
    return ph_fail(err, PH_MEMORY,
                   "the GPU has no room for %s: it needs %.1f MB, and %.1f MB of its %.1f MB are free; free some, or "
                   "use --device cpu",
                   what, (double)bytes / 1e6, (double)rest / 1e6, (double)all / 1e6);
}

void cuda_allow_shared(const kern *k, const void *kernel, size_t bytes) {
    if (bytes <= 48 << 10) return;
    cuda_noted(k, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes), "shared memory");
}

/* ---- memory ---- */

static int device_alloc(kern *k, void **out, size_t bytes, ph_error *err) {
    int code = cuda_allocate(k, out, bytes, "an array", err);
    if (!code) cuda_noted(k, cudaMemsetAsync(*out, 0, bytes, cuda_stream(k)), "zeroing an array");
    return code;
}

static void device_free(kern *k, void *p) {
    if (!p) return;
    cuda_stream(k);
    if (cuda_pages_free(k, p)) return;
    cuda_noted(k, cudaFree(p), "freeing an array");
}

struct host_copy {
    void *to;
    const void *from;
    size_t bytes;
};

static void *copy_part(void *arg) {
    const host_copy *c = static_cast<host_copy *>(arg);
    memcpy(c->to, c->from, c->bytes);
    return nullptr;
}

/* One thread copies a part of what the bus to the device takes. */
static void copy_on_host(void *to, const void *from, size_t bytes) {
    host_copy part[COPY_PARTS];
    pthread_t thread[COPY_PARTS];
    bool started[COPY_PARTS] = {};
    size_t n = bytes >= COPY_LEAST ? COPY_PARTS : 1, each = bytes / n / 64 * 64;
    sigset_t all, before; /* signals belong to the caller's threads */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (size_t i = 0; i < n; i++) {
        part[i] = {static_cast<char *>(to) + i * each, static_cast<const char *>(from) + i * each,
                   i + 1 < n ? each : bytes - i * each};
        started[i] = i && pthread_create(&thread[i], nullptr, copy_part, &part[i]) == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    for (size_t i = 0; i < n; i++)
        if (!started[i]) copy_part(&part[i]);
    for (size_t i = 0; i < n; i++)
        if (started[i]) pthread_join(thread[i], nullptr);
}

/* Copies go through pinned memory: what the host passes is pageable, often a mapped file, and the driver's own way
 * for such memory waits for the device at every call. */
static void device_copy_in(kern *k, void *to, const void *from, size_t bytes) {
    cuda_state *s = cuda_state_of(k);
    cudaStream_t stream = cuda_stream(k);
    size_t half = s->pinned_bytes / 2;
    cudaEvent_t sent[2] = {}; /* a half is filled again when what it held is on the device, beside the other's way */
    for (int i = 0; i < 2 && bytes > 2 * half; i++)
        cuda_noted(k, cudaEventCreateWithFlags(&sent[i], cudaEventDisableTiming), "a copy to the device");
    for (size_t at = 0, turn = 0; at < bytes; at += half, turn ^= 1) {
        size_t n = bytes - at < half ? bytes - at : half;
        unsigned char *stage = s->pinned + turn * half;
        if (at >= 2 * half) cuda_noted(k, cudaEventSynchronize(sent[turn]), "a copy to the device");
        copy_on_host(stage, static_cast<const char *>(from) + at, n);
        cuda_noted(k, cudaMemcpyAsync(static_cast<char *>(to) + at, stage, n, cudaMemcpyHostToDevice, stream),
             "a copy to the device");
        if (sent[turn]) cuda_noted(k, cudaEventRecord(sent[turn], stream), "a copy to the device");
    }
    if (bytes) cuda_noted(k, cudaStreamSynchronize(stream), "a copy to the device");
    for (cudaEvent_t e : sent)
        if (e) cudaEventDestroy(e);
}

static void copy_out_in(kern *k, cudaStream_t stream, void *to, const void *from, size_t bytes) {
    cuda_state *s = cuda_state_of(k);
    size_t half = s->pinned_bytes / 2, have = 0, done = 0;
    /* One half is filled while the other is emptied. */
    for (int turn = 0; done < bytes; turn ^= 1) {
        size_t ready = have - done;
        if (have) cuda_noted(k, cudaStreamSynchronize(stream), "a copy from the device");
        if (have < bytes) {
            size_t n = bytes - have < half ? bytes - have : half;
            cuda_noted(k, cudaMemcpyAsync(s->pinned + (size_t)turn * half, static_cast<const char *>(from) + have, n,
                                    cudaMemcpyDeviceToHost, stream),
                 "a copy from the device");
            have += n;
        }
        if (ready) {
            memcpy(static_cast<char *>(to) + done, s->pinned + (size_t)(turn ^ 1) * half, ready);
            done += ready;
        }
    }
}

static void device_copy_out(kern *k, void *to, const void *from, size_t bytes) {
    copy_out_in(k, cuda_stream(k), to, from, bytes);
}

static void device_mark(kern *k) {
    cuda_noted(k, cudaEventRecord(cuda_state_of(k)->mark, cuda_stream(k)), "a mark");
}

static void device_copy_out_marked(kern *k, void *to, const void *from, size_t bytes) {
    cuda_state *s = cuda_state_of(k);
    cuda_stream(k);
    cuda_noted(k, cudaStreamWaitEvent(s->copies, s->mark, 0), "a mark");
    copy_out_in(k, s->copies, to, from, bytes);
}

static void device_copy(kern *k, void *to, const void *from, size_t bytes) {
    if (bytes) cuda_noted(k, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, cuda_stream(k)), "a copy");
}

static void device_zero(kern *k, void *p, size_t bytes) {
    if (bytes) cuda_noted(k, cudaMemsetAsync(p, 0, bytes, cuda_stream(k)), "zeroing");
}

static void device_wait(kern *k) {
    cuda_noted(k, cudaStreamSynchronize(cuda_stream(k)), "waiting");
}

static int device_status(kern *k, ph_error *err) {
    const cuda_state *s = cuda_state_of(k);
    return s->failed == cudaSuccess ? PH_OK : failed(err, s->failed, s->failed_in);
}

/* ---- opening ---- */

static int no_device(cudaError_t e, ph_error *err) {
    cudaGetLastError();
    if (e == cudaErrorInsufficientDriver)
        return ph_fail(err, PH_UNSUPPORTED, "there is no NVIDIA driver on this machine, or one too old for CUDA %d.%d",
                       CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    if (e == cudaSuccess || e == cudaErrorNoDevice)
        return ph_fail(err, PH_UNSUPPORTED, "there is no NVIDIA GPU on this machine");
    return ph_fail(err, PH_UNSUPPORTED, "the NVIDIA driver refuses: %s", cudaGetErrorString(e));
}

int kern_cuda_devices(kern_cuda_device *out, int most, int *n, int versions[2], ph_error *err) {
    *n = 0;
    if (versions) {
        versions[0] = 0;
        versions[1] = CUDART_VERSION;
        cudaDriverGetVersion(&versions[0]);
    }
    cudaError_t e = cudaGetDeviceCount(n);
    if (e != cudaSuccess || *n < 1) {
        *n = 0;
        return no_device(e, err);
    }
    for (int i = 0; i < *n && i < most; i++) {
        cudaDeviceProp p;
        memset(&out[i], 0, sizeof out[i]);
        if ((e = cudaGetDeviceProperties(&p, i)) != cudaSuccess) return no_device(e, err);
        memcpy(out[i].name, p.name, sizeof out[i].name - 1);
        out[i].major = p.major;
        out[i].minor = p.minor;
        out[i].n_sm = p.multiProcessorCount;
        out[i].memory = p.totalGlobalMem;
        out[i].paged = cuda_pages_known(i);
    }
    return PH_OK;
}

static void device_close(kern *k) {
    if (!k) return;
    cuda_state *s = cuda_state_of(k);
    if (s) {
        if (s->stream) {
            cudaStreamSynchronize(cuda_stream(k));
            cuda_steps_close(k);
            cuda_pages_close(k);
            cudaFree(s->work);
            cudaFreeHost(s->pinned);
            cudaStreamDestroy(s->stream);
        }
        if (s->copies) cudaStreamDestroy(s->copies);
        if (s->mark) cudaEventDestroy(s->mark);
        free(s);
    }
    free(k);
}

static void fill_table(kern *k) {
    k->close = device_close;
    k->alloc = device_alloc;
    k->free = device_free;
    k->copy_in = device_copy_in;
    k->copy_out = device_copy_out;
    k->copy = device_copy;
    k->zero = device_zero;
    k->mark = device_mark;
    k->copy_out_marked = device_copy_out_marked;
    k->wait = device_wait;
    k->step_begin = cuda_step_begin;
    k->step_end = cuda_step_end;
    k->step_forget = cuda_steps_forget;
    k->lane = cuda_lane;
    k->join = cuda_join;
    k->status = device_status;
    k->matrix_make = cuda_matrix_make;
    k->matrix_free = cuda_matrix_free;
    k->embedding_make = cuda_embedding_make;
    k->embedding_free = cuda_embedding_free;
    k->embed = cuda_embed;
    k->matmul = cuda_matmul;
    k->matmul_each = cuda_matmul_each;
    k->experts = cuda_experts;
    k->rmsnorm = cuda_rmsnorm;
    k->layernorm = cuda_layernorm;
    k->rope = cuda_rope;
    k->hadamard = cuda_hadamard;
    k->swiglu = cuda_swiglu;
    k->add = cuda_add;
    k->sum = cuda_sum;
    k->route = cuda_route;
    k->latent_append = cuda_latent_append;
    k->index_append = cuda_index_append;
    k->index_select = cuda_index_select;
    k->index_scores = cuda_index_scores;
    k->sparse_mla = cuda_sparse_mla;
    k->dense_mla = cuda_dense_mla;
    k->index_key_bytes = cuda_index_key_bytes;
    k->index_type = cuda_index_type;
    k->fp8_latents = cuda_fp8_latents;
    k->measure_peaks = cuda_measure_peaks;
}

int kern_open_cuda(kern **out, int device, ph_error *err) {
    *out = nullptr;
    kern_cuda_device found[16];
    int n = 0;
    int code = kern_cuda_devices(found, 16, &n, nullptr, err);
    if (code) return code;
    if (device < 0 || device >= n || device >= 16)
        return ph_fail(err, PH_UNSUPPORTED, "there is no GPU %d: the machine has %d, counted from 0", device, n);
    if (found[device].major < 8)
        return ph_fail(err, PH_UNSUPPORTED, "%s has compute capability %d.%d, and Pharos needs 8.0 (Ampere) or later",
                       found[device].name, found[device].major, found[device].minor);
    kern *k = static_cast<kern *>(calloc(1, sizeof *k));
    cuda_state *s = static_cast<cuda_state *>(calloc(1, sizeof *s));
    if (!k || !s) {
        free(k);
        free(s);
        return ph_fail(err, PH_MEMORY, "No memory for the cuda backend.");
    }
    k->name = "cuda";
    k->n_thread = 1;
    k->chunk = PREFILL_CHUNK;
    k->ranks_alike = true;
    k->on_device = true;
    k->memory = found[device].memory;
    k->state = s;
    fill_table(k);
    s->device = device;
    s->n_sm = found[device].n_sm;
    s->major = found[device].major;
    s->work_bytes = found[device].memory / 64;
    if (s->work_bytes < CUDA_WORK_BYTES) s->work_bytes = CUDA_WORK_BYTES;
    if (s->work_bytes > CUDA_WORK_MOST) s->work_bytes = CUDA_WORK_MOST;
    s->work_bytes &= ~(size_t)255;
    /* Another generation's tensor cores sum in another order: its snapshots are not taken for this one's. */
    snprintf(s->layout, sizeof s->layout, "i8x32 sm_%d%d n%d", found[device].major, found[device].minor, CUDA_NUMERICS);
    k->cache_layout = s->layout;
    int block_shared = 0;
    cudaError_t e = cudaSetDevice(device);
    if (e == cudaSuccess) e = cudaDeviceGetAttribute(&block_shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    s->block_shared = (size_t)block_shared;
    if (e == cudaSuccess) e = cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking);
    if (e == cudaSuccess) e = cudaStreamCreateWithFlags(&s->copies, cudaStreamNonBlocking);
    if (e == cudaSuccess) e = cudaEventCreateWithFlags(&s->mark, cudaEventDisableTiming);
    if (e == cudaSuccess) {
        s->pinned_bytes = PINNED_BYTES;
        e = cudaHostAlloc(reinterpret_cast<void **>(&s->pinned), PINNED_BYTES, cudaHostAllocDefault);
    }
    if (e != cudaSuccess) {
        cudaGetLastError();
        code = failed(err, e, "opening the device");
    } else
        code = cuda_allocate(k, reinterpret_cast<void **>(&s->work), s->work_bytes, "working memory", err);
    if (!code) code = cuda_steps_open(k, err);
    if (!code) code = cuda_pages_open(k, err);
    if (code) {
        device_close(k);
        return code;
    }
    *out = k;
    return PH_OK;
}
