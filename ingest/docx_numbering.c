/* docx_numbering.c - see docx_numbering.h. */
#include "ingest/docx_numbering.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_THINGS 16384
#define MAX_PARENTS 16

typedef struct reader {
    docx_numbering *n;
    text_sink *s;
    docx_list *list; /* the open ones; NULL = none */
    docx_number *number;
    docx_style *style;
    docx_level *level;
    long override;  /* open <w:lvlOverride>'s level, or -1 */
    bool in_number; /* inside <w:numPr> of a style */
} reader;

static long value_of(const char **attributes, const char *name) {
    const char *v = xml_attribute(attributes, name);
    char *end;
    long x = v ? strtol(v, &end, 10) : -1;
    return v && end != v && x >= 0 && x < 1000000 ? x : -1;
}

static void copy_value(char *to, size_t capacity, const char **attributes) {
    const char *v = xml_attribute(attributes, "val");
    snprintf(to, capacity, "%s", v ? v : "");
}

/* Room for one more, zeroed; NULL when there is none. */
static void *add(reader *r, void **list, size_t *n, size_t *capacity, size_t size) {
    if (*n >= MAX_THINGS) return NULL;
    if (*n == *capacity) {
        size_t want = *capacity ? *capacity * 2 : 64;
        void *grown = realloc(*list, want * size);
        if (!grown) {
            sink_fail(r->s, PH_MEMORY, "out of memory: %zu bytes of numbering", want * size);
            return NULL;
        }
        *list = grown;
        *capacity = want;
    }
    void *one = (char *)*list + size * (*n)++;
    memset(one, 0, size);
    return one;
}

static void start_list(reader *r, long id) {
    docx_numbering *n = r->n;
    r->list = add(r, (void **)&n->lists, &n->n_lists, &n->lists_capacity, sizeof *n->lists);
    if (!r->list) return;
    r->list->id = id;
    for (int i = 0; i < DOCX_LEVELS; i++) {
        r->list->levels[i].start = 1;
        r->list->counters[i] = -1;
    }
}

static void start_number(reader *r, long id) {
    docx_numbering *n = r->n;
    r->number = add(r, (void **)&n->numbers, &n->n_numbers, &n->numbers_capacity, sizeof *n->numbers);
    if (!r->number) return;
    r->number->id = id;
    r->number->list = -1;
    for (int i = 0; i < DOCX_LEVELS; i++) r->number->restart[i] = -1;
}

static void numbering_start(void *user, const char *name, const char **attributes) {
    reader *r = user;
    if (!strcmp(name, "abstractNum")) {
        start_list(r, value_of(attributes, "abstractNumId"));
    } else if (!strcmp(name, "num")) {
        start_number(r, value_of(attributes, "numId"));
    } else if (!strcmp(name, "abstractNumId") && r->number) {
        r->number->list = value_of(attributes, "val");
    } else if (!strcmp(name, "lvlOverride")) {
        r->override = value_of(attributes, "ilvl");
    } else if (!strcmp(name, "startOverride") && r->number && r->override >= 0 && r->override < DOCX_LEVELS) {
        r->number->restart[r->override] = value_of(attributes, "val");
    } else if (!strcmp(name, "lvl") && r->list) {
        long i = value_of(attributes, "ilvl");
        r->level = i >= 0 && i < DOCX_LEVELS ? &r->list->levels[i] : NULL;
    } else if (r->level && !strcmp(name, "start")) {
        long start = value_of(attributes, "val");
        r->level->start = start < 0 ? 1 : start;
    } else if (r->level && !strcmp(name, "numFmt")) {
        copy_value(r->level->format, sizeof r->level->format, attributes);
    } else if (r->level && !strcmp(name, "lvlText")) {
        copy_value(r->level->text, sizeof r->level->text, attributes);
    } else if (r->level && !strcmp(name, "pStyle")) {
        copy_value(r->level->style, sizeof r->level->style, attributes);
    }
}

