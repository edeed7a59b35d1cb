/* page_text.c - see page_text.h. */
#include "ingest/page_text.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_LINE ((size_t)1 << 18)

void page_text_open(page_text *p, text_sink *s) {
    memset(p, 0, sizeof *p);
    p->s = s;
}

void page_text_close(page_text *p) {
    free(p->line.text);
    free(p->line.words);
    free(p->last.text);
    free(p->last.words);
    memset(p, 0, sizeof *p);
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
static void say_last(page_text *p, const text_line *next) {
    text_line *last = &p->last;
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
    if (last->n_words)
        for (size_t i = 0; i < last->n_words; i++) sink_rect(p->s, last->words[i]);
    else
        sink_rect(p->s, last->box);
    sink_text(p->s, last->text, n);
    sink_end(p->s, 0);
    if (next) sink_string(p->s, separator);
    p->block_said = p->said = p->page_has_text = true;
    last->any = false;
    last->n = last->n_words = 0;
}

void page_text_end_line(page_text *p) {
    bool visible = false;
    for (size_t i = 0; i < p->line.n && !visible; i++) visible = (unsigned char)p->line.text[i] > ' ';
    if (visible) {
        p->line.any = true;
        say_last(p, &p->line);
        text_line swap = p->last;
        p->last = p->line;
        p->line = swap;
    }
    p->line.n = p->line.n_words = 0;
    p->line.any = false;
}

void page_text_end_block(page_text *p) {
    page_text_end_line(p);
    say_last(p, NULL);
    p->block_said = false;
}

void page_text_page(page_text *p, uint32_t page) {
    page_text_end_block(p);
    p->page = page;
    p->page_has_text = false;
}

void page_text_block(page_text *p, page_rect box) {
    page_text_end_block(p);
    p->block = box;
}

void page_text_line(page_text *p, page_rect box) {
    page_text_end_line(p);
    p->line.box = box;
}

void page_text_put(page_text *p, const char *text, size_t n) {
    text_line *line = &p->line;
    if (line->n + n > MAX_LINE) return; /* no reader needs more of one line */
    if (line->n + n > line->capacity) {
        size_t want = line->capacity * 2 > line->n + n ? line->capacity * 2 : line->n + n + 256;
        char *grown = realloc(line->text, want);
        if (!grown) {
            sink_fail(p->s, PH_MEMORY, "out of memory: %zu bytes of one line", want);
            return;
        }
        line->text = grown;
        line->capacity = want;
    }
    memcpy(line->text + line->n, text, n);
    line->n += n;
}

static void keep_place(page_text *p, page_rect box) {
    text_line *line = &p->line;
    if (line->n_words == line->words_capacity) {
        size_t want = line->words_capacity ? line->words_capacity * 2 : 32;
        page_rect *grown = want <= PAGE_LINE_WORDS ? realloc(line->words, want * sizeof *grown) : NULL;
        if (!grown)
            return; /* beyond these, or without memory, a word has no place: its text is what counts */
        line->words = grown;
        line->words_capacity = want;
    }
    line->words[line->n_words++] = box;
}

void page_text_word(page_text *p, page_rect box, bool own) {
    if (p->line.n == 0)
        p->line.first_word = box.x1 - box.x0;
    else
        page_text_put(p, " ", 1);
    if (own) keep_place(p, box);
}
