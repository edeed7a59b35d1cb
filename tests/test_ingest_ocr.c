/* test_ingest_ocr.c - pictures of text through tesseract: words and places against the PDF that they are
 * pictures of; what is too much, too slow, damaged or stopped. Skipped where tesseract is not installed. */
#include "tests/test_ingest.h"

#include <math.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

enum { DPI = 200, MOST_WORDS = 400, SKIPPED = 77 };

/* ---- files: a PDF of text, pictures of its page, PDFs that hold pictures only ---- */

typedef struct bytes {
    uint8_t *at;
    size_t n;
} bytes;

typedef struct picture { /* 8 bits of grey, rows from the top */
    int width, height;
    uint8_t *pixels;
} picture;

static bytes read_all(const char *path) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    bytes b = {.n = (size_t)ftell(f)};
    rewind(f);
    b.at = malloc(b.n + 1);
    assert_non_null(b.at);
    assert_int_equal(fread(b.at, 1, b.n, f), b.n);
    b.at[b.n] = 0;
    fclose(f);
    return b;
}

static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void shell(const char *format, ...) {
    char command[2048];
    va_list args;
    va_start(args, format);
    assert_true(vsnprintf(command, sizeof command, format, args) < (int)sizeof command);
    va_end(args);
    if (system(command)) fail_msg("%s", command);
}

typedef struct pdf {
    FILE *f;
    long offsets[512];
    int objects;
} pdf;

static pdf begin_pdf(const char *name, int pages, const char *more) {
    pdf p = {.f = fopen(path_of(name), "wb")};
    assert_non_null(p.f);
    fprintf(p.f, "%%PDF-1.4\n");
    p.offsets[++p.objects] = ftell(p.f);
    fprintf(p.f, "1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n");
    p.offsets[++p.objects] = ftell(p.f);
    fprintf(p.f, "2 0 obj\n<< /Type /Pages /Count %d %s /Kids [", pages, more);
    for (int i = 0; i < pages; i++) fprintf(p.f, "%d 0 R ", 4 + 3 * i);
    fprintf(p.f, "] >>\nendobj\n");
    p.offsets[++p.objects] = ftell(p.f);
    fprintf(p.f, "3 0 obj\n<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>\nendobj\n");
    return p;
}

/* A page with a picture over all of it (NULL: none), or with a claim of one. */
static void add_page(pdf *p, int width, int height, const char *more, const char *content, const picture *of,
                     int claim) {
    int at = p->objects + 1;
    p->offsets[++p->objects] = ftell(p->f);
    fprintf(p->f,
            "%d 0 obj\n<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %d %d] %s /Resources << /Font << /F 3 0 R "
            ">> /XObject << /I "
            "%d 0 R >> >> /Contents %d 0 R >>\nendobj\n",
            at, width, height, more, at + 2, at + 1);
    p->offsets[++p->objects] = ftell(p->f);
    fprintf(p->f, "%d 0 obj\n<< /Length %zu >>\nstream\n%s\nendstream\nendobj\n", at + 1, strlen(content),
            content);
    int w = of ? of->width : claim, h = of ? of->height : claim;
    size_t n = of ? (size_t)w * (size_t)h : 1;
    p->offsets[++p->objects] = ftell(p->f);
    fprintf(p->f,
            "%d 0 obj\n<< /Type /XObject /Subtype /Image /Width %d /Height %d /ColorSpace /DeviceGray "
            "/BitsPerComponent 8 "
            "/Length %zu >>\nstream\n",
            at + 2, w, h, n);
    assert_int_equal(fwrite(of ? of->pixels : (const uint8_t *)"x", 1, n, p->f), n);
    fprintf(p->f, "\nendstream\nendobj\n");
}

static void end_pdf(pdf *p) {
    long table = ftell(p->f);
    fprintf(p->f, "xref\n0 %d\n0000000000 65535 f \n", p->objects + 1);
    for (int i = 1; i <= p->objects; i++) fprintf(p->f, "%010ld 00000 n \n", p->offsets[i]);
    fprintf(p->f, "trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%ld\n%%%%EOF\n", p->objects + 1, table);
    assert_int_equal(fclose(p->f), 0);
}

static const char *const LINES[] = {
    "The harbour master of Alexandria kept a record of every ship that entered",
    "between 1841 and 1853. He wrote down the names of the captains, the tonnage,",
    "and the duty that was paid in piastres. On 14 March 1846 the brig Constance",
    "arrived with 212 barrels of oil and left again within the week.",
};

