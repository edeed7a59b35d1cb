/* extract_pdf.c - PDF through poppler's programs: pdfinfo for title and pages, pdftotext for the text with
 * its places, pdfimages for the pages that are pictures, which ocr.c may read. */
#include "ingest/child.h"
#include "ingest/helper.h"
#include "ingest/pdf_layout.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

typedef struct info {
    char text[8192];
    size_t n;
} info;

static int on_info(void *user, const char *bytes, size_t n) {
    info *i = user;
    if (n > sizeof i->text - 1 - i->n) n = sizeof i->text - 1 - i->n;
    memcpy(i->text + i->n, bytes, n);
    i->n += n;
    return 0;
}

static int on_layout(void *user, const char *bytes, size_t n) {
    return pdf_layout_feed(user, bytes, n);
}

/* The value behind "Name:" at the start of a line; empty when there is none. */
static const char *field(const info *i, const char *name, size_t *n) {
    const char *at = i->text;
    while (at) {
        if (!strncmp(at, name, strlen(name))) {
            at += strlen(name);
            while (*at == ' ') at++;
            *n = strcspn(at, "\n");
            return at;
        }
        at = strchr(at, '\n');
        if (at) at++;
    }
    *n = 0;
    return "";
}

/* A helper that did not end well. */
static int explain(text_sink *s, const helper_end *end, const char *program, const sandbox_limits *limits) {
    if (end->missing)
        return sink_fail(s, PH_UNSUPPORTED,
                         "reading PDF needs %s (Debian: poppler-utils), which is not installed", program);
    if (strstr(end->said, "Incorrect password"))
        return sink_fail(s, PH_UNSUPPORTED, "encrypted PDF: it opens only with a password");
    if (WIFSIGNALED(end->status) && WTERMSIG(end->status) == SIGXCPU)
        return sink_fail(s, PH_TOO_LARGE, "reading it took more than %u s", limits->seconds);
    if (strstr(end->said, "ut of memory") || strstr(end->said, "bad_alloc"))
        return sink_fail(s, PH_TOO_LARGE, "reading it needed more than %.1f GiB of memory",
                         (double)limits->memory_bytes / (1 << 30));
    if (WIFSIGNALED(end->status))
        return sink_fail(s, PH_CORRUPT, "%s crashed on it (%s)", program, strsignal(WTERMSIG(end->status)));
    if (WIFEXITED(end->status) && WEXITSTATUS(end->status) == 3)
        return sink_fail(s, PH_UNSUPPORTED, "encrypted PDF: its permissions forbid to copy text");
    return sink_fail(s, PH_CORRUPT, "no readable PDF (%s)",
                     end->said[0] ? end->said : "poppler cannot open it");
}

typedef struct picture_list {
    uint8_t *pages; /* a bit each */
    float *area;    /* of the pictures on each page, in square points */
    char line[160]; /* the beginning of the current line */
    size_t n;
} picture_list;

static int open_list(picture_list *l, text_sink *s) {
    *l = (picture_list){.pages = calloc(SINK_MAX_PAGES / 8 + 1, 1),
                        .area = calloc(SINK_MAX_PAGES + 1, sizeof *l->area)};
    return l->pages && l->area ? 0 : sink_fail(s, PH_MEMORY, "out of memory: the book of pages");
}

static void close_list(picture_list *l) {
    free(l->pages);
    free(l->area);
}

/* A row of `pdfimages -list`: page, number, type, width, height, color, comp, bpc, enc, interp, object, ID,
 * x-ppi, y-ppi and more. Of pictures within the page's own stream object and ID are one word. */
