/* fuzz_snapshot.c - a damaged snapshot is a miss, never a wrong answer.
 *
 * A good snapshot of a tiny shape is written once; the input says which bytes of it to overwrite, where to
 * cut the file, and it is opened again. Whatever prefix is then believed must hold exactly the bytes that
 * were committed.
 */
#include "engine/snapshot.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LAYERS = 2, CAPACITY = 1024, LENGTH = 700 };

static size_t key_bytes(kern_type type, int dim, int64_t capacity) {
    (void)type;
    return (size_t)capacity * (size_t)dim;
}

static kern backend = {.index_key_bytes = key_bytes};
static const kern_latents latents = {.type = KERN_BF16, .kv_lora = 8, .rope = 4};
static const kern_index_keys keys = {.type = KERN_I8, .dim = 8};
static const uint8_t key[32] = "a tiny model";
static char path[64];
static uint8_t *good;
static size_t good_size;

static void stop(const char *what) {
    fprintf(stderr, "fuzz_snapshot: %s\n", what);
    abort();
}

static model_config shape(void) {
    model_config c = {.layers = LAYERS};
    for (int i = 0; i < LAYERS; i++) c.index_full[i] = true;
    return c;
}

/* A byte that only its place decides: a row read back from anywhere else shows. */
static void fill(uint8_t *p, size_t n, int region) {
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)(i * 31 + (i >> 8) * 7 + (size_t)region * 101 + 1);
}

static void make_good(void) {
    snapshot s;
    ph_error err;
    model_config c = shape();
    snprintf(path, sizeof path, "/tmp/pharos-fuzz-%d.snapshot", (int)getpid());
    unlink(path);
    if (snapshot_open(&s, path, key, CAPACITY, &c, latents, keys, &(kern *){&backend}, 1, &err)) stop(err.text);
    if (snapshot_lock(&s, &err) || snapshot_reserve(&s, 0, LENGTH, &err)) stop(err.text);
    size_t blocks = (size_t)(s.layout.capacity / SNAPSHOT_BLOCK);
    for (int i = 0; i < s.layout.n_region; i++)
        fill(s.map + s.layout.region_at[i], blocks * s.layout.block_bytes[i], i);
    if (snapshot_commit(&s, 300, false, &err) || snapshot_commit(&s, LENGTH, false, &err)) stop(err.text);
    good_size = s.layout.total;
    good = malloc(good_size);
    if (!good) stop("no memory");
    memcpy(good, s.map, good_size);
    snapshot_close(&s);
}

static void check(const snapshot *s) {
    if (s->length < 0 || s->length > LENGTH) stop("a length that was never committed");
    size_t whole = (size_t)(s->length / SNAPSHOT_BLOCK);
    for (int i = 0; i < s->layout.n_region; i++) {
        const uint8_t *got = s->map + s->layout.region_at[i], *want = good + s->layout.region_at[i];
        /* Of an unfilled block all bytes come back from its copy. */
        size_t blocks = whole + (s->length % SNAPSHOT_BLOCK != 0);
        if (memcmp(got, want, blocks * s->layout.block_bytes[i])) stop("bytes that were never committed");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!good) make_good();
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, good, good_size) != (ssize_t)good_size) stop("cannot write the file");
    /* Records of 4 bytes of offset and one of data; an offset beyond the file cuts it. */
    for (size_t i = 0; i + 5 <= size && i < 5 * 64; i += 5) {
        uint32_t at;
        memcpy(&at, data + i, sizeof at);
        /* Half of all offsets fall into the header and the commit slots, where the meaning is. */
        at = at & 1 ? (at >> 1) % (3 * 4096) : (at >> 1) % (uint32_t)(good_size + 64);
        if (at >= good_size) {
            if (ftruncate(fd, (off_t)(good_size - (at - good_size) * 997 % good_size)))
                stop("cannot cut the file");
        } else if (pwrite(fd, data + i + 4, 1, at) != 1)
            stop("cannot write the file");
    }
    close(fd);
    snapshot s;
    ph_error err;
    model_config c = shape();
    if (snapshot_open(&s, path, key, CAPACITY, &c, latents, keys, &(kern *){&backend}, 1, &err)) stop(err.text);
    check(&s);
    /* It must also be usable afterwards: what was dropped is written and committed again. */
    if (snapshot_lock(&s, &err) || snapshot_commit(&s, s.length, false, &err)) stop(err.text);
    snapshot_close(&s);
    unlink(path);
    return 0;
}
