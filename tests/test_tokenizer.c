/* test_tokenizer.c - text to ids: the embedded model's tokenizer against ids of the Hugging Face library, and
 * small tokenizers whose answers can be worked out by hand. */
#include "tests/engine_files.h"

#include "engine/tokenizer.h"

#include <jansson.h>
#include <pthread.h>
#include <time.h>

/* ---- tokenizers made here ---- */

typedef struct text {
    char *s;
    size_t n, capacity;
} text;

static void add(text *t, const char *s) {
    size_t n = strlen(s);
    if (t->n + n + 1 > t->capacity) {
        t->capacity = (t->n + n + 1) * 2;
        t->s = realloc(t->s, t->capacity);
        assert_non_null(t->s);
    }
    memcpy(t->s + t->n, s, n + 1);
    t->n += n;
}

/* Bytes as a JSON string in the byte-level alphabet. */
static void add_spelt(text *t, const char *s, size_t n) {
    add(t, "\"");
    for (size_t i = 0; i < n; i++) {
        int other = 256, b = (uint8_t)s[i];
        char escape[16];
        for (int k = 0; k < b; k++) other += !((k >= 33 && k <= 126) || (k >= 161 && k != 173));
        bool same = (b >= 33 && b <= 126) || (b >= 161 && b != 173);
        snprintf(escape, sizeof escape, "\\u%04x", (unsigned)(same ? b : other));
        add(t, escape);
    }
    add(t, "\"");
}

static const char bytes_only[] = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}";

/* Bytes at their own numbers, then `words` (from 256), then merges; the other parts as JSON or NULL. */
static tokenizer *make(const char *const *words, const char *const *merges, const char *pre,
                       const char *normalizer, const char *added, bool ignore_merges) {
    text j = {0};
    add(&j, "{\"pre_tokenizer\":");
    add(&j, pre ? pre : bytes_only);
    add(&j, ",\"normalizer\":");
    add(&j, normalizer ? normalizer : "null");
    add(&j, ",\"added_tokens\":[");
    add(&j, added ? added : "");
    add(&j, "],\"model\":{\"type\":\"BPE\",\"ignore_merges\":");
    add(&j, ignore_merges ? "true" : "false");
    add(&j, ",\"vocab\":{");
    char number[32];
    for (int b = 0; b < 256; b++) {
        char byte = (char)b;
        if (b) add(&j, ",");
        add_spelt(&j, &byte, 1);
        snprintf(number, sizeof number, ":%d", b);
        add(&j, number);
    }
    int id = 256;
    for (size_t i = 0; words && words[i]; i++) {
        bool known = strlen(words[i]) == 1;
        for (size_t k = 0; k < i; k++) known |= !strcmp(words[k], words[i]);
        if (known) continue;
        add(&j, ",");
        add_spelt(&j, words[i], strlen(words[i]));
        snprintf(number, sizeof number, ":%d", id++);
        add(&j, number);
    }
    add(&j, "},\"merges\":[");
    for (size_t i = 0; merges && merges[i]; i += 2) {
        add(&j, i ? ",[" : "[");
        add_spelt(&j, merges[i], strlen(merges[i]));
        add(&j, ",");
        add_spelt(&j, merges[i + 1], strlen(merges[i + 1]));
        add(&j, "]");
    }
    add(&j, "]}}");
    tokenizer *t = NULL;
    ph_error err = {0};
    if (tokenizer_open(&t, j.s, j.n, &err)) fail_msg("%s", err.text);
    free(j.s);
    return t;
}

static token_list encode(const tokenizer *t, const char *s, size_t n, int flags) {
    token_list l = {0};
    ph_error err = {0};
    if (tokenizer_encode(t, s, n, flags | TOKENIZE_OFFSETS, 0, &l, &err)) fail_msg("%s", err.text);
    return l;
}

/* The tokens must read as these, in order. */
static void expect_pieces(const tokenizer *t, const char *s, int flags, const char *const *expected) {
    token_list l = encode(t, s, strlen(s), flags);
    size_t n = 0;
    while (expected[n]) n++;
    bool same = l.n == n;
    for (size_t i = 0; i < l.n && same; i++) {
        size_t len;
        const char *piece = tokenizer_piece(t, l.ids[i], &len);
        same = len == strlen(expected[i]) && !memcmp(piece, expected[i], len);
    }
    if (!same) {
        print_error("\"%s\":", s);
        for (size_t i = 0; i < l.n; i++) {
            size_t len;
            const char *piece = tokenizer_piece(t, l.ids[i], &len);
            print_error(" [%.*s]", (int)len, piece);
        }
        print_error("\n");
    }
    token_list_free(&l);
    assert_true(same);
}

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

