/* command.c - the shared part of the commands (command.h). */
#include "appliance/command.h"

#include "engine/nano.h"
#include "engine/remote.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utf8proc.h>

volatile sig_atomic_t interrupted;

enum {
    OPTION_BACKEND = 1000,
    OPTION_DEVICE,
    OPTION_RANKS,
    OPTION_THREADS,
    OPTION_TOPK,
    OPTION_DENSE,
    OPTION_LATENTS,
    OPTION_REMOTE,
    OPTION_REMOTE_MODEL,
    OPTION_REMOTE_CONTEXT,
    OPTION_REMOTE_SYSTEM,
    OPTION_REMOTE_CA,
    OPTION_REMOTE_TIMEOUT,
    OPTION_TOKENIZER,
    OPTION_TRACE_LIMIT
};

/* What a model that was not trained to read files is told; the embedded one needs no words. */
static const char REMOTE_SYSTEM[] = "Answer from the files that the user gives, and from nothing else. Put "
                                    "the words of a file that you rely on "
                                    "between double quotes, exactly as they stand there. Where the files do "
                                    "not answer the question, write only: "
                                    "Not found in the documents.";

static const struct argp_option common_option_list[] = {
    {"data", 'd', "DIR", 0, "Keep documents and what was read in DIR", 90},
    {"model", 'm', "DIR", 0, "Use the model in DIR instead of the embedded one", 90},
    {"threads", OPTION_THREADS, "N", 0, "Processor threads (all)", 90},
    {"device", OPTION_DEVICE, "NAME", 0, "cpu, or cuda or cuda:N for an NVIDIA GPU, or cuda:N,N,... for one model on several (cpu)", 90},
    {"ranks", OPTION_RANKS, "N", 0,
     "Deal the model out to N backends: the first N GPUs with --device cuda; on the processor a check, and slower (1)", 90},
    {"backend", OPTION_BACKEND, "NAME", 0, "avx512, avx2 or portable (the best)", 90},
    {"topk", OPTION_TOPK, "K", 0, "Positions the indexer selects (the model's)", 90},
    {"dense", OPTION_DENSE, NULL, 0, "Attend to everything instead, for comparison; has its own snapshots",
     90},
    {"latents", OPTION_LATENTS, "TYPE", 0,
     "What latents are held in: bf16, or fp8 on a Hopper GPU and DeepSeek-V3.2's dimensions, in little more than half the "
     "memory (bf16)",
     90},
    {NULL, 0, NULL, 0,
     "A model served elsewhere, by vLLM, SGLang or another Pharos (key: $PHAROS_REMOTE_KEY):", 92},
    {"remote", OPTION_REMOTE, "URL", 0, "Ask the model of this OpenAI-compatible server", 92},
    {"remote-model", OPTION_REMOTE_MODEL, "NAME", 0, "Which of its models (the only one)", 92},
    {"remote-context", OPTION_REMOTE_CONTEXT, "N", 0, "Tokens of its context (as the server says)", 92},
    {"remote-system", OPTION_REMOTE_SYSTEM, "TEXT", 0,
     "Told before everything (to answer from the files; eval: nothing)", 92},
    {"remote-ca", OPTION_REMOTE_CA, "FILE", 0, "Trust these certificates (the system's)", 92},
    {"remote-timeout", OPTION_REMOTE_TIMEOUT, "S", 0, "Longest silence, in seconds (300)", 92},
    {"tokenizer", OPTION_TOKENIZER, "PATH", 0,
     "The served model's tokenizer.json with config.json beside it: counts its tokens, and lets SGLang's "
     "selection be "
     "shown",
     92},
    {"trace-limit", OPTION_TRACE_LIMIT, "MIB", 0, "Largest selection to ask an SGLang for (1024)", 92},
    {"json", 'j', NULL, 0, "Print JSON", 91},
    {"quiet", 'q', NULL, 0, "No progress and no notes", 91},
    {0},
};

static int whole_number(const char *arg, const char *what, struct argp_state *state) {
    char *end;
    errno = 0;
    long v = strtol(arg, &end, 10);
    if (errno || *end || end == arg || v < 1 || v > 1 << 24) argp_error(state, "%s is no %s", arg, what);
    return (int)v;
}

