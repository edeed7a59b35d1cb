/* engine_files.h - for the tests of the file readers in engine/: whole files, a corpus of valid and invalid
 * ones, and an allocator that fails on demand. Include it once in a program. */
#ifndef PHAROS_TESTS_ENGINE_FILES_H
#define PHAROS_TESTS_ENGINE_FILES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/error.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static inline char *slurp(const char *path, size_t *len) {
    *len = 0;
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    long n = ftell(f);
    assert_true(n >= 0);
    rewind(f);
    char *s =
        malloc(n ? (size_t)n : 1); /* no spare byte, so that AddressSanitizer sees a read past the end */
    assert_non_null(s);
    assert_int_equal(fread(s, 1, (size_t)n, f), (size_t)n);
    fclose(f);
    *len = (size_t)n;
    return s;
}

static inline void spill(const char *path, const void *bytes, size_t len) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static inline void temporary_dir(char *out, size_t size) {
    snprintf(out, size, "%s/engine_files_XXXXXX", BUILD_DIR);
    assert_non_null(mkdtemp(out));
}

/* ---- corpus ---- */

typedef struct expected_reason {
    const char *file, *reason; /* the sentence must contain it */
} expected_reason;

/* valid-* must be read, invalid-* be refused with PH_MODEL for the reason in the table, which must name each.
 */
static inline void check_corpus(const char *what, int (*read)(const char *, size_t, ph_error *),
                                const expected_reason *reasons, size_t n_reasons) {
    char dir[1024];
    snprintf(dir, sizeof dir, "%s/tests/corpus/%s", SOURCE_DIR, what);
    DIR *d = opendir(dir);
    assert_non_null(d);
    int valid = 0, wrong = 0;
    size_t invalid = 0;
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        char path[2048];
        size_t len;
        ph_error err = {0};
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        char *s = slurp(path, &len);
        assert_non_null(s);
        int code = read(s, len, &err);
        free(s);
        if (!strncmp(e->d_name, "valid-", 6)) {
            valid++;
            if (code) print_error("%s: refused with %d: %s\n", e->d_name, code, err.text);
            wrong += code != 0;
            continue;
        }
        const char *reason = NULL;
        for (size_t i = 0; i < n_reasons; i++) {
            size_t n = strlen(reasons[i].file);
            if (!strncmp(e->d_name, "invalid-", 8) && !strncmp(e->d_name + 8, reasons[i].file, n) &&
                e->d_name[8 + n] == '.')
                reason = reasons[i].reason;
        }
        invalid++;
        if (!reason || code != PH_MODEL || err.code != code || !strstr(err.text, reason)) {
            print_error("%s: %d \"%s\", expected \"%s\"\n", e->d_name, code, err.text,
                        reason ? reason : "(none)");
            wrong++;
        }
    }
    closedir(d);
    assert_int_equal(wrong, 0);
    assert_true(valid > 0);
    assert_int_equal(invalid, n_reasons);
}

/* ---- an allocator that fails ---- */

#if defined(__SANITIZE_ADDRESS__)
#define FAILING_ALLOCATOR 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FAILING_ALLOCATOR 0
#endif
#endif
#ifndef FAILING_ALLOCATOR
#define FAILING_ALLOCATOR 1
#endif

#if FAILING_ALLOCATOR
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);

static long allocations_left = -1; /* until one fails; negative: none does */
static long allocations_live;

static int allocation_fails(void) {
    return allocations_left >= 0 && allocations_left-- == 0;
}

static void *counted(void *p) {
    allocations_live += p != NULL;
    return p;
}

void *malloc(size_t n) {
    return allocation_fails() ? NULL : counted(__libc_malloc(n));
}
void *calloc(size_t n, size_t size) {
    return allocation_fails() ? NULL : counted(__libc_calloc(n, size));
}
void *aligned_alloc(size_t a, size_t n) {
    return allocation_fails() ? NULL : counted(__libc_memalign(a, n));
}

void *realloc(void *p, size_t n) {
    if (allocation_fails()) return NULL;
    void *q = __libc_realloc(p, n);
    allocations_live += q && !p;
    return q;
}

void free(void *p) {
    allocations_live -= p != NULL;
    __libc_free(p);
}

/* Runs `work` with the first allocation failing, then the second, and so on until it needs none that fails.
 * Each run must say so and leave nothing behind. */
static inline void check_every_allocation(int (*work)(ph_error *)) {
    ph_error err = {0};
    assert_int_equal(work(&err), 0); /* what a library keeps for ever is allocated now */
    for (long n = 0;; n++) {
        long before = allocations_live;
        err = (ph_error){0};
        allocations_left = n;
        int code = work(&err);
        int reached = allocations_left < 0;
        allocations_left = -1;
        assert_int_equal(allocations_live, before);
        if (!reached) {
            assert_int_equal(code, 0);
            assert_true(n > 3);
            return;
        }
        /* A failure may also be harmless, as where matching goes on without a compiled pattern. */
        bool told = code == 0 || code == PH_MEMORY;
        if (!told) print_error("allocation %ld: %d %s\n", n, code, err.text);
        assert_true(told);
    }
}
#endif

#endif
