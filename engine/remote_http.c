/* remote_http.c - see remote_http.h. */
#include "engine/remote_http.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { ERROR_BYTES = 64 << 10, POLL_MS = 50, LONGEST_PAUSE_MS = 60000, SAID = 300 };

struct remote_http {
    remote_limits limits;
    char *base, *host;
    CURLM *multi;
    CURL *easy;
};

/* One try of a call. */
typedef struct attempt {
    remote_http *http;
    remote_call *call;
    ph_error *err;
    char said[CURL_ERROR_SIZE];
    char error_body[ERROR_BYTES + 1];
    size_t error_len, got;
    double moved; /* when something came or went last */
    curl_off_t up, down;
    int failed; /* code of ours; err is filled */
    bool began, other_type;
} attempt;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void start_curl(void) {
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* ---- the URL ---- */

static bool is_this_machine(const char *host) {
    struct in_addr four;
    struct in6_addr six;
    if (!strcasecmp(host, "localhost") || !strcmp(host, "[::1]")) return true;
    if (inet_pton(AF_INET, host, &four) == 1) return ntohl(four.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, host, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}

static int check_parts(CURLU *u, remote_http *h, const char *url, ph_error *err) {
    char *scheme = NULL, *part = NULL, *host = NULL;
    int code = PH_OK;
    if (curl_url_set(u, CURLUPART_URL, url, 0) != CURLUE_OK ||
        curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
        curl_url_get(u, CURLUPART_HOST, &host, 0) != CURLUE_OK ||
        (strcasecmp(scheme, "http") && strcasecmp(scheme, "https")))
        code = ph_fail(err, PH_USAGE, "%.200s is no http or https URL", url);
    static const CURLUPart none[] = {CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_QUERY, CURLUPART_FRAGMENT};
    for (size_t i = 0; i < sizeof none / sizeof *none && !code; i++) {
        if (curl_url_get(u, none[i], &part, 0) == CURLUE_OK)
            code = ph_fail(
                err, PH_USAGE,
                "the URL of a model server has no user, password, query or fragment: a key belongs into "
                "the environment");
        curl_free(part);
        part = NULL;
    }
    if (!code && h->limits.key && !strcasecmp(scheme, "http") && !is_this_machine(host))
        code =
            ph_fail(err, PH_USAGE,
                    "the key would travel to %.100s for everybody to read: use https, or a tunnel from this "
                    "machine",
                    host);
    if (!code && !(h->host = strdup(host))) code = ph_fail(err, PH_MEMORY, "no memory for a URL");
    curl_free(scheme);
    curl_free(host);
    return code;
}

static int check_url(remote_http *h, const char *url, ph_error *err) {
    for (const char *p = url; *p; p++)
        if ((unsigned char)*p <= ' ' || *p == 0x7F)
            return ph_fail(err, PH_USAGE, "this is no URL: it holds a space or a control character");
    for (const char *p = h->limits.key ? h->limits.key : ""; *p; p++)
        if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7F)
            return ph_fail(err, PH_USAGE,
                           "the key holds a space, a control character or a byte beyond ASCII");
    CURLU *u = curl_url();
    if (!u) return ph_fail(err, PH_MEMORY, "no memory for a URL");
    int code = check_parts(u, h, url, err);
    curl_url_cleanup(u);
    if (code) return code;
    size_t n = strlen(url);
    while (n && url[n - 1] == '/') n--;
    if (n > 3 && !strncmp(url + n - 3, "/v1", 3)) n -= 3;
    h->base = strndup(url, n);
    return h->base ? PH_OK : ph_fail(err, PH_MEMORY, "no memory for a URL");
}

int remote_http_open(remote_http **out, const char *url, const remote_limits *limits, ph_error *err) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start_curl);
    *out = NULL;
    remote_http *h = calloc(1, sizeof *h);
    if (!h) return ph_fail(err, PH_MEMORY, "no memory for a connection");
    h->limits = *limits;
    if (h->limits.key && !h->limits.key[0]) h->limits.key = NULL;
    int code = check_url(h, url, err);
    if (!code && (!(h->multi = curl_multi_init()) || !(h->easy = curl_easy_init())))
        code = ph_fail(err, PH_MEMORY, "no memory for a connection");
    if (code)
        remote_http_close(h);
    else
        *out = h;
    return code;
}

