/* tokenizer_internal.h - what the parts of the tokenizer share.
 *
 *   tokenizer.c            opening, closing, looking up; one encode call from text to stretches
 *   tokenizer_json.c       tokenizer.json to the structures below
 *   tokenizer_added.c      added tokens found in text
 *   tokenizer_normalise.c  normalisers
 *   tokenizer_pattern.c    a pattern of the file (Oniguruma's dialect) compiled with PCRE2
 *   tokenizer_split.c      pre-tokenizers: a stretch to pieces
 *   tokenizer_bpe.c        a piece to tokens
 *   tokenizer_map.c        the two hash tables
 */
#ifndef PHAROS_TOKENIZER_INTERNAL_H
#define PHAROS_TOKENIZER_INTERNAL_H

#define PCRE2_CODE_UNIT_WIDTH 8

#include "engine/tokenizer.h"

#include <jansson.h>
#include <pcre2.h>
#include <stdatomic.h>

enum {
    TOKENIZER_MAX_ID = (1 << 22) - 1,
    TOKENIZER_MAX_STEPS = 32,      /* normalisers, and pre-tokenizers, after Sequences are flattened */
    TOKENIZER_MAX_TOKEN = 1 << 16, /* bytes of one token, and of a pattern */
    /* Work on hostile text is bounded by cutting: a run of more whitespace than this is read as if the text
     * ended every so many bytes, and a longer piece (a "word") is merged in parts of this size. Text without
     * such runs is not affected. */
    TOKENIZER_MAX_RUN = 1 << 16,
};

/* Growing bytes. Zero-initialise. */
typedef struct byte_buffer {
    char *s;
    size_t n, capacity;
} byte_buffer;

int buffer_add(byte_buffer *b, const char *s, size_t n, ph_error *err);

/* ---- hash tables (tokenizer_map.c) ---- */

typedef struct token_text {
    uint32_t at, len; /* in the tokenizer's arena */
} token_text;

/* Byte strings to ids; the strings stand in an arena. */
typedef struct text_map {
    struct text_slot {
        uint32_t hash;
        int32_t id; /* -1: empty */
        token_text text;
    } * slots;
    size_t mask, n;
} text_map;

int text_map_init(text_map *m, size_t expected, ph_error *err);
/* -1 when absent. */
int32_t text_map_find(const text_map *m, const char *arena, const char *s, size_t n);
/* Keeps what is there when the text is already known. The table must have been made for so many. */
void text_map_put(text_map *m, const char *arena, token_text text, int32_t id);

typedef struct merge {
    uint32_t rank; /* UINT32_MAX: the pair does not merge */
    int32_t id;
} merge;

typedef struct merge_map {
    struct merge_slot {
        int32_t left, right; /* left -1: empty */
        merge to;
    } * slots;
    size_t mask;
} merge_map;

int merge_map_init(merge_map *m, size_t expected, ph_error *err);
void merge_map_put(merge_map *m, int32_t left, int32_t right, merge to); /* the last one put wins */

static inline size_t merge_hash(int32_t left, int32_t right) {
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    key *= 0x9E3779B97F4A7C15u;
    return (size_t)(key ^ key >> 32);
}

static inline merge merge_map_find(const merge_map *m, int32_t left, int32_t right) {
    for (size_t i = merge_hash(left, right) & m->mask;; i = (i + 1) & m->mask) {
        const struct merge_slot *s = &m->slots[i];
        if (s->left == left && s->right == right) return s->to;
        if (s->left < 0) return (merge){UINT32_MAX, -1};
    }
}

/* ---- added tokens ---- */

typedef struct added_token {
    token_text content;    /* as the file spells it */
    token_text normalised; /* what is looked for, when `normalised_text` */
    int32_t id;
    bool special, normalised_text, lstrip, rstrip, single_word;
} added_token;

/* A byte trie over the contents of added tokens: children of a node form a list. */
typedef struct added_trie {
    struct trie_node {
        uint32_t child, next; /* 0: none */
        int32_t token;        /* index of the added token that ends here, -1 */
        uint8_t byte;
    } * nodes;
    uint32_t n, capacity;
    bool first[256];
} added_trie;

int added_trie_add(added_trie *t, const char *s, size_t n, int32_t token, ph_error *err);

/* ---- steps ---- */

typedef enum normaliser_kind {
    NORMALISE_NFC,
    NORMALISE_NFD,
    NORMALISE_NFKC,
    NORMALISE_NFKD,
    NORMALISE_LOWERCASE,
    NORMALISE_STRIP_ACCENTS,
    NORMALISE_REPLACE,
    NORMALISE_PREPEND,
    NORMALISE_STRIP,
} normaliser_kind;

typedef struct pattern {
    pcre2_code *code; /* NULL: the literal below */
    bool jit;
    char *literal;
    size_t literal_len;
} pattern;

