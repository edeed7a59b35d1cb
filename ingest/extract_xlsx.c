/* extract_xlsx.c - Excel: a line for each row, " | " between cells, sheets as pages. Dates are numbers in the
 * file and are said as dates, because a model cannot know that 45292 means 2024-01-01. */
#include "ingest/extract_zip.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_STYLES 65536
#define MAX_BLANKS 64 /* empty cells said between two full ones */

typedef struct sheet {
    char name[128], id[64];
} sheet;

typedef struct xlsx {
    zip_parts *z;
    flow f;
    /* shared strings: string i is bytes[starts[i]..starts[i + 1]) */
    char *bytes;
    size_t n_bytes, bytes_capacity;
    size_t *starts;
    size_t n_strings, starts_capacity;
    /* styles: which number formats, and which cell styles, mean a date */
    bool in_cell_styles;
    uint32_t custom_dates[256];
    size_t n_custom;
    uint8_t date_style[MAX_STYLES / 8];
    uint32_t n_styles;
    bool since_1904;
    sheet *sheets;
    size_t n_sheets, sheets_capacity;
    /* the cell being read */
    bool in_value, in_phonetic, in_row;
    char type; /* of the cell: 's' shared, 't' text, 'b' boolean, 'n' number */
    bool date;
    char *value;
    size_t n_value, value_capacity;
    long column, last_column; /* from 0; -1 = none yet */
} xlsx;

static bool append(xlsx *x, char **to, size_t *n, size_t *capacity, const char *text, size_t k) {
    if (*n + k + 1 > *capacity) {
        size_t want = (*n + k + 1) * 2;
        char *grown = realloc(*to, want);
        if (!grown) {
            sink_fail(x->z->s, PH_MEMORY, "out of memory: %zu bytes of cells", want);
            return false;
        }
        *to = grown;
        *capacity = want;
    }
    memcpy(*to + *n, text, k);
    *n += k;
    return true;
}

/* --- shared strings --- */

static void strings_start(void *user, const char *name, const char **attributes) {
    xlsx *x = user;
    if (!strcmp(name, "si")) {
        if (x->n_strings + 2 > x->starts_capacity) {
            size_t want = x->starts_capacity ? x->starts_capacity * 2 : 1024;
            size_t *grown = realloc(x->starts, want * sizeof *grown);
            if (!grown) {
                sink_fail(x->z->s, PH_MEMORY, "out of memory: %zu strings", want);
                return;
            }
            x->starts = grown;
            x->starts_capacity = want;
        }
        x->starts[x->n_strings++] = x->n_bytes;
        x->starts[x->n_strings] = x->n_bytes;
    } else if (!strcmp(name, "rPh")) {
        x->in_phonetic = true;
    } else if (!strcmp(name, "t")) {
        x->in_value = !x->in_phonetic;
    }
}

static void strings_end(void *user, const char *name) {
    xlsx *x = user;
    if (!strcmp(name, "t")) x->in_value = false;
    if (!strcmp(name, "rPh")) x->in_phonetic = false;
}

static void strings_text(void *user, const char *text, int n) {
    xlsx *x = user;
    if (!x->in_value || !x->n_strings) return;
    append(x, &x->bytes, &x->n_bytes, &x->bytes_capacity, text, (size_t)n);
    x->starts[x->n_strings] = x->n_bytes;
}

/* --- styles --- */

/* A format with a year, month, day or hour outside quotes and brackets. */
static bool is_date_format(const char *code) {
    for (; *code; code++) {
        if (*code == '"') {
            while (code[1] && code[1] != '"') code++;
            if (code[1]) code++;
        } else if (*code == '[') {
            while (*code && *code != ']') code++;
            if (!*code) break;
        } else if (*code == '\\' || *code == '_' || *code == '*') {
            if (!*++code) break;
        } else if (strchr("yYdDhH", *code)) {
            return true;
        } else if (!strncmp(code, "mm", 2)) {
            return true;
        }
    }
    return false;
}

static bool is_date_number(const xlsx *x, uint32_t format) {
    if ((format >= 14 && format <= 22) || (format >= 27 && format <= 36) || (format >= 45 && format <= 47) ||
        (format >= 50 && format <= 58))
        return true;
    for (size_t i = 0; i < x->n_custom; i++)
        if (x->custom_dates[i] == format) return true;
    return false;
}

static uint32_t number_of(const char **attributes, const char *name) {
    const char *v = xml_attribute(attributes, name);
    return v ? (uint32_t)strtoul(v, NULL, 10) : 0;
}

