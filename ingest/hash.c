/* hash.c - the identity of a file: BLAKE2b-256 of its bytes. */
#include "ingest/ingest.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_BYTES ((size_t)1 << 18)

static int hash_open_file(uint8_t hash[32], uint64_t *size, int fd, const char *path, ph_error *err) {
    struct stat st;
    if (fstat(fd, &st) != 0) return ph_fail(err, PH_FAIL, "cannot look at %s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode)) return ph_fail(err, PH_UNSUPPORTED, "%s is not a regular file", path);
    uint8_t *piece = malloc(PIECE_BYTES);
    if (!piece) return ph_fail(err, PH_MEMORY, "out of memory: %zu bytes to read %s", PIECE_BYTES, path);
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, 32);
    uint64_t total = 0;
    int rc = 0;
    for (;;) {
        ssize_t n = read(fd, piece, PIECE_BYTES);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) rc = ph_fail(err, PH_FAIL, "cannot read %s: %s", path, strerror(errno));
        if (n <= 0) break;
        crypto_generichash_update(&state, piece, (unsigned long long)n);
        total += (uint64_t)n;
    }
    free(piece);
    if (rc) return rc;
    crypto_generichash_final(&state, hash, 32);
    *size = total;
    return 0;
}

int ingest_hash_file(uint8_t hash[32], uint64_t *size, const char *path, ph_error *err) {
    if (sodium_init() < 0) return ph_fail(err, PH_FAIL, "libsodium does not start");
    /* O_NONBLOCK: opening a FIFO must not wait for a writer. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return ph_fail(err, errno == ENOENT || errno == ENOTDIR ? PH_NOT_FOUND : PH_FAIL,
                       "cannot open %s: %s", path, strerror(errno));
    int rc = hash_open_file(hash, size, fd, path, err);
    close(fd);
    return rc;
}
