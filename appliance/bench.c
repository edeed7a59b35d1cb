/* bench.c - runs what bench.h promises, on real text. */
#include "appliance/bench.h"

#include "ingest/ingest.h"
#include "ingest/pack.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Text that every Debian has, repeated until it fills the context: selections are a real text's, not noise's.
 */
static const char TEXT_FOLDER[] = "/usr/share/common-licenses";
static const char QUESTION[] = "When was version 3 of the GNU General Public License published?";
/* Written at each mark. A device's tokens take a millisecond, and from the second on they are kept steps. */
enum { MARK_TOKENS = 8, DEVICE_MARK_TOKENS = 64, FIRST_TOKENS = 2 /* that find cold caches, or are recorded */ };
enum { STEP_REPEATS = 3 };
static const double STEP_SECONDS = 0.1;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- the text ---- */

typedef struct gathering {
    engine *engine;
    pack_prompt *prompt;
    int64_t characters, want;
    int round, code;
    ph_error *err;
} gathering;

static int gather(void *user, const char *path, const char *name) {
    gathering *g = user;
    if ((int64_t)g->prompt->tokens.n >= g->want) return 1;
    FILE *f = fopen(path, "rb");
    if (!f) return 0;
    size_t capacity = 1 << 20;
    char *text = malloc(capacity), titled[300];
    size_t n = text ? fread(text, 1, capacity, f) : 0;
    fclose(f);
    snprintf(titled, sizeof titled, "copy %d/%.200s", g->round, name);
    pack_span span;
    if (n)
        g->code = pack_prompt_append(g->prompt, engine_tokenizer(g->engine), titled, text, 0, n, 1, 1, &span,
                                     g->err);
    g->characters += (int64_t)n;
    free(text);
    return g->code != PH_OK;
}

static int gather_text(gathering *g, ph_error *err) {
    int code = pack_prompt_begin(g->prompt, engine_prompt(g->engine), err);
    for (g->round = 1; !code && (int64_t)g->prompt->tokens.n < g->want; g->round++) {
        size_t before = g->prompt->tokens.n;
        code = ingest_walk(TEXT_FOLDER, gather, NULL, g, err);
        /* The walk says that it was stopped: by us, when there is enough, or by an error of its own in
         * g->code. */
        if (code == PH_INTERRUPTED) code = g->code;
        if (!code && g->prompt->tokens.n == before)
            code = ph_fail(err, PH_NOT_FOUND, "there is no text to read in %s", TEXT_FOLDER);
    }
    return code;
}

/* ---- prefill ---- */

typedef struct prefill {
    const bench_options *options;
    double last, before, total; /* seconds a token of the last chunk and the one before; seconds of all so far */
    double started;
    int64_t position;
} prefill;

static int timed(void *user, int64_t done, int64_t total) {
    prefill *p = user;
    double t = now();
    p->before = p->last;
    p->last = (t - p->started) / (double)(done - p->position);
    p->total += t - p->started;
    p->position = done;
    int stop = p->options->progress ? p->options->progress(p->options->user, done, p->options->length) : 0;
    (void)total;
    p->started = now();
    return stop;
}

static int64_t next_mark(int64_t position) {
    static const int64_t marks[] = {1024, 2048, 4096, 8192, 16384, 32768, 65536, 98304, INT64_MAX};
    int i = 0;
    while (marks[i] <= position) i++;
    return marks[i];
}

/* Time of one step on top of what is there. */
static int feed_step(engine *e, context *c, const int32_t *tokens, int n, bool dense, double *seconds_a_token,
                     ph_error *err) {
    session *s = NULL;
    int code = session_open(&s, c, err);
    if (code) return code;
    engine_set_dense(e, dense);
    int64_t from = session_length(s);
    double best = INFINITY, all = 0;
    /* A step of milliseconds is not measured by one. */
    for (int i = 0; i < STEP_REPEATS && all < STEP_SECONDS && !code; i++) {
        double t = now();
        code = session_feed(s, tokens, n, NULL, NULL, err);
        t = now() - t;
        best = fmin(best, t);
        all += t;
        if (!code) code = session_rewind(s, from, err);
    }
    *seconds_a_token = best / n;
    engine_set_dense(e, false);
    session_close(s);
    return code;
}

static int mark_tokens(engine *e) {
    return engine_kernels(e)->on_device ? DEVICE_MARK_TOKENS : MARK_TOKENS;
}

