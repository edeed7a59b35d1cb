#include "engine/read_file.h"

#include <errno.h>
#include <fcntl.h>
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
