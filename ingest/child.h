/* child.h - what parent and child agree on besides the frames. */
#ifndef PHAROS_INGEST_CHILD_H
#define PHAROS_INGEST_CHILD_H

#include "ingest/sandbox.h"
#include "ingest/sink.h"

/* argv of the child: program, INGEST_CHILD_ARGUMENT, version, memory bytes, seconds, text bytes, ocr,
 * extension. Descriptor 0 is the file, 1 the pipe. */
#define CHILD_VERSION "1"
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

/* PDF: starts poppler's programs on descriptor 0. */
int extract_pdf(int fd, uint64_t file_bytes, const sandbox_limits *limits, text_sink *s);

#endif
