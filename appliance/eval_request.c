/* eval_request.c - a run's parameters from a request that a person's browser may have made: every member
 * checked, what is absent gets its default (eval.h). */
#include "appliance/eval.h"

#include <stdlib.h>
#include <string.h>

enum {
    MOST_DEPTHS = 100,
    MOST_SAMPLES = 500,
    MOST_NEEDLES = 200,
    MOST_TOKENS = 1024,
    MOST_QUESTIONS = 100000,
    LEAST_LENGTH = 512
};

static int check_members(const json_t *body, const char *const *names, ph_error *err) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)body, key, value) {
        int i = 0;
        while (names[i] && strcmp(names[i], key)) i++;
        if (!names[i]) return ph_fail(err, PH_USAGE, "there is no member %.60s", key);
    }
    return PH_OK;
}

/* Absent: *out stays. */
static int whole(const json_t *body, const char *name, int64_t low, int64_t high, int64_t *out,
                 ph_error *err) {
    const json_t *v = json_object_get(body, name);
    if (!v || json_is_null(v)) return PH_OK;
    if (!json_is_integer(v) || json_integer_value(v) < low || json_integer_value(v) > high)
        return ph_fail(err, PH_USAGE, "%s is a whole number from %lld to %lld", name, (long long)low,
                       (long long)high);
    *out = json_integer_value(v);
    return PH_OK;
}

static int small(const json_t *body, const char *name, int low, int high, int *out, ph_error *err) {
    int64_t v = *out;
    int code = whole(body, name, low, high, &v, err);
    *out = (int)v;
    return code;
}

static int flag(const json_t *body, const char *name, bool *out, ph_error *err) {
    const json_t *v = json_object_get(body, name);
    if (!v || json_is_null(v)) return PH_OK;
    if (!json_is_boolean(v)) return ph_fail(err, PH_USAGE, "%s is true or false", name);
    *out = json_is_true(v);
    return PH_OK;
}

static int take_kind(eval_params *p, const json_t *body, ph_error *err) {
    const json_t *kind = json_object_get(body, "kind"), *over = json_object_get(body, "over");
    int k = json_is_string(kind) ? eval_kind_find(json_string_value(kind)) : -1;
    if (k < 0) return ph_fail(err, PH_USAGE, "kind is needle, ruler, qa, recall or compare");
    p->kind = (eval_kind)k;
    p->over = k <= EVAL_QA ? p->kind : p->questions ? EVAL_QA : EVAL_NEEDLE;
    if (!over || json_is_null(over)) return PH_OK;
    int o = json_is_string(over) ? eval_kind_find(json_string_value(over)) : -1;
    if (o < 0 || o > EVAL_QA || (k <= EVAL_QA && o != k))
        return ph_fail(err, PH_USAGE, "over is needle, ruler or qa, for the kinds recall and compare");
    p->over = (eval_kind)o;
    return PH_OK;
}

static int take_text(eval_params *p, const json_t *body, ph_error *err) {
    const json_t *v = json_object_get(body, "text");
    const char *text = v ? json_string_value(v) : "generated";
    p->documents = text && !strcmp(text, "documents");
    p->generated = text && !strcmp(text, "generated");
    if (!p->documents && !p->generated && !(text && !strcmp(text, "licences")))
        return ph_fail(err, PH_USAGE, "text is documents, generated or licences");
    return PH_OK;
}

static int take_lengths(eval_params *p, const json_t *body, int64_t most, ph_error *err) {
    const json_t *list = json_object_get(body, "lengths");
    size_t n = json_array_size(list);
    bool good = n >= 1 && n <= EVAL_MAX_LENGTHS;
    for (size_t i = 0; good && i < n; i++) {
        const json_t *v = json_array_get(list, i);
        p->lengths[i] = json_integer_value(v);
        good = json_is_integer(v) && p->lengths[i] >= LEAST_LENGTH && p->lengths[i] <= most;
        for (size_t k = 0; good && k < i; k++) good = p->lengths[k] != p->lengths[i];
    }
    if (!good)
        return ph_fail(err, PH_USAGE,
                       "lengths is a list of 1 to %d different numbers of tokens from %d to %lld",
                       EVAL_MAX_LENGTHS, LEAST_LENGTH, (long long)most);
    p->n_lengths = (int)n;
    return PH_OK;
}

/* As documents of a library the passages stand in packs as long as the model goes, and nothing around them.
 */
