/* migrations.c - the schema, as numbered steps. PRAGMA user_version is the number of the last one that ran.
 *
 * A step that has been released is never edited: a new one is appended to the table below. Each runs in one
 * transaction together with its number, so that a crash leaves the one schema or the other. */
#include "store/internal.h"

#include <stdio.h>
#include <string.h>

/* AUTOINCREMENT where an id must never come back: a client that still holds a deleted one must not get
 * another document, and a snapshot's file name is made of its pack's id. */
static const char first[] =
    "CREATE TABLE documents ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32)," /* of the original bytes */
    "  name TEXT NOT NULL UNIQUE,"
    "  source TEXT NOT NULL, media_type TEXT NOT NULL, title TEXT NOT NULL, warning TEXT NOT NULL,"
    "  picture_pages TEXT NOT NULL,"
    "  bytes INTEGER NOT NULL, text_bytes INTEGER NOT NULL, added_at INTEGER NOT NULL,"
    "  source_mtime_ns INTEGER NOT NULL, pages INTEGER NOT NULL,"
    "  segments INTEGER NOT NULL," /* how many */
    "  has_file INTEGER NOT NULL"  /* the original is in files/ */
    ") STRICT;"
    "CREATE INDEX documents_source ON documents (source);"

    /* Apart from documents, so that a list does not read through the texts. */
    "CREATE TABLE texts ("
    "  document INTEGER PRIMARY KEY REFERENCES documents (id) ON DELETE CASCADE,"
    "  text BLOB NOT NULL,"                                     /* zstd of documents.text_bytes bytes */
    "  segments BLOB NOT NULL, segments_bytes INTEGER NOT NULL" /* zstd of segments_codec.c's format */
    ") STRICT;"

    /* The index keeps words only; where a passage stands is here, and its text is in texts. Porter, because a
     * question seldom inflects its words as the document does ('published' / 'publish'); it touches ASCII
     * words only. */
    "CREATE TABLE passages ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  document INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,"
    "  start INTEGER NOT NULL, end INTEGER NOT NULL"
    ") STRICT;"
    "CREATE INDEX passages_document ON passages (document);"
    "CREATE VIRTUAL TABLE passages_fts USING fts5 ("
    "  text, content = '', tokenize = 'porter unicode61 remove_diacritics 2');"

    "CREATE TABLE packs ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  key BLOB NOT NULL CHECK (length(key) = 32),"
    "  tokens INTEGER NOT NULL, read INTEGER NOT NULL"
    ") STRICT;"
    "CREATE TABLE pack_items ("
    "  pack INTEGER NOT NULL REFERENCES packs (id) ON DELETE CASCADE,"
    "  position INTEGER NOT NULL,"
    "  document INTEGER NOT NULL REFERENCES documents (id),"
    "  token_start INTEGER NOT NULL, token_end INTEGER NOT NULL,"
    "  text_start INTEGER NOT NULL, text_end INTEGER NOT NULL,"
    "  text_token_start INTEGER NOT NULL, text_token_end INTEGER NOT NULL,"
    "  PRIMARY KEY (pack, position)"
    ") STRICT, WITHOUT ROWID;"
    "CREATE INDEX pack_items_document ON pack_items (document);"
    /* Every document that the pack has ever held: its snapshot file may still have their bytes, and answers
     * given from it have read them. */
    "CREATE TABLE pack_documents ("
    "  pack INTEGER NOT NULL REFERENCES packs (id) ON DELETE CASCADE,"
    "  document INTEGER NOT NULL REFERENCES documents (id),"
    "  PRIMARY KEY (pack, document)"
    ") STRICT, WITHOUT ROWID;"
    "CREATE INDEX pack_documents_document ON pack_documents (document);"

    "CREATE TABLE conversations (id INTEGER PRIMARY KEY AUTOINCREMENT) STRICT;"
    "CREATE TABLE questions ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  conversation INTEGER NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,"
    "  question TEXT NOT NULL, asked_at INTEGER NOT NULL"
    ") STRICT;"
    "CREATE INDEX questions_conversation ON questions (conversation);"
    "CREATE TABLE answers ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  question INTEGER NOT NULL UNIQUE REFERENCES questions (id) ON DELETE CASCADE,"
    "  pack INTEGER REFERENCES packs (id) ON DELETE SET NULL,"
    "  answer TEXT NOT NULL, found INTEGER NOT NULL,"
    "  prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,"
    "  prefill_ms REAL NOT NULL, first_token_ms REAL NOT NULL, total_ms REAL NOT NULL,"
    "  model TEXT NOT NULL, key BLOB NOT NULL CHECK (length(key) = 32)"
    ") STRICT;"
    "CREATE INDEX answers_pack ON answers (pack);"
    /* What the model had before its eyes: see answers.c. Decides what goes when a document goes. */
    "CREATE TABLE answer_documents ("
    "  document INTEGER NOT NULL REFERENCES documents (id),"
    "  answer INTEGER NOT NULL REFERENCES answers (id) ON DELETE CASCADE,"
    "  PRIMARY KEY (document, answer)"
    ") STRICT, WITHOUT ROWID;"
    "CREATE INDEX answer_documents_answer ON answer_documents (answer);"
    "CREATE TABLE citations ("
    "  answer INTEGER NOT NULL REFERENCES answers (id) ON DELETE CASCADE,"
    "  position INTEGER NOT NULL,"
    "  document INTEGER REFERENCES documents (id)," /* NULL: the quote stands in none */
    "  document_name TEXT NOT NULL, page INTEGER NOT NULL,"
    "  start INTEGER NOT NULL, end INTEGER NOT NULL, quote TEXT NOT NULL,"
    "  in_text INTEGER NOT NULL, in_read_set INTEGER NOT NULL, mass REAL NOT NULL, lift REAL NOT NULL,"
    "  PRIMARY KEY (answer, position)"
    ") STRICT, WITHOUT ROWID;"
    "CREATE INDEX citations_document ON citations (document);"
    "CREATE TABLE traces ("
    "  answer INTEGER PRIMARY KEY REFERENCES answers (id) ON DELETE CASCADE,"
    "  bytes INTEGER NOT NULL, trace BLOB NOT NULL"
    ") STRICT;";

