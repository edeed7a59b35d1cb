#include "engine/tokenizer_internal.h"
#include "engine/tokenizer_utf8.h"

#include <stdlib.h>
#include <string.h>

/* Text on its way through the normalisers: each byte may carry where it came from. */
typedef struct traced {
    char *s;
    uint64_t *origin; /* NULL: not asked for */
    size_t n, capacity;
    bool trace;
} traced;

static void traced_free(traced *t) {
    free(t->s);
    free(t->origin);
    *t = (traced){.trace = t->trace};
}

static int traced_room(traced *t, size_t more, ph_error *err) {
    if (t->capacity - t->n >= more) return 0;
    size_t capacity = t->capacity ? t->capacity : 256;
    while (capacity - t->n < more) {
        if (capacity > SIZE_MAX / 32)
            return ph_fail(err, PH_MEMORY, "out of memory for %zu more bytes", more);
        capacity *= 2;
    }
    char *s = realloc(t->s, capacity);
    if (s) t->s = s;
    uint64_t *origin = s && t->trace ? realloc(t->origin, capacity * sizeof *origin) : NULL;
    if (origin) t->origin = origin;
    if (!s || (t->trace && !origin)) return ph_fail(err, PH_MEMORY, "out of memory for %zu bytes", capacity);
    t->capacity = capacity;
    return 0;
}

/* Appends n bytes that all came from `from`, or from there on one by one. */
static int traced_add(traced *t, const char *s, size_t n, uint64_t from, bool in_step, ph_error *err) {
    int code = traced_room(t, n, err);
    if (code) return code;
    if (n) memcpy(t->s + t->n, s, n);
    if (t->trace)
        for (size_t i = 0; i < n; i++) t->origin[t->n + i] = from + (in_step ? i : 0);
    t->n += n;
    return 0;
}

/* Appends in->s[at..at+n) with its origins. */
static int traced_copy(traced *out, const traced *in, size_t at, size_t n, ph_error *err) {
    int code = traced_room(out, n, err);
    if (code) return code;
    if (n) memcpy(out->s + out->n, in->s + at, n);
    if (out->trace && n) memcpy(out->origin + out->n, in->origin + at, n * sizeof *in->origin);
    out->n += n;
    return 0;
}

static uint64_t came_from(const traced *in, size_t at) {
    if (!in->trace || !in->n) return 0;
    return in->origin[at < in->n ? at : in->n - 1];
}

/* ---- Unicode forms ---- */

typedef struct characters {
    int32_t *c, *spare;
    size_t n, capacity;
} characters;

static int characters_room(characters *c, size_t more, ph_error *err) {
    if (c->capacity - c->n >= more) return 0;
    size_t capacity = c->capacity ? c->capacity : 256;
    while (capacity - c->n < more) capacity *= 2;
    int32_t *a = realloc(c->c, capacity * sizeof *a);
    if (a) c->c = a;
    int32_t *b = a ? realloc(c->spare, capacity * sizeof *b) : NULL;
    if (b) c->spare = b;
    if (!a || !b) return ph_fail(err, PH_MEMORY, "out of memory for %zu bytes", capacity * sizeof *a);
    c->capacity = capacity;
    return 0;
}

static int combining_class(int32_t c) {
    return c < 0x300 ? 0 : utf8proc_get_property(c)->combining_class;
}

/* Canonical order: stable by class within each run of marks. Counting, since a run can be as long as the
 * text. */
static void reorder(characters *c) {
    for (size_t i = 0, end; i < c->n; i = end) {
        end = i + 1;
        if (!combining_class(c->c[i])) continue;
        while (end < c->n && combining_class(c->c[end])) end++;
        if (end - i == 1) continue;
        size_t at[256] = {0};
        for (size_t k = i; k < end; k++) at[combining_class(c->c[k])]++;
        size_t sum = 0;
        for (int k = 0; k < 256; k++) {
            size_t n = at[k];
            at[k] = sum;
            sum += n;
        }
        for (size_t k = i; k < end; k++) c->spare[at[combining_class(c->c[k])]++] = c->c[k];
        memcpy(c->c + i, c->spare, (end - i) * sizeof *c->c);
    }
}

