/* eval_text.c - the texts that haystacks are made of, and passages with questions (eval.h). */
#include "appliance/eval.h"

#include "ingest/ingest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char DEFAULT_TEXT[] = "/usr/share/common-licenses";
enum { MAX_FILE = 1 << 30, GENERATED_BYTES = 1 << 20 };

void eval_texts_free(eval_texts *t) {
    for (size_t i = 0; i < t->n; i++) {
        free(t->list[i].name);
        free(t->list[i].text);
    }
    free(t->list);
    memset(t, 0, sizeof *t);
}

/* Takes `text` over, also on failure. */
static int add(eval_texts *t, const char *name, char *text, size_t len, int64_t document, ph_error *err) {
    eval_text *more = realloc(t->list, (t->n + 1) * sizeof *more);
    char *named = strdup(name);
    if (more) t->list = more;
    if (!more || !named) {
        free(named);
        free(text);
        return ph_fail(err, PH_MEMORY, "no memory for %zu texts", t->n + 1);
    }
    t->list[t->n++] = (eval_text){.name = named, .text = text, .len = len, .document = document};
    return PH_OK;
}

int eval_read_file(const char *path, char **out, size_t *len, ph_error *err) {
    *out = NULL;
    FILE *f = fopen(path, "rb");
    if (!f) return ph_fail(err, PH_NOT_FOUND, "%s cannot be opened", path);
    size_t capacity = 1 << 16, n = 0;
    char *text = malloc(capacity + 1);
    while (text) {
        size_t got = fread(text + n, 1, capacity - n, f);
        n += got;
        if (n < capacity) break;
        char *more = capacity < MAX_FILE ? realloc(text, capacity * 2 + 1) : NULL;
        if (!more) {
            free(text);
            text = NULL;
        } else
            text = more;
        capacity *= 2;
    }
    int bad = ferror(f);
    fclose(f);
    if (!text) return ph_fail(err, PH_MEMORY, "no memory for %s", path);
    if (bad) {
        free(text);
        return ph_fail(err, PH_FAIL, "%s cannot be read", path);
    }
    text[n] = 0;
    *out = text;
    *len = n;
    return PH_OK;
}

typedef struct gathering {
    eval_texts *texts;
    ph_error *err;
    int code;
} gathering;

static int gather(void *user, const char *path, const char *name) {
    gathering *g = user;
    char *text;
    size_t len;
    g->code = eval_read_file(path, &text, &len, g->err);
    if (!g->code && memchr(text, 0, len)) {
        free(text);
        g->code = ph_fail(g->err, PH_UNSUPPORTED,
                          "%s is no plain text: read it in with `pharos add` and use --documents", path);
    } else if (!g->code && len == 0)
        free(text);
    else if (!g->code)
        g->code = add(g->texts, name, text, len, 0, g->err);
    return g->code != PH_OK;
}

static int load_path(eval_texts *t, const char *path, ph_error *err) {
    gathering g = {.texts = t, .err = err};
    int code = ingest_walk(path, gather, NULL, &g, err);
    return g.code ? g.code : code;
}

static int load_documents(eval_texts *t, store *s, ph_error *err) {
    store_document *list = NULL;
    size_t n = 0;
    int code = s ? store_document_list(s, &list, &n, err)
                 : ph_fail(err, PH_USAGE, "stored documents need a data folder");
    for (size_t i = 0; i < n && !code; i++) {
        char *text;
        size_t len;
        code = store_document_text(s, list[i].id, &text, &len, err);
        if (!code) code = add(t, list[i].name, text, len, list[i].id, err);
    }
    store_documents_free(list, n);
    return code;
}

int eval_texts_load(eval_texts *t, const eval_params *p, store *s, ph_error *err) {
    memset(t, 0, sizeof *t);
    int code = PH_OK;
    if (p->n_files) {
        for (size_t i = 0; i < p->n_files && !code; i++) code = load_path(t, p->files[i], err);
    } else if (p->documents)
        code = load_documents(t, s, err);
    else if (p->generated) {
        char *text = eval_generate_text(p->seed, GENERATED_BYTES, err);
        code = text ? add(t, "generated.txt", text, strlen(text), 0, err) : PH_MEMORY;
    } else
        code = load_path(t, DEFAULT_TEXT, err);
    size_t bytes = 0;
    for (size_t i = 0; i < t->n; i++) bytes += t->list[i].len;
    if (!code && bytes < 1000)
        code = ph_fail(err, PH_NOT_FOUND, "%zu bytes of text are too few for a haystack", bytes);
    if (code) eval_texts_free(t);
    return code;
}

