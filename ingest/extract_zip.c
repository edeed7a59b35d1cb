/* extract_zip.c - Office, OpenDocument and EPUB files. */
#include "ingest/extract.h"

int extract_zip(const uint8_t *bytes, size_t n, text_sink *s) {
    return sink_fail(s, PH_UNSUPPORTED, "application/zip is not read yet");
}
