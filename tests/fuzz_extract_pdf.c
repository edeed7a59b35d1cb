/* Fuzz target: what poppler's pdftotext may print, in pieces of changing size. The PDF itself is poppler's.
 */
#include "ingest/pdf_layout.h"
#include "tests/fuzz_extract.h"

static int extract(const uint8_t *bytes, size_t n, text_sink *s) {
    pdf_layout p;
    if (pdf_layout_open(&p, s, 3)) return s->error.code;
    for (size_t at = 0, piece = 1; at < n; piece = piece * 3 % 61 + 1) {
        size_t k = n - at < piece ? n - at : piece;
        pdf_layout_feed(&p, (const char *)bytes + at, k);
        at += k;
    }
    pdf_layout_finish(&p);
    sink_pages(s, p.page);
    for (uint32_t i = 1; i <= p.page; i++)
        if (pdf_layout_is_empty(&p, i)) sink_picture_page(s, i);
    pdf_layout_free(&p);
    return s->error.code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_extract(extract, data, size);
    return 0;
}
