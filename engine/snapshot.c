/* snapshot.c - the snapshot file: layout, checks, commits (snapshot.h). */
#include "engine/snapshot.h"

#include "engine/device_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { PAGE = 4096, SNAPSHOT_VERSION = 1 };
static const char MAGIC[8] = "PHAROSN";

typedef struct file_header {
    char magic[8];
    uint32_t version, block;
    uint8_t key[32];
    int64_t capacity;
    int64_t layers;
    uint64_t total, shape; /* shape: checksum of every region's offset and size */
    uint64_t sum;          /* of everything before */
} file_header;

typedef struct commit_slot {
    uint64_t sequence;
    int64_t length;
    uint64_t tail_sum; /* of the tail copy; 0 when length is a multiple of the block */
    uint64_t sum;
} commit_slot;

static size_t round_up(size_t n, size_t to) {
    return (n + to - 1) / to * to;
}

/* ---- layout ---- */

static void layout_free(snapshot_layout *l) {
    free(l->region_at);
    free(l->block_bytes);
    memset(l, 0, sizeof *l);
}

static int layout_make(snapshot_layout *l, int64_t capacity, const model_config *c, kern_latents latents,
                       kern_index_keys keys, kern *k, ph_error *err) {
    memset(l, 0, sizeof *l);
    l->capacity = (int64_t)round_up((size_t)capacity, SNAPSHOT_BLOCK);
    l->layers = c->layers;
    l->n_region = 1 + REGIONS_PER_LAYER * c->layers;
    l->latents = latents;
    l->keys = keys;
    l->region_at = calloc((size_t)l->n_region, sizeof *l->region_at);
    l->block_bytes = calloc((size_t)l->n_region, sizeof *l->block_bytes);
    if (!l->region_at || !l->block_bytes) {
        layout_free(l);
        return ph_fail(err, PH_MEMORY, "no memory for a snapshot's layout");
    }
    size_t latent_row = kern_latent_bytes(&latents);
    size_t blocks = (size_t)(l->capacity / SNAPSHOT_BLOCK);
    l->block_bytes[0] = SNAPSHOT_BLOCK * sizeof(int32_t);
    for (int i = 0; i < c->layers; i++) {
        size_t *bytes = l->block_bytes + 1 + REGIONS_PER_LAYER * i;
        bytes[0] = SNAPSHOT_BLOCK * latent_row;
        if (!c->index_full[i]) continue;
        bytes[1] = k->index_key_bytes(keys.type, keys.dim, SNAPSHOT_BLOCK);
        bytes[2] = keys.type != KERN_F32 ? SNAPSHOT_BLOCK * sizeof(float) : 0;
    }
    for (int i = 0; i < l->n_region; i++) l->tail_bytes += l->block_bytes[i];
    l->sums_at = 3 * PAGE;
    l->tail_at[0] = round_up(l->sums_at + blocks * sizeof(uint64_t), PAGE);
    l->tail_at[1] = l->tail_at[0] + round_up(l->tail_bytes, PAGE);
    size_t at = l->tail_at[1] + round_up(l->tail_bytes, PAGE);
    for (int i = 0; i < l->n_region; i++) {
        l->region_at[i] = at;
        at += round_up(blocks * l->block_bytes[i], PAGE);
    }
    l->total = at;
    return PH_OK;
}

static int cache_make(cache *out, const snapshot_layout *l, uint8_t *map, ph_error *err) {
    int code = cache_arrays(out, l, err);
    for (int i = 0; !code && i < l->layers; i++)
        for (int j = 0; j < REGIONS_PER_LAYER; j++) {
            int region = 1 + REGIONS_PER_LAYER * i + j;
            if (l->block_bytes[region]) *cache_region(out, i, j) = map + l->region_at[region];
        }
    return code;
}

/* ---- caches in backends' memory ---- */

/* Whether a rank's cache lives there, and not in the map. */
static bool in_backend(const snapshot *s, int rank) {
    return rank > 0 || s->kern[rank]->on_device;
}

/* Calls `piece` for blocks [first, last) of every region of every layer: where they are in a rank's memory, where in the
 * file, and how many bytes. */
