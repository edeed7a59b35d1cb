/* store.h - everything Pharos keeps, in one folder:
 *
 *     DIR/pharos.db     SQLite: documents, their text and segments, full text, packs, questions, answers, traces
 *     DIR/files/        originals by content hash
 *     DIR/snapshots/    one file a pack (the engine's own format; the store only names and deletes them)
 *
 * WAL, foreign keys on, secure_delete on, numbered migrations, one writer at a time (a second one waits for 5
 * seconds, then PH_BUSY). Rows handed out are owned by the caller: free with the matching _free. A store handle
 * belongs to one thread at a time.
 */
#ifndef PHAROS_STORE_H
#define PHAROS_STORE_H

#include "kernels/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct store store;

/* Opens or makes DIR (mode 0700; parents too). A database of a newer schema is refused by number. */
int store_open(store **out, const char *dir, ph_error *err);
void store_close(store *s);
const char *store_dir(const store *s);

/* A transaction groups the calls between; nests by counting; rollback undoes the whole. */
int store_begin(store *s, ph_error *err);
int store_commit(store *s, ph_error *err);
void store_rollback(store *s);

/* ---- documents ---- */

typedef struct store_segment {
    uint64_t start, end; /* bytes of the text */
    uint32_t page;       /* 1-based, 0 = none */
    uint64_t src_start, src_end;
    const float *rects;  /* [n_rects][4] x0 y0 x1 y1 in points; borrowed on the way in, owned on the way out */
    uint32_t n_rects;
} store_segment;

typedef struct store_document {
    int64_t id;
    uint8_t hash[32];    /* of the original bytes */
    char *name;          /* unique among documents: a second "report.pdf" becomes "report (2).pdf" */
    char *source;        /* absolute path, URL, or "" for standard input */
    char *media_type, *title, *warning, *picture_pages; /* picture_pages: "3,7-9" or "" */
    int64_t bytes, text_bytes, added_at; /* added_at: Unix seconds */
    int64_t source_mtime_ns; /* of the file when it was read; 0 = none */
    uint32_t pages;
} store_document;

void store_document_free(store_document *d);                       /* frees the strings, zeroes the row */
void store_documents_free(store_document *list, size_t n);

/* Adds a document with its text and segments, copies (or links) the original at file_path into DIR/files, and
 * indexes it. `d`'s strings are borrowed; d->id and the name finally given (owned) are filled. Where the same content is there already nothing is
 * stored: *existing = its id and PH_OK, d->id = 0. file_path may be NULL (no original kept). */
int store_document_add(store *s, store_document *d, const char *text, const store_segment *segments, size_t n_segments,
                       const char *file_path, int64_t *existing, ph_error *err);
int store_document_get(store *s, int64_t id, store_document *out, ph_error *err); /* PH_NOT_FOUND */
int store_document_by_hash(store *s, const uint8_t hash[32], store_document *out, ph_error *err);
/* By id ("12"), exact name, source path, or an unambiguous end of the name ("b.txt" for "a/b.txt"). */
int store_document_find(store *s, const char *key, store_document *out, ph_error *err);
int store_document_list(store *s, store_document **out, size_t *n, ph_error *err); /* by id */
int store_document_text(store *s, int64_t id, char **text, size_t *len, ph_error *err); /* NUL-terminated */
int store_document_segments(store *s, int64_t id, store_segment **out, size_t *n, ph_error *err);
void store_segments_free(store_segment *list, size_t n);
/* Path of the original, owned; PH_NOT_FOUND when none was kept. */
int store_document_file(store *s, int64_t id, char **path, ph_error *err);

/* What a delete erased, to show to the person who asked for it. */
typedef struct store_receipt {
    int64_t documents, files, file_bytes, text_bytes, segments, packs, snapshots, snapshot_bytes, questions, answers,
        citations, traces;
} store_receipt;

/* Erases a document everywhere: original, text, segments, full-text index, every pack that holds it (with its
 * snapshot file), and every question, answer, citation and trace that read such a pack AND cites or traces this
 * document. Afterwards no byte of its text is left in the database, its WAL or free pages. */
