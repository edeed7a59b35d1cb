/* stop_text.h - texts at which an answer ends ("stop" in OpenAI's form): where the first begins, and how much
 * of a growing answer can be shown while the beginning of one may stand at its end. */
#ifndef PHAROS_STOP_TEXT_H
#define PHAROS_STOP_TEXT_H

#include <stddef.h>

enum { STOP_TEXTS = 4, STOP_TEXT_BYTES = 256 }; /* at most so many (OpenAI's limit), each so long */

/* Borrowed. None is empty. */
typedef struct stop_texts {
    char *text[STOP_TEXTS];
    int n;
} stop_texts;

/* The byte at which the first of them begins in text[len]; SIZE_MAX where none does. Nothing that ends before
 * byte `from` is looked at, so that a growing text is not searched from its beginning each time. */
size_t stop_text_find(const stop_texts *s, const char *text, size_t len, size_t from);

/* Bytes of text[len] that cannot be part of one of them, whatever follows. */
size_t stop_text_safe(const stop_texts *s, const char *text, size_t len);

/* Frees the strings of texts that are owned. */
void stop_texts_free(stop_texts *s);

#endif
