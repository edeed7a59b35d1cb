#include "engine/tokenizer_internal.h"
#include "engine/tokenizer_utf8.h"

#include <stdlib.h>
#include <string.h>

/* ---- the byte-level alphabet ---- */

/* GPT-2 spells a byte as the character of the same number where that is printable, and numbers the others
 * from U+0100 in order. */
static bool printable(int byte) {
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
}

typedef struct alphabet {
    int16_t byte[512]; /* character to byte, -1 for none */
} alphabet;

static void alphabet_fill(alphabet *a) {
    memset(a->byte, 0xFF, sizeof a->byte);
    int next = 256;
    for (int b = 0; b < 256; b++) a->byte[printable(b) ? b : next++] = (int16_t)b;
}

/* Bytes that a token spells, into out (at least len bytes). False: some character is not of the alphabet. */
static bool spelt_bytes(const alphabet *a, const char *s, size_t len, char *out, size_t *n) {
    *n = 0;
    for (size_t i = 0, step; i < len; i += step) {
        step = utf8_sequence(s + i, len - i);
        int32_t c = step ? utf8_value(s + i, step) : -1;
        if (c < 0 || c >= 512 || a->byte[c] < 0) return false;
        out[(*n)++] = (char)a->byte[c];
    }
    return true;
}

/* ---- reading ---- */

enum { MAX_REPLACES = 8 };

typedef struct source {
    tokenizer *t;
    ph_error *err;
    alphabet alphabet;
    byte_buffer scratch;
    /* Replace decoders in front of ByteLevel: they change how a token is shown, not how it is found. */
    const char *find[MAX_REPLACES], *content[MAX_REPLACES];
    int n_replaces;
} source;

static const char *text_of(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
}

static bool is_true(const json_t *object, const char *key) {
    return json_is_true(json_object_get(object, key));
}

static bool present(const json_t *v) {
    return v && !json_is_null(v);
}

static int arena_add(source *s, const char *bytes, size_t n, token_text *out) {
    tokenizer *t = s->t;
    if (n > TOKENIZER_MAX_TOKEN)
        return ph_fail(s->err, PH_MODEL, "a token of %zu bytes is longer than %d", n, TOKENIZER_MAX_TOKEN);
    if (t->arena_n + n > UINT32_MAX) return ph_fail(s->err, PH_MODEL, "the vocabulary is larger than 4 GiB");
    byte_buffer b = {t->arena, t->arena_n, t->arena_capacity};
    *out = (token_text){(uint32_t)t->arena_n, (uint32_t)n};
    int code = buffer_add(&b, bytes, n, s->err);
    t->arena = b.s;
    t->arena_n = b.n;
    t->arena_capacity = b.capacity;
    return code;
}

static int read_id(source *s, const json_t *v, const char *token, int32_t *out) {
    *out = -1;
    json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;
    if (id < 0 || id > TOKENIZER_MAX_ID)
        return ph_fail(s->err, PH_MODEL, "token \"%.60s\" has no id between 0 and %d", token,
                       TOKENIZER_MAX_ID);
    *out = (int32_t)id;
    return 0;
}

/* A pattern object: {"Regex": ...} or {"String": ...}. */
static int read_pattern(source *s, const json_t *v, pattern *out) {
    const json_t *regex = json_object_get(v, "Regex"), *literal = json_object_get(v, "String");
    const json_t *use = regex ? regex : literal;
    if (!json_is_string(use) || !json_string_length(use) || json_string_length(use) > TOKENIZER_MAX_TOKEN)
        return ph_fail(s->err, PH_MODEL,
                       "a pattern is neither a Regex nor a String, or is empty or too long");
    if (regex) return pattern_compile(out, json_string_value(use), json_string_length(use), s->err);
    out->literal = strdup(json_string_value(use));
    out->literal_len = json_string_length(use);
    return out->literal ? 0 : ph_fail(s->err, PH_MEMORY, "out of memory for a pattern");
}

/* ---- normalisers ---- */

static const struct {
    const char *name;
    normaliser_kind kind;
} normaliser_names[] = {
    {"NFC", NORMALISE_NFC},
    {"NFD", NORMALISE_NFD},
    {"NFKC", NORMALISE_NFKC},
    {"NFKD", NORMALISE_NFKD},
    {"Lowercase", NORMALISE_LOWERCASE},
    {"StripAccents", NORMALISE_STRIP_ACCENTS},
    {"Replace", NORMALISE_REPLACE},
    {"Prepend", NORMALISE_PREPEND},
    {"Strip", NORMALISE_STRIP},
};

