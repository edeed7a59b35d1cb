/* packs.c - which documents stand where in a prompt that is read once and kept. */
#include "store/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void store_pack_free(store_pack *p) {
    free(p->snapshot);
    free(p->items);
    *p = (store_pack){0};
}

void store_packs_free(store_pack *list, size_t n) {
    for (size_t i = 0; i < n; i++) store_pack_free(&list[i]);
    free(list);
}

/* The file's name is made of the id, never read from the database: a hostile one cannot name a file
 * elsewhere. */
static int snapshot_name(char **name, int64_t id, ph_error *err) {
    if (asprintf(name, "pack-%lld.snapshot", (long long)id) >= 0) return PH_OK;
    *name = NULL;
    return ph_no_memory(err, 64);
}

int store_pack_snapshot_path(store *s, const store_pack *p, char **path, ph_error *err) {
    *path = NULL;
    if (p->id <= 0) return ph_fail(err, PH_USAGE, "a pack that was never put has no snapshot");
    return files_snapshot_path(s, path, p->id, err);
}

/* What everybody who reads a pack relies on when indexing by its numbers. */
static bool in_range(const store_pack_item *i, int64_t tokens, int64_t text_bytes) {
    return i->token_start >= 0 && i->token_start <= i->token_end && i->token_end <= tokens &&
           i->text_token_start >= 0 && i->text_token_start <= i->text_token_end &&
           i->text_token_end <= tokens && i->text_start <= i->text_end && text_bytes >= 0 &&
           i->text_end <= (uint64_t)text_bytes;
}

static int put_items(store *s, const store_pack *p, ph_error *err) {
    int rc = db_run(s, err, "DELETE FROM pack_items WHERE pack = ?", "i", p->id);
    for (size_t i = 0; rc == PH_OK && i < p->n_items; i++) {
        const store_pack_item *t = &p->items[i];
        rc = db_run(s, err, "INSERT INTO pack_items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", "iiiiiiiii", p->id,
                    (int64_t)i, t->document, t->token_start, t->token_end, (int64_t)t->text_start,
                    (int64_t)t->text_end, t->text_token_start, t->text_token_end);
        if (rc == PH_OK)
            rc = db_run(s, err, "INSERT OR IGNORE INTO pack_documents VALUES (?, ?)", "ii", p->id,
                        t->document);
    }
    return rc;
}

/* Before anything is written, so that a refusal undoes nothing of an outer transaction. */
static int check_pack(store *s, const store_pack *p, ph_error *err) {
    if (p->id < 0 || p->tokens < 0 || p->read < 0 || (p->n_items && !p->items))
        return ph_fail(err, PH_USAGE, "a pack with a negative number");
    int64_t there = 1;
    int rc = p->id ? db_int(s, &there, err, "SELECT count(*) FROM packs WHERE id = ?", "i", p->id) : PH_OK;
    if (rc == PH_OK && !there) rc = ph_fail(err, PH_NOT_FOUND, "there is no pack %lld", (long long)p->id);
    for (size_t i = 0; rc == PH_OK && i < p->n_items; i++) {
        const store_pack_item *t = &p->items[i];
        int64_t bytes;
        rc = db_int(s, &bytes, err, "SELECT text_bytes + 1 FROM documents WHERE id = ?", "i", t->document);
        if (rc) break;
        if (bytes == 0)
            rc = ph_fail(err, PH_NOT_FOUND, "there is no document %lld (any more)", (long long)t->document);
        else if (!in_range(t, p->tokens, bytes - 1))
            rc = ph_fail(err, PH_USAGE, "item %zu of the pack is out of range", i);
    }
    return rc;
}