static const char evaluation_runs[] =
    "CREATE TABLE IF NOT EXISTS runs ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  kind TEXT NOT NULL, command TEXT NOT NULL, parameters TEXT NOT NULL, model TEXT NOT NULL,"
    "  key BLOB NOT NULL CHECK (length(key) = 32), seed INTEGER NOT NULL,"
    "  started_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,"
    "  cells INTEGER NOT NULL, state INTEGER NOT NULL, note TEXT NOT NULL"
    ") STRICT;"
    "CREATE TABLE IF NOT EXISTS cells ("
    "  run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,"
    "  number INTEGER NOT NULL,"
    "  result TEXT NOT NULL, timing TEXT NOT NULL,"
    "  PRIMARY KEY (run, number)"
    ") STRICT, WITHOUT ROWID;"
    /* A run over stored documents holds questions and answers made of their text: it goes with the first of
     * them that is deleted (erase.c; triggers are switched off, because a hostile database could bring its
     * own). */
    "CREATE TABLE IF NOT EXISTS run_documents ("
    "  document INTEGER NOT NULL REFERENCES documents (id),"
    "  run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,"
    "  PRIMARY KEY (document, run)"
    ") STRICT, WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS run_documents_run ON run_documents (run);";

/* Questions that a run was given as a file. run NULL: received, and no run has been started with it yet. */
static const char question_files[] =
    "CREATE TABLE question_files ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  run INTEGER REFERENCES runs (id) ON DELETE CASCADE,"
    "  name TEXT NOT NULL, added_at INTEGER NOT NULL, bytes BLOB NOT NULL"
    ") STRICT;"
    "CREATE INDEX question_files_run ON question_files (run);";

/* Whose a conversation is: the hash of the token that asked (tokens.c); NULL: asked without one, from this
 * machine. */
