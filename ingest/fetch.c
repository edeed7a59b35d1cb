/* fetch.c - a document from the web into a file, by libcurl, from public addresses only.
 *
 * curl opens every socket through open_socket below, at each hop and for each address it tries: what is
 * checked is what is connected to, so that a redirect, an odd spelling or a name that changes its mind
 * between two look-ups leads nowhere.
 */
#include "ingest/fetch_internal.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_REDIRECTS 5L

typedef struct transfer {
    const fetch_rules *rules;
    const char *url;
    int file;
    uint64_t max_bytes, bytes, total;
    ingest_progress progress;
    void *user;
    char refused[INET6_ADDRSTRLEN]; /* the address that was not public */
    char disposition[1024];
    bool too_large, stopped;
    int write_error; /* errno */
} transfer;

static curl_socket_t open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *address) {
    transfer *t = user;
    const void *raw = address->family == AF_INET
                          ? (const void *)&((struct sockaddr_in *)(void *)&address->addr)->sin_addr
                          : (const void *)&((struct sockaddr_in6 *)(void *)&address->addr)->sin6_addr;
    bool loopback = address->family == AF_INET && *(const unsigned char *)raw == 127;
    bool ok = (address->family == AF_INET || address->family == AF_INET6) && purpose == CURLSOCKTYPE_IPCXN &&
              (fetch_address_is_public(&address->addr) || (t->rules->allow_loopback && loopback));
    if (!ok) {
        if ((address->family != AF_INET && address->family != AF_INET6) ||
            !inet_ntop(address->family, raw, t->refused, sizeof t->refused))
            snprintf(t->refused, sizeof t->refused, "another address");
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static size_t on_body(char *bytes, size_t size, size_t n, void *user) {
    transfer *t = user;
    n *= size;
    if (t->bytes + n > t->max_bytes) {
        t->too_large = true;
        t->bytes += n;
        return 0;
    }
    for (size_t at = 0; at < n;) {
        ssize_t k = write(t->file, bytes + at, n - at);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) {
            t->write_error = errno;
            return 0;
        }
        at += (size_t)k;
    }
    t->bytes += n;
    return n;
}

static size_t on_header(char *line, size_t size, size_t n, void *user) {
    transfer *t = user;
    n *= size;
    static const char name[] = "content-disposition:";
    if (n >= 5 && !strncasecmp(line, "HTTP/", 5)) t->disposition[0] = 0; /* the next hop's headers */
    if (n > sizeof name - 1 && !strncasecmp(line, name, sizeof name - 1))
        snprintf(t->disposition, sizeof t->disposition, "%.*s",
                 (int)(n < 1000 ? n : 1000) - (int)sizeof name + 1, line + sizeof name - 1);
    return n;
}

static int on_progress(void *user, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up) {
    transfer *t = user;
    t->total = total > 0 ? (uint64_t)total : 0;
    if (t->total > t->max_bytes) {
        t->too_large = true;
        t->bytes = t->total;
        return 1;
    }
    if (t->progress && t->progress(t->user, now > 0 ? (uint64_t)now : 0, t->total)) t->stopped = true;
    return t->stopped;
}

static void start_curl(void) {
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* http or https, a host, and no password, which a history would keep. */
static int check_url(const char *url, ph_error *err) {
    for (const char *p = url; *p; p++)
        if ((unsigned char)*p <= ' ' || *p == 0x7F)
            return ph_fail(err, PH_USAGE, "this is no URL: it holds a space or a control character");
    CURLU *u = curl_url();
    if (!u) return ph_fail(err, PH_MEMORY, "out of memory: a URL");
    char *scheme = NULL, *user = NULL;
    int rc = 0;
    if (curl_url_set(u, CURLUPART_URL, url, 0) != CURLUE_OK ||
        curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK)
        rc = ph_fail(err, PH_USAGE, "%.200s is no http or https URL", url);
    else if (strcasecmp(scheme, "http") && strcasecmp(scheme, "https"))
        rc = ph_fail(err, PH_USAGE, "only http and https can be fetched, not %.40s", scheme);
    else if (curl_url_get(u, CURLUPART_USER, &user, 0) == CURLUE_OK)
        rc = ph_fail(err, PH_USAGE, "a URL with a user name or password is not fetched");
    curl_free(scheme);
    curl_free(user);
    curl_url_cleanup(u);
    return rc;
}

static int set_up(CURL *c, transfer *t, char *sentence) {
    CURLcode e = CURLE_OK;
#define SET(option, value)                                                                                   \
    if (e == CURLE_OK) e = curl_easy_setopt(c, option, value)
    SET(CURLOPT_URL, t->url);
    SET(CURLOPT_ERRORBUFFER, sentence);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_FOLLOWLOCATION, 1L);
    SET(CURLOPT_MAXREDIRS, MAX_REDIRECTS);
    SET(CURLOPT_PROXY, "");
    SET(CURLOPT_NOPROXY, "*");
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_FAILONERROR, 1L);
    SET(CURLOPT_ACCEPT_ENCODING, "");
    SET(CURLOPT_USERAGENT, "pharos/" PHAROS_VERSION);
    SET(CURLOPT_CONNECTTIMEOUT, t->rules->connect_seconds);
    SET(CURLOPT_TIMEOUT, t->rules->total_seconds);
    SET(CURLOPT_LOW_SPEED_LIMIT, 100L);
    SET(CURLOPT_LOW_SPEED_TIME, t->rules->stall_seconds);
    SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
    SET(CURLOPT_OPENSOCKETDATA, t);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, t);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, t);
    SET(CURLOPT_NOPROGRESS, 0L);
    SET(CURLOPT_XFERINFOFUNCTION, on_progress);
    SET(CURLOPT_XFERINFODATA, t);
