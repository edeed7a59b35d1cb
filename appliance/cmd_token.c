/* cmd_token.c - `pharos token`: who may use a server that others reach. */
#include "appliance/command.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct token_command {
    common_options common;
    const char *what, *name;
    store_role role;
    bool answers;
} token_command;

enum { OPTION_ANSWERS = 4000 };

static const struct argp_option options[] = {
    {"role", 'r', "ROLE", 0, "add: what it may do: ask (and look), or manage documents too (ask)", 0},
    {"answers", OPTION_ANSWERS, NULL, 0, "rm: erase what was asked with it too", 0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    token_command *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->common;
        break;
    case 'r':
        if (strcmp(arg, "ask") && strcmp(arg, "manage"))
            argp_error(state, "%s is no role: ask or manage", arg);
        o->role = strcmp(arg, "ask") ? STORE_MANAGE : STORE_ASK;
        break;
    case OPTION_ANSWERS:
        o->answers = true;
        break;
    case ARGP_KEY_ARG:
        if (!o->what)
            o->what = arg;
        else if (!o->name)
            o->name = arg;
        else
            argp_error(state, "%s is one word too many", arg);
        break;
    case ARGP_KEY_END:
        if (!o->what) o->what = "ls";
        if (strcmp(o->what, "add") && strcmp(o->what, "ls") && strcmp(o->what, "rm"))
            argp_error(state, "there is no %s: add, ls, rm", o->what);
        if (!strcmp(o->what, "ls") ? o->name != NULL : !o->name)
            argp_error(state, strcmp(o->what, "ls") ? "name the token" : "ls takes no name");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp token_argp = {options,
                                       parse,
                                       "[add NAME | ls | rm NAME]",
                                       "Who may use a server that is reached from elsewhere.\v"
                                       "token add NAME   makes a token and prints it, this once\n"
                                       "token ls         names and roles\n"
                                       "token rm NAME    lets nobody in with it any more",
                                       common_child,
                                       NULL,
                                       NULL};

static const char *role_name(store_role role) {
    return role == STORE_MANAGE ? "manage" : "ask";
}

static int add(const token_command *o, store *s, ph_error *err) {
    char token[STORE_TOKEN_CHARACTERS + 1];
    int64_t id = 0;
    int code = store_token_add(s, o->name, o->role, token, &id, err);
    if (code) return code;
    if (o->common.json)
        code = print_json(json_pack("{s:I, s:s, s:s, s:s}", "id", (json_int_t)id, "name", o->name, "role",
                                    role_name(o->role), "token", token));
    else
        puts(token);
    if (!o->common.quiet && !o->common.json)
        fputs("It is kept as a hash only and not shown again. Who has it sends it as \"Authorization: Bearer "
              "...\"; the "
              "page asks for it.\n",
              stderr);
    sodium_memzero(token, sizeof token);
    return code;
}

static int list(const token_command *o, store *s, ph_error *err) {
    store_token *tokens = NULL;
    size_t n = 0;
    int code = store_token_list(s, &tokens, &n, err);
    if (code) return code;
    json_t *rows = o->common.json ? json_array() : NULL;
    for (size_t i = 0; i < n; i++) {
        const store_token *t = &tokens[i];
        if (rows) {
            json_array_append_new(rows, json_pack("{s:I, s:o, s:s, s:I}", "id", (json_int_t)t->id, "name",
                                                  json_text(t->name), "role", role_name(t->role),
                                                  "created_at", (json_int_t)t->created_at));
            continue;
        }
        char when[32] = "";
        time_t at = (time_t)t->created_at;
        struct tm tm;
        if (localtime_r(&at, &tm)) strftime(when, sizeof when, "%Y-%m-%d %H:%M", &tm);
        char *name = printable(t->name, strlen(t->name));
        printf("%5lld  %-6s  %s  %s\n", (long long)t->id, role_name(t->role), when, name ? name : "?");
        free(name);
    }
    store_tokens_free(tokens, n);
    return rows ? print_json(rows) : PH_OK;
}

static int remove_token(const token_command *o, store *s, ph_error *err) {
    store_receipt r;
    int code = store_token_remove(s, o->name, o->answers, &r, err);
    if (code) return code;
    if (o->common.json)
        return print_json(json_pack("{s:s, s:I, s:I}", "removed", o->name, "questions",
                                    (json_int_t)r.questions, "answers", (json_int_t)r.answers));
    printf("removed  %s", o->name);
    if (o->answers) printf("; %lld questions and their answers erased", (long long)r.questions);
    putchar('\n');
    return PH_OK;
}

int cmd_token(int argc, char **argv) {
    token_command o = {.role = STORE_ASK};
    parse_options(&token_argp, argc, argv, &o);
    ph_error err = {0};
    store *s = NULL;
    int code = open_store(&s, &o.common, &err);
    if (!code && !strcmp(o.what, "add"))
        code = add(&o, s, &err);
    else if (!code && !strcmp(o.what, "ls"))
        code = list(&o, s, &err);
    else if (!code)
        code = remove_token(&o, s, &err);
    if (code) code = command_failed("token", &o.common, &err);
    store_close(s);
    return code;
}