static void on_row(picture_list *l) {
    unsigned long page = strtoul(l->line, NULL, 10);
    float width, height, x_ppi, y_ppi;
    if (page == 0 || page > SINK_MAX_PAGES) return;
    l->pages[page / 8] |= (uint8_t)(1u << (page % 8));
    const char *form = strstr(l->line, "[inline]") ? "%*s %*s %*s %f %f %*s %*s %*s %*s %*s %*s %f %f"
                                                   : "%*s %*s %*s %f %f %*s %*s %*s %*s %*s %*s %*s %f %f";
    if (sscanf(l->line, form, &width, &height, &x_ppi, &y_ppi) == 4 && width > 0 && height > 0 && x_ppi > 0 &&
        y_ppi > 0)
        l->area[page] += width / x_ppi * 72 * (height / y_ppi * 72);
}

static int on_pictures(void *user, const char *bytes, size_t n) {
    picture_list *l = user;
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] != '\n') {
            if (l->n < sizeof l->line - 1) l->line[l->n++] = bytes[i];
            continue;
        }
        l->line[l->n] = 0;
        l->n = 0;
        on_row(l);
    }
    return 0;
}

static void list_pictures(picture_list *l, uint32_t first, uint32_t last, int fd,
                          const sandbox_limits *limits, text_sink *s) {
    char from[16], to[16];
    snprintf(from, sizeof from, "%u", first);
    snprintf(to, sizeof to, "%u", last);
    const char *argv[] = {"/usr/bin/pdfimages", "-list", "-f", from, "-l", to, "-", NULL};
    helper_end end;
    ph_error err = {0};
    if (helper_run(&end, argv, fd, limits, on_pictures, l, &err) != 0 || !WIFEXITED(end.status) ||
        WEXITSTATUS(end.status) != 0)
        sink_warn(s, "pages without text could not be searched for pictures");
}

/* Why a document of which no page says anything is none. reader: NULL = no OCR was asked for. */
static void refuse_textless(uint32_t pages, uint32_t pictures, const ocr_reader *reader, text_sink *s) {
    const char *plural = pages == 1 ? "" : "s";
    char found[160] = "";
    if (reader && reader->broken[0]) {
        sink_fail(s, PH_UNSUPPORTED, "%u page%s without text: %s", pages, plural, reader->broken);
        return;
    }
    if (reader && reader->failed.n) {
        sink_fail(s, PH_UNSUPPORTED, "%u page%s without text, and OCR of %u failed (%s)", pages, plural,
                  reader->failed.n, reader->why);
        return;
    }
    if (reader && reader->tried < pages)
        snprintf(found, sizeof found, ", and OCR (%s) found none in the %u page%s that it read",
                 reader->settings->languages, reader->tried, reader->tried == 1 ? "" : "s");
    else if (reader)
        snprintf(found, sizeof found, ", and OCR (%s) found none", reader->settings->languages);
    if (pictures == pages)
        sink_fail(s, PH_UNSUPPORTED, "%u page%s, all pictures: there is no text to read%s", pages, plural,
                  reader ? found : " without OCR (--ocr)");
    else
        sink_fail(s, PH_UNSUPPORTED, "%u page%s without text, %u of them with pictures%s", pages, plural,
                  pictures,
                  reader     ? found
                  : pictures ? ", which only OCR (--ocr) can read"
                             : "");
}

/* Names the pages without text that hold pictures. */
static void find_pictures(pdf_layout *p, int fd, const sandbox_limits *limits, const ocr_reader *reader,
                          text_sink *s) {
    uint32_t first = 0, last = 0, named = 0, empty = 0;
    for (uint32_t i = 1; i <= p->page; i++)
        if (pdf_layout_is_empty(p, i)) {
            if (!first) first = i;
            last = i;
            empty++;
        }
    if (!first) return;
    picture_list list;
    if (open_list(&list, s) == 0) list_pictures(&list, first, last, fd, limits, s);
    if (s->error.code) {
        close_list(&list);
        return;
    }
    for (uint32_t i = first; i <= last; i++)
        if (pdf_layout_is_empty(p, i) && list.pages[i / 8] >> (i % 8) & 1) {
            sink_picture_page(s, i);
            named++;
        }
    close_list(&list);
    if (!p->text.said && p->page) refuse_textless(p->page, named, reader, s);
}