int store_document_delete(store *s, int64_t id, store_receipt *receipt, ph_error *err);

/* ---- full text (BM25), over passages of about 600 bytes cut at sentence or line ends ---- */

typedef struct store_hit {
    int64_t document;
    uint64_t start, end; /* bytes of its text */
    double score;        /* higher is better */
} store_hit;

/* The question's words are OR-ed, quoted (no FTS syntax reaches SQLite); at most `limit` hits, best first. */
int store_search(store *s, const char *question, size_t limit, store_hit **out, size_t *n, ph_error *err);

/* ---- packs ---- */

typedef struct store_pack_item {
    int64_t document;
    int64_t token_start, token_end; /* of the pack's prompt, header and footer included */
    uint64_t text_start, text_end;  /* bytes of the document's text that stand here (all of it, or a part) */
    int64_t text_token_start, text_token_end; /* tokens of the text alone */
} store_pack_item;

typedef struct store_pack {
    int64_t id;
    uint8_t key[32];   /* the engine's key the token counts and the snapshot were made with */
    int64_t tokens;    /* of the whole prompt prefix */
    int64_t read;      /* of these, how many the snapshot held when it was last closed: for display */
    char *snapshot;    /* file name below DIR/snapshots */
    store_pack_item *items;
    size_t n_items;
} store_pack;

void store_pack_free(store_pack *p);
void store_packs_free(store_pack *list, size_t n);
/* Adds (id == 0: id and snapshot name filled) or replaces a pack and its items. */
int store_pack_put(store *s, store_pack *p, ph_error *err);
int store_pack_list(store *s, const uint8_t key[32], store_pack **out, size_t *n, ph_error *err); /* by id */
int store_pack_set_read(store *s, int64_t id, int64_t read, ph_error *err);
int store_pack_delete(store *s, int64_t id, store_receipt *receipt, ph_error *err);
/* Absolute path of a pack's snapshot; owned. */
int store_pack_snapshot_path(store *s, const store_pack *p, char **path, ph_error *err);

/* ---- questions and answers ---- */

typedef struct store_citation {
    int64_t document;
    char *document_name;   /* as it was then */
    uint32_t page;
    uint64_t start, end;   /* bytes of the document's text */
    char *quote;
    bool in_text, in_read_set;
    double mass, lift;
} store_citation;

typedef struct store_answer {
    int64_t id;
    int64_t conversation;  /* 0 on the way in = a new one; filled */
    int64_t pack;          /* 0 = none or since deleted */
    char *question, *answer;
    bool found;
    int64_t asked_at;      /* Unix milliseconds */
    int64_t prompt_tokens, cached_tokens, completion_tokens;
    double prefill_ms, first_token_ms, total_ms;
    char *model;           /* name of the model */
    uint8_t key[32];
    store_citation *citations;
    size_t n_citations;
} store_answer;

void store_answer_free(store_answer *a);
void store_answers_free(store_answer *list, size_t n);
/* Adds question, answer, citations and the trace (an opaque blob, stored with zstd; NULL = none) in one transaction. */
int store_answer_add(store *s, store_answer *a, const void *trace, size_t trace_len, ph_error *err);
int store_answer_get(store *s, int64_t id, store_answer *out, ph_error *err); /* id 0 = the latest */
int store_answer_list(store *s, size_t limit, store_answer **out, size_t *n, ph_error *err); /* newest first */
int store_answer_trace(store *s, int64_t id, void **blob, size_t *len, ph_error *err);
int store_answer_delete(store *s, int64_t id, store_receipt *receipt, ph_error *err);

/* ---- the whole ---- */

typedef struct store_totals {
    int64_t documents, text_bytes, packs, tokens, answers, database_bytes, file_bytes, snapshot_bytes;
} store_totals;
int store_count(store *s, store_totals *out, ph_error *err);
/* PRAGMA integrity_check and foreign_key_check, every original's hash, every snapshot named once; *report (owned)
 * lists what is wrong, "" = nothing. */
int store_verify(store *s, char **report, ph_error *err);

#endif