static void styles_start(void *user, const char *name, const char **attributes) {
    xlsx *x = user;
    if (!strcmp(name, "numFmt")) {
        const char *code = xml_attribute(attributes, "formatCode");
        if (code && is_date_format(code) && x->n_custom < sizeof x->custom_dates / sizeof *x->custom_dates)
            x->custom_dates[x->n_custom++] = number_of(attributes, "numFmtId");
    } else if (!strcmp(name, "cellXfs")) {
        x->in_cell_styles = true;
    } else if (!strcmp(name, "xf") && x->in_cell_styles && x->n_styles < MAX_STYLES) {
        if (is_date_number(x, number_of(attributes, "numFmtId")))
            x->date_style[x->n_styles / 8] |= (uint8_t)(1u << (x->n_styles % 8));
        x->n_styles++;
    }
}

static void styles_end(void *user, const char *name) {
    xlsx *x = user;
    if (!strcmp(name, "cellXfs")) x->in_cell_styles = false;
}

/* --- workbook --- */

static void workbook_start(void *user, const char *name, const char **attributes) {
    xlsx *x = user;
    if (!strcmp(name, "workbookPr")) {
        const char *v = xml_attribute(attributes, "date1904");
        x->since_1904 = v && (!strcmp(v, "1") || !strcmp(v, "true"));
    }
    if (strcmp(name, "sheet")) return;
    const char *title = xml_attribute(attributes, "name"), *id = xml_attribute(attributes, "r:id");
    if (!id) { /* another prefix for the same namespace */
        for (const char **a = attributes; a && a[0]; a += 2) {
            size_t n = strlen(a[0]);
            if (n > 3 && !strcmp(a[0] + n - 3, ":id")) id = a[1];
        }
    }
    if (!id || x->n_sheets >= SINK_MAX_PAGES) return;
    if (x->n_sheets == x->sheets_capacity) {
        size_t want = x->sheets_capacity ? x->sheets_capacity * 2 : 16;
        sheet *grown = realloc(x->sheets, want * sizeof *grown);
        if (!grown) {
            sink_fail(x->z->s, PH_MEMORY, "out of memory: %zu sheets", want);
            return;
        }
        x->sheets = grown;
        x->sheets_capacity = want;
    }
    sheet *one = &x->sheets[x->n_sheets++];
    snprintf(one->name, sizeof one->name, "%s", title ? title : "");
    snprintf(one->id, sizeof one->id, "%s", id);
}

static void ignore_end(void *user, const char *name) {}

/* --- a sheet --- */

/* "AB12" is column 27; -1 when it is none. */
static long column_of(const char *cell) {
    long c = 0;
    for (; *cell >= 'A' && *cell <= 'Z'; cell++) {
        c = c * 26 + (*cell - 'A' + 1);
        if (c > 1 << 20) return -1;
    }
    return c - 1;
}

