/* cmd_doctor.c - `pharos doctor`: what this machine and this build can do, and whether what is kept is whole.
 * Changes nothing: a data folder that is not there yet is not made. */
#include "appliance/command.h"
#include "engine/nano.h"
#include "ingest/ingest.h"
#include "kernels/group.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

typedef enum check_state { CHECK_OK, CHECK_MISSING, CHECK_PROBLEM } check_state;
static const char *const state_names[] = {"ok", "missing", "problem"};

typedef struct doctor {
    const common_options *options;
    json_t *checks;
    int problems;
    char dir[4096]; /* the data folder */
    store *store;   /* NULL: none there yet, or it does not open */
    engine *engine; /* NULL: no model, or it does not open */
} doctor;

/* One line of the report. advice: what to do, or NULL. */
__attribute__((format(printf, 5, 6))) static void report(doctor *d, const char *name, check_state state,
                                                         const char *advice, const char *format, ...) {
    char detail[2000];
    va_list args;
    va_start(args, format);
    vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
    d->problems += state == CHECK_PROBLEM;
    json_array_append_new(d->checks,
                          json_pack("{s:s, s:s, s:o, s:s?}", "name", name, "state", state_names[state],
                                    "detail", json_text(detail), "advice", advice));
    if (d->options->json) return;
    char *text = printable(detail, strlen(detail));
    printf("%-8s %-13s %s\n", state_names[state], name, text ? text : "?");
    if (advice) printf("%-22s -> %s\n", "", advice);
    free(text);
}

/* ---- the machine ---- */

/* The value of a line "key : value" in a file of /proc; empty when there is none. */
static void proc_value(const char *path, const char *key, char *out, size_t n) {
    FILE *f = fopen(path, "re");
    char line[512];
    out[0] = 0;
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, key, strlen(key))) continue;
        char *colon = strchr(line, ':');
        if (!colon) continue;
        colon += 1 + strspn(colon + 1, " \t");
        colon[strcspn(colon, "\n")] = 0;
        snprintf(out, n, "%s", colon);
        break;
    }
    if (f) fclose(f);
}

static void check_processor(doctor *d) {
    char name[128], backends[128] = "";
    ph_error err = {0};
    kern *k = NULL;
    proc_value("/proc/cpuinfo", "model name", name, sizeof name);
    for (const char *const *b = kern_cpu_names(); *b; b++) {
        size_t n = strlen(backends);
        snprintf(backends + n, sizeof backends - n, "%s%s", n ? ", " : "", *b);
    }
    bool gpu = d->options->backend && !strncmp(d->options->backend, "cuda", 4);
    if (kern_open_cpu(&k, gpu ? NULL : d->options->backend, d->options->threads, &err)) {
        report(d, "processor", CHECK_PROBLEM, "name another with --backend", "%s", err.text);
        return;
    }
    const char *slow = strcmp(k->name, "portable") ? NULL : "without AVX2 reading is many times slower";
    report(d, "processor", CHECK_OK, slow, "%s; backends %s; in use: %s", name[0] ? name : "unknown",
           backends, k->name);
    report(d, "threads", CHECK_OK, NULL, "%d of %ld processors", k->n_thread, sysconf(_SC_NPROCESSORS_ONLN));
    k->close(k);
}

/* What several GPUs talk through: needed by who has several, or asked for them. */
static void check_nccl(doctor *d, int devices) {
    const common_options *o = d->options;
    bool several = o->ranks > 1 || (o->backend && strchr(o->backend, ','));
    int version;
    ph_error err = {0};
    if (devices < 2 && !several) return;
    if (kern_nccl_find(&version, &err))
        report(d, "NCCL", several ? CHECK_PROBLEM : CHECK_MISSING, "install libnccl2 to deal one model out to several GPUs",
               "%s", err.text);
    else
        report(d, "NCCL", CHECK_OK, NULL, "%d.%d.%d: one model on several GPUs with --device cuda:0,1", version / 10000,
               version / 100 % 100, version % 100);
}

