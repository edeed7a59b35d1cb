/* answers.c - questions, answers, citations and traces.
 *
 * Each answer remembers every document that the model had before its eyes while it wrote: those that its pack
 * has ever held, those that it cites, and those of the earlier answers of the same conversation. This decides
 * what a delete takes along (erase.c), and it is kept at the time of the answer because packs change later.
 */
#include "store/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void store_answer_free(store_answer *a) {
    free(a->question);
    free(a->answer);
    free(a->model);
    free(a->thought);
    for (size_t i = 0; i < a->n_citations; i++) {
        free(a->citations[i].document_name);
        free(a->citations[i].quote);
    }
    free(a->citations);
    *a = (store_answer){0};
}

void store_answers_free(store_answer *list, size_t n) {
    for (size_t i = 0; i < n; i++) store_answer_free(&list[i]);
    free(list);
}

/* ---- adding ---- */

static int must_exist(store *s, const char *sql, int64_t id, const char *what, ph_error *err) {
    int64_t there;
    int rc = db_int(s, &there, err, sql, "i", id);
    if (rc || there) return rc;
    return ph_fail(err, PH_NOT_FOUND, "there is no %s %lld (any more): the answer was not kept", what,
                   (long long)id);
}

/* Whatever was deleted while the question was being answered must not come back inside the answer. */
static int check_answer(store *s, const store_answer *a, ph_error *err) {
    int rc = PH_OK;
    if (a->pack) rc = must_exist(s, "SELECT count(*) FROM packs WHERE id = ?", a->pack, "pack", err);
    if (rc == PH_OK && a->follows)
        rc = must_exist(s, "SELECT count(*) FROM answers WHERE id = ?", a->follows, "answer", err);
    if (rc == PH_OK && a->conversation)
        rc = must_exist(s, "SELECT count(*) FROM conversations WHERE id = ?", a->conversation, "conversation",
                        err);
    for (size_t i = 0; rc == PH_OK && i < a->n_citations; i++) {
        const store_citation *c = &a->citations[i];
        if (c->document)
            rc = must_exist(s, "SELECT count(*) FROM documents WHERE id = ?", c->document, "document", err);
        if (rc == PH_OK && (c->end < c->start || c->end > INT64_MAX))
            rc = ph_fail(err, PH_USAGE, "citation %zu is out of range", i);
    }
    return rc;
}

static int insert_citation(store *s, int64_t answer, size_t position, const store_citation *c,
                           ph_error *err) {
    char *name = NULL, *quote = NULL;
    int rc = clean_utf8(&name, c->document_name, STORE_MAX_STRING, "a document's name", err);
    if (rc == PH_OK) rc = clean_utf8(&quote, c->quote, STORE_MAX_ANSWER, "a quote", err);
    if (rc == PH_OK)
        rc = db_run(s, err, "INSERT INTO citations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    "iiItiiitiidd", answer, (int64_t)position, c->document, name, (int64_t)c->page,
                    (int64_t)c->start, (int64_t)c->end, quote, (int64_t)c->in_text,
                    c->untraced ? INT64_C(-1) : (int64_t)c->in_read_set, c->mass, c->lift);
    if (rc == PH_OK && c->document)
        rc =
            db_run(s, err, "INSERT OR IGNORE INTO answer_documents VALUES (?, ?)", "ii", c->document, answer);
    free(name);
    free(quote);
    return rc;
}

/* Texts as they may be stored: valid UTF-8, bounded. Owned. */
typedef struct answer_texts {
    char *question, *answer, *model, *thought;
} answer_texts;

static void answer_texts_free(answer_texts *t) {
    free(t->question);
    free(t->answer);
    free(t->model);
    free(t->thought);
}

static int answer_texts_make(answer_texts *t, const store_answer *a, ph_error *err) {
    int rc = clean_utf8(&t->question, a->question, STORE_MAX_ANSWER, "the question", err);
    if (rc == PH_OK) rc = clean_utf8(&t->answer, a->answer, STORE_MAX_ANSWER, "the answer", err);
    if (rc == PH_OK) rc = clean_utf8(&t->model, a->model, STORE_MAX_STRING, "the model's name", err);
    if (rc == PH_OK)
        rc = clean_utf8(&t->thought, a->thought ? a->thought : "", STORE_MAX_ANSWER, "the thought", err);
    return rc;
}

