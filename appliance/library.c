/* library.c - packing and reading (library.h). */
#include "appliance/library.h"

#include <stdlib.h>
#include <string.h>

enum { RESERVE = 2048 };

int64_t library_reserve(const engine *e) {
    int64_t most = engine_config(e)->max_positions;
    return most / 8 < RESERVE ? most / 8 : RESERVE;
}

/* ---- packing ---- */

/* All of the document's text stands in packs. A part of it may not: a pack goes as a whole when one of its
 * documents is erased, and it may have held the end of this one. */
static bool packed_already(const store_pack *packs, size_t n, const store_document *d) {
    uint64_t bytes = 0;
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < packs[i].n_items; j++) {
            if (packs[i].items[j].document != d->id) continue;
            bytes += packs[i].items[j].text_end - packs[i].items[j].text_start;
            any = true;
        }
    }
    return any && bytes == (uint64_t)d->text_bytes;
}

static int pack_add_item(store_pack *p, int64_t document, const pack_span *span, ph_error *err) {
    store_pack_item *more = realloc(p->items, (p->n_items + 1) * sizeof *more);
    if (!more) return ph_fail(err, PH_MEMORY, "no memory for a pack of %zu documents", p->n_items + 1);
    p->items = more;
    p->items[p->n_items++] = (store_pack_item){.document = document,
                                               .token_start = span->token_start,
                                               .token_end = span->token_end,
                                               .text_start = span->text_start,
                                               .text_end = span->text_end,
                                               .text_token_start = span->text_token_start,
                                               .text_token_end = span->text_token_end};
    p->tokens = span->token_end;
    return PH_OK;
}

/* Token counts do not depend on where a document stands (prompt.h), so that a placement needs no prompt but
 * its own. */
static int measure_span(engine *e, const char *name, const char *text, size_t start, size_t end, int part,
                        int parts, int64_t at, pack_span *span, ph_error *err) {
    pack_prompt alone = {0};
    int code =
        pack_prompt_append(&alone, engine_tokenizer(e), name, text, start, end, part, parts, span, err);
    pack_prompt_free(&alone);
    span->token_start += at;
    span->token_end += at;
    span->text_token_start += at;
    span->text_token_end += at;
    return code;
}

/* A new pack with one text in it. */
static int new_pack(store *s, engine *e, int64_t document, const char *name, const char *text, size_t start,
                    size_t end, int part, int parts, ph_error *err) {
    store_pack p = {.tokens = 2}; /* BOS <|User|> */
    memcpy(p.key, engine_key(e), sizeof p.key);
    pack_span span;
    int code = measure_span(e, name, text, start, end, part, parts, p.tokens, &span, err);
    if (!code) code = pack_add_item(&p, document, &span, err);
    if (!code) code = store_pack_put(s, &p, err);
    store_pack_free(&p);
    return code;
}

typedef struct placing {
    const library_packing *options;
    const char *document;
} placing;

static int cutting(void *user, size_t done, size_t total) {
    const placing *at = user;
    return at->options->progress(at->options->user, at->document, done, total);
}

/* The parts of a document that spans packs, each in a new pack where it does not stand in one already. Packs
 * with other parts of it than these (cut for another room) are erased, and *again says that there is more to
 * place. */
static int place_parts(store *s, engine *e, const library_packing *o, const store_document *d, const char *text,
                       size_t len, int64_t room, const store_pack *packs, size_t n, bool *again, ph_error *err) {
    size_t *cut = NULL;
    bool *there = NULL;
    int parts = 0;
    placing at = {o, d->name};
    int code = pack_cut(engine_tokenizer(e), d->name, text, len, room, o ? cutting : NULL, &at, &cut, &parts, err);
    if (!code && !(there = calloc((size_t)parts, sizeof *there)))
        code = ph_fail(err, PH_MEMORY, "no memory for %d parts of a document", parts);
    bool stale = false;
    for (size_t i = 0; i < n && !code; i++) {
        for (size_t j = 0; j < packs[i].n_items && !code; j++) {
            const store_pack_item *item = &packs[i].items[j];
            if (item->document != d->id) continue;
            int k = 0;
            while (k < parts && (cut[k] != item->text_start || cut[k + 1] != item->text_end)) k++;
            if (k < parts)
                there[k] = true;
            else {
                code = store_pack_delete(s, packs[i].id, NULL, err);
                stale = true;
                break;
            }
        }
    }
    for (int i = 0; i < parts && !code && !stale; i++)
        if (!there[i]) code = new_pack(s, e, d->id, d->name, text, cut[i], cut[i + 1], i + 1, parts, err);
    *again |= stale;
    free(there);
    free(cut);
    return code;
}

/* Tokens that the document needs; anything more than `room` where it needs more. A text much longer than a context is
 * not tokenised whole to learn that: a part of it that needs more will do, but for a token or two at its end. */