/* The GPUs that were asked for open, and hear each other. */
static void check_opening(doctor *d, const char *asked) {
    kern *k[KERN_MAX_RANKS];
    kern_group *g[KERN_MAX_RANKS];
    int n = 0;
    ph_error err = {0};
    int code = kern_open_ranks(k, &n, asked, d->options->ranks, 0, &err);
    if (!code && n > 1) {
        code = kern_group_open(g, k, n, &err);
        if (!code) kern_group_close(g, n);
    }
    if (code)
        report(d, "GPU", CHECK_PROBLEM, NULL, "%s", err.text);
    else
        report(d, "GPU", CHECK_OK, NULL, "%s opens%s", asked, n > 1 ? ", as one group" : "");
    for (int i = 0; i < n; i++) k[i]->close(k[i]);
}

/* The GPUs, or why there is none: a problem only for who asked for one. */
static void check_gpu(doctor *d) {
    enum { MOST = 16 };
    kern_cuda_device found[MOST];
    const char *asked =
        d->options->backend && !strncmp(d->options->backend, "cuda", 4) ? d->options->backend : NULL;
    int n = 0, versions[2];
    ph_error err = {0};
    if (kern_cuda_devices(found, MOST, &n, versions, &err)) {
        report(d, "CUDA", asked ? CHECK_PROBLEM : CHECK_MISSING, NULL, "%s; everything runs on the processor",
               err.text);
        return;
    }
    char text[1600] = "";
    for (int i = 0; i < n && i < MOST; i++) {
        size_t at = strlen(text);
        snprintf(text + at, sizeof text - at,
                 "%scuda:%d %.60s (capability %d.%d, %d multiprocessors, %.1f GB, caches %s%s)", i ? "; " : "", i,
                 found[i].name, found[i].major, found[i].minor, found[i].n_sm, (double)found[i].memory / 1e9,
                 found[i].paged ? "grow page by page" : "whole at once: the driver has no pages",
                 found[i].major < 8 ? ", too old: 8.0 is the least" : "");
    }
    report(d, "CUDA", CHECK_OK, asked ? NULL : "use it with --device cuda",
           "%s; driver for CUDA %d.%d, built with %d.%d", text, versions[0] / 1000, versions[0] % 1000 / 10,
           versions[1] / 1000, versions[1] % 1000 / 10);
    check_nccl(d, n);
    if (asked) check_opening(d, asked);
}

/* What a container may use, where it is told. */
static double cgroup_limit(void) {
    double limit = 0;
    FILE *f = fopen("/sys/fs/cgroup/memory.max", "re");
    if (!f) return 0;
    if (fscanf(f, "%lf", &limit) != 1) limit = 0; /* "max" */
    fclose(f);
    return limit;
}

static void check_memory(doctor *d) {
    enum { LEAST_MB = 512 };
    char total[64], available[64];
    proc_value("/proc/meminfo", "MemTotal", total, sizeof total);
    proc_value("/proc/meminfo", "MemAvailable", available, sizeof available);
    double all = atof(total) * 1024, free_bytes = atof(available) * 1024, limit = cgroup_limit();
    if (limit > 0 && limit < all) all = limit;
    if (free_bytes > all) free_bytes = all;
    bool little = free_bytes < LEAST_MB * 1e6;
    report(d, "memory", little ? CHECK_PROBLEM : CHECK_OK,
           little ? "Pharos needs about half a gigabyte besides the files that it maps" : NULL,
           "%.1f GB, %.1f GB of it available", all / 1e9, free_bytes / 1e9);
}

static void check_program(doctor *d, const char *name, const char *path, const char *does,
                          const char *advice) {
    /* The reader's sandbox lets it start these paths only. */
    if (access(path, X_OK) == 0)
        report(d, name, CHECK_OK, NULL, "%s", path);
    else
        report(d, name, CHECK_MISSING, advice, "%s is not there: %s", path, does);
}

/* The program says which it is; its languages are files. */
static void check_ocr(doctor *d) {
    char languages[INGEST_OCR_LIST_BYTES], version[80] = "tesseract";
    ph_error err = {0};
    bool there = ingest_ocr_languages(languages);
    FILE *f = there ? popen("/usr/bin/tesseract --version 2>/dev/null", "re") : NULL;
    if (f) {
        if (fgets(version, sizeof version, f)) version[strcspn(version, "\n")] = 0;
        while (fgetc(f) != EOF) continue;
        pclose(f);
    }
    if (!there)
        report(d, "OCR", CHECK_MISSING, "apt-get install tesseract-ocr",
               "no tesseract: pages and files that are only pictures are named, not read");
    else if (!languages[0])
        report(d, "OCR", CHECK_MISSING, "apt-get install tesseract-ocr-eng", "%s, without any language", version);
    else if (ingest_ocr_check(NULL, &err))
        report(d, "OCR", CHECK_OK, "without --ocr-language it reads " INGEST_OCR_LANGUAGE, "%s; languages: %s; but %s",
               version, languages, err.text);
    else
        report(d, "OCR", CHECK_OK, NULL, "%s; languages: %s; used with --ocr", version, languages);
}

