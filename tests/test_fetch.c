/* Fetching: against a small server of our own, and against every address that must not be reached. */
#include "ingest/fetch_internal.h"
#include "tests/test_ingest.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <time.h>

/* --- a server: one connection at a time, one answer a path --- */

static int listener = -1;
static int port;
static atomic_int requests;

static void send_text(int fd, const char *text) {
    size_t n = strlen(text);
    while (n) {
        ssize_t k = send(fd, text, n, MSG_NOSIGNAL);
        if (k <= 0) return;
        text += k;
        n -= (size_t)k;
    }
}

static void redirect(int fd, const char *to) {
    char head[512];
    snprintf(head, sizeof head,
             "HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", to);
    send_text(fd, head);
}

static void answer(int fd, const char *path) {
    char to[128];
    if (!strcmp(path, "/page")) {
        send_text(fd, "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 14\r\n"
                      "Connection: close\r\n\r\n<html>hi</html>");
    } else if (!strcmp(path, "/named")) {
        send_text(fd, "HTTP/1.1 200 OK\r\nContent-Disposition: attachment; filename=\"../../re port.pdf\"\r\n"
                      "Content-Length: 2\r\nConnection: close\r\n\r\nok");
    } else if (!strncmp(path, "/hop", 4)) {
        int n = atoi(path + 4);
        snprintf(to, sizeof to, n ? "/hop%d" : "/page", n - 1);
        redirect(fd, to);
    } else if (!strcmp(path, "/to-private")) {
        redirect(fd, "http://10.1.2.3/");
    } else if (!strcmp(path, "/to-metadata")) {
        redirect(fd, "http://169.254.169.254/latest/meta-data/");
    } else if (!strcmp(path, "/to-file")) {
        redirect(fd, "file:///etc/passwd");
    } else if (!strcmp(path, "/big")) {
        send_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nConnection: close\r\n\r\n");
        for (int i = 0; i < 50; i++)
            send_text(fd, "0123456789012345678901234567890123456789012345678901234567890123456789"
                          "012345678901234567890123456789");
    } else if (!strcmp(path, "/endless")) {
        send_text(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        for (int i = 0; i < 100000; i++) {
            if (send(fd, "0123456789012345678901234567890123456789\n", 41, MSG_NOSIGNAL) <= 0) return;
        }
    } else if (!strcmp(path, "/slow")) {
        send_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\n");
        for (int i = 0; i < 60; i++) {
            if (send(fd, "x", 1, MSG_NOSIGNAL) <= 0) return;
            nanosleep(&(struct timespec){0, 100000000}, NULL);
        }
    } else if (!strcmp(path, "/empty")) {
        send_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    } else if (!strcmp(path, "/cut")) {
        send_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nshort");
    } else {
        send_text(fd, "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nConnection: close\r\n\r\nsorry");
    }
}

static void *serve(void *user) {
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) return NULL;
        char request[4096];
        size_t n = 0;
        while (n < sizeof request - 1) {
            ssize_t k = recv(fd, request + n, sizeof request - 1 - n, 0);
            if (k <= 0) break;
            n += (size_t)k;
            request[n] = 0;
            if (strstr(request, "\r\n\r\n")) break;
        }
        request[n] = 0;
        atomic_fetch_add(&requests, 1);
        char path[256] = "";
        sscanf(request, "GET %255s", path);
        answer(fd, path);
        shutdown(fd, SHUT_RDWR);
        close(fd);
    }
}

static pthread_t server;

static int start_server(void **state) {
    if (make_folder(state)) return -1;
    /* what the environment says must not matter */
    setenv("http_proxy", "http://127.0.0.1:9", 1);
    setenv("https_proxy", "http://127.0.0.1:9", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:9", 1);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, n) || listen(listener, 16) ||
        getsockname(listener, (struct sockaddr *)&address, &n))
        return -1;
    port = ntohs(address.sin_port);
    return pthread_create(&server, NULL, serve, NULL);
}

static int stop_server(void **state) {
    shutdown(listener, SHUT_RDWR);
    pthread_join(server, NULL);
    close(listener);
    return remove_folder(state);
}

/* --- the tests --- */

static const fetch_rules loopback = {
    .allow_loopback = true, .connect_seconds = 5, .stall_seconds = 2, .total_seconds = 20};

static int get(const char *path, uint64_t max, char **name, ph_error *err) {
    char url[256];
    ingest_limits limits = {.file_bytes = max};
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", port, path);
    unlink(path_of("out"));
    return fetch_url(url, path_of("out"), name, &limits, &loopback, NULL, NULL, err);
}