/* ---- generated text ---- */

static const char *const subjects[] = {"The ferry",      "A baker",         "The old mill",
                                       "Our neighbour",  "The council",     "A grey heron",
                                       "The orchard",    "The night train", "A young clerk",
                                       "The river",      "The gardener",    "A travelling choir",
                                       "The lighthouse", "The tailor",      "The schoolyard",
                                       "A stray dog",    "The librarian",   "The wind"};
static const char *const verbs[] = {"waited beside", "passed",         "looked over",    "kept away from",
                                    "was seen near", "turned towards", "stood close to", "came back to",
                                    "went around",   "slept behind",   "had forgotten",  "was fond of"};
static const char *const objects[] = {
    "the empty market", "a row of poplars",  "the stone bridge", "the wet meadow",  "a painted gate",
    "the long wall",    "the harbour steps", "a narrow lane",    "the school roof", "the copper kettle",
    "the last houses",  "a field of barley", "the closed shop",  "the chapel door", "an open window"};
static const char *const endings[] = {
    "before the rain began",       "while the bells were ringing", "until the lamps were lit",
    "as it had done every spring", "and nobody asked why",         "though the road was long",
    "when the fog had lifted",     "for the rest of the week",     "in the middle of the afternoon",
    "without making a sound",      "after the harvest was in",     "and the evening grew cold"};
#define PICK(r, list) list[eval_below(r, sizeof list / sizeof *list)]

char *eval_generate_text(uint64_t seed, size_t bytes, ph_error *err) {
    char *text = malloc(bytes + 256);
    if (!text) {
        ph_fail(err, PH_MEMORY, "no memory for %zu bytes of text", bytes);
        return NULL;
    }
    eval_random r = eval_stream(seed, "generated text", 0, 0);
    size_t n = 0;
    text[0] = 0;
    for (uint64_t in_paragraph = 0; n < bytes; in_paragraph++) {
        bool end = in_paragraph > 3 && eval_below(&r, 4) == 0;
        n += (size_t)snprintf(text + n, 256, "%s %s %s %s.%s", PICK(&r, subjects), PICK(&r, verbs),
                              PICK(&r, objects), PICK(&r, endings), end ? "\n\n" : " ");
        if (end) in_paragraph = 0;
    }
    return text;
}

/* ---- passages with questions ---- */

static void row_free(eval_row *r) {
    for (size_t i = 0; i < r->n_qas; i++) {
        for (size_t j = 0; j < r->qas[i].n_answers; j++) free(r->qas[i].answers[j]);
        free(r->qas[i].answers);
        free(r->qas[i].question);
    }
    free(r->qas);
    free(r->source);
    free(r->name);
    free(r->text);
}

void eval_rows_free(eval_rows *r) {
    for (size_t i = 0; i < r->n; i++) row_free(&r->list[i]);
    free(r->list);
    memset(r, 0, sizeof *r);
}

static char *string_of(const json_t *j, const char *key) {
    const char *s = json_string_value(json_object_get(j, key));
    return strdup(s ? s : "");
}

/* Our "answers": [strings] (or one "answer"), SQuAD's [{"text"}]. */
static int qa_from(eval_qa *q, const json_t *j, ph_error *err) {
    q->question = string_of(j, "question");
    const json_t *list = json_object_get(j, "answers"), *one = json_object_get(j, "answer");
    bool none = json_is_null(one) || json_is_true(json_object_get(j, "is_impossible"));
    size_t n = none ? 0 : json_array_size(list);
    q->answers = calloc(n + 1, sizeof *q->answers);
    if (!q->question || !q->answers) return ph_fail(err, PH_MEMORY, "no memory for a question");
    for (size_t i = 0; i < n; i++) {
        const json_t *a = json_array_get(list, i);
        const char *s =
            json_is_object(a) ? json_string_value(json_object_get(a, "text")) : json_string_value(a);
        if (!s || !*s) continue;
        if (!(q->answers[q->n_answers] = strdup(s)))
            return ph_fail(err, PH_MEMORY, "no memory for a question");
        q->n_answers++;
    }
    if (q->n_answers || none) return PH_OK;
    const char *s = json_string_value(one);
    if (s && *s && !(q->answers[q->n_answers++] = strdup(s))) {
        q->n_answers = 0;
        return ph_fail(err, PH_MEMORY, "no memory for a question");
    }
    return PH_OK;
}

