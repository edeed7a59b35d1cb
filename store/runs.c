/* runs.c - evaluation runs and their cells. A cell is kept as soon as it is done, so that a killed run goes
 * on where it was. What a cell says is the appliance's business: JSON in, JSON out. */
#include "store/internal.h"

#include <stdlib.h>
#include <time.h>

void store_run_free(store_run *r) {
    free(r->kind);
    free(r->command);
    free(r->parameters);
    free(r->model);
    free(r->note);
    *r = (store_run){0};
}

void store_runs_free(store_run *list, size_t n) {
    for (size_t i = 0; i < n; i++) store_run_free(&list[i]);
    free(list);
}

void store_cells_free(store_cell *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(list[i].result);
        free(list[i].timing);
    }
    free(list);
}

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Valid UTF-8 copies of up to four strings; all or none. */
typedef struct strings {
    char *at[5];
} strings;

static void strings_free(strings *s) {
    for (size_t i = 0; i < sizeof s->at / sizeof *s->at; i++) free(s->at[i]);
}

static int clean(strings *out, const char *const *in, size_t n, ph_error *err) {
    *out = (strings){0};
    for (size_t i = 0; i < n; i++) {
        int rc = clean_utf8(&out->at[i], in[i] ? in[i] : "", STORE_MAX_ANSWER, "a part of a run", err);
        if (rc) {
            strings_free(out);
            return rc;
        }
    }
    return PH_OK;
}

int store_run_add(store *s, store_run *r, const int64_t *documents, size_t n_documents, ph_error *err) {
    strings text;
    int rc =
        clean(&text, (const char *const[]){r->kind, r->command, r->parameters, r->model, r->note}, 5, err);
    if (rc) return rc;
    rc = store_begin(s, err);
    if (rc) {
        strings_free(&text);
        return rc;
    }
    if (!r->started_at) r->started_at = now_ms();
    r->updated_at = r->started_at;
    rc = db_run(
        s, err,
        "INSERT INTO runs (kind, command, parameters, model, key, seed, started_at, updated_at, cells, state,"
        " note) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        "tttthiiiiit", text.at[0], text.at[1], text.at[2], text.at[3], r->key, r->seed, r->started_at,
        r->updated_at, r->cells, (int64_t)r->state, text.at[4]);
    strings_free(&text);
    int64_t id = rc ? 0 : sqlite3_last_insert_rowid(s->db);
    for (size_t i = 0; i < n_documents && rc == PH_OK; i++)
        rc = db_run(s, err, "INSERT OR IGNORE INTO run_documents (document, run) VALUES (?, ?)", "ii",
                    documents[i], id);
    if (rc == PH_OK && r->questions) {
        rc = db_run(s, err, "UPDATE question_files SET run = ? WHERE id = ? AND run IS NULL", "ii", id,
                    r->questions);
        if (rc == PH_OK && sqlite3_changes(s->db) != 1)
            rc = ph_fail(err, PH_NOT_FOUND, "the file of questions %lld is gone, or is another run's",
                         (long long)r->questions);
    }
    if (rc == PH_OK) rc = store_commit(s, err);
    if (rc) {
        store_rollback(s);
        return rc;
    }
    r->id = id;
    return PH_OK;
}

static int must_be_there(store *s, int64_t id, ph_error *err) {
    int64_t there;
    int rc = db_int(s, &there, err, "SELECT count(*) FROM runs WHERE id = ?", "i", id);
    if (rc || there) return rc;
    return ph_fail(err, PH_NOT_FOUND, "there is no run %lld (any more)", (long long)id);
}

int store_run_set_state(store *s, int64_t id, store_run_state state, const char *note, ph_error *err) {
    strings text;
    int rc = must_be_there(s, id, err);
    if (rc == PH_OK) rc = clean(&text, &note, 1, err);
    if (rc) return rc;
    rc = db_run(s, err, "UPDATE runs SET state = ?, note = ?, updated_at = ? WHERE id = ?", "itii",
                (int64_t)state, text.at[0], now_ms(), id);
    strings_free(&text);
    return rc;
}