/* A question that follows another is of the same conversation, and so of the same owner. */
static int join_conversation(store *s, store_answer *a, ph_error *err) {
    int64_t conversation, own;
    int rc =
        db_int(s, &conversation, err,
               "SELECT q.conversation FROM answers a JOIN questions q ON q.id = a.question WHERE a.id = ?",
               "i", a->follows);
    if (rc == PH_OK)
        rc = db_int(s, &own, err,
                    "SELECT count(*) FROM conversations WHERE id = ? AND owner IS nullif(?, zeroblob(32))",
                    "ih", conversation, a->owner);
    if (rc) return rc;
    if (!own || (a->conversation && a->conversation != conversation))
        return ph_fail(err, PH_USAGE, "answer %lld is of another conversation", (long long)a->follows);
    a->conversation = conversation;
    return PH_OK;
}

static int insert_answer(store *s, store_answer *a, const answer_texts *t, const void *trace,
                         size_t trace_packed, size_t trace_len, ph_error *err) {
    int rc = a->follows ? join_conversation(s, a, err) : PH_OK;
    if (rc == PH_OK && !a->conversation) {
        static const uint8_t nobody[32];
        if (memcmp(a->owner, nobody, sizeof nobody))
            rc = db_run(s, err, "INSERT INTO conversations (owner) VALUES (?)", "h", a->owner);
        else
            rc = db_run(s, err, "INSERT INTO conversations DEFAULT VALUES", "");
        a->conversation = sqlite3_last_insert_rowid(s->db);
    }
    if (rc == PH_OK)
        rc = db_run(s, err, "INSERT INTO questions (conversation, question, asked_at) VALUES (?, ?, ?)",
                    "iti", a->conversation, t->question, a->asked_at);
    int64_t asked = sqlite3_last_insert_rowid(s->db);
    if (rc == PH_OK)
        rc = db_run(s, err,
                    "INSERT INTO answers (question, pack, answer, found, prompt_tokens, cached_tokens,"
                    " completion_tokens, prefill_ms, first_token_ms, total_ms, model, key, thought, cut_off,"
                    " passages, follows, turns, turns_left_out)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, nullif(?, -1), ?, ?, ?)",
                    "iItiiiidddthtiiIii", asked, a->pack, t->answer, (int64_t)a->found, a->prompt_tokens,
                    a->cached_tokens, a->completion_tokens, a->prefill_ms, a->first_token_ms, a->total_ms,
                    t->model, a->key, t->thought, (int64_t)a->cut_off, a->passages, a->follows, a->turns,
                    a->turns_left_out);
    a->id = sqlite3_last_insert_rowid(s->db);
    if (rc == PH_OK)
        rc = db_run(
            s, err,
            "INSERT OR IGNORE INTO answer_documents SELECT document, ?1 FROM pack_documents WHERE pack = ?2"
            " UNION SELECT r.document, ?1 FROM questions q JOIN answers a ON a.question = q.id"
            " JOIN answer_documents r ON r.answer = a.id WHERE q.conversation = ?3",
            "iii", a->id, a->pack, a->conversation);
    for (size_t i = 0; rc == PH_OK && i < a->n_citations; i++)
        rc = insert_citation(s, a->id, i, &a->citations[i], err);
    if (rc == PH_OK && trace)
        rc = db_run(s, err, "INSERT INTO traces VALUES (?, ?, ?)", "iib", a->id, (int64_t)trace_len, trace,
                    trace_packed);
    return rc;
}