static const char users[] =
    "CREATE TABLE tokens ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  name TEXT NOT NULL UNIQUE, role INTEGER NOT NULL,"
    "  hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32), created_at INTEGER NOT NULL"
    ") STRICT;"
    "CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;"
    "INSERT INTO secrets VALUES ('tokens', randomblob(32));"
    "ALTER TABLE conversations ADD COLUMN owner BLOB;"
    "CREATE INDEX conversations_owner ON conversations (owner);";

/* What else was said of an answer. Of older ones nobody knows how many passages they were looked for in: NULL. */
static const char answers_told_more[] =
    "ALTER TABLE answers ADD COLUMN thought TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE answers ADD COLUMN cut_off INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE answers ADD COLUMN passages INTEGER;";

/* The answer that a question went on from, in the same conversation (erase.c takes a question along with what it went on
 * from); how many earlier exchanges were sent along with it, and how many still earlier ones were not. */
static const char follow_ups[] =
    "ALTER TABLE answers ADD COLUMN follows INTEGER REFERENCES answers (id) ON DELETE SET NULL;"
    "ALTER TABLE answers ADD COLUMN turns INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE answers ADD COLUMN turns_left_out INTEGER NOT NULL DEFAULT 0;"
    "CREATE INDEX answers_follows ON answers (follows);";

/* With which languages OCR has looked at a document's pictures ("eng+deu"); empty: it has not. */
static const char ocr[] = "ALTER TABLE documents ADD COLUMN ocr TEXT NOT NULL DEFAULT '';";

static const struct migration {
    int number;
    const char *sql;
} migrations[] = {
    {1, first},
    {2, evaluation_runs},
    {3, question_files},
    {4, users},
    {5, answers_told_more},
    {6, follow_ups},
    {7, ocr},
};

enum { COUNT = sizeof migrations / sizeof *migrations };

int migrations_latest(void) {
    return migrations[COUNT - 1].number;
}

int migrations_check(store *s, ph_error *err) {
    int64_t application, version, tables;
    int rc = db_int(s, &application, err, "PRAGMA application_id", "");
    if (rc == PH_OK) rc = db_int(s, &version, err, "PRAGMA user_version", "");
    if (rc == PH_OK) rc = db_int(s, &tables, err, "SELECT count(*) FROM sqlite_schema", "");
    if (rc) return rc;
    /* An empty database is what a crash before the first migration leaves. */
    if (application != STORE_APPLICATION_ID && (application || version || tables))
        return ph_fail(err, PH_CORRUPT,
                       "%s/pharos.db is the database of another program; it was left as it is", s->dir);
    if (version < 0 || version > migrations_latest())
        return ph_fail(
            err, PH_UNSUPPORTED,
            "%s/pharos.db has schema %lld and this program knows schemas up to %d: use a newer Pharos",
            s->dir, (long long)version, migrations_latest());
    return PH_OK;
}

static int run(store *s, const struct migration *m, ph_error *err) {
    int64_t version;
    int rc = store_begin(s, err);
    if (rc) return rc;
    /* Another process may have run it while this one waited for the lock. */
    rc = db_int(s, &version, err, "PRAGMA user_version", "");
    if (rc == PH_OK && version >= m->number) {
        store_leave(s);
        return PH_OK;
    }
    char pragmas[128];
    snprintf(pragmas, sizeof pragmas, "PRAGMA application_id = %d; PRAGMA user_version = %d",
             STORE_APPLICATION_ID, m->number);
    if (rc == PH_OK &&
        (sqlite3_exec(s->db, m->sql, NULL, NULL, NULL) || sqlite3_exec(s->db, pragmas, NULL, NULL, NULL)))
        rc = db_fail(s, err);
    if (rc == PH_OK) return store_commit(s, err);
    store_rollback(s);
    return rc;
}

int migrations_run(store *s, ph_error *err) {
    int64_t version;
    int rc = db_int(s, &version, err, "PRAGMA user_version", "");
    for (int i = 0; rc == PH_OK && i < COUNT; i++)
        if (migrations[i].number > version && (rc = run(s, &migrations[i], err)))
            ph_context(err, "bringing %s/pharos.db to schema %d", s->dir, migrations[i].number);
    return rc;
}
