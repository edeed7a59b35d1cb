/* test_serve_http.c - what must not get in: each row on HTTP of the list of ways in, with curl and with raw
 * sockets. And that every reply, errors too, tells a browser to run nothing of it. */
#include "tests/test_serve.h"

#include "appliance/api.h"

static world *shared;

static int set_up(void **state) {
    (void)state;
    serve_options o = {.upload_bytes = 1 << 20, .header_seconds = 2, .idle_seconds = 5};
    shared = world_new(&o, 0);
    wait_ready(shared);
    return 0;
}
static int tear_down(void **state) {
    (void)state;
    world_free(shared);
    return 0;
}

/* ---- Host and Origin ---- */

static void hosts(void **state) {
    (void)state;
    char own[64], wrong[64], upper[64], six[64];
    snprintf(own, sizeof own, "127.0.0.1:%d", shared->port);
    snprintf(upper, sizeof upper, "LocalHost:%d", shared->port);
    snprintf(six, sizeof six, "[::1]:%d", shared->port);
    snprintf(wrong, sizeof wrong, "127.0.0.1:%d", shared->port == 1 ? 2 : shared->port - 1);
    const struct {
        const char *host;
        int status;
    } cases[] = {{own, 200},
                 {upper, 200},
                 {six, 200},
                 {"localhost", 200},
                 {wrong, 403},
                 {"evil.example", 403},
                 {"localhost.evil.example", 403},
                 {"127.0.0.1.evil.example", 403},
                 {"evil.example:80", 403},
                 {"127.0.0.2", 403},
                 {"0.0.0.0", 403},
                 {"localhost:", 403},
                 {"localhost:x", 403},
                 {"localhost:99999999", 403},
                 {"", 403},
                 {"localhost, evil.example", 403},
                 {"user@localhost", 403}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char request[300];
        int n = snprintf(request, sizeof request,
                         "GET /health HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", cases[i].host);
        int status = raw_status(shared->port, request, (size_t)n);
        if (status != cases[i].status)
            fail_msg("Host: %s gave %d, not %d", cases[i].host, status, cases[i].status);
    }
}

static int raw(const char *text) {
    return raw_status(shared->port, text, strlen(text));
}

static void host_absent_or_twice(void **state) {
    (void)state;
    assert_int_equal(raw("GET /health HTTP/1.1\r\nConnection: close\r\n\r\n"), 403);
    assert_int_equal(raw("GET /health HTTP/1.0\r\n\r\n"), 403);
    assert_int_equal(raw("GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"), 403);
    assert_int_equal(raw("GET /health HTTP/1.1\r\nHost: localhost\r\nhost: evil.example\r\n\r\n"), 403);
    /* In the request line instead, where it would go before the header. */
    assert_int_not_equal(raw("GET http://evil.example/health HTTP/1.1\r\nHost: localhost\r\n\r\n"), 200);
}

static void origins(void **state) {
    (void)state;
    char own[80], other_port[80];
    snprintf(own, sizeof own, "Origin: http://127.0.0.1:%d", shared->port);
    snprintf(other_port, sizeof other_port, "Origin: http://127.0.0.1:%d",
             shared->port == 1 ? 2 : shared->port - 1);
    const char *const bad[] = {"Origin: null",
                               "Origin: http://evil.example",
                               "Origin: https://evil.example",
                               other_port,
                               "Origin: http://localhost",
                               "Origin: file://",
                               "Origin: http://127.0.0.1",
                               "Origin;"};
    reply r = SEND(shared, .method = "GET", .path = "/api/v1/status", .headers = {own});
    assert_int_equal(r.status, 200);
    reply_free(&r);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        expect_refused(SEND(shared, .method = "GET", .path = "/api/v1/status", .headers = {bad[i]}), 403,
                       bad[i]);
        expect_refused(SEND(shared, .method = "POST", .path = "/api/v1/ask", .json = "{\"question\":\"x\"}",
                            .headers = {bad[i]}),
                       403, bad[i]);
        expect_refused(SEND(shared, .method = "PUT", .path = "/api/v1/documents?name=x", .bytes = "x", .n = 1,
                            .headers = {bad[i]}),
                       403, bad[i]);
        expect_refused(SEND(shared, .method = "DELETE", .path = "/api/v1/documents/1", .headers = {bad[i]}),
                       403, bad[i]);
        expect_refused(SEND(shared, .method = "OPTIONS", .path = "/api/v1/ask", .headers = {bad[i]}), 403,
                       bad[i]);
    }
    static const char *const types[] = {"Content-Type: text/plain",
                                        "Content-Type: multipart/form-data; boundary=x",
                                        "Content-Type: application/x-www-form-urlencoded",
                                        "Content-Type: application/jsonp", "Content-Type:"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        const char *body = "{\"question\":\"x\"}";
        expect_refused(SEND(shared, .method = "POST", .path = "/api/v1/ask", .bytes = body, .n = strlen(body),
                            .headers = {types[i], "Origin: http://evil.example"}),
                       403, types[i]);
        expect_refused(SEND(shared, .method = "POST", .path = "/api/v1/ask", .bytes = body, .n = strlen(body),
                            .headers = {types[i]}),
                       415, types[i]);
    }
    static const char *const sites[] = {"Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"};
    for (size_t i = 0; i < 2; i++) {
        expect_refused(SEND(shared, .method = "GET", .path = "/api/v1/documents", .headers = {sites[i]}), 403,
                       sites[i]);
        r = SEND(shared, .method = "GET", .path = "/", .headers = {sites[i]}); /* a link to the page */
        assert_int_equal(r.status, 200);
        reply_free(&r);
    }
    r = SEND(shared, .method = "GET", .path = "/api/v1/status", .headers = {"Sec-Fetch-Site: same-origin"});
    assert_int_equal(r.status, 200);
    assert_null(header_of(&r, "Access-Control-Allow-Origin"));
    reply_free(&r);
}

