/* page.c - a page's image: the child's side (pdftoppm in the closed sandbox, its output passed on). */
#include "ingest/child.h"
#include "ingest/helper.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct passing {
    bool began;
} passing;

static int put(const char *bytes, size_t n) {
    while (n) {
        ssize_t k = write(STDOUT_FILENO, bytes, n);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) _exit(CHILD_NO_PIPE);
        bytes += k;
        n -= (size_t)k;
    }
    return 0;
}

static int pass_on(void *user, const char *bytes, size_t n) {
    passing *p = user;
    if (!p->began) put("P", 1);
    p->began = true;
    return put(bytes, n);
}

static void refuse(int code, const char *sentence) {
    char head[2] = {'E', (char)code};
    put(head, sizeof head);
    put(sentence, strlen(sentence));
}

void render_page(int fd, uint32_t page, uint32_t pixels, const sandbox_limits *limits) {
    char number[16], size[16];
    passing p = {false};
    helper_end end = {0};
    ph_error err = {0};
    snprintf(number, sizeof number, "%u", page);
    snprintf(size, sizeof size, "%u", pixels);
    const char *argv[] = {"/usr/bin/pdftoppm", "-png", "-cropbox", "-f", number, "-l", number,
                          "-scale-to",         size,   "-",        NULL};
    int code = helper_run(&end, argv, fd, limits, pass_on, &p, &err);
    if (p.began) return; /* whether it is whole is checked by who reads it */
    if (code)
        refuse(code, err.text);
    else if (end.missing)
        refuse(PH_UNSUPPORTED,
               "showing a page needs pdftoppm (Debian: poppler-utils), which is not installed");
    else if (strstr(end.said, "Incorrect password"))
        refuse(PH_UNSUPPORTED, "encrypted PDF: it opens only with a password");
    else if (WIFSIGNALED(end.status))
        refuse(PH_CORRUPT, "pdftoppm crashed on it, or took too long");
    else
        refuse(PH_NOT_FOUND, "there is no such page, or it cannot be rendered");
}
