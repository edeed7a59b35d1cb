/* eval_verdict.c - see eval_verdict.h. */
#include "appliance/eval_verdict.h"

#include "appliance/answer.h"
#include "appliance/eval_score.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- sights ---- */

void eval_sights_free(eval_sights *s) {
    free(s->at);
    free(s->score);
    memset(s, 0, sizeof *s);
}

static void see_selection(eval_sight *to, const trace_layer *l, eval_span span) {
    int n = 0;
    double mass = 0;
    /* Positions ascend: the first one within the span by halving. */
    int low = 0, high = l->count;
    while (low < high) {
        int mid = (low + high) / 2;
        if (l->position[mid] < span.start)
            low = mid + 1;
        else
            high = mid;
    }
    for (; low < l->count && l->position[low] < span.end; low++, n++) mass += l->mass[low];
    to->share = (float)n / (float)(span.end - span.start);
    to->mass = (float)mass;
}

/* Equal scores are ordered by position, as the selection does. */
static int64_t rank_of(const float *score, int64_t n, eval_span span) {
    int64_t best = span.start, rank = 1;
    for (int64_t i = span.start; i < span.end && i < n; i++)
        if (score[i] > score[best]) best = i;
    for (int64_t i = 0; i < n; i++) rank += score[i] > score[best] || (score[i] == score[best] && i < best);
    return rank;
}

int eval_sights_add(eval_sights *s, session *conversation, const generate_step *step, const eval_span *spans,
                    int n_spans, ph_error *err) {
    if (s->n_steps == EVAL_STEPS || n_spans == 0 || !step->layers) return PH_OK;
    if (!s->at) {
        s->layers = step->n_layers;
        s->n_spans = n_spans;
        s->n_score = session_length(conversation) + EVAL_STEPS;
        s->at = calloc((size_t)EVAL_STEPS * (size_t)s->layers * (size_t)n_spans, sizeof *s->at);
        s->score = malloc((size_t)s->n_score * sizeof *s->score);
        if (!s->at || !s->score) return ph_fail(err, PH_MEMORY, "no memory for a trace");
    }
    int64_t n = session_length(conversation);
    if (n > s->n_score) return PH_OK;
    if (s->n_steps == 0) {
        s->positions = n;
        s->chance = n > 0 ? (double)step->layers[0].count / (double)n : 0;
    }
    eval_sight *row = s->at + (size_t)s->n_steps * (size_t)s->layers * (size_t)n_spans;
    for (int l = 0; l < s->layers; l++, row += n_spans) {
        bool own = step->layers[l].score || l == 0;
        if (own && !step->selection_only) {
            int code = session_index_scores(conversation, l, s->score, err);
            if (code) return code;
        }
        for (int i = 0; i < n_spans; i++) {
            see_selection(&row[i], &step->layers[l], spans[i]);
            /* A layer that reuses a selection has the ranks of the one before. */
            row[i].rank = step->selection_only ? 0
                          : own                ? rank_of(s->score, n, spans[i])
                                               : row[i - n_spans].rank;
        }
    }
    s->n_steps++;
    return PH_OK;
}

static void see_entries(eval_sight *to, const trace_entry *entries, int n, eval_span span) {
    int inside = 0;
    double mass = 0;
    for (int i = 0; i < n; i++)
        if (entries[i].position >= span.start && entries[i].position < span.end) {
            inside++;
            mass += entries[i].mass;
        }
    *to = (eval_sight){.share = (float)inside / (float)(span.end - span.start), .mass = (float)mass};
}

