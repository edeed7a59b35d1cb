/* child.c - the process that reads a foreign file: gives up its rights, extracts, answers in frames. */
#include "ingest/child.h"

#include "ingest/extract.h"
#include "ingest/frame.h"

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

/* The file stays open as descriptor 0 for poppler; everything else sees it mapped. */
static int extract_mapped(uint64_t size, const char *extension, text_sink *s) {
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
    return extract_any(bytes, (size_t)size, extension, s);
}

static int run(char **argv, text_sink *s) {
    uint64_t memory, seconds, ocr;
    if (!number(argv[3], &memory) || !number(argv[4], &seconds) || !number(argv[6], &ocr) ||
        seconds > 1000000)
        return sink_fail(s, PH_FAIL, "bad arguments for a reader");
    struct stat st;
    if (fstat(STDIN_FILENO, &st) != 0 || !S_ISREG(st.st_mode))
        return sink_fail(s, PH_FAIL, "no file to read");
    uint8_t head[1024];
    ssize_t n = pread(STDIN_FILENO, head, sizeof head, 0);
    if (n < 0) return sink_fail(s, PH_FAIL, "cannot read: %s", strerror(errno));
    bool pdf = !ingest_child_probe && sniff_is_pdf(head, (size_t)n);
    sniff_prepare();
    sandbox_limits limits = {
        .memory_bytes = memory, .seconds = (uint32_t)seconds, .spawn = pdf, .ocr = ocr != 0};
    ph_error err = {0};
    int rc = sandbox_enter(&limits, &err);
    if (rc) return sink_fail(s, rc, "%s", err.text);
    if (pdf) {
        sink_media_type(s, "application/pdf");
        return extract_pdf(STDIN_FILENO, (uint64_t)st.st_size, &limits, s);
    }
    return extract_mapped((uint64_t)st.st_size, argv[7], s);
}

int ingest_child_main(int argc, char **argv) {
    uint64_t max_text;
    if (argc != CHILD_ARGC || strcmp(argv[2], CHILD_VERSION) != 0 || !number(argv[5], &max_text))
        return PH_USAGE;
    signal(SIGPIPE, SIG_IGN);
    text_sink sink;
    if (sink_open(&sink, write_pipe, NULL, max_text, NULL) != 0) _exit(PH_MEMORY);
    run(argv, &sink);
    /* What is wrong travels as a frame; the status only says that the frames are whole. _exit: nothing that
     * runs at exit (a leak check, a library's clean-up) belongs into the sandbox. */
    sink_finish(&sink, NULL);
    _exit(0);
}
