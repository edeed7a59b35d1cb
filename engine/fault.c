/* fault.c - noise in place of index scores, deterministic (fault.h). */
#include "engine/fault.h"

#include <string.h>

/* splitmix64's finaliser over (layer, query, key), as 16 bits: ties are the rule's business, as for real
 * scores. */
static uint32_t noise(int layer, int64_t query, int64_t key) {
    uint64_t x =
        (uint64_t)layer * 0x9E3779B97F4A7C15u + (uint64_t)query * 0xD1B54A32D192ED03u + (uint64_t)key;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)((x ^ x >> 31) & 0xFFFF);
}

void fault_scores(int layer, int64_t position, int64_t n, float *score) {
    for (int64_t i = 0; i < n; i++) score[i] = (float)noise(layer, position, i);
}

void fault_shuffle(int layer, kern_index_select *a) {
    uint32_t seen[256];
    for (int t = 0; t < a->n_tok; t++) {
        int64_t query = a->pos0 + t, visible = query + 1;
        if (visible <= a->n_select) continue;
        /* The smallest score that is selected, from two counting passes: high byte, then low byte. */
        uint32_t cut = 0;
        int64_t left = a->n_select;
        for (int shift = 8; shift >= 0; shift -= 8) {
            memset(seen, 0, sizeof seen);
            for (int64_t s = 0; s < visible; s++) {
                uint32_t x = noise(layer, query, s);
                if (shift == 8 || x >> 8 == cut >> 8) seen[x >> shift & 255]++;
            }
            int byte = 255;
            while (byte > 0 && seen[byte] < left) left -= seen[byte--];
            cut |= (uint32_t)byte << shift;
        }
        int n = 0;
        for (int64_t s = 0; s < visible && n < a->n_select; s++) {
            uint32_t x = noise(layer, query, s);
            if (x < cut || (x == cut && left == 0)) continue;
            if (x == cut) left--;
            size_t at = (size_t)t * a->n_select + (size_t)n++;
            a->position[at] = (int32_t)s;
            if (a->score) a->score[at] = (float)x;
        }
        a->count[t] = n;
    }
}
