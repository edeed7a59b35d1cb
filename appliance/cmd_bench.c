/* cmd_bench.c - `pharos bench`: the figures of bench.h as a table. */
#include "appliance/bench.h"
#include "appliance/cmd_bench_kernels.h"
#include "appliance/command.h"
#include "appliance/progress.h"

#include <stdlib.h>
#include <string.h>

typedef struct bench_command {
    common_options common;
    bench_options bench;
    progress line;
    double dollars; /* an hour */
    const char *csv, *svg;
    bool kernels;
} bench_command;

enum { OPTION_WHOLE = 3000, OPTION_DOLLARS, OPTION_CSV, OPTION_SVG, OPTION_KERNELS };

static const struct argp_option options[] = {
    {"length", 'l', "N", 0, "Tokens to read (the model's context)", 0},
    {"decode", 'n', "N", 0, "Tokens to write (64)", 0},
    {"whole-dense", OPTION_WHOLE, NULL, 0,
     "Run the whole dense prefill too, instead of integrating measured steps", 0},
    {"dollars-per-hour", OPTION_DOLLARS, "N", 0, "What the machine costs, for the cost curve (2)", 0},
    {"csv", OPTION_CSV, "FILE", 0, "Write the cost curve as a table", 0},
    {"svg", OPTION_SVG, "FILE", 0, "Write the cost curve as a picture", 0},
    {"kernels", OPTION_KERNELS, NULL, 0,
     "Instead: the CUDA kernels at DeepSeek-V3.2's dimensions, each beside its peak, dense beside sparse; needs a GPU, and "
     "no model",
     0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    bench_command *o = state->input;
    char *end = NULL;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->common;
        break;
    case 'l':
        o->bench.length = strtoll(arg, &end, 10);
        if (*end || o->bench.length < 1) argp_error(state, "%s is no number of tokens", arg);
        break;
    case 'n':
        o->bench.decode_tokens = (int)strtol(arg, &end, 10);
        if (*end || o->bench.decode_tokens < 1 || o->bench.decode_tokens > 200)
            argp_error(state, "%s is not within 1 and 200 tokens", arg);
        break;
    case OPTION_WHOLE:
        o->bench.whole_dense = true;
        break;
    case OPTION_DOLLARS:
        o->dollars = strtod(arg, &end);
        if (*end || end == arg || !(o->dollars > 0) || o->dollars > 1e6) argp_error(state, "%s is no price", arg);
        break;
    case OPTION_CSV:
        o->csv = arg;
        break;
    case OPTION_SVG:
        o->svg = arg;
        break;
    case OPTION_KERNELS:
        o->kernels = true;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp bench_argp = {
    options,
    parse,
    "",
    "Measures this machine: prefill by position, sparse beside dense, a question on "
    "a restored pack, decode. Every figure stands beside its floor.",
    common_child,
    NULL,
    NULL};

static int show_progress(void *user, int64_t done, int64_t total) {
    bench_command *o = user;
    progress_show(&o->line, "prefill", done, total, "tok");
    return interrupted;
}

static void print_cost(double seconds, double dollars) {
    if (seconds > 0)
        printf("  %9.4f", bench_dollars(seconds, dollars));
    else
        printf("  %9s", "");
}

static void print_costs(const bench_result *r, double dollars) {
    printf("\ndollars per million tokens at %.2f dollars an hour, one conversation at a time\n", dollars);
    printf("  %10s  %9s  %9s  %9s  %9s\n", "position", "prefill", "dense", "decode", "dense");
    for (int i = 0; i < r->n_marks; i++) {
        const bench_mark *m = &r->marks[i];
        printf("  %10lld", (long long)m->position);
        print_cost(m->sparse, dollars);
        print_cost(m->dense, dollars);
        print_cost(m->sparse_decode, dollars);
        print_cost(m->dense_decode, dollars);
        putchar('\n');
    }
}

static void print_result(const bench_result *r, engine *e, double dollars) {
    const kern_peaks *p = &r->peaks;
    kern *k = engine_kernels(e);
    printf("model %s, backend %s, %d threads", engine_model_name(e), k->name, k->n_thread);
    printf(engine_ranks(e) > 1 ? " on each of %d ranks\n" : "\n", engine_ranks(e));
    printf("peaks measured now: %.0f GFLOP/s fp32, %.0f bf16, %.0f GOP/s int8, %.1f GB/s\n\n",
           p->f32_flops / 1e9, p->bf16_flops / 1e9, p->i8_ops / 1e9, p->bytes_per_s / 1e9);
    printf("prefill of %lld tokens (%.0f KB of text): sparse %.2f s", (long long)r->length, (double)r->characters / 1e3,
           r->sparse_s);
    if (r->dense_s > 0)
        printf(", dense %.2f s (%s), ratio %.1f", r->dense_s, r->dense_whole ? "whole" : "integrated over the steps below",
               r->dense_s / r->sparse_s);
    putchar('\n');
    if (r->memory_s > 0) printf("without a snapshot file behind it: %.2f s\n", r->memory_s);
    if (r->sparse_8k_s > 0)
        printf("a token costs %.2f times what it costs in a prefill of 8192\n",
               (r->sparse_s / (double)r->length) / (r->sparse_8k_s / 8192));
    printf("\n  %10s  %14s  %14s  %s\n", "position", "sparse tok/s", "dense tok/s", "dense/sparse");
    for (int i = 0; i < r->n_marks; i++) {
        const bench_mark *m = &r->marks[i];
        printf("  %10lld  %14.0f", (long long)m->position, 1 / m->sparse);
        if (m->dense > 0) printf("  %14.0f  %.2f", 1 / m->dense, m->dense / m->sparse);
        if (m->sparse_decode > 0) printf("   decode %.0f", 1 / m->sparse_decode);
        if (m->dense_decode > 0)
            printf(", dense %.0f tok/s: %.2f", 1 / m->dense_decode, m->dense_decode / m->sparse_decode);
        putchar('\n');
    }
    printf("\n  %-14s  %9s  %9s  %12s  %11s  %s\n", "prefill stage", "seconds", "floor", "work (bytes)", "a second",
           "of the peak");
    for (int i = 0; i < STAGE_COUNT; i++) {
        const stage_time *t = &r->stages[i];
        if (t->calls == 0) continue;
        printf("  %-14s  %9.2f", stage_name((kernel_stage)i), t->seconds);
        if (r->floors[i] > 0)
            printf("  %9.2f", r->floors[i]);
        else
            printf("  %9s", "");
        if (t->operations > 0)
            printf("  %12.3g  %6.4g Top/s  %.0f%%", t->operations, t->operations / t->seconds / 1e12,
                   100 * r->floors[i] / t->seconds);
        else if (t->bytes > 0)
            printf("  %12.3g  %7.4g GB/s", t->bytes, t->bytes / t->seconds / 1e9);
        putchar('\n');
    }
    printf("\nrestore %.0f ms; first token of a question of %d tokens %.0f ms after opening\n", r->restore_ms,
           r->question_tokens, r->first_token_ms);
    printf("decode %.1f tok/s (floor: %.0f)", r->decode_tok_s, r->decode_floor_tok_s);
    if (r->dense_decode_tok_s > 0) printf(", dense %.1f", r->dense_decode_tok_s);
    putchar('\n');
    printf("memory beyond mapped files: %.0f MB\n", r->anonymous_bytes / 1e6);
    print_costs(r, dollars);
}

static json_t *result_json(const bench_result *r, engine *e) {
    json_t *marks = json_array(), *stages = json_object();
    for (int i = 0; i < r->n_marks; i++)
        json_array_append_new(marks,
                              json_pack("{s:I, s:f, s:f, s:f, s:f}", "position",
                                        (json_int_t)r->marks[i].position, "sparse_s", r->marks[i].sparse, "dense_s",
                                        r->marks[i].dense, "sparse_decode_s", r->marks[i].sparse_decode,
                                        "dense_decode_s", r->marks[i].dense_decode));
    for (int i = 0; i < STAGE_COUNT; i++)
        json_object_set_new(stages, stage_name((kernel_stage)i),
                            json_pack("{s:f, s:f, s:f}", "seconds", r->stages[i].seconds, "floor_s",
                                      r->floors[i], "operations", r->stages[i].operations));
    kern *k = engine_kernels(e);
    return json_pack(
        "{s:o, s:s, s:i, s:i, s:{s:f, s:f, s:f, s:f}, s:I, s:I, s:{s:f, s:f, s:b}, s:o, s:o, s:f, s:f, s:i, "
        "s:{s:f, s:f, s:f}, s:f}",
        "model", json_text(engine_model_name(e)), "backend", k->name, "threads", k->n_thread, "ranks",
        engine_ranks(e), "peaks",
        "f32_flops", r->peaks.f32_flops, "bf16_flops", r->peaks.bf16_flops, "i8_ops", r->peaks.i8_ops,
        "bytes_per_s", r->peaks.bytes_per_s, "tokens", (json_int_t)r->length, "characters",
        (json_int_t)r->characters, "prefill", "sparse_s", r->sparse_s, "dense_s", r->dense_s, "dense_whole",
        r->dense_whole, "marks", marks, "stages", stages, "restore_ms", r->restore_ms, "first_token_ms",
        r->first_token_ms, "question_tokens", r->question_tokens, "decode", "tok_s", r->decode_tok_s,
        "floor_tok_s", r->decode_floor_tok_s, "dense_tok_s", r->dense_decode_tok_s, "anonymous_bytes",
        r->anonymous_bytes);
}

int cmd_bench(int argc, char **argv) {
    bench_command o = {.dollars = 2};
    parse_options(&bench_argp, argc, argv, &o);
    ph_error err = {0};
    if (o.kernels) {
        int failed = need_local(&o.common, "a measurement of this machine", &err);
        if (!failed) failed = bench_kernels(&o.common, &err);
        return failed ? command_failed("bench", &o.common, &err) : 0;
    }
    store *s = NULL;
    engine *e = NULL;
    bench_result r;
    progress_start(&o.line, o.common.quiet || o.common.json);
    o.bench.progress = show_progress;
    o.bench.user = &o;
    int code = need_local(&o.common, "a measurement of this machine", &err);
    if (!code) code = open_store(&s, &o.common, &err);
    if (!code) code = open_engine(&e, &o.common, &err);
    if (!code) {
        o.bench.folder = store_dir(s);
        code = bench_run(&r, e, &o.bench, &err);
    }
    progress_end(&o.line);
    if (!code && o.csv) code = bench_write_csv(&r, o.dollars, o.csv, &err);
    if (!code && o.svg) code = bench_write_svg(&r, o.dollars, engine_model_name(e), engine_kernels(e)->name, o.svg, &err);
    if (code)
        code = command_failed("bench", &o.common, &err);
    else if (o.common.json)
        code = print_json(result_json(&r, e));
    else
        print_result(&r, e, o.dollars);
    engine_close(e);
    store_close(s);
    return code;
}
