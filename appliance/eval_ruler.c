/* eval_ruler.c - the 13 tasks of RULER (NVIDIA): needles in noise, essays or other needles; variable
 * tracking; most frequent words; question answering among distractors.
 *
 * Templates, numbers of needles, limits, depths (40 steps) and the length accounting (the prompt and the
 * generated tokens together are at most the length; one size of haystack for a task and length, made smaller
 * for a sample that does not fit) are the published generator's. What differs, and the report says so: words
 * are ours, the essays are the run's haystack, the text stands in the file template unless `plain`, the
 * example before vt and cwe is left out, and the answer is not begun for the model unless `answer_prefix`.
 */
#include "appliance/eval_haystack.h"
#include "appliance/eval_words.h"

#include "ingest/sentences.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum haystack_kind { NOISE, ESSAY, NEEDLES } haystack_kind;
typedef enum shape { NIAH, VT, CWE, FWE, QA } shape;

static const struct task {
    const char *name;
    shape shape;
    int tokens; /* of the answer */
    haystack_kind haystack;
    bool uuid_keys, uuid_values;
    int keys, values, queries;
} tasks[EVAL_RULER_TASKS] = {
    {"niah_single_1", NIAH, 128, NOISE, false, false, 1, 1, 1},
    {"niah_single_2", NIAH, 128, ESSAY, false, false, 1, 1, 1},
    {"niah_single_3", NIAH, 128, ESSAY, false, true, 1, 1, 1},
    {"niah_multikey_1", NIAH, 128, ESSAY, false, false, 4, 1, 1},
    {"niah_multikey_2", NIAH, 128, NEEDLES, false, false, 1, 1, 1},
    {"niah_multikey_3", NIAH, 128, NEEDLES, true, true, 1, 1, 1},
    {"niah_multivalue", NIAH, 128, ESSAY, false, false, 1, 4, 1},
    {"niah_multiquery", NIAH, 128, ESSAY, false, false, 4, 1, 4},
    {"vt", VT, 30, NOISE, false, false, 0, 0, 0},
    {"cwe", CWE, 120, NOISE, false, false, 0, 0, 0},
    {"fwe", FWE, 50, NOISE, false, false, 0, 0, 0},
    {"qa_1", QA, 32, NOISE, false, false, 0, 0, 0},
    {"qa_2", QA, 32, NOISE, false, false, 0, 0, 0},
};
static const char GRASS[] =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";
static const char FILE_NAME[] = "text.txt";

const char *eval_ruler_name(int task) {
    return task >= 0 && task < EVAL_RULER_TASKS ? tasks[task].name : NULL;
}

/* ---- a growing text ---- */

typedef struct text {
    char *s;
    size_t n, capacity;
    bool failed;
} text;

static void put(text *t, const char *s, size_t n) {
    if (t->failed) return;
    if (t->n + n + 1 > t->capacity) {
        size_t capacity = (t->n + n + 1) * 2;
        char *more = realloc(t->s, capacity);
        if (!more) {
            t->failed = true;
            return;
        }
        t->s = more;
        t->capacity = capacity;
    }
    memcpy(t->s + t->n, s, n);
    t->n += n;
    t->s[t->n] = 0;
}

static void say(text *t, const char *s) {
    put(t, s, strlen(s));
}

/* ---- a sample ---- */

enum { MAX_ANSWERS = 10 };

typedef struct sample {
    text body, question, prefix;
    char answers[MAX_ANSWERS][2 * EVAL_WORD];
    char **long_answers;                         /* qa: borrowed from the row */
    size_t start[MAX_ANSWERS], end[MAX_ANSWERS]; /* bytes of the body; 0, 0 = nowhere */
    int n;
    bool all;
    double depth;
} sample;

static void sample_free(sample *s) {
    free(s->body.s);
    free(s->question.s);
    free(s->prefix.s);
}