static void add_text_page(pdf *p) {
    char content[2048] = "BT /F 11 Tf 15 TL 72 640 Td ";
    for (size_t i = 0; i < sizeof LINES / sizeof *LINES; i++)
        sprintf(content + strlen(content), "(%s) Tj T* ", LINES[i]);
    strcat(content, "ET BT /F 11 Tf 72 420 Td (A paragraph of its own, far below.) Tj ET");
    add_page(p, 612, 792, "", content, NULL, 1);
}

/* draw("text.pdf", ...): the page as pdftoppm sees it, outside of every sandbox. */
static picture draw(const char *name, int dpi) {
    shell("/usr/bin/pdftoppm -gray -r %d '%s' > '%s'", dpi, path_of(name), path_of("drawn.pgm"));
    bytes b = read_all(path_of("drawn.pgm"));
    picture p = {0};
    int deep = 0, head = 0;
    assert_int_equal(sscanf((char *)b.at, "P5 %d %d %d%n", &p.width, &p.height, &deep, &head), 3);
    size_t n = (size_t)p.width * (size_t)p.height;
    assert_true(deep == 255 && b.n == (size_t)head + 1 + n);
    p.pixels = malloc(n);
    assert_non_null(p.pixels);
    memcpy(p.pixels, b.at + head + 1, n);
    free(b.at);
    return p;
}

/* A quarter turn clockwise. */
static picture turn(const picture *p) {
    picture t = {
        .width = p->height, .height = p->width, .pixels = malloc((size_t)p->width * (size_t)p->height)};
    assert_non_null(t.pixels);
    for (int y = 0; y < t.height; y++)
        for (int x = 0; x < t.width; x++)
            t.pixels[(size_t)y * (size_t)t.width + (size_t)x] =
                p->pixels[(size_t)(p->height - 1 - x) * (size_t)p->width + (size_t)y];
    return t;
}

#define WHOLE "q 612 0 0 792 0 0 cm /I Do Q"
static picture text_page; /* what add_text_page looks like */

static int make_files(void **state) {
    if (make_folder(state)) return -1;
    pdf p = begin_pdf("text.pdf", 1, "");
    add_text_page(&p);
    end_pdf(&p);
    text_page = draw("text.pdf", DPI);
    p = begin_pdf("scan.pdf", 1, "");
    add_page(&p, 612, 792, "", WHOLE, &text_page, 0);
    end_pdf(&p);
    return 0;
}

static int remove_files(void **state) {
    free(text_page.pixels);
    return remove_folder(state);
}

static const ingest_limits OCR = {.ocr = true};

static int extract(document_text *d, const char *name, const ingest_limits *limits, ph_error *err) {
    memset(d, 0, sizeof *d);
    *err = (ph_error){0};
    return ingest_extract(d, path_of(name), limits, NULL, NULL, err);
}

static document_text read_by_ocr(const char *name) {
    document_text d;
    ph_error err;
    if (extract(&d, name, &OCR, &err)) fail_msg("%s", err.text);
    assert_string_equal(d.ocr, "eng");
    return d;
}

/* ---- words with places ---- */

typedef struct word {
    char text[64];
    page_rect box;
    uint32_t page;
} word;

/* The PDF's own words. */
static size_t true_words(word *out) {
    shell("/usr/bin/pdftotext -bbox '%s' '%s'", path_of("text.pdf"), path_of("words.html"));
    bytes b = read_all(path_of("words.html"));
    size_t n = 0;
    for (char *at = (char *)b.at; (at = strstr(at, "<word ")); at++) {
        word *w = &out[n];
        assert_true(n < MOST_WORDS);
        if (sscanf(at, "<word xMin=\"%f\" yMin=\"%f\" xMax=\"%f\" yMax=\"%f\">%63[^<]", &w->box.x0,
                   &w->box.y0, &w->box.x1, &w->box.y1, w->text) == 5)
            n++;
    }
    free(b.at);
    return n;
}

