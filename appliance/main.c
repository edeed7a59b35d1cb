/* main.c - the program `pharos`: finds the command and runs it. */
#include "appliance/command.h"
#include "ingest/ingest.h"

#include <string.h>

const char *argp_program_version = "pharos " PHAROS_VERSION;

const command commands[] = {
    {"add", "Read files, folders, URLs or standard input into the library", cmd_add},
    {"ls", "List documents", cmd_ls},
    {"rm", "Erase documents everywhere", cmd_rm},
    {"ask", "Answer a question from the documents, with citations", cmd_ask},
    {"trace", "Show what was read for each word of an answer", cmd_trace},
    {"serve", "Serve the page and the HTTP API", cmd_serve},
    {"pack", "Show the packs: what stands where, and how much of it has been read", cmd_pack},
    {"watch", "Keep the library equal to folders: new, changed and removed files", cmd_watch},
    {"backup", "Write the library into one file", cmd_backup},
    {"restore", "Make the library from a backup", cmd_restore},
    {"model", "Show the model, or hold a checkpoint against its reference", cmd_model},
    {"eval", "Measure what the model reads: needles, RULER, questions, recall, sparse against dense", cmd_eval},
    {"bench", "Measure this machine: each figure beside its floor", cmd_bench},
    {"token", "Make and revoke tokens of a server that others reach", cmd_token},
    {"doctor", "Check what this machine and this build can do", cmd_doctor},
    {NULL, NULL, NULL},
};

static void stop(int signal_number) {
    interrupted = 1;
    signal(signal_number, SIG_DFL);
}

static void usage(FILE *f) {
    fprintf(f, "Usage: pharos COMMAND [OPTION...]\n\n"
               "Reads whole documents, keeps what was read, answers from them and shows where the answer "
               "came from.\n\n");
    for (const command *c = commands; c->name; c++) fprintf(f, "  %-8s %s\n", c->name, c->summary);
    fprintf(f, "\n`pharos COMMAND --help` tells the rest.\n");
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], INGEST_CHILD_ARGUMENT)) return ingest_child_main(argc, argv);
    if (argc < 2) {
        usage(stderr);
        return PH_USAGE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        usage(stdout);
        return PH_OK;
    }
    if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
        puts(argp_program_version);
        return PH_OK;
    }
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    signal(SIGPIPE, SIG_IGN);
    for (const command *c = commands; c->name; c++)
        if (!strcmp(argv[1], c->name)) return c->run(argc - 1, argv + 1);
    fprintf(stderr, "pharos: there is no command %.40s\n\n", argv[1]);
    usage(stderr);
    return PH_USAGE;
}
