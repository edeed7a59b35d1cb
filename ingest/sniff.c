/* sniff.c - what kind of file some bytes are. Content decides; the name only breaks ties among kinds of text.
 */
#include "ingest/extract.h"

#include <ctype.h>
#include <magic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define LOOK_BYTES ((size_t)1 << 18)

static magic_t
    database; /* of this process, opened once by sniff_prepare; NULL = libmagic's files are missing */
static bool prepared;

void sniff_prepare(void) {
    if (prepared) return;
    prepared = true;
    database = magic_open(MAGIC_MIME_TYPE | MAGIC_NO_CHECK_COMPRESS | MAGIC_NO_CHECK_TAR);
    if (database && magic_load(database, NULL) != 0) {
        magic_close(database);
        database = NULL;
    }
}

bool sniff_is_pdf(const uint8_t *bytes, size_t n) {
    return memmem(bytes, n < 1024 ? n : 1024, "%PDF-", 5) != NULL;
}

typedef struct name_kind {
    const char *extension;
    doc_kind kind;
    const char *media_type;
} name_kind;

/* Kinds of text that only a name tells apart. Whatever is not here is text/plain. */
static const name_kind by_name[] = {
    {"md", KIND_MARKDOWN, "text/markdown"},
    {"markdown", KIND_MARKDOWN, "text/markdown"},
    {"mdown", KIND_MARKDOWN, "text/markdown"},
    {"mkd", KIND_MARKDOWN, "text/markdown"},
    {"c", KIND_TEXT, "text/x-c"},
    {"h", KIND_TEXT, "text/x-c"},
    {"cc", KIND_TEXT, "text/x-c++"},
    {"cpp", KIND_TEXT, "text/x-c++"},
    {"cxx", KIND_TEXT, "text/x-c++"},
    {"hh", KIND_TEXT, "text/x-c++"},
    {"hpp", KIND_TEXT, "text/x-c++"},
    {"cu", KIND_TEXT, "text/x-cuda"},
    {"cuh", KIND_TEXT, "text/x-cuda"},
    {"py", KIND_TEXT, "text/x-python"},
    {"js", KIND_TEXT, "text/javascript"},
    {"mjs", KIND_TEXT, "text/javascript"},
    {"jsx", KIND_TEXT, "text/javascript"},
    {"ts", KIND_TEXT, "text/x-typescript"},
    {"tsx", KIND_TEXT, "text/x-typescript"},
    {"java", KIND_TEXT, "text/x-java"},
    {"kt", KIND_TEXT, "text/x-kotlin"},
    {"scala", KIND_TEXT, "text/x-scala"},
    {"go", KIND_TEXT, "text/x-go"},
    {"rs", KIND_TEXT, "text/x-rust"},
    {"rb", KIND_TEXT, "text/x-ruby"},
    {"pl", KIND_TEXT, "text/x-perl"},
    {"pm", KIND_TEXT, "text/x-perl"},
    {"php", KIND_TEXT, "text/x-php"},
    {"swift", KIND_TEXT, "text/x-swift"},
    {"cs", KIND_TEXT, "text/x-csharp"},
    {"lua", KIND_TEXT, "text/x-lua"},
    {"hs", KIND_TEXT, "text/x-haskell"},
    {"ml", KIND_TEXT, "text/x-ocaml"},
    {"el", KIND_TEXT, "text/x-lisp"},
    {"lisp", KIND_TEXT, "text/x-lisp"},
    {"scm", KIND_TEXT, "text/x-scheme"},
    {"clj", KIND_TEXT, "text/x-clojure"},
    {"ex", KIND_TEXT, "text/x-elixir"},
    {"erl", KIND_TEXT, "text/x-erlang"},
    {"r", KIND_TEXT, "text/x-r"},
    {"jl", KIND_TEXT, "text/x-julia"},
    {"sh", KIND_TEXT, "text/x-shellscript"},
    {"bash", KIND_TEXT, "text/x-shellscript"},
    {"zsh", KIND_TEXT, "text/x-shellscript"},
    {"sql", KIND_TEXT, "text/x-sql"},
    {"s", KIND_TEXT, "text/x-asm"},
    {"asm", KIND_TEXT, "text/x-asm"},
    {"zig", KIND_TEXT, "text/x-zig"},
    {"v", KIND_TEXT, "text/x-verilog"},
    {"vhd", KIND_TEXT, "text/x-vhdl"},
    {"cmake", KIND_TEXT, "text/x-cmake"},
    {"mk", KIND_TEXT, "text/x-makefile"},
    {"css", KIND_TEXT, "text/css"},
    {"tex", KIND_TEXT, "text/x-tex"},
    {"rst", KIND_TEXT, "text/x-rst"},
    {"org", KIND_TEXT, "text/org"},
    {"csv", KIND_TEXT, "text/csv"},
    {"tsv", KIND_TEXT, "text/tab-separated-values"},
    {"json", KIND_TEXT, "application/json"},
    {"jsonl", KIND_TEXT, "application/jsonl"},
    {"ndjson", KIND_TEXT, "application/jsonl"},
    {"xml", KIND_TEXT, "text/xml"},
    {"yaml", KIND_TEXT, "application/yaml"},
    {"yml", KIND_TEXT, "application/yaml"},
    {"toml", KIND_TEXT, "application/toml"},
    {"ini", KIND_TEXT, "text/plain"},
    {"log", KIND_TEXT, "text/plain"},
    {"eml", KIND_TEXT, "message/rfc822"},
    {"diff", KIND_TEXT, "text/x-diff"},
    {"patch", KIND_TEXT, "text/x-diff"},
};

