/* read_set.c - collects traces and maps them onto sentences (read_set.h). */
#include "appliance/read_set.h"

#include "ingest/sentences.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- collecting ---- */

static int grow(answer_trace *t, size_t piece, ph_error *err) {
    if (t->n_tokens == t->capacity) {
        size_t n = t->capacity ? t->capacity * 2 : 32, rows = n * (size_t)t->layers;
        trace_token *tokens = realloc(t->tokens, n * sizeof *tokens);
        if (tokens) t->tokens = tokens;
        int32_t *selected = realloc(t->selected, (rows ? rows : 1) * sizeof *selected);
        if (selected) t->selected = selected;
        trace_entry *entries = realloc(t->entries, (rows ? rows : 1) * (size_t)t->keep * sizeof *entries);
        if (entries) t->entries = entries;
        if (!tokens || !selected || !entries)
            return ph_fail(err, PH_MEMORY, "no memory for a trace of %zu tokens", n);
        t->capacity = n;
    }
    if (t->text_len + piece + 1 > t->text_capacity) {
        size_t n = (t->text_len + piece + 1) * 2;
        char *text = realloc(t->text, n);
        if (!text) return ph_fail(err, PH_MEMORY, "no memory for an answer of %zu bytes", n);
        t->text = text;
        t->text_capacity = n;
    }
    return PH_OK;
}

/* The `keep` heaviest positions, heaviest first, the earlier one among equals. */
static void keep_heaviest(const trace_layer *l, trace_entry *out, int keep) {
    int n = 0;
    for (int i = 0; i < l->count; i++) {
        float mass = l->mass[i];
        if (n == keep && mass <= out[n - 1].mass) continue;
        int at = n < keep ? n++ : n - 1;
        for (; at > 0 && out[at - 1].mass < mass; at--) out[at] = out[at - 1];
        out[at] = (trace_entry){l->position[i], l->score ? l->score[i] : NAN, mass};
    }
    for (; n < keep; n++) out[n] = (trace_entry){-1, NAN, 0};
}

int answer_trace_add(answer_trace *t, const generate_step *step, int keep, ph_error *err) {
    if (t->n_tokens == 0) {
        t->layers = step->n_layers;
        t->keep = keep;
    }
    int code = grow(t, step->piece_len, err);
    if (code) return code;
    t->tokens[t->n_tokens] =
        (trace_token){step->token, step->logprob, (uint32_t)t->text_len, (uint32_t)step->piece_len};
    if (step->piece_len) memcpy(t->text + t->text_len, step->piece, step->piece_len);
    t->text_len += step->piece_len;
    t->text[t->text_len] = 0;
    for (int i = 0; i < t->layers; i++) {
        size_t row = t->n_tokens * (size_t)t->layers + (size_t)i;
        t->selected[row] = step->layers[i].count;
        keep_heaviest(&step->layers[i], t->entries + row * (size_t)t->keep, t->keep);
    }
    t->n_tokens++;
    return PH_OK;
}

/* ---- what is told late ---- */

/* Room for the layers of every token that is there; none of them is known yet. */
static int make_rows(answer_trace *t, int layers, int keep, ph_error *err) {
    size_t rows = t->capacity * (size_t)layers, entries = rows * (size_t)keep;
    int32_t *selected = calloc(rows ? rows : 1, sizeof *selected);
    trace_entry *list =
        rows && entries / rows != (size_t)keep ? NULL : malloc((entries ? entries : 1) * sizeof *list);
    if (!selected || !list) {
        free(selected);
        free(list);
        return ph_fail(err, PH_MEMORY, "no memory for a trace of %zu tokens", t->n_tokens);
    }
    for (size_t i = 0; i < entries; i++) list[i] = (trace_entry){-1, NAN, 0};
    free(t->selected);
    free(t->entries);
    t->selected = selected;
    t->entries = list;
    t->layers = layers;
    t->keep = keep;
    return PH_OK;
}

static int most_votes(const void *a, const void *b, void *user) {
    const int32_t *votes = user, x = *(const int32_t *)a, y = *(const int32_t *)b;
    if (votes[x] != votes[y]) return votes[x] < votes[y] ? 1 : -1;
    return (x > y) - (x < y);
}

/* The `keep` positions that most layers selected, the earlier one among equals. */
static void keep_agreed(const trace_layer *l, int32_t *order, const int32_t *votes, trace_entry *out,
                        int keep) {
    memcpy(order, l->position, (size_t)l->count * sizeof *order);
    if (l->count) qsort_r(order, (size_t)l->count, sizeof *order, most_votes, (void *)votes);
    for (int i = 0; i < keep && i < l->count; i++) out[i] = (trace_entry){order[i], NAN, l->mass[0]};
}

