/* eval_ruler_words.c - RULER's variable tracking, most common and most frequent words, and questions among
 * documents. */
#include "appliance/eval_ruler.h"

#include <stdlib.h>
#include <string.h>

enum { VARIABLES = 5, COMMON = 10 };

/* ---- variable tracking ---- */

typedef struct chain {
    char names[VARIABLES][EVAL_WORD], value[EVAL_WORD];
} chain;

static void draw_chain(chain *c, int letters, eval_random *r) {
    for (int i = 0; i < VARIABLES; i++) {
        bool again;
        do {
            eval_word_letters(c->names[i], letters, 'A', r);
            again = false;
            for (int j = 0; j < i; j++) again |= !strcmp(c->names[i], c->names[j]);
        } while (again);
    }
    snprintf(c->value, sizeof c->value, "%d", (int)(10000 + eval_below(r, 90000)));
}

/* The chain's assignments at places drawn among `lines` lines of noise, spaced as the generator's join spaces
 * them. owner NULL: an example. */
static void say_chain(text *b, const chain *c, size_t lines, sample *owner, eval_random *r) {
    size_t at[VARIABLES];
    ruler_choose(at, VARIABLES, lines > VARIABLES ? lines : VARIABLES, r);
    ruler_say(b, "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n");
    int next = 0;
    bool first = true;
    for (size_t i = 0; i < lines || next < VARIABLES; i++) {
        for (; next < VARIABLES && at[next] <= i; next++) {
            ruler_say(b, first ? "VAR " : " VAR ");
            first = false;
            size_t start = b->n;
            ruler_say(b, c->names[next]);
            if (owner) {
                owner->start[next] = start;
                owner->end[next] = b->n;
            }
            ruler_say(b, next ? " = VAR " : " = ");
            ruler_say(b, next ? c->names[next - 1] : c->value);
            if (next) ruler_say(b, " ");
        }
        if (i >= lines) continue;
        if (!first) ruler_say(b, " ");
        first = false;
        ruler_say(b, RULER_NOISE);
        ruler_say(b, "\n");
    }
    ruler_say(b, "\n");
}

static void ask_chain(text *question, text *prefix, const chain *c, bool published) {
    ruler_say(question, "Question: Find all variables that are assigned the value ");
    ruler_say(question, c->value);
    ruler_say(question, " in the text above.");
    ruler_say(prefix,
              "Answer: According to the chain(s) of variable assignment in the text above, 5 variables are ");
    /* The published prompts spell it so. */
    ruler_say(prefix, published ? "assgined" : "assigned");
    ruler_say(prefix, " the value ");
    ruler_say(prefix, c->value);
    ruler_say(prefix, ", they are:");
}

/* The worked example: names of three letters, noise in steps of five lines up to 500 tokens with the 30 of an
 * answer. */
static void say_chain_example(text *out, const eval_plan *plan, eval_random *r) {
    enum { EXAMPLE = 500, ANSWER = 30, STEP = 5 };
    chain c;
    draw_chain(&c, 3, r);
    text best = {0};
    for (size_t lines = STEP;; lines += STEP) {
        text t = {0};
        eval_random same = *r;
        say_chain(&t, &c, lines, NULL, &same);
        ask_chain(&t, &best, &c, true);
        ruler_say(&t, " ");
        ruler_put(&t, best.s ? best.s : "", best.n);
        for (int i = 0; i < VARIABLES; i++) {
            ruler_say(&t, " ");
            ruler_say(&t, c.names[i]);
        }
        best.n = 0;
        int64_t tokens = t.failed ? -1 : eval_count_tokens(plan, t.s, NULL);
        bool fits = tokens >= 0 && tokens + ANSWER <= EXAMPLE;
        if (fits || lines == STEP) {
            out->n = 0;
            ruler_put(out, t.s ? t.s : "", t.n);
        }
        out->failed |= t.failed || tokens < 0;
        free(t.s);
        if (!fits) break;
    }
    free(best.s);
    ruler_say(out, "\n\n\n\n");
}

/* One chain of five variables, four hops, among noise. */
void ruler_variables(sample *s, const eval_plan *plan, size_t lines, eval_random *r) {
    chain c;
    draw_chain(&c, 5, r);
    if (plan->params->published) say_chain_example(&s->body, plan, r);
    s->n = VARIABLES;
    for (int i = 0; i < VARIABLES; i++) memcpy(s->answers[i], c.names[i], sizeof c.names[i]);
    say_chain(&s->body, &c, lines, s, r);
    ask_chain(&s->question, &s->prefix, &c, plan->params->published);
}

