/* charset.c - finds a text's charset and decodes it. */
#include "ingest/charset.h"

#include "ingest/utf8.h"

#include <ctype.h>
#include <errno.h>
#include <iconv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <uchardet/uchardet.h>

#define LOOK_BYTES ((size_t)1 << 20)

/* What 0x80 to 0x9F mean in windows-1252; 0 = undefined. Its own table, because it is the last resort and
 * must not depend on which converters the C library finds. */
static const uint16_t windows_1252[32] = {
    0x20AC, 0,      0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160,
    0x2039, 0x0152, 0,      0x017D, 0,      0,      0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
    0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0,      0x017E, 0x0178,
};

bool charset_is_utf8(const uint8_t *bytes, size_t n) {
    for (size_t i = 0; i < n;) {
        uint64_t eight;
        if (n - i >= 8 && (memcpy(&eight, bytes + i, 8), !(eight & 0x8080808080808080u))) {
            i += 8;
            continue;
        }
        size_t length = utf8_sequence(bytes + i, n - i);
        if (!length) return false;
        i += length;
    }
    return true;
}

/* The width in bytes and order of UTF-16 or UTF-32 code units without a byte order mark, by where the zeros
 * are; NULL for neither. Latin text is meant: others cannot be told from binary this way. */
static const char *wide_pattern(const uint8_t *bytes, size_t n) {
    if (n > 4096) n = 4096;
    if (n < 8) return NULL;
    n -= n % 4;
    size_t zero[4] = {0};
    for (size_t i = 0; i < n; i++) zero[i % 4] += bytes[i] == 0;
    size_t quarter = n / 4;
    size_t many = quarter - quarter / 4, few = quarter / 50;
    if (zero[1] >= many && zero[2] >= many && zero[3] >= many && zero[0] <= few) return "UTF-32LE";
    if (zero[0] >= many && zero[1] >= many && zero[2] >= many && zero[3] <= few) return "UTF-32BE";
    if (zero[1] >= many && zero[3] >= many && zero[0] <= few && zero[2] <= few) return "UTF-16LE";
    if (zero[0] >= many && zero[2] >= many && zero[1] <= few && zero[3] <= few) return "UTF-16BE";
    return NULL;
}

static const char *byte_order_mark(const uint8_t *b, size_t n) {
    if (n >= 3 && b[0] == 0xEF && b[1] == 0xBB && b[2] == 0xBF) return "UTF-8";
    if (n >= 4 && b[0] == 0xFF && b[1] == 0xFE && b[2] == 0 && b[3] == 0) return "UTF-32LE";
    if (n >= 4 && b[0] == 0 && b[1] == 0 && b[2] == 0xFE && b[3] == 0xFF) return "UTF-32BE";
    if (n >= 2 && b[0] == 0xFF && b[1] == 0xFE) return "UTF-16LE";
    if (n >= 2 && b[0] == 0xFE && b[1] == 0xFF) return "UTF-16BE";
    return NULL;
}

/* UTF-16 or UTF-32 with or without a mark may still be something else: most of it must be characters. */
static bool plausible_wide(const uint8_t *b, size_t n, const char *charset) {
    size_t width = strstr(charset, "32") ? 4 : 2;
    bool little = charset[strlen(charset) - 2] == 'L';
    size_t odd = 0, units = 0;
    for (size_t i = 0; i + width <= n && units < 4096; i += width, units++) {
        uint32_t c = 0;
        for (size_t k = 0; k < width; k++) c |= (uint32_t)b[i + k] << (8 * (little ? k : width - 1 - k));
        odd += (c < 0x20 && c != '\t' && c != '\n' && c != '\r' && c != '\f') || c > 0x10FFFF ||
               c == 0xFFFE || c == 0xFFFF;
    }
    return odd * 32 <= units;
}

bool charset_is_binary(const uint8_t *bytes, size_t n) {
    const char *wide = byte_order_mark(bytes, n);
    if (wide && !strcmp(wide, "UTF-8")) wide = NULL;
    if (!wide) wide = wide_pattern(bytes, n);
    if (wide) return !plausible_wide(bytes, n, wide);
    if (memchr(bytes, 0, n)) return true;
    size_t look = n < LOOK_BYTES ? n : LOOK_BYTES, control = 0;
    for (size_t i = 0; i < look; i++) {
        uint8_t c = bytes[i];
        control += (c < 0x20 && c != '\t' && c != '\n' && c != '\r' && c != '\f' && c != '\b' && c != 0x1B) ||
                   c == 0x7F;
    }
    return control * 32 > look + 128; /* a few are tolerated in the smallest file */
}

