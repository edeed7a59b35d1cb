/* stop_text.c - see stop_text.h. */
#include "appliance/stop_text.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

size_t stop_text_find(const stop_texts *s, const char *text, size_t len, size_t from) {
    size_t first = SIZE_MAX;
    for (int i = 0; i < s->n; i++) {
        size_t n = strlen(s->text[i]), back = from < n ? from : n - 1;
        for (size_t at = from - back; n <= len && at <= len - n && at < first; at++)
            if (!memcmp(text + at, s->text[i], n)) first = at;
    }
    return first;
}

size_t stop_text_safe(const stop_texts *s, const char *text, size_t len) {
    size_t safe = len;
    for (int i = 0; i < s->n; i++) {
        size_t longest = strlen(s->text[i]) - 1;
        for (size_t n = longest < len ? longest : len; n; n--)
            if (!memcmp(text + len - n, s->text[i], n)) {
                if (len - n < safe) safe = len - n;
                break;
            }
    }
    return safe;
}

void stop_texts_free(stop_texts *s) {
    for (int i = 0; i < s->n; i++) free(s->text[i]);
    s->n = 0;
}
