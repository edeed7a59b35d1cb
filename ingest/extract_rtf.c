/* extract_rtf.c - RTF: the words without the formatting. Control words that start a destination without text
 * (font tables, pictures, fields' instructions) skip their group; everything unknown is ignored, as the
 * format asks. */
#include "ingest/extract.h"

#include "ingest/flow.h"
#include "ingest/utf8.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 512

typedef struct group {
    bool skip, title;
    int unicode_skip; /* characters that stand for a \u after it */
} group;

typedef struct rtf {
    const uint8_t *b;
    size_t n, at;
    text_sink *s;
    flow f;
    group groups[MAX_DEPTH];
    size_t depth;
    int to_skip;   /* characters after \u */
    uint32_t high; /* the first half of a surrogate pair */
    char charset[16];
    char raw[256]; /* bytes of the document's code page, not decoded yet */
    size_t n_raw;
    char title[512];
    size_t n_title;
} rtf;

static void say(rtf *r, const char *text, size_t n) {
    const group *g = &r->groups[r->depth];
    if (g->title) {
        if (n > sizeof r->title - r->n_title) n = sizeof r->title - r->n_title;
        memcpy(r->title + r->n_title, text, n);
        r->n_title += n;
    } else if (!g->skip) {
        flow_raw(&r->f, text, n);
    }
}

static void flush(rtf *r) {
    if (!r->n_raw) return;
    decoded_text d;
    ph_error err = {0};
    size_t n = r->n_raw;
    r->n_raw = 0;
    bool ascii = true;
    for (size_t i = 0; i < n && ascii; i++) ascii = (uint8_t)r->raw[i] < 0x80;
    if (ascii) {
        say(r, r->raw, n);
        return;
    }
    if (charset_decode_as(&d, (const uint8_t *)r->raw, n, r->charset, sizeof r->raw * 8, &err) != 0) {
        sink_fail(r->s, err.code, "%s", err.text);
        return;
    }
    say(r, (const char *)d.bytes, d.n);
    r->s->replaced += d.replaced;
    decoded_text_free(&d);
}

static void put_byte(rtf *r, char c) {
    if (r->to_skip > 0) {
        r->to_skip--;
        return;
    }
    if (r->n_raw == sizeof r->raw) flush(r);
    r->raw[r->n_raw++] = c;
}

static void put_character(rtf *r, uint32_t c) {
    flush(r);
    char bytes[4];
    if (c >= 0xD800 && c < 0xDC00) {
        r->high = c;
        return;
    }
    if (c >= 0xDC00 && c < 0xE000 && r->high) c = 0x10000 + ((r->high - 0xD800) << 10) + (c - 0xDC00);
    r->high = 0;
    say(r, bytes, utf8_encode(bytes, c));
}

