/* show.c - prints answers and where they came from (show.h). */
#include "appliance/show.h"

#include "ingest/sentences.h"

#include <stdlib.h>
#include <string.h>

enum { SENTENCE_SHOWN = 300 }; /* bytes; the place says where the rest is */

static const pack_text *text_of(const answer *a, const store_citation *c) {
    for (size_t i = 0; i < a->pack.n_texts; i++) {
        const pack_text *t = &a->pack.texts[i];
        if (t->document == c->document && c->start >= t->span.text_start && c->start < t->span.text_end)
            return t;
    }
    return NULL;
}

static void print_cleaned(FILE *out, const char *s, size_t n) {
    char *text = printable(s, n);
    fputs(text ? text : "?", out);
    free(text);
}

/* Steps back to where a character begins. */
static size_t boundary(const char *s, size_t at) {
    while (at > 0 && ((unsigned char)s[at] & 0xC0) == 0x80) at--;
    return at;
}

/* The sentence around [start, end), cut to what a reader takes in, with the quote marked. */
static void print_in_sentence(const pack_text *t, size_t start, size_t end, FILE *out) {
    text_span s = sentence_at(t->text, t->len, start);
    if (s.end < end) s.end = end;
    size_t from = s.start, to = s.end;
    if (end - start >= SENTENCE_SHOWN) {
        from = start;
        to = end;
    } else if (to - from > SENTENCE_SHOWN) {
        size_t side = (SENTENCE_SHOWN - (end - start)) / 2;
        if (start - from > side) from = boundary(t->text, start - side);
        if (to - end > side) to = boundary(t->text, end + side);
    }
    bool color = use_color(out);
    if (from > s.start) fputs("... ", out);
    print_cleaned(out, t->text + from, start - from);
    fputs(color ? "\033[1m" : "[", out);
    print_cleaned(out, t->text + start, end - start);
    fputs(color ? "\033[0m" : "]", out);
    print_cleaned(out, t->text + end, to - end);
    if (to < s.end) fputs(" ...", out);
    fputc('\n', out);
}

static void print_place(FILE *out, const char *name, uint32_t page) {
    print_cleaned(out, name, strlen(name));
    if (page) fprintf(out, ", page %u", page);
}

static void show_citation(const answer *a, const store_citation *c, size_t number, FILE *out) {
    fprintf(out, "  [%zu] ", number);
    if (!c->document) {
        fputs("\"", out);
        print_cleaned(out, c->quote, strlen(c->quote));
        fputs("\"\n      these words stand in none of the documents\n", out);
        return;
    }
    print_place(out, c->document_name, c->page);
    fprintf(out, ", byte %llu\n      ", (unsigned long long)c->start);
    const pack_text *t = text_of(a, c);
    if (t) print_in_sentence(t, c->start, c->end, out);
    if (c->in_text)
        fputs("      the quote stands there", out);
    else
        fputs("      these words do not stand there; it is the sentence read most", out);
    if (c->untraced)
        fputs("; whether it was read is not known\n", out);
    else if (c->in_read_set)
        fprintf(out, "; it was read: %.1f%% of the attention, %.0f times its share\n", 100 * c->mass,
                c->lift);
    else
        fputs("; it is not in the read set\n", out);
}

void show_read_set(const read_sentence *list, size_t n, FILE *out) {
    for (size_t i = 0; i < n; i++) {
        fprintf(out, "  %5.1f%%  x%-6.0f ", 100 * list[i].mass, list[i].lift);
        print_cleaned(out, list[i].text->name, strlen(list[i].text->name));
        fputs(": ", out);
        size_t len = list[i].end - list[i].start;
        const char *s = list[i].text->text + list[i].start;
        bool cut = len > 160;
        print_cleaned(out, s, cut ? boundary(s, 160) : len);
        fputs(cut ? " ...\n" : "\n", out);
    }
}