/* A document's words: each segment has a rectangle a word. */
static size_t read_words(const document_text *d, word *out) {
    size_t n = 0;
    for (size_t i = 0; i < d->n_segments; i++) {
        const segment *g = &d->segments[i];
        size_t at = g->start, k = 0, words = 1;
        for (size_t c = at; c < g->end; c++) words += d->text[c] == ' ';
        if (g->n_rects == 1 && words > 1) continue; /* a line of the PDF's own */
        while (at < g->end) {
            size_t to = at;
            while (to < g->end && d->text[to] != ' ') to++;
            assert_true(n < MOST_WORDS && k < g->n_rects);
            snprintf(out[n].text, sizeof out[n].text, "%.*s", (int)(to - at), d->text + at);
            out[n].box = d->rects[g->first_rect + k++];
            out[n++].page = g->page;
            at = to + 1;
        }
        assert_int_equal(k, g->n_rects);
    }
    return n;
}

/* Nearly all words are there, in their order, each within some points of where it stands; poppler's boxes
 * have the font's height, tesseract's the ink's. */
static void expect_words(const document_text *d, uint32_t page, float scale) {
    static word truth[MOST_WORDS], got[MOST_WORDS];
    size_t n = true_words(truth), m = read_words(d, got), found = 0;
    assert_true(n > 50);
    for (size_t i = 0, k = 0; i < n; i++) {
        size_t j = k;
        while (j < m && (got[j].page != page || strcmp(got[j].text, truth[i].text))) j++;
        if (j == m) continue;
        page_rect a = truth[i].box, b = got[j].box;
        float *v[] = {&b.x0, &b.y0, &b.x1, &b.y1};
        for (int e = 0; e < 4; e++) *v[e] *= scale;
        bool near = fabsf(a.x0 - b.x0) < 3 && fabsf(a.x1 - b.x1) < 3 && b.y0 > a.y0 - 2 && b.y1 < a.y1 + 2;
        if (!near)
            fail_msg("%s at %.1f,%.1f-%.1f,%.1f instead of %.1f,%.1f-%.1f,%.1f", truth[i].text, (double)b.x0,
                     (double)b.y0, (double)b.x1, (double)b.y1, (double)a.x0, (double)a.y0, (double)a.x1,
                     (double)a.y1);
        found++;
        k = j + 1;
    }
    if (found * 100 < n * 95) fail_msg("%zu words of %zu: %s", found, n, d->text);
}

/* ---- what is read ---- */

static void a_scan(void **state) {
    document_text d = read_by_ocr("scan.pdf"), plain = read_document("text.pdf");
    assert_int_equal(d.pages, 1);
    assert_int_equal(d.n_picture_pages, 0);
    assert_string_equal(d.media_type, "application/pdf");
    assert_non_null(strstr(d.warning, "1 page read by OCR (eng)"));
    assert_null(strstr(d.warning, "misread"));
    expect_words(&d, 1, 1);
    /* Lines of a paragraph are one, and the one below is apart: as it is where the text is a PDF's own. */
    assert_non_null(strstr(d.text, "\n\nA paragraph of its own"));
    assert_non_null(strstr(plain.text, "\n\nA paragraph of its own"));
    assert_non_null(strstr(d.text, "ship that entered between 1841 and 1853."));
    assert_true(d.n_segments >= 5 && d.n_segments <= 6);
    document_text_free(&d);
    document_text_free(&plain);
}

static void without_ocr(void **state) {
    expect_refused("scan.pdf", PH_UNSUPPORTED,
                   "1 page, all pictures: there is no text to read without OCR (--ocr)");
}

static void pages_in_their_places(void **state) {
    pdf p = begin_pdf("mixed.pdf", 5, "");
    add_text_page(&p);
    add_page(&p, 612, 792, "", WHOLE, &text_page, 0);
    add_page(&p, 612, 792, "", WHOLE, &(picture){2, 2, (uint8_t *)"\xFF\xFF\xFF\xFF"}, 0);
    add_text_page(&p);
    add_page(&p, 612, 792, "", WHOLE, &text_page, 0);
    end_pdf(&p);
    document_text d = read_document("mixed.pdf");
    assert_int_equal(d.n_picture_pages, 3);
    assert_string_equal(d.ocr, "");
    size_t alone = d.len;
    document_text_free(&d);
    d = read_by_ocr("mixed.pdf");
    assert_int_equal(d.pages, 5);
    assert_int_equal(d.n_picture_pages, 1);
    assert_int_equal(d.picture_pages[0], 3);
    assert_true(d.len > 2 * alone - 60 && d.len < 2 * alone + 60);
    bool seen[6] = {false};
    for (size_t i = 0; i < d.n_segments; i++) seen[d.segments[i].page] = true;
    assert_true(seen[1] && seen[2] && !seen[3] && seen[4] && seen[5]);
    assert_non_null(strstr(d.warning, "2 pages read by OCR"));
    expect_covered(&d, NULL);
    document_text_free(&d);
}