static int check(const sample *s, ph_error *err) {
    if (s->body.failed || s->question.failed || s->prefix.failed)
        return ph_fail(err, PH_MEMORY, "no memory for a prompt of %zu bytes", s->body.n);
    return PH_OK;
}

/* k of n numbers without repetition, ascending. */
static void choose(size_t *out, size_t k, size_t n, eval_random *r) {
    for (size_t i = 0; i < k; i++) {
        size_t x;
        bool seen;
        do {
            x = eval_below(r, n);
            seen = false;
            for (size_t j = 0; j < i; j++) seen |= out[j] == x;
        } while (seen);
        out[i] = x;
    }
    for (size_t i = 1; i < k; i++)
        for (size_t j = i; j > 0 && out[j] < out[j - 1]; j--) {
            size_t swap = out[j];
            out[j] = out[j - 1];
            out[j - 1] = swap;
        }
}

typedef struct fact {
    char key[EVAL_WORD], value[EVAL_WORD];
    int answer; /* its number among the answers, -1 = not asked */
} fact;

static void say_fact(text *t, const struct task *k, const fact *f, sample *s) {
    say(t, "One of the special magic ");
    say(t, k->uuid_values ? "uuids" : "numbers");
    say(t, " for ");
    say(t, f->key);
    say(t, " is: ");
    size_t at = t->n;
    say(t, f->value);
    if (f->answer >= 0) {
        s->start[f->answer] = at;
        s->end[f->answer] = t->n;
    }
    say(t, ".");
}

static void draw_fact(fact *f, const struct task *k, eval_random *r) {
    if (k->uuid_keys)
        eval_word_uuid(f->key, r);
    else
        eval_word_pair(f->key, r);
    if (k->uuid_values)
        eval_word_uuid(f->value, r);
    else
        eval_word_number(f->value, r);
    f->answer = -1;
}

/* The first `words` words of the run's texts, single-spaced. */
static void essay(text *out, const eval_plan *plan, size_t words) {
    const eval_texts *texts = &plan->texts;
    size_t left = words;
    while (left) {
        size_t before = left;
        for (size_t i = 0; i < texts->n && left; i++) {
            const char *p = texts->list[i].text;
            while (left) {
                p += strspn(p, " \t\r\n\v\f");
                size_t n = strcspn(p, " \t\r\n\v\f");
                if (!n) break;
                if (out->n) say(out, " ");
                put(out, p, n);
                p += n;
                left--;
            }
        }
        if (left == before) return;
    }
}

/* Needles between the essay's sentences, at depths drawn from 40 even ones. */
static void facts_in_essay(sample *s, const struct task *k, const eval_plan *plan, size_t words, fact *facts,
                           int n, eval_random *r) {
    enum { DEPTHS = 40 };
    text e = {0};
    size_t at[16], cuts[16], sentences = 0;
    essay(&e, plan, words);
    for (size_t p = 0; e.s && p < e.n;) {
        text_span x = sentence_next(e.s, e.n, p);
        if (x.start >= e.n) break;
        sentences++;
        p = x.end > p ? x.end : p + 1;
    }
    choose(at, (size_t)n, DEPTHS, r);
    for (int i = 0; i < n; i++)
        cuts[i] = (size_t)((double)sentences * round(100.0 * (double)at[i] / (DEPTHS - 1)) / 100);
    s->depth = n == 1 ? round(100.0 * (double)at[0] / (DEPTHS - 1)) : -1;
    size_t number = 0, p = 0;
    int next = 0;
    bool first = true;
    for (;;) {
        while (next < n && cuts[next] == number) {
            if (!first) say(&s->body, " ");
            say_fact(&s->body, k, &facts[next++], s);
            first = false;
        }
        text_span x = e.s && p < e.n ? sentence_next(e.s, e.n, p) : (text_span){e.n, e.n};
        if (x.start >= e.n) break;
        if (!first) say(&s->body, " ");
        put(&s->body, e.s + x.start, x.end - x.start);
        first = false;
        number++;
        p = x.end > p ? x.end : p + 1;
    }
    while (next < n) {
        say(&s->body, " ");
        say_fact(&s->body, k, &facts[next++], s);
    }
    s->body.failed |= e.failed;
    free(e.s);
}

