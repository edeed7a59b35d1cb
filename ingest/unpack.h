/* unpack.h - gzip: bytes handed out as they are unpacked, and a file unpacked by a process of its own. */
#ifndef PHAROS_INGEST_UNPACK_H
#define PHAROS_INGEST_UNPACK_H

#include "ingest/sandbox.h"

/* Non-zero stops. */
typedef int (*unpack_output)(void *user, const void *bytes, size_t n);

/* One member after another; what follows the last one (zeros, usually) is left out. PH_CORRUPT says what is
 * wrong, PH_MEMORY, or what the output returned. */
int unpack_gzip(const uint8_t *bytes, size_t n, unpack_output output, void *user, ph_error *err);
bool unpack_is_gzip(const uint8_t *bytes, size_t n);

/* What a reader must know before it closes its sandbox: is it a PDF that the gzip file at descriptor `file`
 * holds? zlib runs in a child without rights, which is stopped as soon as that is plain; this process only
 * copies bytes. Returns a descriptor of the PDF in memory (*size filled, at most `most` bytes), or -1: no, or
 * it cannot be told. */
int unpack_pdf_apart(int file, uint64_t packed, uint64_t most, const sandbox_limits *limits, uint64_t *size);

#endif