#undef SET
    return e == CURLE_OK ? 0 : -1;
}

/* The server's answer in a sentence. */
static int explain(CURLcode e, CURL *c, const transfer *t, const char *sentence, ph_error *err) {
    long status = 0;
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    if (t->refused[0] && e == CURLE_COULDNT_CONNECT)
        return ph_fail(err, PH_USAGE, "%.200s leads to %s, which is not a public address", t->url,
                       t->refused);
    if (t->too_large)
        return ph_fail(err, PH_TOO_LARGE, "%.200s has at least %llu bytes, and the limit is %llu", t->url,
                       (unsigned long long)t->bytes, (unsigned long long)t->max_bytes);
    if (t->stopped) return ph_fail(err, PH_INTERRUPTED, "stopped while fetching %.200s", t->url);
    if (t->write_error)
        return ph_fail(err, PH_FAIL, "cannot write what %.200s sends: %s", t->url, strerror(t->write_error));
    if (e == CURLE_HTTP_RETURNED_ERROR)
        return ph_fail(err, status == 404 || status == 410 ? PH_NOT_FOUND : PH_FAIL,
                       "%.200s answers with status %ld", t->url, status);
    if (e == CURLE_TOO_MANY_REDIRECTS)
        return ph_fail(err, PH_FAIL, "%.200s redirects more than %ld times", t->url, MAX_REDIRECTS);
    if (e == CURLE_OPERATION_TIMEDOUT) return ph_fail(err, PH_FAIL, "%.200s answers too slowly", t->url);
    if (e == CURLE_UNSUPPORTED_PROTOCOL)
        return ph_fail(err, PH_USAGE, "%.200s leads to a protocol other than http and https", t->url);
    return ph_fail(err, PH_FAIL, "cannot fetch %.200s: %s", t->url,
                   sentence[0] ? sentence : curl_easy_strerror(e));
}

static int run_transfer(CURL *c, transfer *t, char **name, ph_error *err) {
    char sentence[CURL_ERROR_SIZE] = "";
    if (set_up(c, t, sentence) != 0) return ph_fail(err, PH_FAIL, "libcurl is too old or out of memory");
    CURLcode e = curl_easy_perform(c);
    if (e != CURLE_OK) return explain(e, c, t, sentence, err);
    if (!t->bytes) return ph_fail(err, PH_FAIL, "%.200s answers with nothing", t->url);
    char *last = NULL, *type = NULL;
    curl_easy_getinfo(c, CURLINFO_EFFECTIVE_URL, &last);
    curl_easy_getinfo(c, CURLINFO_CONTENT_TYPE, &type);
    *name = fetch_name(t->disposition[0] ? t->disposition : NULL, last ? last : t->url, type);
    return *name ? 0 : ph_fail(err, PH_MEMORY, "out of memory: a file name");
}

int fetch_url(const char *url, const char *path, char **name, const ingest_limits *limits,
              const fetch_rules *rules, ingest_progress progress, void *user, ph_error *err) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start_curl);
    *name = NULL;
    int rc = check_url(url, err);
    if (rc) return rc;
    transfer t = {.rules = rules,
                  .url = url,
                  .max_bytes = limits && limits->file_bytes ? limits->file_bytes : (uint64_t)2 << 30,
                  .progress = progress,
                  .user = user};
    t.file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (t.file < 0) return ph_fail(err, PH_FAIL, "cannot create %s: %s", path, strerror(errno));
    CURL *c = curl_easy_init();
    rc = c ? run_transfer(c, &t, name, err) : ph_fail(err, PH_MEMORY, "out of memory: a connection");
    curl_easy_cleanup(c);
    if (close(t.file) != 0 && !rc) rc = ph_fail(err, PH_FAIL, "cannot write %s: %s", path, strerror(errno));
    if (rc) {
        unlink(path);
        free(*name);
        *name = NULL;
    }
    return rc;
}

int ingest_fetch(const char *url, const char *path, char **name, const ingest_limits *limits,
                 ingest_progress progress, void *user, ph_error *err) {
    const fetch_rules rules = {
        .allow_loopback = false, .connect_seconds = 20, .stall_seconds = 60, .total_seconds = 3600};
    return fetch_url(url, path, name, limits, &rules, progress, user, err);
}
