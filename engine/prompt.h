/* prompt.h - the release's prompt encoding and file template, as token pieces.
 *
 *   BOS <|User|> { header(name) text footer }* question <|Assistant|> </think> answer EOS
 *   follow-up turns:   <|User|> question <|Assistant|> </think> answer EOS
 *   thinking mode:     ... question <|Assistant|> <think> thought </think> answer EOS
 *
 * (the bars are the release's full-width U+FF5C). header = "[file name]: NAME\n[file content begin]\n",
 * footer = "\n[file content end]\n". Header, text, footer and question are tokenised apart, so that a document's
 * tokens are the same wherever it stands and a pack can be appended to without reading anything again.
 * Source: encoding and file template of the DeepSeek-V3.2 release.
 */
#ifndef PHAROS_PROMPT_H
#define PHAROS_PROMPT_H

#include "engine/tokenizer.h"

#include <stddef.h>

/* Part of a snapshot's key: change it with the template. */
#define PROMPT_TEMPLATE_VERSION 1

typedef struct prompt_tokens {
    int32_t bos, eos, user, assistant, think_end;
    int32_t think_begin; /* -1: the tokenizer has none, and there is no thinking mode */
} prompt_tokens;

/* Looks the special tokens up; PH_MODEL names the one that is missing. */
int prompt_tokens_find(prompt_tokens *out, const tokenizer *t, ph_error *err);

int prompt_begin(const prompt_tokens *p, token_list *l, ph_error *err);       /* BOS <|User|> */
/* Control characters and newlines in a name become spaces, so that a name cannot forge a header. */
int prompt_document_header(const tokenizer *t, const char *name, token_list *l, ph_error *err);
int prompt_document_footer(const tokenizer *t, token_list *l, ph_error *err);
/* question <|Assistant|> </think>, or what the flags make of it. */
enum {
    PROMPT_FOLLOW_UP = 1, /* <|User|> before it */
    PROMPT_THINKING = 2,  /* <think> at its end; PH_MODEL where the tokenizer has none */
};
int prompt_question(const prompt_tokens *p, const tokenizer *t, const char *question, size_t len, unsigned flags,
                    token_list *l, ph_error *err);

#endif
