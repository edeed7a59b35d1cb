/* remote_stream.c - see remote_stream.h. Format: WHATWG HTML, 9.2 "Server-sent events". */
#include "engine/remote_stream.h"

#include <stdlib.h>
#include <string.h>

static const char FIELD[] = "data:";
enum { FIELD_LEN = sizeof FIELD - 1, OTHER_FIELD = -1 };

void event_stream_free(event_stream *s) {
    free(s->data);
    s->data = NULL;
    s->len = s->capacity = 0;
}

static int append(event_stream *s, char c, ph_error *err) {
    if (s->len >= s->most)
        return ph_fail(err, PH_TOO_LARGE, "the server sent an event of more than %zu bytes", s->most);
    if (s->len + 1 >= s->capacity) {
        size_t n = (s->len + 64) * 2;
        char *more = realloc(s->data, n);
        if (!more) return ph_fail(err, PH_MEMORY, "no memory for an event of %zu bytes", n);
        s->data = more;
        s->capacity = n;
    }
    s->data[s->len++] = c;
    s->data[s->len] = 0;
    return PH_OK;
}

/* ---- the member that is lifted out ---- */

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Whether the string that begins here is the value to lift: `"name" :` came before it. */
static bool begins_lifted(const event_stream *s) {
    return s->lift && s->colon && s->name_len == strlen(s->lifted) &&
           !memcmp(s->name, s->lifted, s->name_len);
}

/* Follows JSON as far as strings and colons, and keeps what is to be kept. */
static int take_character(event_stream *s, char c, ph_error *err) {
    if (s->lifting) {
        if (s->escaped) { /* JSON may write a slash as \/ */
            s->escaped = false;
            s->lift(s->user, c == '/' ? &c : "\\", 1);
        } else if (c == '\\')
            s->escaped = true;
        else if (c != '"')
            s->lift(s->user, &c, 1);
        else {
            s->lifting = false;
            s->colon = false;
            s->name_len = sizeof s->name;
            return append(s, c, err);
        }
        return PH_OK;
    }
    if (s->in_string) {
        if (s->escaped) {
            s->escaped = false;
            s->name_len = sizeof s->name; /* a name with escapes is none of ours */
        } else if (c == '\\')
            s->escaped = true;
        else if (c == '"')
            s->in_string = false;
        else if (s->name_len < sizeof s->name)
            s->name[s->name_len++] = c;
    } else if (c == '"') {
        if (begins_lifted(s)) {
            s->lifting = true;
        } else {
            s->in_string = true;
            s->name_len = 0;
        }
        s->colon = false;
    } else if (c == ':')
        s->colon = true;
    else if (!is_blank(c)) {
        s->colon = false;
        s->name_len = sizeof s->name;
    }
    return append(s, c, err);
}

/* ---- lines and events ---- */

static int end_line(event_stream *s, ph_error *err) {
    bool empty = s->field == 0;
    bool data = s->field == FIELD_LEN;
    s->field = 0;
    s->at_value = false;
    if (data) { /* lines of one event are joined by line ends; the last one is taken off again */
        s->has_data = true;
        return s->lifting ? PH_OK : append(s, '\n', err);
    }
    if (!empty || !s->has_data) return PH_OK;
    s->data[--s->len] = 0;
    int code = s->event(s->user, s->data, s->len, err);
    s->len = 0;
    s->has_data = s->in_string = s->escaped = s->lifting = s->colon = false;
    s->name_len = 0;
    return code;
}

static int put(event_stream *s, char c, ph_error *err) {
    bool second = s->after_return && c == '\n';
    s->after_return = c == '\r';
    if (second) return PH_OK;
    if (c == '\n' || c == '\r') return end_line(s, err);
    if (s->field == FIELD_LEN) {
        bool space = s->at_value && c == ' ';
        s->at_value = false;
        return space ? PH_OK : take_character(s, c, err);
    }
    if (s->field == OTHER_FIELD) return PH_OK;
    s->field = c == FIELD[s->field] ? s->field + 1 : OTHER_FIELD;
    s->at_value = s->field == FIELD_LEN;
    return PH_OK;
}

/* How many of the bytes belong to the lifted value for certain. */
static size_t plain_run(const event_stream *s, const char *bytes, size_t n) {
    if (!s->lifting || s->escaped || s->field != FIELD_LEN || s->at_value) return 0;
    size_t i = 0;
    while (i < n && bytes[i] != '"' && bytes[i] != '\\' && bytes[i] != '\n' && bytes[i] != '\r') i++;
    return i;
}

int event_stream_put(event_stream *s, const char *bytes, size_t n, ph_error *err) {
    for (size_t i = 0; i < n;) {
        size_t run = plain_run(s, bytes + i, n - i);
        if (run) {
            s->lift(s->user, bytes + i, run);
            s->after_return = false;
            i += run;
            continue;
        }
        int code = put(s, bytes[i++], err);
        if (code) return code;
    }
    return PH_OK;
}