static void numbering_end(void *user, const char *name) {
    reader *r = user;
    if (!strcmp(name, "abstractNum")) r->list = NULL;
    if (!strcmp(name, "num")) r->number = NULL;
    if (!strcmp(name, "lvl")) r->level = NULL;
    if (!strcmp(name, "lvlOverride")) r->override = -1;
}

static void styles_start(void *user, const char *name, const char **attributes) {
    reader *r = user;
    docx_numbering *n = r->n;
    if (!strcmp(name, "style")) {
        const char *id = xml_attribute(attributes, "styleId");
        r->style =
            id ? add(r, (void **)&n->styles, &n->n_styles, &n->styles_capacity, sizeof *n->styles) : NULL;
        if (!r->style) return;
        snprintf(r->style->id, sizeof r->style->id, "%s", id);
        r->style->number = r->style->level = -1;
    } else if (!r->style) {
        return;
    } else if (!strcmp(name, "basedOn")) {
        copy_value(r->style->parent, sizeof r->style->parent, attributes);
    } else if (!strcmp(name, "numPr")) {
        r->in_number = true;
    } else if (r->in_number && !strcmp(name, "numId")) {
        r->style->number = value_of(attributes, "val");
    } else if (r->in_number && !strcmp(name, "ilvl")) {
        r->style->level = value_of(attributes, "val");
    }
}

static void styles_end(void *user, const char *name) {
    reader *r = user;
    if (!strcmp(name, "style")) r->style = NULL;
    if (!strcmp(name, "numPr")) r->in_number = false;
}

int docx_numbering_load(docx_numbering *n, zip_parts *z, const relations *r) {
    memset(n, 0, sizeof *n);
    reader reading = {.n = n, .s = z->s, .override = -1};
    const relation *part = relations_by_type(r, "numbering");
    const xml_events numbering = {numbering_start, numbering_end, NULL};
    if (part && zip_parts_has(z, part->target)) zip_parts_xml(z, part->target, &numbering, &reading);
    part = relations_by_type(r, "styles");
    const xml_events styles = {styles_start, styles_end, NULL};
    if (part && zip_parts_has(z, part->target)) zip_parts_xml(z, part->target, &styles, &reading);
    return z->s->error.code;
}

void docx_numbering_free(docx_numbering *n) {
    free(n->lists);
    free(n->numbers);
    free(n->styles);
    memset(n, 0, sizeof *n);
}

static const docx_style *find_style(const docx_numbering *n, const char *id) {
    for (size_t i = 0; id[0] && i < n->n_styles; i++)
        if (!strcmp(n->styles[i].id, id)) return &n->styles[i];
    return NULL;
}

static docx_number *find_number(docx_numbering *n, long id) {
    for (size_t i = 0; i < n->n_numbers; i++)
        if (n->numbers[i].id == id) return &n->numbers[i];
    return NULL;
}

static docx_list *find_list(docx_numbering *n, long id) {
    for (size_t i = 0; i < n->n_lists; i++)
        if (n->lists[i].id == id) return &n->lists[i];
    return NULL;
}

/* "aa" follows "z", as Word counts. */
static void letters(char *out, size_t capacity, long v, char first) {
    size_t times = v > 0 ? (size_t)(v - 1) / 26 + 1 : 0, k = 0;
    for (; k < times && k < 8 && k + 1 < capacity; k++) out[k] = (char)(first + (v - 1) % 26);
    out[k] = 0;
}

