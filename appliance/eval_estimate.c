/* eval_estimate.c - see eval_estimate.h. */
#include "appliance/eval_estimate.h"

#include <string.h>

enum { RUNS_LOOKED_AT = 10 };

typedef struct measured {
    double tokens[2], seconds[2]; /* of reading: sparse, dense */
    double asked, asking;         /* cells, and what their questions and answers took */
} measured;

static double real(const json_t *j, const char *key) {
    return json_number_value(json_object_get(j, key));
}

static void take_cell(measured *m, const store_cell *c) {
    json_t *timing = json_loads(c->timing, 0, NULL), *result = json_loads(c->result, 0, NULL);
    const char *variant = json_string_value(json_object_get(result, "variant"));
    int dense = variant && !strcmp(variant, "dense");
    m->tokens[dense] += real(timing, "read_tokens");
    m->seconds[dense] += real(timing, "prefill_s");
    m->asking += real(timing, "question_s") + real(timing, "answer_s");
    m->asked++;
    json_decref(timing);
    json_decref(result);
}

/* The latest runs of the same model. */
static int look_back(measured *m, store *s, const uint8_t key[32], ph_error *err) {
    store_run *runs = NULL;
    size_t n = 0, looked = 0;
    int code = store_run_list(s, 200, &runs, &n, err);
    for (size_t i = 0; i < n && looked < RUNS_LOOKED_AT && !code; i++) {
        store_cell *cells = NULL;
        size_t count = 0;
        if (memcmp(runs[i].key, key, sizeof runs[i].key) || !runs[i].done) continue;
        ph_error gone;
        if (store_cell_list(s, runs[i].id, &cells, &count, &gone)) continue; /* erased just now */
        for (size_t k = 0; k < count; k++) take_cell(m, &cells[k]);
        store_cells_free(cells, count);
        looked++;
    }
    store_runs_free(runs, n);
    return code;
}

int eval_estimate_make(eval_estimate *out, eval_params *p, store *s, engine *e, double rate, ph_error *err) {
    measured m = {0};
    eval_plan plan;
    int64_t sparse, dense;
    *out = (eval_estimate){0};
    int code = eval_plan_make(&plan, p, s, e, err);
    if (code) return code;
    eval_plan_tokens(&plan, &sparse, &dense);
    *out = (eval_estimate){
        .cells = plan.cells, .haystacks = plan.n_groups * (size_t)plan.n_variants, .tokens = sparse + dense};
    eval_plan_free(&plan);
    code = look_back(&m, s, engine_key(e), err);
    double rates[2] = {m.seconds[0] > 0 ? m.tokens[0] / m.seconds[0] : rate,
                       m.seconds[1] > 0 ? m.tokens[1] / m.seconds[1] : 0};
    if (rates[0] <= 0) rates[0] = rates[1];
    if (rates[1] <= 0) rates[1] = rates[0];
    if (code || rates[0] <= 0) return code;
    double reading = (double)sparse / rates[0] + (double)dense / rates[1];
    out->rate = reading > 0 ? (double)out->tokens / reading : rates[0];
    out->seconds = reading + (m.asked > 0 ? m.asking / m.asked * (double)out->cells : 0);
    return PH_OK;
}