static int each_piece(const snapshot *s, int rank, int64_t first, int64_t last,
                      int (*piece)(const snapshot *s, kern *k, void *device, size_t at, size_t bytes, ph_error *err),
                      ph_error *err) {
    const snapshot_layout *l = &s->layout;
    int code = PH_OK;
    for (int i = 0; i < l->layers && first < last; i++)
        for (int j = 0; j < REGIONS_PER_LAYER && !code; j++) {
            int region = 1 + REGIONS_PER_LAYER * i + j;
            size_t n = l->block_bytes[region], at = (size_t)first * n;
            if (n)
                code = piece(s, s->kern[rank], (uint8_t *)*cache_region(&s->cache[rank], i, j) + at,
                             l->region_at[region] + at, (size_t)(last - first) * n, err);
        }
    return code;
}

static int to_device(const snapshot *s, kern *k, void *device, size_t at, size_t bytes, ph_error *err) {
    (void)err;
    k->copy_in(k, device, s->map + at, bytes);
    return PH_OK;
}

/* Written by calls and not through the map: a first write there costs a fault for every page, several times as long. */
static int to_file(const snapshot *s, kern *k, void *device, size_t at, size_t bytes, ph_error *err) {
    enum { STAGE_BYTES = 4 << 20 };
    size_t room = bytes < STAGE_BYTES ? bytes : STAGE_BYTES;
    uint8_t *stage = malloc(room);
    int code = stage ? PH_OK : ph_fail(err, PH_MEMORY, "no memory to write a snapshot");
    for (size_t done = 0; done < bytes && !code;) {
        size_t n = bytes - done < room ? bytes - done : room;
        k->copy_out_marked(k, stage, (uint8_t *)device + done, n); /* run_chunks marks each step */
        for (size_t wrote = 0; wrote < n && !code;) {
            ssize_t w = pwrite(s->fd, stage + wrote, n - wrote, (off_t)(at + done + wrote));
            if (w > 0)
                wrote += (size_t)w;
            else if (w == 0 || errno != EINTR)
                code = ph_fail(err, PH_FAIL, "cannot write the snapshot: %s", strerror(w ? errno : EIO));
        }
        done += n;
    }
    free(stage);
    return code;
}

/* ---- their memory ---- */

int snapshot_extend(snapshot *s, int64_t n_tok, ph_error *err) {
    int code = PH_OK;
    for (int rank = 0; rank < s->ranks && n_tok > s->room && !code; rank++)
        if (in_backend(s, rank)) code = device_cache_extend(&s->cache[rank], &s->layout, s->kern[rank], n_tok, err);
    if (!code && n_tok > s->room) s->room = snapshot_blocks(n_tok) * SNAPSHOT_BLOCK;
    return code;
}

/* Gives up what nobody has read or fed yet. */
static void trim(snapshot *s) {
    int64_t need = snapshot_blocks(s->length) * SNAPSHOT_BLOCK;
    for (int rank = 0; rank < s->ranks && s->room > need; rank++)
        if (in_backend(s, rank)) device_cache_shrink(&s->cache[rank], &s->layout, s->kern[rank], s->length);
    if (s->room > need) s->room = need;
}

/* A thread that takes no signals: they belong to the caller's. */
static bool start_thread(pthread_t *out, void *(*run)(void *), void *arg) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = pthread_create(out, NULL, run, arg) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

/* ---- waiting for the disk ---- */

/* Only the thread writes `failed` while it runs. */
typedef struct disk_wait {
    pthread_t thread;
    bool running;
    void *map;
    size_t bytes;
    int failed; /* errno of the last one */
} disk_wait;

static void *wait_for_disk(void *arg) {
    disk_wait *d = arg;
    d->failed = msync(d->map, d->bytes, MS_SYNC) ? errno : 0;
    return NULL;
}

static int disk_failed(int e, ph_error *err) {
    return e ? ph_fail(err, PH_FAIL, "cannot write the snapshot to disk: %s", strerror(e)) : PH_OK;
}

/* Until a wait that was begun is over. */
static int disk_join(snapshot *s, ph_error *err) {
    disk_wait *d = s->disk;
    if (!d || !d->running) return PH_OK;
    pthread_join(d->thread, NULL);
    d->running = false;
    return disk_failed(d->failed, err);
}