int store_answer_add(store *s, store_answer *a, const void *trace, size_t trace_len, ph_error *err) {
    answer_texts texts = {0};
    void *packed = NULL;
    size_t packed_len = 0;
    int64_t conversation = a->conversation;
    a->id = 0;
    int rc = answer_texts_make(&texts, a, err);
    if (rc == PH_OK && trace_len > STORE_MAX_BLOB)
        rc = ph_fail(err, PH_TOO_LARGE, "the trace has %zu bytes; at most %llu can be kept", trace_len,
                     (unsigned long long)STORE_MAX_BLOB);
    if (rc == PH_OK && trace) rc = blob_pack(&packed, &packed_len, trace, trace_len, err);
    if (rc == PH_OK && (rc = store_begin(s, err)) == PH_OK) {
        if ((rc = check_answer(s, a, err))) {
            store_leave(s);
        } else {
            rc = insert_answer(s, a, &texts, packed, packed_len, trace_len, err);
            if (rc == PH_OK)
                rc = store_commit(s, err);
            else
                store_rollback(s);
        }
    }
    if (rc) {
        a->id = 0;
        a->conversation = conversation;
    }
    answer_texts_free(&texts);
    free(packed);
    return rc;
}

/* ---- reading ---- */

static int read_citation(store *s, store_citation *c, sqlite3_stmt *row, ph_error *err) {
    int64_t page = sqlite3_column_int64(row, 2), start = sqlite3_column_int64(row, 3),
            end = sqlite3_column_int64(row, 4);
    *c = (store_citation){.document = sqlite3_column_int64(row, 0),
                          .page = (uint32_t)page,
                          .start = (uint64_t)start,
                          .end = (uint64_t)end,
                          .in_text = sqlite3_column_int64(row, 6) != 0,
                          .in_read_set = sqlite3_column_int64(row, 7) > 0,
                          .untraced = sqlite3_column_int64(row, 7) < 0,
                          .mass = db_real(row, 8),
                          .lift = db_real(row, 9)};
    int rc = db_text(s, &c->document_name, row, 1, err);
    if (rc == PH_OK) rc = db_text(s, &c->quote, row, 5, err);
    if (rc == PH_OK && (page < 0 || page > UINT32_MAX || start < 0 || end < start))
        rc = db_corrupt(s, err, "a citation is out of range");
    return rc;
}

static int read_citations(store *s, store_answer *a, ph_error *err) {
    sqlite3_stmt *statement;
    bool row;
    int rc =
        db_prepare(s, &statement, err,
                   "SELECT document, document_name, page, start, end, quote, in_text, in_read_set, mass, lift"
                   " FROM citations WHERE answer = ? ORDER BY position",
                   "i", a->id);
    while (rc == PH_OK && (rc = db_step(s, statement, &row, err)) == PH_OK && row) {
        rc = db_grow((void **)&a->citations, a->n_citations, sizeof *a->citations, err);
        /* Counted before it is read: whatever it has got by then is freed with the rest. */
        if (rc == PH_OK) rc = read_citation(s, &a->citations[a->n_citations++], statement, err);
    }
    sqlite3_finalize(statement);
    return rc;
}

/* The conversation's owner; zeros for none. */
static int read_owner(store *s, store_answer *a, sqlite3_stmt *row, int column, ph_error *err) {
    if (sqlite3_column_type(row, column) == SQLITE_NULL) return PH_OK;
    return db_hash(s, a->owner, row, column, err);
}

/* At most `limit` answers: the one with this id, or the newest ones where id is 0; of this owner, or of all
 * where it is NULL. */