typedef struct normaliser {
    normaliser_kind kind;
    pattern find;  /* REPLACE */
    char *content; /* REPLACE, PREPEND */
    size_t content_len;
    bool left, right; /* STRIP */
} normaliser;

typedef enum split_behaviour {
    SPLIT_ISOLATED,
    SPLIT_REMOVED,
    SPLIT_CONTIGUOUS,
    SPLIT_WITH_PREVIOUS,
    SPLIT_WITH_NEXT,
} split_behaviour;

typedef enum splitter_kind {
    SPLITTER_PATTERN,
    SPLITTER_DIGITS,
    SPLITTER_PREFIX_SPACE, /* of ByteLevel: a piece that does not begin with a space gets one */
} splitter_kind;

typedef struct splitter {
    splitter_kind kind;
    pattern find;
    split_behaviour behaviour;
    bool invert;
} splitter;

struct tokenizer {
    char *arena; /* every token's bytes */
    size_t arena_n, arena_capacity;
    token_text *pieces; /* [vocab] */
    int vocab;
    uint8_t *special; /* [vocab] */
    atomic_uchar
        *whole; /* [vocab] whether merging a token's bytes gives the token: 0 not known yet, 1 yes, 2 no */
    text_map words; /* bytes of a byte-level token to its id */
    text_map
        names; /* added tokens, and vocabulary entries that are not byte-level, as the file spells them */
    merge_map merges;
    bool ignore_merges;
    bool shown_differs;    /* a Replace decoder changes how tokens read */
    int32_t byte_ids[256]; /* -1 only for bytes that no UTF-8 text has */
    added_token *added;
    size_t n_added;
    added_trie raw, normalised;
    normaliser normalisers[TOKENIZER_MAX_STEPS];
    int n_normalisers;
    splitter splitters[TOKENIZER_MAX_STEPS];
    int n_splitters;
    uint8_t hash[32];
};

int tokenizer_read_json(tokenizer *t, const json_t *root, ph_error *err);

/* ---- patterns ---- */

/* Compiles a pattern in the dialect the tokenizers library uses. What PCRE2 would read differently is
 * translated or refused by name (PH_MODEL). */
int pattern_compile(pattern *out, const char *source, size_t len, ph_error *err);
void pattern_free(pattern *p);

/* One walk over the matches of a pattern in a subject. */
typedef struct finder {
    const char *text;
    size_t len, at;
    size_t last_end; /* SIZE_MAX before the first match */
} finder;

/* ---- one encode call ---- */

/* Valid UTF-8 that is normalised already. */
typedef struct stretch {
    const char *text;
    size_t len;
    const uint64_t *origin; /* where each byte came from in the call's input; NULL: `base` + its position */
    uint64_t base;
} stretch;

typedef struct merge_node merge_node;
typedef struct merge_candidate merge_candidate;

typedef struct encoder {
    const tokenizer *t;
    token_list *out;
    bool offsets;
    uint64_t offset_base;
    ph_error *err;
    const stretch *now;
    size_t piece_at;  /* where the piece that is being merged begins in the stretch */
    bool prefix;      /* a space was put into the stretch */
    size_t prefix_at; /* here, so that positions after it are one too far */
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
    merge_node *nodes; /* scratch of long pieces */
    merge_candidate *heap;
    byte_buffer prefixed;
} encoder;

int encoder_start(encoder *e, const tokenizer *t, ph_error *err);
void encoder_end(encoder *e);

/* 1: found, *start and *end filled; 0: no more; otherwise minus the error's code. A match that takes too much
 * work is no error: see TOKENIZER_MAX_RUN. */
int pattern_next(encoder *e, const pattern *p, finder *f, size_t *start, size_t *end);

/* Pieces of text at `at` in the current stretch, then their tokens. */
int split_stretch(encoder *e, const stretch *s);
int bpe_piece(encoder *e, const char *s, size_t n, size_t at);

/* What the token at byte `at` of the current stretch came from. */
static inline uint64_t encoder_origin(const encoder *e, size_t at) {
    const stretch *s = e->now;
    return e->offset_base + (s->origin ? s->origin[at < s->len ? at : s->len - 1] : s->base + at);
}

/* Normalises text (valid UTF-8) that begins at `base` of the input. out->s stays NULL where nothing changes.
 * *origin is filled when asked for (not NULL) and something changes: one entry a byte. */
int normalise(encoder *e, const char *text, size_t len, uint64_t base, byte_buffer *out, uint64_t **origin);

/* The next added token in text at or after *at, leftmost and longest: index into added, -1 for none. *start
 * and *end cover the whitespace the token strips; *at moves past it. `floor`: nothing before it may be taken.
 */
int32_t added_next(const tokenizer *t, const added_trie *trie, const char *text, size_t len, size_t *at,
                   size_t floor, size_t *start, size_t *end);

#endif