/* Multi-byte characters of valid UTF-8, and bytes that are none, in the part looked at. */
static void count_utf8(const uint8_t *bytes, size_t n, size_t *good, size_t *bad) {
    *good = *bad = 0;
    for (size_t i = 0; i < n;) {
        size_t length = utf8_sequence(bytes + i, n - i);
        if (length > 1) ++*good;
        if (!length && n - i >= 4) ++*bad; /* the last characters may be cut by looking at a part */
        i += length ? length : 1;
    }
}

static void keep_name(decoded_text *out, const char *charset) {
    size_t i = 0;
    for (; charset[i] && i + 1 < sizeof out->charset; i++)
        out->charset[i] = (char)toupper((unsigned char)charset[i]);
    out->charset[i] = 0;
}

static int same_bytes(decoded_text *out, const uint8_t *bytes, size_t n) {
    out->bytes = bytes;
    out->n = n;
    out->same = true;
    keep_name(out, "UTF-8");
    return 0;
}

/* A growing buffer with a ceiling. */
typedef struct room {
    uint8_t *bytes;
    size_t n, capacity;
    uint64_t max;
} room;

static int room_for(room *r, size_t more, ph_error *err) {
    if (r->n + more > r->max)
        return ph_fail(err, PH_TOO_LARGE, "more than the limit of %llu bytes of text (at least %llu)",
                       (unsigned long long)r->max, (unsigned long long)(r->n + more));
    if (r->n + more <= r->capacity) return 0;
    size_t want = r->capacity * 2 > r->n + more ? r->capacity * 2 : r->n + more;
    uint8_t *grown = realloc(r->bytes, want);
    if (!grown) return ph_fail(err, PH_MEMORY, "out of memory: %zu bytes to decode a text", want);
    r->bytes = grown;
    r->capacity = want;
    return 0;
}

static int put_replacement(room *r, uint64_t *replaced, size_t skipped, ph_error *err) {
    int rc = room_for(r, 3, err);
    if (rc) return rc;
    memcpy(r->bytes + r->n, "\xEF\xBF\xBD", 3);
    r->n += 3;
    *replaced += skipped;
    return 0;
}

static int take_room(decoded_text *out, room *r, const char *charset) {
    out->owned = r->bytes;
    out->bytes = r->bytes;
    out->n = r->n;
    out->same = false;
    keep_name(out, charset);
    return 0;
}

static int decode_1252(decoded_text *out, const uint8_t *bytes, size_t n, uint64_t max, ph_error *err) {
    room r = {.max = max};
    int rc = room_for(&r, n < max ? n + 1 : 1, err);
    for (size_t i = 0; i < n && !rc; i++) {
        uint32_t c = bytes[i];
        if (c >= 0x80 && c < 0xA0) c = windows_1252[c - 0x80];
        if (!c && bytes[i]) {
            rc = put_replacement(&r, &out->replaced, 1, err);
            continue;
        }
        rc = room_for(&r, 4, err);
        if (!rc) r.n += utf8_encode((char *)r.bytes + r.n, c);
    }
    if (rc) {
        free(r.bytes);
        return rc;
    }
    return take_room(out, &r, "windows-1252");
}

/* PH_UNSUPPORTED when the C library does not know the charset. */
static int decode_iconv(decoded_text *out, const uint8_t *bytes, size_t n, const char *charset, uint64_t max,
                        ph_error *err) {
    iconv_t cd = iconv_open("UTF-8", charset);
    if (cd == (iconv_t)-1) return ph_fail(err, PH_UNSUPPORTED, "the charset %s is not known here", charset);
    size_t unit = strstr(charset, "UTF-32") ? 4 : strstr(charset, "UTF-16") ? 2 : 1;
    room r = {.max = max};
    int rc = room_for(&r, n < max ? n + 16 : 16, err);
    char *in = (char *)(uintptr_t)bytes; /* iconv's interface forgets the const; it does not write */
    size_t left = n;
    out->replaced = 0;
    while (left && !rc) {
        rc = room_for(&r, left < 4096 ? 64 : 4096, err);
        if (rc) break;
        char *to = (char *)r.bytes + r.n;
        size_t space = r.capacity - r.n;
        size_t got = iconv(cd, &in, &left, &to, &space);
        r.n = (size_t)(to - (char *)r.bytes);
        if (got != (size_t)-1) break;
        if (errno == E2BIG) continue;
        size_t skip = left < unit ? left : unit;
        rc = put_replacement(&r, &out->replaced, skip, err);
        in += skip;
        left -= skip;
    }
    iconv_close(cd);
    if (rc) {
        free(r.bytes);
        return rc;
    }
    return take_room(out, &r, charset);
}

/* A name that may be given to iconv_open: no path, no option. UTF-7 hides text from whoever looks at the
 * bytes. */
static bool sane_name(const char *name) {
    size_t n = strlen(name);
    if (n == 0 || n > 40 || !strncasecmp(name, "utf-7", 5) || !strncasecmp(name, "utf7", 4)) return false;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)name[i]) && !strchr("-_.:", name[i])) return false;
    return true;
}