/* With every expected piece in the vocabulary and merges ignored, a piece comes out whole where it was cut
 * right. */
static void expect_split(const char *pre, const char *s, const char *const *pieces) {
    text sequence = {0};
    add(&sequence, "{\"type\":\"Sequence\",\"pretokenizers\":[");
    add(&sequence, pre);
    add(&sequence, ",");
    add(&sequence, bytes_only);
    add(&sequence, "]}");
    tokenizer *t = make(pieces, NULL, sequence.s, NULL, NULL, true);
    expect_pieces(t, s, 0, pieces);
    tokenizer_close(t);
    free(sequence.s);
}

#define SPLIT(kind, what, behaviour, invert)                                                                 \
    "{\"type\":\"Split\",\"pattern\":{\"" kind "\":\"" what "\"},\"behavior\":\"" behaviour                  \
    "\",\"invert\":" invert "}"
#define ISOLATED(regex) SPLIT("Regex", regex, "Isolated", "false")

/* ---- the corpus ---- */

static int open_and_close(const char *s, size_t len, ph_error *err) {
    tokenizer *t;
    int code = tokenizer_open(&t, s, len, err);
    if (code && t) return PH_FAIL;
    tokenizer_close(t);
    return code;
}

static void corpus(void **state) {
    (void)state;
    static const expected_reason reasons[] = {
        {"no-byte", "no token for the byte 0x71"},
        {"model", "model \"WordPiece\""},
        {"no-model", "there is no model"},
        {"no-merges", "no vocab or no merges"},
        {"no-vocab", "no vocab or no merges"},
        {"pre-tokenizer", "pre-tokenizer \"Metaspace\""},
        {"no-pre-tokenizer", "pre-tokenizer \"\""},
        {"no-byte-level", "no ByteLevel"},
        {"after-byte-level", "after ByteLevel"},
        {"normaliser", "normaliser \"BertNormalizer\""},
        {"decoder", "decoder \"WordPiece\""},
        {"replace-after-bytes", "Replace decoder"},
        {"merge-unknown", "a merge names \"zz"},
        {"merge-result", "the result of merge 0"},
        {"merge-one", "not a pair"},
        {"merge-three", "not in the vocabulary"},
        {"merge-number", "not a pair"},
        {"merge-triple", "not a pair"},
        {"id-negative", "has no id"},
        {"id-huge", "has no id"},
        {"id-text", "has no id"},
        {"id-twice", "the id 5 of another"},
        {"added-id-taken", "contradicts the vocabulary"},
        {"added-moved", "contradicts the vocabulary"},
        {"added-no-content", "has no content"},
        {"regex", "regular expression: missing closing parenthesis"},
        {"regex-boundary", "\\b at byte 0"},
        {"regex-posix", "[ in a class"},
        {"regex-and", "&& in a class"},
        {"regex-hex", "\\h at byte 0"},
        {"regex-option", "this kind of group"},
        {"regex-verb", "(* at byte 0"},
        {"regex-reference", "\\1 at byte 3"},
        {"regex-byte", "raw byte"},
        {"regex-interval", "quantifier after {n}"},
        {"regex-empty", "empty"},
        {"behaviour", "split behaviour \"Sideways\""},
        {"many-steps", "more than 32"},
        {"prefix", "continuing_subword_prefix"},
        {"dropout", "dropout"},
        {"empty", "tokenizer.json: line"},
        {"array", "not a JSON object"},
        {"cut", "line"},
        {"duplicate", "duplicate"},
        {"deep", "depth"},
    };
    check_corpus("tokenizer", open_and_close, reasons, sizeof reasons / sizeof *reasons);
}

/* ---- the library's own answers ---- */