/* Pages that lie on their side or head, and one that is turned when it is shown: places are as it is shown.
 */
static void turned_pages(void **state) {
    picture side = turn(&text_page), head = turn(&side), other = turn(&head);
    pdf p = begin_pdf("turned.pdf", 4, "");
    add_page(&p, 792, 612, "", "q 792 0 0 612 0 0 cm /I Do Q", &side, 0);
    add_page(&p, 612, 792, "", WHOLE, &head, 0);
    add_page(&p, 792, 612, "/Rotate 90", "q 792 0 0 612 0 0 cm /I Do Q", &other, 0);
    add_page(&p, 612, 792, "/CropBox [50 100 562 742]", WHOLE, &text_page, 0);
    end_pdf(&p);
    document_text d = read_by_ocr("turned.pdf");
    assert_int_equal(d.n_picture_pages, 0);
    expect_words(&d, 3, 1); /* shown upright */
    static word got[MOST_WORDS], truth[MOST_WORDS];
    size_t n = read_words(&d, got), seen[5] = {0};
    assert_true(true_words(truth) > 0);
    page_rect constance = {0};
    for (size_t i = 0; i < MOST_WORDS; i++)
        if (!strcmp(truth[i].text, "Constance")) constance = truth[i].box;
    assert_true(constance.x0 > 0);
    float x = (constance.x0 + constance.x1) / 2, y = (constance.y0 + constance.y1) / 2;
    const float want[5][2] = {{0}, {792 - y, x}, {612 - x, 792 - y}, {x, y}, {x - 50, y - 50}};
    for (size_t i = 0; i < n; i++) {
        if (strcmp(got[i].text, "Constance")) continue;
        uint32_t at = got[i].page;
        float gx = (got[i].box.x0 + got[i].box.x1) / 2, gy = (got[i].box.y0 + got[i].box.y1) / 2;
        if (fabsf(gx - want[at][0]) > 5 || fabsf(gy - want[at][1]) > 5)
            fail_msg("page %u: %.1f,%.1f instead of %.1f,%.1f", at, (double)gx, (double)gy,
                     (double)want[at][0], (double)want[at][1]);
        seen[at]++;
    }
    for (int i = 1; i <= 4; i++) assert_int_equal(seen[i], 1);
    document_text_free(&d);
    free(side.pixels);
    free(head.pixels);
    free(other.pixels);
}

/* A scan that says nothing itself but its scanner's name is a scan; a picture beside a text of its own, or a
 * small one on a sheet with a few words, is not. */
static void stamped_pages(void **state) {
    char content[2400];
    pdf p = begin_pdf("stamped.pdf", 4, "");
    add_page(&p, 612, 792, "", WHOLE " BT /F 9 Tf 250 20 Td (Made with a Scanner) Tj ET", &text_page, 0);
    snprintf(content, sizeof content, WHOLE " BT /F 11 Tf 15 TL 72 640 Td (%s) Tj T* (%s) Tj ET", LINES[0],
             LINES[1]);
    add_page(&p, 612, 792, "", content, &text_page, 0);
    add_page(&p, 612, 792, "",
             "q 200 0 0 259 40 40 cm /I Do Q BT /F 11 Tf 72 640 Td (A small picture.) Tj ET", &text_page, 0);
    snprintf(content, sizeof content,
             "q 612 0 0 792 0 0 cm BI /W 1 /H 1 /BPC 8 /CS /G ID x\nEI Q BT /F 9 Tf 250 20 Td (A grey sheet) "
             "Tj ET");
    add_page(&p, 612, 792, "", content, NULL, 1);
    end_pdf(&p);
    document_text d = read_by_ocr("stamped.pdf");
    expect_words(&d, 1, 1);
    assert_non_null(strstr(d.text, "Made with a Scanner"));
    size_t constance = 0;
    for (const char *at = d.text; (at = strstr(at, "Constance")); at++) constance++;
    assert_int_equal(constance, 1);
    assert_non_null(strstr(d.warning, "1 page read by OCR"));
    const char *grey = strstr(d.text, "A grey sheet"); /* looked at, and not said twice */
    assert_non_null(grey);
    assert_null(strstr(grey + 5, "grey"));
    document_text_free(&d);
}

