/* api.c - the route table, who may call what, and what handlers share (api.h). */
#include "appliance/api.h"

#include "appliance/serve_ask.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define V1 "/api/v1"

const api_route api_routes[] = {
    {"PUT", V1 "/documents", ROLE_MANAGE, BODY_FILE, api_upload, api_upload_begin},
    {"POST", V1 "/documents/url", ROLE_MANAGE, BODY_JSON, api_upload_url, NULL},
    {"GET", V1 "/documents", ROLE_ASK, BODY_NONE, api_documents_list, NULL},
    {"GET", V1 "/documents/{id}", ROLE_ASK, BODY_NONE, api_documents_get, NULL},
    {"DELETE", V1 "/documents/{id}", ROLE_MANAGE, BODY_NONE, api_documents_delete, NULL},
    {"GET", V1 "/documents/{id}/text", ROLE_ASK, BODY_NONE, api_documents_text, NULL},
    {"GET", V1 "/documents/{id}/segments", ROLE_ASK, BODY_NONE, api_documents_segments, NULL},
    {"GET", V1 "/documents/{id}/file", ROLE_ASK, BODY_NONE, api_documents_file, NULL},
    {"GET", V1 "/documents/{id}/pages/{other}.png", ROLE_ASK, BODY_NONE, api_documents_image, NULL},
    {"GET", V1 "/jobs", ROLE_ASK, BODY_NONE, api_jobs_list, NULL},
    {"GET", V1 "/jobs/{id}", ROLE_ASK, BODY_NONE, api_jobs_get, NULL},
    {"DELETE", V1 "/jobs/{id}", ROLE_MANAGE, BODY_NONE, api_jobs_delete, NULL},
    {"GET", V1 "/packs", ROLE_ASK, BODY_NONE, api_packs_list, NULL},
    {"POST", V1 "/packs/read", ROLE_MANAGE, BODY_OPTIONAL_JSON, api_packs_read, NULL},
    {"POST", V1 "/ask", ROLE_ASK, BODY_JSON, api_ask, NULL},
    {"GET", V1 "/answers", ROLE_ASK, BODY_NONE, api_answers_list, NULL},
    {"GET", V1 "/answers/{id}", ROLE_ASK, BODY_NONE, api_answers_get, NULL},
    {"DELETE", V1 "/answers/{id}", ROLE_ASK, BODY_NONE, api_answers_delete, NULL},
    {"GET", V1 "/answers/{id}/trace", ROLE_ASK, BODY_NONE, api_answers_trace, NULL},
    {"GET", V1 "/runs", ROLE_ASK, BODY_NONE, api_runs_list, NULL},
    {"POST", V1 "/runs", ROLE_MANAGE, BODY_JSON, api_runs_start, NULL},
    {"POST", V1 "/runs/estimate", ROLE_MANAGE, BODY_JSON, api_runs_estimate, NULL},
    {"POST", V1 "/runs/stop", ROLE_MANAGE, BODY_OPTIONAL_JSON, api_runs_stop, NULL},
    {"PUT", V1 "/runs/questions", ROLE_MANAGE, BODY_FILE, api_runs_questions, api_runs_questions_begin},
    {"POST", V1 "/runs/{id}/resume", ROLE_MANAGE, BODY_OPTIONAL_JSON, api_runs_resume, NULL},
    {"POST", V1 "/runs/{id}/stop", ROLE_MANAGE, BODY_OPTIONAL_JSON, api_runs_stop, NULL},
    {"GET", V1 "/runs/{id}", ROLE_ASK, BODY_NONE, api_runs_get, NULL},
    {"GET", V1 "/runs/{id}/report", ROLE_ASK, BODY_NONE, api_runs_report, NULL},
    {"GET", V1 "/runs/{id}/diff/{other}", ROLE_ASK, BODY_NONE, api_runs_diff, NULL},
    {"DELETE", V1 "/runs/{id}", ROLE_MANAGE, BODY_NONE, api_runs_delete, NULL},
    {"GET", V1 "/status", ROLE_ASK, BODY_NONE, api_status, NULL},
    {"GET", "/health", ROLE_NONE, BODY_NONE, api_health, NULL},
    {"GET", "/metrics", ROLE_ASK, BODY_NONE, api_metrics, NULL},
    {"GET", "/openapi.json", ROLE_NONE, BODY_NONE, api_openapi, NULL},
    {"GET", "/v1/models", ROLE_ASK, BODY_NONE, api_openai_models, NULL},
    {"GET", "/v1/models/{model}", ROLE_ASK, BODY_NONE, api_openai_model, NULL},
    {"POST", "/v1/chat/completions", ROLE_ASK, BODY_JSON, api_openai_chat, NULL},
    {NULL, NULL, ROLE_NONE, BODY_NONE, NULL, NULL},
};

