/* pack.h - documents into a prompt: tokens, and for every token the byte it comes from.
 *
 * A pack's prompt is  BOS <|User|> { header(name) text footer }*  (engine/prompt.h). Documents are whole and in a
 * stable order; one that is larger than a context is cut into parts at paragraph or line ends, each under a header
 * that says "(part 2 of 3)". Nothing is left out: the parts' byte ranges cover the text.
 */
#ifndef PHAROS_PACK_H
#define PHAROS_PACK_H

#include "engine/prompt.h"
#include "engine/tokenizer.h"

#include <stddef.h>
#include <stdint.h>

/* Where a document, or a part of one, stands in a prompt. */
typedef struct pack_span {
    int64_t token_start, token_end;           /* header and footer included */
    int64_t text_token_start, text_token_end; /* the text alone */
    size_t text_start, text_end;              /* bytes of the document's text */
} pack_span;

/* A prompt under construction. Zero-initialise; free with pack_prompt_free. tokens.start[i] is the byte of the
 * document's text at which token i starts (0 for tokens outside a text). */
typedef struct pack_prompt {
    token_list tokens;
} pack_prompt;

void pack_prompt_free(pack_prompt *p);
int pack_prompt_begin(pack_prompt *p, const prompt_tokens *special, ph_error *err);

/* Appends text[start, end) of a document under its header. part/parts: 1 of 1 for a whole document. */
int pack_prompt_append(pack_prompt *p, const tokenizer *t, const char *name, const char *text, size_t start, size_t end,
                       int part, int parts, pack_span *span, ph_error *err);

/* Bytes of a text that have been cut. Non-zero stops with PH_INTERRUPTED. */
typedef int (*pack_progress)(void *user, size_t done, size_t total);

/* Cuts text[len] into the fewest parts of which each takes at most `room` tokens with header and footer: cut[0] = 0,
 * ..., cut[parts] = len. *cut is owned by the caller. PH_TOO_LARGE when room is too small for any text. progress may be
 * NULL. */
int pack_cut(const tokenizer *t, const char *name, const char *text, size_t len, int64_t room, pack_progress progress,
             void *user, size_t **cut, int *parts, ph_error *err);

/* Tokens that the whole document would take, header and footer included. */
int pack_measure(const tokenizer *t, const char *name, const char *text, size_t len, int64_t *tokens, ph_error *err);

#endif
