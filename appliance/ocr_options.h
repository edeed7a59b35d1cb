/* ocr_options.h - --ocr and --ocr-language, of the commands that take files in. */
#ifndef PHAROS_OCR_OPTIONS_H
#define PHAROS_OCR_OPTIONS_H

#include "ingest/ingest.h"

#include <argp.h>

typedef struct ocr_options {
    bool on;
    const char *language; /* NULL = INGEST_OCR_LANGUAGE */
} ocr_options;

/* For `struct argp_child`, with an ocr_options as its input. */
extern const struct argp ocr_argp;

/* PH_UNSUPPORTED where OCR was asked for and cannot be had: before files are looked at, not with each of
 * them. */
int ocr_options_check(const ocr_options *o, ph_error *err);
void ocr_options_apply(ingest_limits *limits, const ocr_options *o);

#endif
