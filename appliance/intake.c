/* intake.c - the way of a file into the store (intake.h). */
#include "appliance/intake.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

const char *intake_state_name(intake_state s) {
    static const char *const names[] = {"added", "updated", "known", "skipped", "failed"};
    return names[s];
}

typedef struct intake {
    store *store;
    const intake_options *options;
    const char *name; /* of the file being extracted, for progress */
    ph_error *err;
    int code; /* an error that ends the walk */
} intake;

static void event(intake *in, intake_state state, const char *name, const char *detail,
                  const store_document *d) {
    intake_result r = {.state = state, .name = name, .detail = detail ? detail : ""};
    if (d) {
        r.document = d->id;
        r.text_bytes = d->text_bytes;
        r.pages = d->pages;
    }
    in->options->event(in->options->user, &r);
}

static int extracting(void *user, uint64_t done, uint64_t total) {
    intake *in = user;
    return in->options->progress ? in->options->progress(in->options->user, in->name, done, total, "pages")
                                 : 0;
}

/* "3,7-9" */
static char *page_list(const uint32_t *pages, size_t n) {
    char *out = malloc(n * 24 + 1);
    size_t at = 0;
    if (!out) return NULL;
    out[0] = 0;
    for (size_t i = 0; i < n;) {
        size_t j = i;
        while (j + 1 < n && pages[j + 1] == pages[j] + 1) j++;
        at += (size_t)sprintf(out + at, "%s%u", at ? "," : "", pages[i]);
        if (j > i) at += (size_t)sprintf(out + at, "-%u", pages[j]);
        i = j + 1;
    }
    return out;
}

static store_segment *store_segments(const document_text *t) {
    store_segment *out = calloc(t->n_segments ? t->n_segments : 1, sizeof *out);
    for (size_t i = 0; out && i < t->n_segments; i++) {
        const segment *g = &t->segments[i];
        out[i] = (store_segment){.start = g->start,
                                 .end = g->end,
                                 .page = g->page,
                                 .src_start = g->src_start,
                                 .src_end = g->src_end,
                                 .n_rects = g->n_rects};
        if (g->n_rects) out[i].rects = &t->rects[g->first_rect].x0;
    }
    return out;
}

/* The document that was read from this place before, if its content has changed since. */
static int older_version(intake *in, const char *source, int64_t *old) {
    store_document d = {0};
    *old = 0;
    if (!source[0]) return PH_OK;
    ph_error ignored;
    int code = store_document_find(in->store, source, &d, &ignored);
    if (code == PH_OK && d.source && !strcmp(d.source, source)) *old = d.id;
    store_document_free(&d);
    return code == PH_NOT_FOUND ? PH_OK : code;
}

/* What is wrong with a file, said where its name stands already: the sentence names it again. */
static const char *without_name(const char *sentence, const char *name) {
    const char *base = strrchr(name, '/');
    const char *const names[] = {name, base ? base + 1 : name};
    for (int i = 0; i < 2; i++) {
        size_t n = strlen(names[i]);
        if (!strncmp(sentence, names[i], n) && !strncmp(sentence + n, ": ", 2)) return sentence + n + 2;
    }
    return sentence;
}

int intake_erase(store *s, int64_t document, const intake_options *o, ph_error *err) {
    return o->erase ? o->erase(o->user, s, document, err) : store_document_delete(s, document, NULL, err);
}

bool intake_reads_more(const store_document *d, const ingest_limits *limits) {
    const char *languages = limits->ocr_language ? limits->ocr_language : INGEST_OCR_LANGUAGE;
    /* Which of a PDF's pages OCR would read is not known before it is looked at: a drawing of letters is no
     * picture. */
    bool may_hold = !strncmp(d->media_type, "application/pdf", 15) || !strncmp(d->media_type, "image/", 6);
    return limits->ocr && may_hold && strcmp(d->ocr, languages) != 0;
}

