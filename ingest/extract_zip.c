/* extract_zip.c - which of the formats a zip file is. */
#include "ingest/extract.h"

#include "ingest/extract_zip.h"

#include <stdlib.h>
#include <string.h>

typedef struct title_reader {
    bool inside, done;
    char text[512];
    size_t n;
} title_reader;

static void title_start(void *user, const char *name, const char **attributes) {
    title_reader *t = user;
    t->inside = !t->done && !strcmp(name, "title");
}

static void title_end(void *user, const char *name) {
    title_reader *t = user;
    if (t->inside) t->done = true;
    t->inside = false;
}

static void title_text(void *user, const char *text, int n) {
    title_reader *t = user;
    if (!t->inside) return;
    size_t k = (size_t)n;
    if (k > sizeof t->text - t->n) k = sizeof t->text - t->n;
    memcpy(t->text + t->n, text, k);
    t->n += k;
}

void extract_core_title(zip_parts *z, const char *part) {
    if (!zip_parts_has(z, part)) return;
    title_reader t = {.n = 0};
    const xml_events events = {title_start, title_end, title_text};
    if (zip_parts_xml(z, part, &events, &t) == 0) sink_title(z->s, t.text, t.n);
}

static int extract_office(zip_parts *z) {
    relations package;
    int rc = zip_parts_relations(z, "", &package);
    const relation *found = rc ? NULL : relations_by_type(&package, "officeDocument");
    char main[256] = "";
    if (found) memcpy(main, found->target, sizeof main);
    free(package.list);
    if (rc) return rc;
    if (!zip_parts_has(z, main)) {
        static const char *const usual[] = {"word/document.xml", "xl/workbook.xml", "ppt/presentation.xml"};
        main[0] = 0;
        for (size_t i = 0; i < 3 && !main[0]; i++)
            if (zip_parts_has(z, usual[i])) memcpy(main, usual[i], strlen(usual[i]) + 1);
    }
    if (!strncmp(main, "word/", 5)) return extract_docx(z, main);
    if (!strncmp(main, "xl/", 3)) return extract_xlsx(z, main);
    if (!strncmp(main, "ppt/", 4)) return extract_pptx(z, main);
    return sink_fail(z->s, PH_UNSUPPORTED, "an Office document of an unknown kind");
}

static int extract_open(zip_parts *z) {
    if (zip_parts_has(z, "[Content_Types].xml")) return extract_office(z);
    if (zip_parts_has(z, "META-INF/container.xml")) return extract_epub(z);
    if (zip_parts_has(z, "content.xml")) return extract_odf(z);
    sink_media_type(z->s, "application/zip");
    return sink_fail(z->s, PH_UNSUPPORTED,
                     "application/zip is not a format that can be read; add what is in it");
}

int extract_zip(const uint8_t *bytes, size_t n, text_sink *s) {
    zip_parts z;
    if (zip_parts_open(&z, bytes, n, s) == 0) extract_open(&z);
    zip_parts_close(&z);
    return s->error.code;
}
