/* The formats that are zip files, made here by libzip: what is said, and what is refused. */
#include "tests/test_ingest.h"

#include <zip.h>

typedef struct part {
    const char *name, *text;
} part;

static void make_zip(const char *name, const part *parts, size_t n, zip_int32_t method) {
    int failed = 0;
    unlink(path_of(name));
    zip_t *z = zip_open(path_of(name), ZIP_CREATE | ZIP_EXCL, &failed);
    assert_non_null(z);
    for (size_t i = 0; i < n; i++) {
        zip_source_t *source = zip_source_buffer(z, parts[i].text, strlen(parts[i].text), 0);
        assert_non_null(source);
        zip_int64_t at = zip_file_add(z, parts[i].name, source, 0);
        assert_true(at >= 0);
        zip_set_file_compression(z, (zip_uint64_t)at, method, 9);
    }
    assert_int_equal(zip_close(z), 0);
}
#define MAKE(name, ...)                                                                                      \
    do {                                                                                                     \
        const part parts[] = {__VA_ARGS__};                                                                  \
        make_zip(name, parts, sizeof parts / sizeof *parts, ZIP_CM_DEFLATE);                                 \
    } while (0)

#define W "xmlns:w=\"http://schemas.openxmlformats.org/wordprocessingml/2006/main\""
#define R "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
#define RELS "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">"
#define REL(id, type, target) "<Relationship Id=\"" id "\" Type=\"" R "/" type "\" Target=\"" target "\"/>"
#define TYPES                                                                                                \
    { "[Content_Types].xml", "<Types/>" }
#define MAIN(target)                                                                                         \
    { "_rels/.rels", RELS REL("r1", "officeDocument", target) "</Relationships>" }
#define P(text) "<w:p><w:r><w:t>" text "</w:t></w:r></w:p>"

static void docx(void **state) {
    MAKE("x.docx", TYPES, MAIN("word/document.xml"),
         {"word/_rels/document.xml.rels",
          RELS REL("a", "footnotes", "footnotes.xml") REL("b", "header", "header1.xml")
              REL("c", "header", "header2.xml") REL("d", "footer", "/word/footer1.xml") "</Relationships>"},
         {"word/header1.xml", "<w:hdr " W ">" P("Acme Corp") "</w:hdr>"},
         {"word/header2.xml", "<w:hdr " W ">" P("Acme Corp") "</w:hdr>"},
         {"word/footer1.xml", "<w:ftr " W ">" P("Confidential") "</w:ftr>"},
         {"word/footnotes.xml",
          "<w:footnotes " W "><w:footnote w:type=\"separator\" w:id=\"-1\">" P(
              "x") "</w:footnote><w:footnote w:id=\"1\">" P("The note.") "</w:footnote></w:footnotes>"},
         {"docProps/core.xml",
          "<cp:p xmlns:cp=\"a\" xmlns:dc=\"b\"><dc:title>The &lt;Title&gt;</dc:title></cp:p>"},
         {"word/document.xml",
          "<?xml version=\"1.0\" encoding=\"UTF-8\"?><w:document " W "><w:body>"
          "<w:p><w:pPr><w:tabs><w:tab w:pos=\"1\"/></w:tabs></w:pPr><w:r><w:t>Hello</w:t></w:r>"
          "<w:r><w:t xml:space=\"preserve\"> w\xC3\xB6rld</w:t></w:r>"
          "<w:del><w:r><w:delText>gone</w:delText></w:r></w:del><w:ins><w:r><w:t> new</w:t></w:r></w:ins>"
          "<w:moveFrom><w:r><w:t>old place</w:t></w:r></w:moveFrom>"
          "<w:r><w:tab/><w:t>tab</w:t><w:br/><w:t>line</w:t></w:r><w:r><w:footnoteReference "
          "w:id=\"1\"/></w:r></w:p>"
          "<w:p><w:pPr><w:numPr><w:numId w:val=\"2\"/></w:numPr></w:pPr><w:r><w:t>item</w:t></w:r></w:p>"
          "<w:p><w:r><w:rPr><w:vanish/></w:rPr><w:t>secret</w:t></w:r></w:p>"
          "<w:p><w:r><w:instrText>PAGE</w:instrText></w:r></w:p>"
          "<w:tbl><w:tr><w:tc>" P("A1") "</w:tc><w:tc>" P("B1") P(
              "more") "</w:tc></w:tr>"
                      "<w:tr><w:tc><w:p/></w:tc><w:tc>" P(
                          "B2") "</w:tc><w:tc><w:p/></w:tc></w:tr></w:tbl>"
                                "<w:p><w:r><mc:AlternateContent xmlns:mc=\"m\"><mc:Choice>" P(
                                    "box") "</mc:Choice><mc:Fallback>" P("box") "</mc:Fallback></"
                                                                                "mc:AlternateContent></w:r></"
                                                                                "w:p>" P("End") "</w:body></"
                                                                                                "w:"
                                                                                                "document>"});
    document_text d = read_document("x.docx");
    assert_string_equal(
        d.text, "Acme Corp\n\nHello wörld new\ttab\nline[^1]\n\n- item\n\nA1 | B1 more\n| B2\n\nbox\n\n"
                "End\n\n[^1]: The note.\n\nConfidential");
    assert_string_equal(d.title, "The <Title>");
    assert_string_equal(d.media_type,
                        "application/vnd.openxmlformats-officedocument.wordprocessingml.document");
    expect_segment(&d, 3, "A1 | B1 more");
    expect_covered(&d, NULL);
    document_text_free(&d);
}

