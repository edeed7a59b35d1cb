/* tokens.c - who may come in from elsewhere, and whose a question is.
 *
 * A token is 32 random bytes. What is kept of it is a keyed BLAKE2b-256 with a random key of this store: with
 * 256 bits to guess there is nothing that a slow hash would protect, and the key keeps two stores, and tables
 * made beforehand for tokens that people thought up, apart. The hash is also what its questions are kept
 * under, so that they outlive restarts and are nobody else's.
 */
#include "store/internal.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_TOKENS = 10000, LONGEST_NAME = 100 };

void store_tokens_free(store_token *list, size_t n) {
    for (size_t i = 0; i < n; i++) free(list[i].name);
    free(list);
}

/* The random key of this store; made by the migration. */
static int read_key(store *s, uint8_t key[STORE_HASH_BYTES], ph_error *err) {
    sqlite3_stmt *statement;
    bool row = false;
    int rc = db_prepare(s, &statement, err, "SELECT value FROM secrets WHERE name = 'tokens'", "");
    if (rc == PH_OK) rc = db_step(s, statement, &row, err);
    if (rc == PH_OK && !row) rc = db_corrupt(s, err, "the key of the tokens is missing");
    if (rc == PH_OK) rc = db_hash(s, key, statement, 0, err);
    sqlite3_finalize(statement);
    return rc;
}

int store_token_hash(store *s, const char *token, size_t n, uint8_t hash[32], ph_error *err) {
    uint8_t key[STORE_HASH_BYTES];
    int rc = read_key(s, key, err);
    if (rc == PH_OK && crypto_generichash(hash, 32, (const unsigned char *)token, n, key, sizeof key))
        rc = ph_fail(err, PH_FAIL, "a token cannot be hashed");
    sodium_memzero(key, sizeof key);
    return rc;
}

static int read_tokens(store *s, const char *sql, const char *kinds, const void *argument, store_token **out,
                       size_t *n, ph_error *err) {
    sqlite3_stmt *statement = NULL;
    store_token *list = NULL;
    size_t count = 0;
    bool row;
    *out = NULL;
    *n = 0;
    int rc = argument ? db_prepare(s, &statement, err, sql, kinds, argument)
                      : db_prepare(s, &statement, err, sql, "");
    while (rc == PH_OK && (rc = db_step(s, statement, &row, err)) == PH_OK && row) {
        if ((rc = db_grow((void **)&list, count, sizeof *list, err))) break;
        store_token *t = &list[count++];
        int64_t role = sqlite3_column_int64(statement, 2);
        *t = (store_token){.id = sqlite3_column_int64(statement, 0),
                           .role = role == STORE_MANAGE ? STORE_MANAGE : STORE_ASK,
                           .created_at = sqlite3_column_int64(statement, 4)};
        rc = db_text(s, &t->name, statement, 1, err);
        if (rc == PH_OK) rc = db_hash(s, t->hash, statement, 3, err);
        if (rc == PH_OK && role != STORE_ASK && role != STORE_MANAGE)
            rc = db_corrupt(s, err, "a token has no role");
    }
    sqlite3_finalize(statement);
    if (rc) {
        store_tokens_free(list, count);
        return rc;
    }
    *out = list;
    *n = count;
    return PH_OK;
}

#define COLUMNS "SELECT id, name, role, hash, created_at FROM tokens "

int store_token_list(store *s, store_token **out, size_t *n, ph_error *err) {
    return read_tokens(s, COLUMNS "ORDER BY id", "", NULL, out, n, err);
}

int store_token_find(store *s, const uint8_t hash[32], store_token *out, ph_error *err) {
    store_token *list;
    size_t n;
    *out = (store_token){0};
    int rc = read_tokens(s, COLUMNS "WHERE hash = ?", "h", hash, &list, &n, err);
    if (rc) return rc;
    if (n == 0)
        rc = ph_fail(err, PH_NOT_FOUND, "there is no such token");
    else {
        *out = list[0];
        n = 0;
    }
    if (n == 0) free(list);
    return rc;
}

int store_token_count(store *s, int64_t *n, ph_error *err) {
    return db_int(s, n, err, "SELECT count(*) FROM tokens", "");
}