static void hard_to_read(void **state) {
    picture coarse = draw("text.pdf", 40);
    pdf p = begin_pdf("coarse.pdf", 2, "");
    add_text_page(&p);
    add_page(&p, 612, 792, "", WHOLE, &coarse, 0);
    end_pdf(&p);
    document_text d = read_by_ocr("coarse.pdf");
    assert_non_null(strstr(d.warning, "page 2 may be misread"));
    assert_int_equal(d.segments[d.n_segments - 1].page, 2); /* its words stay */
    document_text_free(&d);
    free(coarse.pixels);
}

/* ---- files that are pictures ---- */

static void put_le(uint8_t *p, uint32_t v, int n) {
    for (int i = 0; i < n; i++) p[i] = (uint8_t)(v >> 8 * i);
}

/* Pages of one picture, uncompressed grey. */
static void write_tiff(const char *name, const picture *of, int pages) {
    enum { ENTRIES = 8, DIRECTORY = 2 + 12 * ENTRIES + 4 };
    size_t n = (size_t)of->width * (size_t)of->height, room = 8 + n + (size_t)pages * DIRECTORY;
    uint8_t *b = calloc(1, room);
    assert_non_null(b);
    memcpy(b, "II*\0", 4);
    put_le(b + 4, (uint32_t)(8 + n), 4);
    memcpy(b + 8, of->pixels, n);
    for (int i = 0; i < pages; i++) {
        uint8_t *at = b + 8 + n + (size_t)i * DIRECTORY;
        const uint32_t entries[ENTRIES][2] = {
            {256, (uint32_t)of->width},  {257, (uint32_t)of->height}, {258, 8}, {259, 1}, {262, 1}, {273, 8},
            {278, (uint32_t)of->height}, {279, (uint32_t)n}};
        put_le(at, ENTRIES, 2);
        for (int k = 0; k < ENTRIES; k++) {
            put_le(at + 2 + 12 * k, entries[k][0], 2);
            put_le(at + 2 + 12 * k + 2, 4, 2);
            put_le(at + 2 + 12 * k + 4, 1, 4);
            put_le(at + 2 + 12 * k + 8, entries[k][1], 4);
        }
        put_le(at + DIRECTORY - 4, i + 1 < pages ? (uint32_t)((size_t)(at - b) + DIRECTORY) : 0, 4);
    }
    write_bytes(name, b, room);
    free(b);
}

static void picture_files(void **state) {
    static const struct {
        const char *option, *ending, *name, *type;
    } kinds[] = {{"-png", "png", "page.dat", "image/png"},
                 {"-jpeg", "jpg", "page.txt", "image/jpeg"}, /* the content counts */
                 {"-gray -tiff", "tif", "page.tif", "image/tiff"}};
    char words[80];
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        shell("/usr/bin/pdftoppm %s -r %d -singlefile '%s' '%s' && mv '%s.%s' '%s'", kinds[i].option, DPI,
              path_of("text.pdf"), path_of("drawn"), path_of("drawn"), kinds[i].ending,
              path_of(kinds[i].name));
        snprintf(words, sizeof words, "a picture (%s): there is no text to read without OCR", kinds[i].type);
        expect_refused(kinds[i].name, PH_UNSUPPORTED, words);
        document_text d = read_by_ocr(kinds[i].name);
        assert_string_equal(d.media_type, kinds[i].type);
        assert_int_equal(d.pages, 1);
        expect_words(&d, 1, 72.0f / DPI); /* in pixels */
        document_text_free(&d);
    }
    write_tiff("three.tiff", &text_page, 3);
    document_text d = read_by_ocr("three.tiff");
    assert_int_equal(d.pages, 3);
    for (uint32_t page = 1; page <= 3; page++) expect_words(&d, page, 72.0f / DPI);
    document_text_free(&d);
    ingest_limits two = {.ocr = true, .ocr_pages = 2};
    ph_error err;
    assert_int_equal(extract(&d, "three.tiff", &two, &err), 0);
    assert_int_equal(d.pages, 2);
    assert_non_null(strstr(d.warning, "more than the 2 pages"));
    document_text_free(&d);
}

static void expect(const char *name, const ingest_limits *limits, int code, const char *words) {
    document_text d;
    ph_error err;
    int rc = extract(&d, name, limits, &err);
    if (rc != code || !strstr(err.text, words)) fail_msg("%s: %d %s", name, rc, err.text);
    assert_null(d.text);
}