/* The numbers that Word shows, by paragraph, by style, by restart. */
static void docx_numbers(void **state) {
#define NP(level, number, text)                                                                              \
    "<w:p><w:pPr><w:numPr><w:ilvl w:val=\"" level "\"/><w:numId w:val=\"" number                             \
    "\"/></w:numPr></w:pPr><w:r><w:t>" text "</w:t></w:r></w:p>"
#define SP(style, text)                                                                                      \
    "<w:p><w:pPr><w:pStyle w:val=\"" style "\"/></w:pPr><w:r><w:t>" text "</w:t></w:r></w:p>"
#define LEVEL(i, format, text)                                                                               \
    "<w:lvl w:ilvl=\"" i "\"><w:start w:val=\"1\"/><w:numFmt w:val=\"" format "\"/><w:lvlText w:val=\"" text \
    "\"/></w:lvl>"
    MAKE("n.docx", TYPES, MAIN("word/document.xml"),
         {"word/_rels/document.xml.rels",
          RELS REL("a", "numbering", "numbering.xml") REL("b", "styles", "styles.xml") "</Relationships>"},
         {"word/numbering.xml",
          "<w:numbering " W
          "><w:abstractNum w:abstractNumId=\"7\">" LEVEL("0", "decimal", "%1.") LEVEL("1", "decimal", "%1.%2")
              LEVEL("2", "lowerLetter", "(%3)") "</w:abstractNum><w:abstractNum w:abstractNumId=\"8\">" LEVEL(
                  "0", "bullet", "\xEF\x82\xB7")
                  LEVEL("1", "lowerRoman",
                        "%2)") "</w:abstractNum>"
                               "<w:num w:numId=\"1\"><w:abstractNumId w:val=\"7\"/></w:num><w:num "
                               "w:numId=\"2\"><w:abstractNumId w:val=\"8\"/></w:num>"
                               "<w:num w:numId=\"3\"><w:abstractNumId w:val=\"7\"/><w:lvlOverride "
                               "w:ilvl=\"0\"><w:startOverride w:val=\"9\"/>"
                               "</w:lvlOverride></w:num></w:numbering>"},
         {"word/styles.xml",
          "<w:styles " W
          "><w:style w:styleId=\"H1\"><w:pPr><w:numPr><w:numId w:val=\"1\"/></w:numPr></w:pPr></w:style>"
          "<w:style w:styleId=\"H2\"><w:basedOn w:val=\"H1\"/><w:pPr><w:numPr><w:ilvl w:val=\"1\"/><w:numId "
          "w:val=\"1\"/></w:numPr>"
          "</w:pPr></w:style><w:style w:styleId=\"H1x\"><w:basedOn w:val=\"H1\"/></w:style></w:styles>"},
         {"word/document.xml",
          "<w:document " W "><w:body>" SP("H1", "Terms") SP("H2", "Price") SP("H2", "Time")
              NP("2", "1", "first") NP("2", "1", "second") SP("H1x", "Law")
                  SP("H2", "Place") "<w:p><w:pPr><w:pStyle w:val=\"H2\"/><w:numPr><w:numId "
                                    "w:val=\"0\"/></w:numPr></w:pPr>"
                                    "<w:r><w:t>none</w:t></w:r></w:p>" NP("0", "2", "dot") NP("1", "2", "one")
                                        NP("1", "2", "two") NP("0", "3", "restarted")
                                            NP("0", "99", "unknown") "</w:body></w:document>"});
    expect_text(
        "n.docx",
        "1. Terms\n\n1.1 Price\n\n1.2 Time\n\n(a) first\n\n(b) second\n\n2. Law\n\n2.1 Place\n\nnone\n\n"
        "- dot\n\ni) one\n\nii) two\n\n9. restarted\n\n- unknown");
}