/* ---- most common words ---- */

static const char COMMON_QUESTION[] = "Question: What are the 10 most common words in the above list?",
                  COMMON_PREFIX[] = "Answer: The top 10 words that appear most often in the list are:";

/* n different words of a list, or made up. */
typedef struct word_draw {
    const eval_lexicon *list; /* NULL: made up, from `base` on */
    size_t *order;            /* of the list; owned */
    uint64_t base;
} word_draw;

static bool draw_words(word_draw *v, const eval_lexicon *list, eval_random *r) {
    *v = (word_draw){.list = list};
    if (list) return ruler_shuffled(&v->order, list->n_words, r);
    v->base = eval_below(r, 1000000);
    return true;
}

static void word_of(char out[EVAL_WORD], const word_draw *v, size_t i) {
    if (v->list)
        snprintf(out, EVAL_WORD, "%s", v->list->words[v->order[i]]);
    else
        eval_word_made(out, (v->base + i * 7919) % 100000000);
}

/* The numbered list: ten words `often` times, the others up to `words` `seldom` times, in any order. */
static void say_list(text *b, const word_draw *v, size_t words, size_t often, size_t seldom, eval_random *r) {
    size_t n = COMMON * often + (words > COMMON ? words - COMMON : 0) * seldom, *order;
    if (!ruler_shuffled(&order, n, r)) {
        b->failed = true;
        return;
    }
    ruler_say(
        b,
        "Below is a numbered list of words. In these words, some appear more often than others. Memorize the "
        "ones that appear most often.\n");
    for (size_t i = 0; i < n; i++) {
        size_t x = order[i], word = x < COMMON * often ? x / often : COMMON + (x - COMMON * often) / seldom;
        char number[32], name[EVAL_WORD];
        snprintf(number, sizeof number, "%s%zu. ", i ? " " : "", i + 1);
        word_of(name, v, word);
        ruler_say(b, number);
        ruler_say(b, name);
    }
    ruler_say(b, "\n");
    free(order);
}

/* 40 words, 10 and 3 times (20, 3 and 1 below 4K), with the answer. */
static void say_list_example(text *b, const eval_plan *plan, bool small, eval_random *r) {
    word_draw v;
    if (!draw_words(&v, plan->lexicon, r)) {
        b->failed = true;
        return;
    }
    say_list(b, &v, small ? 20 : 40, small ? 3 : 10, small ? 1 : 3, r);
    ruler_say(b, COMMON_QUESTION);
    ruler_say(b, " ");
    ruler_say(b, COMMON_PREFIX);
    for (size_t i = 0; i < COMMON; i++) {
        char number[32], name[EVAL_WORD];
        snprintf(number, sizeof number, "%s%zu. ", i ? " " : "", i + 1);
        word_of(name, &v, i);
        ruler_say(b, number);
        ruler_say(b, name);
    }
    ruler_say(b, "\n");
    free(v.order);
}

/* `words` different words: ten of them 30 times, the others 3 times (6 and 1 below 4K). */
void ruler_common_words(sample *s, const eval_plan *plan, size_t words, int64_t length, eval_random *r) {
    bool small = length < 4096;
    word_draw v;
    if (plan->params->published) say_list_example(&s->body, plan, small, r);
    if (!draw_words(&v, plan->lexicon, r)) {
        s->body.failed = true;
        return;
    }
    if (v.list && words > v.list->n_words) words = v.list->n_words;
    say_list(&s->body, &v, words, small ? 6 : 30, small ? 1 : 3, r);
    for (s->n = 0; s->n < COMMON; s->n++) word_of(s->answers[s->n], &v, (size_t)s->n);
    free(v.order);
    ruler_say(&s->question, COMMON_QUESTION);
    ruler_say(&s->prefix, COMMON_PREFIX);
}

/* ---- most frequent words ---- */