static void hostile_pictures(void **state) {
    uint8_t head[33] = "\x89PNG\r\n\x1A\n\0\0\0\rIHDR";
    put_le(head + 16, 0x60EA0000, 4); /* 60,000 */
    put_le(head + 20, 0x60EA0000, 4);
    head[24] = 8;
    write_bytes("bomb.png", head, sizeof head);
    expect("bomb.png", &OCR, PH_TOO_LARGE, "60000 by 60000 pixels");
    put_le(head + 16, 0x10270000, 4); /* 10,000: allowed, and nothing behind it */
    put_le(head + 20, 0x10270000, 4);
    write_bytes("hollow.png", head, sizeof head);
    expect("hollow.png", &OCR, PH_CORRUPT, "OCR cannot read");
    write_bytes("cut.png", head, 20);
    expect("cut.png", &OCR, PH_CORRUPT, "its head says no size");

    shell("/usr/bin/pdftoppm -jpeg -r %d -singlefile '%s' '%s'", DPI, path_of("text.pdf"), path_of("whole"));
    bytes b = read_all(path_of("whole.jpg"));
    for (size_t n = 100; n < b.n; n += b.n / 7) { /* cut anywhere: an answer each time */
        document_text d;
        ph_error err;
        write_bytes("cut.jpg", b.at, n);
        int rc = extract(&d, "cut.jpg", &OCR, &err);
        if (rc && rc != PH_CORRUPT && rc != PH_UNSUPPORTED) fail_msg("%zu bytes: %d %s", n, rc, err.text);
        document_text_free(&d);
    }
    free(b.at);
    /* A blank one. */
    uint8_t white[10000];
    memset(white, 255, sizeof white);
    write_tiff("blank.tif", &(picture){100, 100, white}, 1);
    expect("blank.tif", &OCR, PH_UNSUPPORTED, "OCR (eng) found no text");
}

/* A page that is too much for its reader is named; the others are read. */
static void hostile_pages(void **state) {
    pdf p = begin_pdf("hostile.pdf", 4, "");
    add_page(&p, 612, 792, "", WHOLE, NULL, 200000); /* claims 40 gigapixels */
    add_page(&p, 612, 792, "", WHOLE, &text_page, 0);
    add_page(&p, 14400, 14400, "", "q 14400 0 0 14400 0 0 cm /I Do Q", &text_page, 0); /* five metres wide */
    add_page(&p, 1000000, 1, "", "q 1000000 0 0 1 0 0 cm /I Do Q", &text_page, 0);
    end_pdf(&p);
    ingest_limits brief = {.ocr = true, .ocr_page_seconds = 8};
    document_text d;
    ph_error err;
    if (extract(&d, "hostile.pdf", &brief, &err)) fail_msg("%s", err.text);
    assert_int_equal(d.pages, 4);
    assert_non_null(strstr(d.warning, "OCR of page")); /* failed */
    expect_words(&d, 2, 1);
    assert_true(d.n_picture_pages >= 2 && d.picture_pages[0] == 1);
    for (size_t i = 0; i < d.n_rects; i++) assert_true(d.rects[i].x1 <= 14500 && d.rects[i].y1 <= 14500);
    document_text_free(&d);
}

static void limits_of_a_document(void **state) {
    enum { PAGES = 30 };
    picture small = draw("text.pdf", 72);
    pdf p = begin_pdf("long.pdf", PAGES, "");
    for (int i = 0; i < PAGES; i++) add_page(&p, 612, 792, "", WHOLE, &small, 0);
    end_pdf(&p);
    free(small.pixels);
    document_text d;
    ph_error err;
    ingest_limits few = {.ocr = true, .ocr_pages = 2}, brief = {.ocr = true, .ocr_seconds = 1};
    assert_int_equal(extract(&d, "long.pdf", &few, &err), 0);
    assert_int_equal(d.pages, PAGES);
    assert_int_equal(d.n_picture_pages, PAGES - 2);
    assert_int_equal(d.picture_pages[0], 3);
    assert_non_null(strstr(d.warning, "OCR stopped before pages 3-30: at most 2 pages"));
    document_text_free(&d);
    assert_int_equal(extract(&d, "long.pdf", &brief, &err), 0);
    assert_true(d.n_picture_pages >= 1 && d.n_picture_pages < PAGES);
    assert_non_null(strstr(d.warning, "OCR stopped before page"));
    document_text_free(&d);
}

