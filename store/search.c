/* search.c - full text over passages: cutting them, indexing, asking, and forgetting.
 *
 * The index is contentless: it holds words and positions, and the passages table says which bytes of which
 * document a row stands for. To take a row out, FTS5 must be told the very text that went in; it is read back
 * from the document and cut where the row says. */
#include "store/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- cutting ---- */

enum { PASSAGE_MIN = 350, PASSAGE_AIM = 600, PASSAGE_MAX = 750, MAX_WORDS = 64, MAX_WORD = 128 };

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}
static bool continues(char c) {
    return ((unsigned char)c & 0xC0) == 0x80;
}

/* How good a place the byte before `at` is to end a passage: 3 paragraph, 2 sentence or line, 1 word, 0 none.
 */
static int boundary(const char *text, size_t at) {
    char last = text[at - 1];
    if (last == '\n') return text[at - 2] == '\n' ? 3 : 2;
    if (!is_space(last)) return 0;
    char before = text[at - 2];
    return before == '.' || before == '!' || before == '?' || before == ':' ? 2 : 1;
}

size_t search_passage_end(const char *text, size_t len, size_t at) {
    if (len - at <= PASSAGE_MAX) return len;
    size_t best = 0;
    int best_rank = 0;
    /* Of the best kind that the window has, the one nearest to the aim. */
    for (size_t end = at + PASSAGE_MIN; end <= at + PASSAGE_MAX; end++) {
        int rank = boundary(text, end);
        size_t far = end > at + PASSAGE_AIM ? end - at - PASSAGE_AIM : at + PASSAGE_AIM - end;
        size_t best_far = best > at + PASSAGE_AIM ? best - at - PASSAGE_AIM : at + PASSAGE_AIM - best;
        if (rank > best_rank || (rank == best_rank && rank && far < best_far)) best = end, best_rank = rank;
    }
    if (best) return best;
    for (best = at + PASSAGE_AIM; best > at + 1 && continues(text[best]);) best--; /* one long word */
    /* Bytes that are no UTF-8 at all may go on for ever. */
    return best > at + PASSAGE_AIM - 4 ? best : at + PASSAGE_AIM;
}

/* ---- indexing ---- */

static int run_again(store *s, sqlite3_stmt *statement, ph_error *err) {
    bool row;
    int rc = db_step(s, statement, &row, err);
    sqlite3_reset(statement);
    return rc;
}

static int index_passage(store *s, sqlite3_stmt *statement, int64_t id, const char *text, size_t n,
                         ph_error *err) {
    sqlite3_bind_int64(statement, 1, id);
    if (sqlite3_bind_text64(statement, 2, text, n, SQLITE_STATIC, SQLITE_UTF8)) return db_fail(s, err);
    return run_again(s, statement, err);
}

static const char insert_words[] = "INSERT INTO passages_fts (rowid, text) VALUES (?, ?)";

int search_add(store *s, int64_t document, const char *text, size_t len, ph_error *err) {
    sqlite3_stmt *place = NULL, *words = NULL;
    int rc = db_prepare(s, &place, err, "INSERT INTO passages (document, start, end) VALUES (?, ?, ?)", "i",
                        document);
    if (rc == PH_OK) rc = db_prepare(s, &words, err, insert_words, "");
    for (size_t at = 0; rc == PH_OK;) {
        while (at < len && is_space(text[at])) at++;
        if (at == len) break;
        size_t end = search_passage_end(text, len, at), shown = end;
        while (shown > at && is_space(text[shown - 1])) shown--;
        sqlite3_bind_int64(place, 2, (int64_t)at);
        sqlite3_bind_int64(place, 3, (int64_t)shown);
        rc = run_again(s, place, err);
        if (rc == PH_OK)
            rc = index_passage(s, words, sqlite3_last_insert_rowid(s->db), text + at, shown - at, err);
        at = end;
    }
    sqlite3_finalize(place);
    sqlite3_finalize(words);
    return rc;
}

/* Calls `statement` (id, text) for each passage of the document; PH_CORRUPT where one is not within the text.
 */