/* "ph_" and 32 random bytes in the alphabet of URLs. */
static void make_token(char out[STORE_TOKEN_CHARACTERS + 1]) {
    uint8_t random[32];
    randombytes_buf(random, sizeof random);
    memcpy(out, "ph_", 3);
    sodium_bin2base64(out + 3, STORE_TOKEN_CHARACTERS + 1 - 3, random, sizeof random,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    sodium_memzero(random, sizeof random);
}

static int check_name(store *s, const char *name, ph_error *err) {
    size_t n = strlen(name);
    int64_t there = 0, all = 0;
    if (n == 0 || n > LONGEST_NAME || strspn(name, "0123456789") == n)
        return ph_fail(err, PH_USAGE, "a token's name has 1 to %d bytes and is no number", LONGEST_NAME);
    int rc = db_int(s, &there, err, "SELECT count(*) FROM tokens WHERE name = ?", "t", name);
    if (rc == PH_OK && there) rc = ph_fail(err, PH_USAGE, "there is a token %s already", name);
    if (rc == PH_OK) rc = store_token_count(s, &all, err);
    if (rc == PH_OK && all >= MOST_TOKENS)
        rc = ph_fail(err, PH_TOO_LARGE, "there are %d tokens already", MOST_TOKENS);
    return rc;
}

int store_token_add(store *s, const char *name, store_role role, char token[STORE_TOKEN_CHARACTERS + 1],
                    int64_t *id, ph_error *err) {
    char *clean = NULL;
    uint8_t hash[STORE_HASH_BYTES];
    int rc = clean_utf8(&clean, name, STORE_MAX_STRING, "a token's name", err);
    if (rc) return rc;
    if (sodium_init() < 0) rc = ph_fail(err, PH_FAIL, "libsodium cannot start");
    if (rc == PH_OK && (rc = store_begin(s, err)) == PH_OK) {
        rc = check_name(s, clean, err);
        bool refused = rc != PH_OK;
        if (rc == PH_OK) make_token(token);
        if (rc == PH_OK) rc = store_token_hash(s, token, STORE_TOKEN_CHARACTERS, hash, err);
        if (rc == PH_OK)
            rc = db_run(s, err, "INSERT INTO tokens (name, role, hash, created_at) VALUES (?, ?, ?, ?)",
                        "tihi", clean, (int64_t)role, hash, (int64_t)time(NULL));
        if (rc == PH_OK && id) *id = sqlite3_last_insert_rowid(s->db);
        if (rc == PH_OK)
            rc = store_commit(s, err);
        else if (refused)
            store_leave(s);
        else
            store_rollback(s);
    }
    if (rc) sodium_memzero(token, STORE_TOKEN_CHARACTERS + 1);
    free(clean);
    return rc;
}

/* Its questions, one after another. */
static int erase_questions(store *s, const uint8_t hash[32], store_receipt *receipt, ph_error *err) {
    int64_t answer = 0;
    for (;;) {
        int rc = db_int(s, &answer, err,
                        "SELECT a.id FROM answers a JOIN questions q ON q.id = a.question"
                        " JOIN conversations c ON c.id = q.conversation WHERE c.owner = ? LIMIT 1",
                        "h", hash);
        if (rc || !answer) return rc;
        if ((rc = erase_answer(s, answer, receipt, err))) return rc;
    }
}

int store_token_remove(store *s, const char *key, bool with_questions, store_receipt *receipt,
                       ph_error *err) {
    store_token *list;
    size_t n;
    store_receipt r = {0};
    if (receipt) *receipt = r;
    int rc = store_begin(s, err);
    if (rc) return rc;
    rc = read_tokens(s, COLUMNS "WHERE name = ?1 OR CAST(id AS TEXT) = ?1", "t", key, &list, &n, err);
    if (rc == PH_OK && n == 0) rc = ph_fail(err, PH_NOT_FOUND, "there is no token %s", key);
    if (rc) {
        store_leave(s);
        return rc;
    }
    if (with_questions) rc = erase_questions(s, list[0].hash, &r, err);
    if (rc == PH_OK) rc = db_run(s, err, "DELETE FROM tokens WHERE id = ?", "i", list[0].id);
    store_tokens_free(list, n);
    if (rc) {
        store_rollback(s);
        return rc;
    }
    if (receipt) *receipt = r;
    return store_commit(s, err);
}