int answer_trace_late(answer_trace *t, const generate_step *step, int keep, ph_error *err) {
    if (step->index < 0 || (size_t)step->index >= t->n_tokens || (t->layers && t->layers != step->n_layers))
        return ph_fail(err, PH_CORRUPT, "a trace came for a token that the answer does not have");
    int code = t->layers ? PH_OK : make_rows(t, step->n_layers, keep, err);
    if (code) return code;
    t->selection_only = step->selection_only;
    int32_t last = 0;
    int most = 0;
    for (int l = 0; l < step->n_layers; l++) {
        const trace_layer *from = &step->layers[l];
        if (from->count && from->position[from->count - 1] > last) last = from->position[from->count - 1];
        most = from->count > most ? from->count : most;
    }
    int32_t *votes = calloc((size_t)last + 1, sizeof *votes),
            *order = malloc(((size_t)most + 1) * sizeof *order);
    if (!votes || !order) code = ph_fail(err, PH_MEMORY, "no memory for a trace over %d tokens", last);
    for (int l = 0; l < step->n_layers && !code; l++)
        for (int i = 0; i < step->layers[l].count; i++) votes[step->layers[l].position[i]]++;
    for (int l = 0; l < step->n_layers && !code; l++) {
        size_t row = (size_t)step->index * (size_t)t->layers + (size_t)l;
        t->selected[row] = step->layers[l].count;
        keep_agreed(&step->layers[l], order, votes, t->entries + row * (size_t)t->keep, t->keep);
    }
    free(votes);
    free(order);
    return code;
}

void answer_trace_cut(answer_trace *t, size_t len) {
    if (len >= t->text_len) return;
    while (t->n_tokens && t->tokens[t->n_tokens - 1].piece_start >= len) t->n_tokens--;
    if (t->n_tokens) {
        trace_token *last = &t->tokens[t->n_tokens - 1];
        last->piece_len = (uint32_t)(len - last->piece_start);
    }
    t->text_len = len;
    t->text[len] = 0;
}

void answer_trace_free(answer_trace *t) {
    free(t->tokens);
    free(t->selected);
    free(t->entries);
    free(t->text);
    memset(t, 0, sizeof *t);
}

/* ---- as a blob ---- */

/* Versions of the blob: of one form, but the masses mean another thing. */
enum { ATTENTION = 1, SELECTION = 2 };

typedef struct trace_header {
    char magic[4];
    uint32_t version, layers, keep, tokens, text;
} trace_header;

int answer_trace_pack(const answer_trace *t, void **blob, size_t *len, ph_error *err) {
    size_t rows = t->n_tokens * (size_t)t->layers;
    size_t parts[] = {sizeof(trace_header), t->n_tokens * sizeof *t->tokens, rows * sizeof *t->selected,
                      rows * (size_t)t->keep * sizeof *t->entries, t->text_len};
    uint32_t version = t->selection_only ? SELECTION : ATTENTION;
    trace_header h = {{'P', 'H', 'T', 'R'},  version,
                      (uint32_t)t->layers,   (uint32_t)t->keep,
                      (uint32_t)t->n_tokens, (uint32_t)t->text_len};
    const void *from[] = {&h, t->tokens, t->selected, t->entries, t->text};
    *len = 0;
    for (int i = 0; i < 5; i++) *len += parts[i];
    uint8_t *out = malloc(*len);
    if (!out) return ph_fail(err, PH_MEMORY, "no memory for a trace of %zu bytes", *len);
    *blob = out;
    for (int i = 0; i < 5; out += parts[i++])
        if (parts[i]) memcpy(out, from[i], parts[i]);
    return PH_OK;
}