static int check_case(const tokenizer *t, const json_t *row) {
    const json_t *s = json_object_get(row, "text"), *ids = json_object_get(row, "ids");
    assert_true(json_is_string(s) && json_is_array(ids));
    token_list l = encode(t, json_string_value(s), json_string_length(s),
                          json_is_true(json_object_get(row, "special")) ? TOKENIZE_SPECIAL : 0);
    bool same = l.n == json_array_size(ids);
    size_t at = 0;
    for (size_t i = 0; i < l.n && same; i++) {
        size_t n;
        const char *piece = tokenizer_piece(t, l.ids[i], &n);
        same = l.ids[i] == json_integer_value(json_array_get(ids, i)) && l.start[i] == at &&
               at + n <= json_string_length(s) && !memcmp(piece, json_string_value(s) + at, n);
        at += n;
    }
    token_list_free(&l);
    return same && at == json_string_length(s);
}

static void library_cases(void **state) {
    (void)state;
    static const char dir[] = SOURCE_DIR "/engine/nano";
    if (access(SOURCE_DIR "/engine/nano/tokenizer.json", R_OK)) skip();
    FILE *f = fopen(SOURCE_DIR "/engine/nano/tokenizer_cases.jsonl", "r");
    if (!f) fail_msg("tokenizer.json stands without tokenizer_cases.jsonl");
    tokenizer *t;
    ph_error err = {0};
    if (tokenizer_load(&t, dir, &err)) fail_msg("%s", err.text);
    char *line = NULL;
    size_t capacity = 0;
    int n = 0, wrong = 0;
    while (getline(&line, &capacity, f) > 0) {
        json_error_t at;
        json_t *row = json_loads(line, JSON_ALLOW_NUL, &at);
        if (!row) fail_msg("case %d: %s", n, at.text);
        if (!check_case(t, row)) {
            print_error("%s", line);
            wrong++;
        }
        json_decref(row);
        n++;
    }
    free(line);
    fclose(f);
    tokenizer_close(t);
    assert_true(n >= 100);
    assert_int_equal(wrong, 0);
}

/* ---- merges ---- */

static const char *const words[] = {"he", "ll",     "hell", "hello", " w",   "or", " wor",
                                    "ld", " world", "ab",   "aa",    "aaaa", NULL};
static const char *const merges[] = {"h", "e", "l", "l",  "he", "ll", "hell", "o",    " ",
                                     "w", "o", "r", " w", "or", "l",  "d",    " wor", "ld",
                                     "a", "b", "a", "a",  "aa", "aa", NULL};

/* The definition itself, on bytes: the lowest rank, leftmost, until none is left. */
static size_t merge_plainly(const char *s, size_t n, size_t *starts) {
    size_t count = n;
    for (size_t i = 0; i < n; i++) starts[i] = i;
    starts[n] = n;
    for (;;) {
        size_t best = SIZE_MAX, at = 0;
        for (size_t i = 0; i + 1 < count; i++)
            for (size_t m = 0; merges[m] && m < best; m += 2)
                if (starts[i + 1] - starts[i] == strlen(merges[m]) &&
                    starts[i + 2] - starts[i + 1] == strlen(merges[m + 1]) &&
                    !memcmp(s + starts[i], merges[m], strlen(merges[m])) &&
                    !memcmp(s + starts[i + 1], merges[m + 1], strlen(merges[m + 1]))) {
                    best = m;
                    at = i;
                }
        if (best == SIZE_MAX) return count;
        memmove(starts + at + 1, starts + at + 2, (count - at - 1) * sizeof *starts);
        count--;
    }
}

static void merging(void **state) {
    (void)state;
    tokenizer *t = make(words, merges, NULL, NULL, NULL, false);
    expect_pieces(t, "hello world", 0, LIST("hello", " world"));
    expect_pieces(t, "hell world", 0, LIST("hell", " world"));
    expect_pieces(t, "aab", 0, LIST("a", "ab")); /* ab ranks before aa */
    expect_pieces(t, "aaaaa", 0, LIST("aaaa", "a"));
    expect_pieces(t, "lld", 0, LIST("ll", "d"));
    /* Short pieces are merged by scanning, long ones through a heap: the same. */
    unsigned seed = 1;
    for (int round = 0; round < 400; round++) {
        char s[200];
        size_t starts[201], n = 1 + (size_t)round % 190;
        for (size_t i = 0; i < n; i++) {
            seed = seed * 1103515245 + 12345;
            s[i] = "helo wrdab"[seed >> 16 & 7] == 'h' && round % 3 ? 'a' : "helo wrdab"[(seed >> 16) % 10];
        }
        size_t count = merge_plainly(s, n, starts);
        token_list l = encode(t, s, n, 0);
        assert_int_equal(l.n, count);
        for (size_t i = 0; i < count; i++) assert_int_equal(l.start[i], starts[i]);
        token_list_free(&l);
    }
    tokenizer_close(t);

    /* With ignore_merges a piece of the vocabulary is itself; without, only when merging leads there. */
    static const char *const alone[] = {"xyz", NULL};
    t = make(alone, NULL, NULL, NULL, NULL, true);
    expect_pieces(t, "xyz", 0, LIST("xyz"));
    tokenizer_close(t);
    t = make(alone, NULL, NULL, NULL, NULL, false);
    expect_pieces(t, "xyz", 0, LIST("x", "y", "z"));
    expect_pieces(t, "xyz", 0, LIST("x", "y", "z"));
    tokenizer_close(t);
}

