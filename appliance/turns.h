/* turns.h - what was asked and answered before in a conversation: as the model is given it, and from what is
 * stored. */
#ifndef PHAROS_TURNS_H
#define PHAROS_TURNS_H

#include "engine/engine.h"
#include "store/store.h"

/* An earlier question of the same conversation, and what was answered. */
typedef struct answer_turn {
    const char *question, *answer;
} answer_turn;

/* Appends the turns, oldest first, each as the model was taught to see it (prompt.h): question <|Assistant|>
 * </think> answer EOS, from the second on behind <|User|>. */
int turns_encode(token_list *out, engine *e, const answer_turn *turns, size_t n, ph_error *err);

/* Zero-initialise; free with turn_list_free. */
typedef struct turn_list {
    answer_turn *turns; /* [n] oldest first; the strings are the list's */
    size_t n;
    size_t left_out; /* how many still earlier ones there are that do not fit */
} turn_list;

/* PH_NOT_FOUND where there is no such answer of this owner's (zeros = asked without a token). */
int turns_check(store *s, int64_t answer, const uint8_t owner[32], ph_error *err);

/* The exchange that is followed and those that it went on from, as many of the latest as take no more tokens
 * than turns_room. PH_NOT_FOUND as turns_check; PH_TOO_LARGE, with both sizes, where the one that is followed
 * takes more alone: without it the question would be another. */
int turns_follow(turn_list *out, store *s, engine *e, int64_t answer, const uint8_t owner[32], ph_error *err);
void turn_list_free(turn_list *t);

/* Tokens: half of what every pack leaves for question and answer. */
int64_t turns_room(const engine *e);

#endif