static void roman(char *out, size_t capacity, long v, bool upper) {
    static const struct {
        long value;
        const char *lower, *upper;
    } digits[] = {{1000, "m", "M"}, {900, "cm", "CM"}, {500, "d", "D"},  {400, "cd", "CD"}, {100, "c", "C"},
                  {90, "xc", "XC"}, {50, "l", "L"},    {40, "xl", "XL"}, {10, "x", "X"},    {9, "ix", "IX"},
                  {5, "v", "V"},    {4, "iv", "IV"},   {1, "i", "I"}};
    size_t n = 0;
    out[0] = 0;
    for (size_t i = 0; i < sizeof digits / sizeof *digits && v < 4000; i++)
        for (; v >= digits[i].value; v -= digits[i].value) {
            const char *d = upper ? digits[i].upper : digits[i].lower;
            if (n + strlen(d) + 1 > capacity) return;
            memcpy(out + n, d, strlen(d) + 1);
            n += strlen(d);
        }
}

static void format_number(char *out, size_t capacity, const char *format, long v) {
    if (!strcmp(format, "lowerLetter"))
        letters(out, capacity, v, 'a');
    else if (!strcmp(format, "upperLetter"))
        letters(out, capacity, v, 'A');
    else if (!strcmp(format, "lowerRoman") || !strcmp(format, "upperRoman"))
        roman(out, capacity, v, format[0] == 'u');
    else if (!strcmp(format, "none"))
        out[0] = 0;
    else
        snprintf(out, capacity, !strcmp(format, "decimalZero") ? "%02ld" : "%ld", v);
}

static void write_label(const docx_list *list, long level, char label[DOCX_LABEL_BYTES]) {
    const docx_level *l = &list->levels[level];
    if (!strcmp(l->format, "bullet")) {
        snprintf(label, DOCX_LABEL_BYTES, "-");
        return;
    }
    size_t n = 0;
    for (const char *p = l->text; *p && n + 1 < DOCX_LABEL_BYTES; p++) {
        if (*p == '%' && p[1] >= '1' && p[1] <= '9') {
            int k = *++p - '1';
            char number[24];
            long v = list->counters[k] >= 0 ? list->counters[k] : list->levels[k].start;
            format_number(number, sizeof number, list->levels[k].format, v);
            int wrote = snprintf(label + n, DOCX_LABEL_BYTES - n, "%s", number);
            n += (size_t)wrote < DOCX_LABEL_BYTES - n ? (size_t)wrote : DOCX_LABEL_BYTES - 1 - n;
        } else {
            label[n++] = *p;
        }
    }
    label[n] = 0;
}

void docx_numbering_next(docx_numbering *n, const char *style, long number, long level,
                         char label[DOCX_LABEL_BYTES]) {
    label[0] = 0;
    char from[48] = "";
    const docx_style *st = find_style(n, style);
    for (int i = 0; number < 0 && st && i < MAX_PARENTS; i++) {
        number = st->number;
        if (level < 0) level = st->level;
        memcpy(from, st->id, sizeof from);
        st = find_style(n, st->parent);
    }
    if (number <= 0) return; /* 0 takes a style's number away */
    docx_number *num = find_number(n, number);
    docx_list *list = num ? find_list(n, num->list) : NULL;
    if (!list) {
        snprintf(label, DOCX_LABEL_BYTES, "-"); /* a list, by rules that are missing */
        return;
    }
    for (long i = 0; level < 0 && from[0] && i < DOCX_LEVELS; i++)
        if (!strcmp(list->levels[i].style, from)) level = i;
    if (level < 0) level = 0;
    if (level >= DOCX_LEVELS) level = DOCX_LEVELS - 1;
    if (!num->used) {
        num->used = true;
        for (int i = 0; i < DOCX_LEVELS; i++)
            if (num->restart[i] >= 0) list->counters[i] = num->restart[i] - 1;
    }
    list->counters[level] = list->counters[level] < 0 ? list->levels[level].start : list->counters[level] + 1;
    for (int i = 0; i < level; i++) /* a higher level that was never shown counts as begun */
        if (list->counters[i] < 0) list->counters[i] = list->levels[i].start;
    for (int i = (int)level + 1; i < DOCX_LEVELS; i++) list->counters[i] = -1;
    write_label(list, level, label);
}
