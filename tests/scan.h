/* scan.h - for tests of OCR: a PDF whose pages are pictures of a text, drawn by poppler out of a PDF that
 * says it. */
#ifndef PHAROS_TEST_SCAN_H
#define PHAROS_TEST_SCAN_H

#include "tests/program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct scan_writer {
    FILE *f;
    long offsets[64];
    int objects;
} scan_writer;

static inline void scan_object(scan_writer *w) {
    w->offsets[++w->objects] = ftell(w->f);
    fprintf(w->f, "%d 0 obj\n", w->objects);
}

static inline void scan_stream(scan_writer *w, const char *dictionary, const void *bytes, size_t n) {
    scan_object(w);
    fprintf(w->f, "<< %s /Length %zu >>\nstream\n", dictionary, n);
    fwrite(bytes, 1, n, w->f);
    fprintf(w->f, "\nendstream\nendobj\n");
}

/* A page: its picture (NULL: none) and what is drawn; four objects. */
static inline void scan_page(scan_writer *w, const char *content, const char *picture, const void *pixels,
                             size_t n) {
    scan_object(w);
    fprintf(w->f,
            "<< /Type /Page /Parent 2 0 R /Resources << /Font << /F 3 0 R >> /XObject << /I %d 0 R >> >> "
            "/Contents %d 0 R "
            ">>\nendobj\n",
            w->objects + 2, w->objects + 1);
    scan_stream(w, "", content, strlen(content));
    scan_stream(w, picture, pixels, n);
}

/* `text` as a page's own text where says_it is set, then `scans` pages that are pictures (`pixels`, of an
 * object with this dictionary). */
static inline void scan_write(const char *path, const char *text, bool says_it, int scans,
                              const char *picture, const void *pixels, size_t n) {
    scan_writer w = {.f = fopen(path, "wb")};
    char content[1024];
    int pages = scans + says_it;
    assert_true(w.f && pages <= 16);
    fprintf(w.f, "%%PDF-1.4\n");
    scan_object(&w);
    fprintf(w.f, "<< /Type /Catalog /Pages 2 0 R >>\nendobj\n");
    scan_object(&w);
    fprintf(w.f, "<< /Type /Pages /MediaBox [0 0 612 792] /Count %d /Kids [", pages);
    for (int i = 0; i < pages; i++) fprintf(w.f, "%d 0 R ", 4 + 3 * i);
    fprintf(w.f, "] >>\nendobj\n");
    scan_object(&w);
    fprintf(w.f, "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>\nendobj\n");
    snprintf(content, sizeof content, "BT /F 14 Tf 72 700 Td (%s) Tj ET", text);
    if (says_it)
        scan_page(
            &w, content,
            "/Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray /BitsPerComponent 8",
            "x", 1);
    for (int i = 0; i < scans; i++) scan_page(&w, "q 612 0 0 792 0 0 cm /I Do Q", picture, pixels, n);
    long table = ftell(w.f);
    fprintf(w.f, "xref\n0 %d\n0000000000 65535 f \n", w.objects + 1);
    for (int i = 1; i <= w.objects; i++) fprintf(w.f, "%010ld 00000 n \n", w.offsets[i]);
    fprintf(w.f, "trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%ld\n%%%%EOF\n", w.objects + 1, table);
    assert_int_equal(fclose(w.f), 0);
}

/* The file's bytes, owned: `says` (NULL: none) as text on a page of its own, then `scans` pictures of
 * `shows`, each at (72, 92) points with letters of 14. Neither has parentheses. */
static inline char *scan_pdf(const char *says, const char *shows, int scans, size_t *n) {
    char *dir = make_folder(), command[1024], picture[160];
    char *plain = strdup(in_folder(dir, "plain.pdf")), *drawn = strdup(in_folder(dir, "drawn.pgm"));
    char *made = strdup(in_folder(dir, "made.pdf"));
    size_t size = 0;
    int width = 0, height = 0, head = 0;
    scan_write(plain, shows, true, 0, "", "", 0);
    snprintf(command, sizeof command, "/usr/bin/pdftoppm -gray -r 150 '%s' > '%s'", plain, drawn);
    assert_int_equal(system(command), 0);
    char *pgm = read_whole(drawn, &size);
    assert_non_null(pgm);
    assert_int_equal(sscanf(pgm, "P5 %d %d 255%n", &width, &height, &head), 2);
    assert_int_equal(size, (size_t)head + 1 + (size_t)width * (size_t)height);
    snprintf(
        picture, sizeof picture,
        "/Type /XObject /Subtype /Image /Width %d /Height %d /ColorSpace /DeviceGray /BitsPerComponent 8",
        width, height);
    scan_write(made, says ? says : "", says != NULL, scans, picture, pgm + head + 1, size - (size_t)head - 1);
    char *out = read_whole(made, n);
    assert_non_null(out);
    free(pgm);
    free(plain);
    free(drawn);
    free(made);
    remove_folder(dir);
    return out;
}

#endif
