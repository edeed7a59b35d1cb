/* api_packs.c - what stands where in the contexts. */
#include "appliance/api.h"

#include "appliance/shelf.h"

static int list(api_call *c, store *s, ph_error *err) {
    engine *e = api_engine(c);
    shelf x = {0};
    if (!e) return PH_OK;
    int code = shelf_load(&x, s, e, err);
    if (!code) http_reply_json(c->http, 200, shelf_json(&x, s, false));
    shelf_free(&x);
    return code;
}

void api_packs_list(api_call *c) {
    api_with_store(c, list);
}

void api_packs_read(api_call *c) {
    static const char *const none[] = {NULL};
    json_t *body = http_json_body(c->http, true);
    if (body && api_members(c, body, none)) {
        jobs_want_read(c->serve->jobs);
        http_reply_json(c->http, 202, json_pack("{s:b}", "queued", 1));
    }
    json_decref(body);
}
