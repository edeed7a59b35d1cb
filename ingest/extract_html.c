/* extract_html.c - HTML: what a reader would see, block by block, through libxml2's SAX push parser.
 *
 * No tree is built and no recursion happens here: depth costs a counter. Scripts, styles and hidden elements
 * say nothing; a table row is one line with " | " between its cells, unless the table only lays out the page.
 */
#include "ingest/extract.h"
#include "ingest/flow.h"

#include "ingest/utf8.h"

#include <ctype.h>
#include <libxml/HTMLparser.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define PUSH_BYTES 16384
#define MAX_LISTS 32

typedef enum element {
    E_INLINE, /* no mark on the text */
    E_BLOCK,
    E_HEADING,
    E_PRE,
    E_BREAK,
    E_LIST,
    E_ITEM,
    E_TABLE,
    E_ROW,
    E_CELL,
    E_TITLE,
    E_SKIP, /* its content is not for reading */
} element;

static const struct {
    const char *name;
    element what;
} elements[] = {
    {"p", E_BLOCK},          {"div", E_BLOCK},     {"section", E_BLOCK},    {"article", E_BLOCK},
    {"header", E_BLOCK},     {"footer", E_BLOCK},  {"main", E_BLOCK},       {"nav", E_BLOCK},
    {"aside", E_BLOCK},      {"address", E_BLOCK}, {"blockquote", E_BLOCK}, {"figure", E_BLOCK},
    {"figcaption", E_BLOCK}, {"form", E_BLOCK},    {"fieldset", E_BLOCK},   {"legend", E_BLOCK},
    {"details", E_BLOCK},    {"summary", E_BLOCK}, {"hr", E_BLOCK},         {"center", E_BLOCK},
    {"body", E_BLOCK},       {"html", E_BLOCK},    {"head", E_BLOCK},       {"dl", E_BLOCK},
    {"dt", E_BLOCK},         {"dd", E_BLOCK},      {"caption", E_BLOCK},    {"frameset", E_SKIP},
    {"h1", E_HEADING},       {"h2", E_HEADING},    {"h3", E_HEADING},       {"h4", E_HEADING},
    {"h5", E_HEADING},       {"h6", E_HEADING},    {"pre", E_PRE},          {"listing", E_PRE},
    {"xmp", E_PRE},          {"br", E_BREAK},      {"ul", E_LIST},          {"ol", E_LIST},
    {"menu", E_LIST},        {"dir", E_LIST},      {"li", E_ITEM},          {"table", E_TABLE},
    {"tr", E_ROW},           {"td", E_CELL},       {"th", E_CELL},          {"title", E_TITLE},
    {"script", E_SKIP},      {"style", E_SKIP},    {"template", E_SKIP},    {"noscript", E_SKIP},
    {"svg", E_SKIP},         {"iframe", E_SKIP},   {"object", E_SKIP},      {"canvas", E_SKIP},
    {"select", E_SKIP},      {"textarea", E_SKIP}, {"datalist", E_SKIP},    {"audio", E_SKIP},
    {"video", E_SKIP},       {"noembed", E_SKIP},  {"noframes", E_SKIP},
};

typedef struct reader {
    text_sink *s;
    flow f;
    size_t depth;      /* open elements */
    size_t skip_depth; /* depth of the element whose content is skipped; 0 = none */
    bool take_title, in_title;
    char title[512];
    size_t n_title;
    size_t pre;    /* open <pre> */
    size_t tables; /* open tables */
    size_t cells;  /* open cells */
    bool row_has_cell;
    char number[24];
    size_t lists;
    long counter[MAX_LISTS]; /* of ordered lists; -1 = a bullet */
} reader;

static element find_element(const char *name) {
    for (size_t i = 0; i < sizeof elements / sizeof *elements; i++)
        if (!strcmp(elements[i].name, name)) return elements[i].what;
    return E_INLINE;
}

static void say(reader *r, const char *text, size_t n) {
    if (r->pre && !r->cells)
        flow_raw(&r->f, text, n);
    else
        flow_words(&r->f, text, n);
}

static void on_characters(void *user, const xmlChar *text, int n) {
    reader *r = user;
    if (n <= 0 || r->skip_depth || r->s->error.code) return;
    if (r->in_title) {
        size_t k = (size_t)n;
        if (k > sizeof r->title - r->n_title) k = sizeof r->title - r->n_title;
        memcpy(r->title + r->n_title, text, k);
        r->n_title += k;
        return;
    }
    say(r, (const char *)text, (size_t)n);
}

static bool css_hides(const char *style) {
    char compact[256];
    size_t n = 0;
    for (; *style && n + 1 < sizeof compact; style++)
        if (!isspace((unsigned char)*style)) compact[n++] = (char)tolower((unsigned char)*style);
    compact[n] = 0;
    return strstr(compact, "display:none") || strstr(compact, "visibility:hidden");
}