/* Coded words of six letters with a Zipf distribution (alpha 2); the most frequent one is "...". */
void ruler_frequent_words(sample *s, size_t words, int64_t length, eval_random *r) {
    static const double ZETA_2 = 1.6449340668482264;
    size_t vocabulary = (size_t)length / 50, n = 0;
    for (size_t i = 1; i <= vocabulary; i++) n += (size_t)((double)words / ((double)i * (double)i) / ZETA_2);
    uint64_t *codes = malloc((vocabulary + 1) * sizeof *codes);
    size_t *order = NULL, *word = malloc((n + 1) * sizeof *word);
    if (!codes || !word || !ruler_shuffled(&order, n, r)) {
        s->body.failed = true;
        free(codes);
        free(word);
        return;
    }
    for (size_t i = 0; i < vocabulary; i++) {
        bool again;
        do {
            codes[i] = eval_below(r, 308915776); /* 26^6 */
            again = false;
            for (size_t j = 0; j < i && j < 4; j++) again |= codes[i] == codes[j];
        } while (again);
    }
    size_t at = 0;
    for (size_t i = 0; i < vocabulary; i++)
        for (size_t k = (size_t)((double)words / ((double)(i + 1) * (double)(i + 1)) / ZETA_2);
             k > 0 && at < n; k--)
            word[at++] = i;
    ruler_say(&s->body,
              "Read the following coded text and track the frequency of each coded word. Find the three most "
              "frequently appeared coded words. ");
    for (size_t i = 0; i < n; i++) {
        char code[EVAL_WORD] = "...";
        size_t w = word[order[i]];
        for (int c = 0; w && c < 6; c++) {
            uint64_t letters = codes[w];
            for (int d = 0; d < c; d++) letters /= 26;
            code[c] = (char)('a' + letters % 26);
            code[c + 1] = 0;
        }
        if (i) ruler_say(&s->body, " ");
        ruler_say(&s->body, code);
        if (w >= 1 && w <= 3) snprintf(s->answers[w - 1], sizeof s->answers[0], "%s", code);
    }
    ruler_say(&s->body, "\n");
    s->n = 3;
    free(order);
    free(word);
    free(codes);
    ruler_say(
        &s->question,
        "Question: Do not provide any explanation. Please ignore the dots '....'. What are the three most "
        "frequently appeared words in the above coded text?");
    ruler_say(&s->prefix,
              "Answer: According to the coded text above, the three most frequently appeared words are:");
}

/* ---- questions ---- */

/* Numbered documents, the source among others in any order. */
void ruler_question(sample *s, const eval_plan *plan, size_t documents, int number, eval_random *r) {
    const eval_rows *rows = &plan->rows;
    if (documents > rows->n) documents = rows->n;
    size_t *order, row = 0, left = (size_t)number;
    const eval_qa *qa = NULL;
    /* The number-th question that has an answer, from one end to the other and around. */
    size_t all = 0;
    for (size_t i = 0; i < rows->n; i++)
        for (size_t k = 0; k < rows->list[i].n_qas; k++) all += rows->list[i].qas[k].n_answers > 0;
    if (!all || !ruler_shuffled(&order, rows->n, r)) {
        s->body.failed = true;
        return;
    }
    for (left %= all, row = 0; row < rows->n && !qa; row++)
        for (size_t k = 0; k < rows->list[row].n_qas && !qa; k++)
            if (rows->list[row].qas[k].n_answers && left-- == 0) qa = &rows->list[row].qas[k];
    row--;
    size_t gold = eval_below(r, documents ? documents : 1), next = 0;
    ruler_say(
        &s->body,
        "Answer the question based on the given documents. Only give me the answer and do not output any "
        "other words.\n\nThe following are given documents.\n\n");
    for (size_t i = 0; i < documents || i == 0; i++) {
        char head[40];
        size_t which = row;
        if (i != gold) {
            while (next < rows->n && order[next] == row) next++;
            if (next == rows->n) break;
            which = order[next++];
        }
        snprintf(head, sizeof head, "%sDocument %zu:\n", i ? "\n\n" : "", i + 1);
        ruler_say(&s->body, head);
        size_t start = s->body.n;
        ruler_say(&s->body, rows->list[which].text);
        if (which != row || s->body.failed) continue;
        for (size_t a = 0; a < qa->n_answers && s->n < RULER_ANSWERS; a++, s->n++) {
            const char *in = eval_find(s->body.s + start, qa->answers[a]);
            if (!in) continue;
            s->start[s->n] = (size_t)(in - s->body.s);
            s->end[s->n] = s->start[s->n] + strlen(qa->answers[a]);
        }
    }
    free(order);
    s->long_answers = qa->answers;
    s->all = false;
    ruler_say(
        &s->body,
        "\n\nAnswer the question based on the given documents. Only give me the answer and do not output any "
        "other words.\n");
    ruler_say(&s->question, "Question: ");
    ruler_say(&s->question, qa->question);
    ruler_say(&s->prefix, "Answer:");
}