static void xlsx(void **state) {
    MAKE("x.xlsx", TYPES, MAIN("xl/workbook.xml"),
         {"xl/_rels/workbook.xml.rels",
          RELS REL("s", "sharedStrings", "sharedStrings.xml") REL("y", "styles", "styles.xml")
              REL("w1", "worksheet", "worksheets/sheet1.xml")
                  REL("w2", "worksheet", "worksheets/sheet2.xml") "</Relationships>"},
         {"xl/workbook.xml",
          "<workbook xmlns:r=\"" R "\"><sheets><sheet name=\"Sales\" sheetId=\"1\" r:id=\"w1\"/>"
          "<sheet name=\"Other\" sheetId=\"2\" r:id=\"w2\"/></sheets></workbook>"},
         {"xl/sharedStrings.xml",
          "<sst><si><t>Name</t></si><si><r><t>Da</t></r><r><t>te</t></r><rPh><t>no</t></rPh></si></sst>"},
         {"xl/styles.xml",
          "<styleSheet><numFmts><numFmt numFmtId=\"164\" formatCode=\"yyyy\\-mm\"/>"
          "<numFmt numFmtId=\"165\" formatCode=\"0.0&quot;d&quot;\"/></numFmts>"
          "<cellStyleXfs><xf numFmtId=\"14\"/></cellStyleXfs>"
          "<cellXfs><xf numFmtId=\"0\"/><xf numFmtId=\"164\"/><xf numFmtId=\"165\"/></cellXfs></styleSheet>"},
         {"xl/worksheets/sheet1.xml",
          "<worksheet><sheetData><row><c r=\"A1\" t=\"s\"><v>0</v></c><c r=\"C1\" t=\"s\"><v>1</v></c></row>"
          "<row><c r=\"A2\"><v>0.30000000000000004</v></c><c r=\"C2\" s=\"1\"><v>45292.5</v></c>"
          "<c r=\"D2\" t=\"b\"><v>1</v></c><c r=\"E2\" s=\"2\"><v>45292</v></c><c r=\"F2\"/></row>"
          "<row><c t=\"s\"><v>99999</v></c></row></sheetData></worksheet>"},
         {"xl/worksheets/sheet2.xml",
          "<worksheet><sheetData><row><c t=\"inlineStr\"><is><t>in line</t></is></c>"
          "<c t=\"str\"><f>A1</f><v>formula</v></c></row></sheetData></worksheet>"});
    document_text d = read_document("x.xlsx");
    assert_string_equal(d.text, "Sales\nName | | Date\n0.3 | | 2024-01-01 12:00:00 | TRUE | 45292\n\nOther\n"
                                "in line | formula");
    assert_int_equal(d.pages, 2);
    assert_int_equal(d.segments[0].page, 1);
    assert_int_equal(d.segments[d.n_segments - 1].page, 2);
    document_text_free(&d);
}