static const name_kind *find_name(const char *extension) {
    for (size_t i = 0; i < sizeof by_name / sizeof *by_name; i++)
        if (!strcmp(by_name[i].extension, extension)) return &by_name[i];
    return NULL;
}

static void is(sniffed *out, doc_kind kind, const char *media_type) {
    out->kind = kind;
    snprintf(out->media_type, sizeof out->media_type, "%s", media_type);
}

/* The bytes without byte order mark, white space, comments and an XML declaration in front. */
static void skip_preamble(const uint8_t **p, size_t *n) {
    const uint8_t *b = *p;
    size_t left = *n;
    if (left >= 3 && !memcmp(b, "\xEF\xBB\xBF", 3)) b += 3, left -= 3;
    for (;;) {
        while (left && (*b == ' ' || (*b >= '\t' && *b <= '\r'))) b++, left--;
        const char *close = NULL;
        if (left >= 4 && !memcmp(b, "<!--", 4)) close = "-->";
        if (left >= 5 && !memcmp(b, "<?xml", 5)) close = "?>";
        if (!close) break;
        const uint8_t *end = memmem(b, left, close, strlen(close));
        if (!end) break;
        end += strlen(close);
        left -= (size_t)(end - b);
        b = end;
    }
    *p = b;
    *n = left;
}

static bool starts(const uint8_t *b, size_t n, const char *word) {
    size_t k = strlen(word);
    return n >= k && strncasecmp((const char *)b, word, k) == 0;
}

/* UTF-16 files are looked at through their ASCII characters. */
static size_t narrow(char *to, size_t capacity, const uint8_t *b, size_t n) {
    size_t k = 0;
    for (size_t i = 0; i < n && k < capacity; i++)
        if (b[i]) to[k++] = (char)b[i];
    return k;
}

static bool is_html(const uint8_t *b, size_t n, const char *extension) {
    char text[4096];
    if (n >= 2 && ((b[0] == 0xFF && b[1] == 0xFE) || (b[0] == 0xFE && b[1] == 0xFF))) {
        n = narrow(text, sizeof text, b + 2, n - 2);
        b = (const uint8_t *)text;
    }
    skip_preamble(&b, &n);
    if (starts(b, n, "<!doctype html") || starts(b, n, "<html") || starts(b, n, "<head>") ||
        starts(b, n, "<body") || starts(b, n, "<title>"))
        return true;
    if (strcmp(extension, "html") && strcmp(extension, "htm") && strcmp(extension, "xhtml")) return false;
    for (size_t i = 0; i + 1 < n && i < LOOK_BYTES; i++)
        if (b[i] == '<' && (b[i + 1] == '!' || b[i + 1] == '/' || isalpha(b[i + 1]))) return true;
    return false;
}

