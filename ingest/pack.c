/* pack.c - builds prompts from documents (pack.h). */
#include "ingest/pack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void pack_prompt_free(pack_prompt *p) { token_list_free(&p->tokens); }

int pack_prompt_begin(pack_prompt *p, const prompt_tokens *special, ph_error *err) {
    p->tokens.n = 0;
    int code = token_list_push(&p->tokens, special->bos, 0, true, err);
    return code ? code : token_list_push(&p->tokens, special->user, 0, true, err);
}

/* Encodes a piece of the template into `p`: its tokens start at no byte of the document. */
static int append_template(pack_prompt *p, const token_list *piece, ph_error *err) {
    for (size_t i = 0; i < piece->n; i++) {
        int code = token_list_push(&p->tokens, piece->ids[i], 0, true, err);
        if (code) return code;
    }
    return PH_OK;
}

static int header_tokens(const tokenizer *t, const char *name, int part, int parts, token_list *l, ph_error *err) {
    if (parts == 1) return prompt_document_header(t, name, l, err);
    char titled[1200];
    snprintf(titled, sizeof titled, "%.1000s (part %d of %d)", name, part, parts);
    return prompt_document_header(t, titled, l, err);
}

int pack_prompt_append(pack_prompt *p, const tokenizer *t, const char *name, const char *text, size_t start, size_t end,
                       int part, int parts, pack_span *span, ph_error *err) {
    token_list piece = {0};
    int code = header_tokens(t, name, part, parts, &piece, err);
    span->token_start = (int64_t)p->tokens.n;
    span->text_start = start;
    span->text_end = end;
    if (!code) code = append_template(p, &piece, err);
    span->text_token_start = (int64_t)p->tokens.n;
    if (!code) code = tokenizer_encode(t, text + start, end - start, TOKENIZE_OFFSETS, start, &p->tokens, err);
    span->text_token_end = (int64_t)p->tokens.n;
    piece.n = 0;
    if (!code) code = prompt_document_footer(t, &piece, err);
    if (!code) code = append_template(p, &piece, err);
    span->token_end = (int64_t)p->tokens.n;
    token_list_free(&piece);
    return code;
}

static int template_size(const tokenizer *t, const char *name, int part, int parts, int64_t *n, ph_error *err) {
    token_list l = {0};
    int code = header_tokens(t, name, part, parts, &l, err);
    if (!code) code = prompt_document_footer(t, &l, err);
    *n = (int64_t)l.n;
    token_list_free(&l);
    return code;
}

int pack_measure(const tokenizer *t, const char *name, const char *text, size_t len, int64_t *tokens, ph_error *err) {
    token_list l = {0};
    int64_t frame = 0;
    int code = template_size(t, name, 1, 1, &frame, err);
    if (!code) code = tokenizer_encode(t, text, len, 0, 0, &l, err);
    *tokens = frame + (int64_t)l.n;
    token_list_free(&l);
    return code;
}

/* The best place to cut at or before `at`, not before `low`: an empty line, else a line end, else a space, else a
 * character boundary. */
static size_t cut_before(const char *text, size_t low, size_t at) {
    for (size_t i = at; i > low + 1; i--)
        if (text[i - 1] == '\n' && text[i - 2] == '\n') return i;
    for (size_t i = at; i > low; i--)
        if (text[i - 1] == '\n') return i;
    for (size_t i = at; i > low; i--)
        if (text[i - 1] == ' ') return i;
    while (at > low && ((unsigned char)text[at] & 0xC0) == 0x80) at--;
    return at;
}

/* Where the next part ends so that its text, tokenised on its own, takes at most `room` tokens. */
static int next_cut(const tokenizer *t, const char *text, size_t start, size_t len, int64_t room, size_t *end,
                    ph_error *err) {
    /* Most text has four or five bytes a token: a piece of eight shows where to cut. Where tokens are longer, a
     * larger one is looked at. */
    size_t left = len - start, window = left / 8 > (size_t)room ? (size_t)room * 8 : left;
    token_list l = {0};
    int code = tokenizer_encode(t, text + start, window, TOKENIZE_OFFSETS, start, &l, err);
    while (!code && (int64_t)l.n <= room && window < left) {
        window = left / 4 > window ? window * 4 : left;
        l.n = 0;
        code = tokenizer_encode(t, text + start, window, TOKENIZE_OFFSETS, start, &l, err);
    }
    size_t at = start + window;
    if (!code && (int64_t)l.n > room) at = (size_t)l.start[room];
    /* Cutting moves a token boundary or two: look again until the part really fits. */
    for (int64_t slack = 0; !code; slack = slack * 2 + 8) {
        if (at < len) at = cut_before(text, at > start + 4096 ? at - 4096 : start, at);
        if (at <= start) {
            code = ph_fail(err, PH_TOO_LARGE, "a context of %lld tokens is too small for any text", (long long)room);
            break;
        }
        l.n = 0;
        code = tokenizer_encode(t, text + start, at - start, TOKENIZE_OFFSETS, start, &l, err);
        if (code || (int64_t)l.n <= room) break;
        at = room > slack ? (size_t)l.start[room - slack] : start;
    }
    token_list_free(&l);
    *end = at;
    return code;
}

int pack_cut(const tokenizer *t, const char *name, const char *text, size_t len, int64_t room, pack_progress progress,
             void *user, size_t **cut, int *parts, ph_error *err) {
    int64_t frame = 0;
    /* The longest header any part can have. */
    int code = template_size(t, name, 100000, 100000, &frame, err);
    if (code) return code;
    if (room <= frame)
        return ph_fail(err, PH_TOO_LARGE, "a context of %lld tokens is too small for any text under a header of %lld",
                       (long long)room, (long long)frame);
    size_t *at = malloc(2 * sizeof *at), capacity = 2;
    if (!at) return ph_fail(err, PH_MEMORY, "no memory to cut a document");
    int n = 0;
    at[0] = 0;
    while (!code && at[n] < len) {
        if ((size_t)n + 2 > capacity) {
            size_t *more = realloc(at, capacity * 2 * sizeof *at);
            if (!more) {
                code = ph_fail(err, PH_MEMORY, "no memory to cut a document");
                break;
            }
            at = more;
            capacity *= 2;
        }
        code = next_cut(t, text, at[n], len, room - frame, &at[n + 1], err);
        n++;
        if (!code && progress && progress(user, at[n], len))
            code = ph_fail(err, PH_INTERRUPTED, "stopped after cutting %zu of %zu bytes", at[n], len);
    }
    if (!code && n == 0) at[++n] = len;
    if (code) {
        free(at);
        return code;
    }
    *cut = at;
    *parts = n;
    return PH_OK;
}