static bool is_hidden(const xmlChar **attributes) {
    for (; attributes && attributes[0]; attributes += 2) {
        const char *name = (const char *)attributes[0], *value = (const char *)attributes[1];
        if (!strcmp(name, "hidden") && (!value || strcasecmp(value, "until-found"))) return true;
        if (!strcmp(name, "style") && value && css_hides(value)) return true;
    }
    return false;
}

static long list_start(const xmlChar **attributes) {
    for (; attributes && attributes[0]; attributes += 2)
        if (!strcmp((const char *)attributes[0], "start") && attributes[1]) {
            long v = strtol((const char *)attributes[1], NULL, 10);
            return v > 0 && v < 1000000 ? v : 1;
        }
    return 1;
}

static void start_item(reader *r) {
    size_t i = r->lists ? r->lists - 1 : 0;
    flow_break(&r->f, "\n");
    if (r->lists && i < MAX_LISTS && r->counter[i] >= 0) {
        snprintf(r->number, sizeof r->number, "%ld. ", r->counter[i]++);
        r->f.prefix = r->number;
    } else {
        r->f.prefix = "- ";
    }
}

static void on_start(void *user, const xmlChar *name, const xmlChar **attributes) {
    reader *r = user;
    r->depth++;
    if (r->skip_depth || r->s->error.code) return;
    element what = find_element((const char *)name);
    if (what == E_SKIP || (is_hidden(attributes) && what != E_TITLE)) {
        r->skip_depth = r->depth;
        return;
    }
    switch (what) {
    case E_TITLE:
        r->in_title = r->n_title == 0;
        if (!r->in_title) r->skip_depth = r->depth;
        break;
    case E_BLOCK:
        if (r->cells)
            r->f.space = r->f.open; /* paragraphs in a cell stay in its row */
        else if (!r->f.prefix)
            flow_break(&r->f, "\n\n");
        break;
    case E_HEADING:
        flow_break(&r->f, "\n\n");
        break;
    case E_PRE:
        if (!r->cells) flow_break(&r->f, "\n\n");
        r->pre++;
        break;
    case E_BREAK:
        if (r->cells || !r->f.open) {
            r->f.space = r->f.open;
        } else {
            flow_line(&r->f);
        }
        break;
    case E_LIST:
        flow_break(&r->f, r->lists ? "\n" : "\n\n");
        r->f.prefix = NULL;
        if (r->lists < MAX_LISTS)
            r->counter[r->lists] = strcmp((const char *)name, "ol") ? -1 : list_start(attributes);
        r->lists++;
        break;
    case E_ITEM:
        if (!r->cells) start_item(r);
        break;
    case E_TABLE: /* inside a cell: the outer table lays out the page */
        flow_break(&r->f, "\n\n");
        r->tables++;
        r->row_has_cell = false;
        break;
    case E_ROW:
        flow_break(&r->f, "\n");
        r->row_has_cell = false;
        break;
    case E_CELL:
        r->cells++;
        if (r->row_has_cell) flow_cell(&r->f);
        r->row_has_cell = true;
        break;
    case E_INLINE:
    case E_SKIP:
        break;
    }
}

static void on_end(void *user, const xmlChar *name) {
    reader *r = user;
    if (r->depth) r->depth--;
    if (r->skip_depth) {
        if (r->depth < r->skip_depth) r->skip_depth = 0;
        return;
    }
    switch (find_element((const char *)name)) {
    case E_TITLE:
        r->in_title = false;
        break;
    case E_BLOCK:
        if (r->cells)
            r->f.space = r->f.open;
        else if (!r->lists)
            flow_break(&r->f, "\n\n");
        else
            flow_break(&r->f, "\n");
        break;
    case E_HEADING:
        flow_break(&r->f, "\n\n");
        break;
    case E_PRE:
        if (r->pre) r->pre--;
        if (!r->cells) flow_break(&r->f, "\n\n");
        break;
    case E_LIST:
        if (r->lists) r->lists--;
        if (!r->cells) flow_break(&r->f, r->lists ? "\n" : "\n\n");
        r->f.prefix = NULL;
        break;
    case E_ITEM:
        if (!r->cells) flow_break(&r->f, "\n");
        r->f.prefix = NULL;
        break;
    case E_TABLE:
        if (r->tables) r->tables--;
        flow_break(&r->f, "\n\n");
        r->row_has_cell = false;
        break;
    case E_ROW:
        flow_break(&r->f, "\n");
        r->row_has_cell = false;
        break;
    case E_CELL:
        if (r->cells) r->cells--;
        break;
    case E_BREAK:
    case E_INLINE:
    case E_SKIP:
        break;
    }
}

static void quiet(void *user, const char *format, ...) {}

