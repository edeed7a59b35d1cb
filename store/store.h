/* store.h - everything Pharos keeps, in one folder:
 *
 *     DIR/pharos.db     SQLite: documents, their text and segments, full text, packs, questions, answers, traces
 *     DIR/files/        originals by content hash
 *     DIR/snapshots/    one file a pack (the engine's own format; the store only names and deletes them)
 *
 * WAL, foreign keys on, secure_delete on, numbered migrations, one writer at a time (a second one waits for 5
 * seconds, then PH_BUSY). Rows handed out are owned by the caller: free with the matching _free; on an error they
 * are empty. A store handle belongs to one thread at a time, and to one process (open anew after a fork).
 *
 * Any of these functions may return PH_BUSY (another process), PH_CORRUPT (the database or what it holds is
 * damaged), PH_MEMORY, and PH_FAIL (I/O; "disk full" is said so). What a function has acknowledged with PH_OK outside
 * a transaction survives kill -9 and a power cut. Strings are stored as valid UTF-8: bytes that are none become
 * U+FFFD, so that they can be printed as JSON later. Content of the database is checked when it is read: ranges
 * handed out lie within their text.
 */
#ifndef PHAROS_STORE_H
#define PHAROS_STORE_H

#include "kernels/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct store store;

/* Opens or makes DIR (mode 0700; parents too) and removes what a crash left behind. Refused, and left as they are: a
 * database of a newer schema (PH_UNSUPPORTED, by number); a file that is no database or another program's, and an
 * empty or missing database beside originals or snapshots (PH_CORRUPT). */
int store_open(store **out, const char *dir, ph_error *err);
void store_close(store *s); /* NULL is fine; rolls back what is open */
const char *store_dir(const store *s); /* absolute */

/* A transaction groups the calls between; nests by counting; rollback undoes the whole. A call that fails in its
 * midst has undone the whole too, and the commit then fails; one that refuses its arguments (PH_NOT_FOUND, PH_USAGE)
 * has undone nothing. Files follow the rows: copied in before, removed after the outermost commit. */
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
    char *source;        /* absolute path, URL, or "" for standard input; made valid UTF-8 like every string */
    char *media_type, *title, *warning, *picture_pages; /* picture_pages: "3,7-9" or "" */
    char *ocr;           /* languages with which its pictures were looked at for text, "eng+deu"; "" = they were not */
    int64_t bytes, text_bytes, added_at; /* added_at: Unix seconds */
    int64_t source_mtime_ns; /* of the file when it was read; 0 = none */
    uint32_t pages;
} store_document;

void store_document_free(store_document *d);                       /* frees the strings, zeroes the row */
void store_documents_free(store_document *list, size_t n);

/* Adds a document with its text and segments, copies the original at file_path (NULL: none is kept) into DIR/files,
 * and indexes it. `d`'s strings are borrowed; d->id, d->text_bytes and the name finally given (d->name, owned: the
 * one borrowed before is still yours) are filled. Where the same content is there already nothing is stored:
 * *existing = its id (else 0; may be NULL), PH_OK, d->id = 0, and d->name is as it was. d->hash is BLAKE2b-256 of the
 * original; a file that has another one by now "changed while it was read" (PH_FAIL). Segments ascend, do not
 * overlap, lie within the text and have finite rects, else PH_USAGE; text of over 1 GiB is PH_TOO_LARGE. */
int store_document_add(store *s, store_document *d, const char *text, const store_segment *segments, size_t n_segments,
                       const char *file_path, int64_t *existing, ph_error *err);
/* Notes with which languages OCR has looked at the pictures of a document that stays as it is. */
int store_document_set_ocr(store *s, int64_t id, const char *languages, ph_error *err);
int store_document_get(store *s, int64_t id, store_document *out, ph_error *err); /* PH_NOT_FOUND */
int store_document_by_hash(store *s, const uint8_t hash[32], store_document *out, ph_error *err);
/* By id ("12"), exact name, source path, or an unambiguous end of the name ("b.txt" for "a/b.txt"), in this order;
 * PH_USAGE names two of several. */
int store_document_find(store *s, const char *key, store_document *out, ph_error *err);
int store_document_list(store *s, store_document **out, size_t *n, ph_error *err); /* by id */
int store_document_text(store *s, int64_t id, char **text, size_t *len, ph_error *err); /* NUL-terminated */
/* The rects belong to the list: one store_segments_free frees all. */
int store_document_segments(store *s, int64_t id, store_segment **out, size_t *n, ph_error *err);
void store_segments_free(store_segment *list, size_t n);
/* Path of the original, owned; PH_NOT_FOUND when none was kept. */
int store_document_file(store *s, int64_t id, char **path, ph_error *err);

/* What a delete erased, to show to the person who asked for it. */
typedef struct store_receipt {
    int64_t documents, files, file_bytes, text_bytes, segments, packs, snapshots, snapshot_bytes, questions, answers,
        citations, traces, runs;
} store_receipt;

