/* serve_uploads_receive.c - bytes that come in: streamed to disk, hashed on the way, queued when all are
 * there. */
#include "appliance/serve_uploads_internal.h"

#include "appliance/intake.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { AT_ONCE = 32 };

struct upload {
    uploads *owner;
    char *name, *part;
    char ocr[INGEST_OCR_LANGUAGE_BYTES];
    int fd;
    uint64_t size, got;
    crypto_generichash_state hash;
    ph_error failed;
};

int upload_begin(upload **out, uploads *u, const char *name, uint64_t size, const char *ocr, ph_error *err) {
    *out = NULL;
    pthread_mutex_lock(&u->lock);
    bool full = u->stopping || u->receiving >= AT_ONCE || u->waiting + u->receiving >= u->options.capacity;
    if (!full) u->receiving++;
    pthread_mutex_unlock(&u->lock);
    if (full) return ph_fail(err, PH_BUSY, "too many files are being received or wait to be read");
    upload *up = calloc(1, sizeof *up);
    if (up) {
        up->owner = u;
        up->fd = -1;
        up->size = size;
        snprintf(up->ocr, sizeof up->ocr, "%s", ocr);
        up->name = strdup(name);
        if (asprintf(&up->part, "%s/part-XXXXXX", u->dir) < 0) up->part = NULL;
    }
    int code = up && up->name && up->part ? PH_OK : ph_fail(err, PH_MEMORY, "no memory for an upload");
    if (!code && (up->fd = mkostemp(up->part, O_CLOEXEC)) < 0) code = upload_disk_error("make a file", err);
    if (code) {
        if (up) {
            if (up->fd < 0 && up->part) up->part[0] = 0;
            upload_abandon(up);
        } else {
            pthread_mutex_lock(&u->lock);
            u->receiving--;
            pthread_mutex_unlock(&u->lock);
        }
        return code;
    }
    crypto_generichash_init(&up->hash, NULL, 0, 32);
    *out = up;
    return PH_OK;
}

void upload_write(upload *up, const void *bytes, size_t n) {
    const char *at = bytes;
    crypto_generichash_update(&up->hash, bytes, n);
    up->got += n;
    while (n && !up->failed.code) {
        ssize_t wrote = write(up->fd, at, n);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) {
            upload_disk_error("keep the file", &up->failed);
            return;
        }
        at += wrote;
        n -= (size_t)wrote;
    }
}

/* Queues what has been received, under a number of its own. */
static int accept_part(upload *up, json_t **row, ph_error *err) {
    uploads *u = up->owner;
    pthread_mutex_lock(&u->lock);
    int64_t id = u->next_id++;
    pthread_mutex_unlock(&u->lock);
    char *data = upload_path(u, id, up->name);
    item stub = {.id = id, .name = up->name};
    memcpy(stub.ocr, up->ocr, sizeof stub.ocr);
    int code = data ? PH_OK : ph_fail(err, PH_MEMORY, "no memory for an upload");
    if (!code && fsync(up->fd)) code = upload_disk_error("keep the file", err);
    if (!code) code = upload_write_note(u, &stub, err);
    if (!code && (rename(up->part, data) || upload_sync(u->dir)))
        code = upload_disk_error("keep the file", err);
    free(data);
    if (code) {
        upload_remove(u, id, up->name);
        return code;
    }
    up->part[0] = 0;
    pthread_mutex_lock(&u->lock);
    item *i = upload_add(u, id, up->name, false, up->ocr);
    if (i) {
        i->bytes = up->got;
        u->waiting++;
        *row = upload_item_json(i); /* now: the thread may end it, and a list may forget it, at any time */
        pthread_cond_signal(&u->work);
    }
    pthread_mutex_unlock(&u->lock);
    return i ? PH_OK : ph_fail(err, PH_MEMORY, "no memory for an upload");
}

/* It is there already: a row for the list, and nothing on disk. */
static int note_known(upload *up, const store_document *d, json_t **row, ph_error *err) {
    uploads *u = up->owner;
    pthread_mutex_lock(&u->lock);
    item *i = upload_add(u, u->next_id, up->name, false, up->ocr);
    if (i) {
        i->bytes = up->got;
        i->document = d->id;
        i->state = KNOWN;
        i->ended = i->added;
        if (strcmp(d->name, up->name))
            snprintf(i->detail, sizeof i->detail, "the same content is there as %.600s", d->name);
        *row = upload_item_json(i);
    }
    pthread_mutex_unlock(&u->lock);
    return i ? PH_OK : ph_fail(err, PH_MEMORY, "no memory for an upload");
}

/* Whether all of it came and is kept. */
static int check_complete(const upload *up, ph_error *err) {
    if (up->failed.code) return ph_fail(err, up->failed.code, "%s", up->failed.text);
    if (up->got != up->size)
        return ph_fail(err, PH_USAGE, "%llu bytes came of %llu", (unsigned long long)up->got,
                       (unsigned long long)up->size);
    return PH_OK;
}

int upload_whole(upload *up, char **bytes, size_t *n, ph_error *err) {
    int code = check_complete(up, err);
    if (code) return code;
    size_t at = 0, size = (size_t)up->size;
    char *out = malloc(size + 1);
    if (!out) return ph_fail(err, PH_MEMORY, "no memory for %zu bytes", size);
    while (at < size) {
        ssize_t got = pread(up->fd, out + at, size - at, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) {
            free(out);
            return upload_disk_error("read the file again", err);
        }
        at += (size_t)got;
    }
    out[size] = 0;
    *bytes = out;
    *n = size;
    return PH_OK;
}

int upload_end(upload *up, store *s, json_t **row, bool *known, ph_error *err) {
    uint8_t hash[32];
    store_document d = {0};
    *known = false;
    *row = NULL;
    int code = check_complete(up, err);
    if (code) return code;
    crypto_generichash_final(&up->hash, hash, sizeof hash);
    code = store_document_by_hash(s, hash, &d, err);
    if (code == PH_OK) {
        ingest_limits limits;
        upload_limits(up->owner, up->ocr, &limits);
        *known = !intake_reads_more(&d, &limits);
        if (*known) code = note_known(up, &d, row, err);
        store_document_free(&d);
        if (*known) return code;
    } else if (code != PH_NOT_FOUND)
        return code;
    return accept_part(up, row, err);
}

void upload_abandon(upload *up) {
    if (!up) return;
    if (up->fd >= 0) close(up->fd);
    if (up->part && up->part[0]) unlink(up->part);
    pthread_mutex_lock(&up->owner->lock);
    up->owner->receiving--;
    pthread_mutex_unlock(&up->owner->lock);
    free(up->part);
    free(up->name);
    free(up);
}

int uploads_fetch(uploads *u, const char *url, const char *ocr, json_t **row, ph_error *err) {
    *row = NULL;
    pthread_mutex_lock(&u->lock);
    bool full = u->stopping || u->waiting >= u->options.capacity;
    item *i = full ? NULL : upload_add(u, u->next_id, url, true, ocr);
    int code = full ? ph_fail(err, PH_BUSY, "too many files wait to be read")
               : i  ? upload_write_note(u, i, err)
                    : ph_fail(err, PH_MEMORY, "no memory for an upload");
    if (i && code)
        upload_forget(u, i);
    else if (i) {
        u->waiting++;
        *row = upload_item_json(i);
        pthread_cond_signal(&u->work);
    }
    pthread_mutex_unlock(&u->lock);
    return code;
}
