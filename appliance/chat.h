/* chat.h - the bare model: an answer to messages, and no documents but what they say. What any client of
 * OpenAI's form expects of a model; the appliance's own answers are answer.h's. */
#ifndef PHAROS_CHAT_H
#define PHAROS_CHAT_H

#include "appliance/answer.h"

typedef enum chat_role { CHAT_SYSTEM, CHAT_USER, CHAT_ASSISTANT } chat_role;

typedef struct chat_message {
    chat_role role;
    char *text; /* owned */
} chat_message;

void chat_messages_free(chat_message *list, size_t n);

/* Answers the last message, the user's. `kept` is where what was read stays between calls, so that messages
 * that begin alike are read once: *kept NULL at first, closed by the caller with context_close before the
 * engine. Of the options tokens, temperature, top_p, seed, progress and piece count. Filled of *out: answer,
 * usage, times. PH_TOO_LARGE has both sizes. */
int chat_answer(answer *out, context **kept, engine *e, const chat_message *list, size_t n,
                const answer_options *o, ph_error *err);

#endif
