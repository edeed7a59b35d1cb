/* ocr.c - see ocr.h. */
#include "ingest/ocr.h"

#include "ingest/helper.h"
#include "ingest/ocr_tsv.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#define MOST_TSV ((size_t)32 << 20)
#define MOST_PIXELS 36e6 /* of a page: a sheet of A2 at 300 dots an inch */
#define LONGEST_SIDE 20000.0
#define LOW_CONFIDENCE 70.0    /* clean print is read with 90 and more */
#define TURNED_CONFIDENCE 55.0 /* below this a page may lie on its side or head */

/* ---- settings ---- */

void ocr_settings_write(char out[128], const ocr_settings *o) {
    if (o->languages[0])
        snprintf(out, 128, "%s:%u:%u:%u", o->languages, o->pages, o->page_seconds, o->seconds);
    else
        snprintf(out, 128, "-");
}

bool ocr_settings_read(ocr_settings *o, const char *text) {
    memset(o, 0, sizeof *o);
    if (!strcmp(text, "-")) return true;
    size_t n = strcspn(text, ":");
    if (n == 0 || n >= sizeof o->languages) return false;
    memcpy(o->languages, text, n);
    uint32_t *const numbers[] = {&o->pages, &o->page_seconds, &o->seconds};
    const char *at = text + n;
    for (int i = 0; i < 3; i++) {
        char *end;
        if (*at != ':' || !isdigit((unsigned char)at[1])) return false;
        errno = 0;
        unsigned long long v = strtoull(at + 1, &end, 10);
        if (errno || v < 1 || v > UINT32_MAX) return false;
        *numbers[i] = (uint32_t)v;
        at = end;
    }
    return *at == 0 && ingest_ocr_language_is_valid(o->languages);
}

/* ---- lists of pages ---- */

static void flush_range(page_list *l) {
    char range[32];
    if (!l->last) return;
    int k = l->first == l->last ? snprintf(range, sizeof range, "%u", l->first)
                                : snprintf(range, sizeof range, "%u-%u", l->first, l->last);
    size_t have = strlen(l->text);
    if (have + (size_t)k + 20 < sizeof l->text)
        snprintf(l->text + have, sizeof l->text - have, "%s%s", have ? "," : "", range);
    else
        l->unnamed += l->last - l->first + 1;
    l->first = l->last = 0;
}

static void list_page(page_list *l, uint32_t page) {
    l->n++;
    if (l->last && page == l->last + 1) {
        l->last = page;
        return;
    }
    flush_range(l);
    l->first = l->last = page;
}

/* "page 3", "pages 3,7-9 and 12 more" */
static const char *list_text(page_list *l, char out[128]) {
    flush_range(l);
    if (l->unnamed)
        snprintf(out, 128, "pages %s and %u more", l->text, l->unnamed);
    else
        snprintf(out, 128, "page%s %s", l->n == 1 ? "" : "s", l->text);
    return out;
}

/* ---- one page ---- */

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void ocr_open(ocr_reader *r, const ocr_settings *settings, int file, const sandbox_limits *limits,
              text_sink *s) {
    ph_error err = {0};
    memset(r, 0, sizeof *r);
    r->settings = settings;
    r->file = file;
    r->limits = *limits;
    r->limits.seconds = settings->page_seconds;
    r->s = s;
    r->started = seconds_now();
    if (ingest_ocr_check(settings->languages, &err))
        snprintf(r->broken, sizeof r->broken, "%.190s", err.text);
}

static int keep_tsv(void *user, const char *bytes, size_t n) {
    ocr_reader *r = user;
    if (r->n_tsv + n > r->tsv_capacity) {
        size_t want = r->tsv_capacity ? r->tsv_capacity * 2 : 1 << 18;
        while (want < r->n_tsv + n) want *= 2;
        char *grown = want <= MOST_TSV ? realloc(r->tsv, want) : NULL;
        if (!grown) return 1;
        r->tsv = grown;
        r->tsv_capacity = want;
    }
    memcpy(r->tsv + r->n_tsv, bytes, n);
    r->n_tsv += n;
    return 0;
}

static bool ended_well(const helper_end *end) {
    return !end->late && !end->stopped && WIFEXITED(end->status) && WEXITSTATUS(end->status) == 0;
}

/* Why a page was not read. */
static void explain(const ocr_reader *r, const helper_end *end, const char *program, char *out, size_t size) {
    if (end->stopped)
        snprintf(out, size, "more words than a page can have");
    else if (end->late || (WIFSIGNALED(end->status) && WTERMSIG(end->status) == SIGXCPU))
        snprintf(out, size, "more than %u s", r->settings->page_seconds);
    else if (strstr(end->said, "bad_alloc") || strstr(end->said, "ut of memory") ||
             strstr(end->said, "calloc fail") || strstr(end->said, "malloc fail"))
        snprintf(out, size, "more than %.1f GiB of memory", (double)r->limits.memory_bytes / (1 << 30));
    else if (WIFSIGNALED(end->status))
        snprintf(out, size, "%s crashed: %s", program, strsignal(WTERMSIG(end->status)));
    else
        snprintf(out, size, "%s: %.90s", program, end->said[0] ? end->said : "no picture that it can read");
}

/* Runs tesseract, on what `draw` (NULL: on the file itself) writes. False: r->why says it where nothing stood
 * before. */
