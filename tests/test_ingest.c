/* Text, Markdown, HTML, source code; charsets; what is refused; walking and hashing. */
#include "tests/test_ingest.h"

#include <fcntl.h>
#include <sys/socket.h>

static void plain_text(void **state) {
    const char *text = "First paragraph,\non two lines.\n\n\n  Second, indented.\nlast line";
    write_text("plain.txt", text);
    document_text d = read_document("plain.txt");
    assert_string_equal(d.text, text);
    assert_int_equal(d.len, strlen(text));
    assert_string_equal(d.media_type, "text/plain");
    assert_string_equal(d.charset, "UTF-8");
    assert_string_equal(d.warning, "");
    assert_int_equal(d.pages, 0);
    assert_int_equal(d.n_segments, 2);
    expect_segment(&d, 0, "First paragraph,\non two lines.");
    expect_segment(&d, 1, "  Second, indented.\nlast line");
    expect_covered(&d, text);
    document_text_free(&d);
}

static void line_ends_and_controls(void **state) {
    write_text("lines", "a\r\nb\rc\n\x01\x7f"
                        "d\fe\v\tf\xc2\x85g\xc2\x9dh\xef\xbb\xbf");
    document_text d = read_document("lines");
    assert_string_equal(d.text, "a\nb\nc\nd\ne\n\tf\ngh\xef\xbb\xbf");
    assert_non_null(strstr(d.warning, "3 control characters"));
    document_text_free(&d);
    write_text("mark.txt", "\xef\xbb\xbfwith a mark");
    document_text d2 = read_document("mark.txt");
    assert_string_equal(d2.text, "with a mark");
    expect_covered(&d2, "\xef\xbb\xbfwith a mark");
    document_text_free(&d2);
}

static void source_ranges_with_carriage_returns(void **state) {
    write_text("crlf.txt", "one\r\ntwo\r\n\r\nthree\r\n");
    document_text d = read_document("crlf.txt");
    assert_string_equal(d.text, "one\ntwo\n\nthree\n");
    assert_int_equal(d.n_segments, 2);
    assert_int_equal(d.segments[1].src_start, 12);
    assert_int_equal(d.segments[1].src_end, 17);
    document_text_free(&d);
}

static void charsets(void **state) {
    write_text("latin1.txt", "Caf\xe9 au lait, na\xefve \x93quoted\x94 \x80 5");
    document_text d = read_document("latin1.txt");
    assert_string_equal(d.text, "Café au lait, naïve “quoted” € 5");
    assert_string_equal(d.charset, "WINDOWS-1252");
    assert_int_equal(d.segments[0].src_end, 0);
    document_text_free(&d);

    write_bytes("utf16le.txt", "\xff\xfeH\0i\0 \0\xe9\0=\xd8\0\xde\n\0", 16);
    expect_text("utf16le.txt", "Hi é😀\n");
    write_bytes("utf16be.txt", "\xfe\xff\0H\0i\xd8\x3d\0!", 10); /* half a surrogate pair */
    d = read_document("utf16be.txt");
    assert_string_equal(d.text, "Hi\uFFFD!");
    document_text_free(&d);
    write_bytes("utf32.txt", "\xff\xfe\0\0H\0\0\0\x00\xf6\x01\0", 12);
    expect_text("utf32.txt", "H😀");
    write_bytes("nomark.txt", "T\0h\0e\0 \0l\0i\0g\0h\0t\0 \0o\0n\0 \0t\0h\0e\0 \0r\0o\0c\0k\0", 42);
    expect_text("nomark.txt", "The light on the rock");

    /* KOI8-R: the alphabet's letters in an order that Russian has */
    const char *koi =
        "\xef\xce \xd0\xd2\xc9\xdb\xa3\xcc \xc4\xcf\xcd\xcf\xca \xc9 \xd5\xd7\xc9\xc4\xc5\xcc "
        "\xd3\xd7\xc5\xd4 \xd7 \xcf\xcb\xce\xc5 \xd3\xd4\xc1\xd2\xcf\xc7\xcf \xcd\xc1\xd1\xcb\xc1";
    write_text("koi8.txt", koi);
    d = read_document("koi8.txt");
    assert_string_equal(d.charset, "KOI8-R");
    assert_non_null(strstr(d.text, "увидел свет в окне старого маяка"));
    document_text_free(&d);

    write_text("invalid.txt", "Stra\xc3\x9f"
                              "e, \xc3\xbc\xc3\xa4\xc3\xb6, and \xff two\xc3 bad bytes");
    d = read_document("invalid.txt");
    assert_string_equal(d.text, "Straße, üäö, and \uFFFD two\uFFFD bad bytes");
    assert_non_null(strstr(d.warning, "2 bytes"));
    document_text_free(&d);
}