void show_sources(const answer *a, FILE *out) {
    for (size_t i = 0; i < a->row.n_citations; i++) show_citation(a, &a->row.citations[i], i + 1, out);
    if (a->untraced[0]) {
        fputs("\nWhat was read while answering is not known: ", out);
        print_cleaned(out, a->untraced, strlen(a->untraced));
        fputc('\n', out);
    }
    if (!a->n_read) return;
    if (a->trace.selection_only)
        fputs("\nSelected while answering (share of the selected positions on the documents, times a random "
              "sentence's; attention is not known)\n",
              out);
    else
        fputs("\nRead while answering (share of attention on the documents, times a random sentence's)\n",
              out);
    show_read_set(a->read, a->n_read < 5 ? a->n_read : 5, out);
}

/* ---- JSON ---- */

json_t *read_set_json(const read_sentence *list, size_t n) {
    json_t *rows = json_array();
    for (size_t i = 0; i < n; i++) {
        size_t len = list[i].end - list[i].start;
        char *sentence = strndup(list[i].text->text + list[i].start, len);
        json_array_append_new(
            rows, json_pack("{s:o, s:I, s:I, s:I, s:o, s:f, s:f}", "document", json_text(list[i].text->name),
                            "document_id", (json_int_t)list[i].text->document, "start",
                            (json_int_t)list[i].start, "end", (json_int_t)list[i].end, "sentence",
                            json_text(sentence), "mass", list[i].mass, "lift", list[i].lift));
        free(sentence);
    }
    return rows;
}

json_t *citation_json(const store_citation *c) {
    return json_pack("{s:o, s:I, s:o, s:I, s:I, s:o, s:b, s:o, s:f, s:f}", "document",
                     json_text(c->document_name), "document_id", (json_int_t)c->document, "page",
                     c->page ? json_integer(c->page) : json_null(), "start", (json_int_t)c->start, "end",
                     (json_int_t)c->end, "quote", json_text(c->quote), "in_text", c->in_text, "in_read_set",
                     c->untraced ? json_null() : json_boolean(c->in_read_set), "mass", c->mass, "lift",
                     c->lift);
}

json_t *evidence_json(bool traced, const answer_trace *t) {
    return traced ? json_string(t->selection_only ? "selection" : "attention") : json_null();
}

json_t *answer_json(const answer *a) {
    const store_answer *r = &a->row;
    json_t *citations = json_array();
    for (size_t i = 0; i < r->n_citations; i++)
        json_array_append_new(citations, citation_json(&r->citations[i]));
    return json_pack(
        "{s:I, s:o, s:o, s:b, s:b, s:i, s:o, s:o, s:{s:I, s:I, s:I}, s:{s:f, s:f, s:f}, s:I, "
        "s:i, s:i, s:f, s:o, s:o, s:o, s:o, s:o, s:I, s:I}",
        "id", (json_int_t)r->id, "question", json_text(r->question), "answer", json_text(r->answer), "found",
        r->found, "cut_off", a->cut_off, "passages", a->passages, "citations", citations, "read_set",
        read_set_json(a->read, a->n_read), "usage", "prompt_tokens", (json_int_t)r->prompt_tokens,
        "cached_tokens", (json_int_t)r->cached_tokens, "completion_tokens", (json_int_t)r->completion_tokens,
        "timing", "prefill_ms", r->prefill_ms, "first_token_ms", r->first_token_ms, "total_ms", r->total_ms,
        "pack", (json_int_t)r->pack, "packs_asked", a->packs_asked, "packs", a->packs_all, "confidence",
        a->confidence, "model", json_text(r->model), "evidence", evidence_json(!a->untraced[0], &a->trace),
        "untraced", a->untraced[0] ? json_text(a->untraced) : json_null(), "thought",
        json_text(a->thought.text), "follows", r->follows ? json_integer(r->follows) : json_null(), "turns",
        (json_int_t)r->turns, "turns_left_out", (json_int_t)r->turns_left_out);
}