int store_pack_put(store *s, store_pack *p, ph_error *err) {
    bool added = p->id == 0;
    char *name = NULL;
    int rc = store_begin(s, err);
    if (rc) return rc;
    if ((rc = check_pack(s, p, err))) {
        store_leave(s);
        return rc;
    }
    if (added) {
        rc = db_run(s, err, "INSERT INTO packs (key, tokens, read) VALUES (?, ?, ?)", "hii", p->key,
                    p->tokens, p->read);
        p->id = sqlite3_last_insert_rowid(s->db);
        if (rc == PH_OK) rc = snapshot_name(&name, p->id, err);
    } else {
        rc = db_run(s, err, "UPDATE packs SET key = ?, tokens = ?, read = ? WHERE id = ?", "hiii", p->key,
                    p->tokens, p->read, p->id);
    }
    if (rc == PH_OK) rc = put_items(s, p, err);
    if (rc == PH_OK)
        rc = store_commit(s, err);
    else
        store_rollback(s);
    if (rc == PH_OK && added) p->snapshot = name;
    if (rc && added) {
        p->id = 0;
        free(name);
    }
    return rc;
}

static int read_items(store *s, store_pack *p, ph_error *err) {
    sqlite3_stmt *statement;
    bool row;
    int rc = db_prepare(
        s, &statement, err,
        "SELECT i.document, i.token_start, i.token_end, i.text_start, i.text_end, i.text_token_start,"
        " i.text_token_end, d.text_bytes FROM pack_items i LEFT JOIN documents d ON d.id = i.document"
        " WHERE i.pack = ? ORDER BY i.position",
        "i", p->id);
    while (rc == PH_OK && (rc = db_step(s, statement, &row, err)) == PH_OK && row) {
        if ((rc = db_grow((void **)&p->items, p->n_items, sizeof *p->items, err))) break;
        int64_t v[7];
        for (int i = 0; i < 7; i++) v[i] = sqlite3_column_int64(statement, i);
        store_pack_item item = {v[0], v[1], v[2], (uint64_t)v[3], (uint64_t)v[4], v[5], v[6]};
        bool known = sqlite3_column_type(statement, 7) != SQLITE_NULL;
        if (!known || !in_range(&item, p->tokens, sqlite3_column_int64(statement, 7)))
            rc = db_corrupt(s, err, "a pack's item is out of range");
        else
            p->items[p->n_items++] = item;
    }
    sqlite3_finalize(statement);
    return rc;
}

int store_pack_list(store *s, const uint8_t key[32], store_pack **out, size_t *n, ph_error *err) {
    sqlite3_stmt *statement = NULL;
    store_pack *list = NULL;
    size_t count = 0;
    bool row, began;
    *out = NULL;
    *n = 0;
    int rc = store_read_begin(s, &began, err);
    if (rc) return rc;
    rc = key ? db_prepare(s, &statement, err,
                          "SELECT id, tokens, read, key FROM packs WHERE key = ? ORDER BY id", "h", key)
             : db_prepare(s, &statement, err, "SELECT id, tokens, read, key FROM packs ORDER BY id", "");
    while (rc == PH_OK && (rc = db_step(s, statement, &row, err)) == PH_OK && row) {
        if ((rc = db_grow((void **)&list, count, sizeof *list, err))) break;
        store_pack *p = &list[count++];
        *p = (store_pack){.id = sqlite3_column_int64(statement, 0),
                          .tokens = sqlite3_column_int64(statement, 1),
                          .read = sqlite3_column_int64(statement, 2)};
        rc = db_hash(s, p->key, statement, 3, err);
        if (rc == PH_OK && (p->tokens < 0 || p->read < 0))
            rc = db_corrupt(s, err, "a pack has a negative size");
        if (rc == PH_OK) rc = snapshot_name(&p->snapshot, p->id, err);
        if (rc == PH_OK) rc = read_items(s, p, err);
    }
    sqlite3_finalize(statement);
    store_read_end(s, began);
    if (rc) {
        store_packs_free(list, count);
        return rc;
    }
    *out = list;
    *n = count;
    return PH_OK;
}

int store_pack_set_read(store *s, int64_t id, int64_t read, ph_error *err) {
    if (read < 0) return ph_fail(err, PH_USAGE, "a negative number of tokens");
    int rc = store_begin(s, err);
    if (rc) return rc;
    rc = db_run(s, err, "UPDATE packs SET read = ? WHERE id = ?", "ii", read, id);
    if (rc == PH_OK && sqlite3_changes(s->db) == 0) {
        store_leave(s);
        return ph_fail(err, PH_NOT_FOUND, "there is no pack %lld", (long long)id);
    }
    if (rc == PH_OK) return store_commit(s, err);
    store_rollback(s);
    return rc;
}