/* Time of a written token on top of what is there. */
static int decode_step(engine *e, context *c, bool dense, double *seconds_a_token, ph_error *err) {
    session *s = NULL;
    int32_t start = engine_prompt(e)->assistant;
    int code = session_open(&s, c, err);
    if (code) return code;
    engine_set_dense(e, dense);
    generate_options g = {.max_tokens = FIRST_TOKENS, .ignore_eos = true};
    code = session_feed(s, &start, 1, NULL, NULL, err);
    if (!code) code = session_generate(s, &g, NULL, err);
    g.max_tokens = mark_tokens(e);
    double t = now();
    if (!code) code = session_generate(s, &g, NULL, err);
    *seconds_a_token = (now() - t) / g.max_tokens;
    engine_set_dense(e, false);
    session_close(s);
    return code;
}

static int run_prefill(bench_result *r, engine *e, context *c, const int32_t *tokens, const bench_options *o,
                       ph_error *err) {
    prefill p = {.options = o};
    int64_t room = engine_config(e)->max_positions;
    int step = engine_kernels(e)->chunk;
    bool device = engine_kernels(e)->on_device, dense = engine_has_dense(e);
    for (int64_t at = 0; at < r->length;) {
        int64_t to = next_mark(at) < r->length ? next_mark(at) : r->length;
        p.started = now();
        int code = context_read(c, tokens, to, timed, &p, NULL, err);
        if (code) return code;
        at = to;
        if (at == 8192) r->sparse_8k_s = p.total;
        bench_mark *m = &r->marks[r->n_marks++];
        /* A device's last chunk has its way to the file in it, which for the others goes on beside the next one. */
        *m = (bench_mark){.position = at, .sparse = device && p.before > 0 ? p.before : p.last};
        kernel_times_pause(true);
        if (at + mark_tokens(e) + FIRST_TOKENS + 1 <= room) {
            code = decode_step(e, c, false, &m->sparse_decode, err);
            if (!code && dense) code = decode_step(e, c, true, &m->dense_decode, err);
        }
        if (!code && dense && at + step <= room) code = feed_step(e, c, tokens, step, true, &m->dense, err);
        /* And there it may be shorter than a step: the same step as the dense one. */
        if (!code && device && at + step <= room) code = feed_step(e, c, tokens, step, false, &m->sparse, err);
        kernel_times_pause(false);
        if (code) return code;
    }
    r->sparse_s = p.total;
    return PH_OK;
}

/* A device loads each kernel when it is first used: once through all of them before anything is timed. */
static int warm_up(engine *e, const int32_t *tokens, int64_t length, ph_error *err) {
    context *c = NULL;
    int step = engine_kernels(e)->chunk;
    double unused;
    int64_t n = step + step / 2 < length ? step + step / 2 : length;
    int code = context_open(&c, e, NULL, 0, NULL, err);
    if (!code) code = context_read(c, tokens, n, NULL, NULL, NULL, err);
    if (!code) code = decode_step(e, c, false, &unused, err);
    if (!code && engine_has_dense(e)) code = decode_step(e, c, true, &unused, err);
    for (int dense = 0; dense < 1 + engine_has_dense(e) && !code && n + step <= engine_config(e)->max_positions; dense++)
        code = feed_step(e, c, tokens, step, dense, &unused, err);
    context_close(c);
    return code;
}

static int read_in_memory(bench_result *r, engine *e, const int32_t *tokens, const bench_options *o, double *seconds,
                          ph_error *err) {
    context *c = NULL;
    prefill p = {.options = o};
    int code = context_open(&c, e, NULL, 0, NULL, err);
    p.started = now();
    if (!code) code = context_read(c, tokens, r->length, timed, &p, NULL, err);
    context_close(c);
    *seconds = p.total;
    return code;
}

/* On a device the clocks make every operation wait, so that the stages have a prefill of their own. */
static int run_stages(bench_result *r, engine *e, const int32_t *tokens, const bench_options *o, ph_error *err) {
    double with_clocks;
    int code = read_in_memory(r, e, tokens, o, &r->memory_s, err);
    kernel_times_start(engine_kernels(e), engine_group(e));
    if (!code) code = read_in_memory(r, e, tokens, o, &with_clocks, err);
    kernel_times_get(r->stages);
    kernel_times_stop(engine_kernels(e), engine_group(e));
    return code;
}

/* Dense time of the whole prefill from the steps at the marks: attention's cost is linear in the position. */
static double integrate_dense(const bench_result *r) {
    double sum = 0, last_position = 0, last = r->marks[0].dense;
    for (int i = 0; i < r->n_marks; i++) {
        const bench_mark *m = &r->marks[i];
        /* No room for a step at the very end: the line is continued. */
        double here = m->dense > 0
                          ? m->dense
                          : last + (last - r->marks[i - 2].dense) /
                                       (double)(r->marks[i - 1].position - r->marks[i - 2].position) *
                                       (double)(m->position - r->marks[i - 1].position);
        sum += (here + last) / 2 * ((double)m->position - last_position);
        last = here;
        last_position = (double)m->position;
    }
    return sum;
}