/* Erases a document everywhere: original, text, segments, full-text index; every pack that holds or has ever held it,
 * with its snapshot; every question and answer (with citations and trace) that was written with the document before
 * the model's eyes: its pack held it, it cites it, or it came later in a conversation where one of these did; every evaluation run that read
 * it; and the traces of the other answers of those packs, whose positions mean nothing any more. Afterwards no byte of its text
 * is left in the database, its write-ahead log or free pages, nor its words in the index.
 * PH_OK means all of that. Any other code with receipt->documents == 1: it is deleted, but a file could not be
 * removed, or another process kept the log from being emptied (PH_BUSY); the sentence says so, and the next open or
 * delete finishes it. `receipt` may be NULL here and below. Inside a transaction files and log wait for its commit. */
int store_document_delete(store *s, int64_t id, store_receipt *receipt, ph_error *err);

/* ---- full text (BM25), over passages of about 600 bytes cut at sentence or line ends ---- */

typedef struct store_hit {
    int64_t document;
    uint64_t start, end; /* bytes of its text */
    double score;        /* higher is better */
} store_hit;

/* The question's words (the first 64; common English ones only where there are no others) are OR-ed, quoted (no FTS
 * syntax reaches SQLite) and stemmed (Porter: English); at most `limit` hits, best first. Free with free(). */
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
    char *snapshot;    /* file name below DIR/snapshots: "pack-ID.snapshot", made of the id, never reused */
    store_pack_item *items;
    size_t n_items;
} store_pack;

void store_pack_free(store_pack *p);
void store_packs_free(store_pack *list, size_t n);
/* Adds (id == 0: id and snapshot name, owned, filled; what `snapshot` was before is not freed) or replaces a pack and
 * its items (p->snapshot is not looked at). PH_NOT_FOUND where a document or the pack is gone, PH_USAGE where a range
 * is not within the pack or the text. Files named "pack-ID.*" are the pack's and go with it. */
int store_pack_put(store *s, store_pack *p, ph_error *err);
/* By id; key NULL = those of every key. */
int store_pack_list(store *s, const uint8_t key[32], store_pack **out, size_t *n, ph_error *err);
int store_pack_set_read(store *s, int64_t id, int64_t read, ph_error *err);
/* With its snapshot, and the traces of its answers; the answers stay (pack = 0). */
int store_pack_delete(store *s, int64_t id, store_receipt *receipt, ph_error *err);
/* Absolute path of a pack's snapshot; owned. */
int store_pack_snapshot_path(store *s, const store_pack *p, char **path, ph_error *err);

/* ---- questions and answers ---- */

typedef struct store_citation {
    int64_t document;      /* 0 = the quote stands in none */
    char *document_name;   /* as it was then */
    uint32_t page;
    uint64_t start, end;   /* bytes of the document's text */
    char *quote;
    bool in_text, in_read_set;
    bool untraced;         /* nobody knows what was read: in_read_set, mass and lift say nothing */
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
    uint8_t owner[32];     /* hash of the token that asked; zeros = nobody's: asked without one */
    char *thought;         /* what was written before the answer; NULL = nothing */
    bool cut_off;          /* the longest answer allowed was reached first */
    int64_t passages;      /* the answer was looked for in so many passages; 0 = in the whole pack; -1 = not known */
    int64_t follows;       /* the answer that this question went on from; 0 = none that is stored */
    int64_t turns;         /* how many earlier exchanges were before the model's eyes */
    int64_t turns_left_out; /* how many still earlier ones were not */
} store_answer;

void store_answer_free(store_answer *a);
void store_answers_free(store_answer *list, size_t n);
/* Adds question, answer, citations and the trace (an opaque blob, stored with zstd; NULL = none) in one transaction;
 * everything in `a` is borrowed. One that follows another joins its conversation, which must be of the same owner.
 * PH_NOT_FOUND where its pack, conversation, a cited document or what it follows is gone: what was deleted while the
 * question was being answered does not come back inside the answer. */
int store_answer_add(store *s, store_answer *a, const void *trace, size_t trace_len, ph_error *err);
int store_answer_get(store *s, int64_t id, store_answer *out, ph_error *err); /* id 0 = the latest */
int store_answer_list(store *s, size_t limit, store_answer **out, size_t *n, ph_error *err); /* newest first */
/* Those of one owner; zeros = asked without a token. */
int store_answer_list_of(store *s, const uint8_t owner[32], size_t limit, store_answer **out, size_t *n, ph_error *err);
int store_answer_trace(store *s, int64_t id, void **blob, size_t *len, ph_error *err);
/* With it go the questions that follow it, and those that follow them: they were answered with it before the model's
 * eyes. */
int store_answer_delete(store *s, int64_t id, store_receipt *receipt, ph_error *err);

/* ---- users ---- */

typedef enum store_role { STORE_ASK = 1, STORE_MANAGE = 2 } store_role;
enum { STORE_TOKEN_CHARACTERS = 46 };

typedef struct store_token {
    int64_t id;
    char *name;
    store_role role;
    uint8_t hash[32];   /* all that is kept of the token; whose questions are whose */
    int64_t created_at; /* Unix seconds */
} store_token;

