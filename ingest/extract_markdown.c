/* extract_markdown.c - Markdown: the source is the text; md4c says where its blocks begin.
 *
 * md4c's callbacks point into the input, so a block's place costs nothing. It is given pieces of some hundred
 * kilobytes, cut at blank lines: its worst cases grow with the square of the length, and a piece bounds them.
 * A fence that spans pieces only moves a few segment borders.
 */
#include "ingest/extract.h"

#include <md4c.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES ((size_t)32 << 10)

typedef struct cuts {
    const uint8_t *bytes; /* of the piece */
    size_t n;
    size_t *at; /* ascending offsets of lines that begin a block */
    size_t count, capacity;
    bool fresh; /* a block began and its first text has not come */
    bool code;
    bool failed;
} cuts;

static size_t line_start(const cuts *c, size_t at) {
    while (at > 0 && c->bytes[at - 1] != '\n' && c->bytes[at - 1] != '\r') at--;
    return at;
}

static void add_cut(cuts *c, size_t at) {
    at = line_start(c, at);
    if (c->code && at > 0) { /* the fence's own line belongs to its code */
        size_t before =
            line_start(c, at - (at > 1 && c->bytes[at - 1] == '\n' && c->bytes[at - 2] == '\r' ? 2 : 1));
        size_t i = before;
        while (i < at && (c->bytes[i] == ' ' || c->bytes[i] == '>')) i++;
        if (c->n - i >= 3 && (!memcmp(c->bytes + i, "```", 3) || !memcmp(c->bytes + i, "~~~", 3)))
            at = before;
    }
    if (c->count && at <= c->at[c->count - 1]) return;
    if (c->count == c->capacity) {
        size_t want = c->capacity ? c->capacity * 2 : 256;
        size_t *grown = realloc(c->at, want * sizeof *grown);
        if (!grown) {
            c->failed = true;
            return;
        }
        c->at = grown;
        c->capacity = want;
    }
    c->at[c->count++] = at;
}

static int enter_block(MD_BLOCKTYPE type, void *detail, void *user) {
    cuts *c = user;
    if (type == MD_BLOCK_P || type == MD_BLOCK_H || type == MD_BLOCK_CODE || type == MD_BLOCK_HTML ||
        type == MD_BLOCK_LI || type == MD_BLOCK_TR) {
        c->fresh = true;
        c->code = type == MD_BLOCK_CODE;
    }
    return 0;
}

static int leave_block(MD_BLOCKTYPE type, void *detail, void *user) {
    return 0;
}
static int no_span(MD_SPANTYPE type, void *detail, void *user) {
    return 0;
}

static int on_text(MD_TEXTTYPE type, const MD_CHAR *text, MD_SIZE size, void *user) {
    cuts *c = user;
    uintptr_t p = (uintptr_t)text, from = (uintptr_t)c->bytes;
    /* Line breaks and code indents come as md4c's own constants. */
    if (!c->fresh || p < from || p >= from + c->n) return c->failed;
    add_cut(c, p - from);
    c->fresh = false;
    return c->failed;
}

/* The end of the piece that starts at `at`: a blank line beyond PIECE_BYTES, any line end beyond four times
 * that, anything beyond eight times that. */
static size_t piece_end(const uint8_t *b, size_t at, size_t n) {
    if (n - at <= PIECE_BYTES) return n;
    for (size_t i = at + PIECE_BYTES; i < n; i++) {
        bool line = b[i - 1] == '\n' || (b[i - 1] == '\r' && b[i] != '\n');
        if (line && (b[i] == '\n' || b[i] == '\r')) return i;
        if (line && i - at > 4 * PIECE_BYTES) return i;
        if (i - at > 8 * PIECE_BYTES && (b[i] & 0xC0) != 0x80) return i;
    }
    return n;
}

int extract_markdown(const uint8_t *bytes, size_t n, text_sink *s) {
    decoded_text d;
    ph_error err = {0};
    int rc = charset_decode(&d, bytes, n, NULL, s->max_text, &err);
    if (rc) return sink_fail(s, rc, "%s", err.text);
    sink_charset(s, d.charset);
    s->replaced += d.replaced;
    const MD_PARSER parser = {.abi_version = 0,
                              .flags = MD_FLAG_TABLES,
                              .enter_block = enter_block,
                              .leave_block = leave_block,
                              .enter_span = no_span,
                              .leave_span = no_span,
                              .text = on_text};
    cuts c = {0};
    for (size_t at = 0; at < d.n && !s->error.code;) {
        size_t end = piece_end(d.bytes, at, d.n);
        c.bytes = d.bytes + at;
        c.n = end - at;
        c.count = 0;
        c.fresh = false;
        int parsed = md_parse((const MD_CHAR *)c.bytes, (MD_SIZE)c.n, &parser, &c);
        if (c.failed || parsed == -1) {
            sink_fail(s, PH_MEMORY, "out of memory while looking for the blocks of %zu bytes of Markdown",
                      c.n);
            break;
        }
        size_t from = 0;
        for (size_t i = 0; i <= c.count; i++) {
            size_t to = i < c.count ? c.at[i] : c.n;
            if (to > from) extract_block(s, &d, at + from, at + to, false);
            from = to;
        }
        at = end;
        sink_progress(s, at, d.n);
    }
    free(c.at);
    decoded_text_free(&d);
    return s->error.code;
}
