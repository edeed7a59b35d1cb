/* Fuzz target: finding the kind of any bytes, gzip included, and reading them as that. */
#include "tests/fuzz_extract.h"

static int extract(const uint8_t *bytes, size_t n, text_sink *s) {
    static const char *const extensions[] = {"", "txt", "html", "md"};
    return extract_any(bytes, n, extensions[n % 4], s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_extract(extract, data, size);
    return 0;
}
