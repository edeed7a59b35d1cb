/* serve_tokens.h - who may come in, where there are tokens: those of the store (`pharos token`), and those of
 * a file.
 *
 * The file has one token on a line, at least 16 characters, with a role before it or none:
 *
 *     manage 3f9c...      may do everything with documents; a line without a role is this
 *     ask    77ab...      may ask and look, not add or erase
 *
 * Lines that begin with # are comments. A token is known by its hash under the store's key, and so are its
 * questions: everyone sees their own only, whatever the role. Once there has been a token, nobody comes in
 * without one.
 */
#ifndef PHAROS_SERVE_TOKENS_H
#define PHAROS_SERVE_TOKENS_H

#include "store/store.h"

typedef enum role { ROLE_NONE, ROLE_ASK, ROLE_MANAGE } role;

typedef struct tokens tokens;

/* path NULL = no file. */
int tokens_open(tokens **out, const char *path, store *s, ph_error *err);
void tokens_free(tokens *t); /* NULL is fine */

/* Whether one is needed: asks the store, for they come and go while a server runs. Any thread. */
int tokens_needed(tokens *t, store *s, bool *needed, ph_error *err);
/* `header` is the Authorization header (may be NULL). owner filled where there is a role. */
int tokens_role(const tokens *t, store *s, const char *header, role *out, uint8_t owner[32], ph_error *err);

#endif