static int read_runs(store *s, int64_t id, size_t limit, store_run **out, size_t *n, ph_error *err) {
    sqlite3_stmt *statement;
    store_run *list = NULL;
    size_t count = 0;
    *out = NULL;
    *n = 0;
    int64_t most = limit > INT64_MAX ? INT64_MAX : (int64_t)limit;
    int rc = db_prepare(
        s, &statement, err,
        "SELECT id, kind, command, parameters, model, key, seed, started_at, updated_at, cells, state,"
        " note, (SELECT count(*) FROM cells WHERE run = runs.id)"
        " FROM runs WHERE ?1 = 0 OR id = ?1 ORDER BY id DESC LIMIT ?2",
        "ii", id, most);
    for (bool row = true; rc == PH_OK;) {
        rc = db_step(s, statement, &row, err);
        if (rc || !row) break;
        rc = db_grow((void **)&list, count, sizeof *list, err);
        if (rc) break;
        store_run *r = &list[count++];
        int64_t state = sqlite3_column_int64(statement, 10);
        *r = (store_run){.id = sqlite3_column_int64(statement, 0),
                         .seed = sqlite3_column_int64(statement, 6),
                         .started_at = sqlite3_column_int64(statement, 7),
                         .updated_at = sqlite3_column_int64(statement, 8),
                         .cells = sqlite3_column_int64(statement, 9),
                         .done = sqlite3_column_int64(statement, 12),
                         .state = state == RUN_DONE || state == RUN_FAILED ? (store_run_state)state
                                                                           : RUN_UNFINISHED};
        rc = db_text(s, &r->kind, statement, 1, err);
        if (rc == PH_OK) rc = db_text(s, &r->command, statement, 2, err);
        if (rc == PH_OK) rc = db_text(s, &r->parameters, statement, 3, err);
        if (rc == PH_OK) rc = db_text(s, &r->model, statement, 4, err);
        if (rc == PH_OK) rc = db_hash(s, r->key, statement, 5, err);
        if (rc == PH_OK) rc = db_text(s, &r->note, statement, 11, err);
    }
    sqlite3_finalize(statement);
    if (rc) {
        store_runs_free(list, count);
        return rc;
    }
    *out = list;
    *n = count;
    return PH_OK;
}

int store_run_get(store *s, int64_t id, store_run *out, ph_error *err) {
    store_run *list;
    size_t n;
    *out = (store_run){0};
    int rc = read_runs(s, id, 1, &list, &n, err);
    if (rc) return rc;
    if (n == 0 && id)
        rc = ph_fail(err, PH_NOT_FOUND, "there is no run %lld", (long long)id);
    else if (n == 0)
        rc = ph_fail(err, PH_NOT_FOUND, "nothing has been evaluated yet");
    else
        *out = list[0];
    free(list);
    return rc;
}

int store_run_list(store *s, size_t limit, store_run **out, size_t *n, ph_error *err) {
    return read_runs(s, 0, limit, out, n, err);
}

int store_run_delete(store *s, int64_t id, ph_error *err) {
    int rc = must_be_there(s, id, err);
    if (rc == PH_OK) rc = store_begin(s, err);
    if (rc) return rc;
    s->scrub = true; /* its cells quote texts */
    rc = db_run(s, err, "DELETE FROM runs WHERE id = ?", "i", id);
    if (rc == PH_OK) return store_commit(s, err);
    store_rollback(s);
    return rc;
}

int store_cell_put(store *s, int64_t run, const store_cell *c, ph_error *err) {
    strings text;
    int rc = must_be_there(s, run, err);
    if (rc == PH_OK) rc = clean(&text, (const char *const[]){c->result, c->timing}, 2, err);
    if (rc) return rc;
    rc = db_run(s, err, "INSERT OR REPLACE INTO cells (run, number, result, timing) VALUES (?, ?, ?, ?)",
                "iitt", run, c->number, text.at[0], text.at[1]);
    strings_free(&text);
    return rc;
}

int store_cell_list(store *s, int64_t run, store_cell **out, size_t *n, ph_error *err) {
    sqlite3_stmt *statement;
    store_cell *list = NULL;
    size_t count = 0;
    *out = NULL;
    *n = 0;
    int rc = must_be_there(s, run, err);
    if (rc) return rc;
    rc = db_prepare(s, &statement, err,
                    "SELECT number, result, timing FROM cells WHERE run = ? ORDER BY number", "i", run);
    for (bool row = true; rc == PH_OK;) {
        rc = db_step(s, statement, &row, err);
        if (rc || !row) break;
        rc = db_grow((void **)&list, count, sizeof *list, err);
        if (rc) break;
        store_cell *c = &list[count++];
        *c = (store_cell){.number = sqlite3_column_int64(statement, 0)};
        rc = db_text(s, &c->result, statement, 1, err);
        if (rc == PH_OK) rc = db_text(s, &c->timing, statement, 2, err);
    }
    sqlite3_finalize(statement);
    if (rc) {
        store_cells_free(list, count);
        return rc;
    }
    *out = list;
    *n = count;
    return PH_OK;
}