static int needs(engine *e, const char *name, const char *text, size_t len, int64_t room, int64_t *needed, ph_error *err) {
    size_t part = (size_t)room * 16;
    if (len / 2 > part) {
        int code = pack_measure(engine_tokenizer(e), name, text, part, needed, err);
        if (code || *needed > room + 64) return code;
    }
    return pack_measure(engine_tokenizer(e), name, text, len, needed, err);
}

static int place(store *s, engine *e, const library_packing *o, const store_document *d, bool *again, ph_error *err) {
    char *text = NULL;
    size_t len = 0;
    store_pack *packs = NULL;
    size_t n = 0;
    int64_t room = engine_config(e)->max_positions - library_reserve(e) - 2, needed = 0;
    int code = store_document_text(s, d->id, &text, &len, err);
    if (!code) code = needs(e, d->name, text, len, room, &needed, err);
    if (!code) code = store_pack_list(s, engine_key(e), &packs, &n, err);
    if (!code && needed > room) code = place_parts(s, e, o, d, text, len, room, packs, n, again, err);
    if (code || needed > room) goto done;
    for (size_t i = n; i-- > 0;) {
        if (packs[i].tokens - 2 + needed > room) continue;
        pack_span span;
        code = measure_span(e, d->name, text, 0, len, 1, 1, packs[i].tokens, &span, err);
        if (!code) code = pack_add_item(&packs[i], d->id, &span, err);
        if (!code) code = store_pack_put(s, &packs[i], err);
        goto done;
    }
    code = new_pack(s, e, d->id, d->name, text, 0, len, 1, 1, err);
done:
    store_packs_free(packs, n);
    free(text);
    return code;
}

static int place_all(store *s, engine *e, const library_packing *o, int *placed, bool *again, ph_error *err) {
    store_document *documents = NULL;
    store_pack *packs = NULL;
    size_t n_documents = 0, n_packs = 0;
    *again = false;
    int code = store_document_list(s, &documents, &n_documents, err);
    if (!code) code = store_pack_list(s, engine_key(e), &packs, &n_packs, err);
    for (size_t i = 0; i < n_documents && !code; i++) {
        if (packed_already(packs, n_packs, &documents[i])) continue;
        size_t bytes = (size_t)documents[i].text_bytes;
        if (o && o->progress(o->user, documents[i].name, 0, bytes))
            code = ph_fail(err, PH_INTERRUPTED, "stopped before placing %s", documents[i].name);
        else
            code = place(s, e, o, &documents[i], again, err);
        ++*placed;
    }
    store_documents_free(documents, n_documents);
    store_packs_free(packs, n_packs);
    return code;
}

int library_pack(store *s, engine *e, const library_packing *o, int *added, ph_error *err) {
    int placed = 0;
    bool again = true;
    int code = store_begin(s, err);
    if (code) return code;
    while (again && !code) code = place_all(s, e, o, &placed, &again, err);
    if (!code)
        code = store_commit(s, err);
    else
        store_rollback(s);
    if (!code && added) *added = placed;
    return code;
}

/* ---- loading and reading ---- */

static int part_of(const store_pack *packs, size_t n, const store_pack_item *item, int *parts) {
    int part = 1;
    *parts = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < packs[i].n_items; j++) {
            if (packs[i].items[j].document != item->document) continue;
            ++*parts;
            if (packs[i].items[j].text_start < item->text_start) part++;
        }
    return part;
}

int pack_load(loaded_pack *out, store *s, engine *e, int64_t pack, ph_error *err) {
    memset(out, 0, sizeof *out);
    store_pack *packs = NULL;
    size_t n = 0, at = 0;
    int code = store_pack_list(s, engine_key(e), &packs, &n, err);
    if (code) return code;
    while (at < n && packs[at].id != pack) at++;
    if (at == n) {
        store_packs_free(packs, n);
        return ph_fail(err, PH_NOT_FOUND, "there is no pack %lld for this model", (long long)pack);
    }
    const store_pack *p = &packs[at];
    out->texts = calloc(p->n_items ? p->n_items : 1, sizeof *out->texts);
    if (!out->texts) code = ph_fail(err, PH_MEMORY, "no memory for a pack of %zu documents", p->n_items);
    if (!code) code = pack_prompt_begin(&out->prompt, engine_prompt(e), err);
    for (size_t i = 0; i < p->n_items && !code; i++) {
        const store_pack_item *item = &p->items[i];
        pack_text *t = &out->texts[out->n_texts++];
        store_document d = {0};
        int parts = 1, part = part_of(packs, n, item, &parts);
        t->document = item->document;
        code = store_document_get(s, item->document, &d, err);
        if (!code) code = store_document_text(s, item->document, &t->text, &t->len, err);
        if (!code && (item->text_end > t->len || item->text_start > item->text_end))
            code = ph_fail(err, PH_CORRUPT, "pack %lld names bytes that %s does not have", (long long)pack,
                           d.name);
        if (!code) {
            t->name = d.name;
            d.name = NULL;
            code = pack_prompt_append(&out->prompt, engine_tokenizer(e), t->name, t->text, item->text_start,
                                      item->text_end, part, parts, &t->span, err);
        }
        if (!code && t->span.token_end != item->token_end)
            code = ph_fail(err, PH_CORRUPT, "pack %lld was made by another tokenizer than this one",
                           (long long)pack);
        store_document_free(&d);
    }
    if (!code) {
        out->row = packs[at];
        memset(&packs[at], 0, sizeof packs[at]);
    }
    store_packs_free(packs, n);
    if (code) pack_unload(out);
    return code;
}