static int add_row(eval_rows *rows, const json_t *j, const char *name, const char *text_key, ph_error *err) {
    if (rows->n % 256 == 0) {
        eval_row *more = realloc(rows->list, (rows->n + 256) * sizeof *more);
        if (!more) return ph_fail(err, PH_MEMORY, "no memory for %zu passages", rows->n);
        rows->list = more;
    }
    eval_row *r = &rows->list[rows->n++];
    const json_t *qas = json_object_get(j, "qas");
    *r = (eval_row){.source = string_of(j, "source"),
                    .name = name ? strdup(name) : string_of(j, "name"),
                    .text = string_of(j, text_key),
                    .qas = calloc(json_array_size(qas) + 1, sizeof *r->qas)};
    if (!r->source || !r->name || !r->text || !r->qas)
        return ph_fail(err, PH_MEMORY, "no memory for a passage");
    for (size_t i = 0; i < json_array_size(qas); i++) {
        int code = qa_from(&r->qas[r->n_qas++], json_array_get(qas, i), err);
        if (code) return code;
    }
    return PH_OK;
}

static int rows_from_squad(eval_rows *rows, const json_t *data, ph_error *err) {
    for (size_t i = 0; i < json_array_size(data); i++) {
        const json_t *article = json_array_get(data, i), *list = json_object_get(article, "paragraphs");
        const char *title = json_string_value(json_object_get(article, "title"));
        for (size_t k = 0; k < json_array_size(list); k++) {
            int code = add_row(rows, json_array_get(list, k), title ? title : "", "context", err);
            if (code) return code;
        }
    }
    return PH_OK;
}

static int rows_from_lines(eval_rows *rows, const char *path, const char *text, ph_error *err) {
    long number = 1;
    for (const char *line = text, *next; line && *line; line = next, number++) {
        next = strchr(line, '\n');
        size_t len = next ? (size_t)(next++ - line) : strlen(line);
        if (strspn(line, " \t\r") >= len) continue;
        json_error_t e;
        json_t *j = json_loadb(line, len, 0, &e);
        if (!j) return ph_fail(err, PH_CORRUPT, "%s, line %ld: %s", path, number, e.text);
        int code = add_row(rows, j, NULL, "text", err);
        json_decref(j);
        if (code) return code;
    }
    return PH_OK;
}

/* Takes out the passages of other sources. */
static void keep_source(eval_rows *rows, const char *source) {
    size_t n = 0;
    for (size_t i = 0; i < rows->n; i++) {
        if (strcmp(rows->list[i].source, source))
            row_free(&rows->list[i]);
        else
            rows->list[n++] = rows->list[i];
    }
    rows->n = n;
}

int eval_rows_parse(eval_rows *rows, const char *name, const char *text, size_t len, const char *source,
                    ph_error *err) {
    memset(rows, 0, sizeof *rows);
    if (memchr(text, 0, len))
        return ph_fail(err, PH_UNSUPPORTED, "%s is no text: unpack it first (xz -d, gzip -d)", name);
    /* A SQuAD file is one JSON value; of JSON lines the first value ends with its line. */
    json_t *whole = json_loadb(text, len, 0, NULL);
    const json_t *data = json_object_get(whole, "data");
    int code = data ? rows_from_squad(rows, data, err) : rows_from_lines(rows, name, text, err);
    json_decref(whole);
    if (!code && source) keep_source(rows, source);
    if (!code && rows->n == 0)
        code = ph_fail(err, PH_NOT_FOUND, "%s has no passages%s%.100s", name, source ? " of the source " : "",
                       source ? source : "");
    if (code) eval_rows_free(rows);
    return code;
}

int eval_rows_load(eval_rows *rows, const char *path, const char *source, ph_error *err) {
    memset(rows, 0, sizeof *rows);
    char *text;
    size_t len;
    int code = eval_read_file(path, &text, &len, err);
    if (code) return code;
    code = eval_rows_parse(rows, path, text, len, source, err);
    free(text);
    return code;
}
