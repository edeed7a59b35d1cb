/* eval_ruler_needles.c - RULER's needles in noise, essays or other needles. Several tasks may share one
 * haystack. */
#include "appliance/eval_ruler.h"

#include "ingest/sentences.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_FACTS = 16 }; /* five tasks over essays have 14 */

typedef struct fact {
    char key[EVAL_WORD], value[EVAL_WORD];
    bool uuid;     /* the value's kind */
    sample *owner; /* NULL = asked by nobody */
    int answer;    /* its number among the owner's answers, -1 = not asked */
} fact;

static void say_fact(text *t, const fact *f) {
    ruler_say(t, "One of the special magic ");
    ruler_say(t, f->uuid ? "uuids" : "numbers");
    ruler_say(t, " for ");
    ruler_say(t, f->key);
    ruler_say(t, " is: ");
    size_t at = t->n;
    ruler_say(t, f->value);
    if (f->owner && f->answer >= 0) {
        f->owner->start[f->answer] = at;
        f->owner->end[f->answer] = t->n;
    }
    ruler_say(t, ".");
}

static void draw_fact(fact *f, const ruler_task *k, const eval_lexicon *words, eval_random *r) {
    if (k->uuid_keys)
        eval_word_uuid(f->key, r);
    else
        eval_word_pair(f->key, words, r);
    if (k->uuid_values)
        eval_word_uuid(f->value, r);
    else
        eval_word_number(f->value, r);
    f->uuid = k->uuid_values;
    f->owner = NULL;
    f->answer = -1;
}

static bool key_taken(const fact *facts, int n, const char *key) {
    for (int i = 0; i < n; i++)
        if (!strcmp(facts[i].key, key)) return true;
    return false;
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
                if (out->n) ruler_say(out, " ");
                ruler_put(out, p, n);
                p += n;
                left--;
            }
        }
        if (left == before) return;
    }
}

/* Needles between the essay's sentences, at depths drawn from 40 even ones. */
static void facts_in_essay(sample *s, const eval_plan *plan, size_t words, fact *facts, int n,
                           eval_random *r) {
    enum { DEPTHS = 40 };
    text e = {0};
    size_t at[MOST_FACTS], cuts[MOST_FACTS], sentences = 0;
    essay(&e, plan, words);
    for (size_t p = 0; e.s && p < e.n;) {
        text_span x = sentence_next(e.s, e.n, p);
        if (x.start >= e.n) break;
        sentences++;
        p = x.end > p ? x.end : p + 1;
    }
    ruler_choose(at, (size_t)n, DEPTHS, r);
    for (int i = 0; i < n; i++)
        cuts[i] = (size_t)((double)sentences * round(100.0 * (double)at[i] / (DEPTHS - 1)) / 100);
    s->depth = n == 1 ? round(100.0 * (double)at[0] / (DEPTHS - 1)) : -1;
    size_t number = 0, p = 0;
    int next = 0;
    bool first = true;
    for (;;) {
        while (next < n && cuts[next] == number) {
            if (!first) ruler_say(&s->body, " ");
            say_fact(&s->body, &facts[next++]);
            first = false;
        }
        text_span x = e.s && p < e.n ? sentence_next(e.s, e.n, p) : (text_span){e.n, e.n};
        if (x.start >= e.n) break;
        if (!first) ruler_say(&s->body, " ");
        ruler_put(&s->body, e.s + x.start, x.end - x.start);
        first = false;
        number++;
        p = x.end > p ? x.end : p + 1;
    }
    while (next < n) {
        ruler_say(&s->body, " ");
        say_fact(&s->body, &facts[next++]);
    }
    s->body.failed |= e.failed;
    free(e.s);
}

