#include "engine/tokenizer_internal.h"
#include "engine/tokenizer_utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The tokenizers library matches with Oniguruma. PCRE2 differs from it in \s (U+180E), \w, \h, \v, in (?m),
 * in what nested brackets and && mean inside a class, and in {,n}: these are spelt out or refused. */

#define SPACES                                                                                               \
    "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
#define NOT_SPACES                                                                                           \
    "\\x{0}-\\x{8}\\x{E}-\\x{1F}!-\\x{84}\\x{86}-\\x{9F}\\x{A1}-\\x{167F}\\x{1681}-\\x{1FFF}\\x{200B}-\\x{"  \
    "2027}"                                                                                                  \
    "\\x{202A}-\\x{202E}\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}\\x{3001}-\\x{10FFFF}"
#define WORD                                                                                                 \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}\\x{"     \
    "1F170}-\\x{"                                                                                            \
    "1F189}"

/* For one match. What a known pattern needs on a run of TOKENIZER_MAX_RUN spaces stays far below. */
enum { MATCH_LIMIT = 1000000, JIT_STACK_START = 32 << 10, JIT_STACK_LIMIT = 1 << 20 };

typedef struct translator {
    const char *s;
    size_t n, i;
    bool in_class;
    byte_buffer out;
    ph_error *err;
} translator;

static int unsupported(translator *t, const char *what) {
    return ph_fail(t->err, PH_MODEL, "regular expression: %s at byte %zu is not supported", what, t->i);
}

static int put(translator *t, const char *s) {
    return buffer_add(&t->out, s, strlen(s), t->err);
}

