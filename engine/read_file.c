#include "engine/read_file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int read_file_path(char *out, size_t size, const char *dir, const char *name, ph_error *err) {
    int n = snprintf(out, size, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= size) return ph_fail(err, PH_MODEL, "%s: the path is too long", name);
    return 0;
}

static int read_open(char **text, size_t *len, int fd, const char *path, size_t limit, ph_error *err) {
    struct stat st;
    if (fstat(fd, &st)) return ph_fail(err, PH_FAIL, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode)) return ph_fail(err, PH_MODEL, "%s is not a regular file", path);
    if ((unsigned long long)st.st_size > limit)
        return ph_fail(err, PH_TOO_LARGE, "%s has %lld bytes, more than the limit of %zu", path,
                       (long long)st.st_size, limit);
    size_t size = (size_t)st.st_size, n = 0;
    char *buffer = malloc(size + 1);
    if (!buffer) return ph_fail(err, PH_MEMORY, "%s: out of memory for %zu bytes", path, size + 1);
    while (n < size) {
        ssize_t got = read(fd, buffer + n, size - n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            int code = ph_fail(err, PH_FAIL, "%s: %s", path, strerror(errno));
            free(buffer);
            return code;
        }
        if (got == 0) break; /* shortened since fstat: what is there is parsed, and fails there */
        n += (size_t)got;
    }
    buffer[n] = 0;
    *text = buffer;
    *len = n;
    return 0;
}

int read_file_text(char **text, size_t *len, const char *path, size_t limit, ph_error *err) {
    *text = NULL;
    *len = 0;
    /* Not blocking, so that a FIFO put in the place of a file cannot hang the program. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return ph_fail(err, errno == ENOENT ? PH_NOT_FOUND : PH_FAIL, "%s: %s", path, strerror(errno));
    int code = read_open(text, len, fd, path, limit, err);
    close(fd);
    return code;
}

/* jansson 2.14 goes on with a shortened string when its lexer's buffer cannot grow: a key would become
 * another one and a setting be lost without a word. So its allocations are watched, thread by thread. */
static _Thread_local bool allocation_failed;

static void *watched_malloc(size_t n) {
    void *p = malloc(n);
    if (!p) allocation_failed = true;
    return p;
}

static void watch(void) {
    json_set_alloc_funcs(watched_malloc, free);
}

int read_file_json(json_t **out, const char *text, size_t len, ph_error *err) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    json_error_t at;
    pthread_once(&once, watch);
    *out = NULL;
    allocation_failed = false;
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &at);
    int code = 0;
    if (allocation_failed)
        code = ph_fail(err, PH_MEMORY, "out of memory for reading JSON");
    else if (!root)
        code = ph_fail(err, PH_MODEL, "line %d, column %d: %s", at.line, at.column, at.text);
    else if (!json_is_object(root))
        code = ph_fail(err, PH_MODEL, "not a JSON object");
    if (code)
        json_decref(root);
    else
        *out = root;
    return code;
}
