/* scripted_server.h - for tests: a model server that says what a script says, and breaks off where it says
 * so. */
#ifndef PHAROS_TEST_SCRIPTED_SERVER_H
#define PHAROS_TEST_SCRIPTED_SERVER_H

#include <stdbool.h>
#include <stddef.h>

typedef enum script_end {
    END_WELL,  /* the last chunk, and the connection is closed */
    END_SHORT, /* closed without the last chunk */
    END_RESET, /* reset */
    END_NEVER  /* nothing more comes */
} script_end;

/* One reply. The status 0 says nothing at all. */
typedef struct script_reply {
    const char *path; /* the request must be for this; NULL = any */
    int status;
    const char *headers; /* further header lines, each with \r\n; NULL = none */
    const char *type;    /* NULL = text/event-stream */
    const char *body;
    size_t body_len; /* 0 = strlen */
    size_t piece;    /* bytes of a chunk; 0 = all at once */
    script_end end;
} script_reply;

enum { SCRIPT_REQUESTS = 32 };

typedef struct scripted_server scripted_server;

/* Replies in this order, one for each connection; /v1/models is answered with `models` (JSON; NULL = it takes
 * a reply of the script too). What is borrowed must live as long as the server. */
scripted_server *script_start(const script_reply *replies, size_t n, const char *models);
/* Ends it; fails the test when a request was not for what the script said. */
void script_stop(scripted_server *s);
int script_port(const scripted_server *s);
int script_served(const scripted_server *s); /* replies begun, without /v1/models */
const char *script_request(const scripted_server *s,
                           int number); /* head and body of the request of a reply */
const char *script_body(const scripted_server *s, int number);
bool script_left(scripted_server *s, double seconds); /* waits for the client of END_NEVER to go */

#endif
