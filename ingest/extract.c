/* extract.c - finds a file's kind and calls its extractor. */
#include "ingest/extract.h"

#include "ingest/image_size.h"

int extract_any(const uint8_t *bytes, size_t n, const char *extension, text_sink *s) {
    if (n == 0) return sink_fail(s, PH_UNSUPPORTED, "it is empty");
    sniffed what;
    sniff(&what, bytes, n, extension);
    sink_media_type(s, what.media_type);
    switch (what.kind) {
    case KIND_TEXT:
        return extract_text(bytes, n, s);
    case KIND_MARKDOWN:
        return extract_markdown(bytes, n, s);
    case KIND_HTML:
        return extract_html(bytes, n, s);
    case KIND_RTF:
        return extract_rtf(bytes, n, s);
    case KIND_ZIP:
        return extract_zip(bytes, n, s);
    case KIND_GZIP:
        return extract_gzip(bytes, n, extension, s);
    case KIND_PDF: /* a PDF at the top level never comes here: child.c hands it to poppler */
        return sink_fail(s, PH_UNSUPPORTED, "application/pdf inside another file is not read");
    case KIND_BINARY:
        if (image_kind_of(bytes, n) != IMAGE_NONE)
            return sink_fail(s, PH_UNSUPPORTED, "a picture (%s): there is no text to read without OCR (--ocr)",
                             what.media_type);
        break;
    }
    return sink_fail(s, PH_UNSUPPORTED, "%s is not a format that can be read", what.media_type);
}