static void pptx(void **state) {
#define SLIDE(body) "<p:sld xmlns:p=\"p\" xmlns:a=\"a\">" body "</p:sld>"
#define A(text) "<a:p><a:r><a:t>" text "</a:t></a:r></a:p>"
    MAKE("x.pptx", TYPES, MAIN("ppt/presentation.xml"),
         {"ppt/_rels/presentation.xml.rels", RELS REL("x", "slide", "slides/slide1.xml")
                                                 REL("y", "slide", "slides/slide2.xml") "</Relationships>"},
         {"ppt/presentation.xml",
          "<p:presentation xmlns:p=\"p\" xmlns:r=\"" R "\"><p:sldIdLst>"
          "<p:sldId id=\"256\" r:id=\"y\"/><p:sldId id=\"257\" r:id=\"x\"/></p:sldIdLst></p:presentation>"},
         {"ppt/slides/slide1.xml", SLIDE("<p:sp>" A("Slide one") A("line") "</p:sp>")},
         {"ppt/slides/slide2.xml", SLIDE("<p:sp>" A("Slide two") "</p:sp><a:tbl><a:tr><a:tc>" A(
                                       "x") "</a:tc><a:tc>" A("y") "</a:tc></a:tr></a:tbl>")},
         {"ppt/slides/_rels/slide1.xml.rels",
          RELS REL("n", "notesSlide", "../notesSlides/n1.xml") "</Relationships>"},
         {"ppt/notesSlides/n1.xml",
          "<p:notes xmlns:p=\"p\" xmlns:a=\"a\"><p:sp><p:nvPr><p:ph type=\"sldNum\"/></p:nvPr>" A(
              "7") "</p:sp><p:sp><p:nvPr><p:ph type=\"body\"/></p:nvPr>" A("Say hi") "</p:sp></p:notes>"});
    document_text d = read_document("x.pptx");
    assert_string_equal(d.text, "Slide two\n\nx | y\n\nSlide one\nline\n\nNotes: Say hi");
    assert_int_equal(d.pages, 2);
    assert_int_equal(d.segments[2].page, 2);
    document_text_free(&d);
}

#define ODF(body)                                                                                            \
    "<office:document-content xmlns:office=\"o\" xmlns:text=\"t\" xmlns:table=\"tb\" "                       \
    "xmlns:draw=\"d\"><office:body>" body "</office:body></office:document-content>"

static void odf(void **state) {
    MAKE("x.odt", {"mimetype", "application/vnd.oasis.opendocument.text"},
         {"meta.xml", "<m xmlns:dc=\"b\"><dc:title>T</dc:title></m>"},
         {"content.xml",
          ODF("<office:text><text:tracked-changes><text:deletion><text:p>gone</text:p></text:deletion></"
              "text:tracked-changes>"
              "<text:h>Head</text:h><text:p>One<text:s "
              "text:c=\"2\"/>two<text:note><text:note-citation>1</text:note-citation>"
              "<text:note-body><text:p>The note</text:p></text:note-body></text:note> "
              "end<text:line-break/>next"
              "<office:annotation><text:p>comment</text:p></office:annotation></text:p>"
              "<text:list><text:list-item><text:p>a</text:p></text:list-item><text:list-item><text:p>b</"
              "text:p></text:list-item></text:list>"
              "<table:table><table:table-row><table:table-cell "
              "table:number-columns-repeated=\"2\"/><table:table-cell><text:p>c</text:p>"
              "</table:table-cell><table:table-cell "
              "table:number-columns-repeated=\"16000\"/></table:table-row></table:table></office:text>")});
    document_text d = read_document("x.odt");
    assert_string_equal(d.text, "Head\n\nOne  two[^1] end\nnext\n\n[^1]: The note\n\n- a\n- b\n\n| | c");
    assert_string_equal(d.title, "T");
    assert_string_equal(d.media_type, "application/vnd.oasis.opendocument.text");
    document_text_free(&d);

    MAKE("x.ods", {"mimetype", "application/vnd.oasis.opendocument.spreadsheet"},
         {"content.xml",
          ODF("<table:table "
              "table:name=\"One\"><table:table-row><table:table-cell><text:p>1</text:p></table:table-cell>"
              "<table:table-cell><text:p>2</text:p></table:table-cell></table:table-row></table:table>"
              "<table:table "
              "table:name=\"Two\"><table:table-row><table:table-cell><text:p>3</text:p></table:table-cell>"
              "</table:table-row></table:table>")});
    d = read_document("x.ods");
    assert_string_equal(d.text, "One\n1 | 2\n\nTwo\n3");
    assert_int_equal(d.pages, 2);
    document_text_free(&d);

    MAKE(
        "x.odp", {"mimetype", "application/vnd.oasis.opendocument.presentation"},
        {"content.xml",
         ODF("<draw:page><text:p>first</text:p></draw:page><draw:page><text:p>second</text:p></draw:page>")});
    d = read_document("x.odp");
    assert_string_equal(d.text, "first\n\nsecond");
    assert_int_equal(d.segments[1].page, 2);
    document_text_free(&d);
}