/* A text without a telling name is Markdown when several lines have its marks. */
static bool is_markdown(const uint8_t *b, size_t n) {
    size_t marks = 0, lines = 0;
    if (n > LOOK_BYTES) n = LOOK_BYTES;
    for (size_t at = 0; at < n; lines++) {
        const uint8_t *end = memchr(b + at, '\n', n - at);
        size_t next = end ? (size_t)(end - b) : n, k = at;
        while (k < next && b[k] == '#') k++;
        if (k > at && k - at <= 6 && k + 1 < next && b[k] == ' ') marks++;
        if (next - at >= 3 && !memcmp(b + at, "```", 3)) marks++;
        if (memmem(b + at, next - at, "](http", 6)) marks++;
        at = next + 1;
    }
    return marks >= 3 && marks * 50 >= lines && !starts(b, n, "#!");
}

/* Says what a file of no use is called. */
static const char *ask_magic(const uint8_t *b, size_t n) {
    sniff_prepare();
    if (!database) return NULL;
    return magic_buffer(database, b, n < LOOK_BYTES ? n : LOOK_BYTES);
}

/* Formats that are text by their bytes and nothing to read. */
static const char *unreadable_text(const uint8_t *b, size_t n) {
    skip_preamble(&b, &n);
    if (starts(b, n, "%!PS")) return "application/postscript";
    if (starts(b, n, "<svg") || (starts(b, n, "<!DOCTYPE svg"))) return "image/svg+xml";
    return NULL;
}

void sniff(sniffed *out, const uint8_t *bytes, size_t n, const char *extension) {
    memset(out, 0, sizeof *out);
    if (sniff_is_pdf(bytes, n)) return is(out, KIND_PDF, "application/pdf");
    if (n >= 4 && (!memcmp(bytes, "PK\3\4", 4) || !memcmp(bytes, "PK\5\6", 4)))
        return is(out, KIND_ZIP, "application/zip");
    if (n >= 3 && !memcmp(bytes, "\x1F\x8B\x08", 3)) return is(out, KIND_GZIP, "application/gzip");
    if (charset_is_binary(bytes, n)) {
        /* An Office file with a password is an OLE container with a stream of this name, in UTF-16. */
        static const char sealed[] = "E\0n\0c\0r\0y\0p\0t\0e\0d\0P\0a\0c\0k\0a\0g\0e";
        if (n >= 8 && !memcmp(bytes, "\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", 8) &&
            memmem(bytes, n, sealed, sizeof sealed - 1))
            return is(out, KIND_BINARY, "encrypted Office document");
        const char *type = ask_magic(bytes, n);
        bool told = type && strncmp(type, "text/", 5) && strchr(type, '/');
        return is(out, KIND_BINARY, told ? type : "application/octet-stream");
    }
    const char *useless = unreadable_text(bytes, n);
    if (useless) return is(out, KIND_BINARY, useless);
    if (starts(bytes, n, "{\\rtf")) return is(out, KIND_RTF, "text/rtf");
    const name_kind *named = find_name(extension);
    if (named && named->kind == KIND_MARKDOWN) return is(out, KIND_MARKDOWN, named->media_type);
    if (is_html(bytes, n, extension)) return is(out, KIND_HTML, "text/html");
    if (named) return is(out, named->kind, named->media_type);
    if ((!extension[0] || !strcmp(extension, "txt")) && is_markdown(bytes, n))
        return is(out, KIND_MARKDOWN, "text/markdown");
    /* Every other text is read as it is. libmagic may know a better name for it, and may know a picture or a
     * program that is made of printable bytes. */
    const char *type = ask_magic(bytes, n);
    if (type && (!strncmp(type, "image/", 6) || !strncmp(type, "audio/", 6) || !strncmp(type, "video/", 6) ||
                 !strncmp(type, "font/", 5)))
        return is(out, KIND_BINARY, type);
    if (type && strncmp(type, "text/html", 9) && !strncmp(type, "text/", 5)) return is(out, KIND_TEXT, type);
    if (type && (!strcmp(type, "application/json") || !strcmp(type, "message/rfc822")))
        return is(out, KIND_TEXT, type);
    is(out, KIND_TEXT, "text/plain");
}
