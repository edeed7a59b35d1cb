/* library.h - the documents as the model reads them: which pack holds what, and reading a pack.
 *
 * The store keeps documents and manifests, ingest builds prompts, the engine keeps what was read; this file
 * is where the three meet.
 */
#ifndef PHAROS_LIBRARY_H
#define PHAROS_LIBRARY_H

#include "engine/engine.h"
#include "ingest/pack.h"
#include "store/store.h"

/* Tokens of every context that are kept free for a question and its answer. */
int64_t library_reserve(const engine *e);

/* What is placed: done of total bytes of a document's text. Non-zero stops, and nothing is placed. */
typedef struct library_packing {
    int (*progress)(void *user, const char *document, size_t done, size_t total);
    void *user;
} library_packing;

/* Puts every document that stands in no pack of this engine's key into one: the last pack with room, else a
 * new one; a document larger than a context spans packs of its own. Reads nothing. *added (may be NULL) =
 * documents placed. `o` may be NULL. PH_INTERRUPTED when stopped. */
int library_pack(store *s, engine *e, const library_packing *o, int *added, ph_error *err);

/* Erases a document as store_document_delete does, all that it promises; but of a pack of this engine's key what was
 * read of the documents before it stays: they go on in a new pack. Those behind it stand in no pack then
 * (library_pack), since what was read of them had read it. Without an engine (NULL), or where the snapshot is in use,
 * packs go whole. */
int library_erase(store *s, engine *e, int64_t document, store_receipt *receipt, ph_error *err);

/* A document, or a part of one, inside a loaded pack. */
typedef struct pack_text {
    int64_t document;
    char *name, *text; /* the whole document's, owned */
    size_t len;
    pack_span span; /* where it stands in the prompt */
} pack_text;

/* A pack with its prompt built again from the stored texts. Free with pack_unload. */
typedef struct loaded_pack {
    store_pack row;
    pack_text *texts;
    size_t n_texts;
    pack_prompt prompt;
} loaded_pack;

int pack_load(loaded_pack *out, store *s, engine *e, int64_t pack, ph_error *err);
void pack_unload(loaded_pack *p);

/* Opens the pack's snapshot and reads what it lacks. *cached = tokens that were there; *why (may be NULL) = a
 * sentence when a snapshot was not believed, else NULL. The context is the caller's to close, also when
 * reading was interrupted (then it is NULL and what was read is kept on disk). */
int pack_read(context **out, const loaded_pack *p, store *s, engine *e, engine_progress progress, void *user,
              int64_t *cached, const char **why, ph_error *err);

/* Reads every pack of this engine's key that is not read to its end. */
typedef struct library_reading {
    int (*progress)(void *user, size_t number, size_t packs, int64_t done, int64_t total); /* non-zero stops */
    void (*read)(void *user, int64_t pack, int64_t tokens, int64_t cached); /* a pack has been read */
    void *user;
} library_reading;
int library_read(store *s, engine *e, const library_reading *o, ph_error *err);

/* The text that prompt token `token` comes from, or NULL for the template's own tokens. *byte filled. */
const pack_text *pack_text_at(const loaded_pack *p, int64_t token, size_t *byte);

/* The first prompt token of a text that starts at or after byte; text_token_end when none does. */
int64_t pack_token_at(const loaded_pack *p, const pack_text *t, size_t byte);

#endif