/* Needles among lines: of noise, or of other needles. */
static void facts_in_lines(sample *s, const struct task *k, size_t lines, fact *facts, int n,
                           eval_random *r) {
    size_t at[16];
    choose(at, (size_t)n, lines > (size_t)n ? lines : (size_t)n, r);
    s->depth = n == 1 ? round(100.0 * (double)at[0] / (double)(lines ? lines : 1)) : -1;
    int next = 0;
    for (size_t i = 0; i < lines || next < n; i++) {
        while (next < n && at[next] <= i) {
            say_fact(&s->body, k, &facts[next++], s);
            say(&s->body, "\n");
        }
        if (i >= lines) continue;
        if (k->haystack == NOISE)
            say(&s->body, GRASS);
        else {
            fact other;
            bool asked;
            do {
                draw_fact(&other, k, r);
                asked = false;
                for (int j = 0; j < n; j++) asked |= !strcmp(other.key, facts[j].key);
            } while (asked);
            say_fact(&s->body, k, &other, s);
        }
        if (i + 1 < lines || next < n) say(&s->body, "\n");
    }
}

static void niah(sample *s, const struct task *k, const eval_plan *plan, size_t amount, eval_random *r) {
    fact facts[16];
    size_t asked[4];
    char values[8];
    int n = 0;
    bool one = k->queries * k->values == 1;
    snprintf(values, sizeof values, "%s", k->uuid_values ? "uuids" : "numbers");
    if (one) values[strlen(values) - 1] = 0;
    for (int i = 0; i < k->keys; i++) {
        char key[EVAL_WORD];
        bool again;
        do {
            draw_fact(&facts[n], k, r);
            again = false;
            for (int j = 0; j < n; j++) again |= !strcmp(facts[j].key, facts[n].key);
        } while (again);
        strcpy(key, facts[n++].key);
        for (int v = 1; v < k->values; v++, n++) {
            draw_fact(&facts[n], k, r);
            strcpy(facts[n].key, key);
        }
    }
    choose(asked, (size_t)k->queries, (size_t)k->keys, r);
    for (int q = 0; q < k->queries; q++)
        for (int v = 0; v < k->values; v++) {
            fact *f = &facts[asked[q] * (size_t)k->values + (size_t)v];
            f->answer = s->n;
            snprintf(s->answers[s->n++], sizeof s->answers[0], "%s", f->value);
        }
    text query = {0};
    for (int q = 0; q < k->queries; q++) {
        if (q) say(&query, q + 1 == k->queries ? ", and " : ", ");
        say(&query, facts[asked[q] * (size_t)k->values].key);
    }
    for (int i = n - 1; i > 0; i--) {
        int j = (int)eval_below(r, (uint64_t)i + 1);
        fact swap = facts[i];
        facts[i] = facts[j];
        facts[j] = swap;
    }
    text *b = &s->body;
    say(b, one ? "A special magic " : "Some special magic ");
    say(b, values);
    say(b,
        one ? " is hidden within the following text. Make sure to memorize it. I will quiz you about the "
            : " are hidden within the following text. Make sure to memorize it. I will quiz you about the ");
    say(b, values);
    say(b, " afterwards.\n");
    if (k->haystack == ESSAY) {
        text head = s->body; /* sentences are joined from an empty text on */
        s->body = (text){0};
        facts_in_essay(s, k, plan, amount, facts, n, r);
        text rest = s->body;
        s->body = head;
        put(&s->body, rest.s ? rest.s : "", rest.n);
        s->body.failed |= rest.failed;
        free(rest.s);
        for (int i = 0; i < s->n; i++) {
            s->start[i] += head.n;
            s->end[i] += head.n;
        }
    } else
        facts_in_lines(s, k, amount, facts, n, r);
    say(b, "\n");
    text *q = &s->question;
    say(q, one ? "What is the special magic " : "What are all the special magic ");
    say(q, values);
    say(q, " for ");
    say(q, query.s ? query.s : "");
    say(q, " mentioned in the provided text?");
    say(&s->prefix, "The special magic ");
    say(&s->prefix, values);
    say(&s->prefix, " for ");
    say(&s->prefix, query.s ? query.s : "");
    say(&s->prefix, one ? " mentioned in the provided text is" : " mentioned in the provided text are");
    q->failed |= query.failed;
    free(query.s);
}

