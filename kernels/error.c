/* error.c - formats the sentences of error.h. */
#include "kernels/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Cutting a UTF-8 sequence in half would make the message itself malformed output. */
static void trim_to_character(char *text, size_t capacity) {
    size_t n = strlen(text);
    if (n + 1 < capacity) return;
    size_t start = n;
    while (start > 0 && ((unsigned char)text[start - 1] & 0xC0) == 0x80) start--;
    if (start == 0) return;
    unsigned char lead = (unsigned char)text[start - 1];
    size_t need = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : lead >= 0xC0 ? 1 : 0;
    if (n - start != need) text[start - 1] = 0;
}

int ph_fail(ph_error *err, int code, const char *format, ...) {
    if (err) {
        va_list args;
        va_start(args, format);
        err->code = code;
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
        trim_to_character(err->text, sizeof err->text);
    }
    return code;
}

int ph_context(ph_error *err, const char *format, ...) {
    if (!err) return PH_FAIL;
    char was[sizeof err->text];
    memcpy(was, err->text, sizeof was);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof err->text)
        if (snprintf(err->text + n, sizeof err->text - (size_t)n, ": %s", was) < 0) err->text[n] = 0;
    trim_to_character(err->text, sizeof err->text);
    return err->code;
}
