/* pdf_layout.c - poppler's layout to paragraphs: one segment a line, so that each has its rectangle.
 *
 * Lines of one block are joined by a space when the next line's first word would not have fitted behind them
 * (the writer's line was full), otherwise by \n: that keeps lists, addresses and code apart without knowing
 * what they are. The input is poppler's, made from a foreign file: it is read line by line and nothing in it
 * is trusted.
 */
#include "ingest/pdf_layout.h"

#include "ingest/utf8.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_INPUT_LINE ((size_t)1 << 16)
#define MAX_LINE ((size_t)1 << 18)

int pdf_layout_open(pdf_layout *p, text_sink *s, uint32_t total) {
    memset(p, 0, sizeof *p);
    p->s = s;
    p->total = total;
    p->empty = calloc(SINK_MAX_PAGES / 8 + 1, 1);
    return p->empty ? 0 : sink_fail(s, PH_MEMORY, "out of memory: the book of pages");
}

void pdf_layout_free(pdf_layout *p) {
    free(p->line.text);
    free(p->last.text);
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

static bool put(pdf_layout *p, pdf_line *line, const char *text, size_t n) {
    if (line->n + n > MAX_LINE) return true; /* no reader needs more of one line */
    if (line->n + n > line->capacity) {
        size_t want = line->capacity * 2 > line->n + n ? line->capacity * 2 : line->n + n + 256;
        char *grown = realloc(line->text, want);
        if (!grown) {
            sink_fail(p->s, PH_MEMORY, "out of memory: %zu bytes of one line", want);
            return false;
        }
        line->text = grown;
        line->capacity = want;
    }
    memcpy(line->text + line->n, text, n);
    line->n += n;
    return true;
}

/* Poppler writes five named entities and no others. */
static void put_escaped(pdf_layout *p, pdf_line *line, const char *text, size_t n) {
    static const struct {
        const char *name;
        char c;
    } names[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
    for (size_t i = 0; i < n;) {
        const char *amp = memchr(text + i, '&', n - i);
        size_t plain = amp ? (size_t)(amp - text) - i : n - i;
        if (plain && !put(p, line, text + i, plain)) return;
        i += plain;
        if (i >= n) break;
        size_t k = 0;
        for (; k < sizeof names / sizeof *names; k++) {
            size_t length = strlen(names[k].name);
            if (n - i >= length && !memcmp(text + i, names[k].name, length)) {
                put(p, line, &names[k].c, 1);
                i += length;
                break;
            }
        }
        if (k == sizeof names / sizeof *names) put(p, line, text + i++, 1);
    }
}

/* Length of the hyphen that ends the text, if a word was cut there: a letter stands before it. */
static size_t cut_hyphen(const char *text, size_t n) {
    if (n >= 3 && !memcmp(text + n - 2, "\xC2\xAD", 2)) return 2; /* a soft hyphen says so itself */
    size_t k = n >= 2 && text[n - 1] == '-' ? 1 : n >= 4 && !memcmp(text + n - 3, "\u2010", 3) ? 3 : 0;
    if (!k) return 0;
    unsigned char before = (unsigned char)text[n - k - 1];
    return islower(before) || before >= 0x80 ? k : 0;
}

static bool starts_item(const char *s, size_t n) {
    if (n >= 3 && (!memcmp(s, "\u2022", 3) || !memcmp(s, "\u25AA", 3) || !memcmp(s, "\u2013", 3)))
        return true;
    if (n >= 2 && s[0] == '-' && s[1] == ' ') return true;
    size_t i = 0;
    while (i < n && i < 3 && isdigit((unsigned char)s[i])) i++;
    return i > 0 && i + 1 < n && (s[i] == '.' || s[i] == ')') && s[i + 1] == ' ';
}

/* Says `last`; `next` is the line that follows in its block, or NULL. */
static void say_last(pdf_layout *p, const pdf_line *next) {
    pdf_line *last = &p->last;
    if (!last->any) return;
    const char *separator = "\n";
    size_t n = last->n;
    if (next) {
        float height = last->box.y1 - last->box.y0;
        float overlap = fminf(last->box.y1, next->box.y1) - fmaxf(last->box.y0, next->box.y0);
        bool same_row = overlap > 0.6f * height;
        bool full = p->block.x1 - last->box.x1 < next->first_word + 0.3f * height;
        if (same_row || (full && !starts_item(next->text, next->n))) {
            separator = " ";
            size_t k = same_row ? 0 : cut_hyphen(last->text, n);
            if (k && (islower((unsigned char)next->text[0]) || (unsigned char)next->text[0] >= 0x80)) {
                n -= k;
                separator = "";
            }
        }
    }
    if (!p->block_said && p->said) sink_string(p->s, "\n\n");
    sink_begin(p->s, p->page, 0);
    sink_rect(p->s, last->box);
    sink_text(p->s, last->text, n);
    sink_end(p->s, 0);
    if (next) sink_string(p->s, separator);
    p->block_said = p->said = p->page_has_text = true;
    last->any = false;
    last->n = 0;
}

static void end_line(pdf_layout *p) {
    bool visible = false;
    for (size_t i = 0; i < p->line.n && !visible; i++) visible = (unsigned char)p->line.text[i] > ' ';
    if (!visible) return;
    p->line.any = true;
    say_last(p, &p->line);
    pdf_line swap = p->last;
    p->last = p->line;
    p->line = swap;
    p->line.n = 0;
    p->line.any = false;
}

static void end_block(pdf_layout *p) {
    say_last(p, NULL);
    p->block_said = false;
}

static void end_page(pdf_layout *p) {
    if (!p->in_page) return;
    end_line(p);
    end_block(p);
    p->in_page = false;
    if (!p->page_has_text && p->page <= SINK_MAX_PAGES)
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
    if (length == 1 && *text == '.' && p->line.n >= 6 && !memcmp(p->line.text + p->line.n - 6, " . . .", 6))
        return;
    if (p->line.n == 0)
        p->line.first_word = box.x1 - box.x0;
    else
        put(p, &p->line, " ", 1);
    put_escaped(p, &p->line, text, length);
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
        p->page_has_text = false;
    } else if (!p->in_page) {
        return; /* the head; whatever a title says, its < are escaped */
    } else if (starts(s, n, "<word ")) {
        on_word(p, s, n);
    } else if (starts(s, n, "<line ")) {
        end_line(p);
        p->line.box = rect_of(s, n);
    } else if (starts(s, n, "</line>")) {
        end_line(p);
    } else if (starts(s, n, "<block ")) {
        end_line(p);
        end_block(p);
        p->block = rect_of(s, n);
    } else if (starts(s, n, "</block>")) {
        end_line(p);
        end_block(p);
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