static void check_sandbox(doctor *d) {
    const char *status = ingest_sandbox_status();
    if (strstr(status, "no seccomp"))
        report(d, "sandbox", CHECK_PROBLEM, "files cannot be read without seccomp: use a kernel that has it",
               "%s", status);
    else if (strstr(status, "no landlock"))
        report(d, "sandbox", CHECK_MISSING,
               "a kernel with landlock (5.13 or newer) confines the reader further", "%s", status);
    else
        report(d, "sandbox", CHECK_OK, NULL, "%s", status);
}

/* ---- the model ---- */

static void check_model(doctor *d) {
    ph_error err = {0};
    if (!d->options->model_dir && !d->options->remote && !nano_files()) {
        report(d, "model", CHECK_MISSING, "name a model folder with --model DIR",
               "this build carries no model");
        return;
    }
    if (open_engine(&d->engine, d->options, &err)) {
        report(d, "model", CHECK_PROBLEM, NULL, "%s", err.text);
        return;
    }
    int64_t most = engine_config(d->engine)->max_positions;
    report(d, "model", CHECK_OK, NULL, "%s (%s), context %lld tokens, %.0f MB when full",
           engine_model_name(d->engine),
           d->options->remote      ? d->options->remote
           : d->options->model_dir ? d->options->model_dir
                                   : "linked into the program",
           (long long)most, (double)engine_context_bytes(d->engine, most) / 1e6);
}

/* ---- what is kept ---- */

/* The deepest folder of a path that is there. */
static void existing_part(char out[PATH_MAX], const char *path) {
    snprintf(out, PATH_MAX, "%s", path);
    while (access(out, F_OK)) {
        char *slash = strrchr(out, '/');
        if (!slash) {
            strcpy(out, ".");
            return;
        }
        slash[slash == out] = 0;
        if (!strcmp(out, "/")) return;
    }
}

static void check_disk(doctor *d) {
    char dir[PATH_MAX];
    struct statvfs v;
    existing_part(dir, d->dir);
    if (statvfs(dir, &v)) {
        report(d, "disk", CHECK_PROBLEM, NULL, "cannot look at %s: %s", dir, strerror(errno));
        return;
    }
    double room = (double)v.f_bavail * (double)v.f_frsize, need = 100e6;
    if (d->engine) need += (double)engine_context_bytes(d->engine, engine_config(d->engine)->max_positions);
    bool little = room < need;
    report(d, "disk", little ? CHECK_PROBLEM : CHECK_OK,
           little ? "free some, or keep things elsewhere with --data" : NULL,
           "%.1f GB free; a full pack takes up to %.1f GB", room / 1e9, need / 1e9);
}

static void check_folder(doctor *d, bool *there) {
    char database[PATH_MAX], parent[PATH_MAX];
    struct stat st;
    *there = false;
    existing_part(parent, d->dir);
    if (access(parent, W_OK)) {
        report(d, "data folder", CHECK_PROBLEM, "keep things elsewhere with --data DIR", "%s: %s", d->dir,
               strerror(errno));
        return;
    }
    if (snprintf(database, sizeof database, "%s/pharos.db", d->dir) >= (int)sizeof database ||
        stat(database, &st)) {
        report(d, "data folder", CHECK_OK, NULL, "%s is not there yet: the first `pharos add` makes it",
               d->dir);
        return;
    }
    *there = true;
    if (stat(d->dir, &st) == 0 && (st.st_mode & 077))
        report(d, "data folder", CHECK_PROBLEM, "chmod 700 it: it holds your documents",
               "%s can be read by others", d->dir);
    else
        report(d, "data folder", CHECK_OK, NULL, "%s", d->dir);
}