/* Waits here, or where a device computes begins to wait beside it. */
static int disk_sync(snapshot *s, ph_error *err) {
    int code = disk_join(s, err);
    if (code) return code;
    if (s->kern[0]->on_device && !s->disk) s->disk = calloc(1, sizeof *s->disk);
    if (s->disk) {
        s->disk->map = s->map;
        s->disk->bytes = s->layout.total;
        s->disk->running = start_thread(&s->disk->thread, wait_for_disk, s->disk);
        if (s->disk->running) return PH_OK;
    }
    return disk_failed(msync(s->map, s->layout.total, MS_SYNC) ? errno : 0, err);
}

/* Tells the disk of blocks [first, last) as soon as they are there, so that there is little left to wait for. */
static void disk_begin(const snapshot *s, int64_t first, int64_t last) {
    const snapshot_layout *l = &s->layout;
    for (int i = 0; i < l->n_region; i++) {
        size_t n = l->block_bytes[i];
        if (n)
            (void)sync_file_range(s->fd, (off_t)(l->region_at[i] + (size_t)first * n),
                                  (off_t)((size_t)(last - first) * n), SYNC_FILE_RANGE_WRITE);
    }
}

/* ---- header, slots, blocks ---- */

static file_header header_of(const snapshot *s) {
    file_header h = {.version = SNAPSHOT_VERSION,
                     .block = SNAPSHOT_BLOCK,
                     .capacity = s->layout.capacity,
                     .layers = s->layout.layers,
                     .total = s->layout.total};
    memcpy(h.magic, MAGIC, sizeof h.magic);
    memcpy(h.key, s->key, sizeof h.key);
    size_t n = (size_t)s->layout.n_region * sizeof(size_t);
    h.shape = XXH3_64bits(s->layout.region_at, n) ^ XXH3_64bits_withSeed(s->layout.block_bytes, n, 1);
    h.sum = XXH3_64bits(&h, offsetof(file_header, sum));
    return h;
}

static commit_slot *slot_at(const snapshot *s, uint64_t sequence) {
    return (commit_slot *)(s->map + PAGE * (1 + sequence % 2));
}

static uint64_t *sums(const snapshot *s) {
    return (uint64_t *)(s->map + s->layout.sums_at);
}

static uint64_t block_sum(const snapshot *s, int64_t block) {
    const snapshot_layout *l = &s->layout;
    uint64_t sum = 0; /* each region's checksum seeds the next one's */
    for (int i = 0; i < l->n_region; i++) {
        size_t n = l->block_bytes[i];
        if (n) sum = XXH3_64bits_withSeed(s->map + l->region_at[i] + (size_t)block * n, n, sum);
    }
    return sum;
}

/* Copies block `block` into tail copy `which`, or back. */
static void tail_copy(const snapshot *s, int64_t block, uint64_t which, bool back) {
    const snapshot_layout *l = &s->layout;
    uint8_t *tail = s->map + l->tail_at[which % 2];
    for (int i = 0; i < l->n_region; i++) {
        size_t n = l->block_bytes[i];
        uint8_t *place = s->map + l->region_at[i] + (size_t)block * n;
        if (n && back) {
            /* Compared first: another process may be reading the same bytes, and they are nearly always
             * right. */
            if (memcmp(place, tail, n)) memcpy(place, tail, n);
        } else if (n) {
            memcpy(tail, place, n);
        }
        tail += n;
    }
}

static bool slot_valid(const snapshot *s, const commit_slot *slot) {
    return slot->sum == XXH3_64bits(slot, offsetof(commit_slot, sum)) && slot->length >= 0 &&
           slot->length <= s->layout.capacity && slot->sequence > 0;
}

/* A slot that was never written is all zero. */
static bool slot_damaged(const snapshot *s, const commit_slot *slot) {
    static const commit_slot unwritten;
    return !slot_valid(s, slot) && memcmp(slot, &unwritten, sizeof unwritten) != 0;
}

/* Blocks [first, last). */
typedef struct look_part {
    const snapshot *s;
    int64_t first, last;
    _Atomic int64_t *wrong; /* the first block known to be wrong, of all parts */
} look_part;