static void markdown(void **state) {
    const char *text =
        "# Title\n\nA *paragraph*\nof two lines.\n\n```c\nint x;\n\nint y;\n```\n\n- one\n- two\n\n"
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n> quote\n\n[ref]: http://example.org\n";
    write_text("doc.md", text);
    document_text d = read_document("doc.md");
    assert_string_equal(d.text, text);
    assert_string_equal(d.media_type, "text/markdown");
    expect_covered(&d, text);
    expect_segment(&d, 0, "# Title");
    expect_segment(&d, 1, "A *paragraph*\nof two lines.");
    expect_segment(&d, 2, "```c\nint x;\n\nint y;\n```");
    expect_segment(&d, 3, "- one");
    expect_segment(&d, 4, "- two");
    document_text_free(&d);

    /* without a telling name, by its marks */
    write_text("README", "# A\n\nsee [x](http://x)\n\n## B\n\ntext\n");
    d = read_document("README");
    assert_string_equal(d.media_type, "text/markdown");
    document_text_free(&d);
}

static void html(void **state) {
    write_text("page.html",
               "<!DOCTYPE html><html><head><title> A &amp; B\n title</title><style>p{}</style>"
               "<script>var x = '<p>no</p>';</script></head><body><h1>Head</h1>"
               "<p>One <b>bold</b>\n   caf&eacute;&nbsp;x<br>next <p hidden>hidden</p>"
               "<div style='display: none'>none<div>deeper</div></div><noscript>no</noscript>"
               "<ul><li>first<li>second<ol start=3><li>third</ol></ul>"
               "<table><tr><th>Year<th>Sum<tr><td><p>2024</p><td>1&thinsp;000<tr><td><td>x<td></table>"
               "<pre>a\n  b</pre>tail<svg><text>picture</text></svg>");
    document_text d = read_document("page.html");
    assert_string_equal(d.text,
                        "Head\n\nOne bold café\u00A0x\nnext\n\n- first\n- second\n3. third\n\nYear | Sum\n"
                        "2024 | 1\u2009000\n| x\n\na\n  b\n\ntail");
    assert_string_equal(d.title, "A & B title");
    assert_string_equal(d.media_type, "text/html");
    expect_covered(&d, NULL);
    document_text_free(&d);

    /* its own claim decides where the bytes do not; a name cannot make HTML of a text */
    write_text("meta.htm",
               "<html><meta http-equiv=Content-Type content='text/html; charset=koi8-r'><p>\xd3\xd7\xc5\xd4");
    d = read_document("meta.htm");
    assert_string_equal(d.text, "свет");
    assert_string_equal(d.charset, "KOI8-R");
    document_text_free(&d);
    write_text("noname", "  <!-- c --> <html><body>content decides</body></html>");
    expect_text("noname", "content decides");
    write_text("note.html", "2 < 3 and that is all");
    expect_text("note.html", "2 < 3 and that is all");
    write_text("utf8meta.html", "<html><meta charset=iso-8859-1><p>\xc3\xa9");
    expect_text("utf8meta.html", "é");
    write_text("bad.html", "<html><p>a\xff"
                           "b</p><p>c");
    expect_text("bad.html", "aÿb\n\nc");
    write_text("empty.html", "<html><body><script>x</script></body></html>");
    expect_refused("empty.html", PH_UNSUPPORTED, "no text");
}

static void html_deep(void **state) {
    size_t n = 200000, length = 0;
    char *text = malloc(n * 5 + 100);
    assert_non_null(text);
    length += (size_t)sprintf(text, "<html>");
    for (size_t i = 0; i < n; i++, length += 5) memcpy(text + length, "<div>", 5);
    length += (size_t)sprintf(text + length, "bottom");
    write_bytes("deep.html", text, length);
    free(text);
    expect_text("deep.html", "bottom");
}