/* ---- pre-tokenizers ---- */

static void splitting(void **state) {
    (void)state;
    expect_split(SPLIT("String", "-", "Isolated", "false"), "ab--cd-", LIST("ab", "-", "-", "cd", "-"));
    expect_split(SPLIT("String", "-", "Removed", "false"), "ab--cd-", LIST("ab", "cd"));
    expect_split(SPLIT("String", "-", "Contiguous", "false"), "ab--cd-", LIST("ab", "--", "cd", "-"));
    expect_split(SPLIT("String", "-", "MergedWithPrevious", "false"), "-ab--cd-",
                 LIST("-", "ab-", "-", "cd-"));
    expect_split(SPLIT("String", "-", "MergedWithNext", "false"), "-ab--cd-", LIST("-ab", "-", "-cd", "-"));
    expect_split(SPLIT("Regex", "[a-z]+", "Removed", "true"), "ab12cd", LIST("ab", "cd"));
    expect_split(SPLIT("String", ".", "Isolated", "false"), "a.bc",
                 LIST("a", ".", "bc")); /* not any character */
    expect_split("{\"type\":\"Digits\",\"individual_digits\":true}", "ab12\xC2\xBD",
                 LIST("ab", "1", "2", "\xC2\xBD"));
    expect_split("{\"type\":\"Digits\",\"individual_digits\":false}", "ab12cd", LIST("ab", "12", "cd"));

    /* Each split sees one piece: the look-ahead of the second finds the end where the first one cut. */
    expect_split(ISOLATED("[0-9]") "," ISOLATED("\\\\s+(?!\\\\S)|\\\\s|x"), "a   1", LIST("a", "   ", "1"));
    expect_split(ISOLATED("[0-9]|\\\\s+(?!\\\\S)|\\\\s|x"), "a   1", LIST("a", "  ", " ", "1"));

    /* Matches of nothing cut, but not right after a match. */
    expect_split(ISOLATED("(?=b)"), "abb", LIST("a", "b", "b"));
    expect_split(ISOLATED("a*"), "aabc", LIST("aa", "b", "c"));

    /* GPT-2's own pattern and prefix space. */
    tokenizer *t = make(LIST(" it", "'s", " 12", "...", "  ", " x"), NULL,
                        "{\"type\":\"ByteLevel\",\"add_prefix_space\":true}", NULL, NULL, true);
    expect_pieces(t, "it's 12...   x", 0, LIST(" it", "'s", " 12", "...", "  ", " x"));
    expect_pieces(t, " it", 0, LIST(" it"));
    token_list l = encode(t, "it's", 4, 0);
    assert_int_equal(l.n, 2);
    assert_int_equal(l.start[0], 0);
    assert_int_equal(l.start[1], 2); /* the space that was added takes no place */
    token_list_free(&l);
    tokenizer_close(t);
}