static void *look_at_blocks(void *arg) {
    const look_part *p = arg;
    for (int64_t i = p->first; i < p->last && i < *p->wrong; i++) {
        if (sums(p->s)[i] == block_sum(p->s, i)) continue;
        int64_t known = *p->wrong;
        while (i < known && !atomic_compare_exchange_weak(p->wrong, &known, i)) {}
        break;
    }
    return NULL;
}

/* How many of the first `full` blocks match their checksums, up to the first that does not. A long context is hundreds of
 * megabytes, so several processors look. */
static int64_t sound_blocks(const snapshot *s, int64_t full) {
    enum { PARTS = 8, LEAST = 2 /* blocks that are worth a thread */ };
    pthread_t thread[PARTS];
    look_part part[PARTS];
    bool started[PARTS] = {false};
    _Atomic int64_t wrong = full;
    int64_t n = full / LEAST, most = kern_cpu_count();
    if (n > most) n = most;
    if (n > PARTS) n = PARTS;
    if (n < 1) n = 1;
    for (int64_t i = 0; i < n; i++) {
        part[i] = (look_part){s, full * i / n, full * (i + 1) / n, &wrong};
        started[i] = i && start_thread(&thread[i], look_at_blocks, &part[i]);
    }
    for (int64_t i = 0; i < n; i++)
        if (!started[i]) look_at_blocks(&part[i]);
    for (int64_t i = 0; i < n; i++)
        if (started[i]) pthread_join(thread[i], NULL);
    return wrong;
}

/* Finds the longest prefix that its checksums prove; sets length, sequence and, where something was dropped,
 * reason. */
static void snapshot_look(snapshot *s) {
    const commit_slot *a = slot_at(s, 0), *b = slot_at(s, 1), *slot = NULL;
    if (slot_valid(s, a)) slot = a;
    if (slot_valid(s, b) && (!slot || b->sequence > slot->sequence)) slot = b;
    s->length = 0;
    s->sequence = 0;
    if (slot_damaged(s, a) || slot_damaged(s, b))
        s->reason = "one of the snapshot's two commits does not match its checksum; what it alone vouched for is read "
                    "again";
    if (!slot) return;
    s->sequence = slot->sequence;
    int64_t full = slot->length / SNAPSHOT_BLOCK;
    s->length = sound_blocks(s, full) * SNAPSHOT_BLOCK;
    if (s->length < full * SNAPSHOT_BLOCK) {
        s->reason = "a block of the snapshot does not match its checksum; what follows it is read again";
        return;
    }
    if (slot->length == s->length) return;
    if (slot->tail_sum != XXH3_64bits(s->map + s->layout.tail_at[slot->sequence % 2], s->layout.tail_bytes)) {
        s->reason = "the end of the snapshot does not match its checksum; it is read again";
        return;
    }
    tail_copy(s, full, slot->sequence, true);
    s->length = slot->length;
}

static int look(snapshot *s, ph_error *err) {
    snapshot_look(s);
    int code = snapshot_extend(s, s->length, err);
    for (int rank = 0; rank < s->ranks && !code; rank++)
        if (in_backend(s, rank)) code = each_piece(s, rank, 0, snapshot_blocks(s->length), to_device, err);
    if (code) s->length = 0; /* what is in the file is not here */
    return code;
}

/* ---- open and close ---- */

static int lock_file(int fd, int how, ph_error *err) {
    while (flock(fd, how | LOCK_NB)) {
        if (errno == EINTR) continue;
        if (errno == EWOULDBLOCK)
            return ph_fail(err, PH_BUSY,
                           "another pharos process is using this pack; try again when it is done");
        return ph_fail(err, PH_FAIL, "cannot lock the snapshot: %s", strerror(errno));
    }
    return PH_OK;
}

static int start_empty(snapshot *s, ph_error *err) {
    if (ftruncate(s->fd, 0) || ftruncate(s->fd, (off_t)s->layout.total))
        return ph_fail(err, PH_FAIL, "cannot size the snapshot: %s", strerror(errno));
    file_header h = header_of(s);
    if (pwrite(s->fd, &h, sizeof h, 0) != (ssize_t)sizeof h)
        return ph_fail(err, PH_FAIL, "cannot write the snapshot: %s", strerror(errno));
    return PH_OK;
}

