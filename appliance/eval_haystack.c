/* eval_haystack.c - see eval_haystack.h. */
#include "appliance/eval_haystack.h"

#include "ingest/sentences.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

void eval_pieces_free(eval_pieces *p) {
    for (size_t i = 0; i < p->n; i++) {
        free(p->list[i].name);
        free(p->list[i].text);
    }
    free(p->list);
    memset(p, 0, sizeof *p);
}

int eval_pieces_add(eval_pieces *p, const char *name, const char *text, size_t len, ph_error *err) {
    if (p->n % 64 == 0) {
        eval_piece *more = realloc(p->list, (p->n + 64) * sizeof *more);
        if (!more) return ph_fail(err, PH_MEMORY, "no memory for a haystack");
        p->list = more;
    }
    eval_piece piece = {strdup(name), malloc(len + 1), len};
    if (!piece.name || !piece.text) {
        free(piece.name);
        free(piece.text);
        return ph_fail(err, PH_MEMORY, "no memory for a haystack");
    }
    memcpy(piece.text, text, len);
    piece.text[len] = 0;
    p->list[p->n++] = piece;
    return PH_OK;
}

void eval_pieces_shuffle(eval_pieces *p, eval_random *r) {
    for (size_t i = p->n; i > 1; i--) {
        size_t j = eval_below(r, i);
        eval_piece swap = p->list[i - 1];
        p->list[i - 1] = p->list[j];
        p->list[j] = swap;
    }
}

int64_t eval_count_tokens(const eval_plan *plan, const char *text, ph_error *err) {
    token_list l = {0};
    int code = tokenizer_encode(engine_tokenizer(plan->engine), text, strlen(text), 0, 0, &l, err);
    int64_t n = code ? -1 : (int64_t)l.n;
    token_list_free(&l);
    return n;
}

/* The longest beginning of text[len] that takes at most `room` tokens; its tokens in *tokens. */
static int longest_prefix(const tokenizer *t, const char *text, size_t len, int64_t room, size_t *out,
                          int64_t *tokens, ph_error *err) {
    /* Much more text than any vocabulary puts into a token is not looked at. */
    size_t window = len, most = (size_t)room * 24 + 64;
    if (window > most) window = most;
    token_list l = {0};
    int code = tokenizer_encode(t, text, window, TOKENIZE_OFFSETS, 0, &l, err);
    size_t end = window;
    /* Cutting moves a token boundary or two: look again until the part really fits. */
    for (int64_t slack = 0; !code && (int64_t)l.n > room; slack++) {
        end = room > slack ? (size_t)l.start[room - slack] : 0;
        while (end > 0 && ((unsigned char)text[end] & 0xC0) == 0x80) end--;
        l.n = 0;
        code = tokenizer_encode(t, text, end, TOKENIZE_OFFSETS, 0, &l, err);
    }
    *out = end;
    *tokens = (int64_t)l.n;
    token_list_free(&l);
    return code;
}

int eval_pieces_fill(eval_pieces *p, const eval_plan *plan, int64_t tokens, int sample, ph_error *err) {
    enum { SMALLEST = 24 };
    const tokenizer *t = engine_tokenizer(plan->engine);
    const eval_texts *texts = &plan->texts;
    size_t *order = malloc(texts->n * sizeof *order);
    if (!order) return ph_fail(err, PH_MEMORY, "no memory for a haystack");
    for (size_t i = 0; i < texts->n; i++) order[i] = i;
    eval_random r = eval_stream(plan->params->seed, "order of texts", sample, 0);
    for (size_t i = sample ? texts->n : 0; i > 1; i--) {
        size_t j = eval_below(&r, i), swap = order[i - 1];
        order[i - 1] = order[j];
        order[j] = swap;
    }
    int code = PH_OK;
    for (size_t i = 0; !code && tokens > 0; i++) {
        const eval_text *from = &texts->list[order[i % texts->n]];
        char name[320];
        size_t round = i / texts->n + 1;
        if (round > 1)
            snprintf(name, sizeof name, "copy %zu/%.250s", round, from->name);
        else
            snprintf(name, sizeof name, "%.250s", from->name);
        int64_t frame = 0, used = 0;
        size_t take = 0;
        code = pack_measure(t, name, "", 0, &frame, err);
        if (code || tokens < frame + SMALLEST) break;
        code = longest_prefix(t, from->text, from->len, tokens - frame, &take, &used, err);
        if (!code && take == 0) break;
        if (!code) code = eval_pieces_add(p, name, from->text, take, err);
        tokens -= frame + used;
    }
    free(order);
    if (!code && p->n == 0) code = ph_fail(err, PH_USAGE, "the length leaves no room for a haystack");
    return code;
}

