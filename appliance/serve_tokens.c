/* serve_tokens.c - see serve_tokens.h. */
#include "appliance/serve_tokens.h"

#include <errno.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { TOKENS = 256, SHORTEST = 16, LINE = 1024, LONGEST = 1024 };

typedef struct token {
    uint8_t hash[32];
    role role;
} token;

struct tokens {
    atomic_bool needed; /* once true, true for the life of the server */
    int n;
    token list[TOKENS]; /* of the file */
};

static int add_line(tokens *t, store *s, char *line, int number, ph_error *err) {
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
    int code = store_token_hash(s, at, word, t->list[t->n].hash, err);
    if (!code) t->list[t->n++].role = r;
    return code;
}

static int read_file(tokens *t, const char *path, store *s, ph_error *err) {
    char line[LINE];
    struct stat st;
    FILE *f = fopen(path, "re");
    if (!f) return ph_fail(err, PH_NOT_FOUND, "cannot open %s: %s", path, strerror(errno));
    int code = PH_OK;
    if (!fstat(fileno(f), &st) && (st.st_mode & 077))
        code = ph_fail(err, PH_USAGE, "others may read %s: chmod 600 it", path);
    for (int n = 1; !code && fgets(line, sizeof line, f); n++) code = add_line(t, s, line, n, err);
    if (!code && t->n == 0) code = ph_fail(err, PH_USAGE, "%s has no token in it", path);
    sodium_memzero(line, sizeof line);
    fclose(f);
    return code;
}

int tokens_open(tokens **out, const char *path, store *s, ph_error *err) {
    bool needed;
    *out = NULL;
    tokens *t = calloc(1, sizeof *t);
    int code = t ? PH_OK : ph_fail(err, PH_MEMORY, "no memory for tokens");
    if (!code && path) code = read_file(t, path, s, err);
    if (!code) code = tokens_needed(t, s, &needed, err);
    if (code)
        free(t);
    else
        *out = t;
    return code;
}

void tokens_free(tokens *t) {
    free(t);
}

int tokens_needed(tokens *t, store *s, bool *needed, ph_error *err) {
    int64_t n = 0;
    *needed = true;
    if (t->needed) return PH_OK;
    int code = t->n ? PH_OK : store_token_count(s, &n, err);
    if (code) return code;
    *needed = t->n || n;
    if (*needed) t->needed = true;
    return PH_OK;
}

int tokens_role(const tokens *t, store *s, const char *header, role *out, uint8_t owner[32], ph_error *err) {
    store_token known = {0};
    *out = ROLE_NONE;
    memset(owner, 0, 32);
    if (!header || strncasecmp(header, "Bearer ", 7) != 0) return PH_OK;
    header += 7 + strspn(header + 7, " ");
    size_t n = strnlen(header, LONGEST + 1);
    if (n == 0 || n > LONGEST) return PH_OK;
    uint8_t hash[32];
    int code = store_token_hash(s, header, n, hash, err);
    if (code) return code;
    for (int i = 0; i < t->n; i++)
        if (!sodium_memcmp(hash, t->list[i].hash, sizeof hash)) *out = t->list[i].role;
    if (*out == ROLE_NONE) {
        code = store_token_find(s, hash, &known, err);
        if (code == PH_NOT_FOUND) return PH_OK;
        if (code) return code;
        *out = known.role == STORE_MANAGE ? ROLE_MANAGE : ROLE_ASK;
        free(known.name);
    }
    memcpy(owner, hash, sizeof hash);
    return PH_OK;
}
