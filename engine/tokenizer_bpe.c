#include "engine/tokenizer_internal.h"
#include "engine/tokenizer_utf8.h"

#include <stdlib.h>
#include <string.h>

/* Up to this length a scan over the pairs beats a heap. */
enum { SHORT_PIECE = 48 };

struct merge_node {
    int32_t id;
    int32_t prev, next; /* -1: none */
    uint32_t rank;      /* of this symbol and the next one; UINT32_MAX where they do not merge */
    int32_t merged;
};

struct merge_candidate {
    uint32_t rank;
    int32_t at;
};

/* `at`: where the token's bytes begin in the piece. */
static int emit(encoder *e, int32_t id, size_t at) {
    uint64_t start = 0;
    if (e->offsets) {
        size_t position = e->piece_at + at;
        if (e->prefix && position > e->prefix_at) position--;
        start = encoder_origin(e, position);
    }
    return token_list_push(e->out, id, start, e->offsets, e->err);
}

/* The lowest rank first, the leftmost of equal ones: each round over at most SHORT_PIECE pairs. */
static int merge_short(encoder *e, const char *s, size_t n, int32_t *ids, uint8_t *starts) {
    const tokenizer *t = e->t;
    merge to[SHORT_PIECE];
    for (size_t i = 0; i < n; i++) {
        ids[i] = t->byte_ids[(uint8_t)s[i]];
        starts[i] = (uint8_t)i;
        if (i) to[i - 1] = merge_map_find(&t->merges, ids[i - 1], ids[i]);
    }
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (to[i].rank < to[best].rank) best = i;
        if (to[best].rank == UINT32_MAX) break;
        ids[best] = to[best].id;
        size_t tail = n - best - 2;
        memmove(ids + best + 1, ids + best + 2, tail * sizeof *ids);
        memmove(starts + best + 1, starts + best + 2, tail * sizeof *starts);
        if (tail) memmove(to + best + 1, to + best + 2, (tail - 1) * sizeof *to);
        n--;
        if (best > 0) to[best - 1] = merge_map_find(&t->merges, ids[best - 1], ids[best]);
        if (best + 1 < n) to[best] = merge_map_find(&t->merges, ids[best], ids[best + 1]);
    }
    return (int)n;
}

static bool before(merge_candidate a, merge_candidate b) {
    return a.rank != b.rank ? a.rank < b.rank : a.at < b.at;
}

static void heap_push(merge_candidate *heap, size_t *n, merge_candidate c) {
    size_t i = (*n)++;
    while (i > 0 && before(c, heap[(i - 1) / 2])) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = c;
}

static merge_candidate heap_pop(merge_candidate *heap, size_t *n) {
    merge_candidate top = heap[0], last = heap[--*n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < *n; i = child) {
        if (child + 1 < *n && before(heap[child + 1], heap[child])) child++;
        if (!before(heap[child], last)) break;
        heap[i] = heap[child];
    }
    heap[i] = last;
    return top;
}

static void consider(encoder *e, int32_t i, size_t *n_heap) {
    merge_node *a = &e->nodes[i];
    merge to =
        a->next < 0 ? (merge){UINT32_MAX, -1} : merge_map_find(&e->t->merges, a->id, e->nodes[a->next].id);
    a->rank = to.rank;
    a->merged = to.id;
    if (to.rank != UINT32_MAX) heap_push(e->heap, n_heap, (merge_candidate){to.rank, i});
}

/* The same order through a heap, whose entries are checked against their symbol when they come up. */
static int merge_long(encoder *e, const char *s, size_t n, size_t at) {
    if (!e->nodes) {
        /* A symbol enters the heap once at the start and at most twice for each merge. */
        e->nodes = malloc(TOKENIZER_MAX_RUN * sizeof *e->nodes);
        e->heap = malloc((size_t)3 * TOKENIZER_MAX_RUN * sizeof *e->heap);
        if (!e->nodes || !e->heap)
            return ph_fail(e->err, PH_MEMORY, "out of memory for the merges of a long word");
    }
    size_t n_heap = 0;
    merge_node *nodes = e->nodes;
    for (size_t i = 0; i < n; i++)
        nodes[i] = (merge_node){.id = e->t->byte_ids[(uint8_t)s[i]],
                                .prev = (int32_t)i - 1,
                                .next = i + 1 < n ? (int32_t)i + 1 : -1};
    for (size_t i = 0; i < n; i++) consider(e, (int32_t)i, &n_heap);
    while (n_heap) {
        merge_candidate c = heap_pop(e->heap, &n_heap);
        merge_node *a = &nodes[c.at];
        if (a->rank != c.rank || a->next < 0) continue; /* one of the two was merged with another since */
        merge_node *b = &nodes[a->next];
        a->id = a->merged;
        a->next = b->next;
        b->rank = UINT32_MAX;
        b->next = -1;
        if (a->next >= 0) nodes[a->next].prev = c.at;
        consider(e, c.at, &n_heap);
        if (a->prev >= 0) consider(e, a->prev, &n_heap);
    }
    for (int32_t i = 0; i >= 0; i = nodes[i].next) {
        int code = emit(e, nodes[i].id, at + (size_t)i);
        if (code) return code;
    }
    return 0;
}

static int merge_part(encoder *e, const char *s, size_t n, size_t at, int32_t whole) {
    if (n > SHORT_PIECE) return merge_long(e, s, n, at);
    int32_t ids[SHORT_PIECE];
    uint8_t starts[SHORT_PIECE];
    int left = merge_short(e, s, n, ids, starts);
    /* Whether a word of the vocabulary comes out as itself is remembered. Racing threads store the same
     * answer. */
    if (whole >= 0)
        atomic_store_explicit(&e->t->whole[whole], left == 1 && ids[0] == whole ? 1 : 2,
                              memory_order_relaxed);
    for (int i = 0; i < left; i++) {
        int code = emit(e, ids[i], at + starts[i]);
        if (code) return code;
    }
    return 0;
}

int bpe_piece(encoder *e, const char *s, size_t n, size_t at) {
    const tokenizer *t = e->t;
    if (n == 0) return 0;
    e->piece_at = at;
    int32_t whole = n < TOKENIZER_MAX_TOKEN ? text_map_find(&t->words, t->arena, s, n) : -1;
    if (whole >= 0 &&
        (n == 1 || t->ignore_merges || atomic_load_explicit(&t->whole[whole], memory_order_relaxed) == 1))
        return emit(e, whole, 0);
    size_t done = 0;
    while (n - done > TOKENIZER_MAX_RUN) {
        size_t part = utf8_floor(s + done, TOKENIZER_MAX_RUN);
        int code = merge_part(e, s + done, part, done, -1);
        if (code) return code;
        done += part;
    }
    return merge_part(e, s + done, n - done, done, whole);
}
