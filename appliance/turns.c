/* turns.c - see turns.h. */
#include "appliance/turns.h"

#include "appliance/library.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int64_t turns_room(const engine *e) {
    return library_reserve(e) / 2;
}

static int encode_turn(token_list *out, engine *e, const answer_turn *t, unsigned flags, ph_error *err) {
    const tokenizer *k = engine_tokenizer(e);
    int code = prompt_question(engine_prompt(e), k, t->question, strlen(t->question), flags, out, err);
    if (!code) code = tokenizer_encode(k, t->answer, strlen(t->answer), 0, 0, out, err);
    return code ? code : token_list_push(out, engine_prompt(e)->eos, 0, false, err);
}

int turns_encode(token_list *out, engine *e, const answer_turn *turns, size_t n, ph_error *err) {
    int code = PH_OK;
    for (size_t i = 0; i < n && !code; i++)
        code = encode_turn(out, e, &turns[i], i > 0 ? PROMPT_FOLLOW_UP : 0, err);
    return code;
}

/* ---- from what is stored ---- */

static int get_own(store *s, int64_t id, const uint8_t owner[32], store_answer *row, ph_error *err) {
    int code = store_answer_get(s, id, row, err);
    bool own = !code && !memcmp(row->owner, owner, sizeof row->owner);
    if (own || (code && code != PH_NOT_FOUND)) return code;
    store_answer_free(row);
    return ph_fail(err, PH_NOT_FOUND, "there is no answer %lld of yours to follow (any more)", (long long)id);
}

int turns_check(store *s, int64_t answer, const uint8_t owner[32], ph_error *err) {
    store_answer row = {0};
    int code = get_own(s, answer, owner, &row, err);
    store_answer_free(&row);
    return code;
}

/* Newest first; the strings change hands. */
static int add_turn(turn_list *out, store_answer *row, ph_error *err) {
    answer_turn *more = realloc(out->turns, (out->n + 1) * sizeof *more);
    if (!more) return ph_fail(err, PH_MEMORY, "no memory for a conversation");
    out->turns = more;
    more[out->n++] = (answer_turn){row->question, row->answer};
    row->question = row->answer = NULL;
    return PH_OK;
}

static void reverse(turn_list *t) {
    for (size_t i = 0; i < t->n / 2; i++) {
        answer_turn swapped = t->turns[i];
        t->turns[i] = t->turns[t->n - 1 - i];
        t->turns[t->n - 1 - i] = swapped;
    }
}

int turns_follow(turn_list *out, store *s, engine *e, int64_t answer, const uint8_t owner[32],
                 ph_error *err) {
    token_list tokens = {0};
    int64_t room = turns_room(e);
    int code = PH_OK;
    for (int64_t id = answer, next; id && !code; id = next) {
        store_answer row = {0};
        code = get_own(s, id, owner, &row, err);
        next = row.follows;
        if (!code && next >= id)
            code = ph_fail(err, PH_CORRUPT, "answer %lld follows answer %lld, which is no earlier one",
                           (long long)id, (long long)next);
        answer_turn turn = {row.question, row.answer};
        /* One that does not fit leaves all before it out: a gap would change what is said. */
        if (!code && !out->left_out) code = encode_turn(&tokens, e, &turn, next ? PROMPT_FOLLOW_UP : 0, err);
        bool fits = !out->left_out && (int64_t)tokens.n <= room;
        if (!code && !fits && id == answer)
            code = ph_fail(
                err, PH_TOO_LARGE,
                "the question that is followed takes %zu tokens with its answer, and at most %lld of a "
                "conversation are sent along: ask a new question",
                tokens.n, (long long)room);
        else if (!code && fits)
            code = add_turn(out, &row, err);
        else if (!code)
            out->left_out++;
        store_answer_free(&row);
    }
    token_list_free(&tokens);
    reverse(out);
    if (code) turn_list_free(out);
    return code;
}

void turn_list_free(turn_list *t) {
    for (size_t i = 0; i < t->n; i++) {
        free((char *)t->turns[i].question);
        free((char *)t->turns[i].answer);
    }
    free(t->turns);
    *t = (turn_list){0};
}
