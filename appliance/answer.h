/* answer.h - a question in, an answer with citations and a trace out. The main path; see answer.c. */
#ifndef PHAROS_ANSWER_H
#define PHAROS_ANSWER_H

#include "appliance/citations.h"
#include "appliance/read_set.h"
#include "appliance/stop_text.h"
#include "appliance/thinking.h"
#include "appliance/turns.h"

/* The model's reply when nothing in the documents answers. */
#define ANSWER_NOT_FOUND "Not found in the documents."

typedef enum answer_phase { PHASE_READING, PHASE_ASKING, PHASE_WRITING } answer_phase;

/* How far it is. READING: done of total tokens of the pack, `cached` of them not read again. Non-zero stops.
 */
typedef int (*answer_progress)(void *user, answer_phase phase, int64_t done, int64_t total, int64_t cached);
/* Each piece of the answer as it is written (bytes; a piece may end inside a character). */
typedef void (*answer_piece)(void *user, const char *piece, size_t len);

typedef struct answer_options {
    const int64_t *documents; /* answer from these only; NULL = all */
    size_t n_documents;
    int64_t pack;             /* this pack only; 0 = choose */
    const answer_turn *turns; /* [n_turns] what was said before, oldest first */
    size_t n_turns;
    /* Or: the stored answer, of the same owner, that the question goes on from. What was said before is taken
     * from the store then (turns.h), and `turns` does not count. 0 = none */
    int64_t follows;
    int max_packs; /* at most so many packs are asked; 0 = 3 */
    answer_thinking thinking;
    bool whole;               /* look at the whole pack at once, not at promising passages first */
    int max_tokens;           /* 0 = 256 */
    float temperature, top_p; /* 0 and 0 = greedy */
    uint64_t seed;
    stop_texts stops;         /* the answer ends before the first of these */
    bool full_trace;          /* keep every selected position, not the heaviest only */
    bool discard;             /* do not store question and answer */
    uint8_t owner[32];        /* whose question it is (store.h); zeros = nobody's */
    answer_progress progress; /* may be NULL */
    answer_piece piece;       /* may be NULL; called only when one pack is asked */
    answer_piece thought;     /* may be NULL: the thought as a whole, before the first piece */
    void *user;
} answer_options;

/* Zero-initialise; free with answer_free. */
typedef struct answer {
    store_answer row; /* question, answer, found, citations, usage, timing */
    answer_trace trace;
    answer_trace thought; /* of what was written before the answer; thought.text NULL or "" = nothing */
    loaded_pack pack;     /* the pack that was answered from, for showing places */
    read_sentence *read;  /* heaviest first; into pack */
    size_t n_read;
    double confidence;  /* mean probability of the answer's tokens; 0 = a served model does not tell */
    char untraced[480]; /* why nobody knows what was read: then there is no trace and no read set; "" = it is
                           known */
    int packs_asked, packs_all;
    bool cut_off;     /* the longest answer allowed was reached before the model ended it */
    int passages;     /* selection was limited to so many passages that full text found; 0 = whole pack */
    const char *note; /* something a person should know (a snapshot was not believed), or NULL */
} answer;

int answer_question(answer *out, store *s, engine *e, const char *question, const answer_options *options,
                    ph_error *err);
void answer_free(answer *a);

#endif