static int decompose(characters *c, const char *s, size_t n, bool compatible, ph_error *err) {
    int last = 0;
    c->n = 0;
    for (size_t i = 0, step; i < n; i += step) {
        step = utf8_sequence(s + i, n - i);
        int32_t part[64];
        utf8proc_ssize_t k = utf8proc_decompose_char(
            utf8_value(s + i, step), part, 64,
            UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0), &last);
        if (k < 0 || k > 64) return ph_fail(err, PH_FAIL, "a character of the text cannot be normalised");
        int code = characters_room(c, (size_t)k, err);
        if (code) return code;
        memcpy(c->c + c->n, part, (size_t)k * sizeof *part);
        c->n += (size_t)k;
    }
    reorder(c);
    return 0;
}

/* One segment to its form. Its bytes' origins are exact where nothing changed and spread evenly where it did.
 */
static int form_segment(traced *out, const traced *in, size_t at, size_t n, normaliser_kind kind,
                        characters *c, ph_error *err) {
    int code = decompose(c, in->s + at, n, kind == NORMALISE_NFKC || kind == NORMALISE_NFKD, err);
    if (code) return code;
    size_t count = c->n;
    if (kind == NORMALISE_NFC || kind == NORMALISE_NFKC) {
        utf8proc_ssize_t k =
            utf8proc_normalize_utf32(c->c, (utf8proc_ssize_t)c->n, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        if (k < 0) return ph_fail(err, PH_FAIL, "a part of the text cannot be normalised");
        count = (size_t)k;
    }
    size_t begin = out->n;
    for (size_t i = 0; i < count; i++) {
        char bytes[4];
        code = traced_add(out, bytes, utf8_put(bytes, c->c[i]), 0, false, err);
        if (code) return code;
    }
    size_t made = out->n - begin;
    bool same = made == n && !memcmp(out->s + begin, in->s + at, n);
    if (out->trace)
        for (size_t i = 0; i < made; i++)
            out->origin[begin + i] = came_from(in, at + (same ? i : i * n / made));
    return 0;
}

/* Nothing composes with a character before it, or changes its order, across one below U+0300. */
static int apply_form(traced *out, const traced *in, normaliser_kind kind, ph_error *err) {
    characters c = {0};
    int code = 0;
    for (size_t i = 0, end; i < in->n && !code; i = end) {
        end = i;
        while (end < in->n && (uint8_t)in->s[end] < 0x80) end++;
        bool ascii = end > i;
        if (ascii && end < in->n) end--; /* the last one may combine with what follows */
        if (ascii && end > i) {
            code = traced_copy(out, in, i, end - i, err);
            continue;
        }
        end = i + utf8_sequence(in->s + i, in->n - i);
        while (end < in->n && (uint8_t)in->s[end] >= 0xCC) end += utf8_sequence(in->s + end, in->n - end);
        code = form_segment(out, in, i, end - i, kind, &c, err);
    }
    free(c.c);
    free(c.spare);
    return code;
}

/* ---- character by character ---- */

static int32_t lower(int32_t c) {
    return c == 0x130 ? 'i' : utf8proc_tolower(c);
}

static int apply_characters(traced *out, const traced *in, normaliser_kind kind, ph_error *err) {
    int code = 0;
    for (size_t i = 0, n; i < in->n && !code; i += n) {
        n = utf8_sequence(in->s + i, in->n - i);
        int32_t c = utf8_value(in->s + i, n);
        char bytes[8];
        size_t made = 0;
        if (kind == NORMALISE_LOWERCASE) {
            made = utf8_put(bytes, lower(c));
            if (c == 0x130)
                made += utf8_put(bytes + made, 0x307); /* the one capital whose small form is two */
        } else if (!unicode_mark(c)) {
            made = utf8_put(bytes, c);
        }
        code = traced_add(out, bytes, made, came_from(in, i), false, err);
    }
    return code;
}

static int apply_strip(traced *out, const traced *in, bool left, bool right, ph_error *err) {
    size_t start = 0, end = in->n;
    while (left && start < end) {
        size_t n = utf8_sequence(in->s + start, end - start);
        if (!unicode_space(utf8_value(in->s + start, n))) break;
        start += n;
    }
    while (right && end > start) {
        size_t before = utf8_floor(in->s, end - 1);
        if (!unicode_space(utf8_value(in->s + before, end - before))) break;
        end = before;
    }
    return traced_copy(out, in, start, end - start, err);
}

static int apply_replace(encoder *e, traced *out, const traced *in, const normaliser *step) {
    finder f = {.text = in->s, .len = in->n, .last_end = SIZE_MAX};
    size_t gap = 0, start, end;
    int code = 0, found = 0;
    while (!code && (found = pattern_next(e, &step->find, &f, &start, &end)) > 0) {
        code = traced_copy(out, in, gap, start - gap, e->err);
        if (!code)
            code = traced_add(out, step->content, step->content_len, came_from(in, start), false, e->err);
        gap = end;
    }
    if (found < 0) return -found;
    return code ? code : traced_copy(out, in, gap, in->n - gap, e->err);
}

static int apply(encoder *e, traced *out, const traced *in, const normaliser *step) {
    switch (step->kind) {
    case NORMALISE_NFC:
    case NORMALISE_NFD:
    case NORMALISE_NFKC:
    case NORMALISE_NFKD:
        return apply_form(out, in, step->kind, e->err);
    case NORMALISE_LOWERCASE:
    case NORMALISE_STRIP_ACCENTS:
        return apply_characters(out, in, step->kind, e->err);
    case NORMALISE_REPLACE:
        return apply_replace(e, out, in, step);
    case NORMALISE_STRIP:
        return apply_strip(out, in, step->left, step->right, e->err);
    case NORMALISE_PREPEND: {
        int code =
            in->n ? traced_add(out, step->content, step->content_len, came_from(in, 0), false, e->err) : 0;
        return code ? code : traced_copy(out, in, 0, in->n, e->err);
    }
    }
    return 0;
}

/* ASCII is its own Unicode form: most text needs no copy. */
static bool changes_nothing(const tokenizer *t, const char *text, size_t len) {
    for (int i = 0; i < t->n_normalisers; i++)
        if (t->normalisers[i].kind > NORMALISE_NFKD) return false;
    if (!t->n_normalisers) return true;
    for (size_t i = 0; i < len; i++)
        if ((uint8_t)text[i] >= 0x80) return false;
    return true;
}

int normalise(encoder *e, const char *text, size_t len, uint64_t base, byte_buffer *out, uint64_t **origin) {
    const tokenizer *t = e->t;
    *out = (byte_buffer){0};
    if (origin) *origin = NULL;
    if (changes_nothing(t, text, len)) return 0;
    traced a = {.trace = origin != NULL}, b = {.trace = origin != NULL};
    int code = traced_room(&a, 1, e->err); /* so that an empty result is not mistaken for "nothing changed" */
    if (!code) code = traced_add(&a, text, len, base, true, e->err);
    for (int i = 0; i < t->n_normalisers && !code; i++) {
        b.n = 0;
        code = traced_room(&b, 1, e->err);
        if (!code) code = apply(e, &b, &a, &t->normalisers[i]);
        traced swap = a;
        a = b;
        b = swap;
    }
    traced_free(&b);
    if (code) {
        traced_free(&a);
        return code;
    }
    *out = (byte_buffer){.s = a.s, .n = a.n, .capacity = a.capacity};
    if (origin) *origin = a.origin;
    return 0;
}
