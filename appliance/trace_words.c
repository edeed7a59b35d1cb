/* trace_words.c - groups a trace's tokens into words (trace_words.h). */
#include "appliance/trace_words.h"

#include <stdlib.h>

static bool is_space(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

/* CJK punctuation and everything above it: no spaces stand between words there, so each character is one. */
static bool stands_alone(unsigned char first_byte) {
    return first_byte >= 0xE3;
}

static bool begins_word(const answer_trace *t, size_t i, const trace_word *current) {
    const trace_token *token = &t->tokens[i];
    if (token->piece_len == 0) return false;
    char first = t->text[token->piece_start];
    /* White space on its own waits for the word that follows it. */
    bool empty = true;
    for (size_t k = t->tokens[current->token_start].piece_start; k < token->piece_start; k++)
        empty &= is_space(t->text[k]);
    if (empty) return false;
    return is_space(first) || stands_alone((unsigned char)first);
}

static void trim(const answer_trace *t, trace_word *w) {
    const trace_token *first = &t->tokens[w->token_start], *last = &t->tokens[w->token_end - 1];
    w->start = first->piece_start;
    w->end = (size_t)last->piece_start + last->piece_len;
    while (w->start < w->end && is_space(t->text[w->start])) w->start++;
    while (w->end > w->start && is_space(t->text[w->end - 1])) w->end--;
}

int trace_words_make(trace_word **out, size_t *n, const answer_trace *t, ph_error *err) {
    *n = 0;
    *out = malloc((t->n_tokens ? t->n_tokens : 1) * sizeof **out);
    if (!*out) return ph_fail(err, PH_MEMORY, "no memory for the words of %zu tokens", t->n_tokens);
    for (size_t i = 0; i < t->n_tokens; i++) {
        if (*n == 0 || begins_word(t, i, &(*out)[*n - 1])) (*out)[(*n)++].token_start = i;
        (*out)[*n - 1].token_end = i + 1;
    }
    for (size_t i = 0; i < *n; i++) trim(t, &(*out)[i]);
    return PH_OK;
}

double trace_on_documents(const answer_trace *t, const loaded_pack *p, size_t from, size_t to, int layer) {
    double on = 0;
    size_t rows = 0;
    for (size_t i = from; i < to && i < t->n_tokens; i++) {
        for (int l = 0; l < t->layers; l++) {
            if (layer >= 0 && l != layer) continue;
            const trace_entry *e = t->entries + (i * (size_t)t->layers + (size_t)l) * (size_t)t->keep;
            for (int j = 0; j < t->keep && e[j].position >= 0; j++)
                if (pack_text_at(p, e[j].position, NULL)) on += e[j].mass;
            rows++; /* a row's masses sum to 1 */
        }
    }
    return rows ? on / (double)rows : 0;
}
