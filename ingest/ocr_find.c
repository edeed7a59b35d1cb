/* ocr_find.c - whether tesseract and its languages are installed (ingest.h). Looks at files only. */
#include "ingest/ingest.h"

#include <ctype.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROGRAM "/usr/bin/tesseract"

/* Debian's place has the data's version in it. */
static const char *const places[] = {"/usr/share/tesseract-ocr/*/tessdata/",
                                     "/usr/share/tesseract-ocr/tessdata/", "/usr/share/tessdata/"};

/* Appends the languages at one place; names that no option of ours could hold are left out. */
static void list(char *out, size_t size, const char *place) {
    char pattern[128];
    glob_t found = {0};
    snprintf(pattern, sizeof pattern, "%s*.traineddata", place);
    if (glob(pattern, 0, NULL, &found)) return;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        char name[INGEST_OCR_LANGUAGE_BYTES + 1];
        const char *base = strrchr(found.gl_pathv[i], '/') + 1;
        size_t n = strcspn(base, "."), have = strlen(out);
        if (n >= sizeof name || have + n + 2 > size) continue;
        memcpy(name, base, n);
        name[n] = 0;
        /* osd finds a page's orientation and equ its formulas: neither is a language. */
        if (!strcmp(name, "osd") || !strcmp(name, "equ") || !ingest_ocr_language_is_valid(name)) continue;
        snprintf(out + have, size - have, "%s%s", have ? " " : "", name);
    }
    globfree(&found);
}

bool ingest_ocr_languages(char out[INGEST_OCR_LIST_BYTES]) {
    out[0] = 0;
    if (access(PROGRAM, X_OK)) return false;
    for (size_t i = 0; i < sizeof places / sizeof *places && !out[0]; i++)
        list(out, INGEST_OCR_LIST_BYTES, places[i]);
    return true;
}

bool ingest_ocr_language_is_valid(const char *languages) {
    size_t n = strlen(languages);
    if (n == 0 || n >= INGEST_OCR_LANGUAGE_BYTES) return false;
    for (size_t i = 0; i < n; i++) {
        bool letter = isalnum((unsigned char)languages[i]) || languages[i] == '_';
        bool plus = languages[i] == '+' && i > 0 && i + 1 < n && languages[i - 1] != '+';
        if (!letter && !plus) return false;
    }
    return true;
}

static bool has(const char *list, const char *name, size_t n) {
    for (const char *at = list; (at = strstr(at, name)) != NULL; at += n)
        if ((at == list || at[-1] == ' ') && (at[n] == ' ' || at[n] == 0)) return true;
    return false;
}

int ingest_ocr_check(const char *languages, ph_error *err) {
    char there[INGEST_OCR_LIST_BYTES], name[INGEST_OCR_LANGUAGE_BYTES], package[INGEST_OCR_LANGUAGE_BYTES];
    if (!languages) languages = INGEST_OCR_LANGUAGE;
    if (!ingest_ocr_language_is_valid(languages))
        return ph_fail(err, PH_USAGE, "\"%.80s\" names no languages of OCR: they are like eng or eng+deu",
                       languages);
    if (!ingest_ocr_languages(there))
        return ph_fail(err, PH_UNSUPPORTED,
                       "OCR needs tesseract (Debian: tesseract-ocr), which is not installed");
    if (access("/usr/bin/pdftoppm", X_OK))
        return ph_fail(err, PH_UNSUPPORTED,
                       "OCR needs pdftoppm (Debian: poppler-utils), which is not installed");
    for (const char *at = languages; *at;) {
        size_t n = strcspn(at, "+");
        memcpy(name, at, n);
        name[n] = 0;
        at += n + (at[n] == '+');
        if (has(there, name, n)) continue;
        for (size_t i = 0; i <= n; i++)
            package[i] = name[i] == '_' ? '-' : (char)tolower((unsigned char)name[i]);
        return ph_fail(err, PH_UNSUPPORTED,
                       "OCR of %s needs a language file (Debian: tesseract-ocr-%s) that is not installed",
                       name, package);
    }
    return PH_OK;
}