static void check_store(doctor *d) {
    ph_error err = {0};
    char *wrong = NULL;
    store_totals t;
    int code = store_open(&d->store, d->dir, &err);
    if (!code) code = store_verify(d->store, &wrong, &err);
    if (!code) code = store_count(d->store, &t, &err);
    if (code)
        report(d, "store", CHECK_PROBLEM, NULL, "%s", err.text);
    else if (!wrong[0])
        report(d, "store", CHECK_OK, NULL,
               "whole: %lld documents (%.1f MB of text), %lld packs, %lld answers; database %.1f MB, "
               "originals %.1f MB",
               (long long)t.documents, (double)t.text_bytes / 1e6, (long long)t.packs, (long long)t.answers,
               (double)t.database_bytes / 1e6, (double)t.file_bytes / 1e6);
    else {
        char *rest = wrong;
        for (char *line; (line = strsep(&rest, "\n"));)
            if (line[0]) report(d, "store", CHECK_PROBLEM, NULL, "%s", line);
    }
    free(wrong);
}

static void check_snapshots(doctor *d) {
    char dir[PATH_MAX];
    store_pack *packs = NULL;
    size_t n = 0, foreign = 0;
    int64_t tokens = 0, read = 0;
    store_totals t = {0};
    ph_error err = {0};
    if (snprintf(dir, sizeof dir, "%s/snapshots", d->dir) >= (int)sizeof dir) return;
    if (access(dir, R_OK | W_OK | X_OK)) {
        report(d, "snapshots", CHECK_PROBLEM, "make the folder readable and writable", "%s: %s", dir,
               strerror(errno));
        return;
    }
    int code = store_count(d->store, &t, &err);
    if (!code) code = store_pack_list(d->store, NULL, &packs, &n, &err);
    if (code) {
        report(d, "snapshots", CHECK_PROBLEM, NULL, "%s", err.text);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        tokens += packs[i].tokens;
        read += packs[i].read;
        foreign += d->engine && memcmp(packs[i].key, engine_key(d->engine), sizeof packs[i].key);
    }
    store_packs_free(packs, n);
    report(d, "snapshots", CHECK_OK,
           foreign ? "`pharos pack prune` erases those of other models or options" : NULL,
           "%zu packs, %lld of %lld tokens read, %.1f MB on disk; %zu of other models or options", n,
           (long long)read, (long long)tokens, (double)t.snapshot_bytes / 1e6, foreign);
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    (void)arg;
    if (key != ARGP_KEY_INIT) return ARGP_ERR_UNKNOWN;
    state->child_inputs[0] = state->input;
    return 0;
}

static const struct argp doctor_argp = {
    NULL,
    parse,
    "",
    "Checks what this machine and this build can do, and whether what is kept is "
    "whole. Something missing that is not needed is no failure.",
    common_child,
    NULL,
    NULL};

int cmd_doctor(int argc, char **argv) {
    common_options o = {0};
    parse_options(&doctor_argp, argc, argv, &o);
    ph_error err = {0};
    doctor d = {.options = &o, .checks = json_array()};
    if (data_folder(d.dir, sizeof d.dir, &o, &err)) {
        json_decref(d.checks);
        return command_failed("doctor", &o, &err);
    }
    bool there;
    report(&d, "program", CHECK_OK, NULL, "pharos " PHAROS_VERSION);
    check_processor(&d);
    check_gpu(&d);
    check_memory(&d);
    check_model(&d);
    check_program(&d, "pdftotext", "/usr/bin/pdftotext", "PDF files cannot be read",
                  "apt-get install poppler-utils");
    check_ocr(&d);
    check_sandbox(&d);
    check_disk(&d);
    check_folder(&d, &there);
    if (there) check_store(&d);
    if (d.store) check_snapshots(&d);
    store_close(d.store);
    engine_close(d.engine);
    if (!o.json) {
        json_decref(d.checks);
        if (d.problems) printf("\n%d problem%s\n", d.problems, d.problems == 1 ? "" : "s");
        return d.problems ? PH_FAIL : PH_OK;
    }
    int code = print_json(json_pack("{s:b, s:o}", "ok", d.problems == 0, "checks", d.checks));
    return code ? code : d.problems ? PH_FAIL : PH_OK;
}
