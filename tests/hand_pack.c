#include "tests/hand_pack.h"

#include <stdlib.h>
#include <string.h>

static void push(token_list *l, uint64_t start) {
    if (l->n == l->capacity) {
        l->capacity = l->capacity ? l->capacity * 2 : 64;
        l->ids = realloc(l->ids, l->capacity * sizeof *l->ids);
        l->start = realloc(l->start, l->capacity * sizeof *l->start);
        if (!l->ids || !l->start) abort();
    }
    l->ids[l->n] = (int32_t)l->n;
    l->start[l->n++] = start;
}

static void push_frame(token_list *l, int n) {
    for (int i = 0; i < n; i++) push(l, 0);
}

/* Stops and line ends are tokens of their own; a space belongs to the word after it. */
static int begins_token(const char *text, size_t start, size_t i) {
    if (i == start) return 1;
    if (strchr(".,;:!?\n", text[i])) return 1;
    if (text[i] == ' ') return 1;
    return text[i - 1] == '\n';
}

void hand_pack_make(loaded_pack *out, const hand_text *texts, size_t n) {
    memset(out, 0, sizeof *out);
    token_list *l = &out->prompt.tokens;
    out->texts = calloc(n ? n : 1, sizeof *out->texts);
    push_frame(l, 2);
    for (size_t k = 0; k < n; k++) {
        pack_text *t = &out->texts[out->n_texts++];
        t->document = texts[k].document;
        t->name = strdup(texts[k].name);
        t->text = strdup(texts[k].text);
        t->len = strlen(t->text);
        pack_span *s = &t->span;
        s->text_start = texts[k].start;
        s->text_end = texts[k].end ? texts[k].end : t->len;
        s->token_start = (int64_t)l->n;
        push_frame(l, HAND_HEADER);
        s->text_token_start = (int64_t)l->n;
        for (size_t i = s->text_start; i < s->text_end; i++)
            if (begins_token(t->text, s->text_start, i)) push(l, i);
        s->text_token_end = (int64_t)l->n;
        push_frame(l, HAND_FOOTER);
        s->token_end = (int64_t)l->n;
    }
    out->row.id = 1;
    out->row.tokens = (int64_t)l->n;
}

int64_t hand_token(const loaded_pack *p, size_t which, const char *word, int nth) {
    const pack_text *t = &p->texts[which];
    const char *at = t->text - 1;
    for (int i = 0; i <= nth; i++)
        if (!(at = strstr(at + 1, word))) abort();
    size_t byte = (size_t)(at - t->text);
    int64_t found = -1;
    for (int64_t i = t->span.text_token_start; i < t->span.text_token_end; i++)
        if (p->prompt.tokens.start[i] <= byte) found = i;
    if (found < 0) abort();
    return found;
}
