/* read_file.h - one whole regular file as text, and text as JSON, for the readers of engine/. */
#ifndef PHAROS_READ_FILE_H
#define PHAROS_READ_FILE_H

#include "kernels/error.h"

#include <jansson.h>
#include <stddef.h>

/* Joins two parts of a path into out[size]; PH_MODEL when it does not fit. */
int read_file_path(char *out, size_t size, const char *dir, const char *name, ph_error *err);

/* Reads PATH into *text (to be freed by the caller; a NUL follows the *len bytes). A file that is absent is
 * PH_NOT_FOUND, one over `limit` bytes is PH_TOO_LARGE, one that is no regular file is PH_MODEL. */
int read_file_text(char **text, size_t *len, const char *path, size_t limit, ph_error *err);

/* Parses len bytes that must be one JSON object, no key twice. PH_MODEL says where the text is at fault,
 * PH_MEMORY that memory ran out. The caller owns *out. */
int read_file_json(json_t **out, const char *text, size_t len, ph_error *err);

#endif
