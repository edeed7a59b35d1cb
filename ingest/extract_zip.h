/* extract_zip.h - the formats that are zip files, each in its own file. `main` names the part to begin with.
 */
#ifndef PHAROS_INGEST_EXTRACT_ZIP_H
#define PHAROS_INGEST_EXTRACT_ZIP_H

#include "ingest/flow.h"
#include "ingest/zip_parts.h"

int extract_docx(zip_parts *z, const char *main);
int extract_xlsx(zip_parts *z, const char *main);
int extract_pptx(zip_parts *z, const char *main);
int extract_odf(zip_parts *z);
int extract_epub(zip_parts *z);

/* The title in docProps/core.xml, meta.xml or an OPF file: the first <dc:title>. Does nothing when there is
 * none. */
void extract_core_title(zip_parts *z, const char *part);

#endif
