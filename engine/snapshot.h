/* snapshot.h - what a context has read, on disk. Private to engine/.
 *
 * One sparse file, mapped: tokens, and per layer the latents and the indexer's keys, as arrays with room for
 * the whole capacity. It is appended to in place; positions below `length` are valid, the rest is scratch.
 *
 *     page 0      header: magic, version, the engine's key, the shape; with its checksum
 *     page 1, 2   two commit slots {sequence, length, checksum of the unfilled last block}, written in turn
 *     sums        one checksum for each full block of 256 tokens
 *     tails       two copies of the unfilled last block, one for each slot
 *     regions     tokens, then per layer latents, keys, scales; each starts on a page
 *
 * A commit writes the sums of blocks that became full, then the tail copy, then its slot: a process killed at
 * any moment leaves the last commit readable. What does not match its checksum is dropped, never believed:
 * corrupt blocks end the valid prefix, a foreign header empties the file.
 *
 * With a backend whose memory is not the host's (a GPU) the caches live there. The file is written from them by each
 * commit, block by block, and they are filled from it when it is opened; everything else is the same. Of several
 * ranks, which all have the same caches, rank 0's are the ones that are written; those of the others are filled from
 * the file and live in their backends' memory, whatever that is.
 *
 * Locks: every opener holds the file shared; commits need it exclusive.
 */
#ifndef PHAROS_SNAPSHOT_H
#define PHAROS_SNAPSHOT_H

#include "engine/forward.h"

enum { SNAPSHOT_BLOCK = 256 }; /* tokens */

/* Where things are in the file; a function of the model and the capacity. */
typedef struct snapshot_layout {
    int64_t capacity; /* tokens, a multiple of SNAPSHOT_BLOCK */
    int layers, n_region;
    size_t *region_at;   /* [n_region] byte offset: tokens first, then 3 a layer (absent ones have 0 bytes) */
    size_t *block_bytes; /* [n_region] bytes of SNAPSHOT_BLOCK tokens */
    size_t sums_at, tail_at[2], tail_bytes, total;
    kern_latents latents; /* shape, without rows */
    kern_index_keys keys; /* shape, without keys */
} snapshot_layout;

typedef struct snapshot {
    int fd;
    snapshot_layout layout;
    uint8_t *map; /* shared, writable */
    int64_t length;
    uint64_t sequence;
    kern *kern[KERN_MAX_RANKS];
    int ranks;
    cache cache[KERN_MAX_RANKS]; /* [ranks]: views into map (rank 0 on the host), or memory of the rank's backend */
    int64_t room; /* tokens that caches in backends' memory have memory for (device_cache.h) */
    bool lent; /* a view writes its tail into cache itself, beyond length */
    bool exclusive;
    struct disk_wait *disk; /* a wait for the disk beside everything else; NULL = none was needed yet */
    uint8_t key[32];
    const char *reason; /* why something was not believed; NULL = all was well; static */
} snapshot;

/* latents and keys carry the shape only. k[ranks]: the backends, of one kind. */
int snapshot_open(snapshot *s, const char *path, const uint8_t key[32], int64_t capacity,
                  const model_config *config, kern_latents latents, kern_index_keys keys, kern *const *k, int ranks,
                  ph_error *err);
void snapshot_close(snapshot *s);

int32_t *snapshot_tokens(snapshot *s); /* [capacity] */
/* Takes the exclusive lock (PH_BUSY when somebody else has the file open) and looks again at what is in it.
 */
int snapshot_lock(snapshot *s, ph_error *err);
void snapshot_unlock(snapshot *s);
/* Makes sure that the caches in backends' memory have memory for the first n_tok tokens. PH_MEMORY with both sizes where
 * a backend has none; what there was stays. */
int snapshot_extend(snapshot *s, int64_t n_tok, ph_error *err);
/* Makes sure that the disk has room for the blocks of tokens [from, to), and the backends' memory for all up to there. */
int snapshot_reserve(snapshot *s, int64_t from, int64_t to, ph_error *err);
/* Makes [0, length) the valid prefix. `sync` waits for the disk; with a backend whose memory is not the host's it only
 * begins to, and closing, locking and the next such commit wait: a GPU reads in less time than a disk writes. What the
 * disk then refuses costs no more than a power cut would: the file is checked when it is opened. */
int snapshot_commit(snapshot *s, int64_t length, bool sync, ph_error *err);
/* Keeps the whole blocks of the first `length` tokens. Nothing of what stood behind them can be read from the file
 * afterwards, and its room on the disk is given back. Needs the lock; waits for the disk. */
int snapshot_shorten(snapshot *s, int64_t length, ph_error *err);

/* A private view for a session, freed by snapshot_view_close: copied on write, or, in a backend's memory, the context's
 * own for one view at a time, whose tail begins where the context ends, and for others one that shares its pages (a copy
 * where the backend has none). */
typedef struct snapshot_view {
    uint8_t *map;
    size_t bytes;
    cache cache[KERN_MAX_RANKS];
    snapshot *snapshot;
    int64_t room;  /* as the snapshot's, of a view that is not borrowed */
    bool borrowed; /* the caches in backends' memory are the snapshot's own */
} snapshot_view;
int snapshot_view_open(snapshot_view *v, snapshot *s, ph_error *err);
/* Makes sure that there is memory for the first n_tok tokens, context and tail. As snapshot_extend. */
int snapshot_view_extend(snapshot_view *v, int64_t n_tok, ph_error *err);
/* After it no step is kept that names the view, or the trace of the session that had it. */
void snapshot_view_close(snapshot_view *v);

#endif