static void expect_failure(const char *path, uint64_t max, int code, const char *words) {
    char *name = NULL;
    ph_error err = {0};
    int rc = get(path, max, &name, &err);
    if (rc != code || !strstr(err.text, words)) print_error("%s: %d %s\n", path, rc, err.text);
    assert_int_equal(rc, code);
    assert_non_null(strstr(err.text, words));
    assert_null(name);
    assert_int_equal(access(path_of("out"), F_OK), -1); /* nothing half is left */
}

static void fetches(void **state) {
    char *name = NULL;
    ph_error err = {0};
    assert_int_equal(get("/page", 0, &name, &err), 0);
    assert_string_equal(name, "page.html");
    struct stat st;
    assert_int_equal(stat(path_of("out"), &st), 0);
    assert_int_equal(st.st_size, 14);
    assert_int_equal(st.st_mode & 0777, 0600);
    free(name);
    /* an existing file is not overwritten */
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/page", port);
    assert_int_equal(fetch_url(url, path_of("out"), &name, NULL, &loopback, NULL, NULL, &err), PH_FAIL);
    assert_int_equal(get("/named", 0, &name, &err), 0);
    assert_string_equal(name, "re port.pdf");
    free(name);
    assert_int_equal(get("/hop4", 0, &name, &err), 0);
    free(name);
}

static void failures(void **state) {
    expect_failure("/hop9", 0, PH_FAIL, "redirects more than 5 times");
    expect_failure("/to-private", 0, PH_USAGE, "10.1.2.3, which is not a public address");
    expect_failure("/to-metadata", 0, PH_USAGE, "169.254.169.254");
    expect_failure("/to-file", 0, PH_USAGE, "protocol");
    expect_failure("/big", 1000, PH_TOO_LARGE, "the limit is 1000");
    expect_failure("/endless", 10000, PH_TOO_LARGE, "the limit is 10000");
    expect_failure("/slow", 0, PH_FAIL, "too slowly");
    expect_failure("/empty", 0, PH_FAIL, "nothing");
    expect_failure("/cut", 0, PH_FAIL, "cannot fetch");
    expect_failure("/none", 0, PH_NOT_FOUND, "status 404");
}

static int stop(void *user, uint64_t done, uint64_t total) {
    return 1;
}

static void stopping(void **state) {
    char url[64], *name = NULL;
    ph_error err = {0};
    snprintf(url, sizeof url, "http://127.0.0.1:%d/slow", port);
    unlink(path_of("out"));
    assert_int_equal(fetch_url(url, path_of("out"), &name, NULL, &loopback, stop, NULL, &err),
                     PH_INTERRUPTED);
    assert_int_equal(access(path_of("out"), F_OK), -1);
}

/* The real entry point reaches nothing of this machine, however it is spelled. */
static void refused_spellings(void **state) {
    static const char *const hosts[] = {
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "0",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "\xEF\xBC\x91\xEF\xBC\x92\xEF\xBC\x97.0.0.1",
    };
    int before = atomic_load(&requests);
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        char url[256], *name = NULL;
        ph_error err = {0};
        snprintf(url, sizeof url, "http://%s:%d/page", hosts[i], port);
        unlink(path_of("out"));
        int rc = ingest_fetch(url, path_of("out"), &name, NULL, NULL, NULL, &err);
        if (rc == 0) print_error("%s was fetched\n", url);
        assert_int_not_equal(rc, 0);
        assert_int_equal(access(path_of("out"), F_OK), -1);
    }
    assert_int_equal(atomic_load(&requests), before);
    char url[64], *name = NULL;
    ph_error err = {0};
    snprintf(url, sizeof url, "http://2130706433:%d/page", port);
    assert_int_equal(ingest_fetch(url, path_of("out"), &name, NULL, NULL, NULL, &err), PH_USAGE);
    assert_non_null(strstr(err.text, "127.0.0.1, which is not a public address"));
}

static void refused_urls(void **state) {
    static const char *const urls[] = {"file:///etc/passwd",
                                       "ftp://example.org/x",
                                       "gopher://example.org/",
                                       "",
                                       "http://",
                                       "javascript:alert(1)",
                                       "http://user:pass@example.org/",
                                       "http://a b/",
                                       "http://a\nb/",
                                       "dict://127.0.0.1/",
                                       "/etc/passwd"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        char *name = NULL;
        ph_error err = {0};
        int rc = ingest_fetch(urls[i], path_of("out"), &name, NULL, NULL, NULL, &err);
        if (rc != PH_USAGE) print_error("%s: %d %s\n", urls[i], rc, err.text);
        assert_int_equal(rc, PH_USAGE);
    }
}

