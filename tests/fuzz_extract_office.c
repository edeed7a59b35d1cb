/* Fuzz target: the XML of Office, OpenDocument and EPUB files. The bytes are cut at NULs into the parts of a
 * zip file that is made here, because few mutations of a real one would keep its check sums. The first byte
 * chooses the format. */
#include "tests/fuzz_extract.h"

#include <string.h>
#include <zip.h>

#define MAX_PARTS 8

static const char *const names[][MAX_PARTS] = {
    {"word/document.xml", "word/_rels/document.xml.rels", "word/footnotes.xml", "word/header1.xml",
     "docProps/core.xml", "word/numbering.xml", "word/styles.xml"},
    {"xl/workbook.xml", "xl/_rels/workbook.xml.rels", "xl/sharedStrings.xml", "xl/styles.xml",
     "xl/worksheets/sheet1.xml"},
    {"ppt/presentation.xml", "ppt/_rels/presentation.xml.rels", "ppt/slides/slide1.xml",
     "ppt/slides/_rels/slide1.xml.rels", "ppt/notesSlides/n1.xml"},
    {"content.xml", "mimetype", "meta.xml", "META-INF/manifest.xml"},
    {"META-INF/container.xml", "OPS/p.opf", "OPS/a.xhtml", "a.xhtml", "META-INF/encryption.xml"},
};

/* The zip file's bytes; owned. */
static uint8_t *make_zip(const uint8_t *data, size_t size, size_t *n) {
    size_t format = data[0] % (sizeof names / sizeof *names);
    zip_error_t e;
    zip_error_init(&e);
    zip_source_t *file = zip_source_buffer_create(NULL, 0, 0, &e);
    if (!file) abort();
    zip_source_keep(file);
    zip_t *z = zip_open_from_source(file, ZIP_TRUNCATE, &e);
    if (!z) abort();
    if (format < 3) {
        zip_source_t *types = zip_source_buffer(z, "<Types/>", 8, 0);
        zip_file_add(z, "[Content_Types].xml", types, 0);
    }
    size_t at = 1;
    for (size_t i = 0; i < MAX_PARTS && names[format][i] && at <= size; i++) {
        const uint8_t *end = at < size ? memchr(data + at, 0, size - at) : NULL;
        size_t k = end ? (size_t)(end - data) - at : size - at;
        zip_source_t *part = zip_source_buffer(z, data + at, k, 0);
        if (!part) abort();
        zip_int64_t index = zip_file_add(z, names[format][i], part, 0);
        if (index >= 0) zip_set_file_compression(z, (zip_uint64_t)index, ZIP_CM_STORE, 0);
        at += k + 1;
    }
    if (zip_close(z) != 0) abort();
    zip_stat_t st;
    if (zip_source_open(file) != 0 || zip_source_stat(file, &st) != 0) abort();
    uint8_t *bytes = malloc(st.size ? st.size : 1);
    if (!bytes || zip_source_read(file, bytes, st.size) != (zip_int64_t)st.size) abort();
    *n = (size_t)st.size;
    zip_source_close(file);
    zip_source_free(file);
    zip_error_fini(&e);
    return bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    size_t n = 0;
    uint8_t *bytes = make_zip(data, size, &n);
    fuzz_extract(extract_zip, bytes, n);
    free(bytes);
    return 0;
}