static int take_as_ask(eval_params *p, const json_t *body, int64_t most, ph_error *err) {
    static const char *const others[] = {"text", "lengths", "per_haystack"};
    if (p->kind != EVAL_QA) return ph_fail(err, PH_USAGE, "as_ask belongs to the kind qa");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        const json_t *v = json_object_get(body, others[i]);
        if (v && !json_is_null(v))
            return ph_fail(err, PH_USAGE,
                           "with as_ask there is no %s: the passages are documents, in packs as long as the "
                           "model goes",
                           others[i]);
    }
    p->generated = true;
    p->lengths[0] = most;
    p->n_lengths = 1;
    return PH_OK;
}

/* Absent: as the model has it, where it can be (eval_run). */
static int take_thinking(eval_params *p, const json_t *body, ph_error *err) {
    const json_t *v = json_object_get(body, "thinking");
    bool thinking = false;
    int code = flag(body, "thinking", &thinking, err);
    if (!code && v && !json_is_null(v)) p->thinking = thinking ? THINK_FIRST : THINK_NOT;
    return code;
}

static int take_ks(eval_params *p, const json_t *body, int topk, ph_error *err) {
    const json_t *list = json_object_get(body, "ks");
    size_t n = json_array_size(list);
    bool good = (!list || json_is_null(list) || json_is_array(list)) && n <= EVAL_MAX_KS;
    for (size_t i = 0; good && i < n; i++) {
        const json_t *v = json_array_get(list, i);
        good = json_is_integer(v) && json_integer_value(v) >= 1 && json_integer_value(v) <= topk;
        p->ks[i] = good ? (int)json_integer_value(v) : 0;
        for (size_t k = 0; good && k < i; k++) good = p->ks[k] != p->ks[i];
    }
    if (!good)
        return ph_fail(err, PH_USAGE, "ks is a list of at most %d different numbers from 1 to %d",
                       EVAL_MAX_KS, topk);
    p->n_ks = (int)n;
    if (n || p->kind != EVAL_COMPARE) return PH_OK;
    p->ks[p->n_ks++] = topk;
    if (topk >= 4) p->ks[p->n_ks++] = topk / 4;
    return PH_OK;
}

static int take_tasks(eval_params *p, const json_t *body, ph_error *err) {
    const json_t *list = json_object_get(body, "tasks");
    if (!list || json_is_null(list)) {
        p->tasks = p->questions ? (1u << EVAL_RULER_TASKS) - 1 : (1u << 11) - 1;
        return PH_OK;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        int k = 0;
        while (name && eval_ruler_name(k) && strcmp(eval_ruler_name(k), name)) k++;
        if (!name || !eval_ruler_name(k))
            return ph_fail(err, PH_USAGE, "there is no RULER task %.40s", name ? name : "of that type");
        p->tasks |= 1u << k;
    }
    if (!p->tasks) return ph_fail(err, PH_USAGE, "tasks is a list of RULER's tasks, with one at least");
    if (p->tasks >> 11 && !p->questions)
        return ph_fail(err, PH_USAGE, "qa_1 and qa_2 ask questions of yours: send a file of them first");
    return PH_OK;
}

/* A sentence of a person's, of one line: NULL where it is none. */
static char *line_of(const json_t *j, const char *key, size_t most) {
    const char *s = json_string_value(json_object_get(j, key));
    if (!s || !*s || strlen(s) > most || strpbrk(s, "\r\n")) return NULL;
    return strdup(s);
}

static int take_needles(eval_params *p, const json_t *body, ph_error *err) {
    static const char *const members[] = {"needle", "question", "answer", NULL};
    const json_t *list = json_object_get(body, "needles");
    size_t n = json_array_size(list);
    if (!list || json_is_null(list)) return PH_OK;
    if (!json_is_array(list) || n < 1 || n > MOST_NEEDLES)
        return ph_fail(err, PH_USAGE, "needles is a list of 1 to %d", MOST_NEEDLES);
    p->needles = calloc(n, sizeof *p->needles);
    if (!p->needles) return ph_fail(err, PH_MEMORY, "no memory for a run");
    for (size_t i = 0; i < n; i++) {
        const json_t *j = json_array_get(list, i);
        eval_needle *to = &p->needles[p->n_needles++];
        int code = json_is_object(j) ? check_members(j, members, err) : PH_OK;
        if (code) return code;
        *to =
            (eval_needle){line_of(j, "needle", 319), line_of(j, "question", 239), line_of(j, "answer", 119)};
        if (!to->needle || !to->question || !to->answer)
            return ph_fail(err, PH_USAGE,
                           "a needle has a needle (at most 319 bytes), a question (239) and an answer (119), "
                           "each of one line");
    }
    return PH_OK;
}

