/* child.c - the process that reads a foreign file: gives up its rights, extracts, answers in frames. */
#include "ingest/child.h"

#include "ingest/extract.h"
#include "ingest/frame.h"
#include "ingest/image_size.h"
#include "ingest/unpack.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

child_probe ingest_child_probe = NULL;

static int write_pipe(void *user, const void *bytes, size_t n, ph_error *err) {
    const char *p = bytes;
    while (n) {
        ssize_t k = write(STDOUT_FILENO, p, n);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) _exit(CHILD_NO_PIPE);
        p += k;
        n -= (size_t)k;
    }
    return 0;
}

/* Returns false when an argument is not a number. */
static bool number(const char *text, uint64_t *out) {
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 && end != text && *end == 0;
}

/* The file stays open as descriptor 0 for poppler and tesseract; everything else sees it mapped. extension: NULL = it is
 * a picture, to be read with `ocr`. */
static int extract_mapped(uint64_t size, const char *extension, const sandbox_limits *limits, const ocr_settings *ocr,
                          text_sink *s) {
    const uint8_t *bytes = (const uint8_t *)"";
    if (size) {
        void *p =
            size <= SIZE_MAX ? mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, STDIN_FILENO, 0) : MAP_FAILED;
        if (p == MAP_FAILED)
            return sink_fail(s, PH_TOO_LARGE, "its %llu bytes do not fit into the memory a reader may use",
                             (unsigned long long)size);
        bytes = p;
    }
    if (ingest_child_probe) return ingest_child_probe(bytes, (size_t)size, s);
    if (!extension) return extract_image(STDIN_FILENO, bytes, (size_t)size, limits, ocr, s);
    return extract_any(bytes, (size_t)size, extension, s);
}

/* Puts the PDF that a gzip file holds into the file's place. Half of the memory is its room, the rest is its
 * reader's. */
static bool take_packed_pdf(const sandbox_limits *limits, uint64_t *size) {
    uint64_t unpacked = 0;
    int fd = unpack_pdf_apart(STDIN_FILENO, *size, limits->memory_bytes / 2, limits, &unpacked);
    bool taken = fd >= 0 && dup2(fd, STDIN_FILENO) >= 0;
    if (fd >= 0) close(fd);
    if (taken) *size = unpacked;
    return taken;
}

static int run(char **argv, text_sink *s) {
    uint64_t memory, seconds;
    ocr_settings ocr;
    if (!number(argv[3], &memory) || !number(argv[4], &seconds) || !ocr_settings_read(&ocr, argv[6]) ||
        seconds > 1000000)
        return sink_fail(s, PH_FAIL, "bad arguments for a reader");
    struct stat st;
    if (fstat(STDIN_FILENO, &st) != 0 || !S_ISREG(st.st_mode))
        return sink_fail(s, PH_FAIL, "no file to read");
    uint8_t head[1024];
    ssize_t n = pread(STDIN_FILENO, head, sizeof head, 0);
    if (n < 0) return sink_fail(s, PH_FAIL, "cannot read: %s", strerror(errno));
    bool pdf = !ingest_child_probe && sniff_is_pdf(head, (size_t)n);
    bool reads_pictures = ocr.languages[0] != 0;
    bool picture = !ingest_child_probe && reads_pictures && image_kind_of(head, (size_t)n) != IMAGE_NONE;
    sandbox_limits limits = {.memory_bytes = memory, .seconds = (uint32_t)seconds, .ocr = reads_pictures};
    uint64_t size = (uint64_t)st.st_size;
    bool packed = !ingest_child_probe && unpack_is_gzip(head, (size_t)n) && take_packed_pdf(&limits, &size);
    limits.spawn = pdf || packed || picture;
    sniff_prepare();
    ph_error err = {0};
    int rc = sandbox_enter(&limits, &err);
    if (rc) return sink_fail(s, rc, "%s", err.text);
    if (picture) return extract_mapped(size, NULL, &limits, &ocr, s);
    if (limits.spawn) {
        /* The file that is kept is no PDF, and nobody shall take it for one. */
        sink_media_type(s, packed ? "application/pdf+gzip" : "application/pdf");
        return extract_pdf(STDIN_FILENO, size, &limits, reads_pictures ? &ocr : NULL, s);
    }
    return extract_mapped(size, argv[7], &limits, NULL, s);
}

/* ":PAGE:PIXELS"; false: it is an extension. */
static bool wants_page(const char *text, uint64_t *page, uint64_t *pixels) {
    char copy[48];
    if (text[0] != ':' || strlen(text) >= sizeof copy) return false;
    strcpy(copy, text + 1);
    char *colon = strchr(copy, ':');
    if (!colon) return false;
    *colon = 0;
    return number(copy, page) && number(colon + 1, pixels) && *page <= UINT32_MAX && *pixels <= UINT32_MAX;
}

/* Does not return. */
static void run_page(char **argv, uint64_t page, uint64_t pixels) {
    uint64_t memory, seconds;
    ph_error err = {0};
    if (!number(argv[3], &memory) || !number(argv[4], &seconds) || seconds > 1000000) _exit(PH_USAGE);
    /* OCR's rights: pdftoppm and fonts. */
    sandbox_limits limits = {.memory_bytes = memory, .seconds = (uint32_t)seconds, .spawn = true, .ocr = true};
    if (sandbox_enter(&limits, &err)) _exit(PH_FAIL);
    render_page(STDIN_FILENO, (uint32_t)page, (uint32_t)pixels, &limits);
    _exit(0);
}

int ingest_child_main(int argc, char **argv) {
    uint64_t max_text, page, pixels;
    if (argc != CHILD_ARGC || strcmp(argv[2], CHILD_VERSION) != 0 || !number(argv[5], &max_text))
        return PH_USAGE;
    signal(SIGPIPE, SIG_IGN);
    if (wants_page(argv[7], &page, &pixels)) run_page(argv, page, pixels);
    text_sink sink;
    if (sink_open(&sink, write_pipe, NULL, max_text, NULL) != 0) _exit(PH_MEMORY);
    run(argv, &sink);
    /* What is wrong travels as a frame; the status only says that the frames are whole. _exit: nothing that
     * runs at exit (a leak check, a library's clean-up) belongs into the sandbox. */
    sink_finish(&sink, NULL);
    _exit(0);
}
