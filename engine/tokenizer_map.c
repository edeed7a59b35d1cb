#include "engine/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static size_t slots_for(size_t expected) {
    size_t n = 16;
    while (n < expected * 2 + 1) n *= 2;
    return n;
}

int text_map_init(text_map *m, size_t expected, ph_error *err) {
    size_t n = slots_for(expected);
    m->slots = malloc(n * sizeof *m->slots);
    if (!m->slots) return ph_fail(err, PH_MEMORY, "out of memory for %zu bytes", n * sizeof *m->slots);
    for (size_t i = 0; i < n; i++) m->slots[i].id = -1;
    m->mask = n - 1;
    m->n = 0;
    return 0;
}

static struct text_slot *text_slot_of(const text_map *m, const char *arena, const char *s, size_t n,
                                      uint32_t hash) {
    for (size_t i = hash & m->mask;; i = (i + 1) & m->mask) {
        struct text_slot *slot = &m->slots[i];
        if (slot->id < 0) return slot;
        if (slot->hash == hash && slot->text.len == n && !memcmp(arena + slot->text.at, s, n)) return slot;
    }
}

int32_t text_map_find(const text_map *m, const char *arena, const char *s, size_t n) {
    return text_slot_of(m, arena, s, n, (uint32_t)XXH3_64bits(s, n))->id;
}

void text_map_put(text_map *m, const char *arena, token_text text, int32_t id) {
    uint32_t hash = (uint32_t)XXH3_64bits(arena + text.at, text.len);
    struct text_slot *slot = text_slot_of(m, arena, arena + text.at, text.len, hash);
    if (slot->id >= 0) return;
    *slot = (struct text_slot){.hash = hash, .id = id, .text = text};
    m->n++;
}

int merge_map_init(merge_map *m, size_t expected, ph_error *err) {
    size_t n = slots_for(expected);
    m->slots = malloc(n * sizeof *m->slots);
    if (!m->slots) return ph_fail(err, PH_MEMORY, "out of memory for %zu bytes", n * sizeof *m->slots);
    for (size_t i = 0; i < n; i++) m->slots[i].left = -1;
    m->mask = n - 1;
    return 0;
}

void merge_map_put(merge_map *m, int32_t left, int32_t right, merge to) {
    size_t i = merge_hash(left, right) & m->mask;
    while (m->slots[i].left >= 0 && (m->slots[i].left != left || m->slots[i].right != right))
        i = (i + 1) & m->mask;
    m->slots[i] = (struct merge_slot){.left = left, .right = right, .to = to};
}

int buffer_add(byte_buffer *b, const char *s, size_t n, ph_error *err) {
    if (!b->s || b->capacity - b->n < n) { /* nothing added is still a buffer */
        size_t capacity = b->capacity ? b->capacity : 64;
        while (capacity - b->n < n) {
            if (capacity > SIZE_MAX / 2)
                return ph_fail(err, PH_MEMORY, "out of memory for %zu more bytes", n);
            capacity *= 2;
        }
        char *grown = realloc(b->s, capacity);
        if (!grown) return ph_fail(err, PH_MEMORY, "out of memory for %zu bytes", capacity);
        b->s = grown;
        b->capacity = capacity;
    }
    if (n) memcpy(b->s + b->n, s, n);
    b->n += n;
    return 0;
}