/* One chain of five variables, four hops, among noise. */
static void variables(sample *s, size_t lines, eval_random *r) {
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
    choose(at, VARIABLES, lines > VARIABLES ? lines : VARIABLES, r);
    text *b = &s->body;
    say(b, "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n");
    int next = 0;
    for (size_t i = 0; i < lines || next < VARIABLES; i++) {
        for (; next < VARIABLES && at[next] <= i; next++) {
            say(b, "VAR ");
            s->start[next] = b->n;
            say(b, s->answers[next]);
            s->end[next] = b->n;
            say(b, next ? " = VAR " : " = ");
            say(b, next ? s->answers[next - 1] : value);
            say(b, " ");
        }
        if (i >= lines) continue;
        say(b, GRASS);
        say(b, "\n");
    }
    say(&s->question, "Question: Find all variables that are assigned the value ");
    say(&s->question, value);
    say(&s->question, " in the text above.");
    say(&s->prefix,
        "Answer: According to the chain(s) of variable assignment in the text above, 5 variables are "
        "assigned the value ");
    say(&s->prefix, value);
    say(&s->prefix, ", they are:");
}

static bool shuffled_numbers(size_t **out, size_t n, eval_random *r) {
    size_t *list = malloc((n ? n : 1) * sizeof *list);
    *out = list;
    if (!list) return false;
    for (size_t i = 0; i < n; i++) list[i] = i;
    for (size_t i = n; i > 1; i--) {
        size_t j = eval_below(r, i), swap = list[i - 1];
        list[i - 1] = list[j];
        list[j] = swap;
    }
    return true;
}

/* `words` different words: ten of them 30 times, the others 3 times (6 and 1 below 4K), numbered, in any
 * order. */
static void common_words(sample *s, size_t words, int64_t length, eval_random *r) {
    enum { COMMON = 10 };
    const size_t often = length < 4096 ? 6 : 30, seldom = length < 4096 ? 1 : 3;
    size_t n = COMMON * often + (words > COMMON ? words - COMMON : 0) * seldom, *order;
    uint64_t base = eval_below(r, 1000000);
    if (!shuffled_numbers(&order, n, r)) {
        s->body.failed = true;
        return;
    }
    say(&s->body,
        "Below is a numbered list of words. In these words, some appear more often than others. Memorize the "
        "ones that appear most often.\n");
    for (size_t i = 0; i < n; i++) {
        size_t x = order[i], word = x < COMMON * often ? x / often : COMMON + (x - COMMON * often) / seldom;
        char number[32], made[EVAL_WORD];
        snprintf(number, sizeof number, "%s%zu. ", i ? " " : "", i + 1);
        eval_word_made(made, (base + word * 7919) % 100000000);
        say(&s->body, number);
        say(&s->body, made);
    }
    say(&s->body, "\n");
    free(order);
    for (s->n = 0; s->n < COMMON; s->n++)
        eval_word_made(s->answers[s->n], (base + (uint64_t)s->n * 7919) % 100000000);
    say(&s->question, "Question: What are the 10 most common words in the above list?");
    say(&s->prefix, "Answer: The top 10 words that appear most often in the list are:");
}