/* What is no route is a file of the page, or nothing. */
static const api_route static_route = {"GET", "/", ROLE_NONE, BODY_NONE, api_static, NULL};

typedef enum match { NO_MATCH, BAD_ID, MATCH } match;

/* Takes the number at *path that ends before `after`'s first character. */
static match take_id(const char **path, const char *after, int64_t *id) {
    char text[24] = "";
    const char stops[] = {'/', *after, 0};
    size_t n = strcspn(*path, stops);
    if (n == 0 || ((*path)[n] != 0 && (*path)[n] != *after)) return NO_MATCH;
    if (n >= sizeof text) return BAD_ID;
    memcpy(text, *path, n);
    *path += n;
    return http_parse_number(text, 1, INT64_MAX, id) ? MATCH : BAD_ID;
}

/* "{id}" and "{other}" stand for numbers, in this order; "{model}" for the rest of the path, whatever it is.
 */
static match match_path(const char *pattern, const char *path, int64_t ids[2]) {
    match found = MATCH;
    const char *model = strstr(pattern, "{model}");
    if (model) {
        size_t before = (size_t)(model - pattern);
        return !strncmp(pattern, path, before) && path[before] ? MATCH : NO_MATCH;
    }
    for (int i = 0;; i++) {
        const char *brace = i < 2 ? strchr(pattern, '{') : NULL;
        if (!brace) return strcmp(pattern, path) ? NO_MATCH : found;
        size_t before = (size_t)(brace - pattern);
        if (strncmp(pattern, path, before) != 0) return NO_MATCH;
        pattern = strchr(brace, '}') + 1;
        path += before;
        const char *rest = path + strcspn(path, "/");
        match m = take_id(&path, pattern, &ids[i]);
        if (m == NO_MATCH) return NO_MATCH;
        if (m == BAD_ID) {
            found = BAD_ID;
            path = rest;
        }
    }
}

static const api_route *find_route(http_request *r, int64_t ids[2]) {
    const char *method = strcmp(r->method, "HEAD") ? r->method : "GET";
    bool known = false, bad_id = false;
    char allow[64] = "";
    for (const api_route *route = api_routes; route->method; route++) {
        int64_t numbers[2] = {0};
        match m = match_path(route->path, r->path, numbers);
        if (m == MATCH && !strcmp(route->method, method)) {
            memcpy(ids, numbers, sizeof numbers);
            return route;
        }
        if (m == MATCH && strlen(allow) + strlen(route->method) + 3 < sizeof allow) {
            strcat(allow, allow[0] ? ", " : "");
            strcat(allow, route->method);
        }
        known |= m == MATCH;
        bad_id |= m == BAD_ID && !strcmp(route->method, method);
    }
    if (known) {
        http_reply_error(r, 405, NULL, "%s takes %s", r->path, allow);
        if (r->response) MHD_add_response_header(r->response, "Allow", allow);
    } else if (bad_id)
        http_reply_error(r, 400, NULL, "ids are whole numbers from 1");
    else if (!strncmp(r->path, "/api/", 5) || !strncmp(r->path, "/v1/", 4))
        http_reply_error(r, 404, NULL, "there is no %.200s; /openapi.json lists what there is", r->path);
    else if (!strcmp(method, "GET"))
        return &static_route;
    else
        http_reply_error(r, 405, NULL, "%.200s takes GET", r->path);
    return NULL;
}

