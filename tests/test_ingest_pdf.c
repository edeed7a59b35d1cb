/* PDF: pages, rectangles, reading order, pictures, encryption, damage. The files are written here, object by
 * object. Poppler's output differs between versions, so places are expected within some points. */
#include "tests/test_ingest.h"

#include <zlib.h>

#include <math.h>

typedef struct pdf {
    char text[1 << 16];
    size_t n;
    size_t offsets[64];
    int objects;
} pdf;

static void add(pdf *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(pdf *p, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(p->text + p->n, sizeof p->text - p->n, format, args);
    va_end(args);
    assert_true(n >= 0 && (size_t)n < sizeof p->text - p->n);
    p->n += (size_t)n;
}

static void start(pdf *p) {
    memset(p, 0, sizeof *p);
    add(p, "%%PDF-1.4\n");
}

static int object(pdf *p, const char *body) {
    p->offsets[++p->objects] = p->n;
    add(p, "%d 0 obj\n%s\nendobj\n", p->objects, body);
    return p->objects;
}

static int stream(pdf *p, const char *dictionary, const char *content) {
    p->offsets[++p->objects] = p->n;
    add(p, "%d 0 obj\n<< %s /Length %zu >>\nstream\n%s\nendstream\nendobj\n", p->objects, dictionary,
        strlen(content), content);
    return p->objects;
}

static void finish(pdf *p, const char *name, const char *trailer) {
    size_t table = p->n;
    add(p, "xref\n0 %d\n0000000000 65535 f \n", p->objects + 1);
    for (int i = 1; i <= p->objects; i++) add(p, "%010zu 00000 n \n", p->offsets[i]);
    add(p, "trailer\n<< /Size %d /Root 1 0 R %s >>\nstartxref\n%zu\n%%%%EOF\n", p->objects + 1, trailer,
        table);
    write_bytes(name, p->text, p->n);
}

#define FONT "/Resources << /Font << /F 3 0 R >> /XObject << /I 4 0 R >> >>"

/* Objects 1 to 4 of every file: catalog, pages (5 and up are kids), font, a picture of one pixel. */
static void head(pdf *p, const char *kids, int count) {
    char pages[512];
    start(p);
    object(p, "<< /Type /Catalog /Pages 2 0 R >>");
    snprintf(pages, sizeof pages, "<< /Type /Pages /Kids [%s] /Count %d /MediaBox [0 0 612 792] >>", kids,
             count);
    object(p, pages);
    object(p, "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>");
    stream(p, "/Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray /BitsPerComponent 8",
           "x");
}

static void page(pdf *p, const char *more, const char *content) {
    char body[512];
    snprintf(body, sizeof body, "<< /Type /Page /Parent 2 0 R " FONT " %s /Contents %d 0 R >>", more,
             p->objects + 2);
    object(p, body);
    stream(p, "", content);
}

static void near(double got, double want) {
    if (fabs(got - want) > 4) print_error("%g instead of %g\n", got, want);
    assert_true(fabs(got - want) <= 4);
}

static pdf p;

static void places(void **state) {
    head(&p, "5 0 R 7 0 R 9 0 R", 3);
    page(&p, "", "BT /F 12 Tf 72 720 Td (The lighthouse of Alexandria) Tj ET");
    page(&p, "", "q 400 0 0 400 100 100 cm /I Do Q");
    page(&p, "/CropBox [100 200 500 700]", "BT /F 20 Tf 150 600 Td (On the third page) Tj ET");
    object(&p, "<< /Title (A title & more) >>");
    finish(&p, "x.pdf", "/Info 11 0 R");
    document_text d = read_document("x.pdf");
    assert_string_equal(d.text, "The lighthouse of Alexandria\n\nOn the third page");
    assert_string_equal(d.title, "A title & more");
    assert_string_equal(d.media_type, "application/pdf");
    assert_int_equal(d.pages, 3);
    assert_int_equal(d.n_picture_pages, 1);
    assert_int_equal(d.picture_pages[0], 2);
    assert_int_equal(d.n_segments, 2);
    assert_int_equal(d.segments[0].page, 1);
    assert_int_equal(d.segments[1].page, 3);
    assert_int_equal(d.segments[0].n_rects, 1);
    const page_rect *r = &d.rects[d.segments[0].first_rect];
    near(r->x0, 72);
    near(r->x1, 72 + 152);
    near(r->y0, 792 - 720 - 10);
    near(r->y1, 792 - 720 + 3);
    /* from the corner of what a viewer shows */
    r = &d.rects[d.segments[1].first_rect];
    near(r->x0, 150 - 100);
    near(r->y1, 700 - 600 + 5);
    document_text_free(&d);
}

/* name + ".gz", of one member; zlib is what unpacks it, so it may pack it too. */
static void pack_file(const char *name, const void *bytes, size_t n) {
    char packed[300];
    snprintf(packed, sizeof packed, "%s.gz", name);
    gzFile f = gzopen(path_of(packed), "wb");
    assert_non_null(f);
    assert_int_equal(gzwrite(f, bytes, (unsigned)n), n);
    assert_int_equal(gzclose(f), Z_OK);
}

static void packed(void **state) {
    head(&p, "5 0 R 7 0 R", 2);
    page(&p, "", "BT /F 12 Tf 72 720 Td (The lighthouse of Alexandria) Tj ET");
    page(&p, "", "BT /F 12 Tf 72 720 Td (On the second page) Tj ET");
    finish(&p, "plain.pdf", "");
    pack_file("x.pdf", p.text, p.n);
    document_text d = read_document("x.pdf.gz");
    assert_string_equal(d.text, "The lighthouse of Alexandria\n\nOn the second page");
    assert_string_equal(d.media_type, "application/pdf+gzip"); /* what is kept is no PDF */
    assert_int_equal(d.pages, 2);
    assert_int_equal(d.segments[1].page, 2);
    document_text_free(&d);
    /* Cut in the midst: the damage is gzip's, not poppler's. */
    pack_file("cut.pdf", p.text, p.n);
    FILE *f = fopen(path_of("cut.pdf.gz"), "rb");
    uint8_t bytes[4096];
    size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    write_bytes("cut.pdf.gz", bytes, n / 2);
    expect_refused("cut.pdf.gz", PH_CORRUPT, "gzip");
    /* A layer more is none that is looked through. */
    f = fopen(path_of("x.pdf.gz"), "rb");
    n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    pack_file("twice.pdf.gz", bytes, n);
    expect_refused("twice.pdf.gz.gz", PH_UNSUPPORTED, "application/gzip inside gzip");
    /* What unpacks to more than a reader may hold. */
    size_t huge = (size_t)80 << 20;
    char *big = calloc(1, huge);
    memcpy(big, "%PDF-1.4\n", 9);
    pack_file("bomb.pdf", big, huge);
    free(big);
    ingest_limits limits = {.memory_bytes = (uint64_t)128 << 20, .text_bytes = 1 << 20};
    ph_error err = {0};
    int rc = ingest_extract(&d, path_of("bomb.pdf.gz"), &limits, NULL, NULL, &err);
    assert_int_equal(rc, PH_TOO_LARGE);
}

static void paragraphs(void **state) {
    head(&p, "5 0 R", 1);
    page(&p, "",
         "BT /F 12 Tf 14 TL 72 720 Td (This is a paragraph whose lines are wrapped at the right mar-) Tj T*"
         "(gin, as every paragraph of some length is, so that its lines) Tj T* (are one.) Tj T*"
         "(1. A list) Tj T* (2. of items) Tj 0 -60 Td (Another block.) Tj ET");
    finish(&p, "paragraphs.pdf", "");
    document_text d = read_document("paragraphs.pdf");
    assert_string_equal(
        d.text, "This is a paragraph whose lines are wrapped at the right margin, as every paragraph of "
                "some length is, so that its lines are one.\n1. A list\n2. of items\n\nAnother block.");
    assert_int_equal(d.n_segments, 6);
    for (size_t i = 0; i < d.n_segments; i++) assert_int_equal(d.segments[i].n_rects, 1);
    expect_segment(&d, 0, "This is a paragraph whose lines are wrapped at the right mar");
    document_text_free(&d);
}

static void columns(void **state) {
    char content[4096] = "BT /F 10 Tf 12 TL 50 700 Td ";
    for (int i = 0; i < 12; i++) strcat(content, "(left column has a line of text here) Tj T* ");
    strcat(content, "ET BT /F 10 Tf 12 TL 330 700 Td ");
    for (int i = 0; i < 12; i++) strcat(content, "(right column has another line) Tj T* ");
    strcat(content, "ET");
    head(&p, "5 0 R", 1);
    page(&p, "", content);
    finish(&p, "columns.pdf", "");
    document_text d = read_document("columns.pdf");
    const char *last_left = NULL;
    for (const char *at = d.text; (at = strstr(at, "left")); at++) last_left = at;
    assert_non_null(last_left);
    assert_true(last_left < strstr(d.text, "right"));
    document_text_free(&d);
}

static void markup_in_text(void **state) {
    head(&p, "5 0 R", 1);
    page(&p, "", "BT /F 12 Tf 72 720 Td (a</word></line><page width=\"1\">&amp;<b) Tj ET");
    object(&p, "<< /Title (</title>\n<page width=\"1\">) >>");
    finish(&p, "markup.pdf", "/Info 7 0 R");
    document_text d = read_document("markup.pdf");
    assert_non_null(strstr(d.text, "a</word></line><page"));
    assert_non_null(strstr(d.text, "&amp;<b"));
    assert_int_equal(d.pages, 1);
    document_text_free(&d);
}

static void pictures_only(void **state) {
    head(&p, "5 0 R 7 0 R", 2);
    page(&p, "", "q 400 0 0 400 100 100 cm /I Do Q");
    page(&p, "", "q 400 0 0 400 100 100 cm /I Do Q");
    finish(&p, "scan.pdf", "");
    expect_refused("scan.pdf", PH_UNSUPPORTED, "2 pages, all pictures");
    head(&p, "5 0 R", 1);
    page(&p, "", "0 0 10 10 re f");
    finish(&p, "blank.pdf", "");
    expect_refused("blank.pdf", PH_UNSUPPORTED, "1 page without text");
}

static void encrypted(void **state) {
    head(&p, "5 0 R", 1);
    page(&p, "", "BT /F 12 Tf 72 720 Td (secret) Tj ET");
    object(&p, "<< /Filter /Standard /V 1 /R 2 /P -4 /O (01234567890123456789012345678901) "
               "/U (abcdefghijklmnopqrstuvwxyzabcdef) >>");
    finish(&p, "sealed.pdf", "/Encrypt 7 0 R /ID [(0123456789abcdef) (0123456789abcdef)]");
    expect_refused("sealed.pdf", PH_UNSUPPORTED, "encrypted PDF");
}

static void hostile(void **state) {
    /* a page tree that contains itself, and counts that lie */
    head(&p, "2 0 R 5 0 R", 2000000000);
    page(&p, "", "BT /F 12 Tf 72 720 Td (still here) Tj ET");
    finish(&p, "loop.pdf", "");
    document_text d = {0};
    ph_error err = {0};
    ingest_limits limits = {.seconds = 20};
    int rc = ingest_extract(&d, path_of("loop.pdf"), &limits, NULL, NULL, &err);
    assert_true(rc == 0 || rc == PH_TOO_LARGE || rc == PH_CORRUPT || rc == PH_UNSUPPORTED);
    document_text_free(&d);

    write_text("nothing.pdf", "%PDF-1.7\n");
    expect_refused("nothing.pdf", PH_CORRUPT, "no readable PDF");
    write_text("words.pdf", "some text about %PDF-1.4 and nothing else\n");
    expect_refused("words.pdf", PH_CORRUPT, "no readable PDF");

    head(&p, "5 0 R", 1);
    page(&p, "", "BT /F 12 Tf 72 720 Td (text that survives) Tj ET");
    finish(&p, "good.pdf", "");
    for (size_t cut = 20; cut < p.n; cut += 97) { /* cut anywhere: an answer each time */
        write_bytes("cut.pdf", p.text, cut);
        rc = ingest_extract(&d, path_of("cut.pdf"), &limits, NULL, NULL, &err);
        assert_true(rc == 0 || rc == PH_CORRUPT || rc == PH_UNSUPPORTED);
        document_text_free(&d);
    }
}

static int count(void *user, uint64_t done, uint64_t total) {
    ++*(int *)user;
    return 0;
}

/* A file with a hundred pages reports its pages as it goes. */
static void many_pages(void **state) {
    char *big = malloc(1 << 20);
    assert_non_null(big);
    size_t n = 0, offsets[512];
    int pages = 100;
    n += (size_t)sprintf(big, "%%PDF-1.4\n");
    offsets[1] = n;
    n += (size_t)sprintf(big + n, "1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n");
    offsets[2] = n;
    n +=
        (size_t)sprintf(big + n, "2 0 obj\n<< /Type /Pages /MediaBox [0 0 612 792] /Count %d /Kids [", pages);
    for (int i = 0; i < pages; i++) n += (size_t)sprintf(big + n, "%d 0 R ", 4 + 2 * i);
    n += (size_t)sprintf(big + n, "] >>\nendobj\n");
    offsets[3] = n;
    n +=
        (size_t)sprintf(big + n, "3 0 obj\n<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>\nendobj\n");
    for (int i = 0; i < pages; i++) {
        char content[128];
        sprintf(content, "BT /F 12 Tf 72 720 Td (This is page %d) Tj ET", i + 1);
        offsets[4 + 2 * i] = n;
        n += (size_t)sprintf(big + n,
                             "%d 0 obj\n<< /Type /Page /Parent 2 0 R /Resources << /Font << /F 3 0 R >> >> "
                             "/Contents %d 0 R >>\nendobj\n",
                             4 + 2 * i, 5 + 2 * i);
        offsets[5 + 2 * i] = n;
        n += (size_t)sprintf(big + n, "%d 0 obj\n<< /Length %zu >>\nstream\n%s\nendstream\nendobj\n",
                             5 + 2 * i, strlen(content), content);
    }
    size_t table = n;
    int objects = 3 + 2 * pages;
    n += (size_t)sprintf(big + n, "xref\n0 %d\n0000000000 65535 f \n", objects + 1);
    for (int i = 1; i <= objects; i++) n += (size_t)sprintf(big + n, "%010zu 00000 n \n", offsets[i]);
    n += (size_t)sprintf(big + n, "trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%zu\n%%%%EOF\n",
                         objects + 1, table);
    write_bytes("many.pdf", big, n);
    free(big);
    document_text d = {0};
    ph_error err = {0};
    int calls = 0;
    assert_int_equal(ingest_extract(&d, path_of("many.pdf"), NULL, count, &calls, &err), 0);
    assert_int_equal(d.pages, 100);
    assert_int_equal(d.n_segments, 100);
    for (uint32_t i = 0; i < 100; i++) assert_int_equal(d.segments[i].page, i + 1);
    assert_true(calls >= 1);
    document_text_free(&d);
}

/* PDFs that Debian packages brought along, where there are some. */
static void real_files(void **state) {
    static const struct {
        const char *path, *words;
    } files[] = {{"/usr/share/doc/shared-mime-info/shared-mime-info-spec.pdf", "MIME-info Database"},
                 {"/usr/share/doc/libtasn1-doc/libtasn1.pdf", "Abstract Syntax Notation One"}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        if (access(files[i].path, R_OK) != 0) continue;
        document_text d = {0};
        ph_error err = {0};
        assert_int_equal(ingest_extract(&d, files[i].path, NULL, NULL, NULL, &err), 0);
        assert_non_null(strstr(d.text, files[i].words));
        assert_true(d.pages > 5 && d.n_rects == d.n_segments);
        for (size_t k = 0; k < d.n_rects; k++)
            assert_true(d.rects[k].x0 >= -1 && d.rects[k].x1 < 2000 && d.rects[k].y0 >= -1 &&
                        d.rects[k].y1 < 2000);
        expect_covered(&d, NULL);
        document_text_free(&d);
        print_message("read %s\n", files[i].path);
    }
}

/* ---- pages as they look ---- */

static uint32_t side(const uint8_t *png, size_t at) {
    return (uint32_t)png[at] << 24 | (uint32_t)png[at + 1] << 16 | (uint32_t)png[at + 2] << 8 | png[at + 3];
}

static void page_images(void **state) {
    (void)state;
    static const struct {
        const char *name;
        uint32_t page, pixels;
        int code;
    } wrong[] = {{"two.pdf", 3, 100, PH_NOT_FOUND},
                 {"two.pdf", 0, 100, PH_USAGE},
                 {"two.pdf", 1, 15, PH_USAGE},
                 {"two.pdf", 1, 4097, PH_USAGE},
                 {"two.pdf", UINT32_MAX, 100, PH_NOT_FOUND},
                 {"plain.txt", 1, 100, PH_UNSUPPORTED},
                 {"broken.pdf", 1, 100, -1},
                 {"none.pdf", 1, 100, PH_NOT_FOUND}};
    ph_error err = {0};
    uint8_t *black = NULL, *white = NULL, *huge = NULL;
    size_t n_black, n_white, n_huge;
    if (access("/usr/bin/pdftoppm", X_OK)) skip();
    head(&p, "5 0 R 7 0 R", 2);
    page(&p, "", "100 100 400 500 re f");
    page(&p, "", "");
    finish(&p, "two.pdf", "");
    write_text("plain.txt", "no pages here\n");
    write_text("broken.pdf", "%PDF-1.7\n");
    if (ingest_page_png(&black, &n_black, path_of("two.pdf"), 1, 132, NULL, &err)) fail_msg("%s", err.text);
    if (ingest_page_png(&white, &n_white, path_of("two.pdf"), 2, 132, NULL, &err)) fail_msg("%s", err.text);
    assert_memory_equal(black, "\x89PNG", 4);
    assert_int_equal(side(black, 20), 132); /* 612 x 792 points */
    assert_in_range(side(black, 16), 101, 103);
    assert_true(n_black != n_white || memcmp(black, white, n_black));
    free(black);
    free(white);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        uint8_t *png = &(uint8_t){0};
        size_t n = 1;
        int code =
            ingest_page_png(&png, &n, path_of(wrong[i].name), wrong[i].page, wrong[i].pixels, NULL, &err);
        if (!code || (wrong[i].code > 0 && code != wrong[i].code))
            fail_msg("case %zu: %d, %s", i, code, err.text);
        assert_null(png);
        assert_int_equal(n, 0);
    }
    /* A page as large as a field is no larger an image. */
    head(&p, "5 0 R", 1);
    page(&p, "/MediaBox [0 0 14400 14400]", "0 0 9000 9000 re f");
    finish(&p, "huge.pdf", "");
    if (ingest_page_png(&huge, &n_huge, path_of("huge.pdf"), 1, 64, NULL, &err)) fail_msg("%s", err.text);
    assert_true(side(huge, 16) <= 65 && side(huge, 20) <= 65);
    free(huge);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], INGEST_CHILD_ARGUMENT)) return ingest_child_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places),     cmocka_unit_test(packed),         cmocka_unit_test(paragraphs),
        cmocka_unit_test(columns),    cmocka_unit_test(markup_in_text), cmocka_unit_test(pictures_only),
        cmocka_unit_test(encrypted),  cmocka_unit_test(hostile),        cmocka_unit_test(many_pages),
        cmocka_unit_test(real_files), cmocka_unit_test(page_images),
    };
    if (access("/usr/bin/pdftotext", X_OK) != 0) {
        printf("poppler-utils is not installed, and PDF cannot be read without it\n");
        return 1;
    }
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
