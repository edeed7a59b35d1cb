#include "engine/prompt.h"

#include <stdlib.h>
#include <string.h>

int prompt_tokens_find(prompt_tokens *out, const tokenizer *t, ph_error *err) {
    const struct {
        const char *token;
        int32_t *id;
    } wanted[] = {
        {"<｜begin▁of▁sentence｜>", &out->bos},
        {"<｜end▁of▁sentence｜>", &out->eos},
        {"<｜User｜>", &out->user},
        {"<｜Assistant｜>", &out->assistant},
        {"</think>", &out->think_end},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        *wanted[i].id = tokenizer_id(t, wanted[i].token);
        if (*wanted[i].id < 0)
            return ph_fail(err, PH_MODEL, "the tokenizer has no token %s", wanted[i].token);
    }
    out->think_begin = tokenizer_id(t, "<think>");
    return 0;
}

int prompt_begin(const prompt_tokens *p, token_list *l, ph_error *err) {
    int code = token_list_push(l, p->bos, 0, false, err);
    return code ? code : token_list_push(l, p->user, 0, false, err);
}

static int add_text(const tokenizer *t, const char *text, size_t len, token_list *l, ph_error *err) {
    return tokenizer_encode(t, text, len, 0, 0, l, err);
}

/* Length of a control character or line break of any kind at s (UTF-8: C0, DEL, C1, U+2028, U+2029), 0 for
 * none. */
static size_t control_length(const unsigned char *s) {
    if (s[0] < 0x20 || s[0] == 0x7F) return 1;
    if (s[0] == 0xC2 && s[1] >= 0x80 && s[1] < 0xA0) return 2;
    return s[0] == 0xE2 && s[1] == 0x80 && (s[2] == 0xA8 || s[2] == 0xA9) ? 3 : 0;
}

int prompt_document_header(const tokenizer *t, const char *name, token_list *l, ph_error *err) {
    static const char before[] = "[file name]: ", after[] = "\n[file content begin]\n";
    size_t size = sizeof before + strlen(name) + sizeof after;
    char *text = malloc(size);
    if (!text) return ph_fail(err, PH_MEMORY, "out of memory for %zu bytes", size);
    size_t n = sizeof before - 1;
    memcpy(text, before, n);
    for (size_t i = 0, control; name[i]; i += control ? control : 1) {
        control = control_length((const unsigned char *)name + i);
        text[n++] = control ? ' ' : name[i];
    }
    memcpy(text + n, after, sizeof after - 1);
    n += sizeof after - 1;
    int code = add_text(t, text, n, l, err);
    free(text);
    return code;
}

int prompt_document_footer(const tokenizer *t, token_list *l, ph_error *err) {
    static const char footer[] = "\n[file content end]\n";
    return add_text(t, footer, sizeof footer - 1, l, err);
}

int prompt_question(const prompt_tokens *p, const tokenizer *t, const char *question, size_t len,
                    unsigned flags, token_list *l, ph_error *err) {
    size_t before = l->n;
    bool thinking = flags & PROMPT_THINKING;
    if (thinking && p->think_begin < 0)
        return ph_fail(err, PH_MODEL, "this model has no thinking mode: its tokenizer has no token <think>");
    int code = flags & PROMPT_FOLLOW_UP ? token_list_push(l, p->user, 0, false, err) : 0;
    if (!code) code = add_text(t, question, len, l, err);
    if (!code) code = token_list_push(l, p->assistant, 0, false, err);
    if (!code) code = token_list_push(l, thinking ? p->think_begin : p->think_end, 0, false, err);
    if (code) l->n = before;
    return code;
}