static int copy(translator *t, size_t n) {
    int code = buffer_add(&t->out, t->s + t->i, n, t->err);
    t->i += n;
    return code;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
static bool is_hex(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static int put_class(translator *t, const char *members, bool negated) {
    t->i += 2;
    if (t->in_class) return put(t, members);
    int code = put(t, negated ? "[^" : "[");
    if (!code) code = put(t, members);
    return code ? code : put(t, "]");
}

/* \p{Name}, \p{^Name}, \P{Name} */
static int property(translator *t) {
    size_t end = t->i + 2;
    if (end >= t->n || t->s[end] != '{') return unsupported(t, "\\p without braces");
    for (end++; end < t->n && t->s[end] != '}'; end++)
        if (!is_letter(t->s[end]) && !is_digit(t->s[end]) && t->s[end] != '_' && t->s[end] != '^')
            return unsupported(t, "a property name");
    if (end >= t->n) return unsupported(t, "an open property name");
    return copy(t, end + 1 - t->i);
}

static int hexadecimal(translator *t) {
    const char *s = t->s + t->i;
    size_t left = t->n - t->i;
    if (s[1] == 'x' && left > 2 && s[2] == '{') {
        size_t end = 3;
        while (end < left && is_hex(s[end])) end++;
        if (end == 3 || end >= left || s[end] != '}') return unsupported(t, "\\x{...}");
        return copy(t, end + 1);
    }
    size_t digits = s[1] == 'x' ? 2 : 4;
    if (left < 2 + digits) return unsupported(t, "a short \\x or \\u");
    for (size_t k = 0; k < digits; k++)
        if (!is_hex(s[2 + k])) return unsupported(t, "a short \\x or \\u");
    if (digits == 2 && s[2] > '7') return unsupported(t, "\\x of a raw byte");
    int code = put(t, "\\x{");
    t->i += 2;
    if (!code) code = copy(t, digits);
    return code ? code : put(t, "}");
}

static int escape(translator *t) {
    if (t->i + 1 >= t->n) return unsupported(t, "a final backslash");
    char c = t->s[t->i + 1];
    switch (c) {
    case 's':
        return put_class(t, SPACES, false);
    case 'S':
        return t->in_class ? put_class(t, NOT_SPACES, false) : put_class(t, SPACES, true);
    case 'w':
        return put_class(t, WORD, false);
    case 'W':
        return t->in_class ? unsupported(t, "\\W in a class") : put_class(t, WORD, true);
    case 'd':
        t->i += 2;
        return put(t, "\\p{Nd}");
    case 'D':
        t->i += 2;
        return put(t, "\\P{Nd}");
    case 'v':
        t->i += 2;
        return put(t, "\\x{B}");
    case 'p':
    case 'P':
        return property(t);
    case 'x':
    case 'u':
        return hexadecimal(t);
    case 'n':
    case 'r':
    case 't':
    case 'f':
    case 'a':
    case 'e':
        return copy(t, 2);
    case 'A':
    case 'z':
    case 'Z':
        if (!t->in_class) return copy(t, 2);
        break;
    default:
        break;
    }
    if (is_letter(c) || is_digit(c)) {
        char what[4] = {'\\', c, 0};
        return unsupported(t, what);
    }
    /* A character by itself; a multi-byte one follows in the next rounds, where it is itself too. */
    return (uint8_t)c < 0x80 ? copy(t, 2) : (t->i++, 0);
}

static int group(translator *t) {
    const char *s = t->s + t->i;
    size_t left = t->n - t->i;
    if (left > 1 && s[1] == '*') return unsupported(t, "(*");
    if (left < 2 || s[1] != '?') return copy(t, 1);
    static const char *const known[] = {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!", "(?i:"};
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        size_t n = strlen(known[k]);
        if (left >= n && !memcmp(s, known[k], n)) return copy(t, n);
    }
    /* Elsewhere Oniguruma lets an option swallow the alternatives that follow it. */
    if (t->i == 0 && left >= 4 && !memcmp(s, "(?i)", 4)) return copy(t, 4);
    return unsupported(t, "this kind of group");
}

static int interval(translator *t) {
    size_t i = t->i + 1, low = i;
    while (i < t->n && is_digit(t->s[i])) i++;
    bool has_low = i > low, comma = i < t->n && t->s[i] == ',', has_high = false;
    if (comma) {
        size_t high = ++i;
        while (i < t->n && is_digit(t->s[i])) i++;
        has_high = i > high;
    }
    if (i >= t->n || t->s[i] != '}' || (!has_low && !has_high)) {
        int literal = put(t, "\\{"); /* no quantifier: a brace */
        t->i++;
        return literal;
    }
    char after = i + 1 < t->n ? t->s[i + 1] : 0;
    if (after == '+' || (after == '?' && !comma)) return unsupported(t, "a quantifier after {n}");
    if (has_low) return copy(t, i + 1 - t->i);
    int code = put(t, "{0");
    t->i++;
    return code ? code : copy(t, i + 1 - t->i);
}

static int open_class(translator *t) {
    int code = copy(t, 1);
    if (!code && t->i < t->n && t->s[t->i] == '^') code = copy(t, 1);
    t->in_class = true;
    if (!code && t->i < t->n && t->s[t->i] == ']') return unsupported(t, "] first in a class");
    return code;
}

static int translate(translator *t) {
    int code = 0;
    while (!code && t->i < t->n) {
        char c = t->s[t->i];
        bool twice = t->i + 1 < t->n && t->s[t->i + 1] == c;
        if (c == '\\') {
            code = escape(t);
        } else if (t->in_class) {
            if (c == '[') return unsupported(t, "[ in a class");
            if (c == '&' && twice) return unsupported(t, "&& in a class");
            if (c == ']') t->in_class = false;
            code = copy(t, 1);
        } else if (c == '[') {
            code = open_class(t);
        } else if (c == '(') {
            code = group(t);
        } else if (c == '{') {
            code = interval(t);
        } else {
            code = copy(t, 1);
        }
    }
    return code;
}

enum { PCRE2_OUT_OF_MEMORY = 121 }; /* PCRE2_ERROR_HEAP_FAILED, which older headers lack */

static int compile(pattern *out, const byte_buffer *source, ph_error *err) {
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) return ph_fail(err, PH_MEMORY, "out of memory for a regular expression");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    int number;
    PCRE2_SIZE at;
    /* In Oniguruma ^ and $ stand at every line. */
    out->code = pcre2_compile((PCRE2_SPTR)(source->s ? source->s : ""), source->n,
                              PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &number, &at,
                              context);
    pcre2_compile_context_free(context);
    if (!out->code) {
        PCRE2_UCHAR text[160];
        if (pcre2_get_error_message(number, text, sizeof text) < 0) text[0] = 0;
        int code = number == PCRE2_OUT_OF_MEMORY ? PH_MEMORY : PH_MODEL;
        return ph_fail(err, code, "regular expression: %s", (const char *)text);
    }
    out->jit = pcre2_jit_compile(out->code, PCRE2_JIT_COMPLETE) == 0; /* without: slower, the same matches */
    return 0;
}

int pattern_compile(pattern *out, const char *source, size_t len, ph_error *err) {
    memset(out, 0, sizeof *out);
    if (len > TOKENIZER_MAX_TOKEN)
        return ph_fail(err, PH_MODEL, "regular expression of %zu bytes is too long", len);
    translator t = {.s = source, .n = len, .err = err};
    int code = translate(&t);
    if (!code) code = compile(out, &t.out, err);
    free(t.out.s);
    return code;
}

void pattern_free(pattern *p) {
    pcre2_code_free(p->code);
    free(p->literal);
    memset(p, 0, sizeof *p);
}

int encoder_start(encoder *e, const tokenizer *t, ph_error *err) {
    memset(e, 0, sizeof *e);
    e->t = t;
    e->err = err;
    e->match = pcre2_match_data_create(1, NULL);
    e->context = pcre2_match_context_create(NULL);
    e->stack =
        pcre2_jit_stack_create(JIT_STACK_START, JIT_STACK_LIMIT, NULL); /* NULL: the machine's stack serves */
    if (!e->match || !e->context) return ph_fail(err, PH_MEMORY, "out of memory for matching");
    pcre2_set_match_limit(e->context, MATCH_LIMIT);
    if (e->stack) pcre2_jit_stack_assign(e->context, NULL, e->stack);
    return 0;
}

void encoder_end(encoder *e) {
    pcre2_match_data_free(e->match);
    pcre2_match_context_free(e->context);
    if (e->stack) pcre2_jit_stack_free(e->stack);
    free(e->nodes);
    free(e->heap);
    free(e->prefixed.s);
}

/* 1 found, 0 not, -1 a limit was hit, -2 out of memory. The subject is valid: checking it again for each
 * match would be quadratic. */
static int search(encoder *e, const pattern *p, const char *text, size_t len, size_t at, size_t *start,
                  size_t *end) {
    if (!p->code) {
        const char *hit = at <= len ? memmem(text + at, len - at, p->literal, p->literal_len) : NULL;
        if (!hit) return 0;
        *start = (size_t)(hit - text);
        *end = *start + p->literal_len;
        return 1;
    }
    int n =
        p->jit ? pcre2_jit_match(p->code, (PCRE2_SPTR)text, len, at, PCRE2_NO_UTF_CHECK, e->match, e->context)
               : pcre2_match(p->code, (PCRE2_SPTR)text, len, at, PCRE2_NO_UTF_CHECK, e->match, e->context);
    if (n == PCRE2_ERROR_NOMATCH) return 0;
    if (n < 0) return n == PCRE2_ERROR_NOMEMORY ? -2 : -1;
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(e->match);
    if (span[0] > span[1] || span[1] > len) return -1;
    *start = span[0];
    *end = span[1];
    return 1;
}

int pattern_next(encoder *e, const pattern *p, finder *f, size_t *start, size_t *end) {
    while (f->at <= f->len) {
        int found = search(e, p, f->text, f->len, f->at, start, end);
        if (found == -1) {
            /* Too much work for one match: read the next part as if the text ended after it, and where that
             * does not help either, take the part as it is. */
            size_t part =
                f->len - f->at > TOKENIZER_MAX_RUN ? utf8_floor(f->text, f->at + TOKENIZER_MAX_RUN) : f->len;
            found = search(e, p, f->text, part, f->at, start, end);
            if (found == 0 || found == -1) {
                *start = f->at;
                *end = part;
                if (part == f->at) return 0;
            }
        } else if (!found) {
            return 0;
        }
        if (found == -2) return -ph_fail(e->err, PH_MEMORY, "out of memory for matching");
        /* An empty match right after the last one does not count, as in the library's own walk. */
        if (*end == *start && f->last_end == *end) {
            if (f->at >= f->len) return 0;
            size_t step = utf8_sequence(f->text + f->at, f->len - f->at);
            f->at += step ? step : 1;
            continue;
        }
        f->at = f->last_end = *end;
        return 1;
    }
    return 0;
}
