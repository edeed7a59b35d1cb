/* utf8.h - the smallest amount of UTF-8 that ingest needs everywhere. */
#ifndef PHAROS_INGEST_UTF8_H
#define PHAROS_INGEST_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Length of the valid sequence at s[0..n), 1 to 4, or 0 when there is none (overlong forms, surrogates and
 * values above U+10FFFF are none). n > 0. */
static inline size_t utf8_sequence(const uint8_t *s, size_t n) {
    uint8_t a = s[0];
    if (a < 0x80) return 1;
    if (a < 0xC2 || a > 0xF4) return 0;
    size_t need = a < 0xE0 ? 2 : a < 0xF0 ? 3 : 4;
    if (n < need) return 0;
    uint8_t b = s[1];
    uint8_t low = a == 0xE0 ? 0xA0 : a == 0xF0 ? 0x90 : 0x80;
    uint8_t high = a == 0xED ? 0x9F : a == 0xF4 ? 0x8F : 0xBF;
    if (b < low || b > high) return 0;
    for (size_t i = 2; i < need; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    return need;
}

/* The code point of a sequence that utf8_sequence accepted. */
static inline uint32_t utf8_code_point(const uint8_t *s, size_t length) {
    switch (length) {
    case 1:
        return s[0];
    case 2:
        return (uint32_t)(s[0] & 0x1F) << 6 | (s[1] & 0x3F);
    case 3:
        return (uint32_t)(s[0] & 0x0F) << 12 | (uint32_t)(s[1] & 0x3F) << 6 | (s[2] & 0x3F);
    default:
        return (uint32_t)(s[0] & 0x07) << 18 | (uint32_t)(s[1] & 0x3F) << 12 | (uint32_t)(s[2] & 0x3F) << 6 |
               (s[3] & 0x3F);
    }
}

/* Writes c as 1 to 4 bytes; anything that is no character becomes U+FFFD. Returns the length. */
static inline size_t utf8_encode(char out[4], uint32_t c) {
    if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) c = 0xFFFD;
    if (c < 0x80) return out[0] = (char)c, 1;
    if (c < 0x800) return out[0] = (char)(0xC0 | c >> 6), out[1] = (char)(0x80 | (c & 0x3F)), 2;
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12), out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        return out[2] = (char)(0x80 | (c & 0x3F)), 3;
    }
    out[0] = (char)(0xF0 | c >> 18), out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    return out[3] = (char)(0x80 | (c & 0x3F)), 4;
}

#endif