static int read_content(source *s, normaliser *n, const char *content) {
    if (!content || strlen(content) > TOKENIZER_MAX_TOKEN)
        return ph_fail(s->err, PH_MODEL, "a normaliser has no content, or one that is too long");
    n->content = strdup(content);
    n->content_len = strlen(content);
    return n->content ? 0 : ph_fail(s->err, PH_MEMORY, "out of memory for a normaliser");
}

static int read_normaliser(source *s, const json_t *v) {
    if (!present(v)) return 0;
    const char *type = text_of(v, "type");
    if (type && !strcmp(type, "Sequence")) {
        size_t i;
        json_t *item;
        int code = 0;
        json_array_foreach(json_object_get(v, "normalizers"), i, item) {
            code = read_normaliser(s, item);
            if (code) break;
        }
        return code;
    }
    for (size_t i = 0; i < sizeof normaliser_names / sizeof *normaliser_names; i++) {
        if (!type || strcmp(type, normaliser_names[i].name)) continue;
        if (s->t->n_normalisers == TOKENIZER_MAX_STEPS)
            return ph_fail(s->err, PH_MODEL, "more than %d normalisers", TOKENIZER_MAX_STEPS);
        normaliser *n = &s->t->normalisers[s->t->n_normalisers++];
        n->kind = normaliser_names[i].kind;
        n->left = is_true(v, "strip_left");
        n->right = is_true(v, "strip_right");
        if (n->kind == NORMALISE_PREPEND) return read_content(s, n, text_of(v, "prepend"));
        if (n->kind != NORMALISE_REPLACE) return 0;
        int code = read_pattern(s, json_object_get(v, "pattern"), &n->find);
        return code ? code : read_content(s, n, text_of(v, "content"));
    }
    return ph_fail(s->err, PH_MODEL, "normaliser \"%.60s\" is not supported", type ? type : "");
}

/* ---- pre-tokenizers ---- */

static int new_splitter(source *s, splitter_kind kind, splitter **out) {
    *out = NULL;
    if (s->t->n_splitters == TOKENIZER_MAX_STEPS)
        return ph_fail(s->err, PH_MODEL, "more than %d pre-tokenizers", TOKENIZER_MAX_STEPS);
    *out = &s->t->splitters[s->t->n_splitters++];
    (*out)->kind = kind;
    return 0;
}

static int read_split(source *s, const json_t *v) {
    static const char *const behaviours[] = {
        [SPLIT_ISOLATED] = "Isolated",        [SPLIT_REMOVED] = "Removed",
        [SPLIT_CONTIGUOUS] = "Contiguous",    [SPLIT_WITH_PREVIOUS] = "MergedWithPrevious",
        [SPLIT_WITH_NEXT] = "MergedWithNext",
    };
    splitter *split;
    int code = new_splitter(s, SPLITTER_PATTERN, &split);
    if (code) return code;
    const char *behaviour = text_of(v, "behavior");
    split->invert = is_true(v, "invert");
    for (size_t i = 0; i < sizeof behaviours / sizeof *behaviours; i++) {
        if (!behaviour || strcmp(behaviour, behaviours[i])) continue;
        split->behaviour = (split_behaviour)i;
        return read_pattern(s, json_object_get(v, "pattern"), &split->find);
    }
    return ph_fail(s->err, PH_MODEL, "split behaviour \"%.60s\" is not supported",
                   behaviour ? behaviour : "");
}

static int read_byte_level(source *s, const json_t *v, bool *found) {
    static const char gpt2[] =
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
    splitter *split;
    *found = true;
    int code = 0;
    if (is_true(v, "add_prefix_space")) code = new_splitter(s, SPLITTER_PREFIX_SPACE, &split);
    const json_t *use_regex = json_object_get(v, "use_regex");
    if (code || (use_regex && !json_is_true(use_regex))) return code;
    code = new_splitter(s, SPLITTER_PATTERN, &split);
    return code ? code : pattern_compile(&split->find, gpt2, sizeof gpt2 - 1, s->err);
}

/* After ByteLevel the library goes on with the byte alphabet's characters; we stay with bytes, so it must be
 * last. */
static int read_pre_tokenizer(source *s, const json_t *v, bool *byte_level) {
    const char *type = text_of(v, "type");
    if (type && !strcmp(type, "Sequence")) {
        size_t i;
        json_t *item;
        int code = 0;
        json_array_foreach(json_object_get(v, "pretokenizers"), i, item) {
            code = read_pre_tokenizer(s, item, byte_level);
            if (code) break;
        }
        return code;
    }
    if (*byte_level) return ph_fail(s->err, PH_MODEL, "a pre-tokenizer after ByteLevel is not supported");
    if (type && !strcmp(type, "Split")) return read_split(s, v);
    if (type && !strcmp(type, "ByteLevel")) return read_byte_level(s, v, byte_level);
    if (type && !strcmp(type, "Digits")) {
        splitter *split;
        int code = new_splitter(s, SPLITTER_DIGITS, &split);
        if (!code) split->behaviour = is_true(v, "individual_digits") ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS;
        return code;
    }
    return ph_fail(s->err, PH_MODEL, "pre-tokenizer \"%.60s\" is not supported", type ? type : "");
}

