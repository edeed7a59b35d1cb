/* child.h - what parent and child agree on besides the frames. */
#ifndef PHAROS_INGEST_CHILD_H
#define PHAROS_INGEST_CHILD_H

#include "ingest/ocr.h"
#include "ingest/sandbox.h"
#include "ingest/sink.h"

/* argv of the child: program, INGEST_CHILD_ARGUMENT, version, memory bytes, seconds, text bytes, OCR
 * (ocr_settings_write), extension. Descriptor 0 is the file, 1 the pipe. In the place of the extension, which has letters and digits only,
 * ":PAGE:PIXELS" asks for a page's image: the answer then is 'P' and a PNG, or 'E', a code (u8) and a sentence. */
#define CHILD_VERSION "2"
#define CHILD_ARGC 8

/* Set in the child's environment: a program whose main() does not call ingest_child_main would otherwise
 * start itself without end. */
#define CHILD_MARK "PHAROS_EXTRACT_CHILD"

#define CHILD_NO_EXEC 126 /* exit status: /proc/self/exe could not be started */
#define CHILD_NO_PIPE 125 /* the parent went away */

/* Tests only: called in the closed sandbox in the place of the extractor. NULL in the program; nothing from
 * outside can set it. */
typedef int (*child_probe)(const uint8_t *bytes, size_t n, text_sink *s);
extern child_probe ingest_child_probe;

/* Renders a page of the PDF on descriptor 0 and writes the answer to descriptor 1. */
void render_page(int fd, uint32_t page, uint32_t pixels, const sandbox_limits *limits);

/* PDF: starts poppler's programs on descriptor 0. ocr: pages without text are read with these settings; NULL = they are
 * named. */
int extract_pdf(int fd, uint64_t file_bytes, const sandbox_limits *limits, const ocr_settings *ocr, text_sink *s);

/* A PNG, JPEG or TIFF file on descriptor 0, which is mapped at bytes[0..n) too. */
int extract_image(int fd, const uint8_t *bytes, size_t n, const sandbox_limits *limits, const ocr_settings *ocr,
                  text_sink *s);

#endif