void remote_http_close(remote_http *h) {
    if (!h) return;
    if (h->easy) curl_easy_cleanup(h->easy);
    if (h->multi) curl_multi_cleanup(h->multi);
    free(h->base);
    free(h->host);
    free(h);
}

/* ---- one try ---- */

static bool type_is(const char *type, const char *want) {
    size_t n = strlen(want);
    return type && !strncasecmp(type, want, n) && strchr("; \t", type[n]);
}

static size_t on_bytes(char *bytes, size_t size, size_t n, void *user) {
    attempt *a = user;
    n *= size;
    a->moved = now();
    if (!a->began) {
        char *type = NULL;
        a->began = true;
        curl_easy_getinfo(a->http->easy, CURLINFO_RESPONSE_CODE, &a->call->status);
        curl_easy_getinfo(a->http->easy, CURLINFO_CONTENT_TYPE, &type);
        a->other_type = a->call->status == 200 && !type_is(type, a->call->type);
    }
    if (a->call->status != 200 || a->other_type) {
        size_t take = n < ERROR_BYTES - a->error_len ? n : ERROR_BYTES - a->error_len;
        memcpy(a->error_body + a->error_len, bytes, take);
        a->error_len += take;
        a->error_body[a->error_len] = 0;
        return take; /* less than n ends it: enough of an error has come */
    }
    a->got += n;
    if (a->got > a->call->most)
        a->failed =
            ph_fail(a->err, PH_TOO_LARGE, "%s sent more than %zu bytes", a->http->host, a->call->most);
    else
        a->failed = a->call->bytes(a->call->user, bytes, n, a->err);
    return a->failed ? CURL_WRITEFUNC_ERROR : n;
}

static int on_progress(void *user, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
                       curl_off_t up) {
    attempt *a = user;
    (void)down_total;
    (void)up_total;
    if (down != a->down || up != a->up) a->moved = now();
    a->down = down;
    a->up = up;
    return 0;
}

static CURLcode set_up(attempt *a, const char *url, struct curl_slist *headers, double seconds_left) {
    CURL *c = a->http->easy;
    const remote_limits *l = &a->http->limits;
    CURLcode e = CURLE_OK;
    curl_easy_reset(c);
#define SET(option, value)                                                                                   \
    if (e == CURLE_OK) e = curl_easy_setopt(c, option, value)
    SET(CURLOPT_URL, url);
    SET(CURLOPT_ERRORBUFFER, a->said);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_PROXY, "");
    SET(CURLOPT_NOPROXY, "*");
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    if (l->ca_file) SET(CURLOPT_CAINFO, l->ca_file);
    SET(CURLOPT_USERAGENT, "pharos/" PHAROS_VERSION);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)l->connect_ms);
    SET(CURLOPT_TIMEOUT_MS, (long)(seconds_left * 1000) + 1);
    SET(CURLOPT_HTTPHEADER, headers);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_WRITEFUNCTION, on_bytes);
    SET(CURLOPT_WRITEDATA, a);
    SET(CURLOPT_NOPROGRESS, 0L);
    SET(CURLOPT_XFERINFOFUNCTION, on_progress);
    SET(CURLOPT_XFERINFODATA, a);
    if (a->call->body) {
        SET(CURLOPT_POST, 1L);
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(a->call->body));
        SET(CURLOPT_POSTFIELDS, a->call->body);
    }
#undef SET
    return e;
}

static struct curl_slist *make_headers(const attempt *a) {
    char line[4200];
    struct curl_slist *list = NULL, *more;
    const char *key = a->http->limits.key;
    snprintf(line, sizeof line, "Accept: %s", a->call->type);
    if (!(list = curl_slist_append(NULL, line))) return NULL;
    more = curl_slist_append(list, "Content-Type: application/json");
    if (more)
        more = curl_slist_append(list, "Expect:"); /* no waiting for a 100 that some servers never send */
    if (more && key && snprintf(line, sizeof line, "Authorization: Bearer %s", key) < (int)sizeof line)
        more = curl_slist_append(list, line);
    memset(line, 0, sizeof line);
    if (more) return list;
    curl_slist_free_all(list);
    return NULL;
}

