/* test_ocr_parts.c - what OCR is made of, without tesseract: its table read, sizes of pictures, settings,
 * languages. */
#include "ingest/image_size.h"
#include "ingest/ocr.h"
#include "ingest/ocr_tsv.h"
#include "ingest/frame.h"

#include "tests/test_ingest.h"

#include <math.h>

/* ---- a table into a document, through the frames ---- */

static int feed(void *user, const void *bytes, size_t n, ph_error *err) {
    return frame_feed(user, bytes, n, err);
}

static document_text say(const char *tsv, double points, ocr_tsv_sum *sum) {
    document_text d = {0};
    frame_reader reader;
    text_sink s;
    page_text text;
    ph_error err = {0};
    frame_reader_init(&reader, &d, 1 << 20, 1 << 20);
    assert_int_equal(sink_open(&s, feed, &reader, 1 << 20, &err), 0);
    page_text_open(&text, &s);
    page_text_page(&text, 1);
    ocr_tsv_say(&text, tsv, strlen(tsv), points, sum);
    page_text_close(&text);
    sink_pages(&s, 1);
    sink_ocr(&s, "eng+deu");
    if (sum->words) {
        assert_int_equal(sink_finish(&s, &err), 0);
        assert_int_equal(frame_finish(&reader, &err), 0);
        assert_string_equal(d.ocr, "eng+deu");
    }
    sink_close(&s);
    frame_reader_free(&reader);
    return d;
}

#define HEAD "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext\n"

static void paragraphs_and_places(void **state) {
    ocr_tsv_sum sum;
    document_text d = say(HEAD "1\t1\t0\t0\t0\t0\t0\t0\t2550\t3300\t-1\t\n"
                               "2\t1\t1\t0\t0\t0\t300\t267\t1706\t595\t-1\t\n"
                               "3\t1\t1\t1\t0\t0\t300\t300\t1000\t300\t-1\t\n"
                               "4\t1\t1\t1\t1\t0\t300\t300\t1000\t50\t-1\t\n"
                               "5\t1\t1\t1\t1\t1\t300\t300\t400\t50\t90\tA\n"
                               "5\t1\t1\t1\t1\t2\t720\t300\t580\t50\t80.5\twrap-\n"
                               "4\t1\t1\t1\t2\t0\t300\t360\t500\t50\t-1\t\n"
                               "5\t1\t1\t1\t2\t1\t300\t360\t200\t50\t96\tped\n"
                               "5\t1\t1\t1\t2\t2\t520\t360\t280\t50\t96\tline.\n"
                               "3\t1\t1\t2\t0\t0\t300\t600\t1000\t50\t-1\t\n"
                               "4\t1\t1\t2\t1\t0\t300\t600\t1000\t50\t-1\t\n"
                               "5\t1\t1\t2\t1\t1\t300\t600\t200\t50\t95\t \n"
                               "5\t1\t1\t2\t1\t2\t300\t600\t200\t50\t70\t\xC3\x9C"
                               "ber\n"
                               "1\t2\t0\t0\t0\t0\t0\t0\t2550\t3300\t-1\t\n"
                               "5\t2\t1\t1\t1\t1\t1\t1\t1\t1\t1\tanother-page\n",
                          0.24, &sum);
    assert_string_equal(d.text, "A wrapped line.\n\n\xC3\x9C"
                                "ber");
    assert_int_equal(sum.words, 5);
    assert_true(fabs(sum.confidence - (90 + 80.5 * 5 + 96 * 3 + 96 * 5 + 70 * 5) / 19) < 1e-9);
    assert_int_equal(d.n_segments, 3);
    expect_segment(&d, 0, "A wrap");
    expect_segment(&d, 1, "ped line.");
    assert_int_equal(d.segments[0].n_rects, 2);
    assert_int_equal(d.segments[1].n_rects, 2);
    assert_int_equal(d.segments[2].n_rects, 1);
    const page_rect *r = &d.rects[d.segments[0].first_rect + 1];
    assert_true(fabsf(r->x0 - 172.8f) < 1e-3f && fabsf(r->x1 - 312) < 1e-3f);
    assert_true(fabsf(r->y0 - 72) < 1e-3f && fabsf(r->y1 - 84) < 1e-3f);
    document_text_free(&d);
}

