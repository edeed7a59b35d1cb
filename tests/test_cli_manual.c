/* test_cli_manual.c - what is written about the program: its help, the man page and the completion agree. */
#include "tests/pharos_cli.h"

#include "kernels/error.h"
#include "tests/tiny_model.h"

#include <ctype.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- help, man page, completion ---- */

/* Calls `see` with every long option that `pharos NAME --help` names. */
static void each_option(const char *name, void (*see)(const char *command, const char *option, void *user),
                        void *user) {
    const char *argv[] = {PROGRAM, name, "--help", NULL};
    result r = run_program(argv, NULL);
    expect_status(&r, PH_OK);
    expect_silent("--help", r.err);
    for (char *line = r.out; line; line = strchr(line, '\n')) {
        line += strspn(line, "\n");
        /* "  -d, --data=DIR    what it does", "      --dense    ...", "      --one=X, --other=X  ..." */
        char *at = line + strspn(line, " ");
        if (at[0] == '-' && at[1] != '-' && at[2] == ',') at += 4;
        while (at > line && !strncmp(at, "--", 2)) {
            char option[64];
            size_t n = strspn(at + 2, "abcdefghijklmnopqrstuvwxyz-");
            snprintf(option, sizeof option, "--%.*s", (int)n, at + 2);
            see(name, option, user);
            char *next = strstr(at, ", --"), *end = strchr(at, ' ');
            at = next && next + 1 == end ? next + 2 : line;
        }
    }
    result_free(&r);
}

typedef struct papers {
    char *man;
    char *completed; /* what the completion offers after "pharos COMMAND --", a line each */
    int seen;
} papers;

/* What bash's completion makes of these words, the last of which is not finished. */
static result complete(const char *words) {
    char script[4096];
    snprintf(script, sizeof script,
             ". %s; COMP_WORDS=(%s); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _pharos; printf '%%s\\n' "
             "\"${COMPREPLY[@]}\"",
             SOURCE_DIR "/appliance/completions/pharos", words);
    const char *argv[] = {"/bin/bash", "-c", script, NULL};
    result r = run_program(argv, NULL);
    expect_status(&r, PH_OK);
    expect_silent("completion", r.err);
    return r;
}

static bool is_word(char c) {
    return isalnum((unsigned char)c) || c == '-';
}

static bool mentions(const char *text, const char *option) {
    for (const char *at = text; (at = strstr(at, option)); at++)
        if (!is_word(at[strlen(option)])) return true;
    return false;
}

/* The part of the man page about a command: from its heading to the next one. */
static char *section(const char *man, const char *command) {
    char heading[64];
    snprintf(heading, sizeof heading, ".SS %.40s\n", command);
    const char *start = strstr(man, heading);
    if (!start) {
        fail_msg("the man page says nothing of %s", command);
        return NULL;
    }
    const char *end = strstr(start + strlen(heading) - 1, "\n.S");
    return strndup(start, end ? (size_t)(end - start) : strlen(start));
}

static void see_option(const char *command, const char *option, void *user) {
    papers *p = user;
    char escaped[128], *at = escaped;
    for (const char *c = option; *c; c++) { /* a dash is written \- in a man page */
        if (*c == '-') *at++ = '\\';
        *at++ = *c;
    }
    *at = 0;
    char *own = section(p->man, command), *common = section(p->man, "Every command");
    if (!mentions(own, escaped) && !mentions(common, escaped))
        fail_msg("the man page does not have %s of %s", option, command);
    if (!mentions(p->completed, option)) fail_msg("the completion does not have %s of %s", option, command);
    free(own);
    free(common);
    p->seen++;
}

static void help_man_page_and_completion_agree(void **state) {
    (void)state;
    size_t n;
    papers p = {.man = read_whole(SOURCE_DIR "/appliance/pharos.1", &n)};
    assert_non_null(p.man);
    result commands = complete("pharos ''");
    char names[MAX_COMMANDS][32], words[64];
    list_commands(names);
    for (int i = 0; names[i][0]; i++) {
        snprintf(words, sizeof words, "pharos %.31s --", names[i]);
        result options = complete(words);
        int before = p.seen;
        p.completed = options.out;
        each_option(names[i], see_option, &p);
        assert_true(p.seen >= before + 8); /* the common ones at least: the parser of this test works */
        result_free(&options);
        if (!mentions(commands.out, names[i])) fail_msg("the completion has no %s", names[i]);
    }
    result_free(&commands);
    free(p.man);
}

static void completion_completes(void **state) {
    (void)state;
    static const struct {
        const char *words, *want;
    } cases[] = {
        {"pharos tra", "trace"},       {"pharos ask --max", "--max-tokens"}, {"pharos pack re", "read"},
        {"pharos model che", "check"}, {"pharos add --no-r", "--no-read"},   {"pharos doctor --js", "--json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        result r = complete(cases[i].words);
        if (!strstr(r.out, cases[i].want)) fail_msg("%s: completed to: %s", cases[i].words, r.out);
        result_free(&r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_A_WORLD(help_man_page_and_completion_agree),
        IN_A_WORLD(completion_completes),
    };
    return cmocka_run_group_tests(tests, cli_make_model, cli_remove_model);
}