int answer_trace_unpack(answer_trace *t, const void *blob, size_t len, ph_error *err) {
    memset(t, 0, sizeof *t);
    trace_header h;
    if (len < sizeof h) return ph_fail(err, PH_CORRUPT, "a stored trace is too short");
    memcpy(&h, blob, sizeof h);
    if (memcmp(h.magic, "PHTR", 4) || (h.version != ATTENTION && h.version != SELECTION) || h.layers > 4096 ||
        h.keep > 1 << 20 || h.tokens > 1 << 20 || h.text > 1 << 28)
        return ph_fail(err, PH_CORRUPT, "a stored trace has a damaged header");
    size_t rows = (size_t)h.tokens * h.layers;
    size_t tokens = h.tokens * sizeof(trace_token), selected = rows * sizeof(int32_t);
    if (h.keep && rows > SIZE_MAX / sizeof(trace_entry) / h.keep)
        return ph_fail(err, PH_CORRUPT, "a stored trace has a damaged header");
    size_t entries = rows * h.keep * sizeof(trace_entry);
    if (entries > len || len != sizeof h + tokens + selected + entries + h.text)
        return ph_fail(err, PH_CORRUPT, "a stored trace has the wrong length");
    t->selection_only = h.version == SELECTION;
    t->layers = (int)h.layers;
    t->keep = (int)h.keep;
    t->n_tokens = t->capacity = h.tokens;
    t->text_len = h.text;
    t->tokens = malloc(tokens + 1);
    t->selected = malloc(selected + 1);
    t->entries = malloc(entries + 1);
    t->text = malloc((size_t)h.text + 1);
    if (!t->tokens || !t->selected || !t->entries || !t->text) {
        answer_trace_free(t);
        return ph_fail(err, PH_MEMORY, "no memory for a trace of %zu bytes", len);
    }
    const uint8_t *p = (const uint8_t *)blob + sizeof h;
    memcpy(t->tokens, p, tokens);
    memcpy(t->selected, p += tokens, selected);
    memcpy(t->entries, p += selected, entries);
    memcpy(t->text, p + entries, h.text);
    t->text[h.text] = 0;
    for (size_t i = 0; i < rows * h.keep; i++) {
        const trace_entry *e = &t->entries[i];
        if (e->position >= -1 && e->mass >= 0 && e->mass <= 1.001f) continue; /* not so where it is NAN */
        answer_trace_free(t);
        return ph_fail(err, PH_CORRUPT, "a stored trace has an impossible position or share");
    }
    uint64_t end = 0;
    bool follow = true; /* the pieces one another, and cover the answer */
    for (size_t i = 0; i < t->n_tokens; i++) {
        follow &= t->tokens[i].piece_start == end;
        end += t->tokens[i].piece_len;
    }
    if (follow && end == h.text) return PH_OK;
    answer_trace_free(t);
    return ph_fail(err, PH_CORRUPT, "a stored trace names bytes that its answer does not have");
}

/* Two blobs, one after the other. */
typedef struct pair_header {
    char magic[4];
    uint32_t version;
    uint64_t first; /* bytes of the answer's; the thought's follow */
} pair_header;

int answer_traces_pack(const answer_trace *answer, const answer_trace *thought, void **blob, size_t *len,
                       ph_error *err) {
    if (thought->n_tokens == 0) return answer_trace_pack(answer, blob, len, err);
    void *first = NULL, *second = NULL;
    size_t n_first = 0, n_second = 0;
    int code = answer_trace_pack(answer, &first, &n_first, err);
    if (!code) code = answer_trace_pack(thought, &second, &n_second, err);
    pair_header h = {{'P', 'H', 'T', '2'}, 1, n_first};
    *len = sizeof h + n_first + n_second;
    uint8_t *out = code ? NULL : malloc(*len);
    if (!code && !out) code = ph_fail(err, PH_MEMORY, "no memory for a trace of %zu bytes", *len);
    if (!code) {
        memcpy(out, &h, sizeof h);
        memcpy(out + sizeof h, first, n_first);
        memcpy(out + sizeof h + n_first, second, n_second);
    }
    free(first);
    free(second);
    *blob = out;
    return code;
}

int answer_traces_unpack(answer_trace *answer, answer_trace *thought, const void *blob, size_t len,
                         ph_error *err) {
    memset(answer, 0, sizeof *answer);
    memset(thought, 0, sizeof *thought);
    pair_header h;
    if (len < sizeof h) return answer_trace_unpack(answer, blob, len, err);
    memcpy(&h, blob, sizeof h);
    if (memcmp(h.magic, "PHT2", 4)) return answer_trace_unpack(answer, blob, len, err);
    if (h.version != 1 || h.first > len - sizeof h)
        return ph_fail(err, PH_CORRUPT, "a stored trace has a damaged header");
    const uint8_t *first = (const uint8_t *)blob + sizeof h, *second = first + h.first;
    int code = answer_trace_unpack(answer, first, h.first, err);
    if (!code) code = answer_trace_unpack(thought, second, len - sizeof h - h.first, err);
    if (!code && thought->n_tokens == 0)
        code = ph_fail(err, PH_CORRUPT, "a stored trace has an empty part");
    if (!code && answer->n_tokens && thought->layers != answer->layers)
        code = ph_fail(err, PH_CORRUPT, "a stored trace's parts have different layers");
    if (code) {
        answer_trace_free(answer);
        answer_trace_free(thought);
    }
    return code;
}

/* ---- onto sentences ---- */

/* Adds the masses as they are; returns their sum. */
static double add_mass(const answer_trace *t, const loaded_pack *p, size_t from, size_t to, int layer,
                       double *mass) {
    int64_t n = (int64_t)p->prompt.tokens.n;
    double sum = 0;
    for (size_t i = from; i < to && i < t->n_tokens; i++) {
        for (int l = 0; l < t->layers; l++) {
            if (layer >= 0 && l != layer) continue;
            const trace_entry *e = t->entries + (i * (size_t)t->layers + (size_t)l) * (size_t)t->keep;
            for (int j = 0; j < t->keep && e[j].position >= 0; j++) {
                if (e[j].position >= n || !pack_text_at(p, e[j].position, NULL)) continue;
                mass[e[j].position] += e[j].mass;
                sum += e[j].mass;
            }
        }
    }
    return sum;
}

