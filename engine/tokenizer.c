#include "engine/read_file.h"
#include "engine/tokenizer_internal.h"
#include "engine/tokenizer_utf8.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE = 256 << 20 };

/* ---- token lists ---- */

static int list_room(token_list *l, bool offsets, ph_error *err) {
    if (l->n < l->capacity && (!offsets || l->start)) return 0;
    size_t capacity = l->n < l->capacity ? l->capacity : l->capacity ? l->capacity * 2 : 64;
    if (capacity > SIZE_MAX / sizeof *l->start)
        return ph_fail(err, PH_MEMORY, "out of memory for %zu tokens", capacity);
    int32_t *ids = realloc(l->ids, capacity * sizeof *ids);
    if (ids) l->ids = ids;
    if (!ids) return ph_fail(err, PH_MEMORY, "out of memory for %zu tokens", capacity);
    if (offsets || l->start) {
        bool fresh = !l->start;
        uint64_t *start = realloc(l->start, capacity * sizeof *start);
        if (!start) return ph_fail(err, PH_MEMORY, "out of memory for %zu tokens", capacity);
        l->start = start;
        if (fresh) memset(start, 0, l->n * sizeof *start); /* tokens that were pushed without one */
    }
    l->capacity = capacity;
    return 0;
}

int token_list_push(token_list *l, int32_t id, uint64_t start, bool offsets, ph_error *err) {
    int code = list_room(l, offsets, err);
    if (code) return code;
    l->ids[l->n] = id;
    if (l->start) l->start[l->n] = start;
    l->n++;
    return 0;
}

void token_list_free(token_list *l) {
    free(l->ids);
    free(l->start);
    *l = (token_list){0};
}

/* ---- opening ---- */

/* Added tokens go into one of two tries: what is looked for in the text as it is, and in the normalised text.
 */
static int index_added(tokenizer *t, ph_error *err) {
    encoder e;
    int code = encoder_start(&e, t, err);
    for (size_t i = 0; i < t->n_added && !code; i++) {
        added_token *a = &t->added[i];
        const char *text = t->arena + a->content.at;
        if (!a->normalised_text || !t->n_normalisers) {
            code = added_trie_add(&t->raw, text, a->content.len, (int32_t)i, err);
            continue;
        }
        byte_buffer normal;
        code = normalise(&e, text, a->content.len, 0, &normal, NULL);
        if (!code && !normal.s)
            code = added_trie_add(&t->normalised, text, a->content.len, (int32_t)i, err);
        else if (!code && normal.n)
            code = added_trie_add(&t->normalised, normal.s, normal.n, (int32_t)i, err);
        free(normal.s);
    }
    encoder_end(&e);
    return code;
}

static int open_checked(tokenizer *t, const char *json, size_t len, ph_error *err) {
    if (len > MAX_FILE) return ph_fail(err, PH_MODEL, "%zu bytes are more than %d", len, MAX_FILE);
    if (sodium_init() < 0) return ph_fail(err, PH_FAIL, "libsodium does not start");
    crypto_generichash(t->hash, sizeof t->hash, (const unsigned char *)json, len, NULL, 0);
    json_t *root;
    int code = read_file_json(&root, json, len, err);
    if (code) return code;
    code = tokenizer_read_json(t, root, err);
    json_decref(root);
    return code ? code : index_added(t, err);
}

int tokenizer_open(tokenizer **out, const char *json, size_t len, ph_error *err) {
    *out = NULL;
    tokenizer *t = calloc(1, sizeof *t);
    if (!t) return ph_fail(err, PH_MEMORY, "out of memory for a tokenizer");
    int code = open_checked(t, json, len, err);
    if (code) {
        ph_context(err, "tokenizer.json");
        tokenizer_close(t);
        return code;
    }
    *out = t;
    return 0;
}

int tokenizer_load(tokenizer **out, const char *dir, ph_error *err) {
    char path[4096];
    char *text;
    size_t len;
    *out = NULL;
    int code = read_file_path(path, sizeof path, dir, "tokenizer.json", err);
    if (code) return code;
    code = read_file_text(&text, &len, path, MAX_FILE, err);
    if (code == PH_NOT_FOUND)
        return ph_fail(err, PH_MODEL, "%s is no model folder: it has no tokenizer.json", dir);
    if (code) return code;
    code = tokenizer_open(out, text, len, err);
    free(text);
    if (code) ph_context(err, "%s", dir);
    return code;
}

void tokenizer_close(tokenizer *t) {
    if (!t) return;
    for (int i = 0; i < t->n_normalisers; i++) {
        pattern_free(&t->normalisers[i].find);
        free(t->normalisers[i].content);
    }
    for (int i = 0; i < t->n_splitters; i++) pattern_free(&t->splitters[i].find);
    free(t->raw.nodes);
    free(t->normalised.nodes);
    free(t->added);
    free(t->merges.slots);
    free(t->names.slots);
    free(t->words.slots);
    free(t->whole);
    free(t->special);
    free(t->pieces);
    free(t->arena);
    free(t);
}

