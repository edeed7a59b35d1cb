/* serve_outbox.c - see serve_outbox.h. */
#include "appliance/serve_outbox.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { LITTLE = 16 << 10 };

bool outbox_open(outbox *b) {
    *b = (outbox){.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (b->wake < 0) return false;
    pthread_mutex_init(&b->lock, NULL);
    return true;
}

void outbox_free(outbox *b) {
    if (b->wake < 0) return;
    close(b->wake);
    pthread_mutex_destroy(&b->lock);
    free(b->bytes);
}

static void ring(outbox *b) {
    uint64_t one = 1;
    ssize_t n = write(b->wake, &one, sizeof one);
    (void)n; /* it fails when it is readable already */
}

static bool make_room(outbox *b, size_t n) {
    size_t used = b->end - b->start;
    if (b->start) memmove(b->bytes, b->bytes + b->start, used);
    b->start = 0;
    b->end = used;
    if (used + n <= b->capacity) return true;
    size_t capacity = (used + n) * 2 + 1024;
    char *more = realloc(b->bytes, capacity);
    if (!more) return false;
    b->bytes = more;
    b->capacity = capacity;
    return true;
}

void outbox_put(outbox *b, const char *bytes, size_t n, bool optional) {
    pthread_mutex_lock(&b->lock);
    bool wanted = !b->closed && !b->lost && !(optional && b->end - b->start > LITTLE);
    if (wanted && b->end + n > b->capacity && !make_room(b, n)) {
        b->lost = true;
        wanted = false;
    }
    if (wanted) {
        memcpy(b->bytes + b->end, bytes, n);
        b->end += n;
        ring(b);
    }
    pthread_mutex_unlock(&b->lock);
}

void outbox_close(outbox *b) {
    pthread_mutex_lock(&b->lock);
    b->closed = true;
    ring(b);
    pthread_mutex_unlock(&b->lock);
}

ssize_t outbox_take(outbox *b, char *out, size_t n) {
    pthread_mutex_lock(&b->lock);
    ssize_t got = (ssize_t)(b->end - b->start);
    if ((size_t)got > n) got = (ssize_t)n;
    if (got > 0) {
        memcpy(out, b->bytes + b->start, (size_t)got);
        b->start += (size_t)got;
    } else if (b->closed)
        got = -1;
    else {
        uint64_t rung;
        ssize_t ignored = read(b->wake, &rung, sizeof rung);
        (void)ignored;
    }
    pthread_mutex_unlock(&b->lock);
    return got;
}

bool outbox_closed(outbox *b) {
    pthread_mutex_lock(&b->lock);
    bool closed = b->closed;
    pthread_mutex_unlock(&b->lock);
    return closed;
}
