#include "ingest/child.h"
int extract_pdf(int fd, uint64_t file_bytes, const sandbox_limits *limits, text_sink *s) {
    return sink_fail(s, PH_UNSUPPORTED, "application/pdf is not read yet");
}