static bool is_public(const char *text) {
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, text, &in.sin_addr) == 1) return fetch_address_is_public((struct sockaddr *)&in);
    assert_int_equal(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
    return fetch_address_is_public((struct sockaddr *)&in6);
}

static void addresses(void **state) {
    static const char *const private[] = {"0.0.0.0",
                                          "0.1.2.3",
                                          "10.0.0.1",
                                          "10.255.255.255",
                                          "100.64.0.1",
                                          "100.127.255.255",
                                          "127.0.0.1",
                                          "127.255.255.254",
                                          "169.254.169.254",
                                          "172.16.0.1",
                                          "172.31.255.255",
                                          "192.0.0.1",
                                          "192.0.2.1",
                                          "192.88.99.1",
                                          "192.168.0.1",
                                          "198.18.0.1",
                                          "198.19.255.255",
                                          "198.51.100.1",
                                          "203.0.113.1",
                                          "224.0.0.1",
                                          "239.255.255.250",
                                          "240.0.0.1",
                                          "255.255.255.255",
                                          "168.63.129.16",
                                          "::",
                                          "::1",
                                          "::ffff:8.8.8.8",
                                          "::ffff:127.0.0.1",
                                          "::8.8.8.8",
                                          "64:ff9b::1.1.1.1",
                                          "64:ff9b:1::1",
                                          "100::1",
                                          "2001::1",
                                          "2001:db8::1",
                                          "2001:20::1",
                                          "2002:808:808::1",
                                          "fc00::1",
                                          "fd12::1",
                                          "fe80::1",
                                          "fec0::1",
                                          "ff02::1",
                                          "3fff::1",
                                          "5f00::1"};
    static const char *const public[] = {
        "1.1.1.1",         "8.8.8.8",         "9.255.255.255", "11.0.0.1",        "100.63.255.255",
        "100.128.0.1",     "126.0.0.1",       "128.0.0.1",     "169.253.0.1",     "172.15.0.1",
        "172.32.0.1",      "192.0.1.1",       "192.167.0.1",   "198.17.0.1",      "198.20.0.1",
        "223.255.255.255", "2606:4700::1111", "2a00:1450::1",  "2001:4860::8888", "2400::1"};
    for (size_t i = 0; i < sizeof private / sizeof *private; i++) {
        if (is_public(private[i])) print_error("%s\n", private[i]);
        assert_false(is_public(private[i]));
    }
    for (size_t i = 0; i < sizeof public / sizeof *public; i++) {
        if (!is_public(public[i])) print_error("%s\n", public[i]);
        assert_true(is_public(public[i]));
    }
}

static void names(void **state) {
    static const struct {
        const char *disposition, *url, *type, *want;
    } cases[] = {
        {NULL, "https://example.org/docs/paper.pdf?x=1#p", "application/pdf", "paper.pdf"},
        {NULL, "https://example.org/", "text/html; charset=utf-8", "example.org.html"},
        {NULL, "https://example.org", "text/html", "example.org.html"},
        {NULL, "https://example.org/a/b/", "text/html", "b.html"},
        {NULL, "https://example.org/a%2F..%2Fb%20c.txt", NULL, "b c.txt"},
        {NULL, "https://example.org/%2e%2e", "text/plain", "example.org"},
        {NULL, "https://example.org/%00%0a", NULL, "example.org"},
        {NULL, "https://example.org/stra%C3%9Fe.txt", NULL, "straße.txt"},
        {NULL, "https://example.org/%ff.txt", NULL, "txt"},
        {"attachment; filename=x.md", "https://example.org/y", NULL, "x.md"},
        {"attachment; filename=\"a;b.txt\"", "https://example.org/y", NULL, "a;b.txt"},
        {"attachment; filename=x; filename*=UTF-8''%E2%82%AC.txt", "https://example.org/y", NULL, "€.txt"},
        {"attachment; filename=\"C:\\\\dir\\\\z.doc\"", "https://example.org/y", NULL, "z.doc"},
        {"inline", "https://example.org/y.csv", NULL, "y.csv"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *name = fetch_name(cases[i].disposition, cases[i].url, cases[i].type);
        assert_non_null(name);
        assert_string_equal(name, cases[i].want);
        assert_null(strchr(name, '/'));
        assert_true(name[0] && name[0] != '.');
        free(name);
    }
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], INGEST_CHILD_ARGUMENT)) return ingest_child_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fetches),      cmocka_unit_test(failures),
        cmocka_unit_test(stopping),     cmocka_unit_test(refused_spellings),
        cmocka_unit_test(refused_urls), cmocka_unit_test(addresses),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