/* What a person is to know of a document that was taken. */
static void tell_taken(intake *in, intake_state state, const store_document *d, const document_text *text,
                       bool again) {
    char detail[900] = "";
    if (again) snprintf(detail, sizeof detail, "read again with OCR");
    if (text->n_picture_pages) {
        bool one = text->n_picture_pages == 1;
        size_t n = strlen(detail);
        snprintf(detail + n, sizeof detail - n, "%spage%s %.200s hold%s pictures only and %s", n ? "; " : "",
                 one ? "" : "s", d->picture_pages, one ? "s" : "",
                 text->ocr[0] ? "OCR read no text there"
                 : one        ? "was not read"
                              : "were not read");
    }
    size_t n = strlen(detail);
    if (text->warning[0]) snprintf(detail + n, sizeof detail - n, "%s%s", n ? "; " : "", text->warning);
    event(in, state, d->name, detail, d);
}

/* Stores what was read, in the place of `old` (0 = of nothing). */
static int keep(intake *in, const char *path, const char *name, const char *source, const uint8_t hash[32],
                uint64_t size, const document_text *text, int64_t old, bool again) {
    int64_t existing = 0;
    struct stat st = {0};
    (void)stat(path, &st);
    char *pictures = page_list(text->picture_pages, text->n_picture_pages);
    store_segment *segments = store_segments(text);
    int code = pictures && segments ? PH_OK : ph_fail(in->err, PH_MEMORY, "no memory for %s", name);
    if (!code && !old) code = older_version(in, source, &old);
    if (!code && old) code = intake_erase(in->store, old, in->options, in->err);
    store_document d = {.name = (char *)name,
                        .source = (char *)source,
                        .media_type = (char *)text->media_type,
                        .title = (char *)text->title,
                        .warning = (char *)text->warning,
                        .picture_pages = pictures ? pictures : (char *)"",
                        .ocr = (char *)text->ocr,
                        .bytes = (int64_t)size,
                        .text_bytes = (int64_t)text->len,
                        .added_at = (int64_t)time(NULL),
                        .source_mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec,
                        .pages = text->pages};
    memcpy(d.hash, hash, sizeof d.hash);
    if (!code)
        code = store_document_add(in->store, &d, text->text, segments, text->n_segments, path, &existing,
                                  in->err);
    if (!code) tell_taken(in, existing ? INTAKE_KNOWN : old ? INTAKE_UPDATED : INTAKE_ADDED, &d, text, again);
    if (d.name != name) free(d.name);
    free(pictures);
    free(segments);
    return code;
}

/* A document whose file was read again with OCR: replaced where it says something else now. */
static int read_again(intake *in, const char *path, const store_document *d, const document_text *text) {
    char *before = NULL, detail[160];
    size_t n = 0;
    int code = store_document_text(in->store, d->id, &before, &n, in->err);
    bool same = !code && n == text->len && !memcmp(before, text->text, n);
    free(before);
    if (code) return code;
    if (!same) return keep(in, path, d->name, d->source, d->hash, (uint64_t)d->bytes, text, d->id, true);
    if (text->ocr[0]) code = store_document_set_ocr(in->store, d->id, text->ocr, in->err);
    snprintf(detail, sizeof detail, "OCR (%s) finds no more text in it", text->ocr);
    if (!code) event(in, INTAKE_KNOWN, d->name, text->ocr[0] ? detail : text->warning, d);
    return code;
}

/* Hash, notice, extract, store. What is wrong with this file is an event; what is wrong with the store is a
 * code. */
static int take_file(intake *in, const char *path, const char *name, const char *source) {
    uint8_t hash[32];
    uint64_t size = 0;
    ph_error why = {0};
    store_document d = {0};
    document_text text = {0};
    if (ingest_hash_file(hash, &size, path, &why)) {
        event(in, INTAKE_FAILED, name, without_name(why.text, name), NULL);
        return PH_OK;
    }
    int code = store_document_by_hash(in->store, hash, &d, in->err);
    bool again = code == PH_OK && intake_reads_more(&d, &in->options->limits);
    if (code == PH_OK && !again) {
        char detail[600] = "";
        if (strcmp(d.name, name))
            snprintf(detail, sizeof detail, "the same content is there as %.500s", d.name);
        event(in, INTAKE_KNOWN, name, detail, &d);
        store_document_free(&d);
        return PH_OK;
    }
    if (!again && code != PH_NOT_FOUND) return code;
    in->name = name;
    code = ingest_extract(&text, path, &in->options->limits, extracting, in, &why);
    if (code == PH_INTERRUPTED)
        ph_fail(in->err, code, "%s", why.text);
    else if (code) {
        event(in, INTAKE_FAILED, name, without_name(why.text, name), again ? &d : NULL);
        code = PH_OK;
    } else if (again)
        code = read_again(in, path, &d, &text);
    else
        code = keep(in, path, name, source, hash, size, &text, 0, false);
    store_document_free(&d);
    document_text_free(&text);
    return code;
}