/* tesseract now and then begins a paragraph in the midst of a sentence. */
static void lines_that_run_on(void **state) {
    static const struct {
        int x0, y0, x1; /* of the line above: x1; of the line that begins a paragraph: x0, y0 */
        const char *text;
    } cases[] = {{100, 160, 990, "above below"},
                 {100, 160, 500, "above\n\nbelow"}, /* a short line ends one */
                 {160, 160, 990, "above\n\nbelow"}, /* indented */
                 {100, 220, 990, "above\n\nbelow"},
                 /* apart */};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char tsv[600];
        ocr_tsv_sum sum;
        snprintf(tsv, sizeof tsv,
                 "1\t1\t0\t0\t0\t0\t0\t0\t2000\t2000\t-1\t\n2\t1\t1\t0\t0\t0\t100\t100\t900\t300\t-1\t\n"
                 "3\t1\t1\t1\t0\t0\t100\t100\t900\t50\t-1\t\n4\t1\t1\t1\t1\t0\t100\t100\t%d\t50\t-1\t\n"
                 "5\t1\t1\t1\t1\t1\t100\t100\t%d\t50\t90\tabove\n3\t1\t1\t2\t0\t0\t%d\t%d\t800\t50\t-1\t\n"
                 "4\t1\t1\t2\t1\t0\t%d\t%d\t800\t50\t-1\t\n5\t1\t1\t2\t1\t1\t%d\t%d\t800\t50\t90\tbelow\n",
                 cases[i].x1 - 100, cases[i].x1 - 100, cases[i].x0, cases[i].y0, cases[i].x0, cases[i].y0,
                 cases[i].x0, cases[i].y0);
        document_text d = say(tsv, 0.24, &sum);
        assert_string_equal(d.text, cases[i].text);
        document_text_free(&d);
    }
}

static void rows_that_are_none(void **state) {
    static const char *const rows[] = {
        "",
        "\n\n\t\t\t\n",
        HEAD,
        "5\t1\t1\t1\t1\t1\t300\t300\t400\t50\n",        /* cut */
        "5\t1\t1\t1\t1\t1\t-5\t300\t400\t50\t90\tx\n",  /* left of the page */
        "5\t1\t1\t1\t1\t1\t1e9\t300\t400\t50\t90\tx\n", /* beyond every page */
        "5\t1\t1\t1\t1\t1\tnan\t300\t400\t50\t90\tx\n",
        "5\t1\t1\t1\t1\t1\t3\t3\t4\t5\tinf\tx\n",
        "5\t1\t1\t1\t1\t1\t3\t3\t4\t5x\t90\tx\n",
        "5\t1\t1\t1\t1\t1\t33333333333333333333333333333333333333\t3\t4\t5\t90\tx\n",
        "5\t1\t1\t1\t1\t1\t3\t3\t4\t5\t90\t\n",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ocr_tsv_sum sum;
        document_text d = say(rows[i], 1, &sum);
        if (sum.words) fail_msg("row %zu made words", i);
        document_text_free(&d);
    }
    /* Confidence is bounded, words without line or paragraph are words, and the measure alone says the same.
     */
    ocr_tsv_sum sum, measured;
    const char *loose = "5\t1\t1\t1\t1\t1\t3\t3\t4\t5\t400\tone\n5\t1\t1\t1\t1\t1\t9\t3\t4\t5\t-3\ttwo";
    document_text d = say(loose, 1, &sum);
    assert_string_equal(d.text, "one two");
    assert_true(sum.words == 2 && sum.confidence == 50);
    ocr_tsv_say(NULL, loose, strlen(loose), 1, &measured);
    assert_memory_equal(&sum, &measured, sizeof sum);
    document_text_free(&d);
}

/* ---- sizes of pictures ---- */

static void png_head(uint8_t out[33], uint32_t width, uint32_t height) {
    memcpy(out, "\x89PNG\r\n\x1A\n\0\0\0\rIHDR", 16);
    for (int i = 0; i < 4; i++) {
        out[16 + i] = (uint8_t)(width >> 8 * (3 - i));
        out[20 + i] = (uint8_t)(height >> 8 * (3 - i));
    }
    memset(out + 24, 0, 9);
}

static void heads_of_pictures(void **state) {
    image_size s;
    uint8_t png[33];
    png_head(png, 70000, 3);
    assert_int_equal(image_kind_of(png, sizeof png), IMAGE_PNG);
    assert_true(image_size_of(&s, png, sizeof png, 10));
    assert_true(s.width == 70000 && s.height == 3 && s.pages == 1 && !s.more);
    for (size_t n = 0; n < 24; n++) assert_false(image_size_of(&s, png, n, 10));
    png_head(png, 0, 3);
    assert_false(image_size_of(&s, png, sizeof png, 10));

    static const uint8_t jpeg[] = {0xFF, 0xD8, 0xFF, 0xE0, 0,    4,    1,    2, 0xFF, 0xFF, 0xC2,
                                   0,    11,   8,    0x12, 0x34, 0x56, 0x78, 1, 0,    0,    0};
    assert_int_equal(image_kind_of(jpeg, sizeof jpeg), IMAGE_JPEG);
    assert_true(image_size_of(&s, jpeg, sizeof jpeg, 10));
    assert_true(s.width == 0x5678 && s.height == 0x1234);
    for (size_t n = 0; n < 21; n++) assert_false(image_size_of(&s, jpeg, n, 10));
    static const uint8_t no_frame[] = {0xFF, 0xD8, 0xFF, 0xDA, 0, 4, 1, 2, 0xFF, 0xD9};
    assert_false(image_size_of(&s, no_frame, sizeof no_frame, 10));
    static const uint8_t no_length[] = {0xFF, 0xD8, 0xFF, 0xE0, 0, 0, 1, 2, 0xFF, 0xD9};
    assert_false(image_size_of(&s, no_length, sizeof no_length, 10));
}