/* The charset named by a <meta> tag or an XML declaration in the first kilobytes. */
static bool declared_charset(char name[64], const uint8_t *bytes, size_t n) {
    char head[4097];
    size_t k = n < sizeof head - 1 ? n : sizeof head - 1;
    for (size_t i = 0; i < k; i++) head[i] = bytes[i] ? (char)tolower(bytes[i]) : ' ';
    head[k] = 0;
    const char *p = head;
    if (!strncmp(p, "<?xml", 5)) {
        const char *end = strstr(p, "?>"), *found = strstr(p, "encoding=");
        if (found && end && found < end) {
            size_t i = 0;
            for (found += 9; *found == '"' || *found == '\''; found++) {
            }
            while (i + 1 < 64 && (isalnum((unsigned char)*found) || (*found && strchr("-_.:", *found))))
                name[i++] = *found++;
            name[i] = 0;
            return i > 0;
        }
    }
    while ((p = strstr(p, "<meta"))) {
        const char *end = strchr(p, '>'), *found = strstr(p, "charset");
        if (!end) return false;
        if (found && found < end) {
            found += 7;
            while (*found == ' ') found++;
            if (*found == '=') {
                found++;
                while (*found == ' ' || *found == '"' || *found == '\'') found++;
                size_t i = 0;
                while (i + 1 < 64 && (isalnum((unsigned char)*found) || (*found && strchr("-_.:", *found))))
                    name[i++] = *found++;
                name[i] = 0;
                return i > 0;
            }
        }
        p = end;
    }
    return false;
}

static int parse(reader *r, const uint8_t *bytes, size_t n) {
    htmlSAXHandler sax = {.startElement = on_start,
                          .endElement = on_end,
                          .characters = on_characters,
                          .cdataBlock = on_characters,
                          .ignorableWhitespace = on_characters,
                          .warning = quiet,
                          .error = quiet,
                          .fatalError = quiet};
    htmlParserCtxtPtr ctxt = htmlCreatePushParserCtxt(&sax, r, NULL, 0, NULL, XML_CHAR_ENCODING_UTF8);
    if (!ctxt) return sink_fail(r->s, PH_MEMORY, "out of memory: an HTML parser");
    htmlCtxtUseOptions(ctxt, HTML_PARSE_RECOVER | HTML_PARSE_NOERROR | HTML_PARSE_NOWARNING |
                                 HTML_PARSE_NONET | HTML_PARSE_COMPACT | HTML_PARSE_IGNORE_ENC);
    for (size_t at = 0; at < n && !r->s->error.code;) {
        size_t k = n - at < PUSH_BYTES ? n - at : PUSH_BYTES;
        htmlParseChunk(ctxt, (const char *)bytes + at, (int)k, 0);
        at += k;
        if (at / (4u << 20) != (at - k) / (4u << 20)) sink_progress(r->s, at, n);
        if (ctxt->errNo == XML_ERR_NO_MEMORY) {
            sink_fail(r->s, PH_MEMORY, "out of memory in the HTML parser");
            break;
        }
    }
    if (!r->s->error.code) htmlParseChunk(ctxt, NULL, 0, 1);
    htmlFreeParserCtxt(ctxt);
    r->f.prefix = NULL;
    flow_break(&r->f, "\n\n");
    return r->s->error.code;
}

int extract_html_into(const uint8_t *bytes, size_t n, flow *f, bool take_title) {
    text_sink *s = f->s;
    char name[64];
    bool declared = declared_charset(name, bytes, n);
    decoded_text d;
    ph_error err = {0};
    int rc = charset_decode(&d, bytes, n, declared ? name : NULL, s->max_text, &err);
    if (rc) return sink_fail(s, rc, "%s", err.text);
    s->replaced += d.replaced;
    if (take_title) sink_charset(s, d.charset);
    /* libxml2 would guess a charset again after an invalid byte, so it is given none. */
    uint8_t *repaired = NULL;
    const uint8_t *text = d.bytes;
    size_t length = d.n;
    if (!charset_is_utf8(d.bytes, d.n) || memchr(d.bytes, 0, d.n)) {
        if (d.n > SIZE_MAX / 3 || !(repaired = malloc(d.n * 3 + 1))) {
            decoded_text_free(&d);
            return sink_fail(s, PH_MEMORY, "out of memory: %zu bytes of HTML", d.n);
        }
        length = 0;
        for (size_t i = 0; i < d.n;) {
            size_t k = utf8_sequence(d.bytes + i, d.n - i);
            if (k && d.bytes[i]) {
                memcpy(repaired + length, d.bytes + i, k);
                length += k;
            } else {
                memcpy(repaired + length, "\xEF\xBF\xBD", 3);
                length += 3;
                s->replaced++;
            }
            i += k ? k : 1;
        }
        text = repaired;
    }
    if (length >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3)) text += 3, length -= 3;
    reader r = {.s = s, .f = *f, .take_title = take_title};
    parse(&r, text, length);
    *f = r.f;
    if (take_title && r.n_title) sink_title(s, r.title, r.n_title);
    free(repaired);
    decoded_text_free(&d);
    return s->error.code;
}

int extract_html(const uint8_t *bytes, size_t n, text_sink *s) {
    flow f = {.s = s};
    return extract_html_into(bytes, n, &f, true);
}