static int each_passage(store *s, int64_t document, const char *text, sqlite3_stmt *statement,
                        ph_error *err) {
    sqlite3_stmt *places;
    size_t len = strlen(text);
    bool row;
    int rc =
        db_prepare(s, &places, err, "SELECT id, start, end FROM passages WHERE document = ?", "i", document);
    while (rc == PH_OK && (rc = db_step(s, places, &row, err)) == PH_OK && row) {
        int64_t start = sqlite3_column_int64(places, 1), end = sqlite3_column_int64(places, 2);
        if (start < 0 || end < start || (uint64_t)end > len)
            rc = db_corrupt(s, err, "a passage is out of range");
        else
            rc = index_passage(s, statement, sqlite3_column_int64(places, 0), text + start,
                               (size_t)(end - start), err);
    }
    sqlite3_finalize(places);
    return rc;
}

/* Where the words of a row cannot be told any more, the whole index is made again from the other documents.
 */
static int rebuild(store *s, ph_error *err) {
    sqlite3_stmt *ids = NULL, *words = NULL;
    bool row;
    int rc = db_run(s, err, "INSERT INTO passages_fts (passages_fts) VALUES ('delete-all')", "");
    if (rc == PH_OK) rc = db_prepare(s, &ids, err, "SELECT DISTINCT document FROM passages", "");
    if (rc == PH_OK) rc = db_prepare(s, &words, err, insert_words, "");
    while (rc == PH_OK && (rc = db_step(s, ids, &row, err)) == PH_OK && row) {
        char *text;
        size_t len;
        int64_t id = sqlite3_column_int64(ids, 0);
        rc = documents_read_text(s, id, &text, &len, err);
        if (rc == PH_OK) rc = each_passage(s, id, text, words, err);
        if (rc == PH_CORRUPT)
            rc = PH_OK; /* that one cannot be searched until it is added again; verify names it */
        free(text);
    }
    sqlite3_finalize(ids);
    sqlite3_finalize(words);
    return rc;
}

int search_remove(store *s, int64_t document, const char *text, ph_error *err) {
    sqlite3_stmt *words = NULL;
    int64_t own, all;
    int rc = db_int(s, &own, err, "SELECT count(*) FROM passages WHERE document = ?", "i", document);
    if (rc == PH_OK) rc = db_int(s, &all, err, "SELECT count(*) FROM passages", "");
    if (rc) return rc;
    bool again = !text || own > all - own; /* less work than taking the most of it out word by word */
    if (!again) {
        rc = db_prepare(s, &words, err,
                        "INSERT INTO passages_fts (passages_fts, rowid, text) VALUES ('delete', ?, ?)", "");
        if (rc == PH_OK) rc = each_passage(s, document, text, words, err);
        sqlite3_finalize(words);
    }
    if (rc == PH_CORRUPT) again = true;
    if (rc == PH_OK || again) rc = db_run(s, err, "DELETE FROM passages WHERE document = ?", "i", document);
    if (rc == PH_OK && again) rc = rebuild(s, err);
    /* A deletion is only a note in the index's newest part until everything is merged into one part: the
     * words of the document would stay in the older ones. */
    if (rc == PH_OK) rc = db_run(s, err, "INSERT INTO passages_fts (passages_fts) VALUES ('optimize')", "");
    return rc;
}

/* ---- asking ---- */

/* Length of a separator at p, 0 = a letter or digit. Beyond ASCII, punctuation that people paste (quotation
 * marks, dashes, ellipses, CJK punctuation) separates; the rest is left to the index's own tokenizer. */
static size_t separator(const unsigned char *p) {
    if (p[0] < 0x80)
        return (p[0] >= '0' && p[0] <= '9') || ((p[0] | 32) >= 'a' && (p[0] | 32) <= 'z') ? 0 : 1;
    if (p[0] == 0xC2 && p[1] >= 0xA0 && p[1] <= 0xBF && p[1] != 0xAA && p[1] != 0xB5 && p[1] != 0xBA)
        return 2;
    if (p[0] == 0xE2 && (p[1] == 0x80 || (p[1] == 0x81 && p[2] <= 0xAF)) && continues((char)p[2])) return 3;
    if (p[0] == 0xE3 && p[1] == 0x80 && continues((char)p[2])) return 3;
    return 0;
}

