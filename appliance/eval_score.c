/* eval_score.c - the arithmetic of eval_score.h. */
#include "appliance/eval_score.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}
static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}
static bool is_punctuation(char c) {
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
           (c >= '{' && c <= '~');
}
static bool is_article(const char *word, size_t n) {
    return (n == 1 && word[0] == 'a') || (n == 2 && !memcmp(word, "an", 2)) ||
           (n == 3 && !memcmp(word, "the", 3));
}

char *score_normalise(const char *text) {
    char *out = malloc(strlen(text) + 2);
    if (!out) return NULL;
    size_t n = 0, word = 0; /* out[word, n) is the word being read */
    for (const char *p = text;; p++) {
        if (*p && !is_space(*p)) {
            if (!is_punctuation(*p)) out[n++] = lower(*p);
            continue;
        }
        if (n > word && is_article(out + word, n - word)) n = word;
        if (n > word) {
            out[n++] = ' ';
            word = n;
        }
        if (!*p) break;
    }
    out[n ? n - 1 : 0] = 0;
    return out;
}

static int by_word(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Cuts s at its spaces: *n words, sorted, pointing into s. NULL when out of memory. */
static char **words_of(char *s, size_t *n) {
    char **list = malloc((strlen(s) / 2 + 1) * sizeof *list);
    *n = 0;
    if (!list) return NULL;
    for (char *p = s; *p;) {
        list[(*n)++] = p;
        char *space = strchr(p, ' ');
        if (!space) break;
        *space = 0;
        p = space + 1;
    }
    qsort(list, *n, sizeof *list, by_word);
    return list;
}

double score_f1(const char *got, const char *expected) {
    char *g = score_normalise(got), *e = score_normalise(expected);
    size_t ng = 0, ne = 0, same = 0;
    char **wg = g ? words_of(g, &ng) : NULL, **we = e ? words_of(e, &ne) : NULL;
    double f1 = -1;
    if (wg && we) {
        for (size_t i = 0, j = 0; i < ng && j < ne;) {
            int order = strcmp(wg[i], we[j]);
            same += order == 0;
            i += order <= 0;
            j += order >= 0;
        }
        f1 = ng + ne == 0 ? 1 : 2.0 * (double)same / (double)(ng + ne);
    }
    free(wg);
    free(we);
    free(g);
    free(e);
    return f1;
}

bool score_exact(const char *got, const char *expected) {
    char *g = score_normalise(got), *e = score_normalise(expected);
    bool equal = g && e && !strcmp(g, e);
    free(g);
    free(e);
    return equal;
}

bool score_contains(const char *got, const char *expected) {
    size_t n = strlen(expected);
    for (; *got; got++) {
        size_t i = 0;
        while (i < n && lower(got[i]) == lower(expected[i])) i++;
        if (i == n) return true;
    }
    return n == 0;
}

double score_similarity(const char *got, const char *expected) {
    enum { MOST = 400 };
    char *g = score_normalise(got), *e = score_normalise(expected);
    double similar = 0;
    if (g && e) {
        size_t ng = strlen(g), ne = strlen(e);
        if (ng > MOST) ng = MOST;
        if (ne > MOST) ne = MOST;
        int row[MOST + 1];
        for (size_t j = 0; j <= ne; j++) row[j] = (int)j;
        for (size_t i = 1; i <= ng; i++) {
            int corner = row[0];
            row[0] = (int)i;
            for (size_t j = 1; j <= ne; j++) {
                int change = corner + (g[i - 1] != e[j - 1]);
                corner = row[j];
                if (row[j] + 1 < change) change = row[j] + 1;
                if (row[j - 1] + 1 < change) change = row[j - 1] + 1;
                row[j] = change;
            }
        }
        size_t most = ng > ne ? ng : ne;
        similar = most ? 1 - (double)row[ne] / (double)most : 1;
    }
    free(g);
    free(e);
    return similar;
}

interval score_wilson(double mean, size_t n) {
    if (n == 0) return (interval){0, 1};
    const double z = 1.959963984540054;
    double m = (double)n, d = 1 + z * z / m, centre = (mean + z * z / (2 * m)) / d;
    double half = z / d * sqrt(fmax(mean * (1 - mean), 0) / m + z * z / (4 * m * m));
    return (interval){fmax(centre - half, 0), fmin(centre + half, 1)};
}