static bool told_to_stop(const remote_call *c) {
    return c->waiting && c->waiting(c->user);
}

static int stopped(const attempt *a) {
    return ph_fail(a->err, PH_INTERRUPTED, "stopped while %s was answering", a->http->host);
}

/* Moves the bytes until the transfer has ended; *result filled where it ended by itself. */
static int transfer(attempt *a, CURLcode *result) {
    remote_http *h = a->http;
    int running = 1;
    if (curl_multi_add_handle(h->multi, h->easy)) return ph_fail(a->err, PH_FAIL, "libcurl takes no request");
    a->moved = now();
    int code = PH_OK;
    while (!code) {
        if (curl_multi_perform(h->multi, &running)) code = ph_fail(a->err, PH_FAIL, "libcurl cannot go on");
        if (code || a->failed || !running) break;
        if (told_to_stop(a->call))
            code = stopped(a);
        else if ((now() - a->moved) * 1000 > h->limits.idle_ms)
            code = ph_fail(a->err, PH_FAIL, "%s was silent for %d s", h->host, h->limits.idle_ms / 1000);
        else
            curl_multi_poll(h->multi, NULL, 0, POLL_MS, NULL);
    }
    int left = 0;
    for (CURLMsg *m; (m = curl_multi_info_read(h->multi, &left));)
        if (m->msg == CURLMSG_DONE) *result = m->data.result;
    curl_multi_remove_handle(h->multi, h->easy);
    return a->failed ? a->failed : code;
}

/* ---- what went wrong ---- */

/* The message of an error in OpenAI's form, or of the forms that servers have besides; borrowed from `root`.
 */
static const char *message_of(const json_t *root, const char **kind) {
    const json_t *e = json_object_get(root, "error");
    const json_t *in = json_is_object(e) ? e : root;
    const char *text = json_string_value(json_object_get(in, "message"));
    const char *code = json_string_value(json_object_get(in, "code"));
    if (!code) code = json_string_value(json_object_get(in, "type"));
    if (!text) text = json_string_value(e);
    if (!text) text = json_string_value(json_object_get(root, "detail"));
    *kind = code ? code : "";
    return text;
}

static bool speaks_of_length(const char *text, const char *kind) {
    return !strcmp(kind, "context_length_exceeded") || strcasestr(text, "context length") ||
           strcasestr(text, "context window") || strcasestr(text, "maximum allowed length");
}

static int status_failed(const attempt *a) {
    long status = a->call->status;
    json_t *root = json_loadb(a->error_body, a->error_len, 0, NULL);
    const char *kind = "", *text = root ? message_of(root, &kind) : NULL;
    if (!text) text = a->error_body;
    int code = PH_FAIL;
    if (status == 401 || status == 403)
        code = ph_fail(a->err, PH_USAGE, "%s does not let us in (status %ld%s): %.*s", a->http->host, status,
                       a->http->limits.key ? "" : "; there is no key", SAID, text);
    else if (status >= 300 && status < 400)
        code = ph_fail(a->err, PH_FAIL, "%s sends us elsewhere (status %ld): redirects are not followed",
                       a->http->host, status);
    else {
        if (status == 404) code = PH_NOT_FOUND;
        if (status == 413 || (status == 400 && speaks_of_length(text, kind))) code = PH_TOO_LARGE;
        if (status == 429 || status == 502 || status == 503) code = PH_BUSY;
        ph_fail(a->err, code, "%s answered with status %ld: %.*s", a->http->host, status, SAID, text);
    }
    json_decref(root);
    return code;
}