static bool space(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

void eval_pieces_depth(const eval_pieces *p, double depth, size_t *piece, size_t *byte) {
    size_t all = 0, i = 0;
    for (size_t k = 0; k < p->n; k++) all += p->list[k].len;
    size_t at = depth >= 100 ? all : (size_t)((double)all * depth / 100);
    while (i + 1 < p->n && at > p->list[i].len) at -= p->list[i++].len;
    const eval_piece *in = &p->list[i];
    if (at < in->len && at > 0) {
        text_span s = sentence_at(in->text, in->len, at);
        if (s.start <= at) at = s.start;
    }
    while (at > 0 && space(in->text[at - 1])) at--;
    *piece = i;
    *byte = at;
}

int eval_pieces_insert(eval_pieces *p, size_t piece, size_t byte, const char *sentence, size_t *at,
                       ph_error *err) {
    eval_piece *in = &p->list[piece];
    size_t n = strlen(sentence);
    char *text = malloc(in->len + n + 2);
    if (!text) return ph_fail(err, PH_MEMORY, "no memory for a haystack");
    /* " sentence" after what precedes, or "sentence " at the very beginning. */
    bool first = byte == 0;
    memcpy(text, in->text, byte);
    *at = first ? 0 : byte + 1;
    text[byte] = ' ';
    memcpy(text + *at, sentence, n);
    if (first) text[n] = ' ';
    memcpy(text + byte + n + 1, in->text + byte, in->len - byte + 1);
    free(in->text);
    in->text = text;
    in->len += n + 1;
    return PH_OK;
}

int eval_haystack_build(eval_haystack *h, const eval_plan *plan, eval_pieces *p, ph_error *err) {
    int code = pack_prompt_begin(&h->pack.prompt, engine_prompt(plan->engine), err);
    h->pack.texts = calloc(p->n + 1, sizeof *h->pack.texts);
    if (!code && !h->pack.texts) code = ph_fail(err, PH_MEMORY, "no memory for a haystack");
    for (size_t i = 0; i < p->n && !code; i++) {
        pack_text *t = &h->pack.texts[h->pack.n_texts++];
        *t = (pack_text){.name = p->list[i].name, .text = p->list[i].text, .len = p->list[i].len};
        p->list[i] = (eval_piece){0};
        for (size_t k = 0; k < t->len; k++) h->characters += ((unsigned char)t->text[k] & 0xC0) != 0x80;
        code = pack_prompt_append(&h->pack.prompt, engine_tokenizer(plan->engine), t->name, t->text, 0,
                                  t->len, 1, 1, &t->span, err);
    }
    return code;
}

eval_span eval_token_span(const loaded_pack *p, int text, size_t start, size_t end) {
    const pack_text *t = &p->texts[text];
    int64_t first = pack_token_at(p, t, start), last = pack_token_at(p, t, end);
    /* The token that a span begins inside of starts before it. */
    if (first > t->span.text_token_start &&
        (first == t->span.text_token_end || p->prompt.tokens.start[first] > start))
        first--;
    return (eval_span){first, last > first ? last : first + 1};
}

void eval_question_places(eval_question *q, const loaded_pack *p, int text, const eval_qa *qa) {
    const char *in = p->texts[text].text;
    for (size_t i = 0; i < qa->n_answers && q->n_spans < EVAL_MAX_SPANS; i++) {
        const char *at = strstr(in, qa->answers[i]);
        if (!at) at = eval_find(in, qa->answers[i]);
        if (!at) continue;
        size_t from = (size_t)(at - in), end = from + strlen(qa->answers[i]);
        if (from < p->texts[text].span.text_start || end > p->texts[text].span.text_end) continue;
        q->spans[q->n_spans++] = eval_token_span(p, text, from, end);
    }
}

eval_question *eval_haystack_ask(eval_haystack *h, const char *task, const char *question, ph_error *err) {
    eval_question *more = realloc(h->questions, (h->n + 1) * sizeof *more);
    if (more) h->questions = more;
    char *copy = strdup(question);
    if (!more || !copy) {
        free(copy);
        ph_fail(err, PH_MEMORY, "no memory for a question");
        return NULL;
    }
    more[h->n] = (eval_question){.task = task, .question = copy, .depth = -1, .text = -1};
    return &more[h->n++];
}

int eval_question_answer(eval_question *q, const char *answer, ph_error *err) {
    char **more = realloc(q->answers, (q->n_answers + 1) * sizeof *more);
    if (more) q->answers = more;
    if (!more || !(more[q->n_answers] = strdup(answer)))
        return ph_fail(err, PH_MEMORY, "no memory for an answer");
    q->n_answers++;
    return PH_OK;
}

void eval_haystack_free(eval_haystack *h) {
    for (size_t i = 0; i < h->n; i++) {
        eval_question *q = &h->questions[i];
        for (size_t k = 0; k < q->n_answers; k++) free(q->answers[k]);
        free(q->answers);
        free(q->question);
        free(q->prefix);
    }
    free(h->questions);
    pack_unload(&h->pack);
    memset(h, 0, sizeof *h);
}

const char *eval_find(const char *text, const char *what) {
    return strcasestr(text, what);
}
