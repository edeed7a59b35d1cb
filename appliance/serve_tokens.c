/* serve_tokens.c - see serve_tokens.h. */
#include "appliance/serve_tokens.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { TOKENS = 256, SHORTEST = 16, LINE = 1024 };

typedef struct token {
    uint8_t hash[32];
    role role;
} token;

struct tokens {
    int n;
    token list[TOKENS];
};

static void hash_of(uint8_t out[32], const char *text, size_t n) {
    crypto_generichash(out, 32, (const unsigned char *)text, n, NULL, 0);
}

static int add_line(tokens *t, char *line, int number, ph_error *err) {
    role r = ROLE_MANAGE;
    char *at = line + strspn(line, " \t");
    at[strcspn(at, "\r\n")] = 0;
    if (!*at || *at == '#') return PH_OK;
    size_t word = strcspn(at, " \t");
    if (at[word]) {
        if (!strncmp(at, "ask", word) && word == 3)
            r = ROLE_ASK;
        else if (strncmp(at, "manage", word) || word != 6)
            return ph_fail(err, PH_USAGE, "line %d of the token file begins with no role (ask, manage)",
                           number);
        at += word + strspn(at + word, " \t");
        word = strcspn(at, " \t");
    }
    if (at[word + strspn(at + word, " \t")])
        return ph_fail(err, PH_USAGE, "line %d of the token file has more than a role and a token", number);
    if (word < SHORTEST)
        return ph_fail(err, PH_USAGE, "the token on line %d has %zu characters, and needs %d", number, word,
                       SHORTEST);
    if (t->n == TOKENS) return ph_fail(err, PH_TOO_LARGE, "more than %d tokens", TOKENS);
    hash_of(t->list[t->n].hash, at, word);
    t->list[t->n++].role = r;
    return PH_OK;
}

int tokens_load(tokens **out, const char *path, ph_error *err) {
    *out = NULL;
    char line[LINE];
    struct stat st;
    FILE *f = fopen(path, "re");
    if (!f) return ph_fail(err, PH_NOT_FOUND, "cannot open %s: %s", path, strerror(errno));
    tokens *t = calloc(1, sizeof *t);
    int code = t ? PH_OK : ph_fail(err, PH_MEMORY, "no memory for tokens");
    if (!code && !fstat(fileno(f), &st) && (st.st_mode & 077))
        code = ph_fail(err, PH_USAGE, "others may read %s: chmod 600 it", path);
    for (int n = 1; !code && fgets(line, sizeof line, f); n++) code = add_line(t, line, n, err);
    if (!code && t->n == 0) code = ph_fail(err, PH_USAGE, "%s has no token in it", path);
    sodium_memzero(line, sizeof line);
    fclose(f);
    if (code)
        free(t);
    else
        *out = t;
    return code;
}

void tokens_free(tokens *t) {
    free(t);
}

role tokens_role(const tokens *t, const char *header, int *number) {
    uint8_t hash[32];
    role found = ROLE_NONE;
    if (!header || strncasecmp(header, "Bearer ", 7) != 0) return ROLE_NONE;
    header += 7 + strspn(header + 7, " ");
    hash_of(hash, header, strlen(header));
    for (int i = 0; i < t->n; i++) {
        if (sodium_memcmp(hash, t->list[i].hash, sizeof hash) != 0) continue;
        found = t->list[i].role;
        *number = i + 1;
    }
    return found;
}
