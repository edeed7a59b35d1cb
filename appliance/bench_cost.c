/* bench_cost.c - the cost curve of a bench: a table and a picture (bench.h). */
#include "appliance/bench.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

double bench_dollars(double seconds_a_token, double dollars_an_hour) {
    return seconds_a_token * 1e6 * dollars_an_hour / 3600;
}

static int finish(FILE *f, const char *path, ph_error *err) {
    int failed = ferror(f);
    if (fclose(f) || failed) return ph_fail(err, PH_FAIL, "cannot write %s: %s", path, strerror(errno));
    return PH_OK;
}

enum { LINES = 4 };
static const char *const names[LINES] = {"prefill, sparse", "prefill, dense", "decode, sparse", "decode, dense"};
static const char *const colors[LINES] = {"#1764ab", "#9ecae1", "#b8350d", "#fdae6b"};

/* Dollars per million tokens; 0 where it was not measured. */
static double cost_at(const bench_mark *m, int line, double dollars) {
    const double seconds[LINES] = {m->sparse, m->dense, m->sparse_decode, m->dense_decode};
    return bench_dollars(seconds[line], dollars);
}

int bench_write_csv(const bench_result *r, double dollars, const char *path, ph_error *err) {
    FILE *f = fopen(path, "w");
    if (!f) return ph_fail(err, PH_FAIL, "cannot write %s: %s", path, strerror(errno));
    fputs("position,prefill_sparse,prefill_dense,decode_sparse,decode_dense\n", f);
    for (int i = 0; i < r->n_marks; i++) {
        fprintf(f, "%lld", (long long)r->marks[i].position);
        for (int j = 0; j < LINES; j++) {
            double cost = cost_at(&r->marks[i], j, dollars);
            if (cost > 0)
                fprintf(f, ",%.6g", cost);
            else
                fputc(',', f);
        }
        fputc('\n', f);
    }
    return finish(f, path, err);
}

/* Both axes are logarithmic. */
typedef struct plot {
    double x0, x1, y0, y1; /* log2 of positions, log10 of dollars */
} plot;

enum { WIDTH = 760, HEIGHT = 420, LEFT = 70, RIGHT = 170, TOP = 50, BOTTOM = 50 };

static double to_x(const plot *p, double position) {
    return LEFT + (log2(position) - p->x0) / (p->x1 - p->x0) * (WIDTH - LEFT - RIGHT);
}

static double to_y(const plot *p, double cost) {
    return HEIGHT - BOTTOM - (log10(cost) - p->y0) / (p->y1 - p->y0) * (HEIGHT - TOP - BOTTOM);
}

static plot plot_of(const bench_result *r, double dollars) {
    plot p = {.y0 = INFINITY, .y1 = -INFINITY};
    p.x0 = log2((double)r->marks[0].position);
    p.x1 = fmax(log2((double)r->marks[r->n_marks - 1].position), p.x0 + 1);
    for (int i = 0; i < r->n_marks; i++)
        for (int j = 0; j < LINES; j++) {
            double cost = cost_at(&r->marks[i], j, dollars);
            if (cost <= 0) continue;
            p.y0 = fmin(p.y0, floor(log10(cost)));
            p.y1 = fmax(p.y1, ceil(log10(cost)));
        }
    if (!(p.y1 > p.y0)) p.y1 = p.y0 + 1;
    return p;
}

static void draw_axes(FILE *f, const plot *p) {
    for (double y = p->y0; y <= p->y1 + 1e-9; y++) {
        double at = to_y(p, pow(10, y));
        fprintf(f, "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>", LEFT, WIDTH - RIGHT, at, at);
        fprintf(f, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">$%g</text>\n", LEFT - 8, at + 4, pow(10, y));
    }
    for (double x = ceil(p->x0); x <= p->x1 + 0.01; x++) {
        double at = to_x(p, exp2(x));
        fprintf(f, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\" stroke=\"#ddd\"/>", at, at, TOP, HEIGHT - BOTTOM);
        fprintf(f, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%gK</text>\n", at, HEIGHT - BOTTOM + 18,
                exp2(x) / 1024);
    }
    fprintf(f, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">position in the context</text>\n",
            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12);
}

/* Where each line's name stands: at its end, and apart from the others' names. */
static void place_names(const double end[LINES], double at[LINES]) {
    enum { APART = 15 };
    int order[LINES], n = 0;
    for (int j = 0; j < LINES; j++) { /* by height */
        int i = n;
        if (end[j] <= 0) continue;
        for (; i > 0 && end[order[i - 1]] > end[j]; i--) order[i] = order[i - 1];
        order[i] = j;
        n++;
    }
    for (int i = 0; i < n; i++)
        at[order[i]] = i ? fmax(end[order[i]], at[order[i - 1]] + APART) : end[order[i]];
}

/* Text as XML has it. */
static void put_text(FILE *f, const char *s) {
    for (; *s; s++) {
        if (*s == '&' || *s == '<' || *s == '>')
            fprintf(f, "&#%d;", *s);
        else if ((unsigned char)*s >= ' ')
            fputc(*s, f);
    }
}

int bench_write_svg(const bench_result *r, double dollars, const char *model, const char *machine,
                    const char *path, ph_error *err) {
    if (r->n_marks < 1) return ph_fail(err, PH_USAGE, "there is nothing to draw");
    FILE *f = fopen(path, "w");
    if (!f) return ph_fail(err, PH_FAIL, "cannot write %s: %s", path, strerror(errno));
    plot p = plot_of(r, dollars);
    fprintf(f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\">\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n"
            "<text x=\"%d\" y=\"24\" font-size=\"15\">Dollars per million tokens at $%g an hour (",
            WIDTH, HEIGHT, LEFT, dollars);
    put_text(f, model);
    fputs(", ", f);
    put_text(f, machine);
    fputs(")</text>\n", f);
    draw_axes(f, &p);
    double end[LINES] = {0}, name_at[LINES];
    for (int j = 0; j < LINES; j++) {
        fprintf(f, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", colors[j]);
        for (int i = 0; i < r->n_marks; i++) {
            double cost = cost_at(&r->marks[i], j, dollars);
            if (cost <= 0) continue;
            end[j] = to_y(&p, cost);
            fprintf(f, "%.1f,%.1f ", to_x(&p, (double)r->marks[i].position), end[j]);
        }
        fputs("\"/>\n", f);
    }
    place_names(end, name_at);
    for (int j = 0; j < LINES; j++)
        if (end[j] > 0)
            fprintf(f, "<text x=\"%d\" y=\"%.1f\" fill=\"%s\">%s</text>\n", WIDTH - RIGHT + 8, name_at[j] + 4, colors[j],
                    names[j]);
    fputs("</svg>\n", f);
    return finish(f, path, err);
}