/* OCR while the pages come. */
typedef struct reading {
    ocr_reader reader;
    picture_list pictures;
} reading;

enum { STAMP_BYTES = 120 };

/* A page without text, or one that is a picture with a stamp on it: a scanner's name, a number. Of the latter
 * OCR has to find several times the words that the page says itself, or it is a title before a picture, and
 * would be said twice. */
static void read_by_ocr(void *user, page_text *to, uint64_t said, float width, float height) {
    reading *r = user;
    bool stamped =
        said < STAMP_BYTES && to->page <= SINK_MAX_PAGES && r->pictures.area[to->page] > width * height / 2;
    uint32_t least = said ? (uint32_t)said / 3 + 10 : 0;
    if (said == 0 || stamped) ocr_pdf_page(&r->reader, to, width, height, least);
}

/* Returns the sink's code. */
static int open_reading(reading *r, const ocr_settings *ocr, uint32_t pages, int fd,
                        const sandbox_limits *limits, text_sink *s) {
    ocr_open(&r->reader, ocr, fd, limits, s);
    if (open_list(&r->pictures, s)) return s->error.code;
    if (pages) list_pictures(&r->pictures, 1, pages, fd, limits, s);
    sink_ocr(s, r->reader.broken[0] ? "" : ocr->languages);
    return sink_progress(s, 0, pages);
}

int extract_pdf(int fd, uint64_t file_bytes, const sandbox_limits *limits, const ocr_settings *ocr,
                text_sink *s) {
    info i = {.n = 0};
    helper_end end;
    ph_error err = {0};
    const char *ask[] = {"/usr/bin/pdfinfo", "-enc", "UTF-8", "-", NULL};
    int rc = helper_run(&end, ask, fd, limits, on_info, &i, &err);
    if (rc) return sink_fail(s, rc, "%s", err.text);
    if (!WIFEXITED(end.status) || WEXITSTATUS(end.status) != 0) return explain(s, &end, "pdfinfo", limits);
    i.text[i.n] = 0;
    size_t n;
    const char *title = field(&i, "Title:", &n);
    sink_title(s, title, n);
    unsigned long pages = strtoul(field(&i, "Pages:", &n), NULL, 10);
    if (pages > SINK_MAX_PAGES)
        return sink_fail(s, PH_TOO_LARGE, "it claims %lu pages, and the limit is %u", pages, SINK_MAX_PAGES);

    pdf_layout layout;
    reading by_ocr;
    if (pdf_layout_open(&layout, s, (uint32_t)pages)) return s->error.code;
    if (ocr && open_reading(&by_ocr, ocr, (uint32_t)pages, fd, limits, s) == 0) {
        layout.page_end = read_by_ocr;
        layout.user = &by_ocr;
    }
    const char *read[] = {"/usr/bin/pdftotext", "-bbox-layout", "-cropbox", "-enc", "UTF-8", "-", "-", NULL};
    rc = helper_run(&end, read, fd, limits, on_layout, &layout, &err);
    if (rc) {
        sink_fail(s, rc, "%s", err.text);
    } else {
        pdf_layout_finish(&layout);
        sink_pages(s, layout.page);
        if (!s->error.code && (!WIFEXITED(end.status) || WEXITSTATUS(end.status) != 0))
            explain(s, &end, "pdftotext", limits);
        if (!s->error.code && !layout.page) sink_fail(s, PH_CORRUPT, "a PDF without pages");
        if (!s->error.code) find_pictures(&layout, fd, limits, ocr ? &by_ocr.reader : NULL, s);
    }
    if (ocr) {
        ocr_close(&by_ocr.reader);
        close_list(&by_ocr.pictures);
    }
    pdf_layout_free(&layout);
    return s->error.code;
}
