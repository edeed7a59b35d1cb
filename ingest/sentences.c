/* sentences.c - where sentences begin and end, looking at no more than a few kilobytes around a place.
 *
 * A boundary is decided from a window of fixed size on both sides of it, so that sentence_at and
 * sentence_next agree and cost the same in a text of any length. A run of more than CUT_BYTES without a
 * boundary is cut at line ends or spaces near multiples of CUT_BYTES of the text: places that do not depend
 * on where one starts to look.
 */
#include "ingest/sentences.h"

#include "ingest/utf8.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#define CUT_BYTES ((size_t)1000)
#define LOOK_BACK ((size_t)64) /* how far before a full stop its word is looked for */

/* Words after which a full stop ends no sentence (lower case, without the stop). */
static const char *const always[] = {
    "mr",     "mrs",  "ms",   "dr",     "prof", "sr",  "jr",  "st",   "rev",  "hon",  "gen",  "col",
    "capt",   "lt",   "sgt",  "messrs", "vs",   "cf",  "e.g", "i.e",  "eg",   "ie",   "viz",  "ca",
    "approx", "resp", "fig",  "figs",   "eq",   "eqs", "sec", "sect", "ch",   "chap", "vol",  "vols",
    "ed",     "eds",  "pp",   "pg",     "para", "art", "nr",  "nos",  "ver",  "dept", "univ", "assn",
    "ave",    "blvd", "mt",   "z.b",    "d.h",  "bzw", "vgl", "u.a",  "hrsg", "abb",  "bd",   "kap",
    "dipl",   "ing",  "p.ex", "c.-à-d", "tab",  "app", "ref", "refs", "incl", "excl", "esp",  "jan",
    "feb",    "mar",  "apr",  "jun",    "jul",  "aug", "sep", "sept", "oct",  "nov",  "dec",
};

/* ... only before a number: "No. 7", "v. 3", "p. 12". */
static const char *const before_number[] = {"no",   "v",    "p",       "s",  "n", "art",
                                            "rule", "item", "version", "op", "§", "c"};

/* ... unless a sentence plainly begins after it: these also stand at ends. */
static const char *const at_end_too[] = {"inc", "ltd", "co",  "corp", "etc", "al",
                                         "u.s", "u.k", "a.m", "p.m",  "e.v", "llc"};

static bool is_space(unsigned char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool listed(const char *const *list, size_t n, const char *word, size_t length) {
    for (size_t i = 0; i < n; i++)
        if (strlen(list[i]) == length && !strncasecmp(list[i], word, length)) return true;
    return false;
}
#define LISTED(list, word, n) listed(list, sizeof(list) / sizeof *(list), word, n)

/* Length of a closing quote or bracket at s[at], 0 if there is none. */
static size_t closing(const char *s, size_t len, size_t at) {
    if (at >= len) return 0;
    if (strchr("\"')]}*_`", s[at]) && s[at]) return 1;
    static const char *const wide[] = {"\u201D", "\u2019", "\u00BB", "\u203A", "\u300D",
                                       "\u300F", "\u3011", "\uFF09", "\uFF02"};
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        size_t k = strlen(wide[i]);
        if (len - at >= k && !memcmp(s + at, wide[i], k)) return k;
    }
    return 0;
}

/* Length of a CJK sentence end at s[at]: the ideographic full stop and the full-width ! and ?. */
static size_t cjk_stop(const char *s, size_t len, size_t at) {
    static const char *const stops[] = {"\u3002", "\uFF01", "\uFF1F", "\uFF0E", "\uFF61"};
    if (at + 3 > len || ((unsigned char)s[at] != 0xE3 && (unsigned char)s[at] != 0xEF)) return 0;
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++)
        if (!memcmp(s + at, stops[i], 3)) return 3;
    return 0;
}

/* The line at `at` begins a list item or a heading: "- ", "* ", "• ", "3. ", "3.1 ", "(a) ", "# ", or a
 * fence. */
