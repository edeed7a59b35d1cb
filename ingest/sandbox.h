/* sandbox.h - gives up every right that reading one open file does not need.
 *
 * Layers, each of which holds alone: root becomes nobody; rlimits; landlock (no path but libraries; no TCP;
 * no signals outwards); a seccomp allow-list (no sockets, no new processes, no opening for writing).
 */
#ifndef PHAROS_INGEST_SANDBOX_H
#define PHAROS_INGEST_SANDBOX_H

#include "kernels/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANDBOX_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANDBOX_SANITIZED 1
#endif
#endif
#ifndef SANDBOX_SANITIZED
#define SANDBOX_SANITIZED 0
#endif

typedef struct sandbox_limits {
    uint64_t memory_bytes; /* of address space beyond what the program maps already */
    uint32_t seconds;      /* of processor time */
    bool spawn;            /* programs of poppler and tesseract may be started */
    bool ocr;
} sandbox_limits;

/* Confines this process for good. What the kernel lacks (landlock) is left out; without seccomp it fails. */
int sandbox_enter(const sandbox_limits *limits, ph_error *err);

/* Confines a helper between fork and exec of a program: no new processes, no sockets, its own memory and
 * time. Returns 0 or -1. */
int sandbox_enter_helper(const sandbox_limits *limits);

/* The version of landlock that the kernel offers; 0 = none. */
int sandbox_landlock_version(void);

#endif
