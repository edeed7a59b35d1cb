/* test_ingest.h - what the tests of ingest share: a folder of their own, files in it, documents read from
 * them. */
#ifndef PHAROS_TEST_INGEST_H
#define PHAROS_TEST_INGEST_H

#include "ingest/ingest.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[64];

static inline int make_folder(void **state) {
    snprintf(folder, sizeof folder, "/tmp/pharos-ingest-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static inline int remove_folder(void **state) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static inline const char *path_of(const char *name) {
    static char path[4][512];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static inline void write_bytes(const char *name, const void *bytes, size_t n) {
    FILE *f = fopen(path_of(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static inline void write_text(const char *name, const char *text) {
    write_bytes(name, text, strlen(text));
}

/* Reads a file of the folder through the child; fails the test when that fails. */
static inline document_text read_document(const char *name) {
    document_text d = {0};
    ph_error err = {0};
    int rc = ingest_extract(&d, path_of(name), NULL, NULL, NULL, &err);
    if (rc) print_error("%s: %d %s\n", name, rc, err.text);
    assert_int_equal(rc, 0);
    return d;
}

static inline void expect_text(const char *name, const char *want) {
    document_text d = read_document(name);
    assert_string_equal(d.text, want);
    document_text_free(&d);
}

/* The file is refused with this code and a sentence that holds these words. */
static inline void expect_refused(const char *name, int code, const char *words) {
    document_text d = {0};
    ph_error err = {0};
    int rc = ingest_extract(&d, path_of(name), NULL, NULL, NULL, &err);
    if (rc != code || !strstr(err.text, words)) print_error("%s: %d %s\n", name, rc, err.text);
    assert_int_equal(rc, code);
    assert_int_equal(err.code, code);
    assert_non_null(strstr(err.text, words));
    assert_null(d.text);
}

static inline void expect_segment(const document_text *d, size_t i, const char *want) {
    char got[1024];
    assert_true(i < d->n_segments);
    snprintf(got, sizeof got, "%.*s", (int)(d->segments[i].end - d->segments[i].start),
             d->text + d->segments[i].start);
    assert_string_equal(got, want);
}

/* Everything outside segments is white space, and the source of each says what it says. */
static inline void expect_covered(const document_text *d, const char *source) {
    size_t at = 0;
    for (size_t i = 0; i <= d->n_segments; i++) {
        size_t to = i < d->n_segments ? d->segments[i].start : d->len;
        for (; at < to; at++) assert_non_null(strchr(" \n\t", d->text[at]));
        if (i == d->n_segments) break;
        const segment *s = &d->segments[i];
        at = s->end;
        if (source && s->src_end) {
            assert_int_equal(s->end - s->start, s->src_end - s->src_start);
            assert_memory_equal(d->text + s->start, source + s->src_start, s->end - s->start);
        }
    }
}

#endif
