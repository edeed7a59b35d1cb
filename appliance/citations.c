/* citations.c - finds an answer's words in the documents and picks the place that was read (citations.h). */
#include "appliance/citations.h"

#include "ingest/sentences.h"

#include <stdlib.h>
#include <string.h>

/* A common word stands in too many places for a place to mean anything; the heaviest of these many is taken.
 */
enum { MAX_PLACES = 4096, MAX_PARTS = 16 };

typedef struct place {
    const pack_text *text;
    size_t start, end;
    double mass, lift;
    double sentence_mass;
} place;

static bool is_space(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}
static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}
static bool is_word(char c) {
    return (c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'z') || (unsigned char)c >= 0x80;
}

/* The end of quote[n] if it stands at text[at], else 0. Runs of white space equal one another. */
static size_t match_at(const char *text, size_t len, size_t at, const char *quote, size_t n) {
    for (size_t i = 0; i < n;) {
        if (is_space(quote[i])) {
            if (at >= len || !is_space(text[at])) return 0;
            while (i < n && is_space(quote[i])) i++;
            while (at < len && is_space(text[at])) at++;
        } else {
            if (at >= len || lower(text[at]) != lower(quote[i])) return 0;
            at++;
            i++;
        }
    }
    return at;
}

static double sentence_mass(const loaded_pack *p, const pack_text *t, size_t at, const double *mass) {
    text_span s = sentence_at(t->text, t->len, at);
    return read_set_span(p, t, s.start, s.end, mass, NULL);
}

/* Heaviest place of quote[n] over all texts. A place inside a longer word counts only where there is no
 * other. */
static bool best_place(const loaded_pack *p, const char *quote, size_t n, const double *mass, place *best) {
    int places = 0;
    bool found = false, found_whole = false;
    for (size_t i = 0; i < p->n_texts; i++) {
        const pack_text *t = &p->texts[i];
        for (size_t at = t->span.text_start; at < t->span.text_end && places < MAX_PLACES; at++) {
            if (lower(t->text[at]) != lower(quote[0])) continue;
            size_t end = match_at(t->text, t->span.text_end, at, quote, n);
            if (!end) continue;
            bool whole = !(at > 0 && is_word(quote[0]) && is_word(t->text[at - 1])) &&
                         !(end < t->len && is_word(quote[n - 1]) && is_word(t->text[end]));
            if (found_whole && !whole) continue;
            places++;
            place here = {.text = t, .start = at, .end = end};
            here.mass = read_set_span(p, t, at, end, mass, &here.lift);
            here.sentence_mass = sentence_mass(p, t, at, mass);
            bool better = !found || (whole && !found_whole) || here.mass > best->mass ||
                          (here.mass == best->mass && here.sentence_mass > best->sentence_mass);
            if (better) *best = here;
            found = true;
            found_whole |= whole;
        }
    }
    return found;
}

typedef struct part {
    const char *start;
    size_t len;
} part;

static part trim(const char *s, size_t n) {
    while (n && is_space(s[0])) s++, n--;
    while (n && is_space(s[n - 1])) n--;
    return (part){s, n};
}

/* "a, b and c" into its members. */
static int split(const char *answer, part *parts) {
    int n = 0;
    const char *s = answer;
    while (*s && n < MAX_PARTS) {
        const char *comma = strstr(s, ", "), *semicolon = strstr(s, "; "), *and = strstr(s, " and ");
        const char *end = s + strlen(s), *next = end;
        size_t skip = 0;
        if (comma && comma < next) next = comma, skip = 2;
        if (semicolon && semicolon < next) next = semicolon, skip = 2;
        if (and&&and < next) next = and, skip = 5;
        part piece = trim(s, (size_t)(next - s));
        if (piece.len > 4 && !strncmp(piece.start, "and ", 4)) piece = trim(piece.start + 4, piece.len - 4);
        if (piece.len) parts[n++] = piece;
        s = next + skip;
    }
    return n;
}

/* Stretches between quotation marks, straight or curved; one or two words are no quote. */
static int quotes(const char *answer, part *parts) {
    static const char *const marks[][2] = {{"\"", "\""}, {"\xE2\x80\x9C", "\xE2\x80\x9D"}};
    enum { SHORTEST = 8 };
    int n = 0;
    for (size_t k = 0; k < sizeof marks / sizeof *marks; k++) {
        const char *open = answer;
        while (n < MAX_PARTS && (open = strstr(open, marks[k][0]))) {
            open += strlen(marks[k][0]);
            const char *close = strstr(open, marks[k][1]);
            if (!close) break;
            part piece = trim(open, (size_t)(close - open));
            if (piece.len >= SHORTEST) parts[n++] = piece;
            open = close + strlen(marks[k][1]);
        }
    }
    return n;
}

