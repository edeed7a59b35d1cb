/* extract.h - one function a format: bytes in, text and segments into a sink. They run in the sandboxed child
 * (and, in tests and fuzz targets, in process); failures stick to the sink, whose code they return. */
#ifndef PHAROS_INGEST_EXTRACT_H
#define PHAROS_INGEST_EXTRACT_H

#include "ingest/charset.h"
#include "ingest/flow.h"
#include "ingest/sink.h"

typedef enum doc_kind {
    KIND_TEXT, /* plain text, data and source code: the text as it is */
    KIND_MARKDOWN,
    KIND_HTML,
    KIND_RTF,
    KIND_ZIP, /* DOCX, XLSX, PPTX, ODT, ODS, ODP, EPUB: the parts decide */
    KIND_GZIP,
    KIND_PDF,
    KIND_BINARY, /* nothing that can be read */
} doc_kind;

typedef struct sniffed {
    doc_kind kind;
    char media_type[128];
} sniffed;

/* Loads libmagic's database; the child does it before it gives up the right to open files. */
void sniff_prepare(void);
/* %PDF- within the first 1,024 bytes: the one kind that must be known before the sandbox is closed, so no
 * library looks at the bytes for it. */
bool sniff_is_pdf(const uint8_t *bytes, size_t n);
/* extension: lower case without the dot, "" for none; only decides among kinds of text. */
void sniff(sniffed *out, const uint8_t *bytes, size_t n, const char *extension);

/* Finds the kind and extracts; everything but PDF. */
int extract_any(const uint8_t *bytes, size_t n, const char *extension, text_sink *s);

int extract_text(const uint8_t *bytes, size_t n, text_sink *s);
int extract_markdown(const uint8_t *bytes, size_t n, text_sink *s);
int extract_html(const uint8_t *bytes, size_t n, text_sink *s);
int extract_rtf(const uint8_t *bytes, size_t n, text_sink *s);
int extract_zip(const uint8_t *bytes, size_t n, text_sink *s);
int extract_gzip(const uint8_t *bytes, size_t n, const char *extension, text_sink *s);

/* Says bytes[start..end) in segments of at most some thousand bytes, cut at line ends where there are some,
 * at blank lines where `paragraphs` is set. Source offsets are recorded when the bytes are the file's own. */
int extract_block(text_sink *s, const decoded_text *d, size_t start, size_t end, bool paragraphs);

/* An HTML document into a sink that is already in use (a chapter of an EPUB): sets no media type. */
int extract_html_into(const uint8_t *bytes, size_t n, flow *f, bool take_title);

#endif