/* What does not go together. */
static int check_whole(eval_params *p, ph_error *err) {
    if (p->over == EVAL_QA && !p->questions)
        return ph_fail(err, PH_USAGE, "this kind asks questions of yours: send a file of them first");
    if (p->kind == EVAL_COMPARE && p->dense) return ph_fail(err, PH_USAGE, "compare runs dense by itself");
    if (p->n_needles && p->over != EVAL_NEEDLE)
        return ph_fail(err, PH_USAGE, "needles of your own belong to needle runs");
    if (p->n_needles && p->together && p->n_needles < (size_t)p->depths)
        return ph_fail(err, PH_USAGE, "%d depths together need %d needles, and there are %zu", p->depths,
                       p->depths, p->n_needles);
    if (p->thinking == THINK_FIRST && p->kind == EVAL_COMPARE)
        return ph_fail(err, PH_USAGE, "compare takes no thought before the answer");
    if (p->thinking == THINK_FIRST && p->answer_prefix)
        return ph_fail(err, PH_USAGE, "an answer that is begun for the model takes no thought before it");
    if (p->reworded && !p->together)
        return ph_fail(err, PH_USAGE, "other words than the needle's are there for needles together only");
    return PH_OK;
}

/* A number of even depths, or the depths themselves. */
static int take_depths(eval_params *p, const json_t *body, ph_error *err) {
    const json_t *list = json_object_get(body, "depths");
    int64_t percent[EVAL_MAX_DEPTHS];
    p->depths = 11;
    if (!json_is_array(list)) return small(body, "depths", 1, MOST_DEPTHS, &p->depths, err);
    size_t n = json_array_size(list);
    if (n > EVAL_MAX_DEPTHS) return ph_fail(err, PH_USAGE, "depths names more than %d", EVAL_MAX_DEPTHS);
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        percent[i] = json_is_integer(v) ? json_integer_value(v) : -1;
    }
    return eval_params_depths(p, percent, (int)n, err);
}

static int take_all(eval_params *p, const json_t *body, int64_t most, int topk, ph_error *err) {
    static const char *const members[] = {
        "kind",    "over",      "text",     "lengths",  "depths",       "samples",   "max_tokens",    "seed",
        "ks",      "tasks",     "together", "reworded", "dense",        "published", "answer_prefix", "plain",
        "needles", "questions", "source",   "limit",    "per_haystack", "as_ask",    "thinking",      NULL};
    int64_t seed = 42;
    int code = check_members(body, members, err);
    if (!code) code = whole(body, "questions", 1, INT64_MAX, &p->questions, err);
    if (!code) code = take_kind(p, body, err);
    if (!code) code = flag(body, "as_ask", &p->as_ask, err);
    if (!code && p->as_ask) code = take_as_ask(p, body, most, err);
    if (!code && !p->as_ask) code = take_text(p, body, err);
    if (!code && !p->as_ask) code = take_lengths(p, body, most, err);
    if (!code) code = take_ks(p, body, topk, err);
    if (!code && p->over == EVAL_RULER) code = take_tasks(p, body, err);
    if (!code) code = take_needles(p, body, err);
    p->samples = p->over == EVAL_RULER ? 5 : 1;
    p->together = p->kind != p->over && p->over == EVAL_NEEDLE && !p->n_needles;
    p->per_haystack = p->kind == EVAL_COMPARE ? 16 : 0;
    if (!code) code = take_depths(p, body, err);
    if (!code) code = small(body, "samples", 1, MOST_SAMPLES, &p->samples, err);
    if (!code) code = small(body, "max_tokens", 1, MOST_TOKENS, &p->max_tokens, err);
    if (!code) code = small(body, "limit", 1, MOST_QUESTIONS, &p->limit, err);
    if (!code) code = small(body, "per_haystack", 1, MOST_QUESTIONS, &p->per_haystack, err);
    if (!code) code = whole(body, "seed", 0, INT64_MAX, &seed, err);
    if (!code) code = flag(body, "together", &p->together, err);
    if (!code) code = flag(body, "reworded", &p->reworded, err);
    if (!code) code = flag(body, "dense", &p->dense, err);
    if (!code) code = flag(body, "published", &p->published, err);
    if (!code) code = take_thinking(p, body, err);
    p->plain = p->answer_prefix = p->published;
    if (!code) code = flag(body, "plain", &p->plain, err);
    if (!code) code = flag(body, "answer_prefix", &p->answer_prefix, err);
    p->seed = (uint64_t)seed;
    if (!code && json_object_get(body, "source") && !(p->source = line_of(body, "source", 200)))
        code = ph_fail(err, PH_USAGE, "source is a name of one line, of at most 200 bytes");
    return code ? code : check_whole(p, err);
}

int eval_params_request(eval_params *p, const json_t *body, int64_t most, int topk, ph_error *err) {
    memset(p, 0, sizeof *p);
    int code = take_all(p, body, most, topk, err);
    if (code) eval_params_free(p);
    return code;
}
