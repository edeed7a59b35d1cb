/* test_serve_crowd.c - fifty clients at once: nothing but answers and "come back later", memory that does not
 * grow, a queue that drains. 20 seconds; CROWD_SECONDS=60 for the minute. */
#include "tests/test_serve.h"

#include <pthread.h>

#define ASK "{\"question\":\"How many?\",\"max_tokens\":8,\"discard\":true}"
#define ASK_STREAM "{\"question\":\"How many?\",\"max_tokens\":8,\"discard\":true,\"stream\":true}"

typedef struct crowd {
    const world *world;
    int number;
    double until;
    int good, refused, bad;
    char what[300];
} crowd;

static void *one_of_many(void *user) {
    crowd *c = user;
    for (int i = 0; seconds_now() < c->until; i++) {
        char path[100], text[100], from[20];
        snprintf(from, sizeof from, "127.0.0.%d", 2 + c->number % 20);
        call one = {.method = "GET", .path = "/api/v1/documents", .from = from};
        switch ((i + c->number) % 5) {
        case 0:
            one = (call){.method = "POST", .path = "/api/v1/ask", .json = ASK, .from = from};
            break;
        case 1:
            one = (call){.method = "POST", .path = "/api/v1/ask", .json = ASK_STREAM, .from = from};
            break;
        case 2:
            one.path = "/api/v1/status";
            break;
        case 3:
            snprintf(path, sizeof path, "/api/v1/documents?name=crowd-%d.txt", c->number);
            snprintf(text, sizeof text, "Person %d was here.", c->number); /* the same each time */
            one = (call){.method = "PUT", .path = path, .bytes = text, .n = strlen(text), .from = from};
            break;
        default:
            break;
        }
        reply r = send_call(c->world->port, &one);
        bool come_back = (r.status == 429 || r.status == 503) && header_of(&r, "Retry-After");
        if (r.status == 200 || r.status == 202)
            c->good++;
        else if (come_back) {
            c->refused++;
            usleep(20000);
        } else {
            c->bad++;
            snprintf(c->what, sizeof c->what, "%s %s: %ld %s %.100s", one.method, one.path, r.status,
                     curl_easy_strerror(r.code), r.body);
        }
        reply_free(&r);
    }
    return NULL;
}

/* Resident memory of this process, server and clients alike; 0 = unknown. */
static int64_t resident_bytes(void) {
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f) return 0;
    if (fscanf(f, "%*s %ld", &pages) != 1) pages = 0;
    fclose(f);
    return (int64_t)pages * sysconf(_SC_PAGESIZE);
}

/* Waits until nothing is asked and nothing waits. */
static double drain(world *w) {
    for (double began = seconds_now(); seconds_now() - began < 30; usleep(20000)) {
        json_t *s = GET_JSON(w, "/api/v1/status"), *queue = json_object_get(s, "queue");
        bool idle = integer_of(queue, "waiting") == 0 && json_is_null(json_object_get(queue, "busy"));
        json_decref(s);
        if (idle) return seconds_now() - began;
    }
    fail_msg("the queue does not drain");
    return 0;
}

static void fifty_at_once(void **state) {
    (void)state;
    enum { PEOPLE = 50 };
    const char *given = getenv("CROWD_SECONDS");
    double seconds = given && atof(given) > 0 ? atof(given) : 20;
    world *w = world_new(&(serve_options){.queue = 16, .per_client = 4}, 0);
    wait_ready(w);
    document_becomes(w, add_document(w, "lamp.txt", "The lamp burns oil."), "ready");
    crowd c[PEOPLE];
    pthread_t threads[PEOPLE];
    double until = seconds_now() + seconds;
    for (int i = 0; i < PEOPLE; i++) {
        c[i] = (crowd){.world = w, .number = i, .until = until};
        assert_int_equal(pthread_create(&threads[i], NULL, one_of_many, &c[i]), 0);
    }
    /* What it takes once everything is warm, against what it takes in the end. */
    usleep((useconds_t)(seconds * 0.3e6));
    int64_t warm = resident_bytes();
    usleep((useconds_t)(seconds * 0.6e6));
    int64_t late = resident_bytes();
    int good = 0, refused = 0;
    for (int i = 0; i < PEOPLE; i++) {
        pthread_join(threads[i], NULL);
        if (c[i].bad) fail_msg("%s", c[i].what);
        good += c[i].good;
        refused += c[i].refused;
    }
    double drained = drain(w);
    print_message(
        "%.0f s: %d served, %d told to come back; %.1f MB when warm, %.1f MB late; drained in %.2f s\n",
        seconds, good, refused, (double)warm / 1e6, (double)late / 1e6, drained);
    assert_true(good > PEOPLE);
#ifndef __SANITIZE_ADDRESS__ /* which keeps what was freed */
    assert_true(late - warm < 24 << 20);
#endif
    world_free(w);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(fifty_at_once)};
    if (argc > 1 && !strcmp(argv[1], INGEST_CHILD_ARGUMENT)) return ingest_child_main(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