#define CONTAINER                                                                                            \
    {                                                                                                        \
        "META-INF/container.xml",                                                                            \
            "<container><rootfiles><rootfile full-path=\"OPS/p.opf\"/></rootfiles></container>"              \
    }

static void epub(void **state) {
    MAKE("x.epub", {"mimetype", "application/epub+zip"}, CONTAINER,
         {"OPS/p.opf",
          "<package "
          "xmlns:dc=\"x\"><metadata><dc:title>Book</dc:title><dc:title>Second</dc:title></metadata><manifest>"
          "<item id=\"b\" href=\"b%20c.xhtml\" media-type=\"application/xhtml+xml\"/>"
          "<item id=\"a\" href=\"../a.xhtml\" media-type=\"application/xhtml+xml\"/>"
          "<item id=\"gone\" href=\"../../../etc/passwd\" media-type=\"application/xhtml+xml\"/>"
          "<item id=\"css\" href=\"x.css\" media-type=\"text/css\"/></manifest>"
          "<spine><itemref idref=\"b\"/><itemref idref=\"gone\"/><itemref idref=\"css\"/><itemref "
          "idref=\"a\"/></spine></package>"},
         {"OPS/b c.xhtml",
          "<?xml version=\"1.0\"?><!DOCTYPE html><html><head><title>no</title></head><body><h1>One</h1>"
          "<p>First&nbsp;text</p></body></html>"},
         {"a.xhtml", "<html><body><p>Second</p></body></html>"});
    document_text d = read_document("x.epub");
    assert_string_equal(d.text, "One\n\nFirst\u00A0text\n\nSecond");
    assert_string_equal(d.title, "Book");
    assert_string_equal(d.media_type, "application/epub+zip");
    assert_non_null(strstr(d.warning, "1 chapters are missing"));
    document_text_free(&d);

    MAKE("drm.epub", {"mimetype", "application/epub+zip"}, CONTAINER,
         {"OPS/p.opf", "<package><manifest><item id=\"a\" href=\"a.xhtml\" "
                       "media-type=\"application/xhtml+xml\"/></manifest>"
                       "<spine><itemref idref=\"a\"/></spine></package>"},
         {"META-INF/encryption.xml", "<encryption><CipherReference URI=\"OPS/a.xhtml\"/></encryption>"},
         {"OPS/a.xhtml", "xxxx"});
    expect_refused("drm.epub", PH_UNSUPPORTED, "encrypted EPUB");
}

/* --- hostile ones --- */

static void entities(void **state) {
    MAKE("xxe.docx", TYPES, MAIN("word/document.xml"),
         {"word/document.xml", "<!DOCTYPE d [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><w:document " W
                               "><w:body>" P("&x;") "</w:body></w:document>"});
    expect_refused("xxe.docx", PH_CORRUPT, "declares entities");
    MAKE("laughs.odt",
         {"content.xml", "<!DOCTYPE d [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">"
                         "<!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;\">]><p>&c;</p>"});
    expect_refused("laughs.odt", PH_CORRUPT, "declares entities");
    MAKE("undefined.docx", TYPES, MAIN("word/document.xml"),
         {"word/document.xml", "<w:document " W "><w:body>" P("&nothing;") "</w:body></w:document>"});
    expect_refused("undefined.docx", PH_CORRUPT, "no valid XML");
}

static void nesting(void **state) {
    size_t n = 100000;
    char *text = malloc(n * 16 + 100), *at = text;
    assert_non_null(text);
    for (size_t i = 0; i < n; i++) at = stpcpy(at, "<a>");
    strcpy(at, "x");
    MAKE("deep.odt", {"content.xml", text});
    expect_refused("deep.odt", PH_CORRUPT, "more than 512 deep");
    free(text);
}