static void chains_of_pages(void **state) {
    /* Big-endian: two directories of two entries each, the second of a long. */
    static const uint8_t two[] = {'M', 'M', 0,  42, 0, 0, 0, 8, 0, 2, 1, 0, 0,  3, 0,  0, 0,
                                  1,   0,   40, 0,  0, 1, 1, 0, 3, 0, 0, 0, 1,  0, 50, 0, 0,
                                  0,   0,   0,  38, 0, 2, 1, 0, 0, 4, 0, 0, 0,  1, 0,  1, 0,
                                  0,   1,   1,  0,  4, 0, 0, 0, 1, 0, 0, 0, 60, 0, 0,  0, 0};
    image_size s;
    assert_int_equal(image_kind_of(two, sizeof two), IMAGE_TIFF);
    assert_true(image_size_of(&s, two, sizeof two, 10));
    assert_true(s.pages == 2 && !s.more && s.width == 65536 && s.height == 60); /* the larger one's */
    assert_true(image_size_of(&s, two, sizeof two, 1));
    assert_true(s.pages == 1 && s.more && s.width == 40 && s.height == 50);
    for (size_t n = 0; n < sizeof two; n++) assert_false(image_size_of(&s, two, n, 10));
    uint8_t loop[sizeof two];
    memcpy(loop, two, sizeof two);
    loop[sizeof two - 1] = 8; /* back to the first */
    assert_true(image_size_of(&s, loop, sizeof loop, 1000));
    assert_true(s.pages == 1000 && s.more);
    loop[sizeof two - 1] = 38; /* to itself */
    assert_false(image_size_of(&s, loop, sizeof loop, 1000));
    loop[sizeof two - 1] = 3;
    assert_false(image_size_of(&s, loop, sizeof loop, 1000));
}

/* ---- what is asked for ---- */

static void settings_travel(void **state) {
    ocr_settings o = {.languages = "eng+deu", .pages = 10, .page_seconds = 20, .seconds = UINT32_MAX}, back;
    char text[128];
    ocr_settings_write(text, &o);
    assert_string_equal(text, "eng+deu:10:20:4294967295");
    assert_true(ocr_settings_read(&back, text));
    assert_string_equal(back.languages, "eng+deu");
    assert_true(back.pages == 10 && back.page_seconds == 20 && back.seconds == UINT32_MAX);
    assert_true(ocr_settings_read(&back, "-"));
    assert_string_equal(back.languages, "");
    static const char *const wrong[] = {
        "",
        "eng",
        "eng:1:2",
        "eng:0:2:3",
        "eng:1:2:3:4",
        ":1:2:3",
        "eng:1:2:-3",
        "eng:1: 2:3",
        "eng:1:2:4294967296",
        "../x:1:2:3",
        "a b:1:2:3",
        "eng:1:2:3x",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:1:2:3"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (ocr_settings_read(&back, wrong[i])) fail_msg("%s", wrong[i]);
}

static void languages(void **state) {
    assert_true(ingest_ocr_language_is_valid("eng"));
    assert_true(ingest_ocr_language_is_valid("chi_sim+eng+deu"));
    static const char *const wrong[] = {"",       "+",       "eng+",  "+eng", "eng++deu",
                                        "../eng", "eng deu", "eng;x", "-l",   "\xC3\xA9"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        ph_error err = {0};
        if (ingest_ocr_language_is_valid(wrong[i])) fail_msg("%s", wrong[i]);
        assert_int_equal(ingest_ocr_check(wrong[i], &err), PH_USAGE);
    }
    ph_error err = {0};
    assert_int_equal(ingest_ocr_check("chi_nowhere", &err), PH_UNSUPPORTED);
    assert_non_null(strstr(err.text, "tesseract-ocr")); /* the program's package, or the language's */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paragraphs_and_places),
        cmocka_unit_test(lines_that_run_on),
        cmocka_unit_test(rows_that_are_none),
        cmocka_unit_test(heads_of_pictures),
        cmocka_unit_test(chains_of_pages),
        cmocka_unit_test(settings_travel),
        cmocka_unit_test(languages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
