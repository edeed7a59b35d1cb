/* error.h - the one error convention of Pharos.
 *
 * Every function that can fail returns int: 0 is success, anything else is one of the codes below, and a
 * sentence for a person is in the caller's `ph_error`. Nothing below main() prints or exits. An `err`
 * parameter may be NULL when the caller wants the code only. The code is also the exit status of the
 * program, so that scripts can tell the cases apart.
 */
#ifndef PHAROS_ERROR_H
#define PHAROS_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

enum {
    PH_OK = 0,
    PH_FAIL = 1,          /* anything without a code of its own: I/O, a failed system call */
    PH_USAGE = 2,         /* the caller's arguments are wrong */
    PH_NOT_FOUND = 3,     /* no such document, pack, file, tensor */
    PH_TOO_LARGE = 4,     /* over a limit; the message has both sizes */
    PH_MODEL = 5,         /* the model folder cannot be used: missing, malformed, unsupported */
    PH_CORRUPT = 6,       /* a file's content contradicts itself or its checksum */
    PH_BUSY = 7,          /* another process holds what is needed */
    PH_MEMORY = 8,        /* out of memory; the message has the size asked for */
    PH_UNSUPPORTED = 9,   /* a valid input of a kind that is not handled; the message names the kind */
    PH_INTERRUPTED = 130, /* stopped on request (Ctrl-C, client gone); what was done is kept */
};

typedef struct ph_error {
    int code;       /* the code that was returned */
    char text[480]; /* UTF-8, NUL-terminated, no trailing newline */
} ph_error;

/* Fills err (may be NULL) with code and the formatted sentence; returns code, so that a caller can write
 * `return ph_fail(err, PH_CORRUPT, "...")`. A sentence that does not fit is cut at a character boundary. */
int ph_fail(ph_error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Puts "context: " before the sentence that is already in err. Returns err's code (PH_FAIL where err is NULL). */
int ph_context(ph_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#ifdef __cplusplus
}
#endif

#endif