/* ---- malformed and endless ---- */

#define H "Host: localhost\r\n"

static void smuggling(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int low, high;
    } cases[] = {
        {"POST /api/v1/ask HTTP/1.1\r\n" H "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400, 400},
        {"POST /api/v1/ask HTTP/1.1\r\n" H "Content-Length: 2\r\nContent-Length: 30\r\n\r\n{}", 400, 400},
        {"POST /api/v1/ask HTTP/1.1\r\n" H
         "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
         400, 400},
        {"POST /api/v1/ask HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400,
         411},
        {"POST /api/v1/ask HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400, 411},
        {"POST /api/v1/ask HTTP/1.1\r\n" H "\r\n", 400, 411},
        {"PUT /api/v1/documents?name=x HTTP/1.1\r\n" H "\r\n", 411, 411},
        {"POST /api/v1/ask HTTP/1.1\r\n" H "Content-Length: -2\r\n\r\n{}", 400, 400},
        {"POST /api/v1/ask HTTP/1.1\r\n" H "Content-Length: +2\r\n\r\n{}", 400, 400},
        {"POST /api/v1/ask HTTP/1.1\r\n" H "Content-Length: 2a\r\n\r\n{}", 400, 400},
        {"POST /api/v1/ask HTTP/1.1\r\n" H "Content-Length: 2, 2\r\n\r\n{}", 400, 400},
        {"POST /api/v1/ask HTTP/1.1\r\n" H "Content-Length: 0x2\r\n\r\n{}", 400, 400},
        {"POST /api/v1/ask HTTP/1.1\r\n" H "Content-Length: NaN\r\n\r\n{}", 400, 400},
        {"POST /api/v1/ask HTTP/1.1\r\n" H "Content-Length:\r\n\r\n{}", 400, 411},
        {"POST /api/v1/ask HTTP/1.1\r\n" H "Content-Length: 99999999999999999999999\r\n\r\n{}", 400, 413},
        {"POST /api/v1/ask HTTP/1.1\r\n" H "Content-Length: 18446744073709551617\r\n\r\n{}", 400, 413},
        {"POST /api/v1/ask HTTP/1.1\r\n" H "Content-Length : 2\r\n\r\n{}", 400, 411},
        {"GET /health HTTP/1.1\r\n" H "X\x01y: 2\r\n\r\n", 400, 400},
        {"GET /health HTTP/1.1\r\n" H "X Y: 2\r\n\r\n", 400, 400},
        {"GET /health HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello", 400, 400},
        {"GET /hea\rlth HTTP/1.1\r\n" H "\r\n", 400, 404},
        {"GET /health HTTP/9.9\r\n" H "\r\n", 400, 505},
        {"NONSENSE\r\n\r\n", 0, 505},
        {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", -1, 505},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = raw(cases[i].text);
        if (status < cases[i].low || status > cases[i].high || status == 200)
            fail_msg("%.100s... gave %d", cases[i].text, status);
    }
    assert_int_equal(raw("GET /health HTTP/1.1\r\n" H "Connection: close\r\n\r\n"), 200); /* it lives */
}

/* What follows a refused body is not taken for a request. */
static void refused_bodies_hide_no_request(void **state) {
    (void)state;
    static const char *const cases[] = {
        "POST /api/v1/ask HTTP/1.1\r\n" H
        "Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}GET /health HTTP/1.1\r\n" H "\r\n",
        "POST /api/v1/ask HTTP/1.1\r\n" H
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /health "
        "HTTP/1.1\r\n" H "\r\n"};
    for (size_t i = 0; i < 2; i++) {
        int fd = raw_open(shared->port);
        raw_write(fd, cases[i], strlen(cases[i]));
        char *text = raw_read(fd, 1, NULL);
        assert_null(strstr(text, "200 OK"));
        free(text);
        close(fd);
    }
}

/* What the library refuses before it becomes a request is refused in our form, with the headers of all
 * replies, and with nothing that a browser would take for a page. */
static void the_library_s_own_errors(void **state) {
    (void)state;
    size_t n = 70000;
    char *text = malloc(n + 100);
    sprintf(text, "GET /");
    memset(text + 5, 'a', n);
    strcpy(text + 5 + n, " HTTP/1.1\r\n" H "\r\n");
    const struct {
        const char *request;
        int status;
    } cases[] = {{text, 414},
                 {"GET /health HTTP/1.1\r\n" H "no colon here\r\n\r\n", 400},
                 {"GET /health HTTP/2.0\r\n" H "\r\n", 505},
                 {"POST /api/v1/ask HTTP/1.1\r\n" H "Content-Length: zz\r\n\r\n", 400},
                 {"POST /api/v1/ask HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 0}};
    static const char *const headers[] = {"Content-Type: application/json",
                                          "X-Content-Type-Options: nosniff",
                                          "Referrer-Policy: no-referrer",
                                          "X-Frame-Options: DENY",
                                          "Content-Security-Policy: default-src 'none'",
                                          "Cache-Control: no-store",
                                          "Connection: close"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int fd = raw_open(shared->port);
        bool closed = false;
        raw_write(fd, cases[i].request, strlen(cases[i].request));
        char *got = raw_read(fd, 5, &closed), *body = strstr(got, "\r\n\r\n");
        assert_true(closed);
        if (!body) fail_msg("case %zu: %s", i, got);
        if (cases[i].status && atoi(got + 9) != cases[i].status) fail_msg("case %zu: %.40s", i, got);
        assert_null(strstr(got, "<html"));
        for (size_t k = 0; k < sizeof headers / sizeof *headers; k++)
            if (!strstr(got, headers[k])) fail_msg("case %zu has no %s: %s", i, headers[k], got);
        char *second = strstr(body, "}}");
        if (second) second[2] = 0; /* the library may say it twice */
        json_t *v = parse_json(body + 4);
        assert_true(json_string_length(json_object_get(json_object_get(v, "error"), "message")) > 0);
        json_decref(v);
        free(got);
        close(fd);
    }
    free(text);
}

static void huge_heads(void **state) {
    (void)state;
    size_t n = 200000;
    char *text = malloc(n + 100);
    int at = sprintf(text, "GET /health HTTP/1.1\r\n" H "X: ");
    memset(text + at, 'a', n - (size_t)at);
    int status = raw_status(shared->port, text, n); /* never ends */
    assert_true(status == 0 || (status >= 400 && status < 500));
    at = sprintf(text, "GET /");
    memset(text + at, 'a', n - (size_t)at);
    status = raw_status(shared->port, text, n);
    assert_true(status == 0 || (status >= 400 && status < 500));
    at = sprintf(text, "GET /health HTTP/1.1\r\n" H);
    for (int i = 0; i < 150; i++) at += sprintf(text + at, "X-%d: 1\r\n", i);
    at += sprintf(text + at, "\r\n");
    assert_int_equal(raw_status(shared->port, text, (size_t)at), 400);
    free(text);
}

/* A head that comes byte by byte has a deadline as a whole; so has a short body. */
static void slow_heads_and_bodies(void **state) {
    (void)state;
    static const char *const starts[] = {"GET /health HTTP/1.1\r\nX: ",
                                         "POST /api/v1/ask HTTP/1.1\r\n" H
                                         "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"};
    for (size_t i = 0; i < 2; i++) {
        int fd = raw_open(shared->port);
        double began = seconds_now();
        bool closed = false;
        raw_write(fd, starts[i], strlen(starts[i]));
        while (!closed && seconds_now() - began < 10) {
            raw_write(fd, " ", 1);
            free(raw_read(fd, 0.2, &closed));
        }
        assert_true(closed);
        assert_true(seconds_now() - began < 6);
        close(fd);
    }
}

/* ---- names, ids, numbers, JSON ---- */

static void hostile_paths(void **state) {
    (void)state;
    static const char *const paths[] = {"/../etc/passwd",
                                        "/api/v1/documents/../status",
                                        "/api/v1/documents/%2e%2e/status",
                                        "/%2e%2e/%2e%2e/etc/passwd",
                                        "/api/v1/documents/1%00",
                                        "/api/v1/documents/%31",
                                        "/api/v1//status",
                                        "/api/v1/./status",
                                        "/api\\v1\\status",
                                        "/api/v1/documents/-1",
                                        "/api/v1/documents/0",
                                        "/api/v1/documents/+1",
                                        "/api/v1/documents/1e3",
                                        "/api/v1/documents/NaN",
                                        "/api/v1/documents/1.0",
                                        "/api/v1/documents/abc",
                                        "/api/v1/documents/99999999999999999999",
                                        "/api/v1/documents/1;x",
                                        "/api/v1/answers/-1/trace",
                                        "/api/v1/jobs/x",
                                        "/api/v1/documents/",
                                        "/\xC3\xA9"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        expect_refused(SEND(shared, .method = "GET", .path = paths[i]), 400, paths[i]);
    static const char in_path[] = "GET /health\0/x HTTP/1.1\r\n" H "\r\n";
    static const char in_name[] =
        "PUT /api/v1/documents?name=a\0b HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\nx";
    assert_int_equal(raw_status(shared->port, in_path, sizeof in_path - 1), 400);
    assert_int_equal(raw_status(shared->port, in_name, sizeof in_name - 1), 400);
}

static void hostile_names(void **state) {
    (void)state;
    char long_name[1200], path[2400];
    memset(long_name, 'a', sizeof long_name);
    long_name[sizeof long_name - 1] = 0;
    const char *const names[] = {
        "..",    "../x", "a/../b", "%2e%2e%2fx", "%2Fetc%2Fpasswd", "a//b",   "a/",        "a%00b", "%00",
        "a%5Cb", "%0Ax", "%7F",    "%C2%85",     "%FF%FE",          "%C0%AF", "%ED%A0%80", "%",     "%2",
        "%zz",   "",     ".",      "./x",        "a/./b",           long_name};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "/api/v1/documents?name=%s", names[i]);
        expect_refused(SEND(shared, .method = "PUT", .path = path, .bytes = "x", .n = 1), 400, path);
    }
    expect_refused(SEND(shared, .method = "PUT", .path = "/api/v1/documents", .bytes = "x", .n = 1), 400,
                   "no name");
    expect_refused(
        SEND(shared, .method = "PUT", .path = "/api/v1/documents?name=a&name=b", .bytes = "x", .n = 1), 400,
        "two names");
    json_t *listed = GET_JSON(shared, "/api/v1/jobs");
    assert_int_equal(json_array_size(json_object_get(listed, "jobs")), 0);
    json_decref(listed);
}

static void hostile_numbers(void **state) {
    (void)state;
    int64_t id = add_document(shared, "numbers.txt", "One two three. Four five six.");
    static const char *const tails[] = {"text?start=-1",
                                        "text?start=x",
                                        "text?end=NaN",
                                        "text?start=1e2",
                                        "text?start=5&end=2",
                                        "text?start=9999",
                                        "text?start=1&start=2",
                                        "segments?page=0",
                                        "segments?limit=0",
                                        "segments?limit=-5",
                                        "segments?limit=99999999999999999999",
                                        "segments?start=%31%00"};
    char path[200];
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        snprintf(path, sizeof path, "/api/v1/documents/%lld/%s", (long long)id, tails[i]);
        expect_refused(SEND(shared, .method = "GET", .path = path), 400, path);
    }
    expect_refused(SEND(shared, .method = "GET", .path = "/api/v1/answers?limit=-1"), 400, "limit");
}

static void hostile_json(void **state) {
    (void)state;
    char *deep = malloc(200001);
    memset(deep, '[', 100000);
    memset(deep + 100000, ']', 100000);
    deep[200000] = 0;
    char nested[400] = "{\"question\":";
    memset(nested + 12, '[', 40);
    memset(nested + 52, ']', 40);
    strcpy(nested + 92, "}");
    const char *const bodies[] = {deep,
                                  nested,
                                  "",
                                  "{",
                                  "[]",
                                  "\"x\"",
                                  "null",
                                  "{\"question\":NaN}",
                                  "{\"question\":\"x\",\"max_tokens\":NaN}",
                                  "{\"question\":\"x\",\"max_tokens\":Infinity}",
                                  "{\"question\":\"x\",\"max_tokens\":-1}",
                                  "{\"question\":\"x\",\"max_tokens\":0}",
                                  "{\"question\":\"x\",\"max_tokens\":1.5}",
                                  "{\"question\":\"x\",\"max_tokens\":\"8\"}",
                                  "{\"question\":\"x\",\"max_tokens\":1e999}",
                                  "{\"question\":\"x\",\"max_tokens\":99999999999999999999}",
                                  "{\"question\":\"x\",\"temperature\":-0.1}",
                                  "{\"question\":\"x\",\"top_p\":2}",
                                  "{\"question\":\"x\",\"documents\":[-1]}",
                                  "{\"question\":\"x\",\"documents\":[]}",
                                  "{\"question\":\"x\",\"documents\":[\"../x\"]}",
                                  "{\"question\":\"x\",\"documents\":1}",
                                  "{\"question\":\"x\",\"pack\":-3}",
                                  "{\"question\":\"x\",\"question\":\"y\"}",
                                  "{\"question\":\"x\",\"qestion\":\"y\"}",
                                  "{\"question\":\"\"}",
                                  "{\"question\":\" \\n\"}",
                                  "{\"question\":\"a\\u0000b\"}",
                                  "{\"question\":\"\\ud800\"}",
                                  "{\"question\":\"\xff\"}",
                                  "{\"question\":1}",
                                  "{}"};
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        expect_refused(SEND(shared, .method = "POST", .path = "/api/v1/ask", .json = bodies[i]), 400,
                       i < 1 ? "deep" : bodies[i]);
    free(deep);
    char *large = malloc(3 << 20);
    memset(large, ' ', (3 << 20) - 1);
    large[(3 << 20) - 1] = 0;
    expect_refused(SEND(shared, .method = "POST", .path = "/api/v1/ask", .json = large), 413, "a large body");
    /* Within the body's limit, and too long for a question. */
    int at = sprintf(large, "{\"question\":\"");
    memset(large + at, 'q', 100000);
    strcpy(large + at + 100000, "\"}");
    expect_refused(SEND(shared, .method = "POST", .path = "/api/v1/ask", .json = large), 413,
                   "a long question");
    free(large);
}

static void uploads_are_bounded(void **state) {
    (void)state;
    size_t n = (1 << 20) + 1;
    char *bytes = calloc(1, n);
    reply r = SEND(shared, .method = "PUT", .path = "/api/v1/documents?name=large", .bytes = bytes, .n = n);
    assert_int_equal(r.status, 413);
    assert_non_null(strstr(r.body, "1048577"));
    assert_non_null(strstr(r.body, "1048576"));
    reply_free(&r);
    expect_refused(SEND(shared, .method = "PUT", .path = "/api/v1/documents?name=empty", .bytes = "", .n = 0),
                   400, "empty");
    free(bytes);
    /* Says that it brings more than it does: nothing is kept of it. */
    int fd = raw_open(shared->port);
    static const char text[] =
        "PUT /api/v1/documents?name=short HTTP/1.1\r\n" H "Content-Length: 1000\r\n\r\nonly this MARKERSHORT";
    raw_write(fd, text, sizeof text - 1);
    usleep(200000);
    close(fd);
    for (double until = seconds_now() + 60;
         seconds_now() < until && files_holding(shared->dir, "MARKERSHORT", 11);)
        usleep(20000);
    assert_int_equal(files_holding(shared->dir, "MARKERSHORT", 11), 0);
}

/* ---- what every reply carries ---- */

static void check_headers(const call *c, long status) {
    reply r = send_call(shared->port, c);
    if (r.status != status) fail_msg("%s %s: %ld, not %ld", c->method, c->path, r.status, status);
    const char *csp = header_of(&r, "Content-Security-Policy");
    if (!csp || !strstr(csp, "default-src 'none'") || !strstr(csp, "frame-ancestors 'none'") ||
        strstr(csp, "unsafe"))
        fail_msg("%s: policy %s", c->path, csp ? csp : "none");
    const char *value = header_of(&r, "X-Content-Type-Options");
    if (!value || strcmp(value, "nosniff")) fail_msg("%s: no nosniff", c->path);
    value = header_of(&r, "Referrer-Policy");
    if (!value || strcmp(value, "no-referrer")) fail_msg("%s: no no-referrer", c->path);
    value = header_of(&r, "Cross-Origin-Resource-Policy");
    if (!value || strcmp(value, "same-origin")) fail_msg("%s: another site may load it", c->path);
    assert_null(header_of(&r, "Access-Control-Allow-Origin"));
    reply_free(&r);
}

static void every_reply_is_inert(void **state) {
    (void)state;
    static const call cases[] = {{.method = "GET", .path = "/"},
                                 {.method = "GET", .path = "/openapi.json"},
                                 {.method = "GET", .path = "/health"},
                                 {.method = "GET", .path = "/metrics"},
                                 {.method = "GET", .path = "/api/v1/documents"},
                                 {.method = "GET", .path = "/api/v1/status"},
                                 {.method = "GET", .path = "/v1/models"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_headers(&cases[i], 200);
    check_headers(&(call){.method = "GET", .path = "/nothing"}, 404);
    check_headers(&(call){.method = "GET", .path = "/api/v1/nothing"}, 404);
    check_headers(&(call){.method = "GET", .path = "/api/v1/documents/4711"}, 404);
    check_headers(&(call){.method = "POST", .path = "/api/v1/documents", .json = "{}"}, 405);
    check_headers(&(call){.method = "GET", .path = "/api/v1/documents/x"}, 400);
    check_headers(&(call){.method = "GET", .path = "/", .headers = {"Host: evil.example"}}, 403);
}

/* A file's name and text are other people's: they come back as data, whatever is in them. */
static void script_in_names_is_inert(void **state) {
    (void)state;
    static const char name[] = "<img src=x onerror=alert(1)>.html";
    static const char text[] =
        "<!doctype html><title><script>alert(1)</script></title><script>alert(2)</script>"
        "<p>plain words \"quoted\"</p>";
    int64_t id = add_document(shared, name, text);
    char path[100];
    snprintf(path, sizeof path, "/api/v1/documents/%lld", (long long)id);
    reply r = SEND(shared, .method = "GET", .path = path);
    assert_string_equal(header_of(&r, "Content-Type"), "application/json");
    json_t *d = json_reply(r, 200, path);
    assert_string_equal(text_of(d, "name"), name);
    json_decref(d);
    snprintf(path, sizeof path, "/api/v1/documents/%lld/file", (long long)id);
    r = SEND(shared, .method = "GET", .path = path);
    assert_int_equal(r.status, 200);
    assert_string_equal(header_of(&r, "Content-Type"), "application/octet-stream");
    assert_non_null(strstr(header_of(&r, "Content-Security-Policy"), "sandbox"));
    const char *disposition = header_of(&r, "Content-Disposition");
    assert_non_null(strstr(disposition, "attachment"));
    assert_null(strchr(disposition, '<'));
    assert_string_equal(r.body, text);
    reply_free(&r);
}

static void methods_and_pages(void **state) {
    (void)state;
    reply r = SEND(shared, .method = "PATCH", .path = "/api/v1/documents", .json = "{}");
    assert_int_equal(r.status, 405);
    assert_non_null(strstr(header_of(&r, "Allow"), "PUT"));
    assert_non_null(strstr(header_of(&r, "Allow"), "GET"));
    reply_free(&r);
    r = SEND(shared, .method = "GET", .path = "/openapi.json");
    char etag[128];
    snprintf(etag, sizeof etag, "If-None-Match: %s", header_of(&r, "ETag"));
    size_t plain = r.body_len;
    reply_free(&r);
    r = SEND(shared, .method = "GET", .path = "/openapi.json", .headers = {etag});
    assert_int_equal(r.status, 304);
    reply_free(&r);
    r = SEND(shared, .method = "GET", .path = "/openapi.json", .headers = {"Accept-Encoding: gzip"});
    assert_string_equal(header_of(&r, "Content-Encoding"), "gzip");
    assert_true(r.body_len < plain / 2);
    reply_free(&r);
}

/* ---- openapi.json and the route table say the same ---- */

static void openapi_lists_the_routes(void **state) {
    (void)state;
    static const char *const methods[] = {"get", "put", "post", "delete", "patch", "head", "options", NULL};
    json_t *spec = GET_JSON(shared, "/openapi.json"), *paths = json_object_get(spec, "paths"), *path;
    size_t described = 0, routes = 0;
    const char *name;
    assert_true(json_is_object(paths));
    json_object_foreach(paths, name, path) {
        for (int i = 0; methods[i]; i++) {
            if (!json_object_get(path, methods[i])) continue;
            described++;
            const api_route *r = api_routes;
            while (r->method && (strcmp(r->path, name) || strcasecmp(r->method, methods[i]))) r++;
            if (!r->method) fail_msg("openapi.json has %s %s, the server has not", methods[i], name);
        }
    }
    for (const api_route *r = api_routes; r->method; r++) {
        char method[16] = "";
        for (size_t i = 0; r->method[i] && i < 15; i++) method[i] = (char)(r->method[i] | 32);
        json_t *op = json_object_get(json_object_get(paths, r->path), method);
        if (!op) fail_msg("the server has %s %s, openapi.json has not", r->method, r->path);
        bool free_for_all = json_is_array(json_object_get(op, "security"));
        if (free_for_all != (r->role == ROLE_NONE))
            fail_msg("who may call %s is described otherwise", r->path);
        routes++;
    }
    assert_int_equal(described, routes);
    json_decref(spec);
}

/* ---- tokens ---- */

static void tokens_and_roles(void **state) {
    (void)state;
    char *folder = make_folder();
    char file[4096];
    snprintf(file, sizeof file, "%s/tokens", folder);
    write_text(
        file,
        "# people\nask reader-0123456789abcdef\nask another-0123456789abc\nmanage keeper-0123456789abcdef\n");
    chmod(file, 0600);
    world *w = world_new(&(serve_options){.token_file = file}, 0);
    wait_ready(w); /* /health needs none */
    const char *ask = "Authorization: Bearer reader-0123456789abcdef";
    const char *other = "Authorization: Bearer another-0123456789abc";
    const char *keep = "Authorization: Bearer keeper-0123456789abcdef";
    expect_refused(SEND(w, .method = "GET", .path = "/api/v1/documents"), 401, "no token");
    static const char *const wrong[] = {
        "Authorization: Bearer reader-0123456789abcde", "Authorization: Bearer ",
        "Authorization: Basic cmVhZGVyLTAxMjM=", "Authorization: reader-0123456789abcdef"};
    for (size_t i = 0; i < 4; i++)
        expect_refused(SEND(w, .method = "GET", .path = "/api/v1/documents", .headers = {wrong[i]}), 401,
                       wrong[i]);
    expect_refused(SEND(w, .method = "GET", .path = "/api/v1/documents", .headers = {ask, keep}), 401,
                   "two tokens");
    expect_refused(SEND(w, .method = "PUT", .path = "/api/v1/documents?name=a", .bytes = "text", .n = 4,
                        .headers = {ask}),
                   403, "ask adds");
    expect_refused(SEND(w, .method = "DELETE", .path = "/api/v1/documents/1", .headers = {ask}), 403,
                   "ask erases");
    json_t *received = json_reply(SEND(w, .method = "PUT", .path = "/api/v1/documents?name=a.txt",
                                       .bytes = "The lamp burns oil. ", .n = 20, .headers = {keep}),
                                  202, "keeper adds");
    json_decref(received);
    for (int i = 0; i < 200; i++) {
        json_t *list =
            json_reply(SEND(w, .method = "GET", .path = "/api/v1/documents", .headers = {ask}), 200, "list");
        size_t n = json_array_size(json_object_get(list, "documents"));
        json_decref(list);
        if (n) break;
        usleep(20000);
    }
    json_t *a = json_reply(SEND(w, .method = "POST", .path = "/api/v1/ask", .headers = {ask},
                                .json = "{\"question\":\"What burns?\",\"max_tokens\":4}"),
                           200, "ask");
    char path[64];
    snprintf(path, sizeof path, "/api/v1/answers/%lld", (long long)integer_of(a, "id"));
    json_decref(a);
    /* One's questions are not another's, the keeper's of the documents neither. */
    json_decref(json_reply(SEND(w, .method = "GET", .path = path, .headers = {ask}), 200, "own"));
    expect_refused(SEND(w, .method = "GET", .path = path, .headers = {other}), 404, "another's");
    expect_refused(SEND(w, .method = "DELETE", .path = path, .headers = {other}), 404, "another's");
    json_t *none =
        json_reply(SEND(w, .method = "GET", .path = "/api/v1/answers", .headers = {other}), 200, "list");
    assert_int_equal(json_array_size(json_object_get(none, "answers")), 0);
    json_decref(none);
    expect_refused(SEND(w, .method = "GET", .path = path, .headers = {keep}), 404, "the keeper");
    /* No token stands anywhere in what the server keeps. */
    assert_int_equal(files_holding(w->dir, "reader-0123", 11), 0);
    world_free(w);

    static const char *const bad_files[] = {"", "short\n", "boss keeper-0123456789abcdef\n", "ask a b c\n"};
    for (size_t i = 0; i < 4; i++) {
        ph_error err = {0};
        serve *s = NULL;
        write_text(file, bad_files[i]);
        chmod(file, 0600);
        serve_options o = {.data_dir = folder, .token_file = file, .open_engine = open_tiny, .user = folder};
        assert_int_equal(serve_start(&s, &o, &err), PH_USAGE);
    }
    write_text(file, "keeper-0123456789abcdef\n");
    chmod(file, 0644);
    ph_error err = {0};
    serve *s = NULL;
    serve_options o = {.data_dir = folder, .token_file = file, .open_engine = open_tiny, .user = folder};
    assert_int_equal(serve_start(&s, &o, &err), PH_USAGE);
    o = (serve_options){.data_dir = folder, .listen = "0.0.0.0", .open_engine = open_tiny, .user = folder};
    assert_int_equal(serve_start(&s, &o, &err), PH_USAGE);
    assert_non_null(strstr(err.text, "--token-file"));
    remove_folder(folder);
}

/* ---- tokens of the store ---- */

/* "Authorization: Bearer ..." of a new token. */
static void new_token(world *w, const char *name, store_role kind, char header[100]) {
    char token[STORE_TOKEN_CHARACTERS + 1];
    store *s = NULL;
    ph_error err = {0};
    int64_t id = 0;
    if (store_open(&s, w->dir, &err) || store_token_add(s, name, kind, token, &id, &err))
        fail_msg("%s", err.text);
    assert_int_equal(strlen(token), STORE_TOKEN_CHARACTERS);
    store_close(s);
    snprintf(header, 100, "Authorization: Bearer %s", token);
    assert_int_equal(files_holding(w->dir, token, 20), 0); /* a hash is kept, and no more */
}

static size_t answers_of(world *w, const char *header) {
    json_t *v =
        json_reply(SEND(w, .method = "GET", .path = "/api/v1/answers", .headers = {header}), 200, "answers");
    size_t n = json_array_size(json_object_get(v, "answers"));
    json_decref(v);
    return n;
}

static void ask_as(world *w, const char *header, bool chat, char path[64]) {
    json_t *v;
    if (chat) {
        json_t *models =
            json_reply(SEND(w, .method = "GET", .path = "/v1/models", .headers = {header}), 200, "models");
        json_t *body = json_pack("{s:s, s:[{s:s, s:s}], s:i}", "model",
                                 text_of(json_array_get(json_object_get(models, "data"), 0), "id"),
                                 "messages", "role", "user", "content", "What burns?", "max_tokens", 4);
        char *text = json_dumps(body, 0);
        v = json_reply(
            SEND(w, .method = "POST", .path = "/v1/chat/completions", .json = text, .headers = {header}), 200,
            "chat");
        snprintf(path, 64, "/api/v1/answers/%lld",
                 (long long)integer_of(json_object_get(v, "pharos"), "answer_id"));
        free(text);
        json_decref(body);
        json_decref(models);
    } else {
        v = json_reply(SEND(w, .method = "POST", .path = "/api/v1/ask", .headers = {header},
                            .json = "{\"question\":\"What burns?\",\"max_tokens\":4}"),
                       200, "ask");
        snprintf(path, 64, "/api/v1/answers/%lld", (long long)integer_of(v, "id"));
    }
    json_decref(v);
}

/* A question, its answer and its trace: the owner's, and nobody else's. */
static void only_for(world *w, const char *path, const char *mine, const char *const *others, size_t n) {
    char trace[80];
    snprintf(trace, sizeof trace, "%s/trace", path);
    json_decref(json_reply(SEND(w, .method = "GET", .path = path, .headers = {mine}), 200, "own answer"));
    json_decref(json_reply(SEND(w, .method = "GET", .path = trace, .headers = {mine}), 200, "own trace"));
    for (size_t i = 0; i < n; i++) {
        expect_refused(SEND(w, .method = "GET", .path = path, .headers = {others[i]}), 404,
                       "another's answer");
        expect_refused(SEND(w, .method = "GET", .path = trace, .headers = {others[i]}), 404,
                       "another's trace");
        expect_refused(SEND(w, .method = "DELETE", .path = path, .headers = {others[i]}), 404,
                       "another's answer");
    }
}

static void what_is_asked_is_the_asker_s(void **state) {
    (void)state;
    world *w = world_new(NULL, 0);
    char one[100], two[100], keeper[100], by_one[64], by_two[64], before[64];
    wait_ready(w);
    /* Without any token everyone on this machine may do everything; what is asked then is nobody's. */
    document_becomes(w, add_document(w, "lamp.txt", "The lamp burns oil. Ships see it."), "ready");
    ask_as(w, "X: y", false, before);
    new_token(w, "one", STORE_ASK, one);
    new_token(w, "two", STORE_ASK, two);
    new_token(w, "keeper", STORE_MANAGE, keeper);
    expect_refused(SEND(w, .method = "GET", .path = "/api/v1/answers"), 401, "no token any more");
    ask_as(w, one, false, by_one);
    ask_as(w, two, true, by_two);
    const char *not_one[] = {two, keeper}, *not_two[] = {one, keeper}, *all[] = {one, two, keeper};
    for (int restarted = 0; restarted < 2; restarted++) {
        only_for(w, by_one, one, not_one, 2);
        only_for(w, by_two, two, not_two, 2);
        assert_int_equal(answers_of(w, one), 1);
        assert_int_equal(answers_of(w, two), 1);
        assert_int_equal(answers_of(w, keeper), 0);
        for (int i = 0; i < 3; i++)
            expect_refused(SEND(w, .method = "GET", .path = before, .headers = {all[i]}), 404, "nobody's");
        expect_refused(SEND(w, .method = "PUT", .path = "/api/v1/documents?name=a", .bytes = "text", .n = 4,
                            .headers = {one}),
                       403, "ask adds");
        json_decref(json_reply(SEND(w, .method = "GET", .path = "/api/v1/documents", .headers = {keeper}),
                               200, "keeper"));
        serve_stop(w->server);
        world_start(w);
        wait_ready(w);
    }
    /* Revoked: nobody comes in with it, and its questions go where that was asked for. */
    store *s = NULL;
    store_receipt r;
    assert_int_equal(store_open(&s, w->dir, NULL), 0);
    assert_int_equal(store_token_remove(s, "one", true, &r, NULL), 0);
    assert_int_equal(r.answers, 1);
    assert_int_equal(store_token_remove(s, "one", true, &r, NULL), PH_NOT_FOUND);
    expect_refused(SEND(w, .method = "GET", .path = "/api/v1/answers", .headers = {one}), 401, "revoked");
    only_for(w, by_two, two, (const char *[]){keeper}, 1);
    assert_int_equal(store_token_remove(s, "two", false, &r, NULL), 0);
    assert_int_equal(r.answers, 0);
    assert_int_equal(store_token_remove(s, "keeper", false, &r, NULL), 0);
    store_close(s);
    expect_refused(SEND(w, .method = "GET", .path = "/api/v1/documents"), 401, "none left: still closed");
    world_free(w);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(hosts),
    cmocka_unit_test(host_absent_or_twice),
    cmocka_unit_test(origins),
    cmocka_unit_test(smuggling),
    cmocka_unit_test(the_library_s_own_errors),
    cmocka_unit_test(refused_bodies_hide_no_request),
    cmocka_unit_test(huge_heads),
    cmocka_unit_test(slow_heads_and_bodies),
    cmocka_unit_test(hostile_paths),
    cmocka_unit_test(hostile_names),
    cmocka_unit_test(hostile_numbers),
    cmocka_unit_test(hostile_json),
    cmocka_unit_test(uploads_are_bounded),
    cmocka_unit_test(every_reply_is_inert),
    cmocka_unit_test(script_in_names_is_inert),
    cmocka_unit_test(methods_and_pages),
    cmocka_unit_test(openapi_lists_the_routes),
    cmocka_unit_test(tokens_and_roles),
    cmocka_unit_test(what_is_asked_is_the_asker_s),
};

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], INGEST_CHILD_ARGUMENT)) return ingest_child_main(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