static int run_dense(bench_result *r, engine *e, const int32_t *tokens, const bench_options *o,
                     ph_error *err) {
    context *c = NULL;
    prefill p = {.options = o};
    engine_set_dense(e, true);
    int code = context_open(&c, e, NULL, 0, NULL, err);
    p.started = now();
    if (!code) code = context_read(c, tokens, r->length, timed, &p, NULL, err);
    context_close(c);
    engine_set_dense(e, false);
    r->dense_s = p.total;
    r->dense_whole = true;
    return code;
}

/* ---- a question on what was read ---- */

static int stamp_first(void *user, const generate_step *step) {
    double *at = user;
    (void)step;
    if (*at == 0) *at = now();
    return 0;
}

static int run_question(bench_result *r, engine *e, const char *path, ph_error *err) {
    context *c = NULL;
    session *s = NULL;
    token_list q = {0};
    double t = now(), first = 0;
    const char *why = NULL;
    int code = prompt_question(engine_prompt(e), engine_tokenizer(e), QUESTION, strlen(QUESTION), 0, &q, err);
    if (!code) code = context_open(&c, e, path, 0, &why, err);
    if (!code && (why || context_length(c) != r->length))
        code =
            ph_fail(err, PH_CORRUPT, "the snapshot did not come back whole: %s", why ? why : "it is shorter");
    r->restore_ms = (now() - t) * 1e3;
    if (!code) code = session_open(&s, c, err);
    if (!code) code = session_feed(s, q.ids, (int64_t)q.n, NULL, NULL, err);
    generate_options g = {
        .max_tokens = 1, .trace = true, .ignore_eos = true, .step = stamp_first, .user = &first};
    if (!code) code = session_generate(s, &g, NULL, err);
    r->first_token_ms = (first - t) * 1e3;
    r->question_tokens = (int)q.n;
    session_close(s);
    context_close(c);
    token_list_free(&q);
    return code;
}

static int run_decode(double *tok_s, engine *e, const char *path, int n, bool dense, ph_error *err) {
    context *c = NULL;
    session *s = NULL;
    int32_t start = engine_prompt(e)->assistant;
    int code = context_open(&c, e, path, 0, NULL, err);
    if (!code) code = session_open(&s, c, err);
    engine_set_dense(e, dense);
    if (!code) code = session_feed(s, &start, 1, NULL, NULL, err);
    generate_options g = {.max_tokens = FIRST_TOKENS, .trace = true, .ignore_eos = true};
    if (!code) code = session_generate(s, &g, NULL, err);
    g.max_tokens = n;
    double t = now();
    if (!code) code = session_generate(s, &g, NULL, err);
    *tok_s = n / (now() - t);
    engine_set_dense(e, false);
    session_close(s);
    context_close(c);
    return code;
}

/* ---- floors ---- */

/* Weights that one token is multiplied with on each rank (engine/PARALLEL.md). A prefill's index queries are dealt out by
 * the row, a written token's are everybody's. */
static double weights_a_token(const model_config *c, int ranks, bool reading) {
    double n = 0;
    for (int i = 0; i < c->layers; i++) {
        double dealt = (double)c->q_lora * c->heads * (c->nope + c->rope) +
                       (double)c->heads * c->kv_lora * (c->nope + c->v_dim) + (double)c->heads * c->v_dim * c->hidden;
        n += (double)c->hidden * (c->q_lora + c->kv_lora + c->rope);
        if (c->index_full[i])
            n += (double)c->hidden * c->index_dim +
                 ((double)c->q_lora * c->index_dim + c->hidden) * c->index_heads / (reading ? ranks : 1);
        double width = c->moe_layer[i] ? (double)c->expert_width * (c->experts_per_token + c->shared_experts)
                                       : c->dense_width;
        dealt += 3.0 * c->hidden * width;
        n += dealt / ranks + (c->moe_layer[i] ? (double)c->hidden * c->experts : 0);
    }
    return n;
}