/* ---- decoders ---- */

static int read_decoder(source *s, const json_t *v, bool *byte_level) {
    if (!present(v)) return 0;
    const char *type = text_of(v, "type");
    if (type && !strcmp(type, "Sequence")) {
        size_t i;
        json_t *item;
        int code = 0;
        json_array_foreach(json_object_get(v, "decoders"), i, item) {
            code = read_decoder(s, item, byte_level);
            if (code) break;
        }
        return code;
    }
    if (type && !strcmp(type, "ByteLevel")) {
        *byte_level = true;
        return 0;
    }
    if (type && !strcmp(type, "Fuse")) return 0;
    if (!type || strcmp(type, "Replace"))
        return ph_fail(s->err, PH_MODEL, "decoder \"%.60s\" is not supported", type ? type : "");
    const char *find = text_of(json_object_get(v, "pattern"), "String"), *content = text_of(v, "content");
    if (*byte_level || !find || !*find || !content || strlen(content) > TOKENIZER_MAX_TOKEN ||
        s->n_replaces == MAX_REPLACES)
        return ph_fail(s->err, PH_MODEL,
                       "this Replace decoder is not supported (only a String, before ByteLevel)");
    s->find[s->n_replaces] = find;
    s->content[s->n_replaces++] = content;
    s->t->shown_differs = true;
    return 0;
}

static int replace_all(source *s, byte_buffer *out, const char *text, size_t len, int step) {
    const char *find = s->find[step];
    size_t n = strlen(find);
    int code = 0;
    out->n = 0;
    for (const char *hit; !code && (hit = memmem(text, len, find, n));) {
        size_t gap = (size_t)(hit - text);
        code = buffer_add(out, text, gap, s->err);
        if (!code) code = buffer_add(out, s->content[step], strlen(s->content[step]), s->err);
        if (!code && out->n > TOKENIZER_MAX_TOKEN)
            return ph_fail(s->err, PH_MODEL, "a token decodes to too many bytes");
        text += gap + n;
        len -= gap + n;
    }
    return code ? code : buffer_add(out, text, len, s->err);
}

/* How a token reads where the decoder replaces something in it. */
static int read_shown(source *s, const char *name, size_t len, token_text *out) {
    byte_buffer a = {0}, b = {0};
    int code = buffer_add(&a, name, len, s->err);
    for (int i = 0; i < s->n_replaces && !code; i++) {
        code = replace_all(s, &b, a.s, a.n, i);
        byte_buffer swap = a;
        a = b;
        b = swap;
    }
    if (!code) {
        b.n = 0;
        code = buffer_add(&b, a.s ? a.s : "", a.n, s->err); /* room for the bytes */
    }
    size_t n;
    if (!code && spelt_bytes(&s->alphabet, a.s, a.n, b.s, &n))
        code = arena_add(s, b.s, n, out);
    else if (!code)
        code = arena_add(s, a.s, a.n, out);
    free(a.s);
    free(b.s);
    return code;
}

/* ---- vocabulary ---- */

static int highest_id(source *s, const json_t *vocab, const json_t *added, int32_t *out) {
    *out = -1;
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)vocab, name, v) {
        int32_t id;
        int code = read_id(s, v, name, &id);
        if (code) return code;
        if (id > *out) *out = id;
    }
    size_t i;
    json_array_foreach(added, i, v) {
        int32_t id;
        const char *content = text_of(v, "content");
        int code = read_id(s, json_object_get(v, "id"), content ? content : "", &id);
        if (code) return code;
        if (id > *out) *out = id;
    }
    return 0;
}

static int make_tables(source *s, const json_t *vocab, const json_t *added, const json_t *merges) {
    tokenizer *t = s->t;
    int32_t highest;
    int code = highest_id(s, vocab, added, &highest);
    if (code) return code;
    t->vocab = highest + 1;
    size_t n = (size_t)t->vocab ? (size_t)t->vocab : 1;
    t->pieces = calloc(n, sizeof *t->pieces);
    t->special = calloc(n, 1);
    t->whole = calloc(n, sizeof *t->whole);
    if (!t->pieces || !t->special || !t->whole)
        return ph_fail(s->err, PH_MEMORY, "out of memory for a vocabulary of %d tokens", t->vocab);
    for (size_t i = 0; i < n; i++) t->pieces[i].at = UINT32_MAX; /* no token has this id */
    code = text_map_init(&t->words, json_object_size(vocab), s->err);
    if (!code) code = text_map_init(&t->names, json_object_size(vocab) + json_array_size(added), s->err);
    return code ? code : merge_map_init(&t->merges, json_array_size(merges), s->err);
}