static void bombs(void **state) {
    /* a gigabyte of zeros behind a megabyte, as the text of one paragraph */
    size_t n = (size_t)300 << 20;
    char *text = malloc(n + 1);
    assert_non_null(text);
    memset(text, ' ', n);
    text[n] = 0;
    memcpy(text, "<p>", 3);
    MAKE("bomb.odt", {"content.xml", text});
    struct stat st;
    assert_int_equal(stat(path_of("bomb.odt"), &st), 0);
    assert_true(st.st_size < 1 << 20);
    free(text);
    expect_refused("bomb.odt", PH_TOO_LARGE, "zip bomb");
}

static void names_that_climb(void **state) {
    MAKE("slip.odt", {"../../../../tmp/pharos-slipped", "x"}, {"/tmp/pharos-slipped", "x"},
         {"content.xml", ODF("<text:p>fine</text:p>")});
    expect_text("slip.odt", "fine");
    assert_int_equal(access("/tmp/pharos-slipped", F_OK), -1);
    MAKE("climb.docx", TYPES, MAIN("../../etc/passwd"),
         {"word/document.xml", "<w:document " W "><w:body>" P("main") "</w:body></w:document>"});
    expect_text("climb.docx", "main");
}

static void damaged(void **state) {
    MAKE("plain.zip", {"a.txt", "text"});
    expect_refused("plain.zip", PH_UNSUPPORTED, "application/zip");
    MAKE("empty.docx", TYPES, {"other.xml", "<x/>"});
    expect_refused("empty.docx", PH_UNSUPPORTED, "unknown kind");
    MAKE("cut.docx", TYPES, MAIN("word/document.xml"),
         {"word/document.xml", "<w:document " W "><w:body>" P("x")});
    expect_refused("cut.docx", PH_CORRUPT, "no valid XML");
    MAKE("none.docx", TYPES, MAIN("word/document.xml"),
         {"word/document.xml", "<w:document " W "><w:body/></w:document>"});
    expect_refused("none.docx", PH_UNSUPPORTED, "no text");
    MAKE("nopackage.epub", CONTAINER);
    expect_refused("nopackage.epub", PH_CORRUPT, "missing");

    /* every byte of a small file changed, one at a time: an answer each time, and never a crash of ours */
    const part parts[] = {{"mimetype", "application/vnd.oasis.opendocument.text"},
                          {"content.xml", ODF("<text:p>text</text:p>")}};
    make_zip("flip.odt", parts, 2, ZIP_CM_STORE);
    FILE *f = fopen(path_of("flip.odt"), "rb");
    assert_non_null(f);
    uint8_t bytes[4096];
    size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    for (size_t i = 0; i < n; i += 7) {
        uint8_t was = bytes[i];
        bytes[i] ^= 0x41;
        write_bytes("flipped.odt", bytes, n);
        document_text d = {0};
        ph_error err = {0};
        int rc = ingest_extract(&d, path_of("flipped.odt"), NULL, NULL, NULL, &err);
        assert_true(rc == 0 || rc == PH_CORRUPT || rc == PH_UNSUPPORTED || rc == PH_TOO_LARGE);
        assert_true(rc == 0 || !strstr(err.text, "crashed"));
        document_text_free(&d);
        bytes[i] = was;
    }
}

static void encrypted(void **state) {
    MAKE("key.odt", {"mimetype", "application/vnd.oasis.opendocument.text"},
         {"META-INF/manifest.xml", "<manifest><encryption-data/></manifest>"}, {"content.xml", "xx"});
    expect_refused("key.odt", PH_UNSUPPORTED, "encrypted OpenDocument");
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], INGEST_CHILD_ARGUMENT)) return ingest_child_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(docx),     cmocka_unit_test(docx_numbers),
        cmocka_unit_test(xlsx),     cmocka_unit_test(pptx),
        cmocka_unit_test(odf),      cmocka_unit_test(epub),
        cmocka_unit_test(entities), cmocka_unit_test(nesting),
        cmocka_unit_test(bombs),    cmocka_unit_test(names_that_climb),
        cmocka_unit_test(damaged),  cmocka_unit_test(encrypted),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
