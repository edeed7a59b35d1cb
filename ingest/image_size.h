/* image_size.h - what a picture's head says of its size, before any library unpacks it: a few hundred bytes
 * may claim gigabytes. PNG, JPEG and TIFF. */
#ifndef PHAROS_INGEST_IMAGE_SIZE_H
#define PHAROS_INGEST_IMAGE_SIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum image_kind { IMAGE_NONE, IMAGE_PNG, IMAGE_JPEG, IMAGE_TIFF } image_kind;

/* By the first bytes. */
image_kind image_kind_of(const uint8_t *bytes, size_t n);

typedef struct image_size {
    uint32_t pages;         /* 1, but for TIFF; counted up to `most` */
    bool more;              /* there are more pages */
    uint32_t width, height; /* pixels of the largest page */
} image_size;

/* False: the head is damaged, cut, or has no size. */
bool image_size_of(image_size *out, const uint8_t *bytes, size_t n, uint32_t most);

#endif