static int read_answers(store *s, int64_t id, const uint8_t *owner, size_t limit, store_answer **out,
                        size_t *n, ph_error *err) {
    sqlite3_stmt *statement = NULL;
    store_answer *list = NULL;
    size_t count = 0;
    bool row, began;
    static const uint8_t nobody[32];
    *out = NULL;
    *n = 0;
    int rc = store_read_begin(s, &began, err);
    if (rc) return rc;
    rc = db_prepare(
        s, &statement, err,
        "SELECT a.id, q.conversation, a.pack, q.question, a.answer, a.found, q.asked_at, a.prompt_tokens,"
        " a.cached_tokens, a.completion_tokens, a.prefill_ms, a.first_token_ms, a.total_ms, a.model, a.key, "
        "c.owner, a.thought, a.cut_off, ifnull(a.passages, -1), a.follows, a.turns, a.turns_left_out"
        " FROM answers a JOIN questions q ON q.id = a.question JOIN conversations c ON c.id = q.conversation"
        " WHERE (?1 = 0 OR a.id = ?1) AND (?3 = 0 OR c.owner IS nullif(?4, zeroblob(32))) ORDER BY a.id DESC "
        "LIMIT ?2",
        "iiih", id, limit > INT64_MAX ? INT64_MAX : (int64_t)limit, (int64_t)(owner != NULL),
        owner ? owner : nobody);
    while (rc == PH_OK && (rc = db_step(s, statement, &row, err)) == PH_OK && row) {
        if ((rc = db_grow((void **)&list, count, sizeof *list, err))) break;
        store_answer *a = &list[count++];
        *a = (store_answer){.id = sqlite3_column_int64(statement, 0),
                            .conversation = sqlite3_column_int64(statement, 1),
                            .pack = sqlite3_column_int64(statement, 2),
                            .found = sqlite3_column_int64(statement, 5) != 0,
                            .asked_at = sqlite3_column_int64(statement, 6),
                            .prompt_tokens = sqlite3_column_int64(statement, 7),
                            .cached_tokens = sqlite3_column_int64(statement, 8),
                            .completion_tokens = sqlite3_column_int64(statement, 9),
                            .prefill_ms = db_real(statement, 10),
                            .first_token_ms = db_real(statement, 11),
                            .total_ms = db_real(statement, 12),
                            .cut_off = sqlite3_column_int64(statement, 17) != 0,
                            .passages = sqlite3_column_int64(statement, 18),
                            .follows = sqlite3_column_int64(statement, 19),
                            .turns = sqlite3_column_int64(statement, 20),
                            .turns_left_out = sqlite3_column_int64(statement, 21)};
        rc = db_text(s, &a->question, statement, 3, err);
        if (rc == PH_OK) rc = db_text(s, &a->answer, statement, 4, err);
        if (rc == PH_OK) rc = db_text(s, &a->model, statement, 13, err);
        if (rc == PH_OK) rc = db_hash(s, a->key, statement, 14, err);
        if (rc == PH_OK) rc = read_owner(s, a, statement, 15, err);
        if (rc == PH_OK && sqlite3_column_bytes(statement, 16))
            rc = db_text(s, &a->thought, statement, 16, err);
        if (rc == PH_OK) rc = read_citations(s, a, err);
    }
    sqlite3_finalize(statement);
    store_read_end(s, began);
    if (rc) {
        store_answers_free(list, count);
        return rc;
    }
    *out = list;
    *n = count;
    return PH_OK;
}

int store_answer_get(store *s, int64_t id, store_answer *out, ph_error *err) {
    store_answer *list;
    size_t n;
    *out = (store_answer){0};
    int rc = read_answers(s, id, NULL, 1, &list, &n, err);
    if (rc) return rc;
    if (n == 0 && id)
        rc = ph_fail(err, PH_NOT_FOUND, "there is no answer %lld", (long long)id);
    else if (n == 0)
        rc = ph_fail(err, PH_NOT_FOUND, "no question has been asked yet");
    else
        *out = list[0];
    free(list);
    return rc;
}

int store_answer_list(store *s, size_t limit, store_answer **out, size_t *n, ph_error *err) {
    return read_answers(s, 0, NULL, limit, out, n, err);
}

int store_answer_list_of(store *s, const uint8_t owner[32], size_t limit, store_answer **out, size_t *n,
                         ph_error *err) {
    return read_answers(s, 0, owner, limit, out, n, err);
}

int store_answer_trace(store *s, int64_t id, void **blob, size_t *len, ph_error *err) {
    sqlite3_stmt *statement;
    bool row = false;
    *blob = NULL;
    *len = 0;
    int rc = db_prepare(s, &statement, err, "SELECT trace, bytes FROM traces WHERE answer = ?", "i", id);
    if (rc == PH_OK) rc = db_step(s, statement, &row, err);
    if (rc == PH_OK && !row)
        rc = ph_fail(err, PH_NOT_FOUND, "there is no trace of answer %lld", (long long)id);
    if (rc == PH_OK) {
        uint64_t expect = (uint64_t)sqlite3_column_int64(statement, 1);
        const void *packed = sqlite3_column_blob(statement, 0);
        rc = blob_unpack(blob, expect, packed, (size_t)sqlite3_column_bytes(statement, 0), err);
        if (rc)
            ph_context(err, "the trace of answer %lld", (long long)id);
        else
            *len = expect;
    }
    sqlite3_finalize(statement);
    return rc;
}