static int curl_failed(const attempt *a, CURLcode e) {
    const char *host = a->http->host, *said = a->said[0] ? a->said : curl_easy_strerror(e);
    switch (e) {
    case CURLE_COULDNT_CONNECT:
        return ph_fail(a->err, PH_BUSY, "%s cannot be reached: %s", host, said);
    case CURLE_COULDNT_RESOLVE_HOST:
        return ph_fail(a->err, PH_FAIL, "there is no host %s: %s", host, said);
    case CURLE_OPERATION_TIMEDOUT:
        return ph_fail(a->err, PH_FAIL, "%s took too long: %s", host, said);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return ph_fail(a->err, PH_FAIL, "the certificate of %s is not to be trusted: %s", host, said);
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
        return ph_fail(a->err, PH_FAIL,
                       a->got ? "%s went away in the middle of its answer: %s"
                              : "%s closed the connection without an answer: %s",
                       host, said);
    default:
        return ph_fail(a->err, PH_FAIL, "the request to %s failed: %s", host, said);
    }
}

/* The reply's Retry-After in milliseconds, or -1. */
static long retry_after(CURL *c) {
    curl_off_t seconds = 0;
    if (curl_easy_getinfo(c, CURLINFO_RETRY_AFTER, &seconds) || seconds <= 0) return -1;
    return seconds > LONGEST_PAUSE_MS / 1000 ? LONGEST_PAUSE_MS : (long)seconds * 1000;
}

static int try_once(attempt *a, double until, bool *again, long *pause_ms) {
    char url[4096];
    CURLcode result = CURLE_OK;
    *again = false;
    if (snprintf(url, sizeof url, "%s%s", a->http->base, a->call->path) >= (int)sizeof url)
        return ph_fail(a->err, PH_USAGE, "the URL is too long");
    struct curl_slist *headers = make_headers(a);
    if (!headers || set_up(a, url, headers, until - now())) {
        curl_slist_free_all(headers);
        return ph_fail(a->err, PH_FAIL, "libcurl cannot be set up for %s", a->http->host);
    }
    int code = transfer(a, &result);
    curl_easy_getinfo(a->http->easy, CURLINFO_RESPONSE_CODE, &a->call->status);
    long status = a->call->status;
    if (!code && a->other_type)
        code = ph_fail(a->err, PH_FAIL, "%s answered with something that is no %s: %.*s", a->http->host,
                       a->call->type, SAID, a->error_body);
    else if (!code && status && status != 200) {
        code = status_failed(a);
        *again = code == PH_BUSY;
        *pause_ms = retry_after(a->http->easy);
    } else if (!code && result) {
        code = curl_failed(a, result);
        *again = result == CURLE_COULDNT_CONNECT;
        *pause_ms = -1;
    } else if (!code && !a->began)
        code = ph_fail(a->err, PH_FAIL, "%s sent an empty answer", a->http->host);
    curl_easy_setopt(a->http->easy, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    return code;
}

static int pause_for(const attempt *a, long ms, double deadline) {
    double until = now() + (double)ms / 1000;
    if (until >= deadline) return a->err->code; /* what was said stands */
    while (now() < until) {
        if (told_to_stop(a->call)) return stopped(a);
        nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000L}, NULL);
    }
    return PH_OK;
}

int remote_http_run(remote_http *h, remote_call *call, ph_error *err) {
    ph_error said = {0}; /* of a try that is followed by another the caller hears nothing */
    attempt *a = malloc(sizeof *a);
    if (!a) return ph_fail(err, PH_MEMORY, "no memory for a request");
    double until = now() + h->limits.total_ms / 1000.0;
    long backoff = h->limits.backoff_ms;
    int code = PH_OK;
    for (int tries = 0;; tries++) {
        bool again = false;
        long pause_ms = -1;
        *a = (attempt){.http = h, .call = call, .err = &said};
        call->status = 0;
        code = try_once(a, until, &again, &pause_ms);
        if (!again || tries == h->limits.retries) break;
        int waited = pause_for(a, pause_ms >= 0 ? pause_ms : backoff, until);
        if (waited) {
            code = waited;
            break;
        }
        backoff = backoff * 2 < LONGEST_PAUSE_MS ? backoff * 2 : LONGEST_PAUSE_MS;
    }
    free(a);
    if (code && err) *err = said;
    return code;
}
