/* extract_rtf.c - RTF: the words without the formatting. */
#include "ingest/extract.h"

int extract_rtf(const uint8_t *bytes, size_t n, text_sink *s) {
    return sink_fail(s, PH_UNSUPPORTED, "text/rtf is not read yet");
}