static void dialect(void **state) {
    (void)state;
    /* U+180E is no whitespace, U+0085 and U+3000 are. */
    expect_split(ISOLATED("\\\\s+"),
                 "a\xE1\xA0\x8E"
                 "b",
                 LIST("a\xE1\xA0\x8E"
                      "b"));
    expect_split(ISOLATED("\\\\s+"), "a\xC2\x85\xE3\x80\x80z", LIST("a", "\xC2\x85\xE3\x80\x80", "z"));
    expect_split(ISOLATED("[^\\\\s-]+"), "ab- c", LIST("ab", "- ", "c"));
    expect_split(ISOLATED("[\\\\S]+"), "ab c", LIST("ab", " ", "c"));
    expect_split(ISOLATED("\\\\w+"), "a\xCC\x81_1 \xE2\x85\xA7!",
                 LIST("a\xCC\x81_1", " ", "\xE2\x85\xA7", "!"));
    expect_split(ISOLATED("a{,2}b"), "aaab", LIST("a", "aab"));
    expect_split(ISOLATED("a{x"), "ba{x", LIST("b", "a{x"));
    expect_split(ISOLATED("(?i:'S)|\\\\x41|\\\\u00e9"), "it'sA\xC3\xA9z",
                 LIST("it", "'s", "A", "\xC3\xA9", "z"));
    expect_split(ISOLATED("^a"), "a\nab", LIST("a", "\n", "a", "b"));
    expect_split(ISOLATED("\\\\d"), "a1\xD9\xA1", LIST("a", "1", "\xD9\xA1"));
}

/* ---- normalisers ---- */

#define NORMALISER(list) "{\"type\":\"Sequence\",\"normalizers\":[" list "]}"

static void expect_normal(const char *normalizer, const char *s, const char *expected) {
    tokenizer *t = make(NULL, NULL, NULL, normalizer, NULL, false);
    token_list l = encode(t, s, strlen(s), 0);
    assert_int_equal(l.n, strlen(expected));
    for (size_t i = 0; i < l.n; i++) {
        if (l.ids[i] != (uint8_t)expected[i]) fail_msg("\"%s\": byte %zu is %02X", s, i, (unsigned)l.ids[i]);
        assert_true(l.start[i] < strlen(s));
        if (i) assert_true(l.start[i] >= l.start[i - 1]);
    }
    token_list_free(&l);
    tokenizer_close(t);
}

static void normalising(void **state) {
    (void)state;
    expect_normal(NORMALISER("{\"type\":\"NFC\"}"), "xe\xCC\x81y", "x\xC3\xA9y");
    expect_normal(NORMALISER("{\"type\":\"NFD\"}"), "x\xC3\xA9y", "xe\xCC\x81y");
    expect_normal(NORMALISER("{\"type\":\"NFKC\"}"), "\xEF\xAC\x81\xC2\xBD",
                  "fi1\xE2\x81\x84"
                  "2");
    expect_normal(NORMALISER("{\"type\":\"NFKD\"}"), "\xEF\xBC\xA1\xC3\xA9", "Ae\xCC\x81");
    /* Marks in canonical order: cedilla (202) before acute (230); Hangul. */
    expect_normal(NORMALISER("{\"type\":\"NFD\"}"), "a\xCC\x81\xCC\xA7", "a\xCC\xA7\xCC\x81");
    expect_normal(NORMALISER("{\"type\":\"NFC\"}"), "\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB", "\xED\x95\x9C");
    expect_normal(NORMALISER("{\"type\":\"Lowercase\"}"), "AB\xC3\x89\xC4\xB0", "ab\xC3\xA9i\xCC\x87");
    expect_normal(NORMALISER("{\"type\":\"NFD\"},{\"type\":\"StripAccents\"}"), "\xC3\xA9t\xC3\xA9", "ete");
    expect_normal("{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":false}", " \xC2\xA0 a ", "a ");
    expect_normal("{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true}", "  \n ", "");
    expect_normal("{\"type\":\"Prepend\",\"prepend\":\"_\"}", "ab", "_ab");
    expect_normal("{\"type\":\"Replace\",\"pattern\":{\"String\":\"ab\"},\"content\":\"-\"}", "xababy",
                  "x--y");
    expect_normal("{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\"\"}", "a   b c",
                  "ab c");

    /* Starts are those of the input. */
    tokenizer *t = make(NULL, NULL, NULL, "{\"type\":\"NFC\"}", NULL, false);
    token_list l = encode(t, "abe\xCC\x81z", 6, 0);
    static const uint64_t starts[] = {0, 1, 2, 3, 5};
    assert_int_equal(l.n, 5);
    assert_memory_equal(l.start, starts, sizeof starts);
    token_list_free(&l);
    tokenizer_close(t);
}

/* ---- added tokens ---- */

