/* sentences.h - where sentences begin and end in plain text: the unit of citations and of the read set. */
#ifndef PHAROS_SENTENCES_H
#define PHAROS_SENTENCES_H

#include <stddef.h>

typedef struct text_span {
    size_t start, end; /* bytes, half-open, without surrounding white space */
} text_span;

/* The sentence of text[len] that holds byte `at` (at < len). A sentence ends at . ! ? (with closing quotes or
 * brackets) before white space and a plausible beginning, at CJK full stops, at an empty line, and at a list
 * item or heading; common abbreviations, initials and numbers such as "v. 3" and "1.5" do not end one. At
 * most about 1,000 bytes: a longer one is cut at a line end or a space. Linear in the distance looked at,
 * never in len. */
text_span sentence_at(const char *text, size_t len, size_t at);

/* The first sentence that starts at or after `from`; start == end == len when there is none. */
text_span sentence_next(const char *text, size_t len, size_t from);

#endif
