/* ingest.h - a file or URL in, text with positions out.
 *
 * Extraction of every format runs in a child process without rights (rlimits, seccomp, landlock): the parent
 * only reads a framed, checked result from a pipe. The kind of a file is decided by its content; the name
 * breaks ties among the text formats only.
 */
#ifndef PHAROS_INGEST_H
#define PHAROS_INGEST_H

#include "kernels/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Points (1/72 inch) from the top left corner of the page. */
typedef struct page_rect {
    float x0, y0, x1, y1;
} page_rect;

/* A run of text with its place: a paragraph, a line of a PDF page, a table row. Segments are ascending,
 * disjoint and together cover all of the text but separators. */
typedef struct segment {
    uint64_t start, end;         /* bytes of the document's text */
    uint32_t page;               /* from 1: page, slide or sheet; 0 = the format has none */
    uint64_t src_start, src_end; /* bytes of the original file, where the format allows (UTF-8 text, Markdown,
                                    code); otherwise both 0. Within them \r\n stands for \n, and what was
                                    replaced or left out stands there still */
    uint32_t first_rect, n_rects; /* into document_text.rects; PDF only */
} segment;

#define INGEST_OCR_LANGUAGE "eng"
#define INGEST_OCR_LANGUAGE_BYTES 64
#define INGEST_OCR_LIST_BYTES 2048

/* What one file says. Zero-initialise; free with document_text_free. */
typedef struct document_text {
    char *text; /* valid UTF-8 without NUL, NUL-terminated; line ends are \n */
    size_t len;
    segment *segments;
    size_t n_segments;
    page_rect *rects;
    size_t n_rects;
    uint32_t pages;          /* 0 = the format has no pages */
    uint32_t *picture_pages; /* pages with a picture and no text (with OCR: none that it found), ascending */
    size_t n_picture_pages;
    char media_type[128]; /* "application/pdf" */
    char title[256];      /* from the file's metadata; empty = none */
    char charset[64];     /* what the bytes were decoded from; empty where the format decides */
    char ocr[INGEST_OCR_LANGUAGE_BYTES]; /* languages with which pictures were looked at for text; empty = none were */
    char warning[512];    /* something a person should know (bytes replaced, parts skipped); empty = none */
} document_text;

void document_text_free(document_text *d);

typedef struct ingest_limits {
    uint64_t file_bytes;   /* larger files are refused with both sizes; 0 = 2 GiB */
    uint64_t text_bytes;   /* 0 = 1 GiB */
    uint64_t memory_bytes; /* address space of the child; 0 = 2 GiB */
    uint32_t seconds;      /* processor time of the child; 0 = 300. By the clock: twice that and 10 s */
    bool ocr;              /* read pages without text, and pictures, with tesseract where that is installed */
    const char *ocr_language; /* as tesseract names them, "eng+deu"; NULL = INGEST_OCR_LANGUAGE. Borrowed */
    uint32_t ocr_pages;       /* read so of one document, the others are named; 0 = 10,000 */
    uint32_t ocr_page_seconds; /* processor time of a page; 0 = 60. By the clock: twice that and 10 s */
    uint32_t ocr_seconds;      /* of one document, by the clock: pages that were not begun are named; 0 = 4 hours */
} ingest_limits;

/* Called while a large file is being read: pages (or bytes) done and in all, 0 = unknown. Non-zero stops. */
typedef int (*ingest_progress)(void *user, uint64_t done, uint64_t total);

/* Extracts the file at path. Errors: PH_NOT_FOUND, PH_TOO_LARGE (both sizes), PH_UNSUPPORTED (names the media
 * type; "encrypted PDF"), PH_CORRUPT (what is wrong), PH_INTERRUPTED. Every sentence names the file. A file
 * with no text at all is PH_UNSUPPORTED and says so ("12 pages, all pictures"). */
int ingest_extract(document_text *out, const char *path, const ingest_limits *limits,
                   ingest_progress progress, void *user, ph_error *err);

/* A page of a PDF (from 1) as a PNG whose longer side has `pixels` (16 to 4096), rendered in the same kind of child.
 * *png is owned by the caller. PH_UNSUPPORTED: no PDF, or poppler's pdftoppm is not installed; PH_NOT_FOUND: it has no
 * such page; PH_TOO_LARGE: over 32 MiB. What comes is checked to be a PNG of at most that size. */
int ingest_page_png(uint8_t **png, size_t *len, const char *path, uint32_t page, uint32_t pixels,
                    const ingest_limits *limits, ph_error *err);

/* Languages of OCR: letters, digits and _, several with + between. */
bool ingest_ocr_language_is_valid(const char *languages);
/* The languages that are installed, with a space between. False: tesseract itself is not. */
bool ingest_ocr_languages(char out[INGEST_OCR_LIST_BYTES]);
/* Whether OCR in these languages (NULL = INGEST_OCR_LANGUAGE) can be had: PH_USAGE (no such languages can be),
 * PH_UNSUPPORTED names the Debian package that is missing. */
int ingest_ocr_check(const char *languages, ph_error *err);

/* The child's side: main() calls it first thing when argv[1] is INGEST_CHILD_ARGUMENT, and exits with its
 * result. */
#define INGEST_CHILD_ARGUMENT "--extract-child"
int ingest_child_main(int argc, char **argv);

/* What confines the child on this machine, for a person: "seccomp, landlock 7, rlimits", or what is missing
 * and why. Static. */
const char *ingest_sandbox_status(void);

/* BLAKE2b-256 of a file's bytes, read in pieces; *size filled. */
int ingest_hash_file(uint8_t hash[32], uint64_t *size, const char *path, ph_error *err);

/* Calls `file` for every regular file at or below path, folders in byte order of their names, links after
 * the rest. Hidden files
 * and folders (leading dot) and unreadable ones are reported through `skipped` with a reason, links are
 * followed once (loops and a file met twice by device and inode are skipped). `name` is the path relative to
 * the folder that was named (or the base name of a file). Either callback returns non-zero to stop. */
typedef int (*walk_file)(void *user, const char *path, const char *name);
typedef int (*walk_skipped)(void *user, const char *path, const char *reason);
int ingest_walk(const char *path, walk_file file, walk_skipped skipped, void *user, ph_error *err);

/* Fetches an http(s) URL into the file at path (created, mode 0600), following at most 5 redirects. Every
 * address connected to, at every hop, must be public: loopback, private, link-local, multicast, metadata and
 * mapped forms are refused after resolution, so a name that resolves differently later changes nothing. *name
 * (owned, free) = a file name made from the URL or Content-Disposition. A refused address or URL is PH_USAGE,
 * 404 and 410 are PH_NOT_FOUND. Nothing stays at path after a failure; an existing file is not overwritten.
 */
int ingest_fetch(const char *url, const char *path, char **name, const ingest_limits *limits,
                 ingest_progress progress, void *user, ph_error *err);

#endif
