/* test_cli_token.c - `pharos token` as a user drives it. */
#include "tests/pharos_cli.h"

#include "kernels/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void tokens_come_and_go(void **state) {
    world *w = *state;
    result r = pharos(w, "token", "add", "anna", "--role", "manage", NULL);
    expect_status(&r, PH_OK);
    char token[64];
    assert_int_equal(r.out_len, 47); /* the token and a line end, nothing else */
    snprintf(token, sizeof token, "%.46s", r.out);
    assert_memory_equal(token, "ph_", 3);
    result_free(&r);
    json_t *v = PHAROS_JSON(w, PH_OK, "token", "add", "bert");
    assert_string_equal(string(v, "role"), "ask");
    assert_int_equal(strlen(string(v, "token")), 46);
    assert_string_not_equal(string(v, "token"), token);
    json_decref(v);
    /* Shown once: neither the list nor the folder has it. */
    r = pharos(w, "token", NULL);
    expect_status(&r, PH_OK);
    assert_non_null(strstr(r.out, "anna"));
    assert_non_null(strstr(r.out, "manage"));
    assert_null(strstr(r.out, "ph_"));
    result_free(&r);
    assert_int_equal(files_holding(w->data, token, 46), 0);
    v = PHAROS_JSON(w, PH_OK, "token", "ls");
    assert_int_equal(json_array_size(v), 2);
    json_decref(v);
    r = pharos(w, "token", "rm", "anna", NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
    v = PHAROS_JSON(w, PH_OK, "token", "ls");
    assert_int_equal(json_array_size(v), 1);
    json_decref(v);
    static const struct {
        const char *words[3];
        int status;
    } wrong[] = {{{"rm", "anna"}, PH_NOT_FOUND}, {{"add", "bert"}, PH_USAGE}, {{"add"}, PH_USAGE},
                 {{"ls", "x"}, PH_USAGE},        {{"what"}, PH_USAGE},        {{"add", "7"}, PH_USAGE}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        r = pharos(w, "token", wrong[i].words[0], wrong[i].words[1], NULL);
        expect_status(&r, wrong[i].status);
        result_free(&r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {IN_A_WORLD(tokens_come_and_go)};
    return cmocka_run_group_tests(tests, cli_make_model, cli_remove_model);
}