int eval_sights_of_trace(eval_sights *s, const answer_trace *t, int64_t positions, const eval_span *spans,
                         int n_spans, ph_error *err) {
    int steps = t->n_tokens < EVAL_STEPS ? (int)t->n_tokens : EVAL_STEPS;
    if (steps == 0 || n_spans == 0 || t->layers == 0) return PH_OK;
    s->at = calloc((size_t)steps * (size_t)t->layers * (size_t)n_spans, sizeof *s->at);
    if (!s->at) return ph_fail(err, PH_MEMORY, "no memory for a trace");
    s->n_steps = steps;
    s->layers = t->layers;
    s->n_spans = n_spans;
    s->positions = positions;
    s->chance = positions > 0 ? (double)t->selected[0] / (double)positions : 0;
    for (int row = 0; row < steps * t->layers; row++) {
        int n = t->selected[row] < t->keep ? t->selected[row] : t->keep;
        for (int i = 0; i < n_spans; i++)
            see_entries(&s->at[row * n_spans + i], t->entries + (size_t)row * (size_t)t->keep, n, spans[i]);
    }
    return PH_OK;
}

eval_sight eval_sights_best(const eval_sights *s, int from, int to, int from_layer, int to_layer, int first,
                            int last) {
    eval_sight best = {0};
    if (to > s->n_steps) to = s->n_steps;
    if (last > s->n_spans) last = s->n_spans;
    for (int t = from; t < to; t++)
        for (int l = from_layer; l < to_layer && l < s->layers; l++)
            for (int i = first; i < last; i++) {
                const eval_sight *a =
                    &s->at[((size_t)t * (size_t)s->layers + (size_t)l) * (size_t)s->n_spans + (size_t)i];
                if (a->share > best.share) best.share = a->share;
                if (a->mass > best.mass) best.mass = a->mass;
                if (a->rank && (!best.rank || a->rank < best.rank)) best.rank = a->rank;
            }
    return best;
}

/* ---- scores ---- */

static bool says_absent(const char *got) {
    return score_exact(got, ANSWER_NOT_FOUND);
}

int eval_score_answer(eval_score *out, eval_kind kind, const eval_question *q, const char *got,
                      ph_error *err) {
    *out = (eval_score){.missing = -1, .said_absent = says_absent(got)};
    if (q->n_answers == 0) {
        out->right = out->said_absent;
        out->score = out->contains = out->exact = out->f1 = out->right;
        return PH_OK;
    }
    size_t found = 0;
    for (size_t i = 0; i < q->n_answers; i++) {
        double f1 = score_f1(got, q->answers[i]);
        if (f1 < 0) return ph_fail(err, PH_MEMORY, "no memory for a score");
        if (f1 > out->f1) out->f1 = f1;
        if (score_exact(got, q->answers[i])) out->exact = 1;
        if (score_contains(got, q->answers[i]))
            found++;
        else if (out->missing < 0)
            out->missing = (int)i;
    }
    out->contains = q->all ? (double)found / (double)q->n_answers : found > 0;
    out->score = kind == EVAL_QA ? out->f1 : out->contains;
    /* An answer that shares most of its words is not a failure to be explained. */
    out->right = out->contains == 1 || (kind == EVAL_QA && out->f1 >= 0.5);
    if (out->right) out->missing = -1;
    return PH_OK;
}

/* ---- verdicts ---- */

json_t *eval_answer_string(const char *s) {
    json_t *v = json_string(s);
    if (v) return v;
    size_t n = strlen(s);
    char *out = malloc(n + 1);
    if (!out) return NULL;
    for (size_t i = 0; i <= n; i++) out[i] = (unsigned char)s[i] < 0x80 ? s[i] : '?';
    v = json_string(out);
    free(out);
    return v;
}

static const char *const names[VERDICTS] = {"right",   "not selected", "selected, not used",
                                            "cut off", "wrong copy",   "invented",
                                            "unknown", "no trace"};