/* Needles among lines: of noise, or of other needles. */
static void facts_in_lines(sample *s, const eval_plan *plan, size_t lines, fact *facts, int n,
                           eval_random *r) {
    const ruler_task *k = s->task;
    size_t at[MOST_FACTS];
    ruler_choose(at, (size_t)n, lines > (size_t)n ? lines : (size_t)n, r);
    s->depth = n == 1 ? round(100.0 * (double)at[0] / (double)(lines ? lines : 1)) : -1;
    int next = 0;
    for (size_t i = 0; i < lines || next < n; i++) {
        while (next < n && at[next] <= i) {
            say_fact(&s->body, &facts[next++]);
            ruler_say(&s->body, "\n");
        }
        if (i >= lines) continue;
        if (k->haystack == NOISE)
            ruler_say(&s->body, RULER_NOISE);
        else {
            fact other;
            do draw_fact(&other, k, plan->lexicon, r);
            while (key_taken(facts, n, other.key));
            say_fact(&s->body, &other);
        }
        if (i + 1 < lines || next < n) ruler_say(&s->body, "\n");
    }
}

/* Draws a task's needles behind the *n that are there, and words its question. */
static void draw_task(sample *s, const eval_lexicon *words, fact *facts, int *n, eval_random *r) {
    const ruler_task *k = s->task;
    fact *own = facts + *n;
    size_t asked[4];
    char values[8];
    bool one = k->queries * k->values == 1;
    snprintf(values, sizeof values, "%s", k->uuid_values ? "uuids" : "numbers");
    if (one) values[strlen(values) - 1] = 0;
    for (int i = 0; i < k->keys; i++) {
        fact first;
        do draw_fact(&first, k, words, r);
        while (key_taken(facts, *n, first.key));
        facts[(*n)++] = first;
        for (int v = 1; v < k->values; v++) {
            draw_fact(&facts[*n], k, words, r);
            strcpy(facts[(*n)++].key, first.key);
        }
    }
    ruler_choose(asked, (size_t)k->queries, (size_t)k->keys, r);
    text query = {0};
    for (int q = 0; q < k->queries; q++) {
        fact *f = &own[asked[q] * (size_t)k->values];
        for (int v = 0; v < k->values; v++) {
            f[v].owner = s;
            f[v].answer = s->n;
            snprintf(s->answers[s->n++], sizeof s->answers[0], "%s", f[v].value);
        }
        if (q) ruler_say(&query, q + 1 == k->queries ? ", and " : ", ");
        ruler_say(&query, f->key);
    }
    const char *keys = query.s ? query.s : "";
    ruler_say(&s->question, one ? "What is the special magic " : "What are all the special magic ");
    ruler_say(&s->question, values);
    ruler_say(&s->question, " for ");
    ruler_say(&s->question, keys);
    ruler_say(&s->question, " mentioned in the provided text?");
    ruler_say(&s->prefix, "The special magic ");
    ruler_say(&s->prefix, values);
    ruler_say(&s->prefix, " for ");
    ruler_say(&s->prefix, keys);
    ruler_say(&s->prefix, one ? " mentioned in the provided text is" : " mentioned in the provided text are");
    s->question.failed |= query.failed;
    free(query.s);
}

void ruler_needles(sample *list, int n, const eval_plan *plan, size_t amount, eval_random *r) {
    fact facts[MOST_FACTS];
    int n_facts = 0;
    const ruler_task *k = list->task;
    for (int i = 0; i < n; i++) draw_task(&list[i], plan->lexicon, facts, &n_facts, r);
    for (int i = n_facts - 1; i > 0; i--) {
        int j = (int)eval_below(r, (uint64_t)i + 1);
        fact swap = facts[i];
        facts[i] = facts[j];
        facts[j] = swap;
    }
    text *b = &list->body;
    bool one = n == 1 && k->queries * k->values == 1;
    const char *values = k->uuid_values ? one ? "uuid" : "uuids" : one ? "number" : "numbers";
    ruler_say(b, one ? "A special magic " : "Some special magic ");
    ruler_say(b, values);
    ruler_say(b, one ? " is" : " are");
    ruler_say(b, " hidden within the following text. Make sure to memorize it. I will quiz you about the ");
    ruler_say(b, values);
    ruler_say(b, " afterwards.\n");
    if (k->haystack == ESSAY)
        facts_in_essay(list, plan, amount, facts, n_facts, r);
    else
        facts_in_lines(list, plan, amount, facts, n_facts, r);
    ruler_say(b, "\n");
}
