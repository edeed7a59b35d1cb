/* cmd_serve.c - `pharos serve`: starts the server (serve.h) and waits for the signal that ends it. */
#include "appliance/command.h"
#include "appliance/ocr_options.h"
#include "appliance/serve.h"
#include "engine/nano.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_NAMES = 8, MOST_FOLDERS = 64, STEP_TOKENS = 256, OPTION_WATCH = 6000 };

typedef struct serve_command {
    common_options common;
    ocr_options ocr;
    const char *listen, *token_file;
    const char *names[MOST_NAMES + 1];
    int n_names, port;
    char *folders[MOST_FOLDERS];
    size_t n_folders;
} serve_command;

static const struct argp_option options[] = {
    {"listen", 'l', "ADDRESS", 0,
     "Address to listen at (127.0.0.1); another than loopback needs --token-file", 0},
    {"port", 'p', "N", 0, "Port (7878); 0 takes any that is free", 0},
    {"token-file", 't', "FILE", 0,
     "Let in who has a token: one on a line, with the role ask or manage before it", 0},
    {"host", 'H', "NAME", 0, "Also answer to this name in the Host header; may be given again", 0},
    {"watch", OPTION_WATCH, "FOLDER", 0,
     "Keep the library equal to this folder, below it too, as `pharos watch` does; may be given again", 0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    serve_command *o = state->input;
    char *end;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->common;
        state->child_inputs[1] = &o->ocr;
        break;
    case 'l':
        o->listen = arg;
        break;
    case 'p':
        errno = 0;
        long port = strtol(arg, &end, 10);
        if (errno || *end || end == arg || port < 0 || port > 65535) argp_error(state, "%s is no port", arg);
        o->port = (int)port;
        break;
    case 't':
        o->token_file = arg;
        break;
    case 'H':
        if (o->n_names == MOST_NAMES) argp_error(state, "at most %d names", MOST_NAMES);
        o->names[o->n_names++] = arg;
        break;
    case OPTION_WATCH:
        if (o->n_folders == MOST_FOLDERS) argp_error(state, "at most %d folders", MOST_FOLDERS);
        o->folders[o->n_folders++] = arg;
        break;
    case ARGP_KEY_ARG:
        argp_error(state, "%s is one word too many", arg);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_child children[] = {{&common_argp, 0, NULL, 0}, {&ocr_argp, 0, NULL, 0}, {0}};

static const struct argp serve_argp = {
    options,
    parse,
    "",
    "Serves the page and the HTTP API until it is interrupted. What was read until then is kept.",
    children,
    NULL,
    NULL};

/* As open_engine(), with shorter steps: between two of them it is noticed that a client has left, and that is
 * to be within a second on a slow machine too. */
static int open_for_worker(void *user, engine **out, ph_error *err) {
    const common_options *o = user;
    if (o->remote) return open_engine(out, o, err);
    bool gpu = o->backend && !strncmp(o->backend, "cuda", 4); /* whose own step takes milliseconds */
    engine_options e = {.model_dir = o->model_dir,
                        .files = nano_files(),
                        .backend = o->backend,
                        .ranks = o->ranks,
                        .threads = o->threads,
                        .topk = o->topk,
                        .fp8_latents = o->fp8_latents,
                        .dense = o->dense,
                        .chunk = gpu ? 0 : STEP_TOKENS};
    return engine_open(out, &e, err);
}

static void say_where(const serve_command *o, const serve *s) {
    const char *listen = o->listen ? o->listen : "127.0.0.1";
    char url[128];
    snprintf(url, sizeof url, strchr(listen, ':') ? "http://[%s]:%u/" : "http://%s:%u/", listen,
             (unsigned)serve_port(s));
    if (o->common.json)
        print_json(json_pack("{s:s, s:i}", "url", url, "port", (int)serve_port(s)));
    else {
        puts(url);
        fflush(stdout);
    }
}

int cmd_serve(int argc, char **argv) {
    serve_command o = {.port = 7878};
    parse_options(&serve_argp, argc, argv, &o);
    ph_error err = {0};
    serve *s = NULL;
    char dir[4096];
    sigset_t stop;
    int number = 0;
    /* Blocked in every thread that starts from here on; this one waits for them. */
    sigemptyset(&stop);
    sigaddset(&stop, SIGINT);
    sigaddset(&stop, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &stop, NULL);
    serve_options options_of_server = {.data_dir = dir,
                                       .listen = o.listen,
                                       .port = (uint16_t)o.port,
                                       .names = o.names,
                                       .token_file = o.token_file,
                                       .open_engine = open_for_worker,
                                       .user = &o.common,
                                       .watch = o.folders,
                                       .n_watch = o.n_folders,
                                       .ocr = !o.ocr.on         ? NULL
                                              : o.ocr.language ? o.ocr.language
                                                               : INGEST_OCR_LANGUAGE,
                                       .dense = o.common.dense};
    int code = ocr_options_check(&o.ocr, &err);
    if (!code) code = data_folder(dir, sizeof dir, &o.common, &err);
    if (!code) code = serve_start(&s, &options_of_server, &err);
    if (code) return command_failed("serve", &o.common, &err);
    say_where(&o, s);
    sigwait(&stop, &number);
    if (!o.common.quiet) fputs("stopping; what was read is kept\n", stderr);
    /* A second signal ends the program where it is. */
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &stop, NULL);
    serve_stop(s);
    return PH_OK;
}