/* ---- who may ---- */

/* Looks the caller's token up, where one is needed. false: the reply is made. */
static bool identify(api_call *c, const char *header) {
    serve *v = c->serve;
    ph_error err = {0};
    store *s = NULL;
    bool needed = true;
    int code = stores_lend(v->stores, &s, &err);
    if (!code) code = tokens_needed(v->tokens, s, &needed, &err);
    c->role = needed ? ROLE_NONE : ROLE_MANAGE;
    if (!code && needed) code = tokens_role(v->tokens, s, header, &c->role, c->owner, &err);
    c->known = needed && c->role != ROLE_NONE;
    stores_back(v->stores, s);
    if (code) http_reply_failure(c->http, &err);
    return !code;
}

static bool admit(api_call *c) {
    if (c->route->role == ROLE_NONE) return true;
    bool twice = false;
    const char *header = http_header(c->http, "Authorization", &twice);
    if (!identify(c, header)) return false;
    if (c->role == ROLE_NONE) {
        http_reply_error(c->http, 401, NULL,
                         twice ? "more than one Authorization" : "this server wants a token");
        return false;
    }
    if (c->role < c->route->role) {
        http_reply_error(c->http, 403, NULL, "this token may ask and look, not change");
        return false;
    }
    return true;
}

bool api_may_see(const api_call *c, const store_answer *row) {
    return !c->known || !memcmp(c->owner, row->owner, sizeof c->owner);
}

int api_own_answer(api_call *c, store *s, store_answer *row, ph_error *err) {
    int code = store_answer_get(s, c->id, row, err);
    if (code || api_may_see(c, row)) return code;
    store_answer_free(row);
    return ph_fail(err, PH_NOT_FOUND, "there is no answer %lld", (long long)c->id);
}

void api_client(const api_call *c, char out[80]) {
    snprintf(out, 80, "%02x%02x%02x%02x %.60s", c->owner[0], c->owner[1], c->owner[2], c->owner[3],
             c->http->client);
}

/* ---- the body ---- */

static bool is_json(http_request *r) {
    const char *type = http_header(r, "Content-Type", NULL);
    static const char want[] = "application/json";
    size_t n = sizeof want - 1;
    return type && !strncasecmp(type, want, n) && strchr("; \t", type[n]) != NULL;
}

static bool check_body(api_call *c) {
    http_request *r = c->http;
    bool optional = c->route->body == BODY_OPTIONAL_JSON;
    if (c->route->body == BODY_NONE || c->route->body == BODY_FILE) return true;
    if (optional && r->length == 0) return true;
    if (!is_json(r)) {
        http_reply_error(r, 415, NULL, "the body is to be application/json");
        return false;
    }
    if (r->length > MAX_JSON_BYTES) {
        http_reply_error(r, 413, NULL, "the body has %llu bytes, and the limit is %d",
                         (unsigned long long)r->length, MAX_JSON_BYTES);
        return false;
    }
    r->keep_body = true;
    return true;
}

static void call_free(void *user) {
    api_call *c = user;
    if (c->free_body) c->free_body(c->body);
    free(c);
}

void api_begin(void *user, http_request *r) {
    int64_t ids[2] = {0};
    const api_route *route = find_route(r, ids);
    if (!route) return;
    api_call *c = calloc(1, sizeof *c);
    if (!c) {
        http_reply_error(r, 503, "memory", "no memory for a request");
        return;
    }
    *c = (api_call){.serve = user, .http = r, .id = ids[0], .other = ids[1], .route = route};
    r->user = c;
    r->free_user = call_free;
    if (admit(c) && check_body(c) && route->begin) route->begin(c);
}

void api_run(void *user, http_request *r) {
    api_call *c = r->user;
    (void)user;
    c->route->run(c);
}

/* ---- shared ---- */

void api_with_store(api_call *c, int (*f)(api_call *c, store *s, ph_error *err)) {
    ph_error err = {0};
    store *s = NULL;
    int code = stores_lend(c->serve->stores, &s, &err);
    if (!code) code = f(c, s, &err);
    stores_back(c->serve->stores, s);
    if (code) http_reply_failure(c->http, &err);
}