/* ---- encoding ---- */

/* Normalised text (or text that needs no normalising): added tokens that are looked for here, and what is
 * between. */
static int encode_normalised(encoder *e, const stretch *s, int flags) {
    const tokenizer *t = e->t;
    size_t at = 0, done = 0, start, end;
    stretch gap = *s;
    for (;;) {
        int32_t token = flags & TOKENIZE_SPECIAL
                            ? added_next(t, &t->normalised, s->text, s->len, &at, done, &start, &end)
                            : -1;
        size_t stop = token < 0 ? s->len : start;
        gap.text = s->text + done;
        gap.len = stop - done;
        gap.origin = s->origin ? s->origin + done : NULL;
        gap.base = s->base + done;
        int code = gap.len ? split_stretch(e, &gap) : 0;
        if (code || token < 0) return code;
        e->now = s;
        code = token_list_push(e->out, t->added[token].id, encoder_origin(e, start), e->offsets, e->err);
        if (code) return code;
        done = end;
    }
}

static int encode_valid(encoder *e, const char *text, size_t len, uint64_t base, int flags) {
    byte_buffer normal;
    uint64_t *origin = NULL;
    int code = normalise(e, text, len, base, &normal, e->offsets ? &origin : NULL);
    if (code) return code;
    stretch s = {.text = text, .len = len, .base = base};
    if (normal.s) s = (stretch){.text = normal.s, .len = normal.n, .origin = origin, .base = base};
    if (s.len) code = encode_normalised(e, &s, flags);
    free(normal.s);
    free(origin);
    return code;
}

/* A byte that is no UTF-8. Where the vocabulary has no token for it, as it may for those that no text
 * contains, it becomes U+FFFD. */
static int encode_bad_byte(encoder *e, uint8_t byte, uint64_t at) {
    int32_t id = e->t->byte_ids[byte];
    if (id >= 0) return token_list_push(e->out, id, e->offset_base + at, e->offsets, e->err);
    stretch s = {.text = "\xEF\xBF\xBD", .len = 3, .base = at};
    e->now = &s;
    size_t first = e->out->n;
    int code = bpe_piece(e, s.text, s.len, 0);
    for (size_t i = first; e->offsets && i < e->out->n; i++) e->out->start[i] = e->offset_base + at;
    return code;
}

/* Text without raw added tokens: stretches of UTF-8 and bytes that are none. */
static int encode_gap(encoder *e, const char *text, size_t len, uint64_t base, int flags) {
    size_t from = 0, i = 0;
    while (i < len) {
        uint64_t eight;
        while (len - i >= 8 && (memcpy(&eight, text + i, 8), !(eight & 0x8080808080808080u))) i += 8;
        if (i == len) break;
        size_t n = utf8_sequence(text + i, len - i);
        if (n) {
            i += n;
            continue;
        }
        int code = i > from ? encode_valid(e, text + from, i - from, base + from, flags) : 0;
        if (!code) code = encode_bad_byte(e, (uint8_t)text[i], base + i);
        if (code) return code;
        from = ++i;
    }
    return len > from ? encode_valid(e, text + from, len - from, base + from, flags) : 0;
}

static int encode_text(encoder *e, const char *text, size_t len, int flags) {
    const tokenizer *t = e->t;
    size_t at = 0, done = 0, start, end;
    for (;;) {
        int32_t token =
            flags & TOKENIZE_SPECIAL ? added_next(t, &t->raw, text, len, &at, done, &start, &end) : -1;
        size_t stop = token < 0 ? len : start;
        int code = stop > done ? encode_gap(e, text + done, stop - done, done, flags) : 0;
        if (code || token < 0) return code;
        code = token_list_push(e->out, t->added[token].id, e->offset_base + start, e->offsets, e->err);
        if (code) return code;
        done = end;
    }
}

int tokenizer_encode(const tokenizer *t, const char *text, size_t len, int flags, uint64_t offset_base,
                     token_list *l, ph_error *err) {
    if (!len) return 0;
    encoder e;
    int code = encoder_start(&e, t, err);
    e.out = l;
    e.offsets = flags & TOKENIZE_OFFSETS;
    e.offset_base = offset_base;
    size_t before = l->n;
    if (!code) code = encode_text(&e, text, len, flags);
    if (code) l->n = before; /* all of the text or nothing */
    encoder_end(&e);
    return code;
}

/* ---- looking up ---- */

int tokenizer_vocab(const tokenizer *t) {
    return t->vocab;
}

const uint8_t *tokenizer_hash(const tokenizer *t) {
    return t->hash;
}

bool tokenizer_is_special(const tokenizer *t, int32_t id) {
    return id >= 0 && id < t->vocab && t->special[id];
}

const char *tokenizer_piece(const tokenizer *t, int32_t id, size_t *len) {
    *len = 0;
    if (id < 0 || id >= t->vocab || t->pieces[id].at == UINT32_MAX) return "";
    *len = t->pieces[id].len;
    return t->arena + t->pieces[id].at;
}