static int hex(uint8_t c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is(const char *word, const char *const *list) {
    for (; *list; list++)
        if (!strcmp(word, *list)) return true;
    return false;
}

static void control_word(rtf *r, const char *word, long value, bool has_value) {
    static const char *const skipped[] = {
        "fonttbl",           "colortbl",  "stylesheet",   "info",      "pict",    "object",
        "fldinst",           "xe",        "tc",           "listtable", "revtbl",  "rsidtbl",
        "themedata",         "datastore", "latentstyles", "generator", "filetbl", "deleted",
        "listoverridetable", "xmlnstbl",  "mmathPr",      NULL};
    group *g = &r->groups[r->depth];
    if (!strcmp(word, "u")) {
        put_character(r, (uint32_t)(value < 0 ? value + 65536 : value) & 0xFFFF);
        r->to_skip = g->unicode_skip;
        return;
    }
    flush(r);
    if (is(word, skipped)) {
        g->skip = true;
    } else if (!strcmp(word, "title")) {
        g->title = true;
    } else if (!strcmp(word, "uc")) {
        g->unicode_skip = value >= 0 && value < 16 ? (int)value : 1;
    } else if (!strcmp(word, "ansicpg") && value > 0 && value < 100000) {
        if (value == 65001)
            snprintf(r->charset, sizeof r->charset, "UTF-8");
        else
            snprintf(r->charset, sizeof r->charset, "CP%ld", value);
    } else if (g->skip || g->title) {
        return;
    } else if (!strcmp(word, "par") || !strcmp(word, "sect") || !strcmp(word, "page")) {
        flow_break(&r->f, "\n\n");
    } else if (!strcmp(word, "line")) {
        flow_line(&r->f);
    } else if (!strcmp(word, "row")) {
        flow_break(&r->f, "\n");
    } else if (!strcmp(word, "cell")) {
        flow_cell(&r->f);
    } else if (!strcmp(word, "v") && !(has_value && value == 0)) {
        g->skip = true; /* hidden text */
    } else {
        static const struct {
            const char *word, *text;
        } marks[] = {{"tab", "\t"},           {"emdash", "\u2014"}, {"endash", "\u2013"},
                     {"lquote", "\u2018"},    {"rquote", "\u2019"}, {"ldblquote", "\u201C"},
                     {"rdblquote", "\u201D"}, {"bullet", "\u2022"}};
        for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
            if (!strcmp(word, marks[i].word)) say(r, marks[i].text, strlen(marks[i].text));
    }
}

/* Behind a backslash. */
static void control(rtf *r) {
    if (r->at >= r->n) return;
    uint8_t c = r->b[r->at];
    if (!isalpha(c)) {
        r->at++;
        if (c == '\'') {
            int a = r->at < r->n ? hex(r->b[r->at]) : -1, b = r->at + 1 < r->n ? hex(r->b[r->at + 1]) : -1;
            if (a < 0 || b < 0) return;
            r->at += 2;
            put_byte(r, (char)(a * 16 + b));
        } else if (c == '\\' || c == '{' || c == '}') {
            put_byte(r, (char)c);
        } else if (c == '~') {
            put_character(r, 0xA0);
        } else if (c == '_') {
            put_byte(r, '-');
        } else if (c == '*') {
            flush(r);
            r->groups[r->depth].skip = true; /* a destination that a reader may not know */
        } else if (c == '\n' || c == '\r') {
            flush(r);
            if (!r->groups[r->depth].skip) flow_break(&r->f, "\n\n");
        }
        return;
    }
    char word[33];
    size_t n = 0;
    while (r->at < r->n && isalpha(r->b[r->at])) {
        if (n < sizeof word - 1) word[n++] = (char)r->b[r->at];
        r->at++;
    }
    word[n] = 0;
    char number[12];
    size_t k = 0;
    if (r->at < r->n && r->b[r->at] == '-') number[k++] = '-', r->at++;
    while (r->at < r->n && isdigit(r->b[r->at])) {
        if (k < sizeof number - 1) number[k++] = (char)r->b[r->at];
        r->at++;
    }
    number[k] = 0;
    if (r->at < r->n && r->b[r->at] == ' ') r->at++;
    long value = strtol(number, NULL, 10);
    if (!strcmp(word, "bin") && value > 0) /* raw bytes of a picture */
        r->at = (size_t)value < r->n - r->at ? r->at + (size_t)value : r->n;
    else
        control_word(r, word, value, k > 0);
}

int extract_rtf(const uint8_t *bytes, size_t n, text_sink *s) {
    rtf *r = calloc(1, sizeof *r);
    if (!r) return sink_fail(s, PH_MEMORY, "out of memory: an RTF reader");
    r->b = bytes;
    r->n = n;
    r->s = s;
    r->f.s = s;
    r->groups[0].unicode_skip = 1;
    snprintf(r->charset, sizeof r->charset, "CP1252");
    while (r->at < n && !s->error.code) {
        uint8_t c = bytes[r->at++];
        if (c == '{') {
            flush(r);
            if (r->depth + 1 == MAX_DEPTH) {
                sink_fail(s, PH_CORRUPT, "it nests groups more than %d deep", MAX_DEPTH);
                break;
            }
            r->groups[r->depth + 1] = r->groups[r->depth];
            r->depth++;
            r->to_skip = 0;
        } else if (c == '}') {
            flush(r);
            if (r->depth) r->depth--;
            r->to_skip = 0;
        } else if (c == '\\') {
            control(r);
        } else if (c >= ' ') {
            put_byte(r, (char)c);
        } else if (c == '\t') {
            put_byte(r, '\t');
        }
    }
    flush(r);
    flow_break(&r->f, "\n\n");
    sink_charset(s, r->charset);
    sink_title(s, r->title, r->n_title);
    free(r);
    return s->error.code;
}