engine *api_engine(api_call *c) {
    char why[480];
    jobs_state state = jobs_engine(c->serve->jobs, why, sizeof why);
    if (state == JOBS_READY) return jobs_engine_borrow(c->serve->jobs);
    if (state == JOBS_LOADING)
        http_reply_error(c->http, 503, "loading", "the model is being loaded");
    else
        http_reply_error(c->http, 503, "model", "%s", why);
    return NULL;
}

bool api_integer(api_call *c, const json_t *body, const char *name, int64_t low, int64_t high, int64_t *out) {
    const json_t *v = json_object_get(body, name);
    if (!v || json_is_null(v)) return true;
    if (json_is_integer(v) && json_integer_value(v) >= low && json_integer_value(v) <= high) {
        *out = json_integer_value(v);
        return true;
    }
    http_reply_error(c->http, 400, NULL, "%s is a whole number from %lld to %lld", name, (long long)low,
                     (long long)high);
    return false;
}

bool api_real(api_call *c, const json_t *body, const char *name, double low, double high, double *out) {
    const json_t *v = json_object_get(body, name);
    if (!v || json_is_null(v)) return true;
    double x = json_number_value(v);
    if (json_is_number(v) && isfinite(x) && x >= low && x <= high) {
        *out = x;
        return true;
    }
    http_reply_error(c->http, 400, NULL, "%s is a number from %g to %g", name, low, high);
    return false;
}

bool api_boolean(api_call *c, const json_t *body, const char *name, bool *out) {
    const json_t *v = json_object_get(body, name);
    if (!v || json_is_null(v)) return true;
    *out = json_is_true(v);
    if (json_is_boolean(v)) return true;
    http_reply_error(c->http, 400, NULL, "%s is true or false", name);
    return false;
}

bool api_ids(api_call *c, const json_t *body, const char *name, int64_t **out, size_t *n) {
    const json_t *list = json_object_get(body, name);
    *out = NULL;
    *n = 0;
    if (!list || json_is_null(list)) return true;
    size_t count = json_array_size(list);
    bool good = json_is_array(list) && count >= 1 && count <= MAX_ASKED_DOCUMENTS;
    for (size_t i = 0; good && i < count; i++) {
        const json_t *v = json_array_get(list, i);
        good = json_is_integer(v) && json_integer_value(v) >= 1;
    }
    if (!good) {
        http_reply_error(c->http, 400, NULL, "%s is a list of 1 to %d ids", name, MAX_ASKED_DOCUMENTS);
        return false;
    }
    int64_t *ids = malloc(count * sizeof *ids);
    if (!ids) {
        http_reply_error(c->http, 503, "memory", "no memory for %zu ids", count);
        return false;
    }
    for (size_t i = 0; i < count; i++) ids[i] = json_integer_value(json_array_get(list, i));
    *out = ids;
    *n = count;
    return true;
}

bool api_members(api_call *c, const json_t *body, const char *const *names) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)body, key, value) {
        int i = 0;
        while (names[i] && strcmp(names[i], key)) i++;
        if (names[i]) continue;
        http_reply_error(c->http, 400, NULL, "there is no member %.60s", key);
        return false;
    }
    return true;
}

json_t *api_receipt_json(const store_receipt *r) {
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "documents",
                     (json_int_t)r->documents, "files", (json_int_t)r->files, "file_bytes",
                     (json_int_t)r->file_bytes, "text_bytes", (json_int_t)r->text_bytes, "segments",
                     (json_int_t)r->segments, "packs", (json_int_t)r->packs, "snapshots",
                     (json_int_t)r->snapshots, "snapshot_bytes", (json_int_t)r->snapshot_bytes, "questions",
                     (json_int_t)r->questions, "answers", (json_int_t)r->answers, "citations",
                     (json_int_t)r->citations, "traces", (json_int_t)r->traces, "runs", (json_int_t)r->runs);
}
