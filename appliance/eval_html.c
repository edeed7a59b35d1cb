/* eval_html.c - a run as one page that asks for nothing: heat maps whose cells carry their numbers, curves,
 * published scores, and every failed cell with its verdict. */
#include "appliance/eval_published.h"

#include <errno.h>
#include <math.h>
#include <sodium.h>
#include <string.h>

enum { MAX_SERIES = 16, FAILED_SHOWN = 400 };

static const char HEAD[] =
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
    "'unsafe-inline'\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<style>\n"
    ":root{color-scheme:light dark;--ink:#1a1a1a;--page:#fff;--line:#ccc;--soft:#666}\n"
    "@media (prefers-color-scheme:dark){:root{--ink:#e6e6e6;--page:#161616;--line:#444;--soft:#aaa}}\n"
    "body{font:15px/1.5 "
    "system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:72rem;margin:2rem auto;"
    "padding:0 1rem}\n"
    "h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2.2rem}.note,small{color:var(--soft)}\n"
    "table{border-collapse:collapse;margin:.6rem 0}th,td{padding:.25rem .5rem;border:1px solid var(--line);"
    "text-align:right;vertical-align:top}th{font-weight:600}td.t,th.t{text-align:left}\n"
    "td small{display:block;font-size:.68rem;white-space:nowrap;color:inherit;opacity:.85}\n"
    "div.wide{overflow-x:auto}code{white-space:pre-wrap;overflow-wrap:anywhere}dt{font-weight:600}dd{margin:"
    "0 0 .4rem}\n"
    "svg text{font:11px system-ui,sans-serif;fill:currentColor}\n"
    "</style>\n";

static void escaped(FILE *f, const char *s) {
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '<')
            fputs("&lt;", f);
        else if (c == '>')
            fputs("&gt;", f);
        else if (c == '&')
            fputs("&amp;", f);
        else if (c == '"')
            fputs("&quot;", f);
        else if (c == '\'')
            fputs("&#39;", f);
        else if (c < 32 && c != '\n' && c != '\t')
            fputs("\xEF\xBF\xBD", f);
        else
            putc(c, f);
    }
}

static const char *string(const json_t *j, const char *key) {
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "";
}
static double real(const json_t *j, const char *key) {
    return json_number_value(json_object_get(j, key));
}
static const char *name_at(const json_t *names, size_t i) {
    const char *s = json_string_value(json_array_get(names, i));
    return s ? s : "";
}
static const json_t *value_at(const json_t *t, size_t row, size_t column) {
    const json_t *v = json_array_get(json_array_get(json_object_get(t, "values"), row), column);
    return json_is_object(v) ? v : NULL;
}

/* ---- heat maps ---- */

/* From dark red-brown over pale to dark blue: told apart without hue too, and the number stands in it. */
static void heat(FILE *f, double share) {
    double x = fmin(fmax(share, 0), 1);
    const double low[3] = {140, 70, 20}, mid[3] = {246, 239, 225}, high[3] = {8, 64, 129};
    const double *a = x < 0.5 ? low : mid, *b = x < 0.5 ? mid : high;
    double t = x < 0.5 ? x * 2 : x * 2 - 1;
    int c[3];
    for (int i = 0; i < 3; i++) c[i] = (int)(a[i] + (b[i] - a[i]) * t + 0.5);
    double light = 0.299 * c[0] + 0.587 * c[1] + 0.114 * c[2];
    fprintf(f, " style=\"background:#%02x%02x%02x;color:%s\"", c[0], c[1], c[2],
            light > 140 ? "#111" : "#fff");
}

static void value(FILE *f, const json_t *v, bool share) {
    if (!v) {
        fputs("<td>&ndash;</td>", f);
        return;
    }
    double mean = real(v, "mean");
    fputs("<td", f);
    if (share) heat(f, mean);
    fprintf(f, share ? ">%.1f" : ">%.4g", share ? 100 * mean : mean);
    if (share) fprintf(f, "<small>%.1f&ndash;%.1f</small>", 100 * real(v, "low"), 100 * real(v, "high"));
    fprintf(f, "<small>n=%lld</small></td>", (long long)json_integer_value(json_object_get(v, "n")));
}