static void set_floors(bench_result *r, engine *e) {
    const kern_peaks *p = &r->peaks;
    const model_config *c = engine_config(e);
    double bf16 = p->bf16_flops > 0 ? p->bf16_flops : p->f32_flops,
           i8 = p->i8_ops > 0 ? p->i8_ops : p->f32_flops;
    int ranks = engine_ranks(e);
    r->stages[STAGE_MATMUL].operations = 2 * weights_a_token(c, ranks, true) * (double)r->length;
    r->floors[STAGE_MATMUL] = r->stages[STAGE_MATMUL].operations / bf16;
    r->floors[STAGE_INDEX] = r->stages[STAGE_INDEX].operations / i8;
    r->floors[STAGE_SPARSE] = r->stages[STAGE_SPARSE].operations / bf16;
    r->floors[STAGE_APPEND] = (double)engine_context_bytes(e, r->length) / p->bytes_per_s;
    /* One decoded token reads every weight, the head, and every index key once. */
    double keys = (double)(engine_context_bytes(e, r->length) - engine_latent_bytes(e, r->length));
    double bytes =
        engine_weight_bytes(e) * (weights_a_token(c, ranks, false) + (double)c->vocab * c->hidden / ranks) + keys;
    r->decode_floor_tok_s = p->bytes_per_s / bytes;
}

/* Memory of the process that no file backs, in bytes. */
static double anonymous_now(void) {
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    double kb = 0;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "RssAnon: %lf kB", &kb) == 1) break;
    if (f) fclose(f);
    return kb * 1024;
}

/* Peaks are measured before and after: a busy moment of the machine lowers one of the two, and a floor may
 * not stand above what was reached in between. */
static void measure_peaks(kern_peaks *best, engine *e) {
    kern_peaks now_peaks;
    engine_kernels(e)->measure_peaks(engine_kernels(e), &now_peaks);
    best->f32_flops = fmax(best->f32_flops, now_peaks.f32_flops);
    best->bf16_flops = fmax(best->bf16_flops, now_peaks.bf16_flops);
    best->i8_ops = fmax(best->i8_ops, now_peaks.i8_ops);
    best->bytes_per_s = fmax(best->bytes_per_s, now_peaks.bytes_per_s);
}

int bench_run(bench_result *out, engine *e, const bench_options *o, ph_error *err) {
    memset(out, 0, sizeof *out);
    const model_config *config = engine_config(e);
    int64_t most = config->max_positions - 256;
    out->length = o->length > 0 ? o->length : most;
    if (out->length > most || out->length < 1024)
        return ph_fail(err, PH_TOO_LARGE, "a length of %lld tokens is not within 1024 and %lld",
                       (long long)out->length, (long long)most);
    char path[4096];
    if (snprintf(path, sizeof path, "%s/bench-%d.snapshot", o->folder, (int)getpid()) >= (int)sizeof path)
        return ph_fail(err, PH_USAGE, "the path of the data folder is too long");
    measure_peaks(&out->peaks, e);
    pack_prompt prompt = {0};
    bool device = engine_kernels(e)->on_device;
    gathering g = {.engine = e, .prompt = &prompt, .want = out->length + engine_kernels(e)->chunk, .err = err};
    context *c = NULL;
    int code = gather_text(&g, err);
    out->characters =
        prompt.tokens.n ? (int64_t)((double)g.characters * (double)out->length / (double)prompt.tokens.n) : 0;
    if (!code && device) code = warm_up(e, prompt.tokens.ids, out->length, err);
    if (!code) code = context_open(&c, e, path, 0, NULL, err);
    if (!code) {
        if (!device) kernel_times_start(engine_kernels(e), engine_group(e));
        code = run_prefill(out, e, c, prompt.tokens.ids, o, err);
        kernel_times_get(out->stages);
        if (!device) kernel_times_stop(engine_kernels(e), engine_group(e));
    }
    context_close(c);
    if (!code) out->anonymous_bytes = anonymous_now();
    if (!code) code = run_question(out, e, path, err);
    if (!code && device) code = run_stages(out, e, prompt.tokens.ids, o, err);
    int n = o->decode_tokens > 0 ? o->decode_tokens : 64;
    if (!code) code = run_decode(&out->decode_tok_s, e, path, n, false, err);
    if (!code && engine_has_dense(e))
        code = run_decode(&out->dense_decode_tok_s, e, path, n < 8 || device ? n : 8, true, err);
    if (!code) {
        double after = anonymous_now();
        if (after > out->anonymous_bytes) out->anonymous_bytes = after;
        if (engine_has_dense(e)) out->dense_s = integrate_dense(out);
        measure_peaks(&out->peaks, e);
        set_floors(out, e);
        if (o->whole_dense && engine_has_dense(e)) code = run_dense(out, e, prompt.tokens.ids, o, err);
    }
    unlink(path);
    pack_prompt_free(&prompt);
    return code;
}