static void languages_that_are_missing(void **state) {
    ingest_limits nowhere = {.ocr = true, .ocr_language = "eng+xx_yy"},
                  wrong = {.ocr = true, .ocr_language = "../eng"};
    document_text d;
    ph_error err;
    expect("scan.pdf", &nowhere, PH_UNSUPPORTED, "tesseract-ocr-xx-yy");
    expect("scan.pdf", &wrong, PH_USAGE, "names no languages");
    assert_int_equal(extract(&d, "text.pdf", &nowhere, &err), 0); /* which needs none */
    document_text_free(&d);
}

/* ---- stopping ---- */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

typedef struct stopper {
    uint64_t done, total;
    int calls;
    double asked;
} stopper;

static int stop_at_page_two(void *user, uint64_t done, uint64_t total) {
    stopper *s = user;
    s->calls++;
    s->done = done;
    s->total = total;
    if (done < 2) return 0;
    s->asked = now();
    return 1;
}

static void stopping(void **state) {
    document_text d = {0};
    ph_error err = {0};
    stopper s = {0};
    int rc = ingest_extract(&d, path_of("long.pdf"), &OCR, stop_at_page_two, &s, &err);
    assert_int_equal(rc, PH_INTERRUPTED);
    assert_int_equal(s.total, 30);
    assert_true(s.done >= 2 && s.done < 30); /* pages are told as they are read */
    assert_true(now() - s.asked < 1);
    assert_null(d.text);
}

/* Processes below `root`, by /proc. */
static size_t below(pid_t root, pid_t *out, size_t most) {
    size_t n = 0, known = 1;
    pid_t seen[64] = {root};
    for (size_t i = 0; i < known; i++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)seen[i], (int)seen[i]);
        FILE *f = fopen(path, "r");
        int pid;
        while (f && fscanf(f, "%d", &pid) == 1)
            if (n < most && known < 64) out[n++] = seen[known++] = pid;
        if (f) fclose(f);
    }
    return n;
}

static bool runs(pid_t pid, const char *name) {
    char path[64], comm[64] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    FILE *f = fopen(path, "r");
    if (f && !fgets(comm, sizeof comm, f)) comm[0] = 0;
    if (f) fclose(f);
    return !strncmp(comm, name, strlen(name));
}

static void killed_it_leaves_nothing(void **state) {
    pid_t list[64];
    size_t n = 0;
    bool reading = false;
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0); /* orphans come here, to be counted */
    pid_t child = fork();
    if (child == 0) {
        document_text d = {0};
        ph_error err = {0};
        _exit(ingest_extract(&d, path_of("long.pdf"), &OCR, NULL, NULL, &err));
    }
    for (double until = now() + 20; !reading && now() < until;) {
        n = below(child, list, 64);
        for (size_t i = 0; i < n; i++) reading |= runs(list[i], "tesseract");
        nanosleep(&(struct timespec){0, 2000000}, NULL);
    }
    assert_true(reading);
    n = below(child, list, 64);
    assert_true(n >= 2);
    kill(child, SIGKILL);
    size_t left = n + 1;
    for (double until = now() + 5; left && now() < until; nanosleep(&(struct timespec){0, 2000000}, NULL)) {
        while (waitpid(-1, NULL, WNOHANG) > 0) {
        }
        left = 0;
        for (size_t i = 0; i < n; i++) left += kill(list[i], 0) == 0;
    }
    assert_int_equal(left, 0);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0), 0);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], INGEST_CHILD_ARGUMENT)) return ingest_child_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_scan),
        cmocka_unit_test(without_ocr),
        cmocka_unit_test(pages_in_their_places),
        cmocka_unit_test(turned_pages),
        cmocka_unit_test(stamped_pages),
        cmocka_unit_test(hard_to_read),
        cmocka_unit_test(picture_files),
        cmocka_unit_test(hostile_pictures),
        cmocka_unit_test(hostile_pages),
        cmocka_unit_test(limits_of_a_document),
        cmocka_unit_test(languages_that_are_missing),
        cmocka_unit_test(stopping),
        cmocka_unit_test(killed_it_leaves_nothing),
    };
    ph_error err = {0};
    if (ingest_ocr_check(NULL, &err)) {
        printf("skipped: %s\n", err.text);
        return SKIPPED;
    }
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