/* A serial day number as a date. */
static void date_text(char *out, size_t capacity, double serial, bool since_1904) {
    double day = floor(serial);
    long seconds = lround((serial - day) * 86400);
    if (seconds >= 86400) seconds -= 86400, day += 1;
    /* 1899-12-30 is day 0, so that dates from 1900-03-01 on are right in spite of Excel's 29 February 1900.
     */
    long long days = (long long)day - (since_1904 ? 24107 : 25569);
    time_t when = (time_t)days * 86400;
    struct tm t;
    if (!gmtime_r(&when, &t)) memset(&t, 0, sizeof t);
    char clock[32] = "";
    if (seconds)
        snprintf(clock, sizeof clock, "%02ld:%02ld:%02ld", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if (serial < 1) /* a time without a day */
        snprintf(out, capacity, "%s", seconds ? clock : "00:00:00");
    else
        snprintf(out, capacity, "%04d-%02d-%02d%s%s", t.tm_year + 1900, t.tm_mon + 1, t.tm_mday,
                 seconds ? " " : "", clock);
}

static void say_cell(xlsx *x, const char *text, size_t n) {
    bool visible = false;
    for (size_t i = 0; i < n && !visible; i++) visible = (unsigned char)text[i] > ' ';
    if (!visible) return;
    if (x->last_column >= 0) {
        long blanks = x->column - x->last_column;
        x->f.cells = (unsigned)(blanks > MAX_BLANKS ? MAX_BLANKS : blanks);
    }
    flow_words(&x->f, text, n);
    x->last_column = x->column;
}

static void sheet_start(void *user, const char *name, const char **attributes) {
    xlsx *x = user;
    if (!strcmp(name, "row")) {
        flow_break(&x->f, "\n");
        x->column = x->last_column = -1;
        x->in_row = true;
    } else if (!strcmp(name, "c")) {
        const char *type = xml_attribute(attributes, "t"), *place = xml_attribute(attributes, "r");
        long column = place ? column_of(place) : -1;
        x->column = column > x->column ? column : x->column + 1;
        x->type = !type || !strcmp(type, "n") ? 'n'
                  : !strcmp(type, "s")        ? 's'
                  : !strcmp(type, "b")        ? 'b'
                                              : 't';
        uint32_t style = number_of(attributes, "s");
        x->date = style < x->n_styles && x->date_style[style / 8] >> (style % 8) & 1;
        x->n_value = 0;
    } else if (!strcmp(name, "v") || !strcmp(name, "t")) {
        x->in_value = x->in_row;
    }
}

static void finish_cell(xlsx *x) {
    if (!x->n_value) return;
    x->value[x->n_value] = 0; /* append keeps a byte free */
    if (x->type == 's') {
        unsigned long i = strtoul(x->value, NULL, 10);
        if (i < x->n_strings) say_cell(x, x->bytes + x->starts[i], x->starts[i + 1] - x->starts[i]);
    } else if (x->type == 'b') {
        const char *word = x->value[0] == '1' ? "TRUE" : "FALSE";
        say_cell(x, word, strlen(word));
    } else if (x->type == 'n') {
        char *end, text[64];
        double v = strtod(x->value, &end);
        if (x->date && end != x->value && v >= 0 && v < 2958466) {
            date_text(text, sizeof text, v, x->since_1904);
            say_cell(x, text, strlen(text));
        } else if (end != x->value && isfinite(v) && x->n_value > 16) { /* 0.30000000000000004 */
            snprintf(text, sizeof text, "%.15g", v);
            say_cell(x, text, strlen(text));
        } else {
            say_cell(x, x->value, x->n_value);
        }
    } else {
        say_cell(x, x->value, x->n_value);
    }
    x->n_value = 0;
}

static void sheet_end(void *user, const char *name) {
    xlsx *x = user;
    if (!strcmp(name, "v") || !strcmp(name, "t")) {
        x->in_value = false;
    } else if (!strcmp(name, "c")) {
        finish_cell(x);
    } else if (!strcmp(name, "row")) {
        flow_break(&x->f, "\n");
        x->in_row = false;
    }
}

static void sheet_text(void *user, const char *text, int n) {
    xlsx *x = user;
    if (x->in_value) append(x, &x->value, &x->n_value, &x->value_capacity, text, (size_t)n);
}

static void read_sheets(xlsx *x, const relations *r) {
    const xml_events events = {sheet_start, sheet_end, sheet_text};
    for (size_t i = 0; i < x->n_sheets && !x->z->s->error.code; i++) {
        const relation *part = relations_by_id(r, x->sheets[i].id);
        if (!part || strcmp(part->type, "worksheet") || !zip_parts_has(x->z, part->target)) continue;
        x->f.page = (uint32_t)i + 1;
        flow_break(&x->f, "\n\n");
        flow_words(&x->f, x->sheets[i].name, strlen(x->sheets[i].name));
        flow_break(&x->f, "\n");
        x->in_value = x->in_row = false;
        zip_parts_xml(x->z, part->target, &events, x);
        flow_break(&x->f, "\n\n");
        sink_progress(x->z->s, i + 1, x->n_sheets);
    }
}

int extract_xlsx(zip_parts *z, const char *main) {
    xlsx *x = calloc(1, sizeof *x);
    if (!x) return sink_fail(z->s, PH_MEMORY, "out of memory: the book of a spreadsheet");
    x->z = z;
    x->f.s = z->s;
    sink_media_type(z->s, "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet");
    extract_core_title(z, "docProps/core.xml");
    relations r;
    if (zip_parts_relations(z, main, &r) == 0) {
        const relation *part = relations_by_type(&r, "sharedStrings");
        const xml_events strings = {strings_start, strings_end, strings_text};
        if (part && zip_parts_has(z, part->target)) zip_parts_xml(z, part->target, &strings, x);
        part = relations_by_type(&r, "styles");
        const xml_events styles = {styles_start, styles_end, NULL};
        if (part && zip_parts_has(z, part->target)) zip_parts_xml(z, part->target, &styles, x);
        const xml_events workbook = {workbook_start, ignore_end, NULL};
        zip_parts_xml(z, main, &workbook, x);
        read_sheets(x, &r);
        sink_pages(z->s, (uint32_t)x->n_sheets);
    }
    free(r.list);
    free(x->bytes);
    free(x->starts);
    free(x->sheets);
    free(x->value);
    free(x);
    return z->s->error.code;
}
