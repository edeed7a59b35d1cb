/* extract_image.c - a file that is a picture: PNG, JPEG, or TIFF with any number of pages, read by OCR. */
#include "ingest/child.h"
#include "ingest/image_size.h"

#include <stdio.h>

#define MOST_PIXELS 100000000u /* a page of A1 at 300 dots an inch has 70 million */
#define LONGEST_SIDE 32000u    /* tesseract reads no longer ones */

static const char *media_type_of(image_kind kind) {
    static const char *const names[] = {"application/octet-stream", "image/png", "image/jpeg", "image/tiff"};
    return names[kind];
}

/* Nothing was read: why. */
static int refuse(text_sink *s, const ocr_reader *r) {
    if (r->broken[0]) return sink_fail(s, PH_UNSUPPORTED, "%s", r->broken);
    if (r->failed.n) return sink_fail(s, PH_CORRUPT, "a picture that OCR cannot read (%s)", r->why);
    return sink_fail(s, PH_UNSUPPORTED, "a picture in which OCR (%s) found no text", r->settings->languages);
}

int extract_image(int fd, const uint8_t *bytes, size_t n, const sandbox_limits *limits,
                  const ocr_settings *ocr, text_sink *s) {
    image_size size;
    image_kind kind = image_kind_of(bytes, n);
    sink_media_type(s, media_type_of(kind));
    if (!image_size_of(&size, bytes, n, ocr->pages))
        return sink_fail(s, PH_CORRUPT, "a damaged picture (%s): its head says no size", media_type_of(kind));
    if ((uint64_t)size.width * size.height > MOST_PIXELS || size.width > LONGEST_SIDE ||
        size.height > LONGEST_SIDE)
        return sink_fail(s, PH_TOO_LARGE,
                         "a picture of %u by %u pixels; OCR reads at most %u million, %u a side", size.width,
                         size.height, MOST_PIXELS / 1000000, LONGEST_SIDE);
    ocr_reader reader;
    page_text text;
    ocr_open(&reader, ocr, fd, limits, s);
    page_text_open(&text, s);
    sink_ocr(s, ocr->languages);
    for (uint32_t page = 1; page <= size.pages && !s->error.code; page++) {
        sink_progress(s, page - 1, size.pages);
        page_text_page(&text, page);
        ocr_picture(&reader, &text, size.pages);
        if (!text.page_has_text) sink_picture_page(s, page);
    }
    sink_pages(s, size.pages);
    if (size.more) sink_warn(s, "it has more than the %u pages that OCR reads of a document", ocr->pages);
    if (!s->error.code && !text.said) refuse(s, &reader);
    page_text_close(&text);
    ocr_close(&reader);
    return s->error.code;
}
