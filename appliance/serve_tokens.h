/* serve_tokens.h - who may come in, where the server was started with tokens.
 *
 * The file has one token on a line, at least 16 characters, with a role before it or none:
 *
 *     manage 3f9c...      may do everything; a line without a role is this
 *     ask    77ab...      may ask and look, not add, erase or read others' questions
 *
 * Lines that begin with # are comments. Tokens are kept as hashes, and compared in constant time.
 */
#ifndef PHAROS_SERVE_TOKENS_H
#define PHAROS_SERVE_TOKENS_H

#include "kernels/error.h"

typedef enum role { ROLE_NONE, ROLE_ASK, ROLE_MANAGE } role;

typedef struct tokens tokens;

int tokens_load(tokens **out, const char *path, ph_error *err);
void tokens_free(tokens *t); /* NULL is fine */

/* `header` is the Authorization header (may be NULL). *number: which token, from 1. */
role tokens_role(const tokens *t, const char *header, int *number);

#endif
