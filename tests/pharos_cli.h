/* pharos_cli.h - for tests that drive the built program: a world of documents and a data folder for each
 * test, and one tiny model for all of them. Whatever goes wrong fails the test. */
#ifndef PHAROS_TEST_CLI_H
#define PHAROS_TEST_CLI_H

#include "tests/program.h"

#define PROGRAM BUILD_DIR "/pharos"

extern char *cli_model; /* the tiny model's folder */

/* A test's own world: documents and a data folder. */
typedef struct world {
    char *dir, *data, *documents;
} world;

/* For cmocka: a world for each test; the model for all of them (fails clearly when the program is not built).
 */
int cli_set_up(void **state);
int cli_tear_down(void **state);
int cli_make_model(void **state);
int cli_remove_model(void **state);
#define IN_A_WORLD(test) cmocka_unit_test_setup_teardown(test, cli_set_up, cli_tear_down)

/* Runs `pharos WORDS... --data DATA --model MODEL`; the words end with NULL. */
result pharos(const world *w, const char *first, ...) __attribute__((sentinel));
result pharos_fed(const world *w, const run_options *options, const char *first, ...)
    __attribute__((sentinel));

void expect_status(const result *r, int status); /* fails with what the program said */
void expect_silent(const char *what, const char *text);

/* Runs with --json, expects exit code `want` and a JSON value on stdout: owned. */
#define PHAROS_JSON(w, want, ...)                                                                            \
    ({                                                                                                       \
        result r_ = pharos(w, __VA_ARGS__, "--json", NULL);                                                  \
        expect_status(&r_, want);                                                                            \
        json_t *v_ = parse_json(r_.out);                                                                     \
        result_free(&r_);                                                                                    \
        v_;                                                                                                  \
    })

/* Members that must be there. */
json_int_t integer(const json_t *object, const char *key);
const char *string(const json_t *object, const char *key);
const json_t *array(const json_t *object, const char *key);

void add_document(const world *w, const char *name, const char *text);
extern const char LIGHTHOUSE[], LIBRARY[]; /* two short texts */
char *long_text(size_t n);                 /* about n bytes, every line another one; owned */

/* The commands that `pharos --help` names; ends with an empty name. */
enum { MAX_COMMANDS = 32 };
void list_commands(char names[MAX_COMMANDS][32]);

#endif