static int read_vocab(source *s, const json_t *vocab) {
    tokenizer *t = s->t;
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)vocab, name, v) {
        size_t len = strlen(name), n;
        int32_t id = (int32_t)json_integer_value(v); /* checked by highest_id */
        if (t->pieces[id].at != UINT32_MAX)
            return ph_fail(s->err, PH_MODEL, "token \"%.60s\" has the id %d of another one", name, id);
        s->scratch.n = 0;
        int code = buffer_add(&s->scratch, name, len, s->err);
        if (code) return code;
        bool spelt = spelt_bytes(&s->alphabet, name, len, s->scratch.s, &n);
        token_text text;
        code = spelt ? arena_add(s, s->scratch.s, n, &text) : arena_add(s, name, len, &text);
        if (code) return code;
        text_map_put(spelt ? &t->words : &t->names, t->arena, text, id);
        t->pieces[id] = text;
        if (s->n_replaces) code = read_shown(s, name, len, &t->pieces[id]);
        if (code) return code;
    }
    return 0;
}

/* Every byte of UTF-8 text must have a token: the library would drop the others silently, and so would an
 * answer. */
static int read_bytes(source *s) {
    tokenizer *t = s->t;
    for (int b = 0; b < 256; b++) {
        char byte = (char)b;
        t->byte_ids[b] = text_map_find(&t->words, t->arena, &byte, 1);
        bool in_text = b < 0xC0 || (b >= 0xC2 && b <= 0xF4);
        if (t->byte_ids[b] < 0 && in_text)
            return ph_fail(s->err, PH_MODEL, "the vocabulary has no token for the byte 0x%02X", (unsigned)b);
    }
    return 0;
}

/* ---- merges ---- */

static int merge_side(source *s, const char *name, size_t len, byte_buffer *joined, int32_t *id) {
    size_t from = joined->n, n;
    int code = buffer_add(joined, name, len, s->err);
    if (code) return code;
    *id = -1;
    if (len && spelt_bytes(&s->alphabet, name, len, joined->s + from, &n)) {
        joined->n = from + n;
        *id = text_map_find(&s->t->words, s->t->arena, joined->s + from, n);
    }
    if (*id < 0)
        return ph_fail(s->err, PH_MODEL, "a merge names \"%.60s\", which is not in the vocabulary", name);
    return 0;
}

static int read_merge(source *s, const json_t *v, uint32_t rank) {
    tokenizer *t = s->t;
    const char *left = json_string_value(v), *right = NULL;
    size_t left_len = 0, right_len = 0;
    if (left) {
        right = strchr(left, ' ');
        left_len = right ? (size_t)(right - left) : 0;
        if (right) right_len = strlen(++right);
    } else if (json_array_size(v) == 2) {
        left = json_string_value(json_array_get(v, 0));
        right = json_string_value(json_array_get(v, 1));
        if (left && right) {
            left_len = strlen(left);
            right_len = strlen(right);
        }
    }
    if (!left_len || !right_len) return ph_fail(s->err, PH_MODEL, "merge %u is not a pair of tokens", rank);
    int32_t a, b;
    s->scratch.n = 0;
    int code = merge_side(s, left, left_len, &s->scratch, &a);
    if (!code) code = merge_side(s, right, right_len, &s->scratch, &b);
    if (code) return code;
    int32_t both = text_map_find(&t->words, t->arena, s->scratch.s, s->scratch.n);
    if (both < 0) return ph_fail(s->err, PH_MODEL, "the result of merge %u is not in the vocabulary", rank);
    merge_map_put(&t->merges, a, b, (merge){rank, both});
    return 0;
}