static void added_tokens(void **state) {
    (void)state;
    static const char list[] = "{\"id\":300,\"content\":\"<a>\",\"special\":true},"
                               "{\"id\":301,\"content\":\"<a>>\"},"
                               "{\"id\":302,\"content\":\"[L]\",\"lstrip\":true},"
                               "{\"id\":303,\"content\":\"[R]\",\"rstrip\":true},"
                               "{\"id\":304,\"content\":\"cat\",\"single_word\":true},"
                               "{\"id\":310,\"content\":\"\xEF\xBD\x9C\"}";
    tokenizer *t = make(NULL, NULL, NULL, NULL, list, false);
    assert_int_equal(tokenizer_vocab(t), 311);
    expect_pieces(t, "x<a>>y<a>", TOKENIZE_SPECIAL, LIST("x", "<a>>", "y", "<a>")); /* the longest */
    expect_pieces(t, "<a>", 0, LIST("<", "a", ">")); /* text, unless asked for */
    expect_pieces(t, "cat concat cat", TOKENIZE_SPECIAL,
                  LIST("cat", " ", "c", "o", "n", "c", "a", "t", " ", "cat"));
    expect_pieces(t, "a \t[L] b", TOKENIZE_SPECIAL, LIST("a", "[L]", " ", "b"));
    expect_pieces(t, "a [R] \n b", TOKENIZE_SPECIAL, LIST("a", " ", "[R]", "b"));
    expect_pieces(t, "[R]  [L]", TOKENIZE_SPECIAL, LIST("[R]", "[L]"));
    token_list l = encode(t, "a \t[L]\xEF\xBD\x9C", 9, TOKENIZE_SPECIAL);
    assert_int_equal(l.n, 3);
    assert_int_equal(l.start[1], 1); /* with the whitespace it takes */
    assert_int_equal(l.ids[2], 310);
    assert_int_equal(l.start[2], 6);
    token_list_free(&l);
    assert_true(tokenizer_is_special(t, 300));
    assert_false(tokenizer_is_special(t, 301));
    assert_false(tokenizer_is_special(t, -1));
    assert_false(tokenizer_is_special(t, 311));
    assert_int_equal(tokenizer_id(t, "<a>"), 300);
    assert_int_equal(tokenizer_id(t, "\xC4\xA0"), ' '); /* as the file spells it */
    assert_int_equal(tokenizer_id(t, "nothing"), -1);
    assert_int_equal(tokenizer_id(t, ""), -1);
    size_t n;
    tokenizer_piece(t, 305, &n); /* a gap in the ids */
    assert_int_equal(n, 0);
    tokenizer_piece(t, -1, &n);
    assert_int_equal(n, 0);
    tokenizer_piece(t, 1 << 30, &n);
    assert_int_equal(n, 0);
    tokenizer_close(t);

    /* A normalised token is looked for in the normalised text, another one in the text as it is. */
    static const char two[] = "{\"id\":300,\"content\":\"Dog\",\"normalized\":true},"
                              "{\"id\":301,\"content\":\"Cat\",\"normalized\":false}";
    t = make(NULL, NULL, NULL, "{\"type\":\"Lowercase\"}", two, false);
    expect_pieces(t, "xDOGCatcat", TOKENIZE_SPECIAL, LIST("x", "Dog", "Cat", "c", "a", "t"));
    tokenizer_close(t);
}

/* ---- hostile text ---- */

static void bad_bytes(void **state) {
    (void)state;
    tokenizer *t = make(words, merges, NULL, NULL, NULL, false);
    static const char s[] = "he\xFFllo\xC3hello\xED\xA0\x80\xF4\x90\x80\x80\xC0\x80\xE2\x82";
    token_list l = encode(t, s, sizeof s - 1, 0);
    static const char *const pieces[] = {"he",   "\xFF", "ll",   "o",    "\xC3", "hello",
                                         "\xED", "\xA0", "\x80", "\xF4", "\x90", "\x80",
                                         "\x80", "\xC0", "\x80", "\xE2", "\x82"};
    assert_int_equal(l.n, sizeof pieces / sizeof *pieces);
    size_t at = 0;
    for (size_t i = 0; i < l.n; i++) {
        size_t n;
        const char *piece = tokenizer_piece(t, l.ids[i], &n);
        assert_int_equal(n, strlen(pieces[i]));
        assert_memory_equal(piece, pieces[i], n);
        assert_int_equal(l.start[i], at);
        at += n;
    }
    token_list_free(&l);
    l = encode(t, "a\0b", 3, 0);
    assert_int_equal(l.n, 3);
    assert_int_equal(l.ids[1], 0);
    token_list_free(&l);
    tokenizer_close(t);
}