/* The file as it must be: ours as it stands, or emptied. */
static int check_header(snapshot *s, ph_error *err) {
    file_header want = header_of(s), got;
    struct stat st;
    if (fstat(s->fd, &st)) return ph_fail(err, PH_FAIL, "cannot look at the snapshot: %s", strerror(errno));
    ssize_t n = pread(s->fd, &got, sizeof got, 0);
    if (n == (ssize_t)sizeof got && !memcmp(&got, &want, sizeof got) && (size_t)st.st_size == s->layout.total)
        return PH_OK;
    if (st.st_size > 0) {
        bool ours = n == (ssize_t)sizeof got && !memcmp(got.magic, MAGIC, sizeof MAGIC) &&
                    got.sum == XXH3_64bits(&got, offsetof(file_header, sum));
        s->reason = ours ? "the snapshot was made by another model, format, device, number of ranks or version; it is read again"
                         : "the snapshot's header is damaged; it is read again";
    }
    /* Others may have it open, so that emptying it needs the lock to itself. */
    int code = lock_file(s->fd, LOCK_EX, err);
    if (code) return code;
    code = start_empty(s, err);
    if (!code) code = lock_file(s->fd, LOCK_SH, err);
    return code;
}

int snapshot_open(snapshot *s, const char *path, const uint8_t key[32], int64_t capacity,
                  const model_config *config, kern_latents latents, kern_index_keys keys, kern *const *k, int ranks,
                  ph_error *err) {
    memset(s, 0, sizeof *s);
    s->fd = -1;
    memcpy(s->key, key, sizeof s->key);
    memcpy(s->kern, k, (size_t)ranks * sizeof *k);
    s->ranks = ranks;
    int code = layout_make(&s->layout, capacity, config, latents, keys, k[0], err);
    if (code) return code;
    s->fd =
        path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : memfd_create("pharos-context", MFD_CLOEXEC);
    if (s->fd < 0)
        code = ph_fail(err, PH_FAIL, "cannot open the snapshot %s: %s", path ? path : "in memory",
                       strerror(errno));
    if (!code) code = lock_file(s->fd, LOCK_SH, err);
    if (!code) code = check_header(s, err);
    if (!code) {
        void *map = mmap(NULL, s->layout.total, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
        if (map == MAP_FAILED)
            code = ph_fail(err, PH_MEMORY, "cannot map a snapshot of %zu bytes: %s", s->layout.total,
                           strerror(errno));
        else
            s->map = map;
    }
    for (int rank = 0; rank < ranks && !code; rank++)
        code = in_backend(s, rank) ? device_cache_make(&s->cache[rank], &s->layout, k[rank], err)
                                   : cache_make(&s->cache[rank], &s->layout, s->map, err);
    if (!code) code = look(s, err);
    if (code) snapshot_close(s);
    return code;
}

/* Steps that backends keep may name caches, and traces of the sessions on them. */
static void forget_steps(const snapshot *s) {
    for (int rank = 0; rank < s->ranks; rank++)
        if (s->kern[rank]->step_forget) s->kern[rank]->step_forget(s->kern[rank]);
}

/* One cache for each rank. */
static void caches_free(cache *c, const snapshot *s) {
    forget_steps(s);
    for (int rank = 0; rank < s->ranks; rank++) {
        if (in_backend(s, rank)) {
            device_cache_free(&c[rank], &s->layout, s->kern[rank]);
            continue;
        }
        free(c[rank].latents);
        free(c[rank].keys);
    }
}

void snapshot_close(snapshot *s) {
    caches_free(s->cache, s);
    disk_join(s, NULL);
    free(s->disk);
    if (s->map) munmap(s->map, s->layout.total);
    if (s->fd >= 0) {
        /* Given back by hand: a child process between its fork and its exec still has the file open, and closing
         * alone would leave the lock with it. */
        flock(s->fd, LOCK_UN);
        close(s->fd);
    }
    layout_free(&s->layout);
    memset(s, 0, sizeof *s);
    s->fd = -1;
}

int32_t *snapshot_tokens(snapshot *s) {
    return (int32_t *)(s->map + s->layout.region_at[0]);
}

/* ---- writing ---- */

int snapshot_lock(snapshot *s, ph_error *err) {
    int code = disk_join(s, err);
    if (!code) code = lock_file(s->fd, LOCK_EX, err);
    if (code) return code;
    s->exclusive = true;
    /* Between the two locks another process may have written. */
    uint64_t known = s->sequence;
    const commit_slot *a = slot_at(s, 0), *b = slot_at(s, 1);
    if (a->sequence > known || b->sequence > known) code = look(s, err);
    if (code) snapshot_unlock(s);
    return code;
}

void snapshot_unlock(snapshot *s) {
    trim(s);
    if (s->exclusive) flock(s->fd, LOCK_SH);
    s->exclusive = false;
}

static int reserve(int fd, size_t at, size_t n, ph_error *err) {
    if (n == 0) return PH_OK; /* which posix_fallocate would refuse */
    int e = posix_fallocate(fd, (off_t)at, (off_t)n);
    if (e == 0) return PH_OK;
    if (e == ENOSPC) return ph_fail(err, PH_FAIL, "the disk is full: a snapshot needs %zu more bytes", n);
    return ph_fail(err, PH_FAIL, "cannot make room for the snapshot: %s", strerror(e));
}

int snapshot_reserve(snapshot *s, int64_t from, int64_t to, ph_error *err) {
    const snapshot_layout *l = &s->layout;
    int code = snapshot_extend(s, to, err);
    if (code) return code;
    /* A write into a hole of a mapped file on a full disk would kill the process: ask for the room first. */
    code = reserve(s->fd, 0, l->region_at[0], err);
    size_t first = (size_t)(from / SNAPSHOT_BLOCK),
           last = (size_t)((to + SNAPSHOT_BLOCK - 1) / SNAPSHOT_BLOCK);
    for (int i = 0; i < l->n_region && !code; i++) {
        size_t n = l->block_bytes[i];
        if (n) code = reserve(s->fd, l->region_at[i] + first * n, (last - first) * n, err);
    }
    return code;
}

int snapshot_commit(snapshot *s, int64_t length, bool sync, ph_error *err) {
    int64_t was_full = s->length / SNAPSHOT_BLOCK, full = length / SNAPSHOT_BLOCK;
    uint64_t sequence = s->sequence + 1;
    if (s->kern[0]->on_device && length > s->length) {
        int code = each_piece(s, 0, was_full, snapshot_blocks(length), to_file, err);
        if (!code) code = s->kern[0]->status(s->kern[0], err);
        if (code) return code;
    }
    for (int64_t i = was_full; i < full; i++) sums(s)[i] = block_sum(s, i);
    commit_slot slot = {.sequence = sequence, .length = length};
    if (length % SNAPSHOT_BLOCK) {
        tail_copy(s, full, sequence, false);
        slot.tail_sum = XXH3_64bits(s->map + s->layout.tail_at[sequence % 2], s->layout.tail_bytes);
    }
    slot.sum = XXH3_64bits(&slot, offsetof(commit_slot, sum));
    /* The stores above must be in the file before the slot that vouches for them. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    memcpy(slot_at(s, sequence), &slot, sizeof slot);
    s->sequence = sequence;
    s->length = length;
    if (s->kern[0]->on_device && full > was_full) disk_begin(s, was_full, full);
    return sync ? disk_sync(s, err) : PH_OK;
}

/* Zeros [at, end) of the file, as a hole where the file system knows holes. */
static int forget(snapshot *s, size_t at, size_t end, ph_error *err) {
    if (at >= end) return PH_OK;
    if (!fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)(end - at))) return PH_OK;
    if (errno != EOPNOTSUPP && errno != ENOSYS)
        return ph_fail(err, PH_FAIL, "cannot erase a part of the snapshot: %s", strerror(errno));
    static const uint8_t zeros[1 << 16];
    while (at < end) {
        size_t n = end - at < sizeof zeros ? end - at : sizeof zeros;
        ssize_t done = pwrite(s->fd, zeros, n, (off_t)at);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return ph_fail(err, PH_FAIL, "cannot erase a part of the snapshot: %s", strerror(errno));
        at += (size_t)done;
    }
    return PH_OK;
}

