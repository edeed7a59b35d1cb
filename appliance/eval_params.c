/* eval_params.c - what a run is made of, as JSON and back; its random numbers. */
#include "appliance/eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const kinds[EVAL_KINDS] = {"needle", "ruler", "qa", "recall", "compare"};

const char *eval_kind_name(eval_kind k) {
    return k >= 0 && k < EVAL_KINDS ? kinds[k] : "?";
}

int eval_kind_find(const char *name) {
    for (int i = 0; i < EVAL_KINDS; i++)
        if (!strcmp(kinds[i], name)) return i;
    return -1;
}

void eval_params_free(eval_params *p) {
    for (size_t i = 0; i < p->n_files; i++) free(p->files[i]);
    free(p->files);
    for (size_t i = 0; i < p->n_needles; i++) {
        free(p->needles[i].needle);
        free(p->needles[i].question);
        free(p->needles[i].answer);
    }
    free(p->needles);
    free(p->data);
    free(p->source);
    free(p->words);
    memset(p, 0, sizeof *p);
}

static const char *const faults[] = {[ENGINE_FAULT_SHUFFLED_SCORES] = "shuffled-scores",
                                     [ENGINE_FAULT_ZERO_ATTENTION] = "zeroed-attention"};

engine_fault eval_fault_find(const char *name) {
    for (int i = 1; i < (int)(sizeof faults / sizeof *faults); i++)
        if (!strcmp(name, faults[i])) return (engine_fault)i;
    return ENGINE_FAULT_NONE;
}

int eval_params_depths(eval_params *p, const int64_t *percent, int n, ph_error *err) {
    bool named[EVAL_MAX_DEPTHS] = {false};
    for (int i = 0; i < n; i++) {
        if (percent[i] < 0 || percent[i] >= EVAL_MAX_DEPTHS)
            return ph_fail(err, PH_USAGE, "a depth is a whole percentage from 0 to 100, and %lld is none",
                           (long long)percent[i]);
        named[percent[i]] = true;
    }
    p->depths = 0;
    for (int i = 0; i < EVAL_MAX_DEPTHS; i++)
        if (named[i]) p->depth[p->depths++] = (uint8_t)i;
    p->named_depths = true;
    return p->depths ? PH_OK : ph_fail(err, PH_USAGE, "no depths are named");
}

double eval_depth(const eval_params *p, int i) {
    if (p->named_depths) return p->depth[i];
    return p->depths > 1 ? round(100.0 * i / (p->depths - 1)) : 50;
}

json_t *eval_params_json(const eval_params *p) {
    json_t *lengths = json_array(), *files = json_array(), *needles = json_array(), *ks = json_array();
    for (int i = 0; i < p->n_lengths; i++) json_array_append_new(lengths, json_integer(p->lengths[i]));
    for (size_t i = 0; i < p->n_files; i++) json_array_append_new(files, json_string(p->files[i]));
    for (size_t i = 0; i < p->n_needles; i++)
        json_array_append_new(needles,
                              json_pack("{s:s, s:s, s:s}", "needle", p->needles[i].needle, "question",
                                        p->needles[i].question, "answer", p->needles[i].answer));
    for (int i = 0; i < p->n_ks; i++) json_array_append_new(ks, json_integer(p->ks[i]));
    json_t *named = p->named_depths ? json_array() : NULL;
    for (int i = 0; named && i < p->depths; i++) json_array_append_new(named, json_integer(p->depth[i]));
    return json_pack("{s:s, s:s, s:o, s:I, s:i, s:i, s:o, s:b, s:b, s:i, s:b, s:o, s:I, s:b, s:b, s:s*, "
                     "s:s*, s:i, s:i, s:o,"
                     " s:i, s:b, s:s, s:b, s:b, s:s*, s:I, s:b, s:b, s:o*, s:s*}",
                     "kind", eval_kind_name(p->kind), "over", eval_kind_name(p->over), "lengths", lengths,
                     "seed", (json_int_t)p->seed, "samples", p->samples, "max_tokens", p->max_tokens, "files",
                     files, "documents", p->documents, "generated", p->generated, "depths", p->depths,
                     "together", p->together, "needles", needles, "tasks", (json_int_t)p->tasks,
                     "answer_prefix", p->answer_prefix, "plain", p->plain, "data", p->data, "source",
                     p->source, "limit", p->limit, "per_haystack", p->per_haystack, "ks", ks, "topk", p->topk,
                     "dense", p->dense, "text_hash", p->text_hash, "reworded", p->reworded, "published", p->published,
                     "words", p->words, "questions", (json_int_t)p->questions, "thinking",
                     p->thinking == THINK_FIRST, "as_ask", p->as_ask, "named_depths", named, "fault", faults[p->fault]);
}

static int64_t number(const json_t *j, const char *key) {
    return json_integer_value(json_object_get(j, key));
}
static bool flag(const json_t *j, const char *key) {
    return json_is_true(json_object_get(j, key));
}

static char *copy(const json_t *j, const char *key) {
    const char *s = json_string_value(json_object_get(j, key));
    return strdup(s ? s : "");
}