const char *eval_verdict_name(eval_verdict v) {
    return v >= 0 && v < VERDICTS ? names[v] : "?";
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static size_t common_prefix(const char *a, const char *b) {
    size_t n = 0;
    while (a[n] && lower(a[n]) == lower(b[n])) n++;
    return n;
}

/* The answer token at which `got` leaves the reference; n_tokens where it never does. */
static int leaves_at(const eval_answer *a, const char *reference) {
    size_t same = common_prefix(a->got, reference);
    int t = 0;
    while (t < a->n_tokens && a->ends[t] <= same) t++;
    return t;
}

/* The answer ends within the reference: how much of it stands at the end. */
static size_t begun(const char *got, const char *reference) {
    size_t n = strlen(got), most = strlen(reference);
    for (size_t k = n < most ? n : most; k > 0; k--) {
        size_t i = 0;
        while (i < k && lower(got[n - k + i]) == lower(reference[i])) i++;
        if (i == k) return k;
    }
    return 0;
}

/* A span is selected where a quarter of its tokens are, and of a longer one at least two: one token of many
 * is what chance selects too. */
static bool selected(const eval_question *q, float share, int first, int last) {
    int64_t longest = 1;
    for (int i = first; i < last; i++) {
        int64_t n = q->spans[i].end - q->spans[i].start;
        longest = n > longest ? n : longest;
    }
    float least = longest >= 4 && 2.0f / (float)longest > 0.25f ? 2.0f / (float)longest : 0.25f;
    return share >= least - 1e-4f;
}

/* Probability that of n tokens at least c are selected, where each is by chance p (binomial). */
static double at_least(int64_t c, int64_t n, double p) {
    double sum = 0, term = 0;
    for (int64_t i = c; i <= n && (i <= c + 1 || term > sum * 1e-12); i++) {
        term = exp(lgamma((double)n + 1) - lgamma((double)i + 1) - lgamma((double)(n - i) + 1) +
                   (double)i * log(p) + (double)(n - i) * log1p(-p));
        sum += term;
    }
    return c <= 0 || sum > 1 ? 1 : sum;
}

/* In a short text a selection covers a large part of everything, and some of the place by chance: it was
 * selected where that is unlikely, in one step of one layer, in one layer, or in all together; or where its
 * best token stands among the very first in more layers than chance has it. */
static bool beyond_chance(const eval_sights *s, int until, int span, int64_t tokens) {
    enum { LIKELY_ONCE_IN = 100, FIRST_ONCE_IN = 100 };
    double p = s->chance;
    int steps = until < s->n_steps ? until : s->n_steps;
    if (p <= 0 || p >= 1 || steps == 0) return true;
    int64_t all = 0, most_of_layer = 0, most = 0, n_first = 0;
    int64_t positions = s->positions, first = positions / (FIRST_ONCE_IN * tokens);
    if (first < 1) first = 1;
    for (int l = 0; l < s->layers; l++) {
        int64_t of_layer = 0;
        for (int t = 0; t < steps; t++) {
            size_t at = ((size_t)t * (size_t)s->layers + (size_t)l) * (size_t)s->n_spans + (size_t)span;
            int64_t n = llroundf(s->at[at].share * (float)tokens);
            of_layer += n;
            most = n > most ? n : most;
            n_first += s->at[at].rank && s->at[at].rank <= first;
        }
        all += of_layer;
        most_of_layer = of_layer > most_of_layer ? of_layer : most_of_layer;
    }
    double rarest = at_least(all, tokens * steps * s->layers, p);
    rarest = fmin(rarest, s->layers * at_least(most_of_layer, tokens * steps, p));
    rarest = fmin(rarest, s->layers * steps * at_least(most, tokens, p));
    if (positions > first * tokens)
        rarest = fmin(rarest, at_least(n_first, (int64_t)steps * s->layers,
                                       (double)(first * tokens) / (double)positions));
    return rarest * LIKELY_ONCE_IN < 1;
}

static bool any_beyond_chance(const eval_question *q, const eval_sights *s, int until, int first, int last) {
    for (int i = first; i < last && i < s->n_spans; i++)
        if (beyond_chance(s, until, i, q->spans[i].end - q->spans[i].start)) return true;
    return false;
}

/* The reference to explain: of several asked for the first that is missing, else the one most like the
 * answer. */
static int reference_of(const eval_question *q, const eval_score *score, const char *got) {
    if (q->all) return score->missing < 0 ? 0 : score->missing;
    int best = 0;
    double most = -1;
    for (size_t i = 0; i < q->n_answers; i++) {
        double like = score_similarity(got, q->answers[i]);
        if (like > most) {
            most = like;
            best = (int)i;
        }
    }
    return best;
}

/* The answer is a piece of the reference, of two words or more or most of it: the right place, not copied to
 * its end. */
static bool piece_of(const char *got, const char *reference) {
    while (*got == ' ') got++;
    size_t n = strlen(got);
    while (n && strchr(" .,;\n", got[n - 1])) n--;
    bool words = memchr(got, ' ', n) != NULL;
    for (const char *at = reference; n && strlen(at) >= n; at++) {
        size_t i = 0;
        while (i < n && lower(at[i]) == lower(got[i])) i++;
        bool begins = at == reference || !isalnum((unsigned char)at[-1]),
             ends = !isalnum((unsigned char)at[n]);
        if (i == n && begins && ends) return words || n * 2 >= strlen(reference);
    }
    return false;
}

/* k: how many positions are selected; 0 = that is not told. */
static void describe(char *out, size_t room, const eval_sight *best, int k) {
    char of[40] = "", rank[80] = "";
    if (k) snprintf(of, sizeof of, " of %d selected", k);
    if (best->rank) snprintf(rank, sizeof rank, "best rank %lld%s, ", (long long)best->rank, of);
    snprintf(out, room, "%s%.0f%% of its tokens", rank, 100 * best->share);
}

eval_verdict eval_judge(const eval_question *q, const eval_answer *a, const eval_score *score,
                        const eval_sights *s, const eval_sights *thought, int k, char *detail) {
    enum { ROOM = 400 };
    detail[0] = 0;
    if (score->right) return VERDICT_RIGHT;
    if (q->n_answers == 0) return VERDICT_INVENTED;
    int r = reference_of(q, score, a->got);
    const char *reference = q->answers[r];
    bool out_of_room = a->stop == STOP_LENGTH || a->stop == STOP_CONTEXT;
    /* Something of the answer is there, or its beginning stands at the very end: it ran out of room. */
    if (out_of_room &&
        ((q->all && score->contains > 0) || begun(a->got, reference) * 4 >= strlen(reference))) {
        snprintf(detail, ROOM, "after %d tokens", a->n_tokens);
        return VERDICT_CUT_OFF;
    }
    if (s->n_steps + thought->n_steps == 0) return q->n_spans ? VERDICT_NO_TRACE : VERDICT_UNKNOWN;
    /* One of several: the steps that should have given it are not known; else up to where the answer left it.
     */
    bool several = q->all && q->n_answers > 1;
    int own = q->n_spans == (int)q->n_answers ? r : -1;
    int until = several ? s->n_steps : leaves_at(a, reference) + 1;
    int first = own < 0 ? 0 : own, last = own < 0 ? s->n_spans : own + 1;
    eval_sight best = eval_sights_best(s, 0, until, 0, s->layers, first, last),
               before = eval_sights_best(thought, 0, thought->n_steps, 0, thought->layers, first, last);
    best.share = fmaxf(best.share, before.share);
    best.mass = fmaxf(best.mass, before.mass);
    if (before.rank && (!best.rank || before.rank < best.rank)) best.rank = before.rank;
    if (!selected(q, best.share, first, last) ||
        !(any_beyond_chance(q, s, until, first, last) ||
          any_beyond_chance(q, thought, thought->n_steps, first, last))) {
        describe(detail, ROOM, &best, k);
        return VERDICT_NOT_SELECTED;
    }
    if (score_similarity(a->got, reference) >= 0.5 || piece_of(a->got, reference) ||
        common_prefix(a->got, reference) * 3 >= strlen(reference)) {
        snprintf(detail, ROOM, "\"%.150s\" for \"%.150s\"", a->got, reference);
        return VERDICT_WRONG_COPY;
    }
    size_t n = (size_t)snprintf(detail, ROOM, "mass %.4f, ", best.mass);
    describe(detail + n, ROOM - n, &best, 0);
    return VERDICT_NOT_USED;
}