int snapshot_shorten(snapshot *s, int64_t length, ph_error *err) {
    const snapshot_layout *l = &s->layout;
    int64_t blocks = (length < s->length ? length : s->length) / SNAPSHOT_BLOCK;
    /* Twice: neither slot may vouch for what goes. */
    int code = snapshot_commit(s, blocks * SNAPSHOT_BLOCK, true, err);
    if (!code) code = snapshot_commit(s, blocks * SNAPSHOT_BLOCK, true, err);
    if (!code) code = disk_join(s, err);
    /* Sums and tails hold traces of it too. */
    if (!code) code = forget(s, l->sums_at + (size_t)blocks * sizeof(uint64_t), l->region_at[0], err);
    for (int i = 0; i < l->n_region && !code; i++)
        code = forget(s, l->region_at[i] + (size_t)blocks * l->block_bytes[i],
                      i + 1 < l->n_region ? l->region_at[i + 1] : l->total, err);
    if (!code && fsync(s->fd)) code = ph_fail(err, PH_FAIL, "cannot write the snapshot to disk: %s", strerror(errno));
    return code;
}

/* ---- private views ---- */

/* A rank's cache in its backend's memory: the snapshot's own, or one that begins as that. The tail's first block is copied
 * whole: what is beyond the context is written over. */
