/* ocr_tsv.c - see ocr_tsv.h. */
#include "ingest/ocr_tsv.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBERS = 11, MOST_PIXELS = 1 << 20, MOST_WORD = 1024 };
enum { LEVEL = 0, LEFT = 6, TOP, WIDTH, HEIGHT, CONFIDENCE };
enum { ROW_PAGE = 1, ROW_BLOCK, ROW_PARAGRAPH, ROW_LINE, ROW_WORD };

typedef struct row {
    double number[NUMBERS];
    const char *text;
    size_t n;
} row;

/* level page_num block_num par_num line_num word_num left top width height conf text, tabs between. */
static bool read_row(row *r, const char *s, size_t n) {
    for (int i = 0; i < NUMBERS; i++) {
        char copy[32], *end;
        const char *tab = memchr(s, '\t', n);
        size_t k = tab ? (size_t)(tab - s) : n;
        /* Of a row without text the last tab may be missing. */
        if ((!tab && i < NUMBERS - 1) || k == 0 || k >= sizeof copy) return false;
        memcpy(copy, s, k);
        copy[k] = 0;
        errno = 0;
        r->number[i] = strtod(copy, &end);
        if (errno || *end || !isfinite(r->number[i])) return false;
        s += tab ? k + 1 : k;
        n -= tab ? k + 1 : k;
    }
    for (int i = LEFT; i <= HEIGHT; i++)
        if (r->number[i] < 0 || r->number[i] > MOST_PIXELS) return false;
    while (n && (s[n - 1] == '\r' || s[n - 1] == ' ')) n--;
    while (n && *s == ' ') s++, n--;
    r->text = s;
    r->n = n < MOST_WORD ? n : MOST_WORD;
    return true;
}

static page_rect rect_of(const row *r, double points) {
    const double *v = r->number;
    return (page_rect){(float)(v[LEFT] * points), (float)(v[TOP] * points),
                       (float)((v[LEFT] + v[WIDTH]) * points), (float)((v[TOP] + v[HEIGHT]) * points)};
}

/* Where the last line stood, for the next one. */
typedef struct layout {
    page_rect block, paragraph, line;
    bool any, begins; /* a line of the block was said; a paragraph begins */
} layout;

/* Whether a line that begins one of tesseract's paragraphs goes on with the text before it: the line above is
 * as wide as the block, and this one stands right below it and at the block's edge. */
static bool runs_on(const layout *l, page_rect line) {
    float width = l->block.x1 - l->block.x0, height = l->line.y1 - l->line.y0;
    return l->any && l->line.x1 > l->block.x1 - 0.08f * width && line.x0 < l->block.x0 + 0.02f * width &&
           line.y0 - l->line.y1 < 0.7f * height && line.y1 > l->line.y1;
}

static void on_line(page_text *to, layout *l, page_rect line) {
    if (l->begins && !runs_on(l, line)) page_text_block(to, l->paragraph);
    page_text_line(to, line);
    l->line = line;
    l->any = true;
    l->begins = false;
}

void ocr_tsv_say(page_text *to, const char *tsv, size_t n, double points, ocr_tsv_sum *sum) {
    double confidence = 0, weight = 0;
    bool page = false;
    layout l = {.any = false};
    *sum = (ocr_tsv_sum){0};
    for (size_t at = 0; at < n;) {
        const char *end = memchr(tsv + at, '\n', n - at);
        size_t k = end ? (size_t)(end - tsv) - at : n - at;
        row r;
        bool is_row = read_row(&r, tsv + at, k);
        at += k + 1;
        if (!is_row) continue; /* the head is none */
        int level = (int)fmin(fmax(r.number[LEVEL], 0), 9);
        if (level == ROW_PAGE && page) break;
        page = page || level == ROW_PAGE;
        if (level == ROW_WORD && r.n) {
            sum->words++;
            confidence += fmin(fmax(r.number[CONFIDENCE], 0), 100) * (double)r.n;
            weight += (double)r.n;
        }
        if (!to) continue;
        if (level == ROW_BLOCK) l = (layout){.block = rect_of(&r, points)};
        if (level == ROW_PARAGRAPH) l.paragraph = rect_of(&r, points), l.begins = true;
        if (level == ROW_LINE) on_line(to, &l, rect_of(&r, points));
        if (level == ROW_WORD && r.n) {
            page_text_word(to, rect_of(&r, points), true);
            page_text_put(to, r.text, r.n);
        }
    }
    if (to) page_text_end_block(to);
    if (weight > 0) sum->confidence = confidence / weight;
}