/* Coded words of six letters with a Zipf distribution (alpha 2); the most frequent one is "...". */
static void frequent_words(sample *s, size_t words, int64_t length, eval_random *r) {
    static const double ZETA_2 = 1.6449340668482264;
    size_t vocabulary = (size_t)length / 50, n = 0;
    for (size_t i = 1; i <= vocabulary; i++) n += (size_t)((double)words / ((double)i * (double)i) / ZETA_2);
    uint64_t *codes = malloc((vocabulary + 1) * sizeof *codes);
    size_t *order = NULL, *word = malloc((n + 1) * sizeof *word);
    if (!codes || !word || !shuffled_numbers(&order, n, r)) {
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
    say(&s->body,
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
        if (i) say(&s->body, " ");
        say(&s->body, code);
        if (w >= 1 && w <= 3) snprintf(s->answers[w - 1], sizeof s->answers[0], "%s", code);
    }
    say(&s->body, "\n");
    s->n = 3;
    free(order);
    free(word);
    free(codes);
    say(&s->question,
        "Question: Do not provide any explanation. Please ignore the dots '....'. What are the three most "
        "frequently appeared words in the above coded text?");
    say(&s->prefix,
        "Answer: According to the coded text above, the three most frequently appeared words are:");
}

/* Numbered documents, the source among others in any order. */
static void answer_question(sample *s, const eval_plan *plan, size_t documents, int number, eval_random *r) {
    const eval_rows *rows = &plan->rows;
    size_t *order, row = 0, left = (size_t)number;
    const eval_qa *qa = NULL;
    /* The number-th question that has an answer, from one end to the other and around. */
    size_t all = 0;
    for (size_t i = 0; i < rows->n; i++)
        for (size_t k = 0; k < rows->list[i].n_qas; k++) all += rows->list[i].qas[k].n_answers > 0;
    if (!all || !shuffled_numbers(&order, rows->n, r)) {
        s->body.failed = true;
        return;
    }
    for (left %= all, row = 0; row < rows->n && !qa; row++)
        for (size_t k = 0; k < rows->list[row].n_qas && !qa; k++)
            if (rows->list[row].qas[k].n_answers && left-- == 0) qa = &rows->list[row].qas[k];
    row--;
    size_t gold = eval_below(r, documents ? documents : 1), next = 0;
    say(&s->body,
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
        say(&s->body, head);
        size_t start = s->body.n;
        say(&s->body, rows->list[which].text);
        if (which != row || s->body.failed) continue;
        for (size_t a = 0; a < qa->n_answers && s->n < MAX_ANSWERS; a++, s->n++) {
            const char *in = eval_find(s->body.s + start, qa->answers[a]);
            if (!in) continue;
            s->start[s->n] = (size_t)(in - s->body.s);
            s->end[s->n] = s->start[s->n] + strlen(qa->answers[a]);
        }
    }
    free(order);
    s->long_answers = qa->answers;
    s->all = false;
    say(&s->body,
        "\n\nAnswer the question based on the given documents. Only give me the answer and do not output any "
        "other words.\n");
    say(&s->question, "Question: ");
    say(&s->question, qa->question);
    say(&s->prefix, "Answer:");
}

static int make_sample(sample *s, const eval_plan *plan, const eval_group *g, size_t amount, ph_error *err) {
    const struct task *k = &tasks[g->task];
    eval_random r = eval_stream(plan->params->seed, k->name, g->length, g->sample);
    *s = (sample){.all = true, .depth = -1};
    switch (k->shape) {
    case NIAH:
        niah(s, k, plan, amount, &r);
        break;
    case VT:
        variables(s, amount, &r);
        break;
    case CWE:
        common_words(s, amount, g->length, &r);
        break;
    case FWE:
        frequent_words(s, amount, g->length, &r);
        break;
    case QA:
        answer_question(s, plan, amount, g->sample, &r);
        break;
    }
    return check(s, err);
}

/* ---- length ---- */

/* Tokens of the prompt and of the answer. */
static int measure(int64_t *tokens, const sample *s, const eval_plan *plan, const struct task *k,
                   ph_error *err) {
    const tokenizer *t = engine_tokenizer(plan->engine);
    token_list question = {0};
    int64_t body = 0;
    int code = plan->params->plain ? PH_OK : pack_measure(t, FILE_NAME, s->body.s, s->body.n, &body, err);
    if (plan->params->plain && (body = eval_count_tokens(plan, s->body.s, err)) < 0) code = PH_MEMORY;
    if (!code)
        code =
            prompt_question(engine_prompt(plan->engine), t, s->question.s, s->question.n, 0, &question, err);
    if (!code && plan->params->answer_prefix)
        code = tokenizer_encode(t, s->prefix.s, s->prefix.n, 0, 0, &question, err);
    *tokens =
        2 + body + (int64_t)question.n + (plan->params->max_tokens ? plan->params->max_tokens : k->tokens);
    token_list_free(&question);
    return code;
}

static int fits(bool *out, const eval_plan *plan, const eval_group *g, size_t amount, ph_error *err) {
    sample s;
    int64_t tokens = 0;
    int code = make_sample(&s, plan, g, amount, err);
    if (!code) code = measure(&tokens, &s, plan, &tasks[g->task], err);
    *out = tokens <= g->length;
    sample_free(&s);
    return code;
}

static size_t step_of(const struct task *k, const eval_params *p, int64_t length) {
    (void)p;
    if (k->shape == NIAH && k->haystack == ESSAY) return length < 4096 ? 50 : 500;
    if (k->shape == CWE || k->shape == FWE) return 10;
    if (k->shape == VT || k->shape == QA) return 5;
    return length < 4096 ? 5 : 25;
}

/* The most that a haystack of this task and length can hold, by the first sample. */
static int find_amount(size_t *out, const eval_plan *plan, const eval_group *g, ph_error *err) {
    const struct task *k = &tasks[g->task];
    size_t low = k->shape == CWE ? 11 : 1, high = 64,
           most = k->shape == QA ? plan->rows.n : (size_t)g->length * 4;
    eval_group first = *g;
    first.sample = 0;
    bool yes = true;
    int code = fits(&yes, plan, &first, low, err);
    if (!code && !yes)
        return ph_fail(err, PH_TOO_LARGE, "%s does not fit into %lld tokens", k->name, (long long)g->length);
    while (!code && yes && high < most) {
        code = fits(&yes, plan, &first, high, err);
        if (yes) {
            low = high;
            high *= 2;
        }
    }
    if (high > most) high = most + 1;
    while (!code && low + 1 < high) {
        size_t mid = (low + high) / 2;
        code = fits(&yes, plan, &first, mid, err);
        if (yes)
            low = mid;
        else
            high = mid;
    }
    *out = low;
    return code;
}

int eval_ruler_plan(eval_plan *plan, ph_error *err) {
    const eval_params *p = plan->params;
    bool qa = p->tasks >> 11 & 3;
    if (qa && plan->rows.n == 0)
        return ph_fail(err, PH_USAGE, "qa_1 and qa_2 need questions: give a file with --qa");
    size_t n = (size_t)p->n_lengths * EVAL_RULER_TASKS * (size_t)p->samples;
    plan->groups = calloc(n + 1, sizeof *plan->groups);
    plan->maker = calloc((size_t)p->n_lengths * EVAL_RULER_TASKS, sizeof(size_t));
    if (!plan->groups || !plan->maker) return ph_fail(err, PH_MEMORY, "no memory for a plan");
    for (int l = 0; l < p->n_lengths; l++)
        for (int k = 0; k < EVAL_RULER_TASKS; k++)
            for (int i = 0; i < p->samples && p->tasks >> k & 1; i++)
                plan->groups[plan->n_groups++] = (eval_group){
                    .task = k, .length = p->lengths[l], .sample = i, .number = l, .questions = 1};
    return PH_OK;
}

void eval_ruler_plan_free(eval_plan *plan) {
    free(plan->maker);
    plan->maker = NULL;
}

/* ---- the haystack ---- */

static int build(eval_haystack *h, const eval_plan *plan, const sample *s, ph_error *err) {
    eval_pieces pieces = {0};
    int code = eval_pieces_add(&pieces, FILE_NAME, s->body.s, s->body.n, err);
    if (!code && !plan->params->plain) code = eval_haystack_build(h, plan, &pieces, err);
    if (!code && plan->params->plain) {
        h->pack.texts = calloc(1, sizeof *h->pack.texts);
        if (!h->pack.texts) code = ph_fail(err, PH_MEMORY, "no memory for a haystack");
        if (!code) code = pack_prompt_begin(&h->pack.prompt, engine_prompt(plan->engine), err);
        if (!code) {
            pack_text *t = &h->pack.texts[h->pack.n_texts++];
            *t = (pack_text){
                .name = pieces.list[0].name, .text = pieces.list[0].text, .len = pieces.list[0].len};
            pieces.list[0] = (eval_piece){0};
            int64_t at = (int64_t)h->pack.prompt.tokens.n;
            code = tokenizer_encode(engine_tokenizer(plan->engine), t->text, t->len, TOKENIZE_OFFSETS, 0,
                                    &h->pack.prompt.tokens, err);
            int64_t end = (int64_t)h->pack.prompt.tokens.n;
            t->span = (pack_span){at, end, at, end, 0, t->len};
            for (size_t k = 0; k < t->len; k++) h->characters += ((unsigned char)t->text[k] & 0xC0) != 0x80;
        }
    }
    eval_pieces_free(&pieces);
    return code;
}

static int add_question(eval_haystack *h, const eval_plan *plan, const eval_group *g, const sample *s,
                        ph_error *err) {
    const struct task *k = &tasks[g->task];
    eval_question *q = eval_haystack_ask(h, k->name, s->question.s, err);
    if (!q) return PH_MEMORY;
    q->all = s->all;
    q->depth = s->depth;
    q->max_tokens = plan->params->max_tokens ? plan->params->max_tokens : k->tokens;
    bool placed = true;
    for (int i = 0; i < s->n; i++) {
        int code = eval_question_answer(q, s->long_answers ? s->long_answers[i] : s->answers[i], err);
        if (code) return code;
        placed &= s->end[i] > s->start[i];
    }
    for (int i = 0; i < s->n && (placed || !s->all) && q->n_spans < EVAL_MAX_SPANS; i++)
        if (s->end[i] > s->start[i]) q->spans[q->n_spans++] = eval_token_span(h, 0, s->start[i], s->end[i]);
    /* The source of a single needle, for the read set; of several there is none. */
    if (s->n == 1 && placed) {
        q->text = 0;
        q->start = s->start[0];
        q->end = s->end[0];
    }
    if (plan->params->answer_prefix && !(q->prefix = strdup(s->prefix.s)))
        return ph_fail(err, PH_MEMORY, "no memory for a question");
    return PH_OK;
}

int eval_ruler_make(eval_haystack *h, const eval_plan *plan, const eval_group *g, ph_error *err) {
    const struct task *k = &tasks[g->task];
    size_t *amount = (size_t *)plan->maker + g->number * EVAL_RULER_TASKS + g->task;
    int code = *amount ? PH_OK : find_amount(amount, plan, g, err);
    size_t step = step_of(k, plan->params, g->length), used = *amount;
    sample s = {0};
    for (bool ok = false; !code && !ok;) {
        int64_t tokens = 0;
        sample_free(&s);
        code = make_sample(&s, plan, g, used, err);
        if (!code) code = measure(&tokens, &s, plan, k, err);
        ok = tokens <= g->length || used <= 1;
        if (!ok) used = used > step ? used - step : 1;
    }
    if (!code) code = build(h, plan, &s, err);
    if (!code) code = add_question(h, plan, g, &s, err);
    sample_free(&s);
    return code;
}