static void heat_map(FILE *f, const json_t *t) {
    const json_t *rows = json_object_get(t, "row_names"), *columns = json_object_get(t, "column_names");
    bool share = !strcmp(string(t, "unit"), "%");
    fputs("<div class=\"wide\"><table><thead><tr><th class=\"t\">", f);
    escaped(f, string(t, "rows"));
    fputs(" \\ ", f);
    escaped(f, string(t, "columns"));
    fputs("</th>", f);
    for (size_t k = 0; k < json_array_size(columns); k++) {
        fputs("<th scope=\"col\">", f);
        escaped(f, name_at(columns, k));
        fputs("</th>", f);
    }
    fputs("</tr></thead><tbody>\n", f);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        fputs("<tr><th scope=\"row\" class=\"t\">", f);
        escaped(f, name_at(rows, i));
        fputs("</th>", f);
        for (size_t k = 0; k < json_array_size(columns); k++) value(f, value_at(t, i, k), share);
        fputs("</tr>\n", f);
    }
    fputs("</tbody></table></div>\n", f);
}

/* ---- curves ---- */

/* A marker of its own for each series, besides colour and dashes. */
static void marker(FILE *f, int kind, double x, double y) {
    switch (kind % 4) {
    case 0:
        fprintf(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>", x, y);
        break;
    case 1:
        fprintf(f, "<rect x=\"%.1f\" y=\"%.1f\" width=\"6\" height=\"6\"/>", x - 3, y - 3);
        break;
    case 2:
        fprintf(f, "<path d=\"M%.1f %.1fl4 7h-8z\"/>", x, y - 4);
        break;
    default:
        fprintf(f, "<path d=\"M%.1f %.1fl4 4-4 4-4-4z\"/>", x, y - 4);
    }
}

/* Along lengths where the rows are lengths and the columns mere figures; else along the columns, a line a
 * row. */
static void curves(FILE *f, const json_t *t) {
    static const char *const inks[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7a5c00", "#56b4e9"};
    static const char *const dashes[] = {"", "6 3", "2 3", "8 3 2 3"};
    const json_t *rows = json_object_get(t, "row_names"), *columns = json_object_get(t, "column_names");
    bool figures = !strcmp(string(t, "columns"), "figure");
    const json_t *along = figures ? rows : columns, *lines = figures ? columns : rows;
    size_t n = json_array_size(along), m = json_array_size(lines);
    if (strcmp(string(t, "unit"), "%") || !strcmp(string(t, "columns"), "measure") || n < 2 || m < 1 ||
        m > MAX_SERIES)
        return;
    const double width = 640, height = 240, left = 44, top = 12, right = 180, bottom = 36;
    double step = (width - left - right) / (double)(n - 1);
    fprintf(f, "<svg role=\"img\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" height=\"%.0f\"><title>", width,
            height + 10, width, height + 10);
    escaped(f, string(t, "title"));
    fputs("; the table above has the numbers</title>\n", f);
    for (int y = 0; y <= 100; y += 25) {
        double at = top + (height - top - bottom) * (1 - y / 100.0);
        fprintf(f,
                "<line x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"currentColor\" "
                "stroke-opacity=\".2\"/>"
                "<text x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">%d</text>\n",
                left, width - right, at, at, left - 6, at + 4, y);
    }
    for (size_t i = 0; i < n; i++) {
        fprintf(f, "<text x=\"%.1f\" y=\"%.0f\" text-anchor=\"middle\">", left + step * (double)i,
                height - bottom + 18);
        escaped(f, name_at(along, i));
        fputs("</text>", f);
    }
    for (size_t k = 0; k < m; k++) {
        const char *ink = inks[k % 6], *dash = dashes[k / 6 % 4];
        fprintf(f, "\n<g fill=\"%s\" stroke=\"none\"><path fill=\"none\" stroke=\"%s\" stroke-width=\"1.6\"",
                ink, ink);
        if (*dash) fprintf(f, " stroke-dasharray=\"%s\"", dash);
        fputs(" d=\"", f);
        bool pen = false;
        for (size_t i = 0; i < n; i++) {
            const json_t *v = figures ? value_at(t, i, k) : value_at(t, k, i);
            if (!v) {
                pen = false;
                continue;
            }
            fprintf(f, "%c%.1f %.1f", pen ? 'L' : 'M', left + step * (double)i,
                    top + (height - top - bottom) * (1 - real(v, "mean")));
            pen = true;
        }
        fputs("\"/>", f);
        for (size_t i = 0; i < n; i++) {
            const json_t *v = figures ? value_at(t, i, k) : value_at(t, k, i);
            if (v)
                marker(f, (int)k, left + step * (double)i,
                       top + (height - top - bottom) * (1 - real(v, "mean")));
        }
        double y = top + 6 + (double)k * 14;
        marker(f, (int)k, width - right + 20, y);
        fprintf(f, "</g><text x=\"%.0f\" y=\"%.1f\">", width - right + 30, y + 4);
        escaped(f, name_at(lines, k));
        fputs("</text>", f);
    }
    fputs("\n</svg>\n", f);
}

/* ---- the rest ---- */

static void published(FILE *f, const eval_report *r) {
    int over = eval_kind_find(string(r->params, "over"));
    const eval_published *p;
    if (over < 0) return;
    for (int i = 0; (p = eval_published_at((eval_kind)over, i)) != NULL; i++) {
        fputs("<h2>", f);
        escaped(f, p->title);
        fputs("</h2><p class=\"note\">", f);
        escaped(f, p->source);
        fputs(". Their authors' figures; none was measured here.</p>\n<table><thead><tr><th "
              "class=\"t\">model</th>",
              f);
        int n = 0;
        while (n < 8 && p->columns[n]) {
            fputs("<th scope=\"col\">", f);
            escaped(f, p->columns[n++]);
            fputs("</th>", f);
        }
        fputs("</tr></thead><tbody>", f);
        for (int k = 0; k < p->n_rows; k++) {
            fputs("<tr><th scope=\"row\" class=\"t\">", f);
            escaped(f, p->rows[k].name);
            fputs("</th>", f);
            for (int c = 0; c < n; c++) {
                fputs("<td>", f);
                escaped(f, p->rows[k].values[c] ? p->rows[k].values[c] : "");
                fputs("</td>", f);
            }
            fputs("</tr>", f);
        }
        fputs("</tbody></table>\n", f);
    }
}

static void protocol(FILE *f, const eval_report *r) {
    const char *note;
    fputs("<h2>How this was measured</h2><ul>\n", f);
    for (int i = 0; (note = eval_protocol_note(r->params, i)) != NULL; i++) {
        fputs("<li>", f);
        escaped(f, note);
        fputs("</li>\n", f);
    }
    fputs("<li>Shares carry Wilson's 95% interval and the number of samples.</li></ul>\n", f);
}

static void text_cell(FILE *f, const char *s) {
    fputs("<td class=\"t\">", f);
    escaped(f, s);
    fputs("</td>", f);
}

static void expected_cell(FILE *f, const json_t *list) {
    fputs("<td class=\"t\">", f);
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (i) fputs("; ", f);
        escaped(f, name_at(list, i));
    }
    if (!json_array_size(list)) fputs("<i>nothing answers</i>", f);
    fputs("</td>", f);
}

static void failures(FILE *f, const eval_report *r) {
    size_t shown = 0, failed = 0;
    for (size_t i = 0; i < json_array_size(r->cells); i++)
        failed += !json_is_true(json_object_get(json_array_get(r->cells, i), "right"));
    fprintf(f, "<h2>Cells that failed</h2><p class=\"note\">%zu of %zu", failed, json_array_size(r->cells));
    if (failed > FAILED_SHOWN) fprintf(f, "; the first %d are shown", FAILED_SHOWN);
    fputs("</p>\n<div class=\"wide\"><table><thead><tr><th>cell</th><th>length</th><th>depth</th><th "
          "class=\"t\">task</th>"
          "<th class=\"t\">verdict</th><th class=\"t\">question</th><th class=\"t\">expected</th>"
          "<th class=\"t\">answer</th></tr></thead><tbody>\n",
          f);
    for (size_t i = 0; i < json_array_size(r->cells) && shown < FAILED_SHOWN; i++) {
        const json_t *c = json_array_get(r->cells, i);
        if (json_is_true(json_object_get(c, "right"))) continue;
        shown++;
        fprintf(f, "<tr><td>%.0f</td><td>%.0f<small>%.0f characters</small></td><td>", real(c, "cell"),
                real(c, "length"), real(c, "characters"));
        if (real(c, "depth") >= 0) fprintf(f, "%.0f%%", real(c, "depth"));
        fputs("</td><td class=\"t\">", f);
        escaped(f, string(c, "task"));
        if (strcmp(string(c, "variant"), "sparse")) {
            fputs("<small>", f);
            escaped(f, string(c, "variant"));
            fputs("</small>", f);
        }
        fputs("</td><td class=\"t\"><b>", f);
        escaped(f, string(c, "verdict"));
        fputs("</b><br>", f);
        escaped(f, string(c, "detail"));
        fputs("</td>", f);
        text_cell(f, string(c, "question"));
        expected_cell(f, json_object_get(c, "expected"));
        text_cell(f, string(c, "answer"));
        fputs("</tr>\n", f);
    }
    fputs("</tbody></table></div>\n", f);
}

static void item(FILE *f, const char *term, const char *text) {
    fprintf(f, "<dt>%s</dt><dd><code>", term);
    escaped(f, text);
    fputs("</code></dd>\n", f);
}

int eval_report_html(const eval_report *r, FILE *f, ph_error *err) {
    char key[65], text[128];
    sodium_bin2hex(key, sizeof key, r->run.key, sizeof r->run.key);
    fputs(HEAD, f);
    snprintf(text, sizeof text, "Pharos run %lld: %.32s", (long long)r->run.id, r->run.kind);
    fprintf(f, "<title>%s</title></head><body>\n<h1>%s</h1>\n<dl>\n", text, text);
    item(f, "Command", r->run.command);
    item(f, "Model", r->run.model);
    item(f, "Key (model, tokenizer, template, numeric format, top-k, backend)", key);
    snprintf(text, sizeof text, "%lld", (long long)r->run.seed);
    item(f, "Seed", text);
    char digest[65];
    if (eval_report_digest(r, digest)) item(f, "Results (a hash of all cells but their timings)", digest);
    snprintf(text, sizeof text, "%lld of %lld; the longest haystack has %.0f characters",
             (long long)r->run.done, (long long)r->run.cells, real(r->summary, "most_characters"));
    item(f, "Cells", text);
    if (*r->run.note) item(f, "Note", r->run.note);
    fputs("</dl>\n", f);
    const json_t *tables = json_object_get(r->summary, "tables"),
                 *verdicts = json_object_get(r->summary, "verdicts");
    for (size_t i = 0; i < json_array_size(tables); i++) {
        const json_t *t = json_array_get(tables, i);
        fputs("<h2>", f);
        escaped(f, string(t, "title"));
        fprintf(f, "%s</h2>\n", strcmp(string(t, "unit"), "%") ? "" : ", %");
        if (*string(t, "note")) {
            fputs("<p class=\"note\">", f);
            escaped(f, string(t, "note"));
            fputs("</p>\n", f);
        }
        heat_map(f, t);
        curves(f, t);
    }
    fputs("<h2>Verdicts</h2><table><tbody>\n", f);
    for (size_t i = 0; i < json_array_size(verdicts); i++) {
        const json_t *v = json_array_get(verdicts, i);
        fputs("<tr><th scope=\"row\" class=\"t\">", f);
        escaped(f, string(v, "verdict"));
        fprintf(f, "</th><td>%.0f</td></tr>\n", real(v, "cells"));
    }
    fputs("</tbody></table>\n", f);
    protocol(f, r);
    published(f, r);
    failures(f, r);
    fputs("</body></html>\n", f);
    return fflush(f) || ferror(f) ? ph_fail(err, PH_FAIL, "the page cannot be written: %s", strerror(errno))
                                  : PH_OK;
}