static int read_model(source *s, const json_t *model, const json_t *added) {
    const char *type = text_of(model, "type");
    if (!json_is_object(model)) return ph_fail(s->err, PH_MODEL, "there is no model");
    if (type && strcmp(type, "BPE"))
        return ph_fail(s->err, PH_MODEL, "model \"%.60s\" is not supported (only \"BPE\")", type);
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++) {
        const char *affix = text_of(model, affixes[i]);
        if (affix && *affix) return ph_fail(s->err, PH_MODEL, "%s is not supported", affixes[i]);
    }
    const json_t *dropout = json_object_get(model, "dropout");
    if (present(dropout) && json_number_value(dropout) != 0)
        return ph_fail(s->err, PH_MODEL, "dropout is not supported");
    s->t->ignore_merges = is_true(model, "ignore_merges");
    const json_t *vocab = json_object_get(model, "vocab"), *merges = json_object_get(model, "merges");
    if (!json_is_object(vocab) || !json_is_array(merges))
        return ph_fail(s->err, PH_MODEL, "the model has no vocab or no merges");
    int code = make_tables(s, vocab, added, merges);
    if (!code) code = read_vocab(s, vocab);
    if (!code) code = read_bytes(s);
    size_t i;
    json_t *v;
    json_array_foreach(merges, i, v) {
        if (code) break;
        code = read_merge(s, v, (uint32_t)i);
    }
    return code;
}

/* ---- added tokens ---- */

static int read_added_token(source *s, const json_t *v) {
    tokenizer *t = s->t;
    const json_t *text = json_object_get(v, "content");
    const char *content = json_string_value(text);
    if (!content) return ph_fail(s->err, PH_MODEL, "an added token has no content");
    size_t len = json_string_length(text);
    if (!len) return 0; /* the library ignores it too */
    added_token *a = &t->added[t->n_added];
    *a =
        (added_token){.id = (int32_t)json_integer_value(json_object_get(v, "id")), /* checked by highest_id */
                      .special = is_true(v, "special"),
                      .normalised_text = is_true(v, "normalized"),
                      .lstrip = is_true(v, "lstrip"),
                      .rstrip = is_true(v, "rstrip"),
                      .single_word = is_true(v, "single_word")};
    int code = arena_add(s, content, len, &a->content);
    if (code) return code;

    /* An id that the vocabulary has must be the same token's: it says so with the same spelling. */
    int32_t known = text_map_find(&t->names, t->arena, content, len);
    size_t n = 0;
    s->scratch.n = 0;
    code = buffer_add(&s->scratch, content, len, s->err);
    if (code) return code;
    if (known < 0 && spelt_bytes(&s->alphabet, content, len, s->scratch.s, &n))
        known = text_map_find(&t->words, t->arena, s->scratch.s, n);
    if (known >= 0 ? known != a->id : t->pieces[a->id].at != UINT32_MAX)
        return ph_fail(s->err, PH_MODEL,
                       "added token \"%.60s\" has the id %d, which contradicts the vocabulary", content,
                       a->id);
    text_map_put(&t->names, t->arena, a->content, a->id);
    if (t->pieces[a->id].at == UINT32_MAX) t->pieces[a->id] = a->content;
    t->special[a->id] = a->special;
    t->n_added++;
    return 0;
}

static int read_added(source *s, const json_t *added) {
    size_t n = json_array_size(added), i;
    s->t->added = calloc(n ? n : 1, sizeof *s->t->added);
    if (!s->t->added) return ph_fail(s->err, PH_MEMORY, "out of memory for %zu added tokens", n);
    json_t *v;
    int code = 0;
    json_array_foreach(added, i, v) {
        code = read_added_token(s, v);
        if (code) break;
    }
    return code;
}

int tokenizer_read_json(tokenizer *t, const json_t *root, ph_error *err) {
    source s = {.t = t, .err = err};
    alphabet_fill(&s.alphabet);
    const json_t *added = json_object_get(root, "added_tokens");
    bool byte_level = false, decodes = false;
    int code = read_normaliser(&s, json_object_get(root, "normalizer"));
    if (!code) code = read_pre_tokenizer(&s, json_object_get(root, "pre_tokenizer"), &byte_level);
    if (!code && !byte_level) code = ph_fail(err, PH_MODEL, "there is no ByteLevel pre-tokenizer");
    if (!code) code = read_decoder(&s, json_object_get(root, "decoder"), &decodes);
    if (!code) code = read_model(&s, json_object_get(root, "model"), added);
    if (!code) code = read_added(&s, added);
    free(s.scratch.s);
    return code;
}

int32_t tokenizer_id(const tokenizer *t, const char *token) {
    size_t len = strlen(token), n;
    int32_t id = text_map_find(&t->names, t->arena, token, len);
    if (id >= 0 || len > TOKENIZER_MAX_TOKEN) return id;
    alphabet a;
    alphabet_fill(&a);
    char *bytes = malloc(len ? len : 1);
    if (bytes && spelt_bytes(&a, token, len, bytes, &n)) id = text_map_find(&t->words, t->arena, bytes, n);
    free(bytes);
    return id;
}