void pack_unload(loaded_pack *p) {
    for (size_t i = 0; i < p->n_texts; i++) {
        free(p->texts[i].name);
        free(p->texts[i].text);
    }
    free(p->texts);
    pack_prompt_free(&p->prompt);
    store_pack_free(&p->row);
    memset(p, 0, sizeof *p);
}

/* Tells the store now and then how far a reading is, so that one that is killed is shown as far as it went. */
typedef struct telling {
    store *store;
    int64_t pack, told;
    const context *context;
    engine_progress progress;
    void *user;
} telling;

enum { TOLD_EVERY = 2048 }; /* tokens: about a second */

static int tell(void *user, int64_t done, int64_t total) {
    telling *t = user;
    int64_t read = context_length(t->context); /* on disk; never more than is there */
    bool due = read >= t->told + TOLD_EVERY || read < t->told; /* less, where the snapshot was a miss */
    if (due && !store_pack_set_read(t->store, t->pack, read, NULL)) t->told = read;
    return t->progress ? t->progress(t->user, done, total) : 0;
}

int pack_read(context **out, const loaded_pack *p, store *s, engine *e, engine_progress progress, void *user,
              int64_t *cached, const char **why, ph_error *err) {
    *out = NULL;
    char *path = NULL;
    context *c = NULL;
    int code = store_pack_snapshot_path(s, &p->row, &path, err);
    if (!code) code = context_open(&c, e, path, 0, why, err);
    free(path);
    if (code) return code;
    int64_t had = 0;
    telling t = {s, p->row.id, p->row.read, c, progress, user};
    code = context_read(c, p->prompt.tokens.ids, (int64_t)p->prompt.tokens.n, tell, &t, &had, err);
    if (cached) *cached = had;
    int64_t read = context_length(c);
    if (read != t.told) {
        /* For display only: a failure here must not hide what happened above. */
        store_pack_set_read(s, p->row.id, read, NULL);
    }
    if (code)
        context_close(c);
    else
        *out = c;
    return code;
}

const pack_text *pack_text_at(const loaded_pack *p, int64_t token, size_t *byte) {
    size_t low = 0, high = p->n_texts;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (p->texts[mid].span.token_end <= token)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == p->n_texts) return NULL;
    const pack_text *t = &p->texts[low];
    if (token < t->span.text_token_start || token >= t->span.text_token_end) return NULL;
    if (byte) *byte = (size_t)p->prompt.tokens.start[token];
    return t;
}

int64_t pack_token_at(const loaded_pack *p, const pack_text *t, size_t byte) {
    int64_t low = t->span.text_token_start, high = t->span.text_token_end;
    while (low < high) {
        int64_t mid = low + (high - low) / 2;
        if (p->prompt.tokens.start[mid] < byte)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* ---- all packs ---- */

typedef struct reading {
    const library_reading *options;
    size_t number, packs;
} reading;

static int reading_step(void *user, int64_t done, int64_t total) {
    const reading *r = user;
    return r->options->progress ? r->options->progress(r->options->user, r->number, r->packs, done, total) : 0;
}

int library_read(store *s, engine *e, const library_reading *o, ph_error *err) {
    store_pack *packs = NULL;
    size_t n = 0;
    int code = store_pack_list(s, engine_key(e), &packs, &n, err);
    for (size_t i = 0; i < n && !code; i++) {
        if (packs[i].read == packs[i].tokens) continue;
        loaded_pack p;
        context *c = NULL;
        int64_t cached = 0;
        const char *why = NULL;
        reading r = {.options = o, .number = i, .packs = n};
        code = pack_load(&p, s, e, packs[i].id, err);
        if (code) break;
        code = pack_read(&c, &p, s, e, reading_step, &r, &cached, &why, err);
        if (!code && o->read) o->read(o->user, packs[i].id, (int64_t)p.prompt.tokens.n, cached);
        context_close(c);
        pack_unload(&p);
    }
    store_packs_free(packs, n);
    return code;
}
