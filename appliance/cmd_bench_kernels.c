/* cmd_bench_kernels.c - `pharos bench --kernels`: the figures of kernel_bench.h as a table. */
#include "appliance/cmd_bench_kernels.h"

#include "kernels/kernel_bench.h"

#include <string.h>

typedef struct kernel_table {
    const char *part; /* the heading that was printed last */
    json_t *rows;     /* NULL = print */
} kernel_table;

static void print_row(kernel_table *table, const kern_timing *t) {
    if (!table->part || strcmp(table->part, t->part) != 0) {
        printf("%s%s\n", table->part ? "\n" : "", t->part);
        table->part = t->part;
    }
    printf("  %-52s", t->what);
    if (t->ratio > 0) {
        printf("  %43.2f times\n", t->ratio);
        return;
    }
    double rate = t->seconds > 0 ? t->work / t->seconds : 0;
    if (t->peak > 0)
        printf("  %10.1f us", t->seconds * 1e6);
    else
        printf("  %13s", "");
    printf("  %8.1f %-8s", t->bytes ? rate / 1e9 : rate / 1e12, t->bytes ? "GB/s" : "TFLOP/s");
    if (t->peak > 0) printf("  %3.0f%% of the peak", 100 * rate / t->peak);
    putchar('\n');
}

static void tell(void *user, const kern_timing *t) {
    kernel_table *table = user;
    if (!table->rows) {
        print_row(table, t);
        fflush(stdout);
        return;
    }
    json_array_append_new(table->rows, json_pack("{s:s, s:s, s:f, s:f, s:s, s:f, s:f}", "part", t->part, "what", t->what,
                                                 "seconds", t->seconds, "work", t->work, "unit",
                                                 t->bytes ? "bytes" : "operations", "peak", t->peak, "ratio", t->ratio));
}

int bench_kernels(const common_options *o, ph_error *err) {
    kern *k = NULL;
    bool gpu = o->backend && strncmp(o->backend, "cuda", 4) == 0;
    int code = kern_open(&k, gpu ? o->backend : "cuda", 0, err);
    if (code) return ph_context(err, "the V3.2 kernels are not measured");
    kernel_table table = {.rows = o->json ? json_array() : NULL};
    if (!o->json) printf("kernels at the dimensions of DeepSeek-V3.2, random data, %s\n\n", k->name);
    code = kern_cuda_time_v32(k, tell, &table, err);
    k->close(k);
    if (!code && table.rows) return print_json(table.rows);
    json_decref(table.rows);
    return code;
}
