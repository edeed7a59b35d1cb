/* test_cli_watch.c - `pharos watch`, `backup` and `restore` as a person uses them. */
#include "tests/pharos_cli.h"

#include "kernels/error.h"
#include "tests/tiny_model.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* One look at the world's documents: "state name" for each event, joined by commas. */
static void look(const world *w, int status, const char *expected) {
    result r = pharos(w, "watch", "--once", w->documents, "--json", "--no-read", NULL);
    expect_status(&r, status);
    char events[2000] = "";
    for (char *line = strtok(r.out, "\n"); line; line = strtok(NULL, "\n")) {
        json_t *j = parse_json(line);
        size_t n = strlen(events);
        snprintf(events + n, sizeof events - n, "%s%s %s", n ? ", " : "", string(j, "state"),
                 string(j, "name"));
        json_decref(j);
    }
    result_free(&r);
    assert_string_equal(events, expected);
}

static size_t documents(const world *w) {
    json_t *v = PHAROS_JSON(w, PH_OK, "ls");
    size_t n = json_array_size(json_is_array(v) ? v : json_object_get(v, "documents"));
    json_decref(v);
    return n;
}

static void folders(void **state) {
    const world *w = *state;
    add_document(w, "a.txt", LIGHTHOUSE);
    add_document(w, "b.txt", LIBRARY);
    look(w, PH_OK, "added a.txt, added b.txt");
    look(w, PH_OK, "");
    /* Changed; gone; new below. */
    add_document(w, "a.txt", "The tower has another keeper now, and he is called Brandt.");
    look(w, PH_OK, "updated a.txt");
    unlink(in_folder(w->documents, "b.txt"));
    assert_int_equal(mkdir(in_folder(w->documents, "below"), 0700), 0);
    add_document(w, "below/c.txt", "Cedars stand below the hill.");
    look(w, PH_OK, "removed b.txt, added below/c.txt");
    assert_int_equal(documents(w), 2);
    /* The same content under a second name is no document of its own until the first one goes. */
    add_document(w, "copy.txt", "Cedars stand below the hill.");
    look(w, PH_OK, "known copy.txt");
    unlink(in_folder(w->documents, "below/c.txt"));
    look(w, PH_OK, "removed below/c.txt, added copy.txt");
    /* What cannot be read is told, and told again by the next program only. */
    write_text(in_folder(w->documents, "bad.pdf"), "%PDF-1.7 and nothing else");
    look(w, PH_FAIL, "failed bad.pdf");
    unlink(in_folder(w->documents, "bad.pdf"));
}

/* A disk that is not mounted looks like an empty or a missing folder. */
static void unmounted(void **state) {
    const world *w = *state;
    add_document(w, "a.txt", LIGHTHOUSE);
    look(w, PH_OK, "added a.txt");
    unlink(in_folder(w->documents, "a.txt"));
    char expected[4200];
    snprintf(expected, sizeof expected, "missing %s", w->documents);
    look(w, PH_OK, expected);
    assert_int_equal(documents(w), 1);
    result r = pharos(w, "watch", "--once", in_folder(w->dir, "nowhere"), NULL);
    expect_status(&r, PH_NOT_FOUND);
    result_free(&r);
    write_text(in_folder(w->dir, "file"), "x");
    r = pharos(w, "watch", "--once", in_folder(w->dir, "file"), NULL);
    expect_status(&r, PH_USAGE);
    result_free(&r);
    r = pharos(w, "watch", NULL);
    expect_status(&r, PH_USAGE);
    result_free(&r);
}

/* Runs until it is told to stop, sees what comes meanwhile, reads it, and ends with 0. */
static void until_stopped(void **state) {
    const world *w = *state;
    add_document(w, "a.txt", LIGHTHOUSE);
    int out[2];
    assert_int_equal(pipe(out), 0);
    alarm(120); /* a watch that sees nothing would never end */
    pid_t child = fork();
    if (child == 0) {
        dup2(out[1], STDOUT_FILENO);
        close(out[0]);
        close(out[1]);
        execl(PROGRAM, PROGRAM, "watch", "--every", "1", "--data", w->data, "--model", cli_model,
              w->documents, (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    FILE *f = fdopen(out[0], "r");
    char line[500];
    bool later = false, read_again = false;
    while (!read_again && fgets(line, sizeof line, f)) {
        /* The first file waits until it is two seconds old, and is then read. */
        if (!strncmp(line, "read ", 5) && !later) {
            add_document(w, "later.txt", LIBRARY);
            later = true;
        } else if (!strncmp(line, "read ", 5))
            read_again = true;
    }
    assert_true(read_again);
    kill(child, SIGINT);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    alarm(0);
    fclose(f);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(documents(w), 2);
}

static void backup_and_restore(void **state) {
    const world *w = *state;
    add_document(w, "a.txt", LIGHTHOUSE);
    result r = pharos(w, "add", in_folder(w->documents, "a.txt"), NULL);
    expect_status(&r, PH_OK);
    result_free(&r);
    r = pharos(w, "ask", "Who keeps the lighthouse?", NULL);
    assert_true(r.status == PH_OK || r.status == PH_NOT_FOUND);
    result_free(&r);
    char *file = strdup(in_folder(w->dir, "all.zip"));
    json_t *v = PHAROS_JSON(w, PH_OK, "backup", file);
    assert_string_equal(string(v, "path"), file);
    struct stat st;
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(integer(v, "bytes"), st.st_size);
    json_decref(v);
    r = pharos(w, "backup", file, NULL);
    expect_status(&r, PH_USAGE);
    result_free(&r);
    r = pharos(w, "restore", file, NULL); /* the data folder is not empty */
    expect_status(&r, PH_USAGE);
    result_free(&r);
    r = pharos(w, "restore", NULL);
    expect_status(&r, PH_USAGE);
    result_free(&r);
    world other = *w;
    other.data = strdup(in_folder(w->dir, "other"));
    r = pharos(&other, "restore", file, NULL);
    expect_status(&r, PH_OK);
    assert_non_null(strstr(r.out, "1 documents, 1 answers"));
    result_free(&r);
    assert_int_equal(documents(&other), 1);
    /* What was asked gives the same again, from a folder that has to read anew. */
    r = pharos(&other, "ask", "Who keeps the lighthouse?", NULL);
    assert_true(r.status == PH_OK || r.status == PH_NOT_FOUND);
    result_free(&r);
    free(other.data);
    free(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_A_WORLD(folders),
        IN_A_WORLD(unmounted),
        IN_A_WORLD(until_stopped),
        IN_A_WORLD(backup_and_restore),
    };
    return cmocka_run_group_tests(tests, cli_make_model, cli_remove_model);
}
