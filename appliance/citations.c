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

/* Heaviest place of quote[n] over all texts, or within one place (NULL = all). A place inside a longer word
 * counts only where there is no other. */
static bool best_place(const loaded_pack *p, const char *quote, size_t n, const double *mass,
                       const place *within, place *best) {
    int places = 0;
    bool found = false, found_whole = false;
    for (size_t i = 0; i < p->n_texts; i++) {
        const pack_text *t = &p->texts[i];
        if (within && within->text != t) continue;
        size_t first = within ? within->start : t->span.text_start,
               last = within ? within->end : t->span.text_end;
        for (size_t at = first; at < last && places < MAX_PLACES; at++) {
            if (lower(t->text[at]) != lower(quote[0])) continue;
            size_t end = match_at(t->text, last, at, quote, n);
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

typedef struct citing {
    const loaded_pack *pack;
    store *store;
    const double *mass;
    const place *within; /* NULL = anywhere */
    bool read;           /* only what was read more than a random place */
    store_citation **list;
    size_t *n;
    ph_error *err;
} citing;

/* Cites the heaviest place of the words; *found false where there is none. */
static int cite(const citing *c, part words, bool *found) {
    place at;
    *found = best_place(c->pack, words.start, words.len, c->mass, c->within, &at) &&
             (!c->read || (at.mass > 0 && at.lift > 1));
    return *found
               ? add(c->list, c->n, c->store, &at, at.text->text + at.start, at.end - at.start, true, c->err)
               : PH_OK;
}

/* The answer as one, or without a final full stop, which then is no member's either. */
static int cite_whole(const citing *c, part *whole, bool *found) {
    int code = cite(c, *whole, found);
    if (code || *found || whole->len < 2 || !strchr(".!?", whole->start[whole->len - 1])) return code;
    whole->len--;
    return cite(c, *whole, found);
}

static int cite_members(const citing *c, part whole) {
    part parts[MAX_PARTS];
    char *list = copy(whole.start, whole.len);
    if (!list) return ph_fail(c->err, PH_MEMORY, "no memory for a citation");
    int n = split(list, parts), code = PH_OK;
    bool found;
    for (int i = 0; i < n && n > 1 && !code; i++)
        if (parts[i].len > 1) code = cite(c, parts[i], &found);
    free(list);
    return code;
}

static int cite_quotes(const citing *c, const char *answer) {
    part parts[MAX_PARTS];
    int n = quotes(answer, parts), code = PH_OK;
    for (int i = 0; i < n && !code; i++) {
        bool found;
        code = cite(c, parts[i], &found);
        if (!code && !found) code = add_nowhere(c->list, c->n, parts[i].start, parts[i].len, c->err);
    }
    return code;
}

/* Where the thought stands in a document, if that was read. */
static bool thought_place(const citing *c, const char *thought, place *at) {
    enum { SHORTEST = 8 }; /* bytes: less is no sentence */
    part words = trim(thought ? thought : "", thought ? strlen(thought) : 0);
    return words.len >= SHORTEST && best_place(c->pack, words.start, words.len, c->mass, NULL, at) &&
           at->mass > 0;
}

static int cite_all(citing *c, const char *answer, const char *thought, part *whole) {
    place source;
    bool found = false;
    if (thought_place(c, thought, &source)) {
        c->within = &source;
        int code = cite_whole(c, whole, &found);
        if (!code && !found) code = cite_members(c, *whole);
        c->within = NULL;
        c->read = true;
        if (!code && *c->n == 0) code = cite_whole(c, whole, &found);
        if (!code && *c->n == 0)
            code = add(c->list, c->n, c->store, &source, source.text->text + source.start,
                       source.end - source.start, true, c->err);
        return code;
    }
    int code = cite_whole(c, whole, &found);
    if (!code && !found) code = cite_members(c, *whole);
    if (!code && *c->n == 0) code = cite_quotes(c, answer);
    return code;
}

int citations_make(store_citation **out, size_t *n, const loaded_pack *p, store *s, const char *answer,
                   const char *thought, const double *mass, const read_sentence *read, size_t n_read,
                   ph_error *err) {
    *out = NULL;
    *n = 0;
    part whole = trim(answer, strlen(answer));
    if (!whole.len) return PH_OK;
    citing c = {.pack = p, .store = s, .mass = mass, .list = out, .n = n, .err = err};
    int code = cite_all(&c, answer, thought, &whole);
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
