/* image_size.c - see image_size.h. Every offset comes from the file and is checked before it is used. */
#include "ingest/image_size.h"

#include <string.h>

image_kind image_kind_of(const uint8_t *bytes, size_t n) {
    if (n >= 8 && !memcmp(bytes, "\x89PNG\r\n\x1A\n", 8)) return IMAGE_PNG;
    if (n >= 3 && !memcmp(bytes, "\xFF\xD8\xFF", 3)) return IMAGE_JPEG;
    if (n >= 8 && (!memcmp(bytes, "II*\0", 4) || !memcmp(bytes, "MM\0*", 4))) return IMAGE_TIFF;
    return IMAGE_NONE;
}

static uint32_t be(const uint8_t *p, int n) {
    uint32_t v = 0;
    for (int i = 0; i < n; i++) v = v << 8 | p[i];
    return v;
}

/* The larger page by area counts. */
static void take(image_size *out, uint32_t width, uint32_t height) {
    if ((uint64_t)width * height < (uint64_t)out->width * out->height) return;
    out->width = width;
    out->height = height;
}

static bool png(image_size *out, const uint8_t *b, size_t n) {
    if (n < 24 || memcmp(b + 12, "IHDR", 4)) return false;
    take(out, be(b + 16, 4), be(b + 20, 4));
    return true;
}

/* Marker by marker to the frame header. */
static bool jpeg(image_size *out, const uint8_t *b, size_t n) {
    for (size_t at = 2; n - at >= 4;) {
        if (b[at] != 0xFF) return false;
        uint8_t marker = b[at + 1];
        if (marker == 0xFF) { /* filling */
            at++;
            continue;
        }
        if (marker == 0x01 || (marker >= 0xD0 && marker <= 0xD8)) { /* without a length */
            at += 2;
            continue;
        }
        uint32_t length = be(b + at + 2, 2);
        if (length < 2 || length > n - at - 2) return false;
        bool frame = marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
        if (frame && length >= 8) {
            take(out, be(b + at + 7, 2), be(b + at + 5, 2));
            return true;
        }
        if (marker == 0xDA || marker == 0xD9) return false; /* the picture itself, or its end */
        at += 2 + length;
    }
    return false;
}

/* ---- TIFF: a chain of directories, one a page ---- */

typedef struct tiff {
    const uint8_t *b;
    size_t n;
    bool big_end;
} tiff;

static uint32_t value(const tiff *t, size_t at, int n) {
    uint32_t v = 0;
    for (int i = 0; i < n; i++) v |= (uint32_t)t->b[at + (size_t)i] << 8 * (t->big_end ? n - 1 - i : i);
    return v;
}

enum { TAG_WIDTH = 256, TAG_HEIGHT = 257, TYPE_SHORT = 3, TYPE_LONG = 4, ENTRY = 12 };

/* The directory at `at`; *next = where the following one is, 0 = this was the last. */
static bool directory(image_size *out, const tiff *t, size_t at, size_t *next) {
    if (at < 8 || at > t->n || t->n - at < 2) return false;
    size_t entries = value(t, at, 2), width = 0, height = 0;
    if (t->n - at < 2 + entries * ENTRY + 4) return false;
    for (size_t i = 0; i < entries; i++) {
        size_t e = at + 2 + i * ENTRY;
        uint32_t tag = value(t, e, 2), type = value(t, e + 2, 2);
        if (tag != TAG_WIDTH && tag != TAG_HEIGHT) continue;
        if (type != TYPE_SHORT && type != TYPE_LONG) return false;
        *(tag == TAG_WIDTH ? &width : &height) = value(t, e + 8, type == TYPE_SHORT ? 2 : 4);
    }
    if (!width || !height) return false;
    take(out, (uint32_t)width, (uint32_t)height);
    *next = value(t, at + 2 + entries * ENTRY, 4);
    return true;
}

/* A chain that returns into itself ends at `most`. */
static bool pages(image_size *out, const tiff *t, uint32_t most) {
    size_t at = value(t, 4, 4);
    out->pages = 0;
    while (at) {
        if (out->pages == most) {
            out->more = true;
            return true;
        }
        size_t next = 0;
        if (!directory(out, t, at, &next)) return false;
        out->pages++;
        if (next == at) return false;
        at = next;
    }
    return out->pages > 0;
}

bool image_size_of(image_size *out, const uint8_t *bytes, size_t n, uint32_t most) {
    bool known = false;
    *out = (image_size){.pages = 1};
    switch (image_kind_of(bytes, n)) {
    case IMAGE_PNG:
        known = png(out, bytes, n);
        break;
    case IMAGE_JPEG:
        known = jpeg(out, bytes, n);
        break;
    case IMAGE_TIFF:
        known = pages(out, &(tiff){bytes, n, bytes[0] == 'M'}, most);
        break;
    case IMAGE_NONE:
        break;
    }
    return known && out->width && out->height;
}