static void code_and_data(void **state) {
    static const struct {
        const char *name, *text, *type;
    } cases[] = {
        {"x.c", "#include <stdio.h>\n\n/* <html> */\nint main(void) {\n\treturn 0;\n}\n", "text/x-c"},
        {"x.py", "def f():\n    return '<html>'\n", "text/x-python"},
        {"x.json", "{\"a\": [1, 2]}\n", "application/json"},
        {"x.csv", "a,b\n1,2\n", "text/csv"},
        {"x.xml", "<?xml version=\"1.0\"?>\n<a><b>t</b></a>\n", "text/xml"},
        {"x.log", "2026-01-01 ok\n2026-01-02 ok\n", "text/plain"},
        {"script", "#!/bin/sh\necho hello\n", "text/x-shellscript"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_text(cases[i].name, cases[i].text);
        document_text d = read_document(cases[i].name);
        assert_string_equal(d.text, cases[i].text);
        assert_string_equal(d.media_type, cases[i].type);
        expect_covered(&d, cases[i].text);
        document_text_free(&d);
    }
}

static void refusals(void **state) {
    write_bytes("x.png", "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\2\0\0\0", 29);
    expect_refused("x.png", PH_UNSUPPORTED, "image/png");
    write_bytes("x.txt", "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\2\0\0\0",
                29); /* whatever its name says */
    expect_refused("x.txt", PH_UNSUPPORTED, "image/png");
    write_bytes("x.bin", "abc\0def", 7);
    expect_refused("x.bin", PH_UNSUPPORTED, "application/octet-stream");
    write_text("x.svg", "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>");
    expect_refused("x.svg", PH_UNSUPPORTED, "image/svg+xml");
    write_text("x.ps", "%!PS-Adobe-3.0\n");
    expect_refused("x.ps", PH_UNSUPPORTED, "application/postscript");
    write_text("empty", "");
    expect_refused("empty", PH_UNSUPPORTED, "empty");
    write_text("blank", " \n\t\n  \n");
    expect_refused("blank", PH_UNSUPPORTED, "no text");
    expect_refused("nowhere", PH_NOT_FOUND, "nowhere");
    expect_refused(".", PH_UNSUPPORTED, "a folder");
    assert_int_equal(mkfifo(path_of("fifo"), 0600), 0);
    expect_refused("fifo", PH_UNSUPPORTED, "pipe");
    uint8_t old[1024] = "\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1";
    memcpy(old + 600, "E\0n\0c\0r\0y\0p\0t\0e\0d\0P\0a\0c\0k\0a\0g\0e\0", 32);
    write_bytes("sealed.docx", old, sizeof old);
    expect_refused("sealed.docx", PH_UNSUPPORTED, "encrypted Office document");
}

static void limits(void **state) {
    document_text d = {0};
    ph_error err = {0};
    write_text("long.txt", "0123456789 0123456789 0123456789\n");
    ingest_limits file = {.file_bytes = 20};
    assert_int_equal(ingest_extract(&d, path_of("long.txt"), &file, NULL, NULL, &err), PH_TOO_LARGE);
    assert_non_null(strstr(err.text, "33 bytes"));
    assert_non_null(strstr(err.text, "20 bytes"));
    ingest_limits text = {.text_bytes = 20};
    assert_int_equal(ingest_extract(&d, path_of("long.txt"), &text, NULL, NULL, &err), PH_TOO_LARGE);
    assert_non_null(strstr(err.text, "limit of 20 bytes"));
    text.text_bytes = 33;
    assert_int_equal(ingest_extract(&d, path_of("long.txt"), &text, NULL, NULL, &err), 0);
    document_text_free(&d);
}

/* One word of many megabytes, and as many blank lines: linear, and in segments of bounded size. */
static void long_word(void **state) {
    size_t n = (size_t)30 << 20;
    char *text = malloc(n);
    assert_non_null(text);
    memset(text, 'a', n);
    write_bytes("word.txt", text, n);
    document_text d = read_document("word.txt");
    assert_int_equal(d.len, n);
    assert_true(d.n_segments > 1000 && d.n_segments < 3000);
    for (size_t i = 1; i < d.n_segments; i++) assert_int_equal(d.segments[i].start, d.segments[i - 1].end);
    document_text_free(&d);
    for (size_t i = 0; i < n; i++) text[i] = i % 3 ? '\n' : 'x'; /* more paragraphs than segments are kept */
    write_bytes("paragraphs.txt", text, n);
    d = read_document("paragraphs.txt");
    assert_int_equal(d.len, n);
    assert_true(d.n_segments >= 1 << 20 && d.n_segments < 1100000);
    expect_covered(&d, text);
    document_text_free(&d);
    free(text);
}

static int stop_at_once(void *user, uint64_t done, uint64_t total) {
    ++*(int *)user;
    return 1;
}

static int count_progress(void *user, uint64_t done, uint64_t total) {
    ++*(int *)user;
    assert_true(total == 0 || done <= total);
    return 0;
}

static void progress_and_stop(void **state) {
    size_t n = (size_t)200 << 20;
    assert_int_equal(truncate(path_of("word.txt"), 0), 0);
    FILE *f = fopen(path_of("word.txt"), "wb");
    assert_non_null(f);
    char line[1024];
    memset(line, 'b', sizeof line);
    line[1023] = '\n';
    for (size_t i = 0; i < n / sizeof line; i++) fwrite(line, 1, sizeof line, f);
    fclose(f);
    document_text d = {0};
    ph_error err = {0};
    int calls = 0;
    int rc = ingest_extract(&d, path_of("word.txt"), NULL, stop_at_once, &calls, &err);
    assert_int_equal(rc, PH_INTERRUPTED);
    assert_int_equal(calls, 1);
    assert_null(d.text);
    calls = 0;
    rc = ingest_extract(&d, path_of("word.txt"), NULL, count_progress, &calls, &err);
    assert_int_equal(rc, 0);
    assert_true(calls >= 2);
    document_text_free(&d);
    unlink(path_of("word.txt"));
}

static void gzip(void **state) {
    /* "hello from gzip\n" as one stored block, made by hand: header, block, CRC-32, length */
    const uint8_t bytes[] = {0x1f, 0x8b, 8,   0,   0,    0,    0,    0,    0,    3,   1,   16,  0,
                             0xef, 0xff, 'h', 'e', 'l',  'l',  'o',  ' ',  'f',  'r', 'o', 'm', ' ',
                             'g',  'z',  'i', 'p', '\n', 0xc3, 0x1d, 0x4b, 0x0c, 16,  0,   0,   0};
    write_bytes("cut.gz", bytes, sizeof bytes - 10);
    expect_refused("cut.gz", PH_CORRUPT, "gzip");
    write_bytes("wrong.gz", bytes, sizeof bytes);
    ph_error err = {0};
    document_text d = {0};
    int rc = ingest_extract(&d, path_of("wrong.gz"), NULL, NULL, NULL, &err);
    assert_true(rc == 0 || rc == PH_CORRUPT); /* by the check sum */
    document_text_free(&d);
    char command[600];
    write_text("text", "Compressed text.\n\nTwice.\n");
    snprintf(command, sizeof command, "cd %s && gzip -c text > one.gz && cat one.gz one.gz > two.gz", folder);
    if (system(command) != 0) {
        print_message("no gzip here: only damaged files were tried\n");
        return;
    }
    snprintf(command, sizeof command, "cd %s && head -c 150000000 /dev/zero | tr '\\0' a | gzip -c > bomb.gz", folder);
    if (system(command) == 0) expect_refused("bomb.gz", PH_TOO_LARGE, "gzip bomb");
    d = read_document("two.gz");
    assert_string_equal(d.text, "Compressed text.\n\nTwice.\nCompressed text.\n\nTwice.\n");
    assert_int_equal(d.segments[0].src_end, 0);
    document_text_free(&d);
}

static void rtf(void **state) {
    write_text(
        "x.rtf",
        "{\\rtf1\\ansi\\ansicpg1252\\deff0{\\fonttbl{\\f0 Times;}}{\\info{\\title A title}}"
        "\\f0\\fs24 Caf\\'e9 \\u8364?5 \\b bold\\b0\\par Second\\tab line\\line more{\\*\\generator x;}"
        "\\par\\pard a \\{brace\\} \\'84q\\'93\\~x}");
    document_text d = read_document("x.rtf");
    assert_string_equal(d.text, "Café €5 bold\n\nSecond\tline\nmore\n\na {brace} „q“\u00A0x");
    assert_string_equal(d.title, "A title");
    document_text_free(&d);
    write_text("open.rtf", "{\\rtf1 text that never ends");
    expect_text("open.rtf", "text that never ends");
}

/* --- hashing and walking --- */

static void hashing(void **state) {
    uint8_t a[32], b[32];
    uint64_t size;
    ph_error err = {0};
    write_text("h1", "abc");
    write_text("h2", "abc");
    assert_int_equal(ingest_hash_file(a, &size, path_of("h1"), &err), 0);
    assert_int_equal(size, 3);
    assert_int_equal(ingest_hash_file(b, &size, path_of("h2"), &err), 0);
    assert_memory_equal(a, b, 32);
    /* BLAKE2b-256 of "abc" */
    assert_int_equal(a[0], 0xbd);
    assert_int_equal(a[1], 0xdd);
    assert_int_equal(a[31], 0x19);
    assert_int_equal(ingest_hash_file(a, &size, path_of("none"), &err), PH_NOT_FOUND);
    assert_int_equal(ingest_hash_file(a, &size, folder, &err), PH_UNSUPPORTED);
}

typedef struct listing {
    char text[2048];
    int stop_after;
} listing;

static int on_file(void *user, const char *path, const char *name) {
    listing *l = user;
    assert_int_equal(access(path, R_OK), 0);
    strncat(l->text, name, sizeof l->text - strlen(l->text) - 2);
    strcat(l->text, "\n");
    return l->stop_after && --l->stop_after == 0;
}

static int on_skipped(void *user, const char *path, const char *reason) {
    listing *l = user;
    snprintf(l->text + strlen(l->text), sizeof l->text - strlen(l->text), "! %s: %s\n",
             path + strlen(folder) + 6, reason);
    return 0;
}

static void walking(void **state) {
    ph_error err = {0};
    assert_int_equal(mkdir(path_of("tree"), 0700), 0);
    assert_int_equal(mkdir(path_of("tree/b"), 0700), 0);
    assert_int_equal(mkdir(path_of("tree/.git"), 0700), 0);
    assert_int_equal(mkdir(path_of("tree/empty"), 0700), 0);
    write_text("tree/c.txt", "c");
    write_text("tree/a.txt", "a");
    write_text("tree/B.txt", "B");
    write_text("tree/b/x.txt", "x");
    write_text("tree/.hidden", "h");
    write_text("outside.txt", "o");
    assert_int_equal(symlink("../outside.txt", path_of("tree/d-link")), 0);
    assert_int_equal(symlink("c.txt", path_of("tree/a-link")), 0); /* sorts before its file */
    assert_int_equal(symlink("..", path_of("tree/b/up")), 0);
    assert_int_equal(symlink("nowhere", path_of("tree/e-dangling")), 0);
    assert_int_equal(symlink("f-self", path_of("tree/f-self")), 0);
    assert_int_equal(link(path_of("tree/a.txt"), path_of("tree/g-hard")), 0);
    assert_int_equal(mkfifo(path_of("tree/h-fifo"), 0600), 0);
    listing l = {{0}, 0};
    assert_int_equal(ingest_walk(path_of("tree"), on_file, on_skipped, &l, &err), 0);
    assert_string_equal(
        l.text, "! .git: hidden\n! .hidden: hidden\nB.txt\na.txt\nb/x.txt\n! b/up: a folder met before\n"
                "c.txt\n! g-hard: a file met before\n! h-fifo: not a regular file\n"
                "! a-link: a file met before\nd-link\n! e-dangling: a link that leads nowhere\n"
                "! f-self: a link that leads to itself\n");
    memset(&l, 0, sizeof l);
    assert_int_equal(ingest_walk(path_of("tree/c.txt"), on_file, on_skipped, &l, &err), 0);
    assert_string_equal(l.text, "c.txt\n");
    memset(&l, 0, sizeof l);
    l.stop_after = 1;
    assert_int_equal(ingest_walk(path_of("tree"), on_file, on_skipped, &l, &err), PH_INTERRUPTED);
    assert_int_equal(ingest_walk(path_of("none"), on_file, on_skipped, &l, &err), PH_NOT_FOUND);
}

/* A folder of ten thousand folders within folders ends in one line, not in a crash. */
static void walking_deep(void **state) {
    char path[2048];
    int at = open(folder, O_RDONLY | O_DIRECTORY);
    assert_true(at >= 0);
    assert_int_equal(mkdirat(at, "down", 0700), 0);
    for (int i = 0; i < 200; i++) {
        int next = openat(at, i ? "d" : "down", O_RDONLY | O_DIRECTORY);
        assert_true(next >= 0);
        close(at);
        at = next;
        assert_int_equal(mkdirat(at, "d", 0700), 0);
    }
    close(at);
    listing l = {{0}, 0};
    snprintf(path, sizeof path, "%s/down", folder);
    assert_int_equal(ingest_walk(path, on_file, on_skipped, &l, NULL), 0);
    assert_non_null(strstr(l.text, "more than 128 folders deep"));
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], INGEST_CHILD_ARGUMENT)) return ingest_child_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_text),
        cmocka_unit_test(line_ends_and_controls),
        cmocka_unit_test(source_ranges_with_carriage_returns),
        cmocka_unit_test(charsets),
        cmocka_unit_test(markdown),
        cmocka_unit_test(html),
        cmocka_unit_test(html_deep),
        cmocka_unit_test(code_and_data),
        cmocka_unit_test(refusals),
        cmocka_unit_test(limits),
        cmocka_unit_test(long_word),
        cmocka_unit_test(progress_and_stop),
        cmocka_unit_test(gzip),
        cmocka_unit_test(rtf),
        cmocka_unit_test(hashing),
        cmocka_unit_test(walking),
        cmocka_unit_test(walking_deep),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