static bool run(ocr_reader *r, const char *const *draw, const char *mode, int dpi, const char *number) {
    char density[16], page[48] = "tessedit_page_number=-1";
    if (number) snprintf(page, sizeof page, "tessedit_page_number=%s", number);
    snprintf(density, sizeof density, "%d", dpi);
    const char *read[24] = {"/usr/bin/tesseract", "-", "-", "-l", r->settings->languages, "--psm", mode};
    int n = 7;
    const char *const options[] = {"-c", "tessedit_create_tsv=1", "-c", page};
    if (dpi) read[n++] = "--dpi", read[n++] = density;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) read[n++] = options[i];
    helper_end drawn = {0}, end = {0};
    ph_error err = {0};
    r->n_tsv = 0;
    /* By the clock a busy machine gets twice the time. */
    uint32_t seconds = 2 * r->settings->page_seconds + 10;
    int code = helper_pipe(&drawn, &end, draw, read, r->file, seconds, &r->limits, keep_tsv, r, &err);
    char why[sizeof r->why] = "";
    if (code)
        snprintf(why, sizeof why, "%.150s", err.text);
    else if (draw && !ended_well(&drawn))
        explain(r, &drawn, "pdftoppm", why, sizeof why);
    else if (!ended_well(&end))
        explain(r, &end, "tesseract", why, sizeof why);
    if (why[0] && !r->why[0]) memcpy(r->why, why, sizeof r->why);
    return !why[0];
}

/* Reads a page once, and once more with its orientation looked for where the first look made little sense. */
static void read_page(ocr_reader *r, page_text *to, const char *const *draw, int dpi, double points,
                      const char *number, uint32_t least) {
    ocr_tsv_sum sum, turned;
    r->tried++;
    if (!run(r, draw, "3", dpi, number)) {
        list_page(&r->failed, to->page);
        return;
    }
    ocr_tsv_say(NULL, r->tsv, r->n_tsv, points, &sum);
    if (sum.words && sum.confidence < TURNED_CONFIDENCE) {
        char *first = r->tsv;
        size_t n_first = r->n_tsv;
        char why[sizeof r->why];
        memcpy(why, r->why, sizeof why);
        r->tsv = NULL;
        r->tsv_capacity = 0;
        bool better = run(r, draw, "1", dpi, number);
        memcpy(r->why, why, sizeof why); /* the first look stands */
        if (better) {
            ocr_tsv_say(NULL, r->tsv, r->n_tsv, points, &turned);
            better = turned.confidence > sum.confidence;
        }
        if (!better) {
            free(r->tsv);
            r->tsv = first;
            r->n_tsv = r->tsv_capacity = n_first;
        } else {
            free(first);
        }
    }
    ocr_tsv_say(NULL, r->tsv, r->n_tsv, points, &sum);
    if (!sum.words || sum.words < least) return;
    ocr_tsv_say(to, r->tsv, r->n_tsv, points, &sum);
    r->read++;
    r->confidence += sum.confidence;
    if (sum.confidence < LOW_CONFIDENCE) list_page(&r->unsure, to->page);
}

/* Whether there is still leave to read a page. */
static bool may_try(ocr_reader *r, uint32_t page) {
    if (r->broken[0]) return false;
    if (r->tried < r->settings->pages && seconds_now() - r->started < r->settings->seconds) return true;
    list_page(&r->left, page);
    return false;
}

/* Dots an inch at which a page of this size is a picture of bounded size. */
static int density(float width, float height) {
    double w = width / 72.0, h = height / 72.0, dpi = OCR_DPI;
    if (!(w > 0) || !(h > 0)) return 0;
    dpi = fmin(dpi, sqrt(MOST_PIXELS / (w * h)));
    dpi = fmin(dpi, LONGEST_SIDE / fmax(w, h));
    return dpi >= 1 ? (int)dpi : 0;
}

void ocr_pdf_page(ocr_reader *r, page_text *to, float width, float height, uint32_t least) {
    char number[16], dots[16];
    if (!may_try(r, to->page)) return;
    int dpi = density(width, height);
    if (!dpi) {
        if (!r->why[0])
            snprintf(r->why, sizeof r->why, "%.0f by %.0f points are no sheet", (double)width,
                     (double)height);
        list_page(&r->failed, to->page);
        return;
    }
    snprintf(number, sizeof number, "%u", to->page);
    snprintf(dots, sizeof dots, "%d", dpi);
    const char *draw[] = {
        "/usr/bin/pdftoppm", "-gray", "-cropbox", "-r", dots, "-f", number, "-l", number, "-", NULL};
    read_page(r, to, draw, dpi, 72.0 / dpi, NULL, least);
}

void ocr_picture(ocr_reader *r, page_text *to, uint32_t pages) {
    char number[16];
    if (!may_try(r, to->page)) return;
    snprintf(number, sizeof number, "%u", to->page - 1); /* tesseract counts from 0 */
    read_page(r, to, NULL, 0, 1, pages > 1 ? number : NULL, 0);
}

void ocr_close(ocr_reader *r) {
    char pages[128];
    if (r->read)
        sink_warn(r->s, "%u page%s read by OCR (%s), mean confidence %.0f%%", r->read,
                  r->read == 1 ? "" : "s", r->settings->languages, r->confidence / r->read);
    if (r->unsure.n)
        sink_warn(r->s, "%s may be misread (confidence below %.0f%%)", list_text(&r->unsure, pages),
                  LOW_CONFIDENCE);
    if (r->failed.n) sink_warn(r->s, "OCR of %s failed (%s)", list_text(&r->failed, pages), r->why);
    if (r->left.n)
        sink_warn(r->s, "OCR stopped before %s: at most %u pages and %u s a document",
                  list_text(&r->left, pages), r->settings->pages, r->settings->seconds);
    free(r->tsv);
    r->tsv = NULL;
}
