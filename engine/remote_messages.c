/* remote_messages.c - tokens back into the messages of a chat (remote_internal.h). */
#include "engine/remote_internal.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* A message under construction. */
typedef struct message {
    const char *role; /* NULL = none has begun */
    char *text;
    size_t len, capacity;
} message;

static int append(message *m, const char *s, size_t n, ph_error *err) {
    if (m->len + n + 1 > m->capacity) {
        size_t capacity = (m->len + n + 1) * 2;
        char *more = realloc(m->text, capacity);
        if (!more) return ph_fail(err, PH_MEMORY, "no memory for a message of %zu bytes", capacity);
        m->text = more;
        m->capacity = capacity;
    }
    memcpy(m->text + m->len, s, n);
    m->len += n;
    m->text[m->len] = 0;
    return PH_OK;
}

/* A string of JSON holds characters only: a byte that is part of none becomes U+FFFD. */
static json_t *text_json(const char *s, size_t n) {
    char *out = malloc(n * 3 + 1);
    size_t at = 0;
    if (!out) return NULL;
    for (size_t i = 0; i < n;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t k = utf8proc_iterate((const utf8proc_uint8_t *)s + i, (utf8proc_ssize_t)(n - i), &c);
        memcpy(out + at, k > 0 ? s + i : "\xEF\xBF\xBD", k > 0 ? (size_t)k : 3);
        at += k > 0 ? (size_t)k : 3;
        i += k > 0 ? (size_t)k : 1;
    }
    json_t *value = json_stringn(out, at);
    free(out);
    return value;
}

static int end_message(message *m, json_t *list, ph_error *err) {
    if (!m->role) return PH_OK;
    json_t *one =
        json_pack("{s:s, s:o}", "role", m->role, "content", text_json(m->text ? m->text : "", m->len));
    m->role = NULL;
    m->len = 0;
    if (!one || json_array_append_new(list, one)) return ph_fail(err, PH_MEMORY, "no memory for a message");
    return PH_OK;
}

static int take_token(message *m, json_t *list, const engine *e, int32_t token, ph_error *err) {
    const prompt_tokens *p = &e->prompt;
    if (token == p->bos) return PH_OK;
    if (token == p->user || token == p->assistant) {
        int code = end_message(m, list, err);
        m->role = token == p->user ? "user" : "assistant";
        return code;
    }
    if (token == p->eos) return end_message(m, list, err);
    /* <think> and its end are the server's to write. */
    if (token == p->think_end || token == p->think_begin || tokenizer_is_special(e->tokenizer, token))
        return PH_OK;
    size_t n = 0;
    const char *piece = tokenizer_piece(e->tokenizer, token, &n);
    if (!m->role) m->role = "user";
    return n ? append(m, piece, n, err) : PH_OK;
}

json_t *remote_messages(const engine *e, const int32_t *tokens, size_t n, const char *system, ph_error *err) {
    json_t *list = json_array();
    message m = {0};
    int code = list ? PH_OK : ph_fail(err, PH_MEMORY, "no memory for messages");
    if (!code && system && system[0]) {
        m.role = "system";
        code = append(&m, system, strlen(system), err);
        if (!code) code = end_message(&m, list, err);
    }
    for (size_t i = 0; i < n && !code; i++) code = take_token(&m, list, e, tokens[i], err);
    if (!code && m.role && !strcmp(m.role, "user")) code = end_message(&m, list, err);
    if (!code && m.role && m.len)
        code = ph_fail(err, PH_UNSUPPORTED,
                       "a remote model cannot be made to go on with an answer that was begun for it");
    if (!code && json_array_size(list) == 0)
        code = ph_fail(err, PH_USAGE, "nothing was fed: there is nothing to answer");
    free(m.text);
    if (!code) return list;
    json_decref(list);
    return NULL;
}