static int parse_lists(eval_params *p, const json_t *j, ph_error *err) {
    const json_t *lengths = json_object_get(j, "lengths"), *files = json_object_get(j, "files"),
                 *needles = json_object_get(j, "needles"), *ks = json_object_get(j, "ks"),
                 *named = json_object_get(j, "named_depths");
    for (size_t i = 0; i < json_array_size(lengths) && i < EVAL_MAX_LENGTHS; i++)
        p->lengths[p->n_lengths++] = json_integer_value(json_array_get(lengths, i));
    for (size_t i = 0; i < json_array_size(ks) && i < EVAL_MAX_KS; i++)
        p->ks[p->n_ks++] = (int)json_integer_value(json_array_get(ks, i));
    if (named) {
        int64_t percent[EVAL_MAX_DEPTHS];
        int n = 0;
        for (; (size_t)n < json_array_size(named) && n < EVAL_MAX_DEPTHS; n++)
            percent[n] = json_integer_value(json_array_get(named, (size_t)n));
        int code = eval_params_depths(p, percent, n, err);
        if (code) return code;
    }
    p->files = calloc(json_array_size(files) + 1, sizeof *p->files);
    p->needles = calloc(json_array_size(needles) + 1, sizeof *p->needles);
    if (!p->files || !p->needles) return ph_fail(err, PH_MEMORY, "no memory for a run");
    for (size_t i = 0; i < json_array_size(files); i++) {
        const char *s = json_string_value(json_array_get(files, i));
        if (!s || !(p->files[p->n_files++] = strdup(s)))
            return ph_fail(err, PH_MEMORY, "no memory for a run");
    }
    for (size_t i = 0; i < json_array_size(needles); i++) {
        const json_t *n = json_array_get(needles, i);
        eval_needle *to = &p->needles[p->n_needles++];
        *to = (eval_needle){copy(n, "needle"), copy(n, "question"), copy(n, "answer")};
        if (!to->needle || !to->question || !to->answer)
            return ph_fail(err, PH_MEMORY, "no memory for a run");
    }
    return PH_OK;
}

int eval_params_parse(eval_params *p, const char *json, ph_error *err) {
    memset(p, 0, sizeof *p);
    json_error_t e;
    json_t *j = json_loads(json, 0, &e);
    if (!j) return ph_fail(err, PH_CORRUPT, "the run's parameters cannot be read: %s", e.text);
    const char *kind = json_string_value(json_object_get(j, "kind")),
               *over = json_string_value(json_object_get(j, "over")),
               *hash = json_string_value(json_object_get(j, "text_hash"));
    int k = kind ? eval_kind_find(kind) : -1, o = over ? eval_kind_find(over) : -1;
    int code = PH_OK;
    if (k < 0 || o < 0 || o > EVAL_QA)
        code = ph_fail(err, PH_CORRUPT, "the run's parameters name no known kind");
    p->kind = (eval_kind)k;
    p->over = (eval_kind)o;
    p->seed = (uint64_t)number(j, "seed");
    p->samples = (int)number(j, "samples");
    p->max_tokens = (int)number(j, "max_tokens");
    p->depths = (int)number(j, "depths");
    p->tasks = (uint32_t)number(j, "tasks");
    p->limit = (int)number(j, "limit");
    p->per_haystack = (int)number(j, "per_haystack");
    p->topk = (int)number(j, "topk");
    p->questions = number(j, "questions");
    p->documents = flag(j, "documents");
    p->generated = flag(j, "generated");
    p->together = flag(j, "together");
    p->reworded = flag(j, "reworded");
    p->answer_prefix = flag(j, "answer_prefix");
    p->plain = flag(j, "plain");
    p->published = flag(j, "published");
    p->dense = flag(j, "dense");
    p->thinking = flag(j, "thinking") ? THINK_FIRST : THINK_NOT;
    p->as_ask = flag(j, "as_ask");
    const char *fault = json_string_value(json_object_get(j, "fault"));
    if (fault) p->fault = eval_fault_find(fault);
    if (hash && strlen(hash) < sizeof p->text_hash) strcpy(p->text_hash, hash);
    if (!code) code = parse_lists(p, j, err);
    if (!code && json_is_string(json_object_get(j, "data")) && !(p->data = copy(j, "data")))
        code = ph_fail(err, PH_MEMORY, "no memory for a run");
    if (!code && json_is_string(json_object_get(j, "words")) && !(p->words = copy(j, "words")))
        code = ph_fail(err, PH_MEMORY, "no memory for a run");
    if (!code && json_is_string(json_object_get(j, "source")) && !(p->source = copy(j, "source")))
        code = ph_fail(err, PH_MEMORY, "no memory for a run");
    json_decref(j);
    if (code) eval_params_free(p);
    return code;
}

void eval_engine_options(const eval_params *p, int *topk, bool *dense) {
    *topk = p->topk;
    *dense = p->dense;
    if (p->kind != EVAL_COMPARE) return;
    /* Room for the largest k of the sweep; the run switches between them. */
    *dense = false;
    *topk = 0;
    for (int i = 0; i < p->n_ks; i++)
        if (p->ks[i] > *topk) *topk = p->ks[i];
}

/* ---- random numbers ---- */

static uint64_t mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

uint64_t eval_next(eval_random *r) {
    return mix(r->state += 0x9E3779B97F4A7C15u);
}

uint64_t eval_below(eval_random *r, uint64_t n) {
    /* The part of the range that n does not divide is drawn again. */
    uint64_t limit = UINT64_MAX - UINT64_MAX % n, x;
    do x = eval_next(r);
    while (x >= limit);
    return x % n;
}

eval_random eval_stream(uint64_t seed, const char *name, int64_t a, int64_t b) {
    uint64_t h = mix(seed + 0x9E3779B97F4A7C15u);
    for (; *name; name++) h = mix(h ^ (unsigned char)*name);
    return (eval_random){mix(mix(h ^ (uint64_t)a) ^ (uint64_t)b * 0xD1B54A32D192ED03u)};
}
