/* command.h - what the commands of the program share: options, the opened store and engine, exit codes,
 * output.
 *
 * Conventions: data goes to stdout, everything else to stderr; progress only on a terminal; --json prints one
 * JSON value; exit codes are error.h's. Commands print; what they call does not.
 */
#ifndef PHAROS_COMMAND_H
#define PHAROS_COMMAND_H

#include "engine/engine.h"
#include "store/store.h"

#include <argp.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>

typedef struct common_options {
    const char *data_dir, *model_dir, *backend;
    int ranks, threads, topk;
    bool dense, json, quiet;
    bool fp8_latents; /* engine_options */
    engine_fault fault; /* eval --fault */
    /* A model served elsewhere (engine/remote.h); remote NULL = here. */
    const char *remote, *remote_model, *remote_system, *remote_ca, *remote_tokenizer;
    long remote_context, remote_timeout, trace_limit; /* tokens, seconds, MiB; 0 = as remote.h has it */
    bool no_system; /* send no system text but the user's: evaluations are to be as published */
} common_options;

/* For `struct argp_child`: parses --data --model --backend --threads --json --quiet ... into a
 * common_options, which the command's parser hands down with `state->child_inputs[0]`. */
extern const struct argp common_argp;
extern const struct argp_child common_child[]; /* {common_argp}, {0} */

typedef struct command {
    const char *name, *summary;
    int (*run)(int argc, char **argv); /* argv[0] is the command's name; returns the exit code */
} command;

extern const command commands[]; /* ends with a NULL name */

/* argp_parse with the conventions above: usage errors are exit code 2 and name the command. Returns 0, or
 * does not return (--help, a wrong option). */
void parse_options(const struct argp *argp, int argc, char **argv, void *input);

/* $XDG_DATA_HOME/pharos or ~/.local/share/pharos unless --data was given. */
int data_folder(char *out, size_t n, const common_options *o, ph_error *err);
int open_store(store **out, const common_options *o, ph_error *err);
/* The embedded model unless --model or --remote was given. The key of a server is $PHAROS_REMOTE_KEY. */
int open_engine(engine **out, const common_options *o, ph_error *err);

/* PH_UNSUPPORTED with --remote: `what` needs the model's weights here. */
int need_local(const common_options *o, const char *what, ph_error *err);

/* Prints "pharos COMMAND: text" to stderr (a JSON object to stdout instead under --json) and returns the
 * code. */
int command_failed(const char *name, const common_options *o, const ph_error *err);

/* Prints a value to stdout, pretty, and frees it. NULL (out of memory) is an error: returns PH_MEMORY. */
int print_json(json_t *value);

/* A JSON string from bytes that may not be UTF-8 (bad ones become U+FFFD). */
json_t *json_text(const char *s);

/* Set by the first Ctrl-C or SIGTERM; the second one ends the program. */
extern volatile sig_atomic_t interrupted;

/* Copies `s` with control characters made visible, so that a document's name or text cannot drive a terminal.
 * To be freed; NULL when out of memory. */
char *printable(const char *s, size_t n);

bool use_color(FILE *f); /* a terminal, and neither NO_COLOR nor TERM=dumb */

int cmd_add(int argc, char **argv);
int cmd_ls(int argc, char **argv);
int cmd_rm(int argc, char **argv);
int cmd_ask(int argc, char **argv);
int cmd_trace(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_pack(int argc, char **argv);
int cmd_model(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_backup(int argc, char **argv);
int cmd_restore(int argc, char **argv);
int cmd_watch(int argc, char **argv);
int cmd_token(int argc, char **argv);
int cmd_doctor(int argc, char **argv);

#endif