static tokenizer *deepseek(void) {
    size_t len;
    tokenizer *t;
    ph_error err = {0};
    char *s = slurp(SOURCE_DIR "/tests/corpus/tokenizer/valid-deepseek.json", &len);
    assert_non_null(s);
    if (tokenizer_open(&t, s, len, &err)) fail_msg("%s", err.text);
    free(s);
    return t;
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now); /* not disturbed by what else the machine does */
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Text of one kind only: every byte is kept, and four times the text takes nowhere near sixteen times as
 * long. */
static void long_runs(void **state) {
    (void)state;
    static const char *const units[] = {
        "a",  " ",        "\n",           " \n",      "\t ",          "7",
        "!",  "\x01",     "\xFF",         "\xCC\x81", "\xE6\xBC\xA2", "ab",
        "x ", "\xC2\xA0", "\xE3\x80\x80", "'s",       "\r",           "\xF0\x9F\x98\x80"};
    tokenizer *t = deepseek();
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        double took[2];
        for (int big = 0; big < 2; big++) {
            size_t unit = strlen(units[u]), n = (size_t)(big ? 4 : 1) * 500000 / unit * unit;
            char *s = malloc(n);
            assert_non_null(s);
            for (size_t i = 0; i < n; i++) s[i] = units[u][i % unit];
            double start = seconds();
            token_list l = encode(t, s, n, 0);
            took[big] = seconds() - start;
            size_t at = 0;
            for (size_t i = 0; i < l.n; i++) {
                size_t len;
                const char *piece = tokenizer_piece(t, l.ids[i], &len);
                if (l.start[i] != at || memcmp(piece, s + at, len)) fail_msg("unit %zu, token %zu", u, i);
                at += len;
            }
            assert_int_equal(at, n);
            token_list_free(&l);
            free(s);
        }
        if (took[1] > 10 * took[0] + 0.5) fail_msg("unit %zu: %.3f s, then %.3f s", u, took[0], took[1]);
    }
    tokenizer_close(t);
}

/* Runs below the limit are not cut: the last space belongs to the word, whatever the length. */
static void runs_up_to_the_limit(void **state) {
    (void)state;
    tokenizer *t = make(LIST(" x"), NULL,
                        "{\"type\":\"Sequence\",\"pretokenizers\":[" ISOLATED(
                            "\\\\s+(?!\\\\S)| ?x") ",{\"type\":\"ByteLevel\",\"use_regex\":false}]}",
                        NULL, NULL, true);
    static const size_t lengths[] = {1, 100, 65535, 65536};
    for (size_t i = 0; i < 4; i++)
        for (int before = 0; before < 2; before++) { /* wherever the run stands */
            size_t skip = before ? 40000 : 0, n = skip + lengths[i] + 1;
            char *s = malloc(n);
            assert_non_null(s);
            memset(s, 'y', skip);
            memset(s + skip, ' ', lengths[i]);
            s[n - 1] = 'x';
            token_list l = encode(t, s, n, 0);
            assert_int_equal(l.n, n - 1);
            assert_int_equal(l.ids[l.n - 1], 256);
            token_list_free(&l);
            free(s);
        }
    tokenizer_close(t);
}

/* A pattern that backtracks without end is cut off, and no text is lost. */
static void slow_pattern(void **state) {
    (void)state;
    tokenizer *t = make(NULL, NULL,
                        "{\"type\":\"Sequence\",\"pretokenizers\":[" ISOLATED(
                            "(?:a|aa)+b|\\\\s+$") ",{\"type\":\"ByteLevel\",\"use_regex\":false}]}",
                        NULL, NULL, false);
    char s[300];
    memset(s, 'a', sizeof s);
    token_list l = encode(t, s, sizeof s, 0);
    assert_int_equal(l.n, sizeof s);
    token_list_free(&l);
    tokenizer_close(t);
}

/* ---- the rest ---- */

