/* fuzz_image_size.c - any bytes as a picture's head: a size within what the format can say, or none. */
#include "ingest/image_size.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    image_size s;
    image_kind kind = image_kind_of(data, size);
    bool known = image_size_of(&s, data, size, 50);
    if (known && (kind == IMAGE_NONE || !s.width || !s.height)) abort();
    if (known && (s.pages < 1 || s.pages > 50 || (kind != IMAGE_TIFF && s.pages != 1))) abort();
    return 0;
}
