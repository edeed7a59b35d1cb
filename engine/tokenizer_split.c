#include "engine/tokenizer_internal.h"
#include "engine/tokenizer_utf8.h"

/* The splits run one inside the other: each piece of a split is a text of its own for the next one, so that a
 * look-ahead sees the end of the piece. One pattern made of all of them would cut elsewhere. */

typedef struct piece {
    size_t start, end;
    bool match, merged;
} piece;

/* Regroups the alternating matches and gaps of one split as its behaviour says; holds one piece back. */
typedef struct regroup {
    encoder *e;
    const splitter *split;
    int next_step;
    const char *text;
    size_t base; /* of text in the stretch */
    bool held;
    piece hold;
} regroup;

static int split_from(encoder *e, int step, const char *text, size_t len, size_t at);

static int deliver(regroup *r, piece p) {
    if (p.start == p.end) return 0;
    return split_from(r->e, r->next_step, r->text + p.start, p.end - p.start, r->base + p.start);
}

static int release(regroup *r) {
    if (!r->held) return 0;
    r->held = false;
    return deliver(r, r->hold);
}

static int hold(regroup *r, piece p) {
    int code = release(r);
    r->hold = p;
    r->held = true;
    return code;
}

static int take(regroup *r, size_t start, size_t end, bool match) {
    piece p = {start, end, match != r->split->invert, false};
    switch (r->split->behaviour) {
    case SPLIT_ISOLATED:
        return deliver(r, p);
    case SPLIT_REMOVED:
        return p.match ? 0 : deliver(r, p);
    case SPLIT_CONTIGUOUS:
        if (r->held && r->hold.match == p.match) {
            r->hold.end = end;
            return 0;
        }
        return hold(r, p);
    case SPLIT_WITH_PREVIOUS:
        if (r->held && p.match && !r->hold.match) {
            r->hold.end = end;
            r->hold.match = true; /* the next match starts a piece */
            return 0;
        }
        return hold(r, p);
    case SPLIT_WITH_NEXT:
        if (r->held && !p.match && r->hold.match && !r->hold.merged) {
            r->hold.end = end;
            r->hold.merged = true;
            return 0;
        }
        return hold(r, p);
    }
    return 0;
}

static int split_digits(regroup *r, size_t len) {
    size_t gap = 0;
    for (size_t i = 0, n; i < len; i += n) {
        n = utf8_sequence(r->text + i, len - i);
        if (!n) n = 1; /* the text is valid, so this does not happen */
        if (!unicode_numeric(utf8_value(r->text + i, n))) continue;
        int code = gap < i ? take(r, gap, i, false) : 0;
        if (!code) code = take(r, i, i + n, true);
        if (code) return code;
        gap = i + n;
    }
    return gap < len ? take(r, gap, len, false) : 0;
}

static int split_pattern(regroup *r, size_t len) {
    finder f = {.text = r->text, .len = len, .last_end = SIZE_MAX};
    size_t gap = 0, start, end;
    int found;
    while ((found = pattern_next(r->e, &r->split->find, &f, &start, &end)) > 0) {
        int code = gap < start ? take(r, gap, start, false) : 0;
        if (!code) code = take(r, start, end, true);
        if (code) return code;
        gap = end;
    }
    if (found < 0) return -found;
    return gap < len ? take(r, gap, len, false) : 0;
}

/* There is at most one such step, so that one buffer in the encoder serves. */
static int split_prefixed(encoder *e, int step, const char *text, size_t len, size_t at) {
    if (text[0] == ' ') return split_from(e, step + 1, text, len, at);
    e->prefixed.n = 0;
    int code = buffer_add(&e->prefixed, " ", 1, e->err);
    if (!code) code = buffer_add(&e->prefixed, text, len, e->err);
    if (code) return code;
    e->prefix = true;
    e->prefix_at = at;
    code = split_from(e, step + 1, e->prefixed.s, e->prefixed.n, at);
    e->prefix = false;
    return code;
}

static int split_from(encoder *e, int step, const char *text, size_t len, size_t at) {
    const tokenizer *t = e->t;
    if (step == t->n_splitters) return bpe_piece(e, text, len, at);
    regroup r = {.e = e, .split = &t->splitters[step], .next_step = step + 1, .text = text, .base = at};
    if (r.split->kind == SPLITTER_PREFIX_SPACE) return split_prefixed(e, step, text, len, at);
    int code = r.split->kind == SPLITTER_DIGITS ? split_digits(&r, len) : split_pattern(&r, len);
    return code ? code : release(&r);
}

/* Where a run of whitespace ends that stands at `at`, looking no further than `limit`. */
static size_t run_end(const char *s, size_t limit, size_t at) {
    while (at < limit) {
        size_t n = utf8_sequence(s + at, limit - at);
        if (!n || !unicode_space(utf8_value(s + at, n))) break;
        at += n;
    }
    return at;
}

static size_t run_start(const char *s, size_t at) {
    while (at > 0) {
        size_t before = utf8_floor(s, at - 1);
        if (!unicode_space(utf8_value(s + before, at - before))) break;
        at = before;
    }
    return at;
}

/* Where the first run of whitespace that is too long is to be cut, len where there is none. Looks only around
 * every TOKENIZER_MAX_RUN-th byte, since a longer run covers one of them. */
static size_t next_cut(const char *s, size_t len) {
    for (size_t at = TOKENIZER_MAX_RUN; at < len; at += TOKENIZER_MAX_RUN) {
        size_t i = utf8_floor(s, at), start = run_start(s, i);
        size_t limit = len - start > TOKENIZER_MAX_RUN + 4 ? start + TOKENIZER_MAX_RUN + 4 : len;
        size_t end = run_end(s, limit, i);
        if (end > i && end - start > TOKENIZER_MAX_RUN) return utf8_floor(s, start + TOKENIZER_MAX_RUN);
    }
    return len;
}

int split_stretch(encoder *e, const stretch *s) {
    e->now = s;
    for (size_t at = 0; at < s->len;) {
        size_t n = next_cut(s->text + at, s->len - at);
        int code = split_from(e, 0, s->text + at, n, at);
        if (code) return code;
        at += n;
    }
    return 0;
}
