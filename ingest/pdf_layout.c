/* pdf_layout.c - poppler's layout into page_text.h. The input is poppler's, made from a foreign file: it is read line
 * by line and nothing in it is trusted. */
#include "ingest/pdf_layout.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_INPUT_LINE ((size_t)1 << 16)

int pdf_layout_open(pdf_layout *p, text_sink *s, uint32_t total) {
    memset(p, 0, sizeof *p);
    page_text_open(&p->text, s);
    p->s = s;
    p->total = total;
    p->empty = calloc(SINK_MAX_PAGES / 8 + 1, 1);
    return p->empty ? 0 : sink_fail(s, PH_MEMORY, "out of memory: the book of pages");
}

void pdf_layout_free(pdf_layout *p) {
    page_text_close(&p->text);
    free(p->input);
    free(p->empty);
    memset(p, 0, sizeof *p);
}

bool pdf_layout_is_empty(const pdf_layout *p, uint32_t page) {
    return page <= SINK_MAX_PAGES && p->empty[page / 8] >> (page % 8) & 1;
}

/* The number of an attribute like xMin="12.5"; 0 when it is missing or no number. */
static float attribute(const char *tag, size_t n, const char *name) {
    const char *at = memmem(tag, n, name, strlen(name));
    if (!at) return 0;
    at += strlen(name);
    char number[32];
    size_t k = 0, left = n - (size_t)(at - tag);
    while (k < left && k + 1 < sizeof number && at[k] != '"') {
        number[k] = at[k];
        k++;
    }
    number[k] = 0;
    float v = strtof(number, NULL);
    return isfinite(v) ? v : 0;
}

static page_rect rect_of(const char *tag, size_t n) {
    return (page_rect){attribute(tag, n, "xMin=\""), attribute(tag, n, "yMin=\""),
                       attribute(tag, n, "xMax=\""), attribute(tag, n, "yMax=\"")};
}

/* Poppler writes five named entities and no others. */
static void put_escaped(page_text *p, const char *text, size_t n) {
    static const struct {
        const char *name;
        char c;
    } names[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
    for (size_t i = 0; i < n;) {
        const char *amp = memchr(text + i, '&', n - i);
        size_t plain = amp ? (size_t)(amp - text) - i : n - i;
        if (plain) page_text_put(p, text + i, plain);
        i += plain;
        if (i >= n) break;
        size_t k = 0;
        for (; k < sizeof names / sizeof *names; k++) {
            size_t length = strlen(names[k].name);
            if (n - i >= length && !memcmp(text + i, names[k].name, length)) {
                page_text_put(p, &names[k].c, 1);
                i += length;
                break;
            }
        }
        if (k == sizeof names / sizeof *names) page_text_put(p, text + i++, 1);
    }
}

static void end_page(pdf_layout *p) {
    if (!p->in_page) return;
    page_text_end_block(&p->text);
    p->in_page = false;
    if (p->page_end && !p->s->error.code)
        p->page_end(p->user, &p->text, p->text.page_has_text ? p->s->text_total - p->before : 0, p->width, p->height);
    if (!p->text.page_has_text && p->page <= SINK_MAX_PAGES)
        p->empty[p->page / 8] |= (uint8_t)(1u << (p->page % 8));
    sink_progress(p->s, p->page, p->total);
}

static bool starts(const char *s, size_t n, const char *word) {
    size_t k = strlen(word);
    return n >= k && !memcmp(s, word, k);
}

static void on_word(pdf_layout *p, const char *s, size_t n) {
    const char *text = memchr(s, '>', n);
    if (!text) return;
    text++;
    size_t length = n - (size_t)(text - s);
    const char *end = memmem(text, length, "</word>", 7);
    if (end) length = (size_t)(end - text);
    page_rect box = rect_of(s, (size_t)(text - s));
    /* Leaders of a table of contents (". . . . .") say no more than three of them do. */
    const text_line *line = &p->text.line;
    if (length == 1 && *text == '.' && line->n >= 6 && !memcmp(line->text + line->n - 6, " . . .", 6)) return;
    page_text_word(&p->text, box, false);
    put_escaped(&p->text, text, length);
}

static void on_line(pdf_layout *p, const char *s, size_t n) {
    while (n && (*s == ' ' || *s == '\t')) s++, n--;
    if (starts(s, n, "<page ")) {
        end_page(p);
        if (p->page >= SINK_MAX_PAGES) {
            sink_fail(p->s, PH_TOO_LARGE, "it has more than %u pages", SINK_MAX_PAGES);
            return;
        }
        p->page++;
        p->in_page = true;
        p->width = attribute(s, n, "width=\"");
        p->height = attribute(s, n, "height=\"");
        page_text_page(&p->text, p->page);
        p->before = p->s->text_total;
    } else if (!p->in_page) {
        return; /* the head; whatever a title says, its < are escaped */
    } else if (starts(s, n, "<word ")) {
        on_word(p, s, n);
    } else if (starts(s, n, "<line ")) {
        page_text_line(&p->text, rect_of(s, n));
    } else if (starts(s, n, "</line>")) {
        page_text_end_line(&p->text);
    } else if (starts(s, n, "<block ")) {
        page_text_block(&p->text, rect_of(s, n));
    } else if (starts(s, n, "</block>")) {
        page_text_end_block(&p->text);
    } else if (starts(s, n, "</page>")) {
        end_page(p);
    }
}

static bool keep_input(pdf_layout *p, const char *bytes, size_t n) {
    if (p->n_input + n > MAX_INPUT_LINE)
        n = MAX_INPUT_LINE - p->n_input; /* the rest of an endless line is dropped */
    if (p->n_input + n > p->input_capacity) {
        char *grown = realloc(p->input, MAX_INPUT_LINE);
        if (!grown) {
            sink_fail(p->s, PH_MEMORY, "out of memory: %zu bytes of one line", MAX_INPUT_LINE);
            return false;
        }
        p->input = grown;
        p->input_capacity = MAX_INPUT_LINE;
    }
    memcpy(p->input + p->n_input, bytes, n);
    p->n_input += n;
    return true;
}

int pdf_layout_feed(pdf_layout *p, const char *bytes, size_t n) {
    while (n && !p->s->error.code) {
        const char *end = memchr(bytes, '\n', n);
        size_t k = end ? (size_t)(end - bytes) : n;
        if (!end || p->n_input) {
            if (!keep_input(p, bytes, k)) break;
            if (!end) break;
            on_line(p, p->input, p->n_input);
            p->n_input = 0;
        } else {
            on_line(p, bytes, k);
        }
        bytes += k + 1;
        n -= k + 1;
    }
    return p->s->error.code;
}

int pdf_layout_finish(pdf_layout *p) {
    if (p->n_input) on_line(p, p->input, p->n_input);
    p->n_input = 0;
    end_page(p);
    return p->s->error.code;
}
