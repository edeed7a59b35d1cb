/* program.h - for tests: folders that go away, files in them, and running a program the way a user does.
 * Whatever fails here fails the test that called it. */
#ifndef PHAROS_TEST_PROGRAM_H
#define PHAROS_TEST_PROGRAM_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* A new folder below $TMPDIR; path owned by the caller. remove_folder erases everything and frees the path.
 */
char *make_folder(void);
void remove_folder(char *path);

/* "DIR/NAME" in one of a few buffers that are used in turn: good until the eighth call after. */
const char *in_folder(const char *dir, const char *name);

void write_file(const char *path, const void *bytes, size_t n);
void write_text(const char *path, const char *text);
char *read_whole(const char *path, size_t *n); /* NUL-terminated, owned; NULL when there is none */

/* Number of regular files below dir that hold these bytes; dir itself may be absent. */
int files_holding(const char *dir, const void *bytes, size_t n);
int files_below(const char *dir);

/* What a program did. Free with result_free. */
typedef struct result {
    int status;      /* exit code, or 128 + signal */
    char *out, *err; /* what it wrote, NUL-terminated */
    size_t out_len, err_len;
} result;

void result_free(result *r);

typedef struct run_options {
    const char *input; /* standard input; NULL = /dev/null */
    size_t input_len;  /* 0 = strlen */
    const char *const
        *env; /* "NAME=value", NULL-terminated, on top of a small fixed environment; may be NULL */
} run_options;

/* Runs argv[0] (a path) to its end. options may be NULL. */
result run_program(const char *const *argv, const run_options *options);

/* The same, left running: its output goes nowhere. */
pid_t start_program(const char *const *argv);
int wait_program(pid_t pid); /* as result.status */

/* Standard output and standard error on a pseudo-terminal; both come back as result.out. */
result run_on_terminal(const char *const *argv, const run_options *options);

/* The whole of text as JSON, owned; fails the test when it is none. */
json_t *parse_json(const char *text);

#endif