static void lists(void **state) {
    (void)state;
    tokenizer *t = make(words, merges, NULL, NULL, NULL, false);
    token_list l = {0};
    assert_int_equal(token_list_push(&l, 7, 0, false, NULL), 0);
    assert_null(l.start);
    assert_int_equal(tokenizer_encode(t, "hello world", 11, TOKENIZE_OFFSETS, 1000, &l, NULL), 0);
    assert_int_equal(l.n, 3);
    assert_int_equal(l.start[0], 0); /* what came before has no start of its own */
    assert_int_equal(l.start[1], 1000);
    assert_int_equal(l.start[2], 1005);
    assert_int_equal(tokenizer_encode(t, "", 0, 0, 0, &l, NULL), 0);
    assert_int_equal(tokenizer_encode(t, NULL, 0, 0, 0, &l, NULL), 0);
    assert_int_equal(l.n, 3);
    token_list_free(&l);
    assert_null(l.ids);
    assert_null(l.start);
    tokenizer_close(t);
    tokenizer_close(NULL);
}

static void identity(void **state) {
    (void)state;
    tokenizer *a = make(words, merges, NULL, NULL, NULL, false),
              *b = make(words, merges, NULL, NULL, NULL, false),
              *c = make(words, NULL, NULL, NULL, NULL, false);
    assert_memory_equal(tokenizer_hash(a), tokenizer_hash(b), 32);
    assert_memory_not_equal(tokenizer_hash(a), tokenizer_hash(c), 32);
    tokenizer_close(a);
    tokenizer_close(b);
    tokenizer_close(c);
    tokenizer *t;
    ph_error err = {0};
    char dir[512];
    temporary_dir(dir, sizeof dir);
    assert_int_equal(tokenizer_load(&t, dir, &err), PH_MODEL);
    assert_non_null(strstr(err.text, "no tokenizer.json"));
    rmdir(dir);
}

static void *encode_again(void *argument) {
    const tokenizer *t = argument;
    uintptr_t sum = 0;
    for (int i = 0; i < 200; i++) {
        static const char s[] = "hello world, 1234 hello  worlds\n\n";
        token_list l = {0};
        if (tokenizer_encode(t, s, sizeof s - 1, 0, 0, &l, NULL)) return NULL;
        for (size_t k = 0; k < l.n; k++) sum = sum * 31 + (uintptr_t)l.ids[k];
        token_list_free(&l);
    }
    return (void *)sum;
}

static void threads(void **state) {
    (void)state;
    tokenizer *t = deepseek();
    pthread_t thread[4];
    void *sum[4];
#if FAILING_ALLOCATOR
    long live = allocations_live; /* counted without locks, so not trustworthy while threads run */
#endif
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&thread[i], NULL, encode_again, t), 0);
    for (int i = 0; i < 4; i++) pthread_join(thread[i], &sum[i]);
    for (int i = 0; i < 4; i++) assert_ptr_equal(sum[i], sum[0]);
    assert_non_null(sum[0]);
#if FAILING_ALLOCATOR
    allocations_live = live;
#endif
    tokenizer_close(t);
}

#if FAILING_ALLOCATOR
static int open_and_encode(ph_error *err) {
    static char *json;
    static size_t len;
    if (!json) json = slurp(SOURCE_DIR "/tests/corpus/tokenizer/valid-normalisers.json", &len);
    tokenizer *t;
    int code = tokenizer_open(&t, json, len, err);
    if (code) return code;
    static const char s[] =
        "  Hello \xC3\xA9t\xC3\xA9   123 <|end|> a\xCC\x81\xCC\xA7 "
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    token_list l = {0};
    code = tokenizer_encode(t, s, sizeof s - 1, TOKENIZE_SPECIAL | TOKENIZE_OFFSETS, 0, &l, err);
    if (code && l.n) code = PH_FAIL; /* all or nothing */
    token_list_free(&l);
    tokenizer_close(t);
    return code;
}

static void out_of_memory(void **state) {
    (void)state;
    check_every_allocation(open_and_encode);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(corpus),
        cmocka_unit_test(library_cases),
        cmocka_unit_test(merging),
        cmocka_unit_test(splitting),
        cmocka_unit_test(dialect),
        cmocka_unit_test(normalising),
        cmocka_unit_test(added_tokens),
        cmocka_unit_test(bad_bytes),
        cmocka_unit_test(long_runs),
        cmocka_unit_test(runs_up_to_the_limit),
        cmocka_unit_test(slow_pattern),
        cmocka_unit_test(lists),
        cmocka_unit_test(identity),
        cmocka_unit_test(threads),
#if FAILING_ALLOCATOR
        cmocka_unit_test(out_of_memory),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
