#include "engine/tokenizer_internal.h"
#include "engine/tokenizer_utf8.h"

#include <stdlib.h>

static uint32_t child_of(const added_trie *t, uint32_t node, uint8_t byte) {
    uint32_t c = t->nodes[node].child;
    while (c && t->nodes[c].byte != byte) c = t->nodes[c].next;
    return c;
}

static int new_node(added_trie *t, uint8_t byte, uint32_t *out, ph_error *err) {
    if (t->n == t->capacity) {
        uint32_t capacity = t->capacity ? t->capacity * 2 : 64;
        struct trie_node *grown = realloc(t->nodes, capacity * sizeof *grown);
        if (!grown) return ph_fail(err, PH_MEMORY, "out of memory for %zu bytes", capacity * sizeof *grown);
        t->nodes = grown;
        t->capacity = capacity;
    }
    t->nodes[t->n] = (struct trie_node){.token = -1, .byte = byte};
    *out = t->n++;
    return 0;
}

int added_trie_add(added_trie *t, const char *s, size_t n, int32_t token, ph_error *err) {
    uint32_t node = 0;
    int code = t->n ? 0 : new_node(t, 0, &node, err); /* node 0 is the root */
    for (size_t i = 0; i < n && !code; i++) {
        uint32_t next = child_of(t, node, (uint8_t)s[i]);
        if (!next) {
            code = new_node(t, (uint8_t)s[i], &next, err);
            if (code) break;
            t->nodes[next].next = t->nodes[node].child;
            t->nodes[node].child = next;
        }
        node = next;
    }
    if (code) return code;
    t->nodes[node].token = token;
    t->first[(uint8_t)s[0]] = true;
    return 0;
}

/* Longest token that begins at `at`, -1 for none. */
static int32_t longest(const added_trie *t, const char *s, size_t len, size_t at, size_t *end) {
    int32_t token = -1;
    uint32_t node = 0;
    while (at < len && (node = child_of(t, node, (uint8_t)s[at]))) {
        at++;
        if (t->nodes[node].token < 0) continue;
        token = t->nodes[node].token;
        *end = at;
    }
    return token;
}

/* The character that ends before `at`, -1 where the text has none or is malformed there; *start is where it
 * begins. */
static int32_t character_before(const char *s, size_t at, size_t *start) {
    for (size_t n = 1; n <= 4 && n <= at; n++) {
        if (utf8_sequence(s + at - n, n) != n) continue;
        *start = at - n;
        return utf8_value(s + at - n, n);
    }
    return -1;
}

static int32_t character_after(const char *s, size_t len, size_t at, size_t *n) {
    *n = at < len ? utf8_sequence(s + at, len - at) : 0;
    return *n ? utf8_value(s + at, *n) : -1;
}

static bool stands_alone(const char *s, size_t len, size_t start, size_t end) {
    size_t unused;
    int32_t before = character_before(s, start, &unused), after = character_after(s, len, end, &unused);
    return (before < 0 || !unicode_word(before)) && (after < 0 || !unicode_word(after));
}

int32_t added_next(const tokenizer *t, const added_trie *trie, const char *text, size_t len, size_t *at,
                   size_t floor, size_t *start, size_t *end) {
    if (!trie->n) return -1;
    for (size_t i = *at; i < len; i++) {
        if (!trie->first[(uint8_t)text[i]]) continue;
        size_t stop = i;
        int32_t token = longest(trie, text, len, i, &stop);
        if (token < 0) continue;
        const added_token *a = &t->added[token];
        if (a->single_word && !stands_alone(text, len, i, stop)) {
            i = stop - 1; /* the library's search goes on after it, not inside it */
            continue;
        }
        *at = stop;
        *start = i;
        *end = stop;
        size_t n;
        if (a->lstrip)
            while (*start > floor && unicode_space(character_before(text, *start, &n)) && n >= floor)
                *start = n;
        if (a->rstrip)
            for (int32_t c; (c = character_after(text, len, *end, &n)) >= 0 && unicode_space(c);) *end += n;
        if (*at < *end) *at = *end;
        return token;
    }
    return -1;
}