void store_tokens_free(store_token *list, size_t n);
/* Makes a token and hands it out, this once (NUL-terminated). PH_USAGE when the name is taken or none. */
int store_token_add(store *s, const char *name, store_role role, char token[STORE_TOKEN_CHARACTERS + 1], int64_t *id,
                    ph_error *err);
int store_token_list(store *s, store_token **out, size_t *n, ph_error *err); /* by id */
int store_token_count(store *s, int64_t *n, ph_error *err);
/* By name or number. with_questions: what was asked with it is erased too; else it stays, and nobody sees it over
 * HTTP any more. */
int store_token_remove(store *s, const char *key, bool with_questions, store_receipt *receipt, ph_error *err);
/* The hash of any token under this store's key. */
int store_token_hash(store *s, const char *token, size_t n, uint8_t hash[32], ph_error *err);
int store_token_find(store *s, const uint8_t hash[32], store_token *out, ph_error *err); /* PH_NOT_FOUND */

/* ---- evaluation runs ---- */

typedef enum store_run_state { RUN_UNFINISHED, RUN_DONE, RUN_FAILED } store_run_state;

typedef struct store_run {
    int64_t id;
    char *kind;       /* "needle", ... */
    char *command;    /* line that started it */
    char *parameters; /* JSON: enough to go on with it */
    char *model;      /* name */
    uint8_t key[32];  /* the engine's */
    int64_t seed;
    int64_t started_at, updated_at; /* Unix milliseconds */
    int64_t cells, done;            /* planned; stored so far (filled on the way out) */
    store_run_state state;
    char *note;        /* why it failed; "" */
    int64_t questions; /* store_run_add: the file of questions that it takes over; 0 = none. Not filled on the
                          way out: the parameters say it */
} store_run;

typedef struct store_cell {
    int64_t number;
    char *result; /* JSON: the same for the same seed and machine */
    char *timing; /* JSON: never the same */
} store_cell;

void store_run_free(store_run *r);
void store_runs_free(store_run *list, size_t n);
void store_cells_free(store_cell *list, size_t n);
/* Adds a run (id filled; strings borrowed). documents[n_documents] are those whose text it reads: it goes when one of
 * them is deleted. */
int store_run_add(store *s, store_run *r, const int64_t *documents, size_t n_documents, ph_error *err);
int store_run_set_state(store *s, int64_t id, store_run_state state, const char *note, ph_error *err);
int store_run_get(store *s, int64_t id, store_run *out, ph_error *err); /* id 0 = the latest; PH_NOT_FOUND */
int store_run_list(store *s, size_t limit, store_run **out, size_t *n, ph_error *err); /* newest first */
int store_run_delete(store *s, int64_t id, ph_error *err);
/* Keeps a cell; one with its number is replaced. PH_NOT_FOUND where the run is gone. */
int store_cell_put(store *s, int64_t run, const store_cell *c, ph_error *err);
int store_cell_list(store *s, int64_t run, store_cell **out, size_t *n, ph_error *err); /* by number */

/* Files of questions (run_files.c). One belongs to the run that was started with it and is erased with it. */
enum { STORE_MAX_QUESTIONS = 64 << 20 };
int store_questions_add(store *s, const char *name, const void *bytes, size_t n, int64_t *id, ph_error *err);
/* Name and bytes (a NUL behind them) owned; *run = 0 where no run has it yet. */
int store_questions_get(store *s, int64_t id, char **name, char **bytes, size_t *n, int64_t *run,
                        ph_error *err);
/* Erases those that no run took and that came before `before` (Unix milliseconds). */
int store_questions_forget(store *s, int64_t before, ph_error *err);

/* ---- the whole ---- */

typedef struct store_totals {
    int64_t documents, text_bytes, packs, tokens, answers, database_bytes, file_bytes, snapshot_bytes;
} store_totals;
int store_count(store *s, store_totals *out, ph_error *err);
/* PRAGMA integrity_check and foreign_key_check, the full-text index, every text, segment list, pack, answer,
 * trace and original (its hash), every file named by a row; *report (owned) lists what is wrong, a line each, "" = nothing. */
int store_verify(store *s, char **report, ph_error *err);

/* Done of total (of no unit that matters); non-zero stops. */
typedef int (*store_progress)(void *user, int64_t done, int64_t total);

/* Everything but the snapshots (they are made again by reading) into one new file, mode 0600: a zip of the database
 * and the originals, with a numbered format. The store stays usable meanwhile. Nothing is at `path` after a failure;
 * PH_USAGE where something is there before; PH_BUSY where a document was deleted while it was copied. What is
 * deleted from the store later is still in its backups. */
int store_backup(store *s, const char *path, store_progress progress, void *user, ph_error *err);
/* Makes the folder `dir` (absent or empty, else PH_USAGE) from a backup. The file is not trusted: names, lengths,
 * hashes, schema and the whole database are checked before the folder gets its name; after a failure nothing is
 * left. PH_UNSUPPORTED: no backup of ours, or a newer one. */
int store_restore(const char *path, const char *dir, store_progress progress, void *user, ph_error *err);

#endif