static int device_view_open(snapshot_view *v, const snapshot *s, int rank, ph_error *err) {
    const snapshot_layout *l = &s->layout;
    kern *k = s->kern[rank];
    if (v->borrowed) {
        int code = cache_arrays(&v->cache[rank], l, err);
        if (code) return code;
        memcpy(v->cache[rank].latents, s->cache[rank].latents, (size_t)l->layers * sizeof *v->cache[rank].latents);
        memcpy(v->cache[rank].keys, s->cache[rank].keys, (size_t)l->layers * sizeof *v->cache[rank].keys);
        return PH_OK;
    }
    int code = device_cache_make(&v->cache[rank], l, k, err);
    return code ? code : device_cache_share(&v->cache[rank], &s->cache[rank], l, k, s->length, err);
}

/* The file, copied on write. */
static int mapped_view_open(snapshot_view *v, const snapshot *s, ph_error *err) {
    void *map = mmap(NULL, s->layout.total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, s->fd, 0);
    if (map == MAP_FAILED)
        return ph_fail(err, PH_MEMORY, "cannot map a snapshot of %zu bytes: %s", s->layout.total,
                       strerror(errno));
    v->map = map;
    v->bytes = s->layout.total;
    return cache_make(&v->cache[0], &s->layout, v->map, err);
}

int snapshot_view_open(snapshot_view *v, snapshot *s, ph_error *err) {
    memset(v, 0, sizeof *v);
    v->snapshot = s;
    v->borrowed = !s->lent;
    v->room = snapshot_blocks(s->length) * SNAPSHOT_BLOCK;
    s->lent = true;
    int code = PH_OK;
    for (int rank = 0; rank < s->ranks && !code; rank++)
        code = in_backend(s, rank) ? device_view_open(v, s, rank, err) : mapped_view_open(v, s, err);
    if (code) snapshot_view_close(v);
    return code;
}

int snapshot_view_extend(snapshot_view *v, int64_t n_tok, ph_error *err) {
    snapshot *s = v->snapshot;
    int code = PH_OK;
    if (v->borrowed) return snapshot_extend(s, n_tok, err);
    for (int rank = 0; rank < s->ranks && n_tok > v->room && !code; rank++)
        if (in_backend(s, rank)) code = device_cache_extend(&v->cache[rank], &s->layout, s->kern[rank], n_tok, err);
    if (!code && n_tok > v->room) v->room = snapshot_blocks(n_tok) * SNAPSHOT_BLOCK;
    return code;
}

void snapshot_view_close(snapshot_view *v) {
    snapshot *s = v->snapshot;
    if (!s) return;
    forget_steps(s);
    if (v->borrowed) {
        s->lent = false;
        trim(s);
        for (int rank = 0; rank < s->ranks; rank++) {
            free(v->cache[rank].latents);
            free(v->cache[rank].keys);
        }
    } else
        caches_free(v->cache, s);
    if (v->map) munmap(v->map, v->bytes);
    memset(v, 0, sizeof *v);
}