/* Words that stand in every passage and in most questions: they cost time and tell nothing. Sorted. */
static bool is_common(const char *word, size_t n) {
    static const char *const common[] = {
        "a",     "about", "an",    "and",  "are",   "as",     "at",    "be",   "been",  "by",    "can",
        "could", "d",     "did",   "do",   "does",  "for",    "from",  "had",  "has",   "have",  "how",
        "i",     "if",    "in",    "into", "is",    "it",     "its",   "ll",   "m",     "me",    "my",
        "of",    "on",    "or",    "re",   "s",     "should", "so",    "t",    "tell",  "than",  "that",
        "the",   "their", "them",  "then", "there", "these",  "they",  "this", "those", "to",    "ve",
        "was",   "we",    "were",  "what", "when",  "where",  "which", "who",  "whom",  "whose", "why",
        "will",  "with",  "would", "you",  "your"};
    size_t low = 0, high = sizeof common / sizeof *common;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strncasecmp(word, common[middle], n);
        if (order == 0 && common[middle][n] == 0) return true;
        if (order > 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

typedef struct word {
    const char *p;
    size_t n;
} word;

static size_t split(word words[MAX_WORDS], const char *question, bool keep_common) {
    size_t n = 0;
    for (const char *p = question; *p && n < MAX_WORDS;) {
        size_t skip = separator((const unsigned char *)p);
        if (skip) {
            p += skip;
            continue;
        }
        word w = {p, 0};
        while (*p && separator((const unsigned char *)p) == 0) p++;
        w.n = (size_t)(p - w.p);
        bool seen = w.n > MAX_WORD || (!keep_common && is_common(w.p, w.n));
        for (size_t i = 0; i < n && !seen; i++)
            seen = words[i].n == w.n && !strncasecmp(words[i].p, w.p, w.n);
        if (!seen) words[n++] = w;
    }
    return n;
}

/* "who" OR "published" ...; quoted, and without quotation marks inside, nothing in it is syntax. */
static int expression(char **out, const char *question, ph_error *err) {
    word words[MAX_WORDS];
    size_t n = split(words, question, false);
    if (n == 0) n = split(words, question, true);
    *out = NULL;
    if (n == 0) return PH_OK;
    char *text = malloc(n * (MAX_WORD + 8)), *to = text;
    if (!text) return ph_no_memory(err, n * (MAX_WORD + 8));
    for (size_t i = 0; i < n; i++)
        to += sprintf(to, "%s\"%.*s\"", i ? " OR " : "", (int)words[i].n, words[i].p);
    *out = text;
    return PH_OK;
}

int store_search(store *s, const char *question, size_t limit, store_hit **out, size_t *n, ph_error *err) {
    *out = NULL;
    *n = 0;
    char *match;
    int rc = expression(&match, question ? question : "", err);
    if (rc || !match || limit == 0) {
        free(match);
        return rc;
    }
    sqlite3_stmt *statement;
    store_hit *list = NULL;
    size_t count = 0;
    bool row;
    rc = db_prepare(s, &statement, err,
                    "SELECT p.document, p.start, p.end, f.score, d.text_bytes FROM"
                    " (SELECT rowid AS id, -bm25(passages_fts) AS score FROM passages_fts"
                    "  WHERE passages_fts MATCH ? ORDER BY 2 DESC, 1 LIMIT ?) f"
                    " JOIN passages p ON p.id = f.id JOIN documents d ON d.id = p.document"
                    " ORDER BY f.score DESC, p.id",
                    "ti", match, (int64_t)(limit > 1000000 ? 1000000 : limit));
    while (rc == PH_OK && (rc = db_step(s, statement, &row, err)) == PH_OK && row) {
        int64_t start = sqlite3_column_int64(statement, 1), end = sqlite3_column_int64(statement, 2);
        if (start < 0 || end < start || end > sqlite3_column_int64(statement, 4)) {
            rc = db_corrupt(s, err, "a passage is out of range");
        } else if ((rc = db_grow((void **)&list, count, sizeof *list, err)) == PH_OK) {
            list[count++] = (store_hit){sqlite3_column_int64(statement, 0), (uint64_t)start, (uint64_t)end,
                                        db_real(statement, 3)};
        }
    }
    sqlite3_finalize(statement);
    free(match);
    if (rc) {
        free(list);
        return rc;
    }
    *out = list;
    *n = count;
    return PH_OK;
}
