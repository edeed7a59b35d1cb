/* extract_gzip.c - a compressed text, as Debian ships its documents. */
#include "ingest/extract.h"

int extract_gzip(const uint8_t *bytes, size_t n, const char *extension, text_sink *s) {
    return sink_fail(s, PH_UNSUPPORTED, "application/gzip is not read yet");
}
