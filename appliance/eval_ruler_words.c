/* eval_ruler_words.c - RULER's variable tracking, most common and most frequent words, and questions among
 * documents. */
#include "appliance/eval_ruler.h"

#include <stdlib.h>
#include <string.h>

/* One chain of five variables, four hops, among noise. */
void ruler_variables(sample *s, size_t lines, eval_random *r) {
    enum { VARIABLES = 5 };
    char value[EVAL_WORD];
    size_t at[VARIABLES];
    for (int i = 0; i < VARIABLES; i++) {
        bool again;
        do {
            eval_word_letters(s->answers[i], 5, 'A', r);
            again = false;
            for (int j = 0; j < i; j++) again |= !strcmp(s->answers[i], s->answers[j]);
        } while (again);
    }
    s->n = VARIABLES;
    snprintf(value, sizeof value, "%d", (int)(10000 + eval_below(r, 90000)));
    ruler_choose(at, VARIABLES, lines > VARIABLES ? lines : VARIABLES, r);
    text *b = &s->body;
    ruler_say(b, "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n");
    int next = 0;
    for (size_t i = 0; i < lines || next < VARIABLES; i++) {
        for (; next < VARIABLES && at[next] <= i; next++) {
            ruler_say(b, "VAR ");
            s->start[next] = b->n;
            ruler_say(b, s->answers[next]);
            s->end[next] = b->n;
            ruler_say(b, next ? " = VAR " : " = ");
            ruler_say(b, next ? s->answers[next - 1] : value);
            ruler_say(b, " ");
        }
        if (i >= lines) continue;
        ruler_say(b, RULER_NOISE);
        ruler_say(b, "\n");
    }
    ruler_say(&s->question, "Question: Find all variables that are assigned the value ");
    ruler_say(&s->question, value);
    ruler_say(&s->question, " in the text above.");
    ruler_say(&s->prefix,
              "Answer: According to the chain(s) of variable assignment in the text above, 5 variables are "
              "assigned the value ");
    ruler_say(&s->prefix, value);
    ruler_say(&s->prefix, ", they are:");
}

/* `words` different words: ten of them 30 times, the others 3 times (6 and 1 below 4K), numbered, in any
 * order. */
void ruler_common_words(sample *s, size_t words, int64_t length, eval_random *r) {
    enum { COMMON = 10 };
    const size_t often = length < 4096 ? 6 : 30, seldom = length < 4096 ? 1 : 3;
    size_t n = COMMON * often + (words > COMMON ? words - COMMON : 0) * seldom, *order;
    uint64_t base = eval_below(r, 1000000);
    if (!ruler_shuffled(&order, n, r)) {
        s->body.failed = true;
        return;
    }
    ruler_say(
        &s->body,
        "Below is a numbered list of words. In these words, some appear more often than others. Memorize the "
        "ones that appear most often.\n");
    for (size_t i = 0; i < n; i++) {
        size_t x = order[i], word = x < COMMON * often ? x / often : COMMON + (x - COMMON * often) / seldom;
        char number[32], made[EVAL_WORD];
        snprintf(number, sizeof number, "%s%zu. ", i ? " " : "", i + 1);
        eval_word_made(made, (base + word * 7919) % 100000000);
        ruler_say(&s->body, number);
        ruler_say(&s->body, made);
    }
    ruler_say(&s->body, "\n");
    free(order);
    for (s->n = 0; s->n < COMMON; s->n++)
        eval_word_made(s->answers[s->n], (base + (uint64_t)s->n * 7919) % 100000000);
    ruler_say(&s->question, "Question: What are the 10 most common words in the above list?");
    ruler_say(&s->prefix, "Answer: The top 10 words that appear most often in the list are:");
}

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

/* Numbered documents, the source among others in any order. */
void ruler_question(sample *s, const eval_plan *plan, size_t documents, int number, eval_random *r) {
    const eval_rows *rows = &plan->rows;
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