static bool starts_item(const char *s, size_t len, size_t at) {
    size_t i = at, end = len - at > 40 ? at + 40 : len;
    while (i < end && (s[i] == ' ' || s[i] == '\t' || s[i] == '>')) i++;
    if (i >= end) return false;
    if (strchr("-*+", s[i]) && s[i]) return i + 1 < end && (s[i + 1] == ' ' || s[i + 1] == '\t');
    if (end - i > 3 && !memcmp(s + i, "\u2022", 3)) return true;
    if (s[i] == '#') {
        while (i < end && s[i] == '#') i++;
        return i < end && s[i] == ' ';
    }
    if (end - i >= 3 && (!memcmp(s + i, "```", 3) || !memcmp(s + i, "~~~", 3))) return true;
    bool open = s[i] == '(';
    if (open) i++;
    size_t from = i;
    while (i < end && isalnum((unsigned char)s[i]) && i - from < 4) i++;
    bool digits = i > from && isdigit((unsigned char)s[from]);
    if (i == from || (!digits && i - from > 1 && !open)) return false;
    if (open) return i < end && s[i] == ')';
    if (digits) /* 3.1.4 */
        while (i + 1 < end && s[i] == '.' && isdigit((unsigned char)s[i + 1]))
            for (i++; i < end && isdigit((unsigned char)s[i]);) i++;
    /* "1984. It was" may be the end of a sentence that wraps: at most three digits number an item. */
    if (digits && i - from > 3 && !memchr(s + from, '.', i - from)) return false;
    return i + 1 < end && (s[i] == '.' || s[i] == ')') && (s[i + 1] == ' ' || s[i + 1] == '\t');
}

/* The word that ends before s[at], with dots inside ("e.g"). */
static size_t word_before(const char *s, size_t at) {
    size_t low = at > LOOK_BACK ? at - LOOK_BACK : 0, i = at;
    while (i > low) {
        unsigned char c = (unsigned char)s[i - 1];
        if (!isalnum(c) && c != '.' && c != '-' && c < 0x80) break;
        i--;
    }
    return i;
}

/* A sentence plausibly begins at s[at]: a capital, a digit, a quote or bracket, a character of another
 * script. */
static bool plausible_start(const char *s, size_t len, size_t at) {
    if (at >= len) return true;
    unsigned char c = (unsigned char)s[at];
    return !islower(c) && !strchr(",;:)]}%", (char)c);
}

/* The full stop at s[at] belongs to an abbreviation, an initial or a number. */
static bool stop_inside(const char *s, size_t len, size_t at, size_t next) {
    size_t w = word_before(s, at), n = at - w;
    bool number_next = next < len && isdigit((unsigned char)s[next]);
    bool upper_next = next < len && isupper((unsigned char)s[next]);
    if (n == 0) return false;
    const char *word = s + w;
    while (n > 0 && *word == '.') word++, n--; /* an ellipsis before it */
    if (n == 0) return false;
    if (LISTED(always, word, n)) return true;
    if (LISTED(before_number, word, n)) return number_next;
    if (LISTED(at_end_too, word, n)) return !upper_next;
    /* An initial ("J. Smith", "D. E. Knuth"); "I." ends "... and I." rarely enough. */
    if (n == 1 && isupper((unsigned char)word[0])) return upper_next;
    if (n >= 3 && word[n - 2] == '.' && isupper((unsigned char)word[n - 1])) return upper_next;
    return false;
}

/* If a sentence ends at or just after s[at], the offset behind its closing quotes; otherwise 0. */
static size_t stop_end(const char *s, size_t len, size_t at) {
    size_t i = at, k = cjk_stop(s, len, at);
    if (k) {
        i += k;
        for (int n = 0; n < 4 && ((k = cjk_stop(s, len, i)) || (k = closing(s, len, i))); n++) i += k;
        return i;
    }
    char c = s[at];
    if (c != '.' && c != '!' && c != '?') {
        if ((unsigned char)c != 0xE2 || len - at < 3 || memcmp(s + at, "\u2026", 3)) return 0;
        i += 2;
    }
    i++;
    if (i < len && strchr(".!?", s[i]) && s[i]) return 0; /* the last of a run decides */
    size_t stop = i;
    for (int n = 0; n < 4 && (k = closing(s, len, i)); n++) i += k;
    if (i < len && !is_space((unsigned char)s[i])) return 0;
    size_t next = i, far = len - i > 80 ? i + 80 : len;
    while (next < far && is_space((unsigned char)s[next])) next++;
    size_t first = next;
    while (first < len && strchr("\"'([{*_`", s[first]) && s[first] && first - next < 4) first++;
    if (c == '.' && i == stop && stop_inside(s, len, at, first)) return 0;
    /* "Really?" she said: a small letter goes on. */
    if (!plausible_start(s, len, first)) return 0;
    return i;
}