static char *copy(const char *s, size_t n) {
    char *out = malloc(n + 1);
    if (!out) return NULL;
    memcpy(out, s, n);
    out[n] = 0;
    return out;
}

int citation_page(store *s, int64_t document, uint64_t byte, uint32_t *page, ph_error *err) {
    store_segment *segments = NULL;
    size_t n = 0;
    *page = 0;
    int code = store_document_segments(s, document, &segments, &n, err);
    for (size_t i = 0; i < n && !code; i++) {
        if (segments[i].start > byte) break;
        *page = segments[i].page;
    }
    store_segments_free(segments, n);
    return code;
}

static int add(store_citation **list, size_t *n, store *s, const place *at, const char *quote, size_t len,
               bool in_text, ph_error *err) {
    store_citation *more = realloc(*list, (*n + 1) * sizeof *more);
    if (!more) return ph_fail(err, PH_MEMORY, "no memory for a citation");
    *list = more;
    store_citation *c = &more[*n];
    *c = (store_citation){.document = at->text->document,
                          .document_name = strdup(at->text->name),
                          .start = at->start,
                          .end = at->end,
                          .quote = copy(quote, len),
                          .in_text = in_text,
                          .in_read_set = at->mass > 0 && at->lift > 1,
                          .mass = at->mass,
                          .lift = at->lift};
    ++*n;
    if (!c->document_name || !c->quote) return ph_fail(err, PH_MEMORY, "no memory for a citation");
    return citation_page(s, c->document, c->start, &c->page, err);
}

/* A quote that stands in none of the documents. */
static int add_nowhere(store_citation **list, size_t *n, const char *quote, size_t len, ph_error *err) {
    store_citation *more = realloc(*list, (*n + 1) * sizeof *more);
    if (!more) return ph_fail(err, PH_MEMORY, "no memory for a citation");
    *list = more;
    more[*n] = (store_citation){.document_name = strdup(""), .quote = copy(quote, len)};
    ++*n;
    return more[*n - 1].document_name && more[*n - 1].quote
               ? PH_OK
               : ph_fail(err, PH_MEMORY, "no memory for a citation");
}

int citations_make(store_citation **out, size_t *n, const loaded_pack *p, store *s, const char *answer,
                   const double *mass, const read_sentence *read, size_t n_read, ph_error *err) {
    *out = NULL;
    *n = 0;
    part whole = trim(answer, strlen(answer));
    if (!whole.len) return PH_OK;
    place at;
    int code = PH_OK;
    bool found = best_place(p, whole.start, whole.len, mass, &at);
    if (!found && strchr(".!?", whole.start[whole.len - 1]) && whole.len > 1) {
        whole.len--;
        found = best_place(p, whole.start, whole.len, mass, &at);
    }
    if (found) {
        code = add(out, n, s, &at, at.text->text + at.start, at.end - at.start, true, err);
    } else {
        part parts[MAX_PARTS];
        char *list = copy(whole.start, whole.len); /* without the final full stop, which is no member's */
        if (!list) return ph_fail(err, PH_MEMORY, "no memory for a citation");
        int n_parts = split(list, parts);
        for (int i = 0; i < n_parts && n_parts > 1 && !code; i++)
            if (parts[i].len > 1 && best_place(p, parts[i].start, parts[i].len, mass, &at))
                code = add(out, n, s, &at, at.text->text + at.start, at.end - at.start, true, err);
        free(list);
    }
    if (!found && !code && *n == 0) {
        part parts[MAX_PARTS];
        int n_parts = quotes(answer, parts);
        for (int i = 0; i < n_parts && !code; i++) {
            bool there = best_place(p, parts[i].start, parts[i].len, mass, &at);
            if (there)
                code = add(out, n, s, &at, at.text->text + at.start, at.end - at.start, true, err);
            else
                code = add_nowhere(out, n, parts[i].start, parts[i].len, err);
        }
    }
    if (!code && *n == 0 && n_read) {
        place heaviest = {.text = read[0].text,
                          .start = read[0].start,
                          .end = read[0].end,
                          .mass = read[0].mass,
                          .lift = read[0].lift};
        code = add(out, n, s, &heaviest, whole.start, whole.len, false, err);
    }
    if (code) {
        citations_free(*out, *n);
        *out = NULL;
        *n = 0;
    }
    return code;
}

void citations_free(store_citation *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(list[i].document_name);
        free(list[i].quote);
    }
    free(list);
}
