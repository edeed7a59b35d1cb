/* fuzz_ocr_tsv.c - any bytes as tesseract's table: what comes out of it is a stream that the parent accepts.
 */
#include "ingest/ocr_tsv.h"
#include "tests/fuzz_extract.h"

static int say(const uint8_t *bytes, size_t n, text_sink *s) {
    ocr_tsv_sum sum, measured;
    page_text text;
    double points = n ? 0.01 + bytes[n - 1] / 16.0 : 1;
    page_text_open(&text, s);
    sink_pages(s, 2);
    ocr_tsv_say(NULL, (const char *)bytes, n, points, &measured);
    for (uint32_t page = 1; page <= 2; page++) {
        page_text_page(&text, page);
        ocr_tsv_say(&text, (const char *)bytes, n, points, &sum);
        if (sum.words != measured.words || sum.confidence != measured.confidence) abort();
        if (!(sum.confidence >= 0 && sum.confidence <= 100)) abort();
    }
    page_text_close(&text);
    return s->error.code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_extract(say, data, size);
    return 0;
}
