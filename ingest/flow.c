/* flow.c - see flow.h. */
#include "ingest/flow.h"

#include <string.h>

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

void flow_break(flow *f, const char *separator) {
    if (f->open) {
        sink_end(f->s, 0);
        f->open = false;
        f->separator = separator;
    } else if (f->said && (!f->separator || strlen(separator) > strlen(f->separator))) {
        f->separator = separator;
    }
    f->space = false;
    f->cells = 0;
}

void flow_open(flow *f) {
    if (f->open) return;
    if (f->said) sink_string(f->s, f->separator ? f->separator : "\n\n");
    sink_begin(f->s, f->page, 0);
    f->open = true;
    f->said = true;
    f->separator = NULL;
    f->space = false;
    if (f->prefix) {
        sink_string(f->s, f->prefix);
        f->prefix = NULL;
    }
}

void flow_cell(flow *f) {
    f->cells++;
}

/* Text follows: what waited is said. */
static void settle(flow *f) {
    if (f->cells) {
        bool first = !f->open;
        flow_open(f);
        for (unsigned i = 0; i < f->cells; i++, first = false) sink_string(f->s, first ? "|" : " |");
        f->cells = 0;
        f->space = true;
    }
    flow_open(f);
    if (f->space) sink_text(f->s, " ", 1);
    f->space = false;
}

void flow_words(flow *f, const char *text, size_t n) {
    for (size_t i = 0; i < n && !f->s->error.code;) {
        size_t from = i;
        while (i < n && !is_space(text[i])) i++;
        if (i > from) {
            settle(f);
            sink_text(f->s, text + from, i - from);
        }
        while (i < n && is_space(text[i])) {
            f->space = f->open;
            i++;
        }
    }
}

void flow_raw(flow *f, const char *text, size_t n) {
    if (!f->open) {
        bool visible = false;
        for (size_t i = 0; i < n && !visible; i++) visible = !is_space(text[i]);
        if (!visible) return;
    }
    settle(f);
    sink_text(f->s, text, n);
}

void flow_line(flow *f) {
    if (!f->open) return;
    sink_text(f->s, "\n", 1);
    f->space = false;
}