/* A boundary in front of s[at], other than one by length: the text before belongs to another sentence. */
static bool boundary(const char *s, size_t len, size_t at) {
    if (at == 0 || at >= len) return true;
    unsigned char before = (unsigned char)s[at - 1];
    if (before == '\n') {
        if (s[at] == '\n' || starts_item(s, len, at)) return true;
        size_t i = at - 1, low = at > 80 ? at - 80 : 0; /* an empty line behind us, or a heading */
        while (i > low && (s[i - 1] == ' ' || s[i - 1] == '\t' || s[i - 1] == '\r')) i--;
        if (i == 0 || s[i - 1] == '\n') return true;
        size_t line = i;
        low = at > 300 ? at - 300 : 0;
        while (line > low && s[line - 1] != '\n') line--;
        size_t h = line;
        while (h < at && s[h] == '#') h++;
        if (h > line && h - line <= 6 && h < at && s[h] == ' ' && (line == 0 || s[line - 1] == '\n'))
            return true;
    }
    /* A stop that ends here: it stands at most four closing marks back. */
    size_t low = at > 16 ? at - 16 : 0;
    for (size_t i = at; i-- > low;) {
        unsigned char c = (unsigned char)s[i];
        if (is_space(c)) break;
        if ((c == '.' || c == '!' || c == '?' || c >= 0xE2) && stop_end(s, len, i) == at) return true;
        if (isalnum(c)) break;
    }
    return false;
}

/* The first boundary after `at` within CUT_BYTES, or 0. */
static size_t next_boundary(const char *s, size_t len, size_t at) {
    size_t end = len - at > CUT_BYTES ? at + CUT_BYTES : len;
    for (size_t i = at + 1; i < end; i++) {
        unsigned char c = (unsigned char)s[i - 1];
        /* Only behind these can a boundary stand. */
        if ((c == '\n' || ispunct(c) || c >= 0x80) && boundary(s, len, i)) return i;
    }
    return end == len ? len : 0;
}

/* The last boundary at or before `at` within CUT_BYTES; false when there is none. */
static bool last_boundary(const char *s, size_t len, size_t at, size_t *found) {
    size_t low = at > CUT_BYTES ? at - CUT_BYTES : 0;
    for (size_t i = at; i > low; i--) {
        unsigned char c = (unsigned char)s[i - 1];
        if ((c == '\n' || ispunct(c) || c >= 0x80) && boundary(s, len, i)) return *found = i, true;
    }
    return *found = 0, low == 0;
}

/* Where a long run is cut: the best place within the last 200 bytes before a multiple of CUT_BYTES. */
static size_t grid_place(const char *s, size_t len, size_t multiple) {
    if (multiple >= len) return len;
    size_t low = multiple - 200;
    for (size_t i = multiple; i > low; i--)
        if (s[i - 1] == '\n') return i;
    for (size_t i = multiple; i > low; i--)
        if (is_space((unsigned char)s[i - 1])) return i;
    size_t at = multiple;
    for (int k = 0; k < 3 && ((unsigned char)s[at] & 0xC0) == 0x80; k++) at--;
    return at;
}

/* The place counts only inside a run of more than CUT_BYTES. */
static bool grid_cuts(const char *s, size_t len, size_t place) {
    if (place >= len) return false;
    size_t start, end = next_boundary(s, len, place);
    return !last_boundary(s, len, place, &start) || !end || end - start > CUT_BYTES;
}

static size_t end_after(const char *s, size_t len, size_t at) {
    size_t end = next_boundary(s, len, at), far = end ? end : at + 2 * CUT_BYTES;
    for (size_t m = (at / CUT_BYTES + 1) * CUT_BYTES; m < far + 200 && m < len; m += CUT_BYTES) {
        size_t place = grid_place(s, len, m);
        if (place > at && place < far && grid_cuts(s, len, place)) return place;
    }
    return end ? end : far < len ? far : len; /* without an end, a grid place counted */
}

static size_t start_before(const char *s, size_t len, size_t at) {
    size_t start;
    last_boundary(s, len, at, &start);
    for (size_t m = (at / CUT_BYTES + 1) * CUT_BYTES; m > 0 && m > start; m -= CUT_BYTES) {
        if (m >= len) continue;
        size_t place = grid_place(s, len, m);
        if (place > start && place <= at && grid_cuts(s, len, place)) return place;
        if (m + CUT_BYTES < at) break;
    }
    return start;
}

static text_span trimmed(const char *s, size_t start, size_t end) {
    while (start < end && is_space((unsigned char)s[start])) start++;
    while (end > start && is_space((unsigned char)s[end - 1])) end--;
    return (text_span){start, end};
}

text_span sentence_at(const char *text, size_t len, size_t at) {
    if (at >= len) return (text_span){len, len};
    for (int k = 0; k < 3 && at > 0 && ((unsigned char)text[at] & 0xC0) == 0x80; k++) at--;
    /* White space between two sentences counts to the second; spans have none around them. */
    return trimmed(text, start_before(text, len, at), end_after(text, len, at));
}

text_span sentence_next(const char *text, size_t len, size_t from) {
    size_t at = from;
    while (at < len) {
        while (at < len && is_space((unsigned char)text[at])) at++;
        if (at >= len) break;
        text_span s = sentence_at(text, len, at);
        if (s.start >= from && s.start < s.end) return s;
        at = s.end > at ? s.end : at + 1;
    }
    return (text_span){len, len};
}