static void share_out(const loaded_pack *p, double *mass, double sum) {
    for (size_t i = 0; i < p->prompt.tokens.n && sum > 0; i++) mass[i] /= sum;
}

void answer_trace_mass(const answer_trace *t, const loaded_pack *p, size_t from, size_t to, int layer,
                       double *mass) {
    memset(mass, 0, p->prompt.tokens.n * sizeof *mass);
    share_out(p, mass, add_mass(t, p, from, to, layer, mass));
}

void answer_traces_mass(const answer_trace *answer, const answer_trace *thought, const loaded_pack *p,
                        int layer, double *mass) {
    memset(mass, 0, p->prompt.tokens.n * sizeof *mass);
    double sum = add_mass(answer, p, 0, answer->n_tokens, layer, mass);
    sum += add_mass(thought, p, 0, thought->n_tokens, layer, mass);
    share_out(p, mass, sum);
}

static double lift_of(const loaded_pack *p, double mass, int64_t tokens) {
    int64_t all = 0;
    for (size_t i = 0; i < p->n_texts; i++)
        all += p->texts[i].span.text_token_end - p->texts[i].span.text_token_start;
    return tokens > 0 && all > 0 ? mass / ((double)tokens / (double)all) : 0;
}

/* The tokens of a stretch of text. The one that it begins inside of starts before it: a word's token has the
 * space before the word. */
static void tokens_of(const loaded_pack *p, const pack_text *t, size_t start, size_t end, int64_t *first,
                      int64_t *last) {
    *first = pack_token_at(p, t, start);
    *last = pack_token_at(p, t, end);
    if (*first > t->span.text_token_start &&
        (*first == t->span.text_token_end || p->prompt.tokens.start[*first] > start))
        --*first;
}

double read_set_span(const loaded_pack *p, const pack_text *t, size_t start, size_t end, const double *mass,
                     double *lift) {
    int64_t first, last;
    tokens_of(p, t, start, end, &first, &last);
    double sum = 0;
    for (int64_t i = first; i < last; i++) sum += mass[i];
    if (lift) *lift = lift_of(p, sum, last - first);
    return sum;
}

static int by_mass(const void *a, const void *b) {
    const read_sentence *x = a, *y = b;
    if (x->mass != y->mass) return x->mass < y->mass ? 1 : -1;
    if (x->text != y->text) return x->text < y->text ? -1 : 1;
    return (x->start > y->start) - (x->start < y->start);
}

/* A word's token begins with the space before it, which may belong to no sentence. */
static size_t first_letter(const loaded_pack *p, const pack_text *t, int64_t token) {
    size_t byte = (size_t)p->prompt.tokens.start[token];
    size_t end =
        token + 1 < t->span.text_token_end ? (size_t)p->prompt.tokens.start[token + 1] : t->span.text_end;
    size_t at = byte;
    while (at < end && strchr(" \t\n", t->text[at])) at++;
    return at < end ? at : byte;
}

int read_set_make(read_sentence **out, size_t *n, const loaded_pack *p, const double *mass, size_t limit,
                  ph_error *err) {
    size_t count = 0, capacity = 0;
    read_sentence *list = NULL;
    for (size_t i = 0; i < p->n_texts; i++) {
        const pack_text *t = &p->texts[i];
        text_span span = {0, 0};
        for (int64_t k = t->span.text_token_start; k < t->span.text_token_end; k++) {
            if (mass[k] <= 0) continue;
            size_t byte = first_letter(p, t, k);
            bool inside = count && list[count - 1].text == t && byte < span.end;
            if (!inside) {
                text_span here = sentence_at(t->text, t->len, byte);
                if (byte < here.start || byte >= here.end) continue; /* white space between sentences */
                span = here;
                if (count == capacity) {
                    capacity = capacity ? capacity * 2 : 64;
                    read_sentence *more = realloc(list, capacity * sizeof *list);
                    if (!more) {
                        free(list);
                        return ph_fail(err, PH_MEMORY, "no memory for a read set of %zu sentences", capacity);
                    }
                    list = more;
                }
                list[count++] = (read_sentence){.text = t, .start = span.start, .end = span.end};
            }
            list[count - 1].mass += mass[k];
        }
    }
    if (count) qsort(list, count, sizeof *list, by_mass);
    if (count > limit) count = limit;
    for (size_t i = 0; i < count; i++) {
        int64_t first, last;
        tokens_of(p, list[i].text, list[i].start, list[i].end, &first, &last);
        list[i].lift = lift_of(p, list[i].mass, last - first);
    }
    *out = list;
    *n = count;
    return PH_OK;
}
