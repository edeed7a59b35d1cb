/* Fuzz target: extract_text on any bytes. */
#include "tests/fuzz_extract.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_extract(extract_text, data, size);
    return 0;
}
