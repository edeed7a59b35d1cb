/* test_engine.c - the engine against reference vectors it did not make: every folder of GOLDEN_DIR, on every backend
 * that this machine can run. */
#include "engine/check.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int check_folder(const char *dir, const char *backend) {
    check_result *r = calloc(1, sizeof *r);
    ph_error err = {0};
    assert_non_null(r);
    int code = model_check(r, dir, backend, 0, 0, &err);
    if (code) print_error("%s: %s\n", dir, err.text);
    else if (!r->passed) print_error("%s on %s: %s\n", dir, backend, r->verdict);
    int ok = code == PH_OK && r->passed;
    free(r);
    return ok;
}

static void every_reference_on_every_backend(void **state) {
    (void)state;
    DIR *dir = opendir(GOLDEN_DIR);
    if (!dir) {
        print_message("no reference vectors at %s: skipped\n", GOLDEN_DIR);
        skip();
    }
    int folders = 0, passed = 0, runs = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        char path[4096], expected[4200];
        snprintf(path, sizeof path, "%s/%s", GOLDEN_DIR, e->d_name);
        snprintf(expected, sizeof expected, "%s/expected.safetensors", path);
        if (e->d_name[0] == '.' || access(expected, R_OK)) continue;
        folders++;
        for (const char *const *b = kern_cpu_names(); *b; b++) {
            passed += check_folder(path, *b);
            runs++;
        }
    }
    closedir(dir);
    assert_true(folders > 0);
    assert_int_equal(passed, runs);
}

/* A check that cannot fail is no check: weights that are off must be found out. */
static void a_wrong_model_fails(void **state) {
    (void)state;
    if (access(GOLDEN_DIR "/v32-plain-16h/model.safetensors", R_OK)) skip();
    char dir[] = "/tmp/pharos-check-XXXXXX", command[8192];
    assert_non_null(mkdtemp(dir));
    snprintf(command, sizeof command,
             "cp --no-preserve=mode %s/v32-plain-16h/config.json %s/v32-plain-16h/expected.safetensors %s/ && "
             "cp --no-preserve=mode %s/v32-plain-16h/model.safetensors %s/ && "
             "printf '\\277\\314\\314\\315' | dd of=%s/model.safetensors bs=1 seek=200003 conv=notrunc 2>/dev/null",
             GOLDEN_DIR, GOLDEN_DIR, dir, GOLDEN_DIR, dir, dir);
    assert_int_equal(system(command), 0);
    assert_false(check_folder(dir, NULL));
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_reference_on_every_backend),
        cmocka_unit_test(a_wrong_model_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