static int walked(void *user, const char *path, const char *name) {
    intake *in = user;
    char absolute[PATH_MAX];
    if (in->options->progress && in->options->progress(in->options->user, name, 0, 0, "")) {
        in->code = ph_fail(in->err, PH_INTERRUPTED, "stopped before %s", name);
        return 1;
    }
    if (!realpath(path, absolute)) snprintf(absolute, sizeof absolute, "%s", path);
    in->code = take_file(in, path, name, absolute);
    return in->code != PH_OK;
}

static int skipped(void *user, const char *path, const char *reason) {
    event(user, INTAKE_SKIPPED, path, reason, NULL);
    return 0;
}

/* A file below the store's folder for what comes from outside: never longer there than it takes to read it.
 */
static int spool_path(char out[PATH_MAX], store *s, ph_error *err) {
    if (snprintf(out, PATH_MAX, "%s/incoming-XXXXXX", store_dir(s)) >= PATH_MAX)
        return ph_fail(err, PH_USAGE, "the path of the data folder is too long");
    int fd = mkstemp(out);
    if (fd < 0) return ph_fail(err, PH_FAIL, "cannot make a file in %s: %s", store_dir(s), strerror(errno));
    close(fd);
    return PH_OK;
}

static int spool_stdin(const char *path, uint64_t limit, ph_error *err) {
    FILE *f = fopen(path, "wb");
    char *piece = malloc(1 << 16);
    uint64_t total = 0;
    int code = f && piece ? PH_OK : ph_fail(err, PH_FAIL, "cannot write %s: %s", path, strerror(errno));
    for (size_t n; !code && (n = fread(piece, 1, 1 << 16, stdin)) > 0;) {
        total += n;
        if (limit && total > limit)
            code = ph_fail(err, PH_TOO_LARGE, "standard input is longer than %llu bytes",
                           (unsigned long long)limit);
        else if (fwrite(piece, 1, n, f) != n)
            code = ph_fail(err, PH_FAIL, "cannot write %s: %s", path, strerror(errno));
    }
    free(piece);
    if (f && fclose(f) && !code) code = ph_fail(err, PH_FAIL, "cannot write %s: %s", path, strerror(errno));
    return code;
}

static int fetching(void *user, uint64_t done, uint64_t total) {
    intake *in = user;
    return in->options->progress ? in->options->progress(in->options->user, in->name, done, total, "B") : 0;
}

static int take_url(intake *in, const char *url) {
    char path[PATH_MAX];
    char *name = NULL;
    ph_error why = {0};
    int code = spool_path(path, in->store, in->err);
    if (code) return code;
    unlink(path); /* ingest_fetch makes it */
    in->name = url;
    code = ingest_fetch(url, path, &name, &in->options->limits, fetching, in, &why);
    if (code == PH_OK)
        code = take_file(in, path, name, url);
    else if (code == PH_INTERRUPTED)
        ph_fail(in->err, code, "%s", why.text);
    else {
        event(in, INTAKE_FAILED, url, why.text, NULL);
        code = PH_OK;
    }
    unlink(path);
    free(name);
    return code;
}

static int take_stdin(intake *in) {
    char path[PATH_MAX];
    int code = spool_path(path, in->store, in->err);
    if (code) return code;
    code = spool_stdin(path, in->options->limits.file_bytes, in->err);
    if (!code)
        code = take_file(in, path, in->options->stdin_name ? in->options->stdin_name : "standard input", "");
    unlink(path);
    return code;
}

int intake_path(store *s, const char *path, const intake_options *o, ph_error *err) {
    intake in = {.store = s, .options = o, .err = err};
    if (!strcmp(path, "-")) return take_stdin(&in);
    if (!strncasecmp(path, "http://", 7) || !strncasecmp(path, "https://", 8)) return take_url(&in, path);
    int code = ingest_walk(path, walked, skipped, &in, err);
    return in.code ? in.code : code;
}

int intake_file(store *s, const char *path, const char *name, const char *source, const intake_options *o,
                ph_error *err) {
    intake in = {.store = s, .options = o, .err = err};
    return take_file(&in, path, name, source);
}