static bool is_latin_1(const char *name) {
    static const char *const names[] = {"iso-8859-1",   "iso8859-1", "iso_8859-1", "latin1", "latin-1",
                                        "windows-1252", "cp1252",    "us-ascii",   "ascii"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcasecmp(name, names[i])) return true;
    return false;
}

static int decode_named(decoded_text *out, const uint8_t *bytes, size_t n, const char *name, uint64_t max,
                        ph_error *err) {
    if (!sane_name(name)) return ph_fail(err, PH_UNSUPPORTED, "no usable charset name");
    if (is_latin_1(name)) return decode_1252(out, bytes, n, max, err); /* as every browser reads it */
    char upper[64];
    size_t i = 0;
    for (; name[i] && i + 1 < sizeof upper; i++) upper[i] = (char)toupper((unsigned char)name[i]);
    upper[i] = 0;
    if (!strcmp(upper, "UTF-8") || !strcmp(upper, "UTF8")) return same_bytes(out, bytes, n);
    return decode_iconv(out, bytes, n, upper, max, err);
}

static int detect(char name[64], const uint8_t *bytes, size_t n) {
    name[0] = 0;
    uchardet_t u = uchardet_new();
    if (!u) return -1;
    if (uchardet_handle_data(u, (const char *)bytes, n < LOOK_BYTES ? n : LOOK_BYTES) == 0) {
        uchardet_data_end(u);
        snprintf(name, 64, "%s", uchardet_get_charset(u));
    }
    uchardet_delete(u);
    return name[0] ? 0 : -1;
}

/* The Latin charsets other than the western one. On a handful of bytes uchardet's choice between them is
 * chance, and windows-1252 the better guess. */
static bool is_latin(const char *name) {
    static const char *const names[] = {"ISO-8859-2",   "ISO-8859-3",   "ISO-8859-4",   "ISO-8859-9",
                                        "ISO-8859-10",  "ISO-8859-13",  "ISO-8859-15",  "ISO-8859-16",
                                        "WINDOWS-1250", "WINDOWS-1257", "WINDOWS-1258", "MAC-CENTRALEUROPE",
                                        "IBM852",       "VISCII"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcasecmp(name, names[i])) return true;
    return false;
}

/* ISO-2022-JP is made of ASCII bytes only: it is valid UTF-8 and still something else. */
static bool has_2022_jp(const uint8_t *bytes, size_t n) {
    size_t look = n < LOOK_BYTES ? n : LOOK_BYTES;
    return memmem(bytes, look, "\x1B$B", 3) && memmem(bytes, look, "\x1B(", 2);
}

int charset_decode(decoded_text *out, const uint8_t *bytes, size_t n, const char *declared,
                   uint64_t max_bytes, ph_error *err) {
    memset(out, 0, sizeof *out);
    const char *mark = byte_order_mark(bytes, n);
    if (mark && !strcmp(mark, "UTF-8")) return same_bytes(out, bytes, n);
    if (mark) {
        size_t width = strstr(mark, "32") ? 4 : 2;
        return decode_iconv(out, bytes + width, n - width, mark, max_bytes, err);
    }
    if (has_2022_jp(bytes, n) && decode_iconv(out, bytes, n, "ISO-2022-JP", max_bytes, NULL) == 0) return 0;
    if (charset_is_utf8(bytes, n) && !memchr(bytes, 0, n)) return same_bytes(out, bytes, n);
    const char *wide = wide_pattern(bytes, n);
    if (wide) return decode_iconv(out, bytes, n, wide, max_bytes, err);
    int rc;
    if (declared && strncasecmp(declared, "utf", 3) != 0) {
        rc = decode_named(out, bytes, n, declared, max_bytes, err);
        if (rc == 0 || rc != PH_UNSUPPORTED) return rc;
    }
    size_t good, bad;
    count_utf8(bytes, n < LOOK_BYTES ? n : LOOK_BYTES, &good, &bad);
    if (good && good >= bad) return same_bytes(out, bytes, n);
    char name[64];
    if (detect(name, bytes, n) == 0 && !(bad < 20 && is_latin(name))) {
        rc = decode_named(out, bytes, n, name, max_bytes, err);
        if (rc == 0 || rc != PH_UNSUPPORTED) return rc;
    }
    return decode_1252(out, bytes, n, max_bytes, err);
}

int charset_decode_as(decoded_text *out, const uint8_t *bytes, size_t n, const char *name, uint64_t max_bytes,
                      ph_error *err) {
    memset(out, 0, sizeof *out);
    int rc = decode_named(out, bytes, n, name, max_bytes, err);
    return rc == PH_UNSUPPORTED ? decode_1252(out, bytes, n, max_bytes, err) : rc;
}

void decoded_text_free(decoded_text *d) {
    free(d->owned);
    memset(d, 0, sizeof *d);
}