static error_t parse_common(int key, char *arg, struct argp_state *state) {
    common_options *o = state->input;
    switch (key) {
    case 'd':
        o->data_dir = arg;
        break;
    case 'm':
        o->model_dir = arg;
        break;
    case 'j':
        o->json = true;
        break;
    case 'q':
        o->quiet = true;
        break;
    case OPTION_DEVICE:
        if (!strncmp(arg, "cuda", 4))
            o->backend = arg;
        else if (strcmp(arg, "cpu"))
            argp_error(state, "%s is no device: cpu, cuda, cuda:N or cuda:N,N,...", arg);
        break;
    case OPTION_RANKS:
        o->ranks = whole_number(arg, "number of ranks", state);
        break;
    case OPTION_BACKEND:
        o->backend = arg;
        break;
    case OPTION_THREADS:
        o->threads = whole_number(arg, "number of threads", state);
        break;
    case OPTION_TOPK:
        o->topk = whole_number(arg, "number of positions", state);
        break;
    case OPTION_DENSE:
        o->dense = true;
        break;
    case OPTION_LATENTS:
        if (strcmp(arg, "fp8") && strcmp(arg, "bf16")) argp_error(state, "%s is nothing to hold latents in: bf16 or fp8", arg);
        o->fp8_latents = !strcmp(arg, "fp8");
        break;
    case OPTION_REMOTE:
        o->remote = arg;
        break;
    case OPTION_REMOTE_MODEL:
        o->remote_model = arg;
        break;
    case OPTION_REMOTE_CONTEXT:
        o->remote_context = whole_number(arg, "number of tokens", state);
        break;
    case OPTION_REMOTE_SYSTEM:
        o->remote_system = arg;
        break;
    case OPTION_REMOTE_CA:
        o->remote_ca = arg;
        break;
    case OPTION_REMOTE_TIMEOUT:
        o->remote_timeout = whole_number(arg, "number of seconds", state);
        break;
    case OPTION_TOKENIZER:
        o->remote_tokenizer = arg;
        break;
    case OPTION_TRACE_LIMIT:
        o->trace_limit = whole_number(arg, "number of MiB", state);
        break;
    case ARGP_KEY_END:
        if (o->remote && (o->model_dir || o->backend || o->ranks || o->topk || o->dense || o->fp8_latents))
            argp_error(state, "--remote has its own model: no --model, --backend, --ranks, --topk, --dense or --latents");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

const struct argp common_argp = {.options = common_option_list, .parser = parse_common};
const struct argp_child common_child[] = {{&common_argp, 0, NULL, 0}, {0}};

void parse_options(const struct argp *argp, int argc, char **argv, void *input) {
    char name[64];
    snprintf(name, sizeof name, "pharos %s", argv[0]);
    argv[0] = name; /* argp names the program by it */
    argp_err_exit_status = PH_USAGE;
    argp_parse(argp, argc, argv, 0, NULL, input);
}

int data_folder(char *out, size_t n, const common_options *o, ph_error *err) {
    const char *base = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    int len;
    if (o->data_dir)
        len = snprintf(out, n, "%s", o->data_dir);
    else if (base && base[0] == '/')
        len = snprintf(out, n, "%s/pharos", base);
    else if (home && home[0])
        len = snprintf(out, n, "%s/.local/share/pharos", home);
    else
        return ph_fail(err, PH_USAGE, "HOME is not set: say where to keep things with --data DIR");
    if (len < 0 || (size_t)len >= n) return ph_fail(err, PH_USAGE, "the path of the data folder is too long");
    return PH_OK;
}

int open_store(store **out, const common_options *o, ph_error *err) {
    char dir[4096];
    int code = data_folder(dir, sizeof dir, o, err);
    return code ? code : store_open(out, dir, err);
}

static int told_to_stop(void *user) {
    (void)user;
    return interrupted;
}

static int open_remote(engine **out, const common_options *o, ph_error *err) {
    remote_options options = {.url = o->remote,
                              .model = o->remote_model,
                              .key = getenv("PHAROS_REMOTE_KEY"),
                              .ca_file = o->remote_ca,
                              .system = o->remote_system ? o->remote_system
                                        : o->no_system   ? NULL
                                                         : REMOTE_SYSTEM,
                              .tokenizer = o->remote_tokenizer,
                              .files = nano_files(),
                              .context = o->remote_context,
                              .trace_bytes = (uint64_t)o->trace_limit << 20,
                              .idle_ms = o->remote_timeout > INT_MAX / 1000 ? INT_MAX
                                                                            : (int)o->remote_timeout * 1000,
                              .waiting = told_to_stop};
    return remote_open(out, &options, err);
}

int need_local(const common_options *o, const char *what, ph_error *err) {
    return o->remote ? ph_fail(err, PH_UNSUPPORTED,
                               "%s needs a model of this machine, not one served elsewhere", what)
                     : PH_OK;
}

int open_engine(engine **out, const common_options *o, ph_error *err) {
    if (o->remote) return open_remote(out, o, err);
    engine_options options = {.model_dir = o->model_dir,
                              .files = nano_files(),
                              .backend = o->backend,
                              .ranks = o->ranks,
                              .threads = o->threads,
                              .topk = o->topk,
                              .fp8_latents = o->fp8_latents,
                              .dense = o->dense,
                              .fault = o->fault};
    return engine_open(out, &options, err);
}

int command_failed(const char *name, const common_options *o, const ph_error *err) {
    if (o && o->json)
        print_json(json_pack("{s:{s:i, s:o}}", "error", "code", err->code, "message", json_text(err->text)));
    char *text = printable(err->text, strlen(err->text));
    fprintf(stderr, "pharos %s: %s\n", name, text ? text : "out of memory");
    free(text);
    return err->code ? err->code : PH_FAIL;
}

int print_json(json_t *value) {
    if (!value) {
        fprintf(stderr, "pharos: no memory for the output\n");
        return PH_MEMORY;
    }
    int failed = json_dumpf(value, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_decref(value);
    if (failed || putchar('\n') == EOF || fflush(stdout)) {
        fprintf(stderr, "pharos: cannot write the output: %s\n", strerror(errno));
        return PH_FAIL;
    }
    return PH_OK;
}

/* Length of the valid UTF-8 sequence at s, 0 where there is none. */
static size_t sequence(const char *s, size_t n) {
    utf8proc_int32_t c;
    utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)n, &c);
    return used > 0 ? (size_t)used : 0;
}

json_t *json_text(const char *s) {
    if (!s) return json_null();
    size_t n = strlen(s), at = 0;
    char *out = malloc(n * 3 + 1);
    if (!out) return NULL;
    for (size_t i = 0; i < n;) {
        size_t k = sequence(s + i, n - i);
        memcpy(out + at, k ? s + i : "\xEF\xBF\xBD", k ? k : 3);
        at += k ? k : 3;
        i += k ? k : 1;
    }
    json_t *value = json_stringn(out, at);
    free(out);
    return value;
}

char *printable(const char *s, size_t n) {
    char *out = malloc(n * 4 + 1);
    size_t at = 0;
    if (!out) return NULL;
    for (size_t i = 0; i < n;) {
        size_t k = sequence(s + i, n - i);
        unsigned char c = (unsigned char)s[i];
        bool control = k == 0 || (k == 1 && (c < 32 || c == 127)) ||
                       (k == 2 && c == 0xC2 && (unsigned char)s[i + 1] < 0xA0);
        if (k == 1 && (c == '\n' || c == '\t'))
            out[at++] = ' ';
        else if (control)
            at += (size_t)sprintf(out + at, "\\x%02x", c);
        else {
            memcpy(out + at, s + i, k);
            at += k;
        }
        i += control || k == 0 ? 1 : k;
    }
    out[at] = 0;
    return out;
}

bool use_color(FILE *f) {
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return isatty(fileno(f)) && !(no && no[0]) && term && strcmp(term, "dumb") != 0;
}
